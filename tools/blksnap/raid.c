// SPDX-License-Identifier: GPL-2.0
/*
 * Members of md arrays
 */
#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <linux/types.h>
#include <linux/raid/md_p.h>

#include <blksnap/blksnap.h>

#include "message.h"
#include "raid.h"
#include "util.h"

#define RAID1 1

/* With them what a member holds is not, or not yet, what the array does. */
#define NOT_WHOLE \
	(MD_FEATURE_RECOVERY_OFFSET | MD_FEATURE_RESHAPE_ACTIVE | \
	 MD_FEATURE_REPLACEMENT)

#define BY_HAND \
	"the section 'Reading what is in an image' of Documentation/block/blksnap.rst has the commands that put an array together"
#define BAD_BLOCKS_WARNING \
	"the RAID1 member '%s' lists blocks that could not be written, so some of its data may be old"

static bool read_from(int fd, uint64_t begin, uint64_t place,
		      struct mdp_superblock_1 *super)
{
	return pread(fd, super, sizeof(*super), begin + place) ==
	       sizeof(*super) &&
	       le32toh(super->magic) == MD_SB_MAGIC &&
	       le32toh(super->major_version) == 1 &&
	       le64toh(super->super_offset) == place >> BLKSNAP_SECTOR_SHIFT;
}

/* Versions 1.2, 1.1 and 1.0 have it at different places. */
static bool read_superblock(int fd, uint64_t begin, uint64_t nr_bytes,
			    struct mdp_superblock_1 *super, uint64_t *place)
{
	const uint64_t places[] = { 4096, 0, (nr_bytes - 8192) & ~4095ULL };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(places); i++) {
		*place = begin + places[i];
		if (read_from(fd, begin, places[i], super))
			return true;
	}
	return false;
}

/* Neither a spare, nor one that the array has thrown out. */
static bool is_active(int fd, uint64_t place,
		      const struct mdp_superblock_1 *super)
{
	const uint32_t number = le32toh(super->dev_number);
	__le16 role;

	place += sizeof(*super) + number * sizeof(role);
	return number < le32toh(super->max_dev) &&
	       pread(fd, &role, sizeof(role), place) == sizeof(role) &&
	       le16toh(role) <= MD_DISK_ROLE_MAX;
}

static int check_member(int fd, const char *name, uint64_t place,
			const struct mdp_superblock_1 *super)
{
	const uint32_t features = le32toh(super->feature_map);
	const int level = (int)le32toh(super->level);

	if (level != RAID1)
		return fail(EXIT_FAILED,
			    "'%s' holds a member of an md array of level %d, which alone does not have its data; "
			    BY_HAND, name, level);
	if (!is_active(fd, place, super) || (features & NOT_WHOLE))
		return fail(EXIT_FAILED,
			    "'%s' holds a member of a RAID1 that is a spare, has failed, or is not rebuilt yet; take another member",
			    name);
	if (features & MD_FEATURE_BAD_BLOCKS)
		warn(BAD_BLOCKS_WARNING, name);
	return EXIT_OK;
}

/**
 * raid_find_data() - find the data of an array in a member of it
 * @fd:		device that holds the member
 * @name:	of what the user named, for messages
 * @offset_bytes: where the member begins there; gets where the data does
 * @nr_bytes:	size of the member; gets that of the data
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int raid_find_data(int fd, const char *name, uint64_t *offset_bytes,
		   uint64_t *nr_bytes)
{
	struct mdp_superblock_1 super;
	uint64_t place;
	int ret;

	if (!read_superblock(fd, *offset_bytes, *nr_bytes, &super, &place))
		return fail(EXIT_FAILED,
			    "'%s' holds a member of an md array with metadata that is not of version 1; "
			    BY_HAND, name);
	ret = check_member(fd, name, place, &super);
	if (ret)
		return ret;
	*offset_bytes += le64toh(super.data_offset) << BLKSNAP_SECTOR_SHIFT;
	*nr_bytes = le64toh(super.size) << BLKSNAP_SECTOR_SHIFT;
	return EXIT_OK;
}
