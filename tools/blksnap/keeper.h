/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A snapshot with its difference storage, kept while it is needed
 *
 * The storage is reserved before the take.  A thread answers the events: storage
 * that runs short is extended if it may be, and a snapshot that is lost is
 * reported with what to do about it.
 *
 * If the program is killed, the next one that keeps a snapshot destroys this one, see
 * abandoned.h.
 */
#ifndef KEEPER_H
#define KEEPER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <blksnap/blksnap.h>

#include "memory.h"

#define KEEPER_MEMORY "memory"

struct keeper_options {
	const char *storage;	/* file, device or KEEPER_MEMORY; NULL: default */
	uint64_t size_bytes;	/* of the storage, 0 for the default */
	bool quiet;
};

struct keeper {
	struct blksnap *blksnap;
	struct blk_snap_uuid id;
	const struct blk_snap_dev *devs;
	unsigned int nr_devs;
	struct blk_snap_image_info *images;
	unsigned int nr_images;
	bool created;

	struct blksnap_storage *storage;	/* what is appended at first */
	struct memory memory;	/* that the storage is, if it is in memory */
	char *file;		/* likewise, NULL for a device */
	int file_fd;		/* holds a lock on the file */
	bool remove_file;
	unsigned int nr_more;	/* files FILE.1, FILE.2, ... beside it */
	uint64_t size_bytes;
	uint64_t requested_bytes;	/* by the module, more storage; 0 if enough */
	bool cannot_grow;

	bool watching;
	pthread_t thread;
	atomic_bool stop;
	atomic_bool destroying;	/* by ourselves */
	atomic_bool lost;	/* the snapshot of a device has failed */
};

int keeper_take(struct keeper *keeper, struct blksnap *blksnap,
		const struct blk_snap_dev *devs, unsigned int nr_devs,
		const struct keeper_options *options);
char *keeper_image(const struct keeper *keeper, struct blk_snap_dev dev,
		   bool *frozen);
bool keeper_is_lost(struct keeper *keeper);
void keeper_release(struct keeper *keeper);

#endif /* KEEPER_H */
