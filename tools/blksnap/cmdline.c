// SPDX-License-Identifier: GPL-2.0
/*
 * Commands, options and help
 */
#include <assert.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmdline.h"
#include "message.h"
#include "util.h"

/* No character has these values. */
enum {
	OPT_JSON = 1000,
	OPT_NO_HEADER,
	OPT_OWN,	/* the options of a command start here */
};

static const char *group_gap(const struct command *command)
{
	return *command->group ? " " : "";
}

static int print_usage(const struct command *command)
{
	printf("Usage: blksnap %s%s%s%s%s\n\n", command->group,
	       group_gap(command), command->name, *command->args ? " " : "",
	       command->args);
	printf("%s.\n", command->summary);
	if (*command->help)
		printf("\n%s", command->help);
	puts("\nCommon options: --json, --no-header, --help.");
	return CMDLINE_STOP;
}

static int fail_no_argument(const struct cmdline *cl)
{
	const struct command *command = cl->command;

	return fail(EXIT_USAGE, "%s%s%s: %s needs an argument", command->group,
		    group_gap(command), command->name, cl->argv[optind - 1]);
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
	if (optopt == 0 || optopt >= OPT_JSON)
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
static void list_options(struct option all[CMDLINE_OPTIONS_MAX],
			 const struct cmdline_option *own)
{
	static const struct option common[] = {
		{ "json", no_argument, NULL, OPT_JSON },
		{ "no-header", no_argument, NULL, OPT_NO_HEADER },
		{ "help", no_argument, NULL, 'h' },
		{ 0 }
	};
	size_t i;

	for (i = 0; own && own[i].name; i++) {
		assert(i + ARRAY_SIZE(common) < CMDLINE_OPTIONS_MAX);
		all[i] = (struct option) {
			.name = own[i].name,
			.has_arg = own[i].take ? required_argument : no_argument,
			.val = OPT_OWN + i,
		};
	}
	memcpy(all + i, common, sizeof(common));
}

static int take_option(struct cmdline *cl, const struct option *all,
		       const struct cmdline_option *own, int option)
{
	switch (option) {
	case OPT_JSON:
		cl->json = true;
		return EXIT_OK;
	case OPT_NO_HEADER:
		cl->no_header = true;
		return EXIT_OK;
	case 'h':
		return print_usage(cl->command);
	case ':':
		return fail_no_argument(cl);
	case '?':
		return fail_unknown_option(cl, all);
	}
	own += option - OPT_OWN;
	if (own->take)
		return own->take(own->name, optarg, own->to);
	*(bool *)own->to = true;
	return EXIT_OK;
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

/**
 * cmdline_parse() - take the options, and check the number of other arguments
 * @cl:		the command line; only the other arguments are left in it
 * @own:	options that only this command has; NULL if it has none
 * @min:	smallest number of other arguments
 * @max:	greatest number
 *
 * Options and other arguments may be mixed.
 *
 * Return: EXIT_OK; EXIT_USAGE after a message; CMDLINE_STOP after help.
 */
int cmdline_parse(struct cmdline *cl, const struct cmdline_option *own, int min,
		  int max)
{
	struct option all[CMDLINE_OPTIONS_MAX];
	int option, ret = EXIT_OK;

	list_options(all, own);
	opterr = 0;
	while (!ret && (option = getopt_long(cl->argc, cl->argv, ":h", all,
					     NULL)) != -1)
		ret = take_option(cl, all, own, option);
	if (ret)
		return ret;
	cl->argc -= optind;
	cl->argv += optind;
	return cmdline_check_args(cl, min, max);
}
