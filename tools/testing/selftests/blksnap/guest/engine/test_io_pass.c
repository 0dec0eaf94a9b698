// SPDX-License-Identifier: GPL-2.0
/*
 * Writes that the filter lets pass, or takes without a delay for their submitter
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "stacked.h"
#include "test_io.h"

#define PASS_MIB 16
#define NR_OTHERS SNAPSHOT_DISKS_MAX

static struct {
	struct disk origin, storage, loop;
	struct disk others[NR_OTHERS];
} pass;

void pass_tear_down(void)
{
	unsigned int i;

	ctl_tear_down();
	loop_remove(&pass.loop);
	for (i = 0; i < NR_OTHERS; i++)
		null_disk_destroy(&pass.others[i]);
	null_disk_destroy(&pass.origin);
	null_disk_destroy(&pass.storage);
	memset(&pass, 0, sizeof(pass));
}

/* --- a write that may not wait --- */

#define SLOW_NS 1000000000U
#define SLOW_DEPTH 32U
#define NR_HELD (2 * SLOW_DEPTH)

static void *pass_buffer;

static int submit_write(aio_context_t context, int fd, uint64_t at, int flags)
{
	struct iocb iocb = {
		.aio_lio_opcode = IOCB_CMD_PWRITE,
		.aio_fildes = fd,
		.aio_buf = (uintptr_t)pass_buffer,
		.aio_nbytes = 4096,
		.aio_offset = at,
		.aio_rw_flags = flags,
	};
	struct iocb *list = &iocb;

	return syscall(SYS_io_submit, context, 1, &list);
}

/* More than the queue has room for. */
static void *hold_many(void *arg)
{
	const int fd = *(int *)arg;
	aio_context_t context = 0;
	unsigned int i;

	ASSERT_OK(syscall(SYS_io_setup, NR_HELD, &context));
	for (i = 0; i < NR_HELD; i++)
		EXPECT_EQ(submit_write(context, fd, i * 64 * KIB, 0), 1);
	syscall(SYS_io_destroy, context);
	return NULL;
}

static void test_nowait_write_is_not_held_by_its_submitter(void)
{
	const struct null_disk_options slow = {
		.completion_ns = SLOW_NS,
		.queue_depth = SLOW_DEPTH,
	};
	aio_context_t context = 0;
	struct io_event event;
	struct snapshot snapshot;
	pthread_t thread;
	uint64_t start;
	int fd;

	ASSERT_OK(null_disk_create(&pass.origin, "nullb0", PASS_MIB, &slow));
	ASSERT_OK(null_disk_create(&pass.storage, "nullb1", PASS_MIB, NULL));
	snapshot_now(&snapshot, &pass.origin, &pass.storage);
	pass_buffer = alloc_aligned(4096);
	fd = ASSERT_OK(open(pass.origin.path, O_WRONLY | O_DIRECT | O_CLOEXEC));
	ASSERT_OK(syscall(SYS_io_setup, 1, &context));
	ASSERT_EQ(pthread_create(&thread, NULL, hold_many, &fd), 0);
	sleep_ms(300);
	start = now_ns();
	EXPECT_EQ(submit_write(context, fd, 15 * MIB, RWF_NOWAIT), 1);
	EXPECT(now_ns() - start < SLOW_NS / 3);
	ASSERT_EQ(syscall(SYS_io_getevents, context, 1, 1, &event, NULL), 1);
	EXPECT(event.res == 4096 || event.res == -EAGAIN);
	pthread_join(thread, NULL);
	syscall(SYS_io_destroy, context);
	close(fd);
}

/* --- more disks and kinds of writes than there are exits --- */

#define TRACING "/sys/kernel/tracing/"
#define EVENT TRACING "events/workqueue/workqueue_execute_start/"
#define LOOP_WORKERS "/sys/devices/virtual/workqueue/cpumask"
#define NR_WRITES 1000U

/* Through the page cache and past it, which end in different functions. */
static void write_in_two_ways(const struct disk *disk)
{
	int fd = ASSERT_OK(open(disk->path, O_WRONLY | O_CLOEXEC));

	EXPECT(fill_direct(disk->path, 1, 4096, 0));
	EXPECT_EQ(pwrite(fd, "x", 1, MIB), 1);
	EXPECT_OK(fsync(fd));
	close(fd);
}

/* Each disk has exits for each of two intervals: twice of what there are. */
static void use_up_exits(void)
{
	const struct null_disk_options hollow = { .is_hollow = true };
	const struct disk *disks[NR_OTHERS];
	struct snapshot snapshot;
	unsigned int i, round;
	char name[16];

	for (i = 0; i < NR_OTHERS; i++) {
		snprintf(name, sizeof(name), "nullb%u", 400 + i);
		ASSERT_OK(null_disk_create(&pass.others[i], name, 4, &hollow));
		disks[i] = &pass.others[i];
	}
	for (round = 0; round < 4; round++) {
		snapshot_create_of(&snapshot, disks, NR_OTHERS);
		ASSERT_OK(append_range(&snapshot, &pass.storage, 0, PASS_MIB * 2048));
		snapshot_take(&snapshot);
		for (i = 0; i < NR_OTHERS; i++)
			write_in_two_ways(&pass.others[i]);
		ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	}
}

/* Writes on one processor that complete on the other one. */
static bool make_loop(void)
{
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2 ||
	    loop_create(&pass.loop, &pass.origin, 512))
		return false;
	return !shell("echo 0 >/sys/block/%s/queue/rq_affinity",
		      strrchr(pass.loop.path, '/') + 1) &&
	       write_text(LOOP_WORKERS, "1");
}

static void write_from_the_other_processor(void)
{
	cpu_set_t set, before;
	unsigned int i;

	ASSERT_OK(sched_getaffinity(0, sizeof(before), &before));
	CPU_ZERO(&set);
	CPU_SET(1, &set);
	ASSERT_OK(sched_setaffinity(0, sizeof(set), &set));
	for (i = 0; i < NR_WRITES; i++)
		EXPECT(fill_direct(pass.loop.path, 2, 4096, i % 1024 * 4096));
	sched_setaffinity(0, sizeof(before), &before);
}

static void test_writes_pass_when_all_exits_are_taken(void)
{
	struct snapshot snapshot;

	ASSERT_OK(null_disk_create(&pass.origin, "nullb0", PASS_MIB, NULL));
	ASSERT_OK(null_disk_create(&pass.storage, "nullb1", PASS_MIB, NULL));
	mount("tracefs", TRACING, "tracefs", 0, NULL);
	if (!make_loop() || access(EVENT, F_OK)) {
		ktap_skip("no second processor, loop devices or tracing");
		return;
	}
	use_up_exits();
	snapshot_now(&snapshot, &pass.loop, &pass.storage);
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	EXPECT(write_text(TRACING "buffer_size_kb", "8192"));
	EXPECT(write_text(EVENT "enable", "1"));
	write_from_the_other_processor();
	write_text(EVENT "enable", "0");
	/* A few are submitted again by a worker, but not each of them. */
	EXPECT(!shell("[ $(grep -c 'function resubmit_work' " TRACING "trace) -lt %u ]",
		      NR_WRITES / 10));
	write_text(TRACING "trace", "\n");
	write_text(LOOP_WORKERS, "ff");
}

const struct ktap_test pass_tests[] = {
	KTAP_TEST(test_nowait_write_is_not_held_by_its_submitter),
	KTAP_TEST(test_writes_pass_when_all_exits_are_taken),
	KTAP_END
};
