#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Backups of a disk in use, with the real module
#
#	backup.sh [--rounds N]
#
# The first disk is the origin, on the second one are the storage and the backups,
# the third one is restored to; the last two are for XFS.  In each round writers stand still for the moment
# between remembering what is on the origin and the take, and write all the time
# otherwise; so each point has to be what was remembered.

# The tests are called by name from the table at the end.
# shellcheck disable=SC2317
set -uo pipefail
# shellcheck source-path=SCRIPTDIR source=../rig/ktap.sh
. ktap.sh

rounds=4
[[ ${1:-} != --rounds ]] || rounds=$2
origin=$(readlink -f /dev/vda)
target=$(readlink -f /dev/vdc)
backups=/srv/backups
seed=20261129
RANDOM=$seed
writer=

# Random writes of 4 KiB, until the file is gone.
write_all_the_time()
{
	while [[ -e /run/writing ]]; do
		dd if=/dev/urandom of="$origin" bs=4k count=1 conv=notrunc \
			seek=$((RANDOM % 16384)) oflag=direct 2>/dev/null
	done
}

start_writer()
{
	touch /run/writing
	write_all_the_time &
	writer=$!
}

stop_writer()
{
	rm -f /run/writing
	wait "$writer"
}

checksum()
{
	blockdev --flushbufs "$1" 2>/dev/null
	sha256sum <"$1" | cut -d ' ' -f 1
}

# Which snapshot the image is of, if there is one.
image_of()
{
	cat /sys/block/blksnap-image0/blksnap/snapshot 2>/dev/null
}

# The writer goes on as soon as there is another image
back_up()
{
	local code=0 process before now

	before=$(image_of)
	blksnap backup --to "$backups" --source-name guest --storage /srv/storage \
		--storage-size 64M --quiet "$origin" >/run/backup.log 2>&1 &
	process=$!
	while kill -0 "$process" 2>/dev/null; do
		now=$(image_of)
		[[ ! $now || $now == "$before" ]] || break
		sleep 0.05
	done
	start_writer
	wait "$process" || code=$?
	stop_writer
	sed 's/^/# | /' /run/backup.log
	# A small storage is below the module's limit from the start, and yet ample.
	! grep -q 'runs short\|cannot reserve' /run/backup.log || return 1
	return "$code"
}

test_points_are_what_the_disk_was()
{
	local i

	for ((i = 0; i < rounds; i++)); do
		checksum "$origin" >"/run/point.$i"
		back_up || { say "the backup ends with $?"; return 1; }
		[[ ! $(blksnap snapshot list --no-header) ]] ||
			{ say "a snapshot is left"; return 1; }
	done
	blksnap list "$backups" | sed 's/^/# | /'
	for ((i = 0; i < rounds; i++)); do
		restore_and_compare "$((i + 1))" "/run/point.$i" || return 1
	done
}

# restore_and_compare POINT FILE
restore_and_compare()
{
	blksnap restore --from "$backups" --source-name guest --point "$1" \
		--quiet --force "$target" >/run/restore.log 2>&1 ||
		{ sed 's/^/# | /' /run/restore.log; return 1; }
	[[ $(checksum "$target") == $(<"$2") ]] ||
		{ say "point $1 is not what the disk was"; return 1; }
}

test_increments_are_small()
{
	local full increment

	full=$(stat -c %s "$backups"/guest/*.000001.qcow2)
	increment=$(stat -c %s "$backups"/guest/*.000002.qcow2)
	say "the full one has $full bytes, the next one $increment"
	((increment < full))
}

test_files_are_sound()
{
	local file

	blksnap verify "$backups" --source-name guest --quiet || return 1
	for file in "$backups"/guest/*.qcow2; do
		qemu-img check -q "$file" || { say "$file"; return 1; }
	done
}

test_killed_backup_leaves_nothing_in_the_way()
{
	checksum "$origin" >/run/point.killed
	blksnap backup --to "$backups" --source-name guest --storage /srv/storage \
		--storage-size 64M --quiet --limit 4M "$origin" >/dev/null 2>&1 &
	until image_of >/dev/null; do
		sleep 0.05
	done
	kill -KILL $!
	wait $! 2>/dev/null
	back_up || return 1
	[[ ! $(blksnap snapshot list --no-header) ]] || return 1
	restore_and_compare "$((rounds + 1))" /run/point.killed &&
		blksnap verify "$backups" --source-name guest --quiet
}

# The storage is on the disk that is backed up, and much more of it is free than used.
test_storage_that_cannot_grow_is_no_cause_for_alarm()
{
	local code=0

	mkfs.ext4 -q "$target" && mount -t ext4 "$target" /mnt || return 1
	blksnap backup --to "$backups" --source-name other --storage /mnt/storage \
		--storage-size 16M --quiet "$target" >/run/backup.log 2>&1 || code=$?
	umount /mnt
	sed 's/^/# | /' /run/backup.log
	((code == 0)) && ! grep -q 'runs short' /run/backup.log
}

# make_points - three of a filesystem, whose file says which one it is
make_points()
{
	local point option

	mkfs.ext4 -q "$target" && mkdir -p /live &&
		mount -t ext4 "$target" /live || return
	for point in 1 2 3; do
		echo "point $point" >/live/file
		option=
		((point != 3)) || option=--compress
		blksnap backup --to "$backups" --source-name files --storage \
			/srv/storage --storage-size 64M --quiet ${option:+"$option"} \
			"$target" || return
	done
	umount /live
}

# mounts FILE TEXT - through qemu-nbd, and has this in its file
mounts()
{
	local found code

	qemu-nbd --read-only --format=qcow2 --connect=/dev/nbd0 "$1" || return
	until (($(</sys/block/nbd0/size))); do
		sleep 0.1
	done
	mount -t ext4 -o ro,noload /dev/nbd0 /mnt && found=$(</mnt/file) &&
		umount /mnt
	code=$?
	qemu-nbd --disconnect /dev/nbd0 >/dev/null
	while [[ -e /sys/block/nbd0/pid ]]; do
		sleep 0.1
	done
	[[ $code == 0 && $found == "$2" ]] ||
		{ say "$1 holds '${found:-}', not '$2'"; return 1; }
}

# is_whole POINT FILE - for all that reads qcow2
is_whole()
{
	local size

	size=$(blockdev --getsize64 "$target")
	blksnap restore --from "$backups" --source-name files --point "$1" \
		--quiet --force /srv/restored >/dev/null &&
		qemu-img check -q "$2" &&
		qemu-img compare -q -f raw -F qcow2 /srv/restored "$2" &&
		qemu-img map --output=json "$2" | maps_all_of "$size" &&
		mounts "$2" "point $1"
}

# maps_all_of SIZE - range by range, without a gap, and some of it is data
maps_all_of()
{
	awk -F '[:,]' -v size="$1" '
		$1 ~ /"start"/ {
			if ($2 + 0 != end)
				exit failed = 1
			end += $4
			data += /"data": true/
		}
		END { exit failed || end != size || !data }'
}

test_other_programs_accept_every_file()
{
	local point

	modprobe nbd && mkdir -p /var/lock && make_points || return
	for point in 1 2 3; do
		is_whole "$point" "$(printf '%s/files/%s.%06d.qcow2' "$backups" \
			"${target##*/}" "$point")" ||
			{ say "point $point"; return 1; }
	done
}

# What of the devices in memory there is.
memory_devices()
{
	cat /sys/block/loop*/loop/backing_file 2>/dev/null | grep memfd:blksnap
}

# back_up_in_memory [OPTION]...
back_up_in_memory()
{
	blksnap backup --to "$backups" --source-name memory --storage memory "$@" \
		"$origin" >/run/backup.log 2>&1
}

test_storage_in_memory()
{
	checksum "$origin" >/run/point.memory
	back_up_in_memory --quiet || { cat /run/backup.log; return 1; }
	[[ ! $(memory_devices) ]] || { say "memory is left"; return 1; }
	blksnap restore --from "$backups" --source-name memory --quiet --force \
		"$target" >/dev/null && [[ $(checksum "$target") == $(</run/point.memory) ]]
}

test_memory_of_a_killed_run_is_given_back()
{
	local process

	blksnap backup --to "$backups" --source-name memory --storage memory --quiet \
		--limit 1M --full "$origin" >/run/backup.log 2>&1 &
	process=$!
	until [[ $(image_of) ]] || ! kill -0 "$process" 2>/dev/null; do
		sleep 0.05
	done
	kill -KILL "$process"
	wait "$process" 2>/dev/null
	[[ $(memory_devices) ]] || { say "no memory was taken"; return 1; }
	back_up_in_memory || { cat /run/backup.log; return 1; }
	grep -q 'destroyed snapshot .*, which a run that was killed has left' \
		/run/backup.log && [[ ! $(memory_devices) ]]
}

test_memory_that_is_not_enough_is_told()
{
	local code=0

	blksnap hold --storage memory --storage-size 16M "$origin" -- \
		dd if=/dev/urandom of="$origin" bs=1M count=40 oflag=direct \
		>/run/hold.log 2>&1 || code=$?
	grep -q 'is lost: more was written .* give more with --storage-size' \
		/run/hold.log && ((code == 124)) && [[ ! $(memory_devices) ]] && return
	say "it ends with $code"
	cat /run/hold.log
	return 1
}

sums() # FOLDER
{
	(cd "$1" && find . -type f -exec sha256sum {} + | sort)
}

noise() # MIB
{
	dd if=/dev/urandom bs=1M count="$1" iflag=fullblock 2>/dev/null
}

# used_point NUMBER KIND - back up, and remember the files
used_point()
{
	sync
	sums /live >"/run/used.$1"
	blksnap backup --to "$backups" --source-name "$2" --storage /srv/storage \
		--storage-size 64M --used-only "$3" >/run/backup.log 2>&1 &&
		! grep 'all is backed up' /run/backup.log && return
	cat /run/backup.log
	return 1
}

# used_comes_back NUMBER KIND ORIGIN TARGET CHECK... - onto what it is not
used_comes_back()
{
	local code=0

	noise 60 >"$4"
	blksnap restore --from "$backups" --source-name "$2" --point "$1" --quiet \
		--force "$4" >/run/restore.log 2>&1 || { cat /run/restore.log; return 1; }
	# XFS has something in its log, also if it was frozen.
	mount -t "$2" -o ro "$4" /mnt || return 1
	sums /mnt | diff - "/run/used.$1" || code=1
	umount /mnt
	"${@:5}" "$4" >/run/check.log 2>&1 || { cat /run/check.log; return 1; }
	return "$code"
}

fill_live()
{
	noise 8 >/live/stays
	yes "what was removed" 2>/dev/null | head -c 16777216 >/live/removed
	noise 4 >/live/changes
	sync
	rm /live/removed
}

# The blocks of what was removed are used again, and not written.
change_live()
{
	fallocate -l 12M /live/reserved
	noise 1 | dd of=/live/changes bs=64k seek=8 conv=notrunc 2>/dev/null
	rm /live/stays
	noise 2 >/live/new
}

# used_only KIND ORIGIN TARGET CHECK...
used_only()
{
	local kind=$1 disk=$2 file

	"mkfs.$kind" -q "$disk" && mount -t "$kind" "$disk" /live || return 1
	fill_live
	used_point 1 "$kind" "$disk" || return 1
	change_live
	used_point 2 "$kind" "$disk" || return 1
	umount /live
	file=$(echo "$backups/$kind"/*.000001.qcow2)
	say "the full one of $kind has $(stat -c %s "$file") bytes"
	used_comes_back 1 "$@" || return 1
	[[ $(tr -d '\0' <"$3" | grep -c "what was removed") == 0 ]] ||
		{ say "a removed file is in it"; return 1; }
	used_comes_back 2 "$@" || return 1
	# One of all of the disk again, byte by byte.
	checksum "$disk" >"/run/point.$kind"
	blksnap backup --to "$backups" --source-name "$kind" --storage /srv/storage \
		--storage-size 64M --quiet "$disk" | grep -q ' 3 .* 2 ' || return 1
	blksnap restore --from "$backups" --source-name "$kind" --quiet --force "$3" \
		>/dev/null && cmp "$disk" "$3" &&
		blksnap verify "$backups" --source-name "$kind" --quiet
}

test_what_ext4_uses_comes_back()
{
	used_only ext4 "$origin" "$target" e2fsck -fn
}

test_what_xfs_uses_comes_back()
{
	used_only xfs /dev/vdd /dev/vde xfs_repair -n
}

tests=(points_are_what_the_disk_was increments_are_small files_are_sound
	killed_backup_leaves_nothing_in_the_way storage_in_memory
	memory_of_a_killed_run_is_given_back memory_that_is_not_enough_is_told
	what_ext4_uses_comes_back what_xfs_uses_comes_back
	storage_that_cannot_grow_is_no_cause_for_alarm
	other_programs_accept_every_file)

modprobe loop && mkfs.ext4 -q /dev/vdb && mkdir -p /srv /mnt /live &&
	mount -t ext4 /dev/vdb /srv && mkdir -p "$backups" || exit 1
dd if=/dev/urandom of="$origin" bs=1M count=48 oflag=direct 2>/dev/null

say "seed $seed"
ktap_run "${tests[@]}"
umount /srv
exit "$ktap_failed"
