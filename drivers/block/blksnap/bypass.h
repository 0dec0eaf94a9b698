/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Requests that reach a disk past the filter
 *
 * A request-based device-mapper target (multipath) submits no bios to the disks
 * below it: it puts requests into their queues.  These can be neither held nor
 * counted, but the block layer tells of each before it gets there.
 *
 * bypass_register() has a function called for each such request that changes
 * data, with the disk it goes to.  The function may be called in any context but
 * NMI and may not sleep.  One user at a time.
 */
#ifndef BLKSNAP_BYPASS_H
#define BLKSNAP_BYPASS_H

struct gendisk;

int bypass_register(void (*found)(struct gendisk *disk));
void bypass_unregister(void);

#endif /* BLKSNAP_BYPASS_H */
