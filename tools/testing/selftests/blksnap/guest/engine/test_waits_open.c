// SPDX-License-Identifier: GPL-2.0
/*
 * Listing what is tracked opens nothing
 *
 * A device that is open for a moment cannot be removed at that moment, wakes up
 * if it sleeps, and comes back if it had been stopped.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "stacked.h"
#include "test_waits.h"

#define NR_SAMPLES 4000U
#define NR_REMOVALS 60U
#define MD "/dev/md0"
#define MD_CREATE "mdadm --create " MD " --run --metadata=1.2 --bitmap=none " \
	"--level=1 --raid-devices=2 --assume-clean"

static struct {
	pthread_t threads[2];
	unsigned int nr_threads;
	atomic_bool is_over;
	atomic_uint nr_lists;
} lister;

static void *list_again_and_again(void *data)
{
	struct blk_snap_cbt_info *infos;
	unsigned int nr;

	while (!atomic_load(&lister.is_over)) {
		if (!control_tracker_collect(ctl, &infos, &nr))
			free(infos);
		atomic_fetch_add(&lister.nr_lists, 1);
	}
	return data;
}

static void list_start(void)
{
	atomic_store(&lister.is_over, false);
	atomic_store(&lister.nr_lists, 0);
	for (lister.nr_threads = 0; lister.nr_threads < ARRAY_SIZE(lister.threads);
	     lister.nr_threads++)
		if (pthread_create(&lister.threads[lister.nr_threads], NULL,
				   list_again_and_again, NULL))
			exit(KTAP_FAIL);
}

static void list_stop(void)
{
	atomic_store(&lister.is_over, true);
	while (lister.nr_threads)
		pthread_join(lister.threads[--lister.nr_threads], NULL);
}

void open_tear_down(void)
{
	list_stop();
	waits_tear_down();
}

/* Tracked, but in no snapshot. */
static void track(const struct disk *disk)
{
	struct snapshot snapshot;

	snapshot_create(&snapshot, disk);
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
}

static void test_list_leaves_devices_closed(void)
{
	const struct disk *disk = rig_linear(rig_disk(16, NULL));
	const char *name = rig_mapping_name(disk);
	unsigned int i, nr_open = 0;

	track(disk);
	EXPECT_EQ(mapping_open_count(name), 0);
	list_start();
	for (i = 0; i < NR_SAMPLES; i++)
		nr_open += mapping_open_count(name) > 0;
	list_stop();
	ktap_note("open at %u of %u looks, beside %u lists", nr_open, NR_SAMPLES,
		  atomic_load(&lister.nr_lists));
	EXPECT_EQ(nr_open, 0);
}

static void test_device_can_be_removed_while_it_is_listed(void)
{
	const struct disk *lower = rig_disk(16, NULL);
	unsigned int i, nr_busy = 0;
	struct disk disk;
	int ret;

	list_start();
	for (i = 0; i < NR_REMOVALS; i++) {
		if (!EXPECT_OK(linear_create(&disk, "waits-open", lower)))
			track(&disk);
		while ((ret = mapping_remove("waits-open")) == -EBUSY)
			nr_busy++;
		EXPECT_OK(ret);
		remove_all_trackers();
	}
	list_stop();
	ktap_note("%u removals refused of %u, beside %u lists", nr_busy,
		  nr_busy + NR_REMOVALS, atomic_load(&lister.nr_lists));
	EXPECT_EQ(nr_busy, 0);
}

/* Sets it up and tracks it. */
static bool md_create(const struct disk *a, const struct disk *b)
{
	struct disk md;

	kernel_module_load("raid1");
	if (shell(MD_CREATE " %s %s >/dev/null 2>&1", a->path, b->path)) {
		ktap_skip("no md devices here");
		return false;
	}
	ASSERT_OK(disk_find(&md, MD));
	track(&md);
	return true;
}

static bool md_is_there(void)
{
	return !access("/sys/block/md0", F_OK);
}

static void test_stopped_md_device_stays_stopped(void)
{
	struct blk_snap_cbt_info *infos;
	unsigned int nr, ms;

	if (!md_create(rig_disk(16, NULL), rig_disk(16, NULL)))
		return;
	ASSERT_EQ(shell("mdadm --stop " MD " >/dev/null 2>&1"), 0);
	for (ms = 0; ms < 5000 && md_is_there(); ms += 10)
		sleep_ms(10);
	ASSERT(!md_is_there());
	ASSERT_OK(control_tracker_collect(ctl, &infos, &nr));
	free(infos);
	sleep_ms(200);
	ktap_note("%s is %s after a list", MD, md_is_there() ? "back" : "gone");
	EXPECT(!md_is_there());
}

const struct ktap_test open_tests[] = {
	KTAP_TEST(test_list_leaves_devices_closed),
	KTAP_TEST(test_device_can_be_removed_while_it_is_listed),
	KTAP_TEST(test_stopped_md_device_stays_stopped),
	KTAP_END
};
