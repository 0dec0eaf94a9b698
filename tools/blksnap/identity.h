/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Which disk of the catalogue a device is
 *
 * The names of devices change from boot to boot.  A device is known again by the
 * first of these that is known of it now and then:
 *
 *	PARTUUID	of a partition
 *	WWID		of a disk; each namespace of an NVMe controller has its own
 *	serial		of a disk, or UUID of a volume or an array
 *	UUID_SUB	of this device of a btrfs or an array
 *	UUID		of a filesystem; all devices of a btrfs have the same
 *	PTUUID		of the partition table on a disk
 *
 * and by its path only if there is none of them, it has the size that it had, and
 * it has not lost what it could be known by.  Two devices may have the same of all,
 * if one is a copy of the other; then the one with the same path is preferred, and a
 * disk that is still at its old path is no other device.
 *
 * Earlier versions noted PARTUUID, serial and UUID alone.
 */
#ifndef IDENTITY_H
#define IDENTITY_H

#include <linux/blksnap.h>

#include "catalogue.h"

int identity_find(struct catalogue_disk *disk, struct blk_snap_dev dev);
int identity_name(struct catalogue_disk *disk, struct blk_snap_dev dev,
		  const struct catalogue *catalogue,
		  const struct catalogue_point *point);

#endif /* IDENTITY_H */
