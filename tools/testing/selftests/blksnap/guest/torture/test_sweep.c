// SPDX-License-Identifier: GPL-2.0
/*
 * Fault sweep: each allocation and each I/O of each path fails once
 *
 *	test_sweep [--filter TEXT] [--nth N] [--step N]
 *
 *	--nth N		this round of each path only, and the kernel prints where
 *			it lets something fail
 *	--step N	of each path the first 16 rounds, and then only every N-th
 *
 * For N = 1, 2, 3, ... the N-th allocation or the N-th I/O fails, until there
 * is no N-th one.  Whatever fails, the origin never shows an error and holds
 * what was written; the call either works or fails with an errno and leaves
 * nothing behind; the snapshot either holds, and then its image is right to the
 * byte, or breaks with its one event.  What is lost in memory is seen by those
 * who look after the program (find_leaks).
 *
 * Prints a table of paths, of the N that was reached, of how many faults there
 * were on the way, and of what happened.  A path whose end is not reached has
 * failed.
 *
 * Needs a kernel with fault injection (lib/debug_kernel makes one), and to save
 * half of the time slub_debug=A;-,kmemleak_object on its command line: its leak
 * detector makes an object for each that others make.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "test_sweep.h"

/* Rounds in which nothing failed, to be sure that the end is behind. */
#define ROUNDS_BEYOND 3

/* No path has as many allocations. */
#define NTH_LIMIT 5000

/* A path that is wrong is so in many rounds. */
#define FAILURES_LIMIT 10

/* What is in reserve lasts for fewer, and each may cost a fifth of a second. */
#define STORM_LIMIT 64

/* Before --step: short paths are swept without gaps. */
#define ROUNDS_WITHOUT_GAPS 16

#define OUTCOMES_MAX 10

struct outcome {
	char text[48];
	unsigned int nr;
};

static struct row {
	const char *path;
	enum fault_kind kind;
	unsigned int nth;		/* of this round */
	unsigned int last_nth;		/* the largest N that failed something */
	unsigned int nr_rounds;		/* in which something failed */
	bool is_storm;			/* the first N fail, not the N-th */
	bool has_reached_end;
	uint64_t start_ns;
	unsigned int seconds;
	struct outcome outcomes[OUTCOMES_MAX];
} row;

static unsigned int only_nth;
static unsigned int step = 1;

/* Of the round that runs. */
static struct {
	bool was_armed;
	bool was_hit;
} round_state;

unsigned int sweep_nth(void)
{
	return row.nth;
}

void sweep_arm(void)
{
	round_state.was_armed = true;
	if (row.is_storm)
		fault_arm_all(row.kind, row.nth);
	else
		fault_arm(row.kind, row.nth);
}

/* Returns whether anything has failed. */
bool sweep_disarm(void)
{
	round_state.was_hit = fault_disarm();
	return round_state.was_hit;
}

/* Count how the round went, if its fault has hit anything. */
void sweep_note(const char *format, ...)
{
	struct outcome *outcome = row.outcomes;
	char text[sizeof(outcome->text)];
	va_list args;

	if (!round_state.was_hit)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	while (outcome->nr && strcmp(outcome->text, text))
		outcome++;
	if (outcome == &row.outcomes[OUTCOMES_MAX - 1])
		snprintf(text, sizeof(text), "other");
	strcpy(outcome->text, text);
	outcome->nr++;
}

/* The same for a call that works or fails; without a fault it may not fail. */
void sweep_note_result(int ret)
{
	if (ret >= 0) {
		sweep_note("ok despite fault");
		return;
	}
	sweep_note("%s", strerrorname_np(-ret));
	if (!round_state.was_hit)
		FAIL("failed without a fault: %s", strerror(-ret));
}

static void sweep_begin(const char *path, enum fault_kind kind)
{
	memset(&row, 0, sizeof(row));
	row.path = path;
	row.kind = kind;
	row.start_ns = now_ns();
}

static void sweep_round(sweep_fn round)
{
	ktap_context("%s, N=%u", row.path, row.nth);
	memset(&round_state, 0, sizeof(round_state));
	round();
	if (!round_state.was_hit)
		return;
	row.last_nth = row.nth;
	row.nr_rounds++;
}

/* A table for the reader; ../run shows lines that begin like this. */
static void print_row(void)
{
	static bool has_head;
	const struct outcome *outcome;

	if (!has_head)
		printf("# | %-32s | %-18s | %4s | %4s | %4s | outcomes\n", "path",
		       "what fails", "N to", "hits", "s");
	has_head = true;
	printf("# | %-32s | %-18s | %4u | %4u | %4u | ", row.path,
	       fault_kind_name(row.kind), row.last_nth, row.nr_rounds, row.seconds);
	for (outcome = row.outcomes; outcome->nr; outcome++)
		printf("%s%s x%u", outcome == row.outcomes ? "" : ", ",
		       outcome->text, outcome->nr);
	if (!row.outcomes[0].nr)
		printf("nothing to fail");
	printf("%s\n", row.has_reached_end ? "" : ", END NOT REACHED");
	fflush(stdout);
}

static void sweep_end(void)
{
	row.seconds = (now_ns() - row.start_ns) / 1000000000;
	ktap_context("%s", row.path);
	EXPECT(row.has_reached_end);
	ktap_context("%s", "");
	print_row();
}

/* Behind the end, one by one: a gap would not be one. */
static void sweep_next(void)
{
	bool has_gaps = row.nr_rounds >= ROUNDS_WITHOUT_GAPS && round_state.was_hit;

	row.nth += has_gaps ? step : 1;
}

/**
 * sweep_run_from() - sweep the rest of a path
 * @first:	N of the first round
 * @path:	its name in the table
 * @kind:	of the faults
 * @round:	one try, which calls sweep_arm() and sweep_disarm() once
 */
void sweep_run_from(unsigned int first, const char *path, enum fault_kind kind,
		    sweep_fn round)
{
	unsigned int nr_beyond = 0;

	sweep_begin(path, kind);
	row.nth = only_nth ? only_nth : first;
	for (; row.nth <= NTH_LIMIT && !row.has_reached_end; sweep_next()) {
		sweep_round(round);
		nr_beyond = round_state.was_hit ? 0 : nr_beyond + 1;
		if (!round_state.was_armed || ktap_failures() >= FAILURES_LIMIT)
			break;
		row.has_reached_end = nr_beyond == ROUNDS_BEYOND || only_nth;
	}
	sweep_end();
}

/**
 * sweep_run() - sweep one path, from its first allocation or I/O to its last
 * @path:	its name in the table
 * @kind:	of the faults
 * @round:	one try, which calls sweep_arm() and sweep_disarm() once
 */
void sweep_run(const char *path, enum fault_kind kind, sweep_fn round)
{
	sweep_run_from(1, path, kind, round);
}

/**
 * sweep_run_storm() - let not one fail but many at once
 * @path:	its name in the table
 * @kind:	of the faults, not FAULT_TASK
 * @round:	as for sweep_run(); its fault is that the next N fail, all of them
 */
void sweep_run_storm(const char *path, enum fault_kind kind, sweep_fn round)
{
	sweep_begin(path, kind);
	row.is_storm = true;
	for (row.nth = 1; row.nth <= STORM_LIMIT; row.nth *= 2) {
		sweep_round(round);
		EXPECT(round_state.was_hit);
		if (ktap_failures() >= FAILURES_LIMIT)
			break;
	}
	row.has_reached_end = row.nth > STORM_LIMIT;
	sweep_end();
}

static void set_up(void)
{
	ctl_set_up();
	world_begin();
}

static void tear_down(void)
{
	fault_disarm();
	fault_mark_kernel_threads(false);
	fault_mark_self(false);
	world_mark_disks(false);
	world_end();
	ctl_tear_down();
}

/* Leaves the module loaded for those who come later. */
static void module_tear_down(void)
{
	fault_disarm();
	if (ctl >= 0)
		ctl_tear_down();
	if (!module_is_loaded())
		module_load(SWEEP_PARAMETERS);
}

static const struct ktap_suite suites[] = {
	{ "control", set_up, tear_down, control_tests },
	{ "io", set_up, tear_down, io_tests },
	{ "storm", set_up, tear_down, storm_tests },
	{ "module", NULL, module_tear_down, module_tests },
	{ NULL, NULL, NULL, NULL }
};

int main(int argc, char **argv)
{
	const char *reason;
	int i, ret;

	for (i = 1; i + 1 < argc; i++) {
		if (!strcmp(argv[i], "--nth"))
			only_nth = atoi(argv[i + 1]);
		if (!strcmp(argv[i], "--step") && atoi(argv[i + 1]) > 0)
			step = atoi(argv[i + 1]);
	}
	tests_need_module();
	if (module_unload() || module_load(SWEEP_PARAMETERS))
		ktap_skip_all("the module cannot be loaded anew");
	reason = fault_set_up();
	if (reason)
		ktap_skip_all("%s", reason);
	if (only_nth)
		fault_show();
	/* Pages of ours that come late would be counted. */
	if (mlockall(MCL_CURRENT | MCL_FUTURE))
		ktap_skip_all("memory cannot be locked");
	reason = world_set_up();
	if (reason)
		ktap_skip_all("%s", reason);
	ret = ktap_main(suites, argc, argv);
	world_tear_down();
	fault_tear_down();
	/* Nobody may have kept one of the disks open. */
	if (access("/sys/module/null_blk/holders", F_OK) || !shell("rmmod null_blk"))
		return ret;
	ktap_note("null_blk is still in use");
	return KTAP_FAIL;
}
