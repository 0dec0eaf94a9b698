/* SPDX-License-Identifier: GPL-2.0 */
/*
 * qcow2 files, opened by qemu-nbd
 *
 * The data goes through a child of our own, qemu-nbd, over a socket that has no
 * name by the time the child is started, so nobody else can connect.  We speak
 * with it through libnbd, which is loaded when it is needed first: the other
 * commands of the tool run on machines that do not have it.
 *
 * Writes are asynchronous: take a buffer, fill it, give pieces of it to
 * qcow_write().  An error of a write is told by a later call, by qcow_close()
 * at the latest.
 */
#ifndef QCOW_H
#define QCOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "key.h"

/* The greatest request; compressing needs requests of this size to be fast. */
#define QCOW_BUFFER_BYTES (1024 * 1024)

struct qcow;

struct qcow_buffer {
	struct qcow *qcow;
	unsigned char *data;
	unsigned int nr_in_flight;	/* writes that still read from it */
	uint64_t summed_at;		/* of the user: see summing_wait() */
};

enum qcow_mode {
	QCOW_READ_LAYER,	/* without the backing file */
	QCOW_WRITE,
	QCOW_WRITE_COMPRESSED,
};

int qcow_open(struct qcow **qcow, const char *path, const struct key *key,
	      enum qcow_mode mode);
int qcow_close(struct qcow *qcow);
void qcow_abort(struct qcow *qcow);

int qcow_read(struct qcow *qcow, void *data, size_t nr_bytes, uint64_t offset);
struct qcow_buffer *qcow_take_buffer(struct qcow *qcow);
int qcow_write(struct qcow_buffer *buffer, size_t from, size_t nr_bytes,
	       uint64_t offset);
int qcow_zero(struct qcow *qcow, uint64_t nr_bytes, uint64_t offset);
uint64_t qcow_nr_bytes(struct qcow *qcow);

#endif /* QCOW_H */
