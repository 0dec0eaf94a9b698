/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The calls of the blksnap module as C functions
 *
 * One function per ioctl.  Each returns 0 or a count on success and a negative
 * errno on failure, prints nothing and keeps no state.  The errnos are those
 * that <linux/blksnap.h> lists for the call, and -EPROTO if the module gave an
 * answer that contradicts itself.
 */
#ifndef CONTROL_H
#define CONTROL_H

#include <stddef.h>

#include <linux/blksnap.h>

int control_open(void);

int control_version(int fd, struct blk_snap_version *version);

int control_tracker_remove(int fd, struct blk_snap_dev dev);
int control_tracker_collect(int fd, struct blk_snap_cbt_info **infos,
			    unsigned int *nr_infos);
int control_tracker_read_cbt_map(int fd, struct blk_snap_dev dev,
				 unsigned int offset, unsigned int length,
				 void *buffer);
int control_tracker_mark_dirty_blocks(int fd, struct blk_snap_dev dev,
				      const struct blk_snap_block_range *ranges,
				      unsigned int nr_ranges);

int control_snapshot_create(int fd, const struct blk_snap_dev *devs,
			    unsigned int nr_devs, struct blk_snap_uuid *id);
int control_snapshot_destroy(int fd, const struct blk_snap_uuid *id);
int control_snapshot_append_storage(int fd, const struct blk_snap_uuid *id,
				    struct blk_snap_dev dev,
				    const struct blk_snap_block_range *ranges,
				    unsigned int nr_ranges);
int control_snapshot_pin_file(int fd, const struct blk_snap_uuid *id, int file_fd);
int control_snapshot_take(int fd, const struct blk_snap_uuid *id);
int control_snapshot_collect(int fd, struct blk_snap_uuid **ids,
			     unsigned int *nr_ids);
int control_snapshot_collect_images(int fd, const struct blk_snap_uuid *id,
				    struct blk_snap_image_info **images,
				    unsigned int *nr_images);
int control_snapshot_wait_event(int fd, const struct blk_snap_uuid *id,
				unsigned int timeout_ms,
				struct blk_snap_snapshot_event *event);
int control_snapshot_info(int fd, const struct blk_snap_uuid *id,
			  struct blk_snap_snapshot_info *info,
			  struct blk_snap_dev **devs);

#endif /* CONTROL_H */
