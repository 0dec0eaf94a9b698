// SPDX-License-Identifier: GPL-2.0
/*
 * Fuzzer of the extent map: against an array of positions
 */
#include "extent_map.h"
#include "fuzz.h"

#define NR_SECTORS 256
#define NOWHERE U64_MAX

/* Where each sector is stored. */
static u64 model[NR_SECTORS];
static u64 base;	/* number of the first sector */

static bool model_is_free(unsigned int first, unsigned int nr)
{
	unsigned int i;

	for (i = first; i < first + nr; i++)
		if (model[i] != NOWHERE)
			return false;
	return true;
}

static void insert(struct fuzz_input *input, struct extent_map *map)
{
	unsigned int first = fuzz_below(input, NR_SECTORS);
	unsigned int nr = fuzz_below(input, min(NR_SECTORS - first, 16U) + 1);
	u64 position = fuzz_byte(input) * 4;
	struct extent *extent = extent_alloc(GFP_NOWAIT);
	unsigned int i;

	if (!extent)
		return;
	/* What continues its neighbour is what happens most. */
	if (first && model[first - 1] != NOWHERE && position & 8)
		position = model[first - 1] + 1;
	extent_map_insert(map, extent, base + first, nr, position);
	if (!nr || !model_is_free(first, nr)) {
		FUZZ_CHECK(host_take_warnings() == 1);
		return;
	}
	for (i = 0; i < nr; i++)
		model[first + i] = position + i;
}

/* How many sectors from @first on are alike: stored in order, or not at all. */
static unsigned int model_run(unsigned int first, unsigned int limit)
{
	unsigned int i;

	for (i = 1; i < limit && first + i < NR_SECTORS; i++)
		if (model[first] == NOWHERE ? model[first + i] != NOWHERE :
					      model[first + i] != model[first] + i)
			break;
	return i;
}

static void check_lookup(const struct extent_map *map, unsigned int first, unsigned int nr)
{
	struct extent_piece piece;

	extent_map_lookup(map, base + first, nr, &piece);
	FUZZ_CHECK(piece.is_stored == (model[first] != NOWHERE));
	FUZZ_CHECK(!piece.is_stored || piece.position == model[first]);
	FUZZ_CHECK(piece.nr_sectors == model_run(first, nr));
}

/* Everything that could be merged is. */
static void check_all(const struct extent_map *map)
{
	unsigned long nr_extents = 0;
	unsigned int first;

	for (first = 0; first < NR_SECTORS; first += model_run(first, NR_SECTORS)) {
		check_lookup(map, first, NR_SECTORS - first);
		nr_extents += model[first] != NOWHERE;
	}
	FUZZ_CHECK(map->nr_extents == nr_extents);
}

static void lookup(struct fuzz_input *input, const struct extent_map *map)
{
	unsigned int first = fuzz_below(input, NR_SECTORS);

	check_lookup(map, first, 1 + fuzz_below(input, NR_SECTORS - first));
}

static void use_map(struct fuzz_input *input, struct extent_map *map)
{
	while (!fuzz_is_over(input)) {
		switch (fuzz_byte(input) % 8) {
		case 0:
			fuzz_fail_alloc(input);
			break;
		case 1:
			lookup(input, map);
			break;
		case 2:
			/* An extent that is not needed after all. */
			extent_free(extent_alloc(GFP_NOIO) ?: extent_alloc(GFP_NOIO));
			break;
		default:
			insert(input, map);
			break;
		}
	}
	check_all(map);
}

void fuzz_one(struct fuzz_input *input)
{
	static const u64 bases[] = { 0, (1ULL << 32) - NR_SECTORS / 2,
				     (1ULL << EXTENT_SECTOR_BITS) - NR_SECTORS };
	struct extent_map map;

	memset(model, 0xff, sizeof(model));
	base = bases[fuzz_below(input, ARRAY_SIZE(bases))];
	if (extent_map_module_init()) {
		FUZZ_CHECK(0);
		return;
	}
	extent_map_init(&map);
	use_map(input, &map);
	host_fail_no_alloc();
	extent_map_exit(&map);
	FUZZ_CHECK(map.nr_extents == 0);
	extent_map_module_exit();
}
