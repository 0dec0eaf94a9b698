// SPDX-License-Identifier: GPL-2.0
/*
 * Changes served over NBD as what is allocated, by nbdkit
 *
 * Its filter "extentlist" says for a list of ranges that they are data, and that the
 * rest is a hole of zeros.  The rest can still be read, and is what the image has.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "message.h"
#include "progress.h"
#include "serve.h"

/* A healthy server needs a few milliseconds. */
#define READY_STEP_MS 20

static int write_list(const struct extents *extents, const char *path)
{
	FILE *file = fopen(path, "we");
	bool ok = file;
	size_t i;

	for (i = 0; ok && i < extents->nr_ranges; i++)
		fprintf(file, "%llus %llus\n",
			(unsigned long long)extents->ranges[i].sector_offset,
			(unsigned long long)extents->ranges[i].sector_count);
	if (file && fclose(file))
		ok = false;
	return ok ? EXIT_OK : fail_errno(errno, "cannot write '%s'", path);
}

static bool is_written(const char *path)
{
	struct stat st;

	return !stat(path, &st) && st.st_size;
}

/* The file has the number of the process as soon as it listens. */
static int wait_until_ready(struct child *child, const char *pid_file)
{
	while (!is_written(pid_file)) {
		if (interruption_signal())
			return fail(EXIT_FAILED, "interrupted by signal %d",
				    interruption_signal());
		if (child_await(child, READY_STEP_MS))
			return child_fail(child, child_wait(child),
					  "cannot serve the image");
	}
	return EXIT_OK;
}

/* Arguments that are made; the server has read them when it is ready. */
struct words {
	char image[IMAGE_PATH_SIZE];
	char *socket;
	char *pid_file;
	char *list;		/* of the ranges */
	char *list_option;
	char *keys_option;
};

static int make_words(struct words *words, const struct serve *serve)
{
	const struct address *address = &serve->address;

	image_format_path(&serve->exports->image, words->image);
	words->socket = address_file(address, "s");
	words->pid_file = address_file(address, "pid");
	words->list = address_file(address, "list");
	if (!words->socket || !words->pid_file || !words->list)
		return EXIT_FAILED;
	if (asprintf(&words->list_option, "extentlist=%s", words->list) < 0)
		words->list_option = NULL;
	if (asprintf(&words->keys_option, "--tls-psk=%s",
		     address->keys ? address->keys : "") < 0)
		words->keys_option = NULL;
	return words->list_option && words->keys_option ? EXIT_OK : fail_memory();
}

static void free_words(struct words *words)
{
	free(words->socket);
	free(words->pid_file);
	free(words->list);
	free(words->list_option);
	free(words->keys_option);
}

static int start(struct serve *serve, const struct words *words)
{
	const struct address *address = &serve->address;
	const char **argv = serve->argv;
	size_t i = 0;
	int ret;

	argv[i++] = "nbdkit";
	argv[i++] = "--foreground";
	argv[i++] = "--readonly";
	argv[i++] = "--filter=extentlist";
	argv[i++] = "--pidfile";
	argv[i++] = words->pid_file;

	if (address->host) {
		argv[i++] = "--ipaddr";
		argv[i++] = address->host;
		argv[i++] = "--port";
		argv[i++] = address->port;
		argv[i++] = "--tls=require";
		argv[i++] = words->keys_option;
	} else {
		argv[i++] = "--unix";
		argv[i++] = words->socket;
	}
	argv[i++] = "file";
	argv[i++] = words->image;
	argv[i++] = words->list_option;
	argv[i] = NULL;
	ret = child_start(&serve->child, argv, -1);
	return ret ? ret : wait_until_ready(&serve->child, words->pid_file);
}

/**
 * serve_changes_only() - start to serve an image, with only the changes allocated
 * @serve:	what, and where; the address is open, and there is one export with a
 *		base
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message; there may be a child in any
 *	   case.
 */
int serve_changes_only(struct serve *serve)
{
	struct words words = { 0 };
	int ret;

	ret = make_words(&words, serve);
	if (!ret)
		ret = write_list(&serve->exports->extents, words.list);
	if (!ret)
		ret = start(serve, &words);
	if (!ret && !serve->address.host)
		ret = address_publish(&serve->address, words.socket);
	free_words(&words);
	return ret;
}
