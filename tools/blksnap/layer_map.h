/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a layer of a backup holds
 *
 * A layer is one qcow2 file of a chain.  Its map lists the ranges that the layer
 * decides: those with data, and those that are zeros.  Everything else is as in
 * the layers below.  For each piece of 64 MiB of the disk in which there is
 * data, the map has the checksum of that data, in order.  So each layer can be
 * verified by itself, and zeros need not be read.  Free is what was left out of
 * a backup because the filesystem did not use it; what the chain has there is not
 * what the disk had.
 *
 * The map is a text file beside the layer:
 *
 *	blksnap-layer 1
 *	capacity SECTORS
 *	data START COUNT
 *	zero START COUNT
 *	free START COUNT
 *	sha256 PIECE DIGITS
 */
#ifndef LAYER_MAP_H
#define LAYER_MAP_H

#include <stdbool.h>
#include <stdint.h>

#include "extents.h"
#include "checksum.h"

#define LAYER_PIECE_SHIFT 26 /* 64 MiB */

struct layer_piece {
	uint64_t index;
	char sum[CHECKSUM_TEXT_SIZE];
};

struct layer_map {
	uint64_t nr_sectors;
	struct extents data;
	struct extents zeros;
	struct extents free;	/* of the disk at that time; not known from here */
	struct layer_piece *pieces;	/* in order of their index */
	size_t nr_pieces;
};

int extents_append(struct extents *extents, uint64_t start, uint64_t end);
int extents_unite(struct extents *all, const struct extents *more);
int extents_subtract(struct extents *all, const struct extents *less);

int layer_map_add_piece(struct layer_map *map, uint64_t index,
			const char *sum);
const struct layer_piece *layer_map_find_piece(const struct layer_map *map,
					       uint64_t index);
int layer_map_save(const struct layer_map *map, const char *path,
		   char sum[CHECKSUM_TEXT_SIZE]);
int layer_map_load(struct layer_map *map, const char *path, const char *sum,
		   bool *damaged);
void layer_map_free(struct layer_map *map);

#endif /* LAYER_MAP_H */
