// SPDX-License-Identifier: GPL-2.0
/*
 * Names of qcow2 files for QEMU
 */
#include <stdio.h>

#include "qemu_file.h"

/**
 * qemu_qcow2() - describe a qcow2 file
 * @path:	absolute path
 * @key:	what it is encrypted with, NULL if it is not
 *
 * Return: a new object; "backing" may be added to it.
 */
struct json_object *qemu_qcow2(const char *path, const struct key *key)
{
	struct json_object *options = json_object_new_object();
	struct json_object *file = json_object_new_object();
	struct json_object *encrypt;

	json_object_object_add(file, "driver", json_object_new_string("file"));
	json_object_object_add(file, "filename", json_object_new_string(path));
	json_object_object_add(options, "driver",
			       json_object_new_string("qcow2"));
	json_object_object_add(options, "file", file);
	if (!key)
		return options;
	encrypt = json_object_new_object();
	json_object_object_add(encrypt, "format",
			       json_object_new_string("luks"));
	json_object_object_add(encrypt, "key-secret",
			       json_object_new_string(KEY_SECRET));
	json_object_object_add(options, "encrypt", encrypt);
	return options;
}

/**
 * qemu_name() - make a name of a description
 * @options:	the description, which is freed
 *
 * Return: a text to be freed by the caller, NULL without memory.
 */
char *qemu_name(struct json_object *options)
{
	char *name;

	if (asprintf(&name, "json:%s",
		     json_object_to_json_string_ext(options,
						    JSON_C_TO_STRING_PLAIN |
						    JSON_C_TO_STRING_NOSLASHESCAPE)) < 0)
		name = NULL;
	json_object_put(options);
	return name;
}

/**
 * qemu_name_alone() - name a qcow2 file without those below it
 * @path:	absolute path
 * @key:	what it is encrypted with, NULL if it is not
 *
 * Return: as qemu_name().
 */
char *qemu_name_alone(const char *path, const struct key *key)
{
	struct json_object *options = qemu_qcow2(path, key);

	json_object_object_add(options, "backing", NULL);
	return qemu_name(options);
}
