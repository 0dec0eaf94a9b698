// SPDX-License-Identifier: GPL-2.0
/*
 * Commands: mount, umount
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "catalogue.h"
#include "choice.h"
#include "commands.h"
#include "device.h"
#include "layer_stack.h"
#include "message.h"
#include "mounting.h"
#include "option.h"
#include "output.h"
#include "progress.h"
#include "qemu_file.h"
#include "util.h"

struct options {
	const char *from;	/* NULL for an image */
	const char *source;
	struct choice choice;
	uint64_t partition;	/* 0 for the only one or the whole disk */
	struct key key;
	struct mounting mounting;
};

static int check_options(const struct cmdline *cl, const struct options *o)
{
	struct stat st;

	if (o->from && o->mounting.writable)
		return fail(EXIT_USAGE,
			    "mount: a backup is not writable; leave --writable away, or restore it");
	if (o->from)
		return cmdline_check_args(cl, 1, 1);
	if (o->source || o->choice.number || o->choice.name)
		return fail(EXIT_USAGE,
			    "mount: --source-name, --point and --disk are for a backup, which is named by --from");
	if (cl->argc && !stat(cl->argv[0], &st) && S_ISDIR(st.st_mode))
		return fail(EXIT_USAGE,
			    "mount: '%s' is a folder; a backup is named by --from",
			    cl->argv[0]);
	return cmdline_check_args(cl, 2, 2);
}

static int parse_options(struct cmdline *cl, struct options *o)
{
	const struct cmdline_option options[] = {
		{ "from", option_text, &o->from },
		{ "source-name", option_text, &o->source },
		{ "point", option_point, &o->choice.number },
		{ "disk", option_text, &o->choice.name },
		{ "key-file", option_key, &o->key },
		{ "partition", option_count, &o->partition },
		{ "writable", NULL, &o->mounting.writable },
		{ 0 }
	};
	int ret = cmdline_parse(cl, options, 0, INT32_MAX);

	o->mounting.partition = o->partition;
	return ret ? ret : check_options(cl, o);
}

static int find_mount_point(const char *text, char place[PATH_MAX])
{
	struct stat st;

	if (!realpath(text, place) || stat(place, &st))
		return fail(EXIT_USAGE, "'%s': %s", text, strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return fail(EXIT_USAGE,
			    "'%s' is no folder, so nothing can be mounted there",
			    text);
	return EXIT_OK;
}

static void add_optional_number(struct json_object *row, const char *key,
				uint64_t number)
{
	if (number)
		add_number(row, key, number);
	else
		add_text(row, key, NULL);
}

static void print_result(const struct options *o, const struct cmdline *cl)
{
	static const struct column columns[] = {
		{ "MOUNT POINT", "mount_point", COLUMN_TEXT },
		{ "SOURCE", "source", COLUMN_TEXT },
		{ "POINT", "point", COLUMN_NUMBER },
		{ "PARTITION", "partition", COLUMN_NUMBER },
		{ "TYPE", "type", COLUMN_TEXT },
		{ "DEVICE", "device", COLUMN_TEXT },
		{ "OPTIONS", "options", COLUMN_TEXT },
	};
	const struct mounting *mounting = &o->mounting;
	struct json_object *rows = json_object_new_array();
	struct json_object *row = json_object_new_object();
	char options[64];

	snprintf(options, sizeof(options), "%s%s%s",
		 mounting->writable ? "rw" : "ro",
		 *mounting->options ? "," : "", mounting->options);
	add_text(row, "mount_point", mounting->record.mount_point);
	add_text(row, "source", mounting->record.source);
	add_optional_number(row, "point",
			    o->from ? o->choice.point->number : 0);
	add_optional_number(row, "partition", mounting->content.partition);
	add_text(row, "type", mounting->content.type);
	add_text(row, "device", mounting->record.device);
	add_text(row, "options", options);
	json_object_array_add(rows, row);
	output_result(cl, row, rows, columns, ARRAY_SIZE(columns));
	json_object_put(rows);
}

static int begin(struct options *o, const char *place,
		 const struct cmdline *cl)
{
	struct mount_records records;
	int ret;

	ret = mount_records_open(&records);
	if (!ret) {
		mounting_end_abandoned(&records);
		ret = mounting_begin(&o->mounting, &records, place);
		if (!ret)
			print_result(o, cl);
		mounting_free(&o->mounting);
	}
	mount_records_close(&records);
	return ret;
}

/* QEMU has to be told of each layer that it is encrypted. */
static char *name_chain(const struct catalogue *catalogue,
			const struct catalogue_disk *disk)
{
	struct json_object *top = NULL, *above = NULL, *options;
	char *path;

	for (; disk; disk = catalogue_below(catalogue, disk)) {
		path = catalogue_path(catalogue, disk->file);
		if (!path) {
			json_object_put(top);
			return NULL;
		}
		options = qemu_qcow2(path, catalogue->key);
		free(path);
		if (above)
			json_object_object_add(above, "backing", options);
		else
			top = options;
		above = options;
	}
	return qemu_name(top);
}

static int unlock(struct mounting *mounting, const struct catalogue *catalogue,
		  const struct catalogue_disk *disk)
{
	int ret = layer_stack_unlock(catalogue, disk);

	if (ret || !disk->encrypted)
		return ret;
	mounting->key = catalogue->key;
	mounting->chain = name_chain(catalogue, disk);
	return mounting->chain ? EXIT_OK : fail_memory();
}

static int mount_layer(struct options *o, const struct catalogue *catalogue,
		       const char *place, const struct cmdline *cl)
{
	const char *problem;
	char *path;
	int ret;

	ret = choice_find(&o->choice, catalogue);
	if (ret)
		return ret;
	problem = catalogue_layer_problem(catalogue, o->choice.disk);
	if (problem)
		return fail(EXIT_DAMAGED,
			    "'%s/%s' is damaged: it is missing or cut",
			    catalogue->dir, problem);
	path = catalogue_path(catalogue, o->choice.disk->file);
	if (!path)
		return fail_memory();
	o->mounting.layer = path;
	ret = unlock(&o->mounting, catalogue, o->choice.disk);
	if (!ret)
		ret = begin(o, place, cl);
	free(o->mounting.chain);
	free(path);
	return ret;
}

/* The lock of the backup is needed only until its files are open. */
static int mount_backup(struct options *o, const struct cmdline *cl)
{
	struct catalogue catalogue;
	char place[PATH_MAX];
	int ret;

	ret = find_mount_point(cl->argv[0], place);
	if (ret)
		return ret;
	ret = catalogue_open(&catalogue, o->from, o->source, CATALOGUE_READ);
	catalogue.key = &o->key;
	if (!ret)
		ret = mount_layer(o, &catalogue, place, cl);
	catalogue_close(&catalogue);
	return ret;
}

static int mount_image(struct options *o, const struct cmdline *cl)
{
	struct blk_snap_dev dev;
	char place[PATH_MAX];
	char *path;
	int ret;

	ret = find_mount_point(cl->argv[1], place);
	if (!ret)
		ret = device_parse(cl->argv[0], &dev);
	if (ret)
		return ret;
	path = device_path(dev);
	if (path && device_is_image(dev)) {
		o->mounting.image = path;
		ret = begin(o, place, cl);
	} else {
		ret = fail(EXIT_USAGE,
			   "'%s' is no image; 'blksnap snapshot images' shows which there are",
			   cl->argv[0]);
	}
	free(path);
	return ret;
}

static int run_mount(struct cmdline *cl)
{
	struct options o = { 0 };
	int ret;

	ret = parse_options(cl, &o);
	if (ret)
		return ret;
	interruption_prepare();
	return o.from ? mount_backup(&o, cl) : mount_image(&o, cl);
}

const struct command command_mount = {
	.group = "",
	.name = "mount",
	.args = "{IMAGE | --from DIR} MOUNTPOINT",
	.summary = "Mount what is on an image or in a backup",
	.help =
		"Mounts the filesystem of an image, or of a disk as it was at a point of a\n"
		"backup, beside its origin, which may be in use.  Nothing is written to the image\n"
		"or the backup.  'blksnap umount' ends it.\n"
		"\n"
		"  --partition N       which partition, if several have filesystems\n"
		"  --writable          let the filesystem of an image be written; what is\n"
		"                      written becomes part of the next increment\n"
		"  --from DIR          folder of the backups\n"
		"  --source-name NAME  which machine, if DIR holds backups of several\n"
		"  --point N           which point; the newest if not given\n"
		"  --disk NAME         which disk, if the point has several\n"
		"  --key-file FILE     key of an encrypted backup\n",
	.run = run_mount,
};

/* Nothing is recorded: another run has done it, or it is not our mount. */
static int fail_unknown(const struct mount_records *records, const char *place)
{
	size_t i;

	mounting_end_abandoned(records);
	for (i = 0; i < records->nr_records; i++) {
		if (mounting_is_there(&records->records[i]))
			return fail(EXIT_FAILED,
				    "'%s' was not mounted by 'blksnap mount'; what was is at '%s', for example",
				    place, records->records[i].mount_point);
	}
	return fail(EXIT_FAILED, "'%s' was not mounted by 'blksnap mount'",
		    place);
}

static int end(const char *place)
{
	const struct mount_record *record;
	struct mount_records records;
	int ret;

	ret = mount_records_open(&records);
	if (!ret) {
		record = mount_records_find(&records, place);
		ret = record ? mounting_end(record) :
			       fail_unknown(&records, place);
	}
	mount_records_close(&records);
	return ret;
}

static int run_umount(struct cmdline *cl)
{
	struct json_object *result;
	char place[PATH_MAX];
	int ret;

	ret = cmdline_parse(cl, NULL, 1, 1);
	if (!ret)
		ret = find_mount_point(cl->argv[0], place);
	if (!ret)
		ret = end(place);
	if (!ret && cl->json) {
		result = json_object_new_object();
		add_text(result, "mount_point", place);
		output_json(result);
		json_object_put(result);
	}
	return ret;
}

const struct command command_umount = {
	.group = "",
	.name = "umount",
	.args = "MOUNTPOINT",
	.summary = "Unmount what 'blksnap mount' has mounted",
	.help =
		"Takes down what the mount was made of as well: the loop and nbd devices and the\n"
		"overlay.  What has gone already does not matter.\n",
	.run = run_umount,
};
