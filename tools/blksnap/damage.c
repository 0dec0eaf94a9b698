// SPDX-License-Identifier: GPL-2.0
/*
 * Marks of layers that were found to be damaged
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "damage.h"

static char *mark_path(const char *path)
{
	char *mark;

	return asprintf(&mark, "%s" DAMAGE_SUFFIX, path) < 0 ? NULL : mark;
}

/**
 * damage_mark() - note that a layer is damaged
 * @path:	its file
 */
void damage_mark(const char *path)
{
	char *mark = mark_path(path);
	int fd = mark ? open(mark, O_WRONLY | O_CREAT | O_CLOEXEC, 0600) : -1;

	if (fd >= 0)
		close(fd);
	free(mark);
}

/**
 * damage_clear() - forget that a layer was damaged
 * @path:	its file
 */
void damage_clear(const char *path)
{
	char *mark = mark_path(path);

	if (mark)
		unlink(mark);
	free(mark);
}

/**
 * damage_is_marked() - was a layer found to be damaged?
 * @path:	its file
 *
 * Return: true if so.
 */
bool damage_is_marked(const char *path)
{
	char *mark = mark_path(path);
	bool marked = mark && !access(mark, F_OK);

	free(mark);
	return marked;
}
