/* SPDX-License-Identifier: GPL-2.0 */
/*
 * One instant: what the parts of test_instant share
 *
 * A chain is a sequence of numbered writes.  Write N + 1 begins only when write N
 * has completed, and goes to another place.  So at any instant the disks hold
 * the writes 1 to P of the chain for some P, and nothing else: which sector
 * holds which number then follows from P alone.  A set of images that is of one
 * instant holds such a state too.
 */
#ifndef TEST_INSTANT_H
#define TEST_INSTANT_H

#include <pthread.h>
#include <stdatomic.h>

#include "blksnap_test.h"

#define DRAIN_S 8U		/* take_drain_limit, see suites.sh */
#define NR_PLACES 4U		/* that the chains go round on */
#define NR_CHAINS_MAX 24U
#define CHAIN_SECTORS 32U	/* of each chain in each place */
#define CHAIN_BYTES (CHAIN_SECTORS * SECTOR_SIZE)
#define AREA_BYTES (NR_CHAINS_MAX * CHAIN_BYTES)

/* --- asynchronous writes: libaio and io_uring, without their libraries --- */

enum async_kind {
	ASYNC_AIO,
	ASYNC_URING,
	ASYNC_URING_POLLED,
};

struct async;

/**
 * struct async_request - a write
 * @fd:		open for direct I/O
 * @buffer:	not to be touched until the write is reaped
 * @nr_bytes:	its length
 * @at:		where to
 * @flags:	RWF_*
 * @tag:	comes back with the result
 */
struct async_request {
	int fd;
	void *buffer;
	size_t nr_bytes;
	uint64_t at;
	int flags;
	uint64_t tag;
};

struct async_event {
	uint64_t tag;
	long result;
};

struct async *async_open(enum async_kind kind, unsigned int depth);
void async_close(struct async *async);
int async_write(struct async *async, const struct async_request *request);
int async_reap(struct async *async, struct async_event *events,
	       unsigned int nr_min);

#define ASYNC_DEPTH_MAX 64U

/* --- stacks of devices --- */

#define CRYPT_KEY "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

/**
 * struct place - where chains write, and in which images that shows
 * @path:	device or file that is written to
 * @at:		where the area of the chains begins in it, in bytes
 * @is_file:	it is a file of a mounted filesystem
 * @shown:	members that have the same bytes, and where
 * @nr_shown:	how many
 */
struct place {
	char path[64];
	uint64_t at;
	bool is_file;
	struct {
		unsigned int member;
		uint64_t at;
	} shown[2];
	unsigned int nr_shown;
};

/**
 * struct stack - the devices of a test
 * @disks:	at the bottom
 * @uppers:	device-mapper devices on the disks, where there are any
 * @members:	what is tracked and taken
 * @places:	what is written to
 * @storage:	difference storage
 * @nr_mounted:	places from the first on that are files
 * @nr_frozen:	of their filesystems, how many lie on a member itself
 */
struct stack {
	struct disk disks[4];
	struct disk uppers[4];
	struct disk members[4];
	unsigned int nr_members;
	struct place places[NR_PLACES];
	struct disk storage;
	unsigned int nr_mounted;
	unsigned int nr_frozen;
};

extern struct stack stack;

bool dm_create(struct disk *dm, const char *name, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
bool dm_suspend(const char *name);
void dm_resume(const char *name);
void dm_fail(const char *name);
void dm_remove(const char *name);
void stack_tear_down(void);

bool mount_place(unsigned int place, const struct disk *disk);
void make_disks(unsigned int nr, const struct null_disk_options *options);

bool stack_build_plain(void);
bool stack_build_large(void);
bool stack_build_partitions(void);
bool stack_build_linear_below(void);
bool stack_build_crypt_above(void);
bool stack_build_crypt_below(void);
bool stack_build_delay_above(void);
bool stack_build_delay_below(void);
bool stack_build_both_sides(void);
bool stack_build_slid_below(void);
bool stack_build_ext4(void);
bool stack_build_ext4_on_crypt(void);
bool stack_build_ext4_above_delay(void);
bool stack_build_ext4_beside_raw(void);

/* --- chains --- */

/* One write of a chain, computed from the one before it. */
struct step {
	struct random random;
	uint64_t number;
	unsigned int place;
	unsigned int sector;		/* of the chain's area */
	unsigned int nr_sectors;
};

/* What a write may cover. */
enum grain {
	GRAIN_SECTORS,		/* any sectors */
	GRAIN_IN_PAGE,		/* sectors of one page */
	GRAIN_PAGE,		/* one whole page */
};

struct chain {
	unsigned int index;
	enum grain grain;
	void *buffer;
	struct step step;	/* the writer's */
	uint64_t begun_ns;
	atomic_uint_fast64_t begun, ended;
	atomic_uint_fast64_t slowest_ns;

	/* What was in the last set of images. */
	struct step known;
	uint64_t numbers[NR_PLACES][CHAIN_SECTORS];
	uint64_t ended_before, begun_after;
};

void chains_start(uint64_t seed);
void chains_pause(void);
void chains_resume(void);
const char *chains_stop(void);
unsigned int chains_nr(void);
void chains_free(void);
uint64_t chains_nr_written(void);
void chains_note_before(void);
void chains_note_after(void);
uint64_t chains_slowest_ns(void);
bool chains_judge(uint8_t *const *areas, const char *where, unsigned int place);
bool chains_judge_images(struct snapshot *snapshot);
bool chains_judge_origins(void);

/* --- the tests of the other files --- */

extern const struct ktap_test still_tests[];
extern const struct ktap_test corner_tests[];
void still_tear_down(void);
void corner_tear_down(void);

#endif /* TEST_INSTANT_H */
