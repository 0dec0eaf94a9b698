// SPDX-License-Identifier: GPL-2.0
/*
 * What snapshots cost
 *
 *	test_bench [--budgets FILE] [--growth | --scale] [--filter TEXT] [--fast]
 *		   [--seed N]
 *
 * Prints a JSON object per row between the lines of KTAP.  A test fails if a
 * row could not be measured, or if it is over its budget.  FILE has a row's name
 * and a number in each line; "#" begins a comment.
 *
 * --growth measures how cost grows with devices, snapshots and storage.
 * --scale is for a machine with several processors and a real clock: what it
 * prints are times.  --fast leaves the curves out.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "test_bench.h"

struct disk bench_origin, bench_other, bench_storage;
const struct null_disk_options bench_options = { .block_bytes = 4096 };
const struct way *bench_way;

/* What may be spent beyond a budget; the second for rows that are almost 0. */
#define SPARE_PERCENT 3
#define SPARE 4.0

struct budget {
	char name[60];
	double value;
	bool is_checked;
};

static struct budget budgets[64];
static unsigned int nr_budgets;

static bool budgets_read(const char *path)
{
	FILE *file = fopen(path, "re");
	char line[200];

	if (!file)
		return false;
	while (fgets(line, sizeof(line), file)) {
		struct budget *budget = &budgets[nr_budgets];

		if (line[0] == '#' || line[0] == '\n')
			continue;
		if (nr_budgets == ARRAY_SIZE(budgets) ||
		    sscanf(line, "%59s %lf", budget->name, &budget->value) != 2)
			break;
		nr_budgets++;
	}
	if (!feof(file))
		nr_budgets = 0;
	fclose(file);
	return nr_budgets;
}

static void budget_check(const char *name, double value)
{
	unsigned int i;

	for (i = 0; i < nr_budgets; i++) {
		struct budget *budget = &budgets[i];
		double limit = budget->value * (100 + SPARE_PERCENT) / 100;

		if (strcmp(name, budget->name))
			continue;
		budget->is_checked = true;
		if (limit < budget->value + SPARE)
			limit = budget->value + SPARE;
		if (value > limit)
			FAIL("%s is %.1f, its budget %.1f", name, value,
			     budget->value);
	}
}

/* Tell a figure, whose name is made by the format. */
void row_add(const char *unit, double value, const char *format, ...)
{
	char name[100];
	va_list args;

	va_start(args, format);
	vsnprintf(name, sizeof(name), format, args);
	va_end(args);
	printf("{\"name\": \"%s\", \"value\": %.1f, \"unit\": \"%s\"}\n", name,
	       value, unit);
	fflush(stdout);
	budget_check(name, value);
}

/* Write whatever is going to be written: the disks allocate what they hold. */
static void disk_fill(const struct disk *disk, unsigned int nr_mib)
{
	struct load load;
	struct cost cost;

	load_stride(&load, true, MIB, nr_mib, MIB);
	load_settled(&load, disk->path, &cost);
	load_free(&load);
	load_stride(&load, true, 4096, BENCH_MIB * 16, 64 * KIB);
	load_settled(&load, disk->path, &cost);
	load_free(&load);
}

/* Make the disks, once; and see to it that the module is not loaded. */
void bench_disks_need(void)
{
	if (bench_origin.is_ours)
		return;
	ASSERT_EQ(module_unload(), 0);
	ASSERT_OK(null_disk_create(&bench_origin, "nullb0", BENCH_MIB,
				   &bench_options));
	ASSERT_OK(null_disk_create(&bench_other, "nullb1", BENCH_MIB,
				   &bench_options));
	ASSERT_OK(null_disk_create(&bench_storage, "nullb2", BENCH_MIB,
				   &bench_options));
	disk_fill(&bench_origin, 64);
	disk_fill(&bench_other, 1);
	disk_fill(&bench_storage, 64);
}

static void set_up_bare(void)
{
	bench_way = &way_bare;
	bench_disks_need();
}

static void set_up_blksnap(void)
{
	bench_way = &way_blksnap;
	bench_disks_need();
}

static void set_up_dm8(void)
{
	bench_way = &way_dm8;
	bench_disks_need();
}

static void set_up_dm128(void)
{
	bench_way = &way_dm128;
	bench_disks_need();
}

static void set_up_dm512(void)
{
	bench_way = &way_dm512;
	bench_disks_need();
}

static void tear_down(void)
{
	way_stop();
	if (module_is_loaded())
		module_unload();
}

static void cost_of_every_budget(void)
{
	unsigned int i;

	for (i = 0; i < nr_budgets; i++)
		if (!budgets[i].is_checked)
			FAIL("no row is named %s", budgets[i].name);
}

static const struct ktap_test budget_tests[] = {
	KTAP_TEST(cost_of_every_budget),
	KTAP_END
};

static const struct ktap_suite suites[] = {
	{ "blksnap", set_up_blksnap, tear_down, cost_tests },
	{ "dm8", set_up_dm8, tear_down, cost_dm_tests },
	{ "dm128", set_up_dm128, tear_down, cost_dm_tests },
	{ "dm512", set_up_dm512, tear_down, cost_dm_tests },
	{ "slow", bench_disks_need, tear_down, slow_tests },
	{ "space", bench_disks_need, space_tear_down, space_tests },
	{ "bare", set_up_bare, mix_tear_down, mix_tests },
	{ "blksnap", set_up_blksnap, mix_tear_down, mix_tests },
	{ "dm8", set_up_dm8, mix_tear_down, mix_tests },
	{ "dm128", set_up_dm128, mix_tear_down, mix_tests },
	{ "dm512", set_up_dm512, mix_tear_down, mix_tests },
	{ "bare", set_up_bare, tear_down, user_tests },
	{ "blksnap", set_up_blksnap, tear_down, user_tests },
	{ "dm8", set_up_dm8, tear_down, user_tests },
	{ "dm128", set_up_dm128, tear_down, user_tests },
	{ "dm512", set_up_dm512, tear_down, user_tests },
	{ "blksnap", set_up_blksnap, tear_down, many_tests },
	{ "bare", set_up_bare, tear_down, tail_tests },
	{ "blksnap", set_up_blksnap, tear_down, tail_tests },
	{ "dm8", set_up_dm8, tear_down, tail_tests },
	{ "dm128", set_up_dm128, tear_down, tail_tests },
	{ "dm512", set_up_dm512, tear_down, tail_tests },
	{ "bare", set_up_bare, tear_down, plot_tests },
	{ "blksnap", set_up_blksnap, tear_down, plot_tests },
	{ "dm8", set_up_dm8, tear_down, plot_tests },
	{ "dm128", set_up_dm128, tear_down, plot_tests },
	{ "dm512", set_up_dm512, tear_down, plot_tests },
	/* After all that has a budget. */
	{ "blksnap", NULL, NULL, budget_tests },
	{ }
};

static const struct ktap_suite scale_suites[] = {
	{ "scale", bench_disks_need, scale_tear_down, scale_tests },
	{ }
};

static const struct ktap_suite growth_suites[] = {
	{ "growth", NULL, growth_tear_down, growth_tests },
	{ }
};

int main(int argc, char **argv)
{
	const struct ktap_suite *chosen = suites;
	int i;

	for (i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--scale")) {
			chosen = scale_suites;
		} else if (!strcmp(argv[i], "--growth")) {
			chosen = growth_suites;
		} else if (!strcmp(argv[i], "--budgets") && i + 1 < argc &&
			   !budgets_read(argv[++i])) {
			printf("Bail out! no budgets in %s\n", argv[i]);
			return KTAP_FAIL;
		}
	}
	tests_need_module();
	return ktap_main(chosen, argc, argv);
}
