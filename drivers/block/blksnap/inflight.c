// SPDX-License-Identifier: GPL-2.0
/*
 * Counting of writes in flight, and the gate
 *
 * A counted bio goes on with another bi_end_io, which counts it down and calls
 * the original one.  There are two kinds of them:
 *
 * An exit is a function that knows one pair of counter and original function.
 * A macro makes a fixed number of exits.  A pair gets one when it is first seen,
 * and keeps it until the counter goes.  Nothing is allocated for a bio, and its
 * bi_private stays.
 *
 * A context is memory that goes with one bio.  It is used when all exits are taken, or
 * two functions meet in one slot of a disk, and for a bio that is counted for another
 * disk already, because a stacking driver passes on the bio that it got.  Contexts nest.
 *
 * Either way the original function is put back before it is called, because its
 * owner may look at it.
 *
 * A count is per CPU, raised where the bio passes and lowered where it completes.
 * Once no write enters an epoch any more its sum can only fall, so a sum of zero
 * is true even if bios complete while it is computed.
 *
 * Lock order: inflight->lock and inflight_lock are leaves.
 */
#include "blksnap.h"

#include <linux/blkdev.h>
#include <linux/delay.h>
#include <linux/slab.h>

#include "inflight.h"
#include "resubmit.h"

/* Reserve of a disk for when allocation fails; further bios wait. */
#define INFLIGHT_CTX_RESERVE 32

/* Spare contexts of a disk on PREEMPT_RT: the depth of a usual hardware queue. */
#define INFLIGHT_SPARES_MAX 128

/* Two for each disk and completion function; enough for the disks of most machines. */
#define INFLIGHT_EXITS 256U

struct inflight_ctx {
	struct inflight *inflight;
	long __percpu *count;
	bio_end_io_t *end_io;
	void *private;
	struct inflight_ctx *next;	/* in inflight->spares */
};

/**
 * struct inflight_exit - what one exit knows
 * @end_io:	original function
 * @count:	of the epoch
 * @inflight:	the counter; NULL if the exit is free; under inflight_lock
 */
struct inflight_exit {
	bio_end_io_t *end_io;
	long __percpu *count;
	const struct inflight *inflight;
};

/* Completions that end a parent bio, see inflight_end_chained(). */
struct inflight_chained {
	struct bio_list bios;
	bool is_running;
};

static DEFINE_PER_CPU(struct inflight_chained, inflight_chained);

DEFINE_PER_CPU(long, inflight_enders);

static struct inflight_exit inflight_exits[INFLIGHT_EXITS];
static unsigned int inflight_nr_free_exits = INFLIGHT_EXITS;
/* Guards the exits, their number and all ways. */
static DEFINE_RAW_SPINLOCK(inflight_lock);

static struct kmem_cache *inflight_ctx_slab;
static bio_end_io_t *inflight_chain_end_io;

/*
 * Ends a bio whose completion completes its parent, which may be one of ours, too, and
 * so on for thousands of bios (BLKZEROOUT makes such chains).  bio_endio() turns chains
 * into a loop, but not with our function in between.  So the loop is here: a completion
 * inside a completion is put off.
 *
 * The bio_end_io_t of a chained bio is only a mark for bio_endio(), and newer kernels
 * report a bug if it is called.  So bio_endio() has to see the bio once more.
 */
static void inflight_end_chained(struct bio *bio, long __percpu *count)
{
	struct inflight_chained *chained;
	unsigned long flags;

	/* Not inflight_begin_end(): on any kernel the loop is there for as long as it runs. */
	this_cpu_inc(inflight_enders);
	this_cpu_dec(*count);
	/* Stay on this CPU: an interrupt or a nested completion adds to its list. */
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
	this_cpu_dec(inflight_enders);
}

/* When @count is lowered the counter may be freed, and another one get its exits. */
static __always_inline void inflight_end_original(struct bio *bio, long __percpu *count)
{
	bio_end_io_t *end_io = bio->bi_end_io;

	if (unlikely(end_io == inflight_chain_end_io)) {
		inflight_end_chained(bio, count);
		return;
	}
	inflight_begin_end();
	this_cpu_dec(*count);
	if (end_io)
		end_io(bio);
	inflight_finish_end();
}

/*
 * Exits
 */

static __always_inline void inflight_leave(struct bio *bio, const struct inflight_exit *exit)
{
	bio->bi_end_io = exit->end_io;
	inflight_end_original(bio, exit->count);
}

#define INFLIGHT_EXIT(nr)						\
static void inflight_exit_##nr(struct bio *bio)				\
{									\
	inflight_leave(bio, &inflight_exits[0x##nr]);			\
}

#include "inflight_exits.h"
#undef INFLIGHT_EXIT

/* The exits lie between these addresses, among few other functions. */
static unsigned long inflight_exits_low = ULONG_MAX;
static unsigned long inflight_exits_high;

#define INFLIGHT_EXIT(nr) inflight_exit_##nr,
static bio_end_io_t * const inflight_exit_fns[INFLIGHT_EXITS] = {
#include "inflight_exits.h"
};

#undef INFLIGHT_EXIT

/* The exit that @fn is; NULL for any other function. */
static const struct inflight_exit *inflight_find_exit(bio_end_io_t *fn)
{
	unsigned int i;

	if ((unsigned long)fn < inflight_exits_low || (unsigned long)fn > inflight_exits_high)
		return NULL;
	for (i = 0; i < INFLIGHT_EXITS; i++)
		if (inflight_exit_fns[i] == fn)
			return &inflight_exits[i];
	return NULL;
}

static bool __inflight_take_exit(struct inflight *inflight, struct inflight_way *way,
				 bio_end_io_t *end_io, long __percpu *count)
{
	unsigned int i;

	lockdep_assert_held(&inflight_lock);
	for (i = 0; i < INFLIGHT_EXITS; i++) {
		struct inflight_exit *exit = &inflight_exits[i];

		if (exit->inflight)
			continue;
		exit->inflight = inflight;
		exit->count = count;
		exit->end_io = end_io;
		WRITE_ONCE(inflight_nr_free_exits, inflight_nr_free_exits - 1);
		way->to = inflight_exit_fns[i];
		/* Pairs with smp_load_acquire() in inflight_way_fits(). */
		smp_store_release(&way->from, end_io);
		return true;
	}
	return false;
}

/* Gives bios with this function an exit, if there is a free one. */
static bool inflight_add_way(struct inflight *inflight, const struct bio *bio)
{
	struct inflight_way *way = inflight_way(inflight, bio);
	bio_end_io_t *end_io = bio->bi_end_io;
	struct inflight_epoch *epoch;
	unsigned long flags;
	bool is_added;

	if (!end_io || way->to || !READ_ONCE(inflight_nr_free_exits))
		return false;
	epoch = &inflight->epochs[READ_ONCE(inflight->current_nr)];
	raw_spin_lock_irqsave(&inflight_lock, flags);
	if (way->to)
		is_added = way->from == end_io;
	else
		is_added = __inflight_take_exit(inflight, way, end_io, epoch->count);
	raw_spin_unlock_irqrestore(&inflight_lock, flags);
	return is_added;
}

static void inflight_free_exits(const struct inflight *inflight)
{
	unsigned int i;

	raw_spin_lock_irq(&inflight_lock);
	for (i = 0; i < INFLIGHT_EXITS; i++) {
		if (inflight_exits[i].inflight != inflight)
			continue;
		inflight_exits[i].inflight = NULL;
		WRITE_ONCE(inflight_nr_free_exits, inflight_nr_free_exits + 1);
	}
	raw_spin_unlock_irq(&inflight_lock);
}

/*
 * Contexts
 */

static void inflight_push_spare(struct inflight *inflight, struct inflight_ctx *ctx)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&inflight->lock, flags);
	ctx->next = inflight->spares;
	WRITE_ONCE(inflight->spares, ctx);
	WRITE_ONCE(inflight->nr_spares, inflight->nr_spares + 1);
	raw_spin_unlock_irqrestore(&inflight->lock, flags);
}

static struct inflight_ctx *inflight_pop_spare(struct inflight *inflight)
{
	struct inflight_ctx *ctx;
	unsigned long flags;

	raw_spin_lock_irqsave(&inflight->lock, flags);
	ctx = inflight->spares;
	if (ctx) {
		WRITE_ONCE(inflight->spares, ctx->next);
		WRITE_ONCE(inflight->nr_spares, inflight->nr_spares - 1);
	}
	raw_spin_unlock_irqrestore(&inflight->lock, flags);
	return ctx;
}

/*
 * Makes sure that the next bio of this disk finds a context, before one is submitted
 * again.  If another bio takes the context, that one makes progress.  Sleeps until there
 * is memory or a free context.
 */
void inflight_make_spare(struct inflight *inflight)
{
	if (!READ_ONCE(inflight->spares))
		inflight_push_spare(inflight, mempool_alloc(&inflight->reserve, GFP_NOIO));
}

/* In the filter's callback, where PREEMPT_RT does not let the allocator be called. */
static struct inflight_ctx *inflight_alloc_ctx(struct inflight *inflight)
{
	struct inflight_ctx *ctx = NULL;

	if (!IS_ENABLED(CONFIG_PREEMPT_RT))
		ctx = kmem_cache_alloc(inflight_ctx_slab, GFP_NOWAIT | __GFP_NOWARN);
	return ctx ?: inflight_pop_spare(inflight);
}

/* So on PREEMPT_RT completions leave them for it; but somebody may wait for the reserve. */
static void inflight_free_ctx(struct inflight_ctx *ctx)
{
	struct inflight *inflight = ctx->inflight;
	mempool_t *reserve = &inflight->reserve;

	if (IS_ENABLED(CONFIG_PREEMPT_RT) &&
	    READ_ONCE(inflight->nr_spares) < INFLIGHT_SPARES_MAX &&
	    READ_ONCE(reserve->curr_nr) >= reserve->min_nr)
		inflight_push_spare(inflight, ctx);
	else
		mempool_free(ctx, reserve);
}

static void inflight_end_io(struct bio *bio)
{
	struct inflight_ctx *ctx = bio->bi_private;
	long __percpu *count = ctx->count;

	bio->bi_end_io = ctx->end_io;
	bio->bi_private = ctx->private;
	inflight_free_ctx(ctx);
	inflight_end_original(bio, count);
}

/* inflight_counts() of a bio with an unusual completion function. */
bool __inflight_counts(const struct inflight *inflight, const struct bio *bio)
{
	bio_end_io_t *end_io = bio->bi_end_io;
	void *private = bio->bi_private;

	for (;;) {
		const struct inflight_exit *exit;

		if (end_io == inflight_end_io) {
			const struct inflight_ctx *ctx = private;

			if (ctx->inflight == inflight)
				return true;
			end_io = ctx->end_io;
			private = ctx->private;
			continue;
		}
		exit = inflight_find_exit(end_io);
		if (!exit)
			return false;
		if (exit->inflight == inflight)
			return true;
		end_io = exit->end_io;
	}
}

/*
 * The bio that @bio is a part of, or NULL.  A driver splits a bio by chaining parts to
 * it.  Callers of the block layer chain bios, too, but those, from fs_bio_set, each
 * pass the filter.
 */
const struct bio *inflight_parent(const struct bio *bio)
{
	if (bio->bi_end_io != inflight_chain_end_io || bio->bi_pool == &fs_bio_set)
		return NULL;
	return bio->bi_private;
}

/* inflight_keep() when the gate was closed just before. */
bool __inflight_keep(struct inflight *inflight, struct bio *bio)
{
	unsigned long flags;
	bool is_kept;

	raw_spin_lock_irqsave(&inflight->lock, flags);
	is_kept = inflight->gates;
	if (is_kept)
		bio_list_add(&inflight->kept, bio);
	raw_spin_unlock_irqrestore(&inflight->lock, flags);
	return is_kept;
}

/* inflight_count() of a bio with an unusual completion function. */
bool __inflight_count(struct inflight *inflight, struct bio *bio)
{
	struct inflight_epoch *epoch = &inflight->epochs[READ_ONCE(inflight->current_nr)];
	struct inflight_ctx *ctx;

	if (bio->bi_end_io != inflight_end_io && !inflight_find_exit(bio->bi_end_io) &&
	    inflight_add_way(inflight, bio))
		return inflight_count(inflight, bio);
	ctx = inflight_alloc_ctx(inflight);
	if (unlikely(!ctx))
		return false;
	ctx->inflight = inflight;
	ctx->count = epoch->count;
	ctx->end_io = bio->bi_end_io;
	ctx->private = bio->bi_private;
	bio->bi_private = ctx;
	bio->bi_end_io = inflight_end_io;
	this_cpu_inc(*epoch->count);
	return true;
}

/*
 * Control path
 */

static long inflight_sum(const long __percpu *count)
{
	long sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += READ_ONCE(*per_cpu_ptr(count, cpu));
	return sum;
}

/**
 * inflight_gate() - keep new writes back from now on
 * @inflight:	the counter; gates nest
 *
 * After this and a grace period of RCU no write is between the filter and its
 * being counted.  From here to inflight_ungate() the caller must not wait for
 * I/O to this disk: no allocation that may reclaim, no access to user memory.
 */
void inflight_gate(struct inflight *inflight)
{
	raw_spin_lock_irq(&inflight->lock);
	WRITE_ONCE(inflight->gates, inflight->gates + 1);
	raw_spin_unlock_irq(&inflight->lock);
}

/* Counts new writes apart from those in flight; gated, after inflight_has_drained(). */
void inflight_begin_epoch(struct inflight *inflight)
{
	WRITE_ONCE(inflight->current_nr, !inflight->current_nr);
}

void inflight_ungate(struct inflight *inflight)
{
	struct bio_list bios = BIO_EMPTY_LIST;

	raw_spin_lock_irq(&inflight->lock);
	/* Pairs with smp_load_acquire() in inflight_keep(). */
	smp_store_release(&inflight->gates, inflight->gates - 1);
	if (!inflight->gates) {
		bios = inflight->kept;
		bio_list_init(&inflight->kept);
	}
	raw_spin_unlock_irq(&inflight->lock);
	resubmit_bios(inflight->resubmit, &bios);
}

/*
 * Is no write of the epoch before in flight?  If so, this stays true until the next
 * epoch begins.
 */
bool inflight_has_drained(const struct inflight *inflight)
{
	return !inflight_sum(inflight->epochs[!READ_ONCE(inflight->current_nr)].count);
}

/* Valid only when no write passes the filter any more. */
bool inflight_is_idle(const struct inflight *inflight)
{
	return !inflight_sum(inflight->epochs[0].count) && !inflight_sum(inflight->epochs[1].count);
}

static int inflight_init_epoch(struct inflight_epoch *epoch)
{
	unsigned int i;

	/* The address of no function; that of a bio may be NULL. */
	for (i = 0; i < INFLIGHT_WAYS; i++)
		epoch->ways[i].from = (bio_end_io_t *)1UL;
	epoch->count = alloc_percpu(long);
	return epoch->count ? 0 : -ENOMEM;
}

/*
 * @inflight is zeroed memory, @resubmit of the same owner.  After -ENOMEM, too,
 * inflight_exit() may be called.
 */
int inflight_init(struct inflight *inflight, struct resubmit *resubmit)
{
	int ret = mempool_init_slab_pool(&inflight->reserve, INFLIGHT_CTX_RESERVE,
					 inflight_ctx_slab);

	inflight->resubmit = resubmit;
	raw_spin_lock_init(&inflight->lock);
	bio_list_init(&inflight->kept);
	return ret ?: inflight_init_epoch(&inflight->epochs[0]) ?:
		      inflight_init_epoch(&inflight->epochs[1]);
}

/* After inflight_is_idle() and a grace period of RCU. */
void inflight_exit(struct inflight *inflight)
{
	struct inflight_ctx *ctx;

	while ((ctx = inflight_pop_spare(inflight)))
		mempool_free(ctx, &inflight->reserve);
	mempool_exit(&inflight->reserve);
	inflight_free_exits(inflight);
	free_percpu(inflight->epochs[0].count);
	free_percpu(inflight->epochs[1].count);
}

static void inflight_learn_exits(void)
{
	unsigned int i;

	for (i = 0; i < INFLIGHT_EXITS; i++) {
		unsigned long fn = (unsigned long)inflight_exit_fns[i];

		inflight_exits_low = min(inflight_exits_low, fn);
		inflight_exits_high = max(inflight_exits_high, fn);
	}
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

int inflight_module_init(void)
{
	inflight_learn_chain_end_io();
	inflight_learn_exits();
	inflight_ctx_slab = KMEM_CACHE(inflight_ctx, 0);
	return inflight_ctx_slab ? 0 : -ENOMEM;
}

/*
 * Every counter is gone, and a grace period has passed since, so no bio comes any more,
 * and completions under way have counted themselves.
 */
void inflight_module_exit(void)
{
	while (inflight_sum(&inflight_enders))
		usleep_range(500, 1000);
	/* The last instructions of a completion, after either count: none of them sleeps. */
	synchronize_rcu();
	synchronize_rcu_tasks();
	kmem_cache_destroy(inflight_ctx_slab);
}
