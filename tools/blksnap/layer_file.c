// SPDX-License-Identifier: GPL-2.0
/*
 * Writing the files of a layer
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <blksnap/blksnap.h>

#include "layer_file.h"
#include "message.h"

static int write_file(struct layer_copy *copy,
		      const struct layer_source *source,
		      const struct chain_file *file)
{
	int ret;

	ret = qcow_open(&copy->to, file->path, file->key, file->compress ?
			QCOW_WRITE_COMPRESSED : QCOW_WRITE);
	if (ret)
		return ret;
	ret = layer_write(copy, source);
	if (!ret)
		return qcow_close(copy->to);
	qcow_abort(copy->to);
	return ret;
}

/**
 * layer_file_write() - create the file of a layer, and bring it to the disk
 * @file:	what it is to be
 * @source:	where the contents come from
 * @extents:	what to copy; see layer_file_round()
 * @map:	empty; gets what the layer decides
 * @progress:	counts, has been begun
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int layer_file_write(const struct chain_file *file,
		     const struct layer_source *source,
		     const struct extents *extents, struct layer_map *map,
		     struct progress *progress)
{
	struct layer_copy copy = {
		.key = file->key,
		.map = map,
		.extents = extents,
		.zero_bytes = chain_cluster_bytes(file),
		.write_bytes = chain_write_bytes(file),
		.keep_zeros = file->backing,
		.progress = progress,
	};
	int ret;

	ret = chain_create(file);
	if (ret)
		return ret;
	copy.to_fd = open(file->path, O_RDONLY | O_CLOEXEC);
	if (copy.to_fd < 0)
		return fail_errno(errno, "cannot open '%s'", file->path);
	ret = write_file(&copy, source, file);
	if (!ret)
		ret = chain_finish(file);
	if (!ret && fsync(copy.to_fd))
		ret = fail_errno(errno, "cannot write '%s' to the disk",
				 file->path);
	close(copy.to_fd);
	return ret;
}

/**
 * layer_file_describe() - note what a layer has become
 * @entry:	the layer in the catalogue
 * @map:	its map
 * @sum:	the checksum of that
 * @path:	its file
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int layer_file_describe(struct catalogue_disk *entry,
			const struct layer_map *map, const char *sum,
			const char *path)
{
	struct stat st;

	if (stat(path, &st))
		return fail_errno(errno, "cannot get the state of '%s'", path);
	entry->file_bytes = st.st_size;
	entry->data_bytes = map->data.nr_sectors << BLKSNAP_SECTOR_SHIFT;
	entry->read_bytes = entry->data_bytes +
			    (map->zeros.nr_sectors << BLKSNAP_SECTOR_SHIFT);
	entry->map_sha256 = strdup(sum);
	return entry->map_sha256 ? EXIT_OK : fail_memory();
}

/**
 * layer_file_round() - make ranges what a file can take
 * @extents:	ranges in order; get larger if they have to
 * @file:	the file; one that is compressed or encrypted is written in whole
 *		clusters
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int layer_file_round(struct extents *extents, const struct chain_file *file)
{
	const uint64_t unit = chain_range_bytes(file) >> BLKSNAP_SECTOR_SHIFT;
	const uint64_t nr_sectors = file->nr_bytes >> BLKSNAP_SECTOR_SHIFT;
	struct extents rounded = { 0 }, none = { 0 };
	const struct blk_snap_block_range *range;
	uint64_t start, end;
	int ret = EXIT_OK;
	size_t i;

	if (!unit)
		return EXIT_OK;
	for (i = 0; i < extents->nr_ranges && !ret; i++) {
		range = &extents->ranges[i];
		start = range->sector_offset - range->sector_offset % unit;
		end = range->sector_offset + range->sector_count + unit - 1;
		end -= end % unit;
		ret = extents_add(&rounded, start,
				  end < nr_sectors ? end : nr_sectors);
	}
	if (!ret)
		ret = extents_unite(&rounded, &none);
	extents_free(extents);
	*extents = rounded;
	return ret;
}
