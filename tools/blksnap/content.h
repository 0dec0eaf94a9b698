/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What is on a disk: its partitions and filesystems, as libblkid finds them
 */
#ifndef CONTENT_H
#define CONTENT_H

#include <stdbool.h>
#include <stdint.h>

struct content {
	unsigned int partition;	/* 0 for the whole disk */
	uint64_t offset_bytes;
	uint64_t nr_bytes;	/* 0 for all there is */
	char *type;		/* NULL if nothing is known */
	char *label;		/* NULL if there is none */
	bool is_filesystem;
};

int content_find(struct content *content, const char *device, const char *name,
		 unsigned int partition);
void content_free(struct content *content);

#endif /* CONTENT_H */
