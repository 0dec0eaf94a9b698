// SPDX-License-Identifier: GPL-2.0
/*
 * What a single hostile caller knows: all that the module knows
 *
 * The model follows the calls that succeed.  Then and again it is compared with
 * what the module tells when it is asked properly; so a call that failed has
 * changed nothing, and one that succeeded nothing but what it should.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "test_hostile.h"

struct model model;

void model_set_up(void)
{
	unsigned int i;

	memset(&model, 0, sizeof(model));
	for (i = 0; i < NR_TARGETS; i++) {
		struct model_tracker *tracker = &model.trackers[i];

		tracker->snapshot = -1;
		tracker->active = calloc(1, target_nr_blocks(&targets[i]));
		tracker->frozen = calloc(1, target_nr_blocks(&targets[i]));
		ASSERT(tracker->active && tracker->frozen);
	}
}

void model_tear_down(void)
{
	unsigned int i;

	for (i = 0; i < NR_TARGETS; i++) {
		free(model.trackers[i].active);
		free(model.trackers[i].frozen);
	}
	memset(&model, 0, sizeof(model));
	for (i = 0; i < NR_TARGETS; i++)
		model.trackers[i].snapshot = -1;
}

unsigned int target_nr_blocks(const struct target *target)
{
	return target->nr_sectors / TRACKING_BLOCK_SECTORS;
}

/* -1 if it is not one of the targets. */
int target_of_dev(struct blk_snap_dev dev)
{
	unsigned int i;

	for (i = 0; i < NR_TARGETS; i++)
		if (!memcmp(&targets[i].disk.id, &dev, sizeof(dev)))
			return i;
	return -1;
}

/* A snapshot that does not exist, or -1. */
int model_find_free(void)
{
	unsigned int i;

	for (i = 0; i < MAX_SNAPSHOTS; i++)
		if (!model.snapshots[i].is_live)
			return i;
	return -1;
}

unsigned int model_nr_live(void)
{
	unsigned int i, nr = 0;

	for (i = 0; i < MAX_SNAPSHOTS; i++)
		nr += model.snapshots[i].is_live;
	return nr;
}

unsigned int model_nr_tracked(void)
{
	unsigned int i, nr = 0;

	for (i = 0; i < NR_TARGETS; i++)
		nr += model.trackers[i].is_tracked;
	return nr;
}

/* Has any snapshot some of it as storage? */
bool model_range_is_used(unsigned int whole, uint64_t start, uint64_t end)
{
	const struct model_snapshot *snapshot;
	unsigned int i;

	for (snapshot = model.snapshots;
	     snapshot < model.snapshots + MAX_SNAPSHOTS; snapshot++)
		for (i = 0; snapshot->is_live && i < snapshot->nr_ranges; i++)
			if (snapshot->ranges[i].whole == whole &&
			    snapshot->ranges[i].start < end &&
			    start < snapshot->ranges[i].end)
				return true;
	return false;
}

static bool target_meets(const struct target *target, unsigned int whole,
			 uint64_t start, uint64_t end)
{
	return target->whole == whole && target->start < end &&
	       start < target->start + target->nr_sectors;
}

/* Does some of it lie on what any snapshot but one protects? */
bool model_range_is_protected(int but, unsigned int whole, uint64_t start,
			      uint64_t end)
{
	int i, j;

	for (i = 0; i < MAX_SNAPSHOTS; i++) {
		if (i == but || !model.snapshots[i].is_taken)
			continue;
		for (j = 0; j < NR_TARGETS; j++)
			if (model.snapshots[i].members & 1U << j &&
			    target_meets(&targets[j], whole, start, end))
				return true;
	}
	return false;
}

/* -1 if it is no image. */
int model_target_of_image(struct blk_snap_dev dev)
{
	int i, j;

	for (i = 0; i < MAX_SNAPSHOTS; i++)
		for (j = 0; model.snapshots[i].is_taken && j < NR_TARGETS; j++)
			if (model.snapshots[i].members & 1U << j &&
			    !memcmp(&model.snapshots[i].images[j], &dev,
				    sizeof(dev)))
				return j;
	return -1;
}

/* --- what successful calls change --- */

static void apply_remove(const struct call *call)
{
	struct model_tracker *tracker = &model.trackers[call->target];

	tracker->is_tracked = false;
	tracker->snap_number = 0;
}

static void apply_mark(const struct call *call)
{
	struct model_tracker *tracker = &model.trackers[call->target];
	uint32_t i;

	for (i = 0; i < call->args.count; i++) {
		const struct blk_snap_block_range *range = &call->ranges[i];
		uint64_t first = range->sector_offset / TRACKING_BLOCK_SECTORS;
		uint64_t last = (range->sector_offset + range->sector_count - 1) /
				TRACKING_BLOCK_SECTORS;

		memset(tracker->active + first, tracker->number, last - first + 1);
		if (tracker->snap_number)
			memset(tracker->frozen + first, tracker->snap_number,
			       last - first + 1);
	}
}

static void start_tracking(unsigned int target)
{
	struct model_tracker *tracker = &model.trackers[target];

	tracker->is_tracked = true;
	tracker->is_generation_known = false;
	tracker->number = 1;
	tracker->snap_number = 0;
	memset(tracker->active, 0, target_nr_blocks(&targets[target]));
}

static void apply_create(const struct call *call, const struct blk_snap_uuid *id)
{
	int i, nr = model_find_free();
	struct model_snapshot *snapshot = &model.snapshots[nr];

	snapshot->id = *id;
	snapshot->is_live = true;
	snapshot->is_taken = false;
	snapshot->has_event = true;
	snapshot->members = call->members;
	snapshot->nr_ranges = 0;
	snapshot->nr_usable = 0;
	for (i = 0; i < NR_TARGETS; i++) {
		if (!(call->members & 1U << i))
			continue;
		if (!model.trackers[i].is_tracked)
			start_tracking(i);
		model.trackers[i].snapshot = nr;
	}
}

static void apply_destroy(const struct call *call)
{
	struct model_snapshot *snapshot = &model.snapshots[call->snapshot];
	unsigned int i;

	model.dead_id = snapshot->id;
	snapshot->is_live = false;
	snapshot->is_taken = false;
	for (i = 0; i < NR_TARGETS; i++)
		if (snapshot->members & 1U << i)
			model.trackers[i].snapshot = -1;
}

static uint64_t round_up_8(uint64_t number)
{
	return (number + 7) & ~7ULL;
}

/* Of a range on a member only whole blocks of 4 KiB are used. */
static uint64_t usable_in_blocks(const struct model_snapshot *snapshot, unsigned int whole,
				 uint64_t start, uint64_t end)
{
	unsigned int i;

	for (i = 0; i < NR_TARGETS; i++) {
		const struct target *target = &targets[i];
		uint64_t behind = target->start + target->nr_sectors;

		if (!(snapshot->members & 1U << i) || target->whole != whole)
			continue;
		if (start > target->start && start < behind)
			start = round_up_8(start);
		if (end > target->start && end < behind)
			end &= ~7ULL;
	}
	return start < end ? (end - start) & ~7ULL : 0;
}

/*
 * Nothing is used of the first MiB and of the last one of the disk and of its partitions:
 * the first such MiB that ends after @start, or what there is of it before @end.
 */
static void find_edge(unsigned int whole, uint64_t start, uint64_t end, uint64_t *from,
		      uint64_t *to)
{
	const uint64_t length = EDGE_BYTES / SECTOR_SIZE;
	unsigned int i;

	*from = *to = end;
	for (i = 0; i < 2 * NR_TARGETS; i++) {
		const struct target *target = &targets[i / 2];
		uint64_t at = target->start;

		if (i % 2)
			at += target->nr_sectors - length;
		if (target->whole != whole || at + length <= start || at >= *from)
			continue;
		*from = at;
		*to = at + length;
	}
	if (*from < start)
		*from = start;
	if (*to > end)
		*to = end;
}

static uint64_t usable_sectors(const struct model_snapshot *snapshot,
			       unsigned int whole, uint64_t start, uint64_t end)
{
	uint64_t nr_usable = 0, from, to;

	for (; start < end; start = to) {
		find_edge(whole, start, end, &from, &to);
		nr_usable += usable_in_blocks(snapshot, whole, start, from);
	}
	return nr_usable;
}

static void apply_append(struct caller *caller, const struct call *call)
{
	struct model_snapshot *snapshot = &model.snapshots[call->snapshot];
	const struct target *target = &targets[call->target];
	uint32_t i;

	if (snapshot->nr_ranges + call->args.count > MODEL_MAX_RANGES) {
		complain(caller, call, "the model is too small");
		return;
	}
	for (i = 0; i < call->args.count; i++) {
		struct model_range *range =
			&snapshot->ranges[snapshot->nr_ranges++];

		range->whole = target->whole;
		range->start = target->start + call->ranges[i].sector_offset;
		range->end = range->start + call->ranges[i].sector_count;
		snapshot->nr_usable += usable_sectors(snapshot, range->whole,
						      range->start, range->end);
	}
}

/* The maps change places; the number 255 is the last one. */
static void switch_maps(unsigned int target)
{
	struct model_tracker *tracker = &model.trackers[target];
	unsigned int nr_blocks = target_nr_blocks(&targets[target]);

	if (tracker->snap_number == 255) {
		memset(tracker->active, 0, nr_blocks);
		tracker->number = 1;
		tracker->is_generation_known = false;
	}
	memcpy(tracker->frozen, tracker->active, nr_blocks);
	tracker->snap_number = tracker->number;
	if (tracker->number < 255)
		tracker->number++;
}

static void learn_images(struct caller *caller, const struct call *call)
{
	struct model_snapshot *snapshot = &model.snapshots[call->snapshot];
	struct blk_snap_image_info *infos;
	unsigned int i, nr;
	int target;

	if (control_snapshot_collect_images(ctl, &snapshot->id, &infos, &nr) ||
	    nr != (unsigned int)__builtin_popcount(snapshot->members)) {
		complain(caller, call, "a snapshot was taken without images");
		return;
	}
	for (i = 0; i < nr; i++) {
		target = target_of_dev(infos[i].orig_dev_id);
		if (target < 0 || !(snapshot->members & 1U << target))
			complain(caller, call, "an image of something else");
		else
			snapshot->images[target] = infos[i].image_dev_id;
	}
	free(infos);
}

static void apply_take(struct caller *caller, const struct call *call)
{
	struct model_snapshot *snapshot = &model.snapshots[call->snapshot];
	unsigned int i;

	snapshot->is_taken = true;
	for (i = 0; i < NR_TARGETS; i++)
		if (snapshot->members & 1U << i)
			switch_maps(i);
	learn_images(caller, call);
}

static void apply(struct caller *caller, const struct call *call)
{
	switch (call->kind) {
	case blk_snap_ioctl_tracker_remove:
		apply_remove(call);
		break;
	case blk_snap_ioctl_tracker_mark_dirty_blocks:
		apply_mark(call);
		break;
	case blk_snap_ioctl_snapshot_create:
		apply_create(call, (void *)(call->arg.own +
					    (call->is_compat ? 8 : 16)));
		break;
	case blk_snap_ioctl_snapshot_destroy:
		apply_destroy(call);
		break;
	case blk_snap_ioctl_snapshot_append_storage:
		if (call->args.count)
			apply_append(caller, call);
		break;
	case blk_snap_ioctl_snapshot_take:
		apply_take(caller, call);
		break;
	case blk_snap_ioctl_snapshot_wait_event:
		model.snapshots[call->snapshot].has_event = false;
		break;
	}
}

/* Those that others have made, perhaps just before they were killed. */
static void tell_crowd_of_all(const struct call *call)
{
	struct blk_snap_uuid id;
	uint32_t i, nr;

	memcpy(&nr, call->arg.own, sizeof(nr));
	for (i = 0; i < nr && i < call->room / sizeof(id); i++) {
		memcpy(&id, call->array.own + i * sizeof(id), sizeof(id));
		if (memcmp(&id, honest_id(), sizeof(id)))
			crowd_add_id(&id);
	}
}

static void tell_crowd(const struct caller *caller, const struct call *call)
{
	/* Only as long as one borrows, one knows whose is not among them. */
	if (call->kind == blk_snap_ioctl_snapshot_collect && !call->ret &&
	    caller->is_borrowing && call->arg.own && call->array.own &&
	    !call->arg.is_wild && !call->array.is_wild && !array_is_null(call))
		tell_crowd_of_all(call);
	if (call->kind == blk_snap_ioctl_snapshot_create && !call->ret &&
	    call->arg.own)
		crowd_add_id((void *)(call->arg.own + (call->is_compat ? 8 : 16)));
	/* It is gone, or was already. */
	if (call->kind == blk_snap_ioctl_snapshot_destroy &&
	    (!call->ret || call->ret == -ENODEV))
		crowd_forget_id(&call->args.id);
}

/* One of so many calls is followed by a comparison of everything. */
#define ONE_COMPARE_OF 40

/**
 * model_apply() - follow a call, and compare what has become of it
 * @caller:	who made it
 * @call:	made and checked
 */
void model_apply(struct caller *caller, const struct call *call)
{
	if (!caller->is_alone) {
		tell_crowd(caller, call);
		return;
	}
	if (call->ret >= 0 && !call->must.nr)
		apply(caller, call);
	if (chance(caller, ONE_COMPARE_OF))
		model_compare(caller, call);
}

/* --- comparing --- */

static void compare_tracker(struct caller *caller, const struct call *call,
			    const struct blk_snap_cbt_info *info, int target)
{
	struct model_tracker *tracker = &model.trackers[target];

	if (!tracker->is_tracked)
		complain(caller, call, "target %d is tracked", target);
	if (info->snap_number != tracker->snap_number)
		complain(caller, call, "target %d has the snapshot number %u, not %u",
			 target, info->snap_number, tracker->snap_number);
	if (tracker->is_generation_known &&
	    memcmp(&info->generation_id, &tracker->generation,
		   sizeof(tracker->generation)))
		complain(caller, call, "target %d has another generation", target);
	tracker->generation = info->generation_id;
	tracker->is_generation_known = true;
}

static void compare_trackers(struct caller *caller, const struct call *call)
{
	struct blk_snap_cbt_info *infos;
	unsigned int i, nr;
	int target;

	if (control_tracker_collect(ctl, &infos, &nr)) {
		complain(caller, call, "the trackers cannot be listed");
		return;
	}
	if (nr != model_nr_tracked())
		complain(caller, call, "%u devices are tracked, not %u", nr,
			 model_nr_tracked());
	for (i = 0; i < nr; i++) {
		target = target_of_dev(infos[i].dev_id);
		if (target < 0)
			complain(caller, call, "device %u:%u is tracked",
				 infos[i].dev_id.mj, infos[i].dev_id.mn);
		else
			compare_tracker(caller, call, &infos[i], target);
	}
	free(infos);
}

static void compare_images(struct caller *caller, const struct call *call,
			   const struct model_snapshot *snapshot)
{
	struct blk_snap_image_info *infos;
	unsigned int nr;
	int ret;

	ret = control_snapshot_collect_images(ctl, &snapshot->id, &infos, &nr);
	if (ret != (snapshot->is_taken ? 0 : -ENODEV))
		complain(caller, call, "a snapshot is taken, or not, against the model: %d",
			 ret);
	if (!ret)
		free(infos);
}

static bool info_is_right(const struct model_snapshot *snapshot,
			  const struct blk_snap_snapshot_info *info,
			  const struct blk_snap_dev *devs)
{
	unsigned int targets_told = 0, i;
	int target;

	for (i = 0; i < info->count; i++) {
		target = target_of_dev(devs[i]);
		if (target >= 0)
			targets_told |= 1U << target;
	}
	return targets_told == snapshot->members && !info->flags &&
	       info->count == (uint32_t)__builtin_popcount(snapshot->members) &&
	       info->pid == (uint32_t)getpid() &&
	       info->state == (snapshot->is_taken ?
			       blk_snap_snapshot_state_taken :
			       blk_snap_snapshot_state_created);
}

static void compare_info(struct caller *caller, const struct call *call,
			 const struct model_snapshot *snapshot)
{
	struct blk_snap_snapshot_info info;
	struct blk_snap_dev *devs;
	int ret;

	ret = control_snapshot_info(ctl, &snapshot->id, &info, &devs);
	if (ret || !info_is_right(snapshot, &info, devs))
		complain(caller, call, "what is told of a snapshot is wrong: %d",
			 ret);
	free(devs);
}

static void compare_snapshots(struct caller *caller, const struct call *call)
{
	struct blk_snap_uuid *ids;
	unsigned int i, j, nr, nr_found = 0;

	if (control_snapshot_collect(ctl, &ids, &nr)) {
		complain(caller, call, "the snapshots cannot be listed");
		return;
	}
	for (i = 0; i < MAX_SNAPSHOTS; i++) {
		const struct model_snapshot *snapshot = &model.snapshots[i];

		if (!snapshot->is_live)
			continue;
		for (j = 0; j < nr; j++)
			nr_found += !memcmp(&ids[j], &snapshot->id,
					    sizeof(ids[j]));
		compare_images(caller, call, snapshot);
		compare_info(caller, call, snapshot);
	}
	if (nr != model_nr_live() || nr_found != nr)
		complain(caller, call, "%u snapshots, %u of them of the model's %u",
			 nr, nr_found, model_nr_live());
	free(ids);
}

/* Everything that can be asked for. */
void model_compare(struct caller *caller, const struct call *call)
{
	compare_trackers(caller, call);
	compare_snapshots(caller, call);
}
