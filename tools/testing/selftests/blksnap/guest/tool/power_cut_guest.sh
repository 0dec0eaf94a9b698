#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The guest of power_cut.sh
#
#	power_cut_guest.sh work SEED	check what there is, then back up and prune
#	power_cut_guest.sh check	check it, and end
#
# The first disk is backed up, the second one holds the backups, and what the disk
# was at each point, which is on the disk before the backup begins.

set -uo pipefail

origin=$(readlink -f /dev/vda)
backups=/srv/backups
disk=${origin#/dev/}

fail()
{
	echo "wrong: $*"
	exit 1
}

checksum()
{
	sha256sum <"$1" | cut -d ' ' -f 1
}

points()
{
	blksnap list "$backups" --source-name guest --no-header 2>/dev/null |
		awk '{ print $1 }'
}

# is_whole POINT - it is restored, and what the disk was
is_whole()
{
	blksnap restore --from "$backups" --source-name guest --point "$1" --quiet \
		--force /srv/restored >/run/output 2>&1 ||
		fail "point $1 cannot be restored: $(cat /run/output)"
	[[ $(checksum /srv/restored) == "$(<"/srv/truth.$1")" ]] ||
		fail "point $1 is not what the disk was"
}

check()
{
	local all

	mapfile -t all < <(points)
	((${#all[@]})) || return 0
	is_whole "${all[-1]}"
	is_whole "${all[RANDOM % ${#all[@]}]}"
	echo "points ${all[*]} of $disk are there, the newest is whole"
}

back_up()
{
	local next

	dd if=/dev/urandom of="$origin" bs=4k count=$((1 + RANDOM % 64)) conv=notrunc \
		seek=$((RANDOM % 6000)) oflag=direct 2>/dev/null
	blockdev --flushbufs "$origin"
	next=$(points | tail -n 1)
	checksum "$origin" >"/srv/truth.$((next + 1))"
	sync
	blksnap backup --to "$backups" --source-name guest --storage /srv/storage \
		--storage-size 32M --quiet "$origin" >/run/output 2>&1 ||
		fail "the backup ends with $?: $(cat /run/output)"
}

prune()
{
	blksnap prune "$backups" --source-name guest --keep-last 3 --quiet \
		>/run/output 2>&1 || fail "pruning ends with $?: $(cat /run/output)"
}

mkdir -p /srv
if ! mount -t ext4 /dev/vdb /srv 2>/dev/null; then
	mkfs.ext4 -q /dev/vdb || fail "no filesystem"
	mount -t ext4 /dev/vdb /srv || fail "it cannot be mounted"
fi
# The last one may have been lost.
mkdir -p "$backups"
RANDOM=${2:-1}
check
if [[ $1 == check ]]; then
	back_up
	prune
	for point in $(points); do
		is_whole "$point"
	done
	blksnap verify "$backups" --source-name guest --quiet >/run/output 2>&1 ||
		fail "verify ends with $?: $(cat /run/output)"
	umount /srv
	e2fsck -fn /dev/vdb >/run/output 2>&1 || fail "$(cat /run/output)"
	echo "all of it is whole"
	exit 0
fi
echo working
while :; do
	back_up
	((RANDOM % 3)) || prune
done
