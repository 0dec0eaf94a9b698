#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Files and devices as difference storage: which are taken, which are refused
#
# Needs a directory on ext4 or XFS, which is $TMPDIR or /tmp.

# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"

id=a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf
plain_id=a0a1a2a3a4a5a6a7a8a9aaabacadaeaf
file=$temp/storage
filesystem=$(stat -f -c %T "$temp")
device=$(stat -c %Hd:%Ld "$temp")

if [[ $filesystem != ext2/ext3 && $filesystem != xfs ]]; then
	echo "1..0 # SKIP $temp is not on ext4 or XFS but on $filesystem"
	exit 4
fi

# prepare COMMAND... - done before the next test, not while tests are counted
prepare()
{
	[[ $counting ]] || "$@"
}

stat_is() # FORMAT FILE VALUE
{
	[[ $(stat -c "$1" "$2") == "$3" ]]
}

# The same question, answered by another program.  It does not join extents.
ranges_are_those_of_filefrag()
{
	local path

	run_tool -- storage reserve "$file" --size 1M --no-header
	path=$(awk '{ print $1; exit }' "$temp/output")
	filefrag -v -b512 "$file" | tr -d '.:' | awk -v path="$path" '
		!/^ *[0-9]+ /			{ next }
		count && start + count == $4	{ count += $6; next }
		count				{ print path, start, count }
						{ start = $4; count = $6 }
		END				{ print path, start, count }' \
		>"$temp/expected"
	awk '{ print $1, $2, $3 }' "$temp/output" >"$temp/actual"
	diff "$temp/expected" "$temp/actual" | sed 's/^/# /'
	[[ ${PIPESTATUS[0]} == 0 && -s $temp/actual ]]
}

# Every other block is written: each of the 1024 blocks is an extent of its own.
striped_file()
{
	fallocate -l 4M "$1"
	python3 -c '
import os, sys
fd = os.open(sys.argv[1], os.O_WRONLY)
for block in range(0, 1024, 2):
    os.pwrite(fd, b"x" * 4096, block * 4096)' "$1"
}

# Of the ranges START+COUNT in the log of the last command.
sectors_appended() # NUMBER
{
	local total

	total=$(grep -o '[0-9]*+[0-9]*' "$temp/log" | cut -d+ -f2 |
		awk '{ n += $1 } END { print n }')
	[[ $total == "$1" ]]
}

all_sectors()
{
	grep -o '[0-9]*+[0-9]*' "$1" |
		awk -F+ '{ for (i = 0; i < $2; i++) print $1 + i }'
}

# The last command appended a piece of the file whose log was kept.
piece_is() # FIRST_SECTOR NUMBER
{
	all_sectors "$temp/whole_log" | tail -n +$(($1 + 1)) | head -n "$2" \
		>"$temp/expected"
	all_sectors "$temp/log" | cmp "$temp/expected" - && [[ -s $temp/expected ]]
}

# A reservation must not take away the space if it cannot succeed.
free_space_is_untouched()
{
	local before after

	before=$(stat -f -c %a "$temp")
	run_tool -- storage reserve "$file.huge" --size 8000T
	after=$(stat -f -c %a "$temp")
	# Others use the filesystem, too.
	((code == 1 && before - after < 10000)) && [[ ! -e $file.huge ]] &&
		[[ $message == *": No space left on device" ]]
}

hole_file()
{
	truncate -s 64K "$1"
	fallocate -o 0 -l 16K "$1"
	fallocate -o 32K -l 16K "$1"
}

test_reserve()
{
	expect "a file is reserved" 0 "DEVICE +START +COUNT
[^ ]+ +[0-9]+ +[0-9]+.*" "" FAKE_OPEN=ENOENT -- \
		storage reserve "$file" --size 1M
	check "the file has its size" \
		stat_is %s "$file" 1048576
	check "the file is for its owner only" \
		stat_is %a "$file" 600
	check "the ranges are where the blocks are" ranges_are_those_of_filefrag
	expect "a file is reserved again" 0 ".*" "" -- \
		storage reserve "$file" --size 1M
	expect "a file is made longer" 0 ".*" "" -- \
		storage reserve "$file" --size 2M
	check "the file has its new size" \
		stat_is %s "$file" 2097152
	check "too large a file leaves the free space alone" \
		free_space_is_untouched
}

test_append()
{
	local pin="snapshot_pin_file $plain_id"
	local append="$pin
snapshot_append_storage $plain_id $device"

	expect "a new file is appended" 0 "" "" \
		LOG=".*$append( [0-9]+\+[0-9]+)+" -- \
		snapshot append "$id" --file "$file.new" --size 128K
	check "all of the new file is appended" sectors_appended 256
	expect "a reserved file is appended" 0 "" "" LOG="$append .*" -- \
		snapshot append "$id" --file "$file"
	check "all of the file is appended" sectors_appended 4096
	prepare cp "$temp/log" "$temp/whole_log"
	expect "the end of a file is appended" 0 "" "" LOG="$append .*" -- \
		snapshot append "$id" --file "$file" --offset 1M
	check "only the end of the file is appended" piece_is 2048 2048
	expect "a piece of a file is appended" 0 "" "" LOG="$append .*" -- \
		snapshot append "$id" --file "$file" --offset 8K --size 12K
	check "only the piece of the file is appended" piece_is 16 24
	expect "a piece beyond the end is refused" 1 "" \
		"'$file' has only 2097152 bytes; 'blksnap storage reserve' makes it longer" \
		LOG="" -- \
		snapshot append "$id" --file "$file" --offset 2M --size 4K
	prepare striped_file "$file.striped"
	expect "a file of many extents is appended" 0 "" "" \
		LOG="$append .*" -- \
		snapshot append "$id" --file "$file.striped" --force
	check "all of its extents are appended" sectors_appended 8192
	expect "a snapshot is created with a file" 0 "$id" "" \
		LOG=".*snapshot_create 4000:1
$append [0-9+ ]*
snapshot_take $plain_id" -- snapshot create 4000:1 --take \
		--file "$file.one" --size 64K
	check "the file was reserved" \
		stat_is %s "$file.one" 65536
}

test_unsuitable_files()
{
	local pinned="snapshot_pin_file .*snapshot_append_storage .*"

	expect "no such file" 1 "" \
		"cannot open '$file.none': No such file or directory" -- \
		snapshot append "$id" --file "$file.none"
	expect "a directory" 1 "" "cannot open '$temp': Is a directory" -- \
		storage reserve "$temp" --size 4K
	expect "a device" 1 "" \
		"'/dev/null' is not a regular file; --device takes block devices" \
		-- storage reserve /dev/null --size 4K
	prepare mkfifo "$temp/fifo"
	expect "a pipe" 1 "" "'$temp/fifo' is not a regular file; .*" -- \
		storage reserve "$temp/fifo" --size 4K
	expect "another filesystem" 1 "" \
		"'/proc/self/comm' is not on ext4 or XFS; .*" \
		-- storage reserve /proc/self/comm --size 4K
	prepare touch "$file.empty"
	expect "an empty file" 1 "" "'$file.empty' has only 0 bytes; .*" -- \
		snapshot append "$id" --file "$file.empty"
	prepare dd if=/dev/urandom of="$file.data" bs=64K count=1 status=none
	expect "a file with data is not reserved" 1 "" \
		"'$file.data' holds data, which would be overwritten; --force does it" \
		-- storage reserve "$file.data" --size 64K
	expect "a file with data is not made longer" 1 "" \
		"'$file.data' holds data, .*" -- \
		storage reserve "$file.data" --size 128K
	check "the file with data kept its size" \
		stat_is %s "$file.data" 65536
	expect "a file with data is not appended" 1 "" \
		"'$file.data' holds data, .*" LOG="" -- \
		snapshot append "$id" --file "$file.data"
	expect "a file with data is appended by force" 0 "" "" \
		LOG="$pinned" -- \
		snapshot append "$id" --file "$file.data" --force
	prepare fallocate -l 16K "$file.end"
	prepare truncate -s 64K "$file.end"
	expect "a file with a hole at its end is not appended" 1 "" \
		"'$file.end' is not reserved all over; .*" LOG="" -- \
		snapshot append "$id" --file "$file.end"
	prepare touch "$file.short"
	prepare fallocate -n -l 64K "$file.short"
	expect "a file with blocks behind its end is reserved" 0 ".*" "" -- \
		storage reserve "$file.short" --size 64K
	check "the file reaches to its blocks" stat_is %s "$file.short" 65536
	prepare hole_file "$file.holes"
	expect "a file with holes is not appended" 1 "" \
		"'$file.holes' is not reserved all over; 'blksnap storage reserve' does it" \
		LOG="" -- snapshot append "$id" --file "$file.holes"
	expect "a piece without holes is appended" 0 "" "" \
		LOG="$pinned" -- snapshot append "$id" \
		--file "$file.holes" --offset 32K --size 16K
	expect "a file with holes is reserved" 0 ".*" "" -- \
		storage reserve "$file.holes" --size 64K
	expect "the file has no holes any more" 0 "" "" \
		LOG="$pinned" -- \
		snapshot append "$id" --file "$file.holes"
}

test_file_that_cannot_be_pinned()
{
	local pin="snapshot_pin_file $plain_id"
	local append=(-- snapshot append "$id" --file "$file")

	expect "a file of another snapshot is not appended" 1 "" \
		"cannot append '$file': cannot keep '$file' in its place: it is storage of another snapshot; .*" \
		FAKE_FAIL=snapshot_pin_file:EBUSY LOG="$pin" "${append[@]}"
	expect "a file that its filesystem may move is not appended" 1 "" \
		"cannot append '$file': cannot keep '$file' in its place: its filesystem may move it; .*" \
		FAKE_FAIL=snapshot_pin_file:EOPNOTSUPP LOG="$pin" "${append[@]}"
	expect "an old module cannot keep a file in its place" 1 "" \
		"cannot append '$file': '$file': the loaded module cannot keep a file in its place; load .* or set 'chattr \+i' .*" \
		FAKE_FAIL=snapshot_pin_file:ENOTTY LOG="$pin" "${append[@]}"
	expect "a snapshot whose file cannot be pinned is destroyed" 1 "" ".*" \
		FAKE_FAIL=snapshot_pin_file:EBUSY \
		LOG=".*snapshot_create 4000:1
$pin
.*snapshot_destroy $plain_id.*" -- \
		snapshot create 4000:1 --take --file "$file"
	if ! [[ $counting ]] && ! chattr +i "$file" 2>/dev/null; then
		skip "an immutable file is appended on an old module" "no chattr"
		return
	fi
	expect "an immutable file is appended on an old module" 0 "" "" \
		FAKE_FAIL=snapshot_pin_file:ENOTTY \
		LOG="$pin
snapshot_append_storage .*" "${append[@]}"
	prepare chattr -i "$file"
}

test_snapshot_is_taken()
{
	local late="'$file.late' has to be reserved before the take, but snapshot $id of the same disk is taken already; use a file reserved earlier, or another disk"

	expect "no file is reserved on the disk of a taken snapshot" 1 "" \
		"$late" FAKE_IMAGES="4000:1,$device" -- \
		storage reserve "$file.late" --size 64K
	check "the late file does not exist" test ! -e "$file.late"
	expect "no file is appended by reserving it late" 1 "" "$late" \
		FAKE_IMAGES="$device" LOG="(snapshot_(collect|collect_images) .*)" -- \
		snapshot append "$id" --file "$file.late" --size 64K
	expect "a file reserved earlier is appended" 0 "" "" \
		FAKE_IMAGES="$device" LOG=".*snapshot_append_storage .*" -- \
		snapshot append "$id" --file "$file" --size 1M
	expect "a file reserved earlier is not made longer" 1 "" \
		"'$file' has to be reserved .*" FAKE_IMAGES="$device" -- \
		snapshot append "$id" --file "$file" --size 3M
	expect "a file on another disk is reserved" 0 "" "" \
		FAKE_IMAGES="4000:1" LOG=".*snapshot_append_storage .*" -- \
		snapshot append "$id" --file "$file.other" --size 64K
}

all_tests()
{
	test_reserve
	test_append
	test_unsuitable_files
	test_file_that_cannot_be_pinned
	test_snapshot_is_taken
}

run_all_tests
