#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Backups that are killed, interrupted, or meet another one

# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source-path=SCRIPTDIR source=backup_common.sh
. "$(dirname "$0")/backup_common.sh"

nr_kills=${KILLS:-20}
plain_id=a0a1a2a3a4a5a6a7a8a9aaabacadaeaf
message=
tool_pid=0

# start_backup [OPTION]... - in the background, with a log of its own
start_backup()
{
	: >"$temp/background"
	env FAKE_LOG="$temp/background" LD_PRELOAD="$fake" "${variables[@]}" \
		ASAN_OPTIONS=verify_asan_link_order=0:exitcode=99 \
		"$tool" backup --to "$backups" --source-name machine \
		--storage "$storage" --storage-size 1M "$@" 4000:1 \
		>"$temp/output" 2>"$temp/message" </dev/null &
	tool_pid=$!
}

end_backup() # SIGNAL
{
	kill "-$1" "$tool_pid" 2>/dev/null || true
	code=0
	wait "$tool_pid" 2>/dev/null || code=$?
	message=$(<"$temp/message")
}

# Until the copy has begun: the snapshot is taken, and the layer is there.
wait_for_copy()
{
	until compgen -G "$backups/machine/*.partial" >/dev/null; do
		kill -0 "$tool_pid" || return 1
		sleep 0.02
	done
}

takes_ms()
{
	local begin=${EPOCHREALTIME/[.,]/}

	start_backup --quiet
	end_backup 0
	echo $(((${EPOCHREALTIME/[.,]/} - begin) / 1000))
}

newest_is_whole()
{
	local point

	point=$(newest_point)
	is_point "$point" "$(layer "$point")" &&
		run_tool -- list "$backups" --no-header &&
		[[ $code == 0 && $output != *damaged* ]]
}

newest_restores()
{
	local point

	point=$(newest_point)
	run_tool -- restore --from "$backups" --force --quiet "$fast/restored"
	((code == 0)) && is_point "$point" "$fast/restored"
}

next_backup()
{
	local point

	change_disk by_chance
	backup --quiet
	((code == 0)) || { echo "# $message"; return 1; }
	point=$(newest_point)
	keep "$point"
	is_point "$point" "$(layer "$point")"
}

# What a killed run may have saved is the disk as it is now.
expect_point()
{
	keep $(($(newest_point) + 1))
}

survives_kills()
{
	local duration kill

	RANDOM=$((${SEED:-$$} % 32768))
	echo "# seed ${SEED:-$$}"
	new_disk 64
	backup --quiet
	keep 1
	change_disk by_chance
	keep 2
	duration=$(takes_ms)
	for ((kill = 1; kill <= nr_kills; kill++)); do
		((kill % 12)) || new_disk 64
		change_disk by_chance
		expect_point
		start_backup --quiet
		sleep "$(printf '0.%03d' $((RANDOM % (duration % 1000 + 50) % 1000)))"
		end_backup KILL
		wait_for_lock
		newest_is_whole || { echo "# after kill $kill"; return 1; }
		((kill % 5)) || newest_restores ||
			{ echo "# not restored after kill $kill"; return 1; }
		((kill % 3)) || next_backup ||
			{ echo "# no backup after kill $kill"; return 1; }
	done
	next_backup && newest_restores && holds_no_leftovers
}

holds_no_leftovers()
{
	local file

	for file in "$backups"/machine/4000-1.*; do
		grep -q "\"${file##*/}\"" "$backups/machine/catalogue.json" ||
			{ echo "# left: $file"; return 1; }
	done
}

killed_snapshot_is_destroyed()
{
	start_backup --quiet --full --limit 64K
	wait_for_copy && end_backup KILL
	variables+=(FAKE_LEFT=1)
	backup
	set_variables
	grep -E '^snapshot_(create|destroy|take)' "$temp/log" >"$temp/calls"
	diff - "$temp/calls" <<-END
	snapshot_destroy $plain_id
	snapshot_create 4000:1
	snapshot_take $plain_id
	snapshot_destroy $plain_id
	END
}

living_snapshot_stays()
{
	start_backup --quiet --full --limit 64K
	wait_for_copy || return 1
	mkdir -p "$fast/second"
	run_tool "${variables[@]}" -- backup --to "$fast/second" --source-name \
		machine --storage "$temp/other" --storage-size 1M --quiet 4000:1
	grep -E '^snapshot_(create|destroy|take)' "$temp/log" >"$temp/calls"
	end_backup KILL
	diff - "$temp/calls" <<-END
	snapshot_create 4000:1
	snapshot_take $plain_id
	snapshot_destroy $plain_id
	END
}

signal_ends_it() # SIGNAL NUMBER
{
	start_backup --quiet --full --limit 64K
	wait_for_copy || return 1
	end_backup "$1"
	((code == 1)) &&
		[[ $message == "blksnap: interrupted by signal $2 ("*")" ]] &&
		grep -q "^snapshot_destroy $plain_id" "$temp/background" &&
		holds_no_leftovers
}

test_second_run()
{
	prepare start_backup --quiet --full --limit 64K
	prepare wait_for_copy
	expect "a second run is told of the first" 1 "" \
		"'$backups/machine' is in use by another run of blksnap; try again when that has ended" \
		LOG="" "${variables[@]}" -- backup --to "$backups" \
		--source-name machine --storage "$storage" 4000:1
	expect "so is a restore" 1 "" "'.*' is in use by another run .*" -- \
		restore --from "$backups" "$temp/x"
	expect "the points can be listed" 0 ".*" "" -- list "$backups"
	prepare mkdir -p "$fast/third"
	expect "storage in use is told" 1 "" \
		"'$storage' is the storage of another run of blksnap; use another file" \
		"${variables[@]}" -- backup --to "$fast/third" \
		--source-name machine --storage "$storage" 4000:1
	prepare end_backup KILL
}

# Or a machine that stops loses the folder, with a backup in it that has ended well.
new_folder_is_on_disk()
{
	backups=$fast/new
	mkdir -p "$backups"
	new_disk 20
	run_tool "${variables[@]}" FAKE_MOMENTS="$temp/moments" -- backup \
		--to "$backups" --source-name machine --storage "$storage" \
		--storage-size 1M --quiet 4000:1
	((code == 0)) && grep -qx "fsync $backups" "$temp/moments" &&
		grep -qx "fsync $backups/machine" "$temp/moments"
}

# Of three points the second one has no data, and a signal comes when it is verified:
# nothing is copied then, and the third one has not begun.
signal_ends_verify()
{
	backups=$fast/verified
	mkdir -p "$backups" "$temp/bin"
	cat >"$temp/bin/qemu-img" <<-END
	#!/bin/sh
	case "\$*" in check*000002*) kill -TERM "\$PPID" ;; esac
	exec $(type -P qemu-img) "\$@"
	END
	chmod +x "$temp/bin/qemu-img"
	new_disk 20
	backup --quiet
	snap_number=$((snap_number + 1))
	set_variables
	backup --quiet
	next_backup
	run_tool PATH="$temp/bin:$PATH" -- verify "$backups" --quiet --no-header
	[[ $code == 1 && $message == "blksnap: interrupted by signal 15 ("*")" &&
	   $output != *000003* ]] || { echo "# $code: $message $output"; return 1; }
}

all_tests()
{
	check "what was saved before survives $nr_kills kills, and it goes on" \
		survives_kills
	test_second_run
	check "the snapshot of a killed run is destroyed by the next" \
		killed_snapshot_is_destroyed
	check "the snapshot of a running backup is left alone" \
		living_snapshot_stays
	prepare backup
	check "SIGTERM ends a backup in good order" signal_ends_it TERM 15
	check "SIGINT ends a backup in good order" signal_ends_it INT 2
	check "the first backup brings its folder to the disk" \
		new_folder_is_on_disk
	check "a verify that SIGTERM has ended does not say that all is whole" \
		signal_ends_verify
}

run_all_tests
