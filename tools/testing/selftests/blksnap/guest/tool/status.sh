#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# What is told of snapshots and trackers: by "blksnap status", in debugfs, by
# tracepoints and by uevents, with the real module
#
#	status.sh DOCUMENTATION
#
# The figures are compared with sysfs, and with what the test itself knows: how much it
# has written where.  The first two disks are origins.  The storage is on the third one,
# through a device that a test can suspend.

# The tests are called by name from the table at the end.
# shellcheck disable=SC2317
set -uo pipefail
# shellcheck source-path=SCRIPTDIR source=../rig/ktap.sh
. ktap.sh

documentation=$1
disk_a=$(readlink -f /dev/vda)
disk_b=$(readlink -f /dev/vdb)
store=/dev/mapper/store
debugfs=/sys/kernel/debug/blksnap
tracefs=/sys/kernel/tracing
[[ -d $tracefs/events ]] || tracefs=/sys/kernel/debug/tracing
mib=$((1024 * 1024))
# As the module was loaded: half of the minimum is the limit.
low_limit=$((2 * mib))
id=
# There is no udev.
export DM_DISABLE_UDEV=1

number_of()
{
	printf '%d:%d' "0x$(stat -L -c %t "$1")" "0x$(stat -L -c %T "$1")"
}

# write_at DEVICE BLOCK_SIZE COUNT START [OPTION]... - in blocks
write_at()
{
	dd if=/dev/urandom of="$1" bs="$2" count="$3" seek="$4" oflag=direct \
		conv=notrunc "${@:5}" 2>/run/dd
}

# told FILTER - by the status as JSON
told()
{
	if ! blksnap status --json >/run/status.json 2>/run/message ||
	   [[ -s /run/message ]]; then
		say "status: $(</run/message)"
		return 1
	fi
	jq -r "$1" /run/status.json
}

# tracker DEVICE KEY, image DEVICE KEY, snapshot KEY - what is told of one
tracker()
{
	told ".trackers[] | select(.device_number == \"$(number_of "$1")\").$2"
}

image()
{
	told ".snapshots[].images[] | select(.origin_number == \"$(number_of "$1")\").$2"
}

snapshot()
{
	told ".snapshots[] | select(.id == \"$id\").$1"
}

# attributes DEVICE - the folder in sysfs of the image of an origin
attributes()
{
	local origin

	for origin in /sys/block/blksnap-image*/blksnap/origin; do
		[[ ! -e $origin || $(<"$origin") != "$(number_of "$1")" ]] ||
			echo "${origin%/*}"
	done
}

# take SECTORS DEVICE... - with so much storage, and what cannot be used
take()
{
	id=$(blksnap snapshot create --take --device "$store" --force \
		--range "2048:$1" "${@:2}") ||
		{ say "no snapshot"; return 1; }
}

destroy()
{
	[[ ! $id ]] || blksnap snapshot destroy "$id"
	id=
}

untrack()
{
	local device

	for device in $(blksnap tracker list --json | jq -r '.trackers[].device_number'); do
		blksnap tracker remove "$device"
	done
}

# is_stored DEVICE - is no copy in memory any more?
is_stored()
{
	[[ $(<"$(attributes "$1")/memory_bytes") == 0 ]]
}

test_nothing_is_told_of_nothing()
{
	is status "$(told '"\(.snapshots | length) \(.trackers | length)"')" "0 0" &&
		is snapshots "$(<"$debugfs/snapshots")" "" &&
		is trackers "$(<"$debugfs/trackers")" ""
}

test_changes_are_counted()
{
	local extents

	id=$(blksnap snapshot create "$disk_a" "$disk_b") || return 1
	is began "$(tracker "$disk_a" began)" tracked &&
		is changed "$(tracker "$disk_a" changed_blocks)" 0 &&
		is state "$(snapshot state)" created || return 1
	write_at "$disk_a" 64k 2 5 && write_at "$disk_a" 64k 1 20 &&
		write_at "$disk_b" 4k 2 15 || return 1
	is changed "$(tracker "$disk_a" changed_blocks)" 3 &&
		is bytes "$(tracker "$disk_a" changed_bytes)" $((3 * 65536)) &&
		is changed "$(tracker "$disk_b" changed_blocks)" 2 &&
		is size "$(tracker "$disk_b" capacity_bytes)" $((64 * mib)) || return 1
	blksnap snapshot append "$id" --device "$store" --range 2048:16384 --force &&
		is storage "$(snapshot storage_bytes)" $((8 * mib)) &&
		blksnap snapshot take "$id" || return 1
	is changed "$(tracker "$disk_a" changed_blocks)" 0 &&
		is number "$(tracker "$disk_a" snap_number)" 1 || return 1
	write_at "$disk_a" 4k 1 112 && write_at "$disk_a" 4k 1 113 &&
		write_at "$disk_a" 64k 1 100 &&
		is changed "$(tracker "$disk_a" changed_blocks)" 2 || return 1
	destroy
	# The module has told the truth if this is what the next increment has.
	take 16384 "$disk_a" || return 1
	extents=$(blksnap cbt extents "$disk_a" --since 1 --json | jq .changed_sectors)
	destroy
	is extents "$extents" $((2 * 128))
}

same_as_sysfs() # DEVICE
{
	local name dir

	dir=$(attributes "$1")
	for name in copied_bytes stored_bytes memory_bytes held_writes held_writes_total; do
		is "$name" "$(image "$1" "$name")" "$(<"$dir/$name")" || return 1
	done
	# It grows while a write waits.
	[[ $(<"$dir/held_writes") != 0 ]] ||
		is "time held" "$(image "$1" held_ns_total)" "$(<"$dir/held_ns_total")" ||
		return 1
	is errno "$(image "$1" errno)" "$(<"$dir/error")" &&
		is frozen "$(image "$1" 'filesystem_frozen | if . then 1 else 0 end')" \
			"$(<"$dir/filesystem_frozen")" &&
		is storage "$(snapshot storage_bytes)" "$(<"$dir/storage_bytes")" &&
		is free "$(snapshot storage_free_bytes)" "$(<"$dir/storage_free_bytes")"
}

# sample METRIC DEVICE - what Prometheus is told
sample()
{
	local path

	path=$(image "$2" origin)
	sed -n "s,^$1{snapshot=\"$id\"\\,device=\"$path\"} ,,p" /run/prom
}

test_figures_are_true()
{
	local begin=$SECONDS age used=$((50 * 4096))

	take 65536 "$disk_a" "$disk_b" && write_at "$disk_a" 4k 40 1000 &&
		write_at "$disk_b" 40k 1 200 && write_at "$disk_b" 4k 5 2000 &&
		becomes 20 is_stored "$disk_a" && becomes 20 is_stored "$disk_b" || return 1
	same_as_sysfs "$disk_a" && same_as_sysfs "$disk_b" || return 1
	is copied "$(image "$disk_a" copied_bytes)" $((40 * 4096)) &&
		is copied "$(image "$disk_b" copied_bytes)" $((10 * 4096)) &&
		is used "$(snapshot storage_used_bytes)" "$used" &&
		is storage "$(snapshot storage_bytes)" $((32 * mib)) &&
		is creator "$(snapshot creator.name)" blksnap &&
		is ended "$(snapshot creator.ended)" true &&
		is devices "$(snapshot 'devices | map(.device_number) | join(" ")')" \
			"$(number_of "$disk_a") $(number_of "$disk_b")" || return 1
	age=$(snapshot age_ms)
	((age > 0 && age <= (SECONDS - begin + 1) * 1000)) || { say "age $age"; return 1; }
	blksnap status --format prometheus >/run/prom &&
		is sample "$(sample blksnap_image_copied_bytes "$disk_a")" $((40 * 4096)) &&
		is sample "$(grep -c '^blksnap_image_error{.*} 0$' /run/prom)" 2 &&
		is sample "$(sed -n 's/^blksnap_snapshot_storage_used_bytes.* //p' /run/prom)" \
			"$used"
}

# What is being filled is, and what rests is not.
test_fill_rate_is_told()
{
	local rate left free i

	take 65536 "$disk_a" || return 1
	is rate "$(snapshot fill_bytes_per_second)" 0 &&
		is "full in" "$(snapshot full_in_seconds)" null || return 1
	for ((i = 0; i < 10; i++)); do
		write_at "$disk_a" 64k 4 $((i * 4)) || return 1
		sleep 0.1
	done
	rate=$(snapshot fill_bytes_per_second)
	left=$(jq '.snapshots[0].full_in_seconds' /run/status.json)
	free=$(jq '.snapshots[0].storage_free_bytes' /run/status.json)
	say "$rate bytes/s, $free left, full in $left s"
	((rate > 16384 && rate < 10 * mib)) && is left "$left" $((free / rate)) || return 1
	sleep 4
	(($(snapshot fill_bytes_per_second) < rate / 2)) || { say "it does not sink"; return 1; }
}

test_frozen_or_not_is_told()
{
	dmsetup create over --table "0 131072 linear $disk_b 0" &&
		mkfs.ext4 -q "$disk_a" && mkdir -p /mnt && mount -t ext4 "$disk_a" /mnt &&
		take 16384 "$disk_a" "$disk_b" || return 1
	is "of a filesystem" "$(image "$disk_a" filesystem_frozen)" true &&
		is "below a driver" "$(image "$disk_b" filesystem_frozen)" false &&
		becomes 10 same_as_sysfs "$disk_b"
}

uevents()
{
	tr '\0' ' ' </run/uevents | grep "BLKSNAP_EVENT=$1.*BLKSNAP_SNAPSHOT=$id" || true
}

# Called by busybox for each uevent; what it wants to know is in the environment.
note_uevent()
{
	printf 'DEVPATH=%s ACTION=%s BLKSNAP_EVENT=%s BLKSNAP_ORIGIN=%s BLKSNAP_ERROR=%s BLKSNAP_SNAPSHOT=%s\n' \
		"$DEVPATH" "$ACTION" "${BLKSNAP_EVENT:-}" "${BLKSNAP_ORIGIN:-}" \
		"${BLKSNAP_ERROR:-}" "${BLKSNAP_SNAPSHOT:-}" >>/run/uevents
}

# heard EVENT NUMBER - so many uevents of this kind, of this snapshot
heard()
{
	[[ $(uevents "$1" | wc -l) == "$2" ]]
}

# traced TEXT - what the kernel has traced of this snapshot, or of all if it is none
traced()
{
	grep "$1" "$tracefs/trace" | grep "${id:-.}"
}

test_low_storage_is_told()
{
	take $((6 * 2048)) "$disk_a" && write_at "$disk_a" 64k 32 0 &&
		becomes 20 is_stored "$disk_a" || return 1
	is used "$(snapshot storage_used_bytes)" $((2 * mib)) && heard low_free_space 0 &&
		is traces "$(traced blksnap_low_space)" "" || return 1
	write_at "$disk_a" 64k 48 32 && becomes 20 is_stored "$disk_a" || return 1
	is used "$(snapshot storage_used_bytes)" $((5 * mib)) &&
		(($(snapshot storage_free_bytes) <= low_limit)) &&
		same_as_sysfs "$disk_a" &&
		blksnap status | grep -q "^$id .* 83% " &&
		becomes 10 heard low_free_space 1 &&
		traced "blksnap_low_space: .* free [0-9]* wanted $((low_limit * 2 / 512))$" >/dev/null &&
		is "path of the uevent" "$(uevents low_free_space |
			grep -c 'DEVPATH=/devices/virtual/misc/blksnap ACTION=change')" 1
}

test_lost_image_is_told()
{
	local number

	number=$(number_of "$disk_a")
	take $((6 * 2048)) "$disk_a" "$disk_b" && write_at "$disk_a" 64k 128 0 || return 1
	becomes 20 heard corrupted 1 || return 1
	is error "$(image "$disk_a" error)" ENOSPC && is errno "$(image "$disk_a" errno)" 28 &&
		is "error of the other" "$(image "$disk_b" errno)" 0 &&
		same_as_sysfs "$disk_a" && same_as_sysfs "$disk_b" &&
		is used "$(snapshot storage_used_bytes)" $((6 * mib)) &&
		blksnap status >/run/table && grep -q "^$id .* 100% " /run/table &&
		grep -q ' ENOSPC$' /run/table || return 1
	blksnap status --format prometheus >/run/prom
	is sample "$(sample blksnap_image_error "$disk_a")" 28 &&
		is uevent "$(uevents corrupted | grep -c "BLKSNAP_ORIGIN=$number BLKSNAP_ERROR=28 ")" 1 &&
		[[ $(id='' traced "blksnap_fail: ${number/:/,} error -28") ]]
}

has_held_writes()
{
	[[ $(image "$1" held_writes) == [1-9]* ]]
}

has_logged()
{
	grep -sq "^-p daemon.err blksnap: image of $1 lost, errno 28$" /run/logged
}

test_rule_of_the_documentation_works()
{
	local code=0

	mkdir -p /etc/udev/rules.d
	sed -n 's/^\t\(SUBSYSTEM=="misc", KERNEL=="blksnap".*\)/\1/p' "$documentation" \
		>/etc/udev/rules.d/90-blksnap.rules
	# shellcheck disable=SC2016 # of the script that is written
	printf '#!/bin/bash\necho "$*" >>/run/logged\n' >/usr/bin/logger
	chmod 755 /usr/bin/logger
	systemd-udevd --daemon 2>/run/message || return 1
	take $((6 * 2048)) "$disk_a" && write_at "$disk_a" 64k 128 0 &&
		becomes 30 has_logged "$(number_of "$disk_a")" || code=1
	sed 's/^/# | /' /run/logged
	udevadm settle
	udevadm control --exit
	# What remains of it makes dmsetup say that it is there.
	rm -rf /run/udev
	return "$code"
}

# The storage keeps everything back, so memory fills up, and then writes wait.
test_held_writes_are_told()
{
	local writer code=0

	take 65536 "$disk_a" && dmsetup suspend --noflush --nolockfs store || return 1
	write_at "$disk_a" 1M 8 0 &
	writer=$!
	becomes 10 has_held_writes "$disk_a" &&
		same_as_sysfs "$disk_a" &&
		is memory "$(image "$disk_a" memory_bytes)" $((4 * mib)) || code=1
	say "$(jq -c '.snapshots[0].images[0]' /run/status.json)"
	dmsetup resume store
	wait "$writer" || code=1
	becomes 20 is_stored "$disk_a" && is held "$(image "$disk_a" held_writes)" 0 &&
		same_as_sysfs "$disk_a" || code=1
	return "$code"
}

# With a table of another size, and with another one of the same size.
test_reason_of_a_generation_is_told()
{
	local volume=/dev/mapper/volume first

	dmsetup create volume --table "0 65536 linear $disk_b 0" && take 16384 "$volume" ||
		return 1
	first=$(tracker "$volume" generation)
	is began "$(tracker "$volume" began)" tracked && destroy || return 1
	dmsetup suspend volume && dmsetup reload volume --table "0 98304 linear $disk_b 0" &&
		dmsetup resume volume && is began "$(tracker "$volume" began)" resized &&
		[[ $(tracker "$volume" generation) != "$first" ]] || return 1
	id='' traced "blksnap_generation_end: $(number_of "$volume" | tr : ,) resized" >/dev/null ||
		return 1
	[[ ! -e /sys/kernel/tracing/available_filter_functions ]] && return
	take 16384 "$volume" && destroy || return 1
	dmsetup suspend volume && dmsetup reload volume --table "0 98304 linear $disk_b 8" &&
		dmsetup resume volume && is ends "$(tracker "$volume" ends)" replaced &&
		is changed "$(tracker "$volume" changed_blocks)" null && take 16384 "$volume" ||
		return 1
	is began "$(tracker "$volume" began)" replaced && is ends "$(tracker "$volume" ends)" null &&
		id='' traced "blksnap_generation_end: $(number_of "$volume" | tr : ,) replaced" >/dev/null
}

# steps - the tracepoints of the take, in their order
steps()
{
	traced blksnap_take_ | sed 's/.*blksnap_take_\([a-z]*\): .*/\1/' | tr '\n' ' '
}

# ns STEP
ns()
{
	traced "blksnap_take_$1:" | sed 's/.* ns \([0-9]*\).*/\1/'
}

test_steps_of_a_take_are_traced()
{
	local all

	take 16384 "$disk_a" "$disk_b" || return 1
	traced blksnap_take_ | sed 's/^/# | /'
	is steps "$(steps)" "begin frozen gated ungated thawed drained end " || return 1
	all=$(ns end)
	(($(ns gated) <= $(ns ungated) && $(ns ungated) <= $(ns thawed) &&
	  $(ns frozen) + $(ns ungated) + $(ns drained) <= all && all > 0)) ||
		{ say "these durations cannot be"; return 1; }
	traced 'blksnap_take_begin: .* devices 2$' >/dev/null &&
		traced 'blksnap_take_end: .* error 0$' >/dev/null || return 1
	destroy
	# Without storage nothing begins; a device that has gone ends it.
	dmsetup create volume --table "0 65536 linear $disk_b 0" &&
		id=$(blksnap snapshot create /dev/mapper/volume) &&
		blksnap snapshot append "$id" --device "$store" --range 2048:16384 --force || return 1
	! blksnap snapshot take "$(uuid_of_nobody)" 2>/dev/null &&
		dmsetup remove volume && ! blksnap snapshot take "$id" 2>/run/message &&
		is steps "$(steps)" "begin end " &&
		traced 'blksnap_take_end: .* error -[1-9]' >/dev/null
}

uuid_of_nobody()
{
	echo 00000000-0000-4000-8000-000000000000
}

test_skipped_discards_are_traced()
{
	local disk=/dev/nullb0

	modprobe null_blk nr_devices=0 && mount -t configfs config /sys/kernel/config &&
		mkdir /sys/kernel/config/nullb/nullb0 || return 1
	(cd /sys/kernel/config/nullb/nullb0 && echo 64 >size && echo 1 >memory_backed &&
		echo 1 >discard && echo 1 >power) || return 1
	take 16384 "$disk" && blkdiscard -o "$mib" -l "$mib" "$disk" &&
		[[ $(id='' traced "blksnap_discard_skip: $(number_of "$disk" | tr : ,) 2048 + 2048") ]]
}

# example WORD - the line of the documentation that traces this
example()
{
	sed -n "s/^\t\(bpftrace -e .*$1.*\)/\1/p" "$documentation"
}

# A program that was started in the background ignores the signal until it has its own way
# to treat it.
has_ended()
{
	kill -INT "$1" 2>/dev/null && sleep 2
	! kill -0 "$1" 2>/dev/null
}

# run_example WORD COMMAND... - what it prints when this was done meanwhile
run_example()
{
	local line process

	line=$(example "$1")
	[[ $line ]] || { say "no example of $1"; return 1; }
	say "running: $line"
	setsid bash -c "exec $line" >/run/bpf 2>&1 &
	process=$!
	becomes 120 grep -q '^Attaching' /run/bpf && sleep 2 && "${@:2}" || return 1
	becomes 60 has_ended "$process" || return 1
	sed 's/^/# | /' /run/bpf
}

take_and_write()
{
	take 16384 "$disk_a" && write_at "$disk_a" 4k 5 100
}

test_examples_with_bpftrace_run()
{
	[[ -e /sys/kernel/btf/vmlinux ]] ||
		{ skip "the kernel has no type information"; return; }
	run_example take_ungated take_and_write && grep -q '^\[.*) *1 |@*|$' /run/bpf ||
		return 1
	destroy
	run_example blksnap_hold take_and_write &&
		grep -q "^@writes\[$(number_of "$disk_a" | sed 's/:/, /')\]: 5$" /run/bpf &&
		grep -q "^@bytes\[$(number_of "$disk_a" | sed 's/:/, /')\]: 20480$" /run/bpf
}

# read_debugfs - until the file is gone
read_debugfs()
{
	while [[ -e /run/reading ]]; do
		cat "$debugfs"/* >/dev/null 2>&1
	done
}

no_snapshot_is_left()
{
	[[ ! $(<"$debugfs/snapshots") ]]
}

# Its readers wait for no device, and neither a take nor an end waits for them.
test_debugfs_waits_for_nothing()
{
	local taker writer code=0

	dmsetup create volume --table "0 65536 linear $disk_b 0" &&
		id=$(blksnap snapshot create /dev/mapper/volume) &&
		blksnap snapshot append "$id" --device "$store" --range 2048:16384 --force &&
		dmsetup suspend --noflush --nolockfs volume || return 1
	write_at /dev/mapper/volume 4k 1 0 &
	writer=$!
	sleep 1
	blksnap snapshot take "$id" &
	taker=$!
	becomes 10 timeout 5 grep -q "^id=$id state=taking " "$debugfs/snapshots" &&
		timeout 5 blksnap status >/dev/null &&
		timeout 5 cat "$debugfs/trackers" >/dev/null || code=1
	dmsetup resume volume
	wait "$writer" && wait "$taker" || code=1
	is state "$(snapshot state)" taken || code=1
	# A storage that does not answer delays the end.
	dmsetup suspend --noflush --nolockfs store &&
		write_at /dev/mapper/volume 64k 8 8 && sleep 1 &&
		blksnap snapshot destroy "$id" &&
		timeout 5 grep -q "^id=$id state=ending " "$debugfs/snapshots" || code=1
	dmsetup resume store
	becomes 20 no_snapshot_is_left || code=1
	id=
	return "$code"
}

test_readers_do_not_mind_what_comes_and_goes()
{
	local i code=0
	local -a readers=()

	touch /run/reading
	for ((i = 0; i < 3; i++)); do
		read_debugfs &
		readers+=($!)
	done
	for ((i = 0; i < 12 && !code; i++)); do
		take 16384 "$disk_a" "$disk_b" && write_at "$disk_a" 64k 4 $((i * 4)) &&
			destroy || code=1
		untrack
	done
	# A reader may have a file open at that moment.
	for ((i = 0; i < 3 && !code; i++)); do
		becomes 30 rmmod blksnap 2>/run/message && [[ ! -e $debugfs ]] && load || code=1
	done
	rm /run/reading
	wait "${readers[@]}"
	return "$code"
}

load()
{
	# shellcheck disable=SC2046 # words
	modprobe blksnap $(sed -n 's/^load blksnap//p' /run/modules)
}

test_open_file_keeps_the_module()
{
	exec 7<"$debugfs/trackers"
	! rmmod blksnap 2>/dev/null || { say "unloaded"; return 1; }
	exec 7<&-
	becomes 20 rmmod blksnap 2>/run/message && load
}

clean_up()
{
	destroy
	umount /mnt 2>/dev/null
	untrack
	dmsetup remove over 2>/dev/null
	dmsetup remove volume 2>/dev/null
	echo >"$tracefs/trace"
}

tests=(nothing_is_told_of_nothing changes_are_counted figures_are_true fill_rate_is_told
	frozen_or_not_is_told low_storage_is_told lost_image_is_told
	rule_of_the_documentation_works held_writes_are_told
	reason_of_a_generation_is_told steps_of_a_take_are_traced
	skipped_discards_are_traced examples_with_bpftrace_run debugfs_waits_for_nothing
	readers_do_not_mind_what_comes_and_goes open_file_keeps_the_module)

export -f note_uevent
printf '#!/bin/bash\nnote_uevent\n' >/run/note_uevent && chmod 755 /run/note_uevent
: >/run/uevents
uevent /run/note_uevent &
modprobe dm-mod
dmsetup create store --table "0 131072 linear $(readlink -f /dev/vdc) 0" || exit 1
for event in take_begin take_frozen take_gated take_ungated take_thawed take_drained \
	     take_end low_space fail generation_end discard_skip; do
	echo 1 >"$tracefs/events/blksnap/blksnap_$event/enable" || exit 1
done

ktap_run "${tests[@]}"
kill %1
exit "$ktap_failed"
