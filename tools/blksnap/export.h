/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A disk of a backup in the formats of others
 *
 * Either all that it holds, or what changed since an earlier point.
 */
#ifndef EXPORT_H
#define EXPORT_H

#include <stdio.h>

#include "layer_stack.h"

struct export {
	const struct layer_stack *stack;	/* the layers above the base */
	const struct catalogue_disk *disk;
	uint64_t number;			/* of its point */
	const struct catalogue_disk *base;	/* NULL: all of the disk */
	uint64_t base_number;
	FILE *file;
	struct progress *progress;
};

int export_ranges(const struct export *export);
int export_json(const struct export *export);
int export_bmap(const struct export *export);
int export_rbd_diff(const struct export *export);

#endif /* EXPORT_H */
