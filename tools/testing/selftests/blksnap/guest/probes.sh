#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Tests of how the driver finds out what a kernel has
#
#	probes.sh --kernel NAME
#
# Nothing is run, and one small file is built.  What a kernel shall not have is taken
# away by a header that is included before all others but its configuration.

# The tests are called by name from the table at the end.
# shellcheck disable=SC2317
set -euo pipefail

selftests=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")
# shellcheck source-path=SCRIPTDIR source=../lib/build.sh
. "$selftests/lib/build.sh"
# shellcheck source-path=SCRIPTDIR source=rig/ktap.sh
. "$selftests/guest/rig/ktap.sh"
if [[ ${1:-} != --kernel || $# != 2 ]]; then
	sed -n '4,/^$/s/^# \{0,1\}//p' "$0" >&2
	exit 2
fi
kernel=$2
dir=$build/probes-$kernel
driver=$dir/drivers/block/blksnap

# shows_log COMMAND... - run it, and show the log if it fails
shows_log()
{
	! "$@" || return 0
	tail -n 30 "$dir/log" | sed 's/^/# /'
	return 1
}

# build_with [LINE]... - build with LINEs before anything but the configuration
build_with()
{
	local header

	if (($#)); then
		# Another name is another command for make.
		header=$dir/for_$name.h
		printf '%s\n' "$@" >"$header"
		set -- KCFLAGS="-include $header"
	fi
	kernel_make_modules "$driver" CONFIG_BLKSNAP=m "$@" event_queue.o \
		>"$dir/log" 2>&1
}

# refused_with TEXT [LINE]... - true if one line says so, and nothing was compiled
refused_with()
{
	local text=$1

	shift
	! build_with "$@" || return 1
	[[ $(grep -c '^blksnap: ' "$dir/log") == 1 ]] &&
		grep '^blksnap: ' "$dir/log" | grep -qF -e "$text" &&
		! grep -q 'CC ' "$dir/log"
}

test_answers_are_kept()
{
	build_with && grep -q 'PROBE ' "$dir/log" &&
		build_with && ! grep -q 'PROBE ' "$dir/log"
}

test_another_kernel_is_asked_anew()
{
	build_with && kernel_make_modules "$driver" CONFIG_BLKSNAP=m \
		KERNELRELEASE=another event_queue.o >"$dir/log" 2>&1 &&
		grep -q 'PROBE ' "$dir/log" && grep -q 'CC .*event_queue' "$dir/log"
}

# As when there is not enough memory for it.
test_killed_compiler_is_no_answer()
{
	local wrapper=$dir/kill_compiler

	cat >"$wrapper" <<-'END'
		#!/bin/sh
		case "$*" in *PROBE_BDEV_WRITE_PAGE*) kill -KILL $$ ;; esac
		exec "$@"
	END
	chmod +x "$wrapper"
	! kernel_make_modules "$driver" CONFIG_BLKSNAP=m KCFLAGS="-wrapper $wrapper" \
		event_queue.o >"$dir/log" 2>&1 &&
		grep -q 'Killed signal' "$dir/log" && ! grep -q 'CC ' "$dir/log" &&
		[[ ! -e $driver/compat_probed.h ]]
}

# Distributions have backported much, but not two ways of one thing.
test_one_way_to_open_devices_is_found()
{
	[[ $(grep -cE '_(BDEV_FILE|BDEV_HANDLE|BLKDEV_GET_BY_F?MODE)$' \
		"$driver/compat_probed.h") == 1 ]]
}

test_kernel_without_ftrace_is_refused()
{
	refused_with 'CONFIG_DYNAMIC_FTRACE_WITH_ARGS or _WITH_REGS' \
		'#undef CONFIG_DYNAMIC_FTRACE_WITH_ARGS' \
		'#undef CONFIG_DYNAMIC_FTRACE_WITH_REGS'
}

test_kernel_that_saves_all_registers_is_not_refused()
{
	build_with '#undef CONFIG_DYNAMIC_FTRACE_WITH_ARGS' \
		'#define CONFIG_DYNAMIC_FTRACE_WITH_REGS 1'
}

test_powerpc_without_the_hook_is_refused()
{
	refused_with '64-bit PowerPC' '#define CONFIG_PPC64 1'
}

test_s390_without_the_hook_is_refused()
{
	refused_with 'a kprobe undoes' '#define CONFIG_S390 1'
}

test_unknown_way_to_open_devices_is_refused()
{
	refused_with 'opens block devices in a way' \
		'#include <linux/blkdev.h>' \
		'#define bdev_file_open_by_dev no_such_thing' \
		'#define bdev_open_by_dev no_such_thing' \
		'#define blkdev_get_by_dev no_such_thing'
}

# The compiler knows which functions a tracepoint may call, also where it is found by name.
test_function_of_another_type_is_no_probe()
{
	sed -i.orig 's/unsigned int nr_bytes)/u64 nr_bytes)/' "$driver/bypass.c"
	! kernel_make_modules "$driver" CONFIG_BLKSNAP=m bypass.o >"$dir/log" 2>&1 &&
		grep -q 'error.*check_trace_callback_type_block_rq_complete' "$dir/log" &&
		mv "$driver/bypass.c.orig" "$driver/bypass.c"
}

pkg_need_build
pkg_install
kernel_fetch "$kernel"
rm -rf "$dir"
copy_sources "$top/include/uapi/linux" "$dir/include/uapi/linux"
copy_sources "$top/drivers/block/blksnap" "$driver"
tests=(
	answers_are_kept
	another_kernel_is_asked_anew
	one_way_to_open_devices_is_found
	kernel_without_ftrace_is_refused
	kernel_that_saves_all_registers_is_not_refused
	powerpc_without_the_hook_is_refused
	s390_without_the_hook_is_refused
	unknown_way_to_open_devices_is_refused
	function_of_another_type_is_no_probe
	killed_compiler_is_no_answer
)
ktap_plan "${#tests[@]}"
for name in "${tests[@]}"; do
	ktap_result "$name" shows_log "test_$name"
done
exit "$ktap_failed"
