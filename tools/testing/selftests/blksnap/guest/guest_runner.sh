#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Tests of the guest runner itself: does each kind of end come back as it should
#
#	guest_runner.sh [--kernel VERSION] [--short]
#
# A test is only worth what its runner is: a guest that dies, hangs or splats
# must never look like one that passed.

# The tests are called by name from the table at the end, and their scripts
# expand in the guest.
# shellcheck disable=SC2317,SC2016
set -euo pipefail

here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
# shellcheck source-path=SCRIPTDIR source=rig/ktap.sh
. "$here/rig/ktap.sh"
work=$(mktemp -d "${TMPDIR:-/tmp}/blksnap-runner.XXXXXX")
trap 'rm -rf "$work"' EXIT
short=
kernel=
runner=("$here/../lib/guest" --log "$work/log" --memory 512)
while (($#)); do
	case $1 in
	--kernel)	kernel=$2; runner+=(--kernel "$2"); shift ;;
	--short)	short=yes ;;
	*)		sed -n '4,/^$/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
	esac
	shift
done

# in_guest [OPTION]... -- SCRIPT_TEXT - run it, set code and output
in_guest()
{
	local options=()

	while [[ $1 != -- ]]; do
		options+=("$1")
		shift
	done
	printf '%s\n' "$2" >"$work/script"
	code=0
	"${runner[@]}" "${options[@]}" "$work/script" "first one" second \
		>"$work/output" 2>"$work/errors" || code=$?
}

# result NAME CONDITION... - print the KTAP line of one test
result()
{
	local name=$1

	shift
	ktap_result "$name" holds "$@"
}

holds()
{
	! "$@" || return 0
	say "code $code"
	sed 's/^/# /' "$work/output" "$work/errors" | tail -n 60
	return 1
}

code_is()
{
	[[ $code == "$1" ]]
}

code_and_output()
{
	code_is "$1" && grep -qxF -e "$2" "$work/output"
}

code_and_errors()
{
	code_is "$1" && grep -qF -e "$2" "$work/errors"
}

test_success_comes_back()
{
	in_guest -- 'echo "arguments: $# $1"; uname -m'
	result success_comes_back code_and_output 0 'arguments: 2 first one'
}

test_exit_code_comes_back()
{
	in_guest -- 'echo "last words"; exit 42'
	result exit_code_comes_back code_and_output 42 'last words'
}

test_code_of_time_limit_is_not_taken_from_script()
{
	in_guest -- 'exit 124'
	result code_of_time_limit_is_not_taken_from_script code_is 125
}

test_panic_is_no_success()
{
	in_guest -- 'echo c >/proc/sysrq-trigger; sleep 30'
	result panic_is_no_success code_and_errors 126 'Kernel panic'
}

test_death_of_machine_is_no_success()
{
	in_guest -- 'echo o >/proc/sysrq-trigger; sleep 30'
	result death_of_machine_is_no_success code_and_errors 125 'guest died'
}

test_splat_is_found_despite_success()
{
	in_guest -- 'echo "WARNING: CPU: 0 PID: 1 at here" >/dev/kmsg; exit 0'
	result splat_is_found_despite_success code_and_errors 126 \
		'the kernel complained'
}

failed_allocation='echo "x: vmalloc error: size 225, failed" >/dev/kmsg
	echo "CPU: 0 PID: 1" >/dev/kmsg
	echo "Call Trace:" >/dev/kmsg
	echo "kmemleak: 2 new suspected memory leaks (see there)" >/dev/kmsg'

test_failed_allocation_is_a_complaint()
{
	in_guest -- "$failed_allocation"
	result failed_allocation_is_a_complaint code_and_errors 126 \
		'the kernel complained'
}

test_failed_allocation_is_expected_with_faults()
{
	in_guest --faults -- "$failed_allocation; echo fine"
	result failed_allocation_is_expected_with_faults code_and_output 0 fine
}

test_splat_is_found_with_faults()
{
	in_guest --faults -- "$failed_allocation
		echo 'BUG: here' >/dev/kmsg"
	result splat_is_found_with_faults code_and_errors 126 'BUG: here'
}

test_call_trace_for_no_reason_is_found_with_faults()
{
	in_guest --faults -- "$failed_allocation
		echo 'Call Trace:' >/dev/kmsg"
	result call_trace_for_no_reason_is_found_with_faults code_and_errors \
		126 'Call Trace:'
}

test_time_limit_ends_a_hang()
{
	in_guest --timeout 15 -- 'echo waiting; sleep 1000'
	result time_limit_ends_a_hang code_and_errors 124 'time limit of 15 s'
}

test_disks_and_modules_are_there()
{
	in_guest --disk 3G,serial=first --disk 64M --module 'brd rd_nr=3' \
		--kmod ext4 --program mkfs.ext4 -- '
		set -e
		disk=$(readlink -f /dev/vda)
		[[ $(cat "/sys/block/${disk##*/}/serial") == first ]]
		[[ $(blockdev --getsize64 /dev/vda) == $((3 << 30)) ]]
		[[ $(cat /sys/module/brd/parameters/rd_nr) == 3 ]]
		mkfs.ext4 -q /dev/vdb
		mkdir /mnt
		mount /dev/vdb /mnt
		dd if=/dev/urandom of=/mnt/file bs=64k count=16 2>/dev/null
		umount /mnt
		echo done'
	result disks_and_modules_are_there code_and_output 0 'done'
}

test_host_files_are_there()
{
	mkdir -p "$work/share"
	echo shared >"$work/share/file"
	in_guest --share "$work/share" --file "$here/Makefile:/data/file" -- '
		set -e
		cat /share/file
		! touch /share/other 2>/dev/null
		grep -q SPDX /data/file'
	result host_files_are_there code_and_output 0 'shared'
}

test_counted_instructions_are_time()
{
	if [[ $kernel == uml* ]]; then
		ktap_result counted_instructions_are_time \
			skip 'user-mode Linux cannot count them'
		return
	fi
	in_guest --icount -- '
		set -e
		[[ $(nproc) == 1 ]]
		# Sleep is over at once when nothing else is to do.
		sleep 1000
		echo awake'
	result counted_instructions_are_time code_and_output 0 'awake'
}

test_missing_module_is_told()
{
	in_guest --module no_such_module -- 'true'
	result missing_module_is_told code_and_errors 125 \
		'has no module no_such_module'
}

test_big_output_is_whole()
{
	in_guest -- 'seq 1 20000; echo; printf end'
	{ seq 1 20000; echo; echo end; } >"$work/expected"
	result big_output_is_whole cmp -s "$work/expected" "$work/output"
}

test_runner_cleans_up_when_interrupted()
{
	local pid

	printf 'echo started; sleep 1000\n' >"$work/script"
	"${runner[@]}" "$work/script" >"$work/output" 2>"$work/errors" &
	pid=$!
	until grep -q started "$work/output" || ! kill -0 "$pid" 2>/dev/null; do
		sleep 0.5
	done
	kill -TERM "$pid"
	code=0
	wait "$pid" || code=$?
	sleep 1
	result runner_cleans_up_when_interrupted nothing_left
}

# nothing_left - true if the ended runner left no emulator and no file behind
nothing_left()
{
	code_is 125 || return 1
	# Its folder is in the command line of the emulator.
	! grep -aqF "$work/tmp/blksnap-guest" /proc/[0-9]*/cmdline 2>/dev/null &&
		[[ -z $(ls -A "$work/tmp") ]]
}

export TMPDIR=$work/tmp
mkdir "$TMPDIR"
tests=(
	success_comes_back
	exit_code_comes_back
	code_of_time_limit_is_not_taken_from_script
	panic_is_no_success
	death_of_machine_is_no_success
	splat_is_found_despite_success
	failed_allocation_is_a_complaint
	failed_allocation_is_expected_with_faults
	splat_is_found_with_faults
	call_trace_for_no_reason_is_found_with_faults
	time_limit_ends_a_hang
	disks_and_modules_are_there
	host_files_are_there
	counted_instructions_are_time
	missing_module_is_told
	big_output_is_whole
	runner_cleans_up_when_interrupted
)
if [[ $short ]]; then
	tests=(exit_code_comes_back splat_is_found_despite_success)
fi
ktap_plan "${#tests[@]}"
for name in "${tests[@]}"; do
	"test_$name"
done
exit "$ktap_failed"
