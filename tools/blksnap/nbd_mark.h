/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Ranges marked in the bitmap of an NBD server
 *
 * QEMU has no command that sets bits.  It sets them itself where a node is written,
 * so zeros are written to a node that stores nothing.
 */
#ifndef NBD_MARK_H
#define NBD_MARK_H

#include "extents.h"

int nbd_mark(const char *socket, const char *name, const struct extents *extents);

#endif /* NBD_MARK_H */
