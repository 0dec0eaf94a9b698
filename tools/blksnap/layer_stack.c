// SPDX-License-Identifier: GPL-2.0
/*
 * Layers of one disk that lie one on the other
 */
#include <stdlib.h>

#include "blksnap_ioctl.h"
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
 * layer_stack_load() - list layers, and load their maps
 * @stack:	gets them; to be freed by layer_stack_free() in any case
 * @catalogue:	the catalogue
 * @top:	the topmost layer
 * @bottom:	the lowest one; NULL for the full one
 *
 * Return: EXIT_OK; EXIT_DAMAGED or EXIT_FAILED after a message.
 */
int layer_stack_load(struct layer_stack *stack,
		     const struct catalogue *catalogue,
		     const struct catalogue_disk *top,
		     const struct catalogue_disk *bottom)
{
	const struct catalogue_disk *d;
	size_t nr = 0, i;
	int ret = EXIT_OK;

	for (d = top; d; d = d == bottom ? NULL : catalogue_below(catalogue, d))
		nr++;
	*stack = (struct layer_stack) {
		.layers = calloc(nr, sizeof(*stack->layers)),
		.maps = calloc(nr, sizeof(*stack->maps)),
		.paths = calloc(nr, sizeof(*stack->paths)),
	};
	if (!stack->layers || !stack->maps || !stack->paths)
		return fail_memory();
	stack->nr_layers = nr;
	for (i = nr, d = top; i--; d = catalogue_below(catalogue, d))
		stack->layers[i] = d;
	for (i = 0; i < nr && !ret; i++)
		ret = load_layer(stack, i, catalogue);
	return ret;
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
					stack->paths[i], damaged);
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
