/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Threads that work on demand
 *
 * Each thread of a crew calls the same function over and over, as often as it
 * was granted.  crew_wait() returns when every grant is used up and nobody is
 * working: then everything stands still until the next grant.
 */
#ifndef CREW_H
#define CREW_H

#include <pthread.h>
#include <stdbool.h>

#include "blksnap_test.h"

#define CREW_MAX 8
#define CREW_FOR_EVER (~0U)

struct crew;

struct crew_member {
	struct crew *crew;
	pthread_t thread;
	unsigned int index;
	struct random random;
	void *buffer;		/* of CREW_BUFFER_BYTES, aligned, random bytes */
	unsigned int todo;	/* crew->lock */
	bool is_working;	/* crew->lock */
};

#define CREW_BUFFER_BYTES (4 * MIB)

/* Work once.  Returns NULL, or what went wrong; that ends the work of all. */
typedef const char *(*crew_fn)(struct crew_member *member, void *data);

struct crew {
	crew_fn work;
	void *data;
	unsigned int nr_members;
	struct crew_member members[CREW_MAX];

	pthread_mutex_t lock;	/* everything below */
	pthread_cond_t changed;
	bool is_over;
	unsigned long long nr_done;
	char error[200];
};

void crew_start(struct crew *crew, unsigned int nr_members, uint64_t seed,
		crew_fn work, void *data);
void crew_stop(struct crew *crew);
void crew_grant(struct crew *crew, unsigned int nr_times);
void crew_wait(struct crew *crew);
void crew_halt(struct crew *crew);
const char *crew_error(struct crew *crew);

#endif /* CREW_H */
