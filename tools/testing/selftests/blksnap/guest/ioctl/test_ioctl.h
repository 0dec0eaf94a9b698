/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The disks that all tests of the ioctls work on, and the lists of tests
 *
 * Every statement of <linux/blksnap.h> about a call is a test of its own.  The
 * tests call ioctl() directly where the bytes of an argument matter.
 */
#ifndef TEST_IOCTL_H
#define TEST_IOCTL_H

#include "blksnap_test.h"

#define DISK_MIB 16
#define DISK_SECTORS (DISK_MIB * MIB / SECTOR_SIZE)

extern struct disk disk_a, disk_b, disk_s;	/* two origins and a storage */

/* An identifier that no snapshot has, and a device that no machine has. */
extern const struct blk_snap_uuid unknown_id;
extern const struct blk_snap_dev unknown_dev;

/* A page that the module can neither read nor write, and one without writing. */
extern void *bad_page;
extern void *readonly_page;

/* The calls: the twelve that are as old as the interface, then the others. */
struct ioctl_number {
	unsigned long request;
	const char *name;
};

#define NR_OLD_IOCTLS 12
#define NR_IOCTLS 14
extern const struct ioctl_number ioctl_numbers[NR_IOCTLS];

unsigned int nr_tracked(void);
unsigned int nr_snapshots(void);

extern const struct ktap_test control_tests[];
extern const struct ktap_test tracker_tests[];
extern const struct ktap_test map_tests[];
extern const struct ktap_test mark_tests[];
extern const struct ktap_test create_tests[];
extern const struct ktap_test append_tests[];
extern const struct ktap_test pin_tests[];
extern const struct ktap_test take_tests[];
extern const struct ktap_test destroy_tests[];
extern const struct ktap_test collect_tests[];
extern const struct ktap_test event_tests[];
extern const struct ktap_test info_tests[];

#endif /* TEST_IOCTL_H */
