// SPDX-License-Identifier: GPL-2.0
/*
 * Change maps: is every change marked, and nothing else
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "test_torture.h"

static bool get_info(const struct origin *origin, struct blk_snap_cbt_info *info)
{
	struct blk_snap_cbt_info *infos;
	bool is_found = false;
	unsigned int i, nr;
	int ret = control_tracker_collect(ctl, &infos, &nr);

	if (ret) {
		fault_add(FAULT_CALL, "collecting trackers: %s", strerror(-ret));
		return false;
	}
	for (i = 0; i < nr && !is_found; i++) {
		is_found = !memcmp(&infos[i].dev_id, &origin->disk->id,
				   sizeof(infos[i].dev_id));
		*info = infos[i];
	}
	free(infos);
	if (!is_found)
		fault_add(FAULT_MAP, "%s is not tracked", origin->disk->path);
	return is_found;
}

/* The frozen map, in pieces of any size; to be freed by the caller. */
static uint8_t *get_map(const struct origin *origin, struct random *random,
			uint32_t nr_blocks)
{
	uint8_t *map = calloc(1, nr_blocks);
	uint32_t nr, done = 0;
	int ret = 0;

	while (map && done < nr_blocks) {
		nr = 1 + random_below(random, nr_blocks - done);
		ret = control_tracker_read_cbt_map(ctl, origin->disk->id, done,
						   nr, map + done);
		if (ret <= 0)
			break;
		done += ret;
	}
	if (done == nr_blocks)
		return map;
	fault_add(FAULT_CALL, "reading the map of %s: %s", origin->disk->path,
		  strerror(-ret));
	free(map);
	return NULL;
}

/* Do the numbers go on from those of the image before? */
static bool numbers_go_on(const struct origin *origin,
			  const struct blk_snap_cbt_info *info)
{
	const struct blk_snap_cbt_info *before = &origin->info;
	const unsigned int number = before->snap_number + origin->nr_takes;
	const bool is_same = !memcmp(&info->generation_id,
				     &before->generation_id,
				     sizeof(info->generation_id));

	if (number > 255) {
		if (is_same)
			fault_add(FAULT_MAP, "%s: the generation outlived number 255",
				  origin->disk->path);
		return false;
	}
	if (!is_same || info->snap_number != number) {
		fault_add(FAULT_MAP, "%s: number %u after %u takes since %u, %s generation",
			  origin->disk->path, info->snap_number,
			  origin->nr_takes, before->snap_number,
			  is_same ? "same" : "another");
		return false;
	}
	return true;
}

/**
 * struct block - a tracking block that is being judged
 * @first:	its first sector on the origin
 * @end:	sector behind it
 */
struct block {
	uint64_t first, end;
	uint8_t mark;
};

static bool has_changed(const struct origin *origin, const struct block *block)
{
	uint64_t at = block->first * SECTOR_SIZE;

	return memcmp(origin->now + at, origin->previous + at,
		      (block->end - block->first) * SECTOR_SIZE);
}

static bool was_marked_on_purpose(const struct origin *origin,
				  const struct block *block)
{
	uint64_t b;

	for (b = block->first / BLOCK_SECTORS;
	     b <= (block->end - 1) / BLOCK_SECTORS; b++)
		if (origin->must_be_marked[b])
			return true;
	return false;
}

/*
 * The last tick at which a write or a call touched the block.  While writes of
 * before the take are under way, all that is copied together is marked together.
 */
static uint64_t last_touch(const struct origin *origin,
			   const struct block *block)
{
	const struct medium *medium = origin->medium;
	const uint64_t first = block->first - block->first % torture.copy_sectors;
	uint64_t end = block->end + torture.copy_sectors - 1;
	uint64_t b, when, last = 0;

	end -= end % torture.copy_sectors;
	if (end > origin->nr_used)
		end = origin->nr_used;
	for (b = block->first / BLOCK_SECTORS;
	     b <= (block->end - 1) / BLOCK_SECTORS; b++) {
		when = atomic_load(&origin->touched[b]);
		last = when > last ? when : last;
	}
	for (b = (origin->start + first) / BLOCK_SECTORS;
	     b <= (origin->start + end - 1) / BLOCK_SECTORS; b++) {
		when = atomic_load(&medium->touched[b]);
		last = when > last ? when : last;
	}
	return last;
}

static void tell_block(const struct origin *origin, const struct block *block,
		       const struct blk_snap_cbt_info *info, const char *what)
{
	fault_add(FAULT_MAP, "%s block at sector %llu %s since take %u, now %u: its mark is %u",
		  origin->disk->path, (unsigned long long)block->first, what,
		  origin->info.snap_number, info->snap_number, block->mark);
	ktap_note("  last touched at tick %llu, the takes were at %llu and %llu",
		  (unsigned long long)last_touch(origin, block),
		  (unsigned long long)origin->previous_take,
		  (unsigned long long)origin->last_take);
	report_ops(origin->medium, origin->start + block->first, block->end - block->first,
		   origin->previous_take);
}

static void judge_block(struct origin *origin, const struct block *block,
			const struct blk_snap_cbt_info *info)
{
	const uint8_t before = origin->info.snap_number;

	torture.nr_blocks++;
	if (block->mark > info->snap_number)
		tell_block(origin, block, info, "was never like this");
	if (has_changed(origin, block)) {
		torture.nr_changed_blocks++;
		if (block->mark <= before)
			tell_block(origin, block, info, "changed");
	} else if (block->mark <= before &&
		   was_marked_on_purpose(origin, block)) {
		tell_block(origin, block, info, "was marked on purpose");
	}
	if (block->mark == info->snap_number && origin->previous_take &&
	    !origin->medium->has_files &&
	    last_touch(origin, block) < origin->previous_take)
		tell_block(origin, block, info, "was not touched");
}

static void judge_map(struct origin *origin, const uint8_t *map,
		      const struct blk_snap_cbt_info *info)
{
	const uint64_t step = info->blk_size / SECTOR_SIZE;
	struct block block;
	uint32_t i;

	for (i = 0; i < info->blk_count; i++) {
		block.first = i * step;
		block.end = block.first + step < origin->nr_used ?
			    block.first + step : origin->nr_used;
		block.mark = map[i];
		if (block.first < block.end)
			judge_block(origin, &block, info);
	}
}

/**
 * view_check_map() - compare an image with the one before, and with the map
 * @view:	all of it has been read; nobody writes to it any more
 * @worker:	who checks
 */
void view_check_map(struct view *view, struct worker *worker)
{
	struct origin *origin = view->origin;
	struct blk_snap_cbt_info info;
	uint8_t *map;

	worker_doing(worker, "reading the change map");
	if (!get_info(origin, &info))
		return;
	map = get_map(origin, &worker->random, info.blk_count);
	if (!map)
		return;
	if (origin->was_removed && !memcmp(&info.generation_id,
					   &origin->info.generation_id,
					   sizeof(info.generation_id)))
		fault_add(FAULT_MAP, "%s: the generation outlived the tracking",
			  origin->disk->path);
	worker_doing(worker, "judging the change map");
	if (origin->has_previous && numbers_go_on(origin, &info))
		judge_map(origin, map, &info);
	view->info = info;
	view->is_checked = true;
	free(map);
}

/* An image that was checked becomes the one before; nobody looks at it now. */
void origin_keep(struct view *view)
{
	struct origin *origin = view->origin;
	uint8_t *now = origin->now;

	origin->now = origin->previous;
	origin->previous = now;
	origin->info = view->info;
	origin->was_removed = false;
	origin->has_previous = true;
	origin->nr_takes = 0;
	memset(origin->must_be_marked, 0,
	       origin->nr_sectors / BLOCK_SECTORS + 1);
}

/* There is no image before the next one that it could be compared with. */
void origin_forget(struct origin *origin)
{
	origin->has_previous = false;
	origin->nr_takes = 0;
}

/* Mark a range as changed, which the next map has to know. */
void origin_mark(struct origin *origin, struct random *random)
{
	const uint64_t nr = 1 + random_below(random, 200);
	struct blk_snap_block_range range = {
		random_below(random, origin->nr_used - nr), nr,
	};
	uint64_t block = range.sector_offset / BLOCK_SECTORS;
	const uint64_t now = tick();
	int ret;

	/* Who looks at the map must find the reason before the mark. */
	for (; block <= (range.sector_offset + nr - 1) / BLOCK_SECTORS; block++)
		atomic_store(&origin->touched[block], now);
	ret = control_tracker_mark_dirty_blocks(ctl, origin->disk->id, &range,
						1);
	if (ret) {
		fault_add(FAULT_CALL, "marking blocks of %s: %s",
			  origin->disk->path, strerror(-ret));
		return;
	}
	block = range.sector_offset / BLOCK_SECTORS;
	for (; block <= (range.sector_offset + nr - 1) / BLOCK_SECTORS; block++)
		origin->must_be_marked[block] = 1;
	torture.nr_marks++;
}

/* End the tracking; the origin is in no snapshot. */
void origin_untrack(struct origin *origin)
{
	int ret = control_tracker_remove(ctl, origin->disk->id);

	if (ret && ret != -ENODATA)
		fault_add(FAULT_CALL, "removing the tracker of %s: %s",
			  origin->disk->path, strerror(-ret));
	torture.nr_removals += !ret;
	origin_forget(origin);
	origin->was_removed = true;
	origin->previous_take = 0;
	origin->last_take = 0;
	memset(origin->must_be_marked, 0,
	       origin->nr_sectors / BLOCK_SECTORS + 1);
}
