// SPDX-License-Identifier: GPL-2.0
/*
 * A disk of a backup in the formats of others
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <json.h>

#include <blksnap/blksnap.h>

#include "checksum.h"
#include "export.h"
#include "message.h"
#include "output.h"

#define BMAP_BLOCK_BYTES 4096

/* One range of those that are data and those that are zeros, in order. */
struct area {
	const struct blk_snap_block_range *range;
	bool zero;
};

struct areas {
	struct extents data;
	struct extents zeros;
	size_t next_data;
	size_t next_zeros;
};

static bool next_area(struct areas *areas, struct area *area)
{
	const struct extents *data = &areas->data, *zeros = &areas->zeros;

	if (areas->next_data == data->nr_ranges &&
	    areas->next_zeros == zeros->nr_ranges)
		return false;
	area->zero = areas->next_data == data->nr_ranges ||
		     (areas->next_zeros < zeros->nr_ranges &&
		      zeros->ranges[areas->next_zeros].sector_offset <
		      data->ranges[areas->next_data].sector_offset);
	area->range = area->zero ? &zeros->ranges[areas->next_zeros++] :
				   &data->ranges[areas->next_data++];
	return true;
}

/* Without a base, what is not listed is zero, so zeros need not be. */
static int find_areas(const struct export *export, struct areas *areas)
{
	int ret = layer_stack_flatten(export->stack, &areas->data,
				      &areas->zeros);

	if (!export->base)
		extents_free(&areas->zeros);
	return ret;
}

static void free_areas(struct areas *areas)
{
	extents_free(&areas->data);
	extents_free(&areas->zeros);
}

/**
 * export_ranges() - write a line for each range: START COUNT data|zero
 * @export:	what and where to
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int export_ranges(const struct export *export)
{
	struct areas areas = { 0 };
	struct area area;
	int ret;

	ret = find_areas(export, &areas);
	while (!ret && next_area(&areas, &area))
		fprintf(export->file, "%llu %llu %s\n",
			(unsigned long long)area.range->sector_offset,
			(unsigned long long)area.range->sector_count,
			area.zero ? "zero" : "data");
	free_areas(&areas);
	return ret;
}

/* What a client gives back to get what changed since; opaque to it. */
static void add_change_id(struct json_object *object, const char *key,
			  const struct catalogue_disk *disk)
{
	char *text;

	if (asprintf(&text, "%s/%ju", disk->generation,
		     (uintmax_t)disk->snap_number) < 0)
		return;
	add_text(object, key, text);
	free(text);
}

static struct json_object *areas_to_json(struct areas *areas)
{
	struct json_object *list = json_object_new_array();
	struct json_object *row;
	struct area area;

	while (next_area(areas, &area)) {
		row = json_object_new_object();
		add_number(row, "byte_offset",
			   area.range->sector_offset << BLKSNAP_SECTOR_SHIFT);
		add_number(row, "size_bytes",
			   area.range->sector_count << BLKSNAP_SECTOR_SHIFT);
		json_object_object_add(row, "zero",
				       json_object_new_boolean(area.zero));
		json_object_array_add(list, row);
	}
	return list;
}

/**
 * export_json() - write the ranges in bytes, as orchestrators have them
 * @export:	what and where to
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int export_json(const struct export *export)
{
	struct json_object *object = json_object_new_object();
	struct areas areas = { 0 };
	int ret;

	ret = find_areas(export, &areas);
	add_text(object, "disk", export->disk->disk);
	add_number(object, "point", export->number);
	add_change_id(object, "change_id", export->disk);
	if (export->base) {
		add_number(object, "base_point", export->base_number);
		add_change_id(object, "base_change_id", export->base);
	}
	add_text(object, "block_metadata_type", "VARIABLE_LENGTH");
	add_number(object, "volume_capacity_bytes",
		   export->disk->capacity_bytes);
	json_object_object_add(object, "block_metadata", areas_to_json(&areas));
	if (!ret)
		fprintf(export->file, "%s\n",
			json_object_to_json_string_ext(object,
						       JSON_C_TO_STRING_PRETTY |
						       JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(object);
	free_areas(&areas);
	return ret;
}

/* Gets the data of a stack; what it is to be written as is in the file. */
struct export_sink {
	struct layer_sink sink;
	const struct export *export;
	FILE *file;
	uint32_t block_bytes;
	struct checksum sum;		/* of the range that is open */
	uint64_t begin;
	uint64_t end;			/* 0: none is open */
	uint64_t nr_blocks;
};

static int end_range(struct export_sink *s)
{
	char sum[CHECKSUM_TEXT_SIZE];
	uint64_t first, last;

	if (!s->end)
		return EXIT_OK;
	if (!checksum_end(&s->sum, sum))
		return fail_memory();
	first = s->begin / s->block_bytes;
	last = (s->end - 1) / s->block_bytes;
	fprintf(s->file, "        <Range chksum=\"%s\"> %ju", sum,
		(uintmax_t)first);
	if (last > first)
		fprintf(s->file, "-%ju", (uintmax_t)last);
	fputs(" </Range>\n", s->file);
	s->nr_blocks += last - first + 1;
	s->end = 0;
	return EXIT_OK;
}

static void add_zeros(struct checksum *sum, uint64_t nr_bytes)
{
	static const unsigned char zeros[QCOW_BUFFER_BYTES];

	checksum_add(sum, zeros, nr_bytes);
}

static int put_bmap(struct layer_sink *sink, const void *data,
		    uint64_t nr_bytes, uint64_t offset)
{
	struct export_sink *s = (struct export_sink *)sink;
	int ret = EXIT_OK;

	if (!data && !s->export->base)
		return EXIT_OK;
	if (s->end != offset)
		ret = end_range(s);
	if (ret)
		return ret;
	if (!s->end) {
		checksum_begin(&s->sum);
		s->begin = offset;
	}
	if (data)
		checksum_add(&s->sum, data, nr_bytes);
	else
		add_zeros(&s->sum, nr_bytes);
	s->end = offset + nr_bytes;
	return EXIT_OK;
}

static bool is_aligned(const struct extents *extents, uint64_t nr_sectors)
{
	const uint64_t unit = BMAP_BLOCK_BYTES >> BLKSNAP_SECTOR_SHIFT;
	const struct blk_snap_block_range *range = extents->ranges;
	uint64_t end;
	size_t i;

	for (i = 0; i < extents->nr_ranges; i++, range++) {
		end = range->sector_offset + range->sector_count;
		if (range->sector_offset % unit ||
		    (end % unit && end != nr_sectors))
			return false;
	}
	return true;
}

/*
 * Tracking blocks may be smaller than those of a map, and so may be the blocks of a
 * filesystem that tell what is used.
 */
static int find_block_bytes(const struct export *export, uint32_t *block_bytes)
{
	const uint64_t nr_sectors = export->disk->capacity_bytes >>
				    BLKSNAP_SECTOR_SHIFT;
	struct areas areas = { 0 };
	int ret = find_areas(export, &areas);

	*block_bytes = is_aligned(&areas.data, nr_sectors) &&
		       is_aligned(&areas.zeros, nr_sectors) ?
			       BMAP_BLOCK_BYTES : 1 << BLKSNAP_SECTOR_SHIFT;
	free_areas(&areas);
	return ret;
}

static void print_bmap(const struct export_sink *s, const char *ranges,
		       const char *sum, FILE *file)
{
	const uint64_t nr_bytes = s->export->disk->capacity_bytes;

	fprintf(file,
		"<?xml version=\"1.0\" ?>\n"
		"<bmap version=\"2.0\">\n"
		"    <ImageSize> %ju </ImageSize>\n"
		"    <BlockSize> %u </BlockSize>\n"
		"    <BlocksCount> %ju </BlocksCount>\n"
		"    <MappedBlocksCount> %ju </MappedBlocksCount>\n"
		"    <ChecksumType> sha256 </ChecksumType>\n"
		"    <BmapFileChecksum> %s </BmapFileChecksum>\n"
		"    <BlockMap>\n%s    </BlockMap>\n"
		"</bmap>\n",
		(uintmax_t)nr_bytes, s->block_bytes,
		(uintmax_t)(nr_bytes + s->block_bytes - 1) / s->block_bytes,
		(uintmax_t)s->nr_blocks, sum, ranges);
}

/* The file has a checksum of itself, with zeros in the place of that. */
static int finish_bmap(const struct export_sink *s, const char *ranges)
{
	char sum[CHECKSUM_TEXT_SIZE];
	struct checksum checksum = { 0 };
	char *text = NULL;
	size_t size;
	FILE *file = open_memstream(&text, &size);
	bool ok;

	if (!file)
		return fail_memory();
	memset(sum, '0', sizeof(sum) - 1);
	sum[sizeof(sum) - 1] = 0;
	print_bmap(s, ranges, sum, file);
	ok = !fclose(file);
	if (ok) {
		checksum_begin(&checksum);
		checksum_add(&checksum, text, size);
		ok = checksum_end(&checksum, sum);
	}
	checksum_free(&checksum);
	free(text);
	if (!ok)
		return fail_memory();
	print_bmap(s, ranges, sum, s->export->file);
	return EXIT_OK;
}

/**
 * export_bmap() - write a block map with checksums, for bmaptool
 * @export:	what and where to
 *
 * Return: EXIT_OK; EXIT_DAMAGED or EXIT_FAILED after a message.
 */
int export_bmap(const struct export *export)
{
	struct export_sink s = {
		.sink = { .write = put_bmap },
		.export = export,
	};
	bool damaged = false;
	char *ranges = NULL;
	size_t size;
	int ret;

	ret = find_block_bytes(export, &s.block_bytes);
	if (ret)
		return ret;
	s.file = open_memstream(&ranges, &size);
	if (!s.file)
		return fail_memory();
	ret = layer_stack_stream(export->stack, &s.sink, export->progress,
				 &damaged);
	if (!ret)
		ret = end_range(&s);
	if (fclose(s.file) && !ret)
		ret = fail_memory();
	if (!ret)
		ret = finish_bmap(&s, ranges);
	checksum_free(&s.sum);
	free(ranges);
	return damaged ? EXIT_DAMAGED : ret;
}

static void put_u64(FILE *file, uint64_t value)
{
	value = htole64(value);
	fwrite(&value, sizeof(value), 1, file);
}

static void put_snapshot(FILE *file, char tag, uint64_t number)
{
	char name[32];
	uint32_t length = snprintf(name, sizeof(name), "point-%ju",
				   (uintmax_t)number);
	uint32_t length_le = htole32(length);

	putc(tag, file);
	fwrite(&length_le, sizeof(length_le), 1, file);
	fwrite(name, length, 1, file);
}

static int put_rbd_diff(struct layer_sink *sink, const void *data,
			uint64_t nr_bytes, uint64_t offset)
{
	struct export_sink *s = (struct export_sink *)sink;

	if (!data && !s->export->base)
		return EXIT_OK;
	putc(data ? 'w' : 'z', s->file);
	put_u64(s->file, offset);
	put_u64(s->file, nr_bytes);
	if (data)
		fwrite(data, nr_bytes, 1, s->file);
	return ferror(s->file) ? fail_errno(errno, "cannot write the result") :
				 EXIT_OK;
}

/**
 * export_rbd_diff() - write a diff for "rbd import-diff", version 1
 * @export:	what and where to
 *
 * The last record is missing if something is wrong, so no reader takes it for
 * whole.
 *
 * Return: EXIT_OK; EXIT_DAMAGED or EXIT_FAILED after a message.
 */
int export_rbd_diff(const struct export *export)
{
	struct export_sink s = {
		.sink = { .write = put_rbd_diff },
		.export = export,
		.file = export->file,
	};
	bool damaged = false;
	int ret;

	fputs("rbd diff v1\n", s.file);
	if (export->base)
		put_snapshot(s.file, 'f', export->base_number);
	put_snapshot(s.file, 't', export->number);
	putc('s', s.file);
	put_u64(s.file, export->disk->capacity_bytes);
	ret = layer_stack_stream(export->stack, &s.sink, export->progress,
				 &damaged);
	if (!ret)
		putc('e', s.file);
	return damaged ? EXIT_DAMAGED : ret;
}
