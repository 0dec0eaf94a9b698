# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# The tests that run in a virtual machine, and the machine that each needs
#
#	suite NAME PROGRAM [OPTION]...
#
# NAME names the step ("run --only NAME"), PROGRAM is a test_* program or a script
# of this folder.  It prints KTAP to stdout.  Options are those of
# ../lib/guest ("--module blksnap" is the module built here), and
#
#	--kmod-stock M		as --kmod on a kernel of Debian, which has it if it is
#				not among those lacking, else as --kmod-if
#	--arguments 'A...'	arguments of the program in the full form
#	--arguments-6.1-rt 'A...'
#				the same, on the kernel of that name
#	--arguments-short 'A...'
#				the same, on kernels that run no long suites
#	--fast 'A...'		arguments in the short form; without it the
#				suite is left out of the short form
#	--also 'KERNEL...'	run in the full form on these kernels, too
#	--on 'KERNEL'		only on kernels of this pattern: there is nothing to
#				be tested on others
#	--skip 'KERNEL REASON'	it cannot run on kernels of this pattern
#	--host			run the script on the host: it starts guests
#	--timeout N		seconds, in which --seconds N of the arguments is
#				not included; longer on kernels that are slow
#	--alone			run nothing at the same time: it compares times

# The long suites run on the oldest kernel, and where they look for faults or are
# fast; other kernels run the short ones.
long='@(6.1|kasan|kcsan|uml*)'

# What kernels of Debian lack, by a pattern of their names: modules, and the same as
# part of the kernel.
# shellcheck disable=SC2034 # of ../run
declare -gA lacking=(
	['7*|*-7*|*rc*']='aes_generic sha256_generic'
	['*cloud*']='gfs2'
	['@(arm64|riscv64)-*']='scsi_debug aesni-intel nd_e820'
	['s390x-*']='scsi_debug aesni-intel nd_e820 nd_pmem'
)

# What "make check" leaves to "make check-long", as patterns of steps.  On newer kernels
# it is what is nearest to what is tested on an older one.
# shellcheck disable=SC2034 # of ../run
later=('@(ioctl32|oracle-virtio|disturb|kind|storage-pressure|instant|waits)-6.1'
	'@(images|mount*|backup|examples|serve|status|library|power-cut|rounds)-6.1'
	'@(probes|torture|life|hostile|storage|io|ftrace-*|disturb)-@(6.12|7)')

# What both leave out, whose time is limited; "run --kernel NAME" does not.  Throughput
# has disks that are slow on purpose.
# shellcheck disable=SC2034 # of ../run
left_out=(throughput-6.1 'torture-@(6.12|7)'
	'@(probes|disturb|hostile|storage)-6.12' '@(probes|life|io|hostile|storage)-7')

suite guest-runner guest_runner.sh --on "$long" --host --arguments-short --short \
	--fast --short --timeout 300
# The hook is made for 7.x.
suite in-tree in_tree.sh --host --on 'uml*' --timeout 900

suite probes probes.sh --host --fast '' --timeout 300 \
	--skip '@(uml*|*builtin) its configuration has the hook'

part_of_kernel='what is part of a kernel is not loaded anew with other parameters'
null_blk='--module blksnap --kmod null_blk'
stack_modules='--kmod-stock brd --kmod-stock zram --kmod-stock lzo-rle --kmod-stock scsi_debug
	--kmod-stock sd_mod --kmod-stock dm-mod --kmod-stock dm-delay --kmod-stock dm-crypt
	--kmod-stock xts --kmod-stock ecb --kmod-stock aes_generic --kmod-stock aesni-intel
	--kmod-stock dm-thin-pool --kmod-stock dm-multipath --kmod-stock dm-round-robin
	--kmod-stock nd_e820 --kmod-stock nd_pmem --kmod-stock raid1 --kmod-stock raid456
	--kmod-stock loop --kmod-stock ext4 --kmod-stock xfs --kmod-stock btrfs --kmod-stock vfat
	--kmod-stock gfs2 --kmod-stock nls_cp437 --kmod-stock nls_ascii'
# shellcheck disable=SC2154 # of ../run
stack_programs="--program $build/tools/blksnap --program dmsetup --program lvm
	--program mdadm
	--program losetup --program mkfs.ext4 --program e2fsck --program dumpe2fs
	--program mkfs.xfs --program xfs_repair --program mkfs.btrfs
	--program btrfs --program mkfs.vfat --program fsck.vfat --program-if mkfs.gfs2"
# What is part of a kernel gets its parameters there; a module is loaded with others.
# Agents that append a GiB would leave no storage to each other.
small_minimum=blksnap.diff_storage_minimum=4096
# shellcheck disable=SC2086 # options and their values
{
suite ioctl test_ioctl $null_blk --kmod ext4 --program mkfs.ext4 \
	--append 'bdev_allow_write_mounted=0 syscall.x32=y' --also 6.1-rt --arguments-6.1-rt --fast \
	--fast --fast --timeout 300
suite ioctl32 test_ioctl32 --on "$long" $null_blk --timeout 300 \
	--skip 'uml* user-mode Linux runs no 32-bit programs'
suite oracle test_oracle $null_blk --kmod ext4 --program mkfs.ext4 \
	--program e2fsck --arguments '--rounds 300' --arguments-short '--rounds 100' \
	--fast '--rounds 24' \
	--timeout 3600
suite oracle-virtio test_oracle --on "$long" $null_blk --kmod ext4 --program mkfs.ext4 \
	--program e2fsck --disk 16M --disk 16M --disk 128M \
	--arguments '--rounds 120 --device /dev/vda --device /dev/vdb --storage /dev/vdc' \
	--timeout 1200
suite torture test_torture --append "$small_minimum" $null_blk --kmod brd --kmod loop --kmod dm-mod \
	--kmod dm-delay --kmod ext4 --program mkfs.ext4 --memory 1536 \
	--arguments '--seconds 180' --arguments-short '--seconds 40' \
	--also kasan --arguments-kasan '--seconds 120' \
	--fast '--seconds 20' --timeout 400
suite life test_life $null_blk --module test_modules/slow_end.ko --kmod brd --kmod loop --kmod sd_mod --kmod-stock scsi_debug \
	--kmod dm-mod --kmod dm-delay --kmod ext4 --program dmsetup --program mkfs.ext4 \
	--disk 16M --append 'slab_nomerge slub_debug=FPZ' \
	--arguments '--lives 30 --device /dev/vda' \
	--arguments-short '--fast --lives 5' \
	--fast '--fast --lives 5' --timeout 600 \
	--skip "*builtin $part_of_kernel"
# What has been switched off stays off: each of them needs a boot of its own.
for part in tracked unload early; do
	suite ftrace-$part test_ftrace $null_blk --module test_modules/kill_ftrace.ko \
		--arguments "--filter $part." --timeout 200 \
		--skip '@(uml*|*builtin) its filter needs no ftrace'
done
suite disturb life/disturb.sh $null_blk \
	--file test_modules/second_user.ko:/run/second_user.ko \
	--program test_oracle --program-if bpftrace \
	--program $build/tools/blksnap --kmod ext4 --program mkfs.ext4 --program e2fsck \
	--disk 16M --timeout 600 --skip '@(uml*|*builtin) its filter needs no ftrace'
suite io test_io --alone $null_blk --kmod dm-mod --kmod dm-delay --kmod loop --program dmsetup --memory 1536 \
	--disk 64M --arguments '--device /dev/vda' \
	--also 6.1-rt --fast '--device /dev/vda' --timeout 300
suite rt test_rt $null_blk --disk 16M --arguments '--device /dev/vda' \
	--on '*-rt' --also 6.1-rt --timeout 600
suite kind test_kind --alone $null_blk --kmod dm-mod --kmod dm-delay --memory 1536 \
	--on 6.1 --arguments-short '--fast' --fast '--fast' --timeout 900
# The kernel's leak detector makes an object for each one that is allocated: if
# those could fail too, the sweep would take twice as long.
suite sweep test_sweep $null_blk --kmod ext4 --program mkfs.ext4 \
	--program e2fsck --program modinfo --faults \
	--append 'rcupdate.rcu_expedited=1 slub_debug=A;-,kmemleak_object,kmemleak_scan_area,debug_objects_cache' \
	--on '@(*kasan|uml*)' --also kasan --arguments-kasan '--step 24' \
	--timeout 900
suite hostile test_hostile $null_blk \
	--arguments '--calls 60000 --seconds 30' \
	--arguments-short '--calls 30000 --seconds 12' \
	--fast '--fast --calls 5000 --seconds 6' --timeout 300 \
	--skip "*builtin $part_of_kernel"
suite stacks test_stacks $null_blk $stack_modules $stack_programs --memory 2048 \
	--append 'memmap=32M!1G' --disk 20M --arguments-short --fast --fast --fast \
	--timeout 600
suite latency test_io --on "$long" $null_blk --icount --arguments '--filter latency' \
	--timeout 300 --skip 'uml* user-mode Linux cannot count instructions'
suite cost test_bench $null_blk --icount --memory 1500 \
	--file tools/testing/selftests/blksnap/bench/budgets:/run/budgets \
	--on 6.1 --arguments '--filter blksnap.cost_ --budgets /run/budgets' --timeout 600
suite storage test_storage $null_blk --kmod dm-mod --kmod dm-delay --kmod loop \
	--kmod-stock scsi_debug --kmod sd_mod --kmod ext4 --kmod-stock xfs --program dmsetup \
	--program mkfs.ext4 --program e2fsck --program mkswap --program mkfs.xfs \
	--program xfs_repair --memory 1280 \
	--file Documentation/block/blksnap.rst:/run/blksnap.rst \
	--arguments '--table /run/blksnap.rst' --arguments-short '--fast' \
	--fast '--fast' --timeout 600 \
	--skip "*builtin $part_of_kernel"
suite storage-pressure test_storage --on "$long" $null_blk --kmod dm-mod --kmod dm-delay \
	--kmod ext4 --program dmsetup --program mkfs.ext4 --program e2fsck \
	--program mkswap --memory 192 --disk 96M --disk 128M \
	--arguments '--device /dev/vda --storage /dev/vdb' --timeout 300
suite instant test_instant --on "$long" --module 'blksnap take_drain_limit=8' --kmod null_blk --kmod ext4 --kmod dm-mod --kmod dm-crypt \
	--kmod dm-delay --kmod-stock dm-zero --kmod-stock aes_generic --kmod-stock xts \
	--kmod-stock crypto_null --kmod loop --kmod-stock scsi_debug --kmod sd_mod \
	--program mkfs.ext4 --program dmsetup --memory 1536 \
	--arguments '--takes 120' --arguments-short '--takes 40' --timeout 900
suite waits test_waits --alone --on '@(6.1|uml*)' $null_blk --kmod ext4 --kmod dm-mod --kmod dm-delay \
	--kmod-stock raid1 --kmod-stock raid0 --kmod-stock nvme --nvme-multipath 16M,write-rate=100000 \
	--program mkfs.ext4 --program mdadm --arguments-short '--fast' --fast '--fast' \
	--timeout 900
# What is seen of an image beside its origin is the same on each kernel.
suite images tool/images.sh --udev --on 6.1 --module blksnap --kmod loop --kmod dm-mod --kmod dm-crypt \
	--kmod-stock xts --kmod-stock ecb --kmod-stock aes_generic --kmod-stock aesni-intel \
	--kmod-stock sha256_generic --kmod-stock algif_skcipher --kmod raid1 --kmod raid456 \
	--kmod ext4 --kmod xfs --kmod btrfs \
	--program "$build/tools/blksnap" --program sfdisk --program blkid \
	--program losetup --program wipefs --program blockdev --program fsfreeze \
	--program mkfs.ext4 --program mkfs.xfs --program mkfs.btrfs --program btrfs \
	--program btrfstune --program lvm --program vgimportclone --program dmsetup \
	--program mdadm --program cryptsetup \
	--file tools/blksnap/udev/12-blksnap.rules:/lib/udev/rules.d/12-blksnap.rules \
	--file tools/blksnap/udev/blksnap-links:/lib/udev/blksnap-links \
	--file Documentation/block/blksnap.rst:/run/blksnap.rst \
	--disk 256M --disk 160M --disk 160M --disk 400M --disk 256M \
	--arguments '/run/blksnap.rst' --timeout 900
mount_options="--udev --on 6.1 --module blksnap --kmod loop --kmod nbd
	--kmod ext4 --kmod xfs --kmod btrfs --kmod vfat --kmod nls_cp437 --kmod nls_ascii
	--program $build/tools/blksnap --program qemu-nbd --program qemu-img
	--program nbdinfo --program sfdisk --program blkid --program losetup
	--program wipefs --program mkfs.ext4 --program mkfs.xfs --program mkfs.btrfs
	--program mkfs.vfat --program btrfs --program btrfstune --program lvm
	--program dmsetup --program cryptsetup --program mdadm
	--file tools/blksnap/udev/12-blksnap.rules:/lib/udev/rules.d/12-blksnap.rules
	--file tools/blksnap/udev/blksnap-links:/lib/udev/blksnap-links
	--file tools/blksnap/blksnap.8:/run/blksnap.8
	--disk 512M --disk 160M --disk 160M --disk 400M --disk 256M --disk 3G"
suite mount tool/mount.sh $mount_options --timeout 900
suite mount-containers tool/mount.sh $mount_options --arguments --containers \
	--kmod dm-mod --kmod dm-crypt --kmod-if xts --kmod-if ecb --kmod-if aes_generic \
	--kmod-if aesni-intel --kmod-if sha256_generic --kmod-if algif_skcipher \
	--kmod raid1 --kmod raid456 --program mkswap --program script --program cmp \
	--timeout 1200
# What loads libnbd gets it with a program that is linked with it.
suite backup tool/backup.sh --on 6.1 --module blksnap --kmod ext4 --kmod xfs --kmod loop \
	--kmod nbd \
	--program "$build/tools/blksnap" --program qemu-nbd --program qemu-img \
	--program nbdinfo --program mkfs.ext4 --program blockdev --program e2fsck \
	--program mkfs.xfs --program xfs_repair --program partclone.extfs \
	--program partclone.xfs --program fallocate --program cmp \
	--disk 64M --disk 6G --disk 64M --disk 320M --disk 320M --timeout 1200
suite examples tool/examples.sh --udev --on 6.1 --module blksnap --kmod loop --kmod nbd --kmod ext4 \
	--kmod dm-mod --kmod dm-crypt --kmod-if xts --kmod-if ecb --kmod-if aes_generic \
	--kmod-if aesni-intel --kmod-if sha256_generic --kmod-if algif_skcipher \
	--program partclone.extfs \
	--program "$build/tools/blksnap" --program qemu-nbd --program qemu-img \
	--program nbdinfo --program jq --program sfdisk --program mkfs.ext4 \
	--program dd --program cmp --program losetup --program lvm --program dmsetup \
	--program cryptsetup \
	--file tools/blksnap/udev/12-blksnap.rules:/lib/udev/rules.d/12-blksnap.rules \
	--file tools/blksnap/udev/blksnap-links:/lib/udev/blksnap-links \
	--file tools/blksnap/blksnap.8:/run/blksnap.8 \
	--disk 80M --disk 80M --disk 80M --disk 8G --disk 80M \
	--arguments '/run/blksnap.8' --timeout 900
# Two origins, storage, a disk for the files, and one with room for many ranges.
suite serve tool/serve.sh --on 6.1 --module blksnap --kmod ext4 --nbd-clients \
	--program "$build/tools/blksnap" --program qemu-storage-daemon --program qemu-img \
	--program qemu-io --program qemu-nbd --program nbdinfo --program nbdcopy --program jq \
	--program mkfs.ext4 --program dd --program cmp --program pgrep \
	--disk 48M --disk 16M --disk 256M --disk 1G --disk 1400M --memory 1536 \
	--timeout 900
# The emulator's processors are some twenty times slower than those of the machine, and
# so are the disks here.  User-mode Linux waits for no disk, so the checksums and the
# way through qemu-nbd count in full, and the targets are missed: 1.65 and 2.66 were
# measured.  There the limits are for what gets worse.
throughput="--module blksnap --kmod ext4 --program $build/tools/blksnap
	--program qemu-nbd --program qemu-img --program nbdinfo --program mkfs.ext4
	--program blockdev --program dd --program sync --program test_throughput
	--memory 1536"
suite throughput cost/throughput.sh --alone --on 6.1 $throughput \
	--disk 512M,rate=10000000 --disk 3G,rate=10000000 \
	--arguments '--rounds 3' --timeout 1800
suite throughput-uml cost/throughput.sh --alone --on uml $throughput \
	--disk 1G --disk 4G --arguments '--rounds 5 --limits 2.5:5' --timeout 1800
suite status tool/status.sh --udev --on '@(6.1|uml*)' \
	--module 'blksnap diff_storage_minimum=8192 diff_storage_ahead=0 copy_memory_maximum=4' \
	--kmod null_blk --kmod dm-mod --kmod ext4 \
	--program "$build/tools/blksnap" --program jq --program dmsetup --program mkfs.ext4 \
	--program dd --program bpftrace --file Documentation/block/blksnap.rst:/run/blksnap.rst \
	--disk 64M --disk 64M --disk 64M --memory 1536 --arguments '/run/blksnap.rst' \
	--timeout 900
suite library tool/library.sh --on 6.1 \
	--module 'blksnap diff_storage_minimum=8192 diff_storage_ahead=0' --kmod ext4 \
	--program "$build/tools/blksnap" --program "$build/library/example_backup" \
	--program /usr/bin/python3 --program "$build/library/_ctypes.so" \
	--program mkfs.ext4 --program dd --program cmp --program sha256sum \
	--file "$build/library:/library" --file "$build/library/lib:/library/home/lib" \
	--disk 32M --disk 320M --timeout 600
suite power-cut tool/power_cut.sh --host --on '@(6.1|uml*)' \
	--arguments '--cuts 2' --arguments-uml '--cuts 50' --timeout 2400
suite rounds tool/rounds.sh --on '@(6.1|uml*)' --module blksnap --kmod ext4 --kmod xfs \
	--program "$build/tools/blksnap" --program qemu-nbd --program qemu-img \
	--program nbdinfo --program mkfs.ext4 --program mkfs.xfs --program blockdev \
	--program fsfreeze --program fstrim --program cmp --program awk --program dd \
	--program stat --program mv --program rm --program truncate --program cp \
	--disk 64M --disk 320M --disk 64M --disk 4G \
	--arguments '--rounds 2' --arguments-uml '--rounds 24 --sizes yes' --timeout 3000
}
