// SPDX-License-Identifier: GPL-2.0
/*
 * Commands: version, tracker
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <blksnap/blksnap.h>

#include "commands.h"
#include "device.h"
#include "holder.h"
#include "message.h"
#include "output.h"
#include "util.h"

/**
 * open_module() - connect to the module
 * @blksnap:	gets the connection, to be closed by the caller
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int open_module(struct blksnap **blksnap)
{
	if (blksnap_open(blksnap))
		return fail_call("cannot open /dev/" BLK_SNAP_CTL);
	return EXIT_OK;
}

/**
 * add_cbt_info() - add the state of the change tracking to a result
 * @object:	the result
 * @info:	the state; of a device that has gone away, only its number is added
 */
void add_cbt_info(struct json_object *object,
		  const struct blk_snap_cbt_info *info)
{
	add_dev(object, "device", "device_number", info->dev_id);
	if (!info->blk_count)
		return;
	add_number(object, "capacity_bytes", info->device_capacity);
	add_number(object, "block_size_bytes", info->blk_size);
	add_number(object, "block_count", info->blk_count);
	add_number(object, "snap_number", info->snap_number);
	add_uuid(object, "generation", &info->generation_id);
}

static void print_version(const struct blk_snap_version *version, bool json)
{
	struct json_object *object;

	if (!json) {
		printf("%u.%u.%u.%u\n", version->major, version->minor,
		       version->revision, version->build);
		return;
	}
	object = json_object_new_object();
	add_number(object, "major", version->major);
	add_number(object, "minor", version->minor);
	add_number(object, "revision", version->revision);
	add_number(object, "build", version->build);
	output_json(object);
	json_object_put(object);
}

static int run_version(struct cmdline *cl)
{
	struct blk_snap_version version;
	struct blksnap *blksnap;
	int ret;

	ret = cmdline_parse(cl, NULL, 0, 0);
	if (!ret)
		ret = open_module(&blksnap);
	if (ret)
		return ret;
	ret = blksnap_version(blksnap, &version);
	blksnap_close(blksnap);
	if (ret)
		return fail_call("cannot get the version");
	print_version(&version, cl->json);
	return EXIT_OK;
}

const struct command command_version = {
	.group = "",
	.name = "version",
	.args = "",
	.summary = "Print the version of the loaded module",
	.help = "",
	.run = run_version,
};

static void print_trackers(const struct blk_snap_cbt_info *infos,
			   unsigned int nr_infos, const struct cmdline *cl)
{
	static const struct column columns[] = {
		{ "DEVICE", "device", COLUMN_TEXT },
		{ "MAJ:MIN", "device_number", COLUMN_TEXT },
		{ "SIZE", "capacity_bytes", COLUMN_SIZE },
		{ "BLOCK", "block_size_bytes", COLUMN_SIZE },
		{ "BLOCKS", "block_count", COLUMN_NUMBER },
		{ "SNAPSHOTS", "snap_number", COLUMN_NUMBER },
		{ "GENERATION", "generation", COLUMN_TEXT },
	};
	struct json_object *result = json_object_new_object();
	struct json_object *rows = json_object_new_array();
	struct json_object *row;
	unsigned int i;

	for (i = 0; i < nr_infos; i++) {
		row = json_object_new_object();
		add_cbt_info(row, &infos[i]);
		json_object_array_add(rows, row);
	}
	json_object_object_add(result, "trackers", rows);
	output_result(cl, result, rows, columns, ARRAY_SIZE(columns));
	json_object_put(result);
}

static int run_tracker_list(struct cmdline *cl)
{
	struct blk_snap_cbt_info *infos;
	unsigned int nr_infos;
	struct blksnap *blksnap;
	int ret;

	ret = cmdline_parse(cl, NULL, 0, 0);
	if (!ret)
		ret = open_module(&blksnap);
	if (ret)
		return ret;
	ret = blksnap_tracker_collect(blksnap, &infos, &nr_infos);
	blksnap_close(blksnap);
	if (ret)
		return fail_call("cannot list the tracked devices");
	print_trackers(infos, nr_infos, cl);
	free(infos);
	return EXIT_OK;
}

const struct command command_tracker_list = {
	.group = "tracker",
	.name = "list",
	.args = "",
	.summary = "List the devices whose changes are tracked",
	.help =
		"BLOCK is the size of a tracking block, BLOCKS their number.  SNAPSHOTS is the\n"
		"number of the last snapshot of the GENERATION: keep both with a backup, they\n"
		"are what 'blksnap cbt extents' asks for.  Of a device that has gone away only\n"
		"MAJ:MIN is left.\n",
	.run = run_tracker_list,
};

static int fail_remove(struct blksnap *blksnap, const char *name,
		       struct blk_snap_dev dev, int ret)
{
	char holder[HOLDER_TEXT_SIZE], reason[256];

	/* The search for the holder may fail, too. */
	snprintf(reason, sizeof(reason), "%s", blksnap_error());
	if (ret == -EBUSY && find_holder(blksnap, dev, holder))
		return fail(EXIT_FAILED,
			    "cannot stop tracking '%s': the device is held by %s",
			    name, holder);
	return fail(EXIT_FAILED, "cannot stop tracking '%s': %s", name, reason);
}

static int run_tracker_remove(struct cmdline *cl)
{
	struct blk_snap_dev dev;
	struct blksnap *blksnap;
	int ret;

	ret = cmdline_parse(cl, NULL, 1, 1);
	if (!ret)
		ret = device_parse(cl->argv[0], &dev);
	if (!ret)
		ret = open_module(&blksnap);
	if (ret)
		return ret;
	ret = blksnap_tracker_remove(blksnap, dev);
	if (ret)
		ret = fail_remove(blksnap, cl->argv[0], dev, ret);
	blksnap_close(blksnap);
	return ret;
}

const struct command command_tracker_remove = {
	.group = "tracker",
	.name = "remove",
	.args = "DEV",
	.summary = "Stop tracking a device",
	.help =
		"The change map is lost: the next backup of the device has to be a full one.  A\n"
		"device that belongs to a snapshot cannot be removed.\n",
	.run = run_tracker_remove,
};
