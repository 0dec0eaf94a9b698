/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Progress, rate limit and interruption of a long copy
 *
 * On a terminal a bar is drawn on the standard error, elsewhere a line is
 * printed now and then.  One copy runs at a time.
 */
#ifndef PROGRESS_H
#define PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
	const char *title;
	uint64_t total_bytes;
	uint64_t limit_bytes;	/* per second, 0 for none */
	bool quiet;
	uint64_t done_bytes;
	int64_t begin_ns;
	int64_t shown_ns;
	bool drawn;
};

void interruption_prepare(void);
int interruption_signal(void);
int interruption_check(void);

void progress_begin(struct progress *progress, const char *title,
		    uint64_t total_bytes);
int progress_add(struct progress *progress, uint64_t nr_bytes);
void progress_end(struct progress *progress);

#endif /* PROGRESS_H */
