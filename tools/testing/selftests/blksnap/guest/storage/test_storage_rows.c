// SPDX-License-Identifier: GPL-2.0
/*
 * The rest of the table of failures, and the table itself
 *
 * Each test that brings about what a row of the table "What fails how" says
 * names the row.  In the end the rows that were named are compared with those
 * in the documentation: neither may have one that the other has not.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test_storage.h"

#define MAX_ROWS 64U
#define ROW_BYTES 200U

static char named_rows[MAX_ROWS][ROW_BYTES];
static unsigned int nr_named_rows;

/* This test is about a row of the table; @text is its first column. */
void row(const char *text)
{
	unsigned int i;

	for (i = 0; i < nr_named_rows; i++)
		if (!strcmp(named_rows[i], text))
			return;
	ASSERT(nr_named_rows < MAX_ROWS);
	snprintf(named_rows[nr_named_rows++], ROW_BYTES, "%s", text);
}

/* --- devices that go away --- */

static void test_origin_is_removed(void)
{
	void *buffer = alloc_aligned(BLOCK_BYTES);
	struct blk_snap_cbt_info info, zero = { 0 };
	const char *image;
	struct told told;
	int fd;

	row("the origin is removed");
	rig_take(STORAGE_BYTES);
	image = image_of(&rig.snapshot, rig.origin);
	origin_write(MIB, 0);
	wait_until_stored();
	fd = ASSERT_OK(open(rig.origin->path, O_WRONLY | O_DIRECT));
	null_disk_destroy(&rig.origin_disk);
	EXPECT_EQ(pwrite(fd, buffer, BLOCK_BYTES, 4 * MIB), -1);
	close(fd);
	free(buffer);
	/* What was copied is still there. */
	expect_holds(image, ledger.taken, MIB, 0);
	EXPECT_EQ(io_error(image, false, BLOCK_BYTES, 4 * MIB), EIO);
	EXPECT_EQ(image_number("error"), 0);
	collect_events(&rig.snapshot, CALM_MS, &told);
	EXPECT_EQ(told.nr_corrupted, 0);
	EXPECT_OK(control_snapshot_destroy(ctl, &rig.snapshot.id));
	ASSERT(tracker_info(rig.origin, &info));
	zero.dev_id = rig.origin->id;
	EXPECT(!memcmp(&info, &zero, sizeof(info)));
}

static void test_storage_is_removed(void)
{
	const char *image;

	row("the storage is removed");
	ledger_open(&ledger, rig.origin);
	snapshot_create(&rig.snapshot, rig.origin);
	ASSERT_OK(append_range(&rig.snapshot, &rig.spare_disk, EDGE_BYTES / SECTOR_SIZE,
			       STORAGE_BYTES / SECTOR_SIZE));
	snapshot_take(&rig.snapshot);
	ledger_take(&ledger);
	image = image_of(&rig.snapshot, rig.origin);
	origin_write(MIB, 0);
	wait_until_stored();
	null_disk_destroy(&rig.spare_disk);
	/* Nothing is lost before it is needed. */
	EXPECT_EQ(io_error(image, false, BLOCK_BYTES, 0), EIO);
	expect_holds(image, ledger.taken + MIB, ORIGIN_BYTES - MIB, MIB);
	EXPECT_EQ(image_number("error"), 0);
	origin_write(MIB, 4 * MIB);
	expect_broken(EIO);
}

/* A disk with a removable medium, whose medium is another one now. */
static void test_medium_of_the_origin_is_changed(void)
{
	static const char virtual_gb[] = "/sys/bus/pseudo/drivers/scsi_debug/virtual_gb";
	static struct disk disk;
	const char *image;

	row("the medium of the origin is changed: its disk has a new sequence number");
	if (!scsi_disk_create("removable=1", &disk))
		return;
	rig_use_origin(&disk);
	rig_take(STORAGE_BYTES);
	image = image_of(&rig.snapshot, rig.origin);
	origin_write(MIB, 0);
	expect_sound();
	/* A unit attention, whatever for, is how such a disk tells it. */
	ASSERT(write_text(virtual_gb, "1"));
	ASSERT(write_text(virtual_gb, "0"));
	close(ASSERT_OK(open(disk.path, O_RDONLY)));
	EXPECT_EQ(io_error(image, false, BLOCK_BYTES, 8 * MIB), EIO);
	expect_holds(image, ledger.taken, MIB, 0);
	EXPECT_EQ(image_number("error"), 0);
	origin_write(BLOCK_BYTES, 4 * MIB);
	expect_broken(ENOMEDIUM);
}

/* --- memory --- */

#define SLAB_FAULTS "/sys/kernel/debug/failslab"
#define PAGE_FAULTS "/sys/kernel/debug/fail_page_alloc"

/* Have all allocations fail that the filters leave, @times; "0" ends it. */
static void fail_allocations(const char *faults, const char *filter, const char *times)
{
	const bool is_on = strcmp(times, "0");
	char path[100];
	unsigned int i;
	const struct {
		const char *name;
		const char *value;
	} settings[] = {
		{ "probability", "0" },
		{ "verbose", "0" },
		{ "interval", "1" },
		{ "ignore-gfp-wait", "N" },
		{ "min-order", "0" },
		{ filter, is_on ? "Y" : "N" },
		{ "times", times },
		{ "probability", is_on ? "100" : "0" },
	};

	for (i = 0; i < ARRAY_SIZE(settings); i++) {
		snprintf(path, sizeof(path), "%s/%s", faults, settings[i].name);
		if (!access(path, F_OK))
			ASSERT(write_text(path, settings[i].value));
	}
}

static bool kernel_has(const char *faults)
{
	if (!access(faults, F_OK))
		return true;
	ktap_skip("this kernel cannot fail allocations on demand");
	return false;
}

static void test_no_memory_for_an_extent(void)
{
	static const char cache[] = "/sys/kernel/slab/blksnap_extent/failslab";

	row("no memory for an extent");
	if (!kernel_has(SLAB_FAULTS))
		return;
	rig_take(STORAGE_BYTES);
	origin_write(MIB, 0);
	expect_sound();
	ASSERT(write_text(cache, "1"));
	/* There are reserves. */
	fail_allocations(SLAB_FAULTS, "cache-filter", "2");
	origin_write(MIB, 2 * MIB);
	expect_sound();
	fail_allocations(SLAB_FAULTS, "cache-filter", "-1");
	origin_write(MIB, 4 * MIB);
	image_number_becomes("error", ENOMEM, ENOMEM);
	fail_allocations(SLAB_FAULTS, "cache-filter", "0");
	write_text(cache, "0");
	expect_broken(ENOMEM);
	expect_tracking_goes_on();
}

/* Allocations of pages fail for this thread until it is ended with false. */
static void fail_own_pages(bool is_on)
{
	ASSERT(write_text("/proc/thread-self/make-it-fail", is_on ? "1" : "0"));
	fail_allocations(PAGE_FAULTS, "task-filter", is_on ? "-1" : "0");
}

static void test_no_memory_for_a_mark_in_the_active_map(void)
{
	struct blk_snap_cbt_info before, after;
	void *buffer = alloc_aligned(BLOCK_BYTES);
	int fd;

	row("no memory for a mark in the active CBT map");
	if (!kernel_has(PAGE_FAULTS))
		return;
	rig_take(STORAGE_BYTES);
	ASSERT(tracker_info(rig.origin, &before));
	fd = ASSERT_OK(open(rig.origin->path, O_WRONLY | O_DIRECT));
	fill_random(buffer, BLOCK_BYTES);
	ledger_write(&ledger, buffer, BLOCK_BYTES, 4 * MIB);
	fail_own_pages(true);
	EXPECT_EQ(pwrite(fd, buffer, BLOCK_BYTES, 4 * MIB), BLOCK_BYTES);
	fail_own_pages(false);
	close(fd);
	free(buffer);
	expect_sound();
	/* The frozen map is still right. */
	ASSERT(tracker_info(rig.origin, &after));
	EXPECT(!memcmp(&before, &after, sizeof(before)));
	ASSERT_OK(control_snapshot_destroy(ctl, &rig.snapshot.id));
	snapshot_now(&rig.snapshot, rig.origin, rig.storage);
	ASSERT(tracker_info(rig.origin, &after));
	EXPECT(memcmp(&before.generation_id, &after.generation_id,
		      sizeof(before.generation_id)));
	EXPECT_EQ(after.snap_number, 1);
}

static void test_no_memory_for_a_mark_in_both_maps(void)
{
	struct blk_snap_block_range range = { 8 * 2048, 8 };
	struct blk_snap_cbt_info before, after;
	uint8_t byte;

	row("no memory for a mark in both CBT maps");
	if (!kernel_has(PAGE_FAULTS))
		return;
	rig_take(STORAGE_BYTES);
	ASSERT(tracker_info(rig.origin, &before));
	fail_own_pages(true);
	EXPECT_ERR(control_tracker_mark_dirty_blocks(ctl, rig.origin->id, &range, 1), ENOMEM);
	fail_own_pages(false);
	ASSERT(tracker_info(rig.origin, &after));
	EXPECT(memcmp(&before.generation_id, &after.generation_id,
		      sizeof(before.generation_id)));
	EXPECT_EQ(after.snap_number, 0);
	EXPECT_ERR(control_tracker_read_cbt_map(ctl, rig.origin->id, 0, 1, &byte), EPERM);
	expect_sound();
}

/* --- the take --- */

#define ORIGIN_DIR "/tmp/storage-origin"
#define EXT4_SHUTDOWN _IOR('X', 125, uint32_t)
#define EXT4_SHUTDOWN_NO_LOG 2U

/* A filesystem that has given up cannot be brought into order any more. */
static void test_filesystem_that_cannot_be_frozen(void)
{
	uint32_t how = EXT4_SHUTDOWN_NO_LOG;
	int fd;

	row("a filesystem cannot be frozen, or something else has claimed the origin");
	ASSERT_EQ(shell("mkfs.ext4 -q -F -E nodiscard %s", rig.origin->path), 0);
	mkdir(ORIGIN_DIR, 0755);
	ASSERT_OK(mount(rig.origin->path, ORIGIN_DIR, "ext4", 0, NULL));
	snapshot_create(&rig.snapshot, rig.origin);
	ASSERT_OK(append_bytes(0, STORAGE_BYTES));
	fd = ASSERT_OK(open(ORIGIN_DIR, O_RDONLY | O_CLOEXEC));
	ASSERT_OK(ioctl(fd, EXT4_SHUTDOWN, &how));
	close(fd);
	snapshot_take(&rig.snapshot);
	EXPECT_EQ(image_number("filesystem_frozen"), 0);
	EXPECT_EQ(io_error(image_of(&rig.snapshot, rig.origin), false, MIB, 0), 0);
	ASSERT_OK(control_snapshot_destroy(ctl, &rig.snapshot.id));
	umount(ORIGIN_DIR);
	snapshot_now(&rig.snapshot, rig.origin, rig.storage);
	EXPECT_EQ(image_number("filesystem_frozen"), 1);
}

/* What the module was loaded with as take_drain_limit, see STORAGE_PARAMETERS. */
#define DRAIN_MS 8000U

static void test_writes_that_do_not_drain(void)
{
	struct io_job *write;
	unsigned int ms;
	uint64_t start;

	row("writes do not drain, or cannot even be synced");
	rig_gate_origin();
	ledger_open(&ledger, rig.origin);
	snapshot_create(&rig.snapshot, rig.origin);
	ASSERT_OK(append_bytes(0, STORAGE_BYTES));
	gate_close(&rig.origin_gate);
	write = origin_write_start(BLOCK_BYTES, 0);
	expect_job_waits(write);
	start = now_ns();
	EXPECT_ERR(control_snapshot_take(ctl, &rig.snapshot.id), ETIMEDOUT);
	ms = (now_ns() - start) / 1000000;
	ktap_note("the take was given up after %u ms", ms);
	EXPECT(ms >= DRAIN_MS);
	EXPECT(ms < 3 * DRAIN_MS);
	gate_open(&rig.origin_gate);
	expect_job_ends(write, 0);
	/* Nothing has happened. */
	origin_write(MIB, 4 * MIB);
	snapshot_take(&rig.snapshot);
	ledger_take(&ledger);
	origin_write(MIB, 0);
	expect_sound();
}

/* --- the end --- */

static void *wait_for_event(void *data)
{
	struct blk_snap_snapshot_event event;

	*(int *)data = next_event(&rig.snapshot, 10 * PATIENCE_MS, &event);
	return data;
}

static void test_snapshot_is_destroyed_while_it_is_used(void)
{
	struct pollfd pollfd = { .fd = ctl, .events = POLLIN };
	void *buffer = alloc_aligned(BLOCK_BYTES);
	struct told told;
	pthread_t thread;
	int fd, ret = 0;

	row("the snapshot is destroyed");
	rig_take(STORAGE_BYTES);
	collect_events(&rig.snapshot, 0, &told);
	fd = ASSERT_OK(open(image_of(&rig.snapshot, rig.origin), O_RDWR | O_DIRECT));
	ASSERT_EQ(pthread_create(&thread, NULL, wait_for_event, &ret), 0);
	sleep_ms(CALM_MS);
	EXPECT_OK(control_snapshot_destroy(ctl, &rig.snapshot.id));
	pthread_join(thread, NULL);
	EXPECT_ERR(ret, ESRCH);
	EXPECT_EQ(poll(&pollfd, 1, 0), 1);
	EXPECT_EQ(pollfd.revents, POLLERR | POLLHUP);
	EXPECT_EQ(pread(fd, buffer, BLOCK_BYTES, 0), -1);
	EXPECT_EQ(errno, EIO);
	EXPECT_EQ(pwrite(fd, buffer, BLOCK_BYTES, 0), -1);
	EXPECT_EQ(errno, EIO);
	close(fd);
	free(buffer);
	origin_write(MIB, 0);
	expect_next_map_is_right(&ledger);
}

void row_tear_down(void)
{
	if (!access(SLAB_FAULTS, F_OK))
		fail_allocations(SLAB_FAULTS, "cache-filter", "0");
	if (!access(PAGE_FAULTS, F_OK))
		fail_allocations(PAGE_FAULTS, "task-filter", "0");
	umount(ORIGIN_DIR);
	error_tear_down();
}

const struct ktap_test row_tests[] = {
	KTAP_SLOW_TEST(test_origin_is_removed),
	KTAP_SLOW_TEST(test_storage_is_removed),
	KTAP_SLOW_TEST(test_medium_of_the_origin_is_changed),
	KTAP_SLOW_TEST(test_no_memory_for_an_extent),
	KTAP_SLOW_TEST(test_no_memory_for_a_mark_in_the_active_map),
	KTAP_SLOW_TEST(test_no_memory_for_a_mark_in_both_maps),
	KTAP_SLOW_TEST(test_filesystem_that_cannot_be_frozen),
	KTAP_SLOW_TEST(test_writes_that_do_not_drain),
	KTAP_SLOW_TEST(test_snapshot_is_destroyed_while_it_is_used),
	KTAP_END
};

/* --- the table --- */

static char told_rows[MAX_ROWS][ROW_BYTES];
static unsigned int nr_told_rows;

/* Add a line of the documentation, without its indentation and markup. */
static void append_text(char *text, const char *more)
{
	size_t length = strlen(text);

	if (length)
		text[length++] = ' ';
	for (more += strspn(more, " "); *more && *more != '\n' && length < ROW_BYTES - 1; more++)
		if (*more != '`')
			text[length++] = *more;
	text[length] = '\0';
}

/*
 * The first column of the table in the section "What fails how".  Rows begin
 * with "   * - ", their other columns with "     - "; the first row is the head.
 */
static void read_table(FILE *file)
{
	bool is_section = false, is_first_column = false, is_head = true;
	char line[300];

	nr_told_rows = 0;
	while (fgets(line, sizeof(line), file)) {
		if (!strncmp(line, "What fails how", 14))
			is_section = true;
		if (!is_section)
			continue;
		if (nr_told_rows && line[0] != ' ' && line[0] != '\n')
			break;
		if (!strncmp(line, "   * - ", 7)) {
			is_first_column = !is_head;
			is_head = false;
			if (!is_first_column)
				continue;
			ASSERT(nr_told_rows < MAX_ROWS);
			told_rows[nr_told_rows][0] = '\0';
			append_text(told_rows[nr_told_rows++], line + 7);
		} else if (!strncmp(line, "     - ", 7)) {
			is_first_column = false;
		} else if (is_first_column) {
			append_text(told_rows[nr_told_rows - 1], line);
		}
	}
}

static bool has_row(char rows[][ROW_BYTES], unsigned int nr_rows, const char *text)
{
	unsigned int i;

	for (i = 0; i < nr_rows && strcmp(rows[i], text); i++)
		;
	return i < nr_rows;
}

/* What test_stacks_refused.c brings about, which has the devices for it. */
static const char *const rows_of_others[] = {
	"a device above sends requests to the origin past the filter (multipath)",
};

static void test_every_row_of_the_table_has_its_test(void)
{
	unsigned int i;
	FILE *file;

	if (ktap_options.filter || !table_path) {
		ktap_skip("needs --table, and all tests to have run");
		return;
	}
	file = fopen(table_path, "r");
	ASSERT(file);
	read_table(file);
	fclose(file);
	ktap_note("%u rows", nr_told_rows);
	for (i = 0; i < ARRAY_SIZE(rows_of_others); i++)
		row(rows_of_others[i]);
	EXPECT(nr_told_rows > 0);
	for (i = 0; i < nr_told_rows; i++)
		if (!has_row(named_rows, nr_named_rows, told_rows[i]))
			FAIL("the table says what no test shows: %s", told_rows[i]);
	for (i = 0; i < nr_named_rows; i++)
		if (!has_row(told_rows, nr_told_rows, named_rows[i]))
			FAIL("a test shows what the table does not say: %s", named_rows[i]);
}

const struct ktap_test table_tests[] = {
	KTAP_SLOW_TEST(test_every_row_of_the_table_has_its_test),
	KTAP_END
};
