// SPDX-License-Identifier: GPL-2.0
/*
 * Commands, options and help
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmdline.h"
#include "message.h"
#include "util.h"

static const char *group_gap(const struct command *command)
{
	return *command->group ? " " : "";
}

/**
 * cmdline_print_usage() - print the help of a command
 * @command:	the command
 */
void cmdline_print_usage(const struct command *command)
{
	printf("Usage: blksnap %s%s%s%s%s\n\n", command->group,
	       group_gap(command), command->name, *command->args ? " " : "",
	       command->args);
	printf("%s.\n", command->summary);
	if (*command->help)
		printf("\n%s", command->help);
	puts("\nCommon options: --json, --no-header, --help.");
}

static int stop(struct cmdline *cl, int exit_code)
{
	cl->exit_code = exit_code;
	return CMDLINE_STOP;
}

static int fail_unknown_option(const struct cmdline *cl,
			       const struct option *options)
{
	const struct command *command = cl->command;
	const char letter[] = { '-', optopt, 0 };
	const char *text = letter;
	char valid[256] = "";
	size_t used = 0;

	/* Letters may be written together, so optind may not be behind it yet. */
	if (optopt == 0 || optopt >= CMDLINE_STOP)
		text = cl->argv[optind - 1];

	for (; options->name; options++)
		used += snprintf(valid + used, sizeof(valid) - used, "%s--%s",
				 used ? ", " : "", options->name);
	return fail(EXIT_USAGE,
		    "%s%s%s: '%s' is no option of this command; valid are %s",
		    command->group, group_gap(command), command->name, text,
		    valid);
}

/* The options of the command and those that all commands have. */
static void add_common_options(struct option all[CMDLINE_OPTIONS_MAX],
			       const struct option *own)
{
	static const struct option common[] = {
		{ "json", no_argument, NULL, OPT_JSON },
		{ "no-header", no_argument, NULL, OPT_NO_HEADER },
		{ "help", no_argument, NULL, OPT_HELP },
		{ 0 }
	};
	size_t nr_own = 0;

	while (own[nr_own].name)
		nr_own++;
	assert(nr_own + ARRAY_SIZE(common) <= CMDLINE_OPTIONS_MAX);
	memcpy(all, own, nr_own * sizeof(*own));
	memcpy(all + nr_own, common, sizeof(common));
}

/**
 * cmdline_next() - take the next option
 * @cl:		the command line
 * @own:	options that only this command has, ended by an empty one
 *
 * Options and other arguments may be mixed.  The common options are dealt with
 * here.
 *
 * Return: the value of the option, with its argument in optarg; CMDLINE_END if
 *	   only other arguments are left; CMDLINE_STOP if the command has to
 *	   leave with cl->exit_code, after help or a message was printed.
 */
int cmdline_next(struct cmdline *cl, const struct option *own)
{
	const struct command *command = cl->command;
	struct option options[CMDLINE_OPTIONS_MAX];
	int option;

	add_common_options(options, own);
	opterr = 0;
	for (;;) {
		option = getopt_long(cl->argc, cl->argv, ":h", options, NULL);
		switch (option) {
		case OPT_JSON:
			cl->json = true;
			break;
		case OPT_NO_HEADER:
			cl->no_header = true;
			break;
		case 'h':
		case OPT_HELP:
			cmdline_print_usage(command);
			return stop(cl, EXIT_OK);
		case ':':
			return stop(cl, fail(EXIT_USAGE,
					     "%s%s%s: %s needs an argument",
					     command->group, group_gap(command),
					     command->name,
					     cl->argv[optind - 1]));
		case '?':
			return stop(cl, fail_unknown_option(cl, options));
		case -1:
			cl->argc -= optind;
			cl->argv += optind;
			return CMDLINE_END;
		default:
			return option;
		}
	}
}

/**
 * cmdline_no_options() - take the options of a command that has none
 * @cl:		the command line
 *
 * Return: CMDLINE_END or CMDLINE_STOP, see cmdline_next().
 */
int cmdline_no_options(struct cmdline *cl)
{
	static const struct option options[] = { { 0 } };

	return cmdline_next(cl, options);
}

/**
 * cmdline_check_args() - check the number of arguments behind the options
 * @cl:		the command line
 * @min:	smallest number
 * @max:	greatest number
 *
 * Return: EXIT_OK, or EXIT_USAGE after a message.
 */
int cmdline_check_args(const struct cmdline *cl, int min, int max)
{
	const struct command *command = cl->command;
	const char *args = *command->args ? command->args : "no argument";

	if (cl->argc < min)
		return fail(EXIT_USAGE,
			    "%s%s%s: an argument is missing; it takes %s",
			    command->group, group_gap(command), command->name,
			    args);
	if (cl->argc > max)
		return fail(EXIT_USAGE, "%s%s%s: '%s' is too many; it takes %s",
			    command->group, group_gap(command), command->name,
			    cl->argv[max], args);
	return EXIT_OK;
}
