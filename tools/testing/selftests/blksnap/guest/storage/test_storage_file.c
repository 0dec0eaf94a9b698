// SPDX-License-Identifier: GPL-2.0
/*
 * Files whose blocks are storage
 */
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "test_storage.h"

/* Where the blocks of a file are, as the filesystem says. */
void file_find_extents(const char *path, struct file_extents *extents)
{
	struct fiemap *map = calloc(1, sizeof(*map) +
				    MAX_EXTENTS * sizeof(struct fiemap_extent));
	unsigned int i;
	int fd;

	ASSERT(map);
	fd = ASSERT_OK(open(path, O_RDONLY | O_CLOEXEC));
	map->fm_length = FIEMAP_MAX_OFFSET;
	map->fm_flags = FIEMAP_FLAG_SYNC;
	map->fm_extent_count = MAX_EXTENTS;
	ASSERT_OK(ioctl(fd, FS_IOC_FIEMAP, map));
	close(fd);
	ASSERT(map->fm_mapped_extents > 0 && map->fm_mapped_extents < MAX_EXTENTS);
	extents->nr = map->fm_mapped_extents;
	for (i = 0; i < extents->nr; i++) {
		extents->ranges[i].sector_offset = map->fm_extents[i].fe_physical / SECTOR_SIZE;
		extents->ranges[i].sector_count = map->fm_extents[i].fe_length / SECTOR_SIZE;
	}
	free(map);
}

/* False if the filesystem does not have the space. */
bool file_reserve(const char *path, uint64_t nr_bytes)
{
	int fd = ASSERT_OK(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	bool ok = !fallocate(fd, 0, 0, nr_bytes);

	close(fd);
	return ok;
}
