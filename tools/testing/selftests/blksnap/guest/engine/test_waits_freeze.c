// SPDX-License-Identifier: GPL-2.0
/*
 * Filesystems that cannot be frozen soon, and those that can
 *
 * A user without any rights has write() wait for the memory that it is to write:
 * a page of a file on FUSE, of a network, of a debugger; here it is the mapping
 * of a disk that hangs.  That keeps the filesystem from being frozen for as long
 * as the user likes, while the disk is as busy and healthy as can be.  Or a
 * filesystem is slow, and has much to write before it can be frozen.  Or somebody else
 * has frozen it.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "test_waits.h"

#define NOBODY 65534
#define FREEZE_LIMIT_MS 25000U		/* for a take of what cannot be frozen */
#define FREEZE_WATCH_MS 34000U

/*
 * disk:  a member as a whole
 * stuck: its partition whose filesystem has a write that does not go on
 * busy:  its other partition, which somebody writes to
 * good:  a disk with a filesystem; younger, for whatever that may mean
 */
static struct {
	struct disk *disk, *good, *other, *storage, *memory;
	struct disk stuck, busy;
	char stuck_file[64], good_file[64];
	struct snapshot snapshot;
} freeze;

static int write_from_hung_memory(void *data)
{
	int from = open(freeze.memory->path, O_RDONLY | O_CLOEXEC);
	int to = open(freeze.stuck_file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	void *page = mmap(NULL, 4096, PROT_READ, MAP_SHARED, from, MIB);

	(void)data;
	if (from < 0 || to < 0 || page == MAP_FAILED ||
	    madvise(page, 4096, MADV_RANDOM) || setuid(NOBODY))
		return 1;
	sleep_ms(UNDER_WAY_MS);
	return write(to, page, 4096) != 4096;
}

static void make_disks(void)
{
	freeze.storage = rig_disk(64, NULL);
	freeze.other = rig_disk(16, NULL);
	freeze.memory = rig_linear(rig_disk(16, NULL));
	freeze.disk = rig_disk(64, NULL);
	ASSERT_OK(partition_add(freeze.disk, &freeze.stuck, 2048, 32 * 2048));
	ASSERT_OK(partition_add(freeze.disk, &freeze.busy, 34 * 2048, 8 * 2048));
	freeze.good = rig_disk(32, NULL);
	snprintf(freeze.stuck_file, sizeof(freeze.stuck_file), "%s/file",
		 rig_mount(&freeze.stuck));
	snprintf(freeze.good_file, sizeof(freeze.good_file), "%s/file",
		 rig_mount(freeze.good));
}

static void create_snapshot(const struct disk *first, const struct disk *second)
{
	const struct disk *members[] = { first, second };

	snapshot_create_of(&freeze.snapshot, members, 2);
	ASSERT_OK(append_range(&freeze.snapshot, freeze.storage, 0, 32 * 2048));
}

/* Ready to be taken: one member cannot be frozen, the other could. */
static void get_stuck(void)
{
	make_disks();
	create_snapshot(freeze.disk, freeze.good);
	child_start(write_from_hung_memory, NULL);
	rig_hang(freeze.memory);
	sleep_ms(2 * UNDER_WAY_MS);
	writer_start(freeze.busy.path, 0, 500000);
}

static void test_write_that_is_stuck_stops_the_take_in_time(void)
{
	struct call *take;

	get_stuck();
	take = call_start(take_fn, &freeze.snapshot);
	EXPECT(call_ends_within(take, FREEZE_WATCH_MS));
	rig_go_on();
	call_join(take);
	ktap_note("take: %llu ms, returned %d",
		  (unsigned long long)(take->ns / NS_PER_MS), take->ret);
	EXPECT(take->ns < FREEZE_LIMIT_MS * NS_PER_MS);
	EXPECT(take->ret < 0);
}

static void test_write_that_is_stuck_freezes_no_other_for_long(void)
{
	struct call *take;
	uint64_t longest_ns;

	get_stuck();
	writer_start(freeze.good_file, 0, 20000);
	take = call_start(take_fn, &freeze.snapshot);
	call_ends_within(take, FREEZE_WATCH_MS);
	longest_ns = writers_longest_ns();
	rig_go_on();
	call_join(take);
	ktap_note("longest write to the other filesystem: %llu ms",
		  (unsigned long long)(longest_ns / NS_PER_MS));
	EXPECT(longest_ns < FREEZE_LIMIT_MS * NS_PER_MS);
}

static void test_write_that_is_stuck_delays_no_other_call(void)
{
	get_stuck();
	call_start(take_fn, &freeze.snapshot);
	sleep_ms(1000);
	expect_all_calls_quick(freeze.other, freeze.storage, 40 * 2048);
}

static void test_taker_of_a_stuck_filesystem_can_be_killed(void)
{
	uint64_t begun_ns;
	pid_t taker;

	get_stuck();
	taker = child_start(take_fn, &freeze.snapshot);
	sleep_ms(3000);
	kill(taker, SIGKILL);
	begun_ns = now_ns();
	if (!EXPECT(child_ends_within(taker, CALL_LIMIT_MS)))
		child_ends_within(taker, FREEZE_WATCH_MS);
	ktap_note("killed, it ended after %llu ms",
		  (unsigned long long)((now_ns() - begun_ns) / NS_PER_MS));
}

/* Nobody is left behind frozen, and the next take is as good as any. */
static void test_filesystems_are_thawed_when_the_taker_is_killed(void)
{
	pid_t taker;
	int ret;

	get_stuck();
	taker = child_start(take_fn, &freeze.snapshot);
	sleep_ms(2000);
	kill(taker, SIGKILL);
	sleep_ms(1000);
	rig_go_on();
	EXPECT(child_ends_within(taker, CALL_LIMIT_MS));
	writers_stop();
	writer_start(freeze.good_file, 0, 10000);
	writer_start(freeze.stuck_file, 0, 10000);
	sleep_ms(500);
	EXPECT(writers_longest_ns() < CALL_LIMIT_MS * NS_PER_MS);
	ret = take_fn(&freeze.snapshot);
	/* The one that was killed may have been done at that moment. */
	EXPECT(!ret || ret == -EALREADY);
}

/* --- much to write --- */

#define REQUEST_MS 20U
#define NR_DIRTY 400U		/* pages, so 8 s */
#define DIRTY_STALL_LIMIT_MS 2000U

/* Every other page, so that no request has two. */
static void make_dirty(const char *path)
{
	char *page = alloc_aligned(4096);
	int fd = ASSERT_OK(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	unsigned int i;

	memset(page, 0x11, 4096);
	for (i = 0; i < 2 * NR_DIRTY; i++)
		ASSERT_EQ(write(fd, page, 4096), 4096);
	ASSERT_OK(fsync(fd));
	memset(page, 0x22, 4096);
	for (i = 0; i < NR_DIRTY; i++)
		ASSERT_EQ(pwrite(fd, page, 4096, 8192 * i), 4096);
	close(fd);
	free(page);
}

static void test_slow_filesystem_keeps_no_other_frozen(void)
{
	const struct null_disk_options slow = {
		.completion_ns = REQUEST_MS * NS_PER_MS,
		.queue_depth = 1,
	};
	struct disk *slow_disk = rig_disk(32, &slow);
	uint64_t longest_ns, without_ns, begun_ns;
	char file[64];

	make_disks();
	create_snapshot(slow_disk, freeze.good);
	snprintf(file, sizeof(file), "%s/file", rig_mount(slow_disk));
	writer_start(freeze.good_file, 0, 5000);
	sleep_ms(3000);
	without_ns = writers_longest_ns();
	make_dirty(file);
	writers_begin_anew();
	begun_ns = now_ns();
	EXPECT_OK(take_fn(&freeze.snapshot));
	longest_ns = writers_longest_ns();
	ktap_note("take %llu ms, longest write to the other %llu ms, without take %llu ms",
		  (unsigned long long)((now_ns() - begun_ns) / NS_PER_MS),
		  (unsigned long long)(longest_ns / NS_PER_MS),
		  (unsigned long long)(without_ns / NS_PER_MS));
	EXPECT(longest_ns < without_ns + DIRTY_STALL_LIMIT_MS * NS_PER_MS);
}

/* --- frozen by somebody else --- */

/* Where ext4 notes that its journal has to be replayed. */
#define EXT4_SUPER_AT 1024
#define EXT4_INCOMPAT_AT 0x60
#define EXT4_INCOMPAT_RECOVER 4

static int good_call(unsigned long request)
{
	char path[sizeof(freeze.good_file)];
	int fd, ret;

	snprintf(path, sizeof(path), "%s", freeze.good_file);
	*strrchr(path, '/') = '\0';
	fd = ASSERT_OK(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	ret = ioctl(fd, request, 0) ? -errno : 0;
	close(fd);
	return ret;
}

static int write_good_file(void *data)
{
	int fd = open(freeze.good_file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	ssize_t ret = write(fd, freeze.good_file, sizeof(freeze.good_file));

	(void)data;
	close(fd);
	return ret < 0;
}

static bool good_image_is_frozen(void)
{
	const char *image = image_of(&freeze.snapshot, freeze.good);

	return read_number("/sys/block/%s/blksnap/filesystem_frozen",
			   image + strlen("/dev/")) == 1;
}

static bool good_image_needs_replay(void)
{
	uint8_t *block = alloc_aligned(4096);
	bool needs_replay;

	ASSERT(read_direct(image_of(&freeze.snapshot, freeze.good), block, 4096, 0));
	needs_replay = block[EXT4_SUPER_AT + EXT4_INCOMPAT_AT] & EXT4_INCOMPAT_RECOVER;
	free(block);
	return needs_replay;
}

static void test_filesystem_frozen_by_another_counts_as_frozen(void)
{
	pid_t writer;

	make_disks();
	create_snapshot(freeze.other, freeze.good);
	ASSERT_EQ(write_good_file(NULL), 0);
	ASSERT_OK(good_call(FIFREEZE));
	snapshot_take(&freeze.snapshot);
	writer = child_start(write_good_file, NULL);
	EXPECT(good_image_is_frozen());
	EXPECT(!good_image_needs_replay());
	/* It is still frozen, and its owner can thaw it. */
	EXPECT(!child_ends_within(writer, UNDER_WAY_MS));
	EXPECT_OK(good_call(FITHAW));
	EXPECT(child_ends_within(writer, CALL_LIMIT_MS));
	EXPECT_ERR(good_call(FITHAW), EINVAL);
}

/*
 * The take has found it frozen, and waits for another filesystem.  Newer kernels keep it
 * frozen for the take, older ones do not.
 */
static void test_filesystem_thawed_before_the_instant_does_not_count_as_frozen(void)
{
	bool is_written;
	struct call *take;
	pid_t writer;

	get_stuck();
	ASSERT_EQ(write_good_file(NULL), 0);
	ASSERT_OK(good_call(FIFREEZE));
	take = call_start(take_fn, &freeze.snapshot);
	sleep_ms(3000);
	EXPECT_OK(good_call(FITHAW));
	writer = child_start(write_good_file, NULL);
	is_written = child_ends_within(writer, CALL_LIMIT_MS);
	rig_go_on();
	call_join(take);
	EXPECT_OK(take->ret);
	ktap_note("thawed during the take, it was %s", is_written ? "written to" : "frozen");
	snapshot_find_images(&freeze.snapshot);
	EXPECT_EQ(good_image_is_frozen(), !is_written);
	if (!is_written)
		EXPECT(child_ends_within(writer, CALL_LIMIT_MS));
}

const struct ktap_test freeze_tests[] = {
	KTAP_SLOW_TEST(test_write_that_is_stuck_stops_the_take_in_time),
	KTAP_SLOW_TEST(test_write_that_is_stuck_freezes_no_other_for_long),
	KTAP_TEST(test_write_that_is_stuck_delays_no_other_call),
	KTAP_TEST(test_taker_of_a_stuck_filesystem_can_be_killed),
	KTAP_TEST(test_filesystems_are_thawed_when_the_taker_is_killed),
	KTAP_TEST(test_slow_filesystem_keeps_no_other_frozen),
	KTAP_TEST(test_filesystem_frozen_by_another_counts_as_frozen),
	KTAP_TEST(test_filesystem_thawed_before_the_instant_does_not_count_as_frozen),
	KTAP_END
};
