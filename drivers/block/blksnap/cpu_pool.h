/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Objects of one size with a reserve, some of which each CPU keeps at hand
 *
 * Where a freed object is soon wanted again, to give it to the allocator and to get it
 * back would cost as much as the rest of the work.
 */
#ifndef BLKSNAP_CPU_POOL_H
#define BLKSNAP_CPU_POOL_H

#include <linux/mempool.h>

struct cpu_pool_list;

/**
 * struct cpu_pool - objects of one size
 * @slab:	where they come from
 * @reserve:	for when there is no memory
 * @lists:	what each CPU has at hand
 * @max_kept:	how many that may be
 */
struct cpu_pool {
	struct kmem_cache *slab;
	mempool_t reserve;
	struct cpu_pool_list __percpu *lists;
	unsigned int max_kept;
};

int cpu_pool_init(struct cpu_pool *pool, const char *name, size_t nr_bytes,
		  unsigned int nr_reserved, unsigned int max_kept);
void cpu_pool_exit(struct cpu_pool *pool);

void *cpu_pool_alloc_kept(struct cpu_pool *pool);
void *cpu_pool_alloc(struct cpu_pool *pool);
void cpu_pool_free(struct cpu_pool *pool, void *object);

#endif /* BLKSNAP_CPU_POOL_H */
