/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Difference storage in memory, where there is no disk for it
 *
 * It is a loop device on memory that takes as much as was written.  It goes with
 * its last user: with the run, or if that is killed, with the snapshot that the
 * next run destroys.
 */
#ifndef MEMORY_H
#define MEMORY_H

#include <stdint.h>

struct memory {
	char *device;	/* path; NULL if there is none */
	int fd;		/* keeps it */
};

uint64_t memory_default_bytes(void);
int memory_create(struct memory *memory, uint64_t nr_bytes);
void memory_free(struct memory *memory);

#endif /* MEMORY_H */
