// SPDX-License-Identifier: GPL-2.0
/*
 * Which tracking blocks of an origin changed, and in which interval
 *
 * Two sparse maps of one byte per tracking block.  A page of the active map is
 * in one of three states, and only a switch leads back:
 *
 *	missing (zeros) -> own <- shared with the frozen map
 *
 * Only own pages are marked.  A page becomes own by cmpxchg of the pointer, so
 * that markers need no lock, and those that came too late use the page of the
 * one that won.  The frozen map's pages change only by cbt_map_mark_both(),
 * and only after the active map has stopped sharing them.
 */
#include "cbt_map.h"

/* Larger tracking blocks would not fit in the u32 that reports their size. */
#define CBT_MAX_BLOCK_SHIFT 31U

/* What frozen pages that are missing read as. */
static const u8 cbt_zero_page[PAGE_SIZE];

static u64 cbt_nr_blocks(u64 nr_sectors, unsigned int block_shift)
{
	unsigned int shift = block_shift - SECTOR_SHIFT;

	return (nr_sectors >> shift) + !!(nr_sectors & ((1ULL << shift) - 1));
}

/**
 * cbt_map_create() - start to track the changes of a device
 * @nr_sectors:	capacity of the device
 * @min_block_shift: log2 of the smallest size of a tracking block in bytes, at
 *		least SECTOR_SHIFT
 * @max_nr_blocks: limit to the number of tracking blocks, at least 1; blocks
 *		are made larger to keep it
 *
 * Context: Process context, sleeps.
 * Return: a map of zeros in a new generation, or ERR_PTR(): -ENOMEM; or
 *	   -EOPNOTSUPP if the device is so large that tracking blocks of 2 GiB
 *	   are more than @max_nr_blocks.
 */
struct cbt_map *cbt_map_create(u64 nr_sectors, unsigned int min_block_shift,
			       u32 max_nr_blocks)
{
	unsigned int block_shift = min_block_shift;
	struct cbt_map *map;

	while (block_shift < CBT_MAX_BLOCK_SHIFT &&
	       cbt_nr_blocks(nr_sectors, block_shift) > max_nr_blocks)
		block_shift++;
	if (cbt_nr_blocks(nr_sectors, block_shift) > max_nr_blocks)
		return ERR_PTR(-EOPNOTSUPP);

	map = kzalloc(sizeof(*map), GFP_KERNEL);
	if (!map)
		return ERR_PTR(-ENOMEM);
	map->nr_sectors = nr_sectors;
	map->block_shift = block_shift;
	map->block_mask = (1ULL << (block_shift - SECTOR_SHIFT)) - 1;
	map->nr_blocks = cbt_nr_blocks(nr_sectors, block_shift);
	map->number = 1;
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

/* Nobody reads or marks a retired page, so it can carry the list of them. */
static void cbt_map_retire(struct cbt_map *map, void *page)
{
	if (page)
		list_add((struct list_head *)page, &map->retired);
}

/* Take all pages out of the frozen map and retire those that are its own. */
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

/**
 * cbt_map_destroy() - stop to track the changes of a device
 * @map:	map that nobody uses any more
 *
 * Context: Process context, may sleep.
 */
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
 * A page of the active map that may be written.  Once unshared it stays so
 * until the next switch: the answer does not grow old.  If another marker
 * unshares the page after it was read here, sparse_map_replace() finds that
 * out; and then the frozen map may have a page where the active one was still
 * seen to have none.  With a @gfp of 0 a page that would have to be allocated is
 * not there.
 */
static void *cbt_map_own_page(struct cbt_map *map, unsigned long index, gfp_t gfp)
{
	void *page = sparse_map_page(&map->active, index);

	if (page && page != sparse_map_page(&map->frozen, index))
		return page;
	return gfp ? sparse_map_replace(&map->active, index, page, gfp) : NULL;
}

/*
 * Raise bytes to @number.  No byte is above it: @number is the largest there
 * is in its map.  Reading first leaves the cache lines of marked blocks shared
 * between the processors.
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

/* The active map's pages are unshared: a frozen page found here is its own. */
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

/**
 * cbt_map_mark_nowait() - note a change of the device without allocating
 * @map:	map of the device
 * @sector:	first sector that changes, relative to the device
 * @nr_sectors:	length of the change; what is beyond the device is ignored
 *
 * Context: Any, concurrently with all marks, not with cbt_map_switch().  Never
 *	    sleeps, takes no lock, allocates nothing.
 * Return: false if memory is needed: cbt_map_mark() has to be called.
 */
bool cbt_map_mark_nowait(struct cbt_map *map, sector_t sector, sector_t nr_sectors)
{
	u32 first, end;

	if (cbt_map_mark_short(map, sector, nr_sectors))
		return true;
	/* What would be marked in a lost generation is never read. */
	if (READ_ONCE(map->is_active_lost))
		return true;
	if (!cbt_map_clip(map, sector, nr_sectors, &first, &end))
		return true;
	return !cbt_map_mark_active(map, first, end, 0);
}

/**
 * cbt_map_mark() - note a change of the device
 * @map:	map of the device
 * @sector:	first sector that changes, relative to the device
 * @nr_sectors:	length of the change; what is beyond the device is ignored
 *
 * If there is no memory for the mark, the next switch starts a new generation.
 *
 * Context: Any in which GFP_NOWAIT may be used, concurrently with all marks, not
 *	    with cbt_map_switch().  Never sleeps.
 */
void cbt_map_mark(struct cbt_map *map, sector_t sector, sector_t nr_sectors)
{
	u32 first, end;

	if (cbt_map_mark_nowait(map, sector, nr_sectors))
		return;
	if (cbt_map_clip(map, sector, nr_sectors, &first, &end) &&
	    cbt_map_mark_active(map, first, end, GFP_NOWAIT | __GFP_NOWARN))
		WRITE_ONCE(map->is_active_lost, true);
}

/**
 * cbt_map_lose() - note that a change of the device cannot be noted
 * @map:	map of the device
 *
 * Neither map can be trusted, whichever interval the change belongs to.
 *
 * Context: Any, concurrently with everything.
 */
void cbt_map_lose(struct cbt_map *map)
{
	WRITE_ONCE(map->is_active_lost, true);
	WRITE_ONCE(map->is_frozen_lost, true);
}

/**
 * cbt_map_mark_both() - note a change of the device and of its image
 * @map:	map of the device
 * @sector:	first sector that changes, relative to the device
 * @nr_sectors:	length of the change; what is beyond the device is ignored
 *
 * Marks the active map with the current number and the frozen map with the
 * number of the last take, so that an incremental backup includes the blocks
 * whether it is made from this snapshot or from the next one.  Before the
 * first take there is no frozen map to mark.
 *
 * Context: Process context, sleeps as GFP_NOIO does.  Concurrently with itself
 *	    and cbt_map_mark(), not with cbt_map_switch().
 * Return: 0; or -ENOMEM, and then the generation has ended.
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
		cbt_map_lose(map);
	return ret;
}

/* Called with the frozen map dropped. */
static void cbt_map_start_generation(struct cbt_map *map)
{
	cbt_map_drop_active(map);
	uuid_gen(&map->generation);
	map->number = 1;
	map->is_active_lost = false;
	map->is_frozen_lost = false;
}

/**
 * cbt_map_switch() - freeze the active map and begin the next interval
 * @map:	map of a device that a snapshot is being taken of
 *
 * Starts a new generation if a mark was lost or if the last number is used up.
 *
 * Context: Any, with no cbt_map_mark() or cbt_map_mark_both() running, and
 *	    serialised with everything else.  Neither allocates nor frees.
 */
void cbt_map_switch(struct cbt_map *map)
{
	cbt_map_drop_frozen(map);
	if (map->is_active_lost || map->snap_number == U8_MAX)
		cbt_map_start_generation(map);
	memcpy(map->frozen.pages, map->active.pages,
	       map->frozen.nr_pages * sizeof(*map->frozen.pages));
	map->snap_number = map->number;
	/*
	 * The interval after the snapshot 255 goes on marking with 255.  Any
	 * value would do: the next switch drops this active map unread.
	 */
	if (map->number < U8_MAX)
		map->number++;
	uuid_gen(&map->interim_generation);
}

/**
 * cbt_map_reap() - free the pages that cbt_map_switch() has left over
 * @map:	map that was switched
 *
 * Context: Process context; serialised with cbt_map_switch(), but not with
 *	    marks.  Need not be called after each switch.
 */
void cbt_map_reap(struct cbt_map *map)
{
	struct list_head *page, *next;

	list_for_each_safe(page, next, &map->retired)
		sparse_map_free_page(page);
	INIT_LIST_HEAD(&map->retired);
}

/**
 * cbt_map_nr_sectors() - get the capacity that a map was made for
 * @map:	map of a device
 *
 * Context: Any.
 * Return: the capacity in sectors.
 */
u64 cbt_map_nr_sectors(const struct cbt_map *map)
{
	return map->nr_sectors;
}

/**
 * cbt_map_info() - describe a map and the last take
 * @map:	map of a device
 * @info:	out: every byte of it is written
 *
 * Context: Any; serialised with cbt_map_switch().
 */
void cbt_map_info(struct cbt_map *map, struct cbt_map_info *info)
{
	memset(info, 0, sizeof(*info));
	info->nr_sectors = map->nr_sectors;
	info->block_bytes = 1U << map->block_shift;
	info->nr_blocks = map->nr_blocks;
	if (READ_ONCE(map->is_frozen_lost)) {
		info->generation = map->interim_generation;
		return;
	}
	info->generation = map->generation;
	info->snap_number = map->snap_number;
}

/**
 * cbt_map_frozen_bytes() - read the change map of the last take
 * @map:	map of a device; only while cbt_map_info() says a snap_number
 *		other than 0 the bytes mean something
 * @offset:	number of the first tracking block
 * @nr_bytes:	in: how many bytes are wanted; out: how many there are at the
 *		returned address, 0 only if none is wanted or @offset is not
 *		below the number of tracking blocks
 *
 * Context: Any; serialised with cbt_map_switch(), and so is the use of the
 *	    bytes.  They may change while cbt_map_mark_both() runs.
 * Return: address of the first byte, never NULL.
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
