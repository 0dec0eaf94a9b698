// SPDX-License-Identifier: GPL-2.0
/*
 * Errors of the storage when a copy is stored, of the origin when it is made
 *
 * Either costs the image, with the error of the device.  The write that wanted
 * the copy is done, and so is every other one: an origin that cannot be read can
 * still be written.
 */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "test_storage.h"

/* --- the storage --- */

static void test_store_error_breaks_once(void)
{
	row("a copy cannot be stored");
	rig_take(STORAGE_BYTES);
	disk_break_sectors(&rig.storage_disk, 3 * 2048, 1);
	origin_write(2 * MIB, 0);
	expect_sound();
	origin_write(3 * MIB, 4 * MIB);
	expect_broken(EIO);
	expect_tracking_goes_on();
}

static void test_store_error_lets_held_writes_go(void)
{
	struct io_job *writes[4];
	unsigned int i;

	rig_take(STORAGE_BYTES);
	gate_close(&rig.storage_gate);
	for (i = 0; i < ARRAY_SIZE(writes); i++)
		writes[i] = origin_write_start(2 * MIB, i * 2 * MIB);
	image_number_becomes("held_writes", 1, 1000000);
	gate_break(&rig.storage_gate);
	for (i = 0; i < ARRAY_SIZE(writes); i++)
		expect_job_ends(writes[i], 0);
	expect_broken(EIO);
	expect_tracking_goes_on();
}

/* One store that goes to many small ranges, of which one fails. */
static void test_store_error_in_one_of_many_ranges(void)
{
	unsigned int i;

	ledger_open(&ledger, rig.origin);
	snapshot_create(&rig.snapshot, rig.origin);
	for (i = 0; i < 32; i++)
		ASSERT_OK(append_bytes(i * 256 * KIB, 64 * KIB));
	snapshot_take(&rig.snapshot);
	ledger_take(&ledger);
	disk_break_sectors(&rig.storage_disk, EDGE_BYTES / SECTOR_SIZE + (6 * 256 + 32) * 2, 1);
	origin_write(256 * KIB, 0);
	expect_sound();
	gate_close(&rig.storage_gate);
	origin_write(MIB, 4 * MIB);
	gate_open(&rig.storage_gate);
	expect_broken(EIO);
}

/* The first store is the one that fails, and there is no other attempt. */
static void test_first_store_error(void)
{
	rig_take(STORAGE_BYTES);
	gate_break(&rig.storage_gate);
	expect_image_is_as_taken();
	origin_write(SECTOR_SIZE, 5 * BLOCK_BYTES + SECTOR_SIZE);
	image_number_becomes("error", EIO, EIO);
	gate_mend(&rig.storage_gate);
	expect_broken(EIO);
	expect_tracking_goes_on();
}

static void test_store_error_spares_other_snapshots(void)
{
	struct snapshot other;

	rig_take(4 * MIB);
	ASSERT(fill_direct(rig.spare_disk.path, 0x11, 4 * MIB, 0));
	snapshot_create(&other, &rig.spare_disk);
	ASSERT_OK(append_range(&other, rig.storage, 9 * 2048, 8 * 2048));
	snapshot_take(&other);
	disk_break_sectors(&rig.storage_disk, 2048, 8);
	EXPECT(fill_direct(rig.spare_disk.path, 0x22, 2 * MIB, 0));
	origin_write(MIB, 0);
	expect_broken(EIO);
	EXPECT(reads_as(image_of(&other, &rig.spare_disk), 0x11, 4 * MIB, 0));
	EXPECT_EQ(image_number_of(&other, &rig.spare_disk, "error"), 0);
}

#define FAULTS "/sys/kernel/debug/fail_make_request"

static void fail_requests(const struct disk *disk, const char *times)
{
	char path[100];

	snprintf(path, sizeof(path), "/sys/block/%s/make-it-fail", strrchr(disk->path, '/') + 1);
	ASSERT(write_text(path, strcmp(times, "0") ? "1" : "0"));
	ASSERT(write_text(FAULTS "/verbose", "0"));
	ASSERT(write_text(FAULTS "/interval", "1"));
	ASSERT(write_text(FAULTS "/probability", strcmp(times, "0") ? "100" : "0"));
	ASSERT(write_text(FAULTS "/times", times));
}

/* The block layer fails one bio of the module as it is submitted. */
static void test_store_that_fails_at_its_submission(void)
{
	if (access(FAULTS, F_OK)) {
		ktap_skip("this kernel cannot fail requests on demand");
		return;
	}
	rig_take(STORAGE_BYTES);
	origin_write(MIB, 0);
	expect_sound();
	fail_requests(&rig.storage_disk, "1");
	origin_write(MIB, 4 * MIB);
	image_number_becomes("error", EIO, EIO);
	fail_requests(&rig.storage_disk, "0");
	expect_broken(EIO);
}

/* --- the origin --- */

/* The last sector of a block cannot be read, and the first one is written. */
static void test_copy_error_breaks_and_the_write_succeeds(void)
{
	row("old data cannot be read from the origin");
	rig_take(STORAGE_BYTES);
	origin_write(MIB, 0);
	disk_break_sectors(rig.origin, 6 * 2048 + 7, 1);
	origin_write(SECTOR_SIZE, 6 * MIB);
	image_number_becomes("error", EIO, EIO);
	disk_mend_sectors(rig.origin, 6 * 2048 + 7, 1);
	expect_broken(EIO);
	expect_tracking_goes_on();
}

/* Nobody wants the block that cannot be read; it would only have been copied ahead. */
static void test_error_of_what_is_copied_ahead_breaks_nothing(void)
{
	const uint64_t bad = 12 * BLOCK_BYTES / SECTOR_SIZE;
	unsigned int i;

	rig_take(STORAGE_BYTES);
	/* Until the writes of before the take are known to be done, nothing is. */
	sleep_ms(1000);
	disk_break_sectors(rig.origin, bad, 1);
	for (i = 0; i < 12; i++)
		origin_write(BLOCK_BYTES, i * BLOCK_BYTES);
	EXPECT_EQ(image_number("error"), 0);
	EXPECT_EQ(image_number("copied_bytes"), 12 * BLOCK_BYTES);
	/* Who waits for one such sector may meet more of them: from now on nothing is. */
	for (i = 16; i < 28; i++)
		origin_write(BLOCK_BYTES, i * BLOCK_BYTES);
	EXPECT_EQ(image_number("copied_bytes"), 24 * BLOCK_BYTES);
	disk_mend_sectors(rig.origin, bad, 1);
	expect_sound();
}

/*
 * What is copied ahead becomes storage while it is read.  It is left out of the image,
 * whether it can be read or not.
 */
static void append_what_is_copied_ahead(bool can_be_read)
{
	const uint64_t at = 4 * MIB, from = at + 8 * BLOCK_BYTES;
	struct io_job *write;
	unsigned int i;

	rig_gate_origin();
	rig_take(STORAGE_BYTES);
	for (i = 10; i; i--)
		origin_write(BLOCK_BYTES, at - i * BLOCK_BYTES);
	wait_until_stored();
	gate_close(&rig.origin_gate);
	write = origin_write_start(BLOCK_BYTES, at);
	image_number_becomes("memory_bytes", 16 * BLOCK_BYTES, 16 * BLOCK_BYTES);
	ASSERT_OK(append_range(&rig.snapshot, rig.origin, from / SECTOR_SIZE,
			       8 * BLOCK_BYTES / SECTOR_SIZE));
	expect_job_ends(job_start(image(), false, 8 * BLOCK_BYTES, from), 0);
	if (can_be_read)
		gate_open(&rig.origin_gate);
	else
		gate_break_sectors(&rig.origin_gate, at / SECTOR_SIZE + 35, 1);
	expect_job_ends(write, 0);
	EXPECT(reads_as(image(), 0, 8 * BLOCK_BYTES, from));
	if (!can_be_read)
		gate_mend(&rig.origin_gate);
	expect_holds(image(), ledger.taken + at - MIB, MIB + 8 * BLOCK_BYTES, at - MIB);
	EXPECT_EQ(image_number("error"), 0);
}

static void test_storage_that_was_being_copied_ahead(void)
{
	append_what_is_copied_ahead(true);
}

static void test_storage_that_could_not_be_copied_ahead(void)
{
	append_what_is_copied_ahead(false);
}

/* A long copy of which one sector fails, with all kinds of writers behind it. */
static void test_copy_error_lets_all_writers_go(void)
{
	const uint64_t bad = 6 * 2048 + 7;	/* the end of a block */
	struct io_job *writes[5];
	unsigned int i;

	rig_gate_origin();
	rig_take(STORAGE_BYTES);
	gate_close(&rig.origin_gate);
	writes[0] = origin_write_start(SECTOR_SIZE, 6 * MIB);
	writes[1] = origin_write_start(SECTOR_SIZE, 6 * MIB + SECTOR_SIZE);
	writes[2] = origin_write_start(2 * MIB, 3 * MIB);
	writes[3] = origin_write_start(MIB, 6 * MIB + BLOCK_BYTES);
	writes[4] = origin_write_start(4 * MIB, 8 * MIB);
	image_number_becomes("memory_bytes", MEMORY_BYTES, MEMORY_BYTES);
	for (i = 0; i < ARRAY_SIZE(writes); i++)
		EXPECT(!job_is_done_within(writes[i], 0));
	gate_break_sectors(&rig.origin_gate, bad, 1);
	for (i = 0; i < ARRAY_SIZE(writes); i++)
		expect_job_ends(writes[i], 0);
	image_number_becomes("error", EIO, EIO);
	gate_mend(&rig.origin_gate);
	expect_broken(EIO);
	expect_tracking_goes_on();
}

static void test_copy_error_spares_other_members(void)
{
	const struct disk *members[] = { rig.origin, &rig.spare_disk };
	const struct disk *const other = &rig.spare_disk;
	struct told told;

	ledger_open(&ledger, rig.origin);
	ASSERT(fill_direct(other->path, 0x11, 4 * MIB, 0));
	snapshot_create_of(&rig.snapshot, members, 2);
	ASSERT_OK(append_bytes(0, 16 * MIB));
	snapshot_take(&rig.snapshot);
	ledger_take(&ledger);
	disk_break_sectors(rig.origin, 7, 1);
	origin_write(SECTOR_SIZE, 0);
	image_number_becomes("error", EIO, EIO);
	disk_mend_sectors(rig.origin, 7, 1);
	expect_broken(EIO);
	EXPECT(fill_direct(other->path, 0x22, 2 * MIB, 0));
	EXPECT(reads_as(image_of(&rig.snapshot, other), 0x11, 4 * MIB, 0));
	EXPECT_EQ(image_number_of(&rig.snapshot, other, "error"), 0);
	collect_events(&rig.snapshot, CALM_MS, &told);
	EXPECT_EQ(told.nr_corrupted, 0);
}

/* What was read in vain is never shown, to readers under way neither. */
static void test_failed_copy_is_never_shown(void)
{
	struct io_job *write, *reads[8];
	unsigned int i;

	rig_gate_origin();
	rig_take(STORAGE_BYTES);
	gate_close(&rig.origin_gate);
	write = origin_write_start(MIB - BLOCK_BYTES, 6 * MIB);
	image_number_becomes("memory_bytes", MIB - BLOCK_BYTES, MIB - BLOCK_BYTES);
	for (i = 0; i < ARRAY_SIZE(reads); i++)
		reads[i] = job_start(image_of(&rig.snapshot, rig.origin), false, 64 * KIB,
				     6 * MIB + i * 128 * KIB);
	sleep_ms(CALM_MS);
	/* In the last block: all the others are read as they should be. */
	gate_break_sectors(&rig.origin_gate, 7 * 2048 - 9, 1);
	/* It meets the bad sector itself, but that is no fault of the module. */
	expect_job_ends(write, EIO);
	for (i = 0; i < ARRAY_SIZE(reads); i++) {
		EXPECT(job_is_done_within(reads[i], PATIENCE_MS));
		if (reads[i]->error)
			expect_job_ends(reads[i], EIO);
		else
			EXPECT(!memcmp(reads[i]->buffer, ledger.taken + reads[i]->at,
				       reads[i]->nr_bytes));
	}
	expect_lost(&rig.snapshot, rig.origin, EIO);
	gate_mend(&rig.origin_gate);
}

/* --- an origin that tells more than EIO --- */

#define SCSI_DEBUG "/sys/bus/pseudo/drivers/scsi_debug"
#define SCSI_PARAMETERS "/sys/module/scsi_debug/parameters"

static struct disk scsi_disk;

/* The block device below a folder of sysfs, at most @depth folders down. */
static bool find_block_device(const char *folder, unsigned int depth, char *name)
{
	bool is_block = !strcmp(strrchr(folder, '/'), "/block");
	struct dirent *entry;
	bool is_found = false;
	char path[400];
	DIR *dir;

	dir = opendir(folder);
	while (dir && !is_found && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.' || entry->d_type != DT_DIR)
			continue;
		if (is_block) {
			snprintf(name, 32, "%.31s", entry->d_name);
			is_found = true;
		} else if (depth) {
			snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
			is_found = find_block_device(path, depth - 1, name);
		}
	}
	if (dir)
		closedir(dir);
	return is_found;
}

bool scsi_disk_create(const char *parameters, struct disk *disk)
{
	char name[32], path[48];
	unsigned int ms;

	kernel_module_load("sd_mod");
	if (shell("modprobe scsi_debug dev_size_mb=%llu delay=0 %s 2>/dev/null",
		  ORIGIN_BYTES / MIB, parameters)) {
		ktap_skip("this kernel has no module scsi_debug");
		return false;
	}
	for (ms = 0; ms < PATIENCE_MS; ms += 50) {
		if (find_block_device("/sys/devices/pseudo_0/adapter0", 6, name))
			break;
		if (find_block_device("/sys/devices/pseudo/adapter0", 6, name))
			break;
		sleep_ms(50);
	}
	ASSERT(ms < PATIENCE_MS);
	snprintf(path, sizeof(path), "/dev/%s", name);
	ASSERT_OK(disk_find(disk, path));
	return true;
}

/* Reads of some sectors fail from here on, or of none; writes never do. */
static void scsi_break_reads(uint64_t sector, unsigned int nr_sectors)
{
	char text[32];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)sector);
	ASSERT(write_text(SCSI_PARAMETERS "/medium_error_start", text));
	snprintf(text, sizeof(text), "%u", nr_sectors);
	ASSERT(write_text(SCSI_PARAMETERS "/medium_error_count", text));
	ASSERT(write_text(SCSI_DEBUG "/opts", nr_sectors ? "2" : "0"));
}

void error_tear_down(void)
{
	rig_tear_down();
	if (!access("/sys/module/scsi_debug", F_OK))
		EXPECT_EQ(shell("rmmod scsi_debug"), 0);
}

static void test_copy_error_in_the_middle_of_a_large_write(void)
{
	if (!scsi_disk_create("", &scsi_disk))
		return;
	rig_use_origin(&scsi_disk);
	rig_take(STORAGE_BYTES);
	origin_write(2 * MIB, 0);
	expect_sound();
	scsi_break_reads(5 * 2048 + 100, 3);
	/* The write covers what cannot be read, and is done. */
	origin_write(MIB, 5 * MIB - 512 * KIB);
	image_number_becomes("error", ENODATA, ENODATA);
	scsi_break_reads(0, 0);
	expect_broken(ENODATA);
	expect_tracking_goes_on();
}

/* The store in flight fails, too, when the image is lost already. */
static void test_second_failure_is_not_told(void)
{
	struct told told;

	if (!scsi_disk_create("", &scsi_disk))
		return;
	rig_use_origin(&scsi_disk);
	rig_take(STORAGE_BYTES);
	gate_close(&rig.storage_gate);
	origin_write(2 * MIB, 0);
	image_number_becomes("storage_free_bytes", 0, STORAGE_BYTES - MIB);
	scsi_break_reads(5 * 2048 + 100, 3);
	origin_write(MIB, 5 * MIB);
	image_number_becomes("error", ENODATA, ENODATA);
	scsi_break_reads(0, 0);
	collect_events(&rig.snapshot, CALM_MS, &told);
	EXPECT_EQ(told.nr_corrupted, 1);
	EXPECT_EQ(told.lost.err_code, ENODATA);
	gate_break(&rig.storage_gate);
	wait_until_stored();
	collect_events(&rig.snapshot, CALM_MS, &told);
	EXPECT_EQ(told.nr_corrupted, 0);
	EXPECT_EQ(image_number("error"), ENODATA);
	EXPECT_EQ(count_lost_lines(rig.origin), 1);
}

static void test_image_read_tells_the_error_of_the_origin(void)
{
	const uint64_t bad = 5 * MIB + 100 * SECTOR_SIZE;
	const char *image;

	if (!scsi_disk_create("", &scsi_disk))
		return;
	rig_use_origin(&scsi_disk);
	rig_take(STORAGE_BYTES);
	image = image_of(&rig.snapshot, rig.origin);
	scsi_break_reads(bad / SECTOR_SIZE, 3);
	EXPECT_EQ(io_error(image, false, BLOCK_BYTES, bad / BLOCK_BYTES * BLOCK_BYTES), ENODATA);
	EXPECT_EQ(io_error(image, false, MIB, 5 * MIB), ENODATA);
	expect_holds(image, ledger.taken, 5 * MIB, 0);
	scsi_break_reads(0, 0);
	origin_write(2 * MIB, 4 * MIB);
	expect_sound();
}

/* --- what is left --- */

#define NR_LOST 12U

/* Lose an image with all of its memory in use and writers waiting for more. */
static void lose_image(unsigned int nr)
{
	struct io_job *write;

	snapshot_create(&rig.snapshot, rig.origin);
	ASSERT_OK(append_bytes(0, nr % 2 ? MIB : STORAGE_BYTES));
	snapshot_take(&rig.snapshot);
	gate_close(&rig.storage_gate);
	write = origin_write_start(2 * MEMORY_BYTES, 0);
	image_number_becomes("held_writes", 1, 1000000);
	if (nr % 2) {
		gate_open(&rig.storage_gate);
	} else {
		gate_break(&rig.storage_gate);
		gate_mend(&rig.storage_gate);
	}
	expect_job_ends(write, 0);
	image_number_becomes("error", nr % 2 ? ENOSPC : EIO, nr % 2 ? ENOSPC : EIO);
	ASSERT_OK(control_snapshot_destroy(ctl, &rig.snapshot.id));
}

static void test_lost_images_leave_no_memory_behind(void)
{
	int64_t before, after;
	unsigned int i;

	if (!access("/sys/kernel/debug/kmemleak", F_OK)) {
		ktap_skip("a debug kernel keeps freed memory back; kmemleak tells");
		return;
	}
	ledger_open(&ledger, rig.origin);
	ASSERT(fill_direct(rig.storage_disk.path, 0, STORAGE_BYTES, 0));
	for (i = 0; i < 2; i++)
		lose_image(i);
	before = free_bytes();
	for (i = 0; i < NR_LOST; i++)
		lose_image(i);
	after = free_bytes();
	ktap_note("%u images lost: %lld KiB free before, %lld KiB after", NR_LOST,
		  (long long)(before / 1024), (long long)(after / 1024));
	/* Less than one image in two may have left a quarter of its budget. */
	EXPECT(before - after < (int64_t)(NR_LOST / 2 * MEMORY_BYTES / 4));
}

const struct ktap_test error_tests[] = {
	KTAP_SLOW_TEST(test_store_error_breaks_once),
	KTAP_TEST(test_store_error_lets_held_writes_go),
	KTAP_SLOW_TEST(test_store_error_in_one_of_many_ranges),
	KTAP_SLOW_TEST(test_first_store_error),
	KTAP_SLOW_TEST(test_store_error_spares_other_snapshots),
	KTAP_SLOW_TEST(test_store_that_fails_at_its_submission),
	KTAP_TEST(test_copy_error_breaks_and_the_write_succeeds),
	KTAP_TEST(test_error_of_what_is_copied_ahead_breaks_nothing),
	KTAP_TEST(test_storage_that_was_being_copied_ahead),
	KTAP_TEST(test_storage_that_could_not_be_copied_ahead),
	KTAP_SLOW_TEST(test_copy_error_lets_all_writers_go),
	KTAP_SLOW_TEST(test_copy_error_spares_other_members),
	KTAP_SLOW_TEST(test_failed_copy_is_never_shown),
	KTAP_SLOW_TEST(test_copy_error_in_the_middle_of_a_large_write),
	KTAP_SLOW_TEST(test_second_failure_is_not_told),
	KTAP_SLOW_TEST(test_image_read_tells_the_error_of_the_origin),
	KTAP_SLOW_TEST(test_lost_images_leave_no_memory_behind),
	KTAP_END
};
