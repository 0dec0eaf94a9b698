// SPDX-License-Identifier: GPL-2.0
/*
 * Which disk of the catalogue a device is
 */
#include <blkid.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "device.h"
#include "identity.h"
#include "message.h"
#include "util.h"

/* Where drivers show the serial of a disk, below its folder in sysfs. */
static const char *const serial_files[] = {
	"serial", "device/serial", "dm/uuid", "md/uuid"
};

static char *read_serial(struct blk_snap_dev dev)
{
	char path[96], line[128];
	FILE *file;
	size_t i;
	bool ok;

	for (i = 0; i < ARRAY_SIZE(serial_files); i++) {
		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s", dev.mj,
			 dev.mn, serial_files[i]);
		file = fopen(path, "re");
		if (!file)
			continue;
		ok = fgets(line, sizeof(line), file);
		fclose(file);
		line[ok ? strcspn(line, "\n") : 0] = 0;
		if (*line)
			return strdup(line);
	}
	return NULL;
}

/**
 * identity_find() - find out what a device can be known by
 * @disk:	gets it
 * @dev:	the device, which need not have a node
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int identity_find(struct catalogue_disk *disk, struct blk_snap_dev dev)
{
	char number[DEVICE_NUMBER_SIZE];

	disk->device = device_path(dev);
	if (disk->device) {
		disk->partuuid = blkid_get_tag_value(NULL, "PARTUUID",
						     disk->device);
		disk->fs_uuid = blkid_get_tag_value(NULL, "UUID",
						    disk->device);
		disk->fs_type = blkid_get_tag_value(NULL, "TYPE",
						    disk->device);
	} else {
		device_format_number(dev, number);
		disk->device = strdup(number);
	}
	disk->serial = read_serial(dev);
	return disk->device ? EXIT_OK : fail_memory();
}

static bool is_same_disk(const struct catalogue_disk *a,
			 const struct catalogue_disk *b)
{
	if (a->partuuid && b->partuuid)
		return !strcmp(a->partuuid, b->partuuid);
	if (a->serial && b->serial)
		return !strcmp(a->serial, b->serial);
	if (a->fs_uuid && b->fs_uuid)
		return !strcmp(a->fs_uuid, b->fs_uuid);
	return !strcmp(a->device, b->device);
}

/* The newest disk of the catalogue that it is, NULL if it is new. */
static const char *find_name(const struct catalogue_disk *disk,
			     const struct catalogue *catalogue)
{
	const struct catalogue_point *point;
	size_t i, j;

	for (i = catalogue->nr_points; i--;) {
		point = &catalogue->points[i];
		for (j = 0; j < point->nr_disks; j++) {
			if (is_same_disk(disk, &point->disks[j]))
				return point->disks[j].disk;
		}
	}
	return NULL;
}

static bool is_taken(const struct catalogue *catalogue,
		     const struct catalogue_point *point, const char *name)
{
	uint64_t number;

	return catalogue_newest_disk(catalogue, name, &number) ||
	       catalogue_find_disk(point, name);
}

/**
 * identity_name() - name a disk as in the catalogue, or anew
 * @disk:	was found by identity_find(), gets the name
 * @catalogue:	the catalogue
 * @point:	the point that is being made, whose disks have their names
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int identity_name(struct catalogue_disk *disk,
		  const struct catalogue *catalogue,
		  const struct catalogue_point *point)
{
	const char *known = find_name(disk, catalogue);
	char first[64], name[80];
	unsigned int i;

	device_make_name(disk->device, first, sizeof(first));
	snprintf(name, sizeof(name), "%s", first);
	if (known && !catalogue_find_disk(point, known)) {
		disk->disk = strdup(known);
	} else {
		for (i = 2; is_taken(catalogue, point, name); i++)
			snprintf(name, sizeof(name), "%s-%u", first, i);
		disk->disk = strdup(name);
	}
	return disk->disk ? EXIT_OK : fail_memory();
}
