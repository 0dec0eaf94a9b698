#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# What a backup costs, beside the plainest way to write the same bytes
#
#	throughput.sh [--rounds N] [--limits FULL:INCREMENT]
#
# The limits are how many times what the other takes; if not given, they are the
# targets.
#
# A full backup is compared with "qemu-img convert" of the image, an increment with a
# program that copies the ranges that changed from the image to a file (see
# test_throughput.c).  All files have to be on the disk at the end.  The time of a
# backup is that of the whole command: the snapshot is taken and destroyed in it,
# while the others read an image that is there already.
#
# The two are made in turn, in another order in each round, and nothing is in the
# cache at the start.  What is compared are the medians.
#
# The first disk is the origin, half of it data; on the second one are the storage and
# what is written.

# Functions are called by name.
# shellcheck disable=SC2317
set -uo pipefail
# shellcheck source-path=SCRIPTDIR source=../rig/ktap.sh
. ktap.sh

rounds=5
limits=1.2:1.5
while (($#)); do
	case $1 in
	--rounds)	rounds=$2 ;;
	--limits)	limits=$2 ;;
	esac
	shift 2
done
seed=20261129
RANDOM=$seed
origin=$(readlink -f /dev/vda)
backups=/srv/backups

# fill_disk - with runs of data and of zeros, of 1 to 16 MiB
fill_disk()
{
	local at=0 nr size

	size=$(($(blockdev --getsize64 "$origin") >> 20))
	while ((at + 32 <= size)); do
		nr=$((1 + RANDOM % 16))
		dd if=/dev/urandom of="$origin" bs=1M count="$nr" seek="$at" \
			conv=notrunc oflag=direct 2>/dev/null || return
		((at += 2 * nr))
	done
}

# change_disk - about 100 MiB in 400 places
change_disk()
{
	local i nr_blocks

	nr_blocks=$(($(blockdev --getsize64 "$origin") >> 16))
	for ((i = 0; i < 400; i++)); do
		dd if=/dev/urandom of="$origin" bs=64k count=$((1 + RANDOM % 7)) \
			seek=$(((i * nr_blocks + RANDOM % nr_blocks) / 401)) \
			conv=notrunc oflag=direct 2>/dev/null || return
	done
}

# measure WHAT COMMAND... - add the seconds that it takes, and those of processors,
# its children included, to the file of WHAT
measure()
{
	local code=0 TIMEFORMAT='%R %U %S' what=$1

	shift
	sync
	echo 3 >/proc/sys/vm/drop_caches
	{ time "$@" >/run/output 2>&1; } 2>/run/time || code=$?
	sed 's/^/# > /' /run/output
	((code == 0)) || { say "$what: $* ends with $code"; return 1; }
	awk '{ print $1, $2 + $3 }' /run/time >>"/run/$what"
}

take()
{
	id=$(blksnap snapshot create "$origin" --take --file /srv/storage) &&
		image=$(blksnap snapshot images "$id" --no-header |
			awk '{ print $3 }')
}

release()
{
	blksnap snapshot destroy "$id"
}

back_up()
{
	blksnap backup --to "$backups" --source-name guest --storage /srv/storage \
		--quiet "$@" "$origin"
}

convert()
{
	qemu-img convert -f raw -O qcow2 "$image" /srv/converted &&
		sync /srv/converted
}

full_backup()
{
	measure full back_up --full
}

converted()
{
	take && measure convert convert && release
}

increment()
{
	measure increment back_up --incremental-only
}

# The ranges are those of the increment, whether that is there already or not.
copied()
{
	take && blksnap cbt extents "$origin" --since "$base" --no-header \
		>/run/ranges && rm -f /srv/copied &&
		measure copy test_throughput "$image" /srv/copied /run/ranges &&
		release
}

# last_point FIELD - of the newest point, from its only disk
last_point()
{
	awk -F '[:,]' -v field="\"$1\"" '$1 ~ field { value = $2 }
		END { print value + 0 }' "$backups/guest/catalogue.json"
}

# in_turn ROUND FIRST SECOND - one of them first in even rounds, the other in odd ones
in_turn()
{
	if (($1 % 2)); then
		"$2" && "$3"
	else
		"$3" && "$2"
	fi
}

# Only the newest point stays, or the disk would be full.
forget_points()
{
	blksnap prune "$backups" --source-name guest --keep-last 1 --quiet >/dev/null
}

same_disk()
{
	qemu-img compare -q "$1" "$2" || { say "$1 and $2 differ"; return 1; }
}

newest_file()
{
	printf '%s\n' "$backups"/guest/*.qcow2 | tail -n 1
}

full_round()
{
	in_turn "$1" full_backup converted &&
		same_disk /srv/converted "$(newest_file)" && rm /srv/converted &&
		forget_points
}

# What was copied is as much as the increment has.
increment_round()
{
	local bytes

	base=$(last_point snap_number)
	change_disk && in_turn "$1" increment copied || return
	bytes=$(awk '{ n += $2 } END { print n * 512 }' /run/ranges)
	(($(last_point read_bytes) == bytes)) ||
		{ say "$(last_point read_bytes) bytes, not $bytes"; return 1; }
	echo "$bytes $(wc -l </run/ranges)" >/run/amount
}

# median FILE COLUMN
median()
{
	sort -n -k "$2,$2" "/run/$1" |
		awk -v column="$2" '{ v[NR] = $column }
			END { print NR % 2 ? v[(NR + 1) / 2] :
				(v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

# compare WHAT OTHER LIMIT - a row for each, and the judgement of the wall time
compare()
{
	awk -v what="$1" -v other="$2" -v limit="$3" \
		-v a="$(median "$1" 1)" -v b="$(median "$2" 1)" \
		-v c="$(median "$1" 2)" -v d="$(median "$2" 2)" 'BEGIN {
		printf "# | %-10s %8.2f %8.2f\n", what, a, c
		printf "# | %-10s %8.2f %8.2f\n", other, b, d
		printf "# | %-10s %8.2f %8.2f\n", "ratio", a / b, c / d
		exit a > limit * b
	}'
}

test_full_backup()
{
	local i

	for ((i = 0; i < rounds; i++)); do
		full_round "$i" || return
	done
	say "| seconds        wall      CPU   (medians of $rounds rounds)"
	say "| all of $(($(last_point read_bytes) >> 20)) MiB," \
		"$(($(last_point data_bytes) >> 20)) of them data"
	compare full convert "${limits%:*}"
}

test_increment()
{
	local i

	for ((i = 0; i < rounds; i++)); do
		increment_round "$i" || return
	done
	say "| an increment of $(awk '{ printf "%.0f MiB in %d", $1 / 1048576, $2 }' \
		/run/amount) ranges"
	compare increment copy "${limits#*:}"
}

tests=(full_backup increment)

mkfs.ext4 -q /dev/vdb && mkdir -p /srv && mount -t ext4 /dev/vdb /srv &&
	mkdir -p "$backups" &&
	blksnap storage reserve /srv/storage --size 64M >/dev/null &&
	fill_disk || exit 1
say "seed $seed"
ktap_run "${tests[@]}"
umount /srv
exit "$ktap_failed"
