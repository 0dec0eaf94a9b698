/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Commands, options and help
 *
 * Each command is described by a struct command, which the table in blksnap.c
 * lists.  Its run() takes the options with cmdline_parse(), then finds what is
 * left in argv[0..argc - 1], checks all of it, and only then acts.
 */
#ifndef CMDLINE_H
#define CMDLINE_H

#include <stdbool.h>

#define CMDLINE_OPTIONS_MAX 20	/* of one command, with those of all */

struct cmdline;

struct command {
	const char *group;	/* "" if the name stands alone */
	const char *name;
	const char *args;	/* as in the usage line */
	const char *summary;	/* one line without a full stop */
	const char *help;	/* the rest of --help, in lines of 79 */
	int (*run)(struct cmdline *cl);
};

struct cmdline {
	const struct command *command;
	int argc;
	char **argv;
	bool json;
	bool no_header;
};

/* An option of a command; the last one of a list has no name. */
struct cmdline_option {
	const char *name;
	/*
	 * Takes the argument, and returns EXIT_OK, or EXIT_USAGE after a
	 * message.  NULL: there is none, and @to is a bool that becomes true.
	 */
	int (*take)(const char *name, const char *text, void *to);
	void *to;
};

/* As an exit code: help was printed, and there is nothing else to do. */
#define CMDLINE_STOP 1000

int cmdline_parse(struct cmdline *cl, const struct cmdline_option *options,
		  int min, int max);
int cmdline_check_args(const struct cmdline *cl, int min, int max);

#endif /* CMDLINE_H */
