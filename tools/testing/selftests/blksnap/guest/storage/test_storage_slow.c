// SPDX-License-Identifier: GPL-2.0
/*
 * Difference storage that is slower than the writers, or hangs
 *
 * Copies that cannot be stored yet take memory, but no more than the budget
 * (copy_memory_maximum).  Beyond it writes are held, on a list, while whatever
 * needs no copy goes on.  When storing makes progress they are done one after
 * the other; when it does not for 20 seconds, the image is given up for them.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "crew.h"
#include "stacked.h"
#include "test_storage.h"

#define SLOW_STORE_MS 100U			/* each batch, of up to 1 MiB */

/* --- the highest values seen --- */

static struct {
	pthread_t thread;
	atomic_bool is_over;
	bool is_started;
	char path[64];			/* folder of the attributes */
	int64_t memory_bytes;
	int64_t held_writes;
} sampler;

static void sample(const char *attribute, int64_t *highest)
{
	int64_t number = read_number("%s/%s", sampler.path, attribute);

	if (number > *highest)
		*highest = number;
}

static void *sampler_run(void *data)
{
	while (!atomic_load(&sampler.is_over)) {
		sample("memory_bytes", &sampler.memory_bytes);
		sample("held_writes", &sampler.held_writes);
		sleep_ms(1);
	}
	return data;
}

static void sampler_start(void)
{
	memset(&sampler, 0, sizeof(sampler));
	snprintf(sampler.path, sizeof(sampler.path), "/sys/block/%s/blksnap",
		 strrchr(image_of(&rig.snapshot, rig.origin), '/') + 1);
	ASSERT_EQ(pthread_create(&sampler.thread, NULL, sampler_run, NULL), 0);
	sampler.is_started = true;
}

static void sampler_stop(void)
{
	if (!sampler.is_started)
		return;
	atomic_store(&sampler.is_over, true);
	pthread_join(sampler.thread, NULL);
	sampler.is_started = false;
}

/* --- the budget --- */

/* Half a block too much is too much. */
static void expect_memory_within(int64_t budget)
{
	EXPECT(sampler.memory_bytes <= budget);
	EXPECT(sampler.memory_bytes > budget * 3 / 4);
	EXPECT(sampler.held_writes > 0);
	ktap_note("at most %lld KiB in memory, %lld writes held",
		  (long long)(sampler.memory_bytes / KIB), (long long)sampler.held_writes);
}

static bool write_piece(const void *data, uint64_t nr_bytes, uint64_t at)
{
	int fd = open(rig.write_path, O_WRONLY | O_DIRECT | O_CLOEXEC);
	bool ok = fd >= 0 && pwrite(fd, data, nr_bytes, at) == (ssize_t)nr_bytes;

	if (fd >= 0)
		close(fd);
	return ok;
}

/* Writes the next piece of its own part of the origin; crew_fn. */
static const char *write_next_piece(struct crew_member *member, void *data)
{
	static const uint64_t sizes[] = { 4 * KIB, 64 * KIB, MIB, 256 * KIB, 12 * KIB };
	const uint64_t part = ORIGIN_BYTES / member->crew->nr_members;
	uint64_t *done = (uint64_t *)data + member->index;
	uint64_t nr_bytes = sizes[random_below(&member->random, ARRAY_SIZE(sizes))];
	const uint64_t at = member->index * part + *done;

	if (nr_bytes > part - *done)
		nr_bytes = part - *done;
	if (!nr_bytes)
		return NULL;
	ledger_write(&ledger, (char *)member->buffer + *done, nr_bytes, at);
	*done += nr_bytes;
	return write_piece(ledger.now + at, nr_bytes, at) ? NULL : "a write to the origin failed";
}

/* All of the origin is written over while storing is slow. */
static void overwrite_origin(int64_t budget)
{
	uint64_t done[CREW_MAX] = { 0 };
	struct crew crew;

	gate_delay(&rig.storage_gate, SLOW_STORE_MS);
	sampler_start();
	crew_start(&crew, CREW_MAX, ktap_options.seed, write_next_piece, done);
	crew_grant(&crew, 40);
	crew_wait(&crew);
	sampler_stop();
	EXPECT(!crew_error(&crew));
	crew_stop(&crew);
	gate_mend(&rig.storage_gate);
	expect_memory_within(budget);
	expect_sound();
}

static void test_slow_storage_holds_writes_within_the_budget(void)
{
	row("the storage is slower than the writes");
	rig_take(STORAGE_BYTES);
	overwrite_origin(MEMORY_BYTES);
}

static void test_budget_is_a_parameter(void)
{
	rig_reload("diff_storage_minimum=2048 diff_storage_ahead=0 copy_memory_maximum=6");
	rig_take(STORAGE_BYTES);
	overwrite_origin(6 * MIB);
	ASSERT_OK(control_snapshot_destroy(ctl, &rig.snapshot.id));
}

/* Writes that workers judge, for they come out of another driver's submission. */
static void test_writes_through_another_driver_stay_within_the_budget(void)
{
	gate_create(&rig.origin_gate, "origin", &rig.origin_disk);
	rig_take(STORAGE_BYTES);
	rig.write_path = rig.origin_gate.disk.path;
	overwrite_origin(MEMORY_BYTES);
}

static void test_image_writes_stay_within_the_budget(void)
{
	struct io_job *writes[6];
	unsigned int i, round;

	rig_take(STORAGE_BYTES);
	for (round = 0; round < 2; round++) {
		gate_close(&rig.storage_gate);
		for (i = 0; i < ARRAY_SIZE(writes); i++)
			writes[i] = job_start(image_of(&rig.snapshot, rig.origin), true,
					      MIB, i * 2 * MIB + round * MIB);
		image_number_becomes("memory_bytes", MEMORY_BYTES / 2, 1000 * MIB);
		sleep_ms(CALM_MS);
		EXPECT(image_number("memory_bytes") <= (int64_t)MEMORY_BYTES);
		gate_open(&rig.storage_gate);
		for (i = 0; i < ARRAY_SIZE(writes); i++) {
			expect_job_ends(writes[i], 0);
			memcpy(ledger.taken + writes[i]->at, writes[i]->buffer,
			       writes[i]->nr_bytes);
		}
		wait_until_stored();
	}
	expect_sound();
}

/* Is that the budget, more or less, which free memory grows by in the end? */
static bool is_budget_missing(void)
{
	struct io_job *writes[6];
	int64_t held, stored;
	unsigned int i;

	rig_take(STORAGE_BYTES);
	gate_close(&rig.storage_gate);
	for (i = 0; i < ARRAY_SIZE(writes); i++)
		writes[i] = origin_write_start(2 * MIB, i * 2 * MIB);
	image_number_becomes("memory_bytes", MEMORY_BYTES, MEMORY_BYTES);
	held = free_bytes();
	EXPECT_EQ(image_number("memory_bytes"), MEMORY_BYTES);
	gate_open(&rig.storage_gate);
	for (i = 0; i < ARRAY_SIZE(writes); i++)
		expect_job_ends(writes[i], 0);
	wait_until_stored();
	stored = free_bytes();
	ktap_note("MemFree: %lld KiB while writes were held, %lld KiB after",
		  (long long)(held / 1024), (long long)(stored / 1024));
	expect_sound();
	return stored - held > (int64_t)MEMORY_BYTES / 2 &&
	       stored - held < 2 * (int64_t)MEMORY_BYTES;
}

/* What the module says that it takes is what the machine misses. */
static void test_memory_that_is_missing_is_the_budget(void)
{
	unsigned int tries;

	ASSERT(fill_direct(rig.storage_disk.path, 0, STORAGE_BYTES, 0));
	/* Others take and free memory as well, but not the same each time. */
	for (tries = 0; tries < 5; tries++) {
		if (is_budget_missing())
			return;
		ASSERT_OK(control_snapshot_destroy(ctl, &rig.snapshot.id));
		ledger_close(&ledger);
	}
	FAIL("it is never the budget");
}

/* --- who waits, and who does not --- */

static void test_writes_wait_for_storing_only_beyond_the_budget(void)
{
	struct io_job *write;

	rig_take(STORAGE_BYTES);
	gate_close(&rig.storage_gate);
	origin_write(MEMORY_BYTES, 0);
	EXPECT_EQ(image_number("memory_bytes"), MEMORY_BYTES);
	EXPECT_EQ(image_number("stored_bytes"), 0);
	write = origin_write_start(BLOCK_BYTES, 8 * MIB);
	expect_job_waits(write);
	EXPECT_EQ(image_number("held_writes"), 1);
	/* What is copied, in memory or not, is nobody's business. */
	origin_write(MIB, MIB);
	/* Reads, of what is held too: it is not written yet. */
	expect_holds(rig.origin->path, ledger.taken + 8 * MIB, BLOCK_BYTES, 8 * MIB);
	/* Image reads, from the origin and from memory. */
	expect_image_is_as_taken();
	gate_open(&rig.storage_gate);
	expect_job_ends(write, 0);
	expect_sound();
}

static void test_held_write_of_one_member_spares_the_other(void)
{
	const struct disk *members[] = { rig.origin, &rig.spare_disk };
	const struct disk *const other = &rig.spare_disk;
	struct io_job *write;

	ledger_open(&ledger, rig.origin);
	ASSERT(fill_direct(other->path, 0x11, 4 * MIB, 0));
	snapshot_create_of(&rig.snapshot, members, 2);
	ASSERT_OK(append_bytes(0, 16 * MIB));
	snapshot_take(&rig.snapshot);
	ledger_take(&ledger);
	gate_close(&rig.storage_gate);
	write = origin_write_start(2 * MEMORY_BYTES, 0);
	image_number_becomes("held_writes", 1, 1000000);
	EXPECT(fill_direct(other->path, 0x22, 2 * MIB, 0));
	EXPECT(reads_as(image_of(&rig.snapshot, other), 0x11, 4 * MIB, 0));
	expect_job_waits(write);
	gate_open(&rig.storage_gate);
	expect_job_ends(write, 0);
	expect_sound();
}

static void *destroy_in_background(void *data)
{
	*(int *)data = control_snapshot_destroy(ctl, &rig.snapshot.id);
	return data;
}

/* Neither the writers nor, for long, destroying wait for the store in flight. */
static void test_destroying_lets_held_writes_go(void)
{
	struct io_job *write;
	pthread_t thread;
	struct snapshot next;
	unsigned int i;
	int ret = 1;

	rig_take(STORAGE_BYTES);
	gate_close(&rig.storage_gate);
	write = origin_write_start(2 * MEMORY_BYTES, 0);
	image_number_becomes("held_writes", 1, 1000000);
	ASSERT_EQ(pthread_create(&thread, NULL, destroy_in_background, &ret), 0);
	expect_job_ends(write, 0);
	expect_origin_is_as_written();
	pthread_join(thread, NULL);
	EXPECT_OK(ret);
	/* The store may still land: nobody else gets the range before. */
	snapshot_create(&next, &rig.spare_disk);
	EXPECT_ERR(append_range(&next, rig.storage, 2048, 2048), EBUSY);
	gate_open(&rig.storage_gate);
	for (i = 0; i < 100 && append_range(&next, rig.storage, 2048, 2048) == -EBUSY; i++)
		sleep_ms(20);
	EXPECT(i < 100);
	EXPECT_OK(control_snapshot_destroy(ctl, &next.id));
	expect_next_map_is_right(&ledger);
}

/* --- the time limit --- */

#define STALL_MS 20000U			/* see "Memory" in blksnap.rst */
#define BATCH_MS 16000U
#define NR_STALLED 5			/* writes of 2 MiB each: more than the budget */

/* An origin with a storage, besides those of the rig. */
struct pair {
	struct disk origin_disk;
	struct disk storage_disk;
	struct gate origin;
	struct gate storage;
	struct snapshot snapshot;
	struct io_job *writes[NR_STALLED];
};

static struct pair progressing, unreadable;

static void pair_create(struct pair *pair, const char *name, unsigned int nr)
{
	char text[32];

	memset(pair, 0, sizeof(*pair));
	snprintf(text, sizeof(text), "nullb%u", nr);
	ASSERT_OK(null_disk_create(&pair->origin_disk, text, ORIGIN_BYTES / MIB, NULL));
	snprintf(text, sizeof(text), "nullb%u", nr + 1);
	ASSERT_OK(null_disk_create(&pair->storage_disk, text, ORIGIN_BYTES / MIB, NULL));
	snprintf(text, sizeof(text), "%s-o", name);
	gate_create(&pair->origin, text, &pair->origin_disk);
	snprintf(text, sizeof(text), "%s-s", name);
	gate_create(&pair->storage, text, &pair->storage_disk);
	snapshot_now(&pair->snapshot, &pair->origin.disk, &pair->storage.disk);
}

static void pair_write(struct pair *pair)
{
	unsigned int i;

	for (i = 0; i < NR_STALLED; i++)
		pair->writes[i] = job_start(pair->origin.disk.path, true, 2 * MIB, i * 2 * MIB);
}

static int64_t pair_error(const struct pair *pair)
{
	return image_number_of(&pair->snapshot, &pair->origin.disk, "error");
}

/* Some of the writes still wait. */
static bool pair_is_waiting(const struct pair *pair)
{
	unsigned int i, nr_done = 0;

	for (i = 0; i < NR_STALLED; i++)
		nr_done += atomic_load(&pair->writes[i]->is_done);
	return nr_done < NR_STALLED;
}

static void pair_expect_sound(struct pair *pair)
{
	struct told told;
	unsigned int i;

	for (i = 0; i < NR_STALLED; i++)
		expect_job_ends(pair->writes[i], 0);
	EXPECT_EQ(pair_error(pair), 0);
	collect_events(&pair->snapshot, CALM_MS, &told);
	EXPECT_EQ(told.nr_corrupted, 0);
	EXPECT(reads_as(image_of(&pair->snapshot, &pair->origin.disk), 0, ORIGIN_BYTES, 0));
}

static void pair_destroy(struct pair *pair)
{
	gate_destroy(&pair->origin);
	gate_destroy(&pair->storage);
	null_disk_destroy(&pair->origin_disk);
	null_disk_destroy(&pair->storage_disk);
}

static struct disk parted_disk;

void slow_tear_down(void)
{
	struct pair *pairs[] = { &progressing, &unreadable };
	unsigned int i;

	sampler_stop();
	for (i = 0; i < ARRAY_SIZE(pairs); i++) {
		if (pairs[i]->origin.is_closed)
			gate_open(&pairs[i]->origin);
		if (pairs[i]->storage.name[0])
			gate_mend(&pairs[i]->storage);
	}
	rig_tear_down();
	for (i = 0; i < ARRAY_SIZE(pairs); i++)
		pair_destroy(pairs[i]);
	null_disk_destroy(&parted_disk);
}

/* How long after @start the image of the rig was lost. */
static unsigned int wait_until_lost(uint64_t start)
{
	while (!image_number("error") && now_ns() < start + 2 * PATIENCE_MS * 1000000ULL)
		sleep_ms(20);
	return (now_ns() - start) / 1000000;
}

/*
 * The writers of three snapshots wait for memory at the same time: the storage
 * of the first one hangs; that of the second one takes 16 seconds for a batch;
 * the origin of the third one hangs.  Only the first one is lost.
 */
static void test_storing_that_hangs_for_20_seconds_is_given_up(void)
{
	struct io_job *writes[NR_STALLED];
	unsigned int i, ms;
	uint64_t start;

	row("writes wait for memory, and for 20 s no copy is stored");
	pair_create(&progressing, "progressing", 3);
	pair_create(&unreadable, "unreadable", 5);
	rig_take(STORAGE_BYTES);
	gate_delay(&progressing.storage, BATCH_MS);
	gate_close(&unreadable.origin);
	gate_close(&rig.storage_gate);
	start = now_ns();
	pair_write(&progressing);
	pair_write(&unreadable);
	for (i = 0; i < NR_STALLED; i++)
		writes[i] = origin_write_start(2 * MIB, i * 2 * MIB);
	ms = wait_until_lost(start);
	ktap_note("given up after %u ms", ms);
	EXPECT(ms >= STALL_MS);
	EXPECT(ms < 2 * STALL_MS);
	/* Its writers are let go, though the storage still hangs. */
	for (i = 0; i < NR_STALLED; i++)
		expect_job_ends(writes[i], 0);
	expect_origin_is_as_written();
	EXPECT(pair_is_waiting(&progressing));
	EXPECT_EQ(pair_error(&progressing), 0);
	EXPECT(pair_is_waiting(&unreadable));
	gate_mend(&progressing.storage);
	gate_open(&unreadable.origin);
	pair_expect_sound(&progressing);
	pair_expect_sound(&unreadable);
	gate_open(&rig.storage_gate);
	expect_broken(ETIMEDOUT);
	expect_tracking_goes_on();
}

/* --- many that wait for one storage, and another snapshot --- */

#define NR_WRITES 1100U		/* more than a workqueue does at a time */

/* Start writes to the beginnings of blocks from @at on. */
static bool writes_start(aio_context_t *context, int fd, size_t nr_bytes, uint64_t at)
{
	static uint8_t data[BLOCK_BYTES] __attribute__((aligned(BLOCK_BYTES)));
	static struct iocb iocbs[NR_WRITES];
	struct iocb *iocb;
	unsigned int i;

	*context = 0;
	if (syscall(SYS_io_setup, NR_WRITES, context))
		return false;
	for (i = 0; i < NR_WRITES; i++) {
		iocb = &iocbs[i];
		*iocb = (struct iocb){
			.aio_lio_opcode = IOCB_CMD_PWRITE,
			.aio_fildes = fd,
			.aio_buf = (uintptr_t)data,
			.aio_nbytes = nr_bytes,
			.aio_offset = at + i * BLOCK_BYTES,
		};
		if (syscall(SYS_io_submit, *context, 1, &iocb) != 1)
			return false;
	}
	return true;
}

static void expect_writes_end(aio_context_t context)
{
	static struct io_event events[NR_WRITES];
	unsigned int i;

	EXPECT_EQ(syscall(SYS_io_getevents, context, NR_WRITES, NR_WRITES, events, NULL),
		  NR_WRITES);
	for (i = 0; i < NR_WRITES; i++)
		if (events[i].res < 0)
			FAIL("write %u: error %lld", i, -(long long)events[i].res);
	syscall(SYS_io_destroy, context);
}

/* Each write has to wait until its block is stored. */
static void test_image_writes_of_one_snapshot_spare_another(void)
{
	aio_context_t context;
	struct snapshot again;
	int fd;

	pair_create(&progressing, "progressing", 3);
	rig_take(STORAGE_BYTES);
	gate_close(&rig.storage_gate);
	fd = ASSERT_OK(open(image(), O_WRONLY | O_DIRECT | O_CLOEXEC));
	EXPECT(writes_start(&context, fd, SECTOR_SIZE, 0));
	expect_job_ends(job_start(image_of(&progressing.snapshot, &progressing.origin.disk), true,
				  BLOCK_BYTES, 0), 0);
	EXPECT_OK(control_snapshot_destroy(ctl, &progressing.snapshot.id));
	snapshot_create(&again, &progressing.origin.disk);
	gate_open(&rig.storage_gate);
	expect_writes_end(context);
	close(fd);
}

/*
 * A disk and a partition of it are in two snapshots, and device mapper writes to two
 * partitions: a worker submits these writes again, and must not wait where a submitter
 * would, or the other partition waits, too.
 */
static void test_held_writes_of_a_partition_spare_another(void)
{
	struct disk parts[2], tops[2];
	struct snapshot whole, part;
	aio_context_t context;
	struct io_job *write;
	int fd;

	ASSERT_OK(null_disk_create(&parted_disk, "nullb9", 32, NULL));
	ASSERT_OK(partition_add(&parted_disk, &parts[0], 2048, 16 * 2048));
	ASSERT_OK(partition_add(&parted_disk, &parts[1], 20 * 2048, 8 * 2048));
	ASSERT_OK(linear_create(&tops[0], "held", &parts[0]));
	ASSERT_OK(linear_create(&tops[1], "spared", &parts[1]));
	/* Its engine is asked first. */
	snapshot_now(&whole, &parted_disk, &rig.spare_disk);
	snapshot_now(&part, &parts[0], rig.storage);
	gate_close(&rig.storage_gate);
	EXPECT(fill_direct(parts[0].path, 0x11, MEMORY_BYTES, 0));
	fd = ASSERT_OK(open(tops[0].path, O_WRONLY | O_DIRECT | O_CLOEXEC));
	EXPECT(writes_start(&context, fd, BLOCK_BYTES, MEMORY_BYTES));
	write = job_start(tops[1].path, true, BLOCK_BYTES, 0);
	EXPECT(job_is_done_within(write, STALL_MS / 2));
	EXPECT_EQ(image_number_of(&part, &parts[0], "error"), 0);
	gate_open(&rig.storage_gate);
	expect_writes_end(context);
	expect_job_ends(write, 0);
	close(fd);
	EXPECT(reads_as(image_of(&part, &parts[0]), 0, 16 * MIB, 0));
	destroy_all_snapshots();
	EXPECT_OK(mapping_remove("held"));
	EXPECT_OK(mapping_remove("spared"));
}

const struct ktap_test slow_tests[] = {
	KTAP_TEST(test_slow_storage_holds_writes_within_the_budget),
	KTAP_SLOW_TEST(test_budget_is_a_parameter),
	KTAP_SLOW_TEST(test_writes_through_another_driver_stay_within_the_budget),
	KTAP_SLOW_TEST(test_image_writes_stay_within_the_budget),
	KTAP_SLOW_TEST(test_memory_that_is_missing_is_the_budget),
	KTAP_SLOW_TEST(test_writes_wait_for_storing_only_beyond_the_budget),
	KTAP_SLOW_TEST(test_held_write_of_one_member_spares_the_other),
	KTAP_SLOW_TEST(test_destroying_lets_held_writes_go),
	KTAP_SLOW_TEST(test_storing_that_hangs_for_20_seconds_is_given_up),
	KTAP_TEST(test_image_writes_of_one_snapshot_spare_another),
	KTAP_TEST(test_held_writes_of_a_partition_spare_another),
	KTAP_END
};
