// SPDX-License-Identifier: GPL-2.0
/*
 * Command: import
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "commands.h"
#include "message.h"
#include "option.h"
#include "output.h"
#include "rbd_diff.h"
#include "restore.h"
#include "util.h"

struct options {
	const char *format;
	bool force;
	struct progress progress;
};

static int parse_options(struct cmdline *cl, struct options *o)
{
	const struct cmdline_option options[] = {
		{ "format", option_text, &o->format },
		{ "force", NULL, &o->force },
		{ "quiet", NULL, &o->progress.quiet },
		{ 0 }
	};
	int ret = cmdline_parse(cl, options, 1, 1);

	if (!ret && !o->format)
		ret = fail(EXIT_USAGE,
			   "import: --format is missing; it takes rbd-diff");
	if (!ret && strcmp(o->format, "rbd-diff"))
		ret = fail(EXIT_USAGE, "--format '%s': must be rbd-diff",
			   o->format);
	return ret;
}

/* What lies between the records of a diff of all of the disk is zero. */
struct import_sink {
	struct layer_sink sink;
	struct layer_sink *target;	/* NULL: only read */
	bool is_whole;
	uint64_t done;
};

static int put_gap(struct import_sink *s, uint64_t end)
{
	uint64_t done = s->done;

	s->done = end;
	if (!s->target || !s->is_whole || done == end)
		return EXIT_OK;
	return s->target->write(s->target, NULL, end - done, done);
}

static int put(struct layer_sink *sink, const void *data, uint64_t nr_bytes,
	       uint64_t offset)
{
	struct import_sink *s = (struct import_sink *)sink;
	int ret;

	ret = put_gap(s, offset);
	s->done = offset + nr_bytes;
	if (ret || !s->target || !nr_bytes)
		return ret;
	return s->target->write(s->target, data, nr_bytes, offset);
}

/* A file is read to its end first: one that is cut changes nothing. */
static int check_file(struct progress *progress)
{
	struct import_sink sink = { .sink = { .write = put } };
	struct rbd_diff diff;
	struct stat st;
	int ret;

	if (fstat(STDIN_FILENO, &st) || !S_ISREG(st.st_mode))
		return EXIT_OK;
	ret = rbd_diff_begin(&diff, stdin);
	if (!ret) {
		progress_begin(progress, "check", st.st_size);
		ret = rbd_diff_read(&diff, &sink.sink, progress);
		progress_end(progress);
	}
	if (!ret && fseeko(stdin, 0, SEEK_SET))
		ret = fail_errno(errno, "cannot read the diff");
	return ret;
}

static int write_target(struct rbd_diff *diff, struct restore_target *target,
			struct progress *progress)
{
	struct import_sink sink = {
		.sink = { .write = put },
		.target = &target->sink,
		.is_whole = !*diff->from,
	};
	int ret;

	progress_begin(progress, "import", diff->nr_bytes);
	ret = rbd_diff_read(diff, &sink.sink, progress);
	progress_end(progress);
	if (!ret)
		ret = put_gap(&sink, diff->nr_bytes);
	if (ret && !target->partial)
		fail(ret,
		     "'%s' has got a part of the changes, and is of no use; import it anew from the beginning",
		     target->path);
	return ret ? ret : restore_finish(target);
}

static void print_result(const struct rbd_diff *diff, const char *path,
			 const struct cmdline *cl)
{
	static const struct column columns[] = {
		{ "FROM", "from", COLUMN_TEXT },
		{ "TO", "to", COLUMN_TEXT },
		{ "SIZE", "capacity_bytes", COLUMN_SIZE },
		{ "TARGET", "target", COLUMN_TEXT },
	};
	struct json_object *rows = json_object_new_array();
	struct json_object *row = json_object_new_object();

	add_text(row, "from", *diff->from ? diff->from : NULL);
	add_text(row, "to", *diff->to ? diff->to : NULL);
	add_number(row, "capacity_bytes", diff->nr_bytes);
	add_text(row, "target", path);
	json_object_array_add(rows, row);
	output_result(cl, row, rows, columns, ARRAY_SIZE(columns));
	json_object_put(rows);
}

static int import(struct options *o, const struct cmdline *cl)
{
	struct restore_target target = { .sink = { .fd = -1 } };
	const char *path = cl->argv[0];
	struct rbd_diff diff;
	int ret;

	ret = check_file(&o->progress);
	if (!ret)
		ret = rbd_diff_begin(&diff, stdin);
	if (ret)
		return ret;
	if (*diff.from)
		ret = restore_open_in_place(&target, path, diff.nr_bytes);
	else
		ret = restore_open(&target, path, diff.nr_bytes, false,
				   o->force);
	if (!ret)
		ret = write_target(&diff, &target, &o->progress);
	if (!ret)
		print_result(&diff, path, cl);
	restore_forget(&target);
	return ret;
}

static int run_import(struct cmdline *cl)
{
	struct options o = { 0 };
	int ret;

	ret = parse_options(cl, &o);
	if (ret)
		return ret;
	umask(077);
	interruption_prepare();
	return import(&o, cl);
}

const struct command command_import = {
	.group = "",
	.name = "import",
	.args = "--format rbd-diff TARGET",
	.summary = "Bring what 'export' has written to a device or a raw file",
	.help =
		"Reads a diff from the standard input.  One that has all of a disk is written to\n"
		"TARGET as 'blksnap restore' does it.  One that has what changed is written onto\n"
		"TARGET, which must hold the disk as it was before; this cannot be checked.  A\n"
		"diff that is a file is read to its end before anything is changed.\n"
		"\n"
		"  --format FORMAT     rbd-diff\n"
		"  --force             overwrite what is on the device, replace the file\n"
		"  --quiet             print no progress\n",
	.run = run_import,
};
