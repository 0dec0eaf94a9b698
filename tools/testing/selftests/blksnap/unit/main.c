// SPDX-License-Identifier: GPL-2.0
/*
 * Runs the suites of the logic units and reports in KTAP
 *
 * usage: unit_tests [SEED]
 *
 * The seed of the model checks is the argument, or else $BLKSNAP_SEED, or else
 * 1; it is printed.  The exit status is 0 if every test passed, 1 if one
 * failed, 2 if the seed is not a number.
 */
#include <stdio.h>
#include <stdlib.h>

#include "test.h"

static u64 seed = 1;
static long nr_objects_before;

struct test_random test_random_start(void)
{
	return (struct test_random) { seed };
}

u64 test_random(struct test_random *random)
{
	u64 z = random->state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

u64 test_random_below(struct test_random *random, u64 limit)
{
	return test_random(random) % limit;
}

bool test_chance(struct test_random *random, unsigned int percent)
{
	return test_random_below(random, 100) < percent;
}

static void set_up(void)
{
	host_reset();
	nr_objects_before = host_nr_objects();
}

/* What holds for every test: nothing leaked, no warning that was not asked for. */
static void tear_down(void)
{
	CU_ASSERT_EQUAL(host_take_warnings(), 0);
	CU_ASSERT_EQUAL(host_nr_locks_held(), 0);
	CU_ASSERT_EQUAL(host_nr_objects(), nr_objects_before);
}

static void report(const CU_pTest test, const CU_pSuite suite, const CU_pFailureRecord failures)
{
	static unsigned int number;
	CU_pFailureRecord failure;

	printf("%s %u - %s.%s\n", failures ? "not ok" : "ok", ++number, suite->pName,
	       test->pName);
	for (failure = failures; failure; failure = failure->pNext)
		printf("# %s:%u: %s\n", failure->strFileName, failure->uiLineNumber,
		       failure->strCondition);
	fflush(stdout);
}

static CU_SuiteInfo suites[] = {
	{ "sparse_map", NULL, NULL, set_up, tear_down, sparse_map_tests },
	{ "copied_map", NULL, NULL, set_up, tear_down, copied_map_tests },
	{ "cbt_map", NULL, NULL, set_up, tear_down, cbt_map_tests },
	{ "extent_map", NULL, NULL, set_up, tear_down, extent_map_tests },
	{ "range_set", NULL, NULL, set_up, tear_down, range_set_tests },
	{ "diff_storage", NULL, NULL, set_up, tear_down, diff_storage_tests },
	CU_SUITE_INFO_NULL,
};

static bool parse_seed(const char *text)
{
	char *end;

	errno = 0;
	seed = strtoull(text, &end, 0);
	return !errno && *text && !*end;
}

int main(int argc, char **argv)
{
	const char *text = argc > 1 ? argv[1] : getenv("BLKSNAP_SEED");
	unsigned int nr_failed;

	if (argc > 2 || (text && !parse_seed(text))) {
		fprintf(stderr, "%s: SEED has to be one number of at most 64 bits\n", argv[0]);
		return 2;
	}
	if (CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS) {
		fprintf(stderr, "%s: %s\n", argv[0], CU_get_error_msg());
		return 1;
	}
	printf("KTAP version 1\n1..%u\n# seed %llu\n", CU_get_registry()->uiNumberOfTests,
	       (unsigned long long)seed);
	CU_set_test_complete_handler(report);
	CU_run_all_tests();
	nr_failed = CU_get_number_of_tests_failed();
	printf("# %u passed, %u failed\n", CU_get_number_of_tests_run() - nr_failed, nr_failed);
	CU_cleanup_registry();
	return nr_failed ? 1 : 0;
}
