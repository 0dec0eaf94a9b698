// SPDX-License-Identifier: GPL-2.0
/*
 * Difference storage: handing it to a snapshot
 */
#include <errno.h>
#include <string.h>

#include "blksnap_ioctl.h"
#include "kernel_log.h"
#include "message.h"
#include "storage.h"

/* What can be done where the module refuses a device or a range. */
static const struct {
	const char *reason;
	const char *advice;
} advices[] = {
	{ "it is an image", "use a device that is no image" },
	{ "it is read-only", "use another device, or 'blockdev --setrw' it" },
	{ "it lies on an origin through another driver",
	  "use another disk, or make the device in between, a logical volume say, the origin" },
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

static int fail_append(int error, const char *name, int log)
{
	char line[256];
	const char *reason = kernel_log_find(log, ": cannot be storage: ", line,
					     sizeof(line));

	if (!reason)
		return fail_call(blk_snap_ioctl_snapshot_append_storage, error,
				 "cannot append '%s'", name);
	return fail(EXIT_FAILED, "cannot append '%s': %s; %s", name, reason,
		    find_advice(reason));
}

/**
 * storage_append() - hand the ranges to a snapshot
 * @storage:	the ranges
 * @fd:		control node
 * @id:		the snapshot
 * @name:	what the user calls the storage, for messages
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int storage_append(const struct storage *storage, int fd, const struct blk_snap_uuid *id,
		   const char *name)
{
	int log = kernel_log_open();
	int ret = blksnap_snapshot_append_storage(fd, id, storage->dev, storage->ranges,
						  storage->nr_ranges);

	if (ret)
		ret = fail_append(ret, name, log);
	kernel_log_close(log);
	return ret;
}
