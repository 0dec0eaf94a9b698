// SPDX-License-Identifier: GPL-2.0
/*
 * Commands that list snapshots and images
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <blksnap/blksnap.h>

#include "commands.h"
#include "device.h"
#include "holder.h"
#include "message.h"
#include "output.h"
#include "util.h"

#define DEVICES_CELL_SIZE 128	/* --json has all of them */

static struct json_object *images_to_json(const struct blk_snap_image_info *images,
					  unsigned int nr_images)
{
	struct json_object *rows = json_object_new_array();
	struct json_object *row;
	char image[64], number[DEVICE_NUMBER_SIZE];
	unsigned int i;

	for (i = 0; i < nr_images; i++) {
		row = json_object_new_object();
		add_dev(row, "origin", "origin_number", images[i].orig_dev_id);
		/* udev may be late, but the name follows from the number. */
		snprintf(image, sizeof(image), "/dev/%s%u", BLK_SNAP_IMAGE_NAME,
			 images[i].image_dev_id.mn);
		device_format_number(images[i].image_dev_id, number);
		add_text(row, "image", image);
		add_text(row, "image_number", number);
		json_object_array_add(rows, row);
	}
	return rows;
}

static struct json_object *devices_to_json(const struct blk_snap_dev *devs,
					   unsigned int nr_devs)
{
	struct json_object *rows = json_object_new_array();
	struct json_object *row;
	unsigned int i;

	for (i = 0; i < nr_devs; i++) {
		row = json_object_new_object();
		add_dev(row, "device", "device_number", devs[i]);
		json_object_array_add(rows, row);
	}
	return rows;
}

static struct json_object *creator_to_json(const struct blk_snap_snapshot_info *info)
{
	struct json_object *row = json_object_new_object();
	char text[CREATOR_TEXT_SIZE];
	bool has_ended = info->flags & BLK_SNAP_INFO_CREATOR_ENDED;

	format_creator(info, text);
	*strrchr(text, '[') = 0;
	add_text(row, "name", text);
	add_number(row, "pid", info->pid);
	json_object_object_add(row, "ended", json_object_new_boolean(has_ended));
	return row;
}

/* The devices in one cell of a table, by path or else by number. */
static void add_devices_cell(struct json_object *row, struct json_object *devices)
{
	struct json_object *device, *name;
	char cell[DEVICES_CELL_SIZE] = "";
	size_t nr_devices = json_object_array_length(devices);
	size_t i, length = 0;

	for (i = 0; i < nr_devices && length < sizeof(cell); i++) {
		device = json_object_array_get_idx(devices, i);
		name = json_object_object_get(device, "device") ?:
		       json_object_object_get(device, "device_number");
		length += snprintf(cell + length, sizeof(cell) - length, "%s%s",
				   i ? "," : "", json_object_get_string(name));
	}
	if (length >= sizeof(cell))
		strcpy(cell + sizeof(cell) - sizeof("..."), "...");
	add_text(row, "devices_cell", cell);
}

static void add_cells(struct json_object *row,
		      const struct blk_snap_snapshot_info *info,
		      struct json_object *devices)
{
	char age[AGE_TEXT_SIZE], creator[CREATOR_TEXT_SIZE];

	format_age(info->age_ms, age);
	format_creator(info, creator);
	add_text(row, "age_cell", age);
	add_text(row, "creator_cell", creator);
	add_devices_cell(row, devices);
}

/* A module that does not know the call leaves these values out. */
static void add_info(struct json_object *row, struct blksnap *blksnap,
		     const struct blk_snap_uuid *id, bool with_cells)
{
	struct blk_snap_snapshot_info info;
	struct json_object *devices;
	struct blk_snap_dev *devs;

	if (blksnap_snapshot_info(blksnap, id, &info, &devs))
		return;
	devices = devices_to_json(devs, info.count);
	if (with_cells)
		add_cells(row, &info, devices);
	add_number(row, "age_ms", info.age_ms);
	json_object_object_add(row, "creator", creator_to_json(&info));
	json_object_object_add(row, "devices", devices);
	free(devs);
}

/**
 * snapshot_to_json() - tell what a snapshot is and what it holds
 * @blksnap:	connection
 * @id:		the snapshot
 * @with_cells:	also as texts for a table, in keys that end with "_cell"
 *
 * Return: an object to be put by the caller; NULL if the snapshot was destroyed
 *	   meanwhile.
 */
struct json_object *snapshot_to_json(struct blksnap *blksnap,
				     const struct blk_snap_uuid *id, bool with_cells)
{
	struct blk_snap_image_info *images;
	struct json_object *row;
	unsigned int nr_images;
	int ret;

	ret = blksnap_snapshot_collect_images(blksnap, id, &images, &nr_images);
	if (ret == -ESRCH)
		return NULL;
	row = json_object_new_object();
	add_uuid(row, "id", id);
	add_text(row, "state", ret ? "created" : "taken");
	add_number(row, "image_count", nr_images);
	json_object_object_add(row, "images", images_to_json(images, nr_images));
	free(images);
	add_info(row, blksnap, id, with_cells);
	return row;
}

static void print_snapshots(struct blksnap *blksnap, const struct blk_snap_uuid *ids,
			    unsigned int nr_ids, const struct cmdline *cl)
{
	static const struct column columns[] = {
		{ "ID", "id", COLUMN_TEXT },
		{ "STATE", "state", COLUMN_TEXT },
		{ "IMAGES", "image_count", COLUMN_NUMBER },
		{ "AGE", "age_cell", COLUMN_TEXT },
		{ "CREATOR", "creator_cell", COLUMN_TEXT },
		{ "DEVICES", "devices_cell", COLUMN_TEXT },
	};
	struct json_object *result = json_object_new_object();
	struct json_object *rows = json_object_new_array();
	struct json_object *row;
	unsigned int i;

	for (i = 0; i < nr_ids; i++) {
		row = snapshot_to_json(blksnap, &ids[i], !cl->json);
		if (row)
			json_object_array_add(rows, row);
	}
	json_object_object_add(result, "snapshots", rows);
	output_result(cl, result, rows, columns, ARRAY_SIZE(columns));
	json_object_put(result);
}

static int run_list(struct cmdline *cl)
{
	struct blk_snap_uuid *ids;
	unsigned int nr_ids;
	struct blksnap *blksnap;
	int ret;

	ret = cmdline_parse(cl, NULL, 0, 0);
	if (!ret)
		ret = open_module(&blksnap);
	if (ret)
		return ret;
	ret = blksnap_snapshot_collect(blksnap, &ids, &nr_ids);
	if (ret)
		ret = fail_call("cannot list the snapshots");
	else
		print_snapshots(blksnap, ids, nr_ids, cl);
	free(ids);
	blksnap_close(blksnap);
	return ret;
}

const struct command command_snapshot_list = {
	.group = "snapshot",
	.name = "list",
	.args = "",
	.summary = "List the snapshots",
	.help =
		"STATE is 'created' before the take and 'taken' after it.  AGE is the time since\n"
		"the creation, CREATOR the process that created it.  A snapshot outlives its\n"
		"creator and holds its DEVICES until it is destroyed; with --json, 'ended' tells\n"
		"whether the creator has ended.\n",
	.run = run_list,
};

static void print_images(const struct blk_snap_image_info *images,
			 unsigned int nr_images, const struct cmdline *cl)
{
	static const struct column columns[] = {
		{ "ORIGIN", "origin", COLUMN_TEXT },
		{ "MAJ:MIN", "origin_number", COLUMN_TEXT },
		{ "IMAGE", "image", COLUMN_TEXT },
		{ "MAJ:MIN", "image_number", COLUMN_TEXT },
	};
	struct json_object *result = json_object_new_object();
	struct json_object *rows = images_to_json(images, nr_images);

	json_object_object_add(result, "images", rows);
	output_result(cl, result, rows, columns, ARRAY_SIZE(columns));
	json_object_put(result);
}

static int run_images(struct cmdline *cl)
{
	struct blk_snap_image_info *images;
	struct blk_snap_uuid id;
	unsigned int nr_images;
	struct blksnap *blksnap;
	int ret;

	ret = parse_with_id(cl, NULL, &id);
	if (!ret)
		ret = open_module(&blksnap);
	if (ret)
		return ret;
	ret = blksnap_snapshot_collect_images(blksnap, &id, &images, &nr_images);
	blksnap_close(blksnap);
	if (ret)
		return fail_call("cannot list the images");
	print_images(images, nr_images, cl);
	free(images);
	return EXIT_OK;
}

const struct command command_snapshot_images = {
	.group = "snapshot",
	.name = "images",
	.args = "ID",
	.summary = "List the images of a snapshot",
	.help =
		"The names of the images are also links in /dev/disk/blksnap, if the rules for\n"
		"udev are installed.  'blksnap mount' mounts what is on one, and writes nothing\n"
		"to it.  Commands that were tried without it, beside the mounted origin:\n"
		"\n"
		"  ext4        mount -o ro,noload IMAGE DIR\n"
		"  XFS         mount -o ro,nouuid IMAGE DIR; writes to the image\n"
		"  btrfs       btrfstune -f -m IMAGE; mount -o ro IMAGE DIR; writes to the image.\n"
		"              Not where the btrfs has several devices\n"
		"  partitions  losetup -rPf --show IMAGE\n"
		"  LUKS        cryptsetup open --readonly IMAGE NAME\n"
		"  LVM, md     see 'Reading what is in an image' in blksnap.rst\n"
		"\n"
		"What is written to an image is part of the next increment.\n",
	.run = run_images,
};
