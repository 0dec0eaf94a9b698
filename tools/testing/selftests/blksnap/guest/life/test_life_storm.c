// SPDX-License-Identifier: GPL-2.0
/*
 * Many agents at once
 *
 * In a storm each agent has a disk of its own and makes, checks and destroys one
 * snapshot after the other.  Rivals work on the same disks: they create, append,
 * take, destroy and ask whatever they find, with any outcome that another one can
 * bring about and no other.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "test_life_traffic.h"

#define NR_AGENTS 4U
#define AGENT_MIB 4U
#define PIECE_SECTORS (MIB / SECTOR_SIZE)

static struct disk disks[NR_AGENTS];
static struct crew agents;

void storm_tear_down(void)
{
	unsigned int i;

	if (agents.nr_members) {
		crew_halt(&agents);
		crew_stop(&agents);
	}
	life_tear_down();
	for (i = 0; i < NR_AGENTS; i++)
		null_disk_destroy(&disks[i]);
}

static void make_disks(unsigned int nr)
{
	char name[16];
	unsigned int i;

	for (i = 0; i < nr; i++) {
		snprintf(name, sizeof(name), "nullb%u", 10 + i);
		ASSERT_OK(null_disk_create(&disks[i], name, AGENT_MIB, NULL));
	}
}

static void run_agents(unsigned int nr_agents, unsigned int nr_times, crew_fn work)
{
	crew_start(&agents, nr_agents, ktap_options.seed, work, NULL);
	crew_grant(&agents, nr_times);
	crew_wait(&agents);
	if (crew_error(&agents))
		FAIL("%s", crew_error(&agents));
	crew_stop(&agents);
}

/* An error text that tells what failed, kept until the next one. */
static const char *failure(const char *what, int ret)
{
	static __thread char text[100];

	snprintf(text, sizeof(text), "%s: %s", what, strerror(-ret));
	return text;
}

/* --- storm --- */

static bool transfer(const char *path, int flags, char *buffer)
{
	int fd = open(path, flags | O_DIRECT | O_CLOEXEC);
	ssize_t ret = -1;

	if (fd >= 0)
		ret = flags == O_WRONLY ? pwrite(fd, buffer, MIB, 0) :
					  pread(fd, buffer, MIB, 0);
	close(fd);
	return ret == (ssize_t)MIB;
}

static const char *find_image(int fd, const struct blk_snap_uuid *id, char *path,
			      size_t path_size)
{
	struct blk_snap_image_info *images;
	unsigned int nr;
	int ret;

	ret = control_snapshot_collect_images(fd, id, &images, &nr);
	if (ret)
		return failure("collect images", ret);
	snprintf(path, path_size, "/dev/" BLK_SNAP_IMAGE_NAME "%u",
		 images[0].image_dev_id.mn);
	free(images);
	return wait_for_node(path, true) ? NULL : "no node of an image";
}

static const char *use_snapshot(int fd, const struct disk *disk,
				const struct blk_snap_uuid *id, unsigned int agent,
				char *buffer)
{
	struct blk_snap_block_range range = {
		(1 + agent * 4) * PIECE_SECTORS, 4 * PIECE_SECTORS
	};
	const char *error;
	char image[48];
	int ret;

	memset(buffer, OLD_BYTE, MIB);
	if (!transfer(disk->path, O_WRONLY, buffer))
		return "a write to an origin failed";
	ret = control_snapshot_append_storage(fd, id, storage.id, &range, 1);
	if (ret)
		return failure("append", ret);
	ret = control_snapshot_take(fd, id);
	if (ret)
		return failure("take", ret);
	error = find_image(fd, id, image, sizeof(image));
	if (error)
		return error;
	memset(buffer, NEW_BYTE, MIB);
	if (!transfer(disk->path, O_WRONLY, buffer))
		return "a write to an origin failed";
	if (!transfer(image, O_RDONLY, buffer))
		return "an image cannot be read";
	return is_filled_with(buffer, OLD_BYTE, MIB) ? NULL :
						       "an image is wrong";
}

/* crew_fn: one snapshot from its creation to its end. */
static const char *live_once(struct crew_member *member, void *data)
{
	const struct disk *disk = &disks[member->index];
	struct blk_snap_uuid id;
	const char *error;
	int fd, ret;

	(void)data;
	fd = control_open();
	if (fd < 0)
		return failure("open", fd);
	ret = control_snapshot_create(fd, &disk->id, 1, &id);
	if (ret) {
		close(fd);
		return failure("create", ret);
	}
	error = use_snapshot(fd, disk, &id, member->index, member->buffer);
	ret = control_snapshot_destroy(fd, &id);
	if (ret && !error)
		error = failure("destroy", ret);
	/* Now and then the tracking has to begin anew, too. */
	if (!random_below(&member->random, 8))
		control_tracker_remove(fd, disk->id);
	close(fd);
	return error;
}

static void test_storm_of_snapshots(void)
{
	unsigned int nr_times = ktap_options.is_fast ? 5 : 50;

	make_disks(NR_AGENTS);
	run_agents(NR_AGENTS, nr_times, live_once);
	EXPECT_EQ(destroy_all_snapshots(), 0);
	ktap_note("%u snapshots of %u agents", NR_AGENTS * nr_times, NR_AGENTS);
}

/* --- rivals --- */

#define NR_RIVALS 3U

/* What is not an error of the module, as rivals may be faster. */
static const char *check(const char *what, int ret, const int *allowed)
{
	if (ret >= 0)
		return NULL;
	for (; *allowed; allowed++)
		if (ret == -*allowed)
			return NULL;
	return failure(what, ret);
}

#define CHECK(what, ret, ...) \
	check(what, ret, (const int []){ __VA_ARGS__, 0 })

/* Any snapshot there is, or false. */
static bool choose_snapshot(int fd, struct random *random, struct blk_snap_uuid *id)
{
	struct blk_snap_uuid *ids;
	unsigned int nr;

	if (control_snapshot_collect(fd, &ids, &nr))
		return false;
	if (nr)
		*id = ids[random_below(random, nr)];
	free(ids);
	return nr;
}

static const char *rival_create(int fd, struct random *random)
{
	struct blk_snap_dev devs[2] = { origin.id, disks[0].id };
	unsigned int first = random_below(random, 2);
	unsigned int nr = first ? 1 : 1 + random_below(random, 2);
	struct blk_snap_uuid id;

	return CHECK("create", control_snapshot_create(fd, devs + first, nr, &id),
		     EALREADY);
}

static const char *rival_append(int fd, struct random *random,
				const struct blk_snap_uuid *id)
{
	const uint64_t nr_pieces = storage.nr_bytes / SECTOR_SIZE / PIECE_SECTORS;
	struct blk_snap_block_range range = {
		random_below(random, nr_pieces) * PIECE_SECTORS, PIECE_SECTORS
	};

	return CHECK("append",
		     control_snapshot_append_storage(fd, id, storage.id, &range,
						     1),
		     ESRCH, EINVAL, EBUSY);
}

/* Whatever the image shows, it shows it twice, or fails. */
static const char *rival_read(int fd, const struct blk_snap_uuid *id, char *buffer)
{
	struct blk_snap_image_info *images;
	bool is_stable = true;
	unsigned int nr;
	char path[48];
	int image, ret;

	ret = control_snapshot_collect_images(fd, id, &images, &nr);
	if (ret)
		return CHECK("collect images", ret, ESRCH, ENODEV);
	snprintf(path, sizeof(path), "/dev/" BLK_SNAP_IMAGE_NAME "%u",
		 images[0].image_dev_id.mn);
	free(images);
	image = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (image >= 0 && pread(image, buffer, 64 * KIB, 0) > 0 &&
	    pread(image, buffer + 64 * KIB, 64 * KIB, 0) > 0)
		is_stable = !memcmp(buffer, buffer + 64 * KIB, 64 * KIB);
	close(image);
	return is_stable ? NULL : "an image has changed";
}

static const char *rival_ask(int fd, struct random *random)
{
	struct blk_snap_block_range range = { random_below(random, 1000), 8 };
	struct blk_snap_cbt_info *infos;
	const char *error;
	unsigned int nr;
	uint8_t map[64];
	int ret;

	ret = control_tracker_collect(fd, &infos, &nr);
	if (!ret)
		free(infos);
	error = CHECK("collect trackers", ret, 0);
	if (!error)
		error = CHECK("read the map",
			      control_tracker_read_cbt_map(fd, origin.id, 0,
							   sizeof(map), map),
			      ENODATA, EPERM);
	if (!error)
		error = CHECK("mark",
			      control_tracker_mark_dirty_blocks(fd, origin.id,
								&range, 1),
			      ENODEV);
	return error;
}

/* What is done to a snapshot, with @random choosing what. */
static const char *rival_touch(int fd, struct random *random,
			       const struct blk_snap_uuid *id, char *buffer)
{
	struct blk_snap_snapshot_event event;

	switch (random_below(random, 8)) {
	case 0:
	case 1:
		return rival_append(fd, random, id);
	case 2:
	case 3:
		return CHECK("take", control_snapshot_take(fd, id), ESRCH,
			     EALREADY, EFAULT);
	case 4:
		return CHECK("destroy", control_snapshot_destroy(fd, id), ENODEV);
	case 5:
		return CHECK("wait",
			     control_snapshot_wait_event(fd, id,
							 random_below(random, 20),
							 &event),
			     ENOENT, ESRCH);
	default:
		return rival_read(fd, id, buffer);
	}
}

/* crew_fn: one call, of any kind. */
static const char *rival_act(struct crew_member *member, void *data)
{
	struct random *random = &member->random;
	int fd = control_open();
	struct blk_snap_uuid id;
	const char *error;

	(void)data;
	if (fd < 0)
		return failure("open", fd);
	if (!random_below(random, 5))
		error = rival_create(fd, random);
	else if (choose_snapshot(fd, random, &id))
		error = rival_touch(fd, random, &id, member->buffer);
	else if (random_below(random, 4))
		error = rival_ask(fd, random);
	else
		error = CHECK("remove", control_tracker_remove(fd, origin.id),
			      EBUSY, ENODATA);
	close(fd);
	return error;
}

static void test_rivals_get_in_nobodys_way(void)
{
	const char *error;

	make_disks(1);
	traffic_start(origin.path, NULL, false);
	run_agents(NR_RIVALS, ktap_options.is_fast ? 40 : 250, rival_act);
	EXPECT(traffic_wait(&traffic_now()->nr_written, 10));
	error = traffic_stop();
	if (error)
		FAIL("%s", error);
	ktap_note("%u snapshots are left", destroy_all_snapshots());
	close_ctl();
	EXPECT_OK(unload());
}

const struct ktap_test storm_tests[] = {
	KTAP_TEST(test_storm_of_snapshots),
	KTAP_TEST(test_rivals_get_in_nobodys_way),
	KTAP_END
};
