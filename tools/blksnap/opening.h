/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Opening what a filesystem is in: arrays, encrypted devices, groups of volumes
 *
 * Each container lies on what was opened before it, at the bottom on a throw-away
 * overlay, so whatever is written to open one is not written to the image.
 */
#ifndef OPENING_H
#define OPENING_H

struct mounting;

int opening_keep(struct mounting *mounting, int fd);
int opening_descend(struct mounting *mounting);
void opening_close(struct mounting *mounting);

#endif /* OPENING_H */
