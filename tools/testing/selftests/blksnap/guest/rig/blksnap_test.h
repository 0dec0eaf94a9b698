/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests of the loaded module share: disks, snapshots, random numbers
 *
 * Functions that set something up assert (and so end the test) when that fails;
 * those that a test wants to see failing return a negative errno.
 */
#ifndef BLKSNAP_TEST_H
#define BLKSNAP_TEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <linux/blksnap.h>

#include "control.h"
#include "ktap.h"

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

#define SECTOR_SIZE 512U
#define KIB 1024ULL
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

/* The byte that buffers are filled with before the module writes to them. */
#define POISON 0xa5

/* --- small things --- */

int shell(const char *format, ...) __attribute__((format(printf, 1, 2)));
int64_t read_number(const char *format, ...) __attribute__((format(printf, 1, 2)));
bool write_text(const char *path, const char *text);
uint64_t now_ns(void);
void sleep_ms(unsigned int ms);
bool is_filled_with(const void *buffer, int byte, size_t nr_bytes);
void *alloc_aligned(size_t nr_bytes);

struct random {
	uint64_t state;
};

void random_init(struct random *random, uint64_t seed);
uint64_t random_next(struct random *random);
uint64_t random_below(struct random *random, uint64_t limit);

/* --- the module --- */

int module_load(const char *parameters);
int module_unload(void);
bool module_is_loaded(void);
int64_t module_parameter(const char *name);
bool kernel_module_load(const char *name);
void log_clear(void);
unsigned int count_in_log(const char *text);

/* Open control node of the running test, -1 outside of one. */
extern int ctl;

int ctl_call(unsigned long request, void *arg);
void ctl_set_up(void);
void ctl_tear_down(void);
void tests_need_module(void);

/* --- disks --- */

struct disk {
	char name[32];		/* in /dev and /sys/block */
	char path[48];
	struct blk_snap_dev id;
	uint64_t nr_bytes;
	bool is_ours;		/* made by null_disk_create() */
	unsigned int nr_parts;
};

/**
 * struct null_disk_options - what differs from a plain null_blk disk in memory
 * @block_bytes:	logical block size, 0 means 512
 * @completion_ns:	time of each request, completed by a timer; 0 means that
 *			the submitter completes it
 * @is_zoned:		zones of 4 MiB
 * @is_bio_based:	without requests; newer kernels do not have that
 * @cache_mib:		volatile write cache, 0 means none
 * @is_unpolled:	has no queue for polling, as it has otherwise
 * @queue_depth:	requests in flight at once, 0 means as many as usual
 * @is_hollow:		keeps nothing of what is written, so it needs no memory
 * @mib_per_s:		bandwidth, 0 means no limit; a request of more than a
 *			twentieth of it never ends, see queue/max_sectors_kb
 */
struct null_disk_options {
	unsigned int block_bytes;
	unsigned int completion_ns;
	bool is_zoned;
	bool is_bio_based;
	unsigned int cache_mib;
	bool is_unpolled;
	unsigned int queue_depth;
	bool is_hollow;
	unsigned int mib_per_s;
};

int null_disk_create(struct disk *disk, const char *name, uint64_t nr_mib,
		     const struct null_disk_options *options);
void null_disk_destroy(struct disk *disk);
int disk_find(struct disk *disk, const char *path);
int partition_add(struct disk *disk, struct disk *part, uint64_t sector,
		  uint64_t nr_sectors);
void partition_del_all(struct disk *disk);

struct disk_stat {
	uint64_t reads;
	uint64_t read_sectors;
	uint64_t writes;
	uint64_t written_sectors;
	uint64_t flushes;
};

void disk_read_stat(const struct disk *disk, struct disk_stat *stat);

/* --- whole-buffer I/O, direct; false and a failed check if it does not work --- */

bool read_direct(const char *path, void *buffer, size_t nr_bytes, uint64_t at);
bool write_direct(const char *path, const void *buffer, size_t nr_bytes,
		  uint64_t at);
bool fill_direct(const char *path, int byte, size_t nr_bytes, uint64_t at);
bool reads_as(const char *path, int byte, size_t nr_bytes, uint64_t at);

/* --- snapshots --- */

#define SNAPSHOT_DISKS_MAX 64

struct snapshot {
	struct blk_snap_uuid id;
	unsigned int nr_images;
	struct {
		struct blk_snap_dev origin;
		char path[32];
		struct blk_snap_dev id;
	} images[SNAPSHOT_DISKS_MAX];
};

void snapshot_create(struct snapshot *snapshot, const struct disk *disk);
void snapshot_create_of(struct snapshot *snapshot, const struct disk **disks,
			unsigned int nr_disks);
/* At both ends of a device: appended or not, it is not used. */
#define EDGE_BYTES MIB

int append_range(const struct snapshot *snapshot, const struct disk *disk,
		 uint64_t sector, uint64_t nr_sectors);
void snapshot_take(struct snapshot *snapshot);
void snapshot_find_images(struct snapshot *snapshot);
const char *image_of(const struct snapshot *snapshot, const struct disk *disk);
bool wait_for_node(const char *path, bool is_there);

/* Create a snapshot of one disk, give it the whole storage disk, take it. */
void snapshot_now(struct snapshot *snapshot, const struct disk *disk,
		  const struct disk *storage);

unsigned int destroy_all_snapshots(void);
void remove_all_trackers(void);

bool tracker_info(const struct disk *disk, struct blk_snap_cbt_info *info);
uint8_t *read_map(const struct disk *disk, struct blk_snap_cbt_info *info);
int next_event(const struct snapshot *snapshot, unsigned int timeout_ms,
	       struct blk_snap_snapshot_event *event);

#endif /* BLKSNAP_TEST_H */
