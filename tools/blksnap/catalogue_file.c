// SPDX-License-Identifier: GPL-2.0
/*
 * The catalogue of the backups of one source: its folder and its file
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "catalogue.h"
#include "damage.h"
#include "message.h"
#include "output.h"
#include "util.h"

#define CATALOGUE_NAME "catalogue.json"
#define COPY_NAME "catalogue-copy.json"
#define CATALOGUE_VERSION 1
#define LOCK_NAME "lock"
#define NUMBER_DIGITS 6

/* Names that only we give.  Everything else in the folder is left alone. */
static const char *const own_names[] = {
	"*.[0-9][0-9][0-9][0-9][0-9][0-9].qcow2",
	"*.[0-9][0-9][0-9][0-9][0-9][0-9].*map",
	"*.[0-9][0-9][0-9][0-9][0-9][0-9].*.partial",
	"*.[0-9][0-9][0-9][0-9][0-9][0-9].qcow2" DAMAGE_SUFFIX,
	CATALOGUE_NAME ".partial",
	COPY_NAME ".partial",
};

enum field_type {
	FIELD_TEXT,
	FIELD_NAME,		/* of a file in the folder */
	FIELD_OPTIONAL_TEXT,
	FIELD_NUMBER,
	FIELD_OPTIONAL_NUMBER,	/* 0 if it is not there */
	FIELD_BOOL,
	FIELD_OPTIONAL_BOOL,	/* false if it is not there */
};

#define FIELD(name, kind) { #name, kind, offsetof(struct catalogue_disk, name) }

static const struct {
	const char *key;
	enum field_type type;
	size_t offset;
} fields[] = {
	FIELD(disk, FIELD_NAME),
	FIELD(file, FIELD_NAME),
	FIELD(map, FIELD_NAME),
	FIELD(map_sha256, FIELD_TEXT),
	FIELD(base, FIELD_NUMBER),
	FIELD(merging, FIELD_OPTIONAL_NUMBER),
	FIELD(reason, FIELD_OPTIONAL_TEXT),
	FIELD(device, FIELD_TEXT),
	FIELD(wwid, FIELD_OPTIONAL_TEXT),
	FIELD(serial, FIELD_OPTIONAL_TEXT),
	FIELD(partuuid, FIELD_OPTIONAL_TEXT),
	FIELD(ptuuid, FIELD_OPTIONAL_TEXT),
	FIELD(fs_uuid, FIELD_OPTIONAL_TEXT),
	FIELD(fs_uuid_sub, FIELD_OPTIONAL_TEXT),
	FIELD(fs_type, FIELD_OPTIONAL_TEXT),
	FIELD(capacity_bytes, FIELD_NUMBER),
	FIELD(block_bytes, FIELD_NUMBER),
	FIELD(generation, FIELD_TEXT),
	FIELD(snap_number, FIELD_NUMBER),
	FIELD(frozen, FIELD_BOOL),
	FIELD(encrypted, FIELD_OPTIONAL_BOOL),
	FIELD(used_only, FIELD_OPTIONAL_BOOL),
	FIELD(read_bytes, FIELD_NUMBER),
	FIELD(data_bytes, FIELD_NUMBER),
	FIELD(file_bytes, FIELD_NUMBER),
};

/**
 * catalogue_disk_to_json() - describe a layer
 * @disk:	the layer
 *
 * Return: a new object.
 */
struct json_object *catalogue_disk_to_json(const struct catalogue_disk *disk)
{
	struct json_object *object = json_object_new_object();
	const void *value;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(fields); i++) {
		value = (const char *)disk + fields[i].offset;
		if (fields[i].type == FIELD_OPTIONAL_NUMBER &&
		    !*(const uint64_t *)value)
			continue;
		if (fields[i].type == FIELD_NUMBER ||
		    fields[i].type == FIELD_OPTIONAL_NUMBER)
			add_number(object, fields[i].key,
				   *(const uint64_t *)value);
		else if (fields[i].type == FIELD_BOOL ||
			 fields[i].type == FIELD_OPTIONAL_BOOL)
			json_object_object_add(object, fields[i].key,
					       json_object_new_boolean(*(const bool *)value));
		else
			add_text(object, fields[i].key,
				 *(char *const *)value);
	}
	return object;
}

/**
 * catalogue_point_to_json() - describe a point
 * @point:	the point
 *
 * Return: a new object.
 */
struct json_object *catalogue_point_to_json(const struct catalogue_point *point)
{
	struct json_object *object = json_object_new_object();
	struct json_object *disks = json_object_new_array();
	size_t i;

	add_number(object, "point", point->number);
	add_number(object, "time", point->time);
	for (i = 0; i < point->nr_disks; i++)
		json_object_array_add(disks,
				      catalogue_disk_to_json(&point->disks[i]));
	json_object_object_add(object, "disks", disks);
	return object;
}

static bool get_number(struct json_object *object, const char *key,
		       uint64_t *number)
{
	struct json_object *value;

	if (!json_object_object_get_ex(object, key, &value) ||
	    !json_object_is_type(value, json_type_int))
		return false;
	*number = json_object_get_uint64(value);
	return true;
}

static bool get_text(struct json_object *object, const char *key,
		     enum field_type type, char **text)
{
	struct json_object *value = NULL;

	json_object_object_get_ex(object, key, &value);
	if (!value)
		return type == FIELD_OPTIONAL_TEXT;
	if (!json_object_is_type(value, json_type_string))
		return false;
	*text = strdup(json_object_get_string(value));
	/* A damaged catalogue must not lead to files elsewhere. */
	return *text && (type != FIELD_NAME ||
			 (**text && **text != '.' && !strchr(*text, '/')));
}

static bool get_field(struct json_object *object, size_t i,
		      struct catalogue_disk *disk)
{
	void *to = (char *)disk + fields[i].offset;
	struct json_object *value;

	if ((fields[i].type == FIELD_OPTIONAL_NUMBER ||
	     fields[i].type == FIELD_OPTIONAL_BOOL) &&
	    !json_object_object_get_ex(object, fields[i].key, NULL))
		return true;
	if (fields[i].type == FIELD_NUMBER ||
	    fields[i].type == FIELD_OPTIONAL_NUMBER)
		return get_number(object, fields[i].key, to);
	if (fields[i].type != FIELD_BOOL &&
	    fields[i].type != FIELD_OPTIONAL_BOOL)
		return get_text(object, fields[i].key, fields[i].type, to);
	if (!json_object_object_get_ex(object, fields[i].key, &value))
		return false;
	*(bool *)to = json_object_get_boolean(value);
	return json_object_is_type(value, json_type_boolean);
}

/* @disk is freed by the caller in any case. */
static bool parse_disk(const struct catalogue *catalogue,
		       struct json_object *object, struct catalogue_disk *disk)
{
	const struct catalogue_point *base;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(fields); i++) {
		if (!get_field(object, i, disk))
			return false;
	}
	if (!disk->base)
		return true;
	/* Points come in order, so a chain has an end. */
	base = catalogue_find_point(catalogue, disk->base);
	return base && catalogue_find_disk(base, disk->disk);
}

static bool parse_point(const struct catalogue *catalogue,
			struct json_object *object,
			struct catalogue_point *point)
{
	struct json_object *disks;
	size_t i, nr;

	if (!get_number(object, "point", &point->number) || !point->number ||
	    !get_number(object, "time", &point->time) ||
	    !json_object_object_get_ex(object, "disks", &disks) ||
	    !json_object_is_type(disks, json_type_array))
		return false;
	if (catalogue->nr_points &&
	    catalogue->points[catalogue->nr_points - 1].number >= point->number)
		return false;
	nr = json_object_array_length(disks);
	point->disks = calloc(nr ? nr : 1, sizeof(*point->disks));
	if (!point->disks)
		return false;
	point->nr_disks = nr;
	for (i = 0; i < nr; i++) {
		if (!parse_disk(catalogue, json_object_array_get_idx(disks, i),
				&point->disks[i]))
			return false;
	}
	return true;
}

static bool parse_catalogue(struct catalogue *catalogue,
			    struct json_object *object)
{
	struct catalogue_point point;
	struct json_object *points;
	uint64_t version;
	size_t i;

	if (!get_number(object, "blksnap_catalogue", &version) ||
	    version != CATALOGUE_VERSION ||
	    !get_number(object, "next_point", &catalogue->next_point) ||
	    !json_object_object_get_ex(object, "points", &points) ||
	    !json_object_is_type(points, json_type_array))
		return false;
	for (i = 0; i < json_object_array_length(points); i++) {
		point = (struct catalogue_point) { 0 };
		if (!parse_point(catalogue, json_object_array_get_idx(points, i),
				 &point) ||
		    catalogue_add_point(catalogue, &point)) {
			catalogue_forget_point(&point);
			return false;
		}
	}
	return true;
}

static bool is_own_name(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(own_names); i++) {
		if (!fnmatch(own_names[i], name, 0))
			return true;
	}
	return false;
}

/* Number of the point that a file of ours belongs to; 0 if it has none. */
static uint64_t find_number(const char *name)
{
	const char *c;

	for (c = name + strlen(name); c > name; c--) {
		if (*c == '.' && strspn(c + 1, "0123456789") == NUMBER_DIGITS &&
		    c[1 + NUMBER_DIGITS] == '.')
			return strtoull(c + 1, NULL, 10);
	}
	return 0;
}

static bool holds_layers(const char *dir)
{
	struct dirent *entry;
	bool found = false;
	DIR *stream = opendir(dir);

	while (stream && !found && (entry = readdir(stream)))
		found = is_own_name(entry->d_name) &&
			find_number(entry->d_name);
	if (stream)
		closedir(stream);
	return found;
}

static bool is_there(const struct catalogue *catalogue, const char *name)
{
	char *path = catalogue_path(catalogue, name);
	bool there = path && !access(path, F_OK);

	free(path);
	return there;
}

/* What to do if the catalogue is missing or damaged. */
static const char *copy_hint(const struct catalogue *catalogue)
{
	return is_there(catalogue, COPY_NAME) ?
		"copy " COPY_NAME " to its place" :
		"put a copy of it back";
}

static int load_missing(struct catalogue *catalogue,
			enum catalogue_access mode)
{
	if (mode != CATALOGUE_CREATE)
		return fail(EXIT_FAILED,
			    "'%s' holds no backup: there is no " CATALOGUE_NAME " in it",
			    catalogue->dir);
	/* Without the catalogue they would pass for leftovers. */
	if (holds_layers(catalogue->dir))
		return fail(EXIT_FAILED,
			    "'%s' holds layers of a backup, but no %s; %s, or back up to another folder",
			    catalogue->dir, CATALOGUE_NAME,
			    copy_hint(catalogue));
	catalogue->next_point = 1;
	return catalogue_save(catalogue);
}

static int load(struct catalogue *catalogue, enum catalogue_access mode)
{
	char *path = catalogue_path(catalogue, CATALOGUE_NAME);
	struct json_object *object;
	int ret = EXIT_OK;

	if (!path)
		return fail_memory();
	if (access(path, R_OK)) {
		ret = errno == ENOENT ?
			      load_missing(catalogue, mode) :
			      fail_errno(errno, "cannot open '%s'", path);
		free(path);
		return ret;
	}
	object = json_object_from_file(path);
	if (!object || !parse_catalogue(catalogue, object))
		ret = fail(EXIT_FAILED,
			   "'%s' is damaged, or a newer version of blksnap has written it; %s",
			   path, copy_hint(catalogue));
	json_object_put(object);
	free(path);
	return ret;
}

static int sync_folder(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int ret = EXIT_OK;

	if (fd < 0 || fsync(fd))
		ret = fail_errno(errno, "cannot write '%s' to the disk", dir);
	if (fd >= 0)
		close(fd);
	return ret;
}

/* Written beside its place, brought to the disk, and renamed. */
static int replace_file(const struct catalogue *catalogue, const char *name,
			const char *text)
{
	char *path = catalogue_path(catalogue, name);
	int ret = EXIT_OK;
	FILE *file = NULL;
	char *partial;
	bool ok;

	if (!path || asprintf(&partial, "%s.partial", path) < 0)
		partial = NULL;
	else
		file = fopen(partial, "we");
	if (!file) {
		ret = fail_errno(errno, "cannot write in '%s'", catalogue->dir);
	} else {
		ok = fputs(text, file) >= 0 && putc('\n', file) != EOF &&
		     !fflush(file) && !fsync(fileno(file));
		if (fclose(file) || !ok || rename(partial, path)) {
			ret = fail_errno(errno, "cannot write '%s'", path);
			unlink(partial);
		}
	}
	free(path);
	free(partial);
	return ret ? ret : catalogue_sync(catalogue);
}

/**
 * catalogue_save() - make what is in memory the state of the backup
 * @catalogue:	the catalogue; all files that it names are on the disk
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int catalogue_save(struct catalogue *catalogue)
{
	struct json_object *object = json_object_new_object();
	struct json_object *points = json_object_new_array();
	const char *text;
	size_t i;
	int ret;

	add_number(object, "blksnap_catalogue", CATALOGUE_VERSION);
	add_text(object, "source", catalogue->source);
	add_number(object, "next_point", catalogue->next_point);
	for (i = 0; i < catalogue->nr_points; i++)
		json_object_array_add(points,
				      catalogue_point_to_json(&catalogue->points[i]));
	json_object_object_add(object, "points", points);
	text = json_object_to_json_string_ext(object,
					      JSON_C_TO_STRING_PRETTY |
					      JSON_C_TO_STRING_NOSLASHESCAPE);
	ret = replace_file(catalogue, CATALOGUE_NAME, text);
	/* Never newer than the catalogue: check_age() relies on that. */
	if (!ret)
		ret = replace_file(catalogue, COPY_NAME, text);
	json_object_put(object);
	return ret;
}

/**
 * catalogue_sync() - bring the names in the folder to the disk
 * @catalogue:	the catalogue
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int catalogue_sync(const struct catalogue *catalogue)
{
	return sync_folder(catalogue->dir);
}

/* Or a mark of a file that is named. */
static bool is_file(const char *file, const char *name)
{
	const size_t length = strlen(file);

	return !strncmp(file, name, length) &&
	       (!name[length] || !strcmp(name + length, DAMAGE_SUFFIX));
}

static bool is_named(const struct catalogue *catalogue, const char *name)
{
	const struct catalogue_disk *disk;
	size_t i, j;

	for (i = 0; i < catalogue->nr_points; i++) {
		for (j = 0; j < catalogue->points[i].nr_disks; j++) {
			disk = &catalogue->points[i].disks[j];
			if (is_file(disk->file, name) ||
			    !strcmp(disk->map, name))
				return true;
		}
	}
	return false;
}

/**
 * catalogue_remove_leftovers() - remove what the catalogue does not name
 * @catalogue:	the catalogue, locked for writing
 * @quiet:	say nothing of it
 */
void catalogue_remove_leftovers(const struct catalogue *catalogue, bool quiet)
{
	struct dirent *entry;
	DIR *stream = opendir(catalogue->dir);

	while (stream && (entry = readdir(stream))) {
		if (!is_own_name(entry->d_name) ||
		    is_named(catalogue, entry->d_name))
			continue;
		if (!unlinkat(dirfd(stream), entry->d_name, 0) && !quiet)
			fprintf(stderr,
				"removed '%s/%s', which belongs to no point\n",
				catalogue->dir, entry->d_name);
	}
	if (stream)
		closedir(stream);
}

static bool lacks_files(const struct catalogue *catalogue)
{
	const struct catalogue_disk *disk;
	size_t i, j;

	for (i = 0; i < catalogue->nr_points; i++) {
		for (j = 0; j < catalogue->points[i].nr_disks; j++) {
			disk = &catalogue->points[i].disks[j];
			if (!is_there(catalogue, disk->file) ||
			    !is_there(catalogue, disk->map))
				return true;
		}
	}
	return false;
}

/*
 * An interrupted run leaves files of the next point or of a merge, layers that it
 * has dropped from the catalogue, and all files that the catalogue names.  What
 * is left otherwise was made with a newer catalogue.
 */
static bool is_newer(const struct catalogue *catalogue, const char *name,
		     bool files_lack)
{
	if (!is_own_name(name) || is_named(catalogue, name))
		return false;
	return find_number(name) > catalogue->next_point ||
	       (files_lack && find_number(name) &&
		fnmatch("*.partial", name, 0));
}

static int check_files(const struct catalogue *catalogue)
{
	const bool files_lack = lacks_files(catalogue);
	DIR *stream = opendir(catalogue->dir);
	struct dirent *entry;
	int ret = EXIT_OK;

	while (stream && !ret && (entry = readdir(stream))) {
		if (is_newer(catalogue, entry->d_name, files_lack))
			ret = fail(EXIT_FAILED,
				   "'%s/%s' is older than the layers beside it: it does not know '%s', which would be removed; put a newer copy of it in its place, or move what it does not know to another folder",
				   catalogue->dir, CATALOGUE_NAME,
				   entry->d_name);
	}
	if (stream)
		closedir(stream);
	return ret;
}

/*
 * An older catalogue that was put back does not know the newest layers, which
 * would be taken for leftovers.
 */
static int check_age(const struct catalogue *catalogue)
{
	char *path = catalogue_path(catalogue, COPY_NAME);
	struct json_object *copy;
	uint64_t next_point = 0;

	if (!path)
		return fail_memory();
	copy = access(path, R_OK) ? NULL : json_object_from_file(path);
	get_number(copy, "next_point", &next_point);
	json_object_put(copy);
	free(path);
	if (next_point > catalogue->next_point)
		return fail(EXIT_FAILED,
			    "'%s/%s' is older than %s beside it; copy that to its place",
			    catalogue->dir, CATALOGUE_NAME, COPY_NAME);
	return check_files(catalogue);
}

static int lock_folder(struct catalogue *catalogue, enum catalogue_access mode)
{
	char *path = catalogue_path(catalogue, LOCK_NAME);
	const bool writes = mode >= CATALOGUE_WRITE;

	if (!path)
		return fail_memory();
	catalogue->lock_fd = open(path, writes ? O_RDWR | O_CREAT | O_CLOEXEC :
						 O_RDONLY | O_CLOEXEC, 0600);
	free(path);
	/* A copy of a backup may be without it, and may be read-only. */
	if (catalogue->lock_fd < 0)
		return writes ? fail_errno(errno, "cannot write in '%s'",
					   catalogue->dir) : EXIT_OK;
	if (!flock(catalogue->lock_fd, (writes ? LOCK_EX : LOCK_SH) | LOCK_NB))
		return EXIT_OK;
	if (errno == EWOULDBLOCK)
		return fail(EXIT_FAILED,
			    "'%s' is in use by another run of blksnap; try again when that has ended",
			    catalogue->dir);
	return fail_errno(errno, "cannot lock '%s'", catalogue->dir);
}

static bool has_catalogue(const char *dir)
{
	bool has = false;
	char *path;

	if (asprintf(&path, "%s/" CATALOGUE_NAME, dir) >= 0) {
		has = !access(path, F_OK);
		free(path);
	}
	return has;
}

static int fail_sources(const char *dir, unsigned int nr_sources)
{
	if (nr_sources)
		return fail(EXIT_USAGE,
			    "'%s' holds backups of several machines; choose one of its folders with --source-name",
			    dir);
	if (has_catalogue(dir))
		return fail(EXIT_FAILED,
			    "'%s' is the folder of one machine; name the folder that it is in",
			    dir);
	return fail(EXIT_FAILED, "'%s' holds no backup", dir);
}

/* The source, if there is only one below @dir. */
static int find_source(const char *dir, char **source)
{
	unsigned int nr_sources = 0;
	struct dirent *entry;
	DIR *stream = opendir(dir);
	char *path;

	if (!stream)
		return fail_errno(errno, "cannot open '%s'", dir);
	while ((entry = readdir(stream))) {
		if (entry->d_name[0] == '.' ||
		    asprintf(&path, "%s/%s/" CATALOGUE_NAME, dir,
			     entry->d_name) < 0)
			continue;
		if (!access(path, F_OK) && !nr_sources++)
			*source = strdup(entry->d_name);
		free(path);
	}
	closedir(stream);
	if (nr_sources != 1)
		return fail_sources(dir, nr_sources);
	return *source ? EXIT_OK : fail_memory();
}

static int make_folder(const char *path, const char *parent)
{
	if (!mkdir(path, 0700))
		return sync_folder(parent);
	if (errno == ENOENT)
		return fail(EXIT_FAILED,
			    "'%s' is not there; mount the disk that it is on, or create it with 'mkdir'",
			    parent);
	return errno == EEXIST ? EXIT_OK :
				 fail_errno(errno, "cannot create '%s'", path);
}

static int find_folder(struct catalogue *catalogue, const char *dir,
		       const char *source, enum catalogue_access mode)
{
	char *path = NULL;
	int ret = EXIT_OK;

	if (!source)
		ret = find_source(dir, &catalogue->source);
	else
		catalogue->source = strdup(source);
	if (ret)
		return ret;
	if (!catalogue->source ||
	    asprintf(&path, "%s/%s", dir, catalogue->source) < 0)
		return fail_memory();
	if (mode == CATALOGUE_CREATE)
		ret = make_folder(path, dir);
	if (!ret) {
		catalogue->dir = realpath(path, NULL);
		if (!catalogue->dir)
			ret = fail_errno(errno, "cannot open '%s'", path);
	}
	free(path);
	return ret;
}

/**
 * catalogue_open() - find, lock and load a catalogue
 * @catalogue:	gets it; to be closed by catalogue_close() in any case
 * @dir:	folder of all backups
 * @source:	name of the source; NULL for the only one that there is
 * @mode:	what for
 *
 * Return: EXIT_OK, or another exit code after a message.
 */
int catalogue_open(struct catalogue *catalogue, const char *dir,
		   const char *source, enum catalogue_access mode)
{
	int ret;

	*catalogue = (struct catalogue) { .lock_fd = -1 };
	if (source && (!*source || *source == '.' || strchr(source, '/')))
		return fail(EXIT_USAGE,
			    "--source-name '%s': must be a name without '/' that does not begin with '.'",
			    source);
	ret = find_folder(catalogue, dir, source, mode);
	if (!ret && mode != CATALOGUE_LOOK)
		ret = lock_folder(catalogue, mode);
	if (!ret)
		ret = load(catalogue, mode);
	if (!ret && mode >= CATALOGUE_WRITE)
		ret = check_age(catalogue);
	return ret;
}

/**
 * catalogue_close() - forget a catalogue and release its lock
 * @catalogue:	the catalogue
 */
void catalogue_close(struct catalogue *catalogue)
{
	size_t i;

	for (i = 0; i < catalogue->nr_points; i++)
		catalogue_forget_point(&catalogue->points[i]);
	free(catalogue->points);
	free(catalogue->source);
	free(catalogue->dir);
	if (catalogue->lock_fd >= 0)
		close(catalogue->lock_fd);
	*catalogue = (struct catalogue) { .lock_fd = -1 };
}
