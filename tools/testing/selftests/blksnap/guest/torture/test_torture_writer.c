// SPDX-License-Identifier: GPL-2.0
/*
 * Who writes to the origins and reads from them
 *
 * Several threads write to the same sectors at the same time, through different
 * nodes, in every way there is.  Only one thing is avoided: that a page which a
 * writer has changed in part is written as a whole.  The other part would be of
 * any age then, and nobody could say what is legal.  So who writes through the
 * page cache writes whole pages.
 */
#include <errno.h>
#include <linux/aio_abi.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "test_torture.h"

#define MAX_SHIFT 13U		/* of the sectors of one operation: 4 MiB */
#define MAX_BATCH 12U
#define MAX_BATCH_SHIFT 9U	/* 256 KiB each */
#define HOT_SECTORS 512U	/* where all meet, now and then */

/* --- the log --- */

/* Others write to the same blocks at the same time: the latest of all counts. */
static void touch(struct medium *medium, const struct op *op, uint64_t when)
{
	uint64_t block = op->sector / BLOCK_SECTORS;
	const uint64_t last = (op->sector + op->nr_sectors - 1) / BLOCK_SECTORS;
	uint_fast64_t before;

	for (; block <= last; block++) {
		before = atomic_load(&medium->touched[block]);
		while (before < when &&
		       !atomic_compare_exchange_weak(&medium->touched[block], &before, when))
			;
	}
}

/* Begin an operation; @nr_sectors and so on of @wanted.  NULL if the log is full. */
static struct op *op_begin(struct medium *medium, const struct op *wanted,
			   void *buffer)
{
	const unsigned int i = atomic_fetch_add(&medium->nr_ops, 1);
	struct op *op = &medium->ops[i];
	uint64_t start;

	if (i >= MAX_OPS) {
		/* Keep the count from wrapping while nobody begins a new log. */
		atomic_store(&medium->nr_ops, MAX_OPS);
		return NULL;
	}
	op->sector = wanted->sector;
	op->nr_sectors = wanted->nr_sectors;
	op->makes_zeros = wanted->makes_zeros;
	op->way = wanted->way;
	op->how = wanted->how;
	op->is_cached = wanted->is_cached;
	op->is_certain = false;
	if (!op->makes_zeros)
		stamp_words(medium, buffer, op->sector, op->nr_sectors,
			    medium->first_op + i);
	atomic_store(&op->end, NOT_YET);
	start = tick();
	touch(medium, op, start);
	atomic_store(&op->start, start);
	return op;
}

static void op_end(struct medium *medium, struct op *op,
		   enum write_result result)
{
	const uint64_t end = tick();

	touch(medium, op, end);
	op->is_certain = result == WRITE_DONE;
	atomic_store(&op->end, end);
	torture.nr_ops++;
	torture.nr_written_bytes += op->nr_sectors * SECTOR_SIZE;
}

/* --- where to --- */

static uint64_t round_down(uint64_t number, uint64_t unit)
{
	return number - number % unit;
}

/* A range of a way, in units that suit it. */
static void choose_range(const struct medium *medium, const struct way *way,
			 struct random *random, unsigned int max_shift,
			 struct op *op)
{
	const unsigned int unit = way->is_buffered ? BLOCK_SECTORS :
						     medium->block_sectors;
	const uint64_t size = round_down(way->nr_sectors, unit);
	uint64_t nr, room, at;

	nr = 1 + random_below(random, 1ULL << random_below(random,
				1 + random_below(random, max_shift + 1)));
	nr = round_down(nr + unit - 1, unit);
	if (nr > size)
		nr = size;
	room = size - nr + 1;
	if (room > HOT_SECTORS && !random_below(random, 4)) {
		/* At the end of the node as often as at its start. */
		at = random_below(random, HOT_SECTORS);
		if (random_below(random, 2))
			at = room - 1 - at;
	} else {
		at = random_below(random, room);
	}
	op->way = way - medium->ways;
	op->sector = way->start + round_down(at, unit);
	op->nr_sectors = nr;
}

static void tell_failure(const struct medium *medium, const struct op *op,
			 const char *what, int error)
{
	fault_add(FAULT_IO, "%s on %s, sectors %llu + %u: %s", what,
		  medium->disk.path, (unsigned long long)op->sector,
		  op->nr_sectors, strerror(error));
}

/* --- one at a time --- */

static const char *const kind_names[NR_WRITE_KINDS] = {
	"write", "buffered write", "write with O_DSYNC", "write without waiting",
	"BLKZEROOUT", "BLKDISCARD", "punching", "zeroing",
};

/* Some buffered writes and a sync, which ends all of them. */
static void write_buffered(struct worker *worker, struct medium *medium,
			   const struct way *way)
{
	struct random *random = &worker->random;
	unsigned int i, nr = 0, wanted_nr = 1 + random_below(random, MAX_BATCH);
	struct op *ops[MAX_BATCH], wanted;
	bool ok = true;

	worker_doing(worker, kind_names[WRITE_BUFFERED]);
	for (i = 0; i < wanted_nr; i++) {
		memset(&wanted, 0, sizeof(wanted));
		wanted.how = kind_names[WRITE_BUFFERED];
		wanted.is_cached = true;
		choose_range(medium, way, random, MAX_BATCH_SHIFT, &wanted);
		ops[nr] = op_begin(medium, &wanted, worker->buffer);
		if (!ops[nr])
			break;
		if (way_write(way, WRITE_BUFFERED, worker->buffer,
			      wanted.sector, wanted.nr_sectors) != WRITE_DONE)
			tell_failure(medium, &wanted, "buffered write", errno);
		nr++;
	}
	worker_doing(worker, "fdatasync");
	if (fdatasync(way->buffered)) {
		fault_add(FAULT_IO, "fdatasync of %s: %s", medium->disk.path,
			  strerror(errno));
		ok = false;
	}
	for (i = 0; i < nr; i++)
		op_end(medium, ops[i], ok ? WRITE_DONE : WRITE_FAILED);
}

static void write_once(struct worker *worker, struct medium *medium,
		       const struct way *way)
{
	struct random *random = &worker->random;
	enum write_kind kind = random_kind(random, way->is_buffered);
	struct op wanted, *op;
	enum write_result result;

	if (kind == WRITE_BUFFERED) {
		write_buffered(worker, medium, way);
		return;
	}
	/* A discard would drop pages of others and not replace them. */
	if (way->is_buffered && kind == WRITE_DISCARD)
		kind = WRITE_ZEROOUT;
	memset(&wanted, 0, sizeof(wanted));
	wanted.makes_zeros = write_makes_zeros(kind);
	wanted.how = kind_names[kind];
	wanted.is_cached = way->is_buffered && wanted.makes_zeros;
	choose_range(medium, way, random, MAX_SHIFT, &wanted);
	op = op_begin(medium, &wanted, worker->buffer);
	if (!op)
		return;
	worker_doing(worker, kind_names[kind]);
	result = way_write(way, kind, worker->buffer, op->sector,
			   op->nr_sectors);
	if (result == WRITE_FAILED && kind == WRITE_DISCARD &&
	    errno == EOPNOTSUPP)
		result = WRITE_PERHAPS;
	if (result == WRITE_FAILED)
		tell_failure(medium, op, kind_names[kind], errno);
	op_end(medium, op, result);
}

/* --- many at a time --- */

struct batch {
	struct medium *medium;
	struct op *ops[MAX_BATCH];
	struct iocb iocbs[MAX_BATCH];
	struct iocb *list[MAX_BATCH];
	unsigned int nr;
};

static void batch_fill(struct batch *batch, struct worker *worker,
		       const struct way *way)
{
	struct random *random = &worker->random;
	const unsigned int wanted_nr = 2 + random_below(random, MAX_BATCH - 1);
	uint8_t *buffer = worker->buffer;
	struct op wanted, *op;

	while (batch->nr < wanted_nr) {
		struct iocb *iocb = &batch->iocbs[batch->nr];

		memset(&wanted, 0, sizeof(wanted));
		wanted.how = "asynchronous write";
		choose_range(batch->medium, way, random, MAX_BATCH_SHIFT,
			     &wanted);
		op = op_begin(batch->medium, &wanted, buffer);
		if (!op)
			return;
		memset(iocb, 0, sizeof(*iocb));
		iocb->aio_lio_opcode = IOCB_CMD_PWRITE;
		iocb->aio_fildes = way->direct;
		iocb->aio_buf = (uintptr_t)buffer;
		iocb->aio_nbytes = op->nr_sectors * SECTOR_SIZE;
		iocb->aio_offset = (op->sector - way->start) * SECTOR_SIZE;
		iocb->aio_data = batch->nr;
		buffer += (size_t)SECTOR_SIZE << MAX_BATCH_SHIFT;
		batch->ops[batch->nr] = op;
		batch->list[batch->nr] = iocb;
		batch->nr++;
	}
}

static void batch_wait(struct batch *batch, aio_context_t context,
		       unsigned int nr)
{
	struct io_event event;

	while (nr) {
		if (syscall(SYS_io_getevents, context, 1, 1, &event, NULL) != 1)
			continue;
		nr--;
		if (event.res != (__s64)batch->iocbs[event.data].aio_nbytes)
			tell_failure(batch->medium, batch->ops[event.data],
				     "asynchronous write",
				     event.res < 0 ? -event.res : EIO);
		op_end(batch->medium, batch->ops[event.data], WRITE_DONE);
	}
}

static void write_batch(struct worker *worker, struct medium *medium,
			const struct way *way)
{
	struct batch batch = { .medium = medium };
	aio_context_t context = 0;
	long done = 0;
	unsigned int i;

	worker_doing(worker, "asynchronous writes");
	if (syscall(SYS_io_setup, MAX_BATCH, &context))
		return;
	batch_fill(&batch, worker, way);
	if (batch.nr)
		done = syscall(SYS_io_submit, context, (long)batch.nr,
			       batch.list);
	if (done < 0)
		done = 0;
	batch_wait(&batch, context, done);
	/* What was not submitted was not written. */
	for (i = done; i < batch.nr; i++)
		op_end(medium, batch.ops[i], WRITE_PERHAPS);
	syscall(SYS_io_destroy, context);
}

/* --- threads --- */

/* A medium without files, or NULL. */
static struct medium *raw_medium(struct random *random)
{
	struct medium *medium =
		&torture.media[random_below(random, torture.nr_media)];

	return medium->has_files || !medium->nr_ways ? NULL : medium;
}

/* Change something, somewhere; worker_fn. */
void writer_work(struct worker *worker)
{
	struct random *random = &worker->random;
	struct medium *medium = raw_medium(random);
	const struct way *way;

	if (!medium || atomic_load(&medium->nr_ops) >= MAX_OPS) {
		worker_doing(worker, "resting");
		sleep_ms(1);
		return;
	}
	worker_doing(worker, "waiting until it may write");
	pthread_rwlock_rdlock(&medium->still);
	way = &medium->ways[random_below(random, medium->nr_ways)];
	if (!way->is_buffered && !random_below(random, 4))
		write_batch(worker, medium, way);
	else
		write_once(worker, medium, way);
	pthread_rwlock_unlock(&medium->still);
	if (!random_below(random, 64))
		sleep_ms(random_below(random, 30));
}

static void read_piece(struct worker *worker, struct medium *medium)
{
	struct random *random = &worker->random;
	const struct way *way =
		&medium->ways[random_below(random, medium->nr_ways)];
	struct op range;
	uint8_t *at = worker->buffer;
	uint64_t s;

	memset(&range, 0, sizeof(range));
	choose_range(medium, way, random, MAX_SHIFT - 2, &range);
	worker_doing(worker, "reading an origin");
	if (pread(way->direct, worker->buffer, range.nr_sectors * SECTOR_SIZE,
		  (range.sector - way->start) * SECTOR_SIZE) !=
	    (ssize_t)(range.nr_sectors * SECTOR_SIZE)) {
		tell_failure(medium, &range, "read", errno);
		return;
	}
	torture.nr_read_bytes += range.nr_sectors * SECTOR_SIZE;
	for (s = 0; s < range.nr_sectors; s++, at += SECTOR_SIZE) {
		if (sector_is_plausible(medium, range.sector + s, at))
			continue;
		fault_add(FAULT_ORIGIN, "%s sector %llu holds what nobody wrote there",
			  medium->disk.path,
			  (unsigned long long)(range.sector + s));
		report_sector(medium, "seen", at);
		return;
	}
}

/* Read or sync some origin; worker_fn. */
void reader_work(struct worker *worker)
{
	struct random *random = &worker->random;
	struct medium *medium = raw_medium(random);

	if (medium && random_below(random, 4)) {
		read_piece(worker, medium);
	} else if (medium) {
		worker_doing(worker, "fsync");
		if (fsync(medium->ways[random_below(random,
						    medium->nr_ways)].direct))
			fault_add(FAULT_IO, "fsync of %s: %s",
				  medium->disk.path, strerror(errno));
	}
	worker_doing(worker, "resting");
	sleep_ms(random_below(random, 10));
}
