/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Names of qcow2 files for QEMU
 *
 * As JSON, no character of a path has a meaning of its own, and a name can say
 * what the file is encrypted with and what it is based on.
 */
#ifndef QEMU_FILE_H
#define QEMU_FILE_H

#include <json.h>

#include "key.h"

struct json_object *qemu_qcow2(const char *path, const struct key *key);
char *qemu_name(struct json_object *options);
char *qemu_name_alone(const char *path, const struct key *key);

#endif /* QEMU_FILE_H */
