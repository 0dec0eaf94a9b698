// SPDX-License-Identifier: GPL-2.0
/*
 * Disks on top of disks: dm-linear and loop, without their tools
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <linux/loop.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "stacked.h"

/* A request with room for one target and its text. */
struct dm_request {
	struct dm_ioctl head;
	struct dm_target_spec target;
	char text[64];
};

/* Returns 0 or a negative errno. */
static int dm_call(unsigned long command, struct dm_request *request,
		   const char *name)
{
	int fd = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
	int ret;

	if (fd < 0)
		return -errno;
	request->head.version[0] = DM_VERSION_MAJOR;
	request->head.data_size = sizeof(*request);
	request->head.data_start = sizeof(request->head);
	snprintf(request->head.name, sizeof(request->head.name), "%s", name);
	ret = ioctl(fd, command, request) ? -errno : 0;
	close(fd);
	return ret;
}

static int linear_load(const char *name, const struct disk *lower)
{
	struct dm_request request = {
		.head.target_count = 1,
		.target = {
			.length = lower->nr_bytes / SECTOR_SIZE,
			.target_type = "linear",
		},
	};

	snprintf(request.text, sizeof(request.text), "%u:%u 0", lower->id.mj,
		 lower->id.mn);
	return dm_call(DM_TABLE_LOAD, &request, name);
}

/**
 * linear_create() - map all of a device by device mapper
 * @disk:	filled in
 * @name:	of the mapping, needed to remove it
 * @lower:	what to map
 *
 * Return: 0 or a negative errno.
 */
int linear_create(struct disk *disk, const char *name, const struct disk *lower)
{
	struct dm_request request = { 0 };
	char path[32];
	int ret;

	kernel_module_load("dm-mod");
	ret = dm_call(DM_DEV_CREATE, &request, name);
	if (ret)
		return ret;
	snprintf(path, sizeof(path), "/dev/dm-%u", minor(request.head.dev));
	ret = linear_load(name, lower);
	memset(&request, 0, sizeof(request));
	if (!ret)
		ret = dm_call(DM_DEV_SUSPEND, &request, name);	/* resumes it */
	if (!ret)
		ret = disk_find(disk, path);
	if (ret)
		linear_remove(name);
	return ret;
}

void linear_remove(const char *name)
{
	struct dm_request request = { 0 };

	dm_call(DM_DEV_REMOVE, &request, name);
}

/* The first loop device that is free, or a negative errno. */
static int loop_find_free(void)
{
	int fd, ret;

	kernel_module_load("loop");
	fd = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = ioctl(fd, LOOP_CTL_GET_FREE);
	if (ret < 0)
		ret = -errno;
	close(fd);
	return ret;
}

static int loop_configure(const char *path, const char *lower,
			  unsigned int block_bytes)
{
	struct loop_config config = {
		.block_size = block_bytes,
		.info.lo_flags = LO_FLAGS_DIRECT_IO,
	};
	int fd = open(path, O_RDWR | O_CLOEXEC);
	int ret = -errno;

	config.fd = open(lower, O_RDWR | O_CLOEXEC);
	if (fd >= 0 && (int)config.fd >= 0) {
		ret = ioctl(fd, LOOP_CONFIGURE, &config) ? -errno : 0;
		/* A page cache below would come between us and the disk. */
		if (!ret && (ioctl(fd, LOOP_GET_STATUS64, &config.info) ||
			     !(config.info.lo_flags & LO_FLAGS_DIRECT_IO))) {
			ioctl(fd, LOOP_CLR_FD, 0);
			ret = -EOPNOTSUPP;
		}
	}
	if (fd >= 0)
		close(fd);
	if ((int)config.fd >= 0)
		close(config.fd);
	return ret;
}

/**
 * loop_create() - make a loop device on top of a disk, past the page cache
 * @disk:	filled in
 * @lower:	what it is made of
 * @block_bytes:	its logical block size, no smaller than that of @lower
 *
 * Return: 0 or a negative errno.
 */
int loop_create(struct disk *disk, const struct disk *lower,
		unsigned int block_bytes)
{
	int number = loop_find_free();
	char path[32];
	int ret;

	if (number < 0)
		return number;
	snprintf(path, sizeof(path), "/dev/loop%d", number);
	if (!wait_for_node(path, true))
		return -ENOENT;
	ret = loop_configure(path, lower->path, block_bytes);
	return ret ? ret : disk_find(disk, path);
}

void loop_remove(const struct disk *disk)
{
	int fd = open(disk->path, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return;
	ioctl(fd, LOOP_CLR_FD, 0);
	close(fd);
}
