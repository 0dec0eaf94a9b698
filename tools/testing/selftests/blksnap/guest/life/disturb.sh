#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The filter while others trace, probe and patch the function that it diverts
#
#	disturb.sh [TEST]...
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
		test_oracle --rounds 8 --filter "$filter" >/tmp/oracle 2>&1 ||
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

# probe DEFINITION - have a probe on the function while the oracle runs
probe()
{
	local code=0

	put "$1" kprobe_events && put 1 events/disturb/enable || return 1
	oracle || code=1
	has_hits one || { say "the probe saw nothing"; code=1; }
	put 0 events/disturb/enable
	: >"$trace/kprobe_events"
	return "$code"
}

test_probe_at_its_entry()
{
	probe "p:disturb/one $function"
}

test_probe_at_its_return()
{
	probe "r:disturb/one $function"
}

# toggle - switch a tracer and a probe on and off until the file is gone
toggle()
{
	local switches=0

	put "p:disturb/one $function" kprobe_events
	put "$function" set_ftrace_filter
	while [[ -e /tmp/toggling ]]; do
		put function current_tracer
		put 1 events/disturb/enable
		put nop current_tracer
		put 0 events/disturb/enable
		switches=$((switches + 1))
	done
	: >"$trace/kprobe_events"
	: >"$trace/set_ftrace_filter"
	say "switched $switches times"
	((switches >= 3))
}

test_switching_all_the_time()
{
	local code=0

	: >/tmp/toggling
	toggle &
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

tests=("$@")
((${#tests[@]})) || tests=(
	function_tracer
	function_graph_tracer
	function_may_not_be_traced
	probe_at_its_entry
	probe_at_its_return
	switching_all_the_time
	ftrace_may_not_be_switched_off
)
ktap_run "${tests[@]}"
