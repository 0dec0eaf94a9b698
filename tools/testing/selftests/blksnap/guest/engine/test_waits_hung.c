// SPDX-License-Identifier: GPL-2.0
/*
 * A disk that has stopped completing requests, and the others
 *
 * Whoever takes, tracks or stops tracking it has to wait for it, may be killed,
 * and keeps nobody waiting who has to do with another disk.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>

#include "test_waits.h"

/* A disk that hangs, with a write in flight, and one that does not. */
static struct {
	struct disk *disk, *other, *storage;
	struct snapshot snapshot;
} hung;

static void make_disks(void)
{
	hung.other = rig_disk(16, NULL);
	hung.storage = rig_disk(32, NULL);
}

static void start_write(void)
{
	const struct child_write write = {
		.path = hung.disk->path,
		.nr_bytes = 4096,
		.byte = 0x22,
	};

	child_write_start(&write);
	sleep_ms(UNDER_WAY_MS);
}

/* The write in flight is a tracked one. */
static void hang_when_tracked(void)
{
	make_disks();
	hung.disk = rig_linear(rig_disk(16, NULL));
	snapshot_create(&hung.snapshot, hung.disk);
	ASSERT_OK(append_range(&hung.snapshot, hung.storage, 0, 8192));
	rig_hang(hung.disk);
	start_write();
}

/* For as long as all these writes last it is as good as hung. */
#define LATE_MS 4000U
#define NR_LATE 6U

/* The writes are older than the tracking, and the driver counts them. */
static void hang_untracked(void)
{
	const struct null_disk_options late = {
		.completion_ns = LATE_MS * NS_PER_MS,
		.queue_depth = 1,
	};
	unsigned int i;

	make_disks();
	hung.disk = rig_disk(16, &late);
	for (i = 0; i < NR_LATE; i++)
		start_write();
}

/* A driver that gives up early is to try as long as one that does not. */
static int take_until_done(void *snapshot)
{
	int ret;

	do
		ret = take_fn(snapshot);
	while (ret == -ETIMEDOUT);
	return ret;
}

static int create_until_done(void *data)
{
	int ret;

	(void)data;
	do
		ret = control_snapshot_create(ctl, &hung.disk->id, 1,
					      &hung.snapshot.id);
	while (ret == -ETIMEDOUT);
	return ret;
}

static int remove_fn(void *data)
{
	(void)data;
	return control_tracker_remove(ctl, hung.disk->id);
}

/* While @fn, a call for the hung disk, is waiting, or whatever it does. */
static void expect_calls_quick_beside(int (*fn)(void *data))
{
	call_start(fn, &hung.snapshot);
	sleep_ms(UNDER_WAY_MS);
	expect_all_calls_quick(hung.other, hung.storage, 16384);
}

static void test_take_of_a_hung_disk_delays_no_call_for_another(void)
{
	hang_when_tracked();
	expect_calls_quick_beside(take_until_done);
}

static void test_tracking_a_hung_disk_delays_no_call_for_another(void)
{
	hang_untracked();
	expect_calls_quick_beside(create_until_done);
}

static void test_untracking_a_hung_disk_delays_no_call_for_another(void)
{
	hang_when_tracked();
	ASSERT_OK(control_snapshot_destroy(ctl, &hung.snapshot.id));
	expect_calls_quick_beside(remove_fn);
}

static void test_list_shows_a_hung_disk_at_once(void)
{
	struct blk_snap_cbt_info info;
	uint64_t begun_ns;

	hang_when_tracked();
	call_start(take_fn, &hung.snapshot);
	sleep_ms(UNDER_WAY_MS);
	begun_ns = now_ns();
	EXPECT(tracker_info(hung.disk, &info));
	ktap_note("the list took %llu ms",
		  (unsigned long long)((now_ns() - begun_ns) / NS_PER_MS));
	EXPECT(now_ns() - begun_ns < CALL_LIMIT_MS * NS_PER_MS);
}

static int destroy_fn(void *data)
{
	struct snapshot *snapshot = data;

	return control_snapshot_destroy(ctl, &snapshot->id);
}

static void test_snapshot_of_a_hung_disk_is_destroyed_at_once(void)
{
	struct call *take, *destroy;

	hang_when_tracked();
	take = call_start(take_fn, &hung.snapshot);
	sleep_ms(UNDER_WAY_MS);
	destroy = call_start(destroy_fn, &hung.snapshot);
	EXPECT(call_ends_within(destroy, CALL_LIMIT_MS));
	EXPECT(call_ends_within(take, CALL_LIMIT_MS));
	rig_go_on();
	call_join(destroy);
	call_join(take);
	ktap_note("destroy took %llu ms, the take that it ended %llu ms",
		  (unsigned long long)(destroy->ns / NS_PER_MS),
		  (unsigned long long)(take->ns / NS_PER_MS));
	EXPECT_OK(destroy->ret);
	EXPECT(take->ret < 0);
}

/* Who waits for the hung disk by @fn ends when it is killed. */
static void expect_killable(int (*fn)(void *data))
{
	pid_t child = child_start(fn, &hung.snapshot);
	uint64_t begun_ns;

	sleep_ms(1000);
	kill(child, SIGKILL);
	begun_ns = now_ns();
	if (!EXPECT(child_ends_within(child, CALL_LIMIT_MS)))
		child_ends_within(child, HANG_MS / 2);
	ktap_note("killed, it ended after %llu ms",
		  (unsigned long long)((now_ns() - begun_ns) / NS_PER_MS));
}

static void test_taker_of_a_hung_disk_can_be_killed(void)
{
	hang_when_tracked();
	expect_killable(take_until_done);
}

static void test_second_taker_of_a_hung_disk_can_be_killed(void)
{
	hang_when_tracked();
	call_start(take_until_done, &hung.snapshot);
	sleep_ms(UNDER_WAY_MS);
	expect_killable(take_until_done);
}

static void test_who_tracks_a_hung_disk_can_be_killed(void)
{
	hang_untracked();
	expect_killable(create_until_done);
}

static void test_who_untracks_a_hung_disk_can_be_killed(void)
{
	hang_when_tracked();
	ASSERT_OK(control_snapshot_destroy(ctl, &hung.snapshot.id));
	expect_killable(remove_fn);
}

/* After all that, the disk goes on, and so does everything. */
static void test_disk_that_hung_is_taken_afterwards(void)
{
	pid_t taker;
	int ret;

	hang_when_tracked();
	taker = child_start(take_fn, &hung.snapshot);
	sleep_ms(1000);
	kill(taker, SIGKILL);
	rig_go_on();
	EXPECT(child_ends_within(taker, CALL_LIMIT_MS));
	/* The one that was killed may have been done already. */
	ret = take_fn(&hung.snapshot);
	EXPECT(!ret || ret == -EALREADY);
	snapshot_find_images(&hung.snapshot);
	EXPECT(fill_direct(hung.disk->path, 0x33, 4096, 0));
	EXPECT(!reads_as(image_of(&hung.snapshot, hung.disk), 0x33, 4096, 0));
}

const struct ktap_test hung_tests[] = {
	KTAP_TEST(test_take_of_a_hung_disk_delays_no_call_for_another),
	KTAP_TEST(test_tracking_a_hung_disk_delays_no_call_for_another),
	KTAP_TEST(test_untracking_a_hung_disk_delays_no_call_for_another),
	KTAP_TEST(test_list_shows_a_hung_disk_at_once),
	KTAP_TEST(test_snapshot_of_a_hung_disk_is_destroyed_at_once),
	KTAP_TEST(test_taker_of_a_hung_disk_can_be_killed),
	KTAP_TEST(test_second_taker_of_a_hung_disk_can_be_killed),
	KTAP_TEST(test_who_tracks_a_hung_disk_can_be_killed),
	KTAP_TEST(test_who_untracks_a_hung_disk_can_be_killed),
	KTAP_TEST(test_disk_that_hung_is_taken_afterwards),
	KTAP_END
};
