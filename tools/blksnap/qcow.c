// SPDX-License-Identifier: GPL-2.0
/*
 * qcow2 files, opened by qemu-nbd
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "child.h"
#include "message.h"
#include "nbd_library.h"
#include "qcow.h"
#include "qemu_file.h"
#include "util.h"

/* Enough to keep qemu-nbd busy while the next piece is read. */
#define NR_BUFFERS 8

/*
 * The socket takes several buffers at once, so that qemu-nbd goes on while the next
 * one is read and summed up: libnbd only sends when it is called.
 */
#define SOCKET_BYTES (4 * QCOW_BUFFER_BYTES)

/* A request to zero; the protocol allows for less than 4 GiB. */
#define ZERO_MAX_BYTES (1024ULL << 20)

struct qcow {
	char *path;
	char *filename;		/* of QEMU's kind: json:{...} */
	const char *key_file;	/* NULL if it is not encrypted */
	const char *argv[7];
	struct child child;
	struct nbd_handle *nbd;
	bool writable;
	int error;		/* errno of the first write that failed */
	struct qcow_buffer buffers[NR_BUFFERS];
	unsigned int next_buffer;	/* they are used in turn */
	struct qcow_buffer zeros;	/* has no data, counts requests */
};

/*
 * What is written to an encrypted file are whole clusters, so the files below it
 * are not needed, and their keys need not be made out.
 */
static char *make_filename(const char *path, const struct key *key,
			   enum qcow_mode mode)
{
	struct json_object *format, *filter;

	if (mode == QCOW_READ_LAYER || key)
		return qemu_name_alone(path, key);
	format = qemu_qcow2(path, NULL);
	if (mode == QCOW_WRITE)
		return qemu_name(format);
	filter = json_object_new_object();
	json_object_object_add(filter, "driver",
			       json_object_new_string("compress"));
	json_object_object_add(filter, "file", format);
	return qemu_name(filter);
}

/*
 * A connection, and the socket it was made to: the name is gone before anybody
 * is told of it.
 */
static int connect_pair(int *listening, int *connected)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const int nr_bytes = SOCKET_BYTES;
	char dir[] = "/tmp/blksnap.XXXXXX";
	int err = 0;

	if (!mkdtemp(dir))
		return errno;
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/nbd", dir);
	*listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	*connected = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (*listening < 0 || *connected < 0 ||
	    bind(*listening, (struct sockaddr *)&address, sizeof(address)) ||
	    listen(*listening, 1) ||
	    connect(*connected, (struct sockaddr *)&address, sizeof(address)))
		err = errno;
	unlink(address.sun_path);
	rmdir(dir);
	/* A smaller one works, too. */
	setsockopt(*connected, SOL_SOCKET, SO_SNDBUFFORCE, &nr_bytes,
		   sizeof(nr_bytes));
	if (!err)
		return 0;
	if (*listening >= 0)
		close(*listening);
	if (*connected >= 0)
		close(*connected);
	return err;
}

/* If the child has ended, its message says more than ours. */
static int fail_open(struct qcow *qcow)
{
	char *what;
	int status, ret;

	if (asprintf(&what, "cannot open '%s'", qcow->path) < 0)
		return fail_memory();
	if (qcow->nbd) {
		libnbd.close(qcow->nbd);
		qcow->nbd = NULL;
	}
	status = child_wait(&qcow->child);
	if (qcow->key_file && child_says(&qcow->child, "Invalid password"))
		ret = fail(EXIT_FAILED,
			   "'%s' does not open with the key in '%s'; give the right one by --key-file",
			   qcow->path, qcow->key_file);
	else
		ret = child_fail(&qcow->child, status, what);
	free(what);
	return ret;
}

static int start(struct qcow *qcow)
{
	int listening = -1, connected = -1;
	int err, ret;

	err = connect_pair(&listening, &connected);
	if (err)
		return fail_errno(err, "cannot make a socket for qemu-nbd");
	ret = child_start(&qcow->child, qcow->argv, listening);
	close(listening);
	qcow->nbd = ret ? NULL : libnbd.create();
	if (!qcow->nbd) {
		close(connected);
		return ret ? ret : fail_memory();
	}
	/* libnbd owns the socket from here on. */
	if (libnbd.connect_socket(qcow->nbd, connected))
		return fail_open(qcow);
	return EXIT_OK;
}

static int allocate_buffers(struct qcow *qcow)
{
	size_t i;

	qcow->zeros.qcow = qcow;
	for (i = 0; i < NR_BUFFERS; i++) {
		qcow->buffers[i].qcow = qcow;
		qcow->buffers[i].data = aligned_alloc(4096, QCOW_BUFFER_BYTES);
		if (!qcow->buffers[i].data)
			return fail_memory();
	}
	return EXIT_OK;
}

static void free_qcow(struct qcow *qcow)
{
	size_t i;

	if (qcow->nbd)
		libnbd.close(qcow->nbd);
	child_free(&qcow->child);
	for (i = 0; i < NR_BUFFERS; i++)
		free(qcow->buffers[i].data);
	free(qcow->filename);
	free(qcow->path);
	free(qcow);
}

/**
 * qcow_open() - open a qcow2 file
 * @qcow:	gets the open file
 * @path:	absolute path
 * @key:	what it is encrypted with, NULL if it is not
 * @mode:	what for
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int qcow_open(struct qcow **qcow, const char *path, const struct key *key,
	      enum qcow_mode mode)
{
	struct qcow *q;
	int i = 0, ret;

	ret = nbd_library_load();
	if (ret)
		return ret;
	q = calloc(1, sizeof(*q));
	if (!q)
		return fail_memory();
	q->path = strdup(path);
	q->filename = make_filename(path, key, mode);
	q->writable = mode == QCOW_WRITE || mode == QCOW_WRITE_COMPRESSED;
	q->argv[i++] = "qemu-nbd";
	q->argv[i++] = q->writable ? "--cache=writeback" : "--read-only";
	if (key) {
		q->key_file = key->file;
		q->argv[i++] = "--object";
		q->argv[i++] = key->object;
	}
	q->argv[i++] = "--";
	q->argv[i++] = q->filename;
	ret = q->path && q->filename ? allocate_buffers(q) : fail_memory();
	if (!ret)
		ret = start(q);
	if (ret)
		free_qcow(q);
	else
		*qcow = q;
	return ret;
}

static int fail_io(const struct qcow *qcow, int error, const char *doing)
{
	if (error == ENOSPC)
		return fail(EXIT_FAILED,
			    "cannot %s '%s': no space left; make room on that filesystem, for example with 'blksnap prune'",
			    doing, qcow->path);
	return fail_errno(error ? error : EIO, "cannot %s '%s'", doing,
			  qcow->path);
}

/* Lets the connection go on, until at least one answer came. */
static int wait_for_answer(struct qcow *qcow)
{
	if (libnbd.poll(qcow->nbd, -1) < 0 && libnbd.get_errno() != EINTR) {
		if (!qcow->error)
			qcow->error = libnbd.get_errno() ? libnbd.get_errno() : EIO;
		return -1;
	}
	return 0;
}

static bool is_busy(const struct qcow *qcow)
{
	unsigned int nr = qcow->zeros.nr_in_flight;
	size_t i;

	for (i = 0; i < NR_BUFFERS; i++)
		nr += qcow->buffers[i].nr_in_flight;
	return nr;
}

/**
 * qcow_close() - finish an open file
 * @qcow:	the file
 *
 * What was written is on the disk afterwards, as far as fsync() says so.
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message if one of the writes failed.
 */
int qcow_close(struct qcow *qcow)
{
	int ret = EXIT_OK;
	int status;

	while (is_busy(qcow) && !wait_for_answer(qcow))
		;
	if (!qcow->error && qcow->writable && libnbd.flush(qcow->nbd, 0))
		qcow->error = libnbd.get_errno() ? libnbd.get_errno() : EIO;
	if (qcow->error)
		ret = fail_io(qcow, qcow->error, "write");
	libnbd.shutdown(qcow->nbd, 0);
	libnbd.close(qcow->nbd);
	qcow->nbd = NULL;
	/* At its end qemu-nbd writes what it still has of metadata. */
	status = child_wait(&qcow->child);
	if (!ret && status)
		ret = child_fail(&qcow->child, status, "cannot close a file");
	free_qcow(qcow);
	return ret;
}

/**
 * qcow_abort() - close a file whose contents are of no use
 * @qcow:	the file, or NULL
 */
void qcow_abort(struct qcow *qcow)
{
	if (!qcow)
		return;
	child_kill(&qcow->child);
	free_qcow(qcow);
}

/**
 * qcow_read() - read
 * @qcow:	the file
 * @data:	gets the data
 * @nr_bytes:	how much, at most QCOW_BUFFER_BYTES
 * @offset:	from where
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int qcow_read(struct qcow *qcow, void *data, size_t nr_bytes, uint64_t offset)
{
	if (libnbd.pread(qcow->nbd, data, nr_bytes, offset, 0))
		return fail_io(qcow, libnbd.get_errno(), "read");
	return EXIT_OK;
}

/* Of a request.  Returns 1: libnbd may forget it. */
static int complete(void *data, int *error)
{
	struct qcow_buffer *buffer = data;

	buffer->nr_in_flight--;
	if (*error && !buffer->qcow->error)
		buffer->qcow->error = *error;
	return 1;
}

/**
 * qcow_take_buffer() - get a buffer that no write needs any more
 * @qcow:	the file
 *
 * Return: a buffer, or NULL after a message if a write has failed.
 */
struct qcow_buffer *qcow_take_buffer(struct qcow *qcow)
{
	struct qcow_buffer *buffer;

	buffer = &qcow->buffers[qcow->next_buffer++ % NR_BUFFERS];
	while (buffer->nr_in_flight && !qcow->error)
		wait_for_answer(qcow);
	if (!qcow->error)
		return buffer;
	fail_io(qcow, qcow->error, "write");
	return NULL;
}

static int submitted(struct qcow_buffer *buffer, int64_t cookie)
{
	if (cookie >= 0)
		return EXIT_OK;
	buffer->nr_in_flight--;
	return fail_io(buffer->qcow, libnbd.get_errno(), "write");
}

/**
 * qcow_write() - write a piece of a buffer
 * @buffer:	a buffer from qcow_take_buffer()
 * @from:	where in the buffer the piece begins
 * @nr_bytes:	its size
 * @offset:	where it belongs
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int qcow_write(struct qcow_buffer *buffer, size_t from, size_t nr_bytes,
	       uint64_t offset)
{
	const nbd_completion_callback done = {
		.callback = complete,
		.user_data = buffer,
	};

	buffer->nr_in_flight++;
	return submitted(buffer, libnbd.aio_pwrite(buffer->qcow->nbd,
						   buffer->data + from, nr_bytes,
						   offset, done, 0));
}

/**
 * qcow_zero() - write zeros
 * @qcow:	the file
 * @nr_bytes:	how many
 * @offset:	where they belong
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int qcow_zero(struct qcow *qcow, uint64_t nr_bytes, uint64_t offset)
{
	const nbd_completion_callback done = {
		.callback = complete,
		.user_data = &qcow->zeros,
	};
	uint64_t nr;
	int ret = EXIT_OK;

	while (nr_bytes && !ret) {
		nr = nr_bytes < ZERO_MAX_BYTES ? nr_bytes : ZERO_MAX_BYTES;
		/* As many as buffers, or a queue without end might form. */
		while (qcow->zeros.nr_in_flight >= NR_BUFFERS && !qcow->error)
			wait_for_answer(qcow);
		if (qcow->error)
			return fail_io(qcow, qcow->error, "write");
		qcow->zeros.nr_in_flight++;
		ret = submitted(&qcow->zeros, libnbd.aio_zero(qcow->nbd, nr,
							      offset, done, 0));
		offset += nr;
		nr_bytes -= nr;
	}
	return ret;
}

/**
 * qcow_nr_bytes() - size of the disk in the file
 * @qcow:	the file
 *
 * Return: its size in bytes.
 */
uint64_t qcow_nr_bytes(struct qcow *qcow)
{
	int64_t size = libnbd.get_size(qcow->nbd);

	return size < 0 ? 0 : size;
}
