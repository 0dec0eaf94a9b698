// SPDX-License-Identifier: GPL-2.0
/*
 * Change maps and what changed
 *
 * A map only means something together with the generation and the number of the
 * snapshot that it belongs to.  So the state is read before and after the map,
 * and all is read again if another take came in between.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blksnap_ioctl.h"
#include "cbt.h"
#include "device.h"
#include "message.h"

/* Takes follow each other in seconds at best, a map is read in milliseconds. */
#define READ_ATTEMPTS_MAX 8

/**
 * cbt_read_info() - find the state of one tracked device
 * @fd:		control node
 * @dev:	the device
 * @text:	the argument that named it, for messages
 * @info:	gets the state
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int cbt_read_info(int fd, struct blk_snap_dev dev, const char *text,
		  struct blk_snap_cbt_info *info)
{
	struct blk_snap_cbt_info *infos;
	unsigned int nr_infos, i;
	int ret;

	ret = blksnap_tracker_collect(fd, &infos, &nr_infos);
	if (ret)
		return fail_call(blk_snap_ioctl_tracker_collect, ret,
				 "cannot list the tracked devices");
	for (i = 0; i < nr_infos; i++) {
		if (device_equal(infos[i].dev_id, dev))
			break;
	}
	if (i == nr_infos)
		ret = fail_call(blk_snap_ioctl_tracker_read_cbt_map, -ENODATA,
				"'%s'", text);
	else if (!infos[i].blk_count)
		ret = fail(EXIT_FAILED, "'%s': the device has gone away", text);
	else
		*info = infos[i];
	free(infos);
	return ret;
}

/* Returns how much of the map there was, or a negative errno. */
static int64_t cbt_read_map(int fd, const struct cbt *cbt)
{
	uint32_t done = 0;
	int ret;

	while (done < cbt->info.blk_count) {
		ret = blksnap_tracker_read_cbt_map(fd, cbt->info.dev_id, done,
						   cbt->info.blk_count - done,
						   cbt->map + done);
		if (ret < 0)
			return ret;
		if (!ret)
			break;
		done += ret;
	}
	return done;
}

static bool same_state(const struct blk_snap_cbt_info *a,
		       const struct blk_snap_cbt_info *b)
{
	return !memcmp(&a->generation_id, &b->generation_id,
		       sizeof(a->generation_id)) &&
	       a->snap_number == b->snap_number &&
	       a->blk_count == b->blk_count;
}

/**
 * cbt_free() - forget a map
 * @cbt:	the map; it may be empty
 */
void cbt_free(struct cbt *cbt)
{
	free(cbt->map);
	cbt->map = NULL;
}

/* One attempt; *changed tells that another take came in between. */
static int cbt_try_load(int fd, struct blk_snap_dev dev, const char *text,
			struct cbt *cbt, bool *changed)
{
	struct blk_snap_cbt_info after;
	int64_t nr_read;
	int ret;

	ret = cbt_read_info(fd, dev, text, &cbt->info);
	if (ret)
		return ret;
	cbt->map = malloc(cbt->info.blk_count);
	if (!cbt->map)
		return fail_memory();
	nr_read = cbt_read_map(fd, cbt);
	if (nr_read < 0 && nr_read != -EINVAL)
		return fail_call(blk_snap_ioctl_tracker_read_cbt_map, nr_read,
				 "cannot read the change map of '%s'", text);
	ret = cbt_read_info(fd, dev, text, &after);
	if (ret)
		return ret;
	*changed = nr_read != cbt->info.blk_count ||
		   !same_state(&cbt->info, &after);
	return EXIT_OK;
}

/**
 * cbt_load() - read the change map of the last snapshot of a device
 * @fd:		control node
 * @dev:	the device
 * @text:	the argument that named it, for messages
 * @cbt:	gets the map; to be freed by cbt_free() on success
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int cbt_load(int fd, struct blk_snap_dev dev, const char *text,
	     struct cbt *cbt)
{
	unsigned int attempt;
	bool changed = true;
	int ret;

	for (attempt = 0; attempt < READ_ATTEMPTS_MAX; attempt++) {
		ret = cbt_try_load(fd, dev, text, cbt, &changed);
		if (!ret && !changed)
			return EXIT_OK;
		cbt_free(cbt);
		if (ret)
			return ret;
	}
	return fail(EXIT_FAILED,
		    "'%s': the change map is renewed faster than it can be read; try again",
		    text);
}

/**
 * extents_add() - add a range behind the others
 * @extents:	the ranges
 * @start:	first sector
 * @end:	the sector behind the last one
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int extents_add(struct extents *extents, uint64_t start, uint64_t end)
{
	struct blk_snap_block_range *ranges = extents->ranges;

	/* Room doubles each time the number of ranges is a power of two. */
	if (!(extents->nr_ranges & (extents->nr_ranges - 1))) {
		ranges = reallocarray(ranges, extents->nr_ranges ?
						      2 * extents->nr_ranges : 1,
				      sizeof(*ranges));
		if (!ranges)
			return fail_memory();
		extents->ranges = ranges;
	}
	ranges[extents->nr_ranges].sector_offset = start;
	ranges[extents->nr_ranges].sector_count = end - start;
	extents->nr_ranges++;
	extents->nr_sectors += end - start;
	return EXIT_OK;
}

/**
 * extents_free() - forget the ranges
 * @extents:	the ranges
 */
void extents_free(struct extents *extents)
{
	free(extents->ranges);
	*extents = (struct extents) { 0 };
}

/**
 * cbt_find_extents() - find what changed after a snapshot
 * @cbt:	the map
 * @since:	number of that snapshot, 0 for the begin of the generation
 * @extents:	gets the ranges, in order; freed by the caller in any case
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int cbt_find_extents(const struct cbt *cbt, unsigned int since,
		     struct extents *extents)
{
	const uint64_t nr_sectors = cbt->info.device_capacity >>
				    BLKSNAP_SECTOR_SHIFT;
	const uint64_t block_sectors = cbt->info.blk_size >>
				       BLKSNAP_SECTOR_SHIFT;
	uint32_t first = 0, next;
	uint64_t end;
	int ret;

	while (first < cbt->info.blk_count) {
		if (cbt->map[first] <= since) {
			first++;
			continue;
		}
		next = first + 1;
		while (next < cbt->info.blk_count && cbt->map[next] > since)
			next++;
		end = next * block_sectors;
		/* The last block may be longer than what is left of the device. */
		if (end > nr_sectors)
			end = nr_sectors;
		ret = extents_add(extents, first * block_sectors, end);
		if (ret)
			return ret;
		first = next;
	}
	return EXIT_OK;
}
