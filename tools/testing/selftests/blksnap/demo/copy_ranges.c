// SPDX-License-Identifier: GPL-2.0
/*
 * Copy parts of a device or file to the same places of another
 *
 *	copy_ranges FROM TO <LIST
 *
 * LIST has lines START COUNT in sectors of 512 bytes, which is what
 * "blksnap cbt extents --no-header" prints.  So this is all that a backup needs
 * besides the tool: with one line it copies a whole image, with a change map
 * what has changed, and with the same list it puts that back in its place.
 *
 * Progress goes to stderr once a second, the number of bytes copied to stdout.
 */
#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define SECTOR_SHIFT 9
#define BUFFER_BYTES 1048576	/* few calls, and little memory */
#define BUFFER_ALIGN 4096	/* O_DIRECT on any disk */
#define PROGRESS_MS 1000
#define MIB (1024 * 1024.0)

struct range {
	uint64_t start_bytes;
	uint64_t nr_bytes;
};

struct list {
	struct range *ranges;
	size_t nr_ranges;
	uint64_t nr_bytes;
};

/* What is copied from or to. */
struct end {
	const char *path;
	int fd;
};

struct progress {
	uint64_t all_bytes;
	uint64_t done_bytes;
	int64_t begin_ms;
	int64_t shown_ms;
};

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

static void list_add(struct list *list, uint64_t start, uint64_t count)
{
	struct range *range;

	if (!count || start + count < start ||
	    start + count > (uint64_t)INT64_MAX >> SECTOR_SHIFT)
		errx(EXIT_FAILURE, "a range of %" PRIu64 " %" PRIu64 " cannot be",
		     start, count);
	list->ranges = reallocarray(list->ranges, list->nr_ranges + 1,
				    sizeof(*list->ranges));
	if (!list->ranges)
		err(EXIT_FAILURE, "cannot keep the list");
	range = &list->ranges[list->nr_ranges++];
	range->start_bytes = start << SECTOR_SHIFT;
	range->nr_bytes = count << SECTOR_SHIFT;
	list->nr_bytes += range->nr_bytes;
}

static void list_read(struct list *list, FILE *from)
{
	uint64_t start, count;
	char *line = NULL;
	size_t size = 0;
	int end;

	while (getline(&line, &size, from) >= 0) {
		end = 0;
		if (sscanf(line, "%" SCNu64 " %" SCNu64 " %n", &start, &count,
			   &end) != 2 || !end || line[end])
			errx(EXIT_FAILURE, "not START COUNT: %s", line);
		list_add(list, start, count);
	}
	if (ferror(from))
		err(EXIT_FAILURE, "cannot read the list");
	free(line);
}

static void progress_show(struct progress *progress, int64_t time_ms)
{
	const double mib = progress->done_bytes / MIB;
	const int64_t taken_ms = time_ms - progress->begin_ms;

	progress->shown_ms = time_ms;
	fprintf(stderr, "@progress %" PRIu64 " %.0f of %.0f MiB, %.1f MiB/s\n",
		progress->done_bytes * 100 / progress->all_bytes, mib,
		progress->all_bytes / MIB,
		mib * 1000 / (taken_ms ? taken_ms : 1));
}

static void progress_add(struct progress *progress, size_t nr_bytes)
{
	const int64_t time_ms = now_ms();

	progress->done_bytes += nr_bytes;
	if (time_ms - progress->shown_ms >= PROGRESS_MS)
		progress_show(progress, time_ms);
}

static ssize_t read_some(const struct end *from, char *data, size_t nr_bytes,
			 uint64_t offset)
{
	ssize_t ret = pread(from->fd, data, nr_bytes, offset);

	if (ret < 0)
		err(EXIT_FAILURE, "cannot read '%s' at byte %" PRIu64,
		    from->path, offset);
	if (!ret)
		errx(EXIT_FAILURE, "'%s' ends at byte %" PRIu64, from->path,
		     offset);
	return ret;
}

static void write_all(const struct end *to, const char *data, size_t nr_bytes,
		      uint64_t offset)
{
	ssize_t ret;

	while (nr_bytes) {
		ret = pwrite(to->fd, data, nr_bytes, offset);
		if (ret < 0)
			err(EXIT_FAILURE, "cannot write '%s' at byte %" PRIu64,
			    to->path, offset);
		data += ret;
		nr_bytes -= ret;
		offset += ret;
	}
}

static void copy_range(const struct end *from, const struct end *to,
		       struct range range, struct progress *progress)
{
	static char buffer[BUFFER_BYTES + BUFFER_ALIGN];
	char *data = buffer + BUFFER_ALIGN - (uintptr_t)buffer % BUFFER_ALIGN;
	ssize_t ret;

	while (range.nr_bytes) {
		ret = read_some(from, data,
				range.nr_bytes < BUFFER_BYTES ?
					range.nr_bytes : BUFFER_BYTES,
				range.start_bytes);
		write_all(to, data, ret, range.start_bytes);
		progress_add(progress, ret);
		range.start_bytes += ret;
		range.nr_bytes -= ret;
	}
}

/* O_DIRECT: a backup has no use for the cache, and others have. */
static struct end end_open(const char *path, int flags)
{
	struct end end = { .path = path };

	end.fd = open(path, flags | O_DIRECT | O_CLOEXEC, 0600);
	if (end.fd < 0)
		err(EXIT_FAILURE, "cannot open '%s'", path);
	return end;
}

int main(int argc, char **argv)
{
	struct progress progress = { 0 };
	struct list list = { 0 };
	struct end from, to;
	size_t i;

	if (argc != 3)
		errx(EXIT_FAILURE, "usage: copy_ranges FROM TO <LIST");
	list_read(&list, stdin);
	from = end_open(argv[1], O_RDONLY);
	to = end_open(argv[2], O_WRONLY | O_CREAT);

	progress.all_bytes = list.nr_bytes;
	progress.begin_ms = now_ms();
	progress.shown_ms = progress.begin_ms;
	for (i = 0; i < list.nr_ranges; i++)
		copy_range(&from, &to, list.ranges[i], &progress);
	if (fsync(to.fd) || close(to.fd))
		err(EXIT_FAILURE, "cannot write '%s'", to.path);
	if (list.nr_ranges)
		progress_show(&progress, now_ms());
	printf("%" PRIu64 "\n", progress.done_bytes);
	return EXIT_SUCCESS;
}
