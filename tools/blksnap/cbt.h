/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Change maps and what changed
 */
#ifndef CBT_H
#define CBT_H

#include <stddef.h>
#include <stdint.h>

#include <linux/blksnap.h>

/* The map of one device and the state that it belongs to. */
struct cbt {
	struct blk_snap_cbt_info info;
	uint8_t *map;
};

/* Runs of changed blocks, in sectors. */
struct extents {
	struct blk_snap_block_range *ranges;
	size_t nr_ranges;
	uint64_t nr_sectors;
};

int cbt_read_info(int fd, struct blk_snap_dev dev, const char *text,
		  struct blk_snap_cbt_info *info);
int cbt_load(int fd, struct blk_snap_dev dev, const char *text,
	     struct cbt *cbt);
void cbt_free(struct cbt *cbt);

int cbt_find_extents(const struct cbt *cbt, unsigned int since,
		     struct extents *extents);
int extents_add(struct extents *extents, uint64_t start, uint64_t end);
void extents_free(struct extents *extents);

#endif /* CBT_H */
