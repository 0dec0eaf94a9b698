// SPDX-License-Identifier: GPL-2.0
/*
 * Command: restore
 *
 * The layers are written from the lowest to the topmost, each is read by itself
 * and verified by its own checksums.  So damage is found in the layer that has
 * it, and what is restored is what was verified.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "catalogue.h"
#include "choice.h"
#include "commands.h"
#include "layer_stack.h"
#include "message.h"
#include "option.h"
#include "output.h"
#include "restore.h"
#include "util.h"

struct options {
	const char *from;
	const char *source;
	struct choice choice;
	struct key key;
	const char *format;
	bool force;
	struct progress progress;
};

static int take_format(const char *name, const char *text, void *to)
{
	if (strcmp(text, "raw") && strcmp(text, "qcow2"))
		return fail(EXIT_USAGE, "--%s '%s': must be raw or qcow2", name,
			    text);
	return option_text(name, text, to);
}

static int parse_options(struct cmdline *cl, struct options *o)
{
	const struct cmdline_option options[] = {
		{ "from", option_text, &o->from },
		{ "source-name", option_text, &o->source },
		{ "point", option_point, &o->choice.number },
		{ "disk", option_text, &o->choice.name },
		{ "key-file", option_key, &o->key },
		{ "format", take_format, &o->format },
		{ "force", NULL, &o->force },
		{ "limit", option_rate, &o->progress.limit_bytes },
		{ "quiet", NULL, &o->progress.quiet },
		{ 0 }
	};
	int ret = cmdline_parse(cl, options, 1, 1);

	if (!ret && !o->from)
		ret = fail(EXIT_USAGE,
			   "restore: --from is missing; it takes the folder of the backups");
	return ret;
}

static bool wants_qcow2(const struct options *o, const char *target)
{
	const char *dot = strrchr(target, '.');

	if (o->format)
		return !strcmp(o->format, "qcow2");
	return dot && !strcmp(dot, ".qcow2");
}

static int write_layers(const struct layer_stack *stack,
			struct layer_sink *sink, struct progress *progress)
{
	bool damaged = false;
	int ret = EXIT_OK;
	size_t i;

	for (i = 0; i < stack->nr_layers && !ret; i++) {
		ret = layer_read(&stack->maps[i], stack->paths[i], stack->key,
				 sink, progress, &damaged);
		/* From now on zeros may have to replace data. */
		sink->is_zero = false;
	}
	return damaged ? EXIT_DAMAGED : ret;
}

static int restore_stack(const struct layer_stack *stack, struct options *o,
			 const char *path)
{
	const struct catalogue_disk *top = stack->layers[stack->nr_layers - 1];
	struct restore_target target;
	int ret;

	ret = restore_open(&target, path, top->capacity_bytes,
			   wants_qcow2(o, path), o->force);
	if (!ret) {
		progress_begin(&o->progress, top->disk, stack->data_bytes);
		ret = write_layers(stack, &target.sink, &o->progress);
		progress_end(&o->progress);
		if (ret && target.sink.is_device)
			fail(ret,
			     "'%s' is not restored, and does not hold any more what it held before",
			     path);
	}
	if (!ret)
		ret = restore_finish(&target);
	restore_forget(&target);
	return ret;
}

static void print_result(const struct choice *choice,
			 const struct layer_stack *stack, const char *target,
			 const struct cmdline *cl)
{
	static const struct column columns[] = {
		{ "POINT", "point", COLUMN_NUMBER },
		{ "DISK", "disk", COLUMN_TEXT },
		{ "SIZE", "capacity_bytes", COLUMN_SIZE },
		{ "LAYERS", "layers", COLUMN_NUMBER },
		{ "TARGET", "target", COLUMN_TEXT },
	};
	struct json_object *rows = json_object_new_array();
	struct json_object *row = json_object_new_object();

	add_number(row, "point", choice->point->number);
	add_text(row, "disk", choice->disk->disk);
	add_number(row, "capacity_bytes", choice->disk->capacity_bytes);
	add_number(row, "layers", stack->nr_layers);
	add_number(row, "verified_bytes", stack->data_bytes);
	add_text(row, "target", target);
	json_object_array_add(rows, row);
	output_result(cl, row, rows, columns, ARRAY_SIZE(columns));
	json_object_put(rows);
}

static bool is_device(const char *path)
{
	struct stat st;

	return !stat(path, &st) && S_ISBLK(st.st_mode);
}

/* A device is overwritten from the beginning, and damage is found at the end. */
static int check_damage(const struct catalogue *catalogue,
			const struct catalogue_disk *disk, const char *target)
{
	const char *damage = catalogue_layer_damage(catalogue, disk);
	const uint64_t whole = catalogue_newest_whole(catalogue, disk->disk);

	if (!damage || !is_device(target))
		return EXIT_OK;
	if (!whole)
		return fail(EXIT_DAMAGED,
			    "'%s/%s' was damaged when it was read last, so '%s' is left alone; if the file was mended, run 'blksnap verify'",
			    catalogue->dir, damage, target);
	return fail(EXIT_DAMAGED,
		    "'%s/%s' was damaged when it was read last, so '%s' is left alone; take --point %ju, or run 'blksnap verify' if the file was mended",
		    catalogue->dir, damage, target, (uintmax_t)whole);
}

static int restore_from(const struct catalogue *catalogue, struct options *o,
			const struct cmdline *cl)
{
	struct layer_stack stack = { 0 };
	int ret;

	ret = choice_find(&o->choice, catalogue);
	if (!ret)
		ret = layer_stack_load(&stack, catalogue, o->choice.disk, NULL);
	if (!ret)
		ret = check_damage(catalogue, o->choice.disk, cl->argv[0]);
	if (!ret)
		ret = restore_stack(&stack, o, cl->argv[0]);
	if (!ret)
		print_result(&o->choice, &stack, cl->argv[0], cl);
	layer_stack_free(&stack);
	return ret;
}

static int run_restore(struct cmdline *cl)
{
	struct catalogue catalogue;
	struct options o = { 0 };
	int ret;

	ret = parse_options(cl, &o);
	if (ret)
		return ret;
	umask(077);
	interruption_prepare();
	ret = catalogue_open(&catalogue, o.from, o.source, CATALOGUE_READ);
	catalogue.key = &o.key;
	if (!ret)
		ret = restore_from(&catalogue, &o, cl);
	catalogue_close(&catalogue);
	return ret;
}

const struct command command_restore = {
	.group = "",
	.name = "restore",
	.args = "--from DIR TARGET",
	.summary = "Restore a disk to a device or a file",
	.help =
		"Writes a disk as it was at a point to TARGET: a device that is not in use and is\n"
		"large enough, or a file.  The checksums are verified on the way; the exit code\n"
		"is 5 if they show damage.  A file is replaced only when all of it is there, and\n"
		"a device is left alone if the damage is known before.\n"
		"\n"
		"  --from DIR          folder of the backups\n"
		"  --source-name NAME  which machine, if DIR holds backups of several\n"
		"  --point N           which point; the newest if not given\n"
		"  --disk NAME         which disk, if the point has several\n"
		"  --key-file FILE     key of an encrypted backup\n"
		"  --format FORMAT     raw or qcow2; qcow2 if TARGET ends in .qcow2\n"
		"  --force             overwrite what is on the device, replace the file\n"
		"  --limit N           restore at most N bytes per second\n"
		"  --quiet             print no progress\n",
	.run = run_restore,
};
