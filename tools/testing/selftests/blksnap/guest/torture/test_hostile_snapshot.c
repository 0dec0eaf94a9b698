// SPDX-License-Identifier: GPL-2.0
/*
 * Random calls about snapshots
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "test_hostile.h"

#define MANY_ENTRIES 16	/* more than there are snapshots, or members of one */

/* Of so many creates that could succeed one is made so: they take long. */
#define ONE_CREATE_OF 2

/* --- identifiers --- */

static int pick_live(struct caller *caller)
{
	unsigned int i, first = pick(caller, MAX_SNAPSHOTS);

	for (i = 0; i < MAX_SNAPSHOTS; i++)
		if (model.snapshots[(first + i) % MAX_SNAPSHOTS].is_live)
			return (first + i) % MAX_SNAPSHOTS;
	return -1;
}

/* One that was destroyed, one that is nearly right, and others. */
static void pick_wrong_id(struct caller *caller, struct call *call)
{
	unsigned int i;

	call->id_kind = ID_WRONG;
	switch (pick(caller, 4)) {
	case 0:
		call->args.id = model.dead_id;
		break;
	case 1:
		memset(&call->args.id, pick(caller, 2) ? 0xff : 0,
		       sizeof(call->args.id));
		break;
	case 2:
		if (!caller->is_alone)
			crowd_pick_id(&caller->random, &call->args.id);
		else if (model_nr_live())
			call->args.id = model.snapshots[pick_live(caller)].id;
		call->args.id.b[pick(caller, 16)] ^= 1 << pick(caller, 8);
		break;
	default:
		for (i = 0; i < sizeof(call->args.id.b); i++)
			call->args.id.b[i] = random_next(&caller->random) >> 32;
		break;
	}
}

/**
 * pick_id() - name a snapshot
 * @caller:	who does so
 * @call:	filled in: the identifier, and what is known of it
 */
void pick_id(struct caller *caller, struct call *call)
{
	if (caller->is_borrowing && !chance(caller, 3)) {
		call->id_kind = ID_HONEST;
		call->args.id = *honest_id();
		return;
	}
	if (chance(caller, 6) || (caller->is_alone && !model_nr_live())) {
		pick_wrong_id(caller, call);
		return;
	}
	if (!caller->is_alone) {
		call->id_kind = ID_POOL;
		crowd_pick_id(&caller->random, &call->args.id);
		return;
	}
	call->id_kind = ID_LIVE;
	call->snapshot = pick_live(caller);
	call->args.id = model.snapshots[call->snapshot].id;
}

static const struct model_snapshot *snapshot_of(const struct call *call)
{
	return call->snapshot < 0 ? NULL : &model.snapshots[call->snapshot];
}

/* --- CREATE --- */

static void make_good_members(struct caller *caller, struct call *call,
			      struct blk_snap_dev *devs)
{
	unsigned int i;

	for (i = 0; i < call->args.count; i++) {
		int target;

		do {
			target = pick(caller, NR_TARGETS);
		} while (!targets[target].can_track ||
			 call->members & 1U << target);
		devs[i] = targets[target].disk.id;
		call->members |= 1U << target;
		if (model.trackers[target].snapshot >= 0)
			fails_by_state(caller, call, EALREADY);
	}
}

/* Something that cannot be a member, as the first one: that costs least. */
static void spoil_members(struct caller *caller, struct call *call,
			  struct blk_snap_dev *devs)
{
	int target = pick(caller, NR_TARGETS);
	unsigned int at = chance(caller, 8) ? pick(caller, call->args.count) : 0;

	switch (pick(caller, honest_borrow(caller) ? 4 : 3)) {
	case 0:
		devs[at] = strange_dev(caller);
		must_fail(call, ENODEV);
		must_fail(call, ENXIO);
		break;
	case 1:
		if (!targets[target].create_errno)
			target = TARGET_ZONED;
		devs[at] = targets[target].disk.id;
		must_fail(call, targets[target].create_errno);
		break;
	case 3:
		devs[at] = chance(caller, 2) ? honest_image() :
					       honest_origins[0].id;
		must_fail(call, EALREADY);
		must_fail(call, EOPNOTSUPP);
		break;
	default:
		devs[call->args.count] = devs[0];
		call->args.count++;
		must_fail(call, EINVAL);
		break;
	}
}

void make_create(struct caller *caller, struct call *call)
{
	struct blk_snap_dev devs[6];

	call->args.count = 1 + pick(caller, chance(caller, 3) ? 4 : 2);
	make_good_members(caller, call, devs);
	if (!call_must_fail(call) && !chance(caller, ONE_CREATE_OF))
		spoil_members(caller, call, devs);
	if (chance(caller, 16))
		call->args.count = 0;
	place_array(caller, call, call->args.count * sizeof(devs[0]));
	fill_array(caller, call, devs);
	if (chance(caller, 16))
		call->args.count = strange_number(caller);
	if (!call->args.count || call->args.count > MAX_MEMBERS)
		must_fail(call, EINVAL);
	else if (!call->array.is_readable)
		must_fail(call, EFAULT);
	if (caller->is_alone && model_find_free() < 0)
		must_fail(call, EALREADY);
	memset(&call->args.id, POISON, sizeof(call->args.id));
}

/* --- DESTROY, TAKE --- */

void make_destroy(struct caller *caller, struct call *call)
{
	/* Each one that succeeds leaves less to the other calls. */
	if (chance(caller, caller->is_alone ? 2 : 8))
		pick_id(caller, call);
	else
		pick_wrong_id(caller, call);
	if (call->id_kind == ID_WRONG)
		must_fail(call, ENODEV);
}

void make_take(struct caller *caller, struct call *call)
{
	const struct model_snapshot *snapshot;

	if (chance(caller, 6))
		honest_borrow(caller);
	pick_id(caller, call);
	snapshot = snapshot_of(call);
	if (call->id_kind == ID_WRONG)
		must_fail(call, ESRCH);
	if (call->id_kind == ID_HONEST)
		must_fail(call, EALREADY);
	if (call->id_kind == ID_POOL)
		may_fail(call, EFAULT);
	if (!snapshot)
		return;
	if (snapshot->is_taken)
		must_fail(call, EALREADY);
	else if (!snapshot->nr_usable)
		must_fail(call, EFAULT);
}

/* --- APPEND_STORAGE --- */

static bool ranges_meet(const struct blk_snap_block_range *a,
			const struct blk_snap_block_range *b)
{
	return a->sector_offset < b->sector_offset + b->sector_count &&
	       b->sector_offset < a->sector_offset + a->sector_count;
}

static void expect_range(struct caller *caller, struct call *call, uint32_t i)
{
	const struct target *target = &targets[call->target];
	uint64_t start = target->start + call->ranges[i].sector_offset;
	uint64_t end = start + call->ranges[i].sector_count;
	uint32_t j;

	for (j = 0; j < i; j++)
		if (ranges_meet(&call->ranges[i], &call->ranges[j]))
			must_fail(call, EINVAL);
	if (!caller->is_alone)
		return;
	if (model_range_is_used(target->whole, start, end))
		must_fail(call, EINVAL);
	if (model_range_is_protected(call->snapshot, target->whole, start, end))
		must_fail(call, EBUSY);
}

/* Good ones where storage may be; or one among them that cannot be right. */
static void make_append_ranges(struct caller *caller, struct call *call)
{
	const struct target *target = &targets[call->target];
	unsigned int align = target->block_bytes / SECTOR_SIZE;
	uint64_t from = target->store_from;
	uint32_t i;

	for (i = 0; i < call->args.count; i++) {
		make_range_good(caller, &call->ranges[i],
				from < target->nr_sectors ? from : 0,
				target->nr_sectors, align);
		expect_range(caller, call, i);
	}
	if (!call->args.count)
		return;
	if (from < target->nr_sectors && !chance(caller, 4))
		return;
	i = pick(caller, call->args.count);
	must_fail(call, EINVAL);
	if (align > 1 && chance(caller, 2))
		call->ranges[i].sector_count += 1 + pick(caller, align - 1);
	else
		make_range_bad(caller, &call->ranges[i], target->nr_sectors);
}

/* The devices of others are unknown to all, images, taken or protected. */
static void expect_storage_of_others(struct call *call)
{
	static const int errors[] = { ENODEV, ENXIO, EINVAL, EBUSY };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(errors); i++)
		must_fail(call, errors[i]);
}

static void expect_append(struct call *call)
{
	const struct model_snapshot *snapshot = snapshot_of(call);
	const struct target *target = &targets[call->target];
	unsigned int i;

	if (call->args.count > MAX_RANGES)
		must_fail(call, E2BIG);
	else if (call->args.count && !call->array.is_readable)
		must_fail(call, EFAULT);
	if (call->id_kind == ID_WRONG)
		must_fail(call, ESRCH);
	if (!call->args.count)
		return;
	if (call->target < 0) {
		expect_storage_of_others(call);
		return;
	}
	if (target->append_errno)
		must_fail(call, target->append_errno);
	for (i = 0; snapshot && i < NR_TARGETS; i++)
		if (snapshot->members & 1U << i &&
		    target->block_bytes > targets[i].block_bytes)
			must_fail(call, EINVAL);
}

/*
 * Ranges of the honest workload's devices are in use or protected; but what its
 * own snapshot may have as storage is for the agent alone to say.
 */
static void pick_storage(struct caller *caller, struct call *call)
{
	pick_dev(caller, call);
	if (caller->is_borrowing && (call->target < 0 || chance(caller, 2))) {
		call->target = -1;
		call->args.dev = call->id_kind == ID_HONEST || chance(caller, 2) ?
				 honest_storage.id : honest_origins[0].id;
	}
	/* Most of them where most of the storage is. */
	if (call->target >= 0 && chance(caller, 2)) {
		call->target = TARGET_STORAGE;
		call->args.dev = targets[TARGET_STORAGE].disk.id;
	}
}

void make_append(struct caller *caller, struct call *call)
{
	uint32_t i;

	if (chance(caller, 8))
		honest_borrow(caller);
	pick_id(caller, call);
	pick_storage(caller, call);
	call->args.count = pick(caller, chance(caller, 4) ? MAX_GOOD_RANGES + 1 : 4);
	if (call->target >= 0)
		make_append_ranges(caller, call);
	for (i = 0; call->target < 0 && i < call->args.count; i++)
		make_range_good(caller, &call->ranges[i], 0, HONEST_SECTORS, 8);
	place_array(caller, call, call->args.count * sizeof(call->ranges[0]));
	fill_array(caller, call, call->ranges);
	if (chance(caller, 16))
		call->args.count = strange_number(caller);
	expect_append(call);
}

/* --- COLLECT, COLLECT_IMAGES --- */

/* Room for some entries, or for all of them while more are said to fit. */
static uint32_t make_room(struct caller *caller, struct call *call,
			  size_t entry_bytes)
{
	uint32_t nr = chance(caller, 3) ? MANY_ENTRIES : pick(caller, 8);

	place_array(caller, call, nr * entry_bytes);
	call->room = nr * entry_bytes;
	call->args.count = nr;
	if (nr == MANY_ENTRIES && chance(caller, 2))
		call->args.count = strange_number(caller);
	if (chance(caller, 8))
		call->args.pointer = NULL;
	return array_is_null(call) ? 0 : call->args.count;
}

void make_snapshot_collect(struct caller *caller, struct call *call)
{
	uint32_t room = make_room(caller, call, sizeof(struct blk_snap_uuid));
	unsigned int nr = model_nr_live();

	if (chance(caller, 4))
		honest_borrow(caller);
	if (!room)
		return;
	if (nr > room)
		fails_by_state(caller, call, ENODATA);
	else
		expect_output(caller, call, nr);
}

void make_collect_images(struct caller *caller, struct call *call)
{
	const struct model_snapshot *snapshot;
	unsigned int nr;
	uint32_t room;

	if (chance(caller, 6))
		honest_borrow(caller);
	room = make_room(caller, call, sizeof(struct blk_snap_image_info));
	pick_id(caller, call);
	snapshot = snapshot_of(call);
	if (call->id_kind == ID_WRONG)
		must_fail(call, ESRCH);
	if (call->id_kind != ID_LIVE) {
		may_fail(call, EFAULT);
		return;
	}
	nr = __builtin_popcount(snapshot->members);
	if (!snapshot->is_taken)
		must_fail(call, ENODEV);
	else if (room && nr > room)
		must_fail(call, ENODATA);
	else if (room)
		expect_output(caller, call, nr);
}

/* --- WAIT_EVENT --- */

void make_wait_event(struct caller *caller, struct call *call)
{
	const struct model_snapshot *snapshot;

	if (chance(caller, 6))
		honest_borrow(caller);
	pick_id(caller, call);
	snapshot = snapshot_of(call);
	if (chance(caller, 4))
		call->args.timeout_ms = pick(caller, 8);
	if (call->id_kind == ID_WRONG)
		must_fail(call, ESRCH);
	if (snapshot && !snapshot->has_event)
		must_fail(call, ENOENT);
}
