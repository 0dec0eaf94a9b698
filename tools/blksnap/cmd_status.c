// SPDX-License-Identifier: GPL-2.0
/*
 * Commands: status, top
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "commands.h"
#include "message.h"
#include "option.h"
#include "output.h"
#include "progress.h"
#include "prometheus.h"
#include "screen.h"
#include "status.h"
#include "util.h"

enum format {
	FORMAT_TABLE,
	FORMAT_JSON,
	FORMAT_PROMETHEUS,
};

struct options {
	const char *format_name;
	enum format format;
	const char *output;
	uint64_t count;		/* 0: without end */
	bool no_header;
};

/* --json is the same as --format json. */
static int find_format(const struct cmdline *cl, struct options *o)
{
	static const char *const names[] = { "table", "json", "prometheus" };
	const char *name = o->format_name ?: cl->json ? "json" : "table";
	bool is_top = cl->command == &command_top;
	size_t i;

	o->no_header = cl->no_header;
	for (i = 0; i < ARRAY_SIZE(names) - is_top; i++) {
		if (!strcmp(name, names[i])) {
			o->format = i;
			return EXIT_OK;
		}
	}
	return fail(EXIT_USAGE, "--format '%s': must be %s", name,
		    is_top ? "table or json" : "table, json or prometheus");
}

static void warn_incomplete(void)
{
	if (!status_has_debugfs())
		warn("cannot read " STATUS_DEBUGFS
		     ": what has changed and fill rates are not shown; mount it with 'mount -t debugfs none /sys/kernel/debug'");
}

static int read_status(const struct options *o, struct json_object **status)
{
	struct blksnap *blksnap;
	int ret = open_module(&blksnap);

	if (ret)
		return ret;
	ret = status_read(blksnap, o->format == FORMAT_TABLE, status);
	blksnap_close(blksnap);
	return ret;
}

static void print_snapshots(struct json_object *rows, bool no_header)
{
	static const struct column columns[] = {
		{ "SNAPSHOT", "id", COLUMN_TEXT },
		{ "STATE", "state", COLUMN_TEXT },
		{ "AGE", "age_cell", COLUMN_TEXT },
		{ "STORAGE", "storage_bytes", COLUMN_SIZE },
		{ "USED", "used_cell", COLUMN_NUMBER },
		{ "FILL/S", "fill_bytes_per_second", COLUMN_SIZE },
		{ "FULL IN", "full_in_cell", COLUMN_TEXT },
		{ "CREATOR", "creator_cell", COLUMN_TEXT },
		{ "DEVICES", "devices_cell", COLUMN_TEXT },
	};

	output_table(rows, columns, ARRAY_SIZE(columns), no_header);
}

static void add_image_cells(struct json_object *row)
{
	struct json_object *frozen = json_object_object_get(row, "filesystem_frozen");
	struct json_object *name = json_object_object_get(row, "origin") ?:
				   json_object_object_get(row, "origin_number");

	add_text(row, "origin_cell", json_object_get_string(name));
	if (frozen)
		add_text(row, "frozen_cell",
			 json_object_get_boolean(frozen) ? "yes" : "no");
}

/* The images of all snapshots. */
static struct json_object *list_images(struct json_object *snapshots)
{
	struct json_object *all = json_object_new_array();
	struct json_object *images, *row;
	size_t i, j;

	for (i = 0; i < json_object_array_length(snapshots); i++) {
		images = json_object_object_get(json_object_array_get_idx(snapshots, i),
						"images");
		for (j = 0; j < json_object_array_length(images); j++) {
			row = json_object_array_get_idx(images, j);
			add_image_cells(row);
			json_object_array_add(all, json_object_get(row));
		}
	}
	return all;
}

static void print_images(struct json_object *snapshots, bool no_header)
{
	static const struct column columns[] = {
		{ "ORIGIN", "origin_cell", COLUMN_TEXT },
		{ "IMAGE", "image", COLUMN_TEXT },
		{ "COPIED", "copied_bytes", COLUMN_SIZE },
		{ "STORED", "stored_bytes", COLUMN_SIZE },
		{ "MEMORY", "memory_bytes", COLUMN_SIZE },
		{ "HELD", "held_writes", COLUMN_NUMBER },
		{ "FROZEN", "frozen_cell", COLUMN_TEXT },
		{ "ERROR", "error", COLUMN_TEXT },
	};
	struct json_object *rows = list_images(snapshots);

	output_table(rows, columns, ARRAY_SIZE(columns), no_header);
	json_object_put(rows);
}

static void print_trackers(struct json_object *rows, bool no_header)
{
	static const struct column columns[] = {
		{ "DEVICE", "device", COLUMN_TEXT },
		{ "MAJ:MIN", "device_number", COLUMN_TEXT },
		{ "SIZE", "capacity_bytes", COLUMN_SIZE },
		{ "CHANGED", "changed_bytes", COLUMN_SIZE },
		{ "BLOCKS", "changed_blocks", COLUMN_NUMBER },
		{ "SNAPSHOTS", "snap_number", COLUMN_NUMBER },
		{ "MEMORY", "memory_bytes", COLUMN_SIZE },
		{ "BEGAN", "began", COLUMN_TEXT },
		{ "ENDS", "ends", COLUMN_TEXT },
		{ "GENERATION", "generation", COLUMN_TEXT },
	};

	output_table(rows, columns, ARRAY_SIZE(columns), no_header);
}

static void print_tables(struct json_object *status, bool no_header)
{
	struct json_object *snapshots = json_object_object_get(status, "snapshots");

	print_snapshots(snapshots, no_header);
	putchar('\n');
	print_images(snapshots, no_header);
	putchar('\n');
	print_trackers(json_object_object_get(status, "trackers"), no_header);
}

static void print_status(struct json_object *status, const struct options *o)
{
	switch (o->format) {
	case FORMAT_TABLE:
		print_tables(status, o->no_header);
		break;
	case FORMAT_JSON:
		output_json(status);
		break;
	case FORMAT_PROMETHEUS:
		prometheus_print(status);
		break;
	}
}

/* From here on the standard output is a new file beside the one to be replaced. */
static int begin_output(const char *output, char **partial)
{
	int fd;

	/* Its end is not that of the files that node_exporter looks for. */
	if (asprintf(partial, "%s.XXXXXX", output) < 0)
		return fail_memory();
	fd = mkostemp(*partial, O_CLOEXEC);
	if (fd < 0)
		return fail_errno(errno, "cannot create '%s'", *partial);
	/* For programs that run as another user. */
	fchmod(fd, 0644);
	dup2(fd, STDOUT_FILENO);
	close(fd);
	return EXIT_OK;
}

static int end_output(const char *output, const char *partial)
{
	int ret = EXIT_OK;

	if (fflush(stdout) || ferror(stdout))
		ret = fail_errno(errno, "cannot write '%s'", partial);
	else if (rename(partial, output))
		ret = fail_errno(errno, "cannot rename '%s' to '%s'", partial, output);
	if (ret)
		unlink(partial);
	return ret;
}

static int print_to_file(struct json_object *status, const struct options *o)
{
	char *partial = NULL;
	int ret = begin_output(o->output, &partial);

	if (!ret) {
		print_status(status, o);
		ret = end_output(o->output, partial);
	}
	free(partial);
	return ret;
}

static int run_status(struct cmdline *cl)
{
	struct options o = { 0 };
	const struct cmdline_option options[] = {
		{ "format", option_text, &o.format_name },
		{ "output", option_text, &o.output },
		{ 0 }
	};
	struct json_object *status;
	int ret = cmdline_parse(cl, options, 0, 0);

	if (!ret)
		ret = find_format(cl, &o);
	if (!ret)
		ret = read_status(&o, &status);
	if (ret)
		return ret;
	warn_incomplete();
	if (o.output)
		ret = print_to_file(status, &o);
	else
		print_status(status, &o);
	json_object_put(status);
	return ret;
}

const struct command command_status = {
	.group = "",
	.name = "status",
	.args = "[--format FORMAT] [--output FILE]",
	.summary = "Show what snapshots and change tracking are doing",
	.help =
		"One line for each snapshot: how full its difference storage is, how fast it\n"
		"fills up, and when it will be full if it goes on like this.  One for each image:\n"
		"what has been copied and stored, how many writes to the origin wait at this\n"
		"moment (HELD), whether its filesystem was frozen at the take, and the error if\n"
		"the image is lost.  One for each tracked device: what has CHANGED since the last\n"
		"snapshot, why the generation of its change map BEGAN, and why it ENDS with the\n"
		"next snapshot, if it does; the next backup is a full one then.\n"
		"\n"
		"  --format FORMAT  table, json, or prometheus\n"
		"  --output FILE    write to FILE, which is replaced at once; for the folder of\n"
		"                   node_exporter's textfile collector\n",
	.run = run_status,
};

static int show_once(const struct options *o)
{
	struct json_object *status;
	int ret = read_status(o, &status);

	if (ret)
		return ret;
	if (o->format == FORMAT_JSON)
		output_json_line(status);
	else
		print_tables(status, o->no_header);
	json_object_put(status);
	return EXIT_OK;
}

/* Off a terminal, tables have an empty line between them and those of a second later. */
static int show_all(const struct options *o)
{
	uint64_t nr_shown = 0;
	int ret;

	do {
		if (nr_shown && o->format == FORMAT_TABLE)
			screen_separate();
		screen_begin();
		ret = show_once(o);
		screen_end();
	} while (!ret && ++nr_shown != o->count && !ferror(stdout) && screen_wait());
	return ret;
}

static int run_top(struct cmdline *cl)
{
	struct options o = { 0 };
	const struct cmdline_option options[] = {
		{ "format", option_text, &o.format_name },
		{ "count", option_count, &o.count },
		{ 0 }
	};
	int ret = cmdline_parse(cl, options, 0, 0);

	if (!ret)
		ret = find_format(cl, &o);
	if (ret)
		return ret;
	warn_incomplete();
	interruption_prepare();
	screen_open(o.format == FORMAT_TABLE);
	ret = show_all(&o);
	screen_close();
	return ret;
}

const struct command command_top = {
	.group = "",
	.name = "top",
	.args = "[--format FORMAT] [--count N]",
	.summary = "Show the status, and show it again each second",
	.help =
		"What is shown is told by 'blksnap status --help'.  Ends with q or Ctrl-C.\n"
		"\n"
		"  --format FORMAT  table, or json: a line each second\n"
		"  --count N        end when it has been shown N times\n",
	.run = run_top,
};
