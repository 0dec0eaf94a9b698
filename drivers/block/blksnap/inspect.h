/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Snapshots and trackers in debugfs
 */
#ifndef BLKSNAP_INSPECT_H
#define BLKSNAP_INSPECT_H

int inspect_module_init(void);
void inspect_module_exit(void);

#endif /* BLKSNAP_INSPECT_H */
