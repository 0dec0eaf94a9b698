// SPDX-License-Identifier: GPL-2.0
/*
 * Life of a copy-on-write engine
 *
 * An engine is created before the take, published by the tracker at the take, and
 * stopped and shut down before the snapshot goes.  It may fail at any time in between;
 * then it is of no more use, but stays until it is shut down.
 *
 *	created -> published -> stopped or failed -> unpublished -> shut down -> freed
 *
 * Lock order: cow->lock, see cow_state.c.
 */
#include "blksnap.h"

#include <linux/blkdev.h>
#include <linux/ktime.h>
#include <linux/slab.h>

#include "cow_priv.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

/* Blocks in reserve, per origin, for reading when there is no memory. */
#define COW_BLOCK_RESERVE 16

/* Copies in reserve, likewise: each reads at least one block. */
#define COW_COPY_RESERVE 8

/* Writes of a class that may be held for an origin without a depth of its own. */
#define COW_MAX_HELD 128

/* Large ranges are excluded in pieces, because the lock is held for each. */
#define COW_EXCLUDE_BLOCKS 4096U

/* Engines whose memory is not freed yet. */
static atomic_t cow_live = ATOMIC_INIT(0);
static DECLARE_WAIT_QUEUE_HEAD(cow_live_wait);

static void cow_report_failure(struct cow *cow, int error)
{
	struct blk_snap_event_corrupted payload = {
		.orig_dev_id.mj = MAJOR(cow->origin_dev),
		.orig_dev_id.mn = MINOR(cow->origin_dev),
		.err_code = -error,
	};

	event_queue_raise(cow->config.events, &cow->corrupted, &payload, sizeof(payload));
	event_announce(cow->config.events, &cow->corrupted);
	trace_blksnap_fail(cow->origin_dev, error);
	pr_err("%u:%u: snapshot failed: %pe\n", MAJOR(cow->origin_dev), MINOR(cow->origin_dev),
	       ERR_PTR(error));
}

/* What cow_fail() may not do in the context of its caller. */
static void cow_fail_work(struct work_struct *work)
{
	struct cow *cow = container_of(work, struct cow, fail_work);

	if (READ_ONCE(cow->error) != -ESHUTDOWN)
		cow_report_failure(cow, READ_ONCE(cow->error));
	spin_lock_irq(&cow->lock);
	cow_hand_back(cow, &cow->starved[true], UINT_MAX);
	cow_hand_back(cow, &cow->starved[false], UINT_MAX);
	cow->nr_unstored = 0;
	spin_unlock_irq(&cow->lock);
	cow_drop_copies(cow, &cow->unstored);
	cow_free_spare_pages(cow);
	wake_up_all(&cow->progress);
	wake_up_all(&cow->throttled);
	queue_work(cow->config.queues->store, &cow->discard_work);
}

/* log2 of bytes; above COW_BLOCK_SHIFT_MAX the device is too large. */
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
	ret = mempool_init_kmalloc_pool(&cow->spare_copies, COW_COPY_RESERVE,
					sizeof(struct cow_copy));
	if (ret)
		goto err_exit_block_pool;
	ret = bioset_init(&cow->copy_bios, 1, offsetof(struct cow_copy, bio),
			  BIOSET_NEED_BVECS);
	if (ret)
		goto err_exit_spare_copies;
	ret = copied_map_init(&cow->copied, cow->nr_blocks);
	if (ret)
		goto err_exit_bios;
	cow->may_skip = discard_later && bdev_max_discard_sectors(cow->config.origin);
	if (cow->may_skip)
		ret = copied_map_init(&cow->skipped, cow->nr_blocks);
	if (ret)
		goto err_exit_copied;
	return 0;

err_exit_copied:
	copied_map_exit(&cow->copied);
err_exit_bios:
	bioset_exit(&cow->copy_bios);
err_exit_spare_copies:
	mempool_exit(&cow->spare_copies);
err_exit_block_pool:
	mempool_exit(&cow->block_pool);
	return ret;
}

static void cow_init_state(struct cow *cow)
{
	unsigned int i;

	kref_init(&cow->kref);
	atomic_set(&cow->nr_io, 0);
	INIT_WORK(&cow->fail_work, cow_fail_work);
	INIT_WORK(&cow->discard_work, cow_discard_work);
	INIT_DELAYED_WORK(&cow->starved_work, cow_starved_work);
	init_waitqueue_head(&cow->progress);
	init_waitqueue_head(&cow->throttled);
	event_init(&cow->corrupted, blk_snap_event_code_corrupted);
	spin_lock_init(&cow->spare_lock);
	INIT_LIST_HEAD(&cow->spare_pages);
	spin_lock_init(&cow->lock);
	range_set_init(&cow->copies);
	extent_map_init(&cow->extents);
	INIT_LIST_HEAD(&cow->unstored);
	bio_list_init(&cow->starved[false]);
	bio_list_init(&cow->starved[true]);
	bio_list_init(&cow->discard_waiters);
	for (i = 0; i < COW_STORES; i++) {
		cow->stores[i].cow = cow;
		INIT_DELAYED_WORK(&cow->stores[i].work, cow_store_work);
		INIT_LIST_HEAD(&cow->stores[i].batch);
	}
}

static unsigned int cow_queue_depth(struct request_queue *queue)
{
	return queue_is_mq(queue) ? queue->nr_requests : COW_MAX_HELD;
}

/* log2 of the memory of a block, which takes a page at least. */
static unsigned int cow_memory_shift(const struct cow *cow)
{
	return max_t(unsigned int, cow->config.block_shift, PAGE_SHIFT);
}

/* With one reference, or ERR_PTR(-ENOMEM). */
struct cow *cow_create(const struct cow_config *config)
{
	struct cow *cow = kzalloc_obj(*cow, GFP_KERNEL);
	int ret;

	if (!cow)
		return ERR_PTR(-ENOMEM);
	cow->config = *config;
	cow->origin_dev = config->origin->bd_dev;
	cow->diskseq = config->origin->bd_disk->diskseq;
	cow->nr_blocks = ((config->nr_sectors - 1) >> cow_sector_shift(cow)) + 1;
	cow->max_in_memory = max(1U, (copy_memory_maximum << (20 - 10)) >>
				     (cow_memory_shift(cow) - 10));
	cow->max_held = cow_queue_depth(bdev_get_queue(config->origin));
	ret = cow_init_pools(cow);
	if (ret) {
		kfree(cow);
		return ERR_PTR(ret);
	}
	cow_init_state(cow);
	atomic_inc(&cow_live);
	return cow;
}

struct cow *cow_get(struct cow *cow)
{
	kref_get(&cow->kref);
	return cow;
}

static void cow_free(struct kref *kref)
{
	struct cow *cow = container_of(kref, struct cow, kref);

	extent_map_exit(&cow->extents);
	copied_map_exit(&cow->skipped);
	copied_map_exit(&cow->copied);
	bioset_exit(&cow->copy_bios);
	mempool_exit(&cow->spare_copies);
	mempool_exit(&cow->block_pool);
	cow_free_spare_pages(cow);
	kfree(cow);
	if (atomic_dec_and_test(&cow_live))
		wake_up(&cow_live_wait);
}

void cow_put(struct cow *cow)
{
	kref_put(&cow->kref, cow_free);
}

/*
 * Leaves sectors of the disk out of the image, because they are storage of some
 * snapshot: what is written there is not copied, and the image reads as zeros there.
 * Only whole blocks are left out, and of them only those that are not copied yet: a copy
 * that is being read finds the bit set, and has zeros there, see cow_copy_filled().
 * Returns 0, or -ENOMEM and a part may have been excluded.
 *
 * If the engine has ended, nothing is discarded there any more: a discard found before the
 * blocks were left out has been waited for.
 */
int cow_exclude(struct cow *cow, sector_t sector, sector_t nr_sectors)
{
	sector_t start = cow->config.start, end = start + cow->config.nr_sectors;
	sector_t from = max(sector, start), to = min(sector + nr_sectors, end);
	u64 block, last, end_block;

	if (from >= to)
		return 0;
	block = cow_sector_block(cow, from - start + cow_block_sector(cow, 1) - 1);
	/* The origin's last block may be short. */
	end_block = to == end ? cow->nr_blocks : cow_sector_block(cow, to - start);
	for (; block < end_block; block = last + 1) {
		last = min(block + COW_EXCLUDE_BLOCKS, end_block) - 1;
		if (!copied_map_populate(&cow->copied, block, last, GFP_KERNEL))
			return -ENOMEM;
		spin_lock_irq(&cow->lock);
		copied_map_set(&cow->copied, block, last);
		spin_unlock_irq(&cow->lock);
		cond_resched();
	}
	if (READ_ONCE(cow->error))
		cow_forget_skipped(cow);
	return 0;
}

/* The writes submitted before the take have landed; see cow_mark_undrained(). */
void cow_set_drained(struct cow *cow)
{
	WRITE_ONCE(cow->is_drained, true);
}

bool cow_has_drained(const struct cow *cow)
{
	return READ_ONCE(cow->is_drained);
}

/*
 * The engine fails, because a write may have passed it, or the data has changed in
 * another way.  It knows too little to make up for the discards it has skipped.
 */
void cow_lose(struct cow *cow, int error)
{
	WRITE_ONCE(cow->is_given_up, true);
	cow_fail(cow, error);
}

/**
 * cow_stop() - end the image and the protection of the origin
 * @cow:	any engine
 *
 * To be called before the tracker retires the engine: from here on image I/O
 * fails, and only then writes may pass that the engine does not see.
 */
void cow_stop(struct cow *cow)
{
	cow_fail(cow, -ESHUTDOWN);
}

bool cow_is_idle(struct cow *cow)
{
	bool is_idle;

	/* With the lock, so that a cow_io_end() under it has returned. */
	spin_lock_irq(&cow->lock);
	is_idle = !atomic_read(&cow->nr_io);
	spin_unlock_irq(&cow->lock);
	return is_idle;
}

/*
 * After cow_stop(), and after the tracker has retired the engine.  Waits for the I/O
 * under way, then for the work of the failure, and ends the other workers, which have
 * nothing to do any more.  When it returns, the engine holds no write and uses nothing
 * of its config.
 */
void cow_shutdown(struct cow *cow)
{
	unsigned int i;

	cow_stop(cow);
	wait_event(cow->progress, cow_is_idle(cow));
	flush_work(&cow->fail_work);
	event_wait_announced(&cow->corrupted);
	flush_work(&cow->discard_work);
	cancel_delayed_work_sync(&cow->starved_work);
	for (i = 0; i < COW_STORES; i++)
		cancel_delayed_work_sync(&cow->stores[i].work);
}

void cow_stats(struct cow *cow, struct cow_stats *stats)
{
	u64 nr_held;

	spin_lock_irq(&cow->lock);
	nr_held = cow->nr_held[false] + cow->nr_held[true];
	stats->copied_bytes = cow->nr_copied << cow->config.block_shift;
	stats->stored_bytes = cow->nr_stored_sectors << SECTOR_SHIFT;
	stats->memory_bytes = (u64)(cow->in_memory[false] + cow->in_memory[true]) <<
			      cow_memory_shift(cow);
	stats->held_writes = nr_held;
	stats->held_writes_total = atomic64_read(&cow->nr_held_total);
	stats->held_ns_total = cow->held_ns + nr_held * ktime_get_ns();
	stats->error = READ_ONCE(cow->error);
	spin_unlock_irq(&cow->lock);
}

int cow_module_init(void)
{
	int ret;

	ret = cow_state_module_init();
	if (ret)
		return ret;
	ret = cow_image_module_init();
	if (ret)
		cow_state_module_exit();
	return ret;
}

/* Waits until the last engine is freed. */
void cow_module_exit(void)
{
	wait_event(cow_live_wait, !atomic_read(&cow_live));
	cow_image_module_exit();
	cow_state_module_exit();
}
