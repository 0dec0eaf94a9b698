/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Is a folder on a disk that is backed up?
 *
 * As a rule it is not meant to be: the disk for the backups is not mounted.
 */
#ifndef SAME_DISK_H
#define SAME_DISK_H

#include <blksnap/blksnap.h>

unsigned int same_disk_find(const char *folder, const struct blk_snap_dev *devs,
			    unsigned int nr_devs);

#endif /* SAME_DISK_H */
