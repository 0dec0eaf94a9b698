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

const struct ktap_test scale_tests[] = {
	KTAP_TEST(scale_bare),
	KTAP_TEST(scale_blksnap),
	KTAP_TEST(scale_dm),
	KTAP_END
};
