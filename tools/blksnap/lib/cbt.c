// SPDX-License-Identifier: GPL-2.0
/*
 * Change maps and what changed
 *
 * A map only means something together with the generation and the number of the
 * snapshot that it belongs to.  So the state is read before and after the map,
 * and all is read again if another take came in between.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "connection.h"
#include "control.h"
#include "device.h"
#include "error.h"

/* Takes follow each other in seconds at best, a map is read in milliseconds. */
#define READ_ATTEMPTS_MAX 8

/* The map of one device and the state that it belongs to. */
struct blksnap_cbt {
	struct blk_snap_cbt_info info;
	uint8_t *map;
};

/* What is computed from it may not overflow, nor leave out a part of the device. */
static bool is_coherent(const struct blk_snap_cbt_info *info)
{
	return info->blk_size && !(info->blk_size % BLKSNAP_SECTOR_SIZE) &&
	       (uint64_t)info->blk_count * info->blk_size >= info->device_capacity;
}

static int check_info(const struct blk_snap_cbt_info *info)
{
	if (!info->blk_count)
		return error_set(ENODEV, "the device has gone away");
	if (!is_coherent(info))
		return error_call(blk_snap_ioctl_tracker_collect, -EPROTO);
	return 0;
}

/**
 * blksnap_tracker_info() - find the state of one tracked device
 * @blksnap:	connection
 * @dev:	the device
 * @info:	gets the state
 *
 * Return: 0 or a negative errno; -ENODATA if the device is not tracked, -ENODEV if it
 *	   has gone away.
 */
int blksnap_tracker_info(struct blksnap *blksnap, struct blk_snap_dev dev,
			 struct blk_snap_cbt_info *info)
{
	struct blk_snap_cbt_info *infos;
	unsigned int nr_infos, i;
	int ret;

	ret = blksnap_tracker_collect(blksnap, &infos, &nr_infos);
	if (ret)
		return ret;
	for (i = 0; i < nr_infos; i++) {
		if (device_equal(infos[i].dev_id, dev))
			break;
	}
	if (i == nr_infos) {
		ret = error_call(blk_snap_ioctl_tracker_read_cbt_map, -ENODATA);
	} else {
		ret = check_info(&infos[i]);
		*info = infos[i];
	}
	free(infos);
	return ret;
}

/* Returns how much of the map there was, or a negative errno. */
static int64_t read_map(struct blksnap *blksnap, const struct blksnap_cbt *cbt)
{
	uint32_t done = 0;
	int ret;

	while (done < cbt->info.blk_count) {
		ret = control_tracker_read_cbt_map(blksnap->fd, cbt->info.dev_id, done,
						   cbt->info.blk_count - done,
						   cbt->map + done);
		if (ret < 0)
			return ret;
		if (!ret)
			break;
		done += ret;
	}
	return done;
}

static bool same_state(const struct blk_snap_cbt_info *a,
		       const struct blk_snap_cbt_info *b)
{
	return !memcmp(&a->generation_id, &b->generation_id,
		       sizeof(a->generation_id)) &&
	       a->snap_number == b->snap_number &&
	       a->blk_count == b->blk_count;
}

/* Another take may come in between; *changed says so. */
static int read_map_of_state(struct blksnap *blksnap, struct blksnap_cbt *cbt,
			     bool *changed)
{
	struct blk_snap_cbt_info after;
	int64_t nr_read = read_map(blksnap, cbt);
	int ret;

	/* The map became shorter. */
	if (nr_read < 0 && nr_read != -EINVAL) {
		error_call(blk_snap_ioctl_tracker_read_cbt_map, nr_read);
		return error_set(-nr_read, "cannot read the change map: %s",
				 blksnap_error());
	}
	ret = blksnap_tracker_info(blksnap, cbt->info.dev_id, &after);
	*changed = nr_read != cbt->info.blk_count || !same_state(&cbt->info, &after);
	return ret;
}

static int try_load(struct blksnap *blksnap, struct blk_snap_dev dev,
		    struct blksnap_cbt **cbt, bool *changed)
{
	struct blksnap_cbt *loaded = calloc(1, sizeof(*loaded));
	int ret;

	if (!loaded)
		return error_memory();
	ret = blksnap_tracker_info(blksnap, dev, &loaded->info);
	if (!ret) {
		loaded->map = malloc(loaded->info.blk_count);
		ret = loaded->map ? read_map_of_state(blksnap, loaded, changed) :
				    error_memory();
	}
	if (ret || *changed)
		blksnap_cbt_free(loaded);
	else
		*cbt = loaded;
	return ret;
}

/**
 * blksnap_cbt_load() - read the change map of the last snapshot of a device
 * @blksnap:	connection
 * @dev:	the device
 * @cbt:	gets the map and what it belongs to, to be freed by blksnap_cbt_free()
 *
 * Return: 0 or a negative errno; -EPERM if no snapshot was ever taken of it, -ENODATA if
 *	   it is not tracked, -EAGAIN if snapshots are taken faster than it can be read.
 */
int blksnap_cbt_load(struct blksnap *blksnap, struct blk_snap_dev dev,
		     struct blksnap_cbt **cbt)
{
	unsigned int attempt;
	bool changed = true;
	int ret;

	*cbt = NULL;
	for (attempt = 0; attempt < READ_ATTEMPTS_MAX; attempt++) {
		ret = try_load(blksnap, dev, cbt, &changed);
		if (ret || !changed)
			return ret;
	}
	return error_set(EAGAIN,
			 "the change map is renewed faster than it can be read; try again");
}

/**
 * blksnap_cbt_free() - forget a map
 * @cbt:	the map; NULL is as good
 */
void blksnap_cbt_free(struct blksnap_cbt *cbt)
{
	if (!cbt)
		return;
	free(cbt->map);
	free(cbt);
}

/**
 * blksnap_cbt_info() - tell what a map belongs to
 * @cbt:	the map
 *
 * Return: the state of the device: to be kept with a backup are @generation_id and
 *	   @snap_number.  Valid as long as the map.
 */
const struct blk_snap_cbt_info *blksnap_cbt_info(const struct blksnap_cbt *cbt)
{
	return &cbt->info;
}

/**
 * blksnap_cbt_map() - get at the map itself
 * @cbt:	the map
 *
 * Return: @blk_count bytes, one for each tracking block: the number of the snapshot
 *	   interval in which it changed last, 0 if it did not in this generation.
 */
const uint8_t *blksnap_cbt_map(const struct blksnap_cbt *cbt)
{
	return cbt->map;
}

static const char *format_generation(const struct blksnap_cbt *cbt,
				     char text[BLKSNAP_UUID_TEXT_SIZE])
{
	blksnap_format_uuid(&cbt->info.generation_id, text);
	return text;
}

/**
 * blksnap_cbt_check() - does a map tell all changes since a snapshot?
 * @cbt:	the map
 * @generation:	what the snapshot belonged to, NULL to leave that unchecked
 * @since:	number of the snapshot
 *
 * Return: 0, or -ESTALE if the next backup has to be a full one.
 */
int blksnap_cbt_check(const struct blksnap_cbt *cbt,
		      const struct blk_snap_uuid *generation, unsigned int since)
{
	char text[BLKSNAP_UUID_TEXT_SIZE];

	if (generation && memcmp(generation, &cbt->info.generation_id,
				 sizeof(*generation)))
		return error_set(ESTALE,
				 "the device is in generation %s now; a full backup is due",
				 format_generation(cbt, text));
	if (since > cbt->info.snap_number)
		return error_set(ESTALE,
				 "the device has only come to snapshot %u in this generation, not to %u; a full backup is due",
				 cbt->info.snap_number, since);
	return 0;
}

/* The first run of changed blocks from *first on; *next is the block after it. */
static bool find_run(const struct blksnap_cbt *cbt, unsigned int since, uint32_t *first,
		     uint32_t *next)
{
	const uint32_t nr_blocks = cbt->info.blk_count;

	while (*first < nr_blocks && cbt->map[*first] <= since)
		++*first;
	*next = *first;
	while (*next < nr_blocks && cbt->map[*next] > since)
		++*next;
	return *first < nr_blocks;
}

static size_t count_runs(const struct blksnap_cbt *cbt, unsigned int since)
{
	uint32_t first, next = 0;
	size_t nr_runs = 0;

	for (first = 0; find_run(cbt, since, &first, &next); first = next)
		nr_runs++;
	return nr_runs;
}

/* The last block may be longer than what is left of the device. */
static struct blk_snap_block_range range_of_run(const struct blk_snap_cbt_info *info,
						uint32_t first, uint32_t next)
{
	const uint64_t nr_sectors = info->device_capacity >> BLKSNAP_SECTOR_SHIFT;
	const uint64_t block_sectors = info->blk_size >> BLKSNAP_SECTOR_SHIFT;
	uint64_t end = next * block_sectors;

	if (end > nr_sectors)
		end = nr_sectors;
	return (struct blk_snap_block_range) {
		.sector_offset = first * block_sectors,
		.sector_count = end - first * block_sectors,
	};
}

/**
 * blksnap_cbt_extents() - find what changed after a snapshot
 * @cbt:	the map
 * @since:	number of that snapshot, 0 for the begin of the generation
 * @extents:	gets the ranges, in order and with space in between, to be freed by the
 *		caller, NULL if there are none
 * @nr_extents:	number of ranges
 *
 * Return: 0 or -ENOMEM.
 */
int blksnap_cbt_extents(const struct blksnap_cbt *cbt, unsigned int since,
			struct blk_snap_block_range **extents, size_t *nr_extents)
{
	const size_t nr_runs = count_runs(cbt, since);
	uint32_t first, next = 0;
	size_t i = 0;

	*extents = NULL;
	*nr_extents = 0;
	if (!nr_runs)
		return 0;
	*extents = calloc(nr_runs, sizeof(**extents));
	if (!*extents)
		return error_memory();
	for (first = 0; find_run(cbt, since, &first, &next); first = next)
		(*extents)[i++] = range_of_run(&cbt->info, first, next);
	*nr_extents = nr_runs;
	return 0;
}
