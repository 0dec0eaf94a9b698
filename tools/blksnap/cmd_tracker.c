// SPDX-License-Identifier: GPL-2.0
/*
 * Commands: version, tracker
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "blksnap_ioctl.h"
#include "commands.h"
#include "device.h"
#include "holder.h"
#include "message.h"
#include "output.h"
#include "util.h"

/**
 * open_module() - open the control node
 * @fd:		gets the file descriptor, to be closed by the caller
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int open_module(int *fd)
{
	*fd = blksnap_open();
	if (*fd < 0)
		return fail_call(BLKSNAP_OPEN, *fd, "cannot open /dev/%s",
				 BLK_SNAP_CTL);
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
	int fd, ret;

	ret = cmdline_parse(cl, NULL, 0, 0);
	if (!ret)
		ret = open_module(&fd);
	if (ret)
		return ret;
	ret = blksnap_version(fd, &version);
	close(fd);
	if (ret)
		return fail_call(blk_snap_ioctl_version, ret,
				 "cannot get the version");
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
	int fd, ret;

	ret = cmdline_parse(cl, NULL, 0, 0);
	if (!ret)
		ret = open_module(&fd);
	if (ret)
		return ret;
	ret = blksnap_tracker_collect(fd, &infos, &nr_infos);
	close(fd);
	if (ret)
		return fail_call(blk_snap_ioctl_tracker_collect, ret,
				 "cannot list the tracked devices");
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

static int fail_remove(int fd, const char *name, struct blk_snap_dev dev, int ret)
{
	char holder[HOLDER_TEXT_SIZE];

	if (ret == -EBUSY && find_holder(fd, dev, holder))
		return fail(EXIT_FAILED,
			    "cannot stop tracking '%s': the device is held by %s",
			    name, holder);
	return fail_call(blk_snap_ioctl_tracker_remove, ret,
			 "cannot stop tracking '%s'", name);
}

static int run_tracker_remove(struct cmdline *cl)
{
	struct blk_snap_dev dev;
	int fd, ret;

	ret = cmdline_parse(cl, NULL, 1, 1);
	if (!ret)
		ret = device_parse(cl->argv[0], &dev);
	if (!ret)
		ret = open_module(&fd);
	if (ret)
		return ret;
	ret = blksnap_tracker_remove(fd, dev);
	if (ret)
		ret = fail_remove(fd, cl->argv[0], dev, ret);
	close(fd);
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
