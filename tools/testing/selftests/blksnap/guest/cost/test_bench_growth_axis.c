// SPDX-License-Identifier: GPL-2.0
/*
 * The axes along which cost may grow
 *
 * For each point the module is loaded anew.  The disks keep nothing of what is
 * written: so they can be of any size, and cost the same at each place.  Requests
 * are spread over all of the origin, where nothing else is said.
 */
#include <stdlib.h>
#include <string.h>

#include "test_bench_growth.h"

#define STORAGE_MIB (8 * 1024 * 1024U)
#define RANGE_MIB 8192U		/* if the storage of a snapshot is one range */
#define SHORT_RANGE_MIB 16U	/* if there are several */
#define ORIGIN_MIB 1024U
#define OWN_GIB 1024U		/* half of it is for storage */
#define COPIED_MIB 256U
#define COPIED_BLOCKS (COPIED_MIB * MIB / GROWTH_BLOCK_BYTES)
#define DISKS_MAX 256U
#define SAMPLE_DISKS 8U
#define HELD_MAX 32U
#define RANGES_MAX 100000U

static const struct null_disk_options hollow = {
	.block_bytes = GROWTH_BLOCK_BYTES,
	.is_hollow = true,
};

static struct disk storage, sized_disk, disks[DISKS_MAX + SAMPLE_DISKS];

static void storage_need(void)
{
	if (!storage.is_ours)
		ASSERT_OK(null_disk_create(&storage, "nullb300", STORAGE_MIB,
					   &hollow));
}

/* Have the first @nr disks, of one size. */
static void disks_need(unsigned int nr)
{
	char name[16];
	unsigned int i;

	for (i = 0; i < nr; i++) {
		if (disks[i].is_ours)
			continue;
		snprintf(name, sizeof(name), "nullb4%03u", i);
		ASSERT_OK(null_disk_create(&disks[i], name, ORIGIN_MIB,
					   &hollow));
	}
}

static void growth_start(void)
{
	storage_need();
	if (module_is_loaded())
		ASSERT_EQ(module_unload(), 0);
	ASSERT_OK(module_load("settle_watch=1"));
	ctl_set_up();
}

void growth_tear_down(void)
{
	ctl_tear_down();
	if (module_is_loaded())
		module_unload();
	null_disk_destroy(&sized_disk);
}

/*
 * Storage of the snapshot with this number.  There is as much between ranges as
 * is in one, so none is next to another.
 */
static struct blk_snap_block_range *ranges_make(unsigned int number,
						unsigned int nr)
{
	const uint64_t length = (nr > 1 ? SHORT_RANGE_MIB : RANGE_MIB) * MIB /
				SECTOR_SIZE;
	const uint64_t start = 2ULL * number * RANGE_MIB * MIB / SECTOR_SIZE;
	struct blk_snap_block_range *ranges = calloc(nr, sizeof(*ranges));
	unsigned int i;

	ASSERT(ranges);
	for (i = 0; i < nr; i++)
		ranges[i] = (struct blk_snap_block_range){
			.sector_offset = start + 2 * i * length,
			.sector_count = length,
		};
	return ranges;
}

static void point_make(struct growth_point *point, const char *axis,
		       unsigned long value, const struct disk *disk,
		       unsigned int nr_ranges)
{
	memset(point, 0, sizeof(*point));
	point->axis = axis;
	point->value = value;
	point->disk = disk;
	point->storage = &storage;
	point->nr_ranges = nr_ranges;
	point->ranges = ranges_make(0, nr_ranges);
	load_stride(&point->writes, true, GROWTH_BLOCK_BYTES, GROWTH_WRITES,
		    disk->nr_bytes / GROWTH_WRITES);
}

static void point_begin(struct growth_point *point, const char *axis,
			unsigned long value, const struct disk *disk,
			unsigned int nr_ranges)
{
	point_make(point, axis, value, disk, nr_ranges);
	growth_begin(point);
}

static void point_end(struct growth_point *point)
{
	load_free(&point->writes);
	load_free(&point->copied);
	free(point->ranges);
	ctl_tear_down();
	EXPECT_EQ(module_unload(), 0);
}

static void size_measure(unsigned int nr_gib)
{
	struct growth_point point;

	ASSERT_OK(null_disk_create(&sized_disk, "nullb4998", nr_gib * 1024ULL,
				   &hollow));
	growth_start();
	point_begin(&point, "size", nr_gib, &sized_disk, 1);
	growth_measure(&point);
	point_end(&point);
	null_disk_destroy(&sized_disk);
}

/* Size of the device, in GiB. */
static void growth_size(void)
{
	static const unsigned int sizes[] = {
		1, 16, 128, 1024, 2048, 4096, 16384, 65536,
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++)
		size_measure(sizes[i]);
}

/* Storage on the origin itself, in GiB: it is left out of the image. */
static void growth_own(void)
{
	struct growth_point point;
	unsigned int nr_gib;

	ASSERT_OK(null_disk_create(&sized_disk, "nullb4997", OWN_GIB * 1024ULL,
				   &hollow));
	for (nr_gib = 1; nr_gib <= OWN_GIB / 4; nr_gib *= 4) {
		growth_start();
		point_make(&point, "own", nr_gib, &sized_disk, 1);
		point.storage = &sized_disk;
		point.ranges[0] = (struct blk_snap_block_range){
			.sector_offset = OWN_GIB / 2 * GIB / SECTOR_SIZE,
			.sector_count = nr_gib * GIB / SECTOR_SIZE,
		};
		load_free(&point.writes);
		load_stride(&point.writes, true, GROWTH_BLOCK_BYTES,
			    GROWTH_WRITES, OWN_GIB / 2 * GIB / GROWTH_WRITES);
		growth_begin(&point);
		growth_measure(&point);
		point_end(&point);
	}
}

/* Ranges of storage. */
static void growth_ranges(void)
{
	struct growth_point point;
	unsigned int nr;

	disks_need(1);
	for (nr = 1; nr <= RANGES_MAX; nr *= 10) {
		growth_start();
		point_begin(&point, "ranges", nr, &disks[0], nr);
		growth_measure(&point);
		point_end(&point);
	}
}

/* Create a snapshot of some disks. */
static void disks_create(struct blk_snap_uuid *id, unsigned int first,
			 unsigned int nr)
{
	struct blk_snap_dev ids[DISKS_MAX];
	unsigned int i;

	for (i = 0; i < nr; i++)
		ids[i] = disks[first + i].id;
	ASSERT_OK(control_snapshot_create(ctl, ids, nr, id));
}

/* What is added to writes to some of the disks, at an average and at most. */
static void sample_rows(const struct growth_point *point, unsigned int first,
			unsigned int nr, const char *figure)
{
	const unsigned int nr_samples = nr < SAMPLE_DISKS ? nr : SAMPLE_DISKS;
	double added, most = 0, sum = 0;
	char name[32];
	unsigned int i;

	for (i = 0; i < nr_samples; i++) {
		const struct disk *disk = &disks[first + i * nr / nr_samples];

		added = growth_cheap_cost(&point->writes, true, disk->path) -
			point->bare_ns;
		sum += added;
		most = added > most ? added : most;
	}
	growth_row(point, "instructions added", sum / nr_samples, figure);
	snprintf(name, sizeof(name), "%s_most", figure);
	growth_row(point, "instructions added", most, name);
}

static void time_row(const struct growth_point *point, const struct meter *meter,
		     const char *figure)
{
	growth_row(point, "us", (now_ns() - meter->start_ns) / 1e3, figure);
}

/* One snapshot of all disks that are tracked. */
static void all_rows(const struct growth_point *point)
{
	struct blk_snap_uuid id;
	struct meter meter;

	meter_start(&meter);
	disks_create(&id, 0, point->value);
	time_row(point, &meter, "all_again");
	growth_append(&id, point->storage, point->ranges, point->nr_ranges);
	meter_start(&meter);
	ASSERT_OK(control_snapshot_take(ctl, &id));
	time_row(point, &meter, "all_take");
	settle();
	meter_start(&meter);
	ASSERT_OK(control_snapshot_destroy(ctl, &id));
	time_row(point, &meter, "all_destroy");
}

/* Devices that are tracked.  One of them is measured, then all together. */
static void growth_devices(void)
{
	struct growth_point point;
	struct blk_snap_uuid id;
	unsigned int nr;

	disks_need(DISKS_MAX + SAMPLE_DISKS);
	for (nr = 1; nr <= DISKS_MAX; nr *= 4) {
		growth_start();
		point_begin(&point, "devices", nr, &disks[0], 1);
		if (nr > 1) {
			/* Given up, it leaves them tracked. */
			disks_create(&id, 1, nr - 1);
			sleep_ms(WATCH_MS);
			ASSERT_OK(control_snapshot_destroy(ctl, &id));
		}
		growth_measure(&point);
		sample_rows(&point, 0, nr, "tracked_some");
		sample_rows(&point, DISKS_MAX, SAMPLE_DISKS, "untracked_some");
		all_rows(&point);
		point_end(&point);
	}
}

/* Hold a snapshot of one disk. */
static void disk_hold(unsigned int number)
{
	struct blk_snap_block_range *ranges = ranges_make(number, 1);
	struct snapshot snapshot;

	snapshot_create(&snapshot, &disks[number]);
	growth_append(&snapshot.id, &storage, ranges, 1);
	free(ranges);
	ASSERT_OK(control_snapshot_take(ctl, &snapshot.id));
}

/* Snapshots that are held, each of a disk of its own. */
static void growth_held(void)
{
	struct growth_point point;
	unsigned int nr, i;

	disks_need(HELD_MAX);
	for (nr = 1; nr <= HELD_MAX; nr *= 2) {
		growth_start();
		point_begin(&point, "held", nr, &disks[0], 1);
		for (i = 1; i < nr; i++)
			disk_hold(i);
		growth_measure(&point);
		point_end(&point);
	}
}

/*
 * Percent of the blocks that are copied.  They are copied in such an order that
 * what is stored one after the other is never next to each other on the disk.
 */
static void growth_fraction(void)
{
	static const unsigned int percents[] = { 0, 1, 10, 25, 50, 75, 100 };
	struct growth_point point;
	struct load all;
	unsigned int i;

	load_shuffle(&all, true, GROWTH_BLOCK_BYTES, COPIED_BLOCKS, 7919);
	ASSERT_OK(null_disk_create(&sized_disk, "nullb4999", COPIED_MIB,
				   &hollow));
	for (i = 0; i < ARRAY_SIZE(percents); i++) {
		const unsigned int nr = COPIED_BLOCKS / 100.0 * percents[i];

		growth_start();
		point_make(&point, "fraction", percents[i], &sized_disk, 1);
		point.is_all_copied = nr == COPIED_BLOCKS;
		load_free(&point.writes);
		load_part(&point.writes, &all, point.is_all_copied ? 0 : nr,
			  GROWTH_WRITES, true);
		load_part(&point.copied, &all, 0, nr, true);
		point.copied.depth = LOAD_DEPTH_MAX;
		growth_begin(&point);
		growth_measure(&point);
		point_end(&point);
	}
	load_free(&all);
}

const struct ktap_test growth_tests[] = {
	KTAP_TEST(growth_size),
	KTAP_TEST(growth_ranges),
	KTAP_TEST(growth_own),
	KTAP_TEST(growth_devices),
	KTAP_TEST(growth_held),
	KTAP_TEST(growth_fraction),
	KTAP_END
};
