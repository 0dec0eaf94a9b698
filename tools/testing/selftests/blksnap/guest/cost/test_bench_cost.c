// SPDX-License-Identifier: GPL-2.0
/*
 * Instructions per request
 *
 * What a way adds to a request is the difference to the same request on the bare
 * device; where the way does another work than the device, the whole is told.
 */
#include "test_bench.h"

#define CHEAP_REQUESTS 100U	/* a batch has to be shorter than a tick */
#define BIG_REQUESTS 3U		/* the same for 1 MiB each */
#define FIRST_REQUESTS 1024U
#define FIRST_BIG_REQUESTS 40U
#define FIRST_ROUNDS 4U		/* the first one is to warm up */
#define RANDOM_MIB 64U

struct shape {
	const char *name;
	bool is_write;
	size_t nr_bytes;
	unsigned int depth;
};

static const struct shape shapes[] = {
	{ "write_4k_qd1", true, 4096, 1 },
	{ "write_4k_qd32", true, 4096, 32 },
	{ "read_4k_qd1", false, 4096, 1 },
	{ "read_4k_qd32", false, 4096, 32 },
	{ "write_1m_qd1", true, MIB, 1 },
	{ "read_1m_qd1", false, MIB, 1 },
};

/* Costs of the bare device, 0 as long as they are not known. */
static double bare_costs[ARRAY_SIZE(shapes)];

static double shape_cost(const struct shape *shape, const char *path)
{
	struct load load;
	double cost;

	if (shape->nr_bytes == MIB)
		load_stride(&load, shape->is_write, MIB, BIG_REQUESTS, MIB);
	else
		load_stride(&load, shape->is_write, shape->nr_bytes,
			    CHEAP_REQUESTS, MIB);
	load.depth = shape->depth;
	cost = load_best(&load, path);
	load_free(&load);
	return cost;
}

/* Cost of the same requests at random places. */
static double random_cost(const struct shape *shape, const char *path)
{
	struct load load;
	double cost;

	load_random(&load, shape->is_write, shape->nr_bytes, CHEAP_REQUESTS,
		    RANDOM_MIB * MIB);
	load.depth = shape->depth;
	cost = load_best(&load, path);
	load_free(&load);
	return cost;
}

static void bare_need(void)
{
	unsigned int i;

	if (bare_costs[0])
		return;
	for (i = 0; i < ARRAY_SIZE(shapes); i++) {
		/* Once more, so that the kernel is warm. */
		shape_cost(&shapes[i], bench_origin.path);
		bare_costs[i] = shape_cost(&shapes[i], bench_origin.path);
		row_add("instructions", bare_costs[i], "bare.%s",
			shapes[i].name);
	}
}

/* All requests in one state, as far as they are cheap in it. */
static void rows_add(const char *state, const char *path)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(shapes); i++) {
		double cost = shape_cost(&shapes[i], path);

		row_add("instructions", cost, "%s.%s.%s", bench_way->name,
			state, shapes[i].name);
		row_add("instructions added", cost - bare_costs[i],
			"%s.%s.%s.added", bench_way->name, state,
			shapes[i].name);
	}
}

static void cost_loaded(void)
{
	bare_need();
	ASSERT_OK(module_load(""));
	rows_add("loaded", bench_origin.path);
	EXPECT_EQ(module_unload(), 0);
}

static void cost_untracked(void)
{
	bare_need();
	way_start(bench_way, &bench_other, &bench_storage);
	rows_add("untracked", bench_origin.path);
}

static void cost_tracked(void)
{
	bare_need();
	way_start(bench_way, &bench_origin, &bench_storage);
	rows_add("tracked", way_origin());
}

static void cost_copied(void)
{
	struct load load;
	struct cost cost;

	bare_need();
	way_start(bench_way, &bench_origin, &bench_storage);
	way_take();
	load_stride(&load, true, 4096, CHEAP_REQUESTS, MIB);
	load_settled(&load, way_origin(), &cost);
	load_free(&load);
	load_stride(&load, true, MIB, BIG_REQUESTS, MIB);
	load_settled(&load, way_origin(), &cost);
	load_free(&load);
	rows_add("copied", way_origin());
}

/* Returns what a long read costs. */
static double image_rows_add(const char *name)
{
	static const struct shape reads[] = {
		{ "read_4k_qd1", false, 4096, 1 },
		{ "read_4k_qd32", false, 4096, 32 },
	};
	static const struct shape big = { "read_1m_qd1", false, MIB, 1 };
	unsigned int i;
	double cost;

	for (i = 0; i < ARRAY_SIZE(reads); i++)
		row_add("instructions", random_cost(&reads[i], way_image()),
			"%s.%s", name, reads[i].name);
	cost = shape_cost(&big, way_image());
	row_add("instructions", cost, "%s.%s", name, big.name);
	return cost;
}

/*
 * Of what was not copied; the bare device is read in the same places.  What a
 * long read costs depends on how scattered the pages of its buffer are, so what
 * is added to it tells more.
 */
static void cost_image(void)
{
	static double bare_big_cost;
	char name[32];
	double cost;

	if (!bare_big_cost) {
		way_start(&way_bare, &bench_origin, &bench_storage);
		bare_big_cost = image_rows_add("bare.image");
		way_stop();
	}
	snprintf(name, sizeof(name), "%s.image", bench_way->name);
	way_start(bench_way, &bench_origin, &bench_storage);
	way_take();
	cost = image_rows_add(name);
	row_add("instructions added", cost - bare_big_cost, "%s.read_1m_qd1.added",
		name);
}

static double middle(double *values, unsigned int nr)
{
	unsigned int i, j;

	for (i = 1; i < nr; i++)
		for (j = i; j && values[j] < values[j - 1]; j--) {
			double value = values[j];

			values[j] = values[j - 1];
			values[j - 1] = value;
		}
	return values[nr / 2];
}

/* Writes to blocks that nobody has written to since the take. */
void first_rows_add(const char *name, const struct load *load)
{
	double ns[FIRST_ROUNDS - 1], busy_ns[FIRST_ROUNDS - 1];
	struct cost cost;
	unsigned int i;

	for (i = 0; i < FIRST_ROUNDS; i++) {
		way_take();
		settle();
		load_settled(load, way_origin(), &cost);
		way_drop();
		if (!i)
			continue;
		ns[i - 1] = cost.ns;
		busy_ns[i - 1] = cost.busy_ns;
	}
	row_add("instructions", middle(busy_ns, FIRST_ROUNDS - 1),
		"%s.first.%s", bench_way->name, name);
	row_add("ns", middle(ns, FIRST_ROUNDS - 1), "%s.first.%s.elapsed",
		bench_way->name, name);
}

static void cost_first(void)
{
	struct load load;

	way_start(bench_way, &bench_origin, &bench_storage);
	load_stride(&load, true, 4096, FIRST_REQUESTS, MIB);
	first_rows_add("write_4k_qd1", &load);
	load.depth = 32;
	first_rows_add("write_4k_qd32", &load);
	load_free(&load);
	load_stride(&load, true, MIB, FIRST_BIG_REQUESTS, MIB);
	first_rows_add("write_1m_qd1", &load);
	load_free(&load);
}

static struct disk irq_disk;

static void irq_disk_make(void)
{
	struct null_disk_options options = bench_options;
	struct load load;
	struct cost cost;

	options.completion_ns = 10000;	/* what null_blk has by itself */
	ASSERT_OK(null_disk_create(&irq_disk, "nullb7", BENCH_MIB, &options));
	load_stride(&load, true, 4096, FIRST_REQUESTS, MIB);
	load_settled(&load, irq_disk.path, &cost);
	load_settled(&load, irq_disk.path, &cost);
	row_add("instructions", cost.busy_ns, "bare.irq.write_4k_qd1");
	load.depth = 32;
	load_settled(&load, irq_disk.path, &cost);
	row_add("instructions", cost.busy_ns, "bare.irq.write_4k_qd32");
	load_free(&load);
}

/* Reads and writes of the origin complete by interrupt. */
static void cost_first_irq(void)
{
	struct load load;

	if (!irq_disk.is_ours)
		irq_disk_make();
	way_start(bench_way, &irq_disk, &bench_storage);
	load_stride(&load, true, 4096, FIRST_REQUESTS, MIB);
	first_rows_add("irq.write_4k_qd1", &load);
	load.depth = 32;
	first_rows_add("irq.write_4k_qd32", &load);
	load_free(&load);
}

const struct ktap_test cost_tests[] = {
	KTAP_TEST(cost_loaded),
	KTAP_TEST(cost_untracked),
	KTAP_TEST(cost_tracked),
	KTAP_TEST(cost_copied),
	KTAP_TEST(cost_first),
	KTAP_TEST(cost_first_irq),
	KTAP_TEST(cost_image),
	KTAP_END
};

/* Device mapper adds nothing to devices that it is not on. */
const struct ktap_test cost_dm_tests[] = {
	KTAP_TEST(cost_tracked),
	KTAP_TEST(cost_copied),
	KTAP_TEST(cost_first),
	KTAP_TEST(cost_first_irq),
	KTAP_TEST(cost_image),
	KTAP_END
};
