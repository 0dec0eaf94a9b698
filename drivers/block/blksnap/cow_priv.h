/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The engine's inside, shared by the files cow*.c
 *
 *	cow.c			create, stop, fail; exclude; statistics
 *	cow_hold.c		hold a write
 *	cow_skip.c		skip a discard, and make up for it
 *	cow_image.c		serve the image
 *	cow_store.c		store copies
 *	cow_copy.c		read old data into memory
 *	cow_state.c		the object: its error, its accounting, its workers
 *
 * Calls go down this list only; cow_skip.c, cow_image.c and cow_store.c do not call
 * each other.
 *
 * All units are blocks of the engine unless a name says sectors or bytes.  Block
 * 0 starts at the origin's first sector, and the last block may be cut short by
 * the origin's end.
 */
#ifndef BLKSNAP_COW_PRIV_H
#define BLKSNAP_COW_PRIV_H

#include <linux/bio.h>
#include <linux/cache.h>
#include <linux/kref.h>
#include <linux/mempool.h>
#include <linux/refcount.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "copied_map.h"
#include "cow.h"
#include "event_queue.h"
#include "extent_map.h"
#include "range_set.h"

/* The longest run of blocks read or stored with one bio. */
#define COW_RUN_MAX_SHIFT COW_BLOCK_SHIFT_MAX	/* with 4 KiB blocks, a full bio */

/* How often writes that wait for memory are retried when nothing is stored. */
#define COW_STARVED_INTERVAL (HZ / 5)

/* Batches of one engine that may be on their way to the storage at the same time. */
#define COW_STORES 4

/* The blocks of an engine that a bio touches. */
struct cow_span {
	u64 first;
	u64 last;
};

/**
 * struct cow_copy - old data of a run of blocks, in memory until stored
 * @range:	the blocks, in cow->copies until stored or dropped
 * @link:	in cow->unstored or in the batch of a store
 * @cow:	the engine
 * @refs:	held by cow->copies, and by each image bio that looks at it
 * @is_sync:	class of the write that wanted it
 * @is_ahead:	it has more than that write wanted: if it cannot be read, that is no failure
 * @is_filled:	the old data is in memory; changed under cow->lock
 * @copied_at:	when the old data was in memory, in jiffies
 * @waiters:	writes to be judged again at that time; under cow->lock
 * @stored:	sectors already in extents; only the storing worker uses it
 * @storing:	sectors being stored after these; likewise
 * @position:	where in the storage they go; likewise
 * @extent:	allocated for them; likewise
 * @bvec:	of one block, in a copy from cow->spare_copies
 * @bio:	reads the old data; its vector then holds it, one entry per block
 *
 * The blocks are marked as copied as soon as the old data is in memory.  One that is
 * marked before that became storage while it was read, and has zeros in the image.
 */
struct cow_copy {
	struct block_range range;
	struct list_head link;
	struct cow *cow;
	refcount_t refs;
	bool is_sync;
	bool is_ahead;
	bool is_filled;
	unsigned long copied_at;
	struct bio_list waiters;

	sector_t stored;
	sector_t storing;
	u64 position;
	struct extent *extent;

	struct bio_vec bvec;
	struct bio bio;		/* last, its inline vector follows */
};

/**
 * struct cow_store - stores one batch after the other
 * @work:	the worker
 * @cow:	the engine
 * @batch:	copies being stored; changed by the worker under cow->lock
 */
struct cow_store {
	struct delayed_work work;
	struct cow *cow;
	struct list_head batch;
};

/**
 * struct cow - keeps the old data of one origin
 * @copied:	a bit for each block; set under the lock, tested without
 * @error:	0, or the negative errno that ended the engine; set once, without
 *		the lock
 * @config:	what it works on; invalid once cow_shutdown() has returned
 * @skipped:	a bit for each block that a skipped discard has hit; as @copied
 * @may_skip:	there is memory for @skipped, as the origin can discard
 * @is_given_up: no discard is begun any more: a write may have passed the engine, or it
 *		took too long
 * @origin_dev:	number of the origin, for traces
 * @diskseq:	of the origin's disk; another one means another medium
 * @nr_blocks:	blocks of the origin
 * @max_in_memory: blocks that may be in memory before writes wait for memory
 * @max_held:	writes of a class that may be held before submitters wait
 * @kref:	held by the snapshot, by its image's disk, and by each call that found
 *		the engine through its tracker
 * @nr_io:	what uses @config: copies being read, image bios and stores
 * @nr_held_total: writes that had to be held so far
 * @next_in_order: where the next write has to need a block first, to be in order
 * @nr_in_order: writes in order so far, each of which needed blocks that were not copied
 * @is_ahead_bad: a copy ahead could not be read, so nothing is copied ahead any more
 * @is_drained:	no write submitted before the take is in flight
 * @block_pool:	memory of one block
 * @copy_bios:	struct cow_copy
 * @spare_copies: the same, of one block, for when there is no other
 * @spare_lock:	guards the next two
 * @spare_pages: memory of blocks that is kept for the next copies
 * @nr_spare_pages: their number
 * @fail_work:	does what cow_fail() may not do
 * @discard_work: discards what is in @skipped, once the engine has ended
 * @discard_bio: the discard under way
 * @starved_work: retries the writes in @starved, or fails a stalled engine
 * @progress:	woken when copies have been stored, the engine has failed, or a
 *		failed one is idle
 * @throttled:	submitters in cow_throttle()
 * @corrupted:	the event that reports the failure
 * @lock:	guards everything below
 * @copies:	in-memory copies
 * @extents:	what is stored, by origin sector
 * @unstored:	copies that wait to be stored, oldest first
 * @starved:	writes that wait for memory: synchronous ones are in the second
 * @stores:	take from @unstored
 * @busy_stores: bit mask of the stores at work, or queued without delay
 * @nr_hurried:	image writes that wait until something is stored
 * @discarded:	blocks that are being discarded
 * @is_discarding: there are some
 * @has_discarded: @discard_work has discarded what it could; set once, without the lock
 * @discard_waiters: writes of these blocks
 * @in_memory:	blocks in memory or being read, for each class of write
 * @nr_reading:	copies being read
 * @nr_unstored: blocks in @unstored
 * @is_starving: writes wait in @starved, or did at the last look
 * @starving_since: jiffies; moved on by every batch that has been stored
 * @nr_copied:	blocks copied so far
 * @nr_stored_sectors: sectors taken from the storage so far
 * @nr_held:	writes on a list, for each class as in @starved
 * @held_ns:	ends minus beginnings of their times on a list, summed
 *
 * RCU covers finding an engine through its tracker.  The fields that every write reads
 * come first, on cache lines that are hardly ever written.
 */
struct cow {
	struct copied_map copied;
	int error;
	struct cow_config config;
	struct copied_map skipped;
	bool may_skip;
	bool is_given_up;
	dev_t origin_dev;
	u64 diskseq;
	u64 nr_blocks;
	unsigned int max_in_memory;
	unsigned int max_held;

	struct kref kref ____cacheline_aligned_in_smp;
	atomic_t nr_io;
	atomic64_t nr_held_total;
	u64 next_in_order;
	unsigned int nr_in_order;
	bool is_ahead_bad;
	bool is_drained;
	mempool_t block_pool;
	struct bio_set copy_bios;
	mempool_t spare_copies;
	spinlock_t spare_lock;		/* the next two; irq-safe */
	struct list_head spare_pages;
	unsigned int nr_spare_pages;
	struct work_struct fail_work;
	struct work_struct discard_work;
	struct bio discard_bio;
	struct delayed_work starved_work;
	wait_queue_head_t progress;
	wait_queue_head_t throttled;
	struct event corrupted;

	spinlock_t lock ____cacheline_aligned_in_smp;	/* everything below; irq-safe */
	struct range_set copies;
	struct extent_map extents;
	struct list_head unstored;
	struct bio_list starved[2];
	struct cow_store stores[COW_STORES];
	unsigned long busy_stores;
	unsigned int nr_hurried;
	struct cow_span discarded;
	bool is_discarding;
	bool has_discarded;
	struct bio_list discard_waiters;
	unsigned int in_memory[2];
	unsigned int nr_reading;
	unsigned int nr_unstored;
	bool is_starving;
	unsigned long starving_since;
	u64 nr_copied;
	u64 nr_stored_sectors;
	unsigned int nr_held[2];
	s64 held_ns;
};

/* Between cow_io_begin() and cow_io_end(). */
static inline bool cow_medium_is_same(const struct cow *cow)
{
	return cow->config.origin->bd_disk->diskseq == cow->diskseq;
}

static inline unsigned int cow_sector_shift(const struct cow *cow)
{
	return cow->config.block_shift - SECTOR_SHIFT;
}

static inline unsigned int cow_block_bytes(const struct cow *cow)
{
	return 1U << cow->config.block_shift;
}

static inline unsigned int cow_run_max_blocks(const struct cow *cow)
{
	return 1U << (COW_RUN_MAX_SHIFT - cow->config.block_shift);
}

static inline u64 cow_sector_block(const struct cow *cow, sector_t sector)
{
	return sector >> cow_sector_shift(cow);
}

static inline sector_t cow_block_sector(const struct cow *cow, u64 block)
{
	return block << cow_sector_shift(cow);
}

static inline unsigned int cow_copy_blocks(const struct cow_copy *copy)
{
	return copy->range.last - copy->range.first + 1;
}

/*
 * The blocks of the engine that a bio hits, from its first sector on the disk.  False if
 * it is beyond the engine: the origin may have grown after the take.
 */
static inline bool cow_bio_span(const struct cow *cow, const struct bio *bio, sector_t sector,
				struct cow_span *span)
{
	sector_t start = cow->config.start, end = start + cow->config.nr_sectors;

	if (sector >= end)
		return false;
	span->first = cow_sector_block(cow, max(sector, start) - start);
	span->last = cow_sector_block(cow, min(sector + bio_sectors(bio), end) - start - 1);
	return true;
}

/* cow_state.c */
extern struct workqueue_struct *cow_wq;

int cow_state_module_init(void);
void cow_state_module_exit(void);
bool cow_io_begin(struct cow *cow);
void cow_io_end(struct cow *cow);
sector_t cow_blocks_to_sectors(const struct cow *cow, u64 first, u64 last);
unsigned int cow_room(const struct cow *cow, bool is_sync);
void cow_account_held(struct cow *cow, bool is_sync, int nr_writes);
void cow_add_starved(struct cow *cow, struct bio *bio);
void cow_hand_back(struct cow *cow, struct bio_list *bios, unsigned int nr_blocks);
void cow_retry_starved(struct cow *cow, unsigned int nr_blocks);
bool cow_must_store(const struct cow *cow);
void cow_kick_store(struct cow *cow);

/* cow_copy.c */
struct cow_copy *cow_find_copy(struct cow *cow, u64 first, u64 last);
unsigned int cow_run_blocks(struct cow *cow, u64 first, u64 last);
struct cow_copy *cow_copy_alloc(struct cow *cow, u64 first, unsigned int nr_wanted,
				unsigned int nr_blocks);
bool cow_copy_start(struct cow *cow, struct cow_copy *copy, bool is_sync);
void cow_copy_read(struct cow_copy *copy);
void cow_copy_filled(struct cow_copy *copy);
void cow_copy_put(struct cow_copy *copy);
void cow_forget_copy(struct cow *cow, struct cow_copy *copy, struct list_head *forgotten);
void cow_put_copies(struct list_head *copies);
void cow_drop_copies(struct cow *cow, struct list_head *copies);
void cow_free_spare_pages(struct cow *cow);

/* cow_skip.c */
bool cow_must_wait(const struct cow *cow, const struct bio *bio, const struct cow_span *span);
bool cow_pass(struct cow *cow, struct bio *bio, const struct cow_span *span);
bool cow_skip(struct cow *cow, struct bio *bio);
void cow_discard_work(struct work_struct *work);

/* For cow.c: workers, and what all images share. */
void cow_starved_work(struct work_struct *work);
void cow_store_work(struct work_struct *work);
int cow_image_module_init(void);
void cow_image_module_exit(void);

#endif /* BLKSNAP_COW_PRIV_H */
