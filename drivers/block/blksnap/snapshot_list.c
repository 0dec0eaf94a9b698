// SPDX-License-Identifier: GPL-2.0
/*
 * What user space can ask about snapshots
 *
 * Nothing here changes a snapshot or waits for one: the list, the states and the
 * members are read under snapshots_lock, into memory that is copied to user space
 * without it.  A snapshot that is ending is no longer there.
 */
#include "blksnap.h"

#include <linux/kdev_t.h>
#include <linux/lockdep.h>
#include <linux/math64.h>
#include <linux/mm.h>
#include <linux/overflow.h>
#include <linux/pid.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/timekeeping.h>
#include <linux/uaccess.h>

#include "snapimage.h"
#include "snapshot_priv.h"

static u32 __snapshot_count(void)
{
	struct snapshot *snapshot;
	u32 nr = 0;

	lockdep_assert_held(&snapshots_lock);
	list_for_each_entry(snapshot, &snapshots, link)
		nr += !snapshot->is_ending;
	return nr;
}

static void __snapshot_fill_ids(struct blk_snap_uuid *ids)
{
	struct snapshot *snapshot;

	lockdep_assert_held(&snapshots_lock);
	list_for_each_entry(snapshot, &snapshots, link)
		if (!snapshot->is_ending)
			export_uuid((ids++)->b, &snapshot->id);
}

/* All identifiers, for @room of them in @ids; -ENODATA if there are more. */
static int snapshot_read_ids(struct blk_snap_uuid *ids, u32 room, u32 *count)
{
	int ret = 0;

	mutex_lock(&snapshots_lock);
	*count = __snapshot_count();
	if (ids && *count <= room)
		__snapshot_fill_ids(ids);
	else if (*count > room)
		ret = -ENODATA;
	mutex_unlock(&snapshots_lock);
	return ret;
}

/**
 * snapshot_collect() - list the snapshots
 * @ids:	array to fill, or NULL to ask for the number alone
 * @count:	in: room in @ids, 0 to ask for the number alone; out: number of
 *		snapshots, also with -ENODATA
 *
 * Return: 0; -ENODATA if there is not enough room, and @ids is untouched; -EFAULT;
 *	   -ENOMEM.
 */
int snapshot_collect(struct blk_snap_uuid __user *ids, u32 *count)
{
	u32 room = ids ? *count : 0, nr_array;
	struct blk_snap_uuid *array = NULL;
	int ret;

	/* The array has the size of what there is, whatever room the caller claims. */
	ret = snapshot_read_ids(NULL, room ?: U32_MAX, &nr_array);
	while (!ret && room && nr_array) {
		array = kvcalloc(nr_array, sizeof(*array), GFP_KERNEL);
		if (!array)
			return -ENOMEM;
		ret = snapshot_read_ids(array, nr_array, count);
		if (!ret)
			break;
		/* Another snapshot was created in between. */
		kvfree(array);
		array = NULL;
		ret = *count > room ? -ENODATA : 0;
		nr_array = *count;
	}
	if (!array)
		*count = nr_array;
	else if (copy_to_user(ids, array, array_size(*count, sizeof(*array))))
		ret = -EFAULT;
	kvfree(array);
	return ret;
}

static struct blk_snap_dev snapshot_user_dev(dev_t dev)
{
	return (struct blk_snap_dev){ .mj = MAJOR(dev), .mn = MINOR(dev) };
}

/* @infos has room for all members. */
static int snapshot_fill_image_infos(struct snapshot *snapshot,
				     struct blk_snap_image_info *infos)
{
	int ret = -ENODEV;
	u32 i;

	mutex_lock(&snapshots_lock);
	if (snapshot->is_ending) {
		ret = -ESRCH;
	} else if (snapshot->state == SNAPSHOT_TAKEN) {
		for (i = 0; i < snapshot->nr_members; i++) {
			infos[i].orig_dev_id = snapshot_user_dev(snapshot->members[i].dev);
			infos[i].image_dev_id =
				snapshot_user_dev(snapimage_dev(snapshot->members[i].image));
		}
		ret = 0;
	}
	mutex_unlock(&snapshots_lock);
	return ret;
}

/*
 * Like snapshot_collect() for the images of one snapshot.  Also -ESRCH if there is no
 * such snapshot, and -ENODEV if it is not taken.
 */
int snapshot_collect_images(const uuid_t *id, struct blk_snap_image_info __user *infos,
			    u32 *count)
{
	struct blk_snap_image_info *array;
	struct snapshot *snapshot;
	u32 room = infos ? *count : 0;
	int ret;

	snapshot = snapshot_find(id);
	if (!snapshot)
		return -ESRCH;
	array = kvcalloc(snapshot->nr_members, sizeof(*array), GFP_KERNEL);
	if (!array) {
		ret = -ENOMEM;
		goto out_put;
	}
	ret = snapshot_fill_image_infos(snapshot, array);
	if (ret)
		goto out_free;

	*count = snapshot->nr_members;
	if (room && *count > room)
		ret = -ENODATA;
	else if (room && copy_to_user(infos, array, array_size(*count, sizeof(*array))))
		ret = -EFAULT;

out_free:
	kvfree(array);
out_put:
	snapshot_put(snapshot);
	return ret;
}

/* The process that made a snapshot, as the caller's PID namespace sees it. */
static void snapshot_fill_creator(const struct snapshot *snapshot,
				  struct blk_snap_snapshot_info *info)
{
	info->pid = pid_vnr(snapshot->creator);
	memcpy(info->comm, snapshot->creator_comm, sizeof(info->comm));
	rcu_read_lock();
	if (!pid_task(snapshot->creator, PIDTYPE_TGID))
		info->flags |= BLK_SNAP_INFO_CREATOR_ENDED;
	rcu_read_unlock();
}

static int snapshot_fill_info(struct snapshot *snapshot, struct blk_snap_snapshot_info *info)
{
	static const u32 user_states[] = {
		[SNAPSHOT_CREATED] = blk_snap_snapshot_state_created,
		[SNAPSHOT_TAKING] = blk_snap_snapshot_state_taking,
		[SNAPSHOT_TAKEN] = blk_snap_snapshot_state_taken,
	};
	int ret = -ESRCH;

	mutex_lock(&snapshots_lock);
	if (!snapshot->is_ending) {
		info->state = user_states[snapshot->state];
		ret = 0;
	}
	mutex_unlock(&snapshots_lock);
	info->age_ms = div_u64(ktime_get_boottime_ns() - snapshot->created_ns, NSEC_PER_MSEC);
	snapshot_fill_creator(snapshot, info);
	return ret;
}

/* The numbers of the members never change. */
static int snapshot_copy_devs(const struct snapshot *snapshot, struct blk_snap_dev __user *devs)
{
	struct blk_snap_dev *array;
	int ret = 0;
	u32 i;

	array = kvcalloc(snapshot->nr_members, sizeof(*array), GFP_KERNEL);
	if (!array)
		return -ENOMEM;
	for (i = 0; i < snapshot->nr_members; i++)
		array[i] = snapshot_user_dev(snapshot->members[i].dev);
	if (copy_to_user(devs, array, array_size(snapshot->nr_members, sizeof(*array))))
		ret = -EFAULT;
	kvfree(array);
	return ret;
}

/**
 * snapshot_info() - tell what a snapshot holds, since when, and for whom
 * @id:		identifier of the snapshot
 * @devs:	array to fill, or NULL to ask for the rest alone
 * @info:	in: room in @devs in @count, 0 to ask for the rest alone, and zeros in
 *		what is filled; out: all but the identifier and the array
 *
 * Return: 0; -ESRCH if there is no such snapshot; -ENODATA if there is not enough room:
 *	   @devs is untouched, all else filled; -EFAULT; -ENOMEM.
 */
int snapshot_info(const uuid_t *id, struct blk_snap_dev __user *devs,
		  struct blk_snap_snapshot_info *info)
{
	struct snapshot *snapshot = snapshot_find(id);
	u32 room = devs ? info->count : 0;
	int ret;

	if (!snapshot)
		return -ESRCH;
	ret = snapshot_fill_info(snapshot, info);
	info->count = snapshot->nr_members;
	if (!ret && room && room < info->count)
		ret = -ENODATA;
	else if (!ret && room)
		ret = snapshot_copy_devs(snapshot, devs);
	snapshot_put(snapshot);
	return ret;
}
