#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Backups of what the filesystem uses: what is left out, and what must not be
#
# A program in the place of partclone lists what is free.  The disk is compared
# where it is used, and what is free has to be zero in a full backup.

# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source-path=SCRIPTDIR source=backup_common.sh
. "$(dirname "$0")/backup_common.sh"

message=
code=0
folder=
list=$temp/list
bin=$temp/bin
mkdir "$bin"
printf '#!/bin/sh\nexec cat %s\n' "$list" >"$bin/partclone.extfs"
chmod +x "$bin/partclone.extfs"

# The filesystem on the image was frozen.
frozen=FAKE_SYS=$temp/frozen
mkdir -p "$temp/frozen/sys/block/blksnap-image0/blksnap"
echo 1 >"$temp/frozen/sys/block/blksnap-image0/blksnap/filesystem_frozen"

# frees FIRST-LAST... - in pieces of $unit bytes; the list of partclone says so
unit=4096
frees()
{
	python3 -c '
import sys
size, unit, at = int(sys.argv[1]), int(sys.argv[2]), 0
print("# Domain logfile\n# current_pos  current_status\n0x%08X     ?" % size)
def line(end, state):
    global at
    if end > at:
        print("0x%08X  0x%08X  %s" % (at, end - at, state))
    at = end
for text in sys.argv[3:]:
    first, last = map(int, text.split("-"))
    line(first * unit, "+")
    line((last + 1) * unit, "?")
line(size, "+")' "$(stat -c %s "$image")" "$unit" "$@" >"$list"
}

# mask FILE - make zeros of what is free by the list
mask()
{
	python3 -c '
import sys
with open(sys.argv[1], "r+b") as f:
    for l in open(sys.argv[2]):
        w = l.split()
        if l[0] != "#" and len(w) == 3 and w[2] == "?":
            f.seek(int(w[0], 16))
            f.write(bytes(int(w[1], 16)))' "$1" "$list"
}

new_folder() # NAME
{
	backups=$fast/$1
	folder=$backups/machine
	mkdir -p "$backups"
	variables=()
}

file_of() # POINT
{
	printf '%s/fake1.%06d.qcow2' "$folder" "$1"
}

saves() # POINT [OPTION]...
{
	local point=$1

	shift
	variables+=(FAKE_FS=ext4 "$frozen" PATH="$bin:$PATH")
	backup --quiet "$@"
	((code == 0)) || { echo "# $message"; return 1; }
	cp "$image" "$points/$point"
	cp "$list" "$points/$point.list"
	qemu-img check -q "$(file_of "$point")"
}

restore_point() # POINT - to $fast/restored
{
	run_tool -- restore --from "$backups" --point "$1" --quiet --force \
		"$fast/restored"
	((code == 0)) || { echo "# $message"; return 1; }
}

# is_as POINT [masked] - is what was restored the disk, or what was used of it?
is_as()
{
	cp "$points/$1" "$fast/wanted"
	[[ ${2:-} != masked ]] || { mask "$fast/wanted" && mask "$fast/restored"; }
	cmp "$fast/wanted" "$fast/restored"
}

# Wherever it was used at that point.
used_is_right() # POINT
{
	cp "$points/$1.list" "$list"
	restore_point "$1" && is_as "$1" masked
}

all_is_right() # POINT
{
	restore_point "$1" && is_as "$1"
}

free_is_zero() # POINT
{
	cp "$points/$1.list" "$list"
	cp "$points/$1" "$fast/wanted"
	mask "$fast/wanted"
	restore_point "$1" && cmp "$fast/wanted" "$fast/restored"
}

# put BLOCK - data that is looked for in the files of the backup
put()
{
	{ yes "what was removed long ago" 2>/dev/null || true; } | head -c 65536 |
		dd of="$image" bs=64k seek="$1" conv=notrunc 2>/dev/null
}

lacks_the_removed() # FILE...
{
	grep -qa "removed long ago" "$image" &&
		! grep -qa "removed long ago" "$@"
}

entry_is() # POINT KEY VALUE
{
	python3 -c '
import json, sys
d = [p["disks"][0] for p in json.load(open(sys.argv[1]))["points"]
     if p["point"] == int(sys.argv[2])][0]
print("#", sys.argv[3], "is", d[sys.argv[3]])
sys.exit(str(d[sys.argv[3]]) != sys.argv[4])' "$folder/catalogue.json" "$@"
}

# Blocks have 16 pieces.
test_chain()
{
	prepare new_folder chain
	prepare new_disk 100
	prepare put 20
	prepare put 21
	prepare put 22
	prepare frees 321-370 800-807
	check "a full backup of what is used" saves 1 --used-only
	check "the catalogue says so" entry_is 1 used_only True
	check "what is used is right, what is free is zero" free_is_zero 1
	check "a block that is not used is not in it" pieces_are_left_out
	prepare change_disk 0 20 50
	prepare frees 321-335 352-370 800-803
	check "an incremental one" saves 2 --used-only
	check "it is incremental" entry_is 2 base 1
	check "what is used now but was not written since is in it" \
		used_is_right 2
	prepare change_disk 1
	prepare frees 10-40 330-370
	check "another one, with more that is free" saves 3 --used-only
	check "what is used is right" used_is_right 3
	prepare change_disk 7
	check "one of all of the device" saves 4
	check "it is incremental, too" entry_is 4 base 3
	check "the catalogue does not call it one of what is used" \
		entry_is 4 used_only False
	check "all is right" all_is_right 4
	prepare change_disk 8
	check "and after it" saves 5
	check "all is right, still" all_is_right 5
	check "those before are as they were" all_used_are_right
	expect "all are verified" 0 "POINT .*(ok.*){5}" "" -- \
		verify "$backups" --quiet
}

# Of the blocks 20 to 22, only the first 4K are used.
pieces_are_left_out()
{
	local nr

	qemu-img convert -O raw "$(file_of 1)" "$temp/raw" || return 1
	nr=$(grep -ao "removed long ago" "$temp/raw" | wc -l)
	((nr > 100 && nr < 200))
}

all_used_are_right()
{
	used_is_right 1 && used_is_right 2 && used_is_right 3
}

# What was free is known after layers were merged, too.
test_prune()
{
	prepare new_folder prune
	prepare new_disk 100
	prepare put 20
	prepare put 24
	prepare frees 320-400
	prepare saves 1 --used-only
	prepare change_disk 0 22
	prepare saves 2 --used-only
	expect "layers are merged" 0 ".*" "" -- \
		prune "$backups" --keep-last 1 --quiet
	check "what is used is right after it" used_is_right 2
	prepare change_disk 3
	prepare frees 350-370
	check "and on it" saves 3 --used-only
	check "what was free before is not taken for known" used_is_right 3
}

test_ways()
{
	prepare new_folder compressed
	prepare new_disk 100
	prepare put 21
	prepare frees 321-370
	check "a compressed one" saves 1 --used-only --compress
	check "is right" free_is_zero 1
	check "what is free is not in it" lacks_the_removed "$(file_of 1)"
	prepare change_disk 21
	prepare frees 330-360
	check "a compressed one on it" saves 2 --used-only --compress
	check "is right, too" used_is_right 2
	prepare eval block_bytes=4096
	prepare new_folder small
	prepare new_disk 1600
	prepare frees 321-370
	check "with small tracking blocks" saves 1 --used-only
	prepare change_disk 1 322
	prepare frees 322-322 333-339
	check "on it" saves 2 --used-only
	check "is right with small blocks" used_is_right 2
	prepare eval block_bytes=65536
}

# More than 16 MiB, as of a large filesystem in many pieces.
lengthen_list()
{
	{ yes "# $(printf '%200s' '')" 2>/dev/null || true; } |
		head -c 17M >>"$list"
}

test_long_list()
{
	prepare new_folder long
	prepare new_disk 100
	prepare frees 10-20 321-370
	prepare lengthen_list
	check "with a long list" saves 1 --used-only
	check "only what is used is backed up" entry_is 1 used_only True
	check "and what is free is zero" free_is_zero 1
}

# bmap_is_right POINT [BASE] - does it have the checksums of what is restored?
bmap_is_right()
{
	restore_point "$1" || return 1
	run_tool -- export --from "$backups" --format bmap --quiet --point "$1" \
		${2:+--since "$2"}
	((code == 0)) || { echo "# $message"; return 1; }
	python3 -c '
import hashlib, re, sys
text, disk = open(sys.argv[1]).read(), open(sys.argv[2], "rb").read()
block = int(re.search(r"<BlockSize> (\d+)", text)[1])
ranges = re.findall(r"chksum=\"(\w+)\"> (\d+)(?:-(\d+))?", text)
wrong = [a for sum, a, b in ranges if sum != hashlib.sha256(
    disk[int(a) * block:(int(b or a) + 1) * block]).hexdigest()]
print("# blocks of", block, "in", len(ranges), "ranges, wrong are", wrong)
sys.exit(bool(wrong) or not ranges)' "$temp/output" "$fast/restored"
}

# The blocks of the filesystem are smaller than those of the map are otherwise.
test_small_filesystem_blocks()
{
	prepare eval unit=1024
	prepare new_folder kilobyte
	prepare new_disk 100
	prepare frees 1-2 1285-1290 1297-1299 6301-6399
	prepare saves 1 --used-only
	check "a block map of blocks of 1K" bmap_is_right 1
	prepare change_disk 0 20 21 30
	prepare frees 1286-1286 1299-1303 1932-1938
	prepare saves 2 --used-only
	check "one of what changed" bmap_is_right 2 1
	prepare eval unit=4096
}

test_damaged_base()
{
	prepare new_folder damaged
	prepare new_disk 40
	prepare frees 321-370
	prepare saves 1 --used-only
	prepare change_disk 1
	prepare truncate -s +1 "$fast/damaged/machine/fake1.000001.map"
	check "on a map that is damaged nothing is based" saves 2 --used-only
	check "the new one is full" entry_is 2 base 0
	check "and right" used_is_right 2
}

# says_all REASON VARIABLE... - all is backed up, and it is said why
says_all()
{
	local reason=$1

	shift
	variables+=("$@")
	backup --used-only
	[[ $message == *": all is backed up, not only what is used, because $reason"* ]] ||
		{ echo "# $message"; return 1; }
	keep 1
	((code == 0)) && entry_is 1 used_only False && all_is_right 1
}

test_reasons()
{
	local -a fs=(FAKE_FS=ext4 "$frozen")

	prepare new_folder none
	prepare new_disk 20
	prepare frees 10-40
	check "there is no filesystem" says_all \
		"there is no filesystem on it, or there are partitions"
	prepare new_folder other
	prepare change_disk 1
	check "it is one that was not tried" says_all \
		"its filesystem is not ext2, ext3, ext4 or XFS" \
		FAKE_FS=ntfs "$frozen"
	prepare new_folder copies
	prepare change_disk 1
	prepare ln -s partclone.extfs "$bin/partclone.btrfs"
	check "it is btrfs, whose second copies would be lost" says_all \
		"its filesystem is not ext2, ext3, ext4 or XFS" \
		FAKE_FS=btrfs "$frozen" PATH="$bin:$PATH"
	prepare new_folder moving
	prepare change_disk 1
	check "it was not frozen" says_all \
		"its filesystem was not frozen at the take" FAKE_FS=ext4
	prepare new_folder failing
	prepare change_disk 1
	prepare mkdir "$temp/failing"
	prepare eval "printf '#!/bin/sh\\nexit 1\\n' >'$temp/failing/partclone.extfs'"
	prepare chmod +x "$temp/failing/partclone.extfs"
	check "partclone fails" says_all \
		"partclone does not understand its filesystem" "${fs[@]}" \
		PATH="$temp/failing:$PATH"
	prepare new_folder missing
	prepare change_disk 1
	prepare rm "$temp/failing/partclone.extfs"
	prepare ln -s "$(type -P timeout)" "$(type -P qemu-img)" \
		"$(type -P qemu-nbd)" "$temp/failing"
	expect "partclone is not installed" 1 "" \
		"cannot find out what is used: 'partclone.extfs' is not installed; on Debian: apt-get install partclone" \
		"${variables[@]}" "${fs[@]}" PATH="$temp/failing" -- backup \
		--to "$fast/missing" --source-name machine --storage "$storage" \
		--storage-size 1M --quiet --used-only 4000:1
}

all_tests()
{
	local test

	for test in ${ONLY:-chain prune ways long_list \
		small_filesystem_blocks damaged_base reasons}; do
		"test_$test"
	done
}

run_all_tests
