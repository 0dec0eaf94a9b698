// SPDX-License-Identifier: GPL-2.0
/*
 * Command: hold
 *
 * The snapshot lasts as long as the command does.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "device.h"
#include "foreground.h"
#include "keeper.h"
#include "message.h"
#include "option.h"
#include "parse.h"
#include "util.h"

/* Variables of each device: origin, image, frozen; and those of all. */
#define VARIABLES_OF_DEVICE 3
#define VARIABLES_OF_ALL 2

static int parse_options(struct cmdline *cl, struct keeper_options *o)
{
	const struct cmdline_option options[] = {
		{ "storage", option_text, &o->storage },
		{ "storage-size", option_file_size, &o->size_bytes },
		{ "quiet", NULL, &o->quiet },
		{ 0 }
	};

	return cmdline_parse(cl, options, 1, INT32_MAX);
}

/* The options of the command are not ours, so it is taken away first. */
static char **split_command(struct cmdline *cl)
{
	int i;

	for (i = 1; i < cl->argc; i++) {
		if (!strcmp(cl->argv[i], "--")) {
			cl->argc = i;
			cl->argv[i] = NULL;
			return cl->argv + i + 1;
		}
	}
	return NULL;
}

/* The environment of the command; what is added is at its beginning. */
struct environment {
	char **variables;
	size_t nr_own;
};

__attribute__((PRINTF_LIKE(2, 3)))
static bool add(struct environment *env, const char *format, ...)
{
	va_list args;
	int ret;

	va_start(args, format);
	ret = vasprintf(&env->variables[env->nr_own], format, args);
	va_end(args);
	if (ret < 0)
		return false;
	env->nr_own++;
	return true;
}

static int add_device(struct environment *env, const struct keeper *keeper,
		      unsigned int i)
{
	char number[DEVICE_NUMBER_SIZE];
	char *origin = device_path(keeper->devs[i]);
	bool frozen, ok;
	char *image;

	image = keeper_image(keeper, keeper->devs[i], &frozen);
	device_format_number(keeper->devs[i], number);
	ok = image &&
	     add(env, "BLKSNAP_ORIGIN_%u=%s", i, origin ? origin : number) &&
	     add(env, "BLKSNAP_IMAGE_%u=%s", i, image) &&
	     add(env, "BLKSNAP_FROZEN_%u=%d", i, frozen);
	free(origin);
	if (image && !ok)
		fail_memory();
	free(image);
	return ok ? EXIT_OK : EXIT_FAILED;
}

static int add_all(struct environment *env, const struct keeper *keeper)
{
	char id[BLKSNAP_UUID_TEXT_SIZE];
	unsigned int i;
	int ret = EXIT_OK;

	for (i = 0; i < keeper->nr_devs && !ret; i++)
		ret = add_device(env, keeper, i);
	if (ret)
		return ret;
	blksnap_format_uuid(&keeper->id, id);
	if (!add(env, "BLKSNAP_ID=%s", id) ||
	    !add(env, "BLKSNAP_COUNT=%u", keeper->nr_devs))
		return fail_memory();
	return EXIT_OK;
}

/* A command that is held itself may run another one. */
static bool is_ours(const char *variable)
{
	static const char *const names[] = {
		"BLKSNAP_ID=", "BLKSNAP_COUNT=", "BLKSNAP_ORIGIN_",
		"BLKSNAP_IMAGE_", "BLKSNAP_FROZEN_",
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(names); i++) {
		if (!strncmp(variable, names[i], strlen(names[i])))
			return true;
	}
	return false;
}

static int make_environment(struct environment *env,
			    const struct keeper *keeper)
{
	size_t nr, i;
	int ret;

	for (nr = 0; environ[nr]; nr++)
		;
	env->variables = calloc(keeper->nr_devs * VARIABLES_OF_DEVICE +
				VARIABLES_OF_ALL + nr + 1, sizeof(char *));
	if (!env->variables)
		return fail_memory();
	ret = add_all(env, keeper);
	for (nr = env->nr_own, i = 0; environ[i]; i++) {
		if (!is_ours(environ[i]))
			env->variables[nr++] = environ[i];
	}
	return ret;
}

static void free_environment(struct environment *env)
{
	while (env->nr_own)
		free(env->variables[--env->nr_own]);
	free(env->variables);
}

static int run_command(const struct keeper *keeper,
		       const struct foreground *fg, char **command)
{
	struct environment env = { 0 };
	int ret;

	if (make_environment(&env, keeper))
		ret = EXIT_NOT_HELD;
	else if (!foreground_run(fg, command, env.variables, &ret))
		ret = EXIT_NOT_HELD;
	free_environment(&env);
	return ret;
}

static int hold(const struct keeper_options *o, const struct foreground *fg,
		const struct blk_snap_dev *devs, unsigned int nr_devs,
		char **command)
{
	struct keeper keeper;
	struct blksnap *blksnap;
	int ret;

	if (open_module(&blksnap))
		return EXIT_NOT_HELD;
	if (keeper_take(&keeper, blksnap, devs, nr_devs, o)) {
		ret = EXIT_NOT_HELD;
	} else {
		ret = run_command(&keeper, fg, command);
		if (keeper_is_lost(&keeper))
			ret = fail(EXIT_LOST,
				   "the snapshot was lost while '%s' ran: what it has read is not to be trusted",
				   command[0]);
	}
	keeper_release(&keeper);
	blksnap_close(blksnap);
	return ret;
}

static int run_hold(struct cmdline *cl)
{
	struct keeper_options options = { 0 };
	char **command = split_command(cl);
	struct blk_snap_dev *devs;
	struct foreground fg;
	int ret;

	ret = parse_options(cl, &options);
	if (ret)
		return ret;
	if (!command || !*command)
		return fail(EXIT_USAGE,
			    "hold: the command is missing; it stands behind '--', as in: blksnap hold /dev/vda1 -- dd ...");
	ret = device_parse_list(cl->argv, cl->argc, &devs);
	if (ret)
		return ret;
	foreground_prepare(&fg);
	ret = hold(&options, &fg, devs, cl->argc, command);
	free(devs);
	return ret;
}

const struct command command_hold = {
	.group = "",
	.name = "hold",
	.args = "DEV... -- COMMAND [ARG]...",
	.summary = "Run a command while a snapshot is held",
	.help =
		"Takes a snapshot of all DEV at one instant, runs COMMAND, and destroys the\n"
		"snapshot when that has ended, however it does.  Signals are passed on to it.\n"
		"COMMAND finds in its environment, for each DEV in order, N from 0 on:\n"
		"\n"
		"  BLKSNAP_IMAGE_N     the image\n"
		"  BLKSNAP_ORIGIN_N    the device it is of\n"
		"  BLKSNAP_FROZEN_N    1 if its filesystem was frozen, so it needs no recovery\n"
		"  BLKSNAP_COUNT       number of DEV\n"
		"  BLKSNAP_ID          ID of the snapshot\n"
		"\n"
		"Options, which come before the --:\n"
		"\n"
		"  --storage WHAT      difference storage: a file on ext4 or XFS, an unused\n"
		"                      device, or memory; a file in /var/lib/blksnap if not\n"
		"                      given\n"
		"  --storage-size N    size of the file, a tenth of the devices but 256M at\n"
		"                      least if not given; or of the memory, a quarter of\n"
		"                      what is free if not given\n"
		"  --quiet             say nothing of snapshots that a killed run has left\n"
		"\n"
		"The exit code is that of COMMAND, 128 and the number of the signal that killed\n"
		"it, 126 if it cannot be run, 127 if it is not there; 125 if there is no\n"
		"snapshot and COMMAND was not run; 124 if the snapshot was lost meanwhile, so\n"
		"what COMMAND has read is not to be trusted.\n",
	.run = run_hold,
};
