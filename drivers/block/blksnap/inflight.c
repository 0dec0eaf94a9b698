// SPDX-License-Identifier: GPL-2.0
/*
 * Counting of writes in flight, and the gate
 *
 * A counted bio carries a context: its bi_end_io and bi_private are kept there
 * while ours are in the bio.  On completion both are put back before the
 * original is called, for its owner may look at them.  A bio may be counted for
 * several disks one inside the other, where a stacking driver passes on the
 * bio it got: contexts then nest, last in, first out.
 *
 * The count is per CPU, incremented where the bio passes and decremented where
 * it completes.  Once the gate is closed and every reader of RCU has seen that,
 * the count only falls, so a sum of zero is true even if it is taken while
 * bios complete.
 *
 * Lock order: inflight->lock is a leaf.
 */
#include "blksnap.h"

#include <linux/blkdev.h>
#include <linux/delay.h>
#include <linux/mempool.h>
#include <linux/percpu.h>
#include <linux/slab.h>
#include <linux/wait.h>

#include "compat.h"
#include "inflight.h"
#include "releaser.h"

/* Contexts kept for a moment without memory; the bios behind them wait. */
#define INFLIGHT_CTX_RESERVE 128

/* Contexts a CPU keeps at hand: the depth of a usual hardware queue. */
#define INFLIGHT_CTX_CACHED 128U

/* How often a destroyed counter with writes in flight is looked at again. */
#define INFLIGHT_REAP_INTERVAL (HZ / 20)

struct inflight_ctx {
	struct inflight *inflight;
	bio_end_io_t *end_io;
	void *private;
	struct inflight_ctx *next;	/* in the CPU's cache */
};

struct inflight_cache {
	struct inflight_ctx *first;
	unsigned int nr;
};

/* Completions that end a parent bio, see inflight_end_chained(). */
struct inflight_chained {
	struct bio_list bios;
	bool is_running;
};

static DEFINE_PER_CPU(struct inflight_cache, inflight_cache);
static DEFINE_PER_CPU(struct inflight_chained, inflight_chained);

static struct kmem_cache *inflight_ctx_cache;
static mempool_t inflight_ctx_pool;
static bio_end_io_t *inflight_chain_end_io;

/* Counters that are not freed yet, the destroyed ones included. */
static atomic_t inflight_live = ATOMIC_INIT(0);
static DECLARE_WAIT_QUEUE_HEAD(inflight_live_wait);

static struct inflight_ctx *inflight_ctx_alloc(void)
{
	struct inflight_cache *cache;
	struct inflight_ctx *ctx;
	unsigned long flags;

	local_irq_save(flags);
	cache = this_cpu_ptr(&inflight_cache);
	ctx = cache->first;
	if (ctx) {
		cache->first = ctx->next;
		cache->nr--;
	}
	local_irq_restore(flags);
	return ctx ?: mempool_alloc(&inflight_ctx_pool, GFP_NOWAIT | __GFP_NOWARN);
}

static void inflight_ctx_free(struct inflight_ctx *ctx)
{
	struct inflight_cache *cache;
	unsigned long flags;

	/* The reserve comes first, somebody may be waiting for it. */
	if (unlikely(READ_ONCE(inflight_ctx_pool.curr_nr) < INFLIGHT_CTX_RESERVE)) {
		mempool_free(ctx, &inflight_ctx_pool);
		return;
	}
	local_irq_save(flags);
	cache = this_cpu_ptr(&inflight_cache);
	if (likely(cache->nr < INFLIGHT_CTX_CACHED)) {
		ctx->next = cache->first;
		cache->first = ctx;
		cache->nr++;
		ctx = NULL;
	}
	local_irq_restore(flags);
	if (ctx)
		mempool_free(ctx, &inflight_ctx_pool);
}

/*
 * Ends a bio whose completion completes its parent, which may be one of ours
 * too, and so on for thousands of bios (BLKZEROOUT makes such chains).
 * bio_endio() turns chains into a loop, but not with our function in between;
 * so the loop is here: a completion inside a completion is put off.
 *
 * The bio_end_io_t of a chained bio is a mark for bio_endio(), and in newer
 * kernels a bug if called; so bio_endio() has to see it once more.
 */
static void inflight_end_chained(struct bio *bio)
{
	struct inflight_chained *chained;
	unsigned long flags;

	/* Stay on this CPU: who interrupts us or is called by us adds to its list. */
	migrate_disable();
	local_irq_save(flags);
	chained = this_cpu_ptr(&inflight_chained);
	bio_list_add(&chained->bios, bio);
	if (!chained->is_running) {
		chained->is_running = true;
		while ((bio = bio_list_pop(&chained->bios))) {
			local_irq_restore(flags);
			bio_endio(bio);
			local_irq_save(flags);
		}
		chained->is_running = false;
	}
	local_irq_restore(flags);
	migrate_enable();
}

/**
 * inflight_end_io() - bi_end_io of a counted bio
 * @bio:	the bio
 *
 * Context: Any.
 */
void inflight_end_io(struct bio *bio)
{
	struct inflight_ctx *ctx = bio->bi_private;
	struct inflight *inflight = ctx->inflight;

	bio->bi_end_io = ctx->end_io;
	bio->bi_private = ctx->private;
	inflight_ctx_free(ctx);
	/* From here on the counter may be freed. */
	this_cpu_dec(*inflight->count);

	if (bio->bi_end_io == inflight_chain_end_io)
		inflight_end_chained(bio);
	else if (bio->bi_end_io)
		bio->bi_end_io(bio);
}

/* inflight_counts() of a bio that some counter counts. */
bool __inflight_counts(const struct inflight *inflight, const struct bio *bio)
{
	bio_end_io_t *end_io = bio->bi_end_io;
	void *private = bio->bi_private;

	while (end_io == inflight_end_io) {
		const struct inflight_ctx *ctx = private;

		if (ctx->inflight == inflight)
			return true;
		end_io = ctx->end_io;
		private = ctx->private;
	}
	return false;
}

/* inflight_keep() when the gate was closed a moment ago. */
bool __inflight_keep(struct inflight *inflight, struct bio *bio)
{
	unsigned long flags;
	bool is_kept;

	spin_lock_irqsave(&inflight->lock, flags);
	is_kept = inflight->gates;
	if (is_kept)
		bio_list_add(&inflight->kept, bio);
	spin_unlock_irqrestore(&inflight->lock, flags);
	return is_kept;
}

/**
 * inflight_count() - count a write until it completes
 * @inflight:	counter of the disk that @bio goes to
 * @bio:	write that inflight_keep() has let in, under the same
 *		rcu_read_lock()
 *
 * Context: The filter's callback.
 * Return: true: @bio may go on.  false: there is no memory; @bio is now ours and
 *	   will be submitted again.
 */
bool inflight_count(struct inflight *inflight, struct bio *bio)
{
	struct inflight_ctx *ctx = inflight_ctx_alloc();

	if (unlikely(!ctx)) {
		releaser_add(&inflight->starved, bio);
		return false;
	}
	ctx->inflight = inflight;
	ctx->end_io = bio->bi_end_io;
	ctx->private = bio->bi_private;
	bio->bi_private = ctx;
	bio->bi_end_io = inflight_end_io;
	/*
	 * Drivers that poll keep notes in bi_private, and a take would have to
	 * wait until somebody polls.
	 */
	bio_clear_polled(bio);
	this_cpu_inc(*inflight->count);
	return true;
}

/* Waits for a context, leaves it where inflight_count() finds it, and retries. */
static void inflight_resubmit_starved(void *data, struct bio *bio)
{
	inflight_ctx_free(mempool_alloc(&inflight_ctx_pool, GFP_NOIO));
	releaser_submit_bio(bio);
}

static void inflight_submit_kept(void *data, struct bio *bio)
{
	releaser_submit_bio(bio);
}

static long inflight_sum(const struct inflight *inflight)
{
	long sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += READ_ONCE(*per_cpu_ptr(inflight->count, cpu));
	return sum;
}

/**
 * inflight_gate() - keep new writes back from now on
 * @inflight:	the counter; gates nest
 *
 * When it returns, no write is between the filter and its being counted.
 *
 * Context: Process context, sleeps for a grace period of RCU.  From here to
 *	    inflight_ungate() the caller must not wait for I/O to this disk: no
 *	    allocation that may reclaim, no access to user memory.
 */
void inflight_gate(struct inflight *inflight)
{
	spin_lock_irq(&inflight->lock);
	WRITE_ONCE(inflight->gates, inflight->gates + 1);
	spin_unlock_irq(&inflight->lock);
	/* Pairs with rcu_read_lock() around inflight_keep() and inflight_count(). */
	synchronize_rcu_expedited();
}

/**
 * inflight_drain() - wait until the writes let in before the gate are done
 * @inflight:	the counter, its gate closed
 * @deadline:	in jiffies
 *
 * Context: Process context, sleeps.
 * Return: 0, or -ETIMEDOUT if there are still writes in flight.
 */
int inflight_drain(struct inflight *inflight, unsigned long deadline)
{
	while (inflight_sum(inflight)) {
		if (time_after(jiffies, deadline))
			return -ETIMEDOUT;
		usleep_range(50, 200);
	}
	return 0;
}

/**
 * inflight_ungate() - undo one inflight_gate()
 * @inflight:	the counter
 *
 * Context: Process context.  The writes kept back are submitted by workers.
 */
void inflight_ungate(struct inflight *inflight)
{
	struct bio_list bios = BIO_EMPTY_LIST;

	spin_lock_irq(&inflight->lock);
	/* Pairs with smp_load_acquire() in inflight_keep(). */
	smp_store_release(&inflight->gates, inflight->gates - 1);
	if (!inflight->gates) {
		bios = inflight->kept;
		bio_list_init(&inflight->kept);
	}
	spin_unlock_irq(&inflight->lock);
	releaser_add_list(&inflight->released, &bios);
}

/**
 * inflight_create() - make a counter
 *
 * Context: Process context, sleeps.
 * Return: the counter or NULL if there is no memory.
 */
struct inflight *inflight_create(void)
{
	struct inflight *inflight = kzalloc(sizeof(*inflight), GFP_KERNEL);

	if (!inflight)
		return NULL;
	inflight->count = alloc_percpu(long);
	if (!inflight->count) {
		kfree(inflight);
		return NULL;
	}
	releaser_init(&inflight->starved, releaser_wq, inflight_resubmit_starved, inflight);
	releaser_init(&inflight->released, releaser_wq, inflight_submit_kept, inflight);
	spin_lock_init(&inflight->lock);
	bio_list_init(&inflight->kept);
	atomic_inc(&inflight_live);
	return inflight;
}

static void inflight_reap(struct work_struct *work)
{
	struct inflight *inflight = container_of(to_delayed_work(work), struct inflight, reap);

	if (inflight_sum(inflight)) {
		queue_delayed_work(system_dfl_wq, &inflight->reap, INFLIGHT_REAP_INTERVAL);
		return;
	}
	free_percpu(inflight->count);
	kfree(inflight);
	if (atomic_dec_and_test(&inflight_live))
		wake_up(&inflight_live_wait);
}

/**
 * inflight_destroy() - give a counter up
 * @inflight:	counter that nobody can find any more, its gate open
 *
 * Does not wait for the writes in flight, which may be stuck on their device;
 * the memory is freed behind them.
 *
 * Context: Process context, sleeps.  A grace period of RCU must have passed
 *	    since the last inflight_count() could begin.
 */
void inflight_destroy(struct inflight *inflight)
{
	releaser_drain(&inflight->starved);
	releaser_drain(&inflight->released);
	INIT_DELAYED_WORK(&inflight->reap, inflight_reap);
	queue_delayed_work(system_dfl_wq, &inflight->reap, 0);
}

static void inflight_learn_chain_end_io(void)
{
	struct bio parent, child;

	bio_init(&parent, NULL, NULL, 0, REQ_OP_READ);
	bio_init(&child, NULL, NULL, 0, REQ_OP_READ);
	bio_chain(&child, &parent);
	inflight_chain_end_io = child.bi_end_io;
	bio_uninit(&child);
	bio_uninit(&parent);
}

/**
 * inflight_module_init() - set up the memory of contexts
 *
 * Return: 0 or -ENOMEM.
 */
int inflight_module_init(void)
{
	int ret = -ENOMEM;

	inflight_ctx_cache = KMEM_CACHE(inflight_ctx, 0);
	if (!inflight_ctx_cache)
		return ret;
	ret = mempool_init_slab_pool(&inflight_ctx_pool, INFLIGHT_CTX_RESERVE,
				     inflight_ctx_cache);
	if (ret)
		kmem_cache_destroy(inflight_ctx_cache);
	inflight_learn_chain_end_io();
	return ret;
}

/**
 * inflight_module_exit() - wait for the last write in flight and clean up
 *
 * A write in flight returns through code of this module, so unloading has to
 * wait for it, however long its device takes.
 *
 * Context: Process context, sleeps.  Every counter is destroyed.
 */
void inflight_module_exit(void)
{
	struct inflight_ctx *ctx;
	int cpu;

	/* In pieces: a stuck device is no reason to report a hung task. */
	while (!wait_event_timeout(inflight_live_wait, !atomic_read(&inflight_live), 10 * HZ))
		pr_warn_ratelimited("waiting for writes in flight before unloading\n");
	/* The last instructions of inflight_end_io() and inflight_reap(). */
	synchronize_rcu();
	synchronize_rcu_tasks();

	for_each_possible_cpu(cpu) {
		struct inflight_cache *cache = per_cpu_ptr(&inflight_cache, cpu);

		while ((ctx = cache->first)) {
			cache->first = ctx->next;
			kmem_cache_free(inflight_ctx_cache, ctx);
		}
	}
	mempool_exit(&inflight_ctx_pool);
	kmem_cache_destroy(inflight_ctx_cache);
}
