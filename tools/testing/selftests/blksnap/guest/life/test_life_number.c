// SPDX-License-Identifier: GPL-2.0
/*
 * Numbers that run out or are used again: of snapshots, and of images
 *
 * A change map counts snapshots up to 255 and starts over with another
 * generation.  Through hundreds of takes it is compared with what it has to be,
 * byte for byte.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "test_life.h"

/* --- takes --- */

#define NR_TAKES 300U
#define SECOND_FROM 40U		/* this take is the first of the second disk */
#define WRITES_PER_TAKE 4U
#define MODEL_BLOCKS (DISK_MIB * MIB / (64 * KIB))

/**
 * struct map_model - what the change map of a disk has to be
 * @disk:	the disk
 * @active:	byte of each tracking block, marked by writes
 * @frozen:	@active as of the last take
 * @number:	of the interval that writes belong to
 * @snap_number: of the last take
 * @generation:	identifier that all takes since @number was 1 have in common
 */
struct map_model {
	const struct disk *disk;
	uint8_t active[MODEL_BLOCKS];
	uint8_t frozen[MODEL_BLOCKS];
	unsigned int number;
	unsigned int snap_number;
	struct blk_snap_uuid generation;
};

static struct disk second;

void number_tear_down(void)
{
	life_tear_down();
	null_disk_destroy(&second);
}

static void model_init(struct map_model *model, const struct disk *disk)
{
	memset(model, 0, sizeof(*model));
	model->disk = disk;
	model->number = 1;
}

static void model_write(struct map_model *model, struct random *random)
{
	uint64_t at = random_below(random, model->disk->nr_bytes / 4096) * 4096;

	ASSERT(fill_direct(model->disk->path, NEW_BYTE, 4096, at));
	model->active[at / (64 * KIB)] = model->number;
}

/* Returns whether a generation begins. */
static bool model_take(struct map_model *model)
{
	bool is_new = model->snap_number == 0 || model->snap_number == 255;

	if (model->snap_number == 255) {
		memset(model->active, 0, sizeof(model->active));
		model->number = 1;
	}
	memcpy(model->frozen, model->active, sizeof(model->frozen));
	model->snap_number = model->number;
	model->number++;
	return is_new;
}

/* Compares the map and what is told of it; ends the test at a difference. */
static void model_check(struct map_model *model, bool is_new_generation)
{
	struct blk_snap_cbt_info info;
	uint8_t *map = read_map(model->disk, &info);
	bool is_same = !memcmp(&info.generation_id, &model->generation,
			       sizeof(info.generation_id));

	ASSERT_EQ(info.snap_number, model->snap_number);
	ASSERT(is_same != is_new_generation);
	model->generation = info.generation_id;
	ASSERT_EQ(info.blk_size, 64 * KIB);
	ASSERT(!memcmp(map, model->frozen, info.blk_count));
	free(map);
}

static void take_of(const struct disk **disks, unsigned int nr_disks)
{
	struct snapshot snapshot;

	snapshot_create_of(&snapshot, disks, nr_disks);
	ASSERT_OK(append_range(&snapshot, &storage, 2048, 2048));
	ASSERT_OK(control_snapshot_take(ctl, &snapshot.id));
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
}

/* Looks at the first disk all the time: number and generation change at once. */
static atomic_bool is_watched;

static void *watch_numbers(void *data)
{
	struct blk_snap_cbt_info last = { 0 }, info;
	bool *is_coherent = data;

	while (atomic_load(&is_watched) && *is_coherent) {
		if (!tracker_info(&origin, &info))
			*is_coherent = false;
		if (last.blk_count &&
		    memcmp(&last.generation_id, &info.generation_id,
			   sizeof(info.generation_id)))
			*is_coherent = info.snap_number <= 1;
		else if (last.blk_count)
			*is_coherent = info.snap_number >= last.snap_number;
		last = info;
	}
	return NULL;
}

static void take_both(struct map_model *models, unsigned int take,
		      struct random *random)
{
	const struct disk *disks[2] = { &origin, &second };
	unsigned int i, j, nr_disks = take < SECOND_FROM ? 1 : 2;
	bool is_new[2];

	take_of(disks, nr_disks);
	for (i = 0; i < nr_disks; i++)
		is_new[i] = model_take(&models[i]);
	for (i = 0; i < nr_disks; i++) {
		model_check(&models[i], is_new[i]);
		for (j = 0; j < WRITES_PER_TAKE; j++)
			model_write(&models[i], random);
	}
}

static void test_map_is_exact_through_300_takes(void)
{
	struct map_model *models = calloc(2, sizeof(*models));
	bool is_coherent = true;
	struct random random;
	pthread_t watcher;
	unsigned int take;

	ASSERT_OK(null_disk_create(&second, "nullb5", 4, NULL));
	random_init(&random, ktap_options.seed);
	model_init(&models[0], &origin);
	model_init(&models[1], &second);
	for (take = 1; take <= NR_TAKES; take++) {
		if (take == 252) {
			atomic_store(&is_watched, true);
			ASSERT_EQ(pthread_create(&watcher, NULL, watch_numbers,
						 &is_coherent), 0);
		}
		take_both(models, take, &random);
		if (take == 260) {
			atomic_store(&is_watched, false);
			pthread_join(watcher, NULL);
		}
	}
	EXPECT(is_coherent);
	ktap_note("%u takes, the last numbers are %u and %u", NR_TAKES,
		  models[0].snap_number, models[1].snap_number);
	EXPECT(models[0].snap_number < 255 && models[1].snap_number < 255);
	free(models);
}

/* --- images --- */

#define MAX_PARTS 60U

static struct {
	struct disk disk;
	struct blk_snap_dev ids[MAX_PARTS];
	unsigned int nr;
} parts;

void image_number_tear_down(void)
{
	life_tear_down();
	null_disk_destroy(&parts.disk);
}

static void make_parts(unsigned int nr)
{
	struct disk part;
	unsigned int i;

	ASSERT_OK(null_disk_create(&parts.disk, "nullb5", nr, NULL));
	for (i = 0; i < nr; i++) {
		ASSERT_OK(partition_add(&parts.disk, &part, i * 2048, 2048));
		parts.ids[i] = part.id;
		ASSERT(fill_direct(part.path, i + 1, 4096, 0));
	}
	parts.nr = nr;
}

static struct blk_snap_image_info *take_parts(struct blk_snap_uuid *id)
{
	struct blk_snap_block_range range = { 2048, 2048 };
	struct blk_snap_image_info *images;
	unsigned int nr;

	ASSERT_OK(control_snapshot_create(ctl, parts.ids, parts.nr, id));
	ASSERT_OK(control_snapshot_append_storage(ctl, id, storage.id, &range,
						  1));
	ASSERT_OK(control_snapshot_take(ctl, id));
	ASSERT_OK(control_snapshot_collect_images(ctl, id, &images, &nr));
	ASSERT_EQ(nr, parts.nr);
	return images;
}

/* Each image of its own origin, numbered from 0 on, without @missing. */
static void expect_images(const struct blk_snap_image_info *images,
			  unsigned int missing)
{
	unsigned int seen[MAX_PARTS + 1] = { 0 };
	char path[48];
	unsigned int i;

	for (i = 0; i < parts.nr; i++) {
		snprintf(path, sizeof(path), "/dev/" BLK_SNAP_IMAGE_NAME "%u",
			 images[i].image_dev_id.mn);
		ASSERT(images[i].image_dev_id.mn <= parts.nr);
		seen[images[i].image_dev_id.mn]++;
		EXPECT(!memcmp(&images[i].orig_dev_id, &parts.ids[i],
			       sizeof(parts.ids[i])));
		ASSERT(wait_for_node(path, true));
		EXPECT(reads_as(path, i + 1, 4096, 0));
	}
	for (i = 0; i <= parts.nr; i++)
		EXPECT_EQ(seen[i], i != missing);
}

static void test_numbers_of_many_images_are_given_back(void)
{
	struct blk_snap_image_info *images;
	struct blk_snap_uuid id;
	char path[48];
	int fd;

	make_parts(ktap_options.is_fast ? 10 : MAX_PARTS);
	images = take_parts(&id);
	expect_images(images, parts.nr);
	snprintf(path, sizeof(path), "/dev/" BLK_SNAP_IMAGE_NAME "%u",
		 parts.nr / 2);
	fd = ASSERT_OK(open(path, O_RDONLY | O_CLOEXEC));
	free(images);
	ASSERT_OK(control_snapshot_destroy(ctl, &id));
	images = take_parts(&id);
	expect_images(images, parts.nr / 2);
	free(images);
	ASSERT_OK(control_snapshot_destroy(ctl, &id));
	close(fd);
	EXPECT(wait_for_node(path, false));
	images = take_parts(&id);
	expect_images(images, parts.nr);
	free(images);
}

const struct ktap_test number_tests[] = {
	KTAP_SLOW_TEST(test_map_is_exact_through_300_takes),
	KTAP_END
};

const struct ktap_test image_number_tests[] = {
	KTAP_TEST(test_numbers_of_many_images_are_given_back),
	KTAP_END
};
