// SPDX-License-Identifier: GPL-2.0
/*
 * The threads of the torture, what goes wrong in them, and who watches them
 *
 * A thread says what it does before it does it.  When one does the same thing
 * for too long, the watchdog prints what all of them do and where in the kernel
 * they are, and ends the program: a hang is a failure, not a time limit.
 */
#include <dirent.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "test_torture.h"

#define MAX_WORKERS 64
#define MAX_TOLD 8	/* faults of one kind that are told */

static struct {
	struct worker workers[MAX_WORKERS];
	pthread_mutex_t lock;
	unsigned int nr_started;
} crowd = { .lock = PTHREAD_MUTEX_INITIALIZER };

struct start {
	struct worker *worker;
	worker_fn work;
	atomic_bool *stop;
};

/* --- threads --- */

void worker_doing(struct worker *worker, const char *doing)
{
	atomic_store(&worker->since_ns, now_ns());
	atomic_store(&worker->doing, (uintptr_t)doing);
}

static const char *doing_of(const struct worker *worker)
{
	return (const char *)atomic_load(&worker->doing);
}

static void *worker_run(void *data)
{
	struct start start = *(struct start *)data;

	free(data);
	start.worker->tid = syscall(SYS_gettid);
	while (!atomic_load(start.stop)) {
		start.work(start.worker);
		atomic_fetch_add(&start.worker->nr_done, 1);
	}
	worker_doing(start.worker, "nothing any more");
	atomic_store(&start.worker->is_running, false);
	return NULL;
}

static struct worker *find_free_worker(void)
{
	struct worker *worker = crowd.workers;

	while (worker->name[0])
		if (++worker == crowd.workers + MAX_WORKERS)
			exit(KTAP_FAIL);
	return worker;
}

/**
 * worker_start() - start a thread
 * @work:	what it does again and again
 * @data:	for it
 * @stop:	until this is set
 * @format:	its name
 *
 * Return: the thread, to be given to worker_join().
 */
struct worker *worker_start(worker_fn work, void *data, atomic_bool *stop,
			    const char *format, ...)
{
	struct start *start = malloc(sizeof(*start));
	struct worker *worker;
	va_list args;

	pthread_mutex_lock(&crowd.lock);
	worker = find_free_worker();
	va_start(args, format);
	vsnprintf(worker->name, sizeof(worker->name), format, args);
	va_end(args);
	random_init(&worker->random,
		    ktap_options.seed + 1000 * crowd.nr_started++);
	pthread_mutex_unlock(&crowd.lock);
	if (!worker->buffer)
		worker->buffer = alloc_aligned(WORKER_BUFFER_BYTES);
	worker->data = data;
	worker_doing(worker, "starting");
	atomic_store(&worker->is_running, true);
	*start = (struct start) { worker, work, stop };
	if (pthread_create(&worker->thread, NULL, worker_run, start))
		exit(KTAP_FAIL);
	return worker;
}

void worker_join(struct worker *worker)
{
	pthread_join(worker->thread, NULL);
	pthread_mutex_lock(&crowd.lock);
	worker->name[0] = '\0';
	pthread_mutex_unlock(&crowd.lock);
}

/* --- faults --- */

static const char *const fault_names[NR_FAULTS] = {
	"image", "change of an image", "origin", "file", "change map", "event",
	"I/O", "call",
};

bool fault_is_worth_telling(enum fault fault)
{
	return torture.nr_faults[fault] < MAX_TOLD;
}

/* Count a fault, tell it, and let the run come to its end. */
void fault_add(enum fault fault, const char *format, ...)
{
	char text[300];
	va_list args;

	if (fault_is_worth_telling(fault)) {
		va_start(args, format);
		vsnprintf(text, sizeof(text), format, args);
		va_end(args);
		ktap_note("FAULT (%s), cycle %llu, seed %llu: %s",
			  fault_names[fault],
			  (unsigned long long)torture.nr_cycles,
			  (unsigned long long)ktap_options.seed, text);
	}
	torture.nr_faults[fault]++;
	atomic_store(&torture.agents_stop, true);
}

/* --- the watchdog --- */

static struct {
	pthread_t thread;
	uint64_t patience_ns;
	atomic_bool stop;
} watch;

static void print_file(const char *what, const char *path)
{
	char line[200];
	FILE *file = fopen(path, "r");

	if (!file)
		return;
	while (fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		ktap_note("  %s: %s", what, line);
	}
	fclose(file);
}

static void dump_workers(void)
{
	const uint64_t now = now_ns();
	char path[64];
	unsigned int i;

	for (i = 0; i < MAX_WORKERS; i++) {
		struct worker *worker = &crowd.workers[i];

		if (!worker->name[0])
			continue;
		ktap_note("%s: %s since %llu ms, went round %llu times",
			  worker->name, doing_of(worker),
			  (unsigned long long)(now - worker->since_ns) / 1000000,
			  (unsigned long long)worker->nr_done);
		snprintf(path, sizeof(path), "/proc/self/task/%d/stack",
			 worker->tid);
		print_file(worker->name, path);
	}
}

/* What the module shows of each image. */
static void dump_images(void)
{
	static const char *const names[] = {
		"origin", "error", "copied_bytes", "stored_bytes",
		"memory_bytes", "held_writes", "held_writes_total",
	};
	struct dirent *entry;
	DIR *dir = opendir("/sys/block");
	unsigned int i;

	while (dir && (entry = readdir(dir))) {
		char path[400];

		if (strncmp(entry->d_name, BLK_SNAP_IMAGE_NAME,
			    strlen(BLK_SNAP_IMAGE_NAME)))
			continue;
		for (i = 0; i < ARRAY_SIZE(names); i++) {
			snprintf(path, sizeof(path), "/sys/block/%s/blksnap/%s",
				 entry->d_name, names[i]);
			ktap_note("  %s", entry->d_name);
			print_file(names[i], path);
		}
	}
	if (dir)
		closedir(dir);
}

static void give_up(const struct worker *worker)
{
	ktap_note("HANG, seed %llu: %s does not come back from: %s",
		  (unsigned long long)ktap_options.seed, worker->name,
		  doing_of(worker));
	dump_workers();
	dump_images();
	/* Into the log of the kernel: who is blocked, and who is busy. */
	write_text("/proc/sysrq-trigger", "w");
	write_text("/proc/sysrq-trigger", "l");
	sleep_ms(2000);
	printf("Bail out! The torture hangs.\n");
	fflush(stdout);
	_exit(KTAP_FAIL);
}

static void *watch_run(void *data)
{
	unsigned int i;

	(void)data;
	while (!atomic_load(&watch.stop)) {
		for (i = 0; i < MAX_WORKERS; i++) {
			struct worker *worker = &crowd.workers[i];
			uint64_t since = atomic_load(&worker->since_ns);

			if (atomic_load(&worker->is_running) &&
			    now_ns() > since + watch.patience_ns)
				give_up(worker);
		}
		sleep_ms(500);
	}
	return NULL;
}

void watch_start(unsigned int patience_s)
{
	watch.patience_ns = patience_s * 1000000000ULL;
	atomic_store(&watch.stop, false);
	if (pthread_create(&watch.thread, NULL, watch_run, NULL))
		exit(KTAP_FAIL);
}

void watch_stop(void)
{
	atomic_store(&watch.stop, true);
	pthread_join(watch.thread, NULL);
}
