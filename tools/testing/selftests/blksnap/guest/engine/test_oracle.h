/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The oracle: what an image must hold
 *
 * Three ways of knowing it:
 *
 * shadow: all writers stand still while a copy is made of the origin and the
 *	snapshot is taken, so the image has to equal the copy.
 * stamps: writers never stop.  Each sector tells which operation wrote it, and
 *	each operation when it began and ended, so it can be said which
 *	operations must be in the image and which cannot be.
 * files:	a mounted filesystem, whose files have to be in the image as they were
 *	when their writers stood still.
 *
 * All of them compare consecutive images, too: where they differ the change map
 * must say so.
 */
#ifndef TEST_ORACLE_H
#define TEST_ORACLE_H

#include "blksnap_test.h"
#include "crew.h"
#include "way.h"

/* Last part of each disk, which writers leave alone: storage on the origin. */
#define RESERVED_SECTORS (4 * MIB / SECTOR_SIZE)

/**
 * struct oracle - disks, limits and results of the run
 * @disks:	origins
 * @parts:	a partition of each
 * @storage:	disk for difference storage
 * @nr_threads:	writers
 * @random:	decides about rounds; writers have their own
 * @nr_rounds:	wanted, of all tests together
 * @nr_done:	rounds done
 * @nr_different: sectors of images that were not what they must be
 * @nr_unmarked: tracking blocks that differed without being marked
 * @nr_changed:	tracking blocks that differed
 * @nr_blocks:	tracking blocks compared
 */
struct oracle {
	struct disk disks[2];
	struct disk parts[2];
	struct disk storage;
	unsigned int nr_threads;
	struct random random;
	unsigned int nr_rounds;

	unsigned int nr_done;
	unsigned long long nr_different;
	unsigned long long nr_unmarked;
	unsigned long long nr_changed;
	unsigned long long nr_blocks;
};

extern struct oracle oracle;

/* What a writer puts at the beginning of each sector. */
struct stamp {
	uint64_t sector;	/* of the disk, with ORACLE_MAGIC */
	uint64_t op;
};

#define ORACLE_MAGIC 0x626c6b7300000000ULL

void stamp_sectors(void *buffer, uint64_t sector, uint64_t nr_sectors,
		   uint64_t op);

/* --- images and maps --- */

/**
 * struct member - an origin of the snapshots of a test
 * @disk:	the origin
 * @start:	its first sector on its whole disk
 * @nr_reserved: sectors at its end that may be storage
 * @is_storage:	they are storage of the current snapshot
 * @data:	what the image must hold
 * @previous:	what the image before it held
 * @info:	tracking, when @previous was taken
 * @has_previous: @previous and @info are there
 */
struct member {
	const struct disk *disk;
	uint64_t start;
	uint64_t nr_reserved;
	bool is_storage;
	uint8_t *data;
	uint8_t *previous;
	struct blk_snap_cbt_info info;
	bool has_previous;
};

void member_init(struct member *member, const struct disk *disk, uint64_t start,
		 uint64_t nr_reserved);
void member_exit(struct member *member);
bool member_compare(struct member *member, const char *path, bool is_direct);
bool member_compare_piece(struct member *member, int fd, void *buffer,
			  uint64_t sector, uint64_t nr_sectors);
bool member_check_map(struct member *member);

void oracle_append(struct snapshot *snapshot, struct member *members,
		   unsigned int nr_members, unsigned int part);
bool oracle_goes_on(void);

/* --- writing at random, by anyone, anywhere --- */

/**
 * struct chaos - writers that write anywhere
 * @ways:	where to
 * @max_shift:	log2 of the largest number of sectors of a write
 */
struct chaos {
	struct way ways[4];
	unsigned int nr_ways;
	unsigned int max_shift;
};

const char *chaos_work(struct crew_member *member, void *data);
void chaos_sync(struct chaos *chaos);
void chaos_choose_styles(struct chaos *chaos, struct random *random);

/* --- the tests of the other files --- */

void test_take_amid_writes_is_one_instant(void);
void test_take_of_two_disks_amid_writes_is_one_instant(void);
void test_buffered_write_tells_when_its_batch_began(void);
void instant_tear_down(void);
void test_files_in_image_are_those_of_the_take(void);
void files_tear_down(void);

#endif /* TEST_ORACLE_H */
