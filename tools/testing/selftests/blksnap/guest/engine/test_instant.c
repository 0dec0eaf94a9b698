// SPDX-License-Identifier: GPL-2.0
/*
 * One instant: what a snapshot of several devices may hold, and that it stays so
 *
 *	test_instant [--takes N] [--seed S] [--filter TEXT] [--fast]
 *
 * Chains of ordered writes go round on four places, from writers of every kind at
 * once, while snapshots of the devices are taken and destroyed.  Each set of
 * images is read, and has to hold each chain up to some write: no later one
 * without all the earlier ones, all that had completed before the take, none that
 * began after it.  --takes is the number of snapshots of all stacks together.
 *
 * Then there are writes that are in flight for long while a snapshot is taken,
 * and what else may happen to a take; see test_instant_still.c and
 * test_instant_corner.c.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "test_instant.h"

#define RCU_EXPEDITED "/sys/kernel/rcu_expedited"
#define RCU_PARAMETERS "/sys/module/rcutree/parameters/"

/* A take is tried at any moment of what writers do between two of them. */
#define PAUSE_US_MAX 3000U

static unsigned int nr_takes = 100;
static uint64_t median_take_ns;	/* of the last test */
static struct random pauses;

/* Durations of the takes of a test, for their distribution. */
struct series {
	const char *name;
	uint64_t *ns;
	unsigned int nr;
};

static int compare_numbers(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static void series_note(struct series *series)
{
	qsort(series->ns, series->nr, sizeof(*series->ns), compare_numbers);
	ktap_note("%s: median %.2f ms, 95 %% %.2f ms, longest %.2f ms",
		  series->name, series->ns[series->nr / 2] / 1e6,
		  series->ns[series->nr * 95 / 100] / 1e6,
		  series->ns[series->nr - 1] / 1e6);
}

/* What is measured of each take. */
enum { TAKE, SLOWEST, CREATE, READ, DESTROY, NR_SERIES };

static struct series series[NR_SERIES] = {
	[TAKE] = { .name = "take" },
	[SLOWEST] = { .name = "slowest write at a take" },
	[CREATE] = { .name = "create" },
	[READ] = { .name = "read" },
	[DESTROY] = { .name = "destroy" },
};

static void series_start(unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < NR_SERIES; i++) {
		series[i].nr = 0;
		series[i].ns = calloc(nr, sizeof(*series[i].ns));
	}
}

static void series_end(uint64_t total_ns)
{
	unsigned int i;

	ktap_note("%u takes in %.1f s, %u chains, %llu writes", series[TAKE].nr,
		  total_ns / 1e9, chains_nr(),
		  (unsigned long long)chains_nr_written());
	for (i = 0; i < NR_SERIES; i++) {
		if (series[i].nr)
			series_note(&series[i]);
		if (i == TAKE && series[i].nr)
			median_take_ns = series[i].ns[series[i].nr / 2];
		free(series[i].ns);
	}
}

static void series_add(unsigned int i, uint64_t ns)
{
	series[i].ns[series[i].nr++] = ns;
}

/* Freezing and removing devices wait for RCU, at their leisure if they may. */
static void hurry_rcu(void)
{
	write_text(RCU_PARAMETERS "jiffies_till_first_fqs", "0");
	write_text(RCU_PARAMETERS "jiffies_till_next_fqs", "1");
}

static void create_snapshot(struct snapshot *snapshot)
{
	const struct disk *members[4];
	unsigned int i;

	for (i = 0; i < stack.nr_members; i++)
		members[i] = &stack.members[i];
	snapshot_create_of(snapshot, members, stack.nr_members);
	ASSERT_OK(append_range(snapshot, &stack.storage, 0,
			       stack.storage.nr_bytes / SECTOR_SIZE));
}

#define EXT4_SUPER_AT 1024
#define EXT4_INCOMPAT_AT (EXT4_SUPER_AT + 96)
#define EXT4_INCOMPAT_RECOVER 0x4

/* A filesystem that was frozen has nothing in its journal. */
static bool images_are_clean(struct snapshot *snapshot)
{
	uint8_t *super = alloc_aligned(4096);
	bool ok = true;
	unsigned int i;

	for (i = 0; i < stack.nr_frozen && ok; i++) {
		ok = read_direct(image_of(snapshot, &stack.members[i]), super,
				 4096, 0);
		if (!ok || !(super[EXT4_INCOMPAT_AT] & EXT4_INCOMPAT_RECOVER))
			continue;
		ktap_note("%s was not frozen: its image needs recovery",
			  stack.members[i].path);
		ok = false;
	}
	free(super);
	return ok;
}

static bool take_once(void)
{
	uint64_t begun_ns = now_ns(), take_ns;
	struct snapshot snapshot;
	bool ok;

	create_snapshot(&snapshot);
	series_add(CREATE, now_ns() - begun_ns);
	chains_resume();
	usleep(random_below(&pauses, PAUSE_US_MAX));
	chains_note_before();
	take_ns = now_ns();
	ASSERT_OK(control_snapshot_take(ctl, &snapshot.id));
	take_ns = now_ns() - take_ns;
	chains_note_after();
	begun_ns = now_ns();
	snapshot_find_images(&snapshot);
	ok = chains_judge_images(&snapshot) && images_are_clean(&snapshot);
	series_add(TAKE, take_ns);
	series_add(SLOWEST, chains_slowest_ns());
	series_add(READ, now_ns() - begun_ns);
	/* Destroying is not what is tested here, and it is quicker so. */
	chains_pause();
	write_text(RCU_EXPEDITED, "1");
	begun_ns = now_ns();
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	write_text(RCU_EXPEDITED, "0");
	series_add(DESTROY, now_ns() - begun_ns);
	return ok;
}

static void take_amid_chains(bool (*build)(void), unsigned int nr)
{
	uint64_t begun_ns;
	const char *error;
	bool ok = true;
	unsigned int i;

	if (!build())
		return;
	chains_start(ktap_options.seed);
	/* Writers are many, and the takes should not wait for them. */
	setpriority(PRIO_PROCESS, 0, -20);
	series_start(nr);
	begun_ns = now_ns();
	for (i = 0; i < nr && ok; i++)
		ok = take_once();
	if (!ok)
		ktap_note("take %u, seed %llu", i,
			  (unsigned long long)ktap_options.seed);
	EXPECT(ok);
	error = chains_stop();
	setpriority(PRIO_PROCESS, 0, 0);
	series_end(now_ns() - begun_ns);
	if (error)
		FAIL("%s", error);
	else
		EXPECT(chains_judge_origins());
}

/* Part of the takes that the program was asked for. */
static unsigned int share(unsigned int percent)
{
	return (nr_takes * percent + 99) / 100;
}

/* Switching takes long where the change map is large. */
#define QUICK_TAKES "take_drain_limit=8"	/* DRAIN_S, see suites.sh, too */
#define LARGE_MAPS QUICK_TAKES \
	" tracking_block_minimum_shift=12 tracking_block_maximum_count=268435456"

static bool has_large_maps;

/* Load the module again; it does not matter what it tracked. */
static bool reload(const char *parameters)
{
	bool ok;

	close(ctl);
	ctl = -1;
	ok = !module_unload() && !module_load(parameters);
	if (!ok)
		module_load(QUICK_TAKES);
	ctl_set_up();
	return ok;
}

static void instant_tear_down(void)
{
	chains_stop();
	chains_free();
	stack_tear_down();
	if (has_large_maps) {
		ctl_set_up();
		reload(QUICK_TAKES);
		ctl_tear_down();
	}
	has_large_maps = false;
}

static void test_disks_are_taken_at_one_instant(void)
{
	take_amid_chains(stack_build_plain, share(20));
}

/*
 * One member is switched a good deal later than another, so writes that nobody
 * keeps back have the time to complete on the one and begin on the other.
 */
static void test_large_disks_are_taken_at_one_instant(void)
{
	has_large_maps = reload(LARGE_MAPS);
	if (!has_large_maps)
		ktap_skip("the module cannot be loaded with other parameters");
	else
		take_amid_chains(stack_build_large, share(10));
}

static void test_partitions_are_taken_at_one_instant(void)
{
	take_amid_chains(stack_build_partitions, share(8));
}

static void test_disks_below_dm_linear_are_taken_at_one_instant(void)
{
	take_amid_chains(stack_build_linear_below, share(5));
}

static void test_dm_crypt_is_taken_at_one_instant(void)
{
	take_amid_chains(stack_build_crypt_above, share(6));
}

static void test_disks_below_dm_crypt_are_taken_at_one_instant(void)
{
	take_amid_chains(stack_build_crypt_below, share(10));
}

static void test_dm_delay_is_taken_at_one_instant(void)
{
	take_amid_chains(stack_build_delay_above, share(7));
}

static void test_disks_below_dm_delay_are_taken_at_one_instant(void)
{
	take_amid_chains(stack_build_delay_below, share(7));
}

static void test_both_sides_of_dm_delay_are_taken_at_one_instant(void)
{
	take_amid_chains(stack_build_both_sides, share(10));
	/* The first order is the right one; a busy host may need long for a take. */
	EXPECT(median_take_ns < DRAIN_S * 1000000000ULL);
}

/* The other order is tried only when the first one has taken too long. */
static void test_younger_device_below_is_taken_at_one_instant(void)
{
	take_amid_chains(stack_build_slid_below, 1);
}

static void test_files_are_taken_at_one_instant(void)
{
	take_amid_chains(stack_build_ext4, share(4));
}

static void test_files_on_dm_crypt_are_taken_at_one_instant(void)
{
	take_amid_chains(stack_build_ext4_on_crypt, share(3));
}

static void test_files_above_dm_delay_are_taken_at_one_instant(void)
{
	take_amid_chains(stack_build_ext4_above_delay, share(5));
}

static void test_files_and_disks_are_taken_at_one_instant(void)
{
	take_amid_chains(stack_build_ext4_beside_raw, share(5));
}

static const struct ktap_test instant_tests[] = {
	KTAP_TEST(test_disks_are_taken_at_one_instant),
	KTAP_TEST(test_large_disks_are_taken_at_one_instant),
	KTAP_TEST(test_partitions_are_taken_at_one_instant),
	KTAP_TEST(test_disks_below_dm_linear_are_taken_at_one_instant),
	KTAP_TEST(test_dm_crypt_is_taken_at_one_instant),
	KTAP_TEST(test_disks_below_dm_crypt_are_taken_at_one_instant),
	KTAP_TEST(test_dm_delay_is_taken_at_one_instant),
	KTAP_TEST(test_disks_below_dm_delay_are_taken_at_one_instant),
	KTAP_TEST(test_both_sides_of_dm_delay_are_taken_at_one_instant),
	KTAP_SLOW_TEST(test_younger_device_below_is_taken_at_one_instant),
	KTAP_TEST(test_files_are_taken_at_one_instant),
	KTAP_TEST(test_files_on_dm_crypt_are_taken_at_one_instant),
	KTAP_TEST(test_files_above_dm_delay_are_taken_at_one_instant),
	KTAP_TEST(test_files_and_disks_are_taken_at_one_instant),
	KTAP_END
};

static const struct ktap_suite suites[] = {
	{ "instant", ctl_set_up, instant_tear_down, instant_tests },
	{ "still", ctl_set_up, still_tear_down, still_tests },
	{ "corner", ctl_set_up, corner_tear_down, corner_tests },
	{ NULL, NULL, NULL, NULL }
};

int main(int argc, char **argv)
{
	int i;

	for (i = 1; i + 1 < argc; i++) {
		if (!strcmp(argv[i], "--takes"))
			nr_takes = strtoul(argv[i + 1], NULL, 0);
		else if (!strcmp(argv[i], "--seed"))
			ktap_options.seed = strtoull(argv[i + 1], NULL, 0);
	}
	tests_need_module();
	ktap_note("seed %llu", (unsigned long long)ktap_options.seed);
	hurry_rcu();
	random_init(&pauses, ktap_options.seed);
	return ktap_main(suites, argc, argv);
}
