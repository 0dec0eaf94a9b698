// SPDX-License-Identifier: GPL-2.0
/*
 * How many calls were made, and what came of them
 *
 * The numbers are in memory that all processes of the test share, so those of a
 * process that was killed count, too.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "test_hostile.h"

#define MAX_ERRNO 134

static const char *const kind_names[NR_CALL_KINDS] = {
	"VERSION", "TRACKER_REMOVE", "TRACKER_COLLECT", "TRACKER_READ_CBT_MAP",
	"TRACKER_MARK_DIRTY_BLOCKS", "SNAPSHOT_CREATE", "SNAPSHOT_DESTROY",
	"SNAPSHOT_APPEND_STORAGE", "SNAPSHOT_TAKE", "SNAPSHOT_COLLECT",
	"SNAPSHOT_COLLECT_IMAGES", "SNAPSHOT_WAIT_EVENT", "(unknown)",
};

static struct {
	atomic_ullong counts[NR_CALL_KINDS][MAX_ERRNO];
	atomic_llong nr_left;
	atomic_ullong deadline_ns;
	atomic_uint nr_complaints;
} *stats;

void stats_set_up(void)
{
	stats = mmap(NULL, sizeof(*stats), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (stats == MAP_FAILED)
		exit(KTAP_FAIL);
}

void stats_clear(void)
{
	memset(stats->counts, 0, sizeof(stats->counts));
	atomic_store(&stats->nr_complaints, 0);
}

/* From now on so many calls, for so long; 0 seconds are no limit. */
void stats_start(uint64_t nr_calls, unsigned int max_seconds)
{
	atomic_store(&stats->nr_left, nr_calls);
	atomic_store(&stats->deadline_ns,
		     max_seconds ? now_ns() + max_seconds * 1000000000ULL :
				   UINT64_MAX);
}

/* May one more call be made? */
bool stats_take_turn(void)
{
	return now_ns() < atomic_load(&stats->deadline_ns) &&
	       atomic_fetch_sub(&stats->nr_left, 1) > 0;
}

bool stats_is_over(void)
{
	return now_ns() >= atomic_load(&stats->deadline_ns) ||
	       atomic_load(&stats->nr_left) <= 0;
}

void stats_count(unsigned int kind, int ret)
{
	int error = ret < 0 ? -ret : 0;

	atomic_fetch_add(&stats->counts[kind][error < MAX_ERRNO ? error :
							MAX_ERRNO - 1], 1);
}

uint64_t stats_nr(unsigned int kind, int error)
{
	return atomic_load(&stats->counts[kind][error]);
}

static uint64_t stats_nr_of_kind(unsigned int kind)
{
	uint64_t nr = 0;
	int error;

	for (error = 0; error < MAX_ERRNO; error++)
		nr += stats_nr(kind, error);
	return nr;
}

uint64_t stats_total(void)
{
	unsigned int kind;
	uint64_t nr = 0;

	for (kind = 0; kind < NR_CALL_KINDS; kind++)
		nr += stats_nr_of_kind(kind);
	return nr;
}

/* Returns how many there were before. */
unsigned int stats_add_complaint(void)
{
	return atomic_fetch_add(&stats->nr_complaints, 1);
}

uint64_t nr_complaints(void)
{
	return atomic_load(&stats->nr_complaints);
}

static void print_kind(unsigned int kind)
{
	uint64_t nr_ok = stats_nr(kind, 0);
	char text[400];
	size_t length;
	int error;

	length = snprintf(text, sizeof(text), "%-26s%9llu: %llu ok",
			  kind_names[kind],
			  (unsigned long long)stats_nr_of_kind(kind),
			  (unsigned long long)nr_ok);
	for (error = 1; error < MAX_ERRNO; error++)
		if (stats_nr(kind, error) && length < sizeof(text))
			length += snprintf(text + length, sizeof(text) - length,
					   ", %llu %s",
					   (unsigned long long)stats_nr(kind, error),
					   strerrorname_np(error) ?: "other");
	ktap_note("%s", text);
}

void stats_print(const char *title)
{
	uint64_t nr_ok = 0, total = stats_total();
	unsigned int kind;

	for (kind = 0; kind < NR_CALL_KINDS; kind++)
		nr_ok += stats_nr(kind, 0);
	ktap_note("%s: %llu calls, %llu %% of them succeeded", title,
		  (unsigned long long)total,
		  (unsigned long long)(total ? nr_ok * 100 / total : 0));
	for (kind = 0; kind < NR_CALL_KINDS; kind++)
		print_kind(kind);
}
