// SPDX-License-Identifier: GPL-2.0
/*
 * Waiting for the writes of the time before tracking
 *
 * No count is kept by every kernel and driver, so there are two ways: on a queue of
 * requests, wait for those that have entered it; elsewhere (dm, md), for those that
 * the driver accounts for.  Either can be waited for only while new ones are kept
 * back, so that is done for moments, and a few times only.
 */
#include "blksnap.h"

#include <linux/blk-mq.h>
#include <linux/blkdev.h>
#include <linux/delay.h>
#include <linux/part_stat.h>
#include <linux/rcupdate.h>
#include <linux/sched/mm.h>
#include <linux/xarray.h>

#include "compat.h"
#include "inflight.h"
#include "settle.h"

/*
 * How long new writes may wait, at first and in the end.  The time doubles with each
 * try, so they wait about as long as the device takes for what it has been asked, not
 * longer.
 */
#define SETTLE_FIRST_STALL_MS 20U
#define SETTLE_LAST_STALL_MS 640U

/* How long writes go on in between. */
#define SETTLE_PAUSE_MS 30U

/* Has every request that had entered the queue completed? */
static bool settle_requests(struct request_queue *queue, unsigned int stall_ms)
{
	unsigned int noio = memalloc_noio_save();
	bool is_idle;

	blk_freeze_queue_start(queue);
	is_idle = blk_mq_freeze_queue_wait_timeout(queue, msecs_to_jiffies(stall_ms)) > 0;
	blk_mq_unfreeze_queue_nomemrestore(queue);
	memalloc_noio_restore(noio);
	return is_idle;
}

static long settle_count_writes(struct gendisk *disk)
{
	struct block_device *part;
	unsigned long index;
	long sum = 0;
	int cpu;

	rcu_read_lock();
	xa_for_each(&disk->part_tbl, index, part)
		for_each_possible_cpu(cpu)
			sum += part_stat_local_read_cpu(part, in_flight[WRITE], cpu);
	rcu_read_unlock();
	return sum;
}

/* Is every bio that the driver has accounted for done? */
static bool settle_bios(struct gendisk *disk, struct inflight *inflight, unsigned int stall_ms)
{
	unsigned long deadline = jiffies + msecs_to_jiffies(stall_ms);
	unsigned int noio = memalloc_noio_save();
	bool is_idle;

	inflight_gate(inflight);
	synchronize_rcu_expedited();
	while (!(is_idle = settle_count_writes(disk) <= 0) && time_before(jiffies, deadline))
		usleep_range(50, 200);
	inflight_ungate(inflight);
	memalloc_noio_restore(noio);
	return is_idle;
}

/*
 * The filter finds the tracker of @disk already.  The reference to @queue keeps it: the
 * disk itself may be gone.  Sleeps for up to two seconds, and a grace period.
 */
void settle_disk(struct gendisk *disk, struct request_queue *queue,
		 struct inflight *inflight)
{
	unsigned int stall_ms;

	/*
	 * A task may have passed the filter before it knew of the tracker and
	 * have been preempted before any queue or driver could count its write.
	 * Wait until each task has slept of its own accord or been in user space.
	 */
	synchronize_rcu_tasks();
	for (stall_ms = SETTLE_FIRST_STALL_MS; stall_ms <= SETTLE_LAST_STALL_MS; stall_ms *= 2) {
		if (queue_is_mq(queue) ? settle_requests(queue, stall_ms) :
					 settle_bios(disk, inflight, stall_ms))
			return;
		msleep(SETTLE_PAUSE_MS);
	}
}
