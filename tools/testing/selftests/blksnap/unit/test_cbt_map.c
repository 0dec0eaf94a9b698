// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of the change map
 *
 * Most of them use a device of a little more than three pages of tracking
 * blocks, the last of which is not whole.
 */
#include <stdlib.h>

#include "cbt_map.h"
#include "test.h"

#define BLOCK_SHIFT 12
#define BLOCK_SECTORS 8ULL
#define NR_BLOCKS (3 * 4096 + 100)
#define NR_SECTORS (NR_BLOCKS * BLOCK_SECTORS - 3)

static struct cbt_map *make_map(void)
{
	struct cbt_map *map = cbt_map_create(NR_SECTORS, BLOCK_SHIFT, 1 << 20,
					     CBT_TRACKED);

	CU_ASSERT_FATAL(!IS_ERR(map));
	return map;
}

/* As for a write, where nobody may sleep. */
static void mark_block(struct cbt_map *map, u32 block)
{
	host_forbid_sleep(true);
	cbt_map_mark(map, block * BLOCK_SECTORS, BLOCK_SECTORS);
	host_forbid_sleep(false);
}

/* As in the filter's callback: no memory can be had there. */
static bool mark_nowait(struct cbt_map *map, u64 sector, u64 nr_sectors)
{
	unsigned long nr_allocs = host_nr_allocs();
	bool is_marked = cbt_map_mark_nowait(map, sector, nr_sectors);

	CU_ASSERT_EQUAL(host_nr_allocs(), nr_allocs);
	return is_marked;
}

static bool mark_short(struct cbt_map *map, u64 sector, u64 nr_sectors)
{
	unsigned long nr_allocs = host_nr_allocs();
	bool is_marked = cbt_map_mark_short(map, sector, nr_sectors);

	CU_ASSERT_EQUAL(host_nr_allocs(), nr_allocs);
	return is_marked;
}

static int mark_block_in_both(struct cbt_map *map, u32 block)
{
	return cbt_map_mark_both(map, block * BLOCK_SECTORS, BLOCK_SECTORS);
}

static void take(struct cbt_map *map)
{
	cbt_map_switch(map);
	cbt_map_reap(map);
}

static void lose_mark(struct cbt_map *map)
{
	host_fail_alloc_after(0);
	mark_block(map, 0);
	host_fail_no_alloc();
}

static u8 frozen(struct cbt_map *map, u32 block)
{
	u32 nr_bytes = 1;
	const u8 *byte = cbt_map_frozen_bytes(map, block, &nr_bytes);

	CU_ASSERT_EQUAL_FATAL(nr_bytes, 1);
	return *byte;
}

static u32 nr_frozen_blocks_marked(struct cbt_map *map)
{
	u32 nr_marked = 0;
	u32 block;

	for (block = 0; block < NR_BLOCKS; block++)
		nr_marked += frozen(map, block) != 0;
	return nr_marked;
}

static u8 snap_number(struct cbt_map *map)
{
	struct cbt_map_info info;

	cbt_map_info(map, &info);
	return info.snap_number;
}

static uuid_t generation(struct cbt_map *map)
{
	struct cbt_map_info info;

	cbt_map_info(map, &info);
	return info.generation;
}

static bool has_generation(struct cbt_map *map, uuid_t expected)
{
	uuid_t found = generation(map);

	return uuid_equal(&found, &expected);
}

/* Geometry */

struct geometry {
	u64 nr_sectors;
	unsigned int min_shift;
	u32 max_nr_blocks;
	u32 block_bytes;
	u32 nr_blocks;
};

static void check_geometry(const struct geometry *geometry)
{
	struct cbt_map *map = cbt_map_create(geometry->nr_sectors, geometry->min_shift,
					     geometry->max_nr_blocks, CBT_TRACKED);
	struct cbt_map_info info;

	CU_ASSERT_FATAL(!IS_ERR(map));
	cbt_map_info(map, &info);
	CU_ASSERT_EQUAL(info.nr_sectors, geometry->nr_sectors);
	CU_ASSERT_EQUAL(cbt_map_nr_sectors(map), geometry->nr_sectors);
	CU_ASSERT_EQUAL(info.block_bytes, geometry->block_bytes);
	CU_ASSERT_EQUAL(info.nr_blocks, geometry->nr_blocks);
	cbt_map_destroy(map);
}

static void test_blocks_have_the_minimum_size_if_they_may(void)
{
	check_geometry(&(struct geometry) { 1024 * 128, 16, 1024, 65536, 1024 });
}

static void test_blocks_grow_to_keep_the_maximum_number(void)
{
	check_geometry(&(struct geometry) { 1024 * 128 + 1, 16, 1024, 131072, 513 });
	check_geometry(&(struct geometry) { 1ULL << 42, 16, 1 << 20, 1U << 31, 1 << 20 });
}

static void test_last_block_may_be_short(void)
{
	check_geometry(&(struct geometry) { 1, 12, 1024, 4096, 1 });
	check_geometry(&(struct geometry) { 9, 12, 1024, 4096, 2 });
}

static void test_device_may_be_empty(void)
{
	struct cbt_map *map = cbt_map_create(0, 16, 1024, CBT_TRACKED);
	u32 nr_bytes = 1;

	CU_ASSERT_FATAL(!IS_ERR(map));
	cbt_map_mark(map, 0, 1);
	CU_ASSERT_EQUAL(cbt_map_mark_both(map, 0, 1), 0);
	take(map);
	cbt_map_frozen_bytes(map, 0, &nr_bytes);
	CU_ASSERT_EQUAL(nr_bytes, 0);
	cbt_map_destroy(map);
}

static void test_too_large_device_is_refused(void)
{
	CU_ASSERT_EQUAL(PTR_ERR(cbt_map_create((1ULL << 42) + 1, 16, 1 << 20, CBT_TRACKED)),
			-EOPNOTSUPP);
	CU_ASSERT_EQUAL(PTR_ERR(cbt_map_create(U64_MAX, 12, 1024, CBT_TRACKED)), -EOPNOTSUPP);
}

static void test_create_without_memory_leaves_nothing(void)
{
	long i;

	for (i = 0; i < 3; i++) {
		host_fail_alloc_after(i);
		CU_ASSERT_EQUAL(PTR_ERR(cbt_map_create(NR_SECTORS, 12, 1 << 20, CBT_TRACKED)),
				-ENOMEM);
	}
}

/* Marks */

static void test_new_map_has_no_frozen_map(void)
{
	struct cbt_map *map = make_map();

	CU_ASSERT_EQUAL(snap_number(map), 0);
	mark_block(map, 1);
	CU_ASSERT_EQUAL(nr_frozen_blocks_marked(map), 0);
	cbt_map_destroy(map);
}

static void test_mark_is_read_after_the_take(void)
{
	struct cbt_map *map = make_map();

	mark_block(map, 5000);
	take(map);
	CU_ASSERT_EQUAL(snap_number(map), 1);
	CU_ASSERT_EQUAL(frozen(map, 5000), 1);
	CU_ASSERT_EQUAL(nr_frozen_blocks_marked(map), 1);
	cbt_map_destroy(map);
}

static void test_change_of_one_sector_marks_its_block(void)
{
	struct cbt_map *map = make_map();

	cbt_map_mark(map, 7 * BLOCK_SECTORS + 7, 1);
	take(map);
	CU_ASSERT_EQUAL(frozen(map, 7), 1);
	CU_ASSERT_EQUAL(nr_frozen_blocks_marked(map), 1);
	cbt_map_destroy(map);
}

static void test_change_marks_every_block_it_touches(void)
{
	struct cbt_map *map = make_map();

	cbt_map_mark(map, 7 * BLOCK_SECTORS + 7, 10);
	take(map);
	CU_ASSERT_EQUAL(frozen(map, 7), 1);
	CU_ASSERT_EQUAL(frozen(map, 8), 1);
	CU_ASSERT_EQUAL(frozen(map, 9), 1);
	CU_ASSERT_EQUAL(nr_frozen_blocks_marked(map), 3);
	cbt_map_destroy(map);
}

static void test_change_may_span_pages_of_the_map(void)
{
	struct cbt_map *map = make_map();

	cbt_map_mark(map, 4095 * BLOCK_SECTORS, 4098 * BLOCK_SECTORS);
	take(map);
	CU_ASSERT_EQUAL(frozen(map, 4095), 1);
	CU_ASSERT_EQUAL(frozen(map, 4096), 1);
	CU_ASSERT_EQUAL(frozen(map, 8192), 1);
	CU_ASSERT_EQUAL(nr_frozen_blocks_marked(map), 4098);
	cbt_map_destroy(map);
}

static void test_change_beyond_the_device_is_ignored(void)
{
	struct cbt_map *map = make_map();

	cbt_map_mark(map, NR_SECTORS, 8);
	cbt_map_mark(map, U64_MAX, U64_MAX);
	CU_ASSERT_EQUAL(cbt_map_mark_both(map, NR_SECTORS, 8), 0);
	take(map);
	CU_ASSERT_EQUAL(nr_frozen_blocks_marked(map), 0);
	cbt_map_destroy(map);
}

/* Also what is in the part of the last block that the device does not have. */
static void test_change_just_beyond_the_device_is_ignored(void)
{
	struct cbt_map *map = make_map();

	/* So that the page of the last block may be written. */
	mark_block(map, NR_BLOCKS - 2);
	cbt_map_mark(map, NR_SECTORS, 1);
	cbt_map_mark(map, NR_SECTORS + 2, 1);
	CU_ASSERT(!mark_short(map, NR_SECTORS, 1));
	take(map);
	CU_ASSERT_EQUAL(frozen(map, NR_BLOCKS - 1), 0);
	CU_ASSERT_EQUAL(nr_frozen_blocks_marked(map), 1);
	cbt_map_destroy(map);
}

static void test_change_is_clipped_at_the_end_of_the_device(void)
{
	struct cbt_map *map = make_map();

	cbt_map_mark(map, NR_SECTORS - 1, U64_MAX);
	take(map);
	CU_ASSERT_EQUAL(frozen(map, NR_BLOCKS - 1), 1);
	CU_ASSERT_EQUAL(nr_frozen_blocks_marked(map), 1);
	cbt_map_destroy(map);
}

/* What begins in a block that is marked is not yet marked to its end. */
static void test_change_from_a_marked_block_is_marked_to_its_end(void)
{
	struct cbt_map *map = make_map();

	mark_block(map, 9000);
	cbt_map_mark(map, 9000 * BLOCK_SECTORS + 7, 2);
	mark_block(map, NR_BLOCKS - 5);
	/* The sum of both is in the first block again. */
	cbt_map_mark(map, (NR_BLOCKS - 5) * BLOCK_SECTORS + 2, U64_MAX);
	take(map);
	CU_ASSERT_EQUAL(frozen(map, 9001), 1);
	CU_ASSERT_EQUAL(frozen(map, NR_BLOCKS - 1), 1);
	CU_ASSERT_EQUAL(nr_frozen_blocks_marked(map), 2 + 5);
	cbt_map_destroy(map);
}

static void test_empty_change_marks_nothing(void)
{
	struct cbt_map *map = make_map();

	cbt_map_mark(map, 8, 0);
	CU_ASSERT_EQUAL(cbt_map_mark_both(map, 8, 0), 0);
	take(map);
	CU_ASSERT_EQUAL(nr_frozen_blocks_marked(map), 0);
	cbt_map_destroy(map);
}

static void test_number_grows_with_each_take(void)
{
	struct cbt_map *map = make_map();
	uuid_t first = generation(map);
	unsigned int i;

	for (i = 1; i <= 5; i++) {
		mark_block(map, i);
		take(map);
		CU_ASSERT_EQUAL(snap_number(map), i);
		CU_ASSERT(has_generation(map, first));
	}
	for (i = 1; i <= 5; i++)
		CU_ASSERT_EQUAL(frozen(map, i), i);
	cbt_map_destroy(map);
}

static void test_later_change_takes_the_later_number(void)
{
	struct cbt_map *map = make_map();

	mark_block(map, 3);
	take(map);
	mark_block(map, 3);
	CU_ASSERT_EQUAL(frozen(map, 3), 1);
	take(map);
	CU_ASSERT_EQUAL(frozen(map, 3), 2);
	cbt_map_destroy(map);
}

static void test_frozen_map_does_not_see_later_changes(void)
{
	struct cbt_map *map = make_map();

	mark_block(map, 1);
	take(map);
	mark_block(map, 2);	/* on a page that is shared */
	mark_block(map, 9000);	/* on one that both maps miss */
	CU_ASSERT_EQUAL(nr_frozen_blocks_marked(map), 1);
	take(map);
	CU_ASSERT_EQUAL(nr_frozen_blocks_marked(map), 3);
	cbt_map_destroy(map);
}

/* Marks without waiting */

static void test_mark_nowait_fails_on_a_missing_page(void)
{
	struct cbt_map *map = make_map();

	CU_ASSERT(!mark_nowait(map, 0, 1));
	CU_ASSERT(!mark_nowait(map, 0, NR_SECTORS));
	mark_block(map, 4095);
	/* The page of its first block is there, the next one is not. */
	CU_ASSERT(!mark_nowait(map, 4095 * BLOCK_SECTORS, 2 * BLOCK_SECTORS));
	cbt_map_destroy(map);
}

static void test_mark_nowait_fails_on_a_shared_page(void)
{
	struct cbt_map *map = make_map();

	mark_block(map, 1);
	take(map);
	CU_ASSERT(!mark_nowait(map, BLOCK_SECTORS, 1));
	CU_ASSERT(!mark_nowait(map, 0, 5 * BLOCK_SECTORS));
	CU_ASSERT_EQUAL(frozen(map, 1), 1);
	CU_ASSERT_EQUAL(nr_frozen_blocks_marked(map), 1);
	mark_block(map, 2);
	CU_ASSERT(mark_nowait(map, BLOCK_SECTORS, 1));
	cbt_map_destroy(map);
}

static void test_mark_nowait_marks_what_its_pages_hold(void)
{
	struct cbt_map *map = make_map();

	mark_block(map, 0);
	mark_block(map, 4096);
	CU_ASSERT(mark_nowait(map, 4090 * BLOCK_SECTORS + 7, 9 * BLOCK_SECTORS));
	CU_ASSERT(mark_nowait(map, 5000 * BLOCK_SECTORS, 1));
	take(map);
	CU_ASSERT_EQUAL(frozen(map, 4090), 1);
	CU_ASSERT_EQUAL(frozen(map, 4099), 1);
	CU_ASSERT_EQUAL(frozen(map, 5000), 1);
	/* Ten blocks, and two single ones. */
	CU_ASSERT_EQUAL(nr_frozen_blocks_marked(map), 10 + 2);
	cbt_map_destroy(map);
}

static void test_mark_nowait_beyond_the_device_is_done(void)
{
	struct cbt_map *map = make_map();

	CU_ASSERT(mark_nowait(map, NR_SECTORS, 8));
	CU_ASSERT(mark_nowait(map, U64_MAX, U64_MAX));
	CU_ASSERT(mark_nowait(map, 8, 0));
	take(map);
	CU_ASSERT_EQUAL(nr_frozen_blocks_marked(map), 0);
	cbt_map_destroy(map);
}

static void test_mark_nowait_is_clipped_at_the_end_of_the_device(void)
{
	struct cbt_map *map = make_map();

	CU_ASSERT(!mark_nowait(map, NR_SECTORS - 1, U64_MAX));
	mark_block(map, NR_BLOCKS - 2);
	CU_ASSERT(mark_nowait(map, NR_SECTORS - 1, U64_MAX));
	take(map);
	CU_ASSERT_EQUAL(frozen(map, NR_BLOCKS - 1), 1);
	CU_ASSERT_EQUAL(nr_frozen_blocks_marked(map), 2);
	cbt_map_destroy(map);
}

static void test_mark_nowait_in_a_lost_generation_is_done(void)
{
	struct cbt_map *map = make_map();

	lose_mark(map);
	CU_ASSERT(mark_nowait(map, 0, 1));
	CU_ASSERT(mark_nowait(map, 0, NR_SECTORS));
	take(map);
	CU_ASSERT(!mark_nowait(map, 0, 1));
	cbt_map_destroy(map);
}

static void test_mark_short_fails_on_a_missing_and_on_a_shared_page(void)
{
	struct cbt_map *map = make_map();

	CU_ASSERT(!mark_short(map, 0, 1));
	mark_block(map, 1);
	take(map);
	CU_ASSERT(!mark_short(map, BLOCK_SECTORS, 1));
	CU_ASSERT_EQUAL(frozen(map, 1), 1);
	cbt_map_destroy(map);
}

static void test_mark_short_marks_one_block(void)
{
	struct cbt_map *map = make_map();

	mark_block(map, 0);
	CU_ASSERT(mark_short(map, 7 * BLOCK_SECTORS, BLOCK_SECTORS));
	CU_ASSERT(mark_short(map, 9 * BLOCK_SECTORS + 7, 1));
	/* Again, over a mark that is set. */
	CU_ASSERT(mark_short(map, 9 * BLOCK_SECTORS, 1));
	take(map);
	CU_ASSERT_EQUAL(frozen(map, 7), 1);
	CU_ASSERT_EQUAL(frozen(map, 9), 1);
	CU_ASSERT_EQUAL(nr_frozen_blocks_marked(map), 3);
	cbt_map_destroy(map);
}

static void test_mark_short_leaves_other_changes_alone(void)
{
	struct cbt_map *map = make_map();

	cbt_map_mark(map, 0, 2 * BLOCK_SECTORS);
	mark_block(map, NR_BLOCKS - 1);
	CU_ASSERT(!mark_short(map, 7, 2));			/* two blocks */
	CU_ASSERT(!mark_short(map, 8, U64_MAX));
	CU_ASSERT(!mark_short(map, 8, 0));
	CU_ASSERT(!mark_short(map, NR_BLOCKS * BLOCK_SECTORS, 1));
	CU_ASSERT(!mark_short(map, U64_MAX, 1));
	take(map);
	CU_ASSERT_EQUAL(nr_frozen_blocks_marked(map), 3);
	cbt_map_destroy(map);
}

/* Sharing of pages */

static void test_marking_again_needs_no_memory(void)
{
	struct cbt_map *map = make_map();
	unsigned long nr_allocs;

	mark_block(map, 1);
	nr_allocs = host_nr_allocs();
	mark_block(map, 1);
	mark_block(map, 2);
	CU_ASSERT_EQUAL(host_nr_allocs(), nr_allocs);
	cbt_map_destroy(map);
}

static void test_first_mark_after_a_take_copies_one_page(void)
{
	struct cbt_map *map = make_map();
	long nr_objects;

	cbt_map_mark(map, 0, NR_SECTORS);
	take(map);
	nr_objects = host_nr_objects();
	mark_block(map, 1);
	mark_block(map, 2);
	CU_ASSERT_EQUAL(host_nr_objects(), nr_objects + 1);
	cbt_map_destroy(map);
}

static void test_switch_neither_allocates_nor_frees(void)
{
	struct cbt_map *map = make_map();
	unsigned long nr_allocs;
	long nr_objects;
	unsigned int i;

	for (i = 0; i < 300; i++) {
		cbt_map_mark(map, 0, NR_SECTORS);
		nr_allocs = host_nr_allocs();
		nr_objects = host_nr_objects();
		cbt_map_switch(map);
		CU_ASSERT_EQUAL(host_nr_allocs(), nr_allocs);
		CU_ASSERT_EQUAL(host_nr_objects(), nr_objects);
	}
	cbt_map_destroy(map);
}

static void test_reap_frees_what_only_the_old_frozen_map_had(void)
{
	struct cbt_map *map = make_map();
	long nr_objects;

	cbt_map_mark(map, 0, NR_SECTORS);
	take(map);
	mark_block(map, 1);
	nr_objects = host_nr_objects();
	take(map);
	CU_ASSERT_EQUAL(host_nr_objects(), nr_objects - 1);
	cbt_map_destroy(map);
}

static void test_map_may_be_destroyed_unreaped(void)
{
	struct cbt_map *map = make_map();

	mark_block(map, 1);
	cbt_map_switch(map);
	mark_block(map, 1);
	cbt_map_switch(map);
	mark_block(map, 1);
	cbt_map_destroy(map);	/* the leak check follows every test */
}

/* Marks in both maps */

static void test_mark_in_both_before_the_first_take_is_a_mark(void)
{
	struct cbt_map *map = make_map();
	long nr_objects = host_nr_objects();

	CU_ASSERT_EQUAL(mark_block_in_both(map, 1), 0);
	CU_ASSERT_EQUAL(host_nr_objects(), nr_objects + 1);
	CU_ASSERT_EQUAL(frozen(map, 1), 0);
	CU_ASSERT_EQUAL(snap_number(map), 0);
	take(map);
	CU_ASSERT_EQUAL(frozen(map, 1), 1);
	cbt_map_destroy(map);
}

static void test_mark_in_both_has_the_last_number_in_the_frozen_map(void)
{
	struct cbt_map *map = make_map();

	mark_block(map, 1);
	take(map);
	take(map);
	CU_ASSERT_EQUAL(mark_block_in_both(map, 1), 0);
	CU_ASSERT_EQUAL(frozen(map, 1), 2);
	cbt_map_destroy(map);
}

static void test_mark_in_both_has_the_current_number_in_the_active_map(void)
{
	struct cbt_map *map = make_map();

	take(map);
	CU_ASSERT_EQUAL(mark_block_in_both(map, 1), 0);
	take(map);
	CU_ASSERT_EQUAL(frozen(map, 1), 2);
	cbt_map_destroy(map);
}

static void test_mark_in_both_leaves_other_blocks_alone(void)
{
	struct cbt_map *map = make_map();

	mark_block(map, 1);
	take(map);
	CU_ASSERT_EQUAL(mark_block_in_both(map, 2), 0);
	CU_ASSERT_EQUAL(frozen(map, 1), 1);
	CU_ASSERT_EQUAL(nr_frozen_blocks_marked(map), 2);
	take(map);
	CU_ASSERT_EQUAL(frozen(map, 1), 1);
	CU_ASSERT_EQUAL(nr_frozen_blocks_marked(map), 2);
	cbt_map_destroy(map);
}

static void test_mark_in_both_finds_the_page_unshared_already(void)
{
	struct cbt_map *map = make_map();

	mark_block(map, 1);
	take(map);
	mark_block(map, 2);
	CU_ASSERT_EQUAL(mark_block_in_both(map, 3), 0);
	CU_ASSERT_EQUAL(frozen(map, 1), 1);
	CU_ASSERT_EQUAL(frozen(map, 2), 0);
	CU_ASSERT_EQUAL(frozen(map, 3), 1);
	cbt_map_destroy(map);
}

static void test_mark_in_both_makes_a_page_that_only_the_frozen_map_misses(void)
{
	struct cbt_map *map = make_map();

	take(map);
	mark_block(map, 2);
	CU_ASSERT_EQUAL(mark_block_in_both(map, 3), 0);
	CU_ASSERT_EQUAL(frozen(map, 2), 0);
	CU_ASSERT_EQUAL(frozen(map, 3), 1);
	cbt_map_destroy(map);
}

static void test_mark_in_both_may_span_pages_of_the_map(void)
{
	struct cbt_map *map = make_map();

	take(map);
	CU_ASSERT_EQUAL(cbt_map_mark_both(map, 0, U64_MAX), 0);
	CU_ASSERT_EQUAL(nr_frozen_blocks_marked(map), NR_BLOCKS);
	CU_ASSERT_EQUAL(frozen(map, NR_BLOCKS - 1), 1);
	cbt_map_destroy(map);
}

/* Ends of generations */

static void test_lost_mark_leaves_the_frozen_map_as_it_is(void)
{
	struct cbt_map *map = make_map();
	uuid_t old = generation(map);

	mark_block(map, 1);
	take(map);
	lose_mark(map);
	CU_ASSERT_EQUAL(snap_number(map), 1);
	CU_ASSERT(has_generation(map, old));
	CU_ASSERT_EQUAL(frozen(map, 1), 1);
	cbt_map_destroy(map);
}

static void test_take_after_a_lost_mark_starts_a_generation(void)
{
	struct cbt_map *map = make_map();
	uuid_t old = generation(map);

	mark_block(map, 1);
	take(map);
	take(map);
	lose_mark(map);
	take(map);
	CU_ASSERT_EQUAL(snap_number(map), 1);
	CU_ASSERT(!has_generation(map, old));
	CU_ASSERT_EQUAL(nr_frozen_blocks_marked(map), 0);
	cbt_map_destroy(map);
}

static void test_mark_lost_before_the_first_take_counts_too(void)
{
	struct cbt_map *map = make_map();
	uuid_t old = generation(map);

	lose_mark(map);
	take(map);
	CU_ASSERT_EQUAL(snap_number(map), 1);
	CU_ASSERT(!has_generation(map, old));
	cbt_map_destroy(map);
}

static void test_new_generation_goes_on_as_the_first_did(void)
{
	struct cbt_map *map = make_map();
	uuid_t second;

	lose_mark(map);
	take(map);
	second = generation(map);
	mark_block(map, 4);
	take(map);
	CU_ASSERT(has_generation(map, second));
	CU_ASSERT_EQUAL(snap_number(map), 2);
	CU_ASSERT_EQUAL(frozen(map, 4), 2);
	CU_ASSERT_EQUAL(nr_frozen_blocks_marked(map), 1);
	cbt_map_destroy(map);
}

static void test_lost_mark_costs_no_more_memory(void)
{
	struct cbt_map *map = make_map();
	unsigned long nr_allocs;

	lose_mark(map);
	nr_allocs = host_nr_allocs();
	cbt_map_mark(map, 0, NR_SECTORS);
	CU_ASSERT_EQUAL(host_nr_allocs(), nr_allocs);
	cbt_map_destroy(map);
}

/* Lose a mark in both maps at its first, second ... allocation. */
static struct cbt_map *make_map_and_lose_both(long nr_good, uuid_t *old)
{
	struct cbt_map *map = make_map();

	take(map);
	*old = generation(map);
	host_fail_alloc_after(nr_good);
	CU_ASSERT_EQUAL(mark_block_in_both(map, 1), -ENOMEM);
	host_fail_no_alloc();
	return map;
}

static void test_mark_lost_in_both_ends_the_generation_at_once(void)
{
	struct cbt_map *map;
	uuid_t old;
	long i;

	/* 0: no page for the active map, 1: none for the frozen map */
	for (i = 0; i < 2; i++) {
		map = make_map_and_lose_both(i, &old);
		CU_ASSERT_EQUAL(snap_number(map), 0);
		CU_ASSERT(!has_generation(map, old));
		cbt_map_destroy(map);
	}
}

static void test_interim_generation_ends_with_the_next_take(void)
{
	struct cbt_map *map;
	uuid_t old, interim;
	long i;

	for (i = 0; i < 2; i++) {
		map = make_map_and_lose_both(i, &old);
		interim = generation(map);
		CU_ASSERT(has_generation(map, interim));
		take(map);
		CU_ASSERT_EQUAL(snap_number(map), 1);
		CU_ASSERT(!has_generation(map, interim));
		CU_ASSERT(!has_generation(map, old));
		CU_ASSERT_EQUAL(nr_frozen_blocks_marked(map), 0);
		cbt_map_destroy(map);
	}
}

static void test_two_interim_generations_differ(void)
{
	struct cbt_map *map;
	uuid_t old, interim;

	map = make_map_and_lose_both(1, &old);
	interim = generation(map);
	take(map);
	host_fail_alloc_after(0);
	CU_ASSERT_EQUAL(mark_block_in_both(map, 1), -ENOMEM);
	CU_ASSERT_EQUAL(snap_number(map), 0);
	CU_ASSERT(!has_generation(map, interim));
	cbt_map_destroy(map);
}

static void test_mark_in_both_still_reaches_the_frozen_map_after_a_lost_mark(void)
{
	struct cbt_map *map = make_map();

	take(map);
	lose_mark(map);
	CU_ASSERT_EQUAL(mark_block_in_both(map, 1), 0);
	CU_ASSERT_EQUAL(frozen(map, 1), 1);
	CU_ASSERT_EQUAL(snap_number(map), 1);
	cbt_map_destroy(map);
}

static void test_lost_change_ends_the_generation_at_once(void)
{
	struct cbt_map *map = make_map();
	uuid_t old, interim;

	take(map);
	old = generation(map);
	cbt_map_lose(map, CBT_LATE_WRITE);
	interim = generation(map);
	CU_ASSERT_EQUAL(snap_number(map), 0);
	CU_ASSERT(!has_generation(map, old));
	/* Losing more changes nothing. */
	cbt_map_lose(map, CBT_LATE_WRITE);
	CU_ASSERT_EQUAL(snap_number(map), 0);
	CU_ASSERT(has_generation(map, interim));
	cbt_map_destroy(map);
}

static void test_take_after_a_lost_change_starts_a_generation(void)
{
	struct cbt_map *map = make_map();
	uuid_t old = generation(map), interim;

	mark_block(map, 1);
	take(map);
	cbt_map_lose(map, CBT_LATE_WRITE);
	interim = generation(map);
	take(map);
	CU_ASSERT_EQUAL(snap_number(map), 1);
	CU_ASSERT(!has_generation(map, old));
	CU_ASSERT(!has_generation(map, interim));
	CU_ASSERT_EQUAL(nr_frozen_blocks_marked(map), 0);
	mark_block(map, 4);
	take(map);
	CU_ASSERT_EQUAL(snap_number(map), 2);
	CU_ASSERT_EQUAL(frozen(map, 4), 2);
	cbt_map_destroy(map);
}

static void test_change_lost_before_the_first_take_counts_too(void)
{
	struct cbt_map *map = make_map();
	uuid_t old = generation(map);

	cbt_map_lose(map, CBT_LATE_WRITE);
	CU_ASSERT_EQUAL(snap_number(map), 0);
	take(map);
	CU_ASSERT_EQUAL(snap_number(map), 1);
	CU_ASSERT(!has_generation(map, old));
	cbt_map_destroy(map);
}

static struct cbt_map *make_map_taken_255_times(void)
{
	struct cbt_map *map = make_map();
	unsigned int i;

	for (i = 1; i <= 255; i++) {
		mark_block(map, i);
		take(map);
	}
	return map;
}

static void test_generation_has_255_snapshots(void)
{
	struct cbt_map *map = make_map();
	uuid_t first = generation(map);
	unsigned int i;

	for (i = 1; i <= 255; i++) {
		take(map);
		CU_ASSERT_EQUAL(snap_number(map), i);
		CU_ASSERT(has_generation(map, first));
	}
	cbt_map_destroy(map);
}

static void test_take_after_255_starts_a_generation(void)
{
	struct cbt_map *map = make_map_taken_255_times();
	uuid_t old = generation(map);

	CU_ASSERT_EQUAL(frozen(map, 255), 255);
	mark_block(map, 300);
	take(map);
	CU_ASSERT_EQUAL(snap_number(map), 1);
	CU_ASSERT(!has_generation(map, old));
	CU_ASSERT_EQUAL(nr_frozen_blocks_marked(map), 0);
	mark_block(map, 300);
	take(map);
	CU_ASSERT_EQUAL(frozen(map, 300), 2);
	cbt_map_destroy(map);
}

static void test_snapshot_255_is_read_as_any_other(void)
{
	struct cbt_map *map = make_map_taken_255_times();

	mark_block(map, 1);
	CU_ASSERT_EQUAL(mark_block_in_both(map, 2), 0);
	CU_ASSERT_EQUAL(frozen(map, 1), 1);
	CU_ASSERT_EQUAL(frozen(map, 2), 255);
	CU_ASSERT_EQUAL(frozen(map, 3), 3);
	CU_ASSERT_EQUAL(nr_frozen_blocks_marked(map), 255);
	cbt_map_destroy(map);
}

/* Why generations begin and end */

static struct cbt_map_info info_of(struct cbt_map *map)
{
	struct cbt_map_info info;

	cbt_map_info(map, &info);
	return info;
}

static void test_map_says_why_it_began(void)
{
	struct cbt_map *map = cbt_map_create(NR_SECTORS, BLOCK_SHIFT, 1 << 20, CBT_RESIZED);

	CU_ASSERT_FATAL(!IS_ERR(map));
	CU_ASSERT_EQUAL(info_of(map).began, CBT_RESIZED);
	CU_ASSERT_EQUAL(info_of(map).ends, CBT_GOES_ON);
	CU_ASSERT(!cbt_map_switch(map));
	CU_ASSERT_EQUAL(info_of(map).began, CBT_RESIZED);
	cbt_map_destroy(map);
}

static void test_lost_mark_is_why_the_next_generation_began(void)
{
	struct cbt_map *map = make_map();

	lose_mark(map);
	CU_ASSERT_EQUAL(info_of(map).began, CBT_TRACKED);
	CU_ASSERT_EQUAL(info_of(map).ends, CBT_NO_MEMORY);
	CU_ASSERT(cbt_map_switch(map));
	CU_ASSERT_EQUAL(info_of(map).began, CBT_NO_MEMORY);
	CU_ASSERT_EQUAL(info_of(map).ends, CBT_GOES_ON);
	CU_ASSERT(!cbt_map_switch(map));
	cbt_map_destroy(map);
}

static void test_lost_change_is_why_the_interim_generation_began(void)
{
	struct cbt_map *map = make_map();

	cbt_map_lose(map, CBT_REPLACED);
	CU_ASSERT_EQUAL(info_of(map).began, CBT_REPLACED);
	CU_ASSERT(cbt_map_switch(map));
	CU_ASSERT_EQUAL(info_of(map).began, CBT_REPLACED);
	cbt_map_destroy(map);
}

static void test_map_says_that_numbers_are_used_up(void)
{
	struct cbt_map *map = make_map_taken_255_times();

	CU_ASSERT_EQUAL(info_of(map).ends, CBT_WRAPPED);
	CU_ASSERT_EQUAL(info_of(map).began, CBT_TRACKED);
	CU_ASSERT(cbt_map_switch(map));
	CU_ASSERT_EQUAL(info_of(map).began, CBT_WRAPPED);
	cbt_map_destroy(map);
}

/* What a map holds */

static struct cbt_map_usage usage_of(struct cbt_map *map)
{
	struct cbt_map_usage usage = { 0 };
	unsigned long nr_pages = 0;

	while (cbt_map_add_usage(map, nr_pages, &usage))
		nr_pages++;
	CU_ASSERT_EQUAL(nr_pages, 4);
	return usage;
}

#define TABLES_BYTES (2 * 4 * sizeof(void *))

static void test_changed_blocks_are_those_since_the_take(void)
{
	struct cbt_map *map = make_map();

	CU_ASSERT_EQUAL(usage_of(map).nr_changed, 0);
	cbt_map_mark(map, 0, 5 * BLOCK_SECTORS);
	mark_block(map, 2);
	mark_block(map, NR_BLOCKS - 1);
	CU_ASSERT_EQUAL(usage_of(map).nr_changed, 6);
	take(map);
	CU_ASSERT_EQUAL(usage_of(map).nr_changed, 0);
	mark_block(map, 7);
	mark_block_in_both(map, 9);
	CU_ASSERT_EQUAL(usage_of(map).nr_changed, 2);
	cbt_map_destroy(map);
}

static void test_memory_is_that_of_pages_and_tables(void)
{
	struct cbt_map *map = make_map();

	CU_ASSERT_EQUAL(usage_of(map).memory_bytes, TABLES_BYTES);
	mark_block(map, 1);
	mark_block(map, 5000);
	CU_ASSERT_EQUAL(usage_of(map).memory_bytes, TABLES_BYTES + 2 * PAGE_SIZE);
	/* Shared by both maps, until one is marked again. */
	take(map);
	CU_ASSERT_EQUAL(usage_of(map).memory_bytes, TABLES_BYTES + 2 * PAGE_SIZE);
	mark_block(map, 1);
	CU_ASSERT_EQUAL(usage_of(map).memory_bytes, TABLES_BYTES + 3 * PAGE_SIZE);
	cbt_map_destroy(map);
}

/* Reading */

static void test_info_describes_the_device(void)
{
	struct cbt_map *map = make_map();
	struct cbt_map_info info, zeroed;

	memset(&info, 0xff, sizeof(info));
	memset(&zeroed, 0, sizeof(zeroed));
	cbt_map_info(map, &info);
	zeroed.nr_sectors = NR_SECTORS;
	zeroed.block_bytes = 4096;
	zeroed.nr_blocks = NR_BLOCKS;
	zeroed.began = CBT_TRACKED;
	zeroed.generation = info.generation;
	CU_ASSERT(!memcmp(&info, &zeroed, sizeof(info)));
	cbt_map_destroy(map);
}

static u32 nr_contiguous(struct cbt_map *map, u32 offset, u32 nr_wanted)
{
	cbt_map_frozen_bytes(map, offset, &nr_wanted);
	return nr_wanted;
}

static void test_frozen_bytes_end_with_their_page(void)
{
	struct cbt_map *map = make_map();

	CU_ASSERT_EQUAL(nr_contiguous(map, 0, 100), 100);
	CU_ASSERT_EQUAL(nr_contiguous(map, 0, 5000), 4096);
	CU_ASSERT_EQUAL(nr_contiguous(map, 4000, 5000), 96);
	CU_ASSERT_EQUAL(nr_contiguous(map, 4096, 0), 0);
	cbt_map_destroy(map);
}

static void test_frozen_bytes_end_with_the_map(void)
{
	struct cbt_map *map = make_map();

	CU_ASSERT_EQUAL(nr_contiguous(map, NR_BLOCKS - 1, 5000), 1);
	CU_ASSERT_EQUAL(nr_contiguous(map, NR_BLOCKS - 100, UINT32_MAX), 100);
	CU_ASSERT_EQUAL(nr_contiguous(map, NR_BLOCKS, 1), 0);
	CU_ASSERT_EQUAL(nr_contiguous(map, UINT32_MAX, UINT32_MAX), 0);
	cbt_map_destroy(map);
}

static void test_frozen_bytes_of_a_missing_page_are_zeros(void)
{
	struct cbt_map *map = make_map();
	u32 nr_bytes = 4096;
	const u8 *bytes = cbt_map_frozen_bytes(map, 4096, &nr_bytes);
	unsigned int nr_marked = 0;
	u32 i;

	CU_ASSERT_EQUAL(nr_bytes, 4096);
	for (i = 0; i < nr_bytes; i++)
		nr_marked += bytes[i] != 0;
	CU_ASSERT_EQUAL(nr_marked, 0);
	cbt_map_destroy(map);
}

/* Markers at the same time */

#define NR_MARKERS 4
#define NR_ROUNDS 20
#define NR_MARKS 3000

struct marker {
	pthread_t thread;
	struct cbt_map *map;
	struct test_random random;
	bool marks_both;
	u8 was_marked[NR_BLOCKS];
};

static void *mark_many(void *data)
{
	struct marker *marker = data;
	unsigned int i;

	memset(marker->was_marked, 0, sizeof(marker->was_marked));
	for (i = 0; i < NR_MARKS; i++) {
		u32 block = test_random_below(&marker->random, NR_BLOCKS);

		if (!marker->marks_both)
			mark_block(marker->map, block);
		else if (mark_block_in_both(marker->map, block))
			return marker;
		marker->was_marked[block] = 1;
	}
	return NULL;
}

/* One round: all threads mark, and what they marked is entered in the model. */
static void mark_in_threads(struct marker *markers, u8 *active, u8 *frozen, u8 number)
{
	unsigned int i, block;
	void *failed;

	for (i = 0; i < NR_MARKERS; i++)
		pthread_create(&markers[i].thread, NULL, mark_many, &markers[i]);
	for (i = 0; i < NR_MARKERS; i++) {
		pthread_join(markers[i].thread, &failed);
		CU_ASSERT_PTR_NULL(failed);
		for (block = 0; block < NR_BLOCKS; block++) {
			if (!markers[i].was_marked[block])
				continue;
			active[block] = number;
			if (markers[i].marks_both)
				frozen[block] = number - 1;
		}
	}
}

static bool frozen_matches(struct cbt_map *map, const u8 *model)
{
	u32 offset = 0;
	u32 nr_bytes;

	for (; offset < NR_BLOCKS; offset += nr_bytes) {
		const u8 *bytes;

		nr_bytes = NR_BLOCKS - offset;
		bytes = cbt_map_frozen_bytes(map, offset, &nr_bytes);
		if (memcmp(bytes, model + offset, nr_bytes))
			return false;
	}
	return true;
}

static void test_threads_lose_no_mark(void)
{
	static struct marker markers[NR_MARKERS];
	static u8 active_model[NR_BLOCKS], frozen_model[NR_BLOCKS];
	struct test_random random = test_random_start();
	struct cbt_map *map = make_map();
	unsigned int i, round;

	memset(active_model, 0, sizeof(active_model));
	memset(frozen_model, 0, sizeof(frozen_model));
	for (i = 0; i < NR_MARKERS; i++) {
		markers[i].map = map;
		markers[i].random.state = test_random(&random);
		markers[i].marks_both = i >= 2;
	}
	for (round = 1; round <= NR_ROUNDS; round++) {
		mark_in_threads(markers, active_model, frozen_model, round);
		CU_ASSERT_FATAL(frozen_matches(map, frozen_model));
		memcpy(frozen_model, active_model, sizeof(frozen_model));
		take(map);
		CU_ASSERT_FATAL(frozen_matches(map, frozen_model));
	}
	cbt_map_destroy(map);
}

/* The model: two flat arrays, and a list of all generations seen */

#define NR_MODEL_OPS 30000

struct model {
	u8 active[NR_BLOCKS];
	u8 frozen[NR_BLOCKS];
	unsigned int number;
	unsigned int snap_number;
	bool is_active_lost;
	bool is_frozen_lost;
	uuid_t generation;
	uuid_t seen[NR_MODEL_OPS];
	unsigned int nr_seen;
};

static void model_expect_new_generation(struct model *model, struct cbt_map *map)
{
	unsigned int i;

	model->generation = generation(map);
	for (i = 0; i < model->nr_seen; i++)
		CU_ASSERT_FATAL(!uuid_equal(&model->seen[i], &model->generation));
	model->seen[model->nr_seen++] = model->generation;
}

static void model_mark_bytes(u8 *bytes, u64 sector, u64 nr_sectors, u8 number)
{
	for (; nr_sectors && sector < NR_SECTORS; sector++, nr_sectors--)
		bytes[sector / BLOCK_SECTORS] = number;
}

static void model_mark(struct model *model, struct cbt_map *map, u64 sector, u64 nr_sectors)
{
	unsigned long failed = host_nr_failed_allocs();

	cbt_map_mark(map, sector, nr_sectors);
	model_mark_bytes(model->active, sector, nr_sectors, model->number);
	if (host_nr_failed_allocs() != failed)
		model->is_active_lost = true;
}

/* What the filter does, first as for a short write; each step may be the last. */
static void model_mark_as_filter(struct model *model, struct cbt_map *map, u64 sector,
				 u64 nr_sectors)
{
	if (!mark_short(map, sector, nr_sectors) && !mark_nowait(map, sector, nr_sectors))
		model_mark(model, map, sector, nr_sectors);
	else
		model_mark_bytes(model->active, sector, nr_sectors, model->number);
}

static void model_lose(struct model *model, struct cbt_map *map)
{
	cbt_map_lose(map, CBT_LATE_WRITE);
	if (!model->is_frozen_lost)
		model_expect_new_generation(model, map);
	model->is_active_lost = true;
	model->is_frozen_lost = true;
}

static void model_mark_both(struct model *model, struct cbt_map *map, u64 sector,
			    u64 nr_sectors)
{
	unsigned long failed = host_nr_failed_allocs();
	int ret = cbt_map_mark_both(map, sector, nr_sectors);

	CU_ASSERT_EQUAL_FATAL(ret, host_nr_failed_allocs() != failed ? -ENOMEM : 0);
	model_mark_bytes(model->active, sector, nr_sectors, model->number);
	model_mark_bytes(model->frozen, sector, nr_sectors, model->snap_number);
	if (!ret)
		return;
	if (!model->is_frozen_lost)
		model_expect_new_generation(model, map);
	model->is_active_lost = true;
	model->is_frozen_lost = true;
}

static void model_take(struct model *model, struct cbt_map *map)
{
	bool ends = model->is_active_lost || model->snap_number == 255;

	cbt_map_switch(map);
	if (ends) {
		memset(model->active, 0, sizeof(model->active));
		model->number = 1;
		model->is_active_lost = false;
		model->is_frozen_lost = false;
		model_expect_new_generation(model, map);
	}
	memcpy(model->frozen, model->active, sizeof(model->frozen));
	model->snap_number = model->number++;
}

static void model_check(const struct model *model, struct cbt_map *map)
{
	CU_ASSERT_FATAL(has_generation(map, model->generation));
	CU_ASSERT_EQUAL_FATAL(snap_number(map),
			      model->is_frozen_lost ? 0 : model->snap_number);
	if (!model->is_frozen_lost)
		CU_ASSERT_FATAL(frozen_matches(map, model->frozen));
}

/* Many blocks at times, one or a few mostly. */
static u64 random_length(struct test_random *random)
{
	if (test_chance(random, 2))
		return test_random_below(random, NR_SECTORS);
	return test_random_below(random, 5 * BLOCK_SECTORS);
}

static void run_model(unsigned int nr_bad_allocs)
{
	struct test_random random = test_random_start();
	struct model *model = calloc(1, sizeof(*model));
	struct cbt_map *map = make_map();
	unsigned int i;

	model->number = 1;
	model_expect_new_generation(model, map);
	host_fail_allocs_randomly(nr_bad_allocs, test_random(&random));
	for (i = 0; i < NR_MODEL_OPS; i++) {
		u64 sector = test_random_below(&random, NR_SECTORS + 100);
		u64 nr_sectors = random_length(&random);
		unsigned int kind = test_random_below(&random, 100);

		if (kind < 10)
			model_take(model, map);
		else if (kind < 20)
			cbt_map_reap(map);
		else if (kind < 50)
			model_mark_both(model, map, sector, nr_sectors);
		else if (kind < 75)
			model_mark_as_filter(model, map, sector, nr_sectors);
		else if (kind < 99 || test_random_below(&random, 50))
			model_mark(model, map, sector, nr_sectors);
		else
			model_lose(model, map);
		model_check(model, map);
	}
	cbt_map_destroy(map);
	free(model);
}

static void test_random_operations_match_two_arrays(void)
{
	run_model(0);
}

static void test_random_operations_match_with_little_memory(void)
{
	run_model(20);
}

CU_TestInfo cbt_map_tests[] = {
	TEST(test_blocks_have_the_minimum_size_if_they_may),
	TEST(test_blocks_grow_to_keep_the_maximum_number),
	TEST(test_last_block_may_be_short),
	TEST(test_device_may_be_empty),
	TEST(test_too_large_device_is_refused),
	TEST(test_create_without_memory_leaves_nothing),
	TEST(test_new_map_has_no_frozen_map),
	TEST(test_mark_is_read_after_the_take),
	TEST(test_change_of_one_sector_marks_its_block),
	TEST(test_change_marks_every_block_it_touches),
	TEST(test_change_may_span_pages_of_the_map),
	TEST(test_change_beyond_the_device_is_ignored),
	TEST(test_change_just_beyond_the_device_is_ignored),
	TEST(test_change_is_clipped_at_the_end_of_the_device),
	TEST(test_change_from_a_marked_block_is_marked_to_its_end),
	TEST(test_empty_change_marks_nothing),
	TEST(test_number_grows_with_each_take),
	TEST(test_later_change_takes_the_later_number),
	TEST(test_frozen_map_does_not_see_later_changes),
	TEST(test_mark_nowait_fails_on_a_missing_page),
	TEST(test_mark_nowait_fails_on_a_shared_page),
	TEST(test_mark_nowait_marks_what_its_pages_hold),
	TEST(test_mark_nowait_beyond_the_device_is_done),
	TEST(test_mark_nowait_is_clipped_at_the_end_of_the_device),
	TEST(test_mark_nowait_in_a_lost_generation_is_done),
	TEST(test_mark_short_fails_on_a_missing_and_on_a_shared_page),
	TEST(test_mark_short_marks_one_block),
	TEST(test_mark_short_leaves_other_changes_alone),
	TEST(test_marking_again_needs_no_memory),
	TEST(test_first_mark_after_a_take_copies_one_page),
	TEST(test_switch_neither_allocates_nor_frees),
	TEST(test_reap_frees_what_only_the_old_frozen_map_had),
	TEST(test_map_may_be_destroyed_unreaped),
	TEST(test_mark_in_both_before_the_first_take_is_a_mark),
	TEST(test_mark_in_both_has_the_last_number_in_the_frozen_map),
	TEST(test_mark_in_both_has_the_current_number_in_the_active_map),
	TEST(test_mark_in_both_leaves_other_blocks_alone),
	TEST(test_mark_in_both_finds_the_page_unshared_already),
	TEST(test_mark_in_both_makes_a_page_that_only_the_frozen_map_misses),
	TEST(test_mark_in_both_may_span_pages_of_the_map),
	TEST(test_lost_mark_leaves_the_frozen_map_as_it_is),
	TEST(test_take_after_a_lost_mark_starts_a_generation),
	TEST(test_mark_lost_before_the_first_take_counts_too),
	TEST(test_new_generation_goes_on_as_the_first_did),
	TEST(test_lost_mark_costs_no_more_memory),
	TEST(test_mark_lost_in_both_ends_the_generation_at_once),
	TEST(test_interim_generation_ends_with_the_next_take),
	TEST(test_two_interim_generations_differ),
	TEST(test_mark_in_both_still_reaches_the_frozen_map_after_a_lost_mark),
	TEST(test_lost_change_ends_the_generation_at_once),
	TEST(test_take_after_a_lost_change_starts_a_generation),
	TEST(test_change_lost_before_the_first_take_counts_too),
	TEST(test_generation_has_255_snapshots),
	TEST(test_take_after_255_starts_a_generation),
	TEST(test_snapshot_255_is_read_as_any_other),
	TEST(test_map_says_why_it_began),
	TEST(test_lost_mark_is_why_the_next_generation_began),
	TEST(test_lost_change_is_why_the_interim_generation_began),
	TEST(test_map_says_that_numbers_are_used_up),
	TEST(test_changed_blocks_are_those_since_the_take),
	TEST(test_memory_is_that_of_pages_and_tables),
	TEST(test_info_describes_the_device),
	TEST(test_frozen_bytes_end_with_their_page),
	TEST(test_frozen_bytes_end_with_the_map),
	TEST(test_frozen_bytes_of_a_missing_page_are_zeros),
	TEST(test_threads_lose_no_mark),
	TEST(test_random_operations_match_two_arrays),
	TEST(test_random_operations_match_with_little_memory),
	TEST_END
};
