/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the fuzzers of the logic units share
 *
 * A fuzzer takes the bytes that libFuzzer made up for operations on its unit,
 * does the same to a simple model, and compares.  Memory can be made to run out
 * at any point, for the input decides on that, too.
 */
#ifndef BLKSNAP_UNIT_FUZZ_H
#define BLKSNAP_UNIT_FUZZ_H

#include "host.h"

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

struct fuzz_input {
	const u8 *bytes;
	size_t nr_left;
};

/* Zeros behind the end: an operation that has begun is completed. */
bool fuzz_is_over(const struct fuzz_input *input);
u8 fuzz_byte(struct fuzz_input *input);
u64 fuzz_below(struct fuzz_input *input, u64 limit);

/* Let an allocation fail soon, or none: the input says which. */
void fuzz_fail_alloc(struct fuzz_input *input);

/* Of the fuzzer; whatever it makes it has freed when it returns. */
void fuzz_one(struct fuzz_input *input);

void fuzz_has_failed(const char *condition, const char *file, int line)
	__attribute__((noreturn));

#define FUZZ_CHECK(condition)							\
do {										\
	if (!(condition))							\
		fuzz_has_failed(#condition, __FILE__, __LINE__);		\
} while (0)

#endif /* BLKSNAP_UNIT_FUZZ_H */
