// SPDX-License-Identifier: GPL-2.0
/*
 * The ioctls that list snapshots and images
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "test_ioctl.h"

/* --- SNAPSHOT_COLLECT, SNAPSHOT_COLLECT_IMAGES --- */

static int collect(uint32_t *count, struct blk_snap_uuid *ids)
{
	struct blk_snap_snapshot_collect arg;
	int ret;

	memset(&arg, POISON, sizeof(arg));
	arg.count = *count;
	arg.ids = ids;
	ret = ctl_call(IOCTL_BLK_SNAP_SNAPSHOT_COLLECT, &arg);
	*count = arg.count;
	EXPECT(arg.ids == ids);
	if (ret != -EFAULT)
		EXPECT(is_filled_with((char *)&arg + 4, 0,
				      offsetof(struct blk_snap_snapshot_collect,
					       ids) - 4));
	return ret;
}

static void test_collect_without_array_tells_the_count(void)
{
	struct snapshot first, second;
	struct blk_snap_uuid id;
	uint32_t count = 5;

	EXPECT_OK(collect(&count, NULL));
	EXPECT_EQ(count, 0);
	snapshot_create(&first, &disk_a);
	snapshot_create(&second, &disk_b);
	EXPECT_OK(collect(&count, NULL));
	EXPECT_EQ(count, 2);
	count = 0;
	memset(&id, POISON, sizeof(id));
	EXPECT_OK(collect(&count, &id));
	EXPECT_EQ(count, 2);
	EXPECT(is_filled_with(&id, POISON, sizeof(id)));
}

static void test_collect_into_small_array_gets_enodata(void)
{
	struct snapshot first, second;
	struct blk_snap_uuid id;
	uint32_t count = 1;

	snapshot_create(&first, &disk_a);
	snapshot_create(&second, &disk_b);
	memset(&id, POISON, sizeof(id));
	EXPECT_ERR(collect(&count, &id), ENODATA);
	EXPECT_EQ(count, 2);
	EXPECT(is_filled_with(&id, POISON, sizeof(id)));
}

static void test_collect_lists_every_snapshot(void)
{
	struct snapshot first, second;
	struct blk_snap_uuid ids[3];
	uint32_t count = 3;

	snapshot_create(&first, &disk_a);
	snapshot_create(&second, &disk_b);
	memset(ids, POISON, sizeof(ids));
	ASSERT_OK(collect(&count, ids));
	EXPECT_EQ(count, 2);
	EXPECT(!memcmp(&ids[0], &first.id, 16) || !memcmp(&ids[1], &first.id, 16));
	EXPECT(!memcmp(&ids[0], &second.id, 16) ||
	       !memcmp(&ids[1], &second.id, 16));
	EXPECT(is_filled_with(&ids[2], POISON, sizeof(ids[2])));
}

static void test_collect_into_bad_array_gets_efault(void)
{
	struct snapshot snapshot;
	uint32_t count = 3;

	snapshot_create(&snapshot, &disk_a);
	EXPECT_ERR(collect(&count, bad_page), EFAULT);
}

static int collect_images(const struct blk_snap_uuid *id, uint32_t *count,
			  struct blk_snap_image_info *infos)
{
	const size_t hole = offsetof(struct blk_snap_snapshot_collect_images,
				     count) + 4;
	struct blk_snap_snapshot_collect_images arg;
	int ret;

	memset(&arg, POISON, sizeof(arg));
	arg.id = *id;
	arg.count = *count;
	arg.image_info_array = infos;
	ret = ctl_call(IOCTL_BLK_SNAP_SNAPSHOT_COLLECT_IMAGES, &arg);
	if (!ret || ret == -ENODATA)
		EXPECT(is_filled_with((char *)&arg + hole, 0,
				      offsetof(struct blk_snap_snapshot_collect_images,
					       image_info_array) - hole));
	EXPECT(!memcmp(&arg.id, id, sizeof(*id)));
	EXPECT(arg.image_info_array == infos);
	*count = arg.count;
	return ret;
}

static void test_images_of_unknown_snapshot_get_esrch(void)
{
	uint32_t count = 0;

	EXPECT_ERR(collect_images(&unknown_id, &count, NULL), ESRCH);
}

static void test_images_before_the_take_get_enodev(void)
{
	struct blk_snap_image_info info;
	struct snapshot snapshot;
	uint32_t count = 1;

	snapshot_create(&snapshot, &disk_a);
	EXPECT_ERR(collect_images(&snapshot.id, &count, &info), ENODEV);
	count = 0;
	EXPECT_ERR(collect_images(&snapshot.id, &count, NULL), ENODEV);
}

static void take_of_two(struct snapshot *snapshot)
{
	const struct disk *members[] = { &disk_a, &disk_b };

	snapshot_create_of(snapshot, members, 2);
	ASSERT_OK(append_range(snapshot, &disk_s, 2048, 4096));
	snapshot_take(snapshot);
}

static void test_images_without_array_tell_the_count(void)
{
	struct blk_snap_image_info info;
	struct snapshot snapshot;
	uint32_t count = 9;

	take_of_two(&snapshot);
	EXPECT_OK(collect_images(&snapshot.id, &count, NULL));
	EXPECT_EQ(count, 2);
	count = 0;
	memset(&info, POISON, sizeof(info));
	EXPECT_OK(collect_images(&snapshot.id, &count, &info));
	EXPECT_EQ(count, 2);
	EXPECT(is_filled_with(&info, POISON, sizeof(info)));
}

static void test_images_into_small_array_get_enodata(void)
{
	struct blk_snap_image_info info;
	struct snapshot snapshot;
	uint32_t count = 1;

	take_of_two(&snapshot);
	memset(&info, POISON, sizeof(info));
	EXPECT_ERR(collect_images(&snapshot.id, &count, &info), ENODATA);
	EXPECT_EQ(count, 2);
	EXPECT(is_filled_with(&info, POISON, sizeof(info)));
}

static void test_images_into_bad_array_get_efault(void)
{
	struct snapshot snapshot;
	uint32_t count = 2;

	take_of_two(&snapshot);
	EXPECT_ERR(collect_images(&snapshot.id, &count, bad_page), EFAULT);
}

static void test_images_tell_origin_and_node(void)
{
	struct snapshot snapshot;
	struct disk image;
	unsigned int i;

	take_of_two(&snapshot);
	ASSERT_EQ(snapshot.nr_images, 2);
	EXPECT(strcmp(image_of(&snapshot, &disk_a), image_of(&snapshot, &disk_b)));
	for (i = 0; i < 2; i++) {
		ASSERT_OK(disk_find(&image, snapshot.images[i].path));
		EXPECT(!memcmp(&image.id, &snapshot.images[i].id,
			       sizeof(image.id)));
		EXPECT_EQ(image.nr_bytes, DISK_MIB * MIB);
	}
}

static void test_image_minors_are_lowest_free_first(void)
{
	struct snapshot first, second;

	snapshot_create(&first, &disk_a);
	snapshot_create(&second, &disk_b);
	ASSERT_OK(append_range(&first, &disk_s, 2048, 2048));
	ASSERT_OK(append_range(&second, &disk_s, 4096, 2048));
	snapshot_take(&first);
	snapshot_take(&second);
	EXPECT_EQ(first.images[0].id.mn, 0);
	EXPECT_EQ(second.images[0].id.mn, 1);
	ASSERT_OK(control_snapshot_destroy(ctl, &first.id));
	snapshot_create(&first, &disk_a);
	ASSERT_OK(append_range(&first, &disk_s, 2048, 2048));
	snapshot_take(&first);
	EXPECT_EQ(first.images[0].id.mn, 0);
}

static void test_image_has_the_block_size_of_its_origin(void)
{
	const struct null_disk_options big = { .block_bytes = 4096 };
	struct snapshot snapshot;
	int fd, nr_bytes = 0;
	struct disk disk;

	ASSERT_OK(null_disk_create(&disk, "nullb3", DISK_MIB, &big));
	snapshot_now(&snapshot, &disk, &disk_s);
	fd = ASSERT_OK(open(snapshot.images[0].path, O_RDONLY));
	EXPECT_OK(ioctl(fd, BLKSSZGET, &nr_bytes));
	EXPECT_EQ(nr_bytes, 4096);
	close(fd);
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	ASSERT_OK(control_tracker_remove(ctl, disk.id));
	null_disk_destroy(&disk);
}

const struct ktap_test collect_tests[] = {
	KTAP_TEST(test_collect_without_array_tells_the_count),
	KTAP_TEST(test_collect_into_small_array_gets_enodata),
	KTAP_TEST(test_collect_lists_every_snapshot),
	KTAP_TEST(test_collect_into_bad_array_gets_efault),
	KTAP_TEST(test_images_of_unknown_snapshot_get_esrch),
	KTAP_TEST(test_images_before_the_take_get_enodev),
	KTAP_TEST(test_images_without_array_tell_the_count),
	KTAP_TEST(test_images_into_small_array_get_enodata),
	KTAP_TEST(test_images_into_bad_array_get_efault),
	KTAP_TEST(test_images_tell_origin_and_node),
	KTAP_TEST(test_image_minors_are_lowest_free_first),
	KTAP_TEST(test_image_has_the_block_size_of_its_origin),
	KTAP_END
};
