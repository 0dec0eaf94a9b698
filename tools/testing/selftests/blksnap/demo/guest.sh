#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The demo itself: back up a disk that is in use; runs in the guest
#
#	guest.sh NR_FILES NR_OPERATIONS [spoil]
#
# NR_FILES is how many files the archive on the last disk holds, NR_OPERATIONS how
# much is done to the filesystem between two backups.  With "spoil" one byte of
# the restored disk is changed before it is compared, which must be noticed.
#
# What is printed are lines for demo to lay out:
#
#	@plan N			there will be so many checks
#	@step TEXT		a new step
#	@why TEXT		a paragraph
#	@run COMMAND		a command, before it runs
#	@progress PERCENT TEXT	how far something is that takes long
#	@check ok|fail TEXT	the result of a check
#	@row NAME|VALUE		a line of the table at the end
#	anything else		output of commands
#
# The exit code is 0 if all checks passed.

set -Eeuo pipefail

nr_files=$1
nr_operations=$2
spoil=${3:-}

live=/dev/vda
backup=/dev/vdb
restored=/dev/vdc
archive=/dev/vdd
backups=/backup/chains
counts=/tmp/counts
failed=0
checks=0
nr_checks=13

# With "set -e", a command that fails ends the demo; say which one it was.
trap 'echo "the demo stops at line $LINENO: $BASH_COMMAND" >&2' ERR

step()
{
	printf '@step %s\n' "$*"
}

why()
{
	printf '@why %s\n' "$*"
}

# run COMMAND... - show a command and run it
run()
{
	printf '@run %s\n' "$*"
	"$@"
}

# run_plainly COMMAND... - likewise, not as on a terminal
run_plainly()
{
	run "$@" 2>&1 | cat
}

row()
{
	printf '@row %s|%s\n' "$1" "$2"
}

# check TEXT COMMAND... - the command must succeed
check()
{
	local text=$1 result=ok

	shift
	checks=$((checks + 1))
	"$@" || result=fail
	[[ $result == ok ]] || failed=$((failed + 1))
	printf '@check %s %s\n' "$result" "$text"
}

mib()
{
	printf '%d MiB' $((($1 + 524288) >> 20))
}

# percent PART WHOLE - as percent with one decimal
percent()
{
	local -i tenths=$((1000 * $1 / $2))

	printf '%d.%d %%' $((tenths / 10)) $((tenths % 10))
}

now_ms()
{
	local now=${EPOCHREALTIME/[.,]/}

	printf '%d' $((now / 1000))
}

seconds()
{
	printf '%d.%d s' $(($1 / 1000)) $(($1 % 1000 / 100))
}

# --- the workload ---

start_work()
{
	bash /demo/busy.sh /live "$counts" &
	work_pid=$!
	until [[ -s $counts ]]; do
		kill -0 "$work_pid"
		sleep 0.2
	done
}

# operations - how many the workload has done until now
operations()
{
	local total

	until read -r total _ <"$counts"; do
		:
	done
	printf '%d' "$total"
}

works_on()
{
	kill -0 "$work_pid" 2>/dev/null
}

# wait_operations NUMBER - wait for so many more
wait_operations()
{
	local begin now shown=-1 percent

	begin=$(operations)
	while :; do
		now=$(($(operations) - begin))
		percent=$((now < $1 ? 100 * now / $1 : 100))
		if ((percent != shown)); then
			printf '@progress %d %d of %d operations\n' \
				"$percent" "$now" "$1"
			shown=$percent
		fi
		((now < $1)) || break
		works_on || break
		sleep 1
	done
}

# --- backing up ---

# back_up - set backup_ms and backup_operations
back_up()
{
	local begin begin_operations

	begin=$(now_ms)
	begin_operations=$(operations)
	run_plainly blksnap backup --to "$backups" \
		--storage /backup/difference-storage "$live"
	backup_ms=$(($(now_ms) - begin))
	backup_operations=$(($(operations) - begin_operations))
	printf 'in %s, with %d operations on the filesystem meanwhile\n' \
		"$(seconds "$backup_ms")" "$backup_operations"
}

# layer POINT - the file of a point
layer()
{
	printf '%s' "$backups"/*/*."$(printf '%06d' "$1")".qcow2
}

# layer_bytes POINT - what its file takes on the disk
layer_bytes()
{
	printf '%d' $(($(stat -c '%b * %B' "$(layer "$1")")))
}

# restore POINT
restore()
{
	run_plainly blksnap restore --from "$backups" --point "$1" --force "$restored"
	echo 3 >/proc/sys/vm/drop_caches
}

# checksums FOLDER FILE - of every file below FOLDER, with progress
checksums()
{
	(
		cd "$1"
		find . -type f -print0 | sort -z | xargs -0 -n 500 md5sum
	) | tee "$2" | awk -v all="$nr_files" '
		NR % 250 == 0 {
			p = int(100 * NR / all)
			printf "@progress %d %d files\n", p < 100 ? p : 100, NR
			fflush()
		}'
}

# same_files FILE FILE - lists of checksums; shows what differs
same_files()
{
	[[ -s $1 ]] && diff "$1" "$2" | head -n 10
}

# is_clean DISK - as fsck says; the last line is enough if it finds nothing
is_clean()
{
	if fsck.ext4 -fn "$1" >/tmp/fsck 2>&1; then
		tail -n 1 /tmp/fsck
	else
		cat /tmp/fsck
		return 1
	fi
}

unpack_archive()
{
	local archive_bytes record

	archive_bytes=$(blockdev --getsize64 "$archive")
	mkdir /live/files
	tar -xf "$archive" -C /live/files --checkpoint=200 \
		--checkpoint-action='echo=%u' 2>&1 |
	while read -r _ record; do
		[[ $record =~ ^[0-9]+$ ]] || { echo "tar: $record"; exit 1; }
		printf '@progress %d %s\n' \
			$((record * 1024000 / archive_bytes)) \
			"$(mib $((record * 10240)))"
	done
}

# --- what happens ---

printf '@plan %d\n' "$nr_checks"

step "A disk with a filesystem full of files"
why "$live is the disk to be backed up, $backup is where backups go," \
	"$restored is the new disk for the day the first one is lost."
live_bytes=$(blockdev --getsize64 "$live")
mkdir -p /live /backup /mnt
run mkfs.ext4 -q -b 4096 -i 8192 "$live"
run mkfs.ext4 -q -b 4096 "$backup"
mount "$live" /live
mount "$backup" /backup
mkdir "$backups"
unpack_archive
found=$(find /live/files -type f | wc -l)
printf '%d files, %s of %s used\n' "$found" \
	"$(df -h --output=used /live | tail -n 1 | tr -d ' ')" \
	"$(mib "$live_bytes")"
check "the filesystem holds all $nr_files files" \
	test "$found" -eq "$nr_files"

step "Somebody works on it, and does not stop"
why "Files are copied, renamed, deleted, overwritten in place, written with" \
	"fsync, and free space is trimmed. A backup that asks for a pause is" \
	"none that anybody makes."
start_work
begin_operations=$(operations)

step "The first backup: one command"
why "It takes a snapshot and saves the disk as it was at that instant," \
	"however long that takes, while the work goes on. What is overwritten" \
	"meanwhile is kept in a file, the difference storage."
back_up
full_ms=$backup_ms
check "the work went on during the backup ($backup_operations operations)" \
	test "$backup_operations" -gt 0
check "no snapshot is left behind" \
	test -z "$(blksnap snapshot list --no-header)"

step "The work goes on"
why "There is no snapshot now. The module only notes which blocks change," \
	"one byte for each 64 KiB of the disk."
wait_operations "$nr_operations"

step "The same command again: only what changed"
back_up
increment_ms=$backup_ms
full_bytes=$(layer_bytes 1)
increment_bytes=$(layer_bytes 2)
printf 'the full backup takes %s, this one %s\n' "$(mib "$full_bytes")" \
	"$(mib "$increment_bytes")"
check "the work went on during the backup ($backup_operations operations)" \
	test "$backup_operations" -gt 0
check "there were changes, and they are less than everything" \
	test "$increment_bytes" -gt 0 -a "$increment_bytes" -lt "$full_bytes"
run blksnap list "$backups"
check "what was saved is sound: each file, each checksum" \
	blksnap verify --quiet "$backups"

step "The day the disk is lost"
why "The newest point goes to the new disk, from the full backup and what" \
	"changed. It is the disk as it was at one instant in the middle of the" \
	"work, with a filesystem that needs no repair."
restore 2
printf '@run fsck.ext4 -fn %s\n' "$restored"
check "the filesystem on the new disk is clean" is_clean "$restored"
run mount -t ext4 -o ro "$restored" /mnt
found=$(find /mnt/files -type f | wc -l)
check "the files are there ($found, some new, some deleted by the work)" \
	test "$found" -gt $((nr_files / 2))
umount /mnt

step "The proof"
why "Now the work stops, so that the disk can be compared. One more backup," \
	"and the new disk has to be the old one, from the first byte to the" \
	"last: had any of the backups missed a change, it would show."
wait_operations $((nr_operations / 2))
check "the work has been going on until now, without an error" works_on
end_operations=$(operations)
read -r -a kinds <"$counts"
kill "$work_pid"
wait "$work_pid" || true
umount /live
back_up
restore 3
if [[ $spoil ]]; then
	why "One byte of the new disk is spoiled now, on request. The proof" \
		"has to fail."
	byte=$(dd if="$restored" bs=1 skip=$((live_bytes / 2)) count=1 \
		status=none | od -An -tu1)
	printf '%b' "\\x$(printf '%02x' $((byte ^ 1)))" |
		dd of="$restored" bs=1 seek=$((live_bytes / 2)) \
		conv=notrunc,fsync status=none
	echo 3 >/proc/sys/vm/drop_caches
fi
printf '@run cmp %s %s\n' "$live" "$restored"
check "the new disk is byte for byte the old one" cmp "$live" "$restored"
mount -t ext4 -o ro "$live" /live
mount -t ext4 -o ro "$restored" /mnt
checksums /live /tmp/live.sums
checksums /mnt /tmp/restored.sums
verified=$(wc -l </tmp/restored.sums)
check "each of the $verified files is the same" \
	same_files /tmp/live.sums /tmp/restored.sums
umount /live /mnt
restore 1
check "the first point can still be had, too" is_clean "$restored"

step "Nothing is left behind"
run blksnap tracker remove "$live"
check "the module unloads" rmmod blksnap

row "size of the disk" "$(mib "$live_bytes")"
row "the full backup" "$(mib "$full_bytes") in $(seconds "$full_ms")"
row "the incremental backup" \
	"$(mib "$increment_bytes") in $(seconds "$increment_ms")"
row "operations of the workload" "$((end_operations - begin_operations))"
row "  copies, renames, deletes" "${kinds[1]}, ${kinds[2]}, ${kinds[3]}"
row "  overwrites, appends, trims" "${kinds[4]}, ${kinds[5]}, ${kinds[6]}"
row "files verified" "$verified"

if ((checks != nr_checks)); then
	echo "$checks checks were made, not $nr_checks" >&2
	exit 1
fi
((failed == 0))
