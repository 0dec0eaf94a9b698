// SPDX-License-Identifier: GPL-2.0
/*
 * What user space asks of trackers
 *
 * One function for each ioctl on trackers and their change maps.
 *
 * Lock order: tracker_mutex only.  User memory is never touched under it: its page
 * faults may take for ever, and every other task would have to wait.
 */
#include "blksnap.h"

#include <linux/blkdev.h>
#include <linux/err.h>
#include <linux/jiffies.h>
#include <linux/lockdep.h>
#include <linux/minmax.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "cbt_map.h"
#include "tracker_priv.h"

/* 0, -ENODATA if it is not tracked, -EBUSY if it is in a snapshot. */
int tracker_remove(dev_t dev)
{
	struct tracker *tracker;
	int ret = 0;

	tracker_lock();
	tracker = tracker_find(dev);
	if (!tracker)
		ret = -ENODATA;
	else if (tracker->is_claimed)
		ret = -EBUSY;
	else
		tracker_destroy(tracker);
	tracker_unlock();
	return ret;
}

static int tracker_fill_info(struct tracker *tracker, struct blk_snap_cbt_info *info)
{
	struct cbt_map_info map_info;
	int ret;

	memset(info, 0, sizeof(*info));
	info->dev_id.mj = MAJOR(tracker->dev);
	info->dev_id.mn = MINOR(tracker->dev);
	ret = tracker_look(tracker);
	/* -ENOMEM leaves open whether the device is there. */
	if (ret)
		return ret == -ENOMEM ? ret : 0;
	cbt_map_info(tracker_map(tracker), &map_info);
	info->blk_size = map_info.block_bytes;
	info->device_capacity = map_info.nr_sectors << SECTOR_SHIFT;
	info->blk_count = map_info.nr_blocks;
	export_uuid(info->generation_id.b, &map_info.generation);
	info->snap_number = map_info.snap_number;
	return 0;
}

/*
 * Describes every tracked device, or only counts them if @infos is NULL.  @count is the
 * room in @infos, and then the number of tracked devices.  Returns 0; -ENOBUFS if
 * @infos is too small, and is untouched; -ENOMEM.
 */
int tracker_collect(struct blk_snap_cbt_info *infos, u32 *count)
{
	struct tracker *tracker;
	u32 nr_trackers = 0;
	int ret = 0;

	tracker_lock();
	list_for_each_entry(tracker, &tracker_rows, row)
		nr_trackers++;
	if (infos && nr_trackers > *count)
		ret = -ENOBUFS;
	list_for_each_entry(tracker, &tracker_rows, row) {
		if (!infos || ret)
			break;
		ret = tracker_fill_info(tracker, infos++);
	}
	tracker_unlock();
	*count = nr_trackers;
	return ret;
}

/**
 * struct map_reader - the reading of a frozen map, page by page
 * @dev:	number of the origin
 * @offset:	first tracking block
 * @length:	tracking blocks to read
 * @done:	tracking blocks that the reader has already
 * @info:	of the map that these are from
 * @page:	the next tracking blocks
 */
struct map_reader {
	dev_t dev;
	u32 offset;
	u32 length;
	u32 done;
	struct cbt_map_info info;
	u8 *page;
};

/* Fetches what is on one page of the map and returns the number of bytes. */
static int tracker_fetch_map(struct tracker *tracker, struct map_reader *reader)
{
	struct cbt_map *map = tracker_map(tracker);
	u32 nr_bytes = reader->length - reader->done;
	struct cbt_map_info info;
	const u8 *bytes;

	cbt_map_info(map, &info);
	if (!info.snap_number)
		return -EPERM;
	if (reader->offset > info.nr_blocks)
		return -EINVAL;
	/* All tracking blocks have to be of the same take. */
	if (reader->done && memcmp(&info, &reader->info, sizeof(info)))
		reader->done = 0;
	reader->info = info;
	bytes = cbt_map_frozen_bytes(map, reader->offset + reader->done, &nr_bytes);
	/* Image writes may mark it at the same time. */
	data_race(memcpy(reader->page, bytes, nr_bytes));
	return nr_bytes;
}

static int map_reader_next(struct map_reader *reader)
{
	struct tracker *tracker;
	int ret = -ENODEV;

	tracker_lock();
	tracker = tracker_find(reader->dev);
	/* Checking the device once is enough for a reading. */
	if (tracker)
		ret = reader->done ? 0 : tracker_check_present(tracker);
	if (!ret)
		ret = tracker_fetch_map(tracker, reader);
	else if (ret == -ENODEV)
		ret = -ENODATA;
	tracker_unlock();
	return ret;
}

/**
 * tracker_read_cbt_map() - copy the frozen change map to user space
 * @dev:	number of the origin
 * @offset:	first tracking block
 * @length:	tracking blocks to copy, one byte each
 * @buffer:	where to
 *
 * All bytes are of one take: if there is another take during the call, the reading
 * starts again.
 *
 * Return: bytes copied, fewer than @length at the end of the map, 0 if @offset is the
 *	   end.  -EINVAL: @offset is beyond the end; -ENODATA: not tracked, or gone;
 *	   -EPERM: no snapshot taken yet, or its marks are lost; -EFAULT: nothing
 *	   could be copied; -ENOMEM.
 */
int tracker_read_cbt_map(dev_t dev, u32 offset, u32 length, u8 __user *buffer)
{
	struct map_reader reader = {
		.dev = dev,
		.offset = offset,
		.length = min_t(u32, length, INT_MAX),	/* the answer is an int */
	};
	u32 nr_left = 0;
	int ret;

	reader.page = kmalloc(PAGE_SIZE, GFP_KERNEL);
	if (!reader.page)
		return -ENOMEM;
	do {
		ret = map_reader_next(&reader);
		if (ret <= 0)
			break;
		nr_left = copy_to_user(buffer + reader.done, reader.page, ret);
		reader.done += ret - nr_left;
	} while (!nr_left && reader.done < reader.length);
	kfree(reader.page);
	if (ret < 0)
		return ret;
	return nr_left && !reader.done ? -EFAULT : reader.done;
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

/* The tracker to be marked, if all ranges lie on it. */
static struct tracker *tracker_find_marked(dev_t dev, const struct blk_snap_block_range *ranges,
					   u32 count)
{
	struct tracker *tracker = tracker_find(dev);
	int ret = tracker ? tracker_look(tracker) : -ENODEV;

	if (ret)
		return ERR_PTR(ret);
	return tracker_ranges_valid(tracker, ranges, count) ? tracker : ERR_PTR(-EINVAL);
}

/* Lets other tasks have the mutex, and the caller be killed. */
static int tracker_give_way(void)
{
	tracker_unlock();
	cond_resched();
	tracker_lock();
	return fatal_signal_pending(current) ? -EINTR : 0;
}

/**
 * tracker_mark_dirty() - mark ranges as changed since the last snapshot
 * @dev:	number of the origin
 * @ranges:	what to mark, all or nothing
 * @count:	number of @ranges
 *
 * Many large ranges may take minutes.  If there is a take during the call, the marks
 * before it and those after it end up in the same map.
 *
 * Return: 0; -ENODEV: not tracked, or gone; -EINVAL: a range is empty or not within the
 *	   device; -EOPNOTSUPP: the device is too large now; -ENOMEM: a mark could not
 *	   be made, so a new generation has begun, or there is no memory for the map of
 *	   a new capacity; -EINTR: the caller was killed, some ranges are marked.
 */
int tracker_mark_dirty(dev_t dev, const struct blk_snap_block_range *ranges, u32 count)
{
	unsigned long turn_end = jiffies + 1;
	struct tracker *tracker;
	int ret;
	u32 i;

	tracker_lock();
	tracker = tracker_find_marked(dev, ranges, count);
	ret = PTR_ERR_OR_ZERO(tracker);
	for (i = 0; i < count && !ret; i++) {
		ret = cbt_map_mark_both(tracker_map(tracker), ranges[i].sector_offset,
					ranges[i].sector_count);
		if (ret || time_before(jiffies, turn_end))
			continue;
		ret = tracker_give_way();
		tracker = tracker_find(dev);
		/* The map has gone, so nothing is left to be marked. */
		if (!tracker)
			break;
		turn_end = jiffies + 1;
	}
	tracker_unlock();
	return ret;
}

static struct tracker *tracker_nth(unsigned int nth)
{
	struct tracker *tracker;

	lockdep_assert_held(&tracker_mutex);
	list_for_each_entry(tracker, &tracker_rows, row)
		if (!nth--)
			return tracker;
	return NULL;
}

/*
 * Counts what is on the next page of the maps; false at the end.  If there was a switch
 * since the page before, the counting starts again.
 */
static bool tracker_count_page(const struct tracker *tracker, struct tracker_stats *stats,
			       unsigned long *page)
{
	struct cbt_map *map = tracker_map(tracker);
	struct cbt_map_info info;

	cbt_map_info(map, &info);
	if (memcmp(&info, &stats->map, sizeof(info))) {
		stats->map = info;
		stats->usage = (struct cbt_map_usage){ };
		*page = 0;
	}
	return cbt_map_add_usage(map, (*page)++, &stats->usage);
}

/*
 * Counts what the @nth tracker has marked, page by page, without keeping others from the
 * trackers for longer than a moment.  False if there is no such tracker, or the caller
 * was killed.
 */
bool tracker_stats(unsigned int nth, struct tracker_stats *stats)
{
	unsigned long turn_end = jiffies + 1, page = 0;
	struct tracker *tracker;
	bool is_killed = false;

	memset(stats, 0, sizeof(*stats));
	tracker_lock();
	tracker = tracker_nth(nth);
	while (tracker && !is_killed) {
		stats->dev = tracker->dev;
		if (!tracker_count_page(tracker, stats, &page))
			break;
		if (time_before(jiffies, turn_end))
			continue;
		is_killed = tracker_give_way();
		/* The map of another one is of another generation. */
		tracker = tracker_find(stats->dev) ?: tracker_nth(nth);
		turn_end = jiffies + 1;
	}
	tracker_unlock();
	return tracker && !is_killed;
}
