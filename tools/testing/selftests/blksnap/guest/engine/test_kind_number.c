// SPDX-License-Identifier: GPL-2.0
/*
 * How long creating, destroying and untracking take
 *
 * Nothing is in flight, so there is nothing to wait for.
 */
#include <stdlib.h>

#include "test_kind.h"

#define NR_DEVICES 64U
#define NR_TIMES 5U
#define DESTROY_LIMIT_MS 1000U		/* all of them together */
#define UNTRACK_LIMIT_MS 150U
#define CREATE_LIMIT_MS 50U

static struct disk disks[NR_DEVICES];

void number_tear_down(void)
{
	unsigned int i;

	ctl_tear_down();
	for (i = 0; i < NR_DEVICES; i++)
		null_disk_destroy(&disks[i]);
	kind_tear_down();
}

static int compare_numbers(const void *a, const void *b)
{
	const unsigned int *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static unsigned int median(unsigned int *numbers)
{
	qsort(numbers, NR_TIMES, sizeof(numbers[0]), compare_numbers);
	return numbers[NR_TIMES / 2];
}

static unsigned int ms_since(uint64_t start)
{
	return (now_ns() - start) / 1000000;
}

static unsigned int create_ms(void)
{
	const uint64_t start = now_ns();

	snapshot_create(&snapshot, &origin);
	return ms_since(start);
}

static void test_creating_of_tracked_device_is_quick(void)
{
	unsigned int i, ms[NR_TIMES], first_ms;

	ASSERT_OK(null_disk_create(&origin, "nullb0", 32, NULL));
	first_ms = create_ms();
	for (i = 0; i < NR_TIMES; i++) {
		ASSERT_OK(destroy_snapshot(NULL));
		ms[i] = create_ms();
	}
	ktap_note("creating: %u ms, of a tracked device %u ms", first_ms, median(ms));
	EXPECT(median(ms) < CREATE_LIMIT_MS);
}

static void test_untracking_is_quick(void)
{
	unsigned int i, ms[NR_TIMES];

	ASSERT_OK(null_disk_create(&origin, "nullb0", 32, NULL));
	for (i = 0; i < NR_TIMES; i++) {
		uint64_t start;

		snapshot_create(&snapshot, &origin);
		ASSERT_OK(destroy_snapshot(NULL));
		start = now_ns();
		ASSERT_OK(control_tracker_remove(ctl, origin.id));
		ms[i] = ms_since(start);
	}
	ktap_note("removing the last tracker: %u ms", median(ms));
	EXPECT(median(ms) < UNTRACK_LIMIT_MS);
}

static void test_destroying_of_64_images_is_quick(void)
{
	struct blk_snap_dev ids[NR_DEVICES];
	unsigned int i, ms[3];
	char name[16];
	uint64_t start;

	ASSERT_OK(null_disk_create(&storage, "nullb64", 32, NULL));
	for (i = 0; i < NR_DEVICES; i++) {
		snprintf(name, sizeof(name), "nullb%u", i);
		ASSERT_OK(null_disk_create(&disks[i], name, 16, NULL));
		ids[i] = disks[i].id;
	}
	start = now_ns();
	ASSERT_OK(control_snapshot_create(ctl, ids, NR_DEVICES, &snapshot.id));
	ms[0] = ms_since(start);
	ASSERT_OK(append_range(&snapshot, &storage, 0, 32 * MIB / SECTOR_SIZE));
	start = now_ns();
	ASSERT_OK(control_snapshot_take(ctl, &snapshot.id));
	ms[1] = ms_since(start);
	start = now_ns();
	ASSERT_OK(destroy_snapshot(NULL));
	ms[2] = ms_since(start);
	ktap_note("%u devices: creating %u ms, taking %u ms, destroying %u ms", NR_DEVICES,
		  ms[0], ms[1], ms[2]);
	EXPECT(ms[2] < DESTROY_LIMIT_MS);
}

const struct ktap_test number_tests[] = {
	KTAP_TEST(test_creating_of_tracked_device_is_quick),
	KTAP_TEST(test_untracking_is_quick),
	KTAP_TEST(test_destroying_of_64_images_is_quick),
	KTAP_END
};
