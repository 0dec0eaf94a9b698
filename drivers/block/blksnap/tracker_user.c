// SPDX-License-Identifier: GPL-2.0
/*
 * What user space asks and tells of trackers
 *
 * One function for each ioctl on trackers and their change maps.
 *
 * Lock order: tracker_mutex only; user memory may be touched under it, for no
 * gate is closed while it is held by anybody but a take.
 */
#include "blksnap.h"

#include <linux/blkdev.h>
#include <linux/minmax.h>
#include <linux/uaccess.h>

#include "cbt_map.h"
#include "tracker_priv.h"

/**
 * tracker_remove() - stop tracking a device
 * @dev:	number of the origin
 *
 * Return: 0, -ENODATA if it is not tracked, -EBUSY if it is in a snapshot.
 */
int tracker_remove(dev_t dev)
{
	struct tracker *tracker;
	int ret = 0;

	mutex_lock(&tracker_mutex);
	tracker = tracker_find(dev);
	if (!tracker)
		ret = -ENODATA;
	else if (tracker->is_claimed)
		ret = -EBUSY;
	else
		tracker_destroy(tracker);
	mutex_unlock(&tracker_mutex);
	return ret;
}

static void tracker_fill_info(struct tracker *tracker, struct blk_snap_cbt_info *info)
{
	struct cbt_map_info map_info;

	memset(info, 0, sizeof(*info));
	info->dev_id.mj = MAJOR(tracker->dev);
	info->dev_id.mn = MINOR(tracker->dev);
	if (!tracker_is_present(tracker))
		return;
	/* A member of a snapshot keeps its map; it is refreshed at the take. */
	if (!tracker->is_claimed && tracker_refresh_locked(tracker))
		return;
	cbt_map_info(tracker_map(tracker), &map_info);
	info->blk_size = map_info.block_bytes;
	info->device_capacity = map_info.nr_sectors << SECTOR_SHIFT;
	info->blk_count = map_info.nr_blocks;
	export_uuid(info->generation_id.b, &map_info.generation);
	info->snap_number = map_info.snap_number;
}

/**
 * tracker_collect() - describe every tracked device
 * @infos:	array to fill, or NULL to count only
 * @count:	in: entries of @infos; out: tracked devices
 *
 * Return: 0, or -ENOBUFS if @infos is too small; it is untouched then.
 */
int tracker_collect(struct blk_snap_cbt_info *infos, u32 *count)
{
	struct tracker *tracker;
	u32 nr_trackers = 0;
	int ret = 0;

	mutex_lock(&tracker_mutex);
	list_for_each_entry(tracker, &tracker_rows, row)
		nr_trackers++;
	if (infos && nr_trackers > *count)
		ret = -ENOBUFS;
	else if (infos)
		list_for_each_entry(tracker, &tracker_rows, row)
			tracker_fill_info(tracker, infos++);
	mutex_unlock(&tracker_mutex);
	*count = nr_trackers;
	return ret;
}

static int tracker_copy_map(struct tracker *tracker, u32 offset, u32 length, u8 __user *buffer)
{
	struct cbt_map *map = tracker_map(tracker);
	struct cbt_map_info info;
	u32 done = 0;

	cbt_map_info(map, &info);
	if (!info.snap_number)
		return -EPERM;
	if (offset > info.nr_blocks)
		return -EINVAL;
	/* The answer is an int. */
	length = min3(length, info.nr_blocks - offset, (u32)INT_MAX);
	while (done < length) {
		u32 nr_bytes = length - done;
		const u8 *bytes = cbt_map_frozen_bytes(map, offset + done, &nr_bytes);
		u32 nr_left = copy_to_user(buffer + done, bytes, nr_bytes);

		done += nr_bytes - nr_left;
		if (nr_left)
			return done ? done : -EFAULT;
	}
	return done;
}

/**
 * tracker_read_cbt_map() - copy the frozen change map to user space
 * @dev:	number of the origin
 * @offset:	first tracking block
 * @length:	tracking blocks to copy, one byte each
 * @buffer:	where to
 *
 * Return: bytes copied, fewer than @length at the end of the map, 0 behind it.
 *	   -ENODATA: not tracked; -EPERM: no snapshot taken yet; -EINVAL: @offset
 *	   is beyond the end; -EFAULT: nothing could be copied.
 */
int tracker_read_cbt_map(dev_t dev, u32 offset, u32 length, u8 __user *buffer)
{
	struct tracker *tracker;
	int ret = -ENODATA;

	mutex_lock(&tracker_mutex);
	tracker = tracker_find(dev);
	if (tracker && tracker_is_present(tracker))
		ret = tracker_copy_map(tracker, offset, length, buffer);
	mutex_unlock(&tracker_mutex);
	return ret;
}

static bool tracker_ranges_valid(const struct tracker *tracker,
				 const struct blk_snap_block_range *ranges, u32 count)
{
	u64 capacity = tracker->nr_sectors;
	u32 i;

	for (i = 0; i < count; i++) {
		const struct blk_snap_block_range *range = &ranges[i];

		if (!range->sector_count || range->sector_offset >= capacity ||
		    range->sector_count > capacity - range->sector_offset)
			return false;
	}
	return true;
}

/**
 * tracker_mark_dirty() - mark ranges as changed since the last snapshot
 * @dev:	number of the origin
 * @ranges:	what to mark, all or nothing
 * @count:	number of @ranges
 *
 * Return: 0; -ENODEV: not tracked; -EINVAL: a range is empty or not within the
 *	   device; -ENOMEM: the map could not be marked and a new generation has
 *	   begun.
 */
int tracker_mark_dirty(dev_t dev, const struct blk_snap_block_range *ranges, u32 count)
{
	struct tracker *tracker;
	int ret = -ENODEV;
	u32 i;

	mutex_lock(&tracker_mutex);
	tracker = tracker_find(dev);
	if (!tracker || !tracker_is_present(tracker))
		goto out_unlock;
	ret = tracker_ranges_valid(tracker, ranges, count) ? 0 : -EINVAL;
	for (i = 0; i < count && !ret; i++)
		ret = cbt_map_mark_both(tracker_map(tracker), ranges[i].sector_offset,
					ranges[i].sector_count);
out_unlock:
	mutex_unlock(&tracker_mutex);
	return ret;
}
