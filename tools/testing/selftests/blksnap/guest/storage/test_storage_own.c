// SPDX-License-Identifier: GPL-2.0
/*
 * Difference storage on the origin itself
 *
 * As a raw range, as another partition of the disk, or as the blocks of a file
 * of the filesystem that is snapshotted.  What the module writes there is
 * neither held, nor copied, nor tracked; the images show zeros in its place and
 * cannot be written there; all else is as it would be with storage elsewhere.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test_storage.h"

#define OWN_AT (8 * MIB)		/* where raw storage begins */

static void own_create(void)
{
	ledger_open(&ledger, rig.origin);
	snapshot_create(&rig.snapshot, rig.origin);
}

static int own_append(uint64_t nr_bytes, uint64_t at)
{
	return append_range(&rig.snapshot, rig.origin, at / SECTOR_SIZE, nr_bytes / SECTOR_SIZE);
}

/* The image shows zeros there, and what is on the origin is the module's. */
static void own_range_is_storage(uint64_t nr_bytes, uint64_t at)
{
	memset(ledger.taken + at, 0, nr_bytes);
	ASSERT(read_direct(rig.origin->path, ledger.now + at, nr_bytes, at));
}

static void own_take(void)
{
	snapshot_take(&rig.snapshot);
	ledger_take(&ledger);
}

static void test_own_range_is_left_out_of_image_and_map(void)
{
	own_create();
	ASSERT_OK(own_append(6 * MIB, OWN_AT));
	own_take();
	origin_write(3 * MIB, 0);
	origin_write(MIB, OWN_AT + 6 * MIB);
	wait_until_stored();
	own_range_is_storage(6 * MIB, OWN_AT);
	expect_sound();
	EXPECT_EQ(image_number("copied_bytes"), 4 * MIB);
	EXPECT_EQ(image_number("stored_bytes"), 4 * MIB);
	ASSERT_OK(control_snapshot_destroy(ctl, &rig.snapshot.id));
	expect_next_map_is_right(&ledger);
}

/* The module's writes there are no reason to hold or to copy anything. */
static void test_storing_on_the_origin_holds_nobody(void)
{
	struct disk_stat before, after;
	int64_t nr_held;

	own_create();
	ASSERT_OK(own_append(6 * MIB, OWN_AT));
	own_take();
	disk_read_stat(rig.origin, &before);
	origin_write(2 * MIB, MIB);
	wait_until_stored();
	disk_read_stat(rig.origin, &after);
	/* Written once, stored once; read once, to be copied. */
	EXPECT_EQ(after.written_sectors - before.written_sectors, 2 * 2 * MIB / SECTOR_SIZE);
	EXPECT_EQ(after.read_sectors - before.read_sectors, 2 * MIB / SECTOR_SIZE);
	nr_held = image_number("held_writes_total");
	EXPECT(nr_held > 0);
	origin_write(2 * MIB, MIB);
	sleep_ms(CALM_MS);
	EXPECT_EQ(image_number("held_writes_total"), nr_held);
	EXPECT_EQ(image_number("copied_bytes"), 2 * MIB);
}

static void test_own_range_can_be_appended_while_held(void)
{
	own_create();
	ASSERT_OK(append_bytes(0, MIB));
	own_take();
	origin_write(MIB, 0);
	ASSERT_OK(own_append(MIB, OWN_AT));
	/* Live data until now, which the one who appended it has vouched for. */
	memset(ledger.taken + OWN_AT, 0, MIB);
	expect_image_is_as_taken();
	origin_write(MIB, 4 * MIB);
	wait_until_stored();
	EXPECT_EQ(image_number("storage_free_bytes"), 0);
	own_range_is_storage(MIB, OWN_AT);
	expect_sound();
}

/* Blocks that are storage only in part stay with the image. */
static void test_own_range_is_cut_to_whole_blocks(void)
{
	const uint64_t from = OWN_AT + 3 * SECTOR_SIZE;
	const uint64_t to = OWN_AT + 2 * MIB + 5 * SECTOR_SIZE;
	const uint64_t first = OWN_AT + BLOCK_BYTES, end = OWN_AT + 2 * MIB;

	own_create();
	ASSERT_OK(own_append(to - from, from));
	own_take();
	EXPECT_EQ(image_number("storage_bytes"), end - first);
	/* All that is not in the range, up to its very ends. */
	origin_write(512 * KIB + 3 * SECTOR_SIZE, OWN_AT - 512 * KIB);
	origin_write(512 * KIB - 5 * SECTOR_SIZE, to);
	wait_until_stored();
	own_range_is_storage(end - first, first);
	expect_sound();
	ASSERT_OK(control_snapshot_destroy(ctl, &rig.snapshot.id));
	expect_next_map_is_right(&ledger);
}

static void test_image_write_into_own_range_is_refused(void)
{
	const char *image;

	row("an image is written where it is storage");
	own_create();
	ASSERT_OK(own_append(4 * MIB, OWN_AT));
	own_take();
	image = image_of(&rig.snapshot, rig.origin);
	EXPECT_EQ(io_error(image, true, BLOCK_BYTES, OWN_AT), ENOSPC);
	EXPECT_EQ(io_error(image, true, SECTOR_SIZE, OWN_AT + 4 * MIB - SECTOR_SIZE), ENOSPC);
	EXPECT_EQ(io_error(image, true, MIB, OWN_AT + MIB), ENOSPC);
	/* Beside it all is well. */
	fill_random(ledger.taken + OWN_AT - BLOCK_BYTES, BLOCK_BYTES);
	EXPECT(write_direct(image, ledger.taken + OWN_AT - BLOCK_BYTES, BLOCK_BYTES,
			    OWN_AT - BLOCK_BYTES));
	wait_until_stored();
	own_range_is_storage(4 * MIB, OWN_AT);
	expect_sound();
}

static void test_zeroout_into_own_range_is_refused(void)
{
	uint64_t range[2] = { OWN_AT + 3 * MIB, 2 * MIB };
	int fd, ret;

	own_create();
	ASSERT_OK(own_append(4 * MIB, OWN_AT));
	own_take();
	fd = open(image_of(&rig.snapshot, rig.origin), O_RDWR | O_DIRECT);
	ASSERT(fd >= 0);
	errno = 0;
	ret = ioctl(fd, BLKZEROOUT, range);
	EXPECT_EQ(ret, -1);
	EXPECT_EQ(errno, ENOSPC);
	close(fd);
}

static void test_exhaustion_of_own_range(void)
{
	own_create();
	ASSERT_OK(own_append(MIB, OWN_AT));
	own_take();
	origin_write(4 * MIB, 0);
	image_number_becomes("error", ENOSPC, ENOSPC);
	wait_until_stored();
	own_range_is_storage(MIB, OWN_AT);
	expect_broken(ENOSPC);
	/* The range is the owner's again, and writes there count. */
	ASSERT_OK(control_snapshot_destroy(ctl, &rig.snapshot.id));
	origin_write(MIB, OWN_AT);
	expect_next_map_is_right(&ledger);
}

static void test_write_error_on_own_range(void)
{
	own_create();
	ASSERT_OK(own_append(2 * MIB, OWN_AT));
	own_take();
	disk_break_sectors(rig.origin, (OWN_AT + MIB) / SECTOR_SIZE, 8);
	origin_write(4 * MIB, 0);
	image_number_becomes("error", EIO, EIO);
	wait_until_stored();
	disk_mend_sectors(rig.origin, (OWN_AT + MIB) / SECTOR_SIZE, 8);
	own_range_is_storage(2 * MIB, OWN_AT);
	expect_broken(EIO);
}

/* --- another snapshot's storage --- */

static void test_storage_on_the_origin_of_another_snapshot(void)
{
	struct snapshot other;

	own_create();
	snapshot_create(&other, &rig.spare_disk);
	ASSERT_OK(append_range(&other, rig.origin, OWN_AT / SECTOR_SIZE, 2 * MIB / SECTOR_SIZE));
	ASSERT(fill_direct(rig.spare_disk.path, 0x11, 4 * MIB, 0));
	ASSERT_OK(append_bytes(0, 8 * MIB));
	own_take();
	snapshot_take(&other);
	/* What the other one stores here concerns nobody. */
	EXPECT(fill_direct(rig.spare_disk.path, 0x22, MIB, 0));
	sleep_ms(CALM_MS);
	own_range_is_storage(2 * MIB, OWN_AT);
	origin_write(MIB, 0);
	expect_sound();
	EXPECT_EQ(image_number("copied_bytes"), MIB);
	EXPECT(reads_as(image_of(&other, &rig.spare_disk), 0x11, 4 * MIB, 0));
	/* Too late now, and the same range is never given twice. */
	EXPECT_ERR(append_range(&other, rig.origin, 0, 2048), EBUSY);
	EXPECT_ERR(own_append(MIB, OWN_AT + MIB), EINVAL);
	expect_sound();
}

/* --- partitions --- */

static void test_own_partition_as_storage_of_the_disk(void)
{
	struct disk first, second;

	ASSERT_OK(partition_add(&rig.origin_disk, &first, 64, 2048 * 8 - 64));
	ASSERT_OK(partition_add(&rig.origin_disk, &second, 2048 * 8, 2048 * 4));
	own_create();
	ASSERT_OK(append_range(&rig.snapshot, &second, 0, 2048 * 4));
	own_take();
	EXPECT_EQ(image_number("storage_bytes"), 4 * MIB - 2 * EDGE_BYTES);
	origin_write(MIB, MIB);
	/* A write to the disk under its partition's name. */
	fill_random(ledger.now + 4 * MIB, MIB);
	ledger_write(&ledger, ledger.now + 4 * MIB, MIB, 4 * MIB);
	EXPECT(write_direct(first.path, ledger.now + 4 * MIB, MIB, 4 * MIB - 64 * SECTOR_SIZE));
	wait_until_stored();
	own_range_is_storage(4 * MIB - 2 * EDGE_BYTES, 8 * MIB + EDGE_BYTES);
	expect_sound();
	EXPECT_EQ(image_number("copied_bytes"), 2 * MIB);
	ASSERT_OK(control_snapshot_destroy(ctl, &rig.snapshot.id));
	expect_next_map_is_right(&ledger);
}

/* Partitions that no block of the disk matches; storage under the disk's name. */
static void test_range_in_an_unaligned_partition(void)
{
	const uint64_t start = 2051, nr_sectors = 2048 * 10 + 5;
	const uint64_t from = 2048 * 4 + 1, to = 2048 * 8 + 9;	/* in the partition */
	const uint64_t first = 2048 * 4 + 8, end = 2048 * 8 + 8;
	static struct disk part;

	ASSERT_OK(partition_add(&rig.origin_disk, &part, start, nr_sectors));
	rig_use_origin(&part);
	own_create();
	ASSERT_OK(append_range(&rig.snapshot, &rig.origin_disk, start + from, to - from));
	own_take();
	EXPECT_EQ(image_number("storage_bytes"), (end - first) * SECTOR_SIZE);
	origin_write(MIB, 0);
	origin_write(64 * KIB, from * SECTOR_SIZE - 64 * KIB);
	origin_write(part.nr_bytes - to * SECTOR_SIZE, to * SECTOR_SIZE);
	wait_until_stored();
	own_range_is_storage((end - first) * SECTOR_SIZE, first * SECTOR_SIZE);
	expect_sound();
}

/* --- a file --- */

#define ORIGIN_DIR "/tmp/storage-origin"
#define IMAGE_DIR "/tmp/storage-image"
#define STORE_FILE ORIGIN_DIR "/blksnap.store"

static struct file_extents extents;

/* Content that is known by the file's number and version. */
static void write_file(unsigned int nr, unsigned int version)
{
	static uint64_t words[64 * KIB / 8];
	char path[64];
	unsigned int i;
	int fd;

	for (i = 0; i < ARRAY_SIZE(words); i++)
		words[i] = (uint64_t)version << 40 | (uint64_t)nr << 20 | i;
	snprintf(path, sizeof(path), ORIGIN_DIR "/file%u", nr);
	fd = ASSERT_OK(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
	ASSERT_EQ(write(fd, words, sizeof(words)), sizeof(words));
	close(fd);
}

static void expect_file(const char *dir, unsigned int nr, unsigned int version)
{
	static uint64_t words[64 * KIB / 8];
	char path[64];
	unsigned int i;
	int fd;

	snprintf(path, sizeof(path), "%s/file%u", dir, nr);
	fd = ASSERT_OK(open(path, O_RDONLY | O_CLOEXEC));
	ASSERT_EQ(read(fd, words, sizeof(words)), sizeof(words));
	close(fd);
	for (i = 0; i < ARRAY_SIZE(words); i++)
		if (words[i] != ((uint64_t)version << 40 | (uint64_t)nr << 20 | i))
			break;
	EXPECT_EQ(i, ARRAY_SIZE(words));
}

#define NR_FILES 24U
#define FILLER_BYTES (48 * KIB)
#define MAX_FILLERS (ORIGIN_BYTES / FILLER_BYTES)

/* Leave free space only in pieces: what is allocated after that has many extents. */
static void make_fragments(void)
{
	unsigned int nr, i;
	char path[64];

	for (nr = 0; nr < MAX_FILLERS; nr++) {
		snprintf(path, sizeof(path), ORIGIN_DIR "/filler%u", nr);
		if (!file_reserve(path, FILLER_BYTES))
			break;
	}
	for (i = 0; i < nr; i += 2) {
		snprintf(path, sizeof(path), ORIGIN_DIR "/filler%u", i);
		unlink(path);
	}
	sync();
}

static void make_filesystem(void)
{
	unsigned int i;

	/* Blocks of 1 KiB: the extents do not match those of the engine. */
	ASSERT_EQ(shell("mkfs.ext4 -q -F -b 1024 -E nodiscard,lazy_itable_init=0 %s",
			rig.origin->path), 0);
	mkdir(ORIGIN_DIR, 0755);
	mkdir(IMAGE_DIR, 0755);
	ASSERT_OK(mount(rig.origin->path, ORIGIN_DIR, "ext4", 0, NULL));
	for (i = 0; i < NR_FILES; i++)
		write_file(i, 1);
	sync();
	make_fragments();
	/* Half of it has to do for all files and what the journal may write meanwhile. */
	ASSERT(file_reserve(STORE_FILE, 5 * MIB));
	sync();
	file_find_extents(STORE_FILE, &extents);
	ktap_note("the file has %u extents", extents.nr);
	EXPECT(extents.nr > 20);
}

static int append_extents(unsigned int from, unsigned int to)
{
	return control_snapshot_append_storage(ctl, &rig.snapshot.id, rig.origin->id,
					       extents.ranges + from, to - from);
}

/* Zeros where whole blocks of the engine are in an extent, else as it was. */
static void expect_image_without_extents(uint8_t *first, unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr; i++) {
		uint64_t from = extents.ranges[i].sector_offset * SECTOR_SIZE;
		uint64_t to = from + extents.ranges[i].sector_count * SECTOR_SIZE;

		from = (from + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;
		to = to / BLOCK_BYTES * BLOCK_BYTES;
		if (from < to)
			memset(first + from, 0, to - from);
	}
	expect_holds(image_of(&rig.snapshot, rig.origin), first, ORIGIN_BYTES, 0);
}

static void expect_files(const char *device, const char *dir, unsigned int version)
{
	unsigned int i;

	EXPECT_EQ(shell("e2fsck -fn %s >/dev/null 2>&1", device), 0);
	ASSERT_OK(mount(device, dir, "ext4", MS_RDONLY, NULL));
	for (i = 0; i < NR_FILES; i++)
		expect_file(dir, i, version);
	umount(dir);
}

static void change_files(unsigned int version)
{
	unsigned int i;

	for (i = 0; i < NR_FILES; i++)
		write_file(i, version);
	sync();
}

static void test_own_file_of_a_mounted_filesystem(void)
{
	uint8_t *first = alloc_aligned(ORIGIN_BYTES);

	make_filesystem();
	snapshot_create(&rig.snapshot, rig.origin);
	ASSERT_OK(append_extents(0, extents.nr / 2));
	snapshot_take(&rig.snapshot);
	ASSERT(read_direct(image_of(&rig.snapshot, rig.origin), first, ORIGIN_BYTES, 0));
	expect_image_without_extents(first, extents.nr / 2);
	change_files(2);
	ASSERT_OK(append_extents(extents.nr / 2, extents.nr));
	change_files(3);
	wait_until_stored();
	expect_image_without_extents(first, extents.nr);
	expect_files(image_of(&rig.snapshot, rig.origin), IMAGE_DIR, 1);
	/* While it is mounted, the filesystem writes when it likes. */
	umount(ORIGIN_DIR);
	wait_until_stored();
	EXPECT_EQ(image_number("error"), 0);
	EXPECT_EQ(image_number("stored_bytes"), image_number("copied_bytes"));
	EXPECT(image_number("stored_bytes") > (int64_t)MIB);
	expect_files(rig.origin->path, ORIGIN_DIR, 3);
	free(first);
}

static void file_tear_down(void)
{
	umount(IMAGE_DIR);
	umount(ORIGIN_DIR);
}

static void test_own_file_that_is_exhausted(void)
{
	make_filesystem();
	snapshot_create(&rig.snapshot, rig.origin);
	ASSERT_OK(append_extents(0, extents.nr / 8));
	snapshot_take(&rig.snapshot);
	change_files(2);
	expect_lost(&rig.snapshot, rig.origin, ENOSPC);
	change_files(3);
	umount(ORIGIN_DIR);
	expect_files(rig.origin->path, ORIGIN_DIR, 3);
}

void own_tear_down(void)
{
	file_tear_down();
	rig_tear_down();
}

const struct ktap_test own_tests[] = {
	KTAP_TEST(test_own_range_is_left_out_of_image_and_map),
	KTAP_SLOW_TEST(test_storing_on_the_origin_holds_nobody),
	KTAP_SLOW_TEST(test_own_range_can_be_appended_while_held),
	KTAP_SLOW_TEST(test_own_range_is_cut_to_whole_blocks),
	KTAP_SLOW_TEST(test_image_write_into_own_range_is_refused),
	KTAP_TEST(test_zeroout_into_own_range_is_refused),
	KTAP_SLOW_TEST(test_exhaustion_of_own_range),
	KTAP_SLOW_TEST(test_write_error_on_own_range),
	KTAP_SLOW_TEST(test_storage_on_the_origin_of_another_snapshot),
	KTAP_SLOW_TEST(test_own_partition_as_storage_of_the_disk),
	KTAP_SLOW_TEST(test_range_in_an_unaligned_partition),
	KTAP_SLOW_TEST(test_own_file_of_a_mounted_filesystem),
	KTAP_SLOW_TEST(test_own_file_that_is_exhausted),
	KTAP_END
};
