// SPDX-License-Identifier: GPL-2.0
/*
 * Writes that were under way when tracking began
 *
 * No filter has seen them, and they land when they like: after the take, or after
 * the image has been read.  Then either the image stays as it is, or it is given
 * up and everybody is told; and the next snapshot's map has the blocks.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "test_waits.h"

#define START_BYTES (512 * KIB)
#define START_BYTES_PER_S (128 * KIB)
#define START_MS 4000U			/* what such a write takes */
#define TAKE_AFTER_MS 1000U

/* Of one write and the snapshot that was taken in the middle of it. */
struct outcome {
	bool was_in_flight;
	bool is_constant;	/* both reads of the image gave the same */
	bool is_told;		/* error, and the event */
	struct blk_snap_cbt_info info;	/* before the next take */
};

static bool try_read(const char *path, void *buffer)
{
	int fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	bool ok = fd >= 0 && pread(fd, buffer, START_BYTES, 0) == (ssize_t)START_BYTES;

	if (fd >= 0)
		close(fd);
	return ok;
}

static bool is_corrupted_reported(const struct snapshot *snapshot)
{
	struct blk_snap_snapshot_event event;

	while (!next_event(snapshot, 0, &event))
		if (event.code == blk_snap_event_code_corrupted)
			return true;
	return false;
}

static int64_t image_error(const char *image)
{
	return read_number("/sys/block/%s/blksnap/error", strrchr(image, '/') + 1);
}

/* Reads the image before and after the write has landed. */
static void watch_landing(const struct snapshot *snapshot, const char *image,
			  pid_t child, struct outcome *outcome)
{
	char *first = alloc_aligned(START_BYTES), *again = alloc_aligned(START_BYTES);
	bool is_read = try_read(image, first);

	EXPECT_EQ(child_join(child), 0);
	sleep_ms(200);
	is_read = is_read && try_read(image, again);
	outcome->is_constant = is_read && !memcmp(first, again, START_BYTES);
	outcome->is_told = image_error(image) && is_corrupted_reported(snapshot);
	ktap_note("image %s, error %lld, corrupted event %s",
		  !is_read ? "cannot be read" :
		  outcome->is_constant ? "constant" : "changes",
		  (long long)image_error(image), outcome->is_told ? "yes" : "no");
	free(first);
	free(again);
}

/* Begin to track @origin, and take it, while @child writes the start of it. */
static void take_amid_write(const struct disk *origin, const struct disk *storage,
			    pid_t child, struct outcome *outcome)
{
	uint64_t begun_ns = now_ns();
	struct snapshot snapshot;
	int ret;

	memset(outcome, 0, sizeof(*outcome));
	snapshot_create(&snapshot, origin);
	ASSERT_OK(append_range(&snapshot, storage, 0, storage->nr_bytes / SECTOR_SIZE));
	ktap_note("create took %llu ms",
		  (unsigned long long)((now_ns() - begun_ns) / NS_PER_MS));
	outcome->was_in_flight = !child_ends_within(child, TAKE_AFTER_MS);
	ret = outcome->was_in_flight ? take_fn(&snapshot) : 0;
	if (ret < 0) {
		ktap_note("take: %s", strerror(-ret));
		outcome->is_told = true;
		EXPECT_EQ(child_join(child), 0);
	} else if (outcome->was_in_flight) {
		snapshot_find_images(&snapshot);
		watch_landing(&snapshot, image_of(&snapshot, origin), child, outcome);
	}
	ASSERT(tracker_info(origin, &outcome->info));
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
}

/* Blocks that the write has changed and that no client would copy. */
static unsigned int count_unlisted(const struct disk *origin,
				   const struct disk *storage,
				   const struct outcome *outcome)
{
	unsigned int i, nr_blocks, nr_unlisted = 0;
	struct blk_snap_cbt_info info;
	struct snapshot snapshot;
	uint8_t *map;

	snapshot_now(&snapshot, origin, storage);
	map = read_map(origin, &info);
	nr_blocks = START_BYTES / info.blk_size;
	if (!memcmp(&info.generation_id, &outcome->info.generation_id,
		    sizeof(info.generation_id)))
		for (i = 0; i < nr_blocks; i++)
			nr_unlisted += map[i] <= outcome->info.snap_number;
	ktap_note("%u of %u blocks are not listed", nr_unlisted, nr_blocks);
	free(map);
	return nr_unlisted;
}

static pid_t start_write(const struct disk *origin, bool is_slow)
{
	static struct child_write write;
	pid_t child;

	write.path = origin->path;
	write.nr_bytes = START_BYTES;
	write.byte = 0x22;
	write.is_slow = is_slow;
	child = child_write_start(&write);
	sleep_ms(UNDER_WAY_MS);
	return child;
}

/* False if there is nothing to be judged: the write was over too early. */
static bool run(struct disk *origin, struct disk *storage, bool is_slow,
		struct outcome *outcome)
{
	take_amid_write(origin, storage, start_write(origin, is_slow), outcome);
	if (!outcome->was_in_flight)
		ktap_skip("the write was over before the take");
	return outcome->was_in_flight;
}

static bool run_throttled(struct disk *origin, struct disk *storage,
			  struct outcome *outcome)
{
	if (!throttle_set(origin, START_BYTES_PER_S))
		return false;
	ASSERT(fill_direct(origin->path, 0x11, START_BYTES, 0));
	return run(origin, storage, true, outcome);
}

static void test_image_stays_when_a_throttled_write_lands(void)
{
	struct disk *origin = rig_disk(16, NULL), *storage = rig_disk(32, NULL);
	struct outcome outcome;

	if (run_throttled(origin, storage, &outcome))
		EXPECT(outcome.is_constant || outcome.is_told);
}

static void test_throttled_write_is_in_the_next_map(void)
{
	struct disk *origin = rig_disk(16, NULL), *storage = rig_disk(32, NULL);
	struct outcome outcome;

	if (run_throttled(origin, storage, &outcome))
		EXPECT_EQ(count_unlisted(origin, storage, &outcome), 0);
}

/* Without statistics nobody else can tell that there is a write. */
static bool run_delayed(const struct disk *disk, struct disk *storage,
			struct disk **origin, struct outcome *outcome)
{
	char path[64];

	*origin = rig_delay(disk, START_MS);
	snprintf(path, sizeof(path), "/sys/block/%s/queue/iostats", (*origin)->name);
	ASSERT(write_text(path, "0"));
	return run(*origin, storage, false, outcome);
}

static void test_image_stays_when_a_delayed_write_lands(void)
{
	struct disk *disk = rig_disk(16, NULL), *storage = rig_disk(32, NULL);
	struct outcome outcome;
	struct disk *origin;

	if (run_delayed(disk, storage, &origin, &outcome))
		EXPECT(outcome.is_constant || outcome.is_told);
}

static void test_delayed_write_is_in_the_next_map(void)
{
	struct disk *disk = rig_disk(16, NULL), *storage = rig_disk(32, NULL);
	struct outcome outcome;
	struct disk *origin;

	if (run_delayed(disk, storage, &origin, &outcome))
		EXPECT_EQ(count_unlisted(origin, storage, &outcome), 0);
}

/*
 * Some drivers send on the very bio that they got, to another disk.
 */

static void test_image_stays_when_a_throttled_write_lands_on_a_stripe(void)
{
	struct disk *storage = rig_disk(32, NULL);
	struct disk *origin = rig_stripe(rig_disk(16, NULL), rig_disk(16, NULL));
	struct outcome outcome;

	if (origin && run_throttled(origin, storage, &outcome))
		EXPECT(outcome.is_constant || outcome.is_told);
}

static void test_throttled_write_to_a_stripe_is_in_the_next_map(void)
{
	struct disk *storage = rig_disk(32, NULL);
	struct disk *origin = rig_stripe(rig_disk(16, NULL), rig_disk(16, NULL));
	struct outcome outcome;

	if (origin && run_throttled(origin, storage, &outcome))
		EXPECT_EQ(count_unlisted(origin, storage, &outcome), 0);
}

static void test_image_stays_when_a_throttled_write_takes_a_path(void)
{
	struct disk *storage = rig_disk(32, NULL), *origin = rig_multipath();
	struct outcome outcome;

	if (origin && run_throttled(origin, storage, &outcome))
		EXPECT(outcome.is_constant || outcome.is_told);
}

static void test_throttled_write_by_a_path_is_in_the_next_map(void)
{
	struct disk *storage = rig_disk(32, NULL), *origin = rig_multipath();
	struct outcome outcome;

	if (origin && run_throttled(origin, storage, &outcome))
		EXPECT_EQ(count_unlisted(origin, storage, &outcome), 0);
}

/* The device is slow, and has the write before it is tracked. */
static bool run_slow_path(struct disk *origin, struct disk *storage,
			  struct outcome *outcome)
{
	ASSERT(fill_direct(origin->path, 0x11, START_BYTES, 0));
	return run(origin, storage, false, outcome);
}

static void test_image_stays_when_a_write_lands_by_a_slow_path(void)
{
	struct disk *storage = rig_disk(32, NULL), *origin = rig_multipath();
	struct outcome outcome;

	if (origin && run_slow_path(origin, storage, &outcome))
		EXPECT(outcome.is_constant || outcome.is_told);
}

static void test_write_by_a_slow_path_is_in_the_next_map(void)
{
	struct disk *storage = rig_disk(32, NULL), *origin = rig_multipath();
	struct outcome outcome;

	if (origin && run_slow_path(origin, storage, &outcome))
		EXPECT_EQ(count_unlisted(origin, storage, &outcome), 0);
}

static void test_new_write_by_a_path_is_not_late(void)
{
	struct disk *storage = rig_disk(32, NULL), *origin = rig_multipath();
	struct snapshot snapshot;
	const char *image;

	if (!origin)
		return;
	ASSERT(fill_direct(origin->path, 0x11, START_BYTES, 0));
	snapshot_now(&snapshot, origin, storage);
	image = image_of(&snapshot, origin);
	/* More than a request can have, so it is split on its way to the path. */
	EXPECT(fill_direct(origin->path, 0x33, MIB, 0));
	EXPECT_EQ(image_error(image), 0);
	EXPECT(reads_as(image, 0x11, START_BYTES, 0));
}

const struct ktap_test start_tests[] = {
	KTAP_TEST(test_image_stays_when_a_throttled_write_lands),
	KTAP_TEST(test_throttled_write_is_in_the_next_map),
	KTAP_TEST(test_image_stays_when_a_delayed_write_lands),
	KTAP_TEST(test_delayed_write_is_in_the_next_map),
	KTAP_TEST(test_image_stays_when_a_throttled_write_lands_on_a_stripe),
	KTAP_TEST(test_throttled_write_to_a_stripe_is_in_the_next_map),
	KTAP_TEST(test_image_stays_when_a_throttled_write_takes_a_path),
	KTAP_TEST(test_throttled_write_by_a_path_is_in_the_next_map),
	KTAP_TEST(test_image_stays_when_a_write_lands_by_a_slow_path),
	KTAP_TEST(test_write_by_a_slow_path_is_in_the_next_map),
	KTAP_TEST(test_new_write_by_a_path_is_not_late),
	KTAP_END
};
