// SPDX-License-Identifier: GPL-2.0
/*
 * What cannot be protected
 *
 * Checks what a device itself shows.  Writes past the filter show only when they happen,
 * see bypass.h.
 */
#include "blksnap.h"

#include <linux/blkdev.h>
#include <linux/kdev_t.h>
#include <linux/printk.h>
#include <linux/ratelimit.h>
#include <linux/sizes.h>

#include "cow.h"
#include "protect.h"

/* Enough to try one device after the other, but not for a loop. */
static DEFINE_RATELIMIT_STATE(protect_ratelimit, 5 * HZ, 100);

static const char *protect_find_obstacle(struct block_device *origin)
{
	/* Zones are written and reset by commands that cannot be held. */
	if (bdev_is_zoned(origin))
		return "it is zoned";
	/* Stores through a mapping never become bios. */
	if (blk_queue_dax(bdev_get_queue(origin)))
		return "it supports DAX";
	/* What is copied and stored comes in units of 4 KiB. */
	if (bdev_logical_block_size(origin) > SZ_4K)
		return "its logical blocks are larger than 4 KiB";
	if (cow_block_shift(bdev_nr_sectors(origin)) > COW_BLOCK_SHIFT_MAX)
		return "it is too large for blocks of 1 MiB";
	return NULL;
}

/* -EOPNOTSUPP; @reason is a sentence about "it". */
int protect_refuse(dev_t dev, const char *reason)
{
	if (__ratelimit(&protect_ratelimit))
		pr_err("%u:%u: cannot be protected: %s\n", MAJOR(dev), MINOR(dev), reason);
	return -EOPNOTSUPP;
}

/* Can the open device be protected, as far as it shows? */
int protect_check(struct block_device *origin)
{
	const char *obstacle = protect_find_obstacle(origin);

	return obstacle ? protect_refuse(origin->bd_dev, obstacle) : 0;
}
