/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Which devices were tracked before
 */
#ifndef TRACKING_H
#define TRACKING_H

#include <blksnap/blksnap.h>

/**
 * struct tracking - the devices that were tracked at some time
 * @infos:	as the module lists them
 * @nr_infos:	number of entries
 */
struct tracking {
	struct blk_snap_cbt_info *infos;
	unsigned int nr_infos;
};

int tracking_read(struct tracking *tracking, struct blksnap *blksnap);
void tracking_free(struct tracking *tracking);
void tracking_restore(const struct tracking *tracking, struct blksnap *blksnap,
		      const struct blk_snap_dev *devs, unsigned int nr_devs);

#endif /* TRACKING_H */
