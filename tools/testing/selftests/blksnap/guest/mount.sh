#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# blksnap mount and umount, in a guest with udev and filesystems
#
#	mount.sh [TEST]...
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

for name in a b c d e f; do
	printf -v "disk_$name" '%s' "$(readlink -f "/dev/vd$name")"
done
backups=/srv/backups/all
kills=12
id=
image=
count=0
failed=0
RANDOM=20261129

say()
{
	printf '# %s\n' "$*"
}

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
		    /sys/block/nbd*/pid /var/tmp/*; do
		[[ ! -e $path ]] || echo "$path"
	done
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
		refused 'holds nothing that is known' "$image" /mnt \
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
	pvcreate -q -ff -y "$disk_b" >/dev/null && take "$disk_b" "$disk_c" &&
		refused "LVM2_member, which this command does not open; .*Reading what" \
			"$image" /mnt &&
		refused "has no partitions" "$image" /mnt --partition 1 &&
		image=$(blksnap snapshot images "$id" --no-header |
			awk 'NR == 2 { print $3 }') &&
		refused "holds nothing that is known" "$image" /mnt
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

# man_example - print the commands
man_example()
{
	sed -n '/^blksnap mount/,/^\.fi/{/^\.fi/d; s/\\-/-/g; p}' /run/blksnap.8
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

takes_us()
{
	local begin=${EPOCHREALTIME/./}

	do_mount "$image" /mnt >/dev/null
	echo $((${EPOCHREALTIME/./} - begin))
}

test_kills()
{
	local kill delay duration process mounted=0

	make_xfs && take "$disk_d" && overwrite || return 1
	takes_us >/dev/null && end && duration=$(takes_us) && end || return 1
	for ((kill = 0; kill < kills; kill++)); do
		delay=$((duration * kill / kills))
		blksnap mount "$image" /mnt >/dev/null 2>&1 &
		process=$!
		sleep "$(printf '%d.%06d' $((delay / 1000000)) $((delay % 1000000)))"
		kill -KILL "$process" 2>/dev/null
		wait "$process" 2>/dev/null
		if grep -q ' /mnt ' /proc/mounts; then
			mounted=$((mounted + 1))
			shows_the_take || return 1
		elif ((kill % 2)); then
			do_mount "$image" /mnt && shows_the_take || return 1
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

# Two at the same time, each at a place of its own.
test_two_at_once()
{
	make_xfs && take "$disk_d" && overwrite || return 1
	blksnap mount "$image" /mnt >/dev/null &
	do_mount "$image" /mnt2 && wait $! && shows_the_take &&
		shows_the_take /mnt2 && blksnap umount /mnt2 && end
}

# Whatever a test has left.
clean_up()
{
	local tracked name

	cd /
	exec 7>&-
	umount /mnt /mnt2 /origin 2>/dev/null
	blksnap umount /mnt 2>/dev/null
	servers | xargs -r kill
	rm -rf /run/blksnap/mounts
	umount /srv/backups 2>/dev/null
	losetup -D
	[[ ! $id ]] || blksnap snapshot destroy "$id"
	id=
	for tracked in $(blksnap tracker list --no-header | awk '{ print $2 }'); do
		blksnap tracker remove "$tracked"
	done
	for name in "$disk_a" "$disk_b" "$disk_c" "$disk_d" "$disk_e" "$disk_f"; do
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
	ln -s lvm /bin/pvcreate
	systemd-udevd --daemon >/dev/null 2>&1
	udevadm trigger --action=add && udevadm settle
}

all_tests=(
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
tests=("$@")
((${#tests[@]})) || tests=("${all_tests[@]}")
printf 'TAP version 13\n1..%d\n' "${#tests[@]}"
start_udev
for name in "${tests[@]}"; do
	count=$((count + 1))
	if "test_$name"; then
		echo "ok $count $name"
	else
		echo "not ok $count $name"
		failed=1
	fi
	clean_up
done
exit "$failed"
