// SPDX-License-Identifier: GPL-2.0
/*
 * Many faults at once: what is in reserve is used up, and writes still work
 *
 * The reserves of the module last for some blocks and some writes in flight.  A
 * write that finds them empty waits until something is given back, or until
 * there is memory again; it does not fail, and the image is right all the same.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "test_sweep.h"

#define FIRST 32U
#define NR_WRITES 32U

/* One block each: larger ones allocate before they come to the module. */
static void storm_round(void)
{
	unsigned int i;
	int ret = 0;

	held_begin();
	fault_mark_self(true);
	sweep_arm();
	for (i = FIRST; i < FIRST + NR_WRITES && !ret; i++) {
		stamp_next(i, 1);
		ret = origin_write(i, 1, 0);
		origin_wrote(i, 1, ret);
	}
	fault_mark_self(false);
	held_settle();
	sweep_disarm();
	EXPECT_OK(ret);
	held_verify();
	held_note_result(ret);
	held_end();
}

static void test_hold_without_memory(void)
{
	fault_mark_kernel_threads(true);
	sweep_run_storm("hold and store, the first N fail", FAULT_SLAB, storm_round);
	sweep_run_storm("hold and store, the first N fail", FAULT_PAGE, storm_round);
}

/* More than the module has contexts in reserve (INFLIGHT_CTX_RESERVE). */
#define NR_WRITERS 200
#define STACK_BYTES (64 * KIB)

struct writer {
	pthread_t thread;
	pthread_barrier_t *start;
	const char *path;
	unsigned int index;
	int ret;
};

static void *write_one_block(void *data)
{
	struct writer *writer = data;
	uint8_t *block = alloc_aligned(BLOCK_BYTES);
	int fd = open(writer->path, O_WRONLY | O_DIRECT | O_CLOEXEC);

	memset(block, 1 + writer->index % 255, BLOCK_BYTES);
	pthread_barrier_wait(writer->start);
	/* Here the faults are armed. */
	pthread_barrier_wait(writer->start);
	writer->ret = pwrite(fd, block, BLOCK_BYTES, (off_t)writer->index * BLOCK_BYTES) ==
		      BLOCK_BYTES ? 0 : -errno;
	close(fd);
	free(block);
	return NULL;
}

static void start_writers(struct writer *writers, const char *path,
			  pthread_barrier_t *start)
{
	pthread_attr_t attr;
	unsigned int i;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	for (i = 0; i < NR_WRITERS; i++) {
		writers[i].start = start;
		writers[i].path = path;
		writers[i].index = i;
		if (pthread_create(&writers[i].thread, &attr, write_one_block,
				   &writers[i])) {
			ktap_note("no thread for a writer");
			exit(KTAP_FAIL);
		}
	}
	pthread_attr_destroy(&attr);
}

static void verify_writes(const struct disk *slow, struct writer *writers)
{
	unsigned int i;

	EXPECT(read_direct(slow->path, world.other, NR_WRITERS * BLOCK_BYTES, 0));
	for (i = 0; i < NR_WRITERS; i++) {
		EXPECT_OK(writers[i].ret);
		EXPECT(is_filled_with(world.other + i * BLOCK_BYTES, 1 + i % 255,
				      BLOCK_BYTES));
	}
}

/* More than there are exits (INFLIGHT_EXITS): each disk that is written takes one. */
#define NR_OTHERS 260
static struct disk others[NR_OTHERS];

static void use_up_exits(struct blk_snap_uuid *id)
{
	const struct null_disk_options hollow = { .is_hollow = true, .queue_depth = 1 };
	struct blk_snap_dev ids[NR_OTHERS];
	char name[32];
	unsigned int i;

	for (i = 0; i < NR_OTHERS; i++) {
		snprintf(name, sizeof(name), "nullx%u", i);
		ASSERT_OK(null_disk_create(&others[i], name, 1, &hollow));
		ids[i] = others[i].id;
	}
	ASSERT_OK(control_snapshot_create(ctl, ids, NR_OTHERS, id));
	for (i = 0; i < NR_OTHERS; i++)
		EXPECT(fill_direct(others[i].path, 0, BLOCK_BYTES, 0));
}

/*
 * Writes to a tracked disk are counted while they are in flight.  Once more disks have
 * been written than there are exits, each write needs a little memory for that.
 */
static void test_many_writes_in_flight_without_memory(void)
{
	const struct null_disk_options options = {
		.completion_ns = 300 * 1000 * 1000,
		.queue_depth = 2 * NR_WRITERS,
	};
	static struct writer writers[NR_WRITERS];
	struct blk_snap_uuid others_id;
	pthread_barrier_t start;
	struct disk slow;
	unsigned int i;

	use_up_exits(&others_id);
	ASSERT_OK(null_disk_create(&slow, "nullb8", 1, &options));
	EXPECT(fill_direct(slow.path, 0, slow.nr_bytes, 0));
	snapshot_create(&held.snapshot, &slow);
	pthread_barrier_init(&start, NULL, NR_WRITERS + 1);
	start_writers(writers, slow.path, &start);
	pthread_barrier_wait(&start);
	fault_mark_kernel_threads(true);
	fault_arm_all(FAULT_SLAB, 1000000);
	pthread_barrier_wait(&start);
	for (i = 0; i < NR_WRITERS; i++)
		pthread_join(writers[i].thread, NULL);
	/* What a processor has at hand is not allocated. */
	EXPECT(fault_disarm() > 0);
	fault_mark_kernel_threads(false);
	verify_writes(&slow, writers);
	pthread_barrier_destroy(&start);
	EXPECT_OK(control_snapshot_destroy(ctl, &held.snapshot.id));
	EXPECT_OK(control_snapshot_destroy(ctl, &others_id));
	remove_all_trackers();
	null_disk_destroy(&slow);
	for (i = 0; i < NR_OTHERS; i++)
		null_disk_destroy(&others[i]);
}

/* --- pages, of which the leak detector knows nothing --- */

#define LEAK_ROUNDS 24
#define LEAK_BLOCKS 128U	/* copies of each round: half a MiB */
#define LEAK_TOLERANCE_KIB 4096

/* Memory that is in use, and by none of those that the kernel counts. */
static long unaccounted_kib(void)
{
	static const char *const accounted[] = {
		"MemFree", "Buffers", "Cached", "SwapCached", "AnonPages", "Slab",
		"KernelStack", "PageTables", "VmallocUsed", "Percpu",
	};
	char line[200];
	unsigned int i;
	long kib = 0;
	FILE *file;

	sync();
	write_text("/proc/sys/vm/drop_caches", "3");
	sleep_ms(500);
	file = fopen("/proc/meminfo", "r");
	ASSERT(file);
	while (fgets(line, sizeof(line), file)) {
		const char *value = strchr(line, ':');
		size_t length = value ? value - line : 0;

		if (length == strlen("MemTotal") && !strncmp(line, "MemTotal", length))
			kib += atol(value + 1);
		for (i = 0; i < ARRAY_SIZE(accounted); i++)
			if (length == strlen(accounted[i]) &&
			    !strncmp(line, accounted[i], length))
				kib -= atol(value + 1);
	}
	fclose(file);
	return kib;
}

/* A snapshot that breaks while its copies are in memory. */
static void broken_life(void)
{
	held_begin();
	stamp_next(0, LEAK_BLOCKS);
	fault_arm(FAULT_IO, 1);
	origin_wrote(0, LEAK_BLOCKS, (int)EXPECT_OK(origin_write(0, LEAK_BLOCKS, 0)));
	held_settle();
	EXPECT_EQ(fault_disarm(), 1);
	EXPECT_EQ(held.error, EIO);
	held_end();
}

static void test_broken_snapshots_leave_no_pages_behind(void)
{
	long before, after;
	unsigned int i;

	write_text("/proc/sys/vm/percpu_pagelist_high_fraction", "1000000");
	fault_mark_disk(&world.storage, true);
	for (i = 0; i < 3; i++)
		broken_life();
	before = unaccounted_kib();
	for (i = 0; i < LEAK_ROUNDS; i++)
		broken_life();
	after = unaccounted_kib();
	ktap_note("%u snapshots broken with %u KiB of copies: %+ld KiB of memory lost",
		  LEAK_ROUNDS, LEAK_BLOCKS * BLOCK_BYTES / 1024, after - before);
	EXPECT(after - before <= LEAK_TOLERANCE_KIB);
}

const struct ktap_test storm_tests[] = {
	KTAP_TEST(test_hold_without_memory),
	KTAP_TEST(test_many_writes_in_flight_without_memory),
	KTAP_TEST(test_broken_snapshots_leave_no_pages_behind),
	KTAP_END
};
