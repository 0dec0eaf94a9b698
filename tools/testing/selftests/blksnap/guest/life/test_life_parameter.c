// SPDX-License-Identifier: GPL-2.0
/*
 * Module parameters: which values are valid, and what they change
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "test_life.h"

static void test_wrong_parameters_are_refused(void)
{
	static const char *const wrong[] = {
		"tracking_block_minimum_shift=11",
		"tracking_block_minimum_shift=31",
		"tracking_block_maximum_count=1023",
		"tracking_block_maximum_count=268435457",
		"copy_block_minimum_shift=11",
		"copy_block_minimum_shift=21",
		"copy_block_maximum_count=65535",
		"copy_block_maximum_count=68719476737",
		"diff_storage_minimum=2047",
		"diff_storage_ahead=60001",
		"copy_memory_maximum=3",
		"copy_memory_maximum=4097",
		"copy_discarded=maybe",
	};
	unsigned int i;

	close_ctl();
	ASSERT_OK(unload());
	for (i = 0; i < ARRAY_SIZE(wrong); i++) {
		if (module_load(wrong[i]))
			continue;
		FAIL("%s was accepted", wrong[i]);
		module_unload();
	}
}

static const struct {
	const char *name;
	unsigned long long least, greatest;
} limits[] = {
	{ "tracking_block_minimum_shift", 12, 30 },
	{ "tracking_block_maximum_count", 1024, 268435456 },
	{ "copy_block_minimum_shift", 12, 20 },
	{ "copy_block_maximum_count", 65536, 68719476736 },
	{ "diff_storage_minimum", 2048, 4294967295 },
	{ "diff_storage_ahead", 0, 60000 },
	{ "copy_memory_maximum", 4, 4096 },
	{ "take_drain_limit", 1, 3600 },
	{ "settle_watch", 1, 86400 },
};

static void expect_limits_are_valid(bool is_greatest)
{
	char parameters[600];
	size_t i, length = 0;

	for (i = 0; i < ARRAY_SIZE(limits); i++)
		length += snprintf(parameters + length, sizeof(parameters) - length, "%s=%llu ",
				   limits[i].name,
				   is_greatest ? limits[i].greatest : limits[i].least);
	ktap_context("%s", parameters);
	ASSERT_EQ(module_load(parameters), 0);
	ASSERT_EQ(module_unload(), 0);
}

static void test_limits_of_parameters_are_valid(void)
{
	close_ctl();
	ASSERT_OK(unload());
	expect_limits_are_valid(false);
	expect_limits_are_valid(true);
}

static void test_parameters_have_their_defaults(void)
{
	EXPECT_EQ(module_parameter("tracking_block_minimum_shift"), 16);
	EXPECT_EQ(module_parameter("tracking_block_maximum_count"), 16777216);
	EXPECT_EQ(module_parameter("copy_block_minimum_shift"), 12);
	EXPECT_EQ(module_parameter("copy_block_maximum_count"), 1LL << 34);
	EXPECT_EQ(module_parameter("diff_storage_minimum"), 2097152);
	EXPECT_EQ(module_parameter("copy_memory_maximum"), 64);
}

static void reload(const char *parameters)
{
	if (ctl >= 0)
		close_ctl();
	ASSERT_OK(unload());
	ASSERT_EQ(module_load(parameters), 0);
	ctl_set_up();
}

static void test_tracking_block_size_is_a_parameter(void)
{
	struct blk_snap_cbt_info info;
	struct snapshot snapshot;

	reload("tracking_block_minimum_shift=12");
	snapshot_create(&snapshot, &origin);
	ASSERT(tracker_info(&origin, &info));
	EXPECT_EQ(info.blk_size, 4096);
	EXPECT_EQ(info.blk_count, DISK_MIB * MIB / 4096);
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	reload("tracking_block_minimum_shift=12 tracking_block_maximum_count=1024");
	snapshot_create(&snapshot, &origin);
	ASSERT(tracker_info(&origin, &info));
	EXPECT_EQ(info.blk_size, DISK_MIB * MIB / 1024);
	EXPECT_EQ(info.blk_count, 1024);
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	reload("");
}

static unsigned int count_low_events(const struct snapshot *snapshot)
{
	struct blk_snap_snapshot_event event;
	unsigned int nr = 0;

	while (!next_event(snapshot, 200, &event))
		nr += event.code == blk_snap_event_code_low_free_space;
	return nr;
}

/* The limit is half the minimum: 4 MiB here. */
static void test_low_space_is_told_once_each_time_it_falls(void)
{
	struct snapshot snapshot;

	reload("diff_storage_minimum=16384 diff_storage_ahead=0");
	ASSERT(fill_direct(origin.path, 1, DISK_MIB * MIB, 0));
	snapshot_create(&snapshot, &origin);
	EXPECT_EQ(count_low_events(&snapshot), 1);
	ASSERT_OK(append_range(&snapshot, &storage, 2048, 12 * 2048));
	snapshot_take(&snapshot);
	EXPECT_EQ(count_low_events(&snapshot), 0);
	ASSERT(fill_direct(origin.path, 2, 9 * MIB, 0));
	EXPECT_EQ(count_low_events(&snapshot), 1);
	ASSERT(fill_direct(origin.path, 2, 2 * MIB, 9 * MIB));
	EXPECT_EQ(count_low_events(&snapshot), 0);
	ASSERT_OK(append_range(&snapshot, &storage, 13 * 2048, 8 * 2048));
	ASSERT(fill_direct(origin.path, 2, 5 * MIB, 11 * MIB));
	EXPECT_EQ(count_low_events(&snapshot), 1);
	EXPECT(reads_as(image_of(&snapshot, &origin), 1, DISK_MIB * MIB, 0));
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	reload("");
}

const struct ktap_test parameter_tests[] = {
	KTAP_TEST(test_parameters_have_their_defaults),
	KTAP_TEST(test_wrong_parameters_are_refused),
	KTAP_TEST(test_limits_of_parameters_are_valid),
	KTAP_TEST(test_tracking_block_size_is_a_parameter),
	KTAP_TEST(test_low_space_is_told_once_each_time_it_falls),
	KTAP_END
};
