// SPDX-License-Identifier: GPL-2.0
/*
 * What users meet: disks with blocks of 512 bytes, marks that are not set yet, storage
 * that takes its time, many devices
 */
#include <string.h>

#include "test_bench.h"

#define MARK_ROUNDS 15U		/* tracking blocks of 64 KiB in a MiB, but for one */
#define MARK_REQUESTS 100U
#define FIRST_REQUESTS 1024U
#define CHEAP_REQUESTS 100U
#define TORN_MIB 16U
#define BIG_REQUESTS 3U
#define WHOLE_MIB 32U
#define WHOLE_STEP 3001U	/* prime */
#define SLOW_MIB 256U		/* four times what copies may take in memory */
#define MIX_REQUESTS 4096U
#define MIX_MIB 64U
#define NR_DEVICES 64U

/* Blocks of 512 bytes. */
static const struct null_disk_options plain;

static struct disk user_disk, whole_disk, user_storage;

static void disk_need(struct disk *disk, const char *name, unsigned int nr_mib,
		      const struct null_disk_options *options)
{
	struct load load;
	struct cost cost;

	if (disk->is_ours)
		return;
	ASSERT_OK(null_disk_create(disk, name, nr_mib, options));
	/* It allocates what is written. */
	load_stride(&load, true, MIB, nr_mib < 64 ? nr_mib : 64, MIB);
	load_settled(&load, disk->path, &cost);
	load_free(&load);
	load_stride(&load, true, 4096, nr_mib * 16, 64 * KIB);
	load_settled(&load, disk->path, &cost);
	load_free(&load);
}

static void user_disks_need(void)
{
	disk_need(&user_disk, "nullb8", BENCH_MIB, &plain);
	disk_need(&user_storage, "nullb12", BENCH_MIB, &plain);
}

static void user_row_add(const char *unit, double value, const char *what)
{
	row_add(unit, value, "%s.user.%s", bench_way->name, what);
}

/* A request, and what it costs beyond one to the bare device. */
static void user_rows_add(const char *what, double cost, double bare_cost)
{
	user_row_add("instructions", cost, what);
	row_add("instructions added", cost - bare_cost, "%s.user.%s.added",
		bench_way->name, what);
}

static double best_write(const char *path)
{
	struct load load;
	double cost;

	load_stride(&load, true, 4096, CHEAP_REQUESTS, MIB);
	cost = load_best(&load, path);
	load_free(&load);
	return cost;
}

/* Writes to tracking blocks that nobody has written to since the take. */
static double best_unmarked_write(const char *path)
{
	struct load load;
	struct cost cost;
	double best = 0;
	unsigned int i, j;

	/* So that no page of the map is missing. */
	best_write(path);
	for (i = 1; i <= MARK_ROUNDS; i++) {
		load_stride(&load, true, 4096, MARK_REQUESTS, MIB);
		for (j = 0; j < MARK_REQUESTS; j++)
			load.requests[j].at += i * 64 * KIB;
		load_settled(&load, path, &cost);
		load_free(&load);
		if (i == 1 || cost.ns < best)
			best = cost.ns;
	}
	return best;
}

/* Of the bare device, 0 as long as they are not known. */
static double bare_unmarked_cost, bare_cost;

static void bare_user_need(void)
{
	user_disks_need();
	if (bare_cost)
		return;
	/* Once more, so that the kernel is warm. */
	best_write(user_disk.path);
	bare_unmarked_cost = best_unmarked_write(user_disk.path);
	bare_cost = best_write(user_disk.path);
}

static void cost_user_tracked(void)
{
	bare_user_need();
	way_start(bench_way, &user_disk, &user_storage);
	way_take();
	way_drop();
	user_rows_add("unmarked.write_4k_qd1", best_unmarked_write(way_origin()),
		      bare_unmarked_cost);
	user_rows_add("tracked.write_4k_qd1", best_write(way_origin()), bare_cost);
}

static void cost_user_first(void)
{
	struct load load;

	user_disks_need();
	way_start(bench_way, &user_disk, &user_storage);
	load_stride(&load, true, 4096, FIRST_REQUESTS, MIB);
	first_rows_add("user.write_4k_qd1", &load);
	load.depth = 32;
	first_rows_add("user.write_4k_qd32", &load);
	load_free(&load);
}

static void cost_user_copied(void)
{
	struct load load;
	struct cost cost;

	bare_user_need();
	way_start(bench_way, &user_disk, &user_storage);
	way_take();
	load_stride(&load, true, 4096, CHEAP_REQUESTS, MIB);
	load_settled(&load, way_origin(), &cost);
	load_free(&load);
	user_rows_add("copied.write_4k_qd1", best_write(way_origin()), bare_cost);
}

/* An image of which every other block is copied and stored. */
static void cost_user_torn_image(void)
{
	struct load load;
	struct cost cost;

	user_disks_need();
	way_start(bench_way, &user_disk, &user_storage);
	way_take();
	load_stride(&load, true, 4096, TORN_MIB * MIB / 8192, 8192);
	load_settled(&load, way_origin(), &cost);
	load_free(&load);
	load_stride(&load, false, MIB, BIG_REQUESTS, MIB);
	user_row_add("instructions", load_best(&load, way_image()), "image.torn_1m_qd1");
	load_free(&load);
}

static void overwrite(struct load *load, const char *what)
{
	struct cost cost;

	load->depth = 32;
	way_take();
	settle();
	load_settled(load, way_origin(), &cost);
	load_free(load);
	way_drop();
	user_row_add("instructions", cost.busy_ns, what);
}

static void cost_user_overwrite(void)
{
	const unsigned int nr = WHOLE_MIB * MIB / 4096;
	struct load load;

	user_disks_need();
	disk_need(&whole_disk, "nullb9", WHOLE_MIB, &plain);
	way_start(bench_way, &whole_disk, &user_storage);
	load_stride(&load, true, 4096, nr, 4096);
	overwrite(&load, "overwrite_4k");
	load_shuffle(&load, true, 4096, nr, WHOLE_STEP);
	overwrite(&load, "overwrite_4k_random");
}

/* The disks need time and keep nothing; more is written than fits into memory. */
static struct disk quick_disk, slow_storage;

static void slow_disks_need(void)
{
	struct null_disk_options options = { .is_hollow = true, .completion_ns = 100000 };

	if (quick_disk.is_ours)
		return;
	ASSERT_OK(null_disk_create(&quick_disk, "nullb10", SLOW_MIB, &options));
	options.completion_ns = 2000000;
	ASSERT_OK(null_disk_create(&slow_storage, "nullb11", 2 * SLOW_MIB, &options));
}

static void overwrite_slowly(struct load *load, const char *what)
{
	struct cost cost;

	load->depth = 32;
	way_take();
	settle();
	load_settled(load, way_origin(), &cost);
	user_row_add("us per MiB", cost.ns * load->nr / SLOW_MIB / 1000, what);
	load_free(load);
	way_drop();
}

static void user_slow_storage(void)
{
	struct load load;

	slow_disks_need();
	way_start(bench_way, &quick_disk, &slow_storage);
	load_stride(&load, true, 64 * KIB, SLOW_MIB * 16, 64 * KIB);
	overwrite_slowly(&load, "slow_storage.64k");
	load_stride(&load, true, MIB, SLOW_MIB, MIB);
	overwrite_slowly(&load, "slow_storage.1m");
	load_shuffle(&load, true, 64 * KIB, SLOW_MIB * 16, WHOLE_STEP);
	overwrite_slowly(&load, "slow_storage.64k_random");
}

/* 70 % reads, 30 % writes to a disk that needs 100 us for each. */
static void user_mix_latency(void)
{
	struct load load;
	unsigned int depth;
	char what[40];

	user_disks_need();
	slow_disks_need();
	load_mix(&load, MIX_REQUESTS, MIX_MIB * MIB);
	way_start(bench_way, &quick_disk, &user_storage);
	for (depth = 8; depth <= 32; depth *= 4) {
		load.depth = depth;
		way_take();
		settle();
		snprintf(what, sizeof(what), "mix.write_p99_qd%u", depth);
		user_row_add("us", load_write_p99(&load, way_origin()) / 1000, what);
		way_drop();
	}
	load_free(&load);
}

/* Devices that were never tracked, in one snapshot. */
static void user_many(void)
{
	static struct disk disks[NR_DEVICES];
	const struct null_disk_options options = { .is_hollow = true };
	struct blk_snap_dev ids[NR_DEVICES];
	struct snapshot snapshot = { 0 };
	uint64_t start;
	unsigned int i;
	char name[32];

	for (i = 0; i < NR_DEVICES; i++) {
		snprintf(name, sizeof(name), "nullb%u", 100 + i);
		ASSERT_OK(null_disk_create(&disks[i], name, 64, &options));
		ids[i] = disks[i].id;
	}
	user_disks_need();
	way_start(bench_way, &bench_other, &bench_storage);
	start = now_ns();
	ASSERT_OK(control_snapshot_create(ctl, ids, NR_DEVICES, &snapshot.id));
	user_row_add("ms", (now_ns() - start) / 1e6, "many.create");
	ASSERT_OK(append_range(&snapshot, &user_storage, 0, 64 * MIB / SECTOR_SIZE));
	/* The first take of a device waits for what was under way before. */
	ASSERT_OK(control_snapshot_take(ctl, &snapshot.id));
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	ASSERT_OK(control_snapshot_create(ctl, ids, NR_DEVICES, &snapshot.id));
	ASSERT_OK(append_range(&snapshot, &user_storage, 0, 64 * MIB / SECTOR_SIZE));
	start = now_ns();
	ASSERT_OK(control_snapshot_take(ctl, &snapshot.id));
	user_row_add("ms", (now_ns() - start) / 1e6, "many.take");
	start = now_ns();
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	user_row_add("ms", (now_ns() - start) / 1e6, "many.destroy");
	way_stop();
	for (i = 0; i < NR_DEVICES; i++)
		null_disk_destroy(&disks[i]);
}

const struct ktap_test user_tests[] = {
	KTAP_TEST(cost_user_tracked),
	KTAP_TEST(cost_user_first),
	KTAP_TEST(cost_user_copied),
	KTAP_TEST(cost_user_torn_image),
	KTAP_TEST(cost_user_overwrite),
	KTAP_TEST(user_slow_storage),
	KTAP_TEST(user_mix_latency),
	KTAP_END
};

const struct ktap_test many_tests[] = {
	KTAP_TEST(user_many),
	KTAP_END
};
