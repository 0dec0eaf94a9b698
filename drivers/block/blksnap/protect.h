/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What cannot be protected
 *
 * A device whose data can change by other means than bios, or whose bios cannot
 * be held or copied, is refused, because its image might be wrong.  The caller gets
 * -EOPNOTSUPP, and one line of the log says why.
 *
 * Context: everything declared here is control path.
 */
#ifndef BLKSNAP_PROTECT_H
#define BLKSNAP_PROTECT_H

#include <linux/types.h>

struct block_device;

int protect_check(struct block_device *origin);
int protect_refuse(dev_t dev, const char *reason);

#endif /* BLKSNAP_PROTECT_H */
