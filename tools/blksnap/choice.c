// SPDX-License-Identifier: GPL-2.0
/*
 * Which disk of which point of a backup is meant
 */
#include "choice.h"
#include "message.h"

static int find_point(struct choice *choice, const struct catalogue *catalogue)
{
	if (!catalogue->nr_points)
		return fail(EXIT_FAILED, "'%s' has no point yet",
			    catalogue->dir);
	choice->point = choice->number ?
		catalogue_find_point(catalogue, choice->number) :
		&catalogue->points[catalogue->nr_points - 1];
	if (!choice->point)
		return fail(EXIT_FAILED,
			    "there is no point %ju; 'blksnap list' shows all",
			    (uintmax_t)choice->number);
	return EXIT_OK;
}

static int find_disk(struct choice *choice)
{
	const struct catalogue_point *point = choice->point;

	if (!choice->name && point->nr_disks != 1)
		return fail(EXIT_USAGE,
			    "point %ju has %zu disks; choose one with --disk",
			    (uintmax_t)point->number, point->nr_disks);
	choice->disk = choice->name ?
		catalogue_find_disk(point, choice->name) : &point->disks[0];
	if (!choice->disk)
		return fail(EXIT_FAILED,
			    "point %ju has no disk '%s'; 'blksnap list' shows all",
			    (uintmax_t)point->number, choice->name);
	return EXIT_OK;
}

/**
 * choice_find() - find what is meant
 * @choice:	the choice
 * @catalogue:	the catalogue, kept as long as the choice
 *
 * Return: EXIT_OK, EXIT_USAGE if the point has several disks and none is named,
 *	   or EXIT_FAILED, after a message.
 */
int choice_find(struct choice *choice, const struct catalogue *catalogue)
{
	int ret = find_point(choice, catalogue);

	return ret ? ret : find_disk(choice);
}
