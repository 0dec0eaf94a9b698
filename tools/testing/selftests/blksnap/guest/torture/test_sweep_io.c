// SPDX-License-Identifier: GPL-2.0
/*
 * Fault sweep over writes that are held, copies that are stored, and the image
 *
 * Each round has a snapshot of its own, so that the memory that is allocated
 * only once (for the change map, for the bits of what is copied) is allocated in
 * each of them.
 *
 * A write to the origin works, whatever fails, unless the same write with the
 * same fault fails on a disk that the module does not know: then it has failed
 * before it came to the module.
 */
#include <errno.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "test_sweep.h"

/* Where a round writes, and how much if it is not a single block. */
#define RUN_FIRST 64U
#define RUN_BLOCKS 16U

/* --- writes to the origin --- */

/* Writes with the fault armed and says how it went, before anything else. */
static int faulty_write(unsigned int nr_blocks, int flags, bool is_waited_for)
{
	int ret;

	stamp_next(RUN_FIRST, nr_blocks);
	sweep_arm();
	ret = origin_write(RUN_FIRST, nr_blocks, flags);
	if (is_waited_for)
		held_settle();
	sweep_disarm();
	origin_wrote(RUN_FIRST, nr_blocks, ret);
	return ret;
}

/* Does the fault of this round hit the write before the module sees it? */
static bool fails_without_module(unsigned int nr_blocks)
{
	int ret;

	fault_arm(FAULT_TASK, sweep_nth());
	ret = twin_write(RUN_FIRST, nr_blocks, 0);
	fault_disarm();
	return ret;
}

/* The thread that writes finds no memory. */
static void hold_round(unsigned int nr_blocks)
{
	bool may_fail;
	int ret;

	held_begin();
	stamp_next(RUN_FIRST, nr_blocks);
	may_fail = fails_without_module(nr_blocks);
	ret = faulty_write(nr_blocks, 0, false);
	held_verify();
	if (!may_fail)
		EXPECT_OK(ret);
	/* Where it may not sleep it does without, or somebody else tries. */
	EXPECT_EQ(held.error, 0);
	held_note_result(ret);
	held_end();
}

static void hold_block_round(void)
{
	hold_round(1);
}

static void hold_run_round(void)
{
	hold_round(RUN_BLOCKS);
}

static void test_hold(void)
{
	sweep_run("hold, one block", FAULT_TASK, hold_block_round);
	sweep_run("hold, 16 blocks", FAULT_TASK, hold_run_round);
}

/*
 * Without a snapshot, a write meets the module once: nobody marks again what could
 * not be marked.  The next take sees whether it was noted.
 */
static void tracked_round(void)
{
	bool may_fail;
	int ret;

	/* Only the first mark after a take needs memory. */
	held_begin();
	held_end();
	stamp_next(RUN_FIRST, 1);
	may_fail = fails_without_module(1);
	ret = faulty_write(1, 0, false);
	if (!may_fail)
		EXPECT_OK(ret);
	sweep_note_result(ret);
	held_begin();
	held_verify();
	EXPECT_EQ(held.error, 0);
	held_end();
}

static void test_write_without_snapshot(void)
{
	sweep_run("write, no snapshot", FAULT_TASK, tracked_round);
}

/* Workers hold the write, as it may not be waited for; they store, too. */
static void store_round(void)
{
	int ret;

	held_begin();
	ret = faulty_write(RUN_BLOCKS, RWF_NOWAIT, true);
	held_verify();
	EXPECT_OK(ret);
	held_note_result(ret);
	held_end();
}

static void test_hold_and_store_in_workers(void)
{
	fault_mark_kernel_threads(true);
	sweep_run("hold and store in workers", FAULT_SLAB, store_round);
	sweep_run("hold and store in workers", FAULT_PAGE, store_round);
}

static void store_io_round(void)
{
	int ret;

	held_begin();
	ret = faulty_write(RUN_BLOCKS, 0, true);
	held_verify();
	EXPECT_OK(ret);
	held_note_result(ret);
	held_end();
}

static void test_reading_old_data(void)
{
	fault_mark_disk(&world.origin, true);
	sweep_run("hold: read the origin", FAULT_IO, store_io_round);
}

static void test_storing(void)
{
	fault_mark_disk(&world.storage, true);
	sweep_run("store", FAULT_IO, store_io_round);
}

/* --- the image --- */

#define PIECES_BLOCKS 8U

/* Every other block of a part of the origin is stored, the others are shared. */
static void make_stored_pieces(void)
{
	unsigned int i;

	for (i = 0; i < PIECES_BLOCKS; i += 2) {
		stamp_next(RUN_FIRST + i, 1);
		origin_wrote(RUN_FIRST + i, 1,
			     (int)ASSERT_OK(origin_write(RUN_FIRST + i, 1, 0)));
	}
	held_settle();
}

/*
 * One more block is in memory: a read of all of the part consists of many pieces.
 * The copy of that block may be stored at any time.
 */
static void make_pieces(void)
{
	make_stored_pieces();
	stamp_next(RUN_FIRST + 1, 1);
	origin_wrote(RUN_FIRST + 1, 1,
		     (int)ASSERT_OK(origin_write(RUN_FIRST + 1, 1, 0)));
}

static int image_read(void)
{
	size_t nr_bytes = (size_t)PIECES_BLOCKS * BLOCK_BYTES;
	off_t at = (off_t)RUN_FIRST * BLOCK_BYTES;

	memset(world.other, POISON, nr_bytes);
	if (pread(held.image_fd, world.other, nr_bytes, at) != (ssize_t)nr_bytes)
		return -errno;
	EXPECT(!memcmp(world.other, held.content + at, nr_bytes));
	return 0;
}

/* What fails is the read alone: read again, and it is right. */
static void image_read_pieces(void)
{
	int ret;

	sweep_arm();
	ret = image_read();
	sweep_disarm();
	held_verify();
	EXPECT_EQ(held.error, 0);
	held_note_result(ret);
	held_end();
}

static void image_read_round(void)
{
	held_begin();
	make_pieces();
	image_read_pieces();
}

/* Nothing is left to be stored, which would break the snapshot if it failed. */
static void image_read_stored_round(void)
{
	held_begin();
	make_stored_pieces();
	image_read_pieces();
}

static void test_image_read(void)
{
	sweep_run("image read", FAULT_TASK, image_read_round);
}

static void test_image_read_io(void)
{
	fault_mark_disk(&world.origin, true);
	sweep_run("image read: of the origin", FAULT_IO, image_read_round);
	fault_mark_disk(&world.origin, false);
	fault_mark_disk(&world.storage, true);
	sweep_run("image read: of the storage", FAULT_IO, image_read_stored_round);
}

/* Half of a block before the run to half of a block behind it. */
#define IMAGE_WRITE_BYTES ((size_t)PIECES_BLOCKS * BLOCK_BYTES)
#define IMAGE_WRITE_AT (((off_t)RUN_FIRST * BLOCK_BYTES) - BLOCK_BYTES / 2)

static int image_write(void)
{
	ssize_t ret = pwrite(held.image_fd, world.buffer, IMAGE_WRITE_BYTES,
			     IMAGE_WRITE_AT);

	if (ret < 0)
		return -errno;
	return (size_t)ret == IMAGE_WRITE_BYTES ? 0 : -EIO;
}

/*
 * Of a write that failed any sector may have been written, as of every disk.
 * What it was not about may not have changed.
 */
static void expect_image_written(int ret)
{
	uint8_t *want = held.content + IMAGE_WRITE_AT;
	uint8_t *have = world.other;
	size_t i;

	if (!ret) {
		memcpy(want, world.buffer, IMAGE_WRITE_BYTES);
		return;
	}
	if (pread(held.image_fd, have, IMAGE_WRITE_BYTES, IMAGE_WRITE_AT) !=
	    (ssize_t)IMAGE_WRITE_BYTES)
		return;		/* broken, or held_verify() will tell */
	for (i = 0; i < IMAGE_WRITE_BYTES; i += SECTOR_SIZE) {
		if (!memcmp(have + i, world.buffer + i, SECTOR_SIZE))
			memcpy(want + i, have + i, SECTOR_SIZE);
		else if (memcmp(have + i, want + i, SECTOR_SIZE))
			FAIL("sector %zu of a failed write is neither old nor new",
			     i / SECTOR_SIZE);
	}
}

static void image_write_round(void)
{
	int ret;

	held_begin();
	make_pieces();
	stamp_next(RUN_FIRST, PIECES_BLOCKS);
	sweep_arm();
	ret = image_write();
	held_settle();
	sweep_disarm();
	expect_image_written(ret);
	held_verify();
	held_note_result(ret);
	held_end();
}

static void test_image_write(void)
{
	sweep_run("image write", FAULT_TASK, image_write_round);
	fault_mark_kernel_threads(true);
	sweep_run("image write", FAULT_SLAB, image_write_round);
	sweep_run("image write", FAULT_PAGE, image_write_round);
}

static void test_image_write_io(void)
{
	fault_mark_disk(&world.origin, true);
	sweep_run("image write: read the origin", FAULT_IO, image_write_round);
	fault_mark_disk(&world.origin, false);
	fault_mark_disk(&world.storage, true);
	sweep_run("image write: storage", FAULT_IO, image_write_round);
}

const struct ktap_test io_tests[] = {
	KTAP_TEST(test_hold),
	KTAP_TEST(test_write_without_snapshot),
	KTAP_TEST(test_hold_and_store_in_workers),
	KTAP_TEST(test_reading_old_data),
	KTAP_TEST(test_storing),
	KTAP_TEST(test_image_read),
	KTAP_TEST(test_image_read_io),
	KTAP_TEST(test_image_write),
	KTAP_TEST(test_image_write_io),
	KTAP_END
};
