// SPDX-License-Identifier: GPL-2.0
/*
 * Writes that reach a disk past the filter
 *
 * A request that device mapper has mapped to a disk below passes block_rq_remap before
 * it is inserted there.  All requests of a disk with a request queue pass
 * block_rq_issue and block_rq_complete, the bios of all other disks block_bio_complete.
 * (Passthrough commands, such as SG_IO, do not say what they change.)
 *
 * Takes no lock; the caller serialises.
 */
#include "blksnap.h"

#include <linux/blk-mq.h>
#include <linux/string.h>
#include <linux/tracepoint.h>
#include <trace/events/block.h>

#include "bypass.h"

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

static void bypass_probe_bio(void *data, struct request_queue *queue, struct bio *bio)
{
	if (op_is_write(bio_op(bio)))
		bypass_user->found_bio(bio);
}

/* Two of the tracepoints are not exported, so all are looked up by name. */
static struct bypass_probe {
	const char *name;
	void *fn;
	struct tracepoint *tracepoint;
} bypass_probes[] = {
	{ "block_rq_issue", bypass_probe_issue },
	{ "block_rq_complete", bypass_probe_complete },
	{ "block_bio_complete", bypass_probe_bio },
};

static void bypass_match(struct tracepoint *tracepoint, void *data)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(bypass_probes); i++)
		if (!strcmp(tracepoint->name, bypass_probes[i].name))
			bypass_probes[i].tracepoint = tracepoint;
}

static void bypass_remove_probes(unsigned int nr_probes)
{
	while (nr_probes-- > 0)
		tracepoint_probe_unregister(bypass_probes[nr_probes].tracepoint,
					    bypass_probes[nr_probes].fn, NULL);
}

/* Every request of the system costs a little more from here on. */
int bypass_watch(void)
{
	unsigned int i;
	int ret;

	if (!IS_ENABLED(CONFIG_TRACEPOINTS))
		return 0;
	for_each_kernel_tracepoint(bypass_match, NULL);
	for (i = 0; i < ARRAY_SIZE(bypass_probes); i++) {
		ret = bypass_probes[i].tracepoint ?
			tracepoint_probe_register(bypass_probes[i].tracepoint,
						  bypass_probes[i].fn, NULL) : -ENOENT;
		if (ret) {
			bypass_remove_probes(i);
			return ret;
		}
	}
	return 0;
}

void bypass_unwatch(void)
{
	if (IS_ENABLED(CONFIG_TRACEPOINTS))
		bypass_remove_probes(ARRAY_SIZE(bypass_probes));
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
