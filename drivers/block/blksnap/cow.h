/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Copy-on-write engine of one origin device
 *
 * Promises: from the moment the tracker publishes the engine, whatever is read through
 * cow_submit_image_bio() is what the origin held at that instant (or what was
 * written through it since), until the engine fails or is stopped; and no write
 * to the origin ever fails because of it, or waits for storing while there is
 * memory for copies.
 *
 * cow_must_hold() is legal in the filter's callback, under rcu_read_lock().
 * cow_hold() may sleep as a submission does, but never waits for a copy.
 * The rest is control path, except where noted at the definition.
 */
#ifndef BLKSNAP_COW_H
#define BLKSNAP_COW_H

#include <linux/blk_types.h>
#include <linux/types.h>

struct cbt_map;
struct cow;
struct diff_storage;
struct event;
struct event_queue;

/**
 * struct cow_config - what an engine works on
 * @origin:	open by the snapshot until cow_shutdown() has returned
 * @start:	first sector of the origin on its disk
 * @nr_sectors:	capacity of the origin
 * @block_shift: from cow_block_shift()
 * @cbt_map:	of the origin's tracker; image writes are marked in it
 * @storage:	difference storage of the snapshot
 * @events:	gets the one corrupted event
 *
 * Everything pointed to has to stay until cow_shutdown() has returned.
 */
struct cow_config {
	struct block_device *origin;
	sector_t start;
	sector_t nr_sectors;
	unsigned int block_shift;
	struct cbt_map *cbt_map;
	struct diff_storage *storage;
	struct event_queue *events;
};

/* A moment's figures, for sysfs. */
struct cow_stats {
	u64 copied_bytes;	/* kept for the image, in memory or stored */
	u64 stored_bytes;	/* taken from the difference storage */
	u64 memory_bytes;	/* in-memory copies */
	u64 held_writes;	/* on a list at this moment */
	u64 held_writes_total;
	u64 held_ns_total;	/* time that writes spent on lists, summed */
	int error;		/* 0, or the negative errno that broke the snapshot */
};

int cow_module_init(void);
void cow_module_exit(void);

/* The largest copy block is as long as the longest run, see cow_priv.h. */
#define COW_BLOCK_SHIFT_MAX 20

unsigned int cow_block_shift(sector_t nr_sectors);

struct cow *cow_create(const struct cow_config *config);
int cow_exclude(struct cow *cow, sector_t sector, sector_t nr_sectors);
void cow_break(struct cow *cow, int error);
void cow_stop(struct cow *cow);
void cow_shutdown(struct cow *cow);
struct cow *cow_get(struct cow *cow);
void cow_put(struct cow *cow);

bool cow_must_hold(struct cow *cow, const struct bio *bio, sector_t sector);
void cow_hold(struct cow *cow, struct bio *bio);
void cow_hold_later(struct cow *cow, struct bio *bio);

void cow_submit_image_bio(struct cow *cow, struct bio *bio);
void cow_stats(struct cow *cow, struct cow_stats *stats);

/*
 * Every write of the module to a difference storage is from this set, and no
 * other bio.  They are neither tracked nor held.  What a stacking driver makes
 * of one is not recognised.
 */
extern struct bio_set cow_write_bios;

static inline bool cow_owns_write(const struct bio *bio)
{
	return bio->bi_pool == &cow_write_bios;
}

#endif /* BLKSNAP_COW_H */
