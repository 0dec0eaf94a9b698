// SPDX-License-Identifier: GPL-2.0
/*
 * The replacement of the kernel below the logic units
 *
 * Every allocation is counted and can be made to fail.  What the kernel's
 * debug options would complain about (sleeping with a spinlock held, a lock
 * that is not held) is counted as a warning.
 */
#include <stdio.h>
#include <stdlib.h>

#include "host.h"

static long nr_objects;
static unsigned long nr_allocs;
static unsigned long nr_failed_allocs;
static long nr_good_allocs;		/* negative: none is to fail */
static unsigned int nr_bad_of_1000;
static u64 fail_state;
static unsigned long nr_times_yielded;
static u32 priority_state;
static unsigned int nr_warnings;
static __thread unsigned int nr_locks_held;
static __thread bool is_sleep_forbidden;

unsigned long jiffies;

void host_reset(void)
{
	/* It wraps around soon, as in the kernel. */
	jiffies = -100UL;
	nr_allocs = 0;
	nr_failed_allocs = 0;
	nr_times_yielded = 0;
	priority_state = 2463534242U;
	nr_warnings = 0;
	host_fail_no_alloc();
}

void host_fail_alloc_after(long nr_good)
{
	nr_good_allocs = nr_good;
}

void host_fail_allocs_randomly(unsigned int nr_bad, u64 seed)
{
	nr_bad_of_1000 = nr_bad;
	fail_state = seed;
}

void host_fail_no_alloc(void)
{
	nr_good_allocs = -1;
	nr_bad_of_1000 = 0;
}

unsigned long host_nr_allocs(void)
{
	return nr_allocs;
}

unsigned long host_nr_failed_allocs(void)
{
	return nr_failed_allocs;
}

long host_nr_objects(void)
{
	return nr_objects;
}

unsigned int host_take_warnings(void)
{
	unsigned int nr = nr_warnings;

	nr_warnings = 0;
	return nr;
}

unsigned int host_nr_locks_held(void)
{
	return nr_locks_held;
}

void host_forbid_sleep(bool is_forbidden)
{
	is_sleep_forbidden = is_forbidden;
}

static bool may_sleep(void)
{
	return !nr_locks_held && !is_sleep_forbidden;
}

bool host_warn_if(bool condition, const char *file, int line)
{
	/* Said aloud only if a test asks for it: many provoke warnings. */
	if (condition && getenv("BLKSNAP_SHOW_WARNINGS"))
		printf("# warning at %s:%d\n", file, line);
	if (condition)
		__atomic_add_fetch(&nr_warnings, 1, __ATOMIC_RELAXED);
	return condition;
}

/* Memory */

static bool alloc_has_to_fail(void)
{
	__atomic_add_fetch(&nr_allocs, 1, __ATOMIC_RELAXED);
	if (__atomic_load_n(&nr_good_allocs, __ATOMIC_RELAXED) >= 0 &&
	    __atomic_fetch_sub(&nr_good_allocs, 1, __ATOMIC_RELAXED) == 0)
		return true;
	if (!nr_bad_of_1000)
		return false;
	fail_state = fail_state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (fail_state >> 33) % 1000 < nr_bad_of_1000;
}

static bool alloc_is_allowed(gfp_t gfp)
{
	WARN_ON_ONCE((gfp & __GFP_DIRECT_RECLAIM) && !may_sleep());
	if (!alloc_has_to_fail())
		return true;
	__atomic_add_fetch(&nr_failed_allocs, 1, __ATOMIC_RELAXED);
	return false;
}

/* Memory that is not asked to be zero is not. */
static void *host_count(void *memory, size_t size, gfp_t gfp)
{
	if (!memory)
		return NULL;
	__atomic_add_fetch(&nr_objects, 1, __ATOMIC_RELAXED);
	return memset(memory, gfp & __GFP_ZERO ? 0 : 0xa5, size);
}

void *host_alloc(size_t count, size_t size, gfp_t gfp)
{
	size_t nr_bytes;

	if (__builtin_mul_overflow(count, size, &nr_bytes))
		return NULL;
	/* The kernel's answer to such a size. */
	if (nr_bytes > INT_MAX) {
		WARN_ON_ONCE(!(gfp & __GFP_NOWARN));
		return NULL;
	}
	if (!alloc_is_allowed(gfp))
		return NULL;
	return host_count(malloc(nr_bytes), nr_bytes, gfp);
}

void host_free(const void *memory)
{
	if (memory)
		__atomic_sub_fetch(&nr_objects, 1, __ATOMIC_RELAXED);
	free((void *)memory);
}

/* kvfree() sleeps if the memory comes from vmalloc(). */
void host_free_sleeping(const void *memory)
{
	WARN_ON_ONCE(!may_sleep());
	host_free(memory);
}

struct page *alloc_page(gfp_t gfp)
{
	if (!alloc_is_allowed(gfp))
		return NULL;
	return host_count(aligned_alloc(PAGE_SIZE, PAGE_SIZE), PAGE_SIZE, gfp);
}

struct kmem_cache {
	unsigned int size;
	long nr_objects;
};

struct kmem_cache *kmem_cache_create(const char *name, unsigned int size,
				     unsigned int align, unsigned int flags,
				     void (*ctor)(void *object))
{
	struct kmem_cache *cache = host_alloc(1, sizeof(*cache), GFP_KERNEL | __GFP_ZERO);

	(void)name;
	(void)align;
	(void)flags;
	(void)ctor;
	if (cache)
		cache->size = size;
	return cache;
}

void kmem_cache_destroy(struct kmem_cache *cache)
{
	WARN_ON_ONCE(cache && cache->nr_objects);
	host_free(cache);
}

void *kmem_cache_alloc(struct kmem_cache *cache, gfp_t gfp)
{
	void *object = host_alloc(1, cache->size, gfp);

	if (object)
		cache->nr_objects++;
	return object;
}

void kmem_cache_free(struct kmem_cache *cache, void *object)
{
	cache->nr_objects--;
	host_free(object);
}

/* Giving way to others */

void cond_resched(void)
{
	WARN_ON_ONCE(!may_sleep());
	__atomic_add_fetch(&nr_times_yielded, 1, __ATOMIC_RELAXED);
}

unsigned long host_nr_times_yielded(void)
{
	return nr_times_yielded;
}

/* Spinlocks */

void spin_lock_init(spinlock_t *lock)
{
	pthread_mutex_init(&lock->mutex, NULL);
	lock->is_held = false;
}

void host_spin_lock(spinlock_t *lock)
{
	pthread_mutex_lock(&lock->mutex);
	lock->is_held = true;
	nr_locks_held++;
}

void host_spin_unlock(spinlock_t *lock)
{
	nr_locks_held--;
	lock->is_held = false;
	pthread_mutex_unlock(&lock->mutex);
}

void uuid_gen(uuid_t *uuid)
{
	static u64 last;
	u64 number = __atomic_add_fetch(&last, 1, __ATOMIC_RELAXED);

	memset(uuid, 0, sizeof(*uuid));
	memcpy(uuid, &number, sizeof(number));
}

/* Search trees */

/* The place that points to @node. */
static struct rb_node **rb_link_to(struct rb_node *node, struct rb_root *root)
{
	if (!node->parent)
		return &root->rb_node;
	return node->parent->rb_left == node ? &node->parent->rb_left : &node->parent->rb_right;
}

/* Let @node and its parent change places; the order stays. */
static void rb_rotate_up(struct rb_node *node, struct rb_root *root)
{
	struct rb_node *parent = node->parent;
	bool is_left = parent->rb_left == node;
	struct rb_node *inner = is_left ? node->rb_right : node->rb_left;

	*rb_link_to(parent, root) = node;
	node->parent = parent->parent;
	parent->parent = node;
	if (is_left) {
		node->rb_right = parent;
		parent->rb_left = inner;
	} else {
		node->rb_left = parent;
		parent->rb_right = inner;
	}
	if (inner)
		inner->parent = parent;
}

void rb_link_node(struct rb_node *node, struct rb_node *parent, struct rb_node **link)
{
	node->parent = parent;
	node->rb_left = NULL;
	node->rb_right = NULL;
	*link = node;
}

void rb_insert_color(struct rb_node *node, struct rb_root *root)
{
	priority_state ^= priority_state << 13;
	priority_state ^= priority_state >> 17;
	priority_state ^= priority_state << 5;
	node->priority = priority_state;
	while (node->parent && node->parent->priority < node->priority)
		rb_rotate_up(node, root);
}

static struct rb_node *rb_larger_child(const struct rb_node *node)
{
	if (!node->rb_left || !node->rb_right)
		return node->rb_left ? node->rb_left : node->rb_right;
	return node->rb_left->priority > node->rb_right->priority ?
	       node->rb_left : node->rb_right;
}

void rb_erase(struct rb_node *node, struct rb_root *root)
{
	struct rb_node *child;

	while ((child = rb_larger_child(node)))
		rb_rotate_up(child, root);
	*rb_link_to(node, root) = NULL;
}

struct rb_node *rb_first(const struct rb_root *root)
{
	struct rb_node *node = root->rb_node;

	while (node && node->rb_left)
		node = node->rb_left;
	return node;
}

struct rb_node *rb_next(const struct rb_node *node)
{
	if (node->rb_right) {
		struct rb_root right = { node->rb_right };

		return rb_first(&right);
	}
	while (node->parent && node->parent->rb_right == node)
		node = node->parent;
	return node->parent;
}

static struct rb_node *rb_first_leaf(struct rb_node *node)
{
	while (node && (node->rb_left || node->rb_right))
		node = node->rb_left ? node->rb_left : node->rb_right;
	return node;
}

struct rb_node *rb_first_postorder(const struct rb_root *root)
{
	return rb_first_leaf(root->rb_node);
}

struct rb_node *rb_next_postorder(const struct rb_node *node)
{
	struct rb_node *parent = node->parent;

	if (parent && parent->rb_left == node && parent->rb_right)
		return rb_first_leaf(parent->rb_right);
	return parent;
}
