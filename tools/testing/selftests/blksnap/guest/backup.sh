#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Backups of a disk in use, with the real module
#
#	backup.sh [--rounds N]
#
# The first disk is the origin, on the second one are the storage and the backups,
# the third one is restored to.  In each round writers stand still for the moment
# between remembering what is on the origin and the take, and write all the time
# otherwise; so each point has to be what was remembered.

# The tests are called by name from the table at the end.
# shellcheck disable=SC2317
set -uo pipefail

rounds=4
[[ ${1:-} != --rounds ]] || rounds=$2
origin=$(readlink -f /dev/vda)
target=$(readlink -f /dev/vdc)
backups=/srv/backups
seed=20261129
RANDOM=$seed
writer=
count=0
failed=0

say()
{
	printf '# %s\n' "$*"
}

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

tests=(points_are_what_the_disk_was increments_are_small files_are_sound
	killed_backup_leaves_nothing_in_the_way
	storage_that_cannot_grow_is_no_cause_for_alarm
	other_programs_accept_every_file)

mkfs.ext4 -q /dev/vdb && mkdir -p /srv /mnt && mount -t ext4 /dev/vdb /srv &&
	mkdir -p "$backups" || exit 1
dd if=/dev/urandom of="$origin" bs=1M count=48 oflag=direct 2>/dev/null

say "seed $seed"
printf 'TAP version 13\n1..%d\n' "${#tests[@]}"
for name in "${tests[@]}"; do
	((++count))
	if "test_$name"; then
		echo "ok $count $name"
	else
		echo "not ok $count $name"
		failed=1
	fi
done
umount /srv
exit $failed
