/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Difference storage: a device, or the blocks of a file
 *
 * The module writes to the device underneath the filesystem.  So a file is only
 * good as difference storage if its blocks are allocated, stay where they are,
 * and hold nothing that anybody wants to keep.  Two more rules follow from what
 * the blocks held before:
 *
 * - They must have belonged to the file before a snapshot of the same disk was
 *   taken.  Blocks that became free later hold data of the snapshot.
 * - The file must be left alone until the snapshot is destroyed: the module pins it.
 */
#ifndef STORAGE_H
#define STORAGE_H

#include <blksnap/blksnap.h>

struct blksnap_storage {
	struct blk_snap_dev dev;
	struct blk_snap_block_range *ranges;
	unsigned int nr_ranges;

	/* Of a file, whose ranges are found anew when it is pinned; NULL of a device. */
	char *path;
	uint64_t offset_bytes;
	uint64_t size_bytes;
	bool force;
};

int storage_create(struct blk_snap_dev dev, struct blksnap_storage **storage);
int storage_add_range(struct blksnap_storage *storage, uint64_t sector_offset,
		      uint64_t sector_count);
void storage_forget_ranges(struct blksnap_storage *storage);
int storage_check_flags(unsigned int flags);
int storage_pin_file(struct blksnap *blksnap, const struct blk_snap_uuid *id,
		     struct blksnap_storage *storage);

#endif /* STORAGE_H */
