/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Device-mapper devices of a mount
 *
 * All that a mount sets up have names that begin with the same prefix, so they
 * are found again whoever made them, and whatever has become of that program.
 */
#ifndef MAPPER_H
#define MAPPER_H

#include <stdbool.h>

int mapper_remove_all(const char *prefix, bool is_quiet);

#endif /* MAPPER_H */
