/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Images, and the snapshots that they belong to
 */
#ifndef IMAGE_H
#define IMAGE_H

#include <stdbool.h>

#include <blksnap/blksnap.h>

#define IMAGE_PATH_SIZE 48	/* "/dev/", the name of all, and a number */

struct image {
	struct blk_snap_uuid snapshot;
	struct blk_snap_dev dev;
	struct blk_snap_dev origin;
};

int image_find(struct blksnap *blksnap, struct blk_snap_dev dev, const char *text,
	       struct image *image);
bool image_is_there(struct blksnap *blksnap, const struct image *image);
void image_format_path(const struct image *image, char path[IMAGE_PATH_SIZE]);

#endif /* IMAGE_H */
