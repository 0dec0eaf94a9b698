/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Follows the writes to one origin device
 *
 * A tracker is a range of sectors on a disk (the whole disk or a partition)
 * with a change map and, while a snapshot is held, an engine that keeps the old
 * data.  Trackers are found by disk, under RCU: a write is served to every
 * tracker whose range it touches, however it was addressed.
 *
 * A tracker stays until it is removed or the module goes, also after its
 * device has vanished.  Snapshots claim trackers; a claimed one is not removed.
 *
 * Context: everything declared here is control path and sleeps.  Functions
 * that take a struct tracker need a reference or a claim on it.  The tracker
 * mutex (tracker_lock()) is taken inside the snapshots' mutex and serialises
 * the list of trackers and the control side of their change maps.
 */
#ifndef BLKSNAP_TRACKER_H
#define BLKSNAP_TRACKER_H

#include <linux/types.h>
#include <linux/blksnap.h>

struct cbt_map;
struct cow;
struct gendisk;
struct inflight;
struct resubmit;
struct tracker;

void tracker_module_exit(void);

/* A snapshot's side. */
struct tracker *tracker_claim(dev_t dev, bool *is_new);
int tracker_settle(struct tracker *tracker);
void tracker_unclaim(struct tracker *tracker, bool is_undone);

dev_t tracker_dev(const struct tracker *tracker);
struct gendisk *tracker_disk(const struct tracker *tracker);
u64 tracker_diskseq(const struct tracker *tracker);
sector_t tracker_start_sector(const struct tracker *tracker);
sector_t tracker_nr_sectors(const struct tracker *tracker);
unsigned int tracker_logical_block_bytes(const struct tracker *tracker);
struct cbt_map *tracker_cbt_map(const struct tracker *tracker);
struct inflight *tracker_inflight(const struct tracker *tracker);
struct resubmit *tracker_resubmit(const struct tracker *tracker);

void tracker_lock(void);
void tracker_unlock(void);
int tracker_refresh(struct tracker *tracker);
void tracker_publish(struct tracker *tracker, struct cow *cow);
void tracker_retire(struct tracker *tracker);

/* User space's side: one function per ioctl. */
int tracker_remove(dev_t dev);
int tracker_collect(struct blk_snap_cbt_info *infos, u32 *count);
int tracker_read_cbt_map(dev_t dev, u32 offset, u32 length, u8 __user *buffer);
int tracker_mark_dirty(dev_t dev, const struct blk_snap_block_range *ranges, u32 count);

#endif /* BLKSNAP_TRACKER_H */
