/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Device-mapper devices of a mount
 *
 * The names of all devices of a mount begin with the same prefix.  By that they
 * are found and removed even if the program that made them was killed.
 */
#ifndef MAPPER_H
#define MAPPER_H

#include <stdbool.h>

int mapper_remove_all(const char *prefix, bool is_quiet);

#endif /* MAPPER_H */
