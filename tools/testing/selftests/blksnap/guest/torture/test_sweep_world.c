// SPDX-License-Identifier: GPL-2.0
/*
 * The fault sweep's disks, the snapshot under test, and what both have to hold
 *
 * Every write puts a stamp into each 8 bytes: which write it was and which block.
 * What the origin and the image have to hold is kept in memory, so each round
 * compares both from the first byte to the last.
 *
 * What changed between two takes has to be marked in the change map, whatever
 * failed: each take compares that, too.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "test_sweep.h"

#define ORIGIN_BYTES ((size_t)ORIGIN_BLOCKS * BLOCK_BYTES)

/* How long copies may take to reach the storage, on a very busy machine. */
#define SETTLE_TIMEOUT_MS 30000

struct world world = { .disk_fd = -1, .twin_fd = -1 };
struct held held = { .image_fd = -1 };

static uint64_t stamp;

/* Since the last take. */
static struct {
	bool is_known;
	bool is_written[ORIGIN_BLOCKS];
	struct blk_snap_uuid generation;
	uint8_t snap_number;
} interval;

static void *alloc_content(void)
{
	void *bytes = alloc_aligned(ORIGIN_BYTES);

	memset(bytes, 0, ORIGIN_BYTES);
	return bytes;
}

/**
 * world_set_up() - make the disks
 *
 * No page of them is missing afterwards, or drivers of disks in memory would
 * have to allocate one, which would count as an allocation of the module.
 *
 * Return: NULL, or why there can be none.
 */
const char *world_set_up(void)
{
	if (null_disk_create(&world.disk, "nullb4", 4, NULL) ||
	    null_disk_create(&world.twin, "nullb5", 4, NULL) ||
	    null_disk_create(&world.second, "nullb6", 8, NULL) ||
	    null_disk_create(&world.storage, "nullb7",
			     (STORAGE_BLOCKS * BLOCK_BYTES + 2 * EDGE_BYTES) / MIB, NULL))
		return "null_blk disks cannot be made";
	if (partition_add(&world.disk, &world.origin,
			  ORIGIN_START_BLOCKS * BLOCK_SECTORS,
			  ORIGIN_BLOCKS * BLOCK_SECTORS))
		return "partitions cannot be made";
	if (!fill_direct(world.disk.path, 0, world.disk.nr_bytes, 0) ||
	    !fill_direct(world.twin.path, 0, world.twin.nr_bytes, 0) ||
	    !fill_direct(world.second.path, 0, world.second.nr_bytes, 0) ||
	    !fill_direct(world.storage.path, 0, world.storage.nr_bytes, 0))
		return "the disks cannot be written";
	world.disk_fd = open(world.disk.path, O_RDWR | O_DIRECT | O_CLOEXEC);
	world.twin_fd = open(world.twin.path, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (world.disk_fd < 0 || world.twin_fd < 0)
		return "the disks cannot be opened";
	world.buffer = alloc_content();
	world.other = alloc_content();
	world.content = alloc_content();
	held.content = alloc_content();
	return NULL;
}

/**
 * world_tear_down() - undo world_set_up()
 */
void world_tear_down(void)
{
	close(world.disk_fd);
	close(world.twin_fd);
	null_disk_destroy(&world.disk);
	null_disk_destroy(&world.twin);
	null_disk_destroy(&world.second);
	null_disk_destroy(&world.storage);
	free(world.buffer);
	free(world.other);
	free(world.content);
	free(held.content);
}

/* Prepare for a path: an origin with new content, not tracked. */
void world_begin(void)
{
	memset(&interval, 0, sizeof(interval));
	stamp_next(0, ORIGIN_BLOCKS);
	origin_wrote(0, ORIGIN_BLOCKS, origin_write(0, ORIGIN_BLOCKS, 0));
	ASSERT(origin_is_right());
}

void world_end(void)
{
	if (held.image_fd >= 0)
		close(held.image_fd);
	held.image_fd = -1;
}

/* Choose every disk for faults, or none. */
void world_mark_disks(bool is_marked)
{
	fault_mark_disk(&world.disk, is_marked);
	fault_mark_disk(&world.origin, is_marked);
	fault_mark_disk(&world.second, is_marked);
	fault_mark_disk(&world.storage, is_marked);
}

/* Put the stamp of a new write into the buffer. */
void stamp_next(unsigned int first, unsigned int nr_blocks)
{
	uint64_t *words = (uint64_t *)world.buffer;
	unsigned int i;

	stamp++;
	for (i = 0; i < nr_blocks * BLOCK_BYTES / sizeof(*words); i++)
		words[i] = stamp << 32 | (first + i / (BLOCK_BYTES / sizeof(*words)));
}

static int write_blocks(int fd, unsigned int first, unsigned int nr_blocks, int flags)
{
	struct iovec iovec = { world.buffer, (size_t)nr_blocks * BLOCK_BYTES };
	off_t at = ((off_t)ORIGIN_START_BLOCKS + first) * BLOCK_BYTES;
	ssize_t ret = pwritev2(fd, &iovec, 1, at, flags);

	if (ret < 0)
		return -errno;
	return (size_t)ret == iovec.iov_len ? 0 : -EIO;
}

/* Write the buffer to blocks of the origin, through its disk. */
int origin_write(unsigned int first, unsigned int nr_blocks, int flags)
{
	return write_blocks(world.disk_fd, first, nr_blocks, flags);
}

/* The same on a disk that the module does not know. */
int twin_write(unsigned int first, unsigned int nr_blocks, int flags)
{
	return write_blocks(world.twin_fd, first, nr_blocks, flags);
}

/* To be told of each origin_write() and its result. */
void origin_wrote(unsigned int first, unsigned int nr_blocks, int ret)
{
	unsigned int i;

	if (ret)
		return;
	memcpy(world.content + (size_t)first * BLOCK_BYTES, world.buffer,
	       (size_t)nr_blocks * BLOCK_BYTES);
	for (i = first; i < first + nr_blocks; i++)
		interval.is_written[i] = true;
}

/* Says which is the first block that differs. */
static bool content_is(const char *what, const uint8_t *have, const uint8_t *want,
		       unsigned int nr_blocks)
{
	unsigned int i;

	for (i = 0; i < nr_blocks; i++) {
		size_t at = (size_t)i * BLOCK_BYTES;

		if (!memcmp(have + at, want + at, BLOCK_BYTES))
			continue;
		FAIL("%s differs at block %u: write %llx of block %llx, not %llx of %llx",
		     what, i, (unsigned long long)(*(uint64_t *)(have + at) >> 32),
		     (unsigned long long)(*(uint64_t *)(have + at) & 0xffffffff),
		     (unsigned long long)(*(uint64_t *)(want + at) >> 32),
		     (unsigned long long)(*(uint64_t *)(want + at) & 0xffffffff));
		return false;
	}
	return true;
}

bool origin_is_right(void)
{
	ssize_t ret = pread(world.disk_fd, world.other, ORIGIN_BYTES,
			    ORIGIN_START_BLOCKS * BLOCK_BYTES);

	if (ret != (ssize_t)ORIGIN_BYTES) {
		FAIL("the origin cannot be read: %s", strerror(errno));
		return false;
	}
	return content_is("the origin", world.other, world.content, ORIGIN_BLOCKS);
}

/*
 * The snapshot
 */

/* Every snapshot asks for storage when it is created. */
static void expect_low_event(void)
{
	struct blk_snap_snapshot_event event;

	ASSERT_OK(next_event(&held.snapshot, 0, &event));
	EXPECT_EQ(event.code, blk_snap_event_code_low_free_space);
	EXPECT_ERR(next_event(&held.snapshot, 0, &event), ENOENT);
}

/* Create the snapshot of the origin, with storage. */
void held_create(void)
{
	snapshot_create(&held.snapshot, &world.origin);
	expect_low_event();
	ASSERT_OK(append_range(&held.snapshot, &world.storage, EDGE_BLOCKS * BLOCK_SECTORS,
			       STORAGE_BLOCKS * BLOCK_SECTORS));
}

/*
 * Every block that was written since the last take has to be marked, unless the
 * generation has ended.
 */
static void expect_marks(void)
{
	struct blk_snap_cbt_info info;
	uint8_t *map = read_map(&world.origin, &info);
	unsigned int i;

	ASSERT_EQ(info.blk_count, ORIGIN_BLOCKS);
	if (interval.is_known && !memcmp(&info.generation_id, &interval.generation,
					 sizeof(info.generation_id)))
		for (i = 0; i < ORIGIN_BLOCKS; i++)
			if (interval.is_written[i] && map[i] <= interval.snap_number)
				FAIL("block %u was written and is not marked", i);
	free(map);
	memset(&interval, 0, sizeof(interval));
	interval.is_known = true;
	interval.generation = info.generation_id;
	interval.snap_number = info.snap_number;
}

/* The snapshot has been taken; note what its image has to hold. */
void held_taken(void)
{
	memcpy(held.content, world.content, ORIGIN_BYTES);
	held.error = 0;
	snapshot_find_images(&held.snapshot);
	held.image_fd = ASSERT_OK(open(image_of(&held.snapshot, &world.origin),
				       O_RDWR | O_DIRECT | O_CLOEXEC));
	expect_marks();
}

void held_take(void)
{
	ASSERT_OK(control_snapshot_take(ctl, &held.snapshot.id));
	held_taken();
}

void held_begin(void)
{
	held_create();
	held_take();
}

/* A number that sysfs shows of the image. */
int64_t held_number(const char *name)
{
	const char *image = image_of(&held.snapshot, &world.origin);

	return read_number("/sys/block/%s/blksnap/%s", strrchr(image, '/') + 1, name);
}

/* Wait until every copy is stored, or the snapshot is broken. */
void held_settle(void)
{
	unsigned int ms;

	for (ms = 0; ms < SETTLE_TIMEOUT_MS; ms += 5) {
		bool is_stored = !held_number("memory_bytes");

		/* Last, for a snapshot that breaks drops its copies. */
		held.error = held_number("error");
		if (!held_number("held_writes") && (held.error || is_stored))
			return;
		sleep_ms(5);
	}
	FAIL("copies do not reach the storage: %lld writes held, %lld bytes in memory",
	     (long long)held_number("held_writes"),
	     (long long)held_number("memory_bytes"));
}

/* A broken snapshot says so once, and its image cannot be read. */
static void verify_broken(void)
{
	struct blk_snap_event_corrupted corrupted;
	struct blk_snap_snapshot_event event;

	if (EXPECT_OK(next_event(&held.snapshot, 1000, &event)) < 0)
		return;
	memcpy(&corrupted, event.data, sizeof(corrupted));
	EXPECT_EQ(event.code, blk_snap_event_code_corrupted);
	EXPECT_EQ(corrupted.err_code, held.error);
	EXPECT_EQ(corrupted.orig_dev_id.mj, world.origin.id.mj);
	EXPECT_EQ(corrupted.orig_dev_id.mn, world.origin.id.mn);
	EXPECT(pread(held.image_fd, world.other, BLOCK_BYTES, 0) < 0 && errno == EIO);
}

static void verify_image(void)
{
	ssize_t ret = pread(held.image_fd, world.other, ORIGIN_BYTES, 0);

	if (ret == (ssize_t)ORIGIN_BYTES)
		content_is("the image", world.other, held.content, ORIGIN_BLOCKS);
	else
		FAIL("the image cannot be read: %s", strerror(errno));
}

/* The fault is over: all has to be as it should, and go on. */
void held_verify(void)
{
	struct blk_snap_snapshot_event event;

	held_settle();
	if (held.error)
		verify_broken();
	else
		verify_image();
	EXPECT_ERR(next_event(&held.snapshot, 0, &event), ENOENT);
	EXPECT_EQ(held_number("held_writes"), 0);
	origin_is_right();
	stamp_next(0, 1);
	origin_wrote(0, 1, (int)EXPECT_OK(origin_write(0, 1, 0)));
}

/* Note what has become of the snapshot and of what was asked of it. */
void held_note_result(int ret)
{
	if (held.error)
		sweep_note("broken+event %s", strerrorname_np(held.error));
	else
		sweep_note_result(ret);
}

void held_end(void)
{
	if (held.image_fd >= 0)
		close(held.image_fd);
	held.image_fd = -1;
	ASSERT_OK(control_snapshot_destroy(ctl, &held.snapshot.id));
}
