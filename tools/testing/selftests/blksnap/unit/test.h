/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the suites share
 */
#ifndef BLKSNAP_UNIT_TEST_H
#define BLKSNAP_UNIT_TEST_H

#include <CUnit/CUnit.h>

#include "host.h"

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

/* A row of a suite's table: the test is called what its function is called. */
#define TEST(function) { #function, function }
#define TEST_END { NULL, NULL }

extern CU_TestInfo cbt_map_tests[];
extern CU_TestInfo copied_map_tests[];
extern CU_TestInfo diff_storage_tests[];
extern CU_TestInfo extent_map_tests[];
extern CU_TestInfo range_set_tests[];
extern CU_TestInfo sparse_map_tests[];

/* A stream of random numbers; the same seed gives the same stream. */
struct test_random {
	u64 state;
};

/* Every model check starts its own stream from the seed of the run. */
struct test_random test_random_start(void);
u64 test_random(struct test_random *random);
/* 0 to @limit - 1 */
u64 test_random_below(struct test_random *random, u64 limit);
/* True in @percent of 100 cases. */
bool test_chance(struct test_random *random, unsigned int percent);

#endif /* BLKSNAP_UNIT_TEST_H */
