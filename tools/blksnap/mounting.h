/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Mounting what is on an image, or on a disk of a backup
 *
 * A mount that is not to be written lies on a read-only loop device, so no
 * filesystem can change the image.  One that wants to write before it can be
 * read, to replay a log or because it must not have the identifier of its
 * origin, is mounted from a throw-away overlay.  Where there is none, the last
 * resort is an option that leaves the log alone.
 *
 * One that is in containers is always mounted from an overlay, see opening.h.
 */
#ifndef MOUNTING_H
#define MOUNTING_H

#include <stdbool.h>

#include "content.h"
#include "key.h"
#include "mount_record.h"

#define MOUNTING_PATH_SIZE 48	/* "/dev/" and the name of a device */

struct mounting_file {
	char *path;		/* of an image, or absolute path of a layer */
	char *chain;		/* its name for QEMU, NULL if that is the path */
};

struct mounting {
	const struct mounting_file *files;
	size_t nr_files;
	bool is_backup;		/* they are files of layers */
	const struct key *key;	/* of the layers, NULL if they are not encrypted */
	unsigned int partition;	/* 0 for the only one or the whole disk */
	const char *volume;	/* NULL for the only one */
	int key_fd;		/* of the LUKS inside; -1 if there is none */
	bool writable;

	/* Those below are found when it is mounted. */
	struct mount_record record;
	char *base;		/* path of the device that has the content */
	char *name;		/* of that, as the user knows it */
	struct content content;
	unsigned int found_partition;
	char *found_volume;
	bool wants_key;		/* there is a LUKS inside, and nothing is mounted */
	const char *options;	/* that the filesystem was mounted with */
	int loop_fd;
	int *fds;		/* of devices below, until they are in use */
	size_t nr_fds;
};

int mounting_begin(struct mounting *mounting,
		   const struct mount_records *records,
		   const char *mount_point);
void mounting_free(struct mounting *mounting);

bool mounting_is_there(const struct mount_record *record);
int mounting_end(const struct mount_record *record);
int mounting_end_damaged(const struct mount_record *record, const char *place);
void mounting_end_abandoned(const struct mount_records *records);

#endif /* MOUNTING_H */
