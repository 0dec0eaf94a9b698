// SPDX-License-Identifier: GPL-2.0
/*
 * What an image asks of direct I/O
 *
 * An image hands bios on to its origin and to the storage.  A buffer that these would
 * not take has to be refused by the image itself, with the errno that the origin
 * answers, and not fail below.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "test_stacks.h"

#define DISK_MIB 16

/**
 * struct aligned_case - an origin and a storage
 * @modules:	what the guest must be able to load
 * @block_bytes: logical block size of the disk $B0
 * @up:		commands that print the path of the origin; $MIB is the size of disks
 * @storage_up:	commands that print that of the storage, on $B0
 * @down:	commands that remove both
 */
struct aligned_case {
	const char *modules;
	unsigned int block_bytes;
	const char *up;
	const char *storage_up;
	const char *down;
};

static const struct aligned_case crypt_origin = {
	.modules = "dm-crypt xts", .block_bytes = 4096,
	.up = "dm top \"0 $((MIB * 1024)) crypt $crypt $B0 0 1 sector_size:4096\"",
	.storage_up = "dm store \"0 $((MIB * 1024)) linear $B0 $((MIB * 1024))\"",
	.down = "undm top; undm store",
};

static const struct aligned_case crypt_storage = {
	.modules = "dm-crypt xts sd_mod",
	.up = "modprobe scsi_debug dev_size_mb=$MIB || exit 4\n"
	      "for i in $(seq 100); do ls $scsi >&2 && break; sleep 0.1; done\n"
	      "echo /dev/$(ls $scsi)",
	.storage_up = "dm store \"0 $(sectors $B0) crypt $crypt $B0 0\"",
	.down = "undm store; rmmod scsi_debug",
};

static struct {
	const struct aligned_case *made;
	struct disk below;
	struct disk origin;
	struct disk storage;
	uint8_t *buffer;
} aligned;

static bool make_disk(struct disk *disk, const char *up)
{
	char path[sizeof(disk->path)];
	int code = shell_line(path, sizeof(path), up);

	if (code == KTAP_SKIP)
		ktap_skip("this machine has nothing to build this of");
	else if (!EXPECT_EQ(code, 0))
		return false;
	return !code && !EXPECT_OK(disk_find(disk, path));
}

static bool make_case(const struct aligned_case *made)
{
	const struct null_disk_options options = { .block_bytes = made->block_bytes };
	char number[16];

	if (!load_modules(made->modules))
		return false;
	snprintf(number, sizeof(number), "%u", DISK_MIB);
	setenv("MIB", number, 1);
	ASSERT_OK(null_disk_create(&aligned.below, "nullb0", DISK_MIB, &options));
	setenv("B0", aligned.below.path, 1);
	aligned.made = made;
	aligned.buffer = alloc_aligned(64 * KIB);
	return make_disk(&aligned.origin, made->up) &&
	       make_disk(&aligned.storage, made->storage_up);
}

void aligned_tear_down(void)
{
	char line[100];

	ctl_tear_down();
	/* What a skipped test has not made cannot be removed. */
	if (aligned.made && shell_line(line, sizeof(line), aligned.made->down) &&
	    aligned.storage.path[0])
		FAIL("the devices cannot be removed");
	null_disk_destroy(&aligned.below);
	free(aligned.buffer);
	memset(&aligned, 0, sizeof(aligned));
}

/* The errno of a direct read into a buffer that begins @shift after a page, or 0. */
static int read_shifted(const char *path, unsigned int shift, size_t nr_bytes)
{
	int fd = ASSERT_OK(open(path, O_RDONLY | O_DIRECT | O_CLOEXEC));
	ssize_t ret = pread(fd, aligned.buffer + shift, nr_bytes, 0);
	int error = ret < 0 ? errno : 0;

	close(fd);
	return error;
}

static int64_t queue_limit(const char *path, const char *name)
{
	return read_number("/sys/block/%s/queue/%s", path + strlen("/dev/"), name);
}

static void expect_same_limit(const char *image, const char *name)
{
	EXPECT_EQ(queue_limit(image, name), queue_limit(aligned.origin.path, name));
}

static void test_image_has_the_limits_of_its_origin(void)
{
	struct snapshot snapshot;
	const char *image;

	if (!make_case(&crypt_origin))
		return;
	snapshot_now(&snapshot, &aligned.origin, &aligned.storage);
	image = image_of(&snapshot, &aligned.origin);
	EXPECT_EQ(queue_limit(image, "logical_block_size"), 4096);
	expect_same_limit(image, "logical_block_size");
	expect_same_limit(image, "physical_block_size");
	expect_same_limit(image, "minimum_io_size");
	expect_same_limit(image, "optimal_io_size");
}

static void test_image_refuses_the_buffers_that_its_origin_refuses(void)
{
	struct snapshot snapshot;
	unsigned int shift;
	const char *image;

	if (!make_case(&crypt_origin))
		return;
	ASSERT(fill_direct(aligned.origin.path, 0x11, MIB, 0));
	snapshot_now(&snapshot, &aligned.origin, &aligned.storage);
	image = image_of(&snapshot, &aligned.origin);
	for (shift = 1; shift < 4096; shift *= 2) {
		ktap_context("a buffer %u bytes after a page", shift);
		EXPECT_EQ(read_shifted(image, shift, 8192),
			  read_shifted(aligned.origin.path, shift, 8192));
	}
	EXPECT_EQ(read_shifted(image, 512, 8192), EINVAL);
	EXPECT(reads_as(image, 0x11, MIB, 0));
}

/* What the image has copied is read from a storage that asks for more than the origin. */
static void test_image_refuses_the_buffers_that_its_storage_cannot_take(void)
{
	struct snapshot snapshot;
	unsigned int shift;
	const char *image;
	int error;

	if (!make_case(&crypt_storage))
		return;
	ASSERT(fill_direct(aligned.origin.path, 0x11, MIB, 0));
	snapshot_now(&snapshot, &aligned.origin, &aligned.storage);
	image = image_of(&snapshot, &aligned.origin);
	ASSERT(fill_direct(aligned.origin.path, 0x22, MIB, 0));
	sleep_ms(500);
	for (shift = 1; shift < 4096; shift *= 2) {
		error = read_shifted(image, shift, 8192);
		ktap_note("a buffer %u bytes after a page: errno %d", shift, error);
		EXPECT(error == EINVAL || (!error && is_filled_with(aligned.buffer + shift,
								    0x11, 8192)));
	}
	EXPECT(!error);
	EXPECT(reads_as(image, 0x11, MIB, 0));
}

const struct ktap_test aligned_tests[] = {
	KTAP_TEST(test_image_has_the_limits_of_its_origin),
	KTAP_TEST(test_image_refuses_the_buffers_that_its_origin_refuses),
	KTAP_TEST(test_image_refuses_the_buffers_that_its_storage_cannot_take),
	KTAP_END
};
