/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Commands for a program of QEMU (QMP)
 *
 * The program is a child that has got one end of a pair of sockets, so there is no
 * name that another program could connect to.
 */
#ifndef QMP_H
#define QMP_H

#include <stdio.h>

#include <json.h>

#include "child.h"

struct qmp {
	struct child *child;
	FILE *file;
	char *line;		/* the last one that was read */
	size_t size;
};

int qmp_start(struct qmp *qmp, struct child *child, const char *const *argv,
	      const char *what);
int qmp_call(struct qmp *qmp, const char *command, struct json_object *arguments,
	     const char *what);
void qmp_free(struct qmp *qmp);

#endif /* QMP_H */
