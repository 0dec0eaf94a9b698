/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The filesystems on an origin, to be frozen and thawed together
 *
 * A filesystem is on an origin if it is mounted from it or, where the origin is
 * a whole disk, from one of its partitions.
 *
 * A set is created before anything is frozen, for creating it allocates and
 * opens devices.  With several sets, freeze what is stacked on top first and
 * thaw it last: both may write to what is below.
 *
 * Context: process context, everything sleeps.
 */
#ifndef BLKSNAP_FREEZE_SET_H
#define BLKSNAP_FREEZE_SET_H

#include <linux/types.h>

struct block_device;
struct freeze_set;

int freeze_set_module_init(void);
void freeze_set_module_exit(void);

struct freeze_set *freeze_set_create(struct block_device *origin);
void freeze_set_destroy(struct freeze_set *set);

int freeze_set_freeze(struct freeze_set *set);
void freeze_set_thaw(struct freeze_set *set);

#endif /* BLKSNAP_FREEZE_SET_H */
