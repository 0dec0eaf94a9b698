// SPDX-License-Identifier: GPL-2.0
/*
 * Reads and writes of the image
 *
 * A read is cut into pieces of one kind each:
 *
 *	shared with the origin	read there
 *	in memory		copied from the in-memory copy
 *	stored			read from the difference storage
 *	copied, but neither	zeros: the snapshot's own storage on the origin
 *
 * Shared blocks may change while they are read.  So the bits are looked at again when
 * the data has arrived: a bit is set before the first write of its block goes on, so
 * if all bits are still clear, old data was read.  Otherwise the read is served again
 * from where the old data is by now.  Bits are never cleared, so this ends.
 *
 * Reads run in the submitter's context, those that are served again in a worker.  They
 * wait for no copy and no store, only for the memory pools of reads, from each of which a
 * call takes at most one object before what it has taken is under way.
 *
 * A write goes to the difference storage: over what is stored there already, or as a
 * new in-memory copy if it covers whole blocks, or else after the block has been
 * copied as for a write to the origin.  It waits for that, so writes run in workers.
 *
 * Lock order: cow->lock; the storage's lock is not taken inside it.
 */
#include "blksnap.h"

#include <linux/blk-cgroup.h>
#include <linux/blkdev.h>
#include <linux/delay.h>

#include "cbt_map.h"
#include "cow_priv.h"
#include "cpu_pool.h"
#include "diff_storage.h"
#include "inflight.h"
#include "trace.h"

/* Image bios, of all images, that can make progress when there is no free memory. */
#define COW_IMAGE_RESERVE 64

/* Those that a CPU keeps at hand. */
#define COW_IMAGE_KEPT 64

enum cow_piece_kind {
	COW_PIECE_FAILED,	/* the engine has an error */
	COW_PIECE_SHARED,
	COW_PIECE_MEMORY,
	COW_PIECE_STORED,
	COW_PIECE_ZERO,
};

/* The first part of an image bio. */
struct cow_piece {
	enum cow_piece_kind kind;
	sector_t nr_sectors;
	struct cow_copy *copy;		/* of COW_PIECE_MEMORY, referenced */
	u64 position;			/* of COW_PIECE_STORED */
};

/* A write that waits for its worker. */
struct cow_image_write {
	struct work_struct work;
	struct cow *cow;		/* see cow_io_begin() */
	struct bio *bio;
};

/*
 * A read that was sent to a device.  The bio itself is sent on: a clone would cost more
 * than all else here.
 */
struct cow_image_read {
	struct work_struct work;	/* reads again */
	struct cow *cow;		/* see cow_io_begin() */
	struct bio *bio;

	/* Is it from the origin, and the original fields of the bio. */
	bool is_shared;
	blk_opf_t opf;
	unsigned short flags;
	unsigned short ioprio;
	struct block_device *bdev;
	struct bvec_iter iter;
	bio_end_io_t *end_io;
	void *private;
};

/* Writes sleep until something is stored, so reads have a pool of their own. */
static struct cpu_pool cow_image_reads, cow_image_writes;
static struct bio_set cow_split_bios;

/*
 * Where the pieces are
 */

/* Makes @view a bio over the memory of a copy, from a sector of the origin on. */
static void cow_copy_view(struct bio *view, const struct cow_copy *copy, sector_t sector)
{
	sector_t start = cow_block_sector(copy->cow, copy->range.first);
	sector_t nr_sectors = cow_blocks_to_sectors(copy->cow, copy->range.first,
						    copy->range.last);

	bio_init(view, NULL, copy->bio.bi_io_vec, copy->bio.bi_vcnt, REQ_OP_READ);
	view->bi_vcnt = copy->bio.bi_vcnt;
	view->bi_iter.bi_size = nr_sectors << SECTOR_SHIFT;
	bio_advance(view, (sector - start) << SECTOR_SHIFT);
}

/* Cuts a piece that starts at @sector before block @end. */
static void cow_piece_cut(const struct cow *cow, struct cow_piece *piece, sector_t sector,
			  u64 end)
{
	piece->nr_sectors = min(piece->nr_sectors, cow_block_sector(cow, end) - sector);
}

/*
 * The blocks up to @last are copied, or left out of the image: those of a copy that is not
 * filled yet are left out.
 */
static void cow_find_copied(struct cow *cow, sector_t sector, u64 first, u64 last,
			    struct cow_piece *piece)
{
	struct cow_copy *copy = cow_find_copy(cow, first, last);
	struct extent_piece extent;

	if (copy && copy->range.first <= first) {
		cow_piece_cut(cow, piece, sector, min(last, copy->range.last) + 1);
		piece->kind = COW_PIECE_ZERO;
		if (copy->is_filled) {
			piece->kind = COW_PIECE_MEMORY;
			piece->copy = copy;
			refcount_inc(&copy->refs);
		}
		return;
	}
	cow_piece_cut(cow, piece, sector, copy ? copy->range.first : last + 1);
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
	unsigned long flags;

	piece->nr_sectors = nr_sectors;
	if (!copied_map_test(&cow->copied, first)) {
		piece->kind = COW_PIECE_SHARED;
		/* The first block may be copied by now, which is found out afterwards. */
		cow_piece_cut(cow, piece, sector,
			      copied_map_next_copied(&cow->copied, first + 1, last));
		return;
	}
	last = copied_map_next_uncopied(&cow->copied, first, last) - 1;
	spin_lock_irqsave(&cow->lock, flags);
	/* What a failed engine has dropped would look like zeros. */
	if (READ_ONCE(cow->error))
		piece->kind = COW_PIECE_FAILED;
	else
		cow_find_copied(cow, sector, first, last, piece);
	spin_unlock_irqrestore(&cow->lock, flags);
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

/*
 * Reading
 */

static bool cow_image_is_torn(const struct cow_image_read *read)
{
	const struct cow *cow = read->cow;
	sector_t sector = read->iter.bi_sector;
	u64 first = cow_sector_block(cow, sector);
	u64 last = cow_sector_block(cow, sector + (read->iter.bi_size >> SECTOR_SHIFT) - 1);

	return copied_map_next_copied(&cow->copied, first, last) <= last;
}

/* A failed engine has let writes pass without copying. */
static bool cow_image_is_lost(const struct cow *cow)
{
	return READ_ONCE(cow->error) || !cow_medium_is_same(cow);
}

static void cow_image_read_again(struct work_struct *work);

static void cow_image_end_io(struct bio *bio)
{
	struct cow_image_read *read = bio->bi_private;
	struct cow *cow = read->cow;

	bio->bi_end_io = read->end_io;
	bio->bi_private = read->private;
	bio->bi_bdev = read->bdev;
	/* What was chained to it is done, and so are throttling and tracing. */
	bio->bi_flags = read->flags;
	bio_clear_flag(bio, BIO_CHAIN);

	if (read->is_shared && !bio->bi_status) {
		/* Pairs with copied_map_set() and cow_fail(): the data comes first. */
		smp_rmb();
		if (cow_image_is_lost(cow)) {
			bio->bi_status = BLK_STS_IOERR;
		} else if (cow_image_is_torn(read)) {
			INIT_WORK(&read->work, cow_image_read_again);
			queue_work(cow->config.queues->read, &read->work);
			return;
		}
	}
	cpu_pool_free(&cow_image_reads, read);
	inflight_begin_end();
	/* Until the bio has ended, the image has a reference to the engine. */
	cow_io_end(cow);
	/* Once more: the bi_end_io of a chained bio must not be called directly. */
	bio_endio(bio);
	inflight_finish_end();
}

static void cow_read_device(struct cow *cow, const struct cow_piece *piece, struct bio *bio)
{
	struct cow_image_read *read = cpu_pool_alloc(&cow_image_reads);
	struct diff_range region = {
		.bdev = cow->config.origin,
		.sector = bio->bi_iter.bi_sector,
	};

	trace_blksnap_image_remap(cow->origin_dev, bio->bi_iter.bi_sector, bio_sectors(bio));
	read->cow = cow;
	read->bio = bio;
	read->is_shared = piece->kind == COW_PIECE_SHARED;
	read->opf = bio->bi_opf;
	read->flags = bio->bi_flags;
	read->ioprio = bio->bi_ioprio;
	read->bdev = bio->bi_bdev;
	read->iter = bio->bi_iter;
	read->end_io = bio->bi_end_io;
	read->private = bio->bi_private;
	bio->bi_end_io = cow_image_end_io;
	bio->bi_private = read;

	if (!read->is_shared)
		diff_storage_map(cow->config.storage, piece->position, bio_sectors(bio),
				 &region);
	bio_set_dev(bio, region.bdev);
	bio->bi_iter.bi_sector = region.sector;
	if (read->is_shared) {
		/* The reader's limits must not slow down the origin's users. */
		bio_associate_blkg_from_css(bio, blkcg_root_css);
		bio->bi_ioprio = 0;
	}
	submit_bio_noacct(bio);
}

static void cow_read_memory(struct cow_copy *copy, struct bio *bio)
{
	struct bio view;

	cow_copy_view(&view, copy, bio->bi_iter.bi_sector);
	bio_copy_data(bio, &view);
	cow_copy_put(copy);		/* of cow_find_copied() */
}

/* The first part of an image bio, all of which is one piece. */
static void cow_image_read_piece(struct cow *cow, const struct cow_piece *piece,
				 struct bio *bio)
{
	switch (piece->kind) {
	case COW_PIECE_SHARED:
	case COW_PIECE_STORED:
		cow_read_device(cow, piece, bio);
		return;
	case COW_PIECE_MEMORY:
		cow_read_memory(piece->copy, bio);
		break;
	case COW_PIECE_ZERO:
		zero_fill_bio(bio);
		break;
	case COW_PIECE_FAILED:
		bio->bi_status = BLK_STS_IOERR;
		break;
	}
	cow_io_end(cow);
	bio_endio(bio);
}

static void cow_image_read(struct cow *cow, struct bio *bio)
{
	struct cow_piece piece = { .kind = COW_PIECE_FAILED };
	struct bio *front;

	if (!cow_io_begin(cow)) {
		bio_io_error(bio);
		return;
	}
	cow_find_piece(cow, bio->bi_iter.bi_sector, bio_sectors(bio), &piece);
	cow_piece_clip_to_range(cow, &piece);

	if (piece.nr_sectors == bio_sectors(bio)) {
		cow_image_read_piece(cow, &piece, bio);
		return;
	}
	front = bio_split(bio, piece.nr_sectors, GFP_NOIO, &cow_split_bios);
	bio_chain(front, bio);
	/* Under way, before the rest may need another one of the pool. */
	cow_image_read_piece(cow, &piece, front);
	/* The rest comes back to cow_submit_image_bio(). */
	submit_bio_noacct(bio);
}

/* Restores the bio, but in the root cgroup: its completion has dropped its own. */
static void cow_image_read_again(struct work_struct *work)
{
	struct cow_image_read *read = container_of(work, struct cow_image_read, work);
	struct bio *bio = read->bio;
	struct cow *cow = read->cow;

	trace_blksnap_image_again(cow->origin_dev, read->iter.bi_sector,
				  read->iter.bi_size >> SECTOR_SHIFT);
	/* The queue that it was in has left its link set. */
	bio->bi_next = NULL;
	bio_set_dev(bio, read->bdev);
	/* The origin's driver may have left a mark, which means another thing elsewhere. */
	bio->bi_opf = read->opf;
	bio->bi_flags = read->flags;
	bio_clear_flag(bio, BIO_CHAIN);
	bio->bi_iter = read->iter;
	bio->bi_ioprio = read->ioprio;
	/* It is 0 after a split below, and was 1. */
	atomic_set(&bio->__bi_remaining, 1);
	cpu_pool_free(&cow_image_reads, read);
	/* Until the bio has ended, the image has a reference to the engine. */
	cow_io_end(cow);
	cow_image_read(cow, bio);
}

/*
 * Writing
 */

static bool cow_is_copying(struct cow *cow, u64 block)
{
	bool is_copying;

	spin_lock_irq(&cow->lock);
	is_copying = !READ_ONCE(cow->error) && cow_find_copy(cow, block, block);
	spin_unlock_irq(&cow->lock);
	return is_copying;
}

/* While image writes wait, copies are stored as soon as they are made. */
static void cow_hurry(struct cow *cow, int nr)
{
	spin_lock_irq(&cow->lock);
	cow->nr_hurried += nr;
	cow_kick_store(cow);
	spin_unlock_irq(&cow->lock);
}

static void cow_wait_stored(struct cow *cow, u64 block)
{
	cow_hurry(cow, 1);
	wait_event(cow->progress, !cow_is_copying(cow, block));
	cow_hurry(cow, -1);
}

static void cow_wait_room(struct cow *cow)
{
	cow_hurry(cow, 1);
	wait_event(cow->progress, READ_ONCE(cow->error) || cow_room(cow, false));
	cow_hurry(cow, -1);
}

/* How many whole blocks the rest of a write covers, from its first sector on. */
static unsigned int cow_whole_blocks(const struct cow *cow, const struct bio *bio)
{
	u64 block = cow_sector_block(cow, bio->bi_iter.bi_sector);
	sector_t end = bio_end_sector(bio);
	u64 end_block = cow_sector_block(cow, end);

	if (bio->bi_iter.bi_sector != cow_block_sector(cow, block))
		return 0;
	/* The origin's last block may be short. */
	if (end == cow->config.nr_sectors)
		end_block = cow->nr_blocks;
	return min_t(u64, end_block - block, cow_run_max_blocks(cow));
}

/*
 * Copies what is written if it covers whole shared blocks, else has the one block that
 * it covers in part read and copied.  Another copy may have taken the blocks in
 * between, so the caller looks again.
 */
static void cow_image_copy(struct cow *cow, struct bio *bio)
{
	sector_t sector = bio->bi_iter.bi_sector;
	unsigned int nr_whole = cow_whole_blocks(cow, bio);
	unsigned int nr_blocks;
	struct cow_copy *copy;
	struct bio view;

	if (!cow_room(cow, false))
		cow_wait_room(cow);
	nr_blocks = max(1U, nr_whole);
	copy = cow_copy_alloc(cow, cow_sector_block(cow, sector), nr_blocks, nr_blocks);
	if (!copy) {
		/* Memory comes back as copies are stored. */
		msleep(20);
		return;
	}
	if (!cow_copy_start(cow, copy, false))
		return;
	if (!nr_whole) {
		cow_copy_read(copy);
		return;
	}
	cow_copy_view(&view, copy, sector);
	bio_copy_data(&view, bio);
	bio_advance(bio, view.bi_iter.bi_size);
	cow_copy_filled(copy);
}

/* Writes over what is stored. */
static int cow_image_overwrite(struct cow *cow, struct bio *bio, const struct cow_piece *piece)
{
	struct diff_range region;
	struct bio *clone;
	int ret;

	diff_storage_map(cow->config.storage, piece->position, piece->nr_sectors, &region);
	clone = bio_alloc_clone(region.bdev, bio, GFP_NOIO, &cow_write_bios);
	clone->bi_iter.bi_sector = region.sector;
	clone->bi_iter.bi_size = min(piece->nr_sectors, region.nr_sectors) << SECTOR_SHIFT;
	bio_advance(bio, clone->bi_iter.bi_size);
	ret = submit_bio_wait(clone);
	bio_put(clone);
	return ret;
}

/* Writes the first part of the rest, or takes one step towards that. */
static int cow_image_write_piece(struct cow *cow, struct bio *bio)
{
	u64 block = cow_sector_block(cow, bio->bi_iter.bi_sector);
	struct cow_piece piece;

	cow_find_piece(cow, bio->bi_iter.bi_sector, bio_sectors(bio), &piece);
	if (piece.kind == COW_PIECE_MEMORY)
		cow_copy_put(piece.copy);

	switch (piece.kind) {
	case COW_PIECE_FAILED:
		return -EIO;
	case COW_PIECE_SHARED:
		if (READ_ONCE(cow->error))
			return -EIO;
		if (!cow_is_copying(cow, block)) {
			cow_image_copy(cow, bio);
			return 0;
		}
		fallthrough;
	case COW_PIECE_MEMORY:
		cow_wait_stored(cow, block);
		return 0;
	case COW_PIECE_STORED:
		return cow_image_overwrite(cow, bio, &piece);
	case COW_PIECE_ZERO:
		/* Difference storage is not part of the image. */
		return -ENOSPC;
	}
	return -EIO;
}

static void cow_image_write(struct work_struct *work)
{
	struct cow_image_write *write = container_of(work, struct cow_image_write, work);
	struct bio *bio = write->bio;
	struct cow *cow = write->cow;
	int ret;

	/* The image is what the next increment is compared with. */
	ret = cbt_map_mark_both(cow->config.cbt_map, bio->bi_iter.bi_sector, bio_sectors(bio));
	while (!ret && bio_sectors(bio))
		ret = cow_image_write_piece(cow, bio);
	/* A bio that is chained to it may have failed. */
	if (ret)
		bio->bi_status = errno_to_blk_status(ret);
	cpu_pool_free(&cow_image_writes, write);
	cow_io_end(cow);
	bio_endio(bio);
}

static void cow_queue_image_write(struct cow *cow, struct bio *bio)
{
	struct cow_image_write *write;

	if (!cow_io_begin(cow)) {
		bio_io_error(bio);
		return;
	}
	write = cpu_pool_alloc(&cow_image_writes);
	INIT_WORK(&write->work, cow_image_write);
	write->cow = cow;
	write->bio = bio;
	queue_work(cow->config.queues->write, &write->work);
}

/*
 * The sectors of @bio count from the origin's first one.  The image's disk has a
 * reference to the engine until the bio has ended.
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
		cow_queue_image_write(cow, bio);
		break;
	default:
		bio->bi_status = BLK_STS_NOTSUPP;
		bio_endio(bio);
	}
}

int cow_image_module_init(void)
{
	int ret;

	ret = cpu_pool_init(&cow_image_reads, "blksnap_image_read",
			    sizeof(struct cow_image_read), COW_IMAGE_RESERVE, COW_IMAGE_KEPT);
	if (ret)
		return ret;
	ret = cpu_pool_init(&cow_image_writes, "blksnap_image_write",
			    sizeof(struct cow_image_write), COW_IMAGE_RESERVE, COW_IMAGE_KEPT);
	if (ret)
		goto err_exit_reads;
	ret = bioset_init(&cow_split_bios, COW_IMAGE_RESERVE, 0, 0);
	if (ret)
		goto err_exit_writes;
	return 0;

err_exit_writes:
	cpu_pool_exit(&cow_image_writes);
err_exit_reads:
	cpu_pool_exit(&cow_image_reads);
	return ret;
}

void cow_image_module_exit(void)
{
	bioset_exit(&cow_split_bios);
	cpu_pool_exit(&cow_image_writes);
	cpu_pool_exit(&cow_image_reads);
}
