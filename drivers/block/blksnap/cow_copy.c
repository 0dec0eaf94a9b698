// SPDX-License-Identifier: GPL-2.0
/*
 * In-memory copies of blocks, and the bits that say what is copied
 *
 * A copy is made with memory for a run of blocks, takes those of them that are
 * still shared, reads them or is filled with what replaces them, and settles:
 * as soon as no image read of the blocks is under way on the origin, their bits
 * are set and the writes that waited are let go.
 *
 *	cow_copy_alloc() -> cow_copy_start() -> cow_copy_read(), or fill it and
 *	cow_copy_filled() -> settled -> stored -> cow_copy_put()
 *
 * Lock order: cow->lock is the only lock here.
 */
#include "blksnap.h"

#include <linux/blk-cgroup.h>
#include <linux/blkdev.h>
#include <linux/mm.h>

#include "cow_priv.h"
#include "trace.h"

/*
 * Blocks and their bits
 */

/**
 * cow_blocks_to_sectors() - length of a run of blocks
 * @cow:	the engine
 * @first:	first block
 * @last:	last block
 *
 * Return: sectors, fewer than whole blocks have at the origin's end.
 */
sector_t cow_blocks_to_sectors(const struct cow *cow, u64 first, u64 last)
{
	sector_t start = first << cow_sector_shift(cow);
	sector_t end = (last + 1) << cow_sector_shift(cow);

	return min(end, cow->config.nr_sectors) - start;
}

/* The next block from @first on whose bit is @is_copied; @last + 1 if none. */
static u64 cow_next_block(const struct cow *cow, u64 first, u64 last, bool is_copied)
{
	/* Most requests are short. */
	if (first == last)
		return first + (cow_is_copied(cow, first) != is_copied);

	while (first <= last) {
		unsigned long *bits = sparse_map_page(&cow->copied, first / COW_BITS_PER_PAGE);
		unsigned long from = first % COW_BITS_PER_PAGE;
		unsigned long end = min_t(u64, COW_BITS_PER_PAGE, last - first + from + 1);
		unsigned long found = is_copied ? end : from;

		if (bits)
			found = is_copied ? find_next_bit(bits, end, from) :
					    find_next_zero_bit(bits, end, from);
		if (found < end)
			return first - from + found;
		first += end - from;
	}
	return last + 1;
}

/**
 * cow_next_uncopied() - find a block that is still shared with the origin
 * @cow:	the engine
 * @first:	where to begin
 * @last:	where to end
 *
 * Context: Any.  Without cow->lock the block may be copied at any moment, but
 *	    never becomes shared again.
 * Return: the block, or @last + 1 if all are copied.
 */
u64 cow_next_uncopied(const struct cow *cow, u64 first, u64 last)
{
	return cow_next_block(cow, first, last, false);
}

/**
 * cow_next_copied() - find a copied block
 * @cow:	the engine
 * @first:	where to begin
 * @last:	where to end
 *
 * Context: Any.
 * Return: the block, or @last + 1 if none is copied.
 */
u64 cow_next_copied(const struct cow *cow, u64 first, u64 last)
{
	return cow_next_block(cow, first, last, true);
}

/**
 * cow_set_copied() - mark blocks as copied, for ever
 * @cow:	the engine
 * @first:	first block
 * @last:	last block; cow_populate() has been called for them
 *
 * Context: Any, cow->lock held.
 */
void cow_set_copied(struct cow *cow, u64 first, u64 last)
{
	lockdep_assert_held(&cow->lock);
	/* Pairs with the dependency in cow_next_block(): old data first. */
	smp_mb__before_atomic();
	for (; first <= last; first++)
		set_bit(first % COW_BITS_PER_PAGE,
			sparse_map_page(&cow->copied, first / COW_BITS_PER_PAGE));
}

/**
 * cow_populate() - make memory for the bits of blocks
 * @cow:	the engine
 * @first:	first block
 * @last:	last block
 * @gfp:	how to allocate
 *
 * Return: false if there is no memory.
 */
bool cow_populate(struct cow *cow, u64 first, u64 last, gfp_t gfp)
{
	unsigned long i;

	for (i = first / COW_BITS_PER_PAGE; i <= last / COW_BITS_PER_PAGE; i++)
		if (!sparse_map_populate(&cow->copied, i, gfp))
			return false;
	return true;
}

/*
 * Copies
 */

static void cow_copy_free(struct cow_copy *copy)
{
	struct cow *cow = copy->cow;
	unsigned int i;

	for (i = 0; i < copy->bio.bi_vcnt; i++)
		mempool_free(copy->bio.bi_io_vec[i].bv_page, &cow->block_pool);
	if (copy->extent)
		extent_free(copy->extent);
	bio_put(&copy->bio);
}

/**
 * cow_copy_put() - drop a reference to a copy
 * @copy:	the copy
 *
 * Context: Any.
 */
void cow_copy_put(struct cow_copy *copy)
{
	if (refcount_dec_and_test(&copy->refs))
		cow_copy_free(copy);
}

/* Adds the memory of one block, with zeros behind the origin's end. */
static bool cow_copy_add_block(struct cow_copy *copy, u64 block)
{
	struct cow *cow = copy->cow;
	unsigned int nr_bytes = cow_blocks_to_sectors(cow, block, block) << SECTOR_SHIFT;
	/* Takes from the reserve, but never waits for it. */
	struct page *page = mempool_alloc(&cow->block_pool, GFP_NOWAIT | __GFP_NOWARN);

	if (!page)
		return false;
	if (nr_bytes < cow_block_bytes(cow))
		memset(page_address(page) + nr_bytes, 0, cow_block_bytes(cow) - nr_bytes);
	__bio_add_page(&copy->bio, page, nr_bytes, 0);
	return true;
}

/**
 * cow_copy_alloc() - make a copy object with memory for a run of blocks
 * @cow:	the engine
 * @first:	first block
 * @nr_blocks:	how many, at most a run; the copy may get fewer
 * @gfp:	GFP_NOWAIT, or GFP_NOIO to reclaim memory for the bits
 *
 * The memory of blocks comes from the reserve if there is no other, and is back
 * there when copies have been stored; nobody waits for it here.
 *
 * Return: the copy, which nobody knows yet, or NULL.
 */
struct cow_copy *cow_copy_alloc(struct cow *cow, u64 first, unsigned int nr_blocks, gfp_t gfp)
{
	struct cow_copy *copy;
	struct bio *bio;
	unsigned int i;

	if (!cow_populate(cow, first, first + nr_blocks - 1,
			  gfp | __GFP_NORETRY | __GFP_NOWARN))
		return NULL;
	bio = bio_alloc_bioset(NULL, nr_blocks, REQ_OP_READ, GFP_NOWAIT, &cow->copy_bios);
	if (!bio)
		return NULL;
	copy = container_of(bio, struct cow_copy, bio);
	copy->cow = cow;
	refcount_set(&copy->refs, 1);
	copy->state = COW_READING;
	bio_list_init(&copy->waiters);
	copy->stored = 0;
	copy->storing = 0;
	copy->extent = NULL;

	for (i = 0; i < nr_blocks; i++)
		if (!cow_copy_add_block(copy, first + i))
			break;
	if (!i) {
		bio_put(bio);
		return NULL;
	}
	copy->range.first = first;
	copy->range.last = first + i - 1;
	return copy;
}

/**
 * cow_run_blocks() - how many blocks one copy can take
 * @cow:	the engine
 * @first:	first block: still shared, and nobody is reading it
 * @last:	the last block of interest
 *
 * Context: Any, cow->lock held.
 * Return: blocks from @first on, at least one.
 */
unsigned int cow_run_blocks(struct cow *cow, u64 first, u64 last)
{
	struct block_range_node *range;

	lockdep_assert_held(&cow->lock);
	last = min(last, first + cow_run_max_blocks(cow) - 1);
	last = cow_next_copied(cow, first, last) - 1;
	range = range_lock_first(&cow->copies, first, last);
	if (range)
		last = range->first - 1;
	return last - first + 1;
}

/* Gives back the blocks behind the first @nr_blocks. */
static void cow_copy_trim(struct cow_copy *copy, unsigned int nr_blocks)
{
	struct bio *bio = &copy->bio;

	while (bio->bi_vcnt > nr_blocks) {
		struct bio_vec *bvec = &bio->bi_io_vec[--bio->bi_vcnt];

		bio->bi_iter.bi_size -= bvec->bv_len;
		mempool_free(bvec->bv_page, &copy->cow->block_pool);
	}
}

/**
 * cow_copy_start() - let a copy take its blocks
 * @cow:	the engine
 * @copy:	from cow_copy_alloc(); keeps only the blocks that are still shared,
 *		that nobody else is reading, and that there is room for in memory
 *
 * Whoever allocated the copy saw room for it, but nothing kept the room free since:
 * the budget is only safe under the lock.
 *
 * Context: Any.
 * Return: true: the blocks are being read by the caller, who goes on with
 *	   cow_copy_read(), or with cow_copy_filled() and cow_io_end().  false: there is
 *	   nothing to read (any more), or no room, and @copy is freed.
 */
bool cow_copy_start(struct cow *cow, struct cow_copy *copy)
{
	u64 first = copy->range.first;
	unsigned int nr_blocks = 0;
	unsigned long flags;

	spin_lock_irqsave(&cow->lock, flags);
	if (!cow->error && cow_next_uncopied(cow, first, first) == first &&
	    !range_lock_first(&cow->copies, first, first) &&
	    cow->in_memory < cow->max_in_memory)
		nr_blocks = min(cow_run_blocks(cow, first, copy->range.last),
				cow->max_in_memory - cow->in_memory);
	if (nr_blocks) {
		range_lock_add(&cow->copies, &copy->range, first, first + nr_blocks - 1);
		cow->in_memory += nr_blocks;
		cow->nr_unsettled++;
		cow->is_starving = false;
		cow->nr_io++;
	}
	spin_unlock_irqrestore(&cow->lock, flags);

	if (!nr_blocks) {
		cow_copy_put(copy);
		return false;
	}
	cow_copy_trim(copy, nr_blocks);
	return true;
}

/**
 * cow_copies_settle() - mark as copied what no image read stands in the way of
 * @cow:	the engine
 * @first:	first block of the range in which something has changed
 * @last:	last block
 * @ready:	gets the writes that waited, to be released by the caller
 *
 * Context: Any, cow->lock held.
 */
void cow_copies_settle(struct cow *cow, u64 first, u64 last, struct bio_list *ready)
{
	struct block_range_node *range;

	lockdep_assert_held(&cow->lock);
	for (range = range_lock_first(&cow->copies, first, last); range;
	     range = range_lock_next(range, first, last)) {
		struct cow_copy *copy = container_of(range, struct cow_copy, range);

		if (copy->state != COW_READ)
			continue;
		if (range_lock_first(&cow->readers, range->first, range->last)) {
			trace_blksnap_image_wait(cow->origin_dev,
						 range->first << cow_sector_shift(cow),
						 cow_blocks_to_sectors(cow, range->first,
								       range->last));
			continue;
		}
		copy->state = COW_COPIED;
		cow->nr_unsettled--;
		/* The old data of a failed engine may be none. */
		if (!cow->error) {
			cow_set_copied(cow, range->first, range->last);
			cow->nr_copied += cow_copy_blocks(copy);
		}
		cow->nr_unstored += cow_copy_blocks(copy);
		list_add_tail(&copy->link, &cow->unstored);
		if (!bio_list_empty(&copy->waiters)) {
			cow_account_held(cow, -(int)bio_list_size(&copy->waiters));
			bio_list_merge(ready, &copy->waiters);
			bio_list_init(&copy->waiters);
		}
		cow_store_kick(cow, cow->error);
	}
}

/**
 * cow_copy_filled() - the old data is in memory
 * @copy:	started copy; may be stored and freed when this returns
 *
 * Context: Any.
 */
void cow_copy_filled(struct cow_copy *copy)
{
	struct bio_list ready = BIO_EMPTY_LIST;
	struct cow *cow = copy->cow;
	unsigned long flags;

	spin_lock_irqsave(&cow->lock, flags);
	copy->state = COW_READ;
	cow_copies_settle(cow, copy->range.first, copy->range.last, &ready);
	spin_unlock_irqrestore(&cow->lock, flags);
	releaser_add_list(&cow->ready, &ready);
}

static void cow_read_end_io(struct bio *bio)
{
	struct cow_copy *copy = container_of(bio, struct cow_copy, bio);
	struct cow *cow = copy->cow;

	if (bio->bi_status)
		cow_break(cow, blk_status_to_errno(bio->bi_status));
	else if (!cow_medium_is_same(cow))
		cow_break(cow, -ENOMEDIUM);
	trace_blksnap_copy_done(cow->origin_dev, copy->range.first << cow_sector_shift(cow),
				cow_blocks_to_sectors(cow, copy->range.first,
						      copy->range.last));
	cow_copy_filled(copy);
	cow_io_end(cow);
}

/*
 * Submits at once, past the plug that most submitters have: the sooner a read
 * is done the better, and on a fast device it is done when this returns.  The
 * plug is flushed first, for a task that sleeps with requests in a plug which
 * the scheduler cannot see could wait for a tag that one of them holds.
 */
static void cow_submit_at_once(struct bio *bio)
{
	struct blk_plug *plug = current->plug;

	if (plug)
		blk_finish_plug(plug);
	submit_bio_noacct(bio);
	current->plug = plug;
}

/**
 * cow_copy_read() - read the old data of a started copy
 * @copy:	the copy; may be stored and freed when this returns
 *
 * Context: Process context; not under current->bio_list, where the read would
 *	    only be queued.  May sleep as submitting does.
 */
void cow_copy_read(struct cow_copy *copy)
{
	struct cow *cow = copy->cow;
	struct bio *bio = &copy->bio;

	bio->bi_bdev = cow->config.origin;
	/* A throttled writer must not throttle whoever waits for the same block. */
	bio_associate_blkg_from_css(bio, blkcg_root_css);
	bio->bi_iter.bi_sector = copy->range.first << cow_sector_shift(cow);
	bio->bi_end_io = cow_read_end_io;
	cow_submit_at_once(bio);
}
