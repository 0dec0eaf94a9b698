/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * Interface of the block device snapshot module
 *
 * A backup agent opens /dev/blksnap and drives the module with the ioctls
 * below.  All of them need CAP_SYS_ADMIN; without it they fail with -EPERM.
 * A number that is not listed here fails with -ENOTTY, an unreadable or
 * unwritable argument with -EFAULT.
 *
 * The binary interface is frozen.  Three things in it look odd and stay so:
 *
 * - The direction bits of the ioctl numbers do not tell which way the data
 *   goes.  The comment of each call does.
 * - Several structures hold pointers, so they have another size for 32-bit
 *   programs.  The module serves both.
 * - The pointers carry no __user mark, because this file is included by user
 *   space as it stands, and there the mark does not exist.  The module adds the
 *   mark when it takes the pointer out of the structure.
 *
 * Every structure that the module writes back is written as a whole: padding
 * and unused bytes come back as zeros.
 */
#ifndef _UAPI_LINUX_BLKSNAP_H
#define _UAPI_LINUX_BLKSNAP_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* Name of the control node in /dev. */
#define BLK_SNAP_CTL "blksnap"

/*
 * Name of an image disk in /dev, followed by the minor number of the image in
 * decimal: /dev/blksnap-image0.
 */
#define BLK_SNAP_IMAGE_NAME "blksnap-image"

/* The ioctl type ("magic") of all calls. */
#define BLK_SNAP 'V'

/**
 * enum blk_snap_ioctl - command numbers on the control node
 * @blk_snap_ioctl_version: see IOCTL_BLK_SNAP_VERSION
 * @blk_snap_ioctl_tracker_remove: see IOCTL_BLK_SNAP_TRACKER_REMOVE
 * @blk_snap_ioctl_tracker_collect: see IOCTL_BLK_SNAP_TRACKER_COLLECT
 * @blk_snap_ioctl_tracker_read_cbt_map: see IOCTL_BLK_SNAP_TRACKER_READ_CBT_MAP
 * @blk_snap_ioctl_tracker_mark_dirty_blocks: see
 *	IOCTL_BLK_SNAP_TRACKER_MARK_DIRTY_BLOCKS
 * @blk_snap_ioctl_snapshot_create: see IOCTL_BLK_SNAP_SNAPSHOT_CREATE
 * @blk_snap_ioctl_snapshot_destroy: see IOCTL_BLK_SNAP_SNAPSHOT_DESTROY
 * @blk_snap_ioctl_snapshot_append_storage: see
 *	IOCTL_BLK_SNAP_SNAPSHOT_APPEND_STORAGE
 * @blk_snap_ioctl_snapshot_take: see IOCTL_BLK_SNAP_SNAPSHOT_TAKE
 * @blk_snap_ioctl_snapshot_collect: see IOCTL_BLK_SNAP_SNAPSHOT_COLLECT
 * @blk_snap_ioctl_snapshot_collect_images: see
 *	IOCTL_BLK_SNAP_SNAPSHOT_COLLECT_IMAGES
 * @blk_snap_ioctl_snapshot_wait_event: see IOCTL_BLK_SNAP_SNAPSHOT_WAIT_EVENT
 * @blk_snap_ioctl_snapshot_info: see IOCTL_BLK_SNAP_SNAPSHOT_INFO
 * @blk_snap_ioctl_snapshot_pin_file: see IOCTL_BLK_SNAP_SNAPSHOT_PIN_FILE
 */
enum blk_snap_ioctl {
	blk_snap_ioctl_version = 0,
	blk_snap_ioctl_tracker_remove = 1,
	blk_snap_ioctl_tracker_collect = 2,
	blk_snap_ioctl_tracker_read_cbt_map = 3,
	blk_snap_ioctl_tracker_mark_dirty_blocks = 4,
	blk_snap_ioctl_snapshot_create = 5,
	blk_snap_ioctl_snapshot_destroy = 6,
	blk_snap_ioctl_snapshot_append_storage = 7,
	blk_snap_ioctl_snapshot_take = 8,
	blk_snap_ioctl_snapshot_collect = 9,
	blk_snap_ioctl_snapshot_collect_images = 10,
	blk_snap_ioctl_snapshot_wait_event = 11,
	blk_snap_ioctl_snapshot_pin_file = 24,
	blk_snap_ioctl_snapshot_info = 25
};

/**
 * struct blk_snap_version - version of the loaded module
 * @major: changes when the meaning of a call changes
 * @minor: changes when something is added
 * @revision: changes when something is corrected
 * @build: number of the build, 0 if builds are not counted
 */
struct blk_snap_version {
	__u16 major;
	__u16 minor;
	__u16 revision;
	__u16 build;
};

/**
 * define IOCTL_BLK_SNAP_VERSION - tell the version of the module
 *
 * Description: Data goes out: a struct blk_snap_version is filled in.
 *
 * Return: 0.
 */
#define IOCTL_BLK_SNAP_VERSION                                                 \
	_IOW(BLK_SNAP, blk_snap_ioctl_version, struct blk_snap_version)

/**
 * struct blk_snap_dev - number of a block device
 * @mj: major number
 * @mn: minor number
 */
struct blk_snap_dev {
	__u32 mj;
	__u32 mn;
};

/**
 * struct blk_snap_tracker_remove - argument of IOCTL_BLK_SNAP_TRACKER_REMOVE
 * @dev_id: the tracked device
 */
struct blk_snap_tracker_remove {
	struct blk_snap_dev dev_id;
};

/**
 * define IOCTL_BLK_SNAP_TRACKER_REMOVE - stop tracking a device
 *
 * Description: Data goes in.  The change map of the device is lost, so its next
 * backup has to be a full one.
 *
 * Return: 0, -ENODATA if the device is not tracked, -EBUSY if it belongs to a
 * snapshot, whether that is taken already or only created.
 */
#define IOCTL_BLK_SNAP_TRACKER_REMOVE                                          \
	_IOW(BLK_SNAP, blk_snap_ioctl_tracker_remove,                          \
	     struct blk_snap_tracker_remove)

/**
 * struct blk_snap_uuid - unique identifier of a snapshot or of a generation
 * @b: the sixteen bytes, in the order in which a UUID is printed
 */
struct blk_snap_uuid {
	__u8 b[16];
};

/**
 * struct blk_snap_cbt_info - state of the change tracking of one device
 * @dev_id: the tracked device
 * @blk_size: size of a tracking block in bytes
 * @device_capacity: size of the device in bytes
 * @blk_count: number of tracking blocks, which is the length of the map in
 *	bytes
 * @generation_id: names the period in which the bytes of the map and the
 *	snapshot numbers can be compared with each other.  It changes when the
 *	map can no longer be trusted: the tracking began anew, the numbers were
 *	used up, the capacity changed, or a write could not be marked.
 * @snap_number: number of the last snapshot that was taken of the device in
 *	this generation, 0 before the first
 *
 * A tracked device that has gone away keeps its entry; everything in it except
 * @dev_id is zero then.
 */
struct blk_snap_cbt_info {
	struct blk_snap_dev dev_id;
	__u32 blk_size;
	__u64 device_capacity;
	__u32 blk_count;
	struct blk_snap_uuid generation_id;
	__u8 snap_number;
};

/**
 * struct blk_snap_tracker_collect - argument of IOCTL_BLK_SNAP_TRACKER_COLLECT
 * @count: in: number of entries that @cbt_info_array has room for;
 *	out: number of tracked devices
 * @cbt_info_array: array to fill, or NULL to ask for the number alone
 */
struct blk_snap_tracker_collect {
	__u32 count;
	struct blk_snap_cbt_info *cbt_info_array;
};

/**
 * define IOCTL_BLK_SNAP_TRACKER_COLLECT - list the tracked devices
 *
 * Description: Data goes in and out.  With a NULL array or a count of 0 only
 * the number of tracked devices is written to the argument.
 *
 * Return: 0, or -ENOBUFS if the array is too small: the array is untouched
 * then, and the argument tells the count that is needed.
 */
#define IOCTL_BLK_SNAP_TRACKER_COLLECT                                         \
	_IOW(BLK_SNAP, blk_snap_ioctl_tracker_collect,                         \
	     struct blk_snap_tracker_collect)

/**
 * struct blk_snap_tracker_read_cbt_bitmap - argument of
 *	IOCTL_BLK_SNAP_TRACKER_READ_CBT_MAP
 * @dev_id: the tracked device
 * @offset: index of the first tracking block to read
 * @length: number of tracking blocks to read, one byte each
 * @buff: buffer of at least @length bytes
 */
struct blk_snap_tracker_read_cbt_bitmap {
	struct blk_snap_dev dev_id;
	__u32 offset;
	__u32 length;
	__u8 *buff;
};

/**
 * define IOCTL_BLK_SNAP_TRACKER_READ_CBT_MAP - read the map of changed blocks
 *
 * Description: The argument goes in, the map goes out to its buffer.  The map
 * has one byte for each tracking block: the number of the snapshot interval in
 * which the block changed last, or 0 if it has not changed since the generation
 * began.  What is read is the map as the last take left it, plus what was
 * written to the image and what IOCTL_BLK_SNAP_TRACKER_MARK_DIRTY_BLOCKS added
 * since.
 *
 * A client whose last backup is snapshot number P must copy every block whose
 * byte is greater than P.  That is true only as long as generation_id,
 * blk_count and device_capacity are the ones that it saw with P; otherwise the
 * next backup has to be a full one.
 *
 * Return: the number of bytes copied out, which is less than the length if the
 * map ends earlier and 0 if the offset equals blk_count; -EINVAL if the offset
 * is greater, -ENODATA if the device is not tracked, -EPERM if no snapshot of
 * it was ever taken, -EFAULT if nothing could be copied out.
 */
#define IOCTL_BLK_SNAP_TRACKER_READ_CBT_MAP                                    \
	_IOR(BLK_SNAP, blk_snap_ioctl_tracker_read_cbt_map,                    \
	     struct blk_snap_tracker_read_cbt_bitmap)

/**
 * struct blk_snap_block_range - piece of a block device
 * @sector_offset: first sector, counted from the start of the device
 * @sector_count: number of sectors
 *
 * A sector has 512 bytes, whatever the logical block size of the device is.
 */
struct blk_snap_block_range {
	__u64 sector_offset;
	__u64 sector_count;
};

/**
 * struct blk_snap_tracker_mark_dirty_blocks - argument of
 *	IOCTL_BLK_SNAP_TRACKER_MARK_DIRTY_BLOCKS
 * @dev_id: the tracked device or a snapshot image of it
 * @count: number of ranges
 * @dirty_blocks_array: the ranges
 */
struct blk_snap_tracker_mark_dirty_blocks {
	struct blk_snap_dev dev_id;
	__u32 count;
	struct blk_snap_block_range *dirty_blocks_array;
};

/**
 * define IOCTL_BLK_SNAP_TRACKER_MARK_DIRTY_BLOCKS - mark ranges as changed
 *
 * Description: Data goes in.  The tracking blocks that the ranges touch will be
 * part of the next incremental backup, with or without a snapshot being held.
 * Naming an image means its origin.
 *
 * Return: 0, also for a count of 0; -ENODEV if the device is not tracked;
 * -EINVAL if a range is empty or reaches beyond the end of the device; -E2BIG for
 * more than 262144 ranges; -ENOMEM.  All ranges are checked before the first of
 * them is marked.
 */
#define IOCTL_BLK_SNAP_TRACKER_MARK_DIRTY_BLOCKS                               \
	_IOR(BLK_SNAP, blk_snap_ioctl_tracker_mark_dirty_blocks,               \
	     struct blk_snap_tracker_mark_dirty_blocks)

/**
 * struct blk_snap_snapshot_create - argument of IOCTL_BLK_SNAP_SNAPSHOT_CREATE
 * @count: number of devices
 * @dev_id_array: the devices
 * @id: out: identifier of the new snapshot
 */
struct blk_snap_snapshot_create {
	__u32 count;
	struct blk_snap_dev *dev_id_array;
	struct blk_snap_uuid id;
};

/**
 * define IOCTL_BLK_SNAP_SNAPSHOT_CREATE - prepare a snapshot of some devices
 *
 * Description: The list of devices goes in, the identifier comes out.  Devices
 * that were not tracked yet are tracked from now on.  Nothing is copied before
 * IOCTL_BLK_SNAP_SNAPSHOT_TAKE, and writes under way are waited for only there.  A
 * low_free_space event is queued at once: it asks for the first piece of difference
 * storage.  A device of a snapshot that was destroyed a moment ago may be named: the
 * call waits up to a second for the end of that snapshot.
 *
 * Return: 0; -EINVAL if the count is 0 or above 1024 or a device is named twice;
 * -EALREADY if a device belongs to another snapshot; -ENODEV or -ENXIO if there
 * is no such device; -EOPNOTSUPP if a device cannot be protected (it is zoned,
 * supports DAX, is too large, is an image, or is written to past the module), and
 * the log says which and why; -EBUSY if the module cannot see any writes, for
 * another module or a live patch diverts submit_bio_noacct(), or
 * kernel.ftrace_enabled is 0; -ENOMEM.  After any failure nothing is tracked that was
 * not before.
 */
#define IOCTL_BLK_SNAP_SNAPSHOT_CREATE                                         \
	_IOW(BLK_SNAP, blk_snap_ioctl_snapshot_create,                         \
	     struct blk_snap_snapshot_create)

/**
 * struct blk_snap_snapshot_destroy - argument of
 *	IOCTL_BLK_SNAP_SNAPSHOT_DESTROY
 * @id: the snapshot
 */
struct blk_snap_snapshot_destroy {
	struct blk_snap_uuid id;
};

/**
 * define IOCTL_BLK_SNAP_SNAPSHOT_DESTROY - give a snapshot up
 *
 * Description: Data goes in.  The images disappear; one that is open fails all I/O
 * with -EIO from then on.  A take or an append in progress is ended.  The devices stay
 * tracked.  The call returns within a second, or after up to five if it carries out
 * discards that were skipped while the snapshot was held; what the devices of the snapshot have
 * not completed by then is waited for in the background.
 *
 * Return: 0, or -ENODEV if there is no such snapshot.
 */
#define IOCTL_BLK_SNAP_SNAPSHOT_DESTROY                                        \
	_IOR(BLK_SNAP, blk_snap_ioctl_snapshot_destroy,                        \
	     struct blk_snap_snapshot_destroy)

/**
 * struct blk_snap_snapshot_append_storage - argument of
 *	IOCTL_BLK_SNAP_SNAPSHOT_APPEND_STORAGE
 * @id: the snapshot
 * @dev_id: the device that the ranges lie on
 * @count: number of ranges
 * @ranges: the ranges
 */
struct blk_snap_snapshot_append_storage {
	struct blk_snap_uuid id;
	struct blk_snap_dev dev_id;
	__u32 count;
	struct blk_snap_block_range *ranges;
};

/**
 * define IOCTL_BLK_SNAP_SNAPSHOT_APPEND_STORAGE - add difference storage
 *
 * Description: Data goes in.  The module will overwrite the ranges, so nothing
 * else may use them until the snapshot is destroyed.  They may lie on a device
 * of the snapshot itself, as blocks of a file: that file must have owned the
 * blocks before the snapshot is taken, which the module cannot check.  The call
 * is allowed before and after the take, as often as needed.  Until the snapshot is
 * destroyed, nobody else can claim the device (mount it, format it), unless somebody
 * had claimed it before, or it is a device of the snapshot or the disk of one.  The
 * first MiB and the last one of a disk or a partition are not used, even if they are
 * appended.
 *
 * Return: 0, also for a count of 0; -ESRCH if there is no such snapshot;
 * -ENODEV or -ENXIO if there is no such device; -EROFS if it is read-only;
 * -EINVAL if it is an image, is zoned, has larger logical blocks than a device
 * of the snapshot or lies on one through another driver, or if a range is empty,
 * reaches beyond the end of the device, is not aligned to its logical block size, or
 * overlaps with another range of any snapshot, or if nothing would be left of a device
 * of the snapshot; -EBUSY if a range lies on a device of which another snapshot is
 * taken, or belongs to a snapshot that was destroyed and still writes to it: try
 * again; -E2BIG for more than 262144 ranges; -ENOMEM.  All ranges are added or
 * none.
 */
#define IOCTL_BLK_SNAP_SNAPSHOT_APPEND_STORAGE                                 \
	_IOW(BLK_SNAP, blk_snap_ioctl_snapshot_append_storage,                 \
	     struct blk_snap_snapshot_append_storage)

/**
 * struct blk_snap_snapshot_take - argument of IOCTL_BLK_SNAP_SNAPSHOT_TAKE
 * @id: the snapshot
 */
struct blk_snap_snapshot_take {
	struct blk_snap_uuid id;
};

/**
 * define IOCTL_BLK_SNAP_SNAPSHOT_TAKE - take the snapshot
 *
 * Description: Data goes in.  All devices of the snapshot are caught at one
 * instant, and their images appear in /dev.  If a filesystem cannot be frozen,
 * its image is what the disk would hold after a crash.  Writers stand still for a
 * moment; then the call waits, with everything running, until the writes that were in
 * flight at the instant are done.  Each of these may be in the image or not.
 *
 * Return: 0; -ESRCH if there is no such snapshot, or it was destroyed in the
 * meantime; -EALREADY if it is taken already, or being taken; -EFAULT if no difference
 * storage was appended; -ENODEV or -ENXIO if a device has gone; -EOPNOTSUPP if one
 * cannot be protected any more; -ETIMEDOUT if writes in flight did not complete within
 * the module parameter take_drain_limit (60 seconds), filesystems could not be synced
 * within five times that, or not be frozen within 10 seconds; -EINTR if the caller was
 * killed; -ENOMEM.  After any failure the snapshot is as it was before the call, but
 * snap_number may have grown; unless the caller was killed and a device does not
 * complete what it was asked: then the snapshot is destroyed.
 */
#define IOCTL_BLK_SNAP_SNAPSHOT_TAKE                                           \
	_IOR(BLK_SNAP, blk_snap_ioctl_snapshot_take,                           \
	     struct blk_snap_snapshot_take)

/**
 * struct blk_snap_snapshot_collect - argument of
 *	IOCTL_BLK_SNAP_SNAPSHOT_COLLECT
 * @count: in: number of entries that @ids has room for;
 *	out: number of snapshots
 * @ids: array to fill, or NULL to ask for the number alone
 */
struct blk_snap_snapshot_collect {
	__u32 count;
	struct blk_snap_uuid *ids;
};

/**
 * define IOCTL_BLK_SNAP_SNAPSHOT_COLLECT - list the snapshots
 *
 * Description: Data goes in and out.  With a NULL array or a count of 0 only
 * the number of snapshots is written to the argument.
 *
 * Return: 0, or -ENODATA if the array is too small: the array is untouched
 * then, and the argument tells the count that is needed.
 */
#define IOCTL_BLK_SNAP_SNAPSHOT_COLLECT                                        \
	_IOW(BLK_SNAP, blk_snap_ioctl_snapshot_collect,                        \
	     struct blk_snap_snapshot_collect)

/**
 * struct blk_snap_image_info - which image belongs to which origin
 * @orig_dev_id: the origin
 * @image_dev_id: the image; its minor number is also the number in its name
 */
struct blk_snap_image_info {
	struct blk_snap_dev orig_dev_id;
	struct blk_snap_dev image_dev_id;
};

/**
 * struct blk_snap_snapshot_collect_images - argument of
 *	IOCTL_BLK_SNAP_SNAPSHOT_COLLECT_IMAGES
 * @id: the snapshot
 * @count: in: number of entries that @image_info_array has room for;
 *	out: number of images
 * @image_info_array: array to fill, or NULL to ask for the number alone
 */
struct blk_snap_snapshot_collect_images {
	struct blk_snap_uuid id;
	__u32 count;
	struct blk_snap_image_info *image_info_array;
};

/**
 * define IOCTL_BLK_SNAP_SNAPSHOT_COLLECT_IMAGES - list the images of a snapshot
 *
 * Description: Data goes in and out.  With a NULL array or a count of 0 only
 * the number of images is written to the argument.
 *
 * Return: 0; -ESRCH if there is no such snapshot; -ENODEV if it is not taken
 * yet; -ENODATA if the array is too small: the array is untouched then, and the
 * argument tells the count that is needed.
 */
#define IOCTL_BLK_SNAP_SNAPSHOT_COLLECT_IMAGES                                 \
	_IOW(BLK_SNAP, blk_snap_ioctl_snapshot_collect_images,                 \
	     struct blk_snap_snapshot_collect_images)

/**
 * enum blk_snap_event_codes - what a snapshot has to tell
 * @blk_snap_event_code_low_free_space: the difference storage runs short; the
 *	data is a struct blk_snap_event_low_free_space.  Comes once when the
 *	snapshot is created and then each time the free space falls to the
 *	limit; an append that lifts it above the limit arms the event again.
 * @blk_snap_event_code_corrupted: the snapshot of a device has failed; the data is a
 *	struct blk_snap_event_corrupted.  Comes at most once per device and
 *	snapshot.  The origin goes on as if there were no snapshot, and reading
 *	or writing the image fails with -EIO.
 */
enum blk_snap_event_codes {
	blk_snap_event_code_low_free_space = 0,
	blk_snap_event_code_corrupted = 1
};

/**
 * struct blk_snap_snapshot_event - argument of
 *	IOCTL_BLK_SNAP_SNAPSHOT_WAIT_EVENT
 * @id: in: the snapshot
 * @timeout_ms: in: how long to wait at most, in milliseconds; 0 only looks
 *	whether an event is there
 * @code: out: one of enum blk_snap_event_codes
 * @time_label: out: when the event arose, in nanoseconds of CLOCK_MONOTONIC
 * @data: out: what belongs to the event, then zeros
 */
struct blk_snap_snapshot_event {
	struct blk_snap_uuid id;
	__u32 timeout_ms;
	__u32 code;
	__s64 time_label;
	__u8 data[4096 - 32];
};

/**
 * define IOCTL_BLK_SNAP_SNAPSHOT_WAIT_EVENT - wait for an event of a snapshot
 *
 * Description: Data goes in and out.  Each event is given to exactly one
 * caller.
 *
 * Return: 0 with an event; -ENOENT if none arose in time; -EINTR if a signal
 * came, in which case the call is never restarted by the kernel; -ESRCH if
 * there is no such snapshot or it was destroyed during the wait.
 */
#define IOCTL_BLK_SNAP_SNAPSHOT_WAIT_EVENT                                     \
	_IOW(BLK_SNAP, blk_snap_ioctl_snapshot_wait_event,                     \
	     struct blk_snap_snapshot_event)

/**
 * struct blk_snap_event_low_free_space - data of
 *	blk_snap_event_code_low_free_space
 * @requested_nr_sect: how much storage to append, in sectors of 512 bytes
 */
struct blk_snap_event_low_free_space {
	__u64 requested_nr_sect;
};

/**
 * struct blk_snap_event_corrupted - data of blk_snap_event_code_corrupted
 * @orig_dev_id: the origin whose snapshot has failed
 * @err_code: the reason, as a positive errno.  EAGAIN: a write that was submitted
 *	before the device was tracked arrived after the take.
 */
struct blk_snap_event_corrupted {
	struct blk_snap_dev orig_dev_id;
	__s32 err_code;
};

/**
 * enum blk_snap_snapshot_state - how far a snapshot is
 * @blk_snap_snapshot_state_created: it holds its devices and has no images
 * @blk_snap_snapshot_state_taking: a take is in progress
 * @blk_snap_snapshot_state_taken: it has images
 */
enum blk_snap_snapshot_state {
	blk_snap_snapshot_state_created = 0,
	blk_snap_snapshot_state_taking = 1,
	blk_snap_snapshot_state_taken = 2
};

/* Size of the name of a process, with the final zero. */
#define BLK_SNAP_COMM_LEN 16

/* Bits of flags in struct blk_snap_snapshot_info. */
#define BLK_SNAP_INFO_CREATOR_ENDED 1U /* there is no such process any more */

/**
 * struct blk_snap_snapshot_info - argument of IOCTL_BLK_SNAP_SNAPSHOT_INFO
 * @id: in: the snapshot
 * @count: in: number of entries that @dev_id_array has room for;
 *	out: number of devices
 * @flags: in: must be 0;
 *	out: bits BLK_SNAP_INFO_...; ignore those that are not known
 * @dev_id_array: address of an array of struct blk_snap_dev to fill, in the order in
 *	which they were named, or 0 to ask for the rest alone
 * @state: out: one of enum blk_snap_snapshot_state
 * @pid: out: the process that created the snapshot, as the caller's PID namespace
 *	sees it; 0 if it does not see it
 * @age_ms: out: how long ago that was, in milliseconds, with the time for which the
 *	machine was suspended
 * @comm: out: the name that the process had then, padded with zeros
 *
 * The layout is the same for 32-bit programs.
 */
struct blk_snap_snapshot_info {
	struct blk_snap_uuid id;
	__u32 count;
	__u32 flags;
	__u64 dev_id_array;
	__u32 state;
	__u32 pid;
	__u64 age_ms;
	char comm[BLK_SNAP_COMM_LEN];
};

/**
 * define IOCTL_BLK_SNAP_SNAPSHOT_INFO - tell what a snapshot holds, and for whom
 *
 * Description: Data goes in and out.  Works before and after the take, and waits for
 * neither.  With an array address or a count of 0 everything but the array is filled.
 *
 * Return: 0; -EINVAL if @flags is not 0; -ESRCH if there is no such snapshot; -ENODATA
 * if the array is too small: the array is untouched then, and the argument tells all
 * else, the count that is needed among it; -ENOMEM.
 */
#define IOCTL_BLK_SNAP_SNAPSHOT_INFO                                           \
	_IOWR(BLK_SNAP, blk_snap_ioctl_snapshot_info,                          \
	      struct blk_snap_snapshot_info)

/**
 * struct blk_snap_snapshot_pin_file - argument of IOCTL_BLK_SNAP_SNAPSHOT_PIN_FILE
 * @id: the snapshot
 * @fd: the file, open in any way
 * @reserved: 0
 */
struct blk_snap_snapshot_pin_file {
	struct blk_snap_uuid id;
	__s32 fd;
	__u32 reserved;
};

/**
 * define IOCTL_BLK_SNAP_SNAPSHOT_PIN_FILE - keep a storage file in its place
 *
 * Description: Data goes in.  Until the snapshot has ended, the file keeps its blocks,
 * and nobody changes what is in them: the file cannot be written, truncated, punched,
 * deleted, replaced, shared by reflink or defragmented, and its filesystem cannot be
 * unmounted.  It can be read and made longer.  So a client pins a file, asks for its
 * blocks, and appends them with IOCTL_BLK_SNAP_SNAPSHOT_APPEND_STORAGE.  The caller may
 * close the file after the call.  The call is allowed before and after the take, for
 * any number of files.
 *
 * Return: 0, also if the file is pinned for this snapshot already; -EINVAL if
 * @reserved is not 0 or the file is not a regular one; -EBADF; -ESRCH if there is no
 * such snapshot; -EBUSY if the file is an active swap file or pinned for another
 * snapshot; -EOPNOTSUPP if its filesystem is not ext4 or XFS; -ENOMEM; an error of
 * writing out what the file had in memory, with which the file stays pinned.
 */
#define IOCTL_BLK_SNAP_SNAPSHOT_PIN_FILE                                       \
	_IOW(BLK_SNAP, blk_snap_ioctl_snapshot_pin_file,                       \
	     struct blk_snap_snapshot_pin_file)

/*
 * The sizes are part of the ioctl numbers, so no compiler may see others.  The
 * second one is that of 32-bit programs.  This is a static_assert() that C90
 * and C++98 know, too: a wrong size makes an array of negative length.
 */
#define __BLK_SNAP_ASSERT(name, cond)                                          \
	struct __blk_snap_assert_##name {                                      \
		char size_is_frozen[(cond) ? 1 : -1];                          \
	}
#define __BLK_SNAP_ASSERT_SIZE(name, size64, size32)                           \
	__BLK_SNAP_ASSERT(name, sizeof(struct blk_snap_##name) ==              \
				(sizeof(void *) == 8 ? (size64) : (size32)))

__BLK_SNAP_ASSERT_SIZE(version, 8, 8);
__BLK_SNAP_ASSERT_SIZE(dev, 8, 8);
__BLK_SNAP_ASSERT_SIZE(tracker_remove, 8, 8);
__BLK_SNAP_ASSERT_SIZE(uuid, 16, 16);
/* Not all 32-bit architectures pack a __u64 like i386, at 4 bytes. */
__BLK_SNAP_ASSERT(cbt_info,
		  sizeof(struct blk_snap_cbt_info) == 48 ||
		  (sizeof(void *) == 4 &&
		   sizeof(struct blk_snap_cbt_info) == 44));
__BLK_SNAP_ASSERT_SIZE(tracker_collect, 16, 8);
__BLK_SNAP_ASSERT_SIZE(tracker_read_cbt_bitmap, 24, 20);
__BLK_SNAP_ASSERT_SIZE(block_range, 16, 16);
__BLK_SNAP_ASSERT_SIZE(tracker_mark_dirty_blocks, 24, 16);
__BLK_SNAP_ASSERT_SIZE(snapshot_create, 32, 24);
__BLK_SNAP_ASSERT_SIZE(snapshot_destroy, 16, 16);
__BLK_SNAP_ASSERT_SIZE(snapshot_append_storage, 40, 32);
__BLK_SNAP_ASSERT_SIZE(snapshot_take, 16, 16);
__BLK_SNAP_ASSERT_SIZE(snapshot_collect, 16, 8);
__BLK_SNAP_ASSERT_SIZE(image_info, 16, 16);
__BLK_SNAP_ASSERT_SIZE(snapshot_collect_images, 32, 24);
__BLK_SNAP_ASSERT_SIZE(snapshot_event, 4096, 4096);
__BLK_SNAP_ASSERT_SIZE(event_low_free_space, 8, 8);
__BLK_SNAP_ASSERT_SIZE(event_corrupted, 12, 12);
__BLK_SNAP_ASSERT_SIZE(snapshot_info, 64, 64);
__BLK_SNAP_ASSERT_SIZE(snapshot_pin_file, 24, 24);

#undef __BLK_SNAP_ASSERT_SIZE
#undef __BLK_SNAP_ASSERT

#endif /* _UAPI_LINUX_BLKSNAP_H */
