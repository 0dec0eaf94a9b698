/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the module writes to the kernel's log during a call
 *
 * An errno often has several reasons; the module names the one that applies in the log.
 */
#ifndef KERNEL_LOG_H
#define KERNEL_LOG_H

#include <stddef.h>

int kernel_log_open(void);
const char *kernel_log_find(int log, const char *what, char *line, size_t size);
void kernel_log_close(int log);

#endif /* KERNEL_LOG_H */
