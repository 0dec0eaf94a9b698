// SPDX-License-Identifier: GPL-2.0
/*
 * A module that is not there
 *
 * Preloaded into the command-line tool, this library answers the calls on
 * /dev/blksnap.  What it answers is told by the environment, what it was asked
 * is written to a log, so that a test sees the arguments as the module would.
 *
 *	FAKE_LOG=FILE		append a line for each call
 *	FAKE_OPEN=ERRNO		the control node cannot be opened
 *	FAKE_FAIL=CALL:ERRNO	this call fails
 *	FAKE_SAYS=TEXT		and writes this line to the kernel's log
 *	FAKE_MAP=N,N,...	bytes of the change map of device 4000:1
 *	FAKE_NUMBER=N		number of the last snapshot; greatest byte of the map
 *				if not given
 *	FAKE_GENERATION=N	first byte of the generation
 *	FAKE_BLOCK=N		size of a tracking block
 *	FAKE_NO_LIBRARY=NAME	this library cannot be loaded
 *	FAKE_KILL=N		the tool is killed before the Nth call that changes a
 *				folder, or brings a file or folder to the disk
 *	FAKE_MOMENTS=FILE	append a line for each of these calls, and for each
 *				that truncates: its name and the path
 *	FAKE_IMAGE_DIR=DIR	/dev/blksnap-imageN is the file imageN in DIR
 *	FAKE_SYS=DIR		/sys/block/blksnap-imageN, /sys/kernel/debug/blksnap,
 *				/sys/kernel/security, /sys/module and
 *				/sys/dev/block/4000:N are below DIR
 *	FAKE_FS=TYPE		device 4000:1 is /dev/fake1, with this filesystem
 *	FAKE_DEVICES=NUMBER PATH [TAG=VALUE]...;...
 *				devices with their nodes, and what libblkid finds there
 *	FAKE_TRACKERS=N		number of tracked devices; all but those of
 *				FAKE_TRACKED have gone away
 *	FAKE_TRACKED=DEV,...	4000:1 if not given
 *	FAKE_GROW=N		so many array fetches find one entry more than
 *				the fetch before
 *	FAKE_LIE=small		an array is said to be too small, but the count
 *				that is needed is the count that was given
 *	FAKE_LIE=large		an array is said to be filled with more entries
 *				than it has room for
 *	FAKE_RENEW=N		the generation changes with each of the first N
 *				lists of trackers
 *	FAKE_TAKES=N		the last snapshot changes with each of the first N
 *				lists of trackers
 *	FAKE_IMAGES=DEV,...	origins of the snapshot, which is taken then
 *	FAKE_HELD=DEV,...	devices of the second snapshot, which was created
 *				three hours ago; 4000:100 without it.  The first one
 *				has 4000:200 and is 12 s old
 *	FAKE_COMM=NAME		what the process that created them calls itself
 *	FAKE_LEFT=1		the first one is of a run of this tool that was killed
 *	FAKE_EVENTS=E,...	what the waits end with: low, corrupted, other,
 *				timeout, signal, destroyed; at last timeout.
 *				corrupted=ERRNO has another one than ENOSPC
 */
#include <blkid/blkid.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <linux/blksnap.h>

#include "util.h"

#define BLOCK_SIZE "65536"
#define NR_SNAPSHOTS 2
#define MAP_SIZE_MAX 4096
#define FAKE_FD_MIN 900	/* no file of the tool gets so high a number */

static int kernel_log = -1;
static unsigned int nr_lists;
static unsigned int nr_grown;
static unsigned int nr_waits;

static const char *setting(const char *name, const char *otherwise)
{
	const char *value = getenv(name);

	return value ? value : otherwise;
}

__attribute__((PRINTF_LIKE(1, 2)))
static void note(const char *format, ...)
{
	/* Threads may call at the same time, and a line comes in pieces. */
	static __thread char line[1 << 16];
	static __thread size_t used;
	const char *path = getenv("FAKE_LOG");
	va_list args;
	FILE *file;

	if (!path)
		return;
	va_start(args, format);
	used += vsnprintf(line + used, sizeof(line) - used, format, args);
	va_end(args);
	if (used >= sizeof(line))
		abort();
	if (line[used - 1] != '\n')
		return;
	file = fopen(path, "a");
	if (!file)
		abort();
	fwrite(line, 1, used, file);
	fclose(file);
	used = 0;
}

static int error_number(const char *name, size_t length)
{
	const char *known;
	int i;

	for (i = 1; i < 200; i++) {
		known = strerrorname_np(i);
		if (known && strlen(known) == length &&
		    !strncmp(known, name, length))
			return i;
	}
	abort();
}

/* Where the file is that stands for an image, NULL if @path is no image. */
static const char *image_path(const char *path)
{
	static const char prefix[] = "/dev/" BLK_SNAP_IMAGE_NAME;
	static char file[4096];
	const char *dir = getenv("FAKE_IMAGE_DIR");

	if (!dir || strncmp(path, prefix, sizeof(prefix) - 1))
		return NULL;
	snprintf(file, sizeof(file), "%s/image%s", dir,
		 path + sizeof(prefix) - 1);
	return file;
}

/* Where a file of the module's in sysfs or debugfs is. */
static const char *sys_path(const char *path)
{
	static const char image[] = "/sys/block/" BLK_SNAP_IMAGE_NAME;
	static const char debug[] = "/sys/kernel/debug/blksnap";
	static const char module[] = "/sys/module/";
	static const char security[] = "/sys/kernel/security/";
	static const char device[] = "/sys/dev/block/4000:";
	static __thread char file[4096];
	const char *dir = getenv("FAKE_SYS");

	if (!dir || (strncmp(path, image, sizeof(image) - 1) &&
		     strncmp(path, debug, sizeof(debug) - 1) &&
		     strncmp(path, module, sizeof(module) - 1) &&
		     strncmp(path, device, sizeof(device) - 1) &&
		     strncmp(path, security, sizeof(security) - 1)))
		return path;
	snprintf(file, sizeof(file), "%s%s", dir, path);
	return file;
}

FILE *fopen64(const char *path, const char *mode)
{
	FILE *(*real)(const char *path, const char *mode) =
		dlsym(RTLD_NEXT, "fopen64");

	return real(sys_path(path), mode);
}

int access(const char *path, int mode)
{
	int (*real)(const char *path, int mode) = dlsym(RTLD_NEXT, "access");

	return real(sys_path(path), mode);
}

static int fake_open(void)
{
	const char *error = getenv("FAKE_OPEN");

	if (error) {
		errno = error_number(error, strlen(error));
		return -1;
	}
	return fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, FAKE_FD_MIN);
}

/* With a line that is older than the call. */
static int fake_open_log(void)
{
	kernel_log = memfd_create("kmsg", MFD_CLOEXEC);
	dprintf(kernel_log, "3,1,1,-;blksnap: 4000:3: cannot be storage: old\n");
	return kernel_log;
}

/* Each read(2) of the log gives one record. */
static void fake_say(const char *text)
{
	off_t place = lseek(kernel_log, 0, SEEK_CUR);

	lseek(kernel_log, 0, SEEK_END);
	dprintf(kernel_log, "3,2,2,-;blksnap: %s\n", text);
	lseek(kernel_log, place, SEEK_SET);
}

int open(const char *path, int flags, ...)
{
	int (*real)(const char *path, int flags, ...) = dlsym(RTLD_NEXT, "open");
	mode_t mode;
	va_list args;

	if (!strcmp(path, "/dev/" BLK_SNAP_CTL))
		return fake_open();
	if (!strcmp(path, "/dev/kmsg"))
		return fake_open_log();
	if (image_path(path))
		path = image_path(path);
	va_start(args, flags);
	mode = flags & O_CREAT ? va_arg(args, int) : 0;
	va_end(args);
	return real(path, flags, mode);
}

/* Its children are preloaded with this, too. */
static bool is_tool(void)
{
	return !strcmp(program_invocation_short_name, "blksnap");
}

static void note_moment(const char *call, const char *path)
{
	const char *moments = getenv("FAKE_MOMENTS");
	FILE *file = moments && is_tool() ? fopen(moments, "a") : NULL;

	if (!file)
		return;
	fprintf(file, "%s %s\n", call, path);
	fclose(file);
}

static void note_moment_fd(const char *call, int fd)
{
	char link[64], path[4096];
	ssize_t length;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, path, sizeof(path) - 1);
	path[length < 0 ? 0 : length] = 0;
	note_moment(call, path);
}

static void count_moment(void)
{
	static unsigned int nr_moments;

	if (is_tool() &&
	    ++nr_moments == strtoul(setting("FAKE_KILL", "0"), NULL, 10))
		raise(SIGKILL);
}

int rename(const char *from, const char *to)
{
	int (*real)(const char *from, const char *to) =
		dlsym(RTLD_NEXT, "rename");

	count_moment();
	note_moment("rename", from);
	return real(from, to);
}

int unlink(const char *path)
{
	int (*real)(const char *path) = dlsym(RTLD_NEXT, "unlink");

	count_moment();
	note_moment("unlink", path);
	return real(path);
}

int unlinkat(int dir, const char *path, int flags)
{
	int (*real)(int dir, const char *path, int flags) =
		dlsym(RTLD_NEXT, "unlinkat");

	count_moment();
	note_moment("unlink", path);
	return real(dir, path, flags);
}

int fsync(int fd)
{
	int (*real)(int fd) = dlsym(RTLD_NEXT, "fsync");

	count_moment();
	note_moment_fd("fsync", fd);
	return real(fd);
}

int truncate64(const char *path, off64_t size)
{
	int (*real)(const char *path, off64_t size) =
		dlsym(RTLD_NEXT, "truncate64");

	note_moment("truncate", path);
	return real(path, size);
}

int ftruncate64(int fd, off64_t size)
{
	int (*real)(int fd, off64_t size) = dlsym(RTLD_NEXT, "ftruncate64");

	note_moment_fd("truncate", fd);
	return real(fd, size);
}

void *dlopen(const char *name, int flags)
{
	void *(*real)(const char *name, int flags) = dlsym(RTLD_NEXT, "dlopen");
	const char *missing = getenv("FAKE_NO_LIBRARY");

	if (missing && name && !strcmp(name, missing))
		return NULL;
	return real(name, flags);
}

int open64(const char *path, int flags, ...)
{
	mode_t mode;
	va_list args;

	va_start(args, flags);
	mode = flags & O_CREAT ? va_arg(args, int) : 0;
	va_end(args);
	return open(path, flags | O_LARGEFILE, mode);
}

/* The word of FAKE_DEVICES from @text on. */
static bool word_is(const char *text, const char *word)
{
	return !strncmp(text, word, strlen(word)) &&
	       strchr(" ;", text[strlen(word)]);
}

/*
 * What FAKE_DEVICES says of the device with this number or path, from its path on;
 * NULL if it says nothing.
 */
static const char *find_device(const char *number, const char *path)
{
	const char *entry = getenv("FAKE_DEVICES"), *name;

	while (entry && *entry) {
		name = entry + strcspn(entry, " ") + 1;
		if (word_is(number ? entry : name, number ? number : path))
			return name;
		entry += strcspn(entry, ";");
		entry += *entry == ';';
	}
	return NULL;
}

static char *fake_tag(const char *entry, const char *tag)
{
	const char *word = entry;

	while (*(word += strcspn(word, " ;")) == ' ') {
		word++;
		if (!strncmp(word, tag, strlen(tag)) && word[strlen(tag)] == '=') {
			word += strlen(tag) + 1;
			return strndup(word, strcspn(word, " ;"));
		}
	}
	return NULL;
}

int stat64(const char *path, struct stat64 *st)
{
	int (*real)(const char *path, struct stat64 *st) =
		dlsym(RTLD_NEXT, "stat64");
	const char *entry = find_device(NULL, path);
	unsigned int mj, mn;

	if (!entry)
		return real(path, st);
	/* Its number is before its path. */
	do
		entry--;
	while (entry > getenv("FAKE_DEVICES") && entry[-1] != ';');
	if (sscanf(entry, "%u:%u", &mj, &mn) != 2)
		abort();
	*st = (struct stat64) {
		.st_mode = S_IFBLK | 0600,
		.st_rdev = makedev(mj, mn),
	};
	return 0;
}

char *blkid_devno_to_devname(dev_t number)
{
	char *(*real)(dev_t number) = dlsym(RTLD_NEXT, "blkid_devno_to_devname");
	const char *entry;
	char text[32];

	snprintf(text, sizeof(text), "%u:%u", major(number), minor(number));
	entry = find_device(text, NULL);
	if (entry)
		return strndup(entry, strcspn(entry, " ;"));
	if (getenv("FAKE_FS") && number == makedev(4000, 1))
		return strdup("/dev/fake1");
	return real(number);
}

char *blkid_get_tag_value(blkid_cache cache, const char *tag,
			  const char *device)
{
	char *(*real)(blkid_cache cache, const char *tag, const char *device) =
		dlsym(RTLD_NEXT, "blkid_get_tag_value");
	const char *entry = find_device(NULL, device);

	if (entry)
		return fake_tag(entry, tag);
	if (!getenv("FAKE_FS") || strcmp(device, "/dev/fake1"))
		return real(cache, tag, device);
	return strcmp(tag, "TYPE") ? NULL : strdup(getenv("FAKE_FS"));
}

/* Fails with the errno that FAKE_FAIL names for this call. */
static int outcome(const char *call)
{
	const char *fail = setting("FAKE_FAIL", "");
	size_t length = strlen(call);

	if (strncmp(fail, call, length) || fail[length] != ':')
		return 0;
	if (kernel_log >= 0 && getenv("FAKE_SAYS"))
		fake_say(getenv("FAKE_SAYS"));
	errno = error_number(fail + length + 1, strlen(fail) - length - 1);
	return -1;
}

static void note_id(const struct blk_snap_uuid *id)
{
	size_t i;

	note(" ");
	for (i = 0; i < sizeof(id->b); i++)
		note("%02x", id->b[i]);
}

static void note_dev(struct blk_snap_dev dev)
{
	note(" %u:%u", dev.mj, dev.mn);
}

static void note_ranges(const struct blk_snap_block_range *ranges,
			unsigned int nr_ranges)
{
	unsigned int i;

	for (i = 0; i < nr_ranges; i++)
		note(" %llu+%llu", (unsigned long long)ranges[i].sector_offset,
		     (unsigned long long)ranges[i].sector_count);
}

static void make_id(struct blk_snap_uuid *id, unsigned char first)
{
	size_t i;

	for (i = 0; i < sizeof(id->b); i++)
		id->b[i] = first + i;
}

static unsigned int read_map(unsigned char *map)
{
	const char *text = setting("FAKE_MAP", "0,1,2,2,0,3");
	unsigned int length = 0;

	while (*text) {
		if (length == MAP_SIZE_MAX)
			abort();
		map[length++] = strtoul(text, (char **)&text, 10);
		if (*text)
			text++;
	}
	return length;
}

static unsigned char last_number(void)
{
	unsigned char map[MAP_SIZE_MAX];
	unsigned int length = read_map(map), i;
	unsigned char last = 0;

	for (i = 0; i < length; i++) {
		if (map[i] > last)
			last = map[i];
	}
	return last;
}

/*
 * The beginning of each "collect": returns 1 if entries are to be filled in, 0
 * if only the count was asked for, -1 if there is too little room for them.
 */
static int begin_collect(const char *call, __u32 *count, const void *entries,
			 unsigned int nr_entries, int too_small_error)
{
	__u32 room = entries ? *count : 0;

	note("%s room %u\n", call, *count);
	if (outcome(call))
		return -1;
	if (!room) {
		*count = nr_entries;
		return 0;
	}
	if (!strcmp(setting("FAKE_LIE", ""), "large")) {
		*count = room + 1;
		return 0;
	}
	if (!strcmp(setting("FAKE_LIE", ""), "small")) {
		errno = too_small_error;
		return -1;
	}
	if (nr_grown < strtoul(setting("FAKE_GROW", "0"), NULL, 10)) {
		nr_grown++;
		*count = room + 1;
		errno = too_small_error;
		return -1;
	}
	if (room < nr_entries) {
		*count = nr_entries;
		errno = too_small_error;
		return -1;
	}
	*count = nr_entries;
	return 1;
}

static unsigned int parse_devs(const char *text, struct blk_snap_dev *devs,
			       unsigned int room)
{
	unsigned int nr = 0;

	while (*text && nr < room) {
		devs[nr].mj = strtoul(text, (char **)&text, 10);
		devs[nr++].mn = strtoul(text + 1, (char **)&text, 10);
		if (*text)
			text++;
	}
	return nr;
}

/* Of all that are there alike, but each has a generation of its own. */
static void fill_tracker(struct blk_snap_cbt_info *info, unsigned int index)
{
	unsigned char map[MAP_SIZE_MAX];

	info->blk_size = strtoul(setting("FAKE_BLOCK", BLOCK_SIZE), NULL, 10);
	info->blk_count = read_map(map);
	/* The last block is cut off by the end of the device. */
	info->device_capacity = (__u64)info->blk_count * info->blk_size -
				(info->blk_size > 4096 ? 4096 : 512);
	info->snap_number = getenv("FAKE_NUMBER") ?
				    strtoul(getenv("FAKE_NUMBER"), NULL, 10) :
				    last_number();
	make_id(&info->generation_id, 0x10);
	if (getenv("FAKE_GENERATION"))
		info->generation_id.b[0] = strtoul(getenv("FAKE_GENERATION"),
						   NULL, 10);
	if (nr_lists <= strtoul(setting("FAKE_RENEW", "0"), NULL, 10))
		info->generation_id.b[0] = nr_lists;
	if (nr_lists <= strtoul(setting("FAKE_TAKES", "0"), NULL, 10))
		info->snap_number = 10 + nr_lists;
	info->generation_id.b[1] += index;
}

static int fake_tracker_collect(struct blk_snap_tracker_collect *arg)
{
	unsigned int nr = strtoul(setting("FAKE_TRACKERS", "2"), NULL, 10);
	struct blk_snap_cbt_info *infos = arg->cbt_info_array;
	struct blk_snap_dev devs[8];
	unsigned int nr_devs, i;
	int ret;

	ret = begin_collect("tracker_collect", &arg->count, infos, nr, ENOBUFS);
	if (ret <= 0)
		return ret;
	nr_lists++;
	nr_devs = parse_devs(setting("FAKE_TRACKED", "4000:1"), devs, 8);
	memset(infos, 0, nr * sizeof(*infos));
	for (i = 0; i < nr; i++) {
		if (i < nr_devs) {
			infos[i].dev_id = devs[i];
			fill_tracker(&infos[i], i);
		} else {
			infos[i].dev_id.mj = 4000;
			infos[i].dev_id.mn = i + 1;
		}
	}
	return 0;
}

static int fake_read_cbt_map(struct blk_snap_tracker_read_cbt_bitmap *arg)
{
	unsigned char map[MAP_SIZE_MAX];
	unsigned int nr_bytes = read_map(map);

	note("tracker_read_cbt_map");
	note_dev(arg->dev_id);
	note(" %u+%u\n", arg->offset, arg->length);
	if (outcome("tracker_read_cbt_map"))
		return -1;
	if (arg->offset > nr_bytes) {
		errno = EINVAL;
		return -1;
	}
	nr_bytes -= arg->offset;
	if (nr_bytes > arg->length)
		nr_bytes = arg->length;
	/* A short count is allowed at any time. */
	if (nr_bytes > 4)
		nr_bytes = 4;
	memcpy(arg->buff, map + arg->offset, nr_bytes);
	return nr_bytes;
}

static int fake_mark(const struct blk_snap_tracker_mark_dirty_blocks *arg)
{
	note("tracker_mark_dirty_blocks");
	note_dev(arg->dev_id);
	note_ranges(arg->dirty_blocks_array, arg->count);
	note("\n");
	return outcome("tracker_mark_dirty_blocks");
}

static int fake_remove(const struct blk_snap_tracker_remove *arg)
{
	note("tracker_remove");
	note_dev(arg->dev_id);
	note("\n");
	return outcome("tracker_remove");
}

static int fake_version(struct blk_snap_version *arg)
{
	*arg = (struct blk_snap_version) { 2, 1, 3, 4 };
	return outcome("version");
}

static int fake_create(struct blk_snap_snapshot_create *arg)
{
	unsigned int i;

	note("snapshot_create");
	for (i = 0; i < arg->count; i++)
		note_dev(arg->dev_id_array[i]);
	note("\n");
	make_id(&arg->id, 0xa0);
	return outcome("snapshot_create");
}

static int fake_destroy(const struct blk_snap_snapshot_destroy *arg)
{
	note("snapshot_destroy");
	note_id(&arg->id);
	note("\n");
	return outcome("snapshot_destroy");
}

static int fake_take(const struct blk_snap_snapshot_take *arg)
{
	note("snapshot_take");
	note_id(&arg->id);
	note("\n");
	return outcome("snapshot_take");
}

static int fake_append(const struct blk_snap_snapshot_append_storage *arg)
{
	note("snapshot_append_storage");
	note_id(&arg->id);
	note_dev(arg->dev_id);
	note_ranges(arg->ranges, arg->count);
	note("\n");
	return outcome("snapshot_append_storage");
}

static int fake_pin(const struct blk_snap_snapshot_pin_file *arg)
{
	note("snapshot_pin_file");
	note_id(&arg->id);
	note("%s\n", arg->reserved ? " reserved" : "");
	return outcome("snapshot_pin_file");
}

static int fake_collect(struct blk_snap_snapshot_collect *arg)
{
	int ret = begin_collect("snapshot_collect", &arg->count, arg->ids,
				NR_SNAPSHOTS, ENODATA);
	unsigned int i;

	for (i = 0; ret > 0 && i < NR_SNAPSHOTS; i++)
		make_id(&arg->ids[i], 0xa0 + 0x10 * i);
	return ret < 0 ? ret : 0;
}

static int fake_collect_images(struct blk_snap_snapshot_collect_images *arg)
{
	const char *text = setting("FAKE_IMAGES", "");
	unsigned int nr_images = 0, i;
	int ret;

	for (i = 0; text[i]; i++)
		nr_images += text[i] == ':';
	if (!outcome("snapshot_collect_images") && !nr_images) {
		errno = ENODEV;
		return -1;
	}
	ret = begin_collect("snapshot_collect_images", &arg->count,
			    arg->image_info_array, nr_images, ENODATA);
	for (i = 0; ret > 0 && i < nr_images; i++) {
		struct blk_snap_image_info *image = &arg->image_info_array[i];

		image->orig_dev_id.mj = strtoul(text, (char **)&text, 10);
		image->orig_dev_id.mn = strtoul(text + 1, (char **)&text, 10);
		image->image_dev_id.mj = 3999;
		image->image_dev_id.mn = i;
		if (*text)
			text++;
	}
	return ret < 0 ? ret : 0;
}

static int fake_info(struct blk_snap_snapshot_info *arg)
{
	int is_second = arg->id.b[0] == 0xb0;
	const char *comm = setting("FAKE_COMM", "backup-agent");
	struct blk_snap_dev devs[8];
	unsigned int nr;

	note("snapshot_info");
	note_id(&arg->id);
	note(" room %u\n", arg->count);
	if (outcome("snapshot_info"))
		return -1;
	nr = parse_devs(is_second ? setting("FAKE_HELD", "4000:100") : "4000:200",
			devs, 8);
	if (arg->dev_id_array && arg->count >= nr)
		memcpy((void *)(uintptr_t)arg->dev_id_array, devs,
		       nr * sizeof(*devs));
	arg->count = nr;
	arg->state = blk_snap_snapshot_state_created;
	arg->pid = is_second ? 1234 : 77;
	arg->flags = is_second ? BLK_SNAP_INFO_CREATOR_ENDED : 0;
	arg->age_ms = is_second ? 3 * 3600 * 1000 + 12345 : 12345;
	if (!is_second && getenv("FAKE_LEFT")) {
		comm = "blksnap-keeper";
		arg->flags = BLK_SNAP_INFO_CREATOR_ENDED;
	}
	memcpy(arg->comm, comm, strnlen(comm, sizeof(arg->comm)));
	return 0;
}

static int event_is(const char *name, const char *text)
{
	return !strncmp(text, name, strlen(name));
}

static int fill_event(struct blk_snap_snapshot_event *arg, const char *text)
{
	struct blk_snap_event_low_free_space low = { .requested_nr_sect = 2048 };
	struct blk_snap_event_corrupted corrupted = {
		.orig_dev_id = { 4000, 1 },
		.err_code = ENOSPC,
	};

	arg->time_label = 12003004000LL;
	memset(arg->data, 0, sizeof(arg->data));
	if (event_is("low", text)) {
		arg->code = blk_snap_event_code_low_free_space;
		memcpy(arg->data, &low, sizeof(low));
	} else if (event_is("corrupted", text)) {
		arg->code = blk_snap_event_code_corrupted;
		text += strlen("corrupted");
		if (*text == '=')
			corrupted.err_code = error_number(text + 1,
							  strcspn(text + 1, ","));
		memcpy(arg->data, &corrupted, sizeof(corrupted));
	} else if (event_is("other", text)) {
		arg->code = 77;
	} else {
		abort();
	}
	return 0;
}

static int fake_wait_event(struct blk_snap_snapshot_event *arg)
{
	const char *text = setting("FAKE_EVENTS", "");
	unsigned int i;

	/* The time that is left differs from run to run; 0 and no end do not. */
	note("snapshot_wait_event");
	note_id(&arg->id);
	note(" %s\n", !arg->timeout_ms ? "now" :
		      arg->timeout_ms == 0xffffffff ? "forever" : "some time");
	if (outcome("snapshot_wait_event"))
		return -1;
	for (i = 0; i < nr_waits && *text; i++) {
		text += strcspn(text, ",");
		text += *text == ',';
	}
	nr_waits++;
	if (!*text || event_is("timeout", text)) {
		usleep(arg->timeout_ms > 20 ? 20000 : arg->timeout_ms * 1000);
		errno = ENOENT;
	} else if (event_is("signal", text)) {
		errno = EINTR;
	} else if (event_is("destroyed", text)) {
		errno = ESRCH;
	} else {
		return fill_event(arg, text);
	}
	return -1;
}

static int fake_ioctl(unsigned int request, void *arg)
{
	switch (request) {
	case IOCTL_BLK_SNAP_VERSION:
		return fake_version(arg);
	case IOCTL_BLK_SNAP_TRACKER_REMOVE:
		return fake_remove(arg);
	case IOCTL_BLK_SNAP_TRACKER_COLLECT:
		return fake_tracker_collect(arg);
	case IOCTL_BLK_SNAP_TRACKER_READ_CBT_MAP:
		return fake_read_cbt_map(arg);
	case IOCTL_BLK_SNAP_TRACKER_MARK_DIRTY_BLOCKS:
		return fake_mark(arg);
	case IOCTL_BLK_SNAP_SNAPSHOT_CREATE:
		return fake_create(arg);
	case IOCTL_BLK_SNAP_SNAPSHOT_DESTROY:
		return fake_destroy(arg);
	case IOCTL_BLK_SNAP_SNAPSHOT_APPEND_STORAGE:
		return fake_append(arg);
	case IOCTL_BLK_SNAP_SNAPSHOT_PIN_FILE:
		return fake_pin(arg);
	case IOCTL_BLK_SNAP_SNAPSHOT_TAKE:
		return fake_take(arg);
	case IOCTL_BLK_SNAP_SNAPSHOT_COLLECT:
		return fake_collect(arg);
	case IOCTL_BLK_SNAP_SNAPSHOT_COLLECT_IMAGES:
		return fake_collect_images(arg);
	case IOCTL_BLK_SNAP_SNAPSHOT_WAIT_EVENT:
		return fake_wait_event(arg);
	case IOCTL_BLK_SNAP_SNAPSHOT_INFO:
		return fake_info(arg);
	default:
		errno = ENOTTY;
		return -1;
	}
}

int ioctl(int fd, unsigned long request, ...)
{
	int (*real)(int fd, unsigned long request, ...) =
		dlsym(RTLD_NEXT, "ioctl");
	va_list args;
	void *arg;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	if (fd >= FAKE_FD_MIN)
		return fake_ioctl(request, arg);
	return real(fd, request, arg);
}
