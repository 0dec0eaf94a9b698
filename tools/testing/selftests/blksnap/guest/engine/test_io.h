/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tests of test_io that live in a file of their own
 */
#ifndef TEST_IO_H
#define TEST_IO_H

#include "blksnap_test.h"

extern const struct ktap_test discard_tests[];
void discard_tear_down(void);

extern const struct ktap_test latency_tests[];
void latency_tear_down(void);

extern const struct ktap_test pass_tests[];
void pass_tear_down(void);

extern const struct ktap_test throttle_tests[];
void throttle_tear_down(void);

#endif /* TEST_IO_H */
