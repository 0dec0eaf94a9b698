// SPDX-License-Identifier: GPL-2.0
/*
 * A write whose completion sleeps
 *
 *	echo FD >/sys/module/slow_end/parameters/plain
 *
 * FD is an open block device that completes bios in the context of their submitter, such
 * as brd.  A page of zeros is written to its first sectors.  With "chained" in place of
 * "plain" the bio that is submitted is a part of the one whose completion sleeps.
 *
 * A completion may be under way, so there is no function to unload it.
 */
#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/file.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/moduleparam.h>

/* Several times as long as unloading blksnap takes. */
#define SLOW_END_MS 4000

static bool is_ending;
module_param(is_ending, bool, 0444);
MODULE_PARM_DESC(is_ending, "A completion sleeps");

static void slow_end_io(struct bio *bio)
{
	WRITE_ONCE(is_ending, true);
	msleep(SLOW_END_MS);
	WRITE_ONCE(is_ending, false);
	bio_put(bio);
}

static int slow_write(struct file *file, bool is_chained)
{
	struct block_device *bdev = I_BDEV(file->f_mapping->host);
	struct bio *bio = bio_alloc(bdev, 1, REQ_OP_WRITE, GFP_KERNEL), *parent;

	bio->bi_end_io = slow_end_io;
	if (is_chained) {
		parent = bio;
		bio = bio_alloc(bdev, 1, REQ_OP_WRITE, GFP_KERNEL);
		bio_chain(bio, parent);
		/* From here on it waits for its part only. */
		bio_endio(parent);
	}
	__bio_add_page(bio, ZERO_PAGE(0), PAGE_SIZE, 0);
	submit_bio(bio);
	fput(file);
	return 0;
}

static int slow_write_plain(void *file)
{
	return slow_write(file, false);
}

static int slow_write_chained(void *file)
{
	return slow_write(file, true);
}

static int slow_write_start(const char *value, int (*fn)(void *file))
{
	struct task_struct *task;
	struct file *file;
	int fd, ret;

	ret = kstrtoint(value, 0, &fd);
	if (ret)
		return ret;
	file = fget(fd);
	if (!file)
		return -EBADF;
	task = kthread_run(fn, file, "slow_end");
	if (IS_ERR(task))
		fput(file);
	return PTR_ERR_OR_ZERO(task);
}

static int slow_start_plain(const char *value, const struct kernel_param *param)
{
	return slow_write_start(value, slow_write_plain);
}

static int slow_start_chained(const char *value, const struct kernel_param *param)
{
	return slow_write_start(value, slow_write_chained);
}

static const struct kernel_param_ops plain_ops = { .set = slow_start_plain };
static const struct kernel_param_ops chained_ops = { .set = slow_start_chained };

module_param_cb(plain, &plain_ops, NULL, 0200);
MODULE_PARM_DESC(plain, "Write to the device that is open as this");
module_param_cb(chained, &chained_ops, NULL, 0200);
MODULE_PARM_DESC(chained, "The same with a chained bio");

static int __init slow_end_init(void)
{
	return 0;
}

module_init(slow_end_init);
MODULE_DESCRIPTION("Completions that sleep, for tests of blksnap");
MODULE_LICENSE("GPL");
