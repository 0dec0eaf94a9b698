// SPDX-License-Identifier: GPL-2.0
/*
 * What cannot be protected
 *
 * A device of which an image could be wrong is refused when the snapshot is
 * created, with an errno of its own and one line in the log that says why; the
 * command-line tool says why, too.  Nothing is tracked then, not even the other
 * devices of the same call.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test_stacks.h"

#define DISK_MIB 16

/**
 * struct refusal - a device that cannot be protected
 * @modules:	what the guest must be able to load
 * @nr_mib:	size of the disk $B0, 0 if none is needed
 * @is_zoned:	what kind of disk that is
 * @up:		commands that make the device and print its path
 * @down:	commands that remove it
 * @error:	what creating a snapshot returns
 * @logged:	the reason in the log, or NULL if there is nothing to explain
 * @told:	the reason that the tool gives
 */
struct refusal {
	const char *modules;
	uint64_t nr_mib;
	bool is_zoned;
	const char *up;
	const char *down;
	int error;
	const char *logged;
	const char *told;
};

enum {
	ZONED,
	DM_ON_ZONED,
	DAX,
	DAX_IN_USE,
	DM_ON_DAX,
	HUGE,
	NO_MEDIUM,
};

/* Not all processors have what such memory needs to be mapped by files. */
#define NEED_DAX							\
	"[ -e /dev/pmem0 ] && [ \"$(cat /sys/block/pmem0/queue/dax)\" != 0 ] || exit 4\n"

static const struct refusal refusals[] = {
	[ZONED] = {
		.nr_mib = 64, .is_zoned = true, .up = "echo $B0",
		.error = EOPNOTSUPP, .logged = "it is zoned",
		.told = "it is zoned",
	},
	[DM_ON_ZONED] = {
		.modules = "dm-mod", .nr_mib = 64, .is_zoned = true,
		.up = "dm top \"0 $(sectors $B0) linear $B0 0\"",
		.down = "undm top",
		.error = EOPNOTSUPP, .logged = "it is zoned",
		.told = "it is zoned",
	},
	[DAX] = {
		.modules = "nd_e820 nd_pmem",
		.up = NEED_DAX "echo /dev/pmem0",
		.error = EOPNOTSUPP, .logged = "it supports DAX",
		.told = "it supports DAX",
	},
	[DAX_IN_USE] = {
		.modules = "nd_e820 nd_pmem ext4",
		.up = NEED_DAX "mkdir -p /tmp/dax\n"
		      "mkfs.ext4 -q -F -b 4096 /dev/pmem0 >&2\n"
		      "mount -o dax=always /dev/pmem0 /tmp/dax\n"
		      "echo /dev/pmem0",
		.down = "umount /tmp/dax",
		.error = EOPNOTSUPP, .logged = "it supports DAX",
		.told = "it supports DAX",
	},
	[DM_ON_DAX] = {
		.modules = "nd_e820 nd_pmem dm-mod",
		.up = NEED_DAX
		      "dm top \"0 $(sectors /dev/pmem0) linear /dev/pmem0 0\"",
		.down = "undm top",
		.error = EOPNOTSUPP, .logged = "it supports DAX",
		.told = "it supports DAX",
	},
	[HUGE] = {
		/* 32 PiB and a bit: more blocks of 2 GiB than the map may have. */
		.nr_mib = (32ULL << 30) + 64, .up = "echo $B0",
		.error = EOPNOTSUPP, .logged = "it is too large",
		.told = "the kernel log says",
	},
	[NO_MEDIUM] = {
		.modules = "loop", .up = "losetup -f",
		.error = ENXIO, .told = "there is no such device",
	},
};

static struct {
	const struct refusal *refusal;	/* whose device has been made */
	struct disk bottom;
	struct disk good;
	int kmsg;
} refused = { .kmsg = -1 };

/* --- the log and the tool --- */

static void log_start(void)
{
	refused.kmsg = ASSERT_OK(open("/dev/kmsg",
				      O_RDONLY | O_NONBLOCK | O_CLOEXEC));
	lseek(refused.kmsg, 0, SEEK_END);
}

/* How often the module has said this since log_start(). */
static unsigned int log_count(const char *text)
{
	char record[2000];
	unsigned int nr = 0;
	ssize_t ret;

	while ((ret = read(refused.kmsg, record, sizeof(record) - 1)) > 0) {
		record[ret] = '\0';
		nr += strstr(record, "blksnap: ") && strstr(record, text);
	}
	close(refused.kmsg);
	refused.kmsg = -1;
	return nr;
}

static void expect_tool_tells(const char *path, const char *told)
{
	char command[200], text[500] = "";
	FILE *pipe;
	size_t nr;

	snprintf(command, sizeof(command), "blksnap snapshot create %s 2>&1",
		 path);
	fflush(stdout);
	pipe = popen(command, "r");
	ASSERT(pipe);
	nr = fread(text, 1, sizeof(text) - 1, pipe);
	text[nr] = '\0';
	EXPECT(pclose(pipe));
	EXPECT(strstr(text, "blksnap: ") == text);
	if (!strstr(text, told))
		FAIL("the tool says \"%s\", not \"%s\"", text, told);
}

static unsigned int count_trackers(void)
{
	struct blk_snap_cbt_info *infos;
	unsigned int nr;

	ASSERT_OK(control_tracker_collect(ctl, &infos, &nr));
	free(infos);
	return nr;
}

static int create(const struct disk *disk, const struct disk *other)
{
	const struct blk_snap_dev ids[] = { disk->id, other ? other->id : disk->id };
	struct blk_snap_uuid id;

	return control_snapshot_create(ctl, ids, other ? 2 : 1, &id);
}

/* --- devices --- */

static void make_null_disk(struct disk *disk, const char *name, uint64_t nr_mib,
			   bool is_zoned)
{
	const struct null_disk_options options = { .is_zoned = is_zoned };

	ASSERT_OK(null_disk_create(disk, name, nr_mib, &options));
}

/* By number: a device without a medium may be impossible to open by path. */
static bool make_refused(const struct refusal *refusal, struct disk *disk)
{
	char path[sizeof(disk->path)];
	int code;

	if (!load_modules(refusal->modules))
		return false;
	if (refusal->nr_mib > UINT32_MAX && sizeof(long) == 4) {
		ktap_skip("no device of a 32-bit kernel is that large");
		return false;
	}
	if (refusal->nr_mib) {
		make_null_disk(&refused.bottom, "nullb0", refusal->nr_mib,
			       refusal->is_zoned);
		setenv("B0", refused.bottom.path, 1);
	}
	refused.refusal = refusal;
	code = shell_line(path, sizeof(path), refusal->up);
	if (code == KTAP_SKIP) {
		ktap_skip("this machine has no such device");
		refused.refusal = NULL;
		return false;
	}
	ASSERT_EQ(code, 0);
	ASSERT_OK(disk_find(disk, path));
	return true;
}

void refused_tear_down(void)
{
	char line[100];

	ctl_tear_down();
	if (refused.refusal && refused.refusal->down &&
	    shell_line(line, sizeof(line), refused.refusal->down))
		FAIL("the device cannot be removed");
	null_disk_destroy(&refused.bottom);
	null_disk_destroy(&refused.good);
	if (refused.kmsg >= 0)
		close(refused.kmsg);
	memset(&refused, 0, sizeof(refused));
	refused.kmsg = -1;
}

/* --- the tests --- */

static void test_is_refused(void)
{
	const struct refusal *refusal = ktap_data();
	struct disk disk;

	if (!make_refused(refusal, &disk))
		return;
	make_null_disk(&refused.good, "nullb1", DISK_MIB, false);
	log_start();
	EXPECT_ERR(create(&disk, NULL), refusal->error);
	EXPECT_EQ(log_count(refusal->logged ? refusal->logged : "cannot be"),
		  !!refusal->logged);
	EXPECT_ERR(create(&refused.good, &disk), refusal->error);
	EXPECT_EQ(count_trackers(), 0);
	expect_tool_tells(disk.path, refusal->told);
}

static void test_image_is_refused(void)
{
	struct snapshot snapshot;
	struct disk image;

	make_null_disk(&refused.good, "nullb0", DISK_MIB, false);
	make_null_disk(&refused.bottom, "nullb1", DISK_MIB, false);
	snapshot_now(&snapshot, &refused.good, &refused.bottom);
	ASSERT_OK(disk_find(&image, image_of(&snapshot, &refused.good)));
	log_start();
	EXPECT_ERR(create(&image, NULL), EOPNOTSUPP);
	EXPECT_EQ(log_count("it is an image"), 1);
	expect_tool_tells(image.path, "it is an image");
}

#define NR_SIGHTINGS 20U

/*
 * Waits until the disk of the first image has a folder, and asks for what an image is
 * refused for, and what it is allowed.  Returns a bit for each wrong answer.
 */
static int try_first_image(const struct snapshot *snapshot, const struct blk_snap_dev *image)
{
	const struct blk_snap_block_range range = { 0, 8 };
	struct blk_snap_uuid id;

	while (access("/sys/block/" BLK_SNAP_IMAGE_NAME "0", F_OK))
		;
	return (control_tracker_mark_dirty_blocks(ctl, *image, &range, 1) ? 1 : 0) |
	       (control_snapshot_create(ctl, image, 1, &id) != -EOPNOTSUPP ? 2 : 0) |
	       (control_snapshot_append_storage(ctl, &snapshot->id, *image, &range, 1) !=
		-EINVAL ? 4 : 0);
}

/* Not only when the take is over: it may have more images to add. */
static void test_image_is_refused_as_soon_as_it_exists(void)
{
	struct blk_snap_dev image = { 0 };
	struct snapshot snapshot;
	int status, wrong = 0;
	unsigned int i;
	pid_t child;

	make_null_disk(&refused.good, "nullb0", DISK_MIB, false);
	make_null_disk(&refused.bottom, "nullb1", DISK_MIB, false);
	for (i = 0; i < NR_SIGHTINGS; i++) {
		snapshot_create(&snapshot, &refused.good);
		ASSERT_OK(append_range(&snapshot, &refused.bottom, 0, DISK_MIB * 2048));
		child = i ? ASSERT_OK(fork()) : -1;
		if (!child)
			_exit(try_first_image(&snapshot, &image));
		snapshot_take(&snapshot);
		image = snapshot.images[0].id;
		if (i) {
			ASSERT_EQ(waitpid(child, &status, 0), child);
			wrong |= WEXITSTATUS(status);
		}
		ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	}
	EXPECT_EQ(wrong, 0);
}

/* Nothing is wrong with these: what is not written needs no protection. */
static void test_read_only_device_is_not_refused(void)
{
	struct snapshot snapshot;

	make_null_disk(&refused.good, "nullb0", DISK_MIB, false);
	make_null_disk(&refused.bottom, "nullb1", DISK_MIB, false);
	ASSERT(fill_direct(refused.good.path, 0x11, MIB, 0));
	ASSERT_EQ(shell("blockdev --setro %s", refused.good.path), 0);
	snapshot_now(&snapshot, &refused.good, &refused.bottom);
	ASSERT_EQ(shell("blockdev --setrw %s", refused.good.path), 0);
	ASSERT(fill_direct(refused.good.path, 0x22, MIB, 0));
	EXPECT(reads_as(image_of(&snapshot, &refused.good), 0x11, MIB, 0));
}

/* --- a path of a multipath device --- */

static const struct refusal multipath = {
	.modules = "dm-multipath dm-round-robin", .nr_mib = DISK_MIB,
	.up = "t='multipath 0 0 1 1 round-robin 0 1 1'\n"
	      "dm top \"0 $(sectors $B0) $t $B0 1\"",
	.down = "undm top",
};

static void expect_lost(const struct snapshot *snapshot)
{
	struct blk_snap_snapshot_event event;
	struct blk_snap_event_corrupted *lost = (void *)event.data;
	uint8_t *buffer = alloc_aligned(4096);
	int fd;

	do {
		ASSERT_OK(next_event(snapshot, 10000, &event));
	} while (event.code != blk_snap_event_code_corrupted);
	EXPECT_EQ(lost->err_code, EOPNOTSUPP);
	fd = ASSERT_OK(open(image_of(snapshot, &refused.bottom),
			    O_RDONLY | O_DIRECT | O_CLOEXEC));
	EXPECT_EQ(pread(fd, buffer, 4096, ZONED), -1);
	EXPECT_EQ(errno, EIO);
	close(fd);
	free(buffer);
}

static void test_image_of_a_path_is_lost_rather_than_wrong(void)
{
	struct snapshot snapshot;
	struct disk top;

	if (!make_refused(&multipath, &top))
		return;
	make_null_disk(&refused.good, "nullb1", DISK_MIB, false);
	ASSERT(fill_direct(top.path, 0x11, MIB, 0));
	snapshot_now(&snapshot, &refused.bottom, &refused.good);
	/* Reading through the device above does no harm. */
	EXPECT(reads_as(top.path, 0x11, MIB, 0));
	EXPECT(reads_as(image_of(&snapshot, &refused.bottom), 0x11, MIB, 0));
	ASSERT(fill_direct(top.path, 0x22, MIB, 0));
	expect_lost(&snapshot);
	EXPECT(reads_as(refused.bottom.path, 0x22, MIB, 0));
}

static void test_path_is_refused_once_it_is_known(void)
{
	struct snapshot snapshot;
	struct disk top;

	if (!make_refused(&multipath, &top))
		return;
	make_null_disk(&refused.good, "nullb1", DISK_MIB, false);
	snapshot_create(&snapshot, &refused.bottom);
	ASSERT_OK(append_range(&snapshot, &refused.good, 0, DISK_MIB * 2048));
	ASSERT(fill_direct(top.path, 0x11, MIB, 0));
	log_start();
	EXPECT_ERR(control_snapshot_take(ctl, &snapshot.id), EOPNOTSUPP);
	EXPECT_EQ(log_count("writes past the filter"), 1);
	ASSERT_OK(control_snapshot_destroy(ctl, &snapshot.id));
	EXPECT_ERR(create(&refused.bottom, NULL), EOPNOTSUPP);
	/* Forgotten with the tracking, until it is written again. */
	ASSERT_OK(control_tracker_remove(ctl, refused.bottom.id));
	EXPECT_OK(create(&refused.bottom, NULL));
}

#define REFUSED(name, index) { #name "_is_refused", test_is_refused, false, \
			       &refusals[index] }

const struct ktap_test refused_tests[] = {
	REFUSED(zoned_device, ZONED),
	REFUSED(dm_on_zoned_device, DM_ON_ZONED),
	REFUSED(dax_device, DAX),
	REFUSED(dax_device_in_use, DAX_IN_USE),
	REFUSED(dm_on_dax_device, DM_ON_DAX),
	REFUSED(huge_device, HUGE),
	REFUSED(device_without_medium, NO_MEDIUM),
	KTAP_TEST(test_image_is_refused),
	KTAP_TEST(test_image_is_refused_as_soon_as_it_exists),
	KTAP_TEST(test_read_only_device_is_not_refused),
	KTAP_TEST(test_image_of_a_path_is_lost_rather_than_wrong),
	KTAP_TEST(test_path_is_refused_once_it_is_known),
	KTAP_END
};
