#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# What the tests of the command-line tool share; sourced
#
# A test script is called with the tool and the fake module, and defines a
# function all_tests, which calls one function for each test:
#
#	expect NAME CODE OUTPUT MESSAGE [VARIABLE=VALUE]... -- ARGUMENT...
#
# CODE is the exit code.  OUTPUT and MESSAGE are extended regular expressions
# that all of the standard output and all of the standard error have to match;
# an empty one wants nothing to be printed.  The variables go to the fake
# module.  LOG is a variable of the test itself: the expression that the log of
# the fake module has to match.
#
#	check NAME COMMAND...	passes if COMMAND does
#	skip NAME REASON
#
# all_tests is called twice, first only to count the tests.

set -euo pipefail
export LC_ALL=C

if (($# != 2)); then
	printf 'usage: %s TOOL FAKE_MODULE\n' "$0" >&2
	exit 2
fi
tool=$(readlink -f "$1")
fake=$(readlink -f "$2")
if [[ ! -x $tool || ! -f $fake ]]; then
	echo "1..0 # SKIP not built: $1, $2"
	exit 4
fi

temp=$(mktemp -d "${TMPDIR:-/tmp}/blksnap-cli.XXXXXX")
trap 'rm -rf "$temp"' EXIT

counting=yes
number=0
failed=0

report() # RESULT NAME
{
	number=$((number + 1))
	echo "$1 $number - $2"
	[[ $1 == ok ]] || failed=$((failed + 1))
}

# man_examples COMMAND - its lines among the examples of the man page
man_examples()
{
	sed -n '/^\.SH EXAMPLES/,$p' \
		"$(dirname "$0")/../../../../blksnap/blksnap.8" |
		sed -n "s/\\\\-/-/g; s/^blksnap \($1 .*\)/\1/p"
}

# run_tool [VARIABLE=VALUE]... -- ARGUMENT... - sets code, output and message
run_tool()
{
	local -a variables=(FAKE_LOG="$temp/log" LD_PRELOAD="$fake"
		ASAN_OPTIONS=verify_asan_link_order=0:exitcode=99
		UBSAN_OPTIONS=exitcode=99)

	while [[ $1 != -- ]]; do
		variables+=("$1")
		shift
	done
	shift
	: >"$temp/log"
	code=0
	env "${variables[@]}" timeout "${tool_seconds:-20}" "$tool" "$@" >"$temp/output" \
		2>"$temp/message" </dev/null || code=$?
	output=$(<"$temp/output")
	message=$(<"$temp/message")
	log=$(<"$temp/log")
}

differs() # WHAT EXPRESSION TEXT
{
	[[ ! $3 =~ ^($2)$ ]] || return 1
	echo "# $1 is not as expected"
	printf '%s\n' "$2" | sed 's/^/#   expected: /'
	printf '%s\n' "$3" | sed 's/^/#   actual:   /'
}

expect()
{
	local name=$1 want_code=$2 want_output=$3 want_message=$4
	local want_log='.*' result=ok
	local -a variables=()

	if [[ $counting ]]; then
		number=$((number + 1))
		return
	fi
	shift 4
	while [[ $1 != -- ]]; do
		if [[ $1 == LOG=* ]]; then
			want_log=${1#LOG=}
		else
			variables+=("$1")
		fi
		shift
	done
	run_tool "${variables[@]}" "$@"
	if ((code != want_code)); then
		echo "# exit code $code, expected $want_code"
		result="not ok"
	fi
	! differs output "$want_output" "$output" || result="not ok"
	! differs message "${want_message:+blksnap: }$want_message" \
		"$message" || result="not ok"
	! differs log "$want_log" "$log" || result="not ok"
	if [[ $message == *$'\n'* ]]; then
		echo "# the message has more than one line"
		result="not ok"
	fi
	report "$result" "$name"
}

check()
{
	local name=$1

	if [[ $counting ]]; then
		number=$((number + 1))
		return
	fi
	shift
	if "$@"; then
		report ok "$name"
	else
		report "not ok" "$name"
	fi
}

skip()
{
	if [[ $counting ]]; then
		number=$((number + 1))
	else
		report ok "$1 # SKIP $2"
	fi
}

run_all_tests()
{
	echo "TAP version 13"
	all_tests
	echo "1..$number"
	number=0
	counting=
	all_tests
	((!failed))
}
