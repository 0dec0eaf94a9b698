#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Images beside their origins, in a guest with udev, LVM, md and filesystems
#
#	images.sh [--without-rules] TEXT [TEST]...
#
# TEXT is blksnap.rst.  Its recipes are taken from there and run as they stand.
# Without the rules for udev, tests have to fail: that is how they were tried.
#
# The first disk has a partition with ext4, the second and the third one are for
# what a test needs, on the fourth one is XFS, the fifth one is the storage.

# The tests are called by name from the table at the end, and disk_a to disk_e are
# assigned by name.
# shellcheck disable=SC2317,SC2154
set -uo pipefail
# shellcheck source-path=SCRIPTDIR source=../rig/ktap.sh
. ktap.sh

rules=/lib/udev/rules.d/12-blksnap.rules
if [[ ${1:-} == --without-rules ]]; then
	rm "$rules"
	shift
fi
text=$1
for name in a b c d e; do
	printf -v "disk_$name" '%s' "$(readlink -f "/dev/vd$name")"
done
part=${disk_a}1
id=
image2=

# recipe NAME - print the commands of a recipe of the text
recipe()
{
	awk -v name="$1" '
	$0 == ".. recipe: " name { found = 1; next }
	found && /^\t/ { sub(/^\t/, ""); print; inside = 1; next }
	inside && /^[^\t]/ { exit }' "$text"
}

# run_recipe NAME FILE - as a user would: the commands, a look at FILE, the rest
run_recipe()
{
	local commands

	commands=$(recipe "$1")
	[[ $commands ]] || { say "no recipe $1"; return 1; }
	image=$image image2=$image2 first=$disk_c second=$disk_b bash -ec "$commands
		grep -qx 'of the take' '$2'
		udevadm settle
		links_are_right() { $links_check; }
		links_are_right
		$(recipe "$1-end")" <<<'passphrase' 2>&1 | sed 's/^/# | /'
}

# A shell function as text, for the commands of a recipe: no link by what is on a
# device leads to what lies on an image, and the one of the origin is still there.
# shellcheck disable=SC2016 # it is for the shell of the recipe
links_check='
	for link in /dev/disk/by-*/*; do
		[[ -e $link ]] || continue
		name=$(readlink -f "$link")
		! /lib/udev/blksnap-links "${name##*/}" >/tmp/link ||
			{ echo "$link leads to $(cat /tmp/link)"; return 1; }
	done
	[[ ! ${expected_link:-} ||
	   $(readlink -f "$expected_link") == "$expected_device" ]] ||
		{ echo "$expected_link leads to $(readlink -f "$expected_link")"
		  return 1; }'

# take DEVICE... - take a snapshot; sets id, and image and image2 to the first two
take()
{
	id=$(blksnap snapshot create "$@" --take --device "$disk_e" --force \
		--range 4096:400000) || return 1
	image=$(blksnap snapshot images "$id" --no-header |
		awk 'NR == 1 { print $3 }')
	image2=$(blksnap snapshot images "$id" --no-header |
		awk 'NR == 2 { print $3 }')
	udevadm settle
}

release()
{
	blksnap snapshot destroy "$id" || return 1
	id=
}

# fill MOUNT_POINT - what the image is to show, and what it is not
fill()
{
	echo 'of the take' >"$1/file" && sync
}

overwrite()
{
	echo 'of a later time' >"$1/file" && sync
}

# expect_link LINK DEVICE - LINK has to lead to DEVICE whatever is done
expect_link()
{
	export expected_link=$1
	expected_device=$(readlink -f "$2")
	export expected_device
	[[ $(readlink -f "$1") == "$expected_device" ]] ||
		{ say "$1 is not there from the start"; return 1; }
}

# take_again DEVICE - so that changes since the first take are known
take_again()
{
	take "$1" && release && take "$1"
}

# changed_sectors DEVICE - how much has changed since take_again()'s first take
changed_sectors()
{
	blksnap cbt extents "$1" --since 1 --no-header |
		awk '{ n += $2 } END { print n + 0 }'
}

# The ways into a recipe, by what is on the origin.

make_partition()
{
	printf 'label: gpt\nsize=200M\n' | sfdisk -q "$disk_a" >/dev/null &&
	udevadm settle && mkfs.ext4 -q -L live "$part" && udevadm settle &&
	mount "$part" /srv && fill /srv
}

test_image_has_its_own_link_alone()
{
	make_partition && take "$disk_a" || return 1
	[[ $(udevadm info -q symlink "$image") == \
	   "disk/blksnap/${disk_a##*/}-$id" ]] || return 1
	[[ $(udevadm info -q property "$image") == *UDISKS_IGNORE=1* ]] &&
		[[ $(readlink -f "/dev/disk/blksnap/${disk_a##*/}-$id") == "$image" ]]
}

test_recipe_partitions()
{
	make_partition && expect_link /dev/disk/by-label/live "$part" &&
	take "$disk_a" && overwrite /srv && run_recipe partitions /mnt/file
}

# "mount UUID=", as in fstab, while the partitions of an image are to be seen.
test_mount_by_uuid_finds_the_origin()
{
	local loop uuid source

	make_partition && take "$disk_a" || return 1
	loop=$(losetup -rPf --show "$image") && udevadm settle || return 1
	uuid=$(blkid -p -s UUID -o value "$part")
	umount /srv
	mount "UUID=$uuid" /srv || return 1
	source=$(awk '$2 == "/srv" { print $1 }' /proc/mounts)
	losetup -d "$loop"
	[[ $source == "$part" ]] || { say "mounted is $source"; return 1; }
}

test_recipe_ext4()
{
	local before

	mkfs.ext4 -q "$disk_b" && mount "$disk_b" /srv && fill /srv &&
	take_again "$disk_b" && overwrite /srv && blockdev --setro "$image" || return 1
	before=$(changed_sectors "$disk_b")
	run_recipe ext4 /mnt/file && (($(changed_sectors "$disk_b") == before))
}

make_xfs()
{
	mkfs.xfs -q -f "$disk_d" && mount "$disk_d" /srv && fill /srv
}

# The text says that mounting writes.
test_recipe_xfs()
{
	local before

	make_xfs && take_again "$disk_d" && overwrite /srv || return 1
	before=$(changed_sectors "$disk_d")
	run_recipe xfs /mnt/file && (($(changed_sectors "$disk_d") > before))
}

# And that freezing does not make it clean, so a read-only image is refused.
test_frozen_xfs_is_not_mounted_read_only()
{
	make_xfs && fsfreeze -f /srv || return 1
	take "$disk_d"
	fsfreeze -u /srv
	[[ $id ]] && blockdev --setro "$image" || return 1
	! mount -o ro,nouuid "$image" /mnt 2>/dev/null
}

test_recipe_btrfs()
{
	mkfs.btrfs -q -f "$disk_b" >/dev/null 2>&1 && mount "$disk_b" /srv && fill /srv &&
	take "$disk_b" && overwrite /srv && run_recipe btrfs /mnt/file
}

make_btrfs_of_two()
{
	mkfs.btrfs -q -f -d raid0 -m raid1 "$disk_b" "$disk_c" >/dev/null 2>&1 &&
	btrfs device scan >/dev/null && mount "$disk_b" /srv && fill /srv &&
	umount /srv
}

# An image that is seen last is not to become a device of the live filesystem.
test_recipe_btrfs_several()
{
	local devices

	make_btrfs_of_two && take "$disk_b" && btrfs device scan "$image" >/dev/null &&
	run_recipe btrfs-several /srv/file || return 1
	devices=$(echo /sys/fs/btrfs/*-*/devices/*)
	[[ $devices != *blksnap-image* ]] || { say "$devices"; return 1; }
}

test_btrfs_of_several_devices_is_warned_of()
{
	make_btrfs_of_two || return 1
	take "$disk_b" 2>/tmp/warning
	grep -q 'btrfs on several devices' /tmp/warning
}

make_group()
{
	pvcreate -q -ff -y "$disk_b" >/dev/null && vgcreate -q live "$disk_b" >/dev/null &&
	lvcreate -q -y -n root -L 64M live >/dev/null && udevadm settle &&
	mkfs.ext4 -q -L root /dev/live/root && udevadm settle &&
	mount /dev/live/root /srv && fill /srv &&
	expect_link /dev/disk/by-label/root /dev/live/root
}

test_recipe_lvm()
{
	make_group && take "$disk_b" && overwrite /srv &&
	run_recipe lvm /mnt/file && lvcreate -q -y -n more -L 4M live >/dev/null
}

test_recipe_lvm_loop()
{
	make_group && take "$disk_b" && overwrite /srv &&
	run_recipe lvm-loop /mnt/file
}

# LVM refuses to change a group that it sees twice.
test_filter_keeps_lvm_from_loop_devices()
{
	local loop code=0

	make_group && recipe lvm-filter >/etc/lvm/lvm.conf && take "$disk_b" &&
	loop=$(losetup -rf --show "$image") && udevadm settle || return 1
	lvcreate -y -n more -L 4M live 2>&1 | sed 's/^/# | /' || code=1
	losetup -d "$loop"
	return "$code"
}

test_recipe_luks()
{
	cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 \
		"$disk_b" <<<'passphrase' &&
	cryptsetup open "$disk_b" live <<<'passphrase' && udevadm settle &&
	mkfs.ext4 -q -L crypt /dev/mapper/live && udevadm settle &&
	mount /dev/mapper/live /srv && fill /srv &&
	expect_link /dev/disk/by-label/crypt /dev/mapper/live &&
	take "$disk_b" && overwrite /srv && run_recipe luks /mnt/file
}

make_array() # LEVEL
{
	mdadm --quiet --create /dev/md0 --level="$1" --raid-devices=2 \
		--assume-clean --run "$disk_b" "$disk_c" 2>/dev/null &&
	udevadm settle && mkfs.ext4 -q -L array /dev/md0 && udevadm settle &&
	mount /dev/md0 /srv && fill /srv
}

test_recipe_md()
{
	make_array 1 && expect_link /dev/disk/by-label/array /dev/md0 &&
	take "$disk_b" && overwrite /srv && run_recipe md /mnt/file
}

test_recipe_md_several()
{
	make_array 5 && expect_link /dev/disk/by-label/array /dev/md0 &&
	take "$disk_b" "$disk_c" && overwrite /srv && run_recipe md-several /mnt/file
}

test_leg_that_has_to_give_zeros_is_warned_of()
{
	local parameter=/sys/module/raid456/parameters/devices_handle_discard_safely

	modprobe raid456 && make_array 5 || return 1
	take "$disk_b" 2>/tmp/warning && ! grep -q discard /tmp/warning &&
	release && echo Y >"$parameter" || return 1
	take "$disk_b" 2>/tmp/warning
	echo N >"$parameter"
	grep -q 'devices_handle_discard_safely' /tmp/warning
}

test_failed_creation_leaves_nothing()
{
	! blksnap snapshot create "$disk_b" "$disk_c" --take --device "$disk_e" \
		--range 1:999999999 2>/dev/null &&
	[[ ! $(blksnap tracker list --no-header) &&
	   ! $(blksnap snapshot list --no-header) ]]
}

# take_on_whole DEVICE... - as take, with all of the last disk as storage
take_on_whole()
{
	id=$(blksnap snapshot create "$@" --take --device "$disk_e") || return 1
	udevadm settle
}

# nobody_knows_storage - nothing that is known by its contents is on the last disk
nobody_knows_storage()
{
	local found

	found=$(blkid -p "$disk_e")
	[[ ! $found ]] || { say "the storage has become $found"; return 1; }
	found=$(readlink -f /dev/disk/by-*/* | grep -Fxc "$disk_e")
	[[ $found == "$(readlink -f /dev/disk/by-path/* /dev/disk/by-id/* 2>/dev/null |
		grep -Fxc "$disk_e")" ]]
}

# The first block that is copied is the superblock.
test_storage_is_no_twin_of_a_filesystem()
{
	local uuid

	mkfs.ext4 -q -L live "$disk_b" && mount "$disk_b" /srv && fill /srv &&
	uuid=$(blkid -p -s UUID -o value "$disk_b") && take_on_whole "$disk_b" &&
	overwrite /srv && umount /srv && mount "$disk_b" /srv && overwrite /srv &&
	sleep 1 && udevadm trigger --settle && nobody_knows_storage &&
	[[ $(blkid -U "$uuid") == "$disk_b" ]] && release &&
	udevadm trigger --settle && nobody_knows_storage &&
	[[ $(blkid -U "$uuid") == "$disk_b" ]]
}

# LVM copies the label with its first change.
test_storage_is_no_twin_of_a_physical_volume()
{
	make_group && take_on_whole "$disk_b" &&
	lvcreate -q -y -n more -L 4M live >/dev/null &&
	lvcreate -q -y -n evenmore -L 4M live >/dev/null && nobody_knows_storage &&
	release && lvcreate -q -y -n last -L 4M live >/dev/null && nobody_knows_storage
}

# refused_as_in_use COMMAND... - it fails
refused_as_in_use()
{
	! "$@" >/tmp/refused 2>&1 || { say "done: $*"; return 1; }
	sed 's/^/# | /' /tmp/refused
}

test_storage_is_in_use()
{
	mkfs.ext4 -q "$disk_b" && mkfs.ext4 -q "$disk_e" &&
	id=$(blksnap snapshot create "$disk_b" --take --device "$disk_e" --force) &&
	refused_as_in_use mkfs.ext4 -q "$disk_e" &&
	refused_as_in_use mkfs.btrfs -qf "$disk_e" &&
	refused_as_in_use mkfs.xfs -qf "$disk_e" &&
	refused_as_in_use mount "$disk_e" /mnt &&
	refused_as_in_use pvcreate -qy "$disk_e" &&
	refused_as_in_use mdadm --quiet --create /dev/md0 --run --force --level=1 \
		--raid-devices=1 "$disk_e" &&
	release && mount "$disk_e" /mnt
}

# The default layout of installers: a file on a volume, and the disk below as origin.
test_storage_on_a_volume_of_the_origin_is_refused()
{
	local want='through another driver; use another disk, or memory, or make the device in between'

	make_group && ! blksnap snapshot create "$disk_b" --take --file /srv/store \
		--size 8M 2>/tmp/refused || return 1
	sed 's/^/# | /' /tmp/refused
	grep -q "$want" /tmp/refused &&
	[[ ! $(blksnap tracker list --no-header) && ! $(blksnap snapshot list --no-header) ]]
}

# Whatever a test has left.
clean_up()
{
	local tracked name

	umount /mnt /srv 2>/dev/null
	cryptsetup close snap 2>/dev/null
	cryptsetup close live 2>/dev/null
	rm -f /etc/lvm/lvm.conf
	dmsetup remove_all --force >/dev/null 2>&1
	mdadm --quiet --stop /dev/md127 /dev/md0 2>/dev/null
	losetup -D
	[[ ! $id ]] || blksnap snapshot destroy "$id"
	id=
	for tracked in $(blksnap tracker list --no-header | awk '{ print $2 }'); do
		blksnap tracker remove "$tracked"
	done
	for name in "$disk_a" "$disk_b" "$disk_c" "$disk_d" "$disk_e"; do
		wipefs -qaf "$name"
		dd if=/dev/zero of="$name" bs=1M count=4 2>/dev/null
	done
	sfdisk -q --delete "$disk_a" >/dev/null 2>&1
	btrfs device scan --forget >/dev/null
	udevadm settle
	unset expected_link
}

start_udev()
{
	mkdir -p /run/udev /run/lock/lvm /run/lvm /run/cryptsetup /etc/lvm \
		/mnt /srv
	for name in loop dm-mod btrfs raid1 dm-crypt; do
		modprobe "$name"
	done
	for name in pvcreate vgcreate lvcreate vgchange; do
		ln -s lvm "/bin/$name"
	done
	systemd-udevd --daemon >/dev/null 2>&1
	udevadm trigger --action=add && udevadm settle
}

all_tests=(
	failed_creation_leaves_nothing
	image_has_its_own_link_alone
	mount_by_uuid_finds_the_origin
	recipe_partitions
	recipe_ext4
	recipe_xfs
	frozen_xfs_is_not_mounted_read_only
	recipe_btrfs
	recipe_btrfs_several
	btrfs_of_several_devices_is_warned_of
	recipe_lvm
	recipe_lvm_loop
	filter_keeps_lvm_from_loop_devices
	recipe_luks
	recipe_md
	recipe_md_several
	leg_that_has_to_give_zeros_is_warned_of
	storage_is_no_twin_of_a_filesystem
	storage_is_no_twin_of_a_physical_volume
	storage_is_in_use
	storage_on_a_volume_of_the_origin_is_refused
)
tests=("${@:2}")
((${#tests[@]})) || tests=("${all_tests[@]}")
start_udev
ktap_run "${tests[@]}"
