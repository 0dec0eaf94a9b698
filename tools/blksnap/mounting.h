/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Mounting what is on an image, or on a disk of a backup
 *
 * A mount that is not to be written lies on a read-only loop device, so no
 * filesystem can change the image.  One that wants to write before it can be
 * read, to replay a log or because it must not have the identifier of its
 * origin, is mounted from a throw-away overlay.  Where there is none, the last
 * resort is an option that leaves the log alone.
 */
#ifndef MOUNTING_H
#define MOUNTING_H

#include <stdbool.h>

#include "content.h"
#include "key.h"
#include "mount_record.h"

struct mounting {
	const char *image;	/* path of the device; NULL for a backup */
	const char *layer;	/* absolute path of the file; NULL for an image */
	char *chain;		/* its name for QEMU, NULL if that is the path */
	const struct key *key;	/* of the layer, NULL if it is not encrypted */
	unsigned int partition;	/* 0 for the only one or the whole disk */
	bool writable;
	struct mount_record record;
	struct content content;
	const char *options;	/* that the filesystem was mounted with */
	int loop_fd;
};

int mounting_begin(struct mounting *mounting,
		   const struct mount_records *records,
		   const char *mount_point);
void mounting_free(struct mounting *mounting);

bool mounting_is_there(const struct mount_record *record);
int mounting_end(const struct mount_record *record);
void mounting_end_abandoned(const struct mount_records *records);

#endif /* MOUNTING_H */
