/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the parts of test_hostile share
 *
 * A caller is a thread that makes one random call after the other.  For each
 * call it makes up the argument (..._tracker.c, ..._snapshot.c), chooses what
 * memory it lies in (..._memory.c), says what may come of it, makes it in the
 * 64-bit or the 32-bit way, and checks what has come of it (..._call.c).
 *
 * A single caller knows everything that the module knows (..._model.c), so it
 * says exactly what has to happen.  Of several at a time (..._crowd.c) none
 * knows what the others do: then each errno of the call may come, but what
 * cannot be right may not succeed either.
 */
#ifndef TEST_HOSTILE_H
#define TEST_HOSTILE_H

#include <pthread.h>
#include <stdatomic.h>

#include "blksnap_test.h"

/* Small tracking blocks make maps long, and a small storage is enough. */
#define HOSTILE_PARAMETERS "tracking_block_minimum_shift=12 diff_storage_minimum=2048"
#define TRACKING_BLOCK_SECTORS 8U

#define MAX_RANGES 262144U	/* of one call */
#define MAX_MEMBERS 1024U	/* of a snapshot */

struct hostile_options {
	uint64_t nr_calls;
	unsigned int max_seconds;
};

extern struct hostile_options hostile_options;

/* --- disks --- */

/**
 * struct target - a device that calls are about
 * @disk:	the device
 * @block_bytes: logical block size
 * @whole:	number of the disk that it is or is on
 * @start:	first sector on that disk
 * @nr_sectors:	length
 * @can_track:	a snapshot of it can be taken
 * @store_from:	sectors from here on may be used as storage; what is below
 *		holds data that may not change
 * @append_errno: what appending any storage on it ends with, or 0
 * @create_errno: what a snapshot of it ends with, or 0
 */
struct target {
	struct disk disk;
	unsigned int block_bytes;
	unsigned int whole;
	uint64_t start;
	uint64_t nr_sectors;
	bool can_track;
	uint64_t store_from;
	int append_errno;
	int create_errno;
};

/* Three origins, one of them with partitions; and what is good for less. */
enum {
	TARGET_A,
	TARGET_A1,
	TARGET_A2,
	TARGET_B,
	TARGET_4K,
	TARGET_STORAGE,
	TARGET_STORAGE_4K,
	TARGET_READ_ONLY,
	TARGET_ZONED,
	NR_TARGETS
};

extern struct target targets[NR_TARGETS];

#define HONEST_MIB 4
#define HONEST_SECTORS (HONEST_MIB * MIB / SECTOR_SIZE)

/* Origins, storage and slow disk of the honest workload and of the callers. */
extern struct disk honest_origins[2], honest_storage, slow_disk;

unsigned int target_nr_blocks(const struct target *target);
int target_of_dev(struct blk_snap_dev dev);

/* --- memory (test_hostile_memory.c) --- */

/* So much may be at one place: arrays of 2048 ranges. */
#define ZONE_BYTES (32 * KIB)

/**
 * struct memory - where an argument or an array is
 * @user:	the address that the module gets
 * @own:	the same bytes for us, whatever the module may do there; NULL if
 *		there are none
 * @before:	how many bytes before it are ours to be checked
 * @behind:	and behind it
 * @head:	what there is of an object that is not all there
 * @nr_head_bytes: how much that is
 * @is_readable: all of it, by the module
 * @is_writable: likewise
 * @is_wild:	others change its content and its protection meanwhile
 */
struct memory {
	void *user;
	uint8_t *own;
	size_t nr_bytes;
	size_t before;
	size_t behind;
	uint8_t *head;
	size_t nr_head_bytes;
	bool is_readable;
	bool is_writable;
	bool is_wild;
};

/* Objects may lie at odd addresses. */
typedef uint32_t __attribute__((aligned(1), may_alias)) wild_word;

/**
 * struct arena - memory of a caller, seen twice
 * @own:	all of it, readable and writable
 * @user:	the same pages: a zone to read and write, one to read only, and
 *		one that a meddler works on, with an empty page behind each
 * @slow:	a page of the slow disk
 * @lock:	guards what follows
 * @wild:	what the meddler may write to, during a call
 * @nr_wild:	how many 32-bit words that is
 */
struct arena {
	uint8_t *own;
	uint8_t *user;
	uint8_t *slow;
	pthread_mutex_t lock;
	wild_word *wild;
	size_t nr_wild;
};

void slow_memory_set_up(unsigned int nr_pages);
void slow_memory_tear_down(void);
void arena_create(struct arena *arena, unsigned int slow_page);
void arena_destroy(struct arena *arena);
void arena_let_meddle(struct arena *arena, void *words, size_t nr_words);
void arena_meddle(struct arena *arena, struct random *random);

struct caller;

void memory_place(struct caller *caller, struct arena *arena, size_t nr_bytes,
		  struct memory *memory);
void memory_settle(struct arena *arena, const struct memory *memory);
bool memory_is_intact_around(const struct memory *memory);

/* --- calls (test_hostile_call.c) --- */

/* The ioctls by their numbers, and one for those that do not exist. */
enum call_kind {
	CALL_UNKNOWN = 12,
	NR_CALL_KINDS
};

/**
 * struct call_args - the fields that the arguments are made of
 *
 * Each kind has some of them, at places that depend on the word size.
 */
struct call_args {
	struct blk_snap_uuid id;
	struct blk_snap_dev dev;
	uint32_t count;
	uint32_t offset;
	uint32_t length;
	uint32_t timeout_ms;
	void *pointer;
};

/**
 * enum id_kind - what is known of an identifier
 * @ID_WRONG:	no snapshot has it
 * @ID_LIVE:	one of the model
 * @ID_POOL:	there was such a snapshot, and perhaps there still is
 * @ID_HONEST:	of the honest workload, which has taken it
 */
enum id_kind {
	ID_WRONG,
	ID_LIVE,
	ID_POOL,
	ID_HONEST,
};

/* Ranges of a call that does not exaggerate. */
#define MAX_GOOD_RANGES 24

/* Errnos that a call may end with. */
struct errnos {
	unsigned int nr;
	int list[16];
};

/**
 * struct call - one call
 * @kind:	which, one of enum blk_snap_ioctl or enum call_kind
 * @request:	its number
 * @is_compat:	made as a 32-bit program makes it
 * @args:	what the argument says
 * @arg:	the argument in memory
 * @array:	what @args.pointer leads to; nothing if that is NULL
 * @room:	bytes of the array that the module may write
 * @must:	some reasons to fail
 * @may:	errnos that are right, too, though the call may succeed
 * @id_kind:	what is known of the snapshot that it names
 * @snapshot:	in the model, -1 if there is none
 * @target:	which one it is about, -1 if none
 * @members:	bits of the targets that a new snapshot is to have
 * @ranges:	what it marks or appends
 * @ret:	0, a count or a negative errno
 */
struct call {
	unsigned int kind;
	unsigned int request;
	bool is_compat;
	struct call_args args;
	struct memory arg;
	struct memory array;
	size_t room;
	struct errnos must;
	struct errnos may;
	enum id_kind id_kind;
	int snapshot;
	int target;
	unsigned int members;
	struct blk_snap_block_range ranges[MAX_GOOD_RANGES];
	int ret;
};

#define NR_CALLER_FDS 5

/**
 * struct caller - somebody who makes calls
 * @is_alone:	nobody else does, so the model knows everything
 * @may_borrow:	may name what belongs to the honest workload
 * @is_borrowing: does so for this call
 * @fds:	control node: for both, for reading, for writing, a duplicate, and
 *		one that was inherited from another process
 * @hash:	of what came of all calls, for comparing runs of the same seed
 */
struct caller {
	struct random random;
	bool is_alone;
	bool may_borrow;
	bool is_borrowing;
	int fds[NR_CALLER_FDS];
	struct arena arg_arena;
	struct arena array_arena;
	uint64_t nr_calls;
	uint64_t hash;
};

void calls_set_up(void);
void caller_create(struct caller *caller, uint64_t seed, int inherited_fd,
		   unsigned int slow_page);
void caller_destroy(struct caller *caller);
void caller_make_call(struct caller *caller);

bool chance(struct caller *caller, unsigned int one_of);
uint64_t pick(struct caller *caller, uint64_t limit);

/* For those who make up the arguments. */
void must_fail(struct call *call, int error);
void may_fail(struct call *call, int error);
/* By what the module knows: certain only if nobody else changes that. */
void fails_by_state(struct caller *caller, struct call *call, int error);
bool call_must_fail(const struct call *call);

void make_version(struct caller *caller, struct call *call);
void make_tracker_remove(struct caller *caller, struct call *call);
void make_tracker_collect(struct caller *caller, struct call *call);
void make_read_map(struct caller *caller, struct call *call);
void make_mark(struct caller *caller, struct call *call);
void make_create(struct caller *caller, struct call *call);
void make_destroy(struct caller *caller, struct call *call);
void make_append(struct caller *caller, struct call *call);
void make_take(struct caller *caller, struct call *call);
void make_snapshot_collect(struct caller *caller, struct call *call);
void make_collect_images(struct caller *caller, struct call *call);
void make_wait_event(struct caller *caller, struct call *call);

/* Whatever is said about a call is printed; the test has failed then. */
void complain(const struct caller *caller, const struct call *call,
	      const char *format, ...) __attribute__((format(printf, 3, 4)));
uint64_t nr_complaints(void);

/* --- what came of them (test_hostile_stats.c), for all processes --- */

void stats_set_up(void);
bool stats_take_turn(void);
void stats_start(uint64_t nr_calls, unsigned int max_seconds);
bool stats_is_over(void);
void stats_count(unsigned int kind, int ret);
uint64_t stats_total(void);
uint64_t stats_nr(unsigned int kind, int error);
unsigned int stats_add_complaint(void);
void stats_print(const char *title);
void stats_clear(void);

/* --- the model (test_hostile_model.c), or what a crowd knows instead --- */

#define MAX_SNAPSHOTS 8
#define MODEL_MAX_RANGES 4096

struct model_range {
	unsigned int whole;
	uint64_t start;
	uint64_t end;
};

struct model_snapshot {
	struct blk_snap_uuid id;
	bool is_live;
	bool is_taken;
	bool has_event;
	unsigned int members;		/* bits of targets */
	unsigned int nr_ranges;
	uint64_t nr_usable;		/* sectors that can be handed out */
	struct blk_snap_dev images[NR_TARGETS];
	struct model_range ranges[MODEL_MAX_RANGES];
};

struct model_tracker {
	bool is_tracked;
	int snapshot;			/* that it is claimed by, or -1 */
	bool is_generation_known;
	struct blk_snap_uuid generation;
	uint8_t number;
	uint8_t snap_number;
	uint8_t *active;
	uint8_t *frozen;
};

struct model {
	struct model_snapshot snapshots[MAX_SNAPSHOTS];
	struct model_tracker trackers[NR_TARGETS];
	struct blk_snap_uuid dead_id;	/* of one that was destroyed */
};

extern struct model model;

void model_set_up(void);
void model_tear_down(void);
int model_find_free(void);
unsigned int model_nr_live(void);
unsigned int model_nr_tracked(void);
bool model_range_is_used(unsigned int whole, uint64_t start, uint64_t end);
bool model_range_is_protected(int but, unsigned int whole, uint64_t start,
			      uint64_t end);
int model_target_of_image(struct blk_snap_dev dev);
void model_apply(struct caller *caller, const struct call *call);
void check_answer(struct caller *caller, const struct call *call);
void model_compare(struct caller *caller, const struct call *call);

/* --- who a call is about, for one caller or for many --- */

void pick_id(struct caller *caller, struct call *call);
void pick_dev(struct caller *caller, struct call *call);
struct blk_snap_dev strange_dev(struct caller *caller);
uint32_t strange_number(struct caller *caller);
void make_range_good(struct caller *caller, struct blk_snap_block_range *range,
		     uint64_t from, uint64_t nr_sectors, unsigned int align);
void make_range_bad(struct caller *caller, struct blk_snap_block_range *range,
		    uint64_t nr_sectors);
void place_array(struct caller *caller, struct call *call, size_t nr_bytes);
void fill_array(struct caller *caller, const struct call *call,
		const void *content);
bool array_is_null(const struct call *call);
void expect_output(struct caller *caller, struct call *call, unsigned int nr);

/* --- many at a time (test_hostile_crowd.c, ..._honest.c) --- */

void crowd_set_up(void);
void crowd_add_id(const struct blk_snap_uuid *id);
void crowd_forget_id(const struct blk_snap_uuid *id);
void crowd_pick_id(struct random *random, struct blk_snap_uuid *id);

void honest_set_up(void);
void honest_tear_down(void);
bool honest_borrow(struct caller *caller);
void honest_return(struct caller *caller);
const struct blk_snap_uuid *honest_id(void);
struct blk_snap_dev honest_image(void);
void *honest_run(void *data);
void *stamp_run(void *data);
void honest_check(void);

void *image_run(void *data);

void hostile_set_up(void);
void hostile_tear_down(void);

extern const struct ktap_test slow_tests[];
extern const struct ktap_test random_tests[];
extern const struct ktap_test node_tests[];

#endif /* TEST_HOSTILE_H */
