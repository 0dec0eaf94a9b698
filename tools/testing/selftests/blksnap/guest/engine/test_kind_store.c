// SPDX-License-Identifier: GPL-2.0
/*
 * A synchronous writer beside writeback to the same origin, with a slow storage
 *
 * The storage takes 2 MiB a second and the memory for copies is 4 MiB, so most of
 * the writeback has to wait.  A write to copied blocks waits for nothing.  A write to
 * a new block needs memory.  It may wait until what is in memory has been stored,
 * which takes two seconds and what the storage and the emulator add to it, but not for
 * the writes that are held as well, for which it once waited seven.
 *
 * The number of held writes is bounded by what the queue of the origin would have let
 * in, for synchronous writes and for others; and as much again for those that are handed
 * back when memory is free, while others get in, and find that it is gone.
 */
#include "test_kind.h"

#define MEMORY_MIB 4U
#define STORAGE_MIB_PER_S 2U
#define WRITEBACK_BYTES (48 * MIB)
#define WRITER_AT (64 * MIB)
#define NEW_BYTES (64 * MIB)
#define COPIED_BYTES (64 * KIB)
#define WINDOW_MS 8000U
#define STORE_MS (MEMORY_MIB * 1000 / STORAGE_MIB_PER_S)
#define WAIT_LIMIT_MS (STORE_MS + STORE_MS / 2)

struct figures {
	unsigned long long nr_writes;
	unsigned int longest_ms;
	int64_t nr_held;
};

static void store_need(void)
{
	const struct null_disk_options slow = { .mib_per_s = STORAGE_MIB_PER_S };

	module_reload("diff_storage_minimum=2048 diff_storage_ahead=0 copy_memory_maximum=4");
	ASSERT_OK(null_disk_create(&origin, "nullb0", 128, NULL));
	ASSERT_OK(null_disk_create(&storage, "nullb1", 128, &slow));
	/* It counts in twentieths of a second, and larger requests do not fit. */
	ASSERT(queue_set(&storage, "max_sectors_kb", 32));
	ASSERT(fill_direct(origin.path, 0x11, 128 * MIB, 0));
}

/* Until writes are held, or, where none will be, all was written back once. */
static void writeback_start(bool is_held)
{
	struct worker *writeback = worker_start(WRITE_BACK, NULL, origin.path, 0, WRITEBACK_BYTES);
	const uint64_t start = now_ns();

	while (now_ns() - start < HANG_MS * 1000000ULL) {
		if (is_held ? image_number("held_writes") > 0 : atomic_load(&writeback->nr_done))
			return;
		sleep_ms(10);
	}
	FAIL("writeback does not begin");
}

/* Writes for some seconds while there is writeback. */
static void writer_run(uint64_t nr_bytes, bool is_held, struct figures *figures)
{
	struct worker *writer;
	uint64_t start;
	int64_t nr_held;

	figures->nr_held = 0;
	writeback_start(is_held);
	writer = worker_start(WRITE_SYNC, NULL, origin.path, WRITER_AT, nr_bytes);
	start = now_ns();
	while (now_ns() - start < WINDOW_MS * 1000000ULL) {
		sleep_ms(10);
		nr_held = is_held ? image_number("held_writes") : 0;
		if (nr_held > figures->nr_held)
			figures->nr_held = nr_held;
	}
	figures->nr_writes = atomic_load(&writer->nr_done);
	figures->longest_ms = worker_longest_ms(writer);
	if (is_held)
		ASSERT_OK(destroy_snapshot(NULL));
	workers_stop();
	ktap_note("%s: %llu writes in %u ms, longest %u ms, at most %lld held",
		  is_held ? "with a snapshot" : "without", figures->nr_writes, WINDOW_MS,
		  figures->longest_ms, (long long)figures->nr_held);
}

static void snapshot_need(void)
{
	snapshot_now(&snapshot, &origin, &storage);
	/* What test_rewriting_... rewrites: copied and stored when this returns. */
	ASSERT(fill_direct(origin.path, 0x22, COPIED_BYTES, WRITER_AT));
	sleep_ms(2 * SETTLE_MS);
}

static void test_rewriting_does_not_wait_beside_writeback(void)
{
	struct figures bare, held;

	store_need();
	writer_run(COPIED_BYTES, false, &bare);
	snapshot_need();
	writer_run(COPIED_BYTES, true, &held);
	expect_share("writes to copied blocks beside writeback", bare.nr_writes,
		     held.nr_writes, 25);
}

static void test_new_write_waits_for_memory_alone(void)
{
	struct figures bare, held;

	store_need();
	writer_run(NEW_BYTES, false, &bare);
	snapshot_need();
	writer_run(NEW_BYTES, true, &held);
	EXPECT(held.longest_ms <= WAIT_LIMIT_MS);
}

static void test_number_of_held_writes_is_bounded(void)
{
	struct figures held;

	store_need();
	snapshot_need();
	writer_run(NEW_BYTES, true, &held);
	ktap_note("the queue of the origin has %lld requests",
		  (long long)queue_number(&origin, "nr_requests"));
	EXPECT(held.nr_held > 0);
	EXPECT(held.nr_held <= 2 * 2 * queue_number(&origin, "nr_requests"));
}

const struct ktap_test store_tests[] = {
	KTAP_SLOW_TEST(test_rewriting_does_not_wait_beside_writeback),
	KTAP_SLOW_TEST(test_new_write_waits_for_memory_alone),
	KTAP_TEST(test_number_of_held_writes_is_bounded),
	KTAP_END
};
