// SPDX-License-Identifier: GPL-2.0
/*
 * Checks of what calls answer
 *
 * A single caller knows the answer, many know what it has to look like.  Behind
 * the entries that were asked for nothing may be written to.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "test_hostile.h"

/* The module fills all entries or none; @nr of them are right if @nr was. */
static bool is_rest_untouched(const struct call *call, size_t nr_bytes)
{
	if (!call->array.own || nr_bytes > call->room)
		return true;
	return is_filled_with(call->array.own + nr_bytes, POISON,
			      call->room - nr_bytes);
}

static uint32_t answered_count(const struct call *call, size_t at)
{
	uint32_t count;

	memcpy(&count, call->arg.own + at, sizeof(count));
	return count;
}

static bool is_nil(const struct blk_snap_uuid *id)
{
	return is_filled_with(id->b, 0, sizeof(id->b));
}

/* --- READ_CBT_MAP --- */

static void check_map_of_model(struct caller *caller, const struct call *call)
{
	uint32_t nr = target_nr_blocks(&targets[call->target]) - call->args.offset;

	if (nr > call->args.length)
		nr = call->args.length;
	if (call->array.head ? (uint32_t)call->ret > nr :
				     (uint32_t)call->ret != nr)
		complain(caller, call, "%d bytes of the map instead of %u",
			 call->ret, nr);
	else if (call->array.own &&
		 memcmp(call->array.own, model.trackers[call->target].frozen +
					 call->args.offset, nr))
		complain(caller, call, "another map than that of the model");
}

static void check_map(struct caller *caller, const struct call *call)
{
	if (call->ret < 0)
		return;
	if ((uint32_t)call->ret > call->args.length)
		complain(caller, call, "more bytes than were asked for");
	else if (!is_rest_untouched(call, call->ret))
		complain(caller, call, "written to behind the map");
	else if (caller->is_alone && !call_must_fail(call))
		check_map_of_model(caller, call);
}

/* --- TRACKER_COLLECT --- */

/* A row, out of the layout that it is in; false if a hole is not zero. */
static bool decode_row(const uint8_t *row, bool is_compat,
		       struct blk_snap_cbt_info *info)
{
	size_t capacity = is_compat ? 12 : 16;
	size_t number = capacity + 28;

	memset(info, 0, sizeof(*info));
	memcpy(&info->dev_id, row, sizeof(info->dev_id));
	memcpy(&info->blk_size, row + 8, 4);
	memcpy(&info->device_capacity, row + capacity, 8);
	memcpy(&info->blk_count, row + capacity + 8, 4);
	memcpy(&info->generation_id, row + capacity + 12, 16);
	info->snap_number = row[number];
	return is_filled_with(row + 12, 0, capacity - 12) &&
	       is_filled_with(row + number + 1, 0, 3);
}

/* Of a device of ours, or of nobody's: it is whole in itself. */
static bool is_row(const struct blk_snap_cbt_info *info)
{
	int target = target_of_dev(info->dev_id);

	if (!info->dev_id.mj)
		return false;
	if (!info->blk_size)
		return !info->blk_count && !info->device_capacity &&
		       !info->snap_number && is_nil(&info->generation_id);
	if (info->blk_size != TRACKING_BLOCK_SECTORS * SECTOR_SIZE ||
	    info->blk_count != info->device_capacity / info->blk_size ||
	    is_nil(&info->generation_id))
		return false;
	return target < 0 ||
	       info->device_capacity == targets[target].nr_sectors * SECTOR_SIZE;
}

static void check_rows(struct caller *caller, const struct call *call,
		       uint32_t nr)
{
	size_t row_bytes = call->is_compat ? 44 : 48;
	struct blk_snap_cbt_info info;
	uint32_t i;

	if (nr * row_bytes > call->room) {
		complain(caller, call, "more rows than there was room for");
		return;
	}
	for (i = 0; i < nr; i++)
		if (!decode_row(call->array.own + i * row_bytes, call->is_compat,
				&info) || !is_row(&info))
			complain(caller, call, "a row that is none");
	if (!is_rest_untouched(call, nr * row_bytes))
		complain(caller, call, "written to behind the rows");
}

/* Was an array wanted, and was it large enough for @count? */
static bool has_array(const struct call *call)
{
	return !call->ret && !array_is_null(call) && call->args.count;
}

static void check_trackers(struct caller *caller, const struct call *call)
{
	uint32_t count = answered_count(call, 0);

	if (caller->is_alone && count != model_nr_tracked())
		complain(caller, call, "a count of %u instead of %u", count,
			 model_nr_tracked());
	if (!has_array(call)) {
		if (!is_rest_untouched(call, 0))
			complain(caller, call, "an array that nobody asked for");
	} else if (count > call->args.count) {
		complain(caller, call, "a count larger than the array");
	} else if (call->array.own) {
		check_rows(caller, call, count);
	}
}

/* --- CREATE --- */

static void check_created(struct caller *caller, const struct call *call)
{
	const uint8_t *id = call->arg.own + (call->is_compat ? 8 : 16);

	/* Version 4 and its variant: made of random numbers. */
	if ((id[6] & 0xf0) != 0x40 || (id[8] & 0xc0) != 0x80)
		complain(caller, call, "an identifier that is none");
}

/* --- SNAPSHOT_COLLECT --- */

static bool ids_are_right(struct caller *caller, const struct call *call,
			  uint32_t nr)
{
	const struct blk_snap_uuid *ids = (void *)call->array.own;
	unsigned int i, nr_found = 0;
	uint32_t j;

	for (j = 0; j < nr; j++)
		if (is_nil(&ids[j]))
			return false;
	if (!caller->is_alone)
		return true;
	for (i = 0; i < MAX_SNAPSHOTS; i++)
		for (j = 0; model.snapshots[i].is_live && j < nr; j++)
			nr_found += !memcmp(&ids[j], &model.snapshots[i].id,
					    sizeof(ids[j]));
	return nr_found == nr;
}

static void check_ids(struct caller *caller, const struct call *call)
{
	uint32_t count = answered_count(call, 0);

	if (caller->is_alone && count != model_nr_live())
		complain(caller, call, "a count of %u instead of %u", count,
			 model_nr_live());
	if (!has_array(call)) {
		if (!is_rest_untouched(call, 0))
			complain(caller, call, "an array that nobody asked for");
	} else if (count > call->args.count ||
		   count * sizeof(struct blk_snap_uuid) > call->room) {
		complain(caller, call, "a count larger than the array");
	} else if (call->array.own) {
		if (!ids_are_right(caller, call, count))
			complain(caller, call, "identifiers that are wrong");
		if (!is_rest_untouched(call, count * sizeof(struct blk_snap_uuid)))
			complain(caller, call, "written to behind the identifiers");
	}
}

/* --- COLLECT_IMAGES --- */

static bool infos_are_right(struct caller *caller, const struct call *call,
			    uint32_t nr)
{
	struct blk_snap_image_info info;
	uint32_t i;

	for (i = 0; i < nr; i++) {
		memcpy(&info, call->array.own + i * sizeof(info), sizeof(info));
		if (!info.orig_dev_id.mj || !info.image_dev_id.mj)
			return false;
		if (caller->is_alone &&
		    model_target_of_image(info.image_dev_id) !=
		    target_of_dev(info.orig_dev_id))
			return false;
	}
	return true;
}

static void check_images(struct caller *caller, const struct call *call)
{
	uint32_t count = answered_count(call, 16);

	if (call->snapshot >= 0 &&
	    count != (uint32_t)__builtin_popcount(model.snapshots[call->snapshot].members))
		complain(caller, call, "a count of %u", count);
	if (!has_array(call)) {
		if (!is_rest_untouched(call, 0))
			complain(caller, call, "an array that nobody asked for");
	} else if (count > call->args.count ||
		   count * sizeof(struct blk_snap_image_info) > call->room) {
		complain(caller, call, "a count larger than the array");
	} else if (call->array.own) {
		if (!infos_are_right(caller, call, count))
			complain(caller, call, "images that are wrong");
		if (!is_rest_untouched(call, count *
					     sizeof(struct blk_snap_image_info)))
			complain(caller, call, "written to behind the images");
	}
}

/**
 * check_answer() - is what a call has answered right?
 * @caller:	who made it
 * @call:	made, with memory that nobody else changes
 */
void check_answer(struct caller *caller, const struct call *call)
{
	/* That it cannot have succeeded is said elsewhere. */
	if (!call->arg.own)
		return;
	switch (call->kind) {
	case blk_snap_ioctl_tracker_read_cbt_map:
		check_map(caller, call);
		break;
	case blk_snap_ioctl_tracker_collect:
		if (!call->ret || call->ret == -ENOBUFS)
			check_trackers(caller, call);
		break;
	case blk_snap_ioctl_snapshot_create:
		if (!call->ret)
			check_created(caller, call);
		break;
	case blk_snap_ioctl_snapshot_collect:
		if (!call->ret || call->ret == -ENODATA)
			check_ids(caller, call);
		break;
	case blk_snap_ioctl_snapshot_collect_images:
		if (!call->ret || call->ret == -ENODATA)
			check_images(caller, call);
		break;
	}
}
