// SPDX-License-Identifier: GPL-2.0
/*
 * Commands: storage
 */
#include <stdio.h>

#include "commands.h"
#include "message.h"
#include "option.h"
#include "output.h"
#include "storage.h"
#include "util.h"

static void print_storage(const struct blksnap_storage *storage,
			  const struct cmdline *cl)
{
	static const struct column columns[] = {
		{ "DEVICE", "device", COLUMN_TEXT },
		{ "START", "start", COLUMN_NUMBER },
		{ "COUNT", "count", COLUMN_NUMBER },
	};
	struct json_object *result = json_object_new_object();
	struct json_object *rows = json_object_new_array();
	const struct blk_snap_block_range *ranges;
	struct json_object *row;
	unsigned int nr_ranges, i;

	nr_ranges = blksnap_storage_ranges(storage, &ranges);
	for (i = 0; i < nr_ranges; i++) {
		row = json_object_new_object();
		add_dev(row, "device", "device_number", blksnap_storage_dev(storage));
		add_number(row, "start", ranges[i].sector_offset);
		add_number(row, "count", ranges[i].sector_count);
		json_object_array_add(rows, row);
	}
	json_object_object_add(result, "ranges", rows);
	output_result(cl, result, rows, columns, ARRAY_SIZE(columns));
	json_object_put(result);
}

static int run_storage_reserve(struct cmdline *cl)
{
	struct blksnap_storage *storage;
	uint64_t size_bytes = 0;
	bool force = false;
	const struct cmdline_option options[] = {
		{ "size", option_file_size, &size_bytes },
		{ "force", NULL, &force },
		{ 0 }
	};
	int ret;

	ret = cmdline_parse(cl, options, 1, 1);
	if (ret)
		return ret;
	if (!size_bytes)
		return fail(EXIT_USAGE,
			    "storage reserve: --size is missing or 0; it takes how many bytes to reserve");
	ret = storage_reserve_file(cl->argv[0], size_bytes, force);
	if (!ret)
		ret = storage_find_file(&storage, cl->argv[0], 0, size_bytes,
					force);
	if (ret)
		return ret;
	print_storage(storage, cl);
	blksnap_storage_free(storage);
	return EXIT_OK;
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
