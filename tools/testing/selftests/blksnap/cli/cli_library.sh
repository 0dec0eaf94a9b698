#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The library: its errors, its limits, and its interface
#
# The tests are in library_test.c; each of them prints nothing, and ends with 42.

# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"

libraries=$(dirname "$tool")/lib
tool=$(dirname "$fake")/library_test
folder=$(readlink -f "$(dirname "$0")/../../../../..")

passes() # TEST [VARIABLE=VALUE]...
{
	expect "${1//_/ }" 42 "" "" "${@:2}" -- "$1"
}

same() # WANTED ACTUAL
{
	diff <(echo "$1") <(echo "$2") | sed 's/^/# /'
	[[ $1 == "$2" && $1 ]]
}

recorded()
{
	sed -n 's/^ \(blksnap_.*@.*\) .*/\1/p' "$folder/packaging/debian/libblksnap1.symbols" |
		sort
}

in_shared_library()
{
	nm -D --defined-only --with-symbol-versions "$libraries/libblksnap.so.1" |
		sed -n 's/.* T \(.*\)@@\(.*\)/\1@\2/p' | sort
}

in_static_library()
{
	nm -g --defined-only "$libraries/libblksnap.a" | awk 'NF == 3 { print $3 }' | sort
}

# What is in brackets after the name of a function.
in_header()
{
	grep -o 'blksnap_[a-z_]*(' "$folder/tools/blksnap/lib/include/blksnap/blksnap.h" |
		tr -d '(' | grep -v '^blksnap_event_handler$' | sort -u
}

in_manual()
{
	sed -n '/^\.SH SYN/,/^\.SH DESC/p' "$folder/tools/blksnap/lib/blksnap.3" |
		grep -o 'blksnap_[a-z_]*(' | tr -d '(' | sort
}

in_python()
{
	sed -n 's/^    "\([a-z_]*\)": (.*/blksnap_\1/p' \
		"$folder/tools/blksnap/lib/python/blksnap/_native.py" | sort
}

names()
{
	recorded | sed 's/@.*//'
}

# What ends a program, prints, or treats signals otherwise.
calls_of_kind()
{
	nm -D --undefined-only "$libraries/libblksnap.so.1" | awk '{ print $2 }' |
		grep -E '^_?(_exit|exit|quick_exit|abort|__assert_fail|signal|sigaction|syslog|perror|psignal|v?(err|warn)x?|v?f?printf|f?puts|putchar|putc|fwrite|stdout|stderr)(_chk)?(@|$)' ||
		true
}

nothing()
{
	[[ ! $1 ]] || { echo "# $1"; return 1; }
}

# As the kernel has laid them out: a field more or less, and all is wrong.
structures_of_python()
{
	LD_LIBRARY_PATH=$libraries PYTHONDONTWRITEBYTECODE=1 \
		LD_PRELOAD=$(ldd "$libraries/libblksnap.so.1" | awk '/asan/ { print $3 }') \
		ASAN_OPTIONS=detect_leaks=0 \
		PYTHONPATH=$folder/tools/blksnap/lib/python python3 -c '
import ctypes
from blksnap import _native as n
sizes = {n.Version: 8, n.Dev: 8, n.Uuid: 16, n.CbtInfo: 48, n.BlockRange: 16,
         n.ImageInfo: 16, n.SnapshotInfo: 64, n.SnapshotEvent: 4096, n.LowFreeSpace: 8,
         n.Corrupted: 12}
for structure, size in sizes.items():
    assert ctypes.sizeof(structure) == size, structure
assert n.CbtInfo.snap_number.offset == 44 and n.SnapshotInfo.age_ms.offset == 40
assert n.SnapshotEvent.data.offset == 32'
}

all_tests()
{
	passes open_fails FAKE_OPEN=ENOENT
	passes call_fails FAKE_FAIL=snapshot_take:EFAULT
	passes array_after_failure FAKE_FAIL=tracker_collect:EPERM
	passes text_of_each_thread FAKE_FAIL=snapshot_take:EFAULT
	passes ranges_overflow
	passes ranges_are_joined
	passes pieces_of_files
	passes long_path
	passes extents FAKE_MAP=7,1,2,2,9,3
	passes map_answers FAKE_NUMBER=9
	passes map_contradicts_itself FAKE_BLOCK=1000
	passes watch FAKE_EVENTS=low,signal,low,low,timeout,timeout,destroyed
	passes nothing_to_free
	check "the interface is the one that is recorded" same "$(recorded)" \
		"$(in_shared_library)"
	check "the static library has no other" same "$(names)" "$(in_static_library)"
	check "the header declares it" same "$(names)" "$(in_header)"
	check "the manual page names it" same "$(names)" "$(in_manual)"
	check "Python knows it" same "$(names)" "$(in_python)"
	check "it calls nothing that ends, prints or treats signals" nothing \
		"$(calls_of_kind)"
	check "Python has the structures as they are" structures_of_python
}

run_all_tests
