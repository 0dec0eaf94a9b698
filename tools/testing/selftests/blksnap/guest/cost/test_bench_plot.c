// SPDX-License-Identifier: GPL-2.0
/*
 * Points of curves: cost against one thing that varies
 *
 * Each point is the cost of a write with a snapshot held since just before, all
 * that follows included.
 */
#include "test_bench.h"

#define POINT_REQUESTS 256U
#define FRACTION_MIB 64U
#define FRACTION_BLOCKS (FRACTION_MIB * 256U)

static void point_add(const struct load *load, const char *curve,
		      unsigned int at)
{
	struct cost cost;

	load_settled(load, way_origin(), &cost);
	row_add("instructions", cost.busy_ns, "%s.plot.%s.%u", bench_way->name,
		curve, at);
}

/* First writes of 4 KiB, some of them at a time. */
static void plot_depth(void)
{
	unsigned int depth;
	struct load load;

	way_start(bench_way, &bench_origin, &bench_storage);
	load_stride(&load, true, 4096, POINT_REQUESTS, MIB);
	for (depth = 1; depth <= LOAD_DEPTH_MAX; depth *= 2) {
		load.depth = depth;
		way_take();
		settle();
		point_add(&load, "depth", depth);
		way_drop();
	}
	load_free(&load);
}

/* First writes of some size, one at a time, on the filled part of the disk. */
static void plot_size(void)
{
	unsigned int kib;
	struct load load;

	way_start(bench_way, &bench_origin, &bench_storage);
	for (kib = 4; kib <= 1024; kib *= 4) {
		load_stride(&load, true, kib * KIB, 64, MIB);
		way_take();
		settle();
		point_add(&load, "size", kib);
		way_drop();
		load_free(&load);
	}
}

/* Random writes of 4 KiB, when a part of the blocks is copied already. */
static void plot_fraction(void)
{
	struct load copy, load;
	unsigned int percent;
	struct cost cost;

	way_start(bench_way, &bench_origin, &bench_storage);
	load_random(&load, true, 4096, POINT_REQUESTS, FRACTION_MIB * MIB);
	for (percent = 0; percent <= 100; percent += 20) {
		way_take();
		settle();
		/* An odd factor is prime to their number: each comes once. */
		load_shuffle(&copy, true, 4096, FRACTION_BLOCKS, 7919);
		copy.nr = FRACTION_BLOCKS / 100.0 * percent;
		copy.depth = 32;
		if (copy.nr)
			load_settled(&copy, way_origin(), &cost);
		load_free(&copy);
		point_add(&load, "fraction", percent);
		way_drop();
	}
	load_free(&load);
}

const struct ktap_test plot_tests[] = {
	KTAP_SLOW_TEST(plot_depth),
	KTAP_SLOW_TEST(plot_size),
	KTAP_SLOW_TEST(plot_fraction),
	KTAP_END
};
