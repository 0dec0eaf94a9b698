// SPDX-License-Identifier: GPL-2.0
/*
 * What the kernel has mounted where
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mount_table.h"

/* Blanks and the like are written as a backslash and three octal digits. */
static void unescape(char *text)
{
	char *to = text;
	unsigned int c;

	while (*text) {
		if (sscanf(text, "\\%3o", &c) == 1 && strlen(text) >= 4) {
			*to++ = c;
			text += 4;
		} else {
			*to++ = *text++;
		}
	}
	*to = 0;
}

/*
 * A line has a mount ID, the parent's, major:minor, root, mount point, options,
 * optional fields, a hyphen, the type, the source, and options again.
 */
static char *source_of_line(char *line, const char *mount_point)
{
	char *rest = strstr(line, " - ");
	char *place = NULL, *source = NULL, *found = NULL;

	if (rest && sscanf(line, "%*s %*s %*s %*s %ms", &place) == 1 &&
	    sscanf(rest, " - %*s %ms", &source) == 1) {
		unescape(place);
		unescape(source);
		if (!strcmp(place, mount_point)) {
			found = source;
			source = NULL;
		}
	}
	free(place);
	free(source);
	return found;
}

/**
 * mount_table_source() - find what is mounted at a place
 * @mount_point: absolute path without symbolic links
 *
 * Return: the source of the uppermost mount, to be freed by the caller; NULL if
 *	   nothing is mounted there.
 */
char *mount_table_source(const char *mount_point)
{
	FILE *table = fopen("/proc/self/mountinfo", "re");
	char *line = NULL, *source = NULL, *found;
	size_t size = 0;

	while (table && getline(&line, &size, table) >= 0) {
		found = source_of_line(line, mount_point);
		if (!found)
			continue;
		free(source);
		source = found;
	}
	free(line);
	if (table)
		fclose(table);
	return source;
}
