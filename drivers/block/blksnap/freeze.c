// SPDX-License-Identifier: GPL-2.0
/*
 * Freezing the filesystems on the origins of a take
 *
 * A filesystem on an origin is frozen, so that its image is clean.  A device
 * without a filesystem is synced instead.  Freezing may never end, while all the
 * other filesystems are frozen: because a device completes nothing, or because a
 * task in a write() waits for a page fault that is never served.  So a worker
 * freezes, and is given up at a deadline:
 *
 *	IDLE -> FREEZING -> FROZEN -> IDLE
 *		    |
 *		    +----> GIVEN_UP	thawed, the last one when it is frozen
 *
 * Each filesystem is thawed by a worker of its own, because thawing writes, and a
 * slow device must not keep the others frozen.
 *
 * A filesystem that somebody else has frozen cannot be frozen once more on older
 * kernels, and gfs2 on no kernel.  It counts as frozen if it still is at the instant of
 * the take, and is not thawed here.
 *
 * The youngest disk is frozen first.  A device that is stacked on another one is
 * nearly always the younger one, and freezing it writes to the other one.
 *
 * Takes no lock of its own; a freeze belongs to one caller and the workers.
 */
#include "blksnap.h"

#include <linux/blkdev.h>
#include <linux/completion.h>
#include <linux/fs.h>
#include <linux/kref.h>
#include <linux/module.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/sort.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include "compat.h"
#include "freeze.h"

/* How often a waiting caller checks whether to give up. */
#define FREEZE_WAIT_INTERVAL (HZ / 20)

/* How long destroying waits for the workers. */
#define FREEZE_END_TIMEOUT (5 * HZ)

enum freeze_state {
	FREEZE_IDLE,
	FREEZE_FREEZING,
	FREEZE_FROZEN,
	FREEZE_GIVEN_UP,
};

/**
 * struct freeze_device - a device that may have a filesystem on it
 * @freeze:	its owner
 * @sync:	syncs the device
 * @thaw:	thaws it
 * @ref:	the device, open
 * @nr_origin:	number of the origin that it is, or is a partition of
 * @is_origin:	it is the origin itself
 * @is_frozen:	bdev_freeze() has succeeded; taken by xchg() to thaw it
 * @is_busy:	bdev_freeze() has found it frozen, or being frozen, by somebody else
 */
struct freeze_device {
	struct freeze *freeze;
	struct work_struct sync;
	struct work_struct thaw;
	struct bdev_ref ref;
	unsigned int nr_origin;
	bool is_origin;
	int is_frozen;
	bool is_busy;
};

/**
 * struct freeze - the devices to be frozen for a take
 * @kref:	held by its owner, and by each worker while it is at work
 * @work:	freezes
 * @done:	the worker that freezes, or the last one that syncs, is done
 * @idle:	woken when no worker is at work
 * @nr_workers:	workers at work
 * @nr_syncing:	workers that sync
 * @is_abandoned: a caller has given up waiting for a worker
 * @state:	enum freeze_state; by cmpxchg where caller and worker may change it
 * @errors:	for each origin: 0, or why freezing it did not reach everything
 * @nr_devices:	how many
 * @devices:	in the order in which they are frozen
 */
struct freeze {
	struct kref kref;
	struct work_struct work;
	struct completion done;
	wait_queue_head_t idle;
	atomic_t nr_workers;
	atomic_t nr_syncing;
	bool is_abandoned;
	int state;
	int *errors;
	unsigned int nr_devices;
	struct freeze_device devices[];
};

/*
 * Not WQ_MEM_RECLAIM: a filesystem that freezes waits for queues of its own, which may
 * not have that flag either.  Reclaim never waits for this queue.
 */
static struct workqueue_struct *freeze_wq;

static void freeze_free(struct kref *kref)
{
	struct freeze *freeze = container_of(kref, struct freeze, kref);
	unsigned int i;

	for (i = 0; i < freeze->nr_devices; i++)
		bdev_ref_close(&freeze->devices[i].ref);
	kvfree(freeze->errors);
	kvfree(freeze);
}

/*
 * As a rule everything is thawed and closed when this returns.  If a worker was given
 * up or takes long, the last one closes everything.
 */
void freeze_destroy(struct freeze *freeze)
{
	if (!freeze->is_abandoned)
		wait_event_timeout(freeze->idle, !atomic_read(&freeze->nr_workers),
				   FREEZE_END_TIMEOUT);
	kref_put(&freeze->kref, freeze_free);
}

/*
 * The partitions of a disk at this moment, the disk itself first.  A partition has only
 * itself.
 */
static unsigned int freeze_list(struct block_device *origin, dev_t *devs, unsigned int max_devs)
{
	struct block_device *part;
	unsigned int nr = 0;
	unsigned long index;

	if (bdev_is_partition(origin)) {
		if (max_devs)
			devs[0] = origin->bd_dev;
		return 1;
	}
	rcu_read_lock();
	xa_for_each(&origin->bd_disk->part_tbl, index, part) {
		if (nr < max_devs)
			devs[nr] = part->bd_dev;
		nr++;
	}
	rcu_read_unlock();
	return nr;
}

static int freeze_open(struct freeze *freeze, dev_t dev, unsigned int nr_origin, bool is_origin)
{
	struct freeze_device *device = &freeze->devices[freeze->nr_devices];
	int ret = bdev_ref_open(&device->ref, dev, false, NULL);

	/* A partition that goes away at this moment has nothing to freeze. */
	if (ret == -ENXIO || ret == -ENODEV)
		return 0;
	if (ret) {
		freeze->errors[nr_origin] = ret;
		return ret == -ENOMEM ? ret : 0;
	}
	device->nr_origin = nr_origin;
	device->is_origin = is_origin;
	freeze->nr_devices++;
	return 0;
}

static int freeze_open_all(struct freeze *freeze, struct block_device *origin,
			   unsigned int nr_origin, dev_t *devs, unsigned int max_devs)
{
	unsigned int i, nr_devs = min(freeze_list(origin, devs, max_devs), max_devs);
	int ret = 0;

	for (i = 0; i < nr_devs && !ret; i++)
		ret = freeze_open(freeze, devs[i], nr_origin, devs[i] == origin->bd_dev);
	return ret;
}

static int freeze_compare(const void *a, const void *b)
{
	const struct freeze_device *x = a, *y = b;
	u64 x_seq = x->ref.bdev->bd_disk->diskseq;
	u64 y_seq = y->ref.bdev->bd_disk->diskseq;

	return x_seq < y_seq ? 1 : x_seq > y_seq ? -1 : 0;
}

static void freeze_work(struct work_struct *work);
static void freeze_sync_work(struct work_struct *work);
static void freeze_thaw_work(struct work_struct *work);

/* Moves elements, so nothing may point to one before. */
static void freeze_sort(struct freeze *freeze)
{
	unsigned int i;

	sort(freeze->devices, freeze->nr_devices, sizeof(*freeze->devices), freeze_compare, NULL);
	for (i = 0; i < freeze->nr_devices; i++) {
		freeze->devices[i].freeze = freeze;
		INIT_WORK(&freeze->devices[i].sync, freeze_sync_work);
		INIT_WORK(&freeze->devices[i].thaw, freeze_thaw_work);
	}
}

/* Opens everything, so that nothing has to be opened later.  ERR_PTR(-ENOMEM). */
struct freeze *freeze_create(struct block_device **origins, unsigned int nr_origins)
{
	unsigned int i, nr_devs, max_devs = 0, nr_devices = 0;
	struct freeze *freeze;
	dev_t *devs;
	int ret = -ENOMEM;

	for (i = 0; i < nr_origins; i++) {
		nr_devs = freeze_list(origins[i], NULL, 0);
		max_devs = max(max_devs, nr_devs);
		nr_devices += nr_devs;
	}
	devs = kvcalloc(max_devs, sizeof(*devs), GFP_KERNEL);
	freeze = kvzalloc(struct_size(freeze, devices, nr_devices), GFP_KERNEL);
	if (!devs || !freeze)
		goto err_free;
	freeze->errors = kvcalloc(nr_origins, sizeof(*freeze->errors), GFP_KERNEL);
	if (!freeze->errors)
		goto err_free;
	kref_init(&freeze->kref);
	INIT_WORK(&freeze->work, freeze_work);
	init_completion(&freeze->done);
	init_waitqueue_head(&freeze->idle);
	ret = 0;
	for (i = 0; i < nr_origins && !ret; i++) {
		/* Partitions that are new since they were counted are left out. */
		nr_devs = min(max_devs, nr_devices - freeze->nr_devices - (nr_origins - 1 - i));
		ret = freeze_open_all(freeze, origins[i], i, devs, nr_devs);
	}
	kvfree(devs);
	if (ret) {
		freeze_destroy(freeze);
		return ERR_PTR(ret);
	}
	freeze_sort(freeze);
	return freeze;

err_free:
	kvfree(devs);
	kvfree(freeze);
	return ERR_PTR(ret);
}

static int freeze_check_wait(const struct freeze_wait *wait)
{
	if (fatal_signal_pending(current) || READ_ONCE(*wait->is_ending))
		return -EINTR;
	return time_after(jiffies, wait->deadline) ? -ETIMEDOUT : 0;
}

static int freeze_wait_idle(struct freeze *freeze, const struct freeze_wait *wait)
{
	int ret = 0;

	while (!ret && !wait_event_timeout(freeze->idle, !atomic_read(&freeze->nr_workers),
					   FREEZE_WAIT_INTERVAL))
		ret = freeze_check_wait(wait);
	return ret;
}

/* 0 when the workers are done; -ETIMEDOUT; -EINTR if the caller has to give up. */
static int freeze_wait(struct freeze *freeze, const struct freeze_wait *wait)
{
	int ret = 0;

	while (!ret && !wait_for_completion_timeout(&freeze->done, FREEZE_WAIT_INTERVAL))
		ret = freeze_check_wait(wait);
	freeze->is_abandoned = ret;
	return ret;
}

static void freeze_put_worker(struct freeze *freeze)
{
	if (atomic_dec_and_test(&freeze->nr_workers))
		wake_up(&freeze->idle);
	kref_put(&freeze->kref, freeze_free);
	/* Gotten by freeze_start(); unloading waits for the workqueue. */
	module_put(THIS_MODULE);
}

static void freeze_start(struct freeze *freeze, struct work_struct *work)
{
	/* The caller is in an ioctl, so it has a reference already. */
	__module_get(THIS_MODULE);
	kref_get(&freeze->kref);
	atomic_inc(&freeze->nr_workers);
	queue_work(freeze_wq, work);
}

static void freeze_sync_work(struct work_struct *work)
{
	struct freeze_device *device = container_of(work, struct freeze_device, sync);
	struct freeze *freeze = device->freeze;

	compat_bdev_sync(device->ref.bdev);
	if (atomic_dec_and_test(&freeze->nr_syncing))
		complete(&freeze->done);
	freeze_put_worker(freeze);
}

/*
 * Syncs all devices at the same time.  Returns 0; -ETIMEDOUT, or -EINTR if the caller
 * was killed or @wait ended: then the workers go on.
 */
int freeze_sync(struct freeze *freeze, const struct freeze_wait *wait)
{
	unsigned int i;
	int ret;

	if (!freeze->nr_devices)
		return 0;
	/* What was frozen before has to be thawed first. */
	ret = freeze_wait_idle(freeze, wait);
	if (ret)
		return ret;
	reinit_completion(&freeze->done);
	atomic_set(&freeze->nr_syncing, freeze->nr_devices);
	for (i = 0; i < freeze->nr_devices; i++)
		freeze_start(freeze, &freeze->devices[i].sync);
	return freeze_wait(freeze, wait);
}

static bool freeze_has_claimed_part(const struct freeze *freeze, unsigned int nr_origin)
{
	unsigned int i;

	for (i = 0; i < freeze->nr_devices; i++)
		if (freeze->devices[i].nr_origin == nr_origin && !freeze->devices[i].is_origin &&
		    READ_ONCE(freeze->devices[i].ref.bdev->bd_holder))
			return true;
	return false;
}

/*
 * Has a device that was frozen without an error a user that freezing does not reach?
 * Such a user is a filesystem that does not tell the block layer where it is (btrfs on
 * many kernels), or a driver stacked on the device.  Swap has nothing to freeze.  A
 * whole disk is claimed together with a partition of it.
 */
static bool freeze_has_missed(const struct freeze *freeze, const struct freeze_device *device)
{
	struct block_device *bdev = device->ref.bdev;

	if (!READ_ONCE(bdev->bd_holder) || IS_SWAPFILE(compat_bdev_inode(bdev)))
		return false;
	if (device->is_origin && freeze_has_claimed_part(freeze, device->nr_origin))
		return false;
	return !compat_bdev_holder_is_frozen(bdev);
}

static void freeze_thaw_work(struct work_struct *work)
{
	struct freeze_device *device = container_of(work, struct freeze_device, thaw);

	if (bdev_thaw(device->ref.bdev))
		pr_err("%pg: filesystem not thawed, run fsfreeze -u on it\n",
		       device->ref.bdev);
	freeze_put_worker(device->freeze);
}

/* Called by the caller, or by a worker that was given up: each device is thawed once. */
static void freeze_thaw(struct freeze *freeze)
{
	unsigned int i;

	for (i = freeze->nr_devices; i-- > 0;)
		if (xchg(&freeze->devices[i].is_frozen, false))
			freeze_start(freeze, &freeze->devices[i].thaw);
}

static void freeze_note_error(struct freeze *freeze, const struct freeze_device *device,
			      int error)
{
	if (!freeze->errors[device->nr_origin])
		freeze->errors[device->nr_origin] = error;
}

static void freeze_one(struct freeze *freeze, struct freeze_device *device)
{
	int ret = bdev_freeze(device->ref.bdev);

	/* Before the worker checks whether it was given up. */
	xchg(&device->is_frozen, !ret);
	/* Not to be thawed here; freeze_check_busy() decides. */
	device->is_busy = ret == -EBUSY;
	if (device->is_busy)
		return;
	if (ret)
		compat_bdev_undo_freeze(device->ref.bdev);
	else if (freeze_has_missed(freeze, device))
		ret = -EOPNOTSUPP;
	if (ret)
		freeze_note_error(freeze, device, ret);
}

static void freeze_work(struct work_struct *work)
{
	struct freeze *freeze = container_of(work, struct freeze, work);
	unsigned int i;

	for (i = 0; i < freeze->nr_devices; i++) {
		if (READ_ONCE(freeze->state) == FREEZE_GIVEN_UP)
			break;
		freeze_one(freeze, &freeze->devices[i]);
	}
	if (cmpxchg(&freeze->state, FREEZE_FREEZING, FREEZE_FROZEN) == FREEZE_FREEZING)
		complete(&freeze->done);
	else
		freeze_thaw(freeze);
	freeze_put_worker(freeze);
}

/**
 * freeze_begin() - freeze every filesystem
 * @freeze:	not frozen
 * @wait:	how long to wait for it
 *
 * Return: 0, and freeze_error() says for each origin whether everything on it is
 *	   frozen; -ETIMEDOUT, or -EINTR if the caller was killed or @wait ended:
 *	   nothing is frozen, or it is thawed as soon as it is.
 */
int freeze_begin(struct freeze *freeze, const struct freeze_wait *wait)
{
	int ret;

	WRITE_ONCE(freeze->state, FREEZE_FREEZING);
	reinit_completion(&freeze->done);
	freeze_start(freeze, &freeze->work);
	ret = freeze_wait(freeze, wait);
	if (!ret || cmpxchg(&freeze->state, FREEZE_FREEZING, FREEZE_GIVEN_UP) != FREEZE_FREEZING)
		return 0;
	freeze_thaw(freeze);
	return ret;
}

/*
 * Are the filesystems still frozen that somebody else had frozen?  Called at the instant
 * of the take, while no write passes.  A frozen filesystem has no write in flight, so its
 * image is clean.  Neither allocates nor sleeps.
 */
void freeze_check_busy(struct freeze *freeze)
{
	unsigned int i;

	for (i = 0; i < freeze->nr_devices; i++)
		if (freeze->devices[i].is_busy &&
		    !compat_bdev_is_frozen(freeze->devices[i].ref.bdev))
			freeze_note_error(freeze, &freeze->devices[i], -EBUSY);
}

/*
 * 0 if everything on the origin is frozen; -EOPNOTSUPP if it has a user that freezing
 * does not reach; or what freezing or opening it returned, -EBUSY after
 * freeze_check_busy().  @nr_origin counts as for freeze_create().
 */
int freeze_error(const struct freeze *freeze, unsigned int nr_origin)
{
	return freeze->errors[nr_origin];
}

/* Thaws without waiting for it. */
void freeze_end(struct freeze *freeze)
{
	if (cmpxchg(&freeze->state, FREEZE_FROZEN, FREEZE_IDLE) == FREEZE_FROZEN)
		freeze_thaw(freeze);
}

int freeze_module_init(void)
{
	freeze_wq = alloc_workqueue("blksnap_freeze", WQ_UNBOUND, 0);
	return freeze_wq ? 0 : -ENOMEM;
}

void freeze_module_exit(void)
{
	destroy_workqueue(freeze_wq);
}
