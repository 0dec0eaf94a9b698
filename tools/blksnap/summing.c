// SPDX-License-Identifier: GPL-2.0
/*
 * The checksums of a layer that is written, made by a thread
 */
#include "message.h"
#include "summing.h"
#include "thread.h"

static int end_piece(struct summing *summing)
{
	char sum[CHECKSUM_TEXT_SIZE];
	int ret;

	if (!summing->piece.open)
		return EXIT_OK;
	ret = piece_end(&summing->piece, sum);
	return ret ? ret : layer_map_add_piece(summing->map,
					       summing->piece.index, sum);
}

static int do_job(struct summing *summing, const struct summing_job *job)
{
	int ret = EXIT_OK;

	if (piece_ends(&summing->piece, job->offset))
		ret = end_piece(summing);
	piece_add(&summing->piece, job->data, job->nr_bytes, job->offset);
	return ret;
}

static void *run(void *arg)
{
	struct summing *summing = arg;
	int ret;

	pthread_mutex_lock(&summing->lock);
	for (;;) {
		while (summing->nr_done == summing->nr_added && !summing->ending)
			pthread_cond_wait(&summing->changed, &summing->lock);
		if (summing->nr_done == summing->nr_added)
			break;
		pthread_mutex_unlock(&summing->lock);
		ret = do_job(summing, &summing->jobs[summing->nr_done %
						     SUMMING_NR_JOBS]);
		pthread_mutex_lock(&summing->lock);
		summing->nr_done++;
		if (!summing->ret)
			summing->ret = ret;
		pthread_cond_signal(&summing->changed);
	}
	pthread_mutex_unlock(&summing->lock);
	return NULL;
}

/**
 * summing_begin() - start the thread
 * @summing:	to be given to summing_end() on success
 * @map:	gets the checksums
 * @key:	of the layer, NULL if it is not encrypted
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int summing_begin(struct summing *summing, struct layer_map *map,
		  const struct key *key)
{
	*summing = (struct summing) {
		.map = map,
		.piece.key = key,
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.changed = PTHREAD_COND_INITIALIZER,
	};
	return thread_start(&summing->thread, run, summing);
}

/**
 * summing_add() - have data summed
 * @summing:	the thread
 * @data:	the data, which lies in one piece
 * @nr_bytes:	its size
 * @offset:	where it is on the disk
 *
 * Return: what summing_wait() wants to know for this data.
 */
uint64_t summing_add(struct summing *summing, const void *data,
		     size_t nr_bytes, uint64_t offset)
{
	uint64_t nr_added;

	pthread_mutex_lock(&summing->lock);
	while (summing->nr_added - summing->nr_done == SUMMING_NR_JOBS)
		pthread_cond_wait(&summing->changed, &summing->lock);
	summing->jobs[summing->nr_added % SUMMING_NR_JOBS] =
		(struct summing_job) { data, nr_bytes, offset };
	nr_added = ++summing->nr_added;
	pthread_cond_signal(&summing->changed);
	pthread_mutex_unlock(&summing->lock);
	return nr_added;
}

/**
 * summing_wait() - wait until data has been summed
 * @summing:	the thread
 * @nr_done:	what summing_add() returned for it, 0 for nothing
 */
void summing_wait(struct summing *summing, uint64_t nr_done)
{
	pthread_mutex_lock(&summing->lock);
	while (summing->nr_done < nr_done)
		pthread_cond_wait(&summing->changed, &summing->lock);
	pthread_mutex_unlock(&summing->lock);
}

/**
 * summing_end() - wait for all that was added, and end the thread
 * @summing:	the thread
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int summing_end(struct summing *summing)
{
	int ret;

	pthread_mutex_lock(&summing->lock);
	summing->ending = true;
	pthread_cond_signal(&summing->changed);
	pthread_mutex_unlock(&summing->lock);
	pthread_join(summing->thread, NULL);
	ret = summing->ret ? summing->ret : end_piece(summing);
	checksum_free(&summing->piece.sum);
	return ret;
}
