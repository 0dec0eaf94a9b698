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

#include <stdbool.h>
#include <stdint.h>

#include <linux/blksnap.h>

/* Offsets in a file: no device has logical blocks greater than this. */
#define STORAGE_ALIGN_BYTES 4096

/* Ranges on one device. */
struct storage {
	struct blk_snap_dev dev;
	struct blk_snap_block_range *ranges;
	unsigned int nr_ranges;
};

int storage_add_range(struct storage *storage, uint64_t sector_offset,
		      uint64_t sector_count);
uint64_t storage_nr_sectors(const struct storage *storage);
void storage_free(struct storage *storage);

int storage_use_device(struct storage *storage, const char *text, bool force);
int storage_reserve_file(const char *path, uint64_t size_bytes, bool force);
int storage_use_file(struct storage *storage, const char *path,
		     uint64_t offset_bytes, uint64_t size_bytes, bool force);
int storage_pin_file(const char *path, int module, const struct blk_snap_uuid *id,
		     struct storage *storage, uint64_t offset_bytes,
		     uint64_t size_bytes, bool force);
int storage_append(const struct storage *storage, int fd, const struct blk_snap_uuid *id,
		   const char *name);

#endif /* STORAGE_H */
