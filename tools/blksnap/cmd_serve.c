// SPDX-License-Identifier: GPL-2.0
/*
 * Command: serve
 *
 * All that may be refused is looked at before there is a server: which images there
 * are, and whether what changed since their bases is known.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <blksnap/blksnap.h>

#include "commands.h"
#include "device.h"
#include "message.h"
#include "option.h"
#include "output.h"
#include "parse.h"
#include "progress.h"
#include "serve.h"
#include "util.h"

#define IMAGES_MAX 32
#define BITMAP_NAME "changes"
#define BITMAP_NAME_MAX 200	/* the protocol allows for 255, with a prefix */

struct options {
	const char *since[IMAGES_MAX];
	size_t nr_since;
	bool changes_only;
	struct serve_export exports[IMAGES_MAX];
	struct serve serve;
};

static int take_since(const char *name, const char *text, void *to)
{
	struct options *o = to;

	if (o->nr_since == IMAGES_MAX)
		return fail(EXIT_USAGE, "--%s is there too often; give it once for each image",
			    name);
	o->since[o->nr_since++] = text;
	return EXIT_OK;
}

static int take_bitmap(const char *name, const char *text, void *to)
{
	if (!*text || strlen(text) > BITMAP_NAME_MAX)
		return fail(EXIT_USAGE, "--%s '%s': must be a name of 1 to %u characters",
			    name, text, BITMAP_NAME_MAX);
	return option_text(name, text, to);
}

static int check_options(const struct cmdline *cl, const struct options *o)
{
	if (o->changes_only && cl->argc > 1)
		return fail(EXIT_USAGE,
			    "--changes-only is for one image; start a server for each");
	if (o->changes_only && !o->nr_since)
		return fail(EXIT_USAGE,
			    "--changes-only needs --since, the snapshot that was backed up before");
	return address_check(&o->serve.address);
}

static int parse_options(struct cmdline *cl, struct options *o)
{
	const struct cmdline_option options[] = {
		{ "since", take_since, o },
		{ "bitmap", take_bitmap, &o->serve.bitmap },
		{ "socket", option_text, &o->serve.address.socket },
		{ "listen", address_take_listen, &o->serve.address },
		{ "tls-psk", address_take_keys, &o->serve.address },
		{ "changes-only", NULL, &o->changes_only },
		{ 0 }
	};
	int ret = cmdline_parse(cl, options, 1, IMAGES_MAX);

	return ret ? ret : check_options(cl, o);
}

static int name_export(struct serve *serve, size_t i)
{
	struct serve_export *export = &serve->exports[i];
	char number[DEVICE_NUMBER_SIZE];
	char *path = device_path(export->image.origin);
	size_t j;

	device_format_number(export->image.origin, number);
	device_make_name(path ? path : number, export->name, sizeof(export->name));
	free(path);
	for (j = 0; j < i; j++) {
		if (!strcmp(serve->exports[j].name, export->name))
			return fail(EXIT_USAGE,
				    "'%s' and '%s' would both be called '%s'; start a server for each",
				    serve->exports[j].text, export->text,
				    export->name);
	}
	return EXIT_OK;
}

static struct serve_export *find_export(const struct serve *serve, const char *name,
					size_t length)
{
	size_t i;

	for (i = 0; i < serve->nr_exports; i++) {
		if (strlen(serve->exports[i].name) == length &&
		    !strncmp(serve->exports[i].name, name, length))
			return &serve->exports[i];
	}
	return NULL;
}

/* "N", or "GENERATION/N" as this command and "export" print it. */
static int parse_base(struct serve_export *export, const char *text)
{
	const char *slash = strchr(text, '/');
	char generation[BLKSNAP_UUID_TEXT_SIZE];

	if (slash) {
		snprintf(generation, sizeof(generation), "%.*s", (int)(slash - text),
			 text);
		export->has_generation =
			slash - text == BLKSNAP_UUID_TEXT_SIZE - 1 &&
			parse_uuid(generation, &export->generation);
	}
	if (export->has_since)
		return fail(EXIT_USAGE, "--since '%s': '%s' has a base already", text,
			    export->name);
	if (!parse_u64(slash ? slash + 1 : text, UINT8_MAX, &export->since) ||
	    (slash && !export->has_generation))
		return fail(EXIT_USAGE,
			    "--since '%s': must be the number of a snapshot, 0 to 255, or a change ID as 'blksnap serve' prints it",
			    text);
	export->has_since = true;
	return EXIT_OK;
}

static int apply_since(struct serve *serve, const char *text)
{
	const char *equals = strchr(text, '=');
	struct serve_export *export = serve->exports;

	if (equals)
		export = find_export(serve, text, equals - text);
	else if (serve->nr_exports > 1)
		return fail(EXIT_USAGE,
			    "--since '%s': which image is meant? With several it takes NAME=%s, and '%s' is a NAME here",
			    text, text, serve->exports->name);
	if (!export)
		return fail(EXIT_USAGE,
			    "--since '%s': no image has this name; '%s' is one here",
			    text, serve->exports->name);
	return parse_base(export, equals ? equals + 1 : text);
}

/* While it is open, no other image gets its number. */
static int open_image(struct serve_export *export)
{
	char path[IMAGE_PATH_SIZE];

	image_format_path(&export->image, path);
	export->fd = open(path, O_RDONLY | O_CLOEXEC);
	if (export->fd < 0)
		return fail_errno(errno, "cannot open '%s'", path);
	return EXIT_OK;
}

/*
 * A device is in one snapshot at a time, so if the snapshot is there before and
 * after, the map is that of its take.
 */
static int find_changes(struct serve_export *export, struct blksnap *blksnap)
{
	struct blksnap_cbt *cbt;
	int ret;

	ret = open_image(export);
	if (ret)
		return ret;
	if (blksnap_cbt_load(blksnap, export->image.origin, &cbt))
		return fail_call("'%s'", export->text);
	export->info = *blksnap_cbt_info(cbt);
	if (export->has_since &&
	    blksnap_cbt_check(cbt, export->has_generation ? &export->generation : NULL,
			      export->since))
		ret = fail(EXIT_FULL_BACKUP, "'%s': %s", export->name, blksnap_error());
	if (!ret && export->has_since)
		ret = extents_add_changed(&export->extents, cbt, export->since);
	blksnap_cbt_free(cbt);
	if (!ret && !image_is_there(blksnap, &export->image))
		ret = fail(EXIT_FAILED, "'%s': its snapshot has been destroyed",
			   export->text);
	return ret;
}

static int find_images(struct options *o, struct blksnap *blksnap,
		       const struct cmdline *cl, const struct blk_snap_dev *devs)
{
	struct serve *serve = &o->serve;
	int ret = EXIT_OK;
	size_t i;

	serve->nr_exports = cl->argc;
	for (i = 0; i < serve->nr_exports && !ret; i++) {
		serve->exports[i].text = cl->argv[i];
		ret = image_find(blksnap, devs[i], cl->argv[i],
				 &serve->exports[i].image);
		if (!ret)
			ret = name_export(serve, i);
	}
	for (i = 0; i < o->nr_since && !ret; i++)
		ret = apply_since(serve, o->since[i]);
	for (i = 0; i < serve->nr_exports && !ret; i++)
		ret = find_changes(&serve->exports[i], blksnap);
	return ret;
}

static void add_change_id(struct json_object *row, const char *key,
			  const struct serve_export *export, unsigned int number)
{
	char generation[BLKSNAP_UUID_TEXT_SIZE], text[BLKSNAP_UUID_TEXT_SIZE + 8];

	blksnap_format_uuid(&export->info.generation_id, generation);
	snprintf(text, sizeof(text), "%s/%u", generation, number);
	add_text(row, key, text);
}

static struct json_object *export_to_json(const struct options *o,
					  const struct serve_export *export)
{
	struct json_object *row = json_object_new_object();
	char *uri = address_uri(&o->serve.address, export->name);
	char path[IMAGE_PATH_SIZE];

	image_format_path(&export->image, path);
	add_text(row, "export", export->name);
	add_dev(row, "origin", "origin_number", export->image.origin);
	add_text(row, "image", path);
	add_number(row, "size_bytes", export->info.device_capacity);
	add_change_id(row, "change_id", export, export->info.snap_number);
	if (export->has_since) {
		add_number(row, "since", export->since);
		add_number(row, "changed_bytes", export->extents.nr_sectors
						 << BLKSNAP_SECTOR_SHIFT);
		add_text(row, "bitmap", o->changes_only ? NULL : o->serve.bitmap);
	}
	add_text(row, "uri", uri);
	free(uri);
	return row;
}

/* The output of a command that goes on has to be seen at once. */
static void print_result(const struct options *o, const struct cmdline *cl)
{
	static const struct column columns[] = {
		{ "EXPORT", "export", COLUMN_TEXT },
		{ "IMAGE", "image", COLUMN_TEXT },
		{ "SIZE", "size_bytes", COLUMN_SIZE },
		{ "CHANGE ID", "change_id", COLUMN_TEXT },
		{ "SINCE", "since", COLUMN_NUMBER },
		{ "CHANGED", "changed_bytes", COLUMN_SIZE },
		{ "BITMAP", "bitmap", COLUMN_TEXT },
		{ "URI", "uri", COLUMN_TEXT },
	};
	struct json_object *result = json_object_new_object();
	struct json_object *rows = json_object_new_array();
	size_t i;

	for (i = 0; i < o->serve.nr_exports; i++)
		json_object_array_add(rows, export_to_json(o, &o->exports[i]));
	json_object_object_add(result, "exports", rows);
	output_result(cl, result, rows, columns, ARRAY_SIZE(columns));
	json_object_put(result);
	fflush(stdout);
}

/* A signal is how it is meant to end. */
static int wait_for_end(struct child *child)
{
	if (!child_await(child, -1))
		return EXIT_OK;
	return child_fail(child, child_wait(child),
			  "the images are not served any more");
}

static int serve_until_end(struct options *o, const struct cmdline *cl)
{
	struct serve *serve = &o->serve;
	int ret;

	ret = address_open(&serve->address);
	if (!ret)
		ret = o->changes_only ? serve_changes_only(serve) :
					serve_images(serve);
	if (!ret && o->changes_only)
		warn("%s",
		     "what has not changed is shown as holes of zeros: without --destination-is-zero (nbdcopy) or --target-is-zero (qemu-img convert), a client overwrites it with zeros");
	if (!ret) {
		print_result(o, cl);
		ret = wait_for_end(&serve->child);
	}
	child_free(&serve->child);
	return ret;
}

static int serve(struct options *o, const struct cmdline *cl)
{
	struct blk_snap_dev *devs;
	struct blksnap *blksnap;
	int ret;

	ret = device_parse_list(cl->argv, cl->argc, &devs);
	if (ret)
		return ret;
	ret = open_module(&blksnap);
	if (!ret) {
		ret = find_images(o, blksnap, cl, devs);
		blksnap_close(blksnap);
	}
	free(devs);
	return ret ? ret : serve_until_end(o, cl);
}

static void close_images(struct serve *serve)
{
	size_t i;

	for (i = 0; i < IMAGES_MAX; i++) {
		extents_free(&serve->exports[i].extents);
		if (serve->exports[i].fd >= 0)
			close(serve->exports[i].fd);
	}
}

static int run_serve(struct cmdline *cl)
{
	struct options o = { .serve.bitmap = BITMAP_NAME };
	size_t i;
	int ret;

	o.serve.exports = o.exports;
	for (i = 0; i < IMAGES_MAX; i++)
		o.exports[i].fd = -1;
	umask(077);
	ret = parse_options(cl, &o);
	if (!ret) {
		interruption_prepare();
		ret = serve(&o, cl);
	}
	close_images(&o.serve);
	address_close(&o.serve.address);
	return ret;
}

const struct command command_serve = {
	.group = "",
	.name = "serve",
	.args = "IMAGE...",
	.summary = "Serve images over NBD, with what changed as dirty bitmap",
	.help =
		"Serves images of snapshots, each as an export with the name of its origin, until\n"
		"a signal ends it.  They can only be read.  With --since, an export has a dirty\n"
		"bitmap of what changed, so that a client of QEMU's world takes an incremental.\n"
		"What is printed tells that the server is ready, and has the change ID for the\n"
		"--since of the next time.\n"
		"\n"
		"  --since [NAME=]N    number of the snapshot that was backed up before, or its\n"
		"                      change ID, of which the generation is checked as well;\n"
		"                      with several images NAME is the export\n"
		"  --bitmap NAME       name of the bitmaps; 'changes' if not given\n"
		"  --socket PATH       Unix socket, which only its owner can use;\n"
		"                      /run/blksnap/nbd.sock if not given\n"
		"  --listen ADDRESS[:PORT]\n"
		"                      listen on the network, with TLS; port 10809 if not given\n"
		"  --tls-psk FILE      keys of the clients, as psktool writes them\n"
		"  --changes-only      for a client that cannot use a bitmap: all but what\n"
		"                      changed is a hole.  The client must be told to leave\n"
		"                      holes alone, or it overwrites them with zeros\n"
		"\n"
		"The exit code is 0 if a signal has ended it; 3 if what changed since N is not\n"
		"known: then nothing is served, and a full backup is due.\n",
	.run = run_serve,
};
