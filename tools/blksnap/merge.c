// SPDX-License-Identifier: GPL-2.0
/*
 * Merging a layer with those below it
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <blksnap/blksnap.h>

#include "damage.h"
#include "layer_file.h"
#include "layer_stack.h"
#include "merge.h"
#include "message.h"

/* The catalogue may name a map of an earlier merge, which must not be touched. */
static int name_map(struct merge *merge)
{
	unsigned int i;

	for (i = 1; i <= 2; i++) {
		free(merge->result.map);
		if (asprintf(&merge->result.map, "%s.%06ju.%u.map",
			     merge->target->disk, (uintmax_t)merge->number,
			     i) < 0) {
			merge->result.map = NULL;
			return fail_memory();
		}
		if (strcmp(merge->result.map, merge->target->map))
			break;
	}
	return EXIT_OK;
}

static int name_files(struct merge *merge, const struct catalogue *catalogue)
{
	int ret = name_map(merge);

	if (ret)
		return ret;
	merge->path = catalogue_path(catalogue, merge->target->file);
	merge->map_path = catalogue_path(catalogue, merge->result.map);
	if (!merge->path || !merge->map_path ||
	    asprintf(&merge->partial, "%s.partial", merge->path) < 0) {
		merge->partial = NULL;
		return fail_memory();
	}
	return EXIT_OK;
}

/*
 * Only whole clusters can be compressed.  What is missing of one would have to
 * come from layers that are not read here.
 */
static int choose_compression(struct chain_file *file, const char *path,
			      const struct extents *extents)
{
	struct extents rounded = { 0 };
	struct chain_header header;
	int ret;

	ret = chain_read_header(path, &header);
	free(header.backing);
	if (ret || !header.compress)
		return ret;
	file->compress = true;
	ret = extents_unite(&rounded, extents);
	if (!ret)
		ret = layer_file_round(&rounded, file);
	file->compress = rounded.nr_sectors == extents->nr_sectors;
	extents_free(&rounded);
	return ret;
}

static int grow_to(int fd, uint64_t nr_bytes)
{
	struct stat st;

	if (fstat(fd, &st))
		return -1;
	if ((uint64_t)st.st_size >= nr_bytes)
		return 0;
	return ftruncate(fd, nr_bytes) || fsync(fd) ? -1 : 0;
}

/*
 * The catalogue may still have the old size when the new file is in place, and
 * must not find it cut.
 */
static int keep_size(const struct merge *merge)
{
	int fd = open(merge->partial, O_WRONLY | O_CLOEXEC);
	int ret = EXIT_OK;

	if (fd < 0 || grow_to(fd, merge->target->file_bytes))
		ret = fail_errno(errno, "cannot write '%s'", merge->partial);
	if (fd >= 0)
		close(fd);
	return ret;
}

static int copy(struct merge *merge, const struct layer_stack *stack,
		struct chain_file *file, const struct extents *extents,
		struct layer_map *map, struct progress *progress)
{
	struct layer_merge source;
	bool damaged = false;
	int ret;

	ret = choose_compression(file, merge->path, extents);
	if (ret)
		return ret;
	ret = layer_merge_open(&source, stack, &damaged);
	if (!ret) {
		progress_begin(progress, merge->target->file,
			       extents->nr_sectors << BLKSNAP_SECTOR_SHIFT);
		ret = layer_file_write(file, &source.source, extents, map,
				       progress);
		progress_end(progress);
	}
	if (!ret)
		ret = layer_merge_finish(&source);
	layer_merge_close(&source);
	return damaged ? EXIT_DAMAGED : ret;
}

static int write_files(struct merge *merge, const struct layer_stack *stack,
		       struct chain_file *file, struct progress *progress)
{
	struct layer_map map = { .nr_sectors = stack->maps[0].nr_sectors };
	char sum[CHECKSUM_TEXT_SIZE];
	struct extents extents = { 0 };
	int ret;

	ret = layer_stack_extents(stack, &extents);
	if (!ret)
		ret = extents_unite(&map.free,
				    &stack->maps[stack->nr_layers - 1].free);
	if (!ret)
		ret = copy(merge, stack, file, &extents, &map, progress);
	if (!ret)
		ret = keep_size(merge);
	if (!ret)
		ret = layer_map_save(&map, merge->map_path, sum);
	if (!ret)
		ret = layer_file_describe(&merge->result, &map, sum,
					  merge->partial);
	layer_map_free(&map);
	extents_free(&extents);
	return ret;
}

/**
 * merge_write() - write the new file and its map, beside what there is
 * @merge:	target, lowest and their numbers are set; gets the rest; to be
 *		freed by merge_free() in any case
 * @catalogue:	the catalogue
 * @progress:	counts
 *
 * The checksums of all that is read are verified.
 *
 * Return: EXIT_OK; EXIT_DAMAGED or EXIT_FAILED after a message.
 */
int merge_write(struct merge *merge, const struct catalogue *catalogue,
		struct progress *progress)
{
	const struct catalogue_disk *below = catalogue_below(catalogue,
							     merge->lowest);
	struct chain_file file = {
		.backing = below ? below->file : NULL,
		.nr_bytes = merge->target->capacity_bytes,
		.block_bytes = merge->target->block_bytes,
		.key = catalogue_key(catalogue, merge->target),
	};
	struct layer_stack stack = { 0 };
	int ret;

	ret = catalogue_check_files(catalogue, merge->target, NULL);
	if (!ret)
		ret = name_files(merge, catalogue);
	if (!ret)
		ret = layer_stack_load(&stack, catalogue, merge->target,
				       merge->lowest);
	file.path = merge->partial;
	if (!ret)
		ret = write_files(merge, &stack, &file, progress);
	layer_stack_free(&stack);
	return ret;
}

/**
 * merge_rename() - put the new file in the place of the old one
 * @merge:	was written, and the catalogue says that it goes on
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int merge_rename(const struct merge *merge)
{
	if (rename(merge->partial, merge->path))
		return fail_errno(errno, "cannot rename '%s'", merge->partial);
	/* All that it was made of has been verified. */
	damage_clear(merge->path);
	return EXIT_OK;
}

static void swap_text(char **a, char **b)
{
	char *was = *a;

	*a = *b;
	*b = was;
}

/**
 * merge_take_result() - let the catalogue in memory say what there is now
 * @merge:	was renamed
 */
void merge_take_result(struct merge *merge)
{
	struct catalogue_disk *target = merge->target;
	struct catalogue_disk *result = &merge->result;

	swap_text(&target->map, &result->map);
	swap_text(&target->map_sha256, &result->map_sha256);
	if (merge->lowest != target && merge->lowest->reason)
		swap_text(&target->reason, (char **)&merge->lowest->reason);
	target->base = merge->lowest->base;
	target->merging = 0;
	target->read_bytes = result->read_bytes;
	target->data_bytes = result->data_bytes;
	target->file_bytes = result->file_bytes;
}

/**
 * merge_discard() - remove what was written and is not used
 * @merge:	the catalogue does not say yet that it goes on
 */
void merge_discard(const struct merge *merge)
{
	if (merge->partial)
		unlink(merge->partial);
	if (merge->map_path)
		unlink(merge->map_path);
}

/**
 * merge_free() - free what belongs to a merge
 * @merge:	the merge
 */
void merge_free(struct merge *merge)
{
	catalogue_forget_disk(&merge->result);
	free(merge->path);
	free(merge->partial);
	free(merge->map_path);
}
