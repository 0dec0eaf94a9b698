// SPDX-License-Identifier: GPL-2.0
/*
 * The ioctl that tells what a snapshot holds, since when, and for whom
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "test_ioctl.h"

/* Checks the fields that every answer has; what is an answer alone was poison. */
static int ask(const struct blk_snap_uuid *id, uint32_t room, const void *array,
	       struct blk_snap_snapshot_info *info)
{
	int ret;

	memset(info, POISON, sizeof(*info));
	info->id = *id;
	info->count = room;
	info->flags = 0;
	info->dev_id_array = (uintptr_t)array;
	ret = ctl_call(IOCTL_BLK_SNAP_SNAPSHOT_INFO, info);
	EXPECT(!memcmp(&info->id, id, sizeof(*id)));
	EXPECT(info->dev_id_array == (uintptr_t)array);
	return ret;
}

static void create_of_two(struct snapshot *snapshot)
{
	const struct disk *members[] = { &disk_b, &disk_a };

	snapshot_create_of(snapshot, members, 2);
}

static void test_info_of_unknown_snapshot_gets_esrch(void)
{
	struct blk_snap_snapshot_info info;
	struct snapshot snapshot;

	EXPECT_ERR(ask(&unknown_id, 0, NULL, &info), ESRCH);
	snapshot_create(&snapshot, &disk_a);
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	EXPECT_ERR(ask(&snapshot.id, 0, NULL, &info), ESRCH);
}

static void test_info_with_flags_gets_einval(void)
{
	struct blk_snap_snapshot_info info = { 0 };
	struct snapshot snapshot;
	unsigned int bit;

	snapshot_create(&snapshot, &disk_a);
	info.id = snapshot.id;
	for (bit = 0; bit < 32; bit++) {
		info.flags = 1U << bit;
		EXPECT_ERR(ctl_call(IOCTL_BLK_SNAP_SNAPSHOT_INFO, &info), EINVAL);
		EXPECT_EQ(info.flags, 1U << bit);
	}
}

static void test_info_tells_devices_in_their_order(void)
{
	struct blk_snap_snapshot_info info;
	struct blk_snap_dev devs[3];
	struct snapshot snapshot;

	create_of_two(&snapshot);
	memset(devs, POISON, sizeof(devs));
	ASSERT_OK(ask(&snapshot.id, 3, devs, &info));
	EXPECT_EQ(info.count, 2);
	EXPECT(!memcmp(&devs[0], &disk_b.id, sizeof(devs[0])));
	EXPECT(!memcmp(&devs[1], &disk_a.id, sizeof(devs[0])));
	EXPECT(is_filled_with(&devs[2], POISON, sizeof(devs[2])));
}

static void test_info_into_small_array_gets_enodata(void)
{
	struct blk_snap_snapshot_info info;
	struct blk_snap_dev dev;
	struct snapshot snapshot;

	create_of_two(&snapshot);
	memset(&dev, POISON, sizeof(dev));
	EXPECT_ERR(ask(&snapshot.id, 1, &dev, &info), ENODATA);
	EXPECT_EQ(info.count, 2);
	EXPECT_EQ(info.pid, getpid());
	EXPECT(is_filled_with(&dev, POISON, sizeof(dev)));
}

static void test_info_without_array_tells_the_rest(void)
{
	struct blk_snap_snapshot_info info;
	struct blk_snap_dev dev;
	struct snapshot snapshot;

	create_of_two(&snapshot);
	EXPECT_OK(ask(&snapshot.id, 9, NULL, &info));
	EXPECT_EQ(info.count, 2);
	memset(&dev, POISON, sizeof(dev));
	EXPECT_OK(ask(&snapshot.id, 0, &dev, &info));
	EXPECT_EQ(info.count, 2);
	EXPECT(is_filled_with(&dev, POISON, sizeof(dev)));
}

static void test_info_into_bad_array_gets_efault(void)
{
	struct blk_snap_snapshot_info info;
	struct blk_snap_dev *edge = bad_page;
	struct snapshot snapshot;

	create_of_two(&snapshot);
	EXPECT_ERR(ask(&snapshot.id, 2, bad_page, &info), EFAULT);
	EXPECT_ERR(ask(&snapshot.id, 2, edge - 1, &info), EFAULT);
	EXPECT_ERR(ask(&snapshot.id, 2, readonly_page, &info), EFAULT);
}

static void test_info_tells_the_state(void)
{
	struct blk_snap_snapshot_info info;
	struct snapshot snapshot;

	snapshot_create(&snapshot, &disk_a);
	ASSERT_OK(ask(&snapshot.id, 0, NULL, &info));
	EXPECT_EQ(info.state, blk_snap_snapshot_state_created);
	ASSERT_OK(append_range(&snapshot, &disk_s, 2048, 4096));
	snapshot_take(&snapshot);
	ASSERT_OK(ask(&snapshot.id, 0, NULL, &info));
	EXPECT_EQ(info.state, blk_snap_snapshot_state_taken);
}

static void test_info_tells_the_age(void)
{
	const struct timespec nap = { .tv_nsec = 200 * 1000000 };
	struct blk_snap_snapshot_info first, second;
	struct snapshot snapshot;

	snapshot_create(&snapshot, &disk_a);
	ASSERT_OK(ask(&snapshot.id, 0, NULL, &first));
	nanosleep(&nap, NULL);
	ASSERT_OK(ask(&snapshot.id, 0, NULL, &second));
	EXPECT(first.age_ms < 60000);
	EXPECT(second.age_ms >= first.age_ms + 200);
	EXPECT(second.age_ms < first.age_ms + 60000);
}

static void test_info_tells_the_creator(void)
{
	struct blk_snap_snapshot_info info;
	char comm[BLK_SNAP_COMM_LEN] = { 0 };
	struct snapshot snapshot;

	ASSERT_OK(prctl(PR_GET_NAME, comm));
	snapshot_create(&snapshot, &disk_a);
	ASSERT_OK(ask(&snapshot.id, 0, NULL, &info));
	EXPECT_EQ(info.pid, getpid());
	EXPECT_EQ(info.flags, 0);
	EXPECT(!memcmp(info.comm, comm, strlen(comm)));
	EXPECT(is_filled_with(info.comm + strlen(comm), 0,
			      sizeof(info.comm) - strlen(comm)));
}

/* An agent that dies between the creation and the take. */
static pid_t create_and_die(struct blk_snap_uuid *id)
{
	int pipe_fds[2];
	pid_t child;

	ASSERT_OK(pipe(pipe_fds));
	fflush(stdout);
	child = fork();
	if (!child) {
		prctl(PR_SET_NAME, "backup-agent");
		if (control_snapshot_create(ctl, &disk_a.id, 1, id) ||
		    write(pipe_fds[1], id, sizeof(*id)) != sizeof(*id))
			_exit(1);
		_exit(0);
	}
	ASSERT_OK(child);
	ASSERT_EQ(read(pipe_fds[0], id, sizeof(*id)), sizeof(*id));
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	ASSERT_OK(waitpid(child, NULL, 0));
	return child;
}

static void test_info_tells_that_the_creator_has_ended(void)
{
	static const char comm[BLK_SNAP_COMM_LEN] = "backup-agent";
	struct blk_snap_snapshot_info info;
	struct blk_snap_uuid id;
	struct blk_snap_dev dev;
	pid_t child;

	child = create_and_die(&id);
	ASSERT_OK(ask(&id, 1, &dev, &info));
	EXPECT_EQ(info.flags, BLK_SNAP_INFO_CREATOR_ENDED);
	/* Its number is nobody's now, or another process'. */
	EXPECT(info.pid == (uint32_t)child || !info.pid);
	EXPECT(!memcmp(info.comm, comm, sizeof(comm)));
	EXPECT_EQ(info.state, blk_snap_snapshot_state_created);
	EXPECT(!memcmp(&dev, &disk_a.id, sizeof(dev)));
}

const struct ktap_test info_tests[] = {
	KTAP_TEST(test_info_of_unknown_snapshot_gets_esrch),
	KTAP_TEST(test_info_with_flags_gets_einval),
	KTAP_TEST(test_info_tells_devices_in_their_order),
	KTAP_TEST(test_info_into_small_array_gets_enodata),
	KTAP_TEST(test_info_without_array_tells_the_rest),
	KTAP_TEST(test_info_into_bad_array_gets_efault),
	KTAP_TEST(test_info_tells_the_state),
	KTAP_TEST(test_info_tells_the_age),
	KTAP_TEST(test_info_tells_the_creator),
	KTAP_TEST(test_info_tells_that_the_creator_has_ended),
	KTAP_END
};
