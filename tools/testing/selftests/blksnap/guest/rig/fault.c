// SPDX-License-Identifier: GPL-2.0
/*
 * Faults on demand: let the N-th allocation or the N-th I/O fail
 *
 * For the calling thread the kernel has /proc/self/task/TID/fail-nth, which
 * counts down with each allocation.  For others there are the attributes in
 * debugfs: of those that pass the filters, every interval-th fails, for as many
 * times as are left.  The count that is divided by the interval is the kernel's
 * own and goes on from one fault to the next; so it is first brought to a
 * multiple of the interval, by failures of our own that cost nobody anything.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fault.h"

#define DEBUGFS "/sys/kernel/debug"

/* Enough failures of our own to find any phase of the count. */
#define ALIGN_LIMIT 100000

/* How each kind is counted; FAULT_TASK has a file of its own. */
static const struct fault_attribute {
	const char *name;	/* shown in the table */
	const char *folder;	/* in debugfs */
	bool has_task_filter;
} attributes[] = {
	[FAULT_TASK] = { "allocation", NULL, false },
	[FAULT_SLAB] = { "object, in workers", "failslab", true },
	[FAULT_PAGE] = { "page, in workers", "fail_page_alloc", true },
	[FAULT_IO] = { "I/O", "fail_make_request", false },
};

static struct {
	enum fault_kind kind;
	bool is_armed;
	unsigned int nr_faults;
	int nth_fd;			/* of the thread that armed last */
	struct disk scratch;		/* I/O of our own goes here */
	int scratch_fd;
	void *buffer;
} fault = { .nth_fd = -1, .scratch_fd = -1 };

const char *fault_kind_name(enum fault_kind kind)
{
	return attributes[kind].name;
}

static bool attribute_set(enum fault_kind kind, const char *name, const char *value)
{
	char path[200];

	snprintf(path, sizeof(path), DEBUGFS "/%s/%s", attributes[kind].folder, name);
	return write_text(path, value);
}

static void attribute_set_number(enum fault_kind kind, const char *name, unsigned int value)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", value);
	if (!attribute_set(kind, name, text))
		FAIL("cannot set %s of %s", name, attributes[kind].folder);
}

/* Failures that are left.  Opening the file may have been the last one. */
static unsigned int times_left(enum fault_kind kind)
{
	int64_t nr_left = -1;
	unsigned int i;

	for (i = 0; i < 2 && nr_left < 0; i++)
		nr_left = read_number(DEBUGFS "/%s/times", attributes[kind].folder);
	if (nr_left < 0)
		FAIL("cannot read times of %s", attributes[kind].folder);
	return nr_left;
}

static void nth_set(unsigned int nth)
{
	char text[16];
	int length = snprintf(text, sizeof(text), "%u", nth);

	if (pwrite(fault.nth_fd, text, length, 0) != length)
		FAIL("cannot set fail-nth: %s", strerror(errno));
}

static unsigned int nth_left(void)
{
	char text[16] = "";

	if (pread(fault.nth_fd, text, sizeof(text) - 1, 0) <= 0)
		FAIL("cannot read fail-nth: %s", strerror(errno));
	return strtoul(text, NULL, 10);
}

static const char *nth_open(void)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/task/%ld/fail-nth",
		 syscall(SYS_gettid));
	fault.nth_fd = open(path, O_RDWR | O_CLOEXEC);
	return fault.nth_fd < 0 ? "the kernel has no fail-nth" : NULL;
}

/*
 * With slub_debug=A;-,kmemleak_object the kernel can tell the objects of its own
 * leak detector from the others: what they are for is not lost, and there are as
 * many of them as of all others together.
 */
static bool detector_can_be_left_out(void)
{
	return read_number("/sys/kernel/slab/kmalloc-64/failslab") == 1 &&
	       read_number("/sys/kernel/slab/kmemleak_object/failslab") != 1;
}

static const char *attribute_init(enum fault_kind kind)
{
	if (!attribute_set(kind, "probability", "0") ||
	    !attribute_set(kind, "verbose", "0") ||
	    !attribute_set(kind, "space", "0") ||
	    !attribute_set(kind, "task-filter", attributes[kind].has_task_filter ?
			   "Y" : "N"))
		return "the kernel has no failslab, fail_page_alloc or fail_make_request";
	return NULL;
}

/**
 * fault_set_up() - get ready for faults in the calling thread
 *
 * Makes a null_blk disk.
 *
 * Return: NULL, or why there can be no faults.
 */
const char *fault_set_up(void)
{
	const char *reason = nth_open();
	enum fault_kind kind;

	for (kind = FAULT_SLAB; !reason && kind <= FAULT_IO; kind++)
		reason = attribute_init(kind);
	if (reason)
		return reason;
	/* Callers that may wait fail too, and every kind of page. */
	if (!attribute_set(FAULT_SLAB, "ignore-gfp-wait", "N") ||
	    !attribute_set(FAULT_PAGE, "ignore-gfp-wait", "N") ||
	    !attribute_set(FAULT_PAGE, "ignore-gfp-highmem", "N") ||
	    !attribute_set(FAULT_PAGE, "min-order", "0"))
		return "the filters of faults cannot be set";
	attribute_set(FAULT_SLAB, "cache-filter",
		      detector_can_be_left_out() ? "Y" : "N");
	if (null_disk_create(&fault.scratch, "nullb9", 1, NULL))
		return "there is no disk to count with";
	fault.scratch_fd = open(fault.scratch.path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	fault.buffer = alloc_aligned(4096);
	memset(fault.buffer, 0, 4096);
	return fault.scratch_fd < 0 ? "the disk to count with cannot be opened" : NULL;
}

/**
 * fault_tear_down() - give back what fault_set_up() took
 */
void fault_tear_down(void)
{
	fault_disarm();
	fault_mark_kernel_threads(false);
	close(fault.nth_fd);
	close(fault.scratch_fd);
	null_disk_destroy(&fault.scratch);
	free(fault.buffer);
}

/**
 * fault_show() - have the kernel print where it lets something fail
 *
 * Unless the caller has asked it not to warn.
 */
void fault_show(void)
{
	enum fault_kind kind;

	for (kind = FAULT_SLAB; kind <= FAULT_IO; kind++)
		attribute_set_number(kind, "verbose", 2);
}

static void mark_task(const char *pid, bool is_marked)
{
	char path[300];

	snprintf(path, sizeof(path), "/proc/%s/make-it-fail", pid);
	/* It may have ended meanwhile. */
	write_text(path, is_marked ? "1" : "0");
}

/* A worker of a workqueue, the rescuer of one of ours, or their parent. */
static bool is_worker(const char *pid)
{
	char path[300], name[64] = "";
	FILE *file;

	if (!isdigit(pid[0]))
		return false;
	snprintf(path, sizeof(path), "/proc/%s/comm", pid);
	file = fopen(path, "r");
	if (!file)
		return false;
	if (!fgets(name, sizeof(name), file))
		name[0] = '\0';
	fclose(file);
	return !strncmp(name, "kworker", 7) || !strncmp(name, "blksnap", 7) ||
	       !strncmp(name, "kthreadd", 8);
}

/**
 * fault_mark_kernel_threads() - choose who FAULT_SLAB and FAULT_PAGE are for
 * @is_marked:	the workers of all workqueues, also those that come later; or
 *		nobody
 */
void fault_mark_kernel_threads(bool is_marked)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;

	while (proc && (entry = readdir(proc)))
		if (is_worker(entry->d_name))
			mark_task(entry->d_name, is_marked);
	if (proc)
		closedir(proc);
}

/**
 * fault_mark_self() - choose the calling thread for FAULT_SLAB and FAULT_PAGE
 * @is_marked:	so are the threads that it starts from now on
 */
void fault_mark_self(bool is_marked)
{
	mark_task("thread-self", is_marked);
}

/**
 * fault_mark_disk() - choose whose bios FAULT_IO counts
 * @disk:	disk or partition.  Of a partition, only bios that were sent to
 *		it count, not those that came through the disk
 * @is_marked:	false to let it be again
 */
void fault_mark_disk(const struct disk *disk, bool is_marked)
{
	char path[200];

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/make-it-fail",
		 disk->id.mj, disk->id.mn);
	if (!write_text(path, is_marked ? "1" : "0"))
		FAIL("%s cannot be chosen for faults", disk->path);
}

/* Count one of the kind, or a few. */
static void count_something(enum fault_kind kind)
{
	static int pipe_fds[2] = { -1, -1 };
	int fd;

	switch (kind) {
	case FAULT_SLAB:
		fd = eventfd(0, EFD_CLOEXEC);
		if (fd >= 0)
			close(fd);
		break;
	case FAULT_PAGE:
		/* A pipe takes a page for each write until it is full. */
		if (pipe_fds[0] >= 0 &&
		    write(pipe_fds[1], fault.buffer, 4096) == 4096)
			break;
		if (pipe_fds[0] >= 0) {
			close(pipe_fds[0]);
			close(pipe_fds[1]);
		}
		if (pipe2(pipe_fds, O_NONBLOCK | O_CLOEXEC))
			pipe_fds[0] = -1;
		break;
	default:
		if (pread(fault.scratch_fd, fault.buffer, 4096, 0) < 0)
			break;
	}
}

/* Bring the kernel's count to a multiple of the interval. */
static void attribute_align(enum fault_kind kind, unsigned int interval)
{
	unsigned int i;

	attribute_set_number(kind, "interval", interval);
	attribute_set_number(kind, "times", 1);
	if (kind == FAULT_IO)
		fault_mark_disk(&fault.scratch, true);
	else
		fault_mark_self(true);
	attribute_set_number(kind, "probability", 100);
	for (i = 0; times_left(kind) && i < ALIGN_LIMIT; i++)
		count_something(kind);
	if (kind == FAULT_IO)
		fault_mark_disk(&fault.scratch, false);
	else
		fault_mark_self(false);
	if (i == ALIGN_LIMIT)
		FAIL("%s does not fail", attributes[kind].folder);
}

/**
 * fault_arm() - let the N-th from here on fail
 * @kind:	what to count
 * @nth:	1 for the next one
 *
 * For FAULT_TASK, the thread has to be the one that called fault_set_up().
 */
void fault_arm(enum fault_kind kind, unsigned int nth)
{
	fault.kind = kind;
	fault.nr_faults = 1;
	fault.is_armed = true;
	if (kind == FAULT_TASK) {
		nth_set(nth);
		return;
	}
	/* An interval of one is not counted. */
	if (nth > 1)
		attribute_align(kind, nth);
	else
		attribute_set_number(kind, "interval", 1);
	attribute_set_number(kind, "times", 1);
	attribute_set_number(kind, "probability", 100);
}

/**
 * fault_arm_all() - let all of the next ones fail
 * @kind:	what to count, not FAULT_TASK
 * @nr_faults:	how many
 */
void fault_arm_all(enum fault_kind kind, unsigned int nr_faults)
{
	fault.kind = kind;
	fault.nr_faults = nr_faults;
	fault.is_armed = true;
	attribute_set_number(kind, "interval", 1);
	attribute_set_number(kind, "times", nr_faults);
	attribute_set_number(kind, "probability", 100);
}

/**
 * fault_disarm() - no more faults
 *
 * Return: how many there were since they were armed.
 */
unsigned int fault_disarm(void)
{
	unsigned int nr_left;

	if (!fault.is_armed)
		return 0;
	fault.is_armed = false;
	if (fault.kind == FAULT_TASK) {
		nr_left = nth_left() != 0;
		nth_set(0);
		return !nr_left;
	}
	nr_left = times_left(fault.kind);
	attribute_set_number(fault.kind, "probability", 0);
	return fault.nr_faults - nr_left;
}

/* More than anybody allocates in one call. */
#define COUNT_FROM 1000000U

/**
 * fault_count_begin() - count allocations of the calling thread, none fails
 */
void fault_count_begin(void)
{
	nth_set(COUNT_FROM);
}

/**
 * fault_count_end() - end fault_count_begin()
 *
 * Return: the number of allocations that could have failed.
 */
unsigned int fault_count_end(void)
{
	unsigned int nr_left = nth_left();

	nth_set(0);
	return COUNT_FROM - nr_left;
}
