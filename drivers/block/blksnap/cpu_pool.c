// SPDX-License-Identifier: GPL-2.0
/*
 * Objects of one size with a reserve, some of which each CPU keeps at hand
 *
 * An object that is at hand holds the pointer to the next one in its first bytes.  The
 * list of a CPU is used on that CPU with interrupts disabled.
 */
#include "blksnap.h"

#include <linux/percpu.h>
#include <linux/slab.h>

#include "cpu_pool.h"

struct cpu_pool_list {
	void **first;
	unsigned int nr;
};

/* An object that this CPU has at hand, or NULL.  In any context. */
void *cpu_pool_alloc_kept(struct cpu_pool *pool)
{
	struct cpu_pool_list *list;
	unsigned long flags;
	void **object;

	local_irq_save(flags);
	list = this_cpu_ptr(pool->lists);
	object = list->first;
	if (object) {
		list->first = *object;
		list->nr--;
	}
	local_irq_restore(flags);
	return object;
}

/* Waits until there is memory, or until another object is freed. */
void *cpu_pool_alloc(struct cpu_pool *pool)
{
	return cpu_pool_alloc_kept(pool) ?: mempool_alloc(&pool->reserve, GFP_NOIO);
}

/* In any context in which the allocator may be called. */
void cpu_pool_free(struct cpu_pool *pool, void *object)
{
	struct cpu_pool_list *list;
	unsigned long flags;
	bool is_kept;

	/* The reserve comes first: an allocation may be waiting for it. */
	if (unlikely(READ_ONCE(pool->reserve.curr_nr) < pool->reserve.min_nr)) {
		mempool_free(object, &pool->reserve);
		return;
	}
	local_irq_save(flags);
	list = this_cpu_ptr(pool->lists);
	is_kept = list->nr < pool->max_kept;
	if (is_kept) {
		*(void **)object = list->first;
		list->first = object;
		list->nr++;
	}
	local_irq_restore(flags);
	if (unlikely(!is_kept))
		mempool_free(object, &pool->reserve);
}

int cpu_pool_init(struct cpu_pool *pool, const char *name, size_t nr_bytes,
		  unsigned int nr_reserved, unsigned int max_kept)
{
	int ret = -ENOMEM;

	pool->max_kept = max_kept;
	pool->lists = alloc_percpu(struct cpu_pool_list);
	if (!pool->lists)
		return ret;
	pool->slab = kmem_cache_create(name, nr_bytes, 0, 0, NULL);
	if (!pool->slab)
		goto err_free_lists;
	ret = mempool_init_slab_pool(&pool->reserve, nr_reserved, pool->slab);
	if (ret)
		goto err_destroy_slab;
	return 0;

err_destroy_slab:
	kmem_cache_destroy(pool->slab);
err_free_lists:
	free_percpu(pool->lists);
	return ret;
}

/* No object is in use. */
void cpu_pool_exit(struct cpu_pool *pool)
{
	void *object;
	int cpu;

	for_each_possible_cpu(cpu) {
		while ((object = per_cpu_ptr(pool->lists, cpu)->first)) {
			per_cpu_ptr(pool->lists, cpu)->first = *(void **)object;
			kmem_cache_free(pool->slab, object);
		}
	}
	mempool_exit(&pool->reserve);
	kmem_cache_destroy(pool->slab);
	free_percpu(pool->lists);
}
