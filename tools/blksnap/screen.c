// SPDX-License-Identifier: GPL-2.0
/*
 * A terminal that shows one page after the other, in the same place
 */
#include <poll.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "progress.h"
#include "screen.h"

#define REFRESH_MS 1000

#define GO_HOME "\033[H"
#define CLEAR_LINE "\033[K"
#define CLEAR_REST "\033[J"

static struct {
	bool draws;		/* the standard output is a terminal */
	bool has_keys;		/* the standard input is one */
	struct termios mode;	/* of the terminal, as it was before */
	FILE *terminal;		/* while a page is printed to memory */
	char *page;
	size_t page_size;
} screen;

/**
 * screen_open() - begin to show pages
 * @may_draw:	the pages are for human readers
 */
void screen_open(bool may_draw)
{
	struct termios mode;

	screen.draws = may_draw && isatty(STDOUT_FILENO);
	screen.has_keys = screen.draws && !tcgetattr(STDIN_FILENO, &screen.mode);
	if (screen.has_keys) {
		mode = screen.mode;
		mode.c_lflag &= ~(ICANON | ECHO);
		tcsetattr(STDIN_FILENO, TCSANOW, &mode);
	}
	if (screen.draws)
		fputs(GO_HOME CLEAR_REST, stdout);
}

/**
 * screen_begin() - begin a page
 *
 * Until screen_end(), the standard output of this library is memory.
 */
void screen_begin(void)
{
	FILE *page = screen.draws ? open_memstream(&screen.page, &screen.page_size) : NULL;

	if (!page)
		return;
	screen.terminal = stdout;
	stdout = page;
}

/* What does not fit is cut, or the terminal would scroll. */
static void draw(const char *page)
{
	struct winsize size = { 0 };
	unsigned int row;
	int length;

	ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
	fputs(GO_HOME, stdout);
	for (row = 1; *page && !ferror(stdout) && (!size.ws_row || row < size.ws_row); row++) {
		length = strcspn(page, "\n");
		printf("%.*s" CLEAR_LINE "\n",
		       size.ws_col && length > size.ws_col ? size.ws_col : length, page);
		page += length + !!page[length];
	}
	if (!ferror(stdout))
		fputs(CLEAR_REST, stdout);
}

/* Ends a page, which is shown now. */
void screen_end(void)
{
	if (screen.terminal) {
		fclose(stdout);
		stdout = screen.terminal;
		screen.terminal = NULL;
		draw(screen.page);
		free(screen.page);
	}
	fflush(stdout);
}

/* Between two pages; where they are in the same place, there is nothing in between. */
void screen_separate(void)
{
	if (!screen.draws)
		putchar('\n');
}

/**
 * screen_wait() - wait until it is time for the next page
 *
 * Return: false if there is to be none: a signal came, or the key q.
 */
bool screen_wait(void)
{
	struct pollfd keys = { .fd = STDIN_FILENO, .events = POLLIN };
	char key = 0;

	if (poll(&keys, screen.has_keys, REFRESH_MS) > 0 &&
	    (read(STDIN_FILENO, &key, 1) != 1 || key == 'q'))
		return false;
	return !interruption_signal();
}

/*
 * Leaves the terminal as it was, with the last page on it.  That a signal came while a
 * page was written is no failure.
 */
void screen_close(void)
{
	if (interruption_signal()) {
		__fpurge(stdout);
		clearerr(stdout);
	}
	if (screen.has_keys)
		tcsetattr(STDIN_FILENO, TCSANOW, &screen.mode);
}
