// SPDX-License-Identifier: GPL-2.0
/*
 * How long io_submit() takes
 *
 * On a disk that needs a millisecond for each request, submitting must not wait
 * for any of them: neither for the write nor, with a snapshot held, for the
 * copy that has to be made first.  The times are reported, not judged, since
 * they say as much about the machine as about the module.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "test_io.h"

#define LATENCY_MIB 64
#define NR_WRITES 2048U
#define QUEUE_DEPTH 32U
#define BLOCK_BYTES 4096U

struct latency {
	uint64_t submit_ns[NR_WRITES];
	uint64_t total_ns;
	unsigned int nr_failed;
};

static unsigned int reap(aio_context_t context, struct latency *latency,
			 unsigned int nr_at_least, struct iocb **free_list,
			 unsigned int nr_free)
{
	struct io_event events[QUEUE_DEPTH];
	long i, nr;

	nr = syscall(SYS_io_getevents, context, nr_at_least, QUEUE_DEPTH,
		     events, NULL);
	for (i = 0; i < nr; i++) {
		if (events[i].res != BLOCK_BYTES)
			latency->nr_failed++;
		free_list[nr_free++] = (struct iocb *)(uintptr_t)events[i].obj;
	}
	return nr_free;
}

static void submit_one(aio_context_t context, struct iocb *iocb, uint64_t *ns)
{
	const uint64_t start = now_ns();
	long ret = syscall(SYS_io_submit, context, 1, &iocb);

	*ns = now_ns() - start;
	ASSERT_EQ(ret, 1);
}

/* Write each block once, in an order that never merges, and take the times. */
static void write_all(const char *path, struct latency *latency)
{
	static struct iocb iocbs[QUEUE_DEPTH];
	struct iocb *free_list[QUEUE_DEPTH];
	void *buffer = alloc_aligned(BLOCK_BYTES);
	unsigned int i, nr_free = QUEUE_DEPTH;
	aio_context_t context = 0;
	uint64_t start;
	int fd;

	fd = ASSERT_OK(open(path, O_WRONLY | O_DIRECT));
	ASSERT_OK(syscall(SYS_io_setup, QUEUE_DEPTH, &context));
	memset(buffer, 0x22, BLOCK_BYTES);
	memset(latency, 0, sizeof(*latency));
	for (i = 0; i < QUEUE_DEPTH; i++)
		free_list[i] = &iocbs[i];
	start = now_ns();
	for (i = 0; i < NR_WRITES; i++) {
		struct iocb *iocb;

		if (!nr_free)
			nr_free = reap(context, latency, 1, free_list, 0);
		ASSERT(nr_free > 0);
		iocb = free_list[--nr_free];
		memset(iocb, 0, sizeof(*iocb));
		iocb->aio_lio_opcode = IOCB_CMD_PWRITE;
		iocb->aio_fildes = fd;
		iocb->aio_buf = (uintptr_t)buffer;
		iocb->aio_nbytes = BLOCK_BYTES;
		iocb->aio_offset = (uint64_t)i * (LATENCY_MIB * MIB / NR_WRITES);
		submit_one(context, iocb, &latency->submit_ns[i]);
	}
	while (nr_free < QUEUE_DEPTH)
		nr_free = reap(context, latency, QUEUE_DEPTH - nr_free,
			       free_list, nr_free);
	latency->total_ns = now_ns() - start;
	syscall(SYS_io_destroy, context);
	close(fd);
	free(buffer);
}

static int compare_numbers(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static unsigned long long percentile_us(struct latency *latency,
					unsigned int percent)
{
	qsort(latency->submit_ns, NR_WRITES, sizeof(latency->submit_ns[0]),
	      compare_numbers);
	return latency->submit_ns[NR_WRITES * percent / 100] / 1000;
}

static struct disk origin, storage;

void latency_tear_down(void)
{
	ctl_tear_down();
	null_disk_destroy(&origin);
	null_disk_destroy(&storage);
}

static void test_submitting_first_writes_is_measured(void)
{
	const struct null_disk_options slow = { .completion_ns = 1000000 };
	static const unsigned int percents[] = { 50, 90, 99 };
	static struct latency bare, held, again;
	struct snapshot snapshot;
	unsigned int i;

	ASSERT_OK(null_disk_create(&origin, "nullb0", LATENCY_MIB, &slow));
	ASSERT_OK(null_disk_create(&storage, "nullb1", LATENCY_MIB, NULL));
	/* The first run allocates the memory of the disk. */
	write_all(origin.path, &bare);
	write_all(origin.path, &bare);
	snapshot_now(&snapshot, &origin, &storage);
	write_all(origin.path, &held);
	write_all(origin.path, &again);
	EXPECT_EQ(bare.nr_failed + held.nr_failed + again.nr_failed, 0);
	for (i = 0; i < ARRAY_SIZE(percents); i++)
		ktap_note("io_submit p%u bare %llu us, snapshot %llu us, copied %llu us",
			  percents[i], percentile_us(&bare, percents[i]),
			  percentile_us(&held, percents[i]),
			  percentile_us(&again, percents[i]));
	ktap_note("%u writes at depth %u: bare %llu ms, snapshot %llu ms, copied %llu ms",
		  NR_WRITES, QUEUE_DEPTH,
		  (unsigned long long)bare.total_ns / 1000000,
		  (unsigned long long)held.total_ns / 1000000,
		  (unsigned long long)again.total_ns / 1000000);
}

const struct ktap_test latency_tests[] = {
	KTAP_TEST(test_submitting_first_writes_is_measured),
	KTAP_END
};
