// SPDX-License-Identifier: GPL-2.0
/*
 * Command: prune
 */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "catalogue.h"
#include "commands.h"
#include "message.h"
#include "option.h"
#include "output.h"
#include "prune.h"
#include "retention.h"
#include "util.h"

struct options {
	const char *source;
	bool dry_run;
	struct key key;
	struct retention retention;
	struct progress progress;
};

static int parse_options(struct cmdline *cl, struct options *o)
{
	uint64_t *keep = o->retention.count;
	const struct cmdline_option options[] = {
		{ "keep-last", option_count, &keep[RETENTION_LAST] },
		{ "keep-hourly", option_count, &keep[RETENTION_HOURLY] },
		{ "keep-daily", option_count, &keep[RETENTION_DAILY] },
		{ "keep-weekly", option_count, &keep[RETENTION_WEEKLY] },
		{ "keep-monthly", option_count, &keep[RETENTION_MONTHLY] },
		{ "keep-yearly", option_count, &keep[RETENTION_YEARLY] },
		{ "source-name", option_text, &o->source },
		{ "dry-run", NULL, &o->dry_run },
		{ "key-file", option_key, &o->key },
		{ "limit", option_rate, &o->progress.limit_bytes },
		{ "quiet", NULL, &o->progress.quiet },
		{ 0 }
	};
	int ret = cmdline_parse(cl, options, 1, 1);

	if (!ret && retention_is_empty(&o->retention))
		ret = fail(EXIT_USAGE,
			   "prune: say what to keep, for example --keep-last 7");
	return ret;
}

static struct json_object *rules_to_json(const struct catalogue_disk *disk)
{
	struct json_object *names = json_object_new_array();
	size_t rule;

	for (rule = 0; rule < NR_RETENTION_RULES; rule++) {
		if (disk->kept_by & 1U << rule)
			json_object_array_add(names,
					      json_object_new_string(retention_rule_name(rule)));
	}
	return names;
}

static void add_rules_cell(struct json_object *row, struct json_object *names)
{
	char cell[64] = "";
	size_t i, used = 0;

	for (i = 0; i < json_object_array_length(names); i++)
		used += snprintf(cell + used, sizeof(cell) - used, "%s%s",
				 i ? "," : "",
				 json_object_get_string(json_object_array_get_idx(names, i)));
	add_text(row, "kept_by_cell", i ? cell : NULL);
}

static void add_row(struct json_object *rows,
		    const struct catalogue_point *point,
		    const struct catalogue_disk *disk, bool with_cells)
{
	struct json_object *row = json_object_new_object();
	struct json_object *names = rules_to_json(disk);
	const time_t when = point->time;
	char text[32];
	struct tm tm;

	strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S",
		 localtime_r(&when, &tm));
	add_number(row, "point", point->number);
	add_text(row, "local_time", text);
	add_text(row, "disk", disk->disk);
	add_text(row, "action", disk->kept_by ? "keep" : "remove");
	if (with_cells)
		add_rules_cell(row, names);
	json_object_object_add(row, "kept_by", names);
	json_object_array_add(rows, row);
}

/* What is planned; the catalogue has less in it afterwards. */
static struct json_object *plan_to_json(const struct catalogue *catalogue,
					const struct cmdline *cl)
{
	struct json_object *rows = json_object_new_array();
	size_t i, j;

	for (i = 0; i < catalogue->nr_points; i++) {
		for (j = 0; j < catalogue->points[i].nr_disks; j++)
			add_row(rows, &catalogue->points[i],
				&catalogue->points[i].disks[j], !cl->json);
	}
	return rows;
}

static uint64_t all_file_bytes(const struct catalogue *catalogue)
{
	uint64_t nr_bytes = 0;
	size_t i, j;

	for (i = 0; i < catalogue->nr_points; i++) {
		for (j = 0; j < catalogue->points[i].nr_disks; j++)
			nr_bytes += catalogue->points[i].disks[j].file_bytes;
	}
	return nr_bytes;
}

static void print_result(const struct catalogue *catalogue,
			 struct json_object *rows, const struct options *o,
			 uint64_t bytes_before, const struct cmdline *cl)
{
	static const struct column columns[] = {
		{ "POINT", "point", COLUMN_NUMBER },
		{ "TIME", "local_time", COLUMN_TEXT },
		{ "DISK", "disk", COLUMN_TEXT },
		{ "ACTION", "action", COLUMN_TEXT },
		{ "KEPT BY", "kept_by_cell", COLUMN_TEXT },
	};
	struct json_object *result = json_object_new_object();

	add_text(result, "source", catalogue->source);
	add_text(result, "folder", catalogue->dir);
	json_object_object_add(result, "dry_run",
			       json_object_new_boolean(o->dry_run));
	json_object_object_add(result, "layers", json_object_get(rows));
	if (!o->dry_run) {
		add_number(result, "bytes_before", bytes_before);
		add_number(result, "bytes_after", all_file_bytes(catalogue));
	}
	output_result(cl, result, rows, columns, ARRAY_SIZE(columns));
	json_object_put(result);
}

static void warn_of_damage(const struct catalogue *catalogue, const char *disk,
			   uint64_t newest)
{
	const uint64_t whole = catalogue_newest_whole(catalogue, disk);

	if (whole)
		warn("point %ju of '%s' is damaged; so point %ju is kept too, the newest whole one",
		     (uintmax_t)newest, disk, (uintmax_t)whole);
	else
		warn("no point of '%s' can be restored: all are damaged; make a new backup",
		     disk);
}

/* Those whose newest point does not count. */
static void warn_of_damaged_disks(const struct catalogue *catalogue)
{
	const struct catalogue_point *point;
	uint64_t newest;
	size_t i, j;

	for (i = 0; i < catalogue->nr_points; i++) {
		point = &catalogue->points[i];
		for (j = 0; j < point->nr_disks; j++) {
			catalogue_newest_disk(catalogue, point->disks[j].disk,
					      &newest);
			if (newest == point->number && point->disks[j].damaged)
				warn_of_damage(catalogue, point->disks[j].disk,
					       newest);
		}
	}
}

static int prune_catalogue(struct catalogue *catalogue, struct options *o,
			   const struct cmdline *cl)
{
	const uint64_t bytes_before = all_file_bytes(catalogue);
	struct json_object *rows;
	int ret = EXIT_OK;

	retention_apply(&o->retention, catalogue);
	warn_of_damaged_disks(catalogue);
	rows = plan_to_json(catalogue, cl);
	if (!o->dry_run) {
		catalogue_remove_leftovers(catalogue, o->progress.quiet);
		ret = prune(catalogue, &o->progress);
	}
	if (!ret)
		print_result(catalogue, rows, o, bytes_before, cl);
	json_object_put(rows);
	return ret;
}

static int run_prune(struct cmdline *cl)
{
	struct catalogue catalogue;
	struct options o = { 0 };
	int ret;

	ret = parse_options(cl, &o);
	if (ret)
		return ret;
	umask(077);
	interruption_prepare();
	ret = catalogue_open(&catalogue, cl->argv[0], o.source,
			     o.dry_run ? CATALOGUE_READ : CATALOGUE_WRITE);
	catalogue.key = &o.key;
	if (!ret)
		ret = prune_catalogue(&catalogue, &o, cl);
	catalogue_close(&catalogue);
	return ret;
}

const struct command command_prune = {
	.group = "",
	.name = "prune",
	.args = "DIR --keep-... N",
	.summary = "Remove old points of a backup",
	.help =
		"Removes the points that no rule keeps.  A layer that goes is merged with the\n"
		"one that is based on it, so all others can be restored as before.  That needs\n"
		"room for the merged layer for a while.  If a layer that has to be read for it\n"
		"is damaged, it stays as it is and so do those it is merged with; the exit code\n"
		"is 5.  Points that are known to be damaged do not count: the rules keep as many\n"
		"others.\n"
		"\n"
		"  --keep-last N       keep the last N points of each disk\n"
		"  --keep-hourly N     keep the newest of each of the last N hours with points\n"
		"  --keep-daily N      the same for days\n"
		"  --keep-weekly N     for weeks, which begin on Monday\n"
		"  --keep-monthly N    for months\n"
		"  --keep-yearly N     for years\n"
		"  --dry-run           only print what would be kept and removed\n"
		"  --key-file FILE     key of an encrypted backup\n"
		"  --source-name NAME  which machine, if DIR holds backups of several\n"
		"  --limit N           copy at most N bytes per second\n"
		"  --quiet             print no progress\n",
	.run = run_prune,
};
