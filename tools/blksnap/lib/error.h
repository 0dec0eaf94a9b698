/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Why something failed, in words
 *
 * Each thread has a text of its own, so that threads that share a connection do not
 * read each other's.  The functions return the negative errno that belongs to the
 * text, so that a failure is noted and passed on in one statement.
 */
#ifndef ERROR_H
#define ERROR_H

#define CALL_OPEN (-1)	/* "call" of a failure to open the control node */

__attribute__((__format__(__printf__, 2, 3)))
int error_set(int error, const char *format, ...);
__attribute__((__format__(__printf__, 2, 3)))
int error_errno(int error, const char *format, ...);
int error_memory(void);
int error_call(int call, int ret);

#endif /* ERROR_H */
