// SPDX-License-Identifier: GPL-2.0
/*
 * The devices that chains are written to, and those that are taken
 *
 * Each stack has four places, on four disks as different as memory can make
 * them.  "Above" means that what is tracked is the device-mapper device that is
 * written to, "below" that it is the disk under it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test_instant.h"

#define DISK_MIB 32U
#define AREA_AT MIB			/* of each place that is a device */
#define SECOND_AREA_AT (17 * MIB)	/* beyond a device-mapper device of */
#define HALF_MIB 16U
#define TIB (1024 * GIB)
#define DELAY_MS 10U			/* of writes through dm-delay */

#define MOUNT_POINT "/tmp/instant%u"

struct stack stack;

/* --- device mapper --- */

static bool dm_find(struct disk *dm, const char *name)
{
	char path[300], have[100];
	struct dirent *entry;
	bool is_found = false;
	DIR *dir = opendir("/sys/block");
	FILE *file;

	while (dir && !is_found && (entry = readdir(dir))) {
		snprintf(path, sizeof(path), "/sys/block/%s/dm/name",
			 entry->d_name);
		file = fopen(path, "r");
		if (!file)
			continue;
		is_found = fgets(have, sizeof(have), file) &&
			   !strncmp(have, name, strlen(name)) &&
			   have[strlen(name)] == '\n';
		fclose(file);
		snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
	}
	if (dir)
		closedir(dir);
	return is_found && !disk_find(dm, path);
}

/*
 * Make a device-mapper device; the test is skipped if that cannot be.  If the one of
 * another test could not be removed, somebody has not let go of it.
 */
bool dm_create(struct disk *dm, const char *name, const char *format, ...)
{
	char table[400];
	va_list args;

	va_start(args, format);
	vsnprintf(table, sizeof(table), format, args);
	va_end(args);
	kernel_module_load("dm-mod");
	if (dm_find(dm, name))
		FAIL("'%s' of another test is still there", name);
	if (!shell("printf '%s' | dmsetup create --noudevsync %s >/dev/null 2>&1",
		   table, name) && dm_find(dm, name))
		return true;
	ktap_skip("no device-mapper device '%s'", table);
	return false;
}

void dm_remove(const char *name)
{
	shell("dmsetup remove --noudevsync %s >/dev/null 2>&1", name);
}

/* Keep back what comes, without waiting for anything or freezing it. */
bool dm_suspend(const char *name)
{
	return !shell("dmsetup suspend --noudevsync --nolockfs --noflush %s >/dev/null 2>&1",
		      name);
}

void dm_resume(const char *name)
{
	shell("dmsetup resume --noudevsync %s >/dev/null 2>&1", name);
}

/* Let everything fail that comes from now on. */
void dm_fail(const char *name)
{
	shell("dmsetup wipe_table --noudevsync %s >/dev/null 2>&1", name);
}

/* --- parts of stacks --- */

static void make_disk(unsigned int i, uint64_t nr_mib,
		      const struct null_disk_options *options)
{
	char name[16];

	snprintf(name, sizeof(name), "nullb%u", i);
	ASSERT_OK(null_disk_create(&stack.disks[i], name, nr_mib, options));
}

/* Writes of more than a page come to the filter in pieces, again and again. */
static void split_writes(const struct disk *disk)
{
	char path[80];

	snprintf(path, sizeof(path), "/sys/block/%s/queue/max_sectors_kb",
		 strrchr(disk->path, '/') + 1);
	EXPECT(write_text(path, "4"));
}

/* Disks in memory, and one for storage; without options each is another kind. */
void make_disks(unsigned int nr, const struct null_disk_options *options)
{
	static const struct null_disk_options kinds[] = {
		{ .completion_ns = 0 },
		{ .completion_ns = 200000 },
		{ .cache_mib = 1 },
		{ .is_unpolled = true },
	};
	unsigned int i;

	memset(&stack, 0, sizeof(stack));
	for (i = 0; i < nr; i++)
		make_disk(i, DISK_MIB, options ? options : &kinds[i]);
	if (nr && !options)
		split_writes(&stack.disks[0]);
	ASSERT_OK(null_disk_create(&stack.storage, "nullb4", 64, NULL));
}

/*
 * dm-crypt offers polling where the disk below it does, but nobody can poll for
 * the requests that it makes there: null_blk ends them with an error after 5 s.
 */
static void make_disks_for_crypt(void)
{
	static const struct null_disk_options kinds[] = {
		{ .is_unpolled = true },
		{ .is_unpolled = true, .completion_ns = 200000 },
		{ .is_unpolled = true, .cache_mib = 1 },
		{ .is_unpolled = true, .completion_ns = 1000000 },
	};
	unsigned int i;

	memset(&stack, 0, sizeof(stack));
	for (i = 0; i < ARRAY_SIZE(kinds); i++)
		make_disk(i, DISK_MIB, &kinds[i]);
	split_writes(&stack.disks[0]);
	ASSERT_OK(null_disk_create(&stack.storage, "nullb4", 64, NULL));
}

static bool make_upper(unsigned int i, const char *target, const char *rest)
{
	char name[16];

	snprintf(name, sizeof(name), "upper%u", i);
	return dm_create(&stack.uppers[i], name, "0 %llu %s %s %s",
			 (unsigned long long)stack.disks[i].nr_bytes / SECTOR_SIZE,
			 target, stack.disks[i].path, rest);
}

static bool make_uppers_delay(void)
{
	char rest[100];
	unsigned int i;

	for (i = 0; i < 4; i++) {
		snprintf(rest, sizeof(rest), "0 0 %s 0 %u", stack.disks[i].path,
			 DELAY_MS);
		if (!make_upper(i, "delay", rest))
			return false;
	}
	return true;
}

static bool make_uppers_crypt(const char *cipher)
{
	char target[200];
	unsigned int i;

	snprintf(target, sizeof(target), "crypt %s 0", cipher);
	for (i = 0; i < 4; i++)
		if (!make_upper(i, target, "0"))
			return false;
	return true;
}

static void add_member(const struct disk *disk)
{
	stack.members[stack.nr_members++] = *disk;
}

static void set_place(unsigned int place, const char *path, uint64_t at,
		      unsigned int member, uint64_t shown_at)
{
	struct place *p = &stack.places[place];

	snprintf(p->path, sizeof(p->path), "%s", path);
	p->at = at;
	p->shown[0].member = member;
	p->shown[0].at = shown_at;
	p->nr_shown = 1;
}

static void show_place_too(unsigned int place, unsigned int member, uint64_t at)
{
	struct place *p = &stack.places[place];

	p->shown[p->nr_shown].member = member;
	p->shown[p->nr_shown++].at = at;
}

/* Members are written to through devices in the same order. */
static void use(const struct disk *members, const struct disk *written)
{
	unsigned int i;

	for (i = 0; i < 4; i++) {
		add_member(&members[i]);
		set_place(i, written[i].path, AREA_AT, i, AREA_AT);
	}
}

/* --- filesystems --- */

/* Where all the blocks of a file are on its device, one behind the other. */
static uint64_t find_blocks(const char *path)
{
	union {
		struct fiemap map;
		char room[sizeof(struct fiemap) + sizeof(struct fiemap_extent)];
	} found = { .map = {
		.fm_length = AREA_BYTES,
		.fm_flags = FIEMAP_FLAG_SYNC,
		.fm_extent_count = 1,
	} };
	int fd = ASSERT_OK(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600));

	ASSERT_OK(fallocate(fd, 0, 0, AREA_BYTES));
	ASSERT_OK(ioctl(fd, FS_IOC_FIEMAP, &found.map));
	close(fd);
	ASSERT_EQ(found.map.fm_mapped_extents, 1);
	ASSERT(found.map.fm_extents[0].fe_length >= AREA_BYTES);
	return found.map.fm_extents[0].fe_physical;
}

/* Mount a new filesystem, and let the place be a file in it. */
bool mount_place(unsigned int place, const struct disk *disk)
{
	char point[40], path[60];

	snprintf(point, sizeof(point), MOUNT_POINT, place);
	snprintf(path, sizeof(path), MOUNT_POINT "/file", place);
	kernel_module_load("ext4");
	mkdir(point, 0700);
	if (shell("mkfs.ext4 -q -F -E nodiscard %s >/dev/null 2>&1", disk->path) ||
	    mount(disk->path, point, "ext4", 0, NULL)) {
		ktap_skip("no ext4 on %s", disk->path);
		return false;
	}
	stack.nr_mounted = place + 1;
	set_place(place, path, 0, place, find_blocks(path));
	stack.places[place].is_file = true;
	return true;
}

static bool make_files(const struct disk *disks, unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr; i++)
		if (!mount_place(i, &disks[i]))
			return false;
	stack.nr_frozen = nr;
	return true;
}

/* --- stacks --- */

bool stack_build_plain(void)
{
	make_disks(4, NULL);
	use(stack.disks, stack.disks);
	return true;
}

/* Of each, there is memory only for what is written. */
bool stack_build_large(void)
{
	unsigned int i;

	memset(&stack, 0, sizeof(stack));
	for (i = 0; i < 4; i++)
		make_disk(i, TIB / MIB, NULL);
	ASSERT_OK(null_disk_create(&stack.storage, "nullb4", 64, NULL));
	use(stack.disks, stack.disks);
	return true;
}

/* Two disks with two partitions each, written as partitions and as disks. */
bool stack_build_partitions(void)
{
	const uint64_t start[] = { 2048, 2048 + HALF_MIB * 2048 };
	const uint64_t nr[] = { HALF_MIB * 2048, 4096 };
	struct disk part;
	unsigned int d, i;

	make_disks(2, NULL);
	for (d = 0; d < 2; d++)
		for (i = 0; i < 2; i++) {
			unsigned int m = 2 * d + i;

			ASSERT_OK(partition_add(&stack.disks[d], &part, start[i],
						nr[i]));
			add_member(&part);
			if (d ^ i)
				set_place(m, part.path, 0, m, 0);
			else
				set_place(m, stack.disks[d].path,
					  start[i] * SECTOR_SIZE, m, 0);
		}
	return true;
}

/* Its writes reach the disk while the one to dm-linear is being submitted. */
bool stack_build_linear_below(void)
{
	unsigned int i;

	make_disks(4, NULL);
	for (i = 0; i < 4; i++)
		if (!make_upper(i, "linear", "0"))
			return false;
	use(stack.disks, stack.uppers);
	return true;
}

bool stack_build_crypt_above(void)
{
	make_disks_for_crypt();
	if (!make_uppers_crypt("aes-xts-plain64 " CRYPT_KEY))
		return false;
	use(stack.uppers, stack.uppers);
	return true;
}

/* The cipher that changes nothing takes the same way through workqueues. */
bool stack_build_crypt_below(void)
{
	make_disks_for_crypt();
	if (!make_uppers_crypt("cipher_null-ecb -"))
		return false;
	use(stack.disks, stack.uppers);
	return true;
}

bool stack_build_delay_above(void)
{
	make_disks(4, NULL);
	if (!make_uppers_delay())
		return false;
	use(stack.uppers, stack.uppers);
	return true;
}

bool stack_build_delay_below(void)
{
	make_disks(4, NULL);
	if (!make_uppers_delay())
		return false;
	use(stack.disks, stack.uppers);
	return true;
}

/* Make a younger device be below an older one, as LVM does. */
bool stack_build_slid_below(void)
{
	const unsigned long long nr = HALF_MIB * 2048;

	make_disks(3, NULL);
	if (!dm_create(&stack.uppers[0], "upper0", "0 %llu linear %s 0", nr,
		       stack.disks[0].path) ||
	    !dm_create(&stack.uppers[1], "upper1", "0 %llu delay %s 0 0 %s 0 %u",
		       2 * nr, stack.disks[0].path, stack.disks[0].path, DELAY_MS))
		return false;
	ASSERT(dm_suspend("upper0"));
	ASSERT(!shell("echo '0 %llu linear %s 0' | dmsetup load --noudevsync upper0",
		      nr, stack.uppers[1].path));
	dm_resume("upper0");
	add_member(&stack.uppers[0]);
	add_member(&stack.uppers[1]);
	add_member(&stack.disks[1]);
	add_member(&stack.disks[2]);
	set_place(0, stack.uppers[0].path, AREA_AT, 0, AREA_AT);
	show_place_too(0, 1, AREA_AT);
	set_place(1, stack.uppers[1].path, SECOND_AREA_AT, 1, SECOND_AREA_AT);
	set_place(2, stack.disks[1].path, AREA_AT, 2, AREA_AT);
	set_place(3, stack.disks[2].path, AREA_AT, 3, AREA_AT);
	return true;
}

/*
 * A delaying device and the disk under it are both members.  That disk is also
 * written to beside it.
 */
bool stack_build_both_sides(void)
{
	make_disks(3, NULL);
	if (!dm_create(&stack.uppers[0], "upper0", "0 %u delay %s 0 0 %s 0 %u",
		       HALF_MIB * 2048, stack.disks[0].path, stack.disks[0].path,
		       DELAY_MS))
		return false;
	add_member(&stack.disks[0]);
	add_member(&stack.uppers[0]);
	add_member(&stack.disks[1]);
	add_member(&stack.disks[2]);
	set_place(0, stack.uppers[0].path, AREA_AT, 1, AREA_AT);
	show_place_too(0, 0, AREA_AT);
	set_place(1, stack.disks[0].path, SECOND_AREA_AT, 0, SECOND_AREA_AT);
	set_place(2, stack.disks[1].path, AREA_AT, 2, AREA_AT);
	set_place(3, stack.disks[2].path, AREA_AT, 3, AREA_AT);
	return true;
}

bool stack_build_ext4(void)
{
	make_disks(4, NULL);
	use(stack.disks, stack.disks);
	return make_files(stack.disks, 4);
}

bool stack_build_ext4_on_crypt(void)
{
	make_disks_for_crypt();
	if (!make_uppers_crypt("aes-xts-plain64 " CRYPT_KEY))
		return false;
	use(stack.uppers, stack.uppers);
	return make_files(stack.uppers, 4);
}

/* The filesystems are not frozen, as they are not on what is taken. */
bool stack_build_ext4_above_delay(void)
{
	make_disks(4, NULL);
	if (!make_uppers_delay())
		return false;
	use(stack.disks, stack.uppers);
	if (!make_files(stack.uppers, 4))
		return false;
	stack.nr_frozen = 0;
	return true;
}

bool stack_build_ext4_beside_raw(void)
{
	make_disks(4, NULL);
	use(stack.disks, stack.disks);
	return make_files(stack.disks, 2);
}

/* Undo any of them, however far it came. */
void stack_tear_down(void)
{
	char name[40];
	unsigned int i;

	for (i = 0; i < stack.nr_mounted; i++) {
		snprintf(name, sizeof(name), MOUNT_POINT, i);
		umount(name);
		rmdir(name);
	}
	ctl_tear_down();
	for (i = 0; i < 4; i++) {
		snprintf(name, sizeof(name), "upper%u", i);
		if (stack.uppers[i].path[0])
			dm_remove(name);
	}
	for (i = 0; i < 4; i++)
		null_disk_destroy(&stack.disks[i]);
	null_disk_destroy(&stack.storage);
	memset(&stack, 0, sizeof(stack));
}
