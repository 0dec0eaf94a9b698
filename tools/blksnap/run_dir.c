// SPDX-License-Identifier: GPL-2.0
/*
 * The folder for what does not outlive a boot
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "message.h"
#include "run_dir.h"

#define DEFAULT_DIR "/run/blksnap"

/**
 * run_dir() - name the folder, which may not be there
 *
 * Return: its path; not to be freed.
 */
const char *run_dir(void)
{
	const char *dir = getenv("BLKSNAP_RUN_DIR");

	return dir && *dir ? dir : DEFAULT_DIR;
}

/**
 * run_dir_make() - make the folder, or one in it, for the user alone
 * @dir:	its path
 *
 * Return: EXIT_OK, also if it is there; EXIT_FAILED after a message.
 */
int run_dir_make(const char *dir)
{
	if (mkdir(dir, 0700) && errno != EEXIST)
		return fail_errno(errno, "cannot create '%s'", dir);
	return EXIT_OK;
}
