// SPDX-License-Identifier: GPL-2.0
/*
 * The calls of the module, with a text for each failure
 */
#include <stdlib.h>
#include <unistd.h>

#include "connection.h"
#include "control.h"
#include "error.h"

/**
 * blksnap_open() - connect to the module
 * @blksnap:	gets the connection, to be closed by blksnap_close()
 *
 * Return: 0 or a negative errno; -ENOENT if the module is not loaded.
 */
int blksnap_open(struct blksnap **blksnap)
{
	struct blksnap *opened = malloc(sizeof(*opened));

	*blksnap = NULL;
	if (!opened)
		return error_memory();
	opened->fd = control_open();
	if (opened->fd < 0) {
		int ret = error_call(CALL_OPEN, opened->fd);

		free(opened);
		return ret;
	}
	*blksnap = opened;
	return 0;
}

/**
 * blksnap_close() - end a connection
 * @blksnap:	the connection; no thread may be in a call with it; NULL is as good
 */
void blksnap_close(struct blksnap *blksnap)
{
	if (!blksnap)
		return;
	close(blksnap->fd);
	free(blksnap);
}

/**
 * blksnap_version() - ask for the version of the module
 * @blksnap:	connection
 * @version:	filled in
 *
 * Return: 0 or a negative errno.
 */
int blksnap_version(struct blksnap *blksnap, struct blk_snap_version *version)
{
	return error_call(blk_snap_ioctl_version, control_version(blksnap->fd, version));
}

/**
 * blksnap_tracker_remove() - stop tracking a device
 * @blksnap:	connection
 * @dev:	tracked device
 *
 * Return: 0 or a negative errno; -ENODATA if it is not tracked, -EBUSY if it is in a
 *	   snapshot.
 */
int blksnap_tracker_remove(struct blksnap *blksnap, struct blk_snap_dev dev)
{
	return error_call(blk_snap_ioctl_tracker_remove,
			  control_tracker_remove(blksnap->fd, dev));
}

/**
 * blksnap_tracker_collect() - list the tracked devices
 * @blksnap:	connection
 * @infos:	array to be freed by the caller, NULL if there is none
 * @nr_infos:	number of entries
 *
 * Return: 0 or a negative errno.
 */
int blksnap_tracker_collect(struct blksnap *blksnap, struct blk_snap_cbt_info **infos,
			    unsigned int *nr_infos)
{
	return error_call(blk_snap_ioctl_tracker_collect,
			  control_tracker_collect(blksnap->fd, infos, nr_infos));
}

/**
 * blksnap_tracker_read_cbt_map() - read a piece of the map of changed blocks
 * @blksnap:	connection
 * @dev:	tracked device
 * @offset:	index of the first tracking block
 * @length:	number of tracking blocks, which is the size of @buffer in bytes
 * @buffer:	one byte is stored here for each tracking block
 *
 * blksnap_cbt_load() reads all of it, and what it belongs to.
 *
 * Return: the number of bytes stored, 0 at the end of the map, or a negative errno.
 */
int blksnap_tracker_read_cbt_map(struct blksnap *blksnap, struct blk_snap_dev dev,
				 unsigned int offset, unsigned int length,
				 void *buffer)
{
	return error_call(blk_snap_ioctl_tracker_read_cbt_map,
			  control_tracker_read_cbt_map(blksnap->fd, dev, offset, length,
						       buffer));
}

/**
 * blksnap_tracker_mark_dirty_blocks() - mark ranges as changed
 * @blksnap:	connection
 * @dev:	tracked device, or an image of it
 * @ranges:	ranges, in sectors
 * @nr_ranges:	number of ranges
 *
 * Return: 0 or a negative errno, with which none is marked.
 */
int blksnap_tracker_mark_dirty_blocks(struct blksnap *blksnap, struct blk_snap_dev dev,
				      const struct blk_snap_block_range *ranges,
				      unsigned int nr_ranges)
{
	return error_call(blk_snap_ioctl_tracker_mark_dirty_blocks,
			  control_tracker_mark_dirty_blocks(blksnap->fd, dev, ranges,
							    nr_ranges));
}

/**
 * blksnap_snapshot_create() - prepare a snapshot of some devices
 * @blksnap:	connection
 * @devs:	the devices, which are tracked from now on
 * @nr_devs:	number of devices
 * @id:		identifier of the new snapshot
 *
 * Return: 0 or a negative errno.
 */
int blksnap_snapshot_create(struct blksnap *blksnap, const struct blk_snap_dev *devs,
			    unsigned int nr_devs, struct blk_snap_uuid *id)
{
	return error_call(blk_snap_ioctl_snapshot_create,
			  control_snapshot_create(blksnap->fd, devs, nr_devs, id));
}

/**
 * blksnap_snapshot_destroy() - give a snapshot up
 * @blksnap:	connection
 * @id:		the snapshot
 *
 * Return: 0 or a negative errno; -ENODEV if there is no such snapshot.
 */
int blksnap_snapshot_destroy(struct blksnap *blksnap, const struct blk_snap_uuid *id)
{
	return error_call(blk_snap_ioctl_snapshot_destroy,
			  control_snapshot_destroy(blksnap->fd, id));
}

/**
 * blksnap_snapshot_pin_file() - keep a file in its place for a snapshot
 * @blksnap:	connection
 * @id:		the snapshot
 * @file_fd:	the file; it may be closed after the call
 *
 * blksnap_storage_append() does it for a file.
 *
 * Return: 0 or a negative errno; -ENOTTY if the module does not know the call.
 */
int blksnap_snapshot_pin_file(struct blksnap *blksnap, const struct blk_snap_uuid *id,
			      int file_fd)
{
	return error_call(blk_snap_ioctl_snapshot_pin_file,
			  control_snapshot_pin_file(blksnap->fd, id, file_fd));
}

/**
 * blksnap_snapshot_take() - take a snapshot, all of its devices at one instant
 * @blksnap:	connection
 * @id:		the snapshot, which has difference storage
 *
 * Return: 0 or a negative errno, with which it is as before.
 */
int blksnap_snapshot_take(struct blksnap *blksnap, const struct blk_snap_uuid *id)
{
	return error_call(blk_snap_ioctl_snapshot_take,
			  control_snapshot_take(blksnap->fd, id));
}

/**
 * blksnap_snapshot_collect() - list the snapshots
 * @blksnap:	connection
 * @ids:	array to be freed by the caller, NULL if there is none
 * @nr_ids:	number of entries
 *
 * Return: 0 or a negative errno.
 */
int blksnap_snapshot_collect(struct blksnap *blksnap, struct blk_snap_uuid **ids,
			     unsigned int *nr_ids)
{
	return error_call(blk_snap_ioctl_snapshot_collect,
			  control_snapshot_collect(blksnap->fd, ids, nr_ids));
}

/**
 * blksnap_snapshot_collect_images() - list the images of a snapshot
 * @blksnap:	connection
 * @id:		the snapshot
 * @images:	array to be freed by the caller, NULL if there is none
 * @nr_images:	number of entries
 *
 * The image of minor number N is /dev/blksnap-imageN.
 *
 * Return: 0 or a negative errno; -ESRCH if there is no such snapshot, -ENODEV if it is
 *	   not taken yet.
 */
int blksnap_snapshot_collect_images(struct blksnap *blksnap,
				    const struct blk_snap_uuid *id,
				    struct blk_snap_image_info **images,
				    unsigned int *nr_images)
{
	return error_call(blk_snap_ioctl_snapshot_collect_images,
			  control_snapshot_collect_images(blksnap->fd, id, images,
							  nr_images));
}

/**
 * blksnap_snapshot_info() - ask what a snapshot holds, since when, and for whom
 * @blksnap:	connection
 * @id:		the snapshot
 * @info:	filled in, but for the address of the array
 * @devs:	array of as many devices as @info tells, to be freed by the caller
 *
 * Return: 0 or a negative errno.
 */
int blksnap_snapshot_info(struct blksnap *blksnap, const struct blk_snap_uuid *id,
			  struct blk_snap_snapshot_info *info,
			  struct blk_snap_dev **devs)
{
	return error_call(blk_snap_ioctl_snapshot_info,
			  control_snapshot_info(blksnap->fd, id, info, devs));
}

/**
 * blksnap_snapshot_wait_event() - wait for an event of a snapshot
 * @blksnap:	connection
 * @id:		the snapshot
 * @timeout_ms:	how long to wait at most; 0 only looks whether an event is there
 * @event:	filled in
 *
 * Return: 0 with an event; -ENOENT if none arose in time, -EINTR after a signal,
 *	   -ESRCH if there is no such snapshot, or another negative errno.
 */
int blksnap_snapshot_wait_event(struct blksnap *blksnap, const struct blk_snap_uuid *id,
				unsigned int timeout_ms,
				struct blk_snap_snapshot_event *event)
{
	return error_call(blk_snap_ioctl_snapshot_wait_event,
			  control_snapshot_wait_event(blksnap->fd, id, timeout_ms,
						      event));
}
