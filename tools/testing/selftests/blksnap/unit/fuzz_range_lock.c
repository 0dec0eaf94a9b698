// SPDX-License-Identifier: GPL-2.0
/*
 * Fuzzer of the range lock: against a search through all ranges
 */
#include "fuzz.h"
#include "range_lock.h"

#define NR_RANGES 24

static struct block_range_node nodes[NR_RANGES];
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

static bool model_matches(unsigned int n, u64 first, u64 last)
{
	return model[n].is_used && model[n].first <= last && model[n].last >= first;
}

static void change(struct fuzz_input *input, struct range_lock *lock)
{
	unsigned int n = fuzz_below(input, NR_RANGES);

	if (model[n].is_used) {
		range_lock_del(lock, &nodes[n]);
	} else {
		make_span(input, &model[n].first, &model[n].last);
		range_lock_add(lock, &nodes[n], model[n].first, model[n].last);
	}
	model[n].is_used = !model[n].is_used;
}

static void search(struct fuzz_input *input, struct range_lock *lock)
{
	bool was_found[NR_RANGES] = { false };
	struct block_range_node *found;
	u64 first, last, before = 0;
	unsigned int n;

	make_span(input, &first, &last);
	for (found = range_lock_first(lock, first, last); found;
	     found = range_lock_next(found, first, last)) {
		n = found - nodes;
		FUZZ_CHECK(n < NR_RANGES && !was_found[n]);
		FUZZ_CHECK(model[n].first >= before);
		before = model[n].first;
		was_found[n] = true;
	}
	for (n = 0; n < NR_RANGES; n++)
		FUZZ_CHECK(was_found[n] == model_matches(n, first, last));
}

static unsigned int count_used(void)
{
	unsigned int n, nr = 0;

	for (n = 0; n < NR_RANGES; n++)
		nr += model[n].is_used;
	return nr;
}

void fuzz_one(struct fuzz_input *input)
{
	struct range_lock lock;

	memset(model, 0, sizeof(model));
	range_lock_init(&lock);
	while (!fuzz_is_over(input)) {
		if (fuzz_byte(input) & 1)
			change(input, &lock);
		else
			search(input, &lock);
		FUZZ_CHECK(range_lock_is_empty(&lock) == !count_used());
	}
}
