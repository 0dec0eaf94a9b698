/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Threads
 */
#ifndef THREAD_H
#define THREAD_H

#include <pthread.h>

int thread_start(pthread_t *thread, void *(*run)(void *arg), void *arg);

#endif /* THREAD_H */
