// SPDX-License-Identifier: GPL-2.0
/*
 * Difference storage in memory, where there is no disk for it
 *
 * zram would compress it, but has blocks of 4 KiB, and the module wants storage
 * with blocks as small as those of the origin.  The devices of brd have a size
 * that is chosen when it is loaded, and only all of them can go.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "loop.h"
#include "memory.h"
#include "message.h"

/* Seen in /sys/block/loopN/loop/backing_file. */
#define MEMORY_NAME "blksnap-storage"

/* Of the memory that is available, what may be taken without being asked to. */
#define DEFAULT_PART 4

/**
 * memory_default_bytes() - how much memory to use if the user does not say
 *
 * Return: a quarter of what is available, 0 if that is not known.
 */
uint64_t memory_default_bytes(void)
{
	unsigned long long nr_kib = 0;
	FILE *file = fopen("/proc/meminfo", "re");
	char line[128];

	while (file && fgets(line, sizeof(line), file) &&
	       sscanf(line, "MemAvailable: %llu", &nr_kib) != 1)
		;
	if (file)
		fclose(file);
	return nr_kib * 1024 / DEFAULT_PART;
}

/**
 * memory_create() - make a device in memory
 * @memory:	gets it; to be given to memory_free() in any case
 * @nr_bytes:	its size; memory is taken when it is written to
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int memory_create(struct memory *memory, uint64_t nr_bytes)
{
	int fd = memfd_create(MEMORY_NAME, MFD_CLOEXEC);
	char path[32];
	int ret;

	if (fd < 0 || ftruncate(fd, nr_bytes)) {
		ret = fail_errno(errno, "cannot get memory for the storage");
	} else {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		ret = loop_attach(path, 0, 0, false, &memory->device,
				  &memory->fd);
	}
	if (fd >= 0)
		close(fd);
	return ret;
}

/**
 * memory_free() - give the memory back
 * @memory:	NULL and a descriptor of -1 are as good
 */
void memory_free(struct memory *memory)
{
	if (memory->fd >= 0)
		close(memory->fd);
	free(memory->device);
	*memory = (struct memory) { .fd = -1 };
}
