// SPDX-License-Identifier: GPL-2.0
/*
 * What of a range may be written to
 *
 * The rest belongs to the storage as well, so that it is not appended again, but is never
 * used:
 *
 * - the first MiB and the last one of a device, be it a disk or a partition.  There
 *   filesystems, RAID and volume managers have what they are known by.  A copy of an
 *   origin's superblock in the same place would make the device its twin;
 * - on a member, what does not fill blocks of its engine.  Then no block holds both
 *   storage and live data, and all of the storage can be excluded from the image.
 *
 * Takes no lock; the caller has locked the snapshot, whose members stay.
 */
#include "blksnap.h"

#include <linux/blkdev.h>
#include <linux/limits.h>
#include <linux/math.h>
#include <linux/minmax.h>
#include <linux/sched.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/xarray.h>

#include "cow.h"
#include "diff_storage.h"
#include "snapshot_priv.h"
#include "tracker.h"

#define STORAGE_EDGE_SECTORS ((sector_t)SZ_1M >> SECTOR_SHIFT)

/* The sectors [start, end) of a disk, if there are any, as a range of @bdev on that disk. */
static void storage_pieces_add(struct storage_pieces *pieces, struct block_device *bdev,
			       sector_t start, sector_t end, bool is_unused)
{
	if (start >= end)
		return;
	if (pieces->nr_ranges < pieces->max_ranges)
		pieces->ranges[pieces->nr_ranges] = (struct diff_range){
			.bdev = bdev,
			.sector = start - bdev->bd_start_sect,
			.nr_sectors = end - start,
			.is_unused = is_unused,
		};
	pieces->nr_ranges++;
}

/*
 * Moves start and end inwards to borders of the blocks that a member's engine copies.
 * The ends of the member are borders of blocks, too.
 */
static void snapshot_member_trim(const struct snapshot_member *member, sector_t *start,
				 sector_t *end)
{
	struct tracker *tracker = member->tracker;
	sector_t first = tracker_start_sector(tracker);
	sector_t behind = first + tracker_nr_sectors(tracker);
	sector_t block = 1ULL << (cow_block_shift(tracker_nr_sectors(tracker)) - SECTOR_SHIFT);

	if (*start > first && *start < behind)
		*start = min(first + round_up(*start - first, block), behind);
	if (*end > first && *end < behind)
		*end = first + round_down(*end - first, block);
}

/*
 * A disk and a partition of it may both be members, with blocks that do not match if
 * the partition is not aligned.  Each member trims once; a block of the first one that
 * is shared after that is not excluded from its image, which may change there, in the
 * part that is storage.
 */
static void snapshot_cut_to_blocks(struct snapshot *snapshot, struct block_device *bdev,
				   sector_t first, sector_t behind,
				   struct storage_pieces *pieces)
{
	sector_t start = first, end = behind;
	u32 i;

	for (i = 0; i < snapshot->nr_members; i++)
		if (tracker_disk(snapshot->members[i].tracker) == bdev->bd_disk)
			snapshot_member_trim(&snapshot->members[i], &start, &end);
	/* Nothing may be left. */
	start = min(start, behind);
	end = max(start, end);
	storage_pieces_add(pieces, bdev, first, start, true);
	storage_pieces_add(pieces, bdev, start, end, false);
	storage_pieces_add(pieces, bdev, end, behind, true);
}

/* The first MiB or the last one of a disk or a partition, in sectors of the disk. */
struct storage_edge {
	sector_t start;
	sector_t end;
};

/* Becomes @found if it ends after @from and starts before @found. */
static void storage_edge_offer(struct storage_edge *found, sector_t start, sector_t end,
			       sector_t from)
{
	if (end > from && start < found->start)
		*found = (struct storage_edge){ start, end };
}

/*
 * The edge of the disk or of a partition that comes first of those that end after @from;
 * an empty one at @to if none starts before.
 */
static struct storage_edge disk_find_edge(struct gendisk *disk, sector_t from, sector_t to)
{
	struct storage_edge found = { to, to };
	sector_t start, end, nr_sectors;
	struct block_device *bdev;
	unsigned long index;

	rcu_read_lock();
	xa_for_each(&disk->part_tbl, index, bdev) {
		start = bdev->bd_start_sect;
		end = start + bdev_nr_sectors(bdev);
		nr_sectors = min(end - start, STORAGE_EDGE_SECTORS);
		storage_edge_offer(&found, start, start + nr_sectors, from);
		storage_edge_offer(&found, end - nr_sectors, end, from);
	}
	rcu_read_unlock();
	return found;
}

static void snapshot_cut_range(struct snapshot *snapshot, const struct diff_range *range,
			       struct storage_pieces *pieces)
{
	struct block_device *bdev = range->bdev;
	sector_t start = bdev->bd_start_sect + range->sector;
	sector_t end = start + range->nr_sectors;
	struct storage_edge edge;

	while (start < end) {
		edge = disk_find_edge(bdev->bd_disk, start, end);
		edge.start = max(edge.start, start);
		edge.end = min(edge.end, end);
		snapshot_cut_to_blocks(snapshot, bdev, start, edge.start, pieces);
		storage_pieces_add(pieces, bdev, edge.start, edge.end, true);
		start = edge.end;
	}
}

static int storage_pieces_make_room(struct storage_pieces *pieces)
{
	kvfree(pieces->ranges);
	pieces->ranges = NULL;
	pieces->max_ranges = pieces->nr_ranges;
	pieces->nr_ranges = 0;
	if (!pieces->max_ranges)
		return 0;
	if (pieces->max_ranges > UINT_MAX)
		return -ENOMEM;
	pieces->ranges = kvcalloc(pieces->max_ranges, sizeof(*pieces->ranges),
				  GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	return pieces->ranges ? 0 : -ENOMEM;
}

/*
 * Cuts what is appended into pieces that are used and such that are not.  The caller frees
 * pieces->ranges, also after -ENOMEM.
 *
 * The pieces are counted, and then made.  If a partition is added between that, they may
 * be more.
 */
int snapshot_cut_ranges(struct snapshot *snapshot, struct block_device *bdev,
			const struct blk_snap_block_range *ranges, u32 count,
			struct storage_pieces *pieces)
{
	struct diff_range range;
	int ret;
	u32 i;

	do {
		ret = storage_pieces_make_room(pieces);
		for (i = 0; i < count && !ret; i++) {
			range = storage_user_range(bdev, &ranges[i]);
			snapshot_cut_range(snapshot, &range, pieces);
			cond_resched();
		}
	} while (pieces->nr_ranges > pieces->max_ranges);
	return ret;
}
