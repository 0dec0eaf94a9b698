// SPDX-License-Identifier: GPL-2.0
/*
 * Unloading the module: when it is refused, and what goes on through it
 *
 * Control files, snapshots and open images keep the module.  Devices that are
 * merely tracked do not, however much is written to them.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "crew.h"
#include "test_life.h"

static void test_unload_is_refused_while_a_snapshot_is_created(void)
{
	struct snapshot snapshot;

	snapshot_create(&snapshot, &origin);
	close_ctl();
	EXPECT_ERR(unload(), EAGAIN);
	EXPECT(module_is_loaded());
}

static void test_unload_is_refused_while_a_snapshot_is_held(void)
{
	struct snapshot snapshot;

	ASSERT(fill_direct(origin.path, 1, MIB, 0));
	snapshot_now(&snapshot, &origin, &storage);
	close_ctl();
	EXPECT_ERR(unload(), EAGAIN);
	EXPECT(module_unload() != 0);
	ASSERT(module_is_loaded());
	ASSERT(fill_direct(origin.path, 2, MIB, 0));
	EXPECT(reads_as(image_of(&snapshot, &origin), 1, MIB, 0));
}

static void test_unload_is_refused_while_an_image_is_open(void)
{
	struct snapshot snapshot;
	int fd;

	snapshot_now(&snapshot, &origin, &storage);
	fd = ASSERT_OK(open(image_of(&snapshot, &origin), O_RDONLY));
	ASSERT_OK(blksnap_snapshot_destroy(ctl, &snapshot.id));
	close_ctl();
	EXPECT_ERR(unload(), EAGAIN);
	close(fd);
	EXPECT_OK(unload());
}

static void test_unload_is_refused_while_the_node_is_open(void)
{
	EXPECT_ERR(unload(), EAGAIN);
}

static void test_unload_works_while_a_device_is_tracked(void)
{
	struct snapshot snapshot;

	snapshot_create(&snapshot, &origin);
	ASSERT_OK(blksnap_snapshot_destroy(ctl, &snapshot.id));
	close_ctl();
	EXPECT_OK(unload());
	EXPECT(!module_is_loaded());
	EXPECT(fill_direct(origin.path, 1, MIB, 0));
}

static void test_unload_works_right_after_destroy(void)
{
	struct snapshot snapshot;

	ASSERT(fill_direct(origin.path, 1, DISK_MIB * MIB, 0));
	snapshot_now(&snapshot, &origin, &storage);
	ASSERT(fill_direct(origin.path, 2, 8 * MIB, 0));
	ASSERT_OK(blksnap_snapshot_destroy(ctl, &snapshot.id));
	close_ctl();
	EXPECT_OK(unload());
	EXPECT(reads_as(origin.path, 2, 8 * MIB, 0));
	EXPECT(reads_as(origin.path, 1, 8 * MIB, 8 * MIB));
}

/* Writes a random piece of the disk; crew_fn. */
static const char *write_somewhere(struct crew_member *member, void *data)
{
	uint64_t at = random_below(&member->random, DISK_MIB * MIB / 4096) * 4096;
	int fd = *(int *)data;

	return pwrite(fd, member->buffer, 4096, at) == 4096 ?
	       NULL : "a write to the origin failed";
}

static void test_unload_works_while_writes_pass(void)
{
	struct snapshot snapshot;
	struct crew crew;
	int fd;

	fd = ASSERT_OK(open(origin.path, O_WRONLY | O_DIRECT));
	crew_start(&crew, 2, ktap_options.seed, write_somewhere, &fd);
	crew_grant(&crew, CREW_FOR_EVER);
	snapshot_now(&snapshot, &origin, &storage);
	sleep_ms(200);
	EXPECT_OK(blksnap_snapshot_destroy(ctl, &snapshot.id));
	close_ctl();
	EXPECT_OK(unload());
	sleep_ms(200);
	crew_halt(&crew);
	EXPECT(!crew_error(&crew));
	crew_stop(&crew);
	close(fd);
}

static void test_loading_again_starts_afresh(void)
{
	struct blk_snap_cbt_info before, after;
	struct snapshot snapshot;

	snapshot_now(&snapshot, &origin, &storage);
	ASSERT(tracker_info(&origin, &before));
	ASSERT_OK(blksnap_snapshot_destroy(ctl, &snapshot.id));
	close_ctl();
	ASSERT_OK(unload());
	ASSERT_EQ(module_load(""), 0);
	ctl_set_up();
	EXPECT(!tracker_info(&origin, &after));
	snapshot_create(&snapshot, &origin);
	ASSERT(tracker_info(&origin, &after));
	EXPECT(memcmp(&before.generation_id, &after.generation_id,
		      sizeof(after.generation_id)));
	EXPECT_EQ(after.snap_number, 0);
}

const struct ktap_test unload_tests[] = {
	KTAP_TEST(test_unload_is_refused_while_a_snapshot_is_created),
	KTAP_TEST(test_unload_is_refused_while_a_snapshot_is_held),
	KTAP_TEST(test_unload_is_refused_while_an_image_is_open),
	KTAP_TEST(test_unload_is_refused_while_the_node_is_open),
	KTAP_TEST(test_unload_works_while_a_device_is_tracked),
	KTAP_TEST(test_unload_works_right_after_destroy),
	KTAP_TEST(test_unload_works_while_writes_pass),
	KTAP_TEST(test_loading_again_starts_afresh),
	KTAP_END
};
