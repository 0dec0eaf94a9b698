// SPDX-License-Identifier: GPL-2.0
/*
 * Is a layer of a backup what it was?
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <blksnap/blksnap.h>

#include "chain.h"
#include "damage.h"
#include "layer.h"
#include "layer_stack.h"
#include "message.h"
#include "verify.h"

static bool same_name(const char *a, const char *b)
{
	return a && b ? !strcmp(a, b) : a == b;
}

/*
 * The layer says itself on which file it is based.  One that was being merged
 * when the program was killed may be based on what those were, or on any below.
 */
static bool has_right_base(const struct catalogue *catalogue,
			   const struct catalogue_disk *disk,
			   const char *backing)
{
	const struct catalogue_disk *below = catalogue_below(catalogue, disk);
	uint64_t number = disk->base;

	while (!same_name(backing, below ? below->file : NULL)) {
		if (!disk->merging || number < disk->merging)
			return false;
		number = below->base;
		below = catalogue_below(catalogue, below);
	}
	return true;
}

static int check_backing(const struct catalogue *catalogue,
			 const struct catalogue_disk *disk, const char *path)
{
	struct chain_header header;
	int ret;

	ret = chain_read_header(path, &header);
	if (ret || has_right_base(catalogue, disk, header.backing))
		;
	else if (header.backing)
		ret = fail(EXIT_DAMAGED,
			   "'%s' is damaged: it is based on '%s', which the catalogue does not say",
			   path, header.backing);
	else
		ret = fail(EXIT_DAMAGED,
			   "'%s' is damaged: it is not based on another file",
			   path);
	free(header.backing);
	return ret;
}

static int verify_file(const struct catalogue *catalogue,
		       const struct catalogue_disk *disk, const char *path,
		       const char *map_path, struct progress *progress)
{
	const struct key *key = catalogue_key(catalogue, disk);
	struct layer_map map;
	bool damaged = false;
	int ret;

	ret = layer_stack_unlock(catalogue, disk);
	if (!ret)
		ret = chain_check(path, key, &damaged);
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
		ret = layer_read(&map, path, key, NULL, progress,
				 &damaged);
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
	int ret = catalogue_check_files(catalogue, disk, disk);

	if (!ret) {
		ret = path && map_path ?
			      verify_file(catalogue, disk, path, map_path,
					  progress) : fail_memory();
		if (ret == EXIT_DAMAGED)
			damage_mark(path);
		else if (!ret)
			damage_clear(path);
	}
	free(path);
	free(map_path);
	return ret;
}
