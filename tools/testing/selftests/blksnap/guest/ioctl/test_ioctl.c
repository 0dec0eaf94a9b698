// SPDX-License-Identifier: GPL-2.0
/*
 * The ioctls: what holds for all of them
 *
 * Also the fixture of the other files of this program.  The same sources make
 * a 32-bit program, whose structures have other sizes and other numbers.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test_ioctl.h"

struct disk disk_a, disk_b, disk_s;
void *bad_page;
void *readonly_page;

const struct blk_snap_uuid unknown_id = { .b = { 1, 2, 3 } };
const struct blk_snap_dev unknown_dev = { 4000, 7 };

const struct ioctl_number ioctl_numbers[NR_IOCTLS] = {
	{ IOCTL_BLK_SNAP_VERSION, "VERSION" },
	{ IOCTL_BLK_SNAP_TRACKER_REMOVE, "TRACKER_REMOVE" },
	{ IOCTL_BLK_SNAP_TRACKER_COLLECT, "TRACKER_COLLECT" },
	{ IOCTL_BLK_SNAP_TRACKER_READ_CBT_MAP, "TRACKER_READ_CBT_MAP" },
	{ IOCTL_BLK_SNAP_TRACKER_MARK_DIRTY_BLOCKS, "TRACKER_MARK_DIRTY_BLOCKS" },
	{ IOCTL_BLK_SNAP_SNAPSHOT_CREATE, "SNAPSHOT_CREATE" },
	{ IOCTL_BLK_SNAP_SNAPSHOT_DESTROY, "SNAPSHOT_DESTROY" },
	{ IOCTL_BLK_SNAP_SNAPSHOT_APPEND_STORAGE, "SNAPSHOT_APPEND_STORAGE" },
	{ IOCTL_BLK_SNAP_SNAPSHOT_TAKE, "SNAPSHOT_TAKE" },
	{ IOCTL_BLK_SNAP_SNAPSHOT_COLLECT, "SNAPSHOT_COLLECT" },
	{ IOCTL_BLK_SNAP_SNAPSHOT_COLLECT_IMAGES, "SNAPSHOT_COLLECT_IMAGES" },
	{ IOCTL_BLK_SNAP_SNAPSHOT_WAIT_EVENT, "SNAPSHOT_WAIT_EVENT" },
	{ IOCTL_BLK_SNAP_SNAPSHOT_PIN_FILE, "SNAPSHOT_PIN_FILE" },
	{ IOCTL_BLK_SNAP_SNAPSHOT_INFO, "SNAPSHOT_INFO" },
};

/* The numbers as they were frozen, not as a compiler makes them. */
static const unsigned int numbers64[NR_IOCTLS] = {
	0x40085600, 0x40085601, 0x40105602, 0x80185603, 0x80185604, 0x40205605,
	0x80105606, 0x40285607, 0x80105608, 0x40105609, 0x4020560a, 0x5000560b,
	0x40185618,
	0xc0405619,
};

static const unsigned int numbers32[NR_IOCTLS] = {
	0x40085600, 0x40085601, 0x40085602, 0x80145603, 0x80105604, 0x40185605,
	0x80105606, 0x40205607, 0x80105608, 0x40085609, 0x4018560a, 0x5000560b,
	0x40185618,
	0xc0405619,
};

static const bool is_32bit = sizeof(void *) == 4;

unsigned int nr_tracked(void)
{
	struct blk_snap_tracker_collect arg = { 0 };

	ASSERT_OK(ctl_call(IOCTL_BLK_SNAP_TRACKER_COLLECT, &arg));
	return arg.count;
}

unsigned int nr_snapshots(void)
{
	struct blk_snap_snapshot_collect arg = { 0 };

	ASSERT_OK(ctl_call(IOCTL_BLK_SNAP_SNAPSHOT_COLLECT, &arg));
	return arg.count;
}

static void test_node_is_for_root_alone(void)
{
	struct stat stat_buffer;

	ASSERT_OK(stat("/dev/" BLK_SNAP_CTL, &stat_buffer));
	EXPECT(S_ISCHR(stat_buffer.st_mode));
	EXPECT_EQ(stat_buffer.st_mode & 07777, 0600);
}

static void test_numbers_are_the_frozen_ones(void)
{
	unsigned int i;

	for (i = 0; i < NR_IOCTLS; i++)
		EXPECT_EQ((unsigned int)ioctl_numbers[i].request,
			  is_32bit ? numbers32[i] : numbers64[i]);
}

static void test_number_of_the_other_word_size_gets_enotty(void)
{
	uint8_t buffer[4096] = { 0 };
	unsigned int i;

	for (i = 0; i < NR_IOCTLS; i++)
		if (numbers32[i] != numbers64[i])
			EXPECT_ERR(ctl_call(is_32bit ? numbers64[i] :
						       numbers32[i], buffer),
				   ENOTTY);
}

static void test_version_fills_all_fields(void)
{
	struct blk_snap_version version, again;

	memset(&version, POISON, sizeof(version));
	memset(&again, 0, sizeof(again));
	ASSERT_OK(ctl_call(IOCTL_BLK_SNAP_VERSION, &version));
	ASSERT_OK(ctl_call(IOCTL_BLK_SNAP_VERSION, &again));
	EXPECT(!memcmp(&version, &again, sizeof(version)));
	EXPECT(version.major || version.minor || version.revision);
	EXPECT_EQ(version.build, 0);
}

static void test_number_that_is_not_in_use_gets_enotty(void)
{
	uint8_t buffer[4096] = { 0 };
	unsigned int nr;

	/* Also those that are in use: of each, the size is another one. */
	for (nr = NR_OLD_IOCTLS; nr < 256; nr++)
		EXPECT_ERR(ctl_call(_IOW(BLK_SNAP, nr, struct blk_snap_version),
				    buffer), ENOTTY);
	EXPECT_ERR(ctl_call(_IO('W', 0), buffer), ENOTTY);
	EXPECT_ERR(ctl_call(_IOW('W', 0, struct blk_snap_version), buffer),
		   ENOTTY);
}

static void test_number_of_another_direction_gets_enotty(void)
{
	uint8_t buffer[4096] = { 0 };
	unsigned int i;

	for (i = 0; i < NR_IOCTLS; i++) {
		unsigned int request = ioctl_numbers[i].request;
		unsigned int both = _IOC_READ | _IOC_WRITE;

		EXPECT_ERR(ctl_call(request ^ both << _IOC_DIRSHIFT, buffer),
			   ENOTTY);
		if (_IOC_DIR(request) != both)
			EXPECT_ERR(ctl_call(request | both << _IOC_DIRSHIFT,
					    buffer), ENOTTY);
		EXPECT_ERR(ctl_call(request & ~(both << _IOC_DIRSHIFT), buffer),
			   ENOTTY);
	}
}

static void test_number_of_another_size_gets_enotty(void)
{
	uint8_t buffer[4096 * 2] = { 0 };
	unsigned int i;

	for (i = 0; i < NR_IOCTLS; i++) {
		unsigned int request = ioctl_numbers[i].request;

		EXPECT_ERR(ctl_call(request + (2 << _IOC_SIZESHIFT), buffer),
			   ENOTTY);
		EXPECT_ERR(ctl_call(request - (2 << _IOC_SIZESHIFT), buffer),
			   ENOTTY);
		EXPECT_ERR(ctl_call(request & ~IOCSIZE_MASK, buffer), ENOTTY);
	}
}

static void test_argument_that_is_not_mapped_gets_efault(void)
{
	unsigned int i;

	for (i = 0; i < NR_IOCTLS; i++) {
		EXPECT_ERR(ctl_call(ioctl_numbers[i].request, NULL), EFAULT);
		EXPECT_ERR(ctl_call(ioctl_numbers[i].request, bad_page), EFAULT);
		/* The first byte is mapped, the rest is not. */
		EXPECT_ERR(ctl_call(ioctl_numbers[i].request,
				    (char *)bad_page - 1), EFAULT);
	}
	EXPECT_EQ(nr_snapshots(), 0);
	EXPECT_EQ(nr_tracked(), 0);
}

static void test_answer_that_cannot_be_written_gets_efault(void)
{
	EXPECT_ERR(ctl_call(IOCTL_BLK_SNAP_VERSION, readonly_page), EFAULT);
	EXPECT_ERR(ctl_call(IOCTL_BLK_SNAP_TRACKER_COLLECT, readonly_page),
		   EFAULT);
	EXPECT_ERR(ctl_call(IOCTL_BLK_SNAP_SNAPSHOT_COLLECT, readonly_page),
		   EFAULT);
}

static bool keep_capabilities(uint64_t mask)
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct data[2] = {
		{ .effective = mask, .permitted = mask },
		{ .effective = mask >> 32, .permitted = mask >> 32 },
	};

	return !syscall(SYS_capset, &header, data);
}

/* How many calls are not refused to whom has only these capabilities. */
static int nr_calls_allowed(uint64_t capabilities)
{
	static uint8_t buffer[4096];
	unsigned int i, nr = 0;

	if (!keep_capabilities(capabilities))
		return 100;
	for (i = 0; i < NR_IOCTLS; i++)
		nr += ctl_call(ioctl_numbers[i].request, buffer) != -EPERM;
	return nr;
}

/* In a process of its own, since a privilege dropped does not come back. */
static int nr_calls_allowed_to_child(uint64_t capabilities)
{
	pid_t child;
	int status;

	fflush(stdout);
	child = fork();
	if (!child)
		_exit(nr_calls_allowed(capabilities));
	ASSERT_OK(child);
	ASSERT_OK(waitpid(child, &status, 0));
	ASSERT(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void test_every_call_needs_cap_sys_admin(void)
{
	const uint64_t all = (1ULL << (CAP_LAST_CAP + 1)) - 1;

	EXPECT_EQ(nr_calls_allowed_to_child(0), 0);
	EXPECT_EQ(nr_calls_allowed_to_child(all & ~(1ULL << CAP_SYS_ADMIN)), 0);
}

static void test_cap_sys_admin_is_enough(void)
{
	EXPECT_EQ(nr_calls_allowed_to_child(1ULL << CAP_SYS_ADMIN), NR_IOCTLS);
}

static void test_read_and_write_are_not_served(void)
{
	char byte = 0;

	EXPECT_EQ(read(ctl, &byte, 1), -1);
	EXPECT_EQ(write(ctl, &byte, 1), -1);
}

const struct ktap_test control_tests[] = {
	KTAP_TEST(test_node_is_for_root_alone),
	KTAP_TEST(test_numbers_are_the_frozen_ones),
	KTAP_TEST(test_version_fills_all_fields),
	KTAP_TEST(test_number_that_is_not_in_use_gets_enotty),
	KTAP_TEST(test_number_of_another_direction_gets_enotty),
	KTAP_TEST(test_number_of_another_size_gets_enotty),
	KTAP_TEST(test_number_of_the_other_word_size_gets_enotty),
	KTAP_TEST(test_argument_that_is_not_mapped_gets_efault),
	KTAP_TEST(test_answer_that_cannot_be_written_gets_efault),
	KTAP_TEST(test_every_call_needs_cap_sys_admin),
	KTAP_TEST(test_cap_sys_admin_is_enough),
	KTAP_TEST(test_read_and_write_are_not_served),
	KTAP_END
};

#define SUITE(suite) { #suite, ctl_set_up, ctl_tear_down, suite##_tests }

static const struct ktap_suite suites[] = {
	SUITE(control),
	SUITE(tracker),
	SUITE(map),
	SUITE(mark),
	SUITE(create),
	SUITE(append),
	SUITE(pin),
	SUITE(take),
	SUITE(destroy),
	SUITE(collect),
	SUITE(event),
	SUITE(info),
	{ NULL, NULL, NULL, NULL }
};

static void make_pages(void)
{
	char *pages = mmap(NULL, 2 * 4096, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	readonly_page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS,
			     -1, 0);
	if (pages == MAP_FAILED || readonly_page == MAP_FAILED)
		exit(KTAP_FAIL);
	bad_page = pages + 4096;
	mprotect(bad_page, 4096, PROT_NONE);
}

int main(int argc, char **argv)
{
	int ret;

	tests_need_module();
	make_pages();
	if (null_disk_create(&disk_a, "nullb0", DISK_MIB, NULL) ||
	    null_disk_create(&disk_b, "nullb1", DISK_MIB, NULL) ||
	    null_disk_create(&disk_s, "nullb2", DISK_MIB, NULL))
		ktap_skip_all("null_blk disks cannot be made");
	ret = ktap_main(suites, argc, argv);
	null_disk_destroy(&disk_a);
	null_disk_destroy(&disk_b);
	null_disk_destroy(&disk_s);
	return ret;
}
