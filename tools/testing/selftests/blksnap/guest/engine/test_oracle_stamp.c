// SPDX-License-Identifier: GPL-2.0
/*
 * Taking a snapshot of disks that are being written on
 *
 * Nobody can say exactly what the image must hold then, but a good deal about
 * what it cannot.  Every operation has a number, which it leaves in each sector
 * that it writes, and is noted with the times of its begin and its end, counted
 * by one clock for all threads.  Each thread has an area of its own, so the
 * operations on a sector have an order.  The image then is wrong if
 *
 * - it holds an operation that began after the take had returned, or
 * - it lacks an operation that had ended before the take began, or
 * - it lacks an operation that had ended before another one began which is in
 *   the image, on whatever disk: that is what "one instant" means.
 *
 * A cached page may be changed while a bio is carrying it to the disk.  So an image
 * may show a buffered write that began after the take, if the page was written to
 * before and is not synced.  All that is certain then is that the take was after the
 * first of the writes that the thread syncs together.
 *
 * A discard may do something or not, and a zero does not tell who made it; both
 * are allowed wherever one of them could be the reason.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "test_oracle.h"

#define MAX_OPS 65536U		/* per round; who comes later waits */
#define MAX_PENDING 64U		/* buffered writes of a thread before it syncs */
#define NOT_YET UINT64_MAX
#define MAX_SECTOR_SHIFT 10	/* of one write: 512 KiB */
#define PAGE_SECTORS 8U

struct op {
	uint64_t start, end;	/* of the clock */
	uint64_t since;		/* what carries it was submitted after that */
	uint64_t sector;	/* of the disk */
	uint32_t nr_sectors;
	uint8_t disk;
	bool makes_zeros;
	bool is_certain;
};

/* Where a thread writes during one round, and how. */
struct area {
	const struct way *way;
	uint64_t first, end;	/* sectors of the disk */
	bool is_buffered;
};

struct stamped_disk {
	struct way ways[2];	/* the disk and its partition */
	struct member member;
	struct area areas[CREW_MAX];
	/* By sector: the last operation known to be done, the last zeroing. */
	uint64_t *must;
	uint64_t *zeroed;
};

static struct {
	struct stamped_disk disks[2];
	unsigned int nr_disks;
	struct crew crew;
	struct snapshot snapshot;
	uint64_t take_start, take_end;

	struct op *ops;
	uint64_t base;			/* number of the first of them */
	atomic_uint_fast64_t nr_ops;
	atomic_uint_fast64_t clock;

	struct {
		struct op *ops[MAX_PENDING];
		unsigned int nr;
		const struct way *way;
	} pending[CREW_MAX];
} run;

static uint64_t tick(void)
{
	return atomic_fetch_add(&run.clock, 1);
}

static uint64_t nr_used_sectors(const struct stamped_disk *disk)
{
	return disk->member.disk->nr_bytes / SECTOR_SIZE - RESERVED_SECTORS;
}

/* --- what threads do --- */

static const char *sync_pending(unsigned int thread)
{
	unsigned int i;
	uint64_t end;

	if (!run.pending[thread].nr)
		return NULL;
	if (fdatasync(run.pending[thread].way->buffered))
		return "syncing the origin failed";
	end = tick();
	for (i = 0; i < run.pending[thread].nr; i++)
		run.pending[thread].ops[i]->end = end;
	run.pending[thread].nr = 0;
	return NULL;
}

/*
 * Choose a range in the area.  Buffered writers keep off pages that are not
 * all theirs, since a page is written as a whole.
 */
static bool choose_range(struct random *random, const struct area *area,
			 struct op *op)
{
	uint64_t first = area->first, end = area->end, nr;

	if (area->is_buffered) {
		first += -(first - area->way->start) % PAGE_SECTORS;
		end -= (end - area->way->start) % PAGE_SECTORS;
	}
	if (first >= end)
		return false;
	nr = 1 + random_below(random, 1ULL << random_below(random,
						MAX_SECTOR_SHIFT + 1));
	if (nr > end - first)
		nr = end - first;
	op->sector = first + random_below(random, end - first - nr + 1);
	op->nr_sectors = nr;
	if (area->is_buffered && op->makes_zeros) {
		op->sector -= (op->sector - first) % PAGE_SECTORS;
		op->nr_sectors += -op->nr_sectors % PAGE_SECTORS;
		if (op->nr_sectors > end - op->sector)
			op->nr_sectors = end - op->sector;
	}
	return true;
}

/* It has been written to the page cache. */
static void add_pending(unsigned int thread, struct op *op)
{
	run.pending[thread].ops[run.pending[thread].nr++] = op;
	op->since = run.pending[thread].ops[0]->start;
}

static const char *perform(struct crew_member *member, const struct area *area,
			   struct op *op, enum write_kind kind, uint64_t number)
{
	const unsigned int thread = member->index;
	enum write_result result;

	if (!op->makes_zeros)
		stamp_sectors(member->buffer, op->sector, op->nr_sectors,
			      number);
	op->start = tick();
	op->since = op->start;
	result = way_write(area->way, kind, member->buffer, op->sector,
			   op->nr_sectors);
	if (result == WRITE_FAILED)
		return "a write to the origin failed";
	op->is_certain = result == WRITE_DONE;
	if (kind != WRITE_BUFFERED) {
		op->end = tick();
		return NULL;
	}
	add_pending(thread, op);
	if (run.pending[thread].nr < MAX_PENDING &&
	    random_below(&member->random, 3))
		return NULL;
	return sync_pending(thread);
}

static const char *stamp_work(struct crew_member *member, void *data)
{
	struct random *random = &member->random;
	const unsigned int thread = member->index;
	const unsigned int d = random_below(random, run.nr_disks);
	const struct area *area = &run.disks[d].areas[thread];
	const uint64_t i = atomic_fetch_add(&run.nr_ops, 1);
	enum write_kind kind;
	const char *error;
	struct op *op;

	(void)data;
	if (i >= MAX_OPS) {
		sleep_ms(5);
		return NULL;
	}
	op = &run.ops[i];
	memset(op, 0, sizeof(*op));
	op->end = NOT_YET;
	op->start = NOT_YET;
	op->disk = d;
	kind = random_kind(random, area->is_buffered);
	op->makes_zeros = write_makes_zeros(kind);
	/*
	 * What waits for a sync belongs to one node.  And a discard drops pages
	 * that are not written yet, but need not change the disk: what was
	 * there before them would come back.
	 */
	if (run.pending[thread].way != area->way || op->makes_zeros) {
		error = sync_pending(thread);
		if (error)
			return error;
		run.pending[thread].way = area->way;
	}
	if (!choose_range(random, area, op))
		return NULL;
	return perform(member, area, op, kind, run.base + i);
}

/* --- areas --- */

static int compare_numbers(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* Cut a disk into areas that begin anywhere. */
static void share_out(struct stamped_disk *disk)
{
	struct random *random = &oracle.random;
	uint64_t cuts[CREW_MAX + 1] = { 0 };
	unsigned int i, nr = run.crew.nr_members;

	for (i = 1; i < nr; i++)
		cuts[i] = random_below(random, nr_used_sectors(disk));
	cuts[nr] = nr_used_sectors(disk);
	qsort(cuts, nr + 1, sizeof(cuts[0]), compare_numbers);
	for (i = 0; i < nr; i++) {
		struct area *area = &disk->areas[i];
		const struct way *part = &disk->ways[1];
		const uint64_t part_end = part->start + part->nr_sectors;

		*area = (struct area) {
			.way = &disk->ways[0],
			.first = cuts[i],
			.end = cuts[i + 1],
			.is_buffered = random_below(random, 2),
		};
		/* Through the partition, where it covers something of it. */
		if (area->first < part_end && area->end > part->start &&
		    random_below(random, 2)) {
			area->way = part;
			if (area->first < part->start)
				area->first = part->start;
			if (area->end > part_end)
				area->end = part_end;
		}
	}
}

/* --- judging --- */

/* Note what operations have done to the sectors, as far as it is certain. */
static void apply_ops(struct stamped_disk *disk, uint64_t *must,
		      uint64_t *zeroed, uint64_t ended_before,
		      uint64_t started_before)
{
	uint64_t i, s, nr = atomic_load(&run.nr_ops);

	for (i = 0; i < nr && i < MAX_OPS; i++) {
		const struct op *op = &run.ops[i];

		if (&run.disks[op->disk] != disk)
			continue;
		for (s = op->sector; s < op->sector + op->nr_sectors; s++) {
			if (op->is_certain && op->end < ended_before)
				must[s] = run.base + i;
			if (op->makes_zeros && op->start < started_before)
				zeroed[s] = run.base + i;
		}
	}
}

static void complain(const struct stamped_disk *disk, uint64_t sector,
		     const char *what, uint64_t have, uint64_t want)
{
	if (oracle.nr_different++ >= 5)
		return;
	ktap_note("round %u: %s sector %llu: %s", oracle.nr_done,
		  disk->member.disk->path, (unsigned long long)sector, what);
	ktap_note("  image holds %llu, must hold %llu or later",
		  (unsigned long long)have, (unsigned long long)want);
	ktap_note("  the round began with %llu, the take was from %llu to %llu",
		  (unsigned long long)run.base,
		  (unsigned long long)run.take_start,
		  (unsigned long long)run.take_end);
	if (have >= run.base && have - run.base < MAX_OPS)
		ktap_note("  it began at %llu and ended at %lld",
			  (unsigned long long)run.ops[have - run.base].start,
			  (long long)run.ops[have - run.base].end);
}

static bool is_zero_sector(const void *sector)
{
	return is_filled_with(sector, 0, SECTOR_SIZE);
}

/* The latest that is certain from what is in the image; complains about what began late. */
static uint64_t latest_start(const struct stamped_disk *disk)
{
	const uint8_t *at = disk->member.data;
	uint64_t sector, latest = 0;

	for (sector = 0; sector < nr_used_sectors(disk);
	     sector++, at += SECTOR_SIZE) {
		const struct stamp *stamp = (const struct stamp *)at;
		const struct op *op;

		if (stamp->sector != (ORACLE_MAGIC | sector)) {
			if (!is_zero_sector(at))
				complain(disk, sector, "foreign data",
					 stamp->sector, stamp->op);
			continue;
		}
		if (stamp->op < run.base)
			continue;
		op = &run.ops[stamp->op - run.base];
		if (op->start > run.take_end)
			complain(disk, sector, "written after the take",
				 stamp->op, 0);
		else if (op->since > latest)
			latest = op->since;
	}
	return latest;
}

static void judge(struct stamped_disk *disk, uint64_t instant)
{
	const size_t nr_bytes = nr_used_sectors(disk) * sizeof(uint64_t);
	uint64_t *must = malloc(nr_bytes), *zeroed = malloc(nr_bytes);
	const uint8_t *at = disk->member.data;
	uint64_t s;

	memcpy(must, disk->must, nr_bytes);
	memcpy(zeroed, disk->zeroed, nr_bytes);
	apply_ops(disk, must, zeroed, instant, run.take_end);
	for (s = 0; s < nr_used_sectors(disk); s++, at += SECTOR_SIZE) {
		const struct stamp *stamp = (const struct stamp *)at;

		if (stamp->sector == (ORACLE_MAGIC | s)) {
			if (stamp->op < must[s])
				complain(disk, s, "older than it can be",
					 stamp->op, must[s]);
		} else if (zeroed[s] < must[s]) {
			complain(disk, s, "zeros that nobody made", zeroed[s],
				 must[s]);
		}
	}
	free(must);
	free(zeroed);
}

static void judge_all(void)
{
	uint64_t instant = run.take_start, latest;
	unsigned int d;

	for (d = 0; d < run.nr_disks; d++) {
		latest = latest_start(&run.disks[d]);
		if (latest > instant)
			instant = latest;
	}
	for (d = 0; d < run.nr_disks; d++)
		judge(&run.disks[d], instant);
}

/* --- rounds --- */

static void add_disk(unsigned int i)
{
	struct stamped_disk *disk = &run.disks[run.nr_disks++];
	const struct disk *part = &oracle.parts[i];
	uint64_t s, *words;

	member_init(&disk->member, &oracle.disks[i], 0, RESERVED_SECTORS);
	way_open(&disk->ways[0], &oracle.disks[i], 0, 0);
	way_open(&disk->ways[1], part,
		 read_number("/sys/class/block/%s/start",
			     strrchr(part->path, '/') + 1), 0);
	words = calloc(2 * nr_used_sectors(disk), sizeof(*words));
	disk->must = words;
	disk->zeroed = words + nr_used_sectors(disk);
	/* The first operation writes everything. */
	for (s = 0; s < nr_used_sectors(disk); s++)
		disk->must[s] = 1;
	memset(disk->member.data, 0xee, disk->member.disk->nr_bytes);
	stamp_sectors(disk->member.data, 0, nr_used_sectors(disk), 1);
	for (s = 0; s < disk->member.disk->nr_bytes; s += MIB)
		ASSERT(write_direct(disk->member.disk->path,
				    disk->member.data + s, MIB, s));
}

static void start(unsigned int nr_disks)
{
	unsigned int i;

	memset(&run, 0, sizeof(run));
	for (i = 0; i < nr_disks; i++)
		add_disk(i);
	run.base = 2;
	run.ops = calloc(MAX_OPS, sizeof(*run.ops));
	crew_start(&run.crew, oracle.nr_threads, ktap_options.seed, stamp_work,
		   NULL);
}

static void stop(void)
{
	unsigned int d;

	crew_halt(&run.crew);
	crew_stop(&run.crew);
	for (d = 0; d < run.nr_disks; d++) {
		way_close(&run.disks[d].ways[0]);
		way_close(&run.disks[d].ways[1]);
		member_exit(&run.disks[d].member);
		free(run.disks[d].must);
	}
	free(run.ops);
}

/* Let nobody write, and everything be written. */
static void come_to_rest(void)
{
	unsigned int d, i;

	crew_halt(&run.crew);
	for (d = 0; d < run.nr_disks; d++)
		for (i = 0; i < 2; i++)
			way_sync(&run.disks[d].ways[i]);
	for (i = 0; i < CREW_MAX; i++) {
		unsigned int p;

		for (p = 0; p < run.pending[i].nr; p++)
			run.pending[i].ops[p]->end = tick();
		run.pending[i].nr = 0;
	}
}

static void finish_ops(void)
{
	unsigned int d;

	for (d = 0; d < run.nr_disks; d++)
		apply_ops(&run.disks[d], run.disks[d].must, run.disks[d].zeroed,
			  NOT_YET, NOT_YET);
	run.base += MAX_OPS;
	atomic_store(&run.nr_ops, 0);
}

static void take_amid_writes(void)
{
	struct member members[2];
	const struct disk *disks[2];
	unsigned int d;

	for (d = 0; d < run.nr_disks; d++) {
		disks[d] = run.disks[d].member.disk;
		members[d] = run.disks[d].member;
	}
	snapshot_create_of(&run.snapshot, disks, run.nr_disks);
	oracle_append(&run.snapshot, members, run.nr_disks, 0);
	for (d = 0; d < run.nr_disks; d++)
		run.disks[d].member.is_storage = members[d].is_storage;
	sleep_ms(random_below(&oracle.random, 40));
	run.take_start = tick();
	ASSERT_OK(control_snapshot_take(ctl, &run.snapshot.id));
	run.take_end = tick();
	snapshot_find_images(&run.snapshot);
}

static void read_images(void)
{
	unsigned int d;

	for (d = 0; d < run.nr_disks; d++) {
		struct member *member = &run.disks[d].member;

		ASSERT(read_direct(image_of(&run.snapshot, member->disk),
				   member->data, member->disk->nr_bytes, 0));
	}
}

static void compare_images(void)
{
	unsigned int d;

	for (d = 0; d < run.nr_disks; d++)
		member_compare(&run.disks[d].member,
			       image_of(&run.snapshot,
					run.disks[d].member.disk), true);
}

static void instant_round(void)
{
	unsigned int d;

	for (d = 0; d < run.nr_disks; d++)
		share_out(&run.disks[d]);
	crew_grant(&run.crew, CREW_FOR_EVER);
	take_amid_writes();
	read_images();
	oracle_append(&run.snapshot, NULL, 0, 1);
	come_to_rest();
	compare_images();
	judge_all();
	for (d = 0; d < run.nr_disks; d++)
		member_check_map(&run.disks[d].member);
	ASSERT_OK(control_snapshot_destroy(ctl, &run.snapshot.id));
	finish_ops();
}

static void instant_rounds(unsigned int nr_disks)
{
	start(nr_disks);
	while (oracle_goes_on() && !crew_error(&run.crew))
		instant_round();
	if (crew_error(&run.crew))
		FAIL("%s", crew_error(&run.crew));
	EXPECT_EQ(oracle.nr_different, 0);
	EXPECT_EQ(oracle.nr_unmarked, 0);
}

void instant_tear_down(void)
{
	stop();
	ctl_tear_down();
}

void test_take_amid_writes_is_one_instant(void)
{
	instant_rounds(1);
}

void test_take_of_two_disks_amid_writes_is_one_instant(void)
{
	instant_rounds(2);
}

void test_buffered_write_tells_when_its_batch_began(void)
{
	start(1);
	run.take_end = 30;
	run.ops[0].start = 10;
	add_pending(0, &run.ops[0]);
	run.ops[1].start = 20;
	add_pending(0, &run.ops[1]);
	run.pending[0].nr = 0;
	stamp_sectors(run.disks[0].member.data, 0, 1, run.base + 1);
	EXPECT_EQ(latest_start(&run.disks[0]), 10);
}
