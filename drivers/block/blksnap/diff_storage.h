/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Space for the copies of a snapshot
 *
 * User space appends ranges of block devices; the engines of all members take regions
 * out of them, in order, and never give one back.  The ranges are joined to one space
 * of sectors, and a place in it is a position: a position and its place on a device
 * never change.
 *
 * Regions start and end on DIFF_STORAGE_ALIGN_SECTORS relative to the start of their
 * range, so that whole engine blocks fit on any logical block size.  The rest of a
 * range after its last such border is never handed out.
 *
 * Context: diff_storage_alloc(), diff_storage_map() and the counters may be called from
 * any context but the filter's callback: they take storage->lock with interrupts
 * disabled.  The others sleep and are serialised by the caller.  The low-space function
 * is called without the lock, in the context of the diff_storage_alloc() that found
 * space low.
 */
#ifndef BLKSNAP_DIFF_STORAGE_H
#define BLKSNAP_DIFF_STORAGE_H

#include "logic_deps.h"

/* 4 KiB: the smallest engine block and the largest logical block we store on. */
#define DIFF_STORAGE_ALIGN_SECTORS 8U

/* Limit of all ranges together; positions are below. */
#define DIFF_STORAGE_POSITION_BITS 54U
#define DIFF_STORAGE_MAX_SECTORS BIT_ULL(DIFF_STORAGE_POSITION_BITS)

struct diff_storage;

/**
 * struct diff_range - space on one device
 * @bdev:	open for writing as long as the storage lives
 * @sector:	first sector, relative to @bdev
 * @nr_sectors:	length
 * @is_unused:	belongs to the storage, so that it cannot be appended again, but holds
 *		nothing
 */
struct diff_range {
	struct block_device *bdev;
	sector_t sector;
	sector_t nr_sectors;
	bool is_unused;
};

typedef void (*diff_storage_low_fn)(void *data, u64 nr_sectors);

struct diff_storage *diff_storage_create(sector_t low_limit, unsigned int ahead_ms,
					 diff_storage_low_fn low_fn, void *data);
void diff_storage_destroy(struct diff_storage *storage);

int diff_storage_append(struct diff_storage *storage, const struct diff_range *ranges,
			unsigned int nr_ranges);
bool diff_storage_overlaps(struct diff_storage *storage, const struct diff_range *range);
bool diff_storage_next_on_disk(struct diff_storage *storage, const struct gendisk *disk,
			       unsigned int *cursor, struct diff_range *range);

int diff_storage_alloc(struct diff_storage *storage, sector_t nr_sectors, u64 *position,
		       struct diff_range *region);
void diff_storage_map(struct diff_storage *storage, u64 position, sector_t nr_sectors,
		      struct diff_range *region);

sector_t diff_storage_capacity(struct diff_storage *storage);
sector_t diff_storage_free_sectors(struct diff_storage *storage);
u64 diff_storage_fill_rate(struct diff_storage *storage);

#endif /* BLKSNAP_DIFF_STORAGE_H */
