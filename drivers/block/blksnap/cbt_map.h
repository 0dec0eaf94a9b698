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
 * No client can keep using an interim generation, or find an old number with a
 * new generation: a switch that starts one gives it an id never shown before and
 * zeroes both maps, and its snapshot has the number 1.  The same happens after
 * snapshot 255, the last number that fits in a byte.
 *
 * Marks take sectors relative to the device and ignore what is beyond its end.
 *
 * Why a generation began is kept with it: that is why the next backup has to be a full one.
 *
 * Context: cbt_map_mark_short() and cbt_map_mark_nowait() are called for every
 * write, from the filter's callback: they never sleep, take no lock, allocate
 * nothing, and in steady state only read.  All marks may run concurrently with
 * each other and with everything but cbt_map_switch() and cbt_map_destroy();
 * cbt_map_lose() may run during a switch, too.  All other functions are control
 * path and serialised by the caller.  cbt_map_switch() neither allocates nor
 * frees; cbt_map_reap() frees what it left over, when writes go on.
 */
#ifndef BLKSNAP_CBT_MAP_H
#define BLKSNAP_CBT_MAP_H

#include "logic_deps.h"
#include "sparse_map.h"

/* Why a generation began, and the one before ended. */
enum cbt_reason {
	CBT_GOES_ON,		/* it does not end */
	CBT_TRACKED,		/* there was none */
	CBT_RESIZED,		/* the device has another capacity */
	CBT_WRAPPED,		/* the numbers are used up */
	CBT_NO_MEMORY,		/* for a mark */
	CBT_LATE_WRITE,		/* a write of before could not be marked */
	CBT_REPLACED,		/* there is other data on the device */
};

/* Size of the longest name of a reason. */
#define CBT_REASON_BYTES 12

/* For cbt_map.c and the inline function below alone. */
struct cbt_map {
	u64 nr_sectors;
	u64 block_mask;			/* of the sectors of a block */
	unsigned int block_shift;	/* log2 of bytes */
	u32 nr_blocks;
	struct sparse_map active;
	struct sparse_map frozen;

	/* Set by markers without a lock, cleared by a switch. */
	enum cbt_reason lost;	/* why the active map cannot be trusted */
	bool is_frozen_lost;	/* nor can the frozen one */

	/* Changed by a switch only. */
	u8 number;		/* what cbt_map_mark() writes */
	u8 snap_number;		/* of the last take */
	enum cbt_reason began;	/* why the generation did */
	uuid_t generation;
	uuid_t interim_generation;	/* to be shown if is_frozen_lost */

	struct list_head retired;	/* in the pages themselves */
};

struct cbt_map_info {
	u64 nr_sectors;		/* capacity the map was made for */
	u32 block_bytes;	/* size of a tracking block */
	u32 nr_blocks;
	uuid_t generation;
	u8 snap_number;		/* of the last take, 0: no frozen map to read */
	enum cbt_reason began;	/* why the generation did */
	enum cbt_reason ends;	/* why it will with the next switch, if it will */
};

/* What a map holds at the moment. */
struct cbt_map_usage {
	u32 nr_changed;		/* tracking blocks since the last switch */
	u64 memory_bytes;	/* pages and their tables */
};

struct cbt_map *cbt_map_create(u64 nr_sectors, unsigned int min_block_shift,
			       u32 max_nr_blocks, enum cbt_reason began);
void cbt_map_destroy(struct cbt_map *map);

bool cbt_map_mark_nowait(struct cbt_map *map, sector_t sector, sector_t nr_sectors);
void cbt_map_mark(struct cbt_map *map, sector_t sector, sector_t nr_sectors);
void cbt_map_lose(struct cbt_map *map, enum cbt_reason reason);
int cbt_map_mark_both(struct cbt_map *map, sector_t sector, sector_t nr_sectors);

bool cbt_map_switch(struct cbt_map *map);
void cbt_map_reap(struct cbt_map *map);

u64 cbt_map_nr_sectors(const struct cbt_map *map);
void cbt_map_info(struct cbt_map *map, struct cbt_map_info *info);
const char *cbt_reason_name(enum cbt_reason reason);
const u8 *cbt_map_frozen_bytes(struct cbt_map *map, u32 offset, u32 *nr_bytes);
bool cbt_map_add_usage(const struct cbt_map *map, unsigned long index,
		       struct cbt_map_usage *usage);

/*
 * The short way of cbt_map_mark_nowait(), which most writes take: a change within one
 * tracking block whose page may be written.  False, with nothing done, for any other
 * change.
 */
static inline bool cbt_map_mark_short(struct cbt_map *map, sector_t sector,
				      sector_t nr_sectors)
{
	u64 block = sector >> (map->block_shift - SECTOR_SHIFT);
	u8 *page, *byte;

	/* False also for 0 sectors, which wrap around. */
	if (nr_sectors - 1 > (~sector & map->block_mask) || sector >= map->nr_sectors)
		return false;
	page = sparse_map_page(&map->active, block >> PAGE_SHIFT);
	if (!page)
		return false;
	byte = page + offset_in_page(block);
	/*
	 * A page shared with the frozen map has no byte as high as that, except after
	 * snapshot 255, where marks are never read.
	 */
	if (READ_ONCE(*byte) == map->number)
		return true;
	if (page == sparse_map_page(&map->frozen, block >> PAGE_SHIFT))
		return false;
	WRITE_ONCE(*byte, map->number);
	return true;
}

#endif /* BLKSNAP_CBT_MAP_H */
