// SPDX-License-Identifier: GPL-2.0
/*
 * Origins that change their size
 *
 * While one is merely tracked, another size means another generation, whichever
 * call sees it first.  While a snapshot is held, the image keeps the size and
 * the data of the take; what has been cut off can only fail.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "test_life_kind.h"
#include "test_life_traffic.h"

#define SMALL_BYTES (DISK_MIB * MIB)

static const struct life_kind *kind;	/* of the running suite */
static struct disk disk;

static void resize_set_up(const struct life_kind *the_kind)
{
	kind = the_kind;
	anchored_set_up();
}

void loop_resize_set_up(void)
{
	resize_set_up(&loop_kind);
}

void dm_resize_set_up(void)
{
	resize_set_up(&dm_kind);
}

void partition_resize_set_up(void)
{
	resize_set_up(&partition_kind);
}

void resize_tear_down(void)
{
	life_tear_down();
	kind->unmake(&disk);
}

static void resize(uint64_t nr_bytes)
{
	ASSERT(kind->resize(&disk, nr_bytes));
}

/* Old data at the beginning and at the end. */
static bool make_disk(void)
{
	if (!kind->make(&disk))
		return false;
	ASSERT_EQ(disk.nr_bytes, SMALL_BYTES);
	ASSERT(fill_direct(disk.path, OLD_BYTE, TRAFFIC_BYTES, 0));
	ASSERT(fill_direct(disk.path, OLD_BYTE, 2 * MIB, SMALL_BYTES - 2 * MIB));
	return true;
}

static void take_once(void)
{
	struct snapshot snapshot;

	snapshot_now(&snapshot, &disk, &storage);
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
}

static bool is_same_generation(const struct blk_snap_cbt_info *a,
			       const struct blk_snap_cbt_info *b)
{
	return !memcmp(&a->generation_id, &b->generation_id,
		       sizeof(a->generation_id));
}

static void expect_new_generation(const struct blk_snap_cbt_info *before,
				  uint64_t nr_bytes, unsigned int number)
{
	struct blk_snap_cbt_info after;

	ASSERT(tracker_info(&disk, &after));
	EXPECT(!is_same_generation(before, &after));
	EXPECT_EQ(after.device_capacity, nr_bytes);
	EXPECT_EQ(after.blk_count, nr_bytes / after.blk_size);
	EXPECT_EQ(after.snap_number, number);
}

/* --- tracked --- */

static void test_resize_begins_a_generation(void)
{
	struct blk_snap_cbt_info info;
	uint8_t *map, byte;

	if (!make_disk())
		return;
	take_once();
	ASSERT(tracker_info(&disk, &info));
	resize(LARGE_BYTES);
	expect_new_generation(&info, LARGE_BYTES, 0);
	EXPECT_ERR(control_tracker_read_cbt_map(ctl, disk.id, 0, 1, &byte),
		   EPERM);
	ASSERT(fill_direct(disk.path, NEW_BYTE, 4096, SMALL_BYTES + MIB));
	take_once();
	map = read_map(&disk, &info);
	EXPECT_EQ(map[0], 0);
	EXPECT_EQ(map[(SMALL_BYTES + MIB) / info.blk_size], 1);
	free(map);
	resize(SMALL_BYTES);
	expect_new_generation(&info, SMALL_BYTES, 0);
}

static int mark(uint64_t at)
{
	struct blk_snap_block_range range = { at / SECTOR_SIZE, 8 };

	return control_tracker_mark_dirty_blocks(ctl, disk.id, &range, 1);
}

static void test_mark_sees_the_new_size(void)
{
	struct blk_snap_cbt_info info;
	uint8_t *map;

	if (!make_disk())
		return;
	take_once();
	ASSERT(tracker_info(&disk, &info));
	resize(LARGE_BYTES);
	EXPECT_OK(mark(SMALL_BYTES + MIB));
	expect_new_generation(&info, LARGE_BYTES, 0);
	take_once();
	map = read_map(&disk, &info);
	EXPECT_EQ(map[(SMALL_BYTES + MIB) / info.blk_size], 1);
	free(map);
	resize(SMALL_BYTES);
	EXPECT_ERR(mark(SMALL_BYTES + MIB), EINVAL);
	EXPECT_OK(mark(SMALL_BYTES - MIB));
}

static void test_take_sees_the_new_size(void)
{
	struct blk_snap_cbt_info info;
	struct snapshot snapshot;
	struct disk image;

	if (!make_disk())
		return;
	take_once();
	ASSERT(tracker_info(&disk, &info));
	snapshot_create(&snapshot, &disk);
	ASSERT_OK(append_range(&snapshot, &storage, 0, 8 * 2048));
	resize(LARGE_BYTES);
	ASSERT(fill_direct(disk.path, OLD_BYTE, MIB, LARGE_BYTES - MIB));
	snapshot_take(&snapshot);
	expect_new_generation(&info, LARGE_BYTES, 1);
	ASSERT_OK(disk_find(&image, image_of(&snapshot, &disk)));
	EXPECT_EQ(image.nr_bytes, LARGE_BYTES);
	ASSERT(fill_direct(disk.path, NEW_BYTE, MIB, LARGE_BYTES - MIB));
	EXPECT(reads_as(image.path, OLD_BYTE, MIB, LARGE_BYTES - MIB));
}

/* --- held --- */

static void expect_image_size(const char *path, uint64_t nr_bytes)
{
	struct disk image;

	ASSERT_OK(disk_find(&image, path));
	EXPECT_EQ(image.nr_bytes, nr_bytes);
}

static void expect_old_ends(const char *path)
{
	EXPECT(reads_as(path, OLD_BYTE, TRAFFIC_BYTES, 0));
	EXPECT(reads_as(path, OLD_BYTE, 2 * MIB, SMALL_BYTES - 2 * MIB));
}

static void test_image_keeps_its_size_when_the_origin_grows(void)
{
	struct blk_snap_cbt_info before, info;
	struct snapshot snapshot;
	const char *image, *error;

	if (!make_disk())
		return;
	snapshot_now(&snapshot, &disk, &storage);
	image = image_of(&snapshot, &disk);
	ASSERT(tracker_info(&disk, &before));
	traffic_start(disk.path, image, false);
	resize(LARGE_BYTES);
	/* Across the old end, and behind it. */
	ASSERT(fill_direct(disk.path, NEW_BYTE, 64 * KIB, SMALL_BYTES - 32 * KIB));
	ASSERT(fill_direct(disk.path, NEW_BYTE, MIB, LARGE_BYTES - MIB));
	EXPECT(traffic_wait(&traffic_now()->nr_written, 20));
	EXPECT(traffic_wait(&traffic_now()->nr_read, 20));
	error = traffic_stop();
	if (error)
		FAIL("%s", error);
	expect_image_size(image, SMALL_BYTES);
	expect_old_ends(image);
	ASSERT(tracker_info(&disk, &info));
	EXPECT(!memcmp(&before, &info, sizeof(info)));
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	expect_new_generation(&before, LARGE_BYTES, 0);
}

/* Not copied yet, and cut off: whatever is there later, it is not the old data. */
static void expect_cut_off(const char *path, uint64_t at)
{
	char *buffer = alloc_aligned(4096);
	int fd = ASSERT_OK(open(path, O_RDONLY | O_DIRECT | O_CLOEXEC));

	EXPECT_EQ(pread(fd, buffer, 4096, at), -1);
	EXPECT_EQ(errno, EIO);
	close(fd);
	free(buffer);
}

static void test_image_keeps_its_size_when_the_origin_shrinks(void)
{
	const uint64_t copied_at = SMALL_BYTES - MIB;
	struct blk_snap_cbt_info before;
	struct snapshot snapshot;
	const char *image, *error;

	if (!make_disk())
		return;
	snapshot_now(&snapshot, &disk, &storage);
	image = image_of(&snapshot, &disk);
	ASSERT(tracker_info(&disk, &before));
	ASSERT(fill_direct(disk.path, NEW_BYTE, 64 * KIB, copied_at));
	traffic_start(disk.path, image, false);
	resize(SMALL_BYTES / 2);
	EXPECT(fill_direct(disk.path, NEW_BYTE, MIB, SMALL_BYTES / 2 - MIB));
	EXPECT(traffic_wait(&traffic_now()->nr_written, 20));
	EXPECT(traffic_wait(&traffic_now()->nr_read, 20));
	error = traffic_stop();
	if (error)
		FAIL("%s", error);
	expect_image_size(image, SMALL_BYTES);
	EXPECT(reads_as(image, OLD_BYTE, TRAFFIC_BYTES, 0));
	EXPECT(reads_as(image, OLD_BYTE, 64 * KIB, copied_at));
	expect_cut_off(image, copied_at - 4096);
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	expect_new_generation(&before, SMALL_BYTES / 2, 0);
}

const struct ktap_test resize_tests[] = {
	KTAP_TEST(test_resize_begins_a_generation),
	KTAP_TEST(test_mark_sees_the_new_size),
	KTAP_TEST(test_take_sees_the_new_size),
	KTAP_TEST(test_image_keeps_its_size_when_the_origin_grows),
	KTAP_TEST(test_image_keeps_its_size_when_the_origin_shrinks),
	KTAP_END
};
