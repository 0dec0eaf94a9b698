// SPDX-License-Identifier: GPL-2.0
/*
 * Freezing the filesystems on an origin
 *
 * Freezing writes out what a filesystem holds in memory and keeps its writers
 * waiting, so that the image of a mounted origin is clean.  A device without a
 * filesystem is synced instead.
 *
 * Neither can be interrupted, and on a device that completes nothing they would
 * last for ever, with all the other members frozen.  So a worker freezes, and if
 * its devices stand still, it is given up:
 *
 *	IDLE -> FREEZING -> FROZEN -> IDLE
 *		    |
 *		    +----> GIVEN_UP	the worker will thaw what it has frozen
 *
 * Takes no lock of its own; the set belongs to one caller and the worker.
 */
#include "blksnap.h"

#include <linux/blkdev.h>
#include <linux/completion.h>
#include <linux/kref.h>
#include <linux/module.h>
#include <linux/part_stat.h>
#include <linux/slab.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include "compat.h"
#include "freeze_set.h"

/*
 * How long the devices of a set may complete no write before they count as dead.
 * Less than the 30 s after which drivers and clusters give a device up.
 */
#define FREEZE_STALL_TIMEOUT (20 * HZ)

/* How often that is looked at. */
#define FREEZE_STALL_INTERVAL HZ

enum freeze_state {
	FREEZE_IDLE,
	FREEZE_FREEZING,
	FREEZE_FROZEN,
	FREEZE_GIVEN_UP,
};

struct freeze_device {
	struct bdev_ref ref;
	bool is_frozen;
};

/**
 * struct freeze_set - the devices to be frozen for one origin
 * @kref:	held by its owner, and by the worker while it freezes
 * @work:	the worker
 * @done:	the worker has come to the end
 * @state:	enum freeze_state; changed by cmpxchg where both may change it
 * @open_error:	of a device that could not be opened
 * @error:	the worker's result
 * @nr_devices:	how many
 * @devices:	open
 */
struct freeze_set {
	struct kref kref;
	struct work_struct work;
	struct completion done;
	int state;
	int open_error;
	int error;
	unsigned int nr_devices;
	struct freeze_device devices[];
};

/*
 * Not WQ_MEM_RECLAIM: filesystems wait for queues of their own while they freeze,
 * which may not have it either.  No reclaim waits for this one.
 */
static struct workqueue_struct *freeze_set_wq;

static void freeze_set_work(struct work_struct *work);

/* Partitions of a disk at this moment, the disk itself among them. */
static unsigned int freeze_set_list(struct gendisk *disk, dev_t *devs, unsigned int max_devs)
{
	struct block_device *part;
	unsigned int nr = 0;
	unsigned long index;

	rcu_read_lock();
	xa_for_each(&disk->part_tbl, index, part) {
		if (nr < max_devs)
			devs[nr] = part->bd_dev;
		nr++;
	}
	rcu_read_unlock();
	return nr;
}

static void freeze_set_open(struct freeze_set *set, dev_t dev)
{
	struct freeze_device *device = &set->devices[set->nr_devices];
	int ret = bdev_ref_open(&device->ref, dev, false);

	if (!ret)
		set->nr_devices++;
	/* A partition that goes away at this moment has nothing to freeze. */
	else if (ret != -ENXIO && ret != -ENODEV)
		set->open_error = ret;
}

static void freeze_set_free(struct kref *kref)
{
	struct freeze_set *set = container_of(kref, struct freeze_set, kref);
	unsigned int i;

	for (i = 0; i < set->nr_devices; i++)
		bdev_ref_close(&set->devices[i].ref);
	kfree(set);
}

/**
 * freeze_set_destroy() - close what freeze_set_create() opened
 * @set:	set that is not frozen, or NULL
 *
 * If the freezing was given up, the worker closes it when it gets there.
 */
void freeze_set_destroy(struct freeze_set *set)
{
	if (set)
		kref_put(&set->kref, freeze_set_free);
}

/**
 * freeze_set_create() - find out what is to be frozen for an origin
 * @origin:	open block device
 *
 * Return: the set, or NULL if there is no memory.
 */
struct freeze_set *freeze_set_create(struct block_device *origin)
{
	struct gendisk *disk = origin->bd_disk;
	unsigned int i, max_devs = 1, nr = 1;
	struct freeze_set *set = NULL;
	dev_t *devs;

	if (!bdev_is_partition(origin))
		max_devs = freeze_set_list(disk, NULL, 0);
	devs = kcalloc(max_devs, sizeof(*devs), GFP_KERNEL);
	if (!devs)
		return NULL;
	devs[0] = origin->bd_dev;
	if (!bdev_is_partition(origin))
		nr = min(freeze_set_list(disk, devs, max_devs), max_devs);

	set = kzalloc(struct_size(set, devices, nr), GFP_KERNEL);
	if (set) {
		kref_init(&set->kref);
		INIT_WORK(&set->work, freeze_set_work);
		init_completion(&set->done);
		for (i = 0; i < nr; i++)
			freeze_set_open(set, devs[i]);
	}
	kfree(devs);
	if (set && set->open_error == -ENOMEM) {
		freeze_set_destroy(set);
		return NULL;
	}
	return set;
}

static bool freeze_set_has_claimed_part(const struct freeze_set *set)
{
	unsigned int i;

	for (i = 1; i < set->nr_devices; i++)
		if (READ_ONCE(set->devices[i].ref.bdev->bd_holder))
			return true;
	return false;
}

/*
 * Has a device that was frozen without an error a user whom freezing does not
 * reach?  A filesystem that does not tell the block layer where it is (btrfs on
 * many kernels) is one, and so is a driver stacked on the device.  Swap has
 * nothing to freeze.  A whole disk is claimed together with a partition of it.
 */
static bool freeze_set_has_missed(const struct freeze_set *set, unsigned int i)
{
	struct block_device *bdev = set->devices[i].ref.bdev;

	if (!READ_ONCE(bdev->bd_holder) || compat_bdev_is_swap(bdev))
		return false;
	if (!i && freeze_set_has_claimed_part(set))
		return false;
	return !compat_bdev_holder_is_frozen(bdev);
}

static int freeze_set_freeze_devices(struct freeze_set *set)
{
	unsigned int i;
	int ret = set->open_error;

	for (i = 0; i < set->nr_devices; i++) {
		struct freeze_device *device = &set->devices[i];
		int error = bdev_freeze(device->ref.bdev);

		device->is_frozen = !error;
		if (error)
			compat_bdev_undo_freeze(device->ref.bdev);
		else if (freeze_set_has_missed(set, i))
			error = -EOPNOTSUPP;
		ret = ret ?: error;
	}
	return ret;
}

static void freeze_set_thaw_devices(struct freeze_set *set)
{
	unsigned int i;

	for (i = set->nr_devices; i-- > 0;) {
		struct freeze_device *device = &set->devices[i];

		if (!device->is_frozen)
			continue;
		device->is_frozen = false;
		if (bdev_thaw(device->ref.bdev))
			pr_err("%pg: filesystem not thawed, run fsfreeze -u on it\n",
			       device->ref.bdev);
	}
}

static void freeze_set_work(struct work_struct *work)
{
	struct freeze_set *set = container_of(work, struct freeze_set, work);

	set->error = freeze_set_freeze_devices(set);
	if (cmpxchg(&set->state, FREEZE_FREEZING, FREEZE_FROZEN) == FREEZE_FREEZING) {
		complete(&set->done);
		kref_put(&set->kref, freeze_set_free);
		return;
	}
	freeze_set_thaw_devices(set);
	kref_put(&set->kref, freeze_set_free);
	/* Gotten by freeze_set_give_up(); unloading waits for the workqueue. */
	module_put(THIS_MODULE);
}

/*
 * Grows with each write and flush that completes.  The time they took is looked
 * at too, for some drivers count a write when it begins.
 */
static u64 freeze_set_progress(const struct freeze_set *set)
{
	u64 progress = 0;
	unsigned int i;

	for (i = 0; i < set->nr_devices; i++) {
		struct block_device *bdev = set->devices[i].ref.bdev;

		progress += part_stat_read(bdev, ios[STAT_WRITE]);
		progress += part_stat_read(bdev, nsecs[STAT_WRITE]);
		progress += part_stat_read(bdev, ios[STAT_FLUSH]);
		progress += part_stat_read(bdev, nsecs[STAT_FLUSH]);
	}
	return progress;
}

/* Somebody may have switched the accounting off. */
static bool freeze_set_is_accounted(const struct freeze_set *set)
{
	unsigned int i;

	for (i = 0; i < set->nr_devices; i++) {
		struct request_queue *queue = bdev_get_queue(set->devices[i].ref.bdev);

		if (queue_is_mq(queue) && !blk_queue_io_stat(queue))
			return false;
	}
	return true;
}

/* Returns true when the worker is done, false if its devices stand still. */
static bool freeze_set_wait(struct freeze_set *set)
{
	unsigned long since = jiffies;
	u64 progress = freeze_set_progress(set), before;

	while (!wait_for_completion_timeout(&set->done, FREEZE_STALL_INTERVAL)) {
		before = progress;
		progress = freeze_set_progress(set);
		if (progress != before || !freeze_set_is_accounted(set))
			since = jiffies;
		if (time_after(jiffies, since + FREEZE_STALL_TIMEOUT))
			return false;
	}
	return true;
}

/* Returns false if the worker has come to the end meanwhile. */
static bool freeze_set_give_up(struct freeze_set *set)
{
	/* The caller is in an ioctl, so there is a reference already. */
	__module_get(THIS_MODULE);
	if (cmpxchg(&set->state, FREEZE_FREEZING, FREEZE_GIVEN_UP) == FREEZE_FREEZING)
		return true;
	module_put(THIS_MODULE);
	return false;
}

/**
 * freeze_set_freeze() - freeze every filesystem of a set
 * @set:	set that is not frozen
 *
 * Takes as long as the devices need for what has to be written, but not for ever.
 *
 * Context: Process context, sleeps.
 * Return: 0; -ETIMEDOUT: the devices have completed nothing for too long, and
 *	   nothing is frozen, or will be thawed as soon as they do; another
 *	   negative errno of one that could not be frozen, -EOPNOTSUPP if a
 *	   device is in use by something that freezing it does not reach, while
 *	   the others are frozen all the same.
 */
int freeze_set_freeze(struct freeze_set *set)
{
	WRITE_ONCE(set->state, FREEZE_FREEZING);
	kref_get(&set->kref);		/* put by freeze_set_work() */
	reinit_completion(&set->done);
	queue_work(freeze_set_wq, &set->work);
	if (!freeze_set_wait(set) && freeze_set_give_up(set))
		return -ETIMEDOUT;
	return set->error;
}

/**
 * freeze_set_thaw() - thaw what freeze_set_freeze() froze
 * @set:	the set; nothing is done for one that was given up
 */
void freeze_set_thaw(struct freeze_set *set)
{
	if (cmpxchg(&set->state, FREEZE_FROZEN, FREEZE_IDLE) == FREEZE_FROZEN)
		freeze_set_thaw_devices(set);
}

/**
 * freeze_set_module_init() - create the workqueue
 *
 * Return: 0 or -ENOMEM.
 */
int freeze_set_module_init(void)
{
	freeze_set_wq = alloc_workqueue("blksnap_freeze", WQ_UNBOUND, 0);
	return freeze_set_wq ? 0 : -ENOMEM;
}

/**
 * freeze_set_module_exit() - undo freeze_set_module_init()
 */
void freeze_set_module_exit(void)
{
	destroy_workqueue(freeze_set_wq);
}
