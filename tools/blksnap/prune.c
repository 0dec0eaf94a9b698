// SPDX-License-Identifier: GPL-2.0
/*
 * Removing layers from the chains of a backup
 */
#include <stdlib.h>
#include <string.h>

#include "chain.h"
#include "layer_stack.h"
#include "merge.h"
#include "message.h"
#include "prune.h"

/*
 * Layers that are merged at once: each has a process of its own.  Of more than
 * these the uppermost go first, because the full one is the largest.
 */
#define LAYERS_MAX 16

/* The merges of one point, which the catalogue gets at once. */
struct batch {
	struct merge *merges;
	size_t nr_merges;
};

static struct catalogue_disk *below(const struct catalogue *catalogue,
				    const struct catalogue_disk *disk)
{
	return (struct catalogue_disk *)catalogue_below(catalogue, disk);
}

static void find_needed(struct catalogue *catalogue)
{
	struct catalogue_disk *disk;
	size_t i, j;

	for (i = catalogue->nr_points; i--;) {
		for (j = 0; j < catalogue->points[i].nr_disks; j++) {
			disk = &catalogue->points[i].disks[j];
			disk->needed = disk->needed || disk->kept_by;
			/* The points below come later in this loop. */
			if (disk->needed && disk->base)
				below(catalogue, disk)->needed = true;
		}
	}
}

static void forget_needed(struct catalogue *catalogue)
{
	size_t i, j;

	for (i = 0; i < catalogue->nr_points; i++) {
		for (j = 0; j < catalogue->points[i].nr_disks; j++)
			catalogue->points[i].disks[j].needed = false;
	}
}

/* Removes what no layer that is kept is based on; there may be nothing. */
static int remove_unneeded(struct catalogue *catalogue)
{
	int ret;

	forget_needed(catalogue);
	find_needed(catalogue);
	catalogue_remove_unneeded(catalogue);
	ret = catalogue_save(catalogue);
	if (!ret)
		catalogue_remove_leftovers(catalogue, true);
	return ret;
}

static int write_all(struct batch *batch, const struct catalogue *catalogue,
		     struct progress *progress)
{
	int ret = EXIT_OK;
	size_t i;

	for (i = 0; i < batch->nr_merges && !ret; i++)
		ret = merge_write(&batch->merges[i], catalogue, progress);
	return ret;
}

static void note_merging(struct merge *merge)
{
	struct catalogue_disk *target = merge->target;

	if (!target->merging || target->merging > merge->lowest_number)
		target->merging = merge->lowest_number;
}

static int rename_all(struct batch *batch, struct catalogue *catalogue)
{
	int ret;
	size_t i;

	for (i = 0; i < batch->nr_merges; i++)
		note_merging(&batch->merges[i]);
	ret = catalogue_save(catalogue);
	for (i = 0; i < batch->nr_merges && !ret; i++)
		ret = merge_rename(&batch->merges[i]);
	return ret ? ret : catalogue_sync(catalogue);
}

static int run_batch(struct batch *batch, struct catalogue *catalogue,
		     struct progress *progress)
{
	size_t i;
	int ret;

	ret = write_all(batch, catalogue, progress);
	if (!ret)
		ret = rename_all(batch, catalogue);
	if (ret) {
		for (i = 0; i < batch->nr_merges; i++)
			merge_discard(&batch->merges[i]);
		return ret;
	}
	for (i = 0; i < batch->nr_merges; i++)
		merge_take_result(&batch->merges[i]);
	return remove_unneeded(catalogue);
}

static void free_batch(struct batch *batch)
{
	size_t i;

	for (i = 0; i < batch->nr_merges; i++)
		merge_free(&batch->merges[i]);
	free(batch->merges);
}

static bool is_target(const struct catalogue *catalogue,
		      const struct catalogue_disk *disk)
{
	return disk->kept_by && disk->base && !below(catalogue, disk)->kept_by;
}

static void set_merge(struct merge *merge, const struct catalogue *catalogue,
		      struct catalogue_disk *target, uint64_t number)
{
	const struct catalogue_disk *lowest = target;
	uint64_t lowest_number = number;
	unsigned int nr_layers = 1;

	while (lowest->base && nr_layers++ < LAYERS_MAX &&
	       !below(catalogue, lowest)->kept_by) {
		lowest_number = lowest->base;
		lowest = below(catalogue, lowest);
	}
	*merge = (struct merge) {
		.target = target,
		.number = number,
		.lowest = lowest,
		.lowest_number = lowest_number,
	};
}

static int merge_into(const struct catalogue_point *point,
		      struct catalogue *catalogue, struct progress *progress)
{
	struct batch batch = {
		.merges = calloc(point->nr_disks, sizeof(*batch.merges)),
	};
	size_t i;
	int ret;

	if (!batch.merges)
		return fail_memory();
	for (i = 0; i < point->nr_disks; i++) {
		if (is_target(catalogue, &point->disks[i]))
			set_merge(&batch.merges[batch.nr_merges++], catalogue,
				  &point->disks[i], point->number);
	}
	ret = run_batch(&batch, catalogue, progress);
	free_batch(&batch);
	return ret;
}

static bool has_target(const struct catalogue *catalogue,
		       const struct catalogue_point *point)
{
	size_t i;

	for (i = 0; i < point->nr_disks; i++) {
		if (is_target(catalogue, &point->disks[i]))
			return true;
	}
	return false;
}

/* The first point above @number that others are to be merged into. */
static const struct catalogue_point *
next_target(const struct catalogue *catalogue, uint64_t number)
{
	size_t i;

	for (i = 0; i < catalogue->nr_points; i++) {
		if (catalogue->points[i].number > number &&
		    has_target(catalogue, &catalogue->points[i]))
			return &catalogue->points[i];
	}
	return NULL;
}

/* Before anything goes: can all that is to be merged be opened? */
static int unlock_all(const struct catalogue *catalogue)
{
	const struct catalogue_disk *disk;
	int ret = EXIT_OK;
	size_t i, j;

	for (i = 0; i < catalogue->nr_points; i++) {
		for (j = 0; j < catalogue->points[i].nr_disks && !ret; j++) {
			disk = &catalogue->points[i].disks[j];
			if (is_target(catalogue, disk) || disk->merging)
				ret = layer_stack_unlock(catalogue, disk);
		}
	}
	return ret;
}

/* A point whose layers are damaged is passed over, and stays as it is. */
static int merge_all(struct catalogue *catalogue, struct progress *progress)
{
	const struct catalogue_point *point;
	uint64_t damaged = 0, number;
	int ret = EXIT_OK;

	while (!ret && (point = next_target(catalogue, damaged))) {
		number = point->number;
		ret = merge_into(point, catalogue, progress);
		if (ret == EXIT_DAMAGED) {
			damaged = number;
			ret = EXIT_OK;
		}
	}
	return !ret && damaged ? EXIT_DAMAGED : ret;
}

/* Has its file been renamed before the program was killed? */
static int is_half_merged(const struct catalogue *catalogue,
			  struct catalogue_disk *disk, bool *half)
{
	const struct catalogue_disk *base = catalogue_below(catalogue, disk);
	char *path = catalogue_path(catalogue, disk->file);
	struct chain_header header = { 0 };
	int ret;

	ret = path ? chain_read_header(path, &header) : fail_memory();
	*half = !!header.backing != !!base ||
		(base && strcmp(header.backing, base->file));
	free(header.backing);
	free(path);
	return ret;
}

/*
 * Such a layer may be based on one that is to be removed, because the catalogue
 * says that it is based on another.
 */
static int mend(struct catalogue *catalogue, const struct catalogue_point *point,
		struct catalogue_disk *disk, struct progress *progress)
{
	struct merge merge = {
		.target = disk,
		.number = point->number,
		.lowest = disk,
		.lowest_number = point->number,
	};
	struct batch batch = { .merges = &merge, .nr_merges = 1 };
	bool half;
	int ret;

	ret = is_half_merged(catalogue, disk, &half);
	if (!ret && half)
		ret = run_batch(&batch, catalogue, progress);
	else if (!ret)
		disk->merging = 0;
	merge_free(&merge);
	return ret;
}

static struct catalogue_disk *
next_half_merged(const struct catalogue *catalogue,
		 const struct catalogue_point **point)
{
	struct catalogue_disk *disk;
	size_t i, j;

	for (i = 0; i < catalogue->nr_points; i++) {
		*point = &catalogue->points[i];
		for (j = 0; j < (*point)->nr_disks; j++) {
			disk = &(*point)->disks[j];
			if (disk->merging && disk->needed)
				return disk;
		}
	}
	return NULL;
}

/**
 * prune() - remove the layers that no rule keeps
 * @catalogue:	the catalogue, locked for writing; retention_apply() has been
 *		called; some of what is to go may stay there on failure
 * @progress:	counts
 *
 * Return: EXIT_OK; EXIT_DAMAGED if layers stay because they are damaged;
 *	   EXIT_FAILED, or as layer_stack_unlock(), after a message.
 */
int prune(struct catalogue *catalogue, struct progress *progress)
{
	const struct catalogue_point *point;
	struct catalogue_disk *disk;
	int ret = unlock_all(catalogue);

	find_needed(catalogue);
	while (!ret && (disk = next_half_merged(catalogue, &point)))
		ret = mend(catalogue, point, disk, progress);
	/* First what needs no room. */
	if (!ret)
		ret = remove_unneeded(catalogue);
	if (!ret)
		ret = merge_all(catalogue, progress);
	return ret;
}
