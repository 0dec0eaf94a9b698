/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Commands, options and help
 *
 * Each command is described by a struct command, which the table in blksnap.c
 * lists.  Its run() walks over the options with cmdline_next(), then finds what
 * is left in argv[0..argc - 1], checks all of it, and only then acts.
 */
#ifndef CMDLINE_H
#define CMDLINE_H

#include <getopt.h>
#include <stdbool.h>

#define CMDLINE_OPTIONS_MAX 16	/* of one command, with those of all */

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
	int exit_code;		/* valid when cmdline_next() returned STOP */
};

enum {
	CMDLINE_END = -1,	/* no more options */
	CMDLINE_STOP = 1000,	/* leave with exit_code */
	OPT_HELP,
	OPT_JSON,
	OPT_NO_HEADER,
	OPT_OWN,		/* the options of a command start here */
};

int cmdline_next(struct cmdline *cl, const struct option *options);
int cmdline_no_options(struct cmdline *cl);
int cmdline_check_args(const struct cmdline *cl, int min, int max);
void cmdline_print_usage(const struct command *command);

#endif /* CMDLINE_H */
