/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Members of md arrays
 *
 * A member of a RAID1 has all the data of its array in one piece, which is read
 * without the array: no array is assembled, and none that is running on the
 * other members is disturbed.
 */
#ifndef RAID_H
#define RAID_H

#include <stdint.h>

int raid_find_data(int fd, const char *name, uint64_t *offset_bytes,
		   uint64_t *nr_bytes);

#endif /* RAID_H */
