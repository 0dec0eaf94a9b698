/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Removing layers from the chains of a backup
 *
 * The layers that go are those that no rule keeps.  Where a layer stays that is
 * based on one that goes, the two become one: what the upper one decides, and
 * for the rest what the lower one does.  Several that go are merged at once.
 *
 * A merge goes in these steps, and may be killed in any:
 *
 * 1. The new file is written as FILE.partial, its map under a new name, both to
 *    the disk.  Killed here, both are leftovers.
 * 2. The catalogue says that the layer is being merged.
 * 3. The new file is renamed to FILE.  It has to keep this name, which the layer
 *    above it has in its header.  By the map that the catalogue still names, the
 *    new file holds the same data as the one before, and more.  So killed between
 *    2 and 4, all points are whole; a prune makes the file anew.
 * 4. The catalogue has the new map and not the merged layers any more.
 * 5. Their files are removed.  Killed here, they are leftovers.
 */
#ifndef PRUNE_H
#define PRUNE_H

#include "catalogue.h"
#include "progress.h"

int prune(struct catalogue *catalogue, struct progress *progress);

#endif /* PRUNE_H */
