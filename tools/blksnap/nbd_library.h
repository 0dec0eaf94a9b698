/* SPDX-License-Identifier: GPL-2.0 */
/*
 * libnbd, loaded when it is needed
 *
 * The commands that do not speak NBD also run on machines that do not have it.
 */
#ifndef NBD_LIBRARY_H
#define NBD_LIBRARY_H

#include <libnbd.h>

/* The calls that are used; NULL before nbd_library_load() has succeeded. */
struct nbd_library {
	typeof(nbd_create) *create;
	typeof(nbd_close) *close;
	typeof(nbd_set_export_name) *set_export_name;
	typeof(nbd_connect_socket) *connect_socket;
	typeof(nbd_connect_unix) *connect_unix;
	typeof(nbd_get_size) *get_size;
	typeof(nbd_pread) *pread;
	typeof(nbd_aio_pwrite) *aio_pwrite;
	typeof(nbd_aio_zero) *aio_zero;
	typeof(nbd_poll) *poll;
	typeof(nbd_flush) *flush;
	typeof(nbd_shutdown) *shutdown;
	typeof(nbd_get_errno) *get_errno;
	typeof(nbd_get_error) *get_error;
};

extern struct nbd_library libnbd;

int nbd_library_load(void);

#endif /* NBD_LIBRARY_H */
