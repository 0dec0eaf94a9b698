/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Differences between kernels, and nothing else
 *
 * out-of-tree: begin
 * The other files read as if written for the newest kernel.  Where an older one
 * lacks an interface, it is made here from what the older one has: under the
 * same name if the newest interface can be had, under a name of ours if its
 * shape differs too much.  Nothing else in the module tests for a version.
 *
 * A test asks what a kernel has, never how old it is, because distributions
 * backport interfaces.  It looks for a macro of the kernel, or for a
 * BLKSNAP_HAVE_... of probes.c.  Versions in comments are those of mainline.
 *
 * An #error here ends the build before anything else is compiled.
 * out-of-tree: end
 */
#ifndef BLKSNAP_COMPAT_H
#define BLKSNAP_COMPAT_H

#include <linux/blk-mq.h>
#include <linux/blkdev.h>
#include <linux/device-mapper.h>
#include <linux/dm-ioctl.h>
#include <linux/file.h>
#include <linux/slab.h>
/* out-of-tree: begin */
#include <linux/ftrace.h>
#include <linux/string.h>
#include <linux/tracepoint.h>
#include <trace/events/block.h>

/* Not one beside this file, which is of a build in place. */
#include <compat_probed.h>

/* From 7.0 on, memory for an object is asked for by its type. */
#ifndef kzalloc_obj
#define kmalloc_obj(object, gfp) kmalloc(sizeof(object), gfp)
#define kzalloc_obj(object, gfp) kzalloc(sizeof(object), gfp)
#endif

/*
 * Filter: the registers of a traced function.  ftrace passes the arguments, in a struct
 * that has accessors from 6.2 on; or else can only save all registers, if it is told to.
 * Where it can do neither, the accessors may be there and do nothing.
 */
#ifdef CONFIG_BLK_BIO_FILTER

#ifdef BLKSNAP_HAVE_BDEV_WRITE_PAGE
#error "CONFIG_BLK_BIO_FILTER does not see the pages that this kernel writes by ->rw_page()"
#endif

#elif defined(CONFIG_PPC64)
/* What an instruction pointer is set to finds its data by r12, which ftrace leaves alone. */
#error "64-bit PowerPC needs CONFIG_BLK_BIO_FILTER: ftrace cannot divert calls to a module there"

#elif defined(CONFIG_S390) || defined(CONFIG_PARISC)
/*
 * A kprobe at a function has it go on, wherever others have diverted it to: a bio that was
 * taken is submitted as well.  Elsewhere the instruction pointer is put back.
 */
#error "this architecture needs CONFIG_BLK_BIO_FILTER: there a kprobe undoes what ftrace diverts"

#elif defined(CONFIG_DYNAMIC_FTRACE_WITH_ARGS)

#define COMPAT_FTRACE_FLAGS	0

#ifndef BLKSNAP_HAVE_FTRACE_GET_ARGUMENT
#if defined(CONFIG_S390)
/* regs_get_kernel_argument() is there, but calls what is not exported. */
#define ftrace_regs_get_argument(fregs, nr)	((fregs)->regs.gprs[2 + (nr)])
#elif defined(BLKSNAP_HAVE_PT_REGS_GET_ARGUMENT)
#define ftrace_regs_get_argument(fregs, nr)	regs_get_kernel_argument(&(fregs)->regs, nr)
#else
#error "the arguments of a traced function cannot be read on this architecture"
#endif
#endif

#ifndef BLKSNAP_HAVE_FTRACE_SET_IP
#define ftrace_regs_set_instruction_pointer(fregs, ip) \
	ftrace_instruction_pointer_set(fregs, ip)
#endif

#elif defined(CONFIG_DYNAMIC_FTRACE_WITH_REGS) && defined(BLKSNAP_HAVE_PT_REGS_GET_ARGUMENT)

#define COMPAT_FTRACE_FLAGS	FTRACE_OPS_FL_SAVE_REGS

#undef ftrace_regs_get_argument
#define ftrace_regs_get_argument(fregs, nr) \
	regs_get_kernel_argument(ftrace_get_regs(fregs), nr)
#undef ftrace_regs_set_instruction_pointer
#define ftrace_regs_set_instruction_pointer(fregs, ip) \
	instruction_pointer_set(ftrace_get_regs(fregs), ip)

#else
#error "CONFIG_DYNAMIC_FTRACE_WITH_ARGS or _WITH_REGS, or CONFIG_BLK_BIO_FILTER is needed"
#endif

/* out-of-tree: end */
/*
 * Open block devices
 */

/**
 * struct bdev_ref - an open block device
 * @bdev:	the device, valid between bdev_ref_open() and bdev_ref_close()
 * @handle:	what the kernel at hand wants back at the close, if anything
 * @is_write:	opened for writing too
 * @holder:	as for bdev_ref_open()
 */
struct bdev_ref {
	struct block_device *bdev;
	void *handle;
	bool is_write;
	void *holder;
};

/*
 * bdev_ref_open() - open a block device by number
 *
 * With a @holder the device is claimed until it is closed; the same holder may open it
 * several times.  With NULL it is shared with other openers: an origin is mounted while it
 * is snapshotted.
 *
 * Return: 0, or what opening the device returned (-ENXIO, -ENODEV, -EACCES..., -EBUSY if
 *	   somebody else holds it).
 */
#ifdef BLKSNAP_HAVE_BDEV_FILE	/* 6.9 */

static inline int bdev_ref_open(struct bdev_ref *ref, dev_t dev, bool is_write, void *holder)
{
	blk_mode_t mode = BLK_OPEN_READ | (is_write ? BLK_OPEN_WRITE : 0);
	struct file *file = bdev_file_open_by_dev(dev, mode, holder, NULL);

	if (IS_ERR(file))
		return PTR_ERR(file);
	*ref = (struct bdev_ref){ .bdev = file_bdev(file), .handle = file };
	return 0;
}

static inline void bdev_ref_close(struct bdev_ref *ref)
{
	/* Close now: in a worker, fput() would leave it to another worker. */
	__fput_sync(ref->handle);
}

#elif defined(BLKSNAP_HAVE_BDEV_HANDLE)	/* 6.7 and 6.8 */

static inline int bdev_ref_open(struct bdev_ref *ref, dev_t dev, bool is_write, void *holder)
{
	blk_mode_t mode = BLK_OPEN_READ | (is_write ? BLK_OPEN_WRITE : 0);
	struct bdev_handle *handle = bdev_open_by_dev(dev, mode, holder, NULL);

	if (IS_ERR(handle))
		return PTR_ERR(handle);
	*ref = (struct bdev_ref){ .bdev = handle->bdev, .handle = handle };
	return 0;
}

static inline void bdev_ref_close(struct bdev_ref *ref)
{
	bdev_release(ref->handle);
}

#elif defined(BLKSNAP_HAVE_BLKDEV_GET_BY_MODE)	/* 6.5 and 6.6 */

static inline int bdev_ref_open(struct bdev_ref *ref, dev_t dev, bool is_write, void *holder)
{
	blk_mode_t mode = BLK_OPEN_READ | (is_write ? BLK_OPEN_WRITE : 0);
	struct block_device *bdev = blkdev_get_by_dev(dev, mode, holder, NULL);

	if (IS_ERR(bdev))
		return PTR_ERR(bdev);
	*ref = (struct bdev_ref){ .bdev = bdev, .holder = holder };
	return 0;
}

static inline void bdev_ref_close(struct bdev_ref *ref)
{
	blkdev_put(ref->bdev, ref->holder);
}

#elif defined(BLKSNAP_HAVE_BLKDEV_GET_BY_FMODE)

static inline fmode_t compat_bdev_mode(bool is_write, const void *holder)
{
	return FMODE_READ | (is_write ? FMODE_WRITE : 0) | (holder ? FMODE_EXCL : 0);
}

static inline int bdev_ref_open(struct bdev_ref *ref, dev_t dev, bool is_write, void *holder)
{
	struct block_device *bdev = blkdev_get_by_dev(dev, compat_bdev_mode(is_write, holder),
						      holder);

	if (IS_ERR(bdev))
		return PTR_ERR(bdev);
	*ref = (struct bdev_ref){ .bdev = bdev, .is_write = is_write, .holder = holder };
	return 0;
}

static inline void bdev_ref_close(struct bdev_ref *ref)
{
	blkdev_put(ref->bdev, compat_bdev_mode(ref->is_write, ref->holder));
}

#else
#error "this kernel opens block devices in a way that is not known yet"
#endif

/*
 * Freezing.  compat_bdev_holder_is_frozen(): was it the holder of a frozen device, a
 * filesystem, that was asked to freeze?
 *
 * compat_bdev_undo_freeze() has to follow a bdev_freeze() that failed: if the
 * filesystem froze but its writes did not reach the device, newer kernels leave it
 * frozen, unknown to bdev_thaw().  Not after -EBUSY: that would thaw a filesystem that
 * somebody else has frozen.
 */
#ifndef BLKSNAP_HAVE_BDEV_FREEZE	/* up to 6.7 */

static inline int bdev_freeze(struct block_device *bdev)
{
	return freeze_bdev(bdev);
}

static inline int bdev_thaw(struct block_device *bdev)
{
	return thaw_bdev(bdev);
}

#endif

#ifdef BLKSNAP_HAVE_HOLDER_FREEZE	/* 6.8 */

static inline bool compat_bdev_holder_is_frozen(struct block_device *bdev)
{
	bool is_frozen;

	mutex_lock(&bdev->bd_holder_lock);
	is_frozen = bdev->bd_holder_ops && bdev->bd_holder_ops->freeze;
	mutex_unlock(&bdev->bd_holder_lock);
	return is_frozen;
}

static inline void compat_bdev_undo_freeze(struct block_device *bdev)
{
	mutex_lock(&bdev->bd_fsfreeze_mutex);
	mutex_lock(&bdev->bd_holder_lock);
	/* ->thaw() unlocks.  It refuses what is not frozen. */
	if (bdev->bd_holder_ops && bdev->bd_holder_ops->thaw)
		bdev->bd_holder_ops->thaw(bdev);
	else
		mutex_unlock(&bdev->bd_holder_lock);
	mutex_unlock(&bdev->bd_fsfreeze_mutex);
}

#else

static inline bool compat_bdev_holder_is_frozen(struct block_device *bdev)
{
	return READ_ONCE(bdev->bd_fsfreeze_sb);
}

static inline void compat_bdev_undo_freeze(struct block_device *bdev)
{
}

#endif

/*
 * Is the filesystem on the device frozen?  Asked where bdev_freeze() returns -EBUSY for
 * one that somebody else has frozen, as it does up to 6.7; from then on only gfs2 does.
 * Never sleeps.  The memory of a superblock is kept for a grace period of RCU.
 */
static inline bool compat_sb_is_frozen(const struct super_block *sb)
{
	return sb && READ_ONCE(sb->s_writers.frozen) == SB_FREEZE_COMPLETE;
}

#ifdef BLKSNAP_HAVE_BD_SUPER	/* up to 6.5 */

static inline bool compat_bdev_is_frozen(struct block_device *bdev)
{
	bool is_frozen;

	rcu_read_lock();
	is_frozen = compat_sb_is_frozen(READ_ONCE(bdev->bd_super));
	rcu_read_unlock();
	return is_frozen;
}

#elif defined(BLKSNAP_HAVE_FS_HOLDER_OPS)

static inline bool compat_bdev_is_frozen(struct block_device *bdev)
{
	bool is_frozen;

	if (!mutex_trylock(&bdev->bd_holder_lock))
		return false;
	rcu_read_lock();
	is_frozen = bdev->bd_holder_ops == &fs_holder_ops &&
		    compat_sb_is_frozen(bdev->bd_holder);
	rcu_read_unlock();
	mutex_unlock(&bdev->bd_holder_lock);
	return is_frozen;
}

#else

static inline bool compat_bdev_is_frozen(struct block_device *bdev)
{
	return false;
}

#endif

static inline struct inode *compat_bdev_inode(const struct block_device *bdev)
{
#ifdef BLKSNAP_HAVE_BD_MAPPING	/* 6.10 */
	return bdev->bd_mapping->host;
#else
	return bdev->bd_inode;
#endif
}

/*
 * Writes out what a filesystem on a device, or the device, holds in memory.  From
 * 6.6 on the holder is asked, whose function releases the lock.
 */
#ifdef BLKSNAP_HAVE_HOLDER_SYNC
static inline void compat_bdev_sync(struct block_device *bdev)
{
	mutex_lock(&bdev->bd_holder_lock);
	if (bdev->bd_holder_ops && bdev->bd_holder_ops->sync) {
		bdev->bd_holder_ops->sync(bdev);
	} else {
		mutex_unlock(&bdev->bd_holder_lock);
		sync_blockdev(bdev);
	}
}
#else
static inline void compat_bdev_sync(struct block_device *bdev)
{
	fsync_bdev(bdev);
}
#endif

#ifndef BLKSNAP_HAVE_UNFREEZE_NOMEMRESTORE
/*
 * From 6.14 on, freezing and unfreezing a queue comes with a memory allocation
 * scope; without it, unfreezing has a name of its own there.
 */
#define blk_mq_unfreeze_queue_nomemrestore(queue) blk_mq_unfreeze_queue(queue)
#endif

/* out-of-tree: begin */
/*
 * A bio that the worker of its cgroup is to submit.  Where kernels have none, the caller
 * submits it itself.
 */
#ifdef REQ_CGROUP_PUNT		/* up to 6.3 */
static inline void blkcg_punt_bio_submit(struct bio *bio)
{
	bio->bi_opf |= REQ_CGROUP_PUNT;
	submit_bio(bio);
}
#elif defined(CONFIG_BLK_CGROUP) && !defined(CONFIG_BLK_CGROUP_PUNT_BIO)
#define COMPAT_LACKS_CGROUP_PUNT 1
#define blkcg_punt_bio_submit(bio) submit_bio_noacct(bio)
#endif

#ifndef COMPAT_LACKS_CGROUP_PUNT
#define COMPAT_LACKS_CGROUP_PUNT 0
#endif
/* out-of-tree: end */

#ifndef BLKSNAP_HAVE_ALLOC_DISK_BY_LIMITS
/*
 * Disks: blk_alloc_disk(limits, node), which returns an ERR_PTR on failure.  Older
 * kernels take over those limits that an image sets.
 */
static inline struct gendisk *compat_alloc_disk(const struct queue_limits *limits, int node)
{
	struct gendisk *disk = blk_alloc_disk(node);

	if (!disk)
		return ERR_PTR(-ENOMEM);
	blk_queue_logical_block_size(disk->queue, limits->logical_block_size);
	blk_queue_physical_block_size(disk->queue, limits->physical_block_size);
	blk_queue_io_min(disk->queue, limits->io_min);
	blk_queue_io_opt(disk->queue, limits->io_opt);
	blk_queue_dma_alignment(disk->queue, limits->dma_alignment);
	return disk;
}

#undef blk_alloc_disk
#define blk_alloc_disk(limits, node) compat_alloc_disk(limits, node)
#endif

/* Has the page cache keep a page as it is while it is written.  The disk is not added yet. */
static inline void compat_disk_need_stable_pages(struct gendisk *disk)
{
#ifdef BLKSNAP_HAVE_LIMITS_FEATURES
	disk->queue->limits.features |= BLK_FEAT_STABLE_WRITES;
#else
	blk_queue_flag_set(QUEUE_FLAG_STABLE_WRITES, disk->queue);
#endif
}

/*
 * Has the device-mapper device a uuid that begins so?  Device mapper need not be loaded,
 * and keeps its function if it has such a device.  The device is open.
 */
#if IS_ENABLED(CONFIG_BLK_DEV_DM)
static inline bool compat_dm_has_prefix(const struct gendisk *disk, const char *prefix)
{
	typeof(dm_copy_name_and_uuid) *copy = symbol_get(dm_copy_name_and_uuid);
	char name[DM_NAME_LEN], uuid[DM_UUID_LEN];
	bool has_prefix;

	if (!copy)
		return false;
	has_prefix = !copy(disk->private_data, name, uuid) &&
		     !strncmp(uuid, prefix, strlen(prefix));
	symbol_put(dm_copy_name_and_uuid);
	return has_prefix;
}
#else
static inline bool compat_dm_has_prefix(const struct gendisk *disk, const char *prefix)
{
	return false;
}
#endif

/* out-of-tree: begin */
/*
 * Tracepoints that are not exported: a module finds them by name.  The kernel never
 * removes one of its own.
 */
struct compat_tracepoint {
	const char *name;
	struct tracepoint *found;
};

static inline void compat_match_tracepoint(struct tracepoint *tracepoint, void *data)
{
	struct compat_tracepoint *wanted = data;

	if (!strcmp(tracepoint->name, wanted->name))
		wanted->found = tracepoint;
}

static inline int compat_probe_register(const char *name, void *probe, void *data)
{
	struct compat_tracepoint wanted = { .name = name };

	for_each_kernel_tracepoint(compat_match_tracepoint, &wanted);
	return wanted.found ? tracepoint_probe_register(wanted.found, probe, data) : -ENOENT;
}

static inline void compat_probe_unregister(const char *name, void *probe, void *data)
{
	struct compat_tracepoint wanted = { .name = name };

	for_each_kernel_tracepoint(compat_match_tracepoint, &wanted);
	tracepoint_probe_unregister(wanted.found, probe, data);
}

/* The compiler sees that the probe has the type that the tracepoint calls. */
#define compat_register_trace(name, probe, data) ({			\
	typeof(probe) *compat_probe = (probe);				\
									\
	check_trace_callback_type_##name(compat_probe);			\
	compat_probe_register(#name, compat_probe, data);		\
})

#define register_trace_block_bio_queue(probe, data) \
	compat_register_trace(block_bio_queue, probe, data)
#define unregister_trace_block_bio_queue(probe, data) \
	compat_probe_unregister("block_bio_queue", probe, data)
#define register_trace_block_rq_issue(probe, data) \
	compat_register_trace(block_rq_issue, probe, data)
#define unregister_trace_block_rq_issue(probe, data) \
	compat_probe_unregister("block_rq_issue", probe, data)
#define register_trace_block_rq_complete(probe, data) \
	compat_register_trace(block_rq_complete, probe, data)
#define unregister_trace_block_rq_complete(probe, data) \
	compat_probe_unregister("block_rq_complete", probe, data)

/*
 * Disks: the head of an ->open(), which got the block device before 6.5, and of
 * a ->release(), which got the mode, too.
 */
#ifdef BLKSNAP_HAVE_OPEN_GETS_DISK
#define COMPAT_DISK_OPEN(name)		static int name(struct gendisk *opened, blk_mode_t mode)
#define COMPAT_OPENED_DISK(opened)	(opened)
#else
#define COMPAT_DISK_OPEN(name)		static int name(struct block_device *opened, fmode_t mode)
#define COMPAT_OPENED_DISK(opened)	((opened)->bd_disk)
#endif

#ifdef BLKSNAP_HAVE_RELEASE_GETS_MODE
#define COMPAT_DISK_RELEASE(name)	static void name(struct gendisk *disk, fmode_t mode)
#else
#define COMPAT_DISK_RELEASE(name)	static void name(struct gendisk *disk)
#endif
/* out-of-tree: end */

#endif /* BLKSNAP_COMPAT_H */
