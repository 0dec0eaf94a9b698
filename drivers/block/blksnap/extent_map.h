/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Where the copied parts of an origin are stored
 *
 * Maps runs of origin sectors to positions in the difference storage.  Extents
 * never overlap and are never removed before extent_map_exit(); an extent is
 * merged with a neighbour if it continues that one both on the origin and in the
 * storage, unless the sum is too long.  extent_free() is for an extent that was not
 * inserted.  All are freed before extent_map_module_exit().
 *
 * Not locked: callers serialise.  Nothing here sleeps except extent_alloc(),
 * according to its gfp flags, and extent_map_exit().
 */
#ifndef BLKSNAP_EXTENT_MAP_H
#define BLKSNAP_EXTENT_MAP_H

#include "logic_deps.h"

/* A device has at most 2^63 bytes, and storage is not larger than that. */
#define EXTENT_SECTOR_BITS 54U
/* The longest run that is one extent: what the two numbers in 64 bits each leave free. */
#define EXTENT_MAX_SECTORS ((1U << 2 * (64 - EXTENT_SECTOR_BITS)) - 1)

struct extent;

struct extent_map {
	struct rb_root root;	/* of struct extent, by first origin sector */
	unsigned long nr_extents;
};

/**
 * struct extent_piece - what a lookup found
 * @nr_sectors:	length of the piece, at most what was asked for
 * @position:	sector in the difference storage, meaningless for a hole
 * @is_stored:	false if the piece is a hole between extents
 */
struct extent_piece {
	sector_t nr_sectors;
	u64 position;
	bool is_stored;
};

int extent_map_module_init(void);
void extent_map_module_exit(void);

struct extent *extent_alloc(gfp_t gfp);
void extent_free(struct extent *extent);

void extent_map_init(struct extent_map *map);
void extent_map_exit(struct extent_map *map);
void extent_map_insert(struct extent_map *map, struct extent *extent,
		       sector_t sector, sector_t nr_sectors, u64 position);
void extent_map_lookup(const struct extent_map *map, sector_t sector,
		       sector_t nr_sectors, struct extent_piece *piece);

#endif /* BLKSNAP_EXTENT_MAP_H */
