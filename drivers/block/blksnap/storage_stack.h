/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a block device lies on
 *
 * Device mapper, md and others make devices of devices, and a loop device lies in a file.
 * The kernel has no function that tells, but sysfs does.  What sysfs does not show, or not
 * to the caller, is not found.
 *
 * Context: control path.  Waits for no device, but for the filesystem that the file of a
 * loop device is looked up in.
 */
#ifndef BLKSNAP_STORAGE_STACK_H
#define BLKSNAP_STORAGE_STACK_H

#include <linux/types.h>

/* Devices below one device; what is beyond is not looked at. */
#define STORAGE_STACK_MAX 64U

/**
 * struct storage_stack - a device, and what it lies on
 * @devs:	the device itself, then those that were found below it, each once
 * @nr:		how many
 */
struct storage_stack {
	dev_t devs[STORAGE_STACK_MAX];
	unsigned int nr;
};

int storage_stack_walk(struct storage_stack *stack, dev_t dev);

#endif /* BLKSNAP_STORAGE_STACK_H */
