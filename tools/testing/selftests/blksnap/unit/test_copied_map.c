// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of the map of copied blocks
 */
#include "copied_map.h"
#include "test.h"

#define NR_BLOCKS (3 * COPIED_MAP_PAGE_BLOCKS)

static void make_map(struct copied_map *map)
{
	CU_ASSERT_EQUAL_FATAL(copied_map_init(map, NR_BLOCKS), 0);
}

static void set(struct copied_map *map, u64 first, u64 last)
{
	CU_ASSERT_FATAL(copied_map_populate(map, first, last, GFP_KERNEL));
	copied_map_set(map, first, last);
}

static void test_new_map_has_no_copied_block(void)
{
	struct copied_map map;

	make_map(&map);
	CU_ASSERT(!copied_map_test(&map, 0));
	CU_ASSERT_EQUAL(copied_map_next_copied(&map, 0, NR_BLOCKS - 1), NR_BLOCKS);
	CU_ASSERT_EQUAL(copied_map_next_uncopied(&map, 5, NR_BLOCKS - 1), 5);
	copied_map_exit(&map);
}

static void test_map_without_memory_can_be_undone(void)
{
	struct copied_map map;

	host_fail_alloc_after(0);
	CU_ASSERT_EQUAL(copied_map_init(&map, NR_BLOCKS), -ENOMEM);
	copied_map_exit(&map);
}

static void test_set_blocks_are_copied_and_no_others(void)
{
	struct copied_map map;

	make_map(&map);
	set(&map, 60, 70);
	CU_ASSERT(!copied_map_test(&map, 59));
	CU_ASSERT(copied_map_test(&map, 60));
	CU_ASSERT(copied_map_test(&map, 70));
	CU_ASSERT(!copied_map_test(&map, 71));
	CU_ASSERT_EQUAL(copied_map_next_copied(&map, 0, 1000), 60);
	CU_ASSERT_EQUAL(copied_map_next_uncopied(&map, 60, 1000), 71);
	copied_map_exit(&map);
}

static void test_search_ends_with_its_range(void)
{
	struct copied_map map;

	make_map(&map);
	set(&map, 60, 70);
	CU_ASSERT_EQUAL(copied_map_next_copied(&map, 0, 59), 60);
	CU_ASSERT_EQUAL(copied_map_next_copied(&map, 71, 72), 73);
	CU_ASSERT_EQUAL(copied_map_next_uncopied(&map, 60, 65), 66);
	CU_ASSERT_EQUAL(copied_map_next_uncopied(&map, 60, 70), 71);
	copied_map_exit(&map);
}

static void test_empty_range_has_no_block(void)
{
	struct copied_map map;

	make_map(&map);
	set(&map, 0, 9);
	CU_ASSERT_EQUAL(copied_map_next_copied(&map, 5, 4), 5);
	CU_ASSERT_EQUAL(copied_map_next_uncopied(&map, 10, 9), 10);
	copied_map_exit(&map);
}

static void test_one_block_can_be_searched(void)
{
	struct copied_map map;

	make_map(&map);
	set(&map, 63, 63);
	CU_ASSERT_EQUAL(copied_map_next_copied(&map, 63, 63), 63);
	CU_ASSERT_EQUAL(copied_map_next_uncopied(&map, 63, 63), 64);
	CU_ASSERT_EQUAL(copied_map_next_copied(&map, 64, 64), 65);
	CU_ASSERT_EQUAL(copied_map_next_uncopied(&map, 64, 64), 64);
	copied_map_exit(&map);
}

static void test_range_may_cross_pages(void)
{
	struct copied_map map;

	make_map(&map);
	set(&map, 1, NR_BLOCKS - 2);
	CU_ASSERT_EQUAL(copied_map_next_copied(&map, 0, NR_BLOCKS - 1), 1);
	CU_ASSERT_EQUAL(copied_map_next_uncopied(&map, 1, NR_BLOCKS - 1), NR_BLOCKS - 1);
	CU_ASSERT(copied_map_test(&map, COPIED_MAP_PAGE_BLOCKS));
	copied_map_exit(&map);
}

static void test_missing_page_is_skipped(void)
{
	struct copied_map map;

	make_map(&map);
	set(&map, NR_BLOCKS - 1, NR_BLOCKS - 1);
	CU_ASSERT_EQUAL(copied_map_next_copied(&map, 7, NR_BLOCKS - 1), NR_BLOCKS - 1);
	CU_ASSERT_EQUAL(copied_map_next_copied(&map, 7, NR_BLOCKS - 2), NR_BLOCKS - 1);
	copied_map_exit(&map);
}

static void test_setting_again_changes_nothing(void)
{
	struct copied_map map;

	make_map(&map);
	set(&map, 10, 20);
	set(&map, 15, 30);
	CU_ASSERT_EQUAL(copied_map_next_copied(&map, 0, 100), 10);
	CU_ASSERT_EQUAL(copied_map_next_uncopied(&map, 10, 100), 31);
	copied_map_exit(&map);
}

static void test_populate_without_memory_sets_nothing(void)
{
	struct copied_map map;

	make_map(&map);
	host_fail_alloc_after(1);
	CU_ASSERT(!copied_map_populate(&map, 0, NR_BLOCKS - 1, GFP_NOWAIT));
	CU_ASSERT_EQUAL(copied_map_next_copied(&map, 0, NR_BLOCKS - 1), NR_BLOCKS);
	CU_ASSERT(copied_map_populate(&map, 0, NR_BLOCKS - 1, GFP_NOWAIT));
	copied_map_exit(&map);
}

#define NR_RACED_BLOCKS 20000

static void *search_all(void *data)
{
	struct copied_map *map = data;
	u64 block = 0;

	/* Everything before a block seen as copied is copied, too. */
	while (block < NR_RACED_BLOCKS) {
		block = copied_map_next_uncopied(map, block, NR_RACED_BLOCKS - 1);
		if (block && !copied_map_test(map, block - 1))
			return map;
	}
	return NULL;
}

static void test_search_needs_no_lock(void)
{
	struct copied_map map;
	pthread_t thread;
	void *failure;
	u64 block;

	make_map(&map);
	CU_ASSERT_FATAL(copied_map_populate(&map, 0, NR_RACED_BLOCKS - 1, GFP_KERNEL));
	pthread_create(&thread, NULL, search_all, &map);
	for (block = 0; block < NR_RACED_BLOCKS; block += 5)
		copied_map_set(&map, block, block + 4);
	pthread_join(thread, &failure);
	CU_ASSERT_PTR_NULL(failure);
	copied_map_exit(&map);
}

static u64 model_next(const bool *model, u64 first, u64 last, bool is_copied)
{
	while (first <= last && model[first] != is_copied)
		first++;
	return first;
}

static void test_random_operations_match_an_array(void)
{
	static bool model[NR_BLOCKS];
	struct test_random random = test_random_start();
	struct copied_map map;
	unsigned int i;

	memset(model, 0, sizeof(model));
	make_map(&map);
	host_fail_allocs_randomly(300, test_random(&random));
	for (i = 0; i < 20000; i++) {
		u64 first = test_random_below(&random, NR_BLOCKS);
		u64 last = first + test_random_below(&random, test_chance(&random, 10) ? 5000 : 9);
		bool is_copied = test_chance(&random, 50);

		last = min_t(u64, last, NR_BLOCKS - 1);
		CU_ASSERT_EQUAL_FATAL(is_copied ? copied_map_next_copied(&map, first, last) :
						  copied_map_next_uncopied(&map, first, last),
				      model_next(model, first, last, is_copied));
		CU_ASSERT_EQUAL_FATAL(copied_map_test(&map, first), model[first]);
		if (!test_chance(&random, 20) ||
		    !copied_map_populate(&map, first, last, GFP_NOWAIT))
			continue;
		copied_map_set(&map, first, last);
		memset(&model[first], true, last - first + 1);
		if (!test_chance(&random, 30))
			continue;
		copied_map_clear(&map, first + 1, last);
		memset(&model[first + 1], false, last - first);
	}
	copied_map_exit(&map);
}

static void test_cleared_blocks_are_not_set_and_no_others(void)
{
	struct copied_map map;

	make_map(&map);
	set(&map, 60, 300);
	copied_map_clear(&map, 70, 200);
	CU_ASSERT(copied_map_test(&map, 69));
	CU_ASSERT(!copied_map_test(&map, 70));
	CU_ASSERT_EQUAL(copied_map_next_uncopied(&map, 60, 1000), 70);
	CU_ASSERT_EQUAL(copied_map_next_copied(&map, 70, 1000), 201);
	copied_map_clear(&map, 201, 201);
	CU_ASSERT_EQUAL(copied_map_next_copied(&map, 70, 1000), 202);
	copied_map_exit(&map);
}

static void test_clearing_skips_a_missing_page(void)
{
	struct copied_map map;

	make_map(&map);
	set(&map, COPIED_MAP_PAGE_BLOCKS, COPIED_MAP_PAGE_BLOCKS + 5);
	copied_map_clear(&map, 3, COPIED_MAP_PAGE_BLOCKS + 2);
	CU_ASSERT_EQUAL(copied_map_next_copied(&map, 0, NR_BLOCKS - 1),
			COPIED_MAP_PAGE_BLOCKS + 3);
	copied_map_exit(&map);
}

CU_TestInfo copied_map_tests[] = {
	TEST(test_new_map_has_no_copied_block),
	TEST(test_map_without_memory_can_be_undone),
	TEST(test_set_blocks_are_copied_and_no_others),
	TEST(test_search_ends_with_its_range),
	TEST(test_empty_range_has_no_block),
	TEST(test_one_block_can_be_searched),
	TEST(test_range_may_cross_pages),
	TEST(test_missing_page_is_skipped),
	TEST(test_setting_again_changes_nothing),
	TEST(test_populate_without_memory_sets_nothing),
	TEST(test_cleared_blocks_are_not_set_and_no_others),
	TEST(test_clearing_skips_a_missing_page),
	TEST(test_search_needs_no_lock),
	TEST(test_random_operations_match_an_array),
	TEST_END
};
