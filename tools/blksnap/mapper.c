// SPDX-License-Identifier: GPL-2.0
/*
 * Device-mapper devices of a mount
 */
#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "child.h"
#include "device.h"
#include "mapper.h"
#include "message.h"

#define NAME_SIZE 128	/* DM_NAME_LEN of the kernel */

static bool has_holders(const char *kernel_name)
{
	struct dirent *entry;
	bool found = false;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/sys/block/%.32s/holders", kernel_name);
	dir = opendir(path);
	while (dir && !found && (entry = readdir(dir)))
		found = *entry->d_name != '.';
	if (dir)
		closedir(dir);
	return found;
}

/* A name goes on with a point, or with a hyphen where LVM has made it. */
static bool is_ours(const char *kernel_name, const char *prefix,
		    char name[NAME_SIZE])
{
	const size_t nr_chars = strlen(prefix);
	char path[64];

	snprintf(path, sizeof(path), "/sys/block/%.32s/dm/name", kernel_name);
	return sysfs_read_line(path, name, NAME_SIZE) &&
	       !strncmp(name, prefix, nr_chars) &&
	       (name[nr_chars] == '.' || name[nr_chars] == '-');
}

/* Finds one that no other device lies on. */
static bool find_uppermost(const char *prefix, char name[NAME_SIZE])
{
	DIR *dir = opendir("/sys/block");
	struct dirent *entry;
	bool found = false;

	while (dir && !found && (entry = readdir(dir)))
		found = is_ours(entry->d_name, prefix, name) &&
			!has_holders(entry->d_name);
	if (dir)
		closedir(dir);
	return found;
}

/* udev may have a look at it just now, which takes a moment. */
static int remove_one(const char *name, bool is_quiet)
{
	const char *const patient[] = { "dmsetup", "remove", "--retry", name,
					NULL };
	const char *const quick[] = { "dmsetup", "remove", name, NULL };
	struct child child;
	int ret, status;
	char what[192];

	ret = child_start(&child, is_quiet ? quick : patient, -1);
	if (!ret) {
		status = child_wait(&child);
		snprintf(what, sizeof(what), "cannot remove '/dev/mapper/%s'",
			 name);
		if (status)
			ret = is_quiet ? EXIT_FAILED :
					 child_fail(&child, status, what);
	}
	child_free(&child);
	return ret;
}

/**
 * mapper_remove_all() - remove the devices of a mount, from the uppermost down
 * @prefix:	what their names begin with
 * @is_quiet:	it does not matter if one is in use
 *
 * Return: EXIT_OK if none is left, or EXIT_FAILED, after a message if not
 *	   @is_quiet.
 */
int mapper_remove_all(const char *prefix, bool is_quiet)
{
	char name[NAME_SIZE];
	int ret = EXIT_OK;

	while (!ret && find_uppermost(prefix, name))
		ret = remove_one(name, is_quiet);
	return ret;
}
