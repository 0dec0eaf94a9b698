// SPDX-License-Identifier: GPL-2.0
/*
 * Who is using which blocks of an origin
 *
 * An interval tree under names that say what it is for here.  It is an
 * instance of the generic template of our own since CONFIG_INTERVAL_TREE may
 * be off, and since block numbers need 64 bits everywhere.
 */
#include "range_lock.h"

#define RANGE_FIRST(range) ((range)->first)
#define RANGE_LAST(range) ((range)->last)

INTERVAL_TREE_DEFINE(struct block_range_node, rb, u64, subtree_last,
		     RANGE_FIRST, RANGE_LAST, static, block_range);

/**
 * range_lock_init() - make an empty set
 * @lock:	memory for the set
 *
 * Context: Any.
 */
void range_lock_init(struct range_lock *lock)
{
	lock->ranges = RB_ROOT_CACHED;
}

/**
 * range_lock_add() - put a range into the set
 * @lock:	set to change
 * @range:	memory for the range, in no set; has to stay until
 *		range_lock_del()
 * @first:	first block
 * @last:	last block, not less than @first
 *
 * Context: Any; the caller serialises.
 */
void range_lock_add(struct range_lock *lock, struct block_range_node *range,
		    u64 first, u64 last)
{
	range->first = first;
	range->last = last;
	block_range_insert(range, &lock->ranges);
}

/**
 * range_lock_del() - take a range out of the set
 * @lock:	set to change
 * @range:	in the set
 *
 * Context: Any; the caller serialises.
 */
void range_lock_del(struct range_lock *lock, struct block_range_node *range)
{
	block_range_remove(range, &lock->ranges);
}

/**
 * range_lock_first() - find who is using some of these blocks
 * @lock:	set to search
 * @first:	first block
 * @last:	last block
 *
 * Context: Any; the caller serialises.
 * Return: of the ranges that share a block with [@first, @last] the one that
 *	   starts first, or NULL if there is none.
 */
struct block_range_node *range_lock_first(struct range_lock *lock, u64 first, u64 last)
{
	return block_range_iter_first(&lock->ranges, first, last);
}

/**
 * range_lock_next() - find who else is using some of these blocks
 * @range:	found by range_lock_first() or range_lock_next() for the same
 *		blocks, and still in the set
 * @first:	first block
 * @last:	last block
 *
 * Context: Any; the caller serialises.
 * Return: the next range that shares a block with [@first, @last], in order of
 *	   their first blocks, or NULL.
 */
struct block_range_node *range_lock_next(struct block_range_node *range, u64 first, u64 last)
{
	return block_range_iter_next(range, first, last);
}
