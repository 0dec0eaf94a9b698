// SPDX-License-Identifier: GPL-2.0
/*
 * Stacks of block devices: which there are, and how they are built
 *
 * The commands are those that an administrator would type.  They run in a shell
 * that ends at the first error and knows, besides the variables explained in
 * test_stacks.h, the functions below.  They end with the code of a skipped test
 * where something is missing in the machine, and only there.
 *
 * Nothing here looks after device nodes: the guest has no udev, and names below
 * /dev/mapper may be missing.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test_stacks.h"

#define SHELL_SCRIPT "/tmp/stacks.sh"
#define SHELL_ERRORS "/tmp/stacks.errors"
#define LVM_DIR "/tmp/stacks.lvm"

static const char shell_functions[] =
	"set -e; exec 2>" SHELL_ERRORS "\n"
	"sectors() { blockdev --getsz $1; }\n"
	/* dm NAME TABLE - make a device and print its path */
	"dm() { dmsetup create --noudevsync $1 --table \"$2\" >&2\n"
	"       echo /dev/$(dmsetup info -c --noheadings -o blkdevname $1); }\n"
	"undm() { for n; do dmsetup remove --noudevsync --retry $n >&2; done; }\n"
	"md() { mdadm --create /dev/md0 --run --metadata=1.2 --bitmap=none \\\n"
	"             --assume-clean \"$@\" >&2; echo /dev/md0; }\n"
	"unmd() { mdadm --stop /dev/md0 >&2; }\n"
	/* lv NAME PV - make a volume group of one volume, and print its path */
	"lv() { lvm pvcreate -q -ff -y $2 >&2; lvm vgcreate -q -s 1M $1 $2 >&2\n"
	"       lvm lvcreate -q -y -Wn -Zn -l100%FREE -n lv $1 >&2\n"
	"       echo /dev/$(dmsetup info -c --noheadings -o blkdevname $1-lv); }\n"
	"unlv() { undm $1-lv; rm -rf /dev/$1; }\n"
	/* The folder of the one disk of scsi_debug, which appears later. */
	"scsi=/sys/bus/pseudo/drivers/scsi_debug/*/*/*/*/block\n"
	"crypt=\"aes-xts-plain64 $(printf %064d 7)$(printf %064d 9) 0\"\n";

const struct stack stacks[] = {
	{
		.name = "null_blk", .nr_bottoms = 1, .fast = LAYERS_ALL,
		.up = "echo $B0",
	}, {
		.name = "null_blk_bio", .nr_bottoms = 1, .is_bio_based = true,
		.up = "echo $B0",
	}, {
		.name = "brd",
		.up = "modprobe brd rd_nr=1 rd_size=$((MIB * 1024)); echo /dev/ram0",
		.down = "rmmod brd",
	}, {
		.name = "zram", .modules = "zram lzo-rle",
		.up = "echo ${MIB}M >/sys/block/zram0/disksize; echo /dev/zram0",
		.down = "echo 1 >/sys/block/zram0/reset",
	}, {
		.name = "virtio",
		.up = "[ -e /dev/vda ] || exit 4; echo /dev/vda",
	}, {
		.name = "scsi_4k", .modules = "sd_mod",
		.up = "modprobe scsi_debug sector_size=4096 dev_size_mb=$MIB lbpu=1 ||\n"
		      "	exit 4\n"
		      "for i in $(seq 100); do ls $scsi >&2 && break; sleep 0.1; done\n"
		      "echo /dev/$(ls $scsi)",
		.down = "rmmod scsi_debug",
	}, {
		.name = "partition", .nr_bottoms = 1, .has_parts = true,
		.fast = LAYERS_ALL,
		.is_shifted = true, .shift = PARTITION_SECTOR * SECTOR_SIZE,
		.up = "echo $B0",
		.rebuild = "dm again \"0 $((MIB * 2048 - 5001)) linear $I0 3001\"",
		.unbuild = "undm again",
	}, {
		.name = "partition_4k", .nr_bottoms = 1, .has_parts = true,
		.block_bytes = 4096,
		.is_shifted = true, .shift = 3000 * SECTOR_SIZE,
		.up = "echo $B0",
	}, {
		.name = "dm_linear", .nr_bottoms = 1, .modules = "dm-mod",
		.is_shifted = true, .shift = 2047 * SECTOR_SIZE,
		.fast = LAYERS_BIT(LAYERS_BOTTOM) | LAYERS_BIT(LAYERS_BOTH),
		.up = "dm top \"0 $(($(sectors $B0) - 2047)) linear $B0 2047\"",
		.down = "undm top",
		.rebuild = "dm again \"0 $(($(sectors $I0) - 2047)) linear $I0 2047\"",
		.unbuild = "undm again",
	}, {
		.name = "dm_linear_on_partition", .nr_bottoms = 1,
		.modules = "dm-mod", .has_parts = true, .is_shifted = true,
		.shift = (PARTITION_SECTOR + 77) * SECTOR_SIZE,
		.up = "dm top \"0 $(($(sectors $B0) - 77)) linear $B0 77\"",
		.down = "undm top",
	}, {
		.name = "dm_delay", .nr_bottoms = 1, .modules = "dm-delay",
		.is_shifted = true,
		.up = "dm top \"0 $(sectors $B0) delay $B0 0 10\"",
		.down = "undm top",
	}, {
		.name = "dm_multipath", .nr_bottoms = 1, .is_top_only = true,
		.modules = "dm-multipath dm-round-robin",
		.up = "t='multipath 0 0 1 1 round-robin 0 1 1'\n"
		      "dm top \"0 $(sectors $B0) $t $B0 1\"",
		.down = "undm top",
	}, {
		.name = "dm_crypt", .nr_bottoms = 1,
		.modules = "dm-crypt xts",
		.up = "dm top \"0 $(sectors $B0) crypt $crypt $B0 0\"",
		.down = "undm top",
		.rebuild = "dm again \"0 $(sectors $I0) crypt $crypt $I0 0\"",
		.unbuild = "undm again",
	}, {
		/*
		 * Half of the pool is enough to find a free block even while all
		 * of the others are being discarded: dm-thin may not notice for
		 * a minute when they are free again.
		 */
		.name = "dm_thin", .nr_bottoms = 2, .modules = "dm-thin-pool",
		.up = "pool=$(dm pool \"0 $(sectors $B1) thin-pool $B0 $B1 128 0\")\n"
		      "dmsetup message pool 0 'create_thin 0'\n"
		      "dm top \"0 $(($(sectors $B1) / 2)) thin $pool 0\"",
		.down = "undm top pool",
	}, {
		.name = "lvm", .nr_bottoms = 1, .modules = "dm-mod",
		.up = "lv st $B0",
		.down = "unlv st",
		.rebuild = "dm again \"0 $(sectors $TOP) linear $I0 2048\"",
		.unbuild = "undm again",
	}, {
		.name = "md_raid1", .nr_bottoms = 2, .modules = "raid1",
		.settle_ms = 300, .fast = LAYERS_BIT(LAYERS_BOTTOM),
		.up = "md --level=1 --raid-devices=2 $B0 $B1",
		.down = "unmd",
		.rebuild = "dm again \"0 $(sectors $TOP) linear $I1 2048\"",
		.unbuild = "undm again",
	}, {
		.name = "md_raid5", .nr_bottoms = 3, .modules = "raid456",
		.settle_ms = 300,
		.up = "md --level=5 --chunk=64 --raid-devices=3 $B0 $B1 $B2",
		.down = "unmd",
	}, {
		.name = "loop", .nr_bottoms = 1, .modules = "loop ext4",
		.is_file = true,
		.up = "mkfs.ext4 -q -F -E lazy_itable_init=0 $B0 >&2\n"
		      "mkdir -p /tmp/loop; mount $B0 /tmp/loop\n"
		      "fallocate -l $((MIB * 3 / 4))M /tmp/loop/file; sync\n"
		      "losetup -f --show /tmp/loop/file",
		.down = "losetup -d $TOP; umount /tmp/loop",
		.rebuild = "mkdir -p /tmp/again; mount -o ro,noload $I0 /tmp/again\n"
			   "losetup -r -f --show /tmp/again/file",
		.unbuild = "losetup -d $AGAIN; umount /tmp/again",
	}, {
		.name = "lvm_on_crypt_on_raid1", .nr_bottoms = 2,
		.modules = "dm-crypt xts raid1", .has_parts = true,
		.settle_ms = 300,
		.up = "m=$(md --level=1 --raid-devices=2 $B0 $B1)\n"
		      "c=$(dm crypt \"0 $(sectors $m) crypt $crypt $m 0\")\n"
		      "lv st $c",
		.down = "unlv st; undm crypt; unmd",
	}, {
		.name = NULL,
	},
};

struct built built;

/* Path of the top that stack_rebuild() has shown again, or empty. */
static char again[sizeof(built.top.path)];

const struct stack *stack_find(const char *name)
{
	const struct stack *stack;

	for (stack = stacks; stack->name; stack++)
		if (!strcmp(stack->name, name))
			return stack;
	ktap_note("no stack is named %s", name);
	exit(KTAP_FAIL);
}

/**
 * shell_line() - run commands with the functions above
 * @line:	the last line they print
 * @size:	of @line
 * @commands:	what to run
 *
 * Return: the exit code, with the errors printed if it is neither 0 nor
 *	   KTAP_SKIP.
 */
int shell_line(char *line, size_t size, const char *commands)
{
	FILE *file = fopen(SHELL_SCRIPT, "w");
	char text[200];
	int status;

	if (!file)
		return KTAP_FAIL;
	fputs(shell_functions, file);
	fputs(commands, file);
	fclose(file);
	fflush(stdout);
	/* The guest's own shell prefers its own commands to installed ones. */
	file = popen("bash " SHELL_SCRIPT, "r");
	if (!file)
		return KTAP_FAIL;
	line[0] = '\0';
	while (fgets(text, sizeof(text), file)) {
		text[strcspn(text, "\n")] = '\0';
		snprintf(line, size, "%s", text);
	}
	status = pclose(file);
	status = WIFEXITED(status) ? WEXITSTATUS(status) : KTAP_FAIL;
	if (status && status != KTAP_SKIP)
		shell("sed 's/^/# /' " SHELL_ERRORS);
	return status;
}

/* The modules that are missing are said with ktap_skip(). */
bool load_modules(const char *modules)
{
	char names[100], *name, *rest = names;

	snprintf(names, sizeof(names), "%s", modules ? modules : "");
	while ((name = strtok_r(NULL, " ", &rest))) {
		if (kernel_module_load(name))
			continue;
		ktap_skip("this kernel has no module %s", name);
		return false;
	}
	return true;
}

/* Once: what LVM has to know, which otherwise only looks at disks of old names. */
void stacks_prepare(void)
{
	FILE *file;

	mkdir(LVM_DIR, 0755);
	file = fopen(LVM_DIR "/lvm.conf", "w");
	if (!file)
		ktap_skip_all("cannot write to " LVM_DIR);
	fputs("devices { use_devicesfile=0 types=[\"nullb\",16] scan=\"/dev\"\n"
	      "  obtain_device_list_from_udev=0 }\n"
	      "activation { udev_sync=0 udev_rules=0 verify_udev_operations=0\n"
	      "  monitoring=0 }\n"
	      "global { event_activation=0 use_lvmpolld=0 }\n"
	      "backup { backup=0 archive=0 }\n", file);
	fclose(file);
	setenv("LVM_SYSTEM_DIR", LVM_DIR, 1);
	setenv("LVM_SUPPRESS_FD_WARNINGS", "1", 1);
	setenv("MDADM_NO_UDEV", "1", 1);
}

static bool make_bottoms(const struct stack *stack, uint64_t nr_mib)
{
	const struct null_disk_options options = {
		.block_bytes = stack->block_bytes,
		.is_bio_based = stack->is_bio_based,
	};
	const uint64_t start = stack->block_bytes == 4096 ?
			       PARTITION_SECTOR & ~7 : PARTITION_SECTOR;
	unsigned int i;

	for (i = 0; i < stack->nr_bottoms; i++) {
		const char variable[] = { 'B', '0' + i, '\0' };
		struct disk *disk = &built.bottoms[i];
		char name[16];

		snprintf(name, sizeof(name), "nullb%u", i);
		if (null_disk_create(disk, name, nr_mib, &options))
			return false;
		if (stack->has_parts) {
			ASSERT_OK(partition_add(disk, &built.parts[i], start,
						nr_mib * 2048 - 2000 - start));
			disk = &built.parts[i];
		}
		setenv(variable, disk->path, 1);
	}
	return true;
}

/**
 * stack_build() - build a stack in @built
 * @stack:	which
 * @nr_mib:	size of each disk
 *
 * Return: false if it cannot be built here; ktap_skip() has the reason.
 */
bool stack_build(const struct stack *stack, uint64_t nr_mib)
{
	char path[sizeof(built.top.path)], number[16];
	int code;

	memset(&built, 0, sizeof(built));
	if (!load_modules(stack->modules))
		return false;
	snprintf(number, sizeof(number), "%llu", (unsigned long long)nr_mib);
	setenv("MIB", number, 1);
	ASSERT_OK(null_disk_create(&built.storage, "nullb9", 16 * nr_mib,
				   &(struct null_disk_options){
					.block_bytes = stack->block_bytes }));
	if (!make_bottoms(stack, nr_mib)) {
		ktap_skip("null_blk has no such disk");
		return false;
	}
	built.stack = stack;
	code = shell_line(path, sizeof(path), stack->up);
	if (code == KTAP_SKIP) {
		ktap_skip("this machine has nothing to build %s of", stack->name);
		built.stack = NULL;
		return false;
	}
	ASSERT_EQ(code, 0);
	ASSERT_OK(disk_find(&built.top, path));
	setenv("TOP", path, 1);
	return true;
}

/* Whatever there is of the stack, and the module's part of it. */
void stack_tear_down(void)
{
	char line[100];
	unsigned int i;

	ctl_tear_down();
	if (built.stack && built.stack->down &&
	    shell_line(line, sizeof(line), built.stack->down))
		FAIL("%s cannot be taken apart", built.stack->name);
	for (i = 0; i < STACK_BOTTOMS_MAX; i++)
		null_disk_destroy(&built.bottoms[i]);
	null_disk_destroy(&built.storage);
	memset(&built, 0, sizeof(built));
}

/**
 * stack_rebuild() - show the top a second time, over the images of the bottoms
 * @snapshot:	has the images
 * @top:	filled in
 *
 * Return: false and a failed check if it does not work.
 */
bool stack_rebuild(const struct snapshot *snapshot, struct disk *top)
{
	unsigned int i;

	for (i = 0; i < built.stack->nr_bottoms; i++) {
		const char variable[] = { 'I', '0' + i, '\0' };

		setenv(variable, image_of(snapshot, &built.bottoms[i]), 1);
	}
	if (shell_line(again, sizeof(again), built.stack->rebuild)) {
		FAIL("%s cannot be built over its images", built.stack->name);
		again[0] = '\0';
		return false;
	}
	setenv("AGAIN", again, 1);
	return !EXPECT_OK(disk_find(top, again));
}

void stack_unbuild(void)
{
	char line[100];

	if (!again[0])
		return;
	again[0] = '\0';
	if (shell_line(line, sizeof(line), built.stack->unbuild))
		FAIL("%s over its images cannot be taken apart",
		     built.stack->name);
}
