/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Results as JSON or as columns
 *
 * A command builds its result once, as a JSON object.  It is printed as it is,
 * or an array in it is printed as a table.
 */
#ifndef OUTPUT_H
#define OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <json.h>
#include <linux/blksnap.h>

struct cmdline;

enum column_type {
	COLUMN_TEXT,	/* aligned to the left */
	COLUMN_NUMBER,	/* aligned to the right */
	COLUMN_SIZE,	/* bytes, shown with a suffix */
};

struct column {
	const char *title;
	const char *key;
	enum column_type type;
};

void output_json(struct json_object *object);
void output_json_line(struct json_object *object);
void output_table(struct json_object *rows, const struct column *columns,
		  size_t nr_columns, bool no_header);
void output_result(const struct cmdline *cl, struct json_object *object,
		   struct json_object *rows, const struct column *columns,
		   size_t nr_columns);

void add_text(struct json_object *object, const char *key, const char *text);
void add_number(struct json_object *object, const char *key, uint64_t number);
void add_uuid(struct json_object *object, const char *key,
	      const struct blk_snap_uuid *uuid);
void add_dev(struct json_object *object, const char *key,
	     const char *number_key, struct blk_snap_dev dev);

#endif /* OUTPUT_H */
