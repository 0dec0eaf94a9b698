// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of the difference storage
 *
 * There are two disks; the first one has a partition from sector 1000 on.
 */
#include <stdlib.h>
#include <time.h>

#include "diff_storage.h"
#include "test.h"

static struct gendisk disk = { 0 }, other_disk = { 1 };
static struct block_device whole = { 0, &disk };
static struct block_device partition = { 1000, &disk };
static struct block_device elsewhere = { 0, &other_disk };

static unsigned int nr_low_calls;
static u64 nr_asked_for;

static void count_low_call(void *data, u64 nr_sectors)
{
	CU_ASSERT_PTR_EQUAL(data, &nr_low_calls);
	CU_ASSERT_EQUAL(host_nr_locks_held(), 0);
	nr_low_calls++;
	nr_asked_for = nr_sectors;
}

static struct diff_storage *make_storage_ahead(sector_t low_limit, unsigned int ahead_ms)
{
	struct diff_storage *storage;

	storage = diff_storage_create(low_limit, ahead_ms, count_low_call, &nr_low_calls);
	CU_ASSERT_FATAL(!IS_ERR(storage));
	nr_low_calls = 0;
	nr_asked_for = 0;
	return storage;
}

static struct diff_storage *make_storage(sector_t low_limit)
{
	return make_storage_ahead(low_limit, 0);
}

static int append(struct diff_storage *storage, struct block_device *bdev, u64 sector,
		  u64 nr_sectors)
{
	struct diff_range range = { bdev, sector, nr_sectors, false };

	return diff_storage_append(storage, &range, 1);
}

/* A storage that never gets low, with one range. */
static struct diff_storage *make_storage_of(struct block_device *bdev, u64 sector,
					    u64 nr_sectors)
{
	struct diff_storage *storage = make_storage(0);

	CU_ASSERT_EQUAL_FATAL(append(storage, bdev, sector, nr_sectors), 0);
	return storage;
}

static bool overlaps(struct diff_storage *storage, struct block_device *bdev, u64 sector,
		     u64 nr_sectors)
{
	struct diff_range range = { bdev, sector, nr_sectors, false };

	return diff_storage_overlaps(storage, &range);
}

static bool is_region(const struct diff_range *region, struct block_device *bdev,
		      u64 sector, u64 nr_sectors)
{
	return region->bdev == bdev && region->sector == sector &&
	       region->nr_sectors == nr_sectors;
}

/* Take @nr_sectors and expect to get just this. */
static bool alloc_gives(struct diff_storage *storage, u64 nr_sectors, u64 position,
			struct block_device *bdev, u64 sector, u64 nr_expected)
{
	struct diff_range region;
	u64 found;

	return !diff_storage_alloc(storage, nr_sectors, &found, &region) &&
	       found == position && is_region(&region, bdev, sector, nr_expected);
}

static int alloc(struct diff_storage *storage, u64 nr_sectors)
{
	struct diff_range region;
	u64 position;

	return diff_storage_alloc(storage, nr_sectors, &position, &region);
}

static bool map_gives(struct diff_storage *storage, u64 position, u64 nr_sectors,
		      struct block_device *bdev, u64 sector, u64 nr_expected)
{
	struct diff_range region;

	diff_storage_map(storage, position, nr_sectors, &region);
	return is_region(&region, bdev, sector, nr_expected);
}

/* Taking space */

static void test_new_storage_has_no_space(void)
{
	struct diff_storage *storage = make_storage(0);

	CU_ASSERT_EQUAL(diff_storage_capacity(storage), 0);
	CU_ASSERT_EQUAL(diff_storage_free_sectors(storage), 0);
	CU_ASSERT_EQUAL(alloc(storage, 8), -ENOSPC);
	CU_ASSERT(!overlaps(storage, &whole, 0, 100));
	diff_storage_destroy(storage);
}

static void test_create_without_memory_fails(void)
{
	host_fail_alloc_after(0);
	CU_ASSERT_EQUAL(PTR_ERR(diff_storage_create(0, 0, count_low_call, NULL)), -ENOMEM);
}

static void test_regions_follow_each_other(void)
{
	struct diff_storage *storage = make_storage_of(&whole, 100, 64);

	CU_ASSERT(alloc_gives(storage, 8, 0, &whole, 100, 8));
	CU_ASSERT(alloc_gives(storage, 16, 8, &whole, 108, 16));
	CU_ASSERT(alloc_gives(storage, 8, 24, &whole, 124, 8));
	diff_storage_destroy(storage);
}

static void test_regions_are_rounded_up(void)
{
	struct diff_storage *storage = make_storage_of(&whole, 100, 64);

	CU_ASSERT(alloc_gives(storage, 1, 0, &whole, 100, 8));
	CU_ASSERT(alloc_gives(storage, 9, 8, &whole, 108, 16));
	diff_storage_destroy(storage);
}

static void test_region_ends_with_its_range(void)
{
	struct diff_storage *storage = make_storage_of(&whole, 100, 16);

	CU_ASSERT_EQUAL(append(storage, &elsewhere, 7, 32), 0);
	CU_ASSERT(alloc_gives(storage, 24, 0, &whole, 100, 16));
	CU_ASSERT(alloc_gives(storage, U64_MAX, 16, &elsewhere, 7, 32));
	diff_storage_destroy(storage);
}

static void test_space_ends(void)
{
	struct diff_storage *storage = make_storage_of(&whole, 100, 16);

	CU_ASSERT_EQUAL(alloc(storage, 16), 0);
	CU_ASSERT_EQUAL(alloc(storage, 8), -ENOSPC);
	diff_storage_destroy(storage);
}

static void test_space_goes_on_after_an_append(void)
{
	struct diff_storage *storage = make_storage_of(&whole, 100, 16);

	CU_ASSERT_EQUAL(alloc(storage, 16), 0);
	CU_ASSERT_EQUAL(alloc(storage, 8), -ENOSPC);
	CU_ASSERT_EQUAL(append(storage, &elsewhere, 0, 8), 0);
	CU_ASSERT(alloc_gives(storage, 8, 16, &elsewhere, 0, 8));
	diff_storage_destroy(storage);
}

static void test_wanting_nothing_is_a_bug(void)
{
	struct diff_storage *storage = make_storage_of(&whole, 100, 16);

	CU_ASSERT_EQUAL(alloc(storage, 0), -EINVAL);
	CU_ASSERT_EQUAL(host_take_warnings(), 1);
	CU_ASSERT_EQUAL(diff_storage_free_sectors(storage), 16);
	diff_storage_destroy(storage);
}

static void test_unaligned_tail_of_a_range_is_not_used(void)
{
	struct diff_storage *storage = make_storage_of(&whole, 100, 23);

	CU_ASSERT_EQUAL(append(storage, &elsewhere, 0, 8), 0);
	CU_ASSERT_EQUAL(diff_storage_capacity(storage), 24);
	CU_ASSERT(alloc_gives(storage, 100, 0, &whole, 100, 16));
	CU_ASSERT(alloc_gives(storage, 100, 16, &elsewhere, 0, 8));
	diff_storage_destroy(storage);
}

static void test_ranges_too_short_are_passed_over(void)
{
	struct diff_storage *storage = make_storage_of(&whole, 100, 7);

	CU_ASSERT_EQUAL(alloc(storage, 8), -ENOSPC);
	CU_ASSERT_EQUAL(append(storage, &whole, 200, 8), 0);
	CU_ASSERT_EQUAL(append(storage, &whole, 300, 1), 0);
	CU_ASSERT_EQUAL(append(storage, &whole, 400, 7), 0);
	CU_ASSERT_EQUAL(append(storage, &whole, 500, 8), 0);
	CU_ASSERT_EQUAL(append(storage, &whole, 600, 7), 0);
	CU_ASSERT(alloc_gives(storage, 100, 0, &whole, 200, 8));
	CU_ASSERT(alloc_gives(storage, 100, 8, &whole, 500, 8));
	CU_ASSERT_EQUAL(alloc(storage, 8), -ENOSPC);
	CU_ASSERT(map_gives(storage, 8, 8, &whole, 500, 8));
	diff_storage_destroy(storage);
}

static void test_unused_range_is_passed_over(void)
{
	struct diff_range ranges[] = {
		{ &whole, 0, 64, true }, { &whole, 64, 16, false }, { &whole, 80, 800, true },
		{ &whole, 880, 8, false },
	};
	struct diff_storage *storage = make_storage(0);

	CU_ASSERT_EQUAL_FATAL(diff_storage_append(storage, ranges, 4), 0);
	CU_ASSERT_EQUAL(diff_storage_capacity(storage), 24);
	CU_ASSERT(overlaps(storage, &whole, 8, 8));
	CU_ASSERT(alloc_gives(storage, 64, 0, &whole, 64, 16));
	CU_ASSERT(alloc_gives(storage, 64, 16, &whole, 880, 8));
	diff_storage_destroy(storage);
}

static void test_counters_follow(void)
{
	struct diff_storage *storage = make_storage_of(&whole, 100, 64);

	CU_ASSERT_EQUAL(append(storage, &elsewhere, 0, 16), 0);
	CU_ASSERT_EQUAL(alloc(storage, 20), 0);
	CU_ASSERT_EQUAL(diff_storage_capacity(storage), 80);
	CU_ASSERT_EQUAL(diff_storage_free_sectors(storage), 56);
	diff_storage_destroy(storage);
}

/* Finding positions */

static void test_position_keeps_its_place(void)
{
	struct diff_storage *storage = make_storage_of(&partition, 100, 64);
	u64 i;

	CU_ASSERT_EQUAL(alloc(storage, 64), 0);
	for (i = 0; i < 100; i++)
		CU_ASSERT_EQUAL(append(storage, &elsewhere, i * 8, 8), 0);
	CU_ASSERT(map_gives(storage, 0, 64, &partition, 100, 64));
	CU_ASSERT(map_gives(storage, 63, 1, &partition, 163, 1));
	CU_ASSERT(map_gives(storage, 13, 8, &partition, 113, 8));
	diff_storage_destroy(storage);
}

static void test_mapped_place_ends_with_its_range(void)
{
	struct diff_storage *storage = make_storage_of(&whole, 100, 16);

	CU_ASSERT_EQUAL(append(storage, &elsewhere, 7, 16), 0);
	CU_ASSERT_EQUAL(alloc(storage, 16), 0);
	CU_ASSERT_EQUAL(alloc(storage, 16), 0);
	CU_ASSERT(map_gives(storage, 10, 22, &whole, 110, 6));
	CU_ASSERT(map_gives(storage, 16, 16, &elsewhere, 7, 16));
	diff_storage_destroy(storage);
}

static void test_unknown_position_is_a_bug(void)
{
	struct diff_storage *storage = make_storage_of(&whole, 100, 16);

	CU_ASSERT_EQUAL(alloc(storage, 8), 0);
	CU_ASSERT(map_gives(storage, 8, 8, NULL, 0, 0));
	CU_ASSERT_EQUAL(host_take_warnings(), 1);
	diff_storage_destroy(storage);
}

/* Appending */

static void test_appending_nothing_changes_nothing(void)
{
	struct diff_storage *storage = make_storage(0);

	CU_ASSERT_EQUAL(diff_storage_append(storage, NULL, 0), 0);
	CU_ASSERT_EQUAL(diff_storage_capacity(storage), 0);
	diff_storage_destroy(storage);
}

static void test_empty_range_is_refused(void)
{
	struct diff_storage *storage = make_storage(0);

	CU_ASSERT_EQUAL(append(storage, &whole, 100, 0), -EINVAL);
	diff_storage_destroy(storage);
}

static void test_range_that_overflows_is_refused(void)
{
	struct diff_storage *storage = make_storage(0);

	CU_ASSERT_EQUAL(append(storage, &whole, U64_MAX, 8), -EINVAL);
	CU_ASSERT_EQUAL(append(storage, &whole, 8, U64_MAX), -EINVAL);
	CU_ASSERT_EQUAL(append(storage, &partition, U64_MAX - 500, 8), -EINVAL);
	CU_ASSERT_EQUAL(diff_storage_capacity(storage), 0);
	diff_storage_destroy(storage);
}

static void test_capacity_that_overflows_is_refused(void)
{
	struct diff_storage *storage = make_storage_of(&whole, 0, DIFF_STORAGE_MAX_SECTORS - 8);

	CU_ASSERT_EQUAL(append(storage, &elsewhere, 0, 16), -EINVAL);
	CU_ASSERT_EQUAL(append(storage, &elsewhere, 0, U64_MAX), -EINVAL);
	CU_ASSERT_EQUAL(diff_storage_capacity(storage), DIFF_STORAGE_MAX_SECTORS - 8);
	CU_ASSERT(!overlaps(storage, &elsewhere, 0, 16));
	CU_ASSERT_EQUAL(append(storage, &elsewhere, 0, 8), 0);
	diff_storage_destroy(storage);
}

static void test_range_of_the_storage_is_refused(void)
{
	struct diff_storage *storage = make_storage_of(&whole, 1100, 16);

	CU_ASSERT_EQUAL(append(storage, &whole, 1115, 16), -EINVAL);
	CU_ASSERT_EQUAL(append(storage, &partition, 90, 11), -EINVAL);
	CU_ASSERT_EQUAL(append(storage, &partition, 90, 10), 0);
	CU_ASSERT_EQUAL(append(storage, &elsewhere, 1100, 16), 0);
	diff_storage_destroy(storage);
}

static void test_ranges_that_overlap_each_other_are_refused(void)
{
	struct diff_range ranges[] = {
		{ &whole, 5000, 16, false }, { &partition, 0, 16, false },
		{ &elsewhere, 1000, 16, false }, { &whole, 1015, 16, false }
	};
	struct diff_storage *storage = make_storage(0);

	CU_ASSERT_EQUAL(diff_storage_append(storage, ranges, 4), -EINVAL);
	CU_ASSERT_EQUAL(diff_storage_append(storage, ranges, 3), 0);
	diff_storage_destroy(storage);
}

static void test_append_is_all_or_nothing(void)
{
	struct diff_range ranges[] = {
		{ &whole, 0, 16, false }, { &whole, 200, 16, false }, { &whole, 100, 16, false }
	};
	struct diff_storage *storage = make_storage_of(&whole, 110, 16);
	unsigned int cursor = 1;

	CU_ASSERT_EQUAL(diff_storage_append(storage, ranges, 3), -EINVAL);
	CU_ASSERT_EQUAL(diff_storage_capacity(storage), 16);
	CU_ASSERT(!overlaps(storage, &whole, 0, 110));
	CU_ASSERT(!overlaps(storage, &whole, 126, 1000));
	CU_ASSERT(!diff_storage_next_on_disk(storage, &disk, &cursor, &ranges[0]));
	diff_storage_destroy(storage);
}

static void test_append_without_memory_changes_nothing(void)
{
	struct diff_storage *storage = make_storage(0);
	long i;

	for (i = 0; i < 2; i++) {
		host_fail_alloc_after(i);
		CU_ASSERT_EQUAL(append(storage, &whole, 100, 16), -ENOMEM);
		CU_ASSERT_EQUAL(diff_storage_capacity(storage), 0);
		CU_ASSERT(!overlaps(storage, &whole, 100, 16));
	}
	host_fail_no_alloc();
	CU_ASSERT_EQUAL(append(storage, &whole, 100, 16), 0);
	diff_storage_destroy(storage);
}

static void test_many_appends_seldom_grow_the_array(void)
{
	struct diff_storage *storage = make_storage(0);
	unsigned long nr_allocs = host_nr_allocs();
	u64 i;

	for (i = 0; i < 1024; i++)
		CU_ASSERT_EQUAL(append(storage, &whole, i * 16, 8), 0);
	/* 1024 batches, and arrays of 16, 32 ... 1024 entries */
	CU_ASSERT_EQUAL(host_nr_allocs(), nr_allocs + 1024 + 7);
	diff_storage_destroy(storage);
}

/* Overlaps */

static void test_overlap_is_found_at_both_ends(void)
{
	struct diff_storage *storage = make_storage_of(&whole, 100, 16);

	CU_ASSERT(overlaps(storage, &whole, 100, 16));
	CU_ASSERT(overlaps(storage, &whole, 99, 2));
	CU_ASSERT(overlaps(storage, &whole, 115, 1));
	CU_ASSERT(overlaps(storage, &whole, 0, 1000));
	CU_ASSERT(!overlaps(storage, &whole, 0, 100));
	CU_ASSERT(!overlaps(storage, &whole, 116, 100));
	diff_storage_destroy(storage);
}

static void test_partition_overlaps_its_disk(void)
{
	struct diff_storage *storage = make_storage_of(&partition, 100, 16);

	CU_ASSERT(overlaps(storage, &whole, 1100, 1));
	CU_ASSERT(!overlaps(storage, &whole, 100, 16));
	diff_storage_destroy(storage);
}

static void test_disk_overlaps_its_partition(void)
{
	struct diff_storage *storage = make_storage_of(&whole, 1100, 16);

	CU_ASSERT(overlaps(storage, &partition, 115, 1));
	CU_ASSERT(!overlaps(storage, &partition, 116, 1));
	CU_ASSERT(!overlaps(storage, &partition, 1100, 16));
	diff_storage_destroy(storage);
}

static void test_disks_do_not_overlap(void)
{
	struct diff_storage *storage = make_storage_of(&whole, 100, 16);

	CU_ASSERT(!overlaps(storage, &elsewhere, 100, 16));
	diff_storage_destroy(storage);
}

static void test_sectors_never_used_overlap_too(void)
{
	struct diff_storage *storage = make_storage_of(&whole, 100, 15);

	CU_ASSERT_EQUAL(append(storage, &whole, 200, 3), 0);
	CU_ASSERT(overlaps(storage, &whole, 114, 1));
	CU_ASSERT(overlaps(storage, &whole, 202, 1));
	diff_storage_destroy(storage);
}

static void test_ranges_of_a_disk_are_found_as_appended(void)
{
	struct diff_storage *storage = make_storage_of(&whole, 5000, 15);
	unsigned int cursor = 0;
	struct diff_range range;

	CU_ASSERT_EQUAL(append(storage, &elsewhere, 0, 16), 0);
	CU_ASSERT_EQUAL(append(storage, &partition, 0, 3), 0);
	CU_ASSERT(diff_storage_next_on_disk(storage, &disk, &cursor, &range));
	CU_ASSERT(is_region(&range, &whole, 5000, 15));
	CU_ASSERT(diff_storage_next_on_disk(storage, &disk, &cursor, &range));
	CU_ASSERT(is_region(&range, &partition, 0, 3));
	CU_ASSERT(!diff_storage_next_on_disk(storage, &disk, &cursor, &range));
	diff_storage_destroy(storage);
}

static void test_cursor_finds_what_is_appended_later(void)
{
	struct diff_storage *storage = make_storage_of(&whole, 0, 16);
	unsigned int cursor = 0;
	struct diff_range range;

	CU_ASSERT(diff_storage_next_on_disk(storage, &disk, &cursor, &range));
	CU_ASSERT(!diff_storage_next_on_disk(storage, &disk, &cursor, &range));
	CU_ASSERT_EQUAL(append(storage, &whole, 100, 16), 0);
	CU_ASSERT(diff_storage_next_on_disk(storage, &disk, &cursor, &range));
	CU_ASSERT(is_region(&range, &whole, 100, 16));
	diff_storage_destroy(storage);
}

/* Low space */

static void test_low_space_is_reported_at_the_limit(void)
{
	struct diff_storage *storage = make_storage(32);

	CU_ASSERT_EQUAL(append(storage, &whole, 0, 64), 0);
	CU_ASSERT_EQUAL(alloc(storage, 24), 0);
	CU_ASSERT_EQUAL(nr_low_calls, 0);
	CU_ASSERT_EQUAL(alloc(storage, 8), 0);
	CU_ASSERT_EQUAL(nr_low_calls, 1);
	diff_storage_destroy(storage);
}

static void test_low_space_is_reported_once(void)
{
	struct diff_storage *storage = make_storage(32);

	CU_ASSERT_EQUAL(append(storage, &whole, 0, 64), 0);
	CU_ASSERT_EQUAL(alloc(storage, 40), 0);
	CU_ASSERT_EQUAL(alloc(storage, 8), 0);
	CU_ASSERT_EQUAL(alloc(storage, 16), 0);
	CU_ASSERT_EQUAL(alloc(storage, 8), -ENOSPC);
	CU_ASSERT_EQUAL(nr_low_calls, 1);
	diff_storage_destroy(storage);
}

static void test_low_space_is_armed_again_above_the_limit(void)
{
	struct diff_storage *storage = make_storage(32);

	CU_ASSERT_EQUAL(append(storage, &whole, 0, 64), 0);
	CU_ASSERT_EQUAL(alloc(storage, 40), 0);
	CU_ASSERT_EQUAL(append(storage, &whole, 100, 16), 0);
	CU_ASSERT_EQUAL(alloc(storage, 8), 0);
	CU_ASSERT_EQUAL(nr_low_calls, 2);
	diff_storage_destroy(storage);
}

static void test_low_space_is_not_armed_at_the_limit(void)
{
	struct diff_storage *storage = make_storage(32);

	CU_ASSERT_EQUAL(append(storage, &whole, 0, 64), 0);
	CU_ASSERT_EQUAL(alloc(storage, 40), 0);
	CU_ASSERT_EQUAL(append(storage, &whole, 100, 8), 0);
	CU_ASSERT_EQUAL(alloc(storage, 8), 0);
	CU_ASSERT_EQUAL(nr_low_calls, 1);
	diff_storage_destroy(storage);
}

static void test_append_alone_reports_nothing(void)
{
	struct diff_storage *storage = make_storage(32);

	CU_ASSERT_EQUAL(append(storage, &whole, 0, 8), 0);
	CU_ASSERT_EQUAL(nr_low_calls, 0);
	diff_storage_destroy(storage);
}

/* Take as many sectors in each jiffy, until the storage is low or time is up. */
static void fill(struct diff_storage *storage, u64 per_jiffy, unsigned int nr_jiffies)
{
	const unsigned int nr_before = nr_low_calls;

	while (nr_jiffies-- && nr_low_calls == nr_before) {
		jiffies++;
		CU_ASSERT_EQUAL_FATAL(alloc(storage, per_jiffy), 0);
	}
}

static struct diff_storage *make_large_storage(unsigned int ahead_ms)
{
	struct diff_storage *storage = make_storage_ahead(800, ahead_ms);

	CU_ASSERT_EQUAL_FATAL(append(storage, &whole, 0, 100000), 0);
	return storage;
}

static void test_fast_filling_is_reported_early(void)
{
	struct diff_storage *storage = make_large_storage(1000);
	const u64 a_second = 80 * HZ;

	fill(storage, 80, 100000 / 80 - HZ - 1);
	CU_ASSERT_EQUAL(nr_low_calls, 0);
	fill(storage, 80, 1);
	CU_ASSERT_EQUAL(nr_low_calls, 1);
	CU_ASSERT_EQUAL(diff_storage_free_sectors(storage), a_second);
	CU_ASSERT_EQUAL(nr_asked_for, 2 * a_second);
	/* With that it is not low for as long again. */
	CU_ASSERT_EQUAL(append(storage, &elsewhere, 0, nr_asked_for), 0);
	fill(storage, 80, 2 * HZ - 1);
	CU_ASSERT_EQUAL(nr_low_calls, 1);
	fill(storage, 80, 1);
	CU_ASSERT_EQUAL(nr_low_calls, 2);
	diff_storage_destroy(storage);
}

static void test_slow_filling_is_reported_at_the_limit(void)
{
	struct diff_storage *storage = make_large_storage(20);

	fill(storage, 80, 100000 / 80);
	CU_ASSERT_EQUAL(nr_low_calls, 1);
	CU_ASSERT_EQUAL(diff_storage_free_sectors(storage), 800);
	CU_ASSERT_EQUAL(nr_asked_for, 2 * 800);
	diff_storage_destroy(storage);
}

/* Nobody knows how long it goes on like this. */
static void test_burst_is_reported_early(void)
{
	struct diff_storage *storage = make_large_storage(1000);

	CU_ASSERT_EQUAL(alloc(storage, 16000), 0);
	CU_ASSERT_EQUAL(nr_low_calls, 0);
	CU_ASSERT_EQUAL(alloc(storage, 8000), 0);
	CU_ASSERT_EQUAL(nr_low_calls, 1);
	CU_ASSERT(nr_asked_for >= 8 * 24000);
	diff_storage_destroy(storage);
}

static void test_fast_filling_is_forgotten(void)
{
	struct diff_storage *storage = make_large_storage(1000);

	fill(storage, 80, HZ);
	fill(storage, 8, HZ);
	CU_ASSERT_EQUAL(nr_low_calls, 0);
	fill(storage, 8, 100000 / 8);
	CU_ASSERT_EQUAL(nr_low_calls, 1);
	CU_ASSERT_EQUAL(diff_storage_free_sectors(storage), 8 * HZ);
	diff_storage_destroy(storage);
}

static void test_fill_rate_is_the_present_one(void)
{
	struct diff_storage *storage = make_large_storage(0);

	CU_ASSERT_EQUAL(diff_storage_fill_rate(storage), 0);
	fill(storage, 16, HZ);
	CU_ASSERT_EQUAL(diff_storage_fill_rate(storage), 16 * HZ);
	fill(storage, 80, HZ);
	CU_ASSERT_EQUAL(diff_storage_fill_rate(storage), 80 * HZ);
	diff_storage_destroy(storage);
}

/* Once in four seconds, which is less than a sector in a jiffy. */
static void test_slow_filling_has_a_rate(void)
{
	struct diff_storage *storage = make_large_storage(0);
	unsigned int i;

	for (i = 0; i < 4; i++) {
		jiffies += 4 * HZ - 1;
		fill(storage, 80, 1);
	}
	CU_ASSERT_EQUAL(diff_storage_fill_rate(storage), 80 / 4);
	jiffies += 2 * HZ;
	CU_ASSERT_EQUAL(diff_storage_fill_rate(storage), 80 / 6);
	diff_storage_destroy(storage);
}

static void test_fill_rate_sinks_when_nothing_is_taken(void)
{
	struct diff_storage *storage = make_large_storage(0);

	/* As if it had taken a period. */
	CU_ASSERT_EQUAL(alloc(storage, 800), 0);
	CU_ASSERT_EQUAL(diff_storage_fill_rate(storage), 800 * HZ / (HZ / 4));
	jiffies += HZ;
	CU_ASSERT_EQUAL(diff_storage_fill_rate(storage), 800);
	jiffies += 9 * HZ;
	CU_ASSERT_EQUAL(diff_storage_fill_rate(storage), 80);
	diff_storage_destroy(storage);
}

static void test_append_of_too_little_is_reported_again(void)
{
	struct diff_storage *storage = make_large_storage(1000);

	fill(storage, 80, 100000 / 80);
	CU_ASSERT_EQUAL(nr_low_calls, 1);
	CU_ASSERT_EQUAL(append(storage, &elsewhere, 0, 8), 0);
	fill(storage, 80, 1);
	CU_ASSERT_EQUAL(nr_low_calls, 2);
	diff_storage_destroy(storage);
}

/* Size */

#define NR_MANY 100000U

static struct diff_storage *make_storage_of_many(void)
{
	struct diff_range *ranges = calloc(NR_MANY, sizeof(*ranges));
	struct diff_storage *storage = make_storage(0);
	u64 i;

	for (i = 0; i < NR_MANY; i++)
		ranges[i] = (struct diff_range) { &whole, (NR_MANY - i) * 100, 12, false };
	CU_ASSERT_EQUAL_FATAL(diff_storage_append(storage, ranges, NR_MANY), 0);
	free(ranges);
	return storage;
}

static void test_each_of_many_ranges_is_used(void)
{
	struct diff_storage *storage = make_storage_of_many();
	u64 i;

	for (i = 0; i < NR_MANY; i++)
		CU_ASSERT_FATAL(alloc_gives(storage, 100, i * 8, &whole,
					    (NR_MANY - i) * 100, 8));
	CU_ASSERT_EQUAL(alloc(storage, 8), -ENOSPC);
	for (i = 0; i < NR_MANY * 8; i++)
		CU_ASSERT_FATAL(map_gives(storage, i, 1, &whole,
					  (NR_MANY - i / 8) * 100 + i % 8, 1));
	diff_storage_destroy(storage);
}

static void test_each_of_many_ranges_overlaps(void)
{
	struct diff_storage *storage = make_storage_of_many();
	u64 i;

	for (i = 1; i <= NR_MANY; i++) {
		CU_ASSERT_FATAL(overlaps(storage, &whole, i * 100 + 11, 1));
		CU_ASSERT_FATAL(!overlaps(storage, &whole, i * 100 + 12, 88));
	}
	diff_storage_destroy(storage);
}

static void test_appending_many_ranges_gives_way(void)
{
	struct diff_storage *storage = make_storage_of_many();

	CU_ASSERT(host_nr_times_yielded() >= NR_MANY);
	diff_storage_destroy(storage);
}

/*
 * What a step costs may grow with the logarithm of the number of ranges.  The
 * limit is far from that, but if each step walks along a list it is exceeded.
 */
static void test_many_ranges_cost_little_time(void)
{
	struct diff_storage *storage = make_storage_of_many();
	clock_t limit = clock() + 10 * CLOCKS_PER_SEC;
	struct test_random random = test_random_start();
	unsigned int i;

	while (!alloc(storage, 8) && clock() < limit)
		;
	for (i = 0; i < 500000 && clock() < limit; i++) {
		u64 number = test_random_below(&random, NR_MANY);

		CU_ASSERT_FATAL(overlaps(storage, &whole, (NR_MANY - number) * 100, 1));
		CU_ASSERT_FATAL(map_gives(storage, number * 8, 1, &whole,
					  (NR_MANY - number) * 100, 1));
	}
	CU_ASSERT(clock() < limit);
	diff_storage_destroy(storage);
}

/* Appends go on while other threads take space and look positions up. */

#define NR_APPENDS 40000

struct taker {
	pthread_t thread;
	struct diff_storage *storage;
	const bool *is_complete;
	bool is_wrong;
};

/* In a thread, where nothing may be asserted. */
static void ignore_low_call(void *data, u64 nr_sectors)
{
	(void)data;
	(void)nr_sectors;
}

static void *take_and_map(void *data)
{
	struct taker *taker = data;
	struct diff_range region, mapped;
	bool was_complete;
	u64 position;

	do {
		was_complete = READ_ONCE(*taker->is_complete);
		while (!diff_storage_alloc(taker->storage, 8, &position, &region)) {
			diff_storage_map(taker->storage, position, 8, &mapped);
			/* There are gaps as large as the ranges. */
			taker->is_wrong |= !is_region(&region, &whole, position * 2, 8) ||
					   !is_region(&mapped, &whole, position * 2, 8);
		}
	} while (!was_complete);
	return NULL;
}

static void test_append_does_not_disturb_users(void)
{
	struct diff_storage *storage = diff_storage_create(0, 1000, ignore_low_call, NULL);
	struct taker takers[2];
	bool is_complete = false;
	u64 i;

	for (i = 0; i < ARRAY_SIZE(takers); i++) {
		takers[i] = (struct taker) { 0, storage, &is_complete, false };
		pthread_create(&takers[i].thread, NULL, take_and_map, &takers[i]);
	}
	for (i = 0; i < NR_APPENDS; i++)
		CU_ASSERT_EQUAL(append(storage, &whole, i * 16, 8), 0);
	WRITE_ONCE(is_complete, true);
	for (i = 0; i < ARRAY_SIZE(takers); i++) {
		pthread_join(takers[i].thread, NULL);
		CU_ASSERT(!takers[i].is_wrong);
	}
	CU_ASSERT_EQUAL(diff_storage_capacity(storage), NR_APPENDS * 8);
	CU_ASSERT_EQUAL(diff_storage_free_sectors(storage), 0);
	diff_storage_destroy(storage);
}

/*
 * The model: which sectors of the disks are storage, and the place of every
 * position
 */

#define MODEL_SECTORS 4096U
#define MODEL_LOW_LIMIT 64
#define NR_MODEL_RANGES 4

static struct gendisk model_disks[2];
static struct block_device model_bdevs[] = {
	{ 0, &model_disks[0] },
	{ 512, &model_disks[0] },
	{ 2048, &model_disks[0] },
	{ 0, &model_disks[1] },
	{ 1000, &model_disks[1] },
};

struct model {
	bool is_storage[2][MODEL_SECTORS];
	struct diff_range places[2 * MODEL_SECTORS];	/* of one sector each */
	unsigned int range_numbers[2 * MODEL_SECTORS];	/* whose place it is */
	u64 capacity;
	u64 nr_used;
	unsigned int nr_ranges[2];	/* per disk */
	unsigned int nr_low_calls;
	bool is_low;
};

static bool *model_sectors(struct model *model, const struct diff_range *range)
{
	return model->is_storage[range->bdev->bd_disk - model_disks] +
	       range->bdev->bd_start_sect + range->sector;
}

static bool model_overlaps(struct model *model, const struct diff_range *range)
{
	u64 i;

	for (i = 0; i < range->nr_sectors; i++) {
		if (model_sectors(model, range)[i])
			return true;
	}
	return false;
}

static struct diff_range random_range(struct test_random *random)
{
	struct diff_range range;

	range.bdev = &model_bdevs[test_random_below(random, ARRAY_SIZE(model_bdevs))];
	range.sector = test_random_below(random, MODEL_SECTORS - range.bdev->bd_start_sect);
	range.nr_sectors = test_random_below(random, 40);
	range.nr_sectors = min(range.nr_sectors,
			       MODEL_SECTORS - range.bdev->bd_start_sect - range.sector);
	range.is_unused = !test_random_below(random, 4);
	return range;
}

static void model_add_range(struct model *model, const struct diff_range *range)
{
	u64 i;

	memset(model_sectors(model, range), true, range->nr_sectors);
	model->nr_ranges[range->bdev->bd_disk - model_disks]++;
	for (i = 0; !range->is_unused && i < range->nr_sectors / 8 * 8; i++) {
		model->range_numbers[model->capacity] = model->nr_ranges[0] +
							model->nr_ranges[1];
		model->places[model->capacity++] = (struct diff_range) {
			range->bdev, range->sector + i, 1, false
		};
	}
}

static void model_append(struct test_random *random, struct model *model,
			 struct diff_storage *storage)
{
	unsigned int nr_ranges = test_random_below(random, NR_MODEL_RANGES + 1);
	unsigned long failed = host_nr_failed_allocs();
	struct diff_range ranges[NR_MODEL_RANGES];
	struct model *after = malloc(sizeof(*after));
	bool is_valid = true;
	unsigned int i;
	int expected, ret;

	*after = *model;
	for (i = 0; i < nr_ranges; i++) {
		ranges[i] = random_range(random);
		is_valid &= ranges[i].nr_sectors && !model_overlaps(after, &ranges[i]);
		if (is_valid)
			model_add_range(after, &ranges[i]);
	}
	ret = diff_storage_append(storage, ranges, nr_ranges);
	expected = is_valid ? 0 : -EINVAL;
	if (host_nr_failed_allocs() > failed)
		expected = -ENOMEM;
	CU_ASSERT_EQUAL_FATAL(ret, expected);
	if (!ret) {
		*model = *after;
		model->is_low &= model->capacity - model->nr_used <= MODEL_LOW_LIMIT;
	}
	free(after);
}

/* @nr_wanted sectors, or what is left of the range at @position. */
static void model_check_region(const struct model *model, u64 position, u64 nr_wanted,
			       const struct diff_range *region)
{
	const struct diff_range *first = &model->places[position];
	u64 nr_expected = 1;

	while (nr_expected < nr_wanted && position + nr_expected < model->capacity &&
	       model->range_numbers[position + nr_expected] == model->range_numbers[position])
		nr_expected++;
	CU_ASSERT_FATAL(is_region(region, first->bdev, first->sector, nr_expected));
}

static void model_alloc(struct test_random *random, struct model *model,
			struct diff_storage *storage)
{
	u64 nr_sectors = 1 + test_random_below(random, 40);
	struct diff_range region;
	u64 position;
	int ret;

	ret = diff_storage_alloc(storage, nr_sectors, &position, &region);
	CU_ASSERT_EQUAL_FATAL(ret, model->nr_used < model->capacity ? 0 : -ENOSPC);
	if (!ret) {
		CU_ASSERT_EQUAL_FATAL(position, model->nr_used);
		CU_ASSERT_EQUAL_FATAL(region.nr_sectors % 8, 0);
		model_check_region(model, position, (nr_sectors + 7) / 8 * 8, &region);
		model->nr_used += region.nr_sectors;
	}
	if (!model->is_low && model->capacity - model->nr_used <= MODEL_LOW_LIMIT) {
		model->is_low = true;
		model->nr_low_calls++;
	}
}

static void model_look(struct test_random *random, struct model *model,
		       struct diff_storage *storage)
{
	struct diff_range range = random_range(random);
	unsigned int cursor = 0;
	unsigned int nr_found = 0;
	u64 nr_sectors = 1 + test_random_below(random, 40);

	if (range.nr_sectors)
		CU_ASSERT_EQUAL_FATAL(diff_storage_overlaps(storage, &range),
				      model_overlaps(model, &range));
	if (model->nr_used) {
		u64 position = test_random_below(random, model->nr_used);

		diff_storage_map(storage, position, nr_sectors, &range);
		model_check_region(model, position, nr_sectors, &range);
	}
	while (diff_storage_next_on_disk(storage, &model_disks[0], &cursor, &range))
		nr_found++;
	CU_ASSERT_EQUAL_FATAL(nr_found, model->nr_ranges[0]);
	CU_ASSERT_EQUAL_FATAL(diff_storage_capacity(storage), model->capacity);
	CU_ASSERT_EQUAL_FATAL(diff_storage_free_sectors(storage),
			      model->capacity - model->nr_used);
	CU_ASSERT_EQUAL_FATAL(nr_low_calls, model->nr_low_calls);
}

static void run_model(unsigned int nr_bad_allocs)
{
	struct test_random random = test_random_start();
	struct model *model = malloc(sizeof(*model));
	unsigned int storages, i;

	for (storages = 0; storages < 40; storages++) {
		struct diff_storage *storage = make_storage(MODEL_LOW_LIMIT);

		memset(model, 0, sizeof(*model));
		host_fail_allocs_randomly(nr_bad_allocs, test_random(&random));
		for (i = 0; i < 600; i++) {
			if (test_chance(&random, 30))
				model_append(&random, model, storage);
			else
				model_alloc(&random, model, storage);
			model_look(&random, model, storage);
		}
		host_fail_no_alloc();
		diff_storage_destroy(storage);
	}
	free(model);
}

static void test_random_operations_match_an_array(void)
{
	run_model(0);
}

static void test_random_operations_match_with_little_memory(void)
{
	run_model(200);
}

CU_TestInfo diff_storage_tests[] = {
	TEST(test_new_storage_has_no_space),
	TEST(test_create_without_memory_fails),
	TEST(test_regions_follow_each_other),
	TEST(test_regions_are_rounded_up),
	TEST(test_region_ends_with_its_range),
	TEST(test_space_ends),
	TEST(test_space_goes_on_after_an_append),
	TEST(test_wanting_nothing_is_a_bug),
	TEST(test_unaligned_tail_of_a_range_is_not_used),
	TEST(test_ranges_too_short_are_passed_over),
	TEST(test_unused_range_is_passed_over),
	TEST(test_counters_follow),
	TEST(test_position_keeps_its_place),
	TEST(test_mapped_place_ends_with_its_range),
	TEST(test_unknown_position_is_a_bug),
	TEST(test_appending_nothing_changes_nothing),
	TEST(test_empty_range_is_refused),
	TEST(test_range_that_overflows_is_refused),
	TEST(test_capacity_that_overflows_is_refused),
	TEST(test_range_of_the_storage_is_refused),
	TEST(test_ranges_that_overlap_each_other_are_refused),
	TEST(test_append_is_all_or_nothing),
	TEST(test_append_without_memory_changes_nothing),
	TEST(test_many_appends_seldom_grow_the_array),
	TEST(test_overlap_is_found_at_both_ends),
	TEST(test_partition_overlaps_its_disk),
	TEST(test_disk_overlaps_its_partition),
	TEST(test_disks_do_not_overlap),
	TEST(test_sectors_never_used_overlap_too),
	TEST(test_ranges_of_a_disk_are_found_as_appended),
	TEST(test_cursor_finds_what_is_appended_later),
	TEST(test_low_space_is_reported_at_the_limit),
	TEST(test_low_space_is_reported_once),
	TEST(test_low_space_is_armed_again_above_the_limit),
	TEST(test_low_space_is_not_armed_at_the_limit),
	TEST(test_fast_filling_is_reported_early),
	TEST(test_slow_filling_is_reported_at_the_limit),
	TEST(test_burst_is_reported_early),
	TEST(test_fast_filling_is_forgotten),
	TEST(test_fill_rate_is_the_present_one),
	TEST(test_slow_filling_has_a_rate),
	TEST(test_fill_rate_sinks_when_nothing_is_taken),
	TEST(test_append_of_too_little_is_reported_again),
	TEST(test_append_alone_reports_nothing),
	TEST(test_each_of_many_ranges_is_used),
	TEST(test_each_of_many_ranges_overlaps),
	TEST(test_appending_many_ranges_gives_way),
	TEST(test_many_ranges_cost_little_time),
	TEST(test_append_does_not_disturb_users),
	TEST(test_random_operations_match_an_array),
	TEST(test_random_operations_match_with_little_memory),
	TEST_END
};
