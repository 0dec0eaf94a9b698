// SPDX-License-Identifier: GPL-2.0
/*
 * Fuzzer of range sets: against a search through all ranges
 */
#include "fuzz.h"
#include "range_set.h"

#define NR_RANGES 24

static struct block_range nodes[NR_RANGES];
static struct {
	bool is_used;
	u64 first;
	u64 last;
} model[NR_RANGES];

/* Numbers that meet each other, at both ends of what a block can be. */
static u64 make_block(struct fuzz_input *input)
{
	u8 byte = fuzz_byte(input);

	return byte & 0x80 ? U64_MAX - (byte & 0x3f) : byte;
}

static void make_span(struct fuzz_input *input, u64 *first, u64 *last)
{
	u64 a = make_block(input), b = make_block(input);

	*first = min(a, b);
	*last = max_t(u64, a, b);
}

static struct block_range *model_first(u64 first, u64 last)
{
	unsigned int n, found = NR_RANGES;

	for (n = 0; n < NR_RANGES; n++) {
		if (!model[n].is_used || model[n].first > last || model[n].last < first)
			continue;
		if (found == NR_RANGES || model[n].first < model[found].first)
			found = n;
	}
	return found < NR_RANGES ? &nodes[found] : NULL;
}

static void change(struct fuzz_input *input, struct range_set *set)
{
	unsigned int n = fuzz_below(input, NR_RANGES);
	u64 first, last;

	if (model[n].is_used) {
		range_set_del(set, &nodes[n]);
		model[n].is_used = false;
		return;
	}
	make_span(input, &first, &last);
	if (model_first(first, last))
		return;
	range_set_add(set, &nodes[n], first, last);
	model[n].is_used = true;
	model[n].first = first;
	model[n].last = last;
}

void fuzz_one(struct fuzz_input *input)
{
	struct range_set set;
	u64 first, last;

	memset(model, 0, sizeof(model));
	range_set_init(&set);
	while (!fuzz_is_over(input)) {
		if (fuzz_byte(input) & 1) {
			change(input, &set);
			continue;
		}
		make_span(input, &first, &last);
		FUZZ_CHECK(range_set_first(&set, first, last) == model_first(first, last));
	}
}
