// SPDX-License-Identifier: GPL-2.0
/*
 * Errors that a reader or a writer of the image meets
 *
 * They are that reader's or writer's alone: no event, and the snapshot goes on.
 * As long as the image is not lost, what it shows is right; once it is lost, it
 * shows nothing, to those who had begun to read before neither.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "test_storage.h"

static void test_image_read_error_of_the_origin(void)
{
	row("an image read fails on the origin or on the storage");
	rig_take(STORAGE_BYTES);
	disk_break_sectors(rig.origin, 5 * 2048 + 100, 1);
	EXPECT_EQ(io_error(image(), false, SECTOR_SIZE, 5 * MIB + 100 * SECTOR_SIZE), EIO);
	EXPECT_EQ(io_error(image(), false, MIB, 5 * MIB), EIO);
	/* Up to the bad sector, and behind it. */
	expect_holds(image(), ledger.taken + 4 * MIB, MIB + 100 * SECTOR_SIZE, 4 * MIB);
	expect_holds(image(), ledger.taken + 5 * MIB + 101 * SECTOR_SIZE, MIB,
		     5 * MIB + 101 * SECTOR_SIZE);
	origin_write(MIB, 0);
	disk_mend_sectors(rig.origin, 5 * 2048 + 100, 1);
	expect_sound();
}

/* In order, which stores beside each other need not be. */
static void store_in_order(uint64_t nr_bytes, uint64_t at)
{
	const uint64_t end = at + nr_bytes, step = 64 * KIB;

	for (; at < end; at += step) {
		origin_write(step, at);
		wait_until_stored();
	}
}

static void test_image_read_error_of_the_storage(void)
{
	rig_take(STORAGE_BYTES);
	store_in_order(2 * MIB, 4 * MIB);
	disk_break_sectors(&rig.storage_disk, 2 * 2048 + 100, 1);
	EXPECT_EQ(io_error(image(), false, SECTOR_SIZE, 5 * MIB + 100 * SECTOR_SIZE), EIO);
	EXPECT_EQ(io_error(image(), false, 4 * MIB, 3 * MIB), EIO);
	expect_holds(image(), ledger.taken, 5 * MIB + 100 * SECTOR_SIZE, 0);
	expect_holds(image(), ledger.taken + 6 * MIB, MIB, 6 * MIB);
	disk_mend_sectors(&rig.storage_disk, 2 * 2048 + 100, 1);
	origin_write(MIB, 0);
	expect_sound();
}

static void test_image_write_error_of_the_storage(void)
{
	row("an image write fails on the storage");
	rig_take(STORAGE_BYTES);
	store_in_order(2 * MIB, 4 * MIB);
	disk_break_sectors(&rig.storage_disk, 2 * 2048 + 100, 1);
	EXPECT_EQ(io_error(image(), true, SECTOR_SIZE, 5 * MIB + 100 * SECTOR_SIZE), EIO);
	EXPECT_EQ(image_number("error"), 0);
	disk_mend_sectors(&rig.storage_disk, 2 * 2048 + 100, 1);
	expect_sound();
	fill_random(ledger.taken + 5 * MIB, MIB);
	EXPECT(write_direct(image(), ledger.taken + 5 * MIB, MIB, 5 * MIB));
	expect_sound();
}

/* The rest of the block has to be copied, and cannot be. */
static void test_partial_image_write_over_what_cannot_be_read(void)
{
	rig_take(STORAGE_BYTES);
	disk_break_sectors(rig.origin, 5 * 2048 + 7, 1);
	EXPECT_EQ(io_error(image(), true, SECTOR_SIZE, 5 * MIB), EIO);
	image_number_becomes("error", EIO, EIO);
	disk_mend_sectors(rig.origin, 5 * 2048 + 7, 1);
	expect_broken(EIO);
}

/* A whole block needs no reading. */
static void test_image_write_over_what_cannot_be_read(void)
{
	rig_take(STORAGE_BYTES);
	disk_break_sectors(rig.origin, 5 * 2048, 16);
	fill_random(ledger.taken + 5 * MIB, 2 * BLOCK_BYTES);
	EXPECT(write_direct(image(), ledger.taken + 5 * MIB, 2 * BLOCK_BYTES, 5 * MIB));
	expect_holds(image(), ledger.taken + 4 * MIB, 2 * MIB, 4 * MIB);
	disk_mend_sectors(rig.origin, 5 * 2048, 16);
	expect_sound();
}

/* --- a storage that hangs --- */

static void test_what_is_in_memory_is_read_from_there(void)
{
	struct io_job *read;

	rig_take(STORAGE_BYTES);
	gate_close(&rig.storage_gate);
	origin_write(3 * MIB, 4 * MIB);
	/* A batch is in flight, and not stored yet. */
	image_number_becomes("storage_free_bytes", 0, STORAGE_BYTES - MIB);
	read = job_start(image(), false, ORIGIN_BYTES, 0);
	expect_job_ends(read, 0);
	EXPECT(!memcmp(read->buffer, ledger.taken, ORIGIN_BYTES));
	EXPECT_EQ(image_number("stored_bytes"), 0);
	gate_open(&rig.storage_gate);
	expect_sound();
}

static void test_image_io_waits_for_a_storage_that_hangs(void)
{
	struct io_job *read, *overwrite, *partial;

	row("the storage hangs, and no write waits for memory");
	rig_take(STORAGE_BYTES);
	origin_write(MIB, 4 * MIB);
	wait_until_stored();
	gate_close(&rig.storage_gate);
	read = job_start(image(), false, BLOCK_BYTES, 4 * MIB);
	overwrite = job_start(image(), true, BLOCK_BYTES, 4 * MIB + 64 * KIB);
	partial = job_start(image(), true, SECTOR_SIZE, 8 * MIB);
	expect_job_waits(read);
	EXPECT(!job_is_done_within(overwrite, 0));
	EXPECT(!job_is_done_within(partial, 0));
	/* The origin does not notice. */
	origin_write(2 * MIB, 0);
	expect_holds(image(), ledger.taken, 4 * MIB, 0);
	EXPECT_EQ(image_number("error"), 0);
	gate_open(&rig.storage_gate);
	expect_job_ends(read, 0);
	EXPECT(!memcmp(read->buffer, ledger.taken + 4 * MIB, BLOCK_BYTES));
	expect_job_ends(overwrite, 0);
	expect_job_ends(partial, 0);
	memcpy(ledger.taken + overwrite->at, overwrite->buffer, overwrite->nr_bytes);
	memcpy(ledger.taken + partial->at, partial->buffer, partial->nr_bytes);
	expect_sound();
}

/* --- an image that is lost while it is used --- */

static void test_read_under_way_fails_when_the_image_is_lost(void)
{
	struct io_job *shared, *stored;

	row("an image is lost while it is read");
	rig_gate_origin();
	rig_take(STORAGE_BYTES);
	origin_write(MIB, 0);
	wait_until_stored();
	origin_write(MIB, 4 * MIB);
	gate_close(&rig.storage_gate);
	stored = job_start(image(), false, BLOCK_BYTES, 0);
	origin_write(MIB, 8 * MIB);
	image_number_becomes("memory_bytes", MIB, 2 * MIB);
	gate_close(&rig.origin_gate);
	shared = job_start(image(), false, BLOCK_BYTES, 10 * MIB);
	expect_job_waits(shared);
	gate_break(&rig.storage_gate);
	image_number_becomes("error", EIO, EIO);
	expect_job_ends(stored, EIO);
	expect_job_waits(shared);
	gate_open(&rig.origin_gate);
	/* Writes pass since then: it may have read new data. */
	expect_job_ends(shared, EIO);
	expect_broken(EIO);
}

const struct ktap_test image_tests[] = {
	KTAP_SLOW_TEST(test_image_read_error_of_the_origin),
	KTAP_TEST(test_image_read_error_of_the_storage),
	KTAP_SLOW_TEST(test_image_write_error_of_the_storage),
	KTAP_SLOW_TEST(test_partial_image_write_over_what_cannot_be_read),
	KTAP_SLOW_TEST(test_image_write_over_what_cannot_be_read),
	KTAP_SLOW_TEST(test_what_is_in_memory_is_read_from_there),
	KTAP_SLOW_TEST(test_image_io_waits_for_a_storage_that_hangs),
	KTAP_SLOW_TEST(test_read_under_way_fails_when_the_image_is_lost),
	KTAP_END
};
