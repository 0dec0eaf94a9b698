// SPDX-License-Identifier: GPL-2.0
/*
 * The control node /dev/blksnap
 *
 * Checks who calls, and hands each ioctl to ctrl.c.  The arguments of 32-bit programs
 * that are laid out in another way are read and written here: the
 * ctrl_compat_...() functions differ from those of ctrl.c in nothing else.
 */
#include "blksnap.h"

#include <linux/capability.h>
#include <linux/compat.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/uaccess.h>
#include <linux/uuid.h>
#include <linux/blksnap.h>

#include "ctrl_priv.h"
#include "event_queue.h"
#include "snapshot.h"
#include "tracker.h"

#ifdef CONFIG_COMPAT
/*
 * The arguments of 32-bit programs, where they differ.  None has a hole, except after
 * snap_number.
 */
struct ctrl_compat_cbt_info {
	struct blk_snap_dev dev_id;
	u32 blk_size;
	compat_u64 device_capacity;
	u32 blk_count;
	struct blk_snap_uuid generation_id;
	u8 snap_number;
};

struct ctrl_compat_tracker_collect {
	u32 count;
	compat_uptr_t cbt_info_array;
};

struct ctrl_compat_tracker_read_cbt_bitmap {
	struct blk_snap_dev dev_id;
	u32 offset;
	u32 length;
	compat_uptr_t buff;
};

struct ctrl_compat_tracker_mark_dirty_blocks {
	struct blk_snap_dev dev_id;
	u32 count;
	compat_uptr_t dirty_blocks_array;
};

struct ctrl_compat_snapshot_create {
	u32 count;
	compat_uptr_t dev_id_array;
	struct blk_snap_uuid id;
};

struct ctrl_compat_snapshot_append_storage {
	struct blk_snap_uuid id;
	struct blk_snap_dev dev_id;
	u32 count;
	compat_uptr_t ranges;
};

struct ctrl_compat_snapshot_collect {
	u32 count;
	compat_uptr_t ids;
};

struct ctrl_compat_snapshot_collect_images {
	struct blk_snap_uuid id;
	u32 count;
	compat_uptr_t image_info_array;
};

#define CTRL_COMPAT_TRACKER_COLLECT \
	_IOW(BLK_SNAP, blk_snap_ioctl_tracker_collect, struct ctrl_compat_tracker_collect)
#define CTRL_COMPAT_TRACKER_READ_CBT_MAP \
	_IOR(BLK_SNAP, blk_snap_ioctl_tracker_read_cbt_map, \
	     struct ctrl_compat_tracker_read_cbt_bitmap)
#define CTRL_COMPAT_TRACKER_MARK_DIRTY_BLOCKS \
	_IOR(BLK_SNAP, blk_snap_ioctl_tracker_mark_dirty_blocks, \
	     struct ctrl_compat_tracker_mark_dirty_blocks)
#define CTRL_COMPAT_SNAPSHOT_CREATE \
	_IOW(BLK_SNAP, blk_snap_ioctl_snapshot_create, struct ctrl_compat_snapshot_create)
#define CTRL_COMPAT_SNAPSHOT_APPEND_STORAGE \
	_IOW(BLK_SNAP, blk_snap_ioctl_snapshot_append_storage, \
	     struct ctrl_compat_snapshot_append_storage)
#define CTRL_COMPAT_SNAPSHOT_COLLECT \
	_IOW(BLK_SNAP, blk_snap_ioctl_snapshot_collect, struct ctrl_compat_snapshot_collect)
#define CTRL_COMPAT_SNAPSHOT_COLLECT_IMAGES \
	_IOW(BLK_SNAP, blk_snap_ioctl_snapshot_collect_images, \
	     struct ctrl_compat_snapshot_collect_images)

static int ctrl_compat_put_infos(void __user *array, const struct blk_snap_cbt_info *infos,
				 u32 count)
{
	struct ctrl_compat_cbt_info __user *entry = array;
	struct ctrl_compat_cbt_info out;
	u32 i;

	memset(&out, 0, sizeof(out));
	for (i = 0; i < count; i++) {
		out.dev_id = infos[i].dev_id;
		out.blk_size = infos[i].blk_size;
		out.device_capacity = infos[i].device_capacity;
		out.blk_count = infos[i].blk_count;
		out.generation_id = infos[i].generation_id;
		out.snap_number = infos[i].snap_number;
		if (copy_to_user(&entry[i], &out, sizeof(out)))
			return -EFAULT;
	}
	return 0;
}

static long ctrl_compat_tracker_collect(void __user *arg)
{
	struct ctrl_compat_tracker_collect args;
	int ret;

	if (copy_from_user(&args, arg, sizeof(args)))
		return -EFAULT;
	/* Programs of the x32 ABI, which this macro means, have the rows of 64-bit ones. */
	ret = ctrl_collect_trackers(compat_ptr(args.cbt_info_array), &args.count,
				    COMPAT_USE_64BIT_TIME ? ctrl_put_infos :
							    ctrl_compat_put_infos);
	if (ret && ret != -ENOBUFS)
		return ret;
	return copy_to_user(arg, &args, sizeof(args)) ? -EFAULT : ret;
}

static long ctrl_compat_tracker_read_cbt_map(const void __user *arg)
{
	struct ctrl_compat_tracker_read_cbt_bitmap args;

	if (copy_from_user(&args, arg, sizeof(args)))
		return -EFAULT;
	return tracker_read_cbt_map(ctrl_dev(&args.dev_id), args.offset, args.length,
				    compat_ptr(args.buff));
}

static long ctrl_compat_tracker_mark_dirty_blocks(const void __user *arg)
{
	struct ctrl_compat_tracker_mark_dirty_blocks args;

	if (copy_from_user(&args, arg, sizeof(args)))
		return -EFAULT;
	return ctrl_mark_dirty_blocks(&args.dev_id, compat_ptr(args.dirty_blocks_array),
				      args.count);
}

static long ctrl_compat_snapshot_create(void __user *arg)
{
	struct ctrl_compat_snapshot_create args;
	uuid_t id;
	int ret;

	if (copy_from_user(&args, arg, sizeof(args)))
		return -EFAULT;
	ret = ctrl_create_snapshot(compat_ptr(args.dev_id_array), args.count, &id);
	if (ret)
		return ret;
	export_uuid(args.id.b, &id);
	if (copy_to_user(arg, &args, sizeof(args))) {
		/* The caller does not get the id, so it could not destroy it. */
		snapshot_undo(&id);
		return -EFAULT;
	}
	return 0;
}

static long ctrl_compat_snapshot_append_storage(const void __user *arg)
{
	struct ctrl_compat_snapshot_append_storage args;

	if (copy_from_user(&args, arg, sizeof(args)))
		return -EFAULT;
	return ctrl_append_storage(&args.id, &args.dev_id, compat_ptr(args.ranges), args.count);
}

static long ctrl_compat_snapshot_collect(void __user *arg)
{
	struct ctrl_compat_snapshot_collect args;
	int ret;

	if (copy_from_user(&args, arg, sizeof(args)))
		return -EFAULT;
	ret = snapshot_collect(compat_ptr(args.ids), &args.count);
	if (ret && ret != -ENODATA)
		return ret;
	return copy_to_user(arg, &args, sizeof(args)) ? -EFAULT : ret;
}

static long ctrl_compat_snapshot_collect_images(void __user *arg)
{
	struct ctrl_compat_snapshot_collect_images args;
	uuid_t id;
	int ret;

	if (copy_from_user(&args, arg, sizeof(args)))
		return -EFAULT;
	import_uuid(&id, args.id.b);
	ret = snapshot_collect_images(&id, compat_ptr(args.image_info_array), &args.count);
	if (ret && ret != -ENODATA)
		return ret;
	return copy_to_user(arg, &args, sizeof(args)) ? -EFAULT : ret;
}

static long ctrl_ioctl_compat(struct file *file, unsigned int cmd, unsigned long arg)
{
	void __user *user_arg = compat_ptr(arg);

	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;

	switch (cmd) {
	case CTRL_COMPAT_TRACKER_COLLECT:
		return ctrl_compat_tracker_collect(user_arg);
	case CTRL_COMPAT_TRACKER_READ_CBT_MAP:
		return ctrl_compat_tracker_read_cbt_map(user_arg);
	case CTRL_COMPAT_TRACKER_MARK_DIRTY_BLOCKS:
		return ctrl_compat_tracker_mark_dirty_blocks(user_arg);
	case CTRL_COMPAT_SNAPSHOT_CREATE:
		return ctrl_compat_snapshot_create(user_arg);
	case CTRL_COMPAT_SNAPSHOT_APPEND_STORAGE:
		return ctrl_compat_snapshot_append_storage(user_arg);
	case CTRL_COMPAT_SNAPSHOT_COLLECT:
		return ctrl_compat_snapshot_collect(user_arg);
	case CTRL_COMPAT_SNAPSHOT_COLLECT_IMAGES:
		return ctrl_compat_snapshot_collect_images(user_arg);
	default:
		return ctrl_ioctl_common(file, cmd, user_arg);
	}
}
#endif /* CONFIG_COMPAT */

static long ctrl_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	return ctrl_ioctl_native(file, cmd, (void __user *)arg);
}

static int ctrl_open(struct inode *inode, struct file *file)
{
	/* It points to the miscdevice so far. */
	file->private_data = NULL;
	return nonseekable_open(inode, file);
}

static int ctrl_release(struct inode *inode, struct file *file)
{
	if (file->private_data)
		snapshot_put(file->private_data);	/* of ctrl_watch_snapshot() */
	return 0;
}

static __poll_t ctrl_poll(struct file *file, struct poll_table_struct *table)
{
	struct snapshot *snapshot = READ_ONCE(file->private_data);

	return snapshot ? snapshot_poll(snapshot, file, table) : EPOLLERR;
}

static const struct file_operations ctrl_fops = {
	.owner = THIS_MODULE,
	.open = ctrl_open,
	.release = ctrl_release,
	.poll = ctrl_poll,
	.unlocked_ioctl = ctrl_ioctl,
#ifdef CONFIG_COMPAT
	.compat_ioctl = ctrl_ioctl_compat,
#endif
};

static struct miscdevice ctrl_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = BLK_SNAP_CTL,
	.fops = &ctrl_fops,
	.mode = 0600,
};

int ctrl_module_init(void)
{
	int ret = misc_register(&ctrl_device);

	if (!ret)
		event_set_announcer(&ctrl_device.this_device->kobj);
	return ret;
}

/* There is no snapshot any more, so nothing is announced. */
void ctrl_module_exit(void)
{
	event_set_announcer(NULL);
	misc_deregister(&ctrl_device);
}
