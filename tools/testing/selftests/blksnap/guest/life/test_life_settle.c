// SPDX-License-Identifier: GPL-2.0
/*
 * Trackers that go while their disk is still settling
 *
 * A write of the time before tracking is in flight for longer than the module waits
 * for such.  Until it gives up, writes are kept back for longer and longer moments.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "stacked.h"
#include "test_life.h"
#include "test_life_aio.h"

#define SLOW "life-slow"

/* Longer than settling. */
#define WRITE_MS 1500

/* When writes are kept back for the last and longest moment. */
#define LAST_MOMENT_MS 1100

static struct disk slow, lower;
static pthread_t early;

static void *write_first_block(void *data)
{
	return (void *)(intptr_t)fill_direct(data, NEW_BYTE, 4096, 0);
}

/*
 * With a write in flight that the module has not counted.  Device mapper has: dm-linear
 * passes it on at once, and it is the disk below that is slow.
 */
static bool make_busy_disk(void)
{
	const struct null_disk_options options = {
		.completion_ns = WRITE_MS * 1000000U,
		.queue_depth = 1,
	};

	ASSERT_OK(null_disk_create(&lower, "nullb5", DISK_MIB, &options));
	if (linear_create(&slow, SLOW, &lower)) {
		ktap_skip("this kernel has no device mapper");
		return false;
	}
	ASSERT_EQ(pthread_create(&early, NULL, write_first_block, slow.path), 0);
	sleep_ms(50);
	return true;
}

void settle_tear_down(void)
{
	life_tear_down();
	mapping_remove(SLOW);
	null_disk_destroy(&lower);
}

static void *read_last_block(void *data)
{
	char *buffer = alloc_aligned(4096);
	bool is_read = read_direct(data, buffer, 4096, (DISK_MIB - 1) * MIB);

	free(buffer);
	return (void *)(intptr_t)is_read;
}

/*
 * The disk does one request at a time: first the early write, then the read.  So when
 * the settling ends the writes that were kept have to wait to be submitted.
 */
static void test_writes_kept_for_settling_are_not_forgotten(void)
{
	struct snapshot snapshot;
	pthread_t reader;
	struct aio late;
	int fd;

	if (!make_busy_disk())
		return;
	fd = ASSERT_OK(open(slow.path, O_WRONLY | O_DIRECT | O_CLOEXEC));
	snapshot_create(&snapshot, &slow);
	sleep_ms(LAST_MOMENT_MS);
	ASSERT(aio_start(&late, fd, 64 * KIB, NEW_BYTE));
	ASSERT_EQ(pthread_create(&reader, NULL, read_last_block, slow.path), 0);
	sleep_ms(50);
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	ASSERT_OK(control_tracker_remove(ctl, slow.id));
	EXPECT(aio_finish(&late));
	EXPECT_EQ(late.nr_failed, 0);
	close(fd);
	pthread_join(reader, NULL);
	pthread_join(early, NULL);
	EXPECT(reads_as(slow.path, NEW_BYTE, AIO_WRITES * AIO_BLOCK_BYTES, 64 * KIB));
}

static void *take_snapshot(void *data)
{
	const struct snapshot *snapshot = data;
	intptr_t ret = control_snapshot_take(ctl, &snapshot->id);

	return (void *)ret;
}

static void test_take_waits_for_settling_of_what_is_removed(void)
{
	struct snapshot snapshot;
	pthread_t taker;
	void *ret;

	if (!make_busy_disk())
		return;
	snapshot_create_of(&snapshot, (const struct disk *[]){ &slow, &origin }, 2);
	ASSERT_OK(append_range(&snapshot, &storage, 0, storage.nr_bytes / SECTOR_SIZE));
	ASSERT_EQ(pthread_create(&taker, NULL, take_snapshot, &snapshot), 0);
	sleep_ms(200);
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	EXPECT_OK(control_tracker_remove(ctl, origin.id));
	EXPECT_OK(control_tracker_remove(ctl, slow.id));
	pthread_join(taker, &ret);
	EXPECT((intptr_t)ret < 0);
	pthread_join(early, NULL);
}

const struct ktap_test settle_tests[] = {
	KTAP_TEST(test_writes_kept_for_settling_are_not_forgotten),
	KTAP_TEST(test_take_waits_for_settling_of_what_is_removed),
	KTAP_END
};
