// SPDX-License-Identifier: GPL-2.0
/*
 * How long requests take: most of them, and the longest ones
 *
 * All disks need 100 us for a request and keep nothing, so what is more than that is
 * waiting.  Writers, takes and copies share the one processor.
 */
#include <pthread.h>
#include <stdlib.h>

#include "test_bench.h"

#define TAIL_MIB 64U
#define TAIL_REQUESTS 4096U
#define TAIL_DEPTH 8U
#define TAKE_AFTER_MS 10U	/* of the 55 that writing takes */

static struct disk tail_origins[SNAPSHOT_DISKS_MAX], tail_storages[SNAPSHOT_DISKS_MAX];

static void tail_disks_need(unsigned int nr)
{
	const struct null_disk_options options = {
		.is_hollow = true,
		.completion_ns = 100000,
	};
	unsigned int i;
	char name[32];

	for (i = 0; i < nr; i++) {
		if (tail_origins[i].is_ours)
			continue;
		snprintf(name, sizeof(name), "nullb%u", 200 + i);
		ASSERT_OK(null_disk_create(&tail_origins[i], name, TAIL_MIB, &options));
		snprintf(name, sizeof(name), "nullb%u", 300 + i);
		ASSERT_OK(null_disk_create(&tail_storages[i], name, 2 * TAIL_MIB, &options));
	}
}

static void tail_start(unsigned int nr)
{
	tail_disks_need(nr);
	way_start_many(bench_way, tail_origins, tail_storages, nr);
}

static void tail_load(struct load *load, bool is_write)
{
	load_random(load, is_write, 4096, TAIL_REQUESTS, TAIL_MIB * MIB);
	load->depth = TAIL_DEPTH;
}

static void tail_rows_add(uint64_t *times, const char *what)
{
	static const struct {
		const char *name;
		double share;
	} ranks[] = {
		{ "p50", 0.5 }, { "p90", 0.9 }, { "p99", 0.99 }, { "p999", 0.999 },
		{ "longest", 1 },
	};
	unsigned int i, rank;

	ASSERT(times);
	for (i = 0; i < ARRAY_SIZE(ranks); i++) {
		rank = ranks[i].share * (TAIL_REQUESTS - 1);
		row_add("us", times[rank] / 1e3, "%s.tail.%s.%s", bench_way->name, what,
			ranks[i].name);
	}
	free(times);
}

/* With a snapshot held since just before. */
static void tail_writes(void)
{
	struct load load;

	tail_start(1);
	way_take();
	settle();
	tail_load(&load, true);
	tail_rows_add(load_times(&load, way_origin()), "write");
	load_free(&load);
}

/* Of an image of which a part is copied. */
static void tail_image_reads(void)
{
	struct load load;
	struct cost cost;

	tail_start(1);
	way_take();
	tail_load(&load, true);
	load_settled(&load, way_origin(), &cost);
	load_free(&load);
	tail_load(&load, false);
	tail_rows_add(load_times(&load, way_image()), "image");
	load_free(&load);
}

struct tail_writer {
	struct load load;
	uint64_t *times;
};

static void *write_beside(void *arg)
{
	struct tail_writer *writer = arg;

	writer->times = load_times(&writer->load, way_origin());
	return NULL;
}

/* Writes to one of some disks while a snapshot of all of them is taken. */
static void tail_take(void)
{
	unsigned int nr = *(const unsigned int *)ktap_data();
	static struct tail_writer writer;
	pthread_t thread;
	char what[32];

	tail_start(nr);
	tail_load(&writer.load, true);
	ASSERT_EQ(pthread_create(&thread, NULL, write_beside, &writer), 0);
	sleep_ms(TAKE_AFTER_MS);
	way_take();
	pthread_join(thread, NULL);
	load_free(&writer.load);
	snprintf(what, sizeof(what), "take_%u", nr);
	tail_rows_add(writer.times, what);
}

static const unsigned int one = 1, some = 8, many = 64;

const struct ktap_test tail_tests[] = {
	KTAP_TEST(tail_writes),
	KTAP_TEST(tail_image_reads),
	{ "tail_take_1", tail_take, false, &one },
	{ "tail_take_8", tail_take, false, &some },
	{ "tail_take_64", tail_take, false, &many },
	KTAP_END
};
