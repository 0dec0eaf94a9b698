// SPDX-License-Identifier: GPL-2.0
/*
 * What the module says when something fails, and whether it is true
 *
 * A snapshot of a device breaks once: one event, one line in the log, the errno
 * in the image's attribute, the same in all three.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "test_storage.h"

/* --- events --- */

static void note_event(const struct blk_snap_snapshot_event *event, struct told *told)
{
	const size_t nr_bytes = event->code == blk_snap_event_code_corrupted ?
		sizeof(struct blk_snap_event_corrupted) :
		sizeof(struct blk_snap_event_low_free_space);

	EXPECT(is_filled_with(event->data + nr_bytes, 0, sizeof(event->data) - nr_bytes));
	EXPECT(event->time_label > 0 && (uint64_t)event->time_label <= now_ns());
	if (event->code == blk_snap_event_code_corrupted) {
		told->nr_corrupted++;
		memcpy(&told->lost, event->data, sizeof(told->lost));
		return;
	}
	EXPECT_EQ(event->code, blk_snap_event_code_low_free_space);
	EXPECT_EQ(((struct blk_snap_event_low_free_space *)event->data)->requested_nr_sect,
		  module_parameter("diff_storage_minimum"));
	if (!told->nr_corrupted)
		told->was_low_first = true;
	told->nr_low++;
}

/* Fetch events until none comes for @wait_ms. */
void collect_events(const struct snapshot *snapshot, unsigned int wait_ms, struct told *told)
{
	struct blk_snap_snapshot_event event;
	int ret;

	memset(told, 0, sizeof(*told));
	for (;;) {
		memset(&event, POISON, sizeof(event));
		ret = next_event(snapshot, wait_ms, &event);
		if (ret)
			break;
		note_event(&event, told);
	}
	EXPECT_ERR(ret, ENOENT);
}

/* --- attributes of the image --- */

int64_t image_number_of(const struct snapshot *snapshot, const struct disk *origin,
			const char *attribute)
{
	return read_number("/sys/block/%s/blksnap/%s",
			   strrchr(image_of(snapshot, origin), '/') + 1, attribute);
}

int64_t image_number(const char *attribute)
{
	return image_number_of(&rig.snapshot, rig.origin, attribute);
}

/* Wait for an attribute to be within two limits; ends the test if it does not. */
void image_number_becomes(const char *attribute, int64_t at_least, int64_t at_most)
{
	const uint64_t end = now_ns() + PATIENCE_MS * 1000000ULL;
	int64_t number;

	do {
		number = image_number(attribute);
		if (number >= at_least && number <= at_most)
			return;
		sleep_ms(5);
	} while (now_ns() < end);
	ktap_check(false, true, __FILE__, __LINE__, "%s is %lld, not within %lld and %lld",
		   attribute, (long long)number, (long long)at_least, (long long)at_most);
}

/* Nothing is in memory any more. */
void wait_until_stored(void)
{
	image_number_becomes("memory_bytes", 0, 0);
}

/* --- memory --- */

/* Free memory, with what the processors keep to themselves. */
int64_t free_bytes(void)
{
	char line[200];
	int64_t kib = -1;
	FILE *file;

	write_text("/proc/sys/vm/percpu_pagelist_high_fraction", "1000000");
	write_text("/proc/sys/vm/compact_memory", "1");
	sleep_ms(CALM_MS);
	file = fopen("/proc/meminfo", "r");
	ASSERT(file);
	while (fgets(line, sizeof(line), file))
		if (!strncmp(line, "MemFree:", 8))
			kib = atoll(line + 8);
	fclose(file);
	return kib * 1024;
}

/* --- the log --- */

/* Lines of this test that say that the image of @origin is lost. */
unsigned int count_lost_lines(const struct disk *origin)
{
	char text[80];

	snprintf(text, sizeof(text), "blksnap: %u:%u: snapshot failed: ", origin->id.mj,
		 origin->id.mn);
	return count_in_log(text);
}

/* --- broken or not --- */

/* The image of @origin is lost by @error, a positive errno, and that was told once. */
void expect_lost(const struct snapshot *snapshot, const struct disk *origin, int error)
{
	const uint64_t end = now_ns() + PATIENCE_MS * 1000000ULL;
	struct told told;

	while (!image_number_of(snapshot, origin, "error") && now_ns() < end)
		sleep_ms(5);
	EXPECT_EQ(image_number_of(snapshot, origin, "error"), error);
	collect_events(snapshot, CALM_MS, &told);
	EXPECT_EQ(told.nr_corrupted, 1);
	EXPECT_EQ(told.lost.err_code, error);
	EXPECT(!memcmp(&told.lost.orig_dev_id, &origin->id, sizeof(origin->id)));
	EXPECT_EQ(count_lost_lines(origin), 1);
}

static void expect_image_fails(void)
{
	const char *image = image_of(&rig.snapshot, rig.origin);
	const uint64_t places[] = { 0, ORIGIN_BYTES / 2, rig.origin->nr_bytes - BLOCK_BYTES };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(places); i++) {
		EXPECT_EQ(io_error(image, false, BLOCK_BYTES, places[i]), EIO);
		EXPECT_EQ(io_error(image, true, BLOCK_BYTES, places[i]), EIO);
	}
	EXPECT_EQ(io_error(image, false, MIB, 0), EIO);
}

/*
 * rig.snapshot is lost by @error: told once, the image fails, nobody is held,
 * nothing stays in memory, and the origin is what its writers made it.
 */
void expect_broken(int error)
{
	struct told told;

	expect_lost(&rig.snapshot, rig.origin, error);
	expect_image_fails();
	image_number_becomes("held_writes", 0, 0);
	origin_write(256 * KIB, ORIGIN_BYTES - MIB);
	expect_origin_is_as_written();
	wait_until_stored();
	EXPECT_EQ(image_number("error"), error);
	collect_events(&rig.snapshot, CALM_MS, &told);
	EXPECT_EQ(told.nr_corrupted, 0);
	EXPECT_EQ(count_lost_lines(rig.origin), 1);
}

/* rig.snapshot is as it should be: no loss was told, image and origin are right. */
void expect_sound(void)
{
	struct told told;

	wait_until_stored();
	expect_image_is_as_taken();
	expect_origin_is_as_written();
	EXPECT_EQ(image_number("error"), 0);
	EXPECT_EQ(image_number("held_writes"), 0);
	collect_events(&rig.snapshot, CALM_MS, &told);
	EXPECT_EQ(told.nr_corrupted, 0);
}

/* rig.snapshot is lost, but the changes are known: the next one tells them. */
void expect_tracking_goes_on(void)
{
	origin_write(BLOCK_BYTES, ORIGIN_BYTES - 2 * MIB);
	ASSERT_OK(control_snapshot_destroy(ctl, &rig.snapshot.id));
	origin_write(BLOCK_BYTES, ORIGIN_BYTES - 3 * MIB);
	expect_next_map_is_right(&ledger);
}
