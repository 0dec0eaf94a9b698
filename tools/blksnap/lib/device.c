// SPDX-License-Identifier: GPL-2.0
/*
 * Block devices by number
 */
#include <blkid.h>
#include <dirent.h>
#include <stdio.h>
#include <sys/sysmacros.h>

#include "device.h"

/* Deeper than device mapper stacks are in practice; ends a loop in sysfs. */
#define STACK_DEPTH_MAX 16

/* Of a path in sysfs with the name of a device in it. */
#define PATH_SIZE 512

static struct blk_snap_dev whole_disk(struct blk_snap_dev dev)
{
	dev_t disk;

	if (blkid_devno_to_wholedisk(makedev(dev.mj, dev.mn), NULL, 0, &disk))
		return dev;
	return device_from_dev_t(disk);
}

static bool read_dev(const char *path, struct blk_snap_dev *dev)
{
	FILE *file = fopen(path, "re");
	bool ok;

	if (!file)
		return false;
	ok = fscanf(file, "%u:%u", &dev->mj, &dev->mn) == 2;
	fclose(file);
	return ok;
}

/*
 * Calls @test for each disk that @dev is made of, until it returns true.  The
 * disks are those at the bottom of the stack: a volume of the device mapper or
 * of md counts as the disks below it.
 */
static bool any_disk_below(struct blk_snap_dev dev, unsigned int depth,
			   bool (*test)(struct blk_snap_dev disk,
					const struct blk_snap_dev *arg),
			   const struct blk_snap_dev *arg)
{
	struct blk_snap_dev disk = whole_disk(dev), slave;
	bool found = false, bottom = true;
	char path[PATH_SIZE];
	struct dirent *entry;
	DIR *dir;

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/slaves", disk.mj,
		 disk.mn);
	dir = depth < STACK_DEPTH_MAX ? opendir(path) : NULL;
	while (dir && !found && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path),
			 "/sys/dev/block/%u:%u/slaves/%s/dev", disk.mj, disk.mn,
			 entry->d_name);
		if (!read_dev(path, &slave))
			continue;
		bottom = false;
		found = any_disk_below(slave, depth + 1, test, arg);
	}
	if (dir)
		closedir(dir);
	return found || (bottom && test(disk, arg));
}

static bool disk_is(struct blk_snap_dev disk, const struct blk_snap_dev *arg)
{
	return device_equal(disk, *arg);
}

static bool disk_is_below(struct blk_snap_dev disk,
			  const struct blk_snap_dev *arg)
{
	return any_disk_below(*arg, 0, disk_is, &disk);
}

/**
 * blksnap_device_share_disk() - do two devices lie on a common disk?
 * @a:		a device
 * @b:		another
 *
 * Return: true if they do, be it as partitions or as volumes.
 */
bool blksnap_device_share_disk(struct blk_snap_dev a, struct blk_snap_dev b)
{
	return any_disk_below(a, 0, disk_is_below, &b);
}
