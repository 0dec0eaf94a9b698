// SPDX-License-Identifier: GPL-2.0
/*
 * What of an image its filesystem does not use
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <blksnap/blksnap.h>

#include "child.h"
#include "message.h"
#include "used.h"
#include "util.h"

/*
 * Which program lists it; of others it was not tried.  Not btrfs:
 * partclone.btrfs 0.3.23 calls the second copy of metadata free, and takes the
 * places on one device of a filesystem for those on another.
 */
static const struct {
	const char *type;
	const char *program;
} programs[] = {
	{ "ext2", "partclone.extfs" },
	{ "ext3", "partclone.extfs" },
	{ "ext4", "partclone.extfs" },
	{ "xfs", "partclone.xfs" },
};

static const char *program_for(const char *type)
{
	size_t i;

	for (i = 0; type && i < ARRAY_SIZE(programs); i++) {
		if (!strcmp(programs[i].type, type))
			return programs[i].program;
	}
	return NULL;
}

/* START, SIZE and '+' for used, '?' for free; other lines say something else. */
static int parse_line(const char *line, uint64_t nr_sectors,
		      struct extents *found)
{
	unsigned long long start, nr_bytes;
	uint64_t end;
	char state;

	if (sscanf(line, "0x%llx 0x%llx %c", &start, &nr_bytes, &state) != 3 ||
	    state != '?')
		return EXIT_OK;
	end = (start + nr_bytes) >> BLKSNAP_SECTOR_SHIFT;
	if (end > nr_sectors)
		end = nr_sectors;
	start = (start + BLKSNAP_SECTOR_SIZE - 1) >> BLKSNAP_SECTOR_SHIFT;
	return start < end ? extents_append(found, start, end) : EXIT_OK;
}

/* Of a large filesystem in many pieces, the list is too long to be kept as well. */
static int read_list(const struct child *child, uint64_t nr_sectors,
		     struct extents *found)
{
	FILE *list = child_open_output(child);
	char *line = NULL;
	size_t size = 0;
	int ret = EXIT_OK;

	while (list && !ret && getline(&line, &size, list) >= 0)
		ret = parse_line(line, nr_sectors, found);
	/* Not at its end: the rest of it is not known. */
	if (!ret && (!list || !feof(list)))
		ret = fail_errno(errno, "cannot read the list of what is used");
	free(line);
	if (list)
		fclose(list);
	return ret;
}

static int list_free(const char *program, const char *image,
		     uint64_t nr_sectors, struct extents *found,
		     const char **reason)
{
	const char *const argv[] = { program, "-q", "-D", "-s", image, "-o",
				     "-", "-L", "/dev/null", NULL };
	struct child child;
	int ret, status;

	ret = child_start(&child, argv, -1);
	if (!ret) {
		status = child_wait(&child);
		if (child_is_missing(status))
			ret = child_fail(&child, status,
					 "cannot find out what is used");
		else if (status)
			*reason = "partclone does not understand its filesystem";
		else
			ret = read_list(&child, nr_sectors, found);
	}
	child_free(&child);
	return ret;
}

/**
 * used_find_free() - find what the filesystem on an image does not use
 * @entry:	what is known of the disk; gets whether something is left out
 * @image:	path of the image
 * @found:	gets the ranges, in order; freed by the caller in any case
 * @reason:	gets why they cannot be told, NULL if they can
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int used_find_free(struct catalogue_disk *entry, const char *image,
		   struct extents *found, const char **reason)
{
	const char *program = program_for(entry->fs_type);
	int ret = EXIT_OK;

	*reason = NULL;
	if (!entry->fs_type)
		*reason = "there is no filesystem on it, or there are partitions";
	else if (!program)
		*reason = "its filesystem is not ext2, ext3, ext4 or XFS";
	else if (!entry->frozen)
		*reason = "its filesystem was not frozen at the take";
	else
		ret = list_free(program, image, entry->capacity_bytes >>
				BLKSNAP_SECTOR_SHIFT, found, reason);
	entry->used_only = !ret && !*reason;
	return ret;
}

/* The first range that ends behind @sector, or the end of all ranges. */
static size_t find_range(const struct extents *extents, uint64_t sector)
{
	const struct blk_snap_block_range *r = extents->ranges;
	size_t low = 0, high = extents->nr_ranges, middle;

	while (low < high) {
		middle = low + (high - low) / 2;
		if (r[middle].sector_offset + r[middle].sector_count <= sector)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int read_used(const struct layer_source *source, void *data,
		     size_t nr_bytes, uint64_t offset)
{
	const struct extents *unused = ((const struct used_source *)source)->free;
	const uint64_t begin = offset >> BLKSNAP_SECTOR_SHIFT;
	const uint64_t end = (offset + nr_bytes) >> BLKSNAP_SECTOR_SHIFT;
	uint64_t from, to;
	int ret = layer_read_fd(source, data, nr_bytes, offset);
	size_t i;

	for (i = find_range(unused, begin); i < unused->nr_ranges; i++) {
		from = unused->ranges[i].sector_offset;
		to = from + unused->ranges[i].sector_count;
		if (from >= end)
			break;
		if (from < begin)
			from = begin;
		if (to > end)
			to = end;
		memset((char *)data + ((from - begin) << BLKSNAP_SECTOR_SHIFT),
		       0, (to - from) << BLKSNAP_SECTOR_SHIFT);
	}
	return ret;
}

static bool is_free(const struct layer_source *source, size_t nr_bytes,
		    uint64_t offset)
{
	const struct extents *unused = ((const struct used_source *)source)->free;
	const uint64_t begin = offset >> BLKSNAP_SECTOR_SHIFT;
	const struct blk_snap_block_range *range;
	size_t i = find_range(unused, begin);

	if (i == unused->nr_ranges)
		return false;
	range = &unused->ranges[i];
	return range->sector_offset <= begin &&
	       range->sector_offset + range->sector_count >=
	       begin + (nr_bytes >> BLKSNAP_SECTOR_SHIFT);
}

/**
 * used_source_init() - read from an image what is used
 * @source:	the source
 * @image:	path of the image
 * @fd:		the image
 * @unused:	what reads as zeros, kept as long as the source
 */
void used_source_init(struct used_source *source, const char *image, int fd,
		      const struct extents *unused)
{
	*source = (struct used_source) {
		.source = {
			.read = read_used,
			.is_zero = is_free,
			.prefetch = layer_prefetch_fd,
			.name = image,
			.fd = fd,
		},
		.free = unused,
	};
}
