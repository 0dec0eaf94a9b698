/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A snapshot's inside, shared by snapshot.c, snapshot_list.c, snapshot_storage.c,
 * storage_cut.c, storage_device.c, snapshot_take.c, inspect.c
 *
 * snapshot.c is the entrance: it makes, finds, locks and ends snapshots, and calls the
 * last two.  snapshot_list.c tells what there is, and finds snapshots through it;
 * inspect.c tells more of it in debugfs.
 * snapshot_storage.c checks what is appended and makes it storage, with storage_cut.c for
 * what of it may be used and storage_device.c for where it lies; snapshot_take.c gives the members
 * engines and images, and takes them away again.
 *
 * A snapshot's lock is held while the snapshot is taken, for as long as its devices
 * need, but by no call about another snapshot.  snapshots_lock is held for moments,
 * and memory is reclaimed under it without I/O only.
 *
 * Lock order: snapshot->lock -> snapshots_lock -> diff_storage->lock or cow->lock, and
 * snapshot->lock -> tracker_lock().
 */
#ifndef BLKSNAP_SNAPSHOT_PRIV_H
#define BLKSNAP_SNAPSHOT_PRIV_H

#include <linux/completion.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/lockdep.h>
#include <linux/mutex.h>
#include <linux/types.h>
#include <linux/uuid.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <linux/blksnap.h>

#include "compat.h"
#include "cow.h"
#include "diff_storage.h"
#include "event_queue.h"
#include "snapshot.h"

struct pid;
struct snapimage;
struct take;
struct tracker;

/**
 * enum snapshot_state - what a snapshot has
 * @SNAPSHOT_CREATED: claimed trackers
 * @SNAPSHOT_TAKING: engines and images, not all of them working yet
 * @SNAPSHOT_TAKEN: engines and images
 */
enum snapshot_state {
	SNAPSHOT_CREATED,
	SNAPSHOT_TAKING,
	SNAPSHOT_TAKEN,
};

/**
 * struct snapshot_member - one device of a snapshot
 * @dev:	its number, as user space named it
 * @tracker:	claimed while the snapshot is in the list
 * @is_new:	the device was not tracked before
 * @is_frozen:	everything on it was frozen at the take
 * @nr_own_sectors: of it, appended as storage; protected by the snapshot's lock
 * @origin:	open while there is an engine
 * @cow:	the engine, with a reference; NULL in SNAPSHOT_CREATED
 * @image:	NULL in SNAPSHOT_CREATED
 */
struct snapshot_member {
	dev_t dev;
	struct tracker *tracker;
	bool is_new;
	bool is_frozen;
	u64 nr_own_sectors;
	struct bdev_ref origin;
	struct cow *cow;
	struct snapimage *image;
};

/* A device with storage on it, open for writing; one per device and snapshot. */
struct storage_device {
	struct list_head link;
	dev_t dev;
	struct bdev_ref ref;
};

/**
 * struct snapshot - some devices at one instant
 * @kref:	held by the list until the snapshot has ended, by each ioctl that works
 *		on it, and by each open control file that watches it
 * @id:		known to user space
 * @creator:	the process that made it, with a reference
 * @creator_comm: its name then, padded with zeros
 * @created_ns:	when, since the boot, suspended time included
 * @events:	has a lock of its own
 * @low_event:	the one low_free_space event
 * @storage:	extended under @lock and snapshots_lock
 * @queues:	of its engines
 * @lock:	serialises append, take and the end; a take releases it while it waits
 *		for writes in flight
 * @is_draining: a take does so; changed under @lock
 * @drained:	woken when @is_draining is cleared
 * @storage_devices: of struct storage_device; protected by @lock
 * @pins:	files that the storage lies in, see storage_pin.h; protected by @lock
 * @is_ending:	no call finds it any more, and those at work give up; set under
 *		snapshots_lock, never cleared
 * @is_waiting_io: the end waits for what the engines have asked their devices
 * @is_undone:	devices that were not tracked before are not to be tracked after
 * @end:	takes everything down
 * @ended:	@end is done
 * @link:	in snapshots; protected by snapshots_lock
 * @state:	changed under @lock and snapshots_lock, read under either
 * @nr_members:	constant
 * @members:	filled under @lock; images are read under snapshots_lock by calls
 *		that find it SNAPSHOT_TAKEN
 */
struct snapshot {
	struct kref kref;
	uuid_t id;
	struct pid *creator;
	char creator_comm[BLK_SNAP_COMM_LEN];
	u64 created_ns;
	struct event_queue events;
	struct event low_event;
	struct diff_storage *storage;
	struct cow_queues queues;

	struct mutex lock;		/* append, take and the end */
	bool is_draining;
	wait_queue_head_t drained;
	struct list_head storage_devices;
	struct list_head pins;

	bool is_ending;
	bool is_waiting_io;
	bool is_undone;
	struct work_struct end;
	struct completion ended;

	struct list_head link;
	enum snapshot_state state;

	u32 nr_members;
	struct snapshot_member members[];
};

extern struct mutex snapshots_lock;	/* the list, the states, all storage ranges */
extern struct list_head snapshots;

static inline void snapshot_set_state(struct snapshot *snapshot, enum snapshot_state state)
{
	lockdep_assert_held(&snapshot->lock);
	mutex_lock(&snapshots_lock);
	snapshot->state = state;
	mutex_unlock(&snapshots_lock);
}

/* storage_device.c */
int storage_refuse(dev_t dev, int error, const char *reason);
struct storage_device *storage_device_open(struct snapshot *snapshot, dev_t dev);
void storage_device_close(struct storage_device *device);
void snapshot_close_storage_devices(struct snapshot *snapshot);

/**
 * struct storage_pieces - what the ranges of an append are cut into
 * @ranges:	the first @max_ranges pieces
 * @max_ranges:	room in @ranges
 * @nr_ranges:	pieces so far
 */
struct storage_pieces {
	struct diff_range *ranges;
	size_t max_ranges;
	size_t nr_ranges;
};

/* As user space named it. */
static inline struct diff_range storage_user_range(struct block_device *bdev,
						   const struct blk_snap_block_range *range)
{
	return (struct diff_range){
		.bdev = bdev,
		.sector = range->sector_offset,
		.nr_sectors = range->sector_count,
	};
}

/* storage_cut.c */
int snapshot_cut_ranges(struct snapshot *snapshot, struct block_device *bdev,
			const struct blk_snap_block_range *ranges, u32 count,
			struct storage_pieces *pieces);

/* snapshot_storage.c */
bool member_clip(const struct snapshot_member *member, sector_t *start, sector_t *end);
int snapshot_add_storage(struct snapshot *snapshot, struct storage_device **device,
			 const struct blk_snap_block_range *ranges, u32 count);
int snapshot_exclude_storage(struct snapshot_member *member, struct diff_storage *storage);

/* snapshot_take.c */
struct take *take_open(struct snapshot *snapshot);
void take_close(struct take *take);
int take_run(struct take *take, bool *is_stuck);
void snapshot_take_down(struct snapshot *snapshot);

#endif /* BLKSNAP_SNAPSHOT_PRIV_H */
