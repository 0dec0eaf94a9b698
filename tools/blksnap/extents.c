// SPDX-License-Identifier: GPL-2.0
/*
 * Runs of sectors of a device
 */
#include <stdlib.h>

#include "extents.h"
#include "message.h"

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
 * extents_add_changed() - add what changed after a snapshot
 * @extents:	the ranges
 * @cbt:	the change map
 * @since:	number of that snapshot, 0 for the begin of the generation
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int extents_add_changed(struct extents *extents, const struct blksnap_cbt *cbt,
			unsigned int since)
{
	struct blk_snap_block_range *changed;
	size_t nr_changed, i;
	int ret = EXIT_OK;

	if (blksnap_cbt_extents(cbt, since, &changed, &nr_changed))
		return fail_call("cannot list what has changed");
	for (i = 0; i < nr_changed && !ret; i++)
		ret = extents_add(extents, changed[i].sector_offset,
				  changed[i].sector_offset + changed[i].sector_count);
	free(changed);
	return ret;
}
