// SPDX-License-Identifier: GPL-2.0
/*
 * Threads that work on demand
 */
#include <stdlib.h>
#include <string.h>

#include "crew.h"

static bool crew_is_idle(const struct crew *crew)
{
	unsigned int i;

	for (i = 0; i < crew->nr_members; i++)
		if (crew->members[i].todo || crew->members[i].is_working)
			return false;
	return true;
}

static void crew_clear(struct crew *crew)
{
	unsigned int i;

	for (i = 0; i < crew->nr_members; i++)
		crew->members[i].todo = 0;
}

/* Wait for a grant; false when there will be none. */
static bool crew_next(struct crew_member *member)
{
	struct crew *crew = member->crew;

	while (!member->todo && !crew->is_over)
		pthread_cond_wait(&crew->changed, &crew->lock);
	if (crew->is_over)
		return false;
	if (member->todo != CREW_FOR_EVER)
		member->todo--;
	member->is_working = true;
	return true;
}

static void *crew_run(void *data)
{
	struct crew_member *member = data;
	struct crew *crew = member->crew;
	const char *error;

	pthread_mutex_lock(&crew->lock);
	while (crew_next(member)) {
		pthread_mutex_unlock(&crew->lock);
		error = crew->work(member, crew->data);
		pthread_mutex_lock(&crew->lock);
		member->is_working = false;
		crew->nr_done++;
		if (error) {
			snprintf(crew->error, sizeof(crew->error), "%s", error);
			crew_clear(crew);
		}
		if (crew_is_idle(crew))
			pthread_cond_broadcast(&crew->changed);
	}
	pthread_mutex_unlock(&crew->lock);
	return NULL;
}

void crew_start(struct crew *crew, unsigned int nr_members, uint64_t seed,
		crew_fn work, void *data)
{
	unsigned int i, j;

	memset(crew, 0, sizeof(*crew));
	crew->work = work;
	crew->data = data;
	crew->nr_members = nr_members < CREW_MAX ? nr_members : CREW_MAX;
	pthread_mutex_init(&crew->lock, NULL);
	pthread_cond_init(&crew->changed, NULL);
	for (i = 0; i < crew->nr_members; i++) {
		struct crew_member *member = &crew->members[i];
		uint64_t *words;

		member->crew = crew;
		member->index = i;
		random_init(&member->random, seed + 1000 * i);
		words = alloc_aligned(CREW_BUFFER_BYTES);
		for (j = 0; j < CREW_BUFFER_BYTES / sizeof(*words); j++)
			words[j] = random_next(&member->random);
		member->buffer = words;
		if (pthread_create(&member->thread, NULL, crew_run, member))
			exit(KTAP_FAIL);
	}
}

void crew_stop(struct crew *crew)
{
	unsigned int i;

	pthread_mutex_lock(&crew->lock);
	crew->is_over = true;
	pthread_cond_broadcast(&crew->changed);
	pthread_mutex_unlock(&crew->lock);
	for (i = 0; i < crew->nr_members; i++) {
		pthread_join(crew->members[i].thread, NULL);
		free(crew->members[i].buffer);
	}
	crew->nr_members = 0;
}

/* Let each member work @nr_times more, or CREW_FOR_EVER until crew_halt(). */
void crew_grant(struct crew *crew, unsigned int nr_times)
{
	unsigned int i;

	pthread_mutex_lock(&crew->lock);
	for (i = 0; !crew->error[0] && i < crew->nr_members; i++)
		crew->members[i].todo = nr_times == CREW_FOR_EVER ?
				nr_times : crew->members[i].todo + nr_times;
	pthread_cond_broadcast(&crew->changed);
	pthread_mutex_unlock(&crew->lock);
}

void crew_wait(struct crew *crew)
{
	pthread_mutex_lock(&crew->lock);
	while (!crew_is_idle(crew))
		pthread_cond_wait(&crew->changed, &crew->lock);
	pthread_mutex_unlock(&crew->lock);
}

/* Take back what is not used up, and wait for who is working. */
void crew_halt(struct crew *crew)
{
	pthread_mutex_lock(&crew->lock);
	crew_clear(crew);
	while (!crew_is_idle(crew))
		pthread_cond_wait(&crew->changed, &crew->lock);
	pthread_mutex_unlock(&crew->lock);
}

/* What went wrong, or NULL. */
const char *crew_error(struct crew *crew)
{
	return crew->error[0] ? crew->error : NULL;
}
