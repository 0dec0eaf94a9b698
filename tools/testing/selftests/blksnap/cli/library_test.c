// SPDX-License-Identifier: GPL-2.0
/*
 * What the library promises to programs, with the fake module
 *
 *	library_test NAME
 *
 * runs one test and prints nothing, so that what the library prints is seen.  The exit
 * code is PASSED, which no library ends a program with, or the line that failed.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <blksnap/blksnap.h>

#include "util.h"

#define PASSED 42

/* Lines that are the code of something else are no good, nor are those beyond 255. */
#define EXPECT(condition) \
	do { \
		if (!(condition)) \
			exit(100 + __LINE__ % 100); \
	} while (0)

static const struct blk_snap_dev tracked = { 4000, 1 };
static const struct blk_snap_uuid id = { { 0xa0, 0xa1, 0xa2 } };
static struct blksnap *blksnap;

static bool says(const char *text)
{
	return strstr(blksnap_error(), text);
}

static void open_module(void)
{
	EXPECT(!blksnap_open(&blksnap) && blksnap);
}

static void test_open_fails(void)
{
	blksnap = (struct blksnap *)&id;
	EXPECT(blksnap_open(&blksnap) == -ENOENT && !blksnap);
	EXPECT(says("the blksnap module is not loaded; load it with"));
}

static void test_call_fails(void)
{
	struct blk_snap_cbt_info *infos = (void *)&id;
	unsigned int nr_infos = 7;

	EXPECT(blksnap_snapshot_take(blksnap, &id) == -EFAULT);
	EXPECT(says("the snapshot has no difference storage"));
	/* What goes well leaves the text alone. */
	EXPECT(!blksnap_tracker_collect(blksnap, &infos, &nr_infos) && nr_infos == 2);
	EXPECT(says("the snapshot has no difference storage"));
	free(infos);
}

static void test_array_after_failure(void)
{
	struct blk_snap_cbt_info *infos = (void *)&id;
	unsigned int nr_infos = 7;

	EXPECT(blksnap_tracker_collect(blksnap, &infos, &nr_infos) == -EPERM);
	EXPECT(!infos && !nr_infos && says("not permitted; run as root"));
}

static void *fail_otherwise(void *arg)
{
	EXPECT(!strcmp(blksnap_error(), "nothing has failed"));
	EXPECT(blksnap_tracker_info(blksnap, (struct blk_snap_dev) { 1, 1 }, arg) ==
	       -ENODATA);
	EXPECT(says("the device is not tracked"));
	return NULL;
}

/* With the same connection. */
static void test_text_of_each_thread(void)
{
	struct blk_snap_cbt_info info;
	pthread_t thread;

	EXPECT(blksnap_snapshot_take(blksnap, &id) == -EFAULT);
	EXPECT(!pthread_create(&thread, NULL, fail_otherwise, &info));
	EXPECT(!pthread_join(thread, NULL));
	EXPECT(says("the snapshot has no difference storage"));
}

static int use_range(uint64_t start, uint64_t count)
{
	const struct blk_snap_block_range range = { start, count };
	struct blksnap_storage *storage = (void *)&id;
	int ret = blksnap_storage_from_ranges(tracked, &range, 1, &storage);

	EXPECT(!ret == !!storage);
	blksnap_storage_free(storage);
	return ret;
}

static void test_ranges_overflow(void)
{
	EXPECT(!use_range(0, 1));
	EXPECT(use_range(8, 0) == -EINVAL && says("empty"));
	EXPECT(use_range(UINT64_MAX, 1) == -EINVAL && says("beyond"));
	EXPECT(use_range(1, UINT64_MAX) == -EINVAL);
	EXPECT(use_range(UINT64_MAX >> 9, 1) == -EINVAL);
	EXPECT(!use_range((UINT64_MAX >> 9) - 1, 1));
}

static void test_ranges_are_joined(void)
{
	const struct blk_snap_block_range in[] = { { 8, 8 }, { 16, 8 }, { 32, 8 } };
	const struct blk_snap_block_range *out;
	struct blksnap_storage *storage;

	EXPECT(!blksnap_storage_from_ranges(tracked, in, 3, &storage));
	EXPECT(blksnap_storage_ranges(storage, &out) == 2);
	EXPECT(out[0].sector_offset == 8 && out[0].sector_count == 16);
	EXPECT(out[1].sector_offset == 32 && out[1].sector_count == 8);
	EXPECT(blksnap_storage_nr_sectors(storage) == 24);
	EXPECT(blksnap_storage_dev(storage).mj == 4000);
	EXPECT(!blksnap_storage_append(blksnap, &id, storage));
	blksnap_storage_free(storage);
}

static int use_file(uint64_t offset, uint64_t size, unsigned int flags)
{
	struct blksnap_storage *storage = (void *)&id;
	int ret = blksnap_storage_find_file("/nonexistent", offset, size, flags,
					    &storage);

	EXPECT(!storage);
	return ret;
}

static void test_pieces_of_files(void)
{
	EXPECT(use_file(4096, 8192, BLKSNAP_STORAGE_FORCE) == -ENOENT);
	EXPECT(says("cannot open '/nonexistent': No such file"));
	EXPECT(use_file(UINT64_MAX - 4095, 4096, 0) == -EOVERFLOW && says("beyond"));
	EXPECT(use_file(4096, INT64_MAX, 0) == -EOVERFLOW);
	EXPECT(use_file(4096, 512, 0) == -EINVAL && says("multiples of 4096"));
	EXPECT(use_file(0, 0, 2) == -EINVAL && says("flags 0x2"));
	EXPECT(blksnap_storage_reserve_file("/nonexistent/f", 512, 0) == -EINVAL);
	EXPECT(blksnap_storage_reserve_file("/nonexistent/f", 4096, 4) == -EINVAL);
	EXPECT(blksnap_storage_reserve_file("/nonexistent/f", 4096, 0) == -ENOENT);
}

/* A text is cut off, not written beyond its end. */
static void test_long_path(void)
{
	char *path = malloc(1 << 16);

	memset(path, 'x', 1 << 16);
	path[(1 << 16) - 1] = 0;
	EXPECT(blksnap_storage_reserve_file(path, 4096, 0) == -ENAMETOOLONG);
	EXPECT(says("cannot open 'xxx") && strlen(blksnap_error()) < 1 << 13);
	free(path);
}

/* 389120 bytes in blocks of 64 KiB: the last one is not whole. */
static void test_extents(void)
{
	struct blk_snap_block_range *extents;
	struct blksnap_cbt *cbt;
	size_t nr_extents;

	EXPECT(!blksnap_cbt_load(blksnap, tracked, &cbt));
	EXPECT(blksnap_cbt_info(cbt)->snap_number == 9 && blksnap_cbt_map(cbt)[4] == 9);
	EXPECT(!blksnap_cbt_extents(cbt, 2, &extents, &nr_extents) && nr_extents == 2);
	EXPECT(extents[0].sector_offset == 0 && extents[0].sector_count == 128);
	EXPECT(extents[1].sector_offset == 512 && extents[1].sector_count == 248);
	free(extents);
	EXPECT(!blksnap_cbt_extents(cbt, 9, &extents, &nr_extents));
	EXPECT(!extents && !nr_extents);
	blksnap_cbt_free(cbt);
}

static void test_map_answers(void)
{
	struct blk_snap_uuid generation;
	struct blksnap_cbt *cbt;

	EXPECT(!blksnap_cbt_load(blksnap, tracked, &cbt));
	generation = blksnap_cbt_info(cbt)->generation_id;
	EXPECT(!blksnap_cbt_check(cbt, &generation, 9));
	EXPECT(!blksnap_cbt_check(cbt, NULL, 0));
	EXPECT(blksnap_cbt_check(cbt, &generation, 10) == -ESTALE);
	EXPECT(says("only come to snapshot 9"));
	generation.b[15]++;
	EXPECT(blksnap_cbt_check(cbt, &generation, 1) == -ESTALE && says("full backup"));
	blksnap_cbt_free(cbt);
}

/* Blocks of such a size would make offsets that are wrong. */
static void test_map_contradicts_itself(void)
{
	struct blksnap_cbt *cbt = (void *)&id;

	EXPECT(blksnap_cbt_load(blksnap, tracked, &cbt) == -EPROTO && !cbt);
	EXPECT(says("contradicts itself"));
}

static int count_events(const struct blk_snap_snapshot_event *event, void *arg)
{
	int *left = arg;

	EXPECT(event->code == blk_snap_event_code_low_free_space);
	return --*left ? 0 : 17;
}

static void test_watch(void)
{
	int left = 2;

	/* Two of them end it, a signal does not. */
	EXPECT(blksnap_snapshot_watch(blksnap, &id, -1, count_events, &left) == 17);
	EXPECT(!left);
	left = 9;
	EXPECT(blksnap_snapshot_watch(blksnap, &id, 20, count_events, &left) == -ENOENT);
	EXPECT(left == 8);
	EXPECT(blksnap_snapshot_watch(blksnap, &id, INT64_MAX, count_events, &left) ==
	       -ESRCH);
	EXPECT(left == 8 && says("the snapshot was destroyed"));
}

static void test_nothing_to_free(void)
{
	blksnap_close(NULL);
	blksnap_cbt_free(NULL);
	blksnap_storage_free(NULL);
}

static const struct {
	const char *name;
	void (*run)(void);
	bool needs_module;
} tests[] = {
	{ "open_fails", test_open_fails, false },
	{ "call_fails", test_call_fails, true },
	{ "array_after_failure", test_array_after_failure, true },
	{ "text_of_each_thread", test_text_of_each_thread, true },
	{ "ranges_overflow", test_ranges_overflow, false },
	{ "ranges_are_joined", test_ranges_are_joined, true },
	{ "pieces_of_files", test_pieces_of_files, false },
	{ "long_path", test_long_path, false },
	{ "extents", test_extents, true },
	{ "map_answers", test_map_answers, true },
	{ "map_contradicts_itself", test_map_contradicts_itself, true },
	{ "watch", test_watch, true },
	{ "nothing_to_free", test_nothing_to_free, false },
};

int main(int argc, char **argv)
{
	size_t i = 0;

	while (i < ARRAY_SIZE(tests) && (argc != 2 || strcmp(tests[i].name, argv[1])))
		i++;
	if (i == ARRAY_SIZE(tests))
		return 2;
	if (tests[i].needs_module)
		open_module();
	tests[i].run();
	blksnap_close(blksnap);
	return PASSED;
}
