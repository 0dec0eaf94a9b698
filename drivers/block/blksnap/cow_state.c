// SPDX-License-Identifier: GPL-2.0
/*
 * The engine's error, its accounting and its workers
 *
 * The bottom layer of the engine: holding, copying, storing and the image meet here,
 * so that none of them has to know another.  An engine has one error, which is set
 * once.  From then on nothing is added to a list and no I/O begins; cow->fail_work
 * empties the lists.
 *
 * Lock order: cow->lock -> the locks of resubmit, workqueues and wait queues.
 */
#include "blksnap.h"

#include <linux/blkdev.h>
#include <linux/ktime.h>

#include "cow_priv.h"
#include "filter.h"
#include "resubmit.h"
#include "trace.h"

/* How long small copies are collected before they are stored. */
#define COW_STORE_DELAY (HZ / 20)

/* Bios in reserve for all engines: a store submits one before it takes the next. */
#define COW_WRITE_RESERVE 64

struct bio_set cow_write_bios;

/* Its work items never wait for I/O. */
struct workqueue_struct *cow_wq;

/**
 * cow_fail() - the snapshot of this origin fails, once
 * @cow:	the engine
 * @error:	negative errno; -ESHUTDOWN ends the engine without an event
 *
 * From here on no write is held, and image I/O fails.  Held writes are handed back soon,
 * those that wait for a copy as soon as it has been read.
 *
 * Context: Any but NMI, with preemption disabled on PREEMPT_RT, too.
 */
void cow_fail(struct cow *cow, int error)
{
	if (!cmpxchg(&cow->error, 0, error))
		queue_work(cow_wq, &cow->fail_work);
}

/*
 * May the engine still use its devices?  If so, until cow_io_end(); if not, it has
 * failed or is shut down.
 */
bool cow_io_begin(struct cow *cow)
{
	atomic_inc(&cow->nr_io);
	/* Pairs with cmpxchg() in cow_fail(): cow_shutdown() sees the count, or we the error. */
	smp_mb__after_atomic();
	if (likely(!READ_ONCE(cow->error)))
		return true;
	cow_io_end(cow);
	return false;
}

/*
 * Also undoes cow_copy_start().  The caller has a reference or cow->lock, because
 * cow_shutdown() may go on.
 */
void cow_io_end(struct cow *cow)
{
	if (atomic_dec_and_test(&cow->nr_io) && READ_ONCE(cow->error))
		wake_up_all(&cow->progress);
}

/* Length of a run of blocks, the last of which may be short. */
sector_t cow_blocks_to_sectors(const struct cow *cow, u64 first, u64 last)
{
	sector_t end = min(cow_block_sector(cow, last + 1), cow->config.nr_sectors);

	return end - cow_block_sector(cow, first);
}

/*
 * How many more blocks may be copied.  Writeback takes all it can get, so a part is
 * left to synchronous writes, and these leave a part to writeback that waits.
 */
unsigned int cow_room(const struct cow *cow, bool is_sync)
{
	unsigned int in_memory = READ_ONCE(cow->in_memory[is_sync]);
	unsigned int others = READ_ONCE(cow->in_memory[!is_sync]);
	unsigned int max = cow->max_in_memory, limit = max;

	if (!is_sync || READ_ONCE(cow->starved[false].head))
		limit -= max / 4;
	limit = min(limit, max - min(max, others));
	return limit > in_memory ? limit - in_memory : 0;
}

/* Accounts for writes put on a list, or taken off if @nr_writes is negative. */
void cow_account_held(struct cow *cow, bool is_sync, int nr_writes)
{
	lockdep_assert_held(&cow->lock);
	WRITE_ONCE(cow->nr_held[is_sync], cow->nr_held[is_sync] + nr_writes);
	cow->held_ns -= nr_writes * (s64)ktime_get_ns();
	if (nr_writes < 0 && cow->nr_held[is_sync] == cow->max_held - 1)
		wake_up_all(&cow->throttled);
}

/*
 * Lets a write wait for memory.  It is retried when a batch has been stored, and from
 * time to time.
 */
void cow_add_starved(struct cow *cow, struct bio *bio)
{
	bool is_sync = op_is_sync(bio->bi_opf);

	lockdep_assert_held(&cow->lock);
	if (!cow->is_starving) {
		cow->is_starving = true;
		cow->starving_since = jiffies;
	}
	cow_account_held(cow, is_sync, 1);
	bio_list_add(&cow->starved[is_sync], bio);
	cow_kick_store(cow);
	queue_delayed_work(cow_wq, &cow->starved_work, COW_STARVED_INTERVAL);
}

/* Hands held writes back to be judged again, until they cover @nr_blocks. */
void cow_hand_back(struct cow *cow, struct bio_list *bios, unsigned int nr_blocks)
{
	unsigned int nr_done = 0;
	struct bio *bio;

	lockdep_assert_held(&cow->lock);
	while (nr_done < nr_blocks && (bio = bio_list_pop(bios))) {
		nr_done += cow_sector_block(cow, bio_sectors(bio)) + 1;
		cow_account_held(cow, op_is_sync(bio->bi_opf), -1);
		trace_blksnap_release(cow->origin_dev,
				      filter_bio_sector(bio) - cow->config.start,
				      bio_sectors(bio));
		resubmit_bio(cow->config.resubmit, bio);
	}
}

/* Hands back as many of the writes that wait for memory as @nr_blocks are enough for. */
void cow_retry_starved(struct cow *cow, unsigned int nr_blocks)
{
	lockdep_assert_held(&cow->lock);
	cow_hand_back(cow, &cow->starved[true], min(nr_blocks, cow_room(cow, true)));
	cow_hand_back(cow, &cow->starved[false], min(nr_blocks, cow_room(cow, false)));
}

/* Is it time to store, or better to wait for more copies? */
bool cow_must_store(const struct cow *cow)
{
	lockdep_assert_held(&cow->lock);
	/* A quarter of a full batch keeps a device as busy as a full one. */
	return cow->nr_unstored >= max(1U, cow_run_max_blocks(cow) / 4) || cow->nr_hurried ||
	       !bio_list_empty(&cow->starved[true]) || !bio_list_empty(&cow->starved[false]);
}

/* Makes sure that unstored copies will be stored. */
void cow_kick_store(struct cow *cow)
{
	unsigned long nr = find_first_zero_bit(&cow->busy_stores, COW_STORES);

	lockdep_assert_held(&cow->lock);
	if (!cow->nr_unstored || nr == COW_STORES)
		return;
	if (cow_must_store(cow)) {
		__set_bit(nr, &cow->busy_stores);
		mod_delayed_work(cow->config.queues->store, &cow->stores[nr].work, 0);
	} else if (!cow->busy_stores) {
		queue_delayed_work(cow->config.queues->store, &cow->stores[nr].work,
				   COW_STORE_DELAY);
	}
}

void cow_queues_exit(struct cow_queues *queues)
{
	if (queues->write)
		destroy_workqueue(queues->write);
	if (queues->read)
		destroy_workqueue(queues->read);
	if (queues->store)
		destroy_workqueue(queues->store);
}

int cow_queues_init(struct cow_queues *queues)
{
	const unsigned int flags = WQ_MEM_RECLAIM | WQ_UNBOUND;

	queues->store = alloc_workqueue("blksnap_store", flags, 0);
	queues->read = alloc_workqueue("blksnap_read", flags, 0);
	queues->write = alloc_workqueue("blksnap_write", flags, 0);
	if (queues->store && queues->read && queues->write)
		return 0;
	cow_queues_exit(queues);
	return -ENOMEM;
}

int cow_state_module_init(void)
{
	int ret = bioset_init(&cow_write_bios, COW_WRITE_RESERVE, 0, BIOSET_NEED_BVECS);

	if (ret)
		return ret;
	cow_wq = alloc_workqueue("blksnap_cow", WQ_MEM_RECLAIM | WQ_UNBOUND, 0);
	if (cow_wq)
		return 0;
	bioset_exit(&cow_write_bios);
	return -ENOMEM;
}

void cow_state_module_exit(void)
{
	destroy_workqueue(cow_wq);
	bioset_exit(&cow_write_bios);
}
