// SPDX-License-Identifier: GPL-2.0
/*
 * Looking at images while everything else goes on
 *
 * What a sector of an image held when it was first read is remembered, and it
 * has to be the same whenever it is read again, unless it was written through
 * the image.  Whether it is right is judged later, for all of an image at once.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "test_torture.h"

#define MAX_PIECE_SECTORS 1024U

/* --- what is in it --- */

static void tell_change(struct view *view, uint64_t sector, const void *data)
{
	struct origin *origin = view->origin;

	if (fault_is_worth_telling(FAULT_CHANGED)) {
		ktap_note("%s of %s, sector %llu, shot %u, take from %llu to %llu:",
			  view->path, origin->disk->path,
			  (unsigned long long)sector, view->shot->number,
			  (unsigned long long)view->shot->take_start,
			  (unsigned long long)view->shot->take_end);
		report_sector(origin->medium, "seen", data);
		report_sector(origin->medium, "expected",
			      origin->now + sector * SECTOR_SIZE);
	}
	fault_add(FAULT_CHANGED, "%s is not what it was", view->path);
}

/* Learn what is seen for the first time, and compare the rest. */
static void take_note(struct view *view, uint64_t sector, uint64_t nr_sectors,
		      const uint8_t *data)
{
	struct origin *origin = view->origin;
	uint64_t s;

	if (atomic_load(&view->is_wild))
		return;
	pthread_mutex_lock(&view->seen_lock);
	for (s = sector; s < sector + nr_sectors && s < origin->nr_used;
	     s++, data += SECTOR_SIZE) {
		uint8_t *now = origin->now + s * SECTOR_SIZE;

		if (!origin->seen[s]) {
			origin->seen[s] = 1;
			memcpy(now, data, SECTOR_SIZE);
			memcpy(origin->first + s * SECTOR_SIZE, data,
			       SECTOR_SIZE);
		} else if (memcmp(now, data, SECTOR_SIZE)) {
			tell_change(view, s, data);
			break;
		}
	}
	pthread_mutex_unlock(&view->seen_lock);
	torture.nr_read_bytes += nr_sectors * SECTOR_SIZE;
}

/* A request to an image has failed: may it? */
static void judge_failure(struct view *view, const char *what, ssize_t ret)
{
	const int error = ret < 0 ? errno : 0;

	/* Destruction has begun before it fails anything. */
	if (atomic_load(&view->shot->is_going)) {
		torture.nr_read_while_destroyed++;
		return;
	}
	/* What fails in its second half may come back short. */
	if ((error == EIO || ret > 0) && view->shot->plan != PLAN_AMPLE) {
		atomic_store(&view->saw_error, true);
		return;
	}
	fault_add(FAULT_IO, "%s %s of shot %u: %s", what, view->path,
		  view->shot->number, ret < 0 ? strerror(error) : "short");
}

/* --- reading and writing --- */

static bool view_read(struct view *view, int fd, uint64_t sector,
		      uint64_t nr_sectors, void *buffer)
{
	ssize_t ret;

	pthread_rwlock_rdlock(&view->lock);
	ret = pread(fd, buffer, nr_sectors * SECTOR_SIZE, sector * SECTOR_SIZE);
	if (ret == (ssize_t)(nr_sectors * SECTOR_SIZE))
		take_note(view, sector, nr_sectors, buffer);
	else
		judge_failure(view, "reading", ret);
	pthread_rwlock_unlock(&view->lock);
	return ret == (ssize_t)(nr_sectors * SECTOR_SIZE);
}

/* A piece anywhere in the image, in logical blocks. */
static uint64_t choose_piece(const struct view *view, struct random *random,
			     uint64_t nr_sectors, uint64_t *nr)
{
	const unsigned int unit = view->origin->medium->block_sectors;
	uint64_t at;

	*nr = 1 + random_below(random, 1ULL << random_below(random, 11));
	if (*nr > MAX_PIECE_SECTORS)
		*nr = MAX_PIECE_SECTORS;
	*nr = (*nr + unit - 1) / unit * unit;
	at = random_below(random, nr_sectors - *nr + 1);
	return at / unit * unit;
}

static bool read_piece(struct view *view, struct worker *worker)
{
	struct random *random = &worker->random;
	uint64_t nr, at;

	at = choose_piece(view, random, view->origin->nr_sectors, &nr);
	worker_doing(worker, "reading an image");
	return view_read(view, random_below(random, 4) ? view->direct :
							 view->cached,
			 at, nr, worker->buffer);
}

static void note_image_write(struct view *view, uint64_t sector, uint64_t nr,
			     const void *data)
{
	struct origin *origin = view->origin;
	const uint64_t now = tick();
	uint64_t block;

	memcpy(origin->now + sector * SECTOR_SIZE, data, nr * SECTOR_SIZE);
	for (block = sector / BLOCK_SECTORS;
	     block <= (sector + nr - 1) / BLOCK_SECTORS; block++)
		atomic_store(&origin->touched[block], now);
}

static bool is_seen(const struct view *view, uint64_t sector, uint64_t nr)
{
	return !memchr(view->origin->seen + sector, 0, nr);
}

/* Write to the image; the origin may not notice, neighbours neither. */
static bool write_piece(struct view *view, struct worker *worker)
{
	struct origin *origin = view->origin;
	bool ok = true;
	uint64_t nr, at;
	ssize_t ret;

	at = choose_piece(view, &worker->random, origin->nr_used, &nr);
	/* What was there before has to be judged as well. */
	if (!is_seen(view, at, nr) &&
	    !view_read(view, view->direct, at, nr, worker->buffer))
		return false;
	worker_doing(worker, "writing to an image");
	pthread_rwlock_wrlock(&view->lock);
	if (atomic_load(&view->may_write) && !atomic_load(&view->is_wild)) {
		stamp_words(origin->medium, worker->buffer, origin->start + at,
			    nr, image_op_next());
		ret = pwrite(view->direct, worker->buffer, nr * SECTOR_SIZE,
			     at * SECTOR_SIZE);
		ok = ret == (ssize_t)(nr * SECTOR_SIZE);
		if (ok) {
			note_image_write(view, at, nr, worker->buffer);
		} else {
			judge_failure(view, "writing to", ret);
			/* Nobody knows what it has left behind. */
			atomic_store(&view->is_wild, true);
		}
		torture.nr_image_writes++;
	}
	pthread_rwlock_unlock(&view->lock);
	return ok;
}

/* Read all of it, in pieces, in order or not; false if that did not work. */
bool view_read_all(struct view *view, struct worker *worker)
{
	const uint64_t step = 128ULL << random_below(&worker->random, 7);
	const uint64_t nr_sectors = view->origin->nr_sectors;
	const bool is_backwards = random_below(&worker->random, 4) == 0;
	uint64_t at, nr;

	for (at = 0; at < nr_sectors; at += step) {
		nr = nr_sectors - at < step ? nr_sectors - at : step;
		worker_doing(worker, "reading all of an image");
		if (!view_read(view, view->direct,
			       is_backwards ? nr_sectors - at - nr : at, nr,
			       worker->buffer))
			return false;
	}
	torture.nr_images++;
	return true;
}

/* --- who looks --- */

/* Let lookers come. */
void view_show(struct view *view)
{
	pthread_mutex_lock(&torture.lock);
	view->is_shown = true;
	pthread_mutex_unlock(&torture.lock);
}

/* Let no more come, and wait for those who are here. */
void view_hide(struct view *view)
{
	pthread_mutex_lock(&torture.lock);
	view->is_shown = false;
	while (view->nr_users)
		pthread_cond_wait(&torture.changed, &torture.lock);
	pthread_mutex_unlock(&torture.lock);
}

static struct view *get_view(struct random *random)
{
	struct view *view;

	pthread_mutex_lock(&torture.lock);
	view = view_pick(random);
	if (view)
		view->nr_users++;
	pthread_mutex_unlock(&torture.lock);
	return view;
}

static void put_view(struct view *view)
{
	pthread_mutex_lock(&torture.lock);
	if (!--view->nr_users)
		pthread_cond_broadcast(&torture.changed);
	pthread_mutex_unlock(&torture.lock);
}

/* Look at some image, and write to it if that is wanted; worker_fn. */
void looker_work(struct worker *worker)
{
	struct random *random = &worker->random;
	struct view *view = get_view(random);
	bool ok = view;
	unsigned int i;

	for (i = 1 + random_below(random, 8); ok && i; i--) {
		if (atomic_load(&view->may_write) && !random_below(random, 3))
			ok = write_piece(view, worker);
		else
			ok = read_piece(view, worker);
	}
	if (view)
		put_view(view);
	if (ok)
		return;
	worker_doing(worker, "resting");
	sleep_ms(2);
}

/* --- what is to be said in the end --- */

static struct evidence evidence_of(const struct shot *shot,
				   const struct view *view)
{
	return (struct evidence) {
		.medium = view->origin->medium,
		.what = "image of",
		.path = view->origin->disk->path,
		.start = view->origin->start,
		.nr_sectors = view->origin->nr_used,
		.data = view->origin->first,
		.seen = view->origin->seen,
		.take_start = shot->take_start,
		.take_end = shot->take_end,
	};
}

static void compare_with_shadow(const struct view *view)
{
	const struct origin *origin = view->origin;
	uint64_t s;

	for (s = 0; s < origin->nr_used; s++) {
		const uint64_t at = s * SECTOR_SIZE;

		if (!origin->seen[s] ||
		    !memcmp(origin->first + at, origin->shadow + at,
			    SECTOR_SIZE))
			continue;
		ktap_note("%s of %s, sector %llu, taken while all stood still:",
			  view->path, origin->disk->path, (unsigned long long)s);
		report_sector(origin->medium, "seen", origin->first + at);
		report_sector(origin->medium, "expected", origin->shadow + at);
		fault_add(FAULT_IMAGE, "%s differs from the copy of %s",
			  view->path, origin->disk->path);
		return;
	}
}

static uint64_t view_instant(struct view *view)
{
	const struct evidence evidence = evidence_of(view->shot, view);
	uint64_t instant;

	pthread_mutex_lock(&view->seen_lock);
	instant = evidence_instant(&evidence);
	pthread_mutex_unlock(&view->seen_lock);
	return instant;
}

static void view_judge_one(struct view *view, uint64_t instant)
{
	const struct evidence evidence = evidence_of(view->shot, view);

	/* Lookers may still be learning what is in it. */
	pthread_mutex_lock(&view->seen_lock);
	if (view->has_shadow)
		compare_with_shadow(view);
	if (!evidence_judge(&evidence, instant))
		fault_add(FAULT_IMAGE, "%s of shot %u holds what it must not",
			  view->path, view->shot->number);
	pthread_mutex_unlock(&view->seen_lock);
}

/* Judge what has been seen of all images of a shot. */
void view_judge(struct shot *shot)
{
	uint64_t instant = shot->take_start, latest;
	unsigned int i;

	for (i = 0; i < shot->nr_views; i++) {
		if (shot->views[i].origin->medium->has_files)
			continue;
		latest = view_instant(&shot->views[i]);
		if (latest > instant)
			instant = latest;
	}
	for (i = 0; i < shot->nr_views; i++)
		if (!shot->views[i].origin->medium->has_files)
			view_judge_one(&shot->views[i], instant);
}

/*
 * The end of the origin is storage of the snapshot: zeros, not to be written to.
 * Its first blocks may be used in part, and its last ones not at all.
 */
void view_check_storage(struct view *view, struct worker *worker)
{
	const struct origin *origin = view->origin;
	const uint64_t end = origin->nr_sectors - UNUSED_SECTORS;
	const uint64_t nr = (end - origin->nr_used) / 2;
	const uint64_t at = (end - nr) * SECTOR_SIZE;
	ssize_t ret;

	worker_doing(worker, "reading storage in an image");
	ret = pread(view->direct, worker->buffer, nr * SECTOR_SIZE, at);
	if (atomic_load(&view->nr_corrupted))
		return;
	if (ret != (ssize_t)(nr * SECTOR_SIZE) ||
	    !is_filled_with(worker->buffer, 0, nr * SECTOR_SIZE))
		fault_add(FAULT_IMAGE, "storage in %s is no zeros: %s",
			  view->path, ret < 0 ? strerror(errno) : "data");
	ret = pwrite(view->direct, worker->buffer, MIB / 16, at);
	if (ret >= 0 || errno != ENOSPC)
		fault_add(FAULT_IMAGE, "storage in %s can be written to: %s",
			  view->path, ret < 0 ? strerror(errno) : "data");
}

/* The image is lost: reading must fail, and go on failing. */
void view_expect_lost(struct view *view, struct worker *worker)
{
	const unsigned int unit = view->origin->medium->block_sectors;

	worker_doing(worker, "reading a lost image");
	if (pread(view->direct, worker->buffer, unit * SECTOR_SIZE, 0) >= 0)
		fault_add(FAULT_EVENT, "%s can be read after it was lost",
			  view->path);
	else if (errno != EIO)
		fault_add(FAULT_IO, "reading the lost %s: %s", view->path,
			  strerror(errno));
}
