/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Layers of one disk that lie one on the other
 *
 * What each of them decides covers what those below it have.  A merge reads
 * them all at once, in the order of the disk, and each verifies its checksums on
 * the way: it is the source of a new layer, or of a stream.
 */
#ifndef LAYER_STACK_H
#define LAYER_STACK_H

#include "catalogue.h"
#include "layer.h"
#include "layer_reader.h"

struct layer_stack {
	const struct catalogue_disk **layers;	/* from the lowest up */
	struct layer_map *maps;
	char **paths;
	const struct key *key;	/* of all of them, NULL if they have none */
	size_t nr_layers;
	uint64_t data_bytes;
};

struct layer_merge {
	struct layer_source source;
	struct layer_reader *readers;	/* from the lowest up */
	size_t nr_readers;
};

int layer_stack_unlock(const struct catalogue *catalogue,
		       const struct catalogue_disk *top);
int layer_stack_load(struct layer_stack *stack,
		     const struct catalogue *catalogue,
		     const struct catalogue_disk *top,
		     const struct catalogue_disk *bottom);
int layer_stack_extents(const struct layer_stack *stack,
			struct extents *extents);
int layer_stack_flatten(const struct layer_stack *stack, struct extents *data,
			struct extents *zeros);
int layer_stack_stream(const struct layer_stack *stack, struct layer_sink *sink,
		       struct progress *progress, bool *damaged);
void layer_stack_free(struct layer_stack *stack);

int layer_merge_open(struct layer_merge *merge, const struct layer_stack *stack,
		     bool *damaged);
int layer_merge_finish(struct layer_merge *merge);
void layer_merge_close(struct layer_merge *merge);

#endif /* LAYER_STACK_H */
