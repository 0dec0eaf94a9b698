// SPDX-License-Identifier: GPL-2.0
/*
 * Taking a snapshot
 *
 * All that can fail is done before the instant, except for adding the images to
 * the system.  Whatever fails, everything is undone and the snapshot can be
 * taken again:
 *
 *	open origins, create engines and images -> exclude storage
 *	-> the instant -> add images
 *
 * Destroying a snapshot undoes the same things in the same way.
 *
 * Lock order: snapshot->lock -> snapshots_lock.
 */
#include "blksnap.h"

#include <linux/blkdev.h>
#include <linux/err.h>
#include <linux/lockdep.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include "compat.h"
#include "cow.h"
#include "diff_storage.h"
#include "protect.h"
#include "snapimage.h"
#include "snapshot_priv.h"
#include "take.h"
#include "tracker.h"

/* Undo snapshot_prepare_member(), also if it was not called or had failed. */
static void snapshot_clear_member(struct snapshot_member *member)
{
	if (member->cow)
		cow_put(member->cow);
	if (member->origin.bdev)
		bdev_ref_close(&member->origin);
	member->image = NULL;
	member->cow = NULL;
	member->origin = (struct bdev_ref){ };
}

/**
 * snapshot_clear_members() - take images, engines and origins from the members
 * @snapshot:	locked by the caller, its engines are stopped
 *
 * Context: Process context, sleeps.
 */
void snapshot_clear_members(struct snapshot *snapshot)
{
	u32 i;

	for (i = 0; i < snapshot->nr_members; i++)
		if (snapshot->members[i].image)
			snapimage_end(snapshot->members[i].image);
	snapimage_wait_deleted();
	for (i = 0; i < snapshot->nr_members; i++)
		snapshot_clear_member(&snapshot->members[i]);
}

/**
 * snapshot_stop_images() - let all image I/O fail from here on
 * @snapshot:	locked by the caller, still in a state that protects the origins
 *
 * To be called before that state ends, for then others may store on the origins.
 *
 * Context: Process context.
 */
void snapshot_stop_images(struct snapshot *snapshot)
{
	u32 i;

	for (i = 0; i < snapshot->nr_members; i++)
		if (snapshot->members[i].cow)
			cow_stop(snapshot->members[i].cow);
}

/**
 * snapshot_shut_down_engines() - unpublish the engines and shut them down
 * @snapshot:	locked by the caller, its images are stopped
 * @is_published: take_instant() has succeeded
 *
 * When it returns, no write is held for the snapshot, and its engines touch
 * neither storage nor origins nor events any more.
 *
 * Context: Process context, sleeps.
 */
void snapshot_shut_down_engines(struct snapshot *snapshot, bool is_published)
{
	struct snapshot_member *member;
	u32 i;

	for (i = 0; i < snapshot->nr_members; i++) {
		member = &snapshot->members[i];
		if (!member->cow)
			continue;
		if (is_published)
			tracker_retire(member->tracker);
		cow_shutdown(member->cow);
	}
}

/* The number may by now belong to another device than the tracked one. */
static int snapshot_open_origin(struct snapshot_member *member)
{
	struct block_device *bdev;
	int ret;

	ret = bdev_ref_open(&member->origin, member->dev, false);
	if (ret)
		return ret;
	/* Before the engine: a new capacity means another change map. */
	ret = tracker_refresh(member->tracker);
	if (ret)
		return ret;
	bdev = member->origin.bdev;
	if (bdev->bd_disk != tracker_disk(member->tracker) ||
	    bdev->bd_start_sect != tracker_start_sector(member->tracker))
		return -ENODEV;
	/* It may lie on something else by now: device mapper changes its tables. */
	return protect_check(bdev);
}

/* On error, the caller clears the member. */
static int snapshot_prepare_member(struct snapshot *snapshot, struct snapshot_member *member)
{
	struct cow_config config;
	struct snapimage *image;
	struct cow *cow;
	int ret;

	ret = snapshot_open_origin(member);
	if (ret)
		return ret;
	config = (struct cow_config){
		.origin = member->origin.bdev,
		.start = tracker_start_sector(member->tracker),
		.nr_sectors = tracker_nr_sectors(member->tracker),
		.block_shift = cow_block_shift(tracker_nr_sectors(member->tracker)),
		.cbt_map = tracker_cbt_map(member->tracker),
		.storage = snapshot->storage,
		.events = &snapshot->events,
		.resubmit = tracker_resubmit(member->tracker),
	};
	cow = cow_create(&config);
	if (IS_ERR(cow))
		return PTR_ERR(cow);
	member->cow = cow;		/* put by snapshot_clear_member() */

	image = snapimage_create(&(struct snapimage_config){
		.origin = config.origin,
		.origin_dev = member->dev,
		.nr_sectors = config.nr_sectors,
		.cow = cow,
		.storage = snapshot->storage,
	});
	if (IS_ERR(image))
		return PTR_ERR(image);
	member->image = image;
	return 0;
}

static int snapshot_prepare_members(struct snapshot *snapshot)
{
	int ret = 0;
	u32 i;

	for (i = 0; i < snapshot->nr_members && !ret; i++)
		ret = snapshot_prepare_member(snapshot, &snapshot->members[i]);
	return ret;
}

/*
 * What was appended on the members so far is nobody's data, also if it was
 * appended to another snapshot.  What is appended to another one from here on
 * may be, so it is refused: __snapshot_check_place() sees the new state.
 */
static int snapshot_begin_take(struct snapshot *snapshot)
{
	struct snapshot *other;
	int ret = 0;
	u32 i;

	lockdep_assert_held(&snapshot->lock);
	mutex_lock(&snapshots_lock);
	snapshot->state = SNAPSHOT_TAKING;
	list_for_each_entry(other, &snapshots, link) {
		for (i = 0; i < snapshot->nr_members && !ret; i++) {
			ret = snapshot_exclude_storage(&snapshot->members[i], other->storage);
			cond_resched();
		}
	}
	mutex_unlock(&snapshots_lock);
	return ret;
}

static int snapshot_add_images(struct snapshot *snapshot, const struct take_member *members)
{
	int ret = 0;
	u32 i;

	for (i = 0; i < snapshot->nr_members && !ret; i++)
		ret = snapimage_add(snapshot->members[i].image, members[i].is_frozen);
	return ret;
}

static struct take_member *snapshot_take_members(struct snapshot *snapshot)
{
	struct take_member *members;
	u32 i;

	members = kvcalloc(snapshot->nr_members, sizeof(*members), GFP_KERNEL);
	if (!members)
		return NULL;
	for (i = 0; i < snapshot->nr_members; i++) {
		members[i].tracker = snapshot->members[i].tracker;
		members[i].origin = snapshot->members[i].origin.bdev;
		members[i].cow = snapshot->members[i].cow;
	}
	return members;
}

/* All or nothing: after an error the snapshot can be taken again. */
static int snapshot_take_locked(struct snapshot *snapshot)
{
	struct take_member *members;
	bool is_published = false;
	int ret;

	ret = snapshot_prepare_members(snapshot);
	if (ret)
		goto err_shut_down;
	members = snapshot_take_members(snapshot);
	if (!members) {
		ret = -ENOMEM;
		goto err_shut_down;
	}
	ret = snapshot_begin_take(snapshot);
	if (ret)
		goto err_free_members;
	ret = take_instant(members, snapshot->nr_members);
	if (ret)
		goto err_free_members;
	is_published = true;
	{
		u32 i;

		for (i = 0; i < snapshot->nr_members; i++)
			cow_set_drained(members[i].cow);
	}
	ret = snapshot_add_images(snapshot, members);
	if (ret)
		goto err_free_members;
	snapshot_set_state(snapshot, SNAPSHOT_TAKEN);
	kvfree(members);
	return 0;

err_free_members:
	kvfree(members);
	snapshot_stop_images(snapshot);
	snapshot_set_state(snapshot, SNAPSHOT_CREATED);
err_shut_down:
	snapshot_shut_down_engines(snapshot, is_published);
	/* Their events lie in the engines, which go now. */
	event_queue_drop(&snapshot->events, blk_snap_event_code_corrupted);
	snapshot_clear_members(snapshot);
	return ret;
}

/**
 * snapshot_take() - take the snapshot of all its devices at one instant
 * @id:		identifier of the snapshot
 *
 * Context: Process context, sleeps.
 * Return: 0; -ESRCH if there is no such snapshot, -EALREADY if it is taken,
 *	   -EFAULT if it has no storage; -ENODEV if a device has gone away or
 *	   its number means another one; -EOPNOTSUPP if it has become one that
 *	   cannot be protected; -ETIMEDOUT if writes in flight did not
 *	   complete; -ENOMEM; what opening a device or adding an image gives;
 *	   -EINTR if the caller was killed.  After an error the snapshot is as
 *	   before.
 */
int snapshot_take(const uuid_t *id)
{
	struct snapshot *snapshot;
	int ret;

	snapshot = snapshot_find_locked(id, -ESRCH);
	if (IS_ERR(snapshot))
		return PTR_ERR(snapshot);

	if (snapshot->state == SNAPSHOT_TAKEN)
		ret = -EALREADY;
	else if (!diff_storage_capacity(snapshot->storage))
		ret = -EFAULT;
	else
		ret = snapshot_take_locked(snapshot);
	snapshot_unlock_put(snapshot);
	return ret;
}
