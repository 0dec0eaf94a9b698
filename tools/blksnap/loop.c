// SPDX-License-Identifier: GPL-2.0
/*
 * Loop devices on other devices
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include <linux/loop.h>

#include "loop.h"
#include "message.h"

/* udev looks at a device when it goes; that takes a moment. */
#define GONE_STEP_MS 20

/* Returns a descriptor of a loop device, or a negative errno. */
static int configure(const struct loop_config *config, int mode, char **device)
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int number, fd;

	if (control < 0)
		return -errno;
	number = ioctl(control, LOOP_CTL_GET_FREE);
	if (number < 0)
		number = -errno;
	close(control);
	if (number < 0)
		return number;
	if (asprintf(device, "/dev/loop%d", number) < 0) {
		*device = NULL;
		return -ENOMEM;
	}
	fd = open(*device, mode | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (!ioctl(fd, LOOP_CONFIGURE, config))
		return fd;
	number = -errno;
	close(fd);
	return number;
}

/**
 * loop_attach() - make a loop device
 * @below:	path of the device that it is to lie on
 * @offset_bytes: where it begins there
 * @nr_bytes:	its size, 0 for all there is
 * @read_only:	nobody can write to it
 * @device:	gets its path, to be freed by the caller; NULL on failure
 * @fd:		gets what keeps it until it is mounted, to be closed after that
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int loop_attach(const char *below, uint64_t offset_bytes, uint64_t nr_bytes,
		bool read_only, char **device, int *fd)
{
	const int mode = read_only ? O_RDONLY : O_RDWR;
	struct loop_config config = {
		.info = {
			.lo_offset = offset_bytes,
			.lo_sizelimit = nr_bytes,
			.lo_flags = LO_FLAGS_AUTOCLEAR |
				    (read_only ? LO_FLAGS_READ_ONLY : 0),
		},
	};
	int below_fd = open(below, mode | O_CLOEXEC);

	*device = NULL;
	if (below_fd < 0)
		return fail_errno(errno, "cannot open '%s'", below);
	config.fd = below_fd;
	snprintf((char *)config.info.lo_file_name,
		 sizeof(config.info.lo_file_name), "%s", below);
	/* Busy: another program was given the same one, and was faster. */
	do {
		free(*device);
		*device = NULL;
		*fd = configure(&config, mode, device);
	} while (*fd == -EBUSY);
	close(below_fd);
	if (*fd >= 0)
		return EXIT_OK;
	free(*device);
	*device = NULL;
	if (*fd == -ENOENT)
		return fail(EXIT_FAILED,
			    "cannot make a loop device; load the module for it: modprobe loop");
	return fail_errno(-*fd, "cannot make a loop device on '%s'", below);
}

static bool lies_on(const char *device, const char *below)
{
	const char *name = strrchr(device, '/');
	char path[96], line[256];
	FILE *file;
	bool ok;

	snprintf(path, sizeof(path), "/sys/block/%.32s/loop/backing_file",
		 name ? name + 1 : device);
	file = fopen(path, "re");
	if (!file)
		return false;
	ok = fgets(line, sizeof(line), file);
	fclose(file);
	if (ok)
		line[strcspn(line, "\n")] = 0;
	return ok && !strcmp(line, below);
}

/**
 * loop_is_on() - is there a loop device on a device?
 * @below:	path of the device
 *
 * Return: true if there is.
 */
bool loop_is_on(const char *below)
{
	DIR *dir = opendir("/sys/block");
	struct dirent *entry;
	bool found = false;

	while (dir && !found && (entry = readdir(dir)))
		found = lies_on(entry->d_name, below);
	if (dir)
		closedir(dir);
	return found;
}

/**
 * loop_wait_until_gone() - wait until a device is not in use any more
 * @device:	path of a device, which need not be a loop device; NULL for all
 *		that lie on @below
 * @below:	what it was made on; if it is on something else now, it is gone
 * @max_ms:	how long
 */
void loop_wait_until_gone(const char *device, const char *below,
			  unsigned int max_ms)
{
	const struct timespec step = { .tv_nsec = GONE_STEP_MS * 1000000 };
	unsigned int ms;

	for (ms = 0; ms < max_ms; ms += GONE_STEP_MS) {
		if (device ? !lies_on(device, below) : !loop_is_on(below))
			return;
		nanosleep(&step, NULL);
	}
}
