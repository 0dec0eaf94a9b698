// SPDX-License-Identifier: GPL-2.0
/*
 * Storage that user space appends to a snapshot
 *
 * A range is checked against its device, against the ranges of all snapshots, and
 * against the origins of the snapshots that are taken.  What of it may be written to is
 * cut out, and excluded from the images of the members that it lies on, before an engine
 * can write on it:
 *
 *	checked -> cut -> excluded -> part of the storage
 *
 * Lock order: snapshot->lock -> snapshots_lock.
 */
#include "blksnap.h"

#include <linux/blkdev.h>
#include <linux/lockdep.h>
#include <linux/minmax.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "cow.h"
#include "diff_storage.h"
#include "snapshot_priv.h"
#include "tracker.h"

/*
 * Reads of an image come in logical blocks of the origin, and go on to the storage in
 * these.
 */
static bool snapshot_can_store_on(const struct snapshot *snapshot, struct block_device *bdev)
{
	u32 i;

	for (i = 0; i < snapshot->nr_members; i++)
		if (bdev_logical_block_size(bdev) >
		    tracker_logical_block_bytes(snapshot->members[i].tracker))
			return false;
	return true;
}

static struct storage_device *snapshot_find_storage_device(struct snapshot *snapshot, dev_t dev)
{
	struct storage_device *device;

	lockdep_assert_held(&snapshot->lock);
	list_for_each_entry(device, &snapshot->storage_devices, link)
		if (device->dev == dev)
			return device;
	return NULL;
}

static int storage_check_range(struct block_device *bdev,
			       const struct blk_snap_block_range *range)
{
	u64 capacity = bdev_nr_sectors(bdev);
	u64 block_sectors = bdev_logical_block_size(bdev) >> SECTOR_SHIFT;

	if (!range->sector_count)
		return storage_refuse(bdev->bd_dev, -EINVAL, "a range is empty");
	if (range->sector_offset > capacity ||
	    range->sector_count > capacity - range->sector_offset)
		return storage_refuse(bdev->bd_dev, -EINVAL, "a range ends after its end");
	if ((range->sector_offset | range->sector_count) & (block_sectors - 1))
		return storage_refuse(bdev->bd_dev, -EINVAL,
				      "a range is not aligned to its logical blocks");
	return 0;
}

/* The part of [*start, *end) on a disk that lies on a member; false if none does. */
bool member_clip(const struct snapshot_member *member, sector_t *start, sector_t *end)
{
	sector_t first = tracker_start_sector(member->tracker);

	*start = max(*start, first);
	*end = min(*end, first + tracker_nr_sectors(member->tracker));
	return *start < *end;
}

/* Is @range on the origin of an engine of @snapshot? */
static bool snapshot_protects_range(struct snapshot *snapshot, const struct diff_range *range)
{
	const struct snapshot_member *member;
	sector_t start, end;
	u32 i;

	lockdep_assert_held(&snapshots_lock);
	if (snapshot->state == SNAPSHOT_CREATED)
		return false;
	for (i = 0; i < snapshot->nr_members; i++) {
		member = &snapshot->members[i];
		start = range->bdev->bd_start_sect + range->sector;
		end = start + range->nr_sectors;
		if (range->bdev->bd_disk == tracker_disk(member->tracker) &&
		    member_clip(member, &start, &end))
			return true;
	}
	return false;
}

static int storage_refuse_taken(const struct diff_range *range, const struct snapshot *owner)
{
	if (owner->is_ending)
		return storage_refuse(range->bdev->bd_dev, -EBUSY,
				      "a range is storage of a snapshot that is ending");
	return storage_refuse(range->bdev->bd_dev, -EINVAL, "a range is storage already");
}

/*
 * No snapshot may have the range already.  Nor may it lie on the origin of another
 * snapshot that is taken: that snapshot does not copy what our engines overwrite, and
 * may still need the old data.  (For its own snapshot, user space vouches that the
 * range holds no data.)
 */
static int __snapshot_check_place(struct snapshot *snapshot, const struct diff_range *range)
{
	struct snapshot *other;

	lockdep_assert_held(&snapshots_lock);
	list_for_each_entry(other, &snapshots, link) {
		if (diff_storage_overlaps(other->storage, range))
			return storage_refuse_taken(range, other);
		if (other != snapshot && snapshot_protects_range(other, range))
			return storage_refuse(range->bdev->bd_dev, -EBUSY,
					      "another snapshot of it is taken");
	}
	return 0;
}

static int __snapshot_check_places(struct snapshot *snapshot, struct block_device *bdev,
				   const struct blk_snap_block_range *ranges, u32 count)
{
	struct diff_range range;
	int ret = 0;
	u32 i;

	for (i = 0; i < count && !ret; i++) {
		range = storage_user_range(bdev, &ranges[i]);
		ret = __snapshot_check_place(snapshot, &range);
		cond_resched();
	}
	return ret;
}

/* Before anything is done for an append that is to be refused. */
static int snapshot_check_places(struct snapshot *snapshot, struct block_device *bdev,
				 const struct blk_snap_block_range *ranges, u32 count)
{
	int ret;

	mutex_lock(&snapshots_lock);
	ret = __snapshot_check_places(snapshot, bdev, ranges, count);
	mutex_unlock(&snapshots_lock);
	return ret;
}

/* The sectors of a member that lie in the ranges. */
static u64 member_own_sectors(const struct snapshot_member *member, struct block_device *bdev,
			      const struct blk_snap_block_range *ranges, u32 count)
{
	sector_t start, end;
	u64 nr_sectors = 0;
	u32 i;

	if (bdev->bd_disk != tracker_disk(member->tracker))
		return 0;
	for (i = 0; i < count; i++) {
		start = bdev->bd_start_sect + ranges[i].sector_offset;
		end = start + ranges[i].sector_count;
		if (member_clip(member, &start, &end))
			nr_sectors += end - start;
	}
	return nr_sectors;
}

/* An image shows zeros where the storage is: of the whole member, it would be worth nothing. */
static int snapshot_check_rest(struct snapshot *snapshot, struct block_device *bdev,
			       const struct blk_snap_block_range *ranges, u32 count)
{
	struct snapshot_member *member;
	u64 nr_sectors;
	u32 i;

	lockdep_assert_held(&snapshot->lock);
	for (i = 0; i < snapshot->nr_members; i++) {
		member = &snapshot->members[i];
		nr_sectors = member_own_sectors(member, bdev, ranges, count);
		if (nr_sectors && member->nr_own_sectors + nr_sectors >=
				  tracker_nr_sectors(member->tracker))
			return storage_refuse(bdev->bd_dev, -EINVAL,
					      "nothing would be left of an origin");
	}
	return 0;
}

static void snapshot_note_own(struct snapshot *snapshot, struct block_device *bdev,
			      const struct blk_snap_block_range *ranges, u32 count)
{
	u32 i;

	for (i = 0; i < snapshot->nr_members; i++)
		snapshot->members[i].nr_own_sectors +=
			member_own_sectors(&snapshot->members[i], bdev, ranges, count);
}

/* The image of @member has no use for the range, whichever snapshot stores in it. */
static int snapshot_member_exclude(struct snapshot_member *member,
				   const struct diff_range *range)
{
	sector_t start = range->bdev->bd_start_sect + range->sector;
	sector_t end = start + range->nr_sectors;

	if (range->is_unused || range->bdev->bd_disk != tracker_disk(member->tracker) ||
	    !member_clip(member, &start, &end))
		return 0;
	return cow_exclude(member->cow, start, end - start);
}

/*
 * Leaves the @storage of any snapshot out of the image of @member, which has an engine.
 * Returns 0 or -ENOMEM.
 */
int snapshot_exclude_storage(struct snapshot_member *member, struct diff_storage *storage)
{
	struct gendisk *disk = tracker_disk(member->tracker);
	struct diff_range range;
	unsigned int cursor = 0;
	int ret = 0;

	lockdep_assert_held(&snapshots_lock);
	while (!ret && diff_storage_next_on_disk(storage, disk, &cursor, &range))
		ret = snapshot_member_exclude(member, &range);
	return ret;
}

/*
 * An engine may write on a range as soon as that is part of the storage, so it is
 * excluded from the images before.  That may reclaim memory with I/O, so it is done
 * without snapshots_lock.  If the append fails after this, the ranges stay excluded:
 * user space has vouched that the images need nothing there.
 */
static int snapshot_exclude_pieces(struct snapshot *snapshot,
				   const struct storage_pieces *pieces)
{
	size_t i;
	u32 j;
	int ret = 0;

	for (i = 0; i < pieces->nr_ranges && !ret; i++) {
		for (j = 0; j < snapshot->nr_members && !ret; j++)
			ret = snapshot_member_exclude(&snapshot->members[j],
						      &pieces->ranges[i]);
		cond_resched();
	}
	return ret;
}

static int __snapshot_add_pieces(struct snapshot *snapshot, struct block_device *bdev,
				 const struct storage_pieces *pieces)
{
	unsigned int noio;
	int ret;

	lockdep_assert_held(&snapshots_lock);
	/* Other snapshots must not wait while a device frees memory. */
	noio = memalloc_noio_save();
	ret = diff_storage_append(snapshot->storage, pieces->ranges, pieces->nr_ranges);
	memalloc_noio_restore(noio);
	/* All else has been checked. */
	if (ret == -EINVAL)
		storage_refuse(bdev->bd_dev, ret, "ranges overlap each other");
	return ret;
}

static int snapshot_append_ranges(struct snapshot *snapshot, struct block_device *bdev,
				  const struct blk_snap_block_range *ranges, u32 count)
{
	struct storage_pieces pieces = { };
	int ret = 0;
	u32 i;

	for (i = 0; i < count && !ret; i++)
		ret = storage_check_range(bdev, &ranges[i]);
	if (!ret)
		ret = snapshot_check_places(snapshot, bdev, ranges, count);
	if (!ret)
		ret = snapshot_check_rest(snapshot, bdev, ranges, count);
	if (ret)
		return ret;
	ret = snapshot_cut_ranges(snapshot, bdev, ranges, count, &pieces);
	if (ret)
		goto out_free;
	if (snapshot->state != SNAPSHOT_CREATED)
		ret = snapshot_exclude_pieces(snapshot, &pieces);
	if (ret)
		goto out_free;

	mutex_lock(&snapshots_lock);
	ret = __snapshot_check_places(snapshot, bdev, ranges, count);
	if (!ret)
		ret = __snapshot_add_pieces(snapshot, bdev, &pieces);
	mutex_unlock(&snapshots_lock);

out_free:
	kvfree(pieces.ranges);
	return ret;
}

/*
 * Checks the ranges and makes them storage of a locked snapshot.  @device is NULL
 * afterwards if the snapshot has taken it.  @count is not 0.  Returns as
 * snapshot_append_storage() does.
 */
int snapshot_add_storage(struct snapshot *snapshot, struct storage_device **device,
			 const struct blk_snap_block_range *ranges, u32 count)
{
	struct storage_device *known = snapshot_find_storage_device(snapshot, (*device)->dev);
	struct storage_device *used = known ?: *device;
	int ret;

	if (!snapshot_can_store_on(snapshot, used->ref.bdev))
		return storage_refuse(used->dev, -EINVAL,
				      "its logical blocks are larger than those of an origin");
	ret = snapshot_append_ranges(snapshot, used->ref.bdev, ranges, count);
	if (!ret)
		snapshot_note_own(snapshot, used->ref.bdev, ranges, count);
	if (!ret && !known) {
		list_add(&used->link, &snapshot->storage_devices);
		*device = NULL;
	}
	return ret;
}
