// SPDX-License-Identifier: GPL-2.0
/*
 * Which disk of the catalogue a device is
 */
#include <blkid.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "device.h"
#include "identity.h"
#include "message.h"
#include "util.h"

/* Where drivers show what a disk is, below its folder in sysfs. */
static const char *const wwid_files[] = { "wwid", "device/wwid", NULL };
static const char *const serial_files[] = {
	"serial", "device/serial", "dm/uuid", "md/uuid", NULL
};

static char *read_first(struct blk_snap_dev dev, const char *const *files)
{
	char path[96], line[256];

	for (; *files; files++) {
		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s", dev.mj,
			 dev.mn, *files);
		if (sysfs_read_line(path, line, sizeof(line)) && *line)
			return strdup(line);
	}
	return NULL;
}

static void find_tags(struct catalogue_disk *disk)
{
	const struct {
		const char *tag;
		char **to;
	} tags[] = {
		{ "PARTUUID", &disk->partuuid },
		{ "PTUUID", &disk->ptuuid },
		{ "UUID", &disk->fs_uuid },
		{ "UUID_SUB", &disk->fs_uuid_sub },
		{ "TYPE", &disk->fs_type },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(tags); i++)
		*tags[i].to = blkid_get_tag_value(NULL, tags[i].tag,
						  disk->device);
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
		find_tags(disk);
	} else {
		device_format_number(dev, number);
		disk->device = strdup(number);
	}
	disk->wwid = read_first(dev, wwid_files);
	disk->serial = read_first(dev, serial_files);
	return disk->device ? EXIT_OK : fail_memory();
}

/* By an identifier; false in @known if there is none that both have. */
static bool has_same_id(const struct catalogue_disk *a,
			const struct catalogue_disk *b, bool *known)
{
	const char *const ids[][2] = {
		{ a->partuuid, b->partuuid },
		{ a->wwid, b->wwid },
		{ a->serial, b->serial },
		{ a->fs_uuid_sub, b->fs_uuid_sub },
		{ a->fs_uuid, b->fs_uuid },
		{ a->ptuuid, b->ptuuid },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(ids); i++) {
		*known = ids[i][0] && ids[i][1];
		if (*known)
			return !strcmp(ids[i][0], ids[i][1]);
	}
	return false;
}

/* A filesystem comes and goes; what the hardware or a partition has stays. */
static bool has_lost_id(const struct catalogue_disk *disk,
			const struct catalogue_disk *then)
{
	return (then->partuuid && !disk->partuuid) ||
	       (then->wwid && !disk->wwid) || (then->serial && !disk->serial);
}

static bool is_same_disk(const struct catalogue_disk *disk,
			 const struct catalogue_disk *then)
{
	bool known, same = has_same_id(disk, then, &known);

	if (known)
		return same;
	return !strcmp(disk->device, then->device) &&
	       disk->capacity_bytes == then->capacity_bytes &&
	       !has_lost_id(disk, then);
}

/* Is the disk still at its old path, which is not that of @dev? */
static bool is_elsewhere(const struct catalogue_disk *then,
			 struct blk_snap_dev dev)
{
	struct catalogue_disk there = { 0 };
	struct blk_snap_dev old;
	bool known, same = false;
	struct stat st;

	if (stat(then->device, &st) || !S_ISBLK(st.st_mode))
		return false;
	old = device_from_dev_t(st.st_rdev);
	if (!device_equal(old, dev) && !identity_find(&there, old))
		same = has_same_id(&there, then, &known);
	catalogue_forget_disk(&there);
	return same;
}

/*
 * The name of the disk that it is in the catalogue, NULL if it is new.  What a disk
 * is known by is what its newest layer says.
 */
static const char *find_name(const struct catalogue_disk *disk,
			     struct blk_snap_dev dev,
			     const struct catalogue *catalogue,
			     const struct catalogue_point *point)
{
	const struct catalogue_disk *then;
	const char *name = NULL;
	uint64_t number;
	size_t i, j;

	for (i = catalogue->nr_points; i--;) {
		for (j = 0; j < catalogue->points[i].nr_disks; j++) {
			then = &catalogue->points[i].disks[j];
			if (!is_same_disk(disk, then) ||
			    catalogue_find_disk(point, then->disk) ||
			    catalogue_newest_disk(catalogue, then->disk,
						  &number) != then)
				continue;
			if (!strcmp(disk->device, then->device))
				return then->disk;
			if (!name && !is_elsewhere(then, dev))
				name = then->disk;
		}
	}
	return name;
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
 * @disk:	was found by identity_find() and has its size; gets the name
 * @dev:	the device
 * @catalogue:	the catalogue
 * @point:	the point that is being made, whose disks have their names
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int identity_name(struct catalogue_disk *disk, struct blk_snap_dev dev,
		  const struct catalogue *catalogue,
		  const struct catalogue_point *point)
{
	const char *known = find_name(disk, dev, catalogue, point);
	char first[64], name[80];
	unsigned int i;

	device_make_name(disk->device, first, sizeof(first));
	snprintf(name, sizeof(name), "%s", first);
	for (i = 2; !known && is_taken(catalogue, point, name); i++)
		snprintf(name, sizeof(name), "%s-%u", first, i);
	disk->disk = strdup(known ? known : name);
	return disk->disk ? EXIT_OK : fail_memory();
}
