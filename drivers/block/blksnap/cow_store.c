// SPDX-License-Identifier: GPL-2.0
/*
 * Storing of in-memory copies
 *
 * A few workers of each engine append copies to the difference storage, many small ones
 * with one bio, enter their extents and free their memory.  One worker is enough for a
 * storage without latency; the others start when a batch is ready while earlier ones
 * are being written.  Writes wait for them only when the memory for copies is used up.
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

/* If nothing was stored for so long, the memory that is kept for copies is freed. */
#define COW_SPARE_TIMEOUT HZ

/*
 * Takes copies for one batch, oldest first.  A store that finds none rests, and so does
 * one that would only take small pieces away from another one at work.
 */
static bool cow_collect(struct cow_store *store)
{
	unsigned int nr = store - store->cow->stores, nr_blocks = 0;
	struct cow *cow = store->cow;
	struct cow_copy *copy;
	bool has_batch;

	spin_lock_irq(&cow->lock);
	__set_bit(nr, &cow->busy_stores);
	if (READ_ONCE(cow->error) || (cow->busy_stores != BIT(nr) && !cow_must_store(cow)))
		goto out_unlock;
	while ((copy = list_first_entry_or_null(&cow->unstored, struct cow_copy, link))) {
		nr_blocks += cow_copy_blocks(copy);
		if (nr_blocks > cow_run_max_blocks(cow) && !list_empty(&store->batch))
			break;
		list_move_tail(&copy->link, &store->batch);
		cow->nr_unstored -= cow_copy_blocks(copy);
	}
	if (cow_must_store(cow))
		cow_kick_store(cow);
out_unlock:
	has_batch = !list_empty(&store->batch);
	if (!has_batch)
		__clear_bit(nr, &cow->busy_stores);
	spin_unlock_irq(&cow->lock);
	return has_batch;
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

		/* Tells cow_stores() whose it is, if it comes back. */
		set_page_private(page, (unsigned long)copy->cow->config.storage);
		if (bio_add_page(bio, page, nr_bytes, offset) != nr_bytes)
			return false;
		from += nr_bytes;
	}
	return true;
}

/*
 * All memory may be waiting for held writes, and these for this copy, as when swapping
 * out.  So an extent may come from the system's reserves: it is a hundredth of the
 * memory that is freed once the copy is stored.
 */
static struct extent *cow_alloc_extent(void)
{
	return extent_alloc(GFP_NOIO | __GFP_NORETRY | __GFP_NOWARN) ?:
	       extent_alloc(GFP_NOWAIT | __GFP_MEMALLOC | __GFP_NOWARN) ?:
	       extent_alloc(GFP_NOIO);
}

/* Before a region is taken, because that cannot be given back. */
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

/* Divides a region among the copies of a batch; the last ones may get nothing. */
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

/* One bio is enough: it has an entry for each block of a batch. */
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

/* Enters what was written of one copy; true if that was the rest of it. */
static bool cow_commit_copy(struct cow *cow, struct cow_copy *copy)
{
	static_assert(DIFF_STORAGE_POSITION_BITS <= EXTENT_SECTOR_BITS);
	static_assert((1ULL << (COW_RUN_MAX_SHIFT - SECTOR_SHIFT)) <= EXTENT_MAX_SECTORS);
	sector_t sector = cow_block_sector(cow, copy->range.first) + copy->stored;
	/* Without the padding after the origin's end. */
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

/* Makes what was written readable, and frees memory for more. */
static void cow_commit(struct cow *cow, struct list_head *batch)
{
	unsigned int nr_blocks = 0;
	struct cow_copy *copy, *next;
	LIST_HEAD(forgotten);

	spin_lock_irq(&cow->lock);
	list_for_each_entry_safe(copy, next, batch, link) {
		if (!copy->storing || !cow_commit_copy(cow, copy))
			continue;
		nr_blocks += cow_copy_blocks(copy);
		cow_forget_copy(cow, copy, &forgotten);
	}
	cow->starving_since = jiffies;
	cow_retry_starved(cow, nr_blocks);
	wake_up_all(&cow->progress);
	spin_unlock_irq(&cow->lock);
	cow_put_copies(&forgotten);
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

/*
 * While other batches are being written, storage may still be appended.  So a batch
 * that finds no space goes back, and the last store at work takes it.
 */
static bool cow_put_back(struct cow_store *store)
{
	struct cow *cow = store->cow;
	bool has_company = false;
	struct cow_copy *copy;
	unsigned int i;

	spin_lock_irq(&cow->lock);
	for (i = 0; i < COW_STORES; i++)
		has_company |= &cow->stores[i] != store && !list_empty(&cow->stores[i].batch);
	has_company &= !READ_ONCE(cow->error);
	if (has_company) {
		list_for_each_entry(copy, &store->batch, link)
			cow->nr_unstored += cow_copy_blocks(copy);
		list_splice_init(&store->batch, &cow->unstored);
		__clear_bit(store - cow->stores, &cow->busy_stores);
	}
	spin_unlock_irq(&cow->lock);
	return has_company;
}

/*
 * Looks after the pages that are kept, at the end of a store.  A look later on is a store
 * that finds nothing: the last one, which is never the first to get copies.
 */
static void cow_watch_spare_pages(struct cow *cow, bool has_stored)
{
	static_assert(COW_STORES > 1);

	if (has_stored)
		queue_delayed_work(cow->config.queues->store,
				   &cow->stores[COW_STORES - 1].work, COW_SPARE_TIMEOUT);
	else if (!READ_ONCE(cow->busy_stores))
		cow_free_spare_pages(cow);
}

void cow_store_work(struct work_struct *work)
{
	struct cow_store *store = container_of(to_delayed_work(work), struct cow_store, work);
	struct cow *cow = store->cow;
	bool has_stored = false;
	int ret = 0;

	if (!cow_io_begin(cow))
		return;
	while (!ret && cow_collect(store)) {
		ret = cow_store_batch(cow, &store->batch);
		has_stored = true;
	}
	if (ret && (ret != -ENOSPC || !cow_put_back(store)))
		cow_fail(cow, ret);
	if (READ_ONCE(cow->error))
		cow_drop_copies(cow, &store->batch);
	cow_watch_spare_pages(cow, has_stored);
	cow_io_end(cow);
}
