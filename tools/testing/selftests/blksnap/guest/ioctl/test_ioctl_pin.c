// SPDX-License-Identifier: GPL-2.0
/*
 * SNAPSHOT_PIN_FILE: what is refused
 *
 * What a pin does is tested where there are filesystems, see test_storage_pin.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "test_ioctl.h"

/* On a filesystem of the initramfs, which is in memory. */
#define MEMORY_FILE "/tmp/pin"

static int pin(const struct blk_snap_uuid *id, int fd, uint32_t reserved)
{
	struct blk_snap_snapshot_pin_file arg = { .id = *id, .fd = fd, .reserved = reserved };

	return ctl_call(IOCTL_BLK_SNAP_SNAPSHOT_PIN_FILE, &arg);
}

static int open_file(void)
{
	return ASSERT_OK(open(MEMORY_FILE, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
}

static void test_pin_for_unknown_snapshot_gets_esrch(void)
{
	int fd = open_file();

	EXPECT_ERR(pin(&unknown_id, fd, 0), ESRCH);
	close(fd);
}

static void test_pin_with_reserved_field_gets_einval(void)
{
	struct snapshot snapshot;
	int fd = open_file();

	snapshot_create(&snapshot, &disk_a);
	EXPECT_ERR(pin(&snapshot.id, fd, 1), EINVAL);
	EXPECT_ERR(pin(&snapshot.id, fd, 1U << 31), EINVAL);
	EXPECT_ERR(pin(&unknown_id, fd, 1), EINVAL);
	close(fd);
}

static void test_pin_of_bad_file_descriptor_gets_ebadf(void)
{
	struct snapshot snapshot;
	int fd = open_file();

	snapshot_create(&snapshot, &disk_a);
	close(fd);
	EXPECT_ERR(pin(&snapshot.id, fd, 0), EBADF);
	EXPECT_ERR(pin(&snapshot.id, -1, 0), EBADF);
	EXPECT_ERR(pin(&snapshot.id, INT32_MIN, 0), EBADF);
	EXPECT_ERR(pin(&snapshot.id, INT32_MAX, 0), EBADF);
	/* One that names a file without opening it. */
	fd = ASSERT_OK(open(MEMORY_FILE, O_PATH | O_CLOEXEC));
	EXPECT_ERR(pin(&snapshot.id, fd, 0), EBADF);
	close(fd);
}

static void test_pin_of_what_is_no_regular_file_gets_einval(void)
{
	struct snapshot snapshot;
	int fds[2], fd;

	snapshot_create(&snapshot, &disk_a);
	EXPECT_ERR(pin(&snapshot.id, ctl, 0), EINVAL);
	fd = ASSERT_OK(open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	EXPECT_ERR(pin(&snapshot.id, fd, 0), EINVAL);
	close(fd);
	fd = ASSERT_OK(open(disk_s.path, O_RDWR | O_CLOEXEC));
	EXPECT_ERR(pin(&snapshot.id, fd, 0), EINVAL);
	close(fd);
	ASSERT_OK(pipe(fds));
	EXPECT_ERR(pin(&snapshot.id, fds[0], 0), EINVAL);
	close(fds[0]);
	close(fds[1]);
}

static void test_pin_on_a_filesystem_that_cannot_gets_eopnotsupp(void)
{
	struct snapshot snapshot;
	int fd = open_file();

	snapshot_create(&snapshot, &disk_a);
	EXPECT_ERR(pin(&snapshot.id, fd, 0), EOPNOTSUPP);
	/* Nothing is half done. */
	EXPECT_EQ(write(fd, "x", 1), 1);
	EXPECT_OK(unlink(MEMORY_FILE));
	close(fd);
}

static void test_pin_does_not_touch_its_argument(void)
{
	struct blk_snap_snapshot_pin_file arg = { .id = unknown_id, .fd = 7 };
	const struct blk_snap_snapshot_pin_file before = arg;

	EXPECT_ERR(ctl_call(IOCTL_BLK_SNAP_SNAPSHOT_PIN_FILE, &arg), ESRCH);
	EXPECT(!memcmp(&arg, &before, sizeof(arg)));
	EXPECT_EQ(sizeof(arg), 24);
}

const struct ktap_test pin_tests[] = {
	KTAP_TEST(test_pin_for_unknown_snapshot_gets_esrch),
	KTAP_TEST(test_pin_with_reserved_field_gets_einval),
	KTAP_TEST(test_pin_of_bad_file_descriptor_gets_ebadf),
	KTAP_TEST(test_pin_of_what_is_no_regular_file_gets_einval),
	KTAP_TEST(test_pin_on_a_filesystem_that_cannot_gets_eopnotsupp),
	KTAP_TEST(test_pin_does_not_touch_its_argument),
	KTAP_END
};
