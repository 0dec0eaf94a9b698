// SPDX-License-Identifier: GPL-2.0
/*
 * Difference storage, with messages about what is wrong with it
 */
#include <errno.h>

#include "message.h"
#include "storage.h"

static unsigned int flags_of(bool force)
{
	return force ? BLKSNAP_STORAGE_FORCE : 0;
}

/* The library knows nothing of options. */
static const char *file_advice(int error)
{
	switch (error) {
	case EEXIST:
		return "; --force does it";
	case EMEDIUMTYPE:
		return "; --device takes block devices";
	default:
		return "";
	}
}

static const char *device_advice(int error)
{
	switch (error) {
	case EEXIST:
		return "; --force does it, --range uses a part of the device";
	case EBUSY:
		return "; --range uses a part of it";
	default:
		return "";
	}
}

static int result(int ret, const char *advice)
{
	if (!ret)
		return EXIT_OK;
	return fail(EXIT_FAILED, "%s%s", blksnap_error(), advice);
}

/* See blksnap_storage_reserve_file(). */
int storage_reserve_file(const char *path, uint64_t size_bytes, bool force)
{
	int ret = blksnap_storage_reserve_file(path, size_bytes, flags_of(force));

	return result(ret, file_advice(-ret));
}

/* See blksnap_storage_find_file(). */
int storage_find_file(struct blksnap_storage **storage, const char *path,
		      uint64_t offset_bytes, uint64_t size_bytes, bool force)
{
	int ret = blksnap_storage_find_file(path, offset_bytes, size_bytes,
					    flags_of(force), storage);

	return result(ret, file_advice(-ret));
}

/* See blksnap_storage_find_device(). */
int storage_find_device(struct blksnap_storage **storage, struct blk_snap_dev dev,
			bool force)
{
	int ret = blksnap_storage_find_device(dev, flags_of(force), storage);

	return result(ret, device_advice(-ret));
}

/* See blksnap_storage_append(); @name is what the user calls a device. */
int storage_append(struct blksnap *blksnap, const struct blk_snap_uuid *id,
		   struct blksnap_storage *storage, const char *name)
{
	int ret = blksnap_storage_append(blksnap, id, storage);

	return ret ? fail_call("cannot append '%s'", name) : EXIT_OK;
}
