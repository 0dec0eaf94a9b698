// SPDX-License-Identifier: GPL-2.0
/*
 * Writing and reading the layers of a backup
 *
 * Both go through the disk from its beginning to its end, in steps that do not
 * cross a multiple of 1 MiB, so a step lies in one piece that has a checksum.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <blksnap/blksnap.h>

#include "layer.h"
#include "layer_reader.h"
#include "message.h"
#include "summing.h"

#define STEP_BYTES QCOW_BUFFER_BYTES

/* Rarely enough to cost nothing, often enough to leave little for the end. */
#define WRITE_BACK_BYTES (16ULL << 20)

/* How many of the next ranges are read ahead. */
#define PREFETCH_RANGES 8

/**
 * layer_read_fd() - read from a device or file
 * @source:	has the descriptor
 * @data:	gets the data
 * @nr_bytes:	how much
 * @offset:	from where
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int layer_read_fd(const struct layer_source *source, void *data,
		  size_t nr_bytes, uint64_t offset)
{
	size_t done = 0;
	ssize_t nr;

	while (done < nr_bytes) {
		nr = pread(source->fd, (char *)data + done, nr_bytes - done,
			   offset + done);
		if (nr < 0 && errno == EINTR && !interruption_signal())
			continue;
		if (nr <= 0)
			return fail_errno(nr ? errno : EIO,
					  "cannot read '%s' at %ju",
					  source->name,
					  (uintmax_t)offset + done);
		done += nr;
	}
	return EXIT_OK;
}

/**
 * layer_prefetch_fd() - have a device or file read ahead
 * @source:	has the descriptor
 * @nr_bytes:	how much will be wanted
 * @offset:	from where
 *
 * From then on the kernel finds out by itself how the range goes on.
 */
void layer_prefetch_fd(const struct layer_source *source, uint64_t nr_bytes,
		       uint64_t offset)
{
	posix_fadvise(source->fd, offset,
		      nr_bytes < STEP_BYTES ? nr_bytes : STEP_BYTES,
		      POSIX_FADV_WILLNEED);
}

static bool is_zero(const unsigned char *data, size_t nr_bytes)
{
	return !data[0] && !memcmp(data, data + 1, nr_bytes - 1);
}

/* The end of the disk may be less than what has to be written at once. */
static size_t padded(const struct layer_copy *copy, size_t nr_bytes)
{
	nr_bytes += copy->write_bytes - 1;
	return nr_bytes - nr_bytes % copy->write_bytes;
}

static int put_data(const struct layer_copy *copy, struct summing *summing,
		    struct qcow_buffer *buffer, size_t from, size_t nr_bytes,
		    uint64_t offset)
{
	int ret;

	buffer->summed_at = summing_add(summing, buffer->data + from, nr_bytes,
					offset);
	ret = extents_append(&copy->map->data, offset >> BLKSNAP_SECTOR_SHIFT,
			     (offset + nr_bytes) >> BLKSNAP_SECTOR_SHIFT);
	memset(buffer->data + from + nr_bytes, 0,
	       padded(copy, nr_bytes) - nr_bytes);
	if (!ret)
		ret = qcow_write(buffer, from, padded(copy, nr_bytes), offset);
	return ret;
}

static int put_zeros(const struct layer_copy *copy, size_t nr_bytes,
		     uint64_t offset)
{
	int ret;

	ret = extents_append(&copy->map->zeros, offset >> BLKSNAP_SECTOR_SHIFT,
			     (offset + nr_bytes) >> BLKSNAP_SECTOR_SHIFT);
	/* Without layers below, what is not written is zero. */
	if (!ret && copy->keep_zeros)
		ret = qcow_zero(copy->to, padded(copy, nr_bytes), offset);
	return ret;
}

/* Up to the next place where looking for zeros begins anew. */
static size_t unit_end(const struct layer_copy *copy, uint64_t offset,
		       size_t pos, size_t nr_bytes)
{
	size_t end = pos + copy->zero_bytes -
		     (offset + pos) % copy->zero_bytes;

	return end < nr_bytes ? end : nr_bytes;
}

/* Splits the contents of the buffer into runs of data and of zeros. */
static int put_buffer(const struct layer_copy *copy, struct summing *summing,
		      struct qcow_buffer *buffer, size_t nr_bytes,
		      uint64_t offset)
{
	size_t from = 0, pos, end;
	int ret = EXIT_OK;
	bool zero;

	while (from < nr_bytes && !ret) {
		end = unit_end(copy, offset, from, nr_bytes);
		zero = is_zero(buffer->data + from, end - from);
		for (pos = end; pos < nr_bytes; pos = end) {
			end = unit_end(copy, offset, pos, nr_bytes);
			if (is_zero(buffer->data + pos, end - pos) != zero)
				break;
		}
		if (zero)
			ret = put_zeros(copy, pos - from, offset + from);
		else
			ret = put_data(copy, summing, buffer, from, pos - from,
				       offset + from);
		from = pos;
	}
	return ret;
}

static size_t step_bytes(uint64_t offset, uint64_t end)
{
	uint64_t nr = STEP_BYTES - offset % STEP_BYTES;

	return nr < end - offset ? nr : end - offset;
}

static int copy_step(const struct layer_copy *copy, struct summing *summing,
		     const struct layer_source *source, size_t nr_bytes,
		     uint64_t offset)
{
	struct qcow_buffer *buffer = qcow_take_buffer(copy->to);
	int ret;

	if (!buffer)
		return EXIT_FAILED;
	summing_wait(summing, buffer->summed_at);
	ret = source->read(source, buffer->data, nr_bytes, offset);
	return ret ? ret : put_buffer(copy, summing, buffer, nr_bytes, offset);
}

/*
 * The disk writes while more is read, and not only when all is there.  Whether it
 * can does not matter: the file is brought to the disk at the end.
 */
static void write_back(const struct layer_copy *copy, size_t nr_bytes)
{
	if (copy->progress->done_bytes % WRITE_BACK_BYTES < nr_bytes)
		sync_file_range(copy->to_fd, 0, 0, SYNC_FILE_RANGE_WRITE);
}

static int copy_range(const struct layer_copy *copy, struct summing *summing,
		      const struct layer_source *source,
		      const struct blk_snap_block_range *range)
{
	uint64_t offset = range->sector_offset << BLKSNAP_SECTOR_SHIFT;
	uint64_t end = offset + (range->sector_count << BLKSNAP_SECTOR_SHIFT);
	int ret = EXIT_OK;
	size_t nr;

	for (; offset < end && !ret; offset += nr) {
		nr = step_bytes(offset, end);
		if (source->is_zero && source->is_zero(source, nr, offset))
			ret = put_zeros(copy, nr, offset);
		else
			ret = copy_step(copy, summing, source, nr, offset);
		if (!ret)
			ret = progress_add(copy->progress, nr);
		write_back(copy, nr);
	}
	return ret;
}

/* Ranges are read ahead from @next on, while the one before @end is copied. */
static void prefetch(const struct layer_copy *copy,
		     const struct layer_source *source, size_t *next, size_t end)
{
	const struct blk_snap_block_range *ranges = copy->extents->ranges;

	for (; source->prefetch && *next < end &&
	     *next < copy->extents->nr_ranges; ++*next)
		source->prefetch(source,
				 ranges[*next].sector_count << BLKSNAP_SECTOR_SHIFT,
				 ranges[*next].sector_offset << BLKSNAP_SECTOR_SHIFT);
}

/**
 * layer_write() - fill a new layer
 * @copy:	what to copy, and where to
 * @source:	where it comes from
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int layer_write(const struct layer_copy *copy,
		const struct layer_source *source)
{
	struct summing summing;
	size_t i, next = 0;
	int ret, sum_ret;

	ret = summing_begin(&summing, copy->map, copy->key);
	if (ret)
		return ret;
	for (i = 0; i < copy->extents->nr_ranges && !ret; i++) {
		prefetch(copy, source, &next, i + 1 + PREFETCH_RANGES);
		ret = copy_range(copy, &summing, source,
				 &copy->extents->ranges[i]);
	}
	sum_ret = summing_end(&summing);
	return ret ? ret : sum_ret;
}

/* A layer that is being read as a whole. */
struct reading {
	struct layer_reader reader;
	struct layer_sink *sink;
	struct progress *progress;
	void *data;
};

static int read_step(struct reading *r, size_t nr_bytes, uint64_t offset)
{
	int ret = layer_reader_read(&r->reader, r->data, nr_bytes, offset);

	if (!ret && r->sink)
		ret = r->sink->write(r->sink, r->data, nr_bytes, offset);
	if (!ret)
		ret = progress_add(r->progress, nr_bytes);
	return ret;
}

static int read_data(struct reading *r)
{
	const struct extents *extents = &r->reader.map->data;
	const struct blk_snap_block_range *range;
	uint64_t offset, end;
	int ret = EXIT_OK;
	size_t i, nr;

	for (i = 0; i < extents->nr_ranges && !ret; i++) {
		range = &extents->ranges[i];
		offset = range->sector_offset << BLKSNAP_SECTOR_SHIFT;
		end = offset + (range->sector_count << BLKSNAP_SECTOR_SHIFT);
		for (; offset < end && !ret; offset += nr) {
			nr = step_bytes(offset, end);
			ret = read_step(r, nr, offset);
		}
	}
	return ret ? ret : layer_reader_finish(&r->reader);
}

static int write_zeros(const struct reading *r)
{
	const struct extents *extents = &r->reader.map->zeros;
	const struct blk_snap_block_range *range;
	int ret = EXIT_OK;
	size_t i;

	for (i = 0; i < extents->nr_ranges && !ret; i++) {
		range = &extents->ranges[i];
		ret = r->sink->write(r->sink, NULL,
				     range->sector_count << BLKSNAP_SECTOR_SHIFT,
				     range->sector_offset << BLKSNAP_SECTOR_SHIFT);
		if (!ret)
			ret = progress_add(r->progress, 0);
	}
	return ret;
}

/**
 * layer_read() - read a layer, and verify its checksums
 * @map:	its map
 * @path:	its file
 * @key:	what it is encrypted with, NULL if it is not
 * @sink:	gets what the layer decides; NULL only verifies
 * @progress:	counts the data, not the zeros
 * @damaged:	set if the layer is not what it was
 *
 * What is damaged has gone to the sink already when that is found out.
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int layer_read(const struct layer_map *map, const char *path,
	       const struct key *key, struct layer_sink *sink,
	       struct progress *progress, bool *damaged)
{
	struct reading r = {
		.sink = sink,
		.progress = progress,
		.data = aligned_alloc(4096, STEP_BYTES),
	};
	int ret;

	if (!r.data)
		return fail_memory();
	ret = layer_reader_open(&r.reader, map, path, key, damaged);
	if (!ret && sink)
		ret = write_zeros(&r);
	if (!ret)
		ret = read_data(&r);
	layer_reader_close(&r.reader);
	free(r.data);
	return ret;
}
