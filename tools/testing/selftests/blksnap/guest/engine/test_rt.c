// SPDX-License-Identifier: GPL-2.0
/*
 * The module on PREEMPT_RT while another user traces all bios
 *
 *	test_rt [--device DISK] [--seed S] [--filter TEXT]
 *
 * Writers keep two disks busy in each test: a null_blk disk, which completes a
 * request while it is submitted, and --device, whose contents are lost and which
 * should complete requests by interrupt.
 */
#include <errno.h>
#include <linux/aio_abi.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "crew.h"
#include "test_rt.h"
#include "way.h"

#define DISK_MIB 16
#define OLD_BYTE 0x11
#define BLOCK_BYTES 4096
#define BLOCK_SECTORS (BLOCK_BYTES / SECTOR_SIZE)
#define QUEUED_WRITES 8
#define NR_ORIGINS 2
#define NR_WRITERS (2 * NR_ORIGINS)
#define LOAD_MS 2000
#define CORRUPTED_TIMEOUT_MS 60000

static const char *device_path;
static struct disk origins[NR_ORIGINS], storage, other;
static struct way ways[NR_ORIGINS];
static aio_context_t contexts[NR_WRITERS];
static struct crew crew;

static const struct disk *members[NR_ORIGINS] = { &origins[0], &origins[1] };

/* --- the load --- */

static const char *write_now(struct crew_member *member, const struct way *way)
{
	uint64_t sector = random_below(&member->random,
				       way->nr_sectors / BLOCK_SECTORS) *
			  BLOCK_SECTORS;
	enum write_kind kind = random_kind(&member->random, false);

	return way_write(way, kind, member->buffer, sector, BLOCK_SECTORS) ==
	       WRITE_FAILED ? "a write failed" : NULL;
}

/* Every second write may not wait and may end with -EAGAIN. */
static const char *write_queued(struct crew_member *member,
				const struct way *way)
{
	aio_context_t context = contexts[member->index];
	struct iocb iocbs[QUEUED_WRITES], *list[QUEUED_WRITES];
	struct io_event events[QUEUED_WRITES];
	unsigned int i;

	for (i = 0; i < QUEUED_WRITES; i++) {
		list[i] = &iocbs[i];
		iocbs[i] = (struct iocb){
			.aio_lio_opcode = IOCB_CMD_PWRITE,
			.aio_rw_flags = i & 1 ? RWF_NOWAIT : 0,
			.aio_fildes = way->direct,
			.aio_buf = (uintptr_t)member->buffer,
			.aio_nbytes = BLOCK_BYTES,
			.aio_offset = random_below(&member->random,
						   DISK_MIB * MIB / BLOCK_BYTES) *
				      BLOCK_BYTES,
			.aio_data = i & 1,
		};
	}
	if (syscall(SYS_io_submit, context, QUEUED_WRITES, list) !=
	    QUEUED_WRITES ||
	    syscall(SYS_io_getevents, context, QUEUED_WRITES, QUEUED_WRITES,
		    events, NULL) != QUEUED_WRITES)
		return "writes could not be queued";
	for (i = 0; i < QUEUED_WRITES; i++)
		if (events[i].res != BLOCK_BYTES &&
		    !(events[i].data && events[i].res == -EAGAIN))
			return "a queued write failed";
	return NULL;
}

/* crew_fn: each origin has one writer of each kind. */
static const char *write_origin(struct crew_member *member, void *data)
{
	const struct way *way = &ways[member->index % NR_ORIGINS];

	(void)data;
	return member->index < NR_ORIGINS ? write_now(member, way) :
					    write_queued(member, way);
}

static void load_start(void)
{
	unsigned int i;

	for (i = 0; i < NR_WRITERS; i++)
		ASSERT_OK(syscall(SYS_io_setup, QUEUED_WRITES, &contexts[i]));
	crew_start(&crew, NR_WRITERS, ktap_options.seed, write_origin, NULL);
	crew_grant(&crew, CREW_FOR_EVER);
}

static void load_stop(void)
{
	unsigned int i;

	if (!crew.nr_members)
		return;
	crew_halt(&crew);
	crew_stop(&crew);
	for (i = 0; i < NR_WRITERS; i++) {
		syscall(SYS_io_destroy, contexts[i]);
		contexts[i] = 0;
	}
}

static void expect_good_end(void)
{
	load_stop();
	ktap_note("the writers worked %llu times", crew.nr_done);
	if (crew_error(&crew))
		FAIL("%s", crew_error(&crew));
	watch_expect_nothing();
}

/* --- around each test --- */

static void make_disks(void)
{
	unsigned int i;

	ASSERT_OK(null_disk_create(&origins[0], "nullb0", DISK_MIB, NULL));
	ASSERT_OK(disk_find(&origins[1], device_path));
	ASSERT_OK(null_disk_create(&storage, "nullb1", 4 * DISK_MIB, NULL));
	for (i = 0; i < NR_ORIGINS; i++) {
		ASSERT(fill_direct(origins[i].path, OLD_BYTE, DISK_MIB * MIB, 0));
		way_open(&ways[i], &origins[i], 0, DISK_MIB * MIB / SECTOR_SIZE);
	}
}

static void tear_down(void)
{
	unsigned int i;

	load_stop();
	for (i = 0; i < NR_ORIGINS && ways[i].direct > 0; i++)
		way_close(&ways[i]);
	memset(ways, 0, sizeof(ways));
	watch_stop();
	ctl_tear_down();
	null_disk_destroy(&origins[0]);
	null_disk_destroy(&storage);
	null_disk_destroy(&other);
}

static void set_up(bool (*start)(void))
{
	ASSERT(start());
	ctl_set_up();
	make_disks();
}

static void set_up_kprobe(void)
{
	set_up(watch_start_kprobe);
}

static void set_up_function(void)
{
	set_up(watch_start_function);
}

static void take(struct snapshot *snapshot, uint64_t storage_sectors)
{
	snapshot_create_of(snapshot, members, NR_ORIGINS);
	/* The first MiB is not used. */
	ASSERT_OK(append_range(snapshot, &storage, 0,
			       EDGE_BYTES / SECTOR_SIZE + storage_sectors));
	snapshot_take(snapshot);
}

/* --- tests --- */

static void test_writes_do_not_change_the_image(void)
{
	struct snapshot snapshot;
	unsigned int i;

	take(&snapshot, (storage.nr_bytes - EDGE_BYTES) / SECTOR_SIZE);
	load_start();
	for (i = 0; i < NR_ORIGINS; i++)
		EXPECT(reads_as(image_of(&snapshot, members[i]), OLD_BYTE,
				DISK_MIB * MIB, 0));
	sleep_ms(LOAD_MS);
	expect_good_end();
	for (i = 0; i < NR_ORIGINS; i++)
		EXPECT(reads_as(image_of(&snapshot, members[i]), OLD_BYTE,
				DISK_MIB * MIB, 0));
}

static void test_snapshots_come_and_go(void)
{
	void *first = alloc_aligned(DISK_MIB * MIB);
	void *second = alloc_aligned(DISK_MIB * MIB);
	struct snapshot snapshot;
	unsigned int i;

	load_start();
	for (i = 0; i < 2 * NR_ORIGINS; i++) {
		const struct disk *disk = members[i % NR_ORIGINS];

		take(&snapshot, (storage.nr_bytes - EDGE_BYTES) / SECTOR_SIZE);
		EXPECT(read_direct(image_of(&snapshot, disk), first,
				   DISK_MIB * MIB, 0));
		EXPECT(read_direct(image_of(&snapshot, disk), second,
				   DISK_MIB * MIB, 0));
		EXPECT(!memcmp(first, second, DISK_MIB * MIB));
		EXPECT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	}
	expect_good_end();
	free(first);
	free(second);
}

static void test_full_storage_fails_the_snapshot(void)
{
	struct blk_snap_snapshot_event event = { .code = -1 };
	struct snapshot snapshot;

	take(&snapshot, MIB / SECTOR_SIZE);
	load_start();
	while (event.code != blk_snap_event_code_corrupted)
		ASSERT_OK(next_event(&snapshot, CORRUPTED_TIMEOUT_MS, &event));
	sleep_ms(LOAD_MS / 2);
	EXPECT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	sleep_ms(LOAD_MS / 2);
	expect_good_end();
}

static void test_another_disk_is_tracked(void)
{
	struct snapshot snapshot, late;

	ASSERT_OK(null_disk_create(&other, "nullb2", DISK_MIB, NULL));
	ASSERT(fill_direct(other.path, OLD_BYTE, DISK_MIB * MIB, 0));
	take(&snapshot, storage.nr_bytes / SECTOR_SIZE / 2);
	load_start();
	snapshot_create(&late, &other);
	ASSERT_OK(append_range(&late, &storage,
			       (EDGE_BYTES + storage.nr_bytes / 2) / SECTOR_SIZE,
			       MIB / SECTOR_SIZE));
	snapshot_take(&late);
	EXPECT(fill_direct(other.path, 0x22, MIB / 2, 0));
	EXPECT(reads_as(image_of(&late, &other), OLD_BYTE, MIB, 0));
	EXPECT_OK(control_snapshot_destroy(ctl, &late.id));
	EXPECT_OK(control_tracker_remove(ctl, other.id));
	sleep_ms(LOAD_MS / 2);
	expect_good_end();
}

static void test_module_unloads(void)
{
	struct snapshot snapshot;

	take(&snapshot, (storage.nr_bytes - EDGE_BYTES) / SECTOR_SIZE);
	load_start();
	sleep_ms(LOAD_MS / 2);
	ctl_tear_down();
	EXPECT_OK(module_unload());
	sleep_ms(LOAD_MS / 2);
	ASSERT_OK(module_load(""));
	expect_good_end();
}

static const struct ktap_test tests[] = {
	KTAP_TEST(test_writes_do_not_change_the_image),
	KTAP_TEST(test_snapshots_come_and_go),
	KTAP_TEST(test_full_storage_fails_the_snapshot),
	KTAP_TEST(test_another_disk_is_tracked),
	KTAP_TEST(test_module_unloads),
	KTAP_END
};

static const struct ktap_suite suites[] = {
	{ "kprobe", set_up_kprobe, tear_down, tests },
	{ "function", set_up_function, tear_down, tests },
	{ NULL, NULL, NULL, NULL }
};

int main(int argc, char **argv)
{
	int i;

	for (i = 1; i + 1 < argc; i++)
		if (!strcmp(argv[i], "--device"))
			device_path = argv[i + 1];
	tests_need_module();
	if (!device_path)
		ktap_skip_all("no --device");
	return ktap_main(suites, argc, argv);
}
