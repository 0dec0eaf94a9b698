/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Submits bios again that were taken at the filter
 *
 * A bio that was taken where it may not be submitted (in the filter's callback,
 * in a completion, while a gate was closed) is put on a list here, and a worker
 * hands it to the function of the list's owner.  There is one such list for each
 * tracked disk.  Synchronous writes have a worker of their own, because a
 * submission may sleep, and writeback sleeps most.
 *
 * resubmit_bio() and resubmit_bios() may be called in any context but NMI, the
 * filter's callback on PREEMPT_RT included.  The other functions may sleep.
 */
#ifndef BLKSNAP_RESUBMIT_H
#define BLKSNAP_RESUBMIT_H

#include <linux/bio.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>

struct resubmit;

/* Called in a worker for each bio, which it owns. */
typedef void (*resubmit_fn)(struct resubmit *resubmit, struct bio *bio);

/**
 * struct resubmit_lane - bios of one kind
 * @work:	hands them over one after the other
 * @owner:	the lanes' owner
 * @lock:	guards @bios; raw, because the filter's callback takes it
 * @bios:	not handed over yet
 */
struct resubmit_lane {
	struct work_struct work;
	struct resubmit *owner;
	raw_spinlock_t lock;
	struct bio_list bios;
};

/**
 * struct resubmit - bios to be submitted again
 * @fn:		what the workers call
 * @wq:		their own: a device above waits in one of them for the device below
 * @sync:	synchronous writes
 * @async:	all others
 *
 * Embedded in its owner, which calls resubmit_drain() before it goes.
 */
struct resubmit {
	resubmit_fn fn;
	struct workqueue_struct *wq;
	struct resubmit_lane sync;
	struct resubmit_lane async;
};

int resubmit_init(struct resubmit *resubmit, resubmit_fn fn);
void resubmit_exit(struct resubmit *resubmit);
void resubmit_drain(struct resubmit *resubmit);
void resubmit_bio(struct resubmit *resubmit, struct bio *bio);
void resubmit_bios(struct resubmit *resubmit, struct bio_list *bios);

bool resubmit_is_worker(void);
void resubmit_now(struct bio *bio);
void resubmit_for_cgroup(struct bio *bio);

#endif /* BLKSNAP_RESUBMIT_H */
