// SPDX-License-Identifier: GPL-2.0
/*
 * Command: list
 *
 * Of the points of a backup; that of snapshots is in cmd_list.c.
 */
#include <stdio.h>
#include <time.h>

#include "catalogue.h"
#include "commands.h"
#include "message.h"
#include "option.h"
#include "output.h"
#include "util.h"

static void add_row(struct json_object *rows, const struct catalogue *catalogue,
		    const struct catalogue_point *point,
		    const struct catalogue_disk *disk)
{
	struct json_object *row = catalogue_disk_to_json(disk);
	const time_t when = point->time;
	const char *problem = catalogue_layer_damage(catalogue, disk);
	char text[32];
	struct tm tm;

	strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S",
		 localtime_r(&when, &tm));
	add_number(row, "point", point->number);
	add_text(row, "local_time", text);
	add_text(row, "state", problem ? "damaged" : "ok");
	add_text(row, "problem", problem);
	if (!disk->base)
		add_text(row, "base", NULL);
	json_object_array_add(rows, row);
}

static void print_points(const struct catalogue *catalogue,
			 const struct cmdline *cl)
{
	static const struct column columns[] = {
		{ "POINT", "point", COLUMN_NUMBER },
		{ "TIME", "local_time", COLUMN_TEXT },
		{ "DISK", "disk", COLUMN_TEXT },
		{ "BASE", "base", COLUMN_NUMBER },
		{ "SIZE", "capacity_bytes", COLUMN_SIZE },
		{ "DATA", "data_bytes", COLUMN_SIZE },
		{ "STATE", "state", COLUMN_TEXT },
		{ "FILE", "file", COLUMN_TEXT },
	};
	struct json_object *result = json_object_new_object();
	struct json_object *rows = json_object_new_array();
	size_t i, j;

	for (i = 0; i < catalogue->nr_points; i++) {
		for (j = 0; j < catalogue->points[i].nr_disks; j++)
			add_row(rows, catalogue, &catalogue->points[i],
				&catalogue->points[i].disks[j]);
	}
	add_text(result, "source", catalogue->source);
	add_text(result, "folder", catalogue->dir);
	json_object_object_add(result, "layers", rows);
	output_result(cl, result, rows, columns, ARRAY_SIZE(columns));
	json_object_put(result);
}

static int run_list(struct cmdline *cl)
{
	const char *source = NULL;
	const struct cmdline_option options[] = {
		{ "source-name", option_text, &source },
		{ 0 }
	};
	struct catalogue catalogue;
	int ret;

	ret = cmdline_parse(cl, options, 1, 1);
	if (ret)
		return ret;
	ret = catalogue_open(&catalogue, cl->argv[0], source, CATALOGUE_LOOK);
	if (!ret)
		print_points(&catalogue, cl);
	catalogue_close(&catalogue);
	return ret;
}

const struct command command_list = {
	.group = "",
	.name = "list",
	.args = "DIR [--source-name NAME]",
	.summary = "List the points of a backup",
	.help =
		"Prints for each point and disk which point it is based on, how much data it\n"
		"holds, and whether its files are all there, and of their size, and were whole\n"
		"when they were read last; 'blksnap verify' reads them.  A point can be restored\n"
		"as long as its bases are there.\n"
		"\n"
		"  --source-name NAME  which machine, if DIR holds backups of several\n",
	.run = run_list,
};
