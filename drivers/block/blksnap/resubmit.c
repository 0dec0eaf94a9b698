// SPDX-License-Identifier: GPL-2.0
/*
 * Submits bios again that were taken at the filter
 *
 * The block layer has not touched a taken bio, so all there is to do is to submit it
 * again: it meets the filter again, and passes if the reason for taking it is gone.
 *
 * Submitting may sleep on behalf of the bio's cgroup (io.cost), and a worker that
 * sleeps would delay the bios of all other cgroups.  So the block layer's own worker
 * of that cgroup submits the bio.
 */
#include "blksnap.h"

#include <linux/blk-cgroup.h>
#include <linux/blkdev.h>

#include "compat.h"
#include "resubmit.h"

static struct bio *resubmit_pop(struct resubmit_lane *lane)
{
	unsigned long flags;
	struct bio *bio;

	raw_spin_lock_irqsave(&lane->lock, flags);
	bio = bio_list_pop(&lane->bios);
	raw_spin_unlock_irqrestore(&lane->lock, flags);
	return bio;
}

static void resubmit_work(struct work_struct *work)
{
	struct resubmit_lane *lane = container_of(work, struct resubmit_lane, work);
	struct blk_plug plug;
	struct bio *bio;

	blk_start_plug(&plug);
	while ((bio = resubmit_pop(lane)))
		lane->owner->fn(lane->owner, bio);
	blk_finish_plug(&plug);
}

/* Are we in a worker that submits bios again? */
bool resubmit_is_worker(void)
{
	struct work_struct *work = current_work();

	return work && work->func == resubmit_work;
}

static void resubmit_init_lane(struct resubmit *resubmit, struct resubmit_lane *lane)
{
	INIT_WORK(&lane->work, resubmit_work);
	lane->owner = resubmit;
	raw_spin_lock_init(&lane->lock);
	bio_list_init(&lane->bios);
}

/* After -ENOMEM, too, resubmit_exit() may be called. */
int resubmit_init(struct resubmit *resubmit, resubmit_fn fn)
{
	resubmit->fn = fn;
	resubmit_init_lane(resubmit, &resubmit->sync);
	resubmit_init_lane(resubmit, &resubmit->async);
	resubmit->wq = alloc_workqueue("blksnap_submit", WQ_MEM_RECLAIM | WQ_UNBOUND, 0);
	return resubmit->wq ? 0 : -ENOMEM;
}

/* After resubmit_drain(). */
void resubmit_exit(struct resubmit *resubmit)
{
	if (resubmit->wq)
		destroy_workqueue(resubmit->wq);
}

/*
 * Waits until every bio added so far has been handed over, as long as the submissions
 * take.  The caller ensures that none is added any more.
 */
void resubmit_drain(struct resubmit *resubmit)
{
	flush_work(&resubmit->sync.work);
	flush_work(&resubmit->async.work);
}

/* @bio was taken at the filter and has not been changed since. */
void resubmit_bio(struct resubmit *resubmit, struct bio *bio)
{
	struct resubmit_lane *lane = op_is_sync(bio->bi_opf) ? &resubmit->sync :
							       &resubmit->async;
	unsigned long flags;

	raw_spin_lock_irqsave(&lane->lock, flags);
	bio_list_add(&lane->bios, bio);
	raw_spin_unlock_irqrestore(&lane->lock, flags);
	queue_work(resubmit->wq, &lane->work);
}

/* Leaves the list empty. */
void resubmit_bios(struct resubmit *resubmit, struct bio_list *bios)
{
	struct bio *bio;

	while ((bio = bio_list_pop(bios)))
		resubmit_bio(resubmit, bio);
}

/*
 * Drops two requests of the submitter that can no longer be met.  REQ_NOWAIT: it did
 * not block and was told that the bio is on its way, so -EAGAIN would come too late.
 * Polling: the submitter polls no queue for a bio that was taken, so it completes by
 * interrupt.
 */
static void resubmit_prepare(struct bio *bio)
{
	bio->bi_opf &= ~REQ_NOWAIT;
	bio_clear_polled(bio);
}

/* In the context of the submitter.  May sleep as submitting does. */
void resubmit_now(struct bio *bio)
{
	resubmit_prepare(bio);
	submit_bio_noacct(bio);
}

/*
 * From a worker.  May sleep as submitting does in the root cgroup; what has to sleep on
 * behalf of another cgroup sleeps elsewhere.
 */
void resubmit_for_cgroup(struct bio *bio)
{
	struct cgroup_subsys_state *css = bio_blkcg_css(bio);

	resubmit_prepare(bio);
	if (css && css != blkcg_root_css)
		blkcg_punt_bio_submit(bio);
	else
		submit_bio_noacct(bio);
}
