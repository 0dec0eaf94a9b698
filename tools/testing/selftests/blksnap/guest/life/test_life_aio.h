/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Many writes at once from one thread
 *
 * Each of AIO_WRITES blocks of 4 KiB gets a write of its own, so that they can
 * be waited for, or left behind by a process that is killed.
 */
#ifndef TEST_LIFE_AIO_H
#define TEST_LIFE_AIO_H

#include <linux/aio_abi.h>
#include <stdbool.h>
#include <stdint.h>

#define AIO_WRITES 32
#define AIO_BLOCK_BYTES 4096

struct aio {
	aio_context_t context;
	struct iocb iocbs[AIO_WRITES];
	void *buffer;
	unsigned int nr_failed;
};

/* Write @byte everywhere in the blocks from @at on; false if it cannot begin. */
bool aio_start(struct aio *aio, int fd, uint64_t at, int byte);

/* Wait for the end of all; false if some do not end.  Counts the failed ones. */
bool aio_finish(struct aio *aio);

#endif /* TEST_LIFE_AIO_H */
