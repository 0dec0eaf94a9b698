/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the parts of test_stacks share: stacks of block devices
 *
 * test_stacks.c		which tests there are
 * test_stacks_build.c		the stacks, how they are built and taken apart
 * test_stacks_raw.c		reading and writing the devices themselves
 * test_stacks_model.c		what has been written, and what must be there now
 * test_stacks_files.c		filesystems on the stacks
 * test_stacks_refused.c	what cannot be protected
 * test_stacks_aligned.c	what images ask of direct I/O
 * test_stacks_table.c	tables of device mapper that change
 * test_stacks_frozen.c	filesystems that somebody else has frozen
 */
#ifndef TEST_STACKS_H
#define TEST_STACKS_H

#include "blksnap_test.h"

#define STACK_BOTTOMS_MAX 3

/* Where partitions start: no multiple of a page, nor of any block copied. */
#define PARTITION_SECTOR 3001

/**
 * struct stack - one way to put block devices on top of each other
 * @name:	in the names of the tests
 * @nr_bottoms:	disks that are made for it, $B0 to $B2 in the commands; without
 *		any, @up brings along the only device
 * @modules:	what the guest must be able to load
 * @up:		commands that build it and print the path of the top
 * @down:	commands that take it apart
 * @rebuild:	commands that show the top over the images of the bottoms, $I0 to
 *		$I2, and print its path; where it is not NULL
 * @unbuild:	undoes @rebuild
 * @block_bytes: logical block size of the disks, 0 means 512
 * @has_parts:	$B0 and so on are partitions of the disks
 * @is_shifted:	byte 0 of the top is byte @shift of the bottom, and so on: the
 *		bottom may be written to
 * @shift:	see there
 * @settle_ms:	the time it takes until nothing is written to the bottoms any more
 * @is_file:	a filesystem is mounted between top and bottom
 * @is_bio_based: of the disks
 * @is_top_only: what the top sends to the bottom is not seen there
 * @fast:	the layers that are tracked in the short form, a bit each
 */
struct stack {
	const char *name;
	unsigned int nr_bottoms;
	const char *modules;
	const char *up;
	const char *down;
	const char *rebuild;
	const char *unbuild;
	unsigned int block_bytes;
	bool has_parts;
	bool is_shifted;
	uint64_t shift;
	unsigned int settle_ms;
	bool is_file;
	bool is_bio_based;
	bool is_top_only;
	unsigned int fast;
};

extern const struct stack stacks[];
const struct stack *stack_find(const char *name);

/**
 * struct built - the stack that the running test works on
 * @stack:	its kind, or NULL
 * @bottoms:	the disks below
 * @parts:	their partitions, if it has some
 * @top:	what is built on them, or the only device
 * @storage:	a disk for the difference storage, beside the stack
 */
struct built {
	const struct stack *stack;
	struct disk bottoms[STACK_BOTTOMS_MAX];
	struct disk parts[STACK_BOTTOMS_MAX];
	struct disk top;
	struct disk storage;
};

extern struct built built;

/* Which devices of a stack are tracked. */
enum layers {
	LAYERS_TOP,
	LAYERS_BOTTOM,
	LAYERS_BOTH,		/* members of one snapshot */
	LAYERS_TWO_SNAPSHOTS,	/* top and bottom, a snapshot each */
};

#define LAYERS_BIT(layers) (1U << (layers))
#define LAYERS_ALL 0xfU

bool stack_build(const struct stack *stack, uint64_t nr_mib);
void stack_tear_down(void);
void stacks_prepare(void);
bool stack_rebuild(const struct snapshot *snapshot, struct disk *top);
void stack_unbuild(void);
bool load_modules(const char *modules);
int shell_line(char *line, size_t size, const char *commands);

/*
 * The model: what is on one device of the stack
 */

enum write_kind {
	WRITE_DIRECT,
	WRITE_BUFFERED,
	WRITE_ZEROES,
	WRITE_DISCARD,
	NR_WRITE_KINDS,
};

/**
 * struct model - what has been written to a device
 * @disk:	the device: the top, or the bottom if it may be written to
 * @top_at:	where the top begins on it
 * @nr_bytes:	its size
 * @data:	what was written last
 * @zeroed:	for each sector: it may hold zeros instead, for it was discarded
 * @touched:	for each sector: written or discarded since model_forget()
 */
struct model {
	const struct disk *disk;
	uint64_t top_at;
	uint64_t nr_bytes;
	uint8_t *data;
	bool *zeroed;
	bool *touched;
};

/**
 * struct path - a way to write to the device of a model
 * @disk:	what is opened
 * @at:		where it begins in the model
 * @block_bytes: its logical block size
 * @direct:	open with O_DIRECT
 * @buffered:	open without
 */
struct path {
	const struct disk *disk;
	uint64_t at;
	unsigned int block_bytes;
	int direct;
	int buffered;
};

void model_init(struct model *model, struct random *random);
void model_exit(struct model *model);
void model_forget(struct model *model);
void model_write(struct model *model, struct path *path, enum write_kind kind,
		 uint64_t nr_bytes, struct random *random);
void model_compare(const struct model *model, const char *path, uint64_t at,
		   uint64_t nr_bytes);
bool model_is_touched(const struct model *model, uint64_t at, uint64_t nr_bytes);
void path_open(struct path *path, const struct disk *disk, uint64_t at);
void path_close(struct path *path);

/* --- the tests --- */

/**
 * struct raw_case - a stack, and which of its devices are tracked
 */
struct raw_case {
	const struct stack *stack;
	enum layers layers;
};

/**
 * struct file_case - a filesystem on a stack
 * @fs:		name of the filesystem
 * @stack:	name of the stack
 * @layers:	what is tracked
 * @is_frozen:	the take freezes the filesystem
 * @is_fast:	in the short form too
 */
struct file_case {
	const char *fs;
	const char *stack;
	enum layers layers;
	bool is_frozen;
	bool is_fast;
};

extern const struct file_case file_cases[];

void raw_set_up(void);
void raw_tear_down(void);
void test_image_is_exact(void);
void files_set_up(void);
void files_tear_down(void);
void test_files_are_exact(void);
void refused_tear_down(void);

extern const struct ktap_test refused_tests[];

extern const struct ktap_test aligned_tests[];
void aligned_tear_down(void);

extern const struct ktap_test table_tests[];
void table_set_up(void);
void table_tear_down(void);

extern const struct ktap_test frozen_tests[];
void frozen_tear_down(void);

#endif /* TEST_STACKS_H */
