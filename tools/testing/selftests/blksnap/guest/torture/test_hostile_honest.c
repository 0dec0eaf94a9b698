// SPDX-License-Identifier: GPL-2.0
/*
 * Those whom hostile callers may not harm
 *
 * An honest agent takes snapshots of two disks of its own, writes to them, and
 * compares images and change maps with what it knows.  Hostile callers may name
 * its devices and its snapshot, but only while it is taken, for what can be
 * done to it then must fail.  And somebody writes to the origins of the callers
 * themselves: whatever becomes of their snapshots, these hold what was written.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "test_hostile.h"

#define HONEST_BYTES (HONEST_MIB * MIB)
#define NR_STEPS 60
#define STEP_BYTES (64 * KIB)
#define NR_BLOCKS (HONEST_SECTORS / TRACKING_BLOCK_SECTORS)

struct honest_origin {
	int fd;
	uint8_t *content;	/* what was written */
	uint8_t *image;		/* that of the last take */
	bool changed[NR_BLOCKS];	/* since the last take */
	bool is_known;		/* the last take's generation and number: */
	struct blk_snap_uuid generation;
	uint8_t number;
};

static struct {
	pthread_rwlock_t lock;	/* what follows */
	bool is_held;
	struct blk_snap_uuid id;
	struct blk_snap_dev image_dev;
} honest;

static struct honest_origin origins[2];
static char honest_error[200];
static unsigned int nr_rounds;

/* Disks that callers have as origins: what lies below their storage. */
static struct stamped {
	unsigned int target;
	uint64_t nr_bytes;
	int fd;
	uint8_t *content;
} stamped[] = {
	{ .target = TARGET_A },
	{ .target = TARGET_B },
	{ .target = TARGET_4K },
};

static char stamp_error[100];
static unsigned long nr_stamps;

static void note_error(char *error, size_t size, const char *text, long number)
{
	if (!error[0])
		snprintf(error, size, "%s: %ld", text, number);
}

#define HONEST_FAILED(text, number) \
	note_error(honest_error, sizeof(honest_error), text, number)

/* --- lending --- */

/* For one call; false if there is nothing to lend now. */
bool honest_borrow(struct caller *caller)
{
	if (caller->is_borrowing)
		return true;
	if (!caller->may_borrow || pthread_rwlock_tryrdlock(&honest.lock))
		return false;
	caller->is_borrowing = honest.is_held;
	if (!caller->is_borrowing)
		pthread_rwlock_unlock(&honest.lock);
	return caller->is_borrowing;
}

void honest_return(struct caller *caller)
{
	caller->is_borrowing = false;
	pthread_rwlock_unlock(&honest.lock);
}

const struct blk_snap_uuid *honest_id(void)
{
	return &honest.id;
}

struct blk_snap_dev honest_image(void)
{
	return honest.image_dev;
}

static void lend(bool is_held)
{
	pthread_rwlock_wrlock(&honest.lock);
	honest.is_held = is_held;
	pthread_rwlock_unlock(&honest.lock);
}

/* --- the rounds --- */

static void write_somewhere(struct random *random, struct honest_origin *origin,
			    uint8_t *buffer)
{
	uint64_t nr_bytes = (1 + random_below(random, STEP_BYTES / SECTOR_SIZE)) *
			    SECTOR_SIZE;
	uint64_t at = random_below(random, (HONEST_BYTES - nr_bytes) / SECTOR_SIZE) *
		      SECTOR_SIZE;
	uint64_t block;

	memset(buffer, random_next(random) >> 56, nr_bytes);
	memcpy(buffer, &at, sizeof(at));
	if (pwrite(origin->fd, buffer, nr_bytes, at) != (ssize_t)nr_bytes)
		HONEST_FAILED("a write to an origin failed", errno);
	memcpy(origin->content + at, buffer, nr_bytes);
	for (block = at / 4096; block <= (at + nr_bytes - 1) / 4096; block++)
		origin->changed[block] = true;
}

static bool image_is_right(int fd, const struct honest_origin *origin,
			   uint8_t *buffer, uint64_t at, uint64_t nr_bytes)
{
	return pread(fd, buffer, nr_bytes, at) == (ssize_t)nr_bytes &&
	       !memcmp(buffer, origin->image + at, nr_bytes);
}

static void check_image(struct random *random, int fd,
			const struct honest_origin *origin, uint8_t *buffer)
{
	uint64_t at = random_below(random, HONEST_BYTES / STEP_BYTES) * STEP_BYTES;

	if (!image_is_right(fd, origin, buffer, at, STEP_BYTES))
		HONEST_FAILED("an image is wrong at", at);
}

static void check_whole_image(int fd, const struct honest_origin *origin,
			      uint8_t *buffer)
{
	uint64_t at;

	for (at = 0; at < HONEST_BYTES; at += STEP_BYTES)
		if (!image_is_right(fd, origin, buffer, at, STEP_BYTES))
			HONEST_FAILED("an image is wrong at", at);
}

/* What has changed since the take before has to be marked. */
static void check_map(struct honest_origin *origin, const struct disk *disk,
		      const struct blk_snap_cbt_info *info)
{
	uint8_t map[NR_BLOCKS];
	unsigned int i;

	if (control_tracker_read_cbt_map(ctl, disk->id, 0, NR_BLOCKS, map) !=
	    (int)NR_BLOCKS) {
		HONEST_FAILED("a change map cannot be read", errno);
		return;
	}
	for (i = 0; origin->is_known && i < NR_BLOCKS; i++)
		if (origin->changed[i] && map[i] <= origin->number &&
		    !memcmp(&info->generation_id, &origin->generation,
			    sizeof(origin->generation)))
			HONEST_FAILED("a change is not marked in block", i);
	memset(origin->changed, 0, sizeof(origin->changed));
	origin->generation = info->generation_id;
	origin->number = info->snap_number;
	origin->is_known = true;
}

static void check_maps(void)
{
	struct blk_snap_cbt_info *infos;
	unsigned int i, j, nr;

	if (control_tracker_collect(ctl, &infos, &nr)) {
		HONEST_FAILED("trackers cannot be listed", errno);
		return;
	}
	for (i = 0; i < 2; i++)
		for (j = 0; j < nr; j++)
			if (!memcmp(&infos[j].dev_id, &honest_origins[i].id,
				    sizeof(infos[j].dev_id)))
				check_map(&origins[i], &honest_origins[i],
					  &infos[j]);
	free(infos);
}

/*
 * Callers may have got hold of our disks by chance, or have lost the identifiers
 * of what they made: then all they have must go.
 */
static bool create(void)
{
	const struct blk_snap_dev ids[] = {
		honest_origins[0].id, honest_origins[1].id,
	};
	int ret = -EALREADY;
	unsigned int i;

	for (i = 0; i < 100 && ret == -EALREADY; i++) {
		if (i || nr_rounds % 4 == 3)
			destroy_all_snapshots();
		ret = control_snapshot_create(ctl, ids, 2, &honest.id);
	}
	if (ret)
		HONEST_FAILED("a snapshot cannot be created", ret);
	return !ret;
}

static bool take(int *fds)
{
	struct blk_snap_block_range range = {
		0, honest_storage.nr_bytes / SECTOR_SIZE,
	};
	struct blk_snap_image_info *infos;
	unsigned int i, nr;
	char path[40];
	int ret;

	ret = control_snapshot_append_storage(ctl, &honest.id, honest_storage.id,
					      &range, 1);
	for (i = 0; i < 2; i++)
		memcpy(origins[i].image, origins[i].content, HONEST_BYTES);
	ret = ret ?: control_snapshot_take(ctl, &honest.id);
	ret = ret ?: control_snapshot_collect_images(ctl, &honest.id, &infos, &nr);
	if (ret || nr != 2) {
		HONEST_FAILED("a snapshot cannot be taken", ret);
		return false;
	}
	honest.image_dev = infos[0].image_dev_id;
	for (i = 0; i < 2; i++) {
		bool is_first = !memcmp(&infos[i].orig_dev_id,
					&honest_origins[0].id,
					sizeof(infos[i].orig_dev_id));

		snprintf(path, sizeof(path), "/dev/" BLK_SNAP_IMAGE_NAME "%u",
			 infos[i].image_dev_id.mn);
		wait_for_node(path, true);
		fds[!is_first] = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	}
	free(infos);
	return fds[0] >= 0 && fds[1] >= 0;
}

static void make_steps(struct random *random, const int *fds, uint8_t *buffer)
{
	unsigned int i;

	for (i = 0; i < NR_STEPS && !honest_error[0]; i++) {
		unsigned int n = random_below(random, 2);

		write_somewhere(random, &origins[n], buffer);
		check_image(random, fds[n], &origins[n], buffer);
		sleep_ms(random_below(random, 6));
	}
	for (i = 0; i < 2; i++)
		check_whole_image(fds[i], &origins[i], buffer);
}

static void make_round(struct random *random, uint8_t *buffer)
{
	int fds[2] = { -1, -1 };
	int ret;

	if (!create())
		return;
	if (take(fds)) {
		lend(true);
		check_maps();
		make_steps(random, fds, buffer);
		lend(false);
	} else {
		HONEST_FAILED("images cannot be opened", errno);
	}
	close(fds[0]);
	close(fds[1]);
	ret = control_snapshot_destroy(ctl, &honest.id);
	if (ret)
		HONEST_FAILED("a snapshot cannot be destroyed", ret);
	nr_rounds++;
}

/* The honest agent; @data is its seed. */
void *honest_run(void *data)
{
	uint8_t *buffer = alloc_aligned(STEP_BYTES);
	struct random random;

	random_init(&random, *(uint64_t *)data);
	while (!stats_is_over() && !honest_error[0])
		make_round(&random, buffer);
	free(buffer);
	return NULL;
}

/* Writes to the origins of the callers; @data is its seed. */
void *stamp_run(void *data)
{
	uint8_t *buffer = alloc_aligned(STEP_BYTES);
	struct random random;

	random_init(&random, *(uint64_t *)data);
	while (!stats_is_over()) {
		struct stamped *disk =
			&stamped[random_below(&random, ARRAY_SIZE(stamped))];
		uint64_t nr_bytes = (1 + random_below(&random, 8)) * 4096;
		uint64_t at = random_below(&random,
					   (disk->nr_bytes - nr_bytes) / 4096) * 4096;

		memset(buffer, random_next(&random) >> 56, nr_bytes);
		if (pwrite(disk->fd, buffer, nr_bytes, at) != (ssize_t)nr_bytes)
			note_error(stamp_error, sizeof(stamp_error),
				   "a write to the origin of a caller failed",
				   errno);
		memcpy(disk->content + at, buffer, nr_bytes);
		nr_stamps++;
		sleep_ms(random_below(&random, 8));
	}
	free(buffer);
	return NULL;
}

/* --- before and after --- */

static uint8_t *fill_disk(const char *path, uint64_t nr_bytes)
{
	uint8_t *content = alloc_aligned(nr_bytes);
	uint64_t at;

	for (at = 0; at < nr_bytes; at += 4096) {
		memset(content + at, at / 4096 % 251, 4096);
		memcpy(content + at, &at, sizeof(at));
	}
	ASSERT(write_direct(path, content, nr_bytes, 0));
	return content;
}

void honest_set_up(void)
{
	pthread_rwlockattr_t attributes;
	unsigned int i;

	memset(&honest, 0, sizeof(honest));
	honest_error[0] = 0;
	stamp_error[0] = 0;
	nr_rounds = 0;
	nr_stamps = 0;
	/* Borrowers come and go all the time. */
	pthread_rwlockattr_init(&attributes);
	pthread_rwlockattr_setkind_np(&attributes,
				      PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&honest.lock, &attributes);
	for (i = 0; i < 2; i++) {
		memset(&origins[i], 0, sizeof(origins[i]));
		origins[i].content = fill_disk(honest_origins[i].path, HONEST_BYTES);
		origins[i].image = alloc_aligned(HONEST_BYTES);
		origins[i].fd = ASSERT_OK(open(honest_origins[i].path,
					       O_RDWR | O_DIRECT | O_CLOEXEC));
	}
	for (i = 0; i < ARRAY_SIZE(stamped); i++) {
		const struct target *target = &targets[stamped[i].target];

		stamped[i].nr_bytes = target->store_from * SECTOR_SIZE;
		stamped[i].content = fill_disk(target->disk.path,
					       stamped[i].nr_bytes);
		stamped[i].fd = ASSERT_OK(open(target->disk.path,
					       O_RDWR | O_DIRECT | O_CLOEXEC));
	}
}

void honest_tear_down(void)
{
	unsigned int i;

	for (i = 0; i < 2; i++) {
		close(origins[i].fd);
		free(origins[i].content);
		free(origins[i].image);
	}
	for (i = 0; i < ARRAY_SIZE(stamped); i++) {
		close(stamped[i].fd);
		free(stamped[i].content);
	}
	pthread_rwlock_destroy(&honest.lock);
}

static bool disk_holds(const char *path, const uint8_t *content, uint64_t nr_bytes)
{
	uint8_t *buffer = alloc_aligned(nr_bytes);
	bool ok = read_direct(path, buffer, nr_bytes, 0) &&
		  !memcmp(buffer, content, nr_bytes);

	free(buffer);
	return ok;
}

/* Called when nobody works any more. */
void honest_check(void)
{
	unsigned int i;

	ktap_note("%u honest rounds, %lu writes to origins of callers",
		  nr_rounds, nr_stamps);
	ktap_check(!honest_error[0], false, __FILE__, __LINE__, "honest agent: %s",
		   honest_error);
	ktap_check(!stamp_error[0], false, __FILE__, __LINE__, "%s", stamp_error);
	EXPECT(nr_rounds > 0);
	for (i = 0; i < 2; i++)
		EXPECT(disk_holds(honest_origins[i].path, origins[i].content,
				  HONEST_BYTES));
	for (i = 0; i < ARRAY_SIZE(stamped); i++)
		EXPECT(disk_holds(targets[stamped[i].target].disk.path,
				  stamped[i].content, stamped[i].nr_bytes));
}
