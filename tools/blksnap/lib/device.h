/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Block devices by number
 */
#ifndef DEVICE_H
#define DEVICE_H

#include <sys/types.h>

#include <blksnap/blksnap.h>

struct blk_snap_dev device_from_dev_t(dev_t number);
bool device_equal(struct blk_snap_dev a, struct blk_snap_dev b);
char *device_path(struct blk_snap_dev dev);

#endif /* DEVICE_H */
