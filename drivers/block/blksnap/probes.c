// SPDX-License-Identifier: GPL-2.0
/*
 * What does this kernel have?
 *
 * Not part of the module.  The Makefile compiles this file once for each PROBE_ below,
 * with the flags of the kernel at hand.  If that works compat.h finds BLKSNAP_HAVE_ of
 * the same name defined.  A probe asks for one thing, and uses it as compat.h does.
 *
 * Without any of them, but with all answers, compat.h itself is compiled.  That fails,
 * with the reason, if the module cannot be built for this kernel.
 */
#include <linux/blk-mq.h>
#include <linux/blkdev.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/ftrace.h>

#if defined(PROBE_FTRACE_GET_ARGUMENT)	/* 6.2 */
unsigned long probe(struct ftrace_regs *fregs)
{
	return ftrace_regs_get_argument(fregs, 0);
}

#elif defined(PROBE_FTRACE_SET_IP)	/* 6.2 */
void probe(struct ftrace_regs *fregs)
{
	ftrace_regs_set_instruction_pointer(fregs, 0);
}

#elif defined(PROBE_PT_REGS_GET_ARGUMENT)	/* most architectures */
unsigned long probe(struct pt_regs *regs)
{
	return regs_get_kernel_argument(regs, 0);
}

#elif defined(PROBE_BDEV_WRITE_PAGE)	/* up to 6.2 */
int probe(struct block_device *bdev, struct page *page, struct writeback_control *wbc)
{
	return bdev_write_page(bdev, 0, page, wbc);
}

#elif defined(PROBE_BDEV_FILE)	/* 6.9 */
struct block_device *probe(dev_t dev, blk_mode_t mode, void *holder)
{
	return file_bdev(bdev_file_open_by_dev(dev, mode, holder, NULL));
}

#elif defined(PROBE_BDEV_HANDLE)	/* 6.7 and 6.8 */
struct block_device *probe(dev_t dev, blk_mode_t mode, void *holder)
{
	struct bdev_handle *handle = bdev_open_by_dev(dev, mode, holder, NULL);

	return handle->bdev;
}

#elif defined(PROBE_BLKDEV_GET_BY_MODE)	/* 6.5 and 6.6 */
void probe(dev_t dev, blk_mode_t mode, void *holder)
{
	blkdev_put(blkdev_get_by_dev(dev, mode, holder, NULL), holder);
}

#elif defined(PROBE_BLKDEV_GET_BY_FMODE)	/* up to 6.4 */
void probe(dev_t dev, fmode_t mode, void *holder)
{
	blkdev_put(blkdev_get_by_dev(dev, mode, holder), mode);
}

#elif defined(PROBE_BDEV_FREEZE)	/* 6.8 */
int probe(struct block_device *bdev)
{
	return bdev_freeze(bdev) ?: bdev_thaw(bdev);
}

#elif defined(PROBE_HOLDER_FREEZE)	/* 6.8 */
int probe(struct block_device *bdev)
{
	mutex_lock(&bdev->bd_fsfreeze_mutex);
	mutex_lock(&bdev->bd_holder_lock);
	return bdev->bd_holder_ops->freeze ? bdev->bd_holder_ops->thaw(bdev) : 0;
}

#elif defined(PROBE_HOLDER_SYNC)	/* 6.6 */
void probe(struct block_device *bdev)
{
	mutex_lock(&bdev->bd_holder_lock);
	bdev->bd_holder_ops->sync(bdev);
}

#elif defined(PROBE_BD_SUPER)	/* up to 6.5 */
struct super_block *probe(struct block_device *bdev)
{
	return bdev->bd_super;
}

#elif defined(PROBE_FS_HOLDER_OPS)	/* 6.6 to 7.0 */
bool probe(struct block_device *bdev)
{
	return bdev->bd_holder_ops == &fs_holder_ops;
}

#elif defined(PROBE_BD_MAPPING)	/* 6.10 */
struct inode *probe(struct block_device *bdev)
{
	return bdev->bd_mapping->host;
}

#elif defined(PROBE_UNFREEZE_NOMEMRESTORE)	/* 6.14 */
void probe(struct request_queue *queue)
{
	blk_mq_unfreeze_queue_nomemrestore(queue);
}

#elif defined(PROBE_LIMITS_FEATURES)	/* 6.11 */
void probe(struct queue_limits *limits)
{
	limits->features |= BLK_FEAT_STABLE_WRITES;
}

#elif defined(PROBE_ALLOC_DISK_BY_LIMITS)	/* 6.9 */
struct gendisk *probe(struct queue_limits *limits)
{
	return blk_alloc_disk(limits, NUMA_NO_NODE);
}

#elif defined(PROBE_OPEN_GETS_DISK)	/* 6.5 */
static int probe_open(struct gendisk *disk, blk_mode_t mode)
{
	return 0;
}

const struct block_device_operations probe = { .open = probe_open };

#elif defined(PROBE_RELEASE_GETS_MODE)	/* up to 6.4 */
static void probe_release(struct gendisk *disk, fmode_t mode)
{
}

const struct block_device_operations probe = { .release = probe_release };

#else
#include "compat.h"
#endif
