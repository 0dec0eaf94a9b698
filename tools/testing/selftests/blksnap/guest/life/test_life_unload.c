// SPDX-License-Identifier: GPL-2.0
/*
 * Unloading the module: when it is refused, and what goes on through it
 *
 * Control files, snapshots and open images keep the module.  Devices that are
 * merely tracked do not, however much is written to them.  A completion that sleeps makes
 * unloading wait if it returns to the module.
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
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
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
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
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
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
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
	EXPECT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	close_ctl();
	EXPECT_OK(unload());
	sleep_ms(200);
	crew_halt(&crew);
	EXPECT(!crew_error(&crew));
	crew_stop(&crew);
	close(fd);
}

/* --- completions that sleep --- */

#define SLOW_END "/sys/module/slow_end/parameters/"

/* A tracked disk whose writes complete in the context of their submitter. */
static bool track_inline_disk(struct disk *disk)
{
	struct snapshot snapshot;

	if (access(SLOW_END, F_OK) || !kernel_module_load("brd")) {
		ktap_skip("no module whose completions sleep, or no brd");
		return false;
	}
	ASSERT_OK(disk_find(disk, "/dev/ram0"));
	snapshot_now(&snapshot, disk, &storage);
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	/* The first write is held until there is memory to mark it. */
	ASSERT(fill_direct(disk->path, 0, MIB, 0));
	return true;
}

static bool is_ending(void)
{
	char answer = 0;
	int fd = open(SLOW_END "is_ending", O_RDONLY | O_CLOEXEC);

	ASSERT_EQ(read(fd, &answer, 1), 1);
	close(fd);
	return answer == 'Y';
}

static bool ending_becomes(bool wanted)
{
	const uint64_t end = now_ns() + PATIENCE_MS * 1000000ULL;

	while (is_ending() != wanted && now_ns() < end)
		sleep_ms(10);
	return is_ending() == wanted;
}

/* @way is that of slow_end. */
static void start_slow_end(const struct disk *disk, const char *way)
{
	int fd = ASSERT_OK(open(disk->path, O_WRONLY | O_CLOEXEC));
	char path[64], text[16];

	snprintf(path, sizeof(path), SLOW_END "%s", way);
	snprintf(text, sizeof(text), "%d", fd);
	ASSERT(write_text(path, text));
	close(fd);
	ASSERT(ending_becomes(true));
}

static void unload_at_slow_end(const struct disk *disk, const char *way)
{
	uint64_t begun_ns;

	start_slow_end(disk, way);
	close_ctl();
	begun_ns = now_ns();
	EXPECT_OK(unload());
	ktap_note("unloading took %llu ms",
		  (unsigned long long)((now_ns() - begun_ns) / 1000000));
}

/* On any kernel it returns to a loop of the module. */
static void test_unload_waits_for_a_chained_completion_that_sleeps(void)
{
	struct disk disk;

	if (!track_inline_disk(&disk))
		return;
	unload_at_slow_end(&disk, "chained");
	EXPECT(!is_ending());
	EXPECT(ending_becomes(false));
	EXPECT(fill_direct(disk.path, 1, MIB, 0));
}

/* If it returns past the module, there is nothing to wait for. */
static void test_unload_harms_no_completion_that_sleeps(void)
{
	struct disk disk;

	if (!track_inline_disk(&disk))
		return;
	unload_at_slow_end(&disk, "plain");
	EXPECT(ending_becomes(false));
	EXPECT(fill_direct(disk.path, 1, MIB, 0));
}

static void test_loading_again_starts_afresh(void)
{
	struct blk_snap_cbt_info before, after;
	struct snapshot snapshot;

	snapshot_now(&snapshot, &origin, &storage);
	ASSERT(tracker_info(&origin, &before));
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
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

/* --- unloading against everybody --- */

#define NR_RACERS 4U
#define RACER_BLOCKS 256U

static int racing_origin;

/* Each racer has blocks of its own, and finds there what it has written. */
static const char *race_writes(struct crew_member *member)
{
	uint64_t block = member->index * RACER_BLOCKS +
			 random_below(&member->random, RACER_BLOCKS);
	char *buffer = member->buffer;
	uint64_t word = random_next(&member->random);

	memcpy(buffer, &word, sizeof(word));
	if (pwrite(racing_origin, buffer, 4096, block * 4096) != 4096)
		return "a write to the origin failed";
	memset(buffer, 0, sizeof(word));
	if (pread(racing_origin, buffer, 4096, block * 4096) != 4096)
		return "a read of the origin failed";
	return memcmp(buffer, &word, sizeof(word)) ? "a write was lost" : NULL;
}

/* The module may be gone, or be about to go. */
static const char *race_opens(void)
{
	struct blk_snap_version version;
	int fd = control_open();
	int ret;

	if (fd < 0)
		return fd == -ENOENT || fd == -ENODEV || fd == -ENXIO ?
		       NULL : "the node cannot be opened";
	ret = control_version(fd, &version);
	close(fd);
	return ret ? "an open node does not answer" : NULL;
}

/* Who has the node open, or a snapshot, need not mind the unloading. */
static const char *race_agent(struct crew_member *member)
{
	struct blk_snap_block_range range = { 2048, 2048 };
	int fd = control_open();
	struct blk_snap_uuid id;
	int ret;

	sleep_ms(random_below(&member->random, 200));
	if (fd < 0)
		return NULL;
	ret = control_snapshot_create(fd, &origin.id, 1, &id);
	if (!ret)
		ret = control_snapshot_append_storage(fd, &id, storage.id,
						      &range, 1);
	if (!ret)
		ret = control_snapshot_take(fd, &id);
	close(fd);
	/* Now only the snapshot keeps the module. */
	sleep_ms(random_below(&member->random, 50));
	fd = control_open();
	if (!ret)
		ret = fd < 0 ? fd : control_snapshot_destroy(fd, &id);
	close(fd);
	sleep_ms(random_below(&member->random, 300));
	return ret ? "an agent failed" : NULL;
}

/* crew_fn */
static const char *race(struct crew_member *member, void *data)
{
	(void)data;
	switch (member->index) {
	case 0:
		return race_agent(member);
	case 1:
		return race_opens();
	default:
		return race_writes(member);
	}
}

/* Returns how many attempts were refused, or -1 if there was no end to it. */
static int unload_and_load(void)
{
	const uint64_t start = now_ns();
	int ret, nr_refused = -1;

	do {
		nr_refused++;
		ret = unload();
		usleep(500);
	} while (ret == -EAGAIN && now_ns() - start < PATIENCE_MS * 1000000ULL);
	if (EXPECT_EQ(ret, 0) && EXPECT_EQ(module_load(""), 0))
		return nr_refused;
	return -1;
}

static void test_unload_races_with_everybody(void)
{
	int i, ret = 0, nr_unloads = ktap_options.is_fast ? 2 : 5, nr_refused = 0;
	struct crew crew;

	close_ctl();
	racing_origin = ASSERT_OK(open(origin.path,
				       O_RDWR | O_DIRECT | O_CLOEXEC));
	crew_start(&crew, NR_RACERS, ktap_options.seed, race, NULL);
	crew_grant(&crew, CREW_FOR_EVER);
	for (i = 0; i < nr_unloads && ret >= 0 && !crew_error(&crew); i++) {
		ret = unload_and_load();
		nr_refused += ret;
	}
	crew_halt(&crew);
	if (crew_error(&crew))
		FAIL("%s", crew_error(&crew));
	ktap_note("%d unloads, %d refused, %llu other acts", nr_unloads,
		  nr_refused, crew.nr_done);
	crew_stop(&crew);
	close(racing_origin);
}

const struct ktap_test unload_tests[] = {
	KTAP_TEST(test_unload_is_refused_while_a_snapshot_is_created),
	KTAP_TEST(test_unload_is_refused_while_a_snapshot_is_held),
	KTAP_TEST(test_unload_is_refused_while_an_image_is_open),
	KTAP_TEST(test_unload_is_refused_while_the_node_is_open),
	KTAP_TEST(test_unload_works_while_a_device_is_tracked),
	KTAP_TEST(test_unload_works_right_after_destroy),
	KTAP_TEST(test_unload_works_while_writes_pass),
	KTAP_TEST(test_unload_waits_for_a_chained_completion_that_sleeps),
	KTAP_TEST(test_unload_harms_no_completion_that_sleeps),
	KTAP_TEST(test_loading_again_starts_afresh),
	KTAP_TEST(test_unload_races_with_everybody),
	KTAP_END
};
