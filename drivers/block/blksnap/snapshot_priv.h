/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A snapshot's inside, shared by snapshot.c, snapshot_storage.c, snapshot_take.c
 *
 * snapshot.c makes, finds, lists and destroys snapshots; snapshot_storage.c
 * checks what is appended and cuts it to the engines' blocks; snapshot_take.c
 * gives the members engines and images, and takes them away again.
 *
 * Lock order: snapshot->lock -> snapshots_lock -> diff_storage->lock.
 */
#ifndef BLKSNAP_SNAPSHOT_PRIV_H
#define BLKSNAP_SNAPSHOT_PRIV_H

#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/types.h>
#include <linux/uuid.h>

#include "compat.h"
#include "event_queue.h"
#include "snapshot.h"

struct cow;
struct diff_storage;
struct snapimage;
struct tracker;

/**
 * enum snapshot_state - what there is of a snapshot
 * @SNAPSHOT_CREATED: claimed trackers
 * @SNAPSHOT_TAKING: engines and images, not all of them at work yet
 * @SNAPSHOT_TAKEN: engines and images
 * @SNAPSHOT_DESTROYED: on its way out, found by nobody
 */
enum snapshot_state {
	SNAPSHOT_CREATED,
	SNAPSHOT_TAKING,
	SNAPSHOT_TAKEN,
	SNAPSHOT_DESTROYED,
};

/**
 * struct snapshot_member - one device of a snapshot
 * @dev:	its number, as user space named it
 * @tracker:	claimed as long as the snapshot is in the list
 * @is_new:	the device was not tracked before
 * @origin:	open while there is an engine
 * @cow:	the engine, with a reference; NULL in SNAPSHOT_CREATED
 * @image:	NULL in SNAPSHOT_CREATED
 */
struct snapshot_member {
	dev_t dev;
	struct tracker *tracker;
	bool is_new;
	struct bdev_ref origin;
	struct cow *cow;
	struct snapimage *image;
};

/**
 * struct snapshot - some devices at one instant
 * @kref:	one of the list, until it is destroyed, one of each ioctl that
 *		works on it, and one of each open control file that watches it
 * @id:		what user space calls it
 * @events:	has a lock of its own
 * @low_event:	the one low_free_space event
 * @storage:	extended under @lock and snapshots_lock
 * @lock:	serialises append, take and destroy
 * @storage_devices: of struct storage_device; protected by @lock
 * @link:	in snapshots; protected by snapshots_lock
 * @state:	changed under @lock and snapshots_lock, read under either
 * @nr_members:	constant
 * @members:	filled under @lock; images are read under snapshots_lock by those
 *		who find it SNAPSHOT_TAKEN
 */
struct snapshot {
	struct kref kref;
	uuid_t id;
	struct event_queue events;
	struct event low_event;
	struct diff_storage *storage;

	struct mutex lock;		/* append, take and destroy */
	struct list_head storage_devices;

	struct list_head link;
	enum snapshot_state state;

	u32 nr_members;
	struct snapshot_member members[];
};

extern struct mutex snapshots_lock;	/* the list, the states, all storage ranges */
extern struct list_head snapshots;

/* snapshot.c */
struct snapshot *snapshot_find_locked(const uuid_t *id, int errno_unknown);
void snapshot_unlock_put(struct snapshot *snapshot);
void snapshot_set_state(struct snapshot *snapshot, enum snapshot_state state);

/* snapshot_storage.c */
int snapshot_exclude_storage(struct snapshot_member *member, struct diff_storage *storage);
void snapshot_close_storage_devices(struct snapshot *snapshot);

/* snapshot_take.c */
void snapshot_stop_images(struct snapshot *snapshot);
void snapshot_shut_down_engines(struct snapshot *snapshot, bool is_published);
void snapshot_clear_members(struct snapshot *snapshot);

#endif /* BLKSNAP_SNAPSHOT_PRIV_H */
