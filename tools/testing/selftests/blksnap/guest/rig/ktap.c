// SPDX-License-Identifier: GPL-2.0
/*
 * Tests that report as KTAP
 *
 * Failed checks are collected by CUnit and printed as diagnostics behind the
 * line of their test, which is therefore printed first.  The number of tests
 * goes out before any of them runs, so a program that dies is noticed.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ktap.h"

#ifndef KTAP_WITHOUT_CUNIT
#include <CUnit/CUnit.h>
#include <CUnit/TestDB.h>
#include <CUnit/TestRun.h>
#endif

struct ktap_options ktap_options = { .seed = 20240601 };

static struct {
	unsigned int nr_run;
	unsigned int nr_failed;
	unsigned int nr_skipped;
	bool is_skipped;		/* the test that runs now */
	char reason[200];
	char context[100];		/* put before what has failed */
	unsigned int nr_failures;	/* of the test that runs now */
} ktap;

static const struct ktap_suite *current_suite;
static const struct ktap_test *current_test;

/* The data of the test that runs now. */
const void *ktap_data(void)
{
	return current_test->data;
}

/* Lines that tests print themselves may not be cut by a crash. */
void ktap_note(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	printf("# ");
	vprintf(format, args);
	printf("\n");
	fflush(stdout);
	va_end(args);
}

/* Note that the running test cannot be done here; it should return then. */
void ktap_skip(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(ktap.reason, sizeof(ktap.reason), format, args);
	va_end(args);
	ktap.is_skipped = true;
}

/* Where the running test is: failures say so from here on. */
void ktap_context(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(ktap.context, sizeof(ktap.context), format, args);
	va_end(args);
}

/* Failed checks of the running test so far. */
unsigned int ktap_failures(void)
{
	return ktap.nr_failures;
}

/* End the program before its first test: nothing of it can be done here. */
void ktap_skip_all(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	printf("1..0 # SKIP ");
	vprintf(format, args);
	printf("\n");
	va_end(args);
	exit(KTAP_SKIP);
}

static bool is_wanted(const struct ktap_suite *suite,
		      const struct ktap_test *test)
{
	char full[200];

	if (ktap_options.is_fast && test->is_slow)
		return false;
	if (!ktap_options.filter)
		return true;
	snprintf(full, sizeof(full), "%s.%s", suite->name, test->name);
	return strstr(full, ktap_options.filter);
}

static unsigned int count_tests(const struct ktap_suite *suites)
{
	const struct ktap_test *test;
	unsigned int nr = 0;

	for (; suites->name; suites++)
		for (test = suites->tests; test->name; test++)
			nr += is_wanted(suites, test);
	return nr;
}

static void report(const char *suite, const char *test, bool has_failed)
{
	ktap.nr_run++;
	if (has_failed) {
		ktap.nr_failed++;
		printf("not ok %u - %s.%s\n", ktap.nr_run, suite, test);
		printf("# seed %llu\n", (unsigned long long)ktap_options.seed);
	} else if (ktap.is_skipped) {
		ktap.nr_skipped++;
		printf("ok %u - %s.%s # SKIP %s\n", ktap.nr_run, suite, test,
		       ktap.reason);
	} else {
		printf("ok %u - %s.%s\n", ktap.nr_run, suite, test);
	}
}

static void set_up(void)
{
	ktap.is_skipped = false;
	ktap.nr_failures = 0;
	ktap.context[0] = '\0';
	if (current_suite->set_up)
		current_suite->set_up();
}

static void tear_down(void)
{
	if (current_suite->tear_down)
		current_suite->tear_down();
}

#ifndef KTAP_WITHOUT_CUNIT

static void fail(const char *text, const char *file, int line, bool is_fatal)
{
	CU_assertImplementation(CU_FALSE, line, text, file, "", is_fatal);
}

static void pass(void)
{
	CU_assertImplementation(CU_TRUE, __LINE__, "", __FILE__, "", CU_FALSE);
}

/* CUnit does not call the set-up where a failed ASSERT() could end it. */
static void run_current_test(void)
{
	set_up();
	if (!ktap.is_skipped)
		current_test->run();
}

static void test_is_complete(const CU_pTest test, const CU_pSuite suite,
			     const CU_pFailureRecord failures)
{
	CU_pFailureRecord failure;

	report(suite->pName, test->pName, failures);
	for (failure = failures; failure; failure = failure->pNext)
		printf("# %s:%u: %s\n", failure->strFileName,
		       failure->uiLineNumber, failure->strCondition);
	fflush(stdout);
}

static void run_test(const struct ktap_suite *suite,
		     const struct ktap_test *test)
{
	CU_pSuite registered;
	CU_pTest entry;

	current_suite = suite;
	current_test = test;
	if (CU_initialize_registry() != CUE_SUCCESS)
		exit(KTAP_FAIL);
	registered = CU_add_suite_with_setup_and_teardown(suite->name, NULL,
							  NULL, NULL,
							  tear_down);
	if (!registered)
		exit(KTAP_FAIL);
	entry = CU_add_test(registered, test->name, run_current_test);
	if (!entry)
		exit(KTAP_FAIL);
	CU_set_test_complete_handler(test_is_complete);
	CU_run_test(registered, entry);
	CU_cleanup_registry();
}

#else /* KTAP_WITHOUT_CUNIT */

static struct {
	unsigned int nr;
	char text[20][500];
	jmp_buf end;
} failures;

static void fail(const char *text, const char *file, int line, bool is_fatal)
{
	if (failures.nr < 20)
		snprintf(failures.text[failures.nr++], sizeof(failures.text[0]),
			 "%s:%d: %s", file, line, text);
	if (is_fatal)
		longjmp(failures.end, 1);
}

static void pass(void)
{
}

static void run_test(const struct ktap_suite *suite,
		     const struct ktap_test *test)
{
	unsigned int i;

	current_suite = suite;
	current_test = test;
	failures.nr = 0;
	if (!setjmp(failures.end)) {
		set_up();
		if (!ktap.is_skipped)
			test->run();
	}
	if (!setjmp(failures.end))
		tear_down();
	report(suite->name, test->name, failures.nr);
	for (i = 0; i < failures.nr; i++)
		printf("# %s\n", failures.text[i]);
	fflush(stdout);
}

#endif /* KTAP_WITHOUT_CUNIT */

bool ktap_check(bool ok, bool is_fatal, const char *file, int line,
		const char *format, ...)
{
	char text[400];
	va_list args;
	int length;

	if (ok) {
		pass();
		return true;
	}
	ktap.nr_failures++;
	length = snprintf(text, sizeof(text), "%s%s", ktap.context,
			  ktap.context[0] ? ": " : "");
	va_start(args, format);
	vsnprintf(text + length, sizeof(text) - length, format, args);
	va_end(args);
	fail(text, file, line, is_fatal);
	return false;
}

bool ktap_check_equal(long long have, long long want, bool is_fatal,
		      const char *file, int line, const char *text)
{
	return ktap_check(have == want, is_fatal, file, line,
			  "%s is %lld (0x%llx), expected %lld (0x%llx)", text,
			  have, (unsigned long long)have, want,
			  (unsigned long long)want);
}

bool ktap_check_error(long long ret, int want, bool is_fatal, const char *file,
		      int line, const char *text)
{
	if (ret >= 0)
		return ktap_check(false, is_fatal, file, line,
				  "%s returned %lld, expected -%s", text, ret,
				  strerrorname_np(want));
	return ktap_check(ret == -want, is_fatal, file, line,
			  "%s returned -%s, expected -%s", text,
			  strerrorname_np((int)-ret), strerrorname_np(want));
}

long long ktap_check_ok(long long ret, bool is_fatal, const char *file, int line,
			const char *text)
{
	int error = ret == -1 ? errno : (int)-ret;

	ktap_check(ret >= 0, is_fatal, file, line, "%s failed: %s", text,
		   strerror(error));
	return ret;
}

static void parse_options(int argc, char **argv)
{
	int i;

	for (i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--filter") && i + 1 < argc)
			ktap_options.filter = argv[++i];
		else if (!strcmp(argv[i], "--seed") && i + 1 < argc)
			ktap_options.seed = strtoull(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--fast"))
			ktap_options.is_fast = true;
	}
}

/**
 * ktap_main() - run the tests of a program
 * @suites:	ended by an entry without a name
 * @argc:	of main()
 * @argv:	of main(); options that are not known here are left to the
 *		program, which has read them before
 *
 * Return: the exit code of the program.
 */
int ktap_main(const struct ktap_suite *suites, int argc, char **argv)
{
	const struct ktap_test *test;

	parse_options(argc, argv);
	printf("KTAP version 1\n1..%u\n", count_tests(suites));
	fflush(stdout);
	for (; suites->name; suites++)
		for (test = suites->tests; test->name; test++)
			if (is_wanted(suites, test))
				run_test(suites, test);
	printf("# pass:%u fail:%u skip:%u\n",
	       ktap.nr_run - ktap.nr_failed - ktap.nr_skipped, ktap.nr_failed,
	       ktap.nr_skipped);
	if (ktap.nr_failed)
		return KTAP_FAIL;
	return ktap.nr_run == ktap.nr_skipped ? KTAP_SKIP : KTAP_PASS;
}
