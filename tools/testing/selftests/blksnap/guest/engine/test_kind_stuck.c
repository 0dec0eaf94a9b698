// SPDX-License-Identifier: GPL-2.0
/*
 * Calls while a read of an image is stuck
 *
 * The origin has stopped completing, so a read of the image does not come back.  Its
 * reader may wait; callers of the module may not.
 */
#include "stacked.h"
#include "test_kind.h"

#define READ_AT (4 * MIB)
#define READ_BYTES (64 * KIB)
#define LIMIT_MS 2000U

/* Storage on the origin itself, where the read is stuck; for call_start(). */
static int append_read_part(void *data)
{
	(void)data;
	return append_range(&snapshot, &origin, READ_AT / SECTOR_SIZE, MIB / SECTOR_SIZE);
}

static void stuck_read_start(void)
{
	ASSERT_OK(null_disk_create(&lower, "nullb0", 32, NULL));
	ASSERT_OK(null_disk_create(&storage, "nullb1", 32, NULL));
	mapping_need(&origin, &lower);
	snapshot_now(&snapshot, &origin, &storage);
	ASSERT_OK(mapping_suspend(MAPPING));
	worker_start(READ_SYNC, NULL, image_of(&snapshot, &origin), READ_AT, READ_BYTES);
	sleep_ms(SETTLE_MS);
}

static void expect_in_time(const char *what, struct call *call)
{
	call_ends_within(call, HANG_MS / 2);
	ktap_note("%s: %u ms", what, call_ms(call));
	EXPECT(call_ms(call) < LIMIT_MS);
}

static void test_appending_does_not_wait_for_stuck_read(void)
{
	stuck_read_start();
	expect_in_time("appending storage where a read is stuck",
		       call_start(append_read_part, NULL));
}

static void test_destroying_does_not_wait_for_stuck_read(void)
{
	stuck_read_start();
	expect_in_time("destroying while a read is stuck", call_start(destroy_snapshot, NULL));
}

static void test_destroying_does_not_wait_behind_appending(void)
{
	stuck_read_start();
	call_start(append_read_part, NULL);
	sleep_ms(SETTLE_MS);
	expect_in_time("destroying after appending where a read is stuck",
		       call_start(destroy_snapshot, NULL));
}

const struct ktap_test stuck_tests[] = {
	KTAP_TEST(test_appending_does_not_wait_for_stuck_read),
	KTAP_TEST(test_destroying_does_not_wait_for_stuck_read),
	KTAP_TEST(test_destroying_does_not_wait_behind_appending),
	KTAP_END
};
