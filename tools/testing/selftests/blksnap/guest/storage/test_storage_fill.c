// SPDX-License-Identifier: GPL-2.0
/*
 * Storage that is filled as fast as it can be
 *
 * Writers go over an origin at full speed, and an agent that needs a while for
 * each answer appends what it is asked for.  As long as the device has room, the
 * image must not be lost.  The parameters are chosen by the speed of the machine
 * so that to ask at half of diff_storage_minimum would be too late.
 *
 * The disks keep nothing, so they are fast and as large as it takes; what the
 * image holds is the subject of other tests.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "test_storage.h"

#define DISK_MIB 16384U
#define NR_WRITERS 2U
#define ANSWER_MS 200U
#define FILL_MS 4000U

static struct {
	struct disk origin, storage;
	struct snapshot snapshot;
	pthread_t writers[NR_WRITERS], agent;
	atomic_bool is_over;		/* time is up, or the disks are */
	atomic_ullong written;		/* bytes */
	atomic_bool has_failed;		/* a write to the origin */
	uint64_t appended;		/* bytes */
	unsigned int nr_answers;
	unsigned int nr_lost;
} fill;

void fill_set_up(void)
{
	static const struct null_disk_options hollow = { .is_hollow = true };

	ctl_set_up();
	ASSERT_OK(null_disk_create(&fill.origin, "nullb0", DISK_MIB, &hollow));
	ASSERT_OK(null_disk_create(&fill.storage, "nullb1", DISK_MIB, &hollow));
}

void fill_tear_down(void)
{
	ctl_tear_down();
	null_disk_destroy(&fill.origin);
	null_disk_destroy(&fill.storage);
	if (!module_unload())
		module_load(STORAGE_PARAMETERS);
}

/* Each writer has its part of the origin; pthread start routine. */
static void *write_on(void *data)
{
	const uint64_t part = fill.origin.nr_bytes / NR_WRITERS;
	uint64_t at = (uintptr_t)data * part, end = at + part;
	void *buffer = alloc_aligned(MIB);
	int fd = open(fill.origin.path, O_WRONLY | O_DIRECT | O_CLOEXEC);

	for (; at < end && !atomic_load(&fill.is_over); at += MIB) {
		if (pwrite(fd, buffer, MIB, at) != (ssize_t)MIB) {
			atomic_store(&fill.has_failed, true);
			break;
		}
		fill.written += MIB;
	}
	atomic_store(&fill.is_over, true);
	close(fd);
	free(buffer);
	return NULL;
}

static void append_more(uint64_t nr_sectors)
{
	const uint64_t nr_bytes = nr_sectors * SECTOR_SIZE;

	/* From here on nobody can keep up. */
	if (nr_bytes > fill.storage.nr_bytes - fill.appended) {
		atomic_store(&fill.is_over, true);
		return;
	}
	if (append_range(&fill.snapshot, &fill.storage, fill.appended / SECTOR_SIZE,
			 nr_sectors))
		atomic_store(&fill.has_failed, true);
	fill.appended += nr_bytes;
}

/* Answers until nothing is asked for any more; pthread start routine. */
static void *answer(void *data)
{
	struct blk_snap_snapshot_event event;
	struct blk_snap_event_low_free_space *low = (void *)event.data;

	(void)data;
	while (!atomic_load(&fill.is_over)) {
		if (next_event(&fill.snapshot, 100, &event))
			continue;
		if (event.code != blk_snap_event_code_low_free_space) {
			fill.nr_lost++;
			atomic_store(&fill.is_over, true);
			break;
		}
		sleep_ms(ANSWER_MS);
		append_more(low->requested_nr_sect);
		fill.nr_answers++;
	}
	return NULL;
}

static void start_snapshot(uint64_t nr_sectors)
{
	struct blk_snap_snapshot_event event;

	atomic_store(&fill.is_over, false);
	atomic_store(&fill.has_failed, false);
	atomic_store(&fill.written, 0);
	fill.appended = 0;
	fill.nr_answers = 0;
	fill.nr_lost = 0;
	snapshot_create(&fill.snapshot, &fill.origin);
	ASSERT_OK(next_event(&fill.snapshot, 0, &event));
	append_more(nr_sectors);
	snapshot_take(&fill.snapshot);
}

/* Let writers, and an agent if there is one, work for a while. */
static void run_for_ms(unsigned int max_ms, bool has_agent)
{
	unsigned int i, ms;

	if (has_agent)
		ASSERT(!pthread_create(&fill.agent, NULL, answer, NULL));
	for (i = 0; i < NR_WRITERS; i++)
		ASSERT(!pthread_create(&fill.writers[i], NULL, write_on,
				       (void *)(uintptr_t)i));
	for (ms = 0; ms < max_ms && !atomic_load(&fill.is_over); ms += 10)
		sleep_ms(10);
	atomic_store(&fill.is_over, true);
	for (i = 0; i < NR_WRITERS; i++)
		pthread_join(fill.writers[i], NULL);
	if (has_agent)
		pthread_join(fill.agent, NULL);
}

/* Sectors that are stored in a second when nothing stands in the way. */
static uint64_t measure_speed(void)
{
	const uint64_t begun_ns = now_ns();

	start_snapshot(fill.storage.nr_bytes / SECTOR_SIZE);
	run_for_ms(1000, false);
	EXPECT(!atomic_load(&fill.has_failed));
	ASSERT_OK(control_snapshot_destroy(ctl, &fill.snapshot.id));
	return atomic_load(&fill.written) * 1000000000ULL / (now_ns() - begun_ns) /
	       SECTOR_SIZE;
}

static void test_agent_that_takes_its_time_keeps_up(void)
{
	char parameters[100];
	uint64_t speed, minimum;

	rig_reload(STORAGE_PARAMETERS);
	speed = measure_speed();
	/* Half of it is gone before the agent answers. */
	minimum = speed * 3 / 10;
	snprintf(parameters, sizeof(parameters), "diff_storage_minimum=%llu",
		 (unsigned long long)minimum);
	rig_reload(parameters);
	start_snapshot(4 * minimum);
	run_for_ms(FILL_MS, true);
	ktap_note("%llu MiB/s, minimum %llu MiB",
		  (unsigned long long)(speed * SECTOR_SIZE / MIB),
		  (unsigned long long)(minimum * SECTOR_SIZE / MIB));
	ktap_note("%llu MiB written, %llu MiB appended, %u answers after %u ms",
		  (unsigned long long)(fill.written / MIB),
		  (unsigned long long)(fill.appended / MIB), fill.nr_answers,
		  ANSWER_MS);
	EXPECT(!atomic_load(&fill.has_failed));
	EXPECT_EQ(fill.nr_lost, 0);
	EXPECT_EQ(image_number_of(&fill.snapshot, &fill.origin, "error"), 0);
	/* Otherwise nothing was tested. */
	EXPECT(fill.nr_answers > 0);
	EXPECT(fill.written > 4 * minimum * SECTOR_SIZE);
}

const struct ktap_test fill_tests[] = {
	KTAP_SLOW_TEST(test_agent_that_takes_its_time_keeps_up),
	KTAP_END
};
