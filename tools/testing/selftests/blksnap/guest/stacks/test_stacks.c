// SPDX-License-Identifier: GPL-2.0
/*
 * Snapshots of stacked devices, and what is on them
 *
 *	test_stacks [--fast] [--seed S] [--filter TEXT]
 *
 * Each stack of the table in test_stacks_build.c is tracked at its top, at its
 * bottom, at both as members of one snapshot, and at both by a snapshot each; it
 * is written to through the top, and through the bottom where that is nobody
 * else's.  See test_stacks_raw.c for what is checked.  Then come filesystems,
 * mounted and in use, on some of the stacks: see test_stacks_files.c; and what
 * cannot be protected and must be refused: see test_stacks_refused.c; and what becomes
 * of devices that get another table, and of filesystems that were frozen before: see
 * test_stacks_table.c and test_stacks_frozen.c.
 *
 * What is tracked sees what is written to it or to anything above it.  What is
 * written below it, past its driver, it cannot see; therefore nothing here
 * writes below a tracked device, save for a partition, which is tracked as a
 * part of its disk.
 */
#include <stdlib.h>
#include <string.h>

#include "test_stacks.h"

#define RAW_TESTS_MAX 100
#define FILE_TESTS_MAX 40

static const char *const layer_names[] = {
	[LAYERS_TOP] = "tracked_above",
	[LAYERS_BOTTOM] = "tracked_below",
	[LAYERS_BOTH] = "tracked_on_both_sides",
	[LAYERS_TWO_SNAPSHOTS] = "tracked_by_two_snapshots",
};

static struct raw_case raw_cases[RAW_TESTS_MAX];
static struct ktap_test raw_tests[RAW_TESTS_MAX + 1];
static struct ktap_test file_tests[FILE_TESTS_MAX + 1];

static const struct ktap_suite suites[] = {
	{ "raw", raw_set_up, raw_tear_down, raw_tests },
	{ "files", files_set_up, files_tear_down, file_tests },
	{ "refused", ctl_set_up, refused_tear_down, refused_tests },
	{ "aligned", ctl_set_up, aligned_tear_down, aligned_tests },
	{ "table", table_set_up, table_tear_down, table_tests },
	{ "frozen", ctl_set_up, frozen_tear_down, frozen_tests },
	{ NULL, NULL, NULL, NULL },
};

static bool has_two_sides(const struct stack *stack)
{
	if (!stack->nr_bottoms || stack->is_top_only)
		return false;
	return stack->has_parts || strcmp(stack->up, "echo $B0");
}

static char *test_name(const char *stack, enum layers layers, const char *fs)
{
	char *name;

	if (asprintf(&name, "%s%s%s_%s", fs, *fs ? "_on_" : "", stack,
		     layer_names[layers]) < 0)
		exit(KTAP_FAIL);
	return name;
}

static void list_raw_tests(void)
{
	const struct stack *stack;
	unsigned int nr = 0;
	enum layers layers;

	for (stack = stacks; stack->name; stack++) {
		for (layers = 0; layers < ARRAY_SIZE(layer_names); layers++) {
			if (layers && !has_two_sides(stack))
				break;
			if (nr == RAW_TESTS_MAX)
				exit(KTAP_FAIL);
			raw_cases[nr] = (struct raw_case){ stack, layers };
			raw_tests[nr] = (struct ktap_test){
				.name = test_name(stack->name, layers, ""),
				.run = test_image_is_exact,
				.is_slow = !(stack->fast & LAYERS_BIT(layers)),
				.data = &raw_cases[nr],
			};
			nr++;
		}
	}
}

static void list_file_tests(void)
{
	const struct file_case *file_case;
	unsigned int nr = 0;

	for (file_case = file_cases; file_case->fs; file_case++) {
		if (nr == FILE_TESTS_MAX)
			exit(KTAP_FAIL);
		file_tests[nr++] = (struct ktap_test){
			.name = test_name(file_case->stack, file_case->layers,
					  file_case->fs),
			.run = test_files_are_exact,
			.is_slow = !file_case->is_fast,
			.data = file_case,
		};
	}
}

int main(int argc, char **argv)
{
	tests_need_module();
	stacks_prepare();
	list_raw_tests();
	list_file_tests();
	return ktap_main(suites, argc, argv);
}
