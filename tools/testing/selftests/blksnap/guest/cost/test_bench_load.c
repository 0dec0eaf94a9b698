// SPDX-License-Identifier: GPL-2.0
/*
 * Loads, and what they cost
 *
 * A load is made up before it runs, so that nothing is measured but submitting
 * and waiting, which is the same for every way.
 */
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "test_bench.h"

/*
 * Shorter than a tick of the kernel, the best of these has none in it.  The rest
 * of what varies comes from memory that runs out now and then.
 */
#define BATCHES 24
#define SETTLE_MS 200	/* stores begin after 50 ms at the latest */
#define ZIPF_AREA (64 * KIB)

static void load_alloc(struct load *load, unsigned int nr)
{
	load->nr = nr;
	load->depth = 1;
	load->requests = calloc(nr, sizeof(load->requests[0]));
	ASSERT(!nr || load->requests);
}

void load_free(struct load *load)
{
	free(load->requests);
	load->requests = NULL;
}

/* One request every @stride bytes. */
void load_stride(struct load *load, bool is_write, size_t nr_bytes,
		 unsigned int nr, uint64_t stride)
{
	unsigned int i;

	load_alloc(load, nr);
	for (i = 0; i < nr; i++)
		load->requests[i] = (struct request){ i * stride, nr_bytes,
						      is_write };
}

/* Anywhere in the first @span bytes. */
void load_random(struct load *load, bool is_write, size_t nr_bytes,
		 unsigned int nr, uint64_t span)
{
	struct random random;
	unsigned int i;

	load_alloc(load, nr);
	random_init(&random, ktap_options.seed);
	for (i = 0; i < nr; i++) {
		uint64_t at = random_below(&random, span / nr_bytes) * nr_bytes;

		load->requests[i] = (struct request){ at, nr_bytes, is_write };
	}
}

/* Each of @nr blocks once, @step blocks apart, which is prime to their number. */
void load_shuffle(struct load *load, bool is_write, size_t nr_bytes,
		  unsigned int nr, unsigned int step)
{
	unsigned int i;

	load_alloc(load, nr);
	for (i = 0; i < nr; i++) {
		uint64_t at = (uint64_t)i * step % nr * nr_bytes;

		load->requests[i] = (struct request){ at, nr_bytes, is_write };
	}
}

/* Random writes until each block of the first @span bytes was hit. */
void load_cover(struct load *load, size_t nr_bytes, uint64_t span)
{
	const unsigned int nr_blocks = span / nr_bytes;
	bool *is_hit = calloc(nr_blocks, sizeof(*is_hit));
	unsigned int nr_left = nr_blocks;
	unsigned int i;

	ASSERT(is_hit);
	/* Enough for all but one of thousands of seeds. */
	load_random(load, true, nr_bytes, 20 * nr_blocks, span);
	for (i = 0; i < load->nr && nr_left; i++) {
		bool *hit = &is_hit[load->requests[i].at / nr_bytes];

		nr_left -= !*hit;
		*hit = true;
	}
	load->nr = i;
	free(is_hit);
	ASSERT_EQ(nr_left, 0);
}

/* Sums of 1/1, 1/2, 1/3 ... */
static double *zipf_sums(unsigned int nr)
{
	double *sums = calloc(nr, sizeof(*sums));
	double sum = 0;
	unsigned int i;

	ASSERT(sums);
	for (i = 0; i < nr; i++) {
		sum += 1.0 / (i + 1);
		sums[i] = sum;
	}
	return sums;
}

/* 70 % reads, 30 % writes of 4 to 64 KiB; some areas are hit more than others. */
void load_mix(struct load *load, unsigned int nr, uint64_t span)
{
	const unsigned int nr_areas = span / ZIPF_AREA;
	double *sums = zipf_sums(nr_areas);
	struct random random;
	unsigned int i, rank;

	load_alloc(load, nr);
	random_init(&random, ktap_options.seed);
	for (i = 0; i < nr; i++) {
		struct request *request = &load->requests[i];
		double hit = random_below(&random, MIB) * sums[nr_areas - 1] / MIB;

		for (rank = 0; sums[rank] < hit; rank++)
			;
		/* An odd factor, so that neighbours in rank are not on disk. */
		request->at = rank * 389ULL % nr_areas * ZIPF_AREA;
		request->nr_bytes = 4096U << random_below(&random, 5);
		request->at += random_below(&random, ZIPF_AREA /
					    request->nr_bytes) *
			       request->nr_bytes;
		request->is_write = random_below(&random, 10) < 3;
	}
	free(sums);
}

/* Some of the requests of another load, as reads or as writes. */
void load_part(struct load *part, const struct load *load, unsigned int first,
	       unsigned int nr, bool is_write)
{
	unsigned int i;

	ASSERT(first + nr <= load->nr);
	load_alloc(part, nr);
	for (i = 0; i < nr; i++) {
		part->requests[i] = load->requests[first + i];
		part->requests[i].is_write = is_write;
	}
}

/**
 * struct runner - a load at work
 * @iocbs:	one for each request under way
 * @idle:	those of them that are not
 * @submit_ns:	how long io_submit() took by request, or NULL
 * @took_ns:	when a request was submitted, then how long it took, or NULL
 */
struct runner {
	int fd;
	aio_context_t context;
	struct iocb iocbs[LOAD_DEPTH_MAX];
	struct iocb *idle[LOAD_DEPTH_MAX];
	unsigned int nr_idle;
	unsigned int nr_failed;
	uint64_t *submit_ns;
	uint64_t *took_ns;
};

static void *buffer;

static bool runner_open(struct runner *runner, const char *path)
{
	/* Always the same pages: their places in memory make segments. */
	if (!buffer) {
		buffer = alloc_aligned(LOAD_BYTES_MAX);
		memset(buffer, 0x5a, LOAD_BYTES_MAX);
	}
	memset(runner, 0, sizeof(*runner));
	runner->fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	return runner->fd >= 0 &&
	       !syscall(SYS_io_setup, LOAD_DEPTH_MAX, &runner->context);
}

static bool runner_close(struct runner *runner)
{
	syscall(SYS_io_destroy, runner->context);
	close(runner->fd);
	return !runner->nr_failed;
}

static void runner_reap(struct runner *runner, unsigned int nr_at_least)
{
	struct io_event events[LOAD_DEPTH_MAX];
	long i, nr;

	nr = syscall(SYS_io_getevents, runner->context, nr_at_least,
		     LOAD_DEPTH_MAX, events, NULL);
	for (i = 0; i < nr; i++) {
		struct iocb *iocb = (struct iocb *)(uintptr_t)events[i].obj;

		runner->nr_failed += events[i].res != (int64_t)iocb->aio_nbytes;
		if (runner->took_ns)
			runner->took_ns[iocb->aio_data] =
				now_ns() - runner->took_ns[iocb->aio_data];
		runner->idle[runner->nr_idle++] = iocb;
	}
}

static void runner_submit(struct runner *runner, const struct load *load, unsigned int nr)
{
	const struct request *request = &load->requests[nr];
	struct iocb *iocb;

	if (!runner->nr_idle)
		runner_reap(runner, 1);
	iocb = runner->idle[--runner->nr_idle];
	memset(iocb, 0, sizeof(*iocb));
	iocb->aio_lio_opcode = request->is_write ? IOCB_CMD_PWRITE :
						   IOCB_CMD_PREAD;
	iocb->aio_fildes = runner->fd;
	iocb->aio_buf = (uintptr_t)buffer;
	iocb->aio_nbytes = request->nr_bytes;
	iocb->aio_offset = request->at;
	iocb->aio_data = nr;
	if (runner->took_ns)
		runner->took_ns[nr] = now_ns();
	if (syscall(SYS_io_submit, runner->context, 1, &iocb) != 1) {
		runner->nr_failed++;
		runner->idle[runner->nr_idle++] = iocb;
	}
}

static void runner_run(struct runner *runner, const struct load *load)
{
	unsigned int i;

	for (i = 0; i < load->depth; i++)
		runner->idle[i] = &runner->iocbs[i];
	runner->nr_idle = load->depth;
	for (i = 0; i < load->nr; i++) {
		uint64_t start = 0;

		if (runner->submit_ns) {
			/* Waiting for room is not submitting. */
			if (!runner->nr_idle)
				runner_reap(runner, 1);
			start = now_ns();
		}
		runner_submit(runner, load, i);
		if (runner->submit_ns)
			runner->submit_ns[i] = now_ns() - start;
	}
	while (runner->nr_idle < load->depth)
		runner_reap(runner, load->depth - runner->nr_idle);
}

/* For threads, which may not end the test; false if anything failed. */
bool load_run(const struct load *load, const char *path)
{
	struct runner runner;
	bool ok = runner_open(&runner, path);

	if (ok)
		runner_run(&runner, load);
	return runner_close(&runner) && ok;
}

/* What a request costs at least, in nanoseconds. */
double load_best(const struct load *load, const char *path)
{
	uint64_t best = UINT64_MAX;
	struct runner runner;
	unsigned int i;

	ASSERT(runner_open(&runner, path));
	for (i = 0; i < BATCHES; i++) {
		const uint64_t start = now_ns();
		uint64_t ns;

		runner_run(&runner, load);
		ns = now_ns() - start;
		if (ns < best)
			best = ns;
	}
	EXPECT(runner_close(&runner));
	return (double)best / load->nr;
}

/*
 * Idle time of all processors, as exact as the kernel knows it: /proc/stat has
 * the same in hundredths of a second.
 */
static uint64_t idle_ns(void)
{
	FILE *file = fopen("/proc/timer_list", "re");
	unsigned long long ns;
	unsigned int nr = 0;
	uint64_t sum = 0;
	char line[200];

	ASSERT(file);
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, " .idle_sleeptime : %llu", &ns) != 1 &&
		    sscanf(line, " .iowait_sleeptime: %llu", &ns) != 1)
			continue;
		sum += ns;
		nr++;
	}
	fclose(file);
	ASSERT(nr >= 2);
	return sum;
}

void meter_start(struct meter *meter)
{
	meter->idle_ns = idle_ns();
	meter->start_ns = now_ns();
}

double meter_busy_ns(const struct meter *meter)
{
	const uint64_t end_ns = now_ns();

	return (double)(end_ns - meter->start_ns) - (idle_ns() - meter->idle_ns);
}

/* Wait until what is to be done after a load has been done. */
void settle(void)
{
	sleep_ms(SETTLE_MS);
}

/* What waiting itself costs. */
static double settle_busy_ns(void)
{
	static double best;
	struct meter meter;
	unsigned int i;

	for (i = 0; !best || i < 3; i++) {
		double ns;

		meter_start(&meter);
		settle();
		ns = meter_busy_ns(&meter);
		if (!best || ns < best)
			best = ns;
	}
	return best;
}

static int compare_numbers(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/**
 * load_settled() - run a load once, with all that follows
 * @load:	what to do
 * @path:	of the device
 * @cost:	filled in; its busy time has what is done after the last request
 */
void load_settled(const struct load *load, const char *path, struct cost *cost)
{
	const double settle_ns = settle_busy_ns();
	struct runner runner;
	struct meter meter;

	ASSERT(runner_open(&runner, path));
	meter_start(&meter);
	runner_run(&runner, load);
	cost->ns = (double)(now_ns() - meter.start_ns) / load->nr;
	settle();
	cost->busy_ns = (meter_busy_ns(&meter) - settle_ns) / load->nr;
	EXPECT(runner_close(&runner));
}

/**
 * load_submitted() - run a load once and look how long submitting takes
 * @load:	what to do
 * @path:	of the device
 * @ns:		from the first submission to the last completion, per request;
 *		reading the clock is part of it
 *
 * Return: the time in nanoseconds that 99 % of the calls do not exceed.
 */
double load_submitted(const struct load *load, const char *path, double *ns)
{
	struct runner runner;
	uint64_t start;
	double p99_ns;

	ASSERT(runner_open(&runner, path));
	runner.submit_ns = calloc(load->nr, sizeof(uint64_t));
	ASSERT(runner.submit_ns);
	start = now_ns();
	runner_run(&runner, load);
	*ns = (double)(now_ns() - start) / load->nr;
	qsort(runner.submit_ns, load->nr, sizeof(uint64_t), compare_numbers);
	p99_ns = runner.submit_ns[load->nr * 99 / 100];
	free(runner.submit_ns);
	EXPECT(runner_close(&runner));
	return p99_ns;
}

/*
 * How long each request took, in nanoseconds, the shortest one first.  NULL if anything
 * failed: this is for threads, too, which may not end the test.
 */
uint64_t *load_times(const struct load *load, const char *path)
{
	uint64_t *times = calloc(load->nr, sizeof(*times));
	struct runner runner;
	bool ok = times && runner_open(&runner, path);

	if (ok) {
		runner.took_ns = times;
		runner_run(&runner, load);
		ok = runner_close(&runner);
		qsort(times, load->nr, sizeof(*times), compare_numbers);
	}
	if (ok)
		return times;
	free(times);
	return NULL;
}

/* The time in nanoseconds that 99 % of the writes of a load do not exceed. */
double load_write_p99(const struct load *load, const char *path)
{
	struct runner runner;
	unsigned int i, nr = 0;
	double p99_ns;

	ASSERT(runner_open(&runner, path));
	runner.took_ns = calloc(load->nr, sizeof(uint64_t));
	ASSERT(runner.took_ns);
	runner_run(&runner, load);
	for (i = 0; i < load->nr; i++)
		if (load->requests[i].is_write)
			runner.took_ns[nr++] = runner.took_ns[i];
	qsort(runner.took_ns, nr, sizeof(uint64_t), compare_numbers);
	p99_ns = runner.took_ns[nr * 99 / 100];
	free(runner.took_ns);
	EXPECT(runner_close(&runner));
	return p99_ns;
}
