/* SPDX-License-Identifier: GPL-2.0 */
/*
 * One device in one backup
 */
#ifndef BACKUP_H
#define BACKUP_H

#include <stdbool.h>

#include <blksnap/blksnap.h>

#include "catalogue.h"
#include "extents.h"
#include "progress.h"

struct backup_options {
	bool compress;
	bool encrypt;		/* with the key of the catalogue */
	bool used_only;
	bool full;
	bool incremental_only;
	bool quiet;
};

/* What to back up of a device, and where to. */
struct backup_disk {
	const char *text;		/* the argument that named it */
	struct blk_snap_dev dev;
	char *image;
	int image_fd;			/* keeps its number from others */
	struct catalogue_disk *entry;	/* of the new point */
	const struct catalogue_disk *base;	/* NULL: full */
	struct extents extents;
	struct extents free;		/* what is left out */
	struct extents base_free;	/* what was left out of the base */
};

int backup_plan(struct backup_disk *disk, struct blksnap *blksnap,
		const struct catalogue *catalogue,
		struct catalogue_point *point,
		const struct backup_options *options);
int backup_write(const struct backup_disk *disk,
		 const struct catalogue *catalogue, uint64_t number,
		 const struct backup_options *options,
		 struct progress *progress);
void backup_forget(struct backup_disk *disk);

#endif /* BACKUP_H */
