// SPDX-License-Identifier: GPL-2.0
/*
 * What is measured at each point of an axis
 *
 * First the origin by itself, then the same with a snapshot from its creation to
 * its end, some times over.  The first time the origin was not tracked before,
 * and this time shows what memory is used; of the others the best one counts.
 *
 * A row is named "growth.AXIS.VALUE.FIGURE".
 */
#include "test_bench_growth.h"

#define CHEAP_REQUESTS 100U	/* a batch has to be shorter than a tick */
#define ROUNDS 4U
#define APPEND_RANGES 10000U	/* at most, by one call */

void growth_row(const struct growth_point *point, const char *unit,
		double value, const char *figure)
{
	row_add(unit, value, "growth.%s.%lu.%s", point->axis, point->value,
		figure);
}

/* What the first of the requests cost, as reads or as writes. */
double growth_cheap_cost(const struct load *load, bool is_write,
			 const char *path)
{
	struct load part;
	double cost;

	load_part(&part, load, 0, CHEAP_REQUESTS, is_write);
	load_best(&part, path);		/* the kernel is warm after this */
	cost = load_best(&part, path);
	load_free(&part);
	return cost;
}

void growth_append(const struct blk_snap_uuid *id, const struct disk *storage,
		   const struct blk_snap_block_range *ranges, unsigned int nr)
{
	unsigned int i, part;

	for (i = 0; i < nr; i += part) {
		part = nr - i < APPEND_RANGES ? nr - i : APPEND_RANGES;
		ASSERT_OK(control_snapshot_append_storage(ctl, id, storage->id,
							  ranges + i, part));
	}
}

enum call { CREATE, APPEND, TAKE, DESTROY, NR_CALLS };

/* Times in microseconds; what is no waiting is busy. */
struct call_times {
	double all[NR_CALLS];
	double busy[NR_CALLS];
};

static void call_note(struct call_times *times, enum call call,
		      const struct meter *meter)
{
	times->all[call] = (now_ns() - meter->start_ns) / 1e3;
	times->busy[call] = meter_busy_ns(meter) / 1e3;
}

static void call_rows(const struct growth_point *point, const char *name,
		      const struct call_times *times, enum call call)
{
	char figure[32];

	growth_row(point, "us", times->all[call], name);
	snprintf(figure, sizeof(figure), "%s_busy", name);
	growth_row(point, "us", times->busy[call], figure);
}

static void create(const struct growth_point *point, struct snapshot *snapshot,
		   struct call_times *times)
{
	struct meter meter;

	meter_start(&meter);
	snapshot_create(snapshot, point->disk);
	call_note(times, CREATE, &meter);
	sleep_ms(WATCH_MS);
}

static void append_and_take(const struct growth_point *point,
			    struct snapshot *snapshot, struct call_times *times)
{
	struct meter meter;

	meter_start(&meter);
	growth_append(&snapshot->id, point->storage, point->ranges,
		      point->nr_ranges);
	call_note(times, APPEND, &meter);
	meter_start(&meter);
	ASSERT_OK(control_snapshot_take(ctl, &snapshot->id));
	call_note(times, TAKE, &meter);
	snapshot_find_images(snapshot);
	settle();
}

static void destroy(const struct snapshot *snapshot, struct call_times *times)
{
	struct meter meter;

	meter_start(&meter);
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot->id));
	call_note(times, DESTROY, &meter);
	settle();
}

static void copy_before(const struct growth_point *point)
{
	struct cost cost;

	if (point->copied.nr)
		load_settled(&point->copied, point->disk->path, &cost);
}

/* Returns what a first write cost. */
static double write_first(const struct growth_point *point)
{
	struct cost cost;

	load_settled(&point->writes, point->disk->path, &cost);
	return cost.busy_ns;
}

static void added_row(const struct growth_point *point, const char *figure)
{
	growth_row(point, "instructions added",
		   growth_cheap_cost(&point->writes, true, point->disk->path) -
		   point->bare_ns, figure);
}

static void memory_row(const struct growth_point *point, const char *figure)
{
	sleep_ms(KEPT_MS);
	growth_row(point, "bytes", point->free_bytes - free_bytes(), figure);
}

/* Everything that needs no second time. */
static void measure_once(const struct growth_point *point)
{
	struct call_times times;
	struct snapshot snapshot;
	const char *image;

	create(point, &snapshot, &times);
	call_rows(point, "create", &times, CREATE);
	memory_row(point, "memory_created");
	added_row(point, "tracked");
	append_and_take(point, &snapshot, &times);
	memory_row(point, "memory_taken");
	copy_before(point);
	image = image_of(&snapshot, point->disk);
	if (!point->is_all_copied) {
		growth_row(point, "instructions",
			   growth_cheap_cost(&point->writes, false, image),
			   "image");
		write_first(point);
	}
	memory_row(point, "memory");
	added_row(point, "copied");
	growth_row(point, "instructions",
		   growth_cheap_cost(&point->writes, false, image), "stored");
	destroy(&snapshot, &times);
}

static void keep_less(double *best, double value)
{
	if (!*best || value < *best)
		*best = value;
}

static void measure_again(const struct growth_point *point)
{
	struct call_times times, best = { 0 };
	struct snapshot snapshot;
	double first = 0;
	unsigned int i, j;

	for (i = 1; i < ROUNDS; i++) {
		create(point, &snapshot, &times);
		append_and_take(point, &snapshot, &times);
		copy_before(point);
		if (!point->is_all_copied)
			keep_less(&first, write_first(point));
		destroy(&snapshot, &times);
		for (j = 0; j < NR_CALLS; j++) {
			keep_less(&best.all[j], times.all[j]);
			keep_less(&best.busy[j], times.busy[j]);
		}
	}
	if (!point->is_all_copied)
		growth_row(point, "instructions", first, "first");
	call_rows(point, "again", &best, CREATE);
	call_rows(point, "append", &best, APPEND);
	call_rows(point, "take", &best, TAKE);
	call_rows(point, "destroy", &best, DESTROY);
}

/* The module is loaded and tracks nothing yet. */
void growth_begin(struct growth_point *point)
{
	point->bare_ns = growth_cheap_cost(&point->writes, true,
					   point->disk->path);
	settle();
	point->free_bytes = free_bytes();
}

/* The module does not track the origin yet, but may track others. */
void growth_measure(const struct growth_point *point)
{
	measure_once(point);
	measure_again(point);
}
