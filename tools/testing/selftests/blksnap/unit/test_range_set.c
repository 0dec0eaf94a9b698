// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of range sets
 */
#include "range_set.h"
#include "test.h"

static void test_new_set_is_empty(void)
{
	struct range_set set;

	range_set_init(&set);
	CU_ASSERT_PTR_NULL(range_set_first(&set, 0, U64_MAX));
}

static void test_added_range_is_found(void)
{
	struct block_range range;
	struct range_set set;

	range_set_init(&set);
	range_set_add(&set, &range, 10, 20);
	CU_ASSERT_PTR_EQUAL(range_set_first(&set, 15, 15), &range);
	CU_ASSERT_PTR_EQUAL(range_set_first(&set, 0, U64_MAX), &range);
	CU_ASSERT_EQUAL(range.first, 10);
	CU_ASSERT_EQUAL(range.last, 20);
}

static void test_deleted_range_is_not_found(void)
{
	struct block_range range;
	struct range_set set;

	range_set_init(&set);
	range_set_add(&set, &range, 10, 20);
	range_set_del(&set, &range);
	CU_ASSERT_PTR_NULL(range_set_first(&set, 0, U64_MAX));
}

static void test_both_ends_are_inclusive(void)
{
	struct block_range range;
	struct range_set set;

	range_set_init(&set);
	range_set_add(&set, &range, 10, 20);
	CU_ASSERT_PTR_EQUAL(range_set_first(&set, 20, 30), &range);
	CU_ASSERT_PTR_EQUAL(range_set_first(&set, 0, 10), &range);
	CU_ASSERT_PTR_NULL(range_set_first(&set, 21, 30));
	CU_ASSERT_PTR_NULL(range_set_first(&set, 0, 9));
}

static void test_first_of_several_ranges_is_found(void)
{
	struct block_range late, early, elsewhere;
	struct range_set set;

	range_set_init(&set);
	range_set_add(&set, &late, 21, 30);
	range_set_add(&set, &early, 10, 20);
	range_set_add(&set, &elsewhere, 31, 40);
	CU_ASSERT_PTR_EQUAL(range_set_first(&set, 18, 30), &early);
	CU_ASSERT_PTR_EQUAL(range_set_first(&set, 21, 40), &late);
	CU_ASSERT_PTR_EQUAL(range_set_first(&set, 31, 50), &elsewhere);
}

static void test_hole_between_ranges_is_empty(void)
{
	struct block_range before, after;
	struct range_set set;

	range_set_init(&set);
	range_set_add(&set, &before, 0, 9);
	range_set_add(&set, &after, 20, 29);
	CU_ASSERT_PTR_NULL(range_set_first(&set, 10, 19));
	CU_ASSERT_PTR_EQUAL(range_set_first(&set, 10, 20), &after);
}

static void test_range_may_reach_the_last_block(void)
{
	struct block_range range;
	struct range_set set;

	range_set_init(&set);
	range_set_add(&set, &range, U64_MAX, U64_MAX);
	CU_ASSERT_PTR_EQUAL(range_set_first(&set, U64_MAX, U64_MAX), &range);
	CU_ASSERT_PTR_NULL(range_set_first(&set, 0, U64_MAX - 1));
}

#define NR_MODEL_RANGES 64
#define NR_MODEL_BLOCKS 256

static struct block_range *model_first(struct block_range *nodes, const bool *is_used, u64 first,
				       u64 last)
{
	struct block_range *found = NULL;
	unsigned int i;

	for (i = 0; i < NR_MODEL_RANGES; i++) {
		if (is_used[i] && nodes[i].first <= last && nodes[i].last >= first &&
		    (!found || nodes[i].first < found->first))
			found = &nodes[i];
	}
	return found;
}

static void test_random_operations_match_a_list(void)
{
	struct block_range nodes[NR_MODEL_RANGES];
	struct test_random random = test_random_start();
	bool is_used[NR_MODEL_RANGES] = { false };
	struct range_set set;
	unsigned int i;

	range_set_init(&set);
	for (i = 0; i < 50000; i++) {
		unsigned int n = test_random_below(&random, NR_MODEL_RANGES);
		u64 first = test_random_below(&random, NR_MODEL_BLOCKS);
		u64 last = first + test_random_below(&random, 16);
		struct block_range *found = model_first(nodes, is_used, first, last);

		CU_ASSERT_PTR_EQUAL_FATAL(range_set_first(&set, first, last), found);
		if (is_used[n]) {
			range_set_del(&set, &nodes[n]);
			is_used[n] = false;
		} else if (!found) {
			range_set_add(&set, &nodes[n], first, last);
			is_used[n] = true;
		}
	}
}

CU_TestInfo range_set_tests[] = {
	TEST(test_new_set_is_empty),
	TEST(test_added_range_is_found),
	TEST(test_deleted_range_is_not_found),
	TEST(test_both_ends_are_inclusive),
	TEST(test_first_of_several_ranges_is_found),
	TEST(test_hole_between_ranges_is_empty),
	TEST(test_range_may_reach_the_last_block),
	TEST(test_random_operations_match_a_list),
	TEST_END
};
