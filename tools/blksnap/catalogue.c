// SPDX-License-Identifier: GPL-2.0
/*
 * The catalogue of the backups of one source: in memory
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "catalogue.h"
#include "damage.h"
#include "message.h"

/**
 * catalogue_forget_disk() - free what belongs to a disk of a point
 * @disk:	the disk
 */
void catalogue_forget_disk(struct catalogue_disk *disk)
{
	free(disk->disk);
	free(disk->file);
	free(disk->map);
	free(disk->map_sha256);
	free(disk->reason);
	free(disk->device);
	free(disk->wwid);
	free(disk->serial);
	free(disk->partuuid);
	free(disk->ptuuid);
	free(disk->fs_uuid);
	free(disk->fs_uuid_sub);
	free(disk->fs_type);
	free(disk->generation);
	*disk = (struct catalogue_disk) { 0 };
}

/**
 * catalogue_forget_point() - free what belongs to a point
 * @point:	the point
 */
void catalogue_forget_point(struct catalogue_point *point)
{
	size_t i;

	for (i = 0; i < point->nr_disks; i++)
		catalogue_forget_disk(&point->disks[i]);
	free(point->disks);
	*point = (struct catalogue_point) { 0 };
}

/**
 * catalogue_add_point() - add the newest point
 * @catalogue:	the catalogue
 * @point:	the point; on success it belongs to the catalogue
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int catalogue_add_point(struct catalogue *catalogue,
			const struct catalogue_point *point)
{
	struct catalogue_point *points;

	points = reallocarray(catalogue->points, catalogue->nr_points + 1,
			      sizeof(*points));
	if (!points)
		return fail_memory();
	points[catalogue->nr_points++] = *point;
	catalogue->points = points;
	if (catalogue->next_point <= point->number)
		catalogue->next_point = point->number + 1;
	return EXIT_OK;
}

static void remove_unneeded(struct catalogue_point *point)
{
	size_t i, nr = 0;

	for (i = 0; i < point->nr_disks; i++) {
		if (point->disks[i].needed)
			point->disks[nr++] = point->disks[i];
		else
			catalogue_forget_disk(&point->disks[i]);
	}
	point->nr_disks = nr;
}

/**
 * catalogue_remove_unneeded() - remove layers, and points that have none left
 * @catalogue:	the catalogue; no layer that is needed is based on one that is not
 */
void catalogue_remove_unneeded(struct catalogue *catalogue)
{
	size_t i, nr = 0;

	for (i = 0; i < catalogue->nr_points; i++) {
		remove_unneeded(&catalogue->points[i]);
		if (catalogue->points[i].nr_disks)
			catalogue->points[nr++] = catalogue->points[i];
		else
			catalogue_forget_point(&catalogue->points[i]);
	}
	catalogue->nr_points = nr;
}

/**
 * catalogue_find_point() - find a point by its number
 * @catalogue:	the catalogue
 * @number:	the number
 *
 * Return: the point, or NULL.
 */
const struct catalogue_point *
catalogue_find_point(const struct catalogue *catalogue, uint64_t number)
{
	size_t i;

	for (i = 0; i < catalogue->nr_points; i++) {
		if (catalogue->points[i].number == number)
			return &catalogue->points[i];
	}
	return NULL;
}

/**
 * catalogue_find_disk() - find a disk in a point
 * @point:	the point
 * @disk:	name of the disk
 *
 * Return: the disk, or NULL.
 */
struct catalogue_disk *
catalogue_find_disk(const struct catalogue_point *point, const char *disk)
{
	size_t i;

	for (i = 0; i < point->nr_disks; i++) {
		if (!strcmp(point->disks[i].disk, disk))
			return &point->disks[i];
	}
	return NULL;
}

/**
 * catalogue_newest_disk() - find the newest point with a disk
 * @catalogue:	the catalogue
 * @disk:	name of the disk
 * @number:	gets the number of the point
 *
 * Return: the disk there, or NULL.
 */
const struct catalogue_disk *
catalogue_newest_disk(const struct catalogue *catalogue, const char *disk,
		      uint64_t *number)
{
	const struct catalogue_disk *found;
	size_t i;

	for (i = catalogue->nr_points; i--;) {
		found = catalogue_find_disk(&catalogue->points[i], disk);
		if (found) {
			*number = catalogue->points[i].number;
			return found;
		}
	}
	return NULL;
}

/**
 * catalogue_below() - find the layer that a layer is based on
 * @catalogue:	the catalogue, which was checked when it was loaded
 * @disk:	the layer
 *
 * Return: the layer below, NULL if @disk is full.
 */
const struct catalogue_disk *
catalogue_below(const struct catalogue *catalogue,
		const struct catalogue_disk *disk)
{
	if (!disk->base)
		return NULL;
	return catalogue_find_disk(catalogue_find_point(catalogue, disk->base),
				   disk->disk);
}

/**
 * catalogue_key() - find the key that a layer is encrypted with
 * @catalogue:	the catalogue
 * @disk:	the layer
 *
 * Return: the key, NULL if the layer is not encrypted.
 */
const struct key *catalogue_key(const struct catalogue *catalogue,
				const struct catalogue_disk *disk)
{
	return disk->encrypted ? catalogue->key : NULL;
}

/**
 * catalogue_path() - path of a file of the source
 * @catalogue:	the catalogue
 * @name:	name of the file
 *
 * Return: a text to be freed by the caller, NULL without memory.
 */
char *catalogue_path(const struct catalogue *catalogue, const char *name)
{
	char *path;

	if (asprintf(&path, "%s/%s", catalogue->dir, name) < 0)
		return NULL;
	return path;
}

/* A layer that is being merged may be larger than the catalogue says. */
static bool is_whole(const struct catalogue *catalogue, const char *name,
		     uint64_t nr_bytes)
{
	char *path = catalogue_path(catalogue, name);
	struct stat st;
	bool ok;

	ok = path && !stat(path, &st) && S_ISREG(st.st_mode) &&
	     (uint64_t)st.st_size >= nr_bytes;
	free(path);
	return ok;
}

static const char *find_problem(const struct catalogue *catalogue,
				const struct catalogue_disk *disk)
{
	if (!is_whole(catalogue, disk->file, disk->file_bytes))
		return disk->file;
	return is_whole(catalogue, disk->map, 1) ? NULL : disk->map;
}

/**
 * catalogue_layer_problem() - look whether the files of a layer are there
 * @catalogue:	the catalogue
 * @disk:	the layer
 *
 * This finds files that are missing or too short, here and below.  Nothing is
 * read.
 *
 * Return: the name of a file with a problem, NULL if there is none.
 */
const char *catalogue_layer_problem(const struct catalogue *catalogue,
				    const struct catalogue_disk *disk)
{
	const char *problem = NULL;

	for (; disk && !problem; disk = catalogue_below(catalogue, disk))
		problem = find_problem(catalogue, disk);
	return problem;
}

/**
 * catalogue_check_files() - are the files of layers there?
 * @catalogue:	the catalogue
 * @top:	the topmost layer
 * @bottom:	the lowest one; NULL for the full one
 *
 * Return: EXIT_OK, or EXIT_DAMAGED after a message.
 */
int catalogue_check_files(const struct catalogue *catalogue,
			  const struct catalogue_disk *top,
			  const struct catalogue_disk *bottom)
{
	const struct catalogue_disk *d;
	const char *problem;

	for (d = top; d; d = d == bottom ? NULL : catalogue_below(catalogue, d)) {
		problem = find_problem(catalogue, d);
		if (problem)
			return fail(EXIT_DAMAGED,
				    "'%s/%s' is damaged: it is missing or cut",
				    catalogue->dir, problem);
	}
	return EXIT_OK;
}

static bool is_marked(const struct catalogue *catalogue, const char *name)
{
	char *path = catalogue_path(catalogue, name);
	bool marked = path && damage_is_marked(path);

	free(path);
	return marked;
}

/**
 * catalogue_layer_damage() - look whether a layer can be restored
 * @catalogue:	the catalogue
 * @disk:	the layer
 *
 * As catalogue_layer_problem(); this also finds what was found to be damaged
 * when it was read last.
 *
 * Return: the name of a file that is damaged, NULL if there is none.
 */
const char *catalogue_layer_damage(const struct catalogue *catalogue,
				   const struct catalogue_disk *disk)
{
	const char *problem = catalogue_layer_problem(catalogue, disk);

	for (; disk && !problem; disk = catalogue_below(catalogue, disk)) {
		if (is_marked(catalogue, disk->file))
			problem = disk->file;
	}
	return problem;
}

/**
 * catalogue_newest_whole() - find the newest point at which a disk is not damaged
 * @catalogue:	the catalogue
 * @disk:	name of the disk
 *
 * Return: number of the point, 0 if there is none.
 */
uint64_t catalogue_newest_whole(const struct catalogue *catalogue,
				const char *disk)
{
	const struct catalogue_disk *found;
	size_t i;

	for (i = catalogue->nr_points; i--;) {
		found = catalogue_find_disk(&catalogue->points[i], disk);
		if (found && !catalogue_layer_damage(catalogue, found))
			return catalogue->points[i].number;
	}
	return 0;
}
