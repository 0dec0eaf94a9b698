// SPDX-License-Identifier: GPL-2.0
/*
 * Where the copied parts of an origin are stored
 *
 * A red-black tree of extents.  There may be millions of them when the writes
 * are small and scattered, so an extent is small, comes from a slab cache of
 * its own, and is merged with its neighbours where both the origin's sectors
 * and the positions go on without a gap.
 */
#include "extent_map.h"

struct extent {
	struct rb_node rb;
	u64 sector;		/* first on the origin */
	u64 position;		/* of that sector in the difference storage */
	u64 nr_sectors;
};

static struct kmem_cache *extent_cache;

/**
 * extent_map_module_init() - prepare extent_alloc()
 *
 * Context: Module load.
 * Return: 0 or -ENOMEM.
 */
int extent_map_module_init(void)
{
	extent_cache = kmem_cache_create("blksnap_extent", sizeof(struct extent),
					 __alignof__(struct extent), 0, NULL);
	return extent_cache ? 0 : -ENOMEM;
}

/**
 * extent_map_module_exit() - undo extent_map_module_init()
 *
 * Context: Module unload, every extent is freed.
 */
void extent_map_module_exit(void)
{
	kmem_cache_destroy(extent_cache);
}

/**
 * extent_alloc() - allocate what extent_map_insert() is going to need
 * @gfp:	how to allocate
 *
 * Context: Any that @gfp allows.
 * Return: an extent, or NULL if there is no memory.
 */
struct extent *extent_alloc(gfp_t gfp)
{
	return kmem_cache_alloc(extent_cache, gfp);
}

/**
 * extent_free() - free an extent that was not inserted
 * @extent:	from extent_alloc()
 *
 * Context: Any.
 */
void extent_free(struct extent *extent)
{
	kmem_cache_free(extent_cache, extent);
}

/**
 * extent_map_init() - make an empty map
 * @map:	memory for the map
 *
 * Context: Any.
 */
void extent_map_init(struct extent_map *map)
{
	map->root = RB_ROOT;
	map->nr_extents = 0;
}

/**
 * extent_map_exit() - free all extents of a map
 * @map:	map that nobody uses any more
 *
 * Context: Process context, may sleep: there may be millions.
 */
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

static u64 extent_end(const struct extent *extent)
{
	return extent->sector + extent->nr_sectors;
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

/* The extent behind @extent, or the first of the map if that is NULL. */
static struct extent *extent_map_next(const struct extent_map *map, struct extent *extent)
{
	return rb_to_extent(extent ? rb_next(&extent->rb) : rb_first(&map->root));
}

static bool extent_continues(const struct extent *extent, const struct extent *next)
{
	return extent_end(extent) == next->sector &&
	       extent->position + extent->nr_sectors == next->position;
}

/* Link @extent right behind @prev, or before all others if that is NULL. */
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
 * A run that is empty or overlaps another one is a bug of the caller: it is
 * reported once and not entered.
 *
 * Context: Any; the caller serialises.
 */
void extent_map_insert(struct extent_map *map, struct extent *extent,
		       sector_t sector, sector_t nr_sectors, u64 position)
{
	struct extent *prev = extent_map_find_last(map, sector);
	struct extent *next = extent_map_next(map, prev);

	extent->sector = sector;
	extent->nr_sectors = nr_sectors;
	extent->position = position;
	if (WARN_ON_ONCE(!nr_sectors || (prev && extent_end(prev) > sector) ||
			 (next && extent_end(extent) > next->sector))) {
		extent_free(extent);
		return;
	}

	if (prev && extent_continues(prev, extent)) {
		prev->nr_sectors += nr_sectors;
		extent_free(extent);
		extent = prev;
	} else {
		extent_map_link(map, prev, extent);
	}
	if (next && extent_continues(extent, next)) {
		extent->nr_sectors += next->nr_sectors;
		rb_erase(&next->rb, &map->root);
		map->nr_extents--;
		extent_free(next);
	}
}

/**
 * extent_map_lookup() - find out where sectors are stored, piece by piece
 * @map:	map to search
 * @sector:	first sector on the origin
 * @nr_sectors:	how many sectors from there
 * @piece:	out: what begins at @sector, an extent's part or a hole
 *
 * Context: Any; the caller serialises with extent_map_insert().
 */
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
