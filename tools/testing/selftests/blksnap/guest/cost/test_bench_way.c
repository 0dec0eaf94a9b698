// SPDX-License-Identifier: GPL-2.0
/*
 * The ways to hold a snapshot
 *
 * One is in use at a time, on one origin or on some.  Started, it stands where it has
 * to stand before a snapshot can be taken.
 *
 * Device mapper is called directly: a program would cost more than the call.
 */
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "test_bench.h"

const struct way way_bare = { "bare", WAY_BARE, 0 };
const struct way way_blksnap = { "blksnap", WAY_BLKSNAP, 0 };
const struct way way_dm8 = { "dm8", WAY_DM, 8 };
const struct way way_dm128 = { "dm128", WAY_DM, 128 };
const struct way way_dm512 = { "dm512", WAY_DM, 512 };

#define DM_ORIGIN "bench-origin"
#define DM_SNAPSHOT "bench-snapshot"

static const struct way *current;
static const struct disk *origins[SNAPSHOT_DISKS_MAX], *storages[SNAPSHOT_DISKS_MAX];
static unsigned int nr_origins;
static struct snapshot snapshot;
/* Of the first one. */
static char dm_origin_path[32], dm_snapshot_path[32];
static bool is_taken;

struct dm_request {
	struct dm_ioctl head;
	struct dm_target_spec spec;
	char params[128];
};

static int dm_call(unsigned long number, const char *name, uint32_t flags,
		   struct dm_request *request)
{
	int fd = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
	int ret;

	if (fd < 0)
		return -1;
	request->head.version[0] = DM_VERSION_MAJOR;
	request->head.data_size = sizeof(*request);
	request->head.data_start = sizeof(request->head);
	request->head.flags = flags;
	snprintf(request->head.name, sizeof(request->head.name), "%s", name);
	ret = ioctl(fd, number, request);
	close(fd);
	return ret;
}

static int dm_simple_call(unsigned long number, const char *name, uint32_t flags)
{
	struct dm_request request = { 0 };

	return dm_call(number, name, flags, &request);
}

/* Make a device of one target; path is filled in. */
static void dm_create(const char *name, const char *target, const char *params,
		      uint64_t nr_sectors, char path[32])
{
	struct dm_request request = { 0 };

	ASSERT_OK(dm_call(DM_DEV_CREATE, name, 0, &request));
	snprintf(path, 32, "/dev/dm-%u", minor(request.head.dev));
	memset(&request, 0, sizeof(request));
	request.head.target_count = 1;
	request.spec.length = nr_sectors;
	snprintf(request.spec.target_type, sizeof(request.spec.target_type),
		 "%s", target);
	snprintf(request.params, sizeof(request.params), "%s", params);
	ASSERT_OK(dm_call(DM_TABLE_LOAD, name, 0, &request));
	ASSERT_OK(dm_simple_call(DM_DEV_SUSPEND, name, 0));
	ASSERT(wait_for_node(path, true));
}

static const char *dm_name(const char *name, unsigned int nr)
{
	static char text[32];

	snprintf(text, sizeof(text), "%s%u", name, nr);
	return text;
}

static void dm_start(void)
{
	char path[32];
	unsigned int i;

	if (access("/sys/module/dm_snapshot", F_OK))
		ASSERT(kernel_module_load("dm-snapshot"));
	ASSERT(wait_for_node("/dev/mapper/control", true));
	for (i = 0; i < nr_origins; i++)
		dm_create(dm_name(DM_ORIGIN, i), "snapshot-origin", origins[i]->path,
			  origins[i]->nr_bytes / SECTOR_SIZE, i ? path : dm_origin_path);
}

/* As with a snapshot of ours, all wait before the first one goes on. */
static void dm_take(void)
{
	char params[128], path[32];
	unsigned int i;

	for (i = 0; i < nr_origins; i++)
		ASSERT_OK(dm_simple_call(DM_DEV_SUSPEND, dm_name(DM_ORIGIN, i),
					 DM_SUSPEND_FLAG));
	for (i = 0; i < nr_origins; i++) {
		/* Not kept over a reboot, like a snapshot of ours. */
		snprintf(params, sizeof(params), "%s %s N %u", origins[i]->path,
			 storages[i]->path, current->chunk_sectors);
		dm_create(dm_name(DM_SNAPSHOT, i), "snapshot", params,
			  origins[i]->nr_bytes / SECTOR_SIZE, i ? path : dm_snapshot_path);
	}
	for (i = 0; i < nr_origins; i++)
		ASSERT_OK(dm_simple_call(DM_DEV_SUSPEND, dm_name(DM_ORIGIN, i), 0));
}

/* The device can be busy for a moment: somebody looks what is on it. */
static void dm_remove(const char *name)
{
	unsigned int i;

	for (i = 0; i < 100; i++) {
		if (!dm_simple_call(DM_DEV_REMOVE, name, 0))
			return;
		sleep_ms(20);
	}
	FAIL("%s cannot be removed", name);
}

static void dm_remove_all(const char *name)
{
	unsigned int i;

	for (i = 0; i < nr_origins; i++)
		dm_remove(dm_name(name, i));
}

/*
 * Have the module follow the origins, without a snapshot.  For some time after that, all
 * requests cost more, because writes from before are watched for.
 */
static void blksnap_start(void)
{
	ASSERT_OK(module_load("settle_watch=1"));
	ctl_set_up();
	snapshot_create_of(&snapshot, origins, nr_origins);
	destroy_all_snapshots();
	sleep_ms(WATCH_MS);
}

/* dm-snapshot needs storage for each origin. */
void way_start_many(const struct way *way, const struct disk *of_origins,
		    const struct disk *of_storages, unsigned int nr)
{
	unsigned int i;

	ASSERT(nr <= SNAPSHOT_DISKS_MAX);
	current = way;
	nr_origins = nr;
	for (i = 0; i < nr; i++) {
		origins[i] = &of_origins[i];
		storages[i] = &of_storages[i];
	}
	if (way->kind == WAY_BLKSNAP)
		blksnap_start();
	else if (way->kind == WAY_DM)
		dm_start();
}

void way_start(const struct way *way, const struct disk *origin,
	       const struct disk *storage)
{
	way_start_many(way, origin, storage, 1);
}

static void blksnap_take(void)
{
	snapshot_create_of(&snapshot, origins, nr_origins);
	ASSERT_OK(append_range(&snapshot, storages[0], 0,
			       storages[0]->nr_bytes / SECTOR_SIZE));
	snapshot_take(&snapshot);
}

void way_take(void)
{
	if (current->kind == WAY_BLKSNAP)
		blksnap_take();
	else if (current->kind == WAY_DM)
		dm_take();
	is_taken = true;
}

void way_drop(void)
{
	if (!is_taken)
		return;
	is_taken = false;
	if (current->kind == WAY_BLKSNAP)
		destroy_all_snapshots();
	else if (current->kind == WAY_DM)
		dm_remove_all(DM_SNAPSHOT);
}

/* Whatever became of the test. */
void way_stop(void)
{
	if (!current)
		return;
	way_drop();
	if (current->kind == WAY_BLKSNAP) {
		ctl_tear_down();
		EXPECT_EQ(module_unload(), 0);
	} else if (current->kind == WAY_DM) {
		dm_remove_all(DM_ORIGIN);
	}
	current = NULL;
}

/* The first one. */
const char *way_origin(void)
{
	return current->kind == WAY_DM ? dm_origin_path : origins[0]->path;
}

const char *way_image(void)
{
	switch (current->kind) {
	case WAY_BLKSNAP:
		return image_of(&snapshot, origins[0]);
	case WAY_DM:
		return dm_snapshot_path;
	default:
		return origins[0]->path;
	}
}
