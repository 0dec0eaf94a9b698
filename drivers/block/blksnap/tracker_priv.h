/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The trackers' inside, shared by the files tracker*.c
 *
 * tracker.c makes, finds and removes trackers; tracker_judge.c has the verdict
 * on every bio; tracker_user.c answers user space.
 */
#ifndef BLKSNAP_TRACKER_PRIV_H
#define BLKSNAP_TRACKER_PRIV_H

#include <linux/blkdev.h>
#include <linux/cache.h>
#include <linux/completion.h>
#include <linux/hash.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/string.h>
#include <linux/workqueue.h>

#include "bypass.h"
#include "inflight.h"
#include "resubmit.h"
#include "tracker.h"

/* Enough for the disks of a large server in short chains. */
#define TRACKED_DISK_HASH_BITS 8

/**
 * struct tracked_disk - a disk with at least one tracker
 * @node:	in tracked_disks, under RCU
 * @disk:	the disk; @inode keeps its memory, not the device
 * @diskseq:	the disk's, which changes with its medium
 * @only:	the one tracker, if it is of the whole disk; under RCU
 * @trackers:	on this disk, under RCU
 * @is_bypassed: device mapper writes to it past the filter; never cleared
 * @has_table:	device mapper may put other data on it with another table
 * @table_sectors: its capacity with the present table
 * @is_young:	writes submitted before it was tracked may still arrive
 * @inflight:	writes in flight on the whole disk
 * @resubmit:	writes to it that are to be submitted again
 * @inode:	of the whole disk's block device, with a reference
 * @queue:	of the disk, with a reference until it has settled
 * @settle:	waits for writes submitted before it was tracked
 * @settled:	completed by @settle
 * @age:	ends @is_young
 * @reap:	frees it when nothing is in flight any more
 *
 * Made with the first tracker and handed to @reap with the last one.
 */
struct tracked_disk {
	struct hlist_node node;
	struct gendisk *disk;
	u64 diskseq;
	struct tracker __rcu *only;
	struct list_head trackers;
	bool is_bypassed;
	bool has_table;
	sector_t table_sectors;
	bool is_young;
	struct inflight inflight;
	struct resubmit resubmit;
	struct inode *inode;
	struct request_queue *queue;
	struct work_struct settle;
	struct completion settled;
	struct delayed_work age;
	struct delayed_work reap;
};

/**
 * struct tracker - follows the writes to one range of a disk
 * @link:	in the trackers of @tracked_disk, under RCU
 * @start:	first sector on the disk
 * @nr_sectors:	length; changes with the capacity of the device
 * @cbt_map:	what changed; replaced when the capacity changes
 * @cow:	engine while a snapshot is held
 * @tracked_disk: the disk the range is on
 * @bdev:	the device; a reference to its inode keeps the memory
 * @dev:	number of the origin
 * @logical_block_bytes: of the disk
 * @is_resized:	had another capacity for a time, maybe, so it needs a new map
 * @is_claimed:	member of a snapshot, created or taken
 * @is_last:	no other tracker was on the disk when this one was destroyed
 * @row:	in tracker_rows
 * @free:	frees it after a grace period
 *
 * Owned by tracker_rows; not freed while it is claimed.
 */
struct tracker {
	struct list_head link;
	sector_t start;
	sector_t nr_sectors;
	struct cbt_map __rcu *cbt_map;
	struct cow __rcu *cow;
	struct tracked_disk *tracked_disk;

	struct block_device *bdev;
	dev_t dev;
	unsigned int logical_block_bytes;
	bool is_resized;
	bool is_claimed;
	bool is_last;
	struct list_head row;
	struct rcu_work free;
};

/* Trackers and disks are added, removed and changed under this mutex. */
extern struct mutex tracker_mutex;
extern struct list_head tracker_rows;
extern struct hlist_head tracked_disks[1 << TRACKED_DISK_HASH_BITS];

static inline struct hlist_head *tracked_disk_bucket(const struct gendisk *disk)
{
	return &tracked_disks[hash_long((unsigned long)disk, TRACKED_DISK_HASH_BITS)];
}

/* A device-mapper device?  No other disks are called so. */
static inline bool disk_is_mapped(const struct gendisk *disk)
{
	return !strncmp(disk->disk_name, "dm-", 3);
}

/* tracker_judge.c */
extern const struct bypass_user tracker_bypass_user;
struct tracked_disk *tracked_disk_find(struct gendisk *disk);
void tracker_submit_again(struct resubmit *resubmit, struct bio *bio);

/* tracker.c, under tracker_mutex */
struct tracker *tracker_find(dev_t dev);
struct cbt_map *tracker_map(const struct tracker *tracker);
int tracker_check_present(const struct tracker *tracker);
int tracker_look(struct tracker *tracker);
void tracker_destroy(struct tracker *tracker);

#endif /* BLKSNAP_TRACKER_PRIV_H */
