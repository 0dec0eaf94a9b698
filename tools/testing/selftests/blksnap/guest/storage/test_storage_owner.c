// SPDX-License-Identifier: GPL-2.0
/*
 * Whose the storage is
 *
 * A device with storage on it is in use for everybody else, as if it were mounted, but
 * for an origin, and for a device that somebody else has already.  Storage that lies on
 * an origin through another driver is refused; if the module cannot see that, the
 * snapshot fails at the first store.  Whatever is refused has its reason in the log.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "stacked.h"
#include "test_storage.h"

#define OWNER_DIR "/tmp/storage-owner"
#define RANGE_AT (4 * MIB)
#define RANGE_BYTES (4 * MIB)

static struct disk below, above, loop_disk;

static int append_at(const struct snapshot *snapshot, const struct disk *disk, uint64_t at)
{
	return append_range(snapshot, disk, at / SECTOR_SIZE, RANGE_BYTES / SECTOR_SIZE);
}

/* What mkfs, mount, swapon, pvcreate, and mdadm ask for first. */
static int claim_error(const struct disk *disk)
{
	int fd = open(disk->path, O_RDWR | O_EXCL | O_CLOEXEC);

	if (fd < 0)
		return errno;
	close(fd);
	return 0;
}

void owner_tear_down(void)
{
	umount(OWNER_DIR);
	if (loop_disk.path[0])
		loop_remove(&loop_disk);
	rig_tear_down();
	mapping_remove("owner-above");
	mapping_remove("owner-below");
	memset(&loop_disk, 0, sizeof(loop_disk));
}

/* --- claimed --- */

static void expect_device_is_in_use(const struct disk *disk)
{
	EXPECT_EQ(claim_error(disk), EBUSY);
	EXPECT(shell("mkfs.ext4 -q -F %s >/dev/null 2>&1", disk->path));
	EXPECT_EQ(mount(disk->path, OWNER_DIR, "ext4", 0, NULL), -1);
	EXPECT_EQ(errno, EBUSY);
}

static void test_storage_device_is_in_use(void)
{
	mkdir(OWNER_DIR, 0755);
	ASSERT_EQ(shell("mkfs.ext4 -q -F -E nodiscard %s", rig.spare_disk.path), 0);
	snapshot_create(&rig.snapshot, rig.origin);
	ASSERT_OK(append_at(&rig.snapshot, &rig.spare_disk, RANGE_AT));
	expect_device_is_in_use(&rig.spare_disk);
	snapshot_take(&rig.snapshot);
	expect_device_is_in_use(&rig.spare_disk);
	ASSERT_OK(control_snapshot_destroy(ctl, &rig.snapshot.id));
	EXPECT_EQ(claim_error(&rig.spare_disk), 0);
	ASSERT_OK(mount(rig.spare_disk.path, OWNER_DIR, "ext4", 0, NULL));
}

static void test_snapshots_share_a_storage_device(void)
{
	struct snapshot other;

	snapshot_create(&rig.snapshot, rig.origin);
	snapshot_create(&other, rig.storage);
	ASSERT_OK(append_at(&rig.snapshot, &rig.spare_disk, RANGE_AT));
	ASSERT_OK(append_at(&other, &rig.spare_disk, RANGE_AT + RANGE_BYTES));
	ASSERT_OK(control_snapshot_destroy(ctl, &rig.snapshot.id));
	EXPECT_EQ(claim_error(&rig.spare_disk), EBUSY);
	ASSERT_OK(control_snapshot_destroy(ctl, &other.id));
	EXPECT_EQ(claim_error(&rig.spare_disk), 0);
}

static void test_refused_append_claims_nothing(void)
{
	snapshot_create(&rig.snapshot, rig.origin);
	EXPECT_ERR(append_range(&rig.snapshot, &rig.spare_disk, 0, 1 << 30), EINVAL);
	EXPECT_EQ(claim_error(&rig.spare_disk), 0);
}

static void test_storage_in_a_partition_is_in_use(void)
{
	struct disk first, second;

	ASSERT_OK(partition_add(&rig.spare_disk, &first, 2048, 8 * 2048));
	ASSERT_OK(partition_add(&rig.spare_disk, &second, 9 * 2048, 8 * 2048));
	snapshot_create(&rig.snapshot, rig.origin);
	ASSERT_OK(append_at(&rig.snapshot, &second, 2 * MIB));
	EXPECT_EQ(claim_error(&second), EBUSY);
	EXPECT_EQ(claim_error(&rig.spare_disk), EBUSY);
	EXPECT_EQ(claim_error(&first), 0);
	ASSERT_OK(control_snapshot_destroy(ctl, &rig.snapshot.id));
	EXPECT_EQ(claim_error(&rig.spare_disk), 0);
}

static void test_device_of_somebody_else_is_shared(void)
{
	int fd = ASSERT_OK(open(rig.spare_disk.path, O_RDWR | O_EXCL | O_CLOEXEC));

	snapshot_create(&rig.snapshot, rig.origin);
	EXPECT_OK(append_at(&rig.snapshot, &rig.spare_disk, RANGE_AT));
	close(fd);
	snapshot_take(&rig.snapshot);
}

/* An origin that nobody uses today may be mounted tomorrow. */
static void test_origin_is_not_claimed(void)
{
	struct disk part;

	ASSERT_OK(partition_add(&rig.origin_disk, &part, 2048, 8 * 2048));
	snapshot_create(&rig.snapshot, rig.origin);
	ASSERT_OK(append_at(&rig.snapshot, rig.origin, 10 * MIB));
	snapshot_take(&rig.snapshot);
	EXPECT_EQ(claim_error(rig.origin), 0);
	EXPECT_EQ(claim_error(&part), 0);
	ASSERT_OK(control_snapshot_destroy(ctl, &rig.snapshot.id));
	/* Its disk neither: it would be in use as well. */
	snapshot_create(&rig.snapshot, &part);
	ASSERT_OK(append_at(&rig.snapshot, rig.origin, 10 * MIB));
	EXPECT_EQ(claim_error(&part), 0);
}

/* --- through another driver --- */

static void expect_refused(int ret, const struct disk *disk, const char *reason)
{
	char line[160];

	EXPECT_ERR(ret, EINVAL);
	snprintf(line, sizeof(line), "blksnap: %u:%u: cannot be storage: %s\n", disk->id.mj,
		 disk->id.mn, reason);
	EXPECT_EQ(count_in_log(line), 1);
}

#define THROUGH "it lies on an origin through another driver"

static void test_storage_above_the_origin_is_refused(void)
{
	ASSERT_OK(linear_create(&below, "owner-below", rig.origin));
	ASSERT_OK(linear_create(&above, "owner-above", &below));
	snapshot_create(&rig.snapshot, rig.origin);
	expect_refused(append_at(&rig.snapshot, &below, RANGE_AT), &below, THROUGH);
	expect_refused(append_at(&rig.snapshot, &above, RANGE_AT), &above, THROUGH);
	/* The devices are as they were. */
	EXPECT_EQ(claim_error(&above), 0);
	ASSERT_OK(append_at(&rig.snapshot, &rig.spare_disk, RANGE_AT));
	snapshot_take(&rig.snapshot);
}

static void test_storage_in_a_partition_of_the_origin_is_refused_above(void)
{
	struct disk first, second;

	ASSERT_OK(partition_add(&rig.origin_disk, &first, 2048, 6 * 2048));
	ASSERT_OK(partition_add(&rig.origin_disk, &second, 7 * 2048, 8 * 2048));
	ASSERT_OK(linear_create(&above, "owner-above", &second));
	snapshot_create(&rig.snapshot, rig.origin);
	expect_refused(append_at(&rig.snapshot, &above, 2 * MIB), &above, THROUGH);
	ASSERT_OK(control_snapshot_destroy(ctl, &rig.snapshot.id));
	/* Beside the origin there is no loop. */
	snapshot_create(&rig.snapshot, &first);
	EXPECT_OK(append_at(&rig.snapshot, &above, 2 * MIB));
}

static void test_storage_on_a_loop_device_on_the_origin_is_refused(void)
{
	struct disk file = { .path = OWNER_DIR "/file" };

	mkdir(OWNER_DIR, 0755);
	ASSERT_OK(loop_create(&loop_disk, rig.origin, SECTOR_SIZE));
	snapshot_create(&rig.snapshot, rig.origin);
	expect_refused(append_at(&rig.snapshot, &loop_disk, RANGE_AT), &loop_disk, THROUGH);
	loop_remove(&loop_disk);

	ASSERT_EQ(shell("mkfs.ext4 -q -F -E nodiscard %s", rig.origin->path), 0);
	ASSERT_OK(mount(rig.origin->path, OWNER_DIR, "ext4", 0, NULL));
	ASSERT(file_reserve(file.path, 9 * MIB));
	log_clear();
	ASSERT_OK(loop_create(&loop_disk, &file, SECTOR_SIZE));
	expect_refused(append_at(&rig.snapshot, &loop_disk, RANGE_AT), &loop_disk, THROUGH);
}

/* The module learns only when it stores where the device leads by now. */
static void test_storage_that_is_led_to_the_origin(void)
{
	row("its storage turns out to lie on the origin, through another driver");
	rig_take(STORAGE_BYTES / 2);
	snprintf(rig.storage_gate.lower, sizeof(rig.storage_gate.lower), "%s",
		 rig.origin->path);
	rig.storage_gate.nr_sectors = rig.origin->nr_bytes / SECTOR_SIZE;
	gate_mend(&rig.storage_gate);
	log_clear();
	/* What is stored goes over the origin, to where nobody knows of it. */
	origin_write(BLOCK_BYTES, ORIGIN_BYTES - MIB);
	expect_lost(&rig.snapshot, rig.origin, ELOOP);
	EXPECT(count_in_log("its storage lies on it, through another driver\n") >= 1);
}

/* --- what is left of an origin --- */

static void test_whole_origin_is_no_storage(void)
{
	const uint64_t half = ORIGIN_BYTES / 2 / SECTOR_SIZE;

	snapshot_create(&rig.snapshot, rig.origin);
	expect_refused(append_range(&rig.snapshot, rig.origin, 0, 2 * half), rig.origin,
		       "nothing would be left of an origin");
	EXPECT_OK(append_range(&rig.snapshot, rig.origin, 0, half));
	log_clear();
	expect_refused(append_range(&rig.snapshot, rig.origin, half, half), rig.origin,
		       "nothing would be left of an origin");
	EXPECT_OK(append_range(&rig.snapshot, rig.origin, half + 2048, half - 2048));
	snapshot_take(&rig.snapshot);
}

/* --- the edges of a device --- */

/* Take a snapshot with all of the spare disk as storage, and have all of that filled. */
static void fill_spare_disk(void)
{
	const uint64_t nr_sectors = rig.spare_disk.nr_bytes / SECTOR_SIZE;
	const uint64_t end = now_ns() + PATIENCE_MS * 1000000ULL;

	ASSERT(fill_direct(rig.spare_disk.path, 0x5a, rig.spare_disk.nr_bytes, 0));
	snapshot_create(&rig.snapshot, rig.storage);
	ASSERT_OK(append_range(&rig.snapshot, &rig.spare_disk, 0, nr_sectors));
	snapshot_take(&rig.snapshot);
	EXPECT(fill_direct(rig.storage->path, 0xa5, rig.storage->nr_bytes, 0));
	while (image_number_of(&rig.snapshot, rig.storage, "storage_free_bytes") &&
	       now_ns() < end)
		sleep_ms(5);
	EXPECT_EQ(image_number_of(&rig.snapshot, rig.storage, "storage_free_bytes"), 0);
}

static void test_edges_of_a_device_are_not_used(void)
{
	const uint64_t nr_bytes = rig.spare_disk.nr_bytes;

	fill_spare_disk();
	EXPECT_EQ(image_number_of(&rig.snapshot, rig.storage, "storage_bytes"),
		  nr_bytes - 2 * EDGE_BYTES);
	EXPECT(reads_as(rig.spare_disk.path, 0x5a, EDGE_BYTES, 0));
	EXPECT(reads_as(rig.spare_disk.path, 0x5a, EDGE_BYTES, nr_bytes - EDGE_BYTES));
}

static void test_edges_of_a_partition_are_not_used(void)
{
	const uint64_t from = 8 * MIB, to = 20 * MIB;
	struct disk part;

	ASSERT_OK(partition_add(&rig.spare_disk, &part, from / SECTOR_SIZE,
				(to - from) / SECTOR_SIZE));
	fill_spare_disk();
	EXPECT_EQ(image_number_of(&rig.snapshot, rig.storage, "storage_bytes"),
		  rig.spare_disk.nr_bytes - 4 * EDGE_BYTES);
	EXPECT(reads_as(rig.spare_disk.path, 0x5a, EDGE_BYTES, from));
	EXPECT(reads_as(rig.spare_disk.path, 0x5a, EDGE_BYTES, to - EDGE_BYTES));
}

/* It belongs to the storage all the same. */
static void test_edge_alone_is_no_storage(void)
{
	snapshot_create(&rig.snapshot, rig.origin);
	EXPECT_OK(append_range(&rig.snapshot, &rig.spare_disk, 0, EDGE_BYTES / SECTOR_SIZE));
	EXPECT_ERR(control_snapshot_take(ctl, &rig.snapshot.id), EFAULT);
	EXPECT_ERR(append_range(&rig.snapshot, &rig.spare_disk, 8, 8), EINVAL);
	EXPECT_OK(append_range(&rig.snapshot, &rig.spare_disk, EDGE_BYTES / SECTOR_SIZE, 8));
	EXPECT_OK(control_snapshot_take(ctl, &rig.snapshot.id));
}

/* The image keeps what is at the edges of an origin that stores on itself. */
static void test_edges_of_an_origin_stay_in_its_image(void)
{
	ledger_open(&ledger, rig.origin);
	snapshot_create(&rig.snapshot, rig.origin);
	ASSERT_OK(append_range(&rig.snapshot, rig.origin, 0, 4 * MIB / SECTOR_SIZE));
	snapshot_take(&rig.snapshot);
	ledger_take(&ledger);
	origin_write(EDGE_BYTES, 0);
	wait_until_stored();
	memset(ledger.taken + EDGE_BYTES, 0, 3 * MIB);
	ASSERT(read_direct(rig.origin->path, ledger.now + EDGE_BYTES, 3 * MIB, EDGE_BYTES));
	expect_sound();
}

/* --- the reasons --- */

static void test_refusals_have_their_reasons(void)
{
	struct blk_snap_block_range twins[] = { { 4096, 4096 }, { 6144, 4096 } };
	const uint64_t end = rig.spare_disk.nr_bytes / SECTOR_SIZE;
	const struct disk *spare = &rig.spare_disk;
	struct null_disk_options large = { .block_bytes = 4096 };
	struct disk other;

	snapshot_create(&rig.snapshot, rig.origin);
	expect_refused(append_range(&rig.snapshot, spare, 4096, 0), spare, "a range is empty");
	expect_refused(append_range(&rig.snapshot, spare, end - 8, 16), spare,
		       "a range ends after its end");
	expect_refused(control_snapshot_append_storage(ctl, &rig.snapshot.id, spare->id, twins, 2),
		       spare, "ranges overlap each other");
	ASSERT_OK(append_range(&rig.snapshot, spare, 4096, 4096));
	expect_refused(append_range(&rig.snapshot, spare, 8000, 4096), spare,
		       "a range is storage already");
	/* The half of an origin, twice, is not all of it. */
	ASSERT_OK(append_range(&rig.snapshot, rig.origin, 0, ORIGIN_BYTES / 2 / SECTOR_SIZE));
	expect_refused(append_range(&rig.snapshot, rig.origin, 0, ORIGIN_BYTES / 2 / SECTOR_SIZE),
		       rig.origin, "a range is storage already");
	ASSERT_OK(null_disk_create(&other, "nullb3", 16, &large));
	expect_refused(append_range(&rig.snapshot, &other, 4096, 4096), &other,
		       "its logical blocks are larger than those of an origin");
	null_disk_destroy(&other);
}

static void test_read_only_and_image_have_their_reasons(void)
{
	struct disk image;
	char line[160];
	int on = 1, fd;

	snapshot_now(&rig.snapshot, rig.origin, rig.storage);
	disk_find(&image, image_of(&rig.snapshot, rig.origin));
	expect_refused(append_range(&rig.snapshot, &image, 4096, 4096), &image, "it is an image");
	ASSERT_OK(linear_create(&above, "owner-above", &image));
	expect_refused(append_range(&rig.snapshot, &above, 4096, 4096), &above,
		       "it lies on an image");
	ASSERT_OK(mapping_remove("owner-above"));
	fd = ASSERT_OK(open(rig.spare_disk.path, O_RDONLY | O_CLOEXEC));
	ASSERT_OK(ioctl(fd, BLKROSET, &on));
	EXPECT_ERR(append_range(&rig.snapshot, &rig.spare_disk, 4096, 4096), EROFS);
	on = 0;
	ASSERT_OK(ioctl(fd, BLKROSET, &on));
	close(fd);
	snprintf(line, sizeof(line), "%u:%u: cannot be storage: it is read-only\n",
		 rig.spare_disk.id.mj, rig.spare_disk.id.mn);
	EXPECT_EQ(count_in_log(line), 1);
}

const struct ktap_test owner_tests[] = {
	KTAP_TEST(test_storage_device_is_in_use),
	KTAP_TEST(test_snapshots_share_a_storage_device),
	KTAP_TEST(test_refused_append_claims_nothing),
	KTAP_TEST(test_storage_in_a_partition_is_in_use),
	KTAP_TEST(test_device_of_somebody_else_is_shared),
	KTAP_TEST(test_origin_is_not_claimed),
	KTAP_TEST(test_storage_above_the_origin_is_refused),
	KTAP_TEST(test_storage_in_a_partition_of_the_origin_is_refused_above),
	KTAP_TEST(test_storage_on_a_loop_device_on_the_origin_is_refused),
	KTAP_SLOW_TEST(test_storage_that_is_led_to_the_origin),
	KTAP_TEST(test_whole_origin_is_no_storage),
	KTAP_TEST(test_edges_of_a_device_are_not_used),
	KTAP_TEST(test_edges_of_a_partition_are_not_used),
	KTAP_TEST(test_edge_alone_is_no_storage),
	KTAP_TEST(test_edges_of_an_origin_stay_in_its_image),
	KTAP_TEST(test_refusals_have_their_reasons),
	KTAP_TEST(test_read_only_and_image_have_their_reasons),
	KTAP_END
};
