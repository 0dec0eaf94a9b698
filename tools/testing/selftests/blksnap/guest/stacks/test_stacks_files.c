// SPDX-License-Identifier: GPL-2.0
/*
 * Filesystems on a stack, mounted and in use at the take
 *
 * Some files are written before the take, synced or not, and changed after it,
 * while two threads create, rename and delete others all the time.  The image of
 * a filesystem that was frozen has to pass its check as it is and to show all of
 * these files without a replay of its journal.  Of one that was not frozen, it
 * has to pass after a replay, and to show what was synced.  The origin has to
 * pass, too, and to show what was written last.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crew.h"
#include "test_stacks.h"

#define ORIGIN_DIR "/tmp/stacks-origin"
#define IMAGE_DIR "/tmp/stacks-image"
#define NR_FILES 12U
#define NR_SYNCED 8U		/* the rest is only in the page cache */
#define NR_BUSY_FILES 16U
#define NR_BUSY_THREADS 2U
#define BUSY_MS 300

/**
 * struct fs - what to do with a kind of filesystem; $DEV is the device
 * @name:	as mount() knows it
 * @modules:	what the guest must be able to load
 * @nr_mib:	smallest disk to use
 * @make:	make one
 * @replay:	bring one into order that was not frozen
 * @is_clean:	succeeds if there is nothing to replay but a frozen one's summary
 * @has_summary: a frozen one has left that in its journal
 * @check:	check it, and change nothing
 * @options:	mount without a replay
 * @plain_options: mount a second one with the same identifier
 * @forget:	make the kernel forget the devices of one that is not mounted
 */
struct fs {
	const char *name;
	const char *modules;
	unsigned int nr_mib;
	const char *make;
	const char *replay;
	const char *is_clean;
	bool has_summary;
	const char *check;
	const char *options;
	const char *plain_options;
	const char *forget;
};

static const struct fs filesystems[] = {
	{
		.name = "ext4", .modules = "ext4", .nr_mib = 48,
		.make = "mkfs.ext4 -q -F -E lazy_itable_init=0 $DEV",
		.replay = "e2fsck -fp $DEV || [ $? = 1 ]",
		.is_clean = "! dumpe2fs -h $DEV | grep -q needs_recovery",
		.check = "e2fsck -fn $DEV",
		.options = "noload", .plain_options = "", .forget = "true",
	}, {
		.name = "xfs", .modules = "xfs", .nr_mib = 320,
		.make = "mkfs.xfs -q -f $DEV",
		.replay = "mount -t xfs -o nouuid $DEV " IMAGE_DIR "; umount $DEV",
		.is_clean = "may='Phase|ALERT:|ignored|which|No modify|sb_fdblocks| +-'\n"
			    "! xfs_repair -n $DEV 2>&1 | grep -vE \"^($may) \" >&2",
		.has_summary = true,
		.check = "xfs_repair -n $DEV",
		.options = "norecovery,nouuid", .plain_options = "nouuid",
		.forget = "true",
	}, {
		.name = "btrfs", .modules = "btrfs", .nr_mib = 128,
		.make = "mkfs.btrfs -q -f $DEV",
		.replay = "true",
		.is_clean = "true",
		.check = "btrfs check --readonly $DEV",
		.options = "", .plain_options = "",
		.forget = "btrfs device scan --forget",
	}, {
		/* Its one note that it is mounted is taken off first. */
		.name = "vfat", .modules = "vfat nls_cp437 nls_ascii",
		.nr_mib = 48,
		.make = "mkfs.vfat -F 16 $DEV",
		.replay = "true",
		.is_clean = "true",
		.check = "printf '\\0' | dd of=$DEV bs=1 seek=37 conv=notrunc\n"
			 "fsck.vfat -n $DEV",
		.options = "", .plain_options = "", .forget = "true",
	},
};

const struct file_case file_cases[] = {
	{ "ext4", "null_blk", LAYERS_TOP, true, true },
	{ "ext4", "partition", LAYERS_BOTTOM, true, false },
	{ "ext4", "partition", LAYERS_TWO_SNAPSHOTS, true, false },
	{ "ext4", "md_raid1", LAYERS_TOP, true, false },
	{ "ext4", "lvm", LAYERS_TOP, true, false },
	{ "ext4", "lvm", LAYERS_BOTH, true, false },
	{ "ext4", "dm_linear", LAYERS_BOTTOM, false, true },
	{ "ext4", "dm_crypt", LAYERS_BOTTOM, false, false },
	{ "xfs", "null_blk", LAYERS_TOP, true, false },
	{ "xfs", "partition", LAYERS_BOTTOM, true, false },
	{ "xfs", "lvm", LAYERS_BOTH, true, false },
	{ "xfs", "md_raid1", LAYERS_BOTTOM, false, false },
	{ "btrfs", "null_blk", LAYERS_TOP, false, false },
	{ "btrfs", "dm_crypt", LAYERS_BOTTOM, false, false },
	{ "vfat", "brd", LAYERS_TOP, true, false },
	{ "vfat", "partition", LAYERS_BOTTOM, true, false },
	{ NULL, NULL, LAYERS_TOP, false, false },
};

static struct {
	const struct file_case *file_case;
	const struct fs *fs;
	struct crew crew;
	struct snapshot snapshots[2];
	unsigned int nr_snapshots;
} files;

static bool run_on(const char *device, const char *commands)
{
	char line[200];

	setenv("DEV", device, 1);
	if (!shell_line(line, sizeof(line), commands))
		return true;
	FAIL("on %s failed: %s", device, commands);
	return false;
}

/* --- the files that are checked --- */

static unsigned int file_bytes(unsigned int i)
{
	return i < NR_SYNCED ? 70000 + 1000 * i : 30000 + 1000 * i;
}

static void file_content(uint64_t *words, unsigned int i, unsigned int version)
{
	struct random random;
	unsigned int w;

	random_init(&random, ktap_options.seed + 100 * version + i);
	for (w = 0; w < file_bytes(i) / sizeof(*words) + 1; w++)
		words[w] = random_next(&random);
}

static void write_file(unsigned int i, unsigned int version, bool is_synced)
{
	static uint64_t words[20000];
	const ssize_t nr_bytes = file_bytes(i);
	char path[64];
	int fd;

	snprintf(path, sizeof(path), ORIGIN_DIR "/file%u", i);
	/* One half gets new blocks, the other is overwritten in place. */
	if (i % 2)
		unlink(path);
	fd = ASSERT_OK(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644));
	file_content(words, i, version);
	EXPECT_EQ(pwrite(fd, words, nr_bytes, 0), nr_bytes);
	if (is_synced)
		EXPECT_OK(fsync(fd));
	close(fd);
}

static void write_files(unsigned int version, unsigned int first,
			unsigned int end, bool is_synced)
{
	unsigned int i;
	int dir;

	for (i = first; i < end; i++)
		write_file(i, version, is_synced);
	dir = ASSERT_OK(open(ORIGIN_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	if (is_synced)
		EXPECT_OK(fsync(dir));
	close(dir);
}

static void compare_files(const char *dir, unsigned int version, unsigned int nr)
{
	static uint64_t want[20000], have[20000];
	unsigned int i;
	char path[64];
	ssize_t ret;
	int fd;

	for (i = 0; i < nr; i++) {
		snprintf(path, sizeof(path), "%s/file%u", dir, i);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		ret = pread(fd, have, sizeof(have), 0);
		if (fd >= 0)
			close(fd);
		file_content(want, i, version);
		if (ret != (ssize_t)file_bytes(i) || memcmp(have, want, ret))
			FAIL("%s is not as it was written (%zd bytes)", path, ret);
	}
}

/* --- the files that keep the filesystem busy --- */

static bool make_busy_file(struct crew_member *member, const char *path)
{
	const ssize_t nr_bytes = random_below(&member->random, 64 * KIB);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	bool ok;

	if (fd < 0)
		return false;
	ok = write(fd, member->buffer, nr_bytes) == nr_bytes;
	if (ok && !random_below(&member->random, 8))
		ok = !fsync(fd);
	close(fd);
	return ok;
}

static const char *keep_busy(struct crew_member *member, void *data)
{
	struct random *random = &member->random;
	char path[64], other[64];
	bool ok;

	(void)data;
	snprintf(path, sizeof(path), ORIGIN_DIR "/busy%u/%llu", member->index,
		 (unsigned long long)random_below(random, NR_BUSY_FILES));
	snprintf(other, sizeof(other), ORIGIN_DIR "/busy%u/%llu", member->index,
		 (unsigned long long)random_below(random, NR_BUSY_FILES));
	switch (random_below(random, 6)) {
	case 0:
		ok = !unlink(path) || errno == ENOENT;
		break;
	case 1:
		ok = !rename(path, other) || errno == ENOENT;
		break;
	default:
		ok = make_busy_file(member, path);
	}
	return ok ? NULL : "a file of the origin could not be changed";
}

static void start_to_be_busy(void)
{
	char path[64];
	unsigned int i;

	for (i = 0; i < NR_BUSY_THREADS; i++) {
		snprintf(path, sizeof(path), ORIGIN_DIR "/busy%u", i);
		ASSERT_OK(mkdir(path, 0755));
	}
	crew_start(&files.crew, NR_BUSY_THREADS, ktap_options.seed, keep_busy,
		   NULL);
	crew_grant(&files.crew, CREW_FOR_EVER);
	sleep_ms(BUSY_MS);
}

static void trim(void)
{
	struct fstrim_range range = { .len = UINT64_MAX };
	int fd = ASSERT_OK(open(ORIGIN_DIR, O_RDONLY | O_CLOEXEC));

	if (ioctl(fd, FITRIM, &range))
		EXPECT(errno == EOPNOTSUPP || errno == ENOTTY);
	close(fd);
}

/* --- taking and looking --- */

static void take(void)
{
	const enum layers layers = files.file_case->layers;
	const uint64_t nr = built.storage.nr_bytes / SECTOR_SIZE / 2;
	const struct disk *disks[STACK_BOTTOMS_MAX + 1];
	unsigned int i, nr_disks = 0;

	if (layers != LAYERS_BOTTOM)
		disks[nr_disks++] = &built.top;
	if (layers == LAYERS_TWO_SNAPSHOTS) {
		snapshot_create_of(&files.snapshots[files.nr_snapshots++], disks,
				   nr_disks);
		nr_disks = 0;
	}
	if (layers != LAYERS_TOP)
		for (i = 0; i < built.stack->nr_bottoms; i++)
			disks[nr_disks++] = &built.bottoms[i];
	snapshot_create_of(&files.snapshots[files.nr_snapshots++], disks,
			   nr_disks);
	for (i = 0; i < files.nr_snapshots; i++) {
		ASSERT_OK(append_range(&files.snapshots[i], &built.storage,
				       i * nr, nr));
		snapshot_take(&files.snapshots[i]);
	}
}

/* What the image of the device says that the filesystem was made on. */
static void expect_frozen(const char *image)
{
	EXPECT_EQ(read_number("/sys/block/%s/blksnap/filesystem_frozen",
			      strrchr(image, '/') + 1),
		  files.file_case->is_frozen);
}

static void mount_and_compare(const char *device, const char *options,
			      unsigned int version, unsigned int nr_files)
{
	const char *type = files.fs->name;

	if (!EXPECT_OK(mount(device, IMAGE_DIR, type, MS_RDONLY, options))) {
		compare_files(IMAGE_DIR, version, nr_files);
		EXPECT_OK(umount(IMAGE_DIR));
	}
	run_on(device, files.fs->forget);
}

static void check_image(const char *device)
{
	const bool is_frozen = files.file_case->is_frozen;
	const struct fs *fs = files.fs;

	run_on(device, is_frozen ? fs->is_clean : fs->replay);
	mount_and_compare(device, is_frozen ? fs->options : fs->plain_options, 1,
			  is_frozen ? NR_FILES : NR_SYNCED);
	if (is_frozen && fs->has_summary)
		run_on(device, fs->replay);
	run_on(device, fs->check);
}

static void check_origin(void)
{
	run_on(built.top.path, files.fs->check);
	mount_and_compare(built.top.path, "", 2, NR_FILES);
}

static void check_images(void)
{
	const struct snapshot *lower = &files.snapshots[files.nr_snapshots - 1];
	const enum layers layers = files.file_case->layers;
	struct disk again;

	if (layers != LAYERS_BOTTOM) {
		const char *image = image_of(&files.snapshots[0], &built.top);

		expect_frozen(image);
		check_image(image);
	}
	if (layers != LAYERS_TOP && stack_rebuild(lower, &again)) {
		if (layers == LAYERS_BOTTOM)
			expect_frozen(image_of(lower, &built.bottoms[0]));
		check_image(again.path);
	}
	stack_unbuild();
}

void test_files_are_exact(void)
{
	write_files(1, 0, NR_SYNCED, true);
	start_to_be_busy();
	write_files(1, NR_SYNCED, NR_FILES, false);
	take();
	write_files(2, 0, NR_FILES, true);
	trim();
	sleep_ms(BUSY_MS);
	crew_halt(&files.crew);
	if (crew_error(&files.crew))
		FAIL("%s", crew_error(&files.crew));
	/* Two of the same name are not mounted at once by every filesystem. */
	ASSERT_OK(umount(ORIGIN_DIR));
	run_on(built.top.path, files.fs->forget);
	check_images();
	ASSERT_EQ(destroy_all_snapshots(), files.nr_snapshots);
	check_origin();
}

void files_set_up(void)
{
	unsigned int i;

	memset(&files, 0, sizeof(files));
	files.file_case = ktap_data();
	for (i = 0; i < ARRAY_SIZE(filesystems); i++)
		if (!strcmp(filesystems[i].name, files.file_case->fs))
			files.fs = &filesystems[i];
	ASSERT(files.fs);
	ctl_set_up();
	if (!load_modules(files.fs->modules) ||
	    !stack_build(stack_find(files.file_case->stack), files.fs->nr_mib))
		return;
	mkdir(ORIGIN_DIR, 0755);
	mkdir(IMAGE_DIR, 0755);
	ASSERT(run_on(built.top.path, files.fs->make));
	ASSERT_OK(mount(built.top.path, ORIGIN_DIR, files.fs->name, 0, NULL));
}

void files_tear_down(void)
{
	if (files.crew.nr_members) {
		crew_halt(&files.crew);
		crew_stop(&files.crew);
	}
	while (!umount(IMAGE_DIR))
		;
	while (!umount(ORIGIN_DIR))
		;
	stack_unbuild();
	stack_tear_down();
}
