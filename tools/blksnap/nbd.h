/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Disks served by qemu-nbd as block devices
 *
 * What is served can be written, but that goes to a throw-away overlay: the file
 * or device below is not changed.  The overlay is a temporary file that has lost
 * its name, so it goes with qemu-nbd.
 *
 * What is served has the identifiers of a disk in use, so its partitions are kept
 * from being seen as devices.
 *
 * A server carries a mark in its arguments.  It is found by that, also after the
 * program that started it was killed.
 */
#ifndef NBD_H
#define NBD_H

#include <stddef.h>

#include "key.h"

#define NBD_NAME_SIZE 32	/* "nbd" and a number */

struct nbd_server {
	const char *mark;	/* a path: no server of another mount has it */
	const char *socket;	/* between it and the kernel, for a moment */
	const struct key *key;	/* of the files, NULL if they are not encrypted */
};

int nbd_find_free(char name[NBD_NAME_SIZE]);
int nbd_serve(const char *name, const char *format, const char *file,
	      const struct nbd_server *server, int *fd);
void nbd_remove_partitions(const char *name);
void nbd_stop(const struct nbd_server *server);

#endif /* NBD_H */
