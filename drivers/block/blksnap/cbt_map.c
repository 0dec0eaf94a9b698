// SPDX-License-Identifier: GPL-2.0
/*
 * Which tracking blocks of an origin changed, and in which interval
 *
 * Two sparse maps of one byte per tracking block.  A page of the active map is in one
 * of three states, and only a switch leads back:
 *
 *	missing (zeros) -> own <- shared with the frozen map
 *
 * Only own pages are marked.  A page becomes own by cmpxchg of its pointer, so markers
 * need no lock: the loser of a race uses the winner's page.  Only cbt_map_mark_both()
 * changes pages of the frozen map, and only after the active map has stopped sharing
 * them.
 */
#include "cbt_map.h"

/* Larger tracking blocks would not fit in the u32 that reports their size. */
#define CBT_MAX_BLOCK_SHIFT 31U

/* What missing frozen pages read as. */
static const u8 cbt_zero_page[PAGE_SIZE];

static u64 cbt_nr_blocks(u64 nr_sectors, unsigned int block_shift)
{
	unsigned int shift = block_shift - SECTOR_SHIFT;

	return (nr_sectors >> shift) + !!(nr_sectors & ((1ULL << shift) - 1));
}

/**
 * cbt_map_create() - start to track the changes of a device
 * @nr_sectors:	capacity of the device
 * @min_block_shift: log2 of the smallest tracking block in bytes, at least SECTOR_SHIFT
 * @max_nr_blocks: at least 1; tracking blocks are made larger to keep this limit
 * @began:	why there is a new map
 *
 * Return: a map of zeros in a new generation, or ERR_PTR(): -ENOMEM; -EOPNOTSUPP if
 *	   there would be more than @max_nr_blocks tracking blocks of 2 GiB.
 */
struct cbt_map *cbt_map_create(u64 nr_sectors, unsigned int min_block_shift,
			       u32 max_nr_blocks, enum cbt_reason began)
{
	unsigned int block_shift = min_block_shift;
	struct cbt_map *map;

	while (block_shift < CBT_MAX_BLOCK_SHIFT &&
	       cbt_nr_blocks(nr_sectors, block_shift) > max_nr_blocks)
		block_shift++;
	if (cbt_nr_blocks(nr_sectors, block_shift) > max_nr_blocks)
		return ERR_PTR(-EOPNOTSUPP);

	map = kzalloc_obj(*map, GFP_KERNEL);
	if (!map)
		return ERR_PTR(-ENOMEM);
	map->nr_sectors = nr_sectors;
	map->block_shift = block_shift;
	map->block_mask = (1ULL << (block_shift - SECTOR_SHIFT)) - 1;
	map->nr_blocks = cbt_nr_blocks(nr_sectors, block_shift);
	map->number = 1;
	map->began = began;
	uuid_gen(&map->generation);
	uuid_gen(&map->interim_generation);
	INIT_LIST_HEAD(&map->retired);

	if (sparse_map_init(&map->active, map->nr_blocks))
		goto err_free_map;
	if (sparse_map_init(&map->frozen, map->nr_blocks))
		goto err_exit_active;
	return map;

err_exit_active:
	sparse_map_exit(&map->active);
err_free_map:
	kfree(map);
	return ERR_PTR(-ENOMEM);
}

/* No reader or marker uses a retired page, so the list is kept in the pages. */
static void cbt_map_retire(struct cbt_map *map, void *page)
{
	if (page)
		list_add((struct list_head *)page, &map->retired);
}

/* Takes all pages out of the frozen map and retires those that are its own. */
static void cbt_map_drop_frozen(struct cbt_map *map)
{
	unsigned long i;

	for (i = 0; i < map->frozen.nr_pages; i++) {
		if (map->frozen.pages[i] != map->active.pages[i])
			cbt_map_retire(map, map->frozen.pages[i]);
		map->frozen.pages[i] = NULL;
	}
}

static void cbt_map_drop_active(struct cbt_map *map)
{
	unsigned long i;

	for (i = 0; i < map->active.nr_pages; i++) {
		cbt_map_retire(map, map->active.pages[i]);
		map->active.pages[i] = NULL;
	}
}

void cbt_map_destroy(struct cbt_map *map)
{
	cbt_map_drop_frozen(map);	/* shared pages are freed once */
	sparse_map_exit(&map->frozen);
	sparse_map_exit(&map->active);
	cbt_map_reap(map);
	kfree(map);
}

/* The tracking blocks [*first, *end) that the sectors touch; false if none. */
static bool cbt_map_clip(const struct cbt_map *map, sector_t sector, sector_t nr_sectors,
			 u32 *first, u32 *end)
{
	unsigned int shift = map->block_shift - SECTOR_SHIFT;

	if (sector >= map->nr_sectors || !nr_sectors)
		return false;
	nr_sectors = min_t(u64, nr_sectors, map->nr_sectors - sector);
	*first = sector >> shift;
	*end = ((sector + nr_sectors - 1) >> shift) + 1;
	return true;
}

/* How many of the blocks [first, end) have their bytes on the page of @first. */
static u32 cbt_nr_on_page(u32 first, u32 end)
{
	return min_t(u32, end - first, PAGE_SIZE - offset_in_page(first));
}

/*
 * A page of the active map that may be written; NULL if there is none and @gfp is 0.
 * Once unshared it stays unshared until the next switch.  If another marker unshares it
 * after it was read here, sparse_map_replace() notices and returns that marker's page;
 * the frozen map may then have a page where the active one was seen to have none.
 */
static void *cbt_map_own_page(struct cbt_map *map, unsigned long index, gfp_t gfp)
{
	void *page = sparse_map_page(&map->active, index);

	if (page && page != sparse_map_page(&map->frozen, index))
		return page;
	return gfp ? sparse_map_replace(&map->active, index, page, gfp) : NULL;
}

/*
 * Raises bytes to @number, the largest number in their map.  Reading first keeps the
 * cache lines of marked blocks shared between CPUs.
 */
static void cbt_mark_bytes(u8 *bytes, u32 nr_bytes, u8 number)
{
	u32 i;

	for (i = 0; i < nr_bytes; i++) {
		if (READ_ONCE(bytes[i]) != number)
			WRITE_ONCE(bytes[i], number);
	}
}

static int cbt_map_mark_active(struct cbt_map *map, u32 first, u32 end, gfp_t gfp)
{
	while (first < end) {
		u32 nr_bytes = cbt_nr_on_page(first, end);
		u8 *page = cbt_map_own_page(map, first >> PAGE_SHIFT, gfp);

		if (!page)
			return -ENOMEM;
		cbt_mark_bytes(page + offset_in_page(first), nr_bytes, map->number);
		first += nr_bytes;
	}
	return 0;
}

/* The active map's pages are unshared, so a frozen page found here is its own. */
static int cbt_map_mark_frozen(struct cbt_map *map, u32 first, u32 end, gfp_t gfp)
{
	while (first < end) {
		u32 nr_bytes = cbt_nr_on_page(first, end);
		u8 *page = sparse_map_populate(&map->frozen, first >> PAGE_SHIFT, gfp);

		if (!page)
			return -ENOMEM;
		cbt_mark_bytes(page + offset_in_page(first), nr_bytes, map->snap_number);
		first += nr_bytes;
	}
	return 0;
}

/* False if memory is needed: the caller has to use cbt_map_mark(). */
bool cbt_map_mark_nowait(struct cbt_map *map, sector_t sector, sector_t nr_sectors)
{
	u32 first, end;

	if (cbt_map_mark_short(map, sector, nr_sectors))
		return true;
	/* What would be marked in a lost generation is never read. */
	if (READ_ONCE(map->lost))
		return true;
	if (!cbt_map_clip(map, sector, nr_sectors, &first, &end))
		return true;
	return !cbt_map_mark_active(map, first, end, 0);
}

/*
 * Allocates with GFP_NOWAIT.  If there is no memory for the mark, the next switch
 * starts a new generation.
 */
void cbt_map_mark(struct cbt_map *map, sector_t sector, sector_t nr_sectors)
{
	u32 first, end;

	if (cbt_map_mark_nowait(map, sector, nr_sectors))
		return;
	if (cbt_map_clip(map, sector, nr_sectors, &first, &end) &&
	    cbt_map_mark_active(map, first, end, GFP_NOWAIT | __GFP_NOWARN))
		WRITE_ONCE(map->lost, CBT_NO_MEMORY);
}

/* Neither map can be trusted, whichever interval the lost mark belongs to. */
void cbt_map_lose(struct cbt_map *map, enum cbt_reason reason)
{
	WRITE_ONCE(map->is_frozen_lost, true);
	/* Pairs with cbt_map_start_generation(): the first never stays without this. */
	smp_store_release(&map->lost, reason);
}

/*
 * Marks the active map with the current number and the frozen map with that of the last
 * take, so that an increment has the blocks whether it is made from this snapshot or
 * from the next one.  Before the first take there is no frozen map to mark.  Sleeps as
 * GFP_NOIO does.  Returns 0, or -ENOMEM and the generation has ended.
 */
int cbt_map_mark_both(struct cbt_map *map, sector_t sector, sector_t nr_sectors)
{
	u32 first, end;
	int ret;

	if (!cbt_map_clip(map, sector, nr_sectors, &first, &end))
		return 0;
	/* The active map first: this is what unshares the frozen pages. */
	ret = cbt_map_mark_active(map, first, end, GFP_NOIO);
	if (!ret && map->snap_number)
		ret = cbt_map_mark_frozen(map, first, end, GFP_NOIO);
	if (ret)
		cbt_map_lose(map, CBT_NO_MEMORY);
	return ret;
}

/* Why the next switch starts a new generation, if it does. */
static enum cbt_reason cbt_map_ends(const struct cbt_map *map)
{
	enum cbt_reason lost = READ_ONCE(map->lost);

	return !lost && map->snap_number == U8_MAX ? CBT_WRAPPED : lost;
}

/* The frozen map has been dropped. */
static void cbt_map_start_generation(struct cbt_map *map, enum cbt_reason reason)
{
	cbt_map_drop_active(map);
	uuid_gen(&map->generation);
	map->number = 1;
	map->began = reason;
	WRITE_ONCE(map->lost, CBT_GOES_ON);
	/* Pairs with cbt_map_lose(), which sets them the other way round. */
	smp_store_release(&map->is_frozen_lost, false);
}

/*
 * Freezes the active map and begins the next interval, in a new generation if a mark
 * was lost or the last number is used up.  Returns whether it is a new one.
 */
bool cbt_map_switch(struct cbt_map *map)
{
	enum cbt_reason ends;

	cbt_map_drop_frozen(map);
	ends = cbt_map_ends(map);
	if (ends)
		cbt_map_start_generation(map, ends);
	memcpy(map->frozen.pages, map->active.pages,
	       map->frozen.nr_pages * sizeof(*map->frozen.pages));
	map->snap_number = map->number;
	/*
	 * The interval after snapshot 255 goes on marking with 255.  Any value would
	 * do: the next switch drops this active map unread.
	 */
	if (map->number < U8_MAX)
		map->number++;
	uuid_gen(&map->interim_generation);
	return ends;
}

/* Frees the pages that switches have left over. */
void cbt_map_reap(struct cbt_map *map)
{
	struct list_head *page, *next;

	list_for_each_safe(page, next, &map->retired)
		sparse_map_free_page(page);
	INIT_LIST_HEAD(&map->retired);
}

/* As user space knows it, of CBT_REASON_BYTES at most. */
const char *cbt_reason_name(enum cbt_reason reason)
{
	static const char * const names[] = {
		[CBT_GOES_ON] = "none",
		[CBT_TRACKED] = "tracked",
		[CBT_RESIZED] = "resized",
		[CBT_WRAPPED] = "wrapped",
		[CBT_NO_MEMORY] = "no_memory",
		[CBT_LATE_WRITE] = "late_write",
		[CBT_REPLACED] = "replaced",
	};

	return names[reason];
}

u64 cbt_map_nr_sectors(const struct cbt_map *map)
{
	return map->nr_sectors;
}

/* Writes every byte of @info, so that two can be compared. */
void cbt_map_info(struct cbt_map *map, struct cbt_map_info *info)
{
	memset(info, 0, sizeof(*info));
	info->nr_sectors = map->nr_sectors;
	info->block_bytes = 1U << map->block_shift;
	info->nr_blocks = map->nr_blocks;
	info->ends = cbt_map_ends(map);
	if (READ_ONCE(map->is_frozen_lost)) {
		info->generation = map->interim_generation;
		info->began = info->ends;
		return;
	}
	info->generation = map->generation;
	info->began = map->began;
	info->snap_number = map->snap_number;
}

/*
 * The change map of the last take from tracking block @offset on, up to the end of a
 * page.  The bytes mean something only while cbt_map_info() reports a snap_number other
 * than 0, may change while cbt_map_mark_both() runs, and go with the next switch.
 * @nr_bytes is how many are wanted, and then how many there are: 0 if @offset is beyond
 * the map.  The address is never NULL.
 */
const u8 *cbt_map_frozen_bytes(struct cbt_map *map, u32 offset, u32 *nr_bytes)
{
	const u8 *page;

	if (offset >= map->nr_blocks) {
		*nr_bytes = 0;
		return cbt_zero_page;
	}
	*nr_bytes = min_t(u32, *nr_bytes, cbt_nr_on_page(offset, map->nr_blocks));
	page = sparse_map_page(&map->frozen, offset >> PAGE_SHIFT);
	return (page ? page : cbt_zero_page) + offset_in_page(offset);
}

static u32 cbt_count_bytes(const u8 *bytes, u8 number)
{
	u32 nr = 0, i;

	for (i = 0; i < PAGE_SIZE; i++)
		nr += READ_ONCE(bytes[i]) == number;
	return nr;
}

/*
 * Adds what page @index of both maps holds; false if there is no such page.  What has
 * changed is not known if the generation ends with the next switch.
 */
bool cbt_map_add_usage(const struct cbt_map *map, unsigned long index,
		       struct cbt_map_usage *usage)
{
	const u8 *active, *frozen;

	if (index >= map->active.nr_pages)
		return false;
	active = sparse_map_page(&map->active, index);
	frozen = sparse_map_page(&map->frozen, index);
	usage->memory_bytes += 2 * sizeof(*map->active.pages);
	if (frozen)
		usage->memory_bytes += PAGE_SIZE;
	/* In a shared page nothing has changed. */
	if (!active || active == frozen)
		return true;
	usage->memory_bytes += PAGE_SIZE;
	usage->nr_changed += cbt_count_bytes(active, map->number);
	return true;
}
