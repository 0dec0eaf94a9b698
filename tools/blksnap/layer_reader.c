// SPDX-License-Identifier: GPL-2.0
/*
 * Reading a layer from its beginning to its end
 */
#include <string.h>

#include <blksnap/blksnap.h>

#include "damage.h"
#include "layer_reader.h"
#include "message.h"

static void note_damage(const struct layer_reader *r)
{
	*r->damaged = true;
	damage_mark(r->path);
}

static int check_size(const struct layer_reader *r)
{
	if (qcow_nr_bytes(r->qcow) == r->map->nr_sectors << BLKSNAP_SECTOR_SHIFT)
		return EXIT_OK;
	note_damage(r);
	return fail(EXIT_FAILED,
		    "'%s' is damaged: the disk in it has another size",
		    r->path);
}

/**
 * layer_reader_open() - open a layer
 * @reader:	to be given to layer_reader_close() in any case
 * @map:	its map, kept until then
 * @path:	its file, kept until then
 * @key:	what it is encrypted with, NULL if it is not; likewise
 * @damaged:	set if the layer is not what it was, now or later
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int layer_reader_open(struct layer_reader *reader, const struct layer_map *map,
		      const char *path, const struct key *key, bool *damaged)
{
	int ret;

	*reader = (struct layer_reader) {
		.map = map,
		.path = path,
		.piece.key = key,
		.damaged = damaged,
	};
	ret = qcow_open(&reader->qcow, path, key, QCOW_READ_LAYER);
	if (ret)
		reader->qcow = NULL;
	return ret ? ret : check_size(reader);
}

static int check_piece(struct layer_reader *r)
{
	const struct layer_piece *piece;
	char sum[CHECKSUM_TEXT_SIZE];
	int ret;

	if (!r->piece.open)
		return EXIT_OK;
	ret = piece_end(&r->piece, sum);
	if (ret)
		return ret;
	piece = layer_map_find_piece(r->map, r->piece.index);
	if (piece && !strcmp(piece->sum, sum))
		return EXIT_OK;
	note_damage(r);
	return fail(EXIT_FAILED,
		    "'%s' is damaged: wrong checksum of the 64 MiB at %ju",
		    r->path, (uintmax_t)r->piece.index << LAYER_PIECE_SHIFT);
}

/**
 * layer_reader_read() - read data, all of which is in the layer
 * @reader:	the layer
 * @data:	gets it
 * @nr_bytes:	how much, at most QCOW_BUFFER_BYTES and in one piece
 * @offset:	where it is on the disk, behind what was read before
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int layer_reader_read(struct layer_reader *reader, void *data, size_t nr_bytes,
		      uint64_t offset)
{
	int ret = EXIT_OK;

	if (piece_ends(&reader->piece, offset))
		ret = check_piece(reader);
	if (!ret)
		ret = qcow_read(reader->qcow, data, nr_bytes, offset);
	if (!ret)
		piece_add(&reader->piece, data, nr_bytes, offset);
	return ret;
}

/* What of a range lies between @begin and @end; is there any? */
static bool clip_range(const struct blk_snap_block_range *range, uint64_t begin,
		       uint64_t end, uint64_t *from, uint64_t *to)
{
	*from = range->sector_offset << BLKSNAP_SECTOR_SHIFT;
	*to = *from + (range->sector_count << BLKSNAP_SECTOR_SHIFT);
	if (*from < begin)
		*from = begin;
	if (*to > end)
		*to = end;
	return *from < *to;
}

/* The first range that does not lie before @offset; @next is where to begin. */
static size_t skip_ranges(const struct extents *extents, size_t next,
			  uint64_t offset)
{
	const struct blk_snap_block_range *r = extents->ranges;

	while (next < extents->nr_ranges &&
	       (r[next].sector_offset + r[next].sector_count)
		       << BLKSNAP_SECTOR_SHIFT <= offset)
		next++;
	return next;
}

/**
 * layer_reader_fill() - read what the layer decides of a part of the disk
 * @reader:	the layer
 * @data:	gets it; what the layer does not decide is left alone
 * @nr_bytes:	how much, at most QCOW_BUFFER_BYTES and in one piece
 * @offset:	where it is on the disk, behind what was read before
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int layer_reader_fill(struct layer_reader *reader, void *data, size_t nr_bytes,
		      uint64_t offset)
{
	const struct layer_map *map = reader->map;
	const uint64_t end = offset + nr_bytes;
	uint64_t from, to;
	int ret = EXIT_OK;
	size_t i;

	reader->next_zeros = skip_ranges(&map->zeros, reader->next_zeros, offset);
	for (i = reader->next_zeros; i < map->zeros.nr_ranges &&
	     clip_range(&map->zeros.ranges[i], offset, end, &from, &to); i++)
		memset((char *)data + (from - offset), 0, to - from);
	reader->next_data = skip_ranges(&map->data, reader->next_data, offset);
	for (i = reader->next_data; i < map->data.nr_ranges && !ret &&
	     clip_range(&map->data.ranges[i], offset, end, &from, &to); i++)
		ret = layer_reader_read(reader, (char *)data + (from - offset),
					to - from, from);
	return ret;
}

/**
 * layer_reader_has_data() - has the layer data in a part of the disk?
 * @reader:	the layer
 * @nr_bytes:	size of the part
 * @offset:	where it is on the disk, behind what was read before
 *
 * Return: false if there are only zeros, or nothing.
 */
bool layer_reader_has_data(struct layer_reader *reader, size_t nr_bytes,
			   uint64_t offset)
{
	const struct extents *data = &reader->map->data;
	uint64_t from, to;

	reader->next_data = skip_ranges(data, reader->next_data, offset);
	return reader->next_data < data->nr_ranges &&
	       clip_range(&data->ranges[reader->next_data], offset,
			  offset + nr_bytes, &from, &to);
}

/**
 * layer_reader_finish() - verify what was read last
 * @reader:	the layer
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int layer_reader_finish(struct layer_reader *reader)
{
	struct qcow *qcow = reader->qcow;
	int ret = check_piece(reader);

	if (ret)
		return ret;
	reader->qcow = NULL;
	return qcow_close(qcow);
}

/**
 * layer_reader_close() - close a layer that may not have been read to its end
 * @reader:	the layer; zeros are as good
 */
void layer_reader_close(struct layer_reader *reader)
{
	qcow_abort(reader->qcow);
	checksum_free(&reader->piece.sum);
	*reader = (struct layer_reader) { 0 };
}
