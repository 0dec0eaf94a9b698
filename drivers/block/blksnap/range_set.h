/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Ranges of blocks, found by block
 *
 * The engine keeps the copies in memory in such a set, to find the copy that a
 * block is in.  Ranges do not overlap.  They are embedded in their owner's object
 * and belong to it.
 *
 * Not locked: callers serialise.
 */
#ifndef BLKSNAP_RANGE_SET_H
#define BLKSNAP_RANGE_SET_H

#include "logic_deps.h"

struct range_set {
	struct rb_root ranges;	/* of struct block_range, in order */
};

struct block_range {
	struct rb_node rb;
	u64 first;		/* first and last block, both inclusive */
	u64 last;
};

void range_set_init(struct range_set *set);
void range_set_add(struct range_set *set, struct block_range *range, u64 first, u64 last);
void range_set_del(struct range_set *set, struct block_range *range);
struct block_range *range_set_first(const struct range_set *set, u64 first, u64 last);

#endif /* BLKSNAP_RANGE_SET_H */
