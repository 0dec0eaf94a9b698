// SPDX-License-Identifier: GPL-2.0
/*
 * What the module writes to the kernel's log during a call
 */
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "kernel_log.h"

#define KERNEL_LOG "/dev/kmsg"

/**
 * kernel_log_open() - note where the log ends
 *
 * Return: to be given to the other functions, also if the log cannot be read.
 */
int kernel_log_open(void)
{
	int log = open(KERNEL_LOG, O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (log >= 0 && lseek(log, 0, SEEK_END) < 0) {
		close(log);
		log = -1;
	}
	return log;
}

/* One record, as "6,339,5140900,-;text", without the lines that may follow. */
static bool read_record(int log, char *line, size_t size)
{
	ssize_t length = read(log, line, size - 1);

	if (length <= 0)
		return false;
	line[length] = 0;
	line[strcspn(line, "\n")] = 0;
	return true;
}

/**
 * kernel_log_find() - find what the module has said since kernel_log_open()
 * @log:	from kernel_log_open()
 * @what:	what its line says before the text that is wanted
 * @line:	memory for a line
 * @size:	its size
 *
 * Return: the text after @what in the last such line, inside of @line, or NULL.
 */
const char *kernel_log_find(int log, const char *what, char *line, size_t size)
{
	char record[1024];
	const char *found;
	bool is_known = false;

	while (log >= 0 && read_record(log, record, sizeof(record))) {
		found = strstr(record, what);
		if (!found || !strstr(record, ";blksnap: "))
			continue;
		line[0] = 0;
		strncat(line, found + strlen(what), size - 1);
		is_known = true;
	}
	return is_known ? line : NULL;
}

/**
 * kernel_log_close() - do without the log from here on
 * @log:	from kernel_log_open()
 */
void kernel_log_close(int log)
{
	if (log >= 0)
		close(log);
}
