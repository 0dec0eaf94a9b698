// SPDX-License-Identifier: GPL-2.0
/*
 * Storing of in-memory copies
 *
 * A worker of its own appends the copies to the difference storage, many small
 * ones with one bio, enters their extents and frees their memory.  Writes never
 * wait for it, except when the memory for copies is used up.
 *
 * A batch is taken off cow->unstored, but its copies stay in cow->copies and
 * are read from there until their extents are in the map.
 *
 * Lock order: cow->lock; the storage's lock is not taken inside it.
 */
#include "blksnap.h"

#include <linux/blkdev.h>
#include <linux/mm.h>

#include "cow_priv.h"
#include "diff_storage.h"
#include "trace.h"

/* How long small copies are collected before they are stored. */
#define COW_STORE_DELAY (HZ / 20)

/* Bios in reserve for all engines: who has one submits it before the next. */
#define COW_WRITE_RESERVE 64

struct bio_set cow_write_bios;

/* Releasing never waits for this queue, so it may wait for anything else. */
static struct workqueue_struct *cow_store_wq;

/**
 * cow_store_kick() - see to it that unstored copies get stored
 * @cow:	the engine
 * @at_once:	not only after more of them have been collected
 *
 * Context: Any.
 */
void cow_store_kick(struct cow *cow, bool at_once)
{
	if (at_once || READ_ONCE(cow->nr_unstored) >= cow_run_max_blocks(cow))
		mod_delayed_work(cow_store_wq, &cow->store_work, 0);
	else
		queue_delayed_work(cow_store_wq, &cow->store_work, COW_STORE_DELAY);
}

/* Takes copies for one batch, oldest first. */
static void cow_collect(struct cow *cow, struct list_head *batch)
{
	unsigned int nr_blocks = 0;

	spin_lock_irq(&cow->lock);
	while (!list_empty(&cow->unstored)) {
		struct cow_copy *copy = list_first_entry(&cow->unstored, struct cow_copy, link);

		nr_blocks += cow_copy_blocks(copy);
		if (nr_blocks > cow_run_max_blocks(cow) && !list_empty(batch))
			break;
		list_move_tail(&copy->link, batch);
		cow->nr_unstored -= cow_copy_blocks(copy);
	}
	spin_unlock_irq(&cow->lock);
}

/* What a copy takes in the storage: whole units, padded with zeros. */
static sector_t cow_storage_sectors(const struct cow_copy *copy)
{
	return ALIGN(cow_blocks_to_sectors(copy->cow, copy->range.first, copy->range.last),
		     DIFF_STORAGE_ALIGN_SECTORS);
}

static sector_t cow_batch_left(const struct list_head *batch)
{
	struct cow_copy *copy;
	sector_t nr_sectors = 0;

	list_for_each_entry(copy, batch, link)
		nr_sectors += cow_storage_sectors(copy) - copy->stored;
	return nr_sectors;
}

/* Adds the part of a copy that is to go into a region to the bio that writes it. */
static bool cow_add_copy(struct bio *bio, const struct cow_copy *copy)
{
	unsigned int block_shift = copy->cow->config.block_shift;
	u64 from = (u64)copy->stored << SECTOR_SHIFT;
	u64 to = from + ((u64)copy->storing << SECTOR_SHIFT);

	while (from < to) {
		unsigned int offset = from & (cow_block_bytes(copy->cow) - 1);
		unsigned int nr_bytes = min_t(u64, to - from,
					      cow_block_bytes(copy->cow) - offset);
		struct page *page = copy->bio.bi_io_vec[from >> block_shift].bv_page;

		if (bio_add_page(bio, page, nr_bytes, offset) != nr_bytes)
			return false;
		from += nr_bytes;
	}
	return true;
}

/*
 * All memory may be waiting for held writes, and they for this copy: to be
 * swapped out, say.  So an extent may come from the reserves of the system: it
 * is a hundredth of the memory that is free once the copy is stored.
 */
static struct extent *cow_alloc_extent(void)
{
	return extent_alloc(GFP_NOIO | __GFP_NORETRY | __GFP_NOWARN) ?:
	       extent_alloc(GFP_NOWAIT | __GFP_MEMALLOC | __GFP_NOWARN) ?:
	       extent_alloc(GFP_NOIO);
}

/* Before a region is taken, for that cannot be given back. */
static int cow_alloc_extents(struct list_head *batch)
{
	struct cow_copy *copy;

	list_for_each_entry(copy, batch, link) {
		if (!copy->extent)
			copy->extent = cow_alloc_extent();
		if (!copy->extent)
			return -ENOMEM;
	}
	return 0;
}

/* Shares a region out to the copies of a batch; the last ones may get nothing. */
static void cow_assign_region(struct list_head *batch, u64 position, sector_t nr_sectors)
{
	struct cow_copy *copy;

	list_for_each_entry(copy, batch, link) {
		copy->storing = min(cow_storage_sectors(copy) - copy->stored, nr_sectors);
		copy->position = position;
		position += copy->storing;
		nr_sectors -= copy->storing;
	}
}

/* One bio is enough: a batch has no more blocks than that has entries. */
static int cow_write_region(struct list_head *batch, const struct diff_range *region)
{
	struct cow_copy *copy;
	struct bio *bio;
	int ret = 0;

	bio = bio_alloc_bioset(region->bdev, BIO_MAX_VECS, REQ_OP_WRITE, GFP_NOIO,
			       &cow_write_bios);
	bio->bi_iter.bi_sector = region->sector;
	list_for_each_entry(copy, batch, link)
		if (WARN_ON_ONCE(!cow_add_copy(bio, copy)))
			ret = -EIO;
	ret = ret ?: submit_bio_wait(bio);
	bio_put(bio);
	return ret;
}

/* Enters what has been written of one copy; true if that was the rest of it. */
static bool cow_commit_copy(struct cow *cow, struct cow_copy *copy)
{
	static_assert(DIFF_STORAGE_POSITION_BITS <= EXTENT_SECTOR_BITS);
	static_assert((1ULL << (COW_RUN_MAX_SHIFT - SECTOR_SHIFT)) <= EXTENT_MAX_SECTORS);
	sector_t sector = (copy->range.first << cow_sector_shift(cow)) + copy->stored;
	/* Without the padding behind the origin's end. */
	sector_t nr_sectors = min(copy->storing, cow->config.nr_sectors - sector);

	lockdep_assert_held(&cow->lock);
	extent_map_insert(&cow->extents, copy->extent, sector, nr_sectors, copy->position);
	copy->extent = NULL;
	copy->stored += copy->storing;
	cow->nr_stored_sectors += copy->storing;
	trace_blksnap_stored(cow->origin_dev, sector, nr_sectors);
	copy->storing = 0;
	return copy->stored == cow_storage_sectors(copy);
}

static void cow_forget_copy(struct cow *cow, struct cow_copy *copy, struct list_head *forgotten)
{
	lockdep_assert_held(&cow->lock);
	range_lock_del(&cow->copies, &copy->range);
	cow->in_memory -= cow_copy_blocks(copy);
	list_move(&copy->link, forgotten);
}

static void cow_put_copies(struct list_head *copies)
{
	struct cow_copy *copy, *next;

	list_for_each_entry_safe(copy, next, copies, link)
		cow_copy_put(copy);
}

/* Makes what has been written readable, and room in memory for more. */
static void cow_commit(struct cow *cow, struct list_head *batch)
{
	struct cow_copy *copy, *next;
	LIST_HEAD(forgotten);

	spin_lock_irq(&cow->lock);
	list_for_each_entry_safe(copy, next, batch, link)
		if (copy->storing && cow_commit_copy(cow, copy))
			cow_forget_copy(cow, copy, &forgotten);
	cow->is_starving = false;
	wake_up_all(&cow->progress);
	spin_unlock_irq(&cow->lock);

	cow_put_copies(&forgotten);
	cow_retry_starved(cow);
}

static int cow_store_batch(struct cow *cow, struct list_head *batch)
{
	struct diff_range region;
	u64 position;
	int ret;

	do {
		ret = cow_alloc_extents(batch);
		if (ret)
			return ret;
		ret = diff_storage_alloc(cow->config.storage, cow_batch_left(batch), &position,
					 &region);
		if (ret)
			return ret;
		cow_assign_region(batch, position, region.nr_sectors);
		ret = cow_write_region(batch, &region);
		if (ret)
			return ret;
		cow_commit(cow, batch);
	} while (!list_empty(batch));
	return 0;
}

/**
 * cow_store_drop() - free the copies of a failed engine
 * @cow:	engine with an error
 *
 * Copies that are still being read, or stored, are dropped when that is done.
 *
 * Context: Process context.
 */
void cow_store_drop(struct cow *cow)
{
	struct cow_copy *copy, *next;
	LIST_HEAD(forgotten);

	spin_lock_irq(&cow->lock);
	list_for_each_entry_safe(copy, next, &cow->unstored, link)
		cow_forget_copy(cow, copy, &forgotten);
	cow->nr_unstored = 0;
	spin_unlock_irq(&cow->lock);
	cow_put_copies(&forgotten);
}

static void cow_break_batch(struct cow *cow, struct list_head *batch, int error)
{
	spin_lock_irq(&cow->lock);
	list_splice_init(batch, &cow->unstored);
	spin_unlock_irq(&cow->lock);
	cow_break(cow, error);
}

/**
 * cow_store_work() - store batch after batch
 * @work:	of the engine
 */
void cow_store_work(struct work_struct *work)
{
	struct cow *cow = container_of(to_delayed_work(work), struct cow, store_work);
	LIST_HEAD(batch);
	int ret = 0;

	if (!cow_io_begin(cow)) {
		cow_store_drop(cow);
		return;
	}
	while (!ret && !READ_ONCE(cow->error)) {
		cow_collect(cow, &batch);
		if (list_empty(&batch))
			break;
		ret = cow_store_batch(cow, &batch);
	}
	if (ret)
		cow_break_batch(cow, &batch, ret);
	if (READ_ONCE(cow->error))
		cow_store_drop(cow);
	cow_io_end(cow);
}

/**
 * cow_store_module_init() - set up what all engines share for storing
 *
 * Return: 0 or -ENOMEM.
 */
int cow_store_module_init(void)
{
	int ret;

	ret = bioset_init(&cow_write_bios, COW_WRITE_RESERVE, 0, BIOSET_NEED_BVECS);
	if (ret)
		return ret;
	cow_store_wq = alloc_workqueue("blksnap_store", WQ_MEM_RECLAIM | WQ_UNBOUND, 0);
	if (!cow_store_wq) {
		bioset_exit(&cow_write_bios);
		return -ENOMEM;
	}
	return 0;
}

/**
 * cow_store_module_exit() - undo cow_store_module_init()
 */
void cow_store_module_exit(void)
{
	destroy_workqueue(cow_store_wq);
	bioset_exit(&cow_write_bios);
}
