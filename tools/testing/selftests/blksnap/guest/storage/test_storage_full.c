// SPDX-License-Identifier: GPL-2.0
/*
 * Difference storage that is exhausted, in every state; and the asking for more
 *
 * Storage that is used up to the last block breaks nothing.  One block more
 * does, whoever needs it, and then whoever waits is let go.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "test_storage.h"

/* --- before the first write --- */

static void test_take_without_storage_is_refused(void)
{
	row("no storage at the take");
	ledger_open(&ledger, rig.origin);
	snapshot_create(&rig.snapshot, rig.origin);
	EXPECT_ERR(control_snapshot_take(ctl, &rig.snapshot.id), EFAULT);
	/* Less than a block of 4 KiB is nothing. */
	ASSERT_OK(append_bytes(0, BLOCK_BYTES - SECTOR_SIZE));
	EXPECT_ERR(control_snapshot_take(ctl, &rig.snapshot.id), EFAULT);
	origin_write(MIB, 0);
	ASSERT_OK(append_bytes(MIB, 8 * MIB));
	snapshot_take(&rig.snapshot);
	ledger_take(&ledger);
	origin_write(MIB, 512 * KIB);
	expect_sound();
}

static void test_storage_of_one_block_holds_one_block(void)
{
	row("the difference storage is full");
	rig_take(BLOCK_BYTES);
	expect_image_is_as_taken();
	origin_write(512, BLOCK_BYTES);
	expect_sound();
	EXPECT_EQ(image_number("storage_free_bytes"), 0);
	origin_write(512, 2 * BLOCK_BYTES);
	expect_broken(ENOSPC);
	expect_tracking_goes_on();
}

/* The other member has used it all up. */
static void test_storage_is_exhausted_before_the_first_write(void)
{
	const struct disk *members[] = { rig.origin, &rig.spare_disk };
	const struct disk *const other = &rig.spare_disk;

	ledger_open(&ledger, rig.origin);
	ASSERT(fill_direct(other->path, 0x11, 4 * MIB, 0));
	snapshot_create_of(&rig.snapshot, members, 2);
	ASSERT_OK(append_bytes(0, 2 * MIB));
	snapshot_take(&rig.snapshot);
	ledger_take(&ledger);
	EXPECT(fill_direct(other->path, 0x22, 4 * MIB, 0));
	expect_lost(&rig.snapshot, other, ENOSPC);
	expect_sound();
	EXPECT(reads_as(other->path, 0x22, 4 * MIB, 0));
	EXPECT_EQ(io_error(image_of(&rig.snapshot, other), false, BLOCK_BYTES, 0), EIO);
	/* Only now this one needs a block, and has an event of its own. */
	origin_write(BLOCK_BYTES, 0);
	expect_broken(ENOSPC);
	expect_tracking_goes_on();
}

/* --- what lies between the ranges --- */

#define RANGE_BYTES (60 * KIB)
#define GAP_BYTES (36 * KIB)
#define NR_RANGES 32U

static uint64_t range_at(unsigned int i)
{
	return GAP_BYTES + i * (RANGE_BYTES + GAP_BYTES);
}

static void expect_gaps_hold(int byte)
{
	unsigned int i;

	for (i = 0; i <= NR_RANGES; i++)
		EXPECT(reads_as(rig.storage->path, byte, GAP_BYTES,
				EDGE_BYTES + range_at(i) - GAP_BYTES));
}

/* What is not appended is somebody else's, and the ranges may lie around it. */
static void test_storing_stays_within_the_ranges(void)
{
	const uint64_t nr_bytes = NR_RANGES * RANGE_BYTES;
	unsigned int i;

	ASSERT(fill_direct(rig.storage->path, 0x5a, EDGE_BYTES + range_at(NR_RANGES), 0));
	ledger_open(&ledger, rig.origin);
	snapshot_create(&rig.snapshot, rig.origin);
	for (i = 0; i < NR_RANGES; i++)
		ASSERT_OK(append_bytes(range_at(i), RANGE_BYTES));
	snapshot_take(&rig.snapshot);
	ledger_take(&ledger);
	origin_write(nr_bytes, MIB);
	expect_sound();
	EXPECT_EQ(image_number("storage_free_bytes"), 0);
	expect_gaps_hold(0x5a);
	/* Over what is stored, from range to range. */
	fill_random(ledger.taken + MIB, nr_bytes);
	EXPECT(write_direct(image_of(&rig.snapshot, rig.origin), ledger.taken + MIB, nr_bytes,
			    MIB));
	expect_sound();
	expect_gaps_hold(0x5a);
}

/* --- with writes held --- */

static void test_exact_fill_is_sound_and_a_block_more_is_not(void)
{
	rig_take(3 * MIB);
	origin_write(2 * MIB, 0);
	origin_write(MIB, 8 * MIB);
	expect_sound();
	EXPECT_EQ(image_number("storage_free_bytes"), 0);
	EXPECT_EQ(image_number("stored_bytes"), 3 * MIB);
	/* What is copied already needs nothing. */
	origin_write(2 * MIB, 0);
	expect_sound();
	origin_write(SECTOR_SIZE, 10 * MIB);
	expect_broken(ENOSPC);
	expect_tracking_goes_on();
}

static void test_exhaustion_lets_held_writes_go(void)
{
	struct io_job *writes[4];
	unsigned int i;

	rig_take(2 * MIB);
	gate_close(&rig.storage_gate);
	for (i = 0; i < 4; i++)
		writes[i] = origin_write_start(2 * MIB, i * 2 * MIB);
	image_number_becomes("held_writes", 1, 1000000);
	EXPECT_EQ(image_number("memory_bytes"), MEMORY_BYTES);
	gate_open(&rig.storage_gate);
	for (i = 0; i < 4; i++)
		expect_job_ends(writes[i], 0);
	expect_broken(ENOSPC);
	expect_tracking_goes_on();
}

/* One request that needs more than there is memory and storage for. */
static void test_exhaustion_by_one_large_request(void)
{
	uint64_t range[2] = { MIB, 12 * MIB };
	void *zeros = calloc(1, range[1]);
	int fd;

	rig_take(2 * MIB);
	fd = ASSERT_OK(open(rig.origin->path, O_RDWR | O_CLOEXEC));
	EXPECT_OK(ioctl(fd, BLKZEROOUT, range));
	close(fd);
	ledger_write(&ledger, zeros, range[1], range[0]);
	free(zeros);
	expect_broken(ENOSPC);
	expect_tracking_goes_on();
}

static void test_exhaustion_is_told_by_each_member(void)
{
	const struct disk *members[] = { rig.origin, &rig.spare_disk };
	const struct disk *const other = &rig.spare_disk;
	struct told told;

	ledger_open(&ledger, rig.origin);
	snapshot_create_of(&rig.snapshot, members, 2);
	ASSERT_OK(append_bytes(0, 2 * MIB));
	snapshot_take(&rig.snapshot);
	ledger_take(&ledger);
	gate_close(&rig.storage_gate);
	origin_write(3 * MIB, 0);
	EXPECT(fill_direct(other->path, 0x22, 3 * MIB, 0));
	gate_open(&rig.storage_gate);
	image_number_becomes("error", ENOSPC, ENOSPC);
	while (!image_number_of(&rig.snapshot, other, "error"))
		sleep_ms(10);
	collect_events(&rig.snapshot, CALM_MS, &told);
	EXPECT_EQ(told.nr_corrupted, 2);
	EXPECT_EQ(told.lost.err_code, ENOSPC);
	EXPECT(told.was_low_first);
	expect_origin_is_as_written();
}

/* --- by writes to the image --- */

static void test_image_write_over_stored_blocks_needs_no_storage(void)
{
	const char *image;

	rig_take(2 * MIB);
	image = image_of(&rig.snapshot, rig.origin);
	origin_write(2 * MIB, 0);
	wait_until_stored();
	EXPECT_EQ(image_number("storage_free_bytes"), 0);
	fill_random(ledger.taken, MIB);
	EXPECT(write_direct(image, ledger.taken, MIB, 0));
	fill_random(ledger.taken + MIB + 512, 512);
	EXPECT(write_direct(image, ledger.taken + MIB, 1024, MIB));
	expect_sound();
}

/* @at and @nr_bytes of writes to an image that has no storage left. */
static void exhaust_by_image_writes(uint64_t nr_bytes, uint64_t at)
{
	const char *image;

	rig_take(MIB);
	image = image_of(&rig.snapshot, rig.origin);
	origin_write(MIB, 0);
	wait_until_stored();
	expect_image_is_as_taken();
	/* It is done when it is in memory; that it cannot be kept shows later. */
	EXPECT_EQ(io_error(image, true, nr_bytes, at), 0);
	expect_broken(ENOSPC);
}

static void test_exhaustion_by_image_writes(void)
{
	row("an image write was done in memory and cannot be stored");
	exhaust_by_image_writes(64 * KIB, 4 * MIB);
}

/* The block has to be copied and stored before the write can be done. */
static void test_exhaustion_by_partial_image_write(void)
{
	rig_take(MIB);
	origin_write(MIB, 0);
	wait_until_stored();
	EXPECT_EQ(io_error(image_of(&rig.snapshot, rig.origin), true, 1024, 4 * MIB + 512), EIO);
	expect_broken(ENOSPC);
}

static void test_exhaustion_lets_waiting_image_writes_go(void)
{
	struct io_job *writes[6];
	unsigned int i;
	int error;

	rig_take(2 * MIB);
	gate_close(&rig.storage_gate);
	for (i = 0; i < ARRAY_SIZE(writes); i++)
		writes[i] = job_start(image_of(&rig.snapshot, rig.origin), true, 2 * MIB,
				      i * 2 * MIB);
	image_number_becomes("memory_bytes", 2 * MIB, 64 * MIB);
	sleep_ms(CALM_MS);
	gate_open(&rig.storage_gate);
	for (i = 0; i < ARRAY_SIZE(writes); i++) {
		EXPECT(job_is_done_within(writes[i], PATIENCE_MS));
		error = writes[i]->error;
		expect_job_ends(writes[i], error == EIO ? EIO : 0);
	}
	expect_broken(ENOSPC);
}

/* --- append at the last moment --- */

/* Storage is used up, a store is in flight, and more is in memory. */
static void use_up_with_store_in_flight(void)
{
	rig_take(MIB);
	gate_close(&rig.storage_gate);
	origin_write(MIB, 0);
	/* Its store has taken all there is; the next ones would get nothing. */
	image_number_becomes("storage_free_bytes", 0, 0);
	origin_write(2 * MIB, 4 * MIB);
	EXPECT_EQ(image_number("memory_bytes"), 3 * MIB);
	EXPECT_EQ(image_number("stored_bytes"), 0);
}

static void test_append_at_the_last_moment_saves_the_image(void)
{
	struct told told;

	use_up_with_store_in_flight();
	collect_events(&rig.snapshot, 0, &told);
	EXPECT_EQ(told.nr_low, 1);
	EXPECT_EQ(told.nr_corrupted, 0);
	ASSERT_OK(append_bytes(MIB, 4 * MIB));
	gate_open(&rig.storage_gate);
	expect_sound();
	EXPECT_EQ(image_number("stored_bytes"), 3 * MIB);
	EXPECT_EQ(image_number("storage_free_bytes"), 2 * MIB);
}

static void test_append_after_the_last_moment_saves_nothing(void)
{
	struct told told;

	row("storage is appended after the image is lost");
	use_up_with_store_in_flight();
	gate_open(&rig.storage_gate);
	expect_broken(ENOSPC);
	EXPECT_OK(append_bytes(MIB, 4 * MIB));
	EXPECT_EQ(image_number("error"), ENOSPC);
	EXPECT_EQ(io_error(image_of(&rig.snapshot, rig.origin), false, BLOCK_BYTES, 0), EIO);
	collect_events(&rig.snapshot, CALM_MS, &told);
	EXPECT_EQ(told.nr_low + told.nr_corrupted, 0);
	expect_tracking_goes_on();
}

/* Each piece comes when the one before is in use to the last block. */
static void test_append_always_at_the_last_moment(void)
{
	uint64_t used = MIB;
	unsigned int i;

	rig_take(used);
	for (i = 0; i < 12; i++) {
		gate_close(&rig.storage_gate);
		origin_write(MIB, i * MIB);
		image_number_becomes("storage_free_bytes", 0, BLOCK_BYTES);
		/* A store that goes to more than one range, the last of one block. */
		ASSERT_OK(append_bytes(used, MIB - BLOCK_BYTES));
		used += MIB;
		ASSERT_OK(append_bytes(used - BLOCK_BYTES, BLOCK_BYTES));
		gate_open(&rig.storage_gate);
		wait_until_stored();
	}
	EXPECT_EQ(image_number("stored_bytes"), 12 * MIB);
	expect_sound();
}

static struct {
	uint64_t used;
	atomic_bool is_over;
	int error;
} agent;

/* Appends small ranges without being asked, one after the other. */
static void *append_pieces(void *data)
{
	struct random random;

	random_init(&random, ktap_options.seed + 1);
	while (!atomic_load(&agent.is_over) && agent.used < STORAGE_BYTES) {
		uint64_t nr_bytes = BLOCK_BYTES * (1 + random_below(&random, 64));

		if (nr_bytes > STORAGE_BYTES - agent.used)
			nr_bytes = STORAGE_BYTES - agent.used;
		agent.error = append_bytes(agent.used, nr_bytes);
		if (agent.error)
			break;
		agent.used += nr_bytes;
	}
	return data;
}

/* Either there was always enough, or the image is lost: never half of it. */
static void race_appends_and_writes(void)
{
	pthread_t thread;
	unsigned int i;

	agent.used = 64 * KIB;
	agent.error = 0;
	atomic_store(&agent.is_over, false);
	rig_take(agent.used);
	ASSERT_EQ(pthread_create(&thread, NULL, append_pieces, NULL), 0);
	for (i = 0; i < 48; i++)
		origin_write(128 * KIB, i * 256 * KIB);
	sleep_ms(100);
	atomic_store(&agent.is_over, true);
	pthread_join(thread, NULL);
	EXPECT_OK(agent.error);
	wait_until_stored();
}

static void test_exhaustion_while_appending(void)
{
	race_appends_and_writes();
	if (!image_number("error"))
		expect_sound();
	else
		expect_broken(ENOSPC);
	expect_tracking_goes_on();
}

const struct ktap_test full_tests[] = {
	KTAP_SLOW_TEST(test_take_without_storage_is_refused),
	KTAP_TEST(test_storage_of_one_block_holds_one_block),
	KTAP_SLOW_TEST(test_storage_is_exhausted_before_the_first_write),
	KTAP_TEST(test_storing_stays_within_the_ranges),
	KTAP_SLOW_TEST(test_exact_fill_is_sound_and_a_block_more_is_not),
	KTAP_TEST(test_exhaustion_lets_held_writes_go),
	KTAP_SLOW_TEST(test_exhaustion_by_one_large_request),
	KTAP_SLOW_TEST(test_exhaustion_is_told_by_each_member),
	KTAP_SLOW_TEST(test_image_write_over_stored_blocks_needs_no_storage),
	KTAP_SLOW_TEST(test_exhaustion_by_image_writes),
	KTAP_SLOW_TEST(test_exhaustion_by_partial_image_write),
	KTAP_SLOW_TEST(test_exhaustion_lets_waiting_image_writes_go),
	KTAP_TEST(test_append_at_the_last_moment_saves_the_image),
	KTAP_SLOW_TEST(test_append_after_the_last_moment_saves_nothing),
	KTAP_SLOW_TEST(test_append_always_at_the_last_moment),
	KTAP_SLOW_TEST(test_exhaustion_while_appending),
	KTAP_END
};

/* --- low_free_space --- */

/* Is there an event for poll()? */
static bool has_event(void)
{
	struct pollfd pollfd = { .fd = ctl, .events = POLLIN };

	return poll(&pollfd, 1, 0) == 1 && pollfd.revents & POLLIN;
}

static unsigned int nr_low_now(void)
{
	struct told told;

	collect_events(&rig.snapshot, 0, &told);
	EXPECT_EQ(told.nr_corrupted, 0);
	return told.nr_low;
}

static void write_and_store(uint64_t nr_bytes, uint64_t at)
{
	origin_write(nr_bytes, at);
	wait_until_stored();
}

static void test_low_space_is_told_at_the_limit(void)
{
	row("free space falls to half of diff_storage_minimum, or will not last");
	ledger_open(&ledger, rig.origin);
	snapshot_create(&rig.snapshot, rig.origin);
	EXPECT_EQ(nr_low_now(), 1);
	EXPECT(!has_event());
	ASSERT_OK(append_bytes(0, 2 * MIB));
	snapshot_take(&rig.snapshot);
	ledger_take(&ledger);
	write_and_store(2 * MIB - LOW_LIMIT_BYTES - BLOCK_BYTES, 0);
	EXPECT_EQ(image_number("storage_free_bytes"), LOW_LIMIT_BYTES + BLOCK_BYTES);
	EXPECT(!has_event());
	EXPECT_EQ(nr_low_now(), 0);
	write_and_store(BLOCK_BYTES, 8 * MIB);
	EXPECT_EQ(image_number("storage_free_bytes"), LOW_LIMIT_BYTES);
	EXPECT(has_event());
	EXPECT_EQ(nr_low_now(), 1);
	/* Not again, for nobody has lifted it. */
	write_and_store(64 * KIB, 9 * MIB);
	EXPECT_EQ(nr_low_now(), 0);
	expect_sound();
}

static void test_low_space_is_told_again_after_an_append_that_lifts_it(void)
{
	rig_take(MIB);
	EXPECT_EQ(nr_low_now(), 1);
	write_and_store(MIB - LOW_LIMIT_BYTES / 2, 0);
	EXPECT_EQ(nr_low_now(), 1);
	/* To the limit, not above it. */
	ASSERT_OK(append_bytes(MIB, LOW_LIMIT_BYTES / 2));
	EXPECT_EQ(image_number("storage_free_bytes"), LOW_LIMIT_BYTES);
	write_and_store(BLOCK_BYTES, 8 * MIB);
	EXPECT_EQ(nr_low_now(), 0);
	/* Above it by one block, which is what one write takes. */
	ASSERT_OK(append_bytes(2 * MIB, 2 * BLOCK_BYTES));
	EXPECT_EQ(nr_low_now(), 0);
	write_and_store(BLOCK_BYTES, 9 * MIB);
	EXPECT_EQ(nr_low_now(), 1);
	expect_sound();
}

static void test_low_space_that_nobody_fetched_is_told_once(void)
{
	rig_take(MIB);
	write_and_store(MIB - LOW_LIMIT_BYTES, 0);
	ASSERT_OK(append_bytes(MIB, MIB));
	write_and_store(MIB, 4 * MIB);
	/* That of the creation, and the two that followed. */
	EXPECT_EQ(nr_low_now(), 1);
	expect_sound();
}

static void test_low_space_is_told_before_the_loss(void)
{
	struct told told;

	rig_take(2 * MIB);
	EXPECT_EQ(nr_low_now(), 1);
	origin_write(4 * MIB, 0);
	image_number_becomes("error", ENOSPC, ENOSPC);
	collect_events(&rig.snapshot, CALM_MS, &told);
	EXPECT_EQ(told.nr_low, 1);
	EXPECT_EQ(told.nr_corrupted, 1);
	EXPECT(told.was_low_first);
}

const struct ktap_test low_tests[] = {
	KTAP_TEST(test_low_space_is_told_at_the_limit),
	KTAP_SLOW_TEST(test_low_space_is_told_again_after_an_append_that_lifts_it),
	KTAP_SLOW_TEST(test_low_space_that_nobody_fetched_is_told_once),
	KTAP_SLOW_TEST(test_low_space_is_told_before_the_loss),
	KTAP_END
};
