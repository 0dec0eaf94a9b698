// SPDX-License-Identifier: GPL-2.0
/*
 * Snapshots from their creation to their end
 *
 * Nothing here is on the I/O path: a snapshot brings trackers, engines, images
 * and storage together and takes them apart again in the right order.
 *
 *	CREATED <-> TAKING -> TAKEN
 *
 * A snapshot may end in each state.  Then no call finds it any more, the calls
 * that are working on it give up, and a worker takes everything down.  It stays in
 * the list until its engines have no I/O on the storage, because no other snapshot
 * may have that storage before.
 *
 * Lock order: snapshot->lock -> snapshots_lock.  The first one is held while
 * filesystems freeze and disks are added, so a call that only looks does not take
 * it, and a task that waits for it in any other call can be killed.
 */
#include "blksnap.h"

#include <linux/blkdev.h>
#include <linux/err.h>
#include <linux/file.h>
#include <linux/kdev_t.h>
#include <linux/ktime.h>
#include <linux/lockdep.h>
#include <linux/module.h>
#include <linux/overflow.h>
#include <linux/pid.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>

#include "diff_storage.h"
#include "protect.h"
#include "snapimage.h"
#include "snapshot_priv.h"
#include "storage_pin.h"
#include "trace.h"
#include "tracker.h"

/*
 * How long destroying waits, so that as a rule nothing is left of a snapshot when
 * the call returns: for its devices, and for all else.  If it takes longer, the worker
 * goes on alone.
 */
#define SNAPSHOT_IO_TIMEOUT (HZ / 2)
#define SNAPSHOT_END_TIMEOUT (5 * HZ)

/* How long to wait before the next try to lock a file that is in use. */
#define SNAPSHOT_PIN_INTERVAL (HZ / 100 + 1)

/* Protects the list, the states, and all sets of storage ranges. */
DEFINE_MUTEX(snapshots_lock);
LIST_HEAD(snapshots);

static struct workqueue_struct *snapshot_wq;

/*
 * Finding and locking
 */

struct snapshot *snapshot_get(struct snapshot *snapshot)
{
	kref_get(&snapshot->kref);
	return snapshot;
}

static void snapshot_release(struct kref *kref)
{
	struct snapshot *snapshot = container_of(kref, struct snapshot, kref);

	put_pid(snapshot->creator);
	kvfree(snapshot);
}

void snapshot_put(struct snapshot *snapshot)
{
	kref_put(&snapshot->kref, snapshot_release);
}

static struct snapshot *__snapshot_find(const uuid_t *id)
{
	struct snapshot *snapshot;

	lockdep_assert_held(&snapshots_lock);
	list_for_each_entry(snapshot, &snapshots, link)
		if (!snapshot->is_ending && uuid_equal(&snapshot->id, id))
			return snapshot;
	return NULL;
}

/* With a reference for snapshot_put(), or NULL. */
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

/*
 * Locks a snapshot that was found, to change it.  A task that waits for a take can at
 * least be killed; it then never sees the -EINTR.
 */
static int snapshot_lock(struct snapshot *snapshot, int errno_unknown)
{
	if (mutex_lock_killable(&snapshot->lock))
		return -EINTR;
	if (!READ_ONCE(snapshot->is_ending))
		return 0;
	mutex_unlock(&snapshot->lock);
	return errno_unknown;
}

/*
 * Creating
 */

static void snapshot_raise_low_event(struct snapshot *snapshot, u64 nr_sectors)
{
	struct blk_snap_event_low_free_space payload = {
		.requested_nr_sect = max_t(u64, nr_sectors, diff_storage_minimum),
	};

	event_queue_raise(&snapshot->events, &snapshot->low_event, &payload, sizeof(payload));
}

/* Called by the difference storage, in any context. */
static void snapshot_got_low(void *data, u64 nr_sectors)
{
	struct snapshot *snapshot = data;

	trace_blksnap_low_space(&snapshot->id, diff_storage_free_sectors(snapshot->storage),
				nr_sectors);
	snapshot_raise_low_event(snapshot, nr_sectors);
	event_announce(&snapshot->events, &snapshot->low_event);
}

static void snapshot_end_work(struct work_struct *work);

static struct snapshot *snapshot_alloc(u32 nr_members)
{
	struct snapshot *snapshot;
	int ret;

	snapshot = kvzalloc(struct_size(snapshot, members, nr_members), GFP_KERNEL);
	if (!snapshot)
		return ERR_PTR(-ENOMEM);
	snapshot->storage = diff_storage_create(diff_storage_minimum / 2, diff_storage_ahead,
						snapshot_got_low, snapshot);
	if (IS_ERR(snapshot->storage)) {
		ret = PTR_ERR(snapshot->storage);
		goto err_free;
	}
	ret = cow_queues_init(&snapshot->queues);
	if (ret)
		goto err_destroy_storage;
	kref_init(&snapshot->kref);
	uuid_gen(&snapshot->id);
	snapshot->creator = get_pid(task_tgid(current));
	get_task_comm(snapshot->creator_comm, current->group_leader);
	snapshot->created_ns = ktime_get_boottime_ns();
	event_queue_init(&snapshot->events, &snapshot->id);
	event_init(&snapshot->low_event, blk_snap_event_code_low_free_space);
	mutex_init(&snapshot->lock);
	init_waitqueue_head(&snapshot->drained);
	INIT_LIST_HEAD(&snapshot->storage_devices);
	INIT_LIST_HEAD(&snapshot->pins);
	INIT_WORK(&snapshot->end, snapshot_end_work);
	init_completion(&snapshot->ended);
	INIT_LIST_HEAD(&snapshot->link);
	snapshot->nr_members = nr_members;
	return snapshot;

err_destroy_storage:
	diff_storage_destroy(snapshot->storage);
err_free:
	kvfree(snapshot);
	return ERR_PTR(ret);
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

static bool snapshot_has_member(const struct snapshot *snapshot, dev_t dev)
{
	u32 i;

	for (i = 0; i < snapshot->nr_members; i++)
		if (snapshot->members[i].dev == dev)
			return true;
	return false;
}

static void snapshot_wait_end(struct snapshot *snapshot)
{
	unsigned long deadline = jiffies + SNAPSHOT_END_TIMEOUT;

	while (!wait_for_completion_killable_timeout(&snapshot->ended, SNAPSHOT_IO_TIMEOUT))
		if (READ_ONCE(snapshot->is_waiting_io) || time_after(jiffies, deadline))
			return;
}

/* A device may be in a snapshot that is ending, which is over in a moment. */
static void snapshot_wait_ended(dev_t dev)
{
	struct snapshot *snapshot, *ending = NULL;

	mutex_lock(&snapshots_lock);
	list_for_each_entry(snapshot, &snapshots, link) {
		if (snapshot->is_ending && snapshot_has_member(snapshot, dev)) {
			ending = snapshot_get(snapshot);
			break;
		}
	}
	mutex_unlock(&snapshots_lock);
	if (!ending)
		return;
	snapshot_wait_end(ending);
	snapshot_put(ending);
}

static int snapshot_claim_member(struct snapshot_member *member, dev_t dev)
{
	struct tracker *tracker;
	struct bdev_ref ref;
	dev_t origin_dev;
	int ret;

	if (!dev)
		return -ENODEV;
	/* An image changes only through us, and a snapshot of it would need the engine twice. */
	if (snapimage_origin(dev, &origin_dev))
		return protect_refuse(dev, "it is an image");
	ret = bdev_ref_open(&ref, dev, false, NULL);
	if (ret)
		return ret;
	ret = bdev_nr_sectors(ref.bdev) ? protect_check(ref.bdev) : -ENXIO;
	if (!ret) {
		tracker = tracker_claim(ref.bdev, &member->is_new);
		if (tracker == ERR_PTR(-EALREADY)) {
			snapshot_wait_ended(dev);
			tracker = tracker_claim(ref.bdev, &member->is_new);
		}
		ret = PTR_ERR_OR_ZERO(tracker);
	}
	bdev_ref_close(&ref);
	if (ret)
		return ret;
	member->dev = dev;
	member->tracker = tracker;
	return 0;
}

/**
 * snapshot_create() - prepare a snapshot of some devices
 * @devs:	the devices; 0 is one that cannot exist
 * @count:	how many
 * @id:		out: identifier of the new snapshot
 *
 * If the call fails, no device is claimed or tracked that was not before.
 *
 * Return: 0; -EINVAL if there is no device, a device is named twice, or there
 *	   are more than SNAPSHOT_MEMBERS_MAX; the error of opening the first device
 *	   that cannot be opened, -ENXIO if it is empty; an error of protect_check()
 *	   or tracker_claim(); -EOPNOTSUPP also for an image; -ENOMEM.
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

	/* The caller has /dev/blksnap open; put by snapshot_end_work(). */
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
	cow_queues_exit(&snapshot->queues);
	diff_storage_destroy(snapshot->storage);
	snapshot_put(snapshot);
	return ret;
}

/*
 * The end
 */

/* Locks the snapshot when no take waits for writes in flight, because that one goes on. */
static void snapshot_lock_drained(struct snapshot *snapshot)
{
	for (;;) {
		mutex_lock(&snapshot->lock);
		if (!snapshot->is_draining)
			return;
		mutex_unlock(&snapshot->lock);
		wait_event(snapshot->drained, !READ_ONCE(snapshot->is_draining));
	}
}

static void snapshot_end_work(struct work_struct *work)
{
	struct snapshot *snapshot = container_of(work, struct snapshot, end);
	u32 i;

	/* 1. The calls that are working on it have given up, or soon will. */
	snapshot_lock_drained(snapshot);
	/* 2. Images and engines, while the origins are still protected. */
	snapshot_take_down(snapshot);
	event_wait_announced(&snapshot->low_event);
	/* 3. The devices are free for others.  In this state no call looks at them. */
	snapshot_set_state(snapshot, SNAPSHOT_CREATED);
	for (i = 0; i < snapshot->nr_members; i++)
		tracker_unclaim(snapshot->members[i].tracker,
				snapshot->is_undone && snapshot->members[i].is_new);
	/* 4. So are the ranges. */
	mutex_lock(&snapshots_lock);
	list_del_init(&snapshot->link);
	mutex_unlock(&snapshots_lock);
	/* 5. Storage, then the devices and files that it lies on. */
	diff_storage_destroy(snapshot->storage);
	snapshot_close_storage_devices(snapshot);
	mutex_unlock(&snapshot->lock);
	storage_pin_remove_all(&snapshot->pins);
	cow_queues_exit(&snapshot->queues);

	/* Of snapshot_create(); unloading waits for the workqueue. */
	module_put(THIS_MODULE);
	complete_all(&snapshot->ended);
	snapshot_put(snapshot);		/* of the list */
}

/* From here on no call finds it, and calls that wait for or with it give up. */
static bool snapshot_begin_end(struct snapshot *snapshot, bool is_undone)
{
	bool is_first;

	mutex_lock(&snapshots_lock);
	is_first = !snapshot->is_ending;
	if (is_first)
		snapshot->is_undone = is_undone;
	WRITE_ONCE(snapshot->is_ending, true);
	mutex_unlock(&snapshots_lock);
	if (is_first) {
		event_queue_close(&snapshot->events);
		queue_work(snapshot_wq, &snapshot->end);
	}
	return is_first;
}

static int snapshot_end(const uuid_t *id, bool is_undone)
{
	struct snapshot *snapshot = snapshot_find(id);
	int ret = 0;

	if (!snapshot)
		return -ENODEV;
	if (snapshot_begin_end(snapshot, is_undone))
		snapshot_wait_end(snapshot);
	else
		ret = -ENODEV;
	snapshot_put(snapshot);
	return ret;
}

/*
 * The devices stay tracked.  A take or an append in progress fails.  -ENODEV if there
 * is no such snapshot.
 */
int snapshot_destroy(const uuid_t *id)
{
	return snapshot_end(id, false);
}

/*
 * Destroys a snapshot whose id the caller of snapshot_create() did not get.  Also ends
 * the tracking of the devices that were not tracked before.
 */
void snapshot_undo(const uuid_t *id)
{
	snapshot_end(id, true);
}

/*
 * Taking and appending
 */

static int __snapshot_check_takeable(const struct snapshot *snapshot)
{
	/* Also while a take waits for writes in flight, without the lock. */
	if (snapshot->state != SNAPSHOT_CREATED)
		return -EALREADY;
	return diff_storage_capacity(snapshot->storage) ? 0 : -EFAULT;
}

static int snapshot_check_takeable(struct snapshot *snapshot)
{
	int ret;

	mutex_lock(&snapshots_lock);
	/* One that is ending has no storage any more. */
	ret = snapshot->is_ending ? -ESRCH : __snapshot_check_takeable(snapshot);
	mutex_unlock(&snapshots_lock);
	return ret;
}

static int snapshot_run_take(struct snapshot *snapshot, struct take *take)
{
	bool is_stuck = false;
	int ret;

	ret = snapshot_lock(snapshot, -ESRCH);
	if (ret)
		return ret;
	ret = __snapshot_check_takeable(snapshot);
	if (!ret)
		ret = take_run(take, &is_stuck);
	/* Its devices do not complete I/O, and the caller does not wait for them. */
	if (is_stuck)
		snapshot_begin_end(snapshot, false);
	mutex_unlock(&snapshot->lock);
	if (ret == -EINTR && READ_ONCE(snapshot->is_ending))
		ret = -ESRCH;
	return ret;
}

static int snapshot_open_and_take(struct snapshot *snapshot)
{
	u64 start = ktime_get_ns();
	struct take *take;
	int ret;

	trace_blksnap_take_begin(&snapshot->id, snapshot->nr_members);
	/* Opening may wait for a device, so it comes before the lock. */
	take = take_open(snapshot);
	ret = PTR_ERR_OR_ZERO(take);
	if (!ret) {
		ret = snapshot_run_take(snapshot, take);
		take_close(take);
	}
	trace_blksnap_take_end(&snapshot->id, ktime_get_ns() - start, ret);
	return ret;
}

/**
 * snapshot_take() - take the snapshot of all its devices at one instant
 * @id:		identifier of the snapshot
 *
 * Return: 0; -ESRCH if there is no such snapshot, or it is destroyed during the call;
 *	   -EALREADY if it is taken, or being taken; -EFAULT if it has no storage;
 *	   -ENODEV if a device has gone away or its number means another one;
 *	   -EOPNOTSUPP if a device cannot be protected any more; -ETIMEDOUT if a
 *	   filesystem could not be frozen in time, or writes in flight did not complete;
 *	   -ENOMEM; an error of opening a device or adding an image; -EINTR if the
 *	   caller was killed.  After an error the snapshot is as before, unless the
 *	   caller was killed and a device does not complete what was begun: then it has
 *	   ended.
 */
int snapshot_take(const uuid_t *id)
{
	struct snapshot *snapshot = snapshot_find(id);
	int ret;

	if (!snapshot)
		return -ESRCH;
	ret = snapshot_check_takeable(snapshot);
	if (!ret)
		ret = snapshot_open_and_take(snapshot);
	snapshot_put(snapshot);
	return ret;
}

/**
 * snapshot_append_storage() - add difference storage to a snapshot
 * @id:		identifier of the snapshot
 * @dev:	device that the ranges lie on; 0 is one that cannot exist
 * @ranges:	the ranges; all are added or none
 * @count:	how many; 0 changes nothing
 *
 * Each snapshot that stores on the device keeps it open for writing until it has
 * ended, and claims it unless somebody else has, see storage_device.c.  The device may
 * be mounted.
 *
 * Return: 0; -ESRCH if there is no such snapshot; -ENODEV, -ENXIO or another error of
 *	   opening the device; -EROFS if it is read-only; -EINVAL if it is an image,
 *	   zoned, has larger logical blocks than a member, or lies on a member through
 *	   another driver, or if a range is empty, beyond the end, not aligned to the
 *	   logical blocks, or overlaps another range of any snapshot, or nothing would be
 *	   left of a member; -EBUSY if a range lies on a device of which another snapshot
 *	   is taken, or belongs to one that is still ending; -ENOMEM; -EINTR if the
 *	   caller was killed.  The log has the reason of -EROFS, -EINVAL and -EBUSY,
 *	   unless opening returned it.
 */
int snapshot_append_storage(const uuid_t *id, dev_t dev,
			    const struct blk_snap_block_range *ranges, u32 count)
{
	struct snapshot *snapshot = snapshot_find(id);
	struct storage_device *device;
	int ret = 0;

	if (!snapshot)
		return -ESRCH;
	if (!count)
		goto out_put;
	device = storage_device_open(snapshot, dev);
	if (IS_ERR(device)) {
		ret = PTR_ERR(device);
		goto out_put;
	}
	ret = snapshot_lock(snapshot, -ESRCH);
	if (!ret) {
		ret = snapshot_add_storage(snapshot, &device, ranges, count);
		mutex_unlock(&snapshot->lock);
	}
	/* Kept by the caller after an error, or if the snapshot has it already. */
	if (device)
		storage_device_close(device);

out_put:
	snapshot_put(snapshot);
	return ret;
}

static int snapshot_add_pin(struct snapshot *snapshot, struct file *file)
{
	int ret = snapshot_lock(snapshot, -ESRCH);

	if (ret)
		return ret;
	ret = storage_pin_add(&snapshot->pins, file);
	mutex_unlock(&snapshot->lock);
	return ret;
}

/* Waits without the snapshot's lock, so that the snapshot can be destroyed meanwhile. */
static int snapshot_add_pin_when_free(struct snapshot *snapshot, struct file *file)
{
	int ret;

	for (;;) {
		ret = snapshot_add_pin(snapshot, file);
		if (ret != -EAGAIN)
			return ret;
		if (fatal_signal_pending(current))
			return -EINTR;
		schedule_timeout_killable(SNAPSHOT_PIN_INTERVAL);
	}
}

/**
 * snapshot_pin_file() - keep a file in its place until the snapshot has ended
 * @id:		identifier of the snapshot
 * @fd:		the file, open in any way
 *
 * Return: 0, also if it is pinned for this snapshot already; -ESRCH if there is no such
 *	   snapshot, or it is destroyed during the call; an error of storage_pin_open(),
 *	   storage_pin_add() or storage_pin_settle(); -EINTR if the caller was killed.
 */
int snapshot_pin_file(const uuid_t *id, int fd)
{
	struct snapshot *snapshot = snapshot_find(id);
	struct file *file;
	int ret;

	if (!snapshot)
		return -ESRCH;
	file = storage_pin_open(fd);
	if (IS_ERR(file)) {
		ret = PTR_ERR(file);
		goto out_put;
	}
	ret = snapshot_add_pin_when_free(snapshot, file);
	if (!ret)
		ret = storage_pin_settle(file);
	fput(file);

out_put:
	snapshot_put(snapshot);
	return ret;
}

/*
 * Events
 */

/* See event_queue_wait(); -ESRCH if the snapshot is destroyed. */
int snapshot_wait_event(struct snapshot *snapshot, u32 timeout_ms, struct event *copy)
{
	return event_queue_wait(&snapshot->events, timeout_ms, copy);
}

void snapshot_return_event(struct snapshot *snapshot, struct event *copy)
{
	event_queue_return(&snapshot->events, copy);
}

__poll_t snapshot_poll(struct snapshot *snapshot, struct file *file,
		       struct poll_table_struct *table)
{
	return event_queue_poll(&snapshot->events, file, table);
}

int snapshot_module_init(void)
{
	snapshot_wq = alloc_workqueue("blksnap_end", WQ_UNBOUND, 0);
	return snapshot_wq ? 0 : -ENOMEM;
}

void snapshot_module_exit(void)
{
	destroy_workqueue(snapshot_wq);
}
