/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A command of the user's, which is waited for
 *
 * It has our standard input and output, and is in our process group, so a
 * terminal treats it as if it had been started without us.  Signals that ask us to
 * end are passed on to it, and we wait until it has ended.
 */
#ifndef FOREGROUND_H
#define FOREGROUND_H

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

/* As coreutils and shells have it. */
enum {
	FOREGROUND_CANNOT_RUN = 126,
	FOREGROUND_NOT_FOUND = 127,
	FOREGROUND_SIGNAL = 128,	/* and its number */
};

struct foreground {
	sigset_t signals;	/* that are waited for */
	sigset_t mask;		/* as it was before */
	struct sigaction pipe_action;
};

void foreground_prepare(struct foreground *fg);
bool foreground_run(const struct foreground *fg, char **argv, char **env,
		    int *exit_code);

#endif /* FOREGROUND_H */
