/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Writes in flight on a disk, counted from the filter to their completion
 *
 * A write that has passed the filter can stay below it for seconds (throttled,
 * delayed, encrypted), where nothing can find it.  So every write to a disk with
 * a tracker is counted from the filter to its completion, in the epoch in which it
 * passed.  A take closes the gate for a moment, begins a new epoch, opens the gate,
 * and waits, with everything running, until the old epoch has drained.
 *
 * Two epochs take turns, so a new one may begin only when the one before the
 * current one has drained.
 *
 * inflight_counts(), _keep() and _count() are the fast path: the filter's callback
 * calls them in this order, with preemption disabled once for all of them, and they
 * take no lock but a raw one.  inflight_keep() is also called when a taken write is
 * prepared, under rcu_read_lock().  The rest is control path.
 */
#ifndef BLKSNAP_INFLIGHT_H
#define BLKSNAP_INFLIGHT_H

#include <linux/bio.h>
#include <linux/mempool.h>
#include <linux/percpu.h>
#include <linux/spinlock.h>

struct inflight_ctx;
struct resubmit;

/* Slots for the completion functions that bios come with; one disk sees a few. */
#define INFLIGHT_WAYS 16U

/**
 * struct inflight_way - how bios with one completion function are counted
 * @from:	the function that they come with; set last
 * @to:		the exit that replaces it, see inflight.c
 */
struct inflight_way {
	bio_end_io_t *from;
	bio_end_io_t *to;
};

/**
 * struct inflight_epoch - the writes that passed in one interval
 * @count:	their number, summed over the CPUs
 * @ways:	by hash of the completion function
 */
struct inflight_epoch {
	long __percpu *count;
	struct inflight_way ways[INFLIGHT_WAYS];
};

/**
 * struct inflight - the writes in flight on one disk
 * @gates:	how many times the gate is closed; written under @lock
 * @current_nr:	the current epoch; changed while the gate is closed
 * @epochs:	the current one and the one before
 * @resubmit:	of the disk; gets what the gate has kept
 * @reserve:	contexts, see inflight.c
 * @lock:	guards what follows; raw, because the filter's callback takes it
 * @kept:	bios that met the closed gate
 * @spares:	contexts for the filter's callback
 * @nr_spares:	their number
 *
 * Embedded in the tracked disk, which stays until inflight_is_idle().
 */
struct inflight {
	unsigned int gates;
	unsigned int current_nr;
	struct inflight_epoch epochs[2];
	struct resubmit *resubmit;
	mempool_t reserve;

	raw_spinlock_t lock;
	struct bio_list kept;
	struct inflight_ctx *spares;
	unsigned int nr_spares;
};

int inflight_module_init(void);
void inflight_module_exit(void);

int inflight_init(struct inflight *inflight, struct resubmit *resubmit);
void inflight_exit(struct inflight *inflight);
bool inflight_is_idle(const struct inflight *inflight);

bool __inflight_counts(const struct inflight *inflight, const struct bio *bio);
bool __inflight_keep(struct inflight *inflight, struct bio *bio);
bool __inflight_count(struct inflight *inflight, struct bio *bio);
void inflight_make_spare(struct inflight *inflight);
const struct bio *inflight_parent(const struct bio *bio);

static inline struct inflight_way *inflight_way(struct inflight *inflight, const struct bio *bio)
{
	/* Functions are aligned to 16 bytes. */
	return &inflight->epochs[READ_ONCE(inflight->current_nr)]
			.ways[((unsigned long)bio->bi_end_io >> 4) % INFLIGHT_WAYS];
}

/* Most bios come with a function that earlier bios came with. */
static inline bool inflight_way_fits(const struct inflight_way *way, const struct bio *bio)
{
	/* Pairs with smp_store_release() in inflight_add_way(). */
	return likely(smp_load_acquire(&way->from) == bio->bi_end_io);
}

/* Is this bio counted already?  What is left of a split may come back to the filter. */
static inline bool inflight_counts(struct inflight *inflight, const struct bio *bio)
{
	return !inflight_way_fits(inflight_way(inflight, bio), bio) &&
	       __inflight_counts(inflight, bio);
}

/*
 * Keeps a write back if the gate is closed: true if the bio is ours now.  Comes before
 * a look at anything that a take switches: the grace period that follows
 * inflight_gate() waits for a caller that has found the gate open.
 */
static inline bool inflight_keep(struct inflight *inflight, struct bio *bio)
{
	/* Pairs with smp_store_release() in inflight_ungate(). */
	return unlikely(smp_load_acquire(&inflight->gates)) && __inflight_keep(inflight, bio);
}

/*
 * Counts a write until it completes, by interrupt: drivers that poll use bi_private,
 * and a take would wait until the submitter polls.  False if there is no memory: the
 * caller has the bio submitted again.
 */
static inline bool inflight_count(struct inflight *inflight, struct bio *bio)
{
	struct inflight_epoch *epoch = &inflight->epochs[READ_ONCE(inflight->current_nr)];
	struct inflight_way *way = inflight_way(inflight, bio);

	bio_clear_polled(bio);
	if (!inflight_way_fits(way, bio))
		return __inflight_count(inflight, bio);
	bio->bi_end_io = way->to;
	this_cpu_inc(*epoch->count);
	return true;
}

void inflight_gate(struct inflight *inflight);
void inflight_begin_epoch(struct inflight *inflight);
void inflight_ungate(struct inflight *inflight);
bool inflight_has_drained(const struct inflight *inflight);

/*
 * Does a function whose last statement is a call stay on the stack until that returns?
 * Compilers make such a call a jump, unless they are told not to, or the architecture
 * has no such jump.  To say yes is always safe.
 */
#define INFLIGHT_END_RETURNS	(!IS_ENABLED(CONFIG_X86_64) ||		\
				 IS_ENABLED(CONFIG_FRAME_POINTER) ||	\
				 IS_ENABLED(CONFIG_KCSAN))

/* Of inflight_begin_end(); the share of a CPU may be negative. */
DECLARE_PER_CPU(long, inflight_enders);

/*
 * Around the end of a bio of another owner, in a completion: it may sleep, and the module
 * may be unloaded then, so inflight_module_exit() waits for its return.
 */
static inline void inflight_begin_end(void)
{
	if (INFLIGHT_END_RETURNS)
		this_cpu_inc(inflight_enders);
}

static inline void inflight_finish_end(void)
{
	if (INFLIGHT_END_RETURNS)
		this_cpu_dec(inflight_enders);
}

#endif /* BLKSNAP_INFLIGHT_H */
