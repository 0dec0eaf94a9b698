/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Which disk of which point of a backup is meant
 */
#ifndef CHOICE_H
#define CHOICE_H

#include "catalogue.h"

struct choice {
	uint64_t number;	/* of the point, 0 for the newest */
	const char *name;	/* of the disk, NULL for the only one */
	/* Those below are found by choice_find(), and are of the catalogue. */
	const struct catalogue_point *point;
	const struct catalogue_disk *disk;
};

int choice_find(struct choice *choice, const struct catalogue *catalogue);

#endif /* CHOICE_H */
