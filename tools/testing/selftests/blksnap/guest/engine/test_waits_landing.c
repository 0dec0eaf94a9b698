// SPDX-License-Identifier: GPL-2.0
/*
 * Writes that land after the switch, beside new ones to the same blocks
 *
 * Each spot is one block of 64 KiB.  A slow write, submitted before the take,
 * goes to the first half of some 4 KiB of it, others in each round.  A new write,
 * at any time, goes to the other half of them, or to other 4 KiB of the spot.
 * Whatever is copied because of the new write holds the place of the slow one,
 * too, before that has landed.  The image may show the slow write or not, but the
 * same for ever.  If it does not, the next one will: the map has to list the place
 * then, though the slow write was submitted, and marked, in the interval before.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "test_waits.h"

#define NR_SPOTS 8U
#define SPOT_BYTES (64 * KIB)
#define AREA_BYTES (NR_SPOTS * SPOT_BYTES)
#define HALF_BYTES 2048U
#define NR_ROUNDS 6U
#define NR_READS 8U
#define SLOW_MS 600U			/* of a write, or the half of them */
#define SLOW_BYTES_PER_S (NR_SPOTS * HALF_BYTES * 1000ULL / (2 * SLOW_MS))

struct newcomer {
	pthread_t thread;
	unsigned int spot;
};

static struct {
	const struct disk *origin, *storage;
	bool is_throttled;
	struct child_write slow[NR_SPOTS];
	pid_t children[NR_SPOTS];
	struct newcomer newcomers[NR_SPOTS];
	unsigned int nr_newcomers;
	atomic_bool is_over;
	uint8_t *images[2];		/* of this round and of the last one */
	uint8_t *again;
	unsigned int round;
	struct blk_snap_cbt_info last;
	unsigned int nr_landed;		/* slow writes that images do not show */
	unsigned int nr_changed, nr_unlisted;
} land;

/* Not where the last one went, or it would be marked because of this one. */
static uint64_t slow_at(unsigned int spot, unsigned int round)
{
	return spot * SPOT_BYTES + round % 2 * 8 * 4096;
}

/*
 * The slow writes begin one after the other, from before the take on.  Those that
 * are throttled come in faster than they go.
 */
static void start_slow_writes(unsigned int round)
{
	const unsigned int spread_ms = land.is_throttled ? SLOW_MS / 3 : SLOW_MS;
	unsigned int i;

	for (i = 0; i < NR_SPOTS; i++) {
		land.slow[i] = (struct child_write) {
			.path = land.origin->path,
			.at = slow_at(i, round),
			.nr_bytes = HALF_BYTES,
			.byte = 0x80 + round * NR_SPOTS + i,
			.is_slow = land.is_throttled,
			.delay_ms = i * spread_ms / NR_SPOTS,
		};
		land.children[i] = child_write_start(&land.slow[i]);
	}
}

/* Writes that are new, beside the slow ones; some spots have those in the same 4 KiB. */
static void *write_beside(void *data)
{
	struct newcomer *newcomer = data;
	const uint64_t at = newcomer->spot % 2 ?
			    slow_at(newcomer->spot, land.round) + HALF_BYTES :
			    newcomer->spot * SPOT_BYTES + 5 * 4096;
	int fd = open(land.origin->path, O_WRONLY | O_DIRECT | O_CLOEXEC);
	char *buffer = alloc_aligned(4096);
	unsigned int i;

	for (i = 0; fd >= 0 && !atomic_load(&land.is_over); i++) {
		memset(buffer, (16 * land.round + i) % 0x80, HALF_BYTES);
		if (pwrite(fd, buffer, HALF_BYTES, at) != HALF_BYTES)
			break;
		usleep(7000);
	}
	free(buffer);
	close(fd);
	return NULL;
}

static void start_newcomers(void)
{
	unsigned int i;

	atomic_store(&land.is_over, false);
	for (i = 0; i < NR_SPOTS; i++) {
		land.newcomers[i].spot = i;
		if (pthread_create(&land.newcomers[i].thread, NULL, write_beside,
				   &land.newcomers[i]))
			exit(KTAP_FAIL);
		land.nr_newcomers++;
	}
}

static void stop_newcomers(void)
{
	atomic_store(&land.is_over, true);
	while (land.nr_newcomers)
		pthread_join(land.newcomers[--land.nr_newcomers].thread, NULL);
}

void landing_tear_down(void)
{
	stop_newcomers();
	waits_tear_down();
}

/* Reads the image until every write has landed, and again after that. */
static void expect_image_stays(const char *image)
{
	unsigned int i, nr_differing = 0;

	EXPECT(read_direct(image, land.images[0], AREA_BYTES, 0));
	for (i = 0; i < NR_READS; i++) {
		sleep_ms(2 * SLOW_MS / NR_READS);
		EXPECT(read_direct(image, land.again, AREA_BYTES, 0));
		nr_differing += !!memcmp(land.images[0], land.again, AREA_BYTES);
	}
	for (i = 0; i < NR_SPOTS; i++) {
		EXPECT_EQ(child_join(land.children[i]), 0);
		land.nr_landed += land.images[0][land.slow[i].at] != land.slow[i].byte;
	}
	EXPECT(read_direct(image, land.again, AREA_BYTES, 0));
	nr_differing += !!memcmp(land.images[0], land.again, AREA_BYTES);
	EXPECT_EQ(nr_differing, 0);
}

/* What differs between this image and the last one is in the map. */
static void judge_map(unsigned int round)
{
	struct blk_snap_cbt_info info;
	uint8_t *map = read_map(land.origin, &info);
	uint64_t at;

	for (at = 0; round && at < AREA_BYTES; at += info.blk_size) {
		if (!memcmp(land.images[0] + at, land.images[1] + at, info.blk_size))
			continue;
		land.nr_changed++;
		land.nr_unlisted += map[at / info.blk_size] <= land.last.snap_number;
	}
	land.last = info;
	free(map);
}

static void run_round(unsigned int round)
{
	struct snapshot snapshot;
	uint8_t *image = land.images[1];

	snapshot_create(&snapshot, land.origin);
	ASSERT_OK(append_range(&snapshot, land.storage, 0,
			       land.storage->nr_bytes / SECTOR_SIZE));
	land.round = round;
	start_newcomers();
	start_slow_writes(round);
	sleep_ms(SLOW_MS / 2);
	if (EXPECT_OK(take_fn(&snapshot)) == 0) {
		snapshot_find_images(&snapshot);
		expect_image_stays(image_of(&snapshot, land.origin));
	}
	stop_newcomers();
	judge_map(round);
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	land.images[1] = land.images[0];
	land.images[0] = image;
}

static void land_beside_new_writes(const struct disk *origin, const struct disk *storage,
				   bool is_throttled)
{
	unsigned int round;

	memset(&land, 0, sizeof(land));
	land.origin = origin;
	land.storage = storage;
	land.is_throttled = is_throttled;
	land.images[0] = alloc_aligned(AREA_BYTES);
	land.images[1] = alloc_aligned(AREA_BYTES);
	land.again = alloc_aligned(AREA_BYTES);
	for (round = 0; round < NR_ROUNDS && !ktap_failures(); round++)
		run_round(round);
	ktap_note("%u of %u slow writes not in the image, %u blocks changed, %u not listed",
		  land.nr_landed, NR_SPOTS * round, land.nr_changed, land.nr_unlisted);
	EXPECT(land.nr_changed);
	EXPECT_EQ(land.nr_unlisted, 0);
	free(land.images[0]);
	free(land.images[1]);
	free(land.again);
}

#define LARGE_COPIES "copy_block_minimum_shift=16 tracking_block_minimum_shift=12"

static void land_delayed(void)
{
	struct disk *disk = rig_disk(16, NULL), *storage = rig_disk(64, NULL);

	land_beside_new_writes(rig_delay(disk, SLOW_MS), storage, false);
}

static void land_throttled(void)
{
	struct disk *origin = rig_disk(16, NULL), *storage = rig_disk(64, NULL);

	if (throttle_set(origin, SLOW_BYTES_PER_S))
		land_beside_new_writes(origin, storage, true);
}

static void test_delayed_writes_land_in_their_interval(void)
{
	land_delayed();
}

static void test_throttled_writes_land_in_their_interval(void)
{
	land_throttled();
}

/* A copy holds more than the block that is marked for the write that needs it. */
static void test_delayed_writes_land_in_large_copies(void)
{
	if (rig_reload(LARGE_COPIES))
		land_delayed();
}

static void test_throttled_writes_land_in_large_copies(void)
{
	if (rig_reload(LARGE_COPIES))
		land_throttled();
}

const struct ktap_test landing_tests[] = {
	KTAP_TEST(test_delayed_writes_land_in_their_interval),
	KTAP_TEST(test_throttled_writes_land_in_their_interval),
	KTAP_TEST(test_delayed_writes_land_in_large_copies),
	KTAP_TEST(test_throttled_writes_land_in_large_copies),
	KTAP_END
};
