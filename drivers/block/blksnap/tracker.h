/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Follows the writes to one origin device
 *
 * A tracker is a range of sectors on a disk (the whole disk or a partition)
 * with a change map and, while a snapshot is held, an engine that keeps the old
 * data.  Trackers are found by disk, under RCU: a write is judged for every
 * tracker whose range it touches, however it was addressed.
 *
 * A tracker stays until it is removed or the module goes, also after its device
 * has vanished, and does not keep its device open.  A snapshot claims its
 * trackers; a claimed one is not removed.
 *
 * Context: everything declared here is control path and sleeps.  Functions with a
 * struct tracker need a claim on it.  tracker_lock() serialises the list of
 * trackers and the control side of their change maps.  It is taken inside a
 * snapshot's lock and held for moments; its holder never waits for a device.
 */
#ifndef BLKSNAP_TRACKER_H
#define BLKSNAP_TRACKER_H

#include <linux/types.h>
#include <linux/blksnap.h>

#include "cbt_map.h"

struct block_device;
struct cow;
struct gendisk;
struct inflight;
struct resubmit;
struct tracker;

int tracker_module_init(void);
void tracker_module_exit(void);

/* A snapshot's side. */
struct tracker *tracker_claim(struct block_device *origin, bool *is_new);
void tracker_unclaim(struct tracker *tracker, bool is_undone);
bool tracker_has_settled(struct tracker *tracker);

struct gendisk *tracker_disk(const struct tracker *tracker);
sector_t tracker_start_sector(const struct tracker *tracker);
sector_t tracker_nr_sectors(const struct tracker *tracker);
unsigned int tracker_logical_block_bytes(const struct tracker *tracker);
struct cbt_map *tracker_cbt_map(const struct tracker *tracker);
struct inflight *tracker_inflight(const struct tracker *tracker);
struct resubmit *tracker_resubmit(const struct tracker *tracker);

void tracker_lock(void);
void tracker_unlock(void);
int tracker_refresh(struct tracker *tracker, const struct block_device *origin);
void tracker_publish(struct tracker *tracker, struct cow *cow);
void tracker_retire(struct tracker *tracker);

/* User space's side: one function per ioctl. */
int tracker_remove(dev_t dev);
int tracker_collect(struct blk_snap_cbt_info *infos, u32 *count);
int tracker_read_cbt_map(dev_t dev, u32 offset, u32 length, u8 __user *buffer);
int tracker_mark_dirty(dev_t dev, const struct blk_snap_block_range *ranges, u32 count);

/* What debugfs tells of one tracker. */
struct tracker_stats {
	dev_t dev;
	struct cbt_map_info map;
	struct cbt_map_usage usage;
};

bool tracker_stats(unsigned int nth, struct tracker_stats *stats);

#endif /* BLKSNAP_TRACKER_H */
