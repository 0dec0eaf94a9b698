// SPDX-License-Identifier: GPL-2.0
/*
 * Events of a snapshot on their way to user space
 *
 * A list, a lock and a wait queue.  Every waiter that wakes up tries to take the
 * first event off the list; one gets it, the others go on waiting.  The waiter
 * takes a copy, so the event itself may be raised again at once.
 *
 * An event is either out of the queue (link points to itself) or in it.  A queue is
 * open until it is closed for ever.
 */
#include "blksnap.h"

#include <linux/jiffies.h>
#include <linux/kobject.h>
#include <linux/ktime.h>
#include <linux/math64.h>
#include <linux/minmax.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "compat.h"
#include "event_queue.h"

/* Longest variable of a uevent: its name and a UUID. */
#define EVENT_VARIABLE_BYTES 64

/* The control device's; NULL until that is there. */
static struct kobject *event_announcer;

static void event_announce_work(struct work_struct *work)
{
	struct event *event = container_of(work, struct event, announcement);
	struct kobject *announcer = READ_ONCE(event_announcer);
	struct blk_snap_event_corrupted lost = { };
	char variables[4][EVENT_VARIABLE_BYTES];
	char *env[5] = { variables[0], variables[1] };
	bool is_lost = event->code == blk_snap_event_code_corrupted;

	/* This kind is raised once, before the worker runs, so its payload is stable. */
	if (is_lost)
		memcpy(&lost, event->payload, sizeof(lost));
	/* It was not raised any more: the snapshot is being destroyed. */
	if (!announcer || (is_lost && !lost.err_code))
		return;
	snprintf(env[0], EVENT_VARIABLE_BYTES, "BLKSNAP_EVENT=%s",
		 is_lost ? "corrupted" : "low_free_space");
	snprintf(env[1], EVENT_VARIABLE_BYTES, "BLKSNAP_SNAPSHOT=%pUb",
		 event->queue->snapshot_id);
	if (is_lost) {
		env[2] = variables[2];
		env[3] = variables[3];
		snprintf(env[2], EVENT_VARIABLE_BYTES, "BLKSNAP_ORIGIN=%u:%u",
			 lost.orig_dev_id.mj, lost.orig_dev_id.mn);
		snprintf(env[3], EVENT_VARIABLE_BYTES, "BLKSNAP_ERROR=%d", lost.err_code);
	}
	kobject_uevent_env(announcer, KOBJ_CHANGE, env);
}

void event_init(struct event *event, u32 code)
{
	memset(event, 0, sizeof(*event));
	INIT_LIST_HEAD(&event->link);
	event->code = code;
	INIT_WORK(&event->announcement, event_announce_work);
}

/* An empty copy for event_queue_wait(), or NULL. */
struct event *event_alloc(void)
{
	struct event *copy = kzalloc_obj(*copy, GFP_KERNEL);

	if (copy) {
		INIT_LIST_HEAD(&copy->link);
		copy->is_copy = true;
	}
	return copy;
}

/* A copy that was not handed to event_queue_return(), or NULL. */
void event_free(struct event *copy)
{
	kfree(copy);
}

/*
 * Has a uevent sent for an event that was raised.  Neither sleeps nor fails; the owner of
 * the event calls event_wait_announced() before it goes.
 */
void event_announce(struct event_queue *queue, struct event *event)
{
	WRITE_ONCE(event->queue, queue);
	/* Not by a worker that frees memory: sending a uevent may have to wait for that. */
	schedule_work(&event->announcement);
}

void event_wait_announced(struct event *event)
{
	flush_work(&event->announcement);
}

/* What the uevents come from, as long as there is a snapshot. */
void event_set_announcer(struct kobject *kobj)
{
	WRITE_ONCE(event_announcer, kobj);
}

void event_queue_init(struct event_queue *queue, const uuid_t *snapshot_id)
{
	queue->snapshot_id = snapshot_id;
	init_waitqueue_head(&queue->waiters);
	spin_lock_init(&queue->lock);
	INIT_LIST_HEAD(&queue->events);
	queue->is_closed = false;
}

static void __event_queue_remove(struct event_queue *queue, struct event *event)
	__must_hold(&queue->lock)
{
	lockdep_assert_held(&queue->lock);
	list_del_init(&event->link);
	if (event->is_copy)
		event_free(event);
}

void event_queue_close(struct event_queue *queue)
{
	struct event *event, *next;

	spin_lock_irq(&queue->lock);
	queue->is_closed = true;
	list_for_each_entry_safe(event, next, &queue->events, link)
		__event_queue_remove(queue, event);
	spin_unlock_irq(&queue->lock);
	wake_up_all(&queue->waiters);
}

/*
 * Takes all events of a kind out of the queue.  Then their owners may go, if they raise
 * them no more.
 */
void event_queue_drop(struct event_queue *queue, u32 code)
{
	struct event *event, *next;

	spin_lock_irq(&queue->lock);
	list_for_each_entry_safe(event, next, &queue->events, link)
		if (event->code == code)
			__event_queue_remove(queue, event);
	spin_unlock_irq(&queue->lock);
}

/* @payload belongs to the code of @event and has at most EVENT_PAYLOAD_BYTES. */
void event_queue_raise(struct event_queue *queue, struct event *event,
		       const void *payload, size_t payload_bytes)
{
	unsigned long flags;
	bool is_new;

	if (WARN_ON_ONCE(payload_bytes > sizeof(event->payload)))
		return;

	spin_lock_irqsave(&queue->lock, flags);
	is_new = !queue->is_closed && list_empty(&event->link);
	if (is_new) {
		event->time_label = ktime_get_ns();
		memset(event->payload, 0, sizeof(event->payload));
		memcpy(event->payload, payload, payload_bytes);
		list_add_tail(&event->link, &queue->events);
	}
	spin_unlock_irqrestore(&queue->lock, flags);

	if (is_new)
		wake_up(&queue->waiters);
}

/* -EAGAIN if there is nothing to fetch. */
static int event_queue_fetch(struct event_queue *queue, struct event *copy)
{
	struct event *event;
	int ret = -EAGAIN;

	spin_lock_irq(&queue->lock);
	event = list_first_entry_or_null(&queue->events, struct event, link);
	if (event) {
		copy->code = event->code;
		copy->time_label = event->time_label;
		memcpy(copy->payload, event->payload, sizeof(copy->payload));
		__event_queue_remove(queue, event);
		ret = 0;
	} else if (queue->is_closed) {
		ret = -ESRCH;
	}
	spin_unlock_irq(&queue->lock);
	return ret;
}

/*
 * msecs_to_jiffies() takes everything above INT_MAX for "for ever".  One more jiffy,
 * because the current one is partly over.
 */
static long event_timeout_jiffies(u32 timeout_ms)
{
	u64 timeout;

	if (!timeout_ms)
		return 0;
	timeout = DIV_ROUND_UP_ULL((u64)timeout_ms * HZ, MSEC_PER_SEC) + 1;
	return min_t(u64, timeout, MAX_SCHEDULE_TIMEOUT - 1);
}

/**
 * event_queue_wait() - fetch the next event
 * @queue:	where to wait
 * @timeout_ms:	how long at most, in milliseconds; 0 only looks
 * @copy:	out: the event, from event_alloc(); untouched on error
 *
 * Context: Process context.  Sleeps with no lock held.
 * Return: 0; -ENOENT if no event came in time, -EINTR if a signal did, -ESRCH
 *	   if the queue is closed.
 */
int event_queue_wait(struct event_queue *queue, u32 timeout_ms, struct event *copy)
{
	long left;
	int ret;

	left = wait_event_interruptible_timeout(queue->waiters,
						(ret = event_queue_fetch(queue, copy)) != -EAGAIN,
						event_timeout_jiffies(timeout_ms));
	if (ret != -EAGAIN)
		return ret;
	/* Not -ERESTARTSYS: a restarted call would wait its whole time again. */
	return left < 0 ? -EINTR : -ENOENT;
}

/*
 * Puts back an event that could not be delivered, to be fetched first.  The queue owns
 * @copy from here on.
 */
void event_queue_return(struct event_queue *queue, struct event *copy)
{
	bool is_closed;

	spin_lock_irq(&queue->lock);
	is_closed = queue->is_closed;
	if (!is_closed)
		list_add(&copy->link, &queue->events);
	spin_unlock_irq(&queue->lock);

	if (is_closed)
		event_free(copy);
	else
		wake_up(&queue->waiters);
}

/*
 * EPOLLIN | EPOLLRDNORM while an event waits, EPOLLERR | EPOLLHUP once the queue is
 * closed.  @queue has to live until @file is released.
 */
__poll_t event_queue_poll(struct event_queue *queue, struct file *file,
			  struct poll_table_struct *table)
{
	__poll_t mask = 0;

	poll_wait(file, &queue->waiters, table);

	spin_lock_irq(&queue->lock);
	if (queue->is_closed)
		mask = EPOLLERR | EPOLLHUP;
	else if (!list_empty(&queue->events))
		mask = EPOLLIN | EPOLLRDNORM;
	spin_unlock_irq(&queue->lock);
	return mask;
}
