// SPDX-License-Identifier: GPL-2.0
/*
 * Opening what a filesystem is in
 */
#include <blkid.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "loop.h"
#include "luks.h"
#include "lvm.h"
#include "message.h"
#include "mounting.h"
#include "opening.h"
#include "progress.h"
#include "raid.h"

/* More than are ever put into one another. */
#define DEPTH_MAX 8

/**
 * opening_keep() - keep a device open until it is mounted
 * @mounting:	closes it in opening_close()
 * @fd:		of a device that would go, or be looked at, if it were closed
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int opening_keep(struct mounting *mounting, int fd)
{
	int *more = realloc(mounting->fds,
			    (mounting->nr_fds + 1) * sizeof(*more));

	if (!more) {
		close(fd);
		return fail_memory();
	}
	mounting->fds = more;
	mounting->fds[mounting->nr_fds++] = fd;
	return EXIT_OK;
}

static int make_loop(struct mounting *mounting, const char *below,
		     uint64_t offset_bytes, uint64_t nr_bytes, char **device)
{
	int ret, fd;

	ret = loop_attach(below, offset_bytes, nr_bytes, false, device, &fd);
	return ret ? ret : opening_keep(mounting, fd);
}

/* A device that has the content alone; to be freed by the caller. */
static int make_device(struct mounting *mounting, const char *base,
		       const struct content *content, char **device)
{
	if (content->partition)
		return make_loop(mounting, base, content->offset_bytes,
				 content->nr_bytes, device);
	*device = strdup(base);
	return *device ? EXIT_OK : fail_memory();
}

/* What is on @device, which now belongs to @mounting, is looked at next. */
static int go_on_with(struct mounting *mounting, char *device, const char *what)
{
	char *name;

	free(mounting->base);
	mounting->base = device;
	if (asprintf(&name, "%s%s", mounting->name, what) < 0)
		return fail_memory();
	free(mounting->name);
	mounting->name = name;
	return EXIT_OK;
}

static int open_luks(struct mounting *mounting, unsigned int depth)
{
	char prefix[MOUNT_PREFIX_SIZE], *below, *device;
	int ret;

	if (mounting->key_fd < 0) {
		mounting->wants_key = true;
		return EXIT_FAILED;
	}
	ret = make_device(mounting, mounting->base, &mounting->content, &below);
	if (ret)
		return ret;
	mount_record_prefix(&mounting->record, prefix);
	if (asprintf(&device, "/dev/mapper/%s.luks%u", prefix, depth) < 0) {
		free(below);
		return fail_memory();
	}
	ret = luks_open(below, strrchr(device, '/') + 1, mounting->key_fd,
			mounting->name);
	free(below);
	if (!ret)
		return go_on_with(mounting, device, ", in the LUKS");
	free(device);
	return ret;
}

static int find_raid_data(const struct mounting *mounting,
			  uint64_t *offset_bytes, uint64_t *nr_bytes)
{
	int fd = open(mounting->base, O_RDONLY | O_CLOEXEC);
	int ret;

	if (fd < 0)
		return fail_errno(errno, "cannot open '%s'", mounting->base);
	*offset_bytes = mounting->content.offset_bytes;
	*nr_bytes = mounting->content.nr_bytes;
	if (!*nr_bytes)
		*nr_bytes = blkid_get_dev_size(fd);
	ret = raid_find_data(fd, mounting->name, offset_bytes, nr_bytes);
	close(fd);
	return ret;
}

static int open_raid(struct mounting *mounting)
{
	uint64_t offset_bytes, nr_bytes;
	char *device;
	int ret;

	ret = find_raid_data(mounting, &offset_bytes, &nr_bytes);
	if (!ret)
		ret = make_loop(mounting, mounting->base, offset_bytes,
				nr_bytes, &device);
	return ret ? ret : go_on_with(mounting, device, "");
}

static int add_device(struct lvm *lvm, char *device)
{
	char **more = realloc(lvm->devices,
			      (lvm->nr_devices + 1) * sizeof(*more));

	if (!more) {
		free(device);
		return fail_memory();
	}
	lvm->devices = more;
	lvm->devices[lvm->nr_devices++] = device;
	return EXIT_OK;
}

/* All physical volumes on a disk but the one that was met already. */
static int add_others(struct mounting *mounting, struct lvm *lvm,
		      const char *disk)
{
	struct contents contents;
	struct content *content;
	char *device;
	int ret;
	size_t i;

	ret = contents_read(&contents, disk, mounting->name);
	for (i = 0; i < contents.nr && !ret; i++) {
		content = &contents.all[i];
		if (!content->type || strcmp(content->type, CONTENT_LVM) ||
		    (!strcmp(disk, mounting->base) &&
		     content->partition == mounting->content.partition))
			continue;
		ret = make_device(mounting, disk, content, &device);
		if (!ret)
			ret = add_device(lvm, device);
	}
	contents_free(&contents);
	return ret;
}

static int add_devices(struct mounting *mounting, struct lvm *lvm)
{
	const struct mount_record *record = &mounting->record;
	char path[MOUNTING_PATH_SIZE], *device;
	size_t i;
	int ret;

	ret = make_device(mounting, mounting->base, &mounting->content, &device);
	if (!ret)
		ret = add_device(lvm, device);
	for (i = 0; i < record->nr_disks && !ret; i++) {
		snprintf(path, sizeof(path), "/dev/%.32s",
			 record->disks[i].nbd);
		ret = add_others(mounting, lvm, path);
	}
	return ret;
}

static int open_volume(struct mounting *mounting, struct lvm *lvm)
{
	char *device, *what;
	int ret;

	ret = add_devices(mounting, lvm);
	if (!ret)
		ret = lvm_open(lvm, mounting->volume, &mounting->found_volume,
			       &device);
	if (ret)
		return ret;
	if (asprintf(&what, ", volume %s", mounting->found_volume) < 0) {
		free(device);
		return fail_memory();
	}
	ret = go_on_with(mounting, device, what);
	free(what);
	return ret;
}

static int open_group(struct mounting *mounting)
{
	char prefix[MOUNT_PREFIX_SIZE], *dir;
	struct lvm lvm = { .group = prefix, .name = mounting->name };
	const char *path = mounting->record.path;
	size_t i;
	int ret;

	if (mounting->found_volume)
		return fail(EXIT_FAILED,
			    "'%s' is a physical volume in a volume, which is not opened",
			    mounting->name);
	dir = strndup(path, strrchr(path, '/') - path);
	if (!dir)
		return fail_memory();
	lvm.dir = dir;
	mount_record_prefix(&mounting->record, prefix);
	ret = open_volume(mounting, &lvm);
	for (i = 0; i < lvm.nr_devices; i++)
		free(lvm.devices[i]);
	free(lvm.devices);
	free(dir);
	return ret;
}

static int open_container(struct mounting *mounting, unsigned int depth)
{
	const char *type = mounting->content.type;

	if (interruption_signal())
		return fail(EXIT_FAILED, "interrupted by signal %d",
			    interruption_signal());
	if (!strcmp(type, CONTENT_LUKS))
		return open_luks(mounting, depth);
	if (!strcmp(type, CONTENT_RAID))
		return open_raid(mounting);
	return open_group(mounting);
}

/**
 * opening_descend() - open containers until there is a filesystem
 * @mounting:	what holds a container; gets what holds the filesystem
 *
 * What was set up has to be taken down by the caller, also after a failure.
 *
 * Return: EXIT_OK; EXIT_USAGE or EXIT_FAILED after a message, or without one if
 *	   @mounting wants a key.
 */
int opening_descend(struct mounting *mounting)
{
	unsigned int depth, partition = mounting->partition;
	int ret = EXIT_OK;

	for (depth = 1; !ret && !mounting->content.is_filesystem; depth++) {
		if (depth > DEPTH_MAX)
			return fail(EXIT_FAILED,
				    "'%s' has too much in one another",
				    mounting->name);
		ret = open_container(mounting, depth);
		if (mounting->content.partition && !mounting->found_partition)
			mounting->found_partition = mounting->content.partition;
		if (mounting->found_partition)
			partition = 0;
		content_free(&mounting->content);
		if (!ret)
			ret = content_find(&mounting->content, mounting->base,
					   mounting->name, partition);
	}
	return ret;
}

/**
 * opening_close() - close what was kept open until it is in use
 * @mounting:	the mount
 */
void opening_close(struct mounting *mounting)
{
	size_t i;

	for (i = 0; i < mounting->nr_fds; i++)
		close(mounting->fds[i]);
	free(mounting->fds);
	mounting->fds = NULL;
	mounting->nr_fds = 0;
}
