// SPDX-License-Identifier: GPL-2.0
/*
 * Processes that are killed: writers, readers of images, agents
 *
 * SIGKILL comes at a random moment, or at one that the test waits for.  The
 * process has to die; what it had submitted goes on without it; a snapshot stays
 * until somebody else destroys it, and is worth as much as before.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test_life_aio.h"
#include "test_life_kind.h"

/* How long a request to the slow disk takes. */
#define SLOW_MS 400U

static struct disk slow, stacked;
static struct random random_moment;

/* Written by a process that may be killed at any time. */
static struct report {
	struct blk_snap_snapshot_event event;
	atomic_int is_there;
} *report;

void kill_set_up(void)
{
	anchored_set_up();
	random_init(&random_moment, ktap_options.seed);
	if (!report)
		report = mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT(report != MAP_FAILED);
	memset(report, 0, sizeof(*report));
}

void kill_tear_down(void)
{
	dm_kind_resume();
	life_tear_down();
	null_disk_destroy(&slow);
	dm_kind.unmake(&stacked);
}

static void make_slow_disk(void)
{
	const struct null_disk_options options = {
		.completion_ns = SLOW_MS * 1000000,
	};

	ASSERT_OK(null_disk_create(&slow, "nullb5", DISK_MIB, &options));
}

/* --- processes --- */

/* @run gets a control file of its own and is called until the process dies. */
static pid_t start_process(void (*run)(const void *data), const void *data)
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	ASSERT_OK(pid);
	if (pid)
		return pid;
	ctl = control_open();
	for (;;)
		run(data);
}

static bool process_has_ended(pid_t pid)
{
	return waitpid(pid, NULL, WNOHANG) == pid;
}

/* Returns whether it really dies. */
static bool kill_process(pid_t pid)
{
	unsigned int ms;

	kill(pid, SIGKILL);
	for (ms = 0; ms < PATIENCE_MS; ms++) {
		if (process_has_ended(pid))
			return true;
		sleep_ms(1);
	}
	return false;
}

static bool wait_for_report(void)
{
	unsigned int ms;

	for (ms = 0; ms < PATIENCE_MS && !report->is_there; ms++)
		sleep_ms(1);
	return report->is_there;
}

static bool wait_for_held_writes(const char *image_path)
{
	unsigned int ms;

	for (ms = 0; ms < PATIENCE_MS; ms++) {
		if (held_writes(image_path) > 0)
			return true;
		sleep_ms(1);
	}
	return false;
}

/* Nobody is left who could have kept something: all can be given up. */
static void expect_nothing_is_kept(void)
{
	destroy_all_snapshots();
	close_ctl();
	EXPECT_OK(unload());
	EXPECT(fill_direct(origin.path, NEW_BYTE, MIB, 0));
}

/* --- at any moment --- */

static void create_and_destroy(const void *data)
{
	struct blk_snap_uuid id;

	(void)data;
	if (!control_snapshot_create(ctl, &origin.id, 1, &id))
		control_snapshot_destroy(ctl, &id);
}

static void append_pieces(const void *data)
{
	static uint64_t sector;

	append_range(data, &storage, sector, 8);
	sector += 8;
}

static void take(const void *data)
{
	const struct snapshot *snapshot = data;

	control_snapshot_take(ctl, &snapshot->id);
}

static void destroy(const void *data)
{
	const struct snapshot *snapshot = data;

	control_snapshot_destroy(ctl, &snapshot->id);
}

static void look_at_everything(const void *data)
{
	const struct snapshot *snapshot = data;
	struct blk_snap_block_range range = { 0, 8 };
	struct blk_snap_image_info *images;
	struct blk_snap_cbt_info *infos;
	struct blk_snap_version version;
	struct blk_snap_uuid *ids;
	unsigned int nr;
	uint8_t map[64];

	control_version(ctl, &version);
	if (!control_tracker_collect(ctl, &infos, &nr))
		free(infos);
	if (!control_snapshot_collect(ctl, &ids, &nr))
		free(ids);
	if (!control_snapshot_collect_images(ctl, &snapshot->id, &images, &nr))
		free(images);
	control_tracker_read_cbt_map(ctl, origin.id, 0, sizeof(map), map);
	control_tracker_mark_dirty_blocks(ctl, origin.id, &range, 1);
	control_tracker_remove(ctl, origin.id);
}

static void read_image(const void *data)
{
	static char buffer[MIB] __attribute__((aligned(4096)));
	static int direct = -1, buffered = -1;
	static uint64_t at;
	const char *path = image_of(data, &origin);

	if (direct < 0) {
		direct = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
		buffered = open(path, O_RDONLY | O_CLOEXEC);
	}
	at = (at + sizeof(buffer)) % origin.nr_bytes;
	if (pread(direct, buffer, sizeof(buffer), at) < 0 ||
	    pread(buffered, buffer, sizeof(buffer), at) < 0)
		_exit(1);
}

static void write_image(const void *data)
{
	static uint64_t at = TRAFFIC_BYTES;

	fill_direct(image_of(data, &origin), NEW_BYTE, 64 * KIB, at);
	at += 64 * KIB;
	if (at == origin.nr_bytes)
		at = TRAFFIC_BYTES;
}

static void write_origin(const void *data)
{
	static uint64_t at;

	(void)data;
	fill_direct(origin.path, NEW_BYTE, 64 * KIB, at);
	at = (at + 64 * KIB) % TRAFFIC_BYTES;
}

static bool snapshot_is_taken(const struct snapshot *snapshot)
{
	struct blk_snap_image_info *images;
	unsigned int nr;

	if (control_snapshot_collect_images(ctl, &snapshot->id, &images, &nr))
		return false;
	free(images);
	return true;
}

enum stage { NONE, CREATED, APPENDED, TAKEN };

/* What a process that is killed at any moment does, from which stage on. */
static const struct deed {
	const char *name;
	enum stage stage;
	void (*run)(const void *data);
} deeds[] = {
	{ "creates", NONE, create_and_destroy },
	{ "appends", CREATED, append_pieces },
	{ "takes", APPENDED, take },
	{ "destroys", TAKEN, destroy },
	{ "looks at everything", TAKEN, look_at_everything },
	{ "reads an image", TAKEN, read_image },
	{ "writes to an image", TAKEN, write_image },
	{ "writes to an origin", TAKEN, write_origin },
};

static void prepare_snapshot(struct snapshot *snapshot, enum stage stage)
{
	ASSERT(fill_direct(origin.path, OLD_BYTE, TRAFFIC_BYTES, 0));
	if (stage >= CREATED)
		snapshot_create(snapshot, &origin);
	if (stage >= APPENDED)
		ASSERT_OK(append_range(snapshot, &storage, 0,
				       storage.nr_bytes / SECTOR_SIZE));
	if (stage >= TAKEN)
		snapshot_take(snapshot);
}

/* Killed so early, late, or in between. */
static void kill_in_deed(const struct deed *deed)
{
	struct snapshot snapshot = { 0 };
	pid_t pid;

	prepare_snapshot(&snapshot, deed->stage);
	pid = start_process(deed->run, &snapshot);
	usleep(random_below(&random_moment, 30000));
	EXPECT(kill_process(pid));
	if (snapshot_is_taken(&snapshot)) {
		snapshot_find_images(&snapshot);
		EXPECT(fill_direct(origin.path, NEW_BYTE, MIB, 0));
		EXPECT(reads_as(image_of(&snapshot, &origin), OLD_BYTE,
				TRAFFIC_BYTES, 0));
	}
	destroy_all_snapshots();
	EXPECT(fill_direct(origin.path, NEW_BYTE, MIB, 0));
}

static void test_killed_at_any_moment(void)
{
	unsigned int i, j, nr_rounds = ktap_options.is_fast ? 1 : 5;

	for (i = 0; i < ARRAY_SIZE(deeds); i++) {
		ktap_note("who %s is killed %u times", deeds[i].name, nr_rounds);
		for (j = 0; j < nr_rounds; j++)
			kill_in_deed(&deeds[i]);
	}
	expect_nothing_is_kept();
}

/* --- agents --- */

static void make_snapshot_and_rest(const void *data)
{
	struct snapshot snapshot;

	(void)data;
	snapshot_now(&snapshot, &origin, &storage);
	report->is_there = 1;
	pause();
}

static void test_snapshot_outlives_its_agent(void)
{
	struct blk_snap_uuid *ids;
	struct snapshot snapshot;
	unsigned int nr;
	pid_t pid;

	ASSERT(fill_direct(origin.path, OLD_BYTE, MIB, 0));
	pid = start_process(make_snapshot_and_rest, NULL);
	ASSERT(wait_for_report());
	ASSERT(kill_process(pid));
	ASSERT_OK(control_snapshot_collect(ctl, &ids, &nr));
	ASSERT_EQ(nr, 1);
	snapshot.id = ids[0];
	free(ids);
	snapshot_find_images(&snapshot);
	ASSERT(fill_direct(origin.path, NEW_BYTE, MIB, 0));
	EXPECT(reads_as(image_of(&snapshot, &origin), OLD_BYTE, MIB, 0));
	close_ctl();
	EXPECT_ERR(unload(), EAGAIN);
	ctl_set_up();
	EXPECT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	expect_nothing_is_kept();
}

static void take_and_report(const void *data)
{
	take(data);
	report->is_there = 1;
	pause();
}

/*
 * An agent in a take that waits for writes in flight: they are in the hands of a
 * driver that has been told to suspend.
 */
static pid_t start_waiting_take(struct snapshot *snapshot, struct aio *aio)
{
	int fd;
	pid_t pid;

	fd = ASSERT_OK(open(stacked.path, O_WRONLY | O_DIRECT | O_CLOEXEC));
	snapshot_create(snapshot, &stacked);
	ASSERT_OK(append_range(snapshot, &storage, 0, 2 * 2048));
	ASSERT(dm_kind_suspend());
	ASSERT(aio_start(aio, fd, 0, NEW_BYTE));
	close(fd);
	pid = start_process(take_and_report, snapshot);
	sleep_ms(500);
	EXPECT(!report->is_there);
	return pid;
}

static void test_agent_killed_in_a_take_leaves_no_gate_closed(void)
{
	struct aio in_flight, kept;
	struct snapshot snapshot;
	pid_t pid;
	int fd;

	if (!dm_kind.make(&stacked))
		return;
	pid = start_waiting_take(&snapshot, &in_flight);
	fd = ASSERT_OK(open(stacked.path, O_WRONLY | O_DIRECT | O_CLOEXEC));
	ASSERT(aio_start(&kept, fd, MIB, NEW_BYTE));
	kill(pid, SIGKILL);
	sleep_ms(100);
	EXPECT(dm_kind_resume());
	EXPECT(kill_process(pid));
	EXPECT(aio_finish(&in_flight));
	EXPECT(aio_finish(&kept));
	EXPECT_EQ(in_flight.nr_failed + kept.nr_failed, 0);
	close(fd);
	EXPECT_OK(control_snapshot_destroy(ctl, &snapshot.id));
}

static void test_destroy_ends_a_take(void)
{
	struct snapshot snapshot;
	struct aio aio;
	pid_t taker;

	if (!dm_kind.make(&stacked))
		return;
	taker = start_waiting_take(&snapshot, &aio);
	EXPECT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	/* Its call has returned, with the writes still in flight. */
	EXPECT(wait_for_report());
	EXPECT(kill_process(taker));
	EXPECT(dm_kind_resume());
	EXPECT(aio_finish(&aio));
	EXPECT_EQ(aio.nr_failed, 0);
}

static void test_take_in_vain_leaves_no_gate_closed(void)
{
	struct snapshot snapshot;
	struct aio in_flight;
	int fd;

	if (!dm_kind.make(&stacked))
		return;
	fd = ASSERT_OK(open(stacked.path, O_WRONLY | O_DIRECT | O_CLOEXEC));
	snapshot_create(&snapshot, &stacked);
	ASSERT_OK(append_range(&snapshot, &storage, 0, 2 * 2048));
	ASSERT(dm_kind_suspend());
	ASSERT(aio_start(&in_flight, fd, 0, NEW_BYTE));
	EXPECT_ERR(control_snapshot_take(ctl, &snapshot.id), ETIMEDOUT);
	EXPECT(dm_kind_resume());
	EXPECT(aio_finish(&in_flight));
	EXPECT_EQ(in_flight.nr_failed, 0);
	close(fd);
	EXPECT(fill_direct(stacked.path, OLD_BYTE, MIB, 0));
	/* And it may be tried again. */
	snapshot_take(&snapshot);
	EXPECT(fill_direct(stacked.path, NEW_BYTE, MIB, 0));
	EXPECT(reads_as(image_of(&snapshot, &stacked), OLD_BYTE, MIB, 0));
	EXPECT_OK(control_snapshot_destroy(ctl, &snapshot.id));
}

/* --- those who wait for events --- */

static void wait_for_event(const void *data)
{
	const struct snapshot *snapshot = data;

	report->event.id = snapshot->id;
	report->event.timeout_ms = 60000;
	ctl_call(IOCTL_BLK_SNAP_SNAPSHOT_WAIT_EVENT, &report->event);
	pause();
}

/* Either it has got the event or the event is there for somebody else. */
static void kill_waiter(unsigned int us)
{
	struct blk_snap_snapshot_event event;
	struct snapshot snapshot;
	bool was_fetched;
	pid_t pid;

	memset(report, POISON, sizeof(*report));
	snapshot_create(&snapshot, &origin);
	pid = start_process(wait_for_event, &snapshot);
	usleep(us);
	EXPECT(kill_process(pid));
	was_fetched = report->event.code == blk_snap_event_code_low_free_space;
	if (was_fetched)
		EXPECT_ERR(next_event(&snapshot, 0, &event), ENOENT);
	else
		EXPECT_OK(next_event(&snapshot, 0, &event));
	EXPECT_OK(control_snapshot_destroy(ctl, &snapshot.id));
}

static void test_killed_waiter_takes_no_event_with_it(void)
{
	unsigned int i, nr_rounds = ktap_options.is_fast ? 5 : 40;

	for (i = 0; i < nr_rounds; i++)
		kill_waiter(random_below(&random_moment, 6000));
	expect_nothing_is_kept();
}

static void wait_and_poll(const void *data)
{
	struct pollfd pollfd = { .fd = ctl, .events = POLLIN };
	struct blk_snap_snapshot_event event;

	while (!next_event(data, 0, &event))
		;
	report->is_there = 1;
	if (poll(&pollfd, 1, -1) == 1)
		report->is_there = 2;
	next_event(data, 60000, &event);
}

static void test_killed_poller_keeps_nothing(void)
{
	struct snapshot snapshot;
	pid_t polls;

	snapshot_create(&snapshot, &origin);
	polls = start_process(wait_and_poll, &snapshot);
	ASSERT(wait_for_report());
	sleep_ms(100);
	EXPECT_EQ(report->is_there, 1);
	EXPECT(kill_process(polls));
	EXPECT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	expect_nothing_is_kept();
}

static void test_destroy_wakes_who_polls(void)
{
	struct snapshot snapshot;
	unsigned int ms;
	pid_t polls;

	snapshot_create(&snapshot, &origin);
	polls = start_process(wait_and_poll, &snapshot);
	ASSERT(wait_for_report());
	sleep_ms(100);
	EXPECT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	for (ms = 0; ms < PATIENCE_MS && report->is_there != 2; ms++)
		sleep_ms(1);
	EXPECT_EQ(report->is_there, 2);
	EXPECT(kill_process(polls));
}

/* --- I/O under way --- */

/* Many writes at once, and behind them one for which the process waits. */
static void write_slow_disk(const void *data)
{
	struct aio aio;
	int fd = open(slow.path, O_WRONLY | O_DIRECT | O_CLOEXEC);

	(void)data;
	aio_start(&aio, fd, 0, NEW_BYTE);
	fill_direct(slow.path, NEW_BYTE, AIO_WRITES * AIO_BLOCK_BYTES, MIB);
	pause();
}

/* The disk held zeros. */
static void test_held_writes_outlive_their_writer(void)
{
	const size_t nr_bytes = AIO_WRITES * AIO_BLOCK_BYTES;
	struct snapshot snapshot;
	const char *image;
	pid_t pid;

	make_slow_disk();
	snapshot_now(&snapshot, &slow, &storage);
	image = image_of(&snapshot, &slow);
	pid = start_process(write_slow_disk, NULL);
	ASSERT(wait_for_held_writes(image));
	EXPECT(kill_process(pid));
	EXPECT_EQ(held_writes(image), 0);
	EXPECT(reads_as(image, 0, nr_bytes, 0));
	EXPECT(reads_as(image, 0, nr_bytes, MIB));
	EXPECT(reads_as(slow.path, NEW_BYTE, nr_bytes, 0));
}

static void read_slow_image(const void *data)
{
	report->is_there = 1;
	reads_as(image_of(data, &slow), 0, MIB, 0);
	pause();
}

/* Writes wait for image reads, so those have to end without their reader. */
static void test_killed_reader_holds_no_write_up(void)
{
	struct snapshot snapshot;
	pid_t pid;

	make_slow_disk();
	snapshot_now(&snapshot, &slow, &storage);
	pid = start_process(read_slow_image, &snapshot);
	ASSERT(wait_for_report());
	sleep_ms(SLOW_MS / 4);
	kill(pid, SIGKILL);
	EXPECT(fill_direct(slow.path, NEW_BYTE, MIB, 0));
	EXPECT(kill_process(pid));
	EXPECT(reads_as(image_of(&snapshot, &slow), 0, MIB, 0));
}

const struct ktap_test kill_tests[] = {
	KTAP_TEST(test_killed_at_any_moment),
	KTAP_TEST(test_snapshot_outlives_its_agent),
	KTAP_TEST(test_agent_killed_in_a_take_leaves_no_gate_closed),
	KTAP_TEST(test_destroy_ends_a_take),
	KTAP_SLOW_TEST(test_take_in_vain_leaves_no_gate_closed),
	KTAP_TEST(test_killed_waiter_takes_no_event_with_it),
	KTAP_TEST(test_killed_poller_keeps_nothing),
	KTAP_TEST(test_destroy_wakes_who_polls),
	KTAP_TEST(test_held_writes_outlive_their_writer),
	KTAP_TEST(test_killed_reader_holds_no_write_up),
	KTAP_END
};
