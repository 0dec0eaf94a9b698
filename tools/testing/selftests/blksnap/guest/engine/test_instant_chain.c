// SPDX-License-Identifier: GPL-2.0
/*
 * Chains of writes, and what they leave in a set of images
 *
 * Writers of several kinds work at the same time, each on chains of its own: one
 * chain where a write returns when it has completed, several that interleave
 * where writes are asynchronous.
 *
 * A step says where a chain's next write goes and how long it is.  It comes from
 * a random generator of the chain, so the judge, who goes through the same steps,
 * knows it too.  Every sector that a write covers holds its number.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "test_instant.h"

#define STAMP_MAGIC 0x626c6b736e617021ULL
#define WRITE_SECTORS_MAX 16U
#define PAGE_SECTORS 8U
#define POLLED_PAUSE_US 1000U

enum writer_kind {
	WRITER_DIRECT,		/* returns when it has completed */
	WRITER_DSYNC,		/* the same with FUA or a flush */
	WRITER_BUFFERED,	/* page cache, and a sync for each write */
	WRITER_AIO,
	WRITER_URING,
	WRITER_POLLED,
	NR_WRITER_KINDS
};

static const struct {
	const char *name;
	enum async_kind async;	/* from WRITER_AIO on */
} kinds[NR_WRITER_KINDS] = {
	[WRITER_DIRECT] = { .name = "direct writer" },
	[WRITER_DSYNC] = { .name = "writer with O_DSYNC" },
	[WRITER_BUFFERED] = { .name = "buffered writer" },
	[WRITER_AIO] = { "writer by libaio", ASYNC_AIO },
	[WRITER_URING] = { "writer by io_uring", ASYNC_URING },
	[WRITER_POLLED] = { "writer that polls", ASYNC_URING_POLLED },
};

/* Beginning of each sector; its last word is the number again. */
struct chain_stamp {
	uint64_t magic;
	uint64_t number;
	uint32_t chain;
	uint16_t place;
	uint16_t sector;
};

struct writer {
	enum writer_kind kind;
	struct chain *chains;
	unsigned int nr_chains;
	int fds[NR_PLACES];
	pthread_t thread;
	char error[160];	/* empty if there was none */
};

/* The writers, and how many chains each of them has. */
static const struct {
	enum writer_kind kind;
	unsigned int nr_chains;
} crew[] = {
	{ WRITER_DIRECT, 1 },
	{ WRITER_DSYNC, 1 },
	{ WRITER_BUFFERED, 1 },
	{ WRITER_AIO, 4 },
	{ WRITER_URING, 4 },
	{ WRITER_POLLED, 1 },
};

static struct {
	struct chain chains[NR_CHAINS_MAX];
	unsigned int nr_chains;
	struct writer writers[ARRAY_SIZE(crew)];
	unsigned int nr_writers;
	uint8_t *areas[NR_PLACES];	/* what was read of each place */
	uint8_t *other;			/* the same of another image */
	atomic_bool is_over, is_paused;
	pthread_mutex_t pause_lock;
	pthread_cond_t pause_end;
	bool is_running;
	unsigned int nr_complaints;
} run;

unsigned int chains_nr(void)
{
	return run.nr_chains;
}

/* --- steps --- */

static void choose_sectors(struct step *step, unsigned int unit, unsigned int nr_max,
			   unsigned int nr_room)
{
	unsigned int nr = 1 + random_below(&step->random, nr_max);

	step->nr_sectors = nr * unit;
	step->sector = random_below(&step->random, nr_room - nr + 1) * unit;
}

static void step_next(const struct chain *chain, struct step *step)
{
	struct random *random = &step->random;
	unsigned int page;

	step->number++;
	step->place = (step->place + 1 + random_below(random, NR_PLACES - 1)) %
		      NR_PLACES;
	switch (chain->grain) {
	case GRAIN_SECTORS:
		choose_sectors(step, 1, WRITE_SECTORS_MAX, CHAIN_SECTORS);
		break;
	case GRAIN_IN_PAGE:
		page = random_below(random, CHAIN_SECTORS / PAGE_SECTORS);
		choose_sectors(step, 1, PAGE_SECTORS, PAGE_SECTORS);
		step->sector += page * PAGE_SECTORS;
		break;
	case GRAIN_PAGE:
		choose_sectors(step, PAGE_SECTORS, 1, CHAIN_SECTORS / PAGE_SECTORS);
		break;
	}
}

static void stamp(void *sector, const struct chain *chain, unsigned int place,
		  unsigned int index, uint64_t number)
{
	struct chain_stamp *stamp = sector;

	*stamp = (struct chain_stamp) {
		.magic = STAMP_MAGIC,
		.number = number,
		.chain = chain->index,
		.place = place,
		.sector = index,
	};
	((uint64_t *)sector)[SECTOR_SIZE / sizeof(uint64_t) - 1] = number;
}

static bool stamp_is_whole(const void *sector, const struct chain *chain,
			   unsigned int place, unsigned int index)
{
	const struct chain_stamp *stamp = sector;

	return stamp->magic == STAMP_MAGIC && stamp->chain == chain->index &&
	       stamp->place == place && stamp->sector == index &&
	       stamp->number == ((const uint64_t *)sector)[SECTOR_SIZE /
						sizeof(uint64_t) - 1];
}

/* --- writers --- */

static uint64_t chain_at(const struct chain *chain)
{
	return stack.places[chain->step.place].at + chain->index * CHAIN_BYTES +
	       chain->step.sector * SECTOR_SIZE;
}

/* Go to the next step; returns where it writes to. */
static uint64_t chain_begin(struct chain *chain)
{
	struct step *step = &chain->step;
	unsigned int i;

	step_next(chain, step);
	for (i = 0; i < step->nr_sectors; i++)
		stamp((uint8_t *)chain->buffer + i * SECTOR_SIZE, chain,
		      step->place, step->sector + i, step->number);
	chain->begun_ns = now_ns();
	atomic_store(&chain->begun, step->number);
	return chain_at(chain);
}

static void chain_end(struct chain *chain)
{
	uint64_t ns = now_ns() - chain->begun_ns;

	atomic_store(&chain->ended, chain->step.number);
	if (ns > atomic_load(&chain->slowest_ns))
		atomic_store(&chain->slowest_ns, ns);
}

/* @result: what was written, or a negative errno. */
static void chain_fail(struct writer *writer, const struct chain *chain,
		       const char *what, long result)
{
	snprintf(writer->error, sizeof(writer->error),
		 "%s: %s %llu of chain %u, %u sectors at %llu of %s: %ld (%s)",
		 kinds[writer->kind].name, what,
		 (unsigned long long)chain->step.number, chain->index,
		 chain->step.nr_sectors, (unsigned long long)chain_at(chain),
		 stack.places[chain->step.place].path, result,
		 result < 0 ? strerror(-result) : "short");
}

static void write_one(struct writer *writer, struct chain *chain)
{
	uint64_t at = chain_begin(chain);
	size_t nr_bytes = chain->step.nr_sectors * SECTOR_SIZE;
	int fd = writer->fds[chain->step.place];
	ssize_t nr;

	nr = pwrite(fd, chain->buffer, nr_bytes, at);
	if (nr != (ssize_t)nr_bytes)
		chain_fail(writer, chain, "write", nr < 0 ? -errno : nr);
	else if (writer->kind == WRITER_BUFFERED && fdatasync(fd))
		chain_fail(writer, chain, "sync behind write", -errno);
	else
		chain_end(chain);
}

/* Returns when the writer may write, or with false when it is over. */
static bool may_go_on(void)
{
	if (!atomic_load(&run.is_paused))
		return !atomic_load(&run.is_over);
	pthread_mutex_lock(&run.pause_lock);
	while (atomic_load(&run.is_paused) && !atomic_load(&run.is_over))
		pthread_cond_wait(&run.pause_end, &run.pause_lock);
	pthread_mutex_unlock(&run.pause_lock);
	return !atomic_load(&run.is_over);
}

static void set_pause(atomic_bool *which, bool value)
{
	pthread_mutex_lock(&run.pause_lock);
	atomic_store(which, value);
	pthread_cond_broadcast(&run.pause_end);
	pthread_mutex_unlock(&run.pause_lock);
}

/* Begin no write until chains_resume(); does not wait for those under way. */
void chains_pause(void)
{
	set_pause(&run.is_paused, true);
}

void chains_resume(void)
{
	set_pause(&run.is_paused, false);
}

static void write_in_turn(struct writer *writer)
{
	while (!writer->error[0] && may_go_on())
		write_one(writer, writer->chains);
}

/* Returns whether the chain's next write is under way. */
static bool chain_submit(struct writer *writer, struct async *async,
			 unsigned int nr)
{
	struct chain *chain = &writer->chains[nr];
	uint64_t at = chain_begin(chain);
	struct async_request request = {
		.at = at,
		.fd = writer->fds[chain->step.place],
		.buffer = chain->buffer,
		.nr_bytes = chain->step.nr_sectors * SECTOR_SIZE,
		/* Every other chain is one of writes with FUA. */
		.flags = writer->kind != WRITER_POLLED &&
			 chain->index % 2 ? RWF_DSYNC : 0,
		.tag = nr,
	};
	int ret = async_write(async, &request);

	if (ret)
		chain_fail(writer, chain, "submission of write", ret);
	return !ret;
}

/* What a polled queue cannot do is refused, and done in another way. */
static long chain_retry(struct writer *writer, struct chain *chain)
{
	ssize_t nr = pwrite(writer->fds[chain->step.place], chain->buffer,
			    chain->step.nr_sectors * SECTOR_SIZE,
			    chain_at(chain));

	return nr < 0 ? -errno : nr;
}

static void chain_reaped(struct writer *writer, struct chain *chain, long result)
{
	if (writer->kind == WRITER_POLLED &&
	    (result == -EOPNOTSUPP || result == -EAGAIN))
		result = chain_retry(writer, chain);
	if (result == (long)(chain->step.nr_sectors * SECTOR_SIZE))
		chain_end(chain);
	else
		chain_fail(writer, chain, "write", result);
}

static void write_interleaved(struct writer *writer, struct async *async)
{
	struct async_event events[ASYNC_DEPTH_MAX];
	unsigned int i, nr_under_way = 0;
	int nr;

	while (nr_under_way < writer->nr_chains &&
	       chain_submit(writer, async, nr_under_way))
		nr_under_way++;
	while (nr_under_way) {
		nr = async_reap(async, events, 1);
		if (nr < 0) {
			snprintf(writer->error, sizeof(writer->error),
				 "%s: reaping: %s", kinds[writer->kind].name,
				 strerror(-nr));
			return;
		}
		/* Polling takes a processor, so do it only now and then. */
		if (writer->kind == WRITER_POLLED)
			usleep(POLLED_PAUSE_US);
		for (i = 0; i < (unsigned int)nr; i++) {
			nr_under_way--;
			chain_reaped(writer, &writer->chains[events[i].tag],
				     events[i].result);
			if (!writer->error[0] && may_go_on() &&
			    chain_submit(writer, async, events[i].tag))
				nr_under_way++;
		}
	}
}

static void write_async(struct writer *writer)
{
	struct async *async = async_open(kinds[writer->kind].async,
					 ASYNC_DEPTH_MAX);

	if (!async) {
		snprintf(writer->error, sizeof(writer->error),
			 "%s: this kernel does not have it",
			 kinds[writer->kind].name);
		return;
	}
	write_interleaved(writer, async);
	async_close(async);
}

static void *writer_run(void *data)
{
	struct writer *writer = data;

	if (writer->kind < WRITER_AIO)
		write_in_turn(writer);
	else
		write_async(writer);
	return NULL;
}

static int writer_flags(enum writer_kind kind)
{
	switch (kind) {
	case WRITER_BUFFERED:
		return O_WRONLY;
	case WRITER_DSYNC:
		return O_WRONLY | O_DIRECT | O_DSYNC;
	default:
		return O_WRONLY | O_DIRECT;
	}
}

static void writer_open(struct writer *writer)
{
	unsigned int i;

	for (i = 0; i < NR_PLACES; i++)
		writer->fds[i] = ASSERT_OK(open(stack.places[i].path,
						writer_flags(writer->kind) |
						O_CLOEXEC));
}

static void writer_close(struct writer *writer)
{
	unsigned int i;

	for (i = 0; i < NR_PLACES; i++)
		if (writer->fds[i] > 0)
			close(writer->fds[i]);
}

/* --- all together --- */

static void chain_init(struct chain *chain, unsigned int index, uint64_t seed,
		       enum grain grain)
{
	memset(chain, 0, sizeof(*chain));
	chain->index = index;
	chain->grain = grain;
	chain->buffer = alloc_aligned(WRITE_SECTORS_MAX * SECTOR_SIZE);
	random_init(&chain->step.random, seed + 1000 * index);
	chain->known = chain->step;
}

/* The number 0 everywhere; files get their blocks by that. */
static void fill_place(unsigned int place)
{
	unsigned int c, s;

	for (c = 0; c < run.nr_chains; c++)
		for (s = 0; s < CHAIN_SECTORS; s++)
			stamp(run.areas[place] + c * CHAIN_BYTES + s * SECTOR_SIZE,
			      &run.chains[c], place, s, 0);
	ASSERT(write_direct(stack.places[place].path, run.areas[place],
			    run.nr_chains * CHAIN_BYTES, stack.places[place].at));
}

/*
 * A buffered write that spans pages can be torn.  And what is polled for has to
 * be a page: older kernels have nobody poll for a part of a file's block, and
 * refuse to split such a write.
 */
static enum grain writer_grain(enum writer_kind kind)
{
	switch (kind) {
	case WRITER_BUFFERED:
		return GRAIN_IN_PAGE;
	case WRITER_POLLED:
		return GRAIN_PAGE;
	default:
		return GRAIN_SECTORS;
	}
}

static void add_writer(enum writer_kind kind, unsigned int nr_chains, uint64_t seed)
{
	struct writer *writer = &run.writers[run.nr_writers++];
	unsigned int i;

	*writer = (struct writer) {
		.kind = kind,
		.chains = &run.chains[run.nr_chains],
		.nr_chains = nr_chains,
	};
	for (i = 0; i < nr_chains; i++, run.nr_chains++)
		chain_init(&run.chains[run.nr_chains], run.nr_chains, seed,
			   writer_grain(kind));
}

/**
 * chains_start() - fill the places of the stack and let all writers write
 * @seed:	of everything they do
 */
void chains_start(uint64_t seed)
{
	unsigned int i;

	memset(&run, 0, sizeof(run));
	pthread_mutex_init(&run.pause_lock, NULL);
	pthread_cond_init(&run.pause_end, NULL);
	for (i = 0; i < ARRAY_SIZE(crew); i++)
		add_writer(crew[i].kind, crew[i].nr_chains, seed);
	run.other = alloc_aligned(AREA_BYTES);
	for (i = 0; i < NR_PLACES; i++) {
		run.areas[i] = alloc_aligned(AREA_BYTES);
		fill_place(i);
	}
	for (i = 0; i < run.nr_writers; i++)
		writer_open(&run.writers[i]);
	run.is_running = true;
	for (i = 0; i < run.nr_writers; i++)
		if (pthread_create(&run.writers[i].thread, NULL, writer_run,
				   &run.writers[i]))
			exit(KTAP_FAIL);
}

/* Let the writers finish; returns what went wrong last, or NULL. */
const char *chains_stop(void)
{
	const char *error = NULL;
	unsigned int i;

	if (!run.is_running)
		return NULL;
	set_pause(&run.is_over, true);
	for (i = 0; i < run.nr_writers; i++) {
		pthread_join(run.writers[i].thread, NULL);
		writer_close(&run.writers[i]);
		if (run.writers[i].error[0])
			error = run.writers[i].error;
	}
	run.is_running = false;
	return error;
}

void chains_free(void)
{
	unsigned int i;

	for (i = 0; i < run.nr_chains; i++)
		free(run.chains[i].buffer);
	for (i = 0; i < NR_PLACES; i++)
		free(run.areas[i]);
	free(run.other);
	memset(&run, 0, sizeof(run));
}

uint64_t chains_nr_written(void)
{
	uint64_t nr = 0;
	unsigned int i;

	for (i = 0; i < run.nr_chains; i++)
		nr += atomic_load(&run.chains[i].ended);
	return nr;
}

/* To be called before a take: what has completed has to be in the images. */
void chains_note_before(void)
{
	unsigned int i;

	for (i = 0; i < run.nr_chains; i++) {
		run.chains[i].ended_before = atomic_load(&run.chains[i].ended);
		atomic_store(&run.chains[i].slowest_ns, 0);
	}
}

/* To be called after a take: what has not begun cannot be in the images. */
void chains_note_after(void)
{
	unsigned int i;

	for (i = 0; i < run.nr_chains; i++)
		run.chains[i].begun_after = atomic_load(&run.chains[i].begun);
}

/* The longest that a write took that ended since chains_note_before(). */
uint64_t chains_slowest_ns(void)
{
	uint64_t slowest_ns = 0;
	unsigned int i;

	for (i = 0; i < run.nr_chains; i++) {
		uint64_t ns = atomic_load(&run.chains[i].slowest_ns);

		if (ns > slowest_ns)
			slowest_ns = ns;
	}
	return slowest_ns;
}

/* --- judging --- */

static const uint8_t *sector_of(const struct chain *chain, unsigned int place,
				unsigned int sector)
{
	return run.areas[place] + chain->index * CHAIN_BYTES +
	       sector * SECTOR_SIZE;
}

static uint64_t number_of(const struct chain *chain, unsigned int place,
			  unsigned int sector)
{
	return ((const struct chain_stamp *)sector_of(chain, place,
						      sector))->number;
}

static void complain(const struct chain *chain, unsigned int place,
		     unsigned int sector, const char *what)
{
	if (run.nr_complaints++ >= 10)
		return;
	ktap_note("chain %u, place %u, sector %u: %s", chain->index, place,
		  sector, what);
	ktap_note("  holds write %llu, must hold %llu; last write that is there: %llu",
		  (unsigned long long)number_of(chain, place, sector),
		  (unsigned long long)chain->numbers[place][sector],
		  (unsigned long long)chain->known.number);
	ktap_note("  %llu had completed before the take, %llu had begun at its end",
		  (unsigned long long)chain->ended_before,
		  (unsigned long long)chain->begun_after);
}

/* The last write that is there; false if there is anything but writes. */
static bool find_last(const struct chain *chain, uint64_t *last)
{
	unsigned int p, s;

	*last = 0;
	for (p = 0; p < NR_PLACES; p++)
		for (s = 0; s < CHAIN_SECTORS; s++) {
			if (!stamp_is_whole(sector_of(chain, p, s), chain, p, s)) {
				complain(chain, p, s, "foreign or torn data");
				return false;
			}
			if (number_of(chain, p, s) > *last)
				*last = number_of(chain, p, s);
		}
	return true;
}

static bool judge_last(const struct chain *chain, uint64_t last)
{
	if (last < chain->known.number)
		ktap_note("chain %u: write %llu was in earlier images, now only %llu is",
			  chain->index,
			  (unsigned long long)chain->known.number,
			  (unsigned long long)last);
	else if (last < chain->ended_before)
		ktap_note("chain %u: write %llu had completed before, but the last there is %llu",
			  chain->index,
			  (unsigned long long)chain->ended_before,
			  (unsigned long long)last);
	else if (last > chain->begun_after)
		ktap_note("chain %u: write %llu is there, but the last begun by then was %llu",
			  chain->index, (unsigned long long)last,
			  (unsigned long long)chain->begun_after);
	else
		return true;
	return false;
}

/* Go through the writes that are new since the last time. */
static void chain_advance(struct chain *chain, uint64_t last)
{
	unsigned int i;

	while (chain->known.number < last) {
		struct step *step = &chain->known;

		step_next(chain, step);
		for (i = 0; i < step->nr_sectors; i++)
			chain->numbers[step->place][step->sector + i] =
				step->number;
	}
}

static bool judge_chain(struct chain *chain)
{
	unsigned int p, s;
	bool ok = true;
	uint64_t last;

	if (!find_last(chain, &last) || !judge_last(chain, last))
		return false;
	chain_advance(chain, last);
	for (p = 0; p < NR_PLACES; p++)
		for (s = 0; s < CHAIN_SECTORS; s++)
			if (number_of(chain, p, s) != chain->numbers[p][s]) {
				complain(chain, p, s,
					 number_of(chain, p, s) <
					 chain->numbers[p][s] ?
					 "an earlier write is missing" :
					 "a write is too much");
				ok = false;
			}
	return ok;
}

static bool judge_chains(void)
{
	unsigned int i;
	bool ok = true;

	for (i = 0; i < run.nr_chains; i++)
		ok &= judge_chain(&run.chains[i]);
	return ok;
}

static bool read_image(struct snapshot *snapshot, unsigned int place,
		       unsigned int nr, void *area)
{
	const struct place *p = &stack.places[place];

	return read_direct(image_of(snapshot, &stack.members[p->shown[nr].member]),
			   area, run.nr_chains * CHAIN_BYTES, p->shown[nr].at);
}

/*
 * Two images that show the same place have to show the same, except for writes that
 * were under way at the take: such a write may be in the one and not in the other.
 */
static bool judge_second_sector(const struct chain *chain, unsigned int place, unsigned int sector)
{
	const uint8_t *first = sector_of(chain, place, sector);
	const uint8_t *second = (uint8_t *)run.other + (first - (uint8_t *)run.areas[place]);
	uint64_t number = number_of(chain, place, sector);
	uint64_t other = ((const struct chain_stamp *)second)->number;

	if (!memcmp(first, second, SECTOR_SIZE))
		return true;
	if (stamp_is_whole(second, chain, place, sector) &&
	    (number > other ? number : other) > chain->ended_before)
		return true;
	ktap_note("place %u, chain %u, sector %u: write %llu in the one, of %s, %llu in that of %s",
		  place, chain->index, sector, (unsigned long long)number,
		  stack.members[stack.places[place].shown[0].member].path,
		  (unsigned long long)other,
		  stack.members[stack.places[place].shown[1].member].path);
	return false;
}

static bool judge_second_image(struct snapshot *snapshot, unsigned int place)
{
	unsigned int i, sector;
	bool ok = true;

	if (!read_image(snapshot, place, 1, run.other))
		return false;
	for (i = 0; i < run.nr_chains; i++)
		for (sector = 0; sector < CHAIN_SECTORS; sector++)
			ok &= judge_second_sector(&run.chains[i], place, sector);
	return ok;
}

/**
 * chains_judge_images() - is every chain in the images up to some write?
 * @snapshot:	taken between chains_note_before() and chains_note_after()
 *
 * Return: true if each chain is there up to a write that the take allows, with
 *	   all the writes before it and none after it.
 */
bool chains_judge_images(struct snapshot *snapshot)
{
	unsigned int p;
	bool ok = true;

	for (p = 0; p < NR_PLACES; p++)
		if (!read_image(snapshot, p, 0, run.areas[p]))
			return false;
	ok = judge_chains();
	for (p = 0; p < NR_PLACES; p++)
		if (stack.places[p].nr_shown > 1)
			ok &= judge_second_image(snapshot, p);
	return ok;
}

/**
 * chains_judge_origins() - have all the writes reached the origins?
 *
 * To be called behind chains_stop().
 *
 * Return: true if every chain is there as a whole.
 */
bool chains_judge_origins(void)
{
	unsigned int p;

	for (p = 0; p < NR_PLACES; p++)
		if (!read_direct(stack.places[p].path, run.areas[p],
				 run.nr_chains * CHAIN_BYTES,
				 stack.places[p].at))
			return false;
	chains_note_before();
	chains_note_after();
	return judge_chains();
}
