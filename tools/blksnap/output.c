// SPDX-License-Identifier: GPL-2.0
/*
 * Results as JSON or as columns
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <blksnap/blksnap.h>

#include "cmdline.h"
#include "device.h"
#include "output.h"
#include "parse.h"

/* Longest cell: a path; longer ones are cut. */
#define CELL_SIZE 256

/**
 * output_json() - print a result for programs
 * @object:	the result
 */
void output_json(struct json_object *object)
{
	puts(json_object_to_json_string_ext(object, JSON_C_TO_STRING_PRETTY |
						    JSON_C_TO_STRING_NOSLASHESCAPE));
}

/**
 * output_json_line() - print one of several results, each on a line
 * @object:	the result
 */
void output_json_line(struct json_object *object)
{
	puts(json_object_to_json_string_ext(object,
					    JSON_C_TO_STRING_NOSLASHESCAPE));
}

static void format_cell(struct json_object *row, const struct column *column,
			char cell[CELL_SIZE])
{
	struct json_object *value;

	if (!json_object_object_get_ex(row, column->key, &value) || !value)
		snprintf(cell, CELL_SIZE, "-");
	else if (column->type == COLUMN_SIZE)
		format_size(json_object_get_uint64(value), cell);
	else
		snprintf(cell, CELL_SIZE, "%s", json_object_get_string(value));
}

static int column_width(struct json_object *rows, const struct column *column)
{
	int width = strlen(column->title);
	char cell[CELL_SIZE];
	size_t i;

	for (i = 0; i < json_object_array_length(rows); i++) {
		format_cell(json_object_array_get_idx(rows, i), column, cell);
		if ((int)strlen(cell) > width)
			width = strlen(cell);
	}
	return width;
}

static void print_cell(const char *cell, int width, enum column_type type,
		       bool last)
{
	if (type != COLUMN_TEXT)
		printf("%*s", width, cell);
	else if (last)
		printf("%s", cell);
	else
		printf("%-*s", width, cell);
	fputs(last ? "\n" : "  ", stdout);
}

/**
 * output_table() - print a result for human readers
 * @rows:	array of objects; a value that is missing or null is shown as "-"
 * @columns:	what to show of each object
 * @nr_columns:	number of columns
 * @no_header:	leave the line of titles out
 */
void output_table(struct json_object *rows, const struct column *columns,
		  size_t nr_columns, bool no_header)
{
	int widths[nr_columns];
	char cell[CELL_SIZE];
	size_t i, row;

	for (i = 0; i < nr_columns; i++)
		widths[i] = column_width(rows, &columns[i]);
	for (i = 0; i < nr_columns && !no_header; i++)
		print_cell(columns[i].title, widths[i], columns[i].type,
			   i == nr_columns - 1);
	for (row = 0; row < json_object_array_length(rows); row++) {
		for (i = 0; i < nr_columns; i++) {
			format_cell(json_object_array_get_idx(rows, row),
				    &columns[i], cell);
			print_cell(cell, widths[i], columns[i].type,
				   i == nr_columns - 1);
		}
	}
}

/**
 * output_result() - print a result as the command line asks for
 * @cl:		tells whether as JSON or as a table
 * @object:	the result as JSON
 * @rows:	the result as rows of a table
 * @columns:	columns of the table
 * @nr_columns:	their number
 */
void output_result(const struct cmdline *cl, struct json_object *object,
		   struct json_object *rows, const struct column *columns,
		   size_t nr_columns)
{
	if (cl->json)
		output_json(object);
	else
		output_table(rows, columns, nr_columns, cl->no_header);
}

/**
 * add_text() - add a string to a result
 * @object:	the result
 * @key:	name of the value
 * @text:	the value, NULL for null
 */
void add_text(struct json_object *object, const char *key, const char *text)
{
	json_object_object_add(object, key,
			       text ? json_object_new_string(text) : NULL);
}

/**
 * add_number() - add a number to a result
 * @object:	the result
 * @key:	name of the value
 * @number:	the value
 */
void add_number(struct json_object *object, const char *key, uint64_t number)
{
	json_object_object_add(object, key, json_object_new_uint64(number));
}

/**
 * add_uuid() - add an identifier to a result
 * @object:	the result
 * @key:	name of the value
 * @uuid:	the value
 */
void add_uuid(struct json_object *object, const char *key,
	      const struct blk_snap_uuid *uuid)
{
	char text[BLKSNAP_UUID_TEXT_SIZE];

	blksnap_format_uuid(uuid, text);
	add_text(object, key, text);
}

/**
 * add_dev() - add a device to a result
 * @object:	the result
 * @key:	name of the path, which is null if the device is gone
 * @number_key:	name of the device number
 * @dev:	the device
 */
void add_dev(struct json_object *object, const char *key,
	     const char *number_key, struct blk_snap_dev dev)
{
	char number[DEVICE_NUMBER_SIZE];
	char *path = device_path(dev);

	device_format_number(dev, number);
	add_text(object, key, path);
	add_text(object, number_key, number);
	free(path);
}
