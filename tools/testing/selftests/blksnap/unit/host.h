/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The strings by which a test pulls the host's replacement of the kernel
 */
#ifndef BLKSNAP_UNIT_HOST_H
#define BLKSNAP_UNIT_HOST_H

#include "logic_deps.h"

/* Forget failures, warnings and injected faults; called before each test. */
void host_reset(void);

/* Let the allocation fail that comes after @nr_good others. */
void host_fail_alloc_after(long nr_good);
/* Let @nr_bad of 1000 allocations fail, at random; 0 ends it. */
void host_fail_allocs_randomly(unsigned int nr_bad, u64 seed);
/* No more failures. */
void host_fail_no_alloc(void);

/* Since host_reset(): allocations tried, and those that were made to fail. */
unsigned long host_nr_allocs(void);
unsigned long host_nr_failed_allocs(void);
/* Allocated at this moment. */
long host_nr_objects(void);

/* From now on, or no longer, this thread is where nobody may sleep. */
void host_forbid_sleep(bool is_forbidden);

/* Warnings since the last call. */
unsigned int host_take_warnings(void);

/* How often way was given to others since host_reset(). */
unsigned long host_nr_times_yielded(void);

/* Spinlocks that this thread holds. */
unsigned int host_nr_locks_held(void);

#endif /* BLKSNAP_UNIT_HOST_H */
