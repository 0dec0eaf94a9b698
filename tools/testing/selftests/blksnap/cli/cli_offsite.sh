#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Backups in the repository of another program: restic and borg
#
# A backup has plain files that do not change, so a program that stores what it has not
# stored yet takes over the increment alone.

# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source-path=SCRIPTDIR source=backup_common.sh
. "$(dirname "$0")/backup_common.sh"

message=
export RESTIC_PASSWORD=of-the-test RESTIC_CACHE_DIR=$temp/restic-cache
export BORG_BASE_DIR=$temp/borg BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes

# Without the catalogue, which each backup replaces.
layers_of() # FOLDER
{
	(cd "$1/machine" && sha256sum -- *.qcow2 *.map)
}

new_point()
{
	backup --quiet
	((code == 0)) || { echo "# $message"; return 1; }
	keep "$1"
}

two_points() # FOLDER
{
	backups=$fast/$1
	mkdir -p "$backups"
	new_disk 1100
	new_point 1
	change_disk by_chance
	new_point 2
}

third_point()
{
	layers_of "$backups" >"$temp/before"
	change_disk by_chance
	new_point 3
}

older_files_are_what_they_were()
{
	(cd "$backups/machine" && sha256sum --quiet -c "$temp/before")
}

# run_line_of_man_page PROGRAM - the one that stores a backup, with other paths
run_line_of_man_page()
{
	local line

	line=$(sed -n "s/\\\\-/-/g; /^flock .* $1 /p" \
		"$(dirname "$0")/../../../../blksnap/blksnap.8")
	line=${line//\/backup\/web/$backups/machine}
	line=${line//\/backup/$backups}
	line=${line//\/mnt\/repository/$fast/$1}
	eval "${line:-false}"
}

# --- the same three calls for each program ---

restic_begin()
{
	restic -q -r "$fast/restic" init
}

restic_store()
{
	run_line_of_man_page restic >/dev/null
}

restic_fetch() # FOLDER
{
	restic -q -r "$fast/restic" restore latest --target "$1" &&
		mv "$1$backups/machine" "$1"
}

borg_begin()
{
	borg init -e none "$fast/borg"
}

# An archive has its name from the second.
borg_store()
{
	sleep 1
	run_line_of_man_page borg
}

borg_fetch() # FOLDER
{
	(cd "$1" && borg extract "$fast/borg::$(borg list --short --last 1 \
		"$fast/borg")") && mv "$1$backups/machine" "$1"
}

repository_bytes() # PROGRAM
{
	du -sb "$fast/$1" | cut -f 1
}

# stores PROGRAM - sets added to what the repository has got
stores()
{
	local before

	before=$(repository_bytes "$1")
	"$1_store" || return
	added=$(($(repository_bytes "$1") - before))
}

# A list of all files comes on top, and the catalogue.
takes_the_increment() # PROGRAM
{
	local increment

	stores "$1" || return
	increment=$(($(stat -c %b "$(layer 3)") * 512 + $(stat -c %s \
		"$backups/machine/4000-1.000003.map")))
	echo "# $1: $added bytes were added, of $(du -s -B 1 "$backups" |
		cut -f 1); the increment has $increment"
	((added < increment * 5 / 4))
}

takes_what_was_merged() # PROGRAM
{
	run_tool -- prune "$backups" --keep-last 1 --quiet
	((code == 0)) || { echo "# $message"; return 1; }
	stores "$1" || return
	echo "# $1: after pruning $added bytes were added, the one layer has" \
		"$(stat -c %s "$backups"/machine/*.qcow2)"
}

# comes_back PROGRAM POINT... - into another folder, which is all that there is then
comes_back()
{
	local program=$1 folder=$fast/$1-fetched point

	shift
	rm -rf "$folder"
	mkdir "$folder"
	"${program}_fetch" "$folder" || return
	run_tool -- verify "$folder" --quiet
	((code == 0)) || { echo "# $message"; return 1; }
	for point; do
		run_tool -- restore --from "$folder" --point "$point" --quiet \
			--force "$fast/restored"
		((code == 0)) || { echo "# $message"; return 1; }
		is_point "$point" "$fast/restored" || return
	done
}

# While a program reads the files, none of them may go.
lock_keeps_pruning_away()
{
	flock -s "$backups/machine/lock" "$tool" prune "$backups" --keep-last 1 \
		--quiet >"$temp/output" 2>"$temp/message" &&
		return 1
	grep -q 'in use' "$temp/message"
}

test_program() # PROGRAM
{
	if ! type -P "$1" >/dev/null; then
		skip "$1" "$1 is not installed"
		return
	fi
	prepare two_points "of-$1"
	check "$1 takes over two points" eval "$1_begin && $1_store"
	prepare third_point
	check "$1: a new point changes no older file" \
		older_files_are_what_they_were
	check "$1 takes over the increment alone" takes_the_increment "$1"
	check "$1: all points come back" comes_back "$1" 1 2 3
	check "$1: the lock keeps pruning away" lock_keeps_pruning_away
	check "$1 takes over what was merged" takes_what_was_merged "$1"
	check "$1: what was merged comes back" comes_back "$1" 3
}

all_tests()
{
	local test

	for test in ${ONLY:-restic borg}; do
		test_program "$test"
	done
}

run_all_tests
