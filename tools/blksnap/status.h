/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What snapshots and trackers are doing
 *
 * Put together from the calls of the module, the attributes of the images in sysfs,
 * and the module's files in debugfs.  What one of these does not tell is left out.
 */
#ifndef STATUS_H
#define STATUS_H

#include <stdbool.h>

#include <blksnap/blksnap.h>
#include <json.h>

#define STATUS_DEBUGFS "/sys/kernel/debug/blksnap"

bool status_has_debugfs(void);
int status_read(struct blksnap *blksnap, bool with_cells, struct json_object **status);

#endif /* STATUS_H */
