// SPDX-License-Identifier: GPL-2.0
/*
 * Reads and writes of the image
 *
 * A read is cut into pieces of one kind each:
 *
 *	shared with the origin	read there, registered in cow->readers, so that
 *				no write to these blocks is released before
 *	in memory		copied from the in-memory copy
 *	stored			read from the difference storage
 *	copied, but neither	zeros: the snapshot's own storage on the origin
 *
 * Reads run in the submitter's context and never wait for anything but memory
 * of the pools, of which each call takes one object each.  What describes a read
 * is kept for the next one of the same engine, as long as the pool is full: to
 * allocate and free it would cost as much as all else that is done here.
 *
 * A write ends up in the difference storage: over what is stored there already,
 * or as a new in-memory copy if it covers whole blocks, or else after the block
 * has been copied like for a write to the origin.  It waits for that, so writes
 * run in workers.
 *
 * Lock order: cow->lock; the storage's lock is not taken inside it.
 */
#include "blksnap.h"

#include <linux/blkdev.h>
#include <linux/delay.h>
#include <linux/highmem.h>
#include <linux/mempool.h>
#include <linux/slab.h>

#include "cbt_map.h"
#include "cow_priv.h"
#include "diff_storage.h"
#include "trace.h"

/* Image reads that make progress without memory, for all images. */
#define COW_IMAGE_RESERVE 64

/* So many descriptions of reads an engine keeps. */
#define COW_MAX_SPARE_READS 64

enum cow_piece_kind {
	COW_PIECE_FAILED,	/* the engine has an error */
	COW_PIECE_SHARED,
	COW_PIECE_MEMORY,
	COW_PIECE_STORED,
	COW_PIECE_ZERO,
};

/**
 * struct cow_piece - the first part of an image bio
 * @kind:	where its data is
 * @nr_sectors:	its length
 * @copy:	of COW_PIECE_MEMORY, referenced
 * @position:	of COW_PIECE_STORED
 */
struct cow_piece {
	enum cow_piece_kind kind;
	sector_t nr_sectors;
	struct cow_copy *copy;
	u64 position;
};

/**
 * struct cow_image_read - an image bio on its way to a device
 * @range:	in cow->readers, if @is_shared
 * @next_spare:	in cow->spare_reads, while it describes nothing
 * @cow:	the engine, see cow_io_begin()
 * @is_shared:	read from the origin
 * @end_io:	of the bio, in which is ours meanwhile
 * @private:	likewise
 *
 * The bio itself is sent on, so this is owned by whoever has the bio.
 */
struct cow_image_read {
	union {
		struct block_range_node range;
		struct cow_image_read *next_spare;
	};
	struct cow *cow;
	bool is_shared;
	bio_end_io_t *end_io;
	void *private;
};

/* Image writes sleep until something is stored, so they have their own. */
struct workqueue_struct *cow_image_wq;

static struct kmem_cache *cow_read_cache;
static mempool_t cow_read_pool;
static struct bio_set cow_split_bios;

/*
 * Reading
 */

static u64 cow_sector_block(const struct cow *cow, sector_t sector)
{
	return sector >> cow_sector_shift(cow);
}

/* Cuts a piece that starts at @sector before block @end. */
static void cow_piece_cut(const struct cow *cow, struct cow_piece *piece, sector_t sector,
			  u64 end)
{
	sector_t end_sector = end << cow_sector_shift(cow);

	piece->nr_sectors = min(piece->nr_sectors, end_sector - sector);
}

static void cow_piece_in_memory(struct cow *cow, struct cow_piece *piece, sector_t sector,
				struct cow_copy *copy)
{
	piece->kind = COW_PIECE_MEMORY;
	piece->copy = copy;
	refcount_inc(&copy->refs);
	cow_piece_cut(cow, piece, sector, copy->range.last + 1);
}

/*
 * The first block is not marked as copied.  It is read from the origin even
 * while it is being copied, but not once that is done: otherwise readers could
 * keep the copy, and with it the writes, waiting for ever.
 */
static void cow_find_shared(struct cow *cow, sector_t sector, u64 first, u64 last,
			    struct cow_piece *piece)
{
	struct block_range_node *range;

	piece->kind = COW_PIECE_SHARED;
	cow_piece_cut(cow, piece, sector, last + 1);
	for (range = range_lock_first(&cow->copies, first, last); range;
	     range = range_lock_next(range, first, last)) {
		struct cow_copy *copy = container_of(range, struct cow_copy, range);

		if (copy->state == COW_READING)
			continue;
		if (range->first <= first)
			cow_piece_in_memory(cow, piece, sector, copy);
		else
			cow_piece_cut(cow, piece, sector, range->first);
		return;
	}
}

/* The first block is marked as copied. */
static void cow_find_copied(struct cow *cow, sector_t sector, u64 first, u64 last,
			    struct cow_piece *piece)
{
	struct block_range_node *range = range_lock_first(&cow->copies, first, last);
	struct extent_piece extent;

	if (range && range->first <= first) {
		cow_piece_in_memory(cow, piece, sector,
				    container_of(range, struct cow_copy, range));
		return;
	}
	cow_piece_cut(cow, piece, sector, range ? range->first : last + 1);
	extent_map_lookup(&cow->extents, sector, piece->nr_sectors, &extent);
	piece->kind = extent.is_stored ? COW_PIECE_STORED : COW_PIECE_ZERO;
	piece->position = extent.position;
	piece->nr_sectors = extent.nr_sectors;
}

static void cow_find_piece(struct cow *cow, sector_t sector, sector_t nr_sectors,
			   struct cow_piece *piece)
{
	u64 first = cow_sector_block(cow, sector);
	u64 last = cow_sector_block(cow, sector + nr_sectors - 1);

	lockdep_assert_held(&cow->lock);
	piece->nr_sectors = nr_sectors;
	if (cow->error) {
		piece->kind = COW_PIECE_FAILED;
		return;
	}
	if (cow_is_copied(cow, first))
		cow_find_copied(cow, sector, first, cow_next_uncopied(cow, first, last) - 1,
				piece);
	else
		cow_find_shared(cow, sector, first, cow_next_copied(cow, first, last) - 1,
				piece);
}

static struct cow_image_read *cow_pop_spare_read(struct cow *cow)
{
	struct cow_image_read *read = cow->spare_reads;

	lockdep_assert_held(&cow->lock);
	if (read) {
		cow->spare_reads = read->next_spare;
		cow->nr_spare_reads--;
	}
	return read;
}

/*
 * Not before the pool is full: others may be waiting for what was taken out of
 * its reserve, and that has to come back to it.
 */
static bool cow_push_spare_read(struct cow *cow, struct cow_image_read *read)
{
	lockdep_assert_held(&cow->lock);
	if (cow->nr_spare_reads == COW_MAX_SPARE_READS ||
	    READ_ONCE(cow_read_pool.curr_nr) < cow_read_pool.min_nr)
		return false;
	read->next_spare = cow->spare_reads;
	cow->spare_reads = read;
	cow->nr_spare_reads++;
	return true;
}

/**
 * cow_free_spare_reads() - free what an engine keeps for image reads
 * @cow:	engine that nobody uses any more
 */
void cow_free_spare_reads(struct cow *cow)
{
	while (cow->spare_reads) {
		struct cow_image_read *read = cow->spare_reads;

		cow->spare_reads = read->next_spare;
		mempool_free(read, &cow_read_pool);
	}
}

/*
 * Finds the first piece of a read and, if it is shared, keeps it as it is.
 * Returns what cow_unregister_read() ends; NULL if the engine has failed.
 */
static struct cow_image_read *cow_register_read(struct cow *cow, const struct bio *bio,
						struct cow_piece *piece)
{
	sector_t sector = bio->bi_iter.bi_sector;
	struct cow_image_read *read;
	unsigned long flags;

	spin_lock_irqsave(&cow->lock, flags);
	read = cow_pop_spare_read(cow);
	if (!read) {
		spin_unlock_irqrestore(&cow->lock, flags);
		read = mempool_alloc(&cow_read_pool, GFP_NOIO);
		spin_lock_irqsave(&cow->lock, flags);
	}
	cow_find_piece(cow, sector, bio_sectors(bio), piece);
	if (piece->kind == COW_PIECE_FAILED) {
		spin_unlock_irqrestore(&cow->lock, flags);
		mempool_free(read, &cow_read_pool);
		return NULL;
	}
	cow->nr_io++;
	read->cow = cow;
	read->is_shared = piece->kind == COW_PIECE_SHARED;
	if (read->is_shared)
		range_lock_add(&cow->readers, &read->range, cow_sector_block(cow, sector),
			       cow_sector_block(cow, sector + piece->nr_sectors - 1));
	spin_unlock_irqrestore(&cow->lock, flags);
	return read;
}

/* Writes to copied blocks may have waited for this read alone. */
static void cow_let_writes_go(struct cow *cow, u64 first, u64 last)
{
	struct bio_list ready = BIO_EMPTY_LIST;

	cow_copies_settle(cow, first, last, &ready);
	releaser_add_list(&cow->ready, &ready);
}

/* Frees @read.  Returns false if what was read may not be the old data. */
static bool cow_unregister_read(struct cow_image_read *read)
{
	struct cow *cow = read->cow;
	unsigned long flags;
	bool is_valid = true;
	bool is_kept;

	spin_lock_irqsave(&cow->lock, flags);
	if (read->is_shared) {
		/* A failed engine has let writes to these blocks pass. */
		is_valid = !cow->error && cow_medium_is_same(cow);
		range_lock_del(&cow->readers, &read->range);
		/* Before the end, after which nobody may rely on the engine. */
		if (!range_lock_is_empty(&cow->copies))
			cow_let_writes_go(cow, read->range.first, read->range.last);
	}
	is_kept = cow_push_spare_read(cow, read);
	cow_io_end_locked(cow);
	spin_unlock_irqrestore(&cow->lock, flags);
	if (!is_kept)
		mempool_free(read, &cow_read_pool);
	return is_valid;
}

static void cow_image_read_end_io(struct bio *bio)
{
	struct cow_image_read *read = bio->bi_private;

	bio->bi_end_io = read->end_io;
	bio->bi_private = read->private;
	if (!cow_unregister_read(read))
		bio->bi_status = BLK_STS_IOERR;
	/* Again, for the bi_end_io of a chained bio cannot be called. */
	bio_endio(bio);
}

/* Copies from an in-memory copy what a piece asks for. */
static void cow_read_memory(const struct cow_copy *copy, struct bio *bio)
{
	const struct cow *cow = copy->cow;
	u64 from = (u64)(bio->bi_iter.bi_sector -
			 (copy->range.first << cow_sector_shift(cow))) << SECTOR_SHIFT;
	struct bvec_iter iter;
	struct bio_vec bvec;

	bio_for_each_segment(bvec, bio, iter) {
		char *to = bvec_kmap_local(&bvec);
		unsigned int done = 0;

		while (done < bvec.bv_len) {
			unsigned int offset = from & (cow_block_bytes(cow) - 1);
			unsigned int nr_bytes = min(bvec.bv_len - done,
						    cow_block_bytes(cow) - offset);
			struct page *page =
				copy->bio.bi_io_vec[from >> cow->config.block_shift].bv_page;

			memcpy(to + done, page_address(page) + offset, nr_bytes);
			done += nr_bytes;
			from += nr_bytes;
		}
		kunmap_local(to);
	}
}

/* The bio goes on as it is: a clone would cost more than all else here. */
static void cow_read_device(struct cow *cow, struct cow_image_read *read,
			    const struct cow_piece *piece, struct bio *bio)
{
	struct diff_range region = {
		.bdev = cow->config.origin,
		.sector = bio->bi_iter.bi_sector,
	};

	trace_blksnap_image_remap(cow->origin_dev, bio->bi_iter.bi_sector, bio_sectors(bio));
	if (piece->kind == COW_PIECE_STORED)
		diff_storage_map(cow->config.storage, piece->position, bio_sectors(bio),
				 &region);
	read->end_io = bio->bi_end_io;
	read->private = bio->bi_private;
	bio->bi_end_io = cow_image_read_end_io;
	bio->bi_private = read;
	bio_set_dev(bio, region.bdev);
	bio->bi_iter.bi_sector = region.sector;
	submit_bio_noacct(bio);
}

/* An extent may go on where the range of the storage it began in ends. */
static void cow_piece_clip_to_range(struct cow *cow, struct cow_piece *piece)
{
	struct diff_range region;

	if (piece->kind != COW_PIECE_STORED)
		return;
	diff_storage_map(cow->config.storage, piece->position, piece->nr_sectors, &region);
	piece->nr_sectors = min(piece->nr_sectors, region.nr_sectors);
}

static void cow_image_read(struct cow *cow, struct bio *bio)
{
	struct cow_image_read *read;
	struct cow_piece piece;

	read = cow_register_read(cow, bio, &piece);
	cow_piece_clip_to_range(cow, &piece);

	if (piece.nr_sectors < bio_sectors(bio)) {
		struct bio *front = bio_split(bio, piece.nr_sectors, GFP_NOIO,
					      &cow_split_bios);

		/* The rest comes back to cow_submit_image_bio(). */
		bio_chain(front, bio);
		submit_bio_noacct(bio);
		bio = front;
	}
	switch (piece.kind) {
	case COW_PIECE_SHARED:
	case COW_PIECE_STORED:
		cow_read_device(cow, read, &piece, bio);
		return;
	case COW_PIECE_MEMORY:
		cow_read_memory(piece.copy, bio);
		cow_copy_put(piece.copy);
		break;
	case COW_PIECE_ZERO:
		zero_fill_bio(bio);
		break;
	case COW_PIECE_FAILED:
		bio->bi_status = BLK_STS_IOERR;
		break;
	}
	if (read)
		cow_unregister_read(read);
	bio_endio(bio);
}

/*
 * Writing
 */

/* Copies from an image write into an in-memory copy. */
static void cow_fill_copy_from(struct cow_copy *copy, struct bio *bio, struct bvec_iter *iter)
{
	unsigned int i;

	for (i = 0; i < copy->bio.bi_vcnt; i++) {
		struct bio_vec *block = &copy->bio.bi_io_vec[i];
		char *to = page_address(block->bv_page);
		unsigned int done = 0;

		while (done < block->bv_len) {
			struct bio_vec bvec = bio_iter_iovec(bio, *iter);
			unsigned int nr_bytes = min(bvec.bv_len, block->bv_len - done);

			bvec.bv_len = nr_bytes;
			memcpy_from_bvec(to + done, &bvec);
			bio_advance_iter_single(bio, iter, nr_bytes);
			done += nr_bytes;
		}
	}
}

static bool cow_is_copying(struct cow *cow, u64 block)
{
	bool is_copying;

	spin_lock_irq(&cow->lock);
	is_copying = !cow->error && range_lock_first(&cow->copies, block, block);
	spin_unlock_irq(&cow->lock);
	return is_copying;
}

static bool cow_has_memory(struct cow *cow)
{
	return READ_ONCE(cow->error) || READ_ONCE(cow->in_memory) < cow->max_in_memory;
}

static void cow_wait_stored(struct cow *cow, u64 block)
{
	cow_store_kick(cow, true);
	wait_event(cow->progress, !cow_is_copying(cow, block));
}

/* How many whole blocks the rest of a write covers from its beginning on. */
static unsigned int cow_whole_blocks(const struct cow *cow, const struct bvec_iter *iter)
{
	sector_t end = iter->bi_sector + (iter->bi_size >> SECTOR_SHIFT);
	u64 block = cow_sector_block(cow, iter->bi_sector);
	u64 end_block = cow_sector_block(cow, end);

	if (iter->bi_sector != block << cow_sector_shift(cow))
		return 0;
	/* The origin's last block may be short. */
	if (end == cow->config.nr_sectors)
		end_block = cow->nr_blocks;
	return min_t(u64, end_block - block, cow_run_max_blocks(cow));
}

/*
 * Makes whole shared blocks copies of what is written, or a block that the
 * write covers only in part a copied one.  The blocks may have been taken by
 * somebody else meanwhile; then the caller looks again.
 */
static int cow_image_copy(struct cow *cow, struct bio *bio, struct bvec_iter *iter)
{
	unsigned int nr_whole = cow_whole_blocks(cow, iter);
	struct cow_copy *copy;

	if (!cow_has_memory(cow)) {
		cow_store_kick(cow, true);
		wait_event(cow->progress, cow_has_memory(cow));
	}
	copy = cow_copy_alloc(cow, cow_sector_block(cow, iter->bi_sector),
			      max(1U, nr_whole), GFP_NOIO);
	if (!copy) {
		/* The caller looks again; memory comes back as copies are stored. */
		msleep(20);
		return 0;
	}
	if (!cow_copy_start(cow, copy))
		return 0;
	if (!nr_whole) {
		cow_copy_read(copy);
		return 0;
	}
	cow_fill_copy_from(copy, bio, iter);
	cow_copy_filled(copy);
	cow_io_end(cow);
	return 0;
}

/* Writes over what is stored. */
static int cow_image_overwrite(struct cow *cow, struct bio *bio, struct bvec_iter *iter,
			       const struct cow_piece *piece)
{
	struct diff_range region;
	struct bio *clone;
	int ret;

	diff_storage_map(cow->config.storage, piece->position, piece->nr_sectors, &region);
	clone = bio_alloc_clone(region.bdev, bio, GFP_NOIO, &cow_write_bios);
	clone->bi_iter = *iter;
	clone->bi_iter.bi_sector = region.sector;
	clone->bi_iter.bi_size = min(piece->nr_sectors, region.nr_sectors) << SECTOR_SHIFT;
	bio_advance_iter(bio, iter, clone->bi_iter.bi_size);
	ret = submit_bio_wait(clone);
	bio_put(clone);
	return ret;
}

/* Takes the first part of what is left, or one step towards being able to. */
static int cow_image_write_piece(struct cow *cow, struct bio *bio, struct bvec_iter *iter)
{
	struct cow_piece piece;

	spin_lock_irq(&cow->lock);
	cow_find_piece(cow, iter->bi_sector, iter->bi_size >> SECTOR_SHIFT, &piece);
	spin_unlock_irq(&cow->lock);
	if (piece.kind == COW_PIECE_MEMORY)
		cow_copy_put(piece.copy);

	switch (piece.kind) {
	case COW_PIECE_FAILED:
		return -EIO;
	case COW_PIECE_SHARED:
		if (!cow_is_copying(cow, cow_sector_block(cow, iter->bi_sector)))
			return cow_image_copy(cow, bio, iter);
		fallthrough;
	case COW_PIECE_MEMORY:
		cow_wait_stored(cow, cow_sector_block(cow, iter->bi_sector));
		return 0;
	case COW_PIECE_STORED:
		return cow_image_overwrite(cow, bio, iter, &piece);
	case COW_PIECE_ZERO:
		/* The snapshot's own storage is not part of the image. */
		return -ENOSPC;
	}
	return -EIO;
}

/**
 * cow_image_write() - write to the image
 * @data:	the engine; cow_io_begin() has been called for the write
 * @bio:	write with data
 *
 * Context: Worker, sleeps.
 */
void cow_image_write(void *data, struct bio *bio)
{
	struct bvec_iter iter = bio->bi_iter;
	struct cow *cow = data;
	int ret;

	/* The image is what the next increment is compared with. */
	ret = cbt_map_mark_both(cow->config.cbt_map, iter.bi_sector, bio_sectors(bio));
	while (!ret && iter.bi_size)
		ret = cow_image_write_piece(cow, bio, &iter);
	bio->bi_status = errno_to_blk_status(ret);
	cow_io_end(cow);
	bio_endio(bio);
}

/**
 * cow_submit_image_bio() - serve a bio to the image
 * @cow:	engine, referenced by the image's disk
 * @bio:	its sectors count from the origin's first
 *
 * Context: The image disk's ->submit_bio().
 */
void cow_submit_image_bio(struct cow *cow, struct bio *bio)
{
	if (!bio_sectors(bio)) {
		/* A flush: there is no cache to be flushed. */
		bio_endio(bio);
		return;
	}
	switch (bio_op(bio)) {
	case REQ_OP_READ:
		cow_image_read(cow, bio);
		break;
	case REQ_OP_WRITE:
		if (cow_io_begin(cow))
			releaser_add(&cow->image_writes, bio);
		else
			bio_io_error(bio);
		break;
	default:
		bio->bi_status = BLK_STS_NOTSUPP;
		bio_endio(bio);
	}
}

/**
 * cow_image_module_init() - set up what all images share
 *
 * Return: 0 or -ENOMEM.
 */
int cow_image_module_init(void)
{
	int ret = -ENOMEM;

	cow_read_cache = KMEM_CACHE(cow_image_read, 0);
	if (!cow_read_cache)
		return ret;
	ret = mempool_init_slab_pool(&cow_read_pool, COW_IMAGE_RESERVE, cow_read_cache);
	if (ret)
		goto err_destroy_read_cache;
	ret = bioset_init(&cow_split_bios, COW_IMAGE_RESERVE, 0, 0);
	if (ret)
		goto err_exit_read_pool;
	ret = -ENOMEM;
	cow_image_wq = alloc_workqueue("blksnap_image", WQ_MEM_RECLAIM | WQ_UNBOUND, 0);
	if (!cow_image_wq)
		goto err_exit_split_bios;
	return 0;

err_exit_split_bios:
	bioset_exit(&cow_split_bios);
err_exit_read_pool:
	mempool_exit(&cow_read_pool);
err_destroy_read_cache:
	kmem_cache_destroy(cow_read_cache);
	return ret;
}

/**
 * cow_image_module_exit() - undo cow_image_module_init()
 */
void cow_image_module_exit(void)
{
	destroy_workqueue(cow_image_wq);
	bioset_exit(&cow_split_bios);
	mempool_exit(&cow_read_pool);
	kmem_cache_destroy(cow_read_cache);
}
