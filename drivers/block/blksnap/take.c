// SPDX-License-Identifier: GPL-2.0
/*
 * One instant for all members of a snapshot
 *
 * The invariant: no write that passed the filter before the switch reaches the
 * media after it, on any member, and none that passes after it is missed.
 *
 *	freeze filesystems -> per disk: close gate, drain -> switch all
 *	-> open gates -> thaw
 *
 * Freezing comes first, for it writes, and a closed gate would keep that back.
 * A member may be stacked on another (dm, md, loop): a write in flight on the
 * upper one completes only through new writes to the lower one, so the upper
 * one is drained before the lower one's gate is closed.  An upper device is
 * nearly always the younger one, and the disk sequence number says which is;
 * where it is not (LVM slides a younger device below an older one), draining
 * times out, and the other order is tried.
 *
 * Lock order: take_mutex -> tracker mutex.
 */
#include "blksnap.h"

#include <linux/blkdev.h>
#include <linux/mutex.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/sort.h>

#include "cbt_map.h"
#include "freeze_set.h"
#include "inflight.h"
#include "take.h"
#include "tracker.h"

/*
 * How long the writes in flight may take to drain, on all members together and
 * for each of the two orders.  New writes wait meanwhile, so it has to stay well
 * below the 30 s after which drivers and clusters give a device up.
 */
#define TAKE_DRAIN_TIMEOUT (8 * HZ)

/* One take at a time: two of them could wait for each other's frozen devices. */
static DEFINE_MUTEX(take_mutex);

struct take_step {
	struct take_member *member;
	struct freeze_set *freeze_set;
};

static int take_compare_younger_first(const void *a, const void *b)
{
	const struct take_step *x = a, *y = b;
	u64 x_seq = tracker_diskseq(x->member->tracker);
	u64 y_seq = tracker_diskseq(y->member->tracker);

	return x_seq < y_seq ? 1 : x_seq > y_seq ? -1 : 0;
}

static void take_open_gates(struct inflight **gates, unsigned int nr_gates)
{
	while (nr_gates-- > 0)
		inflight_ungate(gates[nr_gates]);
}

/* Returns with all gates closed and nothing in flight, or with none closed. */
static int take_close_gates(struct inflight **gates, unsigned int nr_gates)
{
	unsigned long deadline = jiffies + TAKE_DRAIN_TIMEOUT;
	unsigned int i;
	int ret;

	for (i = 0; i < nr_gates; i++) {
		inflight_gate(gates[i]);
		ret = inflight_drain(gates[i], deadline);
		if (ret) {
			take_open_gates(gates, i + 1);
			return ret;
		}
	}
	return 0;
}

static void take_reverse(struct inflight **gates, unsigned int nr_gates)
{
	unsigned int i;

	for (i = 0; i < nr_gates / 2; i++)
		swap(gates[i], gates[nr_gates - 1 - i]);
}

/* Members on the same disk share its gate. */
static unsigned int take_list_gates(const struct take_step *steps, unsigned int nr_steps,
				    struct inflight **gates)
{
	unsigned int i, nr_gates = 0;

	for (i = 0; i < nr_steps; i++) {
		struct inflight *gate = tracker_inflight(steps[i].member->tracker);

		/* The steps are sorted by disk. */
		if (!nr_gates || gates[nr_gates - 1] != gate)
			gates[nr_gates++] = gate;
	}
	return nr_gates;
}

static int take_switch(struct take_step *steps, unsigned int nr_steps,
		       struct inflight **gates)
{
	unsigned int i, nr_gates = take_list_gates(steps, nr_steps, gates);
	unsigned int noio;
	int ret;

	/* Reclaim could wait for a write that a gate keeps back. */
	noio = memalloc_noio_save();
	ret = take_close_gates(gates, nr_gates);
	if (ret && nr_gates > 1) {
		take_reverse(gates, nr_gates);
		ret = take_close_gates(gates, nr_gates);
	}
	if (!ret) {
		for (i = 0; i < nr_steps; i++)
			tracker_publish(steps[i].member->tracker, steps[i].member->cow);
		take_open_gates(gates, nr_gates);
	}
	memalloc_noio_restore(noio);
	return ret;
}

/* Fails only for a device that completes nothing. */
static int take_freeze(struct take_step *step)
{
	int ret = freeze_set_freeze(step->freeze_set);

	if (ret == -ETIMEDOUT)
		return ret;
	step->member->is_frozen = !ret;
	if (ret)
		pr_warn("%pg: filesystem not frozen, image is crash-consistent: %pe\n",
			step->member->origin, ERR_PTR(ret));
	return 0;
}

static int take_frozen(struct take_step *steps, unsigned int nr_steps,
		       struct inflight **gates)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < nr_steps && !ret; i++)
		ret = take_freeze(&steps[i]);
	if (!ret)
		ret = take_switch(steps, nr_steps, gates);
	for (i = nr_steps; i-- > 0;)
		freeze_set_thaw(steps[i].freeze_set);
	for (i = 0; i < nr_steps; i++)
		cbt_map_reap(tracker_cbt_map(steps[i].member->tracker));
	return ret;
}

/* Opens everything that is to be frozen, so that nothing is opened later. */
static int take_prepare(struct take_member *members, unsigned int nr_members,
			struct take_step *steps)
{
	unsigned int i;

	for (i = 0; i < nr_members; i++) {
		steps[i].member = &members[i];
		steps[i].freeze_set = freeze_set_create(members[i].origin);
		if (!steps[i].freeze_set)
			return -ENOMEM;
	}
	sort(steps, nr_members, sizeof(*steps), take_compare_younger_first, NULL);
	return 0;
}

/**
 * take_instant() - take a snapshot of all members at one instant
 * @members:	what to take; see there for what is returned in it
 * @nr_members:	how many, at least one
 *
 * Context: Process context, sleeps; the caller holds the snapshot's mutex.
 * Return: 0: every engine is published.  -ENOMEM, or -ETIMEDOUT if writes in
 *	   flight did not complete: nothing has changed.
 */
int take_instant(struct take_member *members, unsigned int nr_members)
{
	struct inflight **gates;
	struct take_step *steps;
	unsigned int i;
	int ret = -ENOMEM;

	steps = kvcalloc(nr_members, sizeof(*steps), GFP_KERNEL);
	gates = kvcalloc(nr_members, sizeof(*gates), GFP_KERNEL);
	if (!steps || !gates)
		goto out_free;
	ret = take_prepare(members, nr_members, steps);
	if (ret)
		goto out_destroy_sets;

	mutex_lock(&take_mutex);
	/* Nobody may hold it and wait for a page that the gates keep back. */
	tracker_lock();
	ret = take_frozen(steps, nr_members, gates);
	tracker_unlock();
	mutex_unlock(&take_mutex);

out_destroy_sets:
	for (i = 0; i < nr_members; i++)
		freeze_set_destroy(steps[i].freeze_set);
out_free:
	kvfree(gates);
	kvfree(steps);
	return ret;
}
