#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The demo itself: back up a disk that is in use; runs in the guest
#
#	guest.sh NR_FILES PIECE_MIB NR_OPERATIONS [spoil]
#
# NR_FILES is how many files the archive on the last disk holds, PIECE_MIB what
# is appended to the difference storage at a time, NR_OPERATIONS how much is
# done to the filesystem between the two snapshots.  With "spoil" one byte of
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
piece_bytes=$(($2 << 20))
nr_operations=$3
spoil=${4:-}

live=/dev/vda
backup=/dev/vdb
restored=/dev/vdc
archive=/dev/vdd
full=/backup/full
changes=/backup/changes
storage=/backup/difference-storage
counts=/tmp/counts
failed=0
checks=0
nr_checks=17

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

# --- the agent that keeps the difference storage filled ---

# agent ID - append a piece of the reserved file for each low_free_space event
#
# It ends when the snapshot is destroyed.  Its account is in /tmp/agent.*.
agent()
{
	local id=$1 offset=0 events=0 event rest

	blksnap snapshot events "$id" --follow |
	while read -r _ event rest; do
		if [[ $event != low_free_space ]]; then
			printf '%s %s\n' "$event" "$rest" >>/tmp/agent.trouble
			continue
		fi
		blksnap snapshot append "$id" --file "$storage" \
			--offset "$offset" --size "$piece_bytes" \
			2>>/tmp/agent.trouble ||
			printf 'append: %d\n' $? >>/tmp/agent.trouble
		offset=$((offset + piece_bytes))
		events=$((events + 1))
		printf '%d %d\n' "$events" "$offset" >/tmp/agent.account
	done
}

start_agent()
{
	rm -f /tmp/agent.*
	: >/tmp/agent.trouble
	agent "$1" &
	agent_pid=$!
	# The first event comes by itself, and no take without storage.
	until [[ -s /tmp/agent.account ]]; do
		kill -0 "$agent_pid"
		sleep 0.1
	done
}

# end_agent - after the snapshot was destroyed: set events and storage_bytes
end_agent()
{
	wait "$agent_pid"
	read -r events storage_bytes </tmp/agent.account
	all_storage_bytes=$((all_storage_bytes + storage_bytes))
	all_events=$((all_events + events))
}

agent_had_no_trouble()
{
	cat /tmp/agent.trouble
	[[ ! -s /tmp/agent.trouble ]]
}

# --- snapshots ---

# take_snapshot - create, give storage and take; set id, image, number,
# generation and at_take, the operations done by then
take_snapshot()
{
	local before

	printf '@run blksnap snapshot create %s\n' "$live"
	id=$(blksnap snapshot create "$live")
	printf '%s\n' "$id"
	printf '@run blksnap snapshot events %s --follow\n' "$id"
	printf '@run blksnap snapshot append %s --file %s --offset 0 --size %s\n' \
		"$id" "$storage" "$piece_bytes"
	start_agent "$id"
	before=$(now_ms)
	run blksnap snapshot take "$id"
	take_ms=$(($(now_ms) - before))
	at_take=$(operations)
	run blksnap snapshot images "$id"
	image=$(blksnap snapshot images "$id" --no-header |
		awk '{ print $3 }')
	state=/sys/block/${image#/dev/}/blksnap
	read -r number generation < <(blksnap tracker list --no-header |
		awk '{ print $(NF - 1), $NF }')
}

# image_is_sound - no error up to now, the filesystem was frozen at the take, and
# writes have been held
image_is_sound()
{
	[[ $(<"$state/error") == 0 && $(<"$state/filesystem_frozen") == 1 &&
	   $(<"$state/held_writes_total") -gt 0 ]]
}

# account - add up what the snapshot has cost, before it is destroyed
account()
{
	local held_ns held

	held=$(<"$state/held_writes_total")
	held_ns=$(<"$state/held_ns_total")
	all_held=$((all_held + held))
	all_held_ns=$((all_held_ns + held_ns))
	all_copied=$((all_copied + $(<"$state/copied_bytes")))
	all_stored=$((all_stored + $(<"$state/stored_bytes")))
}

# copy WHAT FROM TO LIST - set copied_bytes, copy_ms, copy_operations
copy()
{
	local begin begin_operations

	printf '@run copy_ranges %s %s <%s\n' "$2" "$3" "$4"
	begin=$(now_ms)
	begin_operations=$(operations)
	copied_bytes=$(copy_ranges "$2" "$3" <"$4")
	copy_ms=$(($(now_ms) - begin))
	copy_operations=$(($(operations) - begin_operations))
	printf '%s: %s in %s, and %d operations on the filesystem meanwhile\n' \
		"$1" "$(mib "$copied_bytes")" "$(seconds "$copy_ms")" \
		"$copy_operations"
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

# differs A B - their bytes are not all the same, yet both can be read
differs()
{
	local code=0

	cmp -s "$1" "$2" || code=$?
	((code == 1))
}

# same_files FILE FILE - as differs() for lists, and show what differs
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

mount_read_only()
{
	mkdir -p "$2"
	# Not even the cleaning up that ext4 does at a mount may change it.
	blockdev --setro "$1"
	run mount -t ext4 -o ro,noload "$1" "$2"
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

all_held=0
all_held_ns=0
all_copied=0
all_stored=0
all_storage_bytes=0
all_events=0
printf '@plan %d\n' "$nr_checks"

step "A disk with a filesystem full of files"
why "$live is the disk to be backed up, $backup is where backups go," \
	"$restored is the new disk for the day the first one is lost."
live_bytes=$(blockdev --getsize64 "$live")
mkdir -p /live /backup
run mkfs.ext4 -q -b 4096 -i 8192 "$live"
run mkfs.ext4 -q -b 4096 "$backup"
mount "$live" /live
mount "$backup" /backup
unpack_archive
found=$(find /live/files -type f | wc -l)
printf '%d files, %s of %s used\n' "$found" \
	"$(df -h --output=used /live | tail -n 1 | tr -d ' ')" \
	"$(mib "$live_bytes")"
check "the filesystem holds all $nr_files files" \
	test "$found" -eq "$nr_files"

step "Somebody works on it, and does not stop until the end"
why "Files are copied, renamed, deleted, overwritten in place, written with" \
	"fsync, and free space is trimmed. A backup that asks for a pause is" \
	"none that anybody makes."
start_work
begin_operations=$(operations)

step "The first snapshot"
why "A snapshot needs difference storage: where the old data goes of blocks" \
	"that are overwritten while the snapshot is held. A file is reserved" \
	"for it, and a small agent appends a piece each time the module says" \
	"that space is low."
run blksnap storage reserve "$storage" --size "$live_bytes" >/tmp/reserved
printf 'reserved %s in %d range(s)\n' "$(mib "$live_bytes")" \
	"$(($(wc -l </tmp/reserved) - 1))"
take_snapshot
first_generation=$generation
first_number=$number
first_take_ms=$take_ms
printf 'taken in %s; this is snapshot %d of generation %s\n' \
	"$(seconds "$take_ms")" "$number" "$generation"
check "the work goes on" works_on

step "A full backup, from the image"
why "The image $image shows the disk as it was at the take, however long the" \
	"backup takes. Keep the number and the generation of the snapshot with" \
	"the backup: the next one builds on them."
printf '0 %d\n' $((live_bytes >> 9)) >/tmp/everything
copy "full backup" "$image" "$full" /tmp/everything
full_bytes=$copied_bytes
full_ms=$copy_ms
check "the backup is of the whole disk" test "$full_bytes" -eq "$live_bytes"
meanwhile=$(($(operations) - at_take))
check "the work went on from the take to the end of the backup ($meanwhile operations)" \
	test "$meanwhile" -gt 0
wait_operations $((nr_operations / 2))
check "the image is still the same when it is read again after more work" \
	cmp "$full" "$image"
check "the filesystem was frozen for the take, and writes were held for copies" \
	image_is_sound
account
run blksnap snapshot destroy "$id"
end_agent
printf 'the agent answered %d low_free_space events with %s of storage\n' \
	"$events" "$(mib "$storage_bytes")"
check "no snapshot was lost for want of storage" agent_had_no_trouble

step "The work goes on"
why "There is no snapshot now. The module only notes which blocks change," \
	"one byte for each 64 KiB of the disk."
wait_operations "$nr_operations"

step "The second snapshot, and what changed since the first"
take_snapshot
printf 'taken in %s\n' "$(seconds "$take_ms")"
check "the second snapshot belongs to the generation of the first" \
	test "$number $generation" = \
	"$((first_number + 1)) $first_generation"
printf '@run blksnap cbt extents %s --since %d --generation %s >%s\n' \
	"$live" "$first_number" "$first_generation" "$changes"
blksnap cbt extents "$live" --since "$first_number" \
	--generation "$first_generation" --no-header >"$changes"
head -n 3 "$changes"
printf '... %d extents in all\n' "$(wc -l <"$changes")"

step "An incremental backup: only what changed"
copy "incremental backup" "$image" /backup/incremental "$changes"
meanwhile=$(($(operations) - at_take))
incremental_bytes=$copied_bytes
incremental_ms=$copy_ms
check "the work went on from the take to the end of the backup ($meanwhile operations)" \
	test "$meanwhile" -gt 0
check "there were changes, and far from all of the disk changed" \
	test "$incremental_bytes" -gt 0 -a \
	"$incremental_bytes" -lt "$live_bytes"

step "The new disk: first the full backup, then the changes on top"
copy "restored in full" "$full" "$restored" /tmp/everything
copy "changes restored" /backup/incremental "$restored" "$changes"
if [[ $spoil ]]; then
	why "One byte of the new disk is spoiled now, on request. The proof" \
		"has to fail."
	byte=$(dd if="$restored" bs=1 skip=$((live_bytes / 2)) count=1 \
		status=none | od -An -tu1)
	printf '%b' "\\x$(printf '%02x' $((byte ^ 1)))" |
		dd of="$restored" bs=1 seek=$((live_bytes / 2)) \
		conv=notrunc,fsync status=none
fi

step "The proof"
why "Both disks are compared from the first byte to the last, with nothing" \
	"left in memory; the filesystem on the new disk is checked; and every" \
	"file in it is compared with the one in the image."
sync "$restored"
echo 3 >/proc/sys/vm/drop_caches
printf '@run cmp %s %s\n' "$image" "$restored"
check "the new disk is byte for byte the second image" cmp "$image" "$restored"
check "the disk in use has moved on since then" differs "$image" "$live"
printf '@run fsck.ext4 -fn %s\n' "$restored"
check "the filesystem on the new disk is clean" is_clean "$restored"
mount_read_only "$image" /image
mount_read_only "$restored" /restored
checksums /image /tmp/image.sums
checksums /restored /tmp/restored.sums
verified=$(wc -l </tmp/restored.sums)
check "each of the $verified files is the same as in the image" \
	same_files /tmp/image.sums /tmp/restored.sums
umount /image /restored
check "the work is still going on, without an error" works_on
end_operations=$(operations)
read -r -a kinds <"$counts"
account
kill "$work_pid"
wait "$work_pid" || true
run blksnap snapshot destroy "$id"
end_agent
check "no snapshot was lost for want of storage, again" agent_had_no_trouble

step "Nothing is left behind"
umount /live
run blksnap tracker remove "$live"
check "the module unloads" rmmod blksnap

row "size of the disk" "$(mib "$live_bytes")"
row "read for the full backup" "$(mib "$full_bytes") in $(seconds "$full_ms")"
row "read for the incremental backup" \
	"$(mib "$incremental_bytes") in $(seconds "$incremental_ms")"
row "saved by the change map" \
	"$(mib $((live_bytes - incremental_bytes))), $(percent \
	$((live_bytes - incremental_bytes)) "$live_bytes") of the disk"
row "old data copied for the images" "$(mib "$all_copied")"
row "difference storage used" \
	"$(mib "$all_stored") of $(mib "$all_storage_bytes") appended"
row "low_free_space events answered" "$all_events"
row "the two takes, all in all" \
	"$(seconds "$first_take_ms") and $(seconds "$take_ms")"
row "writes held for a copy" "$all_held"
row "  time held, summed up" "$(seconds $((all_held_ns / 1000000)))"
row "  time held, on average" \
	"$((all_held ? all_held_ns / all_held / 1000 : 0)) us"
row "operations of the workload" "$((end_operations - begin_operations))"
row "  copies, renames, deletes" "${kinds[1]}, ${kinds[2]}, ${kinds[3]}"
row "  overwrites, appends, trims" "${kinds[4]}, ${kinds[5]}, ${kinds[6]}"
row "files verified" "$verified"

if ((checks != nr_checks)); then
	echo "$checks checks were made, not $nr_checks" >&2
	exit 1
fi
((failed == 0))
