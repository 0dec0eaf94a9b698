// SPDX-License-Identifier: GPL-2.0
/*
 * Random calls about trackers, and what all random arguments are made of
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "test_hostile.h"

/* More rows than there can ever be trackers or snapshots. */
#define MANY_ROWS 24

/* --- numbers --- */

/* Where counts and sizes overflow, and anywhere. */
uint32_t strange_number(struct caller *caller)
{
	static const uint32_t edges[] = {
		MAX_RANGES + 1, MAX_RANGES * 2, 0x08000000, 0x0fffffff,
		0x10000000, 0x10000001, 0x15555556, 0x20000001, 0x7fffffff,
		0x80000000, 0xfffffff0, 0xffffffff,
	};

	if (chance(caller, 3))
		return random_next(&caller->random) | MAX_RANGES << 1;
	return edges[pick(caller, ARRAY_SIZE(edges))];
}

/* A part of what is at @from and behind. */
void make_range_good(struct caller *caller, struct blk_snap_block_range *range,
		     uint64_t from, uint64_t nr_sectors, unsigned int align)
{
	uint64_t room = (nr_sectors - from) / align;
	uint64_t at = pick(caller, room);
	uint64_t most = room - at < 64 ? room - at : 64;

	range->sector_offset = from + at * align;
	range->sector_count = (1 + pick(caller, most)) * align;
}

/* Empty, or not within @nr_sectors. */
void make_range_bad(struct caller *caller, struct blk_snap_block_range *range,
		    uint64_t nr_sectors)
{
	uint64_t at = pick(caller, nr_sectors / 8) * 8;

	range->sector_offset = at;
	switch (pick(caller, 7)) {
	case 0:
		range->sector_count = 0;
		break;
	case 1:
		range->sector_count = nr_sectors - at + 8;
		break;
	case 2:
		range->sector_offset = nr_sectors;
		range->sector_count = 8;
		break;
	case 3:
		/* The end is a small number again. */
		range->sector_count = 16 - at;
		if (at <= 16)
			range->sector_count = UINT64_MAX;
		break;
	case 4:
		range->sector_offset = UINT64_MAX - pick(caller, 64);
		range->sector_count = 1 + pick(caller, 128);
		break;
	case 5:
		range->sector_offset = 1ULL << (40 + pick(caller, 24));
		range->sector_count = 8;
		break;
	default:
		range->sector_count = 1ULL << (40 + pick(caller, 24));
		break;
	}
}

/* --- devices --- */

/* Numbers that no device has, some of them nearly those of one that is there. */
struct blk_snap_dev strange_dev(struct caller *caller)
{
	struct blk_snap_dev dev = targets[pick(caller, NR_TARGETS)].disk.id;

	switch (pick(caller, 6)) {
	case 0:
		dev.mj += 1U << 12;
		break;
	case 1:
		dev.mn += 1U << 20;
		break;
	case 2:
		dev.mn += 1000;
		break;
	case 3:
		dev.mj = 0;
		dev.mn = 0;
		break;
	case 4:
		dev.mj = random_next(&caller->random) | 1U << 31;
		dev.mn = random_next(&caller->random);
		break;
	default:
		dev.mj = 4000;
		dev.mn = 7;
		break;
	}
	return dev;
}

/* Of a snapshot in the model; in a crowd, of the honest one. */
static bool pick_image(struct caller *caller, struct call *call)
{
	const struct model_snapshot *snapshot =
		&model.snapshots[pick(caller, MAX_SNAPSHOTS)];
	unsigned int target = pick(caller, NR_TARGETS);

	if (caller->is_borrowing) {
		call->args.dev = honest_image();
		return true;
	}
	if (!caller->is_alone || !snapshot->is_taken ||
	    !(snapshot->members & 1U << target))
		return false;
	call->args.dev = snapshot->images[target];
	return true;
}

/**
 * pick_dev() - name a device
 * @caller:	who does so
 * @call:	filled in: the device, and if it is a target, which
 */
void pick_dev(struct caller *caller, struct call *call)
{
	if (chance(caller, 8)) {
		call->args.dev = strange_dev(caller);
		return;
	}
	if (chance(caller, 8) && pick_image(caller, call))
		return;
	if (caller->is_borrowing && chance(caller, 8)) {
		call->args.dev = honest_origins[pick(caller, 2)].id;
		return;
	}
	/* Most often one of those that can be tracked. */
	call->target = pick(caller, chance(caller, 8) ? NR_TARGETS :
							TARGET_4K + 1);
	call->args.dev = targets[call->target].disk.id;
}

static bool dev_is(const struct blk_snap_dev *a, const struct blk_snap_dev *b)
{
	return a->mj == b->mj && a->mn == b->mn;
}

static bool dev_is_honest(const struct call *call)
{
	return dev_is(&call->args.dev, &honest_origins[0].id) ||
	       dev_is(&call->args.dev, &honest_origins[1].id);
}

static const struct model_tracker *tracker_of(const struct call *call)
{
	return call->target < 0 ? NULL : &model.trackers[call->target];
}

/* --- arrays --- */

/* Room for the array, for the module to read or to write. */
void place_array(struct caller *caller, struct call *call, size_t nr_bytes)
{
	memory_place(caller, &caller->array_arena, nr_bytes, &call->array);
	call->args.pointer = call->array.user;
}

void fill_array(struct caller *caller, const struct call *call,
		const void *content)
{
	if (call->array.own)
		memcpy(call->array.own, content, call->array.nr_bytes);
	if (call->array.head)
		memcpy(call->array.head, content, call->array.nr_head_bytes);
	memory_settle(&caller->array_arena, &call->array);
}

/* So many entries are to be written, if nothing else goes wrong. */
void expect_output(struct caller *caller, struct call *call, unsigned int nr)
{
	if (call->array.is_writable)
		return;
	/* What there is of the memory may be enough. */
	if (nr && !call->array.head)
		fails_by_state(caller, call, EFAULT);
	else
		may_fail(call, EFAULT);
}

bool array_is_null(const struct call *call)
{
	uintptr_t pointer = (uintptr_t)call->args.pointer;

	return !(call->is_compat ? pointer & 0xffffffffU : pointer);
}

/* --- the calls --- */

void make_version(struct caller *caller, struct call *call)
{
	(void)caller;
	(void)call;
}

void make_tracker_remove(struct caller *caller, struct call *call)
{
	const struct model_tracker *tracker;

	if (chance(caller, 4))
		honest_borrow(caller);
	pick_dev(caller, call);
	tracker = tracker_of(call);
	if (dev_is_honest(call))
		must_fail(call, EBUSY);
	else if (!tracker)
		must_fail(call, ENODATA);
	else if (!tracker->is_tracked)
		fails_by_state(caller, call, ENODATA);
	else if (tracker->snapshot >= 0)
		fails_by_state(caller, call, EBUSY);
}

void make_tracker_collect(struct caller *caller, struct call *call)
{
	size_t row = call->is_compat ? 44 : 48;
	uint32_t nr_rows = chance(caller, 3) ? MANY_ROWS : pick(caller, 14);
	unsigned int nr_tracked = model_nr_tracked();
	uint32_t room;

	place_array(caller, call, nr_rows * row);
	call->room = nr_rows * row;
	call->args.count = nr_rows;
	if (nr_rows == MANY_ROWS && chance(caller, 2))
		call->args.count = strange_number(caller);
	if (chance(caller, 8))
		call->args.pointer = NULL;
	room = array_is_null(call) ? 0 : call->args.count;
	if (!room)
		return;
	if (nr_tracked > room)
		fails_by_state(caller, call, ENOBUFS);
	else
		expect_output(caller, call, nr_tracked);
}

static void pick_map_part(struct caller *caller, struct call *call)
{
	uint32_t nr_blocks = 2048;

	if (call->target >= 0)
		nr_blocks = target_nr_blocks(&targets[call->target]);
	call->args.offset = pick(caller, nr_blocks);
	call->args.length = chance(caller, 4) ? pick(caller, 2 * nr_blocks) :
						pick(caller, 100);
	if (chance(caller, 6))
		call->args.offset = nr_blocks - 1 + pick(caller, 3);
	else if (chance(caller, 12))
		call->args.offset = strange_number(caller);
	if (chance(caller, 12))
		call->args.length = strange_number(caller);
}

/* The map is there. */
static void expect_map(struct caller *caller, struct call *call)
{
	uint32_t nr_blocks = target_nr_blocks(&targets[call->target]);
	bool is_any = call->args.length && call->args.offset < nr_blocks;

	if (call->args.offset > nr_blocks)
		must_fail(call, EINVAL);
	else
		expect_output(caller, call, is_any);
}

void make_read_map(struct caller *caller, struct call *call)
{
	const struct model_tracker *tracker;

	if (chance(caller, 4))
		honest_borrow(caller);
	pick_dev(caller, call);
	pick_map_part(caller, call);
	call->room = call->args.length < ZONE_BYTES ? call->args.length :
						      ZONE_BYTES;
	place_array(caller, call, call->room);
	tracker = tracker_of(call);
	if (dev_is_honest(call))
		may_fail(call, EFAULT);
	else if (!tracker)
		must_fail(call, ENODATA);
	else if (!tracker->is_tracked)
		fails_by_state(caller, call, ENODATA);
	else if (!tracker->snap_number)
		fails_by_state(caller, call, EPERM);
	else if (caller->is_alone)
		expect_map(caller, call);
	if (!caller->is_alone && !call->array.is_writable)
		may_fail(call, EFAULT);
}

/* Which target is meant by the device, an image of it perhaps; or -1. */
static int target_to_mark(struct caller *caller, const struct call *call)
{
	if (call->target >= 0)
		return call->target;
	return caller->is_alone ? model_target_of_image(call->args.dev) : -1;
}

static void make_mark_ranges(struct caller *caller, struct call *call,
			     uint64_t nr_sectors)
{
	uint32_t i;

	for (i = 0; i < call->args.count; i++)
		make_range_good(caller, &call->ranges[i], 0, nr_sectors, 1);
	if (call->args.count && chance(caller, 4)) {
		make_range_bad(caller, &call->ranges[pick(caller, call->args.count)],
			       nr_sectors);
		must_fail(call, EINVAL);
	}
}

static void expect_mark(struct caller *caller, struct call *call, int target)
{
	/* Only targets are tracked by callers, and the honest ones by others. */
	if (target >= 0 && !model.trackers[target].is_tracked)
		fails_by_state(caller, call, ENODEV);
	if (target < 0 && !caller->is_borrowing)
		must_fail(call, ENODEV);
	if (call->args.count > MAX_RANGES)
		must_fail(call, E2BIG);
	else if (call->args.count && !call->array.is_readable)
		must_fail(call, EFAULT);
}

void make_mark(struct caller *caller, struct call *call)
{
	uint64_t nr_sectors = HONEST_SECTORS;
	int target;

	if (chance(caller, 4))
		honest_borrow(caller);
	pick_dev(caller, call);
	target = target_to_mark(caller, call);
	if (target >= 0)
		nr_sectors = targets[target].nr_sectors;
	call->args.count = pick(caller, MAX_GOOD_RANGES + 1);
	make_mark_ranges(caller, call, nr_sectors);
	place_array(caller, call, call->args.count * sizeof(call->ranges[0]));
	fill_array(caller, call, call->ranges);
	if (chance(caller, 16))
		call->args.count = strange_number(caller);
	expect_mark(caller, call, target);
	call->target = target;
}
