// SPDX-License-Identifier: GPL-2.0
/*
 * Difference storage: handing it to a snapshot
 */
#include <string.h>

#include "connection.h"
#include "control.h"
#include "error.h"
#include "kernel_log.h"
#include "storage.h"

/* What can be done where the module refuses a device or a range. */
static const struct {
	const char *reason;
	const char *advice;
} advices[] = {
	{ "it is an image", "use a device that is no image" },
	{ "it is read-only", "use another device, or 'blockdev --setrw' it" },
	{ "it lies on an origin through another driver",
	  "use another disk, or memory, or make the device in between the origin" },
	{ "nothing would be left of an origin",
	  "use a part of it with --range, or another device" },
	{ "a range is storage already",
	  "use another range, or destroy one of the snapshots in 'blksnap snapshot list'" },
	{ "a range is storage of a snapshot that is ending",
	  "try again in a moment" },
	{ "another snapshot of it is taken",
	  "use another device, or destroy that snapshot first" },
	{ "its logical blocks are larger than those of an origin",
	  "use a device with blocks of the same size" },
	{ NULL, "nothing was appended" },
};

static const char *find_advice(const char *reason)
{
	size_t i = 0;

	while (advices[i].reason && strcmp(reason, advices[i].reason))
		i++;
	return advices[i].advice;
}

static int explain(int ret, int log)
{
	char line[256];
	const char *reason = kernel_log_find(log, ": cannot be storage: ", line,
					     sizeof(line));

	if (!reason)
		return error_call(blk_snap_ioctl_snapshot_append_storage, ret);
	return error_set(-ret, "%s; %s", reason, find_advice(reason));
}

/**
 * blksnap_snapshot_append_storage() - add difference storage
 * @blksnap:	connection
 * @id:		the snapshot
 * @dev:	device that the ranges lie on
 * @ranges:	ranges, in sectors
 * @nr_ranges:	number of ranges
 *
 * The text of a failure has what the module says about it in the kernel's log.
 *
 * Return: 0 or a negative errno, with which none is added.
 */
int blksnap_snapshot_append_storage(struct blksnap *blksnap,
				    const struct blk_snap_uuid *id,
				    struct blk_snap_dev dev,
				    const struct blk_snap_block_range *ranges,
				    unsigned int nr_ranges)
{
	int log = kernel_log_open();
	int ret = control_snapshot_append_storage(blksnap->fd, id, dev, ranges,
						  nr_ranges);

	if (ret)
		ret = explain(ret, log);
	kernel_log_close(log);
	return ret;
}

/**
 * blksnap_storage_append() - hand storage to a snapshot
 * @blksnap:	connection
 * @id:		the snapshot
 * @storage:	a file is pinned first, and its ranges are found again
 *
 * Return: 0 or a negative errno, with which none is added.
 */
int blksnap_storage_append(struct blksnap *blksnap, const struct blk_snap_uuid *id,
			   struct blksnap_storage *storage)
{
	int ret = storage->path ? storage_pin_file(blksnap, id, storage) : 0;

	if (ret)
		return ret;
	return blksnap_snapshot_append_storage(blksnap, id, storage->dev,
					       storage->ranges, storage->nr_ranges);
}
