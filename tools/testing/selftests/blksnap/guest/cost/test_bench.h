/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What snapshots cost, in figures
 *
 * The program runs on a machine with one processor that counts each instruction
 * as a nanosecond (../lib/guest --icount), so a time without idle time is a number
 * of instructions, whatever the machine around it is doing.
 *
 * way:		how a snapshot is held: by this module, by dm-snapshot with
 *		chunks of some size, or not at all
 * row:		a figure with a name that says whose it is: "WAY.STATE.LOAD"
 */
#ifndef TEST_BENCH_H
#define TEST_BENCH_H

#include "blksnap_test.h"

/* --- rows: test_bench.c --- */

void row_add(const char *unit, double value, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* --- loads: test_bench_load.c --- */

#define LOAD_DEPTH_MAX 32U
#define LOAD_BYTES_MAX MIB

struct request {
	uint64_t at;
	uint32_t nr_bytes;
	bool is_write;
};

/**
 * struct load - requests in their order
 * @depth:	how many are under way at a time
 * @nr:		of them
 */
struct load {
	unsigned int depth;
	unsigned int nr;
	struct request *requests;
};

void load_stride(struct load *load, bool is_write, size_t nr_bytes,
		 unsigned int nr, uint64_t stride);
void load_random(struct load *load, bool is_write, size_t nr_bytes,
		 unsigned int nr, uint64_t span);
void load_shuffle(struct load *load, bool is_write, size_t nr_bytes,
		  unsigned int nr, unsigned int step);
void load_cover(struct load *load, size_t nr_bytes, uint64_t span);
void load_mix(struct load *load, unsigned int nr, uint64_t span);
void load_part(struct load *part, const struct load *load, unsigned int first,
	       unsigned int nr, bool is_write);
void load_free(struct load *load);

/**
 * struct cost - of a load, per request
 * @ns:		from the first submission to the last completion
 * @busy_ns:	until what followed was done, too, without idle time
 */
struct cost {
	double ns;
	double busy_ns;
};

bool load_run(const struct load *load, const char *path);
double load_best(const struct load *load, const char *path);
void load_settled(const struct load *load, const char *path, struct cost *cost);
double load_submitted(const struct load *load, const char *path, double *ns);
double load_write_p99(const struct load *load, const char *path);
uint64_t *load_times(const struct load *load, const char *path);

/**
 * struct meter - what is between two moments
 * @start_ns:	the first one
 * @idle_ns:	idle time before it
 */
struct meter {
	uint64_t start_ns;
	uint64_t idle_ns;
};

void meter_start(struct meter *meter);
double meter_busy_ns(const struct meter *meter);
void settle(void);

/* --- ways: test_bench_way.c --- */

enum way_kind {
	WAY_BARE,
	WAY_DM,
	WAY_BLKSNAP,
};

/**
 * struct way - how snapshots are held
 * @name:		begins the names of rows
 * @chunk_sectors:	of dm-snapshot
 */
struct way {
	const char *name;
	enum way_kind kind;
	unsigned int chunk_sectors;
};

extern const struct way way_bare, way_blksnap, way_dm8, way_dm128, way_dm512;

void way_start(const struct way *way, const struct disk *origin,
	       const struct disk *storage);
void way_start_many(const struct way *way, const struct disk *of_origins,
		    const struct disk *of_storages, unsigned int nr);
void way_take(void);
void way_drop(void);
void way_stop(void);
const char *way_origin(void);
const char *way_image(void);

/* --- the disks, and tests in files of their own --- */

#define WATCH_MS 2500U		/* with settle_watch=1, until requests cost less */
#define KEPT_MS 2500U		/* until pages kept for copies are free again */
#define BENCH_MIB 1024U

extern struct disk bench_origin, bench_other, bench_storage;
extern const struct null_disk_options bench_options;
extern const struct way *bench_way;	/* of the suite that runs */

void bench_disks_need(void);

void first_rows_add(const char *name, const struct load *load);
extern const struct ktap_test cost_tests[];
extern const struct ktap_test cost_dm_tests[];
extern const struct ktap_test plot_tests[];
extern const struct ktap_test slow_tests[];

extern const struct ktap_test scale_tests[];
void scale_tear_down(void);

extern const struct ktap_test space_tests[];
void space_tear_down(void);
double free_bytes(void);

extern const struct ktap_test user_tests[];
extern const struct ktap_test many_tests[];

extern const struct ktap_test tail_tests[];

extern const struct ktap_test growth_tests[];
void growth_tear_down(void);

extern const struct ktap_test mix_tests[];
void mix_tear_down(void);

#endif /* TEST_BENCH_H */
