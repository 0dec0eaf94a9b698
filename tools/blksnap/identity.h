/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Which disk of the catalogue a device is
 *
 * The names of devices change from boot to boot.  A device is known again by
 * what is most its own: the PARTUUID of a partition, the serial of a disk, the
 * UUID of a filesystem, and its path only if there is nothing else.
 */
#ifndef IDENTITY_H
#define IDENTITY_H

#include <linux/blksnap.h>

#include "catalogue.h"

int identity_find(struct catalogue_disk *disk, struct blk_snap_dev dev);
int identity_name(struct catalogue_disk *disk,
		  const struct catalogue *catalogue,
		  const struct catalogue_point *point);

#endif /* IDENTITY_H */
