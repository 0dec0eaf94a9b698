/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The bio filter: every bio on its way to a block device passes here
 *
 * Upward the filter knows two functions, which its user defines.  They are not
 * called through pointers: every bio of the system would pay for that.  Only
 * while something is tracked is the filter installed at all.
 *
 * filter_judge() sees every bio before the block layer looks at it.  It may be
 * called with preemption disabled and under current->bio_list, so it neither
 * sleeps nor submits nor waits, and it decides:
 *
 * FILTER_PASS: the bio goes on as if there were no filter.
 * FILTER_TAKEN: filter_judge() has put the bio on a list; whoever owns that list
 *	submits it again.  The submitter goes on as if it were submitted.
 * FILTER_HOLD: filter_hold() is called with the bio in place of
 *	submit_bio_noacct(), in the context of the submitter, and may sleep as
 *	submitting may.  It owns the bio.  Never returned for a bio under
 *	current->bio_list.
 *
 * A bio submitted again is judged again: verdicts have to be idempotent.
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

/*
 * First sector of a write on its disk.  A bio to a partition is not remapped yet
 * when the filter sees it, unless it is what was left of a split.
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
