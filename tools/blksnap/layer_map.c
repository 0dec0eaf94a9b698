// SPDX-License-Identifier: GPL-2.0
/*
 * What a layer of a backup holds
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <blksnap/blksnap.h>

#include "layer_map.h"
#include "message.h"

#define MAP_TITLE "blksnap-layer 1\n"

/**
 * extents_append() - add a range behind the others, joined if they touch
 * @extents:	the ranges
 * @start:	first sector, not before the end of the last range
 * @end:	the sector behind the last one
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int extents_append(struct extents *extents, uint64_t start, uint64_t end)
{
	struct blk_snap_block_range *last;

	if (extents->nr_ranges) {
		last = &extents->ranges[extents->nr_ranges - 1];
		if (last->sector_offset + last->sector_count == start) {
			last->sector_count += end - start;
			extents->nr_sectors += end - start;
			return EXIT_OK;
		}
	}
	return extents_add(extents, start, end);
}

static int add_clipped(struct extents *out,
		       const struct blk_snap_block_range *range)
{
	uint64_t start = range->sector_offset;
	uint64_t end = start + range->sector_count;
	uint64_t last_end = 0;

	if (out->nr_ranges) {
		range = &out->ranges[out->nr_ranges - 1];
		last_end = range->sector_offset + range->sector_count;
	}
	if (start < last_end)
		start = last_end;
	return start < end ? extents_append(out, start, end) : EXIT_OK;
}

/**
 * extents_unite() - add all of other ranges, which may overlap
 * @all:	ranges in order; gets the union, also in order
 * @more:	other ranges in order
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int extents_unite(struct extents *all, const struct extents *more)
{
	struct extents out = { 0 };
	size_t a = 0, b = 0;
	int ret = EXIT_OK;

	while (!ret && (a < all->nr_ranges || b < more->nr_ranges)) {
		if (b == more->nr_ranges ||
		    (a < all->nr_ranges && all->ranges[a].sector_offset <
					   more->ranges[b].sector_offset))
			ret = add_clipped(&out, &all->ranges[a++]);
		else
			ret = add_clipped(&out, &more->ranges[b++]);
	}
	if (ret) {
		extents_free(&out);
		return ret;
	}
	extents_free(all);
	*all = out;
	return EXIT_OK;
}

/* What of a range is not in @less, where the search begins at @next. */
static int add_remainder(struct extents *out,
			 const struct blk_snap_block_range *range,
			 const struct extents *less, size_t *next)
{
	const struct blk_snap_block_range *l = less->ranges;
	const uint64_t end = range->sector_offset + range->sector_count;
	uint64_t start = range->sector_offset;
	int ret = EXIT_OK;
	size_t i;

	while (*next < less->nr_ranges &&
	       l[*next].sector_offset + l[*next].sector_count <= start)
		++*next;
	for (i = *next; i < less->nr_ranges && l[i].sector_offset < end && !ret;
	     i++) {
		if (l[i].sector_offset > start)
			ret = extents_append(out, start, l[i].sector_offset);
		start = l[i].sector_offset + l[i].sector_count;
	}
	if (!ret && start < end)
		ret = extents_append(out, start, end);
	return ret;
}

/**
 * extents_subtract() - remove all of other ranges
 * @all:	ranges in order; gets what is left
 * @less:	other ranges in order
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int extents_subtract(struct extents *all, const struct extents *less)
{
	struct extents out = { 0 };
	size_t i, next = 0;
	int ret = EXIT_OK;

	for (i = 0; i < all->nr_ranges && !ret; i++)
		ret = add_remainder(&out, &all->ranges[i], less, &next);
	extents_free(all);
	*all = out;
	return ret;
}

/**
 * layer_map_add_piece() - note the checksum of a piece
 * @map:	the map
 * @index:	number of the piece, greater than those before
 * @sum:	checksum of the data in it
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int layer_map_add_piece(struct layer_map *map, uint64_t index, const char *sum)
{
	struct layer_piece *pieces;

	pieces = reallocarray(map->pieces, map->nr_pieces + 1,
			      sizeof(*pieces));
	if (!pieces)
		return fail_memory();
	map->pieces = pieces;
	pieces[map->nr_pieces].index = index;
	memcpy(pieces[map->nr_pieces].sum, sum, CHECKSUM_TEXT_SIZE);
	map->nr_pieces++;
	return EXIT_OK;
}

static int compare_pieces(const void *a, const void *b)
{
	const struct layer_piece *x = a, *y = b;

	return x->index < y->index ? -1 : x->index > y->index;
}

/**
 * layer_map_find_piece() - find the checksum of a piece
 * @map:	the map
 * @index:	number of the piece
 *
 * Return: the piece, NULL if the map has none with this number.
 */
const struct layer_piece *layer_map_find_piece(const struct layer_map *map,
					       uint64_t index)
{
	const struct layer_piece key = { .index = index };

	if (!map->nr_pieces)
		return NULL;
	return bsearch(&key, map->pieces, map->nr_pieces, sizeof(key),
		       compare_pieces);
}

static void print_ranges(FILE *file, const char *word,
			 const struct extents *extents)
{
	size_t i;

	for (i = 0; i < extents->nr_ranges; i++)
		fprintf(file, "%s %llu %llu\n", word,
			(unsigned long long)extents->ranges[i].sector_offset,
			(unsigned long long)extents->ranges[i].sector_count);
}

static bool print_map(const struct layer_map *map, FILE *file)
{
	size_t i;

	fprintf(file, MAP_TITLE "capacity %ju\n", (uintmax_t)map->nr_sectors);
	print_ranges(file, "data", &map->data);
	print_ranges(file, "zero", &map->zeros);
	print_ranges(file, "free", &map->free);
	for (i = 0; i < map->nr_pieces; i++)
		fprintf(file, "sha256 %ju %s\n",
			(uintmax_t)map->pieces[i].index, map->pieces[i].sum);
	return !fflush(file) && !ferror(file);
}

/* Its own checksum is kept in the catalogue. */
static bool sum_file(FILE *file, char sum[CHECKSUM_TEXT_SIZE])
{
	struct checksum checksum = { 0 };
	char buffer[65536];
	size_t nr;
	bool ok;

	rewind(file);
	checksum_begin(&checksum);
	while ((nr = fread(buffer, 1, sizeof(buffer), file)))
		checksum_add(&checksum, buffer, nr);
	ok = !ferror(file) && checksum_end(&checksum, sum);
	checksum_free(&checksum);
	return ok;
}

/**
 * layer_map_save() - write a map to a file, and the file to the disk
 * @map:	the map
 * @path:	the file, which is created or overwritten
 * @sum:	gets its checksum
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int layer_map_save(const struct layer_map *map, const char *path,
		   char sum[CHECKSUM_TEXT_SIZE])
{
	FILE *file = fopen(path, "w+e");
	bool ok;

	if (!file)
		return fail_errno(errno, "cannot create '%s'", path);
	ok = print_map(map, file) && !fsync(fileno(file)) &&
	     sum_file(file, sum);
	if (fclose(file) || !ok)
		return fail_errno(errno, "cannot write '%s'", path);
	return EXIT_OK;
}

/* A line of the file.  Its checksum was right, so this is for other versions. */
static bool parse_line(struct layer_map *map, const char *line)
{
	unsigned long long start, count;
	char sum[CHECKSUM_TEXT_SIZE];

	if (sscanf(line, "capacity %llu", &start) == 1) {
		map->nr_sectors = start;
		return true;
	}
	if (sscanf(line, "data %llu %llu", &start, &count) == 2)
		return !extents_append(&map->data, start, start + count);
	if (sscanf(line, "zero %llu %llu", &start, &count) == 2)
		return !extents_append(&map->zeros, start, start + count);
	if (sscanf(line, "free %llu %llu", &start, &count) == 2)
		return !extents_append(&map->free, start, start + count);
	if (sscanf(line, "sha256 %llu %64[0-9a-f]", &start, sum) == 2)
		return !layer_map_add_piece(map, start, sum);
	return false;
}

static bool parse_map(struct layer_map *map, FILE *file)
{
	char line[128];
	bool ok;

	rewind(file);
	ok = fgets(line, sizeof(line), file) && !strcmp(line, MAP_TITLE);
	while (ok && fgets(line, sizeof(line), file))
		ok = parse_line(map, line);
	return ok && !ferror(file);
}

/**
 * layer_map_load() - read a map
 * @map:	gets it; to be freed by layer_map_free() in any case
 * @path:	the file
 * @sum:	what its checksum has to be
 * @damaged:	set if the file is missing or is not what it was
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int layer_map_load(struct layer_map *map, const char *path, const char *sum,
		   bool *damaged)
{
	char actual[CHECKSUM_TEXT_SIZE];
	FILE *file = fopen(path, "re");
	int ret = EXIT_OK;

	*map = (struct layer_map) { 0 };
	if (!file) {
		*damaged = errno == ENOENT;
		return fail_errno(errno, "cannot open '%s'", path);
	}
	if (!sum_file(file, actual)) {
		ret = fail_errno(errno, "cannot read '%s'", path);
	} else if (strcmp(actual, sum)) {
		*damaged = true;
		ret = fail(EXIT_FAILED,
			   "'%s' is damaged: its checksum is not the one in the catalogue",
			   path);
	} else if (!parse_map(map, file)) {
		ret = fail(EXIT_FAILED,
			   "'%s' cannot be understood; a newer version of blksnap may have written it",
			   path);
	}
	fclose(file);
	return ret;
}

/**
 * layer_map_free() - forget a map
 * @map:	the map
 */
void layer_map_free(struct layer_map *map)
{
	extents_free(&map->data);
	extents_free(&map->zeros);
	extents_free(&map->free);
	free(map->pieces);
	*map = (struct layer_map) { 0 };
}
