// SPDX-License-Identifier: GPL-2.0
/*
 * Writing at random: any operation, of any size, anywhere
 */
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
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
