/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Records of what is mounted
 *
 * A record is written before what it names is set up, and removed after that is
 * gone, so nothing is left that no record names.  All of it is done under one
 * lock: a record without its mount belongs to a run that was killed, or to a
 * mount that was ended by another program.
 *
 * The rules of udev look up the nbd devices in the records.
 *
 * A record that cannot be read is one of a mount at a place that is not known.
 * What it was made of is found by the path of the record alone.
 */
#ifndef MOUNT_RECORD_H
#define MOUNT_RECORD_H

#include <stdbool.h>
#include <stddef.h>

/* A prefix of the names of device-mapper devices, with its final 0. */
#define MOUNT_PREFIX_SIZE 24

struct mount_disk {
	char *source;		/* image, or file of a layer */
	char *nbd;		/* name of the nbd device; NULL if there is none */
};

struct mount_record {
	char *path;		/* of the record */
	char *mount_point;	/* NULL if the record is damaged */
	struct mount_disk *disks;	/* the first one is what was named first */
	size_t nr_disks;
	char *device;		/* what is mounted; NULL before it is known */
	bool writable;
};

struct mount_records {
	int lock_fd;
	struct mount_record *records;
	size_t nr_records;
};

int mount_records_open(struct mount_records *records);
void mount_records_close(struct mount_records *records);
struct mount_record *mount_records_find(const struct mount_records *records,
					const char *mount_point);

int mount_record_init(struct mount_record *record, const char *mount_point);
int mount_record_add(struct mount_record *record, const char *source);
int mount_record_save(const struct mount_record *record);
bool mount_record_exists(const struct mount_record *record);
void mount_record_prefix(const struct mount_record *record,
			 char prefix[MOUNT_PREFIX_SIZE]);
void mount_record_remove(const struct mount_record *record);
void mount_record_free(struct mount_record *record);

#endif /* MOUNT_RECORD_H */
