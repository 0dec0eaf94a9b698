// SPDX-License-Identifier: GPL-2.0
/*
 * First writes to a disk that needs a millisecond for each request
 *
 * Time passes without instructions here: it is that of the disk, and how long
 * submitting takes is that of the processor.
 */
#include "test_bench.h"

#define SLOW_REQUESTS 2048U

static struct disk slow_disk;

static void slow_disk_need(void)
{
	struct null_disk_options options = bench_options;
	struct load load;
	struct cost cost;

	if (slow_disk.is_ours)
		return;
	options.completion_ns = 1000000;
	ASSERT_OK(null_disk_create(&slow_disk, "nullb6", BENCH_MIB, &options));
	load_stride(&load, true, 4096, SLOW_REQUESTS,
		    BENCH_MIB * MIB / SLOW_REQUESTS);
	load.depth = 32;
	load_settled(&load, slow_disk.path, &cost);
	load_free(&load);
}

static void slow_first_writes(void)
{
	const struct way *way = ktap_data();
	struct load load;
	double ns, p99_ns;

	slow_disk_need();
	load_stride(&load, true, 4096, SLOW_REQUESTS,
		    BENCH_MIB * MIB / SLOW_REQUESTS);
	load.depth = 32;
	way_start(way, &slow_disk, &bench_storage);
	way_take();
	settle();
	p99_ns = load_submitted(&load, way_origin(), &ns);
	load_free(&load);
	row_add("us", ns / 1000, "%s.slow.write_4k_qd32", way->name);
	row_add("us", p99_ns / 1000, "%s.slow.submit_p99", way->name);
}

const struct ktap_test slow_tests[] = {
	{ "bare", slow_first_writes, false, &way_bare },
	{ "blksnap", slow_first_writes, false, &way_blksnap },
	{ "dm8", slow_first_writes, false, &way_dm8 },
	{ "dm128", slow_first_writes, false, &way_dm128 },
	{ "dm512", slow_first_writes, false, &way_dm512 },
	KTAP_END
};
