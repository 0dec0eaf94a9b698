/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Does the kernel load signed modules only?
 */
#ifndef SIGNING_H
#define SIGNING_H

#include <stdbool.h>

bool signing_is_enforced(void);

#endif /* SIGNING_H */
