// SPDX-License-Identifier: GPL-2.0
/*
 * Difference storage: the blocks of a file
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

#include "control.h"
#include "device.h"
#include "error.h"
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
	int ret = 0;

	batch = calloc(1, sizeof(*batch) +
			  FIEMAP_BATCH * sizeof(batch->fm_extents[0]));
	if (!batch)
		return error_memory();
	while (next < map->end && !ret) {
		memset(batch, 0, sizeof(*batch));
		batch->fm_start = next;
		batch->fm_length = map->end - next;
		batch->fm_flags = FIEMAP_FLAG_SYNC;
		batch->fm_extent_count = FIEMAP_BATCH;
		if (ioctl(fd, FS_IOC_FIEMAP, batch))
			ret = error_errno(errno,
					  "cannot find the blocks of '%s'",
					  path);
		else if (!file_map_add_batch(map, batch, &next))
			ret = error_memory();
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
			return error_set(EOPNOTSUPP,
					 "'%s' shares blocks with another file; reserve a new file",
					 path);
		if (extent->fe_flags & FIEMAP_UNUSABLE ||
		    extent->fe_physical % BLKSNAP_SECTOR_SIZE)
			return error_set(EOPNOTSUPP,
					 "'%s' has blocks without a fixed place on the device (encrypted, compressed, inline, or not yet allocated)",
					 path);
		if (!(extent->fe_flags & FIEMAP_EXTENT_UNWRITTEN) && !force)
			return error_set(EEXIST,
					 "'%s' holds data, which would be overwritten",
					 path);
	}
	return 0;
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
		return error_errno(errno, "cannot get the state of '%s'", path);
	if (!S_ISREG(st->st_mode))
		return error_set(EMEDIUMTYPE,
				 "'%s' is not a regular file",
				 path);
	if ((unsigned int)fs.f_type != EXT4_SUPER_MAGIC &&
	    (unsigned int)fs.f_type != XFS_SUPER_MAGIC)
		return error_set(EOPNOTSUPP,
				 "'%s' is not on ext4 or XFS; other filesystems move the blocks of a file or do not tell where they are",
				 path);
	if (is_swap_file(st))
		return error_set(EBUSY,
				 "'%s' is an active swap file; use another file", path);
	if (!ioctl(fd, FS_IOC_FSGETXATTR, &attr) &&
	    attr.fsx_xflags & FS_XFLAG_REALTIME)
		return error_set(EOPNOTSUPP,
				 "'%s' lies on the realtime device of its filesystem, which cannot be found; reserve a file on the data device",
				 path);
	return 0;
}

static int check_snapshot_allows_reserving(int fd,
					   const struct blk_snap_uuid *id,
					   struct blk_snap_dev dev,
					   const char *path)
{
	struct blk_snap_image_info *images;
	char text[BLKSNAP_UUID_TEXT_SIZE];
	unsigned int nr_images, i;
	int ret = 0;

	/* One that is not taken yet, or was destroyed meanwhile, has no images. */
	if (control_snapshot_collect_images(fd, id, &images, &nr_images))
		return 0;
	blksnap_format_uuid(id, text);
	for (i = 0; i < nr_images && !ret; i++) {
		if (blksnap_device_share_disk(images[i].orig_dev_id, dev))
			ret = error_set(EBUSY,
					"'%s' has to be reserved before the take, but snapshot %s of the same disk is taken already; use a file reserved earlier, or another disk",
					path, text);
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
	int fd, ret;

	fd = control_open();
	if (fd == -ENOENT || fd == -ENXIO || fd == -ENODEV)
		return 0;	/* no module, no snapshot */
	if (fd < 0)
		return error_call(CALL_OPEN, fd);
	ret = error_call(blk_snap_ioctl_snapshot_collect,
			 control_snapshot_collect(fd, &ids, &nr_ids));
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
		return error_errno(ENOSPC, "cannot reserve %ju bytes for '%s'",
				   (uintmax_t)size_bytes, path);
	do {
		err = fallocate(fd, 0, 0, size_bytes) ? errno : 0;
	} while (err == EINTR);
	if (err == ETXTBSY)
		return error_set(ETXTBSY,
				 "'%s' is storage of a snapshot already, and stays as it is until that is destroyed; use another file, or reserve enough before",
				 path);
	if (err == EOPNOTSUPP)
		return error_set(EOPNOTSUPP,
				 "'%s': the filesystem cannot reserve blocks, as ext2 and ext3 cannot",
				 path);
	if (err)
		return error_errno(err, "cannot reserve %ju bytes for '%s'",
				   (uintmax_t)size_bytes, path);
	if (fsync(fd))
		return error_errno(errno, "cannot write '%s' to the disk", path);
	return 0;
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

/* Offsets and sizes of parts of files. */
static int check_bytes(const char *path, uint64_t offset_bytes, uint64_t size_bytes)
{
	if (offset_bytes > INT64_MAX || size_bytes > INT64_MAX - offset_bytes)
		return error_set(EOVERFLOW,
				 "'%s': %ju bytes from %ju on are beyond what a file can have",
				 path, (uintmax_t)size_bytes, (uintmax_t)offset_bytes);
	if ((offset_bytes | size_bytes) % BLKSNAP_STORAGE_ALIGN_BYTES)
		return error_set(EINVAL,
				 "'%s': %ju bytes from %ju on are not multiples of %u",
				 path, (uintmax_t)size_bytes, (uintmax_t)offset_bytes,
				 BLKSNAP_STORAGE_ALIGN_BYTES);
	return 0;
}

static int open_or_create(const char *path, bool *created)
{
	const int flags = O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
	int fd = open(path, flags | O_CREAT | O_EXCL, 0600);

	*created = fd >= 0;
	if (fd < 0 && errno == EEXIST)
		fd = open(path, flags);
	return fd < 0 ? error_errno(errno, "cannot open '%s'", path) : fd;
}

/**
 * blksnap_storage_reserve_file() - make sure that a file has all of its blocks
 * @path:	the file; it is created if there is none
 * @size_bytes:	how many bytes from the start of the file are needed
 * @flags:	BLKSNAP_STORAGE_FORCE if data in the file may be overwritten later, or 0
 *
 * Nothing is done if the blocks are there already, so the same file can serve
 * one snapshot after the other.  A file that was created is removed on failure.
 *
 * Return: 0 or a negative errno; -EEXIST if the file holds data, -EBUSY if a snapshot
 *	   of its disk is taken, -EOPNOTSUPP if its filesystem is of no use.
 */
int blksnap_storage_reserve_file(const char *path, uint64_t size_bytes,
				 unsigned int flags)
{
	bool created;
	int fd, ret;

	ret = storage_check_flags(flags);
	if (!ret)
		ret = check_bytes(path, 0, size_bytes);
	if (ret)
		return ret;
	fd = open_or_create(path, &created);
	if (fd < 0)
		return fd;
	ret = reserve_open_file(fd, path, size_bytes, flags & BLKSNAP_STORAGE_FORCE);
	close(fd);
	if (ret && created)
		unlink(path);
	return ret;
}

static int add_extents(struct blksnap_storage *storage, const struct file_map *map)
{
	const struct fiemap_extent *extent;
	int ret = 0;
	size_t i;

	for (i = 0; i < map->nr_extents && !ret; i++) {
		extent = &map->extents[i];
		ret = storage_add_range(storage,
					extent->fe_physical / BLKSNAP_SECTOR_SIZE,
					extent->fe_length / BLKSNAP_SECTOR_SIZE);
	}
	return ret;
}

/* The piece of the file that the storage is, in @map. */
static int find_piece(const struct blksnap_storage *storage, const struct stat *st,
		      struct file_map *map)
{
	const uint64_t size_bytes = st->st_size;

	map->start = storage->offset_bytes;
	map->end = storage->size_bytes ? map->start + storage->size_bytes :
		   size_bytes - size_bytes % BLKSNAP_STORAGE_ALIGN_BYTES;
	if (map->start >= map->end || map->end > size_bytes)
		return error_set(ENODATA,
				 "'%s' has only %ju bytes; 'blksnap storage reserve' makes it longer",
				 storage->path, (uintmax_t)size_bytes);
	return 0;
}

static int use_piece(struct blksnap_storage *storage, int fd, struct file_map *map)
{
	int ret;

	if (fsync(fd))
		return error_errno(errno, "cannot write '%s' to the disk", storage->path);
	ret = file_map_read(map, fd, storage->path);
	if (!ret)
		ret = file_map_check(map, storage->path, storage->force);
	if (!ret && file_map_has_holes(map))
		ret = error_set(ENODATA,
				"'%s' is not reserved all over; 'blksnap storage reserve' does it",
				storage->path);
	return ret ? ret : add_extents(storage, map);
}

static int use_open_file(struct blksnap_storage *storage, int fd)
{
	struct file_map map = { 0 };
	struct stat st;
	int ret;

	ret = check_file(fd, storage->path, &st);
	if (!ret)
		ret = find_piece(storage, &st, &map);
	if (ret)
		return ret;
	storage->dev = device_from_dev_t(st.st_dev);
	ret = use_piece(storage, fd, &map);
	file_map_free(&map);
	return ret;
}

/* What an administrator can do where the module does not know how. */
static bool is_immutable(int fd)
{
	struct fsxattr attr;

	return !ioctl(fd, FS_IOC_FSGETXATTR, &attr) &&
	       attr.fsx_xflags & FS_XFLAG_IMMUTABLE;
}

static int pin_open_file(struct blksnap *blksnap, const struct blk_snap_uuid *id,
			 int fd, const char *path)
{
	int ret = blksnap_snapshot_pin_file(blksnap, id, fd);

	if (!ret || (ret == -ENOTTY && is_immutable(fd)))
		return 0;
	if (ret == -ENOTTY)
		return error_set(ENOTTY,
				 "'%s': the loaded module cannot keep a file in its place; load the one that belongs to this version, or set 'chattr +i' on the file until the snapshot is destroyed",
				 path);
	return error_set(-ret, "cannot keep '%s' in its place: %s", path,
			 blksnap_error());
}

static int open_storage_file(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	return fd < 0 ? error_errno(errno, "cannot open '%s'", path) : fd;
}

static int find_ranges(struct blksnap_storage *storage)
{
	int fd = open_storage_file(storage->path);
	int ret;

	if (fd < 0)
		return fd;
	ret = use_open_file(storage, fd);
	close(fd);
	return ret;
}

/**
 * blksnap_storage_find_file() - take a reserved file, or a piece of it, as storage
 * @path:		the file
 * @offset_bytes:	where in the file to begin
 * @size_bytes:		how much of it to use, 0 for all up to its end
 * @flags:		BLKSNAP_STORAGE_FORCE if data there may be overwritten, or 0
 * @storage:		gets the storage, to be freed by blksnap_storage_free()
 *
 * Offset and size are multiples of BLKSNAP_STORAGE_ALIGN_BYTES.
 *
 * Return: 0 or a negative errno; -ENODATA if the file is too short or has holes,
 *	   -EEXIST if it holds data, -EOPNOTSUPP if its filesystem is of no use.
 */
int blksnap_storage_find_file(const char *path, uint64_t offset_bytes,
			      uint64_t size_bytes, unsigned int flags,
			      struct blksnap_storage **storage)
{
	int ret;

	*storage = NULL;
	ret = storage_check_flags(flags);
	if (!ret)
		ret = check_bytes(path, offset_bytes, size_bytes);
	if (!ret)
		ret = storage_create((struct blk_snap_dev) { 0 }, storage);
	if (ret)
		return ret;
	(*storage)->path = strdup(path);
	(*storage)->offset_bytes = offset_bytes;
	(*storage)->size_bytes = size_bytes;
	(*storage)->force = flags & BLKSNAP_STORAGE_FORCE;
	ret = (*storage)->path ? find_ranges(*storage) : error_memory();
	if (ret) {
		blksnap_storage_free(*storage);
		*storage = NULL;
	}
	return ret;
}

/**
 * storage_pin_file() - keep a reserved file in its place for a snapshot
 * @blksnap:	connection
 * @id:		the snapshot
 * @storage:	a file
 *
 * Only what is found after the file was pinned is sure to stay there, so the
 * ranges that were found before are forgotten.
 *
 * Return: 0 or a negative errno.
 */
int storage_pin_file(struct blksnap *blksnap, const struct blk_snap_uuid *id,
		     struct blksnap_storage *storage)
{
	int fd = open_storage_file(storage->path);
	int ret;

	if (fd < 0)
		return fd;
	ret = pin_open_file(blksnap, id, fd, storage->path);
	storage_forget_ranges(storage);
	if (!ret)
		ret = use_open_file(storage, fd);
	close(fd);
	return ret;
}
