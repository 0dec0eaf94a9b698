// SPDX-License-Identifier: GPL-2.0
/*
 * What a snapshot reads, stores and keeps in memory, and large devices
 */
#include <unistd.h>

#include "test_bench.h"

#define FIRST_REQUESTS 1024U
#define SCATTERED_BLOCKS 32768U
#define SCATTERED_STRIDE (32 * KIB)	/* none has a neighbour */
#define LARGE_MIB (1024 * 1024U)
#define LARGE_BLOCKS 4096U

/* How much is moved for a write of 4 KiB. */
static void space_moved(void)
{
	const struct way *way = ktap_data();
	struct disk_stat origin[2], storage[2];
	struct load load;
	struct cost cost;

	way_start(way, &bench_origin, &bench_storage);
	way_take();
	load_stride(&load, true, 4096, FIRST_REQUESTS, MIB);
	disk_read_stat(&bench_origin, &origin[0]);
	disk_read_stat(&bench_storage, &storage[0]);
	load_settled(&load, way_origin(), &cost);
	disk_read_stat(&bench_origin, &origin[1]);
	disk_read_stat(&bench_storage, &storage[1]);
	load_free(&load);
	row_add("bytes", (double)(origin[1].read_sectors -
				  origin[0].read_sectors) * SECTOR_SIZE /
			 FIRST_REQUESTS, "%s.first.read_bytes", way->name);
	row_add("bytes", (double)(storage[1].written_sectors -
				  storage[0].written_sectors) * SECTOR_SIZE /
			 FIRST_REQUESTS, "%s.first.stored_bytes", way->name);
}

/* Free memory, with the pages that processors keep at hand. */
double free_bytes(void)
{
	unsigned long long nr, nr_pages = 0;
	char line[200];
	FILE *file;

	/* Counters of processors are added to those of zones. */
	ASSERT(write_text("/proc/sys/vm/stat_refresh", "1"));
	file = fopen("/proc/zoneinfo", "re");
	ASSERT(file);
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, " pages free %llu", &nr) == 1 ||
		    sscanf(line, " count: %llu", &nr) == 1)
			nr_pages += nr;
	fclose(file);
	ASSERT(nr_pages > 0);
	return (double)nr_pages * sysconf(_SC_PAGESIZE);
}

/*
 * Have the disks allocate what they will hold.  Storage is used from its
 * beginning; dm-snapshot keeps one chunk for itself.
 */
static void space_fill(const struct load *scattered)
{
	const unsigned int nr_mib = SCATTERED_BLOCKS * 4096 / MIB + 1;
	struct load load;
	struct cost cost;

	load_settled(scattered, bench_origin.path, &cost);
	load_stride(&load, true, MIB, nr_mib, MIB);
	load_settled(&load, bench_storage.path, &cost);
	load_free(&load);
}

/* What memory holds for each block that was copied, far from all others. */
static void space_memory(void)
{
	const struct way *way = ktap_data();
	double before, after;
	struct load load;
	struct cost cost;

	load_stride(&load, true, 4096, SCATTERED_BLOCKS, SCATTERED_STRIDE);
	load.depth = 32;
	space_fill(&load);
	way_start(way, &bench_origin, &bench_storage);
	way_take();
	settle();
	before = free_bytes();
	load_settled(&load, way_origin(), &cost);
	/* Pages that are kept at hand for the next copies go back, too. */
	sleep_ms(KEPT_MS);
	after = free_bytes();
	load_free(&load);
	row_add("bytes", (before - after) / SCATTERED_BLOCKS,
		"%s.memory_per_block", way->name);
}

static struct disk large_disk;

void space_tear_down(void)
{
	way_stop();
	null_disk_destroy(&large_disk);
}

static void large_disk_make(void)
{
	ASSERT_OK(null_disk_create(&large_disk, "nullb5", LARGE_MIB,
				   &bench_options));
}

static void large_write(const char *path)
{
	struct load load;
	struct cost cost;

	load_stride(&load, true, 4096, LARGE_BLOCKS,
		    LARGE_MIB * MIB / LARGE_BLOCKS);
	load.depth = 32;
	load_settled(&load, path, &cost);
	load_free(&load);
}

/* Add a row with the time since then. */
static void large_row_add(const char *what, const struct way *way,
			  uint64_t start)
{
	row_add("ms", (now_ns() - start) / 1e6, "%s.large.%s", way->name, what);
}

static void large_append(const struct snapshot *snapshot)
{
	ASSERT_OK(append_range(snapshot, &bench_storage, 0,
			       BENCH_MIB * MIB / SECTOR_SIZE));
}

/*
 * Another device is tracked already: the first use of all takes longer.  A take right
 * after the creating waits for writes from before the device was tracked; that is a row
 * of its own, for later ones do not.
 */
static void large_blksnap(void)
{
	struct snapshot snapshot;
	uint64_t start;

	large_disk_make();
	way_start(&way_blksnap, &bench_origin, &bench_storage);
	start = now_ns();
	snapshot_create(&snapshot, &large_disk);
	large_row_add("create", &way_blksnap, start);
	large_append(&snapshot);
	ASSERT_OK(control_snapshot_take(ctl, &snapshot.id));
	large_row_add("first", &way_blksnap, start);
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	snapshot_create(&snapshot, &large_disk);
	large_append(&snapshot);
	start = now_ns();
	ASSERT_OK(control_snapshot_take(ctl, &snapshot.id));
	large_row_add("take", &way_blksnap, start);
	large_write(large_disk.path);
	start = now_ns();
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	large_row_add("destroy", &way_blksnap, start);
}

/* Creating is here to put the target on the origin. */
static void large_dm(void)
{
	const struct way *way = ktap_data();
	uint64_t start;

	large_disk_make();
	way_start(way, &bench_origin, &bench_storage);
	way_stop();
	start = now_ns();
	way_start(way, &large_disk, &bench_storage);
	large_row_add("create", way, start);
	start = now_ns();
	way_take();
	large_row_add("take", way, start);
	large_write(way_origin());
	start = now_ns();
	way_drop();
	large_row_add("destroy", way, start);
}

const struct ktap_test space_tests[] = {
	{ "blksnap_moved", space_moved, false, &way_blksnap },
	{ "dm8_moved", space_moved, false, &way_dm8 },
	{ "dm128_moved", space_moved, false, &way_dm128 },
	{ "dm512_moved", space_moved, false, &way_dm512 },
	/* A name that the step of costs asks for. */
	{ "blksnap.cost_memory", space_memory, false, &way_blksnap },
	{ "dm8_memory", space_memory, false, &way_dm8 },
	{ "blksnap_large", large_blksnap, false, NULL },
	{ "dm8_large", large_dm, false, &way_dm8 },
	{ "dm128_large", large_dm, false, &way_dm128 },
	KTAP_END
};
