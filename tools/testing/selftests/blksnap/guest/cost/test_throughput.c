// SPDX-License-Identifier: GPL-2.0
/*
 * Copying ranges of a device: what an increment is compared with
 *
 *	test_throughput DEVICE FILE RANGES
 *
 * RANGES is a file with the first sector and the number of sectors of each.  One
 * process, large requests, and FILE is on the disk at the end: nothing that writes
 * the same bytes to a file can do with less.
 */
#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SECTOR_BYTES 512
#define STEP_BYTES (1024 * 1024)

static char buffer[STEP_BYTES];

static void copy(int from, int to, uint64_t offset, uint64_t nr_bytes)
{
	size_t nr;

	for (; nr_bytes; nr_bytes -= nr, offset += nr) {
		nr = nr_bytes < STEP_BYTES ? nr_bytes : STEP_BYTES;
		if (pread(from, buffer, nr, offset) != (ssize_t)nr ||
		    pwrite(to, buffer, nr, offset) != (ssize_t)nr)
			err(1, "I/O error at %" PRIu64, offset);
	}
}

int main(int argc, char **argv)
{
	uint64_t start, count;
	FILE *ranges;
	int from, to;

	if (argc != 4)
		errx(2, "usage: %s DEVICE FILE RANGES", *argv);
	from = open(argv[1], O_RDONLY);
	to = open(argv[2], O_WRONLY | O_CREAT | O_EXCL, 0600);
	ranges = fopen(argv[3], "r");
	if (from < 0 || to < 0 || !ranges)
		err(1, "cannot open");
	while (fscanf(ranges, "%" SCNu64 " %" SCNu64, &start, &count) == 2)
		copy(from, to, start * SECTOR_BYTES, count * SECTOR_BYTES);
	if (fsync(to))
		err(1, "cannot write to the disk");
	return 0;
}
