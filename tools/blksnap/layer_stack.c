// SPDX-License-Identifier: GPL-2.0
/*
 * Layers of one disk that lie one on the other
 */
#include <stdlib.h>

#include <blksnap/blksnap.h>

#include "layer_stack.h"
#include "message.h"

static int load_layer(struct layer_stack *stack, size_t i,
		      const struct catalogue *catalogue)
{
	const struct catalogue_disk *layer = stack->layers[i];
	char *path = catalogue_path(catalogue, layer->map);
	bool damaged = false;
	int ret;

	stack->paths[i] = catalogue_path(catalogue, layer->file);
	ret = path && stack->paths[i] ?
		      layer_map_load(&stack->maps[i], path, layer->map_sha256,
				     &damaged) : fail_memory();
	free(path);
	stack->data_bytes += stack->maps[i].data.nr_sectors
			     << BLKSNAP_SECTOR_SHIFT;
	return damaged ? EXIT_DAMAGED : ret;
}

/**
 * layer_stack_unlock() - find out whether layers can be opened with the key
 * @catalogue:	the catalogue
 * @top:	the topmost layer; those below have the same key
 *
 * Return: EXIT_OK; EXIT_USAGE if a key is missing, EXIT_FAILED if it is the
 *	   wrong one, both after a message.
 */
int layer_stack_unlock(const struct catalogue *catalogue,
		       const struct catalogue_disk *top)
{
	struct qcow *qcow;
	char *path;
	int ret;

	if (!top->encrypted)
		return EXIT_OK;
	if (!catalogue->key->file)
		return fail(EXIT_USAGE,
			    "'%s/%s' is encrypted; give the file with its key by --key-file",
			    catalogue->dir, top->file);
	path = catalogue_path(catalogue, top->file);
	if (!path)
		return fail_memory();
	ret = qcow_open(&qcow, path, catalogue->key, QCOW_READ_LAYER);
	if (!ret)
		qcow_abort(qcow);
	free(path);
	return ret;
}

/**
 * layer_stack_load() - look for layers, load their maps, and try the key out
 * @stack:	gets them; to be freed by layer_stack_free() in any case
 * @catalogue:	the catalogue
 * @top:	the topmost layer
 * @bottom:	the lowest one; NULL for the full one
 *
 * Return: EXIT_OK; EXIT_DAMAGED, or as layer_stack_unlock(), after a message.
 */
int layer_stack_load(struct layer_stack *stack,
		     const struct catalogue *catalogue,
		     const struct catalogue_disk *top,
		     const struct catalogue_disk *bottom)
{
	const struct catalogue_disk *d;
	size_t nr = 0, i;
	int ret;

	for (d = top; d; d = d == bottom ? NULL : catalogue_below(catalogue, d))
		nr++;
	*stack = (struct layer_stack) {
		.layers = calloc(nr, sizeof(*stack->layers)),
		.maps = calloc(nr, sizeof(*stack->maps)),
		.paths = calloc(nr, sizeof(*stack->paths)),
		.key = catalogue_key(catalogue, top),
	};
	if (!stack->layers || !stack->maps || !stack->paths)
		return fail_memory();
	stack->nr_layers = nr;
	for (i = nr, d = top; i--; d = catalogue_below(catalogue, d))
		stack->layers[i] = d;
	ret = catalogue_check_files(catalogue, top, bottom);
	for (i = 0; i < nr && !ret; i++)
		ret = load_layer(stack, i, catalogue);
	return ret ? ret : layer_stack_unlock(catalogue, top);
}

/**
 * layer_stack_extents() - find what the layers decide together
 * @stack:	the layers
 * @extents:	gets the ranges, data as well as zeros; freed by the caller in
 *		any case
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int layer_stack_extents(const struct layer_stack *stack,
			struct extents *extents)
{
	int ret = EXIT_OK;
	size_t i;

	for (i = 0; i < stack->nr_layers && !ret; i++) {
		ret = extents_unite(extents, &stack->maps[i].data);
		if (!ret)
			ret = extents_unite(extents, &stack->maps[i].zeros);
	}
	return ret;
}

/**
 * layer_stack_flatten() - find what one layer in the place of all would decide
 * @stack:	the layers
 * @data:	gets the ranges with data; freed by the caller in any case
 * @zeros:	gets those that are zero, likewise
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int layer_stack_flatten(const struct layer_stack *stack, struct extents *data,
			struct extents *zeros)
{
	const struct layer_map *map;
	int ret = EXIT_OK;
	size_t i;

	for (i = 0; i < stack->nr_layers && !ret; i++) {
		map = &stack->maps[i];
		ret = extents_subtract(data, &map->zeros);
		if (!ret)
			ret = extents_unite(data, &map->data);
		if (!ret)
			ret = extents_subtract(zeros, &map->data);
		if (!ret)
			ret = extents_unite(zeros, &map->zeros);
	}
	return ret;
}

/**
 * layer_stack_free() - forget layers
 * @stack:	the layers
 */
void layer_stack_free(struct layer_stack *stack)
{
	size_t i;

	for (i = 0; i < stack->nr_layers; i++) {
		layer_map_free(&stack->maps[i]);
		free(stack->paths[i]);
	}
	free(stack->maps);
	free(stack->paths);
	free(stack->layers);
	*stack = (struct layer_stack) { 0 };
}

/* What is asked for is decided by some layer, so nothing is left unfilled. */
static int read_merged(const struct layer_source *source, void *data,
		       size_t nr_bytes, uint64_t offset)
{
	struct layer_merge *merge = source->merge;
	int ret = EXIT_OK;
	size_t i;

	for (i = 0; i < merge->nr_readers && !ret; i++)
		ret = layer_reader_fill(&merge->readers[i], data, nr_bytes,
					offset);
	return ret;
}

static bool is_zero_in_all(const struct layer_source *source, size_t nr_bytes,
			   uint64_t offset)
{
	struct layer_merge *merge = source->merge;
	size_t i;

	for (i = 0; i < merge->nr_readers; i++) {
		if (layer_reader_has_data(&merge->readers[i], nr_bytes, offset))
			return false;
	}
	return true;
}

/**
 * layer_merge_open() - open all layers
 * @merge:	to be given to layer_merge_close() in any case; its source gives
 *		what they hold together, in the order of the disk
 * @stack:	the layers, kept until then; a process is started for each
 * @damaged:	set if a layer is not what it was, now or later
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int layer_merge_open(struct layer_merge *merge, const struct layer_stack *stack,
		     bool *damaged)
{
	int ret = EXIT_OK;
	size_t i;

	*merge = (struct layer_merge) {
		.source = {
			.read = read_merged,
			.is_zero = is_zero_in_all,
			.merge = merge,
			.fd = -1,
		},
		.readers = calloc(stack->nr_layers, sizeof(*merge->readers)),
	};
	if (!merge->readers)
		return fail_memory();
	merge->nr_readers = stack->nr_layers;
	for (i = 0; i < stack->nr_layers && !ret; i++)
		ret = layer_reader_open(&merge->readers[i], &stack->maps[i],
					stack->paths[i], stack->key, damaged);
	return ret;
}

/**
 * layer_merge_finish() - verify what was read last
 * @merge:	all of it was read
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int layer_merge_finish(struct layer_merge *merge)
{
	int ret = EXIT_OK;
	size_t i;

	for (i = 0; i < merge->nr_readers && !ret; i++)
		ret = layer_reader_finish(&merge->readers[i]);
	return ret;
}

/**
 * layer_merge_close() - close all layers
 * @merge:	the merge
 */
void layer_merge_close(struct layer_merge *merge)
{
	size_t i;

	for (i = 0; i < merge->nr_readers; i++)
		layer_reader_close(&merge->readers[i]);
	free(merge->readers);
	*merge = (struct layer_merge) { 0 };
}

/* A stack on its way to a sink. */
struct stream {
	struct layer_merge merge;
	struct extents all;
	struct extents data;	/* what the sink gets as such */
	struct extents zeros;
	size_t next_data;
	size_t next_zeros;
	struct layer_sink *sink;
	unsigned char *buffer;
};

/* The part from @offset on that lies in the next range of @extents, if it does. */
static uint64_t part_end(const struct extents *extents, size_t *next,
			 uint64_t offset, uint64_t end)
{
	const struct blk_snap_block_range *range;
	uint64_t range_end;

	for (; *next < extents->nr_ranges; ++*next) {
		range = &extents->ranges[*next];
		range_end = (range->sector_offset + range->sector_count)
			    << BLKSNAP_SECTOR_SHIFT;
		if (range_end <= offset)
			continue;
		if (range->sector_offset << BLKSNAP_SECTOR_SHIFT > offset)
			return offset;
		return range_end < end ? range_end : end;
	}
	return offset;
}

/* Each part is either data or zeros. */
static int give_parts(struct stream *s, uint64_t begin, uint64_t end)
{
	uint64_t offset, to;
	const void *data;
	int ret = EXIT_OK;

	for (offset = begin; offset < end && !ret; offset = to) {
		data = s->buffer + (offset - begin);
		to = part_end(&s->data, &s->next_data, offset, end);
		if (to == offset) {
			data = NULL;
			to = part_end(&s->zeros, &s->next_zeros, offset, end);
		}
		ret = s->sink->write(s->sink, data, to - offset, offset);
	}
	return ret;
}

static int stream_range(struct stream *s,
			const struct blk_snap_block_range *range,
			struct progress *progress)
{
	const struct layer_source *source = &s->merge.source;
	uint64_t offset = range->sector_offset << BLKSNAP_SECTOR_SHIFT;
	uint64_t end = offset + (range->sector_count << BLKSNAP_SECTOR_SHIFT);
	uint64_t to;
	int ret = EXIT_OK;

	for (; offset < end && !ret; offset = to) {
		to = offset - offset % QCOW_BUFFER_BYTES + QCOW_BUFFER_BYTES;
		if (to > end)
			to = end;
		if (!source->is_zero(source, to - offset, offset))
			ret = source->read(source, s->buffer, to - offset,
					   offset);
		if (!ret)
			ret = give_parts(s, offset, to);
		if (!ret)
			ret = progress_add(progress, to - offset);
	}
	return ret;
}

static int stream_all(struct stream *s, struct progress *progress)
{
	int ret = EXIT_OK;
	size_t i;

	for (i = 0; i < s->all.nr_ranges && !ret; i++)
		ret = stream_range(s, &s->all.ranges[i], progress);
	return ret ? ret : layer_merge_finish(&s->merge);
}

/**
 * layer_stack_stream() - give what layers hold together to a sink
 * @stack:	the layers
 * @sink:	gets data and zeros in the order of the disk, at most
 *		QCOW_BUFFER_BYTES at once
 * @progress:	counts, not yet begun
 * @damaged:	set if a layer is not what it was
 *
 * What is damaged has gone to the sink already when that is found out.
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int layer_stack_stream(const struct layer_stack *stack, struct layer_sink *sink,
		       struct progress *progress, bool *damaged)
{
	struct stream s = {
		.sink = sink,
		.buffer = aligned_alloc(4096, QCOW_BUFFER_BYTES),
	};
	int ret;

	ret = s.buffer ? layer_stack_extents(stack, &s.all) : fail_memory();
	if (!ret)
		ret = layer_stack_flatten(stack, &s.data, &s.zeros);
	if (!ret)
		ret = layer_merge_open(&s.merge, stack, damaged);
	if (!ret) {
		progress_begin(progress, stack->layers[0]->disk,
			       s.all.nr_sectors << BLKSNAP_SECTOR_SHIFT);
		ret = stream_all(&s, progress);
		progress_end(progress);
	}
	layer_merge_close(&s.merge);
	extents_free(&s.all);
	extents_free(&s.data);
	extents_free(&s.zeros);
	free(s.buffer);
	return ret;
}
