/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Another tracer of submit_bio_noacct(), and a watch on sleeping locks
 */
#ifndef TEST_RT_H
#define TEST_RT_H

#include "blksnap_test.h"

/* Trace all bios until watch_stop(); false if the kernel cannot. */
bool watch_start_kprobe(void);
bool watch_start_function(void);
void watch_stop(void);

/* Check that bios were traced and no sleeping lock was taken in atomic context. */
void watch_expect_nothing(void);

#endif /* TEST_RT_H */
