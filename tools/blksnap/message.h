/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Messages and exit codes
 *
 * Each message is one line on standard error.  The functions return the exit
 * code that belongs to the message, so that a failure is told and passed on in
 * one statement.
 */
#ifndef MESSAGE_H
#define MESSAGE_H

#include "util.h"

enum exit_code {
	EXIT_OK = 0,
	EXIT_FAILED = 1,	/* the operation failed */
	EXIT_USAGE = 2,		/* an argument is wrong, nothing was done */
	EXIT_FULL_BACKUP = 3,	/* the change map does not fit the question */
	EXIT_NO_EVENT = 4,	/* no event arose in time */
	EXIT_DAMAGED = 5,	/* a backup is not what it was */
	/* Of hold, whose other codes are those of the command it runs. */
	EXIT_LOST = 124,	/* the snapshot failed while the command ran */
	EXIT_NOT_HELD = 125,	/* there was none, the command was not run */
};

__attribute__((PRINTF_LIKE(2, 3)))
int fail(enum exit_code code, const char *format, ...);
__attribute__((PRINTF_LIKE(2, 3)))
int fail_errno(int error, const char *format, ...);
__attribute__((PRINTF_LIKE(1, 2)))
int fail_call(const char *format, ...);
int fail_memory(void);
__attribute__((PRINTF_LIKE(1, 2)))
void warn(const char *format, ...);

#endif /* MESSAGE_H */
