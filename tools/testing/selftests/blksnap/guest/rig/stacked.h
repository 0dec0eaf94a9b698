/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Disks on top of disks: device mapper and loop, without their tools
 */
#ifndef STACKED_H
#define STACKED_H

#include "blksnap_test.h"

int linear_create(struct disk *disk, const char *name, const struct disk *lower);
int delay_create(struct disk *disk, const char *name, const struct disk *lower,
		 unsigned int read_ms, unsigned int write_ms);
int delay_create_beyond(struct disk *disk, const char *name, const struct disk *lower,
			uint64_t sector, unsigned int read_ms);
int mapping_remove(const char *name);
int mapping_suspend(const char *name);
int mapping_resume(const char *name);
int mapping_open_count(const char *name);
int loop_create(struct disk *disk, const struct disk *lower,
		unsigned int block_bytes);
int loop_create_of_memory(struct disk *disk, uint64_t nr_bytes);
void loop_remove(const struct disk *disk);

#endif /* STACKED_H */
