// SPDX-License-Identifier: GPL-2.0
/*
 * Files that are pinned while a snapshot stores in their blocks
 *
 * The pin is the flag that swapon() sets on its files, and a reference of an open file.
 * The flag says whether a file is in use, but not by whom: that is known from the
 * snapshot's list.
 *
 * The list is protected by the snapshot's lock.  The inode's lock is waited for without it.
 */
#include "blksnap.h"

#include <linux/cred.h>
#include <linux/err.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/list.h>
#include <linux/magic.h>
#include <linux/pagemap.h>
#include <linux/printk.h>
#include <linux/slab.h>

#include "compat.h"
#include "storage_pin.h"

/* A pinned file; @file is open for reading, with a reference of the pin's own. */
struct storage_pin {
	struct list_head link;
	struct file *file;
};

/*
 * ext4 and XFS leave the blocks of a swap file alone.  Others need to be asked first
 * (btrfs), or move blocks as they like.
 */
static int storage_pin_check(const struct inode *inode)
{
	const struct super_block *sb = inode->i_sb;

	if (!S_ISREG(inode->i_mode))
		return -EINVAL;
	if (sb->s_magic == EXT4_SUPER_MAGIC || sb->s_magic == XFS_SUPER_MAGIC)
		return 0;
	pr_err_ratelimited("%s: cannot keep a file of %s in its place, only one of ext4 or XFS\n",
			   sb->s_id, sb->s_type->name);
	return -EOPNOTSUPP;
}

/*
 * Opens the file once more, for reading: the filesystem can still be made read-only.
 * The caller puts it with fput().  Returns an ERR_PTR: -EBADF, -EINVAL if it is not a
 * regular file, -EOPNOTSUPP if its filesystem cannot keep it in its place, or what
 * opening it returned.
 */
struct file *storage_pin_open(int fd)
{
	struct file *user_file = fget(fd);
	struct file *file;
	int ret;

	if (!user_file)
		return ERR_PTR(-EBADF);
	ret = storage_pin_check(file_inode(user_file));
	file = ret ? ERR_PTR(ret) :
		     dentry_open(&user_file->f_path, O_RDONLY | O_LARGEFILE, current_cred());
	fput(user_file);
	return file;
}

static bool storage_pin_is_known(const struct list_head *pins, const struct inode *inode)
{
	struct storage_pin *pin;

	list_for_each_entry(pin, pins, link)
		if (file_inode(pin->file) == inode)
			return true;
	return false;
}

/* A writer may hold the inode's lock for as long as its device likes. */
static int storage_pin_set_flag(struct inode *inode)
{
	int ret = 0;

	if (!inode_trylock(inode))
		return -EAGAIN;
	if (IS_SWAPFILE(inode))
		ret = -EBUSY;
	else
		inode->i_flags |= S_SWAPFILE;
	inode_unlock(inode);
	return ret;
}

/*
 * Pins a file for the snapshot with these @pins, or finds it pinned for this one.  On
 * success storage_pin_settle() has to follow.  Returns 0; -EAGAIN if somebody is at work on
 * the file; -EBUSY if it is a swap file or pinned for another snapshot; -ENOMEM.
 */
int storage_pin_add(struct list_head *pins, struct file *file)
{
	struct inode *inode = file_inode(file);
	struct storage_pin *pin;
	int ret;

	if (storage_pin_is_known(pins, inode))
		return 0;
	pin = kzalloc_obj(*pin, GFP_KERNEL_ACCOUNT);
	if (!pin)
		return -ENOMEM;
	ret = storage_pin_set_flag(inode);
	if (ret) {
		kfree(pin);
		return ret;
	}
	pin->file = get_file(file);
	list_add(&pin->link, pins);
	return 0;
}

/*
 * Waits for what was written before the pin, which would land on top of the copies.
 * Returns 0, or the error of writing it; the file stays pinned then.
 */
int storage_pin_settle(struct file *file)
{
	struct inode *inode = file_inode(file);

	inode_lock(inode);
	inode_dio_wait(inode);
	inode_unlock(inode);
	return filemap_write_and_wait(inode->i_mapping);
}

/* The snapshot does not use the blocks any more.  Called by a kernel thread. */
void storage_pin_remove_all(struct list_head *pins)
{
	struct storage_pin *pin, *next;
	struct inode *inode;

	list_for_each_entry_safe(pin, next, pins, link) {
		inode = file_inode(pin->file);
		inode_lock(inode);
		inode->i_flags &= ~S_SWAPFILE;
		inode_unlock(inode);
		list_del(&pin->link);
		/* At once, so that the filesystem can be unmounted. */
		__fput_sync(pin->file);
		kfree(pin);
	}
}
