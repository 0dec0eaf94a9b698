// SPDX-License-Identifier: GPL-2.0
/*
 * Difference storage: ranges of a device
 */
#include <blkid.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/fs.h>

#include "device.h"
#include "error.h"
#include "storage.h"

/**
 * storage_create() - make storage without ranges
 * @dev:	where they will be
 * @storage:	gets it, to be freed by blksnap_storage_free()
 *
 * Return: 0 or -ENOMEM.
 */
int storage_create(struct blk_snap_dev dev, struct blksnap_storage **storage)
{
	*storage = calloc(1, sizeof(**storage));
	if (!*storage)
		return error_memory();
	(*storage)->dev = dev;
	return 0;
}

/**
 * storage_add_range() - add a range, joined to the last one if they touch
 * @storage:		the storage
 * @sector_offset:	first sector
 * @sector_count:	number of sectors
 *
 * Return: 0 or -ENOMEM.
 */
int storage_add_range(struct blksnap_storage *storage, uint64_t sector_offset,
		      uint64_t sector_count)
{
	struct blk_snap_block_range *ranges, *last;

	if (storage->nr_ranges) {
		last = &storage->ranges[storage->nr_ranges - 1];
		if (last->sector_offset + last->sector_count == sector_offset) {
			last->sector_count += sector_count;
			return 0;
		}
	}
	ranges = reallocarray(storage->ranges, storage->nr_ranges + 1,
			      sizeof(*ranges));
	if (!ranges)
		return error_memory();
	ranges[storage->nr_ranges].sector_offset = sector_offset;
	ranges[storage->nr_ranges].sector_count = sector_count;
	storage->ranges = ranges;
	storage->nr_ranges++;
	return 0;
}

/* Forgets the ranges. */
void storage_forget_ranges(struct blksnap_storage *storage)
{
	free(storage->ranges);
	storage->ranges = NULL;
	storage->nr_ranges = 0;
}

/* Are they known here? */
int storage_check_flags(unsigned int flags)
{
	if (flags & ~BLKSNAP_STORAGE_FORCE)
		return error_set(EINVAL,
				 "flags %#x are not known; use BLKSNAP_STORAGE_FORCE or 0",
				 flags);
	return 0;
}

/**
 * blksnap_storage_free() - forget where storage is
 * @storage:	the storage; what was appended stays appended; NULL is as good
 */
void blksnap_storage_free(struct blksnap_storage *storage)
{
	if (!storage)
		return;
	free(storage->ranges);
	free(storage->path);
	free(storage);
}

/**
 * blksnap_storage_dev() - tell which device it is on
 * @storage:	the storage
 *
 * Return: the device.
 */
struct blk_snap_dev blksnap_storage_dev(const struct blksnap_storage *storage)
{
	return storage->dev;
}

/**
 * blksnap_storage_ranges() - tell where on its device it is
 * @storage:	the storage
 * @ranges:	gets an array that is valid until the storage is appended or freed
 *
 * Return: the number of ranges.
 */
unsigned int blksnap_storage_ranges(const struct blksnap_storage *storage,
				    const struct blk_snap_block_range **ranges)
{
	*ranges = storage->ranges;
	return storage->nr_ranges;
}

/**
 * blksnap_storage_nr_sectors() - tell how much it is
 * @storage:	the storage
 *
 * Return: sectors in all ranges together.
 */
uint64_t blksnap_storage_nr_sectors(const struct blksnap_storage *storage)
{
	uint64_t nr_sectors = 0;
	unsigned int i;

	for (i = 0; i < storage->nr_ranges; i++)
		nr_sectors += storage->ranges[i].sector_count;
	return nr_sectors;
}

static int add_checked_range(struct blksnap_storage *storage,
			     const struct blk_snap_block_range *range)
{
	const uint64_t nr_sectors_max = UINT64_MAX >> BLKSNAP_SECTOR_SHIFT;

	if (!range->sector_count || range->sector_offset > nr_sectors_max ||
	    range->sector_count > nr_sectors_max - range->sector_offset)
		return error_set(EINVAL,
				 "a range of %ju sectors at sector %ju is empty or beyond what a device can have",
				 (uintmax_t)range->sector_count,
				 (uintmax_t)range->sector_offset);
	return storage_add_range(storage, range->sector_offset, range->sector_count);
}

/**
 * blksnap_storage_from_ranges() - take parts of a device as storage
 * @dev:	the device
 * @ranges:	ranges, in sectors; those that touch are joined
 * @nr_ranges:	number of ranges
 * @storage:	gets the storage, to be freed by blksnap_storage_free()
 *
 * It is up to the caller that nothing needs what is there.
 *
 * Return: 0 or a negative errno; -EINVAL if a range cannot be.
 */
int blksnap_storage_from_ranges(struct blk_snap_dev dev,
				const struct blk_snap_block_range *ranges,
				unsigned int nr_ranges,
				struct blksnap_storage **storage)
{
	unsigned int i;
	int ret = storage_create(dev, storage);

	for (i = 0; i < nr_ranges && !ret; i++)
		ret = add_checked_range(*storage, &ranges[i]);
	if (ret) {
		blksnap_storage_free(*storage);
		*storage = NULL;
	}
	return ret;
}

/* What libblkid recognises on the device, NULL if nothing. */
static const char *device_content(blkid_probe probe)
{
	const char *type;

	blkid_probe_enable_partitions(probe, 1);
	switch (blkid_do_safeprobe(probe)) {
	case 1:
		return NULL;
	case 0:
		if (!blkid_probe_lookup_value(probe, "TYPE", &type, NULL) ||
		    !blkid_probe_lookup_value(probe, "PTTYPE", &type, NULL))
			return type;
		return "data";
	default:
		return "unclear content";
	}
}

static int check_device_empty(int fd, const char *path)
{
	blkid_probe probe = blkid_new_probe();
	const char *content;
	int ret = 0;

	if (!probe)
		return error_memory();
	if (blkid_probe_set_device(probe, fd, 0, 0)) {
		ret = error_errno(errno, "cannot read '%s'", path);
	} else {
		content = device_content(probe);
		if (content)
			ret = error_set(EEXIST,
					"'%s' holds %s, which would be overwritten",
					path, content);
	}
	blkid_free_probe(probe);
	return ret;
}

static int open_device(const char *path)
{
	int fd = open(path, O_RDONLY | O_EXCL | O_CLOEXEC);

	if (fd >= 0)
		return fd;
	if (errno == EBUSY)
		return error_set(EBUSY,
				 "'%s' is in use (mounted, swap, or part of another device)",
				 path);
	return error_errno(errno, "cannot open '%s'", path);
}

static int add_device(struct blksnap_storage *storage, const char *path, bool force)
{
	uint64_t size_bytes = 0;
	int ret = 0;
	int fd = open_device(path);

	if (fd < 0)
		return fd;
	if (ioctl(fd, BLKGETSIZE64, &size_bytes))
		ret = error_errno(errno, "cannot get the size of '%s'", path);
	else if (size_bytes < BLKSNAP_SECTOR_SIZE)
		ret = error_set(ENOSPC, "'%s' has no space", path);
	else if (!force)
		ret = check_device_empty(fd, path);
	if (!ret)
		ret = storage_add_range(storage, 0, size_bytes / BLKSNAP_SECTOR_SIZE);
	close(fd);
	return ret;
}

/**
 * blksnap_storage_find_device() - take a whole device as storage
 * @dev:	the device
 * @flags:	BLKSNAP_STORAGE_FORCE if what is on it may be overwritten, or 0
 * @storage:	gets the storage, to be freed by blksnap_storage_free()
 *
 * Return: 0 or a negative errno; -EBUSY if it is mounted, is swapped to or is part of
 *	   another device, also with the flag; -EEXIST if it holds something.
 */
int blksnap_storage_find_device(struct blk_snap_dev dev, unsigned int flags,
				struct blksnap_storage **storage)
{
	char *path = device_path(dev);
	int ret;

	*storage = NULL;
	ret = storage_check_flags(flags);
	if (!ret && !path)
		ret = error_set(ENODEV, "'%u:%u': there is no such device", dev.mj,
				dev.mn);
	if (!ret)
		ret = storage_create(dev, storage);
	if (!ret)
		ret = add_device(*storage, path, flags & BLKSNAP_STORAGE_FORCE);
	free(path);
	if (ret) {
		blksnap_storage_free(*storage);
		*storage = NULL;
	}
	return ret;
}
