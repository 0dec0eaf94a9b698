// SPDX-License-Identifier: GPL-2.0
/*
 * Reading a stream of "rbd export-diff", version 1
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "message.h"
#include "rbd_diff.h"

#define TITLE "rbd diff v1\n"

static int fail_cut(const struct rbd_diff *diff)
{
	if (ferror(diff->file))
		return fail_errno(errno, "cannot read the diff");
	return fail(EXIT_FAILED, "the diff is cut: it ends before its last record");
}

static int get(struct rbd_diff *diff, void *data, size_t nr_bytes)
{
	if (fread(data, 1, nr_bytes, diff->file) == nr_bytes)
		return EXIT_OK;
	return fail_cut(diff);
}

static int get_u64(struct rbd_diff *diff, uint64_t *value)
{
	int ret = get(diff, value, sizeof(*value));

	*value = le64toh(*value);
	return ret;
}

static int get_name(struct rbd_diff *diff, char name[RBD_DIFF_NAME_SIZE])
{
	uint32_t length;
	int ret;

	ret = get(diff, &length, sizeof(length));
	if (ret)
		return ret;
	length = le32toh(length);
	if (length >= RBD_DIFF_NAME_SIZE)
		return fail(EXIT_FAILED,
			    "the diff is damaged: a name of a snapshot has %u bytes",
			    length);
	name[length] = 0;
	return get(diff, name, length);
}

static int get_tag(struct rbd_diff *diff)
{
	diff->tag = getc(diff->file);
	return diff->tag == EOF ? fail_cut(diff) : EXIT_OK;
}

/**
 * rbd_diff_begin() - read what a diff is about
 * @diff:	gets it
 * @file:	the stream, at its beginning
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int rbd_diff_begin(struct rbd_diff *diff, FILE *file)
{
	char title[sizeof(TITLE) - 1];
	bool has_size = false;
	int ret;

	*diff = (struct rbd_diff) { .file = file };
	if (fread(title, 1, sizeof(title), file) != sizeof(title) ||
	    memcmp(title, TITLE, sizeof(title)))
		return fail(EXIT_FAILED,
			    "what comes in is no diff of version 1, as 'blksnap export --format rbd-diff' and 'rbd export-diff' write it");
	for (;;) {
		ret = get_tag(diff);
		if (!ret && diff->tag == 'f') {
			ret = get_name(diff, diff->from);
		} else if (!ret && diff->tag == 't') {
			ret = get_name(diff, diff->to);
		} else if (!ret && diff->tag == 's') {
			ret = get_u64(diff, &diff->nr_bytes);
			has_size = true;
		} else if (!ret && !has_size) {
			return fail(EXIT_FAILED,
				    "the diff is damaged: it has no size of the disk");
		} else {
			return ret;
		}
		if (ret)
			return ret;
	}
}

static int pass_data(struct rbd_diff *diff, struct layer_sink *sink,
		     uint64_t nr_bytes, uint64_t offset,
		     struct progress *progress)
{
	unsigned char *buffer = malloc(QCOW_BUFFER_BYTES);
	int ret = buffer ? EXIT_OK : fail_memory();
	size_t nr;

	for (; nr_bytes && !ret; nr_bytes -= nr, offset += nr) {
		nr = nr_bytes < QCOW_BUFFER_BYTES ? nr_bytes :
						    QCOW_BUFFER_BYTES;
		ret = get(diff, buffer, nr);
		if (!ret)
			ret = sink->write(sink, buffer, nr, offset);
		if (!ret)
			ret = progress_add(progress, nr);
	}
	free(buffer);
	return ret;
}

static int pass_record(struct rbd_diff *diff, struct layer_sink *sink,
		       uint64_t *done, struct progress *progress)
{
	uint64_t offset, nr_bytes;
	int ret;

	if (diff->tag != 'w' && diff->tag != 'z')
		return fail(EXIT_FAILED,
			    "the diff is damaged: it has a record of type %d",
			    diff->tag);
	ret = get_u64(diff, &offset);
	if (!ret)
		ret = get_u64(diff, &nr_bytes);
	if (ret)
		return ret;
	if (offset < *done || offset > diff->nr_bytes ||
	    nr_bytes > diff->nr_bytes - offset)
		return fail(EXIT_FAILED,
			    "the diff is damaged: a record is behind the end of the disk, or not in order");
	*done = offset + nr_bytes;
	if (diff->tag == 'w')
		return pass_data(diff, sink, nr_bytes, offset, progress);
	ret = sink->write(sink, NULL, nr_bytes, offset);
	return ret ? ret : progress_add(progress, 0);
}

/**
 * rbd_diff_read() - read data and zeros, up to the end
 * @diff:	has begun
 * @sink:	gets them, in the order of the disk
 * @progress:	counts
 *
 * Return: EXIT_OK if all of it was there, or EXIT_FAILED after a message.
 */
int rbd_diff_read(struct rbd_diff *diff, struct layer_sink *sink,
		  struct progress *progress)
{
	uint64_t done = 0;
	int ret = EXIT_OK;

	while (!ret && diff->tag != 'e') {
		ret = pass_record(diff, sink, &done, progress);
		if (!ret)
			ret = get_tag(diff);
	}
	return ret;
}
