// SPDX-License-Identifier: GPL-2.0
/*
 * Programs that the tool runs
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "child.h"
#include "message.h"
#include "progress.h"
#include "util.h"

/* As a shell says it: the program could not be started. */
#define STATUS_NOT_FOUND 127

/* The number of the first descriptor that is handed over, as systemd does. */
#define LISTEN_FD 3

/* Longest message or description that is kept in memory as a whole. */
#define OUTPUT_MAX (16 << 20)

static const struct {
	const char *program;
	const char *package;
} packages[] = {
	{ "qemu-img", "qemu-utils" },
	{ "qemu-nbd", "qemu-utils" },
	{ "qemu-storage-daemon", "qemu-system-common" },
	{ "btrfstune", "btrfs-progs" },
	{ "partclone.extfs", "partclone" },
	{ "partclone.xfs", "partclone" },
	{ "lvm", "lvm2" },
	{ "dmsetup", "dmsetup" },
	{ "cryptsetup", "cryptsetup" },
	{ "modprobe", "kmod" },
};

static const char *package_of(const char *program)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(packages); i++) {
		if (!strcmp(packages[i].program, program))
			return packages[i].package;
	}
	return program;
}

/* The environment with two variables more; @pid_text is written by the child. */
static char **listen_environment(char *pid_text)
{
	size_t nr = 0;
	char **env;

	while (environ[nr])
		nr++;
	env = calloc(nr + 3, sizeof(*env));
	if (!env)
		return NULL;
	env[0] = pid_text;
	env[1] = "LISTEN_FDS=1";
	memcpy(env + 2, environ, nr * sizeof(*env));
	return env;
}

/* Between fork and exec: another thread may have held any lock. */
static void become(const struct child *child, int listen_fd, char **env,
		   char *pid_text, size_t pid_size, pid_t parent)
{
	int null = open("/dev/null", O_RDONLY);

	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(STATUS_NOT_FOUND);
	dup2(null, STDIN_FILENO);
	dup2(child->out_fd, STDOUT_FILENO);
	dup2(child->err_fd, STDERR_FILENO);
	if (listen_fd == LISTEN_FD)
		fcntl(listen_fd, F_SETFD, 0);
	else if (listen_fd >= 0)
		dup2(listen_fd, LISTEN_FD);
	snprintf(pid_text, pid_size, "LISTEN_PID=%d", getpid());
	execvpe(child->argv[0], (char *const *)child->argv, env);
	_exit(STATUS_NOT_FOUND);
}

/**
 * child_start() - start a program
 * @child:	the child; to be freed by child_free() in any case
 * @argv:	name and arguments, kept until the child is freed
 * @listen_fd:	socket that the program gets as number 3, told of as systemd does it;
 *		-1 if there is none
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.  That the program does not
 *	   exist is told by its status.
 */
int child_start(struct child *child, const char *const *argv, int listen_fd)
{
	const pid_t parent = getpid();
	char pid_text[32] = "LISTEN_PID=";
	char **env;

	*child = (struct child) { .argv = argv };
	child->out_fd = memfd_create("output", MFD_CLOEXEC);
	child->err_fd = memfd_create("messages", MFD_CLOEXEC);
	env = listen_environment(pid_text);
	if (!env || child->out_fd < 0 || child->err_fd < 0) {
		free(env);
		return fail_memory();
	}
	child->pid = fork();
	if (!child->pid)
		become(child, listen_fd, listen_fd < 0 ? env + 2 : env,
		       pid_text, sizeof(pid_text), parent);
	free(env);
	if (child->pid < 0) {
		child->pid = 0;
		return fail_errno(errno, "cannot start '%s'", argv[0]);
	}
	return EXIT_OK;
}

/**
 * child_wait() - wait for the end of a child
 * @child:	the child, which is running
 *
 * Return: its exit code; 128 and the signal if a signal ended it.
 */
int child_wait(struct child *child)
{
	int status;

	while (waitpid(child->pid, &status, 0) < 0 && errno == EINTR)
		;
	child->pid = 0;
	if (WIFSIGNALED(status))
		return 128 + WTERMSIG(status);
	return WEXITSTATUS(status);
}

/**
 * child_await() - wait until a child ends, or a signal asks for our end
 * @child:	the child, which is running
 * @timeout_ms:	no longer than this; -1 for no limit
 *
 * Return: true if it has ended, so that child_wait() returns at once.
 */
bool child_await(const struct child *child, int timeout_ms)
{
	const struct timespec limit = {
		.tv_sec = timeout_ms / 1000,
		.tv_nsec = timeout_ms % 1000 * 1000000L,
	};
	struct pollfd end = { .events = POLLIN };
	sigset_t all, mask;
	int ret = 0;

	end.fd = syscall(SYS_pidfd_open, child->pid, 0);
	if (end.fd < 0)
		return true;
	/* A signal between the question and the wait would go unnoticed. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &mask);
	if (!interruption_signal())
		ret = ppoll(&end, 1, timeout_ms < 0 ? NULL : &limit, &mask);
	sigprocmask(SIG_SETMASK, &mask, NULL);
	close(end.fd);
	return ret == 1;
}

/**
 * child_kill() - end a child whose work is of no use any more
 * @child:	the child; it may have ended already
 */
void child_kill(struct child *child)
{
	if (!child->pid)
		return;
	kill(child->pid, SIGKILL);
	child_wait(child);
}

static char *read_all(int fd)
{
	off_t size = lseek(fd, 0, SEEK_END);
	char *text;
	ssize_t nr;

	if (size < 0 || size > OUTPUT_MAX)
		return NULL;
	text = malloc(size + 1);
	if (!text)
		return NULL;
	nr = pread(fd, text, size, 0);
	if (nr != size) {
		free(text);
		return NULL;
	}
	text[nr] = 0;
	return text;
}

/**
 * child_output() - what a child has printed, if that is short
 * @child:	the child, which has ended
 *
 * Return: a text to be freed by the caller, or NULL if it is too long, or without
 *	   memory.
 */
char *child_output(const struct child *child)
{
	return read_all(child->out_fd);
}

/**
 * child_open_output() - what a child has printed, however long
 * @child:	the child, which has ended
 *
 * Return: a stream to be closed by the caller, or NULL with errno.
 */
FILE *child_open_output(const struct child *child)
{
	int fd = fcntl(child->out_fd, F_DUPFD_CLOEXEC, 0);
	FILE *file = fd < 0 ? NULL : fdopen(fd, "r");

	if (file)
		rewind(file);
	else if (fd >= 0)
		close(fd);
	return file;
}

/**
 * child_is_missing() - was the program not there to be run?
 * @status:	what child_wait() returned
 *
 * Return: true if it was not.
 */
bool child_is_missing(int status)
{
	return status == STATUS_NOT_FOUND;
}

/**
 * child_says() - does a child give this as its reason?
 * @child:	the child, which has ended
 * @words:	what to look for in its messages
 *
 * Return: true if it does.
 */
bool child_says(const struct child *child, const char *words)
{
	char *errors = read_all(child->err_fd);
	bool found = errors && strstr(errors, words);

	free(errors);
	return found;
}

/**
 * child_errors() - what a child has printed on its standard error
 * @child:	the child, which has ended
 *
 * Return: a text to be freed by the caller, or NULL without memory.
 */
char *child_errors(const struct child *child)
{
	return read_all(child->err_fd);
}

/* The first line that is more than a warning; cuts it off. */
static const char *first_error(char *errors)
{
	char *rest = errors, *line;

	while ((line = strsep(&rest, "\n"))) {
		line += strspn(line, " \t");
		if (*line && strncmp(line, "WARNING:", strlen("WARNING:")))
			return line;
	}
	return NULL;
}

/**
 * child_fail() - tell that a child has failed
 * @child:	the child, which has ended
 * @status:	what child_wait() returned
 * @what:	what it was started for, "cannot ..."
 *
 * Return: EXIT_FAILED.
 */
int child_fail(const struct child *child, int status, const char *what)
{
	char *errors = child_errors(child);
	const char *error = errors ? first_error(errors) : NULL;

	if (status == STATUS_NOT_FOUND)
		fail(EXIT_FAILED,
		     "%s: '%s' is not installed; on Debian: apt-get install %s",
		     what, child->argv[0], package_of(child->argv[0]));
	else if (error)
		fail(EXIT_FAILED, "%s: %s", what, error);
	else
		fail(EXIT_FAILED, "%s: '%s' has ended with status %d", what,
		     child->argv[0], status);
	free(errors);
	return EXIT_FAILED;
}

/**
 * child_free() - forget a child, and kill it if it is still running
 * @child:	the child
 */
void child_free(struct child *child)
{
	if (!child->argv)
		return;
	child_kill(child);
	if (child->out_fd >= 0)
		close(child->out_fd);
	if (child->err_fd >= 0)
		close(child->err_fd);
	child->argv = NULL;
}
