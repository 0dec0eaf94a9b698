// SPDX-License-Identifier: GPL-2.0
/*
 * Kinds of disks that can be taken away, or resized, while they are in use
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/blkpg.h>
#include <linux/loop.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "test_life_kind.h"

/* --- null_blk --- */

static bool null_make(struct disk *disk)
{
	ASSERT_OK(null_disk_create(disk, "nullb5", DISK_MIB, NULL));
	return true;
}

const struct life_kind null_kind = {
	.name = "null_blk",
	.make = null_make,
	.take_away = null_disk_destroy,
	.unmake = null_disk_destroy,
};

/* --- loop --- */

#define LOOP_NR 7
#define LOOP_PATH "/dev/loop7"
#define LOOP_FILE "/tmp/life-loop"

/* The file is made anew: another disk under the same number. */
static int loop_attach(void)
{
	int loop, file, ret = -1;

	unlink(LOOP_FILE);
	file = open(LOOP_FILE, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	loop = open(LOOP_PATH, O_RDWR | O_CLOEXEC);
	if (file >= 0 && loop >= 0 && !ftruncate(file, DISK_MIB * MIB))
		ret = ioctl(loop, LOOP_SET_FD, file);
	close(file);
	close(loop);
	return ret;
}

static bool loop_make(struct disk *disk)
{
	int control;

	kernel_module_load("loop");
	control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	if (control < 0) {
		ktap_skip("no loop devices");
		return false;
	}
	ioctl(control, LOOP_CTL_ADD, LOOP_NR);
	close(control);
	ASSERT(wait_for_node(LOOP_PATH, true));
	ASSERT_OK(loop_attach());
	ASSERT_OK(disk_find(disk, LOOP_PATH));
	return true;
}

static void loop_detach(struct disk *disk)
{
	int loop = open(LOOP_PATH, O_RDWR | O_CLOEXEC);

	(void)disk;
	if (loop < 0)
		return;
	ioctl(loop, LOOP_CLR_FD, 0);
	close(loop);
}

static void loop_unmake(struct disk *disk)
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);

	loop_detach(disk);
	if (control >= 0) {
		ioctl(control, LOOP_CTL_REMOVE, LOOP_NR);
		close(control);
	}
	unlink(LOOP_FILE);
}

static bool loop_resize(struct disk *disk, uint64_t nr_bytes)
{
	int loop = open(LOOP_PATH, O_RDWR | O_CLOEXEC);
	bool ok;

	(void)disk;
	ok = !truncate(LOOP_FILE, nr_bytes) &&
	     !ioctl(loop, LOOP_SET_CAPACITY, 0);
	close(loop);
	return ok;
}

const struct life_kind loop_kind = {
	.name = "loop",
	.make = loop_make,
	.take_away = loop_detach,
	.unmake = loop_unmake,
	.resize = loop_resize,
	.stays_while_open = true,
};

/* --- device mapper --- */

#define DM_NAME "blksnap-life"

static struct disk dm_lower;

/* A command of dmsetup to the device, with a table of so many bytes if not 0. */
static bool dm_call(const char *command, uint64_t nr_bytes)
{
	char table[100] = "";

	if (nr_bytes)
		snprintf(table, sizeof(table), "--table '0 %llu linear %s 0'",
			 (unsigned long long)nr_bytes / SECTOR_SIZE,
			 dm_lower.path);
	return !shell("dmsetup %s " DM_NAME " %s >/dev/null 2>&1", command,
		      table);
}

/* The node of a mapped device. */
static void dm_find(struct disk *disk, const char *name)
{
	char path[48];

	shell("dmsetup info -c --noheadings -o minor %s >/tmp/life-dm", name);
	snprintf(path, sizeof(path), "/dev/dm-%lld",
		 (long long)read_number("/tmp/life-dm"));
	ASSERT_OK(disk_find(disk, path));
}

static bool dm_make(struct disk *disk)
{
	kernel_module_load("dm-mod");
	if (!dm_lower.is_ours)
		ASSERT_OK(null_disk_create(&dm_lower, "nullb6",
					   LARGE_BYTES / MIB, NULL));
	if (!dm_call("create --noudevsync", DISK_MIB * MIB)) {
		ktap_skip("dmsetup cannot make a device");
		return false;
	}
	dm_find(disk, DM_NAME);
	return true;
}

/* As long as it is open, it cannot be removed but fails. */
static void dm_take_away(struct disk *disk)
{
	(void)disk;
	dm_call("remove --force --noudevsync", 0);
}

static void dm_unmake(struct disk *disk)
{
	dm_kind_resume();
	dm_take_away(disk);
	null_disk_destroy(&dm_lower);
}

bool dm_kind_suspend(void)
{
	return dm_call("suspend --nolockfs --noflush", 0);
}

bool dm_kind_resume(void)
{
	return dm_call("resume --noudevsync", 0);
}

static bool dm_resize(struct disk *disk, uint64_t nr_bytes)
{
	(void)disk;
	return dm_call("reload", nr_bytes) && dm_call("suspend", 0) &&
	       dm_kind_resume();
}

const struct life_kind dm_kind = {
	.name = "dm-linear",
	.make = dm_make,
	.take_away = dm_take_away,
	.unmake = dm_unmake,
	.resize = dm_resize,
	.changes_table = true,
};

/* --- a disk whose reads take their time --- */

#define SLOW_NAME "blksnap-slow"

bool slow_reader_make(struct disk *disk, const struct disk *lower,
		      unsigned int read_ms)
{
	kernel_module_load("dm-mod");
	kernel_module_load("dm-delay");
	if (shell("dmsetup create --noudevsync " SLOW_NAME
		  " --table '0 %llu delay %s 0 %u %s 0 0' >/dev/null 2>&1",
		  (unsigned long long)lower->nr_bytes / SECTOR_SIZE, lower->path,
		  read_ms, lower->path)) {
		ktap_skip("no dm-delay");
		return false;
	}
	dm_find(disk, SLOW_NAME);
	return true;
}

void slow_reader_unmake(void)
{
	shell("dmsetup remove --noudevsync " SLOW_NAME " >/dev/null 2>&1");
}

/* --- partition --- */

#define PART_START 2049U

static struct disk part_whole;

static bool part_make(struct disk *disk)
{
	if (!part_whole.is_ours)
		ASSERT_OK(null_disk_create(&part_whole, "nullb7",
					   LARGE_BYTES / MIB + 2, NULL));
	ASSERT_OK(partition_add(&part_whole, disk, PART_START,
				DISK_MIB * MIB / SECTOR_SIZE));
	return true;
}

static void part_take_away(struct disk *disk)
{
	(void)disk;
	partition_del_all(&part_whole);
}

static void part_unmake(struct disk *disk)
{
	(void)disk;
	null_disk_destroy(&part_whole);
}

static bool part_resize(struct disk *disk, uint64_t nr_bytes)
{
	struct blkpg_partition part = {
		.start = PART_START * SECTOR_SIZE,
		.length = nr_bytes,
		.pno = 1,
	};
	struct blkpg_ioctl_arg arg = {
		.op = BLKPG_RESIZE_PARTITION,
		.datalen = sizeof(part),
		.data = &part,
	};
	int fd = open(part_whole.path, O_RDONLY | O_CLOEXEC);
	bool ok = !ioctl(fd, BLKPG, &arg);

	(void)disk;
	close(fd);
	return ok;
}

const struct life_kind partition_kind = {
	.name = "partition",
	.make = part_make,
	.take_away = part_take_away,
	.unmake = part_unmake,
	.resize = part_resize,
};

/* --- disks that a bus finds --- */

/* Waits for the disk whose folder in sysfs matches @pattern. */
static bool find_in_sysfs(struct disk *disk, const char *pattern)
{
	char path[48] = "/dev/";
	unsigned int ms;
	glob_t found;
	bool is_found;

	for (ms = 0; ms < PATIENCE_MS; ms += 10) {
		is_found = !glob(pattern, 0, NULL, &found) && found.gl_pathc;
		if (is_found)
			snprintf(path, sizeof(path), "/dev/%s",
				 strrchr(found.gl_pathv[0], '/') + 1);
		globfree(&found);
		if (is_found && !disk_find(disk, path) && disk->nr_bytes)
			return true;
		sleep_ms(10);
	}
	return false;
}

#define SCSI_BUS "/sys/bus/pseudo/drivers/scsi_debug"
#define SCSI_HOST "/sys/devices/pseudo_0/adapter0/host*"
#define SCSI_DISK SCSI_HOST "/target*/*:0:0:0/block/sd*"

static bool scsi_make(struct disk *disk)
{
	kernel_module_load("sd_mod");
	if (access(SCSI_BUS, F_OK) &&
	    shell("modprobe scsi_debug dev_size_mb=%d delay=0 2>/dev/null",
		  DISK_MIB)) {
		ktap_skip("this kernel has no module scsi_debug");
		return false;
	}
	shell("echo '- - -' >$(echo " SCSI_HOST "/scsi_host/host*/scan)");
	ASSERT(find_in_sysfs(disk, SCSI_DISK));
	return true;
}

static void scsi_take_away(struct disk *disk)
{
	(void)disk;
	shell("for disk in " SCSI_DISK "; do\n"
	      "	[ ! -e $disk ] || echo 1 >$disk/device/delete\n"
	      "done");
}

static void scsi_unmake(struct disk *disk)
{
	(void)disk;
	shell("rmmod scsi_debug 2>/dev/null");
}

const struct life_kind scsi_kind = {
	.name = "scsi_debug",
	.make = scsi_make,
	.take_away = scsi_take_away,
	.unmake = scsi_unmake,
};

#define VIRTIO_DRIVER "/sys/bus/virtio/drivers/virtio_blk"

static char virtio_name[64];	/* of the device on its bus */

/* Remember which device it is: the disk may have another name later. */
void virtio_kind_set_device(const char *path)
{
	char link[100], target[200];
	ssize_t length;

	snprintf(link, sizeof(link), "/sys/block/%s/device",
		 strrchr(path, '/') + 1);
	length = readlink(link, target, sizeof(target) - 1);
	if (length <= 0)
		return;
	target[length] = 0;
	snprintf(virtio_name, sizeof(virtio_name), "%.60s",
		 strrchr(target, '/') + 1);
}

static bool virtio_make(struct disk *disk)
{
	char pattern[200];

	if (!virtio_name[0]) {
		ktap_skip("no --device");
		return false;
	}
	write_text(VIRTIO_DRIVER "/bind", virtio_name);
	snprintf(pattern, sizeof(pattern),
		 "/sys/bus/virtio/devices/%s/block/*", virtio_name);
	ASSERT(find_in_sysfs(disk, pattern));
	return true;
}

static void virtio_take_away(struct disk *disk)
{
	(void)disk;
	write_text(VIRTIO_DRIVER "/unbind", virtio_name);
}

/* It was not ours to make. */
static void virtio_unmake(struct disk *disk)
{
	(void)disk;
	if (virtio_name[0])
		write_text(VIRTIO_DRIVER "/bind", virtio_name);
}

const struct life_kind virtio_kind = {
	.name = "virtio",
	.make = virtio_make,
	.take_away = virtio_take_away,
	.unmake = virtio_unmake,
};
