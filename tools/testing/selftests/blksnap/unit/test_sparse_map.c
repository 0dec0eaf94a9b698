// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of the sparse map
 */
#include "sparse_map.h"
#include "test.h"

#define NR_THREADS 4

static void make_map(struct sparse_map *map, u64 nr_pages)
{
	CU_ASSERT_EQUAL_FATAL(sparse_map_init(map, nr_pages * PAGE_SIZE), 0);
}

static bool is_filled(const u8 *page, u8 value)
{
	unsigned int i;

	for (i = 0; i < PAGE_SIZE; i++) {
		if (page[i] != value)
			return false;
	}
	return true;
}

static void test_new_map_has_no_page(void)
{
	struct sparse_map map;

	make_map(&map, 2);
	CU_ASSERT_PTR_NULL(sparse_map_page(&map, 0));
	CU_ASSERT_PTR_NULL(sparse_map_page(&map, 1));
	sparse_map_exit(&map);
}

static void test_size_is_rounded_up_to_pages(void)
{
	static const struct {
		u64 nr_bytes;
		unsigned long nr_pages;
	} sizes[] = { { 0, 0 }, { 1, 1 }, { 4096, 1 }, { 4097, 2 } };
	struct sparse_map map;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		CU_ASSERT_EQUAL_FATAL(sparse_map_init(&map, sizes[i].nr_bytes), 0);
		CU_ASSERT_EQUAL(map.nr_pages, sizes[i].nr_pages);
		sparse_map_exit(&map);
	}
}

static void test_absurd_size_is_refused_silently(void)
{
	struct sparse_map map;

	CU_ASSERT_EQUAL(sparse_map_init(&map, U64_MAX), -ENOMEM);
	CU_ASSERT_EQUAL(sparse_map_init(&map, (u64)(INT_MAX / 8 + 1) << PAGE_SHIFT), -ENOMEM);
	CU_ASSERT_EQUAL(host_nr_allocs(), 0);
}

static void test_init_without_memory_can_be_undone(void)
{
	struct sparse_map map;

	memset(&map, 0xa5, sizeof(map));
	host_fail_alloc_after(0);
	CU_ASSERT_EQUAL(sparse_map_init(&map, PAGE_SIZE), -ENOMEM);
	sparse_map_exit(&map);
}

static void test_populate_installs_zeros(void)
{
	struct sparse_map map;
	u8 *page;

	make_map(&map, 2);
	page = sparse_map_populate(&map, 1, GFP_KERNEL);
	CU_ASSERT_PTR_NOT_NULL_FATAL(page);
	CU_ASSERT(is_filled(page, 0));
	CU_ASSERT_PTR_EQUAL(sparse_map_page(&map, 1), page);
	CU_ASSERT_PTR_NULL(sparse_map_page(&map, 0));
	sparse_map_exit(&map);
}

static void test_populate_keeps_the_page_there_is(void)
{
	struct sparse_map map;
	u8 *page;

	make_map(&map, 1);
	page = sparse_map_populate(&map, 0, GFP_KERNEL);
	host_fail_alloc_after(0);
	CU_ASSERT_PTR_EQUAL(sparse_map_populate(&map, 0, GFP_KERNEL), page);
	sparse_map_exit(&map);
}

static void test_populate_without_memory_changes_nothing(void)
{
	struct sparse_map map;

	make_map(&map, 1);
	host_fail_alloc_after(0);
	CU_ASSERT_PTR_NULL(sparse_map_populate(&map, 0, GFP_NOWAIT));
	CU_ASSERT_PTR_NULL(sparse_map_page(&map, 0));
	sparse_map_exit(&map);
}

static void test_replace_installs_a_copy(void)
{
	struct sparse_map map;
	u8 *old, *copy;

	make_map(&map, 1);
	old = sparse_map_populate(&map, 0, GFP_KERNEL);
	memset(old, 7, PAGE_SIZE);
	copy = sparse_map_replace(&map, 0, old, GFP_NOWAIT);
	CU_ASSERT_PTR_NOT_NULL_FATAL(copy);
	CU_ASSERT_PTR_NOT_EQUAL(copy, old);
	CU_ASSERT_PTR_EQUAL(sparse_map_page(&map, 0), copy);
	CU_ASSERT(is_filled(copy, 7));
	sparse_map_free_page(old);
	sparse_map_exit(&map);
}

static void test_replace_too_late_returns_the_page_of_the_winner(void)
{
	struct sparse_map map;
	u8 *old, *winner;

	make_map(&map, 1);
	old = sparse_map_populate(&map, 0, GFP_KERNEL);
	winner = sparse_map_replace(&map, 0, old, GFP_NOWAIT);
	CU_ASSERT_PTR_EQUAL(sparse_map_replace(&map, 0, old, GFP_NOWAIT), winner);
	CU_ASSERT_PTR_EQUAL(sparse_map_page(&map, 0), winner);
	sparse_map_free_page(old);
	sparse_map_exit(&map);
}

static void test_replace_without_memory_changes_nothing(void)
{
	struct sparse_map map;
	u8 *old;

	make_map(&map, 1);
	old = sparse_map_populate(&map, 0, GFP_KERNEL);
	host_fail_alloc_after(0);
	CU_ASSERT_PTR_NULL(sparse_map_replace(&map, 0, old, GFP_NOWAIT));
	CU_ASSERT_PTR_EQUAL(sparse_map_page(&map, 0), old);
	sparse_map_exit(&map);
}

#define NR_RACED_PAGES 2000

struct racer {
	pthread_t thread;
	struct sparse_map *map;
	void *pages[NR_RACED_PAGES];
};

static void *populate_all(void *data)
{
	struct racer *racer = data;
	unsigned long i;

	for (i = 0; i < NR_RACED_PAGES; i++)
		racer->pages[i] = sparse_map_populate(racer->map, i, GFP_NOWAIT);
	return NULL;
}

static void test_threads_agree_on_one_page(void)
{
	static struct racer racers[NR_THREADS];
	struct sparse_map map;
	unsigned int i;

	make_map(&map, NR_RACED_PAGES);
	for (i = 0; i < NR_THREADS; i++) {
		racers[i].map = &map;
		pthread_create(&racers[i].thread, NULL, populate_all, &racers[i]);
	}
	for (i = 0; i < NR_THREADS; i++)
		pthread_join(racers[i].thread, NULL);
	for (i = 0; i < NR_THREADS; i++)
		CU_ASSERT(!memcmp(racers[i].pages, map.pages, sizeof(racers[i].pages)));
	sparse_map_exit(&map);
}

#define NR_MODEL_PAGES 64

/* Bytes are written and read through the map and in a flat array. */
static void test_random_operations_match_an_array(void)
{
	static u8 model[NR_MODEL_PAGES * PAGE_SIZE];
	struct test_random random = test_random_start();
	struct sparse_map map;
	unsigned int i;

	memset(model, 0, sizeof(model));
	make_map(&map, NR_MODEL_PAGES);
	host_fail_allocs_randomly(300, test_random(&random));
	for (i = 0; i < 50000; i++) {
		u64 offset = test_random_below(&random, sizeof(model));
		unsigned long failed = host_nr_failed_allocs();
		u8 *page = sparse_map_page(&map, offset >> PAGE_SHIFT);

		CU_ASSERT_EQUAL_FATAL(page ? page[offset_in_page(offset)] : 0, model[offset]);
		page = sparse_map_populate(&map, offset >> PAGE_SHIFT, GFP_NOWAIT);
		CU_ASSERT_EQUAL_FATAL(!page, host_nr_failed_allocs() > failed);
		if (!page)
			continue;
		page[offset_in_page(offset)] = i;
		model[offset] = i;
	}
	sparse_map_exit(&map);
}

CU_TestInfo sparse_map_tests[] = {
	TEST(test_new_map_has_no_page),
	TEST(test_size_is_rounded_up_to_pages),
	TEST(test_absurd_size_is_refused_silently),
	TEST(test_init_without_memory_can_be_undone),
	TEST(test_populate_installs_zeros),
	TEST(test_populate_keeps_the_page_there_is),
	TEST(test_populate_without_memory_changes_nothing),
	TEST(test_replace_installs_a_copy),
	TEST(test_replace_too_late_returns_the_page_of_the_winner),
	TEST(test_replace_without_memory_changes_nothing),
	TEST(test_threads_agree_on_one_page),
	TEST(test_random_operations_match_an_array),
	TEST_END
};
