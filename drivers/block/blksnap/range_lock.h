/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Who is using which blocks of an origin
 *
 * A set of block ranges that may overlap, ordered for "is anybody using these
 * blocks?".  The engine keeps two of them: image reads in flight on the origin
 * (a write to the same blocks is released only after they are done) and copies
 * not stored yet.
 *
 * Not locked: callers serialise.  Ranges are embedded in their owner's object
 * and belong to it; a range is in at most one set.
 */
#ifndef BLKSNAP_RANGE_LOCK_H
#define BLKSNAP_RANGE_LOCK_H

#include "logic_deps.h"

struct range_lock {
	struct rb_root_cached ranges;
};

struct block_range_node {
	struct rb_node rb;
	u64 first;		/* first and last block, both inclusive */
	u64 last;
	u64 subtree_last;	/* kept by the interval tree */
};

void range_lock_init(struct range_lock *lock);
void range_lock_add(struct range_lock *lock, struct block_range_node *range,
		    u64 first, u64 last);
void range_lock_del(struct range_lock *lock, struct block_range_node *range);
struct block_range_node *range_lock_first(struct range_lock *lock, u64 first, u64 last);
struct block_range_node *range_lock_next(struct block_range_node *range, u64 first, u64 last);

/**
 * range_lock_is_empty() - does the set hold no range at all?
 * @lock:	set to look at
 *
 * Inline, for it spares most of who asks a search.
 *
 * Context: Any; the caller serialises.
 * Return: true if it is empty.
 */
static inline bool range_lock_is_empty(const struct range_lock *lock)
{
	return RB_EMPTY_ROOT(&lock->ranges.rb_root);
}

#endif /* BLKSNAP_RANGE_LOCK_H */
