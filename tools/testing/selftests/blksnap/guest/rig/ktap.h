/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tests that report as KTAP
 *
 * A program declares suites of named functions and hands them to ktap_main(),
 * which runs them through CUnit, prints "ok" or "not ok" for each of them and
 * returns the exit code of the kernel's selftests: 0, 1 if anything failed, 4
 * if everything was skipped.
 *
 * A program built for another word size than that of the CUnit library defines
 * KTAP_WITHOUT_CUNIT; it is run by a loop of our own then, with the same output.
 *
 * EXPECT*() notes a failure and goes on, ASSERT*() ends the test.  Both are for
 * the thread that runs the test alone.
 */
#ifndef KTAP_H
#define KTAP_H

#include <stdbool.h>
#include <stdint.h>

#define KTAP_PASS 0
#define KTAP_FAIL 1
#define KTAP_SKIP 4

/**
 * struct ktap_test - one test
 * @name:	that of its function
 * @run:	the function
 * @is_slow:	left out of the short form (--fast)
 * @data:	for a function that serves many tests, see ktap_data()
 */
struct ktap_test {
	const char *name;
	void (*run)(void);
	bool is_slow;
	const void *data;
};

/**
 * struct ktap_suite - tests that share their preparation
 * @name:	printed before the name of each test
 * @set_up:	called before each test, may be NULL; may assert and skip
 * @tear_down:	called after each test, whatever became of it; may be NULL
 * @tests:	ended by an entry without a name
 */
struct ktap_suite {
	const char *name;
	void (*set_up)(void);
	void (*tear_down)(void);
	const struct ktap_test *tests;
};

#define KTAP_TEST(fn) { #fn, fn, false, NULL }
#define KTAP_SLOW_TEST(fn) { #fn, fn, true, NULL }
#define KTAP_END { NULL, NULL, false, NULL }

/* What every program understands; ktap_main() fills it in. */
struct ktap_options {
	uint64_t seed;
	const char *filter;	/* run the tests whose name contains it */
	bool is_fast;		/* leave out slow tests */
};

extern struct ktap_options ktap_options;

int ktap_main(const struct ktap_suite *suites, int argc, char **argv);
const void *ktap_data(void);

void ktap_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
void ktap_context(const char *format, ...) __attribute__((format(printf, 1, 2)));
unsigned int ktap_failures(void);
void ktap_skip(const char *format, ...) __attribute__((format(printf, 1, 2)));
void ktap_skip_all(const char *format, ...)
	__attribute__((format(printf, 1, 2), noreturn));
bool ktap_check(bool ok, bool is_fatal, const char *file, int line,
		const char *format, ...) __attribute__((format(printf, 5, 6)));
bool ktap_check_equal(long long have, long long want, bool is_fatal,
		      const char *file, int line, const char *text);
bool ktap_check_error(long long ret, int want, bool is_fatal, const char *file,
		      int line, const char *text);
long long ktap_check_ok(long long ret, bool is_fatal, const char *file, int line,
			const char *text);

#define EXPECT(cond)	ktap_check(cond, false, __FILE__, __LINE__, "%s", #cond)
#define ASSERT(cond)	ktap_check(cond, true, __FILE__, __LINE__, "%s", #cond)
#define FAIL(...)	ktap_check(false, false, __FILE__, __LINE__, __VA_ARGS__)
#define EXPECT_EQ(have, want)						\
	ktap_check_equal(have, want, false, __FILE__, __LINE__, #have)
#define ASSERT_EQ(have, want)						\
	ktap_check_equal(have, want, true, __FILE__, __LINE__, #have)

/* The call has to return -want. */
#define EXPECT_ERR(call, want)						\
	ktap_check_error(call, want, false, __FILE__, __LINE__, #call)

/* The call may not fail, whether it returns -1 and sets errno or -errno. */
#define EXPECT_OK(call)							\
	ktap_check_ok(call, false, __FILE__, __LINE__, #call)
#define ASSERT_OK(call)							\
	ktap_check_ok(call, true, __FILE__, __LINE__, #call)

#endif /* KTAP_H */
