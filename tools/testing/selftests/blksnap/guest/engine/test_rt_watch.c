// SPDX-License-Identifier: GPL-2.0
/*
 * Another tracer of submit_bio_noacct(), and a watch on sleeping locks
 *
 * If a function has two users of ftrace, both are called with preemption disabled.
 * On PREEMPT_RT a spinlock_t may not be taken there, but the kernel complains only
 * if the lock is contended.  So a probe counts each attempt, by its stack.
 */
#include "test_rt.h"

#define TRACING "/sys/kernel/tracing/"
#define LOCK_EVENT TRACING "events/blksnap/lock/"

/* All probes belong to one event, so they share a histogram. */
static bool watch_locks(void)
{
	static const char * const locks[] = {
		"rt_spin_lock", "rt_read_lock", "rt_write_lock", "mutex_lock",
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(locks); i++)
		if (shell("echo 'p:blksnap/lock %s' >>" TRACING "kprobe_events",
			  locks[i]))
			return false;
	/* The lower half is the depth of preempt_disable() alone. */
	return !shell("echo 'hist:keys=stacktrace if common_preempt_count & 15' >"
		      LOCK_EVENT "trigger");
}

bool watch_start_kprobe(void)
{
	return watch_locks() &&
	       !shell("echo 'p:blksnap/submit submit_bio_noacct' >>" TRACING "kprobe_events") &&
	       write_text(TRACING "events/blksnap/submit/enable", "1");
}

bool watch_start_function(void)
{
	return watch_locks() &&
	       write_text(TRACING "set_ftrace_filter", "submit_bio_noacct\n") &&
	       write_text(TRACING "current_tracer", "function");
}

/* Opening a file for ">" is what empties it. */
void watch_stop(void)
{
	static const char * const emptied[] = {
		"set_ftrace_filter", "events/blksnap/lock/trigger",
		"kprobe_events", "trace",
	};
	unsigned int i;

	write_text(TRACING "current_tracer", "nop");
	write_text(TRACING "events/blksnap/submit/enable", "0");
	for (i = 0; i < ARRAY_SIZE(emptied); i++)
		shell("echo 2>/dev/null >" TRACING "%s", emptied[i]);
}

void watch_expect_nothing(void)
{
	EXPECT(!shell("grep -qm 1 submit_bio_noacct " TRACING "trace"));
	if (shell("grep -q 'Hits: 0$' " LOCK_EVENT "hist")) {
		FAIL("sleeping locks were taken with preemption disabled");
		/* The most frequent ones come last. */
		shell("tail -n 60 " LOCK_EVENT "hist | sed 's/^/# /'");
	}
}
