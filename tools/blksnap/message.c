// SPDX-License-Identifier: GPL-2.0
/*
 * Messages and exit codes
 */
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "message.h"
#include "signing.h"
#include "util.h"

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
	{ BLKSNAP_OPEN, ENOENT, NOT_LOADED },
	{ BLKSNAP_OPEN, ENXIO, NOT_LOADED },
	{ BLKSNAP_OPEN, ENODEV, NOT_LOADED },

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
	  "writes in flight did not complete in time; nothing was taken, try again" },

	{ blk_snap_ioctl_snapshot_collect_images, ESRCH, UNKNOWN_SNAPSHOT },
	{ blk_snap_ioctl_snapshot_collect_images, ENODEV,
	  "the snapshot has no images before it is taken" },

	{ blk_snap_ioctl_snapshot_wait_event, ESRCH,
	  "the snapshot was destroyed" },
};

/* What an errno means after any call. */
static const char *common_error_text(int error)
{
	switch (error) {
	case EPERM:
	case EACCES:
		return "not permitted; run as root (needs CAP_SYS_ADMIN)";
	case ENOTTY:
		return "the loaded module does not know this call; it does not belong to this tool";
	case EPROTO:
		return "the loaded module gave an answer that contradicts itself";
	default:
		return strerror(error);
	}
}

/**
 * call_error_text() - say in words what the errno of a call means
 * @call:	one of enum blk_snap_ioctl, or BLKSNAP_OPEN
 * @error:	positive errno
 *
 * Return: a text without the name of the call.
 */
const char *call_error_text(int call, int error)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(meanings); i++) {
		if (meanings[i].call == call && meanings[i].error == error)
			break;
	}
	if (i == ARRAY_SIZE(meanings))
		return common_error_text(error);
	if (call == BLKSNAP_OPEN && signing_is_enforced())
		return NOT_SIGNED;
	return meanings[i].text;
}

/* An argument of the user may be part of the text, but the line stays one. */
static void print_message(const char *format, va_list args, const char *reason)
{
	char *text, *c;

	fflush(stdout);
	if (vasprintf(&text, format, args) < 0)
		return;
	for (c = text; *c; c++) {
		if (iscntrl((unsigned char)*c))
			*c = '?';
	}
	fprintf(stderr, "blksnap: %s%s%s\n", text, reason ? ": " : "",
		reason ? reason : "");
	free(text);
}

/**
 * fail() - tell that something is wrong
 * @code:	exit code that the caller will return
 * @format:	what failed and why; if an argument is wrong: which, and what
 *		would be valid
 *
 * Return: @code.
 */
int fail(enum exit_code code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	print_message(format, args, NULL);
	va_end(args);
	return code;
}

/**
 * fail_errno() - tell that a system call failed
 * @error:	positive errno
 * @format:	what failed
 *
 * Return: EXIT_FAILED.
 */
int fail_errno(int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	print_message(format, args, strerror(error));
	va_end(args);
	return EXIT_FAILED;
}

/**
 * fail_call() - tell that a call of the module failed
 * @call:	one of enum blk_snap_ioctl, or BLKSNAP_OPEN
 * @ret:	negative errno
 * @format:	what failed
 *
 * Return: EXIT_FAILED.
 */
int fail_call(int call, int ret, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	print_message(format, args, call_error_text(call, -ret));
	va_end(args);
	return EXIT_FAILED;
}

/**
 * fail_memory() - tell that there is no memory
 *
 * Return: EXIT_FAILED.
 */
int fail_memory(void)
{
	return fail(EXIT_FAILED, "out of memory");
}

/**
 * warn() - tell of a danger; what is being done goes on
 * @format:	what may happen, and how to avoid it
 */
void warn(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	print_message(format, args, NULL);
	va_end(args);
}
