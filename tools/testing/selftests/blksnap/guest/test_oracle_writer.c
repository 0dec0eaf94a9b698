// SPDX-License-Identifier: GPL-2.0
/*
 * Writing at random: every operation that changes data on a block device
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "test_oracle.h"

void stamp_sectors(void *buffer, uint64_t sector, uint64_t nr_sectors,
		   uint64_t op)
{
	char *at = buffer;
	uint64_t i;

	for (i = 0; i < nr_sectors; i++, at += SECTOR_SIZE)
		*(struct stamp *)at = (struct stamp) {
			ORACLE_MAGIC | (sector + i), op,
		};
}

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
		/* A long one may stop in the middle. */
		if (ret > 0 || (ret < 0 && errno == EAGAIN))
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

/* One write of any kind, size and place; crew_fn of the shadow tests. */
const char *chaos_work(struct crew_member *member, void *data)
{
	static atomic_uint_fast64_t last_op;
	struct chaos *chaos = data;
	struct random *random = &member->random;
	struct way *way = &chaos->ways[random_below(random, chaos->nr_ways)];
	const enum write_kind kind =
		random_kind(random, way->is_buffered);
	unsigned int shift = random_below(random, chaos->max_shift + 1);
	uint64_t nr_sectors = 1 + random_below(random, 1ULL << shift);
	uint64_t room, sector;

	if (nr_sectors > way->nr_sectors)
		nr_sectors = way->nr_sectors;
	room = way->nr_sectors - nr_sectors + 1;
	/* Now and then all meet in a small place. */
	if (room > 256 && !random_below(random, 4))
		room = 256;
	sector = way->start + random_below(random, room);
	if (!write_makes_zeros(kind))
		stamp_sectors(member->buffer, sector, nr_sectors,
			      atomic_fetch_add(&last_op, 1));
	if (way_write(way, kind, member->buffer, sector, nr_sectors) ==
	    WRITE_FAILED) {
		ktap_note("write of kind %d to %llu + %llu: %s", kind,
			  (unsigned long long)sector,
			  (unsigned long long)nr_sectors, strerror(errno));
		return "a write to the origin failed";
	}
	if (kind == WRITE_BUFFERED && !random_below(random, 3) &&
	    fdatasync(way->buffered))
		return "syncing the origin failed";
	return NULL;
}

void chaos_sync(struct chaos *chaos)
{
	unsigned int i;

	for (i = 0; i < chaos->nr_ways; i++)
		way_sync(&chaos->ways[i]);
}

/* To be called while nobody writes. */
void chaos_choose_styles(struct chaos *chaos, struct random *random)
{
	unsigned int i;

	chaos_sync(chaos);
	for (i = 0; i < chaos->nr_ways; i++)
		chaos->ways[i].is_buffered = !random_below(random, 3);
}
