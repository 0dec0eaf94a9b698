// SPDX-License-Identifier: GPL-2.0
/*
 * Commands for a program of QEMU (QMP)
 *
 * Each command and each answer is a line of JSON.  Events may come at any time and
 * are skipped.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "message.h"
#include "progress.h"
#include "qmp.h"

/* The other end is closed: the message of the child says more than ours. */
static int fail_read(struct qmp *qmp, const char *what)
{
	if (interruption_signal())
		return fail(EXIT_FAILED, "interrupted by signal %d",
			    interruption_signal());
	return child_fail(qmp->child, child_wait(qmp->child), what);
}

static int fail_answer(struct json_object *error, const char *what)
{
	struct json_object *text;

	if (json_object_object_get_ex(error, "desc", &text))
		return fail(EXIT_FAILED, "%s: %s", what,
			    json_object_get_string(text));
	return fail(EXIT_FAILED, "%s: QEMU gives no reason", what);
}

/* Reads until there is one of @key or an error; other lines are events. */
static int wait_for(struct qmp *qmp, const char *key, const char *what)
{
	struct json_object *line, *value;
	bool found = false;
	int ret = EXIT_OK;

	while (!found && !ret) {
		if (getline(&qmp->line, &qmp->size, qmp->file) < 0)
			return fail_read(qmp, what);
		line = json_tokener_parse(qmp->line);
		found = json_object_object_get_ex(line, key, NULL);
		if (json_object_object_get_ex(line, "error", &value))
			ret = fail_answer(value, what);
		json_object_put(line);
	}
	return ret;
}

/**
 * qmp_call() - have a command done
 * @qmp:	the connection
 * @command:	its name
 * @arguments:	its arguments, which are freed; NULL if it has none
 * @what:	what fails if it does, "cannot ..."
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int qmp_call(struct qmp *qmp, const char *command, struct json_object *arguments,
	     const char *what)
{
	struct json_object *line = json_object_new_object();
	const char *text;
	ssize_t nr;

	json_object_object_add(line, "execute", json_object_new_string(command));
	if (arguments)
		json_object_object_add(line, "arguments", arguments);
	text = json_object_to_json_string_ext(line, JSON_C_TO_STRING_PLAIN |
						    JSON_C_TO_STRING_NOSLASHESCAPE);
	/* The socket holds more than any of our commands has. */
	nr = send(fileno(qmp->file), text, strlen(text), MSG_NOSIGNAL);
	json_object_put(line);
	if (nr < 0)
		return fail_read(qmp, what);
	return wait_for(qmp, "return", what);
}

static int connect_to(struct qmp *qmp, int fd, const char *what)
{
	int ret;

	qmp->file = fdopen(fd, "r");
	if (!qmp->file) {
		close(fd);
		return fail_memory();
	}
	ret = wait_for(qmp, "QMP", what);
	return ret ? ret : qmp_call(qmp, "qmp_capabilities", NULL, what);
}

/**
 * qmp_start() - start a program and connect to it
 * @qmp:	gets the connection; to be freed by qmp_free() in any case
 * @child:	the program; to be freed by child_free() in any case, after @qmp
 * @argv:	as for child_start(); it has to take number 3 for a socket
 * @what:	what fails if it does not start, "cannot ..."
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int qmp_start(struct qmp *qmp, struct child *child, const char *const *argv,
	      const char *what)
{
	int ends[2], ret;

	*qmp = (struct qmp) { .child = child };
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		return fail_errno(errno, "%s", what);
	ret = child_start(child, argv, ends[1]);
	close(ends[1]);
	if (!ret)
		return connect_to(qmp, ends[0], what);
	close(ends[0]);
	return ret;
}

/**
 * qmp_free() - forget a connection
 * @qmp:	the connection
 */
void qmp_free(struct qmp *qmp)
{
	if (qmp->file)
		fclose(qmp->file);
	free(qmp->line);
	*qmp = (struct qmp) { 0 };
}
