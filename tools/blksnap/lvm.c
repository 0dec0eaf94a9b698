// SPDX-License-Identifier: GPL-2.0
/*
 * Groups of logical volumes that are copies of groups in use
 */
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <json.h>

#include "child.h"
#include "content.h"
#include "lvm.h"
#include "message.h"
#include "util.h"

/* Nothing of what LVM knows of the origin: its settings, hints and daemons. */
#define SETTINGS \
	"devices { use_devicesfile=0 hints=\"none\" obtain_device_list_from_udev=0 global_filter=[%s\"r|.*|\"] } backup { backup=0 archive=0 } activation { monitoring=0 }"

#define MISSING \
	"the volume group '%s' on '%s' lacks its physical volume %s%s; name what that is on as well, as one more IMAGE or --disk"

/* How LVM is called, and the physical volumes as it has found them. */
struct session {
	const struct lvm *lvm;
	char *settings;
	struct json_object *report;
	struct json_object *rows;	/* of the report */
	struct json_object *first;	/* the row of the first device */
};

static char *make_settings(const struct lvm *lvm)
{
	char *filter = strdup(""), *more, *settings = NULL;
	size_t i;

	for (i = 0; i < lvm->nr_devices && filter; i++) {
		if (asprintf(&more, "%s\"a|^%s$|\",", filter,
			     lvm->devices[i]) < 0)
			more = NULL;
		free(filter);
		filter = more;
	}
	if (filter && asprintf(&settings, SETTINGS, filter) < 0)
		settings = NULL;
	free(filter);
	return settings;
}

static int fail_run(const struct session *session, const struct child *child,
		    int status)
{
	char what[512];

	snprintf(what, sizeof(what), "cannot open the volume group on '%s'",
		 session->lvm->name);
	return child_fail(child, status, what);
}

/* @words: the command, its arguments and NULL; @errors may be NULL. */
static int run(const struct session *session, const char *const *words,
	       char **output, char **errors)
{
	struct child child;
	const char **argv;
	size_t nr = 0;
	int ret, status;

	while (words[nr])
		nr++;
	argv = calloc(nr + 4, sizeof(*argv));
	if (!argv)
		return fail_memory();
	argv[0] = "lvm";
	argv[1] = words[0];
	argv[2] = "--config";
	argv[3] = session->settings;
	memcpy(argv + 4, words + 1, (nr - 1) * sizeof(*argv));
	ret = child_start(&child, argv, -1);
	if (!ret) {
		status = child_wait(&child);
		if (status)
			ret = fail_run(session, &child, status);
		*output = child_output(&child);
		if (errors)
			*errors = child_errors(&child);
	}
	child_free(&child);
	free(argv);
	return ret;
}

static int run_quietly(const struct session *session, const char *const *words)
{
	char *output = NULL;
	int ret = run(session, words, &output, NULL);

	free(output);
	return ret;
}

/* A report is an object with one report with one array of @kind. */
static int run_report(const struct session *session, const char *const *words,
		      const char *kind, struct json_object **report,
		      struct json_object **rows, char **errors)
{
	char *output = NULL;
	struct json_object *list;
	int ret = run(session, words, &output, errors);

	*report = output ? json_tokener_parse(output) : NULL;
	free(output);
	if (ret)
		return ret;
	list = json_object_object_get(*report, "report");
	*rows = json_object_is_type(list, json_type_array) ?
		json_object_object_get(json_object_array_get_idx(list, 0), kind) :
		NULL;
	return json_object_is_type(*rows, json_type_array) ? EXIT_OK :
		fail(EXIT_FAILED, "cannot understand what 'lvm %s' prints",
		     words[0]);
}

static const char *text_of(struct json_object *row, const char *key)
{
	const char *text = json_object_get_string(json_object_object_get(row,
									 key));

	return text ? text : "";
}

/* The one that was named may go by another name of the same device. */
static bool is_device(const char *path, const char *device)
{
	char real[PATH_MAX], real_device[PATH_MAX];

	return realpath(path, real) && realpath(device, real_device) &&
	       !strcmp(real, real_device);
}

static bool is_of_group(const struct session *session, struct json_object *row)
{
	return !strcmp(text_of(row, "vg_uuid"),
		       text_of(session->first, "vg_uuid"));
}

static int find_first(struct session *session)
{
	const struct lvm *lvm = session->lvm;
	struct json_object *row;
	size_t i;

	for (i = 0; i < json_object_array_length(session->rows); i++) {
		row = json_object_array_get_idx(session->rows, i);
		if (is_device(text_of(row, "pv_name"), lvm->devices[0]))
			session->first = row;
	}
	if (!session->first)
		return fail(EXIT_FAILED,
			    "LVM finds no physical volume on '%s'", lvm->name);
	if (!*text_of(session->first, "vg_name"))
		return fail(EXIT_FAILED,
			    "the physical volume on '%s' is in no volume group",
			    lvm->name);
	return EXIT_OK;
}

/* LVM knows by which name it had the device last, but only warns of it. */
static int fail_missing(const struct session *session, const char *uuid,
			const char *warnings)
{
	const char *where = warnings ? strstr(warnings, uuid) : NULL;
	char hint[128] = "";

	where = where ? strstr(where, "(last written to ") : NULL;
	if (where)
		snprintf(hint, sizeof(hint), " %.*s)", (int)strcspn(where, ")"),
			 where);
	return fail(EXIT_FAILED, MISSING, text_of(session->first, "vg_name"),
		    session->lvm->name, uuid, hint);
}

static int find_volumes_of_group(struct session *session)
{
	static const char *const words[] = {
		"pvs", "--reportformat", "json", "-o",
		"pv_name,pv_uuid,pv_missing,vg_name,vg_uuid", NULL
	};
	struct json_object *row;
	char *warnings = NULL;
	size_t i;
	int ret;

	ret = run_report(session, words, "pv", &session->report,
			 &session->rows, &warnings);
	if (!ret)
		ret = find_first(session);
	for (i = 0; !ret && i < json_object_array_length(session->rows); i++) {
		row = json_object_array_get_idx(session->rows, i);
		if (is_of_group(session, row) && *text_of(row, "pv_missing"))
			ret = fail_missing(session, text_of(row, "pv_uuid"),
					   warnings);
	}
	free(warnings);
	return ret;
}

/* Gives the group its other name, and other identifiers. */
static int import_group(const struct session *session)
{
	const size_t nr_rows = json_object_array_length(session->rows);
	struct json_object *row;
	const char **words;
	size_t i, nr = 4;
	int ret;

	words = calloc(nr + nr_rows + 1, sizeof(*words));
	if (!words)
		return fail_memory();
	words[0] = "vgimportclone";
	words[1] = "--import";
	words[2] = "--basevgname";
	words[3] = session->lvm->group;
	for (i = 0; i < nr_rows; i++) {
		row = json_object_array_get_idx(session->rows, i);
		if (is_of_group(session, row))
			words[nr++] = text_of(row, "pv_name");
	}
	ret = run_quietly(session, words);
	free(words);
	return ret;
}

static int add_volume(struct content *content, struct json_object *row)
{
	content->volume = strdup(text_of(row, "lv_name"));
	content->device = strdup(text_of(row, "lv_dm_path"));
	content->nr_bytes = strtoull(text_of(row, "lv_size"), NULL, 10);
	return content->volume && content->device ? EXIT_OK : fail_memory();
}

static int list_volumes(const struct session *session,
			struct contents *contents)
{
	const char *const words[] = {
		"lvs", "--reportformat", "json", "--units", "b", "--nosuffix",
		"-o", "lv_name,lv_dm_path,lv_size", session->lvm->group, NULL
	};
	struct json_object *report, *rows = NULL;
	size_t i, nr;
	int ret;

	ret = run_report(session, words, "lv", &report, &rows, NULL);
	nr = ret ? 0 : json_object_array_length(rows);
	contents->kind = "volume";
	contents->all = calloc(nr + 1, sizeof(*contents->all));
	if (!contents->all)
		ret = fail_memory();
	for (i = 0; i < nr && !ret; i++) {
		contents->nr++;
		ret = add_volume(&contents->all[i],
				 json_object_array_get_idx(rows, i));
	}
	json_object_put(report);
	return ret;
}

static int activate(const struct session *session, const char *what)
{
	const char *const words[] = {
		strchr(what, '/') ? "lvchange" : "vgchange", "-ay", "-K", what,
		NULL
	};

	return run_quietly(session, words);
}

/* What the others hold does not matter, so they are not activated. */
static int activate_volume(const struct session *session,
			   struct contents *contents, const char *volume,
			   struct content **chosen)
{
	char *path;
	int ret;

	ret = contents_choose_volume(contents, session->lvm->name, volume,
				     chosen);
	if (ret)
		return ret;
	if (asprintf(&path, "%s/%s", session->lvm->group, volume) < 0)
		return fail_memory();
	ret = activate(session, path);
	free(path);
	return ret;
}

static int activate_all(const struct session *session,
			struct contents *contents, struct content **chosen)
{
	int ret = activate(session, session->lvm->group);

	if (!ret)
		ret = contents_look_at_volumes(contents);
	return ret ? ret : contents_choose_volume(contents, session->lvm->name,
						  NULL, chosen);
}

static int open_volume(const struct session *session, const char *volume,
		       char **name, char **device)
{
	struct content *chosen = NULL;
	struct contents contents = { 0 };
	int ret;

	ret = list_volumes(session, &contents);
	if (!ret)
		ret = volume ? activate_volume(session, &contents, volume,
					       &chosen) :
			       activate_all(session, &contents, &chosen);
	if (!ret) {
		*name = chosen->volume;
		*device = chosen->device;
		chosen->volume = NULL;
		chosen->device = NULL;
	}
	contents_free(&contents);
	return ret;
}

/**
 * lvm_open() - activate a volume of a copy of a group
 * @lvm:	the group
 * @volume:	name of the volume, NULL for the only one with a filesystem
 * @name:	gets the name of the volume, to be freed by the caller
 * @device:	gets the path of its device, to be freed by the caller
 *
 * Other volumes may be active, too, and some may be after a failure.
 *
 * Return: EXIT_OK; EXIT_USAGE or EXIT_FAILED after a message.
 */
int lvm_open(const struct lvm *lvm, const char *volume, char **name,
	     char **device)
{
	struct session session = { .lvm = lvm };
	int ret;

	session.settings = make_settings(lvm);
	if (!session.settings || setenv("LVM_SYSTEM_DIR", lvm->dir, 1) ||
	    setenv("LVM_SUPPRESS_FD_WARNINGS", "1", 1)) {
		free(session.settings);
		return fail_memory();
	}
	ret = find_volumes_of_group(&session);
	if (!ret)
		ret = import_group(&session);
	if (!ret)
		ret = open_volume(&session, volume, name, device);
	json_object_put(session.report);
	free(session.settings);
	return ret;
}
