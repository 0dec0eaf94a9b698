// SPDX-License-Identifier: GPL-2.0
/*
 * What a snapshot costs and how it takes what disks are asked for
 *
 *	test_io [--device DISK] [--seed S] [--filter TEXT]
 *
 * --device names a disk with a volatile write cache, for the test of flushes;
 * its contents are lost.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test_io.h"

#define DISK_MIB 64
#define SCATTERED_WRITES 256U

static const char *cached_disk_path;

/* The disks of the running test, destroyed behind it. */
static struct disk origin, storage, other;

static void io_tear_down(void)
{
	ctl_tear_down();
	null_disk_destroy(&origin);
	null_disk_destroy(&storage);
	null_disk_destroy(&other);
	memset(&origin, 0, sizeof(origin));
	memset(&storage, 0, sizeof(storage));
}

static void make_disks(uint64_t origin_mib, uint64_t storage_mib)
{
	ASSERT_OK(null_disk_create(&origin, "nullb0", origin_mib, NULL));
	ASSERT_OK(null_disk_create(&storage, "nullb1", storage_mib, NULL));
}

/* --- the cost of a copy --- */

static void write_scattered(const struct disk *disk)
{
	const uint64_t stride = disk->nr_bytes / SCATTERED_WRITES;
	unsigned int i;

	for (i = 0; i < SCATTERED_WRITES; i++)
		ASSERT(fill_direct(disk->path, 0x22, 4096, i * stride));
}

/* Stores may come later than the writes that caused them. */
static void wait_until_stored(uint64_t written_sectors)
{
	struct disk_stat stat;
	unsigned int ms;

	for (ms = 0; ms < 20000; ms += 100) {
		disk_read_stat(&storage, &stat);
		if (stat.written_sectors >= written_sectors)
			break;
		sleep_ms(100);
	}
	sleep_ms(500);
}

static void expect_small_copies(void)
{
	struct disk_stat origin_before, storage_before, origin_after, storage_after;
	const unsigned int limit = SCATTERED_WRITES * 8;
	struct snapshot snapshot;
	uint64_t nr_read, nr_stored;

	snapshot_now(&snapshot, &origin, &storage);
	disk_read_stat(&origin, &origin_before);
	disk_read_stat(&storage, &storage_before);
	write_scattered(&origin);
	wait_until_stored(storage_before.written_sectors + limit);
	disk_read_stat(&origin, &origin_after);
	disk_read_stat(&storage, &storage_after);
	nr_read = origin_after.read_sectors - origin_before.read_sectors;
	nr_stored = storage_after.written_sectors -
		    storage_before.written_sectors;
	ktap_note("%u writes of 4 KiB: %llu bytes read, %llu bytes stored each, in %llu stores",
		  SCATTERED_WRITES,
		  (unsigned long long)(nr_read * 512 / SCATTERED_WRITES),
		  (unsigned long long)(nr_stored * 512 / SCATTERED_WRITES),
		  (unsigned long long)(storage_after.writes -
				       storage_before.writes));
	EXPECT(nr_read <= limit);
	EXPECT(nr_stored <= limit);
	EXPECT(reads_as(image_of(&snapshot, &origin), 0, 4096, 0));
}

static void test_small_write_copies_no_more_than_itself(void)
{
	make_disks(DISK_MIB, DISK_MIB);
	expect_small_copies();
}

static void test_small_write_to_1_tib_copies_no_more_than_itself(void)
{
	make_disks(1024 * 1024, DISK_MIB);
	expect_small_copies();
}

static void test_second_write_copies_nothing(void)
{
	struct disk_stat before, after;
	struct snapshot snapshot;

	make_disks(DISK_MIB, DISK_MIB);
	snapshot_now(&snapshot, &origin, &storage);
	write_scattered(&origin);
	wait_until_stored(SCATTERED_WRITES * 8);
	disk_read_stat(&origin, &before);
	write_scattered(&origin);
	disk_read_stat(&origin, &after);
	EXPECT_EQ(after.read_sectors, before.read_sectors);
}

/* One after the other, as a log is written.  Returns how many sectors were read. */
static uint64_t write_in_order(unsigned int first, unsigned int nr, uint64_t *nr_reads)
{
	struct disk_stat before, after;
	unsigned int i;

	disk_read_stat(&origin, &before);
	for (i = first; i < first + nr; i++)
		ASSERT(fill_direct(origin.path, 0x22, 4096, i * 4096ULL));
	disk_read_stat(&origin, &after);
	*nr_reads = after.reads - before.reads;
	return after.read_sectors - before.read_sectors;
}

static void test_small_writes_in_order_are_copied_ahead(void)
{
	struct snapshot snapshot;
	uint64_t nr_reads;

	make_disks(DISK_MIB, DISK_MIB);
	ASSERT(fill_direct(origin.path, 0x11, 2 * MIB, 0));
	snapshot_now(&snapshot, &origin, &storage);
	/* Not before the writes of before the take are known to be done. */
	sleep_ms(1000);
	EXPECT_EQ(write_in_order(0, 64, &nr_reads), 64 * 8);
	EXPECT(nr_reads <= 16);
	/* A few are nothing yet, and what is copied is in one piece with no other. */
	EXPECT_EQ(write_in_order(101, 8, &nr_reads), 8 * 8);
	EXPECT_EQ(nr_reads, 8);
	EXPECT(reads_as(image_of(&snapshot, &origin), 0x11, 2 * MIB, 0));
	EXPECT(reads_as(origin.path, 0x22, 64 * 4096, 0));
	EXPECT(reads_as(origin.path, 0x11, 37 * 4096, 64 * 4096));
}

/* An image block that nobody changed is read from the origin, uncopied. */
static void test_reading_the_image_stores_nothing(void)
{
	struct disk_stat before, after;
	struct snapshot snapshot;

	make_disks(DISK_MIB, DISK_MIB);
	ASSERT(fill_direct(origin.path, 0x11, MIB, 0));
	snapshot_now(&snapshot, &origin, &storage);
	disk_read_stat(&storage, &before);
	EXPECT(reads_as(image_of(&snapshot, &origin), 0x11, MIB, 0));
	disk_read_stat(&storage, &after);
	EXPECT_EQ(after.written_sectors, before.written_sectors);
}

/* --- discards --- */

static unsigned int count_corrupted(const struct snapshot *snapshot)
{
	struct blk_snap_snapshot_event event;
	unsigned int nr = 0;

	while (!next_event(snapshot, 1000, &event))
		nr += event.code == blk_snap_event_code_corrupted;
	return nr;
}

static void discard(const struct disk *disk, uint64_t at, uint64_t nr_bytes)
{
	uint64_t range[2] = { at, nr_bytes };
	int fd = ASSERT_OK(open(disk->path, O_RDWR));

	EXPECT_OK(ioctl(fd, BLKDISCARD, range));
	close(fd);
}

static void test_discard_of_3_gib_breaks_nothing(void)
{
	struct snapshot snapshot;
	uint64_t at;

	make_disks(4096, DISK_MIB);
	for (at = 0; at < 4 * GIB; at += 256 * MIB)
		ASSERT(fill_direct(origin.path, 0x11, MIB, at));
	snapshot_now(&snapshot, &origin, &storage);
	discard(&origin, 100 * MIB, 3 * GIB);
	EXPECT_EQ(count_corrupted(&snapshot), 0);
	for (at = 0; at < 4 * GIB; at += 256 * MIB)
		EXPECT(reads_as(image_of(&snapshot, &origin), 0x11, MIB, at));
	ASSERT(fill_direct(origin.path, 0x22, MIB, 512 * MIB));
	EXPECT(reads_as(origin.path, 0x22, MIB, 512 * MIB));
	EXPECT(reads_as(image_of(&snapshot, &origin), 0x11, MIB, 512 * MIB));
}

static void test_discard_of_copied_blocks_does_not_touch_the_image(void)
{
	struct snapshot snapshot;

	make_disks(DISK_MIB, DISK_MIB);
	ASSERT(fill_direct(origin.path, 0x11, 4 * MIB, 0));
	snapshot_now(&snapshot, &origin, &storage);
	ASSERT(fill_direct(origin.path, 0x22, MIB, 0));
	discard(&origin, 0, MIB);
	discard(&origin, 512, 2 * MIB - 1024);
	EXPECT(reads_as(image_of(&snapshot, &origin), 0x11, 4 * MIB, 0));
}

static void test_discarded_blocks_are_copied_if_asked_for(void)
{
	struct snapshot snapshot;

	close(ctl);
	ctl = -1;
	if (module_unload() || module_load("copy_discarded=Y")) {
		ktap_skip("the module cannot be loaded with another parameter");
		ctl_set_up();
		return;
	}
	ctl_set_up();
	make_disks(DISK_MIB, DISK_MIB);
	ASSERT(fill_direct(origin.path, 0x11, 4 * MIB, 0));
	snapshot_now(&snapshot, &origin, &storage);
	discard(&origin, MIB, 2 * MIB);
	EXPECT(reads_as(origin.path, 0, 2 * MIB, MIB));
	EXPECT(reads_as(image_of(&snapshot, &origin), 0x11, 4 * MIB, 0));
	ctl_tear_down();
	module_unload();
	module_load("");
	ctl_set_up();
}

/* --- flags of requests --- */

static void test_nowait_writes_are_copied(void)
{
	void *buffer = alloc_aligned(4096);
	struct iovec vector = { buffer, 4096 };
	unsigned int i, nr_done = 0;
	struct snapshot snapshot;
	int fd;

	make_disks(DISK_MIB, DISK_MIB);
	ASSERT(fill_direct(origin.path, 0x11, MIB, 0));
	snapshot_now(&snapshot, &origin, &storage);
	fd = ASSERT_OK(open(origin.path, O_RDWR | O_DIRECT));
	memset(buffer, 0x22, 4096);
	for (i = 0; i < 256; i++) {
		ssize_t ret = pwritev2(fd, &vector, 1, i * 4096, RWF_NOWAIT);

		if (ret == 4096)
			nr_done++;
		else
			EXPECT(ret < 0 && errno == EAGAIN);
	}
	close(fd);
	free(buffer);
	ktap_note("%u of 256 writes with RWF_NOWAIT were done", nr_done);
	EXPECT(nr_done > 0);
	EXPECT(reads_as(image_of(&snapshot, &origin), 0x11, MIB, 0));
}

static void test_flushes_reach_the_disk_with_held_writes(void)
{
	void *buffer = alloc_aligned(4096);
	struct disk_stat before, after;
	struct snapshot snapshot;
	struct disk disk;
	unsigned int i;
	int fd;

	if (!cached_disk_path || disk_find(&disk, cached_disk_path)) {
		ktap_skip("no --device with a write cache");
		return;
	}
	ASSERT_OK(null_disk_create(&storage, "nullb1", DISK_MIB, NULL));
	ASSERT(fill_direct(disk.path, 0x11, MIB, 0));
	snapshot_now(&snapshot, &disk, &storage);
	fd = ASSERT_OK(open(disk.path, O_RDWR | O_DIRECT | O_DSYNC));
	memset(buffer, 0x22, 4096);
	disk_read_stat(&disk, &before);
	for (i = 0; i < 16; i++)
		EXPECT_EQ(pwrite(fd, buffer, 4096, i * 4096), 4096);
	disk_read_stat(&disk, &after);
	close(fd);
	free(buffer);
	ktap_note("16 writes with O_DSYNC: %llu flushes",
		  (unsigned long long)(after.flushes - before.flushes));
	EXPECT(after.flushes - before.flushes >= 16);
	EXPECT(reads_as(image_of(&snapshot, &disk), 0x11, MIB, 0));
	EXPECT(reads_as(disk.path, 0x22, 16 * 4096, 0));
}

/* --- stacked devices --- */

static bool make_dm(struct disk *dm, unsigned long long nr_sectors, const char *target)
{
	kernel_module_load("dm-mod");
	if (shell("dmsetup create --noudevsync dut --table '0 %llu %s' >/dev/null 2>&1",
		  nr_sectors, target)) {
		ktap_skip("dmsetup cannot make a device");
		return false;
	}
	ASSERT_OK(disk_find(dm, "/dev/dm-0"));
	return true;
}

static bool make_linear(struct disk *linear, const struct disk *lower)
{
	char target[80];

	snprintf(target, sizeof(target), "linear %s 2048", lower->path);
	return make_dm(linear, lower->nr_bytes / 512 - 2048, target);
}

static void stack_tear_down(void)
{
	ctl_tear_down();
	shell("dmsetup remove --noudevsync dut >/dev/null 2>&1");
	io_tear_down();
}

static void test_write_through_dm_is_seen_below(void)
{
	struct blk_snap_cbt_info info;
	struct snapshot snapshot;
	struct disk linear;
	uint8_t *map;

	make_disks(DISK_MIB, DISK_MIB);
	if (!make_linear(&linear, &origin))
		return;
	ASSERT(fill_direct(origin.path, 0x11, 4 * MIB, 0));
	snapshot_now(&snapshot, &origin, &storage);
	ASSERT(fill_direct(linear.path, 0x22, 256 * KIB, MIB));
	EXPECT(reads_as(origin.path, 0x22, 256 * KIB, 2 * MIB));
	EXPECT(reads_as(image_of(&snapshot, &origin), 0x11, 4 * MIB, 0));
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	snapshot_now(&snapshot, &origin, &storage);
	map = read_map(&origin, &info);
	EXPECT_EQ(map[2 * MIB / info.blk_size], 2);
	free(map);
}

static void test_dm_device_has_snapshots_of_its_own(void)
{
	struct snapshot snapshot;
	struct disk linear;

	make_disks(DISK_MIB, DISK_MIB);
	if (!make_linear(&linear, &origin))
		return;
	ASSERT(fill_direct(linear.path, 0x11, 4 * MIB, 0));
	snapshot_now(&snapshot, &linear, &storage);
	ASSERT(fill_direct(linear.path, 0x22, 2 * MIB, MIB));
	EXPECT(reads_as(image_of(&snapshot, &linear), 0x11, 4 * MIB, 0));
	EXPECT(reads_as(origin.path, 0x22, 2 * MIB, 2 * MIB));
}

static void test_dm_device_and_the_disk_below_make_one_snapshot(void)
{
	const struct disk *members[2] = { &origin };
	struct snapshot snapshot;
	struct disk linear;

	make_disks(DISK_MIB, DISK_MIB);
	if (!make_linear(&linear, &origin))
		return;
	members[1] = &linear;
	ASSERT(fill_direct(linear.path, 0x11, 4 * MIB, 0));
	snapshot_create_of(&snapshot, members, 2);
	ASSERT_OK(append_range(&snapshot, &storage, 0, DISK_MIB * 2048));
	snapshot_take(&snapshot);
	ASSERT(fill_direct(linear.path, 0x22, 2 * MIB, MIB));
	EXPECT(reads_as(image_of(&snapshot, &linear), 0x11, 4 * MIB, 0));
	EXPECT(reads_as(image_of(&snapshot, &origin), 0x11, 4 * MIB, MIB));
}

/* --- storage --- */

static void expect_corrupted_once(const struct snapshot *snapshot)
{
	struct blk_snap_event_corrupted *lost;
	struct blk_snap_snapshot_event event;
	unsigned int nr = 0;

	while (!next_event(snapshot, 1000, &event)) {
		if (event.code != blk_snap_event_code_corrupted)
			continue;
		nr++;
		lost = (void *)event.data;
		EXPECT(!memcmp(&lost->orig_dev_id, &origin.id, sizeof(origin.id)));
		EXPECT_EQ(lost->err_code, ENOSPC);
		EXPECT(is_filled_with(event.data + sizeof(*lost), 0,
				      sizeof(event.data) - sizeof(*lost)));
	}
	EXPECT_EQ(nr, 1);
}

static void test_full_storage_breaks_the_snapshot_once(void)
{
	void *buffer = alloc_aligned(4096);
	struct snapshot snapshot;
	int fd;

	make_disks(DISK_MIB, DISK_MIB);
	ASSERT(fill_direct(origin.path, 0x11, 16 * MIB, 0));
	snapshot_create(&snapshot, &origin);
	ASSERT_OK(append_range(&snapshot, &storage, 2048, 2048));
	snapshot_take(&snapshot);
	EXPECT(fill_direct(origin.path, 0x22, 16 * MIB, 0));
	expect_corrupted_once(&snapshot);
	EXPECT(fill_direct(origin.path, 0x33, 16 * MIB, 0));
	EXPECT(reads_as(origin.path, 0x33, 16 * MIB, 0));
	fd = ASSERT_OK(open(image_of(&snapshot, &origin), O_RDWR | O_DIRECT));
	EXPECT_EQ(pread(fd, buffer, 4096, 0), -1);
	EXPECT_EQ(errno, EIO);
	EXPECT_EQ(pread(fd, buffer, 4096, 32 * MIB), -1);
	EXPECT_EQ(pwrite(fd, buffer, 4096, 32 * MIB), -1);
	EXPECT_EQ(errno, EIO);
	close(fd);
	free(buffer);
	/* Later events tell of nothing new. */
	EXPECT_EQ(count_corrupted(&snapshot), 0);
	EXPECT_OK(control_snapshot_destroy(ctl, &snapshot.id));
}

static void test_full_storage_spares_other_snapshots(void)
{
	struct snapshot broken, sound;

	make_disks(DISK_MIB, DISK_MIB);
	ASSERT_OK(null_disk_create(&other, "nullb2", DISK_MIB, NULL));
	ASSERT(fill_direct(other.path, 0x11, 4 * MIB, 0));
	snapshot_create(&broken, &origin);
	snapshot_create(&sound, &other);
	ASSERT_OK(append_range(&broken, &storage, 2048, 2048));
	ASSERT_OK(append_range(&sound, &storage, 4096, 16384));
	snapshot_take(&broken);
	snapshot_take(&sound);
	ASSERT(fill_direct(origin.path, 0x22, 8 * MIB, 0));
	ASSERT(fill_direct(other.path, 0x22, 2 * MIB, 0));
	expect_corrupted_once(&broken);
	EXPECT_EQ(count_corrupted(&sound), 0);
	EXPECT(reads_as(image_of(&sound, &other), 0x11, 4 * MIB, 0));
}

static void test_storage_on_the_origin_reads_as_zeros(void)
{
	struct snapshot snapshot;
	const char *image;

	make_disks(DISK_MIB, 3);
	ASSERT(fill_direct(origin.path, 0x11, DISK_MIB * MIB, 0));
	snapshot_create(&snapshot, &origin);
	ASSERT_OK(append_range(&snapshot, &origin, 32 * 2048, 8 * 2048));
	snapshot_take(&snapshot);
	image = image_of(&snapshot, &origin);
	ASSERT(fill_direct(origin.path, 0x22, 4 * MIB, 0));
	EXPECT(reads_as(image, 0x11, 32 * MIB, 0));
	EXPECT(reads_as(image, 0, 8 * MIB, 32 * MIB));
	EXPECT(reads_as(image, 0x11, 24 * MIB, 40 * MIB));
	ASSERT_OK(append_range(&snapshot, &origin, 48 * 2048, 2048));
	EXPECT(reads_as(image, 0, MIB, 48 * MIB));
	EXPECT_EQ(count_corrupted(&snapshot), 0);
}

static void test_storage_on_the_origin_is_not_tracked(void)
{
	struct blk_snap_cbt_info info;
	struct snapshot snapshot;
	uint32_t i, first, end;
	uint8_t *map;

	make_disks(DISK_MIB, 3);
	snapshot_create(&snapshot, &origin);
	ASSERT_OK(append_range(&snapshot, &origin, 32 * 2048, 8 * 2048));
	snapshot_take(&snapshot);
	ASSERT(fill_direct(origin.path, 0x22, 4 * MIB, 0));
	sleep_ms(1000);
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	snapshot_now(&snapshot, &origin, &storage);
	map = read_map(&origin, &info);
	EXPECT_EQ(map[0], 2);
	first = 32 * MIB / info.blk_size;
	end = 40 * MIB / info.blk_size;
	for (i = first; i < end && !map[i]; i++)
		;
	EXPECT_EQ(i, end);
	free(map);
}

/* --- an origin that goes away, a storage that fails --- */

static void test_vanished_origin_does_not_hang_anything(void)
{
	struct snapshot snapshot;

	make_disks(DISK_MIB, DISK_MIB);
	snapshot_now(&snapshot, &origin, &storage);
	ASSERT(fill_direct(origin.path, 0x22, MIB, 0));
	null_disk_destroy(&origin);
	EXPECT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	EXPECT_OK(control_tracker_remove(ctl, origin.id));
}

static const struct ktap_test cost_tests[] = {
	KTAP_TEST(test_small_write_copies_no_more_than_itself),
	KTAP_TEST(test_small_write_to_1_tib_copies_no_more_than_itself),
	KTAP_TEST(test_second_write_copies_nothing),
	KTAP_TEST(test_small_writes_in_order_are_copied_ahead),
	KTAP_TEST(test_reading_the_image_stores_nothing),
	KTAP_END
};

static const struct ktap_test request_tests[] = {
	KTAP_TEST(test_discard_of_3_gib_breaks_nothing),
	KTAP_TEST(test_discard_of_copied_blocks_does_not_touch_the_image),
	KTAP_TEST(test_discarded_blocks_are_copied_if_asked_for),
	KTAP_TEST(test_nowait_writes_are_copied),
	KTAP_TEST(test_flushes_reach_the_disk_with_held_writes),
	KTAP_END
};

/* A write that was on its way before is in no count; the take waits for it. */
static void test_take_waits_for_writes_from_before_tracking(void)
{
	const struct null_disk_options slow = { .completion_ns = 1000000000 };
	struct snapshot snapshot;
	struct disk linear;
	int status;
	pid_t child;

	ASSERT_OK(null_disk_create(&origin, "nullb0", DISK_MIB, &slow));
	ASSERT_OK(null_disk_create(&storage, "nullb1", DISK_MIB, NULL));
	if (!make_linear(&linear, &origin))
		return;
	fflush(stdout);
	child = fork();
	if (!child)
		_exit(!fill_direct(linear.path, 0x22, 64 * KIB, 0));
	ASSERT_OK(child);
	sleep_ms(200);
	ASSERT_EQ(waitpid(child, &status, WNOHANG), 0);
	snapshot_now(&snapshot, &linear, &storage);
	/* Done, but it may not have been scheduled yet. */
	sleep_ms(100);
	EXPECT_EQ(waitpid(child, &status, WNOHANG), child);
	EXPECT(WIFEXITED(status) && !WEXITSTATUS(status));
	EXPECT(reads_as(image_of(&snapshot, &linear), 0x22, 64 * KIB, 0));
	EXPECT_OK(control_snapshot_destroy(ctl, &snapshot.id));
}

static const struct ktap_test stack_tests[] = {
	KTAP_TEST(test_write_through_dm_is_seen_below),
	KTAP_TEST(test_dm_device_has_snapshots_of_its_own),
	KTAP_TEST(test_dm_device_and_the_disk_below_make_one_snapshot),
	KTAP_TEST(test_take_waits_for_writes_from_before_tracking),
	KTAP_END
};

static const struct ktap_test storage_tests[] = {
	KTAP_TEST(test_full_storage_breaks_the_snapshot_once),
	KTAP_TEST(test_full_storage_spares_other_snapshots),
	KTAP_TEST(test_storage_on_the_origin_reads_as_zeros),
	KTAP_TEST(test_storage_on_the_origin_is_not_tracked),
	KTAP_TEST(test_vanished_origin_does_not_hang_anything),
	KTAP_END
};

static const struct ktap_suite suites[] = {
	{ "cost", ctl_set_up, io_tear_down, cost_tests },
	{ "request", ctl_set_up, io_tear_down, request_tests },
	{ "discard", ctl_set_up, discard_tear_down, discard_tests },
	{ "stack", ctl_set_up, stack_tear_down, stack_tests },
	{ "storage", ctl_set_up, io_tear_down, storage_tests },
	{ "pass", ctl_set_up, pass_tear_down, pass_tests },
	{ "throttle", ctl_set_up, throttle_tear_down, throttle_tests },
	{ "latency", ctl_set_up, latency_tear_down, latency_tests },
	{ NULL, NULL, NULL, NULL }
};

int main(int argc, char **argv)
{
	int i;

	for (i = 1; i + 1 < argc; i++)
		if (!strcmp(argv[i], "--device"))
			cached_disk_path = argv[i + 1];
	tests_need_module();
	return ktap_main(suites, argc, argv);
}
