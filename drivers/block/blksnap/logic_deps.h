/* SPDX-License-Identifier: GPL-2.0 */
/*
 * All that the logic units take from the kernel
 *
 * cbt_map, copied_map, extent_map, range_set, sparse_map and diff_storage include this
 * header and their own, nothing else.  The unit tests compile the same sources on the
 * host: they include a small replacement first, which has the same include guard, so
 * that this file comes out empty.
 */
#ifndef BLKSNAP_LOGIC_DEPS_H
#define BLKSNAP_LOGIC_DEPS_H

#include <linux/align.h>
#include <linux/atomic.h>
#include <linux/bits.h>
#include <linux/blkdev.h>
#include <linux/bug.h>
#include <linux/compiler.h>
#include <linux/err.h>
#include <linux/gfp.h>
#include <linux/limits.h>
#include <linux/jiffies.h>
#include <linux/list.h>
#include <linux/lockdep.h>
#include <linux/math.h>
#include <linux/math64.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/overflow.h>
#include <linux/rbtree.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/types.h>
#include <linux/uuid.h>
/* out-of-tree: begin: kzalloc_obj() */

#include "compat.h"
/* out-of-tree: end */

#endif /* BLKSNAP_LOGIC_DEPS_H */
