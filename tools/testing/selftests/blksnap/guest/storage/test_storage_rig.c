// SPDX-License-Identifier: GPL-2.0
/*
 * The devices of the storage tests, and what is known about them
 *
 * Gates are dm-linear devices.  A suspended one keeps everything back that is
 * submitted to it; if it is resumed with a table of the error target, what it
 * has kept back fails.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "test_storage.h"

#define NR_JOBS 16

struct rig rig;
struct ledger ledger;

static struct io_job jobs[NR_JOBS];
static struct random random_state;

/* --- gates --- */

/* Find /dev/dm-N by the name that device mapper has for it. */
static void gate_find(struct gate *gate)
{
	char path[300], name[64];
	struct dirent *entry;
	FILE *file;
	DIR *dir;

	dir = opendir("/sys/block");
	ASSERT(dir);
	while ((entry = readdir(dir))) {
		snprintf(path, sizeof(path), "/sys/block/%s/dm/name", entry->d_name);
		file = fopen(path, "r");
		if (!file)
			continue;
		if (fscanf(file, "%63s", name) == 1 && !strcmp(name, gate->name)) {
			snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
			disk_find(&gate->disk, path);
		}
		fclose(file);
	}
	closedir(dir);
	ASSERT(gate->disk.nr_bytes);
}

void gate_create(struct gate *gate, const char *name, const struct disk *lower)
{
	memset(gate, 0, sizeof(*gate));
	snprintf(gate->lower, sizeof(gate->lower), "%s", lower->path);
	gate->nr_sectors = lower->nr_bytes / SECTOR_SIZE;
	ASSERT_EQ(shell("dmsetup create --noudevsync %s --table '0 %llu linear %s 0' >/dev/null",
			name, (unsigned long long)gate->nr_sectors, gate->lower), 0);
	snprintf(gate->name, sizeof(gate->name), "%s", name);
	gate_find(gate);
}

/* Fails if somebody, the module for one, still has it open. */
void gate_destroy(struct gate *gate)
{
	if (!gate->name[0])
		return;
	if (gate->is_closed)
		gate_open(gate);
	EXPECT_EQ(shell("dmsetup remove --noudevsync --retry %s >/dev/null 2>&1", gate->name), 0);
	memset(gate, 0, sizeof(*gate));
}

/* What is submitted from here on waits. */
void gate_close(struct gate *gate)
{
	ASSERT_EQ(shell("dmsetup suspend --noudevsync --nolockfs %s", gate->name), 0);
	gate->is_closed = true;
}

void gate_open(struct gate *gate)
{
	EXPECT_EQ(shell("dmsetup resume --noudevsync %s", gate->name), 0);
	gate->is_closed = false;
}

/* Exchange the table; the gate is open after that. */
static void gate_load(struct gate *gate, const char *table)
{
	ASSERT_EQ(shell("printf '%s' | dmsetup load %s", table, gate->name), 0);
	if (!gate->is_closed)
		gate_close(gate);
	gate_open(gate);
}

/* Everything fails from here on, what has been waiting too. */
void gate_break(struct gate *gate)
{
	char table[100];

	snprintf(table, sizeof(table), "0 %llu error\\n", (unsigned long long)gate->nr_sectors);
	gate_load(gate, table);
}

/* Some sectors fail, inside of the device. */
void gate_break_sectors(struct gate *gate, uint64_t sector, uint64_t nr_sectors)
{
	const uint64_t end = sector + nr_sectors;
	char table[300];
	int n = 0;

	if (sector)
		n = snprintf(table, sizeof(table), "0 %llu linear %s 0\\n",
			     (unsigned long long)sector, gate->lower);
	snprintf(table + n, sizeof(table) - n, "%llu %llu error\\n%llu %llu linear %s %llu\\n",
		 (unsigned long long)sector, (unsigned long long)nr_sectors,
		 (unsigned long long)end, (unsigned long long)(gate->nr_sectors - end),
		 gate->lower, (unsigned long long)end);
	gate_load(gate, table);
}

/* Each request takes this long from here on. */
void gate_delay(struct gate *gate, unsigned int ms)
{
	char table[100];

	kernel_module_load("dm-delay");
	snprintf(table, sizeof(table), "0 %llu delay %s 0 %u\\n",
		 (unsigned long long)gate->nr_sectors, gate->lower, ms);
	gate_load(gate, table);
}

void gate_mend(struct gate *gate)
{
	char table[100];

	snprintf(table, sizeof(table), "0 %llu linear %s 0\\n",
		 (unsigned long long)gate->nr_sectors, gate->lower);
	gate_load(gate, table);
}

/*
 * Bad sectors of null_blk disks: reads and writes of them fail.  At most 512 at
 * once, older kernels put longer lists in a wrong order.
 */

static void disk_set_bad(const struct disk *disk, char sign, uint64_t sector,
			 uint64_t nr_sectors)
{
	char path[200], text[64];

	snprintf(path, sizeof(path), "/sys/kernel/config/nullb/%s/badblocks", disk->name);
	snprintf(text, sizeof(text), "%c%llu-%llu", sign, (unsigned long long)sector,
		 (unsigned long long)(sector + nr_sectors - 1));
	ASSERT(write_text(path, text));
}

void disk_break_sectors(const struct disk *disk, uint64_t sector, uint64_t nr_sectors)
{
	disk_set_bad(disk, '+', sector, nr_sectors);
}

void disk_mend_sectors(const struct disk *disk, uint64_t sector, uint64_t nr_sectors)
{
	disk_set_bad(disk, '-', sector, nr_sectors);
}

/* --- the rig --- */

void rig_set_up(void)
{
	ctl_set_up();
	/* After a test that needed others. */
	if (module_parameter("copy_memory_maximum") != MEMORY_BYTES / MIB)
		rig_reload(STORAGE_PARAMETERS);
	log_clear();
	random_init(&random_state, ktap_options.seed);
	memset(jobs, 0, sizeof(jobs));
	ASSERT_OK(null_disk_create(&rig.origin_disk, "nullb0", ORIGIN_BYTES / MIB, NULL));
	ASSERT_OK(null_disk_create(&rig.storage_disk, "nullb1",
				   (STORAGE_BYTES + 2 * EDGE_BYTES) / MIB, NULL));
	ASSERT_OK(null_disk_create(&rig.spare_disk, "nullb2",
				   (STORAGE_BYTES + 2 * EDGE_BYTES) / MIB, NULL));
	gate_create(&rig.storage_gate, "storage", &rig.storage_disk);
	rig.storage = &rig.storage_gate.disk;
	rig_use_origin(&rig.origin_disk);
}

/* Make the test's snapshots of @disk; before the ledger is opened. */
void rig_use_origin(const struct disk *disk)
{
	rig.origin = disk;
	rig.write_path = disk->path;
}

/*
 * Keep the origin behind a gate, too; likewise.  The origin is a device above the gate:
 * its own table stays as it is, or the snapshot would be lost by that.
 */
void rig_gate_origin(void)
{
	gate_create(&rig.origin_gate, "origin-gate", &rig.origin_disk);
	gate_create(&rig.origin_top, "origin", &rig.origin_gate.disk);
	rig_use_origin(&rig.origin_top.disk);
}

static void finish_jobs(void)
{
	unsigned int i;

	for (i = 0; i < NR_JOBS; i++) {
		if (jobs[i].is_started)
			pthread_join(jobs[i].thread, NULL);
		free(jobs[i].buffer);
		memset(&jobs[i], 0, sizeof(jobs[i]));
	}
}

void rig_tear_down(void)
{
	if (rig.origin_gate.is_closed)
		gate_open(&rig.origin_gate);
	if (rig.storage_gate.is_closed)
		gate_open(&rig.storage_gate);
	finish_jobs();
	ctl_tear_down();
	ledger_close(&ledger);
	gate_destroy(&rig.origin_top);
	gate_destroy(&rig.origin_gate);
	gate_destroy(&rig.storage_gate);
	null_disk_destroy(&rig.origin_disk);
	null_disk_destroy(&rig.storage_disk);
	null_disk_destroy(&rig.spare_disk);
	memset(&rig, 0, sizeof(rig));
}

/* Load the module with other parameters; nothing may be tracked. */
void rig_reload(const char *parameters)
{
	if (ctl >= 0)
		close(ctl);
	ctl = -1;
	ASSERT_EQ(module_unload(), 0);
	ASSERT_EQ(module_load(parameters), 0);
	ctl_set_up();
}

const char *image(void)
{
	return image_of(&rig.snapshot, rig.origin);
}

/* Append the bytes [@from, @from + @nr_bytes) of what can be used of rig.storage. */
int append_bytes(uint64_t from, uint64_t nr_bytes)
{
	return append_range(&rig.snapshot, rig.storage, (EDGE_BYTES + from) / SECTOR_SIZE,
			    nr_bytes / SECTOR_SIZE);
}

/* Fill the origin and take rig.snapshot of it, with the first bytes of the storage. */
void rig_take(uint64_t storage_bytes)
{
	ledger_open(&ledger, rig.origin);
	snapshot_create(&rig.snapshot, rig.origin);
	ASSERT_OK(append_bytes(0, storage_bytes));
	snapshot_take(&rig.snapshot);
	ledger_take(&ledger);
}

/* --- what the origin holds --- */

/* Random enough to tell old data from new, and from data of another place. */
void fill_random(void *buffer, uint64_t nr_bytes)
{
	static uint64_t pool[256 * KIB / 8];
	uint64_t i, piece, done;

	for (i = 0; !pool[0] && i < ARRAY_SIZE(pool); i++)
		pool[ARRAY_SIZE(pool) - 1 - i] = random_next(&random_state);
	for (done = 0; done < nr_bytes; done += piece) {
		uint64_t from = random_below(&random_state, ARRAY_SIZE(pool) / 2) * 8;

		piece = sizeof(pool) - from;
		if (piece > nr_bytes - done)
			piece = nr_bytes - done;
		memcpy((char *)buffer + done, (char *)pool + from, piece);
	}
}

/* Fill the disk with random bytes, and remember them. */
void ledger_open(struct ledger *book, const struct disk *disk)
{
	uint64_t at, piece;

	book->disk = disk;
	book->nr_bytes = disk->nr_bytes;
	book->taken = alloc_aligned(disk->nr_bytes);
	book->now = alloc_aligned(disk->nr_bytes);
	book->is_written = calloc(1, disk->nr_bytes / TRACKING_BLOCK_BYTES + 1);
	ASSERT(book->is_written);
	fill_random(book->now, disk->nr_bytes);
	for (at = 0; at < disk->nr_bytes; at += piece) {
		piece = disk->nr_bytes - at < MIB ? disk->nr_bytes - at : MIB;
		ASSERT(write_direct(disk->path, book->now + at, piece, at));
	}
	ledger_take(book);
}

void ledger_close(struct ledger *book)
{
	free(book->taken);
	free(book->now);
	free(book->is_written);
	memset(book, 0, sizeof(*book));
}

/* A snapshot has been taken: this is what its image shows. */
void ledger_take(struct ledger *book)
{
	memcpy(book->taken, book->now, book->nr_bytes);
	memset(book->is_written, 0, book->nr_bytes / TRACKING_BLOCK_BYTES + 1);
}

/* Somebody writes @data to the origin, or has done so. */
void ledger_write(struct ledger *book, const void *data, uint64_t nr_bytes, uint64_t at)
{
	uint64_t i;

	memcpy(book->now + at, data, nr_bytes);
	for (i = at / TRACKING_BLOCK_BYTES; i * TRACKING_BLOCK_BYTES < at + nr_bytes; i++)
		book->is_written[i] = true;
}

/* Write random bytes to the origin; a write to it never fails. */
void origin_write(uint64_t nr_bytes, uint64_t at)
{
	void *buffer = alloc_aligned(nr_bytes);

	fill_random(buffer, nr_bytes);
	ledger_write(&ledger, buffer, nr_bytes, at);
	EXPECT(write_direct(rig.write_path, buffer, nr_bytes, at));
	free(buffer);
}

void expect_holds(const char *path, const void *want, uint64_t nr_bytes, uint64_t at)
{
	uint8_t *have = alloc_aligned(nr_bytes);
	uint64_t i;

	memset(have, POISON, nr_bytes);
	if (read_direct(path, have, nr_bytes, at) && memcmp(have, want, nr_bytes)) {
		for (i = 0; have[i] == ((const uint8_t *)want)[i]; i++)
			;
		FAIL("%s differs from byte %llu on", path, (unsigned long long)(at + i));
	}
	free(have);
}

void expect_image_is_as_taken(void)
{
	expect_holds(image_of(&rig.snapshot, rig.origin), ledger.taken, ledger.nr_bytes, 0);
}

void expect_origin_is_as_written(void)
{
	expect_holds(rig.origin->path, ledger.now, ledger.nr_bytes, 0);
}

/*
 * Take another snapshot: its map has to name exactly the tracking blocks that
 * were written since the last one, and its image is what the origin holds.
 */
void expect_next_map_is_right(struct ledger *book)
{
	struct blk_snap_cbt_info before, after;
	struct snapshot next;
	uint32_t i;
	uint8_t *map;

	ASSERT(tracker_info(book->disk, &before));
	snapshot_create(&next, book->disk);
	ASSERT_OK(append_range(&next, &rig.spare_disk, EDGE_BYTES / SECTOR_SIZE,
			       STORAGE_BYTES / SECTOR_SIZE));
	snapshot_take(&next);
	map = read_map(book->disk, &after);
	EXPECT(!memcmp(&before.generation_id, &after.generation_id,
		       sizeof(after.generation_id)));
	EXPECT_EQ(after.snap_number, before.snap_number + 1);
	ASSERT_EQ(after.blk_size, TRACKING_BLOCK_BYTES);
	for (i = 0; i < after.blk_count; i++) {
		bool is_marked = map[i] == after.snap_number;

		if (is_marked != book->is_written[i])
			break;
	}
	if (i < after.blk_count)
		FAIL("tracking block %u is %u, and it was %swritten", i, map[i],
		     book->is_written[i] ? "" : "not ");
	free(map);
	expect_holds(image_of(&next, book->disk), book->now, book->nr_bytes, 0);
	EXPECT_OK(control_snapshot_destroy(ctl, &next.id));
}

/* --- I/O in the background --- */

static void *job_run(void *data)
{
	struct io_job *job = data;
	ssize_t ret = -1;
	int fd;

	fd = open(job->path, (job->is_write ? O_WRONLY : O_RDONLY) | O_DIRECT | O_CLOEXEC);
	if (fd >= 0)
		ret = job->is_write ? pwrite(fd, job->buffer, job->nr_bytes, job->at) :
				      pread(fd, job->buffer, job->nr_bytes, job->at);
	job->error = ret < 0 ? errno : ret == (ssize_t)job->nr_bytes ? 0 : EIO;
	if (fd >= 0)
		close(fd);
	atomic_store(&job->is_done, true);
	return NULL;
}

static struct io_job *job_prepare(const char *path, bool is_write, uint64_t nr_bytes,
				  uint64_t at)
{
	struct io_job *job = jobs;

	while (job < jobs + NR_JOBS && job->is_started)
		job++;
	ASSERT(job < jobs + NR_JOBS);
	snprintf(job->path, sizeof(job->path), "%s", path);
	job->is_write = is_write;
	job->nr_bytes = nr_bytes;
	job->at = at;
	free(job->buffer);
	job->buffer = alloc_aligned(nr_bytes);
	memset(job->buffer, POISON, nr_bytes);
	atomic_store(&job->is_done, false);
	return job;
}

static struct io_job *job_go(struct io_job *job)
{
	job->is_started = true;
	if (pthread_create(&job->thread, NULL, job_run, job))
		exit(KTAP_FAIL);
	return job;
}

/* The job stays valid until the test ends, or its end was expected. */
struct io_job *job_start(const char *path, bool is_write, uint64_t nr_bytes, uint64_t at)
{
	return job_go(job_prepare(path, is_write, nr_bytes, at));
}

/* Write random bytes to the origin; they are in the ledger at once. */
struct io_job *origin_write_start(uint64_t nr_bytes, uint64_t at)
{
	struct io_job *job = job_prepare(rig.write_path, true, nr_bytes, at);

	fill_random(job->buffer, nr_bytes);
	ledger_write(&ledger, job->buffer, nr_bytes, at);
	return job_go(job);
}

bool job_is_done_within(struct io_job *job, unsigned int ms)
{
	const uint64_t end = now_ns() + ms * 1000000ULL;

	while (!atomic_load(&job->is_done)) {
		if (now_ns() > end)
			return false;
		sleep_ms(2);
	}
	return true;
}

void expect_job_waits(struct io_job *job)
{
	EXPECT(!job_is_done_within(job, CALM_MS));
}

/* @error is positive, 0 for success. */
void expect_job_ends(struct io_job *job, int error)
{
	if (!job_is_done_within(job, PATIENCE_MS)) {
		FAIL("%s of %llu bytes at %llu of %s hangs", job->is_write ? "writing" : "reading",
		     (unsigned long long)job->nr_bytes, (unsigned long long)job->at, job->path);
		return;
	}
	pthread_join(job->thread, NULL);
	job->is_started = false;
	EXPECT_EQ(job->error, error);
}

/* Do one I/O; returns 0, a positive errno, EIO for a short one, or -1 if it hangs. */
int io_error(const char *path, bool is_write, uint64_t nr_bytes, uint64_t at)
{
	struct io_job *job = job_start(path, is_write, nr_bytes, at);

	if (!job_is_done_within(job, PATIENCE_MS)) {
		FAIL("%s of %s at %llu hangs", is_write ? "writing" : "reading", path,
		     (unsigned long long)at);
		return -1;
	}
	pthread_join(job->thread, NULL);
	job->is_started = false;
	return job->error;
}
