// SPDX-License-Identifier: GPL-2.0
/*
 * Chains of qcow2 files, by qemu-img
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <json.h>

#include "chain.h"
#include "child.h"
#include "message.h"
#include "qemu_file.h"

/* What qemu-img has by default. */
#define CLUSTER_BYTES 65536

/* One in about thirty was seen to fail on a busy machine. */
#define TRIES_MAX 20

/* "qemu-img check" ends with this if the file is wrong; 3 only wastes space. */
#define CHECK_CORRUPT 2
#define CHECK_LEAKS 3

/*
 * How long a key is tried out, in milliseconds: what a guess costs, and each
 * opening of a layer.  QEMU's 2 s would make a minute of the mount of a chain
 * of 30.  For a random key it makes no difference: nobody guesses that.
 */
#define ENCRYPTION \
	"encrypt.format=luks,encrypt.iter-time=200,encrypt.key-secret=" \
	KEY_SECRET
#define SMALL_BLOCKS "extended_l2=on,cluster_size=128k"

/*
 * Clusters of 128K in 32 pieces of 4K, each of which can be absent: 16 MiB in
 * pieces of 4K take 17 MiB, with whole clusters of 64K 254 MiB.
 */
static bool has_small_blocks(const struct chain_file *file)
{
	return file->block_bytes < CLUSTER_BYTES && !file->compress;
}

/**
 * chain_cluster_bytes() - the smallest piece that a file can hold by itself
 * @file:	the file
 *
 * Return: its size in bytes.
 */
uint32_t chain_cluster_bytes(const struct chain_file *file)
{
	return has_small_blocks(file) ? 4096 : CLUSTER_BYTES;
}

/**
 * chain_write_bytes() - what has to be written at once
 * @file:	the file
 *
 * Return: all writes have to be multiples of this size in bytes.
 */
uint32_t chain_write_bytes(const struct chain_file *file)
{
	return file->compress ? CLUSTER_BYTES : 1;
}

/**
 * chain_range_bytes() - what the ranges of a layer have to be multiples of
 * @file:	the file
 *
 * Return: the size in bytes; the end of the disk counts as a multiple.
 */
uint32_t chain_range_bytes(const struct chain_file *file)
{
	return file->key ? chain_cluster_bytes(file) : chain_write_bytes(file);
}

/* While it is written, a file is long enough for the last write. */
static uint64_t padded_size(const struct chain_file *file)
{
	uint64_t nr_bytes = file->nr_bytes + chain_write_bytes(file) - 1;

	return nr_bytes - nr_bytes % chain_write_bytes(file);
}

/*
 * QEMU tries a key out by the time that it takes in user mode, and gives up if
 * that was none, as the kernel may say of a short time.
 */
static bool is_worth_another_try(const struct child *child, int status)
{
	return status && child_says(child, "accurate CPU usage");
}

static int run_child(struct child *child, const char *const *argv, int *status)
{
	int ret = child_start(child, argv, -1);

	if (!ret)
		*status = child_wait(child);
	return ret;
}

static int run(const char *const *argv, const char *what, char **output,
	       int *status)
{
	unsigned int nr_tries = TRIES_MAX;
	struct child child;
	int ret;

	ret = run_child(&child, argv, status);
	while (!ret && is_worth_another_try(&child, *status) && --nr_tries) {
		child_free(&child);
		ret = run_child(&child, argv, status);
	}
	if (!ret) {
		if (*status && *status != CHECK_CORRUPT &&
		    *status != CHECK_LEAKS)
			ret = child_fail(&child, *status, what);
		else if (output)
			*output = child_output(&child);
	}
	child_free(&child);
	return ret;
}

static const char *format_options(const struct chain_file *file)
{
	if (file->key)
		return has_small_blocks(file) ? ENCRYPTION "," SMALL_BLOCKS :
						ENCRYPTION;
	if (has_small_blocks(file))
		return SMALL_BLOCKS;
	return file->compress ? "compression_type=zstd" : NULL;
}

/**
 * chain_create() - create a file that holds nothing yet
 * @file:	what it is to be
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int chain_create(const struct chain_file *file)
{
	const char *argv[20] = { "qemu-img", "create", "-q", "-f", "qcow2" };
	const char *options = format_options(file);
	char size[24];
	int i = 5, ret, status;

	if (file->key) {
		argv[i++] = "--object";
		argv[i++] = file->key->object;
	}
	if (file->backing) {
		argv[i++] = "-F";
		argv[i++] = "qcow2";
		argv[i++] = "-b";
		argv[i++] = file->backing;
	}
	if (options) {
		argv[i++] = "-o";
		argv[i++] = options;
	}
	argv[i++] = "--";
	argv[i++] = file->path;
	snprintf(size, sizeof(size), "%ju", (uintmax_t)padded_size(file));
	argv[i++] = size;
	ret = run(argv, "cannot create a file", NULL, &status);
	if (!ret && status)
		ret = fail(EXIT_FAILED, "qemu-img cannot create '%s'",
			   file->path);
	return ret;
}

/**
 * chain_finish() - give a file that was written its size
 * @file:	the file
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int chain_finish(const struct chain_file *file)
{
	char size[24];
	const char *const argv[] = { "qemu-img", "resize", "-q", "--shrink",
				     "-f", "qcow2", "--", file->path, size,
				     NULL };
	int ret, status;

	if (padded_size(file) == file->nr_bytes)
		return EXIT_OK;
	snprintf(size, sizeof(size), "%ju", (uintmax_t)file->nr_bytes);
	ret = run(argv, "cannot cut a file to its size", NULL, &status);
	if (!ret && status)
		ret = fail(EXIT_FAILED, "qemu-img cannot cut '%s' to its size",
			   file->path);
	return ret;
}

/**
 * chain_check() - check the structure of a file
 * @path:	the file
 * @key:	what it is encrypted with, NULL if it is not
 * @damaged:	set if it is wrong, left alone otherwise
 *
 * Return: EXIT_OK if it could be checked, or EXIT_FAILED after a message.
 */
int chain_check(const char *path, const struct key *key, bool *damaged)
{
	const char *argv[8] = { "qemu-img", "check", "-q" };
	char *name = qemu_name_alone(path, key);
	int i = 3, ret, status;

	if (!name)
		return fail_memory();
	if (key) {
		argv[i++] = "--object";
		argv[i++] = key->object;
	}
	argv[i++] = "--";
	argv[i++] = name;
	ret = run(argv, "cannot check a file", NULL, &status);
	if (!ret && status == CHECK_CORRUPT)
		*damaged = true;
	free(name);
	return ret;
}

/* Of a value three objects down, if they are all there. */
static bool has_zstd(struct json_object *info)
{
	return json_object_object_get_ex(info, "format-specific", &info) &&
	       json_object_object_get_ex(info, "data", &info) &&
	       json_object_object_get_ex(info, "compression-type", &info) &&
	       !strcmp(json_object_get_string(info), "zstd");
}

static int parse_header(struct json_object *info, struct chain_header *header)
{
	struct json_object *name;

	header->compress = has_zstd(info);
	if (!json_object_object_get_ex(info, "backing-filename", &name))
		return EXIT_OK;
	header->backing = strdup(json_object_get_string(name));
	return header->backing ? EXIT_OK : fail_memory();
}

/**
 * chain_read_header() - which file is a file based on, and how was it made?
 * @path:	the file
 * @header:	gets what its header says
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int chain_read_header(const char *path, struct chain_header *header)
{
	const char *const argv[] = { "qemu-img", "info", "--output=json", "-f",
				     "qcow2", "--", path, NULL };
	struct json_object *info;
	char *output = NULL;
	int ret, status;

	*header = (struct chain_header) { 0 };
	ret = run(argv, "cannot read the header of a file", &output, &status);
	if (ret)
		return ret;
	info = output ? json_tokener_parse(output) : NULL;
	free(output);
	if (!info)
		return fail(EXIT_FAILED, "cannot read the header of '%s'",
			    path);
	ret = parse_header(info, header);
	json_object_put(info);
	return ret;
}
