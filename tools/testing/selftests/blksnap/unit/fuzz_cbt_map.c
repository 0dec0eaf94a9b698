// SPDX-License-Identifier: GPL-2.0
/*
 * Fuzzer of the change map: against two flat arrays and what is said of losses
 */
#include "cbt_map.h"
#include "fuzz.h"

#define MAX_BLOCKS (3 * PAGE_SIZE + 7)
#define NR_GENERATIONS 64

static struct {
	u64 nr_sectors;
	unsigned int block_shift;
	u32 nr_blocks;
	u8 active[MAX_BLOCKS];
	u8 frozen[MAX_BLOCKS];
	u8 number;
	u8 snap_number;
	bool is_active_lost;
	bool is_frozen_lost;
} model;

/* Every generation that was ever shown, each with its interim one behind it. */
static uuid_t generations[NR_GENERATIONS];
static unsigned int nr_generations;

/* Sizes from less than a block to more than fits, with odd ends. */
static bool make_size(struct fuzz_input *input, unsigned int *min_shift, u32 *max_blocks)
{
	*min_shift = SECTOR_SHIFT + fuzz_below(input, 8);
	*max_blocks = 1 + fuzz_below(input, MAX_BLOCKS);
	model.nr_sectors = 1 + (fuzz_below(input, MAX_BLOCKS * 4) <<
				fuzz_below(input, 44));
	model.block_shift = *min_shift;
	while (model.block_shift < 31 &&
	       (model.nr_sectors - 1) >> (model.block_shift - SECTOR_SHIFT) >= *max_blocks)
		model.block_shift++;
	model.nr_blocks = ((model.nr_sectors - 1) >> (model.block_shift - SECTOR_SHIFT)) + 1;
	return (model.nr_sectors - 1) >> (model.block_shift - SECTOR_SHIFT) < *max_blocks;
}

static void model_fill(u8 *bytes, u64 sector, u64 nr_sectors, u8 number)
{
	unsigned int shift = model.block_shift - SECTOR_SHIFT;
	u64 last;

	if (!nr_sectors || sector >= model.nr_sectors)
		return;
	last = min(nr_sectors, model.nr_sectors - sector) + sector - 1;
	memset(bytes + (sector >> shift), number, (last >> shift) - (sector >> shift) + 1);
}

/* Anywhere, also where the device has ended and where numbers do. */
static void make_span(struct fuzz_input *input, u64 *sector, u64 *nr_sectors)
{
	u8 byte = fuzz_byte(input);

	*sector = fuzz_below(input, model.nr_sectors);
	*nr_sectors = fuzz_byte(input);
	if (byte & 1)
		*sector += 1ULL << (byte >> 2);
	if (byte & 2)
		*nr_sectors = U64_MAX >> (byte >> 2);
}

static void mark(struct fuzz_input *input, struct cbt_map *map)
{
	unsigned long nr_failed = host_nr_failed_allocs();
	u64 sector, nr_sectors;

	make_span(input, &sector, &nr_sectors);
	host_forbid_sleep(true);
	cbt_map_mark(map, sector, nr_sectors);
	host_forbid_sleep(false);
	if (host_nr_failed_allocs() > nr_failed)
		model.is_active_lost = true;
	else if (!model.is_active_lost)
		model_fill(model.active, sector, nr_sectors, model.number);
}

/* As the filter marks: if memory is needed, somebody else makes the mark. */
static void mark_nowait(struct fuzz_input *input, struct cbt_map *map, bool is_short)
{
	unsigned long nr_allocs = host_nr_allocs(), nr_failed = host_nr_failed_allocs();
	u64 sector, nr_sectors;
	bool is_marked;

	make_span(input, &sector, &nr_sectors);
	is_marked = is_short ? cbt_map_mark_short(map, sector, nr_sectors) :
			       cbt_map_mark_nowait(map, sector, nr_sectors);
	FUZZ_CHECK(host_nr_allocs() == nr_allocs);
	if (!is_marked && !is_short) {
		/* Memory is needed, and that is what a mark then asks for. */
		FUZZ_CHECK(!model.is_active_lost);
		cbt_map_mark(map, sector, nr_sectors);
		FUZZ_CHECK(host_nr_allocs() > nr_allocs);
		if (host_nr_failed_allocs() > nr_failed)
			model.is_active_lost = true;
		is_marked = true;
	}
	if (is_marked && !model.is_active_lost)
		model_fill(model.active, sector, nr_sectors, model.number);
}

static void lose(struct cbt_map *map)
{
	cbt_map_lose(map, CBT_LATE_WRITE);
	model.is_active_lost = true;
	model.is_frozen_lost = true;
}

static void mark_both(struct fuzz_input *input, struct cbt_map *map)
{
	unsigned long nr_failed = host_nr_failed_allocs();
	u64 sector, nr_sectors;
	int ret;

	make_span(input, &sector, &nr_sectors);
	ret = cbt_map_mark_both(map, sector, nr_sectors);
	FUZZ_CHECK(ret == (host_nr_failed_allocs() > nr_failed ? -ENOMEM : 0));
	if (ret) {
		model.is_active_lost = true;
		model.is_frozen_lost = true;
		return;
	}
	if (!model.is_active_lost)
		model_fill(model.active, sector, nr_sectors, model.number);
	if (model.snap_number && !model.is_frozen_lost)
		model_fill(model.frozen, sector, nr_sectors, model.snap_number);
}

static void model_switch(void)
{
	if (model.is_active_lost || model.snap_number == U8_MAX) {
		memset(model.active, 0, sizeof(model.active));
		model.number = 1;
		model.is_active_lost = false;
		model.is_frozen_lost = false;
		nr_generations++;
	}
	memcpy(model.frozen, model.active, sizeof(model.frozen));
	model.snap_number = model.number;
	if (model.number < U8_MAX)
		model.number++;
}

/* Never shown before; or, once it was shown, the same until the next one. */
static void check_generation(const uuid_t *generation)
{
	unsigned int number = 2 * nr_generations + model.is_frozen_lost;
	static const uuid_t none;
	unsigned int i;

	if (number >= NR_GENERATIONS)
		return;
	for (i = 0; i < number; i++)
		FUZZ_CHECK(!uuid_equal(generation, &generations[i]));
	if (uuid_equal(&generations[number], &none))
		generations[number] = *generation;
	FUZZ_CHECK(uuid_equal(generation, &generations[number]));
}

static void check_info(struct cbt_map *map)
{
	struct cbt_map_info info;

	memset(&info, 0xa5, sizeof(info));
	cbt_map_info(map, &info);
	FUZZ_CHECK(info.nr_sectors == model.nr_sectors);
	FUZZ_CHECK(info.nr_sectors == cbt_map_nr_sectors(map));
	FUZZ_CHECK(info.block_bytes == 1U << model.block_shift);
	FUZZ_CHECK(info.nr_blocks == model.nr_blocks);
	FUZZ_CHECK(info.snap_number == (model.is_frozen_lost ? 0 : model.snap_number));
	FUZZ_CHECK(!info.ends == !(model.is_active_lost || model.snap_number == U8_MAX));
	FUZZ_CHECK(info.began);
	check_generation(&info.generation);
}

/* What has changed is not known in a generation that ends. */
static void check_usage(const struct cbt_map *map)
{
	struct cbt_map_usage usage = { 0 };
	unsigned long page = 0;
	u32 nr_changed = 0, i;

	while (cbt_map_add_usage(map, page, &usage))
		page++;
	for (i = 0; i < model.nr_blocks; i++)
		nr_changed += model.active[i] == model.number;
	FUZZ_CHECK(model.is_active_lost || model.snap_number == U8_MAX ||
		   usage.nr_changed == nr_changed);
}

static void check_frozen(struct cbt_map *map, u32 offset, u32 nr_bytes)
{
	bool is_known = model.snap_number && !model.is_frozen_lost;
	u32 found;

	do {
		const u8 *bytes;

		found = nr_bytes;
		bytes = cbt_map_frozen_bytes(map, offset, &found);
		FUZZ_CHECK(bytes && found <= nr_bytes);
		FUZZ_CHECK(!found == (!nr_bytes || offset >= model.nr_blocks));
		FUZZ_CHECK(!found || found <= model.nr_blocks - offset);
		FUZZ_CHECK(!is_known || !memcmp(bytes, model.frozen + offset, found));
		offset += found;
		nr_bytes -= found;
	} while (found);
}

static void read_frozen(struct fuzz_input *input, struct cbt_map *map)
{
	u32 offset = fuzz_below(input, model.nr_blocks + 2);

	check_frozen(map, offset, fuzz_byte(input) & 1 ? ~0U : fuzz_below(input, MAX_BLOCKS));
	check_usage(map);
}

static void use_map(struct fuzz_input *input, struct cbt_map *map)
{
	unsigned int i, nr;

	while (!fuzz_is_over(input)) {
		switch (fuzz_byte(input) % 16) {
		case 0:
			fuzz_fail_alloc(input);
			break;
		case 1:
			/* As many as it takes for the numbers to be used up. */
			nr = 1 + (fuzz_byte(input) & 0x81 ? 0 : 200);
			for (i = 0; i < nr; i++) {
				cbt_map_switch(map);
				model_switch();
			}
			break;
		case 2:
			cbt_map_reap(map);
			break;
		case 3 ... 6:
			mark_both(input, map);
			break;
		case 7:
			read_frozen(input, map);
			break;
		case 8 ... 11:
			mark_nowait(input, map, false);
			break;
		case 12:
			mark_nowait(input, map, true);
			break;
		case 13:
			/* Not too often: it hides what the frozen map holds. */
			if (!(fuzz_byte(input) & 7))
				lose(map);
			break;
		default:
			mark(input, map);
			break;
		}
		check_info(map);
	}
	check_frozen(map, 0, model.nr_blocks);
	check_usage(map);
}

void fuzz_one(struct fuzz_input *input)
{
	unsigned int min_shift;
	struct cbt_map *map;
	u32 max_blocks;
	bool is_possible;

	memset(&model, 0, sizeof(model));
	memset(generations, 0, sizeof(generations));
	nr_generations = 0;
	model.number = 1;
	is_possible = make_size(input, &min_shift, &max_blocks);
	fuzz_fail_alloc(input);
	map = cbt_map_create(model.nr_sectors, min_shift, max_blocks, CBT_TRACKED);
	if (IS_ERR(map)) {
		FUZZ_CHECK(PTR_ERR(map) == (is_possible ? -ENOMEM : -EOPNOTSUPP));
		FUZZ_CHECK(!is_possible || host_nr_failed_allocs());
		return;
	}
	FUZZ_CHECK(is_possible);
	use_map(input, map);
	cbt_map_destroy(map);
}
