// SPDX-License-Identifier: GPL-2.0
/*
 * The calls of the control node
 *
 * Each ioctl is copied in, checked as far as possible here, handed to one
 * function of the trackers or the snapshots, and copied out.  Structures with
 * pointers have two layouts; ctrl_node.c reads and writes that of 32-bit programs
 * and shares everything else.
 *
 * The only state is the snapshot that poll() of a file is about: NULL until the
 * first WAIT_EVENT and constant from then on, so it needs no lock.
 */
#include "blksnap.h"

#include <linux/atomic.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/kdev_t.h>
#include <linux/mm.h>
#include <linux/overflow.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/uuid.h>
#include <linux/blksnap.h>

#include "compat.h"
#include "ctrl_priv.h"
#include "event_queue.h"
#include "snapimage.h"
#include "snapshot.h"
#include "tracker.h"

/* Ranges of one call: 4 MiB of them, a few GiB of a most scattered file. */
#define CTRL_RANGES_MAX 262144U

/* The uapi header cannot say that its pointers lead to user space. */
static void __user *ctrl_user_ptr(const void *ptr)
{
	return (void __user *)(uintptr_t)ptr;
}

/*
 * A number that does not fit into a dev_t must not become another device's.  It becomes
 * 0, which is no device, so each call gives its own errno for that.
 */
dev_t ctrl_dev(const struct blk_snap_dev *dev)
{
	if (dev->mj > MAJOR(~0U) || dev->mn > MINORMASK)
		return 0;
	return MKDEV(dev->mj, dev->mn);
}

static long ctrl_version(void __user *arg)
{
	static const struct blk_snap_version version = {
		.major = BLKSNAP_VERSION_MAJOR,
		.minor = BLKSNAP_VERSION_MINOR,
		.revision = BLKSNAP_VERSION_REVISION,
		.build = BLKSNAP_VERSION_BUILD,
	};

	return copy_to_user(arg, &version, sizeof(version)) ? -EFAULT : 0;
}

static long ctrl_tracker_remove(const void __user *arg)
{
	struct blk_snap_tracker_remove args;

	if (copy_from_user(&args, arg, sizeof(args)))
		return -EFAULT;
	return tracker_remove(ctrl_dev(&args.dev_id));
}

int ctrl_put_infos(void __user *array, const struct blk_snap_cbt_info *infos, u32 count)
{
	return copy_to_user(array, infos, array_size(count, sizeof(*infos))) ? -EFAULT : 0;
}

/*
 * All trackers, or NULL if there are none or only the number is wanted.  The array has
 * the size of what there is, whatever @room the caller claims to have.
 */
static struct blk_snap_cbt_info *ctrl_read_infos(u32 room, u32 *count)
{
	struct blk_snap_cbt_info *infos;
	int ret;

	for (;;) {
		*count = 0;
		ret = tracker_collect(NULL, count);
		if (ret)
			return ERR_PTR(ret);
		if (!room || !*count)
			return NULL;
		if (*count > room)
			return ERR_PTR(-ENOBUFS);
		infos = kvcalloc(*count, sizeof(*infos), GFP_KERNEL);
		if (!infos)
			return ERR_PTR(-ENOMEM);
		ret = tracker_collect(infos, count);
		if (!ret)
			return infos;
		kvfree(infos);
		/* -ENOBUFS: another device has been tracked in between. */
		if (ret != -ENOBUFS)
			return ERR_PTR(ret);
	}
}

int ctrl_collect_trackers(void __user *array, u32 *count, ctrl_put_infos_fn put_infos)
{
	struct blk_snap_cbt_info *infos;
	int ret = 0;

	infos = ctrl_read_infos(array ? *count : 0, count);
	if (IS_ERR(infos))
		return PTR_ERR(infos);
	if (infos)
		ret = put_infos(array, infos, *count);
	kvfree(infos);
	return ret;
}

static long ctrl_tracker_collect(void __user *arg)
{
	struct blk_snap_tracker_collect args, out;
	int ret;

	if (copy_from_user(&args, arg, sizeof(args)))
		return -EFAULT;
	memset(&out, 0, sizeof(out));
	out.count = args.count;
	out.cbt_info_array = args.cbt_info_array;
	ret = ctrl_collect_trackers(ctrl_user_ptr(args.cbt_info_array), &out.count,
				    ctrl_put_infos);
	if (ret && ret != -ENOBUFS)
		return ret;
	return copy_to_user(arg, &out, sizeof(out)) ? -EFAULT : ret;
}

static long ctrl_tracker_read_cbt_map(const void __user *arg)
{
	struct blk_snap_tracker_read_cbt_bitmap args;

	if (copy_from_user(&args, arg, sizeof(args)))
		return -EFAULT;
	return tracker_read_cbt_map(ctrl_dev(&args.dev_id), args.offset, args.length,
				    ctrl_user_ptr(args.buff));
}

static struct blk_snap_block_range *ctrl_copy_ranges(const void __user *array, u32 count)
{
	if (count > CTRL_RANGES_MAX)
		return ERR_PTR(-E2BIG);
	return vmemdup_user(array, array_size(count, sizeof(struct blk_snap_block_range)));
}

int ctrl_mark_dirty_blocks(const struct blk_snap_dev *dev_id, const void __user *array,
			   u32 count)
{
	struct blk_snap_block_range *ranges;
	dev_t dev = ctrl_dev(dev_id);
	int ret;

	ranges = ctrl_copy_ranges(array, count);
	if (IS_ERR(ranges))
		return PTR_ERR(ranges);
	/* An image means its origin; anything else is left as it is. */
	snapimage_origin(dev, &dev);
	ret = tracker_mark_dirty(dev, ranges, count);
	kvfree(ranges);
	return ret;
}

static long ctrl_tracker_mark_dirty_blocks(const void __user *arg)
{
	struct blk_snap_tracker_mark_dirty_blocks args;

	if (copy_from_user(&args, arg, sizeof(args)))
		return -EFAULT;
	return ctrl_mark_dirty_blocks(&args.dev_id, ctrl_user_ptr(args.dirty_blocks_array),
				      args.count);
}

/* -EINVAL if there is no device, or more than a snapshot may have. */
static dev_t *ctrl_copy_devs(const void __user *array, u32 count)
{
	struct blk_snap_dev *dev_ids;
	dev_t *devs;
	u32 i;

	if (!count || count > SNAPSHOT_MEMBERS_MAX)
		return ERR_PTR(-EINVAL);
	dev_ids = vmemdup_user(array, array_size(count, sizeof(*dev_ids)));
	if (IS_ERR(dev_ids))
		return ERR_CAST(dev_ids);
	devs = kvcalloc(count, sizeof(*devs), GFP_KERNEL);
	for (i = 0; devs && i < count; i++)
		devs[i] = ctrl_dev(&dev_ids[i]);
	kvfree(dev_ids);
	return devs ?: ERR_PTR(-ENOMEM);
}

int ctrl_create_snapshot(const void __user *array, u32 count, uuid_t *id)
{
	dev_t *devs;
	int ret;

	devs = ctrl_copy_devs(array, count);
	if (IS_ERR(devs))
		return PTR_ERR(devs);
	ret = snapshot_create(devs, count, id);
	kvfree(devs);
	return ret;
}

static long ctrl_snapshot_create(void __user *arg)
{
	struct blk_snap_snapshot_create args, out;
	uuid_t id;
	int ret;

	if (copy_from_user(&args, arg, sizeof(args)))
		return -EFAULT;
	ret = ctrl_create_snapshot(ctrl_user_ptr(args.dev_id_array), args.count, &id);
	if (ret)
		return ret;

	memset(&out, 0, sizeof(out));
	out.count = args.count;
	out.dev_id_array = args.dev_id_array;
	export_uuid(out.id.b, &id);
	if (copy_to_user(arg, &out, sizeof(out))) {
		/* The caller does not get the id, so it could not destroy it. */
		snapshot_undo(&id);
		return -EFAULT;
	}
	return 0;
}

static long ctrl_snapshot_destroy(const void __user *arg)
{
	struct blk_snap_snapshot_destroy args;
	uuid_t id;

	if (copy_from_user(&args, arg, sizeof(args)))
		return -EFAULT;
	import_uuid(&id, args.id.b);
	return snapshot_destroy(&id);
}

int ctrl_append_storage(const struct blk_snap_uuid *user_id, const struct blk_snap_dev *dev_id,
			const void __user *array, u32 count)
{
	struct blk_snap_block_range *ranges;
	uuid_t id;
	int ret;

	ranges = ctrl_copy_ranges(array, count);
	if (IS_ERR(ranges))
		return PTR_ERR(ranges);
	import_uuid(&id, user_id->b);
	ret = snapshot_append_storage(&id, ctrl_dev(dev_id), ranges, count);
	kvfree(ranges);
	return ret;
}

static long ctrl_snapshot_append_storage(const void __user *arg)
{
	struct blk_snap_snapshot_append_storage args;

	if (copy_from_user(&args, arg, sizeof(args)))
		return -EFAULT;
	return ctrl_append_storage(&args.id, &args.dev_id, ctrl_user_ptr(args.ranges),
				   args.count);
}

static long ctrl_snapshot_pin_file(const void __user *arg)
{
	struct blk_snap_snapshot_pin_file args;
	uuid_t id;

	if (copy_from_user(&args, arg, sizeof(args)))
		return -EFAULT;
	if (args.reserved)
		return -EINVAL;
	import_uuid(&id, args.id.b);
	return snapshot_pin_file(&id, args.fd);
}

static long ctrl_snapshot_take(const void __user *arg)
{
	struct blk_snap_snapshot_take args;
	uuid_t id;

	if (copy_from_user(&args, arg, sizeof(args)))
		return -EFAULT;
	import_uuid(&id, args.id.b);
	return snapshot_take(&id);
}

static long ctrl_snapshot_collect(void __user *arg)
{
	struct blk_snap_snapshot_collect args, out;
	int ret;

	if (copy_from_user(&args, arg, sizeof(args)))
		return -EFAULT;
	memset(&out, 0, sizeof(out));
	out.count = args.count;
	out.ids = args.ids;
	ret = snapshot_collect(ctrl_user_ptr(args.ids), &out.count);
	if (ret && ret != -ENODATA)
		return ret;
	return copy_to_user(arg, &out, sizeof(out)) ? -EFAULT : ret;
}

static long ctrl_snapshot_collect_images(void __user *arg)
{
	struct blk_snap_snapshot_collect_images args, out;
	uuid_t id;
	int ret;

	if (copy_from_user(&args, arg, sizeof(args)))
		return -EFAULT;
	memset(&out, 0, sizeof(out));
	out.id = args.id;
	out.count = args.count;
	out.image_info_array = args.image_info_array;
	import_uuid(&id, args.id.b);
	ret = snapshot_collect_images(&id, ctrl_user_ptr(args.image_info_array), &out.count);
	if (ret && ret != -ENODATA)
		return ret;
	return copy_to_user(arg, &out, sizeof(out)) ? -EFAULT : ret;
}

static long ctrl_snapshot_info(void __user *arg)
{
	struct blk_snap_snapshot_info args, out;
	uuid_t id;
	int ret;

	if (copy_from_user(&args, arg, sizeof(args)))
		return -EFAULT;
	if (args.flags)
		return -EINVAL;
	memset(&out, 0, sizeof(out));
	out.id = args.id;
	out.count = args.count;
	out.dev_id_array = args.dev_id_array;
	import_uuid(&id, args.id.b);
	ret = snapshot_info(&id, u64_to_user_ptr(args.dev_id_array), &out);
	if (ret && ret != -ENODATA)
		return ret;
	return copy_to_user(arg, &out, sizeof(out)) ? -EFAULT : ret;
}

/* The snapshot for WAIT_EVENT, which poll() of @file is about unless it has one. */
static struct snapshot *ctrl_watch_snapshot(struct file *file, const struct blk_snap_uuid *user_id)
{
	struct snapshot *snapshot;
	uuid_t id;

	import_uuid(&id, user_id->b);
	snapshot = snapshot_find(&id);
	if (!snapshot || READ_ONCE(file->private_data))
		return snapshot;

	/* Two threads may make the first call on a file at the same time. */
	snapshot_get(snapshot);
	if (cmpxchg(&file->private_data, NULL, snapshot))
		snapshot_put(snapshot);
	return snapshot;
}

static long ctrl_snapshot_wait_event(struct file *file, void __user *arg)
{
	struct blk_snap_snapshot_event *args;
	struct snapshot *snapshot;
	struct event *event;
	long ret = -ENOMEM;

	/* Everything that can fail comes before an event is fetched. */
	args = kzalloc_obj(*args, GFP_KERNEL);
	event = event_alloc();
	if (!args || !event)
		goto out_free;
	ret = -EFAULT;
	if (copy_from_user(args, arg, offsetof(struct blk_snap_snapshot_event, code)))
		goto out_free;
	ret = -ESRCH;
	snapshot = ctrl_watch_snapshot(file, &args->id);
	if (!snapshot)
		goto out_free;

	ret = snapshot_wait_event(snapshot, args->timeout_ms, event);
	if (ret)
		goto out_put;
	args->code = event->code;
	args->time_label = event->time_label;
	memcpy(args->data, event->payload, sizeof(event->payload));
	if (copy_to_user(arg, args, sizeof(*args))) {
		snapshot_return_event(snapshot, event);
		event = NULL;
		ret = -EFAULT;
	}

out_put:
	snapshot_put(snapshot);
out_free:
	event_free(event);
	kfree(args);
	return ret;
}

/* The calls whose argument is the same for all programs. */
long ctrl_ioctl_common(struct file *file, unsigned int cmd, void __user *arg)
{
	switch (cmd) {
	case IOCTL_BLK_SNAP_VERSION:
		return ctrl_version(arg);
	case IOCTL_BLK_SNAP_TRACKER_REMOVE:
		return ctrl_tracker_remove(arg);
	case IOCTL_BLK_SNAP_SNAPSHOT_DESTROY:
		return ctrl_snapshot_destroy(arg);
	case IOCTL_BLK_SNAP_SNAPSHOT_TAKE:
		return ctrl_snapshot_take(arg);
	case IOCTL_BLK_SNAP_SNAPSHOT_WAIT_EVENT:
		return ctrl_snapshot_wait_event(file, arg);
	case IOCTL_BLK_SNAP_SNAPSHOT_PIN_FILE:
		return ctrl_snapshot_pin_file(arg);
	case IOCTL_BLK_SNAP_SNAPSHOT_INFO:
		return ctrl_snapshot_info(arg);
	default:
		return -ENOTTY;
	}
}

/* The calls of programs with the layout of the kernel. */
long ctrl_ioctl_native(struct file *file, unsigned int cmd, void __user *user_arg)
{
	switch (cmd) {
	case IOCTL_BLK_SNAP_TRACKER_COLLECT:
		return ctrl_tracker_collect(user_arg);
	case IOCTL_BLK_SNAP_TRACKER_READ_CBT_MAP:
		return ctrl_tracker_read_cbt_map(user_arg);
	case IOCTL_BLK_SNAP_TRACKER_MARK_DIRTY_BLOCKS:
		return ctrl_tracker_mark_dirty_blocks(user_arg);
	case IOCTL_BLK_SNAP_SNAPSHOT_CREATE:
		return ctrl_snapshot_create(user_arg);
	case IOCTL_BLK_SNAP_SNAPSHOT_APPEND_STORAGE:
		return ctrl_snapshot_append_storage(user_arg);
	case IOCTL_BLK_SNAP_SNAPSHOT_COLLECT:
		return ctrl_snapshot_collect(user_arg);
	case IOCTL_BLK_SNAP_SNAPSHOT_COLLECT_IMAGES:
		return ctrl_snapshot_collect_images(user_arg);
	default:
		return ctrl_ioctl_common(file, cmd, user_arg);
	}
}
