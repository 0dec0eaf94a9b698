// SPDX-License-Identifier: GPL-2.0
/*
 * Devices with storage of a snapshot on them
 *
 * The module claims a device, once for all snapshots, unless somebody else has claimed it.
 * Then nobody can mount it, format it, or make it part of another device.  A device that is
 * in use already, by the filesystem whose file is the storage for instance, is shared.  So
 * is an origin of the snapshot, which may be mounted at any time.
 *
 * What is refused here has its reason in the log.
 *
 * Lock order: snapshots_lock, see snapshot_priv.h.
 */
#include "blksnap.h"

#include <linux/blkdev.h>
#include <linux/err.h>
#include <linux/kdev_t.h>
#include <linux/printk.h>
#include <linux/ratelimit.h>
#include <linux/slab.h>

#include "diff_storage.h"
#include "snapimage.h"
#include "snapshot_priv.h"
#include "storage_stack.h"
#include "tracker.h"

/* Enough to try one range after the other, but not for a loop. */
static DEFINE_RATELIMIT_STATE(storage_ratelimit, 5 * HZ, 100);

/* Its address is the holder of every device that is claimed. */
static char storage_holder;

/* Returns @error, a negative errno; @reason is a sentence about "it". */
int storage_refuse(dev_t dev, int error, const char *reason)
{
	if (__ratelimit(&storage_ratelimit))
		pr_err("%u:%u: cannot be storage: %s\n", MAJOR(dev), MINOR(dev), reason);
	return error;
}

static int storage_device_check(struct block_device *bdev)
{
	if (bdev_read_only(bdev))
		return storage_refuse(bdev->bd_dev, -EROFS, "it is read-only");
	if (bdev_is_zoned(bdev))
		return storage_refuse(bdev->bd_dev, -EINVAL, "it is zoned");
	/* Copies are written anywhere, in units of DIFF_STORAGE_ALIGN_SECTORS. */
	if (bdev_logical_block_size(bdev) > DIFF_STORAGE_ALIGN_SECTORS << SECTOR_SHIFT)
		return storage_refuse(bdev->bd_dev, -EINVAL,
				      "its logical blocks are larger than 4 KiB");
	return 0;
}

/* Do the device and the member share sectors? */
static bool member_overlaps(const struct snapshot_member *member, struct block_device *bdev)
{
	sector_t start = bdev->bd_start_sect;
	sector_t end = start + bdev_nr_sectors(bdev);

	return bdev->bd_disk == tracker_disk(member->tracker) &&
	       member_clip(member, &start, &end);
}

/*
 * Does an origin of the snapshot lie on this device, at least in part?  With @is_whole, as
 * the device itself or as a partition of it.
 */
static bool snapshot_has_origin_on(struct snapshot *snapshot, struct block_device *bdev,
				   bool is_whole)
{
	const struct snapshot_member *member;
	bool is_found = false;
	u32 i;

	mutex_lock(&snapshots_lock);
	/* The trackers of one that is ending may have gone. */
	for (i = 0; i < snapshot->nr_members && !snapshot->is_ending && !is_found; i++) {
		member = &snapshot->members[i];
		is_found = member_overlaps(member, bdev) &&
			   (!is_whole || !bdev_is_partition(bdev) ||
			    member->dev == bdev->bd_dev);
	}
	mutex_unlock(&snapshots_lock);
	return is_found;
}

static bool snapshot_has_origin_on_dev(struct snapshot *snapshot, dev_t dev)
{
	struct bdev_ref ref;
	bool is_found;

	/* If it cannot be opened, a store that gets there is still found by cow_hold(). */
	if (bdev_ref_open(&ref, dev, false, NULL))
		return false;
	is_found = snapshot_has_origin_on(snapshot, ref.bdev, false);
	bdev_ref_close(&ref);
	return is_found;
}

static int snapshot_check_lower(struct snapshot *snapshot, dev_t dev, dev_t lower)
{
	dev_t origin_dev;

	if (snapimage_origin(lower, &origin_dev))
		return storage_refuse(dev, -EINVAL, "it lies on an image");
	if (snapshot_has_origin_on_dev(snapshot, lower))
		return storage_refuse(dev, -EINVAL,
				      "it lies on an origin through another driver");
	return 0;
}

/*
 * Storing on an origin through another driver would be a write to the origin, which has to
 * be stored before it.  What is not seen here is found when it happens, see cow_hold().
 */
static int snapshot_check_stack(struct snapshot *snapshot, dev_t dev)
{
	struct storage_stack *stack = kmalloc_obj(*stack, GFP_KERNEL);
	unsigned int i;
	int ret;

	if (!stack)
		return -ENOMEM;
	ret = storage_stack_walk(stack, dev);
	/* The device itself, the first one, may be an origin. */
	for (i = 1; i < stack->nr && !ret; i++)
		ret = snapshot_check_lower(snapshot, dev, stack->devs[i]);
	kfree(stack);
	return ret;
}

/* Claims an open device, or leaves it shared if somebody else has claimed it. */
static int storage_device_claim(struct storage_device *device)
{
	struct bdev_ref claimed;
	int ret = bdev_ref_open(&claimed, device->dev, true, &storage_holder);

	if (ret)
		return ret == -EBUSY ? 0 : ret;
	bdev_ref_close(&device->ref);
	device->ref = claimed;
	return 0;
}

static int storage_device_prepare(struct snapshot *snapshot, struct storage_device *device)
{
	int ret = storage_device_check(device->ref.bdev);

	if (!ret)
		ret = snapshot_check_stack(snapshot, device->dev);
	if (!ret && !snapshot_has_origin_on(snapshot, device->ref.bdev, true))
		ret = storage_device_claim(device);
	return ret;
}

/*
 * For snapshot_add_storage() or storage_device_close(); or an ERR_PTR, see
 * snapshot_append_storage().  May wait for the device.
 */
struct storage_device *storage_device_open(struct snapshot *snapshot, dev_t dev)
{
	struct storage_device *device;
	dev_t origin_dev;
	int ret;

	if (!dev)
		return ERR_PTR(-ENODEV);
	/* Copies on an image would have to be copied, too. */
	if (snapimage_origin(dev, &origin_dev))
		return ERR_PTR(storage_refuse(dev, -EINVAL, "it is an image"));
	device = kzalloc_obj(*device, GFP_KERNEL);
	if (!device)
		return ERR_PTR(-ENOMEM);
	device->dev = dev;
	ret = bdev_ref_open(&device->ref, dev, true, NULL);
	if (ret == -EBUSY)
		storage_refuse(dev, ret,
			       "it is mounted, and bdev_allow_write_mounted=0 forbids to write to it");
	if (ret)
		goto err_free;
	ret = storage_device_prepare(snapshot, device);
	if (ret)
		goto err_close;
	return device;

err_close:
	bdev_ref_close(&device->ref);
err_free:
	kfree(device);
	return ERR_PTR(ret);
}

void storage_device_close(struct storage_device *device)
{
	bdev_ref_close(&device->ref);
	kfree(device);
}

/* The storage has been destroyed. */
void snapshot_close_storage_devices(struct snapshot *snapshot)
{
	struct storage_device *device, *next;

	list_for_each_entry_safe(device, next, &snapshot->storage_devices, link) {
		list_del(&device->link);
		storage_device_close(device);
	}
}
