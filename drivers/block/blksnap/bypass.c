// SPDX-License-Identifier: GPL-2.0
/*
 * Requests that reach a disk past the filter
 *
 * The tracepoint block_rq_remap is passed by every request that device mapper
 * has mapped to a disk below, before the request is inserted there.  (What is
 * sent by passthrough, SG_IO for instance, passes no tracepoint that would tell
 * its effect.)
 *
 * Takes no lock; registering is serialised by the caller.
 */
#include "blksnap.h"

#include <linux/blk-mq.h>
#include <linux/tracepoint.h>
#include <trace/events/block.h>

#include "bypass.h"

/* Set before the probe is registered, constant while it is. */
static void (*bypass_found)(struct gendisk *disk);

static void bypass_probe(void *data, struct request *rq, dev_t from_dev, sector_t from_sector)
{
	/* As long as the request is there, its queue has its disk. */
	if (op_is_write(req_op(rq)) && rq->q->disk)
		bypass_found(rq->q->disk);
}

/**
 * bypass_register() - begin to watch
 * @found:	what to call, valid until bypass_unregister() has returned
 *
 * Context: Process context, sleeps.
 * Return: 0, also where the kernel has no tracepoints; or what registering a
 *	   probe returned.
 */
int bypass_register(void (*found)(struct gendisk *disk))
{
	if (!IS_ENABLED(CONFIG_TRACEPOINTS))
		return 0;
	bypass_found = found;
	return register_trace_block_rq_remap(bypass_probe, NULL);
}

/**
 * bypass_unregister() - end watching
 *
 * Context: Process context, sleeps until no call of the function is running.
 */
void bypass_unregister(void)
{
	unregister_trace_block_rq_remap(bypass_probe, NULL);
	tracepoint_synchronize_unregister();
}
