// SPDX-License-Identifier: GPL-2.0
/*
 * Writing and reading the layers of a backup
 *
 * Both go through the disk from its beginning to its end, in steps that do not
 * cross a multiple of 1 MiB, so a step lies in one piece that has a checksum.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "blksnap_ioctl.h"
#include "layer.h"
#include "message.h"

#define STEP_BYTES QCOW_BUFFER_BYTES

/* The piece whose checksum is being computed. */
struct piece {
	struct checksum sum;
	bool open;
	uint64_t index;
};

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
 * layer_read_qcow() - read from a chain
 * @source:	has the open file
 * @data:	gets the data
 * @nr_bytes:	how much, at most QCOW_BUFFER_BYTES
 * @offset:	from where
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int layer_read_qcow(const struct layer_source *source, void *data,
		    size_t nr_bytes, uint64_t offset)
{
	return qcow_read(source->qcow, data, nr_bytes, offset);
}

static bool is_zero(const unsigned char *data, size_t nr_bytes)
{
	return !data[0] && !memcmp(data, data + 1, nr_bytes - 1);
}

static int end_piece(struct layer_map *map, struct piece *piece)
{
	char sum[CHECKSUM_TEXT_SIZE];

	if (!piece->open)
		return EXIT_OK;
	piece->open = false;
	if (!checksum_end(&piece->sum, sum))
		return fail_memory();
	return layer_map_add_piece(map, piece->index, sum);
}

static bool piece_ends(const struct piece *piece, uint64_t offset)
{
	return piece->open && piece->index != offset >> LAYER_PIECE_SHIFT;
}

static void piece_add(struct piece *piece, const void *data, size_t nr_bytes,
		      uint64_t offset)
{
	if (!piece->open) {
		checksum_begin(&piece->sum);
		piece->open = true;
		piece->index = offset >> LAYER_PIECE_SHIFT;
	}
	checksum_add(&piece->sum, data, nr_bytes);
}

/* The end of the disk may be less than what has to be written at once. */
static size_t padded(const struct layer_copy *copy, size_t nr_bytes)
{
	nr_bytes += copy->write_bytes - 1;
	return nr_bytes - nr_bytes % copy->write_bytes;
}

static int put_data(const struct layer_copy *copy, struct piece *piece,
		    struct qcow_buffer *buffer, size_t from, size_t nr_bytes,
		    uint64_t offset)
{
	int ret = EXIT_OK;

	if (piece_ends(piece, offset))
		ret = end_piece(copy->map, piece);
	piece_add(piece, buffer->data + from, nr_bytes, offset);
	if (!ret)
		ret = extents_append(&copy->map->data,
				     offset >> BLKSNAP_SECTOR_SHIFT,
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
static int put_buffer(const struct layer_copy *copy, struct piece *piece,
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
			ret = put_data(copy, piece, buffer, from, pos - from,
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

static int copy_range(const struct layer_copy *copy, struct piece *piece,
		      const struct layer_source *source,
		      const struct blk_snap_block_range *range)
{
	uint64_t offset = range->sector_offset << BLKSNAP_SECTOR_SHIFT;
	uint64_t end = offset + (range->sector_count << BLKSNAP_SECTOR_SHIFT);
	struct qcow_buffer *buffer;
	int ret = EXIT_OK;
	size_t nr;

	for (; offset < end && !ret; offset += nr) {
		nr = step_bytes(offset, end);
		buffer = qcow_take_buffer(copy->to);
		if (!buffer)
			return EXIT_FAILED;
		ret = source->read(source, buffer->data, nr, offset);
		if (!ret)
			ret = put_buffer(copy, piece, buffer, nr, offset);
		if (!ret)
			ret = progress_add(copy->progress, nr);
	}
	return ret;
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
	struct piece piece = { 0 };
	int ret = EXIT_OK;
	size_t i;

	for (i = 0; i < copy->extents->nr_ranges && !ret; i++)
		ret = copy_range(copy, &piece, source,
				 &copy->extents->ranges[i]);
	if (!ret)
		ret = end_piece(copy->map, &piece);
	checksum_free(&piece.sum);
	return ret;
}

/* A layer that is being read, and the piece that is being summed up. */
struct reading {
	const struct layer_map *map;
	const char *path;
	struct layer_sink *sink;
	struct progress *progress;
	struct piece piece;
	bool *damaged;
	struct qcow *qcow;
	void *data;
};

static int check_piece(struct reading *r)
{
	const struct layer_piece *piece;
	char sum[CHECKSUM_TEXT_SIZE];

	if (!r->piece.open)
		return EXIT_OK;
	r->piece.open = false;
	if (!checksum_end(&r->piece.sum, sum))
		return fail_memory();
	piece = layer_map_find_piece(r->map, r->piece.index);
	if (piece && !strcmp(piece->sum, sum))
		return EXIT_OK;
	*r->damaged = true;
	return fail(EXIT_FAILED,
		    "'%s' is damaged: wrong checksum of the 64 MiB at %ju",
		    r->path, (uintmax_t)r->piece.index << LAYER_PIECE_SHIFT);
}

static int read_step(struct reading *r, size_t nr_bytes, uint64_t offset)
{
	int ret = EXIT_OK;

	if (piece_ends(&r->piece, offset))
		ret = check_piece(r);
	if (!ret)
		ret = qcow_read(r->qcow, r->data, nr_bytes, offset);
	if (ret)
		return ret;
	piece_add(&r->piece, r->data, nr_bytes, offset);
	if (r->sink)
		ret = r->sink->write(r->sink, r->data, nr_bytes, offset);
	if (!ret)
		ret = progress_add(r->progress, nr_bytes);
	return ret;
}

static int read_data(struct reading *r)
{
	const struct blk_snap_block_range *range;
	uint64_t offset, end;
	int ret = EXIT_OK;
	size_t i, nr;

	for (i = 0; i < r->map->data.nr_ranges && !ret; i++) {
		range = &r->map->data.ranges[i];
		offset = range->sector_offset << BLKSNAP_SECTOR_SHIFT;
		end = offset + (range->sector_count << BLKSNAP_SECTOR_SHIFT);
		for (; offset < end && !ret; offset += nr) {
			nr = step_bytes(offset, end);
			ret = read_step(r, nr, offset);
		}
	}
	return ret ? ret : check_piece(r);
}

static int write_zeros(const struct reading *r)
{
	const struct blk_snap_block_range *range;
	int ret = EXIT_OK;
	size_t i;

	for (i = 0; i < r->map->zeros.nr_ranges && !ret; i++) {
		range = &r->map->zeros.ranges[i];
		ret = r->sink->write(r->sink, NULL,
				     range->sector_count << BLKSNAP_SECTOR_SHIFT,
				     range->sector_offset << BLKSNAP_SECTOR_SHIFT);
		if (!ret)
			ret = progress_add(r->progress, 0);
	}
	return ret;
}

static int check_size(const struct reading *r)
{
	if (qcow_nr_bytes(r->qcow) == r->map->nr_sectors << BLKSNAP_SECTOR_SHIFT)
		return EXIT_OK;
	*r->damaged = true;
	return fail(EXIT_FAILED,
		    "'%s' is damaged: the disk in it has another size",
		    r->path);
}

/**
 * layer_read() - read a layer, and verify its checksums
 * @map:	its map
 * @path:	its file
 * @sink:	gets what the layer decides; NULL only verifies
 * @progress:	counts the data, not the zeros
 * @damaged:	set if the layer is not what it was
 *
 * What is damaged has gone to the sink already when that is found out.
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int layer_read(const struct layer_map *map, const char *path,
	       struct layer_sink *sink, struct progress *progress,
	       bool *damaged)
{
	struct reading r = {
		.map = map,
		.path = path,
		.sink = sink,
		.progress = progress,
		.damaged = damaged,
	};
	int ret;

	ret = qcow_open(&r.qcow, path, QCOW_READ_LAYER);
	if (ret)
		return ret;
	r.data = aligned_alloc(4096, STEP_BYTES);
	ret = r.data ? check_size(&r) : fail_memory();
	if (!ret && sink)
		ret = write_zeros(&r);
	if (!ret)
		ret = read_data(&r);
	checksum_free(&r.piece.sum);
	free(r.data);
	if (ret)
		qcow_abort(r.qcow);
	else
		ret = qcow_close(r.qcow);
	return ret;
}
