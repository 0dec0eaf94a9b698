// SPDX-License-Identifier: GPL-2.0
/*
 * What a block device lies on
 *
 * sysfs has a folder for each device, found by its number:
 *
 *	/sys/dev/block/253:0/slaves/sda2	one link for each device below
 *	/sys/dev/block/7:0/loop/backing_file	the path of a loop device's file
 *
 * A partition has neither, but its disk has, in the folder above.  Devices are looked at
 * one after the other, in the order in which they are found.
 *
 * Takes no lock of its own.
 */
#include "blksnap.h"

#include <linux/blkdev.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/kdev_t.h>
#include <linux/limits.h>
#include <linux/namei.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "compat.h"
#include "storage_stack.h"

/* Room for "/sys/dev/block/", a number, and "/../slaves/" with a name and "/dev". */
#define SYSFS_PATH_MAX 128

/* A listing of a folder; stops where STORAGE_STACK_MAX names have been found. */
struct name_list {
	struct dir_context ctx;
	char names[STORAGE_STACK_MAX][DISK_NAME_LEN];
	unsigned int nr;
};

/* Up to @size - 1 bytes, without the newline at the end. */
static bool sysfs_read(const char *path, char *text, size_t size)
{
	struct file *file = filp_open(path, O_RDONLY, 0);
	loff_t pos = 0;
	ssize_t length;

	if (IS_ERR(file))
		return false;
	length = kernel_read(file, text, size - 1, &pos);
	filp_close(file, NULL);
	if (length <= 0)
		return false;
	text[length] = '\0';
	strim(text);
	return true;
}

static bool name_list_add(struct dir_context *ctx, const char *name, int length, loff_t offset,
			  u64 inode, unsigned int type)
{
	struct name_list *list = container_of(ctx, struct name_list, ctx);

	if (name[0] == '.' || length >= DISK_NAME_LEN)
		return true;
	memcpy(list->names[list->nr], name, length);
	list->names[list->nr][length] = '\0';
	return ++list->nr < STORAGE_STACK_MAX;
}

static void name_list_read(struct name_list *list, const char *path)
{
	struct file *file = filp_open(path, O_RDONLY | O_DIRECTORY, 0);

	memset(list, 0, sizeof(*list));
	list->ctx.actor = name_list_add;
	if (IS_ERR(file))
		return;
	iterate_dir(file, &list->ctx);
	filp_close(file, NULL);
}

static void storage_stack_add(struct storage_stack *stack, dev_t dev)
{
	unsigned int i;

	for (i = 0; i < stack->nr; i++)
		if (stack->devs[i] == dev)
			return;
	if (dev && stack->nr < STORAGE_STACK_MAX)
		stack->devs[stack->nr++] = dev;
}

static void storage_stack_add_slave(struct storage_stack *stack, const char *folder,
				    const char *name)
{
	char path[SYSFS_PATH_MAX], text[24];
	unsigned int major, minor;

	snprintf(path, sizeof(path), "%s/%s/dev", folder, name);
	if (sysfs_read(path, text, sizeof(text)) && sscanf(text, "%u:%u", &major, &minor) == 2)
		storage_stack_add(stack, MKDEV(major, minor));
}

/* @parent is "" for a disk, "/.." for what may be a partition. */
static void storage_stack_add_slaves(struct storage_stack *stack, struct name_list *list,
				     dev_t dev, const char *parent)
{
	char folder[SYSFS_PATH_MAX];
	unsigned int i;

	snprintf(folder, sizeof(folder), "/sys/dev/block/%u:%u%s/slaves", MAJOR(dev),
		 MINOR(dev), parent);
	name_list_read(list, folder);
	for (i = 0; i < list->nr; i++)
		storage_stack_add_slave(stack, folder, list->names[i]);
}

/* The device that holds the file, or is the file; 0 if there is none. */
static dev_t file_dev(const char *name)
{
	struct super_block *sb;
	struct inode *inode;
	struct path path;
	dev_t dev = 0;

	if (kern_path(name, LOOKUP_FOLLOW, &path))
		return 0;
	inode = d_inode(path.dentry);
	sb = inode->i_sb;
	if (S_ISBLK(inode->i_mode))
		dev = inode->i_rdev;
	else if (sb->s_bdev)
		dev = sb->s_bdev->bd_dev;
	path_put(&path);
	return dev;
}

static void storage_stack_add_backing(struct storage_stack *stack, dev_t dev,
				      const char *parent)
{
	char path[SYSFS_PATH_MAX];
	char *name = kmalloc(PATH_MAX, GFP_KERNEL);

	if (!name)
		return;
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u%s/loop/backing_file", MAJOR(dev),
		 MINOR(dev), parent);
	if (sysfs_read(path, name, PATH_MAX))
		storage_stack_add(stack, file_dev(name));
	kfree(name);
}

/*
 * Finds what @dev lies on, directly or through others.  Returns 0, or -ENOMEM with nothing
 * found.
 */
int storage_stack_walk(struct storage_stack *stack, dev_t dev)
{
	struct name_list *list = kmalloc_obj(*list, GFP_KERNEL);
	unsigned int i;

	stack->nr = 0;
	if (!list)
		return -ENOMEM;
	storage_stack_add(stack, dev);
	for (i = 0; i < stack->nr; i++) {
		storage_stack_add_slaves(stack, list, stack->devs[i], "");
		storage_stack_add_slaves(stack, list, stack->devs[i], "/..");
		storage_stack_add_backing(stack, stack->devs[i], "");
		storage_stack_add_backing(stack, stack->devs[i], "/..");
	}
	kfree(list);
	return 0;
}
