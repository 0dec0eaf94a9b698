// SPDX-License-Identifier: GPL-2.0
/*
 * Command: verify
 */
#include <stdio.h>

#include "catalogue.h"
#include "commands.h"
#include "layer_stack.h"
#include "message.h"
#include "option.h"
#include "output.h"
#include "util.h"
#include "verify.h"

struct options {
	const char *source;
	uint64_t point;		/* 0 for all */
	struct key key;
	struct progress progress;
};

static void add_row(struct json_object *rows, uint64_t number,
		    const struct catalogue_disk *disk, int result)
{
	struct json_object *row = json_object_new_object();

	add_number(row, "point", number);
	add_text(row, "disk", disk->disk);
	add_text(row, "state", result == EXIT_OK ? "ok" :
			       result == EXIT_DAMAGED ? "damaged" : "unknown");
	add_number(row, "data_bytes", disk->data_bytes);
	add_text(row, "file", disk->file);
	json_object_array_add(rows, row);
}

/* Goes on after damage: what else is damaged is worth knowing. */
static int verify_disk(const struct catalogue *catalogue, uint64_t number,
		       const struct catalogue_disk *disk, bool with_bases,
		       struct options *o, struct json_object *rows)
{
	int ret = EXIT_OK, one;

	for (; disk && !interruption_signal();
	     number = disk->base, disk = catalogue_below(catalogue, disk)) {
		one = verify_layer(catalogue, disk, &o->progress);
		add_row(rows, number, disk, one);
		if (ret != EXIT_DAMAGED && one)
			ret = one;
		if (!with_bases)
			break;
	}
	return ret;
}

static int verify_points(const struct catalogue *catalogue, struct options *o,
			 struct json_object *rows)
{
	const struct catalogue_point *point;
	int ret = EXIT_OK, one;
	size_t i, j;

	for (i = 0; i < catalogue->nr_points && !interruption_signal(); i++) {
		point = &catalogue->points[i];
		if (o->point && o->point != point->number)
			continue;
		for (j = 0; j < point->nr_disks; j++) {
			one = verify_disk(catalogue, point->number,
					  &point->disks[j], o->point, o, rows);
			if (ret != EXIT_DAMAGED && one)
				ret = one;
		}
	}
	/* What is not in the rows was not verified. */
	one = interruption_check();
	return ret ? ret : one;
}

/* Said once, and not of each layer. */
static int check_key(const struct catalogue *catalogue, const struct options *o)
{
	const struct catalogue_point *point;
	size_t i, j;

	for (i = 0; i < catalogue->nr_points && !o->key.file; i++) {
		point = &catalogue->points[i];
		if (o->point && o->point != point->number)
			continue;
		for (j = 0; j < point->nr_disks; j++) {
			if (point->disks[j].encrypted)
				return layer_stack_unlock(catalogue,
							  &point->disks[j]);
		}
	}
	return EXIT_OK;
}

static int verify(const struct catalogue *catalogue, struct options *o,
		  const struct cmdline *cl)
{
	static const struct column columns[] = {
		{ "POINT", "point", COLUMN_NUMBER },
		{ "DISK", "disk", COLUMN_TEXT },
		{ "STATE", "state", COLUMN_TEXT },
		{ "DATA", "data_bytes", COLUMN_SIZE },
		{ "FILE", "file", COLUMN_TEXT },
	};
	struct json_object *result, *rows;
	int ret;

	if (o->point && !catalogue_find_point(catalogue, o->point))
		return fail(EXIT_FAILED,
			    "there is no point %ju; 'blksnap list' shows all",
			    (uintmax_t)o->point);
	ret = check_key(catalogue, o);
	if (ret)
		return ret;
	result = json_object_new_object();
	rows = json_object_new_array();
	ret = verify_points(catalogue, o, rows);
	json_object_object_add(result, "layers", rows);
	output_result(cl, result, rows, columns, ARRAY_SIZE(columns));
	json_object_put(result);
	return ret;
}

static int parse_options(struct cmdline *cl, struct options *o)
{
	const struct cmdline_option options[] = {
		{ "source-name", option_text, &o->source },
		{ "point", option_point, &o->point },
		{ "key-file", option_key, &o->key },
		{ "quiet", NULL, &o->progress.quiet },
		{ 0 }
	};

	return cmdline_parse(cl, options, 1, 1);
}

static int run_verify(struct cmdline *cl)
{
	struct catalogue catalogue;
	struct options o = { 0 };
	int ret;

	ret = parse_options(cl, &o);
	if (ret)
		return ret;
	interruption_prepare();
	ret = catalogue_open(&catalogue, cl->argv[0], o.source, CATALOGUE_READ);
	catalogue.key = &o.key;
	if (!ret)
		ret = verify(&catalogue, &o, cl);
	catalogue_close(&catalogue);
	return ret;
}

const struct command command_verify = {
	.group = "",
	.name = "verify",
	.args = "DIR [--point N]",
	.summary = "Read a backup and verify its checksums",
	.help =
		"Verifies the structure of each file, what it is based on, and the checksums of\n"
		"all data.  The exit code is 5 if something is damaged.\n"
		"\n"
		"  --point N           only this point and those that it is based on\n"
		"  --key-file FILE     key of an encrypted backup\n"
		"  --source-name NAME  which machine, if DIR holds backups of several\n"
		"  --quiet             print no progress\n",
	.run = run_verify,
};
