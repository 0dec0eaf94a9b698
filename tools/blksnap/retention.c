// SPDX-License-Identifier: GPL-2.0
/*
 * Which points are to be kept
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "retention.h"

#define PERIOD_TEXT_SIZE 32

static const struct {
	const char *name;
	const char *period;	/* for strftime(); NULL: each is one by itself */
} rules[NR_RETENTION_RULES] = {
	[RETENTION_LAST] = { "last", NULL },
	[RETENTION_HOURLY] = { "hourly", "%Y-%m-%d %H %z" },
	[RETENTION_DAILY] = { "daily", "%Y-%m-%d" },
	[RETENTION_WEEKLY] = { "weekly", "%G-%V" },
	[RETENTION_MONTHLY] = { "monthly", "%Y-%m" },
	[RETENTION_YEARLY] = { "yearly", "%Y" },
};

/* How far one rule has come, on its way from the newest point to the oldest. */
struct walk {
	uint64_t left;
	char period[PERIOD_TEXT_SIZE];
};

/**
 * retention_is_empty() - is there no rule at all?
 * @retention:	the rules
 *
 * Return: true if nothing would be kept.
 */
bool retention_is_empty(const struct retention *retention)
{
	size_t i;

	for (i = 0; i < NR_RETENTION_RULES; i++) {
		if (retention->count[i])
			return false;
	}
	return true;
}

/**
 * retention_rule_name() - how a rule is called
 * @rule:	the rule
 *
 * Return: what stands behind "--keep-".
 */
const char *retention_rule_name(enum retention_rule rule)
{
	return rules[rule].name;
}

static void format_period(enum retention_rule rule,
			  const struct catalogue_point *point,
			  char text[PERIOD_TEXT_SIZE])
{
	const time_t when = point->time;
	struct tm tm;

	if (rules[rule].period)
		strftime(text, PERIOD_TEXT_SIZE, rules[rule].period,
			 localtime_r(&when, &tm));
	else
		snprintf(text, PERIOD_TEXT_SIZE, "%ju",
			 (uintmax_t)point->number);
}

static bool rule_keeps(enum retention_rule rule, struct walk *walk,
		       const struct catalogue_point *point)
{
	char period[PERIOD_TEXT_SIZE];

	if (!walk->left)
		return false;
	format_period(rule, point, period);
	if (!strcmp(period, walk->period))
		return false;
	strcpy(walk->period, period);
	walk->left--;
	return true;
}

/* @nr_points: the first points of the catalogue; the disk is in none behind */
static void apply_to_disk(const struct retention *retention,
			  struct catalogue *catalogue, const char *name,
			  size_t nr_points, bool with_damaged)
{
	struct walk walks[NR_RETENTION_RULES] = { 0 };
	struct catalogue_disk *disk;
	size_t i, rule;

	for (rule = 0; rule < NR_RETENTION_RULES; rule++)
		walks[rule].left = retention->count[rule];
	for (i = nr_points; i--;) {
		disk = catalogue_find_disk(&catalogue->points[i], name);
		if (!disk || (disk->damaged && !with_damaged))
			continue;
		for (rule = 0; rule < NR_RETENTION_RULES; rule++) {
			if (rule_keeps(rule, &walks[rule],
				       &catalogue->points[i]))
				disk->kept_by |= 1U << rule;
		}
	}
}

static void find_damaged(struct catalogue *catalogue)
{
	struct catalogue_disk *disk;
	size_t i, j;

	for (i = 0; i < catalogue->nr_points; i++) {
		for (j = 0; j < catalogue->points[i].nr_disks; j++) {
			disk = &catalogue->points[i].disks[j];
			disk->damaged = catalogue_layer_damage(catalogue, disk);
		}
	}
}

/**
 * retention_apply() - decide which layers are kept
 * @retention:	the rules, of which there is one at least
 * @catalogue:	all its layers get their kept_by: a bit for each rule; and whether
 *		they are damaged
 */
void retention_apply(const struct retention *retention,
		     struct catalogue *catalogue)
{
	const struct catalogue_point *point;
	uint64_t newest;
	const char *name;
	size_t i, j;

	find_damaged(catalogue);
	for (i = catalogue->nr_points; i--;) {
		point = &catalogue->points[i];
		for (j = 0; j < point->nr_disks; j++) {
			name = point->disks[j].disk;
			catalogue_newest_disk(catalogue, name, &newest);
			if (newest != point->number)
				continue;
			apply_to_disk(retention, catalogue, name, i + 1, true);
			apply_to_disk(retention, catalogue, name, i + 1, false);
		}
	}
}
