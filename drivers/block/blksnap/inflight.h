/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Writes in flight on a disk, counted from the filter to their completion
 *
 * A snapshot is taken at one instant: no write that passed the filter before it
 * may reach the media after it.  Such a write can sit below the filter for
 * seconds (throttled, delayed, encrypted), where nobody can find it.  So every
 * write to a disk with a tracker is counted from its passing to its completion,
 * and a take closes the gate (new writes are kept back), waits until the count
 * is zero, switches, and opens the gate.
 *
 * inflight_counts(), _keep() and _count() are the fast path: in this order, under
 * one rcu_read_lock(), in any context.  The rest is control path.
 */
#ifndef BLKSNAP_INFLIGHT_H
#define BLKSNAP_INFLIGHT_H

#include <linux/bio.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>

#include "releaser.h"

/**
 * struct inflight - the writes in flight on one disk
 * @count:	sum over the CPUs: bios that hold a context
 * @starved:	bios that found no memory for a context
 * @released:	bios let go by the gate
 * @reap:	frees a destroyed counter once it is zero
 * @lock:	guards what follows
 * @gates:	how many times the gate is closed
 * @kept:	bios that met the closed gate
 *
 * Owned by the tracked disk until inflight_destroy(), from then on by @reap.
 * Of interest to inflight.c and to the inline functions below.
 */
struct inflight {
	long __percpu *count;
	struct releaser starved;
	struct releaser released;
	struct delayed_work reap;

	spinlock_t lock;	/* everything below; gates is read without it */
	unsigned int gates;
	struct bio_list kept;
};

int inflight_module_init(void);
void inflight_module_exit(void);

struct inflight *inflight_create(void);
void inflight_destroy(struct inflight *inflight);

void inflight_end_io(struct bio *bio);
bool __inflight_counts(const struct inflight *inflight, const struct bio *bio);
bool __inflight_keep(struct inflight *inflight, struct bio *bio);
bool inflight_count(struct inflight *inflight, struct bio *bio);

/**
 * inflight_counts() - does this counter count this bio already?
 * @inflight:	the counter
 * @bio:	any bio
 *
 * A remainder of a split comes back to the filter, and so does a bio that a
 * driver has put off.  It is in flight already: neither the gate nor anything
 * else may keep it back.
 *
 * Context: Any, where @bio is not completed meanwhile.
 * Return: true if @bio passed inflight_count() and has not completed yet.
 */
static inline bool inflight_counts(const struct inflight *inflight, const struct bio *bio)
{
	return unlikely(bio->bi_end_io == inflight_end_io) && __inflight_counts(inflight, bio);
}

/**
 * inflight_keep() - keep a write back if the gate is closed
 * @inflight:	counter of the disk that @bio goes to
 * @bio:	write that is not counted yet
 *
 * To be called before anything that a take switches is looked at: a write that
 * finds the gate open before it closes is waited for by inflight_gate(), and one
 * that finds it open again sees all that was switched meanwhile.
 *
 * Context: The filter's callback, under rcu_read_lock().
 * Return: true if @bio is now ours and will be submitted again; false if the
 *	   gate is open, and stays as it is for whoever waits for RCU.
 */
static inline bool inflight_keep(struct inflight *inflight, struct bio *bio)
{
	/* Pairs with smp_store_release() in inflight_ungate(). */
	return unlikely(smp_load_acquire(&inflight->gates)) && __inflight_keep(inflight, bio);
}

void inflight_gate(struct inflight *inflight);
int inflight_drain(struct inflight *inflight, unsigned long deadline);
void inflight_ungate(struct inflight *inflight);

#endif /* BLKSNAP_INFLIGHT_H */
