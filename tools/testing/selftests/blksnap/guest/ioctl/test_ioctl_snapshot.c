// SPDX-License-Identifier: GPL-2.0
/*
 * The ioctls that make, extend, take and destroy snapshots
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "test_ioctl.h"

static int create(const struct blk_snap_dev *devs, unsigned int nr_devs)
{
	struct blk_snap_uuid id;

	return control_snapshot_create(ctl, devs, nr_devs, &id);
}

/* Nothing may be left of a create that failed. */
static void expect_nothing_created(void)
{
	EXPECT_EQ(nr_snapshots(), 0);
	EXPECT_EQ(nr_tracked(), 0);
}

/* --- SNAPSHOT_CREATE --- */

static void test_create_starts_tracking(void)
{
	struct snapshot snapshot;

	snapshot_create(&snapshot, &disk_a);
	EXPECT_EQ(nr_snapshots(), 1);
	EXPECT_EQ(nr_tracked(), 1);
	EXPECT(!is_filled_with(&snapshot.id, 0, sizeof(snapshot.id)));
}

static void test_create_answers_with_the_id_alone(void)
{
	struct blk_snap_snapshot_create arg;
	struct blk_snap_uuid id;
	uint32_t count = 1;

	memset(&arg, POISON, sizeof(arg));
	arg.count = 1;
	arg.dev_id_array = &disk_a.id;
	ASSERT_OK(ctl_call(IOCTL_BLK_SNAP_SNAPSHOT_CREATE, &arg));
	EXPECT_EQ(arg.count, 1);
	EXPECT(arg.dev_id_array == &disk_a.id);
	EXPECT(is_filled_with((char *)&arg + 4, 0,
			      offsetof(struct blk_snap_snapshot_create,
				       dev_id_array) - 4));
	ASSERT_OK(ctl_call(IOCTL_BLK_SNAP_SNAPSHOT_COLLECT,
			   &(struct blk_snap_snapshot_collect) { count, &id }));
	EXPECT(!memcmp(&id, &arg.id, sizeof(id)));
}

static void test_create_of_nothing_gets_einval(void)
{
	EXPECT_ERR(create(&disk_a.id, 0), EINVAL);
	EXPECT_ERR(create(NULL, 0), EINVAL);
	expect_nothing_created();
}

static void test_create_of_a_device_twice_gets_einval(void)
{
	const struct blk_snap_dev devs[] = { disk_a.id, disk_b.id, disk_a.id };

	EXPECT_ERR(create(devs, 3), EINVAL);
	expect_nothing_created();
}

static void test_create_in_two_snapshots_gets_ealready(void)
{
	const struct blk_snap_dev devs[] = { disk_b.id, disk_a.id };
	struct snapshot snapshot;

	snapshot_create(&snapshot, &disk_a);
	EXPECT_ERR(create(&disk_a.id, 1), EALREADY);
	EXPECT_ERR(create(devs, 2), EALREADY);
	EXPECT_EQ(nr_snapshots(), 1);
	EXPECT_EQ(nr_tracked(), 1);
	ASSERT_OK(append_range(&snapshot, &disk_s, 2048, 2048));
	snapshot_take(&snapshot);
	EXPECT_ERR(create(&disk_a.id, 1), EALREADY);
}

static void expect_no_such_device(struct blk_snap_dev dev)
{
	const struct blk_snap_dev devs[] = { disk_a.id, dev };
	int ret = create(&dev, 1);

	EXPECT(ret == -ENODEV || ret == -ENXIO);
	ret = create(devs, 2);
	EXPECT(ret == -ENODEV || ret == -ENXIO);
}

static void test_create_of_no_device_gets_enodev(void)
{
	expect_no_such_device(unknown_dev);
	expect_no_such_device((struct blk_snap_dev) { 0, 0 });
	expect_no_such_device((struct blk_snap_dev) { UINT32_MAX, UINT32_MAX });
	expect_nothing_created();
}

/* A device number has 12 and 20 bits, the fields have 32. */
static void test_create_does_not_cut_device_numbers(void)
{
	struct blk_snap_dev dev = disk_a.id;

	dev.mj += 1 << 12;
	expect_no_such_device(dev);
	dev = disk_a.id;
	dev.mn += 1 << 20;
	expect_no_such_device(dev);
	dev.mj--;
	expect_no_such_device(dev);
	expect_nothing_created();
}

static void test_create_with_bad_array_gets_efault(void)
{
	struct blk_snap_dev *edge = bad_page;

	EXPECT_ERR(create(bad_page, 1), EFAULT);
	EXPECT_ERR(create(NULL, 1), EFAULT);
	edge[-1] = disk_a.id;
	EXPECT_ERR(create(edge - 1, 2), EFAULT);
	EXPECT(create(edge - 1, UINT32_MAX) < 0);
	EXPECT(create(edge - 1, 1 << 29) < 0);
	expect_nothing_created();
}

static void test_create_that_cannot_answer_leaves_nothing(void)
{
	struct blk_snap_snapshot_create *arg;

	arg = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT(arg != MAP_FAILED);
	arg->count = 1;
	arg->dev_id_array = &disk_a.id;
	ASSERT_OK(mprotect(arg, 4096, PROT_READ));
	EXPECT_ERR(ctl_call(IOCTL_BLK_SNAP_SNAPSHOT_CREATE, arg), EFAULT);
	munmap(arg, 4096);
	expect_nothing_created();
}

static void test_create_of_zoned_device_gets_eopnotsupp(void)
{
	const struct null_disk_options zoned = { .is_zoned = true };
	struct disk disk;

	if (null_disk_create(&disk, "nullb3", DISK_MIB, &zoned)) {
		ktap_skip("this kernel has no zoned null_blk");
		return;
	}
	EXPECT_ERR(create(&disk.id, 1), EOPNOTSUPP);
	expect_nothing_created();
	null_disk_destroy(&disk);
}

static void test_snapshots_of_different_devices_coexist(void)
{
	struct snapshot first, second;

	ASSERT(fill_direct(disk_a.path, 0x11, 4096, 0));
	ASSERT(fill_direct(disk_b.path, 0x22, 4096, 0));
	snapshot_create(&first, &disk_a);
	snapshot_create(&second, &disk_b);
	ASSERT_OK(append_range(&first, &disk_s, 2048, 4096));
	ASSERT_OK(append_range(&second, &disk_s, 6144, 4096));
	snapshot_take(&first);
	snapshot_take(&second);
	ASSERT(fill_direct(disk_a.path, 0x33, 4096, 0));
	ASSERT(fill_direct(disk_b.path, 0x44, 4096, 0));
	EXPECT(reads_as(image_of(&first, &disk_a), 0x11, 4096, 0));
	EXPECT(reads_as(image_of(&second, &disk_b), 0x22, 4096, 0));
	ASSERT_OK(control_snapshot_destroy(ctl, &first.id));
	EXPECT(reads_as(image_of(&second, &disk_b), 0x22, 4096, 0));
}

static void test_disk_and_its_partition_make_one_snapshot(void)
{
	const struct disk *members[2] = { &disk_a };
	struct snapshot snapshot;
	struct disk part;

	ASSERT_OK(partition_add(&disk_a, &part, 2048, 8192));
	members[1] = &part;
	ASSERT(fill_direct(part.path, 0x11, 4096, 0));
	snapshot_create_of(&snapshot, members, 2);
	ASSERT_OK(append_range(&snapshot, &disk_s, 0, 8192));
	snapshot_take(&snapshot);
	ASSERT(fill_direct(disk_a.path, 0x22, 4096, 2048 * 512));
	EXPECT(reads_as(image_of(&snapshot, &part), 0x11, 4096, 0));
	EXPECT(reads_as(image_of(&snapshot, &disk_a), 0x11, 4096, 2048 * 512));
	EXPECT(reads_as(part.path, 0x22, 4096, 0));
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	ASSERT_OK(control_tracker_remove(ctl, part.id));
	partition_del_all(&disk_a);
}

const struct ktap_test create_tests[] = {
	KTAP_TEST(test_create_starts_tracking),
	KTAP_TEST(test_create_answers_with_the_id_alone),
	KTAP_TEST(test_create_of_nothing_gets_einval),
	KTAP_TEST(test_create_of_a_device_twice_gets_einval),
	KTAP_TEST(test_create_in_two_snapshots_gets_ealready),
	KTAP_TEST(test_create_of_no_device_gets_enodev),
	KTAP_TEST(test_create_does_not_cut_device_numbers),
	KTAP_TEST(test_create_with_bad_array_gets_efault),
	KTAP_TEST(test_create_that_cannot_answer_leaves_nothing),
	KTAP_TEST(test_create_of_zoned_device_gets_eopnotsupp),
	KTAP_TEST(test_snapshots_of_different_devices_coexist),
	KTAP_TEST(test_disk_and_its_partition_make_one_snapshot),
	KTAP_END
};

/* --- SNAPSHOT_APPEND_STORAGE --- */

static int append(const struct snapshot *snapshot,
		  const struct blk_snap_block_range *ranges,
		  unsigned int nr_ranges)
{
	return control_snapshot_append_storage(ctl, &snapshot->id, disk_s.id,
					       ranges, nr_ranges);
}

static void test_append_to_unknown_snapshot_gets_esrch(void)
{
	const struct snapshot unknown = { .id = unknown_id };

	EXPECT_ERR(append_range(&unknown, &disk_s, 0, 2048), ESRCH);
}

static void test_append_of_nothing_changes_nothing(void)
{
	struct snapshot snapshot;

	snapshot_create(&snapshot, &disk_a);
	EXPECT_EQ(append(&snapshot, NULL, 0), 0);
	EXPECT_ERR(control_snapshot_take(ctl, &snapshot.id), EFAULT);
}

static void test_append_of_empty_range_gets_einval(void)
{
	struct snapshot snapshot;

	snapshot_create(&snapshot, &disk_a);
	EXPECT_ERR(append_range(&snapshot, &disk_s, 0, 0), EINVAL);
	EXPECT_ERR(append_range(&snapshot, &disk_s, DISK_SECTORS, 0), EINVAL);
}

static void test_append_beyond_the_end_gets_einval(void)
{
	struct snapshot snapshot;

	snapshot_create(&snapshot, &disk_a);
	EXPECT_ERR(append_range(&snapshot, &disk_s, DISK_SECTORS, 8), EINVAL);
	EXPECT_ERR(append_range(&snapshot, &disk_s, DISK_SECTORS - 8, 16),
		   EINVAL);
	EXPECT_ERR(append_range(&snapshot, &disk_s, 0, DISK_SECTORS + 8),
		   EINVAL);
	EXPECT_ERR(append_range(&snapshot, &disk_s, 8, UINT64_MAX - 7), EINVAL);
	EXPECT_ERR(append_range(&snapshot, &disk_s, UINT64_MAX - 7, 16), EINVAL);
	EXPECT_ERR(append_range(&snapshot, &disk_s, 0, 1ULL << 55), EINVAL);
	EXPECT_OK(append_range(&snapshot, &disk_s, DISK_SECTORS - 8, 8));
}

/* Which the suite has the kernel do, where it can (6.8). */
static void test_append_of_mounted_device_may_be_forbidden(void)
{
	struct snapshot snapshot;
	int fd;

	log_clear();
	if (shell("mkfs.ext4 -q %s && mkdir -p /tmp/mnt && mount -t ext4 %s /tmp/mnt",
		  disk_s.path, disk_s.path)) {
		ktap_skip("no ext4 to mount");
		return;
	}
	fd = open(disk_s.path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0) {
		close(fd);
		ktap_skip("the kernel forbids nobody to write to what is mounted");
	} else {
		snapshot_create(&snapshot, &disk_a);
		EXPECT_ERR(append_range(&snapshot, &disk_s, 2048, 2048), EBUSY);
		EXPECT_EQ(count_in_log("bdev_allow_write_mounted=0"), 1);
	}
	shell("umount /tmp/mnt");
}

static void test_append_of_overlapping_range_gets_einval(void)
{
	struct snapshot snapshot;

	snapshot_create(&snapshot, &disk_a);
	ASSERT_OK(append_range(&snapshot, &disk_s, 1024, 1024));
	EXPECT_ERR(append_range(&snapshot, &disk_s, 1024, 1024), EINVAL);
	EXPECT_ERR(append_range(&snapshot, &disk_s, 1016, 16), EINVAL);
	EXPECT_ERR(append_range(&snapshot, &disk_s, 2040, 16), EINVAL);
	EXPECT_ERR(append_range(&snapshot, &disk_s, 0, 4096), EINVAL);
	EXPECT_ERR(append_range(&snapshot, &disk_s, 1200, 8), EINVAL);
	EXPECT_OK(append_range(&snapshot, &disk_s, 0, 1024));
	EXPECT_OK(append_range(&snapshot, &disk_s, 2048, 1024));
}

static void test_append_of_ranges_that_overlap_each_other_gets_einval(void)
{
	const struct blk_snap_block_range ranges[] = {
		{ 0, 1024 }, { 4096, 1024 }, { 1016, 16 },
	};
	struct snapshot snapshot;

	snapshot_create(&snapshot, &disk_a);
	EXPECT_ERR(append(&snapshot, ranges, 3), EINVAL);
	EXPECT_OK(append(&snapshot, ranges, 2));
}

static void test_append_of_range_of_another_snapshot_gets_einval(void)
{
	struct snapshot first, second;

	snapshot_create(&first, &disk_a);
	snapshot_create(&second, &disk_b);
	ASSERT_OK(append_range(&first, &disk_s, 0, 2048));
	EXPECT_ERR(append_range(&second, &disk_s, 1024, 2048), EINVAL);
	EXPECT_OK(append_range(&second, &disk_s, 2048, 2048));
	ASSERT_OK(control_snapshot_destroy(ctl, &first.id));
	EXPECT_OK(append_range(&second, &disk_s, 0, 2048));
}

static void test_append_sees_overlap_of_disk_and_partition(void)
{
	struct snapshot snapshot;
	struct disk part;

	ASSERT_OK(partition_add(&disk_s, &part, 2048, 8192));
	snapshot_create(&snapshot, &disk_a);
	ASSERT_OK(append_range(&snapshot, &part, 0, 1024));
	EXPECT_ERR(append_range(&snapshot, &disk_s, 2048, 8), EINVAL);
	EXPECT_ERR(append_range(&snapshot, &disk_s, 3064, 8), EINVAL);
	EXPECT_OK(append_range(&snapshot, &disk_s, 0, 2048));
	EXPECT_OK(append_range(&snapshot, &disk_s, 3072, 1024));
	EXPECT_ERR(append_range(&snapshot, &part, 1024, 8), EINVAL);
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	partition_del_all(&disk_s);
}

static void test_append_of_read_only_device_gets_erofs(void)
{
	struct snapshot snapshot;
	int is_read_only = 1;
	struct disk disk;
	int fd;

	ASSERT_OK(null_disk_create(&disk, "nullb3", DISK_MIB, NULL));
	fd = ASSERT_OK(open(disk.path, O_RDONLY | O_CLOEXEC));
	ASSERT_OK(ioctl(fd, BLKROSET, &is_read_only));
	snapshot_create(&snapshot, &disk_a);
	EXPECT_ERR(append_range(&snapshot, &disk, 0, 8), EROFS);
	is_read_only = 0;
	EXPECT_OK(ioctl(fd, BLKROSET, &is_read_only));
	EXPECT_OK(append_range(&snapshot, &disk, 0, 8));
	close(fd);
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	null_disk_destroy(&disk);
}

static void test_append_that_is_not_aligned_gets_einval(void)
{
	const struct null_disk_options big = { .block_bytes = 4096 };
	struct disk origin, disk;
	struct snapshot snapshot;

	ASSERT_OK(null_disk_create(&origin, "nullb3", DISK_MIB, &big));
	ASSERT_OK(null_disk_create(&disk, "nullb4", DISK_MIB, &big));
	snapshot_create(&snapshot, &origin);
	EXPECT_ERR(append_range(&snapshot, &disk, 1, 8), EINVAL);
	EXPECT_ERR(append_range(&snapshot, &disk, 8, 9), EINVAL);
	EXPECT_ERR(append_range(&snapshot, &disk, 4, 16), EINVAL);
	EXPECT_OK(append_range(&snapshot, &disk, 8, 8));
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	ASSERT_OK(control_tracker_remove(ctl, origin.id));
	null_disk_destroy(&disk);
	null_disk_destroy(&origin);
}

static void test_append_of_larger_blocks_gets_einval(void)
{
	const struct null_disk_options big = { .block_bytes = 4096 };
	struct snapshot snapshot;
	struct disk disk;

	ASSERT_OK(null_disk_create(&disk, "nullb3", DISK_MIB, &big));
	snapshot_create(&snapshot, &disk_a);
	EXPECT_ERR(append_range(&snapshot, &disk, 8, 8), EINVAL);
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	null_disk_destroy(&disk);
}

static void test_append_adds_all_ranges_or_none(void)
{
	const struct blk_snap_block_range ranges[] = {
		{ 0, 1024 }, { 4096, 1024 }, { DISK_SECTORS, 1024 },
	};
	struct snapshot snapshot;

	snapshot_create(&snapshot, &disk_a);
	EXPECT_ERR(append(&snapshot, ranges, 3), EINVAL);
	EXPECT_ERR(control_snapshot_take(ctl, &snapshot.id), EFAULT);
	EXPECT_OK(append(&snapshot, ranges, 2));
}

static void test_append_of_no_device_fails(void)
{
	const struct disk unknown = { .id = unknown_dev };
	struct snapshot snapshot;
	int ret;

	snapshot_create(&snapshot, &disk_a);
	ret = append_range(&snapshot, &unknown, 0, 1024);
	EXPECT(ret == -ENODEV || ret == -ENXIO);
}

static void test_append_with_bad_array_gets_efault(void)
{
	struct blk_snap_block_range *edge = bad_page;
	struct snapshot snapshot;

	snapshot_create(&snapshot, &disk_a);
	EXPECT_ERR(append(&snapshot, bad_page, 1), EFAULT);
	EXPECT_ERR(append(&snapshot, NULL, 1), EFAULT);
	edge[-1] = (struct blk_snap_block_range) { 0, 1024 };
	EXPECT_ERR(append(&snapshot, edge - 1, 2), EFAULT);
	EXPECT(append(&snapshot, edge - 1, UINT32_MAX) < 0);
	EXPECT_ERR(control_snapshot_take(ctl, &snapshot.id), EFAULT);
}

static void test_append_works_before_and_after_the_take(void)
{
	struct snapshot snapshot;

	ASSERT(fill_direct(disk_a.path, 0x11, DISK_MIB * MIB, 0));
	snapshot_create(&snapshot, &disk_a);
	ASSERT_OK(append_range(&snapshot, &disk_s, 2048, 2048));
	snapshot_take(&snapshot);
	EXPECT_OK(append_range(&snapshot, &disk_s, 4096, 4 * 2048));
	ASSERT(fill_direct(disk_a.path, 0x22, 4 * MIB, 0));
	EXPECT(reads_as(image_of(&snapshot, &disk_a), 0x11, 4 * MIB, 0));
}

static void test_append_does_not_touch_its_argument(void)
{
	struct blk_snap_snapshot_append_storage arg, before;
	struct blk_snap_block_range range = { 0, 1024 };
	struct snapshot snapshot;

	snapshot_create(&snapshot, &disk_a);
	memset(&arg, POISON, sizeof(arg));
	arg.id = snapshot.id;
	arg.dev_id = disk_s.id;
	arg.count = 1;
	arg.ranges = &range;
	memcpy(&before, &arg, sizeof(arg));
	EXPECT_OK(ctl_call(IOCTL_BLK_SNAP_SNAPSHOT_APPEND_STORAGE, &arg));
	EXPECT(!memcmp(&arg, &before, sizeof(arg)));
}

const struct ktap_test append_tests[] = {
	KTAP_TEST(test_append_to_unknown_snapshot_gets_esrch),
	KTAP_TEST(test_append_of_nothing_changes_nothing),
	KTAP_TEST(test_append_of_empty_range_gets_einval),
	KTAP_TEST(test_append_beyond_the_end_gets_einval),
	KTAP_TEST(test_append_of_mounted_device_may_be_forbidden),
	KTAP_TEST(test_append_of_overlapping_range_gets_einval),
	KTAP_TEST(test_append_of_ranges_that_overlap_each_other_gets_einval),
	KTAP_TEST(test_append_of_range_of_another_snapshot_gets_einval),
	KTAP_TEST(test_append_sees_overlap_of_disk_and_partition),
	KTAP_TEST(test_append_of_read_only_device_gets_erofs),
	KTAP_TEST(test_append_that_is_not_aligned_gets_einval),
	KTAP_TEST(test_append_of_larger_blocks_gets_einval),
	KTAP_TEST(test_append_adds_all_ranges_or_none),
	KTAP_TEST(test_append_of_no_device_fails),
	KTAP_TEST(test_append_with_bad_array_gets_efault),
	KTAP_TEST(test_append_works_before_and_after_the_take),
	KTAP_TEST(test_append_does_not_touch_its_argument),
	KTAP_END
};

/* --- SNAPSHOT_TAKE --- */

static void test_take_of_unknown_snapshot_gets_esrch(void)
{
	EXPECT_ERR(control_snapshot_take(ctl, &unknown_id), ESRCH);
}

static void test_take_twice_gets_ealready(void)
{
	struct blk_snap_cbt_info info;
	struct snapshot snapshot;

	snapshot_now(&snapshot, &disk_a, &disk_s);
	EXPECT_ERR(control_snapshot_take(ctl, &snapshot.id), EALREADY);
	ASSERT(tracker_info(&disk_a, &info));
	EXPECT_EQ(info.snap_number, 1);
}

static void test_take_without_storage_gets_efault(void)
{
	struct blk_snap_cbt_info info;
	struct snapshot snapshot;

	snapshot_create(&snapshot, &disk_a);
	EXPECT_ERR(control_snapshot_take(ctl, &snapshot.id), EFAULT);
	ASSERT(tracker_info(&disk_a, &info));
	EXPECT_EQ(info.snap_number, 0);
	ASSERT_OK(append_range(&snapshot, &disk_s, 2048, 2048));
	EXPECT_OK(control_snapshot_take(ctl, &snapshot.id));
}

static void test_take_does_not_touch_its_argument(void)
{
	struct blk_snap_snapshot_take arg;
	struct snapshot snapshot;

	snapshot_create(&snapshot, &disk_a);
	ASSERT_OK(append_range(&snapshot, &disk_s, 2048, 2048));
	arg.id = snapshot.id;
	ASSERT_OK(ctl_call(IOCTL_BLK_SNAP_SNAPSHOT_TAKE, &arg));
	EXPECT(!memcmp(&arg.id, &snapshot.id, sizeof(arg.id)));
}

static void test_take_of_vanished_device_leaves_the_snapshot(void)
{
	const struct disk *members[2] = { &disk_a };
	struct blk_snap_cbt_info info;
	struct snapshot snapshot;
	struct disk disk;

	ASSERT_OK(null_disk_create(&disk, "nullb3", DISK_MIB, NULL));
	members[1] = &disk;
	snapshot_create_of(&snapshot, members, 2);
	ASSERT_OK(append_range(&snapshot, &disk_s, 2048, 2048));
	null_disk_destroy(&disk);
	EXPECT(control_snapshot_take(ctl, &snapshot.id) < 0);
	ASSERT(tracker_info(&disk_a, &info));
	EXPECT_EQ(info.snap_number, 0);
	EXPECT_OK(control_snapshot_destroy(ctl, &snapshot.id));
}

const struct ktap_test take_tests[] = {
	KTAP_TEST(test_take_of_unknown_snapshot_gets_esrch),
	KTAP_TEST(test_take_twice_gets_ealready),
	KTAP_TEST(test_take_without_storage_gets_efault),
	KTAP_TEST(test_take_does_not_touch_its_argument),
	KTAP_TEST(test_take_of_vanished_device_leaves_the_snapshot),
	KTAP_END
};

/* --- SNAPSHOT_DESTROY --- */

static void test_destroy_of_unknown_snapshot_gets_enodev(void)
{
	struct snapshot snapshot;

	EXPECT_ERR(control_snapshot_destroy(ctl, &unknown_id), ENODEV);
	snapshot_create(&snapshot, &disk_a);
	EXPECT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	EXPECT_ERR(control_snapshot_destroy(ctl, &snapshot.id), ENODEV);
}

static void test_destroy_keeps_tracking(void)
{
	struct blk_snap_cbt_info before, after;
	struct snapshot snapshot;

	snapshot_now(&snapshot, &disk_a, &disk_s);
	ASSERT(tracker_info(&disk_a, &before));
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	EXPECT_EQ(nr_snapshots(), 0);
	ASSERT(tracker_info(&disk_a, &after));
	EXPECT(!memcmp(&before, &after, sizeof(before)));
}

static void test_destroy_removes_the_image(void)
{
	struct snapshot snapshot;

	snapshot_now(&snapshot, &disk_a, &disk_s);
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	EXPECT(wait_for_node(snapshot.images[0].path, false));
}

static void test_destroy_fails_readers_of_open_image(void)
{
	void *buffer = alloc_aligned(4096);
	struct snapshot snapshot;
	int fd;

	snapshot_now(&snapshot, &disk_a, &disk_s);
	fd = ASSERT_OK(open(snapshot.images[0].path, O_RDWR | O_DIRECT));
	EXPECT_EQ(pread(fd, buffer, 4096, 0), 4096);
	EXPECT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	EXPECT_EQ(pread(fd, buffer, 4096, 0), -1);
	EXPECT_EQ(errno, EIO);
	EXPECT_EQ(pwrite(fd, buffer, 4096, 0), -1);
	close(fd);
	free(buffer);
}

static void test_destroy_does_not_touch_the_origin(void)
{
	struct snapshot snapshot;

	ASSERT(fill_direct(disk_a.path, 0x11, MIB, 0));
	snapshot_now(&snapshot, &disk_a, &disk_s);
	ASSERT(fill_direct(disk_a.path, 0x22, MIB / 2, 0));
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	EXPECT(reads_as(disk_a.path, 0x22, MIB / 2, 0));
	EXPECT(reads_as(disk_a.path, 0x11, MIB / 2, MIB / 2));
}

const struct ktap_test destroy_tests[] = {
	KTAP_TEST(test_destroy_of_unknown_snapshot_gets_enodev),
	KTAP_TEST(test_destroy_keeps_tracking),
	KTAP_TEST(test_destroy_removes_the_image),
	KTAP_TEST(test_destroy_fails_readers_of_open_image),
	KTAP_TEST(test_destroy_does_not_touch_the_origin),
	KTAP_END
};
