/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The fault sweep, shared by its parts
 *
 * A path is something that the module does, tried again and again with one
 * fault: in the first round the first allocation (or I/O) fails, in the second
 * one the second, and so on until there is no N-th one any more.  Each round
 * calls the function of the path, which prepares what it needs, arms the fault,
 * does what is to be tested, disarms, notes how it went, and looks whether
 * everything is as it has to be.
 */
#ifndef TEST_SWEEP_H
#define TEST_SWEEP_H

#include "blksnap_test.h"
#include "fault.h"

/*
 * Tracking blocks as small as the blocks that are written, to see each mark; and
 * storage that is never low, for the one event to be that of a broken snapshot.
 */
#define SWEEP_PARAMETERS \
	"tracking_block_minimum_shift=12 diff_storage_minimum=2048 diff_storage_ahead=0"

/* --- test_sweep.c: rounds and results --- */

typedef void (*sweep_fn)(void);

void sweep_run(const char *path, enum fault_kind kind, sweep_fn round);
void sweep_run_from(unsigned int first, const char *path, enum fault_kind kind,
		    sweep_fn round);
void sweep_run_storm(const char *path, enum fault_kind kind, sweep_fn round);
unsigned int sweep_nth(void);
void sweep_arm(void);
bool sweep_disarm(void);
void sweep_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
void sweep_note_result(int ret);

/* --- test_sweep_world.c: disks, and what they have to hold --- */

#define BLOCK_BYTES 4096U
#define BLOCK_SECTORS (BLOCK_BYTES / SECTOR_SIZE)
#define ORIGIN_BLOCKS 640U
#define ORIGIN_START_BLOCKS 16U		/* where it begins on its disk */
#define STORAGE_BLOCKS 2048U
#define EDGE_BLOCKS 256U		/* of EDGE_BYTES */

/**
 * struct world - what there is to work on
 * @disk:	the origin is a part of it
 * @origin:	partition.  It is written through its disk: so bios that are sent
 *		to it are the module's, and a fault can be aimed at them
 * @second:	another origin
 * @storage:	for the difference storage
 * @twin:	never tracked; shows what a fault does without the module
 * @disk_fd:	of @disk, and so on: direct, for reading and writing
 * @buffer:	of CHUNK_BLOCKS
 * @other:	another one
 * @content:	what the origin has to hold
 */
struct world {
	struct disk disk;
	struct disk origin;
	struct disk second;
	struct disk storage;
	struct disk twin;
	int disk_fd;
	int twin_fd;
	uint8_t *buffer;
	uint8_t *other;
	uint8_t *content;
};

extern struct world world;

const char *world_set_up(void);
void world_tear_down(void);
void world_begin(void);
void world_end(void);
void world_mark_disks(bool is_marked);

void stamp_next(unsigned int first, unsigned int nr_blocks);
int origin_write(unsigned int first, unsigned int nr_blocks, int flags);
int twin_write(unsigned int first, unsigned int nr_blocks, int flags);
void origin_wrote(unsigned int first, unsigned int nr_blocks, int ret);
bool origin_is_right(void);

/* --- a snapshot of the origin and what its image has to hold --- */

/**
 * struct held - the snapshot under test
 * @snapshot:	taken
 * @image_fd:	of its image, direct
 * @content:	what the image has to hold
 * @error:	why it is broken, a positive errno, or 0
 */
struct held {
	struct snapshot snapshot;
	int image_fd;
	uint8_t *content;
	int error;
};

extern struct held held;

void held_create(void);
void held_take(void);
void held_begin(void);
void held_taken(void);
int64_t held_number(const char *name);
void held_settle(void);
void held_verify(void);
void held_note_result(int ret);
void held_end(void);

/* --- the paths --- */

extern const struct ktap_test control_tests[];
extern const struct ktap_test io_tests[];
extern const struct ktap_test storm_tests[];
extern const struct ktap_test module_tests[];

#endif /* TEST_SWEEP_H */
