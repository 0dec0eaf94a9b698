// SPDX-License-Identifier: GPL-2.0
/*
 * A snapshot with its difference storage, kept while it is needed
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "abandoned.h"
#include "device.h"
#include "keeper.h"
#include "message.h"
#include "parse.h"
#include "storage.h"
#include "thread.h"
#include "tracking.h"

#define DEFAULT_DIR "/var/lib/blksnap"
#define DEFAULT_FILES_MAX 100

/* A tenth of the disks is what changes while a day is backed up, at most. */
#define DEFAULT_PART 10
#define DEFAULT_MIN_BYTES (256ULL << 20)

/* Of a storage: the edges of its device, and parts of blocks. */
#define UNUSED_BYTES (4ULL << 20)

/* How much more a file gets when it runs short, of what it has already. */
#define GROWTH_PART 4

/* A storage that cannot grow is short when less than this part of it is free. */
#define SHORT_PART 4

/* A wait for events ends at least so often to look whether it is over. */
#define WATCH_MS 200

/* Size of a device, 0 if it cannot be found. */
static uint64_t device_nr_bytes(struct blk_snap_dev dev)
{
	char path[64], line[32];
	uint64_t nr_sectors = 0;

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/size", dev.mj,
		 dev.mn);
	if (sysfs_read_line(path, line, sizeof(line)))
		parse_u64(line, UINT64_MAX >> BLKSNAP_SECTOR_SHIFT, &nr_sectors);
	return nr_sectors << BLKSNAP_SECTOR_SHIFT;
}

static uint64_t all_nr_bytes(const struct keeper *keeper)
{
	uint64_t nr_bytes = 0;
	unsigned int i;

	for (i = 0; i < keeper->nr_devs; i++)
		nr_bytes += device_nr_bytes(keeper->devs[i]);
	return nr_bytes;
}

/* Each block is copied once.  0 if the sizes are not known. */
static uint64_t most_size(const struct keeper *keeper)
{
	uint64_t nr_bytes = all_nr_bytes(keeper);

	return nr_bytes ? nr_bytes + UNUSED_BYTES : 0;
}

static uint64_t default_size(const struct keeper *keeper)
{
	uint64_t nr_bytes = all_nr_bytes(keeper) / DEFAULT_PART;

	if (nr_bytes < DEFAULT_MIN_BYTES)
		nr_bytes = DEFAULT_MIN_BYTES;
	return nr_bytes - nr_bytes % BLKSNAP_STORAGE_ALIGN_BYTES;
}

/* Two programs that wrote to the same file would spoil each other's snapshot. */
static int lock_file(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	int err;

	if (fd < 0)
		return -errno;
	if (!flock(fd, LOCK_EX | LOCK_NB))
		return fd;
	err = errno;
	close(fd);
	return -err;
}

static int choose_default_file(struct keeper *keeper)
{
	unsigned int i;
	int fd = -EWOULDBLOCK;

	if (mkdir(DEFAULT_DIR, 0700) && errno != EEXIST)
		return fail_errno(errno, "cannot create '%s'", DEFAULT_DIR);
	for (i = 0; i < DEFAULT_FILES_MAX && fd == -EWOULDBLOCK; i++) {
		free(keeper->file);
		if (asprintf(&keeper->file, DEFAULT_DIR "/storage-%u", i) < 0) {
			keeper->file = NULL;
			return fail_memory();
		}
		fd = lock_file(keeper->file);
	}
	if (fd < 0)
		return fail_errno(-fd, "cannot open '%s'", keeper->file);
	keeper->file_fd = fd;
	keeper->remove_file = true;
	return EXIT_OK;
}

static int choose_file(struct keeper *keeper, const char *path)
{
	int fd;

	keeper->file = strdup(path);
	if (!keeper->file)
		return fail_memory();
	keeper->remove_file = access(path, F_OK);
	fd = lock_file(path);
	if (fd == -EWOULDBLOCK)
		return fail(EXIT_FAILED,
			    "'%s' is the storage of another run of blksnap; use another file",
			    path);
	if (fd < 0)
		return fail_errno(-fd, "cannot open '%s'", path);
	keeper->file_fd = fd;
	return EXIT_OK;
}

static int reserve_file(struct keeper *keeper, uint64_t size_bytes)
{
	struct stat st;
	int ret;

	if (!size_bytes && !fstat(keeper->file_fd, &st) && st.st_size)
		size_bytes = st.st_size - st.st_size % BLKSNAP_STORAGE_ALIGN_BYTES;
	if (!size_bytes)
		size_bytes = default_size(keeper);
	ret = storage_reserve_file(keeper->file, size_bytes, false);
	if (!ret)
		ret = storage_find_file(&keeper->storage, keeper->file, 0,
					size_bytes, false);
	keeper->size_bytes = size_bytes;
	return ret;
}

static int use_device(struct keeper *keeper, dev_t number)
{
	int ret = storage_find_device(&keeper->storage, device_from_dev_t(number), false);

	if (!ret)
		keeper->size_bytes = blksnap_storage_nr_sectors(keeper->storage)
				     << BLKSNAP_SECTOR_SHIFT;
	return ret;
}

static int use_memory(struct keeper *keeper, uint64_t size_bytes)
{
	const uint64_t most = most_size(keeper);
	struct stat st;
	int ret;

	if (!size_bytes) {
		size_bytes = memory_default_bytes();
		if (most && size_bytes > most)
			size_bytes = most;
		size_bytes -= size_bytes % BLKSNAP_STORAGE_ALIGN_BYTES;
	}
	if (size_bytes <= UNUSED_BYTES)
		return fail(EXIT_FAILED,
			    "%ju bytes of memory are too little for difference storage; give more than 4M with --storage-size, or use a disk",
			    (uintmax_t)size_bytes);
	ret = memory_create(&keeper->memory, size_bytes);
	if (!ret && fstat(keeper->memory.fd, &st))
		ret = fail_errno(errno, "cannot open '%s'",
				 keeper->memory.device);
	return ret ? ret : use_device(keeper, st.st_rdev);
}

static int prepare_storage(struct keeper *keeper,
			   const struct keeper_options *options)
{
	struct stat st;
	int ret;

	if (options->storage && !strcmp(options->storage, KEEPER_MEMORY))
		return use_memory(keeper, options->size_bytes);
	if (options->storage && !stat(options->storage, &st) &&
	    S_ISBLK(st.st_mode))
		return use_device(keeper, st.st_rdev);
	ret = options->storage ? choose_file(keeper, options->storage) :
				 choose_default_file(keeper);
	if (!ret)
		ret = reserve_file(keeper, options->size_bytes);
	if (ret && !options->storage)
		fail(ret,
		     "choose other storage with --storage: a file on ext4 or XFS with room for it, a spare device, or memory; --storage-size sets its size");
	/* What the user has named stays, unless it is of no use. */
	if (!ret && options->storage)
		keeper->remove_file = false;
	return ret;
}

/* What a file on such a disk gets now may have been free at the take. */
static bool may_grow(const struct keeper *keeper)
{
	const struct blk_snap_dev dev = blksnap_storage_dev(keeper->storage);
	unsigned int i;

	for (i = 0; i < keeper->nr_devs; i++) {
		if (blksnap_device_share_disk(keeper->devs[i], dev))
			return false;
	}
	return keeper->file;
}

/* The file itself is pinned, so it cannot grow: it gets company. */
static char *more_file(const struct keeper *keeper, unsigned int i)
{
	char *path;

	if (asprintf(&path, "%s.%u", keeper->file, i) < 0)
		return NULL;
	return path;
}

static void remove_files(const struct keeper *keeper)
{
	unsigned int i;
	char *path;

	for (i = 1; i <= keeper->nr_more; i++) {
		path = more_file(keeper, i);
		if (path)
			unlink(path);
		free(path);
	}
	if (keeper->remove_file)
		unlink(keeper->file);
}

static int grow(struct keeper *keeper, uint64_t requested_bytes)
{
	struct blksnap_storage *more = NULL;
	uint64_t grown = keeper->size_bytes / GROWTH_PART;
	const uint64_t most = most_size(keeper);
	char *path = more_file(keeper, keeper->nr_more + 1);
	int ret;

	if (!path)
		return fail_memory();
	if (grown < requested_bytes)
		grown = requested_bytes;
	if (most && grown > most - keeper->size_bytes)
		grown = most - keeper->size_bytes;
	grown += BLKSNAP_STORAGE_ALIGN_BYTES - 1;
	grown -= grown % BLKSNAP_STORAGE_ALIGN_BYTES;
	ret = storage_reserve_file(path, grown, false);
	if (!ret) {
		keeper->nr_more++;
		ret = storage_find_file(&more, path, 0, grown, false);
	}
	if (!ret)
		ret = storage_append(keeper->blksnap, &keeper->id, more, path);
	if (!ret)
		keeper->size_bytes += grown;
	blksnap_storage_free(more);
	free(path);
	return ret;
}

/* What is left of the storage; false if that is not known. */
static bool read_free_bytes(const struct keeper *keeper, uint64_t *nr_bytes)
{
	char name[64], text[32];

	if (!keeper->nr_images)
		return false;
	snprintf(name, sizeof(name), "/sys/dev/block/%u:%u/blksnap/storage_free_bytes",
		 keeper->images[0].image_dev_id.mj, keeper->images[0].image_dev_id.mn);
	return sysfs_read_line(name, text, sizeof(text)) &&
	       parse_u64(text, UINT64_MAX, nr_bytes);
}

static void answer_shortage(struct keeper *keeper)
{
	char size[SIZE_TEXT_SIZE];

	keeper->requested_bytes = 0;
	format_size(keeper->size_bytes, size);
	fail(EXIT_FAILED,
	     "the difference storage of %s runs short and cannot grow; if it overflows, the snapshot is lost: give more with --storage-size, or storage on another disk with --storage",
	     size);
}

/*
 * The module calls early: as soon as less is free than a limit that a small storage never
 * has, or than would last for a while as fast as it goes.  So a storage for which there
 * is no more grows short only when most of it is used.
 */
static void answer_low_space(struct keeper *keeper)
{
	const uint64_t most = most_size(keeper);
	uint64_t free_bytes;

	if (most && keeper->size_bytes >= most)
		keeper->requested_bytes = 0;
	if (!keeper->requested_bytes)
		return;
	if (may_grow(keeper) && !keeper->cannot_grow) {
		keeper->cannot_grow = grow(keeper, keeper->requested_bytes);
		if (!keeper->cannot_grow)
			keeper->requested_bytes = 0;
	} else if (!read_free_bytes(keeper, &free_bytes) ||
		   free_bytes < keeper->size_bytes / SHORT_PART) {
		answer_shortage(keeper);
	}
}

static void note_low_space(struct keeper *keeper, const struct blk_snap_snapshot_event *event)
{
	struct blk_snap_event_low_free_space data;

	memcpy(&data, event->data, sizeof(data));
	keeper->requested_bytes = data.requested_nr_sect << BLKSNAP_SECTOR_SHIFT;
}

/* What is to be done about the losses that the module has an errno of its own for. */
static const char *loss_advice(int error)
{
	switch (error) {
	case EAGAIN:
		return "a write from before its tracking came late; run the command again";
	case ETIMEDOUT:
		return "its storage took nothing for 20 seconds; choose faster one with --storage";
	case ELOOP:
		return "its storage lies on it; choose other storage with --storage";
	case ESTALE:
		return "device mapper has another table for it; run the command again";
	case EOPNOTSUPP:
		return "it is written to as a path of multipath; take the multipath device";
	default:
		return NULL;
	}
}

static void report_loss(struct keeper *keeper,
			const struct blk_snap_snapshot_event *event)
{
	struct blk_snap_event_corrupted data;
	char number[DEVICE_NUMBER_SIZE], size[SIZE_TEXT_SIZE];

	memcpy(&data, event->data, sizeof(data));
	device_format_number(data.orig_dev_id, number);
	format_size(keeper->size_bytes, size);
	keeper->lost = true;
	if (data.err_code == ENOSPC)
		fail(EXIT_FAILED,
		     "the snapshot of device %s is lost: more was written meanwhile than the difference storage of %s can hold; give more with --storage-size",
		     number, size);
	else if (keeper->memory.device)
		fail(EXIT_FAILED,
		     "the snapshot of device %s is lost: the difference storage got no more memory (%s); use storage on a disk",
		     number, strerror(data.err_code));
	else if (loss_advice(data.err_code))
		fail(EXIT_FAILED, "the snapshot of device %s is lost: %s", number,
		     loss_advice(data.err_code));
	else
		fail_errno(data.err_code, "the snapshot of device %s is lost",
			   number);
}

static void report_destruction(struct keeper *keeper)
{
	keeper->lost = true;
	fail(EXIT_FAILED,
	     "the snapshot is lost: another program has destroyed it");
}

static void answer(struct keeper *keeper,
		   const struct blk_snap_snapshot_event *event)
{
	if (event->code == blk_snap_event_code_low_free_space)
		note_low_space(keeper, event);
	else if (event->code == blk_snap_event_code_corrupted)
		report_loss(keeper, event);
}

static void *watch(void *arg)
{
	struct keeper *keeper = arg;
	struct blk_snap_snapshot_event event;
	int ret = 0;

	while (!keeper->stop) {
		ret = blksnap_snapshot_wait_event(keeper->blksnap, &keeper->id,
						  WATCH_MS, &event);
		if (!ret)
			answer(keeper, &event);
		else if (ret != -ENOENT && ret != -EINTR)
			break;
		answer_low_space(keeper);
	}
	if (ret == -ESRCH && !keeper->destroying)
		report_destruction(keeper);
	return NULL;
}

static void stop_watching(struct keeper *keeper)
{
	keeper->stop = true;
	if (keeper->watching)
		pthread_join(keeper->thread, NULL);
	keeper->watching = false;
}

static int start_watching(struct keeper *keeper)
{
	int ret = thread_start(&keeper->thread, watch, keeper);

	keeper->watching = !ret;
	return ret;
}

static int make_snapshot(struct keeper *keeper)
{
	struct blk_snap_snapshot_event event;
	int ret;

	ret = create_to_be_kept(keeper->blksnap, keeper->devs, keeper->nr_devs,
				&keeper->id);
	if (ret)
		return fail_call("cannot create the snapshot");
	keeper->created = true;
	/* Each snapshot begins with this event; the storage answers it. */
	blksnap_snapshot_wait_event(keeper->blksnap, &keeper->id, 0, &event);
	return EXIT_OK;
}

static int take_snapshot(struct keeper *keeper)
{
	int ret = blksnap_snapshot_take(keeper->blksnap, &keeper->id);

	if (ret)
		return fail_call("cannot take the snapshot");
	ret = blksnap_snapshot_collect_images(keeper->blksnap, &keeper->id,
					      &keeper->images,
					      &keeper->nr_images);
	if (ret)
		return fail_call("cannot list the images");
	return EXIT_OK;
}

static int create_and_take(struct keeper *keeper)
{
	struct tracking before = { 0 };
	char number[DEVICE_NUMBER_SIZE];
	int ret;

	ret = tracking_read(&before, keeper->blksnap);
	if (ret)
		return ret;
	device_format_number(blksnap_storage_dev(keeper->storage), number);
	ret = make_snapshot(keeper);
	if (!ret)
		ret = storage_append(keeper->blksnap, &keeper->id, keeper->storage,
				     keeper->file ? keeper->file : number);
	if (!ret)
		ret = start_watching(keeper);
	if (!ret)
		ret = take_snapshot(keeper);
	if (ret) {
		keeper_release(keeper);
		tracking_restore(&before, keeper->blksnap, keeper->devs,
				 keeper->nr_devs);
	}
	tracking_free(&before);
	return ret;
}

/**
 * keeper_take() - take a snapshot and keep it
 * @keeper:	to be given to keeper_release() in any case
 * @blksnap:	connection, kept until the release
 * @devs:	the devices, kept until the release
 * @nr_devs:	number of devices
 * @options:	which storage to use
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int keeper_take(struct keeper *keeper, struct blksnap *blksnap,
		const struct blk_snap_dev *devs, unsigned int nr_devs,
		const struct keeper_options *options)
{
	int ret;

	*keeper = (struct keeper) {
		.blksnap = blksnap,
		.devs = devs,
		.nr_devs = nr_devs,
		.file_fd = -1,
		.memory.fd = -1,
	};
	ret = destroy_abandoned(blksnap, options->quiet);
	if (!ret)
		ret = prepare_storage(keeper, options);
	if (!ret)
		ret = create_and_take(keeper);
	return ret;
}

/* Was the filesystem frozen at the take?  Not known counts as no. */
static bool image_is_frozen(unsigned int minor)
{
	char path[96], line[8];

	snprintf(path, sizeof(path),
		 "/sys/block/" BLK_SNAP_IMAGE_NAME "%u/blksnap/filesystem_frozen",
		 minor);
	return sysfs_read_line(path, line, sizeof(line)) && *line == '1';
}

/**
 * keeper_image() - find the image of a device
 * @keeper:	has taken the snapshot
 * @dev:	the device
 * @frozen:	gets whether its filesystem was frozen, if it is not NULL
 *
 * Return: the path of the image, to be freed by the caller; NULL after a
 *	   message.
 */
char *keeper_image(const struct keeper *keeper, struct blk_snap_dev dev,
		   bool *frozen)
{
	unsigned int i, minor;
	char *path;

	for (i = 0; i < keeper->nr_images; i++) {
		if (device_equal(keeper->images[i].orig_dev_id, dev))
			break;
	}
	if (i == keeper->nr_images) {
		fail(EXIT_FAILED, "the snapshot has no image of %u:%u", dev.mj,
		     dev.mn);
		return NULL;
	}
	minor = keeper->images[i].image_dev_id.mn;
	if (frozen)
		*frozen = image_is_frozen(minor);
	if (asprintf(&path, "/dev/%s%u", BLK_SNAP_IMAGE_NAME, minor) < 0) {
		fail_memory();
		return NULL;
	}
	return path;
}

/**
 * keeper_is_lost() - has the snapshot failed by now?
 * @keeper:	has taken the snapshot; nobody answers its events afterwards
 *
 * Return: true if what was read of an image may be wrong; a message told of it.
 */
bool keeper_is_lost(struct keeper *keeper)
{
	struct blk_snap_snapshot_event event;
	int ret;

	/* What the thread has not come to is still to be read. */
	stop_watching(keeper);
	for (;;) {
		ret = blksnap_snapshot_wait_event(keeper->blksnap, &keeper->id, 0,
						  &event);
		if (ret)
			break;
		answer(keeper, &event);
	}
	if (ret == -ESRCH && !keeper->lost)
		report_destruction(keeper);
	return keeper->lost;
}

/**
 * keeper_release() - destroy the snapshot and give its storage back
 * @keeper:	the keeper; nothing is done the second time
 */
void keeper_release(struct keeper *keeper)
{
	/* 1. Nobody grows the storage of a snapshot that is to go. */
	keeper->stop = true;
	keeper->destroying = true;
	if (keeper->created)
		blksnap_snapshot_destroy(keeper->blksnap, &keeper->id);
	stop_watching(keeper);
	/* 2. The module does not write to the storage any more. */
	remove_files(keeper);
	if (keeper->file_fd >= 0)
		close(keeper->file_fd);
	memory_free(&keeper->memory);
	blksnap_storage_free(keeper->storage);
	free(keeper->images);
	free(keeper->file);
	*keeper = (struct keeper) {
		.blksnap = keeper->blksnap,
		.devs = keeper->devs,
		.nr_devs = keeper->nr_devs,
		.file_fd = -1,
		.memory.fd = -1,
	};
}
