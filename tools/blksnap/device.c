// SPDX-License-Identifier: GPL-2.0
/*
 * Block devices and their names
 *
 * A device is named by the path of its node, by a tag that libblkid looks up,
 * or by its number.  The number need not belong to an existing device: a
 * tracked device that has gone away can be named in no other way.
 */
#include <blkid.h>
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "device.h"
#include "message.h"
#include "parse.h"
#include "util.h"

static bool is_tag(const char *text)
{
	static const char *const tags[] = {
		"UUID=", "LABEL=", "PARTUUID=", "PARTLABEL="
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(tags); i++) {
		if (!strncmp(text, tags[i], strlen(tags[i])))
			return true;
	}
	return false;
}

static int device_from_path(const char *path, const char *text,
			    struct blk_snap_dev *dev)
{
	struct stat st;

	if (stat(path, &st))
		return fail(EXIT_USAGE,
			    "'%s': %s; a device is named by " DEVICE_FORMS,
			    text, strerror(errno));
	if (!S_ISBLK(st.st_mode))
		return fail(EXIT_USAGE,
			    "'%s' is not a block device; it is named by " DEVICE_FORMS,
			    text);
	*dev = device_from_dev_t(st.st_rdev);
	return EXIT_OK;
}

static int device_from_tag(const char *text, struct blk_snap_dev *dev)
{
	char *path = blkid_evaluate_tag(text, NULL, NULL);
	int ret;

	if (!path)
		return fail(EXIT_USAGE,
			    "no block device has '%s'; 'blkid' shows which there are",
			    text);
	ret = device_from_path(path, text, dev);
	free(path);
	return ret;
}

/**
 * device_parse() - find the device that an argument names
 * @text:	the argument, see DEVICE_FORMS
 * @dev:	number of the device
 *
 * Return: EXIT_OK, or EXIT_USAGE after a message.
 */
int device_parse(const char *text, struct blk_snap_dev *dev)
{
	if (parse_dev(text, dev))
		return EXIT_OK;
	if (is_tag(text))
		return device_from_tag(text, dev);
	return device_from_path(text, text, dev);
}

/**
 * device_parse_list() - find several devices, each of them named once
 * @texts:	the arguments
 * @nr_texts:	number of arguments
 * @devs:	array to be freed by the caller, NULL on failure
 *
 * Return: EXIT_OK, or another exit code after a message.
 */
int device_parse_list(char **texts, int nr_texts, struct blk_snap_dev **devs)
{
	struct blk_snap_dev *list = calloc(nr_texts, sizeof(*list));
	int ret = EXIT_OK;
	int i, j;

	*devs = NULL;
	if (!list)
		return fail_memory();
	for (i = 0; i < nr_texts && !ret; i++) {
		ret = device_parse(texts[i], &list[i]);
		for (j = 0; j < i && !ret; j++) {
			if (device_equal(list[i], list[j]))
				ret = fail(EXIT_USAGE,
					   "'%s' and '%s' are the same device; name each once",
					   texts[j], texts[i]);
		}
	}
	if (ret)
		free(list);
	else
		*devs = list;
	return ret;
}

/**
 * device_make_name() - make a name of the end of a path, for example for a file
 * @device:	the path
 * @name:	gets the name: letters, digits, dots and the like
 * @size:	of @name
 */
void device_make_name(const char *device, char *name, size_t size)
{
	const char *slash = strrchr(device, '/');
	char *c;

	snprintf(name, size, "%s", slash ? slash + 1 : device);
	for (c = name; *c; c++) {
		if (!isalnum((unsigned char)*c) && !strchr("._+", *c))
			*c = '-';
	}
	if (*name == '.')
		*name = '-';
}

/**
 * device_format_number() - write a device number as text
 * @dev:	the device
 * @text:	the form that parse_dev() takes
 */
void device_format_number(struct blk_snap_dev dev,
			  char text[DEVICE_NUMBER_SIZE])
{
	snprintf(text, DEVICE_NUMBER_SIZE, "%u:%u", dev.mj, dev.mn);
}

/* The first line of a file, without its end. */
bool sysfs_read_line(const char *path, char *line, int size)
{
	FILE *file = fopen(path, "re");
	bool ok;

	if (!file)
		return false;
	ok = fgets(line, size, file);
	fclose(file);
	if (ok)
		line[strcspn(line, "\n")] = 0;
	return ok;
}

static struct blk_snap_dev whole_disk(struct blk_snap_dev dev)
{
	dev_t disk;

	if (blkid_devno_to_wholedisk(makedev(dev.mj, dev.mn), NULL, 0, &disk))
		return dev;
	return device_from_dev_t(disk);
}

/* What sysfs says of the queue of a disk; empty if it says nothing. */
static const char *queue_attribute(struct blk_snap_dev disk, const char *name)
{
	static char line[64];
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/queue/%s", disk.mj,
		 disk.mn, name);
	if (!sysfs_read_line(path, line, sizeof(line)))
		line[0] = 0;
	return line;
}

/**
 * device_is_image() - is a device an image of a snapshot?
 * @dev:	the device
 *
 * Return: true if it is.
 */
bool device_is_image(struct blk_snap_dev dev)
{
	char *path = device_path(dev);
	bool ok = path && strstr(path, "/" BLK_SNAP_IMAGE_NAME);

	free(path);
	return ok;
}

/**
 * device_obstacle() - find out why the module cannot protect a device
 * @dev:	the device
 *
 * Return: the reason, a sentence about "it"; NULL if none can be seen from here.
 */
const char *device_obstacle(struct blk_snap_dev dev)
{
	struct blk_snap_dev disk = whole_disk(dev);
	const char *zoned = queue_attribute(disk, "zoned");

	if (*zoned && strcmp(zoned, "none"))
		return "it is zoned";
	if (!strcmp(queue_attribute(disk, "dax"), "1"))
		return "it supports DAX";
	if (atoi(queue_attribute(disk, "logical_block_size")) > 4096)
		return "its logical blocks are larger than 4 KiB";
	return device_is_image(dev) ? "it is an image" : NULL;
}
