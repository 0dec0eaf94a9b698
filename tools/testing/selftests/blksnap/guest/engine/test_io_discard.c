// SPDX-License-Identifier: GPL-2.0
/*
 * Discards that are skipped while a snapshot is held
 *
 * The disk forgets what is discarded: it reads as zeros then.  So it shows whether a
 * discard has arrived, and whether it has hit anything that was written after it.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "stacked.h"
#include "test_io.h"

#define DISK_MIB 32
#define BLOCK 4096U
#define ARRIVAL_MS 20000U
#define PART_SECTOR (8 * 2048)
#define PART_SECTORS (16 * 2048)
#define SLOW_NAME "slow"

static struct {
	struct disk origin;
	struct disk part;
	struct disk storage;
	struct snapshot snapshot;
	int fd;
} skip = { .fd = -1 };

static void make_disks(unsigned int completion_ns)
{
	const struct null_disk_options options = { .completion_ns = completion_ns };

	ASSERT_OK(null_disk_create(&skip.origin, "nullb0", DISK_MIB, &options));
	ASSERT_OK(null_disk_create(&skip.storage, "nullb1", 2 * DISK_MIB, NULL));
	ASSERT_OK(partition_add(&skip.origin, &skip.part, PART_SECTOR, PART_SECTORS));
	skip.fd = ASSERT_OK(open(skip.origin.path, O_RDWR | O_DIRECT | O_CLOEXEC));
	ASSERT(fill_direct(skip.origin.path, 0x11, DISK_MIB * MIB, 0));
}

void discard_tear_down(void)
{
	if (skip.fd >= 0)
		close(skip.fd);
	ctl_tear_down();
	mapping_remove(SLOW_NAME);
	partition_del_all(&skip.origin);
	null_disk_destroy(&skip.origin);
	null_disk_destroy(&skip.storage);
	memset(&skip, 0, sizeof(skip));
	skip.fd = -1;
}

static int discard(uint64_t at, uint64_t nr_bytes)
{
	uint64_t range[2] = { at, nr_bytes };

	return ioctl(skip.fd, BLKDISCARD, range) ? -errno : 0;
}

/* Does the disk hold this, now or soon? */
static bool becomes(int byte, size_t nr_bytes, uint64_t at)
{
	const uint64_t end_ns = now_ns() + ARRIVAL_MS * 1000000ULL;
	uint8_t *buffer = alloc_aligned(nr_bytes);
	bool has_come;

	do {
		ASSERT(read_direct(skip.origin.path, buffer, nr_bytes, at));
		has_come = is_filled_with(buffer, byte, nr_bytes);
	} while (!has_come && now_ns() < end_ns && (sleep_ms(20), true));
	free(buffer);
	return has_come;
}

static void destroy(const struct snapshot *snapshot)
{
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot->id));
}

/* --- one discard for many images --- */

#define MANY_PARTS (2 * SNAPSHOT_DISKS_MAX)
#define MANY_SECTORS 256U

/* If each engine submitted it for the next one to see, the stack would be too small. */
static void test_discard_that_reaches_many_images(void)
{
	static struct disk parts[MANY_PARTS];
	const struct disk *disks[MANY_PARTS];
	struct snapshot snapshots[2];
	unsigned int i;

	make_disks(0);
	partition_del_all(&skip.origin);
	for (i = 0; i < MANY_PARTS; i++) {
		disks[i] = &parts[i];
		ASSERT_OK(partition_add(&skip.origin, &parts[i], (i + 1) * MANY_SECTORS,
					MANY_SECTORS));
	}
	for (i = 0; i < ARRAY_SIZE(snapshots); i++) {
		snapshot_create_of(&snapshots[i], disks + i * SNAPSHOT_DISKS_MAX,
				   SNAPSHOT_DISKS_MAX);
		ASSERT_OK(append_range(&snapshots[i], &skip.storage, i * DISK_MIB * 2048,
				       DISK_MIB * 2048));
		snapshot_take(&snapshots[i]);
	}
	EXPECT_OK(discard(0, DISK_MIB * MIB));
	EXPECT(reads_as(image_of(&snapshots[0], &parts[0]), 0x11, MANY_SECTORS * 512, 0));
	EXPECT(reads_as(image_of(&snapshots[1], &parts[MANY_PARTS - 1]), 0x11,
			MANY_SECTORS * 512, 0));
	for (i = 0; i < ARRAY_SIZE(snapshots); i++)
		destroy(&snapshots[i]);
	EXPECT(becomes(0, MANY_PARTS * MANY_SECTORS * 512, MANY_SECTORS * 512));
}

/* --- a disk that takes its time --- */

#define END_MS 4500U		/* of a snapshot with discards to be made up for */

/* Discards every other MiB of a device that takes so long for each of them. */
static void discard_slowly(struct disk *slow, unsigned int nr_pieces, unsigned int ms)
{
	unsigned int i;

	make_disks(0);
	ASSERT_OK(delay_create(slow, SLOW_NAME, &skip.origin, 0, ms));
	snapshot_now(&skip.snapshot, slow, &skip.storage);
	close(skip.fd);
	skip.fd = ASSERT_OK(open(slow->path, O_RDWR | O_CLOEXEC));
	for (i = 0; i < nr_pieces; i++)
		EXPECT_OK(discard(2 * i * MIB, MIB));
	close(skip.fd);
	skip.fd = -1;
}

/* Destroys the snapshot, and removes the device at once, as one who is done with it. */
static void expect_device_is_free_after_the_end(void)
{
	const uint64_t start = now_ns();

	destroy(&skip.snapshot);
	ktap_note("destroyed after %u ms", (unsigned int)((now_ns() - start) / 1000000));
	EXPECT(now_ns() - start < END_MS * 1000000ULL);
	EXPECT_OK(mapping_remove(SLOW_NAME));
}

static void test_slow_discards_are_waited_for(void)
{
	struct disk slow;

	discard_slowly(&slow, 3, 600);
	expect_device_is_free_after_the_end();
	EXPECT(reads_as(skip.origin.path, 0, MIB, 0));
	EXPECT(reads_as(skip.origin.path, 0, MIB, 2 * MIB));
	EXPECT(reads_as(skip.origin.path, 0, MIB, 4 * MIB));
}

static void test_slow_discards_are_not_waited_for_without_end(void)
{
	struct disk slow;

	discard_slowly(&slow, 12, 700);
	expect_device_is_free_after_the_end();
	EXPECT(reads_as(skip.origin.path, 0, MIB, 0));
	EXPECT(reads_as(skip.origin.path, 0x11, MIB, 22 * MIB));
}

static void test_new_snapshot_is_not_refused_for_slow_discards(void)
{
	struct snapshot next;
	struct disk slow;

	discard_slowly(&slow, 3, 600);
	destroy(&skip.snapshot);
	snapshot_create(&next, &slow);
	destroy(&next);
}

/* One request at a time, for so long, and no long ones. */
static void make_crawling_disk(unsigned int ms)
{
	const struct null_disk_options options = {
		.completion_ns = ms * 1000000, .queue_depth = 1,
	};

	ASSERT_OK(null_disk_create(&skip.origin, "nullb0", DISK_MIB, &options));
	ASSERT_OK(null_disk_create(&skip.storage, "nullb1", 2 * DISK_MIB, NULL));
	ASSERT(write_text("/sys/block/nullb0/queue/scheduler", "none"));
	ASSERT(write_text("/sys/block/nullb0/queue/discard_max_bytes", "262144"));
	skip.fd = ASSERT_OK(open(skip.origin.path, O_RDWR | O_DIRECT | O_CLOEXEC));
	snapshot_now(&skip.snapshot, &skip.origin, &skip.storage);
}

static void *destroy_in_background(void *data)
{
	(void)data;
	destroy(&skip.snapshot);
	return NULL;
}

#define NR_LATE_WRITES 60U
#define LATE_WRITE_MS 1000U

/* Before and after the moment at which the end gives up. */
static void test_no_write_is_lost_when_discards_are_given_up(void)
{
	uint8_t *block = alloc_aligned(BLOCK);
	uint64_t start, longest = 0;
	pthread_t thread;
	unsigned int i;

	make_crawling_disk(36);
	EXPECT_OK(discard(0, DISK_MIB * MIB));
	ASSERT_EQ(pthread_create(&thread, NULL, destroy_in_background, NULL), 0);
	memset(block, 0x77, BLOCK);
	for (i = 0; i < NR_LATE_WRITES; i++) {
		start = now_ns();
		EXPECT_EQ(pwrite(skip.fd, block, BLOCK, (DISK_MIB - 1 - i / 2) * MIB +
							i * 16 * BLOCK % MIB), BLOCK);
		if (now_ns() - start > longest)
			longest = now_ns() - start;
		sleep_ms(30);
	}
	pthread_join(thread, NULL);
	sleep_ms(500);
	for (i = 0; i < NR_LATE_WRITES; i++)
		EXPECT(reads_as(skip.origin.path, 0x77, BLOCK,
				(DISK_MIB - 1 - i / 2) * MIB + i * 16 * BLOCK % MIB));
	ktap_note("the longest write took %u ms", (unsigned int)(longest / 1000000));
	/* It waits for one discard or two, not for a row of them. */
	EXPECT(longest < LATE_WRITE_MS * 1000000ULL);
	free(block);
}

static void *discard_in_background(void *data)
{
	(void)data;
	EXPECT_OK(discard(0, 2 * 20 * BLOCK));
	return NULL;
}

/* Parts of a discard, of copied blocks, are on their way when the module goes. */
static void test_module_goes_before_the_parts_of_a_discard(void)
{
	uint8_t *block = alloc_aligned(BLOCK);
	unsigned int i, nr_tries = 0;
	pthread_t thread;

	make_crawling_disk(200);
	for (i = 0; i < 20; i++)
		EXPECT_EQ(pwrite(skip.fd, block, BLOCK, 2 * i * BLOCK), BLOCK);
	ASSERT_EQ(pthread_create(&thread, NULL, discard_in_background, NULL), 0);
	sleep_ms(100);
	destroy(&skip.snapshot);
	close(ctl);
	ctl = -1;
	while (module_unload() && nr_tries++ < 200)
		sleep_ms(20);
	pthread_join(thread, NULL);
	sleep_ms(500);
	ASSERT_EQ(module_load(""), 0);
	ctl_set_up();
	free(block);
}

/* --- one after the other --- */

static void test_skipped_discard_arrives_after_the_snapshot(void)
{
	make_disks(0);
	snapshot_now(&skip.snapshot, &skip.origin, &skip.storage);
	EXPECT_OK(discard(MIB, 4 * MIB));
	EXPECT(reads_as(image_of(&skip.snapshot, &skip.origin), 0x11, 8 * MIB, 0));
	EXPECT(reads_as(skip.origin.path, 0x11, 8 * MIB, 0));
	destroy(&skip.snapshot);
	EXPECT(becomes(0, 4 * MIB, MIB));
	EXPECT(reads_as(skip.origin.path, 0x11, MIB, 0));
	EXPECT(reads_as(skip.origin.path, 0x11, MIB, 5 * MIB));
}

static void test_what_is_written_after_a_skipped_discard_stays(void)
{
	make_disks(0);
	snapshot_now(&skip.snapshot, &skip.origin, &skip.storage);
	EXPECT_OK(discard(MIB, 4 * MIB));
	ASSERT(fill_direct(skip.origin.path, 0x22, 512, MIB + 3 * BLOCK));
	ASSERT(fill_direct(skip.origin.path, 0x33, 64 * KIB, 2 * MIB));
	destroy(&skip.snapshot);
	EXPECT(becomes(0, 3 * BLOCK, MIB));
	EXPECT(becomes(0, 2 * MIB, 3 * MIB));
	EXPECT(reads_as(skip.origin.path, 0x22, 512, MIB + 3 * BLOCK));
	EXPECT(reads_as(skip.origin.path, 0x11, BLOCK - 512, MIB + 3 * BLOCK + 512));
	EXPECT(reads_as(skip.origin.path, 0x33, 64 * KIB, 2 * MIB));
}

/* What is copied needs no snapshot's permission. */
static void test_discard_reaches_at_once_what_is_copied(void)
{
	make_disks(0);
	snapshot_now(&skip.snapshot, &skip.origin, &skip.storage);
	ASSERT(fill_direct(skip.origin.path, 0x22, 64 * KIB, 2 * MIB));
	ASSERT(fill_direct(skip.origin.path, 0x22, 64 * KIB, 3 * MIB));
	EXPECT_OK(discard(MIB, 4 * MIB));
	EXPECT(becomes(0, 64 * KIB, 2 * MIB));
	EXPECT(becomes(0, 64 * KIB, 3 * MIB));
	EXPECT(reads_as(skip.origin.path, 0x11, MIB, MIB));
	EXPECT(reads_as(image_of(&skip.snapshot, &skip.origin), 0x11, 8 * MIB, 0));
	ASSERT(fill_direct(skip.origin.path, 0x33, 64 * KIB, 2 * MIB));
	destroy(&skip.snapshot);
	EXPECT(becomes(0, MIB, MIB));
	EXPECT(reads_as(skip.origin.path, 0x33, 64 * KIB, 2 * MIB));
	EXPECT(becomes(0, MIB, 3 * MIB));
}

/* Half of a block at each end: only whole blocks are forgotten. */
static void test_skipped_discard_reaches_no_more_than_it_should(void)
{
	make_disks(0);
	snapshot_now(&skip.snapshot, &skip.origin, &skip.storage);
	EXPECT_OK(discard(MIB + 512, MIB - 1024));
	destroy(&skip.snapshot);
	EXPECT(becomes(0, MIB - 2 * BLOCK, MIB + BLOCK));
	EXPECT(reads_as(skip.origin.path, 0x11, 512, MIB));
	EXPECT(reads_as(skip.origin.path, 0x11, 512, 2 * MIB - 512));
}

static void wait_until_failed(void)
{
	struct blk_snap_snapshot_event event;

	do {
		ASSERT_OK(next_event(&skip.snapshot, 10000, &event));
	} while (event.code != blk_snap_event_code_corrupted);
}

static void test_skipped_discard_arrives_after_a_failure(void)
{
	make_disks(0);
	snapshot_create(&skip.snapshot, &skip.origin);
	ASSERT_OK(append_range(&skip.snapshot, &skip.storage, 2048, 2048));
	snapshot_take(&skip.snapshot);
	EXPECT_OK(discard(MIB, 4 * MIB));
	ASSERT(fill_direct(skip.origin.path, 0x33, 64 * KIB, 2 * MIB));
	ASSERT(fill_direct(skip.origin.path, 0x22, 16 * MIB, 8 * MIB));
	wait_until_failed();
	EXPECT(becomes(0, MIB, MIB));
	EXPECT(becomes(0, MIB, 3 * MIB));
	EXPECT(reads_as(skip.origin.path, 0x33, 64 * KIB, 2 * MIB));
	EXPECT(reads_as(skip.origin.path, 0x22, 16 * MIB, 8 * MIB));
}

static unsigned int nr_marked_after(const struct disk *disk, uint8_t number)
{
	struct blk_snap_cbt_info info;
	uint8_t *map = read_map(disk, &info);
	unsigned int i, nr = 0;

	for (i = 0; i < info.blk_count; i++)
		nr += map[i] > number;
	free(map);
	return nr;
}

static void take_part(struct snapshot *snapshot)
{
	snapshot_create(snapshot, &skip.part);
	ASSERT_OK(append_range(snapshot, &skip.storage, 32 * 2048, 32 * 2048));
	snapshot_take(snapshot);
}

static void take_disk(void)
{
	snapshot_create(&skip.snapshot, &skip.origin);
	ASSERT_OK(append_range(&skip.snapshot, &skip.storage, 0, 32 * 2048));
	snapshot_take(&skip.snapshot);
}

/* The data changes only then, so the increment of that time has to have it. */
static void test_discard_that_is_made_up_for_is_marked(void)
{
	const uint64_t at = PART_SECTOR * SECTOR_SIZE + MIB;
	struct blk_snap_cbt_info info;
	struct snapshot other;

	make_disks(0);
	take_disk();
	EXPECT_OK(discard(at, MIB));
	take_part(&other);
	ASSERT(tracker_info(&skip.part, &info));
	destroy(&other);
	destroy(&skip.snapshot);
	EXPECT(becomes(0, MIB, at));
	take_part(&other);
	EXPECT_EQ(nr_marked_after(&skip.part, info.snap_number), MIB / info.blk_size);
}

/* The discard is needed by neither image, and so it has to wait for both. */
static void test_discard_waits_for_the_other_snapshot_of_the_disk(void)
{
	const uint64_t at = PART_SECTOR * SECTOR_SIZE + MIB;
	struct snapshot other;

	make_disks(0);
	take_disk();
	take_part(&other);
	EXPECT_OK(discard(at, MIB));
	ASSERT(fill_direct(skip.origin.path, 0x22, 64 * KIB, at + 128 * KIB));
	destroy(&skip.snapshot);
	sleep_ms(500);
	EXPECT(reads_as(image_of(&other, &skip.part), 0x11, 4 * MIB, 0));
	EXPECT(reads_as(skip.origin.path, 0x11, 128 * KIB, at));
	destroy(&other);
	EXPECT(becomes(0, 128 * KIB, at));
	EXPECT(becomes(0, MIB - 192 * KIB, at + 192 * KIB));
	EXPECT(reads_as(skip.origin.path, 0x22, 64 * KIB, at + 128 * KIB));
}

/* --- at random --- */

#define NR_BLOCKS (DISK_MIB * MIB / BLOCK)
#define RANDOM_MS 15000U
#define DISCARDED -1

/* Makes and ends snapshots of one device, whose storage is now and then too small. */
struct agent {
	pthread_t thread;
	const struct disk *disk;
	uint64_t storage_sector;
	uint64_t seed;
	atomic_bool is_over;
	unsigned int nr_taken;
};

static void agent_hold_one(struct agent *agent, struct random *random)
{
	const struct blk_snap_block_range range = {
		agent->storage_sector, random_below(random, 3) ? 32 * 2048 : 1024
	};
	struct blk_snap_uuid id;

	if (control_snapshot_create(ctl, &agent->disk->id, 1, &id))
		return;
	if (!control_snapshot_append_storage(ctl, &id, skip.storage.id, &range, 1) &&
	    !control_snapshot_take(ctl, &id))
		agent->nr_taken++;
	sleep_ms(50 + random_below(random, 300));
	control_snapshot_destroy(ctl, &id);
	sleep_ms(random_below(random, 50));
}

static void *agent_run(void *data)
{
	struct agent *agent = data;
	struct random random;

	random_init(&random, agent->seed);
	while (!agent->is_over)
		agent_hold_one(agent, &random);
	return NULL;
}

static struct agent agents[2];

static void agents_start(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(agents); i++) {
		agents[i] = (struct agent){
			.disk = i ? &skip.part : &skip.origin,
			.storage_sector = i * 32 * 2048,
			.seed = ktap_options.seed + i,
		};
		ASSERT_EQ(pthread_create(&agents[i].thread, NULL, agent_run, &agents[i]), 0);
	}
}

static void agents_stop(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(agents); i++) {
		agents[i].is_over = true;
		pthread_join(agents[i].thread, NULL);
		ktap_note("snapshots of %s: %u", agents[i].disk->path, agents[i].nr_taken);
	}
}

/* For each block: the byte that it is filled with, or DISCARDED. */
static int model[NR_BLOCKS];

static bool write_blocks(unsigned int first, unsigned int nr, int byte, uint8_t *buffer)
{
	uint64_t range[2] = { first * (uint64_t)BLOCK, nr * (uint64_t)BLOCK };
	unsigned int i;

	for (i = first; i < first + nr; i++)
		model[i] = byte;
	if (byte == DISCARDED)
		return !ioctl(skip.fd, BLKDISCARD, range);
	if (!byte)
		return !ioctl(skip.fd, BLKZEROOUT, range);
	memset(buffer, byte, range[1]);
	return pwrite(skip.fd, buffer, range[1], range[0]) == (ssize_t)range[1];
}

static bool change_something(struct random *random, uint8_t *buffer)
{
	const unsigned int kind = random_below(random, 8);
	const unsigned int most = kind < 3 ? 256 : 16;
	const unsigned int nr = 1 + random_below(random, most);
	const unsigned int first = random_below(random, NR_BLOCKS - nr + 1);

	return write_blocks(first, nr, kind < 3 ? DISCARDED : kind == 3 ? 0 :
			    (int)(1 + random_below(random, 255)), buffer);
}

/* Blocks that do not hold what was written to them. */
static unsigned int nr_lost(uint8_t *buffer)
{
	unsigned int i, nr = 0;

	ASSERT(read_direct(skip.origin.path, buffer, DISK_MIB * MIB, 0));
	for (i = 0; i < NR_BLOCKS; i++) {
		if (model[i] == DISCARDED || is_filled_with(buffer + i * BLOCK, model[i], BLOCK))
			continue;
		if (!nr++)
			FAIL("block %u does not hold byte %d", i, model[i]);
	}
	return nr;
}

static unsigned int nr_discarded(const uint8_t *buffer, bool has_arrived)
{
	unsigned int i, nr = 0;

	for (i = 0; i < NR_BLOCKS; i++)
		nr += model[i] == DISCARDED &&
		      is_filled_with(buffer + i * BLOCK, 0, BLOCK) == has_arrived;
	return nr;
}

/*
 * The disk is slow, so that writes meet discards that are under way.  Discards of the
 * moments before an image appears are not made up for.
 */
static void test_no_write_is_lost_in_discards(void)
{
	uint8_t *buffer = alloc_aligned(DISK_MIB * MIB);
	const uint64_t end_ns = now_ns() + RANDOM_MS * 1000000ULL;
	unsigned int i, nr_changes = 0, nr_failed = 0, nr_here, nr_gone;
	struct random random;

	make_disks(200000);
	random_init(&random, ktap_options.seed);
	for (i = 0; i < NR_BLOCKS; i++)
		model[i] = 0x11;
	agents_start();
	do {
		nr_failed += !change_something(&random, buffer);
	} while ((++nr_changes % 500 || !nr_lost(buffer)) && now_ns() < end_ns);
	agents_stop();
	sleep_ms(2000);
	EXPECT_EQ(nr_failed, 0);
	EXPECT_EQ(nr_lost(buffer), 0);
	nr_here = nr_discarded(buffer, false);
	nr_gone = nr_discarded(buffer, true);
	ktap_note("%u changes; blocks discarded at last: %u have gone, %u are here",
		  nr_changes, nr_gone, nr_here);
	EXPECT(nr_here < nr_gone);
	EXPECT(agents[0].nr_taken && agents[1].nr_taken);
	free(buffer);
}

const struct ktap_test discard_tests[] = {
	KTAP_TEST(test_skipped_discard_arrives_after_the_snapshot),
	KTAP_TEST(test_what_is_written_after_a_skipped_discard_stays),
	KTAP_TEST(test_discard_reaches_at_once_what_is_copied),
	KTAP_TEST(test_skipped_discard_reaches_no_more_than_it_should),
	KTAP_TEST(test_skipped_discard_arrives_after_a_failure),
	KTAP_TEST(test_discard_that_is_made_up_for_is_marked),
	KTAP_TEST(test_discard_waits_for_the_other_snapshot_of_the_disk),
	KTAP_TEST(test_discard_that_reaches_many_images),
	KTAP_TEST(test_slow_discards_are_waited_for),
	KTAP_TEST(test_slow_discards_are_not_waited_for_without_end),
	KTAP_TEST(test_new_snapshot_is_not_refused_for_slow_discards),
	KTAP_TEST(test_no_write_is_lost_when_discards_are_given_up),
	KTAP_TEST(test_module_goes_before_the_parts_of_a_discard),
	KTAP_TEST(test_no_write_is_lost_in_discards),
	KTAP_END
};
