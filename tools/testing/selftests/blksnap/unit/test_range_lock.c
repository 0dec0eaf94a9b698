// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of the range lock
 */
#include "range_lock.h"
#include "test.h"

static void test_new_set_is_empty(void)
{
	struct range_lock lock;

	range_lock_init(&lock);
	CU_ASSERT(range_lock_is_empty(&lock));
	CU_ASSERT_PTR_NULL(range_lock_first(&lock, 0, U64_MAX));
}

static void test_added_range_is_found(void)
{
	struct block_range_node range;
	struct range_lock lock;

	range_lock_init(&lock);
	range_lock_add(&lock, &range, 10, 20);
	CU_ASSERT(!range_lock_is_empty(&lock));
	CU_ASSERT_PTR_EQUAL(range_lock_first(&lock, 15, 15), &range);
	CU_ASSERT_PTR_EQUAL(range_lock_first(&lock, 0, U64_MAX), &range);
	CU_ASSERT_EQUAL(range.first, 10);
	CU_ASSERT_EQUAL(range.last, 20);
}

static void test_deleted_range_is_not_found(void)
{
	struct block_range_node range;
	struct range_lock lock;

	range_lock_init(&lock);
	range_lock_add(&lock, &range, 10, 20);
	range_lock_del(&lock, &range);
	CU_ASSERT(range_lock_is_empty(&lock));
	CU_ASSERT_PTR_NULL(range_lock_first(&lock, 0, U64_MAX));
}

static void test_both_ends_are_inclusive(void)
{
	struct block_range_node range;
	struct range_lock lock;

	range_lock_init(&lock);
	range_lock_add(&lock, &range, 10, 20);
	CU_ASSERT_PTR_EQUAL(range_lock_first(&lock, 20, 30), &range);
	CU_ASSERT_PTR_EQUAL(range_lock_first(&lock, 0, 10), &range);
	CU_ASSERT_PTR_NULL(range_lock_first(&lock, 21, 30));
	CU_ASSERT_PTR_NULL(range_lock_first(&lock, 0, 9));
}

static void test_overlapping_ranges_are_found_in_order(void)
{
	struct block_range_node late, early, elsewhere;
	struct block_range_node *found;
	struct range_lock lock;

	range_lock_init(&lock);
	range_lock_add(&lock, &late, 15, 30);
	range_lock_add(&lock, &early, 10, 20);
	range_lock_add(&lock, &elsewhere, 31, 40);
	found = range_lock_first(&lock, 18, 30);
	CU_ASSERT_PTR_EQUAL(found, &early);
	found = range_lock_next(found, 18, 30);
	CU_ASSERT_PTR_EQUAL(found, &late);
	CU_ASSERT_PTR_NULL(range_lock_next(found, 18, 30));
}

static void test_same_blocks_may_be_used_twice(void)
{
	struct block_range_node first, second;
	struct range_lock lock;

	range_lock_init(&lock);
	range_lock_add(&lock, &first, 10, 20);
	range_lock_add(&lock, &second, 10, 20);
	range_lock_del(&lock, &first);
	CU_ASSERT_PTR_EQUAL(range_lock_first(&lock, 10, 10), &second);
	CU_ASSERT_PTR_NULL(range_lock_next(&second, 10, 10));
}

static void test_range_may_reach_the_last_block(void)
{
	struct block_range_node range;
	struct range_lock lock;

	range_lock_init(&lock);
	range_lock_add(&lock, &range, U64_MAX, U64_MAX);
	CU_ASSERT_PTR_EQUAL(range_lock_first(&lock, U64_MAX, U64_MAX), &range);
	CU_ASSERT_PTR_NULL(range_lock_first(&lock, 0, U64_MAX - 1));
}

static void test_long_range_before_short_ones_is_not_missed(void)
{
	struct block_range_node nodes[100], whole;
	struct range_lock lock;
	u64 i;

	range_lock_init(&lock);
	range_lock_add(&lock, &whole, 0, 1000);
	for (i = 0; i < ARRAY_SIZE(nodes); i++)
		range_lock_add(&lock, &nodes[i], i * 10, i * 10);
	CU_ASSERT_PTR_EQUAL(range_lock_first(&lock, 999, 999), &whole);
	CU_ASSERT_PTR_NULL(range_lock_next(&whole, 999, 999));
}

#define NR_MODEL_RANGES 64
#define NR_MODEL_BLOCKS 256

static void model_search(struct test_random *random, struct range_lock *lock,
			 struct block_range_node *nodes, const bool *is_used)
{
	u64 first = test_random_below(random, NR_MODEL_BLOCKS);
	u64 last = first + test_random_below(random, 32);
	struct block_range_node *found = range_lock_first(lock, first, last);
	bool was_found[NR_MODEL_RANGES] = { false };
	u64 before = 0;
	unsigned int i;

	for (; found; found = range_lock_next(found, first, last)) {
		CU_ASSERT_FATAL(!was_found[found - nodes]);
		CU_ASSERT_FATAL(found->first >= before);
		before = found->first;
		was_found[found - nodes] = true;
	}
	for (i = 0; i < NR_MODEL_RANGES; i++)
		CU_ASSERT_EQUAL_FATAL(was_found[i], is_used[i] && nodes[i].first <= last &&
				      nodes[i].last >= first);
}

static void test_random_operations_match_a_list(void)
{
	struct block_range_node nodes[NR_MODEL_RANGES];
	struct test_random random = test_random_start();
	bool is_used[NR_MODEL_RANGES] = { false };
	struct range_lock lock;
	unsigned int nr_used = 0;
	unsigned int i;

	range_lock_init(&lock);
	for (i = 0; i < 50000; i++) {
		unsigned int n = test_random_below(&random, NR_MODEL_RANGES);
		u64 first = test_random_below(&random, NR_MODEL_BLOCKS);

		if (is_used[n])
			range_lock_del(&lock, &nodes[n]);
		else
			range_lock_add(&lock, &nodes[n], first,
				       first + test_random_below(&random, 40));
		nr_used += is_used[n] ? -1 : 1;
		is_used[n] = !is_used[n];
		CU_ASSERT_EQUAL_FATAL(range_lock_is_empty(&lock), !nr_used);
		model_search(&random, &lock, nodes, is_used);
	}
}

CU_TestInfo range_lock_tests[] = {
	TEST(test_new_set_is_empty),
	TEST(test_added_range_is_found),
	TEST(test_deleted_range_is_not_found),
	TEST(test_both_ends_are_inclusive),
	TEST(test_overlapping_ranges_are_found_in_order),
	TEST(test_same_blocks_may_be_used_twice),
	TEST(test_range_may_reach_the_last_block),
	TEST(test_long_range_before_short_ones_is_not_missed),
	TEST(test_random_operations_match_a_list),
	TEST_END
};
