/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The disk through which a snapshot's image of one origin is read
 *
 * A bio-based gendisk that passes every bio to the engine.  The snapshot owns
 * the image; openers keep the disk and the engine's memory, not the data: once
 * the engine is stopped their I/O fails.
 *
 * snapimage_end() takes an image away from the system once its engine is stopped,
 * and workers delete its disk: at once if it is closed, else after the last close.
 * The caller ends all images of a snapshot, so that they are deleted at the same
 * time, and then calls snapimage_wait_deleted(), which waits for those that are
 * closed.
 *
 * An image has its minor number, and with it its name, from snapimage_create()
 * until the last opener has closed it, which may be long after snapimage_end().
 * The number is the lowest that no image has.
 *
 * Context: everything declared here is control path and sleeps.  No function
 * takes a lock that the I/O path of the image needs.
 */
#ifndef BLKSNAP_SNAPIMAGE_H
#define BLKSNAP_SNAPIMAGE_H

#include <linux/types.h>
#include <linux/uuid.h>

struct block_device;
struct cow;
struct diff_storage;
struct snapimage;

/**
 * struct snapimage_config - what an image shows
 * @origin:	lends its limits; not used after snapimage_create()
 * @origin_dev:	number of the origin, as user space named it
 * @snapshot_id: identifier of the snapshot, copied
 * @nr_sectors:	capacity of the origin when the engine was created
 * @cow:	does the I/O; the image takes a reference of its own
 * @storage:	of the snapshot, for sysfs; has to stay until
 *		snapimage_end() has returned
 */
struct snapimage_config {
	struct block_device *origin;
	dev_t origin_dev;
	const uuid_t *snapshot_id;
	sector_t nr_sectors;
	struct cow *cow;
	struct diff_storage *storage;
};

int snapimage_module_init(void);
void snapimage_module_exit(void);

struct snapimage *snapimage_create(const struct snapimage_config *config);
int snapimage_add(struct snapimage *image, bool was_frozen);
void snapimage_end(struct snapimage *image);
void snapimage_wait_deleted(void);

dev_t snapimage_dev(const struct snapimage *image);
bool snapimage_origin(dev_t image_dev, dev_t *origin_dev);

#endif /* BLKSNAP_SNAPIMAGE_H */
