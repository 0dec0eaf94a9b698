// SPDX-License-Identifier: GPL-2.0
/*
 * Mounting what is on an image, or on a disk of a backup
 *
 * From below: the image, or an nbd device; a loop device, for a partition or so
 * that nothing is written; the mount.
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
#include "message.h"
#include "mount_table.h"
#include "mounting.h"
#include "nbd.h"
#include "progress.h"
#include "util.h"

/* "/dev/" and the name of a device. */
#define PATH_SIZE 48

#define SAFE_FLAGS (MS_NOSUID | MS_NODEV)

#define ON_SEVERAL_DEVICES \
	"'%s' is one device of a btrfs on several devices, which must not be mounted where its origin is; give it to a virtual machine"
#define WRITE_WARNING \
	"what is written to '%s' becomes part of the next increment"
#define LAST_WARNING \
	"'%s' is mounted with %s, so changes of the last moments before the take may be missing, and what was changed then may be damaged"

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

static void nbd_path(const char *name, char path[PATH_SIZE])
{
	snprintf(path, PATH_SIZE, "/dev/%.32s", name);
}

/* The socket is beside the record, where only root can get at it. */
static void server_of(const struct mount_record *record, char socket[PATH_MAX],
		      struct nbd_server *server)
{
	const int nr_chars = strrchr(record->path, '/') - record->path;

	snprintf(socket, PATH_MAX, "%.*s/%s.socket", nr_chars, record->path,
		 record->nbd);
	*server = (struct nbd_server) {
		.mark = record->path,
		.socket = socket,
	};
}

static void stop_server(const struct mount_record *record)
{
	struct nbd_server server;
	char socket[PATH_MAX];

	if (!record->nbd)
		return;
	server_of(record, socket, &server);
	nbd_stop(&server);
}

static int set_text(char **text, const char *value)
{
	free(*text);
	*text = strdup(value);
	return *text ? EXIT_OK : fail_memory();
}

/* The record says which nbd device before udev can see that it is in use. */
static int serve(struct mounting *mounting, const char *format,
		 const char *file)
{
	struct mount_record *record = &mounting->record;
	char name[NBD_NAME_SIZE], socket[PATH_MAX];
	struct nbd_server server;
	int ret;

	ret = nbd_find_free(name);
	if (!ret)
		ret = set_text(&record->nbd, name);
	if (!ret)
		ret = mount_record_save(record);
	if (ret)
		return ret;
	server_of(record, socket, &server);
	server.key = mounting->key;
	ret = nbd_serve(name, format, file, &server);
	if (ret) {
		stop_server(record);
		free(record->nbd);
		record->nbd = NULL;
	}
	return ret;
}

/* The path of what holds the disk. */
static void base_path(const struct mount_record *record, char path[PATH_SIZE])
{
	if (record->nbd)
		nbd_path(record->nbd, path);
	else
		snprintf(path, PATH_SIZE, "%s", record->source);
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
	char base[PATH_SIZE];

	detach(mounting);
	base_path(&mounting->record, base);
	if (!read_only && !content->partition)
		return set_text(&mounting->record.device, base);
	return loop_attach(base, content->offset_bytes, content->nr_bytes,
			   read_only, &mounting->record.device,
			   &mounting->loop_fd);
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
			    record->source, mounting->content.type);
	return fail(EXIT_FAILED,
		    "cannot mount the %s on '%s' at '%s': %s; the kernel log may say more",
		    mounting->content.type, record->source,
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
		return fail(EXIT_FAILED, ON_SEVERAL_DEVICES,
			    mounting->record.source);
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

	warn(WRITE_WARNING, mounting->record.source);
	ret = mount_changeable(mounting, 0, &error);
	return error ? fail_mount(mounting, error) : ret;
}

/* What is written goes to the overlay. */
static int mount_overlay(struct mounting *mounting)
{
	int ret = EXIT_OK;
	int error;

	detach(mounting);
	if (!mounting->record.nbd)
		ret = serve(mounting, "raw", mounting->image);
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
		warn(LAST_WARNING, mounting->record.source, options);
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

static int begin(struct mounting *mounting)
{
	char base[PATH_SIZE];
	int ret = EXIT_OK;

	if (mounting->layer)
		ret = serve(mounting, "qcow2", mounting->chain ?
			    mounting->chain : mounting->layer);
	else
		ret = mount_record_save(&mounting->record);
	if (ret)
		return ret;
	base_path(&mounting->record, base);
	ret = content_find(&mounting->content, base, mounting->record.source,
			   mounting->partition);
	if (ret)
		return ret;
	return mounting->writable ? mount_writable(mounting) :
				    mount_read_only(mounting);
}

/* Takes down what is below a mount that is not there. */
static void take_down(const struct mount_record *record)
{
	char base[PATH_SIZE];

	base_path(record, base);
	if (record->device)
		loop_wait_until_gone(record->device, base);
	stop_server(record);
	mount_record_remove(record);
}

/* Two readers of an image do not disturb each other. */
static int check_not_mounted(const struct mounting *mounting,
			     const struct mount_records *records)
{
	const struct mount_record *record;
	size_t i;
	int fd;

	for (i = 0; i < records->nr_records; i++) {
		record = &records->records[i];
		if (mounting_is_there(record) &&
		    !strcmp(record->source, mounting->image) &&
		    (record->writable || mounting->writable))
			return fail(EXIT_FAILED,
				    "'%s' is mounted at '%s', and one of the two mounts is writable; 'blksnap umount %s' comes first",
				    record->source, record->mount_point,
				    record->mount_point);
	}
	fd = open(mounting->image, O_RDONLY | O_EXCL | O_CLOEXEC);
	if (fd < 0)
		return errno == EBUSY ?
			fail(EXIT_FAILED,
			     "'%s' is in use: it is mounted, or part of another device; 'lsblk' shows of which",
			     mounting->image) :
			fail_errno(errno, "cannot open '%s'", mounting->image);
	close(fd);
	return EXIT_OK;
}

/* In another mount namespace, or because of another program. */
static bool is_in_use(const struct mount_record *record)
{
	char path[PATH_SIZE];
	bool is_busy;
	int fd;

	if (!record->nbd)
		return false;
	nbd_path(record->nbd, path);
	fd = open(path, O_RDONLY | O_EXCL | O_CLOEXEC);
	is_busy = fd < 0 && errno == EBUSY;
	if (fd >= 0)
		close(fd);
	return is_busy || loop_is_on(path);
}

static int check_mount_point(const struct mount_records *records,
			     const char *mount_point)
{
	const struct mount_record *record =
		mount_records_find(records, mount_point);
	char *source = mount_table_source(mount_point);

	if (!source && record && is_in_use(record))
		return fail(EXIT_FAILED,
			    "what was mounted at '%s' is in use elsewhere; choose another folder",
			    mount_point);
	if (!source)
		return EXIT_OK;
	fail(EXIT_FAILED,
	     "'%s' is in use: '%s' is mounted there; choose another folder",
	     mount_point, source);
	free(source);
	return EXIT_FAILED;
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
	int ret;

	mounting->loop_fd = -1;
	ret = check_mount_point(records, mount_point);
	if (!ret && mounting->image)
		ret = check_not_mounted(mounting, records);
	if (!ret)
		ret = mount_record_init(&mounting->record, mount_point,
					mounting->image ? mounting->image :
							  mounting->layer);
	if (ret)
		return ret;
	mounting->record.writable = mounting->writable;
	ret = begin(mounting);
	if (ret) {
		detach(mounting);
		take_down(&mounting->record);
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
	char *source = mount_table_source(record->mount_point);
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
	if (record->device) {
		char base[PATH_SIZE];

		base_path(record, base);
		loop_wait_until_gone(record->device, base);
	}
	if (is_in_use(record))
		return fail(EXIT_FAILED,
			    "'%s' is unmounted, but /dev/%s below it is in use; 'lsblk' shows by what, then try again",
			    place, record->nbd);
	take_down(record);
	return EXIT_OK;
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
		if (!mounting_is_there(record) && !is_in_use(record))
			take_down(record);
	}
}
