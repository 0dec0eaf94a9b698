#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The examples of the library, run as they stand with the real module
#
#	library.sh
#
# The first disk is the origin; storage and copies are on the second one.  What
# library_build() has collected is in /library.

# Tests are called by name from the table at the end.
# shellcheck disable=SC2317
set -uo pipefail
# shellcheck source-path=SCRIPTDIR source=../rig/ktap.sh
. ktap.sh

export LD_LIBRARY_PATH=/library
# What Python needs, and _ctypes, which is among the programs.
export PYTHONHOME=/library/home PYTHONPATH=/library:/bin PYTHONDONTWRITEBYTECODE=1
origin=/dev/vda

# write_mib START COUNT
write_mib()
{
	dd if=/dev/urandom of="$origin" bs=1M seek="$1" count="$2" oflag=direct \
		conv=notrunc 2>/run/dd
}

# run_backup WANTED COMMAND... - how does it call what it does, and is the copy right?
run_backup()
{
	local output

	output=$("${@:2}" "$origin" /store/storage "/store/copy-$1") || return 1
	say "$output"
	printf '%s' "$output" >/run/output
	cmp "$origin" "/store/copy-$1" && [[ ! $(blksnap snapshot list --no-header) ]]
}

# backups NAME COMMAND... - a full one, two incremental ones, a full one
backups()
{
	local name=$1

	shift
	rm -f "/store/copy-$name"{,.state}
	write_mib 0 32 && run_backup "$name" "$@" && is kind "$(</run/output)" "full 1" &&
		write_mib 3 1 && write_mib 20 2 && run_backup "$name" "$@" &&
		is kind "$(</run/output)" "incremental 2" &&
		write_mib 31 1 && run_backup "$name" "$@" &&
		is kind "$(</run/output)" "incremental 1" &&
		blksnap tracker remove "$origin" && write_mib 7 1 &&
		run_backup "$name" "$@" && is kind "$(</run/output)" "full 1"
}

test_backups_in_c()
{
	backups c example_backup
}

test_backups_in_python()
{
	backups python python3 /library/backup.py
}

# A backup while others write is of one instant: what is copied is not what is there later.
test_backup_of_a_device_in_use()
{
	local before writer

	before=$(sha256sum <"$origin")
	(becomes 60 test -e /dev/blksnap-image0 && write_mib 0 32) &
	writer=$!
	rm -f /store/copy-c{,.state}
	example_backup "$origin" /store/storage /store/copy-c >/run/output || return 1
	wait "$writer"
	is copy "$(sha256sum </store/copy-c)" "$before"
}

appended()
{
	(($(grep -c '^appended' /run/watch) >= $1))
}

# write_slowly - all of the device, one MiB after the other
write_slowly()
{
	local i

	for ((i = 0; i < 32; i++)); do
		write_mib "$i" 1 && sleep 0.2 || return 1
	done
}

# More is written than the first storage holds: the watcher appends in time.
test_events_are_watched()
{
	local id before watcher code=0

	before=$(sha256sum <"$origin")
	id=$(blksnap snapshot create "$origin" --file /store/small --size 12M --take) ||
		return 1
	python3 /library/watch.py "$id" /store/more >/run/watch 2>&1 &
	watcher=$!
	becomes 60 appended 1 && write_slowly && becomes 60 appended 3 || code=1
	is image "$(sha256sum </dev/blksnap-image0)" "$before" || code=1
	blksnap snapshot destroy "$id" && wait "$watcher" || code=1
	sed 's/^/# | /' /run/watch
	is end "$(tail -n 1 /run/watch)" destroyed && return "$code"
}

tests=(backups_in_c backups_in_python backup_of_a_device_in_use events_are_watched)
mkdir -p /store && mkfs.ext4 -q /dev/vdb && mount -t ext4 /dev/vdb /store || exit 1
ktap_run "${tests[@]}"
umount /store
exit "$ktap_failed"
