/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The bio filter: every bio on its way to a block device passes here
 *
 * The filter calls functions of its user, and not through pointers: every bio of the
 * system would pay for that.  It is installed by filter_register() while a disk is
 * tracked and for half a second longer, see tracker.c.
 *
 * filter_judge() sees every bio before the block layer looks at it.  It may be
 * called with preemption disabled and under current->bio_list, so it neither
 * sleeps nor submits nor waits, and it decides:
 *
 * FILTER_PASS: the bio goes on as if there were no filter.
 * FILTER_TAKEN: filter_judge() has put the bio on a list, whose owner submits it
 *	again.  The submitter goes on as if the bio were submitted.
 * FILTER_HOLD: filter_hold() is called with the bio in place of
 *	submit_bio_noacct(), in the context of the submitter, and may sleep as
 *	submitting may.  It owns the bio.  Never returned for a bio under
 *	current->bio_list.
 *
 * A bio submitted again is judged again: verdicts have to be idempotent.
 *
 * filter_replaced() is called when a driver may have put other data on a disk without a
 * write: device mapper has another table, and lets no bio pass yet.  It may be called
 * with preemption disabled, for any disk, and also for no such reason.
 *
 * Context: the other functions are control path and sleep.  filter_register() and
 * filter_unregister() must not be called with a lock that submitting a bio may need.
 * filter_register() returns -EBUSY if other code diverts bios already, or another
 * errno of what it registers with.  After filter_unregister() filter_judge() is not
 * running and will not be called; a task may still be in filter_hold(), which
 * filter_module_exit() waits for.
 * out-of-tree: begin
 *
 * Only where ftrace has found a fault does the filter stay: then filter_judge() goes on
 * being called, and the module is never unloaded.
 * out-of-tree: end
 */
#ifndef BLKSNAP_FILTER_H
#define BLKSNAP_FILTER_H

#include <linux/bio.h>

enum filter_verdict {
	FILTER_PASS,
	FILTER_TAKEN,
	FILTER_HOLD,
};

/* Defined by the user of the filter. */
enum filter_verdict filter_judge(struct bio *bio);
void filter_hold(struct bio *bio);
void filter_replaced(struct gendisk *disk);

/*
 * First sector of a write on its disk.  A bio to a partition is not remapped yet when
 * the filter sees it, unless it is the rest of a split.
 */
static inline sector_t filter_bio_sector(struct bio *bio)
{
	sector_t sector = bio->bi_iter.bi_sector;

	return bio_flagged(bio, BIO_REMAPPED) ? sector : sector + bio->bi_bdev->bd_start_sect;
}

int filter_module_init(void);
void filter_module_exit(void);

int filter_register(void);
void filter_unregister(void);

#endif /* BLKSNAP_FILTER_H */
