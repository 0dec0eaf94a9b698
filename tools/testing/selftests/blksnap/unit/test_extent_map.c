// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of the extent map
 */
#include "extent_map.h"
#include "test.h"

static void make_map(struct extent_map *map)
{
	CU_ASSERT_EQUAL_FATAL(extent_map_module_init(), 0);
	extent_map_init(map);
}

static void drop_map(struct extent_map *map)
{
	extent_map_exit(map);
	extent_map_module_exit();
}

static void insert(struct extent_map *map, u64 sector, u64 nr_sectors, u64 position)
{
	extent_map_insert(map, extent_alloc(GFP_NOIO), sector, nr_sectors, position);
}

static bool is_hole(const struct extent_map *map, u64 sector, u64 nr_sectors, u64 expected)
{
	struct extent_piece piece;

	extent_map_lookup(map, sector, nr_sectors, &piece);
	return !piece.is_stored && piece.nr_sectors == expected;
}

static bool is_stored(const struct extent_map *map, u64 sector, u64 nr_sectors,
		      u64 position, u64 expected)
{
	struct extent_piece piece;

	extent_map_lookup(map, sector, nr_sectors, &piece);
	return piece.is_stored && piece.position == position && piece.nr_sectors == expected;
}

static void test_empty_map_is_one_hole(void)
{
	struct extent_map map;

	make_map(&map);
	CU_ASSERT(is_hole(&map, 0, U64_MAX, U64_MAX));
	CU_ASSERT(is_hole(&map, 100, 8, 8));
	drop_map(&map);
}

static void test_whole_extent_is_found(void)
{
	struct extent_map map;

	make_map(&map);
	insert(&map, 80, 16, 8000);
	CU_ASSERT(is_stored(&map, 80, 16, 8000, 16));
	drop_map(&map);
}

static void test_piece_begins_inside_of_an_extent(void)
{
	struct extent_map map;

	make_map(&map);
	insert(&map, 80, 16, 8000);
	CU_ASSERT(is_stored(&map, 85, 4, 8005, 4));
	CU_ASSERT(is_stored(&map, 95, 1, 8015, 1));
	drop_map(&map);
}

static void test_piece_ends_with_the_extent(void)
{
	struct extent_map map;

	make_map(&map);
	insert(&map, 80, 16, 8000);
	CU_ASSERT(is_stored(&map, 90, 100, 8010, 6));
	drop_map(&map);
}

static void test_hole_ends_at_the_next_extent(void)
{
	struct extent_map map;

	make_map(&map);
	insert(&map, 80, 16, 8000);
	insert(&map, 200, 16, 0);
	CU_ASSERT(is_hole(&map, 0, 1000, 80));
	CU_ASSERT(is_hole(&map, 96, 1000, 104));
	CU_ASSERT(is_hole(&map, 79, 1, 1));
	drop_map(&map);
}

static void test_hole_behind_the_last_extent_has_no_end(void)
{
	struct extent_map map;

	make_map(&map);
	insert(&map, 80, 16, 8000);
	CU_ASSERT(is_hole(&map, 96, 1000, 1000));
	drop_map(&map);
}

static void test_extent_is_merged_with_its_predecessor(void)
{
	struct extent_map map;

	make_map(&map);
	insert(&map, 80, 16, 8000);
	insert(&map, 96, 8, 8016);
	CU_ASSERT_EQUAL(map.nr_extents, 1);
	CU_ASSERT(is_stored(&map, 80, 100, 8000, 24));
	drop_map(&map);
}

static void test_extent_is_merged_with_its_successor(void)
{
	struct extent_map map;

	make_map(&map);
	insert(&map, 96, 8, 8016);
	insert(&map, 80, 16, 8000);
	CU_ASSERT_EQUAL(map.nr_extents, 1);
	CU_ASSERT(is_stored(&map, 80, 100, 8000, 24));
	drop_map(&map);
}

static void test_extent_closes_a_gap_to_one_extent(void)
{
	struct extent_map map;

	make_map(&map);
	insert(&map, 80, 8, 8000);
	insert(&map, 96, 8, 8016);
	insert(&map, 88, 8, 8008);
	CU_ASSERT_EQUAL(map.nr_extents, 1);
	CU_ASSERT(is_stored(&map, 80, 100, 8000, 24));
	drop_map(&map);
}

static void test_neighbours_on_the_origin_alone_stay_apart(void)
{
	struct extent_map map;

	make_map(&map);
	insert(&map, 88, 8, 8016);
	insert(&map, 80, 8, 8000);
	insert(&map, 96, 8, 8000);
	CU_ASSERT_EQUAL(map.nr_extents, 3);
	CU_ASSERT(is_stored(&map, 80, 100, 8000, 8));
	CU_ASSERT(is_stored(&map, 88, 100, 8016, 8));
	drop_map(&map);
}

static void test_neighbours_in_the_storage_alone_stay_apart(void)
{
	struct extent_map map;

	make_map(&map);
	insert(&map, 80, 8, 8000);
	insert(&map, 96, 8, 8008);
	CU_ASSERT_EQUAL(map.nr_extents, 2);
	CU_ASSERT(is_hole(&map, 88, 100, 8));
	drop_map(&map);
}

static void test_merged_extent_has_a_longest_length(void)
{
	const u64 half = (EXTENT_MAX_SECTORS + 1) / 2;
	struct extent_map map;

	make_map(&map);
	insert(&map, 0, half, 5);
	insert(&map, half, half - 1, 5 + half);
	CU_ASSERT_EQUAL(map.nr_extents, 1);
	CU_ASSERT(is_stored(&map, 3, U64_MAX, 8, EXTENT_MAX_SECTORS - 3));
	insert(&map, 2 * half - 1, 8, 5 + 2 * half - 1);
	CU_ASSERT_EQUAL(map.nr_extents, 2);
	CU_ASSERT(is_stored(&map, 3, U64_MAX, 8, EXTENT_MAX_SECTORS - 3));
	CU_ASSERT(is_stored(&map, 2 * half, U64_MAX, 5 + 2 * half, 7));
	drop_map(&map);
}

static void test_numbers_may_be_as_large_as_a_device(void)
{
	const u64 end = 1ULL << EXTENT_SECTOR_BITS;
	struct extent_map map;

	make_map(&map);
	insert(&map, end - EXTENT_MAX_SECTORS, EXTENT_MAX_SECTORS, end - 8);
	CU_ASSERT_EQUAL(host_take_warnings(), 0);
	CU_ASSERT(is_stored(&map, end - 3, 8, end - 11 + EXTENT_MAX_SECTORS, 3));
	CU_ASSERT(is_hole(&map, end, 8, 8));
	drop_map(&map);
}

static void test_what_is_too_large_is_reported_and_not_entered(void)
{
	static const u64 bad[][3] = {
		{ 0, EXTENT_MAX_SECTORS + 1, 0 },
		{ 0, 1ULL << 32, 0 },
		{ 1ULL << EXTENT_SECTOR_BITS, 8, 0 },
		{ 0, 8, 1ULL << EXTENT_SECTOR_BITS },
	};
	struct extent_map map;
	unsigned int i;

	make_map(&map);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		insert(&map, bad[i][0], bad[i][1], bad[i][2]);
		CU_ASSERT_EQUAL(host_take_warnings(), 1);
		CU_ASSERT_EQUAL(map.nr_extents, 0);
	}
	drop_map(&map);
}

static void test_overlap_is_reported_and_not_entered(void)
{
	static const u64 bad[][2] = {
		{ 80, 16 }, { 80, 8 }, { 72, 9 }, { 95, 9 }, { 84, 4 }, { 70, 100 }
	};
	struct extent_map map;
	unsigned int i;

	make_map(&map);
	insert(&map, 80, 16, 8000);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		insert(&map, bad[i][0], bad[i][1], 0);
		CU_ASSERT_EQUAL(host_take_warnings(), 1);
		CU_ASSERT_EQUAL(map.nr_extents, 1);
		CU_ASSERT(is_stored(&map, 80, 100, 8000, 16));
	}
	drop_map(&map);
}

static void test_empty_run_is_reported_and_not_entered(void)
{
	struct extent_map map;

	make_map(&map);
	insert(&map, 80, 0, 8000);
	CU_ASSERT_EQUAL(host_take_warnings(), 1);
	CU_ASSERT_EQUAL(map.nr_extents, 0);
	drop_map(&map);
}

static void test_exit_frees_all_extents(void)
{
	struct extent_map map;
	long nr_objects;
	u64 i;

	make_map(&map);
	nr_objects = host_nr_objects();
	for (i = 0; i < 1000; i++)
		insert(&map, i * 16, 8, i * 8);
	CU_ASSERT_EQUAL(host_nr_objects(), nr_objects + 1000);
	extent_map_exit(&map);
	CU_ASSERT_EQUAL(host_nr_objects(), nr_objects);
	CU_ASSERT(is_hole(&map, 0, 100, 100));
	drop_map(&map);
}

static void test_free_gives_back_what_was_not_inserted(void)
{
	struct extent_map map;
	long nr_objects;

	make_map(&map);
	nr_objects = host_nr_objects();
	extent_free(extent_alloc(GFP_NOWAIT));
	CU_ASSERT_EQUAL(host_nr_objects(), nr_objects);
	drop_map(&map);
}

static void test_freeing_many_extents_gives_way(void)
{
	struct extent_map map;
	u64 i;

	make_map(&map);
	for (i = 0; i < 1000; i++)
		insert(&map, 16 * i, 8, 8 * i);
	CU_ASSERT_EQUAL(host_nr_times_yielded(), 0);
	drop_map(&map);
	CU_ASSERT(host_nr_times_yielded() >= 1000);
}

static void test_alloc_without_memory_gives_nothing(void)
{
	struct extent_map map;

	make_map(&map);
	host_fail_alloc_after(0);
	CU_ASSERT_PTR_NULL(extent_alloc(GFP_NOWAIT));
	drop_map(&map);
}

static void test_module_init_reports_no_memory(void)
{
	host_fail_alloc_after(0);
	CU_ASSERT_EQUAL(extent_map_module_init(), -ENOMEM);
}

#define NR_MODEL_SECTORS 1024
#define MODEL_HOLE U64_MAX

/* How far what holds for @sector goes on in the same way. */
static u64 model_piece(const u64 *model, u64 sector, u64 nr_sectors)
{
	u64 i;

	for (i = 1; i < nr_sectors; i++) {
		if (model[sector] == MODEL_HOLE ? model[sector + i] != MODEL_HOLE :
		    model[sector + i] != model[sector] + i)
			break;
	}
	return i;
}

/* Extents that nothing separates: what a map that merges well has. */
static u64 model_nr_extents(const u64 *model)
{
	u64 nr_extents = 0;
	u64 sector = 0;

	while (sector < NR_MODEL_SECTORS) {
		nr_extents += model[sector] != MODEL_HOLE;
		sector += model_piece(model, sector, NR_MODEL_SECTORS - sector);
	}
	return nr_extents;
}

static void model_insert(struct test_random *random, struct extent_map *map, u64 *model)
{
	u64 sector = test_random_below(random, NR_MODEL_SECTORS);
	u64 nr_sectors = 1 + test_random_below(random, 16);
	/* Few distances between the spaces, so that there is much to merge. */
	u64 position = sector + 5000 * test_random_below(random, 3);
	bool is_free = true;
	u64 i;

	nr_sectors = min(nr_sectors, NR_MODEL_SECTORS - sector);
	for (i = 0; i < nr_sectors; i++)
		is_free &= model[sector + i] == MODEL_HOLE;
	insert(map, sector, nr_sectors, position);
	CU_ASSERT_EQUAL_FATAL(host_take_warnings(), !is_free);
	for (i = 0; is_free && i < nr_sectors; i++)
		model[sector + i] = position + i;
	CU_ASSERT_EQUAL_FATAL(map->nr_extents, model_nr_extents(model));
}

static void model_lookup(struct test_random *random, struct extent_map *map, const u64 *model)
{
	u64 sector = test_random_below(random, NR_MODEL_SECTORS);
	u64 nr_sectors = 1 + test_random_below(random, NR_MODEL_SECTORS - sector);
	struct extent_piece piece;

	extent_map_lookup(map, sector, nr_sectors, &piece);
	CU_ASSERT_EQUAL_FATAL(piece.is_stored, model[sector] != MODEL_HOLE);
	CU_ASSERT_EQUAL_FATAL(piece.nr_sectors, model_piece(model, sector, nr_sectors));
	if (piece.is_stored)
		CU_ASSERT_EQUAL_FATAL(piece.position, model[sector]);
}

static void test_random_operations_match_an_array(void)
{
	struct test_random random = test_random_start();
	u64 model[NR_MODEL_SECTORS];
	struct extent_map map;
	unsigned int i;

	make_map(&map);
	for (i = 0; i < 40000; i++) {
		/* Often enough for all degrees of filling. */
		if (i % 400 == 0) {
			extent_map_exit(&map);
			memset(model, 0xff, sizeof(model));
		}
		if (test_chance(&random, 40))
			model_insert(&random, &map, model);
		else
			model_lookup(&random, &map, model);
	}
	drop_map(&map);
}

CU_TestInfo extent_map_tests[] = {
	TEST(test_empty_map_is_one_hole),
	TEST(test_whole_extent_is_found),
	TEST(test_piece_begins_inside_of_an_extent),
	TEST(test_piece_ends_with_the_extent),
	TEST(test_hole_ends_at_the_next_extent),
	TEST(test_hole_behind_the_last_extent_has_no_end),
	TEST(test_extent_is_merged_with_its_predecessor),
	TEST(test_extent_is_merged_with_its_successor),
	TEST(test_extent_closes_a_gap_to_one_extent),
	TEST(test_neighbours_on_the_origin_alone_stay_apart),
	TEST(test_neighbours_in_the_storage_alone_stay_apart),
	TEST(test_merged_extent_has_a_longest_length),
	TEST(test_numbers_may_be_as_large_as_a_device),
	TEST(test_what_is_too_large_is_reported_and_not_entered),
	TEST(test_overlap_is_reported_and_not_entered),
	TEST(test_empty_run_is_reported_and_not_entered),
	TEST(test_exit_frees_all_extents),
	TEST(test_free_gives_back_what_was_not_inserted),
	TEST(test_freeing_many_extents_gives_way),
	TEST(test_alloc_without_memory_gives_nothing),
	TEST(test_module_init_reports_no_memory),
	TEST(test_random_operations_match_an_array),
	TEST_END
};
