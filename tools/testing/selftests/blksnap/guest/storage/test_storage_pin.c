// SPDX-License-Identifier: GPL-2.0
/*
 * Pinned storage files
 *
 * The storage is a file of a filesystem on a disk of its own.  While a snapshot stores
 * in it, nothing that an administrator does changes, moves or frees its blocks; once the
 * snapshot is gone, all is as with any other file.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test_storage.h"

#define PIN_DIR "/tmp/storage-pin"
#define PIN_FILE PIN_DIR "/store"
#define OTHER_FILE PIN_DIR "/other"
#define PIN_BYTES (8 * MIB)

static struct disk pin_disk;
static struct file_extents pin_extents;

static int pin_path(const struct snapshot *snapshot, const char *path)
{
	int fd = ASSERT_OK(open(path, O_RDONLY | O_CLOEXEC));
	int ret = control_snapshot_pin_file(ctl, &snapshot->id, fd);

	close(fd);
	return ret;
}

/* A filesystem of the kind of the running test, with a reserved file on it. */
static void pin_make_filesystem(const char *type)
{
	const bool is_xfs = !strcmp(type, "xfs");

	if (is_xfs && (!kernel_module_load("xfs") || shell("command -v mkfs.xfs >/dev/null")))
		ktap_skip("no XFS");
	ASSERT_OK(null_disk_create(&pin_disk, "nullb3", is_xfs ? 320 : 32, NULL));
	ASSERT_EQ(shell(is_xfs ? "mkfs.xfs -q -f %s" : "mkfs.ext4 -q -F -E nodiscard %s",
			pin_disk.path), 0);
	mkdir(PIN_DIR, 0755);
	ASSERT_OK(mount(pin_disk.path, PIN_DIR, type, 0, NULL));
	ASSERT(file_reserve(PIN_FILE, PIN_BYTES));
	sync();
}

void pin_tear_down(void)
{
	swapoff(PIN_FILE);
	rig_tear_down();
	umount(PIN_DIR);
	null_disk_destroy(&pin_disk);
}

static void pin_append(void)
{
	file_find_extents(PIN_FILE, &pin_extents);
	ASSERT_OK(control_snapshot_append_storage(ctl, &rig.snapshot.id, pin_disk.id,
						  pin_extents.ranges, pin_extents.nr));
}

static void pin_take(void)
{
	ledger_open(&ledger, rig.origin);
	snapshot_create(&rig.snapshot, rig.origin);
	ASSERT_OK(pin_path(&rig.snapshot, PIN_FILE));
	pin_append();
	snapshot_take(&rig.snapshot);
	ledger_take(&ledger);
}

static void expect_call_fails(int ret, int error)
{
	EXPECT_EQ(ret, -1);
	EXPECT_EQ(errno, error);
}

static void expect_names_are_kept(void)
{
	expect_call_fails(unlink(PIN_FILE), EPERM);
	expect_call_fails(rename(PIN_FILE, PIN_DIR "/moved"), EPERM);
	ASSERT(file_reserve(OTHER_FILE, MIB));
	expect_call_fails(rename(OTHER_FILE, PIN_FILE), EPERM);
}

static void expect_blocks_are_kept(void)
{
	const int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	void *block = alloc_aligned(BLOCK_BYTES);
	int fd;

	expect_call_fails(truncate(PIN_FILE, 0), ETXTBSY);
	expect_call_fails(truncate(PIN_FILE, PIN_BYTES - BLOCK_BYTES), ETXTBSY);
	fd = ASSERT_OK(open(PIN_FILE, O_RDWR | O_CLOEXEC));
	expect_call_fails(fallocate(fd, punch, 0, MIB), ETXTBSY);
	expect_call_fails(fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, MIB), ETXTBSY);
	expect_call_fails(fallocate(fd, FALLOC_FL_ZERO_RANGE, 0, MIB), ETXTBSY);
	expect_call_fails(pwrite(fd, "x", 1, 0), ETXTBSY);
	close(fd);
	fd = ASSERT_OK(open(PIN_FILE, O_RDWR | O_DIRECT | O_CLOEXEC));
	expect_call_fails(pwrite(fd, block, BLOCK_BYTES, 0), ETXTBSY);
	close(fd);
	free(block);
}

static void expect_extents_are_the_same(void)
{
	struct file_extents now;

	file_find_extents(PIN_FILE, &now);
	EXPECT_EQ(now.nr, pin_extents.nr);
	EXPECT(!memcmp(now.ranges, pin_extents.ranges, now.nr * sizeof(now.ranges[0])));
}

/* As after the end of any program that had the file open. */
static void expect_file_is_free(const char *type)
{
	EXPECT_OK(rename(OTHER_FILE, PIN_DIR "/over"));
	EXPECT_OK(truncate(PIN_FILE, MIB));
	EXPECT_OK(unlink(PIN_FILE));
	ASSERT_OK(umount(PIN_DIR));
	EXPECT_EQ(shell(!strcmp(type, "xfs") ? "xfs_repair -n %s >/dev/null 2>&1" :
					       "e2fsck -fn %s >/dev/null 2>&1",
			pin_disk.path), 0);
}

static void check_pinned_file_keeps_names_and_blocks(const char *type)
{
	pin_make_filesystem(type);
	pin_take();
	origin_write(2 * MIB, 0);
	expect_names_are_kept();
	expect_blocks_are_kept();
	origin_write(2 * MIB, 4 * MIB);
	wait_until_stored();
	expect_extents_are_the_same();
	expect_call_fails(umount(PIN_DIR), EBUSY);
	EXPECT_OK(mount(NULL, PIN_DIR, NULL, MS_REMOUNT | MS_RDONLY, NULL));
	EXPECT_OK(mount(NULL, PIN_DIR, NULL, MS_REMOUNT, NULL));
	expect_sound();
	ASSERT_OK(control_snapshot_destroy(ctl, &rig.snapshot.id));
	expect_file_is_free(type);
}

static void test_pinned_file_on_ext4_keeps_names_and_blocks(void)
{
	check_pinned_file_keeps_names_and_blocks("ext4");
}

static void test_pinned_file_on_xfs_keeps_names_and_blocks(void)
{
	check_pinned_file_keeps_names_and_blocks("xfs");
}

/* What deleting and filling up does to a file whose blocks are storage. */
static void test_no_other_file_gets_pinned_blocks(void)
{
	uint8_t *data = alloc_aligned(MIB), *now = alloc_aligned(MIB);
	unsigned int nr = 0;
	int fd;

	fill_random(data, MIB);
	pin_make_filesystem("ext4");
	pin_take();
	EXPECT(truncate(PIN_FILE, 0) && unlink(PIN_FILE));
	fd = ASSERT_OK(open(OTHER_FILE, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	while (nr < 32 && pwrite(fd, data, MIB, nr * MIB) == (ssize_t)MIB)
		nr++;
	fsync(fd);
	origin_write(6 * MIB, 0);
	wait_until_stored();
	shell("echo 3 >/proc/sys/vm/drop_caches");
	ktap_note("the filesystem took %u MiB", nr);
	while (nr-- > 0) {
		EXPECT_EQ(pread(fd, now, MIB, nr * MIB), MIB);
		EXPECT(!memcmp(now, data, MIB));
	}
	close(fd);
	expect_sound();
	free(data);
	free(now);
}

/* Of a deleted file, too: its blocks are kept as long as somebody has it open. */
static void test_deleted_file_can_be_pinned(void)
{
	int fd;

	pin_make_filesystem("ext4");
	file_find_extents(PIN_FILE, &pin_extents);
	snapshot_create(&rig.snapshot, rig.origin);
	fd = ASSERT_OK(open(PIN_FILE, O_RDWR | O_CLOEXEC));
	ASSERT_OK(unlink(PIN_FILE));
	EXPECT_OK(control_snapshot_pin_file(ctl, &rig.snapshot.id, fd));
	close(fd);
	EXPECT(!file_reserve(OTHER_FILE, 24 * MIB));
	ASSERT_OK(control_snapshot_destroy(ctl, &rig.snapshot.id));
	EXPECT(file_reserve(OTHER_FILE, 24 * MIB));
	EXPECT_OK(umount(PIN_DIR));
}

static void test_pin_belongs_to_one_snapshot(void)
{
	struct snapshot other;

	pin_make_filesystem("ext4");
	snapshot_create(&rig.snapshot, rig.origin);
	snapshot_create(&other, &rig.spare_disk);
	EXPECT_OK(pin_path(&rig.snapshot, PIN_FILE));
	EXPECT_OK(pin_path(&rig.snapshot, PIN_FILE));
	EXPECT_ERR(pin_path(&other, PIN_FILE), EBUSY);
	ASSERT(file_reserve(OTHER_FILE, MIB));
	EXPECT_OK(pin_path(&other, OTHER_FILE));
	pin_append();
	snapshot_take(&rig.snapshot);
	EXPECT_OK(pin_path(&rig.snapshot, PIN_FILE));
	EXPECT_ERR(pin_path(&rig.snapshot, OTHER_FILE), EBUSY);
	ASSERT_OK(control_snapshot_destroy(ctl, &other.id));
	/* After the take as before it. */
	EXPECT_OK(pin_path(&rig.snapshot, OTHER_FILE));
	expect_call_fails(unlink(OTHER_FILE), EPERM);
	ASSERT_OK(control_snapshot_destroy(ctl, &rig.snapshot.id));
	EXPECT_OK(unlink(OTHER_FILE));
	EXPECT_OK(unlink(PIN_FILE));
}

static void test_swap_file_cannot_be_pinned(void)
{
	uint8_t *block = alloc_aligned(PIN_BYTES);
	int fd;

	if (access("/proc/swaps", F_OK))
		ktap_skip("the kernel does not swap");
	pin_make_filesystem("ext4");
	if (shell("mkswap %s >/dev/null", PIN_FILE) || swapon(PIN_FILE, 0)) {
		/* Swapping needs written blocks on some kernels. */
		fd = ASSERT_OK(open(PIN_FILE, O_WRONLY | O_CLOEXEC));
		ASSERT_EQ(pwrite(fd, block, PIN_BYTES, 0), PIN_BYTES);
		ASSERT_OK(fsync(fd));
		close(fd);
		ASSERT_EQ(shell("mkswap %s >/dev/null", PIN_FILE), 0);
		ASSERT_OK(swapon(PIN_FILE, 0));
	}
	free(block);
	snapshot_create(&rig.snapshot, rig.origin);
	EXPECT_ERR(pin_path(&rig.snapshot, PIN_FILE), EBUSY);
	ASSERT_OK(swapoff(PIN_FILE));
	EXPECT_OK(pin_path(&rig.snapshot, PIN_FILE));
	expect_call_fails(swapon(PIN_FILE, 0), EBUSY);
	ASSERT_OK(control_snapshot_destroy(ctl, &rig.snapshot.id));
	EXPECT_OK(swapon(PIN_FILE, 0));
	EXPECT_OK(swapoff(PIN_FILE));
}

/* It would land on top of the copies. */
static void test_what_was_written_before_the_pin_is_on_the_disk_after_it(void)
{
	uint8_t *data = alloc_aligned(MIB);
	int fd;

	fill_random(data, MIB);
	pin_make_filesystem("ext4");
	fd = ASSERT_OK(open(PIN_FILE, O_RDWR | O_CLOEXEC));
	ASSERT_EQ(pwrite(fd, data, MIB, 0), MIB);
	ASSERT_OK(fsync(fd));
	file_find_extents(PIN_FILE, &pin_extents);
	ASSERT(pin_extents.ranges[0].sector_count >= MIB / SECTOR_SIZE);
	fill_random(data, MIB);
	ASSERT_EQ(pwrite(fd, data, MIB, 0), MIB);
	close(fd);
	snapshot_create(&rig.snapshot, rig.origin);
	ASSERT_OK(pin_path(&rig.snapshot, PIN_FILE));
	expect_holds(pin_disk.path, data, MIB, pin_extents.ranges[0].sector_offset * SECTOR_SIZE);
	free(data);
}

/* A mapping of before is no way around: the writer gets SIGBUS. */
static void test_mapping_of_before_cannot_be_written(void)
{
	char *page;
	pid_t child;
	int fd, status;

	pin_make_filesystem("ext4");
	fd = ASSERT_OK(open(PIN_FILE, O_RDWR | O_CLOEXEC));
	page = mmap(NULL, BLOCK_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	ASSERT(page != MAP_FAILED);
	page[0] = 1;
	snapshot_create(&rig.snapshot, rig.origin);
	ASSERT_OK(pin_path(&rig.snapshot, PIN_FILE));
	fflush(stdout);
	child = ASSERT_OK(fork());
	if (!child) {
		page[0] = 2;
		_exit(0);
	}
	ASSERT_OK(waitpid(child, &status, 0));
	EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
	munmap(page, BLOCK_BYTES);
}

/* Whatever way a snapshot goes, its files are free after that. */
static void test_pin_goes_with_a_failed_snapshot(void)
{
	pin_make_filesystem("ext4");
	pin_take();
	/* More than there is storage. */
	origin_write(12 * MIB, 0);
	expect_lost(&rig.snapshot, rig.origin, ENOSPC);
	expect_call_fails(unlink(PIN_FILE), EPERM);
	ASSERT_OK(control_snapshot_destroy(ctl, &rig.snapshot.id));
	EXPECT_OK(unlink(PIN_FILE));
	EXPECT_OK(umount(PIN_DIR));
}

static void *pin_in_background(void *data)
{
	*(int *)data = pin_path(&rig.snapshot, PIN_FILE);
	return NULL;
}

/* A write to the file hangs, and has the inode's lock: the pin waits, and nobody else. */
static void test_pin_that_waits_keeps_nobody_waiting(void)
{
	struct io_job *write;
	uint64_t start_ns;
	pthread_t thread;
	int ret = 1;

	ASSERT_EQ(shell("mkfs.ext4 -q -F -E nodiscard %s", rig.storage->path), 0);
	mkdir(PIN_DIR, 0755);
	ASSERT_OK(mount(rig.storage->path, PIN_DIR, "ext4", 0, NULL));
	ASSERT(file_reserve(PIN_FILE, PIN_BYTES));
	sync();
	snapshot_create(&rig.snapshot, rig.origin);
	gate_close(&rig.storage_gate);
	write = job_start(PIN_FILE, true, MIB, 0);
	expect_job_waits(write);
	ASSERT_EQ(pthread_create(&thread, NULL, pin_in_background, &ret), 0);
	sleep_ms(CALM_MS);
	start_ns = now_ns();
	EXPECT_OK(control_snapshot_destroy(ctl, &rig.snapshot.id));
	EXPECT(now_ns() - start_ns < 1000000000ULL);
	pthread_join(thread, NULL);
	EXPECT_ERR(ret, ESRCH);
	gate_open(&rig.storage_gate);
	expect_job_ends(write, 0);
	EXPECT_OK(unlink(PIN_FILE));
	EXPECT_OK(umount(PIN_DIR));
}

const struct ktap_test pin_tests[] = {
	KTAP_TEST(test_pinned_file_on_ext4_keeps_names_and_blocks),
	KTAP_SLOW_TEST(test_pinned_file_on_xfs_keeps_names_and_blocks),
	KTAP_SLOW_TEST(test_no_other_file_gets_pinned_blocks),
	KTAP_SLOW_TEST(test_deleted_file_can_be_pinned),
	KTAP_SLOW_TEST(test_pin_belongs_to_one_snapshot),
	KTAP_SLOW_TEST(test_swap_file_cannot_be_pinned),
	KTAP_SLOW_TEST(test_what_was_written_before_the_pin_is_on_the_disk_after_it),
	KTAP_SLOW_TEST(test_mapping_of_before_cannot_be_written),
	KTAP_SLOW_TEST(test_pin_goes_with_a_failed_snapshot),
	KTAP_SLOW_TEST(test_pin_that_waits_keeps_nobody_waiting),
	KTAP_END
};
