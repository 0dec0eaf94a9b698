// SPDX-License-Identifier: GPL-2.0
/*
 * What else may happen to a take
 *
 * A device that completes nothing, one that goes away, an order of stacked
 * devices that cannot be known, chains of thousands of requests.  Whatever
 * becomes of the take then, it comes to an end, it is done wholly or not at all,
 * and no writer is left waiting.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "test_instant.h"

#define OLD 0x11
#define NEW 0x22
#define LATER 0x33

/* What a busy host may need beside the times that the module waits. */
#define SLACK_S 20U

/* Syncing may take five times as long as draining. */
#define SYNC_S (5 * DRAIN_S)

static pthread_t helper;
static bool has_helper;
static atomic_bool is_over;

void corner_tear_down(void)
{
	dm_resume("upper0");
	dm_resume("upper1");
	atomic_store(&is_over, true);
	if (has_helper)
		pthread_join(helper, NULL);
	has_helper = false;
	stack_tear_down();
}

static void start_helper(void *(*fn)(void *data), void *data)
{
	ASSERT(!pthread_create(&helper, NULL, fn, data));
	has_helper = true;
}

static void *join_helper(void)
{
	void *result;

	pthread_join(helper, &result);
	has_helper = false;
	return result;
}

static bool make_linear(unsigned int i)
{
	char name[16];

	snprintf(name, sizeof(name), "upper%u", i);
	return dm_create(&stack.uppers[i], name, "0 %llu linear %s 0",
			 (unsigned long long)stack.disks[i].nr_bytes / SECTOR_SIZE,
			 stack.disks[i].path);
}

static void create_with_storage(struct snapshot *snapshot, const struct disk **members,
				unsigned int nr_members)
{
	snapshot_create_of(snapshot, members, nr_members);
	ASSERT_OK(append_range(snapshot, &stack.storage, 0,
			       stack.storage.nr_bytes / SECTOR_SIZE));
}

/* Result and duration of the call. */
static int timed_take(const struct snapshot *snapshot, double *seconds)
{
	const uint64_t begun_ns = now_ns();
	int ret = control_snapshot_take(ctl, &snapshot->id);

	*seconds = (now_ns() - begun_ns) / 1e9;
	ktap_note("the take returned %d after %.2f s", ret, *seconds);
	return ret;
}

static void expect_not_taken(const struct snapshot *snapshot)
{
	struct blk_snap_image_info *infos;
	unsigned int nr;

	EXPECT_ERR(control_snapshot_collect_images(ctl, &snapshot->id, &infos, &nr),
		   ENODEV);
	EXPECT(access("/dev/" BLK_SNAP_IMAGE_NAME "0", F_OK));
}

/* --- a device that completes nothing --- */

static void *write_to_suspended(void *data)
{
	return (void *)(uintptr_t)!fill_direct(data, NEW, 4096, 0);
}

static void test_take_of_a_suspended_device_times_out(void)
{
	const struct disk *members[2];
	struct snapshot snapshot;
	double seconds;

	make_disks(2, NULL);
	if (!make_linear(0))
		return;
	members[0] = &stack.uppers[0];
	members[1] = &stack.disks[1];
	ASSERT(fill_direct(stack.uppers[0].path, OLD, MIB, 0));
	create_with_storage(&snapshot, members, 2);
	ASSERT(dm_suspend("upper0"));
	start_helper(write_to_suspended, stack.uppers[0].path);
	sleep_ms(200);
	EXPECT_EQ(timed_take(&snapshot, &seconds), -ETIMEDOUT);
	EXPECT(seconds >= DRAIN_S && seconds < DRAIN_S + SLACK_S);
	expect_not_taken(&snapshot);
	/* Nobody is kept waiting but by the suspended device. */
	EXPECT(fill_direct(stack.disks[1].path, NEW, 4096, 0));
	dm_resume("upper0");
	EXPECT(!join_helper());
	snapshot_take(&snapshot);
	EXPECT(fill_direct(stack.uppers[0].path, OLD, 4096, 0));
	EXPECT(reads_as(image_of(&snapshot, &stack.uppers[0]), NEW, 4096, 0));
	EXPECT(reads_as(image_of(&snapshot, &stack.disks[1]), NEW, 4096, 0));
}

/* Leave a page to be written that cannot be written.  Returns what keeps it. */
static int make_dirty(const struct disk *disk, void *buffer)
{
	int fd = ASSERT_OK(open(disk->path, O_RDWR | O_CLOEXEC));

	memset(buffer, NEW, 4096);
	ASSERT_EQ(pwrite(fd, buffer, 4096, 0), 4096);
	return fd;
}

/* A file of a frozen filesystem is written to when that is thawed. */
static uint64_t longest_write_ns;

static void *write_to_file(void *data)
{
	char byte = 0;
	int fd = open(data, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	while (!atomic_load(&is_over)) {
		uint64_t ns = now_ns();

		if (pwrite(fd, &byte, 1, 0) != 1)
			return "writing to the file failed";
		ns = now_ns() - ns;
		if (ns > longest_write_ns)
			longest_write_ns = ns;
		sleep_ms(10);
	}
	close(fd);
	return NULL;
}

static void test_take_of_a_dead_device_does_not_keep_others_frozen(void)
{
	const struct disk *members[2] = { &stack.uppers[0], &stack.uppers[1] };
	uint8_t *buffer = alloc_aligned(4096);
	struct snapshot snapshot;
	double seconds;
	int fd;

	make_disks(2, NULL);
	/* The younger one is frozen first. */
	if (!make_linear(1) || !make_linear(0) || !mount_place(0, &stack.uppers[0]))
		return;
	create_with_storage(&snapshot, members, 2);
	longest_write_ns = 0;
	atomic_store(&is_over, false);
	start_helper(write_to_file, stack.places[0].path);
	ASSERT(dm_suspend("upper1"));
	fd = make_dirty(&stack.uppers[1], buffer);
	EXPECT_EQ(timed_take(&snapshot, &seconds), -ETIMEDOUT);
	EXPECT(seconds >= SYNC_S && seconds < SYNC_S + SLACK_S);
	expect_not_taken(&snapshot);
	/* It is still dead, and nobody waits for it any more. */
	EXPECT_EQ(shell("rmmod blksnap 2>/dev/null"), 1);
	sleep_ms(500);
	atomic_store(&is_over, true);
	EXPECT(!join_helper());
	ktap_note("a write to the other member took up to %.2f s",
		  longest_write_ns / 1e9);
	/* All are synced before one is frozen. */
	EXPECT(longest_write_ns < 1000000000ULL * DRAIN_S / 2);
	dm_resume("upper1");
	snapshot_take(&snapshot);
	EXPECT(reads_as(image_of(&snapshot, &stack.uppers[1]), NEW, 4096, 0));
	close(fd);
	free(buffer);
}

static void test_creation_does_not_wait_for_a_dead_device(void)
{
	uint8_t *buffer = alloc_aligned(4096);
	struct blk_snap_uuid id;
	uint64_t begun_ns;
	double seconds;
	int fd;

	make_disks(1, NULL);
	if (!make_linear(0))
		return;
	ASSERT(dm_suspend("upper0"));
	fd = make_dirty(&stack.uppers[0], buffer);
	begun_ns = now_ns();
	EXPECT_OK(control_snapshot_create(ctl, &stack.uppers[0].id, 1, &id));
	EXPECT_OK(control_snapshot_destroy(ctl, &id));
	EXPECT_OK(control_tracker_remove(ctl, stack.uppers[0].id));
	seconds = (now_ns() - begun_ns) / 1e9;
	ktap_note("it took %.2f s", seconds);
	EXPECT(seconds < DRAIN_S / 2);
	dm_resume("upper0");
	ASSERT_OK(control_snapshot_create(ctl, &stack.uppers[0].id, 1, &id));
	close(fd);
	free(buffer);
}

/* --- a member that goes away in the middle of a take --- */

#define SCSI_DEBUG "/sys/bus/pseudo/drivers/scsi_debug"
#define NR_SCSI_WRITES 8U

/* Where the last disk of scsi_debug is in sysfs; NULL if there is none. */
static const char *find_scsi_disk(struct disk *disk)
{
	static char path[200];
	char name[32], node[48];
	FILE *pipe;
	int nr;

	pipe = popen("ls -d " SCSI_DEBUG
		     "/adapter*/host*/target*/*/block/* 2>/dev/null | tail -n 1",
		     "r");
	if (!pipe)
		return NULL;
	nr = fscanf(pipe, "%199s", path);
	pclose(pipe);
	if (nr != 1)
		return NULL;
	snprintf(name, sizeof(name), "%.31s", strrchr(path, '/') + 1);
	snprintf(node, sizeof(node), "/dev/%s", name);
	return disk_find(disk, node) ? NULL : path;
}

static const char *make_scsi_disk(struct disk *disk)
{
	const char *path;
	unsigned int ms;

	kernel_module_load("sd_mod");
	if (!kernel_module_load("scsi_debug dev_size_mb=8 ndelay=300000000"))
		return NULL;
	for (ms = 0; ms < 10000; ms += 50) {
		path = find_scsi_disk(disk);
		if (path)
			return path;
		sleep_ms(50);
	}
	return NULL;
}

struct removal {
	char path[240];		/* to be written to */
	unsigned int after_ms;
};

static void *remove_scsi_disk(void *data)
{
	const struct removal *removal = data;

	sleep_ms(removal->after_ms);
	return (void *)(uintptr_t)!write_text(removal->path, "1");
}

static void write_one(struct async *async, int fd, void *buffer, uint64_t at)
{
	struct async_request request = {
		.fd = fd,
		.buffer = buffer,
		.nr_bytes = 4096,
		.at = at,
	};

	ASSERT_OK(async_write(async, &request));
}

/* Writes that may fail, as their device goes away. */
static void reap_any(struct async *async, unsigned int nr)
{
	struct async_event events[ASYNC_DEPTH_MAX];

	while (nr) {
		int ret = async_reap(async, events, 1);

		ASSERT_OK(ret);
		nr -= ret;
	}
}

static void take_while_removed(const struct disk *disk, const struct removal *removal)
{
	const struct disk *members[2] = { disk, &stack.disks[0] };
	struct async *async = async_open(ASYNC_AIO, ASYNC_DEPTH_MAX);
	void *buffer = alloc_aligned(4096);
	struct snapshot snapshot;
	double seconds;
	unsigned int i;
	int fd, ret;

	ASSERT(async);
	memset(buffer, NEW, 4096);
	ASSERT(fill_direct(stack.disks[0].path, OLD, 64 * KIB, 0));
	create_with_storage(&snapshot, members, 2);
	fd = ASSERT_OK(open(disk->path, O_WRONLY | O_DIRECT | O_CLOEXEC));
	for (i = 0; i < NR_SCSI_WRITES; i++)
		write_one(async, fd, buffer, i * 4096);
	start_helper(remove_scsi_disk, (void *)removal);
	ret = timed_take(&snapshot, &seconds);
	EXPECT(seconds < DRAIN_S + SLACK_S);
	EXPECT(fill_direct(stack.disks[0].path, NEW, 64 * KIB, 0));
	if (!ret) {
		snapshot_find_images(&snapshot);
		EXPECT(reads_as(image_of(&snapshot, &stack.disks[0]), OLD,
				64 * KIB, 0));
	}
	reap_any(async, NR_SCSI_WRITES);
	async_close(async);
	close(fd);
	EXPECT(!join_helper());
	EXPECT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	EXPECT_OK(control_tracker_remove(ctl, disk->id));
	free(buffer);
}

static void test_member_removed_during_a_take_hangs_nobody(void)
{
	static const unsigned int after_ms[] = { 0, 2, 10, 50, 150, 290, 310 };
	struct removal removal;
	struct disk disk;
	const char *path;
	unsigned int i;

	make_disks(1, NULL);
	for (i = 0; i < ARRAY_SIZE(after_ms); i++) {
		if (i && !write_text(SCSI_DEBUG "/add_host", "1"))
			FAIL("no new disk of scsi_debug");
		path = make_scsi_disk(&disk);
		if (!path) {
			ktap_skip("this kernel has no module scsi_debug");
			return;
		}
		snprintf(removal.path, sizeof(removal.path), "%s/device/delete", path);
		removal.after_ms = after_ms[i];
		ktap_note("removed %u ms after the take begins", after_ms[i]);
		take_while_removed(&disk, &removal);
		write_text(SCSI_DEBUG "/add_host", "-1");
	}
	shell("rmmod scsi_debug 2>/dev/null");
}

static void *fail_all_io(void *data)
{
	(void)data;
	sleep_ms(100);
	/* It is open, so it stays, with a table that fails everything. */
	dm_fail("upper0");
	return NULL;
}

static void test_member_that_fails_during_a_take_hangs_nobody(void)
{
	const struct disk *members[2];
	struct async *async;
	struct snapshot snapshot;
	double seconds;
	void *buffer;
	int fd;

	make_disks(2, NULL);
	if (!dm_create(&stack.uppers[0], "upper0", "0 %llu delay %s 0 0 %s 0 500",
		       (unsigned long long)stack.disks[0].nr_bytes / SECTOR_SIZE,
		       stack.disks[0].path, stack.disks[0].path))
		return;
	members[0] = &stack.uppers[0];
	members[1] = &stack.disks[1];
	ASSERT(fill_direct(stack.disks[1].path, OLD, 64 * KIB, 0));
	create_with_storage(&snapshot, members, 2);
	async = async_open(ASYNC_AIO, 1);
	ASSERT(async);
	buffer = alloc_aligned(4096);
	fd = ASSERT_OK(open(stack.uppers[0].path, O_WRONLY | O_DIRECT | O_CLOEXEC));
	write_one(async, fd, buffer, 0);
	start_helper(fail_all_io, NULL);
	EXPECT_EQ(timed_take(&snapshot, &seconds), 0);
	EXPECT(seconds < DRAIN_S + SLACK_S);
	join_helper();
	reap_any(async, 1);
	async_close(async);
	snapshot_find_images(&snapshot);
	EXPECT_EQ(pread(fd, buffer, 4096, 0), -1);
	EXPECT(fill_direct(stack.disks[1].path, NEW, 64 * KIB, 0));
	EXPECT(reads_as(image_of(&snapshot, &stack.disks[1]), OLD, 64 * KIB, 0));
	close(fd);
	free(buffer);
}

/* --- chains of requests --- */

#define SLOW_BYTES MIB
#define SLOW_MS 3000U
#define QUICK_BYTES (2 * GIB)

static void *zero_everything(void *data)
{
	uint64_t range[2] = { 0, SLOW_BYTES + QUICK_BYTES };
	int fd = open(data, O_RDWR | O_DIRECT | O_CLOEXEC);
	int ret = ioctl(fd, BLKZEROOUT, range);

	close(fd);
	return (void *)(uintptr_t)!!ret;
}

/* Until all requests but the first have completed. */
static void wait_for_quick_ones(const struct disk *disk)
{
	struct disk_stat stat;
	unsigned int ms;

	for (ms = 0; ms < SLOW_MS; ms += 10) {
		disk_read_stat(disk, &stat);
		if (stat.written_sectors >= QUICK_BYTES / SECTOR_SIZE)
			break;
		sleep_ms(10);
	}
	ktap_note("%llu writes have completed after %u ms, the first is due after %u ms",
		  (unsigned long long)stat.writes, ms, SLOW_MS);
}

/*
 * The first of thousands of chained requests completes last, and with it they all
 * do, one inside the other if nobody sees to it that they do not.
 */
static void test_chain_of_thousands_of_requests_completes(void)
{
	const struct disk *member = &stack.uppers[0];
	struct snapshot snapshot;
	double seconds;

	make_disks(1, NULL);
	kernel_module_load("dm-zero");
	if (!dm_create(&stack.uppers[0], "upper0",
		       "0 2048 delay %s 0 0 %s 0 %u\n2048 %llu zero",
		       stack.disks[0].path, stack.disks[0].path, SLOW_MS,
		       QUICK_BYTES / SECTOR_SIZE))
		return;
	ASSERT(fill_direct(stack.disks[0].path, OLD, SLOW_BYTES, 0));
	create_with_storage(&snapshot, &member, 1);
	start_helper(zero_everything, stack.uppers[0].path);
	wait_for_quick_ones(member);
	EXPECT_EQ(timed_take(&snapshot, &seconds), 0);
	snapshot_find_images(&snapshot);
	EXPECT(reads_as(image_of(&snapshot, member), 0, SLOW_BYTES, 0));
	EXPECT(!join_helper());
	EXPECT(reads_as(member->path, 0, SLOW_BYTES, 0));
}

/* --- a page that changes while it is being written --- */

#define FLIGHT_MS 3000U

static void *take_in_background(void *data)
{
	return (void *)(uintptr_t)!!control_snapshot_take(ctl, &((struct snapshot *)data)->id);
}

/* Writes one page to a page cache, and nothing waits until it is on the disk. */
static void write_page(int fd, int byte)
{
	char page[4096];

	memset(page, byte, sizeof(page));
	ASSERT_EQ(pwrite(fd, page, sizeof(page), 0), sizeof(page));
}

static bool wait_for_switch(const struct disk *disk)
{
	struct blk_snap_cbt_info info = { 0 };
	unsigned int ms;

	for (ms = 0; ms < FLIGHT_MS && !info.snap_number; ms += 10) {
		sleep_ms(10);
		ASSERT(tracker_info(disk, &info));
	}
	return info.snap_number;
}

/* A page cache above a slow member, which a take does not sync.  A node, or -1. */
static int make_cache(void)
{
	if (!dm_create(&stack.uppers[1], "upper1", "0 %llu delay %s 0 0 %s 0 %u",
		       (unsigned long long)stack.disks[0].nr_bytes / SECTOR_SIZE,
		       stack.disks[0].path, stack.disks[0].path, FLIGHT_MS) ||
	    !dm_create(&stack.uppers[0], "upper0", "0 %llu linear %s 0",
		       (unsigned long long)stack.disks[0].nr_bytes / SECTOR_SIZE,
		       stack.uppers[1].path))
		return -1;
	return ASSERT_OK(open(stack.uppers[0].path, O_RDWR | O_CLOEXEC));
}

/*
 * A cached page may be changed while a bio that was submitted before the take is
 * carrying it to the disk.  Then an image shows what was written after the take had
 * begun, but it does not change any more.
 */
static void test_image_shows_a_page_as_its_bio_left_it(void)
{
	const struct disk *members[2] = { &stack.uppers[1], &stack.disks[1] };
	struct snapshot snapshot;
	int fd;

	make_disks(2, NULL);
	fd = make_cache();
	if (fd < 0)
		return;
	ASSERT(fill_direct(members[0]->path, OLD, 4096, 0));
	ASSERT(fill_direct(members[1]->path, OLD, 4096, 0));
	create_with_storage(&snapshot, members, 2);
	write_page(fd, NEW);
	ASSERT_OK(sync_file_range(fd, 0, 4096, SYNC_FILE_RANGE_WRITE));
	start_helper(take_in_background, &snapshot);
	ASSERT(wait_for_switch(members[1]));
	ASSERT(fill_direct(members[1]->path, NEW, 4096, 0));
	write_page(fd, LATER);
	EXPECT(!join_helper());
	snapshot_find_images(&snapshot);
	EXPECT(reads_as(image_of(&snapshot, members[1]), OLD, 4096, 0));
	EXPECT(reads_as(image_of(&snapshot, members[0]), LATER, 4096, 0));
	EXPECT(fill_direct(members[0]->path, OLD, 4096, 0));
	EXPECT(reads_as(image_of(&snapshot, members[0]), LATER, 4096, 0));
	close(fd);
}

const struct ktap_test corner_tests[] = {
	KTAP_SLOW_TEST(test_take_of_a_suspended_device_times_out),
	KTAP_SLOW_TEST(test_take_of_a_dead_device_does_not_keep_others_frozen),
	KTAP_SLOW_TEST(test_creation_does_not_wait_for_a_dead_device),
	KTAP_TEST(test_member_removed_during_a_take_hangs_nobody),
	KTAP_TEST(test_member_that_fails_during_a_take_hangs_nobody),
	KTAP_SLOW_TEST(test_chain_of_thousands_of_requests_completes),
	KTAP_TEST(test_image_shows_a_page_as_its_bio_left_it),
	KTAP_END
};
