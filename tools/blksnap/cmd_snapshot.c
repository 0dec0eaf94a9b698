// SPDX-License-Identifier: GPL-2.0
/*
 * Commands that change snapshots
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <blksnap/blksnap.h>

#include "advice.h"
#include "commands.h"
#include "device.h"
#include "extents.h"
#include "holder.h"
#include "message.h"
#include "option.h"
#include "output.h"
#include "parse.h"
#include "storage.h"
#include "tracking.h"
#include "util.h"

/* The options that name difference storage, of "create" and "append". */
struct storage_options {
	const char *device;
	struct blk_snap_dev dev;
	const char *file;
	bool has_offset;
	bool has_size;
	bool force;
	uint64_t offset_bytes;
	uint64_t size_bytes;
	struct extents ranges;
	struct blksnap_storage *storage;	/* when it is prepared */
};

#define STORAGE_HELP \
	"STORAGE is one of:\n" \
	"  --file FILE --size N   the first N bytes of FILE; they are reserved if they\n" \
	"                         are not reserved yet\n" \
	"  --file FILE            all of a FILE that is reserved already\n" \
	"  --file FILE --offset N [--size N]\n" \
	"                         a piece of a FILE that is reserved already\n" \
	"  --device DEV           all of a device\n" \
	"  --device DEV --range START:COUNT...\n" \
	"                         parts of a device, in sectors of 512 bytes, each with\n" \
	"                         an option --range of its own\n" \
	"and with each of them\n" \
	"  --force                overwrite data found in the file or on the device\n" \
	"\n" \
	"The module writes to the storage, and nobody else may do so until the snapshot\n" \
	"is destroyed.  A file on the disk of a snapshot has to be reserved before the\n" \
	"take; see 'blksnap storage reserve --help'.\n"

static int parse_id(const char *text, struct blk_snap_uuid *id)
{
	if (!parse_uuid(text, id))
		return fail(EXIT_USAGE,
			    "'%s': must be the UUID of a snapshot as 'blksnap snapshot list' prints it",
			    text);
	return EXIT_OK;
}

/**
 * parse_with_id() - parse the arguments of a command that a snapshot is given to
 * @cl:		the command line
 * @options:	as for cmdline_parse()
 * @id:		the snapshot, the only argument that is no option
 *
 * Return: as cmdline_parse().
 */
int parse_with_id(struct cmdline *cl, const struct cmdline_option *options,
		  struct blk_snap_uuid *id)
{
	int ret = cmdline_parse(cl, options, 1, 1);

	return ret ? ret : parse_id(cl->argv[0], id);
}

/**
 * check_snapshot_exists() - is there such a snapshot?
 * @blksnap:	connection
 * @id:		the snapshot
 * @doing:	what fails if there is none
 *
 * There is no call for this; to ask for the number of images does nothing.
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int check_snapshot_exists(struct blksnap *blksnap, const struct blk_snap_uuid *id,
			  const char *doing)
{
	struct blk_snap_image_info *images;
	unsigned int nr_images;
	int ret = blksnap_snapshot_collect_images(blksnap, id, &images, &nr_images);

	free(images);
	if (ret && ret != -ENODEV)
		return fail_call("%s", doing);
	return EXIT_OK;
}

static int take_range(const char *name, const char *text, void *to)
{
	struct blk_snap_block_range range;

	if (!parse_range(text, &range))
		return fail(EXIT_USAGE,
			    "--%s '%s': must be START:COUNT in sectors of 512 bytes, COUNT at least 1",
			    name, text);
	return extents_add(to, range.sector_offset,
			   range.sector_offset + range.sector_count);
}

static int take_offset(const char *name, const char *text, void *to)
{
	struct storage_options *so = to;

	so->has_offset = true;
	return option_file_size(name, text, &so->offset_bytes);
}

static int take_size(const char *name, const char *text, void *to)
{
	struct storage_options *so = to;

	so->has_size = true;
	return option_file_size(name, text, &so->size_bytes);
}

#define NR_STORAGE_OPTIONS 6

/* Puts them at the beginning of a list. */
static void list_storage_options(struct cmdline_option *list,
				 struct storage_options *so)
{
	const struct cmdline_option options[NR_STORAGE_OPTIONS] = {
		{ "device", option_text, &so->device },
		{ "range", take_range, &so->ranges },
		{ "file", option_text, &so->file },
		{ "offset", take_offset, so },
		{ "size", take_size, so },
		{ "force", NULL, &so->force },
	};

	memcpy(list, options, sizeof(options));
}

static bool has_storage(const struct storage_options *so)
{
	return so->device || so->file;
}

static int check_storage_options(struct storage_options *so)
{
	if (so->device && so->file)
		return fail(EXIT_USAGE,
			    "--device and --file exclude each other; append one after the other");
	if (so->ranges.nr_ranges && !so->device)
		return fail(EXIT_USAGE, "--range needs --device DEV");
	if ((so->has_offset || so->has_size) && !so->file)
		return fail(EXIT_USAGE, "%s needs --file FILE",
			    so->has_offset ? "--offset" : "--size");
	if (so->force && !has_storage(so))
		return fail(EXIT_USAGE,
			    "--force needs --file FILE or --device DEV");
	if (so->has_size && !so->size_bytes)
		return fail(EXIT_USAGE, "--size 0: must be greater than 0");
	if (so->offset_bytes + so->size_bytes > INT64_MAX)
		return fail(EXIT_USAGE,
			    "--offset and --size are together beyond what a file can have");
	return so->device ? device_parse(so->device, &so->dev) : EXIT_OK;
}

static int prepare_file(struct storage_options *so)
{
	int ret = EXIT_OK;

	if (!so->has_offset && so->has_size)
		ret = storage_reserve_file(so->file, so->size_bytes, so->force);
	if (!ret)
		ret = storage_find_file(&so->storage, so->file, so->offset_bytes,
					so->size_bytes, so->force);
	return ret;
}

/* Finds the ranges of the storage.  The options are checked. */
static int prepare_storage(struct storage_options *so)
{
	if (so->file)
		return prepare_file(so);
	if (!so->ranges.nr_ranges)
		return storage_find_device(&so->storage, so->dev, so->force);
	if (blksnap_storage_from_ranges(so->dev, so->ranges.ranges, so->ranges.nr_ranges,
					&so->storage))
		return fail_call("'%s'", so->device);
	return EXIT_OK;
}

static void free_storage(struct storage_options *so)
{
	extents_free(&so->ranges);
	blksnap_storage_free(so->storage);
}

static int append_storage(struct blksnap *blksnap, const struct blk_snap_uuid *id,
			  struct storage_options *so)
{
	return storage_append(blksnap, id, so->storage, so->file ? so->file : so->device);
}

static int take_snapshot(struct blksnap *blksnap, const struct blk_snap_uuid *id)
{
	int ret = blksnap_snapshot_take(blksnap, id);

	if (ret)
		return fail_call("cannot take the snapshot");
	return EXIT_OK;
}

static void print_created(const struct blk_snap_uuid *id, bool taken, bool json)
{
	struct json_object *result;
	char text[BLKSNAP_UUID_TEXT_SIZE];

	if (!json) {
		blksnap_format_uuid(id, text);
		puts(text);
		return;
	}
	result = json_object_new_object();
	add_uuid(result, "id", id);
	json_object_object_add(result, "taken", json_object_new_boolean(taken));
	output_json(result);
	json_object_put(result);
}

struct create_options {
	struct storage_options so;
	bool take;
};

static int parse_create_options(struct cmdline *cl, struct create_options *co)
{
	struct cmdline_option options[NR_STORAGE_OPTIONS + 2] = {
		[NR_STORAGE_OPTIONS] = { "take", NULL, &co->take },
	};
	int ret;

	list_storage_options(options, &co->so);
	ret = cmdline_parse(cl, options, 1, INT32_MAX);
	if (!ret)
		ret = check_storage_options(&co->so);
	if (!ret && co->take && !has_storage(&co->so))
		ret = fail(EXIT_USAGE,
			   "--take needs difference storage; add --file FILE --size N or --device DEV");
	return ret;
}

/* The module's errno does not tell which device it is about, nor who has it. */
static int check_device(struct blksnap *blksnap, struct blk_snap_dev dev)
{
	const char *obstacle = device_obstacle(dev);
	char number[DEVICE_NUMBER_SIZE];
	char holder[HOLDER_TEXT_SIZE];

	device_format_number(dev, number);
	if (obstacle)
		return fail(EXIT_FAILED,
			    "cannot create the snapshot: device %s cannot be protected: %s",
			    number, obstacle);
	if (find_holder(blksnap, dev, holder))
		return fail(EXIT_FAILED,
			    "cannot create the snapshot: device %s is held by %s",
			    number, holder);
	return EXIT_OK;
}

static int check_devices(struct blksnap *blksnap, const struct blk_snap_dev *devs,
			 unsigned int nr_devs)
{
	unsigned int i;
	int ret = EXIT_OK;

	for (i = 0; i < nr_devs && !ret; i++)
		ret = check_device(blksnap, devs[i]);
	return ret;
}

static int append_and_take(struct blksnap *blksnap, struct create_options *co,
			   const struct blk_snap_uuid *id)
{
	int ret = EXIT_OK;

	if (has_storage(&co->so))
		ret = append_storage(blksnap, id, &co->so);
	if (!ret && co->take)
		ret = take_snapshot(blksnap, id);
	return ret;
}

/* What belongs to the creation is done as a whole or not at all. */
static int create_snapshot(struct blksnap *blksnap, const struct blk_snap_dev *devs,
			   unsigned int nr_devs, struct create_options *co,
			   struct blk_snap_uuid *id)
{
	struct tracking before = { 0 };
	int ret = tracking_read(&before, blksnap);

	if (ret)
		return ret;
	ret = blksnap_snapshot_create(blksnap, devs, nr_devs, id);
	if (ret) {
		ret = fail_call("cannot create the snapshot");
		goto out_free;
	}
	ret = append_and_take(blksnap, co, id);
	if (ret) {
		blksnap_snapshot_destroy(blksnap, id);
		tracking_restore(&before, blksnap, devs, nr_devs);
	}

out_free:
	tracking_free(&before);
	return ret;
}

static int create_with_devices(struct cmdline *cl, struct create_options *co,
			       const struct blk_snap_dev *devs)
{
	struct blk_snap_uuid id;
	struct blksnap *blksnap;
	int ret;

	ret = open_module(&blksnap);
	if (ret)
		return ret;
	ret = check_devices(blksnap, devs, cl->argc);
	if (!ret && has_storage(&co->so))
		ret = prepare_storage(&co->so);
	if (!ret)
		ret = create_snapshot(blksnap, devs, cl->argc, co, &id);
	if (!ret) {
		advise(devs, cl->argc);
		print_created(&id, co->take, cl->json);
	}
	blksnap_close(blksnap);
	return ret;
}

static int run_create(struct cmdline *cl)
{
	struct create_options co = { 0 };
	struct blk_snap_dev *devs = NULL;
	int ret;

	ret = parse_create_options(cl, &co);
	if (!ret)
		ret = device_parse_list(cl->argv, cl->argc, &devs);
	if (!ret)
		ret = create_with_devices(cl, &co, devs);
	free(devs);
	free_storage(&co.so);
	return ret;
}

const struct command command_snapshot_create = {
	.group = "snapshot",
	.name = "create",
	.args = "DEV... [STORAGE] [--take]",
	.summary = "Prepare a snapshot of devices and print its ID",
	.help =
		"The devices are tracked from now on.  Nothing is copied before the take.\n"
		"\n"
		"With STORAGE, difference storage is appended at once, and with --take the\n"
		"snapshot is taken, too.  If one of these fails, the snapshot is destroyed\n"
		"again, devices that were not tracked before are not tracked after it, and\n"
		"only a reserved file is left.\n"
		"\n"
		STORAGE_HELP,
	.run = run_create,
};

static int append_to_snapshot(const struct blk_snap_uuid *id,
			      struct storage_options *so)
{
	struct blksnap *blksnap;
	int ret;

	ret = open_module(&blksnap);
	if (ret)
		return ret;
	ret = check_snapshot_exists(blksnap, id, "cannot append storage");
	if (!ret)
		ret = prepare_storage(so);
	if (!ret)
		ret = append_storage(blksnap, id, so);
	blksnap_close(blksnap);
	return ret;
}

static void print_appended(const struct blksnap_storage *storage, bool json)
{
	struct json_object *result;
	const struct blk_snap_block_range *ranges;
	unsigned int nr_ranges;

	if (!json)
		return;
	nr_ranges = blksnap_storage_ranges(storage, &ranges);
	result = json_object_new_object();
	add_dev(result, "device", "device_number", blksnap_storage_dev(storage));
	add_number(result, "ranges", nr_ranges);
	add_number(result, "sectors", blksnap_storage_nr_sectors(storage));
	output_json(result);
	json_object_put(result);
}

static int parse_append_options(struct cmdline *cl, struct storage_options *so,
				struct blk_snap_uuid *id)
{
	struct cmdline_option options[NR_STORAGE_OPTIONS + 1] = { 0 };
	int ret;

	list_storage_options(options, so);
	ret = parse_with_id(cl, options, id);
	if (!ret)
		ret = check_storage_options(so);
	if (!ret && !has_storage(so))
		ret = fail(EXIT_USAGE,
			   "snapshot append: the storage is missing; add --file FILE --size N or --device DEV");
	return ret;
}

static int run_append(struct cmdline *cl)
{
	struct storage_options so = { 0 };
	struct blk_snap_uuid id;
	int ret;

	ret = parse_append_options(cl, &so, &id);
	if (!ret)
		ret = append_to_snapshot(&id, &so);
	if (!ret)
		print_appended(so.storage, cl->json);
	free_storage(&so);
	return ret;
}

const struct command command_snapshot_append = {
	.group = "snapshot",
	.name = "append",
	.args = "ID STORAGE",
	.summary = "Add difference storage to a snapshot",
	.help =
		"Before or after the take, as often as needed.  All is appended or nothing.\n"
		"\n"
		STORAGE_HELP,
	.run = run_append,
};

static int run_take(struct cmdline *cl)
{
	struct blk_snap_uuid id;
	struct blksnap *blksnap;
	int ret;

	ret = parse_with_id(cl, NULL, &id);
	if (!ret)
		ret = open_module(&blksnap);
	if (ret)
		return ret;
	ret = take_snapshot(blksnap, &id);
	blksnap_close(blksnap);
	return ret;
}

const struct command command_snapshot_take = {
	.group = "snapshot",
	.name = "take",
	.args = "ID",
	.summary = "Take a snapshot, all its devices at one instant",
	.help =
		"The snapshot needs difference storage before.  After a failure it is as it was\n"
		"before.  'blksnap snapshot images' shows the images.\n",
	.run = run_take,
};

static int run_destroy(struct cmdline *cl)
{
	struct blk_snap_uuid id;
	struct blksnap *blksnap;
	int ret;

	ret = parse_with_id(cl, NULL, &id);
	if (!ret)
		ret = open_module(&blksnap);
	if (ret)
		return ret;
	ret = blksnap_snapshot_destroy(blksnap, &id);
	blksnap_close(blksnap);
	if (ret)
		return fail_call("cannot destroy the snapshot");
	return EXIT_OK;
}

const struct command command_snapshot_destroy = {
	.group = "snapshot",
	.name = "destroy",
	.args = "ID",
	.summary = "Give a snapshot up",
	.help =
		"The images disappear, even if they are mounted.  The devices stay tracked.\n",
	.run = run_destroy,
};
