// SPDX-License-Identifier: GPL-2.0
/*
 * Who has to wait: devices, slow and hung ones, and those who use them
 *
 * A device that hangs is a mapping that is suspended: it takes requests and
 * completes none until it goes on.  It always does in the end, so that a driver
 * that hangs with it fails its test and not all of them.
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "stacked.h"
#include "test_waits.h"

#define CGROUP "/sys/fs/cgroup"
#define SLOW CGROUP "/blksnap-waits"
#define WRITE_BYTES 4096U
#define STRIPE "/dev/md1"
#define STRIPE_CREATE "mdadm --create " STRIPE " --run --metadata=1.2 --level=0 " \
	"--raid-devices=2"
#define NODE_MS 10000U			/* time for a device node to appear */

static struct {
	struct disk disks[72];
	unsigned int nr_disks;
	struct disk mappings[4];
	bool is_mapped[4];
	struct disk stripe;
	bool is_striped;
	struct disk multipath;
	char mounts[4][32];
	unsigned int nr_mounts;
	pid_t children[16];
	struct writer writers[64];
	unsigned int nr_writers;
	struct call calls[8];
	unsigned int nr_calls;
	bool is_reloaded;

	pthread_t rescuer;
	bool has_rescuer;
	atomic_bool is_safe;
} rig;

/* --- devices --- */

/* They are destroyed by waits_tear_down(). */
struct disk *rig_disk(uint64_t nr_mib, const struct null_disk_options *options)
{
	struct disk *disk = &rig.disks[rig.nr_disks];
	char name[16];

	ASSERT(rig.nr_disks < ARRAY_SIZE(rig.disks));
	snprintf(name, sizeof(name), "nullb%u", rig.nr_disks);
	ASSERT_OK(null_disk_create(disk, name, nr_mib, options));
	rig.nr_disks++;
	return disk;
}

static unsigned int find_free_mapping(void)
{
	unsigned int i = 0;

	while (i < ARRAY_SIZE(rig.mappings) && rig.is_mapped[i])
		i++;
	ASSERT(i < ARRAY_SIZE(rig.mappings));
	return i;
}

static const char *mapping_name(unsigned int i)
{
	static const char * const names[] = { "waits0", "waits1", "waits2", "waits3" };

	return names[i];
}

const char *rig_mapping_name(const struct disk *mapping)
{
	return mapping_name(mapping - rig.mappings);
}

struct disk *rig_linear(const struct disk *lower)
{
	unsigned int i = find_free_mapping();

	ASSERT_OK(linear_create(&rig.mappings[i], mapping_name(i), lower));
	rig.is_mapped[i] = true;
	return &rig.mappings[i];
}

struct disk *rig_delay(const struct disk *lower, unsigned int write_ms)
{
	unsigned int i = find_free_mapping();

	ASSERT_OK(delay_create(&rig.mappings[i], mapping_name(i), lower, 0, write_ms));
	rig.is_mapped[i] = true;
	return &rig.mappings[i];
}

/*
 * An md array without statistics: older kernels send on the very bio that it gets.
 * NULL, and the test is skipped, where there is no md.
 */
struct disk *rig_stripe(const struct disk *a, const struct disk *b)
{
	kernel_module_load("raid0");
	if (shell(STRIPE_CREATE " %s %s >/dev/null 2>&1", a->path, b->path)) {
		ktap_skip("no md devices here");
		return NULL;
	}
	rig.is_striped = true;
	ASSERT_OK(disk_find(&rig.stripe, STRIPE));
	ASSERT(write_text("/sys/block/md1/queue/iostats", "0"));
	return &rig.stripe;
}

/*
 * The NVMe disk with two paths that the machine may have.  The paths have no nodes.
 * NULL, and the test is skipped, if there is none.
 */
struct disk *rig_multipath(void)
{
	unsigned int ms;
	glob_t found;

	if (!kernel_module_load("nvme") || access("/sys/class/nvme/nvme0", F_OK)) {
		ktap_skip("no NVMe here");
		return NULL;
	}
	for (ms = 0; glob("/dev/nvme*n1", 0, NULL, &found); ms += 10) {
		ASSERT(ms < NODE_MS);
		sleep_ms(10);
	}
	ASSERT_OK(disk_find(&rig.multipath, found.gl_pathv[0]));
	globfree(&found);
	ASSERT_EQ(glob("/sys/block/nvme*c*n1", 0, NULL, &found), 0);
	ktap_note("%s has %zu paths", rig.multipath.path, found.gl_pathc);
	globfree(&found);
	return &rig.multipath;
}

/* Suspending one that delays requests makes it complete them. */
static void resume_mappings(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(rig.mappings); i++)
		if (rig.is_mapped[i]) {
			mapping_suspend(mapping_name(i));
			mapping_resume(mapping_name(i));
		}
}

static void *rescue(void *data)
{
	unsigned int ms;

	for (ms = 0; ms < HANG_MS; ms += 50) {
		if (atomic_load(&rig.is_safe))
			return data;
		sleep_ms(50);
	}
	resume_mappings();
	return data;
}

/* Let a mapping complete nothing until rig_go_on(), or for HANG_MS at most. */
void rig_hang(const struct disk *mapping)
{
	if (!rig.has_rescuer) {
		atomic_store(&rig.is_safe, false);
		ASSERT_EQ(pthread_create(&rig.rescuer, NULL, rescue, NULL), 0);
		rig.has_rescuer = true;
	}
	ASSERT_OK(mapping_suspend(rig_mapping_name(mapping)));
}

/* No device hangs any longer. */
void rig_go_on(void)
{
	resume_mappings();
	atomic_store(&rig.is_safe, true);
	if (rig.has_rescuer)
		pthread_join(rig.rescuer, NULL);
	rig.has_rescuer = false;
}

/* Make a filesystem and mount it; returns where. */
const char *rig_mount(const struct disk *disk)
{
	char *dir = rig.mounts[rig.nr_mounts];

	ASSERT(rig.nr_mounts < ARRAY_SIZE(rig.mounts));
	snprintf(dir, sizeof(rig.mounts[0]), "/tmp/waits.%u", rig.nr_mounts);
	mkdir(dir, 0755);
	ASSERT_EQ(shell("mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 %s",
			disk->path), 0);
	ASSERT_OK(mount(disk->path, dir, "ext4", 0, NULL));
	rig.nr_mounts++;
	return dir;
}

static bool module_reload(const char *parameters)
{
	bool ok;

	close(ctl);
	ctl = -1;
	ok = !module_unload() && !module_load(parameters);
	if (!ok)
		module_load("");
	ctl_set_up();
	return ok;
}

/* Load the module with other parameters for this test. */
bool rig_reload(const char *parameters)
{
	rig.is_reloaded = module_reload(parameters);
	if (!rig.is_reloaded)
		ktap_skip("the module cannot be loaded with other parameters");
	return rig.is_reloaded;
}

static void end_children(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(rig.children); i++)
		if (rig.children[i]) {
			kill(rig.children[i], SIGKILL);
			child_join(rig.children[i]);
		}
}

static void remove_devices(void)
{
	unsigned int i;

	while (rig.nr_mounts)
		umount2(rig.mounts[--rig.nr_mounts], 0);
	if (rig.is_reloaded)
		module_reload("");
	ctl_tear_down();
	for (i = ARRAY_SIZE(rig.mappings); i-- > 0;)
		if (rig.is_mapped[i])
			mapping_remove(mapping_name(i));
	if (rig.is_striped)
		shell("mdadm --stop " STRIPE " >/dev/null 2>&1");
	while (rig.nr_disks)
		null_disk_destroy(&rig.disks[--rig.nr_disks]);
	rmdir(SLOW);
}

void waits_tear_down(void)
{
	unsigned int i;

	rig_go_on();
	end_children();
	writers_stop();
	for (i = 0; i < rig.nr_calls; i++)
		call_join(&rig.calls[i]);
	if (ctl >= 0)
		destroy_all_snapshots();
	remove_devices();
	memset(&rig, 0, sizeof(rig));
}

/* --- processes --- */

/* The child ends with what @fn returns. */
pid_t child_start(int (*fn)(void *data), void *data)
{
	unsigned int i = 0;
	pid_t child;

	while (i < ARRAY_SIZE(rig.children) && rig.children[i])
		i++;
	ASSERT(i < ARRAY_SIZE(rig.children));
	fflush(stdout);
	child = fork();
	if (!child)
		_exit(fn(data));
	ASSERT_OK(child);
	rig.children[i] = child;
	return child;
}

static void forget_child(pid_t child)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(rig.children); i++)
		if (rig.children[i] == child)
			rig.children[i] = 0;
}

bool child_ends_within(pid_t child, unsigned int ms)
{
	const uint64_t end_ns = now_ns() + ms * NS_PER_MS;

	do {
		if (waitpid(child, NULL, WNOHANG)) {
			forget_child(child);
			return true;
		}
		sleep_ms(5);
	} while (now_ns() < end_ns);
	return false;
}

/* Its exit code, or -1 if it was killed. */
int child_join(pid_t child)
{
	int status;

	if (waitpid(child, &status, 0) != child)
		return -1;
	forget_child(child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* --- a cgroup of little bandwidth --- */

/* False, and the test is skipped, where that is not possible. */
bool throttle_set(const struct disk *disk, uint64_t bytes_per_s)
{
	char limit[100];

	if (access(CGROUP "/cgroup.controllers", F_OK))
		mount("cgroup2", CGROUP, "cgroup2", 0, NULL);
	write_text(CGROUP "/cgroup.subtree_control", "+io");
	mkdir(SLOW, 0755);
	snprintf(limit, sizeof(limit), "%u:%u rbps=%llu wbps=%llu", disk->id.mj,
		 disk->id.mn, (unsigned long long)bytes_per_s,
		 (unsigned long long)bytes_per_s);
	if (write_text(SLOW "/io.max", limit))
		return true;
	ktap_skip("this kernel cannot limit the bandwidth of a cgroup");
	return false;
}

static int child_write_fn(void *data)
{
	const struct child_write *write = data;
	char *buffer = alloc_aligned(write->nr_bytes);
	int fd = open(write->path, O_WRONLY | O_DIRECT | O_CLOEXEC);

	memset(buffer, write->byte, write->nr_bytes);
	if (fd < 0 || (write->is_slow && !write_text(SLOW "/cgroup.procs", "0")))
		return 1;
	sleep_ms(write->delay_ms);
	return pwrite(fd, buffer, write->nr_bytes, write->at) !=
	       (ssize_t)write->nr_bytes;
}

/* Its exit code is 0 if the write has succeeded. */
pid_t child_write_start(const struct child_write *write)
{
	return child_start(child_write_fn, (void *)write);
}

/* --- writers --- */

static void write_once(struct writer *writer, const void *buffer, uint64_t at)
{
	uint64_t ns;

	atomic_store(&writer->begun_ns, now_ns());
	if (pwrite(writer->fd, buffer, WRITE_BYTES, at) != WRITE_BYTES)
		atomic_fetch_add(&writer->nr_failed, 1);
	ns = now_ns() - atomic_load(&writer->begun_ns);
	if (ns > atomic_load(&writer->longest_ns))
		atomic_store(&writer->longest_ns, ns);
	atomic_store(&writer->begun_ns, 0);
	atomic_fetch_add(&writer->nr_writes, 1);
}

static void *writer_run(void *data)
{
	struct writer *writer = data;
	char *buffer = alloc_aligned(WRITE_BYTES);
	unsigned int i;

	for (i = 0; !atomic_load(&writer->is_over); i++) {
		memset(buffer, i, WRITE_BYTES);
		write_once(writer, buffer, writer->at + i * WRITE_BYTES % writer->nr_bytes);
		usleep(writer->pause_us);
	}
	free(buffer);
	return NULL;
}

static void start_writer(const char *path, uint64_t at, uint64_t nr_bytes,
			 unsigned int pause_us)
{
	struct writer *writer = &rig.writers[rig.nr_writers];

	ASSERT(rig.nr_writers < ARRAY_SIZE(rig.writers));
	memset(writer, 0, sizeof(*writer));
	writer->fd = ASSERT_OK(open(path, O_WRONLY | O_CREAT | O_DIRECT | O_DSYNC |
				    O_CLOEXEC, 0600));
	writer->at = at;
	writer->nr_bytes = nr_bytes;
	writer->pause_us = pause_us;
	ASSERT_EQ(pthread_create(&writer->thread, NULL, writer_run, writer), 0);
	rig.nr_writers++;
}

/**
 * writer_start() - write 4 KiB again and again, directly, until writers_stop()
 * @path:	a file is made if it is not there
 * @at:		where, in bytes
 * @pause_us:	between two writes
 */
void writer_start(const char *path, uint64_t at, unsigned int pause_us)
{
	start_writer(path, at, WRITE_BYTES, pause_us);
}

/* Each write goes to the next 4 KiB, and again to the first after @nr_bytes. */
void writer_start_over(const char *path, uint64_t nr_bytes, unsigned int pause_us)
{
	start_writer(path, 0, nr_bytes, pause_us);
}

/* Forget the writes so far. */
void writers_begin_anew(void)
{
	unsigned int i;

	for (i = 0; i < rig.nr_writers; i++)
		atomic_store(&rig.writers[i].longest_ns, 0);
}

static uint64_t writer_longest_ns(struct writer *writer)
{
	const uint64_t begun_ns = atomic_load(&writer->begun_ns);
	const uint64_t longest_ns = atomic_load(&writer->longest_ns);
	const uint64_t now = now_ns();

	if (begun_ns && now > begun_ns && now - begun_ns > longest_ns)
		return now - begun_ns;
	return longest_ns;
}

/* The longest write of all writers, which may not be done yet. */
uint64_t writers_longest_ns(void)
{
	uint64_t ns, longest_ns = 0;
	unsigned int i;

	for (i = 0; i < rig.nr_writers; i++) {
		ns = writer_longest_ns(&rig.writers[i]);
		if (ns > longest_ns)
			longest_ns = ns;
	}
	return longest_ns;
}

void writers_stop(void)
{
	unsigned int i, nr_failed = 0;

	for (i = 0; i < rig.nr_writers; i++)
		atomic_store(&rig.writers[i].is_over, true);
	while (rig.nr_writers) {
		struct writer *writer = &rig.writers[--rig.nr_writers];

		pthread_join(writer->thread, NULL);
		nr_failed += atomic_load(&writer->nr_failed);
		close(writer->fd);
	}
	EXPECT_EQ(nr_failed, 0);
}

/* --- calls --- */

static void *call_run(void *data)
{
	struct call *call = data;
	const uint64_t begun_ns = now_ns();

	call->ret = call->fn(call->data);
	call->ns = now_ns() - begun_ns;
	atomic_store(&call->is_done, true);
	return NULL;
}

struct call *call_start(int (*fn)(void *data), void *data)
{
	struct call *call = &rig.calls[rig.nr_calls];

	ASSERT(rig.nr_calls < ARRAY_SIZE(rig.calls));
	memset(call, 0, sizeof(*call));
	call->fn = fn;
	call->data = data;
	ASSERT_EQ(pthread_create(&call->thread, NULL, call_run, call), 0);
	rig.nr_calls++;
	return call;
}

bool call_ends_within(struct call *call, unsigned int ms)
{
	const uint64_t end_ns = now_ns() + ms * NS_PER_MS;

	while (!atomic_load(&call->is_done) && now_ns() < end_ns)
		sleep_ms(5);
	return atomic_load(&call->is_done);
}

void call_join(struct call *call)
{
	if (!call->is_joined)
		pthread_join(call->thread, NULL);
	call->is_joined = true;
}

int take_fn(void *snapshot)
{
	return control_snapshot_take(ctl, &((struct snapshot *)snapshot)->id);
}

/* --- all the calls that an agent makes --- */

struct agent {
	const struct disk *disk;
	const struct disk *storage;
	uint64_t storage_sector;
	struct snapshot snapshot;
};

static int agent_version(struct agent *agent)
{
	struct blk_snap_version version;

	(void)agent;
	return control_version(ctl, &version);
}

static int agent_list(struct agent *agent)
{
	struct blk_snap_cbt_info *infos;
	unsigned int nr;
	int ret = control_tracker_collect(ctl, &infos, &nr);

	(void)agent;
	if (!ret)
		free(infos);
	return ret;
}

static int agent_create(struct agent *agent)
{
	return control_snapshot_create(ctl, &agent->disk->id, 1, &agent->snapshot.id);
}

static int agent_event(struct agent *agent)
{
	struct blk_snap_snapshot_event event;

	return next_event(&agent->snapshot, 0, &event);
}

static int agent_append(struct agent *agent)
{
	return append_range(&agent->snapshot, agent->storage, agent->storage_sector,
			    8192);
}

static int agent_take(struct agent *agent)
{
	return take_fn(&agent->snapshot);
}

static int agent_collect(struct agent *agent)
{
	struct blk_snap_uuid *ids;
	unsigned int nr;
	int ret = control_snapshot_collect(ctl, &ids, &nr);

	(void)agent;
	if (!ret)
		free(ids);
	return ret;
}

static int agent_images(struct agent *agent)
{
	struct blk_snap_image_info *images;
	unsigned int nr;
	int ret = control_snapshot_collect_images(ctl, &agent->snapshot.id, &images,
						  &nr);

	if (!ret)
		free(images);
	return ret;
}

static int agent_read_map(struct agent *agent)
{
	uint8_t map[16];

	return control_tracker_read_cbt_map(ctl, agent->disk->id, 0, sizeof(map), map);
}

static int agent_mark(struct agent *agent)
{
	struct blk_snap_block_range range = { 0, 8 };

	return control_tracker_mark_dirty_blocks(ctl, agent->disk->id, &range, 1);
}

static int agent_destroy(struct agent *agent)
{
	return control_snapshot_destroy(ctl, &agent->snapshot.id);
}

static int agent_remove(struct agent *agent)
{
	return control_tracker_remove(ctl, agent->disk->id);
}

static const struct {
	const char *name;
	int (*make)(struct agent *agent);
} agent_calls[] = {
	{ "version", agent_version },
	{ "tracker_collect", agent_list },
	{ "snapshot_create", agent_create },
	{ "wait_event", agent_event },
	{ "append_storage", agent_append },
	{ "snapshot_take", agent_take },
	{ "snapshot_collect", agent_collect },
	{ "collect_images", agent_images },
	{ "read_cbt_map", agent_read_map },
	{ "mark_dirty_blocks", agent_mark },
	{ "snapshot_destroy", agent_destroy },
	{ "tracker_remove", agent_remove },
};

/**
 * expect_all_calls_quick() - make every call there is for one disk
 * @disk:	not tracked, and not tracked afterwards
 * @storage:	difference storage
 * @storage_sector:	where 4 MiB of it are free
 *
 * None of them may take longer than CALL_LIMIT_MS.
 */
void expect_all_calls_quick(const struct disk *disk, const struct disk *storage,
			    uint64_t storage_sector)
{
	struct agent agent = {
		.disk = disk,
		.storage = storage,
		.storage_sector = storage_sector,
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(agent_calls); i++) {
		const uint64_t begun_ns = now_ns();
		int ret = agent_calls[i].make(&agent);
		const unsigned int ms = (now_ns() - begun_ns) / NS_PER_MS;

		ktap_note("%s: %u ms", agent_calls[i].name, ms);
		if (ret < 0)
			FAIL("%s: %s", agent_calls[i].name, strerror(-ret));
		if (ms > CALL_LIMIT_MS)
			FAIL("%s took %u ms", agent_calls[i].name, ms);
	}
}
