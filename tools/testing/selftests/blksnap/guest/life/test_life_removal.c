// SPDX-License-Identifier: GPL-2.0
/*
 * Disks that are taken away: origins and storage of every kind
 *
 * An origin that goes takes its image with it, except for what has been copied;
 * a storage that goes takes the image, and the origin goes on.  Nobody hangs, no
 * image ever shows other data, and what comes back under the old number is
 * another disk.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test_life_aio.h"
#include "test_life_kind.h"
#include "test_life_traffic.h"

#define MNT "/tmp/life-mnt"

static const struct life_kind *kind;	/* of the running suite */
static struct disk victim;

static void kind_set_up(const struct life_kind *the_kind)
{
	kind = the_kind;
	anchored_set_up();
}

void null_set_up(void)
{
	kind_set_up(&null_kind);
}

void loop_set_up(void)
{
	kind_set_up(&loop_kind);
}

void dm_set_up(void)
{
	kind_set_up(&dm_kind);
}

void scsi_set_up(void)
{
	kind_set_up(&scsi_kind);
}

void virtio_set_up(void)
{
	kind_set_up(&virtio_kind);
}

void removal_tear_down(void)
{
	life_tear_down();
	umount2(MNT, MNT_DETACH);
	kind->unmake(&victim);
	memset(&victim, 0, sizeof(victim));
}

/* A disk with old data; false if there is none of this kind. */
static bool make_victim(void)
{
	if (!kind->make(&victim))
		return false;
	ASSERT(victim.nr_bytes > TRAFFIC_BYTES);
	ASSERT(fill_direct(victim.path, OLD_BYTE, TRAFFIC_BYTES, 0));
	return true;
}

static void expect_no_error(const char *error)
{
	if (error)
		FAIL("%s", error);
}

static void expect_empty_row(const struct disk *disk)
{
	struct blk_snap_cbt_info info;

	if (EXPECT(tracker_info(disk, &info)))
		EXPECT(is_filled_with((char *)&info + sizeof(info.dev_id), 0,
				      sizeof(info) - sizeof(info.dev_id)));
}

/* --- without a snapshot --- */

static void test_tracked_origin_leaves_an_empty_row(void)
{
	struct blk_snap_block_range range = { 0, 8 };
	struct snapshot snapshot;
	uint8_t byte;

	if (!make_victim())
		return;
	snapshot_now(&snapshot, &victim, &storage);
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	kind->take_away(&victim);
	expect_empty_row(&victim);
	EXPECT_ERR(control_tracker_read_cbt_map(ctl, victim.id, 0, 1, &byte),
		   ENODATA);
	EXPECT_ERR(control_tracker_mark_dirty_blocks(ctl, victim.id, &range, 1),
		   ENODEV);
	EXPECT_OK(control_tracker_remove(ctl, victim.id));
	EXPECT_ERR(control_tracker_remove(ctl, victim.id), ENODATA);
}

static void test_created_snapshot_cannot_be_taken(void)
{
	struct snapshot snapshot;

	if (!make_victim())
		return;
	snapshot_create(&snapshot, &victim);
	ASSERT_OK(append_range(&snapshot, &storage, 2048, 2048));
	kind->take_away(&victim);
	EXPECT(control_snapshot_take(ctl, &snapshot.id) < 0);
	EXPECT_ERR(control_tracker_remove(ctl, victim.id), EBUSY);
	expect_empty_row(&victim);
	EXPECT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	EXPECT_OK(control_tracker_remove(ctl, victim.id));
}

/* --- with a snapshot --- */

/* What is copied is in the storage, what is not is nowhere any more. */
static void expect_image_of_copies(const char *path, uint64_t copied_bytes)
{
	char *buffer = alloc_aligned(4096);
	int fd = ASSERT_OK(open(path, O_RDONLY | O_DIRECT));

	EXPECT(reads_as(path, OLD_BYTE, copied_bytes, 0));
	EXPECT_EQ(pread(fd, buffer, 4096, victim.nr_bytes - 4096), -1);
	close(fd);
	free(buffer);
}

static void test_taken_origin_leaves_what_was_copied(void)
{
	struct snapshot snapshot;
	const char *image;

	if (!make_victim())
		return;
	snapshot_now(&snapshot, &victim, &storage);
	image = image_of(&snapshot, &victim);
	ASSERT(fill_direct(victim.path, NEW_BYTE, MIB, 0));
	kind->take_away(&victim);
	if (kind->stays_while_open)
		EXPECT(reads_as(image, OLD_BYTE, TRAFFIC_BYTES, 0));
	else if (kind->changes_table)
		EXPECT_EQ(image_attribute(image, "error"), ESTALE);
	else
		expect_image_of_copies(image, MIB);
	EXPECT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	/* Now nobody has it open any more. */
	kind->take_away(&victim);
	expect_empty_row(&victim);
	EXPECT_OK(control_tracker_remove(ctl, victim.id));
}

static void test_traffic_ends_with_its_origin(void)
{
	struct traffic *traffic = traffic_now();
	struct snapshot snapshot;

	if (!make_victim())
		return;
	snapshot_now(&snapshot, &victim, &storage);
	traffic_start(victim.path, image_of(&snapshot, &victim), false);
	EXPECT(traffic_wait(&traffic->nr_written, 20));
	EXPECT(traffic_wait(&traffic->nr_read, 20));
	atomic_store(&traffic->may_writes_fail, true);
	atomic_store(&traffic->may_reads_fail, true);
	kind->take_away(&victim);
	if (!kind->stays_while_open) {
		EXPECT(traffic_wait(&traffic->nr_failed_writes, 20));
		EXPECT(traffic_wait(&traffic->nr_failed_reads, 20));
	}
	EXPECT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	EXPECT(traffic_wait(&traffic->nr_failed_reads, 20));
	expect_no_error(traffic_stop());
	EXPECT_OK(control_tracker_remove(ctl, victim.id));
}

/* Buffered writes, some of them held back by the file system until now. */
static int write_files(void)
{
	char block[4096];
	unsigned int i;
	int fd;

	memset(block, NEW_BYTE, sizeof(block));
	fd = open(MNT "/file", O_WRONLY | O_CREAT, 0600);
	for (i = 0; fd >= 0; i++) {
		if (write(fd, block, sizeof(block)) != sizeof(block) ||
		    (i % 16 == 0 && fsync(fd)))
			break;
		if (i % 256 == 0)
			lseek(fd, 0, SEEK_SET);
	}
	return errno;
}

static bool make_filesystem(void)
{
	kernel_module_load("ext4");
	mkdir(MNT, 0700);
	if (shell("mkfs.ext4 -q -F %s >/dev/null 2>&1", victim.path) ||
	    mount(victim.path, MNT, "ext4", 0, "")) {
		ktap_skip("ext4 cannot be mounted");
		return false;
	}
	return true;
}

static void test_mounted_origin_can_go(void)
{
	struct snapshot snapshot;
	int status = 0;
	pid_t writer;

	if (!make_victim() || !make_filesystem())
		return;
	snapshot_now(&snapshot, &victim, &storage);
	fflush(stdout);
	writer = fork();
	if (!writer)
		_exit(write_files());
	sleep_ms(300);
	kind->take_away(&victim);
	if (kind->stays_while_open)
		kill(writer, SIGKILL);
	EXPECT_EQ(waitpid(writer, &status, 0), writer);
	EXPECT(kind->stays_while_open || WEXITSTATUS(status));
	EXPECT_OK(umount(MNT));
	EXPECT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	EXPECT_OK(control_tracker_remove(ctl, victim.id));
}

/* --- what comes after --- */

/* Its writes are nobody's business, and it is tracked from the beginning. */
static void test_disk_that_comes_back_is_another_one(void)
{
	struct blk_snap_cbt_info before, after;
	struct snapshot snapshot;

	if (!make_victim())
		return;
	snapshot_now(&snapshot, &victim, &storage);
	ASSERT(tracker_info(&victim, &before));
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	kind->take_away(&victim);
	ASSERT(make_victim());
	if (tracker_info(&victim, &after))
		EXPECT_EQ(after.blk_count, 0);
	snapshot_create(&snapshot, &victim);
	ASSERT(tracker_info(&victim, &after));
	EXPECT(memcmp(&before.generation_id, &after.generation_id,
		      sizeof(after.generation_id)));
	EXPECT_EQ(after.snap_number, 0);
	EXPECT_EQ(after.device_capacity, victim.nr_bytes);
}

static void test_created_snapshot_is_not_taken_of_another_disk(void)
{
	struct snapshot snapshot;

	if (!make_victim())
		return;
	snapshot_create(&snapshot, &victim);
	ASSERT_OK(append_range(&snapshot, &storage, 2048, 2048));
	kind->take_away(&victim);
	ASSERT(make_victim());
	EXPECT(control_snapshot_take(ctl, &snapshot.id) < 0);
	EXPECT_OK(control_snapshot_destroy(ctl, &snapshot.id));
}

/*
 * The image of the old disk must not take over what the new one holds.  This is
 * for kinds of which there may be a new one while the old one is open.
 */
static void test_image_does_not_show_another_disk(void)
{
	struct traffic *traffic = traffic_now();
	struct snapshot snapshot;
	const char *image;

	if (!make_victim())
		return;
	snapshot_now(&snapshot, &victim, &storage);
	image = image_of(&snapshot, &victim);
	kind->take_away(&victim);
	ASSERT(kind->make(&victim));
	ASSERT(fill_direct(victim.path, NEW_BYTE, TRAFFIC_BYTES, 0));
	traffic_start(victim.path, image, true);
	EXPECT(traffic_wait(&traffic->nr_written, 100));
	EXPECT(traffic_wait(&traffic->nr_failed_reads, 20));
	EXPECT_EQ(atomic_load(&traffic->nr_read), 0);
	expect_no_error(traffic_stop());
}

/* --- writes that are held or kept at that moment --- */

static const struct null_disk_options slow = { .completion_ns = 400000000 };

static int open_slow_victim(void)
{
	ASSERT_OK(null_disk_create(&victim, "nullb5", DISK_MIB, &slow));
	return ASSERT_OK(open(victim.path, O_WRONLY | O_DIRECT | O_CLOEXEC));
}

static void test_held_writes_end_with_their_origin(void)
{
	struct snapshot snapshot;
	struct aio aio;
	int fd;

	fd = open_slow_victim();
	snapshot_now(&snapshot, &victim, &storage);
	ASSERT(aio_start(&aio, fd, 0, NEW_BYTE));
	sleep_ms(50);
	EXPECT(held_writes(image_of(&snapshot, &victim)) > 0);
	null_disk_destroy(&victim);
	EXPECT(aio_finish(&aio));
	ktap_note("%u of %u held writes failed with the disk", aio.nr_failed,
		  AIO_WRITES);
	EXPECT_EQ(held_writes(image_of(&snapshot, &victim)), 0);
	close(fd);
	EXPECT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	EXPECT_OK(control_tracker_remove(ctl, victim.id));
}

static void *take_in_thread(void *data)
{
	struct snapshot *snapshot = data;

	return (void *)(intptr_t)control_snapshot_take(ctl, &snapshot->id);
}

/* The first writes are waited for by the take, the others wait for the take. */
static void test_kept_writes_end_with_their_origin(void)
{
	struct aio first, others;
	struct snapshot snapshot;
	pthread_t thread;
	void *ret;
	int fd;

	fd = open_slow_victim();
	snapshot_create(&snapshot, &victim);
	ASSERT_OK(append_range(&snapshot, &storage, 2048, 2048));
	ASSERT(aio_start(&first, fd, 0, NEW_BYTE));
	ASSERT_EQ(pthread_create(&thread, NULL, take_in_thread, &snapshot), 0);
	sleep_ms(200);
	ASSERT(aio_start(&others, fd, MIB, NEW_BYTE));
	null_disk_destroy(&victim);
	EXPECT(aio_finish(&first));
	EXPECT(aio_finish(&others));
	pthread_join(thread, &ret);
	ktap_note("the take returned %d, %u of the later writes failed",
		  (int)(intptr_t)ret, others.nr_failed);
	close(fd);
	EXPECT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	EXPECT_OK(control_tracker_remove(ctl, victim.id));
}

/* --- the storage --- */

static unsigned int count_corrupted(const struct snapshot *snapshot)
{
	const struct blk_snap_event_corrupted *lost;
	struct blk_snap_snapshot_event event;
	unsigned int nr = 0;

	lost = (const struct blk_snap_event_corrupted *)event.data;
	while (!next_event(snapshot, 200, &event)) {
		if (event.code != blk_snap_event_code_corrupted)
			continue;
		nr++;
		EXPECT(!memcmp(&lost->orig_dev_id, &origin.id, sizeof(origin.id)));
		EXPECT(lost->err_code > 0);
	}
	return nr;
}

static void test_storage_takes_only_the_image_with_it(void)
{
	struct traffic *traffic = traffic_now();
	struct snapshot snapshot;
	const char *image;

	if (!make_victim())
		return;
	ASSERT(fill_direct(origin.path, OLD_BYTE, TRAFFIC_BYTES, 0));
	snapshot_now(&snapshot, &origin, &victim);
	image = image_of(&snapshot, &origin);
	traffic_start(origin.path, image, false);
	EXPECT(traffic_wait(&traffic->nr_written, 50));
	atomic_store(&traffic->may_reads_fail, !kind->stays_while_open);
	kind->take_away(&victim);
	/* Something to be stored, whatever the others have written so far. */
	ASSERT(fill_direct(origin.path, NEW_BYTE, MIB, TRAFFIC_BYTES));
	EXPECT(traffic_wait(&traffic->nr_written, 50));
	if (!kind->stays_while_open)
		EXPECT(traffic_wait(&traffic->nr_failed_reads, 20));
	else
		EXPECT(traffic_wait(&traffic->nr_read, 20));
	EXPECT_EQ(count_corrupted(&snapshot), !kind->stays_while_open);
	expect_no_error(traffic_stop());
	EXPECT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	EXPECT(fill_direct(origin.path, NEW_BYTE, MIB, 0));
}

static void test_storage_may_go_before_the_take(void)
{
	struct snapshot snapshot;
	int ret;

	if (!make_victim())
		return;
	snapshot_create(&snapshot, &origin);
	ASSERT_OK(append_range(&snapshot, &victim, 2048, 2048));
	kind->take_away(&victim);
	ret = control_snapshot_take(ctl, &snapshot.id);
	ktap_note("%s: the take returned %d", kind->name, ret);
	EXPECT(fill_direct(origin.path, NEW_BYTE, MIB, 0));
	EXPECT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	EXPECT(reads_as(origin.path, NEW_BYTE, MIB, 0));
}

const struct ktap_test origin_removal_tests[] = {
	KTAP_TEST(test_tracked_origin_leaves_an_empty_row),
	KTAP_TEST(test_created_snapshot_cannot_be_taken),
	KTAP_TEST(test_taken_origin_leaves_what_was_copied),
	KTAP_TEST(test_traffic_ends_with_its_origin),
	KTAP_TEST(test_mounted_origin_can_go),
	KTAP_TEST(test_disk_that_comes_back_is_another_one),
	KTAP_TEST(test_created_snapshot_is_not_taken_of_another_disk),
	KTAP_END
};

/* For disks that a bus takes away, which is all the same to who tracks them. */
const struct ktap_test bus_removal_tests[] = {
	KTAP_TEST(test_taken_origin_leaves_what_was_copied),
	KTAP_TEST(test_traffic_ends_with_its_origin),
	KTAP_TEST(test_mounted_origin_can_go),
	KTAP_TEST(test_disk_that_comes_back_is_another_one),
	KTAP_END
};

const struct ktap_test replacement_tests[] = {
	KTAP_TEST(test_image_does_not_show_another_disk),
	KTAP_END
};

const struct ktap_test held_removal_tests[] = {
	KTAP_TEST(test_held_writes_end_with_their_origin),
	KTAP_TEST(test_kept_writes_end_with_their_origin),
	KTAP_END
};

const struct ktap_test storage_removal_tests[] = {
	KTAP_TEST(test_storage_takes_only_the_image_with_it),
	KTAP_TEST(test_storage_may_go_before_the_take),
	KTAP_END
};
