// SPDX-License-Identifier: GPL-2.0
/*
 * One user of a disk does not wait for another
 *
 *	test_kind [--fast] [--seed S] [--filter TEXT]
 *
 * A slow reader of an image, a slow storage, a cgroup with a low limit or a device
 * that has stopped completing must delay no writer of the origin and no caller of
 * the module.
 */
#include "test_kind.h"

static const struct ktap_suite suites[] = {
	{ "read", kind_set_up, kind_tear_down, read_tests },
	{ "store", kind_set_up, kind_tear_down, store_tests },
	{ "weight", kind_set_up, weight_tear_down, weight_tests },
	{ "stuck", kind_set_up, kind_tear_down, stuck_tests },
	{ "number", kind_set_up, number_tear_down, number_tests },
	{ NULL, NULL, NULL, NULL }
};

int main(int argc, char **argv)
{
	tests_need_module();
	return ktap_main(suites, argc, argv);
}
