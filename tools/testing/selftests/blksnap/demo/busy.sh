#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Keep the filesystem of the demo busy until killed; runs in the guest
#
#	busy.sh FILESYSTEM COUNTS
#
# Folders of FILESYSTEM/files are copied, renamed and deleted, files of the tree
# are renamed and replaced, pieces of a file are overwritten in place, as a
# database does, a log is appended to, and now and then free space is trimmed.  After each operation, COUNTS holds one line: how many there were in
# all, and how many of each of the kinds named in "kinds".
#
# It ends with an error if any of them fails, and when it is killed after the one that
# is going on.

set -euo pipefail

filesystem=$1
counts_file=$2
kinds=(copy rename delete overwrite append trim)
declare -A count
total=0

# A copy is deleted when so many younger ones are there.
copies_kept=12

database=$filesystem/database
database_mib=8

# Of the filesystem, at a time.  All free space that is trimmed counts as
# changed, so one trim of everything makes a backup of everything.
trim_parts=64

# done_one KIND - count it; a reader may find COUNTS empty, but never half a line
done_one()
{
	local kind line

	count[$1]=$((count[$1] + 1))
	total=$((total + 1))
	line=$total
	for kind in "${kinds[@]}"; do
		line+=" ${count[$kind]}"
	done
	printf '%s\n' "$line" >"$counts_file"
}

# pick NAME... - set picked to one of the names
pick()
{
	local -i i=$((((RANDOM << 15) | RANDOM) % $# + 1))

	picked=${!i}
}

overwrite()
{
	dd if=/dev/urandom of="$database" bs=4k count=2 conv=notrunc,fsync \
		seek=$((RANDOM % (database_mib * 256 - 2))) status=none
	done_one overwrite
}

append()
{
	dd if=/dev/urandom of="$filesystem/log" bs=3000 count=1 \
		oflag=append conv=notrunc,fsync status=none
	done_one append
}

# copy_folder - and rename the copy, delete the oldest, as saving to disk does
copy_folder()
{
	local copy=$filesystem/work/copy$total

	pick "${folders[@]}"
	cp -r "$picked" "$copy.new"
	done_one copy
	mv "$copy.new" "$copy"
	done_one rename
	copies+=("$copy")
	((${#copies[@]} > copies_kept)) || return 0
	rm -r "${copies[0]}"
	done_one delete
	copies=("${copies[@]:1}")
}

# replace_file - what an editor does to save a file
replace_file()
{
	local files

	pick "${folders[@]}"
	files=("$picked"/*)
	[[ -f ${files[0]} ]] || return 0
	pick "${files[@]}"
	[[ -f $picked ]] || return 0
	cp "$picked" "$picked.new"
	done_one copy
	dd if=/dev/urandom of="$picked.new" bs=1k count=1 \
		oflag=append conv=notrunc,fsync status=none
	done_one append
	mv "$picked.new" "$picked"
	done_one rename
}

trim()
{
	fstrim --offset $((RANDOM % trim_parts * trim_bytes)) \
		--length "$trim_bytes" "$filesystem"
	done_one trim
}

# A child that was left behind would keep the filesystem in use.
trap 'exit 0' TERM
for kind in "${kinds[@]}"; do
	count[$kind]=0
done
trim_bytes=$(df --output=size --block-size=1 "$filesystem" | tail -n 1)
trim_bytes=$((trim_bytes / trim_parts))
mkdir -p "$filesystem/work"
copies=()
mapfile -t folders < <(find "$filesystem/files" -type d -links 2 | sort)
dd if=/dev/urandom of="$database" bs=1M count="$database_mib" conv=fsync \
	status=none
for ((turn = 1; ; turn++)); do
	copy_folder
	overwrite
	append
	replace_file
	((turn % 10)) || trim
done
