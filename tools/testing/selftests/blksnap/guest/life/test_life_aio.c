// SPDX-License-Identifier: GPL-2.0
/*
 * Many writes at once from one thread
 */
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "test_life.h"
#include "test_life_aio.h"

bool aio_start(struct aio *aio, int fd, uint64_t at, int byte)
{
	struct iocb *list[AIO_WRITES];
	unsigned int i;

	memset(aio, 0, sizeof(*aio));
	aio->buffer = alloc_aligned(AIO_BLOCK_BYTES);
	memset(aio->buffer, byte, AIO_BLOCK_BYTES);
	for (i = 0; i < AIO_WRITES; i++) {
		list[i] = &aio->iocbs[i];
		*list[i] = (struct iocb){
			.aio_lio_opcode = IOCB_CMD_PWRITE,
			.aio_fildes = fd,
			.aio_buf = (uintptr_t)aio->buffer,
			.aio_nbytes = AIO_BLOCK_BYTES,
			.aio_offset = at + i * AIO_BLOCK_BYTES,
		};
	}
	return !syscall(SYS_io_setup, AIO_WRITES, &aio->context) &&
	       syscall(SYS_io_submit, aio->context, AIO_WRITES, list) ==
	       AIO_WRITES;
}

bool aio_finish(struct aio *aio)
{
	struct timespec patience = { PATIENCE_MS / 1000, 0 };
	struct io_event events[AIO_WRITES];
	long i, nr;

	nr = syscall(SYS_io_getevents, aio->context, AIO_WRITES, AIO_WRITES,
		     events, &patience);
	for (i = 0; i < nr; i++)
		aio->nr_failed += events[i].res != AIO_BLOCK_BYTES;
	/* Would wait for ever for those that have not ended. */
	if (nr != AIO_WRITES)
		return false;
	syscall(SYS_io_destroy, aio->context);
	free(aio->buffer);
	return true;
}
