// SPDX-License-Identifier: GPL-2.0
/*
 * Command: export
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "catalogue.h"
#include "choice.h"
#include "commands.h"
#include "export.h"
#include "message.h"
#include "option.h"
#include "util.h"

static const struct format {
	const char *name;
	int (*write)(const struct export *export);
	bool binary;
} formats[] = {
	{ "json", export_json, false },
	{ "ranges", export_ranges, false },
	{ "bmap", export_bmap, false },
	{ "rbd-diff", export_rbd_diff, true },
};

struct options {
	const char *from;
	const char *source;
	const struct format *format;
	uint64_t since;		/* 0: all of the disk */
	struct choice choice;
	struct key key;
	struct progress progress;
};

static int take_format(const char *name, const char *text, void *to)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(formats); i++) {
		if (!strcmp(formats[i].name, text)) {
			*(const struct format **)to = &formats[i];
			return EXIT_OK;
		}
	}
	return fail(EXIT_USAGE,
		    "--%s '%s': must be json, ranges, bmap or rbd-diff", name,
		    text);
}

static int parse_options(struct cmdline *cl, struct options *o)
{
	const struct cmdline_option options[] = {
		{ "from", option_text, &o->from },
		{ "format", take_format, &o->format },
		{ "source-name", option_text, &o->source },
		{ "point", option_point, &o->choice.number },
		{ "disk", option_text, &o->choice.name },
		{ "since", option_point, &o->since },
		{ "key-file", option_key, &o->key },
		{ "quiet", NULL, &o->progress.quiet },
		{ 0 }
	};
	int ret = cmdline_parse(cl, options, 0, 0);

	if (!ret && !o->from)
		ret = fail(EXIT_USAGE,
			   "export: --from is missing; it takes the folder of the backups");
	if (!ret && !o->format)
		ret = fail(EXIT_USAGE,
			   "export: --format is missing; it takes json, ranges, bmap or rbd-diff");
	if (!ret && o->format->binary && isatty(STDOUT_FILENO))
		ret = fail(EXIT_USAGE,
			   "export: %s is not for a terminal; redirect it to a file or a program",
			   o->format->name);
	return ret;
}

/* The lowest layer that is not part of the base. */
static int find_bottom(const struct catalogue *catalogue,
		       const struct options *o,
		       const struct catalogue_disk **bottom)
{
	const struct catalogue_disk *disk = o->choice.disk;

	while (disk && disk->base != o->since)
		disk = catalogue_below(catalogue, disk);
	*bottom = disk;
	if (disk)
		return EXIT_OK;
	return fail(EXIT_FULL_BACKUP,
		    "point %ju is not based on point %ju, so what changed is not known; leave --since out",
		    (uintmax_t)o->choice.point->number, (uintmax_t)o->since);
}

static int export_stack(const struct catalogue *catalogue, struct options *o,
			const struct layer_stack *stack,
			const struct catalogue_disk *bottom)
{
	const struct export export = {
		.stack = stack,
		.disk = o->choice.disk,
		.number = o->choice.point->number,
		.base = catalogue_below(catalogue, bottom),
		.base_number = o->since,
		.file = stdout,
		.progress = &o->progress,
	};

	return o->format->write(&export);
}

static int export_from(const struct catalogue *catalogue, struct options *o)
{
	const struct catalogue_disk *bottom;
	struct layer_stack stack = { 0 };
	int ret;

	ret = choice_find(&o->choice, catalogue);
	if (!ret)
		ret = find_bottom(catalogue, o, &bottom);
	if (!ret)
		ret = layer_stack_load(&stack, catalogue, o->choice.disk,
				       bottom);
	if (!ret)
		ret = export_stack(catalogue, o, &stack, bottom);
	layer_stack_free(&stack);
	return ret;
}

static int run_export(struct cmdline *cl)
{
	struct catalogue catalogue;
	struct options o = { 0 };
	int ret;

	ret = parse_options(cl, &o);
	if (ret)
		return ret;
	interruption_prepare();
	ret = catalogue_open(&catalogue, o.from, o.source, CATALOGUE_READ);
	catalogue.key = &o.key;
	if (!ret)
		ret = export_from(&catalogue, &o);
	catalogue_close(&catalogue);
	return ret;
}

const struct command command_export = {
	.group = "",
	.name = "export",
	.args = "--from DIR --format FORMAT",
	.summary = "Write a disk, or what changed of it, for other programs",
	.help =
		"Writes to the standard output what the disk holds at a point, or with --since\n"
		"what changed from an earlier point to it.  Formats:\n"
		"\n"
		"  json      ranges in bytes, the capacity, and an ID for the state\n"
		"  ranges    lines of START COUNT in sectors, and 'data' or 'zero'\n"
		"  bmap      a block map with checksums, for 'bmaptool copy --bmap'\n"
		"  rbd-diff  a stream with the data, for 'rbd import-diff'; the snapshots in it\n"
		"            are called point-N\n"
		"\n"
		"What is not listed is zero, or with --since has not changed.  For bmap and\n"
		"rbd-diff the data is read, and its checksums are verified; the exit code is 5\n"
		"if they show damage, and what was written is not whole.  It is 3 if the point\n"
		"is not based on the one that --since names.\n"
		"\n"
		"  --from DIR          folder of the backups\n"
		"  --format FORMAT     one of those above\n"
		"  --point N           which point; the newest if not given\n"
		"  --since N           only what changed since point N\n"
		"  --disk NAME         which disk, if the point has several\n"
		"  --key-file FILE     key of an encrypted backup\n"
		"  --source-name NAME  which machine, if DIR holds backups of several\n"
		"  --quiet             print no progress\n",
	.run = run_export,
};
