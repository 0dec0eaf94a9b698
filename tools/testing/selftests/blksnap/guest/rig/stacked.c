// SPDX-License-Identifier: GPL-2.0
/*
 * Disks on top of disks: device mapper and loop, without their tools
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <linux/loop.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "stacked.h"

#define NR_TARGETS 2

/* A request with room for some targets and their texts. */
struct dm_request {
	struct dm_ioctl head;
	struct {
		struct dm_target_spec spec;
		char text[64];
	} targets[NR_TARGETS];
};

/* Part of a mapping; the next one follows it. */
struct target {
	const char *type;
	uint64_t nr_sectors;
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

static int mapping_load(const char *name, const struct target *targets, unsigned int nr)
{
	struct dm_request request = { .head.target_count = nr };
	uint64_t sector = 0;
	unsigned int i;

	for (i = 0; i < nr; i++) {
		struct dm_target_spec *spec = &request.targets[i].spec;

		spec->sector_start = sector;
		spec->length = targets[i].nr_sectors;
		spec->next = sizeof(request.targets[i]);
		snprintf(spec->target_type, sizeof(spec->target_type), "%s", targets[i].type);
		memcpy(request.targets[i].text, targets[i].text, sizeof(targets[i].text));
		sector += targets[i].nr_sectors;
	}
	return dm_call(DM_TABLE_LOAD, &request, name);
}

static int mapping_create(struct disk *disk, const char *name, const struct target *targets,
			  unsigned int nr)
{
	struct dm_request request = { 0 };
	char path[32];
	int ret;

	kernel_module_load("dm-mod");
	ret = dm_call(DM_DEV_CREATE, &request, name);
	if (ret)
		return ret;
	snprintf(path, sizeof(path), "/dev/dm-%u", minor(request.head.dev));
	ret = mapping_load(name, targets, nr);
	memset(&request, 0, sizeof(request));
	if (!ret)
		ret = dm_call(DM_DEV_SUSPEND, &request, name);	/* resumes it */
	if (!ret)
		ret = disk_find(disk, path);
	if (ret)
		mapping_remove(name);
	return ret;
}

static void target_linear(struct target *target, const struct disk *lower, uint64_t sector,
			  uint64_t nr_sectors)
{
	target->type = "linear";
	target->nr_sectors = nr_sectors;
	snprintf(target->text, sizeof(target->text), "%u:%u %llu", lower->id.mj, lower->id.mn,
		 (unsigned long long)sector);
}

static void target_delay(struct target *target, const struct disk *lower, uint64_t sector,
			 uint64_t nr_sectors, unsigned int read_ms, unsigned int write_ms)
{
	const unsigned long long from = sector;

	kernel_module_load("dm-delay");
	target->type = "delay";
	target->nr_sectors = nr_sectors;
	snprintf(target->text, sizeof(target->text), "%u:%u %llu %u %u:%u %llu %u", lower->id.mj,
		 lower->id.mn, from, read_ms, lower->id.mj, lower->id.mn, from, write_ms);
}

/**
 * linear_create() - map all of a device
 * @disk:	filled in
 * @name:	of the mapping, for mapping_remove()
 * @lower:	what to map
 *
 * Return: 0 or a negative errno.
 */
int linear_create(struct disk *disk, const char *name, const struct disk *lower)
{
	struct target target;

	target_linear(&target, lower, 0, lower->nr_bytes / SECTOR_SIZE);
	return mapping_create(disk, name, &target, 1);
}

/**
 * delay_create() - map all of a device, and let requests wait before they reach it
 * @disk:	filled in
 * @name:	of the mapping, for mapping_remove()
 * @lower:	what to map
 * @read_ms:	how long reads wait
 * @write_ms:	how long writes wait
 *
 * Return: 0 or a negative errno.
 */
int delay_create(struct disk *disk, const char *name, const struct disk *lower,
		 unsigned int read_ms, unsigned int write_ms)
{
	struct target target;

	target_delay(&target, lower, 0, lower->nr_bytes / SECTOR_SIZE, read_ms, write_ms);
	return mapping_create(disk, name, &target, 1);
}

/**
 * delay_create_beyond() - map all of a device, and let reads of its end wait
 * @disk:	filled in
 * @name:	of the mapping, for mapping_remove()
 * @lower:	what to map
 * @sector:	first one of which reads wait
 * @read_ms:	how long
 *
 * Return: 0 or a negative errno.
 */
int delay_create_beyond(struct disk *disk, const char *name, const struct disk *lower,
			uint64_t sector, unsigned int read_ms)
{
	struct target targets[2];

	target_linear(&targets[0], lower, 0, sector);
	target_delay(&targets[1], lower, sector, lower->nr_bytes / SECTOR_SIZE - sector,
		     read_ms, 0);
	return mapping_create(disk, name, targets, 2);
}

/* Returns 0 or a negative errno: -EBUSY if it is open. */
int mapping_remove(const char *name)
{
	struct dm_request request = { 0 };

	return dm_call(DM_DEV_REMOVE, &request, name);
}

/**
 * mapping_suspend() - keep back all requests from now on
 * @name:	of the mapping
 *
 * Nothing is flushed and no filesystem frozen.  A task that waits for a request does
 * so until mapping_resume().
 *
 * Return: 0 or a negative errno.
 */
int mapping_suspend(const char *name)
{
	struct dm_request request = {
		.head.flags = DM_SUSPEND_FLAG | DM_SKIP_LOCKFS_FLAG | DM_NOFLUSH_FLAG,
	};

	return dm_call(DM_DEV_SUSPEND, &request, name);
}

int mapping_resume(const char *name)
{
	struct dm_request request = { 0 };

	return dm_call(DM_DEV_SUSPEND, &request, name);
}

/* How often it is open at this moment, or a negative errno. */
int mapping_open_count(const char *name)
{
	struct dm_request request = { 0 };
	int ret = dm_call(DM_DEV_STATUS, &request, name);

	return ret ? ret : request.head.open_count;
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

static int loop_configure(const char *path, int backing, unsigned int block_bytes,
			  bool is_direct)
{
	const unsigned int flags = is_direct ? LO_FLAGS_DIRECT_IO : 0;
	struct loop_config config = {
		.fd = backing,
		.block_size = block_bytes,
		.info.lo_flags = flags,
	};
	int fd = open(path, O_RDWR | O_CLOEXEC);
	int ret;

	if (fd < 0)
		return -errno;
	ret = ioctl(fd, LOOP_CONFIGURE, &config) ? -errno : 0;
	if (!ret && (ioctl(fd, LOOP_GET_STATUS64, &config.info) ||
		     (config.info.lo_flags & LO_FLAGS_DIRECT_IO) != flags)) {
		ioctl(fd, LOOP_CLR_FD, 0);
		ret = -EOPNOTSUPP;
	}
	close(fd);
	return ret;
}

static int loop_create_of_file(struct disk *disk, int backing,
			       unsigned int block_bytes, bool is_direct)
{
	int number = loop_find_free();
	char path[32];
	int ret;

	if (backing < 0)
		return -errno;
	if (number < 0)
		return number;
	snprintf(path, sizeof(path), "/dev/loop%d", number);
	if (!wait_for_node(path, true))
		return -ENOENT;
	ret = loop_configure(path, backing, block_bytes, is_direct);
	return ret ? ret : disk_find(disk, path);
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
	int backing = open(lower->path, O_RDWR | O_CLOEXEC);
	int ret = loop_create_of_file(disk, backing, block_bytes, true);

	if (backing >= 0)
		close(backing);
	return ret;
}

/**
 * loop_create_of_memory() - make a loop device of a file in memory
 * @disk:	filled in
 * @nr_bytes:	its size
 *
 * Return: 0 or a negative errno.
 */
int loop_create_of_memory(struct disk *disk, uint64_t nr_bytes)
{
	int backing = memfd_create("loop", MFD_CLOEXEC);
	int ret;

	if (backing >= 0 && ftruncate(backing, nr_bytes)) {
		close(backing);
		return -errno;
	}
	ret = loop_create_of_file(disk, backing, SECTOR_SIZE, false);
	if (backing >= 0)
		close(backing);
	return ret;
}

void loop_remove(const struct disk *disk)
{
	int fd = open(disk->path, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return;
	ioctl(fd, LOOP_CLR_FD, 0);
	close(fd);
}
