// SPDX-License-Identifier: GPL-2.0
/*
 * Ways to a disk, and every operation that changes data through them
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "way.h"

/* @nr_sectors 0 means the whole node. */
void way_open(struct way *way, const struct disk *disk, uint64_t start,
	      uint64_t nr_sectors)
{
	way->start = start;
	way->nr_sectors = nr_sectors ? nr_sectors : disk->nr_bytes / SECTOR_SIZE;
	way->direct = ASSERT_OK(open(disk->path, O_RDWR | O_DIRECT | O_CLOEXEC));
	way->buffered = ASSERT_OK(open(disk->path, O_RDWR | O_CLOEXEC));
}

void way_close(struct way *way)
{
	close(way->direct);
	close(way->buffered);
}

/* Have everything written on the disk, and forget what is cached. */
void way_sync(struct way *way)
{
	ASSERT_OK(fsync(way->buffered));
	ASSERT_OK(ioctl(way->buffered, BLKFLSBUF, 0));
}

bool write_makes_zeros(enum write_kind kind)
{
	return kind >= WRITE_ZEROOUT;
}

static ssize_t write_with_flags(int fd, void *buffer, uint64_t nr_bytes,
				uint64_t at, int flags)
{
	struct iovec vector = { buffer, nr_bytes };
	ssize_t ret = pwritev2(fd, &vector, 1, at, flags);

	return ret == (ssize_t)nr_bytes ? 0 : ret < 0 ? -1 : 1;
}

static int zero(const struct way *way, enum write_kind kind, uint64_t at,
		uint64_t nr_bytes)
{
	uint64_t range[2] = { at, nr_bytes };
	int mode = FALLOC_FL_KEEP_SIZE;
	int ret;

	switch (kind) {
	case WRITE_DISCARD:
		return ioctl(way->buffered, BLKDISCARD, range);
	case WRITE_PUNCH:
		ret = fallocate(way->buffered, mode | FALLOC_FL_PUNCH_HOLE, at,
				nr_bytes);
		break;
	case WRITE_ZERO_RANGE:
		ret = fallocate(way->buffered, mode | FALLOC_FL_ZERO_RANGE, at,
				nr_bytes);
		break;
	default:
		return ioctl(way->buffered, BLKZEROOUT, range);
	}
	/* Not every disk can do it without being given the zeros. */
	if (ret && errno == EOPNOTSUPP)
		ret = ioctl(way->buffered, BLKZEROOUT, range);
	return ret;
}

/**
 * way_write() - change some sectors
 * @way:	through which node
 * @kind:	how
 * @buffer:	what to write, aligned for direct I/O; unused by kinds that
 *		make zeros
 * @sector:	first sector, of the disk
 * @nr_sectors:	how many
 *
 * Return: what became of it.  WRITE_BUFFERED is done when it is synced.
 */
enum write_result way_write(const struct way *way, enum write_kind kind,
			    void *buffer, uint64_t sector, uint64_t nr_sectors)
{
	const uint64_t at = (sector - way->start) * SECTOR_SIZE;
	const uint64_t nr_bytes = nr_sectors * SECTOR_SIZE;
	ssize_t ret;

	switch (kind) {
	case WRITE_DIRECT:
		ret = write_with_flags(way->direct, buffer, nr_bytes, at, 0);
		break;
	case WRITE_BUFFERED:
		ret = write_with_flags(way->buffered, buffer, nr_bytes, at, 0);
		break;
	case WRITE_DSYNC:
		ret = write_with_flags(way->direct, buffer, nr_bytes, at,
				       RWF_DSYNC);
		break;
	case WRITE_NOWAIT:
		ret = write_with_flags(way->direct, buffer, nr_bytes, at,
				       RWF_NOWAIT);
		/* A long one may stop in the middle; not every disk can. */
		if (ret > 0 || (ret < 0 && (errno == EAGAIN ||
					    errno == EOPNOTSUPP)))
			return WRITE_PERHAPS;
		break;
	default:
		ret = zero(way, kind, at, nr_bytes);
		/* Another writer made pages dirty in the range meanwhile. */
		if (ret && errno == EBUSY)
			return WRITE_PERHAPS;
		if (!ret && kind == WRITE_DISCARD)
			return WRITE_PERHAPS;
		break;
	}
	return ret ? WRITE_FAILED : WRITE_DONE;
}

/* A kind of write that fits how the node is used at present. */
enum write_kind random_kind(struct random *random, bool is_buffered)
{
	static const enum write_kind kinds[] = {
		WRITE_DIRECT, WRITE_DIRECT, WRITE_DIRECT, WRITE_DIRECT,
		WRITE_DIRECT, WRITE_DIRECT, WRITE_DSYNC, WRITE_DSYNC,
		WRITE_NOWAIT, WRITE_ZEROOUT, WRITE_DISCARD, WRITE_PUNCH,
		WRITE_ZERO_RANGE,
	};
	enum write_kind kind = kinds[random_below(random, ARRAY_SIZE(kinds))];

	return is_buffered && !write_makes_zeros(kind) ? WRITE_BUFFERED : kind;
}
