#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Backups: what is saved, what comes back, and what is refused

# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source-path=SCRIPTDIR source=backup_common.sh
. "$(dirname "$0")/backup_common.sh"

message=
plain_id=a0a1a2a3a4a5a6a7a8a9aaabacadaeaf
folder=$backups/machine

# saves POINT BASE [OPTION]... - back up, to a new point on that base (0: full)
saves()
{
	local point=$1 base=$2

	shift 2
	backup --json "$@"
	keep "$point"
	((code == 0)) || { echo "# $message"; return 1; }
	python3 -c '
import json, sys
p = json.load(open(sys.argv[1]))
d = p["disks"][0]
ok = p["point"] == int(sys.argv[2]) and d["base"] == int(sys.argv[3])
if not ok:
    print("# " + json.dumps(p))
sys.exit(not ok)' "$temp/output" "$point" "$base" &&
		is_point "$point" "$(layer "$point")" &&
		qemu-img check -q "$(layer "$point")"
}

says_why() # EXPRESSION
{
	[[ $message =~ $1 ]] || { echo "# $message"; return 1; }
}

restores() # POINT TARGET [OPTION]...
{
	local point=$1 target=$2

	shift 2
	run_tool -- restore --from "$backups" --source-name machine \
		--point "$point" "$@" "$target"
	((code == 0)) || { echo "# $message"; return 1; }
	is_point "$point" "$target" && [[ ! -e $target.partial ]]
}

all_points_restore()
{
	local point

	for point in 1 2 3 4; do
		restores "$point" "$fast/restored" --force &&
			restores "$point" "$fast/restored.qcow2" --force ||
			return 1
	done
}

smaller() # FILE BYTES
{
	(($(stat -c %s "$1") < $2))
}

smaller_on_disk() # FILE BYTES
{
	(($(stat -c %b "$1") * 512 < $2))
}

nothing_in() # FOLDER
{
	[[ ! $(ls "$1") ]]
}

holds_only() # FOLDER NAME...
{
	[[ $(cd "$1" && echo ./*) == "$(printf '%s ' "${@:2}" | sed 's/ $//')" ]]
}

mode_is() # MODE FILE...
{
	local file

	for file in "${@:2}"; do
		[[ $(stat -c %a "$file") == "$1" ]] || return 1
	done
}

test_full()
{
	prepare new_disk 1100
	check "the first backup is full" saves 1 0
	check "the reason is told" \
		says_why '^4000-1: full backup, because it is the first of this disk$'
	check "the snapshot is destroyed" grep -q \
		"^snapshot_destroy $plain_id" "$temp/log"
	check "nobody else can read the backup" mode_is 600 "$folder"/*.qcow2 \
		"$folder"/*.map "$folder/catalogue.json" \
		"$folder/catalogue-copy.json"
	check "zeros are not stored" smaller "$(layer 1)" 12000000
}

test_incremental()
{
	prepare change_disk by_chance
	check "the second backup is incremental" saves 2 1
	check "nothing is said of it" test -z "$message"
	prepare change_disk 0 1 5 6 7 1023 1024 1099
	check "the third backup is incremental" saves 3 2 --incremental-only
	check "it holds what changed only" \
		smaller "$(layer 3)" 700000
	prepare change_disk 1
	check "the fourth backup is incremental and compressed" \
		saves 4 3 --compress
	check "every point can be restored" all_points_restore
	expect "a backup in words" 0 \
		"POINT  DISK +BASE +READ +DATA  FILE
 +5  4000-1 +4 .*4000-1.000005.qcow2" "" "${variables[@]}" \
		FAKE_NUMBER=100 -- backup --to "$backups" --source-name machine \
		--storage "$storage" --quiet 4000:1
	prepare keep 5
	expect "the points are listed" 0 \
		"POINT  TIME +DISK +BASE +SIZE +DATA  STATE  FILE(
 +[1-5]  20[-0-9]+ [:0-9]+  4000-1 +[-1-4] +68\.7M +[0-9.KM]+  ok +4000-1.00000[1-5].qcow2){5}" \
		"" -- list "$backups"
	expect "the backup is verified" 0 "POINT .*(ok.*){5}" "" -- \
		verify "$backups" --quiet
	expect "one point is verified, with what it is based on" 0 \
		" +2  4000-1  ok .*
 +1  4000-1  ok .*" "" -- verify "$backups" --point 2 --no-header
}

test_reasons()
{
	local none="'4000:1' needs a full backup: change tracking began anew after point 5, .*; --incremental-only forbids it, nothing was written"

	prepare new_disk 1100
	expect "no full backup is made against the wish" 3 "" "$none" \
		"${variables[@]}" -- backup --to "$backups" --source-name \
		machine --storage "$storage" --incremental-only 4000:1
	check "no file was written" test ! -e "$(layer 6)"
	prepare know_disk
	check "a new generation makes a full backup" saves 6 0
	check "the new generation is told" \
		says_why 'because change tracking began anew after point 5,'
	prepare new_disk 1000
	prepare generation_again
	prepare know_disk
	check "a new size makes a full backup" saves 7 0
	check "the new size is told" \
		says_why 'because the size of the disk has changed'
	prepare change_disk by_chance
	prepare know_disk
	check "a full backup is made if asked for" saves 8 0 --full
	prepare change_disk by_chance
	prepare know_disk
	check "then an incremental one" saves 9 8
}

# As if the disk only had got another size.
generation_again()
{
	generation=$((generation - 1))
	snap_number=50
	set_variables
}

# By more than its path and its size.
know_disk()
{
	mkdir -p "$temp/known/sys/dev/block/4000:1"
	echo eui.1 >"$temp/known/sys/dev/block/4000:1/wwid"
	variables+=(FAKE_SYS="$temp/known")
}

test_small_blocks()
{
	prepare eval "block_bytes=4096 backups=$fast/small folder=$fast/small/machine"
	prepare mkdir -p "$fast/small"
	prepare new_disk 4000
	check "small tracking blocks: full" saves 1 0
	# shellcheck disable=SC2046 # they are numbers
	prepare change_disk $(seq 1 40 4000)
	check "small tracking blocks: incremental" saves 2 1
	check "pieces of 4K do not take 64K each" \
		smaller_on_disk "$(layer 2)" 2000000
	check "small tracking blocks: restored" restores 2 "$fast/restored" \
		--force
	prepare change_disk 5 6 70
	check "small tracking blocks, compressed" saves 3 2 --compress
	check "small tracking blocks, compressed: restored" \
		restores 3 "$fast/restored" --force
	prepare eval "block_bytes=65536 backups=$fast/backups folder=$fast/backups/machine"
}

flip() # FILE OFFSET
{
	python3 -c '
import sys
f = open(sys.argv[1], "r+b")
f.seek(int(sys.argv[2]))
b = f.read(1)
f.seek(int(sys.argv[2]))
f.write(bytes([b[0] ^ 1]))' "$1" "$2"
}

new_folder() # NAME - with a full and an incremental backup
{
	backups=$fast/$1
	mkdir -p "$backups"
	new_disk 40
	backup
	keep 1
	change_disk by_chance
	backup
	keep 2
	change_disk by_chance
}

test_damage()
{
	local what

	prepare new_folder flipped
	backups=$fast/flipped
	prepare flip "$(layer 1)" 400000
	expect "a flipped byte is not known before it is read" 0 \
		".* ok .* ok .*" "" -- list "$backups"
	expect "a flipped byte is found" 5 ".*damaged.*" \
		"'$(layer 1)' is damaged: wrong checksum of the 64 MiB at 0" -- \
		verify "$backups"
	expect "a flipped byte is not restored" 5 "" \
		"'$(layer 1)' is damaged: wrong checksum .*" -- \
		restore --from "$backups" "$temp/flipped.raw"
	expect "then it is known" 0 ".* damaged .* damaged .*" "" -- \
		list "$backups"
	prepare cp -r "$fast/flipped" "$fast/mended"
	check "after a flipped byte a full backup is made" saves 3 0
	check "the flipped byte is told" says_why \
		"because '4000-1.000001.qcow2', which point 2 needs, is missing, cut or damaged"
	backups=$fast/mended
	prepare flip "$(layer 1)" 400000
	expect "a layer that was mended is whole" 0 ".* ok .* ok .*" "" -- \
		verify "$backups" --quiet
	check "and is built on again" saves 3 2
	check "its mark is gone" test ! -e "$(layer 1).damaged"
	backups=$fast/flipped
	check "no damaged file is left" test ! -e "$temp/flipped.raw" -a \
		! -e "$temp/flipped.raw.partial"
	for what in qcow2 map; do
		prepare new_folder "missing-$what"
		backups=$fast/missing-$what
		prepare rm "$backups/machine/4000-1.000001.$what"
		expect "a missing $what is listed" 0 ".* damaged .* damaged .*" \
			"" -- list "$backups"
		expect "a missing $what is found" 5 ".*" \
			"'.*/4000-1.000001.$what' is damaged: it is missing or cut" \
			-- verify "$backups" --point 1
		check "after a missing $what a full backup is made" saves 3 0
		check "the missing $what is told" says_why \
			"because '4000-1.000001.$what', which point 2 needs, is missing, cut or damaged"
		check "and it restores" restores 3 "$fast/restored" --force
	done
	prepare new_folder cut
	backups=$fast/cut
	prepare truncate -s -4096 "$(layer 2)"
	expect "a cut file is found" 5 ".*" ".* is damaged: it is missing or cut" \
		-- verify "$backups"
	check "after a cut file a full backup is made" saves 3 0
	backups=$fast/backups
}

test_catalogue()
{
	prepare new_folder catalogue
	backups=$fast/catalogue
	prepare flip "$backups/machine/4000-1.000001.map" 20
	expect "a damaged map is found" 5 ".*" \
		".*000001.map' is damaged: its checksum is not the one in the catalogue" \
		-- verify "$backups"
	prepare mkdir "$temp/saved"
	prepare mv "$backups/machine/catalogue.json" "$temp/saved/catalogue.json"
	expect "without the catalogue nothing is restored" 1 "" \
		"'$backups' holds no backup" -- \
		restore --from "$backups" "$fast/restored"
	expect "without the catalogue nothing is backed up" 1 "" \
		"'$backups/machine' holds layers of a backup, but no catalogue.json; .*" \
		"${variables[@]}" -- backup --to "$backups" --source-name machine \
		--storage "$storage" 4000:1
	check "without the catalogue nothing is removed" test -e "$(layer 1)"
	prepare cp "$temp/saved/catalogue.json" "$backups/machine/catalogue.json"
	prepare truncate -s -100 "$backups/machine/catalogue.json"
	expect "a damaged catalogue is refused" 1 "" \
		"'$backups/machine/catalogue.json' is damaged, .*; copy catalogue-copy.json to its place" \
		"${variables[@]}" -- backup --to "$backups" --source-name machine \
		--storage "$storage" 4000:1
	prepare cp "$temp/saved/catalogue.json" "$backups/machine/catalogue.json"
	prepare sed -i 's,4000-1.000001.qcow2,../4000-1.qcow2,' \
		"$backups/machine/catalogue.json"
	expect "a catalogue that leads elsewhere is refused" 1 "" \
		".* is damaged, .*" -- list "$backups"
	prepare cp "$temp/saved/catalogue.json" "$backups/machine/catalogue.json"
	check "a file of somebody else stays" others_stay
	backups=$fast/backups
}

others_stay()
{
	touch "$backups/machine/notes.txt" "$backups/machine/disk.qcow2" \
		"$backups/machine/4000-2.000003.qcow2" \
		"$backups/machine/4000-1.000003.qcow2.partial"
	backup
	[[ $message == *000003.qcow2\'* && $message == *000003.qcow2.partial\'* &&
	   -e $backups/machine/notes.txt && -e $backups/machine/disk.qcow2 &&
	   ! -e $backups/machine/4000-2.000003.qcow2 &&
	   ! -e $backups/machine/4000-1.000003.qcow2.partial ]]
}

# points_beyond NAME COUNT - three points with their catalogue in old.json, and more
points_beyond()
{
	local count=$2

	new_folder "$1"
	folder=$backups/machine
	backup
	keep 3
	cp "$folder/catalogue.json" "$temp/old.json"
	for ((; count; count--)); do
		change_disk by_chance
		backup
		keep "$(newest_point)"
	done
}

put_old_back()
{
	cp "$temp/old.json" "$folder/catalogue.json"
	(cd "$folder" && sha256sum -- *) >"$temp/sums"
}

nothing_is_changed()
{
	local -a names

	mapfile -t names < <(sed 's,.* ,./,' "$temp/sums")
	(cd "$folder" && sha256sum --quiet -c "$temp/sums") &&
		holds_only "$folder" "${names[@]}"
}

# refuses_old EXPRESSION - to back up and to prune
refuses_old()
{
	local command
	local -a prune=(prune "$backups" --keep-last 1)

	for command in backup "run_tool -- ${prune[*]}"; do
		$command
		[[ $code == 1 && $message =~ ^"blksnap: '$folder/catalogue.json' is older than "$1$ ]] ||
			{ echo "# $command: $code, $message"; return 1; }
		nothing_is_changed || return 1
	done
}

# An older catalogue does not know the newest layers, which are no leftovers.
test_old_catalogue()
{
	local unknown="the layers beside it: it does not know '4000-1\.00000[2-5].*'.*"

	prepare points_beyond old 2
	prepare put_old_back
	check "a catalogue older than its copy is refused" refuses_old \
		"catalogue-copy.json beside it; copy that to its place"
	prepare cp "$temp/old.json" "$fast/old/machine/catalogue-copy.json"
	prepare put_old_back
	check "one that is older than the layers is refused" refuses_old "$unknown"
	prepare points_beyond old-pruned 2
	prepare run_tool -- prune "$fast/old-pruned" --keep-last 4 --quiet
	prepare put_old_back
	check "also after a prune" refuses_old "catalogue-copy.json .*"
	prepare mv "$fast/old-pruned/machine/catalogue-copy.json" "$temp/newest.json"
	prepare put_old_back
	check "and without the copy" refuses_old "$unknown"
	prepare cp "$temp/newest.json" "$fast/old-pruned/machine/catalogue.json"
	prepare change_disk by_chance
	check "with the newest one it goes on" saves 6 5
	check "and all points are whole" run_tool_passes verify "$fast/old-pruned"
	prepare points_beyond old-one 1
	prepare put_old_back
	check "one backup more is enough" refuses_old "catalogue-copy.json .*"
	prepare points_beyond old-merged 0
	prepare run_tool -- prune "$fast/old-merged" --keep-last 2 --quiet
	prepare rm "$fast/old-merged/machine/catalogue-copy.json"
	prepare put_old_back
	check "so is a prune" refuses_old "$unknown"
	backups=$fast/backups
	folder=$backups/machine
}

run_tool_passes() # ARGUMENT...
{
	run_tool -- "$@"
	((code == 0)) || { echo "# $message"; return 1; }
}

test_targets()
{
	prepare new_folder targets
	backups=$fast/targets
	prepare touch "$temp/empty"
	expect "an empty file is replaced" 0 ".*" "" -- \
		restore --from "$backups" "$temp/empty" --quiet
	expect "a file is not replaced" 1 "" \
		"'$temp/empty' is there already; --force replaces it" -- \
		restore --from "$backups" "$temp/empty"
	expect "no file in a backup is a target" 1 "" \
		"'.*' is in the folder of a backup; restore to another place" -- \
		restore --from "$backups" "$(layer 1)" --force
	check "the file in the backup is as it was" \
		qemu-img compare -q -F qcow2 "$points/1" "$(layer 1)"
	expect "nor is a directory" 1 "" \
		"'$temp' is neither a block device nor a regular file" -- \
		restore --from "$backups" "$temp"
	expect "no such point" 1 "" "there is no point 7; 'blksnap list' shows all" \
		-- restore --from "$backups" --point 7 "$temp/x"
	expect "no such disk" 1 "" "point 2 has no disk 'sda'; .*" -- \
		restore --from "$backups" --disk sda "$temp/x"
	expect "no such folder" 1 "" \
		"cannot open '/nonexistent': No such file or directory" -- \
		restore --from /nonexistent "$temp/x"
	expect "an unknown format" 2 "" "--format 'vmdk': must be raw or qcow2" \
		-- restore --from "$backups" --format vmdk "$temp/x"
	prepare touch "$temp/half.partial"
	expect "a file that is only half there stays" 1 "" \
		"'$temp/half.partial' is there already, .*; remove it" -- \
		restore --from "$backups" "$temp/half"
	check "and is still there" test -e "$temp/half.partial"
	backups=$fast/backups
}

# A device is not overwritten with what cannot be restored.
test_damaged_to_device() # DEVICE
{
	local -a restore=(restore --from "$backups" --force --quiet)
	local lost

	lost="'$(layer 2)' is damaged: it is missing or cut"
	prepare cp "$1" "$fast/device"
	prepare cp -r "$backups/machine" "$fast/whole"
	prepare rm "$(layer 2)"
	expect "a missing layer: it is said" 5 "" "$lost" -- "${restore[@]}" "$1"
	check "a missing layer: the device is left alone" cmp "$fast/device" "$1"
	expect "a missing layer: no file is written either" 5 "" "$lost" -- \
		"${restore[@]}" "$temp/lost.raw"
	prepare cp "$fast/whole/4000-1.000002.qcow2" "$backups/machine/"
	prepare truncate -s -4096 "$(layer 2)"
	expect "a cut layer: it is said" 5 "" "$lost" -- "${restore[@]}" "$1"
	check "a cut layer: the device is left alone" cmp "$fast/device" "$1"
	prepare cp "$fast/whole/4000-1.000002.qcow2" "$backups/machine/"
	prepare touch "$(layer 2).damaged"
	expect "a layer that was damaged: it is said" 5 "" \
		"'$(layer 2)' was damaged when it was read last, so '$1' is left alone; take --point 1, or run 'blksnap verify' if the file was mended" \
		-- "${restore[@]}" "$1"
	check "a layer that was damaged: the device is left alone" \
		cmp "$fast/device" "$1"
	expect "a layer that was damaged: a file shows whether it still is" 0 \
		".*" "" -- "${restore[@]}" "$temp/shown.raw"
	expect "the point below it is restored" 0 ".*" "" -- \
		"${restore[@]}" --point 1 "$1"
	prepare rm "$(layer 2).damaged"
	prepare touch "$(layer 1).damaged"
	expect "no point is whole: it is said" 5 "" \
		"'$(layer 1)' was damaged .*; if the file was mended, run 'blksnap verify'" \
		-- "${restore[@]}" "$1"
	prepare rm "$(layer 1).damaged"
}

test_devices()
{
	local loop=/dev/loop-none

	backups=$fast/targets
	if [[ ! $counting ]]; then
		truncate -s 4M "$temp/device"
		mkfs.ext4 -q -F "$temp/device" 2>/dev/null || true
		loop=$(losetup -f --show "$temp/device" 2>/dev/null) || {
			skip "devices as targets" "no loop devices"
			return
		}
	fi
	expect "a filesystem is not overwritten" 1 "" \
		"'$loop' holds a filesystem, partitions or the like, which would be overwritten; --force does it" \
		-- restore --from "$backups" "$loop"
	expect "a device is restored to" 0 ".*" "" -- \
		restore --from "$backups" "$loop" --force --quiet
	check "the device has what the disk had" cmp -n $((40 * 65536 - 4096)) \
		"$points/2" "$loop"
	test_damaged_to_device "$loop"
	prepare truncate -s 1M "$temp/device"
	prepare losetup -c "$loop"
	expect "a device that is too small" 1 "" \
		"'$loop' is too small: it has 1048576 bytes, the disk has 2617344; choose a larger one" \
		-- restore --from "$backups" "$loop" --force
	prepare losetup -d "$loop"
	backups=$fast/backups
}

test_programs()
{
	local command
	local -a path

	prepare new_folder programs
	prepare mkdir "$temp/bin"
	prepare ln -s "$(type -P timeout)" "$temp/bin/timeout"
	backups=$fast/programs
	command=(backup --to "$backups" --source-name machine --storage
		"$storage" --quiet 4000:1)
	path=(PATH="$temp/bin" "${variables[@]}")
	expect "qemu-img is missing" 1 "" \
		"cannot create a file: 'qemu-img' is not installed; on Debian: apt-get install qemu-utils" \
		"${path[@]}" -- "${command[@]}"
	prepare ln -s "$(type -P qemu-img)" "$temp/bin/qemu-img"
	expect "qemu-nbd is missing" 1 "" \
		"cannot open '.*': 'qemu-nbd' is not installed; on Debian: apt-get install qemu-utils" \
		"${path[@]}" -- "${command[@]}"
	expect "libnbd is missing" 1 "" \
		"libnbd is not installed; on Debian: apt-get install libnbd0" \
		"${variables[@]}" FAKE_NO_LIBRARY=libnbd.so.0 -- "${command[@]}"
	expect "the other commands do without" 0 ".*" "" \
		FAKE_NO_LIBRARY=libnbd.so.0 -- list "$backups"
	check "all that was tried is removed" test ! -e "$(layer 3)" -a \
		! -e "$(layer 3).partial"
	backups=$fast/backups
}

# ends_with CODE [OPTION]... - a restore does
ends_with()
{
	code=0
	ASAN_OPTIONS=exitcode=99 "$tool" restore --from "$backups" --force \
		"${@:2}" "$fast/restored" || code=$?
	((code == $1))
}

# After ten seconds a line tells of the progress.
restores_without_error()
{
	ends_with 0 --limit 24K <&- 2>&- >"$temp/output" && is_point 2 "$fast/restored"
}

restores_without_output()
{
	ends_with 1 >&- 2>"$temp/message" && is_point 2 "$fast/restored" &&
		grep -q "cannot write the result: Bad file desc" "$temp/message"
}

restores_without_any()
{
	ends_with 1 <&- >&- 2>&- && is_point 2 "$fast/restored"
}

# Nothing is written to a target that has the number of the standard error.
test_closed_descriptors()
{
	prepare new_folder closed
	backups=$fast/closed
	check "no standard input and error" restores_without_error
	check "no standard output: it is restored, and an error" \
		restores_without_output
	check "none of the three" restores_without_any
	backups=$fast/backups
}

full_filesystem()
{
	mount -t tmpfs -o size=3m tmpfs "$temp/small_fs" 2>/dev/null
}

test_space()
{
	if [[ ! $counting ]]; then
		mkdir "$temp/small_fs"
		full_filesystem || {
			skip "no space" "cannot mount a tmpfs"
			return
		}
	fi
	prepare new_disk 1100
	expect "no space" 1 "" \
		"cannot (write|close) .*no space left; make room .*" \
		"${variables[@]}" -- backup --to "$temp/small_fs" \
		--storage "$storage" --source-name machine --quiet 4000:1
	check "no space: nothing is left" \
		holds_only "$temp/small_fs/machine" ./catalogue-copy.json \
		./catalogue.json ./lock
	prepare new_disk 20
	expect "no space: a smaller disk has room" 0 ".*" "" "${variables[@]}" \
		-- backup --to "$temp/small_fs" --storage "$storage" \
		--source-name machine --quiet 4000:1
	prepare umount "$temp/small_fs"
}

# no_point EVENT MESSAGE - a backup during which the snapshot is lost saves nothing
no_point()
{
	local newest

	newest=$(newest_point)
	run_tool "${variables[@]}" FAKE_EVENTS="timeout,$1" -- backup \
		--to "$backups" --source-name machine --storage "$storage" \
		--storage-size 1M --quiet 4000:1
	[[ $code == 1 && $message =~ ^"blksnap: the snapshot "(.* )?$2 ]] ||
		{ echo "# $code: $message"; return 1; }
	[[ $(newest_point) == "$newest" && ! -e $(layer $((newest + 1))) ]]
}

# The snapshot of the second device is destroyed, and its number given to another image,
# while the first one is read.
reads_its_own_image()
{
	local -a two=("${variables[@]}" FAKE_IMAGES="4000:1,4000:2"
		FAKE_TRACKED="4000:1,4000:2")
	local pid

	cp "$image" "$images/image1"
	cp "$image" "$fast/other"
	printf x | dd of="$fast/other" bs=1 seek=70000 conv=notrunc status=none
	env "${two[@]}" LD_PRELOAD="$fake" ASAN_OPTIONS=verify_asan_link_order=0 \
		"$tool" backup --to "$backups" --source-name machine --storage \
		"$storage" --storage-size 1M --full --limit 1M --quiet \
		4000:1 4000:2 >"$temp/output" 2>&1 </dev/null &
	pid=$!
	until compgen -G "$backups/machine/4000-1.*.partial" >/dev/null; do
		kill -0 "$pid" || return 1
		sleep 0.02
	done
	mv "$fast/other" "$images/image1"
	wait "$pid" || { sed "s,^,# ," "$temp/output"; return 1; }
	qemu-img compare -q -f raw -F qcow2 "$image" \
		"$backups/machine/4000-2.$(printf %06d "$(newest_point)").qcow2"
}

test_lost()
{
	prepare new_folder lost
	backups=$fast/lost
	check "a snapshot that another program destroys" no_point destroyed \
		"is lost: another program has destroyed it"
	check "a snapshot whose storage is full" no_point corrupted \
		"of device 4000:1 is lost: more was written meanwhile"
	check "a snapshot whose storage is too slow" no_point corrupted=ETIMEDOUT \
		"of device 4000:1 is lost: .*20 seconds; choose faster one"
	check "a snapshot lost for a reason that has no advice" no_point corrupted=EIO \
		"of device 4000:1 is lost: Input/output error"
	check "the next backup goes on" saves 3 2 --incremental-only
	check "each device is read from its own image" reads_its_own_image
	prepare rm -f "$images/image1"
	backups=$fast/backups
}

# on_same_disk [OPTION]... - back the disk up that all files of this test are on
on_same_disk()
{
	local number

	number=$(python3 -c '
import os, sys
d = os.stat(sys.argv[1]).st_dev
print("%d:%d" % (os.major(d), os.minor(d)))' "$temp")
	run_tool "${variables[@]}" FAKE_IMAGES="$number" FAKE_TRACKED="$number" -- \
		backup --to "$temp/same" --source-name machine --storage \
		"$storage" --storage-size 1M --quiet "$@" "$number"
}

# says_same_disk CODE MESSAGE [OPTION]...
says_same_disk()
{
	on_same_disk "${@:3}"
	[[ $code == "$1" && $message =~ ^$2$ ]] || { echo "# $code: $message"; return 1; }
}

test_same_disk()
{
	local is="blksnap: '$temp/same' is on the disk of '[0-9:]*', which is"

	prepare new_folder same
	prepare mkdir "$temp/same"
	check "no backup is begun on the disk itself" says_same_disk 1 \
		"$is to be backed up; mount another disk there, or add --same-disk .*"
	check "nothing is written there" nothing_in "$temp/same"
	check "if it is meant to be, it is" says_same_disk 0 "" --same-disk
	check "then it is said once more" says_same_disk 0 \
		"$is backed up: if the disk is lost, so is the backup; .*"
	check "but not if it is meant to be" says_same_disk 0 "" --same-disk
	backups=$fast/backups
}

test_arguments()
{
	expect "no folder" 2 "" "backup: --to is missing; .*" -- backup 4000:1
	expect "no device" 2 "" "backup: an argument is missing; .*" -- \
		backup --to "$backups"
	expect "no such folder" 1 "" \
		"'/nonexistent' is not there; mount the disk that it is on, .*" \
		-- backup --to /nonexistent --source-name machine 4000:1
	expect "a source name that leads elsewhere" 2 "" \
		"--source-name '../x': must be a name .*" -- \
		backup --to "$backups" --source-name ../x 4000:1
	expect "a limit that is none" 2 "" "--limit '0': must be a number .*" -- \
		backup --to "$backups" --limit 0 4000:1
	expect "two wishes that exclude each other" 2 "" \
		"--full and --incremental-only exclude each other" -- \
		backup --to "$backups" --full --incremental-only 4000:1
	expect "the module is not loaded" 1 "" "cannot open /dev/blksnap: .*" \
		FAKE_OPEN=ENOENT "${variables[@]}" -- \
		backup --to "$backups" --source-name machine 4000:1
	expect "the take fails" 1 "" "cannot take the snapshot: .*" \
		"${variables[@]}" FAKE_FAIL=snapshot_take:ETIMEDOUT \
		LOG=".*snapshot_destroy $plain_id.*" -- backup --to "$backups" \
		--source-name machine --storage "$storage" 4000:1
	prepare mkdir -p "$backups/other"
	prepare cp "$folder/catalogue.json" "$backups/other/"
	expect "several sources" 2 "" \
		"'$backups' holds backups of several machines; choose one of its folders with --source-name" \
		-- list "$backups"
	expect "one of them" 0 ".*" "" -- list "$backups" --source-name machine
	expect "the folder of one of them" 1 "" \
		"'$folder' is the folder of one machine; name the folder that it is in" \
		-- list "$folder"
}

# Or those that $ONLY names.
all_tests()
{
	local test

	for test in ${ONLY:-full incremental reasons small_blocks damage \
		catalogue old_catalogue targets devices closed_descriptors \
		programs space lost same_disk arguments}; do
		"test_$test"
	done
}

run_all_tests
