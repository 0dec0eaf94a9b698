// SPDX-License-Identifier: GPL-2.0
/*
 * Taking a snapshot: one instant for all its members
 *
 * Writers stand still for one grace period of RCU, whatever is in flight and however
 * many devices there are:
 *
 *	open everything, make engines and images, exclude storage
 *	-> sync -> freeze -> close all gates -> grace period -> switch every map,
 *	publish every engine, begin a new epoch -> open the gates -> thaw
 *	-> wait, with everything running, until the old epoch has drained
 *	-> add the images
 *
 * A write completed before the switch is in every image.  A write submitted after it
 * meets an engine.  A write in flight at the switch had not been reported as done, so
 * an image may show it, or not, or a part of it, with what its memory held when the
 * device read it: a cached page may be changed in that time.  But an image may not
 * change once it can be read, so the images are added when the last of these writes has
 * landed.  Their marks are in the frozen map.  If a block was copied before such a write
 * landed, a newer write was the reason, and the engine has marked the block in the new
 * interval, too.
 *
 * Whatever fails, everything is undone and the snapshot can be taken again.
 * Ending a snapshot undoes the same things in the same way.
 *
 * Lock order: snapshot->lock -> snapshots_lock; snapshot->lock -> tracker_lock().
 */
#include "blksnap.h"

#include <linux/blkdev.h>
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/ktime.h>
#include <linux/lockdep.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/sort.h>

#include "cbt_map.h"
#include "compat.h"
#include "cow.h"
#include "diff_storage.h"
#include "freeze.h"
#include "inflight.h"
#include "protect.h"
#include "snapimage.h"
#include "snapshot_priv.h"
#include "trace.h"
#include "tracker.h"

/*
 * How long freezing may take.  Dirty data has been written before, so it is short; and
 * it is less than the 30 s after which drivers and clusters give a device up.
 */
#define TAKE_FREEZE_TIMEOUT (10 * HZ)

/*
 * Syncing may take this many times as long as draining: it stops no writer, and a slow
 * device may have much to write.
 */
#define TAKE_SYNC_FACTOR 5

/* How long a caller that was killed waits for its engines. */
#define TAKE_IDLE_TIMEOUT (2 * HZ)

/*
 * How long the end of a snapshot makes up for discards: what is left then is not, but for
 * the one under way.  The call waits for longer than this, see SNAPSHOT_END_TIMEOUT.
 */
#define TAKE_DISCARD_TIMEOUT (3 * HZ)

/* How long a wait for writes polls at short intervals. */
#define TAKE_POLL_SOON (HZ / 20)

/**
 * struct take - what one call needs to take a snapshot
 * @snapshot:	has a reference of the caller
 * @refs:	the members' origins, open; the take hands them over to the members
 * @origins:	the same block devices
 * @freeze:	everything on the origins
 * @gates:	counters of the members' disks, each once
 * @nr_gates:	how many
 */
struct take {
	struct snapshot *snapshot;
	struct bdev_ref *refs;
	struct block_device **origins;
	struct freeze *freeze;
	struct inflight **gates;
	unsigned int nr_gates;
};

/*
 * Opening, without the snapshot's lock
 */

/* The number may belong to another device by now: tracker_refresh() checks that. */
static int take_open_origin(struct take *take, u32 i)
{
	int ret = bdev_ref_open(&take->refs[i], take->snapshot->members[i].dev, false,
				NULL);

	if (ret)
		return ret;
	take->origins[i] = take->refs[i].bdev;
	/* The device may have changed: device mapper replaces tables. */
	return protect_check(take->refs[i].bdev);
}

static int take_open_all(struct take *take)
{
	struct snapshot *snapshot = take->snapshot;
	int ret = 0;
	u32 i;

	for (i = 0; i < snapshot->nr_members && !ret; i++)
		ret = take_open_origin(take, i);
	if (ret)
		return ret;
	take->freeze = freeze_create(take->origins, snapshot->nr_members);
	if (IS_ERR(take->freeze)) {
		ret = PTR_ERR(take->freeze);
		take->freeze = NULL;
	}
	return ret;
}

void take_close(struct take *take)
{
	u32 i;

	if (take->freeze)
		freeze_destroy(take->freeze);
	for (i = 0; take->refs && i < take->snapshot->nr_members; i++)
		if (take->refs[i].bdev)
			bdev_ref_close(&take->refs[i]);
	kvfree(take->gates);
	kvfree(take->origins);
	kvfree(take->refs);
	kfree(take);
}

/*
 * Opens what taking the snapshot needs, for take_run() and take_close().  The snapshot
 * is not locked, because opening may wait for a device, and stays until take_close().
 * An ERR_PTR: see snapshot_take().
 */
struct take *take_open(struct snapshot *snapshot)
{
	u32 nr = snapshot->nr_members;
	struct take *take;
	int ret = -ENOMEM;

	take = kzalloc_obj(*take, GFP_KERNEL);
	if (!take)
		return ERR_PTR(ret);
	take->snapshot = snapshot;
	take->refs = kvcalloc(nr, sizeof(*take->refs), GFP_KERNEL);
	take->origins = kvcalloc(nr, sizeof(*take->origins), GFP_KERNEL);
	take->gates = kvcalloc(nr, sizeof(*take->gates), GFP_KERNEL);
	if (take->refs && take->origins && take->gates)
		ret = take_open_all(take);
	if (ret) {
		take_close(take);
		return ERR_PTR(ret);
	}
	return take;
}

/*
 * Members
 */

/* On error, the caller clears the members. */
static int take_prepare_member(struct take *take, u32 i)
{
	struct snapshot *snapshot = take->snapshot;
	struct snapshot_member *member = &snapshot->members[i];
	struct snapimage *image;
	struct cow *cow;
	int ret;

	/* Before the engine: a new capacity means another change map. */
	ret = tracker_refresh(member->tracker, take->origins[i]);
	if (ret)
		return ret;
	member->origin = take->refs[i];
	take->refs[i] = (struct bdev_ref){ };
	cow = cow_create(&(struct cow_config){
		.origin = member->origin.bdev,
		.start = tracker_start_sector(member->tracker),
		.nr_sectors = tracker_nr_sectors(member->tracker),
		.block_shift = cow_block_shift(tracker_nr_sectors(member->tracker)),
		.cbt_map = tracker_cbt_map(member->tracker),
		.storage = snapshot->storage,
		.queues = &snapshot->queues,
		.events = &snapshot->events,
		.resubmit = tracker_resubmit(member->tracker),
	});
	if (IS_ERR(cow))
		return PTR_ERR(cow);
	member->cow = cow;		/* put by snapshot_clear_members() */

	image = snapimage_create(&(struct snapimage_config){
		.origin = member->origin.bdev,
		.origin_dev = member->dev,
		.snapshot_id = &snapshot->id,
		.nr_sectors = tracker_nr_sectors(member->tracker),
		.cow = cow,
		.storage = snapshot->storage,
	});
	if (IS_ERR(image))
		return PTR_ERR(image);
	member->image = image;
	return 0;
}

static void snapshot_clear_members(struct snapshot *snapshot)
{
	struct snapshot_member *member;
	u32 i;

	/* All at the same time. */
	for (i = 0; i < snapshot->nr_members; i++)
		if (snapshot->members[i].image)
			snapimage_end(snapshot->members[i].image);
	snapimage_wait_deleted();
	for (i = 0; i < snapshot->nr_members; i++) {
		member = &snapshot->members[i];
		if (member->cow)
			cow_put(member->cow);
		if (member->origin.bdev)
			bdev_ref_close(&member->origin);
		member->image = NULL;
		member->cow = NULL;
		member->origin = (struct bdev_ref){ };
	}
}

/* From here on image I/O fails, so writes may pass that no engine sees. */
static void snapshot_stop_engines(struct snapshot *snapshot)
{
	u32 i;

	for (i = 0; i < snapshot->nr_members; i++)
		if (snapshot->members[i].cow)
			cow_stop(snapshot->members[i].cow);
	for (i = 0; i < snapshot->nr_members; i++)
		if (snapshot->members[i].cow)
			cow_forget_skipped(snapshot->members[i].cow);
	for (i = 0; i < snapshot->nr_members; i++)
		tracker_retire(snapshot->members[i].tracker);
	/* Pairs with the callback of the filter. */
	synchronize_rcu_expedited();
}

/*
 * When this returns, no write is held for the snapshot, and its engines use no storage,
 * origin or event any more.
 */
static void snapshot_shut_down_engines(struct snapshot *snapshot)
{
	u32 i;

	for (i = 0; i < snapshot->nr_members; i++)
		if (snapshot->members[i].cow)
			cow_shutdown(snapshot->members[i].cow);
}

/*
 * Image I/O fails now, but the engines still see the writes.  Destroying waits for this,
 * because its caller expects the origins to be free afterwards.
 */
static void snapshot_wait_discarded(struct snapshot *snapshot)
{
	unsigned long deadline = jiffies + TAKE_DISCARD_TIMEOUT;
	struct snapshot_member *member;
	u32 i;

	for (i = 0; i < snapshot->nr_members; i++)
		if (snapshot->members[i].cow)
			cow_stop(snapshot->members[i].cow);
	for (i = 0; i < snapshot->nr_members; i++) {
		member = &snapshot->members[i];
		if (member->cow && !cow_wait_discarded(member->cow, deadline))
			pr_warn("%pg: too slow: not all discards could be made up for\n",
				member->origin.bdev);
	}
}

/*
 * Ends engines and images in whatever state they are.  Sleeps as long as the snapshot's
 * own devices take to complete the engines' I/O.
 */
void snapshot_take_down(struct snapshot *snapshot)
{
	snapshot_wait_discarded(snapshot);
	snapshot_stop_engines(snapshot);
	WRITE_ONCE(snapshot->is_waiting_io, true);
	snapshot_shut_down_engines(snapshot);
	WRITE_ONCE(snapshot->is_waiting_io, false);
	snapshot_clear_members(snapshot);
}

/*
 * Storage that lies on the members so far holds nothing that an image needs, whichever
 * snapshot appended it.  Ranges that other snapshots append from here on may hold data,
 * so they are refused: __snapshot_check_place() sees the new state.
 */
static int take_exclude_storage(struct snapshot *snapshot)
{
	struct snapshot *other;
	unsigned int noio;
	int ret = 0;
	u32 i;

	mutex_lock(&snapshots_lock);
	/* Other snapshots must not wait while a device frees memory. */
	noio = memalloc_noio_save();
	snapshot->state = SNAPSHOT_TAKING;
	list_for_each_entry(other, &snapshots, link) {
		for (i = 0; i < snapshot->nr_members && !ret; i++) {
			ret = snapshot_exclude_storage(&snapshot->members[i], other->storage);
			cond_resched();
		}
	}
	memalloc_noio_restore(noio);
	mutex_unlock(&snapshots_lock);
	return ret;
}

/*
 * The instant
 */

static int take_compare_gates(const void *a, const void *b)
{
	const struct inflight * const *x = a, * const *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* Members on the same disk share its gate. */
static void take_list_gates(struct take *take)
{
	struct snapshot *snapshot = take->snapshot;
	u32 i;

	for (i = 0; i < snapshot->nr_members; i++)
		take->gates[i] = tracker_inflight(snapshot->members[i].tracker);
	sort(take->gates, snapshot->nr_members, sizeof(*take->gates), take_compare_gates, NULL);
	for (i = 0; i < snapshot->nr_members; i++)
		if (!i || take->gates[i] != take->gates[i - 1])
			take->gates[take->nr_gates++] = take->gates[i];
}

/* Has the caller been killed, or the snapshot destroyed? */
static bool take_is_given_up(const struct take *take)
{
	return fatal_signal_pending(current) || READ_ONCE(take->snapshot->is_ending);
}

/* Waits until settle_disk() is done with the writes submitted before tracking began. */
static int take_wait_settled(const struct take *take)
{
	u32 i;

	for (i = 0; i < take->snapshot->nr_members; i++) {
		while (!tracker_has_settled(take->snapshot->members[i].tracker)) {
			if (take_is_given_up(take))
				return -EINTR;
			usleep_range(1000, 2000);
		}
	}
	return 0;
}

static bool take_has_drained(const struct take *take)
{
	unsigned int i;

	for (i = 0; i < take->nr_gates; i++)
		if (!inflight_has_drained(take->gates[i]))
			return false;
	return true;
}

static void take_name_undrained(const struct take *take)
{
	u32 i;

	for (i = 0; i < take->snapshot->nr_members; i++)
		if (!inflight_has_drained(tracker_inflight(take->snapshot->members[i].tracker)))
			pr_err("%pg: not taken, writes from before are still in flight\n",
			       take->snapshot->members[i].origin.bdev);
}

/* Waits, with everything running, until the writes of the epoch before are done. */
static int take_drain(const struct take *take)
{
	unsigned long start = jiffies;

	while (!take_has_drained(take)) {
		if (take_is_given_up(take))
			return -EINTR;
		if (time_after(jiffies, start + take_drain_limit * HZ)) {
			take_name_undrained(take);
			return -ETIMEDOUT;
		}
		if (time_before(jiffies, start + TAKE_POLL_SOON))
			usleep_range(50, 200);
		else
			usleep_range(5000, 10000);
	}
	return 0;
}

static int take_sync(const struct take *take)
{
	const struct freeze_wait wait = {
		.deadline = jiffies + TAKE_SYNC_FACTOR * take_drain_limit * HZ,
		.is_ending = &take->snapshot->is_ending,
	};

	return freeze_sync(take->freeze, &wait);
}

static int take_freeze(const struct take *take)
{
	const struct freeze_wait wait = {
		.deadline = jiffies + TAKE_FREEZE_TIMEOUT,
		.is_ending = &take->snapshot->is_ending,
	};

	return freeze_begin(take->freeze, &wait);
}

static void take_note_frozen(const struct take *take)
{
	u32 i;

	for (i = 0; i < take->snapshot->nr_members; i++) {
		struct snapshot_member *member = &take->snapshot->members[i];
		int error = freeze_error(take->freeze, i);

		member->is_frozen = !error;
		if (error)
			pr_warn("%pg: filesystem not frozen, image is crash-consistent: %pe\n",
				member->origin.bdev, ERR_PTR(error));
	}
}

/*
 * The moment for which writers stand still.  False, with nothing done, if another take
 * of one of the disks has begun an epoch since take_drain().
 */
static bool take_switch(const struct take *take)
{
	struct snapshot *snapshot = take->snapshot;
	unsigned int noio, i;
	bool has_drained;
	u64 start;

	/* Before the gates: a task that holds the lock may wait for a write. */
	tracker_lock();
	has_drained = take_has_drained(take);
	if (!has_drained)
		goto out_unlock;
	/* Reclaim could wait for a write that a gate keeps back. */
	noio = memalloc_noio_save();
	start = ktime_get_ns();
	for (i = 0; i < take->nr_gates; i++)
		inflight_gate(take->gates[i]);
	/* Pairs with the callback of the filter: no bio is in it now. */
	synchronize_rcu_expedited();
	trace_blksnap_take_gated(&snapshot->id, ktime_get_ns() - start);
	freeze_check_busy(take->freeze);
	for (i = 0; i < snapshot->nr_members; i++)
		tracker_publish(snapshot->members[i].tracker, snapshot->members[i].cow);
	for (i = 0; i < take->nr_gates; i++)
		inflight_begin_epoch(take->gates[i]);
	for (i = 0; i < take->nr_gates; i++)
		inflight_ungate(take->gates[i]);
	trace_blksnap_take_ungated(&snapshot->id, ktime_get_ns() - start);
	memalloc_noio_restore(noio);
out_unlock:
	tracker_unlock();
	return has_drained;
}

/* Returns what take_switch() does, or an errno. */
static int take_freeze_and_switch(const struct take *take)
{
	const uuid_t *id = &take->snapshot->id;
	u64 sync_start = ktime_get_ns(), freeze_start;
	bool is_switched;
	int ret;

	ret = take_sync(take);
	if (ret)
		return ret;
	freeze_start = ktime_get_ns();
	ret = take_freeze(take);
	if (ret)
		return ret;
	trace_blksnap_take_frozen(id, ktime_get_ns() - sync_start);
	is_switched = take_switch(take);
	freeze_end(take->freeze);
	trace_blksnap_take_thawed(id, ktime_get_ns() - freeze_start);
	return is_switched;
}

static int take_instant(const struct take *take)
{
	int ret;
	u32 i;

	do {
		ret = take_drain(take);
		if (!ret)
			ret = take_freeze_and_switch(take);
	} while (!ret);
	if (ret < 0)
		return ret;

	take_note_frozen(take);
	for (i = 0; i < take->snapshot->nr_members; i++)
		cbt_map_reap(tracker_cbt_map(take->snapshot->members[i].tracker));
	return 0;
}

/*
 * Waits for the writes that were in flight at the instant, without the lock: the
 * engines are working, and may need storage to be appended.
 */
static int take_drain_unlocked(const struct take *take)
{
	struct snapshot *snapshot = take->snapshot;
	u64 start = ktime_get_ns();
	int ret;

	snapshot->is_draining = true;
	mutex_unlock(&snapshot->lock);
	ret = take_drain(take);
	if (!ret)
		trace_blksnap_take_drained(&snapshot->id, ktime_get_ns() - start);
	mutex_lock(&snapshot->lock);
	WRITE_ONCE(snapshot->is_draining, false);
	wake_up_all(&snapshot->drained);
	return ret;
}

static int take_add_images(struct snapshot *snapshot)
{
	int ret = 0;
	u32 i;

	for (i = 0; i < snapshot->nr_members && !ret; i++) {
		cow_set_drained(snapshot->members[i].cow);
		ret = snapimage_add(snapshot->members[i].image, snapshot->members[i].is_frozen);
	}
	return ret;
}

/* False if engines still have I/O in progress and the caller should not wait for it. */
static bool take_wait_idle(const struct take *take)
{
	unsigned long deadline = jiffies + TAKE_IDLE_TIMEOUT;
	u32 i;

	for (i = 0; i < take->snapshot->nr_members; i++) {
		struct cow *cow = take->snapshot->members[i].cow;

		while (cow && !cow_is_idle(cow)) {
			if (time_after(jiffies, deadline) && take_is_given_up(take))
				return false;
			usleep_range(1000, 2000);
		}
	}
	return true;
}

/**
 * take_run() - take the snapshot
 * @take:	from take_open(); the caller has locked its snapshot, which is not taken
 * @is_stuck:	out: the take could not be undone, so the snapshot has to be ended
 *
 * Return: 0, or an errno, see snapshot_take().
 */
int take_run(struct take *take, bool *is_stuck)
{
	struct snapshot *snapshot = take->snapshot;
	u32 i;
	int ret;

	take_list_gates(take);
	ret = take_wait_settled(take);
	for (i = 0; i < snapshot->nr_members && !ret; i++)
		ret = take_prepare_member(take, i);
	if (!ret)
		ret = take_exclude_storage(snapshot);
	if (!ret)
		ret = take_instant(take);
	if (!ret)
		ret = take_drain_unlocked(take);
	if (!ret)
		ret = take_add_images(snapshot);
	if (!ret) {
		snapshot_set_state(snapshot, SNAPSHOT_TAKEN);
		return 0;
	}

	snapshot_stop_engines(snapshot);
	*is_stuck = !take_wait_idle(take);
	if (*is_stuck)
		return ret;
	snapshot_set_state(snapshot, SNAPSHOT_CREATED);
	snapshot_shut_down_engines(snapshot);
	/* Their events are in the engines, which go now. */
	event_queue_drop(&snapshot->events, blk_snap_event_code_corrupted);
	snapshot_clear_members(snapshot);
	return ret;
}
