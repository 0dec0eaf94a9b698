// SPDX-License-Identifier: GPL-2.0
/*
 * Threads
 */
#include <signal.h>

#include "message.h"
#include "thread.h"

/**
 * thread_start() - start a thread that gets no signals
 * @thread:	gets it
 * @run:	what it does
 * @arg:	its argument
 *
 * Signals are for the main thread: they end what it waits for.
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int thread_start(pthread_t *thread, void *(*run)(void *arg), void *arg)
{
	sigset_t all, before;
	int err;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(thread, NULL, run, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return err ? fail_errno(err, "cannot start a thread") : EXIT_OK;
}
