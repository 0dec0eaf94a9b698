// SPDX-License-Identifier: GPL-2.0
/*
 * The end of ftrace: the filter may not miss a write, nor its code go away
 *
 *	test_ftrace --filter tracked.|unload.|early. [--seed S]
 *
 * ftrace switches itself off when it finds a fault, and there is no way back.  So the
 * tests of a suite are one story, in their order, and each suite needs a boot of its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "blksnap_test.h"

#define DISK_MIB 16
#define OLD_BYTE 0x11
#define NEW_BYTE 0x22

/* How long the module may take to notice, on a machine that is busy. */
#define PATIENCE_MS 30000

/* As long as it takes several times to notice, and to give up an idle filter. */
#define CALM_MS 3000

#define FTRACE_ENABLED "/proc/sys/kernel/ftrace_enabled"

#define PINNED "cannot be unloaded before the next boot"
#define REFUSED "cannot filter bios, ftrace has found a fault"

static struct disk origin, storage, other;

static bool end_ftrace(void)
{
	return write_text("/sys/module/kill_ftrace/parameters/now", "1");
}

/* Returns 0 or a negative errno. */
static int unload(void)
{
	return syscall(SYS_delete_module, "blksnap", O_NONBLOCK) ? -errno : 0;
}

static void set_up(void)
{
	if (module_is_loaded())
		ctl_set_up();
}

static void close_ctl(void)
{
	close(ctl);
	ctl = -1;
}

/* What is tracked stays tracked. */
static void tear_down(void)
{
	if (ctl < 0)
		return;
	destroy_all_snapshots();
	close_ctl();
}

/* There is no snapshot, and the node is closed: nothing else keeps the module. */
static bool becomes_pinned(void)
{
	const uint64_t end = now_ns() + PATIENCE_MS * 1000000ULL;

	while (read_number("/sys/module/blksnap/refcnt") == 0 && now_ns() < end)
		sleep_ms(10);
	return read_number("/sys/module/blksnap/refcnt") > 0;
}

static void track(const struct disk *disk)
{
	struct snapshot snapshot;

	snapshot_create(&snapshot, disk);
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
}

static void expect_writes_land(int byte)
{
	EXPECT(fill_direct(origin.path, byte, MIB, 0));
	EXPECT(reads_as(origin.path, byte, MIB, 0));
}

/* Takes a snapshot of @disk and writes: image and change map have to be right. */
static void expect_all_is_seen(const struct disk *disk)
{
	struct blk_snap_cbt_info info;
	struct snapshot snapshot;
	uint8_t *map;

	ASSERT(fill_direct(disk->path, OLD_BYTE, MIB, 0));
	snapshot_now(&snapshot, disk, &storage);
	EXPECT(fill_direct(disk->path, NEW_BYTE, MIB, 0));
	EXPECT(reads_as(image_of(&snapshot, disk), OLD_BYTE, MIB, 0));
	EXPECT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	snapshot_now(&snapshot, disk, &storage);
	map = read_map(disk, &info);
	EXPECT_EQ(map[0], info.snap_number);
	EXPECT_EQ(map[info.blk_count - 1], 0);
	free(map);
	EXPECT_OK(control_snapshot_destroy(ctl, &snapshot.id));
}

/* --- while a device is tracked --- */

static void test_ftrace_that_is_switched_off_is_told(void)
{
	struct blk_snap_uuid id;

	if (!write_text(FTRACE_ENABLED, "0")) {
		ktap_skip("ftrace cannot be switched off");
		return;
	}
	log_clear();
	EXPECT_ERR(control_snapshot_create(ctl, &origin.id, 1, &id), EBUSY);
	EXPECT_EQ(count_in_log("kernel.ftrace_enabled=0?"), 1);
	EXPECT(write_text(FTRACE_ENABLED, "1"));
	track(&origin);
	EXPECT(!write_text(FTRACE_ENABLED, "0"));
}

static void test_a_snapshot_outlives_ftrace(void)
{
	struct snapshot snapshot;

	log_clear();
	ASSERT(fill_direct(origin.path, OLD_BYTE, 2 * MIB, 0));
	snapshot_now(&snapshot, &origin, &storage);
	EXPECT(fill_direct(origin.path, NEW_BYTE, MIB, 0));
	ASSERT(end_ftrace());
	EXPECT(fill_direct(origin.path, NEW_BYTE, MIB, MIB));
	EXPECT(reads_as(image_of(&snapshot, &origin), OLD_BYTE, 2 * MIB, 0));
	EXPECT(reads_as(origin.path, NEW_BYTE, 2 * MIB, 0));
	EXPECT_OK(control_snapshot_destroy(ctl, &snapshot.id));
}

static void test_unload_is_refused(void)
{
	close_ctl();
	EXPECT(becomes_pinned());
	EXPECT_ERR(unload(), EAGAIN);
	EXPECT(module_unload() != 0);
	ASSERT(module_is_loaded());
	expect_writes_land(0x33);
	EXPECT_EQ(count_in_log(PINNED), 1);
}

static void test_tracking_goes_on(void)
{
	expect_all_is_seen(&origin);
}

static void test_another_disk_can_be_tracked(void)
{
	expect_all_is_seen(&other);
}

static void test_filter_stays_after_the_last_tracker(void)
{
	remove_all_trackers();
	close_ctl();
	sleep_ms(CALM_MS);
	expect_writes_land(0x44);
	EXPECT_ERR(unload(), EAGAIN);
	expect_writes_land(0x55);
}

static void test_tracking_begins_again(void)
{
	expect_all_is_seen(&origin);
	EXPECT_EQ(count_in_log(PINNED), 1);
	EXPECT_EQ(count_in_log(REFUSED), 0);
}

static const struct ktap_test tracked_tests[] = {
	KTAP_TEST(test_ftrace_that_is_switched_off_is_told),
	KTAP_TEST(test_a_snapshot_outlives_ftrace),
	KTAP_TEST(test_unload_is_refused),
	KTAP_TEST(test_tracking_goes_on),
	KTAP_TEST(test_another_disk_can_be_tracked),
	KTAP_TEST(test_filter_stays_after_the_last_tracker),
	KTAP_TEST(test_tracking_begins_again),
	KTAP_END
};

/* --- at the moment of unloading --- */

/*
 * The module cannot have noticed yet, or just so.  In the first case unloading does not
 * end; the child that tries is left to the end of the machine.
 */
static void test_code_stays_if_the_module_is_unloaded_at_once(void)
{
	pid_t child;
	int status;

	log_clear();
	track(&origin);
	close_ctl();
	child = ASSERT_OK(fork());
	if (!child)
		_exit(!end_ftrace() || !unload());
	sleep_ms(CALM_MS);
	if (waitpid(child, &status, WNOHANG) == child)
		EXPECT_EQ(status, 0);
	expect_writes_land(0x33);
	EXPECT(module_is_loaded());
	EXPECT_EQ(count_in_log(PINNED), 1);
}

static const struct ktap_test unload_tests[] = {
	KTAP_TEST(test_code_stays_if_the_module_is_unloaded_at_once),
	KTAP_END
};

/* --- before anything is tracked --- */

static void test_tracking_is_refused(void)
{
	struct blk_snap_cbt_info info;
	struct blk_snap_uuid id;

	log_clear();
	ASSERT(end_ftrace());
	EXPECT_ERR(control_snapshot_create(ctl, &origin.id, 1, &id), EBUSY);
	EXPECT(!tracker_info(&origin, &info));
	EXPECT_EQ(count_in_log(REFUSED), 1);
}

static void test_unload_works(void)
{
	close_ctl();
	EXPECT_OK(unload());
	expect_writes_land(0x33);
	EXPECT_EQ(count_in_log(PINNED), 0);
}

static void test_load_is_refused(void)
{
	log_clear();
	EXPECT(module_load("") != 0);
	EXPECT(!module_is_loaded());
	/* modprobe may try twice. */
	EXPECT(count_in_log(REFUSED));
}

static const struct ktap_test early_tests[] = {
	KTAP_TEST(test_tracking_is_refused),
	KTAP_TEST(test_unload_works),
	KTAP_TEST(test_load_is_refused),
	KTAP_END
};

static const struct ktap_suite suites[] = {
	{ "tracked", set_up, tear_down, tracked_tests },
	{ "unload", set_up, tear_down, unload_tests },
	{ "early", set_up, tear_down, early_tests },
	{ NULL, NULL, NULL, NULL }
};

int main(int argc, char **argv)
{
	tests_need_module();
	if (access("/sys/module/kill_ftrace", F_OK))
		ktap_skip_all("no module to switch ftrace off");
	if (null_disk_create(&origin, "nullb0", DISK_MIB, NULL) ||
	    null_disk_create(&storage, "nullb1", 2 * DISK_MIB, NULL) ||
	    null_disk_create(&other, "nullb2", DISK_MIB, NULL))
		ktap_skip_all("null_blk disks cannot be made");
	return ktap_main(suites, argc, argv);
}
