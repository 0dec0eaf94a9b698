// SPDX-License-Identifier: GPL-2.0
/*
 * Command: backup
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "backup.h"
#include "commands.h"
#include "device.h"
#include "keeper.h"
#include "message.h"
#include "option.h"
#include "output.h"
#include "same_disk.h"
#include "util.h"

#define SAME_DISK_WARNING \
	"'%s' is on the disk of '%s', which is backed up: if the disk is lost, so is the backup; add --same-disk if it is meant to be"

struct options {
	const char *to;
	const char *source;
	bool same_disk;
	struct keeper_options keeper;
	struct backup_options backup;
	struct key key;
	struct progress progress;
};

static int check_encryption(const struct options *o)
{
	if (o->backup.encrypt && o->backup.compress)
		return fail(EXIT_USAGE,
			    "--encrypt and --compress exclude each other: QEMU does not write files that are both");
	if (o->backup.encrypt && !o->key.file)
		return fail(EXIT_USAGE,
			    "--encrypt needs --key-file, a file with the key; 'openssl rand -base64 32' makes one");
	if (!o->backup.encrypt && o->key.file)
		return fail(EXIT_USAGE, "--key-file is for --encrypt, add it");
	return EXIT_OK;
}

static int parse_options(struct cmdline *cl, struct options *o)
{
	const struct cmdline_option options[] = {
		{ "to", option_text, &o->to },
		{ "source-name", option_text, &o->source },
		{ "same-disk", NULL, &o->same_disk },
		{ "storage", option_text, &o->keeper.storage },
		{ "storage-size", option_file_size, &o->keeper.size_bytes },
		{ "limit", option_rate, &o->progress.limit_bytes },
		{ "compress", NULL, &o->backup.compress },
		{ "encrypt", NULL, &o->backup.encrypt },
		{ "key-file", option_key, &o->key },
		{ "used-only", NULL, &o->backup.used_only },
		{ "full", NULL, &o->backup.full },
		{ "incremental-only", NULL, &o->backup.incremental_only },
		{ "quiet", NULL, &o->progress.quiet },
		{ 0 }
	};
	int ret = cmdline_parse(cl, options, 1, INT32_MAX);

	if (!ret && !o->to)
		ret = fail(EXIT_USAGE,
			   "backup: --to is missing; it takes the folder for the backups");
	if (!ret && o->backup.full && o->backup.incremental_only)
		ret = fail(EXIT_USAGE,
			   "--full and --incremental-only exclude each other");
	if (!ret)
		ret = check_encryption(o);
	o->backup.quiet = o->progress.quiet;
	o->keeper.quiet = o->progress.quiet;
	return ret;
}

static void print_result(const struct catalogue *catalogue,
			 const struct catalogue_point *point,
			 const struct cmdline *cl)
{
	static const struct column columns[] = {
		{ "POINT", "point", COLUMN_NUMBER },
		{ "DISK", "disk", COLUMN_TEXT },
		{ "BASE", "base", COLUMN_NUMBER },
		{ "READ", "read_bytes", COLUMN_SIZE },
		{ "DATA", "data_bytes", COLUMN_SIZE },
		{ "FILE", "file", COLUMN_TEXT },
	};
	struct json_object *result = catalogue_point_to_json(point);
	struct json_object *rows, *row;
	size_t i;

	json_object_object_get_ex(result, "disks", &rows);
	add_text(result, "folder", catalogue->dir);
	for (i = 0; i < point->nr_disks && !cl->json; i++) {
		row = json_object_array_get_idx(rows, i);
		add_number(row, "point", point->number);
		if (!point->disks[i].base)
			add_text(row, "base", NULL);
	}
	output_result(cl, result, rows, columns, ARRAY_SIZE(columns));
	json_object_put(result);
}

/* What one run has in its hands. */
struct run {
	const struct options *options;
	struct catalogue *catalogue;
	struct keeper *keeper;
	struct catalogue_point point;
	struct backup_disk *disks;
	unsigned int nr_disks;
};

static int open_image(struct backup_disk *disk, const struct keeper *keeper)
{
	disk->image = keeper_image(keeper, disk->dev, &disk->entry->frozen);
	if (!disk->image)
		return EXIT_FAILED;
	disk->image_fd = open(disk->image, O_RDONLY | O_CLOEXEC);
	if (disk->image_fd < 0)
		return fail_errno(errno, "cannot open '%s'", disk->image);
	return EXIT_OK;
}

/*
 * At once, because it may take long until it is the turn of the last one: if the
 * snapshot is destroyed until then, its number goes to an image of another.
 */
static int open_images(struct run *run, const struct cmdline *cl,
		       const struct blk_snap_dev *devs)
{
	int ret = EXIT_OK;
	unsigned int i;

	for (i = 0; i < run->nr_disks; i++) {
		run->disks[i] = (struct backup_disk) {
			.text = cl->argv[i],
			.dev = devs[i],
			.entry = &run->point.disks[i],
			.image_fd = -1,
		};
	}
	for (i = 0; i < run->nr_disks && !ret; i++)
		ret = open_image(&run->disks[i], run->keeper);
	return ret;
}

static void close_images(struct run *run)
{
	unsigned int i;

	for (i = 0; i < run->nr_disks; i++) {
		if (run->disks[i].image_fd >= 0)
			close(run->disks[i].image_fd);
	}
}

static int plan_all(struct run *run)
{
	int ret = EXIT_OK;
	unsigned int i;

	for (i = 0; i < run->nr_disks && !ret; i++)
		ret = backup_plan(&run->disks[i], run->keeper->blksnap,
				  run->catalogue, &run->point,
				  &run->options->backup);
	return ret;
}

static int write_all(struct run *run)
{
	struct progress progress = run->options->progress;
	int ret = EXIT_OK;
	unsigned int i;

	for (i = 0; i < run->nr_disks && !ret; i++)
		ret = backup_write(&run->disks[i], run->catalogue,
				   run->point.number, &run->options->backup,
				   &progress);
	return ret;
}

/* The files are there; from the moment that the catalogue says so they count. */
static int commit(struct run *run)
{
	int ret;

	ret = catalogue_sync(run->catalogue);
	if (!ret)
		ret = catalogue_add_point(run->catalogue, &run->point);
	if (ret)
		return ret;
	run->point = (struct catalogue_point) { 0 };
	return catalogue_save(run->catalogue);
}

static int read_images(struct run *run, const struct cmdline *cl,
		       const struct blk_snap_dev *devs)
{
	int ret = open_images(run, cl, devs);

	if (!ret)
		ret = plan_all(run);
	if (!ret)
		ret = write_all(run);
	close_images(run);
	/* What was read is the disk at the take only if there is a snapshot still. */
	if (!ret && keeper_is_lost(run->keeper))
		ret = EXIT_FAILED;
	return ret;
}

static int back_up(struct run *run, const struct cmdline *cl,
		   const struct blk_snap_dev *devs)
{
	int ret;

	run->nr_disks = cl->argc;
	run->disks = calloc(cl->argc, sizeof(*run->disks));
	run->point.disks = calloc(cl->argc, sizeof(*run->point.disks));
	run->point.number = run->catalogue->next_point;
	run->point.time = time(NULL);
	ret = run->disks && run->point.disks ? read_images(run, cl, devs) :
					       fail_memory();
	keeper_release(run->keeper);
	if (!ret)
		ret = commit(run);
	return ret;
}

static void forget_run(struct run *run)
{
	unsigned int i;

	for (i = 0; run->disks && i < run->nr_disks; i++)
		backup_forget(&run->disks[i]);
	free(run->disks);
	catalogue_forget_point(&run->point);
}

static int take_and_back_up(struct cmdline *cl, const struct options *o,
			    struct catalogue *catalogue, struct blksnap *blksnap,
			    const struct blk_snap_dev *devs)
{
	struct keeper keeper;
	struct run run = {
		.options = o,
		.catalogue = catalogue,
		.keeper = &keeper,
	};
	int ret;

	ret = keeper_take(&keeper, blksnap, devs, cl->argc, &o->keeper);
	if (!ret)
		ret = back_up(&run, cl, devs);
	keeper_release(&keeper);
	if (ret)
		catalogue_remove_leftovers(catalogue, true);
	else
		print_result(catalogue,
			     &catalogue->points[catalogue->nr_points - 1], cl);
	forget_run(&run);
	return ret;
}

/* Before there is a catalogue, the disk for the backups may not be mounted yet. */
static int fail_same_disk(const struct options *o, const char *dev, bool is_new)
{
	if (is_new)
		return fail(EXIT_FAILED,
			    "'%s' is on the disk of '%s', which is to be backed up; mount another disk there, or add --same-disk if it is meant to be",
			    o->to, dev);
	warn(SAME_DISK_WARNING, o->to, dev);
	return EXIT_OK;
}

static int check_disk(const struct cmdline *cl, const struct options *o,
		      const char *source, const struct blk_snap_dev *devs)
{
	char *folder = NULL, *catalogue = NULL;
	const int nr_devs = cl->argc;
	int i, ret = EXIT_OK;

	if (o->same_disk)
		return EXIT_OK;
	if (asprintf(&folder, "%s/%s", o->to, source) < 0 ||
	    asprintf(&catalogue, "%s/catalogue.json", folder) < 0)
		return fail_memory();
	i = same_disk_find(access(folder, F_OK) ? o->to : folder, devs, nr_devs);
	if (i < nr_devs)
		ret = fail_same_disk(o, cl->argv[i], access(catalogue, F_OK));
	free(catalogue);
	free(folder);
	return ret;
}

static int back_up_to(struct cmdline *cl, const struct options *o,
		      const struct blk_snap_dev *devs)
{
	struct catalogue catalogue = { .lock_fd = -1 };
	const char *source = o->source;
	char host[256] = "";
	struct blksnap *blksnap;
	int ret;

	gethostname(host, sizeof(host) - 1);
	if (!source)
		source = host;
	ret = check_disk(cl, o, source, devs);
	if (!ret)
		ret = catalogue_open(&catalogue, o->to, source,
				     CATALOGUE_CREATE);
	catalogue.key = &o->key;
	if (!ret) {
		catalogue_remove_leftovers(&catalogue, o->backup.quiet);
		ret = open_module(&blksnap);
	}
	if (!ret) {
		ret = take_and_back_up(cl, o, &catalogue, blksnap, devs);
		blksnap_close(blksnap);
	}
	catalogue_close(&catalogue);
	return ret;
}

static int run_backup(struct cmdline *cl)
{
	struct options options = { 0 };
	struct blk_snap_dev *devs;
	int ret;

	ret = parse_options(cl, &options);
	if (!ret)
		ret = device_parse_list(cl->argv, cl->argc, &devs);
	if (ret)
		return ret;
	/* What is read here may be nobody else's business. */
	umask(077);
	interruption_prepare();
	ret = back_up_to(cl, &options, devs);
	free(devs);
	return ret;
}

const struct command command_backup = {
	.group = "",
	.name = "backup",
	.args = "--to DIR DEV...",
	.summary = "Back up devices in use: in full at first, then what changed",
	.help =
		"Takes a snapshot of all DEV at one instant, saves it as a new point below DIR,\n"
		"and destroys it.  Each device becomes a chain of qcow2 files: a full one, and\n"
		"one for each later backup with what changed.  A full one is made again, and the\n"
		"reason is printed, when the changes since the last point are not known.\n"
		"\n"
		"  --to DIR            folder for the backups of all machines; it must exist\n"
		"  --source-name NAME  folder below DIR; the name of the host if not given\n"
		"  --same-disk         DIR may be on the disk of a DEV\n"
		"  --storage WHAT      difference storage: a file on ext4 or XFS, an unused\n"
		"                      device, or memory; a file in /var/lib/blksnap if not\n"
		"                      given\n"
		"  --storage-size N    size of the file, a tenth of the devices but 256M at\n"
		"                      least if not given; or of the memory, a quarter of\n"
		"                      what is free if not given\n"
		"  --limit N           copy at most N bytes per second\n"
		"  --compress          compress with zstd\n"
		"  --encrypt           encrypt with the key in --key-file; not with --compress\n"
		"  --key-file FILE     file with the key, which every later command needs too\n"
		"  --used-only         leave out what the filesystem says is free\n"
		"  --full              make a full backup\n"
		"  --incremental-only  do nothing, and exit with 3, if a full one is due\n"
		"  --quiet             print no progress and no reasons\n",
	.run = run_backup,
};
