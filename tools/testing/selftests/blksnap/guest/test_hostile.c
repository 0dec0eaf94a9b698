// SPDX-License-Identifier: GPL-2.0
/*
 * Hostile callers
 *
 *	test_hostile [--seed S] [--fast] [--filter TEXT]
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "test_hostile.h"

void hostile_set_up(void)
{
	ctl_set_up();
}

void hostile_tear_down(void)
{
	ctl_tear_down();
}

#define SUITE(suite) { #suite, hostile_set_up, hostile_tear_down, suite##_tests }

static const struct ktap_suite suites[] = {
	SUITE(slow),
	{ NULL, NULL, NULL, NULL }
};

int main(int argc, char **argv)
{
	tests_need_module();
	if (module_unload() || module_load(HOSTILE_PARAMETERS))
		ktap_skip_all("the module cannot be loaded anew");
	return ktap_main(suites, argc, argv);
}
