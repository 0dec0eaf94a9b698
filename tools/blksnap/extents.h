/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Runs of sectors of a device
 */
#ifndef EXTENTS_H
#define EXTENTS_H

#include <stddef.h>
#include <stdint.h>

#include <blksnap/blksnap.h>

/* In order, and of changed blocks for example. */
struct extents {
	struct blk_snap_block_range *ranges;
	size_t nr_ranges;
	uint64_t nr_sectors;
};

int extents_add(struct extents *extents, uint64_t start, uint64_t end);
int extents_add_changed(struct extents *extents, const struct blksnap_cbt *cbt,
			unsigned int since);
void extents_free(struct extents *extents);

#endif /* EXTENTS_H */
