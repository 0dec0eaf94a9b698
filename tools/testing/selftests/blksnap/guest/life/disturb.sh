#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The filter while others trace, probe and patch the function that it diverts
#
# While something disturbs the filter, test_oracle writes to devices with snapshots
# and compares images and change maps with what it knows.  A disturbance that did not
# take place is a failure, too.

# The tests are called by name from the table at the end.
# shellcheck disable=SC2317
set -uo pipefail
# shellcheck source-path=SCRIPTDIR source=../rig/ktap.sh
. ktap.sh

trace=/sys/kernel/tracing
[[ -e $trace/kprobe_events ]] || trace=/sys/kernel/debug/tracing
function=submit_bio_noacct

# put WORD... FILE - write WORDs to FILE of the tracer
put()
{
	printf '%s\n' "${*:1:$#-1}" >"$trace/${*: -1}"
}

# oracle - true if the filter misses no write and every image is right
oracle()
{
	local filter code

	for filter in test_images_of_disk_and_partition test_take_amid_writes; do
		code=0
		timeout 120 test_oracle --rounds 8 --filter "$filter" >/tmp/oracle 2>&1 ||
			code=$?
		grep -q '^ok ' /tmp/oracle && ((!code)) && continue
		sed 's/^/# | /' /tmp/oracle
		return 1
	done
}

# has_hits EVENT - true if a probe saw the function called
has_hits()
{
	awk -v event="$1" '$1 == event && $2 > 0 { found = 1 }
		END { exit !found }' "$trace/kprobe_profile"
}

# trace_with TRACER - let a tracer see the function while the oracle runs
trace_with()
{
	local code=0

	put "$function" set_ftrace_filter && put "$1" current_tracer || return 1
	oracle || code=1
	put 0 tracing_on
	grep -q "$function" "$trace/trace" || { say "traced nothing"; code=1; }
	put nop current_tracer
	: >"$trace/set_ftrace_filter"
	: >"$trace/trace"
	put 1 tracing_on
	return "$code"
}

test_function_tracer()
{
	trace_with function
}

test_function_graph_tracer()
{
	trace_with function_graph
}

test_function_may_not_be_traced()
{
	local code=0

	put "$function" set_ftrace_notrace && put function current_tracer || return 1
	oracle || code=1
	put nop current_tracer
	: >"$trace/set_ftrace_notrace"
	: >"$trace/trace"
	return "$code"
}

# need_probes KIND - skip the test where functions that ftrace knows cannot be probed
#
# KIND is p for entries or r for returns.  On riscv64 they cannot.
need_probes()
{
	if put "$1:disturb/other submit_bio" kprobe_events 2>/dev/null; then
		: >"$trace/kprobe_events"
		return 0
	fi
	skip "the kernel takes no probe of a function that ftrace knows"
	return 1
}

# probe KIND - have a probe on the function while the oracle runs
probe()
{
	local code=0

	need_probes "$1" || return 0
	put "$1:disturb/one $function" kprobe_events && put 1 events/disturb/enable || return 1
	oracle || code=1
	has_hits one || { say "the probe saw nothing"; code=1; }
	put 0 events/disturb/enable
	: >"$trace/kprobe_events"
	return "$code"
}

test_probe_at_its_entry()
{
	probe p
}

test_probe_at_its_return()
{
	probe r
}

# Kernels before 6.5 have no events of fprobes.
fprobe()
{
	local code=0

	grep -q 'f\[:' "$trace/README" || { skip "there are no fprobe events"; return; }
	put "$1" dynamic_events && put 1 events/disturb/enable || return 1
	oracle || code=1
	put 0 events/disturb/enable
	grep -q ' one: ' "$trace/trace" || { say "the probe saw nothing"; code=1; }
	: >"$trace/dynamic_events"
	: >"$trace/trace"
	return "$code"
}

test_fprobe_at_its_entry()
{
	fprobe "f:disturb/one $function"
}

test_fprobe_at_its_return()
{
	fprobe "f:disturb/one $function%return"
}

# ends PROCESS - does it, when it is asked to?
ends()
{
	kill -INT "$1"
	becomes 30 is_gone "$1"
}

is_gone()
{
	! grep -q '^State:.[^Z]' "/proc/$1/status" 2>/dev/null
}

# need_bpf - skip the test where there can be no such programs
need_bpf()
{
	type -P bpftrace >/dev/null ||
		{ skip "Debian has no bpftrace for this architecture"; return 1; }
	[[ -e /sys/kernel/btf/vmlinux ]] ||
		{ skip "the kernel has no type information"; return 1; }
}

# trace_with_bpf KIND - have a program of BPF called at its entry or its end
trace_with_bpf()
{
	local code=0 tracer

	need_bpf || return 0
	bpftrace -e "$1:$function { @calls = count(); }" >/tmp/bpf 2>&1 &
	tracer=$!
	becomes 60 grep -q '^Attaching' /tmp/bpf || code=1
	oracle || code=1
	if ! ends "$tracer"; then
		say "bpftrace does not end: $(</tmp/bpf)" "$(<"/proc/$tracer/stack")"
		kill -KILL "$tracer"
	elif ! grep -q '^@calls: [1-9]' /tmp/bpf; then
		say "$(</tmp/bpf)"
		code=1
	fi
	wait "$tracer"
	return "$code"
}

test_bpf_at_its_entry()
{
	trace_with_bpf kfunc
}

test_bpf_at_its_end()
{
	trace_with_bpf kretfunc
}

# toggle PROBE - switch a tracer, and a probe if it is 1, until the file is gone
toggle()
{
	local switches=0

	put "$function" set_ftrace_filter
	while [[ -e /tmp/toggling ]]; do
		put function current_tracer
		(($1)) && put 1 events/disturb/enable
		put nop current_tracer
		(($1)) && put 0 events/disturb/enable
		switches=$((switches + 1))
	done
	: >"$trace/kprobe_events"
	: >"$trace/set_ftrace_filter"
	say "switched $switches times"
	((switches >= 3))
}

test_switching_all_the_time()
{
	local code=0 probe=0

	# Where there are no probes, the tracer alone is switched.
	put "p:disturb/one $function" kprobe_events 2>/dev/null && probe=1
	: >/tmp/toggling
	toggle "$probe" &
	oracle || code=1
	rm /tmp/toggling
	wait $! || code=1
	return "$code"
}

# A snapshot that is not taken yet makes its device a tracked one, for which ftrace is
# needed.  The oracle removes it.
test_ftrace_may_not_be_switched_off()
{
	local code=0

	blksnap snapshot create /dev/vda || return 1
	if { echo 0 >/proc/sys/kernel/ftrace_enabled; } 2>/dev/null; then
		say "ftrace was switched off"
		code=1
	fi
	[[ $(cat /proc/sys/kernel/ftrace_enabled) == 1 ]] || code=1
	oracle || code=1
	return "$code"
}

# attach_bpf_again_and_again - until the file is gone
attach_bpf_again_and_again()
{
	while [[ -e /run/attaching ]]; do
		timeout -k 5 30 \
			bpftrace -e "kfunc:$function { @calls = count(); } interval:ms:50 { exit(); }"
	done
}

# The filter is installed while programs come and go; it stays for half a second.
test_bpf_comes_and_goes()
{
	local code=0 i id

	need_bpf || return 0
	: >/run/attaching
	attach_bpf_again_and_again >/run/bpf 2>&1 &
	for ((i = 0; i < 20; i++)); do
		id=$(blksnap snapshot create /dev/vda 2>&1) || { say "$id"; code=1; break; }
		blksnap snapshot destroy "$id" && blksnap tracker remove /dev/vda || code=1
		sleep 0.8
	done
	rm /run/attaching
	wait
	grep -q '^@calls: ' /run/bpf || { say "$(tail -n 3 /run/bpf)"; code=1; }
	return "$code"
}

# Only one module may divert the function: the one that comes second is refused.
test_second_user_is_refused()
{
	blksnap snapshot create /dev/vda || return 1
	if insmod /run/second_user.ko 2>/dev/null; then
		say "a second one could divert the function"
		rmmod second_user
		return 1
	fi
	oracle
}

test_second_user_is_respected()
{
	local code=0

	# The filter stays for half a second after the last device.
	becomes 10 insmod /run/second_user.ko 2>/dev/null || return 1
	if blksnap snapshot create /dev/vda 2>/tmp/message; then
		say "the function was diverted twice"
		code=1
	fi
	grep -q 'another module' /tmp/message || { say "$(</tmp/message)"; code=1; }
	# A disk that is not tracked has nothing to do with it.
	dd if=/dev/zero of=/dev/vda bs=4k count=1 oflag=direct 2>/dev/null || code=1
	(($(</sys/module/second_user/parameters/nr_calls))) || code=1
	rmmod second_user && oracle && return "$code"
}

tests=(
	function_tracer
	function_graph_tracer
	function_may_not_be_traced
	probe_at_its_entry
	probe_at_its_return
	fprobe_at_its_entry
	fprobe_at_its_return
	bpf_at_its_entry
	bpf_at_its_end
	bpf_comes_and_goes
	second_user_is_respected
	second_user_is_refused
	switching_all_the_time
	ftrace_may_not_be_switched_off
)
ktap_run "${tests[@]}"
