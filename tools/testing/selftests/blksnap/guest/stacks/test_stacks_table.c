// SPDX-License-Identifier: GPL-2.0
/*
 * Tracked device-mapper devices that get another table
 *
 * A table can put other data on a device without a write: a merged snapshot, a mapping
 * to another disk.  What was known about the device is worth nothing then.  Tables that
 * do not are told from these where that is possible.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "test_stacks.h"

#define DISK_MIB 16

static struct {
	struct disk disks[2];
	struct disk top;
	struct disk storage;
	struct snapshot snapshot;
	bool is_made;
} table;

static bool dm(const char *commands)
{
	char line[100];

	return EXPECT_EQ(shell_line(line, sizeof(line), commands), 0);
}

static void make_disks(void)
{
	ASSERT_OK(null_disk_create(&table.disks[0], "nullb0", DISK_MIB, NULL));
	ASSERT_OK(null_disk_create(&table.disks[1], "nullb1", DISK_MIB, NULL));
	ASSERT_OK(null_disk_create(&table.storage, "nullb2", DISK_MIB, NULL));
	setenv("B0", table.disks[0].path, 1);
	setenv("B1", table.disks[1].path, 1);
	ASSERT(fill_direct(table.disks[0].path, 0x11, MIB, 0));
	ASSERT(fill_direct(table.disks[1].path, 0x22, MIB, 0));
}

static void make_top(const char *commands)
{
	char path[sizeof(table.top.path)];

	make_disks();
	ASSERT_EQ(shell_line(path, sizeof(path), commands), 0);
	table.is_made = true;
	ASSERT_OK(disk_find(&table.top, path));
}

static void make_linear(void)
{
	make_top("dm top \"0 16384 linear $B0 0\"");
}

void table_tear_down(void)
{
	char line[100];
	unsigned int i;

	ctl_tear_down();
	if (table.is_made && shell_line(line, sizeof(line), "undm top"))
		FAIL("the device cannot be removed");
	for (i = 0; i < ARRAY_SIZE(table.disks); i++)
		null_disk_destroy(&table.disks[i]);
	null_disk_destroy(&table.storage);
	memset(&table, 0, sizeof(table));
}

void table_set_up(void)
{
	ctl_set_up();
	load_modules("dm-mod");
}

static bool reload(const char *new_table)
{
	setenv("TABLE", new_table, 1);
	return dm("eval \"t=\\\"$TABLE\\\"\"\n"
		  "dmsetup load top --table \"$t\" >&2\n"
		  "dmsetup resume --noudevsync top >&2");
}

static void take_again(void)
{
	ASSERT_OK(control_snapshot_destroy(ctl, &table.snapshot.id));
	snapshot_now(&table.snapshot, &table.top, &table.storage);
}

static struct blk_snap_cbt_info take_and_look(void)
{
	struct blk_snap_cbt_info info;

	snapshot_now(&table.snapshot, &table.top, &table.storage);
	ASSERT(tracker_info(&table.top, &info));
	return info;
}

static bool has_new_generation(const struct blk_snap_cbt_info *before)
{
	struct blk_snap_cbt_info info;

	ASSERT(tracker_info(&table.top, &info));
	return memcmp(&info.generation_id, &before->generation_id,
		      sizeof(info.generation_id));
}

static int nr_corrupted(int *error)
{
	struct blk_snap_snapshot_event event;
	int nr = 0;

	while (!next_event(&table.snapshot, 500, &event)) {
		if (event.code != blk_snap_event_code_corrupted)
			continue;
		*error = ((struct blk_snap_event_corrupted *)event.data)->err_code;
		nr++;
	}
	return nr;
}

static int read_error(const char *path)
{
	uint8_t *buffer = alloc_aligned(4096);
	int fd = ASSERT_OK(open(path, O_RDONLY | O_DIRECT | O_CLOEXEC));
	int error = pread(fd, buffer, 4096, 0) < 0 ? errno : 0;

	close(fd);
	free(buffer);
	return error;
}

static void test_image_fails_when_the_table_changes(void)
{
	int error = 0;

	make_linear();
	take_and_look();
	ASSERT(reload("0 16384 linear $B1 0"));
	EXPECT_EQ(read_error(image_of(&table.snapshot, &table.top)), EIO);
	EXPECT_EQ(nr_corrupted(&error), 1);
	EXPECT_EQ(error, ESTALE);
	/* The device itself is none the worse. */
	EXPECT(reads_as(table.top.path, 0x22, MIB, 0));
	EXPECT(fill_direct(table.top.path, 0x33, MIB, 0));
}

static void test_generation_ends_when_the_table_changes(void)
{
	struct blk_snap_cbt_info before;

	make_linear();
	before = take_and_look();
	take_again();
	EXPECT(!has_new_generation(&before));
	ASSERT_OK(control_snapshot_destroy(ctl, &table.snapshot.id));
	ASSERT(reload("0 16384 linear $B1 0"));
	snapshot_now(&table.snapshot, &table.top, &table.storage);
	EXPECT(has_new_generation(&before));
	EXPECT(reads_as(image_of(&table.snapshot, &table.top), 0x22, MIB, 0));
}

static void test_suspended_device_keeps_image_and_generation(void)
{
	struct blk_snap_cbt_info before;
	int error;

	make_linear();
	before = take_and_look();
	ASSERT(dm("dmsetup suspend top >&2; dmsetup resume --noudevsync top >&2"));
	EXPECT(reads_as(image_of(&table.snapshot, &table.top), 0x11, MIB, 0));
	EXPECT_EQ(nr_corrupted(&error), 0);
	take_again();
	EXPECT(!has_new_generation(&before));
}

static void test_extended_device_keeps_its_image(void)
{
	struct blk_snap_cbt_info before;
	int error;

	make_linear();
	before = take_and_look();
	ASSERT(reload("0 24576 linear $B0 0"));
	ASSERT(fill_direct(table.top.path, 0x33, MIB, 0));
	EXPECT(reads_as(image_of(&table.snapshot, &table.top), 0x11, MIB, 0));
	EXPECT_EQ(nr_corrupted(&error), 0);
	EXPECT(!has_new_generation(&before));
	take_again();
	EXPECT(has_new_generation(&before));
}

/* The data of the part that was cut off may be other data now. */
static void test_generation_ends_when_the_size_changes_and_is_restored(void)
{
	struct blk_snap_cbt_info before;

	make_linear();
	before = take_and_look();
	ASSERT_OK(control_snapshot_destroy(ctl, &table.snapshot.id));
	ASSERT(reload("0 8192 linear $B0 0"));
	ASSERT(reload("0 16384 linear $B0 0"));
	snapshot_now(&table.snapshot, &table.top, &table.storage);
	EXPECT(has_new_generation(&before));
}

#define PATHS "0 32768 multipath 0 0 1 1 round-robin 0 1 1 $B0 1"
#define BIO_PATHS "0 32768 multipath 2 queue_mode bio 0 1 1 round-robin 0 1 1 $B0 1"

static void expect_untouched_by_paths(const char *commands, const char *paths)
{
	struct blk_snap_cbt_info before;
	int error;

	if (!load_modules("dm-multipath dm-round-robin"))
		return;
	make_top(commands);
	before = take_and_look();
	ASSERT(reload(paths));
	EXPECT(reads_as(image_of(&table.snapshot, &table.top), 0x11, MIB, 0));
	EXPECT_EQ(nr_corrupted(&error), 0);
	take_again();
	EXPECT(!has_new_generation(&before));
}

static void test_other_paths_change_nothing(void)
{
	expect_untouched_by_paths("dm top \"" PATHS "\"", PATHS);
}

static void test_other_paths_of_bios_change_nothing(void)
{
	static const char make[] =
		"dmsetup create --noudevsync -u mpath-test top --table \"" BIO_PATHS "\" >&2\n"
		"echo /dev/$(dmsetup info -c --noheadings -o blkdevname top)";

	expect_untouched_by_paths(make, BIO_PATHS);
}

const struct ktap_test table_tests[] = {
	KTAP_TEST(test_image_fails_when_the_table_changes),
	KTAP_TEST(test_generation_ends_when_the_table_changes),
	KTAP_TEST(test_suspended_device_keeps_image_and_generation),
	KTAP_TEST(test_extended_device_keeps_its_image),
	KTAP_TEST(test_generation_ends_when_the_size_changes_and_is_restored),
	KTAP_TEST(test_other_paths_change_nothing),
	KTAP_TEST(test_other_paths_of_bios_change_nothing),
	KTAP_END
};
