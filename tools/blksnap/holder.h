/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Which snapshot holds a device, since when, and for whom
 */
#ifndef HOLDER_H
#define HOLDER_H

#include <stdbool.h>
#include <stdint.h>

#include <blksnap/blksnap.h>

#define AGE_TEXT_SIZE 32	/* 20 digits and a unit */
#define CREATOR_TEXT_SIZE 40	/* a name and a number */
#define HOLDER_TEXT_SIZE 256

void format_age(uint64_t age_ms, char text[AGE_TEXT_SIZE]);
void format_creator(const struct blk_snap_snapshot_info *info,
		    char text[CREATOR_TEXT_SIZE]);
bool find_holder(struct blksnap *blksnap, struct blk_snap_dev dev,
		 char text[HOLDER_TEXT_SIZE]);

#endif /* HOLDER_H */
