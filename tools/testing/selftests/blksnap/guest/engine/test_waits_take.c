// SPDX-License-Identifier: GPL-2.0
/*
 * A take beside a container that writes slowly, and one of many disks
 *
 * The take may last as long as the writes in flight do.  Those who write
 * meanwhile are to notice nothing of it but a grace period.
 */
#include <stdlib.h>
#include <string.h>

#include "test_waits.h"

#define SLOW_BYTES (768 * KIB)
#define SLOW_BYTES_PER_S (64 * KIB)	/* so it takes 12 s */
#define SLOW_S 12U
#define STALL_LIMIT_MS 50U

#define NR_MEMBERS 64U
#define MEMBER_WRITE_MS 30U
#define MEMBER_STALL_LIMIT_MS 20U
#define NR_TAKES 5U

#define NR_TRIES 4U		/* the machine may have been busy with others */

static int compare_numbers(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static double to_ms(uint64_t ns)
{
	return (double)ns / NS_PER_MS;
}

static pid_t start_slow_write(const struct disk *origin)
{
	static struct child_write write;
	pid_t child;

	write.path = origin->path;
	write.nr_bytes = SLOW_BYTES;
	write.byte = 0x22;
	write.is_slow = true;
	child = child_write_start(&write);
	sleep_ms(UNDER_WAY_MS);
	return child;
}

static void create_snapshot(struct snapshot *snapshot, const struct disk *origin,
			    const struct disk *storage)
{
	snapshot_create(snapshot, origin);
	ASSERT_OK(append_range(snapshot, storage, 0, storage->nr_bytes / SECTOR_SIZE));
}

static void test_throttled_write_refuses_no_take(void)
{
	struct disk *origin = rig_disk(16, NULL), *storage = rig_disk(32, NULL);
	struct snapshot snapshot;
	struct call *take;
	pid_t child;

	if (!throttle_set(origin, SLOW_BYTES_PER_S))
		return;
	create_snapshot(&snapshot, origin, storage);
	child = start_slow_write(origin);
	take = call_start(take_fn, &snapshot);
	EXPECT(call_ends_within(take, 2 * SLOW_S * 1000));
	call_join(take);
	ktap_note("take of a disk with %u s of a write to go: %.0f ms, returned %d",
		  SLOW_S, to_ms(take->ns), take->ret);
	EXPECT_OK(take->ret);
	EXPECT_EQ(child_join(child), 0);
}

/* The longest write of another while a slow one goes on, with or without a take. */
static uint64_t longest_beside_slow_write(const struct disk *origin,
					  struct snapshot *snapshot)
{
	pid_t child = start_slow_write(origin);

	writers_begin_anew();
	if (snapshot)
		call_join(call_start(take_fn, snapshot));
	EXPECT_EQ(child_join(child), 0);
	return writers_longest_ns();
}

static void test_take_beside_a_throttled_write_delays_no_other(void)
{
	struct disk *origin = rig_disk(16, NULL), *storage = rig_disk(32, NULL);
	struct snapshot snapshot;
	uint64_t without, with = 0;
	unsigned int i;

	if (!throttle_set(origin, SLOW_BYTES_PER_S))
		return;
	create_snapshot(&snapshot, origin, storage);
	writer_start(origin->path, 8 * MIB, 2000);
	without = longest_beside_slow_write(origin, NULL);
	for (i = 0; i < NR_TRIES && (!i || with > without + STALL_LIMIT_MS * NS_PER_MS);
	     i++) {
		if (i) {
			control_snapshot_destroy(ctl, &snapshot.id);
			create_snapshot(&snapshot, origin, storage);
		}
		with = longest_beside_slow_write(origin, &snapshot);
		ktap_note("longest write without take %.1f ms, with %.1f ms",
			  to_ms(without), to_ms(with));
	}
	EXPECT(with <= without + STALL_LIMIT_MS * NS_PER_MS);
}

/* --- many disks --- */

static struct disk *members[NR_MEMBERS];

static void create_of_members(struct snapshot *snapshot, const struct disk *storage)
{
	struct blk_snap_dev ids[NR_MEMBERS];
	unsigned int i;

	for (i = 0; i < NR_MEMBERS; i++)
		ids[i] = members[i]->id;
	ASSERT_OK(control_snapshot_create(ctl, ids, NR_MEMBERS, &snapshot->id));
	ASSERT_OK(append_range(snapshot, storage, 0, storage->nr_bytes / SECTOR_SIZE));
}

/*
 * The longest write during a take, and in a time as long as it after that.  The
 * writes of both need copies, so only the take makes the difference.
 */
static void measure_take(const struct disk *storage, uint64_t *without, uint64_t *with)
{
	struct snapshot snapshot;
	uint64_t ns;

	create_of_members(&snapshot, storage);
	sleep_ms(200);
	writers_begin_anew();
	ns = now_ns();
	ASSERT_OK(take_fn(&snapshot));
	ns = now_ns() - ns;
	*with = writers_longest_ns();
	sleep_ms(4 * MEMBER_WRITE_MS);
	writers_begin_anew();
	sleep_ms(ns / NS_PER_MS);
	*without = writers_longest_ns();
	ktap_note("take of %u disks %.0f ms, longest write %.1f ms, after it %.1f ms",
		  NR_MEMBERS, to_ms(ns), to_ms(*with), to_ms(*without));
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
}

static uint64_t median(uint64_t *ns, unsigned int nr)
{
	qsort(ns, nr, sizeof(*ns), compare_numbers);
	return ns[nr / 2];
}

/* Each disk has a writer, whose writes take their time: so many are in flight. */
static void test_take_of_many_disks_stops_no_writer(void)
{
	const struct null_disk_options options = {
		.completion_ns = MEMBER_WRITE_MS * NS_PER_MS,
	};
	struct disk *storage = rig_disk(64, NULL);
	uint64_t without[NR_TAKES], with[NR_TAKES];
	unsigned int i;

	for (i = 0; i < NR_MEMBERS; i++)
		members[i] = rig_disk(4, &options);
	for (i = 0; i < NR_MEMBERS; i++)
		writer_start_over(members[i]->path, 4 * MIB, 3000 * MEMBER_WRITE_MS);
	for (i = 0; i < NR_TAKES; i++)
		measure_take(storage, &without[i], &with[i]);
	ktap_note("longest write, median of %u takes: %.1f ms, without take %.1f ms",
		  NR_TAKES, to_ms(median(with, NR_TAKES)),
		  to_ms(median(without, NR_TAKES)));
	EXPECT(median(with, NR_TAKES) <= median(without, NR_TAKES) +
					 MEMBER_STALL_LIMIT_MS * NS_PER_MS);
}

const struct ktap_test take_tests[] = {
	KTAP_TEST(test_throttled_write_refuses_no_take),
	KTAP_SLOW_TEST(test_take_beside_a_throttled_write_delays_no_other),
	KTAP_TEST(test_take_of_many_disks_stops_no_writer),
	KTAP_END
};
