// SPDX-License-Identifier: GPL-2.0
/*
 * Hostile callers: whatever they ask for, nobody is harmed
 *
 *	test_hostile [--calls N] [--seconds N] [--seed S] [--fast] [--filter TEXT]
 *
 * N calls (40000) are made with arguments made up at random: right ones, ones
 * that are nearly right, and rubbish, in memory that is right, too short,
 * read-only, missing, slow, or changed meanwhile, by 64-bit and 32-bit calls.  A
 * quarter of them is made by one caller, who knows what has to come of each
 * call; the rest by many at once, beside an honest agent.  With a limit of
 * seconds each of the two ends after half of it.  The calls of one caller are
 * the same for the same seed, and so is what comes of them.
 *
 * What must not happen: an errno that is not listed for the call, a byte written
 * where none belongs, state that a failed call has changed, a wrong image or
 * change map for the honest agent, a changed origin, memory that is lost, or a
 * caller who makes all others wait.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "test_hostile.h"

#define ORIGIN_MIB 8
#define STORAGE_MIB 64
#define HONEST_STORAGE_MIB 32
#define SLOW_DISK_MIB 1
#define SLOW_NS 3000000U

struct hostile_options hostile_options = { .nr_calls = 40000 };

struct target targets[NR_TARGETS];
struct disk honest_origins[2], honest_storage, slow_disk;

void hostile_set_up(void)
{
	ctl_set_up();
}

void hostile_tear_down(void)
{
	ctl_tear_down();
}

/* --- what the calls are about --- */

static const struct null_disk_options large_blocks = { .block_bytes = 4096 };
static const struct null_disk_options zones = { .is_zoned = true };

static void describe(unsigned int number, unsigned int whole, uint64_t start,
		     unsigned int block_bytes)
{
	struct target *target = &targets[number];

	target->whole = whole;
	target->start = start;
	target->block_bytes = block_bytes;
	target->nr_sectors = target->disk.nr_bytes / SECTOR_SIZE;
	target->store_from = target->nr_sectors;
}

static bool make_target(unsigned int number, const char *name, uint64_t nr_mib,
			const struct null_disk_options *options)
{
	if (null_disk_create(&targets[number].disk, name, nr_mib, options))
		return false;
	describe(number, number, 0,
		 options && options->block_bytes ? options->block_bytes : 512);
	return true;
}

/* Data below the middle, storage above it. */
static bool make_partitions(void)
{
	struct disk *disk = &targets[TARGET_A].disk;
	uint64_t middle = ORIGIN_MIB * MIB / SECTOR_SIZE / 2;

	if (partition_add(disk, &targets[TARGET_A1].disk, 2048, 4096) ||
	    partition_add(disk, &targets[TARGET_A2].disk, middle, middle))
		return false;
	describe(TARGET_A1, TARGET_A, 2048, 512);
	describe(TARGET_A2, TARGET_A, middle, 512);
	targets[TARGET_A].store_from = middle;
	targets[TARGET_A2].store_from = 0;
	return true;
}

static bool set_read_only(const struct disk *disk)
{
	int fd = open(disk->path, O_RDONLY | O_CLOEXEC);
	int is_read_only = 1;
	bool ok = fd >= 0 && !ioctl(fd, BLKROSET, &is_read_only);

	close(fd);
	return ok;
}

static bool make_targets(void)
{
	unsigned int i;

	if (!make_target(TARGET_A, "nullb0", ORIGIN_MIB, NULL) ||
	    !make_partitions() ||
	    !make_target(TARGET_B, "nullb1", ORIGIN_MIB, NULL) ||
	    !make_target(TARGET_4K, "nullb2", ORIGIN_MIB, &large_blocks) ||
	    !make_target(TARGET_STORAGE, "nullb3", STORAGE_MIB, NULL) ||
	    !make_target(TARGET_STORAGE_4K, "nullb4", ORIGIN_MIB, &large_blocks) ||
	    !make_target(TARGET_READ_ONLY, "nullb5", ORIGIN_MIB, NULL) ||
	    !make_target(TARGET_ZONED, "nullb6", ORIGIN_MIB, &zones))
		return false;
	for (i = TARGET_A; i <= TARGET_4K; i++)
		targets[i].can_track = true;
	targets[TARGET_STORAGE].store_from = 0;
	targets[TARGET_STORAGE_4K].store_from = 0;
	targets[TARGET_READ_ONLY].append_errno = EROFS;
	targets[TARGET_ZONED].append_errno = EINVAL;
	targets[TARGET_ZONED].create_errno = EOPNOTSUPP;
	return set_read_only(&targets[TARGET_READ_ONLY].disk);
}

static bool make_disks(void)
{
	const struct null_disk_options slow = { .completion_ns = SLOW_NS };

	return make_targets() &&
	       !null_disk_create(&honest_origins[0], "nullb7", HONEST_MIB, NULL) &&
	       !null_disk_create(&honest_origins[1], "nullb8", HONEST_MIB, NULL) &&
	       !null_disk_create(&honest_storage, "nullb9", HONEST_STORAGE_MIB, NULL) &&
	       !null_disk_create(&slow_disk, "nullb10", SLOW_DISK_MIB, &slow);
}

static void remove_disks(void)
{
	unsigned int i;

	for (i = 0; i < NR_TARGETS; i++)
		null_disk_destroy(&targets[i].disk);
	for (i = 0; i < 2; i++)
		null_disk_destroy(&honest_origins[i]);
	null_disk_destroy(&honest_storage);
	null_disk_destroy(&slow_disk);
}

/*
 * Opening a number that no driver has would start a program each time, to look
 * for a module.
 */
#define MODPROBE "/proc/sys/kernel/modprobe"

static char modprobe_path[256];

static void forbid_loading_modules(void)
{
	FILE *file = fopen(MODPROBE, "r");

	if (file && fgets(modprobe_path, sizeof(modprobe_path), file))
		write_text(MODPROBE, "\n");
	if (file)
		fclose(file);
}

static void allow_loading_modules(void)
{
	write_text(MODPROBE, modprobe_path);
}

/* --- what is left behind --- */

static long kernel_kib(void)
{
	static const char *const fields[] = {
		"SUnreclaim:", "Percpu:", "VmallocUsed:", "KernelStack:",
	};
	char line[200];
	long kib = 0;
	unsigned int i;
	FILE *file;

	for (i = 0; i < 3; i++) {
		write_text("/proc/sys/vm/drop_caches", "3");
		sleep_ms(200);
	}
	file = fopen("/proc/meminfo", "r");
	ASSERT(file);
	while (fgets(line, sizeof(line), file))
		for (i = 0; i < ARRAY_SIZE(fields); i++)
			if (!strncmp(line, fields[i], strlen(fields[i])))
				kib += atol(strchr(line, ':') + 1);
	fclose(file);
	return kib;
}

static void unload(void)
{
	close(ctl);
	ctl = -1;
	ASSERT_EQ(module_unload(), 0);
}

static void reload(void)
{
	ASSERT_EQ(module_load(HOSTILE_PARAMETERS), 0);
	ctl_set_up();
}

static long kib_before;

static void test_module_unloads(void)
{
	unload();
	kib_before = kernel_kib();
	reload();
}

#define TOLERANCE_KIB 4096

static void test_module_unloads_and_leaves_nothing(void)
{
	long kib;

	unload();
	kib = kernel_kib();
	reload();
	ktap_note("memory of the kernel: %ld KiB before, %ld KiB after",
		  kib_before, kib);
	if (!access("/sys/kernel/debug/kmemleak", F_OK)) {
		ktap_skip("a debug kernel keeps freed memory back; kmemleak tells");
		return;
	}
	EXPECT(kib - kib_before <= TOLERANCE_KIB);
}

static const struct ktap_test before_tests[] = {
	KTAP_TEST(test_module_unloads),
	KTAP_END
};

static const struct ktap_test after_tests[] = {
	KTAP_TEST(test_module_unloads_and_leaves_nothing),
	KTAP_END
};

#define SUITE(suite) { #suite, hostile_set_up, hostile_tear_down, suite##_tests }

static const struct ktap_suite suites[] = {
	SUITE(slow),
	SUITE(node),
	SUITE(before),
	SUITE(random),
	SUITE(after),
	{ NULL, NULL, NULL, NULL }
};

static void parse_options(int argc, char **argv)
{
	int i;

	for (i = 1; i + 1 < argc; i++) {
		if (!strcmp(argv[i], "--calls"))
			hostile_options.nr_calls = strtoull(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--seconds"))
			hostile_options.max_seconds = atoi(argv[++i]);
	}
}

int main(int argc, char **argv)
{
	int ret;

	parse_options(argc, argv);
	tests_need_module();
	if (module_unload() || module_load(HOSTILE_PARAMETERS))
		ktap_skip_all("the module cannot be loaded anew");
	stats_set_up();
	crowd_set_up();
	calls_set_up();
	if (!make_disks())
		ktap_skip_all("null_blk disks cannot be made");
	forbid_loading_modules();
	ret = ktap_main(suites, argc, argv);
	allow_loading_modules();
	remove_disks();
	return ret;
}
