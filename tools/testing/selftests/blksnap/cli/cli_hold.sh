#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Hold: what the command finds, how its end is told, and what ends it

# What is quoted is for the shell that the tool runs.
# shellcheck disable=SC2016

# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source-path=SCRIPTDIR source=backup_common.sh
. "$(dirname "$0")/backup_common.sh"

id=a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf
plain_id=a0a1a2a3a4a5a6a7a8a9aaabacadaeaf
settings=(FAKE_IMAGES="4000:1,4000:2"
	FAKE_IMAGE_DIR="$images")
before=(hold --storage "$storage" --storage-size 1M 4000:1 4000:2 --)
tool_pid=0
taken="(.*
)?snapshot_create 4000:1 4000:2
.*snapshot_take $plain_id
.*"
whole="${taken}snapshot_destroy $plain_id
?"

# holds NAME CODE OUTPUT MESSAGE [VARIABLE=VALUE]... -- COMMAND...
#
# Whatever the command does, the snapshot is destroyed and nothing is left of it.
holds()
{
	local -a head=("${@:1:4}")
	local -a own=()

	shift 4
	while [[ $1 != -- ]]; do
		own+=("$1")
		shift
	done
	shift
	expect "${head[@]}" LOG="$whole" "${settings[@]}" "${own[@]}" -- \
		"${before[@]}" "$@"
	check "${head[0]}: no storage is left" nothing_is_left
}

nothing_is_left()
{
	[[ ! -e $storage.1 ]]
}

test_command()
{
	prepare eval 'echo from the image >"$images/image1"'
	prepare eval 'seq 100000 >"$images/image0"'
	holds "the command finds the images" 0 \
		"4000:1 /dev/blksnap-image0 0 4000:2 /dev/blksnap-image1 0 2 $id" "" \
		-- sh -c 'echo $BLKSNAP_ORIGIN_0 $BLKSNAP_IMAGE_0 $BLKSNAP_FROZEN_0 \
			$BLKSNAP_ORIGIN_1 $BLKSNAP_IMAGE_1 $BLKSNAP_FROZEN_1 \
			$BLKSNAP_COUNT $BLKSNAP_ID'
	holds "the command reads an image" 0 "from the image" "" -- \
		sh -c 'cat "$BLKSNAP_IMAGE_1"'
	holds "no variable is left of one around it" 0 "1" "" \
		BLKSNAP_IMAGE_7=x BLKSNAP_ID=y -- \
		sh -c 'env | grep -c "BLKSNAP_IMAGE_7=\|BLKSNAP_ID="'
	expect "the snapshot is held while the command runs" 0 "" "" \
		"${settings[@]}" LOG="${taken}command
(.*
)?snapshot_destroy $plain_id
?" -- "${before[@]}" sh -c 'echo command >>"$FAKE_LOG"'
	expect "options of the command are its own" 0 "--quiet --help -- x" "" \
		"${settings[@]}" -- "${before[@]}" echo --quiet --help -- x
	check "the example of the man page" man_example_runs
}

# With another path to write to, and a device that the fake module knows.
man_example_runs()
{
	local example
	local -a words

	example=$(man_examples hold)
	example=${example//\/dev\/vda1/4000:1}
	example=${example//\/backup/$backups}
	eval "words=($example)"
	run_tool "${settings[@]}" -- hold --storage "$storage" \
		--storage-size 1M "${words[@]:1}"
	((code == 0)) && cmp "$images/image0" "$backups/vda1.img"
}

test_codes()
{
	holds "the exit code is that of the command" 7 "" "" -- sh -c 'exit 7'
	holds "a command that is killed" 137 "" "" -- sh -c 'kill -KILL $$'
	holds "SIGPIPE ends a command as usual" 141 "" "" -- sh -c 'kill -PIPE $$'
	holds "a command that is not there" 127 "" \
		"cannot run 'nonexistent': No such file or directory" -- nonexistent
	holds "a command that cannot be run" 126 "" \
		"cannot run '/etc/passwd': Permission denied" -- /etc/passwd
	expect "the take fails" 125 "" "cannot take the snapshot: .*" \
		"${settings[@]}" FAKE_FAIL=snapshot_take:ETIMEDOUT \
		LOG=".*snapshot_destroy $plain_id.*" -- "${before[@]}" echo x
	expect "the module is not loaded" 125 "" "cannot open /dev/blksnap: .*" \
		"${settings[@]}" FAKE_OPEN=ENOENT -- "${before[@]}" echo x
	expect "too little memory" 125 "" \
		"1048576 bytes of memory are too little for difference storage; give more than 4M with --storage-size, or use a disk" \
		"${settings[@]}" -- hold --storage memory --storage-size 1M \
		4000:1 4000:2 -- echo x
	expect "no command" 2 "" "hold: the command is missing; .*" LOG="" -- \
		hold 4000:1
	expect "no command behind the dashes" 2 "" \
		"hold: the command is missing; .*" LOG="" -- hold 4000:1 --
	expect "no device" 2 "" "hold: an argument is missing; .*" LOG="" -- \
		hold -- true
	expect "an unknown option" 2 "" "hold: '--foo' is no option .*" LOG="" \
		-- hold --foo 4000:1 -- true
}

# Two lines, which expect() does not like.
is_lost() # EXPRESSION EVENTS
{
	run_tool "${settings[@]}" FAKE_EVENTS="$2" -- "${before[@]}" \
		sh -c 'echo done'
	[[ $code == 124 && $output == "done" && $message =~ $1 &&
	   $message == *"the snapshot was lost while 'sh' ran: what it has read is not to be trusted" &&
	   $log =~ snapshot_destroy ]] ||
		{ echo "# $code: $message"; return 1; }
}

test_loss()
{
	check "an overflow is told" is_lost \
		"snapshot of device 4000:1 is lost: .*--storage-size" low,corrupted
	check "so is a snapshot that others have destroyed" is_lost \
		"another program has destroyed it" low,destroyed
	holds "a shortage of storage alone is no loss" 0 "done" "" \
		FAKE_EVENTS=low,low -- sh -c 'sleep 0.1; echo done'
}

# start COMMAND... - in the background, where a shell ignores SIGINT and SIGQUIT
start()
{
	: >"$temp/log"
	rm -f "$temp/ready"
	env --default-signal=INT,QUIT FAKE_LOG="$temp/log" LD_PRELOAD="$fake" "${settings[@]}" \
		ASAN_OPTIONS=verify_asan_link_order=0:exitcode=99 \
		"$tool" "${before[@]}" "$@" "$temp/ready" \
		>"$temp/output" 2>"$temp/message" </dev/null &
	tool_pid=$!
	until [[ -e $temp/ready ]]; do
		kill -0 "$tool_pid" || return 1
		sleep 0.02
	done
}

end() # SIGNAL
{
	kill "-$1" "$tool_pid"
	code=0
	wait "$tool_pid" 2>/dev/null || code=$?
}

# Not for ever: a test may fail.
waiting='touch "$0"; for i in $(seq 200); do sleep 0.05; done'

is_passed_on() # SIGNAL
{
	start sh -c "trap 'echo command >>\"\$FAKE_LOG\"; exit 9' $1; $waiting" &&
		end "$1"
	[[ $code == 9 &&
	   $(<"$temp/log") =~ ^$taken$'command\n'.*"destroy $plain_id" ]] ||
		{ echo "# $code: $(<"$temp/log")"; return 1; }
}

ends_by() # SIGNAL NUMBER
{
	start sh -c "$waiting" && end "$1"
	((code == 128 + $2)) && grep -q "^snapshot_destroy $plain_id" \
		"$temp/log" && nothing_is_left
}

next_run_destroys_it()
{
	start sh -c "echo \$\$ >'$temp/pid'; $waiting" && end KILL
	kill "$(<"$temp/pid")"
	! grep -q destroy "$temp/log" || return 1
	run_tool FAKE_LEFT=1 "${settings[@]}" -- "${before[@]}" sh -c 'echo command >>"$FAKE_LOG"'
	[[ $message == "destroyed snapshot $id, which a run that was killed has left" &&
	   $log =~ "snapshot_destroy $plain_id".*create.*take.*command.*destroy ]] &&
		nothing_is_left
}

# As after nohup; a shell gives it to what it starts.
ignored_stays_ignored()
{
	(
		trap '' HUP
		start sh -c "$waiting" && kill -HUP "$tool_pid"
		sleep 0.2
		kill -0 "$tool_pid" && end TERM
		((code == 143))
	)
}

test_signals()
{
	local signal

	for signal in INT TERM HUP; do
		check "SIG$signal is passed on, and the end waited for" \
			is_passed_on "$signal"
	done
	check "SIGTERM ends the command and the snapshot" ends_by TERM 15
	check "SIGHUP does, too" ends_by HUP 1
	check "SIGQUIT does, too" ends_by QUIT 3
	check "SIGHUP that was ignored still is" ignored_stays_ignored
	check "after SIGKILL the next run destroys the snapshot" \
		next_run_destroys_it
}

all_tests()
{
	local test

	for test in ${ONLY:-command codes loss signals}; do
		"test_$test"
	done
}

run_all_tests
