/* SPDX-License-Identifier: GPL-2.0 */
/*
 * How cost and memory grow with devices, snapshots, storage and what is copied
 *
 * axis:	the one thing that becomes larger
 * point:	a value on an axis, where everything is measured
 */
#ifndef TEST_BENCH_GROWTH_H
#define TEST_BENCH_GROWTH_H

#include "test_bench.h"

#define GROWTH_WRITES 1024U	/* of blocks that are not copied */
#define GROWTH_BLOCK_BYTES 4096U

/**
 * struct growth_point - what is measured, and the names of its rows
 * @axis:	its name
 * @value:	and the value on it
 * @disk:	the origin
 * @storage:	disk that holds nothing but storage
 * @ranges:	of it, for the snapshot
 * @nr_ranges:	how many
 * @writes:	GROWTH_WRITES writes, each to a block of its own
 * @copied:	written before, so that these blocks are copied; may be empty
 * @is_all_copied: there is nothing else: @writes are to blocks of @copied
 * @bare_ns:	cost of one of @writes when nothing is tracked
 * @free_bytes:	memory at that time
 */
struct growth_point {
	const char *axis;
	unsigned long value;
	const struct disk *disk;
	const struct disk *storage;
	struct blk_snap_block_range *ranges;
	unsigned int nr_ranges;
	struct load writes;
	struct load copied;
	bool is_all_copied;
	double bare_ns;
	double free_bytes;
};

void growth_row(const struct growth_point *point, const char *unit,
		double value, const char *figure);
double growth_cheap_cost(const struct load *load, bool is_write,
			 const char *path);
void growth_append(const struct blk_snap_uuid *id, const struct disk *storage,
		   const struct blk_snap_block_range *ranges, unsigned int nr);
void growth_begin(struct growth_point *point);
void growth_measure(const struct growth_point *point);

#endif /* TEST_BENCH_GROWTH_H */
