// SPDX-License-Identifier: GPL-2.0
/*
 * libnbd, loaded when it is needed
 */
#include <dlfcn.h>
#include <stddef.h>

#include "message.h"
#include "nbd_library.h"
#include "util.h"

struct nbd_library libnbd;

static const struct {
	const char *name;
	void **call;
} calls[] = {
	{ "nbd_create", (void **)&libnbd.create },
	{ "nbd_close", (void **)&libnbd.close },
	{ "nbd_set_export_name", (void **)&libnbd.set_export_name },
	{ "nbd_connect_socket", (void **)&libnbd.connect_socket },
	{ "nbd_connect_unix", (void **)&libnbd.connect_unix },
	{ "nbd_get_size", (void **)&libnbd.get_size },
	{ "nbd_pread", (void **)&libnbd.pread },
	{ "nbd_aio_pwrite", (void **)&libnbd.aio_pwrite },
	{ "nbd_aio_zero", (void **)&libnbd.aio_zero },
	{ "nbd_poll", (void **)&libnbd.poll },
	{ "nbd_flush", (void **)&libnbd.flush },
	{ "nbd_shutdown", (void **)&libnbd.shutdown },
	{ "nbd_get_errno", (void **)&libnbd.get_errno },
	{ "nbd_get_error", (void **)&libnbd.get_error },
};

/**
 * nbd_library_load() - load libnbd if it has not been loaded
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int nbd_library_load(void)
{
	void *library;
	size_t i;

	/* The first of the table is the last one that is found. */
	if (libnbd.create)
		return EXIT_OK;
	library = dlopen("libnbd.so.0", RTLD_NOW | RTLD_LOCAL);
	if (!library)
		return fail(EXIT_FAILED,
			    "libnbd is not installed; on Debian: apt-get install libnbd0");
	for (i = ARRAY_SIZE(calls); i--;) {
		*calls[i].call = dlsym(library, calls[i].name);
		if (!*calls[i].call)
			return fail(EXIT_FAILED,
				    "libnbd is too old: it does not have %s()",
				    calls[i].name);
	}
	return EXIT_OK;
}
