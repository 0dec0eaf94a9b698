// SPDX-License-Identifier: GPL-2.0
/*
 * Work that looks like work
 *
 * Each row is the cost of a request, or of a step of the work on files, with a
 * snapshot held since just before; stores that come later are included.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test_bench.h"

#define MIX_MIB 64U
#define MIX_REQUESTS 8192U
#define COVER_MIB 16U
#define FILES 400U
#define FILE_BYTES 8192U
#define MOUNT_POINT "/tmp/bench"

static struct disk mix_disk;

static void mix_disk_need(void)
{
	struct load load;
	struct cost cost;

	if (mix_disk.is_ours)
		return;
	ASSERT_OK(null_disk_create(&mix_disk, "nullb4", MIX_MIB,
				   &bench_options));
	load_stride(&load, true, MIB, MIX_MIB, MIB);
	load_settled(&load, mix_disk.path, &cost);
	load_free(&load);
}

void mix_tear_down(void)
{
	umount2(MOUNT_POINT, MNT_DETACH);
	way_stop();
}

static void mix_row_add(const char *name, struct load *load)
{
	struct cost cost;

	load->depth = 32;
	way_start(bench_way, &mix_disk, &bench_storage);
	way_take();
	settle();
	load_settled(load, way_origin(), &cost);
	load_free(load);
	row_add("instructions", cost.busy_ns, "%s.mix.%s", bench_way->name, name);
}

static void mix_read_write(void)
{
	struct load load;

	mix_disk_need();
	load_mix(&load, MIX_REQUESTS, MIX_MIB * MIB);
	mix_row_add("read_write_zipf", &load);
}

static void mix_sequential(void)
{
	struct load load;

	mix_disk_need();
	load_stride(&load, true, 64 * KIB, MIX_MIB * 16, 64 * KIB);
	mix_row_add("overwrite_64k", &load);
}

static void mix_cover(void)
{
	struct load load;

	mix_disk_need();
	load_cover(&load, 4096, COVER_MIB * MIB);
	mix_row_add("random_until_copied", &load);
}

static void file_write(unsigned int number, const void *data)
{
	char path[60];
	int fd;

	/* Every second one is new, the others replace an older one. */
	snprintf(path, sizeof(path), MOUNT_POINT "/%u",
		 number % 2 ? number : number / 8 * 2);
	fd = ASSERT_OK(open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC,
			    0600));
	ASSERT_EQ(write(fd, data, FILE_BYTES), FILE_BYTES);
	ASSERT_OK(fsync(fd));
	close(fd);
}

/* Small files, each safe on disk before the next one. */
static void mix_files(void)
{
	static char data[FILE_BYTES];
	struct meter meter;
	unsigned int i;

	mix_disk_need();
	memset(data, 0x77, sizeof(data));
	way_start(bench_way, &mix_disk, &bench_storage);
	ASSERT(kernel_module_load("ext4"));
	ASSERT_EQ(shell("mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 %s",
			way_origin()), 0);
	mkdir(MOUNT_POINT, 0700);
	ASSERT_OK(mount(way_origin(), MOUNT_POINT, "ext4", 0, NULL));
	file_write(0, data);
	way_take();
	settle();
	meter_start(&meter);
	for (i = 0; i < FILES; i++)
		file_write(i, data);
	settle();
	row_add("instructions", meter_busy_ns(&meter) / FILES,
		"%s.mix.ext4_fsync", bench_way->name);
	ASSERT_OK(umount(MOUNT_POINT));
}

const struct ktap_test mix_tests[] = {
	KTAP_TEST(mix_read_write),
	KTAP_TEST(mix_sequential),
	KTAP_TEST(mix_cover),
	KTAP_TEST(mix_files),
	KTAP_END
};
