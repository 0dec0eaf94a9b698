// SPDX-License-Identifier: GPL-2.0
/*
 * Everything else that a hostile caller can get hold of
 *
 * The control node as a file, images as disks, and what there is of both in
 * sysfs.  Images refuse what they cannot do, and whatever is done to them does
 * not reach the origin.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/blkpg.h>
#include <linux/blkzoned.h>
#include <linux/cdrom.h>
#include <linux/fs.h>
#include <linux/hdreg.h>
#include <linux/pr.h>
#include <poll.h>
#include <scsi/sg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include <ftw.h>

#include "test_hostile.h"

#define IMAGE_BYTES (8 * MIB)
#define ORIGIN TARGET_B

static struct snapshot taken;

/* A disk of one byte and an image of it. */
static const char *take_image(void)
{
	const struct disk *disk = &targets[ORIGIN].disk;

	ASSERT(fill_direct(disk->path, 1, IMAGE_BYTES, 0));
	snapshot_now(&taken, disk, &targets[TARGET_STORAGE].disk);
	return image_of(&taken, disk);
}

static bool origin_is_whole(void)
{
	return reads_as(targets[ORIGIN].disk.path, 1, IMAGE_BYTES, 0);
}

/* --- the control node --- */

static void test_node_does_nothing_but_calls(void)
{
	char bytes[64] = "rubbish";
	int number = 1;

	EXPECT_EQ(read(ctl, bytes, sizeof(bytes)), -1);
	EXPECT_EQ(write(ctl, bytes, sizeof(bytes)), -1);
	EXPECT_EQ(pread(ctl, bytes, sizeof(bytes), 0), -1);
	EXPECT_EQ(pwrite(ctl, bytes, sizeof(bytes), 1 << 20), -1);
	EXPECT_EQ(lseek(ctl, 0, SEEK_END), -1);
	EXPECT_EQ(lseek(ctl, -1, SEEK_SET), -1);
	EXPECT(mmap(NULL, 4096, PROT_READ, MAP_SHARED, ctl, 0) == MAP_FAILED);
	EXPECT(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, ctl, 0) == MAP_FAILED);
	EXPECT_EQ(ftruncate(ctl, 4096), -1);
	EXPECT_EQ(fallocate(ctl, 0, 0, 4096), -1);
	EXPECT_EQ(fsync(ctl), -1);
	EXPECT_EQ(splice(ctl, NULL, ctl, NULL, 4096, 0), -1);
	EXPECT_EQ(copy_file_range(ctl, NULL, ctl, NULL, 4096, 0), -1);
	EXPECT_EQ(ioctl(ctl, FS_IOC_GETFLAGS, &number), -1);
	EXPECT_EQ(ioctl(ctl, BLKROSET, &number), -1);
}

static void test_poll_without_a_snapshot_is_an_error(void)
{
	struct pollfd poll_fd = { .fd = ctl };
	int bit;

	for (bit = 0; bit < 16; bit++) {
		poll_fd.events = 1 << bit;
		EXPECT_EQ(poll(&poll_fd, 1, 0), 1);
		EXPECT_EQ(poll_fd.revents, POLLERR);
	}
}

/* --- images --- */

static int image_ioctl(int fd, unsigned long request, void *arg)
{
	return ioctl(fd, request, arg) < 0 ? -errno : 0;
}

static int image_range(int fd, unsigned long request, uint64_t at, uint64_t nr_bytes)
{
	uint64_t range[2] = { at, nr_bytes };

	return image_ioctl(fd, request, range);
}

static int image_partition(int fd, int op, uint64_t at, uint64_t nr_bytes)
{
	struct blkpg_partition part = {
		.start = at,
		.length = nr_bytes,
		.pno = 1,
	};
	struct blkpg_ioctl_arg arg = {
		.op = op,
		.datalen = sizeof(part),
		.data = &part,
	};

	return image_ioctl(fd, BLKPG, &arg);
}

static void test_image_refuses_what_it_cannot_do(void)
{
	int fd = ASSERT_OK(open(take_image(), O_RDWR | O_CLOEXEC));
	struct pr_registration registration = { 0 };
	struct hd_geometry geometry;

	EXPECT_ERR(image_range(fd, BLKDISCARD, 0, MIB), EOPNOTSUPP);
	EXPECT_ERR(image_range(fd, BLKSECDISCARD, 0, MIB), EOPNOTSUPP);
	EXPECT_ERR(image_partition(fd, BLKPG_ADD_PARTITION, 0, MIB), EINVAL);
	EXPECT(image_partition(fd, BLKPG_DEL_PARTITION, 0, MIB) < 0);
	EXPECT(image_partition(fd, BLKPG_RESIZE_PARTITION, 0, MIB) < 0);
	EXPECT_ERR(image_ioctl(fd, BLKRRPART, NULL), EINVAL);
	EXPECT_ERR(image_ioctl(fd, HDIO_GETGEO, &geometry), ENOTTY);
	EXPECT_ERR(image_ioctl(fd, SG_IO, NULL), ENOTTY);
	EXPECT_ERR(image_ioctl(fd, CDROMEJECT, NULL), ENOTTY);
	EXPECT_ERR(image_ioctl(fd, IOC_PR_REGISTER, &registration), EOPNOTSUPP);
	EXPECT(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE |
			 FALLOC_FL_NO_HIDE_STALE, 0, MIB) < 0);
	close(fd);
	EXPECT(reads_as(taken.images[0].path, 1, IMAGE_BYTES, 0));
	EXPECT(origin_is_whole());
}

static void test_zeroing_an_image_leaves_the_origin(void)
{
	int fd = ASSERT_OK(open(take_image(), O_RDWR | O_CLOEXEC));

	EXPECT_ERR(image_range(fd, BLKZEROOUT, 0, IMAGE_BYTES + 512), EINVAL);
	EXPECT_ERR(image_range(fd, BLKZEROOUT, IMAGE_BYTES, 512), EINVAL);
	EXPECT_ERR(image_range(fd, BLKZEROOUT, 0 - 512ULL, 1024), EINVAL);
	EXPECT_ERR(image_range(fd, BLKZEROOUT, 100, 512), EINVAL);
	EXPECT_OK(image_range(fd, BLKZEROOUT, MIB, 2 * MIB));
	EXPECT_OK(fsync(fd));
	close(fd);
	EXPECT(reads_as(taken.images[0].path, 1, MIB, 0));
	EXPECT(reads_as(taken.images[0].path, 0, 2 * MIB, MIB));
	EXPECT(reads_as(taken.images[0].path, 1, 5 * MIB, 3 * MIB));
	EXPECT(origin_is_whole());
}

static void test_image_ends_where_its_origin_does(void)
{
	int fd = ASSERT_OK(open(take_image(), O_RDWR | O_DIRECT | O_CLOEXEC));
	uint8_t *buffer = alloc_aligned(8192);

	memset(buffer, 2, 8192);
	EXPECT_EQ(pread(fd, buffer, 4096, IMAGE_BYTES), 0);
	EXPECT_EQ(pread(fd, buffer, 8192, IMAGE_BYTES - 4096), 4096);
	EXPECT_EQ(pread(fd, buffer, 4096, IMAGE_BYTES * 1000), 0);
	EXPECT_EQ(pread(fd, buffer, 4096, -4096), -1);
	EXPECT_EQ(pwrite(fd, buffer, 4096, IMAGE_BYTES), -1);
	EXPECT_EQ(errno, ENOSPC);
	EXPECT_EQ(pwrite(fd, buffer, 4096, INT64_MAX - 4095), -1);
	EXPECT_EQ(pread(fd, buffer + 1, 4096, 0), -1);
	EXPECT_EQ(pread(fd, buffer, 100, 0), -1);
	EXPECT_EQ(lseek(fd, 0, SEEK_END), IMAGE_BYTES);
	free(buffer);
	close(fd);
	EXPECT(reads_as(taken.images[0].path, 1, IMAGE_BYTES, 0));
	EXPECT(origin_is_whole());
}

static void test_image_set_read_only_stays_as_it_is(void)
{
	int fd = ASSERT_OK(open(take_image(), O_RDWR | O_CLOEXEC));
	uint8_t bytes[512] = { 0 };
	int is_read_only = 1;

	EXPECT_OK(image_ioctl(fd, BLKROSET, &is_read_only));
	EXPECT_EQ(pwrite(fd, bytes, sizeof(bytes), 0), -1);
	EXPECT_EQ(errno, EPERM);
	EXPECT(image_range(fd, BLKZEROOUT, 0, MIB) < 0);
	is_read_only = 0;
	EXPECT_OK(image_ioctl(fd, BLKROSET, &is_read_only));
	close(fd);
	EXPECT(reads_as(taken.images[0].path, 1, IMAGE_BYTES, 0));
	EXPECT(origin_is_whole());
}

/* --- sysfs --- */

static const char *const rubbish[] = {
	"1\n", "0\n", "-1\n", "99999999999999999999\n", "0x80000000\n", "write back\n",
	"on\n", "", "\n", "none\n", "rubbish %s%n\n",
};

static unsigned int nr_files_written;

/* Whoever may write to a file of sysfs may write anything. */
static int write_rubbish(const char *path, const struct stat *stat, int type,
			 struct FTW *ftw)
{
	unsigned int i;

	(void)ftw;
	if (type != FTW_F || !(stat->st_mode & 0222))
		return 0;
	/* Made to break the requests of a disk on purpose. */
	if (strstr(path, "make-it-fail"))
		return 0;
	for (i = 0; i < ARRAY_SIZE(rubbish); i++)
		write_text(path, rubbish[i]);
	nr_files_written++;
	return 0;
}

static void test_rubbish_in_sysfs_of_an_image_does_no_harm(void)
{
	const char *image = take_image();
	char path[80], *folder;

	snprintf(path, sizeof(path), "/sys/block/%s", strrchr(image, '/') + 1);
	folder = realpath(path, NULL);
	ASSERT(folder);
	nr_files_written = 0;
	nftw(folder, write_rubbish, 16, FTW_PHYS);
	free(folder);
	ktap_note("rubbish written to %u files", nr_files_written);
	EXPECT(nr_files_written > 5);
	EXPECT(reads_as(image, 1, IMAGE_BYTES, 0));
	EXPECT(fill_direct(targets[ORIGIN].disk.path, 2, MIB, 0));
	EXPECT(reads_as(image, 1, IMAGE_BYTES, 0));
	snprintf(path, sizeof(path), "/sys/block/%s/blksnap/error",
		 strrchr(image, '/') + 1);
	EXPECT_EQ(read_number("%s", path), 0);
}

static unsigned int nr_files_found;

static int find_writable(const char *path, const struct stat *stat, int type,
			 struct FTW *ftw)
{
	(void)ftw;
	if (type != FTW_F)
		return 0;
	nr_files_found++;
	if (stat->st_mode & 0222)
		FAIL("%s can be written to", path);
	return 0;
}

static void test_files_of_ours_in_sysfs_are_read_only(void)
{
	const char *image = take_image();
	char path[80];

	nr_files_found = 0;
	snprintf(path, sizeof(path), "/sys/block/%s/blksnap/",
		 strrchr(image, '/') + 1);
	nftw(path, find_writable, 16, FTW_PHYS);
	nftw("/sys/module/blksnap/parameters/", find_writable, 16, FTW_PHYS);
	EXPECT(nr_files_found >= 18);
	EXPECT(!write_text("/sys/module/blksnap/parameters/copy_memory_maximum",
			   "1"));
}

static void test_parameters_that_are_rubbish_are_refused(void)
{
	static const char *const values[] = { "-1", "99999999999", "x", "''", "1e3" };
	static const char *const names[] = {
		"tracking_block_minimum_shift", "tracking_block_maximum_count",
		"copy_block_minimum_shift", "copy_block_maximum_count",
		"diff_storage_minimum", "copy_memory_maximum",
	};
	char parameter[80];
	unsigned int i, j;

	close(ctl);
	ctl = -1;
	ASSERT_EQ(module_unload(), 0);
	for (i = 0; i < ARRAY_SIZE(names); i++) {
		for (j = 0; j < ARRAY_SIZE(values); j++) {
			snprintf(parameter, sizeof(parameter), "%s=%s", names[i],
				 values[j]);
			if (!module_load(parameter)) {
				FAIL("%s was accepted", parameter);
				module_unload();
			}
		}
	}
	ASSERT_EQ(module_load(HOSTILE_PARAMETERS), 0);
	ctl_set_up();
}

/* --- images, among the crowd --- */

/*
 * Opened, an image keeps its number; so what sysfs says of that number is about
 * this image, or it is gone.
 */
static int open_image_of_callers(struct random *random)
{
	unsigned int number = random_below(random, 8);
	char path[64], origin[32], honest[32];
	unsigned int i;
	FILE *file;
	int fd;

	snprintf(path, sizeof(path), "/dev/" BLK_SNAP_IMAGE_NAME "%u", number);
	fd = open(path, O_RDWR | O_CLOEXEC |
		  (random_below(random, 2) ? O_DIRECT : 0));
	if (fd < 0)
		return -1;
	snprintf(path, sizeof(path), "/sys/block/" BLK_SNAP_IMAGE_NAME "%u/blksnap/origin",
		 number);
	file = fopen(path, "r");
	if (!file || !fgets(origin, sizeof(origin), file)) {
		close(fd);
		fd = -1;
	}
	if (file)
		fclose(file);
	for (i = 0; fd >= 0 && i < 2; i++) {
		snprintf(honest, sizeof(honest), "%u:%u\n", honest_origins[i].id.mj,
			 honest_origins[i].id.mn);
		if (!strcmp(honest, origin)) {
			close(fd);
			fd = -1;
		}
	}
	return fd;
}

static void work_on_image(struct random *random, int fd, uint8_t *buffer)
{
	uint64_t at = random_below(random, 2 * IMAGE_BYTES / 512) * 512;
	uint64_t nr_bytes = random_below(random, 64) * 512;
	int number = random_below(random, 5000);

	switch (random_below(random, 10)) {
	case 0:
		image_range(fd, BLKDISCARD, at, nr_bytes);
		break;
	case 1:
		image_range(fd, BLKZEROOUT, at, nr_bytes);
		break;
	case 2:
		number &= 1;
		image_ioctl(fd, BLKROSET, &number);
		break;
	case 3:
		image_partition(fd, 1 + number % 3, at, nr_bytes);
		break;
	case 4:
		image_ioctl(fd, number & 1 ? BLKRRPART : BLKFLSBUF, NULL);
		break;
	case 5:
		image_ioctl(fd, BLKBSZSET, &number);
		break;
	case 6:
		/* Whatever number it may be. */
		image_ioctl(fd, _IOC(number & 3, 0x12, random_below(random, 256),
				     random_below(random, 64)), buffer);
		break;
	case 7:
		if (pwrite(fd, buffer, nr_bytes, at) < 0)
			fsync(fd);
		break;
	default:
		if (pread(fd, buffer + number % 2, nr_bytes, at) < 0)
			lseek(fd, at, SEEK_SET);
		break;
	}
}

/* Works on the images of hostile callers; @data is its seed. */
void *image_run(void *data)
{
	uint8_t *buffer = alloc_aligned(64 * KIB);
	struct random random;
	unsigned int i;
	int fd;

	random_init(&random, *(uint64_t *)data);
	memset(buffer, 3, 64 * KIB);
	while (!stats_is_over()) {
		fd = open_image_of_callers(&random);
		for (i = 0; fd >= 0 && i < 20; i++)
			work_on_image(&random, fd, buffer);
		if (fd >= 0)
			close(fd);
		sleep_ms(2);
	}
	free(buffer);
	return NULL;
}

const struct ktap_test node_tests[] = {
	KTAP_TEST(test_node_does_nothing_but_calls),
	KTAP_TEST(test_poll_without_a_snapshot_is_an_error),
	KTAP_TEST(test_image_refuses_what_it_cannot_do),
	KTAP_TEST(test_zeroing_an_image_leaves_the_origin),
	KTAP_TEST(test_image_ends_where_its_origin_does),
	KTAP_TEST(test_image_set_read_only_stays_as_it_is),
	KTAP_TEST(test_rubbish_in_sysfs_of_an_image_does_no_harm),
	KTAP_TEST(test_files_of_ours_in_sysfs_are_read_only),
	KTAP_SLOW_TEST(test_parameters_that_are_rubbish_are_refused),
	KTAP_END
};
