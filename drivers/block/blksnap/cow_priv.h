/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The engine's inside, shared by the files cow*.c
 *
 * cow.c holds and releases writes; cow_copy.c reads old data into memory;
 * cow_store.c stores what was read; cow_image.c serves the image.
 *
 * All units here are blocks of the engine unless a name says sectors or bytes;
 * block 0 starts at the origin's first sector, and the last block may be cut
 * short by the origin's end.
 */
#ifndef BLKSNAP_COW_PRIV_H
#define BLKSNAP_COW_PRIV_H

#include <linux/bio.h>
#include <linux/kref.h>
#include <linux/mempool.h>
#include <linux/refcount.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "cow.h"
#include "event_queue.h"
#include "extent_map.h"
#include "range_lock.h"
#include "releaser.h"
#include "sparse_map.h"

/* The longest run of blocks read or stored with one bio. */
#define COW_RUN_MAX_SHIFT COW_BLOCK_SHIFT_MAX	/* with 4 KiB blocks, a full bio */

#define COW_BITS_PER_PAGE (PAGE_SIZE * BITS_PER_BYTE)

/**
 * enum cow_copy_state - life of an in-memory copy
 * @COW_READING: old data is being read, or taken from an image write
 * @COW_READ:	old data is here, but image reads that were sent to the origin
 *		before are not back yet, so the blocks may not change
 * @COW_COPIED:	the blocks are marked as copied, writes to them pass
 */
enum cow_copy_state {
	COW_READING,
	COW_READ,
	COW_COPIED,
};

/**
 * struct cow_copy - old data of a run of blocks, in memory until stored
 * @range:	the blocks, in cow->copies until stored or dropped
 * @link:	in cow->unstored or in the list of a batch being stored
 * @cow:	the engine
 * @refs:	held by cow->copies, and by each image read that copies from it
 * @state:	see there; under cow->lock
 * @waiters:	writes to be judged again once the state is COW_COPIED; under
 *		cow->lock
 * @stored:	sectors already in extents; only the storing worker uses it
 * @storing:	sectors being stored after these; likewise
 * @position:	where in the storage they go; likewise
 * @extent:	made ready for them; likewise
 * @bio:	reads the old data; its vector goes on holding it, one entry a block
 */
struct cow_copy {
	struct block_range_node range;
	struct list_head link;
	struct cow *cow;
	refcount_t refs;
	enum cow_copy_state state;
	struct bio_list waiters;

	sector_t stored;
	sector_t storing;
	u64 position;
	struct extent *extent;

	struct bio bio;		/* last, its inline vector follows */
};

struct cow_image_read;

/**
 * struct cow - keeps the old data of one origin
 * @kref:	held by the snapshot, by its image's disk, and for the time of a
 *		call by whoever found the engine through its tracker
 * @config:	what it works on; invalid once cow_shutdown() has returned
 * @origin_dev:	number of the origin, for traces
 * @diskseq:	of the origin's disk; another one means another medium
 * @nr_blocks:	blocks of the origin
 * @max_in_memory: blocks that may be in memory before writes wait for memory
 * @block_pool:	memory of one block
 * @copy_bios:	struct cow_copy
 * @later:	held writes to be judged in a worker
 * @ready:	held writes to be submitted
 * @image_writes: writes to the image
 * @copied:	a bit for each block; set under the lock, tested without
 * @error:	0, or the negative errno that ended the engine; set once
 * @nr_io:	copies being read, image bios and batches: whatever uses @config
 * @in_memory:	blocks in memory or being read
 * @copies:	in-memory copies
 * @readers:	image reads under way on the origin
 * @spare_reads: descriptions of image reads, for the next ones
 * @nr_spare_reads: how many
 * @extents:	what is stored, by origin sector
 * @unstored:	copies in state COW_COPIED that wait to be stored
 * @starved:	writes that wait for memory
 * @store_work:	stores in-memory copies
 * @starved_work: retries or gives up what is in @starved
 * @nr_held_total: writes that had to be held so far
 * @progress:	woken when a copy has been stored or the engine has failed
 * @corrupted:	the event that says so
 * @lock:	guards what follows
 * @nr_unstored: blocks in @unstored
 * @nr_copied:	blocks copied so far
 * @nr_stored_sectors: sectors taken from the storage so far
 * @nr_unsettled: copies that are not COW_COPIED yet
 * @is_starving: writes wait in @starved, and nothing has made progress since
 * @starving_since: the jiffies since when
 * @nr_held:	writes on a list at this moment
 * @held_ns:	ends minus beginnings of their being on a list, summed
 *
 * RCU covers finding an engine through its tracker.
 */
struct cow {
	struct kref kref;
	struct cow_config config;
	dev_t origin_dev;
	u64 diskseq;
	u64 nr_blocks;
	unsigned int max_in_memory;
	mempool_t block_pool;
	struct bio_set copy_bios;
	struct releaser later;
	struct releaser ready;
	struct releaser image_writes;
	struct delayed_work store_work;
	struct delayed_work starved_work;
	wait_queue_head_t progress;
	atomic64_t nr_held_total;
	struct event corrupted;
	struct sparse_map copied;

	spinlock_t lock;	/* everything below; irq-safe */
	int error;
	unsigned int nr_io;
	unsigned int in_memory;
	unsigned int nr_unsettled;
	unsigned int nr_unstored;
	struct range_lock copies;
	struct range_lock readers;
	struct cow_image_read *spare_reads;
	unsigned int nr_spare_reads;
	struct extent_map extents;
	struct list_head unstored;
	struct bio_list starved;
	bool is_starving;
	unsigned long starving_since;
	u64 nr_copied;
	u64 nr_stored_sectors;
	u64 nr_held;
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

static inline unsigned int cow_copy_blocks(const struct cow_copy *copy)
{
	return copy->range.last - copy->range.first + 1;
}

/* As cow_next_uncopied(), for one block. */
static inline bool cow_is_copied(const struct cow *cow, u64 block)
{
	const unsigned long *bits = sparse_map_page(&cow->copied, block / COW_BITS_PER_PAGE);

	return bits && test_bit(block % COW_BITS_PER_PAGE, bits);
}

extern struct workqueue_struct *cow_image_wq;

u64 cow_next_uncopied(const struct cow *cow, u64 first, u64 last);
u64 cow_next_copied(const struct cow *cow, u64 first, u64 last);
sector_t cow_blocks_to_sectors(const struct cow *cow, u64 first, u64 last);
bool cow_populate(struct cow *cow, u64 first, u64 last, gfp_t gfp);
void cow_set_copied(struct cow *cow, u64 first, u64 last);
unsigned int cow_run_blocks(struct cow *cow, u64 first, u64 last);

struct cow_copy *cow_copy_alloc(struct cow *cow, u64 first, unsigned int nr_blocks, gfp_t gfp);
bool cow_copy_start(struct cow *cow, struct cow_copy *copy);
void cow_copy_read(struct cow_copy *copy);
void cow_copy_filled(struct cow_copy *copy);
void cow_copy_put(struct cow_copy *copy);
void cow_copies_settle(struct cow *cow, u64 first, u64 last, struct bio_list *ready);

bool cow_io_begin(struct cow *cow);
void cow_io_end(struct cow *cow);
void cow_io_end_locked(struct cow *cow);
void cow_account_held(struct cow *cow, int nr_writes);

void cow_store_work(struct work_struct *work);
void cow_retry_starved(struct cow *cow);
void cow_store_kick(struct cow *cow, bool at_once);
void cow_store_drop(struct cow *cow);

void cow_image_write(void *data, struct bio *bio);
void cow_free_spare_reads(struct cow *cow);
int cow_store_module_init(void);
void cow_store_module_exit(void);
int cow_image_module_init(void);
void cow_image_module_exit(void);

#endif /* BLKSNAP_COW_PRIV_H */
