// SPDX-License-Identifier: GPL-2.0
/*
 * An administrator at work on the storage of a snapshot
 *
 * The storage is a pinned file among others of a filesystem, and a disk.  While the
 * snapshot is held and its origin is written, somebody does at random what can be done to
 * both, and to the other files.  What would change the storage has to fail; of the rest
 * anything may happen.  In the end the image has to be right, and so has every other file,
 * from the disk.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/blkpg.h>
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

#define ADMIN_DIR "/tmp/storage-admin"
#define STORE ADMIN_DIR "/store"
#define FILLER ADMIN_DIR "/filler"
#define MOVED ADMIN_DIR "/moved"
#define LINKED ADMIN_DIR "/linked"
#define STORE_BYTES (6 * MIB)
#define NR_OTHERS 24U
#define OTHER_BYTES (64 * KIB)
#define ACTIONS_PER_LIFE 60U

unsigned int admin_seconds = 15;

static struct {
	struct disk disk;
	const char *type;
	struct random random;
	uint64_t versions[NR_OTHERS];	/* 0: there is no such file */
	uint64_t last_version;
	struct file_extents extents;
	unsigned int nr_lives, nr_actions, nr_failed;
} admin;

/* --- the other files --- */

static void other_path(char path[64], unsigned int nr)
{
	snprintf(path, 64, ADMIN_DIR "/other%u", nr);
}

static void other_content(uint64_t *words, unsigned int nr, uint64_t version)
{
	unsigned int i;

	for (i = 0; i < OTHER_BYTES / sizeof(*words); i++)
		words[i] = version << 24 | nr << 16 | i;
}

static bool other_write(unsigned int nr, uint64_t version)
{
	static uint64_t words[OTHER_BYTES / 8];
	char path[64];
	bool ok;
	int fd;

	other_path(path, nr);
	other_content(words, nr, version);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return false;
	ok = write(fd, words, OTHER_BYTES) == (ssize_t)OTHER_BYTES;
	ok &= !close(fd);
	return ok;
}

static void expect_other(unsigned int nr)
{
	static uint64_t want[OTHER_BYTES / 8], have[OTHER_BYTES / 8];
	char path[64];
	int fd;

	other_path(path, nr);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (!admin.versions[nr]) {
		EXPECT_EQ(fd, -1);
		return;
	}
	EXPECT(fd >= 0);
	other_content(want, nr, admin.versions[nr]);
	memset(have, 0, sizeof(have));
	if (read(fd, have, OTHER_BYTES) != (ssize_t)OTHER_BYTES ||
	    memcmp(have, want, OTHER_BYTES))
		FAIL("%s is not what it was", path);
	close(fd);
}

static void expect_others(void)
{
	unsigned int i;

	sync();
	write_text("/proc/sys/vm/drop_caches", "3");
	for (i = 0; i < NR_OTHERS; i++)
		expect_other(i);
}

/* --- what is done to the file: all of it has to fail --- */

static int in_store(int flags, int (*fn)(int fd))
{
	int fd = open(STORE, flags | O_CLOEXEC);
	int ret;

	if (fd < 0)
		return -1;
	ret = fn(fd);
	close(fd);
	return ret;
}

static int store_unlink(void)
{
	return unlink(STORE);
}

static int store_rename(void)
{
	return rename(STORE, MOVED);
}

static int store_rename_over(void)
{
	int fd = open(MOVED, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	close(fd);
	return rename(MOVED, STORE);
}

static int store_truncate(void)
{
	return truncate(STORE, random_below(&admin.random, 64) * BLOCK_BYTES);
}

static int store_open_truncate(void)
{
	int fd = open(STORE, O_WRONLY | O_TRUNC | O_CLOEXEC);

	if (fd >= 0)
		close(fd);
	return fd < 0 ? -1 : 0;
}

static int fallocate_somehow(int fd)
{
	static const int modes[] = {
		FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_COLLAPSE_RANGE,
		FALLOC_FL_ZERO_RANGE, FALLOC_FL_INSERT_RANGE, 0,
	};

	return fallocate(fd, modes[random_below(&admin.random, ARRAY_SIZE(modes))],
			 random_below(&admin.random, 64) * BLOCK_BYTES, 16 * BLOCK_BYTES);
}

static int store_fallocate(void)
{
	return in_store(O_RDWR, fallocate_somehow);
}

static int write_a_block(int fd)
{
	static uint8_t block[BLOCK_BYTES] __attribute__((aligned(BLOCK_BYTES)));
	const off_t at = random_below(&admin.random, STORE_BYTES / BLOCK_BYTES) * BLOCK_BYTES;

	return pwrite(fd, block, sizeof(block), at) < 0 ? -1 : 0;
}

static int store_write(void)
{
	return in_store(O_RDWR, write_a_block);
}

static int store_write_direct(void)
{
	return in_store(O_RDWR | O_DIRECT, write_a_block);
}

static int clone_other(int fd)
{
	char path[64];
	int from, ret;

	other_path(path, random_below(&admin.random, NR_OTHERS));
	from = open(path, O_RDONLY | O_CLOEXEC);
	if (from < 0)
		return -1;
	ret = random_below(&admin.random, 2) ?
	      ioctl(fd, FICLONE, from) :
	      copy_file_range(from, NULL, fd, NULL, OTHER_BYTES, 0) < 0 ? -1 : 0;
	close(from);
	return ret;
}

static int store_clone(void)
{
	return in_store(O_RDWR, clone_other);
}

static int store_swapon(void)
{
	return swapon(STORE, 0);
}

/* In a child, as the signal would end it. */
static int write_to_mapping(int fd)
{
	char *page = mmap(NULL, BLOCK_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	int status = 0;
	pid_t child;

	if (page == MAP_FAILED)
		return -1;
	fflush(stdout);
	child = fork();
	if (!child) {
		page[0] = 1;
		_exit(0);
	}
	waitpid(child, &status, 0);
	munmap(page, BLOCK_BYTES);
	return WIFSIGNALED(status) ? -1 : 0;
}

static int store_map(void)
{
	return in_store(O_RDWR, write_to_mapping);
}

static int filesystem_unmount(void)
{
	return umount(ADMIN_DIR);
}

/* --- what is done to the disk: likewise --- */

static int disk_claim(void)
{
	int fd = open(rig.spare_disk.path, O_RDWR | O_EXCL | O_CLOEXEC);

	if (fd >= 0)
		close(fd);
	return fd < 0 ? -1 : 0;
}

static int disk_mkfs(void)
{
	return shell("mkfs.ext4 -q -F %s >/dev/null 2>&1", rig.spare_disk.path) ? -1 : 0;
}

static int disk_mount(void)
{
	return mount(rig.spare_disk.path, ADMIN_DIR, "ext4", 0, NULL);
}

static int disk_swapon(void)
{
	return swapon(rig.spare_disk.path, 0);
}

static int disk_map(void)
{
	const char *quietly = ">/dev/null 2>&1";

	return shell("dmsetup create --noudevsync admin --table '0 8192 linear %s 0' %s",
		     rig.spare_disk.path, quietly) ? -1 : 0;
}

/* --- what may be done --- */

static int other_change(void)
{
	const unsigned int nr = random_below(&admin.random, NR_OTHERS);

	admin.versions[nr] = ++admin.last_version;
	EXPECT(other_write(nr, admin.versions[nr]));
	return 0;
}

static int other_delete(void)
{
	const unsigned int nr = random_below(&admin.random, NR_OTHERS);
	char path[64];

	other_path(path, nr);
	unlink(path);
	admin.versions[nr] = 0;
	return 0;
}

/* All that is left of the filesystem, and given back. */
static int filesystem_fill(void)
{
	static uint8_t piece[256 * KIB];
	int fd = open(FILLER, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	unsigned int nr = 0;

	while (fd >= 0 && nr++ < 64 && write(fd, piece, sizeof(piece)) > 0)
		;
	close(fd);
	sync();
	unlink(FILLER);
	return 0;
}

static int filesystem_trim(void)
{
	struct fstrim_range range = { .len = UINT64_MAX };
	int fd = open(ADMIN_DIR, O_RDONLY | O_CLOEXEC);

	ioctl(fd, FITRIM, &range);
	close(fd);
	return 0;
}

static int filesystem_freeze(void)
{
	int fd = open(ADMIN_DIR, O_RDONLY | O_CLOEXEC);

	ioctl(fd, FIFREEZE, 0);
	origin_write(64 * KIB, 0);
	ioctl(fd, FITHAW, 0);
	close(fd);
	return 0;
}

static int filesystem_remount(void)
{
	EXPECT_OK(mount(NULL, ADMIN_DIR, NULL, MS_REMOUNT | MS_RDONLY, NULL));
	origin_write(64 * KIB, MIB);
	EXPECT_OK(mount(NULL, ADMIN_DIR, NULL, MS_REMOUNT, NULL));
	return 0;
}

static int caches_drop(void)
{
	sync();
	write_text("/proc/sys/vm/drop_caches", "3");
	return 0;
}

/* It stays: deleting it would be deleting the file. */
static int store_link(void)
{
	link(STORE, LINKED);
	return 0;
}

static int store_chmod(void)
{
	chmod(STORE, random_below(&admin.random, 2) ? 0400 : 0600);
	return 0;
}

static int disk_rescan(void)
{
	int fd = open(rig.spare_disk.path, O_RDONLY | O_CLOEXEC);

	ioctl(fd, random_below(&admin.random, 2) ? BLKRRPART : BLKFLSBUF, 0);
	close(fd);
	return 0;
}

static const struct action {
	int (*run)(void);
	const char *name;
	bool must_fail;
} actions[] = {
	{ store_unlink, "delete the file", true },
	{ store_rename, "rename the file", true },
	{ store_rename_over, "rename another file over it", true },
	{ store_truncate, "truncate the file", true },
	{ store_open_truncate, "open it with O_TRUNC", true },
	{ store_fallocate, "fallocate in it", true },
	{ store_write, "write to it", true },
	{ store_write_direct, "write to it past the cache", true },
	{ store_clone, "copy another file into it", true },
	{ store_swapon, "swap to it", true },
	{ store_map, "write to a mapping of it", true },
	{ filesystem_unmount, "unmount its filesystem", true },
	{ disk_claim, "claim the disk", true },
	{ disk_mkfs, "make a filesystem on the disk", true },
	{ disk_mount, "mount the disk", true },
	{ disk_swapon, "swap to the disk", true },
	{ disk_map, "map the disk", true },
	{ other_change, "write another file", false },
	{ other_change, "write another file", false },
	{ other_delete, "delete another file", false },
	{ filesystem_fill, "fill the filesystem", false },
	{ filesystem_trim, "trim it", false },
	{ filesystem_freeze, "freeze it", false },
	{ filesystem_remount, "remount it", false },
	{ caches_drop, "drop the caches", false },
	{ store_link, "make a hard link", false },
	{ store_chmod, "change the mode", false },
	{ disk_rescan, "look for partitions on the disk", false },
};

static void act_once(void)
{
	const struct action *action = &actions[random_below(&admin.random, ARRAY_SIZE(actions))];
	int ret = action->run();

	admin.nr_actions++;
	admin.nr_failed += !!ret;
	if (action->must_fail && !ret)
		FAIL("it can be done: %s", action->name);
}

/* --- lives of snapshots --- */

static void admin_mount(void)
{
	ASSERT_OK(mount(admin.disk.path, ADMIN_DIR, admin.type, 0, NULL));
}

/* After each life: what the disk holds, and what the filesystem says of itself. */
static void admin_check(void)
{
	ASSERT_OK(umount(ADMIN_DIR));
	EXPECT_EQ(shell(!strcmp(admin.type, "xfs") ? "xfs_repair -n %s >/dev/null 2>&1" :
						     "e2fsck -fn %s >/dev/null 2>&1",
			admin.disk.path), 0);
	admin_mount();
	expect_others();
}

static void admin_begin_life(void)
{
	int fd;

	ASSERT(file_reserve(STORE, STORE_BYTES));
	sync();
	snapshot_create(&rig.snapshot, rig.origin);
	fd = ASSERT_OK(open(STORE, O_RDONLY | O_CLOEXEC));
	ASSERT_OK(control_snapshot_pin_file(ctl, &rig.snapshot.id, fd));
	close(fd);
	file_find_extents(STORE, &admin.extents);
	ASSERT_OK(control_snapshot_append_storage(ctl, &rig.snapshot.id, admin.disk.id,
						  admin.extents.ranges, admin.extents.nr));
	snapshot_take(&rig.snapshot);
	ledger_take(&ledger);
	/* Behind the file, so that both are used. */
	ASSERT_OK(append_range(&rig.snapshot, &rig.spare_disk, EDGE_BYTES / SECTOR_SIZE,
			       STORAGE_BYTES / SECTOR_SIZE));
}

static void admin_live(void)
{
	unsigned int i;

	admin_begin_life();
	for (i = 0; i < ACTIONS_PER_LIFE; i++) {
		origin_write((1 + random_below(&admin.random, 64)) * BLOCK_BYTES,
			     random_below(&admin.random, ORIGIN_BYTES / MIB) * MIB);
		act_once();
	}
	expect_others();
	expect_sound();
	ASSERT_OK(control_snapshot_destroy(ctl, &rig.snapshot.id));
	EXPECT_EQ(disk_claim(), 0);
	unlink(LINKED);
	if (!(admin.nr_lives % 4))
		EXPECT_OK(unlink(STORE));
	admin_check();
	admin.nr_lives++;
}

static void admin_work_on(const char *type, unsigned int nr_mib)
{
	const uint64_t end = now_ns() + admin_seconds * 1000000000ULL / 2;
	const bool is_xfs = !strcmp(type, "xfs");

	memset(&admin, 0, sizeof(admin));
	admin.type = type;
	random_init(&admin.random, ktap_options.seed);
	mkdir(ADMIN_DIR, 0755);
	if (is_xfs && (!kernel_module_load("xfs") || shell("command -v mkfs.xfs >/dev/null")))
		ktap_skip("no XFS");
	ASSERT_OK(null_disk_create(&admin.disk, "nullb3", nr_mib, NULL));
	ASSERT_EQ(shell(is_xfs ? "mkfs.xfs -q -f %s" : "mkfs.ext4 -q -F -E nodiscard %s",
			admin.disk.path), 0);
	admin_mount();
	ledger_open(&ledger, rig.origin);
	do {
		admin_live();
	} while (now_ns() < end);
	ktap_note("%s: %u snapshots, %u actions, %u of them refused", type, admin.nr_lives,
		  admin.nr_actions, admin.nr_failed);
}

static void test_administrator_at_work_on_ext4(void)
{
	admin_work_on("ext4", 48);
}

static void test_administrator_at_work_on_xfs(void)
{
	admin_work_on("xfs", 320);
}

void admin_tear_down(void)
{
	rig_tear_down();
	umount(ADMIN_DIR);
	null_disk_destroy(&admin.disk);
}

const struct ktap_test admin_tests[] = {
	KTAP_TEST(test_administrator_at_work_on_ext4),
	KTAP_SLOW_TEST(test_administrator_at_work_on_xfs),
	KTAP_END
};
