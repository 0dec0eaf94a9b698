// SPDX-License-Identifier: GPL-2.0
/*
 * What the tests of the loaded module share: disks, snapshots, random numbers
 *
 * Disks are made of null_blk with memory behind it: they appear and vanish by
 * configfs, serve every operation that the tests need, and cost no file.
 * Partitions are added by ioctl, so there is no table that tests could destroy.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/blkpg.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "blksnap_test.h"

#define CONFIGFS "/sys/kernel/config"
#define NODE_TIMEOUT_MS 10000	/* devtmpfs is quick, an emulated host is not */
#define IO_BYTES (1 * MIB)	/* size of one request of the helpers below */

int ctl = -1;

/* Run a command by the shell and return its exit code. */
int shell(const char *format, ...)
{
	char command[1000];
	va_list args;
	int status;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	fflush(stdout);
	status = system(command);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

/* The number that a file starts with, or -1. */
int64_t read_number(const char *format, ...)
{
	char path[200];
	long long number = -1;
	va_list args;
	FILE *file;

	va_start(args, format);
	vsnprintf(path, sizeof(path), format, args);
	va_end(args);
	file = fopen(path, "r");
	if (!file)
		return -1;
	if (fscanf(file, "%lld", &number) != 1)
		number = -1;
	fclose(file);
	return number;
}

bool write_text(const char *path, const char *text)
{
	size_t length = strlen(text);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok;

	if (fd < 0)
		return false;
	ok = write(fd, text, length) == (ssize_t)length;
	close(fd);
	return ok;
}

uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

void sleep_ms(unsigned int ms)
{
	struct timespec delay = { ms / 1000, ms % 1000 * 1000000L };

	nanosleep(&delay, NULL);
}

bool is_filled_with(const void *buffer, int byte, size_t nr_bytes)
{
	const uint8_t *bytes = buffer;

	if (!nr_bytes)
		return true;
	return bytes[0] == (uint8_t)byte && !memcmp(bytes, bytes + 1, nr_bytes - 1);
}

/* Memory fit for direct I/O; ends the program if there is none. */
void *alloc_aligned(size_t nr_bytes)
{
	void *buffer;

	if (posix_memalign(&buffer, 4096, nr_bytes)) {
		ktap_note("no memory for %zu bytes", nr_bytes);
		exit(KTAP_FAIL);
	}
	return buffer;
}

void random_init(struct random *random, uint64_t seed)
{
	unsigned int i;

	/* The generator must not be 0, and small seeds have to differ soon. */
	random->state = seed * 2 + 1;
	for (i = 0; i < 8; i++)
		random_next(random);
}

/* xorshift64* */
uint64_t random_next(struct random *random)
{
	random->state ^= random->state >> 12;
	random->state ^= random->state << 25;
	random->state ^= random->state >> 27;
	return random->state * 0x2545f4914f6cdd1dULL;
}

uint64_t random_below(struct random *random, uint64_t limit)
{
	return (random_next(random) >> 11) % limit;
}

/* Load the module; returns 0 or the exit code of modprobe. */
int module_load(const char *parameters)
{
	int ret = shell("modprobe blksnap %s 2>/dev/null", parameters);

	if (!ret && !wait_for_node("/dev/" BLK_SNAP_CTL, true))
		return -1;
	return ret;
}

int module_unload(void)
{
	return shell("rmmod blksnap 2>/dev/null");
}

bool module_is_loaded(void)
{
	return !access("/sys/module/blksnap", F_OK);
}

int64_t module_parameter(const char *name)
{
	return read_number("/sys/module/blksnap/parameters/%s", name);
}

bool kernel_module_load(const char *name)
{
	return !shell("modprobe %s 2>/dev/null", name);
}

/* What klogctl(2) is asked for; the C library has no names for it. */
#define KLOG_READ_ALL 3
#define KLOG_CLEAR 5
#define KLOG_SIZE 10

/* What was there before is not read again. */
void log_clear(void)
{
	klogctl(KLOG_CLEAR, NULL, 0);
}

unsigned int count_in_log(const char *text)
{
	const int nr_bytes = klogctl(KLOG_SIZE, NULL, 0);
	char *log = malloc(nr_bytes + 1);
	unsigned int nr = 0;
	const char *found;
	int ret;

	ASSERT(log);
	ret = klogctl(KLOG_READ_ALL, log, nr_bytes);
	ASSERT(ret >= 0);
	log[ret] = '\0';
	for (found = log; (found = strstr(found, text)); found++)
		nr++;
	free(log);
	return nr;
}

/* Any request on the control node, returning 0, a count or a negative errno. */
int ctl_call(unsigned long request, void *arg)
{
	int ret = ioctl(ctl, request, arg);

	return ret < 0 ? -errno : ret;
}

void ctl_set_up(void)
{
	ctl = ASSERT_OK(control_open());
}

/* Leave nothing behind for the next test, whatever became of this one. */
void ctl_tear_down(void)
{
	if (ctl < 0)
		return;
	destroy_all_snapshots();
	remove_all_trackers();
	close(ctl);
	ctl = -1;
}

/* End the program as skipped if it cannot test anything here. */
void tests_need_module(void)
{
	if (geteuid())
		ktap_skip_all("needs root");
	if (access("/dev/" BLK_SNAP_CTL, F_OK) && module_load(""))
		ktap_skip_all("no /dev/" BLK_SNAP_CTL
			      " and the module cannot be loaded");
	if (access("/sys/module/null_blk", F_OK) &&
	    !kernel_module_load("null_blk nr_devices=0"))
		ktap_skip_all("no null_blk to make disks of");
	if (access(CONFIGFS "/nullb", F_OK))
		mount("config", CONFIGFS, "configfs", 0, NULL);
	if (access(CONFIGFS "/nullb", F_OK))
		ktap_skip_all("null_blk cannot be configured");
}

static bool null_disk_set(const char *name, const char *attribute, uint64_t value)
{
	char path[200], text[32];

	snprintf(path, sizeof(path), CONFIGFS "/nullb/%s/%s", name, attribute);
	snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	return write_text(path, text);
}

static bool null_disk_configure(const char *name, uint64_t nr_mib,
				const struct null_disk_options *options)
{
	bool ok;

	ok = null_disk_set(name, "size", nr_mib) &&
	     null_disk_set(name, "memory_backed", !options->is_hollow) &&
	     null_disk_set(name, "discard", !options->is_zoned) &&
	     null_disk_set(name, "blocksize",
			   options->block_bytes ? options->block_bytes : 512) &&
	     null_disk_set(name, "irqmode", options->completion_ns ? 2 : 0);
	if (ok && options->completion_ns)
		ok = null_disk_set(name, "completion_nsec",
				   options->completion_ns);
	if (ok && options->queue_depth)
		ok = null_disk_set(name, "hw_queue_depth", options->queue_depth);
	if (ok && options->mib_per_s)
		ok = null_disk_set(name, "mbps", options->mib_per_s);
	if (ok && options->is_bio_based)
		ok = null_disk_set(name, "queue_mode", 0);
	if (ok && options->cache_mib)
		ok = null_disk_set(name, "cache_size", options->cache_mib);
	if (ok && options->is_unpolled)
		ok = null_disk_set(name, "poll_queues", 0);
	if (ok && options->is_zoned)
		ok = null_disk_set(name, "zoned", 1) &&
		     null_disk_set(name, "zone_size", 4);
	ok = ok && null_disk_set(name, "power", 1);
	/* A kernel that does not have it takes another without an error. */
	return ok && (!options->is_bio_based ||
		      !read_number(CONFIGFS "/nullb/%s/queue_mode", name));
}

/**
 * null_disk_create() - make a disk of memory
 * @disk:	filled in
 * @name:	of the disk, where the kernel can name it so
 * @nr_mib:	size; memory is only used for what is written
 * @options:	NULL for a plain disk
 *
 * Return: 0 or -ENODEV.
 */
int null_disk_create(struct disk *disk, const char *name, uint64_t nr_mib,
		     const struct null_disk_options *options)
{
	static const struct null_disk_options plain;
	char path[200];

	memset(disk, 0, sizeof(*disk));
	snprintf(path, sizeof(path), CONFIGFS "/nullb/%s", name);
	if (mkdir(path, 0755) && errno != EEXIST)
		return -ENODEV;
	if (!null_disk_configure(name, nr_mib, options ? options : &plain)) {
		null_disk_set(name, "power", 0);
		rmdir(path);
		return -ENODEV;
	}
	/* Older kernels number their disks instead of naming them. */
	snprintf(path, sizeof(path), "/dev/%s", name);
	if (access(path, F_OK))
		snprintf(path, sizeof(path), "/dev/nullb%lld",
			 (long long)read_number(CONFIGFS "/nullb/%s/index", name));
	if (disk_find(disk, path))
		return -ENODEV;
	/* What null_disk_destroy() has to remove. */
	snprintf(disk->name, sizeof(disk->name), "%s", name);
	disk->is_ours = true;
	return 0;
}

void null_disk_destroy(struct disk *disk)
{
	char path[200];

	if (!disk->is_ours)
		return;
	partition_del_all(disk);
	null_disk_set(disk->name, "power", 0);
	snprintf(path, sizeof(path), CONFIGFS "/nullb/%s", disk->name);
	rmdir(path);
	disk->is_ours = false;
}

/**
 * disk_find() - describe a block device that exists
 * @disk:	filled in
 * @path:	of its node
 *
 * Return: 0 or a negative errno.
 */
int disk_find(struct disk *disk, const char *path)
{
	struct stat stat;
	uint64_t nr_bytes;
	int fd;

	if (!wait_for_node(path, true))
		return -ENOENT;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &stat) || !S_ISBLK(stat.st_mode) ||
	    ioctl(fd, BLKGETSIZE64, &nr_bytes)) {
		close(fd);
		return -ENOTBLK;
	}
	close(fd);
	memset(disk, 0, sizeof(*disk));
	snprintf(disk->path, sizeof(disk->path), "%s", path);
	snprintf(disk->name, sizeof(disk->name), "%s", strrchr(path, '/') + 1);
	disk->id.mj = major(stat.st_rdev);
	disk->id.mn = minor(stat.st_rdev);
	disk->nr_bytes = nr_bytes;
	return 0;
}

static int partition_call(const struct disk *disk, int op,
			  struct blkpg_partition *part)
{
	struct blkpg_ioctl_arg arg = {
		.op = op,
		.datalen = sizeof(*part),
		.data = part,
	};
	int fd = open(disk->path, O_RDONLY | O_CLOEXEC);
	int ret;

	if (fd < 0)
		return -errno;
	ret = ioctl(fd, BLKPG, &arg) ? -errno : 0;
	close(fd);
	return ret;
}

/**
 * partition_add() - make a partition that no table knows
 * @disk:	whole disk
 * @part:	filled in
 * @sector:	where it starts
 * @nr_sectors:	its length
 *
 * Return: 0 or a negative errno.
 */
int partition_add(struct disk *disk, struct disk *part, uint64_t sector,
		  uint64_t nr_sectors)
{
	struct blkpg_partition arg = {
		.start = sector * SECTOR_SIZE,
		.length = nr_sectors * SECTOR_SIZE,
		.pno = disk->nr_parts + 1,
	};
	char last = disk->path[strlen(disk->path) - 1];
	char path[64];
	int ret;

	ret = partition_call(disk, BLKPG_ADD_PARTITION, &arg);
	if (ret)
		return ret;
	disk->nr_parts++;
	snprintf(path, sizeof(path), "%s%s%d", disk->path,
		 last >= '0' && last <= '9' ? "p" : "", arg.pno);
	return disk_find(part, path);
}

void partition_del_all(struct disk *disk)
{
	while (disk->nr_parts) {
		struct blkpg_partition arg = { .pno = disk->nr_parts-- };

		partition_call(disk, BLKPG_DEL_PARTITION, &arg);
	}
}

/* What a disk (not a partition) did so far. */
void disk_read_stat(const struct disk *disk, struct disk_stat *stat)
{
	unsigned long long value[17] = { 0 };
	char path[200];
	unsigned int i;
	FILE *file;

	/* By number, for the path may be a link. */
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/stat",
		 disk->id.mj, disk->id.mn);
	file = fopen(path, "r");
	ASSERT(file);
	for (i = 0; i < ARRAY_SIZE(value); i++)
		if (fscanf(file, "%llu", &value[i]) != 1)
			break;
	fclose(file);
	stat->reads = value[0];
	stat->read_sectors = value[2];
	stat->writes = value[4];
	stat->written_sectors = value[6];
	stat->flushes = value[15];
}

bool read_direct(const char *path, void *buffer, size_t nr_bytes, uint64_t at)
{
	int fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	size_t done = 0;
	ssize_t ret = 0;

	while (fd >= 0 && done < nr_bytes) {
		size_t piece = nr_bytes - done < IO_BYTES ? nr_bytes - done :
							    IO_BYTES;

		ret = pread(fd, (char *)buffer + done, piece, at + done);
		if (ret <= 0)
			break;
		done += ret;
	}
	if (done < nr_bytes)
		FAIL("reading %s at %llu: %s", path,
		     (unsigned long long)(at + done),
		     fd < 0 || ret < 0 ? strerror(errno) : "end of device");
	if (fd >= 0)
		close(fd);
	return done == nr_bytes;
}

bool write_direct(const char *path, const void *buffer, size_t nr_bytes,
		  uint64_t at)
{
	int fd = open(path, O_WRONLY | O_DIRECT | O_CLOEXEC);
	bool ok = fd >= 0 &&
		  pwrite(fd, buffer, nr_bytes, at) == (ssize_t)nr_bytes;

	if (!ok)
		FAIL("writing %s at %llu: %s", path, (unsigned long long)at,
		     strerror(errno));
	if (fd >= 0)
		close(fd);
	return ok;
}

bool fill_direct(const char *path, int byte, size_t nr_bytes, uint64_t at)
{
	size_t piece = nr_bytes < IO_BYTES ? nr_bytes : IO_BYTES;
	void *buffer = alloc_aligned(piece);
	size_t done;
	bool ok = true;

	memset(buffer, byte, piece);
	for (done = 0; ok && done < nr_bytes; done += piece) {
		if (piece > nr_bytes - done)
			piece = nr_bytes - done;
		ok = write_direct(path, buffer, piece, at + done);
	}
	free(buffer);
	return ok;
}

/* Does all of a range hold the one byte? */
bool reads_as(const char *path, int byte, size_t nr_bytes, uint64_t at)
{
	void *buffer = alloc_aligned(nr_bytes);
	bool ok = read_direct(path, buffer, nr_bytes, at) &&
		  is_filled_with(buffer, byte, nr_bytes);

	free(buffer);
	return ok;
}

bool wait_for_node(const char *path, bool is_there)
{
	unsigned int ms;

	for (ms = 0; ms < NODE_TIMEOUT_MS; ms += 5) {
		if (!access(path, F_OK) == is_there)
			return true;
		sleep_ms(5);
	}
	return false;
}

void snapshot_create_of(struct snapshot *snapshot, const struct disk **disks,
			unsigned int nr_disks)
{
	struct blk_snap_dev ids[SNAPSHOT_DISKS_MAX];
	unsigned int i;

	ASSERT(nr_disks <= ARRAY_SIZE(ids));
	memset(snapshot, 0, sizeof(*snapshot));
	for (i = 0; i < nr_disks; i++)
		ids[i] = disks[i]->id;
	ASSERT_OK(control_snapshot_create(ctl, ids, nr_disks, &snapshot->id));
}

void snapshot_create(struct snapshot *snapshot, const struct disk *disk)
{
	snapshot_create_of(snapshot, &disk, 1);
}

/* Returns 0 or a negative errno. */
int append_range(const struct snapshot *snapshot, const struct disk *disk,
		 uint64_t sector, uint64_t nr_sectors)
{
	struct blk_snap_block_range range = { sector, nr_sectors };

	return control_snapshot_append_storage(ctl, &snapshot->id, disk->id,
					       &range, 1);
}

/* Take it and learn the names of the images. */
void snapshot_take(struct snapshot *snapshot)
{
	ASSERT_OK(control_snapshot_take(ctl, &snapshot->id));
	snapshot_find_images(snapshot);
}

/* What a taken snapshot has to offer. */
void snapshot_find_images(struct snapshot *snapshot)
{
	struct blk_snap_image_info *infos;
	unsigned int i, nr;

	ASSERT_OK(control_snapshot_collect_images(ctl, &snapshot->id, &infos,
						  &nr));
	ASSERT(nr && nr <= ARRAY_SIZE(snapshot->images));
	snapshot->nr_images = nr;
	for (i = 0; i < nr; i++) {
		snapshot->images[i].origin = infos[i].orig_dev_id;
		snapshot->images[i].id = infos[i].image_dev_id;
		snprintf(snapshot->images[i].path,
			 sizeof(snapshot->images[i].path),
			 "/dev/" BLK_SNAP_IMAGE_NAME "%u",
			 infos[i].image_dev_id.mn);
	}
	free(infos);
	for (i = 0; i < nr; i++)
		ASSERT(wait_for_node(snapshot->images[i].path, true));
}

/* Path of the image of an origin; ends the test if there is none. */
const char *image_of(const struct snapshot *snapshot, const struct disk *disk)
{
	unsigned int i;

	for (i = 0; i < snapshot->nr_images; i++)
		if (!memcmp(&snapshot->images[i].origin, &disk->id,
			    sizeof(disk->id)))
			return snapshot->images[i].path;
	ktap_check(false, true, __FILE__, __LINE__, "no image of %s",
		   disk->path);
	return "";
}

void snapshot_now(struct snapshot *snapshot, const struct disk *disk,
		  const struct disk *storage)
{
	snapshot_create(snapshot, disk);
	ASSERT_OK(append_range(snapshot, storage, 0,
			       storage->nr_bytes / SECTOR_SIZE));
	snapshot_take(snapshot);
}

/* Returns how many there were. */
unsigned int destroy_all_snapshots(void)
{
	struct blk_snap_uuid *ids;
	unsigned int i, nr;

	if (control_snapshot_collect(ctl, &ids, &nr))
		return 0;
	for (i = 0; i < nr; i++)
		control_snapshot_destroy(ctl, &ids[i]);
	free(ids);
	return nr;
}

void remove_all_trackers(void)
{
	struct blk_snap_cbt_info *infos;
	unsigned int i, nr;

	if (control_tracker_collect(ctl, &infos, &nr))
		return;
	for (i = 0; i < nr; i++)
		control_tracker_remove(ctl, infos[i].dev_id);
	free(infos);
}

/* State of the tracking of one disk; false if it is not tracked. */
bool tracker_info(const struct disk *disk, struct blk_snap_cbt_info *info)
{
	struct blk_snap_cbt_info *infos;
	bool is_found = false;
	unsigned int i, nr;

	ASSERT_OK(control_tracker_collect(ctl, &infos, &nr));
	for (i = 0; i < nr && !is_found; i++) {
		is_found = !memcmp(&infos[i].dev_id, &disk->id, sizeof(disk->id));
		*info = infos[i];
	}
	free(infos);
	return is_found;
}

/* The whole frozen map, to be freed by the caller, and what belongs to it. */
uint8_t *read_map(const struct disk *disk, struct blk_snap_cbt_info *info)
{
	uint32_t done = 0;
	uint8_t *map;
	int ret;

	ASSERT(tracker_info(disk, info));
	map = calloc(1, info->blk_count + 1);
	do {
		ret = control_tracker_read_cbt_map(ctl, disk->id, done,
						   info->blk_count - done + 1,
						   map + done);
		done += ret > 0 ? ret : 0;
	} while (ret > 0 && done < info->blk_count);
	ASSERT_OK(ret);
	ASSERT_EQ(done, info->blk_count);
	return map;
}

/* Returns 0 or a negative errno. */
int next_event(const struct snapshot *snapshot, unsigned int timeout_ms,
	       struct blk_snap_snapshot_event *event)
{
	return control_snapshot_wait_event(ctl, &snapshot->id, timeout_ms, event);
}
