// SPDX-License-Identifier: GPL-2.0
/*
 * Warnings about origins that are part of something larger
 *
 * The module sees one device.  Whether that is a member of a filesystem or an
 * array which may come to harm by a snapshot of one member is to be seen from
 * here, as far as it shows.  What cannot be looked at is not warned of.
 */
#include <dirent.h>
#include <endian.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "advice.h"
#include "device.h"
#include "message.h"

/* The superblock of btrfs, as far as it is of interest here. */
#define BTRFS_SUPERBLOCK_OFFSET 65536
#define BTRFS_MAGIC_OFFSET 64
#define BTRFS_MAGIC "_BHRfS_M"
#define BTRFS_NR_DEVICES_OFFSET 136
#define BTRFS_HEAD_SIZE 144

#define DISCARD_PARAMETER \
	"/sys/module/raid456/parameters/devices_handle_discard_safely"

#define DISCARD_WARNING \
	"'%s' is a leg of an array and raid456 has devices_handle_discard_safely: discards that the snapshot skips make the parity wrong; take the snapshot of the array, or load blksnap with copy_discarded=Y"
#define BTRFS_WARNING \
	"'%s' is one device of a btrfs on several devices: while the snapshot is held, mount it with '-o device=DEV' for each, or an image may be taken for a device"

static bool read_superblock(const char *path, char head[BTRFS_HEAD_SIZE])
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t nr_bytes;

	if (fd < 0)
		return false;
	nr_bytes = pread(fd, head, BTRFS_HEAD_SIZE, BTRFS_SUPERBLOCK_OFFSET);
	close(fd);
	return nr_bytes == BTRFS_HEAD_SIZE;
}

/**
 * is_btrfs_on_several() - is a device one of several of a btrfs?
 * @path:	the device
 *
 * Return: true if it is.
 */
bool is_btrfs_on_several(const char *path)
{
	char head[BTRFS_HEAD_SIZE];
	uint64_t nr_devices;

	if (!read_superblock(path, head) ||
	    memcmp(head + BTRFS_MAGIC_OFFSET, BTRFS_MAGIC, strlen(BTRFS_MAGIC)))
		return false;
	memcpy(&nr_devices, head + BTRFS_NR_DEVICES_OFFSET, sizeof(nr_devices));
	return le64toh(nr_devices) > 1;
}

static bool has_parity(const char *level)
{
	return !strcmp(level, "raid4") || !strcmp(level, "raid5") ||
	       !strcmp(level, "raid6");
}

/* Is the device a leg of an array that computes its parity of discarded data? */
static bool is_leg_with_parity(struct blk_snap_dev dev)
{
	char path[PATH_MAX], level[16];
	struct dirent *entry;
	bool found = false;
	DIR *dir;

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/holders", dev.mj,
		 dev.mn);
	dir = opendir(path);
	while (dir && !found && (entry = readdir(dir))) {
		snprintf(path, sizeof(path), "/sys/class/block/%s/md/level",
			 entry->d_name);
		found = sysfs_read_line(path, level, sizeof(level)) &&
			has_parity(level);
	}
	if (dir)
		closedir(dir);
	return found;
}

static void advise_on_discards(struct blk_snap_dev dev, const char *name)
{
	char word[8];

	if (!sysfs_read_line(DISCARD_PARAMETER, word, sizeof(word)) || *word != 'Y' ||
	    !is_leg_with_parity(dev))
		return;
	/* Then the module carries them out. */
	if (sysfs_read_line("/sys/module/blksnap/parameters/copy_discarded", word,
			    sizeof(word)) && *word == 'Y')
		return;
	warn(DISCARD_WARNING, name);
}

static void advise_on_device(struct blk_snap_dev dev)
{
	char *path = device_path(dev);

	if (!path)
		return;
	if (is_btrfs_on_several(path))
		warn(BTRFS_WARNING, path);
	advise_on_discards(dev, path);
	free(path);
}

/**
 * advise() - warn of what a snapshot may do to what its devices are part of
 * @devs:	devices of a snapshot that is about to be created
 * @nr_devs:	number of devices
 */
void advise(const struct blk_snap_dev *devs, unsigned int nr_devs)
{
	unsigned int i;

	for (i = 0; i < nr_devs; i++)
		advise_on_device(devs[i]);
}
