// SPDX-License-Identifier: GPL-2.0
/*
 * Snapshots from their creation to their destruction
 *
 * Nothing here is on the I/O path: a snapshot brings trackers, engines, images
 * and storage together and takes them apart again in the right order.
 *
 *	CREATED <-> TAKING -> TAKEN
 *	   |                    |
 *	   +--> DESTROYED <-----+
 *
 * A snapshot that is DESTROYED is found no more, but stays in the list until
 * its engines have let go of the storage: until then nobody else may have it.
 *
 * Lock order: snapshot->lock -> snapshots_lock.  The first one is held while
 * filesystems freeze and disks come and go, so nobody who only looks takes it.
 * The second one is held for moments, and at the beginning of a take while
 * storage is excluded from the images.
 */
#include "blksnap.h"

#include <linux/err.h>
#include <linux/kdev_t.h>
#include <linux/lockdep.h>
#include <linux/module.h>
#include <linux/overflow.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "diff_storage.h"
#include "protect.h"
#include "settle.h"
#include "snapimage.h"
#include "snapshot_priv.h"
#include "tracker.h"

/* Protects the list, the states, and all sets of storage ranges. */
DEFINE_MUTEX(snapshots_lock);
LIST_HEAD(snapshots);

/**
 * snapshot_get() - take another reference
 * @snapshot:	the caller has a reference
 *
 * Context: Any.
 * Return: @snapshot, with a reference for snapshot_put().
 */
struct snapshot *snapshot_get(struct snapshot *snapshot)
{
	kref_get(&snapshot->kref);
	return snapshot;
}

static void snapshot_release(struct kref *kref)
{
	kvfree(container_of(kref, struct snapshot, kref));
}

/**
 * snapshot_put() - drop a reference
 * @snapshot:	from snapshot_find()
 *
 * Context: Process context.
 */
void snapshot_put(struct snapshot *snapshot)
{
	kref_put(&snapshot->kref, snapshot_release);
}

static struct snapshot *__snapshot_find(const uuid_t *id)
{
	struct snapshot *snapshot;

	lockdep_assert_held(&snapshots_lock);
	list_for_each_entry(snapshot, &snapshots, link)
		if (snapshot->state != SNAPSHOT_DESTROYED && uuid_equal(&snapshot->id, id))
			return snapshot;
	return NULL;
}

/**
 * snapshot_find() - look a snapshot up
 * @id:		identifier of the snapshot
 *
 * Context: Process context.  Takes snapshots_lock.
 * Return: the snapshot with a reference for snapshot_put(), or NULL.
 */
struct snapshot *snapshot_find(const uuid_t *id)
{
	struct snapshot *snapshot;

	mutex_lock(&snapshots_lock);
	snapshot = __snapshot_find(id);
	if (snapshot)
		snapshot_get(snapshot);
	mutex_unlock(&snapshots_lock);
	return snapshot;
}

/**
 * snapshot_set_state() - change the state for everybody
 * @snapshot:	locked by the caller
 * @state:	the new one
 *
 * Context: Process context, takes snapshots_lock.
 */
void snapshot_set_state(struct snapshot *snapshot, enum snapshot_state state)
{
	lockdep_assert_held(&snapshot->lock);
	mutex_lock(&snapshots_lock);
	snapshot->state = state;
	mutex_unlock(&snapshots_lock);
}

/**
 * snapshot_find_locked() - look a snapshot up to change it
 * @id:		identifier of the snapshot
 * @errno_unknown: negative errno for an unknown one
 *
 * Who waits for a take that hangs can at least be killed; nobody sees the
 * -EINTR then.
 *
 * Context: Process context, sleeps.
 * Return: the snapshot, for snapshot_unlock_put(); ERR_PTR(@errno_unknown), or
 *	   ERR_PTR(-EINTR) if the caller was killed.
 */
struct snapshot *snapshot_find_locked(const uuid_t *id, int errno_unknown)
{
	struct snapshot *snapshot = snapshot_find(id);
	int ret;

	if (!snapshot)
		return ERR_PTR(errno_unknown);
	ret = mutex_lock_killable(&snapshot->lock);
	if (ret)
		goto err_put;
	/* Destroyed while we waited. */
	if (snapshot->state == SNAPSHOT_DESTROYED) {
		ret = errno_unknown;
		goto err_unlock;
	}
	return snapshot;

err_unlock:
	mutex_unlock(&snapshot->lock);
err_put:
	snapshot_put(snapshot);
	return ERR_PTR(ret);
}

/**
 * snapshot_unlock_put() - undo snapshot_find_locked()
 * @snapshot:	the snapshot
 *
 * Context: Process context.
 */
void snapshot_unlock_put(struct snapshot *snapshot)
{
	mutex_unlock(&snapshot->lock);
	snapshot_put(snapshot);		/* of snapshot_find_locked() */
}

/* Called by the difference storage, in any context. */
static void snapshot_raise_low_event(void *data, u64 nr_sectors)
{
	struct snapshot *snapshot = data;
	struct blk_snap_event_low_free_space payload = {
		.requested_nr_sect = max_t(u64, nr_sectors, diff_storage_minimum),
	};

	event_queue_raise(&snapshot->events, &snapshot->low_event, &payload, sizeof(payload));
}

static struct snapshot *snapshot_alloc(u32 nr_members)
{
	struct snapshot *snapshot;

	snapshot = kvzalloc(struct_size(snapshot, members, nr_members), GFP_KERNEL);
	if (!snapshot)
		return ERR_PTR(-ENOMEM);
	snapshot->storage = diff_storage_create(diff_storage_minimum / 2, diff_storage_ahead,
						snapshot_raise_low_event, snapshot);
	if (IS_ERR(snapshot->storage)) {
		int ret = PTR_ERR(snapshot->storage);

		kvfree(snapshot);
		return ERR_PTR(ret);
	}
	kref_init(&snapshot->kref);
	uuid_gen(&snapshot->id);
	event_queue_init(&snapshot->events);
	event_init(&snapshot->low_event, blk_snap_event_code_low_free_space);
	mutex_init(&snapshot->lock);
	INIT_LIST_HEAD(&snapshot->storage_devices);
	INIT_LIST_HEAD(&snapshot->link);
	snapshot->nr_members = nr_members;
	return snapshot;
}

static int snapshot_check_devs(const dev_t *devs, u32 count)
{
	u32 i, j;

	if (!count || count > SNAPSHOT_MEMBERS_MAX)
		return -EINVAL;
	for (i = 1; i < count; i++)
		for (j = 0; j < i; j++)
			if (devs[i] && devs[i] == devs[j])
				return -EINVAL;
	return 0;
}

static int snapshot_claim_member(struct snapshot_member *member, dev_t dev)
{
	struct tracker *tracker;
	dev_t origin_dev;

	if (!dev)
		return -ENODEV;
	/* An image changes only through us, and a snapshot of it would need the engine twice. */
	if (snapimage_origin(dev, &origin_dev))
		return protect_refuse(dev, "it is an image");
	tracker = tracker_claim(dev, &member->is_new);
	if (IS_ERR(tracker))
		return PTR_ERR(tracker);
	member->dev = dev;
	member->tracker = tracker;
	return 0;
}

/* After this, every write to a member is counted, or done. */
static int snapshot_settle_members(struct snapshot *snapshot)
{
	bool is_any_new = false;
	int ret = 0;
	u32 i;

	for (i = 0; i < snapshot->nr_members; i++)
		is_any_new |= snapshot->members[i].is_new;
	if (!is_any_new)
		return 0;
	settle_submitters();
	for (i = 0; i < snapshot->nr_members && !ret; i++)
		if (snapshot->members[i].is_new)
			ret = tracker_settle(snapshot->members[i].tracker);
	return ret;
}

/**
 * snapshot_create() - prepare a snapshot of some devices
 * @devs:	the devices; 0 is one that cannot exist
 * @count:	how many
 * @id:		out: identifier of the new snapshot
 *
 * If the call fails, no device is claimed or tracked that was not before.
 *
 * Context: Process context, sleeps.
 * Return: 0; -EINVAL if there is no device, a device is named twice, or there
 *	   are more than SNAPSHOT_MEMBERS_MAX; -ENODEV, -ENXIO, -EALREADY or
 *	   -EOPNOTSUPP as tracker_claim() says of the first device that cannot
 *	   be claimed, -EOPNOTSUPP also for an image; -ETIMEDOUT as
 *	   tracker_settle() says; -ENOMEM.
 */
int snapshot_create(const dev_t *devs, u32 count, uuid_t *id)
{
	struct snapshot *snapshot;
	u32 nr_claimed;
	int ret;

	ret = snapshot_check_devs(devs, count);
	if (ret)
		return ret;
	snapshot = snapshot_alloc(count);
	if (IS_ERR(snapshot))
		return PTR_ERR(snapshot);
	for (nr_claimed = 0; nr_claimed < count; nr_claimed++) {
		ret = snapshot_claim_member(&snapshot->members[nr_claimed], devs[nr_claimed]);
		if (ret)
			goto err_unclaim;
	}
	ret = snapshot_settle_members(snapshot);
	if (ret)
		goto err_unclaim;

	/* The caller has /dev/blksnap open; dropped by snapshot_destroy(). */
	__module_get(THIS_MODULE);
	/* Agents wait for this event before they append the first storage. */
	snapshot_raise_low_event(snapshot, diff_storage_minimum);
	*id = snapshot->id;
	mutex_lock(&snapshots_lock);
	list_add_tail(&snapshot->link, &snapshots);
	mutex_unlock(&snapshots_lock);
	return 0;

err_unclaim:
	while (nr_claimed-- > 0)
		tracker_unclaim(snapshot->members[nr_claimed].tracker,
				snapshot->members[nr_claimed].is_new);
	diff_storage_destroy(snapshot->storage);
	snapshot_put(snapshot);
	return ret;
}

static int snapshot_end(const uuid_t *id, bool is_undone)
{
	struct snapshot *snapshot;
	bool was_taken;
	u32 i;

	snapshot = snapshot_find_locked(id, -ENODEV);
	if (IS_ERR(snapshot))
		return PTR_ERR(snapshot);

	/* 1. The images end, while the origins are still protected; nobody finds it any more. */
	was_taken = snapshot->state == SNAPSHOT_TAKEN;
	snapshot_stop_images(snapshot);
	snapshot_set_state(snapshot, SNAPSHOT_DESTROYED);
	/* 2. Nobody waits for its events any more. */
	event_queue_close(&snapshot->events);
	/* 3. Unpublish the engines, wait for their users, release what is held. */
	snapshot_shut_down_engines(snapshot, was_taken);
	/* 4. Images, the last users of engines and storage, then the origins. */
	snapshot_clear_members(snapshot);
	/* 5. The ranges are free for others, and so are the devices. */
	mutex_lock(&snapshots_lock);
	list_del_init(&snapshot->link);
	mutex_unlock(&snapshots_lock);
	for (i = 0; i < snapshot->nr_members; i++)
		tracker_unclaim(snapshot->members[i].tracker,
				is_undone && snapshot->members[i].is_new);
	/* 6. Storage, then the devices that it lies on. */
	diff_storage_destroy(snapshot->storage);
	snapshot_close_storage_devices(snapshot);

	mutex_unlock(&snapshot->lock);
	snapshot_put(snapshot);		/* of the list */
	snapshot_put(snapshot);		/* of snapshot_find_locked() */
	module_put(THIS_MODULE);	/* of snapshot_create(); our caller has one, too */
	return 0;
}

/**
 * snapshot_destroy() - give a snapshot up
 * @id:		identifier of the snapshot
 *
 * The devices stay tracked.  A take or an append in progress is waited for.
 *
 * Context: Process context, sleeps.
 * Return: 0; -ENODEV if there is no such snapshot; -EINTR if the caller was
 *	   killed before anything was done.
 */
int snapshot_destroy(const uuid_t *id)
{
	return snapshot_end(id, false);
}

/**
 * snapshot_undo() - destroy a snapshot that was created in vain
 * @id:		from snapshot_create(); nobody else knows it
 *
 * Ends the tracking of what was not tracked before, too.
 *
 * Context: Process context, sleeps.
 */
void snapshot_undo(const uuid_t *id)
{
	snapshot_end(id, true);
}

static u32 __snapshot_count(void)
{
	struct snapshot *snapshot;
	u32 nr = 0;

	lockdep_assert_held(&snapshots_lock);
	list_for_each_entry(snapshot, &snapshots, link)
		nr += snapshot->state != SNAPSHOT_DESTROYED;
	return nr;
}

static void __snapshot_fill_ids(struct blk_snap_uuid *ids)
{
	struct snapshot *snapshot;

	lockdep_assert_held(&snapshots_lock);
	list_for_each_entry(snapshot, &snapshots, link)
		if (snapshot->state != SNAPSHOT_DESTROYED)
			export_uuid((ids++)->b, &snapshot->id);
}

/**
 * snapshot_collect() - list the snapshots
 * @ids:	array to fill, or NULL to ask for the number alone
 * @count:	in: room in @ids, 0 to ask for the number alone; out: number of
 *		snapshots, also with -ENODATA
 *
 * Context: Process context, sleeps.
 * Return: 0; -ENODATA if there is not room enough, @ids is untouched then;
 *	   -EFAULT; -ENOMEM.
 */
int snapshot_collect(struct blk_snap_uuid __user *ids, u32 *count)
{
	struct blk_snap_uuid *array = NULL;
	u32 room = ids ? *count : 0;
	int ret = 0;

	mutex_lock(&snapshots_lock);
	*count = __snapshot_count();
	if (room && *count > room) {
		ret = -ENODATA;
	} else if (room && *count) {
		array = kvcalloc(*count, sizeof(*array), GFP_KERNEL);
		if (array)
			__snapshot_fill_ids(array);
		else
			ret = -ENOMEM;
	}
	mutex_unlock(&snapshots_lock);

	if (array && copy_to_user(ids, array, array_size(*count, sizeof(*array))))
		ret = -EFAULT;
	kvfree(array);
	return ret;
}

static struct blk_snap_dev snapshot_user_dev(dev_t dev)
{
	return (struct blk_snap_dev){ .mj = MAJOR(dev), .mn = MINOR(dev) };
}

/* Room for all members has been made in @infos. */
static int snapshot_fill_image_infos(struct snapshot *snapshot,
				     struct blk_snap_image_info *infos)
{
	int ret = -ENODEV;
	u32 i;

	mutex_lock(&snapshots_lock);
	if (snapshot->state == SNAPSHOT_TAKEN) {
		for (i = 0; i < snapshot->nr_members; i++) {
			infos[i].orig_dev_id = snapshot_user_dev(snapshot->members[i].dev);
			infos[i].image_dev_id =
				snapshot_user_dev(snapimage_dev(snapshot->members[i].image));
		}
		ret = 0;
	} else if (snapshot->state == SNAPSHOT_DESTROYED) {
		ret = -ESRCH;
	}
	mutex_unlock(&snapshots_lock);
	return ret;
}

/**
 * snapshot_collect_images() - list the images of a snapshot
 * @id:		identifier of the snapshot
 * @infos:	array to fill, or NULL to ask for the number alone
 * @count:	in: room in @infos, 0 to ask for the number alone; out: number of
 *		images, also with -ENODATA
 *
 * Context: Process context, sleeps.
 * Return: 0; -ESRCH if there is no such snapshot, -ENODEV if it is not taken;
 *	   -ENODATA if there is not room enough, @infos is untouched then;
 *	   -EFAULT; -ENOMEM.
 */
int snapshot_collect_images(const uuid_t *id, struct blk_snap_image_info __user *infos,
			    u32 *count)
{
	struct blk_snap_image_info *array;
	struct snapshot *snapshot;
	u32 room = infos ? *count : 0;
	int ret;

	snapshot = snapshot_find(id);
	if (!snapshot)
		return -ESRCH;
	array = kvcalloc(snapshot->nr_members, sizeof(*array), GFP_KERNEL);
	if (!array) {
		ret = -ENOMEM;
		goto out_put;
	}
	ret = snapshot_fill_image_infos(snapshot, array);
	if (ret)
		goto out_free;

	*count = snapshot->nr_members;
	if (room && *count > room)
		ret = -ENODATA;
	else if (room && copy_to_user(infos, array, array_size(*count, sizeof(*array))))
		ret = -EFAULT;

out_free:
	kvfree(array);
out_put:
	snapshot_put(snapshot);
	return ret;
}

/**
 * snapshot_wait_event() - fetch the next event of a snapshot
 * @snapshot:	from snapshot_find()
 * @timeout_ms:	how long to wait at most, in milliseconds; 0 only looks
 * @copy:	out: the event, from event_alloc()
 *
 * Context: Process context, sleeps with no lock held.
 * Return: 0; -ENOENT if no event came in time, -EINTR if a signal did, -ESRCH
 *	   if the snapshot is destroyed.
 */
int snapshot_wait_event(struct snapshot *snapshot, u32 timeout_ms, struct event *copy)
{
	return event_queue_wait(&snapshot->events, timeout_ms, copy);
}

/**
 * snapshot_return_event() - give back an event that could not be delivered
 * @snapshot:	where it came from
 * @copy:	filled by snapshot_wait_event(); not the caller's any more
 *
 * Context: Process context.
 */
void snapshot_return_event(struct snapshot *snapshot, struct event *copy)
{
	event_queue_return(&snapshot->events, copy);
}

/**
 * snapshot_poll() - the poll() of a control file that watches a snapshot
 * @snapshot:	has to be kept until @file is released
 * @file:	the file that is polled
 * @table:	from the caller of poll()
 *
 * Context: Process context.
 * Return: EPOLLIN | EPOLLRDNORM while an event waits, EPOLLERR | EPOLLHUP once
 *	   the snapshot is destroyed.
 */
__poll_t snapshot_poll(struct snapshot *snapshot, struct file *file,
		       struct poll_table_struct *table)
{
	return event_queue_poll(&snapshot->events, file, table);
}
