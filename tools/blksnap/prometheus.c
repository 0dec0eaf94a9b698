// SPDX-License-Identifier: GPL-2.0
/*
 * The status in the text format of Prometheus
 *
 * Names, units and types follow the conventions of Prometheus: base units, total in
 * the name of what only grows, and nothing that the server can compute itself (a
 * rate, an age).  A metric whose value is not known for an object is left out.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/time.h>

#include "prometheus.h"
#include "util.h"

#define NSEC_PER_SEC 1000000000U
#define MSEC_PER_SEC 1000U

enum level {
	LEVEL_SNAPSHOT,
	LEVEL_IMAGE,
	LEVEL_TRACKER,
};

enum kind {
	KIND_NUMBER,		/* or a truth value, which is 1 or 0 */
	KIND_NANOSECONDS,
	KIND_AGE,		/* in milliseconds */
	KIND_INFO,		/* labels alone */
};

struct metric {
	enum level level;
	enum kind kind;
	const char *key;	/* of the value */
	const char *type;
	const char *name;
	const char *help;
};

static const struct metric metrics[] = {
	{ LEVEL_SNAPSHOT, KIND_INFO, "state", "gauge",
	  "blksnap_snapshot_info", "State of a snapshot, and which program created it." },
	{ LEVEL_SNAPSHOT, KIND_AGE, "age_ms", "gauge",
	  "blksnap_snapshot_created_timestamp_seconds", "When a snapshot was created." },
	{ LEVEL_SNAPSHOT, KIND_NUMBER, "storage_bytes", "gauge",
	  "blksnap_snapshot_storage_size_bytes", "Difference storage of a snapshot." },
	{ LEVEL_SNAPSHOT, KIND_NUMBER, "storage_used_bytes", "gauge",
	  "blksnap_snapshot_storage_used_bytes",
	  "Difference storage of a snapshot that is used." },
	{ LEVEL_IMAGE, KIND_NUMBER, "errno", "gauge",
	  "blksnap_image_error", "Errno with which the image was lost, 0 if it is sound." },
	{ LEVEL_IMAGE, KIND_NUMBER, "filesystem_frozen", "gauge",
	  "blksnap_image_filesystem_frozen",
	  "Whether the filesystem was frozen at the take." },
	{ LEVEL_IMAGE, KIND_NUMBER, "copied_bytes", "gauge",
	  "blksnap_image_copied_bytes", "Old data that was copied for the image." },
	{ LEVEL_IMAGE, KIND_NUMBER, "stored_bytes", "gauge",
	  "blksnap_image_stored_bytes", "Difference storage that the image uses." },
	{ LEVEL_IMAGE, KIND_NUMBER, "memory_bytes", "gauge",
	  "blksnap_image_memory_bytes", "Copies in memory that are not stored yet." },
	{ LEVEL_IMAGE, KIND_NUMBER, "held_writes", "gauge",
	  "blksnap_image_writes_waiting", "Writes to the origin that wait now." },
	{ LEVEL_IMAGE, KIND_NUMBER, "held_writes_total", "counter",
	  "blksnap_image_held_writes_total", "Writes to the origin that were held." },
	{ LEVEL_IMAGE, KIND_NANOSECONDS, "held_ns_total", "counter",
	  "blksnap_image_held_seconds_total",
	  "How long writes to the origin waited, summed up." },
	{ LEVEL_TRACKER, KIND_INFO, "generation", "gauge",
	  "blksnap_tracker_info",
	  "Generation of the change map of a device, and why it began." },
	{ LEVEL_TRACKER, KIND_NUMBER, "capacity_bytes", "gauge",
	  "blksnap_tracker_size_bytes", "Size of a tracked device." },
	{ LEVEL_TRACKER, KIND_NUMBER, "changed_bytes", "gauge",
	  "blksnap_tracker_changed_bytes",
	  "What has changed since the last snapshot, in whole tracking blocks." },
	{ LEVEL_TRACKER, KIND_NUMBER, "snap_number", "gauge",
	  "blksnap_tracker_snapshot_number",
	  "Number of the last snapshot in the generation." },
	{ LEVEL_TRACKER, KIND_NUMBER, "memory_bytes", "gauge",
	  "blksnap_tracker_memory_bytes", "Memory of the change map." },
};

/* As the format wants it: a device or a program may be called anything. */
static void print_label(const char *name, struct json_object *value, bool *is_first)
{
	const char *c;

	if (!value)
		return;
	printf("%s%s=\"", *is_first ? "{" : ",", name);
	for (c = json_object_get_string(value); *c; c++) {
		if (*c == '\n')
			fputs("\\n", stdout);
		else if (*c == '"' || *c == '\\')
			printf("\\%c", *c);
		else
			putchar(*c);
	}
	putchar('"');
	*is_first = false;
}

static struct json_object *device_of(struct json_object *row, const char *key,
				     const char *number_key)
{
	return json_object_object_get(row, key) ?:
	       json_object_object_get(row, number_key);
}

/* @snapshot is NULL for a tracker. */
static void print_labels(const struct metric *metric, struct json_object *row,
			 struct json_object *snapshot)
{
	struct json_object *creator = json_object_object_get(row, "creator");
	bool is_first = true;

	print_label("snapshot", json_object_object_get(snapshot, "id"), &is_first);
	if (metric->level == LEVEL_IMAGE)
		print_label("device", device_of(row, "origin", "origin_number"),
			    &is_first);
	if (metric->level == LEVEL_TRACKER)
		print_label("device", device_of(row, "device", "device_number"),
			    &is_first);
	if (metric->kind == KIND_INFO) {
		print_label(metric->key, json_object_object_get(row, metric->key),
			    &is_first);
		print_label("creator", json_object_object_get(creator, "name"),
			    &is_first);
		print_label("began", json_object_object_get(row, "began"), &is_first);
	}
	putchar('}');
}

static uint64_t now_ms(void)
{
	struct timeval now;

	gettimeofday(&now, NULL);
	return now.tv_sec * MSEC_PER_SEC + now.tv_usec / 1000;
}

static void print_value(const struct metric *metric, struct json_object *value)
{
	uint64_t number = json_object_get_uint64(value);

	switch (metric->kind) {
	case KIND_NUMBER:
		printf(" %" PRIu64 "\n", number);
		break;
	case KIND_NANOSECONDS:
		printf(" %" PRIu64 ".%09" PRIu64 "\n", number / NSEC_PER_SEC,
		       number % NSEC_PER_SEC);
		break;
	case KIND_AGE:
		number = now_ms() - number;
		printf(" %" PRIu64 ".%03" PRIu64 "\n", number / MSEC_PER_SEC,
		       number % MSEC_PER_SEC);
		break;
	case KIND_INFO:
		puts(" 1");
		break;
	}
}

static void print_header(const char *name, const char *help, const char *type)
{
	printf("# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* Returns whether something has been printed. */
static bool print_samples(const struct metric *metric, struct json_object *rows,
			  struct json_object *snapshot, bool has_header)
{
	struct json_object *row, *value;
	size_t i;

	for (i = 0; i < json_object_array_length(rows); i++) {
		row = json_object_array_get_idx(rows, i);
		value = json_object_object_get(row, metric->key);
		if (!value)
			continue;
		if (!has_header)
			print_header(metric->name, metric->help, metric->type);
		has_header = true;
		fputs(metric->name, stdout);
		print_labels(metric, row, metric->level == LEVEL_SNAPSHOT ? row : snapshot);
		print_value(metric, value);
	}
	return has_header;
}

static void print_image_samples(const struct metric *metric,
				struct json_object *snapshots)
{
	struct json_object *snapshot;
	bool has_header = false;
	size_t i;

	for (i = 0; i < json_object_array_length(snapshots); i++) {
		snapshot = json_object_array_get_idx(snapshots, i);
		has_header = print_samples(metric,
					   json_object_object_get(snapshot, "images"),
					   snapshot, has_header);
	}
}

static void print_count(const char *name, const char *help, struct json_object *rows)
{
	print_header(name, help, "gauge");
	printf("%s %zu\n", name, json_object_array_length(rows));
}

/**
 * prometheus_print() - print the status for Prometheus
 * @status:	from status_read()
 */
void prometheus_print(struct json_object *status)
{
	struct json_object *snapshots = json_object_object_get(status, "snapshots");
	struct json_object *trackers = json_object_object_get(status, "trackers");
	size_t i;

	print_count("blksnap_snapshots", "Number of snapshots.", snapshots);
	print_count("blksnap_trackers", "Number of tracked devices.", trackers);
	for (i = 0; i < ARRAY_SIZE(metrics); i++) {
		if (metrics[i].level == LEVEL_IMAGE)
			print_image_samples(&metrics[i], snapshots);
		else
			print_samples(&metrics[i],
				      metrics[i].level == LEVEL_TRACKER ? trackers :
									  snapshots,
				      NULL, false);
	}
}
