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

struct inflight;

int inflight_module_init(void);
void inflight_module_exit(void);

struct inflight *inflight_create(void);
void inflight_destroy(struct inflight *inflight);

bool inflight_counts(const struct inflight *inflight, const struct bio *bio);
bool inflight_keep(struct inflight *inflight, struct bio *bio);
bool inflight_count(struct inflight *inflight, struct bio *bio);

void inflight_gate(struct inflight *inflight);
int inflight_drain(struct inflight *inflight, unsigned long deadline);
void inflight_ungate(struct inflight *inflight);

#endif /* BLKSNAP_INFLIGHT_H */
