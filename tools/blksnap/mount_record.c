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

#define DEFAULT_DIR "/run/blksnap"

/* Mounts do not outlive a boot, nor does what is in /run. */
static const char *record_dir(void)
{
	const char *dir = getenv("BLKSNAP_RUN_DIR");

	return dir && *dir ? dir : DEFAULT_DIR;
}

static int make_dir(const char *dir)
{
	if (mkdir(dir, 0700) && errno != EEXIST)
		return fail_errno(errno, "cannot create '%s'", dir);
	return EXIT_OK;
}

static char *mounts_dir(void)
{
	char *dir;

	return asprintf(&dir, "%s/mounts", record_dir()) < 0 ? NULL : dir;
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

static int record_from_json(struct mount_record *record,
			    struct json_object *object)
{
	struct json_object *writable;
	int ret;

	writable = json_object_object_get(object, "writable");
	record->writable = json_object_get_boolean(writable);
	ret = copy_text(object, "mount_point", &record->mount_point);
	if (!ret)
		ret = copy_text(object, "source", &record->source);
	if (!ret)
		ret = copy_text(object, "device", &record->device);
	if (!ret)
		ret = copy_text(object, "nbd", &record->nbd);
	return ret;
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
	if (!ret && (!record->mount_point || !record->source))
		ret = fail(EXIT_FAILED,
			   "'%s' is no record of a mount; remove it",
			   record->path);
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
	ret = dir ? make_dir(record_dir()) : fail_memory();
	if (!ret)
		ret = make_dir(dir);
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

/**
 * mount_records_find() - find the record of a mount
 * @records:	the records
 * @mount_point: absolute path
 *
 * Return: the record, or NULL.
 */
struct mount_record *mount_records_find(const struct mount_records *records,
					const char *mount_point)
{
	size_t i;

	for (i = 0; i < records->nr_records; i++) {
		if (!strcmp(records->records[i].mount_point, mount_point))
			return &records->records[i];
	}
	return NULL;
}

/* A path may be longer than a name. */
static int name_record(struct mount_record *record)
{
	char name[CHECKSUM_TEXT_SIZE];
	struct checksum sum = { 0 };
	bool ok;

	checksum_begin(&sum);
	checksum_add(&sum, record->mount_point, strlen(record->mount_point));
	ok = checksum_end(&sum, name);
	checksum_free(&sum);
	if (!ok || asprintf(&record->path, "%s/mounts/%s.json", record_dir(),
			    name) < 0) {
		record->path = NULL;
		return fail_memory();
	}
	return EXIT_OK;
}

/**
 * mount_record_init() - begin a record
 * @record:	to be freed by mount_record_free() in any case
 * @mount_point: absolute path
 * @source:	what is going to be mounted
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int mount_record_init(struct mount_record *record, const char *mount_point,
		      const char *source)
{
	*record = (struct mount_record) {
		.mount_point = strdup(mount_point),
		.source = strdup(source),
	};
	if (!record->mount_point || !record->source)
		return fail_memory();
	return name_record(record);
}

static int write_record(const struct mount_record *record, const char *partial)
{
	struct json_object *object = json_object_new_object();
	int ret = EXIT_OK;

	add_text(object, "mount_point", record->mount_point);
	add_text(object, "source", record->source);
	add_text(object, "device", record->device);
	add_text(object, "nbd", record->nbd);
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
 * mount_record_free() - free what a record holds
 * @record:	the record
 */
void mount_record_free(struct mount_record *record)
{
	free(record->path);
	free(record->mount_point);
	free(record->source);
	free(record->device);
	free(record->nbd);
	*record = (struct mount_record) { 0 };
}
