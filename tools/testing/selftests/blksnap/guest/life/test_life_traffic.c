// SPDX-License-Identifier: GPL-2.0
/*
 * Writers of an origin and readers of its image, while something happens
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "test_life_traffic.h"

#define WRITE_BYTES 4096
#define READ_BYTES (16 * KIB)

/* One at a time is enough, and so it outlives a test that an assertion ends. */
static struct traffic traffic = { .origin = -1, .image = -1 };
static char error[200];

static const char *write_origin(struct crew_member *member)
{
	uint64_t at = random_below(&member->random, TRAFFIC_BYTES / WRITE_BYTES);

	if (pwrite(traffic.origin, member->buffer, WRITE_BYTES,
		   at * WRITE_BYTES) == WRITE_BYTES) {
		atomic_fetch_add(&traffic.nr_written, 1);
		return NULL;
	}
	if (!atomic_load(&traffic.may_writes_fail))
		return "a write to the origin failed";
	atomic_fetch_add(&traffic.nr_failed_writes, 1);
	sleep_ms(1);
	return NULL;
}

static const char *read_image(struct crew_member *member)
{
	uint64_t at = random_below(&member->random, TRAFFIC_BYTES / READ_BYTES);
	ssize_t ret = pread(traffic.image, member->buffer, READ_BYTES,
			    at * READ_BYTES);

	if (ret >= 0 && ret < (ssize_t)READ_BYTES)
		return "the image ended before its end";
	if (ret > 0) {
		atomic_fetch_add(&traffic.nr_read, 1);
		return is_filled_with(member->buffer, OLD_BYTE, ret) ?
		       NULL : "the image has changed";
	}
	if (!atomic_load(&traffic.may_reads_fail))
		return "a read of the image failed";
	atomic_fetch_add(&traffic.nr_failed_reads, 1);
	sleep_ms(1);
	return NULL;
}

/* crew_fn: the first members write, the others read. */
static const char *move_data(struct crew_member *member, void *data)
{
	(void)data;
	return member->index < traffic.nr_writers ? write_origin(member) :
						    read_image(member);
}

static int open_direct(const char *path, int flags)
{
	return path ? open(path, flags | O_DIRECT | O_CLOEXEC) : -1;
}

void traffic_start(const char *origin_path, const char *image_path,
		   bool may_reads_fail)
{
	memset(&traffic, 0, sizeof(traffic));
	traffic.may_reads_fail = may_reads_fail;
	traffic.nr_writers = origin_path ? 2 : 0;
	traffic.origin = open_direct(origin_path, O_WRONLY);
	traffic.image = open_direct(image_path, O_RDONLY);
	ASSERT(!origin_path || traffic.origin >= 0);
	ASSERT(!image_path || traffic.image >= 0);
	crew_start(&traffic.crew, traffic.nr_writers + (image_path ? 2 : 0),
		   ktap_options.seed, move_data, NULL);
	crew_grant(&traffic.crew, CREW_FOR_EVER);
}

struct traffic *traffic_now(void)
{
	return &traffic;
}

bool traffic_wait(atomic_uint *count, unsigned int nr)
{
	unsigned int start = atomic_load(count), ms;

	for (ms = 0; ms < PATIENCE_MS && !crew_error(&traffic.crew); ms++) {
		if (atomic_load(count) - start >= nr)
			return true;
		sleep_ms(1);
	}
	return false;
}

const char *traffic_stop(void)
{
	if (!traffic.crew.nr_members)
		return NULL;
	crew_halt(&traffic.crew);
	snprintf(error, sizeof(error), "%s",
		 crew_error(&traffic.crew) ? crew_error(&traffic.crew) : "");
	crew_stop(&traffic.crew);
	if (traffic.origin >= 0)
		close(traffic.origin);
	if (traffic.image >= 0)
		close(traffic.image);
	traffic.origin = -1;
	traffic.image = -1;
	return error[0] ? error : NULL;
}
