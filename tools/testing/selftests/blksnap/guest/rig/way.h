/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Ways to a disk, and every operation that changes data through them
 */
#ifndef WAY_H
#define WAY_H

#include <stdbool.h>
#include <stdint.h>

#include "blksnap_test.h"

/**
 * struct way - a node through which sectors of a disk are written
 * @start:	first sector of the node on its disk
 * @nr_sectors:	of the node, as far as writers may go
 * @direct:	file descriptor past the page cache
 * @buffered:	file descriptor through the page cache
 * @is_buffered: writers use the page cache at present
 *
 * Direct and buffered writes to a node at the same time would end in -EIO: the
 * kernel cannot drop a page that is made dirty again and again, and says so to
 * whoever syncs next.  Two nodes of the same sectors do not mind each other.
 */
struct way {
	uint64_t start;
	uint64_t nr_sectors;
	int direct;
	int buffered;
	bool is_buffered;
};

void way_open(struct way *way, const struct disk *disk, uint64_t start,
	      uint64_t nr_sectors);
void way_close(struct way *way);
void way_sync(struct way *way);

enum write_kind {
	WRITE_DIRECT,
	WRITE_BUFFERED,
	WRITE_DSYNC,
	WRITE_NOWAIT,
	WRITE_ZEROOUT,
	WRITE_DISCARD,
	WRITE_PUNCH,
	WRITE_ZERO_RANGE,
	NR_WRITE_KINDS
};

/* What became of a write. */
enum write_result {
	WRITE_DONE,
	WRITE_PERHAPS,		/* the kernel was free to do it or not */
	WRITE_FAILED,
};

bool write_makes_zeros(enum write_kind kind);
enum write_kind random_kind(struct random *random, bool is_buffered);
enum write_result way_write(const struct way *way, enum write_kind kind,
			    void *buffer, uint64_t sector, uint64_t nr_sectors);

#endif /* WAY_H */
