// SPDX-License-Identifier: GPL-2.0
/*
 * A command of the user's, which is waited for
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "foreground.h"
#include "message.h"
#include "progress.h"
#include "util.h"

static const int end_signals[] = { SIGINT, SIGQUIT, SIGTERM, SIGHUP };

/* What was ignored stays so, for the command as well: think of nohup. */
static void keep_ignored(const struct sigaction *actions)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(end_signals); i++) {
		if (actions[i].sa_handler == SIG_IGN)
			sigaction(end_signals[i], &actions[i], NULL);
	}
}

/**
 * foreground_prepare() - take charge of the signals
 * @fg:		gets what is needed later
 *
 * Until foreground_run() they end what is waited for, as
 * interruption_prepare() says.
 */
void foreground_prepare(struct foreground *fg)
{
	struct sigaction actions[ARRAY_SIZE(end_signals)];
	size_t i;

	sigemptyset(&fg->signals);
	sigaddset(&fg->signals, SIGCHLD);
	for (i = 0; i < ARRAY_SIZE(end_signals); i++) {
		sigaddset(&fg->signals, end_signals[i]);
		sigaction(end_signals[i], NULL, &actions[i]);
	}
	sigaction(SIGPIPE, NULL, &fg->pipe_action);
	interruption_prepare();
	keep_ignored(actions);
	/* Nobody would wait for the child otherwise. */
	signal(SIGCHLD, SIG_DFL);
}

/* Between fork and exec: another thread may have held any lock. */
static void become(const struct foreground *fg, char **argv, char **env,
		   int report_fd)
{
	int err;

	sigaction(SIGPIPE, &fg->pipe_action, NULL);
	sigprocmask(SIG_SETMASK, &fg->mask, NULL);
	execvpe(argv[0], argv, env);
	err = errno;
	if (write(report_fd, &err, sizeof(err)) < 0)
		_exit(FOREGROUND_CANNOT_RUN);
	_exit(FOREGROUND_NOT_FOUND);
}

static int fail_run(const char *command, int err)
{
	fail_errno(err, "cannot run '%s'", command);
	return err == ENOENT ? FOREGROUND_NOT_FOUND : FOREGROUND_CANNOT_RUN;
}

/* What the terminal sends goes to all of the process group by itself. */
static void pass_on(const siginfo_t *info, pid_t pid)
{
	if (info->si_signo != SIGCHLD && info->si_code != SI_KERNEL)
		kill(pid, info->si_signo);
}

static int wait_for(const struct foreground *fg, pid_t pid)
{
	siginfo_t info;
	int status;
	pid_t ended;

	for (;;) {
		ended = waitpid(pid, &status, WNOHANG);
		if (ended == pid)
			break;
		if (sigwaitinfo(&fg->signals, &info) > 0)
			pass_on(&info, pid);
	}
	return WIFSIGNALED(status) ? FOREGROUND_SIGNAL + WTERMSIG(status) :
				     WEXITSTATUS(status);
}

/* Returns 0 if the command was started; the pipe is closed by that. */
static int read_report(int fd)
{
	int err = 0;

	while (read(fd, &err, sizeof(err)) < 0 && errno == EINTR)
		;
	return err;
}

static int start(const struct foreground *fg, char **argv, char **env,
		 pid_t *pid)
{
	int ends[2], err;

	if (pipe2(ends, O_CLOEXEC))
		return errno;
	*pid = fork();
	if (!*pid)
		become(fg, argv, env, ends[1]);
	err = *pid < 0 ? errno : 0;
	close(ends[1]);
	if (!err)
		err = read_report(ends[0]);
	close(ends[0]);
	return err;
}

/**
 * foreground_run() - run a command
 * @fg:		has been prepared; no other children are running
 * @argv:	its name, which is looked for in $PATH, and its arguments
 * @env:	its environment
 * @exit_code:	gets its exit code, 128 and the number of a signal that has
 *		killed it, or after a message 126 or 127 if it cannot be run or
 *		is not there
 *
 * Return: false after a message if a signal has asked for the end before.
 */
bool foreground_run(const struct foreground *fg, char **argv, char **env,
		    int *exit_code)
{
	struct foreground own = *fg;
	int number, err;
	pid_t pid = 0;

	/* From here on a signal waits until there is a command to pass it to. */
	sigprocmask(SIG_BLOCK, &fg->signals, &own.mask);
	number = interruption_signal();
	if (number) {
		fail(EXIT_FAILED, "interrupted by signal %d (%s); '%s' was not run",
		     number, strsignal(number), argv[0]);
	} else {
		err = start(&own, argv, env, &pid);
		if (pid > 0)
			*exit_code = wait_for(&own, pid);
		if (err)
			*exit_code = fail_run(argv[0], err);
	}
	/* One that came too late for the command ends nothing any more. */
	sigprocmask(SIG_SETMASK, &own.mask, NULL);
	return !number;
}
