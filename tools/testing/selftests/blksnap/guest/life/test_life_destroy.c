// SPDX-License-Identifier: GPL-2.0
/*
 * Snapshots that are destroyed while they are in use
 *
 * From then on image I/O fails, writes to the origin go on, and nobody who
 * waited for anything of the snapshot waits any longer.  An image that is open
 * stays until it is closed, but fails and keeps its size: it may not look as if
 * it had been read to its end.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test_life_aio.h"
#include "test_life_kind.h"
#include "test_life_traffic.h"

#define MNT "/tmp/life-mnt"
#define FILE_BYTES (2 * MIB)

static struct disk slow;

void destroy_tear_down(void)
{
	umount2(MNT, MNT_DETACH);
	life_tear_down();
	slow_reader_unmake();
	null_disk_destroy(&slow);
}

/* --- being read and written --- */

static const char *destroy_under_traffic(unsigned int after_ms)
{
	struct traffic *traffic = traffic_now();
	struct snapshot snapshot;

	ASSERT(fill_direct(origin.path, OLD_BYTE, TRAFFIC_BYTES, 0));
	snapshot_now(&snapshot, &origin, &storage);
	traffic_start(origin.path, image_of(&snapshot, &origin), false);
	sleep_ms(after_ms);
	atomic_store(&traffic->may_reads_fail, true);
	EXPECT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	EXPECT(traffic_wait(&traffic->nr_failed_reads, 4));
	EXPECT(traffic_wait(&traffic->nr_written, 4));
	return traffic_stop();
}

static void test_image_shows_old_data_or_an_error(void)
{
	unsigned int i, nr_rounds = ktap_options.is_fast ? 3 : 15;
	struct random random;
	const char *error = NULL;

	random_init(&random, ktap_options.seed);
	for (i = 0; i < nr_rounds && !error; i++)
		error = destroy_under_traffic(random_below(&random, 20));
	if (error)
		FAIL("round %u: %s", i, error);
}

/* Returns the errno that ended the writing. */
static void *write_until_it_fails(void *data)
{
	void *buffer = alloc_aligned(64 * KIB);
	int fd = *(int *)data;
	uint64_t at = 0;

	memset(buffer, NEW_BYTE, 64 * KIB);
	while (pwrite(fd, buffer, 64 * KIB, at) == 64 * KIB)
		at = (at + 64 * KIB) % (DISK_MIB * MIB);
	free(buffer);
	return (void *)(intptr_t)errno;
}

static void test_image_writers_get_eio(void)
{
	struct snapshot snapshot;
	pthread_t thread;
	void *error;
	int fd;

	ASSERT(fill_direct(origin.path, OLD_BYTE, TRAFFIC_BYTES, 0));
	snapshot_now(&snapshot, &origin, &storage);
	fd = ASSERT_OK(open(image_of(&snapshot, &origin),
			    O_RDWR | O_DIRECT | O_CLOEXEC));
	ASSERT_EQ(pthread_create(&thread, NULL, write_until_it_fails, &fd), 0);
	sleep_ms(50);
	EXPECT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	pthread_join(thread, &error);
	EXPECT_EQ((intptr_t)error, EIO);
	close(fd);
	EXPECT(reads_as(origin.path, OLD_BYTE, TRAFFIC_BYTES, 0));
}

/* Returns what read() did. */
static void *read_first_block(void *data)
{
	const char *path = data;
	char *buffer = alloc_aligned(4096);
	int fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	ssize_t ret = pread(fd, buffer, 4096, 0);

	if (ret > 0 && !is_filled_with(buffer, OLD_BYTE, ret))
		ret = 0;
	close(fd);
	free(buffer);
	return (void *)ret;
}

static void *destroy_snapshot(void *data)
{
	const struct snapshot *snapshot = data;
	intptr_t ret = control_snapshot_destroy(ctl, &snapshot->id);

	return (void *)ret;
}

/* The read is sent, then the snapshot ends, then the write passes the read. */
static void test_read_under_way_does_not_get_new_data(void)
{
	pthread_t reader, destroyer;
	struct snapshot snapshot;
	void *read_ret, *destroy_ret;

	ASSERT(fill_direct(origin.path, OLD_BYTE, MIB, 0));
	if (!slow_reader_make(&slow, &origin, 600))
		return;
	snapshot_now(&snapshot, &slow, &storage);
	ASSERT_EQ(pthread_create(&reader, NULL, read_first_block,
				 (void *)image_of(&snapshot, &slow)), 0);
	sleep_ms(150);
	ASSERT_EQ(pthread_create(&destroyer, NULL, destroy_snapshot, &snapshot),
		  0);
	sleep_ms(150);
	EXPECT(fill_direct(slow.path, NEW_BYTE, 4096, 0));
	pthread_join(reader, &read_ret);
	pthread_join(destroyer, &destroy_ret);
	EXPECT_EQ((intptr_t)read_ret, -1);
	EXPECT_EQ((intptr_t)destroy_ret, 0);
}

/* What they wait for will never be: they must not wait for it. */
static void test_held_writes_go_on(void)
{
	const struct null_disk_options options = { .completion_ns = 400000000 };
	struct snapshot snapshot;
	struct aio aio;
	int fd;

	ASSERT_OK(null_disk_create(&slow, "nullb5", DISK_MIB, &options));
	fd = ASSERT_OK(open(slow.path, O_WRONLY | O_DIRECT | O_CLOEXEC));
	snapshot_now(&snapshot, &slow, &storage);
	ASSERT(aio_start(&aio, fd, 0, NEW_BYTE));
	EXPECT(held_writes(image_of(&snapshot, &slow)) > 0);
	EXPECT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	EXPECT(aio_finish(&aio));
	EXPECT_EQ(aio.nr_failed, 0);
	close(fd);
	EXPECT(reads_as(slow.path, NEW_BYTE, AIO_WRITES * AIO_BLOCK_BYTES, 0));
}

/* --- open and mounted --- */

static void test_open_image_ends_but_keeps_its_size(void)
{
	struct snapshot first, second;
	char buffer[1];
	const char *image;
	int fd;

	snapshot_now(&first, &origin, &storage);
	image = image_of(&first, &origin);
	EXPECT_EQ(image_attribute(image, "storage_bytes"), storage.nr_bytes - 2 * EDGE_BYTES);
	fd = ASSERT_OK(open(image, O_RDONLY | O_CLOEXEC));
	ASSERT_OK(control_snapshot_destroy(ctl, &first.id));
	EXPECT_EQ(lseek(fd, 0, SEEK_END), origin.nr_bytes);
	EXPECT_EQ(pread(fd, buffer, 1, origin.nr_bytes - 1), -1);
	EXPECT_EQ(errno, EIO);
	EXPECT_EQ(open(image, O_RDONLY | O_CLOEXEC), -1);
	EXPECT_EQ(errno, ENXIO);
	EXPECT_EQ(image_attribute(image, "storage_bytes"), 0);
	/* Its number is not given to another image before it is closed. */
	snapshot_now(&second, &origin, &storage);
	EXPECT(strcmp(image_of(&second, &origin), image));
	close(fd);
	EXPECT(wait_for_node(image, false));
	ASSERT_OK(control_snapshot_destroy(ctl, &second.id));
	snapshot_now(&second, &origin, &storage);
	EXPECT(!strcmp(image_of(&second, &origin), image));
}

static bool make_filesystem(void)
{
	kernel_module_load("ext4");
	mkdir(MNT, 0700);
	if (!shell("mkfs.ext4 -q -F %s >/dev/null 2>&1", origin.path) &&
	    !mount(origin.path, MNT, "ext4", 0, ""))
		return true;
	ktap_skip("ext4 cannot be mounted");
	return false;
}

static void make_file(void)
{
	void *buffer = alloc_aligned(FILE_BYTES);
	int fd = ASSERT_OK(open(MNT "/file", O_WRONLY | O_CREAT | O_CLOEXEC,
				0600));

	memset(buffer, OLD_BYTE, FILE_BYTES);
	EXPECT_EQ(write(fd, buffer, FILE_BYTES), FILE_BYTES);
	EXPECT_OK(fsync(fd));
	close(fd);
	free(buffer);
}

/* Reads the file, not from the cache.  Returns 0, or the errno that ended it. */
static int read_file(void)
{
	void *buffer = alloc_aligned(FILE_BYTES);
	int fd = open(MNT "/file", O_RDONLY | O_DIRECT | O_CLOEXEC);
	int ret = 0;

	if (fd < 0 || pread(fd, buffer, FILE_BYTES, 0) != (ssize_t)FILE_BYTES)
		ret = errno;
	else if (!is_filled_with(buffer, OLD_BYTE, FILE_BYTES))
		ret = EILSEQ;
	close(fd);
	free(buffer);
	return ret;
}

static void test_mounted_image_fails_and_can_be_unmounted(void)
{
	struct snapshot snapshot;

	if (!make_filesystem())
		return;
	make_file();
	snapshot_now(&snapshot, &origin, &storage);
	ASSERT_OK(umount(MNT));
	ASSERT_OK(mount(image_of(&snapshot, &origin), MNT, "ext4", MS_RDONLY,
			""));
	EXPECT_EQ(read_file(), 0);
	EXPECT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	EXPECT_EQ(read_file(), EIO);
	close_ctl();
	EXPECT_ERR(unload(), EAGAIN);
	EXPECT_OK(umount(MNT));
	EXPECT_OK(unload());
}

const struct ktap_test destroy_tests[] = {
	KTAP_TEST(test_image_shows_old_data_or_an_error),
	KTAP_TEST(test_read_under_way_does_not_get_new_data),
	KTAP_TEST(test_image_writers_get_eio),
	KTAP_TEST(test_held_writes_go_on),
	KTAP_TEST(test_open_image_ends_but_keeps_its_size),
	KTAP_TEST(test_mounted_image_fails_and_can_be_unmounted),
	KTAP_END
};
