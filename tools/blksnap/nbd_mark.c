// SPDX-License-Identifier: GPL-2.0
/*
 * Ranges marked in the bitmap of an NBD server
 */
#include <errno.h>
#include <stdint.h>

#include "message.h"
#include "nbd_library.h"
#include "nbd_mark.h"
#include "progress.h"

/* Enough to keep the server busy; a queue without end would take memory. */
#define IN_FLIGHT_MAX 16

/* The protocol allows for less than 4 GiB. */
#define REQUEST_MAX_BYTES (1024ULL << 20)

struct marking {
	struct nbd_handle *nbd;
	unsigned int nr_in_flight;
	int error;		/* errno of the first request that failed */
};

/* Of a request.  Returns 1: libnbd may forget it. */
static int complete(void *data, int *error)
{
	struct marking *marking = data;

	marking->nr_in_flight--;
	if (*error && !marking->error)
		marking->error = *error;
	return 1;
}

static void note_error(struct marking *marking)
{
	if (!marking->error)
		marking->error = libnbd.get_errno() ? libnbd.get_errno() : EIO;
}

static void wait_for_less_than(struct marking *marking, unsigned int nr)
{
	while (marking->nr_in_flight >= nr && !marking->error) {
		if (libnbd.poll(marking->nbd, -1) < 0 &&
		    (libnbd.get_errno() != EINTR || interruption_signal()))
			note_error(marking);
	}
}

static void mark(struct marking *marking, uint64_t offset, uint64_t nr_bytes)
{
	const nbd_completion_callback done = {
		.callback = complete,
		.user_data = marking,
	};
	uint64_t nr;

	while (nr_bytes && !marking->error) {
		wait_for_less_than(marking, IN_FLIGHT_MAX);
		if (marking->error)
			return;
		nr = nr_bytes < REQUEST_MAX_BYTES ? nr_bytes : REQUEST_MAX_BYTES;
		marking->nr_in_flight++;
		if (libnbd.aio_zero(marking->nbd, nr, offset, done, 0) < 0) {
			marking->nr_in_flight--;
			note_error(marking);
		}
		offset += nr;
		nr_bytes -= nr;
	}
}

static void mark_all(struct marking *marking, const char *socket,
		     const char *name, const struct extents *extents)
{
	const struct blk_snap_block_range *range = extents->ranges;
	size_t i;

	if (libnbd.set_export_name(marking->nbd, name) ||
	    libnbd.connect_unix(marking->nbd, socket))
		note_error(marking);
	for (i = 0; i < extents->nr_ranges && !marking->error; i++, range++)
		mark(marking, range->sector_offset << BLKSNAP_SECTOR_SHIFT,
		     range->sector_count << BLKSNAP_SECTOR_SHIFT);
	wait_for_less_than(marking, 1);
	if (!marking->error && libnbd.shutdown(marking->nbd, 0))
		note_error(marking);
}

/**
 * nbd_mark() - mark ranges
 * @socket:	path of the server's socket
 * @name:	export whose node has the bitmap
 * @extents:	the ranges
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int nbd_mark(const char *socket, const char *name, const struct extents *extents)
{
	struct marking marking = { 0 };
	int ret;

	ret = nbd_library_load();
	if (ret)
		return ret;
	marking.nbd = libnbd.create();
	if (!marking.nbd)
		return fail_memory();
	mark_all(&marking, socket, name, extents);
	/* No callback runs after this. */
	libnbd.close(marking.nbd);
	if (interruption_signal())
		return fail(EXIT_FAILED, "interrupted by signal %d",
			    interruption_signal());
	if (marking.error)
		return fail_errno(marking.error, "cannot mark what changed");
	return EXIT_OK;
}
