// SPDX-License-Identifier: GPL-2.0
/*
 * The frame of the fuzzers
 *
 * libFuzzer calls with one input after the other; each starts from nothing, so
 * that an input found once fails again by itself.
 */
#include <stdio.h>
#include <stdlib.h>

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const u8 *bytes, size_t nr_bytes);

bool fuzz_is_over(const struct fuzz_input *input)
{
	return !input->nr_left;
}

u8 fuzz_byte(struct fuzz_input *input)
{
	if (!input->nr_left)
		return 0;
	input->nr_left--;
	return *input->bytes++;
}

/* 0 to @limit - 1, out of as few bytes as this takes; any number if it is 0 */
u64 fuzz_below(struct fuzz_input *input, u64 limit)
{
	u64 largest = limit - 1;
	u64 number = 0;

	for (; largest; largest >>= 8)
		number = number << 8 | fuzz_byte(input);
	return limit ? number % limit : number;
}

void fuzz_fail_alloc(struct fuzz_input *input)
{
	u8 byte = fuzz_byte(input);

	if (byte & 0x80)
		host_fail_alloc_after(byte % 8);
	else
		host_fail_no_alloc();
}

void fuzz_has_failed(const char *condition, const char *file, int line)
{
	fprintf(stderr, "%s:%d: not true: %s\n", file, line, condition);
	abort();
}

int LLVMFuzzerTestOneInput(const u8 *bytes, size_t nr_bytes)
{
	struct fuzz_input input = { bytes, nr_bytes };

	host_reset();
	fuzz_one(&input);
	FUZZ_CHECK(!host_take_warnings());
	FUZZ_CHECK(!host_nr_locks_held());
	FUZZ_CHECK(!host_nr_objects());
	return 0;
}
