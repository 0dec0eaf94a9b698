// SPDX-License-Identifier: GPL-2.0
/*
 * Messages and exit codes
 */
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <blksnap/blksnap.h>

#include "message.h"
#include "util.h"

/* An argument of the user may be part of the text, but the line stays one. */
static void print_message(const char *format, va_list args, const char *reason)
{
	char *text, *c;

	fflush(stdout);
	if (vasprintf(&text, format, args) < 0)
		return;
	for (c = text; *c; c++) {
		if (iscntrl((unsigned char)*c))
			*c = '?';
	}
	fprintf(stderr, "blksnap: %s%s%s\n", text, reason ? ": " : "",
		reason ? reason : "");
	free(text);
}

/**
 * fail() - tell that something is wrong
 * @code:	exit code that the caller will return
 * @format:	what failed and why; if an argument is wrong: which, and what
 *		would be valid
 *
 * Return: @code.
 */
int fail(enum exit_code code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	print_message(format, args, NULL);
	va_end(args);
	return code;
}

/**
 * fail_errno() - tell that a system call failed
 * @error:	positive errno
 * @format:	what failed
 *
 * Return: EXIT_FAILED.
 */
int fail_errno(int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	print_message(format, args, strerror(error));
	va_end(args);
	return EXIT_FAILED;
}

/**
 * fail_call() - tell that a call of the library failed
 * @format:	what failed; the library says why
 *
 * Return: EXIT_FAILED.
 */
int fail_call(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	print_message(format, args, blksnap_error());
	va_end(args);
	return EXIT_FAILED;
}

/**
 * fail_memory() - tell that there is no memory
 *
 * Return: EXIT_FAILED.
 */
int fail_memory(void)
{
	return fail(EXIT_FAILED, "out of memory");
}

/**
 * warn() - tell of a danger; what is being done goes on
 * @format:	what may happen, and how to avoid it
 */
void warn(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	print_message(format, args, NULL);
	va_end(args);
}
