// SPDX-License-Identifier: GPL-2.0
/*
 * Discards that are skipped, and made up for when the engine ends
 *
 * Discarding is optional, and copying for it would cost as much as for a write.  So a
 * discard is completed at once as far as it hits blocks that are not copied, and each
 * whole block gets a bit in cow->skipped.  What it hits beside that goes on.
 *
 * While the engine works, a write of a skipped block needs no attention: it waits until
 * the block is copied, and what is copied is not discarded later.  When the engine has
 * ended, writes are not held and nothing is copied any more.  Then
 *
 *	cow_must_wait()		has a write of such a block held
 *	cow_pass()		clears its bits, or lets it wait for a discard under way
 *	cow_discard_work()	discards the blocks, run by run, until no bit is left
 *
 * until the tracker retires the engine.  These discards pass the filter like any others:
 * they are marked, and another engine that needs the blocks skips them in turn.
 *
 * Nothing is remembered, or what is remembered is not discarded any more, if the engine
 * knows of a write that has passed it: before the writes from before the take have landed,
 * and after cow_lose().  A write that nothing tells of (from another machine, to the disk
 * below) is lost if it hits a block that is to be discarded: where such writes are to be
 * expected, the parameter discard_later is off.  A lost bit means a discard less, and no
 * more.
 *
 * Lock order: cow->lock, see cow_state.c.
 */
#include "blksnap.h"

#include <linux/blkdev.h>
#include <linux/err.h>
#include <linux/jiffies.h>
#include <linux/math.h>
#include <linux/minmax.h>
#include <linux/sched.h>
#include <linux/sizes.h>

#include "cow_priv.h"
#include "filter.h"
#include "resubmit.h"
#include "trace.h"

/* Writes wait for one discard, so it is not the longest that there may be. */
#define COW_DISCARD_MAX_BYTES SZ_64M

/* A device that takes longer for one is slow. */
#define COW_DISCARD_SOON (HZ / 100 + 1)

/* Blocks that are looked at in one go for what is to be discarded, with the lock. */
#define COW_SEARCH_BLOCKS 65536

static bool cow_has_skipped(const struct cow *cow, const struct cow_span *span)
{
	u64 block = span->first;

	while ((block = copied_map_next_copied(&cow->skipped, block, span->last)) <= span->last)
		if (!copied_map_test(&cow->copied, block++))
			return true;
	return false;
}

/*
 * Has an engine that has ended to be asked before a write of blocks that are not copied?
 * The caller is a reader of RCU, see cow_must_hold().  A discard need not wait for another
 * one, and it may not: two engines that end would wait for each other.
 */
bool cow_must_wait(const struct cow *cow, const struct bio *bio, const struct cow_span *span)
{
	return cow->may_skip && bio_op(bio) != REQ_OP_DISCARD && cow_has_skipped(cow, span);
}

/*
 * The engine has ended.  True if @bio may go on; false if it waits for a discard, and will
 * be judged again.
 */
bool cow_pass(struct cow *cow, struct bio *bio, const struct cow_span *span)
{
	bool must_wait;
	unsigned long flags;

	if (bio_op(bio) == REQ_OP_DISCARD)
		return true;
	spin_lock_irqsave(&cow->lock, flags);
	must_wait = cow->is_discarding && span->first <= cow->discarded.last &&
		    span->last >= cow->discarded.first;
	if (must_wait) {
		cow_account_held(cow, op_is_sync(bio->bi_opf), 1);
		bio_list_add(&cow->discard_waiters, bio);
	} else if (cow->may_skip) {
		copied_map_clear(&cow->skipped, span->first, span->last);
	}
	spin_unlock_irqrestore(&cow->lock, flags);
	return !must_wait;
}

/*
 * Skipping
 */

/* A part of a discard, in sectors of the origin; @is_skipped if nothing of it is copied. */
struct cow_part {
	sector_t first;
	sector_t nr_sectors;
	bool is_skipped;
};

/* The longest part at the beginning of @bio that is all of one kind. */
static void cow_find_part(const struct cow *cow, struct bio *bio, struct cow_part *part)
{
	sector_t start = cow->config.start, sector = filter_bio_sector(bio), end;
	struct cow_span span;

	part->is_skipped = false;
	part->nr_sectors = bio_sectors(bio);
	if (sector < start) {
		part->nr_sectors = min_t(sector_t, part->nr_sectors, start - sector);
		return;
	}
	if (!cow_bio_span(cow, bio, sector, &span))
		return;
	part->first = sector - start;
	part->is_skipped = !copied_map_test(&cow->copied, span.first);
	span.last = (part->is_skipped ?
		     copied_map_next_copied(&cow->copied, span.first, span.last) :
		     copied_map_next_uncopied(&cow->copied, span.first, span.last)) - 1;
	end = min(cow_block_sector(cow, span.last + 1), cow->config.nr_sectors);
	part->nr_sectors = min_t(sector_t, part->nr_sectors, end - part->first);
}

/* The whole blocks of a part; false if it has none. */
static bool cow_part_blocks(const struct cow *cow, const struct cow_part *part,
			    struct cow_span *span)
{
	sector_t end = part->first + part->nr_sectors;
	u64 end_block = cow_sector_block(cow, end);

	/* The origin's last block may be short. */
	if (end == cow->config.nr_sectors)
		end_block = cow->nr_blocks;
	span->first = cow_sector_block(cow, part->first + cow_block_sector(cow, 1) - 1);
	span->last = end_block - 1;
	return span->first < end_block;
}

/* False if the engine has ended. */
static bool cow_remember_part(struct cow *cow, const struct cow_part *part)
{
	struct cow_span span;
	bool has_ended;

	if (!cow->may_skip || !READ_ONCE(cow->is_drained) ||
	    !cow_part_blocks(cow, part, &span) ||
	    !copied_map_populate(&cow->skipped, span.first, span.last,
				 GFP_NOIO | __GFP_NORETRY | __GFP_NOWARN))
		return true;
	spin_lock_irq(&cow->lock);
	copied_map_set(&cow->skipped, span.first, span.last);
	/*
	 * A write that finds the engine ended has to see the bits.  If this finds no error,
	 * the cmpxchg() of cow_fail() comes after it, and then the smp_load_acquire() in
	 * cow_must_hold().
	 */
	has_ended = cmpxchg(&cow->error, 0, 0);
	if (has_ended)
		copied_map_clear(&cow->skipped, span.first, span.last);
	spin_unlock_irq(&cow->lock);
	return !has_ended;
}

/*
 * Has the first @nr_sectors submitted on their own.  False if the engine has ended.  The
 * part is from the kernel's set of bios, as it may be on its way when the module is not
 * there any more.
 */
static bool cow_release_part(struct cow *cow, struct bio *bio, sector_t nr_sectors)
{
	bool has_ended;
	struct bio *part;

	spin_lock_irq(&cow->lock);
	has_ended = READ_ONCE(cow->error);
	if (!has_ended) {
		part = bio_split(bio, nr_sectors, GFP_NOWAIT, &fs_bio_set);
		if (IS_ERR_OR_NULL(part)) {
			bio_advance(bio, nr_sectors << SECTOR_SHIFT);
		} else {
			bio_chain(part, bio);
			resubmit_bio(cow->config.resubmit, part);
		}
	}
	spin_unlock_irq(&cow->lock);
	return !has_ended;
}

/*
 * Skips a discard where it hits blocks that are not copied.  True if the caller submits
 * again what is left of it; false if it is complete, or will be when its parts are.
 */
bool cow_skip(struct cow *cow, struct bio *bio)
{
	struct cow_part part;

	while (bio_sectors(bio)) {
		cow_find_part(cow, bio, &part);
		if (part.is_skipped) {
			if (!cow_remember_part(cow, &part))
				return true;
			trace_blksnap_discard_skip(cow->origin_dev, part.first,
						   part.nr_sectors);
			bio_advance(bio, part.nr_sectors << SECTOR_SHIFT);
		} else if (part.nr_sectors == bio_sectors(bio) ||
			   !cow_release_part(cow, bio, part.nr_sectors)) {
			return true;
		}
	}
	bio_endio(bio);
	return false;
}

/*
 * Making up for it
 */

/* What one bio may discard, so that no write waits for a row of them; at least a block. */
static u64 cow_discard_max_blocks(const struct cow *cow)
{
	u64 nr_bytes = min_t(u64, COW_DISCARD_MAX_BYTES,
			     (u64)bdev_max_discard_sectors(cow->config.origin) << SECTOR_SHIFT);

	return max_t(u64, nr_bytes >> cow->config.block_shift, 1);
}

/* The first blocks to be discarded among [first, last]; false if there are none. */
static bool cow_find_skipped(const struct cow *cow, u64 first, u64 last, struct cow_span *span)
{
	u64 uncopied;

	lockdep_assert_held(&cow->lock);
	while ((first = copied_map_next_copied(&cow->skipped, first, last)) <= last) {
		uncopied = copied_map_next_uncopied(&cow->copied, first, last);
		if (uncopied == first)
			break;
		first = uncopied;
	}
	if (first > last)
		return false;
	last = min(last, first + cow_discard_max_blocks(cow) - 1);
	span->first = first;
	span->last = min(copied_map_next_uncopied(&cow->skipped, first, last),
			 copied_map_next_copied(&cow->copied, first, last)) - 1;
	return true;
}

/*
 * Looks for blocks among [first, last].  If there are some, writes of those in
 * cow->discarded wait from here to cow_end_discard().
 */
static bool cow_begin_discard(struct cow *cow, u64 first, u64 last)
{
	spin_lock_irq(&cow->lock);
	cow->is_discarding = !READ_ONCE(cow->is_given_up) && cow_medium_is_same(cow) &&
			     cow_find_skipped(cow, first, last, &cow->discarded);
	spin_unlock_irq(&cow->lock);
	return cow->is_discarding;
}

static void cow_end_discard(struct cow *cow)
{
	spin_lock_irq(&cow->lock);
	copied_map_clear(&cow->skipped, cow->discarded.first, cow->discarded.last);
	cow->is_discarding = false;
	cow_hand_back(cow, &cow->discard_waiters, UINT_MAX);
	spin_unlock_irq(&cow->lock);
}

/*
 * What becomes of it is of no interest: discards may fail.  On a slow device others may
 * wait for a place in its queue, and get it before the next discard.
 */
static void cow_discard(struct cow *cow, const struct cow_span *span)
{
	unsigned long patience = jiffies + COW_DISCARD_SOON;
	struct bio *bio = &cow->discard_bio;

	bio_init(bio, cow->config.origin, NULL, 0, REQ_OP_DISCARD);
	bio->bi_iter.bi_sector = cow_block_sector(cow, span->first);
	bio->bi_iter.bi_size = cow_blocks_to_sectors(cow, span->first, span->last) <<
			       SECTOR_SHIFT;
	submit_bio_wait(bio);
	bio_uninit(bio);
	if (time_after(jiffies, patience))
		schedule_timeout_uninterruptible(1);
}

/* Queued once, when the engine has ended. */
void cow_discard_work(struct work_struct *work)
{
	struct cow *cow = container_of(work, struct cow, discard_work);
	u64 first = 0, last;

	while (cow->may_skip && first < cow->nr_blocks && !READ_ONCE(cow->is_given_up)) {
		last = min(first + COW_SEARCH_BLOCKS, cow->nr_blocks) - 1;
		if (cow_begin_discard(cow, first, last)) {
			last = cow->discarded.last;
			cow_discard(cow, &cow->discarded);
			cow_end_discard(cow);
		}
		first = last + 1;
		cond_resched();
	}
	WRITE_ONCE(cow->has_discarded, true);
	wake_up_all(&cow->progress);
}

/*
 * Waits until an engine that was stopped has discarded what it skipped.  The tracker has
 * not retired it: it has to see the writes.  False if there is more at the @deadline.
 */
bool cow_wait_discarded(struct cow *cow, unsigned long deadline)
{
	long left = deadline - jiffies;

	return wait_event_timeout(cow->progress, READ_ONCE(cow->has_discarded), max(left, 0L));
}

/*
 * Before the tracker retires an engine, from when on writes pass that it does not see.
 * Waits for the discard under way; until that is done, writes do, too.
 */
void cow_forget_skipped(struct cow *cow)
{
	spin_lock_irq(&cow->lock);
	WRITE_ONCE(cow->is_given_up, true);
	spin_unlock_irq(&cow->lock);
	flush_work(&cow->discard_work);
}
