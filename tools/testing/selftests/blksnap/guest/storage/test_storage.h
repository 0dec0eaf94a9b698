/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests of the difference storage share
 *
 * Each test has an origin, a null_blk disk, and a storage: another one behind a
 * gate.  A gate is a device-mapper device that passes everything on, or keeps it
 * back, or fails it; so a test decides when an I/O is done and how.
 *
 * A ledger knows what the origin held at the take and what it holds now, and
 * which tracking blocks were written since: that is what the image, the origin
 * and the next change map are compared with.
 */
#ifndef TEST_STORAGE_H
#define TEST_STORAGE_H

#include <pthread.h>
#include <stdatomic.h>

#include "blksnap_test.h"

/* The smallest values that the module accepts: soon reached. */
#define STORAGE_PARAMETERS \
	"diff_storage_minimum=2048 diff_storage_ahead=0 copy_memory_maximum=4 take_drain_limit=8"
#define MEMORY_BYTES (4 * MIB)			/* copy_memory_maximum */
#define LOW_REQUEST_SECTORS 2048U		/* diff_storage_minimum */
#define LOW_LIMIT_BYTES (LOW_REQUEST_SECTORS / 2 * SECTOR_SIZE)

#define BLOCK_BYTES 4096U			/* copied at once, on small disks */
#define TRACKING_BLOCK_BYTES (64 * KIB)
#define ORIGIN_BYTES (16 * MIB)
#define STORAGE_BYTES (32 * MIB)

/* How long something may take on a slow machine before it counts as hanging. */
#define PATIENCE_MS 40000U

/* Long enough for what must not happen to happen. */
#define CALM_MS 300U

/* --- gates --- */

/**
 * struct gate - a device that a test can keep requests back with
 * @disk:	to be used by the test
 * @name:	of the device-mapper device; empty if there is none
 * @lower:	path of the disk behind it
 * @nr_sectors:	of both
 * @is_closed:	requests wait in it
 */
struct gate {
	struct disk disk;
	char name[16];
	char lower[48];
	uint64_t nr_sectors;
	bool is_closed;
};

void gate_create(struct gate *gate, const char *name, const struct disk *lower);
void gate_destroy(struct gate *gate);
void gate_close(struct gate *gate);
void gate_open(struct gate *gate);
void gate_break(struct gate *gate);
void gate_break_sectors(struct gate *gate, uint64_t sector, uint64_t nr_sectors);
void gate_delay(struct gate *gate, unsigned int ms);
void gate_mend(struct gate *gate);

/* --- the rig: what is there in every test --- */

/**
 * struct rig - the devices of the running test
 * @origin_disk:	of ORIGIN_BYTES
 * @storage_disk:	of STORAGE_BYTES and the edges
 * @spare_disk:		likewise, for the test's own purposes
 * @origin_gate:	over @origin_disk, if rig_gate_origin() was called
 * @origin_top:	over @origin_gate, likewise
 * @storage_gate:	over @storage_disk
 * @origin:		what snapshots are made of
 * @storage:		what they store on
 * @write_path:		node by which the origin is written
 * @snapshot:		the test's first snapshot
 */
struct rig {
	struct disk origin_disk;
	struct disk storage_disk;
	struct disk spare_disk;
	struct gate origin_gate;
	struct gate origin_top;
	struct gate storage_gate;
	const struct disk *origin;
	const struct disk *storage;
	const char *write_path;
	struct snapshot snapshot;
};

extern struct rig rig;

void rig_set_up(void);
void rig_tear_down(void);
void rig_use_origin(const struct disk *disk);
void rig_gate_origin(void);
void rig_reload(const char *parameters);
void rig_take(uint64_t storage_bytes);
bool scsi_disk_create(const char *parameters, struct disk *disk);
const char *image(void);
int append_bytes(uint64_t from, uint64_t nr_bytes);
void disk_break_sectors(const struct disk *disk, uint64_t sector, uint64_t nr_sectors);
void disk_mend_sectors(const struct disk *disk, uint64_t sector, uint64_t nr_sectors);

/* --- what the origin holds --- */

/**
 * struct ledger - the known contents of an origin
 * @disk:	the origin
 * @nr_bytes:	its size
 * @taken:	what it held at the last ledger_take()
 * @now:	what it holds
 * @is_written:	each tracking block: has it been written since
 */
struct ledger {
	const struct disk *disk;
	uint64_t nr_bytes;
	uint8_t *taken;
	uint8_t *now;
	bool *is_written;
};

/* That of rig.origin. */
extern struct ledger ledger;

void fill_random(void *buffer, uint64_t nr_bytes);
void ledger_open(struct ledger *book, const struct disk *disk);
void ledger_close(struct ledger *book);
void ledger_take(struct ledger *book);
void ledger_write(struct ledger *book, const void *data, uint64_t nr_bytes, uint64_t at);
void origin_write(uint64_t nr_bytes, uint64_t at);
void expect_holds(const char *path, const void *want, uint64_t nr_bytes, uint64_t at);
void expect_image_is_as_taken(void);
void expect_origin_is_as_written(void);
void expect_next_map_is_right(struct ledger *book);

/* --- I/O in the background --- */

/**
 * struct io_job - one direct read or write, by a thread of its own
 * @path:	device
 * @is_write:	else it is a read
 * @buffer:	what is written or was read
 * @nr_bytes:	length
 * @at:		place
 * @error:	valid once it is done: 0 or a positive errno
 * @is_done:	the call has returned
 * @is_started:	there is a thread
 * @thread:	makes the call
 */
struct io_job {
	char path[64];
	bool is_write;
	uint8_t *buffer;
	uint64_t nr_bytes;
	uint64_t at;
	int error;
	atomic_bool is_done;
	bool is_started;
	pthread_t thread;
};

struct io_job *job_start(const char *path, bool is_write, uint64_t nr_bytes,
			 uint64_t at);
struct io_job *origin_write_start(uint64_t nr_bytes, uint64_t at);
bool job_is_done_within(struct io_job *job, unsigned int ms);
void expect_job_waits(struct io_job *job);
void expect_job_ends(struct io_job *job, int error);
int io_error(const char *path, bool is_write, uint64_t nr_bytes, uint64_t at);

/* --- files --- */

#define MAX_EXTENTS 256U

/* Where the blocks of a file are on its device. */
struct file_extents {
	struct blk_snap_block_range ranges[MAX_EXTENTS];
	unsigned int nr;
};

void file_find_extents(const char *path, struct file_extents *extents);
bool file_reserve(const char *path, uint64_t nr_bytes);

/* --- what the module tells --- */

/**
 * struct told - the events that were fetched
 * @nr_low:	low_free_space
 * @nr_corrupted: corrupted
 * @lost:	payload of the last corrupted
 * @was_low_first: no corrupted came before the first low_free_space
 */
struct told {
	unsigned int nr_low;
	unsigned int nr_corrupted;
	struct blk_snap_event_corrupted lost;
	bool was_low_first;
};

void collect_events(const struct snapshot *snapshot, unsigned int wait_ms,
		    struct told *told);
int64_t image_number(const char *attribute);
int64_t image_number_of(const struct snapshot *snapshot, const struct disk *origin,
			const char *attribute);
void image_number_becomes(const char *attribute, int64_t at_least, int64_t at_most);
void wait_until_stored(void);
int64_t free_bytes(void);
unsigned int count_lost_lines(const struct disk *origin);
void expect_lost(const struct snapshot *snapshot, const struct disk *origin, int error);
void expect_broken(int error);
void expect_sound(void);
void expect_tracking_goes_on(void);

/* --- the table of failures in the documentation --- */

extern const char *pressure_origin_path, *pressure_storage_path;
extern unsigned int admin_seconds;	/* --seconds */
extern const char *table_path;		/* --table, or NULL */

void row(const char *text);

/* --- the parts of the program --- */

void fill_set_up(void);
void fill_tear_down(void);
void own_tear_down(void);
void pin_tear_down(void);
void owner_tear_down(void);
void admin_tear_down(void);
void slow_tear_down(void);
void error_tear_down(void);
void row_tear_down(void);
void pressure_set_up(void);
void pressure_tear_down(void);

extern const struct ktap_test full_tests[];
extern const struct ktap_test low_tests[];
extern const struct ktap_test fill_tests[];
extern const struct ktap_test own_tests[];
extern const struct ktap_test pin_tests[];
extern const struct ktap_test owner_tests[];
extern const struct ktap_test admin_tests[];
extern const struct ktap_test slow_tests[];
extern const struct ktap_test error_tests[];
extern const struct ktap_test image_tests[];
extern const struct ktap_test row_tests[];
extern const struct ktap_test table_tests[];
extern const struct ktap_test pressure_tests[];

#endif /* TEST_STORAGE_H */
