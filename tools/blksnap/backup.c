// SPDX-License-Identifier: GPL-2.0
/*
 * One device in one backup
 *
 * The plan is made for all devices before anything is written: it says which
 * layer the new one is based on, or why it has to be full.  The change map only
 * tells all changes since an earlier point if the generation is that of the
 * point and the device has the size that it had.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <blksnap/blksnap.h>

#include "backup.h"
#include "chain.h"
#include "identity.h"
#include "layer_file.h"
#include "layer_stack.h"
#include "message.h"
#include "parse.h"
#include "used.h"
#include "util.h"

__attribute__((PRINTF_LIKE(2, 3)))
static int set_reason(struct catalogue_disk *entry, const char *format, ...)
{
	va_list args;
	int ret;

	va_start(args, format);
	ret = vasprintf(&entry->reason, format, args);
	va_end(args);
	if (ret < 0)
		entry->reason = NULL;
	return ret < 0 ? fail_memory() : EXIT_OK;
}

static bool is_same_generation(const struct catalogue_disk *a,
			       const struct catalogue_disk *b)
{
	return !strcmp(a->generation, b->generation) &&
	       a->snap_number < b->snap_number;
}

static int fail_damaged(struct catalogue_disk *entry, const char *name,
			uint64_t number)
{
	return set_reason(entry,
			  "'%s', which point %ju needs, is missing, cut or damaged",
			  name, (uintmax_t)number);
}

static int load_base_free(struct backup_disk *disk,
			  const struct catalogue *catalogue,
			  const struct catalogue_disk *base, bool *damaged)
{
	char *path = catalogue_path(catalogue, base->map);
	struct layer_map map;
	int ret;

	if (!path)
		return fail_memory();
	ret = layer_map_load(&map, path, base->map_sha256, damaged);
	if (!ret)
		ret = extents_unite(&disk->base_free, &map.free);
	layer_map_free(&map);
	free(path);
	return *damaged ? EXIT_OK : ret;
}

/* Leaves disk->base alone and sets the reason if there is none to build on. */
static int choose_base(struct backup_disk *disk,
		       const struct catalogue *catalogue)
{
	struct catalogue_disk *entry = disk->entry;
	const struct catalogue_disk *last;
	const char *problem;
	bool damaged = false;
	uint64_t number;
	int ret = EXIT_OK;

	last = catalogue_newest_disk(catalogue, entry->disk, &number);
	if (!last)
		return set_reason(entry, "it is the first of this disk");
	if (!is_same_generation(last, entry))
		return set_reason(entry,
				  "change tracking began anew after point %ju, as it does when the machine starts",
				  (uintmax_t)number);
	if (last->encrypted != entry->encrypted)
		return set_reason(entry, "the points so far are not encrypted");
	if (last->capacity_bytes != entry->capacity_bytes ||
	    last->block_bytes != entry->block_bytes)
		return set_reason(entry, "the size of the disk has changed");
	problem = catalogue_layer_damage(catalogue, last);
	if (problem)
		return fail_damaged(entry, problem, number);
	if (last->used_only)
		ret = load_base_free(disk, catalogue, last, &damaged);
	if (ret || damaged)
		return ret ? ret : fail_damaged(entry, last->map, number);
	entry->base = number;
	disk->base = last;
	return EXIT_OK;
}

/*
 * What was secret so far must not become readable by an oversight, nor must a
 * chain with another key begin by one, whatever it is that asks for a full one.
 */
static int check_encryption(const struct backup_disk *disk,
			    const struct catalogue *catalogue,
			    const struct backup_options *options)
{
	const struct catalogue_disk *last;
	uint64_t number;

	last = catalogue_newest_disk(catalogue, disk->entry->disk, &number);
	if (!last || !last->encrypted)
		return EXIT_OK;
	if (!disk->entry->encrypted)
		return fail(EXIT_FAILED,
			    "'%s' is encrypted in '%s' so far; add --encrypt and --key-file, or back it up to another folder",
			    disk->text, catalogue->dir);
	if (options->full || catalogue_layer_damage(catalogue, last))
		return EXIT_OK;
	return layer_stack_unlock(catalogue, last);
}

static void note_state(struct catalogue_disk *entry,
		       const struct blk_snap_cbt_info *info)
{
	char generation[BLKSNAP_UUID_TEXT_SIZE];

	blksnap_format_uuid(&info->generation_id, generation);
	entry->generation = strdup(generation);
	entry->snap_number = info->snap_number;
	entry->block_bytes = info->blk_size;
	entry->capacity_bytes = info->device_capacity;
}

static struct chain_file file_of(const struct backup_disk *disk,
				 const struct catalogue *catalogue,
				 const struct backup_options *options)
{
	return (struct chain_file) {
		.backing = disk->base ? disk->base->file : NULL,
		.nr_bytes = disk->entry->capacity_bytes,
		.block_bytes = disk->entry->block_bytes,
		.compress = options->compress,
		.key = catalogue_key(catalogue, disk->entry),
	};
}

static int find_free(struct backup_disk *disk,
		     const struct backup_options *options)
{
	const char *reason;
	int ret = used_find_free(disk->entry, disk->image, &disk->free,
				 &reason);

	if (!ret && reason && !options->quiet)
		fprintf(stderr, "%s: all is backed up, not only what is used, because %s\n",
			disk->entry->disk, reason);
	return ret;
}

static int find_extents(struct backup_disk *disk,
			const struct catalogue *catalogue,
			const struct backup_options *options,
			const struct blksnap_cbt *cbt)
{
	const struct chain_file file = file_of(disk, catalogue, options);
	int ret;

	/* What is free in both is not needed, and not known from the base. */
	ret = extents_subtract(&disk->base_free, &disk->free);
	if (ret)
		return ret;
	if (!disk->base)
		return extents_add(&disk->extents, 0,
				   file.nr_bytes >> BLKSNAP_SECTOR_SHIFT);
	ret = extents_add_changed(&disk->extents, cbt, disk->base->snap_number);
	if (!ret)
		ret = extents_unite(&disk->extents, &disk->base_free);
	return ret ? ret : layer_file_round(&disk->extents, &file);
}

/* Without its map a device can still be backed up in full. */
static int read_state(struct backup_disk *disk, struct blksnap *blksnap,
		      struct blksnap_cbt **cbt)
{
	struct blk_snap_cbt_info info;

	if (!blksnap_cbt_load(blksnap, disk->dev, cbt)) {
		info = *blksnap_cbt_info(*cbt);
	} else {
		fail_call("'%s'", disk->text);
		if (blksnap_tracker_info(blksnap, disk->dev, &info))
			return fail_call("'%s'", disk->text);
	}
	note_state(disk->entry, &info);
	return disk->entry->generation ? EXIT_OK : fail_memory();
}

static int plan_with_map(struct backup_disk *disk,
			 const struct catalogue *catalogue,
			 const struct backup_options *options,
			 const struct blksnap_cbt *cbt)
{
	int ret;

	if (options->full)
		ret = set_reason(disk->entry, "--full asks for it");
	else if (!cbt)
		ret = set_reason(disk->entry,
				 "the change map cannot be read");
	else
		ret = choose_base(disk, catalogue);
	if (ret)
		return ret;
	if (!disk->base && options->incremental_only)
		return fail(EXIT_FULL_BACKUP,
			    "'%s' needs a full backup: %s; --incremental-only forbids it, nothing was written",
			    disk->text, disk->entry->reason);
	if (!disk->base && !options->quiet)
		fprintf(stderr, "%s: full backup, because %s\n",
			disk->entry->disk, disk->entry->reason);
	if (options->used_only)
		ret = find_free(disk, options);
	return ret ? ret : find_extents(disk, catalogue, options, cbt);
}

/**
 * backup_plan() - decide what is to be written for a device
 * @disk:	the device, with its image and its entry; gets the rest
 * @blksnap:	connection; the snapshot is taken
 * @catalogue:	the backups so far
 * @point:	the new point; disk->entry is the next after its last disk, and
 *		becomes part of it
 * @options:	what the user wants
 *
 * Return: EXIT_OK; EXIT_FULL_BACKUP or EXIT_FAILED after a message.
 */
int backup_plan(struct backup_disk *disk, struct blksnap *blksnap,
		const struct catalogue *catalogue,
		struct catalogue_point *point,
		const struct backup_options *options)
{
	struct blksnap_cbt *cbt = NULL;
	int ret;

	ret = identity_find(disk->entry, disk->dev);
	if (!ret)
		ret = read_state(disk, blksnap, &cbt);
	if (!ret)
		ret = identity_name(disk->entry, disk->dev, catalogue, point);
	/* From here on it is freed with the point. */
	point->nr_disks++;
	disk->entry->encrypted = options->encrypt;
	if (!ret)
		ret = check_encryption(disk, catalogue, options);
	if (!ret)
		ret = plan_with_map(disk, catalogue, options, cbt);
	blksnap_cbt_free(cbt);
	return ret;
}

/* Reads from the image. */
static int write_layer(const struct backup_disk *disk,
		       const struct chain_file *file, struct layer_map *map,
		       struct progress *progress)
{
	struct used_source source;
	int ret;

	posix_fadvise(disk->image_fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	used_source_init(&source, disk->image, disk->image_fd, &disk->free);
	progress_begin(progress, disk->entry->disk,
		       disk->extents.nr_sectors << BLKSNAP_SECTOR_SHIFT);
	ret = layer_file_write(file, &source.source, &disk->extents, map,
			       progress);
	progress_end(progress);
	return ret;
}

static int name_files(struct catalogue_disk *entry, uint64_t number)
{
	if (asprintf(&entry->file, "%s.%06ju.qcow2", entry->disk,
		     (uintmax_t)number) < 0) {
		entry->file = NULL;
		return fail_memory();
	}
	if (asprintf(&entry->map, "%s.%06ju.map", entry->disk,
		     (uintmax_t)number) < 0) {
		entry->map = NULL;
		return fail_memory();
	}
	return EXIT_OK;
}

static int write_files(const struct backup_disk *disk,
		       const struct chain_file *file, const char *path,
		       const char *map_path, struct progress *progress)
{
	struct layer_map map = {
		.nr_sectors = file->nr_bytes >> BLKSNAP_SECTOR_SHIFT,
	};
	char sum[CHECKSUM_TEXT_SIZE];
	int ret;

	ret = extents_unite(&map.free, &disk->free);
	if (!ret)
		ret = write_layer(disk, file, &map, progress);
	if (!ret)
		ret = layer_map_save(&map, map_path, sum);
	if (!ret && rename(file->path, path))
		ret = fail_errno(errno, "cannot rename '%s'", file->path);
	if (!ret)
		ret = layer_file_describe(disk->entry, &map, sum, path);
	layer_map_free(&map);
	return ret;
}

/**
 * backup_write() - write the layer of a device
 * @disk:	was planned
 * @catalogue:	the catalogue
 * @number:	of the new point
 * @options:	what the user wants
 * @progress:	counts
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message; what was written is for
 *	   catalogue_remove_leftovers() then.
 */
int backup_write(const struct backup_disk *disk,
		 const struct catalogue *catalogue, uint64_t number,
		 const struct backup_options *options,
		 struct progress *progress)
{
	char *path, *map_path, *partial = NULL;
	struct chain_file file = file_of(disk, catalogue, options);
	int ret;

	ret = name_files(disk->entry, number);
	if (ret)
		return ret;
	path = catalogue_path(catalogue, disk->entry->file);
	map_path = catalogue_path(catalogue, disk->entry->map);
	if (!path || !map_path || asprintf(&partial, "%s.partial", path) < 0) {
		partial = NULL;
		ret = fail_memory();
	}
	file.path = partial;
	if (!ret)
		ret = write_files(disk, &file, path, map_path, progress);
	free(path);
	free(map_path);
	free(partial);
	return ret;
}

/**
 * backup_forget() - free what belongs to a planned device
 * @disk:	the device; its entry belongs to the point
 */
void backup_forget(struct backup_disk *disk)
{
	extents_free(&disk->extents);
	extents_free(&disk->free);
	extents_free(&disk->base_free);
	free(disk->image);
}
