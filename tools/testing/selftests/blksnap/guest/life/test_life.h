/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the parts of test_life share
 *
 * Two disks of memory, origin and storage, are there for all tests.  A test may
 * leave snapshots, trackers and an unloaded module behind; life_tear_down()
 * makes up for it.
 */
#ifndef TEST_LIFE_H
#define TEST_LIFE_H

#include "blksnap_test.h"

#define DISK_MIB 16

/* What an origin holds at the take, in every byte. */
#define OLD_BYTE 0x11
#define NEW_BYTE 0x22

/* The part of an origin that writers write to and readers read. */
#define TRAFFIC_BYTES (4 * MIB)

/* How long to wait for what has to happen, on a machine that is busy. */
#define PATIENCE_MS 60000

extern struct disk origin, storage;

/* Lives of the module in the test for lost memory. */
extern unsigned int nr_lives;

int unload(void);
void close_ctl(void);
void life_set_up(void);
void life_tear_down(void);

/*
 * As life_set_up(), but another disk stays tracked: tracking the first one and
 * giving up the last one takes longest.
 */
void anchored_set_up(void);

/* A figure of an image in sysfs, or -1. */
int64_t image_attribute(const char *image_path, const char *name);

/* Writes that the engine of an image holds at this moment. */
int64_t held_writes(const char *image_path);

extern const struct ktap_test unload_tests[];
extern const struct ktap_test parameter_tests[];
void destroy_tear_down(void);
extern const struct ktap_test destroy_tests[];
extern const struct ktap_test memory_tests[];

void kill_set_up(void);
void kill_tear_down(void);
extern const struct ktap_test kill_tests[];

/* Suites of the same tests, with one kind of disk each; see test_life_kind.h. */
void null_set_up(void);
void loop_set_up(void);
void dm_set_up(void);
void scsi_set_up(void);
void virtio_set_up(void);
void removal_tear_down(void);
extern const struct ktap_test origin_removal_tests[];
extern const struct ktap_test bus_removal_tests[];
extern const struct ktap_test replacement_tests[];
extern const struct ktap_test held_removal_tests[];
extern const struct ktap_test storage_removal_tests[];

void loop_resize_set_up(void);
void dm_resize_set_up(void);
void partition_resize_set_up(void);
void resize_tear_down(void);
extern const struct ktap_test resize_tests[];

void number_tear_down(void);
extern const struct ktap_test number_tests[];

void image_number_tear_down(void);
extern const struct ktap_test image_number_tests[];

void settle_tear_down(void);
extern const struct ktap_test settle_tests[];

void storm_tear_down(void);
extern const struct ktap_test storm_tests[];

#endif /* TEST_LIFE_H */
