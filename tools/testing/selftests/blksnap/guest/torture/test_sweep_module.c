// SPDX-License-Identifier: GPL-2.0
/*
 * Fault sweep over loading and unloading of the module
 *
 * The kernel allocates much before it calls the module for the first time.
 * That is the kernel's own affair; the sweep begins a little before it calls.
 * Where that is, a load with a wrong parameter tells: it is refused before the
 * module has allocated anything.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "test_sweep.h"

/* What the count of the kernel's own allocations may vary by, and more. */
#define MARGIN 40U

static int module_fd = -1;

static int load(const char *parameters)
{
	return syscall(SYS_finit_module, module_fd, parameters, 0) ? -errno : 0;
}

static int unload(void)
{
	return syscall(SYS_delete_module, "blksnap", O_NONBLOCK) ? -errno : 0;
}

static void open_module(void)
{
	char path[300] = "";
	FILE *file = popen("modinfo -n blksnap", "r");

	ASSERT(file);
	if (fscanf(file, "%299s", path) != 1)
		path[0] = '\0';
	pclose(file);
	module_fd = ASSERT_OK(open(path, O_RDONLY | O_CLOEXEC));
}

/* What the kernel allocates before it calls the module; its own clean-up counts. */
static unsigned int count_before_init(void)
{
	int ret;

	fault_count_begin();
	ret = load("copy_memory_maximum=1");
	EXPECT_ERR(ret, EINVAL);
	return fault_count_end();
}

static void load_round(void)
{
	int ret;

	sweep_arm();
	ret = load("");
	sweep_disarm();
	sweep_note_result(ret);
	EXPECT_EQ(module_is_loaded(), !ret);
	if (!ret)
		EXPECT_OK(unload());
}

static void test_load(void)
{
	unsigned int nr_before;

	open_module();
	EXPECT_OK(unload());
	nr_before = count_before_init();
	sweep_run_from(nr_before > MARGIN ? nr_before - MARGIN : 1, "load", FAULT_TASK,
		       load_round);
	close(module_fd);
}

/* With a device that is tracked: the filter is removed as well. */
static void unload_round(void)
{
	struct snapshot snapshot;
	int ret;

	if (!module_is_loaded())
		ASSERT_EQ(module_load(SWEEP_PARAMETERS), 0);
	ctl_set_up();
	snapshot_create(&snapshot, &world.origin);
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	close(ctl);
	ctl = -1;
	sweep_arm();
	ret = unload();
	sweep_disarm();
	sweep_note_result(ret);
	EXPECT_OK(ret);
	EXPECT(!module_is_loaded());
	EXPECT_OK(origin_write(0, 1, 0));
}

static void test_unload(void)
{
	sweep_run("unload", FAULT_TASK, unload_round);
}

const struct ktap_test module_tests[] = {
	KTAP_TEST(test_load),
	KTAP_TEST(test_unload),
	KTAP_END
};
