/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the parts of test_kind share
 *
 * Where it can, a test measures the same thing without a snapshot and with one, prints
 * both figures and asserts how they compare.
 *
 * group:	a cgroup whose I/O is limited or weighted
 * worker:	a process, in a group if need be, that does I/O and counts it
 * call:	a function run by a thread of its own, because it may hang
 */
#ifndef TEST_KIND_H
#define TEST_KIND_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "blksnap_test.h"

#define MAPPING "kind"			/* for mapping_suspend() and mapping_resume() */
#define BLOCK_BYTES 4096U		/* copied at once, on small disks */
#define HANG_MS 20000U			/* a test ends what takes longer */
#define FLOOR_MS 100U			/* what a busy machine may add to any time */
#define SETTLE_MS 400U			/* until what was started has begun */

/* --- the disks of the running test --- */

extern struct disk origin, storage, lower;
extern struct snapshot snapshot;

void kind_set_up(void);
void kind_tear_down(void);
void module_reload(const char *parameters);
void mapping_need(struct disk *mapped, const struct disk *below);
void slow_mapping_need(struct disk *mapped, const struct disk *below, uint64_t at,
		       unsigned int read_ms);
int64_t image_number(const char *attribute);
int64_t queue_number(const struct disk *disk, const char *attribute);
bool queue_set(const struct disk *disk, const char *attribute, unsigned int value);

/* --- groups --- */

void group_create(const char *name);
bool group_limit(const char *name, const struct disk *disk, uint64_t bytes_per_s);
bool group_weigh(const char *name, unsigned int weight);
bool cost_model_set(const struct disk *disk, unsigned int writes_per_s);
void groups_unlimit(void);

/* --- workers --- */

enum worker_kind {
	READ_SYNC,		/* all bytes by one direct read */
	WRITE_SYNC,		/* direct writes of 4 KiB in order, again and again */
	WRITE_BACK,		/* buffered writes of all bytes, fsync, again and again */
};

/**
 * struct worker - one process
 * @kind:	what it does
 * @path:	to which device
 * @at:		where, in bytes
 * @nr_bytes:	of the area that it works on
 * @group:	name of the group, or NULL for the one of the test
 * @pid:	its process, 0 if it has ended
 * @is_over:	it is to end
 * @is_done:	it has nothing more to do
 * @error:	errno of what failed, or 0
 * @nr_done:	number of operations that have ended
 * @longest_ns:	the longest of them
 * @start_ns:	when the current one began, 0 between two
 *
 * All workers live in memory that the processes share.
 */
struct worker {
	enum worker_kind kind;
	char path[64];
	uint64_t at;
	uint64_t nr_bytes;
	const char *group;
	pid_t pid;
	atomic_bool is_over;
	atomic_bool is_done;
	atomic_int error;
	atomic_ullong nr_done;
	atomic_ullong longest_ns;
	atomic_ullong start_ns;
};

struct worker *worker_start(enum worker_kind kind, const char *group, const char *path,
			    uint64_t at, uint64_t nr_bytes);
unsigned int worker_longest_ms(const struct worker *worker);
void workers_stop(void);

/* --- calls --- */

struct call;

typedef int (*call_fn)(void *data);

struct call *call_start(call_fn make, void *data);
bool call_ends_within(struct call *call, unsigned int ms);
unsigned int call_ms(struct call *call);
unsigned int call_end(struct call *call);

int write_block(void *data);
int destroy_snapshot(void *data);

/* --- comparing --- */

void expect_no_slower(const char *what, unsigned int bare_ms, unsigned int held_ms);
void expect_share(const char *what, unsigned long long bare, unsigned long long held,
		  unsigned int percent);

/* --- the parts of the program --- */

void weight_tear_down(void);
void number_tear_down(void);

extern const struct ktap_test number_tests[];
extern const struct ktap_test read_tests[];
extern const struct ktap_test store_tests[];
extern const struct ktap_test stuck_tests[];
extern const struct ktap_test weight_tests[];

#endif /* TEST_KIND_H */
