/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Writes that were on their way before tracking began
 *
 * A take waits for the writes that are counted.  Those that passed the filter's
 * place before their disk had a tracker are in no count, so they are waited for
 * once, when tracking begins.
 */
#ifndef BLKSNAP_SETTLE_H
#define BLKSNAP_SETTLE_H

struct block_device;
struct inflight;

void settle_submitters(void);
int settle_writes(struct block_device *origin, struct inflight *inflight);

#endif /* BLKSNAP_SETTLE_H */
