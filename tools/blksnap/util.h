/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the kernel has and C lacks
 */
#ifndef UTIL_H
#define UTIL_H

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

#define __printf(format_index, first_index) \
	__attribute__((__format__(__printf__, format_index, first_index)))

#endif /* UTIL_H */
