// SPDX-License-Identifier: GPL-2.0
/*
 * In-memory copies of blocks
 *
 * A copy is made with memory for a run of blocks, takes those of them that are
 * still shared, and reads them, or is filled with what an image write puts there.
 * Then the blocks are marked as copied, and the writes that waited go on.
 *
 *	cow_copy_alloc() -> cow_copy_start() -> cow_copy_read(), or fill it and
 *	cow_copy_filled() -> stored or dropped -> cow_copy_put()
 *
 * Lock order: cow->lock -> cow->spare_lock.
 */
#include "blksnap.h"

#include <linux/blk-cgroup.h>
#include <linux/blkdev.h>
#include <linux/mm.h>

#include "cbt_map.h"
#include "cow_priv.h"
#include "trace.h"

/* 1 MiB with pages of 4 KiB: what the longest run has. */
#define COW_SPARE_PAGES 256U

/* The first copy of one of these blocks, or NULL. */
struct cow_copy *cow_find_copy(struct cow *cow, u64 first, u64 last)
{
	struct block_range *range;

	lockdep_assert_held(&cow->lock);
	range = range_set_first(&cow->copies, first, last);
	return range ? container_of(range, struct cow_copy, range) : NULL;
}

/*
 * Memory of blocks
 *
 * Most engines have blocks of one page.  Some pages are kept for the next copies: where
 * the system clears pages, freeing and allocating one costs as much as the rest of a
 * copy.  The reserve is filled up first.
 */

static unsigned int cow_take_pages(struct cow *cow, struct bio_vec *bvecs, unsigned int nr_wanted)
{
	unsigned long flags;
	struct page *page;
	unsigned int nr;

	if (cow_block_bytes(cow) != PAGE_SIZE)
		return 0;
	spin_lock_irqsave(&cow->spare_lock, flags);
	nr_wanted = min(nr_wanted, cow->nr_spare_pages);
	cow->nr_spare_pages -= nr_wanted;
	for (nr = 0; nr < nr_wanted; nr++) {
		page = list_first_entry(&cow->spare_pages, struct page, lru);
		list_del(&page->lru);
		bvecs[nr].bv_page = page;
	}
	spin_unlock_irqrestore(&cow->spare_lock, flags);
	return nr;
}

static unsigned int cow_keep_pages(struct cow *cow, const struct bio_vec *bvecs,
				   unsigned int nr_pages)
{
	unsigned long flags;
	unsigned int nr;

	if (cow_block_bytes(cow) != PAGE_SIZE || READ_ONCE(cow->error) ||
	    READ_ONCE(cow->block_pool.curr_nr) < cow->block_pool.min_nr)
		return 0;
	spin_lock_irqsave(&cow->spare_lock, flags);
	nr_pages = min(nr_pages, COW_SPARE_PAGES - cow->nr_spare_pages);
	cow->nr_spare_pages += nr_pages;
	for (nr = 0; nr < nr_pages; nr++)
		list_add(&bvecs[nr].bv_page->lru, &cow->spare_pages);
	spin_unlock_irqrestore(&cow->spare_lock, flags);
	return nr;
}

/* When nothing was stored for a while, and with the engine. */
void cow_free_spare_pages(struct cow *cow)
{
	struct page *page, *next;
	LIST_HEAD(pages);

	spin_lock_irq(&cow->spare_lock);
	list_splice_init(&cow->spare_pages, &pages);
	cow->nr_spare_pages = 0;
	spin_unlock_irq(&cow->spare_lock);
	list_for_each_entry_safe(page, next, &pages, lru)
		__free_page(page);
}

static void cow_free_blocks(struct cow *cow, const struct bio_vec *bvecs, unsigned int nr_blocks)
{
	unsigned int i;

	for (i = cow_keep_pages(cow, bvecs, nr_blocks); i < nr_blocks; i++)
		mempool_free(bvecs[i].bv_page, &cow->block_pool);
}

/* Adds the memory of one block, with zeros after the origin's end. */
static void cow_copy_add_block(struct cow_copy *copy, u64 block, struct page *page)
{
	struct cow *cow = copy->cow;
	unsigned int nr_bytes = cow_blocks_to_sectors(cow, block, block) << SECTOR_SHIFT;

	if (nr_bytes < cow_block_bytes(cow))
		memset(page_address(page) + nr_bytes, 0, cow_block_bytes(cow) - nr_bytes);
	__bio_add_page(&copy->bio, page, nr_bytes, 0);
}

/* Takes from the reserve if it has to, but never waits for it. */
static struct page *cow_alloc_block(struct cow *cow, bool is_wanted)
{
	const gfp_t gfp = GFP_NOWAIT | __GFP_NOWARN;

	if (is_wanted)
		return mempool_alloc(&cow->block_pool, gfp);
	return alloc_pages(gfp, get_order(cow_block_bytes(cow)));
}

/*
 * Allocates memory for a run of blocks, or for the beginning of one.  The reserve is for
 * those that are wanted.
 */
static void cow_copy_add_blocks(struct cow_copy *copy, u64 first, unsigned int nr_wanted,
				unsigned int nr_blocks)
{
	/* The pages are put in their final place. */
	struct bio_vec *bvecs = copy->bio.bi_io_vec;
	struct cow *cow = copy->cow;
	unsigned int nr, i;

	nr = cow_take_pages(cow, bvecs, nr_blocks);
	for (; nr < nr_blocks; nr++) {
		bvecs[nr].bv_page = cow_alloc_block(cow, nr < nr_wanted);
		if (!bvecs[nr].bv_page)
			break;
	}
	for (i = 0; i < nr; i++)
		cow_copy_add_block(copy, first + i, bvecs[i].bv_page);
}

/*
 * Copies
 */

/*
 * Newer kernels leave the reserve of a bio_set to those that may sleep, so there is
 * another one, of copies of one block.
 */
static struct cow_copy *cow_copy_alloc_memory(struct cow *cow, unsigned int *nr_blocks)
{
	struct cow_copy *copy;
	struct bio *bio;

	bio = bio_alloc_bioset(NULL, *nr_blocks, REQ_OP_READ, GFP_NOWAIT, &cow->copy_bios);
	if (bio)
		return container_of(bio, struct cow_copy, bio);
	copy = mempool_alloc(&cow->spare_copies, GFP_NOWAIT | __GFP_NOWARN);
	if (copy) {
		bio_init(&copy->bio, NULL, &copy->bvec, 1, REQ_OP_READ);
		*nr_blocks = 1;
	}
	return copy;
}

static void cow_copy_free_memory(struct cow *cow, struct cow_copy *copy)
{
	if (copy->bio.bi_pool) {
		bio_put(&copy->bio);
	} else {
		bio_uninit(&copy->bio);
		mempool_free(copy, &cow->spare_copies);
	}
}

static void cow_copy_free(struct cow_copy *copy)
{
	cow_free_blocks(copy->cow, copy->bio.bi_io_vec, copy->bio.bi_vcnt);
	if (copy->extent)
		extent_free(copy->extent);
	cow_copy_free_memory(copy->cow, copy);
}

void cow_copy_put(struct cow_copy *copy)
{
	if (refcount_dec_and_test(&copy->refs))
		cow_copy_free(copy);
}

/* The references that cow_forget_copy() has moved to the list. */
void cow_put_copies(struct list_head *copies)
{
	struct cow_copy *copy, *next;

	list_for_each_entry_safe(copy, next, copies, link)
		cow_copy_put(copy);
}

/* The reference moves from cow->copies to the list. */
void cow_forget_copy(struct cow *cow, struct cow_copy *copy, struct list_head *forgotten)
{
	lockdep_assert_held(&cow->lock);
	range_set_del(&cow->copies, &copy->range);
	WRITE_ONCE(cow->in_memory[copy->is_sync],
		   cow->in_memory[copy->is_sync] - cow_copy_blocks(copy));
	list_move(&copy->link, forgotten);
}

/* Frees cow->unstored or a batch of a failed engine. */
void cow_drop_copies(struct cow *cow, struct list_head *copies)
{
	struct cow_copy *copy, *next;
	LIST_HEAD(forgotten);

	spin_lock_irq(&cow->lock);
	list_for_each_entry_safe(copy, next, copies, link)
		cow_forget_copy(cow, copy, &forgotten);
	spin_unlock_irq(&cow->lock);
	cow_put_copies(&forgotten);
}

/*
 * A copy with memory for a run of blocks, or for the beginning of one; NULL if there is
 * no memory.  For the first @nr_wanted blocks it uses the reserve if there is no other,
 * which is filled up when copies have been stored; more of them are copied ahead.  May
 * reclaim memory without I/O, but waits for no copy.
 */
struct cow_copy *cow_copy_alloc(struct cow *cow, u64 first, unsigned int nr_wanted,
				unsigned int nr_blocks)
{
	struct cow_copy *copy;

	if (!copied_map_populate(&cow->copied, first, first + nr_blocks - 1,
				 GFP_NOIO | __GFP_NORETRY | __GFP_NOWARN))
		return NULL;
	copy = cow_copy_alloc_memory(cow, &nr_blocks);
	if (!copy)
		return NULL;
	copy->cow = cow;
	refcount_set(&copy->refs, 1);
	bio_list_init(&copy->waiters);
	copy->is_ahead = nr_blocks > nr_wanted;
	copy->is_filled = false;
	copy->stored = 0;
	copy->storing = 0;
	copy->extent = NULL;

	cow_copy_add_blocks(copy, first, nr_wanted, nr_blocks);
	if (!copy->bio.bi_vcnt) {
		cow_copy_free_memory(cow, copy);
		return NULL;
	}
	copy->range.first = first;
	copy->range.last = first + copy->bio.bi_vcnt - 1;
	return copy;
}

/*
 * How many blocks one copy can take, at least one: from @first on, which is still
 * shared and not being read, to @last.
 */
unsigned int cow_run_blocks(struct cow *cow, u64 first, u64 last)
{
	struct cow_copy *copy;

	lockdep_assert_held(&cow->lock);
	last = min(last, first + cow_run_max_blocks(cow) - 1);
	last = copied_map_next_copied(&cow->copied, first, last) - 1;
	copy = cow_find_copy(cow, first, last);
	if (copy)
		last = copy->range.first - 1;
	return last - first + 1;
}

/* Frees the blocks after the first @nr_blocks. */
static void cow_copy_trim(struct cow_copy *copy, unsigned int nr_blocks)
{
	struct bio *bio = &copy->bio;
	unsigned int i;

	for (i = nr_blocks; i < bio->bi_vcnt; i++)
		bio->bi_iter.bi_size -= bio->bi_io_vec[i].bv_len;
	cow_free_blocks(copy->cow, bio->bi_io_vec + nr_blocks, bio->bi_vcnt - nr_blocks);
	bio->bi_vcnt = nr_blocks;
}

/*
 * A write submitted before the take may still land on blocks that are copied here, and
 * a block may be larger than a tracking block.  The next increment must have the whole
 * blocks.
 */
static void cow_mark_undrained(struct cow *cow, const struct cow_copy *copy)
{
	if (unlikely(!READ_ONCE(cow->is_drained)))
		cbt_map_mark(cow->config.cbt_map, cow_block_sector(cow, copy->range.first),
			     cow_blocks_to_sectors(cow, copy->range.first, copy->range.last));
}

/**
 * cow_copy_start() - let a copy take its blocks
 * @cow:	the engine
 * @copy:	from cow_copy_alloc(); keeps only the blocks that are still shared,
 *		that no other copy is reading, and that there is room for
 * @is_sync:	class of the write that wants it, see cow_room()
 *
 * The caller has seen room for the copy, but only here, under the lock, is it certain.
 *
 * Return: true if cow_copy_read() or cow_copy_filled() has to follow; false if @copy
 *	   was freed, because nothing is left to be read, or there is no room.
 */
bool cow_copy_start(struct cow *cow, struct cow_copy *copy, bool is_sync)
{
	u64 first = copy->range.first;
	unsigned int nr_blocks = 0;
	unsigned long flags;

	spin_lock_irqsave(&cow->lock, flags);
	if (!READ_ONCE(cow->error) && !copied_map_test(&cow->copied, first) &&
	    !cow_find_copy(cow, first, first))
		nr_blocks = min(cow_run_blocks(cow, first, copy->range.last),
				cow_room(cow, is_sync));
	if (nr_blocks) {
		range_set_add(&cow->copies, &copy->range, first, first + nr_blocks - 1);
		copy->is_sync = is_sync;
		WRITE_ONCE(cow->in_memory[is_sync], cow->in_memory[is_sync] + nr_blocks);
		cow->nr_reading++;
		atomic_inc(&cow->nr_io);
	}
	spin_unlock_irqrestore(&cow->lock, flags);

	if (!nr_blocks) {
		cow_copy_put(copy);
		return false;
	}
	cow_copy_trim(copy, nr_blocks);
	cow_mark_undrained(cow, copy);
	return true;
}

/*
 * What was left out of the image while it was read has zeros there, whatever was read: it
 * may be what has been stored there since.
 */
static void cow_copy_clear_excluded(struct cow_copy *copy)
{
	struct cow *cow = copy->cow;
	u64 block = copy->range.first;

	lockdep_assert_held(&cow->lock);
	while ((block = copied_map_next_copied(&cow->copied, block, copy->range.last)) <=
	       copy->range.last) {
		struct bio_vec *bvec = &copy->bio.bi_io_vec[block - copy->range.first];

		memset(page_address(bvec->bv_page), 0, bvec->bv_len);
		block++;
	}
}

/*
 * The old data is in memory, or could not be read.  @copy and the engine may be freed when
 * this returns.  Not for the filter's callback.
 */
void cow_copy_filled(struct cow_copy *copy)
{
	struct cow *cow = copy->cow;
	LIST_HEAD(forgotten);
	unsigned long flags;

	copy->copied_at = jiffies;
	INIT_LIST_HEAD(&copy->link);
	spin_lock_irqsave(&cow->lock, flags);
	cow->nr_reading--;
	if (likely(!READ_ONCE(cow->error) && !copy->bio.bi_status)) {
		cow_copy_clear_excluded(copy);
		copy->is_filled = true;
		copied_map_set(&cow->copied, copy->range.first, copy->range.last);
		cow->nr_copied += cow_copy_blocks(copy);
		cow->nr_unstored += cow_copy_blocks(copy);
		list_add_tail(&copy->link, &cow->unstored);
		cow_kick_store(cow);
	} else {
		/*
		 * It may hold no old data; a write of the image may wait for it.  Blocks
		 * that became storage while they were read stay marked.
		 */
		cow_forget_copy(cow, copy, &forgotten);
		wake_up_all(&cow->progress);
	}
	/* Before the end of the I/O, which may end the config. */
	cow_hand_back(cow, &copy->waiters, UINT_MAX);
	cow_put_copies(&forgotten);
	cow_io_end(cow);
	spin_unlock_irqrestore(&cow->lock, flags);
}

static void cow_read_end_io(struct bio *bio)
{
	struct cow_copy *copy = container_of(bio, struct cow_copy, bio);
	struct cow *cow = copy->cow;

	/* What is wanted of a copy ahead is read once more, and no more than that. */
	if (bio->bi_status && copy->is_ahead)
		WRITE_ONCE(cow->is_ahead_bad, true);
	else if (bio->bi_status)
		cow_fail(cow, blk_status_to_errno(bio->bi_status));
	if (!cow_medium_is_same(cow))
		cow_fail(cow, -ENOMEDIUM);
	trace_blksnap_copy_done(cow->origin_dev, cow_block_sector(cow, copy->range.first),
				cow_blocks_to_sectors(cow, copy->range.first,
						      copy->range.last));
	cow_copy_filled(copy);
}

/*
 * Submits at once, past the plug that most submitters have: a fast device has completed
 * the read when this returns.  The plug is flushed first: a task that sleeps with
 * requests in a plug which the scheduler cannot see could wait for a tag that one of
 * them holds.
 */
static void cow_submit_at_once(struct bio *bio)
{
	struct blk_plug *plug = current->plug;

	if (plug)
		blk_finish_plug(plug);
	submit_bio_noacct(bio);
	current->plug = plug;
}

/*
 * Reads the old data of a started copy, which may be stored and freed when this
 * returns.  Not under current->bio_list, where the read would only be queued.  May
 * sleep as submitting does.
 */
void cow_copy_read(struct cow_copy *copy)
{
	struct cow *cow = copy->cow;
	struct bio *bio = &copy->bio;

	bio->bi_bdev = cow->config.origin;
	/* A throttled writer must not delay other writers of the same block. */
	bio_associate_blkg_from_css(bio, blkcg_root_css);
	bio->bi_iter.bi_sector = cow_block_sector(cow, copy->range.first);
	bio->bi_end_io = cow_read_end_io;
	cow_submit_at_once(bio);
}
