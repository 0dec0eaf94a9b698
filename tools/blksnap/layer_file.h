/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Writing the files of a layer
 */
#ifndef LAYER_FILE_H
#define LAYER_FILE_H

#include "catalogue.h"
#include "chain.h"
#include "layer.h"

int layer_file_write(const struct chain_file *file,
		     const struct layer_source *source,
		     const struct extents *extents, struct layer_map *map,
		     struct progress *progress);
int layer_file_describe(struct catalogue_disk *entry,
			const struct layer_map *map, const char *sum,
			const char *path);
int layer_file_round(struct extents *extents, const struct chain_file *file);

#endif /* LAYER_FILE_H */
