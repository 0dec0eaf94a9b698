/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What every file of the module shares: the message prefix and the limits
 *
 * The limits are module parameters, defined and checked in main.c and fixed
 * once the module is loaded (all are 0444).
 */
#ifndef BLKSNAP_BLKSNAP_H
#define BLKSNAP_BLKSNAP_H

#ifdef pr_fmt
#undef pr_fmt
#endif
#define pr_fmt(fmt) "blksnap: " fmt

#include <linux/types.h>

extern unsigned int tracking_block_minimum_shift;	/* log2 of bytes */
extern unsigned int tracking_block_maximum_count;	/* tracking blocks per origin */
extern unsigned int copy_block_minimum_shift;		/* log2 of bytes */
extern unsigned long long copy_block_maximum_count;	/* engine blocks per origin */
extern unsigned int diff_storage_minimum;		/* 512-byte sectors */
extern unsigned int diff_storage_ahead;			/* ms */
extern unsigned int copy_memory_maximum;		/* MiB of in-memory copies per origin */
extern unsigned int take_drain_limit;			/* s */
extern unsigned int settle_watch;			/* s */
extern bool copy_discarded;				/* copy what is discarded, not skip it */
extern bool discard_later;				/* make up for discards that are skipped */

#endif /* BLKSNAP_BLKSNAP_H */
