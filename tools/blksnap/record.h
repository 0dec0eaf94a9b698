/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Records of the snapshots that a running program needs
 */
#ifndef RECORD_H
#define RECORD_H

#include <stdbool.h>

#include <linux/blksnap.h>

const char *record_dir(void);
int record_create(const struct blk_snap_uuid *id, char **path, int *record_fd);
void record_remove(char *path, int record_fd);
int record_destroy_abandoned(int fd, bool quiet);

#endif /* RECORD_H */
