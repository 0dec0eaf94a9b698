/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A large byte array whose pages appear on first use
 *
 * Change maps and copied bitmaps are as large as their device but mostly
 * zero, so only a table of page pointers is allocated at once.  A missing
 * page reads as zeros.  A page, once installed, stays until the map's owner
 * replaces it or sparse_map_exit() frees it.
 *
 * Installing is lock-free (cmpxchg), so every function but _init() and _exit() may be
 * called from any context that its gfp flags allow, concurrently with itself.
 */
#ifndef BLKSNAP_SPARSE_MAP_H
#define BLKSNAP_SPARSE_MAP_H

#include "logic_deps.h"

struct sparse_map {
	unsigned long nr_pages;
	void **pages;	/* NULL entry: a page of zeros */
};

int sparse_map_init(struct sparse_map *map, u64 nr_bytes);
void sparse_map_exit(struct sparse_map *map);
void *sparse_map_populate(struct sparse_map *map, unsigned long index, gfp_t gfp);
void *sparse_map_replace(struct sparse_map *map, unsigned long index, const void *old,
			 gfp_t gfp);
void sparse_map_free_page(void *page);

/*
 * The page with number @index, or NULL while it is all zeros.  The cmpxchg in
 * sparse_map_replace() orders the filling of a page before its installation;
 * here the address dependency is the other half.
 */
static inline void *sparse_map_page(const struct sparse_map *map, unsigned long index)
{
	return READ_ONCE(map->pages[index]);
}

#endif /* BLKSNAP_SPARSE_MAP_H */
