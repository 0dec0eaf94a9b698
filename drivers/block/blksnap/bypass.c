// SPDX-License-Identifier: GPL-2.0
/*
 * Writes that reach a disk past the filter
 *
 * A request that device mapper has mapped to a disk below passes block_rq_remap before
 * it is inserted there.  All requests of a disk with a request queue pass
 * block_rq_issue and block_rq_complete.  The bios of all other disks pass
 * block_bio_queue on their way to the driver, after a cgroup's limit has delayed them,
 * and block_bio_complete, unless the driver has sent them on as they are (NVMe
 * multipath, bcache): then they are bios of the disk below.  (Passthrough commands, such
 * as SG_IO, do not say what they change.)
 *
 * Takes no lock; the caller serialises.
 */
#include "blksnap.h"

#include <linux/blk-mq.h>
#include <linux/tracepoint.h>
#include <trace/events/block.h>

#include "bypass.h"
#include "compat.h"

/* Constant while a probe is registered. */
static const struct bypass_user *bypass_user;

static void bypass_probe_remap(void *data, struct request *rq, dev_t from_dev,
			       sector_t from_sector)
{
	/* As long as the request is there, its queue has its disk. */
	if (op_is_write(req_op(rq)) && rq->q->disk)
		bypass_user->found_request(rq->q->disk);
}

static void bypass_find_bios(struct request *rq)
{
	struct bio *bio;

	if (!op_is_write(req_op(rq)) || blk_rq_is_passthrough(rq))
		return;
	for (bio = rq->bio; bio; bio = bio->bi_next)
		bypass_user->found_bio(bio);
}

static void bypass_probe_issue(void *data, struct request *rq)
{
	bypass_find_bios(rq);
}

static void bypass_probe_complete(void *data, struct request *rq, blk_status_t error,
				  unsigned int nr_bytes)
{
	bypass_find_bios(rq);
}

/* What becomes a request is seen as one. */
static void bypass_probe_bio_queue(void *data, struct bio *bio)
{
	if (op_is_write(bio_op(bio)) && !queue_is_mq(bdev_get_queue(bio->bi_bdev)))
		bypass_user->found_bio(bio);
}

static void bypass_probe_bio_complete(void *data, struct request_queue *queue,
				      struct bio *bio)
{
	if (op_is_write(bio_op(bio)))
		bypass_user->found_bio(bio);
}

/* Every request and bio of the system costs a little more from here on. */
int bypass_watch(void)
{
	int ret;

	if (!IS_ENABLED(CONFIG_TRACEPOINTS))
		return 0;
	ret = register_trace_block_rq_issue(bypass_probe_issue, NULL);
	if (ret)
		return ret;
	ret = register_trace_block_rq_complete(bypass_probe_complete, NULL);
	if (ret)
		goto err_issue;
	ret = register_trace_block_bio_queue(bypass_probe_bio_queue, NULL);
	if (ret)
		goto err_complete;
	ret = register_trace_block_bio_complete(bypass_probe_bio_complete, NULL);
	if (ret)
		goto err_queue;
	return 0;

err_queue:
	unregister_trace_block_bio_queue(bypass_probe_bio_queue, NULL);
err_complete:
	unregister_trace_block_rq_complete(bypass_probe_complete, NULL);
err_issue:
	unregister_trace_block_rq_issue(bypass_probe_issue, NULL);
	return ret;
}

void bypass_unwatch(void)
{
	if (!IS_ENABLED(CONFIG_TRACEPOINTS))
		return;
	unregister_trace_block_bio_complete(bypass_probe_bio_complete, NULL);
	unregister_trace_block_bio_queue(bypass_probe_bio_queue, NULL);
	unregister_trace_block_rq_complete(bypass_probe_complete, NULL);
	unregister_trace_block_rq_issue(bypass_probe_issue, NULL);
}

int bypass_register(const struct bypass_user *user)
{
	bypass_user = user;
	if (!IS_ENABLED(CONFIG_TRACEPOINTS))
		return 0;
	return register_trace_block_rq_remap(bypass_probe_remap, NULL);
}

void bypass_unregister(void)
{
	if (!IS_ENABLED(CONFIG_TRACEPOINTS))
		return;
	unregister_trace_block_rq_remap(bypass_probe_remap, NULL);
	tracepoint_synchronize_unregister();
}
