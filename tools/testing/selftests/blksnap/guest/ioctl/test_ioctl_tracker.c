// SPDX-License-Identifier: GPL-2.0
/*
 * The ioctls of the change tracking
 */
#include <errno.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "test_ioctl.h"

static void track(const struct disk *disk)
{
	struct snapshot snapshot;

	snapshot_create(&snapshot, disk);
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
}

/* Track, and take a first snapshot, so that there is a map to read. */
static void track_and_take(const struct disk *disk)
{
	struct snapshot snapshot;

	snapshot_now(&snapshot, disk, &disk_s);
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
}

static uint8_t map_byte(const struct disk *disk, uint64_t at)
{
	struct blk_snap_cbt_info info;
	uint8_t *map = read_map(disk, &info);
	uint8_t byte = map[at / info.blk_size];

	free(map);
	return byte;
}

static unsigned int nr_marked(const struct disk *disk)
{
	struct blk_snap_cbt_info info;
	uint8_t *map = read_map(disk, &info);
	unsigned int i, nr = 0;

	for (i = 0; i < info.blk_count; i++)
		nr += map[i] != 0;
	free(map);
	return nr;
}

/* --- TRACKER_REMOVE --- */

static void test_remove_of_untracked_device_gets_enodata(void)
{
	EXPECT_ERR(control_tracker_remove(ctl, disk_a.id), ENODATA);
	EXPECT_ERR(control_tracker_remove(ctl, unknown_dev), ENODATA);
}

static void test_remove_ends_tracking(void)
{
	track(&disk_a);
	track(&disk_b);
	ASSERT_EQ(nr_tracked(), 2);
	EXPECT_OK(control_tracker_remove(ctl, disk_a.id));
	EXPECT_EQ(nr_tracked(), 1);
	EXPECT_ERR(control_tracker_remove(ctl, disk_a.id), ENODATA);
}

static void test_remove_in_created_snapshot_gets_ebusy(void)
{
	struct snapshot snapshot;

	snapshot_create(&snapshot, &disk_a);
	EXPECT_ERR(control_tracker_remove(ctl, disk_a.id), EBUSY);
	EXPECT_EQ(nr_tracked(), 1);
}

static void test_remove_in_taken_snapshot_gets_ebusy(void)
{
	struct snapshot snapshot;

	snapshot_now(&snapshot, &disk_a, &disk_s);
	EXPECT_ERR(control_tracker_remove(ctl, disk_a.id), EBUSY);
	EXPECT_EQ(nr_tracked(), 1);
}

static void test_remove_does_not_touch_its_argument(void)
{
	struct blk_snap_tracker_remove arg = { disk_a.id };

	track(&disk_a);
	ASSERT_OK(ctl_call(IOCTL_BLK_SNAP_TRACKER_REMOVE, &arg));
	EXPECT(!memcmp(&arg.dev_id, &disk_a.id, sizeof(arg.dev_id)));
}

/* --- TRACKER_COLLECT --- */

static int collect(uint32_t *count, struct blk_snap_cbt_info *infos)
{
	struct blk_snap_tracker_collect arg;
	int ret;

	memset(&arg, POISON, sizeof(arg));
	arg.count = *count;
	arg.cbt_info_array = infos;
	ret = ctl_call(IOCTL_BLK_SNAP_TRACKER_COLLECT, &arg);
	*count = arg.count;
	EXPECT(arg.cbt_info_array == infos);
	if (ret != -EFAULT)
		EXPECT(is_filled_with((char *)&arg + 4, 0,
				      offsetof(struct blk_snap_tracker_collect,
					       cbt_info_array) - 4));
	return ret;
}

static void test_collect_without_array_tells_the_count(void)
{
	struct blk_snap_cbt_info info;
	uint32_t count = 0;

	EXPECT_OK(collect(&count, NULL));
	EXPECT_EQ(count, 0);
	track(&disk_a);
	track(&disk_b);
	count = 77;
	EXPECT_OK(collect(&count, NULL));
	EXPECT_EQ(count, 2);
	count = 0;
	memset(&info, POISON, sizeof(info));
	EXPECT_OK(collect(&count, &info));
	EXPECT_EQ(count, 2);
	EXPECT(is_filled_with(&info, POISON, sizeof(info)));
}

static void test_collect_into_small_array_gets_enobufs(void)
{
	struct blk_snap_cbt_info infos[2];
	uint32_t count = 1;

	track(&disk_a);
	track(&disk_b);
	memset(infos, POISON, sizeof(infos));
	EXPECT_ERR(collect(&count, infos), ENOBUFS);
	EXPECT_EQ(count, 2);
	EXPECT(is_filled_with(infos, POISON, sizeof(infos)));
}

static void test_collect_fills_no_more_than_there_is(void)
{
	struct blk_snap_cbt_info infos[4];
	uint32_t count = 4;

	track(&disk_a);
	memset(infos, POISON, sizeof(infos));
	ASSERT_OK(collect(&count, infos));
	EXPECT_EQ(count, 1);
	EXPECT(!memcmp(&infos[0].dev_id, &disk_a.id, sizeof(disk_a.id)));
	EXPECT(is_filled_with(&infos[1], POISON, 3 * sizeof(infos[0])));
}

static void test_collect_into_bad_array_gets_efault(void)
{
	uint32_t count = 10;

	track(&disk_a);
	EXPECT_ERR(collect(&count, bad_page), EFAULT);
	count = UINT32_MAX;
	EXPECT_ERR(collect(&count, bad_page), EFAULT);
}

static void test_collect_describes_the_device(void)
{
	struct blk_snap_cbt_info info;
	uint32_t size;

	track(&disk_a);
	ASSERT(tracker_info(&disk_a, &info));
	size = info.blk_size;
	EXPECT_EQ(info.device_capacity, DISK_MIB * MIB);
	EXPECT(size >= 4096 && !(size & (size - 1)));
	EXPECT_EQ(info.blk_count, (DISK_MIB * MIB + size - 1) / size);
	EXPECT(!is_filled_with(&info.generation_id, 0,
			       sizeof(info.generation_id)));
	EXPECT_EQ(info.snap_number, 0);
}

static void test_collect_leaves_no_byte_between_fields(void)
{
	struct blk_snap_cbt_info info;
	const char *bytes = (const char *)&info;
	const size_t hole = offsetof(struct blk_snap_cbt_info, blk_size) + 4;
	const size_t tail = offsetof(struct blk_snap_cbt_info, snap_number) + 1;
	uint32_t count = 1;

	track(&disk_a);
	memset(&info, POISON, sizeof(info));
	ASSERT_OK(collect(&count, &info));
	EXPECT(is_filled_with(bytes + hole, 0,
			      offsetof(struct blk_snap_cbt_info,
				       device_capacity) - hole));
	EXPECT(is_filled_with(bytes + tail, 0, sizeof(info) - tail));
}

#ifdef __x86_64__

/* Numbers of calls by programs of the x32 ABI, whose pointers have 32 bits. */
#define X32_GETPID (0x40000000 | SYS_getpid)
#define X32_IOCTL (0x40000000 | 514)

/* TRACKER_COLLECT as of 32-bit programs; the row has the layout of 64-bit ones. */
static void test_collect_serves_x32_programs(void)
{
	struct {
		uint32_t count, array;
	} *args;
	struct blk_snap_cbt_info info, *row;

	if (syscall(X32_GETPID) < 0) {
		ktap_skip("the kernel runs no x32 programs");
		return;
	}
	track(&disk_a);
	ASSERT(tracker_info(&disk_a, &info));
	args = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	ASSERT(args != MAP_FAILED);
	row = (void *)(args + 1);
	memset(row, POISON, 2 * sizeof(*row));
	args->count = 1;
	args->array = (uintptr_t)row;
	EXPECT_OK(syscall(X32_IOCTL, ctl, _IOC(_IOC_WRITE, BLK_SNAP, 2, sizeof(*args)), args));
	EXPECT_EQ(args->count, 1);
	EXPECT(!memcmp(row, &info, sizeof(info)));
	EXPECT(is_filled_with(row + 1, POISON, sizeof(*row)));
	munmap(args, 4096);
}

#endif

static void test_collect_counts_snapshots(void)
{
	struct blk_snap_cbt_info info;
	unsigned int i;

	for (i = 1; i <= 3; i++) {
		track_and_take(&disk_a);
		ASSERT(tracker_info(&disk_a, &info));
		EXPECT_EQ(info.snap_number, i);
	}
}

static void test_collect_keeps_row_of_vanished_device(void)
{
	struct blk_snap_cbt_info info;
	struct disk disk;

	ASSERT_OK(null_disk_create(&disk, "nullb3", DISK_MIB, NULL));
	track(&disk);
	null_disk_destroy(&disk);
	ASSERT(tracker_info(&disk, &info));
	EXPECT(is_filled_with((char *)&info + sizeof(info.dev_id), 0,
			      sizeof(info) - sizeof(info.dev_id)));
	EXPECT_OK(control_tracker_remove(ctl, disk.id));
	EXPECT_EQ(nr_tracked(), 0);
}

static void test_new_disk_of_an_old_number_is_not_tracked(void)
{
	struct blk_snap_cbt_info info;
	struct disk disk, again;
	uint8_t byte;

	ASSERT_OK(null_disk_create(&disk, "nullb3", DISK_MIB, NULL));
	track_and_take(&disk);
	null_disk_destroy(&disk);
	ASSERT_OK(null_disk_create(&again, "nullb3", DISK_MIB, NULL));
	if (memcmp(&disk.id, &again.id, sizeof(disk.id))) {
		ktap_skip("the kernel did not use the number again");
	} else {
		ASSERT(tracker_info(&again, &info));
		EXPECT_EQ(info.blk_count, 0);
		EXPECT(control_tracker_read_cbt_map(ctl, again.id, 0, 1,
						    &byte) <= 0);
	}
	null_disk_destroy(&again);
}

const struct ktap_test tracker_tests[] = {
	KTAP_TEST(test_remove_of_untracked_device_gets_enodata),
	KTAP_TEST(test_remove_ends_tracking),
	KTAP_TEST(test_remove_in_created_snapshot_gets_ebusy),
	KTAP_TEST(test_remove_in_taken_snapshot_gets_ebusy),
	KTAP_TEST(test_remove_does_not_touch_its_argument),
	KTAP_TEST(test_collect_without_array_tells_the_count),
	KTAP_TEST(test_collect_into_small_array_gets_enobufs),
	KTAP_TEST(test_collect_fills_no_more_than_there_is),
	KTAP_TEST(test_collect_into_bad_array_gets_efault),
	KTAP_TEST(test_collect_describes_the_device),
	KTAP_TEST(test_collect_leaves_no_byte_between_fields),
#ifdef __x86_64__
	KTAP_TEST(test_collect_serves_x32_programs),
#endif
	KTAP_TEST(test_collect_counts_snapshots),
	KTAP_TEST(test_collect_keeps_row_of_vanished_device),
	KTAP_TEST(test_new_disk_of_an_old_number_is_not_tracked),
	KTAP_END
};

/* --- TRACKER_READ_CBT_MAP --- */

static int read_cbt(const struct disk *disk, uint32_t offset, uint32_t length,
		    void *buffer)
{
	return control_tracker_read_cbt_map(ctl, disk->id, offset, length,
					    buffer);
}

static void test_map_of_untracked_device_gets_enodata(void)
{
	uint8_t byte;

	EXPECT_ERR(read_cbt(&disk_a, 0, 1, &byte), ENODATA);
}

static void test_map_before_first_take_gets_eperm(void)
{
	uint8_t byte;

	track(&disk_a);
	EXPECT_ERR(read_cbt(&disk_a, 0, 1, &byte), EPERM);
}

static void test_map_ends_with_zero(void)
{
	struct blk_snap_cbt_info info;
	uint8_t byte = POISON;

	track_and_take(&disk_a);
	ASSERT(tracker_info(&disk_a, &info));
	EXPECT_EQ(read_cbt(&disk_a, info.blk_count, 1, &byte), 0);
	EXPECT_EQ(read_cbt(&disk_a, info.blk_count, UINT32_MAX, &byte), 0);
	EXPECT_EQ(byte, POISON);
}

static void test_map_behind_its_end_gets_einval(void)
{
	struct blk_snap_cbt_info info;
	uint8_t byte = POISON;

	track_and_take(&disk_a);
	ASSERT(tracker_info(&disk_a, &info));
	EXPECT_ERR(read_cbt(&disk_a, info.blk_count + 1, 1, &byte), EINVAL);
	EXPECT_ERR(read_cbt(&disk_a, UINT32_MAX, 1, &byte), EINVAL);
	EXPECT_ERR(read_cbt(&disk_a, UINT32_MAX, UINT32_MAX, &byte), EINVAL);
	EXPECT_EQ(byte, POISON);
}

static void test_map_read_past_the_end_is_short(void)
{
	struct blk_snap_cbt_info info;
	uint8_t *buffer;
	uint32_t count;

	track_and_take(&disk_a);
	ASSERT(tracker_info(&disk_a, &info));
	count = info.blk_count;
	buffer = malloc(count + 100);
	memset(buffer, POISON, count + 100);
	EXPECT_EQ(read_cbt(&disk_a, 0, count + 100, buffer), count);
	EXPECT(is_filled_with(buffer, 0, count));
	EXPECT(is_filled_with(buffer + count, POISON, 100));
	memset(buffer, POISON, count + 100);
	EXPECT_EQ(read_cbt(&disk_a, count - 3, UINT32_MAX, buffer), 3);
	EXPECT(is_filled_with(buffer + 3, POISON, count + 97));
	free(buffer);
}

static void test_map_read_of_nothing_copies_nothing(void)
{
	uint8_t byte = POISON;

	track_and_take(&disk_a);
	EXPECT_EQ(read_cbt(&disk_a, 0, 0, &byte), 0);
	EXPECT_EQ(byte, POISON);
}

static void test_map_into_bad_buffer_gets_efault(void)
{
	track_and_take(&disk_a);
	EXPECT_ERR(read_cbt(&disk_a, 0, 8, bad_page), EFAULT);
	EXPECT_ERR(read_cbt(&disk_a, 0, 8, NULL), EFAULT);
}

static void test_map_into_half_bad_buffer_is_short(void)
{
	uint8_t *edge = (uint8_t *)bad_page - 100;
	int ret;

	track_and_take(&disk_a);
	memset(edge, POISON, 100);
	ret = read_cbt(&disk_a, 0, 200, edge);
	EXPECT(ret > 0 && ret <= 100);
	if (ret > 0 && ret <= 100)
		EXPECT(is_filled_with(edge, 0, ret));
}

static void test_map_does_not_touch_its_argument(void)
{
	struct blk_snap_tracker_read_cbt_bitmap arg, before;
	uint8_t byte;

	track_and_take(&disk_a);
	memset(&arg, POISON, sizeof(arg));
	arg.dev_id = disk_a.id;
	arg.offset = 0;
	arg.length = 1;
	arg.buff = &byte;
	before = arg;
	EXPECT_EQ(ctl_call(IOCTL_BLK_SNAP_TRACKER_READ_CBT_MAP, &arg), 1);
	EXPECT(!memcmp(&arg, &before, sizeof(arg)));
}

static void test_map_names_the_interval_of_a_write(void)
{
	track(&disk_a);
	ASSERT(fill_direct(disk_a.path, 1, 4096, 0));
	track_and_take(&disk_a);
	EXPECT_EQ(map_byte(&disk_a, 0), 1);
	EXPECT_EQ(nr_marked(&disk_a), 1);
	ASSERT(fill_direct(disk_a.path, 2, 512, 8 * MIB));
	EXPECT_EQ(map_byte(&disk_a, 8 * MIB), 0);
	track_and_take(&disk_a);
	EXPECT_EQ(map_byte(&disk_a, 8 * MIB), 2);
	EXPECT_EQ(map_byte(&disk_a, 0), 1);
	EXPECT_EQ(nr_marked(&disk_a), 2);
}

static void test_map_takes_in_writes_while_a_snapshot_is_held(void)
{
	struct snapshot snapshot;

	snapshot_now(&snapshot, &disk_a, &disk_s);
	ASSERT(fill_direct(disk_a.path, 1, 512, 4 * MIB));
	EXPECT_EQ(nr_marked(&disk_a), 0);
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	track_and_take(&disk_a);
	EXPECT_EQ(map_byte(&disk_a, 4 * MIB), 2);
}

static void test_map_shows_image_writes_at_once(void)
{
	struct snapshot snapshot;

	snapshot_now(&snapshot, &disk_a, &disk_s);
	ASSERT(fill_direct(image_of(&snapshot, &disk_a), 1, 4096, 4 * MIB));
	EXPECT_EQ(map_byte(&disk_a, 4 * MIB), 1);
	EXPECT_EQ(nr_marked(&disk_a), 1);
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	track_and_take(&disk_a);
	EXPECT_EQ(map_byte(&disk_a, 4 * MIB), 2);
}

static void test_map_covers_every_block_that_a_write_touches(void)
{
	struct blk_snap_cbt_info info;

	track(&disk_a);
	ASSERT(tracker_info(&disk_a, &info));
	ASSERT(fill_direct(disk_a.path, 1, 1024, 5 * info.blk_size - 512));
	track_and_take(&disk_a);
	EXPECT_EQ(map_byte(&disk_a, 4 * info.blk_size), 1);
	EXPECT_EQ(map_byte(&disk_a, 5 * info.blk_size), 1);
	EXPECT_EQ(nr_marked(&disk_a), 2);
}

static void test_map_of_partition_sees_writes_through_the_disk(void)
{
	struct disk part;

	ASSERT_OK(partition_add(&disk_a, &part, 2048, 8192));
	track(&part);
	ASSERT(fill_direct(disk_a.path, 1, 512, (2048 + 256) * 512));
	ASSERT(fill_direct(disk_a.path, 1, 512, 2047 * 512));
	ASSERT(fill_direct(disk_a.path, 1, 512, (2048 + 8192) * 512));
	track_and_take(&part);
	EXPECT_EQ(map_byte(&part, 256 * 512), 1);
	EXPECT_EQ(nr_marked(&part), 1);
	ASSERT_OK(control_tracker_remove(ctl, part.id));
	partition_del_all(&disk_a);
}

static void test_map_of_partition_has_all_that_a_write_across_its_edge_touches(void)
{
	const uint64_t start = 2048 * 512, length = 8192 * 512;
	struct blk_snap_cbt_info info;
	struct disk part;

	ASSERT_OK(partition_add(&disk_a, &part, start / 512, length / 512));
	track(&part);
	ASSERT(tracker_info(&part, &info));
	ASSERT(fill_direct(disk_a.path, 1, 512 + 2 * info.blk_size, start - 512));
	ASSERT(fill_direct(disk_a.path, 1, 512 + 3 * info.blk_size,
			   start + length - 3 * info.blk_size));
	track_and_take(&part);
	EXPECT_EQ(map_byte(&part, 0), 1);
	EXPECT_EQ(map_byte(&part, info.blk_size), 1);
	EXPECT_EQ(map_byte(&part, length - 3 * info.blk_size), 1);
	EXPECT_EQ(map_byte(&part, length - info.blk_size), 1);
	EXPECT_EQ(nr_marked(&part), 5);
	ASSERT_OK(control_tracker_remove(ctl, part.id));
	partition_del_all(&disk_a);
}

static void test_map_of_disk_sees_writes_through_the_partition(void)
{
	struct disk part;

	ASSERT_OK(partition_add(&disk_a, &part, 2048, 8192));
	track(&disk_a);
	ASSERT(fill_direct(part.path, 1, 512, 256 * 512));
	track_and_take(&disk_a);
	EXPECT_EQ(map_byte(&disk_a, (2048 + 256) * 512), 1);
	EXPECT_EQ(nr_marked(&disk_a), 1);
	partition_del_all(&disk_a);
}

const struct ktap_test map_tests[] = {
	KTAP_TEST(test_map_of_untracked_device_gets_enodata),
	KTAP_TEST(test_map_before_first_take_gets_eperm),
	KTAP_TEST(test_map_ends_with_zero),
	KTAP_TEST(test_map_behind_its_end_gets_einval),
	KTAP_TEST(test_map_read_past_the_end_is_short),
	KTAP_TEST(test_map_read_of_nothing_copies_nothing),
	KTAP_TEST(test_map_into_bad_buffer_gets_efault),
	KTAP_TEST(test_map_into_half_bad_buffer_is_short),
	KTAP_TEST(test_map_does_not_touch_its_argument),
	KTAP_TEST(test_map_names_the_interval_of_a_write),
	KTAP_TEST(test_map_takes_in_writes_while_a_snapshot_is_held),
	KTAP_TEST(test_map_shows_image_writes_at_once),
	KTAP_TEST(test_map_covers_every_block_that_a_write_touches),
	KTAP_TEST(test_map_of_partition_sees_writes_through_the_disk),
	KTAP_TEST(test_map_of_partition_has_all_that_a_write_across_its_edge_touches),
	KTAP_TEST(test_map_of_disk_sees_writes_through_the_partition),
	KTAP_END
};

/* --- TRACKER_MARK_DIRTY_BLOCKS --- */

static int mark(struct blk_snap_dev dev, uint64_t sector, uint64_t nr_sectors)
{
	struct blk_snap_block_range range = { sector, nr_sectors };

	return control_tracker_mark_dirty_blocks(ctl, dev, &range, 1);
}

static void test_mark_of_untracked_device_gets_enodev(void)
{
	EXPECT_ERR(mark(disk_a.id, 0, 1), ENODEV);
	EXPECT_ERR(mark(unknown_dev, 0, 1), ENODEV);
}

static void test_mark_of_nothing_succeeds(void)
{
	track(&disk_a);
	EXPECT_EQ(control_tracker_mark_dirty_blocks(ctl, disk_a.id, NULL, 0), 0);
}

static void test_mark_of_empty_range_gets_einval(void)
{
	track_and_take(&disk_a);
	EXPECT_ERR(mark(disk_a.id, 0, 0), EINVAL);
	EXPECT_ERR(mark(disk_a.id, DISK_SECTORS, 0), EINVAL);
	EXPECT_EQ(nr_marked(&disk_a), 0);
}

static void test_mark_outside_the_device_gets_einval(void)
{
	track_and_take(&disk_a);
	EXPECT_ERR(mark(disk_a.id, DISK_SECTORS, 1), EINVAL);
	EXPECT_ERR(mark(disk_a.id, DISK_SECTORS - 1, 2), EINVAL);
	EXPECT_ERR(mark(disk_a.id, 0, DISK_SECTORS + 1), EINVAL);
	EXPECT_ERR(mark(disk_a.id, 8, UINT64_MAX - 4), EINVAL);
	EXPECT_ERR(mark(disk_a.id, UINT64_MAX, 2), EINVAL);
	EXPECT_ERR(mark(disk_a.id, 1ULL << 55, 1ULL << 55), EINVAL);
	EXPECT_EQ(nr_marked(&disk_a), 0);
}

static void test_mark_checks_all_ranges_before_the_first(void)
{
	struct blk_snap_block_range ranges[] = {
		{ 0, 8 }, { 4096, 8 }, { DISK_SECTORS, 8 },
	};

	track_and_take(&disk_a);
	EXPECT_ERR(control_tracker_mark_dirty_blocks(ctl, disk_a.id, ranges, 3),
		   EINVAL);
	EXPECT_EQ(nr_marked(&disk_a), 0);
}

static void test_mark_with_bad_array_gets_efault(void)
{
	struct blk_snap_block_range *edge = bad_page;

	track_and_take(&disk_a);
	EXPECT_ERR(control_tracker_mark_dirty_blocks(ctl, disk_a.id, edge, 1),
		   EFAULT);
	EXPECT_ERR(control_tracker_mark_dirty_blocks(ctl, disk_a.id, NULL, 1),
		   EFAULT);
	edge[-1] = (struct blk_snap_block_range) { 0, 8 };
	EXPECT_ERR(control_tracker_mark_dirty_blocks(ctl, disk_a.id, edge - 1,
						     2), EFAULT);
	EXPECT(control_tracker_mark_dirty_blocks(ctl, disk_a.id, edge - 1,
						 UINT32_MAX) < 0);
	EXPECT_EQ(nr_marked(&disk_a), 0);
}

static void test_mark_lands_in_both_maps(void)
{
	track_and_take(&disk_a);
	track_and_take(&disk_a);
	EXPECT_OK(mark(disk_a.id, 4 * MIB / 512, 1));
	EXPECT_EQ(map_byte(&disk_a, 4 * MIB), 2);
	EXPECT_EQ(nr_marked(&disk_a), 1);
	track_and_take(&disk_a);
	EXPECT_EQ(map_byte(&disk_a, 4 * MIB), 3);
	EXPECT_EQ(nr_marked(&disk_a), 1);
}

static void test_mark_works_before_the_first_take(void)
{
	track(&disk_a);
	EXPECT_OK(mark(disk_a.id, 0, 1));
	track_and_take(&disk_a);
	EXPECT_EQ(map_byte(&disk_a, 0), 1);
}

static void test_mark_works_while_a_snapshot_is_held(void)
{
	struct snapshot snapshot;

	snapshot_now(&snapshot, &disk_a, &disk_s);
	EXPECT_OK(mark(disk_a.id, DISK_SECTORS - 1, 1));
	EXPECT_EQ(map_byte(&disk_a, DISK_MIB * MIB - 1), 1);
	EXPECT_EQ(nr_marked(&disk_a), 1);
}

static void test_mark_of_image_means_its_origin(void)
{
	struct snapshot snapshot;

	snapshot_now(&snapshot, &disk_a, &disk_s);
	EXPECT_OK(mark(snapshot.images[0].id, 4 * MIB / 512, 8));
	EXPECT_EQ(map_byte(&disk_a, 4 * MIB), 1);
	EXPECT_ERR(mark(snapshot.images[0].id, DISK_SECTORS, 1), EINVAL);
	EXPECT_ERR(mark(snapshot.images[0].id, 0, 0), EINVAL);
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	EXPECT_ERR(mark(snapshot.images[0].id, 0, 1), ENODEV);
	track_and_take(&disk_a);
	EXPECT_EQ(map_byte(&disk_a, 4 * MIB), 2);
}

static void test_mark_takes_many_ranges(void)
{
	struct blk_snap_block_range ranges[2000];
	unsigned int i;

	track_and_take(&disk_a);
	for (i = 0; i < ARRAY_SIZE(ranges); i++)
		ranges[i] = (struct blk_snap_block_range) {
			i * 16, i % 16 + 1,
		};
	EXPECT_OK(control_tracker_mark_dirty_blocks(ctl, disk_a.id, ranges,
						    ARRAY_SIZE(ranges)));
	EXPECT_EQ(map_byte(&disk_a, 0), 1);
	EXPECT_EQ(map_byte(&disk_a, 1999 * 16 * 512), 1);
}

static void test_mark_does_not_touch_its_argument(void)
{
	struct blk_snap_tracker_mark_dirty_blocks arg, before;
	struct blk_snap_block_range range = { 0, 1 };

	track_and_take(&disk_a);
	memset(&arg, POISON, sizeof(arg));
	arg.dev_id = disk_a.id;
	arg.count = 1;
	arg.dirty_blocks_array = &range;
	memcpy(&before, &arg, sizeof(arg));
	EXPECT_OK(ctl_call(IOCTL_BLK_SNAP_TRACKER_MARK_DIRTY_BLOCKS, &arg));
	EXPECT(!memcmp(&arg, &before, sizeof(arg)));
}

const struct ktap_test mark_tests[] = {
	KTAP_TEST(test_mark_of_untracked_device_gets_enodev),
	KTAP_TEST(test_mark_of_nothing_succeeds),
	KTAP_TEST(test_mark_of_empty_range_gets_einval),
	KTAP_TEST(test_mark_outside_the_device_gets_einval),
	KTAP_TEST(test_mark_checks_all_ranges_before_the_first),
	KTAP_TEST(test_mark_with_bad_array_gets_efault),
	KTAP_TEST(test_mark_lands_in_both_maps),
	KTAP_TEST(test_mark_works_before_the_first_take),
	KTAP_TEST(test_mark_works_while_a_snapshot_is_held),
	KTAP_TEST(test_mark_of_image_means_its_origin),
	KTAP_TEST(test_mark_takes_many_ranges),
	KTAP_TEST(test_mark_does_not_touch_its_argument),
	KTAP_END
};
