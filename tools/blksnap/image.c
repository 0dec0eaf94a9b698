// SPDX-License-Identifier: GPL-2.0
/*
 * Images, and the snapshots that they belong to
 */
#include <stdio.h>
#include <stdlib.h>

#include "device.h"
#include "image.h"
#include "message.h"

/* Is the image one of this snapshot?  Then its origin is noted. */
static bool find_in(struct blksnap *blksnap, const struct blk_snap_uuid *id,
		    struct image *image)
{
	struct blk_snap_image_info *images;
	unsigned int nr_images, i;
	bool found = false;

	if (blksnap_snapshot_collect_images(blksnap, id, &images, &nr_images))
		return false;
	for (i = 0; i < nr_images && !found; i++) {
		found = device_equal(images[i].image_dev_id, image->dev);
		if (found)
			image->origin = images[i].orig_dev_id;
	}
	free(images);
	if (found)
		image->snapshot = *id;
	return found;
}

/**
 * image_find() - find the snapshot and the origin of an image
 * @blksnap:	the module
 * @dev:	the image
 * @text:	the argument that named it, for messages
 * @image:	gets what was found
 *
 * Return: EXIT_OK, or EXIT_USAGE after a message if it is no image; EXIT_FAILED
 *	   after a message.
 */
int image_find(struct blksnap *blksnap, struct blk_snap_dev dev, const char *text,
	       struct image *image)
{
	struct blk_snap_uuid *ids;
	unsigned int nr_ids, i;
	bool found = false;

	image->dev = dev;
	if (blksnap_snapshot_collect(blksnap, &ids, &nr_ids))
		return fail_call("cannot list the snapshots");
	for (i = 0; i < nr_ids && !found; i++)
		found = find_in(blksnap, &ids[i], image);
	free(ids);
	if (found)
		return EXIT_OK;
	return fail(EXIT_USAGE,
		    "'%s' is no image; 'blksnap snapshot images' shows which there are",
		    text);
}

/**
 * image_is_there() - does the image still belong to the snapshot?
 * @blksnap:	the module
 * @image:	as image_find() has found it
 *
 * Numbers of images are given again, identifiers of snapshots are not.
 *
 * Return: true if it does.
 */
bool image_is_there(struct blksnap *blksnap, const struct image *image)
{
	struct image now = { .dev = image->dev };

	return find_in(blksnap, &image->snapshot, &now);
}

/**
 * image_format_path() - write the path of an image
 * @image:	the image; udev need not have made its node
 * @path:	gets the path
 */
void image_format_path(const struct image *image, char path[IMAGE_PATH_SIZE])
{
	snprintf(path, IMAGE_PATH_SIZE, "/dev/%s%u", BLK_SNAP_IMAGE_NAME,
		 image->dev.mn);
}
