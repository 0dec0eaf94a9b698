// SPDX-License-Identifier: GPL-2.0
/*
 * Why something failed, in words
 */
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <blksnap/blksnap.h>

#include "error.h"
#include "signing.h"

/* Longer than any text here with a path in it; what is longer is cut off. */
#define TEXT_SIZE 4608

/* A text that is fixed is not copied: events are waited for many times a second. */
static __thread struct {
	const char *text;	/* NULL before the first failure */
	char made[TEXT_SIZE];
} last;

#define NOT_LOADED \
	"the blksnap module is not loaded; load it with 'modprobe blksnap' or 'insmod blksnap.ko'"
#define NOT_SIGNED \
	NOT_LOADED \
	". This kernel loads signed modules only: if that fails with 'Key was rejected by service', have the firmware trust the key of DKMS with 'mokutil --import /var/lib/dkms/mok.pub' (package mokutil), restart, and confirm it"
#define NOT_TRACKED \
	"the device is not tracked; 'blksnap tracker list' shows which are"
#define NOT_PROTECTED \
	"the module cannot protect a device of this kind; the kernel log says which, and why"
#define NOT_SEEN \
	"writes cannot be seen: another module or a live patch diverts submit_bio_noacct(), or ftrace is off (kernel.ftrace_enabled is 0, or after a fault; see the kernel log)"
#define NOT_WRITABLE \
	"the storage lies on a device of which another snapshot is taken, or that the kernel lets nobody write to (see its log); use another device"
#define UNKNOWN_SNAPSHOT \
	"there is no such snapshot; 'blksnap snapshot list' shows all"
#define WRONG_STORAGE \
	"a range is beyond the end, not aligned to the logical blocks, or storage already, or the device has larger blocks than an origin; nothing was appended"

/* What an errno means depends on the call that returned it. */
static const struct {
	int call;
	int error;
	const char *text;
} meanings[] = {
	{ CALL_OPEN, ENOENT, NOT_LOADED },
	{ CALL_OPEN, ENXIO, NOT_LOADED },
	{ CALL_OPEN, ENODEV, NOT_LOADED },

	{ blk_snap_ioctl_tracker_remove, ENODATA, NOT_TRACKED },
	{ blk_snap_ioctl_tracker_remove, EBUSY,
	  "the device belongs to a snapshot; destroy that one first" },

	{ blk_snap_ioctl_tracker_read_cbt_map, ENODATA, NOT_TRACKED },
	{ blk_snap_ioctl_tracker_read_cbt_map, EPERM,
	  "no snapshot of the device was ever taken, so there is no change map yet" },
	{ blk_snap_ioctl_tracker_read_cbt_map, EINVAL,
	  "the change map became shorter while it was read; try again" },

	{ blk_snap_ioctl_tracker_mark_dirty_blocks, ENODEV, NOT_TRACKED },
	{ blk_snap_ioctl_tracker_mark_dirty_blocks, EINVAL,
	  "a range reaches beyond the end of the device; no range was marked" },

	{ blk_snap_ioctl_snapshot_create, EALREADY,
	  "a device belongs to another snapshot; 'blksnap snapshot list' shows them" },
	{ blk_snap_ioctl_snapshot_create, EINVAL, "a device is named twice" },
	{ blk_snap_ioctl_snapshot_create, ENODEV, "there is no such device" },
	{ blk_snap_ioctl_snapshot_create, ENXIO, "there is no such device" },
	{ blk_snap_ioctl_snapshot_create, EOPNOTSUPP, NOT_PROTECTED },
	{ blk_snap_ioctl_snapshot_create, EBUSY,
	  NOT_SEEN },

	{ blk_snap_ioctl_snapshot_destroy, ENODEV, UNKNOWN_SNAPSHOT },

	{ blk_snap_ioctl_snapshot_append_storage, ESRCH, UNKNOWN_SNAPSHOT },
	{ blk_snap_ioctl_snapshot_append_storage, EINVAL,
	  WRONG_STORAGE },
	{ blk_snap_ioctl_snapshot_append_storage, EBUSY, NOT_WRITABLE },
	{ blk_snap_ioctl_snapshot_append_storage, EROFS, "the device is read-only" },
	{ blk_snap_ioctl_snapshot_append_storage, E2BIG,
	  "too many ranges for one call; append in smaller pieces" },

	{ blk_snap_ioctl_snapshot_pin_file, ESRCH, UNKNOWN_SNAPSHOT },
	{ blk_snap_ioctl_snapshot_pin_file, EBUSY,
	  "it is storage of another snapshot; use another file, or destroy that snapshot first" },
	{ blk_snap_ioctl_snapshot_pin_file, EOPNOTSUPP,
	  "its filesystem may move it; use a file on ext4 or XFS, or a device" },

	{ blk_snap_ioctl_snapshot_take, ESRCH, UNKNOWN_SNAPSHOT },
	{ blk_snap_ioctl_snapshot_take, EALREADY,
	  "the snapshot is taken already" },
	{ blk_snap_ioctl_snapshot_take, EFAULT,
	  "the snapshot has no difference storage; append some with 'blksnap snapshot append'" },
	{ blk_snap_ioctl_snapshot_take, ENODEV, "a device of the snapshot has gone" },
	{ blk_snap_ioctl_snapshot_take, ENXIO, "a device of the snapshot has gone" },
	{ blk_snap_ioctl_snapshot_take, EOPNOTSUPP, NOT_PROTECTED },
	{ blk_snap_ioctl_snapshot_take, ETIMEDOUT,
	  "writes in flight, or freezing, took too long; see the kernel log, and try again" },

	{ blk_snap_ioctl_snapshot_collect_images, ESRCH, UNKNOWN_SNAPSHOT },
	{ blk_snap_ioctl_snapshot_collect_images, ENODEV,
	  "the snapshot has no images before it is taken" },

	{ blk_snap_ioctl_snapshot_wait_event, ESRCH,
	  "the snapshot was destroyed" },

	{ 0, 0, NULL },
};

/* What an errno means after any call. */
static const char *common_text(int error)
{
	switch (error) {
	case EPERM:
	case EACCES:
		return "not permitted; run as root (needs CAP_SYS_ADMIN)";
	case ENOMEM:
		return "out of memory";
	case ENOTTY:
		return "the loaded module does not know this call; it does not belong to this tool";
	case EPROTO:
		return "the loaded module gave an answer that contradicts itself";
	default:
		return strerror_r(error, last.made, sizeof(last.made));
	}
}

static const char *call_text(int call, int error)
{
	size_t i = 0;

	while (meanings[i].text && (meanings[i].call != call || meanings[i].error != error))
		i++;
	if (!meanings[i].text)
		return common_text(error);
	if (call == CALL_OPEN && signing_is_enforced())
		return NOT_SIGNED;
	return meanings[i].text;
}

/**
 * blksnap_error() - say why the last call that failed did so
 *
 * Return: a text for users, without an end of line, for the last failure of any call in
 *	   this thread; it is valid until the next call in this thread.
 */
const char *blksnap_error(void)
{
	return last.text ? last.text : "nothing has failed";
}

/**
 * error_set() - note why something failed
 * @error:	positive errno
 * @format:	what failed and why, and what can be done
 *
 * Return: -@error.
 */
int error_set(int error, const char *format, ...)
{
	char made[TEXT_SIZE];	/* the text that was noted may be among the arguments */
	va_list args;

	va_start(args, format);
	vsnprintf(made, sizeof(made), format, args);
	va_end(args);
	strcpy(last.made, made);
	last.text = last.made;
	return -error;
}

/**
 * error_errno() - note that a system call failed
 * @error:	positive errno
 * @format:	what failed
 *
 * Return: -@error.
 */
int error_errno(int error, const char *format, ...)
{
	char what[TEXT_SIZE], why[128];
	va_list args;

	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	return error_set(error, "%s: %s", what, strerror_r(error, why, sizeof(why)));
}

/**
 * error_memory() - note that there is no memory
 *
 * Return: -ENOMEM.
 */
int error_memory(void)
{
	last.text = "out of memory";
	return -ENOMEM;
}

/**
 * error_call() - note what the result of a call of the module means
 * @call:	one of enum blk_snap_ioctl, or CALL_OPEN
 * @ret:	its result
 *
 * Return: @ret.
 */
int error_call(int call, int ret)
{
	if (ret < 0)
		last.text = call_text(call, -ret);
	return ret;
}
