/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Events of a snapshot on their way to user space
 *
 * An event is embedded in the object it reports about, so raising one never
 * allocates.  Raising an event that still waits in the queue changes nothing: it is
 * reported once.  Each event goes to exactly one waiter.
 *
 * The waiter gets a copy, in memory of its own from event_alloc().  A copy that
 * could not be delivered to user space goes back with event_queue_return() and waits
 * in the queue by itself: the object that raised the event may be gone by then, or
 * have raised it again.
 *
 * The owner of an event has to outlive the queue, or the event has to be taken out
 * before the owner goes: by event_queue_drop(), or by event_queue_close(), after
 * which the queue is empty for ever, raising does nothing and waiters return -ESRCH.
 *
 * Programs that have not asked for events see those that an administrator wants to know
 * of as uevents of the control device: event_announce() has a worker send one, and
 * event_wait_announced() waits for it.
 *
 * Context: event_queue_raise() takes queue->lock with interrupts disabled and may be
 * called from any context but the filter's callback, as may event_announce();
 * everything else is for process context.
 */
#ifndef BLKSNAP_EVENT_QUEUE_H
#define BLKSNAP_EVENT_QUEUE_H

#include <linux/list.h>
#include <linux/poll.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/uuid.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <linux/blksnap.h>

struct kobject;

/* Size of the largest payload, struct blk_snap_event_corrupted. */
#define EVENT_PAYLOAD_BYTES 12U

/**
 * struct event - something to be reported to user space
 * @link:	in event_queue->events while it waits, else pointing to itself
 * @is_copy:	from event_alloc(): belongs to the queue while it waits there
 * @code:	one of enum blk_snap_event_codes
 * @time_label:	when it was raised: CLOCK_MONOTONIC, ns
 * @payload:	the structure that belongs to @code, then zeros
 * @queue:	that of event_announce()
 * @announcement: sends the uevent
 *
 * @link, @time_label and @payload are protected by the lock of the queue.
 */
struct event {
	struct list_head link;
	bool is_copy;
	u32 code;
	s64 time_label;
	u8 payload[EVENT_PAYLOAD_BYTES];
	struct event_queue *queue;
	struct work_struct announcement;
};

/**
 * struct event_queue - the events of one snapshot that have not been fetched
 * @snapshot_id: identifier of the snapshot
 * @waiters:	WAIT_EVENT and poll()
 * @lock:	protects everything below; taken with interrupts disabled
 * @events:	of struct event, oldest first
 * @is_closed:	nothing is queued any more
 */
struct event_queue {
	const uuid_t *snapshot_id;
	wait_queue_head_t waiters;
	spinlock_t lock;		/* everything below */
	struct list_head events;
	bool is_closed;
};

void event_init(struct event *event, u32 code);
struct event *event_alloc(void);
void event_free(struct event *copy);

void event_announce(struct event_queue *queue, struct event *event);
void event_wait_announced(struct event *event);
void event_set_announcer(struct kobject *kobj);

void event_queue_init(struct event_queue *queue, const uuid_t *snapshot_id);
void event_queue_close(struct event_queue *queue);
void event_queue_raise(struct event_queue *queue, struct event *event,
		       const void *payload, size_t payload_bytes);
void event_queue_drop(struct event_queue *queue, u32 code);
int event_queue_wait(struct event_queue *queue, u32 timeout_ms, struct event *copy);
void event_queue_return(struct event_queue *queue, struct event *copy);
__poll_t event_queue_poll(struct event_queue *queue, struct file *file,
			  struct poll_table_struct *table);

#endif /* BLKSNAP_EVENT_QUEUE_H */
