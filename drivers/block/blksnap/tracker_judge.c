// SPDX-License-Identifier: GPL-2.0
/*
 * The verdict on every bio
 *
 * A write is judged for every tracker on its disk whose range it touches: the tracker
 * of a whole disk sees a write to a partition, and the other way round.  The write is
 * marked in the change maps, held where it would destroy old data, and counted until
 * it completes.
 *
 * The verdict takes no lock but a raw one, allocates nothing and touches nothing that
 * may sleep, because preemption may be off on any kernel.  What it cannot do itself (a
 * page of a change map is missing, a block has to be copied) is done by filter_hold()
 * in the context of the submitter, or by a worker; then the bio is submitted again and
 * judged again.
 *
 * Everything here is found under RCU; code with preemption disabled is a reader, too.
 */
#include "blksnap.h"

#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/fs.h>
#include <linux/rculist.h>
#include <linux/sched.h>
#include <linux/string.h>

#include "cbt_map.h"
#include "cow.h"
#include "filter.h"
#include "tracker_priv.h"

struct hlist_head tracked_disks[1 << TRACKED_DISK_HASH_BITS];

static noinline void tracked_disk_fail(struct tracked_disk *tracked_disk, int error)
{
	struct tracker *tracker;

	list_for_each_entry_rcu(tracker, &tracked_disk->trackers, link,
				rcu_read_lock_any_held()) {
		struct cow *cow = rcu_dereference_check(tracker->cow, rcu_read_lock_any_held());

		if (cow)
			cow_lose(cow, error);
	}
}

/* Or NULL.  The caller is a reader of RCU. */
struct tracked_disk *tracked_disk_find(struct gendisk *disk)
{
	struct tracked_disk *tracked_disk;

	hlist_for_each_entry_rcu(tracked_disk, tracked_disk_bucket(disk), node,
				 rcu_read_lock_any_held()) {
		if (unlikely(tracked_disk->disk != disk))
			continue;
		if (likely(tracked_disk->diskseq == disk->diskseq))
			return tracked_disk;
		/* Its medium has changed. */
		tracked_disk_fail(tracked_disk, -ENOMEDIUM);
	}
	return NULL;
}

static bool tracker_is_touched(const struct tracker *tracker, sector_t sector,
			       sector_t nr_sectors)
{
	return sector < tracker->start + READ_ONCE(tracker->nr_sectors) &&
	       sector + nr_sectors > tracker->start;
}

/* What a write touches of a tracker, whose map gets a mark there; it may begin before. */
static struct cbt_map *tracker_clip(const struct tracker *tracker, sector_t *sector,
				    sector_t *nr_sectors)
{
	sector_t nr_before = tracker->start - min(tracker->start, *sector);

	*sector += nr_before - tracker->start;
	*nr_sectors -= nr_before;
	return rcu_dereference_check(tracker->cbt_map, rcu_read_lock_any_held());
}

static bool tracker_mark_nowait(struct tracker *tracker, sector_t sector, sector_t nr_sectors)
{
	struct cbt_map *map = tracker_clip(tracker, &sector, &nr_sectors);

	return cbt_map_mark_nowait(map, sector, nr_sectors);
}

static void tracker_mark(struct tracker *tracker, sector_t sector, sector_t nr_sectors)
{
	struct cbt_map *map = tracker_clip(tracker, &sector, &nr_sectors);

	cbt_map_mark(map, sector, nr_sectors);
}

/* The engine that wants the write held, or NULL.  It is read once: a retired one goes. */
static struct cow *tracker_find_holder(const struct tracker *tracker, const struct bio *bio,
				       sector_t sector)
{
	struct cow *cow = rcu_dereference_check(tracker->cow, rcu_read_lock_any_held());

	return cow && cow_must_hold(cow, bio, sector) ? cow : NULL;
}

static bool tracker_must_hold(const struct tracker *tracker, const struct bio *bio,
			      sector_t sector)
{
	return tracker_find_holder(tracker, bio, sector);
}

/*
 * The callback may neither wait nor submit: the submitter does, or a worker if the
 * submitter may not either.
 */
static enum filter_verdict tracked_disk_take(struct tracked_disk *tracked_disk, struct bio *bio)
{
	if (!current->bio_list && !(bio->bi_opf & REQ_NOWAIT))
		return FILTER_HOLD;
	resubmit_bio(&tracked_disk->resubmit, bio);
	return FILTER_TAKEN;
}

static enum filter_verdict tracked_disk_judge(struct tracked_disk *tracked_disk,
					      struct bio *bio)
{
	sector_t sector = filter_bio_sector(bio);
	struct tracker *tracker;

	if (inflight_counts(&tracked_disk->inflight, bio))
		return FILTER_PASS;
	/* First, so that a take switches maps and engines while no bio is here. */
	if (inflight_keep(&tracked_disk->inflight, bio))
		return FILTER_TAKEN;

	list_for_each_entry_rcu(tracker, &tracked_disk->trackers, link,
				rcu_read_lock_any_held()) {
		if (!tracker_is_touched(tracker, sector, bio_sectors(bio)))
			continue;
		if (!tracker_mark_nowait(tracker, sector, bio_sectors(bio)) ||
		    tracker_must_hold(tracker, bio, sector))
			return tracked_disk_take(tracked_disk, bio);
	}
	if (inflight_count(&tracked_disk->inflight, bio))
		return FILTER_PASS;
	resubmit_bio(&tracked_disk->resubmit, bio);
	return FILTER_TAKEN;
}

static noinline enum filter_verdict tracker_judge(struct bio *bio)
{
	struct tracked_disk *tracked_disk;

	if (!bio_sectors(bio) || cow_owns_write(bio))
		return FILTER_PASS;
	tracked_disk = tracked_disk_find(bio->bi_bdev->bd_disk);
	return tracked_disk ? tracked_disk_judge(tracked_disk, bio) : FILTER_PASS;
}

/*
 * The common case: a short write to a disk that is tracked as a whole and first in its
 * chain, over a block whose mark is set or can be set, and which need not be held.
 * False in any other case; what has been done by then may be done again.
 */
static __always_inline bool tracked_disk_let_pass(struct tracked_disk *tracked_disk,
						  struct bio *bio, const struct gendisk *disk)
{
	struct inflight *inflight = &tracked_disk->inflight;
	sector_t sector = filter_bio_sector(bio);
	struct tracker *tracker;

	if (unlikely(tracked_disk->disk != disk || tracked_disk->diskseq != disk->diskseq))
		return false;
	/* The rest of a split comes back to the filter, and is counted already. */
	if (!inflight_way_fits(inflight_way(inflight, bio), bio))
		return __inflight_counts(inflight, bio);
	tracker = rcu_dereference_sched(tracked_disk->only);
	if (unlikely(!tracker || cow_owns_write(bio)))
		return false;
	/* Pairs with smp_store_release() in inflight_ungate(). */
	if (unlikely(smp_load_acquire(&inflight->gates)))
		return false;
	if (!cbt_map_mark_short(rcu_dereference_sched(tracker->cbt_map), sector,
				bio_sectors(bio)))
		return false;
	return !tracker_must_hold(tracker, bio, sector) && inflight_count(inflight, bio);
}

/* Not part of filter_judge(), so that other bios do not pay for saving its registers. */
static noinline enum filter_verdict tracker_judge_quickly(struct bio *bio,
							  struct gendisk *disk,
							  struct hlist_head *bucket)
{
	struct tracked_disk *tracked_disk;
	enum filter_verdict verdict = FILTER_PASS;

	preempt_disable_notrace();
	tracked_disk = hlist_entry_safe(rcu_dereference_raw(hlist_first_rcu(bucket)),
					struct tracked_disk, node);
	if (likely(tracked_disk) && !tracked_disk_let_pass(tracked_disk, bio, disk))
		verdict = tracker_judge(bio);
	preempt_enable_notrace();
	return verdict;
}

enum filter_verdict filter_judge(struct bio *bio)
{
	struct hlist_head *bucket;
	struct gendisk *disk;

	if (!op_is_write(bio_op(bio)))
		return FILTER_PASS;
	/* Most disks are not tracked, and nothing of theirs is dereferenced. */
	disk = bio->bi_bdev->bd_disk;
	bucket = tracked_disk_bucket(disk);
	if (hlist_empty(bucket))
		return FILTER_PASS;
	return tracker_judge_quickly(bio, disk, bucket);
}

/*
 * What has to be done for a taken write before it is submitted again: makes its marks
 * and returns the engine that wants it held, with a reference.  ERR_PTR(-EBUSY): the
 * gate was closed, and the bio is not the caller's any more.
 */
static struct cow *tracker_prepare(struct bio *bio)
{
	sector_t sector = filter_bio_sector(bio);
	struct tracked_disk *tracked_disk;
	struct tracker *tracker;
	struct cow *holder = NULL;

	rcu_read_lock();
	tracked_disk = tracked_disk_find(bio->bi_bdev->bd_disk);
	if (!tracked_disk)
		goto out_unlock;
	if (inflight_keep(&tracked_disk->inflight, bio)) {
		holder = ERR_PTR(-EBUSY);
		goto out_unlock;
	}
	list_for_each_entry_rcu(tracker, &tracked_disk->trackers, link) {
		if (!tracker_is_touched(tracker, sector, bio_sectors(bio)))
			continue;
		tracker_mark(tracker, sector, bio_sectors(bio));
		if (holder)
			continue;
		/* The snapshot puts its reference a grace period after it has retired it. */
		holder = tracker_find_holder(tracker, bio, sector);
		if (holder)
			cow_get(holder);
	}
out_unlock:
	rcu_read_unlock();
	return holder;
}

/*
 * Each engine that wants a taken write held holds it, one after the other: if it were
 * submitted in between, each of them would take stack, and a discard can reach hundreds.
 * True if it is to be submitted; else it is not the caller's any more.
 */
static bool tracker_hold(struct bio *bio, bool may_throttle)
{
	bool is_sync = op_is_sync(bio->bi_opf);
	enum cow_verdict verdict;
	struct cow *cow;

	do {
		cow = tracker_prepare(bio);
		if (IS_ERR_OR_NULL(cow))
			return !cow;
		verdict = cow_hold(cow, bio);
		if (verdict == COW_HELD && may_throttle)
			cow_throttle(cow, is_sync);
		cow_put(cow);
	} while (verdict == COW_MAY_GO);
	return false;
}

/*
 * A worker that submits a write again gets here, too, if it is to be held by then.  It is
 * not throttled: others wait for it, and it may be the store that is waited for.
 */
void filter_hold(struct bio *bio)
{
	if (tracker_hold(bio, !resubmit_is_worker()))
		resubmit_now(bio);
}

/* filter_hold() from a worker of resubmit.c, where no submitter has to be throttled. */
void tracker_submit_again(struct resubmit *resubmit, struct bio *bio)
{
	struct tracked_disk *tracked_disk = container_of(resubmit, struct tracked_disk,
							 resubmit);

	if (!tracker_hold(bio, false))
		return;
	inflight_make_spare(&tracked_disk->inflight);
	resubmit_for_cgroup(bio);
}

/*
 * Past the filter
 */

/* A write that cannot be held is about to reach this disk. */
static void tracker_found_request(struct gendisk *disk)
{
	struct tracked_disk *tracked_disk;

	rcu_read_lock();
	tracked_disk = tracked_disk_find(disk);
	if (tracked_disk && !READ_ONCE(tracked_disk->is_bypassed)) {
		WRITE_ONCE(tracked_disk->is_bypassed, true);
		/* Pairs with tracker_publish(): one of us sees the other's. */
		smp_mb();
		tracked_disk_fail(tracked_disk, -EOPNOTSUPP);
	}
	rcu_read_unlock();
}

/*
 * Another table
 */

/*
 * Of the same size, it may hold other data: neither map can be trusted, and the image
 * shows the new data where it has not copied.  Of another size, the device was resized,
 * which is found when it is looked at.
 */
static void tracked_disk_replaced(struct tracked_disk *tracked_disk)
{
	sector_t nr_sectors = get_capacity(tracked_disk->disk);
	bool is_resized = READ_ONCE(tracked_disk->table_sectors) != nr_sectors;
	struct tracker *tracker;

	WRITE_ONCE(tracked_disk->table_sectors, nr_sectors);
	list_for_each_entry_rcu(tracker, &tracked_disk->trackers, link) {
		if (is_resized)
			WRITE_ONCE(tracker->is_resized, true);
		else
			cbt_map_lose(rcu_dereference(tracker->cbt_map), CBT_REPLACED);
	}
	if (!is_resized)
		tracked_disk_fail(tracked_disk, -ESTALE);
}

/*
 * The disk is suspended, so its images cannot be read before they have failed.  An engine
 * that tracker_publish() makes known only now shows the new data from its beginning.
 */
void filter_replaced(struct gendisk *disk)
{
	struct tracked_disk *tracked_disk;

	/* For others it says nothing, and looking a disk up finds whether its medium is new. */
	if (!disk_is_mapped(disk))
		return;
	rcu_read_lock();
	tracked_disk = tracked_disk_find(disk);
	if (tracked_disk && tracked_disk->has_table)
		tracked_disk_replaced(tracked_disk);
	rcu_read_unlock();
}

/* How a write that a driver has got there. */
enum tracker_seen {
	TRACKER_UNSEEN,
	TRACKER_SEEN_WHOLE,	/* what it is a part of passed the filter, some time */
	TRACKER_SEEN,		/* it passed the filter, or is one of an engine's */
};

static enum tracker_seen tracked_disk_has_seen(const struct tracked_disk *tracked_disk,
					       const struct bio *bio)
{
	enum tracker_seen seen = TRACKER_SEEN;

	for (; bio; bio = inflight_parent(bio)) {
		if (cow_owns_write(bio))
			return TRACKER_SEEN;
		if (__inflight_counts(&tracked_disk->inflight, bio))
			return seen;
		seen = TRACKER_SEEN_WHOLE;
	}
	return TRACKER_UNSEEN;
}

/*
 * In a tracepoint's probe.  While a gate is closed the map may be switched, so the mark
 * cannot be made.  Nor can a page be allocated on PREEMPT_RT with preemption disabled.
 */
static void tracker_mark_in_probe(struct tracker *tracker, sector_t sector,
				  sector_t nr_sectors)
{
	/* Pairs with smp_store_release() in inflight_ungate(). */
	if (!smp_load_acquire(&tracker->tracked_disk->inflight.gates)) {
		if (!IS_ENABLED(CONFIG_PREEMPT_RT)) {
			tracker_mark(tracker, sector, nr_sectors);
			return;
		}
		if (tracker_mark_nowait(tracker, sector, nr_sectors))
			return;
	}
	cbt_map_lose(rcu_dereference(tracker->cbt_map), CBT_LATE_WRITE);
}

/*
 * A write that was submitted before its disk was tracked.  It is marked for the next
 * increment, and an image that it may change fails.
 */
static void tracked_disk_found_uncounted(struct tracked_disk *tracked_disk, struct bio *bio)
{
	sector_t sector = filter_bio_sector(bio);
	struct tracker *tracker;

	list_for_each_entry_rcu(tracker, &tracked_disk->trackers, link) {
		struct cow *cow = rcu_dereference(tracker->cow);

		if (!tracker_is_touched(tracker, sector, bio_sectors(bio)))
			continue;
		tracker_mark_in_probe(tracker, sector, bio_sectors(bio));
		if (!cow)
			continue;
		pr_err_ratelimited("%u:%u: a write was submitted before it was tracked, and arrives only now\n",
				   MAJOR(tracker->dev), MINOR(tracker->dev));
		cow_lose(cow, -EAGAIN);
	}
}

/*
 * A part of a write that was split.  Where the rest of a split passes the filter again,
 * the write may have been counted only after this part had left it.  So the part is
 * marked, and if it reaches blocks that are not copied once no write of before is in
 * flight, it has passed the engine.
 */
static void tracked_disk_found_part(struct tracked_disk *tracked_disk, struct bio *bio)
{
	sector_t sector = filter_bio_sector(bio);
	struct tracker *tracker;

	/* Most such parts are counted: no reason to lose the map. */
	if (smp_load_acquire(&tracked_disk->inflight.gates))
		return;
	list_for_each_entry_rcu(tracker, &tracked_disk->trackers, link) {
		struct cow *cow = rcu_dereference(tracker->cow);

		if (!tracker_is_touched(tracker, sector, bio_sectors(bio)))
			continue;
		tracker_mark_in_probe(tracker, sector, bio_sectors(bio));
		if (cow && cow_has_drained(cow) && cow_must_hold(cow, bio, sector))
			cow_lose(cow, -EAGAIN);
	}
}

static void tracked_disk_found_bio(struct tracked_disk *tracked_disk, struct bio *bio)
{
	switch (tracked_disk_has_seen(tracked_disk, bio)) {
	case TRACKER_UNSEEN:
		tracked_disk_found_uncounted(tracked_disk, bio);
		break;
	case TRACKER_SEEN_WHOLE:
		tracked_disk_found_part(tracked_disk, bio);
		break;
	case TRACKER_SEEN:
		break;
	}
}

/* nvme0c1n2 is a path of nvme0n2. */
static bool disk_is_path(const char *name, const char *whole)
{
	const char *controller = strchr(name, 'c');
	const char *namespace = controller ? strchr(controller, 'n') : NULL;

	return namespace && !strncmp(name, whole, controller - name) &&
	       !strcmp(namespace, whole + (controller - name));
}

/*
 * The disk of a path, or NULL.  NVMe multipath sends a bio on as it is, to one of several
 * hidden disks with the same sectors.  The caller is a reader of RCU.
 */
static struct tracked_disk *tracked_disk_find_by_path(const struct gendisk *path)
{
	struct tracked_disk *tracked_disk;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(tracked_disks); i++) {
		hlist_for_each_entry_rcu(tracked_disk, &tracked_disks[i], node) {
			/* A disk that is gone may have had the same name. */
			if (disk_is_path(path->disk_name, tracked_disk->disk->disk_name) &&
			    !inode_unhashed(tracked_disk->inode))
				return tracked_disk;
		}
	}
	return NULL;
}

static void tracker_found_bio(struct bio *bio)
{
	struct tracked_disk *tracked_disk;
	struct gendisk *disk;
	bool is_path;

	if (!bio_sectors(bio) || !bio->bi_bdev)
		return;
	disk = bio->bi_bdev->bd_disk;
	is_path = disk->flags & GENHD_FL_HIDDEN;
	if (!is_path && hlist_empty(tracked_disk_bucket(disk)))
		return;
	rcu_read_lock();
	tracked_disk = is_path ? tracked_disk_find_by_path(disk) : tracked_disk_find(disk);
	if (tracked_disk && READ_ONCE(tracked_disk->is_young))
		tracked_disk_found_bio(tracked_disk, bio);
	rcu_read_unlock();
}

const struct bypass_user tracker_bypass_user = {
	.found_request = tracker_found_request,
	.found_bio = tracker_found_bio,
};
