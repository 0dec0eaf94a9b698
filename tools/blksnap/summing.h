/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The checksums of a layer that is written, made by a thread
 *
 * SHA-256 takes about as long as all the rest of a backup to a fast disk, so it
 * is made beside that.  Data is given in the order of the disk, and has to stay as
 * it is until summing_wait() has returned.  The pieces of the map belong to the
 * thread from summing_begin() to summing_end().
 */
#ifndef SUMMING_H
#define SUMMING_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "layer_map.h"
#include "piece.h"

/* Of 64K each, about two buffers of data. */
#define SUMMING_NR_JOBS 32

struct summing_job {
	const void *data;
	size_t nr_bytes;
	uint64_t offset;
};

struct summing {
	struct layer_map *map;
	struct piece piece;		/* of the thread */
	pthread_t thread;
	pthread_mutex_t lock;		/* everything below */
	pthread_cond_t changed;
	struct summing_job jobs[SUMMING_NR_JOBS];
	uint64_t nr_added;
	uint64_t nr_done;
	bool ending;
	int ret;			/* of the first that failed */
};

int summing_begin(struct summing *summing, struct layer_map *map,
		  const struct key *key);
uint64_t summing_add(struct summing *summing, const void *data,
		     size_t nr_bytes, uint64_t offset);
void summing_wait(struct summing *summing, uint64_t nr_done);
int summing_end(struct summing *summing);

#endif /* SUMMING_H */
