// SPDX-License-Identifier: GPL-2.0
/*
 * Writers beside each other, by the clock
 *
 * This is for a machine with several processors, and its figures are those of the
 * machine: they say something beside each other only, and that not exactly.  What
 * grows with the number of writers, or is worse on one disk than on several, is
 * contention.
 *
 * Nothing of the emulated processors is faster by being in a cache, so this is
 * about locks, not about shared lines of caches.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "test_bench.h"

#define NR_DISKS 4U
#define WRITES 4000U
#define ROUNDS 5U	/* of which the best one counts */
#define SHARE_MIB (BENCH_MIB / NR_DISKS)

static struct disk more_disks[NR_DISKS - 2];
static const struct disk *disks[NR_DISKS];

static void disks_need(void)
{
	unsigned int i;

	disks[0] = &bench_origin;
	disks[1] = &bench_other;
	for (i = 0; i < ARRAY_SIZE(more_disks); i++) {
		char name[16];

		disks[i + 2] = &more_disks[i];
		if (more_disks[i].is_ours)
			continue;
		snprintf(name, sizeof(name), "nullb1%u", i);
		ASSERT_OK(null_disk_create(&more_disks[i], name, BENCH_MIB,
					   &bench_options));
	}
}

struct writer {
	pthread_t thread;
	struct load load;
	const char *path;
	bool ok;
};

static void *writer_work(void *arg)
{
	struct writer *writer = arg;

	writer->ok = load_run(&writer->load, writer->path);
	return NULL;
}

/* Nanoseconds from the start to the end, per write of all of them together. */
static double writers_run(struct writer *writers, unsigned int nr)
{
	uint64_t start = now_ns();
	unsigned int i;

	for (i = 0; i < nr; i++)
		ASSERT_EQ(pthread_create(&writers[i].thread, NULL, writer_work,
					 &writers[i]), 0);
	for (i = 0; i < nr; i++)
		pthread_join(writers[i].thread, NULL);
	for (i = 0; i < nr; i++)
		EXPECT(writers[i].ok);
	return (double)(now_ns() - start) / WRITES / nr;
}

/* Each writer has a share of a disk of its own, or of @path. */
static void scale_rows_add(const char *state, const char *path)
{
	struct writer writers[NR_DISKS];
	unsigned int i, nr, round;

	for (i = 0; i < NR_DISKS; i++) {
		unsigned int j;

		load_stride(&writers[i].load, true, 4096, WRITES, 64 * KIB);
		for (j = 0; j < WRITES; j++)
			writers[i].load.requests[j].at =
				i * SHARE_MIB * MIB +
				j * 64 * KIB % (SHARE_MIB * MIB);
		writers[i].path = path ? path : disks[i]->path;
	}
	for (nr = 1; nr <= NR_DISKS; nr *= 2) {
		double ns, best = 0;

		for (round = 0; round < ROUNDS; round++) {
			ns = writers_run(writers, nr);
			if (!best || ns < best)
				best = ns;
		}
		row_add("ns", best, "%s.%s.%u", state,
			path ? "one" : "several", nr);
	}
	for (i = 0; i < NR_DISKS; i++)
		load_free(&writers[i].load);
}

static void scale_bare(void)
{
	disks_need();
	scale_rows_add("bare", bench_origin.path);
	scale_rows_add("bare", NULL);
}

static void scale_blksnap(void)
{
	struct snapshot snapshot;

	disks_need();
	ASSERT_OK(module_load(""));
	ctl_set_up();
	snapshot_create_of(&snapshot, disks, NR_DISKS);
	scale_rows_add("tracked", bench_origin.path);
	scale_rows_add("tracked", NULL);
	ASSERT_OK(append_range(&snapshot, &bench_storage, 0,
			       bench_storage.nr_bytes / SECTOR_SIZE));
	snapshot_take(&snapshot);
	/* The first round copies. */
	scale_rows_add("held", bench_origin.path);
	scale_rows_add("held", NULL);
}

void scale_tear_down(void)
{
	ctl_tear_down();
	way_stop();
	if (module_is_loaded())
		module_unload();
}

static void scale_dm(void)
{
	way_start(&way_dm8, &bench_origin, &bench_storage);
	scale_rows_add("dm8-tracked", way_origin());
	way_take();
	scale_rows_add("dm8-held", way_origin());
}

/*
 * --- writes to copied blocks, while the other processor does something else ---
 *
 * That the emulated processors share what the machine has, they do in every row; so the
 * figure is how much longer a write takes than beside reads of a disk that has nothing to
 * do with it.
 */

#define BESIDE_WRITES 1000U
#define BESIDE_STRIDE (32 * KIB)
#define BESIDE_FIRSTS 3000U	/* per round; they take longer than the writes */
#define BESIDE_FROM (256 * MIB)	/* of what the other processor writes */

/**
 * struct beside - what the other processor does
 * @first:	of the requests of @load, what comes next
 * @nr:		of them to do at a time
 * @repeats:	they may be done again
 */
struct beside {
	const char *name;
	const char *path;
	struct load load;
	unsigned int first;
	unsigned int nr;
	bool repeats;
	pthread_t thread;
	atomic_bool begun, ends, ok;
};

static void processor_choose(unsigned int processor)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(processor, &set);
	EXPECT_OK(sched_setaffinity(0, sizeof(set), &set));
}

static void *beside_work(void *arg)
{
	struct beside *beside = arg;
	struct load part;
	bool ok = true;

	processor_choose(1);
	load_part(&part, &beside->load, beside->first, beside->nr,
		  beside->load.requests[0].is_write);
	beside->begun = true;
	do {
		ok = load_run(&part, beside->path) && ok;
	} while (beside->repeats && !beside->ends);
	/* Else the writes had nothing beside them at their end. */
	beside->ok = ok && beside->ends;
	load_free(&part);
	return NULL;
}

/* Nanoseconds per write. */
static double write_beside(struct beside *beside, const struct load *writes)
{
	uint64_t start;
	double ns;

	beside->begun = false;
	beside->ends = false;
	beside->ok = false;
	ASSERT_EQ(pthread_create(&beside->thread, NULL, beside_work, beside), 0);
	while (!beside->begun)
		sched_yield();
	start = now_ns();
	EXPECT(load_run(writes, way_origin()));
	ns = (double)(now_ns() - start) / writes->nr;
	beside->ends = true;
	pthread_join(beside->thread, NULL);
	EXPECT(beside->ok);
	if (!beside->repeats)
		beside->first += beside->nr;
	return ns;
}

static void besides_make(struct beside besides[3])
{
	struct load *first = &besides[2].load;
	unsigned int i;

	besides[0] = (struct beside){ .name = "nothing", .path = bench_other.path };
	besides[1] = (struct beside){ .name = "image", .path = way_image() };
	besides[2] = (struct beside){ .name = "first", .path = way_origin() };
	for (i = 0; i < 2; i++) {
		load_stride(&besides[i].load, false, 4096, BESIDE_WRITES, BESIDE_STRIDE);
		besides[i].nr = BESIDE_WRITES;
		besides[i].repeats = true;
	}
	load_stride(first, true, 4096, ROUNDS * BESIDE_FIRSTS, BESIDE_STRIDE);
	for (i = 0; i < first->nr; i++)
		first->requests[i].at += BESIDE_FROM;
	besides[2].nr = BESIDE_FIRSTS;
}

static void beside_rows_add(const struct way *way)
{
	struct beside besides[3];
	double best[ARRAY_SIZE(besides)] = { 0 }, ns;
	unsigned int i, round;
	struct load writes;

	way_start(way, &bench_origin, &bench_storage);
	way_take();
	processor_choose(0);
	besides_make(besides);
	load_stride(&writes, true, 4096, BESIDE_WRITES, BESIDE_STRIDE);
	EXPECT(load_run(&writes, way_origin()));
	settle();
	for (round = 0; round < ROUNDS; round++) {
		for (i = 0; i < ARRAY_SIZE(besides); i++) {
			ns = write_beside(&besides[i], &writes);
			if (!best[i] || ns < best[i])
				best[i] = ns;
		}
	}
	for (i = 0; i < ARRAY_SIZE(besides); i++) {
		row_add("percent", best[i] / best[0] * 100, "beside.%s.%s", way->name,
			besides[i].name);
		load_free(&besides[i].load);
	}
	load_free(&writes);
}

static void scale_beside(void)
{
	beside_rows_add(ktap_data());
}

const struct ktap_test scale_tests[] = {
	KTAP_TEST(scale_bare),
	KTAP_TEST(scale_blksnap),
	KTAP_TEST(scale_dm),
	{ "scale_beside_bare", scale_beside, false, &way_bare },
	{ "scale_beside_blksnap", scale_beside, false, &way_blksnap },
	{ "scale_beside_dm8", scale_beside, false, &way_dm8 },
	{ "scale_beside_dm128", scale_beside, false, &way_dm128 },
	KTAP_END
};
