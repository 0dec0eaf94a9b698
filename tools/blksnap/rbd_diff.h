/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Reading a stream of "rbd export-diff", version 1
 *
 * First comes what the stream is about, then data and zeros in the order of the
 * disk, then a record that says that it is whole.  All numbers are little-endian.
 */
#ifndef RBD_DIFF_H
#define RBD_DIFF_H

#include <stdio.h>

#include "layer.h"

#define RBD_DIFF_NAME_SIZE 256

struct rbd_diff {
	FILE *file;
	uint64_t nr_bytes;		/* of the disk */
	char from[RBD_DIFF_NAME_SIZE];	/* "" if all of the disk is in it */
	char to[RBD_DIFF_NAME_SIZE];	/* "" if it has no name */
	int tag;			/* of the next record */
};

int rbd_diff_begin(struct rbd_diff *diff, FILE *file);
int rbd_diff_read(struct rbd_diff *diff, struct layer_sink *sink,
		  struct progress *progress);

#endif /* RBD_DIFF_H */
