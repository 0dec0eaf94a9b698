// SPDX-License-Identifier: GPL-2.0
/*
 * The disks of the torture, and the nodes through which they are written
 *
 *	medium	disk				origins		written through
 *	0	null_blk, blk-mq		disk, partition	disk, partition, loop
 *							on the partition
 *	1	null_blk, bio-based or timed	partition	disk, partition, dm-
 *							linear on the partition
 *	2	null_blk, sectors of 4 KiB	disk		disk, loop on it
 *	3	brd				disk, dm-delay	dm-delay on the disk
 *	4	null_blk			disk		ext4
 *	5	loop of a file in memory	disk		disk, dm-linear on it
 *
 * null_blk and brd do what they are asked before they return.  On dm-delay reads
 * take longer than writes, so a write that comes too early overtakes the read
 * that it should have waited for, and there are always writes in flight.  A loop
 * device is served by another thread and knows write-zeroes.
 *
 * What the kernel does not have is left out.  A disk given with --device takes
 * the place of the first, second or third.
 */
#include <errno.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "stacked.h"
#include "test_torture.h"

/* Last part of medium 0, which nobody writes to: storage on the origin. */
#define RESERVED_SECTORS (3 * MIB / SECTOR_SIZE)
#define NR_KINDS 6
#define MAPPING_NAME "torture%u"
#define STORAGE_NAME "torture-storage"
#define STORAGE_READ_DELAY_MS 1
#define STORAGE_WRITE_DELAY_MS 60
#define READ_DELAY_MS 5
#define WRITE_DELAY_MS 1

static unsigned int partition_start(const struct disk *part)
{
	return read_number("/sys/dev/block/%u:%u/start", part->id.mj,
			   part->id.mn);
}

static unsigned int block_sectors_of(const struct disk *disk)
{
	return read_number("/sys/dev/block/%u:%u/queue/logical_block_size",
			   disk->id.mj, disk->id.mn) / SECTOR_SIZE;
}

static void *alloc_table(uint64_t nr, size_t bytes)
{
	void *table = calloc(nr, bytes);

	if (!table) {
		ktap_note("no memory");
		exit(KTAP_FAIL);
	}
	return table;
}

/* --- media --- */

static void medium_init(struct medium *medium)
{
	const int kind = PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP;
	pthread_rwlockattr_t attr;
	uint64_t nr;

	medium->index = medium - torture.media;
	medium->block_sectors = block_sectors_of(&medium->disk);
	medium->nr_sectors = medium->disk.nr_bytes / SECTOR_SIZE;
	nr = medium->nr_sectors;
	if (!medium->index)
		medium->nr_sectors -= RESERVED_SECTORS;
	pthread_rwlockattr_init(&attr);
	/* Or who wants them to stand still would wait for ever. */
	pthread_rwlockattr_setkind_np(&attr, kind);
	pthread_rwlock_init(&medium->still, &attr);
	medium->base = alloc_aligned(nr * SECTOR_SIZE);
	medium->scratch = alloc_aligned(nr * SECTOR_SIZE);
	medium->must_start = alloc_table(nr, sizeof(uint64_t));
	medium->zero_end = alloc_table(nr, sizeof(uint64_t));
	medium->touched = alloc_table(nr / BLOCK_SECTORS + 1, sizeof(uint64_t));
	medium->ops = alloc_table(MAX_OPS, sizeof(*medium->ops));
	medium->first_op = 1;
}

static void add_way(struct medium *medium, const struct disk *node,
		    uint64_t start, bool may_cache)
{
	struct way *way = &medium->ways[medium->nr_ways];
	uint64_t nr = node->nr_bytes / SECTOR_SIZE;

	if (start + nr > medium->nr_sectors)
		nr = medium->nr_sectors - start;
	nr -= nr % medium->block_sectors;
	way_open(way, node, start, nr);
	medium->may_cache[medium->nr_ways++] = may_cache;
}

static struct origin *add_origin(struct medium *medium, const struct disk *node,
				 uint64_t start)
{
	struct origin *origin = &torture.origins[torture.nr_origins++];
	const uint64_t nr = node->nr_bytes / SECTOR_SIZE;

	origin->disk = node;
	origin->medium = medium;
	origin->start = start;
	origin->nr_sectors = nr;
	origin->nr_used = start + nr > medium->nr_sectors ?
			  medium->nr_sectors - start : nr;
	origin->touched = alloc_table(nr / BLOCK_SECTORS + 1, sizeof(uint64_t));
	origin->must_be_marked = alloc_table(nr / BLOCK_SECTORS + 1, 1);
	origin->previous = alloc_aligned(node->nr_bytes);
	origin->first = alloc_aligned(node->nr_bytes);
	origin->now = alloc_aligned(node->nr_bytes);
	origin->shadow = alloc_aligned(node->nr_bytes);
	origin->seen = alloc_table(nr, 1);
	return origin;
}

/* A partition whose borders are multiples of nothing but the sector size. */
static bool add_partition(struct medium *medium, struct random *random)
{
	const unsigned int unit = medium->block_sectors;
	uint64_t start = 1001 + 2 * random_below(random, 500);
	uint64_t nr = medium->nr_sectors / 2 + random_below(random, 999);

	return !partition_add(&medium->disk, &medium->part, start / unit * unit,
			      nr / unit * unit);
}

static void fill_medium_0(struct medium *medium, struct random *random)
{
	uint64_t start;

	add_way(medium, &medium->disk, 0, true);
	add_origin(medium, &medium->disk, 0);
	if (!add_partition(medium, random))
		return;
	start = partition_start(&medium->part);
	if (!loop_create(&medium->looped, &medium->part,
			 medium->block_sectors * SECTOR_SIZE))
		add_way(medium, &medium->looped, start, true);
	/* What a loop device writes goes past the page cache of its disk. */
	add_way(medium, &medium->part, start, !medium->looped.nr_bytes);
	add_origin(medium, &medium->part, start);
}

static void fill_medium_1(struct medium *medium, struct random *random)
{
	char name[20];
	uint64_t start;

	add_way(medium, &medium->disk, 0, true);
	if (!add_partition(medium, random)) {
		add_origin(medium, &medium->disk, 0);
		return;
	}
	start = partition_start(&medium->part);
	add_way(medium, &medium->part, start, true);
	add_origin(medium, &medium->part, start);
	snprintf(name, sizeof(name), MAPPING_NAME, medium->index);
	if (!linear_create(&medium->mapped, name, &medium->part))
		add_way(medium, &medium->mapped, start, true);
}

static void fill_medium_2(struct medium *medium)
{
	if (!loop_create(&medium->looped, &medium->disk,
			 medium->block_sectors * SECTOR_SIZE))
		add_way(medium, &medium->looped, 0, true);
	add_way(medium, &medium->disk, 0, !medium->looped.nr_bytes);
	add_origin(medium, &medium->disk, 0);
}

/* All writing is done above the mapping, or its tracker would not know it. */
static void fill_medium_3(struct medium *medium)
{
	char name[20];

	snprintf(name, sizeof(name), MAPPING_NAME, medium->index);
	if (!delay_create(&medium->mapped, name, &medium->disk, READ_DELAY_MS,
			  WRITE_DELAY_MS)) {
		add_way(medium, &medium->mapped, 0, true);
		add_origin(medium, &medium->mapped, 0);
	} else {
		add_way(medium, &medium->disk, 0, true);
	}
	add_origin(medium, &medium->disk, 0);
}

static void fill_medium_5(struct medium *medium)
{
	char name[20];

	add_way(medium, &medium->disk, 0, true);
	add_origin(medium, &medium->disk, 0);
	snprintf(name, sizeof(name), MAPPING_NAME, medium->index);
	if (!linear_create(&medium->mapped, name, &medium->disk))
		add_way(medium, &medium->mapped, 0, true);
}

/* --- making and removing --- */

static int make_disk(struct disk *disk, unsigned int i,
		     const struct media_options *options)
{
	static const char *const names[] = { "nullb0", "nullb1", "nullb2", "",
					     "nullb3" };
	struct null_disk_options null_options = { 0 };
	const uint64_t nr_mib = options->nr_mib;

	if (i < options->nr_paths)
		return disk_find(disk, options->paths[i]);
	switch (i) {
	case 1:
		null_options.is_bio_based = true;
		if (!null_disk_create(disk, names[i], nr_mib * 2 / 3,
				      &null_options))
			return 0;
		null_options.is_bio_based = false;
		null_options.completion_ns = 200000;
		break;
	case 2:
		null_options.block_bytes = 4096;
		return null_disk_create(disk, names[i], nr_mib / 2,
					&null_options);
	case 3:
		/* Where it is not a module the kernel chose the size. */
		if (access("/dev/ram0", F_OK) &&
		    shell("modprobe brd rd_nr=1 rd_size=%llu 2>/dev/null",
			  (unsigned long long)nr_mib * 1024 / 3))
			return -ENODEV;
		return disk_find(disk, "/dev/ram0");
	case 5:
		return loop_create_of_memory(disk, nr_mib * MIB / 2);
	default:
		break;
	}
	return null_disk_create(disk, names[i], nr_mib, &null_options);
}

static void note_media(void)
{
	unsigned int i;

	for (i = 0; i < torture.nr_media; i++) {
		const struct medium *medium = &torture.media[i];

		ktap_note("medium %u: %s, %llu KiB, sectors of %u, ways %u%s",
			  i, medium->disk.path,
			  (unsigned long long)(medium->disk.nr_bytes / KIB),
			  medium->block_sectors * SECTOR_SIZE, medium->nr_ways,
			  medium->has_files ? ", ext4" : "");
	}
	for (i = 0; i < torture.nr_origins; i++)
		ktap_note("origin %u: %s at sector %llu of medium %u", i,
			  torture.origins[i].disk->path,
			  (unsigned long long)torture.origins[i].start,
			  torture.origins[i].medium->index);
}

static void fill_medium(unsigned int i, struct medium *medium,
			struct random *random)
{
	switch (i) {
	case 0:
		fill_medium_0(medium, random);
		break;
	case 1:
		fill_medium_1(medium, random);
		break;
	case 2:
		fill_medium_2(medium);
		break;
	case 3:
		fill_medium_3(medium);
		break;
	case 4:
		if (files_start(medium))
			add_origin(medium, &medium->disk, 0);
		break;
	case 5:
		fill_medium_5(medium);
		break;
	}
}

/**
 * media_make() - make all disks, and all that is on top of them
 * @options:	given disks and sizes
 */
void media_make(const struct media_options *options)
{
	struct random random;
	struct medium *medium;
	unsigned int i;

	random_init(&random, ktap_options.seed);
	for (i = 0; i < NR_KINDS; i++) {
		medium = &torture.media[torture.nr_media];
		if (i == 4 && !torture.has_mkfs)
			continue;
		if (make_disk(&medium->disk, i, options)) {
			ktap_note("disk %u cannot be made and is left out", i);
			continue;
		}
		torture.nr_media++;
		medium->is_loop = i == 5;
		medium_init(medium);
		fill_medium(i, medium, &random);
	}
	ASSERT_OK(options->storage ?
		  disk_find(&torture.storage, options->storage) :
		  null_disk_create(&torture.storage, "nullb4",
				   options->storage_mib + 2 * EDGE_BYTES / MIB, NULL));
	/* The same storage once more, so slow that writes have to wait for it. */
	if (delay_create(&torture.slow_storage, STORAGE_NAME, &torture.storage,
			 STORAGE_READ_DELAY_MS, STORAGE_WRITE_DELAY_MS))
		ktap_note("there is no slow storage");
	ASSERT(torture.nr_origins);
	note_media();
}

void media_remove(void)
{
	struct medium *medium;
	char name[20];
	unsigned int i, w;

	files_stop();
	for (i = 0; i < torture.nr_media; i++) {
		medium = &torture.media[i];
		for (w = 0; w < medium->nr_ways; w++)
			way_close(&medium->ways[w]);
		if (medium->looped.nr_bytes)
			loop_remove(&medium->looped);
		if (medium->mapped.nr_bytes) {
			snprintf(name, sizeof(name), MAPPING_NAME,
				 medium->index);
			mapping_remove(name);
		}
		/* A loop device lets go of its disk a little later. */
		sleep_ms(100);
		partition_del_all(&medium->disk);
		if (medium->is_loop)
			loop_remove(&medium->disk);
		null_disk_destroy(&medium->disk);
	}
	if (torture.slow_storage.nr_bytes)
		mapping_remove(STORAGE_NAME);
	null_disk_destroy(&torture.storage);
}

/* Write all disks that writers use, so that the logs have something to begin with. */
void media_fill(void)
{
	struct medium *medium;
	uint64_t at, nr_bytes;
	unsigned int i;

	for (i = 0; i < torture.nr_media; i++) {
		medium = &torture.media[i];
		nr_bytes = medium->nr_sectors * SECTOR_SIZE;
		if (medium->has_files)
			continue;
		stamp_words(medium, medium->base, 0, medium->nr_sectors,
			    medium->first_op++);
		for (at = 0; at < nr_bytes; at += MIB)
			ASSERT(write_direct(medium->disk.path, medium->base + at,
					    nr_bytes - at < MIB ?
					    nr_bytes - at : MIB, at));
		medium->base_tick = tick();
		for (at = 0; at < MAX_OPS; at++)
			atomic_store(&medium->ops[at].start, NOT_YET);
	}
	fill_direct(torture.storage.path, 0x5a, torture.storage.nr_bytes, 0);
}

/* --- standing still --- */

static void sync_way(struct medium *medium, const struct way *way)
{
	if (fsync(way->buffered) || ioctl(way->buffered, BLKFLSBUF, 0))
		fault_add(FAULT_IO, "syncing %s: %s", medium->disk.path,
			  strerror(errno));
}

/* Wait until nobody writes to a medium, and have all of it on the disk. */
void medium_hold_still(struct medium *medium)
{
	unsigned int w;

	pthread_rwlock_wrlock(&medium->still);
	for (w = 0; w < medium->nr_ways; w++)
		sync_way(medium, &medium->ways[w]);
}

/* Choose anew which ways go through the page cache, and go on. */
void medium_let_go(struct medium *medium, struct random *random)
{
	unsigned int w;

	for (w = 0; w < medium->nr_ways; w++)
		medium->ways[w].is_buffered = medium->may_cache[w] &&
					      !random_below(random, 3);
	pthread_rwlock_unlock(&medium->still);
}

static void start_log(struct medium *medium)
{
	unsigned int i, nr = atomic_load(&medium->nr_ops);
	uint8_t *base = medium->base;

	if (nr > MAX_OPS)
		nr = MAX_OPS;
	for (i = 0; i < nr; i++)
		atomic_store(&medium->ops[i].start, NOT_YET);
	medium->first_op += nr;
	atomic_store(&medium->nr_ops, 0);
	medium->base = medium->scratch;
	medium->scratch = base;
	medium->base_tick = tick();
}

/**
 * medium_read() - read a part of a medium
 * @medium:	which
 * @sector:	first
 * @nr_sectors:	how many
 * @to:		where to
 * @buffer:	WORKER_BUFFER_BYTES
 *
 * Return: true, or false after a fault was noted.
 */
bool medium_read(struct medium *medium, uint64_t sector, uint64_t nr_sectors,
		 uint8_t *to, void *buffer)
{
	uint64_t at = sector * SECTOR_SIZE;
	const uint64_t end = at + nr_sectors * SECTOR_SIZE;
	uint64_t nr;

	for (; at < end; at += nr, to += nr) {
		nr = end - at < WORKER_BUFFER_BYTES ? end - at :
						      WORKER_BUFFER_BYTES;
		if (pread(medium->ways[0].direct, buffer, nr, at) !=
		    (ssize_t)nr) {
			fault_add(FAULT_IO, "reading %s: %s", medium->disk.path,
				  strerror(errno));
			return false;
		}
		memcpy(to, buffer, nr);
		torture.nr_read_bytes += nr;
	}
	return true;
}

/**
 * medium_fold() - judge what is on a medium and begin a new log with it
 * @medium:	held still by the caller
 * @buffer:	WORKER_BUFFER_BYTES
 */
void medium_fold(struct medium *medium, void *buffer)
{
	struct evidence evidence = {
		.medium = medium,
		.what = "origin",
		.path = medium->disk.path,
		.nr_sectors = medium->nr_sectors,
		.data = medium->scratch,
		.take_end = NOT_YET - 1,
	};

	if (medium->has_files)
		return;
	if (!medium_read(medium, 0, medium->nr_sectors, medium->scratch, buffer))
		return;
	evidence.take_start = tick();
	if (!evidence_judge(&evidence, evidence.take_start))
		fault_add(FAULT_ORIGIN, "%s holds what it must not",
			  medium->disk.path);
	start_log(medium);
}

/* --- whose a medium is --- */

/* One that nobody works with, or NULL. */
struct medium *medium_take(struct random *random)
{
	const unsigned int first = random_below(random, torture.nr_media);
	struct medium *medium = NULL;
	unsigned int i;

	pthread_mutex_lock(&torture.lock);
	for (i = 0; i < torture.nr_media && !medium; i++) {
		medium = &torture.media[(first + i) % torture.nr_media];
		if (medium->is_taken)
			medium = NULL;
	}
	if (medium)
		medium->is_taken = true;
	pthread_mutex_unlock(&torture.lock);
	return medium;
}

void medium_give_back(struct medium *medium)
{
	pthread_mutex_lock(&torture.lock);
	medium->is_taken = false;
	pthread_mutex_unlock(&torture.lock);
}
