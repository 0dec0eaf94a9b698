/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Which tracking blocks of an origin changed, and in which interval
 *
 * One byte per tracking block says in which snapshot interval the block last
 * changed; 0 means not since the generation began.  The active map is being
 * written, the frozen map is what it was at the last take and what user space
 * reads.  The interval number starts at 1 and grows with each take.
 *
 * A switch copies page pointers only: both maps share their pages until one of
 * them is marked again.  The marker then gives the *active* map a copy of its
 * own and the old page stays with the frozen map.  So a page that both maps
 * point to is never written.
 *
 * A mark that cannot be made ends the generation, never the write:
 *
 * - lost in the active map: the frozen map is still right, so the generation
 *   goes on until the next switch, which starts a new one.
 * - lost by cbt_map_mark_both(), which is about the frozen map as well:
 *   cbt_map_info() shows at once an interim generation with the number 0, and
 *   the next switch starts a new one.
 *
 * No client can hold on to an interim generation, or find an old number with
 * a new generation: each switch that starts one has an id never shown before,
 * zeroes both maps, and the snapshot it is for has the number 1.  The same
 * happens after the snapshot 255, the last number that fits in a byte.
 *
 * Context: cbt_map_mark() is called for every write, from the submission path:
 * it never sleeps, takes no lock, and in steady state only reads.  It and
 * cbt_map_mark_both() may run concurrently with each other, with themselves and
 * with everything but cbt_map_switch() and cbt_map_destroy().  All other
 * functions are control path and serialised by the caller.  cbt_map_switch()
 * neither allocates nor frees; call cbt_map_reap() when writes go on.
 */
#ifndef BLKSNAP_CBT_MAP_H
#define BLKSNAP_CBT_MAP_H

#include "logic_deps.h"

struct cbt_map;

struct cbt_map_info {
	u64 nr_sectors;		/* capacity the map was made for */
	u32 block_bytes;	/* size of a tracking block */
	u32 nr_blocks;
	uuid_t generation;
	u8 snap_number;		/* of the last take, 0: no frozen map to read */
};

struct cbt_map *cbt_map_create(u64 nr_sectors, unsigned int min_block_shift,
			       u32 max_nr_blocks);
void cbt_map_destroy(struct cbt_map *map);

void cbt_map_mark(struct cbt_map *map, sector_t sector, sector_t nr_sectors);
int cbt_map_mark_both(struct cbt_map *map, sector_t sector, sector_t nr_sectors);

void cbt_map_switch(struct cbt_map *map);
void cbt_map_reap(struct cbt_map *map);

u64 cbt_map_nr_sectors(const struct cbt_map *map);
void cbt_map_info(struct cbt_map *map, struct cbt_map_info *info);
const u8 *cbt_map_frozen_bytes(struct cbt_map *map, u32 offset, u32 *nr_bytes);

#endif /* BLKSNAP_CBT_MAP_H */
