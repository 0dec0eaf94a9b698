// SPDX-License-Identifier: GPL-2.0
/*
 * Records of the snapshots that a running program needs
 *
 * A record is created under another name and gets its own when it is locked, so
 * nobody finds a record that is only not locked yet.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blksnap_ioctl.h"
#include "message.h"
#include "parse.h"
#include "record.h"

#define DEFAULT_DIR "/run/blksnap"

/**
 * record_dir() - where records are
 *
 * Snapshots and mounts do not outlive a boot, nor does what is in /run.
 *
 * Return: the path of a folder, which need not exist.
 */
const char *record_dir(void)
{
	const char *dir = getenv("BLKSNAP_RUN_DIR");

	return dir && *dir ? dir : DEFAULT_DIR;
}

static int create_locked(const char *hidden, const char *path)
{
	int fd = open(hidden, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) || rename(hidden, path)) {
		close(fd);
		unlink(hidden);
		return -errno;
	}
	return fd;
}

/**
 * record_create() - have a snapshot destroyed by others if this program dies
 * @id:		the snapshot
 * @path:	gets the record
 * @record_fd:	gets what holds its lock
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int record_create(const struct blk_snap_uuid *id, char **path, int *record_fd)
{
	const char *dir = record_dir();
	char text[UUID_TEXT_SIZE];
	char *hidden = NULL;
	int fd = -1;

	format_uuid(id, text);
	*path = NULL;
	if (mkdir(dir, 0700) && errno != EEXIST)
		return fail_errno(errno, "cannot create '%s'", dir);
	if (asprintf(path, "%s/%s", dir, text) < 0 ||
	    asprintf(&hidden, "%s/.%s.%d", dir, text, getpid()) < 0)
		return fail_memory();
	fd = create_locked(hidden, *path);
	free(hidden);
	if (fd >= 0) {
		*record_fd = fd;
		return EXIT_OK;
	}
	fail_errno(-fd, "cannot write in '%s'", dir);
	free(*path);
	*path = NULL;
	return EXIT_FAILED;
}

/**
 * record_remove() - forget a record whose snapshot is gone
 * @path:	the record, NULL if there is none
 * @record_fd:	what holds its lock
 */
void record_remove(char *path, int record_fd)
{
	if (!path)
		return;
	unlink(path);
	close(record_fd);
	free(path);
}

static void destroy_one(int fd, int dir_fd, const char *name, bool quiet)
{
	int record_fd = openat(dir_fd, name, O_RDWR | O_CLOEXEC);
	struct blk_snap_uuid id;

	if (record_fd < 0)
		return;
	if (!flock(record_fd, LOCK_EX | LOCK_NB) && parse_uuid(name, &id)) {
		if (!blksnap_snapshot_destroy(fd, &id) && !quiet)
			fprintf(stderr,
				"destroyed snapshot %s, which a run that was killed has left\n",
				name);
		unlinkat(dir_fd, name, 0);
	}
	close(record_fd);
}

/**
 * record_destroy_abandoned() - destroy the snapshots of programs that were killed
 * @fd:		control node
 * @quiet:	say nothing of it
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int record_destroy_abandoned(int fd, bool quiet)
{
	DIR *stream = opendir(record_dir());
	struct blk_snap_uuid id;
	struct dirent *entry;

	if (!stream && errno == ENOENT)
		return EXIT_OK;
	if (!stream)
		return fail_errno(errno, "cannot open '%s'", record_dir());
	while ((entry = readdir(stream))) {
		if (parse_uuid(entry->d_name, &id))
			destroy_one(fd, dirfd(stream), entry->d_name, quiet);
	}
	closedir(stream);
	return EXIT_OK;
}
