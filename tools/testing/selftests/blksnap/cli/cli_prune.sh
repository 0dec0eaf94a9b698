#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Prune: which points go, what the others are afterwards, and kills at any moment

# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source-path=SCRIPTDIR source=backup_common.sh
. "$(dirname "$0")/backup_common.sh"

nr_kills=${KILLS:-20}
folder=$backups/machine
message=

# new_folder NAME - the next backups go there
new_folder()
{
	backups=$fast/$1
	folder=$backups/machine
	mkdir -p "$backups"
}

# save COUNT [OPTION]... - so many points, and what they are
save()
{
	local count=$1

	shift
	for ((; count; count--)); do
		backup --quiet "$@"
		((code == 0)) || { echo "# $message"; return 1; }
		keep "$(newest_point)"
		change_disk by_chance
	done
}

# new_chain NAME BLOCKS COUNT - of so many points
new_chain()
{
	new_folder "$1"
	new_disk "$2"
	save "$3"
}

points() # [DISK]
{
	python3 -c '
import json, sys
for p in json.load(open(sys.argv[1]))["points"]:
    if sys.argv[2] in [""] + [d["disk"] for d in p["disks"]]:
        print(p["point"])' "$folder/catalogue.json" "${1:-}"
}

points_are() # NUMBER...
{
	[[ $(points) == "$(printf '%s\n' "$@")" ]] ||
		{ echo "# there are" "$(points)"; return 1; }
}

# Each point that there is, for QEMU and for the tool.
all_are_whole()
{
	local point

	for point in $(points 4000-1); do
		is_point "$point" "$(layer "$point")" || return 1
	done
	run_tool -- verify "$backups" --quiet
	((code == 0)) || { echo "# $message"; return 1; }
}

restores() # POINT
{
	run_tool -- restore --from "$backups" --force --quiet --point "$1" \
		--disk 4000-1 "$fast/restored"
	((code == 0)) || { echo "# $message"; return 1; }
	is_point "$1" "$fast/restored"
}

all_restore()
{
	local point

	for point in $(points 4000-1); do
		restores "$point" || return 1
	done
}

holds_no_leftovers()
{
	local file

	for file in "$folder"/*; do
		[[ $file == */catalogue.json || $file == */catalogue-copy.json ||
		   $file == */lock ]] ||
			grep -q "\"${file##*/}\"" "$folder/catalogue.json" ||
			{ echo "# left: $file"; return 1; }
	done
	! grep '"merging"' "$folder/catalogue.json"
}

prune() # OPTION...
{
	run_tool -- prune "$backups" --quiet "$@"
	((code == 0)) || { echo "# $message"; return 1; }
}

# prunes_to OPTION... -- POINT... - to these points, which are what they were
prunes_to()
{
	local -a options=()

	while [[ $1 != -- ]]; do
		options+=("$1")
		shift
	done
	shift
	prune "${options[@]}" && points_are "$@" && all_are_whole &&
		all_restore && holds_no_leftovers
}

copy_folder() # FROM TO
{
	rm -rf "$2"
	cp -r "$1" "$2"
}

goes_on() # POINT - the next backup is an incremental one
{
	save 1 --incremental-only && [[ $(newest_point) == "$1" ]] &&
		all_are_whole
}

files_are_full() # POINT
{
	! qemu-img info "$(layer "$1")" | grep -q '^backing file'
}

is_compressed() # POINT
{
	qemu-img info "$(layer "$1")" | grep -q '^ *compression type: zstd'
}

test_merge()
{
	prepare new_chain merge 400 6
	check "the middle goes" prunes_to --keep-last 4 -- 3 4 5 6
	check "the first that stays is full" files_are_full 3
	check "the next backup is based on the newest" goes_on 7
	check "nothing is left to do" prunes_to --keep-last 5 -- 3 4 5 6 7
	prepare save 3 --compress
	check "compressed layers are merged with others" \
		prunes_to --keep-last 2 -- 9 10
	prepare save 2
	check "only the newest stays" prunes_to --keep-last 1 -- 12
	prepare new_disk 400
	prepare save 3 --compress
	check "a new full one, and the old one stays" \
		prunes_to --keep-last 3 -- 13 14 15
	prepare save 2 --compress
	check "compressed layers are merged" prunes_to --keep-last 2 -- 16 17
	check "and stay compressed" is_compressed 16
	prepare save 2 --full
	check "a chain that nothing is based on goes without being read" \
		prunes_to --keep-last 1 -- 19
}

# With small blocks a cluster of 128K is of several layers.
test_small_blocks()
{
	prepare eval "block_bytes=4096"
	prepare new_chain small 3000 4
	check "small tracking blocks" prunes_to --keep-last 2 -- 3 4
	prepare save 1 --compress
	prepare save 1
	prepare save 1 --compress
	check "with compressed layers among them" prunes_to --keep-last 1 -- 7
	prepare save 1
	prepare save 3 --compress
	check "compressed ones upon others" prunes_to --keep-last 2 -- 10 11
	prepare save 1
	prepare save 1 --compress
	prepare set_times 2020-01-01T10:00 2021-01-0{1..3}T10:00
	check "a compressed one upon others, all upon what stays" \
		prunes_to --keep-yearly 2 -- 10 13
	prepare eval "block_bytes=65536"
}

# enlarge POINT - have its layer more bytes, of which the catalogue knows
enlarge()
{
	truncate -s +1M "$(layer "$1")"
	python3 -c '
import json, sys
c = json.load(open(sys.argv[1]))
[p] = [p for p in c["points"] if p["point"] == int(sys.argv[2])]
p["disks"][0]["file_bytes"] += 1 << 20
json.dump(c, open(sys.argv[1], "w"))' "$folder/catalogue.json" "$1"
}

# A size that comes after the rest has to be on the disk, too, before the file counts.
size_is_on_disk()
{
	: >"$temp/moments"
	run_tool FAKE_MOMENTS="$temp/moments" -- prune "$backups" --keep-last 1 --quiet
	((code == 0)) || { echo "# $message"; return 1; }
	awk '$1 == "truncate" { truncated = $2; seen = 1 }
	     $1 == "fsync" && $2 == truncated { truncated = "" }
	     $1 == "rename" && $2 == truncated { early = 1; print "# early: " $2 }
	     END { exit early || !seen }' "$temp/moments" && all_are_whole
}

test_size()
{
	prepare new_chain size 40 2
	prepare enlarge 2
	check "a merged file that has to keep its size has it on the disk" \
		size_is_on_disk
}

# More than are merged at once.
test_long()
{
	prepare new_chain long 100 20
	check "many layers become one" prunes_to --keep-last 2 -- 19 20
	check "which is full" files_are_full 19
}

# A day has three points, and two months pass.
set_times()
{
	python3 -c '
import json, sys, datetime
path = sys.argv[1]
c = json.load(open(path))
for p, when in zip(c["points"], sys.argv[2:]):
    p["time"] = int(datetime.datetime.fromisoformat(when).timestamp())
json.dump(c, open(path, "w"))' "$folder/catalogue.json" "$@"
}

rows() # POINT:WORDS... - what a dry run prints; the words are ACTION and KEPT BY
{
	local row

	printf '%s' 'POINT  TIME +DISK +ACTION  KEPT BY'
	for row; do
		printf '\n +%s  20[-0-9]+ [:0-9]+  4000-1  %s' "${row%%:*}" \
			"${row#*:}"
	done
}

test_rules()
{
	local keep="keep   "

	prepare new_chain rules 20 8
	# 2026-06-28 is a Sunday.
	prepare set_times 2025-12-31T23:00 2026-05-30T10:00 2026-05-31T10:00 \
		2026-06-27T10:00 2026-06-28T10:00 2026-06-29T10:00 \
		2026-06-29T12:10 2026-06-29T12:50
	expect "the last ones" 0 \
		"$(rows 1:remove\ +- 2:remove\ +- 3:remove\ +- 4:remove\ +- \
			5:remove\ +- 6:remove\ +- 7:"$keep last" 8:"$keep last")" \
		"" -- prune "$backups" --keep-last 2 --dry-run
	expect "hours, days, weeks, months and years" 0 \
		"$(rows 1:"$keep yearly" 2:remove\ +- 3:"$keep monthly" \
			4:remove\ +- 5:"$keep daily,weekly" \
			6:"$keep hourly" 7:remove\ +- \
			8:"$keep last,hourly,daily,weekly,monthly,yearly")" \
		"" -- prune "$backups" --keep-last 1 --keep-hourly 2 \
		--keep-daily 2 --keep-weekly 2 --keep-monthly 2 \
		--keep-yearly 2 --dry-run
	check "a dry run changes nothing" points_are 1 2 3 4 5 6 7 8
	prepare copy_folder "$folder" "$fast/saved"
	check "the examples of the man page" man_examples_run
	prepare copy_folder "$fast/saved" "$folder"
	check "what the rules say is done" \
		prunes_to --keep-daily 2 --keep-monthly 2 -- 3 5 8
	check "and done again" prunes_to --keep-daily 2 --keep-monthly 2 \
		-- 3 5 8
	expect "nothing to keep" 2 "" \
		"prune: say what to keep, for example --keep-last 7" -- \
		prune "$backups"
	expect "no points to keep" 2 "" \
		"--keep-daily '0': must be a number from 1 on" -- \
		prune "$backups" --keep-daily 0
	expect "no folder" 2 "" "prune: an argument is missing; .*" -- \
		prune --keep-last 1
	expect "no backup" 1 "" "'$temp/run' holds no backup" -- \
		prune "$temp/run" --keep-last 1
	expect "the result as JSON" 0 \
		".*\"dry_run\": ?false,.*\"bytes_before\": ?[0-9]+,.*\"bytes_after\": ?[0-9]+.*" \
		"" -- prune "$backups" --keep-last 1 --json --quiet
	check "the result is what it says" bytes_are_right
}

man_examples_run()
{
	local count=0
	local -a words

	while read -ra words; do
		run_tool -- "${words[@]/#\/backup/$backups}" --quiet
		((code == 0)) || { echo "# ${words[*]}: $message"; return 1; }
		count=$((count + 1))
	done < <(man_examples prune)
	((count == 2)) && points_are 1 2 3 4 5 8
}

bytes_are_right()
{
	python3 -c '
import json, os, sys
r = json.load(open(sys.argv[1]))
size = os.path.getsize(sys.argv[2])
sys.exit(not size == r["bytes_after"] < r["bytes_before"])' \
		"$temp/output" "$(layer 8)"
}

# add_second_disk FOLDER POINT... - another backup's layers as a second disk
add_second_disk()
{
	python3 - "$folder" "$@" <<-'END'
	import json, os, shutil, subprocess, sys
	to, source, points = sys.argv[1], sys.argv[2], set(map(int, sys.argv[3:]))
	ours = json.load(open(to + "/catalogue.json"))
	theirs = json.load(open(source + "/catalogue.json"))
	names = {}
	for mine, other in zip(ours["points"], theirs["points"]):
	    disk = other["disks"][0]
	    if mine["point"] not in points:
	        continue
	    for key in "file", "map":
	        was = disk[key]
	        disk[key] = was.replace("4000-1", "4000-2")
	        shutil.copy(source + "/" + was, to + "/" + disk[key])
	    if disk["base"]:
	        subprocess.run(["qemu-img", "rebase", "-u", "-f", "qcow2", "-F",
	                        "qcow2", "-b", "4000-2.%06d.qcow2" % disk["base"],
	                        to + "/" + disk["file"]], check=True)
	    disk["disk"] = "4000-2"
	    mine["disks"].append(disk)
	json.dump(ours, open(to + "/catalogue.json", "w"))
	END
}

second_is_whole() # POINT...
{
	local point

	for point; do
		qemu-img compare -q -f raw "$points/second-$point" \
			"$folder/4000-2.$(printf '%06d' "$point").qcow2" ||
			{ echo "# the second disk at $point"; return 1; }
	done
	all_are_whole && holds_no_leftovers
}

new_machine_with_two_disks()
{
	local point

	new_chain "$1-second" 60 6
	for point in 1 2 3 4 5 6; do
		mv "$points/$point" "$points/second-$point"
	done
	new_chain "$1" 50 6
	add_second_disk "$fast/$1-second/machine" 1 2 3 4
}

test_disks()
{
	prepare new_machine_with_two_disks disks
	expect "each disk is judged by itself" 0 \
		".* 2 .*4000-2  remove .* 3 .*4000-1  remove .* 3 .*4000-2  keep .* 4 .*4000-1  remove .* 4 .*4000-2  keep .* 5 .*4000-1  keep .*" \
		"" -- prune "$backups" --keep-last 2 --dry-run
	check "two disks are pruned" prunes_to --keep-last 2 -- 3 4 5 6
	check "the second one has its last two" second_is_whole 3 4
	check "only the newest of each" prunes_to --keep-last 1 -- 4 6
	check "also of the second one" second_is_whole 4
}

# Where the first data is in a layer.
data_offset() # FILE
{
	qemu-img map --output=json "$1" | python3 -c '
import json, sys
print(next(e["offset"] for e in json.load(sys.stdin)
           if e["data"] and e["depth"] == 0))'
}

flip() # FILE
{
	local offset=30

	[[ $1 == *.map ]] || offset=$(data_offset "$1")
	python3 -c '
import sys
f = open(sys.argv[1], "r+b")
f.seek(int(sys.argv[2]))
b = f.read(1)
f.seek(int(sys.argv[2]))
f.write(bytes([b[0] ^ 1]))' "$1" "$offset"
}

is_as_before()
{
	diff -r -x '*.damaged' "$fast/before" "$folder"
}

test_damage()
{
	local file

	for file in 1.qcow2 2.qcow2 1.map; do
		prepare new_chain "damage-$file" 40 4
		prepare flip "$fast/damage-$file/machine/4000-1.00000$file"
		prepare rm -rf "$fast/before"
		prepare cp -r "$fast/damage-$file/machine" "$fast/before"
		expect "damage of $file is found" 5 "" \
			"'$fast/damage-$file/machine/4000-1.00000$file' is damaged: (wrong|its) checksum.*" \
			-- prune "$fast/damage-$file" --keep-last 2 --quiet
		check "and nothing is changed" is_as_before
	done
	prepare rm "$fast/damage-1.map/machine/4000-1.000002.qcow2"
	check "a missing layer is found" finds_missing_layer
	prepare save 1 --full
	prepare save 2
	prepare set_times 2024-01-01T10:00 2024-01-02T10:00 2024-01-03T10:00 \
		2025-01-01T10:00 2025-01-02T10:00 2025-01-03T10:00 \
		2025-01-04T10:00
	expect "another chain is still pruned" 5 "" \
		".* is damaged: it is missing or cut" \
		-- prune "$fast/damage-1.map" --keep-yearly 2 --quiet
	check "the damaged one stays" points_are 1 2 3 7
	check "the other one is whole" restores 7
	check "a damaged chain that is not needed goes" \
		prunes_to --keep-yearly 1 -- 7
}

finds_missing_layer()
{
	run_tool -- prune "$fast/damage-1.map" --keep-last 2 --quiet
	[[ $code == 5 && $message == *"/4000-1.000002.qcow2' is damaged: it is missing or cut" ]]
}

# new_damaged NAME - three points, of which the last one is full
new_damaged()
{
	new_chain "$1" 40 2
	save 1 --full
}

# keeps_whole POINTS MESSAGE OPTION... - with a damaged point among them
keeps_whole()
{
	local want_points=$1 want_message=$2

	shift 2
	prune "$@" || return 1
	# shellcheck disable=SC2086 # they are several
	points_are $want_points || return 1
	[[ $message == "${want_message:+blksnap: }$want_message" ]] ||
		{ echo "# $message"; return 1; }
}

# What cannot be restored must not cost what can be.
test_damaged_newest()
{
	local known="point 3 of '4000-1' is damaged; so point 2 is kept too, the newest whole one"

	prepare new_damaged newest-flipped
	prepare flip "$fast/newest-flipped/machine/4000-1.000003.qcow2"
	prepare run_tool -- verify "$fast/newest-flipped" --quiet
	expect "a dry run tells of a damaged newest point" 0 \
		"$(rows 1:remove\ +- 2:"keep    last" 3:"keep    last")" "$known" \
		-- prune "$backups" --keep-last 1 --dry-run
	check "the newest whole point is kept" keeps_whole "2 3" "$known" \
		--keep-last 1
	check "and can be restored" restores 2
	prepare save 1
	check "with a new one it goes" keeps_whole 4 "" --keep-last 1
	prepare new_damaged newest-missing
	prepare rm "$fast/newest-missing/machine/4000-1.000003.qcow2"
	check "also if a file is missing" keeps_whole "2 3" "$known" --keep-last 1
	check "it can be restored as well" restores 2
	prepare new_chain damaged-day 40 3
	prepare save 2 --full
	prepare set_times 2025-01-01T10:00 2025-01-01T12:00 2025-01-02T10:00 \
		2025-01-02T12:00 2025-01-02T14:00
	prepare truncate -s 1000 "$fast/damaged-day/machine/4000-1.000005.qcow2"
	check "a damaged point does not use a day up" keeps_whole "2 4 5" \
		"point 5 of '4000-1' is damaged; so point 4 is kept too, the newest whole one" \
		--keep-daily 2
	prepare new_chain damaged-all 40 2
	prepare rm "$fast/damaged-all/machine/4000-1.000001.map"
	expect "nothing can be restored" 0 ".* 1 .* remove .* 2 .* keep .*" \
		"no point of '4000-1' can be restored: all are damaged; make a new backup" \
		-- prune "$backups" --keep-last 1 --dry-run
}

start() # COMMAND ARGUMENT... - in the background
{
	env FAKE_LOG="$temp/background" LD_PRELOAD="$fake" "${variables[@]}" \
		ASAN_OPTIONS=verify_asan_link_order=0:exitcode=99 \
		"$tool" "$@" >/dev/null 2>"$temp/background_message" </dev/null &
	tool_pid=$!
}

wait_for_partial()
{
	until compgen -G "$folder/*.partial" >/dev/null; do
		kill -0 "$tool_pid" || return 1
		sleep 0.02
	done
}

end() # SIGNAL
{
	kill "-$1" "$tool_pid" 2>/dev/null || true
	code=0
	wait "$tool_pid" 2>/dev/null || code=$?
}

in_use()
{
	printf "'%s' is in use by another run of blksnap; .*" "$folder"
}

interrupted_in_good_order()
{
	end TERM
	((code == 1)) && grep -q "interrupted by signal 15" \
		"$temp/background_message" && points_are 1 2 3 4 &&
		all_are_whole && holds_no_leftovers
}

test_locked()
{
	prepare new_chain locked 100 4
	prepare start prune "$backups" --keep-last 1 --limit 64K --quiet
	prepare wait_for_partial
	expect "no backup during a prune" 1 "" "$(in_use)" "${variables[@]}" -- \
		backup --to "$backups" --source-name machine --storage \
		"$storage" 4000:1
	expect "no restore during a prune" 1 "" "$(in_use)" -- \
		restore --from "$backups" "$temp/x"
	expect "no verify during a prune" 1 "" "$(in_use)" -- verify "$backups"
	expect "no other prune" 1 "" "$(in_use)" -- \
		prune "$backups" --keep-last 1
	check "a prune is interrupted in good order" interrupted_in_good_order
	prepare start restore --from "$backups" --limit 64K "$temp/slow" --quiet
	prepare sleep 1
	expect "no prune during a restore" 1 "" "$(in_use)" -- \
		prune "$backups" --keep-last 1
	prepare end KILL
}

# What is kept by all rules that come, for QEMU and for the tool.
kept_are_whole()
{
	is_point 3 "$(layer 3)" && is_point 4 "$(layer 4)" && restores 4
}

# The next run is a prune by the same rules, or by others, or a backup.
goes_on_by() # KIND
{
	local first=1

	case $1 in
	0)	prune --keep-yearly 3 && points_are 1 3 4 ;;
	1)	[[ $(points) != *2* ]] || first=2
		prune --keep-last 3 && points_are "$first" 3 4 ;;
	2)	backup --quiet --incremental-only && ((code == 0)) &&
			kept_are_whole && cp "$image" "$points/5" &&
			prune --keep-last 2 && points_are 4 5 ;;
	esac && all_are_whole && holds_no_leftovers
}

# The second point is to go.  Other rules let the first one go instead, on which
# the third one is already based if it was merged.
new_chain_to_kill()
{
	new_chain each "$1" 4
	set_times 2020-01-01T10:00 2021-01-01T10:00 2021-01-02T10:00 \
		2022-01-01T10:00
	new_folder killed
}

survives_each_moment()
{
	local moment

	for ((moment = 1; ; moment++)); do
		copy_folder "$fast/each/machine" "$folder"
		run_tool FAKE_KILL="$moment" -- prune "$backups" \
			--keep-yearly 3 --quiet 2>/dev/null
		((code)) || break
		if ((code != 137)) || ! kept_are_whole ||
		   ! goes_on_by $(((moment + ${SHIFT:-0}) % 3)); then
			echo "# moment $moment, code $code: $message"
			return 1
		fi
	done
	echo "# $moment moments"
	((moment > 10))
}

takes_ms()
{
	local begin=${EPOCHREALTIME/[.,]/}

	start prune "$backups" --keep-yearly 3 --quiet
	end 0
	echo $(((${EPOCHREALTIME/[.,]/} - begin) / 1000))
}

survives_kills()
{
	local duration kill

	RANDOM=$((${SEED:-$$} % 32768))
	echo "# seed ${SEED:-$$}"
	copy_folder "$fast/each/machine" "$folder"
	duration=$(takes_ms)
	for ((kill = 1; kill <= nr_kills; kill++)); do
		copy_folder "$fast/each/machine" "$folder"
		start prune "$backups" --keep-yearly 3 --quiet
		sleep "$(printf '0.%03d' $((RANDOM % (duration % 1000))))"
		end KILL
		wait_for_lock
		if ! kept_are_whole || ! goes_on_by $((kill % 3)); then
			echo "# kill $kill: $message"
			return 1
		fi
	done
}

test_kills()
{
	prepare new_chain_to_kill 60
	check "a kill at each moment leaves what is kept, and it goes on" \
		survives_each_moment
	check "so do $nr_kills kills at random" survives_kills
}

all_tests()
{
	local test

	for test in ${ONLY:-merge small_blocks size long rules disks damage \
		damaged_newest locked kills}; do
		"test_$test"
	done
}

run_all_tests
