/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Copy-on-write engine of one origin device
 *
 * From the moment the tracker publishes the engine, whatever is read through
 * cow_submit_image_bio() is what the origin held at that instant (or what was
 * written through it since), until the engine fails or is stopped.  No write to
 * the origin ever fails because of the engine, waits for an image reader, or
 * waits for storing while there is memory for copies.
 *
 * Contexts:
 *
 * any but NMI, the filter's callback and tracepoints included: cow_fail(), cow_lose(),
 *	cow_stop(), cow_must_hold(), cow_owns_write(), cow_get().  They take no lock
 *	of the engine and allocate nothing.
 * in place of a submission: cow_hold() sleeps as submitting does, and waits for
 *	nothing else.  cow_throttle() waits for other held writes.
 * ->submit_bio() of the image's disk: cow_submit_image_bio().
 * process context: everything else.  Only cow_shutdown(), cow_wait_discarded() and
 *	cow_forget_skipped() wait for I/O; cow_put() may sleep to free memory, and the
 *	last one comes after cow_shutdown().
 *
 * Life: cow_create(), cow_exclude(), publish, cow_set_drained(), add the image;
 * cow_stop(), cow_wait_discarded() if it was drained, cow_forget_skipped(), unpublish,
 * wait for RCU, cow_shutdown(), cow_put().
 */
#ifndef BLKSNAP_COW_H
#define BLKSNAP_COW_H

#include <linux/blk_types.h>
#include <linux/types.h>

struct cbt_map;
struct cow;
struct diff_storage;
struct event_queue;
struct resubmit;
struct workqueue_struct;

/**
 * struct cow_queues - where the engines of a snapshot have work done that waits
 * @store:	stores, and discards in the end; a write may wait for them
 * @read:	image reads that are served again
 * @write:	image writes; they wait for stores
 *
 * Each snapshot has its own, so that none waits for the devices of another one.
 */
struct cow_queues {
	struct workqueue_struct *store;
	struct workqueue_struct *read;
	struct workqueue_struct *write;
};

/**
 * struct cow_config - what an engine works on
 * @start:	first sector of the origin on its disk
 * @nr_sectors:	capacity of the origin
 * @block_shift: from cow_block_shift()
 * @origin:	open for reading
 * @cbt_map:	of the origin's tracker; image writes are marked in it
 * @storage:	difference storage of the snapshot
 * @queues:	of the snapshot
 * @events:	gets the one corrupted event
 * @resubmit:	of the origin's disk; gets held writes that are to be judged again
 *
 * Everything pointed to has to stay until cow_shutdown() has returned.
 */
struct cow_config {
	sector_t start;
	sector_t nr_sectors;
	unsigned int block_shift;
	struct block_device *origin;
	struct cbt_map *cbt_map;
	struct diff_storage *storage;
	struct cow_queues *queues;
	struct event_queue *events;
	struct resubmit *resubmit;
};

/* Figures of one moment, for sysfs. */
struct cow_stats {
	u64 copied_bytes;	/* kept for the image, in memory or stored */
	u64 stored_bytes;	/* taken from the difference storage */
	u64 memory_bytes;	/* in-memory copies */
	u64 held_writes;	/* on a list at this moment */
	u64 held_writes_total;	/* a write that has to be held twice counts twice */
	u64 held_ns_total;	/* time that writes spent on lists, summed */
	int error;		/* 0, or the negative errno of the failure */
};

/* What has become of a write that an engine wanted held. */
enum cow_verdict {
	COW_MAY_GO,	/* the caller submits it again */
	COW_HELD,	/* the engine hands it to config.resubmit, to be judged again */
	COW_ENDED,	/* it is complete, or will be when its parts are */
};

int cow_module_init(void);
void cow_module_exit(void);

/* The largest copy block is as long as the longest run, see cow_priv.h. */
#define COW_BLOCK_SHIFT_MAX 20

int cow_queues_init(struct cow_queues *queues);
void cow_queues_exit(struct cow_queues *queues);

unsigned int cow_block_shift(sector_t nr_sectors);

struct cow *cow_create(const struct cow_config *config);
int cow_exclude(struct cow *cow, sector_t sector, sector_t nr_sectors);
void cow_set_drained(struct cow *cow);
bool cow_has_drained(const struct cow *cow);
void cow_fail(struct cow *cow, int error);
void cow_lose(struct cow *cow, int error);
void cow_stop(struct cow *cow);
bool cow_wait_discarded(struct cow *cow, unsigned long deadline);
void cow_forget_skipped(struct cow *cow);
bool cow_is_idle(struct cow *cow);
void cow_shutdown(struct cow *cow);
struct cow *cow_get(struct cow *cow);
void cow_put(struct cow *cow);

bool cow_must_hold(const struct cow *cow, const struct bio *bio, sector_t sector);
enum cow_verdict cow_hold(struct cow *cow, struct bio *bio);
void cow_throttle(struct cow *cow, bool is_sync);

void cow_submit_image_bio(struct cow *cow, struct bio *bio);
void cow_stats(struct cow *cow, struct cow_stats *stats);

/*
 * All writes of the module to difference storage are from this set, and no other bio
 * is.  They are neither tracked nor held.  What a stacking driver makes of one is not
 * recognised.
 */
extern struct bio_set cow_write_bios;

static inline bool cow_owns_write(const struct bio *bio)
{
	return bio->bi_pool == &cow_write_bios;
}

#endif /* BLKSNAP_COW_H */
