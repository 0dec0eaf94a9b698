// SPDX-License-Identifier: GPL-2.0
/*
 * Loading and unloading: when it is refused, and what it leaves behind
 *
 *	test_life [--rounds N] [--seed S] [--filter TEXT]
 *
 * N rounds of load, track, snapshot, write, destroy and unload (100) have to
 * leave the memory of the kernel as it was.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "blksnap_test.h"
#include "crew.h"

#define DISK_MIB 16

static struct disk disk, storage;
static unsigned int nr_rounds = 100;

/* Returns 0 or a negative errno. */
static int unload(void)
{
	return syscall(SYS_delete_module, "blksnap", O_NONBLOCK) ? -errno : 0;
}

static void close_ctl(void)
{
	close(ctl);
	ctl = -1;
}

static void life_set_up(void)
{
	if (!module_is_loaded())
		ASSERT_EQ(module_load(""), 0);
	ctl_set_up();
}

static void life_tear_down(void)
{
	if (ctl < 0 && module_is_loaded())
		ctl = blksnap_open();
	if (ctl >= 0)
		ctl_tear_down();
}

static void test_unload_is_refused_while_a_snapshot_is_created(void)
{
	struct snapshot snapshot;

	snapshot_create(&snapshot, &disk);
	close_ctl();
	EXPECT_ERR(unload(), EAGAIN);
	EXPECT(module_is_loaded());
}

static void test_unload_is_refused_while_a_snapshot_is_held(void)
{
	struct snapshot snapshot;

	ASSERT(fill_direct(disk.path, 1, MIB, 0));
	snapshot_now(&snapshot, &disk, &storage);
	close_ctl();
	EXPECT_ERR(unload(), EAGAIN);
	EXPECT(module_unload() != 0);
	ASSERT(module_is_loaded());
	ASSERT(fill_direct(disk.path, 2, MIB, 0));
	EXPECT(reads_as(image_of(&snapshot, &disk), 1, MIB, 0));
}

static void test_unload_is_refused_while_an_image_is_open(void)
{
	struct snapshot snapshot;
	int fd;

	snapshot_now(&snapshot, &disk, &storage);
	fd = ASSERT_OK(open(image_of(&snapshot, &disk), O_RDONLY));
	ASSERT_OK(blksnap_snapshot_destroy(ctl, &snapshot.id));
	close_ctl();
	EXPECT_ERR(unload(), EAGAIN);
	close(fd);
	EXPECT_OK(unload());
}

static void test_unload_is_refused_while_the_node_is_open(void)
{
	EXPECT_ERR(unload(), EAGAIN);
}

static void test_unload_works_while_a_device_is_tracked(void)
{
	struct snapshot snapshot;

	snapshot_create(&snapshot, &disk);
	ASSERT_OK(blksnap_snapshot_destroy(ctl, &snapshot.id));
	close_ctl();
	EXPECT_OK(unload());
	EXPECT(!module_is_loaded());
	EXPECT(fill_direct(disk.path, 1, MIB, 0));
}

static void test_unload_works_right_after_destroy(void)
{
	struct snapshot snapshot;

	ASSERT(fill_direct(disk.path, 1, DISK_MIB * MIB, 0));
	snapshot_now(&snapshot, &disk, &storage);
	ASSERT(fill_direct(disk.path, 2, 8 * MIB, 0));
	ASSERT_OK(blksnap_snapshot_destroy(ctl, &snapshot.id));
	close_ctl();
	EXPECT_OK(unload());
	EXPECT(reads_as(disk.path, 2, 8 * MIB, 0));
	EXPECT(reads_as(disk.path, 1, 8 * MIB, 8 * MIB));
}

/* Writes a random piece of the disk; crew_fn. */
static const char *write_somewhere(struct crew_member *member, void *data)
{
	uint64_t at = random_below(&member->random, DISK_MIB * MIB / 4096) * 4096;
	int fd = *(int *)data;

	return pwrite(fd, member->buffer, 4096, at) == 4096 ?
	       NULL : "a write to the origin failed";
}

static void test_unload_works_while_writes_pass(void)
{
	struct snapshot snapshot;
	struct crew crew;
	int fd;

	fd = ASSERT_OK(open(disk.path, O_WRONLY | O_DIRECT));
	crew_start(&crew, 2, ktap_options.seed, write_somewhere, &fd);
	crew_grant(&crew, CREW_FOR_EVER);
	snapshot_now(&snapshot, &disk, &storage);
	sleep_ms(200);
	EXPECT_OK(blksnap_snapshot_destroy(ctl, &snapshot.id));
	close_ctl();
	EXPECT_OK(unload());
	sleep_ms(200);
	crew_halt(&crew);
	EXPECT(!crew_error(&crew));
	crew_stop(&crew);
	close(fd);
}

static void test_loading_again_starts_afresh(void)
{
	struct blk_snap_cbt_info before, after;
	struct snapshot snapshot;

	snapshot_now(&snapshot, &disk, &storage);
	ASSERT(tracker_info(&disk, &before));
	ASSERT_OK(blksnap_snapshot_destroy(ctl, &snapshot.id));
	close_ctl();
	ASSERT_OK(unload());
	ASSERT_EQ(module_load(""), 0);
	ctl_set_up();
	EXPECT(!tracker_info(&disk, &after));
	snapshot_create(&snapshot, &disk);
	ASSERT(tracker_info(&disk, &after));
	EXPECT(memcmp(&before.generation_id, &after.generation_id,
		      sizeof(after.generation_id)));
	EXPECT_EQ(after.snap_number, 0);
}

/* --- parameters --- */

static void test_wrong_parameters_are_refused(void)
{
	static const char *const wrong[] = {
		"tracking_block_minimum_shift=11",
		"tracking_block_minimum_shift=31",
		"tracking_block_maximum_count=1023",
		"tracking_block_maximum_count=268435457",
		"copy_block_minimum_shift=11",
		"copy_block_minimum_shift=21",
		"copy_block_maximum_count=65535",
		"copy_block_maximum_count=1073741825",
		"diff_storage_minimum=2047",
		"copy_memory_maximum=3",
		"copy_memory_maximum=4097",
		"copy_discarded=maybe",
	};
	unsigned int i;

	close_ctl();
	ASSERT_OK(unload());
	for (i = 0; i < ARRAY_SIZE(wrong); i++) {
		if (module_load(wrong[i]))
			continue;
		FAIL("%s was accepted", wrong[i]);
		module_unload();
	}
}

static void test_parameters_have_their_defaults(void)
{
	EXPECT_EQ(module_parameter("tracking_block_minimum_shift"), 16);
	EXPECT_EQ(module_parameter("tracking_block_maximum_count"), 16777216);
	EXPECT_EQ(module_parameter("copy_block_minimum_shift"), 12);
	EXPECT_EQ(module_parameter("copy_block_maximum_count"), 268435456);
	EXPECT_EQ(module_parameter("diff_storage_minimum"), 2097152);
	EXPECT_EQ(module_parameter("copy_memory_maximum"), 64);
}

static void reload(const char *parameters)
{
	if (ctl >= 0)
		close_ctl();
	ASSERT_OK(unload());
	ASSERT_EQ(module_load(parameters), 0);
	ctl_set_up();
}

static void test_tracking_block_size_is_a_parameter(void)
{
	struct blk_snap_cbt_info info;
	struct snapshot snapshot;

	reload("tracking_block_minimum_shift=12");
	snapshot_create(&snapshot, &disk);
	ASSERT(tracker_info(&disk, &info));
	EXPECT_EQ(info.blk_size, 4096);
	EXPECT_EQ(info.blk_count, DISK_MIB * MIB / 4096);
	ASSERT_OK(blksnap_snapshot_destroy(ctl, &snapshot.id));
	reload("tracking_block_minimum_shift=12 tracking_block_maximum_count=1024");
	snapshot_create(&snapshot, &disk);
	ASSERT(tracker_info(&disk, &info));
	EXPECT_EQ(info.blk_size, DISK_MIB * MIB / 1024);
	EXPECT_EQ(info.blk_count, 1024);
	ASSERT_OK(blksnap_snapshot_destroy(ctl, &snapshot.id));
	reload("");
}

static unsigned int count_low_events(const struct snapshot *snapshot)
{
	struct blk_snap_snapshot_event event;
	unsigned int nr = 0;

	while (!next_event(snapshot, 500, &event))
		nr += event.code == blk_snap_event_code_low_free_space;
	return nr;
}

/* The limit is half the minimum: 4 MiB here. */
static void test_low_space_is_told_once_each_time_it_falls(void)
{
	struct snapshot snapshot;

	reload("diff_storage_minimum=16384");
	ASSERT(fill_direct(disk.path, 1, DISK_MIB * MIB, 0));
	snapshot_create(&snapshot, &disk);
	EXPECT_EQ(count_low_events(&snapshot), 1);
	ASSERT_OK(append_range(&snapshot, &storage, 0, 12 * 2048));
	snapshot_take(&snapshot);
	EXPECT_EQ(count_low_events(&snapshot), 0);
	ASSERT(fill_direct(disk.path, 2, 9 * MIB, 0));
	EXPECT_EQ(count_low_events(&snapshot), 1);
	ASSERT(fill_direct(disk.path, 2, 2 * MIB, 9 * MIB));
	EXPECT_EQ(count_low_events(&snapshot), 0);
	ASSERT_OK(append_range(&snapshot, &storage, 12 * 2048, 8 * 2048));
	ASSERT(fill_direct(disk.path, 2, 5 * MIB, 11 * MIB));
	EXPECT_EQ(count_low_events(&snapshot), 1);
	EXPECT(reads_as(image_of(&snapshot, &disk), 1, DISK_MIB * MIB, 0));
	ASSERT_OK(blksnap_snapshot_destroy(ctl, &snapshot.id));
	reload("");
}

/* --- memory --- */

static const struct memory_field {
	const char *name;
	long tolerance_kib;	/* what others may take meanwhile */
} memory_fields[] = {
	{ "MemFree", 4096 },
	{ "Slab", 2048 },
	{ "SUnreclaim", 2048 },
	{ "Percpu", 256 },
	{ "VmallocUsed", 512 },
	{ "KernelStack", 512 },
};

#define NR_FIELDS ARRAY_SIZE(memory_fields)

/* What is left when everything that can be given back is. */
static void read_memory(long *kib)
{
	unsigned int i;
	char line[200];
	FILE *file;

	sync();
	for (i = 0; i < 3; i++) {
		write_text("/proc/sys/vm/drop_caches", "3");
		sleep_ms(300);
	}
	file = fopen("/proc/meminfo", "r");
	ASSERT(file);
	while (fgets(line, sizeof(line), file))
		for (i = 0; i < NR_FIELDS; i++)
			if (!strncmp(line, memory_fields[i].name,
				     strlen(memory_fields[i].name)) &&
			    line[strlen(memory_fields[i].name)] == ':')
				kib[i] = atol(strchr(line, ':') + 1);
	fclose(file);
}

static void one_life(void)
{
	struct snapshot snapshot;

	ASSERT_EQ(module_load(""), 0);
	ctl_set_up();
	snapshot_now(&snapshot, &disk, &storage);
	ASSERT(fill_direct(disk.path, 1, 2 * MIB, 0));
	ASSERT(fill_direct(image_of(&snapshot, &disk), 2, MIB, 4 * MIB));
	ASSERT_OK(blksnap_snapshot_destroy(ctl, &snapshot.id));
	close_ctl();
	ASSERT_OK(unload());
}

static bool slab_has_our_caches(void)
{
	return !shell("grep -q blksnap /proc/slabinfo");
}

static void test_rounds_of_life_leave_no_memory_behind(void)
{
	long before[NR_FIELDS] = { 0 }, after[NR_FIELDS] = { 0 };
	unsigned int i;

	if (!access("/sys/kernel/debug/kmemleak", F_OK)) {
		ktap_skip("a debug kernel keeps freed memory back; kmemleak tells");
		return;
	}
	/* MemFree does not count what the processors keep to themselves. */
	write_text("/proc/sys/vm/percpu_pagelist_high_fraction", "1000000");
	/* Disks get their memory, caches their size. */
	ASSERT(fill_direct(disk.path, 1, DISK_MIB * MIB, 0));
	ASSERT(fill_direct(storage.path, 1, storage.nr_bytes, 0));
	close_ctl();
	ASSERT_OK(unload());
	for (i = 0; i < 5; i++)
		one_life();
	read_memory(before);
	for (i = 0; i < nr_rounds; i++)
		one_life();
	read_memory(after);
	EXPECT(!slab_has_our_caches());
	ktap_note("%u rounds of load, track, snapshot, write, destroy, unload:",
		  nr_rounds);
	for (i = 0; i < NR_FIELDS; i++) {
		long lost = i ? after[i] - before[i] : before[i] - after[i];

		ktap_note("  %-12s %7ld KiB before, %7ld KiB after",
			  memory_fields[i].name, before[i], after[i]);
		EXPECT(lost <= memory_fields[i].tolerance_kib);
	}
}

static const struct ktap_test unload_tests[] = {
	KTAP_TEST(test_unload_is_refused_while_a_snapshot_is_created),
	KTAP_TEST(test_unload_is_refused_while_a_snapshot_is_held),
	KTAP_TEST(test_unload_is_refused_while_an_image_is_open),
	KTAP_TEST(test_unload_is_refused_while_the_node_is_open),
	KTAP_TEST(test_unload_works_while_a_device_is_tracked),
	KTAP_TEST(test_unload_works_right_after_destroy),
	KTAP_TEST(test_unload_works_while_writes_pass),
	KTAP_TEST(test_loading_again_starts_afresh),
	KTAP_END
};

static const struct ktap_test parameter_tests[] = {
	KTAP_TEST(test_parameters_have_their_defaults),
	KTAP_TEST(test_wrong_parameters_are_refused),
	KTAP_TEST(test_tracking_block_size_is_a_parameter),
	KTAP_TEST(test_low_space_is_told_once_each_time_it_falls),
	KTAP_END
};

static const struct ktap_test memory_tests[] = {
	KTAP_TEST(test_rounds_of_life_leave_no_memory_behind),
	KTAP_END
};

static const struct ktap_suite suites[] = {
	{ "unload", life_set_up, life_tear_down, unload_tests },
	{ "parameter", life_set_up, life_tear_down, parameter_tests },
	{ "memory", life_set_up, life_tear_down, memory_tests },
	{ NULL, NULL, NULL, NULL }
};

int main(int argc, char **argv)
{
	int i, ret;

	for (i = 1; i + 1 < argc; i++)
		if (!strcmp(argv[i], "--rounds"))
			nr_rounds = atoi(argv[i + 1]);
	tests_need_module();
	if (module_unload())
		ktap_skip_all("the module cannot be unloaded");
	if (module_load(""))
		ktap_skip_all("modprobe cannot load the module");
	if (null_disk_create(&disk, "nullb0", DISK_MIB, NULL) ||
	    null_disk_create(&storage, "nullb1", 2 * DISK_MIB, NULL))
		ktap_skip_all("null_blk disks cannot be made");
	ret = ktap_main(suites, argc, argv);
	null_disk_destroy(&disk);
	null_disk_destroy(&storage);
	return ret;
}
