// SPDX-License-Identifier: GPL-2.0
/*
 * The calls of the blksnap module as C functions
 *
 * The three calls that fill an array are asked for the count first and for the
 * entries then.  Devices and snapshots may come in between, so the array is
 * enlarged to the count that the module reports and the call is repeated until
 * everything fits.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "control.h"

static int call(int fd, unsigned long request, void *arg)
{
	int ret = ioctl(fd, request, arg);

	return ret < 0 ? -errno : ret;
}

/**
 * control_open() - open the control node
 *
 * Return: a file descriptor to be closed by the caller, or a negative errno;
 *	   -ENOENT if the module is not loaded.
 */
int control_open(void)
{
	int fd = open("/dev/" BLK_SNAP_CTL, O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/**
 * control_version() - ask for the version of the module
 * @fd:		control node
 * @version:	filled in
 *
 * Return: 0 or a negative errno.
 */
int control_version(int fd, struct blk_snap_version *version)
{
	return call(fd, IOCTL_BLK_SNAP_VERSION, version);
}

/**
 * control_tracker_remove() - stop tracking a device
 * @fd:		control node
 * @dev:	tracked device
 *
 * Return: 0 or a negative errno.
 */
int control_tracker_remove(int fd, struct blk_snap_dev dev)
{
	struct blk_snap_tracker_remove arg = { .dev_id = dev };

	return call(fd, IOCTL_BLK_SNAP_TRACKER_REMOVE, &arg);
}

/*
 * An array that is filled by a "collect" call.  @fetch makes the call with room
 * for @count entries at @entries, stores the count that the module wrote back
 * in @count, and returns @too_small_error if there was not room enough.
 */
struct collection {
	int (*fetch)(struct collection *c);
	int too_small_error;
	size_t entry_size;
	const struct blk_snap_uuid *id;
	int fd;
	void *entries;
	__u32 count;
};

static int collection_fill(struct collection *c)
{
	__u32 room;
	int ret;

	ret = c->fetch(c);
	if (ret || !c->count)
		return ret;

	do {
		free(c->entries);
		room = c->count;
		c->entries = calloc(room, c->entry_size);
		if (!c->entries)
			return -ENOMEM;
		ret = c->fetch(c);
	} while (ret == c->too_small_error && c->count > room);

	if (ret == c->too_small_error || (!ret && c->count > room))
		ret = -EPROTO;
	return ret;
}

static int collection_result(struct collection *c, void **entries,
			     unsigned int *nr_entries)
{
	int ret = collection_fill(c);

	*entries = NULL;
	*nr_entries = 0;
	if (ret || !c->count) {
		free(c->entries);
		return ret;
	}
	*entries = c->entries;
	*nr_entries = c->count;
	return 0;
}

static int fetch_trackers(struct collection *c)
{
	struct blk_snap_tracker_collect arg = {
		.count = c->count,
		.cbt_info_array = c->entries,
	};
	int ret = call(c->fd, IOCTL_BLK_SNAP_TRACKER_COLLECT, &arg);

	c->count = arg.count;
	return ret;
}

/**
 * control_tracker_collect() - list the tracked devices
 * @fd:		control node
 * @infos:	array to be freed by the caller, NULL if there is none or on
 *		failure
 * @nr_infos:	number of entries
 *
 * Return: 0 or a negative errno.
 */
int control_tracker_collect(int fd, struct blk_snap_cbt_info **infos,
			    unsigned int *nr_infos)
{
	struct collection c = {
		.fetch = fetch_trackers,
		.too_small_error = -ENOBUFS,
		.entry_size = sizeof(**infos),
		.fd = fd,
	};
	void *entries;
	int ret = collection_result(&c, &entries, nr_infos);

	*infos = entries;
	return ret;
}

/**
 * control_tracker_read_cbt_map() - read a piece of the map of changed blocks
 * @fd:		control node
 * @dev:	tracked device
 * @offset:	index of the first tracking block
 * @length:	number of tracking blocks, which is the size of @buffer in bytes
 * @buffer:	one byte is stored here for each tracking block
 *
 * Return: the number of bytes stored, 0 at the end of the map, or a negative
 *	   errno.
 */
int control_tracker_read_cbt_map(int fd, struct blk_snap_dev dev,
				 unsigned int offset, unsigned int length,
				 void *buffer)
{
	struct blk_snap_tracker_read_cbt_bitmap arg = {
		.dev_id = dev,
		.offset = offset,
		.length = length,
		.buff = buffer,
	};

	return call(fd, IOCTL_BLK_SNAP_TRACKER_READ_CBT_MAP, &arg);
}

/**
 * control_tracker_mark_dirty_blocks() - mark ranges as changed
 * @fd:		control node
 * @dev:	tracked device, or an image of it
 * @ranges:	ranges, in sectors
 * @nr_ranges:	number of ranges
 *
 * Return: 0 or a negative errno.
 */
int control_tracker_mark_dirty_blocks(int fd, struct blk_snap_dev dev,
				      const struct blk_snap_block_range *ranges,
				      unsigned int nr_ranges)
{
	struct blk_snap_tracker_mark_dirty_blocks arg = {
		.dev_id = dev,
		.count = nr_ranges,
		.dirty_blocks_array = (struct blk_snap_block_range *)ranges,
	};

	return call(fd, IOCTL_BLK_SNAP_TRACKER_MARK_DIRTY_BLOCKS, &arg);
}

/**
 * control_snapshot_create() - prepare a snapshot of some devices
 * @fd:		control node
 * @devs:	the devices
 * @nr_devs:	number of devices
 * @id:		identifier of the new snapshot
 *
 * Return: 0 or a negative errno.
 */
int control_snapshot_create(int fd, const struct blk_snap_dev *devs,
			    unsigned int nr_devs, struct blk_snap_uuid *id)
{
	struct blk_snap_snapshot_create arg = {
		.count = nr_devs,
		.dev_id_array = (struct blk_snap_dev *)devs,
	};
	int ret = call(fd, IOCTL_BLK_SNAP_SNAPSHOT_CREATE, &arg);

	*id = arg.id;
	return ret;
}

/**
 * control_snapshot_destroy() - give a snapshot up
 * @fd:		control node
 * @id:		the snapshot
 *
 * Return: 0 or a negative errno.
 */
int control_snapshot_destroy(int fd, const struct blk_snap_uuid *id)
{
	struct blk_snap_snapshot_destroy arg = { .id = *id };

	return call(fd, IOCTL_BLK_SNAP_SNAPSHOT_DESTROY, &arg);
}

/**
 * control_snapshot_append_storage() - add difference storage
 * @fd:		control node
 * @id:		the snapshot
 * @dev:	device that the ranges lie on
 * @ranges:	ranges, in sectors
 * @nr_ranges:	number of ranges
 *
 * Return: 0 or a negative errno.
 */
int control_snapshot_append_storage(int fd, const struct blk_snap_uuid *id,
				    struct blk_snap_dev dev,
				    const struct blk_snap_block_range *ranges,
				    unsigned int nr_ranges)
{
	struct blk_snap_snapshot_append_storage arg = {
		.id = *id,
		.dev_id = dev,
		.count = nr_ranges,
		.ranges = (struct blk_snap_block_range *)ranges,
	};

	return call(fd, IOCTL_BLK_SNAP_SNAPSHOT_APPEND_STORAGE, &arg);
}

/**
 * control_snapshot_pin_file() - keep a file in its place for a snapshot
 * @fd:		control node
 * @id:		the snapshot
 * @file_fd:	the file; it may be closed after the call
 *
 * Return: 0 or a negative errno.
 */
int control_snapshot_pin_file(int fd, const struct blk_snap_uuid *id, int file_fd)
{
	struct blk_snap_snapshot_pin_file arg = { .id = *id, .fd = file_fd };

	return call(fd, IOCTL_BLK_SNAP_SNAPSHOT_PIN_FILE, &arg);
}

/**
 * control_snapshot_take() - take a snapshot
 * @fd:		control node
 * @id:		the snapshot
 *
 * Return: 0 or a negative errno.
 */
int control_snapshot_take(int fd, const struct blk_snap_uuid *id)
{
	struct blk_snap_snapshot_take arg = { .id = *id };

	return call(fd, IOCTL_BLK_SNAP_SNAPSHOT_TAKE, &arg);
}

static int fetch_snapshots(struct collection *c)
{
	struct blk_snap_snapshot_collect arg = {
		.count = c->count,
		.ids = c->entries,
	};
	int ret = call(c->fd, IOCTL_BLK_SNAP_SNAPSHOT_COLLECT, &arg);

	c->count = arg.count;
	return ret;
}

/**
 * control_snapshot_collect() - list the snapshots
 * @fd:		control node
 * @ids:	array to be freed by the caller, NULL if there is none or on
 *		failure
 * @nr_ids:	number of entries
 *
 * Return: 0 or a negative errno.
 */
int control_snapshot_collect(int fd, struct blk_snap_uuid **ids,
			     unsigned int *nr_ids)
{
	struct collection c = {
		.fetch = fetch_snapshots,
		.too_small_error = -ENODATA,
		.entry_size = sizeof(**ids),
		.fd = fd,
	};
	void *entries;
	int ret = collection_result(&c, &entries, nr_ids);

	*ids = entries;
	return ret;
}

static int fetch_images(struct collection *c)
{
	struct blk_snap_snapshot_collect_images arg = {
		.id = *c->id,
		.count = c->count,
		.image_info_array = c->entries,
	};
	int ret = call(c->fd, IOCTL_BLK_SNAP_SNAPSHOT_COLLECT_IMAGES, &arg);

	c->count = arg.count;
	return ret;
}

/**
 * control_snapshot_collect_images() - list the images of a snapshot
 * @fd:		control node
 * @id:		the snapshot
 * @images:	array to be freed by the caller, NULL if there is none or on
 *		failure
 * @nr_images:	number of entries
 *
 * Return: 0 or a negative errno; -ENODEV if the snapshot is not taken yet.
 */
int control_snapshot_collect_images(int fd, const struct blk_snap_uuid *id,
				    struct blk_snap_image_info **images,
				    unsigned int *nr_images)
{
	struct collection c = {
		.fetch = fetch_images,
		.too_small_error = -ENODATA,
		.entry_size = sizeof(**images),
		.id = id,
		.fd = fd,
	};
	void *entries;
	int ret = collection_result(&c, &entries, nr_images);

	*images = entries;
	return ret;
}

/**
 * control_snapshot_wait_event() - wait for an event of a snapshot
 * @fd:		control node
 * @id:		the snapshot
 * @timeout_ms:	how long to wait at most; 0 only looks whether an event is there
 * @event:	filled in
 *
 * Return: 0 with an event; -ENOENT if none arose in time, -EINTR after a
 *	   signal, or another negative errno.
 */
int control_snapshot_wait_event(int fd, const struct blk_snap_uuid *id,
				unsigned int timeout_ms,
				struct blk_snap_snapshot_event *event)
{
	*event = (struct blk_snap_snapshot_event) {
		.id = *id,
		.timeout_ms = timeout_ms,
	};
	return call(fd, IOCTL_BLK_SNAP_SNAPSHOT_WAIT_EVENT, event);
}

/**
 * control_snapshot_info() - ask what a snapshot holds, since when, and for whom
 * @fd:		control node
 * @id:		the snapshot
 * @info:	filled in, but for the address of the array
 * @devs:	array of as many devices as @info tells, to be freed by the caller,
 *		NULL on failure
 *
 * The devices of a snapshot never change, so the count is asked for once.
 *
 * Return: 0 or a negative errno.
 */
int control_snapshot_info(int fd, const struct blk_snap_uuid *id,
			  struct blk_snap_snapshot_info *info,
			  struct blk_snap_dev **devs)
{
	__u32 room;
	int ret;

	*devs = NULL;
	*info = (struct blk_snap_snapshot_info) { .id = *id };
	ret = call(fd, IOCTL_BLK_SNAP_SNAPSHOT_INFO, info);
	if (ret)
		return ret;
	room = info->count;
	*devs = calloc(room, sizeof(**devs));
	if (!*devs)
		return -ENOMEM;
	*info = (struct blk_snap_snapshot_info) {
		.id = *id,
		.count = room,
		.dev_id_array = (uintptr_t)*devs,
	};
	ret = call(fd, IOCTL_BLK_SNAP_SNAPSHOT_INFO, info);
	if (!ret && info->count != room)
		ret = -EPROTO;
	if (ret) {
		free(*devs);
		*devs = NULL;
	}
	info->dev_id_array = 0;
	return ret;
}
