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

#include "blksnap_ioctl.h"
#include "content.h"
#include "message.h"
#include "util.h"

#define RECIPES \
	"the section 'Reading what is in an image' of Documentation/block/blksnap.rst has the commands"

/* All that may be mounted: the whole disk, or its partitions. */
struct contents {
	struct content *all;
	size_t nr;
	bool has_partitions;
};

static char *copy_value(blkid_probe probe, const char *key)
{
	const char *value;

	if (blkid_probe_lookup_value(probe, key, &value, NULL))
		return NULL;
	return strdup(value);
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

	contents->has_partitions = nr > 0;
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
	if (!contents->has_partitions)
		contents->nr = 1;
	return EXIT_OK;
}

static int read_contents(struct contents *contents, int fd, const char *name)
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

static void free_contents(struct contents *contents)
{
	size_t i;

	for (i = 0; i < contents->nr; i++)
		content_free(&contents->all[i]);
	free(contents->all);
}

static void describe(const struct content *content, char *text, size_t size)
{
	const char *label = content->label;

	snprintf(text, size, "%u (%s%s%.32s%s, %ju MiB)", content->partition,
		 content->type ? content->type : "unknown",
		 label ? " '" : "", label ? label : "", label ? "'" : "",
		 (uintmax_t)content->nr_bytes >> 20);
}

/* A list as long as a message bears. */
static void describe_all(const struct contents *contents, char *text,
			 size_t size)
{
	size_t used = 0, i;
	char one[128];

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

	if (!contents->has_partitions)
		return fail(EXIT_USAGE,
			    "'%s' has no partitions; leave --partition away",
			    name);
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
	size_t i;

	for (i = 0; i < contents->nr; i++) {
		if (!contents->has_partitions || contents->all[i].is_filesystem) {
			*chosen = &contents->all[i];
			nr++;
		}
	}
	if (nr == 1)
		return EXIT_OK;
	return fail_choice(contents, name,
			   nr ? "several filesystems, choose one with --partition" :
				"no partition with a filesystem");
}

static int check_is_filesystem(const struct content *content, const char *name)
{
	static const char *const with_recipes[] = {
		"LVM2_member", "crypto_LUKS", "linux_raid_member"
	};
	size_t i;

	if (content->is_filesystem)
		return EXIT_OK;
	if (!content->type)
		return fail(EXIT_FAILED, "'%s' holds nothing that is known",
			    name);
	for (i = 0; i < ARRAY_SIZE(with_recipes); i++) {
		if (!strcmp(content->type, with_recipes[i]))
			return fail(EXIT_FAILED,
				    "'%s' holds %s, which this command does not open; " RECIPES,
				    name, content->type);
	}
	return fail(EXIT_FAILED, "'%s' holds %s, no filesystem", name,
		    content->type);
}

/**
 * content_find() - find the filesystem to mount
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
	int fd = open(device, O_RDONLY | O_CLOEXEC);
	struct contents contents = { 0 };
	struct content *chosen = NULL;
	int ret;

	*content = (struct content) { 0 };
	if (fd < 0)
		return fail_errno(errno, "cannot open '%s'", device);
	ret = read_contents(&contents, fd, name);
	if (!ret && partition)
		ret = choose_number(&contents, name, partition, &chosen);
	else if (!ret)
		ret = choose_only(&contents, name, &chosen);
	if (!ret)
		ret = check_is_filesystem(chosen, name);
	if (!ret) {
		*content = *chosen;
		chosen->type = NULL;
		chosen->label = NULL;
	}
	free_contents(&contents);
	close(fd);
	return ret;
}

/**
 * content_free() - free what is known of a filesystem
 * @content:	the filesystem
 */
void content_free(struct content *content)
{
	free(content->type);
	free(content->label);
	*content = (struct content) { 0 };
}
