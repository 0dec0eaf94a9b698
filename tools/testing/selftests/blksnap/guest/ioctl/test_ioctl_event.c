// SPDX-License-Identifier: GPL-2.0
/*
 * The ioctl that waits for events
 *
 * Times are measured, but only against bounds that no slow machine breaks: a
 * wait may not end early, and it has to end.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#include "test_ioctl.h"

static struct blk_snap_snapshot_event event;

/* A snapshot whose first event has been fetched: nothing more will come. */
static void create_quiet(struct snapshot *snapshot)
{
	snapshot_create(snapshot, &disk_a);
	ASSERT_OK(next_event(snapshot, 0, &event));
}

static void test_wait_for_unknown_snapshot_gets_esrch(void)
{
	const struct snapshot unknown = { .id = unknown_id };

	EXPECT_ERR(next_event(&unknown, 0, &event), ESRCH);
	EXPECT_ERR(next_event(&unknown, 1000, &event), ESRCH);
}

static void test_first_event_asks_for_storage(void)
{
	struct blk_snap_event_low_free_space *low = (void *)event.data;
	const uint64_t before = now_ns();
	struct snapshot snapshot;
	uint64_t after;

	snapshot_create(&snapshot, &disk_a);
	after = now_ns();
	ASSERT_OK(next_event(&snapshot, 0, &event));
	EXPECT_EQ(event.code, blk_snap_event_code_low_free_space);
	EXPECT_EQ(low->requested_nr_sect,
		  module_parameter("diff_storage_minimum"));
	EXPECT(event.time_label >= (int64_t)before &&
	       event.time_label <= (int64_t)after);
	EXPECT_ERR(next_event(&snapshot, 0, &event), ENOENT);
}

static void test_event_brings_no_foreign_byte(void)
{
	struct blk_snap_snapshot_event arg;
	const size_t used = sizeof(struct blk_snap_event_low_free_space);
	struct snapshot snapshot;

	snapshot_create(&snapshot, &disk_a);
	memset(&arg, POISON, sizeof(arg));
	arg.id = snapshot.id;
	arg.timeout_ms = 0;
	ASSERT_OK(ctl_call(IOCTL_BLK_SNAP_SNAPSHOT_WAIT_EVENT, &arg));
	EXPECT(!memcmp(&arg.id, &snapshot.id, sizeof(arg.id)));
	EXPECT(is_filled_with(arg.data + used, 0, sizeof(arg.data) - used));
}

static void test_wait_of_no_time_only_looks(void)
{
	struct snapshot snapshot;
	uint64_t start;

	create_quiet(&snapshot);
	start = now_ns();
	EXPECT_ERR(next_event(&snapshot, 0, &event), ENOENT);
	EXPECT(now_ns() - start < 5000000000ULL);
}

static void expect_wait(const struct snapshot *snapshot, unsigned int ms)
{
	const uint64_t start = now_ns();
	uint64_t took_ms;

	EXPECT_ERR(next_event(snapshot, ms, &event), ENOENT);
	took_ms = (now_ns() - start) / 1000000;
	ktap_note("waited %llu ms of %u ms", (unsigned long long)took_ms, ms);
	EXPECT(took_ms >= ms);
	/* 5 times as long would be another unit; late wake-ups are not ours. */
	EXPECT(took_ms < 5 * ms + 2000);
}

static void test_wait_counts_milliseconds(void)
{
	struct snapshot snapshot;

	create_quiet(&snapshot);
	expect_wait(&snapshot, 1);
	expect_wait(&snapshot, 100);
	expect_wait(&snapshot, 1500);
}

static void on_alarm(int signal)
{
	(void)signal;
}

/* SA_RESTART asks the kernel to restart what can be restarted. */
static void alarm_in_ms(unsigned int ms)
{
	struct sigaction action = { .sa_handler = on_alarm,
				    .sa_flags = SA_RESTART };
	struct itimerval timer = {
		.it_value = { ms / 1000, ms % 1000 * 1000 },
	};

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
}

static void test_wait_ends_with_eintr_on_a_signal(void)
{
	struct snapshot snapshot;
	uint64_t start;

	create_quiet(&snapshot);
	start = now_ns();
	alarm_in_ms(200);
	EXPECT_ERR(next_event(&snapshot, 60000, &event), EINTR);
	EXPECT(now_ns() - start < 30000000000ULL);
}

static void test_longest_wait_does_not_end_at_once(void)
{
	struct snapshot snapshot;

	create_quiet(&snapshot);
	alarm_in_ms(300);
	EXPECT_ERR(next_event(&snapshot, UINT32_MAX, &event), EINTR);
	alarm_in_ms(300);
	EXPECT_ERR(next_event(&snapshot, INT32_MAX, &event), EINTR);
}

/* Waiters of one snapshot, each in a thread of its own. */
#define NR_WAITERS 4

struct waiter {
	pthread_t thread;
	struct blk_snap_snapshot_event event;
	const struct snapshot *snapshot;
	unsigned int timeout_ms;
	int ret;
};

static void *wait_in_thread(void *data)
{
	struct waiter *waiter = data;

	waiter->ret = next_event(waiter->snapshot, waiter->timeout_ms,
				 &waiter->event);
	return NULL;
}

static void start_waiters(struct waiter *waiters,
			  const struct snapshot *snapshot,
			  unsigned int timeout_ms)
{
	unsigned int i;

	for (i = 0; i < NR_WAITERS; i++) {
		waiters[i].snapshot = snapshot;
		waiters[i].timeout_ms = timeout_ms;
		ASSERT_EQ(pthread_create(&waiters[i].thread, NULL,
					 wait_in_thread, &waiters[i]), 0);
	}
}

/* Returns how many got this return value. */
static unsigned int join_waiters(struct waiter *waiters, int ret)
{
	unsigned int i, nr = 0;

	for (i = 0; i < NR_WAITERS; i++) {
		pthread_join(waiters[i].thread, NULL);
		nr += waiters[i].ret == ret;
	}
	return nr;
}

static void test_destroy_ends_waits_with_esrch(void)
{
	static struct waiter waiters[NR_WAITERS];
	struct snapshot snapshot;

	create_quiet(&snapshot);
	start_waiters(waiters, &snapshot, 60000);
	sleep_ms(300);
	EXPECT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	EXPECT_EQ(join_waiters(waiters, -ESRCH), NR_WAITERS);
}

static void test_event_goes_to_exactly_one_waiter(void)
{
	static struct waiter waiters[NR_WAITERS];
	struct snapshot snapshot;
	unsigned int i, nr = 0;

	snapshot_create(&snapshot, &disk_a);
	start_waiters(waiters, &snapshot, 500);
	EXPECT_EQ(join_waiters(waiters, 0), 1);
	for (i = 0; i < NR_WAITERS; i++)
		nr += waiters[i].ret == -ENOENT;
	EXPECT_EQ(nr, NR_WAITERS - 1);
}

/* Use up the storage: that raises an event while they wait. */
static void test_event_wakes_exactly_one_waiter(void)
{
	static struct waiter waiters[NR_WAITERS];
	struct snapshot snapshot;
	unsigned int i, nr = 0;

	create_quiet(&snapshot);
	ASSERT_OK(append_range(&snapshot, &disk_s, 2048, 2048));
	snapshot_take(&snapshot);
	while (!next_event(&snapshot, 0, &event))
		nr++;
	start_waiters(waiters, &snapshot, 3000);
	sleep_ms(200);
	ASSERT(fill_direct(disk_a.path, 1, 4 * MIB, 0));
	EXPECT(join_waiters(waiters, 0) >= 1);
	for (i = 0, nr = 0; i < NR_WAITERS; i++)
		nr += !waiters[i].ret &&
		      waiters[i].event.code == blk_snap_event_code_corrupted;
	EXPECT_EQ(nr, 1);
}

static void test_event_that_cannot_be_delivered_is_kept(void)
{
	struct blk_snap_snapshot_event *arg;
	struct snapshot snapshot;

	snapshot_create(&snapshot, &disk_a);
	arg = mmap(NULL, sizeof(*arg), PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT(arg != MAP_FAILED);
	arg->id = snapshot.id;
	ASSERT_OK(mprotect(arg, sizeof(*arg), PROT_READ));
	EXPECT_ERR(ctl_call(IOCTL_BLK_SNAP_SNAPSHOT_WAIT_EVENT, arg), EFAULT);
	munmap(arg, sizeof(*arg));
	EXPECT_OK(next_event(&snapshot, 0, &event));
}

/* Events of one snapshot are no business of another. */
static void test_event_belongs_to_its_snapshot(void)
{
	struct snapshot first, second;

	snapshot_create(&first, &disk_a);
	snapshot_create(&second, &disk_b);
	ASSERT_OK(next_event(&first, 0, &event));
	EXPECT_ERR(next_event(&first, 0, &event), ENOENT);
	EXPECT_OK(next_event(&second, 0, &event));
}

static short polled(int fd)
{
	struct pollfd pollfd = { .fd = fd, .events = POLLIN };

	return poll(&pollfd, 1, 0) < 0 ? -1 : pollfd.revents;
}

/* A file is polled about the first snapshot that it has waited for. */
static void test_poll_tells_of_the_snapshot_waited_for(void)
{
	struct blk_snap_snapshot_event *arg;
	struct snapshot snapshot;
	int fd = open("/dev/" BLK_SNAP_CTL, O_RDWR);

	snapshot_create(&snapshot, &disk_a);
	EXPECT_EQ(polled(fd), POLLERR);
	/* The event cannot be delivered, so it is there to be polled for. */
	arg = mmap(NULL, sizeof(*arg), PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT(arg != MAP_FAILED);
	arg->id = snapshot.id;
	ASSERT_OK(mprotect(arg, sizeof(*arg), PROT_READ));
	EXPECT_EQ(ioctl(fd, IOCTL_BLK_SNAP_SNAPSHOT_WAIT_EVENT, arg), -1);
	munmap(arg, sizeof(*arg));
	EXPECT_EQ(polled(fd), POLLIN);
	ASSERT_OK(next_event(&snapshot, 0, &event));
	EXPECT_EQ(polled(fd), 0);
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	EXPECT_EQ(polled(fd), POLLERR | POLLHUP);
	close(fd);
}

const struct ktap_test event_tests[] = {
	KTAP_TEST(test_wait_for_unknown_snapshot_gets_esrch),
	KTAP_TEST(test_first_event_asks_for_storage),
	KTAP_TEST(test_event_brings_no_foreign_byte),
	KTAP_TEST(test_wait_of_no_time_only_looks),
	KTAP_TEST(test_wait_counts_milliseconds),
	KTAP_TEST(test_wait_ends_with_eintr_on_a_signal),
	KTAP_TEST(test_longest_wait_does_not_end_at_once),
	KTAP_TEST(test_destroy_ends_waits_with_esrch),
	KTAP_TEST(test_event_goes_to_exactly_one_waiter),
	KTAP_TEST(test_event_wakes_exactly_one_waiter),
	KTAP_TEST(test_event_that_cannot_be_delivered_is_kept),
	KTAP_TEST(test_event_belongs_to_its_snapshot),
	KTAP_TEST(test_poll_tells_of_the_snapshot_waited_for),
	KTAP_END
};
