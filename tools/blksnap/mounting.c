// SPDX-License-Identifier: GPL-2.0
/*
 * Mounting what is on an image, or on a disk of a backup
 *
 * From below: the image, or an nbd device; what containers are opened to; a loop
 * device, for a partition or so that nothing is written; the mount.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "advice.h"
#include "child.h"
#include "loop.h"
#include "mapper.h"
#include "message.h"
#include "mount_table.h"
#include "mounting.h"
#include "nbd.h"
#include "opening.h"
#include "progress.h"
#include "util.h"

/* udev looks at a device when it goes, or another program has it open. */
#define GONE_MAX_MS 5000
#define GONE_QUIET_MS 500

#define SAFE_FLAGS (MS_NOSUID | MS_NODEV)

#define ON_SEVERAL_DEVICES \
	"'%s' is one device of a btrfs on several devices, which must not be mounted where its origin is; give it to a virtual machine"
#define WRITE_WARNING \
	"what is written to '%s' becomes part of the next increment"
#define LAST_WARNING \
	"'%s' is mounted with %s, so changes of the last moments before the take may be missing, and what was changed then may be damaged"

#define DAMAGED_WARNING \
	"'%s' is damaged, so it is not known where that mount is; 'blksnap umount' of its mount point removes it"

/* What a filesystem needs to be mounted beside its origin. */
struct kind {
	const char *type;
	const char *options;
	const char *last;	/* if its log cannot be replayed; NULL if none */
	bool renamed;		/* it needs another identifier */
};

static const struct kind kinds[] = {
	{ "ext3", "", "noload", false },
	{ "ext4", "", "noload", false },
	{ "xfs", "nouuid", "nouuid,norecovery", false },
	{ "btrfs", "", NULL, true },
};

static const struct kind *kind_of(const char *type)
{
	static const struct kind other = { "", "", NULL, false };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (!strcmp(kinds[i].type, type))
			return &kinds[i];
	}
	return &other;
}

static void nbd_path(const char *name, char path[MOUNTING_PATH_SIZE])
{
	snprintf(path, MOUNTING_PATH_SIZE, "/dev/%.32s", name);
}

/* The socket is beside the record, where only root can get at it. */
static void server_of(const struct mount_record *record, const char *name,
		      char socket[PATH_MAX], struct nbd_server *server)
{
	const int nr_chars = strrchr(record->path, '/') - record->path;

	snprintf(socket, PATH_MAX, "%.*s/%s.socket", nr_chars, record->path,
		 name);
	*server = (struct nbd_server) {
		.mark = record->path,
		.socket = socket,
	};
}

static void stop_servers(const struct mount_record *record)
{
	/* What a damaged record named is ended, too. */
	struct nbd_server server = { .mark = record->path };
	char socket[PATH_MAX];
	size_t i;

	nbd_stop(&server);
	for (i = 0; i < record->nr_disks; i++) {
		if (!record->disks[i].nbd)
			continue;
		server_of(record, record->disks[i].nbd, socket, &server);
		nbd_stop(&server);
	}
}

static int set_text(char **text, const char *value)
{
	free(*text);
	*text = strdup(value);
	return *text ? EXIT_OK : fail_memory();
}

/* The record says which nbd device before udev can see that it is in use. */
static int serve(struct mounting *mounting, size_t i)
{
	struct mount_record *record = &mounting->record;
	const struct mounting_file *file = &mounting->files[i];
	struct mount_disk *disk = &record->disks[i];
	char name[NBD_NAME_SIZE], socket[PATH_MAX];
	struct nbd_server server;
	int ret, fd;

	ret = nbd_find_free(name);
	if (!ret)
		ret = set_text(&disk->nbd, name);
	if (!ret)
		ret = mount_record_save(record);
	if (ret)
		return ret;
	server_of(record, name, socket, &server);
	server.key = mounting->key;
	ret = nbd_serve(name, mounting->is_backup ? "qcow2" : "raw",
			file->chain ? file->chain : file->path, &server, &fd);
	if (fd >= 0)
		opening_keep(mounting, fd);
	if (ret) {
		nbd_stop(&server);
		free(disk->nbd);
		disk->nbd = NULL;
	}
	return ret;
}

/* The path of what holds a disk. */
static void base_path(const struct mount_disk *disk,
		      char path[MOUNTING_PATH_SIZE])
{
	if (disk->nbd)
		nbd_path(disk->nbd, path);
	else
		snprintf(path, MOUNTING_PATH_SIZE, "%s", disk->source);
}

static int find_base(struct mounting *mounting)
{
	char path[MOUNTING_PATH_SIZE];

	base_path(&mounting->record.disks[0], path);
	return set_text(&mounting->base, path);
}

static void detach(struct mounting *mounting)
{
	if (mounting->loop_fd >= 0)
		close(mounting->loop_fd);
	mounting->loop_fd = -1;
	free(mounting->record.device);
	mounting->record.device = NULL;
}

static int attach(struct mounting *mounting, bool read_only)
{
	const struct content *content = &mounting->content;

	detach(mounting);
	if (!read_only && !content->partition)
		return set_text(&mounting->record.device, mounting->base);
	return loop_attach(mounting->base, content->offset_bytes,
			   content->nr_bytes, read_only,
			   &mounting->record.device, &mounting->loop_fd);
}

/* Returns EXIT_OK with an errno, or another exit code after a message. */
static int try_mount(struct mounting *mounting, unsigned long flags,
		     const char *options, int *error)
{
	const struct mount_record *record = &mounting->record;
	int ret = mount_record_save(record);

	*error = 0;
	if (!ret && interruption_signal())
		ret = fail(EXIT_FAILED, "interrupted by signal %d",
			   interruption_signal());
	if (!ret && mount(record->device, record->mount_point,
			  mounting->content.type, SAFE_FLAGS | flags, options))
		*error = errno;
	mounting->options = options;
	return ret;
}

static int fail_mount(const struct mounting *mounting, int error)
{
	const struct mount_record *record = &mounting->record;

	if (error == ENODEV)
		return fail(EXIT_FAILED,
			    "cannot mount '%s': the kernel does not know the filesystem %s",
			    mounting->name, mounting->content.type);
	return fail(EXIT_FAILED,
		    "cannot mount the %s on '%s' at '%s': %s; the kernel log may say more",
		    mounting->content.type, mounting->name,
		    record->mount_point, strerror(error));
}

/* The kernel knows a btrfs by its identifier, which the origin has, too. */
static int rename_btrfs(const struct mounting *mounting)
{
	const char *const argv[] = { "btrfstune", "-f", "-m",
				     mounting->record.device, NULL };
	struct child child;
	int ret, status;

	if (is_btrfs_on_several(mounting->record.device))
		return fail(EXIT_FAILED, ON_SEVERAL_DEVICES, mounting->name);
	ret = child_start(&child, argv, -1);
	if (!ret) {
		status = child_wait(&child);
		if (status)
			ret = child_fail(&child, status,
					 "cannot give the btrfs another identifier");
	}
	child_free(&child);
	return ret;
}

static int mount_changeable(struct mounting *mounting, unsigned long flags,
			    int *error)
{
	const struct kind *kind = kind_of(mounting->content.type);
	int ret = attach(mounting, false);

	*error = 0;
	if (!ret && kind->renamed)
		ret = rename_btrfs(mounting);
	if (!ret)
		ret = try_mount(mounting, flags, kind->options, error);
	return ret;
}

static int mount_writable(struct mounting *mounting)
{
	int error, ret;

	warn(WRITE_WARNING, mounting->name);
	ret = mount_changeable(mounting, 0, &error);
	return error ? fail_mount(mounting, error) : ret;
}

/* What is written from here on goes to overlays. */
static int serve_all(struct mounting *mounting)
{
	int ret = EXIT_OK;
	size_t i;

	for (i = 0; i < mounting->record.nr_disks && !ret; i++) {
		if (!mounting->record.disks[i].nbd)
			ret = serve(mounting, i);
	}
	return ret ? ret : find_base(mounting);
}

static int mount_overlay(struct mounting *mounting)
{
	int error, ret;

	detach(mounting);
	ret = serve_all(mounting);
	if (ret)
		return ret;
	ret = mount_changeable(mounting, MS_RDONLY, &error);
	return error ? fail_mount(mounting, error) : ret;
}

static int mount_as_it_is(struct mounting *mounting, const char *options,
			  int *error)
{
	int ret = attach(mounting, true);

	*error = 0;
	return ret ? ret : try_mount(mounting, MS_RDONLY, options, error);
}

static int mount_last(struct mounting *mounting, const char *options)
{
	int error;
	int ret = mount_as_it_is(mounting, options, &error);

	if (error)
		return fail_mount(mounting, error);
	if (!ret)
		warn(LAST_WARNING, mounting->name, options);
	return ret;
}

static int mount_read_only(struct mounting *mounting)
{
	const struct kind *kind = kind_of(mounting->content.type);
	int error = EROFS;
	int ret = EXIT_OK;

	if (!kind->renamed)
		ret = mount_as_it_is(mounting, kind->options, &error);
	if (ret || !error)
		return ret;
	/* It wants to write first. */
	if (error != EROFS)
		return fail_mount(mounting, error);
	ret = mount_overlay(mounting);
	if (ret && kind->last && !interruption_signal())
		ret = mount_last(mounting, kind->last);
	return ret;
}

/* What was named, but has no part in what is going to be mounted, is a mistake. */
static int check_all_is_used(const struct mounting *mounting)
{
	if (mounting->volume && !mounting->found_volume)
		return fail(EXIT_USAGE,
			    "'%s' has no volumes; leave --volume out",
			    mounting->name);
	if (mounting->nr_files > 1 && !mounting->found_volume)
		return fail(EXIT_USAGE,
			    "'%s' has all that is mounted; leave '%s' out",
			    mounting->name, mounting->files[1].path);
	return EXIT_OK;
}

/* Its log can be replayed at once, for what it lies on is an overlay. */
static int mount_contained(struct mounting *mounting)
{
	int error, ret;

	if (mounting->writable)
		return fail(EXIT_USAGE,
			    "'%s' holds %s, and what is in that is only mounted read-only; leave --writable out",
			    mounting->name, mounting->content.type);
	ret = serve_all(mounting);
	if (!ret)
		ret = opening_descend(mounting);
	if (!ret)
		ret = check_all_is_used(mounting);
	if (ret)
		return ret;
	ret = mount_changeable(mounting, MS_RDONLY, &error);
	return error ? fail_mount(mounting, error) : ret;
}

static int mount_content(struct mounting *mounting)
{
	int ret;

	if (!mounting->content.is_filesystem)
		return mount_contained(mounting);
	ret = check_all_is_used(mounting);
	if (ret)
		return ret;
	return mounting->writable ? mount_writable(mounting) :
				    mount_read_only(mounting);
}

/* Nobody is to use the partitions that the kernel has found on disks that are served. */
static void remove_partitions(const struct mount_record *record)
{
	size_t i;

	for (i = 0; i < record->nr_disks; i++)
		if (record->disks[i].nbd)
			nbd_remove_partitions(record->disks[i].nbd);
}

static int begin(struct mounting *mounting)
{
	int ret;

	ret = mounting->is_backup ? serve(mounting, 0) :
				    mount_record_save(&mounting->record);
	if (!ret)
		ret = set_text(&mounting->name,
			       mounting->record.disks[0].source);
	if (!ret)
		ret = find_base(mounting);
	if (!ret)
		ret = content_find(&mounting->content, mounting->base,
				   mounting->name, mounting->partition);
	if (!ret)
		ret = mount_content(mounting);
	if (!ret)
		remove_partitions(&mounting->record);
	return ret;
}

/* In another mount namespace, or because of another program. */
static bool is_in_use(const struct mount_record *record)
{
	char path[MOUNTING_PATH_SIZE];
	bool is_busy = false;
	size_t i;
	int fd;

	for (i = 0; i < record->nr_disks && !is_busy; i++) {
		if (!record->disks[i].nbd)
			continue;
		nbd_path(record->disks[i].nbd, path);
		fd = open(path, O_RDONLY | O_EXCL | O_CLOEXEC);
		is_busy = (fd < 0 && errno == EBUSY) || loop_is_on(path);
		if (fd >= 0)
			close(fd);
	}
	return is_busy;
}

/* All loop devices on an nbd device are those of the mount. */
static void wait_for_loops(const struct mount_record *record,
			   unsigned int max_ms)
{
	char base[MOUNTING_PATH_SIZE];
	size_t i;

	for (i = 0; i < record->nr_disks; i++) {
		base_path(&record->disks[i], base);
		if (record->disks[i].nbd)
			loop_wait_until_gone(NULL, base, max_ms);
		else if (record->device)
			loop_wait_until_gone(record->device, base,
					     max_ms);
	}
}

/*
 * Takes down what is below a mount that is not there.  What is in use stays, as
 * does the record; @is_quiet: without a message then.
 */
static int take_down(const struct mount_record *record, bool is_quiet)
{
	char prefix[MOUNT_PREFIX_SIZE];
	int ret;

	mount_record_prefix(record, prefix);
	ret = mapper_remove_all(prefix, is_quiet);
	if (ret)
		return ret;
	wait_for_loops(record, is_quiet ? GONE_QUIET_MS : GONE_MAX_MS);
	if (is_in_use(record))
		return is_quiet ? EXIT_FAILED :
			fail(EXIT_FAILED,
			     "'%s' is unmounted, but /dev/%s below it is in use; 'lsblk' shows by what, then try again",
			     record->mount_point, record->disks[0].nbd);
	stop_servers(record);
	mount_record_remove(record);
	return EXIT_OK;
}

static int check_is_not_written(const struct mounting *mounting,
				const struct mount_record *record,
				const char *image)
{
	size_t i;

	if (!record->writable && !mounting->writable)
		return EXIT_OK;
	for (i = 0; i < record->nr_disks; i++) {
		if (!strcmp(record->disks[i].source, image))
			return fail(EXIT_FAILED,
				    "'%s' is mounted at '%s', and one of the two mounts is writable; 'blksnap umount %s' comes first",
				    image, record->mount_point,
				    record->mount_point);
	}
	return EXIT_OK;
}

static int check_is_free(const char *image)
{
	int fd = open(image, O_RDONLY | O_EXCL | O_CLOEXEC);

	if (fd < 0)
		return errno == EBUSY ?
			fail(EXIT_FAILED,
			     "'%s' is in use: it is mounted, or part of another device; 'lsblk' shows of which",
			     image) :
			fail_errno(errno, "cannot open '%s'", image);
	close(fd);
	return EXIT_OK;
}

/* Two readers of an image do not disturb each other. */
static int check_not_mounted(const struct mounting *mounting,
			     const struct mount_records *records,
			     const char *image)
{
	const struct mount_record *record;
	int ret = EXIT_OK;
	size_t i;

	for (i = 0; i < records->nr_records && !ret; i++) {
		record = &records->records[i];
		if (mounting_is_there(record))
			ret = check_is_not_written(mounting, record, image);
	}
	return ret ? ret : check_is_free(image);
}

/* What is left of an earlier mount there may still be in use. */
static int check_mount_point(const struct mount_records *records,
			     const char *mount_point)
{
	const struct mount_record *record =
		mount_records_find(records, mount_point);
	char *source = mount_table_source(mount_point);

	if (source)
		fail(EXIT_FAILED,
		     "'%s' is in use: '%s' is mounted there; choose another folder",
		     mount_point, source);
	free(source);
	if (source)
		return EXIT_FAILED;
	return record && mount_record_exists(record) ?
		take_down(record, false) : EXIT_OK;
}

static int init_record(struct mounting *mounting, const char *mount_point)
{
	struct mount_record *record = &mounting->record;
	size_t i;
	int ret;

	ret = mount_record_init(record, mount_point);
	for (i = 0; i < mounting->nr_files && !ret; i++)
		ret = mount_record_add(record, mounting->files[i].path);
	record->writable = mounting->writable;
	return ret;
}

/**
 * mounting_begin() - mount
 * @mounting:	what to mount, and how; to be given to mounting_free() in any
 *		case
 * @records:	all records
 * @mount_point: absolute path of a folder, without symbolic links
 *
 * Return: EXIT_OK, or another exit code after a message; nothing is left then.
 */
int mounting_begin(struct mounting *mounting,
		   const struct mount_records *records,
		   const char *mount_point)
{
	size_t i;
	int ret;

	mounting->loop_fd = -1;
	ret = check_mount_point(records, mount_point);
	for (i = 0; i < mounting->nr_files && !mounting->is_backup && !ret; i++)
		ret = check_not_mounted(mounting, records,
					mounting->files[i].path);
	if (!ret)
		ret = init_record(mounting, mount_point);
	if (ret)
		return ret;
	ret = begin(mounting);
	if (ret) {
		detach(mounting);
		opening_close(mounting);
		take_down(&mounting->record, false);
	}
	return ret;
}

/**
 * mounting_free() - forget what was needed to mount
 * @mounting:	the mount, which stays
 */
void mounting_free(struct mounting *mounting)
{
	if (mounting->loop_fd >= 0)
		close(mounting->loop_fd);
	opening_close(mounting);
	free(mounting->base);
	free(mounting->name);
	free(mounting->found_volume);
	mounting->base = NULL;
	mounting->name = NULL;
	mounting->found_volume = NULL;
	mounting->found_partition = 0;
	mount_record_free(&mounting->record);
	content_free(&mounting->content);
}

/**
 * mounting_is_there() - is what a record names still mounted?
 * @record:	the record
 *
 * Return: true if it is the uppermost mount at its place.
 */
bool mounting_is_there(const struct mount_record *record)
{
	char *source = record->mount_point ?
		mount_table_source(record->mount_point) : NULL;
	bool is_there;

	is_there = source && record->device &&
		   !strcmp(source, record->device);
	free(source);
	return is_there;
}

/**
 * mounting_end() - unmount, and take down what was set up
 * @record:	the record of the mount; some of it may have gone already
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int mounting_end(const struct mount_record *record)
{
	const char *place = record->mount_point;

	if (mounting_is_there(record) && umount2(place, UMOUNT_NOFOLLOW)) {
		if (errno == EBUSY)
			return fail(EXIT_FAILED,
				    "'%s' is in use; 'fuser -vm %s' shows by which programs",
				    place, place);
		return fail_errno(errno, "cannot unmount '%s'", place);
	}
	return take_down(record, false);
}

/**
 * mounting_end_damaged() - take down what was set up for a mount at a place
 * @record:	the record of the mount, which is damaged
 * @place:	where it was mounted
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int mounting_end_damaged(const struct mount_record *record, const char *place)
{
	char *source = mount_table_source(place);

	free(source);
	if (source)
		return fail(EXIT_FAILED,
			    "'%s' is damaged, so what is mounted at '%s' is not known; 'umount %s' comes first, then try again",
			    record->path, place, place);
	return take_down(record, false);
}

/**
 * mounting_end_abandoned() - take down what is below mounts that are gone
 * @records:	all records; their lock is held, so none is being set up
 */
void mounting_end_abandoned(const struct mount_records *records)
{
	const struct mount_record *record;
	size_t i;

	for (i = 0; i < records->nr_records; i++) {
		record = &records->records[i];
		if (!record->mount_point)
			warn(DAMAGED_WARNING, record->path);
		else if (!mounting_is_there(record))
			take_down(record, true);
	}
}
