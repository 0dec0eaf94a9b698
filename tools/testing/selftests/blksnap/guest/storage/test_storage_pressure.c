// SPDX-License-Identifier: GPL-2.0
/*
 * Snapshots on a machine that runs out of memory
 *
 * Memory is to be had by writing to the origin, and writing to the origin takes
 * memory for copies: with swap on the origin, with a page cache full of its dirty
 * pages, in a cgroup that has used up its share.  Whatever happens, it has to go
 * on, and the image has to stay as it was.
 *
 * The disks are those of the command line; disks in memory would be part of the
 * problem.  The machine is small, so what they hold is computed, not remembered.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test_storage.h"

#define ORIGIN_DIR "/tmp/storage-origin"
#define IMAGE_DIR "/tmp/storage-image"
#define CGROUP "/sys/fs/cgroup"
#define SMALL CGROUP "/blksnap-small"
#define SMALL_BYTES (24 * MIB)
#define SLOW_STORE_MS 20U
#define PAGE_BYTES 4096U
#define AVAILABLE_BYTES (120 * MIB)	/* at most, at the beginning of a test */

const char *pressure_origin_path, *pressure_storage_path;

static struct disk origin, storage;
static bool is_swapping;
static pid_t locker;

/* --- content that is known by its place --- */

static void fill_place(void *buffer, uint64_t nr_bytes, uint64_t place, uint64_t version)
{
	uint64_t *words = buffer;
	uint64_t i;

	for (i = 0; i < nr_bytes / sizeof(*words); i++)
		words[i] = (place + i * sizeof(*words)) * 0x9e3779b97f4a7c15ULL + version;
}

/* Write @nr_bytes of a version to a file or a device, in the page cache or past it. */
static bool write_places(const char *path, int flags, uint64_t nr_bytes, uint64_t version)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0644);
	void *buffer = alloc_aligned(MIB);
	bool ok = fd >= 0;
	uint64_t at;

	for (at = 0; ok && at < nr_bytes; at += MIB) {
		fill_place(buffer, MIB, at, version);
		ok = write(fd, buffer, MIB) == (ssize_t)MIB;
	}
	ok = ok && !fsync(fd);
	if (fd >= 0)
		close(fd);
	free(buffer);
	return ok;
}

/* Where two buffers differ first; @nr_bytes if they do not. */
static uint64_t first_difference(const uint8_t *have, const uint8_t *want, uint64_t nr_bytes)
{
	uint64_t i;

	for (i = 0; i < nr_bytes && have[i] == want[i]; i++)
		;
	return i;
}

static void expect_places(const char *path, int flags, uint64_t from, uint64_t to,
			  uint64_t version)
{
	uint8_t *have = alloc_aligned(MIB), *want = alloc_aligned(MIB);
	uint64_t at, piece, same = 0;
	ssize_t ret = 0;
	int fd;

	fd = ASSERT_OK(open(path, O_RDONLY | O_CLOEXEC | flags));
	for (at = from; at < to; at += piece) {
		piece = to - at < MIB ? to - at : MIB;
		fill_place(want, piece, at, version);
		ret = pread(fd, have, piece, at);
		if (ret != (ssize_t)piece)
			break;
		same = first_difference(have, want, piece);
		if (same < piece)
			break;
	}
	if (at < to && ret < 0)
		FAIL("reading %s at %llu: %s", path, (unsigned long long)at, strerror(errno));
	else if (at < to)
		FAIL("%s is not version %llu at %llu", path, (unsigned long long)version,
		     (unsigned long long)(at + same));
	close(fd);
	free(have);
	free(want);
}

/* --- hogs --- */

static int64_t memory_bytes(const char *name)
{
	char line[200];
	int64_t kib = 0;
	FILE *file;

	file = fopen("/proc/meminfo", "r");
	ASSERT(file);
	while (fgets(line, sizeof(line), file))
		if (!strncmp(line, name, strlen(name)) && line[strlen(name)] == ':')
			kib = atoll(line + strlen(name) + 1);
	fclose(file);
	return kib * (int64_t)KIB;
}

/* Exit code of the child: 0 if its memory always was what it had made of it. */
static int hog_run(uint64_t nr_bytes, unsigned int nr_rounds)
{
	uint64_t page, nr_pages = nr_bytes / PAGE_BYTES;
	unsigned int round;
	uint64_t *memory;

	memory = mmap(NULL, nr_bytes, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		return 2;
	for (round = 0; round <= nr_rounds; round++) {
		for (page = 0; page < nr_pages; page++) {
			uint64_t *words = memory + page * PAGE_BYTES / sizeof(*words);

			if (round && (words[0] != page + round - 1 || words[511] != ~page))
				return 1;
			words[0] = page + round;
			words[511] = ~page;
		}
	}
	return 0;
}

static pid_t hog_start(uint64_t nr_bytes, unsigned int nr_rounds)
{
	pid_t child;

	fflush(stdout);
	child = fork();
	if (!child)
		_exit(hog_run(nr_bytes, nr_rounds));
	ASSERT_OK(child);
	return child;
}

static void expect_child_succeeds(pid_t child)
{
	int status = 0;

	ASSERT_EQ(waitpid(child, &status, 0), child);
	EXPECT(WIFEXITED(status));
	EXPECT_EQ(WEXITSTATUS(status), 0);
}

/* --- set-up --- */

/* Runs until it is killed, with @nr_bytes that cannot be swapped. */
static int lock_run(uint64_t nr_bytes)
{
	void *memory = mmap(NULL, nr_bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (memory == MAP_FAILED || mlock(memory, nr_bytes))
		return 1;
	raise(SIGSTOP);
	pause();
	return 0;
}

/* A machine may have more memory than these tests are good for. */
static void lock_memory(void)
{
	const int64_t nr_bytes = memory_bytes("MemAvailable") - (int64_t)AVAILABLE_BYTES;
	int status = 0;

	if (nr_bytes < (int64_t)MIB)
		return;
	fflush(stdout);
	locker = fork();
	if (!locker)
		_exit(lock_run(nr_bytes));
	ASSERT_OK(locker);
	ASSERT_EQ(waitpid(locker, &status, WUNTRACED), locker);
	ASSERT(WIFSTOPPED(status));
}

static void unlock_memory(void)
{
	if (locker <= 0)
		return;
	kill(locker, SIGKILL);
	waitpid(locker, NULL, 0);
	locker = 0;
}

void pressure_set_up(void)
{
	ctl_set_up();
	if (!pressure_origin_path || !pressure_storage_path ||
	    disk_find(&origin, pressure_origin_path) ||
	    disk_find(&storage, pressure_storage_path)) {
		ktap_skip("needs --device and --storage");
		return;
	}
	log_clear();
	gate_create(&rig.storage_gate, "storage", &storage);
	rig.storage = &rig.storage_gate.disk;
	rig_use_origin(&origin);
	lock_memory();
}

void pressure_tear_down(void)
{
	unlock_memory();
	if (is_swapping)
		swapoff(origin.path);
	is_swapping = false;
	umount(IMAGE_DIR);
	umount(ORIGIN_DIR);
	rig_tear_down();
	rmdir(SMALL);
}

/* --- swap --- */

/* More memory is used than there is, round after round. */
static void swap_on_origin(uint64_t swap_bytes)
{
	const uint64_t nr_bytes = memory_bytes("MemAvailable") + swap_bytes / 2;
	int64_t swapped;
	pid_t child;

	ASSERT_EQ(shell("mkswap -q %s %llu 2>/dev/null || mkswap %s %llu >/dev/null", origin.path,
			(unsigned long long)(swap_bytes / KIB), origin.path,
			(unsigned long long)(swap_bytes / KIB)), 0);
	snapshot_take(&rig.snapshot);
	ASSERT_OK(swapon(origin.path, 0));
	is_swapping = true;
	child = hog_start(nr_bytes, 2);
	expect_child_succeeds(child);
	swapped = image_number("copied_bytes");
	ktap_note("%lld MiB of memory used, %lld MiB of the origin copied, %lld writes held",
		  (long long)(nr_bytes / MIB), (long long)(swapped / (int64_t)MIB),
		  (long long)image_number("held_writes_total"));
	EXPECT(swapped > (int64_t)(8 * MIB));
	EXPECT_OK(swapoff(origin.path));
	is_swapping = false;
	wait_until_stored();
	EXPECT_EQ(image_number("error"), 0);
}

/* Without what mkswap itself writes before the take: the first page, the last byte. */
static void expect_swapped_places(uint64_t swap_bytes)
{
	expect_places(image_of(&rig.snapshot, rig.origin), O_DIRECT, PAGE_BYTES,
		      swap_bytes - PAGE_BYTES, 1);
}

static void test_swap_on_the_origin(void)
{
	ASSERT(write_places(origin.path, O_DIRECT, origin.nr_bytes, 1));
	snapshot_create(&rig.snapshot, rig.origin);
	ASSERT_OK(append_bytes(0, storage.nr_bytes - 2 * EDGE_BYTES));
	gate_delay(&rig.storage_gate, SLOW_STORE_MS);
	swap_on_origin(origin.nr_bytes);
	gate_mend(&rig.storage_gate);
	expect_swapped_places(origin.nr_bytes);
}

/* The only disk there is: swap, and the copies of what swapping overwrites. */
static void test_swap_and_storage_on_the_origin(void)
{
	const uint64_t half = origin.nr_bytes / 2 / MIB * MIB;

	ASSERT(write_places(origin.path, O_DIRECT, origin.nr_bytes, 1));
	snapshot_create(&rig.snapshot, rig.origin);
	ASSERT_OK(append_range(&rig.snapshot, &origin, half / SECTOR_SIZE, half / SECTOR_SIZE));
	swap_on_origin(half - 2 * EDGE_BYTES);
	expect_swapped_places(half - 2 * EDGE_BYTES);
}

/* --- a page cache full of dirty pages --- */

#define FILE_BYTES (48 * MIB)

static void take_with_file(void)
{
	ASSERT_EQ(shell("mkfs.ext4 -q -F %s", origin.path), 0);
	mkdir(ORIGIN_DIR, 0755);
	mkdir(IMAGE_DIR, 0755);
	ASSERT_OK(mount(origin.path, ORIGIN_DIR, "ext4", 0, NULL));
	ASSERT(write_places(ORIGIN_DIR "/file", 0, FILE_BYTES, 1));
	snapshot_create(&rig.snapshot, rig.origin);
	ASSERT_OK(append_bytes(0, storage.nr_bytes - 2 * EDGE_BYTES));
	snapshot_take(&rig.snapshot);
	gate_delay(&rig.storage_gate, SLOW_STORE_MS);
}

static void expect_file_versions(void)
{
	gate_mend(&rig.storage_gate);
	wait_until_stored();
	write_text("/proc/sys/vm/drop_caches", "3");
	expect_places(ORIGIN_DIR "/file", 0, 0, FILE_BYTES, 2);
	ASSERT_OK(mount(image_of(&rig.snapshot, rig.origin), IMAGE_DIR, "ext4", MS_RDONLY, NULL));
	expect_places(IMAGE_DIR "/file", 0, 0, FILE_BYTES, 1);
	umount(IMAGE_DIR);
	EXPECT_EQ(shell("e2fsck -fn %s >/dev/null 2>&1", image_of(&rig.snapshot, rig.origin)), 0);
	EXPECT_EQ(image_number("error"), 0);
	EXPECT(image_number("copied_bytes") >= (int64_t)FILE_BYTES);
}

/* A hog without swap: all that can be given back are pages of the file. */
static void test_dirty_page_cache_while_memory_is_short(void)
{
	pid_t child;

	take_with_file();
	child = hog_start(memory_bytes("MemAvailable") - 24 * MIB, 40);
	sleep_ms(CALM_MS);
	ASSERT(write_places(ORIGIN_DIR "/file", 0, FILE_BYTES, 2));
	ktap_note("%lld KiB free after writing", (long long)(memory_bytes("MemFree") / 1024));
	expect_child_succeeds(child);
	expect_file_versions();
}

static bool limit_memory(void)
{
	char limit[32];

	if (access(CGROUP "/cgroup.controllers", F_OK))
		mount("cgroup2", CGROUP, "cgroup2", 0, NULL);
	write_text(CGROUP "/cgroup.subtree_control", "+memory +io");
	mkdir(SMALL, 0755);
	snprintf(limit, sizeof(limit), "%llu", SMALL_BYTES);
	if (write_text(SMALL "/memory.max", limit))
		return true;
	ktap_skip("this kernel cannot limit the memory of a cgroup");
	return false;
}

/* How often the cgroup had somebody killed. */
static int64_t count_killed(void)
{
	char name[64];
	long long number, nr = -1;
	FILE *file;

	file = fopen(SMALL "/memory.events", "r");
	ASSERT(file);
	while (fscanf(file, "%63s %lld", name, &number) == 2)
		if (!strcmp(name, "oom_kill"))
			nr = number;
	fclose(file);
	return nr;
}

static void test_writer_in_a_cgroup_without_memory(void)
{
	pid_t child;

	if (!limit_memory())
		return;
	take_with_file();
	fflush(stdout);
	child = fork();
	if (!child)
		_exit(!write_text(SMALL "/cgroup.procs", "0") ||
		      !write_places(ORIGIN_DIR "/file", 0, FILE_BYTES, 2));
	ASSERT_OK(child);
	expect_child_succeeds(child);
	ktap_note("at most %lld KiB in the cgroup",
		  (long long)read_number(SMALL "/memory.peak") / 1024);
	EXPECT_EQ(count_killed(), 0);
	expect_file_versions();
}

const struct ktap_test pressure_tests[] = {
	KTAP_TEST(test_swap_on_the_origin),
	KTAP_TEST(test_swap_and_storage_on_the_origin),
	KTAP_TEST(test_dirty_page_cache_while_memory_is_short),
	KTAP_TEST(test_writer_in_a_cgroup_without_memory),
	KTAP_END
};
