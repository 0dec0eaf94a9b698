/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Writes that reach a disk past the filter
 *
 * There are two kinds.  A request-based device-mapper target (multipath) submits no
 * bios to the disks below it but puts requests into their queues.  And the filter has
 * not seen writes that were submitted before their disk was tracked.  Neither kind can
 * be held, but the block layer's tracepoints report both.
 *
 * The user's functions are called in any context but NMI, with preemption disabled on
 * any kernel, so they take no lock that may sleep.  Those declared here are control
 * path and sleep.  bypass_register() comes before bypass_watch(); both return 0, also
 * on a kernel without tracepoints, or what registering a probe returned.  Only
 * bypass_unregister() waits until no function of the user is running.
 */
#ifndef BLKSNAP_BYPASS_H
#define BLKSNAP_BYPASS_H

struct bio;
struct gendisk;

/**
 * struct bypass_user - what the one user wants called
 * @found_request: a request that changes data is put into the queue of this disk
 * @found_bio:	a write is given to a driver, or has completed; only while watching.
 *		Most of these bios have passed the filter.  If a driver has sent it on as
 *		it is, it is a bio of the disk below.
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
