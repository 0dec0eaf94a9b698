// SPDX-License-Identifier: GPL-2.0
/*
 * Records of what is mounted
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <json.h>

#include "checksum.h"
#include "message.h"
#include "mount_record.h"
#include "output.h"
#include "run_dir.h"

static char *mounts_dir(void)
{
	char *dir;

	return asprintf(&dir, "%s/mounts", run_dir()) < 0 ? NULL : dir;
}

static int lock(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX)) {
		close(fd);
		return -errno;
	}
	return fd;
}

static int copy_text(struct json_object *object, const char *key, char **text)
{
	const char *value =
		json_object_get_string(json_object_object_get(object, key));

	*text = value ? strdup(value) : NULL;
	return value && !*text ? fail_memory() : EXIT_OK;
}

static struct mount_disk *add_disk(struct mount_record *record)
{
	struct mount_disk *more = realloc(record->disks,
					  (record->nr_disks + 1) *
					  sizeof(*more));

	if (!more)
		return NULL;
	record->disks = more;
	more += record->nr_disks++;
	*more = (struct mount_disk) { 0 };
	return more;
}

static int disks_from_json(struct mount_record *record,
			   struct json_object *array)
{
	struct json_object *object;
	struct mount_disk *disk;
	int ret = EXIT_OK;
	size_t i;

	if (!json_object_is_type(array, json_type_array))
		return EXIT_OK;
	for (i = 0; i < json_object_array_length(array) && !ret; i++) {
		object = json_object_array_get_idx(array, i);
		disk = add_disk(record);
		ret = disk ? copy_text(object, "source", &disk->source) :
			     fail_memory();
		if (!ret)
			ret = copy_text(object, "nbd", &disk->nbd);
	}
	return ret;
}

static int record_from_json(struct mount_record *record,
			    struct json_object *object)
{
	struct json_object *writable;
	int ret;

	writable = json_object_object_get(object, "writable");
	record->writable = json_object_get_boolean(writable);
	ret = copy_text(object, "mount_point", &record->mount_point);
	if (!ret)
		ret = copy_text(object, "device", &record->device);
	if (!ret)
		ret = disks_from_json(record,
				      json_object_object_get(object, "disks"));
	return ret;
}

/* A record of which something is missing is taken for one of nothing. */
static void check_record(struct mount_record *record)
{
	bool is_whole = record->mount_point && record->nr_disks;
	size_t i;

	for (i = 0; i < record->nr_disks; i++)
		is_whole = is_whole && record->disks[i].source;
	if (is_whole)
		return;
	free(record->mount_point);
	record->mount_point = NULL;
}

static int load_record(struct mount_record *record, const char *dir,
		       const char *name)
{
	struct json_object *object;
	int ret;

	if (asprintf(&record->path, "%s/%s", dir, name) < 0) {
		record->path = NULL;
		return fail_memory();
	}
	object = json_object_from_file(record->path);
	ret = record_from_json(record, object);
	json_object_put(object);
	check_record(record);
	return ret;
}

static int load_all(struct mount_records *records, const char *dir)
{
	struct mount_record *more;
	struct dirent *entry;
	DIR *stream = opendir(dir);
	int ret = EXIT_OK;

	if (!stream)
		return fail_errno(errno, "cannot open '%s'", dir);
	while (!ret && (entry = readdir(stream))) {
		if (fnmatch("*.json", entry->d_name, FNM_PERIOD))
			continue;
		more = realloc(records->records, (records->nr_records + 1) *
						 sizeof(*more));
		if (!more) {
			ret = fail_memory();
			break;
		}
		records->records = more;
		more += records->nr_records++;
		*more = (struct mount_record) { 0 };
		ret = load_record(more, dir, entry->d_name);
	}
	closedir(stream);
	return ret;
}

/**
 * mount_records_open() - take the lock, and read what is recorded
 * @records:	to be given to mount_records_close() in any case
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int mount_records_open(struct mount_records *records)
{
	char *dir = mounts_dir();
	int ret;

	*records = (struct mount_records) { .lock_fd = -1 };
	ret = dir ? run_dir_make(run_dir()) : fail_memory();
	if (!ret)
		ret = run_dir_make(dir);
	if (!ret) {
		records->lock_fd = lock(dir);
		ret = records->lock_fd < 0 ?
			fail_errno(-records->lock_fd, "cannot lock '%s'", dir) :
			load_all(records, dir);
	}
	free(dir);
	return ret;
}

/**
 * mount_records_close() - release the lock
 * @records:	the records
 */
void mount_records_close(struct mount_records *records)
{
	size_t i;

	for (i = 0; i < records->nr_records; i++)
		mount_record_free(&records->records[i]);
	free(records->records);
	if (records->lock_fd >= 0)
		close(records->lock_fd);
}

/* A path may be longer than a name. */
static char *path_of_record(const char *mount_point)
{
	char name[CHECKSUM_TEXT_SIZE];
	struct checksum sum = { 0 };
	char *path = NULL;
	bool ok;

	checksum_begin(&sum);
	checksum_add(&sum, mount_point, strlen(mount_point));
	ok = checksum_end(&sum, name);
	checksum_free(&sum);
	if (!ok || asprintf(&path, "%s/mounts/%s.json", run_dir(),
			    name) < 0)
		return NULL;
	return path;
}

/**
 * mount_records_find() - find the record of a mount
 * @records:	the records
 * @mount_point: absolute path
 *
 * Return: the record, which may be damaged, or NULL.
 */
struct mount_record *mount_records_find(const struct mount_records *records,
					const char *mount_point)
{
	char *path = path_of_record(mount_point);
	struct mount_record *found = NULL;
	struct mount_record *record;
	size_t i;

	for (i = 0; i < records->nr_records && !found; i++) {
		record = &records->records[i];
		if (record->mount_point ?
		    !strcmp(record->mount_point, mount_point) :
		    path && !strcmp(record->path, path))
			found = record;
	}
	free(path);
	return found;
}

/**
 * mount_record_init() - begin a record
 * @record:	to be freed by mount_record_free() in any case
 * @mount_point: absolute path
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int mount_record_init(struct mount_record *record, const char *mount_point)
{
	*record = (struct mount_record) {
		.mount_point = strdup(mount_point),
		.path = path_of_record(mount_point),
	};
	return record->mount_point && record->path ? EXIT_OK : fail_memory();
}

/**
 * mount_record_add() - add a disk to a record
 * @record:	the record
 * @source:	image, or file of a layer
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int mount_record_add(struct mount_record *record, const char *source)
{
	struct mount_disk *disk = add_disk(record);

	if (disk)
		disk->source = strdup(source);
	return disk && disk->source ? EXIT_OK : fail_memory();
}

static struct json_object *disks_to_json(const struct mount_record *record)
{
	struct json_object *array = json_object_new_array();
	struct json_object *object;
	size_t i;

	for (i = 0; i < record->nr_disks; i++) {
		object = json_object_new_object();
		add_text(object, "source", record->disks[i].source);
		add_text(object, "nbd", record->disks[i].nbd);
		json_object_array_add(array, object);
	}
	return array;
}

static int write_record(const struct mount_record *record, const char *partial)
{
	struct json_object *object = json_object_new_object();
	int ret = EXIT_OK;

	add_text(object, "mount_point", record->mount_point);
	json_object_object_add(object, "disks", disks_to_json(record));
	add_text(object, "device", record->device);
	json_object_object_add(object, "writable",
			       json_object_new_boolean(record->writable));
	if (json_object_to_file_ext(partial, object,
				    JSON_C_TO_STRING_PRETTY |
				    JSON_C_TO_STRING_NOSLASHESCAPE) ||
	    rename(partial, record->path))
		ret = fail_errno(errno, "cannot write '%s'", record->path);
	json_object_put(object);
	return ret;
}

/**
 * mount_record_save() - write a record
 * @record:	the record
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int mount_record_save(const struct mount_record *record)
{
	char *partial;
	int ret;

	if (asprintf(&partial, "%s.partial", record->path) < 0)
		return fail_memory();
	ret = write_record(record, partial);
	if (ret)
		unlink(partial);
	free(partial);
	return ret;
}

/**
 * mount_record_remove() - remove a record when what it names is gone
 * @record:	the record
 */
void mount_record_remove(const struct mount_record *record)
{
	unlink(record->path);
}

/**
 * mount_record_exists() - has a record not been removed?
 * @record:	the record
 *
 * Return: true if it is there.
 */
bool mount_record_exists(const struct mount_record *record)
{
	return !access(record->path, F_OK);
}

/**
 * mount_record_prefix() - what device-mapper devices of a mount are named by
 * @record:	the record
 * @prefix:	gets what their names begin with; no other mount has it
 */
void mount_record_prefix(const struct mount_record *record,
			 char prefix[MOUNT_PREFIX_SIZE])
{
	snprintf(prefix, MOUNT_PREFIX_SIZE, "blksnap_%.12s",
		 strrchr(record->path, '/') + 1);
}

/**
 * mount_record_free() - free what a record holds
 * @record:	the record
 */
void mount_record_free(struct mount_record *record)
{
	size_t i;

	for (i = 0; i < record->nr_disks; i++) {
		free(record->disks[i].source);
		free(record->disks[i].nbd);
	}
	free(record->disks);
	free(record->path);
	free(record->mount_point);
	free(record->device);
	*record = (struct mount_record) { 0 };
}
