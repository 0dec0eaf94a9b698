// SPDX-License-Identifier: GPL-2.0
/*
 * Commands: cbt
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <blksnap/blksnap.h>

#include "extents.h"
#include "commands.h"
#include "device.h"
#include "message.h"
#include "option.h"
#include "output.h"
#include "parse.h"
#include "util.h"

static int open_and_load(const char *text, struct blk_snap_dev dev,
			 struct blksnap_cbt **cbt)
{
	struct blksnap *blksnap;
	int ret;

	ret = open_module(&blksnap);
	if (ret)
		return ret;
	if (blksnap_cbt_load(blksnap, dev, cbt))
		ret = fail_call("'%s'", text);
	blksnap_close(blksnap);
	return ret;
}

static bool write_map(const struct blksnap_cbt *cbt, FILE *file)
{
	const size_t nr_blocks = blksnap_cbt_info(cbt)->blk_count;

	return fwrite(blksnap_cbt_map(cbt), 1, nr_blocks, file) == nr_blocks;
}

static int write_map_file(const struct blksnap_cbt *cbt, const char *path)
{
	FILE *file = fopen(path, "we");
	bool ok;

	if (!file)
		return fail_errno(errno, "cannot open '%s'", path);
	ok = write_map(cbt, file);
	if (fclose(file) || !ok)
		return fail_errno(errno, "cannot write '%s'", path);
	return EXIT_OK;
}

static void print_map_state(const struct blksnap_cbt *cbt, const char *path,
			    const struct cmdline *cl)
{
	static const struct column columns[] = {
		{ "DEVICE", "device", COLUMN_TEXT },
		{ "BLOCK", "block_size_bytes", COLUMN_SIZE },
		{ "BLOCKS", "block_count", COLUMN_NUMBER },
		{ "SNAPSHOTS", "snap_number", COLUMN_NUMBER },
		{ "GENERATION", "generation", COLUMN_TEXT },
		{ "FILE", "file", COLUMN_TEXT },
	};
	struct json_object *rows = json_object_new_array();
	struct json_object *row = json_object_new_object();

	add_cbt_info(row, blksnap_cbt_info(cbt));
	add_text(row, "file", path);
	json_object_array_add(rows, row);
	output_result(cl, row, rows, columns, ARRAY_SIZE(columns));
	json_object_put(rows);
}

static int run_cbt_read(struct cmdline *cl)
{
	const char *path = NULL;
	const struct cmdline_option options[] = {
		{ "output", option_text, &path },
		{ 0 }
	};
	struct blksnap_cbt *cbt;
	struct blk_snap_dev dev;
	int ret;

	ret = cmdline_parse(cl, options, 1, 1);
	if (ret)
		return ret;
	if (!path && cl->json)
		return fail(EXIT_USAGE,
			    "--json needs --output FILE here, for the map itself is no text");
	if (!path && isatty(STDOUT_FILENO))
		return fail(EXIT_USAGE,
			    "the map is no text for a terminal; use --output FILE or a pipe");
	ret = device_parse(cl->argv[0], &dev);
	if (!ret)
		ret = open_and_load(cl->argv[0], dev, &cbt);
	if (ret)
		return ret;
	if (!path) {
		write_map(cbt, stdout);
	} else {
		ret = write_map_file(cbt, path);
		if (!ret)
			print_map_state(cbt, path, cl);
	}
	blksnap_cbt_free(cbt);
	return ret;
}

const struct command command_cbt_read = {
	.group = "cbt",
	.name = "read",
	.args = "DEV [--output FILE]",
	.summary = "Write out the change map of the last snapshot",
	.help =
		"The map has one byte for each tracking block: the number of the snapshot\n"
		"interval in which the block changed last, 0 if it has not changed in this\n"
		"generation.  It is written to the standard output.\n"
		"\n"
		"  --output FILE  write the map to FILE, and print what belongs to it\n",
	.run = run_cbt_read,
};

/*
 * Prints the array itself: as an object each, millions of ranges would take
 * gigabytes.
 */
static int extents_to_json(struct json_object *object, struct printbuf *buffer,
			   int level, int flags)
{
	const struct extents *extents = json_object_get_userdata(object);
	size_t i;

	(void)level;
	(void)flags;
	printbuf_strappend(buffer, "[");
	for (i = 0; i < extents->nr_ranges; i++)
		sprintbuf(buffer, "%s\n    { \"start\": %llu, \"count\": %llu }",
			  i ? "," : "",
			  (unsigned long long)extents->ranges[i].sector_offset,
			  (unsigned long long)extents->ranges[i].sector_count);
	printbuf_strappend(buffer, "\n  ]");
	return 0;
}

static void print_extents_json(struct extents *extents, const struct blksnap_cbt *cbt,
			       unsigned int since)
{
	struct json_object *result = json_object_new_object();
	struct json_object *array = json_object_new_array();

	add_cbt_info(result, blksnap_cbt_info(cbt));
	add_number(result, "since", since);
	add_number(result, "changed_sectors", extents->nr_sectors);
	json_object_set_serializer(array, extents_to_json, extents, NULL);
	json_object_object_add(result, "extents", array);
	output_json(result);
	json_object_put(result);
}

static void print_extents(const struct extents *extents, bool no_header)
{
	size_t i;

	if (!no_header)
		printf("%16s  %16s\n", "START", "COUNT");
	for (i = 0; i < extents->nr_ranges; i++)
		printf("%16llu  %16llu\n",
		       (unsigned long long)extents->ranges[i].sector_offset,
		       (unsigned long long)extents->ranges[i].sector_count);
}

static int list_extents(const struct cmdline *cl, const struct blksnap_cbt *cbt,
			unsigned int since)
{
	struct extents extents = { 0 };
	int ret;

	ret = extents_add_changed(&extents, cbt, since);
	if (!ret && cl->json)
		print_extents_json(&extents, cbt, since);
	else if (!ret)
		print_extents(&extents, cl->no_header);
	extents_free(&extents);
	return ret;
}

struct extents_options {
	uint64_t since;
	bool has_since;
	struct blk_snap_uuid generation;
	bool has_generation;
};

static int take_since(const char *name, const char *text, void *to)
{
	struct extents_options *eo = to;

	if (!parse_u64(text, UINT8_MAX, &eo->since))
		return fail(EXIT_USAGE,
			    "--%s '%s': must be the number of a snapshot, 0 to 255",
			    name, text);
	eo->has_since = true;
	return EXIT_OK;
}

static int take_generation(const char *name, const char *text, void *to)
{
	struct extents_options *eo = to;

	if (!parse_uuid(text, &eo->generation))
		return fail(EXIT_USAGE,
			    "--%s '%s': must be a UUID as 'blksnap tracker list' prints it",
			    name, text);
	eo->has_generation = true;
	return EXIT_OK;
}

static int run_cbt_extents(struct cmdline *cl)
{
	struct extents_options eo = { 0 };
	const struct cmdline_option options[] = {
		{ "since", take_since, &eo },
		{ "generation", take_generation, &eo },
		{ 0 }
	};
	struct blksnap_cbt *cbt;
	struct blk_snap_dev dev;
	int ret;

	ret = cmdline_parse(cl, options, 1, 1);
	if (ret)
		return ret;
	if (!eo.has_since)
		return fail(EXIT_USAGE,
			    "cbt extents: --since is missing; it takes the number of a snapshot, 0 to 255");
	ret = device_parse(cl->argv[0], &dev);
	if (!ret)
		ret = open_and_load(cl->argv[0], dev, &cbt);
	if (ret)
		return ret;
	if (blksnap_cbt_check(cbt, eo.has_generation ? &eo.generation : NULL, eo.since))
		ret = fail(EXIT_FULL_BACKUP, "'%s': %s", cl->argv[0], blksnap_error());
	else
		ret = list_extents(cl, cbt, eo.since);
	blksnap_cbt_free(cbt);
	return ret;
}

const struct command command_cbt_extents = {
	.group = "cbt",
	.name = "extents",
	.args = "DEV --since N [--generation UUID]",
	.summary = "List what changed between two snapshots",
	.help =
		"Prints START and COUNT, in sectors of 512 bytes, of everything that changed\n"
		"between snapshot number N of the device and the last one.  To be copied from\n"
		"the image of the last one.  With N = 0 these are the changes since the\n"
		"generation began.\n"
		"\n"
		"  --since N          number of the snapshot that was backed up before\n"
		"  --generation UUID  generation that N belongs to\n"
		"\n"
		"The exit code is 3 if the device is in another generation or has not come to N\n"
		"in this one: then the map does not tell all changes, and a full backup is due.\n"
		"Without --generation a change of the generation may go unnoticed.\n",
	.run = run_cbt_extents,
};

static int parse_ranges(char **texts, unsigned int nr_texts,
			struct blk_snap_block_range **ranges)
{
	unsigned int i;

	*ranges = calloc(nr_texts, sizeof(**ranges));
	if (!*ranges)
		return fail_memory();
	for (i = 0; i < nr_texts; i++) {
		if (!parse_range(texts[i], &(*ranges)[i])) {
			free(*ranges);
			return fail(EXIT_USAGE,
				    "'%s': must be a range START:COUNT in sectors of 512 bytes, COUNT at least 1",
				    texts[i]);
		}
	}
	return EXIT_OK;
}

static int run_cbt_mark(struct cmdline *cl)
{
	struct blk_snap_block_range *ranges;
	struct blk_snap_dev dev;
	struct blksnap *blksnap;
	int ret;

	ret = cmdline_parse(cl, NULL, 2, INT32_MAX);
	if (!ret)
		ret = device_parse(cl->argv[0], &dev);
	if (!ret)
		ret = parse_ranges(cl->argv + 1, cl->argc - 1, &ranges);
	if (ret)
		return ret;
	ret = open_module(&blksnap);
	if (!ret) {
		ret = blksnap_tracker_mark_dirty_blocks(blksnap, dev, ranges,
							cl->argc - 1);
		blksnap_close(blksnap);
		if (ret)
			ret = fail_call("cannot mark blocks of '%s'",
					cl->argv[0]);
	}
	free(ranges);
	return ret;
}

const struct command command_cbt_mark = {
	.group = "cbt",
	.name = "mark",
	.args = "DEV START:COUNT...",
	.summary = "Mark parts of a device as changed",
	.help =
		"The next incremental backup includes the tracking blocks that the ranges touch.\n"
		"DEV may also be an image, which means its origin.  If one range is wrong, none\n"
		"is marked.\n",
	.run = run_cbt_mark,
};
