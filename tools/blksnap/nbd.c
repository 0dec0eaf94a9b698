// SPDX-License-Identifier: GPL-2.0
/*
 * Disks served by qemu-nbd as block devices
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <linux/blkpg.h>

#include "child.h"
#include "message.h"
#include "nbd.h"
#include "progress.h"

#define MARK_OPTION "--description="

/* A healthy server needs a few milliseconds; a slow machine may need more. */
#define READY_STEP_MS 20
#define READY_MAX_MS 20000

/* How long udev may look at a partition. */
#define PARTITION_MAX_MS 2000

/* How long a server may take to end before it is killed. */
#define END_MAX_MS 10000

static int load_module(void)
{
	static const char *const argv[] = { "modprobe", "nbd", NULL };
	struct child child;
	int ret, status;

	if (!access("/sys/module/nbd", F_OK))
		return EXIT_OK;
	ret = child_start(&child, argv, -1);
	if (!ret) {
		status = child_wait(&child);
		if (status)
			ret = child_fail(&child, status,
					 "cannot load the module nbd");
	}
	child_free(&child);
	return ret;
}

/* A device that is connected has this attribute. */
static bool is_connected(const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/block/%s/pid", name);
	return !access(path, F_OK);
}

static bool has_size(const char *name)
{
	char path[64], line[32];
	FILE *file;
	bool ok;

	snprintf(path, sizeof(path), "/sys/block/%s/size", name);
	file = fopen(path, "re");
	if (!file)
		return false;
	ok = fgets(line, sizeof(line), file) && strtoull(line, NULL, 10);
	fclose(file);
	return ok;
}

/**
 * nbd_find_free() - find an nbd device that is not in use
 * @name:	gets its name
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int nbd_find_free(char name[NBD_NAME_SIZE])
{
	unsigned int i;
	char path[64];
	int ret;

	ret = load_module();
	if (ret)
		return ret;
	for (i = 0;; i++) {
		snprintf(name, NBD_NAME_SIZE, "nbd%u", i);
		snprintf(path, sizeof(path), "/sys/block/%s", name);
		if (access(path, F_OK))
			return fail(EXIT_FAILED,
				    "no nbd device is free; end a mount, or load the module nbd with a larger nbds_max");
		if (!is_connected(name) && !has_size(name))
			return EXIT_OK;
	}
}

static int wait_until_ready(const char *name)
{
	const struct timespec step = { .tv_nsec = READY_STEP_MS * 1000000 };
	unsigned int ms;

	for (ms = 0; ms < READY_MAX_MS; ms += READY_STEP_MS) {
		if (is_connected(name) && has_size(name))
			return EXIT_OK;
		if (interruption_signal())
			return fail(EXIT_FAILED, "interrupted by signal %d",
				    interruption_signal());
		nanosleep(&step, NULL);
	}
	return fail(EXIT_FAILED, "qemu-nbd does not serve /dev/%s; the kernel log may say why",
		    name);
}

static int start(const char *const *argv, const char *file)
{
	struct child child;
	int ret, status;
	char *what;

	if (asprintf(&what, "cannot serve '%s'", file) < 0)
		return fail_memory();
	ret = child_start(&child, argv, -1);
	if (!ret) {
		/* The server goes on when the child has ended. */
		status = child_wait(&child);
		if (status)
			ret = child_fail(&child, status, what);
	}
	child_free(&child);
	free(what);
	return ret;
}

/*
 * While it is locked, udev does not have the kernel look for partitions.  If that is what
 * it does at this moment, it is done soon.
 */
static int open_locked(const char *name)
{
	const struct timespec step = { .tv_nsec = READY_STEP_MS * 1000000 };
	char path[NBD_NAME_SIZE + 8];
	unsigned int ms;
	int fd;

	snprintf(path, sizeof(path), "/dev/%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	for (ms = 0; fd >= 0 && ms < PARTITION_MAX_MS; ms += READY_STEP_MS) {
		if (!flock(fd, LOCK_SH | LOCK_NB) || errno != EWOULDBLOCK)
			break;
		nanosleep(&step, NULL);
	}
	return fd;
}

static void remove_partition(int fd, int number)
{
	const struct timespec step = { .tv_nsec = READY_STEP_MS * 1000000 };
	struct blkpg_partition partition = { .pno = number };
	struct blkpg_ioctl_arg arg = {
		.op = BLKPG_DEL_PARTITION,
		.datalen = sizeof(partition),
		.data = &partition,
	};
	unsigned int ms;

	for (ms = 0; ms < PARTITION_MAX_MS; ms += READY_STEP_MS) {
		if (!ioctl(fd, BLKPG, &arg) || errno != EBUSY)
			return;
		nanosleep(&step, NULL);
	}
}

/**
 * nbd_remove_partitions() - have no devices for what is found on a disk that is served
 * @name:	the nbd device
 *
 * The kernel looks for them when the device is opened first after it was told its size,
 * the last time just after the device seems to be ready.  So this is done when it is,
 * and once more when it has been in use.
 */
void nbd_remove_partitions(const char *name)
{
	int number, fd = open_locked(name);
	struct dirent *entry;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/sys/block/%.31s", name);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		if (!strncmp(entry->d_name, name, strlen(name)) &&
		    sscanf(entry->d_name + strlen(name), "p%d", &number) == 1)
			remove_partition(fd, number);
	}
	if (dir)
		closedir(dir);
	if (fd >= 0)
		close(fd);
}

/**
 * nbd_serve() - serve a disk
 * @name:	the nbd device, as found by nbd_find_free()
 * @format:	raw or qcow2
 * @file:	absolute path of a file or device, or as QEMU names it
 * @server:	what nbd_stop() will need
 * @fd:		gets what keeps udev away until it is mounted, to be closed after
 *		that if it is not negative
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message; there may be a server in any
 *	   case.
 */
int nbd_serve(const char *name, const char *format, const char *file,
	      const struct nbd_server *server, int *fd)
{
	char mark[PATH_MAX + sizeof(MARK_OPTION)];
	char connect[NBD_NAME_SIZE + 16];
	const char *argv[14] = {
		"qemu-nbd", mark, connect, "--socket", server->socket,
		"--format", format, "--snapshot"
	};
	int i = 8, ret;

	*fd = open_locked(name);
	snprintf(mark, sizeof(mark), MARK_OPTION "%s", server->mark);
	snprintf(connect, sizeof(connect), "--connect=/dev/%s", name);
	if (server->key) {
		argv[i++] = "--object";
		argv[i++] = server->key->object;
	}
	argv[i++] = "--";
	argv[i++] = file;
	ret = start(argv, file);
	if (!ret)
		ret = wait_until_ready(name);
	if (!ret)
		nbd_remove_partitions(name);
	return ret;
}

static bool has_mark(int proc_fd, const char *pid, const char *mark)
{
	char path[32], arguments[4096];
	const char *second;
	ssize_t nr;
	int fd;

	snprintf(path, sizeof(path), "%.16s/cmdline", pid);
	fd = openat(proc_fd, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	nr = read(fd, arguments, sizeof(arguments) - 1);
	close(fd);
	if (nr <= 0)
		return false;
	arguments[nr] = 0;
	second = arguments + strlen(arguments) + 1;
	return second < arguments + nr &&
	       !strncmp(second, MARK_OPTION, strlen(MARK_OPTION)) &&
	       !strcmp(second + strlen(MARK_OPTION), mark);
}

/* The kernel takes part in the end of the device, so it is waited for. */
static void end_process(int pid_fd)
{
	struct pollfd end = { .fd = pid_fd, .events = POLLIN };

	syscall(SYS_pidfd_send_signal, pid_fd, SIGTERM, NULL, 0);
	if (poll(&end, 1, END_MAX_MS) == 1)
		return;
	syscall(SYS_pidfd_send_signal, pid_fd, SIGKILL, NULL, 0);
	poll(&end, 1, END_MAX_MS);
}

static void end_all(const char *mark)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	int pid_fd;

	while (proc && (entry = readdir(proc))) {
		if (!isdigit((unsigned char)*entry->d_name) ||
		    !has_mark(dirfd(proc), entry->d_name, mark))
			continue;
		pid_fd = syscall(SYS_pidfd_open, atoi(entry->d_name), 0);
		if (pid_fd < 0)
			continue;
		/* The number may have been given to another process. */
		if (has_mark(dirfd(proc), entry->d_name, mark))
			end_process(pid_fd);
		close(pid_fd);
	}
	if (proc)
		closedir(proc);
}

/**
 * nbd_stop() - end all servers with a mark, if there are any
 * @server:	what one was started with; the socket may be NULL
 */
void nbd_stop(const struct nbd_server *server)
{
	end_all(server->mark);
	if (server->socket)
		unlink(server->socket);
}
