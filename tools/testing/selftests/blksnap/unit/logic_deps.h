/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the logic units take from the kernel, for the host
 *
 * Included before everything else when the units are compiled for their tests.
 * It has the include guard of the kernel's logic_deps.h, which comes out empty
 * then.  Only what the units use is here, with the meaning it has in the
 * kernel; host.h lets a test fail allocations and ask what happened.
 */
#ifndef BLKSNAP_LOGIC_DEPS_H
#define BLKSNAP_LOGIC_DEPS_H

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Types and arithmetic */

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;
typedef u64 sector_t;
typedef unsigned int gfp_t;

#define U8_MAX UINT8_MAX
#define U64_MAX UINT64_MAX

#define min_t(type, a, b) ({ type __a = (a), __b = (b); __a < __b ? __a : __b; })
#define max_t(type, a, b) ({ type __a = (a), __b = (b); __a > __b ? __a : __b; })
#define min(a, b) min_t(__typeof__(a), a, b)
#define max3(a, b, c) max_t(__typeof__(a), max_t(__typeof__(a), a, b), c)

/* As in the kernel: @to is a power of two. */
#define round_down(n, to) ((n) & ~((__typeof__(n))(to) - 1))
#define round_up(n, to) round_down((n) + ((to) - 1), to)

#define BIT_ULL(bit) (1ULL << (bit))
#define BITS_PER_BYTE 8
#define BITS_PER_LONG (sizeof(long) * BITS_PER_BYTE)
#define __ffs(word) ((unsigned long)__builtin_ctzl(word))

#define check_add_overflow(a, b, sum) __builtin_add_overflow(a, b, sum)
#define struct_size(pointer, member, count) \
	(sizeof(*(pointer)) + sizeof((pointer)->member[0]) * (size_t)(count))

#define container_of(pointer, type, member) \
	((type *)((char *)(pointer) - offsetof(type, member)))

/* Errors and complaints */

#define ERR_PTR(error) ((void *)(long)(error))
#define PTR_ERR(pointer) ((long)(pointer))
#define IS_ERR(pointer) ((unsigned long)(pointer) >= (unsigned long)-4095)

bool host_warn_if(bool condition, const char *file, int line);

#define WARN_ON_ONCE(condition) host_warn_if(condition, __FILE__, __LINE__)

/* Memory order: acquire stands in for the address dependency. */

#define READ_ONCE(x) __atomic_load_n(&(x), __ATOMIC_ACQUIRE)
#define WRITE_ONCE(x, value) __atomic_store_n(&(x), value, __ATOMIC_RELAXED)
#define smp_store_release(pointer, value) __atomic_store_n(pointer, value, __ATOMIC_RELEASE)
/* The tests pass nothing on without a lock or a release of their own. */
#define smp_wmb() do { } while (0)
#define cmpxchg(pointer, old, new)						\
({										\
	__typeof__(*(pointer)) __found = (old);					\
										\
	__atomic_compare_exchange_n(pointer, &__found, new, false,		\
				    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);	\
	__found;								\
})

#ifdef __SANITIZE_THREAD__
void AnnotateIgnoreReadsBegin(const char *file, int line);
void AnnotateIgnoreReadsEnd(const char *file, int line);
#define data_race(expression)							\
do {										\
	AnnotateIgnoreReadsBegin(__FILE__, __LINE__);				\
	(void)(expression);							\
	AnnotateIgnoreReadsEnd(__FILE__, __LINE__);				\
} while (0)
#else
#define data_race(expression) ((void)(expression))
#endif

/* Memory */

#define PAGE_SHIFT 12
#define PAGE_SIZE (1UL << PAGE_SHIFT)
#define offset_in_page(address) ((unsigned long)(address) & (PAGE_SIZE - 1))

#define __GFP_ZERO 1U
#define __GFP_DIRECT_RECLAIM 2U
#define __GFP_NOWARN 4U
#define __GFP_ACCOUNT 8U
#define GFP_NOWAIT 0U
#define GFP_NOIO __GFP_DIRECT_RECLAIM
#define GFP_KERNEL __GFP_DIRECT_RECLAIM
#define GFP_KERNEL_ACCOUNT (GFP_KERNEL | __GFP_ACCOUNT)

struct page;
struct kmem_cache;

void *host_alloc(size_t count, size_t size, gfp_t gfp);
void host_free(const void *memory);
void host_free_sleeping(const void *memory);
struct page *alloc_page(gfp_t gfp);

#define page_address(page) ((void *)(page))
#define virt_to_page(address) ((struct page *)(address))
#define __free_page(page) host_free(page)
#define kzalloc(size, gfp) host_alloc(1, size, (gfp) | __GFP_ZERO)
#define kzalloc_obj(object, gfp) kzalloc(sizeof(object), gfp)
#define kfree(memory) host_free(memory)
#define kvzalloc(size, gfp) host_alloc(1, size, (gfp) | __GFP_ZERO)
#define kvcalloc(count, size, gfp) host_alloc(count, size, (gfp) | __GFP_ZERO)
#define kvfree(memory) host_free_sleeping(memory)

struct kmem_cache *kmem_cache_create(const char *name, unsigned int size,
				     unsigned int align, unsigned int flags,
				     void (*ctor)(void *object));
void kmem_cache_destroy(struct kmem_cache *cache);
void *kmem_cache_alloc(struct kmem_cache *cache, gfp_t gfp);
void kmem_cache_free(struct kmem_cache *cache, void *object);

/* Time, which stands still unless a test moves it */

#define HZ 250

extern unsigned long jiffies;

#define msecs_to_jiffies(ms) ((unsigned long)(ms) * HZ / 1000)
#define div64_ul(a, b) ((u64)(a) / (b))

/* Giving way to others */

void cond_resched(void);

/* Spinlocks */

typedef struct {
	pthread_mutex_t mutex;
	bool is_held;
} spinlock_t;

void spin_lock_init(spinlock_t *lock);
void host_spin_lock(spinlock_t *lock);
void host_spin_unlock(spinlock_t *lock);

#define spin_lock_irqsave(lock, flags) do { (flags) = 0; host_spin_lock(lock); } while (0)
#define spin_unlock_irqrestore(lock, flags) do { (void)(flags); host_spin_unlock(lock); } while (0)
#define lockdep_assert_held(lock) ((void)WARN_ON_ONCE(!(lock)->is_held))

/* Lists */

struct list_head {
	struct list_head *next, *prev;
};

static inline void INIT_LIST_HEAD(struct list_head *list)
{
	list->next = list;
	list->prev = list;
}

static inline void host_list_insert(struct list_head *entry, struct list_head *prev)
{
	entry->prev = prev;
	entry->next = prev->next;
	prev->next->prev = entry;
	prev->next = entry;
}

#define list_add(entry, list) host_list_insert(entry, list)
#define list_add_tail(entry, list) host_list_insert(entry, (list)->prev)

#define list_for_each_safe(entry, following, list)				\
	for (entry = (list)->next, following = entry->next; entry != (list);	\
	     entry = following, following = entry->next)

#define list_for_each_entry_safe(entry, following, list, member)		\
	for (entry = container_of((list)->next, __typeof__(*entry), member),	\
	     following = container_of(entry->member.next, __typeof__(*entry), member); \
	     &entry->member != (list);						\
	     entry = following,							\
	     following = container_of(entry->member.next, __typeof__(*entry), member))

/* Search trees: a treap instead of a red-black tree */

struct rb_node {
	struct rb_node *parent;
	struct rb_node *rb_left;
	struct rb_node *rb_right;
	u32 priority;		/* nowhere larger than the parent's */
};

struct rb_root {
	struct rb_node *rb_node;
};

#define RB_ROOT ((struct rb_root) { NULL })

void rb_link_node(struct rb_node *node, struct rb_node *parent, struct rb_node **link);
void rb_insert_color(struct rb_node *node, struct rb_root *root);
void rb_erase(struct rb_node *node, struct rb_root *root);
struct rb_node *rb_first(const struct rb_root *root);
struct rb_node *rb_next(const struct rb_node *node);
struct rb_node *rb_first_postorder(const struct rb_root *root);
struct rb_node *rb_next_postorder(const struct rb_node *node);

#define rb_entry(node, type, member) container_of(node, type, member)
#define rb_entry_safe(node, type, member)					\
({										\
	__typeof__(node) __node = (node);					\
										\
	__node ? rb_entry(__node, type, member) : NULL;				\
})

#define rbtree_postorder_for_each_entry_safe(entry, following, root, member)	\
	for (entry = rb_entry_safe(rb_first_postorder(root), __typeof__(*entry), member); \
	     entry && ({ following = rb_entry_safe(rb_next_postorder(&entry->member), \
						   __typeof__(*entry), member); true; }); \
	     entry = following)

/* Identifiers: each one is new */

typedef struct {
	u8 b[16];
} uuid_t;

void uuid_gen(uuid_t *uuid);

static inline bool uuid_equal(const uuid_t *a, const uuid_t *b)
{
	return !memcmp(a, b, sizeof(*a));
}

/* Block devices */

#define SECTOR_SHIFT 9

struct gendisk {
	int number;
};

struct block_device {
	sector_t bd_start_sect;
	struct gendisk *bd_disk;
};

#endif /* BLKSNAP_LOGIC_DEPS_H */
