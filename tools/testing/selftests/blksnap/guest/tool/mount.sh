#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# blksnap mount and umount, in a guest with udev, LVM, LUKS, md and filesystems
#
#	mount.sh [--containers]
#
# The example of the man page, /run/blksnap.8, is run as it stands.
#
# The first disk has partitions, the second, third and fourth one are for what a
# test needs, the fifth one is the storage, on the sixth one are backups.

# The tests are called by name from the table at the end, and disk_a to disk_f are
# assigned by name.
# shellcheck disable=SC2317,SC2154
set -uo pipefail
shopt -s extglob
# shellcheck source-path=SCRIPTDIR source=../rig/ktap.sh
. ktap.sh

for name in a b c d e f; do
	printf -v "disk_$name" '%s' "$(readlink -f "/dev/vd$name")"
done
backups=/srv/backups/all
kills=12
id=
image=
RANDOM=20261129

# quietly COMMAND... - its output as a comment
quietly()
{
	local code=0

	"$@" >/tmp/output 2>&1 || code=$?
	sed 's/^/# | /' /tmp/output
	return "$code"
}

take_once()
{
	id=$(blksnap snapshot create "$@" --take --device "$disk_e" --force \
		--range 4096:400000)
}

# take DEVICE... - take a snapshot; sets id, and image to that of the first
#
# It is the second one.  So what the image differs in from the origin since the
# first one is next to nothing, and what is written to the image is seen.
take()
{
	take_once "$@" 2>/dev/null && release && take_once "$@" || return 1
	image=$(blksnap snapshot images "$id" --no-header |
		awk 'NR == 1 { print $3 }')
	udevadm settle
}

release()
{
	blksnap snapshot destroy "$id" || return 1
	id=
}

# fill - what is to be seen, then what is not
fill()
{
	echo 'of the take' >/origin/file && head -c 3000000 /dev/urandom \
		>/origin/data && sync && sha256sum </origin/data >/tmp/sum
}

overwrite()
{
	echo 'of a later time' >/origin/file && : >/origin/data && sync
}

# shows_the_take [PLACE] - also in a file that takes more than a block
shows_the_take()
{
	local place=${1:-/mnt}

	[[ $(<"$place/file") == 'of the take' &&
	   $(sha256sum <"$place/data") == "$(</tmp/sum)" ]] ||
		{ say "$place is not what the origin was"; return 1; }
}

# changed_sectors DEVICE - how much the increment has
changed_sectors()
{
	blksnap cbt extents "$1" --since 1 --no-header |
		awk '{ n += $2 } END { print n + 0 }'
}

# mounted_with OPTIONS [PLACE] - as the kernel and the tool say
mounted_with()
{
	[[ $(</proc/mounts) =~ \ ${2:-/mnt}\ [a-z0-9]+\ ro,nosuid,nodev, &&
	   $(</tmp/result) == *"\"options\":\"$1\""* ]] ||
		{ say "wanted $1:" "$(</tmp/result)"; return 1; }
}

# lies_in TEXT - so the tool says
lies_in()
{
	tr -d ' \n' </tmp/result | grep -qF "$1" ||
		{ say "no $1 in" "$(tr -d '\n' </tmp/result)"; return 1; }
}

# do_mount ARGUMENT... - what it prints is kept
do_mount()
{
	local code=0

	blksnap mount --json "$@" >/tmp/result 2>/tmp/message || code=$?
	sed 's/^/# | /' /tmp/message
	return "$code"
}

# refused MESSAGE ARGUMENT... - the mount fails and leaves nothing
refused()
{
	local before after

	before=$(parts)
	! do_mount "${@:2}" || { say "it was not refused"; return 1; }
	grep -q "$1" /tmp/message && (($(wc -l </tmp/message) == 1)) || return 1
	udevadm settle
	after=$(parts)
	[[ $before == "$after" ]] || { say "left: $after"; return 1; }
}

# The numbers of the processes of qemu-nbd.
servers()
{
	local process name

	for process in /proc/[0-9]*; do
		read -r name 2>/dev/null <"$process/comm" && [[ $name == qemu-nbd ]] &&
			echo "${process#/proc/}"
	done
}

# What a mount is made of.
parts()
{
	local path

	for path in /run/blksnap/mounts/* /run/blksnap/mounts/.[!.]* \
		    /sys/block/nbd*/pid /var/tmp/* /dev/mapper/blksnap_*; do
		[[ ! -e $path && ! -L $path ]] || echo "$path"
	done
	grep -h '^blksnap_' /sys/block/dm-*/dm/name 2>/dev/null
	grep -E '^/dev/(blksnap-image|nbd)' /sys/block/loop*/loop/backing_file \
		2>/dev/null
	servers
	grep -E ' /mnt2? ' /proc/mounts
}

nothing_is_left()
{
	local left

	udevadm settle
	left=$(parts)
	[[ ! $left ]] || { say "left:" "$left"; return 1; }
}

end()
{
	blksnap umount "${1:-/mnt}" && nothing_is_left
}

# unchanged DEVICE BEFORE - the next increment is what it was
unchanged()
{
	local now

	sync
	now=$(changed_sectors "$1")
	((now == $2)) || { say "changed: $2 sectors, then $now"; return 1; }
}

make_ext4()
{
	mkfs.ext4 -q -L live "$disk_b" && mount "$disk_b" /origin && fill
}

make_xfs()
{
	mkfs.xfs -q -f "$disk_d" && mount "$disk_d" /origin && fill
}

make_btrfs()
{
	mkfs.btrfs -q -f "$disk_b" >/dev/null 2>&1 && mount "$disk_b" /origin && fill
}

test_frozen_ext4()
{
	local before

	make_ext4 && take "$disk_b" && overwrite || return 1
	before=$(changed_sectors "$disk_b")
	do_mount "$image" /mnt && mounted_with ro && shows_the_take &&
		[[ ! $(servers) ]] && ! touch /mnt/file 2>/dev/null || return 1
	end && unchanged "$disk_b" "$before"
}

# A file that was deleted while it was open is on the list of orphans, which ext4
# clears when it is mounted read-only, too.  It stays open, or the origin changes the
# same blocks.
test_orphans_stay()
{
	local before

	make_ext4 && exec 7>/origin/deleted && head -c 1000000 /dev/zero >&7 &&
		rm /origin/deleted && take "$disk_b" || return 1
	before=$(changed_sectors "$disk_b")
	do_mount "$image" /mnt && shows_the_take && end &&
		unchanged "$disk_b" "$before"
}

# The take does not freeze what is mounted from a loop device on the origin.  What
# was synced last is in the journal alone.
make_dirty_ext4()
{
	local loop

	loop=$(losetup --direct-io=on -f --show "$disk_b") &&
		mkfs.ext4 -q -L live "$loop" && mount -o commit=300 "$loop" /origin &&
		fill && echo 'of the journal' >/origin/last && sync /origin/last &&
		take "$disk_b" && mount -o ro,noload "$image" /mnt || return 1
	[[ ! -e /mnt/last ]] || { say "the journal is not needed"; return 1; }
	umount /mnt
}

test_dirty_ext4()
{
	local before

	make_dirty_ext4 || return 1
	before=$(changed_sectors "$disk_b")
	do_mount "$image" /mnt && mounted_with ro && shows_the_take &&
		grep -qx 'of the journal' /mnt/last && end &&
		unchanged "$disk_b" "$before"
}

# without PROGRAM COMMAND... - as if it were not installed
without()
{
	local code=0

	mv "/bin/$1" "/bin/$1.away"
	"${@:2}" || code=$?
	mv "/bin/$1.away" "/bin/$1"
	return "$code"
}

test_dirty_ext4_without_a_server()
{
	local before

	make_dirty_ext4 || return 1
	before=$(changed_sectors "$disk_b")
	without qemu-nbd do_mount "$image" /mnt && mounted_with ro,noload &&
		shows_the_take && [[ ! -e /mnt/last ]] &&
		grep -q 'apt-get install qemu-utils' /tmp/message &&
		grep -q "mounted with noload, so changes" /tmp/message &&
		end && unchanged "$disk_b" "$before"
}

test_xfs()
{
	local before

	make_xfs && take "$disk_d" && overwrite || return 1
	before=$(changed_sectors "$disk_d")
	do_mount "$image" /mnt && mounted_with ro,nouuid && shows_the_take &&
		end && unchanged "$disk_d" "$before"
}

test_xfs_without_a_server()
{
	make_xfs && take "$disk_d" && overwrite || return 1
	without qemu-nbd do_mount "$image" /mnt &&
		mounted_with ro,nouuid,norecovery && shows_the_take &&
		grep -q "mounted with nouuid,norecovery, so changes" /tmp/message &&
		end
}

test_btrfs()
{
	local before

	make_btrfs && take "$disk_b" && overwrite || return 1
	before=$(changed_sectors "$disk_b")
	do_mount "$image" /mnt && mounted_with ro && shows_the_take &&
		grep -qx 'of a later time' /origin/file && end &&
		unchanged "$disk_b" "$before"
}

test_btrfs_that_cannot_be_mounted()
{
	make_btrfs && take "$disk_b" &&
		without btrfstune refused 'apt-get install btrfs-progs' "$image" \
			/mnt &&
		without qemu-nbd refused 'apt-get install qemu-utils' "$image" /mnt
}

test_btrfs_on_several_devices()
{
	mkfs.btrfs -q -f -d raid0 -m raid1 "$disk_b" "$disk_c" >/dev/null 2>&1 &&
		quietly take "$disk_b" &&
		refused 'is one device of a btrfs on several devices' "$image" /mnt
}

test_vfat()
{
	local before

	mkfs.vfat "$disk_b" >/dev/null && mount "$disk_b" /origin && fill &&
		take "$disk_b" && overwrite || return 1
	before=$(changed_sectors "$disk_b")
	do_mount "$image" /mnt && mounted_with ro && shows_the_take && end &&
		unchanged "$disk_b" "$before"
}

# A boot partition, one that is empty, and the one with the data.
make_partitions() # TYPE
{
	printf 'label: gpt\nsize=40M\nsize=8M\nsize=340M\n' |
		sfdisk -q "$disk_a" >/dev/null && udevadm settle &&
		wipefs -qaf "${disk_a}3" && quietly "mkfs.$1" -q "${disk_a}3" && mount "${disk_a}3" /origin &&
		fill
}

test_only_partition_with_a_filesystem()
{
	make_partitions ext4 && take "$disk_a" && overwrite &&
		do_mount "$image" /mnt && grep -q '"partition":3' /tmp/result &&
		mounted_with ro && shows_the_take && end
}

test_one_of_several_partitions()
{
	local list='1 (vfat, 40 MiB), 2 (unknown, 8 MiB), 3 (xfs, 340 MiB)'

	make_partitions xfs && mkfs.vfat "${disk_a}1" >/dev/null && sync &&
		take "$disk_a" && overwrite &&
		refused "choose one with --partition: $list" "$image" /mnt &&
		refused "no partition 4; there are: $list" "$image" /mnt \
			--partition 4 &&
		refused 'holds no filesystem that is known' "$image" /mnt \
			--partition 2 &&
		do_mount "$image" /mnt --partition 3 && mounted_with ro,nouuid &&
		shows_the_take && do_mount "$image" /mnt2 --partition 1 &&
		blksnap umount /mnt2 && shows_the_take && end
}

test_btrfs_in_a_partition()
{
	make_partitions btrfs && take "$disk_a" && overwrite &&
		do_mount "$image" /mnt && mounted_with ro && shows_the_take && end
}

test_no_filesystem()
{
	local first

	make_ext4 && take "$disk_b" "$disk_c" || return 1
	first=$image
	image=$(blksnap snapshot images "$id" --no-header |
		awk 'NR == 2 { print $3 }')
	refused "has no partitions" "$first" /mnt --partition 1 &&
		refused "has no volumes; leave --volume out" "$first" /mnt \
			--volume root &&
		refused "has all that is mounted; leave '$image' out" \
			"$first" "$image" /mnt &&
		refused "are the same device" "$first" "$first" /mnt &&
		refused "holds no filesystem that is known" "$image" /mnt
}

# A group that is in use: one volume is mounted.
make_group() # PHYSICAL_VOLUME...
{
	quietly pvcreate -q -ff -y "$@" && quietly vgcreate -q live "$@" &&
		quietly lvcreate -q -y -n root -L 64M live && udevadm settle &&
		mkfs.ext4 -q -L root /dev/live/root &&
		mount /dev/live/root /origin && fill && udevadm settle
}

# No link by what is on a device leads to a copy of it.
links_are_right()
{
	local link

	for link in /dev/disk/by-@(uuid|label|partuuid|partlabel|id)/*; do
		[[ -e $link ]] || continue
		! /lib/udev/blksnap-links "$(basename "$(readlink -f "$link")")" \
			>/tmp/link || { say "$link leads to $(</tmp/link)"; return 1; }
	done
}

# live_is_undisturbed - the group is what it was, and can be changed
#
# Its identifier was written to /tmp/group, and what it is made of to /tmp/table.
remember_live()
{
	lvm vgs --noheadings -o vg_uuid,pv_uuid,pv_name live >/tmp/group &&
		dmsetup table live-root >/tmp/table
}

live_is_undisturbed()
{
	links_are_right || return 1
	lvm vgs --noheadings -o vg_uuid,pv_uuid,pv_name live >/tmp/now 2>/tmp/warnings
	if ! cmp -s /tmp/group /tmp/now || [[ -s /tmp/warnings ]]; then
		say "the group is now" "$(</tmp/now)" "$(</tmp/warnings)"
		return 1
	fi
	[[ $(dmsetup table live-root) == "$(</tmp/table)" ]] &&
		quietly lvm lvcreate -y -n more -L 4M live &&
		quietly lvm lvremove -y live/more && echo more >/origin/more && sync
}

test_lvm()
{
	local before

	make_group "$disk_b" && take "$disk_b" && overwrite && remember_live || return 1
	before=$(changed_sectors "$disk_b")
	do_mount "$image" /mnt && mounted_with ro && shows_the_take &&
		grep -q '"volume":"root"' /tmp/result &&
		grep -q '"device":"\\*/dev\\*/mapper\\*/blksnap_' /tmp/result &&
		live_is_undisturbed && ! touch /mnt/file 2>/dev/null || return 1
	end && live_is_undisturbed && unchanged "$disk_b" "$before"
}

# What is not mounted of a group that is on the disk is not disturbed, either.
test_lvm_that_is_not_mounted()
{
	printf 'label: gpt\nsize=40M\nsize=300M\n' | sfdisk -q "$disk_a" >/dev/null &&
		udevadm settle && mkfs.vfat "${disk_a}1" >/dev/null &&
		make_group "${disk_a}2" && make_backups && back_up one "$disk_a" &&
		remember_live && do_mount --from "$backups" /mnt --partition 1 &&
		live_is_undisturbed && end && live_is_undisturbed
}

test_one_of_several_volumes()
{
	local list="home (xfs 'home', 300 MiB), root (ext4 'root', 64 MiB), swap (swap, 8 MiB)"

	printf 'label: gpt\nsize=40M\nsize=400M\n' | sfdisk -q "$disk_a" >/dev/null &&
		udevadm settle && mkfs.vfat "${disk_a}1" >/dev/null &&
		make_group "${disk_a}2" && quietly lvcreate -q -y -n swap -L 8M live &&
		quietly mkswap /dev/live/swap &&
		quietly lvcreate -q -y -n home -L 300M live &&
		mkfs.xfs -q -L home /dev/live/home && mount /dev/live/home /mnt2 &&
		echo 'at home' >/mnt2/file && sync && umount /mnt2 &&
		take "$disk_a" && overwrite && remember_live &&
		refused "choose one with --partition: 1 (vfat, 40 MiB), 2 (LVM2_member" \
			"$image" /mnt &&
		refused "several volumes, choose one with --volume: $list" "$image" \
			/mnt --partition 2 &&
		refused "no volume 'none'; there are: home (unknown, 300 MiB)" \
			"$image" /mnt --partition 2 --volume none &&
		refused "holds swap, no filesystem" "$image" /mnt --partition 2 \
			--volume swap &&
		refused "is only mounted read-only; leave --writable out" "$image" \
			/mnt --partition 2 --volume root --writable &&
		do_mount "$image" /mnt --partition 2 --volume root &&
		shows_the_take && do_mount "$image" /mnt2 --partition 2 --volume home &&
		lies_in '"partition":2,"volume":"home"' &&
		grep -qx 'at home' /mnt2/file && live_is_undisturbed &&
		blksnap umount /mnt2 && shows_the_take && end && live_is_undisturbed
}

second_image()
{
	blksnap snapshot images "$id" --no-header | awk 'NR == 2 { print $3 }'
}

test_group_on_several_devices()
{
	local uuid second

	make_group "$disk_b" "$disk_c" && quietly lvcreate -q -y -n wide -i 2 -L 64M live &&
		mkfs.ext4 -q /dev/live/wide && umount /origin &&
		mount /dev/live/wide /origin && fill && make_backups &&
		quietly blksnap backup --to "$backups" --source-name one --quiet \
			--storage /srv/backups/storage --storage-size 64M \
			"$disk_b" "$disk_c" && take "$disk_b" "$disk_c" &&
		overwrite && remember_live || return 1
	second=$(second_image)
	uuid=$(lvm pvs --noheadings -o pv_uuid "$disk_c")
	refused "'live' on '$image' lacks its physical volume ${uuid// } (last written to $disk_c); name" \
		"$image" /mnt --volume wide &&
		do_mount "$image" "$second" /mnt --volume wide && shows_the_take &&
		grep -q "\"source\":\"\\\\*/dev\\\\*/${image##*/},\\\\*/dev\\\\*/${second##*/}\"" \
			/tmp/result && live_is_undisturbed && end &&
		do_mount "$second" "$image" /mnt --volume wide && shows_the_take && end &&
		do_mount --from "$backups" --disk "${disk_b##*/}" \
			--disk "${disk_c##*/}" /mnt --volume wide &&
		shows_the_take && live_is_undisturbed && end
}

make_luks() # DEVICE
{
	cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 \
		"$1" <<<'passphrase' && cryptsetup open "$1" crypt <<<'passphrase' &&
		udevadm settle
}

# answer TEXT - when the question is there: what is typed before is thrown away
answer()
{
	local i

	for ((i = 0; i < 600; i++)); do
		! grep -q 'Passphrase of' /tmp/terminal || break
		sleep 0.1
	done
	sleep 1
	echo "$1"
}

# at_terminal ANSWER COMMAND... - what is to be seen there is in /tmp/terminal
at_terminal()
{
	local code=0

	: >/tmp/terminal
	answer "$1" | script -qfec "${*:2}" /dev/null >>/tmp/terminal || code=$?
	sed 's/^/# | /' /tmp/terminal
	return "$code"
}

test_luks()
{
	local before

	make_luks "$disk_b" && mkfs.ext4 -q /dev/mapper/crypt &&
		mount /dev/mapper/crypt /origin && fill && take "$disk_b" &&
		overwrite || return 1
	before=$(changed_sectors "$disk_b")
	printf passphrase >/tmp/key
	echo wrong >/tmp/wrong
	: >/tmp/empty
	do_mount "$image" /mnt --luks-key-file /tmp/key && mounted_with ro &&
		shows_the_take && links_are_right && end &&
		refused "cannot open the LUKS in '$image': No key available with this passphrase" \
			"$image" /mnt --luks-key-file /tmp/wrong &&
		refused "the key in '/tmp/empty' is empty" "$image" /mnt \
			--luks-key-file /tmp/empty &&
		refused "cannot open the key file '/tmp/none': No such file" "$image" \
			/mnt --luks-key-file /tmp/none &&
		refused "no terminal to ask for the passphrase; name the key with --luks-key-file" \
			"$image" /mnt && grep -qx 'of a later time' /origin/file &&
		unchanged "$disk_b" "$before"
}

test_passphrase_at_the_terminal()
{
	make_luks "$disk_b" && mkfs.ext4 -q /dev/mapper/crypt &&
		mount /dev/mapper/crypt /origin && fill && take "$disk_b" &&
		overwrite || return 1
	! at_terminal wrong blksnap mount "$image" /mnt &&
		grep -q 'No key available with this passphrase' /tmp/terminal &&
		nothing_is_left && at_terminal passphrase blksnap mount "$image" /mnt &&
		grep -q "Passphrase of the LUKS in $image: " /tmp/terminal &&
		! grep -q '^passphrase' /tmp/terminal && shows_the_take && end
}

# A partition, LUKS, LVM and XFS, as installers lay them out.
make_stack()
{
	printf 'label: gpt\nsize=40M\nsize=450M\n' | sfdisk -q "$disk_a" >/dev/null &&
		udevadm settle && make_luks "${disk_a}2" &&
		quietly pvcreate -q -ff -y /dev/mapper/crypt &&
		quietly vgcreate -q live /dev/mapper/crypt &&
		quietly lvcreate -q -y -n root -L 320M live && udevadm settle &&
		mkfs.xfs -q /dev/live/root && mount /dev/live/root /origin && fill &&
		printf passphrase >/tmp/key
}

test_luks_with_lvm_in_a_partition()
{
	local before

	make_stack && take "$disk_a" && overwrite && remember_live || return 1
	before=$(changed_sectors "$disk_a")
	do_mount "$image" /mnt --luks-key-file /tmp/key && mounted_with ro,nouuid &&
		lies_in '"partition":2,"volume":"root"' &&
		shows_the_take && live_is_undisturbed && end &&
		unchanged "$disk_a" "$before" && release && make_backups &&
		back_up one "$disk_a" && do_mount --from "$backups" /mnt \
			--luks-key-file /tmp/key && grep -qx 'of a later time' /mnt/file &&
		live_is_undisturbed && end
}

make_array() # LEVEL MEMBER...
{
	mdadm --quiet --create /dev/md0 --level="$1" --raid-devices=$(($# - 1)) \
		--assume-clean --run "${@:2}" 2>/dev/null && udevadm settle
}

array_is_undisturbed()
{
	links_are_right && mdadm --detail --export /dev/md0 >/tmp/now &&
		cmp /tmp/array /tmp/now && [[ ! -e /dev/md127 ]] &&
		echo more >/origin/more && sync
}

test_raid1()
{
	local before version

	for version in 1.2 1.1 1.0; do
		mdadm --quiet --create /dev/md0 --metadata="$version" --level=1 \
			--raid-devices=2 --assume-clean --run "$disk_b" "$disk_c" \
			2>/dev/null && udevadm settle && mkfs.ext4 -q /dev/md0 &&
			mount /dev/md0 /origin && fill &&
			mdadm --detail --export /dev/md0 >/tmp/array &&
			take "$disk_b" && overwrite || return 1
		before=$(changed_sectors "$disk_b")
		do_mount "$image" /mnt && mounted_with ro && shows_the_take &&
			array_is_undisturbed && end &&
			unchanged "$disk_b" "$before" && clean_up || return 1
	done
}

# Two partitions of two disks, an array of them, and a group on that.
test_raid1_with_lvm_in_a_partition()
{
	printf 'label: gpt\nsize=40M\nsize=150M\n' | sfdisk -q "$disk_a" >/dev/null &&
		udevadm settle && make_array 1 "${disk_a}2" "$disk_b" &&
		make_group /dev/md0 && take "$disk_a" && overwrite && remember_live &&
		do_mount "$image" /mnt && mounted_with ro && shows_the_take &&
		lies_in '"partition":2,"volume":"root"' &&
		live_is_undisturbed && end && live_is_undisturbed
}

test_members_that_are_not_mounted()
{
	make_array 5 "$disk_b" "$disk_c" && take "$disk_b" &&
		refused "of an md array of level 5, which alone does not have .*Reading what" \
			"$image" /mnt && release && mdadm --quiet --stop /dev/md0 &&
		mdadm --quiet --create /dev/md0 --level=1 --force --raid-devices=1 \
			--spare-devices=1 --run "$disk_b" "$disk_c" 2>/dev/null &&
		udevadm settle && take "$disk_c" &&
		refused "a RAID1 that is a spare, has failed, or" "$image" /mnt &&
		release && mdadm --quiet --stop /dev/md0 &&
		mdadm --quiet --create /dev/md0 --level=1 --metadata=0.90 \
			--raid-devices=2 --assume-clean --run "$disk_b" "$disk_c" \
			2>/dev/null && take "$disk_b" &&
		refused "metadata that is not of version 1; .*Reading what" "$image" /mnt
}

test_containers_without_their_programs()
{
	make_group "$disk_b" && make_luks "$disk_c" && take "$disk_b" "$disk_c" &&
		without lvm refused 'apt-get install lvm2' "$image" /mnt &&
		without qemu-nbd refused 'apt-get install qemu-utils' "$image" /mnt &&
		printf passphrase >/tmp/key && without cryptsetup refused \
			'apt-get install cryptsetup' "$(second_image)" /mnt \
			--luks-key-file /tmp/key
}

# What is on it keeps a volume: nothing below is taken away.
test_volume_in_use_stays()
{
	make_group "$disk_b" && take "$disk_b" && do_mount "$image" /mnt &&
		umount /mnt && mount -o ro /dev/mapper/blksnap_*-root /mnt2 || return 1
	! blksnap umount /mnt 2>/tmp/message &&
		grep -q "cannot remove '/dev/mapper/blksnap_.*-root': .*busy" /tmp/message &&
		shows_the_take /mnt2 && refused "cannot remove '/dev/mapper/blksnap_" \
			"$image" /mnt && ! blksnap umount /origin 2>/dev/null &&
		shows_the_take /mnt2 && umount /mnt2 &&
		do_mount "$image" /mnt2 && blksnap umount /mnt2 && nothing_is_left
}

test_writable()
{
	local before

	make_ext4 && take "$disk_b" && overwrite || return 1
	before=$(changed_sectors "$disk_b")
	do_mount --writable "$image" /mnt && shows_the_take &&
		grep -q 'becomes part of the next increment' /tmp/message &&
		head -c 1000000 /dev/urandom >/mnt/more && sync &&
		refused "is mounted at '/mnt'" "$image" /mnt2 &&
		end && (($(changed_sectors "$disk_b") > before)) &&
		do_mount "$image" /mnt && [[ -s /mnt/more ]] &&
		refused "is mounted at '/mnt'" --writable "$image" /mnt2 && end
}

test_writable_btrfs_in_a_partition()
{
	make_partitions btrfs && take "$disk_a" && overwrite &&
		do_mount --writable "$image" /mnt && shows_the_take &&
		echo new >/mnt/file && sync && end && do_mount "$image" /mnt &&
		grep -qx new /mnt/file && end
}

test_what_is_in_use_is_refused()
{
	make_ext4 && take "$disk_b" && do_mount "$image" /mnt &&
		refused "'/mnt' is in use: '/dev/loop[0-9]*' is mounted there" \
			"$image" /mnt &&
		refused "'/origin' is in use: '$disk_b' is" "$image" /origin &&
		do_mount "$image" /mnt2 && shows_the_take /mnt2 &&
		blksnap umount /mnt2 && shows_the_take || return 1
	cd /mnt || return 1
	! blksnap umount /mnt 2>/tmp/message || return 1
	cd / && grep -q "'/mnt' is in use; 'fuser -vm /mnt' shows" /tmp/message &&
		end && mount -o ro "$image" /mnt2 &&
		refused "'$image' is in use: it is mounted, or part" "$image" /mnt &&
		! blksnap umount /mnt2 2>/tmp/message &&
		grep -q "was not mounted by 'blksnap mount'" /tmp/message &&
		umount /mnt2
}

# back_up NAME DEVICE
back_up()
{
	quietly blksnap backup --to "$backups" --source-name "$1" --quiet \
		--storage /srv/backups/storage --storage-size 64M "$2"
}

make_backups()
{
	mkfs.ext4 -q "$disk_f" && mount "$disk_f" /srv/backups && mkdir "$backups"
}

contents_of_backup()
{
	sha256sum "$backups"/*/*.qcow2
}

# An older point, a newer one beside it, and the origin beside both.
test_points_of_a_backup()
{
	local before

	make_backups && make_ext4 && back_up one "$disk_b" && overwrite &&
		back_up one "$disk_b" && echo 'even later' >/origin/file && sync &&
		back_up one "$disk_b" || return 1
	before=$(contents_of_backup)
	do_mount --from "$backups" --point 1 /mnt && mounted_with ro &&
		grep -q '"point":1,' /tmp/result && shows_the_take &&
		do_mount --from "$backups" --point 2 --disk "${disk_b##*/}" /mnt2 &&
		grep -qx 'of a later time' /mnt2/file && shows_the_take &&
		back_up one "$disk_b" && blksnap umount /mnt2 &&
		shows_the_take && end && do_mount --from "$backups" /mnt &&
		grep -qx 'even later' /mnt/file && end || return 1
	rm -f "$backups"/one/*.000004.*
	[[ $(contents_of_backup) == "$before" ]]
}

# man_example - print the commands of the first example
man_example()
{
	sed -n '/^blksnap mount/,/^\.fi/{/^\.fi/q; s/\\-/-/g; p}' /run/blksnap.8
}

test_man_example()
{
	local commands

	commands=$(man_example)
	[[ $commands == *'blksnap umount'* ]] || { say "no example"; return 1; }
	make_backups && make_ext4 && mkdir /origin/etc &&
		echo old >/origin/etc/fstab && back_up one "$disk_b" &&
		echo new >/origin/etc/fstab && back_up one "$disk_b" &&
		ln -sfn "$backups" /backup && quietly bash -exc "$commands" &&
		[[ $(</root/fstab.old) == old ]] && nothing_is_left
}

test_xfs_of_a_backup()
{
	local before

	make_backups && make_xfs && back_up one "$disk_d" && overwrite || return 1
	before=$(contents_of_backup)
	do_mount --from "$backups" /mnt && mounted_with ro,nouuid &&
		shows_the_take && end && [[ $(contents_of_backup) == "$before" ]]
}

test_partition_of_a_backup()
{
	make_backups && make_partitions btrfs && back_up one "$disk_a" &&
		overwrite && do_mount --from "$backups" /mnt --partition 3 &&
		shows_the_take && end
}

test_backup_that_cannot_be_mounted()
{
	make_backups && make_ext4 && back_up one "$disk_b" &&
		without qemu-nbd refused 'apt-get install qemu-utils' \
			--from "$backups" /mnt &&
		refused "there is no point 7" --from "$backups" --point 7 /mnt ||
		return 1
	: >"$(echo "$backups"/one/*.000001.qcow2)"
	refused 'is damaged: it is missing or cut' --from "$backups" /mnt
}

# The pages of a layer that was merged are still there for those who have it open.
test_pruned_while_mounted()
{
	make_backups && make_ext4 && back_up one "$disk_b" && overwrite &&
		back_up one "$disk_b" && do_mount --from "$backups" --point 1 /mnt &&
		quietly blksnap prune "$backups" --keep-last 1 --quiet || return 1
	echo 3 >/proc/sys/vm/drop_caches
	shows_the_take && end
}

# A backup has the identifiers of its origin, which may not be mounted.
test_backup_is_no_twin_of_its_origin()
{
	local uuid link

	make_backups && make_partitions ext4 && udevadm settle &&
		back_up one "$disk_a" && uuid=$(blkid -p -s UUID -o value \
			"${disk_a}3") && do_mount --from "$backups" /mnt &&
		udevadm settle && udevadm trigger --settle || return 1
	link=$(readlink -f "/dev/disk/by-uuid/$uuid")
	[[ $link == "${disk_a}3" ]] || { say "the link leads to $link"; return 1; }
	for link in /dev/disk/by-@(uuid|label|partuuid|partlabel)/*; do
		[[ $(readlink -f "$link") != /dev/@(nbd|loop)* ]] ||
			{ say "$link leads to" "$(readlink -f "$link")"; return 1; }
	done
	[[ -e /dev/disk/blksnap/mount-nbd0 ]] && end
}

test_umount_with_parts_gone()
{
	make_xfs && take "$disk_d" && do_mount "$image" /mnt && umount /mnt &&
		end && do_mount "$image" /mnt && umount /mnt &&
		do_mount "$image" /mnt2 && [[ $(servers | wc -l) == 1 ]] &&
		end /mnt2 && do_mount "$image" /mnt && kill -KILL "$(servers)" &&
		sleep 1 && end
}

# The snapshot can be destroyed at once.
test_umount_releases_the_image()
{
	make_btrfs && take "$disk_b" && do_mount "$image" /mnt && end && release &&
		[[ ! -e $image ]]
}

takes_us() # ARGUMENT...
{
	local begin=${EPOCHREALTIME/./}

	do_mount "$@" >/dev/null
	echo $((${EPOCHREALTIME/./} - begin))
}

# kill_mounts ARGUMENT... - of a mount at /mnt, each time a bit later
#
# What a mount takes changes with what else runs, so one that was done is a sign that
# kills come too late.
kill_mounts()
{
	local kill delay duration mounted=0

	takes_us "$@" >/dev/null && end && duration=$(takes_us "$@") && end || return 1
	for ((kill = 0; kill < kills; kill++)); do
		delay=$((duration * kill / kills))
		kill_mount "$delay" "$@"
		if grep -q ' /mnt ' /proc/mounts; then
			mounted=$((mounted + 1))
			duration=$((duration * 3 / 4))
			shows_the_take || return 1
		elif ((kill % 2)); then
			do_mount "$@" && shows_the_take || return 1
		else
			blksnap umount /mnt 2>/dev/null
			nothing_is_left || { say "kill $kill"; return 1; }
			continue
		fi
		end || { say "kill $kill after $delay us"; return 1; }
	done
	say "a mount takes $duration us, $mounted of $kills were done"
	((mounted < kills * 3 / 4))
}

# kill_mount MICROSECONDS ARGUMENT... - kill one after that time
kill_mount()
{
	local delay=$1 process

	shift
	blksnap mount "$@" >/dev/null 2>&1 &
	process=$!
	sleep "$(printf '%d.%06d' $((delay / 1000000)) $((delay % 1000000)))"
	kill -KILL "$process" 2>/dev/null
	wait "$process" 2>/dev/null
}

test_kills()
{
	make_xfs && take "$disk_d" && overwrite && kill_mounts "$image" /mnt
}

test_kills_of_containers()
{
	make_stack && take "$disk_a" && overwrite && remember_live &&
		kill_mounts "$image" /mnt --luks-key-file /tmp/key &&
		live_is_undisturbed
}

# The one that is damaged stops what is at its place alone.
test_damaged_record()
{
	local record

	make_group "$disk_b" && take "$disk_b" && do_mount "$image" /mnt &&
		record=$(echo /run/blksnap/mounts/*.json) && echo '{' >"$record" &&
		do_mount "$image" /mnt2 && shows_the_take /mnt2 &&
		grep -q "'$record' is damaged, so it is not known where" /tmp/message &&
		blksnap umount /mnt2 && shows_the_take || return 1
	! blksnap umount /mnt 2>/tmp/message &&
		grep -q "'umount /mnt' comes first" /tmp/message &&
		shows_the_take && umount /mnt && end
}

# Two at the same time, each at a place of its own.
test_two_at_once()
{
	make_xfs && take "$disk_d" && overwrite || return 1
	blksnap mount "$image" /mnt >/dev/null &
	do_mount "$image" /mnt2 && wait $! && shows_the_take &&
		shows_the_take /mnt2 && blksnap umount /mnt2 && end
}

close_containers()
{
	lvm vgchange -q -an live >/dev/null 2>&1
	cryptsetup close crypt 2>/dev/null
	mdadm --quiet --stop /dev/md0 2>/dev/null
	dmsetup remove_all --force >/dev/null 2>&1
}

# Whatever a test has left.
clean_up()
{
	local tracked name

	cd /
	exec 7>&-
	umount /mnt /mnt2 /origin 2>/dev/null
	blksnap umount /mnt 2>/dev/null
	blksnap umount /mnt2 2>/dev/null
	servers | xargs -r kill
	rm -rf /run/blksnap/mounts
	[[ ! -e /sys/module/dm_mod && ! -e /dev/md0 ]] || close_containers
	umount /srv/backups 2>/dev/null
	losetup -D
	[[ ! $id ]] || blksnap snapshot destroy "$id"
	id=
	for tracked in $(blksnap tracker list --no-header | awk '{ print $2 }'); do
		blksnap tracker remove "$tracked"
	done
	for name in "$disk_a"[1-9] "$disk_a" "$disk_b" "$disk_c" "$disk_d" "$disk_e" \
		    "$disk_f"; do
		[[ -e $name ]] || continue
		wipefs -qaf "$name"
		dd if=/dev/zero of="$name" bs=1M count=4 2>/dev/null
	done
	sfdisk -q --delete "$disk_a" >/dev/null 2>&1
	btrfs device scan --forget >/dev/null 2>&1
	udevadm settle
}

start_udev()
{
	mkdir -p /run/udev /run/lock/lvm /run/lvm /etc/lvm /mnt /mnt2 /origin \
		/srv/backups /var/tmp
	modprobe loop
	for name in pvcreate vgcreate lvcreate; do
		ln -s lvm "/bin/$name"
	done
	mkdir -p /run/cryptsetup /dev/pts && mount -t devpts devpts /dev/pts
	systemd-udevd --daemon >/dev/null 2>&1
	udevadm trigger --action=add && udevadm settle
}

tests=(
	frozen_ext4
	orphans_stay
	dirty_ext4
	dirty_ext4_without_a_server
	xfs
	xfs_without_a_server
	btrfs
	btrfs_that_cannot_be_mounted
	btrfs_on_several_devices
	vfat
	only_partition_with_a_filesystem
	one_of_several_partitions
	btrfs_in_a_partition
	no_filesystem
	writable
	writable_btrfs_in_a_partition
	what_is_in_use_is_refused
	points_of_a_backup
	man_example
	xfs_of_a_backup
	partition_of_a_backup
	backup_that_cannot_be_mounted
	pruned_while_mounted
	backup_is_no_twin_of_its_origin
	umount_with_parts_gone
	umount_releases_the_image
	kills
	two_at_once
)
# What the filesystems are in.
container_tests=(
	lvm
	lvm_that_is_not_mounted
	one_of_several_volumes
	group_on_several_devices
	luks
	passphrase_at_the_terminal
	luks_with_lvm_in_a_partition
	raid1
	raid1_with_lvm_in_a_partition
	members_that_are_not_mounted
	containers_without_their_programs
	volume_in_use_stays
	kills_of_containers
	damaged_record
)
if [[ ${1:-} == --containers ]]; then
	tests=("${container_tests[@]}")
fi
start_udev
ktap_run "${tests[@]}"
