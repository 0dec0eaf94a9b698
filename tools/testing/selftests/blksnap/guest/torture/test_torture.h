/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The torture: everything at once, and what is legal meanwhile
 *
 * Words of these files beside those of the module:
 *
 * medium:	a whole disk with all nodes through which it is written
 * origin:	a node of a medium that snapshots are taken of
 * shot:	a snapshot from its creation to its end, and what is known of it
 * view:	the image of one origin in one shot
 * tick:	time, counted by one clock of the program; every operation and
 *		every take begins at one tick and ends at another
 *
 * Each 8 bytes that are written say which operation wrote them and where they
 * belong.  Operations are logged with their ticks.  Threads overwrite each
 * other, so what is on a sector is any operation that is not certainly gone:
 * one is gone if another one began on the same sector after it had ended, and
 * ended itself before the moment that is looked at.
 *
 * A log is bounded, so now and then the writers to a medium stand still, what
 * is on it is judged and becomes the base of a new log.
 */
#ifndef TEST_TORTURE_H
#define TEST_TORTURE_H

#include <pthread.h>
#include <stdatomic.h>

#include "blksnap_test.h"
#include "way.h"

#define NOT_YET UINT64_MAX
#define BLOCK_SECTORS 8U	/* what is noted per block of 4 KiB */

/* --- threads and faults: test_torture_watch.c --- */

/**
 * struct worker - a thread of the torture
 * @name:	for reports
 * @doing:	what it does at present, a const char *
 * @since_ns:	when that began
 * @nr_done:	how often it went round
 * @data:	of who started it
 * @buffer:	of WORKER_BUFFER_BYTES, aligned
 */
struct worker {
	char name[24];
	pthread_t thread;
	int tid;
	struct random random;
	void *data;
	void *buffer;
	atomic_uintptr_t doing;
	atomic_uint_fast64_t since_ns;
	atomic_uint_fast64_t nr_done;
	atomic_bool is_running;
};

#define WORKER_BUFFER_BYTES (4 * MIB)

/* Work once; called until worker_stop(). */
typedef void (*worker_fn)(struct worker *worker);

struct worker *worker_start(worker_fn work, void *data, atomic_bool *stop,
			    const char *format, ...)
	__attribute__((format(printf, 4, 5)));
void worker_join(struct worker *worker);
void worker_doing(struct worker *worker, const char *doing);

enum fault {
	FAULT_IMAGE,		/* an image holds what it must not */
	FAULT_CHANGED,		/* an image changed */
	FAULT_ORIGIN,		/* an origin holds what it must not */
	FAULT_FILE,		/* a file in an image is not that of the take */
	FAULT_MAP,		/* a change is not marked, or a mark has no change */
	FAULT_EVENT,		/* an event is missing, or too many, or wrong */
	FAULT_IO,		/* a request failed that must not */
	FAULT_CALL,		/* a call of the module failed, or did not */
	NR_FAULTS
};

bool fault_is_worth_telling(enum fault fault);
void fault_add(enum fault fault, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

void watch_start(unsigned int patience_s);
void watch_stop(void);

/* --- media: test_torture_media.c --- */

/**
 * struct op - an operation that changes sectors
 * @start:	tick before it, NOT_YET as long as the entry is not valid
 * @end:	tick after it
 * @sector:	first, of the medium
 * @is_certain:	it was done for sure, once it has ended
 * @is_cached:	it went to the page cache of its node; or, if it made zeros, it
 *		threw out what was there before it began to do so
 * @way:	index of the way it took, for reports
 * @how:	the name of what it was, for reports
 */
struct op {
	atomic_uint_fast64_t start;
	atomic_uint_fast64_t end;
	uint64_t sector;
	uint32_t nr_sectors;
	bool makes_zeros;
	bool is_certain;
	bool is_cached;
	uint8_t way;
	const char *how;
};

#define MAX_OPS 65536U		/* of one log */
#define MAX_WAYS 5

struct origin;

/**
 * struct medium - a whole disk and the nodes through which it is written
 * @index:	which; it is part of every word that is written
 * @disk:	the whole disk
 * @nr_sectors:	of them, what writers use; the rest may be storage
 * @block_sectors: logical block in sectors
 * @ways:	through which it may be written
 * @may_cache:	the way of the same index may be used through the page cache
 * @has_files:	it holds a filesystem, and nobody writes to its nodes
 * @is_loop:	the whole disk is a loop device of ours
 * @still:	held shared by writers for each operation, exclusively by who
 *		wants them to stand still
 * @ops:	the log
 * @nr_ops:	used entries of it, may exceed MAX_OPS
 * @first_op:	number of the first entry
 * @base_tick:	when @base was read
 * @base:	contents when the log began
 * @scratch:	as large as @base
 * @touched:	by block, the last tick at which a writer was there
 * @must_start:	by sector, used while judging
 * @zero_end:	by sector, used while judging
 * @is_taken:	an agent works with it (torture.lock)
 */
struct medium {
	unsigned int index;
	struct disk disk;
	struct disk part;
	struct disk mapped;
	struct disk looped;
	uint64_t nr_sectors;
	unsigned int block_sectors;
	struct way ways[MAX_WAYS];
	bool may_cache[MAX_WAYS];
	unsigned int nr_ways;
	bool has_files;
	bool is_loop;
	pthread_rwlock_t still;

	struct op *ops;
	atomic_uint nr_ops;
	uint64_t first_op;
	uint64_t base_tick;
	uint8_t *base;
	uint8_t *scratch;
	atomic_uint_fast64_t *touched;
	uint64_t *must_start;
	uint64_t *zero_end;

	bool is_taken;
};

/**
 * struct origin - what snapshots are taken of
 * @disk:	the node
 * @medium:	where it is
 * @start:	its first sector on the medium
 * @nr_sectors:	all of its sectors
 * @nr_used:	those of them that writers use
 * @touched:	by block, the last tick at which it was marked on purpose, or
 *		one of its images was written to
 * @must_be_marked: by block, marked on purpose since @previous
 * @previous:	what the last complete image held in the end
 * @info:	tracking as of that image
 * @nr_takes:	since that image
 * @previous_take: tick before the take before the last one
 * @last_take:	tick before the last take, 0 if there was none in this
 *		generation
 * @was_removed: tracking ended after @info: another generation has to follow
 * @first:	what the present image held when it was seen first
 * @now:	the same, and what has been written to it since
 * @shadow:	copy of the origin, if the writers stood still at the take
 * @seen:	by sector of the present image, whether @first and @now are known
 */
struct origin {
	const struct disk *disk;
	struct medium *medium;
	uint64_t start;
	uint64_t nr_sectors;
	uint64_t nr_used;
	atomic_uint_fast64_t *touched;
	uint8_t *must_be_marked;
	uint8_t *previous;
	bool has_previous;
	struct blk_snap_cbt_info info;
	unsigned int nr_takes;
	uint64_t previous_take;
	uint64_t last_take;
	bool was_removed;

	uint8_t *first;
	uint8_t *now;
	uint8_t *shadow;
	uint8_t *seen;
};

#define MAX_MEDIA 8
#define MAX_ORIGINS 12

struct media_options {
	const char *paths[4];
	unsigned int nr_paths;
	const char *storage;
	unsigned int nr_mib;
	unsigned int storage_mib;
};

void media_make(const struct media_options *options);
void media_remove(void);
void media_fill(void);
void medium_hold_still(struct medium *medium);
void medium_let_go(struct medium *medium, struct random *random);
bool medium_read(struct medium *medium, uint64_t sector, uint64_t nr_sectors,
		 uint8_t *to, void *buffer);
void medium_fold(struct medium *medium, void *buffer);
struct medium *medium_take(struct random *random);
void medium_give_back(struct medium *medium);

/* --- stamps and judgement: test_torture_judge.c --- */

void stamp_words(const struct medium *medium, void *buffer, uint64_t sector,
		 uint64_t nr_sectors, uint64_t op);
uint64_t image_op_next(void);

/**
 * struct evidence - what is to be judged
 * @medium:	where it comes from
 * @what:	for reports
 * @path:	node that was read, for reports
 * @start:	first sector of @data on the medium
 * @nr_sectors:	how many
 * @data:	what was read
 * @seen:	by sector, which of them were read; NULL means all
 * @take_start:	tick before the take (or whatever fixed the contents)
 * @take_end:	tick after it
 */
struct evidence {
	const struct medium *medium;
	const char *what;
	const char *path;
	uint64_t start;
	uint64_t nr_sectors;
	const uint8_t *data;
	const uint8_t *seen;
	uint64_t take_start;
	uint64_t take_end;
};

uint64_t evidence_instant(const struct evidence *evidence);
bool evidence_judge(const struct evidence *evidence, uint64_t instant);
bool sector_is_plausible(const struct medium *medium, uint64_t sector,
			 const void *data);
void report_ops(const struct medium *medium, uint64_t sector, uint64_t nr_sectors,
		uint64_t since);
void report_sector(const struct medium *medium, const char *label,
		   const void *data);

/* --- what the judge makes of logs made up: test_torture_paper.c --- */

extern const struct ktap_test judge_tests[];
void judge_set_up(void);
void judge_tear_down(void);

/* --- writers: test_torture_writer.c --- */

void writer_work(struct worker *worker);
void reader_work(struct worker *worker);

/* --- snapshots: test_torture_agent.c, test_torture_view.c --- */

enum plan {
	PLAN_AMPLE,		/* enough storage at once: may never overflow */
	PLAN_STEPWISE,		/* storage when it is asked for */
	PLAN_OVERFLOW,		/* too little, and no more */
	NR_PLANS
};

struct shot;

/**
 * struct view - the image of one origin in one shot
 * @lock:	held shared while reading, exclusively while writing the image
 * @seen_lock:	origin->first, ->now and ->seen
 * @nr_users:	lookers at work (torture.lock)
 * @is_shown:	lookers may come (torture.lock)
 * @may_write:	lookers may write to it
 * @is_wild:	nobody knows what is in it any more
 * @has_shadow:	the writers stood still: origin->shadow is what it must hold
 * @nr_corrupted: events
 * @saw_error:	a request failed with EIO before the end of the shot
 * @is_storage:	the end of the origin was appended before the take
 * @is_complete: all of it was read
 * @info:	tracking when the map was compared with it
 * @is_checked:	the map was compared with it
 */
struct view {
	struct shot *shot;
	struct origin *origin;
	char path[32];
	int direct;
	int cached;
	pthread_rwlock_t lock;
	pthread_mutex_t seen_lock;
	unsigned int nr_users;
	bool is_shown;
	atomic_bool may_write;
	atomic_bool is_wild;
	bool has_shadow;
	atomic_uint nr_corrupted;
	atomic_bool saw_error;
	bool is_storage;
	bool is_complete;
	struct blk_snap_cbt_info info;
	bool is_checked;
};

#define SHOT_VIEWS 6
#define STORAGE_CELLS 512U	/* of 1 MiB */

/* Of an origin's end, appended as storage: the edge, and parts of blocks. */
#define UNUSED_SECTORS (EDGE_BYTES / SECTOR_SIZE + 16)

/**
 * struct shot - a snapshot and what is known of it
 * @has_slow_storage: it is given the slow one of the storage disks
 * @is_going:	its destruction has begun: reads may fail
 * @nr_low:	low_free_space events
 * @nr_refused:	times that there was no storage left to append
 * @waiters:	who wait for events
 */
struct shot {
	unsigned int number;
	struct blk_snap_uuid id;
	enum plan plan;
	bool has_slow_storage;
	struct view views[SHOT_VIEWS];
	unsigned int nr_views;
	uint64_t take_start;
	uint64_t take_end;
	bool is_taken;
	atomic_bool is_going;
	atomic_uint nr_low;
	atomic_uint nr_refused;
	struct worker *waiters[2];
	unsigned int nr_waiters;
	atomic_bool waiters_stop;
};

void agent_work(struct worker *worker);

void view_show(struct view *view);
void view_hide(struct view *view);
bool view_read_all(struct view *view, struct worker *worker);
void view_judge(struct shot *shot);
void view_check_storage(struct view *view, struct worker *worker);
void view_expect_lost(struct view *view, struct worker *worker);
void looker_work(struct worker *worker);
struct view *view_pick(struct random *random);
void view_check_map(struct view *view, struct worker *worker);

bool storage_append(struct shot *shot, struct random *random,
		    unsigned int nr_mib);
void storage_give_back(struct shot *shot);

void origin_keep(struct view *view);
void origin_forget(struct origin *origin);
void origin_mark(struct origin *origin, struct random *random);
void origin_untrack(struct origin *origin);

/* --- files: test_torture_files.c --- */

bool files_start(struct medium *medium);
void files_stop(void);
void files_judge(void *buffer);
void files_fill(void);
void files_work(struct worker *worker);
void files_before_take(void);
void files_after_take(void);
void files_check(struct view *view, struct worker *worker, bool is_readonly);

/* --- all of it --- */

struct torture {
	struct medium media[MAX_MEDIA];
	unsigned int nr_media;
	struct origin origins[MAX_ORIGINS];
	unsigned int nr_origins;
	struct disk storage;
	struct disk slow_storage;	/* the same sectors, if it exists */
	bool has_mkfs;
	uint64_t copy_sectors;		/* sectors that are copied together */

	pthread_mutex_t lock;	/* what says so above */
	pthread_cond_t changed;

	atomic_uint_fast64_t clock;
	atomic_bool agents_stop;	/* no more cycles */
	atomic_bool others_stop;	/* agents are done */

	/* statistics */
	atomic_ullong nr_ops;
	atomic_ullong nr_written_bytes;
	atomic_ullong nr_read_bytes;
	atomic_ullong nr_judged_bytes;
	atomic_ullong nr_cycles;
	atomic_ullong nr_takes;
	atomic_ullong nr_still_takes;
	atomic_ullong nr_images;
	atomic_ullong nr_image_writes;
	atomic_ullong nr_mounts;
	atomic_ullong nr_overflows;
	atomic_ullong nr_low_events;
	atomic_ullong nr_appends;
	atomic_ullong nr_marks;
	atomic_ullong nr_removals;
	atomic_ullong nr_blocks;
	atomic_ullong nr_changed_blocks;
	atomic_ullong nr_read_while_destroyed;
	atomic_ullong nr_faults[NR_FAULTS];
};

extern struct torture torture;

static inline uint64_t tick(void)
{
	return atomic_fetch_add(&torture.clock, 1);
}

#endif /* TEST_TORTURE_H */
