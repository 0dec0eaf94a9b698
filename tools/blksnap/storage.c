// SPDX-License-Identifier: GPL-2.0
/*
 * Difference storage: a device, or the blocks of a file
 *
 * Where the blocks of a file lie is asked from the filesystem by FIEMAP.  ext4
 * and XFS answer with offsets on the block device that stat() names, and move
 * the blocks of a file only on request.  Others answer with something else
 * (btrfs: addresses of its own) or move blocks as they like (f2fs), so they are
 * refused.
 *
 * A file that was only reserved has unwritten extents, also after the module
 * has written to them, because the filesystem does not know.  That tells it
 * from a file with data, which is not overwritten without being asked to.
 */
#include <blkid.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/magic.h>

#include "blksnap_ioctl.h"
#include "device.h"
#include "message.h"
#include "parse.h"
#include "storage.h"

#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC 0x58465342
#endif

/* Extents asked for at once. */
#define FIEMAP_BATCH 256

/* Extents that do not say where the data lies, or that are not ours alone. */
#define FIEMAP_UNUSABLE                                            \
	(FIEMAP_EXTENT_UNKNOWN | FIEMAP_EXTENT_DELALLOC |          \
	 FIEMAP_EXTENT_ENCODED | FIEMAP_EXTENT_DATA_ENCRYPTED |    \
	 FIEMAP_EXTENT_NOT_ALIGNED | FIEMAP_EXTENT_DATA_INLINE |   \
	 FIEMAP_EXTENT_DATA_TAIL | FIEMAP_EXTENT_SHARED)

/* The extents of a file that overlap with [start, end), in bytes. */
struct file_map {
	struct fiemap_extent *extents;
	size_t nr_extents;
	uint64_t start;
	uint64_t end;
};

/**
 * storage_add_range() - add a range, joined to the last one if they touch
 * @storage:		the storage
 * @sector_offset:	first sector
 * @sector_count:	number of sectors
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int storage_add_range(struct storage *storage, uint64_t sector_offset,
		      uint64_t sector_count)
{
	struct blk_snap_block_range *ranges, *last;

	if (storage->nr_ranges) {
		last = &storage->ranges[storage->nr_ranges - 1];
		if (last->sector_offset + last->sector_count == sector_offset) {
			last->sector_count += sector_count;
			return EXIT_OK;
		}
	}
	ranges = reallocarray(storage->ranges, storage->nr_ranges + 1,
			      sizeof(*ranges));
	if (!ranges)
		return fail_memory();
	ranges[storage->nr_ranges].sector_offset = sector_offset;
	ranges[storage->nr_ranges].sector_count = sector_count;
	storage->ranges = ranges;
	storage->nr_ranges++;
	return EXIT_OK;
}

/**
 * storage_nr_sectors() - how much is it?
 * @storage:	the storage
 *
 * Return: sectors in all ranges together.
 */
uint64_t storage_nr_sectors(const struct storage *storage)
{
	uint64_t nr_sectors = 0;
	unsigned int i;

	for (i = 0; i < storage->nr_ranges; i++)
		nr_sectors += storage->ranges[i].sector_count;
	return nr_sectors;
}

/**
 * storage_free() - forget the ranges
 * @storage:	the storage
 */
void storage_free(struct storage *storage)
{
	free(storage->ranges);
	storage->ranges = NULL;
	storage->nr_ranges = 0;
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

static int check_device_empty(int fd, const char *text)
{
	blkid_probe probe = blkid_new_probe();
	const char *content;
	int ret = EXIT_OK;

	if (!probe)
		return fail_memory();
	if (blkid_probe_set_device(probe, fd, 0, 0)) {
		ret = fail_errno(errno, "cannot read '%s'", text);
	} else {
		content = device_content(probe);
		if (content)
			ret = fail(EXIT_FAILED,
				   "'%s' holds %s, which would be overwritten; --force does it, --range uses a part of the device",
				   text, content);
	}
	blkid_free_probe(probe);
	return ret;
}

/**
 * storage_use_device() - take a whole device as storage
 * @storage:	gets the range; storage->dev is set already
 * @text:	the argument that named the device, for messages
 * @force:	whatever is on the device may be overwritten
 *
 * A device that is mounted, is swapped to or is part of another device is
 * refused even with @force.
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int storage_use_device(struct storage *storage, const char *text, bool force)
{
	char *path = device_path(storage->dev);
	uint64_t size_bytes = 0;
	int ret = EXIT_OK;
	int fd;

	if (!path)
		return fail(EXIT_FAILED, "'%s': there is no such device", text);
	fd = open(path, O_RDONLY | O_EXCL | O_CLOEXEC);
	free(path);
	if (fd < 0 && errno == EBUSY)
		return fail(EXIT_FAILED,
			    "'%s' is in use (mounted, swap, or part of another device); --range uses a part of it",
			    text);
	if (fd < 0)
		return fail_errno(errno, "cannot open '%s'", text);

	if (ioctl(fd, BLKGETSIZE64, &size_bytes))
		ret = fail_errno(errno, "cannot get the size of '%s'", text);
	else if (size_bytes < BLKSNAP_SECTOR_SIZE)
		ret = fail(EXIT_FAILED, "'%s' has no space", text);
	else if (!force)
		ret = check_device_empty(fd, text);
	if (!ret)
		ret = storage_add_range(storage, 0, size_bytes / BLKSNAP_SECTOR_SIZE);
	close(fd);
	return ret;
}

static void file_map_free(struct file_map *map)
{
	free(map->extents);
	map->extents = NULL;
	map->nr_extents = 0;
}

/* Cuts @extent to what overlaps with the map and adds it. */
static bool file_map_add(struct file_map *map,
			 const struct fiemap_extent *extent)
{
	uint64_t start = extent->fe_logical;
	uint64_t end = extent->fe_logical + extent->fe_length;
	struct fiemap_extent *extents, *added;

	if (start < map->start)
		start = map->start;
	if (end > map->end)
		end = map->end;
	if (start >= end)
		return true;
	extents = reallocarray(map->extents, map->nr_extents + 1,
			       sizeof(*extents));
	if (!extents)
		return false;
	map->extents = extents;
	added = &extents[map->nr_extents++];
	*added = *extent;
	added->fe_logical = start;
	added->fe_physical += start - extent->fe_logical;
	added->fe_length = end - start;
	return true;
}

/* Adds all of @batch; *@next is where the next batch begins. */
static bool file_map_add_batch(struct file_map *map, const struct fiemap *batch,
			       uint64_t *next)
{
	const struct fiemap_extent *extent;
	unsigned int i;

	for (i = 0; i < batch->fm_mapped_extents; i++) {
		extent = &batch->fm_extents[i];
		if (!file_map_add(map, extent))
			return false;
		*next = extent->fe_logical + extent->fe_length;
		if (extent->fe_flags & FIEMAP_EXTENT_LAST)
			*next = map->end;
	}
	if (!i)
		*next = map->end;
	return true;
}

static int file_map_read(struct file_map *map, int fd, const char *path)
{
	struct fiemap *batch;
	uint64_t next = map->start;
	int ret = EXIT_OK;

	batch = calloc(1, sizeof(*batch) +
			  FIEMAP_BATCH * sizeof(batch->fm_extents[0]));
	if (!batch)
		return fail_memory();
	while (next < map->end && !ret) {
		memset(batch, 0, sizeof(*batch));
		batch->fm_start = next;
		batch->fm_length = map->end - next;
		batch->fm_flags = FIEMAP_FLAG_SYNC;
		batch->fm_extent_count = FIEMAP_BATCH;
		if (ioctl(fd, FS_IOC_FIEMAP, batch))
			ret = fail_errno(errno,
					 "cannot find the blocks of '%s'",
					 path);
		else if (!file_map_add_batch(map, batch, &next))
			ret = fail_memory();
	}
	free(batch);
	return ret;
}

static bool file_map_has_holes(const struct file_map *map)
{
	uint64_t covered_to = map->start;
	size_t i;

	for (i = 0; i < map->nr_extents; i++) {
		if (map->extents[i].fe_logical != covered_to)
			return true;
		covered_to += map->extents[i].fe_length;
	}
	return covered_to != map->end;
}

/* No extent may be unusable; with data in it the user has to agree. */
static int file_map_check(const struct file_map *map, const char *path,
			  bool force)
{
	const struct fiemap_extent *extent;
	size_t i;

	for (i = 0; i < map->nr_extents; i++) {
		extent = &map->extents[i];
		if (extent->fe_flags & FIEMAP_EXTENT_SHARED)
			return fail(EXIT_FAILED,
				    "'%s' shares blocks with another file; reserve a new file",
				    path);
		if (extent->fe_flags & FIEMAP_UNUSABLE ||
		    extent->fe_physical % BLKSNAP_SECTOR_SIZE)
			return fail(EXIT_FAILED,
				    "'%s' has blocks without a fixed place on the device (encrypted, compressed, inline, or not yet allocated)",
				    path);
		if (!(extent->fe_flags & FIEMAP_EXTENT_UNWRITTEN) && !force)
			return fail(EXIT_FAILED,
				    "'%s' holds data, which would be overwritten; --force does it",
				    path);
	}
	return EXIT_OK;
}

/* Names in /proc/swaps have spaces and the like as three octal digits. */
static void unescape(char *text)
{
	char *to = text;

	for (; *text; text++, to++) {
		unsigned int code;

		*to = *text;
		if (*text == '\\' && sscanf(text + 1, "%3o", &code) == 1) {
			*to = code;
			text += 3;
		}
	}
	*to = 0;
}

static bool is_swap_file(const struct stat *file)
{
	FILE *swaps = fopen("/proc/swaps", "re");
	char line[PATH_MAX * 4];
	bool found = false;
	struct stat st;

	while (swaps && !found && fgets(line, sizeof(line), swaps)) {
		line[strcspn(line, " \t\n")] = 0;
		unescape(line);
		found = !stat(line, &st) && st.st_dev == file->st_dev &&
			st.st_ino == file->st_ino;
	}
	if (swaps)
		fclose(swaps);
	return found;
}

/* Is it a file whose blocks can be found and stay where they are? */
static int check_file(int fd, const char *path, struct stat *st)
{
	struct fsxattr attr;
	struct statfs fs;

	if (fstat(fd, st) || fstatfs(fd, &fs))
		return fail_errno(errno, "cannot get the state of '%s'", path);
	if (!S_ISREG(st->st_mode))
		return fail(EXIT_FAILED,
			    "'%s' is not a regular file; --device takes block devices",
			    path);
	if ((unsigned int)fs.f_type != EXT4_SUPER_MAGIC &&
	    (unsigned int)fs.f_type != XFS_SUPER_MAGIC)
		return fail(EXIT_FAILED,
			    "'%s' is not on ext4 or XFS; other filesystems move the blocks of a file or do not tell where they are",
			    path);
	if (is_swap_file(st))
		return fail(EXIT_FAILED,
			    "'%s' is an active swap file; use another file", path);
	if (!ioctl(fd, FS_IOC_FSGETXATTR, &attr) &&
	    attr.fsx_xflags & FS_XFLAG_REALTIME)
		return fail(EXIT_FAILED,
			    "'%s' lies on the realtime device of its filesystem, which cannot be found; reserve a file on the data device",
			    path);
	return EXIT_OK;
}

static int check_snapshot_allows_reserving(int fd,
					   const struct blk_snap_uuid *id,
					   struct blk_snap_dev dev,
					   const char *path)
{
	struct blk_snap_image_info *images;
	char id_text[UUID_TEXT_SIZE];
	unsigned int nr_images, i;
	int ret = EXIT_OK;

	/* Fails if it is not taken yet, or was destroyed meanwhile: no harm. */
	if (blksnap_snapshot_collect_images(fd, id, &images, &nr_images))
		return EXIT_OK;
	format_uuid(id, id_text);
	for (i = 0; i < nr_images && !ret; i++) {
		if (device_share_disk(images[i].orig_dev_id, dev))
			ret = fail(EXIT_FAILED,
				   "'%s' has to be reserved before the take, but snapshot %s of the same disk is taken already; use a file reserved earlier, or another disk",
				   path, id_text);
	}
	free(images);
	return ret;
}

/*
 * A block that is free now may have held data when a snapshot was taken.  If it
 * became part of a storage file, the module would overwrite that data.
 */
static int check_reserving_is_safe(struct blk_snap_dev dev, const char *path)
{
	struct blk_snap_uuid *ids = NULL;
	unsigned int nr_ids = 0, i;
	int ret = EXIT_OK;
	int fd, err;

	fd = blksnap_open();
	if (fd == -ENOENT || fd == -ENXIO || fd == -ENODEV)
		return EXIT_OK;	/* no module, no snapshot */
	if (fd < 0)
		return fail_call(BLKSNAP_OPEN, fd, "cannot open /dev/%s",
				 BLK_SNAP_CTL);
	err = blksnap_snapshot_collect(fd, &ids, &nr_ids);
	if (err)
		ret = fail_call(blk_snap_ioctl_snapshot_collect, err,
				"cannot list the snapshots");
	for (i = 0; i < nr_ids && !ret; i++)
		ret = check_snapshot_allows_reserving(fd, &ids[i], dev, path);
	free(ids);
	close(fd);
	return ret;
}

/* Would fail after all the space was taken from everybody else. */
static bool lacks_space(int fd, uint64_t size_bytes)
{
	struct statvfs fs;
	struct stat st;
	uint64_t has_bytes;

	if (fstatvfs(fd, &fs) || fstat(fd, &st))
		return false;
	has_bytes = (uint64_t)st.st_blocks * BLKSNAP_SECTOR_SIZE;
	return size_bytes > has_bytes &&
	       (size_bytes - has_bytes) / fs.f_frsize > fs.f_bavail;
}

static int allocate_file(int fd, const char *path, uint64_t size_bytes)
{
	int err;

	if (lacks_space(fd, size_bytes))
		return fail_errno(ENOSPC, "cannot reserve %ju bytes for '%s'",
				  (uintmax_t)size_bytes, path);
	do {
		err = fallocate(fd, 0, 0, size_bytes) ? errno : 0;
	} while (err == EINTR);
	if (err == ETXTBSY)
		return fail(EXIT_FAILED,
			    "'%s' is storage of a snapshot already, and stays as it is until that is destroyed; use another file, or reserve enough before",
			    path);
	if (err == EOPNOTSUPP)
		return fail(EXIT_FAILED,
			    "'%s': the filesystem cannot reserve blocks, as ext2 and ext3 cannot",
			    path);
	if (err)
		return fail_errno(err, "cannot reserve %ju bytes for '%s'",
				  (uintmax_t)size_bytes, path);
	if (fsync(fd))
		return fail_errno(errno, "cannot write '%s' to the disk", path);
	return EXIT_OK;
}

static int reserve_open_file(int fd, const char *path, uint64_t size_bytes,
			     bool force)
{
	struct file_map map = { .start = 0, .end = size_bytes };
	struct stat st;
	int ret;

	ret = check_file(fd, path, &st);
	if (ret)
		return ret;
	ret = file_map_read(&map, fd, path);
	if (!ret)
		ret = file_map_check(&map, path, force);
	if (!ret && (file_map_has_holes(&map) ||
		     (uint64_t)st.st_size < size_bytes)) {
		ret = check_reserving_is_safe(device_from_dev_t(st.st_dev), path);
		if (!ret)
			ret = allocate_file(fd, path, size_bytes);
	}
	file_map_free(&map);
	return ret;
}

/**
 * storage_reserve_file() - make sure that a file has all of its blocks
 * @path:	the file; it is created if there is none
 * @size_bytes:	how many bytes from the start of the file are needed
 * @force:	data in the file may be overwritten later
 *
 * Nothing is done if the blocks are there already, so the same file can serve
 * one snapshot after the other.  A file that was created is removed on failure.
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int storage_reserve_file(const char *path, uint64_t size_bytes, bool force)
{
	const int flags = O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
	bool created = true;
	int fd, ret;

	fd = open(path, flags | O_CREAT | O_EXCL, 0600);
	if (fd < 0 && errno == EEXIST) {
		created = false;
		fd = open(path, flags);
	}
	if (fd < 0)
		return fail_errno(errno, "cannot open '%s'", path);
	ret = reserve_open_file(fd, path, size_bytes, force);
	close(fd);
	if (ret && created)
		unlink(path);
	return ret;
}

static int add_extents(struct storage *storage, const struct file_map *map)
{
	const struct fiemap_extent *extent;
	int ret = EXIT_OK;
	size_t i;

	for (i = 0; i < map->nr_extents && !ret; i++) {
		extent = &map->extents[i];
		ret = storage_add_range(storage,
					extent->fe_physical / BLKSNAP_SECTOR_SIZE,
					extent->fe_length / BLKSNAP_SECTOR_SIZE);
	}
	return ret;
}

static int use_open_file(struct storage *storage, int fd, const char *path,
			 struct file_map *map, bool force)
{
	struct stat st;
	int ret;

	ret = check_file(fd, path, &st);
	if (ret)
		return ret;
	storage->dev = device_from_dev_t(st.st_dev);
	if (!map->end)
		map->end = st.st_size - st.st_size % STORAGE_ALIGN_BYTES;
	if (map->start >= map->end || map->end > (uint64_t)st.st_size)
		return fail(EXIT_FAILED,
			    "'%s' has only %ju bytes; 'blksnap storage reserve' makes it longer",
			    path, (uintmax_t)st.st_size);
	if (fsync(fd))
		return fail_errno(errno, "cannot write '%s' to the disk", path);
	ret = file_map_read(map, fd, path);
	if (!ret)
		ret = file_map_check(map, path, force);
	if (!ret && file_map_has_holes(map))
		ret = fail(EXIT_FAILED,
			   "'%s' is not reserved all over; 'blksnap storage reserve' does it",
			   path);
	if (!ret)
		ret = add_extents(storage, map);
	return ret;
}

/* What an administrator can do where the module does not know how. */
static bool is_immutable(int fd)
{
	struct fsxattr attr;

	return !ioctl(fd, FS_IOC_FSGETXATTR, &attr) &&
	       attr.fsx_xflags & FS_XFLAG_IMMUTABLE;
}

static int pin_open_file(int fd, const char *path, int module,
			 const struct blk_snap_uuid *id)
{
	int ret = blksnap_snapshot_pin_file(module, id, fd);

	if (!ret || (ret == -ENOTTY && is_immutable(fd)))
		return EXIT_OK;
	if (ret == -ENOTTY)
		return fail(EXIT_FAILED,
			    "'%s': the loaded module cannot keep a file in its place; load that of this tool, or set 'chattr +i' on the file until the snapshot is destroyed",
			    path);
	return fail_call(blk_snap_ioctl_snapshot_pin_file, ret,
			 "cannot keep '%s' in its place", path);
}

static struct file_map piece_of_file(uint64_t offset_bytes, uint64_t size_bytes)
{
	return (struct file_map) {
		.start = offset_bytes,
		.end = size_bytes ? offset_bytes + size_bytes : 0,
	};
}

static int open_storage_file(const char *path)
{
	return open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
}

/**
 * storage_use_file() - find the ranges of a reserved file
 * @storage:		gets the device and the ranges
 * @path:		the file
 * @offset_bytes:	where in the file to begin
 * @size_bytes:		how much of it to use, 0 for all up to its end
 * @force:		data in the file may be overwritten
 *
 * Offset and size are multiples of STORAGE_ALIGN_BYTES and their sum does not
 * overflow.
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int storage_use_file(struct storage *storage, const char *path,
		     uint64_t offset_bytes, uint64_t size_bytes, bool force)
{
	struct file_map map = piece_of_file(offset_bytes, size_bytes);
	int fd, ret;

	fd = open_storage_file(path);
	if (fd < 0)
		return fail_errno(errno, "cannot open '%s'", path);
	ret = use_open_file(storage, fd, path, &map, force);
	file_map_free(&map);
	close(fd);
	return ret;
}

/**
 * storage_pin_file() - keep a reserved file in its place for a snapshot
 * @path:		the file
 * @module:		control node
 * @id:			the snapshot
 * @storage:		gets the device and the ranges
 * @offset_bytes:	as for storage_use_file()
 * @size_bytes:		likewise
 * @force:		likewise
 *
 * Only what is found after the file was pinned is sure to stay there, so the
 * ranges that were found before are forgotten.
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int storage_pin_file(const char *path, int module, const struct blk_snap_uuid *id,
		     struct storage *storage, uint64_t offset_bytes,
		     uint64_t size_bytes, bool force)
{
	struct file_map map = piece_of_file(offset_bytes, size_bytes);
	int fd, ret;

	fd = open_storage_file(path);
	if (fd < 0)
		return fail_errno(errno, "cannot open '%s'", path);
	ret = pin_open_file(fd, path, module, id);
	storage_free(storage);
	if (!ret)
		ret = use_open_file(storage, fd, path, &map, force);
	file_map_free(&map);
	close(fd);
	return ret;
}
