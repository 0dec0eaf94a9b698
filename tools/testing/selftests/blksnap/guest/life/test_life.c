// SPDX-License-Identifier: GPL-2.0
/*
 * Life and death: of the module, of agents, of disks, of snapshots and images
 *
 *	test_life [--lives N] [--device DISK] [--fast] [--seed S] [--filter TEXT]
 *
 * Whatever ends, and however suddenly, nothing may hang, the origin takes every
 * write, an image shows the old data or an error, and nothing is left behind.
 *
 * --lives is for the test for lost memory: so often the module is loaded, used
 * and unloaded (50).  --device names a virtio disk that may be overwritten and
 * taken from its driver; without it such a disk is left out.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "test_life_kind.h"
#include "test_life_traffic.h"

struct disk origin, storage;
static struct disk anchor;
unsigned int nr_lives = 50;

/* Returns 0 or a negative errno. */
int unload(void)
{
	return syscall(SYS_delete_module, "blksnap", O_NONBLOCK) ? -errno : 0;
}

void close_ctl(void)
{
	close(ctl);
	ctl = -1;
}

void life_set_up(void)
{
	if (!module_is_loaded())
		ASSERT_EQ(module_load(""), 0);
	ctl_set_up();
}

/* A tracker outlives the snapshot that it was made for. */
void anchored_set_up(void)
{
	struct blk_snap_cbt_info info;
	struct snapshot snapshot;

	life_set_up();
	if (tracker_info(&anchor, &info))
		return;
	snapshot_create(&snapshot, &anchor);
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
}

static void remove_trackers(void)
{
	struct blk_snap_cbt_info *infos;
	unsigned int i, nr;

	if (control_tracker_collect(ctl, &infos, &nr))
		return;
	for (i = 0; i < nr; i++)
		if (memcmp(&infos[i].dev_id, &anchor.id, sizeof(anchor.id)))
			control_tracker_remove(ctl, infos[i].dev_id);
	free(infos);
}

void life_tear_down(void)
{
	struct traffic *traffic = traffic_now();

	/* Snapshots go first: what waits for them may go on then. */
	atomic_store(&traffic->may_writes_fail, true);
	atomic_store(&traffic->may_reads_fail, true);
	if (ctl < 0 && module_is_loaded())
		ctl = control_open();
	if (ctl >= 0)
		destroy_all_snapshots();
	traffic_stop();
	if (ctl >= 0) {
		remove_trackers();
		close_ctl();
	}
}

int64_t image_attribute(const char *image_path, const char *name)
{
	return read_number("/sys/block/%s/blksnap/%s",
			   strrchr(image_path, '/') + 1, name);
}

int64_t held_writes(const char *image_path)
{
	return image_attribute(image_path, "held_writes");
}

/* The short form has those before this one. */
#define FIRST_LONG_SUITE "origin-loop"

static struct ktap_suite suites[] = {
	{ "unload", life_set_up, life_tear_down, unload_tests },
	{ "parameter", life_set_up, life_tear_down, parameter_tests },
	{ "destroy", anchored_set_up, destroy_tear_down, destroy_tests },
	{ "settle", anchored_set_up, settle_tear_down, settle_tests },
	{ "kill", kill_set_up, kill_tear_down, kill_tests },
	{ "origin-null", null_set_up, removal_tear_down, origin_removal_tests },
	{ "held-null", null_set_up, removal_tear_down, held_removal_tests },
	{ "storage-null", null_set_up, removal_tear_down,
	  storage_removal_tests },
	{ "resize-partition", partition_resize_set_up, resize_tear_down,
	  resize_tests },
	{ "image-number", anchored_set_up, image_number_tear_down,
	  image_number_tests },
	{ "storm", life_set_up, storm_tear_down, storm_tests },
	{ "memory", life_set_up, life_tear_down, memory_tests },
	{ "origin-loop", loop_set_up, removal_tear_down, origin_removal_tests },
	{ "origin-dm", dm_set_up, removal_tear_down, origin_removal_tests },
	{ "origin-scsi", scsi_set_up, removal_tear_down, bus_removal_tests },
	{ "origin-virtio", virtio_set_up, removal_tear_down, bus_removal_tests },
	{ "replaced-null", null_set_up, removal_tear_down, replacement_tests },
	{ "replaced-scsi", scsi_set_up, removal_tear_down, replacement_tests },
	{ "replaced-virtio", virtio_set_up, removal_tear_down,
	  replacement_tests },
	{ "storage-loop", loop_set_up, removal_tear_down,
	  storage_removal_tests },
	{ "storage-dm", dm_set_up, removal_tear_down, storage_removal_tests },
	{ "storage-scsi", scsi_set_up, removal_tear_down,
	  storage_removal_tests },
	{ "storage-virtio", virtio_set_up, removal_tear_down,
	  storage_removal_tests },
	{ "resize-loop", loop_resize_set_up, resize_tear_down, resize_tests },
	{ "resize-dm", dm_resize_set_up, resize_tear_down, resize_tests },
	{ "number", anchored_set_up, number_tear_down, number_tests },
	{ NULL, NULL, NULL, NULL }
};

static void leave_out_long_suites(void)
{
	struct ktap_suite *suite;

	for (suite = suites; suite->name; suite++)
		if (!strcmp(suite->name, FIRST_LONG_SUITE)) {
			suite->name = NULL;
			break;
		}
}

static void read_options(int argc, char **argv)
{
	int i;

	for (i = 1; i < argc; i++)
		if (!strcmp(argv[i], "--fast"))
			leave_out_long_suites();
	for (i = 1; i + 1 < argc; i++) {
		if (!strcmp(argv[i], "--lives"))
			nr_lives = atoi(argv[i + 1]);
		else if (!strcmp(argv[i], "--device"))
			virtio_kind_set_device(argv[i + 1]);
	}
}

int main(int argc, char **argv)
{
	int ret;

	read_options(argc, argv);
	tests_need_module();
	if (module_unload())
		ktap_skip_all("the module cannot be unloaded");
	if (module_load(""))
		ktap_skip_all("modprobe cannot load the module");
	if (null_disk_create(&origin, "nullb0", DISK_MIB, NULL) ||
	    null_disk_create(&storage, "nullb1", 2 * DISK_MIB, NULL) ||
	    null_disk_create(&anchor, "nullb2", 1, NULL))
		ktap_skip_all("null_blk disks cannot be made");
	ret = ktap_main(suites, argc, argv);
	null_disk_destroy(&origin);
	null_disk_destroy(&storage);
	null_disk_destroy(&anchor);
	return ret;
}
