/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Writers of an origin and readers of its image, while something happens
 *
 * Before the take the first TRAFFIC_BYTES of the origin held OLD_BYTE.  So whatever a reader of
 * the image gets has to be that, for ever: anything else is an error, and so is
 * an end of the image before its end.  Writing and reading may fail only once it
 * is allowed to, and is tried again then.
 */
#ifndef TEST_LIFE_TRAFFIC_H
#define TEST_LIFE_TRAFFIC_H

#include <stdatomic.h>

#include "crew.h"
#include "test_life.h"

struct traffic {
	struct crew crew;
	unsigned int nr_writers;
	int origin;		/* file descriptors, direct */
	int image;
	atomic_bool may_writes_fail;
	atomic_bool may_reads_fail;
	atomic_uint nr_written;
	atomic_uint nr_read;
	atomic_uint nr_failed_writes;
	atomic_uint nr_failed_reads;
};

/*
 * Two writers and two readers start at once; either path may be NULL.  Reads may
 * fail from the beginning if @may_reads_fail.  Keep
 * @traffic until traffic_stop(), also where an assertion ends the test: it is
 * stopped by the tear-down then.
 */
void traffic_start(const char *origin_path, const char *image_path,
		   bool may_reads_fail);
struct traffic *traffic_now(void);

/* Wait until @count has grown by @nr; false if it does not. */
bool traffic_wait(atomic_uint *count, unsigned int nr);

/* Returns what went wrong, or NULL; nothing goes on after it. */
const char *traffic_stop(void);

#endif /* TEST_LIFE_TRAFFIC_H */
