// SPDX-License-Identifier: GPL-2.0
/*
 * What has been written to a device, and what must be there now
 *
 * The model follows every write to one device, through whatever path.  What it
 * does not know is whether a discarded sector holds zeros or what was there.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "test_stacks.h"

static const char *const kind_names[NR_WRITE_KINDS] = {
	[WRITE_DIRECT] = "direct write",
	[WRITE_BUFFERED] = "buffered write",
	[WRITE_ZEROES] = "write of zeroes",
	[WRITE_DISCARD] = "discard",
};

static void fill_random(void *buffer, uint64_t nr_bytes, struct random *random)
{
	uint64_t *words = buffer;
	uint64_t i;

	for (i = 0; i < nr_bytes / sizeof(*words); i++)
		words[i] = random_next(random);
}

/**
 * model_init() - fill the device of a model with random bytes
 * @model:	its @disk and @top_at are set
 * @random:	where they come from
 */
void model_init(struct model *model, struct random *random)
{
	const uint64_t nr_bytes = model->disk->nr_bytes;

	model->nr_bytes = nr_bytes;
	model->data = alloc_aligned(nr_bytes);
	model->zeroed = calloc(nr_bytes / SECTOR_SIZE, sizeof(bool));
	model->touched = calloc(nr_bytes / SECTOR_SIZE, sizeof(bool));
	ASSERT(model->zeroed && model->touched);
	fill_random(model->data, nr_bytes, random);
	ASSERT(write_direct(model->disk->path, model->data, nr_bytes, 0));
}

void model_exit(struct model *model)
{
	free(model->data);
	free(model->zeroed);
	free(model->touched);
	memset(model, 0, sizeof(*model));
}

/* Take what is there for given, as of now. */
void model_forget(struct model *model)
{
	memset(model->touched, 0, model->nr_bytes / SECTOR_SIZE);
}

bool model_is_touched(const struct model *model, uint64_t at, uint64_t nr_bytes)
{
	uint64_t sector;

	for (sector = at / SECTOR_SIZE;
	     sector < (at + nr_bytes) / SECTOR_SIZE; sector++)
		if (model->touched[sector])
			return true;
	return false;
}

void path_open(struct path *path, const struct disk *disk, uint64_t at)
{
	int block_bytes;

	path->disk = disk;
	path->at = at;
	path->direct = ASSERT_OK(open(disk->path, O_RDWR | O_DIRECT | O_CLOEXEC));
	path->buffered = ASSERT_OK(open(disk->path, O_RDWR | O_CLOEXEC));
	ASSERT_OK(ioctl(path->direct, BLKSSZGET, &block_bytes));
	path->block_bytes = block_bytes;
}

void path_close(struct path *path)
{
	if (!path->disk)
		return;
	close(path->direct);
	close(path->buffered);
	memset(path, 0, sizeof(*path));
}

static bool write_range(const struct path *path, enum write_kind kind,
			const void *data, uint64_t at, uint64_t nr_bytes)
{
	uint64_t range[2] = { at, nr_bytes };

	switch (kind) {
	case WRITE_DIRECT:
		return pwrite(path->direct, data, nr_bytes, at) ==
		       (ssize_t)nr_bytes;
	case WRITE_BUFFERED:
		return pwrite(path->buffered, data, nr_bytes, at) ==
		       (ssize_t)nr_bytes && !fdatasync(path->buffered);
	case WRITE_ZEROES:
		return !ioctl(path->direct, BLKZEROOUT, range);
	default:
		return !ioctl(path->direct, BLKDISCARD, range);
	}
}

static void model_note(struct model *model, enum write_kind kind, uint64_t at,
		       uint64_t nr_bytes)
{
	const uint64_t sector = at / SECTOR_SIZE, nr = nr_bytes / SECTOR_SIZE;

	memset(model->touched + sector, true, nr);
	memset(model->zeroed + sector, kind == WRITE_DISCARD, nr);
	if (kind == WRITE_ZEROES)
		memset(model->data + at, 0, nr_bytes);
}

/**
 * model_write() - change a random place of the device
 * @model:	follows the change
 * @path:	how to write
 * @kind:	what to do; a device that cannot discard is left as it is
 * @nr_bytes:	how much; made to fit
 * @random:	says where, and what
 */
void model_write(struct model *model, struct path *path, enum write_kind kind,
		 uint64_t nr_bytes, struct random *random)
{
	/* Two paths to one device do not share their caches: no part of a page. */
	const unsigned int unit = kind == WRITE_BUFFERED ? 4096 :
							   path->block_bytes;
	uint64_t nr_units, at;
	uint8_t *data;

	nr_bytes = nr_bytes < unit ? unit : nr_bytes / unit * unit;
	nr_units = (path->disk->nr_bytes - nr_bytes) / unit + 1;
	at = random_below(random, nr_units) * unit;
	data = model->data + path->at + at;
	if (kind == WRITE_DIRECT || kind == WRITE_BUFFERED) {
		uint8_t *buffer = alloc_aligned(nr_bytes);

		fill_random(buffer, nr_bytes, random);
		memcpy(data, buffer, nr_bytes);
		data = buffer;
	}
	if (write_range(path, kind, data, at, nr_bytes))
		model_note(model, kind, path->at + at, nr_bytes);
	else if (kind != WRITE_DISCARD || errno != EOPNOTSUPP)
		FAIL("%s of %llu bytes at %llu of %s: %s", kind_names[kind],
		     (unsigned long long)nr_bytes, (unsigned long long)at,
		     path->disk->path, strerror(errno));
	if (kind == WRITE_DIRECT || kind == WRITE_BUFFERED)
		free(data);
}

/**
 * model_compare() - is what is there what has been written?
 * @model:	knows
 * @path:	device to read
 * @at:		what byte 0 of that is in the model
 * @nr_bytes:	how much to compare
 */
void model_compare(const struct model *model, const char *path, uint64_t at,
		   uint64_t nr_bytes)
{
	uint8_t *have = alloc_aligned(nr_bytes);
	uint64_t i;

	if (!read_direct(path, have, nr_bytes, 0))
		nr_bytes = 0;
	for (i = 0; i < nr_bytes; i += SECTOR_SIZE) {
		if (!memcmp(have + i, model->data + at + i, SECTOR_SIZE))
			continue;
		if (model->zeroed[(at + i) / SECTOR_SIZE] &&
		    is_filled_with(have + i, 0, SECTOR_SIZE))
			continue;
		FAIL("%s does not hold at byte %llu what was written", path,
		     (unsigned long long)i);
		break;
	}
	free(have);
}
