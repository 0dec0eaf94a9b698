/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Faults on demand: let the N-th allocation or the N-th I/O fail
 *
 * A kernel with CONFIG_FAULT_INJECTION counts what could fail and lets one of
 * them fail.  Who and what is counted is the kind of the fault; everybody else
 * goes on undisturbed.
 *
 * The kernel counts in one place for all, so only one fault is armed at a time.
 */
#ifndef FAULT_H
#define FAULT_H

#include <stdbool.h>

#include "blksnap_test.h"

/**
 * enum fault_kind - what is counted, and fails
 * @FAULT_TASK:	allocations of the thread that arms the fault
 * @FAULT_SLAB:	objects that marked threads allocate
 * @FAULT_PAGE:	pages that marked threads allocate
 * @FAULT_IO:	bios to disks and partitions chosen by fault_mark_disk()
 */
enum fault_kind {
	FAULT_TASK,
	FAULT_SLAB,
	FAULT_PAGE,
	FAULT_IO,
};

const char *fault_kind_name(enum fault_kind kind);

const char *fault_set_up(void);
void fault_tear_down(void);
void fault_show(void);

void fault_mark_kernel_threads(bool is_marked);
void fault_mark_self(bool is_marked);
void fault_mark_disk(const struct disk *disk, bool is_marked);

void fault_arm(enum fault_kind kind, unsigned int nth);
void fault_arm_all(enum fault_kind kind, unsigned int nr_faults);
unsigned int fault_disarm(void);

void fault_count_begin(void);
unsigned int fault_count_end(void);

#endif /* FAULT_H */
