/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the kernel has and C lacks
 */
#ifndef UTIL_H
#define UTIL_H

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

/* __attribute__((PRINTF_LIKE(2, 3))): parameter 2 is a format, 3 its first value */
#define PRINTF_LIKE(format_index, first_index) \
	__format__(__printf__, format_index, first_index)

#endif /* UTIL_H */
