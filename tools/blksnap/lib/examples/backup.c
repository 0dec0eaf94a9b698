// SPDX-License-Identifier: GPL-2.0
/*
 * backup DEVICE STORAGE COPY - copy a device in use into a file
 *
 * All of it the first time, and then what has changed.  Build it with
 * cc backup.c $(pkg-config --cflags --libs blksnap) -o backup
 */
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <blksnap/blksnap.h>

static struct blksnap *blksnap;
static struct blk_snap_uuid id;

static void check(int ret)
{
	if (ret)
		errx(1, "%s", blksnap_error());
}

/* The snapshot may not outlive the program. */
static void destroy_snapshot(void)
{
	blksnap_snapshot_destroy(blksnap, &id);
}

static void copy_range(int image, int copy, const struct blk_snap_block_range *range)
{
	off_t offset = range->sector_offset * BLKSNAP_SECTOR_SIZE;
	const off_t end = offset + range->sector_count * BLKSNAP_SECTOR_SIZE;

	lseek(copy, offset, SEEK_SET);
	while (offset < end) {
		if (sendfile(copy, image, &offset, end - offset) <= 0)
			err(1, "cannot copy");
	}
}

int main(int argc, char **argv)
{
	struct blk_snap_block_range whole = { 0 }, *extents;
	const struct blk_snap_cbt_info *info;
	struct blk_snap_image_info *image;
	struct blk_snap_cbt_info last;
	struct blksnap_storage *storage;
	struct blksnap_cbt *cbt;
	struct blk_snap_dev dev;
	unsigned int nr_images;
	size_t nr_extents = 1, i;
	char path[4096];
	int from, to, state;
	struct stat st;

	if (argc != 4 || stat(argv[1], &st))
		errx(2, "usage: backup DEVICE STORAGE COPY");
	dev.mj = major(st.st_rdev);
	dev.mn = minor(st.st_rdev);
	check(blksnap_open(&blksnap));
	check(blksnap_storage_reserve_file(argv[2], 64 << 20, 0));
	check(blksnap_storage_find_file(argv[2], 0, 0, 0, &storage));
	check(blksnap_snapshot_create(blksnap, &dev, 1, &id));
	atexit(destroy_snapshot);
	check(blksnap_storage_append(blksnap, &id, storage));
	check(blksnap_snapshot_take(blksnap, &id));
	check(blksnap_snapshot_collect_images(blksnap, &id, &image, &nr_images));
	check(blksnap_cbt_load(blksnap, dev, &cbt));
	info = blksnap_cbt_info(cbt);

	snprintf(path, sizeof(path), "/dev/" BLK_SNAP_IMAGE_NAME "%u",
		 image->image_dev_id.mn);
	from = open(path, O_RDONLY);
	to = open(argv[3], O_RDWR | O_CREAT, 0600);
	snprintf(path, sizeof(path), "%s.state", argv[3]);
	state = open(path, O_RDWR | O_CREAT, 0600);
	if (read(state, &last, sizeof(last)) == sizeof(last) &&
	    !blksnap_cbt_check(cbt, &last.generation_id, last.snap_number)) {
		check(blksnap_cbt_extents(cbt, last.snap_number, &extents, &nr_extents));
	} else {
		whole.sector_count = info->device_capacity / BLKSNAP_SECTOR_SIZE;
		extents = &whole;
	}
	for (i = 0; i < nr_extents; i++)
		copy_range(from, to, &extents[i]);
	if (fsync(to) || pwrite(state, info, sizeof(*info), 0) != sizeof(*info))
		err(1, "cannot write");
	printf("%s %zu\n", extents == &whole ? "full" : "incremental", nr_extents);
	return 0;
}
