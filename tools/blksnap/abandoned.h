/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Snapshots of programs that were killed
 *
 * A snapshot outlives the program that made it, which may be what it is for.  So a
 * program that wants its snapshot to go with it creates it under a name of its own; the
 * module remembers the name, and whether the program still lives.
 */
#ifndef ABANDONED_H
#define ABANDONED_H

#include <stdbool.h>

#include <blksnap/blksnap.h>

int create_to_be_kept(struct blksnap *blksnap, const struct blk_snap_dev *devs,
		      unsigned int nr_devs, struct blk_snap_uuid *id);
int destroy_abandoned(struct blksnap *blksnap, bool quiet);

#endif /* ABANDONED_H */
