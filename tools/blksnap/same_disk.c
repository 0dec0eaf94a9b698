// SPDX-License-Identifier: GPL-2.0
/*
 * Is a folder on a disk that is backed up?
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "device.h"
#include "mount_table.h"
#include "same_disk.h"

/* What is mounted at the folder, or at the next one above at which something is. */
static char *find_source(const char *folder)
{
	char place[PATH_MAX], *slash, *source;

	if (!realpath(folder, place))
		return NULL;
	for (;;) {
		source = mount_table_source(*place ? place : "/");
		slash = strrchr(place, '/');
		if (source || !slash)
			return source;
		*slash = 0;
	}
}

/* btrfs has numbers of its own, to which no device belongs. */
static bool find_device(const char *folder, struct blk_snap_dev *dev)
{
	struct stat st;
	char *source;
	bool found;

	if (stat(folder, &st))
		return false;
	*dev = device_from_dev_t(st.st_dev);
	if (dev->mj)
		return true;
	source = find_source(folder);
	found = source && *source == '/' && !stat(source, &st) &&
		S_ISBLK(st.st_mode);
	if (found)
		*dev = device_from_dev_t(st.st_rdev);
	free(source);
	return found;
}

/**
 * same_disk_find() - find a device that lies on the disk of a folder
 * @folder:	path of the folder
 * @devs:	the devices
 * @nr_devs:	number of devices
 *
 * Return: index of the first one; @nr_devs if there is none, or if that cannot be
 *	   found out, as on the network.
 */
unsigned int same_disk_find(const char *folder, const struct blk_snap_dev *devs,
			    unsigned int nr_devs)
{
	struct blk_snap_dev dev;
	unsigned int i;

	if (!find_device(folder, &dev))
		return nr_devs;
	for (i = 0; i < nr_devs; i++) {
		if (blksnap_device_share_disk(devs[i], dev))
			break;
	}
	return i;
}
