/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Warnings about origins that are part of something larger
 */
#ifndef ADVICE_H
#define ADVICE_H

#include <stdbool.h>

#include <linux/blksnap.h>

bool is_btrfs_on_several(const char *path);
void advise(const struct blk_snap_dev *devs, unsigned int nr_devs);

#endif /* ADVICE_H */
