/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Submits held bios from workers
 *
 * A bio that was held where nobody may submit (in a completion, under
 * current->bio_list, while a gate was closed) is handed to a releaser.  Its
 * workers take the bios one at a time, in order, so that a submission that
 * sleeps (a throttled cgroup, a full tag set) holds up one worker and one bio,
 * not the bios behind it.
 */
#ifndef BLKSNAP_RELEASER_H
#define BLKSNAP_RELEASER_H

#include <linux/bio.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>

/* Submissions of one releaser that may sleep before the others have to wait. */
#define RELEASER_WORKERS 4U

typedef void (*releaser_fn)(void *data, struct bio *bio);

struct releaser;

struct releaser_worker {
	struct work_struct work;
	struct releaser *releaser;
};

/**
 * struct releaser - bios to be handled by workers
 * @wq:		where the workers are queued
 * @fn:		called for each bio
 * @data:	handed to @fn
 * @workers:	share the list
 * @lock:	guards what follows; irq-safe
 * @bios:	not taken by a worker yet
 * @busy:	bit mask of workers that are queued or running
 * @is_spare_queued: one of them has not started yet
 *
 * Embedded in its owner, who has to releaser_drain() it before it goes.
 */
struct releaser {
	struct workqueue_struct *wq;
	releaser_fn fn;
	void *data;
	struct releaser_worker workers[RELEASER_WORKERS];

	spinlock_t lock;		/* everything below */
	struct bio_list bios;
	unsigned long busy;
	bool is_spare_queued;
};

/* For releasers whose function does nothing but submit or judge bios. */
extern struct workqueue_struct *releaser_wq;

int releaser_module_init(void);
void releaser_module_exit(void);

void releaser_init(struct releaser *releaser, struct workqueue_struct *wq, releaser_fn fn,
		   void *data);
void releaser_drain(struct releaser *releaser);
void releaser_add(struct releaser *releaser, struct bio *bio);
void releaser_add_list(struct releaser *releaser, struct bio_list *bios);

void releaser_submit_bio(struct bio *bio);

#endif /* BLKSNAP_RELEASER_H */
