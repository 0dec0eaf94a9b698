// SPDX-License-Identifier: GPL-2.0
/*
 * Requests that stay below the filter for seconds
 *
 * A cgroup whose bandwidth on the origin is limited keeps its requests back
 * after they have passed the filter.  So a write can be made to be in flight
 * during a take, and an image read to be in flight during a write.  Both orders
 * come about without a limit, too, but rarely enough for a lucky test.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "stacked.h"
#include "test_io.h"

#define CGROUP "/sys/fs/cgroup"
#define SLOW CGROUP "/blksnap-slow"
#define SLOW_BYTES (128 * KIB)		/* 2 seconds at */
#define SLOW_BYTES_PER_S (64 * KIB)
#define DELAY_MS 400U			/* until a request is there, surely */
#define DELAYED "blksnap-delayed"

static struct disk origin, storage;
static char *shared;			/* SLOW_BYTES, seen by the child too */

void throttle_tear_down(void)
{
	ctl_tear_down();
	mapping_remove(DELAYED);
	null_disk_destroy(&origin);
	null_disk_destroy(&storage);
	rmdir(SLOW);
}

static bool limit_origin(void)
{
	char limit[100];

	/* Its jiffies wrap then: BUG_ON(time_before()) in throtl_trim_slice(). */
	if (sizeof(long) == 4 && now_ns() < 300 * 1000000000ULL) {
		ktap_skip("limits of cgroups panic 32-bit kernels in their first 5 minutes");
		return false;
	}
	if (access(CGROUP "/cgroup.controllers", F_OK))
		mount("cgroup2", CGROUP, "cgroup2", 0, NULL);
	write_text(CGROUP "/cgroup.subtree_control", "+io");
	mkdir(SLOW, 0755);
	snprintf(limit, sizeof(limit), "%u:%u rbps=%llu wbps=%llu",
		 origin.id.mj, origin.id.mn, SLOW_BYTES_PER_S, SLOW_BYTES_PER_S);
	if (write_text(SLOW "/io.max", limit))
		return true;
	ktap_skip("this kernel cannot limit the bandwidth of a cgroup");
	return false;
}

static bool throttle_set_up_disks(void)
{
	ASSERT_OK(null_disk_create(&origin, "nullb0", 16, NULL));
	ASSERT_OK(null_disk_create(&storage, "nullb1", 16, NULL));
	ASSERT(fill_direct(origin.path, 0x11, MIB, 0));
	if (!shared)
		shared = mmap(NULL, SLOW_BYTES, PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT(shared != MAP_FAILED);
	return limit_origin();
}

/* Exit code of the child: how long it took in tenths of a second, or 255. */
static int transfer_slowly(const char *path, bool is_write)
{
	const uint64_t start = now_ns();
	int fd = open(path, (is_write ? O_WRONLY : O_RDONLY) | O_DIRECT);
	ssize_t ret;

	if (fd < 0 || !write_text(SLOW "/cgroup.procs", "0"))
		return 255;
	ret = is_write ? pwrite(fd, shared, SLOW_BYTES, 0) :
			 pread(fd, shared, SLOW_BYTES, 0);
	if (ret != (ssize_t)SLOW_BYTES)
		return 255;
	return (now_ns() - start) / 100000000;
}

static pid_t start_transfer(const char *path, bool is_write)
{
	pid_t child;

	fflush(stdout);
	child = fork();
	if (!child)
		_exit(transfer_slowly(path, is_write));
	ASSERT_OK(child);
	sleep_ms(DELAY_MS);
	return child;
}

/* Was it slow enough to have been in flight when we wanted it to be? */
static bool transfer_was_slow(pid_t child)
{
	int status;

	ASSERT_OK(waitpid(child, &status, 0));
	ASSERT(WIFEXITED(status) && WEXITSTATUS(status) != 255);
	if (WEXITSTATUS(status) * 100U > DELAY_MS + 500)
		return true;
	ktap_skip("the request was not delayed");
	return false;
}

/* A program that reads an image has no say in how fast the origin is. */
static void test_write_does_not_wait_for_image_read(void)
{
	struct snapshot snapshot;
	uint64_t start;
	int status;
	pid_t child;

	if (!throttle_set_up_disks())
		return;
	snapshot_now(&snapshot, &origin, &storage);
	memset(shared, 0, SLOW_BYTES);
	child = start_transfer(image_of(&snapshot, &origin), false);
	start = now_ns();
	EXPECT(fill_direct(origin.path, 0x22, SLOW_BYTES, 0));
	EXPECT(now_ns() - start < 1000000000);
	ASSERT_OK(waitpid(child, &status, 0));
	EXPECT(WIFEXITED(status) && WEXITSTATUS(status) != 255);
	EXPECT(is_filled_with(shared, 0x11, SLOW_BYTES));
	EXPECT(reads_as(image_of(&snapshot, &origin), 0x11, SLOW_BYTES, 0));
	EXPECT(reads_as(origin.path, 0x22, SLOW_BYTES, 0));
}

/*
 * The read is sent to the origin while the blocks are being copied, and gets there
 * after the write that was held for the copy.
 */
static void test_image_read_overtaken_by_a_write_is_right(void)
{
	struct snapshot snapshot;
	struct disk delayed;
	int status;
	pid_t child;

	ASSERT_OK(null_disk_create(&origin, "nullb0", 16, NULL));
	ASSERT_OK(null_disk_create(&storage, "nullb1", 16, NULL));
	ASSERT(fill_direct(origin.path, 0x11, MIB, 0));
	if (delay_create(&delayed, DELAYED, &origin, 2 * DELAY_MS, 0)) {
		ktap_skip("this kernel has no dm-delay");
		return;
	}
	snapshot_now(&snapshot, &delayed, &storage);
	fflush(stdout);
	child = fork();
	if (!child)
		_exit(!fill_direct(delayed.path, 0x22, SLOW_BYTES, 0));
	ASSERT_OK(child);
	sleep_ms(DELAY_MS);
	EXPECT(reads_as(image_of(&snapshot, &delayed), 0x11, MIB, 0));
	ASSERT_OK(waitpid(child, &status, 0));
	EXPECT(WIFEXITED(status) && !WEXITSTATUS(status));
	EXPECT(reads_as(image_of(&snapshot, &delayed), 0x11, MIB, 0));
}

/* Taken while it is in flight, it is in the image or it is not, for ever. */
static void test_take_waits_for_writes_in_flight(void)
{
	char *first = alloc_aligned(SLOW_BYTES);
	struct snapshot snapshot;
	pid_t child;

	if (!throttle_set_up_disks())
		return;
	snapshot_create(&snapshot, &origin);
	ASSERT_OK(append_range(&snapshot, &storage, 0, 16 * 2048));
	memset(shared, 0x22, SLOW_BYTES);
	child = start_transfer(origin.path, true);
	snapshot_take(&snapshot);
	ASSERT(read_direct(image_of(&snapshot, &origin), first, SLOW_BYTES, 0));
	EXPECT(first[0] == 0x11 || first[0] == 0x22);
	transfer_was_slow(child);
	EXPECT(reads_as(image_of(&snapshot, &origin), first[0], SLOW_BYTES, 0));
	EXPECT(reads_as(origin.path, 0x22, SLOW_BYTES, 0));
	free(first);
}

const struct ktap_test throttle_tests[] = {
	KTAP_TEST(test_write_does_not_wait_for_image_read),
	KTAP_TEST(test_image_read_overtaken_by_a_write_is_right),
	KTAP_TEST(test_take_waits_for_writes_in_flight),
	KTAP_END
};
