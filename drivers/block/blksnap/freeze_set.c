// SPDX-License-Identifier: GPL-2.0
/*
 * Freezing the filesystems on an origin
 *
 * Freezing writes out what a filesystem holds in memory and keeps its writers
 * waiting, so that the image of a mounted origin is clean.  A device without a
 * filesystem is synced instead.
 *
 * Takes no lock of its own; the set belongs to one caller.
 */
#include "blksnap.h"

#include <linux/blkdev.h>
#include <linux/slab.h>
#include <linux/xarray.h>

#include "compat.h"
#include "freeze_set.h"

struct freeze_device {
	struct bdev_ref ref;
	bool is_frozen;
};

struct freeze_set {
	int error;		/* of a device that could not be opened */
	unsigned int nr_devices;
	struct freeze_device devices[];
};

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
		set->error = ret;
}

/**
 * freeze_set_destroy() - close what freeze_set_create() opened
 * @set:	set that is not frozen, or NULL
 */
void freeze_set_destroy(struct freeze_set *set)
{
	unsigned int i;

	if (!set)
		return;
	for (i = 0; i < set->nr_devices; i++)
		bdev_ref_close(&set->devices[i].ref);
	kfree(set);
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
	if (set)
		for (i = 0; i < nr; i++)
			freeze_set_open(set, devs[i]);
	kfree(devs);
	if (set && set->error == -ENOMEM) {
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

/**
 * freeze_set_freeze() - freeze every filesystem of a set
 * @set:	set that is not frozen
 *
 * Return: 0, or the negative errno of one that could not be frozen, -EOPNOTSUPP
 *	   if a device is in use by something that freezing it does not reach.
 *	   The others are frozen all the same.
 */
int freeze_set_freeze(struct freeze_set *set)
{
	unsigned int i;
	int ret = set->error;

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

/**
 * freeze_set_thaw() - thaw what freeze_set_freeze() froze
 * @set:	the set
 */
void freeze_set_thaw(struct freeze_set *set)
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
