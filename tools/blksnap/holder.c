// SPDX-License-Identifier: GPL-2.0
/*
 * Which snapshot holds a device, since when, and for whom
 *
 * A snapshot that nobody takes or destroys keeps its devices from everybody
 * else.  What is told here is for whoever has to decide whether it may go.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <blksnap/blksnap.h>

#include "device.h"
#include "holder.h"
#include "parse.h"
#include "util.h"

/**
 * format_age() - write an age as text, in the largest unit that it fills
 * @age_ms:	milliseconds
 * @text:	a number, a space and a unit
 */
void format_age(uint64_t age_ms, char text[AGE_TEXT_SIZE])
{
	static const struct {
		const char *name;
		uint64_t seconds;
	} units[] = {
		{ "d", 24 * 60 * 60 }, { "h", 60 * 60 }, { "min", 60 }, { "s", 1 },
	};
	uint64_t seconds = age_ms / 1000;
	size_t i = 0;

	while (i < ARRAY_SIZE(units) - 1 && seconds < units[i].seconds)
		i++;
	snprintf(text, AGE_TEXT_SIZE, "%llu %s",
		 (unsigned long long)(seconds / units[i].seconds),
		 units[i].name);
}

/**
 * format_creator() - write the process that created a snapshot as text
 * @info:	what the module tells of the snapshot
 * @text:	NAME[PID]; a process may call itself anything, but the text is of
 *		printable ASCII
 */
void format_creator(const struct blk_snap_snapshot_info *info,
		    char text[CREATOR_TEXT_SIZE])
{
	char *c;

	snprintf(text, CREATOR_TEXT_SIZE, "%.*s[%u]", BLK_SNAP_COMM_LEN,
		 info->comm, info->pid);
	for (c = text; *c; c++) {
		if (!isascii((unsigned char)*c) || iscntrl((unsigned char)*c))
			*c = '?';
	}
}

static bool has_device(const struct blk_snap_dev *devs, unsigned int nr_devs,
		       struct blk_snap_dev dev)
{
	unsigned int i;

	for (i = 0; i < nr_devs; i++) {
		if (device_equal(devs[i], dev))
			return true;
	}
	return false;
}

static void describe_holder(const struct blk_snap_uuid *id,
			    const struct blk_snap_snapshot_info *info,
			    char text[HOLDER_TEXT_SIZE])
{
	char uuid[BLKSNAP_UUID_TEXT_SIZE], age[AGE_TEXT_SIZE];
	char creator[CREATOR_TEXT_SIZE];

	blksnap_format_uuid(id, uuid);
	format_age(info->age_ms, age);
	format_creator(info, creator);
	snprintf(text, HOLDER_TEXT_SIZE, "snapshot %s, created %s ago by %s%s",
		 uuid, age, creator,
		 info->flags & BLK_SNAP_INFO_CREATOR_ENDED ?
		 ", which has ended" : "");
}

static bool holds_device(struct blksnap *blksnap, const struct blk_snap_uuid *id,
			 struct blk_snap_dev dev, char text[HOLDER_TEXT_SIZE])
{
	struct blk_snap_snapshot_info info;
	struct blk_snap_dev *devs;
	bool holds;

	if (blksnap_snapshot_info(blksnap, id, &info, &devs))
		return false;
	holds = has_device(devs, info.count, dev);
	if (holds)
		describe_holder(id, &info, text);
	free(devs);
	return holds;
}

/**
 * find_holder() - find the snapshot that a device belongs to
 * @blksnap:	connection
 * @dev:	the device
 * @text:	the snapshot, how old it is, and who created it
 *
 * Return: true if there is one, and it is not about to end.
 */
bool find_holder(struct blksnap *blksnap, struct blk_snap_dev dev,
		 char text[HOLDER_TEXT_SIZE])
{
	struct blk_snap_uuid *ids;
	unsigned int nr_ids, i;
	bool found = false;

	if (blksnap_snapshot_collect(blksnap, &ids, &nr_ids))
		return false;
	for (i = 0; i < nr_ids && !found; i++)
		found = holds_device(blksnap, &ids[i], dev, text);
	free(ids);
	return found;
}
