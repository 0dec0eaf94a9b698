// SPDX-License-Identifier: GPL-2.0
/*
 * Which calls and writers wait for which others
 *
 *	test_waits [--seed S] [--filter TEXT] [--fast]
 *
 * A snapshot involves many users that have nothing in common: writers of
 * its disks, containers with little bandwidth, agents that look after other
 * disks, a disk that hangs.  Here some are slow or hang for ever, and the others
 * are watched: they may not wait longer than they would without a snapshot.
 */
#include "test_waits.h"

static const struct ktap_suite suites[] = {
	{ "start", ctl_set_up, waits_tear_down, start_tests },
	{ "take", ctl_set_up, waits_tear_down, take_tests },
	{ "hung", ctl_set_up, waits_tear_down, hung_tests },
	{ "freeze", ctl_set_up, waits_tear_down, freeze_tests },
	{ "open", ctl_set_up, open_tear_down, open_tests },
	{ "landing", ctl_set_up, landing_tear_down, landing_tests },
	{ NULL, NULL, NULL, NULL }
};

int main(int argc, char **argv)
{
	tests_need_module();
	return ktap_main(suites, argc, argv);
}
