/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Waiting for the writes of the time before tracking
 *
 * Writes submitted before their disk was tracked are not counted.  settle_disk()
 * waits for those that can be waited for without stopping other writes for long.
 * Those that are left (throttled by a cgroup, say) are recognised when they arrive,
 * see tracker_judge.c.
 */
#ifndef BLKSNAP_SETTLE_H
#define BLKSNAP_SETTLE_H

struct gendisk;
struct inflight;
struct request_queue;

void settle_disk(struct gendisk *disk, struct request_queue *queue,
		 struct inflight *inflight);

#endif /* BLKSNAP_SETTLE_H */
