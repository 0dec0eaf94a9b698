// SPDX-License-Identifier: GPL-2.0
/*
 * Difference storage that is full, slow, broken, or on the origin itself
 *
 *	test_storage [--table FILE] [--seconds N] [--fast] [--seed S]
 *		[--filter TEXT]
 *	test_storage --device DISK --storage DISK [--seed S] [--filter TEXT]
 *
 * What can be wrong with a storage costs the image at most, never the origin.
 * A test brings a failure about (see test_storage.h how) and looks at all that
 * is told and kept: the events with their errno, the attributes and the log; the
 * image byte for byte, or EIO from all of it; the origin byte for byte; who is
 * held, what is in memory, and the change map of the snapshot that follows.
 *
 * --table names the documentation, whose table "What fails how" has to have
 * exactly the rows that the tests of this program have gone through.
 *
 * With --device and --storage, disks whose contents are lost, only the tests of
 * a machine without memory are run; see suites.sh for such a machine.
 */
#include <stdlib.h>
#include <string.h>

#include "test_storage.h"

static const struct ktap_suite suites[] = {
	{ "full", rig_set_up, rig_tear_down, full_tests },
	{ "low", rig_set_up, rig_tear_down, low_tests },
	{ "fill", fill_set_up, fill_tear_down, fill_tests },
	{ "own", rig_set_up, own_tear_down, own_tests },
	{ "pin", rig_set_up, pin_tear_down, pin_tests },
	{ "owner", rig_set_up, owner_tear_down, owner_tests },
	{ "admin", rig_set_up, admin_tear_down, admin_tests },
	{ "slow", rig_set_up, slow_tear_down, slow_tests },
	{ "error", rig_set_up, error_tear_down, error_tests },
	{ "image", rig_set_up, rig_tear_down, image_tests },
	{ "row", rig_set_up, row_tear_down, row_tests },
	{ "table", NULL, NULL, table_tests },
	{ NULL, NULL, NULL, NULL }
};

const char *table_path;

static const struct ktap_suite pressure_suites[] = {
	{ "pressure", pressure_set_up, pressure_tear_down, pressure_tests },
	{ NULL, NULL, NULL, NULL }
};

static void parse_paths(int argc, char **argv)
{
	int i;

	for (i = 1; i + 1 < argc; i++) {
		if (!strcmp(argv[i], "--table"))
			table_path = argv[i + 1];
		else if (!strcmp(argv[i], "--device"))
			pressure_origin_path = argv[i + 1];
		else if (!strcmp(argv[i], "--storage"))
			pressure_storage_path = argv[i + 1];
		else if (!strcmp(argv[i], "--seconds"))
			admin_seconds = atoi(argv[i + 1]);
	}
}

int main(int argc, char **argv)
{
	int ret;

	parse_paths(argc, argv);
	tests_need_module();
	if (!kernel_module_load("dm-mod"))
		ktap_skip_all("no device mapper to make gates of");
	if (module_unload() || module_load(STORAGE_PARAMETERS))
		ktap_skip_all("the module cannot be loaded with parameters");
	ret = ktap_main(pressure_origin_path ? pressure_suites : suites, argc, argv);
	module_unload();
	module_load("");
	return ret;
}
