#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The examples of the manual page, run as they stand
#
#	examples.sh MANUAL
#
# The devices have the names that the page uses: /dev/vda1 is mounted and holds files,
# /dev/vdb1 and /dev/vdc1 are spare, /backup and /var/lib are on another disk, and
# /dev/vde is encrypted, with a group on it of which one volume is mounted.

# Tests are called by name from the table at the end.
# shellcheck disable=SC2317
set -uo pipefail
# shellcheck source-path=SCRIPTDIR source=../rig/ktap.sh
. ktap.sh

manual=$1

# example WORDS - the first example with this command, as one types it
example()
{
	awk -v words="$1" '
	/^\.SH EXAMPLES/ { inside = 1 }
	/^\.SH FILES/ { exit }
	inside && /^\.nf/ { text = ""; reading = 1; next }
	reading && /^\.fi/ {
		reading = 0
		if (index(text, words)) {
			printf "%s", text
			exit
		}
	}
	reading {
		gsub(/\\-/, "-")
		gsub(/\\e/, "\\")
		text = text $0 "\n"
	}' "$manual"
}

# run_example WORDS - all of its lines have to succeed; its output is in /run/output
run_example()
{
	local text code=0

	text=$(example "$1")
	[[ $text ]] || { say "there is no example of $1"; return 1; }
	say "running: ${text//$'\n'/; }"
	bash -euo pipefail -c "$text" >/run/output 2>&1 || code=$?
	sed 's/^/# | /' /run/output
	((code == 0)) || say "it ends with $code"
	return "$code"
}

# change TEXT - what the next backup is to hold
change()
{
	echo "$1" >/live/etc/fstab
	dd if=/dev/urandom of="/live/$1" bs=64k count=20 2>/dev/null
	sync
}

# holds DEVICE TEXT - has the filesystem on it this in its file?
holds()
{
	local found

	mount -t ext4 -o ro,noload "$1" /mnt || return 1
	found=$(</mnt/etc/fstab)
	umount /mnt
	[[ $found == "$2" ]] || { say "$1 holds $found in place of $2"; return 1; }
}

test_version()
{
	run_example "blksnap --version"
}

test_backup()
{
	local i

	for i in 1 2 3 4; do
		change "state $i"
		run_example "blksnap backup --to" || return 1
	done
	grep -q '^ *4  vda1  *3 ' /run/output
}

test_list()
{
	run_example "blksnap list" && (($(grep -c ' ok ' /run/output) == 8))
}

test_restore()
{
	run_example "blksnap restore" && holds /dev/vdb1 "state 4" &&
		qemu-img check -q /srv/vda1.qcow2
}

test_mount()
{
	run_example "blksnap mount" && [[ $(</root/fstab.old) == "state 1" ]] &&
		! grep -q ' /mnt ' /proc/mounts
}

test_encrypt()
{
	run_example "backup --to /backup/safe" &&
		[[ $(</root/fstab.safe) == "state 4" ]] &&
		losetup /dev/loop0 /srv/safe.img && holds /dev/loop0 "state 4" &&
		losetup -d /dev/loop0 && rm -f /srv/safe.img
}

test_mount_of_a_volume()
{
	rm /root/fstab.old && run_example "luks-key-file" &&
		[[ $(</root/fstab.old) == encrypted ]] &&
		! grep -q ' /mnt ' /proc/mounts &&
		! grep -q '^blksnap_' /sys/block/dm-*/dm/name
}

# With another backup, for what is exported since point 4.
test_export()
{
	change "state 5"
	run_example "blksnap backup --to" && run_example "blksnap export" &&
		losetup /dev/loop0 /srv/vda1.img && holds /dev/loop0 "state 5" &&
		losetup -d /dev/loop0
}

test_hold()
{
	run_example "blksnap hold" && losetup /dev/loop0 /backup/vda1.img &&
		holds /dev/loop0 "state 5" && losetup -d /dev/loop0 &&
		[[ ! $(blksnap snapshot list --no-header) ]]
}

test_status()
{
	local folder=/var/lib/prometheus/node-exporter

	mkdir -p "$folder"
	run_example "blksnap status" && grep -q ' tracked ' /run/output &&
		grep -q '^blksnap_trackers [1-9]' "$folder/blksnap.prom"
}

test_backup_by_hand()
{
	run_example "blksnap cbt extents" && [[ -s /backup/changes ]] &&
		losetup /dev/loop0 /backup/full.img && holds /dev/loop0 "state 5" &&
		losetup -d /dev/loop0
}

test_storage_on_a_partition()
{
	local code=0

	run_example "--device /dev/vdc1" || code=$?
	blksnap snapshot destroy "$(</run/output)" && return "$code"
}

test_used_only()
{
	run_example "--used-only" && grep -q '^ *6  vda1  *5 ' /run/output &&
		! grep -q 'all is backed up' /run/output
}

# All points are of today, so the newest one is what is kept.
test_prune()
{
	run_example "blksnap prune" &&
		(($(blksnap list /backup --no-header | wc -l) == 1)) &&
		blksnap restore --from /backup --force --quiet /dev/vdb1 >/dev/null &&
		holds /dev/vdb1 "state 5"
}

set_up_encrypted()
{
	printf key >/root/vde.key &&
		cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 \
			/dev/vde /root/vde.key &&
		cryptsetup open --key-file /root/vde.key /dev/vde vde &&
		lvm pvcreate -q /dev/mapper/vde && lvm vgcreate -q guest /dev/mapper/vde &&
		lvm lvcreate -q -n root -L 20M guest &&
		lvm lvcreate -q -n home -L 20M guest && mkfs.ext4 -q /dev/guest/home &&
		mkfs.ext4 -q /dev/guest/root && mkdir /encrypted &&
		mount -t ext4 /dev/guest/root /encrypted && mkdir /encrypted/etc &&
		echo encrypted >/encrypted/etc/fstab && sync
} >/dev/null

set_up()
{
	local disk

	modprobe nbd
	modprobe loop
	modprobe dm-mod
	hostname guest
	mkdir -p /run/udev /run/lock/lvm /run/lvm /run/cryptsetup
	systemd-udevd --daemon >/dev/null 2>&1
	udevadm trigger --action=add && udevadm settle
	for disk in a b c; do
		printf 'label: gpt\nsize=64M\n' | sfdisk -q "/dev/vd$disk" >/dev/null || return 1
	done
	mkdir -p /live /backup /mnt /srv /root /var/lib /var/tmp
	mkfs.ext4 -q /dev/vda1 && mount -t ext4 /dev/vda1 /live && mkdir /live/etc &&
		mkfs.ext4 -q /dev/vdd && mount -t ext4 /dev/vdd /backup &&
		mkdir /backup/lib && mount --bind /backup/lib /var/lib &&
		set_up_encrypted
}

tests=(version backup list restore mount mount_of_a_volume encrypt export hold status
	backup_by_hand storage_on_a_partition used_only prune)
set_up || exit 1
ktap_run "${tests[@]}"
umount /live /encrypted /var/lib /backup
exit "$ktap_failed"
