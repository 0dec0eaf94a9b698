// SPDX-License-Identifier: GPL-2.0
/*
 * Groups, workers and calls of the tests of kindness
 *
 * What a test has started must end, whatever became of the test.  So the tear-down
 * lifts all limits first; then it stops the workers and waits for the calls.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "stacked.h"
#include "test_kind.h"

#define CGROUP "/sys/fs/cgroup"
#define NR_GROUPS 2
#define NR_WORKERS 40
#define NR_CALLS 4
#define WRITE_BACK_BYTES MIB		/* by one write() */

struct disk origin, storage, lower;
struct snapshot snapshot;

/* For what goes on after a call. */
#define PATIENCE_MS 10000U

static bool has_mapping, is_reloaded;

static struct group {
	const char *name;		/* NULL if there is none */
	char path[64];
	struct blk_snap_dev limited;	/* no device if mj is 0 */
} groups[NR_GROUPS];

static struct worker *workers;		/* NR_WORKERS of them */
static unsigned int nr_workers;

/* --- disks and the module --- */

void kind_set_up(void)
{
	if (!workers)
		workers = mmap(NULL, NR_WORKERS * sizeof(*workers), PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT(workers != MAP_FAILED);
	ctl_set_up();
}

/* Load the module with other parameters for this test; nothing may be tracked. */
void module_reload(const char *parameters)
{
	unsigned int ms;

	is_reloaded = true;
	if (ctl >= 0)
		close(ctl);
	ctl = -1;
	for (ms = 0; module_unload() && ms < PATIENCE_MS; ms += 100)
		sleep_ms(100);
	ASSERT_EQ(module_load(parameters), 0);
	ctl_set_up();
}

/* An attribute of the image of the origin, -1 if there is no image. */
int64_t image_number(const char *attribute)
{
	return read_number("/sys/block/%s/blksnap/%s",
			   strrchr(image_of(&snapshot, &origin), '/') + 1, attribute);
}

int64_t queue_number(const struct disk *disk, const char *attribute)
{
	return read_number("/sys/block/%s/queue/%s", strrchr(disk->path, '/') + 1, attribute);
}

bool queue_set(const struct disk *disk, const char *attribute, unsigned int value)
{
	char path[100], text[16];

	snprintf(path, sizeof(path), "/sys/block/%s/queue/%s", strrchr(disk->path, '/') + 1,
		 attribute);
	snprintf(text, sizeof(text), "%u", value);
	return write_text(path, text);
}

/* Put a mapping over @below that the test can suspend. */
void mapping_need(struct disk *mapped, const struct disk *below)
{
	ASSERT_OK(linear_create(mapped, MAPPING, below));
	has_mapping = true;
}

/* Put one over @below whose reads beyond @at take long, and nothing else. */
void slow_mapping_need(struct disk *mapped, const struct disk *below, uint64_t at,
		       unsigned int read_ms)
{
	ASSERT_OK(delay_create_beyond(mapped, MAPPING, below, at / SECTOR_SIZE, read_ms));
	has_mapping = true;
}

/* --- groups --- */

static void groups_need(void)
{
	if (access(CGROUP "/cgroup.controllers", F_OK))
		mount("cgroup2", CGROUP, "cgroup2", 0, NULL);
	write_text(CGROUP "/cgroup.subtree_control", "+io");
}

void group_create(const char *name)
{
	unsigned int i = 0;

	groups_need();
	while (i < NR_GROUPS && groups[i].name)
		i++;
	ASSERT(i < NR_GROUPS);
	snprintf(groups[i].path, sizeof(groups[i].path), CGROUP "/blksnap-%s", name);
	/* Without cgroups, limiting it will fail and skip the test. */
	mkdir(groups[i].path, 0755);
	groups[i].name = name;
}

static struct group *group_find(const char *name)
{
	unsigned int i;

	for (i = 0; i < NR_GROUPS; i++)
		if (groups[i].name && !strcmp(groups[i].name, name))
			return &groups[i];
	return NULL;
}

/* For workers, too; false if the kernel does not take it. */
static bool group_set(const char *name, const char *file, const char *text)
{
	const struct group *group = group_find(name);
	char path[100];

	if (!group)
		return false;
	snprintf(path, sizeof(path), "%s/%s", group->path, file);
	return write_text(path, text);
}

/* Limit reads and writes of @disk each. */
bool group_limit(const char *name, const struct disk *disk, uint64_t bytes_per_s)
{
	char text[100];

	snprintf(text, sizeof(text), "%u:%u rbps=%llu wbps=%llu", disk->id.mj, disk->id.mn,
		 (unsigned long long)bytes_per_s, (unsigned long long)bytes_per_s);
	if (!group_set(name, "io.max", text)) {
		ktap_skip("this kernel cannot limit the bandwidth of a cgroup");
		return false;
	}
	group_find(name)->limited = disk->id;
	return true;
}

bool group_weigh(const char *name, unsigned int weight)
{
	char text[32];

	snprintf(text, sizeof(text), "default %u", weight);
	if (group_set(name, "io.weight", text))
		return true;
	ktap_skip("this kernel cannot weigh cgroups");
	return false;
}

/* Make writes cost the same, whatever their size and place; 0 switches it off. */
bool cost_model_set(const struct disk *disk, unsigned int writes_per_s)
{
	char text[200];

	groups_need();
	snprintf(text, sizeof(text),
		 "%u:%u ctrl=user model=linear rbps=1000000000 rseqiops=100000 rrandiops=100000 wbps=1000000000 wseqiops=%u wrandiops=%u",
		 disk->id.mj, disk->id.mn, writes_per_s, writes_per_s);
	if (writes_per_s && !write_text(CGROUP "/io.cost.model", text))
		return false;
	snprintf(text, sizeof(text), "%u:%u enable=%u ctrl=user min=100.00 max=100.00",
		 disk->id.mj, disk->id.mn, writes_per_s != 0);
	return write_text(CGROUP "/io.cost.qos", text);
}

/* I/O that a limit or a low weight keeps back goes on. */
void groups_unlimit(void)
{
	unsigned int i;
	char text[100];

	for (i = 0; i < NR_GROUPS; i++) {
		if (!groups[i].name)
			continue;
		group_set(groups[i].name, "io.weight", "default 10000");
		if (!groups[i].limited.mj)
			continue;
		snprintf(text, sizeof(text), "%u:%u rbps=max wbps=max",
			 groups[i].limited.mj, groups[i].limited.mn);
		group_set(groups[i].name, "io.max", text);
	}
}

static void groups_remove(void)
{
	unsigned int i;

	for (i = 0; i < NR_GROUPS; i++)
		if (groups[i].name)
			rmdir(groups[i].path);
	memset(groups, 0, sizeof(groups));
}

/* --- workers --- */

/* Once; returns false if it failed. */
static bool worker_do(struct worker *worker, int fd, void *buffer)
{
	const uint64_t done = atomic_load(&worker->nr_done);
	uint64_t at;

	switch (worker->kind) {
	case READ_SYNC:
		atomic_store(&worker->is_over, true);
		return pread(fd, buffer, worker->nr_bytes, worker->at) ==
		       (ssize_t)worker->nr_bytes;
	case WRITE_SYNC:
		at = worker->at + done * BLOCK_BYTES % worker->nr_bytes;
		return pwrite(fd, buffer, BLOCK_BYTES, at) == (ssize_t)BLOCK_BYTES;
	case WRITE_BACK:
		for (at = 0; at < worker->nr_bytes; at += WRITE_BACK_BYTES)
			if (pwrite(fd, buffer, WRITE_BACK_BYTES, worker->at + at) < 0)
				return false;
		return !fsync(fd);
	}
	return false;
}

static void worker_run(struct worker *worker)
{
	const uint64_t nr_bytes = worker->kind == READ_SYNC ? worker->nr_bytes : MIB;
	void *buffer = alloc_aligned(nr_bytes);
	int fd = open(worker->path, (worker->kind == READ_SYNC ? O_RDONLY : O_WRONLY) |
				    (worker->kind == WRITE_BACK ? 0 : O_DIRECT));
	uint64_t ns;

	memset(buffer, 0x22, nr_bytes);
	if (fd < 0 || (worker->group && !group_set(worker->group, "cgroup.procs", "0")))
		atomic_store(&worker->error, errno ? errno : EIO);
	while (!atomic_load(&worker->is_over) && !atomic_load(&worker->error)) {
		atomic_store(&worker->start_ns, now_ns());
		if (!worker_do(worker, fd, buffer))
			atomic_store(&worker->error, errno ? errno : EIO);
		ns = now_ns() - atomic_load(&worker->start_ns);
		atomic_store(&worker->start_ns, 0);
		if (ns > atomic_load(&worker->longest_ns))
			atomic_store(&worker->longest_ns, ns);
		atomic_fetch_add(&worker->nr_done, 1);
	}
	atomic_store(&worker->is_done, true);
}

struct worker *worker_start(enum worker_kind kind, const char *group, const char *path,
			    uint64_t at, uint64_t nr_bytes)
{
	struct worker *worker = &workers[nr_workers];

	ASSERT(nr_workers < NR_WORKERS);
	memset(worker, 0, sizeof(*worker));
	worker->kind = kind;
	worker->group = group;
	worker->at = at;
	worker->nr_bytes = nr_bytes;
	snprintf(worker->path, sizeof(worker->path), "%s", path);
	fflush(stdout);
	worker->pid = fork();
	if (!worker->pid) {
		worker_run(worker);
		_exit(0);
	}
	ASSERT_OK(worker->pid);
	nr_workers++;
	return worker;
}

/* The operation that goes on counts, too. */
unsigned int worker_longest_ms(const struct worker *worker)
{
	const uint64_t start = atomic_load(&worker->start_ns);
	uint64_t longest = atomic_load(&worker->longest_ns);

	if (start && now_ns() - start > longest)
		longest = now_ns() - start;
	return longest / 1000000;
}

/*
 * Each worker finishes its operation, which must not hang any more.  A reader may
 * fail, as its image may have been destroyed.
 */
void workers_stop(void)
{
	unsigned int i;

	for (i = 0; i < nr_workers; i++)
		atomic_store(&workers[i].is_over, true);
	for (i = 0; i < nr_workers; i++) {
		waitpid(workers[i].pid, NULL, 0);
		if (workers[i].kind != READ_SYNC)
			EXPECT_EQ(atomic_load(&workers[i].error), 0);
	}
	nr_workers = 0;
}

/* --- calls --- */

struct call {
	call_fn make;
	void *data;
	pthread_t thread;
	bool is_started;
	uint64_t start_ns;
	atomic_ullong end_ns;		/* 0 until it has returned */
};

static struct call calls[NR_CALLS];

static void *call_run(void *data)
{
	struct call *call = data;

	call->make(call->data);
	atomic_store(&call->end_ns, now_ns());
	return NULL;
}

struct call *call_start(call_fn make, void *data)
{
	struct call *call = calls;

	while (call < calls + NR_CALLS && call->is_started)
		call++;
	ASSERT(call < calls + NR_CALLS);
	call->make = make;
	call->data = data;
	atomic_store(&call->end_ns, 0);
	call->start_ns = now_ns();
	ASSERT_EQ(pthread_create(&call->thread, NULL, call_run, call), 0);
	call->is_started = true;
	return call;
}

bool call_ends_within(struct call *call, unsigned int ms)
{
	while (!atomic_load(&call->end_ns)) {
		if (call_ms(call) > ms)
			return false;
		sleep_ms(1);
	}
	return true;
}

/* How long it took, or takes. */
unsigned int call_ms(struct call *call)
{
	const uint64_t end = atomic_load(&call->end_ns);

	return ((end ? end : now_ns()) - call->start_ns) / 1000000;
}

/* Wait for its end; returns how long it took. */
unsigned int call_end(struct call *call)
{
	pthread_join(call->thread, NULL);
	call->is_started = false;
	return call_ms(call);
}

static void calls_end(void)
{
	unsigned int i;

	for (i = 0; i < NR_CALLS; i++)
		if (calls[i].is_started)
			call_end(&calls[i]);
}

/* The following are for call_start(); @data: where in the origin. */
int write_block(void *data)
{
	void *buffer = alloc_aligned(BLOCK_BYTES);
	int fd = open(origin.path, O_WRONLY | O_DIRECT | O_CLOEXEC);
	int ret;

	memset(buffer, 0x22, BLOCK_BYTES);
	ret = pwrite(fd, buffer, BLOCK_BYTES, *(const uint64_t *)data);
	close(fd);
	free(buffer);
	return ret;
}

/* @data: NULL */
int destroy_snapshot(void *data)
{
	return data ? -EINVAL : control_snapshot_destroy(ctl, &snapshot.id);
}

/* --- comparing --- */

/* Three times as long, and what a busy machine may add, does not count as waiting. */
void expect_no_slower(const char *what, unsigned int bare_ms, unsigned int held_ms)
{
	ktap_note("%s: %u ms without a snapshot, %u ms with one", what, bare_ms, held_ms);
	EXPECT(held_ms <= 3 * bare_ms + FLOOR_MS);
}

void expect_share(const char *what, unsigned long long bare, unsigned long long held,
		  unsigned int percent)
{
	ktap_note("%s: %llu without a snapshot, %llu with one", what, bare, held);
	EXPECT(bare > 0);
	EXPECT(held * 100 >= bare * percent);
}

/* --- the end --- */

void kind_tear_down(void)
{
	unsigned int ms;

	if (has_mapping)
		mapping_resume(MAPPING);
	groups_unlimit();
	if (ctl >= 0)
		destroy_all_snapshots();
	workers_stop();
	calls_end();
	groups_remove();
	ctl_tear_down();
	/* A snapshot that was destroyed may still wait for what its devices were asked. */
	for (ms = 0; has_mapping && mapping_remove(MAPPING) && ms < PATIENCE_MS; ms += 100)
		sleep_ms(100);
	has_mapping = false;
	null_disk_destroy(&origin);
	null_disk_destroy(&storage);
	null_disk_destroy(&lower);
	if (is_reloaded)
		module_reload("");
	if (ctl >= 0)
		close(ctl);
	ctl = -1;
	is_reloaded = false;
}
