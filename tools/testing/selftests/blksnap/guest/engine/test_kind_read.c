// SPDX-License-Identifier: GPL-2.0
/*
 * Writers of the origin and callers beside a slow reader of the image
 *
 * A reader may be slow for two reasons: a cgroup limits its bandwidth on the
 * origin, or the origin needs seconds for a read.  Writers of the origin and callers
 * of the module must notice neither.
 */
#include "stacked.h"
#include "test_kind.h"

#define READ_BYTES (512 * KIB)
#define NR_WRITES 8U			/* into what is read */
#define DESTROY_LIMIT_MS 1000U
#define LOSS_LIMIT_MS 500U
#define GUARD_LIMIT_MS 30000U		/* a storage that hangs is given up after 20 s */
#define SLOW_READ_MS 3000U
#define SLOW_READ_BYTES (64 * KIB)
#define SLOW_AT (4 * MIB)

static const uint64_t rate_64k = 64 * KIB, rate_16k = 16 * KIB;

static bool reader_need(uint64_t bytes_per_s)
{
	ASSERT_OK(null_disk_create(&origin, "nullb0", 32, NULL));
	ASSERT_OK(null_disk_create(&storage, "nullb1", 32, NULL));
	ASSERT(fill_direct(origin.path, 0x11, 16 * MIB, 0));
	group_create("reader");
	return group_limit("reader", &origin, bytes_per_s);
}

/* It goes on for as long as the limit of its group makes it. */
static void reader_start(const char *path, uint64_t nr_bytes)
{
	worker_start(READ_SYNC, "reader", path, 0, nr_bytes);
	sleep_ms(SETTLE_MS);
}

static void reader_stop(void)
{
	groups_unlimit();
	workers_stop();
}

static unsigned int write_ms(uint64_t at)
{
	struct call *call = call_start(write_block, &at);

	if (!call_ends_within(call, HANG_MS)) {
		ktap_note("the limit is lifted after %u ms", call_ms(call));
		groups_unlimit();
	}
	return call_end(call);
}

/* The longest of some writes into what is read. */
static unsigned int longest_write_ms(void)
{
	unsigned int i, ms, longest = 0;

	for (i = 0; i < NR_WRITES; i++) {
		ms = write_ms(i * (READ_BYTES / NR_WRITES));
		if (ms > longest)
			longest = ms;
	}
	return longest;
}

/* How long a write takes while the origin is read, without a snapshot. */
static unsigned int bare_write_ms(uint64_t bytes_per_s)
{
	unsigned int ms;

	reader_start(origin.path, READ_BYTES);
	ms = longest_write_ms();
	reader_stop();
	ASSERT(fill_direct(origin.path, 0x11, READ_BYTES, 0));
	ASSERT(group_limit("reader", &origin, bytes_per_s));
	return ms;
}

static void write_beside_limited_reader(void)
{
	const uint64_t *rate = ktap_data();
	unsigned int bare_ms;

	if (!reader_need(*rate))
		return;
	bare_ms = bare_write_ms(*rate);
	snapshot_now(&snapshot, &origin, &storage);
	reader_start(image_of(&snapshot, &origin), READ_BYTES);
	expect_no_slower("write beside a limited reader", bare_ms, longest_write_ms());
	reader_stop();
	EXPECT(reads_as(image_of(&snapshot, &origin), 0x11, READ_BYTES, 0));
}

static void wait_until_lost(const uint64_t limit_ms)
{
	const uint64_t start = now_ns();

	while (!image_number("error") && now_ns() - start < limit_ms * 1000000)
		sleep_ms(10);
}

/* Once the image is lost, there is no reason to hold a write for it. */
static void test_write_does_not_wait_for_reader_of_lost_image(void)
{
	static uint64_t at;
	struct call *write;
	uint64_t lost;

	if (!reader_need(rate_64k))
		return;
	snapshot_create(&snapshot, &origin);
	ASSERT_OK(append_range(&snapshot, &storage, EDGE_BYTES / SECTOR_SIZE,
			       4 * MIB / SECTOR_SIZE));
	snapshot_take(&snapshot);
	reader_start(image_of(&snapshot, &origin), READ_BYTES);
	write = call_start(write_block, &at);
	ASSERT(fill_direct(origin.path, 0x22, 14 * MIB, 2 * MIB));
	wait_until_lost(5000);
	ASSERT(image_number("error"));
	lost = now_ns();
	call_ends_within(write, HANG_MS);
	ktap_note("a write ends %llu ms after the loss of the image",
		  (unsigned long long)(now_ns() - lost) / 1000000);
	EXPECT(now_ns() - lost < LOSS_LIMIT_MS * 1000000ULL);
}

/* Destroy the snapshot in the middle of what its reader does. */
static void expect_destroyed_in_time(const char *what)
{
	struct call *call = call_start(destroy_snapshot, NULL);

	call_ends_within(call, HANG_MS);
	ktap_note("destroying beside %s: %u ms", what, call_ms(call));
	EXPECT(call_ms(call) < DESTROY_LIMIT_MS);
}

static void test_destroying_does_not_wait_for_limited_reader(void)
{
	if (!reader_need(rate_64k))
		return;
	snapshot_now(&snapshot, &origin, &storage);
	reader_start(image_of(&snapshot, &origin), READ_BYTES);
	expect_destroyed_in_time("a limited reader");
}

/* Fills the memory for copies, and more; for call_start(). */
static int write_beyond_memory(void *data)
{
	fill_direct(origin.path, 0x22, 8 * MIB, *(const uint64_t *)data);
	return 0;
}

/*
 * The storage hangs, writes wait for memory, and one more write goes to what the
 * reader reads.  That write must not keep the guard from giving up the storage.
 */
static void test_guard_of_storage_fires_beside_limited_reader(void)
{
	static uint64_t first, far = 4 * MIB;
	struct disk mapped;
	uint64_t start;

	module_reload("diff_storage_minimum=2048 diff_storage_ahead=0 copy_memory_maximum=4");
	if (!reader_need(rate_16k))
		return;
	mapping_need(&mapped, &storage);
	snapshot_now(&snapshot, &origin, &mapped);
	reader_start(image_of(&snapshot, &origin), 2 * READ_BYTES);
	ASSERT_OK(mapping_suspend(MAPPING));
	start = now_ns();
	call_start(write_block, &first);
	call_start(write_beyond_memory, &far);
	wait_until_lost(GUARD_LIMIT_MS + 10000);
	ktap_note("a storage that hangs is given up after %llu ms",
		  (unsigned long long)(now_ns() - start) / 1000000);
	EXPECT(now_ns() - start < GUARD_LIMIT_MS * 1000000ULL);
}

/* The second half of what is read takes seconds; no cgroup is limited. */
static void slow_reader_start(void)
{
	ASSERT_OK(null_disk_create(&lower, "nullb0", 32, NULL));
	ASSERT_OK(null_disk_create(&storage, "nullb1", 32, NULL));
	slow_mapping_need(&origin, &lower, SLOW_AT, SLOW_READ_MS);
	snapshot_now(&snapshot, &origin, &storage);
	worker_start(READ_SYNC, NULL, image_of(&snapshot, &origin), SLOW_AT - SLOW_READ_BYTES / 2,
		     SLOW_READ_BYTES);
	sleep_ms(SETTLE_MS);
}

/* Copying the first half takes no time. */
static void test_write_does_not_wait_for_slow_end_of_read(void)
{
	unsigned int bare_ms, held_ms;

	slow_reader_start();
	bare_ms = write_ms(0);
	held_ms = write_ms(SLOW_AT - SLOW_READ_BYTES / 2);
	ktap_note("first write elsewhere %u ms, into the quick half of a read %u ms", bare_ms,
		  held_ms);
	EXPECT(held_ms <= 3 * bare_ms + FLOOR_MS);
}

static void test_destroying_does_not_wait_for_slow_origin(void)
{
	slow_reader_start();
	expect_destroyed_in_time("a reader of a slow origin");
}

const struct ktap_test read_tests[] = {
	{ "test_write_does_not_wait_for_reader_of_64_kib_per_s",
	  write_beside_limited_reader, false, &rate_64k },
	{ "test_write_does_not_wait_for_reader_of_16_kib_per_s",
	  write_beside_limited_reader, true, &rate_16k },
	KTAP_SLOW_TEST(test_write_does_not_wait_for_reader_of_lost_image),
	KTAP_TEST(test_destroying_does_not_wait_for_limited_reader),
	KTAP_SLOW_TEST(test_guard_of_storage_fires_beside_limited_reader),
	KTAP_TEST(test_write_does_not_wait_for_slow_end_of_read),
	KTAP_SLOW_TEST(test_destroying_does_not_wait_for_slow_origin),
	KTAP_END
};
