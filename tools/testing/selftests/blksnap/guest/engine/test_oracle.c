// SPDX-License-Identifier: GPL-2.0
/*
 * The oracle: rounds of writing, taking, comparing
 *
 *	test_oracle [--rounds N] [--seed S] [--threads N] [--size MIB]
 *		    [--device DISK [--device DISK]] [--storage DISK]
 *		    [--seconds N] [--filter TEXT]
 *
 * The rounds are shared out to the tests; a test ends early when its share of
 * the seconds is used up, and says so.  All contents of the disks are lost.
 * Without --device, disks are made of memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "test_oracle.h"

#define NR_TESTS 8	/* tests that share the rounds */

struct oracle oracle;

static uint64_t limit_ns;	/* of each test; 0 means none */
static uint64_t test_start_ns;
static unsigned int test_rounds;	/* done by this test */
static unsigned int told_percent;

/* Has the test more rounds to do?  To be asked once for each round. */
bool oracle_goes_on(void)
{
	unsigned int share = (oracle.nr_rounds + NR_TESTS - 1) / NR_TESTS;

	if (test_rounds)
		oracle.nr_done++;
	if (test_rounds >= share || oracle.nr_different || oracle.nr_unmarked)
		return false;
	if (limit_ns && test_rounds && now_ns() - test_start_ns > limit_ns) {
		ktap_note("out of time after %u of %u rounds", test_rounds,
			  share);
		return false;
	}
	if (test_rounds * 4 / share > told_percent / 25) {
		told_percent = test_rounds * 4 / share * 25;
		ktap_note("%u of %u rounds done", test_rounds, share);
	}
	test_rounds++;
	return true;
}

static void oracle_set_up(void)
{
	oracle.nr_different = 0;
	oracle.nr_unmarked = 0;
	test_rounds = 0;
	told_percent = 0;
	test_start_ns = now_ns();
	random_init(&oracle.random, ktap_options.seed);
	ctl_set_up();
}

/* --- the shadow --- */

/* Everything that one shadow test works with. */
static struct {
	struct member members[3];
	unsigned int nr_members;
	struct chaos chaos;
	struct crew crew;
	struct snapshot snapshot;
} shadow;

static void shadow_add(const struct disk *disk, uint64_t start,
		       uint64_t nr_reserved)
{
	member_init(&shadow.members[shadow.nr_members++], disk, start,
		    nr_reserved);
}

static void shadow_add_way(const struct disk *disk, uint64_t start,
			   uint64_t nr_sectors)
{
	way_open(&shadow.chaos.ways[shadow.chaos.nr_ways++], disk, start,
		 nr_sectors);
}

static uint64_t part_start(unsigned int i)
{
	return read_number("/sys/class/block/%s/start",
			   strrchr(oracle.parts[i].path, '/') + 1);
}

static uint64_t free_sectors(const struct disk *disk)
{
	return disk->nr_bytes / SECTOR_SIZE - RESERVED_SECTORS;
}

static void shadow_start(void)
{
	shadow_add_way(&oracle.disks[0], 0, free_sectors(&oracle.disks[0]));
	shadow_add_way(&oracle.parts[0], part_start(0), 0);
	crew_start(&shadow.crew, oracle.nr_threads, ktap_options.seed,
		   chaos_work, &shadow.chaos);
}

static void shadow_stop(void)
{
	unsigned int i;

	crew_halt(&shadow.crew);
	crew_stop(&shadow.crew);
	for (i = 0; i < shadow.chaos.nr_ways; i++)
		way_close(&shadow.chaos.ways[i]);
	for (i = 0; i < shadow.nr_members; i++)
		member_exit(&shadow.members[i]);
	memset(&shadow, 0, sizeof(shadow));
}

static void shadow_create(void)
{
	const struct disk *disks[3];
	unsigned int i;

	for (i = 0; i < shadow.nr_members; i++)
		disks[i] = shadow.members[i].disk;
	snapshot_create_of(&shadow.snapshot, disks, shadow.nr_members);
	oracle_append(&shadow.snapshot, shadow.members, shadow.nr_members, 0);
}

/* With all writers standing still: copy the origins, take the snapshot. */
static void shadow_take(void)
{
	struct member *member;
	unsigned int i;

	chaos_sync(&shadow.chaos);
	for (i = 0; i < shadow.nr_members; i++) {
		member = &shadow.members[i];
		ASSERT(read_direct(member->disk->path, member->data,
				   member->disk->nr_bytes, 0));
	}
	snapshot_take(&shadow.snapshot);
}

/* Read the images here and there while they are being saved. */
static void shadow_peek(void *buffer)
{
	struct random *random = &oracle.random;
	unsigned int i, n;

	for (i = 0; i < shadow.nr_members; i++) {
		struct member *member = &shadow.members[i];
		const uint64_t end = member->disk->nr_bytes / SECTOR_SIZE;
		int fd = ASSERT_OK(open(image_of(&shadow.snapshot, member->disk),
					O_RDONLY | O_CLOEXEC | O_DIRECT));

		for (n = 0; n < 16; n++)
			EXPECT(member_compare_piece(member, fd, buffer,
						    random_below(random, end),
						    1 + random_below(random, 256)));
		close(fd);
	}
}

static void shadow_compare(bool is_direct)
{
	unsigned int i;

	for (i = 0; i < shadow.nr_members; i++)
		member_compare(&shadow.members[i],
			       image_of(&shadow.snapshot,
					shadow.members[i].disk), is_direct);
}

static void shadow_round(void *buffer)
{
	struct random *random = &oracle.random;
	const unsigned int nr_writes = 1 + random_below(random, 6);
	const bool create_early = random_below(random, 2);
	unsigned int i;

	shadow.chaos.max_shift = random_below(random, 14);
	chaos_choose_styles(&shadow.chaos, random);
	crew_grant(&shadow.crew, nr_writes);
	if (create_early)
		shadow_create();
	crew_wait(&shadow.crew);
	if (!create_early)
		shadow_create();
	shadow_take();
	crew_grant(&shadow.crew, nr_writes);
	shadow_peek(buffer);
	oracle_append(&shadow.snapshot, shadow.members, shadow.nr_members, 1);
	if (random_below(random, 2))
		shadow_compare(true);
	crew_wait(&shadow.crew);
	shadow_compare(random_below(random, 4));
	for (i = 0; i < shadow.nr_members; i++)
		member_check_map(&shadow.members[i]);
	crew_grant(&shadow.crew, nr_writes);
	ASSERT_OK(control_snapshot_destroy(ctl, &shadow.snapshot.id));
	crew_wait(&shadow.crew);
	if (crew_error(&shadow.crew))
		FAIL("%s", crew_error(&shadow.crew));
}

static void shadow_rounds(void)
{
	void *buffer = alloc_aligned(256 * SECTOR_SIZE);

	shadow_start();
	while (oracle_goes_on() && !crew_error(&shadow.crew))
		shadow_round(buffer);
	EXPECT_EQ(oracle.nr_different, 0);
	EXPECT_EQ(oracle.nr_unmarked, 0);
	free(buffer);
}

static void shadow_tear_down(void)
{
	shadow_stop();
	ctl_tear_down();
}

static void test_image_of_disk_equals_shadow(void)
{
	shadow_add(&oracle.disks[0], 0, RESERVED_SECTORS);
	shadow_rounds();
}

static void test_image_of_partition_equals_shadow(void)
{
	shadow_add(&oracle.parts[0], part_start(0), 0);
	shadow_rounds();
}

static void test_images_of_disk_and_partition_equal_shadows(void)
{
	shadow_add(&oracle.parts[0], part_start(0), 0);
	shadow_add(&oracle.disks[0], 0, RESERVED_SECTORS);
	shadow_rounds();
}

static void test_images_of_two_disks_equal_shadows(void)
{
	shadow_add(&oracle.disks[0], 0, RESERVED_SECTORS);
	shadow_add(&oracle.parts[1], part_start(1), 0);
	shadow_add_way(&oracle.disks[1], 0, free_sectors(&oracle.disks[1]));
	shadow_add_way(&oracle.parts[1], part_start(1), 0);
	shadow_rounds();
}

/* --- writing to images --- */

static void write_image(struct member *member, int fd, void *buffer)
{
	struct random *random = &oracle.random;
	const uint64_t end = member->disk->nr_bytes / SECTOR_SIZE -
			     member->nr_reserved;
	const uint64_t nr = 1 + random_below(random, 1ULL << random_below(random, 11));
	const uint64_t sector = random_below(random, end - nr);

	stamp_sectors(buffer, sector, nr, random_next(random));
	if (pwrite(fd, buffer, nr * SECTOR_SIZE, sector * SECTOR_SIZE) !=
	    (ssize_t)(nr * SECTOR_SIZE))
		FAIL("writing the image: %s", strerror(errno));
	memcpy(member->data + sector * SECTOR_SIZE, buffer, nr * SECTOR_SIZE);
}

/*
 * Nobody writes to the origin: it has to stay as it is, while the image keeps
 * what is written to it.  What the image got is marked at once.
 */
static void image_round(struct member *member, uint8_t *buffer, uint8_t *origin)
{
	const char *path;
	unsigned int i;
	int fd;

	shadow_create();
	shadow_take();
	memcpy(origin, member->data, member->disk->nr_bytes);
	path = image_of(&shadow.snapshot, member->disk);
	fd = ASSERT_OK(open(path, O_RDWR | O_CLOEXEC | O_DIRECT));
	for (i = 0; i < 8; i++)
		write_image(member, fd, buffer);
	close(fd);
	member_compare(member, path, true);
	/* Now the origin changes under what was written. */
	crew_grant(&shadow.crew, 2);
	crew_wait(&shadow.crew);
	chaos_sync(&shadow.chaos);
	member_compare(member, path, true);
	memcpy(member->previous, origin, member->disk->nr_bytes);
	tracker_info(member->disk, &member->info);
	member->info.snap_number--;
	member->has_previous = true;
	member_check_map(member);
	ASSERT_OK(control_snapshot_destroy(ctl, &shadow.snapshot.id));
}

static void test_image_keeps_what_is_written_to_it(void)
{
	struct member *member = &shadow.members[0];
	uint8_t *buffer = alloc_aligned(MIB);
	uint8_t *origin;

	shadow_add(&oracle.disks[0], 0, RESERVED_SECTORS);
	origin = alloc_aligned(member->disk->nr_bytes);
	shadow_start();
	while (oracle_goes_on()) {
		shadow.chaos.max_shift = random_below(&oracle.random, 10);
		chaos_choose_styles(&shadow.chaos, &oracle.random);
		image_round(member, buffer, origin);
	}
	EXPECT_EQ(oracle.nr_different, 0);
	EXPECT_EQ(oracle.nr_unmarked, 0);
	free(buffer);
	free(origin);
}

static void test_image_writes_do_not_touch_the_origin(void)
{
	struct member *member = &shadow.members[0];
	uint8_t *buffer = alloc_aligned(MIB);
	uint8_t *now, *origin;
	unsigned int i;
	int fd;

	shadow_add(&oracle.disks[0], 0, RESERVED_SECTORS);
	now = alloc_aligned(member->disk->nr_bytes);
	origin = alloc_aligned(member->disk->nr_bytes);
	shadow_start();
	shadow_create();
	shadow_take();
	memcpy(origin, member->data, member->disk->nr_bytes);
	fd = ASSERT_OK(open(image_of(&shadow.snapshot, member->disk),
			    O_RDWR | O_CLOEXEC | O_DIRECT));
	for (i = 0; i < 64; i++)
		write_image(member, fd, buffer);
	close(fd);
	member_compare(member, image_of(&shadow.snapshot, member->disk), false);
	ASSERT(read_direct(member->disk->path, now, member->disk->nr_bytes, 0));
	EXPECT(!memcmp(now, origin, free_sectors(member->disk) * SECTOR_SIZE));
	free(buffer);
	free(origin);
	free(now);
}

static const struct ktap_test shadow_tests[] = {
	KTAP_TEST(test_image_of_disk_equals_shadow),
	KTAP_TEST(test_image_of_partition_equals_shadow),
	KTAP_TEST(test_images_of_disk_and_partition_equal_shadows),
	KTAP_TEST(test_images_of_two_disks_equal_shadows),
	KTAP_TEST(test_image_keeps_what_is_written_to_it),
	KTAP_TEST(test_image_writes_do_not_touch_the_origin),
	KTAP_END
};

static const struct ktap_test instant_tests[] = {
	KTAP_TEST(test_take_amid_writes_is_one_instant),
	KTAP_TEST(test_take_of_two_disks_amid_writes_is_one_instant),
	KTAP_TEST(test_buffered_write_tells_when_its_batch_began),
	KTAP_END
};

static const struct ktap_test files_tests[] = {
	KTAP_TEST(test_files_in_image_are_those_of_the_take),
	KTAP_END
};

static const struct ktap_suite suites[] = {
	{ "shadow", oracle_set_up, shadow_tear_down, shadow_tests },
	{ "instant", oracle_set_up, instant_tear_down, instant_tests },
	{ "files", oracle_set_up, files_tear_down, files_tests },
	{ NULL, NULL, NULL, NULL }
};

/* --- the disks of the run --- */

static void need(bool is_there, const char *what)
{
	if (is_there)
		return;
	fprintf(stderr, "test_oracle: %s\n", what);
	exit(2);
}

static void make_disks(const char *const *paths, const char *storage,
		       uint64_t nr_mib)
{
	static const char *const names[] = { "nullb0", "nullb1" };
	struct random random;
	unsigned int i;

	random_init(&random, ktap_options.seed);
	for (i = 0; i < 2; i++) {
		struct disk *disk = &oracle.disks[i];
		int ret = paths[i] ? disk_find(disk, paths[i]) :
			  null_disk_create(disk, names[i], nr_mib, NULL);

		need(!ret && disk->nr_bytes >= 12 * MIB,
		     "no disk to test on, or one of less than 12 MiB");
		/* Neither its start nor its end is a multiple of anything. */
		need(!partition_add(disk, &oracle.parts[i],
				    1001 + 2 * random_below(&random, 500),
				    free_sectors(disk) / 2 +
				    random_below(&random, 999)),
		     "cannot make a partition");
	}
	need(!(storage ? disk_find(&oracle.storage, storage) :
	       null_disk_create(&oracle.storage, "nullb2", 8 * nr_mib, NULL)),
	     "no disk for storage");
	need(oracle.storage.nr_bytes >= 6 * oracle.disks[0].nr_bytes,
	     "the storage has to be 6 times as large as the disk");
}

static void remove_disks(void)
{
	unsigned int i;

	for (i = 0; i < 2; i++) {
		partition_del_all(&oracle.disks[i]);
		null_disk_destroy(&oracle.disks[i]);
	}
	null_disk_destroy(&oracle.storage);
}

/* What the command line says. */
static struct {
	const char *paths[2];
	unsigned int nr_paths;
	const char *storage;
	unsigned int seconds;
	unsigned int nr_mib;
} settings = { .nr_mib = 16 };

static void set_option(const char *name, const char *value)
{
	if (!strcmp(name, "--rounds"))
		oracle.nr_rounds = atoi(value);
	else if (!strcmp(name, "--threads"))
		oracle.nr_threads = atoi(value);
	else if (!strcmp(name, "--seconds"))
		settings.seconds = atoi(value);
	else if (!strcmp(name, "--size"))
		settings.nr_mib = atoi(value);
	else if (!strcmp(name, "--storage"))
		settings.storage = value;
	else if (!strcmp(name, "--device") && settings.nr_paths < 2)
		settings.paths[settings.nr_paths++] = value;
	else if (!strcmp(name, "--seed"))
		ktap_options.seed = strtoull(value, NULL, 0);
	else
		need(!strcmp(name, "--filter"), "unknown option");
}

int main(int argc, char **argv)
{
	int i, ret;

	oracle.nr_rounds = 100;
	oracle.nr_threads = 4;
	for (i = 1; i < argc; i += 2) {
		need(i + 1 < argc, "every option needs a value");
		set_option(argv[i], argv[i + 1]);
	}
	need(oracle.nr_rounds && oracle.nr_threads && settings.nr_mib,
	     "rounds, threads and size are numbers above 0");
	limit_ns = settings.seconds * 1000000000ULL / NR_TESTS;
	tests_need_module();
	make_disks(settings.paths, settings.storage, settings.nr_mib);
	ret = ktap_main(suites, argc, argv);
	ktap_note("rounds %u, seed %llu, threads %u", oracle.nr_done,
		  (unsigned long long)ktap_options.seed, oracle.nr_threads);
	ktap_note("blocks compared %llu, changed %llu", oracle.nr_blocks,
		  oracle.nr_changed);
	remove_disks();
	return ret;
}
