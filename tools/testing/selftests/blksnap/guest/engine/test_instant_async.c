// SPDX-License-Identifier: GPL-2.0
/*
 * Asynchronous writes by libaio and io_uring
 *
 * The least that is needed of both, by system calls.  One thread uses a queue;
 * it reaps what it has submitted.
 */
#include <errno.h>
#include <linux/aio_abi.h>
#include <linux/io_uring.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "test_instant.h"

/**
 * struct async - a queue
 * @kind:	by which interface
 * @context:	of libaio
 * @fd:		of io_uring; the rest too
 * @ring:	both rings, mapped
 * @sqes:	entries to submit
 * @params:	where things are in @ring
 */
struct async {
	enum async_kind kind;
	aio_context_t context;
	int fd;
	uint8_t *ring;
	size_t ring_bytes;
	struct io_uring_sqe *sqes;
	struct io_uring_params params;
};

static unsigned int *ring_word(struct async *async, uint32_t offset)
{
	return (unsigned int *)(async->ring + offset);
}

static bool ring_map(struct async *async)
{
	const struct io_uring_params *params = &async->params;
	size_t sq_bytes = params->sq_off.array +
			  params->sq_entries * sizeof(uint32_t);
	void *at;

	async->ring_bytes = params->cq_off.cqes +
			    params->cq_entries * sizeof(struct io_uring_cqe);
	if (async->ring_bytes < sq_bytes)
		async->ring_bytes = sq_bytes;
	at = mmap(NULL, async->ring_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
		  async->fd, IORING_OFF_SQ_RING);
	if (at == MAP_FAILED)
		return false;
	async->ring = at;
	at = mmap(NULL, params->sq_entries * sizeof(*async->sqes),
		  PROT_READ | PROT_WRITE, MAP_SHARED, async->fd,
		  IORING_OFF_SQES);
	if (at == MAP_FAILED)
		return false;
	async->sqes = at;
	return true;
}

static bool ring_open(struct async *async, unsigned int depth)
{
	if (async->kind == ASYNC_URING_POLLED)
		async->params.flags = IORING_SETUP_IOPOLL;
	async->fd = syscall(SYS_io_uring_setup, depth, &async->params);
	return async->fd >= 0 &&
	       (async->params.features & IORING_FEAT_SINGLE_MMAP) &&
	       ring_map(async);
}

/**
 * async_open() - make a queue
 * @kind:	by which interface
 * @depth:	writes under way at most, up to ASYNC_DEPTH_MAX
 *
 * Return: the queue, or NULL if the kernel does not have it.
 */
struct async *async_open(enum async_kind kind, unsigned int depth)
{
	struct async *async = calloc(1, sizeof(*async));
	bool ok;

	async->kind = kind;
	async->fd = -1;
	if (kind == ASYNC_AIO)
		ok = !syscall(SYS_io_setup, depth, &async->context);
	else
		ok = ring_open(async, depth);
	if (ok)
		return async;
	async_close(async);
	return NULL;
}

/* Waits for nothing but what the kernel waits for. */
void async_close(struct async *async)
{
	if (async->context)
		syscall(SYS_io_destroy, async->context);
	if (async->sqes)
		munmap(async->sqes, async->params.sq_entries *
				    sizeof(*async->sqes));
	if (async->ring)
		munmap(async->ring, async->ring_bytes);
	if (async->fd >= 0)
		close(async->fd);
	free(async);
}

static int aio_write(struct async *async, const struct async_request *request)
{
	struct iocb iocb = {
		.aio_lio_opcode = IOCB_CMD_PWRITE,
		.aio_fildes = request->fd,
		.aio_buf = (uintptr_t)request->buffer,
		.aio_nbytes = request->nr_bytes,
		.aio_offset = request->at,
		.aio_rw_flags = request->flags,
		.aio_data = request->tag,
	};
	struct iocb *list = &iocb;

	return syscall(SYS_io_submit, async->context, 1, &list) == 1 ? 0 : -errno;
}

static int ring_write(struct async *async, const struct async_request *request)
{
	unsigned int *tail = ring_word(async, async->params.sq_off.tail);
	unsigned int mask = *ring_word(async, async->params.sq_off.ring_mask);
	unsigned int *array = ring_word(async, async->params.sq_off.array);
	unsigned int slot = *tail & mask;

	async->sqes[slot] = (struct io_uring_sqe) {
		.opcode = IORING_OP_WRITE,
		.fd = request->fd,
		.addr = (uintptr_t)request->buffer,
		.len = request->nr_bytes,
		.off = request->at,
		.rw_flags = request->flags,
		.user_data = request->tag,
	};
	array[slot] = slot;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	return syscall(SYS_io_uring_enter, async->fd, 1, 0, 0, NULL, 0) == 1 ?
	       0 : -errno;
}

/**
 * async_write() - begin a write
 * @async:	queue with room for it
 * @request:	the write
 *
 * Return: 0 or a negative errno.
 */
int async_write(struct async *async, const struct async_request *request)
{
	return async->kind == ASYNC_AIO ? aio_write(async, request) :
					  ring_write(async, request);
}

static int aio_reap(struct async *async, struct async_event *events,
		    unsigned int nr_min)
{
	struct io_event found[ASYNC_DEPTH_MAX];
	long i, nr;

	nr = syscall(SYS_io_getevents, async->context, nr_min, ASYNC_DEPTH_MAX,
		     found, NULL);
	for (i = 0; i < nr; i++)
		events[i] = (struct async_event){ found[i].data, found[i].res };
	return nr < 0 ? -errno : nr;
}

static int ring_reap(struct async *async, struct async_event *events,
		     unsigned int nr_min)
{
	unsigned int *head = ring_word(async, async->params.cq_off.head);
	unsigned int *tail = ring_word(async, async->params.cq_off.tail);
	unsigned int mask = *ring_word(async, async->params.cq_off.ring_mask);
	struct io_uring_cqe *cqes = (void *)(async->ring +
					     async->params.cq_off.cqes);
	int nr = 0;

	if (__atomic_load_n(tail, __ATOMIC_ACQUIRE) == *head &&
	    syscall(SYS_io_uring_enter, async->fd, 0, nr_min,
		    IORING_ENTER_GETEVENTS, NULL, 0) < 0)
		return -errno;
	while (nr < (int)ASYNC_DEPTH_MAX &&
	       __atomic_load_n(tail, __ATOMIC_ACQUIRE) != *head) {
		const struct io_uring_cqe *cqe = &cqes[*head & mask];

		events[nr++] = (struct async_event){ cqe->user_data, cqe->res };
		__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
	}
	return nr;
}

/**
 * async_reap() - learn what has completed
 * @async:	queue
 * @events:	room for ASYNC_DEPTH_MAX
 * @nr_min:	1: wait for at least one; 0: do not wait
 *
 * Return: how many have completed, perhaps none if a signal came; or a negative
 *	   errno.
 */
int async_reap(struct async *async, struct async_event *events, unsigned int nr_min)
{
	int ret = async->kind == ASYNC_AIO ? aio_reap(async, events, nr_min) :
					     ring_reap(async, events, nr_min);

	return ret == -EINTR ? 0 : ret;
}
