/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Snapshots: one function per ioctl of theirs
 *
 * A snapshot has members (claimed trackers), a difference storage and an event
 * queue from its creation, and engines and images from its take to its
 * destruction.  ctrl.c calls all functions in user context, with arguments already
 * copied in, and they sleep.  User arrays that are filled may be of any length and
 * are passed on as user pointers.
 *
 * Every snapshot that has not ended has a reference on the module.  Appending and
 * taking wait for each other, except while a take waits for writes in flight; a take
 * may have to wait for its devices.  Destroying a snapshot ends both.  Listing and
 * waiting for events never wait for them.  No call waits for the devices of another
 * snapshot.
 *
 * Functions with an id look the snapshot up.  A caller that watches a snapshot gets a
 * reference with snapshot_find() and keeps it for as long as it likes: that keeps the
 * event queue, not the snapshot.
 */
#ifndef BLKSNAP_SNAPSHOT_H
#define BLKSNAP_SNAPSHOT_H

#include <linux/poll.h>
#include <linux/types.h>
#include <linux/uuid.h>
#include <linux/blksnap.h>

struct event;
struct snapshot;

/* Devices of one snapshot; more are refused, because each one makes a take longer. */
#define SNAPSHOT_MEMBERS_MAX 1024U

int snapshot_module_init(void);
void snapshot_module_exit(void);

int snapshot_create(const dev_t *devs, u32 count, uuid_t *id);
int snapshot_destroy(const uuid_t *id);
void snapshot_undo(const uuid_t *id);
int snapshot_append_storage(const uuid_t *id, dev_t dev,
			    const struct blk_snap_block_range *ranges, u32 count);
int snapshot_pin_file(const uuid_t *id, int fd);
int snapshot_take(const uuid_t *id);
int snapshot_collect(struct blk_snap_uuid __user *ids, u32 *count);
int snapshot_collect_images(const uuid_t *id, struct blk_snap_image_info __user *infos,
			    u32 *count);
int snapshot_info(const uuid_t *id, struct blk_snap_dev __user *devs,
		  struct blk_snap_snapshot_info *info);

struct snapshot *snapshot_find(const uuid_t *id);
struct snapshot *snapshot_get(struct snapshot *snapshot);
void snapshot_put(struct snapshot *snapshot);
int snapshot_wait_event(struct snapshot *snapshot, u32 timeout_ms, struct event *copy);
void snapshot_return_event(struct snapshot *snapshot, struct event *copy);
__poll_t snapshot_poll(struct snapshot *snapshot, struct file *file,
		       struct poll_table_struct *table);

#endif /* BLKSNAP_SNAPSHOT_H */
