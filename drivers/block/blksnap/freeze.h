/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Freezing the filesystems on the origins of a take
 *
 * freeze_sync() writes out what the filesystems hold in memory, with everything
 * running.  It may take long.  freeze_begin() then freezes one after the other, which
 * writes out the rest and keeps writers waiting, until freeze_end().  If it misses its
 * deadline, everything is thawed at once, except for the filesystem that is still being
 * frozen, which is thawed when it is frozen.
 *
 * Neither syncing nor freezing can be interrupted, so workers do both, and the caller
 * waits for the workers as long as it likes.
 *
 * Context: everything declared here is control path and sleeps.
 */
#ifndef BLKSNAP_FREEZE_H
#define BLKSNAP_FREEZE_H

#include <linux/types.h>

struct block_device;
struct freeze;

/**
 * struct freeze_wait - how long to wait
 * @deadline:	in jiffies
 * @is_ending:	set by another task to end the wait
 */
struct freeze_wait {
	unsigned long deadline;
	const bool *is_ending;
};

int freeze_module_init(void);
void freeze_module_exit(void);

struct freeze *freeze_create(struct block_device **origins, unsigned int nr_origins);
void freeze_destroy(struct freeze *freeze);
int freeze_sync(struct freeze *freeze, const struct freeze_wait *wait);
int freeze_begin(struct freeze *freeze, const struct freeze_wait *wait);
void freeze_check_busy(struct freeze *freeze);
int freeze_error(const struct freeze *freeze, unsigned int nr_origin);
void freeze_end(struct freeze *freeze);

#endif /* BLKSNAP_FREEZE_H */
