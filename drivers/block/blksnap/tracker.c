// SPDX-License-Identifier: GPL-2.0
/*
 * Trackers: making, finding, removing
 *
 * Trackers are grouped by disk.  A device that is only tracked is not open and can go
 * away at any moment.  A reference to the inode of its block device keeps the memory,
 * so no other device gets the address.  And a device that is removed is taken out of
 * the inode hash, which shows that it has gone.  A tracker without its device stays as
 * a row until it is removed or its number is tracked anew.
 *
 * The filter is installed with the first tracked disk.  Removing it takes long, so a
 * worker does that some time after the last tracked disk has gone.
 *
 * Trackers and disks are unlinked under tracker_mutex and freed by workers: a tracker
 * after a grace period of RCU, a disk when none of its writes is in flight.
 *
 * Lock order: filter_user_mutex and tracker_mutex are not taken inside each other.
 */
#include "blksnap.h"

#include <linux/blkdev.h>
#include <linux/fs.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/rculist.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "bypass.h"
#include "cbt_map.h"
#include "compat.h"
#include "cow.h"
#include "filter.h"
#include "protect.h"
#include "settle.h"
#include "trace.h"
#include "tracker_priv.h"

/* How long the filter stays when nothing is tracked: it is often needed again. */
#define FILTER_IDLE_DELAY (HZ / 2)

/* How often a retired disk with writes in flight is looked at again. */
#define TRACKED_DISK_REAP_INTERVAL (HZ / 20)

/* Guards trackers and disks; see tracker_priv.h. */
DEFINE_MUTEX(tracker_mutex);
LIST_HEAD(tracker_rows);
/* Of its holder, from before it was locked. */
static unsigned int tracker_mutex_noio;

/* Settling, ageing, freeing.  None of it is needed to free memory. */
static struct workqueue_struct *tracker_wq;

/* Trackers and disks that are not freed yet. */
static atomic_t tracker_live = ATOMIC_INIT(0);
static DECLARE_WAIT_QUEUE_HEAD(tracker_live_wait);

/*
 * The filter, and the watch for writes of the time before tracking
 */

static void filter_idle(struct work_struct *work);

static DEFINE_MUTEX(filter_user_mutex);	/* everything here */
static DECLARE_DELAYED_WORK(filter_idle_work, filter_idle);
static unsigned int nr_filter_users;	/* tracked disks */
static unsigned int nr_young_disks;
static bool is_filtering;

static int __filter_begin(void)
{
	int ret = bypass_register(&tracker_bypass_user);

	lockdep_assert_held(&filter_user_mutex);
	if (ret)
		return ret;
	ret = filter_register();
	if (ret)
		bypass_unregister();
	is_filtering = !ret;
	return ret;
}

static int filter_use(void)
{
	int ret = 0;

	mutex_lock(&filter_user_mutex);
	if (!is_filtering)
		ret = __filter_begin();
	if (!ret && !nr_young_disks)
		ret = bypass_watch();
	if (!ret) {
		nr_filter_users++;
		nr_young_disks++;
	} else if (is_filtering && !nr_filter_users) {
		queue_delayed_work(tracker_wq, &filter_idle_work, 0);
	}
	mutex_unlock(&filter_user_mutex);
	return ret;
}

/* A tracked disk is not young any more. */
static void filter_unwatch(void)
{
	mutex_lock(&filter_user_mutex);
	if (!--nr_young_disks)
		bypass_unwatch();
	mutex_unlock(&filter_user_mutex);
}

static void filter_unuse(void)
{
	mutex_lock(&filter_user_mutex);
	if (!--nr_filter_users)
		queue_delayed_work(tracker_wq, &filter_idle_work, FILTER_IDLE_DELAY);
	mutex_unlock(&filter_user_mutex);
}

static void filter_idle(struct work_struct *work)
{
	mutex_lock(&filter_user_mutex);
	if (is_filtering && !nr_filter_users) {
		filter_unregister();
		bypass_unregister();
		is_filtering = false;
	}
	mutex_unlock(&filter_user_mutex);
}

/*
 * Disks
 */

/* Nothing under the lock may wait until a device has freed memory. */
void tracker_lock(void)
{
	unsigned int noio = memalloc_noio_save();

	mutex_lock(&tracker_mutex);
	tracker_mutex_noio = noio;
}

void tracker_unlock(void)
{
	unsigned int noio = tracker_mutex_noio;

	mutex_unlock(&tracker_mutex);
	memalloc_noio_restore(noio);
}

static void tracker_note_freed(void)
{
	if (atomic_dec_and_test(&tracker_live))
		wake_up(&tracker_live_wait);
}

static void tracked_disk_settle(struct work_struct *work)
{
	struct tracked_disk *tracked_disk = container_of(work, struct tracked_disk, settle);

	settle_disk(tracked_disk->disk, tracked_disk->queue, &tracked_disk->inflight);
	blk_put_queue(tracked_disk->queue);	/* of tracked_disk_create() */
	complete_all(&tracked_disk->settled);
}

static void tracked_disk_age(struct work_struct *work)
{
	struct tracked_disk *tracked_disk = container_of(to_delayed_work(work),
							 struct tracked_disk, age);

	WRITE_ONCE(tracked_disk->is_young, false);
	filter_unwatch();
}

static void tracked_disk_free(struct tracked_disk *tracked_disk)
{
	inflight_exit(&tracked_disk->inflight);
	resubmit_exit(&tracked_disk->resubmit);
	iput(tracked_disk->inode);		/* of tracked_disk_create() */
	kfree(tracked_disk);
}

/* It is in no list, and no reader of RCU looks at it any more. */
static void tracked_disk_reap(struct work_struct *work)
{
	struct tracked_disk *tracked_disk = container_of(to_delayed_work(work),
							 struct tracked_disk, reap);

	/* Settling closes the gate, which may hand over bios when it opens. */
	flush_work(&tracked_disk->settle);
	resubmit_drain(&tracked_disk->resubmit);
	if (!inflight_is_idle(&tracked_disk->inflight)) {
		queue_delayed_work(tracker_wq, &tracked_disk->reap, TRACKED_DISK_REAP_INTERVAL);
		return;
	}
	if (cancel_delayed_work_sync(&tracked_disk->age))
		filter_unwatch();
	tracked_disk_free(tracked_disk);
	filter_unuse();
	tracker_note_freed();
}

/*
 * Is it a device-mapper device on which another table means other data?  A table of
 * multipath only names other paths to the same data; it is the only request-based
 * target, and its tools give their devices a prefix where it is not.
 */
static bool tracker_disk_has_table(const struct gendisk *disk)
{
	return disk_is_mapped(disk) && !queue_is_mq(disk->queue) &&
	       !compat_dm_has_prefix(disk, "mpath-");
}

/* Takes over the filter_use() of the caller. */
static struct tracked_disk *tracked_disk_create(struct gendisk *disk)
{
	struct tracked_disk *tracked_disk;
	int ret;

	tracked_disk = kzalloc_obj(*tracked_disk, GFP_KERNEL);
	if (!tracked_disk)
		return ERR_PTR(-ENOMEM);
	ret = inflight_init(&tracked_disk->inflight, &tracked_disk->resubmit);
	if (!ret)
		ret = resubmit_init(&tracked_disk->resubmit, tracker_submit_again);
	if (!ret && !blk_get_queue(disk->queue))
		ret = -ENODEV;
	if (ret) {
		inflight_exit(&tracked_disk->inflight);
		resubmit_exit(&tracked_disk->resubmit);
		kfree(tracked_disk);
		return ERR_PTR(ret);
	}
	tracked_disk->queue = disk->queue;
	tracked_disk->disk = disk;
	tracked_disk->diskseq = disk->diskseq;
	tracked_disk->inode = compat_bdev_inode(disk->part0);
	ihold(tracked_disk->inode);
	tracked_disk->has_table = tracker_disk_has_table(disk);
	tracked_disk->table_sectors = get_capacity(disk);
	tracked_disk->is_young = true;
	INIT_LIST_HEAD(&tracked_disk->trackers);
	init_completion(&tracked_disk->settled);
	INIT_WORK(&tracked_disk->settle, tracked_disk_settle);
	INIT_DELAYED_WORK(&tracked_disk->age, tracked_disk_age);
	INIT_DELAYED_WORK(&tracked_disk->reap, tracked_disk_reap);
	atomic_inc(&tracker_live);
	hlist_add_head_rcu(&tracked_disk->node, tracked_disk_bucket(disk));
	queue_work(tracker_wq, &tracked_disk->settle);
	queue_delayed_work(tracker_wq, &tracked_disk->age, settle_watch * HZ);
	return tracked_disk;
}

/* tracker_mutex keeps the disk tracked. */
static struct tracked_disk *tracked_disk_lookup(struct gendisk *disk)
{
	struct tracked_disk *tracked_disk;

	lockdep_assert_held(&tracker_mutex);
	rcu_read_lock();
	tracked_disk = tracked_disk_find(disk);
	rcu_read_unlock();
	return tracked_disk;
}

/* There is a shorter path for a whole disk with one tracker. */
static void tracked_disk_find_only(struct tracked_disk *tracked_disk)
{
	struct tracker *only = list_first_entry_or_null(&tracked_disk->trackers,
							struct tracker, link);

	if (only && (!list_is_singular(&tracked_disk->trackers) ||
		     bdev_is_partition(only->bdev)))
		only = NULL;
	rcu_assign_pointer(tracked_disk->only, only);
}

static int tracked_disk_check(const struct tracked_disk *tracked_disk, dev_t dev)
{
	if (!READ_ONCE(tracked_disk->is_bypassed))
		return 0;
	return protect_refuse(dev, "a device above it writes past the filter");
}

/*
 * Trackers
 */

static struct cbt_map *tracker_map_create(dev_t dev, sector_t nr_sectors,
					  enum cbt_reason began)
{
	struct cbt_map *map = cbt_map_create(nr_sectors, tracking_block_minimum_shift,
					     tracking_block_maximum_count, began);

	if (map == ERR_PTR(-EOPNOTSUPP))
		protect_refuse(dev, "it is too large for the limits of the change map");
	return map;
}

struct cbt_map *tracker_map(const struct tracker *tracker)
{
	return rcu_dereference_protected(tracker->cbt_map, lockdep_is_held(&tracker_mutex));
}

static void tracker_free(struct work_struct *work)
{
	struct tracker *tracker = container_of(to_rcu_work(work), struct tracker, free);

	/* No bio on its way knows the disk either. */
	if (tracker->is_last)
		queue_delayed_work(tracker_wq, &tracker->tracked_disk->reap, 0);
	cbt_map_destroy(rcu_dereference_protected(tracker->cbt_map, true));
	iput(compat_bdev_inode(tracker->bdev));	/* of tracker_create() */
	kfree(tracker);
	tracker_note_freed();
}

/*
 * Ends the tracking of a row that is not claimed, and forgets what has changed.  Does
 * not wait: memory is freed when no bio can know it any more.
 */
void tracker_destroy(struct tracker *tracker)
{
	struct tracked_disk *tracked_disk = tracker->tracked_disk;

	list_del(&tracker->row);
	list_del_rcu(&tracker->link);
	tracked_disk_find_only(tracked_disk);
	tracker->is_last = list_empty(&tracked_disk->trackers);
	if (tracker->is_last)
		hlist_del_rcu(&tracked_disk->node);
	INIT_RCU_WORK(&tracker->free, tracker_free);
	queue_rcu_work(tracker_wq, &tracker->free);
}

static struct tracker *tracker_alloc(struct block_device *origin)
{
	struct tracker *tracker = kzalloc_obj(*tracker, GFP_KERNEL);
	struct cbt_map *map;

	if (!tracker)
		return ERR_PTR(-ENOMEM);
	tracker->dev = origin->bd_dev;
	tracker->start = origin->bd_start_sect;
	tracker->logical_block_bytes = bdev_logical_block_size(origin);
	tracker->nr_sectors = bdev_nr_sectors(origin);
	map = tracker_map_create(tracker->dev, tracker->nr_sectors, CBT_TRACKED);
	if (IS_ERR(map)) {
		kfree(tracker);
		return ERR_CAST(map);
	}
	RCU_INIT_POINTER(tracker->cbt_map, map);
	return tracker;
}

/* With @may_add_disk the caller has called filter_use(), which a new disk takes over. */
static struct tracker *tracker_create(struct block_device *origin, bool *may_add_disk)
{
	struct tracked_disk *tracked_disk;
	struct tracker *tracker;
	int ret;

	tracker = tracker_alloc(origin);
	if (IS_ERR(tracker))
		return tracker;
	tracked_disk = tracked_disk_lookup(origin->bd_disk);
	if (tracked_disk) {
		ret = tracked_disk_check(tracked_disk, tracker->dev);
	} else if (!*may_add_disk) {
		/* Its medium has been changed since the caller looked. */
		ret = -ENODEV;
	} else {
		/* If it is bypassed at once, the take finds out. */
		tracked_disk = tracked_disk_create(origin->bd_disk);
		ret = PTR_ERR_OR_ZERO(tracked_disk);
		*may_add_disk = ret;
	}
	if (ret)
		goto err_free;
	tracker->bdev = origin;
	ihold(compat_bdev_inode(origin));
	tracker->tracked_disk = tracked_disk;
	list_add_tail_rcu(&tracker->link, &tracked_disk->trackers);
	tracked_disk_find_only(tracked_disk);
	list_add_tail(&tracker->row, &tracker_rows);
	atomic_inc(&tracker_live);
	return tracker;

err_free:
	cbt_map_destroy(rcu_dereference_protected(tracker->cbt_map, true));
	kfree(tracker);
	return ERR_PTR(ret);
}

/* The row of this number, whether its device still exists or not; or NULL. */
struct tracker *tracker_find(dev_t dev)
{
	struct tracker *tracker;

	lockdep_assert_held(&tracker_mutex);
	list_for_each_entry(tracker, &tracker_rows, row)
		if (tracker->dev == dev)
			return tracker;
	return NULL;
}

/* -ENODEV if the device of the row has gone or has another medium.  Never waits for it. */
int tracker_check_present(const struct tracker *tracker)
{
	if (inode_unhashed(compat_bdev_inode(tracker->bdev)) ||
	    tracker->tracked_disk->diskseq != tracker->tracked_disk->disk->diskseq)
		return -ENODEV;
	return 0;
}

/* A device of another size needs a new map, and with it a new generation. */
static int tracker_resize(struct tracker *tracker)
{
	sector_t nr_sectors = bdev_nr_sectors(tracker->bdev);
	struct cbt_map *old = tracker_map(tracker), *map;

	if (nr_sectors == tracker->nr_sectors && !READ_ONCE(tracker->is_resized))
		return 0;
	if (!nr_sectors)
		return -ENODEV;
	if (cow_block_shift(nr_sectors) > COW_BLOCK_SHIFT_MAX)
		return -EOPNOTSUPP;
	map = tracker_map_create(tracker->dev, nr_sectors, CBT_RESIZED);
	if (IS_ERR(map))
		return PTR_ERR(map);
	WRITE_ONCE(tracker->is_resized, false);
	rcu_assign_pointer(tracker->cbt_map, map);
	WRITE_ONCE(tracker->nr_sectors, nr_sectors);
	synchronize_rcu_expedited();
	cbt_map_destroy(old);
	trace_blksnap_generation_end(tracker->dev, CBT_RESIZED);
	return 0;
}

/*
 * Checks the device of a row, and its size, without waiting for it.  A member of a
 * snapshot keeps its map: that is refreshed at the take.  Returns 0; -ENODEV if the
 * device has gone; -EOPNOTSUPP if it is too large now; -ENOMEM.
 */
int tracker_look(struct tracker *tracker)
{
	int ret = tracker_check_present(tracker);

	if (!ret && !tracker->is_claimed)
		ret = tracker_resize(tracker);
	return ret;
}

static struct tracker *tracker_find_or_start(struct block_device *origin, bool *is_new,
					     bool *may_add_disk)
{
	struct tracker *old = tracker_find(origin->bd_dev), *tracker;
	int ret;

	if (old && old->is_claimed)
		return ERR_PTR(-EALREADY);
	*is_new = !old || old->bdev != origin || tracker_check_present(old);
	if (*is_new) {
		tracker = tracker_create(origin, may_add_disk);
		/* Whatever was tracked under this number is gone. */
		if (old && !IS_ERR(tracker))
			tracker_destroy(old);
		return tracker;
	}
	ret = tracked_disk_check(old->tracked_disk, old->dev);
	if (!ret)
		ret = tracker_resize(old);
	return ret ? ERR_PTR(ret) : old;
}

/**
 * tracker_claim() - make a device a member of a snapshot, tracked from now on
 * @origin:	open block device, not empty, which protect_check() allows
 * @is_new:	out: it was not tracked before
 *
 * Return: its tracker, claimed until tracker_unclaim(); or ERR_PTR(): -EALREADY if it is
 *	   in another snapshot; -EOPNOTSUPP if it is too large, or written to past the
 *	   filter; -ENODEV if it is going away; an error of filter_register() or
 *	   bypass_watch(); -ENOMEM.
 */
struct tracker *tracker_claim(struct block_device *origin, bool *is_new)
{
	bool may_add_disk = false;
	struct tracker *tracker;
	int ret;

	tracker_lock();
	if (!tracked_disk_lookup(origin->bd_disk)) {
		/* Not under the lock, because it takes long. */
		tracker_unlock();
		ret = filter_use();
		if (ret)
			return ERR_PTR(ret);
		may_add_disk = true;
		tracker_lock();
	}
	tracker = tracker_find_or_start(origin, is_new, &may_add_disk);
	if (!IS_ERR(tracker))
		tracker->is_claimed = true;
	tracker_unlock();
	if (may_add_disk) {
		/* Another call has added the disk, or there was an error. */
		filter_unwatch();
		filter_unuse();
	}
	return tracker;
}

/* The tracking goes on, unless @is_undone: then all is as before the claim. */
void tracker_unclaim(struct tracker *tracker, bool is_undone)
{
	tracker_lock();
	tracker->is_claimed = false;
	if (is_undone)
		tracker_destroy(tracker);
	tracker_unlock();
}

/* Has settle_disk() returned? */
bool tracker_has_settled(struct tracker *tracker)
{
	return completion_done(&tracker->tracked_disk->settled);
}

struct gendisk *tracker_disk(const struct tracker *tracker)
{
	return tracker->tracked_disk->disk;
}

/* Where the origin begins on its disk, 0 for a whole disk. */
sector_t tracker_start_sector(const struct tracker *tracker)
{
	return tracker->start;
}

/* As of the claim or the last tracker_refresh(). */
sector_t tracker_nr_sectors(const struct tracker *tracker)
{
	return tracker->nr_sectors;
}

unsigned int tracker_logical_block_bytes(const struct tracker *tracker)
{
	return tracker->logical_block_bytes;
}

/* Valid until the claim ends or tracker_refresh() is called. */
struct cbt_map *tracker_cbt_map(const struct tracker *tracker)
{
	/* Only the owner of the claim replaces the map of a claimed tracker. */
	return rcu_dereference_protected(tracker->cbt_map, true);
}

/* Shared by all trackers on the disk, as is tracker_resubmit(). */
struct inflight *tracker_inflight(const struct tracker *tracker)
{
	return &tracker->tracked_disk->inflight;
}

struct resubmit *tracker_resubmit(const struct tracker *tracker)
{
	return &tracker->tracked_disk->resubmit;
}

/**
 * tracker_refresh() - see whether a device is still what is tracked
 * @tracker:	claimed by the caller, without an engine
 * @origin:	device that has the tracker's number now, open
 *
 * If the capacity has changed, a new change map begins.
 *
 * Return: 0; -ENODEV if it is another device; -EOPNOTSUPP if it is too large now,
 *	   or is written to past the filter; -ENOMEM.
 */
int tracker_refresh(struct tracker *tracker, const struct block_device *origin)
{
	int ret;

	tracker_lock();
	ret = tracker->bdev == origin ? tracker_check_present(tracker) : -ENODEV;
	if (!ret)
		ret = tracked_disk_check(tracker->tracked_disk, tracker->dev);
	if (!ret)
		ret = tracker_resize(tracker);
	tracker_unlock();
	return ret;
}

/*
 * The switch: begins an interval, and lets an engine work until tracker_retire().  The
 * gate is closed, and tracker_lock() held.  Neither allocates nor sleeps.
 */
void tracker_publish(struct tracker *tracker, struct cow *cow)
{
	struct cbt_map *map = tracker_map(tracker);
	struct cbt_map_info info;

	lockdep_assert_held(&tracker_mutex);
	if (cbt_map_switch(map)) {
		cbt_map_info(map, &info);
		trace_blksnap_generation_end(tracker->dev, info.began);
	}
	rcu_assign_pointer(tracker->cow, cow);
	/* Pairs with tracker_found_request(): one of us sees the other's. */
	smp_mb();
	if (READ_ONCE(tracker->tracked_disk->is_bypassed))
		cow_lose(cow, -EOPNOTSUPP);
}

/* A grace period of RCU later no bio on its way through the filter knows the engine. */
void tracker_retire(struct tracker *tracker)
{
	RCU_INIT_POINTER(tracker->cow, NULL);
}

int tracker_module_init(void)
{
	/* out-of-tree: begin */
	if (COMPAT_LACKS_CGROUP_PUNT)
		pr_warn("without BLK_CGROUP_PUNT_BIO in the kernel, a cgroup that has to wait may delay held writes of others\n");
	/* out-of-tree: end */
	tracker_wq = alloc_workqueue("blksnap_track", WQ_UNBOUND, 0);
	return tracker_wq ? 0 : -ENOMEM;
}

/*
 * Stops tracking everything; there is no snapshot.  A write in flight comes back
 * through the code of this module, so unloading waits for it, however long its device
 * takes.
 */
void tracker_module_exit(void)
{
	struct tracker *tracker, *next;

	tracker_lock();
	list_for_each_entry_safe(tracker, next, &tracker_rows, row)
		tracker_destroy(tracker);
	tracker_unlock();
	/* In pieces: a stuck device is no reason to report a hung task. */
	while (!wait_event_timeout(tracker_live_wait, !atomic_read(&tracker_live), 10 * HZ))
		pr_warn_ratelimited("waiting for writes in flight before unloading\n");
	mod_delayed_work(tracker_wq, &filter_idle_work, 0);
	flush_delayed_work(&filter_idle_work);
	destroy_workqueue(tracker_wq);
}
