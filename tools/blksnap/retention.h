/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Which points are to be kept
 *
 * A rule keeps the newest layer of each of the last N hours, days and so on in
 * which there is one, or the last N themselves.  Each disk is judged by itself, so
 * a disk that is not backed up any more keeps its last points, too.  A layer that
 * no rule keeps is to go.  The newest layer of a disk is kept by every rule.
 *
 * Each rule is applied once to all layers, and once to those that are not damaged as
 * far as is known.  So the newest that can be restored is kept by every rule, too,
 * and a damaged one stays as long as it would otherwise.
 */
#ifndef RETENTION_H
#define RETENTION_H

#include <stdbool.h>
#include <stdint.h>

#include "catalogue.h"

enum retention_rule {
	RETENTION_LAST,
	RETENTION_HOURLY,
	RETENTION_DAILY,
	RETENTION_WEEKLY,
	RETENTION_MONTHLY,
	RETENTION_YEARLY,
	NR_RETENTION_RULES,
};

struct retention {
	uint64_t count[NR_RETENTION_RULES];	/* 0: no such rule */
};

bool retention_is_empty(const struct retention *retention);
void retention_apply(const struct retention *retention,
		     struct catalogue *catalogue);
const char *retention_rule_name(enum retention_rule rule);

#endif /* RETENTION_H */
