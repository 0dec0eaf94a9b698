// SPDX-License-Identifier: GPL-2.0
/*
 * What is on a disk
 */
#include <blkid.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <blksnap/blksnap.h>

#include "content.h"
#include "message.h"
#include "util.h"

/**
 * content_free() - free what is known of a filesystem
 * @content:	the filesystem
 */
void content_free(struct content *content)
{
	free(content->type);
	free(content->label);
	free(content->volume);
	free(content->device);
	*content = (struct content) { 0 };
}

static char *copy_value(blkid_probe probe, const char *key)
{
	const char *value;

	if (blkid_probe_lookup_value(probe, key, &value, NULL))
		return NULL;
	return strdup(value);
}

static bool is_container(const char *type)
{
	static const char *const containers[] = {
		CONTENT_LVM, CONTENT_LUKS, CONTENT_RAID
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(containers); i++) {
		if (type && !strcmp(type, containers[i]))
			return true;
	}
	return false;
}

/* Finds out what the range holds that @content names. */
static int look(struct content *content, int fd)
{
	blkid_probe probe = blkid_new_probe();
	char *usage;

	if (!probe || blkid_probe_set_device(probe, fd, content->offset_bytes,
					     content->nr_bytes)) {
		blkid_free_probe(probe);
		return fail_memory();
	}
	blkid_probe_enable_superblocks(probe, 1);
	blkid_probe_set_superblocks_flags(probe, BLKID_SUBLKS_TYPE |
						 BLKID_SUBLKS_LABEL |
						 BLKID_SUBLKS_USAGE);
	if (!blkid_do_safeprobe(probe)) {
		content->type = copy_value(probe, "TYPE");
		content->label = copy_value(probe, "LABEL");
		usage = copy_value(probe, "USAGE");
		content->is_filesystem = usage && !strcmp(usage, "filesystem");
		content->is_container = is_container(content->type);
		free(usage);
	}
	blkid_free_probe(probe);
	return EXIT_OK;
}

static int list_partitions(struct contents *contents, blkid_partlist list)
{
	int nr = list ? blkid_partlist_numof_partitions(list) : 0;
	blkid_partition partition;
	struct content *content;
	int i;

	contents->kind = nr > 0 ? "partition" : NULL;
	contents->all = calloc(nr > 0 ? nr : 1, sizeof(*contents->all));
	if (!contents->all)
		return fail_memory();
	for (i = 0; i < nr; i++) {
		partition = blkid_partlist_get_partition(list, i);
		if (blkid_partition_is_extended(partition) ||
		    !blkid_partition_get_size(partition))
			continue;
		content = &contents->all[contents->nr++];
		content->partition = blkid_partition_get_partno(partition);
		content->offset_bytes =
			(uint64_t)blkid_partition_get_start(partition)
			<< BLKSNAP_SECTOR_SHIFT;
		content->nr_bytes =
			(uint64_t)blkid_partition_get_size(partition)
			<< BLKSNAP_SECTOR_SHIFT;
	}
	if (!contents->kind)
		contents->nr = 1;
	return EXIT_OK;
}

static int read_all(struct contents *contents, int fd, const char *name)
{
	blkid_probe probe = blkid_new_probe();
	size_t i;
	int ret;

	if (!probe || blkid_probe_set_device(probe, fd, 0, 0)) {
		blkid_free_probe(probe);
		return fail(EXIT_FAILED, "cannot look at what is on '%s'",
			    name);
	}
	ret = list_partitions(contents, blkid_probe_get_partitions(probe));
	blkid_free_probe(probe);
	for (i = 0; i < contents->nr && !ret; i++)
		ret = look(&contents->all[i], fd);
	return ret;
}

/**
 * contents_read() - find all that is on a device
 * @contents:	gets it; to be freed by contents_free() in any case
 * @device:	path of the device
 * @name:	of what the user named, for messages
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int contents_read(struct contents *contents, const char *device,
		  const char *name)
{
	int fd = open(device, O_RDONLY | O_CLOEXEC);
	int ret;

	*contents = (struct contents) { 0 };
	if (fd < 0)
		return fail_errno(errno, "cannot open '%s'", device);
	ret = read_all(contents, fd, name);
	close(fd);
	return ret;
}

/**
 * contents_look_at_volumes() - find out what volumes hold
 * @contents:	the volumes; of those that are not active nothing is found out
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int contents_look_at_volumes(struct contents *contents)
{
	int fd, ret = EXIT_OK;
	size_t i;

	for (i = 0; i < contents->nr && !ret; i++) {
		fd = open(contents->all[i].device, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		ret = look(&contents->all[i], fd);
		close(fd);
	}
	return ret;
}

/**
 * contents_free() - free what is known of a disk
 * @contents:	what is on it
 */
void contents_free(struct contents *contents)
{
	size_t i;

	for (i = 0; i < contents->nr; i++)
		content_free(&contents->all[i]);
	free(contents->all);
	*contents = (struct contents) { 0 };
}

static void describe(const struct content *content, char *text, size_t size)
{
	const char *label = content->label;
	char number[16];

	snprintf(number, sizeof(number), "%u", content->partition);
	snprintf(text, size, "%.64s (%s%s%.32s%s, %ju MiB)",
		 content->volume ? content->volume : number,
		 content->type ? content->type : "unknown",
		 label ? " '" : "", label ? label : "", label ? "'" : "",
		 (uintmax_t)content->nr_bytes >> 20);
}

/* A list as long as a message bears. */
static void describe_all(const struct contents *contents, char *text,
			 size_t size)
{
	size_t used = 0, i;
	char one[192];

	*text = 0;
	for (i = 0; i < contents->nr; i++) {
		describe(&contents->all[i], one, sizeof(one));
		used += snprintf(text + used, size - used, "%s%s",
				 i ? ", " : "", one);
		if (used >= size)
			return;
	}
}

static int fail_choice(const struct contents *contents, const char *name,
		       const char *what)
{
	char list[1024];

	describe_all(contents, list, sizeof(list));
	return fail(EXIT_USAGE, "'%s' has %s: %s", name, what, list);
}

static int choose_number(const struct contents *contents, const char *name,
			 unsigned int number, struct content **chosen)
{
	char what[64];
	size_t i;

	for (i = 0; i < contents->nr; i++) {
		if (contents->all[i].partition == number) {
			*chosen = &contents->all[i];
			return EXIT_OK;
		}
	}
	snprintf(what, sizeof(what), "no partition %u; there are", number);
	return fail_choice(contents, name, what);
}

static int choose_only(const struct contents *contents, const char *name,
		       struct content **chosen)
{
	unsigned int nr = 0;
	char what[64];
	size_t i;

	for (i = 0; i < contents->nr; i++) {
		if (!contents->kind || contents->all[i].is_filesystem ||
		    contents->all[i].is_container) {
			*chosen = &contents->all[i];
			nr++;
		}
	}
	if (nr == 1)
		return EXIT_OK;
	if (nr)
		snprintf(what, sizeof(what), "several %ss, choose one with --%s",
			 contents->kind, contents->kind);
	else
		snprintf(what, sizeof(what), "no %s with a filesystem",
			 contents->kind);
	return fail_choice(contents, name, what);
}

/**
 * contents_choose_volume() - find the volume to mount
 * @contents:	the volumes
 * @name:	of what the user named, for messages
 * @volume:	name of the volume, NULL for the only one with a filesystem
 * @chosen:	gets it, which is kept by @contents
 *
 * Return: EXIT_OK, or EXIT_USAGE after a message.
 */
int contents_choose_volume(struct contents *contents, const char *name,
			   const char *volume, struct content **chosen)
{
	char what[192];
	size_t i;

	if (!volume)
		return choose_only(contents, name, chosen);
	for (i = 0; i < contents->nr; i++) {
		if (!strcmp(contents->all[i].volume, volume)) {
			*chosen = &contents->all[i];
			return EXIT_OK;
		}
	}
	snprintf(what, sizeof(what), "no volume '%.128s'; there are", volume);
	return fail_choice(contents, name, what);
}

static int choose_partition(const struct contents *contents, const char *name,
			    unsigned int partition, struct content **chosen)
{
	if (partition && contents->kind)
		return choose_number(contents, name, partition, chosen);
	/* There may be partitions in a container. */
	if (partition && !contents->all->is_container)
		return fail(EXIT_USAGE,
			    "'%s' has no partitions; leave --partition out",
			    name);
	return choose_only(contents, name, chosen);
}

static int check_is_known(const struct content *content, const char *name)
{
	if (content->is_filesystem || content->is_container)
		return EXIT_OK;
	if (!content->type)
		return fail(EXIT_FAILED,
			    "'%s' holds no filesystem that is known, nor LVM, LUKS or RAID1",
			    name);
	return fail(EXIT_FAILED, "'%s' holds %s, no filesystem", name,
		    content->type);
}

/**
 * content_find() - find the filesystem to mount, or the container it is in
 * @content:	gets it; to be freed by content_free() in any case
 * @device:	path of the device that holds the disk
 * @name:	of what the user named, for messages
 * @partition:	number of the partition, 0 for the only one or the whole disk
 *
 * Return: EXIT_OK; EXIT_USAGE or EXIT_FAILED after a message.
 */
int content_find(struct content *content, const char *device, const char *name,
		 unsigned int partition)
{
	struct content *chosen = NULL;
	struct contents contents;
	int ret;

	*content = (struct content) { 0 };
	ret = contents_read(&contents, device, name);
	if (!ret)
		ret = choose_partition(&contents, name, partition, &chosen);
	if (!ret)
		ret = check_is_known(chosen, name);
	if (!ret) {
		*content = *chosen;
		*chosen = (struct content) { 0 };
	}
	contents_free(&contents);
	return ret;
}
