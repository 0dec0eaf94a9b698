// SPDX-License-Identifier: GPL-2.0
/*
 * Copy-on-write: hold a write, read the old data, release
 *
 * A write that hits a block the image still shares with the origin may not
 * reach the disk before that block has been read.  So the write is held, the
 * block is read into memory, the write is released, and only then is the copy
 * stored.  A block walks through these states and never goes back:
 *
 *	SHARED -> READING -> IN_MEMORY -> STORED
 *
 * The bit in cow->copied is set on the way from READING to IN_MEMORY, once no
 * image read of the block is under way on the origin any more; from then on
 * writes to the block pass without a lock.
 *
 * Nothing remembers what a held write waits for: when something it may have
 * waited for is done, it is judged again.
 *
 * Lock order: cow->lock -> event_queue->lock, releaser->lock.
 */
#include "blksnap.h"

#include <linux/blkdev.h>
#include <linux/delay.h>
#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/slab.h>

#include "cow_priv.h"
#include "filter.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

/* Blocks in reserve, per origin, for reading when there is no memory. */
#define COW_BLOCK_RESERVE 16

/* Copies in reserve, likewise: each reads at least one block. */
#define COW_COPY_RESERVE 8

/* How often a write that waits for memory is tried again without progress. */
#define COW_STARVED_INTERVAL (HZ / 5)

/*
 * How long writes may wait for a storage that stores nothing: less than the 30 s
 * after which drivers and clusters give a device up.
 */
#define COW_STALL_TIMEOUT (20 * HZ)

/* Excluding large ranges is done in pieces, for it needs the lock. */
#define COW_EXCLUDE_BLOCKS 4096U

/* Engines whose memory is not freed yet. */
static atomic_t cow_live = ATOMIC_INIT(0);
static DECLARE_WAIT_QUEUE_HEAD(cow_live_wait);

/* The blocks of an engine that a bio touches. */
struct cow_span {
	u64 first;
	u64 last;
};

enum cow_step {
	COW_STEP_RELEASE,	/* nothing stands in the way of the write */
	COW_STEP_WAIT,		/* it waits on a list */
	COW_STEP_READ,		/* blocks have to be read first */
};

static void cow_span(const struct cow *cow, sector_t sector, sector_t nr_sectors,
		     struct cow_span *span)
{
	sector_t start = cow->config.start, end = start + cow->config.nr_sectors;

	span->first = (max(sector, start) - start) >> cow_sector_shift(cow);
	span->last = (min(sector + nr_sectors, end) - start - 1) >> cow_sector_shift(cow);
}

static bool cow_bio_span(const struct cow *cow, const struct bio *bio, sector_t sector,
			 struct cow_span *span)
{
	/* The origin may have grown since the take. */
	if (sector >= cow->config.start + cow->config.nr_sectors)
		return false;
	cow_span(cow, sector, bio_sectors(bio), span);
	return true;
}

/*
 * Accounting, failing
 */

/**
 * cow_io_begin() - may the engine still use its devices?
 * @cow:	the engine
 *
 * Context: Any.
 * Return: true: yes, until cow_io_end(); false: it has failed or is shut down.
 */
bool cow_io_begin(struct cow *cow)
{
	unsigned long flags;
	bool may_begin;

	spin_lock_irqsave(&cow->lock, flags);
	may_begin = !cow->error;
	if (may_begin)
		cow->nr_io++;
	spin_unlock_irqrestore(&cow->lock, flags);
	return may_begin;
}

/**
 * cow_io_end_locked() - cow_io_end() for who holds the lock
 * @cow:	the engine; may be freed when the lock is released
 *
 * Context: Any, cow->lock held.
 */
void cow_io_end_locked(struct cow *cow)
{
	lockdep_assert_held(&cow->lock);
	if (!--cow->nr_io && cow->error)
		wake_up_all(&cow->progress);
}

/**
 * cow_io_end() - undo cow_io_begin() or cow_copy_start()
 * @cow:	the engine; may be freed when this returns
 *
 * Context: Any.
 */
void cow_io_end(struct cow *cow)
{
	unsigned long flags;

	spin_lock_irqsave(&cow->lock, flags);
	cow_io_end_locked(cow);
	spin_unlock_irqrestore(&cow->lock, flags);
}

static bool cow_is_idle(struct cow *cow)
{
	bool is_idle;

	/* The lock, so that the last cow_io_end() has left. */
	spin_lock_irq(&cow->lock);
	is_idle = !cow->nr_io;
	spin_unlock_irq(&cow->lock);
	return is_idle;
}

/**
 * cow_account_held() - account for the time that writes spend on lists
 * @cow:	the engine
 * @nr_writes:	so many are put on a list, or taken off if it is negative
 *
 * Context: Any, cow->lock held.
 */
void cow_account_held(struct cow *cow, int nr_writes)
{
	lockdep_assert_held(&cow->lock);
	cow->nr_held += nr_writes;
	cow->held_ns -= nr_writes * (s64)ktime_get_ns();
}

/**
 * cow_break() - break the snapshot of this origin, once
 * @cow:	the engine
 * @error:	negative errno; -ESHUTDOWN ends the engine without an event
 *
 * Every held write is released to the origin, those that wait for a copy as
 * soon as it has been read.  Image reads under way fail, too: what they read from
 * the origin may not be the old data any more.
 *
 * Context: Any.
 */
void cow_break(struct cow *cow, int error)
{
	struct bio_list ready;
	unsigned long flags;

	spin_lock_irqsave(&cow->lock, flags);
	if (cow->error) {
		spin_unlock_irqrestore(&cow->lock, flags);
		return;
	}
	WRITE_ONCE(cow->error, error);
	cow_account_held(cow, -(int)bio_list_size(&cow->starved));
	ready = cow->starved;
	bio_list_init(&cow->starved);
	if (error != -ESHUTDOWN) {
		struct blk_snap_event_corrupted payload = {
			.orig_dev_id.mj = MAJOR(cow->origin_dev),
			.orig_dev_id.mn = MINOR(cow->origin_dev),
			.err_code = -error,
		};

		event_queue_raise(cow->config.events, &cow->corrupted, &payload,
				  sizeof(payload));
	}
	wake_up_all(&cow->progress);
	spin_unlock_irqrestore(&cow->lock, flags);

	if (error != -ESHUTDOWN) {
		trace_blksnap_fail(cow->origin_dev, error);
		pr_err("%u:%u: snapshot lost: %pe\n", MAJOR(cow->origin_dev),
		       MINOR(cow->origin_dev), ERR_PTR(error));
	}
	releaser_add_list(&cow->ready, &ready);
	cow_store_kick(cow, true);
}

/*
 * Held writes
 */

/**
 * cow_must_hold() - would this write destroy old data?
 * @cow:	engine of an origin that @bio touches
 * @bio:	non-empty bio that changes data
 * @sector:	its first sector on the disk
 *
 * Context: The filter's callback, under rcu_read_lock().
 * Return: true if the write has to be held, or need not be done at all.
 */
bool cow_must_hold(struct cow *cow, const struct bio *bio, sector_t sector)
{
	struct cow_span span;

	if (READ_ONCE(cow->error) || !cow_bio_span(cow, bio, sector, &span))
		return false;
	/* Most writes are short; in line it costs them less. */
	if (span.first == span.last)
		return !cow_is_copied(cow, span.first);
	return cow_next_uncopied(cow, span.first, span.last) <= span.last;
}

static void cow_note_hold(struct cow *cow, struct bio *bio)
{
	atomic64_inc(&cow->nr_held_total);
	trace_blksnap_hold(cow->origin_dev, filter_bio_sector(bio) - cow->config.start,
			   bio_sectors(bio));
}

static void cow_release(void *data, struct bio *bio)
{
	struct cow *cow = data;

	trace_blksnap_release(cow->origin_dev, filter_bio_sector(bio) - cow->config.start,
			      bio_sectors(bio));
	releaser_submit_bio(bio);
}

/*
 * Writes that wait for memory are tried again when a batch has been stored, and
 * from time to time.
 */
static void cow_add_starved(struct cow *cow, struct bio *bio)
{
	lockdep_assert_held(&cow->lock);
	if (!cow->is_starving) {
		cow->is_starving = true;
		cow->starving_since = jiffies;
	}
	bio_list_add(&cow->starved, bio);
	cow_store_kick(cow, true);
	queue_delayed_work(releaser_wq, &cow->starved_work, COW_STARVED_INTERVAL);
}

/*
 * What has to be done next for a write; if it has to wait, it is on a list when
 * this returns.  Everything that can be read is read before the write waits for
 * anything.
 */
static enum cow_step cow_next_step(struct cow *cow, struct bio *bio,
				   const struct cow_span *span, u64 *first,
				   unsigned int *nr_blocks)
{
	struct cow_copy *waits_for = NULL;
	struct block_range_node *range;
	u64 block = span->first;

	lockdep_assert_held(&cow->lock);
	if (cow->error)
		return COW_STEP_RELEASE;

	for (;; block = range->last + 1) {
		block = cow_next_uncopied(cow, block, span->last);
		if (block > span->last)
			break;
		range = range_lock_first(&cow->copies, block, block);
		if (!range)
			break;
		if (!waits_for)
			waits_for = container_of(range, struct cow_copy, range);
	}
	if (block <= span->last && cow->in_memory < cow->max_in_memory) {
		*first = block;
		*nr_blocks = min(cow_run_blocks(cow, block, span->last),
				 cow->max_in_memory - cow->in_memory);
		return COW_STEP_READ;
	}
	if (block > span->last && !waits_for) {
		cow->is_starving = false;
		return COW_STEP_RELEASE;
	}

	cow_account_held(cow, 1);
	if (waits_for)
		bio_list_add(&waits_for->waiters, bio);
	else
		cow_add_starved(cow, bio);
	return COW_STEP_WAIT;
}

/* A discard is advice, and following it would cost as much as writing. */
static bool cow_may_skip(struct cow *cow, const struct bio *bio, const struct cow_span *span)
{
	return bio_op(bio) == REQ_OP_DISCARD && !copy_discarded && !READ_ONCE(cow->error) &&
	       cow_next_uncopied(cow, span->first, span->last) <= span->last;
}

/* Reads a run of blocks; false if there is no memory at the moment. */
static bool cow_read_run(struct cow *cow, u64 first, unsigned int nr_blocks, gfp_t gfp)
{
	struct cow_copy *copy = cow_copy_alloc(cow, first, nr_blocks, gfp);

	if (!copy)
		return false;
	if (cow_copy_start(cow, copy))
		cow_copy_read(copy);
	return true;
}

/* Puts off a write for which there is no memory; a worker may reclaim some. */
static void cow_put_off(struct cow *cow, struct bio *bio, bool is_worker)
{
	unsigned long flags;
	bool is_over;

	spin_lock_irqsave(&cow->lock, flags);
	/* Nobody looks after the lists of an engine that is being shut down. */
	is_over = cow->error;
	if (!is_over) {
		cow_account_held(cow, 1);
		if (is_worker)
			cow_add_starved(cow, bio);
		else
			releaser_add(&cow->later, bio);
	}
	spin_unlock_irqrestore(&cow->lock, flags);
	if (is_over)
		cow_release(cow, bio);
}

static void cow_judge_held(struct cow *cow, struct bio *bio, bool is_worker)
{
	gfp_t gfp = is_worker ? GFP_NOIO : GFP_NOWAIT;
	struct cow_span span;
	enum cow_step step;

	if (!cow_bio_span(cow, bio, filter_bio_sector(bio), &span)) {
		cow_release(cow, bio);
		return;
	}
	if (cow_may_skip(cow, bio, &span)) {
		bio_endio(bio);
		return;
	}
	do {
		unsigned int nr_blocks;
		unsigned long flags;
		u64 first;

		spin_lock_irqsave(&cow->lock, flags);
		step = cow_next_step(cow, bio, &span, &first, &nr_blocks);
		spin_unlock_irqrestore(&cow->lock, flags);
		if (step == COW_STEP_READ && !cow_read_run(cow, first, nr_blocks, gfp)) {
			cow_put_off(cow, bio, is_worker);
			return;
		}
	} while (step == COW_STEP_READ);

	if (step == COW_STEP_RELEASE)
		cow_release(cow, bio);
}

/**
 * cow_hold() - hold a write until the blocks it hits are copied
 * @cow:	engine that wants @bio held; the caller has a reference
 * @bio:	write that is not under current->bio_list
 *
 * Reads the old data in the context of the submitter.  If the device is so fast
 * that the read completes meanwhile, the write is released on the spot.
 *
 * Context: In place of submit_bio_noacct(); sleeps as that does, but waits for
 *	    nothing else.
 */
void cow_hold(struct cow *cow, struct bio *bio)
{
	cow_note_hold(cow, bio);
	cow_judge_held(cow, bio, false);
}

/**
 * cow_hold_later() - hold a write for which nobody may act here
 * @cow:	engine that wants @bio held
 * @bio:	any write
 *
 * Context: The filter's callback, under rcu_read_lock(), or with a reference.
 */
void cow_hold_later(struct cow *cow, struct bio *bio)
{
	unsigned long flags;

	cow_note_hold(cow, bio);
	spin_lock_irqsave(&cow->lock, flags);
	cow_account_held(cow, 1);
	spin_unlock_irqrestore(&cow->lock, flags);
	releaser_add(&cow->later, bio);
}

/* Worker's side of cow_hold_later(), and of writes that waited for memory. */
static void cow_judge_later(void *data, struct bio *bio)
{
	struct cow *cow = data;

	spin_lock_irq(&cow->lock);
	cow_account_held(cow, -1);
	spin_unlock_irq(&cow->lock);
	cow_judge_held(cow, bio, true);
}

/**
 * cow_retry_starved() - judge the writes again that wait for memory
 * @cow:	the engine
 *
 * Context: Process context.
 */
void cow_retry_starved(struct cow *cow)
{
	struct bio_list bios;

	/* They still count as held, until a worker has them. */
	spin_lock_irq(&cow->lock);
	bios = cow->starved;
	bio_list_init(&cow->starved);
	spin_unlock_irq(&cow->lock);
	releaser_add_list(&cow->later, &bios);
}

/*
 * The origin does not wait for a storage that hangs: then the snapshot breaks.
 * (Its memory may hang with it, but the writes go on.)  If it is the origin that
 * hangs, breaking would help nobody.
 */
static void cow_starved_work(struct work_struct *work)
{
	struct cow *cow = container_of(to_delayed_work(work), struct cow, starved_work);
	bool is_stalled;

	spin_lock_irq(&cow->lock);
	if (cow->nr_unsettled)
		cow->starving_since = jiffies;
	is_stalled = cow->is_starving &&
		     time_after(jiffies, cow->starving_since + COW_STALL_TIMEOUT);
	spin_unlock_irq(&cow->lock);
	if (is_stalled) {
		cow_break(cow, -ETIMEDOUT);
		cow_store_drop(cow);
	}
	cow_retry_starved(cow);
}

/*
 * Lifetime
 */

/**
 * cow_block_shift() - size of a copy block for a device
 * @nr_sectors:	capacity of the device
 *
 * Return: log2 of bytes; above COW_BLOCK_SHIFT_MAX the device is too large.
 */
unsigned int cow_block_shift(sector_t nr_sectors)
{
	unsigned int shift = copy_block_minimum_shift;

	while ((nr_sectors - 1) >> (shift - SECTOR_SHIFT) >= copy_block_maximum_count)
		shift++;
	return shift;
}

static int cow_init_pools(struct cow *cow)
{
	unsigned int order = get_order(cow_block_bytes(cow));
	int ret;

	ret = mempool_init_page_pool(&cow->block_pool, COW_BLOCK_RESERVE, order);
	if (ret)
		return ret;
	ret = bioset_init(&cow->copy_bios, COW_COPY_RESERVE, offsetof(struct cow_copy, bio),
			  BIOSET_NEED_BVECS);
	if (ret)
		goto err_exit_block_pool;
	ret = sparse_map_init(&cow->copied, DIV_ROUND_UP_ULL(cow->nr_blocks, BITS_PER_BYTE));
	if (ret)
		goto err_exit_bios;
	return 0;

err_exit_bios:
	bioset_exit(&cow->copy_bios);
err_exit_block_pool:
	mempool_exit(&cow->block_pool);
	return ret;
}

static void cow_init_state(struct cow *cow)
{
	kref_init(&cow->kref);
	releaser_init(&cow->later, releaser_wq, cow_judge_later, cow);
	releaser_init(&cow->ready, releaser_wq, cow_release, cow);
	releaser_init(&cow->image_writes, cow_image_wq, cow_image_write, cow);
	INIT_DELAYED_WORK(&cow->store_work, cow_store_work);
	INIT_DELAYED_WORK(&cow->starved_work, cow_starved_work);
	init_waitqueue_head(&cow->progress);
	event_init(&cow->corrupted, blk_snap_event_code_corrupted);
	spin_lock_init(&cow->lock);
	range_lock_init(&cow->copies);
	range_lock_init(&cow->readers);
	extent_map_init(&cow->extents);
	INIT_LIST_HEAD(&cow->unstored);
	bio_list_init(&cow->starved);
}

/**
 * cow_create() - make an engine
 * @config:	what it works on
 *
 * The engine does nothing until the tracker publishes it.
 *
 * Return: the engine, with one reference, or an ERR_PTR: -ENOMEM.
 */
struct cow *cow_create(const struct cow_config *config)
{
	struct cow *cow = kzalloc(sizeof(*cow), GFP_KERNEL);
	int ret;

	if (!cow)
		return ERR_PTR(-ENOMEM);
	cow->config = *config;
	cow->origin_dev = config->origin->bd_dev;
	cow->diskseq = config->origin->bd_disk->diskseq;
	cow->nr_blocks = ((config->nr_sectors - 1) >> cow_sector_shift(cow)) + 1;
	cow->max_in_memory = max(1U, (copy_memory_maximum << (20 - 10)) >>
				     (config->block_shift - 10));
	ret = cow_init_pools(cow);
	if (ret) {
		kfree(cow);
		return ERR_PTR(ret);
	}
	cow_init_state(cow);
	atomic_inc(&cow_live);
	return cow;
}

/**
 * cow_get() - take a reference
 * @cow:	engine that the caller knows to be alive
 *
 * Return: @cow.
 */
struct cow *cow_get(struct cow *cow)
{
	kref_get(&cow->kref);
	return cow;
}

static void cow_free(struct kref *kref)
{
	struct cow *cow = container_of(kref, struct cow, kref);

	cow_free_spare_reads(cow);
	extent_map_exit(&cow->extents);
	sparse_map_exit(&cow->copied);
	bioset_exit(&cow->copy_bios);
	mempool_exit(&cow->block_pool);
	kfree(cow);
	if (atomic_dec_and_test(&cow_live))
		wake_up(&cow_live_wait);
}

/**
 * cow_put() - drop a reference
 * @cow:	the engine; the last reference is dropped after cow_shutdown()
 *
 * Context: Process context, may sleep.
 */
void cow_put(struct cow *cow)
{
	kref_put(&cow->kref, cow_free);
}

/* As cow_set_copied(), without data to be ordered, and whole words at once. */
static void cow_set_excluded(struct cow *cow, u64 first, u64 last)
{
	lockdep_assert_held(&cow->lock);
	while (first <= last) {
		unsigned long *bits = sparse_map_page(&cow->copied, first / COW_BITS_PER_PAGE);
		unsigned int bit = first % COW_BITS_PER_PAGE;

		if (bit % BITS_PER_LONG || last - first < BITS_PER_LONG - 1) {
			set_bit(bit, bits);
			first++;
		} else {
			WRITE_ONCE(bits[bit / BITS_PER_LONG], ~0UL);
			first += BITS_PER_LONG;
		}
	}
}

/* What is being copied already will be stored. */
static void cow_exclude_uncopied(struct cow *cow, u64 first, u64 last)
{
	const struct block_range_node *copy;

	lockdep_assert_held(&cow->lock);
	while (first <= last) {
		copy = range_lock_first(&cow->copies, first, last);
		if (!copy) {
			cow_set_excluded(cow, first, last);
			return;
		}
		if (first < copy->first)
			cow_set_excluded(cow, first, copy->first - 1);
		first = copy->last + 1;
	}
}

static int cow_exclude_blocks(struct cow *cow, u64 first, u64 last)
{
	u64 end;

	if (!cow_populate(cow, first, last, GFP_KERNEL))
		return -ENOMEM;
	/* In pieces, for interrupts are off meanwhile. */
	for (; first <= last; first = end + 1) {
		end = min(last, first | (COW_BITS_PER_PAGE - 1));
		spin_lock_irq(&cow->lock);
		cow_exclude_uncopied(cow, first, end);
		spin_unlock_irq(&cow->lock);
		cond_resched();
	}
	return 0;
}

static bool cow_has_reader(struct cow *cow, u64 first, u64 last)
{
	bool has_reader;

	spin_lock_irq(&cow->lock);
	has_reader = range_lock_first(&cow->readers, first, last);
	spin_unlock_irq(&cow->lock);
	return has_reader;
}

/**
 * cow_exclude() - leave a part of the origin out of the image
 * @cow:	the engine, not shut down
 * @sector:	first sector of the part, on the disk
 * @nr_sectors:	its length
 *
 * For the snapshot's own storage: what will be written there is not copied, and
 * the image reads as zeros there.  Only whole blocks are left out.
 *
 * Context: Process context, sleeps until no image read is under way there.
 * Return: 0, or -ENOMEM: a part of it may have been excluded.
 */
int cow_exclude(struct cow *cow, sector_t sector, sector_t nr_sectors)
{
	sector_t start = cow->config.start, end = start + cow->config.nr_sectors;
	sector_t from = max(sector, start), to = min(sector + nr_sectors, end);
	u64 first, last, block;
	int ret = 0;

	if (from >= to)
		return 0;
	first = (from - start + (1U << cow_sector_shift(cow)) - 1) >> cow_sector_shift(cow);
	/* One behind the last whole block; the origin's last block may be short. */
	last = to == end ? cow->nr_blocks : (to - start) >> cow_sector_shift(cow);
	if (first >= last)
		return 0;
	last--;
	for (block = first; block <= last && !ret; block += COW_EXCLUDE_BLOCKS) {
		ret = cow_exclude_blocks(cow, block,
					 min(last, block + COW_EXCLUDE_BLOCKS - 1));
		cond_resched();
	}
	while (cow_has_reader(cow, first, last))
		msleep(20);
	return ret;
}

/**
 * cow_stop() - end the image and the protection of the origin
 * @cow:	any engine
 *
 * To be called before the tracker retires the engine: from here on image I/O
 * fails, and only then writes may pass that the engine does not see.
 *
 * Context: Any.
 */
void cow_stop(struct cow *cow)
{
	cow_break(cow, -ESHUTDOWN);
}

/**
 * cow_shutdown() - end the use of everything in the config
 * @cow:	engine that has been stopped, then retired by its tracker
 *
 * In this order: wait for the I/O under way; let the workers finish what they
 * were given; drop the copies in memory.
 *
 * Context: Process context, sleeps as long as the origin and the storage take
 *	    for what they were asked.
 */
void cow_shutdown(struct cow *cow)
{
	cow_stop(cow);
	wait_event(cow->progress, cow_is_idle(cow));
	cancel_delayed_work_sync(&cow->starved_work);
	releaser_drain(&cow->image_writes);
	releaser_drain(&cow->later);
	releaser_drain(&cow->ready);
	cancel_delayed_work_sync(&cow->store_work);
	cow_store_drop(cow);
}

/**
 * cow_stats() - figures of the moment
 * @cow:	engine, referenced
 * @stats:	to be filled
 *
 * Context: Process context.
 */
void cow_stats(struct cow *cow, struct cow_stats *stats)
{
	spin_lock_irq(&cow->lock);
	stats->copied_bytes = cow->nr_copied << cow->config.block_shift;
	stats->stored_bytes = cow->nr_stored_sectors << SECTOR_SHIFT;
	stats->memory_bytes = (u64)cow->in_memory << cow->config.block_shift;
	stats->held_writes = cow->nr_held;
	stats->held_writes_total = atomic64_read(&cow->nr_held_total);
	stats->held_ns_total = cow->held_ns + cow->nr_held * ktime_get_ns();
	stats->error = cow->error;
	spin_unlock_irq(&cow->lock);
}

/**
 * cow_module_init() - set up what all engines share
 *
 * Return: 0 or -ENOMEM.
 */
int cow_module_init(void)
{
	int ret;

	ret = cow_store_module_init();
	if (ret)
		return ret;
	ret = cow_image_module_init();
	if (ret)
		cow_store_module_exit();
	return ret;
}

/**
 * cow_module_exit() - wait for the last engine's memory and clean up
 *
 * Context: Process context, sleeps.
 */
void cow_module_exit(void)
{
	wait_event(cow_live_wait, !atomic_read(&cow_live));
	cow_image_module_exit();
	cow_store_module_exit();
}
