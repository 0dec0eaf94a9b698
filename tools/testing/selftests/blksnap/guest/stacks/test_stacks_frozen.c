// SPDX-License-Identifier: GPL-2.0
/*
 * A filesystem that somebody else has frozen, and a take
 *
 * It stays frozen until its owner thaws it, whether the kernel freezes it once more for
 * the take or refuses to.
 */
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test_stacks.h"

#define DIR "/tmp/stacks-frozen"
#define DISK_MIB 64

/* As long as a write may take that nothing holds, and as one is watched that is held. */
#define WRITE_MS 5000
#define WATCH_MS 1000

static struct {
	int fd;			/* of the filesystem, open before it was frozen */
	bool is_frozen;
	pid_t writer;
} frozen;

/* Not twice: an older gfs2 does not bear it. */
static int thaw(void)
{
	frozen.is_frozen = false;
	return ioctl(frozen.fd, FITHAW, 0);
}

static void mount_frozen(const char *type, const char *make)
{
	char line[200];

	if (!load_modules(type) || !stack_build(stack_find("null_blk"), DISK_MIB))
		return;
	ASSERT_EQ(shell_line(line, sizeof(line), make), 0);
	mkdir(DIR, 0755);
	ASSERT_OK(mount(built.top.path, DIR, type, 0, NULL));
	frozen.fd = ASSERT_OK(open(DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	ASSERT_OK(ioctl(frozen.fd, FIFREEZE, 0));
	frozen.is_frozen = true;
}

static void start_writer(void)
{
	frozen.writer = ASSERT_OK(fork());
	if (!frozen.writer)
		_exit(openat(frozen.fd, "file", O_WRONLY | O_CREAT | O_CLOEXEC, 0600) < 0);
}

static bool writer_ends_within(unsigned int ms)
{
	const uint64_t end = now_ns() + ms * 1000000ULL;
	pid_t ended;

	while (!(ended = waitpid(frozen.writer, NULL, WNOHANG)) && now_ns() < end)
		sleep_ms(10);
	if (ended)
		frozen.writer = 0;
	return ended;
}

static void expect_frozen_until_thawed(void)
{
	struct snapshot snapshot;

	if (!frozen.is_frozen)
		return;
	snapshot_now(&snapshot, &built.top, &built.storage);
	start_writer();
	EXPECT(!writer_ends_within(WATCH_MS));
	EXPECT_OK(thaw());
	EXPECT(!frozen.writer || writer_ends_within(WRITE_MS));
}

static void test_ext4_stays_frozen(void)
{
	mount_frozen("ext4", "mkfs.ext4 -q -F -E lazy_itable_init=0 $TOP");
	expect_frozen_until_thawed();
}

/* Its function to freeze it refuses what is frozen, and that to thaw it counts nothing. */
static void test_gfs2_stays_frozen(void)
{
	char line[10];

	/* Up to 6.7 its frozen filesystem may panic by itself when it is thawed. */
	if (shell_line(line, sizeof(line), "case $(uname -r) in 6.[0-7].*) exit 4 ;; esac\n"
					   "command -v mkfs.gfs2 || exit 4")) {
		ktap_skip("there is no mkfs.gfs2, or no gfs2 that bears it");
		return;
	}
	mount_frozen("gfs2", "mkfs.gfs2 -q -O -p lock_nolock -j 1 -J 8 $TOP >&2");
	expect_frozen_until_thawed();
}

void frozen_tear_down(void)
{
	if (frozen.is_frozen)
		thaw();
	if (frozen.fd)
		close(frozen.fd);
	frozen.fd = 0;
	if (frozen.writer)
		writer_ends_within(WRITE_MS);
	while (!umount(DIR))
		;
	stack_tear_down();
}

const struct ktap_test frozen_tests[] = {
	KTAP_TEST(test_ext4_stays_frozen),
	KTAP_TEST(test_gfs2_stays_frozen),
	KTAP_END
};
