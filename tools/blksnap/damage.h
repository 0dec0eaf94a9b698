/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Marks of layers that were found to be damaged
 *
 * Damage is found where a layer is read.  A mark, an empty file beside it, lets the
 * next backup know, so that it does not build on what cannot be restored.  A
 * folder that cannot be written to goes without.  The mark is removed when
 * verify finds the layer whole, or with the layer.
 */
#ifndef DAMAGE_H
#define DAMAGE_H

#include <stdbool.h>

#define DAMAGE_SUFFIX ".damaged"

void damage_mark(const char *path);
void damage_clear(const char *path);
bool damage_is_marked(const char *path);

#endif /* DAMAGE_H */
