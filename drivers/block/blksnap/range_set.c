// SPDX-License-Identifier: GPL-2.0
/*
 * Ranges of blocks, found by block
 *
 * A red-black tree.  Ranges do not overlap, so their ends are in the same order as
 * their starts, and one search finds the first range that reaches a block.
 */
#include "range_set.h"

void range_set_init(struct range_set *set)
{
	set->ranges = RB_ROOT;
}

void range_set_add(struct range_set *set, struct block_range *range, u64 first, u64 last)
{
	struct rb_node **link = &set->ranges.rb_node, *parent = NULL;

	range->first = first;
	range->last = last;
	while (*link) {
		parent = *link;
		link = first < rb_entry(parent, struct block_range, rb)->first ?
		       &parent->rb_left : &parent->rb_right;
	}
	rb_link_node(&range->rb, parent, link);
	rb_insert_color(&range->rb, &set->ranges);
}

void range_set_del(struct range_set *set, struct block_range *range)
{
	rb_erase(&range->rb, &set->ranges);
}

/* The first range that shares a block with @first to @last, or NULL. */
struct block_range *range_set_first(const struct range_set *set, u64 first, u64 last)
{
	struct rb_node *rb = set->ranges.rb_node;
	struct block_range *found = NULL;

	while (rb) {
		struct block_range *range = rb_entry(rb, struct block_range, rb);

		if (range->last >= first) {
			found = range;
			rb = rb->rb_left;
		} else {
			rb = rb->rb_right;
		}
	}
	return found && found->first <= last ? found : NULL;
}
