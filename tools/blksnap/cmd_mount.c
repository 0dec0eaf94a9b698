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
#include <unistd.h>

#include "catalogue.h"
#include "choice.h"
#include "commands.h"
#include "device.h"
#include "layer_stack.h"
#include "luks.h"
#include "message.h"
#include "mounting.h"
#include "option.h"
#include "output.h"
#include "progress.h"
#include "qemu_file.h"
#include "util.h"

#define DISKS_MAX 32

struct options {
	const char *from;	/* NULL for images */
	const char *source;
	struct choice choice;
	const char *disks[DISKS_MAX];	/* names of disks of a backup */
	size_t nr_disks;
	const char *luks_key_file;
	uint64_t partition;	/* 0 for the only one or the whole disk */
	struct key key;		/* of the backup */
	struct mounting mounting;
	struct mounting_file files[DISKS_MAX];
};

static int take_disk(const char *name, const char *text, void *to)
{
	struct options *o = to;
	size_t i;

	if (o->nr_disks == DISKS_MAX)
		return fail(EXIT_USAGE, "mount: there are too many disks");
	for (i = 0; i < o->nr_disks; i++) {
		if (!strcmp(o->disks[i], text))
			return fail(EXIT_USAGE,
				    "--%s '%s' is there twice; name each once",
				    name, text);
	}
	o->disks[o->nr_disks++] = text;
	return EXIT_OK;
}

static int check_options(const struct cmdline *cl, const struct options *o)
{
	struct stat st;

	if (o->from && o->mounting.writable)
		return fail(EXIT_USAGE,
			    "mount: a backup is not writable; leave --writable out, or restore it");
	if (o->from)
		return cmdline_check_args(cl, 1, 1);
	if (o->source || o->choice.number || o->nr_disks)
		return fail(EXIT_USAGE,
			    "mount: --source-name, --point and --disk are for a backup, which is named by --from");
	if (cl->argc && !stat(cl->argv[0], &st) && S_ISDIR(st.st_mode))
		return fail(EXIT_USAGE,
			    "mount: '%s' is a folder; a backup is named by --from",
			    cl->argv[0]);
	return cmdline_check_args(cl, 2, DISKS_MAX + 1);
}

static int parse_options(struct cmdline *cl, struct options *o)
{
	const struct cmdline_option options[] = {
		{ "from", option_text, &o->from },
		{ "source-name", option_text, &o->source },
		{ "point", option_point, &o->choice.number },
		{ "disk", take_disk, o },
		{ "key-file", option_key, &o->key },
		{ "partition", option_count, &o->partition },
		{ "volume", option_text, &o->mounting.volume },
		{ "luks-key-file", option_text, &o->luks_key_file },
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

/* All sources, with commas; NULL without memory. */
static char *join_sources(const struct mount_record *record)
{
	char *text = strdup(record->disks[0].source), *more;
	size_t i;

	for (i = 1; i < record->nr_disks && text; i++) {
		if (asprintf(&more, "%s,%s", text, record->disks[i].source) < 0)
			more = NULL;
		free(text);
		text = more;
	}
	return text;
}

static unsigned int partition_of(const struct mounting *mounting)
{
	return mounting->found_partition ? mounting->found_partition :
					   mounting->content.partition;
}

static void print_result(const struct options *o, const struct cmdline *cl)
{
	static const struct column columns[] = {
		{ "MOUNT POINT", "mount_point", COLUMN_TEXT },
		{ "SOURCE", "source", COLUMN_TEXT },
		{ "POINT", "point", COLUMN_NUMBER },
		{ "PARTITION", "partition", COLUMN_NUMBER },
		{ "VOLUME", "volume", COLUMN_TEXT },
		{ "TYPE", "type", COLUMN_TEXT },
		{ "DEVICE", "device", COLUMN_TEXT },
		{ "OPTIONS", "options", COLUMN_TEXT },
	};
	const struct mounting *mounting = &o->mounting;
	struct json_object *rows = json_object_new_array();
	struct json_object *row = json_object_new_object();
	char *sources = join_sources(&mounting->record);
	char options[64];

	snprintf(options, sizeof(options), "%s%s%s",
		 mounting->writable ? "rw" : "ro",
		 *mounting->options ? "," : "", mounting->options);
	add_text(row, "mount_point", mounting->record.mount_point);
	add_text(row, "source", sources);
	add_optional_number(row, "point",
			    o->from ? o->choice.point->number : 0);
	add_optional_number(row, "partition", partition_of(mounting));
	add_text(row, "volume", mounting->found_volume);
	add_text(row, "type", mounting->content.type);
	add_text(row, "device", mounting->record.device);
	add_text(row, "options", options);
	json_object_array_add(rows, row);
	output_result(cl, row, rows, columns, ARRAY_SIZE(columns));
	json_object_put(rows);
	free(sources);
}

static int begin(struct options *o, const char *place,
		 const struct cmdline *cl)
{
	struct mount_records records;
	int ret;

	o->mounting.files = o->files;
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

static int unlock(struct options *o, const struct catalogue *catalogue,
		  const struct catalogue_disk *disk, char **chain)
{
	int ret = layer_stack_unlock(catalogue, disk);

	if (ret || !disk->encrypted)
		return ret;
	o->mounting.key = catalogue->key;
	*chain = name_chain(catalogue, disk);
	return *chain ? EXIT_OK : fail_memory();
}

static int find_layer(struct options *o, const struct catalogue *catalogue,
		      const char *disk)
{
	struct mounting_file *file = &o->files[o->mounting.nr_files];
	int ret;

	o->choice.name = disk;
	ret = choice_find(&o->choice, catalogue);
	if (!ret)
		ret = catalogue_check_files(catalogue, o->choice.disk, NULL);
	if (ret)
		return ret;
	file->path = catalogue_path(catalogue, o->choice.disk->file);
	if (!file->path)
		return fail_memory();
	o->mounting.nr_files++;
	return unlock(o, catalogue, o->choice.disk, &file->chain);
}

static int mount_layers(struct options *o, const struct catalogue *catalogue,
			const char *place, const struct cmdline *cl)
{
	int ret = EXIT_OK;
	size_t i;

	if (!o->nr_disks)
		ret = find_layer(o, catalogue, NULL);
	for (i = 0; i < o->nr_disks && !ret; i++)
		ret = find_layer(o, catalogue, o->disks[i]);
	return ret ? ret : begin(o, place, cl);
}

/* The lock of the backup is needed only until its files are open. */
static int mount_backup(struct options *o, const char *place,
			const struct cmdline *cl)
{
	struct catalogue catalogue;
	int ret;

	o->mounting.is_backup = true;
	ret = catalogue_open(&catalogue, o->from, o->source, CATALOGUE_READ);
	catalogue.key = &o->key;
	if (!ret)
		ret = mount_layers(o, &catalogue, place, cl);
	catalogue_close(&catalogue);
	return ret;
}

static int find_image(struct options *o, struct blk_snap_dev dev,
		      const char *text)
{
	char *path = device_path(dev);

	if (!path || !device_is_image(dev)) {
		free(path);
		return fail(EXIT_USAGE,
			    "'%s' is no image; 'blksnap snapshot images' shows which there are",
			    text);
	}
	o->files[o->mounting.nr_files++].path = path;
	return EXIT_OK;
}

static int mount_images(struct options *o, const char *place,
			const struct cmdline *cl)
{
	struct blk_snap_dev *devs;
	int i, ret;

	ret = device_parse_list(cl->argv, cl->argc - 1, &devs);
	for (i = 0; i < cl->argc - 1 && !ret; i++)
		ret = find_image(o, devs[i], cl->argv[i]);
	free(devs);
	return ret ? ret : begin(o, place, cl);
}

static int mount_once(struct options *o, const char *place,
		      const struct cmdline *cl)
{
	size_t i;
	int ret;

	ret = o->from ? mount_backup(o, place, cl) :
			mount_images(o, place, cl);
	for (i = 0; i < o->mounting.nr_files; i++) {
		free(o->files[i].path);
		free(o->files[i].chain);
		o->files[i] = (struct mounting_file) { 0 };
	}
	o->mounting.nr_files = 0;
	return ret;
}

/* While a question waits for its answer, no other program waits for a lock. */
static int mount_with_key(struct options *o, const char *place,
			  const struct cmdline *cl)
{
	int ret;

	o->mounting.key_fd = -1;
	if (o->luks_key_file) {
		ret = luks_read_key(o->luks_key_file, &o->mounting.key_fd);
		if (ret)
			return ret;
	}
	ret = mount_once(o, place, cl);
	if (!ret || !o->mounting.wants_key)
		return ret;
	ret = luks_ask_key(o->from ? o->from : cl->argv[0],
			   &o->mounting.key_fd);
	return ret ? ret : mount_once(o, place, cl);
}

static int run_mount(struct cmdline *cl)
{
	struct options o = { 0 };
	char place[PATH_MAX];
	int ret;

	ret = parse_options(cl, &o);
	if (ret)
		return ret;
	ret = find_mount_point(cl->argv[cl->argc - 1], place);
	if (ret)
		return ret;
	interruption_prepare();
	ret = mount_with_key(&o, place, cl);
	if (o.mounting.key_fd >= 0)
		close(o.mounting.key_fd);
	return ret;
}

const struct command command_mount = {
	.group = "",
	.name = "mount",
	.args = "{IMAGE... | --from DIR} MOUNTPOINT",
	.summary = "Mount what is on an image or in a backup",
	.help =
		"Mounts the filesystem of an image, or of a disk as it was at a point of a\n"
		"backup, beside its origin, which may be in use.  Nothing is written to the image\n"
		"or the backup.  'blksnap umount' ends it.\n"
		"\n"
		"What the filesystem is in is opened: volumes of LVM, LUKS, members of RAID1.\n"
		"Where a volume group is on several devices, name the images of all.\n"
		"\n"
		"  --partition N       which partition, if several have filesystems\n"
		"  --volume NAME       which volume of LVM, if several have filesystems\n"
		"  --luks-key-file FILE\n"
		"                      all of FILE is the key of the LUKS inside; without it,\n"
		"                      the terminal is asked for the passphrase\n"
		"  --writable          let the filesystem of an image be written; what is\n"
		"                      written becomes part of the next increment\n"
		"  --from DIR          folder of the backups\n"
		"  --source-name NAME  which machine, if DIR holds backups of several\n"
		"  --point N           which point; the newest if not given\n"
		"  --disk NAME         which disk, if the point has several; may be repeated for\n"
		"                      a volume group on several\n"
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
		if (!record)
			ret = fail_unknown(&records, place);
		else if (!record->mount_point)
			ret = mounting_end_damaged(record, place);
		else
			ret = mounting_end(record);
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
		"Takes down what the mount was made of as well: volumes, loop and nbd devices,\n"
		"and the overlay.  What has gone already does not matter.\n",
	.run = run_umount,
};
