// SPDX-License-Identifier: GPL-2.0
/*
 * Torture: everything that may happen to snapshots, at the same time
 *
 *	test_torture [--seconds N] [--seed S] [--threads N] [--agents N]
 *		     [--size MIB] [--device DISK]... [--storage DISK]
 *		     [--patience SECONDS] [--filter TEXT]
 *
 * Threads write to several disks through several nodes each, in every way there
 * is, read them and sync them; work on a filesystem; create, take, read, write,
 * mount and destroy snapshots, append storage, wait for events, end the tracking
 * and mark blocks.  Some snapshots overflow on purpose.  What is legal on each
 * word of an origin or an image is told in test_torture_judge.c.
 *
 * Every minute all comes to rest, and the module is loaded with other parameters.
 * The seed, which is new for each run unless it is given, chooses them, the
 * partitions, and what each thread does; how the threads meet is up to the
 * machine.  All contents of disks given with --device and --storage are lost.  A
 * thread that does not come back from something for --patience seconds (300) ends
 * the program.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "test_torture.h"

struct torture torture = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.changed = PTHREAD_COND_INITIALIZER,
	.clock = 1,
};

static struct {
	struct media_options media;
	unsigned int seconds;
	unsigned int nr_threads;
	unsigned int nr_agents;
	unsigned int patience_s;
} settings = {
	.media = { .nr_mib = 12 },
	.seconds = 300,
	.nr_threads = 5,
	.nr_agents = 2,
	.patience_s = 300,
};

/* --- the module --- */

static struct random phase_random;

/* Parameters that make frequent what is rare by default. */
static void load_module(void)
{
	struct random *random = &phase_random;
	char parameters[200];

	snprintf(parameters, sizeof(parameters),
		 "diff_storage_minimum=%u copy_memory_maximum=%u copy_block_minimum_shift=%u tracking_block_minimum_shift=%u copy_discarded=%u",
		 2048U << random_below(random, 4),
		 4U << random_below(random, 4),
		 12 + (unsigned int)random_below(random, 4),
		 12 + (unsigned int)random_below(random, 5),
		 (unsigned int)random_below(random, 2));
	if (ctl >= 0)
		close(ctl);
	ctl = -1;
	if (module_is_loaded() && module_unload())
		ktap_note("the module keeps its parameters");
	else if (module_load(parameters))
		FAIL("the module cannot be loaded");
	else
		ktap_note("%s", parameters);
	ctl = ASSERT_OK(control_open());
	torture.copy_sectors =
		(1ULL << module_parameter("copy_block_minimum_shift")) / SECTOR_SIZE;
}

/* --- running --- */

static bool has_faults(void)
{
	unsigned int i;

	for (i = 0; i < NR_FAULTS; i++)
		if (torture.nr_faults[i])
			return true;
	return false;
}

#define MAX_THREADS 32
#define PHASE_SECONDS 60
#define LONG_SECONDS 120

static struct {
	struct worker *agents[MAX_THREADS];
	unsigned int nr_agents;
	struct worker *others[MAX_THREADS];
	unsigned int nr_others;
} threads;

static void add_other(worker_fn work, const char *name, unsigned int i)
{
	threads.others[threads.nr_others++] =
		worker_start(work, NULL, &torture.others_stop, "%s %u", name, i);
}

static void start_threads(void)
{
	uintptr_t i;

	atomic_store(&torture.agents_stop, false);
	atomic_store(&torture.others_stop, false);
	threads.nr_agents = 0;
	threads.nr_others = 0;
	for (i = 0; i < settings.nr_threads; i++)
		add_other(writer_work, "writer", i);
	for (i = 0; i < 3; i++)
		add_other(looker_work, "looker", i);
	add_other(reader_work, "reader", 0);
	for (i = 0; i < torture.nr_media; i++)
		if (torture.media[i].has_files) {
			add_other(files_work, "file worker", 0);
			add_other(files_work, "file worker", 1);
		}
	for (i = 0; i < settings.nr_agents; i++)
		threads.agents[threads.nr_agents++] =
			worker_start(agent_work, (void *)i,
				     &torture.agents_stop, "agent %u",
				     (unsigned int)i);
}

/* Agents first: what they wait for is done by the others. */
static void stop_threads(void)
{
	unsigned int i;

	atomic_store(&torture.agents_stop, true);
	for (i = 0; i < threads.nr_agents; i++)
		worker_join(threads.agents[i]);
	atomic_store(&torture.others_stop, true);
	for (i = 0; i < threads.nr_others; i++)
		worker_join(threads.others[i]);
}

static void note_progress(unsigned int done_s, unsigned int of_s)
{
	ktap_note("%u of %u s: %llu cycles, %llu takes, %llu operations", done_s,
		  of_s, (unsigned long long)torture.nr_cycles,
		  (unsigned long long)torture.nr_takes,
		  (unsigned long long)torture.nr_ops);
}

/* Every disk is judged to the last byte while nothing goes on. */
static void judge_media(void)
{
	void *buffer = alloc_aligned(WORKER_BUFFER_BYTES);
	struct random random;
	unsigned int i;

	random_init(&random, ktap_options.seed);
	for (i = 0; i < torture.nr_media; i++) {
		medium_hold_still(&torture.media[i]);
		medium_fold(&torture.media[i], buffer);
		medium_let_go(&torture.media[i], &random);
	}
	files_judge(buffer);
	free(buffer);
}

/* What the maps and the parameters of a module were is lost with it. */
static void forget_all_images(void)
{
	unsigned int i;

	for (i = 0; i < torture.nr_origins; i++)
		origin_untrack(&torture.origins[i]);
}

/* One phase: from rest to rest, with one set of parameters. */
static void run_phase(unsigned int seconds)
{
	const uint64_t start_ns = now_ns();
	uint64_t passed_ns;

	load_module();
	start_threads();
	while (!atomic_load(&torture.agents_stop)) {
		passed_ns = now_ns() - start_ns;
		if (passed_ns / 1000000000 >= seconds)
			break;
		sleep_ms(100);
	}
	stop_threads();
	judge_media();
	forget_all_images();
}

static void run_for(unsigned int seconds)
{
	unsigned int done, phase;

	for (done = 0; done < seconds && !has_faults(); done += phase) {
		phase = seconds - done < PHASE_SECONDS ? seconds - done :
							 PHASE_SECONDS;
		run_phase(phase);
		note_progress(done + phase, seconds);
	}
}

/* --- memory --- */

static const struct memory_field {
	const char *name;
	long tolerance_kib;	/* what others may take meanwhile */
} memory_fields[] = {
	/* The first is what no other field or cache accounts for. */
	{ "unaccounted", 12288 },
	{ "Slab", 6144 },
	{ "SUnreclaim", 6144 },
	{ "Percpu", 512 },
	{ "VmallocUsed", 1024 },
	{ "KernelStack", 1024 },
};

#define NR_FIELDS ARRAY_SIZE(memory_fields)
#define SETTLE_TRIES 30		/* of about a second */

static struct {
	bool is_known;
	long before[NR_FIELDS];
	long after[NR_FIELDS];
} memory;

/* The number behind @name in lines of /proc/meminfo; false if it is not there. */
static bool parse_line(const char *line, const char *name, long *number)
{
	const size_t length = strlen(name);

	if (strncmp(line, name, length) || line[length] != ':')
		return false;
	*number = atol(line + length + 1);
	return true;
}

static void parse_memory(FILE *file, long *kib)
{
	/* What is free, what the kernel can tell the owner of. */
	static const char *const accounts[] = {
		"MemFree", "Buffers", "Cached", "SwapCached", "AnonPages",
		"Slab", "PageTables", "VmallocUsed", "Percpu",
	};
	char line[200];
	unsigned int i;
	long number;

	while (fgets(line, sizeof(line), file)) {
		for (i = 1; i < NR_FIELDS; i++)
			parse_line(line, memory_fields[i].name, &kib[i]);
		for (i = 0; i < ARRAY_SIZE(accounts); i++)
			if (parse_line(line, accounts[i], &number))
				kib[0] -= number;
		if (parse_line(line, "MemTotal", &number))
			kib[0] += number;
	}
}

/* Free pages that the processors keep at hand: MemFree leaves them out. */
static long kept_kib(void)
{
	FILE *file = fopen("/proc/zoneinfo", "r");
	long total = 0, number;
	char line[200];

	ASSERT(file);
	while (fgets(line, sizeof(line), file))
		if (parse_line(line + strspn(line, " "), "count", &number))
			total += number;
	fclose(file);
	return total * (sysconf(_SC_PAGESIZE) / 1024);
}

/* What is left when all disks have their memory and caches are empty. */
static void read_memory(long *kib)
{
	unsigned int i;
	FILE *file;

	for (i = 0; i < 3; i++) {
		write_text("/proc/sys/vm/drop_caches", "3");
		sleep_ms(300);
	}
	file = fopen("/proc/meminfo", "r");
	ASSERT(file);
	kib[0] = -kept_kib();
	parse_memory(file, kib);
	fclose(file);
}

/* What the run took and has not given back, of one field. */
static long missing_kib(unsigned int i)
{
	return memory.after[i] - memory.before[i];
}

static bool is_memory_back(void)
{
	unsigned int i;

	for (i = 0; i < NR_FIELDS; i++)
		if (missing_kib(i) > memory_fields[i].tolerance_kib)
			return false;
	return true;
}

static void give_all_back(void)
{
	destroy_all_snapshots();
	remove_all_trackers();
	media_fill();
	files_fill();
	sync();
}

static void read_memory_before(void)
{
	give_all_back();
	read_memory(memory.before);
}

/* Much is freed late; what has leaked is not freed however long one waits. */
static void read_memory_after(void)
{
	unsigned int i;

	give_all_back();
	read_memory(memory.after);
	for (i = 0; i < SETTLE_TRIES && !is_memory_back(); i++)
		read_memory(memory.after);
	memory.is_known = true;
}

/* --- the tests: one run, and what is to be said of it --- */

static void test_run_comes_to_its_end(void)
{
	unsigned int warm_up = settings.seconds / 8;

	media_make(&settings.media);
	media_fill();
	watch_start(settings.patience_s);
	/* Caches find their size and threads get their memory first. */
	run_for(warm_up < 20 ? warm_up : 20);
	read_memory_before();
	run_for(settings.seconds - (warm_up < 20 ? warm_up : 20));
	read_memory_after();
	watch_stop();
	if (has_faults())
		return;
	EXPECT(torture.nr_takes);
	/* On a slow machine a short run gets no further than this. */
	if (settings.seconds < LONG_SECONDS)
		return;
	EXPECT(torture.nr_judged_bytes);
	EXPECT(torture.nr_still_takes);
	EXPECT(torture.nr_images);
	EXPECT(torture.nr_changed_blocks);
	EXPECT(torture.nr_low_events);
}

static void test_images_hold_what_is_legal(void)
{
	EXPECT_EQ(torture.nr_faults[FAULT_IMAGE], 0);
}

static void test_images_do_not_change(void)
{
	EXPECT_EQ(torture.nr_faults[FAULT_CHANGED], 0);
}

static void test_origins_hold_what_is_legal(void)
{
	EXPECT_EQ(torture.nr_faults[FAULT_ORIGIN], 0);
}

static void test_files_of_images_are_those_of_the_take(void)
{
	EXPECT_EQ(torture.nr_faults[FAULT_FILE], 0);
	if (!torture.nr_mounts)
		ktap_skip("no image was mounted");
}

static void test_maps_tell_every_change_and_no_other(void)
{
	EXPECT_EQ(torture.nr_faults[FAULT_MAP], 0);
}

static void test_events_come_once(void)
{
	EXPECT_EQ(torture.nr_faults[FAULT_EVENT], 0);
}

static void test_no_request_fails(void)
{
	EXPECT_EQ(torture.nr_faults[FAULT_IO], 0);
}

static void test_no_call_fails(void)
{
	EXPECT_EQ(torture.nr_faults[FAULT_CALL], 0);
}

static void test_memory_is_given_back(void)
{
	unsigned int i;

	if (!memory.is_known)
		FAIL("the run did not come to its end");
	if (!access("/sys/kernel/debug/kmemleak", F_OK)) {
		ktap_skip("a debug kernel keeps freed memory back; kmemleak tells");
		return;
	}
	for (i = 0; i < NR_FIELDS; i++) {
		ktap_note("  %-12s %7ld KiB before, %7ld KiB after",
			  memory_fields[i].name, memory.before[i],
			  memory.after[i]);
		EXPECT(missing_kib(i) <= memory_fields[i].tolerance_kib);
	}
}

static const struct ktap_test tests[] = {
	KTAP_TEST(test_run_comes_to_its_end),
	KTAP_TEST(test_images_hold_what_is_legal),
	KTAP_TEST(test_images_do_not_change),
	KTAP_TEST(test_origins_hold_what_is_legal),
	KTAP_TEST(test_files_of_images_are_those_of_the_take),
	KTAP_TEST(test_maps_tell_every_change_and_no_other),
	KTAP_TEST(test_events_come_once),
	KTAP_TEST(test_no_request_fails),
	KTAP_TEST(test_no_call_fails),
	KTAP_TEST(test_memory_is_given_back),
	KTAP_END
};

static const struct ktap_suite suites[] = {
	{ "judge", judge_set_up, judge_tear_down, judge_tests },
	{ "torture", NULL, NULL, tests },
	{ NULL, NULL, NULL, NULL }
};

/* --- statistics --- */

#define STATISTIC(name, text) { offsetof(struct torture, name), text }

static const struct {
	size_t offset;
	const char *text;
} statistics[] = {
	STATISTIC(nr_cycles, "cycles"),
	STATISTIC(nr_takes, "takes"),
	STATISTIC(nr_still_takes, "takes while writers stood still"),
	STATISTIC(nr_images, "images read to the end"),
	STATISTIC(nr_judged_bytes, "bytes judged"),
	STATISTIC(nr_read_bytes, "bytes read"),
	STATISTIC(nr_ops, "operations on origins"),
	STATISTIC(nr_written_bytes, "bytes written to origins"),
	STATISTIC(nr_image_writes, "writes to images"),
	STATISTIC(nr_mounts, "images mounted"),
	STATISTIC(nr_blocks, "tracking blocks judged"),
	STATISTIC(nr_changed_blocks, "of them changed"),
	STATISTIC(nr_marks, "ranges marked on purpose"),
	STATISTIC(nr_removals, "trackers removed"),
	STATISTIC(nr_appends, "appends"),
	STATISTIC(nr_low_events, "low_free_space events"),
	STATISTIC(nr_overflows, "images lost by overflow"),
	STATISTIC(nr_read_while_destroyed, "requests that met a destruction"),
};

static void note_statistics(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(statistics); i++)
		ktap_note("%-32s %llu", statistics[i].text,
			  (unsigned long long)*(atomic_ullong *)
			  ((char *)&torture + statistics[i].offset));
}

static void need(bool is_there, const char *what)
{
	if (is_there)
		return;
	fprintf(stderr, "test_torture: %s\n", what);
	exit(2);
}

static void set_option(const char *name, const char *value)
{
	struct media_options *media = &settings.media;

	if (!strcmp(name, "--seconds"))
		settings.seconds = atoi(value);
	else if (!strcmp(name, "--threads"))
		settings.nr_threads = atoi(value);
	else if (!strcmp(name, "--agents"))
		settings.nr_agents = atoi(value);
	else if (!strcmp(name, "--patience"))
		settings.patience_s = atoi(value);
	else if (!strcmp(name, "--size"))
		media->nr_mib = atoi(value);
	else if (!strcmp(name, "--storage"))
		media->storage = value;
	else if (!strcmp(name, "--device") &&
		 media->nr_paths < ARRAY_SIZE(media->paths))
		media->paths[media->nr_paths++] = value;
	else if (!strcmp(name, "--seed"))
		ktap_options.seed = strtoull(value, NULL, 0);
	else
		need(!strcmp(name, "--filter"), "unknown option");
}

int main(int argc, char **argv)
{
	int i, ret;

	ktap_options.seed = time(NULL);
	for (i = 1; i < argc; i += 2) {
		need(i + 1 < argc, "every option needs a value");
		set_option(argv[i], argv[i + 1]);
	}
	need(settings.seconds && settings.patience_s &&
	     settings.media.nr_mib >= 6 && settings.nr_threads &&
	     settings.nr_threads <= 16 && settings.nr_agents &&
	     settings.nr_agents <= 4,
	     "1 to 16 threads, 1 to 4 agents, 6 MiB or more");
	ktap_note("seed %llu", (unsigned long long)ktap_options.seed);
	settings.media.storage_mib = 14 * settings.media.nr_mib;
	tests_need_module();
	random_init(&phase_random, ktap_options.seed);
	torture.has_mkfs = !shell("command -v mkfs.ext4 >/dev/null 2>&1");
	ret = ktap_main(suites, argc, argv);
	note_statistics();
	media_remove();
	return ret;
}
