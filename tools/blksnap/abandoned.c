// SPDX-License-Identifier: GPL-2.0
/*
 * Snapshots of programs that were killed
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include <blksnap/blksnap.h>

#include "abandoned.h"
#include "message.h"
#include "parse.h"

/* What the program is called while it creates such a snapshot. */
#define KEEPER_NAME "blksnap-keeper"

/**
 * create_to_be_kept() - create a snapshot that others destroy if this program dies
 * @blksnap:	connection
 * @devs:	devices of the snapshot
 * @nr_devs:	number of devices
 * @id:		gets the snapshot
 *
 * To be called by the main thread, whose name is that of the program.
 *
 * Return: as blksnap_snapshot_create().
 */
int create_to_be_kept(struct blksnap *blksnap, const struct blk_snap_dev *devs,
		      unsigned int nr_devs, struct blk_snap_uuid *id)
{
	char name[BLK_SNAP_COMM_LEN];
	int ret;

	prctl(PR_GET_NAME, name);
	prctl(PR_SET_NAME, KEEPER_NAME);
	ret = blksnap_snapshot_create(blksnap, devs, nr_devs, id);
	prctl(PR_SET_NAME, name);
	return ret;
}

static bool is_abandoned(struct blksnap *blksnap, const struct blk_snap_uuid *id)
{
	struct blk_snap_snapshot_info info;
	struct blk_snap_dev *devs;

	if (blksnap_snapshot_info(blksnap, id, &info, &devs))
		return false;
	free(devs);
	return info.flags & BLK_SNAP_INFO_CREATOR_ENDED &&
	       !strncmp(info.comm, KEEPER_NAME, sizeof(info.comm));
}

static void destroy_one(struct blksnap *blksnap, const struct blk_snap_uuid *id,
			bool quiet)
{
	char text[BLKSNAP_UUID_TEXT_SIZE];

	blksnap_format_uuid(id, text);
	if (!blksnap_snapshot_destroy(blksnap, id) && !quiet)
		fprintf(stderr,
			"destroyed snapshot %s, which a run that was killed has left\n",
			text);
}

/**
 * destroy_abandoned() - destroy the snapshots of programs that were killed
 * @blksnap:	connection
 * @quiet:	say nothing of it
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int destroy_abandoned(struct blksnap *blksnap, bool quiet)
{
	struct blk_snap_uuid *ids;
	unsigned int nr_ids, i;
	int ret = blksnap_snapshot_collect(blksnap, &ids, &nr_ids);

	if (ret)
		return fail_call("cannot list the snapshots");
	for (i = 0; i < nr_ids; i++) {
		if (is_abandoned(blksnap, &ids[i]))
			destroy_one(blksnap, &ids[i], quiet);
	}
	free(ids);
	return EXIT_OK;
}
