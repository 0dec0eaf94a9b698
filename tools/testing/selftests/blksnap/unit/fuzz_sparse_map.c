// SPDX-License-Identifier: GPL-2.0
/*
 * Fuzzer of the sparse map: against an array of pages
 */
#include "fuzz.h"
#include "sparse_map.h"

#define NR_PAGES 8

static u8 model[NR_PAGES][PAGE_SIZE];
static void *kept[NR_PAGES];		/* pages that were replaced */
static unsigned int nr_kept;

/* The page has the bytes of the model, and a missing one means zeros. */
static void check_page(const struct sparse_map *map, unsigned long index)
{
	static const u8 zeros[PAGE_SIZE];
	const void *page = sparse_map_page(map, index);

	FUZZ_CHECK(!memcmp(page ? page : zeros, model[index], PAGE_SIZE));
}

static void write_byte(struct fuzz_input *input, struct sparse_map *map, unsigned long index)
{
	unsigned long nr_failed = host_nr_failed_allocs();
	u8 *page = sparse_map_populate(map, index, GFP_NOWAIT);
	u64 at = fuzz_below(input, PAGE_SIZE);
	u8 byte = fuzz_byte(input);

	FUZZ_CHECK(!page == (host_nr_failed_allocs() > nr_failed));
	FUZZ_CHECK(sparse_map_page(map, index) == page);
	if (!page)
		return;
	page[at] = byte;
	model[index][at] = byte;
}

/* What was there before is no longer the map's. */
static void replace(struct sparse_map *map, unsigned long index)
{
	unsigned long nr_failed = host_nr_failed_allocs();
	void *old = sparse_map_page(map, index);
	void *page;

	if (nr_kept == NR_PAGES)
		return;
	page = sparse_map_replace(map, index, old, GFP_NOIO);
	FUZZ_CHECK(!page == (host_nr_failed_allocs() > nr_failed));
	FUZZ_CHECK(sparse_map_page(map, index) == (page ? page : old));
	if (page && old)
		kept[nr_kept++] = old;
}

/* With another page than the one that is there nothing happens. */
static void replace_too_late(struct sparse_map *map, unsigned long index)
{
	static u8 other[PAGE_SIZE];
	void *now = sparse_map_page(map, index);
	void *page;

	if (!now)
		return;
	page = sparse_map_replace(map, index, other, GFP_NOWAIT);
	FUZZ_CHECK(!page || page == now);
	FUZZ_CHECK(sparse_map_page(map, index) == now);
}

static void use_map(struct fuzz_input *input, struct sparse_map *map)
{
	while (!fuzz_is_over(input)) {
		u8 byte = fuzz_byte(input);
		unsigned long index = byte / 8 % map->nr_pages;

		switch (byte % 8) {
		case 0:
			fuzz_fail_alloc(input);
			break;
		case 1:
			replace(map, index);
			break;
		case 2:
			replace_too_late(map, index);
			break;
		default:
			write_byte(input, map, index);
			break;
		}
		check_page(map, index);
	}
}

static u64 make_size(struct fuzz_input *input)
{
	u8 byte = fuzz_byte(input);

	/* Sizes that no map can have. */
	if (byte >= 0xf0)
		return U64_MAX >> (byte & 0xf);
	return 1 + fuzz_below(input, NR_PAGES * PAGE_SIZE);
}

void fuzz_one(struct fuzz_input *input)
{
	u64 nr_bytes = make_size(input);
	struct sparse_map map;

	memset(model, 0, sizeof(model));
	nr_kept = 0;
	fuzz_fail_alloc(input);
	if (!sparse_map_init(&map, nr_bytes)) {
		FUZZ_CHECK(map.nr_pages == (nr_bytes + PAGE_SIZE - 1) / PAGE_SIZE);
		use_map(input, &map);
	} else {
		FUZZ_CHECK(host_nr_failed_allocs() || nr_bytes > NR_PAGES * PAGE_SIZE);
	}
	while (nr_kept)
		sparse_map_free_page(kept[--nr_kept]);
	sparse_map_exit(&map);
}
