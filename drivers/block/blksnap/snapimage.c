// SPDX-License-Identifier: GPL-2.0
/*
 * The disk through which a snapshot's image of one origin is read
 *
 * A bio-based gendisk: each bio goes to the engine in the context of its submitter.
 * The snapshot creates the image before the take, adds it to the system when it can
 * be read, and ends it.  Openers may keep the disk longer, so the image is freed with
 * the disk:
 *
 *	created -> added -> ended, while it is open -> deleted -> freed
 *
 * An image that has ended fails all I/O and cannot be opened any more, but keeps its
 * size.  The size of a deleted disk is 0, so a reader would think that it has reached
 * the end of the image.  So the disk is deleted only after the last close.
 *
 * The minor number is given back in the last step.  A new disk with the number of one
 * that is still open would be safe for the block layer, which has unhashed the old
 * one, but not for users that know a device by its number: mounting the new image
 * would find the superblock of the old one.
 */
#include "blksnap.h"

#include <linux/atomic.h>
#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/kdev_t.h>
#include <linux/major.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/sysfs.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>
#include <linux/blksnap.h>

#include "compat.h"
#include "cow.h"
#include "diff_storage.h"
#include "snapimage.h"

/**
 * struct snapimage - the image of one origin
 * @disk:	the disk, with the reference from its allocation until it is
 *		deleted
 * @cow:	with a reference, until the image is freed
 * @deletion:	deletes @disk once the image has ended and is closed
 * @storage:	for sysfs, NULL once the image has ended; under the lock of
 *		snapimages
 * @origin_dev:	number of the origin
 * @snapshot_id: identifier of the snapshot
 * @nr_sectors:	capacity
 * @minor:	number of the image
 * @was_frozen:	the filesystem on the origin was frozen at the take
 * @is_added:	@disk was added, and the image has not ended
 * @is_known:	@minor means this image: from just before @disk is added until the
 *		image ends; under the lock of snapimages
 * @has_ended:	@disk cannot be opened any more; under its open_mutex
 *
 * Held by the snapshot until snapimage_end(), then by @disk.
 */
struct snapimage {
	struct gendisk *disk;
	struct cow *cow;
	struct work_struct deletion;
	struct diff_storage *storage;
	dev_t origin_dev;
	uuid_t snapshot_id;
	sector_t nr_sectors;
	u32 minor;
	bool was_frozen;
	bool is_added;
	bool is_known;
	bool has_ended;
};

static int snapimage_major;

/* All images by minor number, also those that have ended but are still open. */
static DEFINE_XARRAY_ALLOC(snapimages);

/* Images that are not freed yet. */
static atomic_t snapimage_live = ATOMIC_INIT(0);

/* Deletes images that have ended. */
static struct workqueue_struct *snapimage_wq;

static void snapimage_free(struct snapimage *image)
{
	cow_put(image->cow);		/* of snapimage_create() */
	xa_erase(&snapimages, image->minor);
	kfree(image);
	/* No wake-up follows, which may sleep on PREEMPT_RT: see snapimage_module_exit(). */
	atomic_dec(&snapimage_live);
}

static void snapimage_submit_bio(struct bio *bio)
{
	struct snapimage *image = bio->bi_bdev->bd_disk->private_data;

	/* An empty flush, if a write cache was declared in sysfs. */
	if (!bio_sectors(bio)) {
		bio_endio(bio);
		return;
	}
	cow_submit_image_bio(image->cow, bio);
}

/* Called by the block layer only if the disk was added. */
static void snapimage_free_disk(struct gendisk *disk)
{
	snapimage_free(disk->private_data);
}

/* Under disk->open_mutex. */
COMPAT_DISK_OPEN(snapimage_open)
{
	struct snapimage *image = COMPAT_OPENED_DISK(opened)->private_data;

	return image->has_ended ? -ENXIO : 0;
}

/* Under disk->open_mutex, which deleting takes, too. */
COMPAT_DISK_RELEASE(snapimage_release)
{
	struct snapimage *image = disk->private_data;

	if (image->has_ended && !disk_openers(disk))
		queue_work(snapimage_wq, &image->deletion);
}

static const struct block_device_operations snapimage_fops = {
	.owner = THIS_MODULE,
	.open = snapimage_open,
	.release = snapimage_release,
	.submit_bio = snapimage_submit_bio,
	.free_disk = snapimage_free_disk,
};

static struct snapimage *snapimage_of_device(struct device *dev)
{
	return dev_to_disk(dev)->private_data;
}

static ssize_t origin_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	dev_t origin_dev = snapimage_of_device(dev)->origin_dev;

	return sysfs_emit(buf, "%u:%u\n", MAJOR(origin_dev), MINOR(origin_dev));
}
static DEVICE_ATTR_RO(origin);

static ssize_t snapshot_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%pUb\n", &snapimage_of_device(dev)->snapshot_id);
}
static DEVICE_ATTR_RO(snapshot);

static ssize_t filesystem_frozen_show(struct device *dev, struct device_attribute *attr,
				      char *buf)
{
	return sysfs_emit(buf, "%d\n", snapimage_of_device(dev)->was_frozen);
}
static DEVICE_ATTR_RO(filesystem_frozen);

static ssize_t error_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct cow_stats stats;

	cow_stats(snapimage_of_device(dev)->cow, &stats);
	return sysfs_emit(buf, "%d\n", -stats.error);
}
static DEVICE_ATTR_RO(error);

/* An image that has ended has no storage any more. */
static ssize_t snapimage_show_storage(struct snapimage *image, char *buf,
				      u64 (*nr_sectors)(struct diff_storage *storage))
{
	u64 nr = 0;

	xa_lock(&snapimages);
	if (image->storage)
		nr = nr_sectors(image->storage);
	xa_unlock(&snapimages);
	return sysfs_emit(buf, "%llu\n", nr << SECTOR_SHIFT);
}

static ssize_t storage_bytes_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return snapimage_show_storage(snapimage_of_device(dev), buf, diff_storage_capacity);
}
static DEVICE_ATTR_RO(storage_bytes);

static ssize_t storage_free_bytes_show(struct device *dev, struct device_attribute *attr,
				       char *buf)
{
	return snapimage_show_storage(snapimage_of_device(dev), buf, diff_storage_free_sectors);
}
static DEVICE_ATTR_RO(storage_free_bytes);

/* One file for each of the engine's figures. */
#define SNAPIMAGE_STAT_SHOW(name)						\
static ssize_t name##_show(struct device *dev, struct device_attribute *attr,	\
			   char *buf)						\
{										\
	struct cow_stats stats;							\
										\
	cow_stats(snapimage_of_device(dev)->cow, &stats);			\
	return sysfs_emit(buf, "%llu\n", stats.name);				\
}

SNAPIMAGE_STAT_SHOW(copied_bytes)
static DEVICE_ATTR_RO(copied_bytes);
SNAPIMAGE_STAT_SHOW(stored_bytes)
static DEVICE_ATTR_RO(stored_bytes);
SNAPIMAGE_STAT_SHOW(memory_bytes)
static DEVICE_ATTR_RO(memory_bytes);
SNAPIMAGE_STAT_SHOW(held_writes)
static DEVICE_ATTR_RO(held_writes);
SNAPIMAGE_STAT_SHOW(held_writes_total)
static DEVICE_ATTR_RO(held_writes_total);
SNAPIMAGE_STAT_SHOW(held_ns_total)
static DEVICE_ATTR_RO(held_ns_total);

static struct attribute *snapimage_attrs[] = {
	&dev_attr_origin.attr,
	&dev_attr_snapshot.attr,
	&dev_attr_filesystem_frozen.attr,
	&dev_attr_error.attr,
	&dev_attr_copied_bytes.attr,
	&dev_attr_stored_bytes.attr,
	&dev_attr_memory_bytes.attr,
	&dev_attr_held_writes.attr,
	&dev_attr_held_writes_total.attr,
	&dev_attr_held_ns_total.attr,
	&dev_attr_storage_bytes.attr,
	&dev_attr_storage_free_bytes.attr,
	NULL
};

static const struct attribute_group snapimage_attr_group = {
	.name = "blksnap",
	.attrs = snapimage_attrs,
};

static const struct attribute_group *snapimage_attr_groups[] = {
	&snapimage_attr_group,
	NULL
};

/*
 * The image is a disk of its own, without partitions (though its data may contain a
 * partition table), write cache, discard or write-zeroes.  But its bios go on to the
 * origin, so they need the alignment of the origin's.  They go on to storage, too, whose
 * logical blocks are no larger than the origin's; some drivers want buffers aligned to
 * these.
 */
static struct gendisk *snapimage_alloc_disk(struct snapimage *image,
					    struct block_device *origin)
{
	struct queue_limits limits = {
		.logical_block_size = bdev_logical_block_size(origin),
		.physical_block_size = bdev_physical_block_size(origin),
		.io_min = bdev_io_min(origin),
		.io_opt = bdev_io_opt(origin),
		.dma_alignment = max(bdev_dma_alignment(origin),
				     bdev_logical_block_size(origin) - 1),
	};
	struct gendisk *disk;

	disk = blk_alloc_disk(&limits, NUMA_NO_NODE);
	if (IS_ERR(disk))
		return disk;
	disk->major = snapimage_major;
	disk->first_minor = image->minor;
	disk->minors = 1;
	disk->flags |= GENHD_FL_NO_PART;
	disk->fops = &snapimage_fops;
	disk->private_data = image;
	snprintf(disk->disk_name, sizeof(disk->disk_name), "%s%u", BLK_SNAP_IMAGE_NAME,
		 image->minor);
	set_capacity(disk, image->nr_sectors);
	/* A writer's pages go on to the storage, which may compute checksums of them. */
	compat_disk_need_stable_pages(disk);
	return disk;
}

/* Frees the image with the disk. */
static void snapimage_deletion(struct work_struct *work)
{
	struct gendisk *disk = container_of(work, struct snapimage, deletion)->disk;

	del_gendisk(disk);
	put_disk(disk);		/* of snapimage_alloc_disk() */
}

/* ERR_PTR(-ENOMEM), or ERR_PTR(-EBUSY) if all minor numbers are taken. */
struct snapimage *snapimage_create(const struct snapimage_config *config)
{
	struct snapimage *image;
	int ret;

	image = kzalloc_obj(*image, GFP_KERNEL);
	if (!image)
		return ERR_PTR(-ENOMEM);
	image->cow = cow_get(config->cow);	/* put by snapimage_free() */
	INIT_WORK(&image->deletion, snapimage_deletion);
	image->storage = config->storage;
	image->origin_dev = config->origin_dev;
	image->snapshot_id = *config->snapshot_id;
	image->nr_sectors = config->nr_sectors;

	/* Images that are closed by now give their numbers back. */
	flush_workqueue(snapimage_wq);
	ret = xa_alloc(&snapimages, &image->minor, image, XA_LIMIT(0, MINORMASK), GFP_KERNEL);
	if (ret)
		goto err_free_image;
	image->disk = snapimage_alloc_disk(image, config->origin);
	if (IS_ERR(image->disk)) {
		ret = PTR_ERR(image->disk);
		goto err_erase_minor;
	}
	atomic_inc(&snapimage_live);
	return image;

err_erase_minor:
	xa_erase(&snapimages, image->minor);
err_free_image:
	cow_put(image->cow);
	kfree(image);
	return ERR_PTR(ret);
}

static void snapimage_set_known(struct snapimage *image, bool is_known)
{
	xa_lock(&snapimages);
	image->is_known = is_known;
	xa_unlock(&snapimages);
}

/* The engine has been published.  After an error the image can only be ended. */
int snapimage_add(struct snapimage *image, bool was_frozen)
{
	int ret;

	image->was_frozen = was_frozen;
	/* The disk can be opened before device_add_disk() returns. */
	snapimage_set_known(image, true);
	ret = device_add_disk(NULL, image->disk, snapimage_attr_groups);
	if (ret) {
		snapimage_set_known(image, false);
		return ret;
	}
	image->is_added = true;
	/* Deleting the disk then needs no grace period of RCU. */
	percpu_ref_switch_to_atomic(&image->disk->queue->q_usage_counter, NULL);
	return 0;
}

/* Added or not; the caller may not use the image afterwards. */
void snapimage_end(struct snapimage *image)
{
	struct gendisk *disk = image->disk;

	if (!image->is_added) {
		put_disk(disk);
		snapimage_free(image);
		return;
	}
	image->is_added = false;
	xa_lock(&snapimages);
	image->is_known = false;
	image->storage = NULL;
	xa_unlock(&snapimages);

	/* The last close queues the deletion if it comes later. */
	mutex_lock(&disk->open_mutex);
	image->has_ended = true;
	if (!disk_openers(disk))
		queue_work(snapimage_wq, &image->deletion);
	mutex_unlock(&disk->open_mutex);
}

void snapimage_wait_deleted(void)
{
	flush_workqueue(snapimage_wq);
}

dev_t snapimage_dev(const struct snapimage *image)
{
	return MKDEV(snapimage_major, image->minor);
}

/* The origin of an image; false if there is no such image yet, or it has ended. */
bool snapimage_origin(dev_t image_dev, dev_t *origin_dev)
{
	struct snapimage *image;
	bool is_image;

	if (MAJOR(image_dev) != snapimage_major)
		return false;

	xa_lock(&snapimages);
	image = xa_load(&snapimages, MINOR(image_dev));
	is_image = image && image->is_known;
	if (is_image)
		*origin_dev = image->origin_dev;
	xa_unlock(&snapimages);
	return is_image;
}

int snapimage_module_init(void)
{
	int major;

	snapimage_wq = alloc_workqueue("blksnap_delete", WQ_UNBOUND, 0);
	if (!snapimage_wq)
		return -ENOMEM;
	major = register_blkdev(0, BLK_SNAP_IMAGE_NAME);
	if (major < 0) {
		destroy_workqueue(snapimage_wq);
		return major;
	}
	snapimage_major = major;
	return 0;
}

/*
 * Open images keep the module, but the block layer drops its reference shortly before
 * it frees the disk, and before an image that has ended is deleted.
 */
void snapimage_module_exit(void)
{
	while (atomic_read(&snapimage_live))
		usleep_range(500, 1000);
	destroy_workqueue(snapimage_wq);
	/* The task that has freed the last image may not have returned from that yet. */
	synchronize_rcu_tasks();
	unregister_blkdev(snapimage_major, BLK_SNAP_IMAGE_NAME);
	xa_destroy(&snapimages);
}
