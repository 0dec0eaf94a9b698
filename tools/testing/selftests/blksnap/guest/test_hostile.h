/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the parts of test_hostile share
 */
#ifndef TEST_HOSTILE_H
#define TEST_HOSTILE_H

#include "blksnap_test.h"

/* Small tracking blocks make maps long, a low limit makes events frequent. */
#define HOSTILE_PARAMETERS "tracking_block_minimum_shift=12 diff_storage_minimum=2048"

void hostile_set_up(void);
void hostile_tear_down(void);

extern const struct ktap_test slow_tests[];

#endif /* TEST_HOSTILE_H */
