/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Which blocks of an origin are copied
 *
 * One bit per block, set once and never cleared: the old data of the block is
 * safe, or the block is not part of the image.  Memory for the bits of a range
 * is made by copied_map_populate(), before copied_map_set().  (The engine has a second
 * bitmap, for what is skipped, whose bits are cleared again.)
 *
 * Searching takes no lock and is legal in any context.  A search may miss a bit
 * that is being set.  Callers that change bits serialise among themselves;
 * it orders everything before it, that is the reading of the old data, before
 * the bits, and the bits before every later store of the caller.
 */
#ifndef BLKSNAP_COPIED_MAP_H
#define BLKSNAP_COPIED_MAP_H

#include "logic_deps.h"
#include "sparse_map.h"

#define COPIED_MAP_PAGE_BLOCKS (PAGE_SIZE * BITS_PER_BYTE)

struct copied_map {
	struct sparse_map bits;
};

int copied_map_init(struct copied_map *map, u64 nr_blocks);
void copied_map_exit(struct copied_map *map);
bool copied_map_populate(struct copied_map *map, u64 first, u64 last, gfp_t gfp);
void copied_map_set(struct copied_map *map, u64 first, u64 last);
void copied_map_clear(struct copied_map *map, u64 first, u64 last);
u64 copied_map_next_copied(const struct copied_map *map, u64 first, u64 last);
u64 copied_map_next_uncopied(const struct copied_map *map, u64 first, u64 last);

/* Inline: most writes hit one block and need no search. */
static inline bool copied_map_test(const struct copied_map *map, u64 block)
{
	const unsigned long *bits = sparse_map_page(&map->bits, block / COPIED_MAP_PAGE_BLOCKS);
	unsigned int bit = block % COPIED_MAP_PAGE_BLOCKS;

	return bits && READ_ONCE(bits[bit / BITS_PER_LONG]) & 1UL << bit % BITS_PER_LONG;
}

#endif /* BLKSNAP_COPIED_MAP_H */
