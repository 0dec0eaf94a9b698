// SPDX-License-Identifier: GPL-2.0
/*
 * Trackers, and the verdict on every bio
 *
 * Trackers are grouped by disk.  A disk is known by its address and its
 * sequence number, which is never used twice; so no reference to it is held,
 * and a device that is only tracked can go away at any moment.  Its tracker
 * stays as a row without a device until it is removed or its number is tracked
 * anew.
 *
 * A write is served to every tracker on its disk whose range it touches: one to
 * a partition is seen by the tracker of the whole disk, and the other way round.
 *
 * The verdict takes no lock, only rcu_read_lock().  The list of disks, the
 * trackers and the control side of the change maps belong to tracker_mutex.
 */
#include "blksnap.h"

#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/hashtable.h>
#include <linux/mutex.h>
#include <linux/rculist.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include "bypass.h"
#include "cbt_map.h"
#include "compat.h"
#include "cow.h"
#include "filter.h"
#include "inflight.h"
#include "protect.h"
#include "resubmit.h"
#include "settle.h"
#include "tracker_priv.h"

/* Enough for the disks of a large server in short chains. */
#define TRACKED_DISK_HASH_BITS 8

static DEFINE_HASHTABLE(tracked_disks, TRACKED_DISK_HASH_BITS);
/* Guards trackers and disks; see tracker_priv.h. */
DEFINE_MUTEX(tracker_mutex);
LIST_HEAD(tracker_rows);

/*
 * The verdict
 */

static noinline void tracked_disk_break(struct tracked_disk *tracked_disk, int error)
{
	struct tracker *tracker;

	list_for_each_entry_rcu(tracker, &tracked_disk->trackers, link) {
		struct cow *cow = rcu_dereference(tracker->cow);

		if (cow)
			cow_fail(cow, error);
	}
}

static struct hlist_head *tracked_disk_bucket(const struct gendisk *disk)
{
	return &tracked_disks[hash_min((unsigned long)disk, TRACKED_DISK_HASH_BITS)];
}

/* Under rcu_read_lock(), for engines are retired without tracker_mutex. */
static inline struct tracked_disk *tracked_disk_find(struct gendisk *disk)
{
	struct tracked_disk *tracked_disk;

	hlist_for_each_entry_rcu(tracked_disk, tracked_disk_bucket(disk), node) {
		if (unlikely(tracked_disk->disk != disk))
			continue;
		if (likely(tracked_disk->diskseq == disk->diskseq))
			return tracked_disk;
		/*
		 * A disk got a new sequence number while an engine has it open:
		 * its medium has been changed.  (Without an engine, it may as
		 * well be another disk.)
		 */
		tracked_disk_break(tracked_disk, -ENOMEDIUM);
	}
	return NULL;
}

/*
 * Is this disk surely not tracked?  So it is for most disks.  Needs no RCU:
 * nothing is dereferenced, and settle_submitters() waits for those who were told
 * so a moment before.
 */
static bool tracked_disk_is_unknown(const struct gendisk *disk)
{
	return hlist_empty(tracked_disk_bucket(disk));
}

static bool tracker_touched(const struct tracker *tracker, sector_t sector,
			    sector_t nr_sectors)
{
	return sector < tracker->start + READ_ONCE(tracker->nr_sectors) &&
	       sector + nr_sectors > tracker->start;
}

static void tracker_mark(struct tracker *tracker, sector_t sector, sector_t nr_sectors)
{
	struct cbt_map *map = rcu_dereference(tracker->cbt_map);

	if (sector < tracker->start) {
		nr_sectors -= tracker->start - sector;
		sector = tracker->start;
	}
	cbt_map_mark(map, sector - tracker->start, nr_sectors);
}

/* Nobody may submit or wait on behalf of these. */
static bool tracker_must_defer(const struct bio *bio)
{
	return current->bio_list || (bio->bi_opf & REQ_NOWAIT);
}

static enum filter_verdict tracked_disk_judge(struct tracked_disk *tracked_disk,
					      struct bio *bio)
{
	sector_t sector = filter_bio_sector(bio);
	struct tracker *tracker;

	if (inflight_counts(tracked_disk->inflight, bio))
		return FILTER_PASS;
	/* First, so that a take switches maps and engines while nobody looks. */
	if (inflight_keep(tracked_disk->inflight, bio))
		return FILTER_TAKEN;

	list_for_each_entry_rcu(tracker, &tracked_disk->trackers, link) {
		struct cow *cow;

		if (!tracker_touched(tracker, sector, bio_sectors(bio)))
			continue;
		tracker_mark(tracker, sector, bio_sectors(bio));
		cow = rcu_dereference(tracker->cow);
		if (!cow || !cow_must_hold(cow, bio, sector))
			continue;
		if (!tracker_must_defer(bio))
			return FILTER_HOLD;
		resubmit_bio(&tracked_disk->resubmit, bio);
		return FILTER_TAKEN;
	}
	return inflight_count(tracked_disk->inflight, bio) ? FILTER_PASS : FILTER_TAKEN;
}

/* Apart from filter_judge(), so that others do not pay for saving its registers. */
static noinline enum filter_verdict tracker_judge(struct bio *bio)
{
	enum filter_verdict verdict = FILTER_PASS;
	struct tracked_disk *tracked_disk;

	if (!bio_sectors(bio) || cow_owns_write(bio))
		return FILTER_PASS;
	rcu_read_lock();
	tracked_disk = tracked_disk_find(bio->bi_bdev->bd_disk);
	if (tracked_disk)
		verdict = tracked_disk_judge(tracked_disk, bio);
	rcu_read_unlock();
	return verdict;
}

/**
 * filter_judge() - decide what becomes of a bio
 * @bio:	any bio, on its way to any disk
 *
 * Context: The filter's callback.
 * Return: see filter.h.
 */
enum filter_verdict filter_judge(struct bio *bio)
{
	if (!op_is_write(bio_op(bio)) || tracked_disk_is_unknown(bio->bi_bdev->bd_disk))
		return FILTER_PASS;
	return tracker_judge(bio);
}

/* The engine that wants this write held, referenced, or NULL. */
static struct cow *tracker_get_holder(struct bio *bio)
{
	sector_t sector = filter_bio_sector(bio);
	struct tracked_disk *tracked_disk;
	struct tracker *tracker;
	struct cow *holder = NULL;

	rcu_read_lock();
	tracked_disk = tracked_disk_find(bio->bi_bdev->bd_disk);
	if (!tracked_disk)
		goto out_unlock;
	list_for_each_entry_rcu(tracker, &tracked_disk->trackers, link) {
		struct cow *cow = rcu_dereference(tracker->cow);

		if (cow && tracker_touched(tracker, sector, bio_sectors(bio)) &&
		    cow_must_hold(cow, bio, sector)) {
			holder = cow_get(cow);
			break;
		}
	}
out_unlock:
	rcu_read_unlock();
	return holder;
}

/**
 * filter_hold() - hold a write that filter_judge() wants held
 * @bio:	the write, which is ours now
 *
 * Context: That of the submitter, who may sleep.
 */
void filter_hold(struct bio *bio)
{
	struct cow *cow = tracker_get_holder(bio);
	bool is_sync = op_is_sync(bio->bi_opf);

	if (!cow) {
		/* The reason has gone since the verdict; judge it again. */
		resubmit_now(bio);
		return;
	}
	if (cow_hold(cow, bio))
		resubmit_now(bio);
	else
		cow_throttle(cow, is_sync);
	cow_put(cow);
}

static void tracker_resubmit_bio(struct bio *bio)
{
	struct cow *cow = tracker_get_holder(bio);

	if (!cow || cow_hold(cow, bio))
		resubmit_for_cgroup(bio);
	if (cow)
		cow_put(cow);
}

/* A write that could not be held is about to reach this disk. */
static void tracker_bypassed(struct gendisk *disk)
{
	struct tracked_disk *tracked_disk;

	rcu_read_lock();
	tracked_disk = tracked_disk_find(disk);
	if (tracked_disk && !READ_ONCE(tracked_disk->is_bypassed)) {
		WRITE_ONCE(tracked_disk->is_bypassed, true);
		/* Pairs with tracker_publish(): one of us sees the other's. */
		smp_mb();
		tracked_disk_break(tracked_disk, -EOPNOTSUPP);
	}
	rcu_read_unlock();
}

static int tracker_begin_filtering(void)
{
	int ret = bypass_register(tracker_bypassed);

	if (ret)
		return ret;
	ret = filter_register();
	if (ret)
		bypass_unregister();
	return ret;
}

static void tracker_end_filtering(void)
{
	filter_unregister();
	bypass_unregister();
}

/*
 * Disks and trackers, under tracker_mutex
 */

static struct tracked_disk *tracked_disk_create(struct gendisk *disk)
{
	struct tracked_disk *tracked_disk;
	int ret = -ENOMEM;

	tracked_disk = kzalloc(sizeof(*tracked_disk), GFP_KERNEL);
	if (!tracked_disk)
		return ERR_PTR(ret);
	tracked_disk->inflight = inflight_create();
	if (!tracked_disk->inflight)
		goto err_free_disk;
	if (hash_empty(tracked_disks)) {
		ret = tracker_begin_filtering();
		if (ret)
			goto err_destroy_inflight;
	}
	tracked_disk->disk = disk;
	tracked_disk->diskseq = disk->diskseq;
	INIT_LIST_HEAD(&tracked_disk->trackers);
	resubmit_init(&tracked_disk->resubmit, tracker_resubmit_bio);
	hash_add_rcu(tracked_disks, &tracked_disk->node, (unsigned long)disk);
	return tracked_disk;

err_destroy_inflight:
	inflight_destroy(tracked_disk->inflight);
err_free_disk:
	kfree(tracked_disk);
	return ERR_PTR(ret);
}

/* Waits for readers of RCU, so what was taken off the lists before is unseen. */
static void tracked_disk_put(struct tracked_disk *tracked_disk)
{
	bool is_last = list_empty(&tracked_disk->trackers);

	if (is_last)
		hash_del_rcu(&tracked_disk->node);
	synchronize_rcu();
	if (!is_last)
		return;
	resubmit_drain(&tracked_disk->resubmit);
	inflight_destroy(tracked_disk->inflight);
	kfree(tracked_disk);
	if (hash_empty(tracked_disks))
		tracker_end_filtering();
}

static int tracked_disk_check(const struct tracked_disk *tracked_disk, dev_t dev)
{
	if (!tracked_disk || !READ_ONCE(tracked_disk->is_bypassed))
		return 0;
	return protect_refuse(dev, "a device above it writes past the filter");
}

static struct cbt_map *tracker_map_create(dev_t dev, sector_t nr_sectors)
{
	struct cbt_map *map = cbt_map_create(nr_sectors, tracking_block_minimum_shift,
					     tracking_block_maximum_count);

	if (map == ERR_PTR(-EOPNOTSUPP))
		protect_refuse(dev, "it is too large for the limits of the change map");
	return map;
}

/**
 * tracker_map() - change map of a tracker
 * @tracker:	any row
 *
 * Context: tracker_mutex held.
 * Return: the map.
 */
struct cbt_map *tracker_map(const struct tracker *tracker)
{
	return rcu_dereference_protected(tracker->cbt_map, lockdep_is_held(&tracker_mutex));
}

static struct tracker *tracker_create(struct block_device *origin)
{
	struct tracked_disk *tracked_disk;
	struct tracker *tracker;
	struct cbt_map *map;
	int ret = -ENOMEM;

	tracker = kzalloc(sizeof(*tracker), GFP_KERNEL);
	if (!tracker)
		return ERR_PTR(ret);
	tracker->dev = origin->bd_dev;
	tracker->start = origin->bd_start_sect;
	tracker->logical_block_bytes = bdev_logical_block_size(origin);
	tracker->nr_sectors = bdev_nr_sectors(origin);
	map = tracker_map_create(tracker->dev, tracker->nr_sectors);
	if (IS_ERR(map)) {
		ret = PTR_ERR(map);
		goto err_free_tracker;
	}
	RCU_INIT_POINTER(tracker->cbt_map, map);

	rcu_read_lock();
	tracked_disk = tracked_disk_find(origin->bd_disk);
	rcu_read_unlock();
	/* tracker_mutex keeps it. */
	ret = tracked_disk_check(tracked_disk, tracker->dev);
	if (ret)
		goto err_destroy_map;
	if (!tracked_disk)
		tracked_disk = tracked_disk_create(origin->bd_disk);
	if (IS_ERR(tracked_disk)) {
		ret = PTR_ERR(tracked_disk);
		goto err_destroy_map;
	}
	tracker->tracked_disk = tracked_disk;
	list_add_tail_rcu(&tracker->link, &tracked_disk->trackers);
	list_add_tail(&tracker->row, &tracker_rows);
	return tracker;

err_destroy_map:
	cbt_map_destroy(map);
err_free_tracker:
	kfree(tracker);
	return ERR_PTR(ret);
}

/**
 * tracker_destroy() - stop tracking and forget what has changed
 * @tracker:	row that is not claimed
 *
 * Context: tracker_mutex held; sleeps.
 */
void tracker_destroy(struct tracker *tracker)
{
	list_del(&tracker->row);
	list_del_rcu(&tracker->link);
	tracked_disk_put(tracker->tracked_disk);
	cbt_map_destroy(tracker_map(tracker));
	kfree(tracker);
}

/**
 * tracker_find() - find a tracker by its device's number
 * @dev:	number of the origin
 *
 * Context: tracker_mutex held.
 * Return: the tracker, whether its device still exists or not; or NULL.
 */
struct tracker *tracker_find(dev_t dev)
{
	struct tracker *tracker;

	lockdep_assert_held(&tracker_mutex);
	list_for_each_entry(tracker, &tracker_rows, row)
		if (tracker->dev == dev)
			return tracker;
	return NULL;
}

/* Is this device, just opened under the tracker's number, what it tracks? */
static bool tracker_follows(const struct tracker *tracker, const struct block_device *bdev)
{
	return tracker->tracked_disk->disk == bdev->bd_disk &&
	       tracker->tracked_disk->diskseq == bdev->bd_disk->diskseq &&
	       tracker->start == bdev->bd_start_sect;
}

/* Opens the device that a tracker follows; -ENODEV: it has gone, -ENOMEM. */
static int tracker_open(const struct tracker *tracker, struct bdev_ref *ref)
{
	int ret = bdev_ref_open(ref, tracker->dev, false);

	if (ret)
		return ret == -ENOMEM ? ret : -ENODEV;
	if (tracker_follows(tracker, ref->bdev))
		return 0;
	bdev_ref_close(ref);
	return -ENODEV;
}

/* A device of another size needs a new map, and with it a new generation. */
static int tracker_resize(struct tracker *tracker, sector_t nr_sectors)
{
	struct cbt_map *old = tracker_map(tracker), *map;

	if (nr_sectors == tracker->nr_sectors)
		return 0;
	if (!nr_sectors)
		return -ENODEV;
	if (cow_block_shift(nr_sectors) > COW_BLOCK_SHIFT_MAX)
		return -EOPNOTSUPP;
	map = tracker_map_create(tracker->dev, nr_sectors);
	if (IS_ERR(map))
		return PTR_ERR(map);
	rcu_assign_pointer(tracker->cbt_map, map);
	WRITE_ONCE(tracker->nr_sectors, nr_sectors);
	synchronize_rcu();
	cbt_map_destroy(old);
	return 0;
}

/**
 * tracker_check_present() - is there still the device that a tracker follows?
 * @tracker:	any row
 *
 * Context: tracker_mutex held; sleeps.
 * Return: 0; -ENODEV if it has gone, or its number means another device now;
 *	   -ENOMEM.
 */
int tracker_check_present(const struct tracker *tracker)
{
	struct bdev_ref ref;
	int ret = tracker_open(tracker, &ref);

	if (!ret)
		bdev_ref_close(&ref);
	return ret;
}

/**
 * tracker_refresh_locked() - tracker_refresh() for who holds the mutex
 * @tracker:	row without an engine
 *
 * Context: tracker_mutex held; sleeps.
 * Return: as tracker_refresh().
 */
int tracker_refresh_locked(struct tracker *tracker)
{
	struct bdev_ref ref;
	int ret = tracker_open(tracker, &ref);

	if (ret)
		return ret;
	ret = tracker_resize(tracker, bdev_nr_sectors(ref.bdev));
	bdev_ref_close(&ref);
	return ret;
}

static struct tracker *tracker_find_or_start(struct block_device *origin)
{
	struct tracker *tracker = tracker_find(origin->bd_dev);
	int ret;

	if (!tracker)
		return tracker_create(origin);
	if (tracker->is_claimed)
		return ERR_PTR(-EALREADY);
	if (!tracker_follows(tracker, origin)) {
		/* What was tracked under this number is gone. */
		tracker_destroy(tracker);
		return tracker_create(origin);
	}
	ret = tracked_disk_check(tracker->tracked_disk, tracker->dev);
	if (!ret)
		ret = tracker_resize(tracker, bdev_nr_sectors(origin));
	return ret ? ERR_PTR(ret) : tracker;
}

/**
 * tracker_claim() - make a device a member of a snapshot, tracked from now on
 * @dev:	number of the origin
 * @is_new:	out: it was not tracked before, and writes of before may still be
 *		under way, see tracker_settle()
 *
 * Return: its tracker, claimed until tracker_unclaim().  -EALREADY: in another
 *	   snapshot; -EOPNOTSUPP: cannot be protected, see protect_check(), or is
 *	   written to past the filter; -ENODEV or -ENXIO: no such device, or nothing in
 *	   it; -EBUSY: no filter, see filter_register(); -ENOMEM.
 */
struct tracker *tracker_claim(dev_t dev, bool *is_new)
{
	struct tracker *tracker;
	bool was_tracked;
	struct bdev_ref ref;
	int ret;

	ret = bdev_ref_open(&ref, dev, false);
	if (ret)
		return ERR_PTR(ret);
	ret = bdev_nr_sectors(ref.bdev) ? protect_check(ref.bdev) : -ENXIO;
	if (ret) {
		tracker = ERR_PTR(ret);
		goto out_close;
	}
	mutex_lock(&tracker_mutex);
	tracker = tracker_find(dev);
	was_tracked = tracker && tracker_follows(tracker, ref.bdev);
	tracker = tracker_find_or_start(ref.bdev);
	if (!IS_ERR(tracker)) {
		tracker->is_claimed = true;
		*is_new = !was_tracked;
	}
	mutex_unlock(&tracker_mutex);

out_close:
	bdev_ref_close(&ref);
	return tracker;
}

/**
 * tracker_settle() - wait for the writes submitted before the tracking began
 * @tracker:	claimed by the caller, settle_submitters() called since
 *
 * Return: 0; -ENODEV: the device has gone; -ETIMEDOUT: it does not complete what
 *	   it was asked before; -ENOMEM.
 */
int tracker_settle(struct tracker *tracker)
{
	struct bdev_ref ref;
	int ret;

	mutex_lock(&tracker_mutex);
	ret = tracker_open(tracker, &ref);
	if (!ret) {
		ret = settle_writes(ref.bdev, tracker_inflight(tracker));
		bdev_ref_close(&ref);
	}
	mutex_unlock(&tracker_mutex);
	return ret;
}

/**
 * tracker_unclaim() - end the membership
 * @tracker:	claimed by the caller
 * @is_undone:	as if the claim had not been made: end the tracking, too, which
 *		goes on otherwise
 */
void tracker_unclaim(struct tracker *tracker, bool is_undone)
{
	mutex_lock(&tracker_mutex);
	tracker->is_claimed = false;
	if (is_undone)
		tracker_destroy(tracker);
	mutex_unlock(&tracker_mutex);
}

/**
 * tracker_dev() - number of the origin
 * @tracker:	claimed by the caller
 *
 * Return: the number.
 */
dev_t tracker_dev(const struct tracker *tracker)
{
	return tracker->dev;
}

/**
 * tracker_disk() - disk that the origin is or is on
 * @tracker:	claimed by the caller, who has the origin open
 *
 * Return: the disk.
 */
struct gendisk *tracker_disk(const struct tracker *tracker)
{
	return tracker->tracked_disk->disk;
}

/**
 * tracker_diskseq() - sequence number of the origin's disk
 * @tracker:	claimed by the caller
 *
 * Return: the number; a younger disk has a higher one.
 */
u64 tracker_diskseq(const struct tracker *tracker)
{
	return tracker->tracked_disk->diskseq;
}

/**
 * tracker_start_sector() - where the origin begins
 * @tracker:	claimed by the caller
 *
 * Return: first sector on the disk, 0 for a whole disk.
 */
sector_t tracker_start_sector(const struct tracker *tracker)
{
	return tracker->start;
}

/**
 * tracker_nr_sectors() - capacity of the origin
 * @tracker:	claimed by the caller
 *
 * Return: sectors, as of the claim or the last tracker_refresh().
 */
sector_t tracker_nr_sectors(const struct tracker *tracker)
{
	return tracker->nr_sectors;
}

/**
 * tracker_logical_block_bytes() - logical block size of the origin
 * @tracker:	claimed by the caller
 *
 * Return: bytes, at most 4 KiB.
 */
unsigned int tracker_logical_block_bytes(const struct tracker *tracker)
{
	return tracker->logical_block_bytes;
}

/**
 * tracker_cbt_map() - change map of the origin
 * @tracker:	claimed by the caller
 *
 * Return: the map; valid until the claim ends or tracker_refresh() is called.
 */
struct cbt_map *tracker_cbt_map(const struct tracker *tracker)
{
	/* Only a claimed tracker's claimant replaces its map. */
	return rcu_dereference_protected(tracker->cbt_map, true);
}

/**
 * tracker_inflight() - counter and gate of the origin's disk
 * @tracker:	claimed by the caller
 *
 * Return: the counter, shared by all trackers on the disk.
 */
struct inflight *tracker_inflight(const struct tracker *tracker)
{
	return tracker->tracked_disk->inflight;
}

struct resubmit *tracker_resubmit(const struct tracker *tracker)
{
	return &tracker->tracked_disk->resubmit;
}

/**
 * tracker_lock() - keep the trackers and their change maps as they are
 */
void tracker_lock(void)
{
	mutex_lock(&tracker_mutex);
}

/**
 * tracker_unlock() - undo tracker_lock()
 */
void tracker_unlock(void)
{
	mutex_unlock(&tracker_mutex);
}

/**
 * tracker_refresh() - see whether the device is still what is tracked
 * @tracker:	claimed by the caller, without an engine
 *
 * If the capacity has changed, a new change map begins.
 *
 * Return: 0; -ENODEV if the device has gone; -EOPNOTSUPP if it is too large now,
 *	   or is written to past the filter; -ENOMEM.
 */
int tracker_refresh(struct tracker *tracker)
{
	int ret;

	mutex_lock(&tracker_mutex);
	ret = tracked_disk_check(tracker->tracked_disk, tracker->dev);
	if (!ret)
		ret = tracker_refresh_locked(tracker);
	mutex_unlock(&tracker_mutex);
	return ret;
}

/**
 * tracker_publish() - the switch: begin an interval and let an engine work
 * @tracker:	claimed by the caller, its gate closed and drained
 * @cow:	engine; the tracker holds it until tracker_retire()
 *
 * Context: tracker_lock() held.  Neither allocates nor sleeps.
 */
void tracker_publish(struct tracker *tracker, struct cow *cow)
{
	lockdep_assert_held(&tracker_mutex);
	cbt_map_switch(tracker_map(tracker));
	rcu_assign_pointer(tracker->cow, cow);
	/* Pairs with tracker_bypassed(): one of us sees the other's. */
	smp_mb();
	if (READ_ONCE(tracker->tracked_disk->is_bypassed))
		cow_fail(cow, -EOPNOTSUPP);
}

/**
 * tracker_retire() - undo the publishing of an engine
 * @tracker:	claimed by the caller
 *
 * When it returns, no bio on its way through the filter knows the engine.
 *
 * Context: Process context, sleeps for a grace period of RCU.
 */
void tracker_retire(struct tracker *tracker)
{
	RCU_INIT_POINTER(tracker->cow, NULL);
	/* Pairs with rcu_read_lock() in tracker_judge() and tracker_get_holder(). */
	synchronize_rcu_expedited();
}

/**
 * tracker_module_exit() - stop tracking everything
 *
 * Context: Process context, sleeps.  No snapshot is left.
 */
void tracker_module_exit(void)
{
	struct tracker *tracker, *next;

	mutex_lock(&tracker_mutex);
	list_for_each_entry_safe(tracker, next, &tracker_rows, row)
		tracker_destroy(tracker);
	mutex_unlock(&tracker_mutex);
}
