/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What of an image its filesystem does not use
 *
 * partclone lists it.  A backup that leaves it out is right for each block that
 * the filesystem uses, and zero or old elsewhere.  So the point remembers what
 * was free: a block that is used later without having been written since is not
 * in the change map, but is not known from the point either.
 */
#ifndef USED_H
#define USED_H

#include "catalogue.h"
#include "layer.h"

/* Reads from an image; what is free is zero. */
struct used_source {
	struct layer_source source;
	const struct extents *free;
};

int used_find_free(struct catalogue_disk *entry, const char *image,
		   struct extents *found, const char **reason);
void used_source_init(struct used_source *source, const char *image, int fd,
		      const struct extents *unused);

#endif /* USED_H */
