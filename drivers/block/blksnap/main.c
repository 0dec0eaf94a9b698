// SPDX-License-Identifier: GPL-2.0
/*
 * Module parameters, loading and unloading
 *
 * The parameters are limits of the whole module, constant once it is loaded.
 * The units are started from the bottom to the top and stopped in reverse order,
 * so the units that each one calls are ready.
 */
#include "blksnap.h"

#include <linux/kernel.h>
#include <linux/limits.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/stringify.h>

#include "cow.h"
#include "ctrl.h"
#include "extent_map.h"
#include "filter.h"
#include "freeze.h"
#include "inflight.h"
#include "inspect.h"
#include "resubmit.h"
#include "snapimage.h"
#include "snapshot.h"
#include "tracker.h"

#define BLKSNAP_VERSION							\
	__stringify(BLKSNAP_VERSION_MAJOR) "."				\
	__stringify(BLKSNAP_VERSION_MINOR) "."				\
	__stringify(BLKSNAP_VERSION_REVISION) "."			\
	__stringify(BLKSNAP_VERSION_BUILD)

/* 64 KiB: a map of 16 KiB for each GiB of the origin. */
unsigned int tracking_block_minimum_shift = 16;
module_param(tracking_block_minimum_shift, uint, 0444);
MODULE_PARM_DESC(tracking_block_minimum_shift,
		 "Smallest tracking block, as log2 of bytes (12 to 30, default 16)");

/* 16 MiB for each of the two maps of an origin, if all of it is written. */
unsigned int tracking_block_maximum_count = 16777216;
module_param(tracking_block_maximum_count, uint, 0444);
MODULE_PARM_DESC(tracking_block_maximum_count,
		 "Tracking blocks of one origin; larger blocks are used beyond (1024 to 268435456, default 16777216)");

/* 4 KiB: the smallest write of most filesystems. */
unsigned int copy_block_minimum_shift = 12;
module_param(copy_block_minimum_shift, uint, 0444);
MODULE_PARM_DESC(copy_block_minimum_shift,
		 "Smallest block that is copied, as log2 of bytes (12 to 20, default 12)");

/* 64 TiB in blocks of 4 KiB; the bitmap has 32 KiB for each GiB that is written to. */
unsigned long long copy_block_maximum_count = 17179869184;
module_param(copy_block_maximum_count, ullong, 0444);
MODULE_PARM_DESC(copy_block_maximum_count,
		 "Copied blocks of one origin; larger blocks are used beyond (65536 to 68719476736, default 17179869184)");

/* 1 GiB: agents append that much for each low_free_space event. */
unsigned int diff_storage_minimum = 2097152;
module_param(diff_storage_minimum, uint, 0444);
MODULE_PARM_DESC(diff_storage_minimum,
		 "Difference storage to ask for, in sectors of 512 bytes; asked for again when half of it is left (2048 or more, default 2097152)");

/* Twice what an agent needs to receive an event and to append storage. */
unsigned int diff_storage_ahead = 1000;
module_param(diff_storage_ahead, uint, 0444);
MODULE_PARM_DESC(diff_storage_ahead,
		 "Raise low_free_space when free storage would last less than this many ms at the current fill rate (0 to 60000, default 1000)");

/* Enough to keep slow storage busy, and bounded if there are many origins. */
unsigned int copy_memory_maximum = 64;
module_param(copy_memory_maximum, uint, 0444);
MODULE_PARM_DESC(copy_memory_maximum,
		 "Memory for copies not stored yet, in MiB for each origin; writes are held beyond (4 to 4096, default 64)");

/* Longer than drivers retry, but a call must not hang for ever. */
unsigned int take_drain_limit = 60;
module_param(take_drain_limit, uint, 0444);
MODULE_PARM_DESC(take_drain_limit,
		 "Seconds that a take waits, with everything running, for writes submitted before it (1 to 3600, default 60)");

/* How long a cgroup with a low limit may keep a write back. */
unsigned int settle_watch = 600;
module_param(settle_watch, uint, 0444);
MODULE_PARM_DESC(settle_watch,
		 "Seconds for which writes submitted before their disk was tracked are watched for (1 to 86400, default 600)");

bool copy_discarded;
module_param(copy_discarded, bool, 0444);
MODULE_PARM_DESC(copy_discarded,
		 "Copy what is discarded during a snapshot, and discard it, rather than skip the discard (default N)");

bool discard_later = true;
module_param(discard_later, bool, 0444);
MODULE_PARM_DESC(discard_later,
		 "Carry out at the end of a snapshot what was to be discarded meanwhile; not where others write to the disk, too (default Y)");

/* Not in the table, because the parameter has more bits. */
#define MIN_COPY_BLOCK_COUNT BIT_ULL(16)
#define MAX_COPY_BLOCK_COUNT BIT_ULL(36)

/* Both limits inclusive. */
struct parameter_range {
	const char *name;
	const unsigned int *value;
	unsigned int minimum;
	unsigned int maximum;
};

#define PARAMETER_RANGE(name, minimum, maximum) { #name, &(name), minimum, maximum }

static const struct parameter_range parameter_ranges[] __initconst = {
	PARAMETER_RANGE(tracking_block_minimum_shift, 12, 30),
	PARAMETER_RANGE(tracking_block_maximum_count, 1U << 10, 1U << 28),
	PARAMETER_RANGE(copy_block_minimum_shift, 12, 20),
	PARAMETER_RANGE(diff_storage_minimum, 2048, UINT_MAX),
	PARAMETER_RANGE(diff_storage_ahead, 0, 60000),
	PARAMETER_RANGE(copy_memory_maximum, 4, 4096),
	PARAMETER_RANGE(take_drain_limit, 1, 3600),
	PARAMETER_RANGE(settle_watch, 1, 86400),
};

static int __init blksnap_check_parameters(void)
{
	const struct parameter_range *range;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(parameter_ranges); i++) {
		range = &parameter_ranges[i];
		if (*range->value < range->minimum || *range->value > range->maximum) {
			pr_err("parameter %s=%u: valid is %u to %u\n", range->name,
			       *range->value, range->minimum, range->maximum);
			return -EINVAL;
		}
	}
	if (copy_block_maximum_count < MIN_COPY_BLOCK_COUNT ||
	    copy_block_maximum_count > MAX_COPY_BLOCK_COUNT) {
		pr_err("parameter copy_block_maximum_count=%llu: valid is %llu to %llu\n",
		       copy_block_maximum_count, MIN_COPY_BLOCK_COUNT, MAX_COPY_BLOCK_COUNT);
		return -EINVAL;
	}
	return 0;
}

static const struct blksnap_unit {
	int (*init)(void);
	void (*exit)(void);
} blksnap_units[] = {
	{ extent_map_module_init, extent_map_module_exit },
	{ filter_module_init, filter_module_exit },
	{ inflight_module_init, inflight_module_exit },
	{ cow_module_init, cow_module_exit },
	{ tracker_module_init, tracker_module_exit },
	{ snapimage_module_init, snapimage_module_exit },
	{ freeze_module_init, freeze_module_exit },
	{ snapshot_module_init, snapshot_module_exit },
	{ inspect_module_init, inspect_module_exit },
	{ ctrl_module_init, ctrl_module_exit },
};

/* Unloading begins when there is no snapshot and no open image. */
static void blksnap_exit_units(unsigned int nr_units)
{
	while (nr_units-- > 0)
		blksnap_units[nr_units].exit();
}

static int __init blksnap_init(void)
{
	unsigned int i;
	int ret;

	ret = blksnap_check_parameters();
	if (ret)
		return ret;
	for (i = 0; i < ARRAY_SIZE(blksnap_units); i++) {
		ret = blksnap_units[i].init();
		if (ret) {
			blksnap_exit_units(i);
			return ret;
		}
	}
	pr_info("version " BLKSNAP_VERSION " loaded\n");
	return 0;
}

static void __exit blksnap_exit(void)
{
	blksnap_exit_units(ARRAY_SIZE(blksnap_units));
}

module_init(blksnap_init);
module_exit(blksnap_exit);

MODULE_DESCRIPTION("Block device snapshots and change tracking");
MODULE_VERSION(BLKSNAP_VERSION);
MODULE_LICENSE("GPL");
