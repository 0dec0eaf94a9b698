// SPDX-License-Identifier: GPL-2.0
/*
 * Writes in flight at a take: they are in the image, and it never changes
 *
 * The origin, or the disk below it, needs long for each write.  Many writes are
 * submitted one after the other, and when some have completed and others have
 * not, a snapshot is taken while more come.  A write that was submitted before the
 * take has to be in the image, one that was submitted after it cannot be, and one
 * in between is there as a whole or not at all.  The image is read at once, and
 * again and again until every write is done and for some time after: it has to
 * be the same each time.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test_instant.h"

#define SLOT_BYTES (64 * KIB)
#define NR_SLOTS 96U			/* one write goes to each */
#define STILL_BYTES (NR_SLOTS * SLOT_BYTES)
#define NR_BEFORE 40U			/* slots written before the take */
#define NR_DURING 40U			/* by another thread, at any time */
#define NR_ZEROED 8U			/* slots zeroed at any time */
#define NR_DISCARDED 8U			/* the others: discarded at any time */

#define OLD 0x11
#define NEW 0x22
#define LATE 0x33			/* written after the take */

enum slot_kind {
	SLOT_BEFORE,
	SLOT_DURING,
	SLOT_ZEROED,
	SLOT_DISCARDED,
};

struct slot {
	enum slot_kind kind;
	uint64_t at;
	size_t nr_bytes;
	bool is_before;		/* submitted before the take */
	bool is_after;		/* and after it */
};

/**
 * struct slow - a device that needs long for writes
 * @pace_ms:	time over which the writes before the take are spread
 * @is_below:	writes reach the member late: what was submitted before the take
 *		need not be in the image
 * @set_up:	makes the member slow, or skips the test; may be NULL
 */
struct slow {
	unsigned int pace_ms;
	bool is_below;
	bool (*set_up)(const struct disk *member);
};

static struct {
	const struct slow *slow;
	struct slot slots[NR_SLOTS];
	struct random random;
	uint8_t *first, *again;	/* what the image held */
	void *data;		/* what is written */
	int fd;
	struct async *async;
	char image[40];
	pthread_t threads[3];
	unsigned int nr_threads;

	atomic_bool take_begins, take_is_over;
	atomic_uint nr_under_way;
	const char *error;	/* of the other threads; either will do */
} still;

/* --- slots --- */

/* Each kind of write gets slots all over the area. */
static void choose_slots(void)
{
	unsigned int i, j;

	for (i = 0; i < NR_SLOTS; i++) {
		struct slot *slot = &still.slots[i];

		slot->kind = i < NR_BEFORE ? SLOT_BEFORE :
			     i < NR_BEFORE + NR_DURING ? SLOT_DURING :
			     i < NR_SLOTS - NR_DISCARDED ? SLOT_ZEROED :
							   SLOT_DISCARDED;
		slot->nr_bytes = slot->kind < SLOT_ZEROED ?
			SECTOR_SIZE * (1 + random_below(&still.random,
						SLOT_BYTES / SECTOR_SIZE)) :
			SLOT_BYTES;
		slot->at = i * SLOT_BYTES;
	}
	for (i = NR_SLOTS - 1; i; i--) {
		uint64_t at = still.slots[i].at;

		j = random_below(&still.random, i + 1);
		still.slots[i].at = still.slots[j].at;
		still.slots[j].at = at;
	}
}

static bool slot_holds(const struct slot *slot, int byte)
{
	const uint8_t *at = still.first + slot->at;

	return is_filled_with(at, byte, slot->nr_bytes) &&
	       is_filled_with(at + slot->nr_bytes, OLD,
			      SLOT_BYTES - slot->nr_bytes);
}

static void judge_slot(unsigned int i)
{
	const struct slot *slot = &still.slots[i];
	int byte = slot->kind < SLOT_ZEROED ? NEW : 0;
	bool may_be_there = !slot->is_after, may_lack = !slot->is_before;

	if ((may_be_there && slot_holds(slot, byte)) ||
	    (may_lack && slot_holds(slot, OLD)))
		return;
	FAIL("slot %u at %llu, %zu bytes, %s the take: holds 0x%02x ... 0x%02x, seed %llu",
	     i, (unsigned long long)slot->at, slot->nr_bytes,
	     slot->is_before ? "submitted before" :
	     slot->is_after ? "submitted after" : "perhaps during",
	     still.first[slot->at],
	     still.first[slot->at + slot->nr_bytes - 1],
	     (unsigned long long)ktap_options.seed);
}

/* --- what other threads do --- */

static void note_times(struct slot *slot, bool is_begin)
{
	if (is_begin)
		slot->is_after = atomic_load(&still.take_is_over);
	else
		slot->is_before = !still.slow->is_below &&
				  !atomic_load(&still.take_begins);
}

/* Every other write is one with FUA. */
static int write_slot(struct async *async, unsigned int i)
{
	struct async_request request = {
		.fd = still.fd,
		.buffer = still.data,
		.nr_bytes = still.slots[i].nr_bytes,
		.at = still.slots[i].at,
		.flags = i % 2 ? RWF_DSYNC : 0,
		.tag = i,
	};

	return async_write(async, &request);
}

static void write_slots_during(struct async *async, unsigned int *nr_under_way)
{
	unsigned int i;

	for (i = NR_BEFORE; i < NR_BEFORE + NR_DURING; i++) {
		struct slot *slot = &still.slots[i];

		note_times(slot, true);
		if (write_slot(async, i)) {
			still.error = "a submission failed";
			return;
		}
		++*nr_under_way;
		note_times(slot, false);
		usleep(still.slow->pace_ms * 1000 * 2 / NR_DURING);
	}
}

static unsigned int reap_all(struct async *async, unsigned int nr_under_way)
{
	struct async_event events[ASYNC_DEPTH_MAX];
	unsigned int nr_failed = 0;
	int i, nr;

	while (nr_under_way) {
		nr = async_reap(async, events, 1);
		if (nr < 0)
			return nr_under_way;
		for (i = 0; i < nr; i++, nr_under_way--)
			if (events[i].result !=
			    (long)still.slots[events[i].tag].nr_bytes)
				nr_failed++;
	}
	return nr_failed;
}

static void *write_during(void *data)
{
	struct async *async = async_open(ASYNC_AIO, ASYNC_DEPTH_MAX);
	unsigned int nr_under_way = 0;

	(void)data;
	if (async) {
		write_slots_during(async, &nr_under_way);
		if (reap_all(async, nr_under_way))
			still.error = "a write during the take failed";
		async_close(async);
	}
	atomic_fetch_sub(&still.nr_under_way, 1);
	return NULL;
}

/* These return when they have completed, so they come one after the other. */
static void *zero_during(void *data)
{
	const enum slot_kind kind = (enum slot_kind)(uintptr_t)data;
	unsigned int i;

	for (i = NR_BEFORE + NR_DURING; i < NR_SLOTS; i++) {
		struct slot *slot = &still.slots[i];
		uint64_t range[2] = { slot->at, slot->nr_bytes };
		int ret;

		if (slot->kind != kind)
			continue;
		note_times(slot, true);
		ret = ioctl(still.fd, kind == SLOT_ZEROED ? BLKZEROOUT : BLKDISCARD,
			    range);
		note_times(slot, false);
		if (ret && errno != EOPNOTSUPP)
			still.error = "zeroing during the take failed";
		/* What is not done now may never be, or be done for nothing. */
		if (ret || kind == SLOT_DISCARDED)
			slot->is_before = false;
	}
	atomic_fetch_sub(&still.nr_under_way, 1);
	return NULL;
}

/* --- a loop device in a slow cgroup --- */

#define LOOP_FILE "/tmp/instant.loop"
#define CGROUP "/sys/fs/cgroup"
#define SLOW_CGROUP CGROUP "/blksnap-instant"
#define SLOW_WRITES_PER_S 60U

static int loop_fd = -1;

static void loop_detach(void)
{
	if (loop_fd >= 0) {
		ioctl(loop_fd, LOOP_CLR_FD, 0);
		close(loop_fd);
		loop_fd = -1;
	}
	unlink(LOOP_FILE);
}

static bool loop_attach(struct disk *disk)
{
	int file_fd, nr, control_fd;
	char path[32];

	kernel_module_load("loop");
	control_fd = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	nr = control_fd < 0 ? -1 : ioctl(control_fd, LOOP_CTL_GET_FREE);
	if (nr < 0) {
		ktap_skip("no loop devices");
		return false;
	}
	close(control_fd);
	file_fd = ASSERT_OK(open(LOOP_FILE, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	ASSERT_OK(ftruncate(file_fd, 16 * MIB));
	snprintf(path, sizeof(path), "/dev/loop%d", nr);
	loop_fd = ASSERT_OK(open(path, O_RDWR | O_CLOEXEC));
	ASSERT_OK(ioctl(loop_fd, LOOP_SET_FD, file_fd));
	close(file_fd);
	ASSERT_OK(disk_find(disk, path));
	return true;
}

static void leave_cgroup(void)
{
	write_text(CGROUP "/cgroup.procs", "0");
	rmdir(SLOW_CGROUP);
}

static bool join_slow_cgroup(const struct disk *disk)
{
	char limit[100];

	if (access(CGROUP "/cgroup.controllers", F_OK))
		mount("cgroup2", CGROUP, "cgroup2", 0, NULL);
	write_text(CGROUP "/cgroup.subtree_control", "+io");
	mkdir(SLOW_CGROUP, 0755);
	snprintf(limit, sizeof(limit), "%u:%u wiops=%u", disk->id.mj,
		 disk->id.mn, SLOW_WRITES_PER_S);
	if (write_text(SLOW_CGROUP "/io.max", limit) &&
	    write_text(SLOW_CGROUP "/cgroup.procs", "0"))
		return true;
	ktap_skip("this kernel cannot limit the bandwidth of a cgroup");
	return false;
}

/* --- the take --- */

/* Returns how many were still in flight when the last one had been submitted. */
static unsigned int write_slots_before(struct async *async)
{
	struct async_event events[ASYNC_DEPTH_MAX];
	unsigned int i;
	int nr;

	for (i = 0; i < NR_BEFORE; i++) {
		ASSERT_OK(write_slot(async, i));
		still.slots[i].is_before = !still.slow->is_below;
		usleep(still.slow->pace_ms * 1000 / NR_BEFORE);
	}
	nr = async_reap(async, events, 0);
	ASSERT_OK(nr);
	for (i = 0; i < (unsigned int)nr; i++)
		EXPECT_EQ(events[i].result,
			  (long)still.slots[events[i].tag].nr_bytes);
	return NR_BEFORE - nr;
}

static bool read_again(void)
{
	ASSERT(read_direct(still.image, still.again, STILL_BYTES, 0));
	return !memcmp(still.first, still.again, STILL_BYTES);
}

/* Until the other threads are done, and for some time after that. */
static void watch_image(void)
{
	unsigned int nr = 1;
	bool is_same = true;
	uint64_t end_ns = 0;

	ASSERT(read_direct(still.image, still.first, STILL_BYTES, 0));
	while (is_same && (!end_ns || now_ns() < end_ns)) {
		if (!end_ns && !atomic_load(&still.nr_under_way))
			end_ns = now_ns() + still.slow->pace_ms * 1000000ULL;
		usleep(still.slow->pace_ms * 100);
		is_same = read_again();
		nr++;
	}
	ktap_note("the image was read %u times", nr);
	EXPECT(is_same);
}

/* What comes after the take is copied before. */
static void write_late(void)
{
	memset(still.data, LATE, SLOT_BYTES);
	EXPECT_EQ(pwrite(still.fd, still.data, SLOT_BYTES, still.slots[0].at),
		  (ssize_t)SLOT_BYTES);
	EXPECT(read_again());
}

static void prepare(const struct slow *slow, const struct disk *written)
{
	uint64_t at;

	memset(&still, 0, sizeof(still));
	random_init(&still.random, ktap_options.seed);
	still.slow = slow;
	still.first = alloc_aligned(STILL_BYTES);
	still.again = alloc_aligned(STILL_BYTES);
	still.data = alloc_aligned(SLOT_BYTES);
	memset(still.data, NEW, SLOT_BYTES);
	for (at = 0; at < STILL_BYTES; at += MIB)
		ASSERT(fill_direct(written->path, OLD, MIB, at));
	still.fd = ASSERT_OK(open(written->path, O_RDWR | O_DIRECT | O_CLOEXEC));
	still.async = async_open(ASYNC_AIO, ASYNC_DEPTH_MAX);
	ASSERT(still.async);
	choose_slots();
}

static void start_thread(void *(*fn)(void *data), enum slot_kind kind)
{
	atomic_fetch_add(&still.nr_under_way, 1);
	if (pthread_create(&still.threads[still.nr_threads++], NULL, fn,
			   (void *)(uintptr_t)kind))
		exit(KTAP_FAIL);
}

static void join_threads(void)
{
	while (still.nr_threads)
		pthread_join(still.threads[--still.nr_threads], NULL);
}

/* Take @member, while @written, which is @member or lies on it, is slow. */
static void take_amid_slow_writes(const struct slow *slow, const struct disk *member,
				  const struct disk *written)
{
	unsigned int i, nr_in_flight;
	struct snapshot snapshot;
	uint64_t begun_ns;

	prepare(slow, written);
	snapshot_create(&snapshot, member);
	ASSERT_OK(append_range(&snapshot, &stack.storage, 0,
			       stack.storage.nr_bytes / SECTOR_SIZE));
	if (slow->set_up && !slow->set_up(member))
		return;
	start_thread(write_during, SLOT_DURING);
	start_thread(zero_during, SLOT_ZEROED);
	start_thread(zero_during, SLOT_DISCARDED);
	nr_in_flight = write_slots_before(still.async);
	atomic_store(&still.take_begins, true);
	begun_ns = now_ns();
	ASSERT_OK(control_snapshot_take(ctl, &snapshot.id));
	ktap_note("%u of %u writes were in flight, the take took %.1f ms",
		  nr_in_flight, NR_BEFORE, (now_ns() - begun_ns) / 1e6);
	atomic_store(&still.take_is_over, true);
	EXPECT(nr_in_flight);
	snapshot_find_images(&snapshot);
	snprintf(still.image, sizeof(still.image), "%s",
		 image_of(&snapshot, member));
	watch_image();
	for (i = 0; i < NR_SLOTS; i++)
		judge_slot(i);
	join_threads();
	EXPECT_EQ(reap_all(still.async, nr_in_flight), 0);
	if (still.error)
		FAIL("%s", still.error);
	write_late();
}

void still_tear_down(void)
{
	join_threads();
	leave_cgroup();
	if (still.async)
		async_close(still.async);
	if (still.fd > 0)
		close(still.fd);
	free(still.first);
	free(still.again);
	free(still.data);
	memset(&still, 0, sizeof(still));
	loop_detach();
	stack_tear_down();
}

/* --- slow devices --- */

static bool make_delay(unsigned int delay_ms)
{
	return dm_create(&stack.uppers[0], "upper0", "0 %llu delay %s 0 0 %s 0 %u",
			 (unsigned long long)stack.disks[0].nr_bytes / SECTOR_SIZE,
			 stack.disks[0].path, stack.disks[0].path, delay_ms);
}

static void test_writes_in_flight_in_dm_delay_are_in_the_image(void)
{
	static const struct slow slow = { .pace_ms = 400 };

	make_disks(1, NULL);
	if (make_delay(400))
		take_amid_slow_writes(&slow, &stack.uppers[0], &stack.uppers[0]);
}

static void test_image_stays_with_any_delay(void)
{
	static struct slow slow;
	struct random random;

	random_init(&random, ktap_options.seed);
	slow.pace_ms = 100 + random_below(&random, 901);
	ktap_note("delay %u ms", slow.pace_ms);
	make_disks(1, NULL);
	if (make_delay(slow.pace_ms))
		take_amid_slow_writes(&slow, &stack.uppers[0], &stack.uppers[0]);
}

static void test_image_below_dm_delay_stays(void)
{
	static const struct slow slow = { .pace_ms = 300, .is_below = true };
	static const struct null_disk_options options = {
		.completion_ns = 50000000
	};

	make_disks(1, &options);
	if (make_delay(300))
		take_amid_slow_writes(&slow, &stack.disks[0], &stack.uppers[0]);
}

static void test_writes_in_flight_on_a_slow_disk_are_in_the_image(void)
{
	static const struct slow slow = { .pace_ms = 200 };
	static const struct null_disk_options options = {
		.completion_ns = 300000000
	};

	make_disks(1, &options);
	take_amid_slow_writes(&slow, &stack.disks[0], &stack.disks[0]);
}

static void test_writes_in_flight_in_dm_crypt_are_in_the_image(void)
{
	static const struct slow slow = { .pace_ms = 200 };
	static const struct null_disk_options options = {
		.completion_ns = 300000000
	};

	make_disks(1, &options);
	if (dm_create(&stack.uppers[0], "upper0",
		      "0 %llu crypt aes-xts-plain64 " CRYPT_KEY " 0 %s 0",
		      (unsigned long long)stack.disks[0].nr_bytes / SECTOR_SIZE,
		      stack.disks[0].path))
		take_amid_slow_writes(&slow, &stack.uppers[0], &stack.uppers[0]);
}

/* A cgroup delays requests of any kind, also where nothing else could. */
static void test_writes_in_flight_in_a_cgroup_are_in_the_image(void)
{
	static const struct slow slow = {
		.pace_ms = 200,
		.set_up = join_slow_cgroup,
	};
	struct disk disk;

	make_disks(0, NULL);
	if (loop_attach(&disk))
		take_amid_slow_writes(&slow, &disk, &disk);
}

const struct ktap_test still_tests[] = {
	KTAP_TEST(test_writes_in_flight_in_dm_delay_are_in_the_image),
	KTAP_SLOW_TEST(test_image_stays_with_any_delay),
	KTAP_SLOW_TEST(test_image_below_dm_delay_stays),
	KTAP_TEST(test_writes_in_flight_on_a_slow_disk_are_in_the_image),
	KTAP_SLOW_TEST(test_writes_in_flight_in_dm_crypt_are_in_the_image),
	KTAP_TEST(test_writes_in_flight_in_a_cgroup_are_in_the_image),
	KTAP_END
};
