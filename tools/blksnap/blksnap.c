// SPDX-License-Identifier: GPL-2.0
/*
 * The command-line tool of blksnap
 *
 * Finds the command in the table and runs it.  What a command does is in
 * cmd_*.c, one file for each group.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cmdline.h"
#include "commands.h"
#include "message.h"
#include "output.h"
#include "util.h"

static const struct command *const commands[] = {
	&command_backup,
	&command_restore,
	&command_verify,
	&command_list,
	&command_prune,
	&command_mount,
	&command_umount,
	&command_export,
	&command_import,
	&command_hold,
	&command_serve,
	&command_status,
	&command_top,
	&command_version,
	&command_tracker_list,
	&command_tracker_remove,
	&command_cbt_read,
	&command_cbt_extents,
	&command_cbt_mark,
	&command_snapshot_create,
	&command_snapshot_append,
	&command_snapshot_take,
	&command_snapshot_destroy,
	&command_snapshot_list,
	&command_snapshot_images,
	&command_snapshot_events,
	&command_storage_reserve,
};

static const char help_text[] =
	"A DEV is a path, UUID=, LABEL=, PARTUUID=, PARTLABEL= or MAJOR:MINOR.\n"
	"A range START:COUNT is in sectors of 512 bytes.  A size is in bytes or has a\n"
	"suffix K, M, G or T.  'blksnap COMMAND --help' tells more about a command.\n"
	"\n"
	"Options of all commands:\n"
	"  --json       print the result as JSON\n"
	"  --no-header  print no line of titles\n"
	"  --help       print help\n"
	"  --version    print the version of the tool; only before a command\n"
	"\n"
	"Exit codes:\n"
	"  0  done\n"
	"  1  the operation failed\n"
	"  2  an argument is wrong; nothing was done\n"
	"  3  cbt, backup, export, serve: what changed is not known, a full one is due\n"
	"  4  snapshot events: no event arose in time\n"
	"  5  restore, verify, prune, mount, export: a backup is damaged\n"
	"hold has those of the command that it runs; see its own help.\n";

static void print_commands(const char *group)
{
	char line[128];
	size_t i;

	puts("Commands:");
	for (i = 0; i < ARRAY_SIZE(commands); i++) {
		const struct command *c = commands[i];

		if (group && strcmp(group, c->group))
			continue;
		snprintf(line, sizeof(line), "%s%s%s", c->group,
			 *c->group ? " " : "", c->name);
		printf("  %-18s %s\n", line, c->summary);
	}
	putchar('\n');
}

static int print_help(const char *group)
{
	puts("Usage: blksnap [OPTION]... COMMAND [ARGUMENT]...\n");
	puts("Take snapshots of block devices in use, and find out what changed between them.\n");
	print_commands(group);
	fputs(help_text, stdout);
	return EXIT_OK;
}

/* For those who only type the name. */
static int print_first_steps(void)
{
	puts("Backups of block devices in use.  Three commands to begin with:\n\n"
	     "  blksnap backup --to DIR DEV...        back up, the first time in full\n"
	     "  blksnap list DIR                      what there is\n"
	     "  blksnap restore --from DIR TARGET     bring it back, to a device or a file\n\n"
	     "'blksnap --help' lists all commands.");
	return EXIT_OK;
}

static int print_version(bool json)
{
	struct json_object *object;

	if (!json) {
		puts("blksnap " BLKSNAP_VERSION);
		return EXIT_OK;
	}
	object = json_object_new_object();
	add_text(object, "version", BLKSNAP_VERSION);
	output_json(object);
	json_object_put(object);
	return EXIT_OK;
}

static bool is_group(const char *text)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(commands); i++) {
		if (*commands[i]->group && !strcmp(commands[i]->group, text))
			return true;
	}
	return false;
}

static const struct command *find_command(const char *group, const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(commands); i++) {
		if (!strcmp(commands[i]->group, group) &&
		    !strcmp(commands[i]->name, name))
			return commands[i];
	}
	return NULL;
}

/* Names of the commands of @group, or all groups if @group is NULL. */
static void list_names(const char *group, char *text, size_t size)
{
	const char *name, *last = "";
	size_t used = 0, i;

	*text = 0;
	for (i = 0; i < ARRAY_SIZE(commands); i++) {
		if (group && strcmp(group, commands[i]->group))
			continue;
		name = commands[i]->name;
		if (!group && *commands[i]->group)
			name = commands[i]->group;
		if (!strcmp(name, last) || used >= size)
			continue;
		used += snprintf(text + used, size - used, "%s%s",
				 used ? ", " : "", name);
		last = name;
	}
}

static int fail_unknown_command(const char *group, const char *name)
{
	char names[256];

	list_names(group, names, sizeof(names));
	if (name)
		return fail(EXIT_USAGE, "'%s' is no command%s%s; valid are %s",
			    name, group ? " of " : "", group ? group : "",
			    names);
	return fail(EXIT_USAGE, "a command%s%s is missing; valid are %s",
		    group ? " of " : "", group ? group : "", names);
}

static bool is_help(const struct cmdline *cl)
{
	return cl->argc && (!strcmp(cl->argv[0], "--help") ||
			    !strcmp(cl->argv[0], "-h") ||
			    !strcmp(cl->argv[0], "help"));
}

static bool is_version(const struct cmdline *cl)
{
	return cl->argc && !strcmp(cl->argv[0], "--version");
}

/* The common options may also come before the command. */
static int take_leading_options(struct cmdline *cl)
{
	while (cl->argc && cl->argv[0][0] == '-' && !is_help(cl) &&
	       !is_version(cl)) {
		if (!strcmp(cl->argv[0], "--json"))
			cl->json = true;
		else if (!strcmp(cl->argv[0], "--no-header"))
			cl->no_header = true;
		else
			return fail(EXIT_USAGE,
				    "'%s' is no option of blksnap; valid before the command are --json, --no-header, --help, --version",
				    cl->argv[0]);
		cl->argc--;
		cl->argv++;
	}
	return EXIT_OK;
}

static int run(struct cmdline *cl)
{
	const char *group = NULL;

	if (cl->argc && is_group(cl->argv[0])) {
		group = cl->argv[0];
		cl->argc--;
		cl->argv++;
	}
	if (is_help(cl))
		return print_help(group);
	if (!group && is_version(cl))
		return print_version(cl->json);
	if (!group && !cl->argc)
		return print_first_steps();
	if (!cl->argc)
		return fail_unknown_command(group, NULL);
	cl->command = find_command(group ? group : "", cl->argv[0]);
	if (!cl->command)
		return fail_unknown_command(group, cl->argv[0]);
	return cl->command->run(cl);
}

/*
 * The caller may have closed them.  A file that is opened later would get such a
 * number, and what is printed.  Opened in the wrong direction, they fail as before.
 */
static int open_standard_files(void)
{
	int fd;

	for (fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		if (fcntl(fd, F_GETFD) < 0 &&
		    open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) < 0)
			return fail_errno(errno, "cannot open '/dev/null'");
	}
	return EXIT_OK;
}

int main(int argc, char **argv)
{
	struct cmdline cl = { .argc = argc - 1, .argv = argv + 1 };
	int ret;

	if (!argc)
		return fail_unknown_command(NULL, NULL);
	ret = open_standard_files();
	if (!ret)
		ret = take_leading_options(&cl);
	if (!ret)
		ret = run(&cl);
	if (ret == CMDLINE_STOP)
		ret = EXIT_OK;
	if ((fflush(stdout) || ferror(stdout)) && ret == EXIT_OK)
		ret = fail_errno(errno, "cannot write the result");
	return ret;
}
