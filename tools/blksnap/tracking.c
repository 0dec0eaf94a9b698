// SPDX-License-Identifier: GPL-2.0
/*
 * Which devices were tracked before
 *
 * To create a snapshot starts the tracking of its devices, and to destroy it
 * does not end that.  A command that fails halfway has to end it itself, but
 * only for the devices that nobody had tracked before.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include <blksnap/blksnap.h>

#include "device.h"
#include "message.h"
#include "tracking.h"

/**
 * tracking_read() - note which devices are tracked
 * @tracking:	filled in, to be freed with tracking_free() in any case
 * @blksnap:	connection
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int tracking_read(struct tracking *tracking, struct blksnap *blksnap)
{
	int ret = blksnap_tracker_collect(blksnap, &tracking->infos,
					  &tracking->nr_infos);

	if (ret)
		return fail_call("cannot list the tracked devices");
	return EXIT_OK;
}

/**
 * tracking_free() - free what tracking_read() has allocated
 * @tracking:	the devices
 */
void tracking_free(struct tracking *tracking)
{
	free(tracking->infos);
}

static bool has_device(const struct tracking *tracking,
		       struct blk_snap_dev dev)
{
	unsigned int i;

	for (i = 0; i < tracking->nr_infos; i++) {
		if (device_equal(tracking->infos[i].dev_id, dev))
			return true;
	}
	return false;
}

/**
 * tracking_restore() - stop tracking devices that were not tracked before
 * @tracking:	the devices that were
 * @blksnap:	connection
 * @devs:	devices of a snapshot that is destroyed
 * @nr_devs:	number of devices
 *
 * A device that belongs to a snapshot of somebody else by now stays tracked for
 * that one.  A message tells of any other failure.
 */
void tracking_restore(const struct tracking *tracking, struct blksnap *blksnap,
		      const struct blk_snap_dev *devs, unsigned int nr_devs)
{
	char number[DEVICE_NUMBER_SIZE];
	unsigned int i;
	int ret;

	for (i = 0; i < nr_devs; i++) {
		if (has_device(tracking, devs[i]))
			continue;
		ret = blksnap_tracker_remove(blksnap, devs[i]);
		if (!ret || ret == -ENODATA)
			continue;
		device_format_number(devs[i], number);
		fail_call("device %s stays tracked", number);
	}
}
