/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Writes that reach a disk past the filter
 *
 * There are two kinds.  A request-based device-mapper target (multipath) submits
 * no bios to the disks below it but puts requests into their queues.  And writes
 * that were submitted before their disk was tracked were not seen by the filter.
 * Neither can be held, but the block layer's tracepoints tell of them.
 *
 * The functions of the user are called in any context but NMI, with preemption
 * disabled on any kernel: they take no lock that may sleep.
 */
#ifndef BLKSNAP_BYPASS_H
#define BLKSNAP_BYPASS_H

struct bio;
struct gendisk;

/**
 * struct bypass_user - what is called, by its one user
 * @found_request: a request that changes data is put into the queue of this disk
 * @found_bio:	a bio is given to a driver, or has been completed.  Only while
 *		watching.  Most of these bios have passed the filter.
 */
struct bypass_user {
	void (*found_request)(struct gendisk *disk);
	void (*found_bio)(struct bio *bio);
};

int bypass_register(const struct bypass_user *user);
void bypass_unregister(void);

int bypass_watch(void);
void bypass_unwatch(void);

#endif /* BLKSNAP_BYPASS_H */
