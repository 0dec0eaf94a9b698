/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Difference storage, with messages about what is wrong with it
 *
 * Each function is that of the library with a similar name, and returns EXIT_OK, or
 * EXIT_FAILED after a message.
 */
#ifndef STORAGE_H
#define STORAGE_H

#include <stdbool.h>
#include <stdint.h>

#include <blksnap/blksnap.h>

int storage_reserve_file(const char *path, uint64_t size_bytes, bool force);
int storage_find_file(struct blksnap_storage **storage, const char *path,
		      uint64_t offset_bytes, uint64_t size_bytes, bool force);
int storage_find_device(struct blksnap_storage **storage, struct blk_snap_dev dev,
			bool force);
int storage_append(struct blksnap *blksnap, const struct blk_snap_uuid *id,
		   struct blksnap_storage *storage, const char *name);

#endif /* STORAGE_H */
