// SPDX-License-Identifier: GPL-2.0
/*
 * Comparing images with what they must hold, and maps with images
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "test_oracle.h"

#define PIECE_SECTORS (MIB / SECTOR_SIZE)
#define MAX_REPORTS 5	/* differences told in full, per image */

static uint64_t nr_sectors_of(const struct member *member)
{
	return member->disk->nr_bytes / SECTOR_SIZE;
}

void member_init(struct member *member, const struct disk *disk, uint64_t start,
		 uint64_t nr_reserved)
{
	memset(member, 0, sizeof(*member));
	member->disk = disk;
	member->start = start;
	member->nr_reserved = nr_reserved;
	member->data = alloc_aligned(disk->nr_bytes);
	member->previous = alloc_aligned(disk->nr_bytes);
}

void member_exit(struct member *member)
{
	free(member->data);
	free(member->previous);
	memset(member, 0, sizeof(*member));
}

static void describe(const char *what, const void *sector)
{
	const struct stamp *stamp = sector;

	if (stamp->sector >> 32 == ORACLE_MAGIC >> 32)
		ktap_note("  %s: sector %llu of the disk, written by %llu", what,
			  (unsigned long long)(stamp->sector & UINT32_MAX),
			  (unsigned long long)stamp->op);
	else
		ktap_note("  %s: 0x%016llx 0x%016llx", what,
			  (unsigned long long)stamp->sector,
			  (unsigned long long)stamp->op);
}

/* Count and describe the sectors of a piece that are different. */
static void report_differences(const struct member *member, const uint8_t *have,
			       uint64_t sector, uint64_t nr_sectors)
{
	const uint8_t *want = member->data + sector * SECTOR_SIZE;
	unsigned int nr = 0;
	uint64_t i;

	for (i = 0; i < nr_sectors; i++) {
		const uint8_t *a = have + i * SECTOR_SIZE;
		const uint8_t *b = want + i * SECTOR_SIZE;

		if (!memcmp(a, b, SECTOR_SIZE))
			continue;
		oracle.nr_different++;
		if (nr++ >= MAX_REPORTS)
			continue;
		ktap_note("round %u: %s sector %llu (%llu of the disk) differs",
			  oracle.nr_done, member->disk->path,
			  (unsigned long long)(sector + i),
			  (unsigned long long)(member->start + sector + i));
		describe("must be", b);
		describe("image is", a);
	}
}

/* Read a piece of the image and compare it. */
bool member_compare_piece(struct member *member, int fd, void *buffer,
			  uint64_t sector, uint64_t nr_sectors)
{
	uint64_t end = nr_sectors_of(member);
	ssize_t ret;

	if (member->is_storage)
		end -= member->nr_reserved;
	if (sector >= end)
		return true;
	if (nr_sectors > end - sector)
		nr_sectors = end - sector;
	ret = pread(fd, buffer, nr_sectors * SECTOR_SIZE, sector * SECTOR_SIZE);
	if (ret != (ssize_t)(nr_sectors * SECTOR_SIZE)) {
		FAIL("reading the image of %s at sector %llu: %s",
		     member->disk->path, (unsigned long long)sector,
		     ret < 0 ? strerror(errno) : "short");
		return false;
	}
	if (!memcmp(buffer, member->data + sector * SECTOR_SIZE,
		    nr_sectors * SECTOR_SIZE))
		return true;
	report_differences(member, buffer, sector, nr_sectors);
	return false;
}

/* Compare all of an image with member->data. */
bool member_compare(struct member *member, const char *path, bool is_direct)
{
	void *buffer = alloc_aligned(PIECE_SECTORS * SECTOR_SIZE);
	int fd = open(path, O_RDONLY | O_CLOEXEC | (is_direct ? O_DIRECT : 0));
	bool ok = fd >= 0;
	uint64_t sector;

	for (sector = 0; ok && sector < nr_sectors_of(member);
	     sector += PIECE_SECTORS)
		ok = member_compare_piece(member, fd, buffer, sector,
					  PIECE_SECTORS);
	if (fd >= 0)
		close(fd);
	free(buffer);
	return EXPECT(ok && "the image is as it must be");
}

/* The numbers have to go on from those of the image before. */
static bool numbers_go_on(const struct member *member,
			  const struct blk_snap_cbt_info *info)
{
	const struct blk_snap_cbt_info *before = &member->info;
	const bool is_same = !memcmp(&info->generation_id,
				     &before->generation_id,
				     sizeof(info->generation_id));

	EXPECT_EQ(info->blk_count, before->blk_count);
	if (before->snap_number == 255) {
		EXPECT(!is_same);
		return false;
	}
	EXPECT(is_same);
	EXPECT_EQ(info->snap_number, before->snap_number + 1);
	return is_same;
}

static void check_blocks(struct member *member, const uint8_t *map,
			 const struct blk_snap_cbt_info *info)
{
	const uint64_t end = member->disk->nr_bytes -
			     member->nr_reserved * SECTOR_SIZE;
	uint64_t at, nr_bytes;

	for (at = 0; at < end; at += info->blk_size) {
		const uint8_t mark = map[at / info->blk_size];

		nr_bytes = end - at < info->blk_size ? end - at : info->blk_size;
		oracle.nr_blocks++;
		if (!memcmp(member->data + at, member->previous + at, nr_bytes))
			continue;
		oracle.nr_changed++;
		if (mark > member->info.snap_number && mark <= info->snap_number)
			continue;
		oracle.nr_unmarked++;
		FAIL("round %u: %s block at %llu changed since snapshot %u, marked %u",
		     oracle.nr_done, member->disk->path, (unsigned long long)at,
		     member->info.snap_number, mark);
		return;
	}
}

/*
 * Compare the image (member->data) with the one before, and the differences
 * with the map.  Then it becomes the one before.
 */
bool member_check_map(struct member *member)
{
	struct blk_snap_cbt_info info;
	uint8_t *map = read_map(member->disk, &info);
	uint8_t *data = member->previous;

	if (member->has_previous && numbers_go_on(member, &info))
		check_blocks(member, map, &info);
	member->previous = member->data;
	member->data = data;
	member->info = info;
	member->has_previous = true;
	free(map);
	return !oracle.nr_unmarked;
}

/*
 * Append one half of the storage disk, as two ranges that begin and end
 * anywhere, the second before the first; and now and then, before it, a range
 * of an origin's own.
 */
void oracle_append(struct snapshot *snapshot, struct member *members,
		   unsigned int nr_members, unsigned int half)
{
	const uint64_t quarter = oracle.storage.nr_bytes / SECTOR_SIZE / 4;
	struct random *random = &oracle.random;
	int i;

	for (i = 0; !half && i < (int)nr_members; i++) {
		members[i].is_storage = members[i].nr_reserved &&
					!random_below(random, 4);
		if (members[i].is_storage)
			ASSERT_OK(append_range(snapshot, members[i].disk,
					       nr_sectors_of(&members[i]) -
					       members[i].nr_reserved +
					       random_below(random, 100),
					       members[i].nr_reserved / 2 +
					       random_below(random, 100)));
	}
	for (i = 1; i >= 0; i--)
		ASSERT_OK(append_range(snapshot, &oracle.storage,
				       quarter * (2 * half + i) +
				       random_below(random, 50),
				       quarter - 50 - random_below(random, 50)));
}
