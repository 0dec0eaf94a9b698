// SPDX-License-Identifier: GPL-2.0
/*
 * Progress, rate limit and interruption of a long copy
 */
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "message.h"
#include "parse.h"
#include "progress.h"
#include "util.h"

#define NSEC_PER_SEC 1000000000LL

/* Often enough for the eye; a log wants fewer lines. */
#define BAR_INTERVAL_NS (NSEC_PER_SEC / 5)
#define LINE_INTERVAL_NS (10 * NSEC_PER_SEC)

/* A sleep that the limit asks for is cut so that an interruption is seen. */
#define SLEEP_MAX_NS (NSEC_PER_SEC / 10)

#define BAR_WIDTH 30

static atomic_int interrupted_by;

static void interrupt(int number)
{
	interrupted_by = number;
}

/**
 * interruption_prepare() - let signals end the work in good order
 *
 * Without SA_RESTART: calls that wait return EINTR.
 */
void interruption_prepare(void)
{
	static const int signals[] = { SIGINT, SIGQUIT, SIGTERM, SIGHUP };
	struct sigaction action = { .sa_handler = interrupt };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(signals); i++)
		sigaction(signals[i], &action, NULL);
	signal(SIGPIPE, SIG_IGN);
}

/**
 * interruption_signal() - has a signal asked for the end?
 *
 * Return: its number, 0 if none has.
 */
int interruption_signal(void)
{
	return interrupted_by;
}

/**
 * interruption_check() - end the work if a signal asks for it
 *
 * Return: EXIT_OK; EXIT_FAILED if one does, after a message at the first time.
 */
int interruption_check(void)
{
	static bool is_told;

	if (!interrupted_by)
		return EXIT_OK;
	if (!is_told)
		fail(EXIT_FAILED, "interrupted by signal %d (%s)",
		     (int)interrupted_by, strsignal(interrupted_by));
	is_told = true;
	return EXIT_FAILED;
}

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * NSEC_PER_SEC + now.tv_nsec;
}

/**
 * progress_begin() - begin a copy
 * @progress:		limit_bytes and quiet are set
 * @title:		what is copied, kept until the end
 * @total_bytes:	how much there is to do
 */
void progress_begin(struct progress *progress, const char *title,
		    uint64_t total_bytes)
{
	progress->title = title;
	progress->total_bytes = total_bytes;
	progress->done_bytes = 0;
	progress->begin_ns = now_ns();
	progress->shown_ns = progress->begin_ns;
	progress->drawn = false;
}

static void draw_bar(const struct progress *progress, unsigned int percent,
		     const char *state)
{
	char bar[BAR_WIDTH + 1];
	unsigned int filled = percent * BAR_WIDTH / 100;

	memset(bar, '.', BAR_WIDTH);
	memset(bar, '#', filled);
	bar[BAR_WIDTH] = 0;
	fprintf(stderr, "\r%s [%s] %3u%%  %s\033[K", progress->title, bar,
		percent, state);
	fflush(stderr);
}

static void show(struct progress *progress, int64_t now)
{
	const uint64_t total = progress->total_bytes;
	const uint64_t done = progress->done_bytes;
	unsigned int percent = total ? 100.0 * done / total : 100;
	double seconds = (double)(now - progress->begin_ns) / NSEC_PER_SEC;
	double rate = seconds > 0 ? done / seconds : 0;
	uint64_t left = rate > 0 ? (total - done) / rate : 0;
	char done_text[SIZE_TEXT_SIZE], total_text[SIZE_TEXT_SIZE];
	char rate_text[SIZE_TEXT_SIZE], state[160];

	format_size(done, done_text);
	format_size(total, total_text);
	format_size(rate, rate_text);
	snprintf(state, sizeof(state), "%s of %s, %s/s, %ju:%02ju left",
		 done_text, total_text, rate_text, (uintmax_t)left / 60,
		 (uintmax_t)left % 60);
	if (isatty(STDERR_FILENO))
		draw_bar(progress, percent, state);
	else
		fprintf(stderr, "%s: %u%%, %s\n", progress->title, percent,
			state);
	progress->shown_ns = now;
	progress->drawn = true;
}

/* Sleeps until so much may have been done. */
static void keep_limit(const struct progress *progress)
{
	struct timespec sleep = { 0 };
	int64_t due_ns, left_ns;

	due_ns = progress->begin_ns +
		 (double)progress->done_bytes / progress->limit_bytes *
		 NSEC_PER_SEC;
	for (;;) {
		left_ns = due_ns - now_ns();
		if (left_ns <= 0 || interrupted_by)
			return;
		sleep.tv_nsec = left_ns < SLEEP_MAX_NS ? left_ns : SLEEP_MAX_NS;
		nanosleep(&sleep, NULL);
	}
}

/**
 * progress_add() - account for a piece that is done
 * @progress:	the copy
 * @nr_bytes:	size of the piece
 *
 * Return: EXIT_OK; EXIT_FAILED after a message if a signal asks for the end.
 */
int progress_add(struct progress *progress, uint64_t nr_bytes)
{
	int64_t now;

	progress->done_bytes += nr_bytes;
	if (progress->limit_bytes)
		keep_limit(progress);
	now = now_ns();
	if (!progress->quiet &&
	    now - progress->shown_ns >= (isatty(STDERR_FILENO) ?
					 BAR_INTERVAL_NS : LINE_INTERVAL_NS))
		show(progress, now);
	if (interrupted_by)
		progress_end(progress);
	return interruption_check();
}

/**
 * progress_end() - finish the bar if one was drawn
 * @progress:	the copy
 */
void progress_end(struct progress *progress)
{
	if (!progress->drawn)
		return;
	if (isatty(STDERR_FILENO))
		fputs("\r\033[K", stderr);
	progress->drawn = false;
}
