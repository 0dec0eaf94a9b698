// SPDX-License-Identifier: GPL-2.0
/*
 * What lives of the module leave behind: no memory
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "test_life.h"

static const struct memory_field {
	const char *name;
	long tolerance_kib;	/* what others may take meanwhile */
} memory_fields[] = {
	{ "MemFree", 4096 },
	{ "Slab", 2048 },
	{ "SUnreclaim", 2048 },
	{ "Percpu", 256 },
	{ "VmallocUsed", 512 },
	{ "KernelStack", 512 },
};

#define NR_FIELDS ARRAY_SIZE(memory_fields)

/* What is left when everything that can be given back is. */
static void read_memory(long *kib)
{
	unsigned int i;
	char line[200];
	FILE *file;

	sync();
	for (i = 0; i < 3; i++) {
		write_text("/proc/sys/vm/drop_caches", "3");
		sleep_ms(300);
	}
	file = fopen("/proc/meminfo", "r");
	ASSERT(file);
	while (fgets(line, sizeof(line), file))
		for (i = 0; i < NR_FIELDS; i++)
			if (!strncmp(line, memory_fields[i].name,
				     strlen(memory_fields[i].name)) &&
			    line[strlen(memory_fields[i].name)] == ':')
				kib[i] = atol(strchr(line, ':') + 1);
	fclose(file);
}

static void one_life(void)
{
	struct snapshot snapshot;

	ASSERT_EQ(module_load(""), 0);
	ctl_set_up();
	snapshot_now(&snapshot, &origin, &storage);
	ASSERT(fill_direct(origin.path, 1, 2 * MIB, 0));
	ASSERT(fill_direct(image_of(&snapshot, &origin), 2, MIB, 4 * MIB));
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	close_ctl();
	ASSERT_OK(unload());
}

/*
 * The machine is started with slab_nomerge: a cache that others share stays, under
 * the name of who made it first.
 */
static bool slab_has_our_caches(void)
{
	return !shell("grep -q blksnap /proc/slabinfo");
}

static void test_rounds_of_life_leave_no_memory_behind(void)
{
	long before[NR_FIELDS] = { 0 }, after[NR_FIELDS] = { 0 };
	unsigned int i;

	if (!access("/sys/kernel/debug/kmemleak", F_OK)) {
		ktap_skip("a debug kernel keeps freed memory back; kmemleak tells");
		return;
	}
	/* MemFree does not count what the processors keep to themselves. */
	write_text("/proc/sys/vm/percpu_pagelist_high_fraction", "1000000");
	/* Disks get their memory, caches their size. */
	ASSERT(fill_direct(origin.path, 1, DISK_MIB * MIB, 0));
	ASSERT(fill_direct(storage.path, 1, storage.nr_bytes, 0));
	close_ctl();
	ASSERT_OK(unload());
	for (i = 0; i < 5; i++)
		one_life();
	read_memory(before);
	for (i = 0; i < nr_lives; i++)
		one_life();
	read_memory(after);
	EXPECT(!slab_has_our_caches());
	ktap_note("%u lives: load, track, snapshot, write, destroy, unload:",
		  nr_lives);
	for (i = 0; i < NR_FIELDS; i++) {
		long lost = i ? after[i] - before[i] : before[i] - after[i];

		ktap_note("  %-12s %7ld KiB before, %7ld KiB after",
			  memory_fields[i].name, before[i], after[i]);
		EXPECT(lost <= memory_fields[i].tolerance_kib);
	}
}

const struct ktap_test memory_tests[] = {
	KTAP_TEST(test_rounds_of_life_leave_no_memory_behind),
	KTAP_END
};
