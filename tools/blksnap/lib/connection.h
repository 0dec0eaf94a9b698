/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A connection to the module, as the files of the library see it
 */
#ifndef CONNECTION_H
#define CONNECTION_H

#include <blksnap/blksnap.h>

/* Nothing in it changes, so it needs no lock. */
struct blksnap {
	int fd;	/* control node */
};

#endif /* CONNECTION_H */
