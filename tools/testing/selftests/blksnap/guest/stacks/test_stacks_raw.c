// SPDX-License-Identifier: GPL-2.0
/*
 * Reading and writing the devices of a stack themselves
 *
 * Everything stands still while the tracked devices are copied and the snapshot
 * is taken; so whatever is written afterwards, above or below, each image has to
 * be the copy, byte for byte.  Two of these intervals follow each other, with
 * writes between them, and what differs between their images must be marked in
 * the change map.  Where it is known which bytes were written, nothing else may
 * be marked.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "test_stacks.h"

#define DEVICE_MIB 10
#define WATCHED_MAX (STACK_BOTTOMS_MAX + 1)
#define TAKES_MAX 8

/**
 * struct watched - a device that is tracked
 * @disk:	the device
 * @snapshot:	the one it is a member of
 * @model_at:	where it begins in the model, or -1
 * @before:	what it held at the first take
 * @now:	what it held at the last take
 * @number:	of the first take, in the change map
 * @generation:	of the change map then
 */
struct watched {
	const struct disk *disk;
	struct snapshot *snapshot;
	int64_t model_at;
	uint8_t *before;
	uint8_t *now;
	uint8_t number;
	struct blk_snap_uuid generation;
};

static struct {
	struct random random;
	struct model model;
	struct path paths[2];
	unsigned int nr_paths;
	struct watched watched[WATCHED_MAX];
	unsigned int nr_watched;
	struct snapshot snapshots[2];
	unsigned int nr_snapshots;
	uint8_t *top;		/* what it held at the first take */
} raw;

/* What is written while a snapshot is held: sizes from a sector to 4 MiB. */
static const struct {
	enum write_kind kind;
	uint64_t nr_bytes;
} changes[] = {
	{ WRITE_DIRECT, 512 },
	{ WRITE_DIRECT, 4 * MIB },
	{ WRITE_DISCARD, MIB },
	{ WRITE_DIRECT, 4 * KIB },
	{ WRITE_BUFFERED, 12 * KIB },
	{ WRITE_DIRECT, 1536 },
	{ WRITE_ZEROES, MIB },
	{ WRITE_DIRECT, 64 * KIB + 512 },
	{ WRITE_BUFFERED, MIB },
	{ WRITE_DISCARD, 64 * KIB },
	{ WRITE_DIRECT, 512 * KIB },
	{ WRITE_ZEROES, 4 * KIB },
	{ WRITE_DIRECT, MIB },
	{ WRITE_BUFFERED, 4 * KIB },
	{ WRITE_DISCARD, MIB },
	{ WRITE_DIRECT, 8 * KIB },
};

/* --- what is tracked and written --- */

static bool top_is_partition(void)
{
	return !strcmp(built.top.path, built.parts[0].path);
}

/* A device mapped from another is not changed behind its back. */
static bool bottom_may_be_written(enum layers layers)
{
	return built.stack->is_shifted &&
	       (layers == LAYERS_BOTTOM || top_is_partition());
}

static void choose_paths(enum layers layers)
{
	struct model *model = &raw.model;

	model->disk = &built.top;
	if (built.stack->is_shifted) {
		model->disk = &built.bottoms[0];
		model->top_at = built.stack->shift;
	}
	model_init(model, &raw.random);
	path_open(&raw.paths[raw.nr_paths++], &built.top, model->top_at);
	if (bottom_may_be_written(layers))
		path_open(&raw.paths[raw.nr_paths++], &built.bottoms[0], 0);
}

static void watch(const struct disk *disk, struct snapshot *snapshot,
		  int64_t model_at)
{
	raw.watched[raw.nr_watched++] = (struct watched){
		.disk = disk,
		.snapshot = snapshot,
		.model_at = model_at,
		.before = alloc_aligned(disk->nr_bytes),
		.now = alloc_aligned(disk->nr_bytes),
	};
}

static void choose_watched(enum layers layers)
{
	struct snapshot *snapshot = &raw.snapshots[0];
	unsigned int i;

	raw.nr_snapshots = layers == LAYERS_TWO_SNAPSHOTS ? 2 : 1;
	if (layers != LAYERS_BOTTOM)
		watch(&built.top, snapshot++, raw.model.top_at);
	if (layers == LAYERS_TOP)
		return;
	if (layers != LAYERS_TWO_SNAPSHOTS)
		snapshot = &raw.snapshots[0];
	for (i = 0; i < built.stack->nr_bottoms; i++)
		watch(&built.bottoms[i], snapshot,
		      built.stack->is_shifted ? 0 : -1);
}

/* --- taking and destroying --- */

static void create_one(struct snapshot *snapshot, unsigned int index)
{
	const uint64_t nr = built.storage.nr_bytes / SECTOR_SIZE / 2;
	const struct disk *disks[WATCHED_MAX];
	unsigned int i, nr_disks = 0;

	for (i = 0; i < raw.nr_watched; i++)
		if (raw.watched[i].snapshot == snapshot)
			disks[nr_disks++] = raw.watched[i].disk;
	snapshot_create_of(snapshot, disks, nr_disks);
	ASSERT_OK(append_range(snapshot, &built.storage, index * nr, nr));
}

/* The lower one first the second time, where there are two. */
static void take_all(bool is_lower_first)
{
	unsigned int i;

	for (i = 0; i < raw.nr_snapshots; i++)
		create_one(&raw.snapshots[i], i);
	for (i = 0; i < raw.nr_snapshots; i++)
		snapshot_take(&raw.snapshots[is_lower_first ?
					     raw.nr_snapshots - 1 - i : i]);
}

static void destroy_all(void)
{
	unsigned int i;

	for (i = 0; i < raw.nr_snapshots; i++)
		ASSERT_OK(control_snapshot_destroy(ctl, &raw.snapshots[i].id));
}

static const char *image_of_watched(const struct watched *watched)
{
	return image_of(watched->snapshot, watched->disk);
}

/* A filesystem writes to its disk when it is frozen: that copy is the image. */
static bool has_no_copy(const struct watched *watched)
{
	return built.stack->is_file && watched->disk != &built.top;
}

/* What has been written so far to the disks that are not of the model. */
static uint64_t written_below(void)
{
	struct disk_stat stat;
	uint64_t sum = 0;
	unsigned int i;

	for (i = 0; i < raw.nr_watched; i++) {
		const struct watched *watched = &raw.watched[i];

		if (watched->model_at >= 0 || has_no_copy(watched))
			continue;
		disk_read_stat(watched->disk, &stat);
		sum += stat.written_sectors;
	}
	return sum;
}

static void copy_all(bool is_first)
{
	unsigned int i;

	for (i = 0; i < raw.nr_watched; i++) {
		struct watched *watched = &raw.watched[i];

		if (!has_no_copy(watched))
			ASSERT(read_direct(watched->disk->path,
					   is_first ? watched->before :
						      watched->now,
					   watched->disk->nr_bytes, 0));
	}
}

/* What could not be copied before is copied from the image. */
static void copy_images(bool is_first)
{
	unsigned int i;

	for (i = 0; i < raw.nr_watched; i++) {
		struct watched *watched = &raw.watched[i];

		if (has_no_copy(watched))
			ASSERT(read_direct(image_of_watched(watched),
					   is_first ? watched->before :
						      watched->now,
					   watched->disk->nr_bytes, 0));
	}
}

/*
 * Copy and take, with nothing written in between.  Drivers write notes of their
 * own at times (md its superblocks, dm-thin its metadata); then do it again.
 */
static void copy_and_take(bool is_first)
{
	unsigned int i;
	uint64_t written;

	for (i = 0; i < TAKES_MAX; i++) {
		sync();
		/* Has drivers write the notes that belong to the data. */
		EXPECT_OK(fdatasync(raw.paths[0].buffered));
		sleep_ms(built.stack->settle_ms);
		written = written_below();
		copy_all(is_first);
		take_all(!is_first);
		if (written_below() == written)
			break;
		destroy_all();
	}
	ASSERT(i < TAKES_MAX);
	copy_images(is_first);
}

/* --- checks --- */

static void compare_images(bool is_first)
{
	unsigned int i;

	for (i = 0; i < raw.nr_watched; i++) {
		const struct watched *watched = &raw.watched[i];
		const uint8_t *want = is_first ? watched->before : watched->now;
		const uint64_t nr_bytes = watched->disk->nr_bytes;
		uint8_t *have = alloc_aligned(nr_bytes);
		uint64_t at = 0;

		if (read_direct(image_of_watched(watched), have, nr_bytes, 0) &&
		    memcmp(have, want, nr_bytes)) {
			while (have[at] == want[at])
				at++;
			FAIL("the image of %s differs at byte %llu",
			     watched->disk->path, (unsigned long long)at);
		}
		free(have);
	}
}

/* What was on top can be had from the images of what is below. */
static void compare_rebuilt(const struct snapshot *snapshot)
{
	uint8_t *have = alloc_aligned(built.top.nr_bytes);
	struct disk top;

	if (stack_rebuild(snapshot, &top) &&
	    read_direct(top.path, have, built.top.nr_bytes, 0) &&
	    memcmp(have, raw.top, built.top.nr_bytes))
		FAIL("%s over its images holds something else than it held",
		     built.stack->name);
	stack_unbuild();
	free(have);
}

static void check_block(const struct watched *watched, uint64_t at,
			uint64_t nr_bytes, bool is_marked)
{
	const bool has_changed = memcmp(watched->before + at, watched->now + at,
					nr_bytes);

	if (has_changed && !is_marked)
		FAIL("%s has changed at %llu and is not marked",
		     watched->disk->path, (unsigned long long)at);
	if (is_marked && watched->model_at >= 0 &&
	    !model_is_touched(&raw.model, watched->model_at + at, nr_bytes))
		FAIL("%s is marked at %llu, where nothing was written",
		     watched->disk->path, (unsigned long long)at);
}

static void check_map(const struct watched *watched)
{
	const uint64_t end = watched->disk->nr_bytes;
	struct blk_snap_cbt_info info;
	uint8_t *map = read_map(watched->disk, &info);
	uint64_t at;

	EXPECT(!memcmp(&info.generation_id, &watched->generation,
		       sizeof(info.generation_id)));
	EXPECT_EQ(info.device_capacity, end);
	for (at = 0; at < end; at += info.blk_size)
		check_block(watched, at,
			    end - at < info.blk_size ? end - at : info.blk_size,
			    map[at / info.blk_size] > watched->number);
	free(map);
}

static void note_numbers(void)
{
	struct blk_snap_cbt_info info;
	unsigned int i;

	for (i = 0; i < raw.nr_watched; i++) {
		ASSERT(tracker_info(raw.watched[i].disk, &info));
		raw.watched[i].number = info.snap_number;
		raw.watched[i].generation = info.generation_id;
	}
}

static void expect_written(void)
{
	model_compare(&raw.model, built.top.path, raw.model.top_at,
		      built.top.nr_bytes);
	if (raw.model.disk != &built.top)
		model_compare(&raw.model, raw.model.disk->path, 0,
			      raw.model.nr_bytes);
}

/* --- the test --- */

static void change_all(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(changes); i++)
		model_write(&raw.model, &raw.paths[i % raw.nr_paths],
			    changes[i].kind, changes[i].nr_bytes, &raw.random);
}

static void change_some(void)
{
	unsigned int i;

	for (i = 0; i < 8; i++)
		model_write(&raw.model, &raw.paths[i % raw.nr_paths],
			    random_below(&raw.random, NR_WRITE_KINDS),
			    1 + random_below(&raw.random, 256 * KIB),
			    &raw.random);
}

static void first_interval(void)
{
	const struct snapshot *lower = &raw.snapshots[raw.nr_snapshots - 1];
	const bool is_rebuilt = built.stack->rebuild &&
		raw.watched[raw.nr_watched - 1].disk != &built.top;

	copy_and_take(true);
	note_numbers();
	if (is_rebuilt)
		ASSERT(read_direct(built.top.path, raw.top, built.top.nr_bytes,
				   0));
	model_forget(&raw.model);
	change_all();
	compare_images(true);
	if (is_rebuilt)
		compare_rebuilt(lower);
	destroy_all();
	expect_written();
}

static void second_interval(void)
{
	unsigned int i;

	copy_and_take(false);
	for (i = 0; i < raw.nr_watched; i++)
		check_map(&raw.watched[i]);
	change_some();
	compare_images(false);
	destroy_all();
	expect_written();
}

void test_image_is_exact(void)
{
	const struct raw_case *raw_case = ktap_data();

	choose_paths(raw_case->layers);
	choose_watched(raw_case->layers);
	raw.top = alloc_aligned(built.top.nr_bytes);
	first_interval();
	change_some();
	second_interval();
}

void raw_set_up(void)
{
	const struct raw_case *raw_case = ktap_data();

	ctl_set_up();
	memset(&raw, 0, sizeof(raw));
	random_init(&raw.random, ktap_options.seed);
	stack_build(raw_case->stack, DEVICE_MIB);
}

void raw_tear_down(void)
{
	unsigned int i;

	stack_unbuild();
	for (i = 0; i < raw.nr_paths; i++)
		path_close(&raw.paths[i]);
	for (i = 0; i < raw.nr_watched; i++) {
		free(raw.watched[i].before);
		free(raw.watched[i].now);
	}
	free(raw.top);
	model_exit(&raw.model);
	memset(&raw, 0, sizeof(raw));
	stack_tear_down();
}
