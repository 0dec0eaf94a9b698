// SPDX-License-Identifier: GPL-2.0
/*
 * Submission of held bios from workers
 *
 * Submitting may sleep: a throttled cgroup, a full tag set.  So a releaser has
 * several workers that share one list and each take one bio at a time.  While
 * there are bios in the list, one more worker than those that run is queued: if
 * all that run are asleep in a submission, that one goes on.
 *
 * Lock order: releaser->lock is a leaf.
 */
#include "blksnap.h"

#include <linux/blkdev.h>

#include "releaser.h"

/* Shared with nothing that waits for copies: those wait for releases. */
struct workqueue_struct *releaser_wq;

/* Chooses a worker to be queued by the caller, if there is need and one left. */
static struct releaser_worker *releaser_choose(struct releaser *releaser)
{
	unsigned int nr;

	lockdep_assert_held(&releaser->lock);
	if (releaser->is_spare_queued || bio_list_empty(&releaser->bios))
		return NULL;
	nr = find_first_zero_bit(&releaser->busy, RELEASER_WORKERS);
	if (nr == RELEASER_WORKERS)
		return NULL;
	__set_bit(nr, &releaser->busy);
	releaser->is_spare_queued = true;
	return &releaser->workers[nr];
}

static void releaser_queue(struct releaser_worker *worker)
{
	if (worker)
		queue_work(worker->releaser->wq, &worker->work);
}

static struct bio *releaser_pop(struct releaser_worker *worker)
{
	struct releaser *releaser = worker->releaser;
	struct releaser_worker *spare;
	struct bio *bio;

	spin_lock_irq(&releaser->lock);
	bio = bio_list_pop(&releaser->bios);
	spare = releaser_choose(releaser);
	spin_unlock_irq(&releaser->lock);
	releaser_queue(spare);
	return bio;
}

/* Ends a worker that may end: not one that has to look again. */
static bool releaser_rest(struct releaser_worker *worker)
{
	struct releaser *releaser = worker->releaser;
	bool may_rest;

	spin_lock_irq(&releaser->lock);
	may_rest = bio_list_empty(&releaser->bios);
	if (may_rest)
		__clear_bit(worker - releaser->workers, &releaser->busy);
	spin_unlock_irq(&releaser->lock);
	return may_rest;
}

static void releaser_work(struct work_struct *work)
{
	struct releaser_worker *worker = container_of(work, struct releaser_worker, work);
	struct releaser *releaser = worker->releaser;
	struct blk_plug plug;
	struct bio *bio;

	spin_lock_irq(&releaser->lock);
	releaser->is_spare_queued = false;
	spin_unlock_irq(&releaser->lock);

	do {
		blk_start_plug(&plug);
		while ((bio = releaser_pop(worker)))
			releaser->fn(releaser->data, bio);
		/* May sleep, so before others may count on this worker. */
		blk_finish_plug(&plug);
	} while (!releaser_rest(worker));
}

/**
 * releaser_init() - set up an embedded releaser
 * @releaser:	memory of the owner, which has to releaser_drain() before it goes
 * @wq:		WQ_UNBOUND | WQ_MEM_RECLAIM
 * @fn:		called in a worker for each bio added; owns the bio
 * @data:	handed to @fn
 */
void releaser_init(struct releaser *releaser, struct workqueue_struct *wq, releaser_fn fn,
		   void *data)
{
	unsigned int i;

	releaser->wq = wq;
	releaser->fn = fn;
	releaser->data = data;
	for (i = 0; i < RELEASER_WORKERS; i++) {
		releaser->workers[i].releaser = releaser;
		INIT_WORK(&releaser->workers[i].work, releaser_work);
	}
	spin_lock_init(&releaser->lock);
	bio_list_init(&releaser->bios);
	releaser->busy = 0;
	releaser->is_spare_queued = false;
}

static bool releaser_is_idle(struct releaser *releaser)
{
	bool is_idle;

	spin_lock_irq(&releaser->lock);
	is_idle = !releaser->busy && bio_list_empty(&releaser->bios);
	spin_unlock_irq(&releaser->lock);
	return is_idle;
}

/**
 * releaser_drain() - wait until every bio added so far has been handled
 * @releaser:	the releaser; the caller sees to it that nothing new is added,
 *		except by @fn itself
 *
 * Context: Process context, sleeps.
 */
void releaser_drain(struct releaser *releaser)
{
	unsigned int i;

	do {
		for (i = 0; i < RELEASER_WORKERS; i++)
			flush_work(&releaser->workers[i].work);
	} while (!releaser_is_idle(releaser));
	/* The last worker may have cleared its bit, but not returned yet. */
	for (i = 0; i < RELEASER_WORKERS; i++)
		flush_work(&releaser->workers[i].work);
}

/**
 * releaser_add() - hand over one bio
 * @releaser:	the releaser
 * @bio:	held by the caller, whose it no longer is
 *
 * Context: Any.
 */
void releaser_add(struct releaser *releaser, struct bio *bio)
{
	struct bio_list bios = BIO_EMPTY_LIST;

	bio_list_add(&bios, bio);
	releaser_add_list(releaser, &bios);
}

/**
 * releaser_add_list() - hand over a list of bios
 * @releaser:	the releaser
 * @bios:	list held by the caller, empty afterwards
 *
 * Context: Any.
 */
void releaser_add_list(struct releaser *releaser, struct bio_list *bios)
{
	struct releaser_worker *worker;
	unsigned long flags;

	if (bio_list_empty(bios))
		return;
	spin_lock_irqsave(&releaser->lock, flags);
	bio_list_merge(&releaser->bios, bios);
	worker = releaser_choose(releaser);
	spin_unlock_irqrestore(&releaser->lock, flags);
	bio_list_init(bios);
	releaser_queue(worker);
}

/**
 * releaser_submit_bio() - submit a bio that was held at the filter
 * @bio:	as it was when the filter saw it
 *
 * A held bio has not been touched by the block layer yet, so submitting it
 * again is all there is to do.  Two promises made to its submitter cannot be
 * kept by somebody else, though: a worker must not see -EAGAIN, for the
 * submitter has been told that the bio is on its way (and did not block); and
 * nobody polls a queue for a bio that was not there.  Such a bio completes by
 * interrupt.
 *
 * Context: Process context, may sleep as submitting does.
 */
void releaser_submit_bio(struct bio *bio)
{
	bio->bi_opf &= ~REQ_NOWAIT;
	bio_clear_polled(bio);
	submit_bio_noacct(bio);
}

/**
 * releaser_module_init() - create the workqueue that most releasers share
 *
 * Return: 0 or -ENOMEM.
 */
int releaser_module_init(void)
{
	releaser_wq = alloc_workqueue("blksnap_release", WQ_MEM_RECLAIM | WQ_UNBOUND, 0);
	return releaser_wq ? 0 : -ENOMEM;
}

/**
 * releaser_module_exit() - undo releaser_module_init()
 */
void releaser_module_exit(void)
{
	destroy_workqueue(releaser_wq);
}
