// SPDX-License-Identifier: GPL-2.0
/*
 * Fault sweep over the calls of the control node
 *
 * A call either works or returns an errno and has changed nothing.  Memory for
 * it is ours to be there before the fault is armed, so what fails is the
 * kernel's.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test_sweep.h"

#define MOUNT_POINT "/tmp/sweep"
#define IMAGE_MOUNT_POINT "/tmp/sweep-image"

static unsigned int count_trackers(void)
{
	struct blk_snap_tracker_collect arg = { 0 };

	ASSERT_OK(ctl_call(IOCTL_BLK_SNAP_TRACKER_COLLECT, &arg));
	return arg.count;
}

static unsigned int count_snapshots(void)
{
	struct blk_snap_snapshot_collect arg = { 0 };

	ASSERT_OK(ctl_call(IOCTL_BLK_SNAP_SNAPSHOT_COLLECT, &arg));
	return arg.count;
}

/* --- create --- */

/* Two devices that are not tracked yet: the filter is installed, too. */
static void create_round(void)
{
	struct blk_snap_dev ids[2] = { world.origin.id, world.second.id };
	struct blk_snap_snapshot_create arg = {
		.count = 2,
		.dev_id_array = ids,
	};
	struct blk_snap_snapshot_event event;
	int ret;

	sweep_arm();
	ret = ctl_call(IOCTL_BLK_SNAP_SNAPSHOT_CREATE, &arg);
	sweep_disarm();
	sweep_note_result(ret);
	if (ret) {
		EXPECT_ERR(ret, ENOMEM);
		EXPECT_EQ(count_trackers(), 0);
		EXPECT_EQ(count_snapshots(), 0);
	} else {
		EXPECT_EQ(count_trackers(), 2);
		held.snapshot.id = arg.id;
		EXPECT_OK(next_event(&held.snapshot, 0, &event));
		EXPECT_ERR(next_event(&held.snapshot, 0, &event), ENOENT);
		EXPECT_OK(control_snapshot_destroy(ctl, &arg.id));
	}
	remove_all_trackers();
	stamp_next(0, 1);
	origin_wrote(0, 1, (int)EXPECT_OK(origin_write(0, 1, 0)));
}

static void test_create(void)
{
	sweep_run("create", FAULT_TASK, create_round);
	world_mark_disks(true);
	sweep_run("create", FAULT_IO, create_round);
	EXPECT(origin_is_right());
}

/* --- append --- */

/* Each round a storage of its own, for what is appended stays. */
static void append_round(void)
{
	struct blk_snap_block_range ranges[] = {
		{ EDGE_BLOCKS * BLOCK_SECTORS, 64 * BLOCK_SECTORS },
		{ (EDGE_BLOCKS + 128) * BLOCK_SECTORS, 64 * BLOCK_SECTORS },
	};
	struct blk_snap_snapshot_append_storage arg = {
		.dev_id = world.storage.id,
		.count = ARRAY_SIZE(ranges),
		.ranges = ranges,
	};
	int ret;

	snapshot_create(&held.snapshot, &world.origin);
	arg.id = held.snapshot.id;
	sweep_arm();
	ret = ctl_call(IOCTL_BLK_SNAP_SNAPSHOT_APPEND_STORAGE, &arg);
	sweep_disarm();
	sweep_note_result(ret);
	if (ret) {
		EXPECT_ERR(ret, ENOMEM);
		/* Nothing of it was kept, and nothing is there to be taken. */
		EXPECT_ERR(control_snapshot_take(ctl, &held.snapshot.id), EFAULT);
		ret = ctl_call(IOCTL_BLK_SNAP_SNAPSHOT_APPEND_STORAGE, &arg);
	}
	EXPECT_OK(ret);
	/* Of a range that is there already nothing can be appended. */
	EXPECT_ERR(append_range(&held.snapshot, &world.storage, (EDGE_BLOCKS + 191) * BLOCK_SECTORS,
				BLOCK_SECTORS), EINVAL);
	EXPECT_OK(control_snapshot_destroy(ctl, &held.snapshot.id));
}

static void test_append(void)
{
	sweep_run("append", FAULT_TASK, append_round);
	world_mark_disks(true);
	sweep_run("append", FAULT_IO, append_round);
}

/* Before the edge at the end of the origin: storage on the origin is not in the image. */
#define OWN_BLOCKS 64U
#define OWN_FIRST (ORIGIN_BLOCKS - EDGE_BLOCKS - OWN_BLOCKS)

static void append_held_round(void)
{
	struct blk_snap_block_range range = {
		.sector_offset = OWN_FIRST * BLOCK_SECTORS,
		.sector_count = OWN_BLOCKS * BLOCK_SECTORS,
	};
	struct blk_snap_snapshot_append_storage arg = {
		.dev_id = world.origin.id,
		.count = 1,
		.ranges = &range,
	};
	int ret;

	held_begin();
	arg.id = held.snapshot.id;
	sweep_arm();
	ret = ctl_call(IOCTL_BLK_SNAP_SNAPSHOT_APPEND_STORAGE, &arg);
	sweep_disarm();
	sweep_note_result(ret);
	if (ret) {
		EXPECT_ERR(ret, ENOMEM);
		EXPECT_EQ(held_number("storage_bytes"), STORAGE_BLOCKS * BLOCK_BYTES);
		ret = ctl_call(IOCTL_BLK_SNAP_SNAPSHOT_APPEND_STORAGE, &arg);
	}
	EXPECT_OK(ret);
	EXPECT_EQ(held_number("storage_bytes"),
		  (STORAGE_BLOCKS + OWN_BLOCKS) * BLOCK_BYTES);
	memset(&held.content[OWN_FIRST * BLOCK_BYTES], 0, OWN_BLOCKS * BLOCK_BYTES);
	held_verify();
	EXPECT_EQ(held.error, 0);
	held_end();
}

static void test_append_while_held(void)
{
	sweep_run("append on the origin, held", FAULT_TASK, append_held_round);
}

/* --- take --- */

static bool is_taken(void)
{
	struct blk_snap_snapshot_collect_images arg = { .id = held.snapshot.id };
	int ret = ctl_call(IOCTL_BLK_SNAP_SNAPSHOT_COLLECT_IMAGES, &arg);

	if (ret)
		EXPECT_ERR(ret, ENODEV);
	return !ret;
}

/*
 * The kernel adds a disk whose device it could not give a name, and then finds
 * that a device without a name is invalid.
 */
static void expect_take_error(int ret)
{
	if (ret != -EINVAL)
		EXPECT_ERR(ret, ENOMEM);
}

static void take_round(void)
{
	struct blk_snap_snapshot_take arg = { 0 };
	int ret;

	if (!count_snapshots())
		held_create();
	arg.id = held.snapshot.id;
	sweep_arm();
	ret = ctl_call(IOCTL_BLK_SNAP_SNAPSHOT_TAKE, &arg);
	sweep_disarm();
	sweep_note_result(ret);
	if (!ret) {
		held_taken();
		held_verify();
		EXPECT_EQ(held.error, 0);
		held_end();
		return;
	}
	/* As before: not taken, and the next round takes it. */
	expect_take_error(ret);
	EXPECT(!is_taken());
	stamp_next(1, 1);
	origin_wrote(1, 1, (int)EXPECT_OK(origin_write(1, 1, 0)));
}

static void test_take(void)
{
	sweep_run("take", FAULT_TASK, take_round);
	world_mark_disks(true);
	sweep_run("take", FAULT_IO, take_round);
	EXPECT(origin_is_right());
}

/* --- take of a mounted filesystem --- */

static bool is_frozen_in_image(const char *image)
{
	return read_number("/sys/block/%s/blksnap/filesystem_frozen",
			   strrchr(image, '/') + 1);
}

/* Writes without waiting for the disk: freezing has to. */
static void write_file(unsigned int number)
{
	char text[32];
	int fd;

	snprintf(text, sizeof(text), "%u\n", number);
	fd = ASSERT_OK(open(MOUNT_POINT "/file", O_WRONLY | O_CREAT | O_TRUNC, 0600));
	ASSERT(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

/* The image of a frozen filesystem holds all that was written before. */
static void verify_files(const char *image, unsigned int number)
{
	/* Without its journal: a clean filesystem needs none. */
	if (mount(image, IMAGE_MOUNT_POINT, "ext4", MS_RDONLY, "noload")) {
		FAIL("the image cannot be mounted: %s", strerror(errno));
		return;
	}
	EXPECT_EQ(read_number(IMAGE_MOUNT_POINT "/file"), number);
	umount(IMAGE_MOUNT_POINT);
}

static void take_mounted_round(void)
{
	struct blk_snap_snapshot_take arg = { 0 };
	unsigned int nth = sweep_nth();
	bool is_frozen;
	int ret;

	if (!count_snapshots()) {
		snapshot_create(&held.snapshot, &world.second);
		ASSERT_OK(append_range(&held.snapshot, &world.storage, EDGE_BLOCKS * BLOCK_SECTORS,
				       STORAGE_BLOCKS * BLOCK_SECTORS));
	}
	write_file(nth);
	arg.id = held.snapshot.id;
	sweep_arm();
	ret = ctl_call(IOCTL_BLK_SNAP_SNAPSHOT_TAKE, &arg);
	sweep_disarm();
	if (ret) {
		sweep_note_result(ret);
		expect_take_error(ret);
		return;
	}
	snapshot_find_images(&held.snapshot);
	is_frozen = is_frozen_in_image(held.snapshot.images[0].path);
	if (is_frozen)
		sweep_note_result(ret);
	else
		sweep_note("ok, not frozen");
	/* It goes on, and the image does not see it. */
	write_file(nth + 100000);
	if (is_frozen)
		verify_files(held.snapshot.images[0].path, nth);
	EXPECT_OK(control_snapshot_destroy(ctl, &held.snapshot.id));
}

static bool mount_second(void)
{
	if (shell("mkfs.ext4 -q -F -b 1024 -J size=1 %s", world.second.path))
		return false;
	mkdir(MOUNT_POINT, 0700);
	mkdir(IMAGE_MOUNT_POINT, 0700);
	ASSERT(!mount(world.second.path, MOUNT_POINT, "ext4", 0, NULL));
	return true;
}

static void test_take_mounted(void)
{
	if (!mount_second()) {
		ktap_skip("no mkfs.ext4");
		return;
	}
	sweep_run("take, mounted", FAULT_TASK, take_mounted_round);
	/* A worker freezes. */
	fault_mark_kernel_threads(true);
	sweep_run("take, mounted", FAULT_SLAB, take_mounted_round);
	sweep_run("take, mounted", FAULT_PAGE, take_mounted_round);
	fault_mark_kernel_threads(false);
	EXPECT(!umount(MOUNT_POINT));
	EXPECT_EQ(shell("e2fsck -fn %s >/dev/null 2>&1", world.second.path), 0);
}

/*
 * The filesystem has lost a write and may be of no more use, which is its own
 * affair.  But the take works, and the filesystem can be unmounted: it does not
 * stay frozen.
 */
static void freeze_io_round(void)
{
	struct blk_snap_snapshot_take arg = { 0 };
	int ret;

	ASSERT(mount_second());
	snapshot_create(&held.snapshot, &world.second);
	ASSERT_OK(append_range(&held.snapshot, &world.storage, EDGE_BLOCKS * BLOCK_SECTORS,
			       STORAGE_BLOCKS * BLOCK_SECTORS));
	write_file(sweep_nth());
	arg.id = held.snapshot.id;
	fault_mark_disk(&world.second, true);
	sweep_arm();
	ret = ctl_call(IOCTL_BLK_SNAP_SNAPSHOT_TAKE, &arg);
	sweep_disarm();
	fault_mark_disk(&world.second, false);
	if (EXPECT_OK(ret) >= 0) {
		snapshot_find_images(&held.snapshot);
		if (is_frozen_in_image(held.snapshot.images[0].path))
			sweep_note_result(ret);
		else
			sweep_note("ok, not frozen");
	}
	EXPECT(!umount(MOUNT_POINT));
	EXPECT_OK(control_snapshot_destroy(ctl, &held.snapshot.id));
}

static void test_take_mounted_io(void)
{
	if (!mount_second()) {
		ktap_skip("no mkfs.ext4");
		return;
	}
	ASSERT(!umount(MOUNT_POINT));
	sweep_run("take, mounted", FAULT_IO, freeze_io_round);
}

/* --- calls that ask and tell --- */

static struct blk_snap_cbt_info infos[4];
static struct blk_snap_uuid ids[4];
static struct blk_snap_image_info images[4];

static void collect_round(void)
{
	struct blk_snap_tracker_collect arg = {
		.count = ARRAY_SIZE(infos),
		.cbt_info_array = infos,
	};
	int ret;

	memset(infos, 0, sizeof(infos));
	sweep_arm();
	ret = ctl_call(IOCTL_BLK_SNAP_TRACKER_COLLECT, &arg);
	sweep_disarm();
	sweep_note_result(ret);
	if (ret)
		EXPECT_ERR(ret, ENOMEM);
	else
		EXPECT_EQ(infos[0].blk_count, ORIGIN_BLOCKS);
}

static void collect_snapshots_round(void)
{
	struct blk_snap_snapshot_collect arg = {
		.count = ARRAY_SIZE(ids),
		.ids = ids,
	};
	int ret;

	memset(ids, 0, sizeof(ids));
	sweep_arm();
	ret = ctl_call(IOCTL_BLK_SNAP_SNAPSHOT_COLLECT, &arg);
	sweep_disarm();
	sweep_note_result(ret);
	if (ret)
		EXPECT_ERR(ret, ENOMEM);
	else
		EXPECT(!memcmp(&ids[0], &held.snapshot.id, sizeof(ids[0])));
}

static void collect_images_round(void)
{
	struct blk_snap_snapshot_collect_images arg = {
		.id = held.snapshot.id,
		.count = ARRAY_SIZE(images),
		.image_info_array = images,
	};
	int ret;

	memset(images, 0, sizeof(images));
	sweep_arm();
	ret = ctl_call(IOCTL_BLK_SNAP_SNAPSHOT_COLLECT_IMAGES, &arg);
	sweep_disarm();
	sweep_note_result(ret);
	if (ret)
		EXPECT_ERR(ret, ENOMEM);
	else
		EXPECT_EQ(images[0].orig_dev_id.mn, world.origin.id.mn);
}

static void read_map_round(void)
{
	struct blk_snap_tracker_read_cbt_bitmap arg = {
		.dev_id = world.origin.id,
		.length = ORIGIN_BLOCKS,
		.buff = world.buffer,
	};
	int ret;

	sweep_arm();
	ret = ctl_call(IOCTL_BLK_SNAP_TRACKER_READ_CBT_MAP, &arg);
	sweep_disarm();
	sweep_note_result(ret);
	if (ret < 0)
		EXPECT_ERR(ret, ENOMEM);
	else
		EXPECT_EQ(ret, ORIGIN_BLOCKS);
}

/* A mark that is lost ends the generation, and nobody can miss that. */
static void mark_round(void)
{
	struct blk_snap_block_range range = { 0, BLOCK_SECTORS };
	struct blk_snap_tracker_mark_dirty_blocks arg = {
		.dev_id = world.origin.id,
		.count = 1,
		.dirty_blocks_array = &range,
	};
	struct blk_snap_cbt_info before, after;
	uint8_t *map;
	bool is_same;
	int ret;

	/* Only the first mark after a take needs memory. */
	held_begin();
	ASSERT(tracker_info(&world.origin, &before));
	sweep_arm();
	ret = ctl_call(IOCTL_BLK_SNAP_TRACKER_MARK_DIRTY_BLOCKS, &arg);
	sweep_disarm();
	sweep_note_result(ret);
	ASSERT(tracker_info(&world.origin, &after));
	is_same = !memcmp(&before.generation_id, &after.generation_id,
			  sizeof(before.generation_id));
	if (ret) {
		EXPECT_ERR(ret, ENOMEM);
		EXPECT(is_same || !after.snap_number);
	} else {
		EXPECT(is_same);
		map = read_map(&world.origin, &after);
		EXPECT_EQ(map[0], before.snap_number);
		free(map);
	}
	held_verify();
	held_end();
}

static void wait_event_round(void)
{
	static struct blk_snap_snapshot_event event;
	struct blk_snap_snapshot_event second;
	int ret;

	snapshot_create(&held.snapshot, &world.second);
	event.id = held.snapshot.id;
	event.timeout_ms = 0;
	sweep_arm();
	ret = ctl_call(IOCTL_BLK_SNAP_SNAPSHOT_WAIT_EVENT, &event);
	sweep_disarm();
	sweep_note_result(ret);
	/* The event is still there, or it was the one. */
	if (ret) {
		EXPECT_ERR(ret, ENOMEM);
		EXPECT_OK(next_event(&held.snapshot, 0, &event));
	}
	EXPECT_EQ(event.code, blk_snap_event_code_low_free_space);
	EXPECT_ERR(next_event(&held.snapshot, 0, &second), ENOENT);
	EXPECT_OK(control_snapshot_destroy(ctl, &held.snapshot.id));
}

static void test_calls(void)
{
	held_begin();
	sweep_run("collect trackers", FAULT_TASK, collect_round);
	sweep_run("collect snapshots", FAULT_TASK, collect_snapshots_round);
	sweep_run("collect images", FAULT_TASK, collect_images_round);
	sweep_run("read the change map", FAULT_TASK, read_map_round);
	held_end();
	sweep_run("mark as changed", FAULT_TASK, mark_round);
	sweep_run("wait for an event", FAULT_TASK, wait_event_round);
}

/* --- destroy, remove --- */

/* With copies in memory and an open image. */
static void destroy_round(void)
{
	struct blk_snap_snapshot_destroy arg = { 0 };
	int ret;

	held_begin();
	stamp_next(0, 32);
	origin_wrote(0, 32, (int)EXPECT_OK(origin_write(0, 32, 0)));
	arg.id = held.snapshot.id;
	sweep_arm();
	ret = ctl_call(IOCTL_BLK_SNAP_SNAPSHOT_DESTROY, &arg);
	sweep_disarm();
	sweep_note_result(ret);
	EXPECT_OK(ret);
	EXPECT(pread(held.image_fd, world.other, BLOCK_BYTES, 0) < 0 && errno == EIO);
	close(held.image_fd);
	held.image_fd = -1;
	EXPECT_EQ(count_snapshots(), 0);
	EXPECT_EQ(count_trackers(), 1);
	EXPECT(origin_is_right());
}

static void test_destroy(void)
{
	sweep_run("destroy", FAULT_TASK, destroy_round);
	world_mark_disks(true);
	sweep_run("destroy", FAULT_IO, destroy_round);
}

/* The last one: the filter goes, too. */
static void remove_round(void)
{
	struct blk_snap_tracker_remove arg = { .dev_id = world.origin.id };
	int ret;

	snapshot_create(&held.snapshot, &world.origin);
	ASSERT_OK(control_snapshot_destroy(ctl, &held.snapshot.id));
	sweep_arm();
	ret = ctl_call(IOCTL_BLK_SNAP_TRACKER_REMOVE, &arg);
	sweep_disarm();
	sweep_note_result(ret);
	EXPECT_OK(ret);
	EXPECT_EQ(count_trackers(), 0);
	stamp_next(0, 1);
	origin_wrote(0, 1, (int)EXPECT_OK(origin_write(0, 1, 0)));
}

static void test_remove(void)
{
	sweep_run("remove the last tracker", FAULT_TASK, remove_round);
	world_mark_disks(true);
	sweep_run("remove the last tracker", FAULT_IO, remove_round);
	EXPECT(origin_is_right());
}

const struct ktap_test control_tests[] = {
	KTAP_TEST(test_create),
	KTAP_TEST(test_append),
	KTAP_TEST(test_append_while_held),
	KTAP_TEST(test_take),
	KTAP_TEST(test_take_mounted),
	KTAP_TEST(test_take_mounted_io),
	KTAP_TEST(test_calls),
	KTAP_TEST(test_destroy),
	KTAP_TEST(test_remove),
	KTAP_END
};
