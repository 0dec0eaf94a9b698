// SPDX-License-Identifier: GPL-2.0
/*
 * Devices encrypted with LUKS
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <termios.h>
#include <unistd.h>

#include "child.h"
#include "luks.h"
#include "message.h"

/* As cryptsetup has them. */
#define KEY_FILE_MAX (8 << 20)
#define PASSPHRASE_MAX 512

static int make_key(int *key_fd)
{
	*key_fd = memfd_create("key", MFD_CLOEXEC);
	return *key_fd < 0 ? fail_errno(errno, "cannot keep the key in memory") :
			     EXIT_OK;
}

static int copy_key(int fd, const char *path, int key_fd)
{
	char part[4096];
	ssize_t nr, nr_all = 0;

	while ((nr = read(fd, part, sizeof(part))) > 0) {
		nr_all += nr;
		if (nr_all > KEY_FILE_MAX)
			break;
		if (write(key_fd, part, nr) != nr)
			return fail_errno(errno,
					  "cannot keep the key in memory");
	}
	explicit_bzero(part, sizeof(part));
	if (nr < 0)
		return fail_errno(errno, "cannot read '%s'", path);
	if (nr_all > KEY_FILE_MAX)
		return fail(EXIT_USAGE, "'%s' is too long for a key", path);
	return nr_all ? EXIT_OK :
			fail(EXIT_USAGE, "the key in '%s' is empty", path);
}

/**
 * luks_read_key() - read a key from a file
 * @path:	the file; all of it is the key
 * @key_fd:	gets the key, to be closed by the caller if it is not negative
 *
 * Return: EXIT_OK; EXIT_USAGE or EXIT_FAILED after a message.
 */
int luks_read_key(const char *path, int *key_fd)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int ret;

	if (fd < 0)
		return fail(EXIT_USAGE, "cannot open the key file '%s': %s",
			    path, strerror(errno));
	ret = make_key(key_fd);
	if (!ret)
		ret = copy_key(fd, path, *key_fd);
	close(fd);
	return ret;
}

/* The number of characters, without the end of the line; -1 if there are none. */
static ssize_t read_line_unseen(int tty, char *line, size_t size)
{
	struct termios before, unseen;
	ssize_t nr;

	if (tcgetattr(tty, &before))
		return -1;
	unseen = before;
	unseen.c_lflag &= ~ECHO;
	tcsetattr(tty, TCSAFLUSH, &unseen);
	nr = read(tty, line, size);
	tcsetattr(tty, TCSAFLUSH, &before);
	if (nr > 0 && line[nr - 1] == '\n')
		nr--;
	return nr > 0 ? nr : -1;
}

/**
 * luks_ask_key() - ask for a passphrase on the terminal
 * @what:	what it is for, for messages
 * @key_fd:	gets it, to be closed by the caller if it is not negative
 *
 * Return: EXIT_OK; EXIT_USAGE or EXIT_FAILED after a message.
 */
int luks_ask_key(const char *what, int *key_fd)
{
	int tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
	char line[PASSPHRASE_MAX];
	ssize_t nr;
	int ret;

	if (tty < 0)
		return fail(EXIT_USAGE,
			    "'%s' is encrypted with LUKS, and there is no terminal to ask for the passphrase; name the key with --luks-key-file",
			    what);
	dprintf(tty, "Passphrase of the LUKS in %s: ", what);
	nr = read_line_unseen(tty, line, sizeof(line));
	dprintf(tty, "\n");
	close(tty);
	if (nr < 0)
		return fail(EXIT_USAGE, "no passphrase was given for '%s'",
			    what);
	ret = make_key(key_fd);
	if (!ret && write(*key_fd, line, nr) != nr)
		ret = fail_errno(errno, "cannot keep the key in memory");
	explicit_bzero(line, sizeof(line));
	return ret;
}

/**
 * luks_open() - open an encrypted device
 * @device:	path of the device
 * @name:	what the device-mapper device is to be called
 * @key_fd:	the key
 * @what:	of what the user named, for messages
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int luks_open(const char *device, const char *name, int key_fd,
	      const char *what)
{
	char key_file[32], text[512];
	const char *const argv[] = {
		"cryptsetup", "open", "--type", "luks", key_file, device, name,
		NULL
	};
	struct child child;
	int ret, status;

	snprintf(key_file, sizeof(key_file), "--key-file=/proc/%d/fd/%d",
		 getpid(), key_fd);
	ret = child_start(&child, argv, -1);
	if (!ret) {
		status = child_wait(&child);
		snprintf(text, sizeof(text), "cannot open the LUKS in '%s'",
			 what);
		if (status)
			ret = child_fail(&child, status, text);
	}
	child_free(&child);
	return ret;
}
