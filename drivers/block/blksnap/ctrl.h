/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The control node /dev/blksnap
 *
 * The ioctls are described in <linux/blksnap.h>.  poll() on a control file is
 * about one snapshot: the first existing one for which the file was used to call
 * IOCTL_BLK_SNAP_SNAPSHOT_WAIT_EVENT, with whatever timeout and result, until the
 * file is closed.  A client that watches several snapshots opens a file for each.
 * poll() reports
 *
 *	EPOLLIN | EPOLLRDNORM	an event waits to be fetched,
 *	EPOLLERR | EPOLLHUP	the snapshot is destroyed,
 *	EPOLLERR		the file watches no snapshot yet.
 *
 * Another waiter may be faster, so a client that polls should fetch with a
 * timeout of 0.
 */
#ifndef BLKSNAP_CTRL_H
#define BLKSNAP_CTRL_H

/* For IOCTL_BLK_SNAP_VERSION and modinfo. */
#define BLKSNAP_VERSION_MAJOR 1
#define BLKSNAP_VERSION_MINOR 0
#define BLKSNAP_VERSION_REVISION 0
#define BLKSNAP_VERSION_BUILD 0

int ctrl_module_init(void);
void ctrl_module_exit(void);

#endif /* BLKSNAP_CTRL_H */
