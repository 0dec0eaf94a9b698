/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the kernel has mounted where
 */
#ifndef MOUNT_TABLE_H
#define MOUNT_TABLE_H

char *mount_table_source(const char *mount_point);

#endif /* MOUNT_TABLE_H */
