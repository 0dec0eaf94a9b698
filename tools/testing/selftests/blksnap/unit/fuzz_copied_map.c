// SPDX-License-Identifier: GPL-2.0
/*
 * Fuzzer of the map of copied blocks: against an array of flags
 */
#include "copied_map.h"
#include "fuzz.h"

#define NR_BLOCKS (2 * COPIED_MAP_PAGE_BLOCKS)

static bool model[NR_BLOCKS];

/* Near the borders of words and pages, mostly. */
static u64 make_block(struct fuzz_input *input)
{
	u64 near = fuzz_below(input, 4) * (COPIED_MAP_PAGE_BLOCKS / 2);

	return min_t(u64, near + fuzz_byte(input), NR_BLOCKS - 1);
}

static u64 model_next(u64 first, u64 last, bool is_copied)
{
	while (first <= last && model[first] != is_copied)
		first++;
	return first;
}

static void set(struct fuzz_input *input, struct copied_map *map, u64 first, u64 last)
{
	unsigned long nr_failed = host_nr_failed_allocs();
	bool has_memory;

	fuzz_fail_alloc(input);
	has_memory = copied_map_populate(map, first, last, GFP_NOWAIT);
	FUZZ_CHECK(has_memory == (host_nr_failed_allocs() == nr_failed));
	host_fail_no_alloc();
	if (!has_memory)
		return;
	copied_map_set(map, first, last);
	memset(&model[first], true, last - first + 1);
}

static void clear(struct copied_map *map, u64 first, u64 last)
{
	copied_map_clear(map, first, last);
	memset(&model[first], false, last - first + 1);
}

static void search(const struct copied_map *map, u64 first, u64 last)
{
	FUZZ_CHECK(copied_map_test(map, first) == model[first]);
	FUZZ_CHECK(copied_map_next_copied(map, first, last) == model_next(first, last, true));
	FUZZ_CHECK(copied_map_next_uncopied(map, first, last) == model_next(first, last, false));
}

void fuzz_one(struct fuzz_input *input)
{
	struct copied_map map;
	u64 a, b;

	memset(model, 0, sizeof(model));
	if (copied_map_init(&map, NR_BLOCKS))
		return;
	while (!fuzz_is_over(input)) {
		a = make_block(input);
		b = make_block(input);
		switch (fuzz_below(input, 3)) {
		case 0:
			set(input, &map, min(a, b), max_t(u64, a, b));
			break;
		case 1:
			clear(&map, min(a, b), max_t(u64, a, b));
			break;
		default:
			search(&map, min(a, b), max_t(u64, a, b));
		}
	}
	copied_map_exit(&map);
}
