/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What is on a disk: its partitions and filesystems, as libblkid finds them
 *
 * A container is what has to be opened before there is a filesystem to be seen: a
 * physical volume of LVM, an encrypted device, a member of an array.
 */
#ifndef CONTENT_H
#define CONTENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONTENT_LVM "LVM2_member"
#define CONTENT_LUKS "crypto_LUKS"
#define CONTENT_RAID "linux_raid_member"

struct content {
	unsigned int partition;	/* 0 for the whole disk */
	char *volume;		/* name of a logical volume; NULL if it is none */
	char *device;		/* path of a logical volume */
	uint64_t offset_bytes;
	uint64_t nr_bytes;	/* 0 for all there is */
	char *type;		/* NULL if nothing is known */
	char *label;		/* NULL if there is none */
	bool is_filesystem;
	bool is_container;
};

/* All that may be mounted: the whole disk, its partitions, or volumes. */
struct contents {
	struct content *all;
	size_t nr;
	const char *kind;	/* "partition", "volume"; NULL for a whole disk */
};

int content_find(struct content *content, const char *device, const char *name,
		 unsigned int partition);
void content_free(struct content *content);

int contents_read(struct contents *contents, const char *device,
		  const char *name);
int contents_look_at_volumes(struct contents *contents);
int contents_choose_volume(struct contents *contents, const char *name,
			   const char *volume, struct content **chosen);
void contents_free(struct contents *contents);

#endif /* CONTENT_H */
