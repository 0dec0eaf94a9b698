/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Devices encrypted with LUKS
 *
 * The key is that of what was backed up, not of a backup.  It is kept in memory
 * only, and tried on each encrypted device that is met.
 */
#ifndef LUKS_H
#define LUKS_H

int luks_read_key(const char *path, int *key_fd);
int luks_ask_key(const char *what, int *key_fd);
int luks_open(const char *device, const char *name, int key_fd,
	      const char *what);

#endif /* LUKS_H */
