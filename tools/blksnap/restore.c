// SPDX-License-Identifier: GPL-2.0
/*
 * Where a disk is restored to
 */
#include <blkid.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/fs.h>

#include "chain.h"
#include "message.h"
#include "restore.h"

/* qemu-img has this as its smallest piece; devices are written in any size. */
#define TARGET_BLOCK_BYTES 65536

#define ZERO_STEP_BYTES (1024 * 1024)

static int write_all(const struct layer_sink *sink, const void *data,
		     uint64_t nr_bytes, uint64_t offset)
{
	uint64_t done = 0;
	ssize_t nr;

	while (done < nr_bytes) {
		nr = pwrite(sink->fd, (const char *)data + done,
			    nr_bytes - done, offset + done);
		if (nr < 0 && errno == EINTR && !interruption_signal())
			continue;
		if (nr <= 0)
			return fail_errno(nr ? errno : EIO,
					  "cannot write '%s'", sink->path);
		done += nr;
	}
	return EXIT_OK;
}

static int write_zeros(const struct layer_sink *sink, uint64_t nr_bytes,
		       uint64_t offset)
{
	static const unsigned char zeros[ZERO_STEP_BYTES];
	uint64_t nr;
	int ret = EXIT_OK;

	for (; nr_bytes && !ret; nr_bytes -= nr, offset += nr) {
		nr = nr_bytes < sizeof(zeros) ? nr_bytes : sizeof(zeros);
		ret = write_all(sink, zeros, nr, offset);
	}
	return ret;
}

static int zero_fd(const struct layer_sink *sink, uint64_t nr_bytes,
		   uint64_t offset)
{
	uint64_t range[2] = { offset, nr_bytes };

	if (sink->is_zero)
		return EXIT_OK;
	if (sink->is_device ?
	    !ioctl(sink->fd, BLKZEROOUT, range) :
	    !fallocate(sink->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		       offset, nr_bytes))
		return EXIT_OK;
	return write_zeros(sink, nr_bytes, offset);
}

static int put_fd(struct layer_sink *sink, const void *data, uint64_t nr_bytes,
		  uint64_t offset)
{
	if (!data)
		return zero_fd(sink, nr_bytes, offset);
	return write_all(sink, data, nr_bytes, offset);
}

static int put_qcow(struct layer_sink *sink, const void *data,
		    uint64_t nr_bytes, uint64_t offset)
{
	struct qcow_buffer *buffer;

	if (!data)
		return sink->is_zero ? EXIT_OK :
				       qcow_zero(sink->qcow, nr_bytes, offset);
	buffer = qcow_take_buffer(sink->qcow);
	if (!buffer)
		return EXIT_FAILED;
	memcpy(buffer->data, data, nr_bytes);
	return qcow_write(buffer, 0, nr_bytes, offset);
}

/* Files beside a catalogue belong to backups. */
static int check_not_in_backup(const char *path)
{
	char *copy = strdup(path);
	char *catalogue = NULL;
	int ret = EXIT_OK;

	if (!copy || asprintf(&catalogue, "%s/catalogue.json",
			      dirname(copy)) < 0)
		ret = fail_memory();
	else if (!access(catalogue, F_OK))
		ret = fail(EXIT_FAILED,
			   "'%s' is in the folder of a backup; restore to another place",
			   path);
	free(catalogue);
	free(copy);
	return ret;
}

static bool holds_something(int fd)
{
	blkid_probe probe = blkid_new_probe();
	bool found = true;

	if (probe && !blkid_probe_set_device(probe, fd, 0, 0)) {
		blkid_probe_enable_partitions(probe, 1);
		found = blkid_do_safeprobe(probe) != 1;
	}
	blkid_free_probe(probe);
	return found;
}

static int check_device(const struct restore_target *target, bool force)
{
	uint64_t nr_bytes;

	if (ioctl(target->sink.fd, BLKGETSIZE64, &nr_bytes))
		return fail_errno(errno, "cannot get the size of '%s'",
				  target->path);
	if (nr_bytes < target->nr_bytes)
		return fail(EXIT_FAILED,
			    "'%s' is too small: it has %ju bytes, the disk has %ju; choose a larger one",
			    target->path, (uintmax_t)nr_bytes,
			    (uintmax_t)target->nr_bytes);
	if (!force && holds_something(target->sink.fd))
		return fail(EXIT_FAILED,
			    "'%s' holds a filesystem, partitions or the like, which would be overwritten; --force does it",
			    target->path);
	return EXIT_OK;
}

static int open_device(struct restore_target *target, bool force)
{
	/* O_EXCL: not while it is mounted, or part of another device. */
	target->sink.fd = open(target->path, O_RDWR | O_EXCL | O_CLOEXEC);
	if (target->sink.fd < 0 && errno == EBUSY)
		return fail(EXIT_FAILED,
			    "'%s' is in use: mounted, or part of another device; unmount it, or choose another target",
			    target->path);
	if (target->sink.fd < 0)
		return fail_errno(errno, "cannot open '%s'", target->path);
	target->sink.is_device = true;
	return check_device(target, force);
}

static int create_file(struct restore_target *target)
{
	const int flags = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC;
	char *partial = target->partial;

	target->sink.fd = open(partial, flags, 0600);
	if (target->sink.fd < 0) {
		/* What is there already is not ours to remove. */
		target->partial = NULL;
		if (errno == EEXIST)
			fail(EXIT_FAILED,
			     "'%s' is there already, perhaps from a restore that was interrupted; remove it",
			     partial);
		else
			fail_errno(errno, "cannot create '%s'", partial);
		free(partial);
		return EXIT_FAILED;
	}
	if (!target->qcow2 && ftruncate(target->sink.fd, target->nr_bytes))
		return fail_errno(errno, "cannot make '%s' %ju bytes long",
				  partial, (uintmax_t)target->nr_bytes);
	return EXIT_OK;
}

static int open_qcow2(struct restore_target *target)
{
	const struct chain_file file = {
		.path = target->partial,
		.nr_bytes = target->nr_bytes,
		.block_bytes = TARGET_BLOCK_BYTES,
	};
	char *path;
	int ret;

	ret = chain_create(&file);
	if (ret)
		return ret;
	path = realpath(target->partial, NULL);
	if (!path)
		return fail_errno(errno, "cannot open '%s'", target->partial);
	ret = qcow_open(&target->sink.qcow, path, NULL, QCOW_WRITE);
	free(path);
	target->sink.write = put_qcow;
	return ret;
}

static int open_file(struct restore_target *target, bool force)
{
	struct stat st;
	int ret;

	if (!stat(target->path, &st)) {
		if (!S_ISREG(st.st_mode))
			return fail(EXIT_FAILED,
				    "'%s' is neither a block device nor a regular file",
				    target->path);
		if (st.st_size && !force)
			return fail(EXIT_FAILED,
				    "'%s' is there already; --force replaces it",
				    target->path);
	}
	ret = check_not_in_backup(target->path);
	if (ret)
		return ret;
	if (asprintf(&target->partial, "%s.partial", target->path) < 0) {
		target->partial = NULL;
		return fail_memory();
	}
	ret = create_file(target);
	target->sink.is_zero = true;
	if (!ret && target->qcow2)
		ret = open_qcow2(target);
	return ret;
}

/**
 * restore_open() - open a target, if it may be written
 * @target:	gets it; to be given to restore_forget() in any case
 * @path:	device, or file that there need not be
 * @nr_bytes:	size of the disk that it is to hold
 * @qcow2:	write a qcow2 file
 * @force:	what is there may be overwritten
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int restore_open(struct restore_target *target, const char *path,
		 uint64_t nr_bytes, bool qcow2, bool force)
{
	struct stat st;

	*target = (struct restore_target) {
		.qcow2 = qcow2,
		.nr_bytes = nr_bytes,
		.sink = { .write = put_fd, .fd = -1 },
	};
	/* A link stays, and the file that it leads to is replaced. */
	target->path = realpath(path, NULL);
	if (!target->path)
		target->path = strdup(path);
	if (!target->path)
		return fail_memory();
	target->sink.path = target->path;
	if (!stat(target->path, &st) && S_ISBLK(st.st_mode)) {
		if (qcow2)
			return fail(EXIT_USAGE,
				    "'%s' is a device; --format qcow2 is for files",
				    path);
		return open_device(target, force);
	}
	return open_file(target, force);
}

static int open_file_in_place(struct restore_target *target,
			      const struct stat *st)
{
	int ret = check_not_in_backup(target->path);

	if (ret)
		return ret;
	if (!S_ISREG(st->st_mode))
		return fail(EXIT_FAILED,
			    "'%s' is neither a block device nor a regular file",
			    target->path);
	if ((uint64_t)st->st_size != target->nr_bytes)
		return fail(EXIT_FAILED,
			    "'%s' has %ju bytes, the disk has %ju; it is not the file that these changes are for",
			    target->path, (uintmax_t)st->st_size,
			    (uintmax_t)target->nr_bytes);
	target->sink.fd = open(target->path, O_RDWR | O_CLOEXEC);
	if (target->sink.fd < 0)
		return fail_errno(errno, "cannot open '%s'", target->path);
	return EXIT_OK;
}

/**
 * restore_open_in_place() - open a target that holds an earlier state
 * @target:	gets it; to be given to restore_forget() in any case
 * @path:	device or raw file
 * @nr_bytes:	size of the disk
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int restore_open_in_place(struct restore_target *target, const char *path,
			  uint64_t nr_bytes)
{
	struct stat st;

	*target = (struct restore_target) {
		.nr_bytes = nr_bytes,
		.sink = { .write = put_fd, .fd = -1 },
	};
	target->path = realpath(path, NULL);
	if (!target->path || stat(target->path, &st))
		return fail_errno(errno, "cannot open '%s'", path);
	target->sink.path = target->path;
	return S_ISBLK(st.st_mode) ? open_device(target, true) :
				     open_file_in_place(target, &st);
}

static int sync_folder(const char *path)
{
	char *copy = strdup(path);
	int fd = copy ? open(dirname(copy), O_RDONLY | O_CLOEXEC) : -1;
	int ret = EXIT_OK;

	if (fd < 0 || fsync(fd))
		ret = fail_errno(errno, "cannot write '%s' to the disk", path);
	if (fd >= 0)
		close(fd);
	free(copy);
	return ret;
}

/**
 * restore_finish() - bring a target that is whole to the disk
 * @target:	the target
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int restore_finish(struct restore_target *target)
{
	struct qcow *qcow = target->sink.qcow;
	int ret = EXIT_OK;

	target->sink.qcow = NULL;
	if (qcow)
		ret = qcow_close(qcow);
	if (!ret && fsync(target->sink.fd))
		ret = fail_errno(errno, "cannot write '%s' to the disk",
				 target->path);
	if (ret || !target->partial)
		return ret;
	if (rename(target->partial, target->path))
		return fail_errno(errno, "cannot rename '%s'", target->partial);
	free(target->partial);
	target->partial = NULL;
	return sync_folder(target->path);
}

/**
 * restore_forget() - close a target, and remove a file that is not whole
 * @target:	the target
 */
void restore_forget(struct restore_target *target)
{
	qcow_abort(target->sink.qcow);
	if (target->sink.fd >= 0)
		close(target->sink.fd);
	if (target->partial)
		unlink(target->partial);
	free(target->partial);
	free(target->path);
}
