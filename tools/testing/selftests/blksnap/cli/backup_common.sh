# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# A disk that changes, for the tests of backups; sourced after common.sh
#
#	new_disk BLOCKS		a new disk in a new generation, in $image
#	change_disk BLOCK...|by_chance	write to these blocks, or to some
#	$variables		what the fake module has to know of it
#	keep POINT		remember the disk, as it is at this point
#	is_point POINT FILE	is FILE, in a format QEMU knows, the disk then?
#	wait_for_lock		until nothing of a run that was killed has it
#
# The fake module has no disk; what the tool reads is a file that stands for the
# image.  The map says in which interval a block was written last, as the
# module's does: each backup begins a new one.

# shellcheck disable=SC2034,SC2154 # variables of common.sh and for the tests

# Each backup waits for the disk several times, and others are busy with it.
fast=$temp
if [[ -w /dev/shm ]]; then
	fast=$(mktemp -d /dev/shm/blksnap-cli.XXXXXX)
	trap 'rm -rf "$temp" "$fast"' EXIT
fi
backups=$fast/backups
images=$fast/images
image=$images/image0
points=$fast/points
storage=$temp/difference
generation=0
snap_number=0
block_bytes=65536
# Each starts several programs, and brings files to the disk.
tool_seconds=120
variables=()
mkdir -p "$backups" "$images" "$points" "$temp/run"

filesystem=$(stat -f -c %T "$temp")
if [[ $filesystem != ext2/ext3 && $filesystem != xfs ]]; then
	echo "1..0 # SKIP $temp is not on ext4 or XFS but on $filesystem"
	exit 4
fi

# What is written has data, and blocks of zeros among it; the first one has data.
disk_program='
import os, random, sys
path, map_path, block, number, seed = sys.argv[1], sys.argv[2], \
    int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
random.seed(seed)
if sys.argv[6] == "new":
    count = int(sys.argv[7])
    size = count * block - (4096 if block > 4096 else 512)
    open(path, "wb").truncate(size)
    cells = [number] * count
    chosen = [i for i in range(count) if i % 9 == 0]
else:
    cells = [int(c) for c in open(map_path).read().split(",")]
    count = len(cells)
    size = os.path.getsize(path)
    chosen = [int(a) for a in sys.argv[7:]] \
        if sys.argv[7] != "by_chance" else \
        random.sample(range(count), max(1, count // 20))
with open(path, "r+b") as disk:
    for i in chosen:
        cells[i] = number
        length = min(block, size - i * block)
        disk.seek(i * block)
        disk.write(bytes(length) if random.random() < 0.2 and i != chosen[0]
                   else random.randbytes(length))
open(map_path, "w").write(",".join(map(str, cells)))'

set_variables()
{
	variables=(FAKE_IMAGE_DIR="$images" FAKE_IMAGES=4000:1
		FAKE_MAP="$(<"$temp/map")"
		FAKE_NUMBER="$snap_number" FAKE_GENERATION="$generation"
		FAKE_BLOCK="$block_bytes")
}

new_disk()
{
	generation=$((generation + 1))
	snap_number=1
	python3 -c "$disk_program" "$image" "$temp/map" "$block_bytes" \
		"$snap_number" $((1000 * generation)) new "$1"
	set_variables
}

change_disk()
{
	snap_number=$((snap_number + 1))
	python3 -c "$disk_program" "$image" "$temp/map" "$block_bytes" \
		"$snap_number" $((1000 * generation + snap_number)) change "$@"
	set_variables
}

keep()
{
	cp --sparse=always "$image" "$points/$1"
}

is_point() # POINT FILE [SOURCE]
{
	local format=raw

	[[ $2 != *.qcow2 ]] || format=qcow2
	qemu-img compare -q -f raw -F "$format" "$points/$1" "$2" || {
		echo "# $2 is not the disk at point $1"
		return 1
	}
}

# A child has the descriptor from its fork to its exec, which comes late on a busy
# machine, or to its end.
wait_for_lock()
{
	flock "$backups/machine/lock" true
}

# backup [OPTION]... - of the disk as it is; as run_tool
backup()
{
	run_tool "${variables[@]}" -- backup --to "$backups" \
		--source-name machine --storage "$storage" --storage-size 1M \
		"$@" 4000:1
}

# prepare COMMAND... - done before the next test, not while tests are counted
prepare()
{
	[[ $counting ]] || "$@"
}

layer() # POINT - path of its file
{
	printf '%s/machine/4000-1.%06d.qcow2' "$backups" "$1"
}

newest_point()
{
	python3 -c '
import json, sys
c = json.load(open(sys.argv[1]))
print(c["points"][-1]["point"] if c["points"] else 0)' \
		"$backups/machine/catalogue.json"
}
