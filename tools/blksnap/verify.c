// SPDX-License-Identifier: GPL-2.0
/*
 * Is a layer of a backup what it was?
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blksnap_ioctl.h"
#include "chain.h"
#include "layer.h"
#include "message.h"
#include "verify.h"

/* The layer says itself on which file it is based. */
static int check_backing(const struct catalogue *catalogue,
			 const struct catalogue_disk *disk, const char *path)
{
	const struct catalogue_disk *below = catalogue_below(catalogue, disk);
	char *backing;
	int ret;

	ret = chain_read_backing(path, &backing);
	if (ret)
		return ret;
	/* A layer that is being merged is based on one further down already. */
	while (backing && below && strcmp(below->file, backing))
		below = catalogue_below(catalogue, below);
	if (backing && !below)
		ret = fail(EXIT_DAMAGED,
			   "'%s' is damaged: it is based on '%s', which the catalogue does not say",
			   path, backing);
	else if (!backing && disk->base)
		ret = fail(EXIT_DAMAGED,
			   "'%s' is damaged: it is not based on another file",
			   path);
	free(backing);
	return ret;
}

static int verify_file(const struct catalogue *catalogue,
		       const struct catalogue_disk *disk, const char *path,
		       const char *map_path, struct progress *progress)
{
	struct layer_map map;
	bool damaged = false;
	int ret;

	ret = chain_check(path, &damaged);
	if (!ret && damaged)
		ret = fail(EXIT_DAMAGED,
			   "'%s' is damaged: 'qemu-img check' finds errors",
			   path);
	if (!ret)
		ret = check_backing(catalogue, disk, path);
	if (ret)
		return ret;
	ret = layer_map_load(&map, map_path, disk->map_sha256, &damaged);
	if (!ret) {
		progress_begin(progress, disk->file,
			       map.data.nr_sectors << BLKSNAP_SECTOR_SHIFT);
		ret = layer_read(&map, path, NULL, progress, &damaged);
		progress_end(progress);
	}
	layer_map_free(&map);
	return damaged ? EXIT_DAMAGED : ret;
}

/**
 * verify_layer() - read a layer and verify all that is known of it
 * @catalogue:	the catalogue
 * @disk:	the layer
 * @progress:	counts
 *
 * Return: EXIT_OK; EXIT_DAMAGED if it is not what it was, EXIT_FAILED if that
 *	   could not be found out, both after a message.
 */
int verify_layer(const struct catalogue *catalogue,
		 const struct catalogue_disk *disk, struct progress *progress)
{
	char *path = catalogue_path(catalogue, disk->file);
	char *map_path = catalogue_path(catalogue, disk->map);
	const char *problem = catalogue_layer_problem(catalogue, disk);
	int ret;

	if (problem && (!strcmp(problem, disk->file) ||
			!strcmp(problem, disk->map))) {
		free(path);
		free(map_path);
		return fail(EXIT_DAMAGED, "'%s/%s' is damaged: it is missing or cut",
			    catalogue->dir, problem);
	}
	ret = path && map_path ? verify_file(catalogue, disk, path, map_path,
					     progress) : fail_memory();
	free(path);
	free(map_path);
	return ret;
}
