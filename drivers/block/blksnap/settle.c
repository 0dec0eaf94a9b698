// SPDX-License-Identifier: GPL-2.0
/*
 * Waiting for the writes of the time before tracking
 *
 * Freezing the filesystems waits for what they have written.  For what others
 * have written there is no count that every kernel and driver keeps, so it takes
 * two: on a queue of requests, those that entered it; elsewhere (dm, md), those
 * that the driver accounts for, while the gate keeps new ones back.
 *
 * Takes no lock of its own; the caller keeps others from closing the gate.
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
#include "freeze_set.h"
#include "inflight.h"
#include "settle.h"

/* How long earlier writes may take, with filesystems frozen and writes kept. */
#define SETTLE_TIMEOUT (8 * HZ)

/* Waits until every request that entered the queue before has completed. */
static int settle_requests(struct request_queue *queue)
{
	unsigned int noio = memalloc_noio_save();
	bool is_idle;

	blk_freeze_queue_start(queue);
	is_idle = blk_mq_freeze_queue_wait_timeout(queue, SETTLE_TIMEOUT) > 0;
	blk_mq_unfreeze_queue_nomemrestore(queue);
	memalloc_noio_restore(noio);
	return is_idle ? 0 : -ETIMEDOUT;
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

/* Waits until every bio that the driver has accounted for is done. */
static int settle_bios(struct gendisk *disk, struct inflight *inflight)
{
	unsigned long deadline = jiffies + SETTLE_TIMEOUT;
	unsigned int noio = memalloc_noio_save();
	int ret = 0;

	inflight_gate(inflight);
	while (settle_count_writes(disk) > 0 && !ret) {
		if (time_after(jiffies, deadline))
			ret = -ETIMEDOUT;
		usleep_range(50, 200);
	}
	inflight_ungate(inflight);
	memalloc_noio_restore(noio);
	return ret;
}

static int settle_disk(struct gendisk *disk, struct inflight *inflight)
{
	return queue_is_mq(disk->queue) ? settle_requests(disk->queue) :
					  settle_bios(disk, inflight);
}

/**
 * settle_submitters() - wait for those who are submitting at this moment
 *
 * A task may have passed the filter before it knew of a tracker and have been
 * preempted since, before any queue or driver could count its write.  One call
 * does for all trackers made before it.
 *
 * Context: Process context, sleeps for a tenth of a second.
 */
void settle_submitters(void)
{
	/* Until each task has slept of its own accord, or been in user space. */
	synchronize_rcu_tasks();
}

/**
 * settle_writes() - wait for the writes that are in no count
 * @origin:	open block device whose tracker can be found by the filter, and has
 *		been before settle_submitters()
 * @inflight:	counter of its disk
 *
 * Context: Process context, sleeps.  Nobody may close the gate meanwhile.
 * Return: 0; -ETIMEDOUT if the device does not complete them; -ENOMEM.
 */
int settle_writes(struct block_device *origin, struct inflight *inflight)
{
	struct freeze_set *set = freeze_set_create(origin);
	int ret;

	if (!set)
		return -ENOMEM;
	/* First without freezing, which makes others wait, too, for a dead device. */
	ret = settle_disk(origin->bd_disk, inflight);
	if (ret)
		goto out_destroy_set;
	ret = freeze_set_freeze(set);
	if (ret == -ETIMEDOUT)
		goto out_destroy_set;
	/* What cannot be frozen is not waited for: the take tries again. */
	ret = settle_disk(origin->bd_disk, inflight);
	freeze_set_thaw(set);

out_destroy_set:
	freeze_set_destroy(set);
	return ret;
}
