/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Programs that the tool runs
 *
 * A child gets no standard input.  What it prints is kept in memory and read
 * when it has ended.  It is killed when the tool dies, and it does not get the
 * signals of the terminal, so the tool alone decides how an interruption ends.
 */
#ifndef CHILD_H
#define CHILD_H

#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

struct child {
	const char *const *argv;
	pid_t pid;		/* 0 if there is none */
	int out_fd;
	int err_fd;
};

int child_start(struct child *child, const char *const *argv, int listen_fd);
int child_wait(struct child *child);
bool child_await(const struct child *child, int timeout_ms);
void child_kill(struct child *child);
char *child_output(const struct child *child);
FILE *child_open_output(const struct child *child);
bool child_is_missing(int status);
bool child_says(const struct child *child, const char *words);
char *child_errors(const struct child *child);
int child_fail(const struct child *child, int status, const char *what);
void child_free(struct child *child);

#endif /* CHILD_H */
