// SPDX-License-Identifier: GPL-2.0
/*
 * Fuzzer of the difference storage: against a list of ranges and the sectors
 * of two disks
 */
#include "diff_storage.h"
#include "fuzz.h"

#define DISK_SECTORS 512U
#define PART_START 100U
#define MAX_RANGES 64U
#define MAX_APPENDED 20U	/* more than the first array takes */

static struct gendisk disks[] = { { 0 }, { 1 } };
static struct block_device bdevs[] = {
	{ 0, &disks[0] },
	{ PART_START, &disks[0] },
	{ 0, &disks[1] },
};

static struct {
	struct diff_range ranges[MAX_RANGES];	/* as appended */
	unsigned int nr_ranges;
	bool is_used[ARRAY_SIZE(disks)][DISK_SECTORS + PART_START];
	u64 nr_handed_out;
	u64 low_limit;
	bool is_low;
	unsigned int nr_low_calls;
} model;

static unsigned int nr_low_calls;

static void count_low_call(void *data, u64 nr_sectors)
{
	FUZZ_CHECK(data == &model);
	FUZZ_CHECK(nr_sectors == 2 * model.low_limit);
	FUZZ_CHECK(!host_nr_locks_held());
	nr_low_calls++;
}

static u64 usable(const struct diff_range *range)
{
	if (range->is_unused)
		return 0;
	return range->nr_sectors / DIFF_STORAGE_ALIGN_SECTORS * DIFF_STORAGE_ALIGN_SECTORS;
}

static u64 model_capacity(void)
{
	u64 capacity = 0;
	unsigned int i;

	for (i = 0; i < model.nr_ranges; i++)
		capacity += usable(&model.ranges[i]);
	return capacity;
}

static void make_range(struct fuzz_input *input, struct diff_range *range)
{
	u8 byte = fuzz_byte(input);

	range->bdev = &bdevs[byte % ARRAY_SIZE(bdevs)];
	range->is_unused = byte & 0x20;
	range->sector = fuzz_below(input, DISK_SECTORS);
	range->nr_sectors = fuzz_below(input, 40);
	if (range->nr_sectors > DISK_SECTORS - range->sector)
		range->nr_sectors = DISK_SECTORS - range->sector;
	/* No device is so large, but who calls may say so. */
	if (byte >= 0xf8)
		range->nr_sectors = U64_MAX - range->sector + fuzz_below(input, 3);
	else if (byte >= 0xf0)
		range->sector = U64_MAX - fuzz_below(input, 60);
}

/* Some that may meet each other, or a row of those that do not. */
static unsigned int make_ranges(struct fuzz_input *input, struct diff_range *ranges)
{
	u8 byte = fuzz_byte(input);
	unsigned int i, nr = byte & 7;

	if (nr) {
		for (i = 0; i + 1 < nr; i++)
			make_range(input, &ranges[i]);
		return nr - 1;
	}
	make_range(input, &ranges[0]);
	ranges[0].nr_sectors &= 15;
	for (i = 1; i < MAX_APPENDED; i++) {
		ranges[i] = ranges[i - 1];
		ranges[i].sector += 16;
	}
	return MAX_APPENDED;
}

static bool range_fits(const struct diff_range *range)
{
	return range->sector <= DISK_SECTORS &&
	       range->nr_sectors <= DISK_SECTORS - range->sector;
}

static bool *model_sectors(const struct diff_range *range)
{
	return &model.is_used[range->bdev->bd_disk->number]
			     [range->bdev->bd_start_sect + range->sector];
}

static bool model_overlaps(const struct diff_range *range)
{
	return range->nr_sectors && memchr(model_sectors(range), true, range->nr_sectors);
}

/* Takes one range after the other; none may be empty or meet another one. */
static bool model_enter(const struct diff_range *ranges, unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr; i++) {
		if (!ranges[i].nr_sectors || !range_fits(&ranges[i]) ||
		    model_overlaps(&ranges[i]))
			return false;
		memset(model_sectors(&ranges[i]), true, ranges[i].nr_sectors);
		model.ranges[model.nr_ranges++] = ranges[i];
	}
	return true;
}

/* A range so large that only its end shows that it is impossible. */
static bool is_doubtful(const struct diff_range *ranges, unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr; i++) {
		u64 end;

		if (!range_fits(&ranges[i]) && ranges[i].nr_sectors &&
		    !check_add_overflow(ranges[i].sector, ranges[i].nr_sectors, &end) &&
		    !check_add_overflow(end, ranges[i].bdev->bd_start_sect, &end))
			return true;
	}
	return false;
}

static void append(struct fuzz_input *input, struct diff_storage *storage)
{
	struct diff_range ranges[MAX_APPENDED];
	unsigned int nr = make_ranges(input, ranges);
	unsigned long nr_failed = host_nr_failed_allocs();
	__typeof__(model) before = model;
	bool is_right;
	int ret;

	/* The unit does not know how large devices are: that is checked before. */
	if (model.nr_ranges + nr > MAX_RANGES || is_doubtful(ranges, nr))
		return;
	ret = diff_storage_append(storage, ranges, nr);
	is_right = model_enter(ranges, nr);
	if (host_nr_failed_allocs() > nr_failed)
		FUZZ_CHECK(ret == -ENOMEM);
	else
		FUZZ_CHECK(ret == (is_right ? 0 : -EINVAL));
	if (ret)
		model = before;
	else if (nr && model_capacity() - model.nr_handed_out > model.low_limit)
		model.is_low = false;
}

/* Where a position lies, and how many sectors go on from there. */
static struct diff_range model_place(u64 position, u64 nr_sectors)
{
	struct diff_range place = { NULL, 0, 0, false };
	unsigned int i;

	for (i = 0; i < model.nr_ranges; i++) {
		u64 nr_usable = usable(&model.ranges[i]);

		if (position < nr_usable) {
			place = model.ranges[i];
			place.sector += position;
			place.nr_sectors = min(nr_sectors, nr_usable - position);
			break;
		}
		position -= nr_usable;
	}
	return place;
}

static bool places_are_equal(const struct diff_range *a, const struct diff_range *b)
{
	return a->bdev == b->bdev && a->sector == b->sector && a->nr_sectors == b->nr_sectors;
}

static void alloc(struct fuzz_input *input, struct diff_storage *storage)
{
	u64 nr_sectors = fuzz_below(input, 100);
	struct diff_range region, expected;
	u64 position;
	int ret = diff_storage_alloc(storage, nr_sectors, &position, &region);

	if (!nr_sectors) {
		FUZZ_CHECK(ret == -EINVAL && host_take_warnings() == 1);
		return;
	}
	if (model.nr_handed_out == model_capacity()) {
		FUZZ_CHECK(ret == -ENOSPC);
	} else {
		expected = model_place(model.nr_handed_out, round_up(nr_sectors, 8));
		FUZZ_CHECK(!ret && position == model.nr_handed_out);
		FUZZ_CHECK(places_are_equal(&region, &expected));
		model.nr_handed_out += region.nr_sectors;
	}
	if (!model.is_low && model_capacity() - model.nr_handed_out <= model.low_limit) {
		model.is_low = true;
		model.nr_low_calls++;
	}
}

static void map(struct fuzz_input *input, struct diff_storage *storage)
{
	u64 position = fuzz_below(input, model.nr_handed_out + 8);
	u64 nr_sectors = 1 + fuzz_below(input, 100);
	struct diff_range region, expected;

	diff_storage_map(storage, position, nr_sectors, &region);
	if (position >= model.nr_handed_out) {
		FUZZ_CHECK(host_take_warnings() == 1);
		FUZZ_CHECK(!region.bdev && !region.nr_sectors);
		return;
	}
	expected = model_place(position, nr_sectors);
	FUZZ_CHECK(places_are_equal(&region, &expected));
}

static void check_overlap(struct fuzz_input *input, struct diff_storage *storage)
{
	struct diff_range range;

	make_range(input, &range);
	if (range.nr_sectors && range_fits(&range))
		FUZZ_CHECK(diff_storage_overlaps(storage, &range) == model_overlaps(&range));
}

static void check_ranges_of_disk(struct diff_storage *storage, const struct gendisk *disk)
{
	unsigned int i, cursor = 0;
	struct diff_range range;

	for (i = 0; i < model.nr_ranges; i++) {
		if (model.ranges[i].bdev->bd_disk != disk)
			continue;
		FUZZ_CHECK(diff_storage_next_on_disk(storage, disk, &cursor, &range));
		FUZZ_CHECK(places_are_equal(&range, &model.ranges[i]));
	}
	FUZZ_CHECK(!diff_storage_next_on_disk(storage, disk, &cursor, &range));
}

static void check_counters(struct diff_storage *storage)
{
	FUZZ_CHECK(diff_storage_capacity(storage) == model_capacity());
	FUZZ_CHECK(diff_storage_free_sectors(storage) ==
		   model_capacity() - model.nr_handed_out);
	FUZZ_CHECK(nr_low_calls == model.nr_low_calls);
}

static void use_storage(struct fuzz_input *input, struct diff_storage *storage)
{
	while (!fuzz_is_over(input)) {
		switch (fuzz_byte(input) % 8) {
		case 0:
			fuzz_fail_alloc(input);
			break;
		case 1 ... 3:
			append(input, storage);
			break;
		case 4:
			check_overlap(input, storage);
			break;
		case 5:
			map(input, storage);
			break;
		default:
			alloc(input, storage);
			break;
		}
		check_counters(storage);
	}
	check_ranges_of_disk(storage, &disks[0]);
	check_ranges_of_disk(storage, &disks[1]);
}

void fuzz_one(struct fuzz_input *input)
{
	struct diff_storage *storage;

	memset(&model, 0, sizeof(model));
	nr_low_calls = 0;
	model.low_limit = fuzz_below(input, 200);
	fuzz_fail_alloc(input);
	storage = diff_storage_create(model.low_limit, 0, count_low_call, &model);
	if (IS_ERR(storage)) {
		FUZZ_CHECK(PTR_ERR(storage) == -ENOMEM && host_nr_failed_allocs());
		return;
	}
	use_storage(input, storage);
	diff_storage_destroy(storage);
}
