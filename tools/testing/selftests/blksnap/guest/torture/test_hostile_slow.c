// SPDX-License-Identifier: GPL-2.0
/*
 * Calls that take long because their caller wants them to
 *
 * Memory may be as slow as whatever has to fetch it: a file on a network, a
 * page that a debugger or a userfaultfd keeps back.  Here it is the mapping of
 * a disk that takes seconds for a request.  And arguments may be as much work as
 * fits in them.  Whoever calls so may wait, nobody else.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test_hostile.h"

#define DISK_MIB 16
#define SLOW_MS 4000U	/* below the time after which null_blk gives up */
#define NR_TRIES 5	/* the machine may be slow, too */

/* So far apart that no page is read with another. */
#define PAGE_DISTANCE (512 * KIB)

static struct disk origin, other, storage, stuck_disk;
static char *slow_memory;
static int slow_fd = -1;
static struct snapshot held;

/*
 * The calls: with the argument itself in slow memory, or an array of it.
 */

union argument {
	struct blk_snap_version version;
	struct blk_snap_tracker_remove remove;
	struct blk_snap_tracker_collect trackers;
	struct blk_snap_tracker_read_cbt_bitmap map;
	struct blk_snap_tracker_mark_dirty_blocks mark;
	struct blk_snap_snapshot_create create;
	struct blk_snap_snapshot_append_storage append;
	struct blk_snap_snapshot_collect snapshots;
	struct blk_snap_snapshot_collect_images images;
	struct blk_snap_snapshot_event event;
	struct blk_snap_snapshot_info info;
};

struct slow_call {
	unsigned long request;
	bool is_array;		/* else the argument is in slow memory */
	pthread_t thread;
	void *page;
	union argument arg;
};

static struct slow_call slow_calls[] = {
	{ .request = IOCTL_BLK_SNAP_TRACKER_READ_CBT_MAP, .is_array = true },
	{ .request = IOCTL_BLK_SNAP_TRACKER_COLLECT, .is_array = true },
	{ .request = IOCTL_BLK_SNAP_TRACKER_MARK_DIRTY_BLOCKS, .is_array = true },
	{ .request = IOCTL_BLK_SNAP_SNAPSHOT_CREATE, .is_array = true },
	{ .request = IOCTL_BLK_SNAP_SNAPSHOT_APPEND_STORAGE, .is_array = true },
	{ .request = IOCTL_BLK_SNAP_SNAPSHOT_COLLECT, .is_array = true },
	{ .request = IOCTL_BLK_SNAP_SNAPSHOT_COLLECT_IMAGES, .is_array = true },
	{ .request = IOCTL_BLK_SNAP_SNAPSHOT_INFO, .is_array = true },
	{ .request = IOCTL_BLK_SNAP_VERSION },
	{ .request = IOCTL_BLK_SNAP_TRACKER_REMOVE },
	{ .request = IOCTL_BLK_SNAP_TRACKER_COLLECT },
	{ .request = IOCTL_BLK_SNAP_TRACKER_READ_CBT_MAP },
	{ .request = IOCTL_BLK_SNAP_TRACKER_MARK_DIRTY_BLOCKS },
	{ .request = IOCTL_BLK_SNAP_SNAPSHOT_CREATE },
	{ .request = IOCTL_BLK_SNAP_SNAPSHOT_DESTROY },
	{ .request = IOCTL_BLK_SNAP_SNAPSHOT_APPEND_STORAGE },
	{ .request = IOCTL_BLK_SNAP_SNAPSHOT_TAKE },
	{ .request = IOCTL_BLK_SNAP_SNAPSHOT_COLLECT },
	{ .request = IOCTL_BLK_SNAP_SNAPSHOT_COLLECT_IMAGES },
	{ .request = IOCTL_BLK_SNAP_SNAPSHOT_WAIT_EVENT },
	{ .request = IOCTL_BLK_SNAP_SNAPSHOT_INFO },
};

#define NR_SLOW_CALLS ARRAY_SIZE(slow_calls)

static atomic_uint nr_entering, nr_inside;

/* An argument that leads to the array: everything before it is right. */
static void fill_argument(struct slow_call *call)
{
	union argument *arg = &call->arg;

	memset(arg, 0, sizeof(*arg));
	switch (call->request) {
	case IOCTL_BLK_SNAP_TRACKER_READ_CBT_MAP:
		arg->map.dev_id = origin.id;
		arg->map.length = 64;
		arg->map.buff = call->page;
		break;
	case IOCTL_BLK_SNAP_TRACKER_COLLECT:
		arg->trackers.count = 8;
		arg->trackers.cbt_info_array = call->page;
		break;
	case IOCTL_BLK_SNAP_TRACKER_MARK_DIRTY_BLOCKS:
		arg->mark.dev_id = origin.id;
		arg->mark.count = 8;
		arg->mark.dirty_blocks_array = call->page;
		break;
	case IOCTL_BLK_SNAP_SNAPSHOT_CREATE:
		arg->create.count = 2;
		arg->create.dev_id_array = call->page;
		break;
	case IOCTL_BLK_SNAP_SNAPSHOT_APPEND_STORAGE:
		arg->append.id = held.id;
		arg->append.dev_id = storage.id;
		arg->append.count = 2;
		arg->append.ranges = call->page;
		break;
	case IOCTL_BLK_SNAP_SNAPSHOT_COLLECT:
		arg->snapshots.count = 8;
		arg->snapshots.ids = call->page;
		break;
	case IOCTL_BLK_SNAP_SNAPSHOT_COLLECT_IMAGES:
		arg->images.id = held.id;
		arg->images.count = 8;
		arg->images.image_info_array = call->page;
		break;
	case IOCTL_BLK_SNAP_SNAPSHOT_INFO:
		arg->info.id = held.id;
		arg->info.count = 8;
		arg->info.dev_id_array = (uintptr_t)call->page;
		break;
	}
}

static void *make_slow_call(void *data)
{
	struct slow_call *call = data;

	atomic_fetch_add(&nr_inside, 1);
	atomic_fetch_add(&nr_entering, 1);
	ioctl(ctl, call->request, call->is_array ? (void *)&call->arg : call->page);
	atomic_fetch_sub(&nr_inside, 1);
	return NULL;
}

/* Nothing of the slow disk is in memory afterwards. */
static void make_memory_slow(void)
{
	ASSERT_OK(madvise(slow_memory, DISK_MIB * MIB, MADV_DONTNEED));
	ASSERT_OK(fsync(slow_fd));
	ASSERT_OK(posix_fadvise(slow_fd, 0, 0, POSIX_FADV_DONTNEED));
}

static void start_slow_calls(void)
{
	unsigned int i;

	atomic_store(&nr_entering, 0);
	for (i = 0; i < NR_SLOW_CALLS; i++) {
		slow_calls[i].page = slow_memory + i * PAGE_DISTANCE;
		fill_argument(&slow_calls[i]);
		ASSERT_EQ(pthread_create(&slow_calls[i].thread, NULL,
					 make_slow_call, &slow_calls[i]), 0);
	}
	while (atomic_load(&nr_entering) < NR_SLOW_CALLS)
		sleep_ms(1);
	/* From here on each of them is waiting for its memory. */
	sleep_ms(50);
}

static void join_slow_calls(void)
{
	unsigned int i;

	for (i = 0; i < NR_SLOW_CALLS; i++)
		pthread_join(slow_calls[i].thread, NULL);
}

/* Every call that an agent makes. */
static void make_honest_calls(void)
{
	struct blk_snap_snapshot_event event;
	struct blk_snap_cbt_info info;
	struct snapshot snapshot;
	struct blk_snap_uuid *ids;
	unsigned int nr;

	snapshot_create(&snapshot, &other);
	EXPECT_OK(next_event(&snapshot, 0, &event));
	EXPECT_OK(append_range(&snapshot, &storage, 8192, 8192));
	snapshot_take(&snapshot);
	free(read_map(&other, &info));
	EXPECT_OK(control_snapshot_collect(ctl, &ids, &nr));
	EXPECT_EQ(nr, 2);
	free(ids);
	EXPECT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	EXPECT_OK(control_tracker_remove(ctl, other.id));
}

static void make_stuck_disk(void)
{
	const struct null_disk_options options = {
		.completion_ns = SLOW_MS * 1000000U,
	};

	ASSERT_OK(null_disk_create(&stuck_disk, "nullb14", DISK_MIB, &options));
	slow_fd = ASSERT_OK(open(stuck_disk.path, O_RDWR | O_CLOEXEC));
	slow_memory = mmap(NULL, DISK_MIB * MIB, PROT_READ | PROT_WRITE,
			   MAP_SHARED, slow_fd, 0);
	ASSERT(slow_memory != MAP_FAILED);
	ASSERT_OK(madvise(slow_memory, DISK_MIB * MIB, MADV_RANDOM));
}

static void remove_stuck_disk(void)
{
	munmap(slow_memory, DISK_MIB * MIB);
	close(slow_fd);
	null_disk_destroy(&stuck_disk);
}

static void make_disks(void)
{
	ASSERT_OK(null_disk_create(&origin, "nullb11", DISK_MIB, NULL));
	ASSERT_OK(null_disk_create(&other, "nullb12", DISK_MIB, NULL));
	ASSERT_OK(null_disk_create(&storage, "nullb13", DISK_MIB, NULL));
}

static void remove_disks(void)
{
	null_disk_destroy(&origin);
	null_disk_destroy(&other);
	null_disk_destroy(&storage);
}

static void test_slow_memory_of_one_keeps_nobody_else_waiting(void)
{
	unsigned int i, nr_still_inside = 0;

	make_disks();
	make_stuck_disk();
	snapshot_create(&held, &origin);
	ASSERT_OK(append_range(&held, &storage, 2048, 6144));
	snapshot_take(&held);
	for (i = 0; i < NR_TRIES && nr_still_inside < NR_SLOW_CALLS; i++) {
		make_memory_slow();
		start_slow_calls();
		make_honest_calls();
		nr_still_inside = atomic_load(&nr_inside);
		join_slow_calls();
	}
	EXPECT_EQ(nr_still_inside, NR_SLOW_CALLS);
	ASSERT_OK(control_snapshot_destroy(ctl, &held.id));
	remove_stuck_disk();
	remove_disks();
}

/*
 * Arguments that are much work
 */

#define LARGE_DISK_MIB 8192	/* a map of 2 MiB with blocks of 4 KiB */
#define KILL_TIMEOUT_MS 20000

/* Marks everything, as often as one call can; this is for minutes. */
static void mark_for_long(void)
{
	struct blk_snap_block_range *ranges = calloc(MAX_RANGES, sizeof(*ranges));
	unsigned int i;

	if (!ranges)
		_exit(KTAP_FAIL);
	for (i = 0; i < MAX_RANGES; i++)
		ranges[i].sector_count = origin.nr_bytes / SECTOR_SIZE;
	control_tracker_mark_dirty_blocks(ctl, origin.id, ranges, MAX_RANGES);
	_exit(KTAP_PASS);
}

/* True if it has ended because of the signal. */
static bool wait_killed(pid_t child)
{
	unsigned int ms;
	int status;

	for (ms = 0; ms < KILL_TIMEOUT_MS; ms += 10) {
		if (waitpid(child, &status, WNOHANG) == child)
			return WIFSIGNALED(status);
		sleep_ms(10);
	}
	return false;
}

static void test_much_to_mark_keeps_nobody_else_waiting(void)
{
	struct blk_snap_cbt_info info;
	struct snapshot snapshot;
	uint64_t begin;
	pid_t child;

	ASSERT_OK(null_disk_create(&origin, "nullb11", LARGE_DISK_MIB, NULL));
	snapshot_create(&snapshot, &origin);
	fflush(stdout);
	child = fork();
	if (!child)
		mark_for_long();
	ASSERT_OK(child);
	/* The array is copied and checked by then. */
	sleep_ms(3000);
	begin = now_ns();
	EXPECT(tracker_info(&origin, &info));
	EXPECT_EQ(waitpid(child, NULL, WNOHANG), 0);
	ktap_note("a call of others took %llu ms",
		  (unsigned long long)(now_ns() - begin) / 1000000);
	kill(child, SIGKILL);
	EXPECT(wait_killed(child));
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	ASSERT_OK(control_tracker_remove(ctl, origin.id));
	null_disk_destroy(&origin);
}

/*
 * Arguments that are much memory
 */

#define CGROUP "/sys/fs/cgroup"
#define CALLER CGROUP "/blksnap-caller"
#define STORAGE_DISK_MIB 4096
#define MIN_BYTES_PER_RANGE 40	/* for its place, its position and an index */

static bool enter_cgroup(void)
{
	if (access(CGROUP "/cgroup.controllers", F_OK))
		mount("cgroup2", CGROUP, "cgroup2", 0, NULL);
	write_text(CGROUP "/cgroup.subtree_control", "+memory");
	mkdir(CALLER, 0755);
	return !access(CALLER "/memory.current", F_OK) &&
	       write_text(CALLER "/cgroup.procs", "0");
}

static void leave_cgroup(void)
{
	write_text(CGROUP "/cgroup.procs", "0");
	rmdir(CALLER);
}

/* Ranges that do not touch each other, so that none can be merged. */
static int append_most_ranges(const struct snapshot *snapshot)
{
	struct blk_snap_block_range *ranges = calloc(MAX_RANGES, sizeof(*ranges));
	unsigned int i;
	int ret;

	ASSERT(ranges);
	for (i = 0; i < MAX_RANGES; i++) {
		ranges[i].sector_offset = 16 * i;
		ranges[i].sector_count = 8;
	}
	ret = control_snapshot_append_storage(ctl, &snapshot->id, storage.id,
					      ranges, MAX_RANGES);
	free(ranges);
	return ret;
}

static void test_ranges_are_charged_to_who_appends_them(void)
{
	int64_t before, after;
	struct snapshot snapshot;

	if (!enter_cgroup()) {
		ktap_skip("this kernel cannot count the memory of a cgroup");
		return;
	}
	ASSERT_OK(null_disk_create(&origin, "nullb11", DISK_MIB, NULL));
	ASSERT_OK(null_disk_create(&storage, "nullb13", STORAGE_DISK_MIB, NULL));
	snapshot_create(&snapshot, &origin);
	before = read_number(CALLER "/memory.current");
	EXPECT_OK(append_most_ranges(&snapshot));
	after = read_number(CALLER "/memory.current");
	ktap_note("%u ranges: %lld KiB charged", MAX_RANGES,
		  (long long)(after - before) / 1024);
	EXPECT(after - before >= (int64_t)MAX_RANGES * MIN_BYTES_PER_RANGE);
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	ASSERT_OK(control_tracker_remove(ctl, origin.id));
	leave_cgroup();
	null_disk_destroy(&origin);
	null_disk_destroy(&storage);
}

const struct ktap_test slow_tests[] = {
	KTAP_SLOW_TEST(test_slow_memory_of_one_keeps_nobody_else_waiting),
	KTAP_SLOW_TEST(test_much_to_mark_keeps_nobody_else_waiting),
	KTAP_SLOW_TEST(test_ranges_are_charged_to_who_appends_them),
	KTAP_END
};
