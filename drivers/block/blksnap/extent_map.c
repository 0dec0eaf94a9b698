// SPDX-License-Identifier: GPL-2.0
/*
 * Where the copied parts of an origin are stored
 *
 * A red-black tree of extents.  There may be millions of them when the writes
 * are small and scattered, so an extent is small, comes from a slab cache of
 * its own, and is merged with its neighbours where both the origin's sectors
 * and the positions go on without a gap, up to a length of EXTENT_MAX_SECTORS.
 */
#include "extent_map.h"

/*
 * The length is in the bits that the two numbers leave free.  Mind that the sum of a
 * bit-field and a smaller type is no wider than the bit-field.
 */
#define EXTENT_NR_HALF_BITS (64 - EXTENT_SECTOR_BITS)

struct extent {
	struct rb_node rb;
	u64 nr_high : EXTENT_NR_HALF_BITS;
	u64 sector : EXTENT_SECTOR_BITS;	/* first on the origin */
	u64 nr_low : EXTENT_NR_HALF_BITS;
	u64 position : EXTENT_SECTOR_BITS;	/* of that sector in the storage */
};

static struct kmem_cache *extent_cache;

int extent_map_module_init(void)
{
	extent_cache = kmem_cache_create("blksnap_extent", sizeof(struct extent),
					 __alignof__(struct extent), 0, NULL);
	return extent_cache ? 0 : -ENOMEM;
}

void extent_map_module_exit(void)
{
	kmem_cache_destroy(extent_cache);
}

struct extent *extent_alloc(gfp_t gfp)
{
	return kmem_cache_alloc(extent_cache, gfp);
}

void extent_free(struct extent *extent)
{
	kmem_cache_free(extent_cache, extent);
}

void extent_map_init(struct extent_map *map)
{
	map->root = RB_ROOT;
	map->nr_extents = 0;
}

/* May sleep: there may be millions of extents. */
void extent_map_exit(struct extent_map *map)
{
	struct extent *extent, *next;

	rbtree_postorder_for_each_entry_safe(extent, next, &map->root, rb) {
		extent_free(extent);
		cond_resched();
	}
	extent_map_init(map);
}

static struct extent *rb_to_extent(struct rb_node *rb)
{
	return rb_entry_safe(rb, struct extent, rb);
}

static u32 extent_nr_sectors(const struct extent *extent)
{
	return extent->nr_high << EXTENT_NR_HALF_BITS | extent->nr_low;
}

/* @nr_sectors is not above EXTENT_MAX_SECTORS. */
static void extent_set_nr_sectors(struct extent *extent, u32 nr_sectors)
{
	extent->nr_high = nr_sectors >> EXTENT_NR_HALF_BITS;
	extent->nr_low = nr_sectors;
}

static u64 extent_end(const struct extent *extent)
{
	return (u64)extent->sector + extent_nr_sectors(extent);
}

/* The last extent that starts at @sector or before it, or NULL. */
static struct extent *extent_map_find_last(const struct extent_map *map, u64 sector)
{
	struct rb_node *rb = map->root.rb_node;
	struct extent *found = NULL;

	while (rb) {
		struct extent *extent = rb_to_extent(rb);

		if (extent->sector <= sector) {
			found = extent;
			rb = rb->rb_right;
		} else {
			rb = rb->rb_left;
		}
	}
	return found;
}

/* The extent after @extent, or the first of the map if that is NULL. */
static struct extent *extent_map_next(const struct extent_map *map, struct extent *extent)
{
	return rb_to_extent(extent ? rb_next(&extent->rb) : rb_first(&map->root));
}

/* Makes @next, the one after @extent, a part of it if both continue without a gap. */
static bool extent_merge(struct extent *extent, const struct extent *next)
{
	u32 nr_sectors = extent_nr_sectors(extent);
	u32 nr_merged = nr_sectors + extent_nr_sectors(next);

	if (extent_end(extent) != next->sector ||
	    (u64)extent->position + nr_sectors != next->position ||
	    nr_merged > EXTENT_MAX_SECTORS)
		return false;
	extent_set_nr_sectors(extent, nr_merged);
	return true;
}

/* Links @extent right after @prev, or before all others if that is NULL. */
static void extent_map_link(struct extent_map *map, struct extent *prev,
			    struct extent *extent)
{
	struct rb_node **link = prev ? &prev->rb.rb_right : &map->root.rb_node;
	struct rb_node *parent = prev ? &prev->rb : NULL;

	while (*link) {
		parent = *link;
		link = &parent->rb_left;
	}
	rb_link_node(&extent->rb, parent, link);
	rb_insert_color(&extent->rb, &map->root);
	map->nr_extents++;
}

/**
 * extent_map_insert() - enter where a run of sectors is stored
 * @map:	map to change
 * @extent:	from extent_alloc(); belongs to the map from now on
 * @sector:	first sector on the origin
 * @nr_sectors:	length of the run; no part of it may be in the map yet
 * @position:	of @sector in the difference storage
 *
 * A run that is empty, too long or overlaps another one is a bug of the caller,
 * and so are numbers too large: it is reported once and not entered.
 */
void extent_map_insert(struct extent_map *map, struct extent *extent,
		       sector_t sector, sector_t nr_sectors, u64 position)
{
	struct extent *prev = extent_map_find_last(map, sector);
	struct extent *next = extent_map_next(map, prev);

	if (WARN_ON_ONCE(!nr_sectors || nr_sectors > EXTENT_MAX_SECTORS ||
			 (sector | position) >> EXTENT_SECTOR_BITS ||
			 (prev && extent_end(prev) > sector) ||
			 (next && sector + nr_sectors > next->sector))) {
		extent_free(extent);
		return;
	}
	extent->sector = sector;
	extent->position = position;
	extent_set_nr_sectors(extent, nr_sectors);

	if (prev && extent_merge(prev, extent)) {
		extent_free(extent);
		extent = prev;
	} else {
		extent_map_link(map, prev, extent);
	}
	if (next && extent_merge(extent, next)) {
		rb_erase(&next->rb, &map->root);
		map->nr_extents--;
		extent_free(next);
	}
}

/* What begins at @sector: a part of an extent, or a hole; at most @nr_sectors. */
void extent_map_lookup(const struct extent_map *map, sector_t sector,
		       sector_t nr_sectors, struct extent_piece *piece)
{
	struct extent *extent = extent_map_find_last(map, sector);
	struct extent *next;

	if (extent && extent_end(extent) > sector) {
		piece->is_stored = true;
		piece->position = extent->position + (sector - extent->sector);
		piece->nr_sectors = min_t(u64, nr_sectors, extent_end(extent) - sector);
		return;
	}
	next = extent_map_next(map, extent);
	piece->is_stored = false;
	piece->position = 0;
	piece->nr_sectors = next ? min_t(u64, nr_sectors, next->sector - sector) : nr_sectors;
}
