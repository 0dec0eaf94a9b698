// SPDX-License-Identifier: GPL-2.0
/*
 * Events, one after the other
 */
#include <errno.h>
#include <time.h>

#include "connection.h"

#define NSEC_PER_SEC 1000000000LL
#define NSEC_PER_MSEC 1000000LL

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * NSEC_PER_SEC + now.tv_nsec;
}

/* What may be waited for in one call, of a wait that ends at @deadline_ns or never. */
static unsigned int left_ms(int64_t deadline_ns)
{
	int64_t ms;

	if (deadline_ns < 0)
		return UINT32_MAX;
	ms = (deadline_ns - now_ns() + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC;
	if (ms < 0)
		return 0;
	return ms < UINT32_MAX ? ms : UINT32_MAX;
}

static int64_t deadline_of(int64_t timeout_ms)
{
	const int64_t now = now_ns();

	if (timeout_ms < 0 || timeout_ms > (INT64_MAX - now) / NSEC_PER_MSEC)
		return -1;
	return now + timeout_ms * NSEC_PER_MSEC;
}

/*
 * A signal that does not end the process, as of a stop and a continuation, only ends
 * the call, and so does the longest time that a call takes.
 */
static int next_event(struct blksnap *blksnap, const struct blk_snap_uuid *id,
		      int64_t timeout_ms, struct blk_snap_snapshot_event *event)
{
	const int64_t deadline_ns = deadline_of(timeout_ms);
	unsigned int ms;
	int ret;

	do {
		ms = left_ms(deadline_ns);
		ret = blksnap_snapshot_wait_event(blksnap, id, ms, event);
	} while (ret == -EINTR || (ret == -ENOENT && ms == UINT32_MAX));
	return ret;
}

/**
 * blksnap_snapshot_watch() - wait for events and treat them, one after the other
 * @blksnap:	connection
 * @id:		the snapshot
 * @timeout_ms:	how long to wait for each at most, negative for ever
 * @handler:	called in this thread with each event and @arg; ends it by a result that
 *		is not 0
 * @arg:	for @handler
 *
 * Signals do not end it.  Another thread, or another program, ends it when it destroys
 * the snapshot.
 *
 * Return: the result of @handler; -ENOENT if no event arose in time; -ESRCH when the
 *	   snapshot is destroyed, or another negative errno.
 */
int blksnap_snapshot_watch(struct blksnap *blksnap, const struct blk_snap_uuid *id,
			   int64_t timeout_ms, blksnap_event_handler handler,
			   void *arg)
{
	struct blk_snap_snapshot_event event;
	int ret;

	do {
		ret = next_event(blksnap, id, timeout_ms, &event);
		if (!ret)
			ret = handler(&event, arg);
	} while (!ret);
	return ret;
}
