// SPDX-License-Identifier: GPL-2.0
/*
 * What snapshots and trackers are doing
 *
 * The calls tell what there is.  What there is of each is looked up elsewhere, and
 * may have gone by then.  A file in debugfs has a line for each object, of words
 * NAME=VALUE.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <blksnap/blksnap.h>

#include "commands.h"
#include "device.h"
#include "holder.h"
#include "message.h"
#include "output.h"
#include "parse.h"
#include "status.h"
#include "util.h"

/**
 * status_has_debugfs() - can the module's files in debugfs be read?
 *
 * Return: true if they can.
 */
bool status_has_debugfs(void)
{
	return !access(STATUS_DEBUGFS "/trackers", R_OK);
}

/*
 * debugfs
 */

/* All of a file, to be freed; NULL if there is none. */
static char *read_debugfs(const char *name)
{
	char path[sizeof(STATUS_DEBUGFS) + 16];
	char *text = NULL;
	size_t size = 0;
	FILE *file;

	snprintf(path, sizeof(path), STATUS_DEBUGFS "/%s", name);
	file = fopen(path, "re");
	if (!file)
		return NULL;
	if (getdelim(&text, &size, 0, file) < 0) {
		free(text);
		text = NULL;
	}
	fclose(file);
	return text;
}

/* The line that begins with @word; NULL if there is none. */
static const char *find_line(const char *text, const char *word)
{
	size_t length = strlen(word);

	while (text && (strncmp(text, word, length) || text[length] != ' ')) {
		text = strchr(text, '\n');
		text += !!text;
	}
	return text;
}

/* Where the value of @name begins in a line; NULL if it is not there. */
static const char *find_value(const char *line, const char *name)
{
	size_t length = strlen(name);

	while (line && *line && *line != '\n') {
		if (!strncmp(line, name, length) && line[length] == '=')
			return line + length + 1;
		line += strcspn(line, "\n ");
		line += *line == ' ';
	}
	return NULL;
}

static bool find_number(const char *line, const char *name, uint64_t *number)
{
	const char *value = find_value(line, name);
	char text[24];

	if (!value)
		return false;
	snprintf(text, sizeof(text), "%.*s", (int)strcspn(value, "\n "), value);
	return parse_u64(text, UINT64_MAX, number);
}

static void add_found_word(struct json_object *row, const char *key,
			   const char *line)
{
	const char *value = find_value(line, key);
	char text[32];

	if (!value)
		return;
	snprintf(text, sizeof(text), "%.*s", (int)strcspn(value, "\n "), value);
	add_text(row, key, text);
}

/*
 * Images
 */

/* An attribute of an image, "/dev/blksnap-image0" say. */
static bool read_attribute(const char *image, const char *name, char *line,
			   int size)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/block/%s/blksnap/%s",
		 strrchr(image, '/') + 1, name);
	return sysfs_read_line(path, line, size);
}

static bool read_number(const char *image, const char *name, uint64_t *number)
{
	char line[32];

	return read_attribute(image, name, line, sizeof(line)) &&
	       parse_u64(line, UINT64_MAX, number);
}

/* The name may have gone over to an image of another snapshot. */
static bool image_is_of(const char *image, const char *id)
{
	char line[BLKSNAP_UUID_TEXT_SIZE + 1];

	return read_attribute(image, "snapshot", line, sizeof(line)) &&
	       !strcmp(line, id);
}

static void add_flags(struct json_object *row, const char *image)
{
	uint64_t number;

	if (read_number(image, "filesystem_frozen", &number))
		json_object_object_add(row, "filesystem_frozen",
				       json_object_new_boolean(number));
	if (!read_number(image, "error", &number))
		return;
	add_number(row, "errno", number);
	add_text(row, "error", number ? strerrorname_np(number) : NULL);
}

static void add_image_status(struct json_object *row, const char *id)
{
	static const char *const numbers[] = {
		"copied_bytes", "stored_bytes", "memory_bytes", "held_writes",
		"held_writes_total", "held_ns_total",
	};
	const char *image = json_object_get_string(json_object_object_get(row, "image"));
	uint64_t number;
	size_t i;

	if (!image_is_of(image, id))
		return;
	for (i = 0; i < ARRAY_SIZE(numbers); i++) {
		if (read_number(image, numbers[i], &number))
			add_number(row, numbers[i], number);
	}
	add_flags(row, image);
}

/*
 * Snapshots
 */

struct storage_figures {
	uint64_t size_bytes;
	uint64_t free_bytes;
	uint64_t fill_bytes_per_second;
	bool has_size;
	bool has_rate;
};

/* Any image tells it, but there is none before the take. */
static void read_storage_of_image(struct json_object *images, const char *id,
				  struct storage_figures *storage)
{
	struct json_object *row = json_object_array_get_idx(images, 0);
	const char *image;

	if (!row)
		return;
	image = json_object_get_string(json_object_object_get(row, "image"));
	/* The free space first: storage may be appended in between, but not taken away. */
	storage->has_size = image_is_of(image, id) &&
			    read_number(image, "storage_free_bytes", &storage->free_bytes) &&
			    read_number(image, "storage_bytes", &storage->size_bytes);
}

static void read_storage(struct json_object *images, const char *id,
			 const char *debugfs, struct storage_figures *storage)
{
	char word[BLKSNAP_UUID_TEXT_SIZE + 4];
	const char *line;

	snprintf(word, sizeof(word), "id=%s", id);
	line = find_line(debugfs, word);
	storage->has_size = find_number(line, "storage_bytes", &storage->size_bytes) &&
			    find_number(line, "storage_free_bytes", &storage->free_bytes);
	storage->has_rate = find_number(line, "fill_bytes_per_second",
					&storage->fill_bytes_per_second);
	if (!storage->has_size)
		read_storage_of_image(images, id, storage);
}

/* When the storage will be full, if it goes on like this. */
static void add_fill_rate(struct json_object *row,
			  const struct storage_figures *storage, bool with_cells)
{
	uint64_t rate = storage->fill_bytes_per_second;
	char text[AGE_TEXT_SIZE];

	add_number(row, "fill_bytes_per_second", rate);
	if (!rate || !storage->has_size)
		return;
	add_number(row, "full_in_seconds", storage->free_bytes / rate);
	if (!with_cells)
		return;
	format_age(storage->free_bytes / rate * 1000, text);
	add_text(row, "full_in_cell", text);
}

static void add_storage(struct json_object *row, const char *debugfs,
			bool with_cells)
{
	const char *id = json_object_get_string(json_object_object_get(row, "id"));
	struct json_object *images = json_object_object_get(row, "images");
	struct storage_figures storage = { 0 };
	char text[8];
	uint64_t used;

	read_storage(images, id, debugfs, &storage);
	if (storage.has_size) {
		used = storage.size_bytes - storage.free_bytes;
		add_number(row, "storage_bytes", storage.size_bytes);
		add_number(row, "storage_used_bytes", used);
		add_number(row, "storage_free_bytes", storage.free_bytes);
	}
	if (storage.has_size && storage.size_bytes && with_cells) {
		/* Rounded down, so that only a full one has 100 %. */
		snprintf(text, sizeof(text), "%u%%",
			 (unsigned int)(100.0 * used / storage.size_bytes));
		add_text(row, "used_cell", text);
	}
	if (storage.has_rate)
		add_fill_rate(row, &storage, with_cells);
}

static void add_images_status(struct json_object *row)
{
	const char *id = json_object_get_string(json_object_object_get(row, "id"));
	struct json_object *images = json_object_object_get(row, "images");
	size_t i;

	for (i = 0; i < json_object_array_length(images); i++)
		add_image_status(json_object_array_get_idx(images, i), id);
}

static int read_snapshots(struct blksnap *blksnap, bool with_cells,
			  struct json_object *rows)
{
	struct blk_snap_uuid *ids;
	struct json_object *row;
	unsigned int nr_ids, i;
	char *debugfs;
	int ret;

	ret = blksnap_snapshot_collect(blksnap, &ids, &nr_ids);
	if (ret)
		return fail_call("cannot list the snapshots");
	debugfs = read_debugfs("snapshots");
	for (i = 0; i < nr_ids; i++) {
		row = snapshot_to_json(blksnap, &ids[i], with_cells);
		if (!row)
			continue;
		add_images_status(row);
		add_storage(row, debugfs, with_cells);
		json_object_array_add(rows, row);
	}
	free(debugfs);
	free(ids);
	return EXIT_OK;
}

/*
 * Trackers
 */

static void add_changed(struct json_object *row, const char *line,
			const struct blk_snap_cbt_info *info)
{
	uint64_t nr_blocks, nr_bytes;

	if (!find_number(line, "changed_blocks", &nr_blocks))
		return;
	nr_bytes = nr_blocks * info->blk_size;
	/* The last block may be cut off. */
	if (nr_bytes > info->device_capacity)
		nr_bytes = info->device_capacity;
	add_number(row, "changed_blocks", nr_blocks);
	add_number(row, "changed_bytes", nr_bytes);
}

static struct json_object *tracker_to_json(const struct blk_snap_cbt_info *info,
					   const char *debugfs)
{
	struct json_object *row = json_object_new_object();
	char word[DEVICE_NUMBER_SIZE + 8];
	uint64_t memory_bytes;
	const char *line;

	add_cbt_info(row, info);
	/* Of one that has gone, nothing is left to be told. */
	if (!info->blk_count)
		return row;
	snprintf(word, sizeof(word), "device=%u:%u", info->dev_id.mj, info->dev_id.mn);
	line = find_line(debugfs, word);
	add_changed(row, line, info);
	add_found_word(row, "began", line);
	add_found_word(row, "ends", line);
	if (find_number(line, "memory_bytes", &memory_bytes))
		add_number(row, "memory_bytes", memory_bytes);
	return row;
}

static int read_trackers(struct blksnap *blksnap, struct json_object *rows)
{
	struct blk_snap_cbt_info *infos;
	unsigned int nr_infos, i;
	char *debugfs;
	int ret;

	ret = blksnap_tracker_collect(blksnap, &infos, &nr_infos);
	if (ret)
		return fail_call("cannot list the tracked devices");
	debugfs = read_debugfs("trackers");
	for (i = 0; i < nr_infos; i++)
		json_object_array_add(rows, tracker_to_json(&infos[i], debugfs));
	free(debugfs);
	free(infos);
	return EXIT_OK;
}

/**
 * status_read() - find out what snapshots and trackers are doing
 * @blksnap:	connection
 * @with_cells:	also as texts for a table
 * @status:	gets an object with the arrays "snapshots" and "trackers", to be put
 *		by the caller; NULL on failure
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int status_read(struct blksnap *blksnap, bool with_cells, struct json_object **status)
{
	struct json_object *snapshots = json_object_new_array();
	struct json_object *trackers = json_object_new_array();
	int ret;

	*status = json_object_new_object();
	json_object_object_add(*status, "snapshots", snapshots);
	json_object_object_add(*status, "trackers", trackers);
	ret = read_snapshots(blksnap, with_cells, snapshots);
	if (!ret)
		ret = read_trackers(blksnap, trackers);
	if (ret) {
		json_object_put(*status);
		*status = NULL;
	}
	return ret;
}
