// SPDX-License-Identifier: GPL-2.0
/*
 * A large byte array whose pages appear on first use
 *
 * The table of page pointers is allocated at once, a page before the first write to
 * it.  Pages are installed with cmpxchg: if several tasks install one at the same
 * time, one wins, and the others free theirs and use the winner's.
 */
#include "sparse_map.h"

static void *sparse_map_alloc_page(const void *content, gfp_t gfp)
{
	struct page *page = alloc_page(content ? gfp : gfp | __GFP_ZERO);
	void *bytes;

	if (!page)
		return NULL;
	bytes = page_address(page);
	if (content)
		/*
		 * Its bytes may change during the copy only where the cmpxchg of
		 * sparse_map_replace() is going to fail: the copy is thrown away.
		 */
		data_race(memcpy(bytes, content, PAGE_SIZE));
	return bytes;
}

/* A page that was taken out of a map, or NULL. */
void sparse_map_free_page(void *page)
{
	if (page)
		__free_page(virt_to_page(page));
}

/* A map of zeros; @nr_bytes is rounded up to pages.  -ENOMEM also if that is absurd. */
int sparse_map_init(struct sparse_map *map, u64 nr_bytes)
{
	u64 nr_pages = (nr_bytes >> PAGE_SHIFT) + !!offset_in_page(nr_bytes);

	map->nr_pages = 0;
	map->pages = NULL;
	/* The most that kvcalloc() may be asked for without a splat. */
	if (nr_pages > INT_MAX / sizeof(*map->pages))
		return -ENOMEM;
	map->pages = kvcalloc(nr_pages, sizeof(*map->pages), GFP_KERNEL);
	if (!map->pages)
		return -ENOMEM;
	map->nr_pages = nr_pages;
	return 0;
}

/* Also after sparse_map_init() has failed. */
void sparse_map_exit(struct sparse_map *map)
{
	unsigned long i;

	for (i = 0; i < map->nr_pages; i++)
		sparse_map_free_page(map->pages[i]);
	kvfree(map->pages);
	map->pages = NULL;
	map->nr_pages = 0;
}

/**
 * sparse_map_replace() - install a copy of a page in its place
 * @map:	map that @index is in
 * @index:	number of the page
 * @old:	page that was seen there, NULL for a missing one
 * @gfp:	how to allocate the new page
 *
 * @old itself is not freed: it belongs to the caller or another map.  If the map does
 * not hold @old any more, nothing is installed and the present page is returned.
 *
 * Return: the page that is installed now, never @old; or NULL if there is no memory.
 */
void *sparse_map_replace(struct sparse_map *map, unsigned long index, const void *old,
			 gfp_t gfp)
{
	void *page = sparse_map_alloc_page(old, gfp);
	void *found;

	if (!page)
		return NULL;
	/* Fully ordered if it succeeds: a reader of sparse_map_page() sees the content. */
	found = cmpxchg(&map->pages[index], (void *)old, page);
	if (found == old)
		return page;
	sparse_map_free_page(page);
	return found;
}

/* The page, installed as zeros if it was missing; NULL if there is no memory for that. */
void *sparse_map_populate(struct sparse_map *map, unsigned long index, gfp_t gfp)
{
	void *page = sparse_map_page(map, index);

	return page ? page : sparse_map_replace(map, index, NULL, gfp);
}
