// SPDX-License-Identifier: GPL-2.0
/*
 * Which blocks of an origin are copied
 *
 * A bitmap on a sparse map, read and written word by word, with the bits outside of
 * the range masked.
 */
#include "copied_map.h"

#define COPIED_MAP_PAGE_WORDS (PAGE_SIZE / sizeof(unsigned long))

int copied_map_init(struct copied_map *map, u64 nr_blocks)
{
	return sparse_map_init(&map->bits,
			       nr_blocks / BITS_PER_BYTE + !!(nr_blocks % BITS_PER_BYTE));
}

void copied_map_exit(struct copied_map *map)
{
	sparse_map_exit(&map->bits);
}

/* False if there is no memory; some pages may have been made then. */
bool copied_map_populate(struct copied_map *map, u64 first, u64 last, gfp_t gfp)
{
	unsigned long i;

	for (i = first / COPIED_MAP_PAGE_BLOCKS; i <= last / COPIED_MAP_PAGE_BLOCKS; i++)
		if (!sparse_map_populate(&map->bits, i, gfp))
			return false;
	return true;
}

/* The word that @block is in; NULL if its page is missing. */
static unsigned long *copied_map_word(const struct copied_map *map, u64 block)
{
	unsigned long *bits = sparse_map_page(&map->bits, block / COPIED_MAP_PAGE_BLOCKS);

	return bits ? bits + block / BITS_PER_LONG % COPIED_MAP_PAGE_WORDS : NULL;
}

/* The bits of the word of @first that belong to @first to @last. */
static unsigned long copied_map_mask(u64 first, u64 last)
{
	unsigned long mask = ~0UL << first % BITS_PER_LONG;

	if (first / BITS_PER_LONG == last / BITS_PER_LONG)
		mask &= ~0UL >> (BITS_PER_LONG - 1 - last % BITS_PER_LONG);
	return mask;
}

/* The first block of the next word. */
static u64 copied_map_next_word(u64 block)
{
	return (block | (BITS_PER_LONG - 1)) + 1;
}

/* Pages of all these blocks have been made by copied_map_populate(). */
void copied_map_set(struct copied_map *map, u64 first, u64 last)
{
	for (; first <= last; first = copied_map_next_word(first)) {
		unsigned long *word = copied_map_word(map, first);

		/* The old data has been read before the bits are set. */
		smp_store_release(word, *word | copied_map_mask(first, last));
	}
	/* The bits are set before the first write that they let pass. */
	smp_wmb();
}

void copied_map_clear(struct copied_map *map, u64 first, u64 last)
{
	while (first <= last) {
		unsigned long *word = copied_map_word(map, first);

		if (!word) {
			first = (first | (COPIED_MAP_PAGE_BLOCKS - 1)) + 1;
			continue;
		}
		WRITE_ONCE(*word, *word & ~copied_map_mask(first, last));
		first = copied_map_next_word(first);
	}
}

/* The next block from @first on whose bit is @is_copied; @last + 1 if none. */
static u64 copied_map_next(const struct copied_map *map, u64 first, u64 last, bool is_copied)
{
	while (first <= last) {
		unsigned long *word = copied_map_word(map, first);
		unsigned long found;

		if (!word) {
			if (!is_copied)
				return first;
			first = (first | (COPIED_MAP_PAGE_BLOCKS - 1)) + 1;
			continue;
		}
		found = READ_ONCE(*word);
		if (!is_copied)
			found = ~found;
		found &= copied_map_mask(first, last);
		if (found)
			return round_down(first, BITS_PER_LONG) + __ffs(found);
		first = copied_map_next_word(first);
	}
	return last + 1;
}

u64 copied_map_next_copied(const struct copied_map *map, u64 first, u64 last)
{
	return copied_map_next(map, first, last, true);
}

u64 copied_map_next_uncopied(const struct copied_map *map, u64 first, u64 last)
{
	return copied_map_next(map, first, last, false);
}
