/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The trackers' inside, shared by tracker.c and tracker_user.c
 */
#ifndef BLKSNAP_TRACKER_PRIV_H
#define BLKSNAP_TRACKER_PRIV_H

#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>

#include "resubmit.h"
#include "tracker.h"

/**
 * struct tracked_disk - a disk with at least one tracker
 * @node:	in tracked_disks, under RCU
 * @disk:	address of the disk; only compared, for the disk may be gone
 * @diskseq:	tells whether what is at that address is still this disk
 * @inflight:	writes in flight on the whole disk
 * @resubmit:	writes to be judged again
 * @trackers:	on this disk, under RCU
 * @is_bypassed: written to past the filter; never false again
 *
 * Owned by its trackers: made with the first, freed with the last.
 */
struct tracked_disk {
	struct hlist_node node;
	struct gendisk *disk;
	u64 diskseq;
	struct inflight *inflight;
	struct resubmit resubmit;
	struct list_head trackers;
	bool is_bypassed;
};

/**
 * struct tracker - follows the writes to one range of a disk
 * @link:	in @tracked_disk's trackers, under RCU
 * @row:	in tracker_rows
 * @tracked_disk: the disk the range is on
 * @dev:	number under which user space knows the origin
 * @start:	first sector on the disk
 * @logical_block_bytes: of the disk
 * @nr_sectors:	length; changes with the capacity of the device
 * @cbt_map:	what changed; replaced when the capacity changes
 * @cow:	engine while a snapshot is held
 * @is_claimed:	member of a snapshot, created or taken
 *
 * Owned by tracker_rows; not freed while it is claimed.
 */
struct tracker {
	struct list_head link;
	struct list_head row;
	struct tracked_disk *tracked_disk;
	dev_t dev;
	sector_t start;
	unsigned int logical_block_bytes;

	sector_t nr_sectors;
	struct cbt_map __rcu *cbt_map;
	struct cow __rcu *cow;
	bool is_claimed;
};

/* Trackers and disks are added, removed and changed under it. */
extern struct mutex tracker_mutex;
extern struct list_head tracker_rows;

struct tracker *tracker_find(dev_t dev);
struct cbt_map *tracker_map(const struct tracker *tracker);
int tracker_check_present(const struct tracker *tracker);
int tracker_refresh_locked(struct tracker *tracker);
void tracker_destroy(struct tracker *tracker);

#endif /* BLKSNAP_TRACKER_PRIV_H */
