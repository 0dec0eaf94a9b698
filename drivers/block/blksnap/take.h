/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The instant of a snapshot, for all its members at once
 *
 * take_instant() freezes the filesystems of all members, closes their gates,
 * waits until no write is in flight, switches every change map and publishes
 * every engine, and lets everything go on.  It does all of it or nothing.
 */
#ifndef BLKSNAP_TAKE_H
#define BLKSNAP_TAKE_H

#include <linux/types.h>

struct block_device;
struct cow;
struct tracker;

/**
 * struct take_member - one origin of a take
 * @tracker:	claimed by the snapshot
 * @origin:	the origin's block device, open
 * @cow:	engine to publish; on success the tracker points to it too and
 *		tracker_retire() has to be called before it is shut down
 * @is_frozen:	out: every filesystem on the origin was frozen at the instant, and
 *		nothing else was using it
 */
struct take_member {
	struct tracker *tracker;
	struct block_device *origin;
	struct cow *cow;
	bool is_frozen;
};

int take_instant(struct take_member *members, unsigned int nr_members);

#endif /* BLKSNAP_TAKE_H */
