#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# A busy machine that is backed up, pruned, killed and restored, round by round
#
#	rounds.sh [--rounds N] [--seed S] [--sizes yes]
#
# With --sizes it tells how much of an increment has really changed, which takes long.
#
# The disks are: ext4, XFS, a raw one with writes like those of a database, and the one
# for backups.  In each round
#
#	work is done on all three, free space is trimmed, filesystems fill up,
#	a backup is killed at a random moment,
#	a backup of all three at one instant is made while the work goes on,
#	now and then old points are pruned, or the module is loaded anew, as after
#	a boot,
#	a random disk of a random point is restored, and has to be what it was.
#
# What it was is known from checksums that are made while the filesystems are frozen
# and the database stands still, until the images are there.

# Functions are called by name.
# shellcheck disable=SC2317
set -uo pipefail
# shellcheck source-path=SCRIPTDIR source=../rig/ktap.sh
. ktap.sh

rounds=3
seed=1
sizes=
while (($#)); do
	case $1 in
	--rounds)	rounds=$2 ;;
	--seed)		seed=$2 ;;
	--sizes)	sizes=$2 ;;
	esac
	shift 2
done
RANDOM=$seed
origins=()
names=()
for name in vda vdb vdc; do
	origins+=("$(readlink -f "/dev/$name")")
	names+=("$(basename "${origins[-1]}")")
done
database_disk=${origins[2]}
backups=/srv/backups
backup=(blksnap backup --to "$backups" --source-name guest --storage /srv/storage
	--storage-size 96M --quiet)
workers=()
checksums=()		# of what is being backed up
declare -A truth	# checksum by POINT.DISK
points=()		# those of which the truth is known, oldest first

fail()
{
	say "$*"
	return 1
}

# --- work, until /run/working is gone ---

# files_work FOLDER - what is done with files
files_work()
{
	local i

	while [[ -e /run/working ]]; do
		i=$((RANDOM % 24))
		case $((RANDOM % 8)) in
		0 | 1 | 2)	dd if=/dev/urandom of="$1/file$i" bs=4k \
					count=$((1 + RANDOM % 64)) ;;
		3)		dd if=/dev/urandom of="$1/file$i" bs=1k count=3 \
					seek=$((RANDOM % 200)) conv=notrunc,fsync ;;
		4)		mv "$1/file$i" "$1/file$((RANDOM % 24))" ;;
		5)		rm -f "$1/file$i" ;;
		6)		truncate -s $((RANDOM * 4)) "$1/file$i" ;;
		7)		cp "$1/file$i" "$1/copy$i" && sync "$1/copy$i" ;;
		esac
	done 2>/dev/null
}

# database_work - pages anywhere, and a log that goes round
database_work()
{
	local i=0

	while [[ -e /run/working && ! -e /run/database-stands-still ]]; do
		dd if=/dev/urandom of="$database_disk" bs=8k count=1 conv=notrunc oflag=direct \
			seek=$((RANDOM % 6144))
		dd if=/dev/urandom of="$database_disk" bs=4k count=1 conv=notrunc oflag=direct \
			seek=$((12288 + i++ % 1024))
	done 2>/dev/null
}

start_work()
{
	touch /run/working
	files_work /ext4 &
	workers=($!)
	files_work /xfs &
	workers+=($!)
	database_work &
	database=$!
}

stop_work()
{
	rm -f /run/working
	wait "${workers[@]}" "$database"
}

# What an administrator does now and then.
disturb()
{
	case $((RANDOM % 3)) in
	0)	fstrim /ext4; fstrim /xfs ;;
	1)	dd if=/dev/zero of=/ext4/filler bs=1M; rm -f /ext4/filler ;;
	2)	dd if=/dev/zero of=/xfs/filler bs=1M count=64; rm -f /xfs/filler ;;
	esac 2>/dev/null
}

# --- backups ---

# Whatever it has begun must not be in the way of the next one.
kill_a_backup()
{
	local pid

	"${backup[@]}" --limit 20M "${origins[@]}" >/dev/null 2>&1 &
	pid=$!
	sleep "$((RANDOM % 3)).$((RANDOM % 10))"
	kill -KILL "$pid" 2>/dev/null
	wait "$pid" 2>/dev/null
}

# has_images ID - of another snapshot than this one, which may be about to go
has_images()
{
	local now

	now=$(cat /sys/block/blksnap-image0/blksnap/snapshot 2>/dev/null)
	[[ $now && $now != "$1" ]]
}

# checksum DEVICE - of what is on the disk.  The cache of a device that is mounted may hold
# something else: a block of metadata as it was before a file got it.
checksum()
{
	dd if="$1" bs=1M iflag=direct 2>/dev/null | sha256sum | cut -d ' ' -f 1
}

# remember_disks - nothing changes from the checksums to the images
remember_disks()
{
	local i

	touch /run/database-stands-still
	wait "$database"
	sync
	fsfreeze -f /ext4 && fsfreeze -f /xfs || return
	for i in 0 1 2; do
		checksums[i]=$(checksum "${origins[i]}")
	done
}

# note_point - the number is in what the backup has printed
note_point()
{
	local i nr

	nr=$(awk '$1 ~ /^[0-9]+$/ { print $1; exit }' /run/backup.log)
	[[ $nr ]] || fail "no number of the point" || return
	for i in 0 1 2; do
		truth[$nr.${names[i]}]=${checksums[i]}
	done
	points+=("$nr")
}

let_work_go_on()
{
	fsfreeze -u /ext4 && fsfreeze -u /xfs || return 1
	rm -f /run/database-stands-still
	database_work &
	database=$!
}

back_up_at_work()
{
	local before code=0 pid

	before=$(cat /sys/block/blksnap-image0/blksnap/snapshot 2>/dev/null)
	remember_disks || fail "cannot freeze" || return
	"${backup[@]}" "${origins[@]}" >/run/backup.log 2>&1 &
	pid=$!
	while kill -0 "$pid" 2>/dev/null && ! has_images "$before"; do
		sleep 0.02
	done
	let_work_go_on || fail "cannot thaw" || return
	wait "$pid" || code=$?
	sed 's/^/# | /' /run/backup.log
	((code == 0)) || fail "the backup ends with $code" || return
	note_point || return
	[[ ! $(blksnap snapshot list --no-header) ]] || fail "a snapshot is left"
}

# --- pruning, booting, restoring ---

prune()
{
	blksnap prune "$backups" --source-name guest --keep-last 5 --quiet \
		>/run/prune.log 2>&1 || fail "pruning ends with $?: $(cat /run/prune.log)" ||
		return
	mapfile -t points < <(blksnap list "$backups" --source-name guest --no-header |
		awk '!($1 in seen) { print $1 } { seen[$1] }' | grep -Fx \
		"$(printf '%s\n' "${points[@]}")")
	say "pruned to the points ${points[*]}"
}

load_anew()
{
	if ! rmmod blksnap || ! modprobe blksnap; then
		fail "the module cannot be loaded anew"
		return
	fi
	say "the module was loaded anew"
}

# restore_one POINT DISK - it has to be what it was; left in /srv/restored
restore_one()
{
	blksnap restore --from "$backups" --source-name guest --point "$1" --disk "$2" \
		--quiet --force /srv/restored >/run/restore.log 2>&1 ||
		fail "restoring $2 of point $1: $(cat /run/restore.log)" || return
	[[ $(sha256sum </srv/restored | cut -d ' ' -f 1) == "${truth[$1.$2]}" ]] ||
		fail "$2 of point $1 is not what it was"
}

newest_is_whole()
{
	local disk

	for disk in "${names[@]}"; do
		restore_one "${points[-1]}" "$disk" || return
	done
}

restore_at_random()
{
	local nr=${points[RANDOM % ${#points[@]}]} disk=${names[RANDOM % 3]}

	restore_one "$nr" "$disk" && say "point $nr of $disk is what it was"
}

# What the last point has taken, and how many bytes of it have really changed.
report_sizes()
{
	local disk saved changed

	[[ $sizes ]] && ((${#points[@]} > 1)) || return 0
	for disk in "${names[@]}"; do
		restore_one "${points[-2]}" "$disk" || return
		mv /srv/restored /srv/before
		restore_one "${points[-1]}" "$disk" || return
		changed=$(cmp -l /srv/before /srv/restored |
			awk '{ b[int(($1 - 1) / 4096)] } END { print 4096 * length(b) }')
		saved=$(stat -c '%b * %B' "$backups"/guest/"$disk".*"${points[-1]}".qcow2)
		say "$disk: $((saved)) bytes were saved, 4 KiB blocks with changes have $changed"
	done
	rm -f /srv/before /srv/restored
}

one_round()
{
	start_work
	disturb
	sleep 1
	kill_a_backup
	back_up_at_work || { stop_work; return 1; }
	stop_work
	newest_is_whole || return
	report_sizes || return
	(($1 % 4)) || prune || return
	(($1 % 6)) || load_anew || return
	restore_at_random
}

check_the_rest()
{
	local nr disk file

	for nr in "${points[@]}"; do
		for disk in "${names[@]}"; do
			restore_one "$nr" "$disk" || return
		done
	done
	blksnap verify "$backups" --source-name guest --quiet >/dev/null ||
		fail "verify finds damage" || return
	for file in "$backups"/guest/*.qcow2; do
		qemu-img check -q "$file" || fail "qemu-img check: $file" || return
	done
	say "${#points[@]} points of three disks are what they were"
}

mkdir -p /ext4 /xfs /srv &&
mkfs.ext4 -q "${origins[0]}" && mount -t ext4 "${origins[0]}" /ext4 &&
mkfs.xfs -q "${origins[1]}" && mount -t xfs "${origins[1]}" /xfs &&
mkfs.ext4 -q /dev/vdd && mount -t ext4 /dev/vdd /srv &&
mkdir -p "$backups" || exit 1
say "seed $seed"
ktap_plan $((rounds + 1))
for ((round = 1; round <= rounds; round++)); do
	ktap_result "round_$round" one_round "$round"
done
ktap_result what_is_kept_is_whole check_the_rest
umount /ext4 /xfs /srv
exit "$ktap_failed"
