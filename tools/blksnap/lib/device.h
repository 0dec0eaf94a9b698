/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Block devices by number, for the library and for the tool
 */
#ifndef BLKSNAP_LIB_DEVICE_H
#define BLKSNAP_LIB_DEVICE_H

#include <blkid.h>
#include <sys/sysmacros.h>
#include <sys/types.h>

#include <blksnap/blksnap.h>

static inline struct blk_snap_dev device_from_dev_t(dev_t number)
{
	return (struct blk_snap_dev) {
		.mj = major(number),
		.mn = minor(number),
	};
}

static inline bool device_equal(struct blk_snap_dev a, struct blk_snap_dev b)
{
	return a.mj == b.mj && a.mn == b.mn;
}

/* A string to be freed by the caller, NULL if there is no such device. */
static inline char *device_path(struct blk_snap_dev dev)
{
	return blkid_devno_to_devname(makedev(dev.mj, dev.mn));
}

#endif /* BLKSNAP_LIB_DEVICE_H */
