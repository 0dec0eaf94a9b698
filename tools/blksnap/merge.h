/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Merging a layer with those below it
 */
#ifndef MERGE_H
#define MERGE_H

#include "catalogue.h"
#include "progress.h"

struct merge {
	struct catalogue_disk *target;	/* the topmost layer, which stays */
	uint64_t number;		/* of its point */
	const struct catalogue_disk *lowest;	/* of the layers below that go */
	uint64_t lowest_number;		/* of its point */
	struct catalogue_disk result;	/* what differs in the new target */
	char *path;
	char *partial;
	char *map_path;
};

int merge_write(struct merge *merge, const struct catalogue *catalogue,
		struct progress *progress);
int merge_rename(const struct merge *merge);
void merge_take_result(struct merge *merge);
void merge_discard(const struct merge *merge);
void merge_free(struct merge *merge);

#endif /* MERGE_H */
