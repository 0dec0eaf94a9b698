/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The key of encrypted layers
 *
 * QEMU reads it from its file, so it is in no command line.  The checksums of an
 * encrypted layer begin with a seed that is made of the key: without the key
 * nobody can use them to find out whether the backup has certain data.
 */
#ifndef KEY_H
#define KEY_H

#include <limits.h>
#include <stdbool.h>

#include "checksum.h"

#define KEY_SECRET "key"	/* what QEMU knows it as */

struct key {
	const char *file;	/* as the user named it; NULL if there is none */
	/* What QEMU's option --object needs; a comma is written twice. */
	char object[2 * PATH_MAX + 32];
	unsigned char seed[CHECKSUM_SIZE];
};

int option_key(const char *name, const char *text, void *to);

#endif /* KEY_H */
