// SPDX-License-Identifier: GPL-2.0
/*
 * Writers beside throttled ones
 *
 * io.cost and writeback throttling make a submitter sleep.  A worker that submits
 * held writes again sleeps like any other, and writes that no limit applies to must
 * not wait for it.
 */
#include "test_kind.h"

#define NR_SLOW 32U
#define NR_FAST 2U
#define WRITES_PER_S 100U		/* what io.cost lets through */
#define SLOW_PART (1 * MIB)
#define FAST_AT (64 * MIB)
#define FAST_PART (32 * MIB)
#define WINDOW_MS 8000U

static bool has_cost_model;

void weight_tear_down(void)
{
	groups_unlimit();
	if (has_cost_model)
		cost_model_set(&origin, 0);
	has_cost_model = false;
	kind_tear_down();
}

static unsigned long long sum_of_writes(struct worker *const *workers, unsigned int nr)
{
	unsigned long long sum = 0;
	unsigned int i;

	for (i = 0; i < nr; i++)
		sum += atomic_load(&workers[i]->nr_done);
	return sum;
}

static bool groups_weighed(void)
{
	return group_weigh("slow", 1) && group_weigh("fast", 10000);
}

struct share {
	unsigned long long slow;
	unsigned long long fast;
};

/* How much each group writes in some seconds, once all workers have begun. */
static void weighed_run(struct share *share)
{
	struct worker *slow[NR_SLOW], *fast[NR_FAST];
	unsigned int i;

	for (i = 0; i < NR_FAST; i++)
		fast[i] = worker_start(WRITE_SYNC, "fast", origin.path, FAST_AT + i * FAST_PART,
				       FAST_PART);
	for (i = 0; i < NR_SLOW; i++)
		slow[i] = worker_start(WRITE_SYNC, "slow", origin.path, i * SLOW_PART, SLOW_PART);
	sleep_ms(2 * SETTLE_MS);
	share->fast = sum_of_writes(fast, NR_FAST);
	share->slow = sum_of_writes(slow, NR_SLOW);
	sleep_ms(WINDOW_MS);
	share->fast = sum_of_writes(fast, NR_FAST) - share->fast;
	share->slow = sum_of_writes(slow, NR_SLOW) - share->slow;
	groups_unlimit();
	workers_stop();
}

static void test_favoured_group_stays_favoured(void)
{
	/* The copy takes time, so a worker submits the write again. */
	const struct null_disk_options slow = { .completion_ns = 1000000 };
	struct share bare, held;

	ASSERT_OK(null_disk_create(&origin, "nullb0", 128, &slow));
	ASSERT_OK(null_disk_create(&storage, "nullb1", 160, NULL));
	ASSERT(fill_direct(origin.path, 0x11, 128 * MIB, 0));
	group_create("slow");
	group_create("fast");
	has_cost_model = cost_model_set(&origin, WRITES_PER_S);
	if (!has_cost_model) {
		ktap_skip("this kernel has no io.cost");
		return;
	}
	if (!groups_weighed())
		return;
	weighed_run(&bare);
	snapshot_now(&snapshot, &origin, &storage);
	if (!groups_weighed())
		return;
	weighed_run(&held);
	ktap_note("disfavoured group: %llu without a snapshot, %llu with one", bare.slow,
		  held.slow);
	expect_share("favoured group", bare.fast, held.fast, 80);
}

/* A disk of 2 ms a request, whose writeback is throttled. */
static bool throttled_disk_need(void)
{
	const struct null_disk_options slow = { .completion_ns = 2000000, .queue_depth = 16 };

	ASSERT_OK(null_disk_create(&origin, "nullb0", 128, &slow));
	ASSERT_OK(null_disk_create(&storage, "nullb1", 160, NULL));
	if (queue_set(&origin, "wbt_lat_usec", 1000) && queue_number(&origin, "wbt_lat_usec") > 0)
		return true;
	ktap_skip("this kernel does not throttle writeback");
	return false;
}

/* The longest write of some seconds. */
static unsigned int beside_writeback_run(const char *what)
{
	struct worker *writer;
	unsigned int ms;

	worker_start(WRITE_BACK, NULL, origin.path, 0, 48 * MIB);
	sleep_ms(SETTLE_MS);
	writer = worker_start(WRITE_SYNC, NULL, origin.path, FAST_AT, 2 * FAST_PART);
	sleep_ms(WINDOW_MS);
	ms = worker_longest_ms(writer);
	ktap_note("%s: %llu writes in %u ms, longest %u ms", what,
		  sum_of_writes(&writer, 1), WINDOW_MS, ms);
	workers_stop();
	return ms;
}

/* A write to a new block takes twice as long, as the block is read first. */
static void test_writer_does_not_wait_for_throttled_writeback(void)
{
	unsigned int bare_ms, held_ms;

	if (!throttled_disk_need())
		return;
	bare_ms = beside_writeback_run("without a snapshot");
	snapshot_now(&snapshot, &origin, &storage);
	held_ms = beside_writeback_run("with a snapshot");
	EXPECT(held_ms <= 3 * bare_ms + 5 * FLOOR_MS);
}

const struct ktap_test weight_tests[] = {
	KTAP_TEST(test_favoured_group_stays_favoured),
	KTAP_SLOW_TEST(test_writer_does_not_wait_for_throttled_writeback),
	KTAP_END
};
