/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Snapshots of block devices: the library of blksnap
 *
 * A struct blksnap is a connection to the module.  Closing it gives nothing up:
 * snapshots stay until they are destroyed.  The data of the calls is that of
 * <linux/blksnap.h>, whose words are used here.
 *
 * A function that can fail returns 0, or a number that it names, on success and a
 * negative errno on failure, and blksnap_error() then says why, in words.  No
 * function prints, ends the program, or changes how it treats signals.  Each may be
 * called by several threads at a time, also with the same connection; the other
 * objects belong to one thread at a time.
 *
 * What an array or an object is stored in is set to NULL on failure.
 */
#ifndef BLKSNAP_BLKSNAP_H
#define BLKSNAP_BLKSNAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/blksnap.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The interface counts in sectors of this size, whatever the device has. */
#define BLKSNAP_SECTOR_SHIFT 9
#define BLKSNAP_SECTOR_SIZE 512

#define BLKSNAP_UUID_TEXT_SIZE 37 /* 32 digits, 4 dashes, the final zero */

/* Offsets and sizes in a storage file are multiples of it. */
#define BLKSNAP_STORAGE_ALIGN_BYTES 4096

/* Flag: what a device or a file holds may be overwritten. */
#define BLKSNAP_STORAGE_FORCE 1U

struct blksnap;		/* a connection to the module */
struct blksnap_cbt;	/* the change map of a device, as of its last snapshot */
struct blksnap_storage;	/* where difference storage is: ranges on one device */

/* Connection */

int blksnap_open(struct blksnap **blksnap);
void blksnap_close(struct blksnap *blksnap);
const char *blksnap_error(void);
int blksnap_version(struct blksnap *blksnap, struct blk_snap_version *version);

/* Trackers */

int blksnap_tracker_collect(struct blksnap *blksnap, struct blk_snap_cbt_info **infos,
			    unsigned int *nr_infos);
int blksnap_tracker_info(struct blksnap *blksnap, struct blk_snap_dev dev,
			 struct blk_snap_cbt_info *info);
int blksnap_tracker_remove(struct blksnap *blksnap, struct blk_snap_dev dev);
int blksnap_tracker_read_cbt_map(struct blksnap *blksnap, struct blk_snap_dev dev,
				 unsigned int offset, unsigned int length,
				 void *buffer);
int blksnap_tracker_mark_dirty_blocks(struct blksnap *blksnap, struct blk_snap_dev dev,
				      const struct blk_snap_block_range *ranges,
				      unsigned int nr_ranges);

/* Change maps */

int blksnap_cbt_load(struct blksnap *blksnap, struct blk_snap_dev dev,
		     struct blksnap_cbt **cbt);
const struct blk_snap_cbt_info *blksnap_cbt_info(const struct blksnap_cbt *cbt);
const uint8_t *blksnap_cbt_map(const struct blksnap_cbt *cbt);
int blksnap_cbt_check(const struct blksnap_cbt *cbt,
		      const struct blk_snap_uuid *generation, unsigned int since);
int blksnap_cbt_extents(const struct blksnap_cbt *cbt, unsigned int since,
			struct blk_snap_block_range **extents, size_t *nr_extents);
void blksnap_cbt_free(struct blksnap_cbt *cbt);

/* Snapshots */

int blksnap_snapshot_create(struct blksnap *blksnap, const struct blk_snap_dev *devs,
			    unsigned int nr_devs, struct blk_snap_uuid *id);
int blksnap_snapshot_destroy(struct blksnap *blksnap, const struct blk_snap_uuid *id);
int blksnap_snapshot_take(struct blksnap *blksnap, const struct blk_snap_uuid *id);
int blksnap_snapshot_collect(struct blksnap *blksnap, struct blk_snap_uuid **ids,
			     unsigned int *nr_ids);
int blksnap_snapshot_collect_images(struct blksnap *blksnap,
				    const struct blk_snap_uuid *id,
				    struct blk_snap_image_info **images,
				    unsigned int *nr_images);
int blksnap_snapshot_info(struct blksnap *blksnap, const struct blk_snap_uuid *id,
			  struct blk_snap_snapshot_info *info,
			  struct blk_snap_dev **devs);

/* Events */

typedef int (*blksnap_event_handler)(const struct blk_snap_snapshot_event *event,
				     void *arg);

int blksnap_snapshot_wait_event(struct blksnap *blksnap, const struct blk_snap_uuid *id,
				unsigned int timeout_ms,
				struct blk_snap_snapshot_event *event);
int blksnap_snapshot_watch(struct blksnap *blksnap, const struct blk_snap_uuid *id,
			   int64_t timeout_ms, blksnap_event_handler handler,
			   void *arg);

/* Difference storage */

int blksnap_storage_reserve_file(const char *path, uint64_t size_bytes,
				 unsigned int flags);
int blksnap_storage_find_file(const char *path, uint64_t offset_bytes,
			      uint64_t size_bytes, unsigned int flags,
			      struct blksnap_storage **storage);
int blksnap_storage_find_device(struct blk_snap_dev dev, unsigned int flags,
				struct blksnap_storage **storage);
int blksnap_storage_from_ranges(struct blk_snap_dev dev,
				const struct blk_snap_block_range *ranges,
				unsigned int nr_ranges,
				struct blksnap_storage **storage);
struct blk_snap_dev blksnap_storage_dev(const struct blksnap_storage *storage);
unsigned int blksnap_storage_ranges(const struct blksnap_storage *storage,
				    const struct blk_snap_block_range **ranges);
uint64_t blksnap_storage_nr_sectors(const struct blksnap_storage *storage);
int blksnap_storage_append(struct blksnap *blksnap, const struct blk_snap_uuid *id,
			   struct blksnap_storage *storage);
void blksnap_storage_free(struct blksnap_storage *storage);
int blksnap_snapshot_append_storage(struct blksnap *blksnap,
				    const struct blk_snap_uuid *id,
				    struct blk_snap_dev dev,
				    const struct blk_snap_block_range *ranges,
				    unsigned int nr_ranges);
int blksnap_snapshot_pin_file(struct blksnap *blksnap, const struct blk_snap_uuid *id,
			      int file_fd);

/* Devices and identifiers */

bool blksnap_device_share_disk(struct blk_snap_dev a, struct blk_snap_dev b);
void blksnap_format_uuid(const struct blk_snap_uuid *uuid,
			 char text[BLKSNAP_UUID_TEXT_SIZE]);

#ifdef __cplusplus
}
#endif

#endif /* BLKSNAP_BLKSNAP_H */
