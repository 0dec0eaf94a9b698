// SPDX-License-Identifier: GPL-2.0
/*
 * Holding of writes to the origin
 *
 * A write that hits a block the image still shares with the origin may not reach
 * the disk before that block has been read.  So the write is held, the block is
 * read into memory, the write is submitted again, and only then is the copy stored.
 * A block walks through these states:
 *
 *	SHARED -> READING -> COPIED (in memory) -> STORED
 *
 * It goes back to SHARED only if it was copied ahead and could not be read.  Its bit in
 * cow->copied is set with the step to COPIED; from then on writes to the block pass
 * without a lock.
 *
 * A held write waits in the list of one copy, or for memory.  It is judged again after
 * that, so nothing remembers what else it needs.
 *
 * Lock order: cow->lock, see cow_state.c.
 */
#include "blksnap.h"

#include <linux/blkdev.h>
#include <linux/mm.h>
#include <linux/printk.h>

#include "cow_priv.h"
#include "filter.h"
#include "trace.h"

/*
 * How long writes may wait while the storage makes no progress: less than the 30 s
 * after which drivers and clusters give a device up.
 */
#define COW_STALL_TIMEOUT (20 * HZ)

/* After how many small writes in order blocks are copied ahead, and up to how many. */
#define COW_AHEAD_AFTER 8
#define COW_AHEAD_BLOCKS 16ULL

enum cow_step {
	COW_STEP_RELEASE,	/* nothing stands in the way of the write */
	COW_STEP_WAIT,		/* it waits on a list */
	COW_STEP_READ,		/* blocks have to be read first */
};

static bool cow_span_is_copied(const struct cow *cow, const struct cow_span *span)
{
	return copied_map_next_uncopied(&cow->copied, span->first, span->last) > span->last;
}

/* The span of cow_must_hold() in registers is what most writes need. */
static noinline bool cow_must_hold_uncopied(const struct cow *cow, const struct bio *bio,
					    u64 first, u64 last)
{
	const struct cow_span span = { first, last };

	/* Pairs with cmpxchg() in cow_remember_part(). */
	return !smp_load_acquire(&cow->error) || cow_must_wait(cow, bio, &span);
}

static noinline bool cow_must_hold_long(const struct cow *cow, const struct bio *bio,
					u64 first, u64 last)
{
	const struct cow_span span = { first, last };

	return !cow_span_is_copied(cow, &span) &&
	       cow_must_hold_uncopied(cow, bio, first, last);
}

/**
 * cow_must_hold() - would this write destroy old data?
 * @cow:	engine of an origin that @bio touches
 * @bio:	non-empty bio that changes data
 * @sector:	its first sector on the disk
 *
 * Context: A reader of RCU; in the filter's callback with preemption disabled.
 * Return: true if the write has to be held, or can be skipped; after the end of the
 *	   engine, if it must not be lost in a discard that is made up for.
 */
bool cow_must_hold(const struct cow *cow, const struct bio *bio, sector_t sector)
{
	struct cow_span span;

	if (!cow_bio_span(cow, bio, sector, &span))
		return false;
	/* Most writes are short, and for these no register is saved here. */
	if (span.first != span.last)
		return cow_must_hold_long(cow, bio, span.first, span.last);
	return !copied_map_test(&cow->copied, span.first) &&
	       cow_must_hold_uncopied(cow, bio, span.first, span.last);
}

/*
 * The first block of the span that is neither copied nor being read, or one after the
 * span.  @waits_for becomes the first copy that is being read.
 */
static u64 cow_next_unread(struct cow *cow, const struct cow_span *span,
			   struct cow_copy **waits_for)
{
	u64 block = span->first;
	struct cow_copy *copy;

	while ((block = copied_map_next_uncopied(&cow->copied, block, span->last)) <=
	       span->last) {
		copy = cow_find_copy(cow, block, block);
		if (!copy)
			break;
		if (!*waits_for)
			*waits_for = copy;
		block = copy->range.last + 1;
	}
	return block;
}

/*
 * What has to be done next for a write.  It waits only when everything that can be read
 * is being read; if it has to, it is on a list when this returns.
 */
static enum cow_step cow_next_step(struct cow *cow, struct bio *bio,
				   const struct cow_span *span, u64 *first,
				   unsigned int *nr_blocks)
{
	bool is_sync = op_is_sync(bio->bi_opf);
	unsigned int room = cow_room(cow, is_sync);
	struct cow_copy *waits_for = NULL;

	lockdep_assert_held(&cow->lock);
	if (READ_ONCE(cow->error))
		return COW_STEP_RELEASE;

	*first = cow_next_unread(cow, span, &waits_for);
	if (*first <= span->last && room) {
		*nr_blocks = min(cow_run_blocks(cow, *first, span->last), room);
		return COW_STEP_READ;
	}
	if (waits_for) {
		cow_account_held(cow, is_sync, 1);
		bio_list_add(&waits_for->waiters, bio);
		return COW_STEP_WAIT;
	}
	if (*first > span->last)
		return COW_STEP_RELEASE;
	cow_add_starved(cow, bio);
	return COW_STEP_WAIT;
}

/* False if there is no memory at the moment. */
static bool cow_read_run(struct cow *cow, u64 first, unsigned int nr_wanted,
			 unsigned int nr_blocks, bool is_sync)
{
	struct cow_copy *copy = cow_copy_alloc(cow, first, nr_wanted, nr_blocks);

	if (!copy)
		return false;
	if (cow_copy_start(cow, copy, is_sync))
		cow_copy_read(copy);
	return true;
}

/* A write that found no memory. */
static enum cow_step cow_put_off(struct cow *cow, struct bio *bio)
{
	enum cow_step step = COW_STEP_RELEASE;
	unsigned long flags;

	spin_lock_irqsave(&cow->lock, flags);
	if (!READ_ONCE(cow->error)) {
		cow_add_starved(cow, bio);
		step = COW_STEP_WAIT;
	}
	spin_unlock_irqrestore(&cow->lock, flags);
	return step;
}

/*
 * Small writes in order would want a copy each, so a few blocks more are copied at once.
 * Only a guess: writers may get in each other's way.  Returns the last block to be copied
 * for a write of which @first is the first that is not.
 */
static u64 cow_copy_ahead(struct cow *cow, const struct cow_span *span, u64 first)
{
	unsigned int nr_in_order = 0;
	u64 last = span->last;

	if (first > last)
		return last;
	if (first == READ_ONCE(cow->next_in_order))
		nr_in_order = READ_ONCE(cow->nr_in_order) + 1;
	/* Until it is drained, what is copied is marked as changed. */
	if (nr_in_order > COW_AHEAD_AFTER && READ_ONCE(cow->is_drained) &&
	    !READ_ONCE(cow->is_ahead_bad))
		last = min(last | (COW_AHEAD_BLOCKS - 1), cow->nr_blocks - 1);
	WRITE_ONCE(cow->nr_in_order, nr_in_order);
	return last;
}

static enum cow_step cow_judge(struct cow *cow, struct bio *bio, const struct cow_span *span)
{
	bool is_sync = op_is_sync(bio->bi_opf);
	unsigned int nr_blocks;
	unsigned long flags;
	enum cow_step step;
	u64 first, last;

	/*
	 * A guess without the lock, mostly right: there is one run to be read, and a
	 * fast device has read it when cow_read_run() returns.
	 */
	first = copied_map_next_uncopied(&cow->copied, span->first, span->last);
	last = cow_copy_ahead(cow, span, first);
	nr_blocks = min3(copied_map_next_copied(&cow->copied, first, last) - first,
			 (u64)cow_run_max_blocks(cow), (u64)cow_room(cow, is_sync));
	if (nr_blocks)
		WRITE_ONCE(cow->next_in_order, max(first + nr_blocks, span->last + 1));
	do {
		if (nr_blocks && !cow_read_run(cow, first, span->last - first + 1, nr_blocks,
					       is_sync))
			return cow_put_off(cow, bio);
		/* From here on it is no guess. */
		if (cow_span_is_copied(cow, span))
			return COW_STEP_RELEASE;
		spin_lock_irqsave(&cow->lock, flags);
		step = cow_next_step(cow, bio, span, &first, &nr_blocks);
		spin_unlock_irqrestore(&cow->lock, flags);
	} while (step == COW_STEP_READ);
	return step;
}

/*
 * Is this a write to the snapshot's own storage, sent on by another driver?  Most drivers
 * send on the pages that they are given.
 */
static bool cow_stores(const struct cow *cow, const struct bio *bio)
{
	return bio_op(bio) == REQ_OP_WRITE && bio_has_data((struct bio *)bio) &&
	       page_private(bio->bi_io_vec[bio->bi_iter.bi_idx].bv_page) ==
	       (unsigned long)cow->config.storage;
}

/* Each store would need another one. */
static void cow_fail_on_own_store(struct cow *cow)
{
	pr_err_ratelimited("%u:%u: its storage lies on it, through another driver\n",
			   MAJOR(cow->origin_dev), MINOR(cow->origin_dev));
	/* The grace period before cow_shutdown() waits until fail_work is queued. */
	rcu_read_lock();
	cow_fail(cow, -ELOOP);
	rcu_read_unlock();
}

/**
 * cow_hold() - hold a write until the blocks it hits are copied
 * @cow:	engine that wants @bio held, referenced by the caller
 * @bio:	write that is not under current->bio_list
 *
 * Reads the old data in the context of the caller.
 *
 * Context: Process context.  May sleep as submitting does.
 * Return: what has become of @bio, which is the caller's only after COW_MAY_GO.
 */
enum cow_verdict cow_hold(struct cow *cow, struct bio *bio)
{
	struct cow_span span;

	if (!cow_bio_span(cow, bio, filter_bio_sector(bio), &span))
		return COW_MAY_GO;
	if (READ_ONCE(cow->error))
		return cow_pass(cow, bio, &span) ? COW_MAY_GO : COW_HELD;
	if (cow_stores(cow, bio)) {
		cow_fail_on_own_store(cow);
		return COW_MAY_GO;
	}
	if (bio_op(bio) == REQ_OP_DISCARD && !copy_discarded)
		return cow_skip(cow, bio) ? COW_MAY_GO : COW_ENDED;
	atomic64_inc(&cow->nr_held_total);
	trace_blksnap_hold(cow->origin_dev, filter_bio_sector(bio) - cow->config.start,
			   bio_sectors(bio));
	if (cow_judge(cow, bio, &span) != COW_STEP_RELEASE)
		return COW_HELD;
	trace_blksnap_release(cow->origin_dev, filter_bio_sector(bio) - cow->config.start,
			      bio_sectors(bio));
	return COW_MAY_GO;
}

static bool cow_may_submit(const struct cow *cow, bool is_sync)
{
	return READ_ONCE(cow->error) || READ_ONCE(cow->nr_held[is_sync]) < cow->max_held;
}

/*
 * Waits while the engine holds as many writes of this class as the origin's queue would
 * have let in.  @is_sync was read before cow_hold(), which may free the bio.
 */
void cow_throttle(struct cow *cow, bool is_sync)
{
	wait_event(cow->throttled, cow_may_submit(cow, is_sync));
}

/* The copy that has waited longest to be stored, or NULL. */
static struct cow_copy *cow_oldest_copy(struct cow *cow)
{
	struct cow_copy *oldest, *copy;
	unsigned int i;

	lockdep_assert_held(&cow->lock);
	oldest = list_first_entry_or_null(&cow->unstored, struct cow_copy, link);
	for (i = 0; i < COW_STORES; i++) {
		copy = list_first_entry_or_null(&cow->stores[i].batch, struct cow_copy, link);
		if (copy && (!oldest || time_before(copy->copied_at, oldest->copied_at)))
			oldest = copy;
	}
	return oldest;
}

/*
 * Writes do not wait for a storage that hangs: the snapshot fails.  Then the memory of
 * copies being written stays in use, but the writes go on.  Only a stored batch counts
 * as progress.  If the origin hangs, failing would help no write.
 */
static bool cow_is_stalled(struct cow *cow)
{
	struct cow_copy *oldest;

	lockdep_assert_held(&cow->lock);
	if (time_before(jiffies, cow->starving_since + COW_STALL_TIMEOUT))
		return false;
	oldest = cow_oldest_copy(cow);
	if (oldest)
		return !time_before(jiffies, oldest->copied_at + COW_STALL_TIMEOUT);
	return !cow->nr_reading;
}

/* Retries the writes that wait for memory, or fails the engine if it is stalled. */
void cow_starved_work(struct work_struct *work)
{
	struct cow *cow = container_of(to_delayed_work(work), struct cow, starved_work);

	spin_lock_irq(&cow->lock);
	if (bio_list_empty(&cow->starved[true]) && bio_list_empty(&cow->starved[false])) {
		cow->is_starving = false;
	} else if (!READ_ONCE(cow->error)) {
		if (cow_is_stalled(cow))
			cow_fail(cow, -ETIMEDOUT);
		else
			cow_retry_starved(cow, UINT_MAX);
		/* The writes handed back may come again. */
		queue_delayed_work(cow_wq, &cow->starved_work, COW_STARVED_INTERVAL);
	}
	spin_unlock_irq(&cow->lock);
}
