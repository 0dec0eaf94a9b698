# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# Tests of scripts, printed as KTAP; sourced, also in a guest, which has it in its PATH
#
# "--filter TEXT" is taken out of the script's arguments, whose last ones they are, and
# ktap_run runs the tests alone whose name contains TEXT.

ktap_filter=
if (($# >= 2)) && [[ ${*: -2:1} == --filter ]]; then
	ktap_filter=${*: -1}
	set -- "${@:1:$#-2}"
fi

# say WORD... - a comment
say()
{
	printf '# %s\n' "$*"
}

# is WHAT FOUND WANTED
is()
{
	[[ $2 == "$3" ]] || { say "$1 is '$2' in place of '$3'"; return 1; }
}

# becomes SECONDS COMMAND... - does the command succeed within this time?
becomes()
{
	local end=$((SECONDS + $1))

	shift
	until "$@"; do
		((SECONDS < end)) || { say "never: $*"; return 1; }
		sleep 0.1
	done
}

# skip REASON - to be returned from a test: "skip 'there is no ...'; return"
skip()
{
	ktap_reason=$*
}

# ktap_plan COUNT - how many results there will be
ktap_plan()
{
	printf 'TAP version 13\n1..%d\n' "$1"
	ktap_count=0
	ktap_failed=0
}

# ktap_result NAME COMMAND... - run the command, and print what came of it
#
# What is local here is seen by the command, so it has a name of its own.
ktap_result()
{
	local ktap_name=$1

	shift
	ktap_count=$((ktap_count + 1))
	ktap_reason=
	if "$@"; then
		printf 'ok %d %s%s\n' "$ktap_count" "$ktap_name" \
			"${ktap_reason:+ # SKIP $ktap_reason}"
	else
		printf 'not ok %d %s\n' "$ktap_count" "$ktap_name"
		ktap_failed=1
	fi
}

# ktap_run NAME... - run test_NAME for each, and clean_up after it if there is such a
# function; false if any failed
ktap_run()
{
	local ktap_test
	local -a ktap_tests=()

	for ktap_test in "$@"; do
		[[ $ktap_test != *"$ktap_filter"* ]] || ktap_tests+=("$ktap_test")
	done
	ktap_plan "${#ktap_tests[@]}"
	for ktap_test in "${ktap_tests[@]}"; do
		ktap_result "$ktap_test" "test_$ktap_test"
		! declare -F clean_up >/dev/null || clean_up
	done
	((!ktap_failed))
}
