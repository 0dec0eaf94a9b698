// SPDX-License-Identifier: GPL-2.0
/*
 * Commands: storage
 */
#include <stdio.h>

#include "commands.h"
#include "message.h"
#include "output.h"
#include "parse.h"
#include "util.h"

enum {
	OPT_SIZE = OPT_OWN,
	OPT_FORCE,
};

/**
 * parse_file_size() - parse the argument of --size or --offset
 * @option:	which of them, for the message
 * @text:	the argument
 * @size_bytes:	a multiple of STORAGE_ALIGN_BYTES
 *
 * Return: EXIT_OK, or EXIT_USAGE after a message.
 */
int parse_file_size(const char *option, const char *text, uint64_t *size_bytes)
{
	if (!parse_size(text, size_bytes) || *size_bytes % STORAGE_ALIGN_BYTES)
		return fail(EXIT_USAGE,
			    "%s '%s': must be a number of bytes or have a suffix K, M, G or T, and be a multiple of %uK",
			    option, text, STORAGE_ALIGN_BYTES / 1024);
	return EXIT_OK;
}

static void print_storage(const struct storage *storage,
			  const struct cmdline *cl)
{
	static const struct column columns[] = {
		{ "DEVICE", "device", COLUMN_TEXT },
		{ "START", "start", COLUMN_NUMBER },
		{ "COUNT", "count", COLUMN_NUMBER },
	};
	struct json_object *result = json_object_new_object();
	struct json_object *rows = json_object_new_array();
	struct json_object *row;
	unsigned int i;

	for (i = 0; i < storage->nr_ranges; i++) {
		row = json_object_new_object();
		add_dev(row, "device", "device_number", storage->dev);
		add_number(row, "start", storage->ranges[i].sector_offset);
		add_number(row, "count", storage->ranges[i].sector_count);
		json_object_array_add(rows, row);
	}
	json_object_object_add(result, "ranges", rows);
	output_result(cl, result, rows, columns, ARRAY_SIZE(columns));
	json_object_put(result);
}

static int run_storage_reserve(struct cmdline *cl)
{
	static const struct option options[] = {
		{ "size", required_argument, NULL, OPT_SIZE },
		{ "force", no_argument, NULL, OPT_FORCE },
		{ 0 }
	};
	struct storage storage = { 0 };
	uint64_t size_bytes = 0;
	bool force = false;
	int option, ret;

	while ((option = cmdline_next(cl, options)) != CMDLINE_END) {
		switch (option) {
		case OPT_SIZE:
			ret = parse_file_size("--size", optarg, &size_bytes);
			if (ret)
				return ret;
			break;
		case OPT_FORCE:
			force = true;
			break;
		default:
			return cl->exit_code;
		}
	}
	ret = cmdline_check_args(cl, 1, 1);
	if (ret)
		return ret;
	if (!size_bytes)
		return fail(EXIT_USAGE,
			    "storage reserve: --size is missing or 0; it takes how many bytes to reserve");
	ret = storage_reserve_file(cl->argv[0], size_bytes, force);
	if (!ret)
		ret = storage_use_file(&storage, cl->argv[0], 0, size_bytes,
				       force);
	if (!ret)
		print_storage(&storage, cl);
	storage_free(&storage);
	return ret;
}

const struct command command_storage_reserve = {
	.group = "storage",
	.name = "reserve",
	.args = "FILE --size N [--force]",
	.summary = "Reserve a file for difference storage",
	.help =
		"Creates FILE or makes it longer, so that its first N bytes have blocks, and\n"
		"prints where they lie.  Pieces of the file can then be appended to snapshots at\n"
		"any time with 'blksnap snapshot append'.  FILE must be on ext4 or XFS.\n"
		"\n"
		"A file on the disk of a snapshot has to be reserved before the take: blocks\n"
		"that were freed later hold data of the snapshot.\n"
		"\n"
		"  --size N  how many bytes to reserve, a multiple of 4K\n"
		"  --force   use FILE even if it holds data, which will be overwritten\n",
	.run = run_storage_reserve,
};
