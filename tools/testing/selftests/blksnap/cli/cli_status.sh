#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# What the tool makes of what the module tells in sysfs and debugfs: as tables, as
# JSON, and for Prometheus; and showing it again and again

# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"

id=a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf
second_id=b0b1b2b3-b4b5-b6b7-b8b9-babbbcbdbebf
generation=10111213-1415-1617-1819-1a1b1c1d1e1f
sys=$temp/sys
debugfs=$sys/sys/kernel/debug/blksnap
no_debugfs="cannot read /sys/kernel/debug/blksnap: what has changed and fill rates are not shown; mount it with 'mount -t debugfs none /sys/kernel/debug'"

# write_image NUMBER SNAPSHOT ERROR FROZEN - with other figures for each number
write_image()
{
	local dir=$sys/sys/block/blksnap-image$1/blksnap

	mkdir -p "$dir"
	echo "$2" >"$dir/snapshot"
	echo "$3" >"$dir/error"
	echo "$4" >"$dir/filesystem_frozen"
	echo $((1048576 + $1)) >"$dir/copied_bytes"
	echo $((524288 + $1)) >"$dir/stored_bytes"
	echo $((65536 + $1)) >"$dir/memory_bytes"
	echo $((3 + $1)) >"$dir/held_writes"
	echo $((500 + $1)) >"$dir/held_writes_total"
	echo $((1500000007 + $1)) >"$dir/held_ns_total"
	echo 8388608 >"$dir/storage_bytes"
	echo 2097152 >"$dir/storage_free_bytes"
}

# The first snapshot fills up; the second one is created, has none, and does not.
write_debugfs()
{
	mkdir -p "$debugfs"
	cat >"$debugfs/snapshots" <<-END
	id=$id state=taken age_ms=1 storage_bytes=8388608 storage_free_bytes=2097152 fill_bytes_per_second=10240 devices=4000:200
	id=$second_id state=created age_ms=1 storage_bytes=0 storage_free_bytes=0 fill_bytes_per_second=0 devices=4000:100
	END
	cat >"$debugfs/trackers" <<-END
	device=4000:11 generation=$id began=lost snap_number=9 block_bytes=1 blocks=1 memory_bytes=1 changed_blocks=1
	device=4000:1 generation=$generation began=resized snap_number=3 block_bytes=65536 blocks=6 memory_bytes=8224 changed_blocks=${1:-2}
	END
}

# What the images of both are is the same here, so each name says whose it is.
write_sys()
{
	rm -rf "$sys"
	write_image 0 "$id" 0 1
	write_image 1 "$second_id" 28 0
	write_debugfs
}

# status_is NAME PYTHON_EXPRESSION [VARIABLE=VALUE]... -- ARGUMENT...
status_is()
{
	local name=$1 expression=$2

	shift 2
	[[ $counting ]] || run_tool FAKE_SYS="$sys" "$@"
	check "$name" python3 -c '
import json, sys
d = json.load(open(sys.argv[1]))
s = d["snapshots"]
if not eval("(" + sys.argv[2] + ")"):
    print("# " + json.dumps(d))
    sys.exit(1)' "$temp/output" "$expression"
}

test_table()
{
	expect "status" 0 "SNAPSHOT                              STATE    AGE   STORAGE  USED  FILL/S  FULL IN  CREATOR             DEVICES
$id  created  12 s       8M   75%     10K  3 min    backup-agent\[77\]    4000:200
$second_id  created  3 h         0     -       0  -        backup-agent\[1234\]  4000:100

ORIGIN  IMAGE  COPIED  STORED  MEMORY  HELD  FROZEN  ERROR

DEVICE  MAJ:MIN  SIZE  CHANGED  BLOCKS  SNAPSHOTS  MEMORY  BEGAN    ENDS  GENERATION
-       4000:1   380K     128K       2          3      8K  resized  -     $generation
-       4000:2      -        -       -          -       -  -        -     -" "" \
		FAKE_SYS="$sys" -- status
	expect "images" 0 ".*
ORIGIN  IMAGE                COPIED  STORED  MEMORY  HELD  FROZEN  ERROR
4000:5  /dev/blksnap-image0      1M    512K     64K     3  yes     -
4000:6  /dev/blksnap-image1       -       -       -     -  -       -
4000:5  /dev/blksnap-image0       -       -       -     -  -       -
4000:6  /dev/blksnap-image1      1M    512K     64K     4  no      ENOSPC
.*" "" FAKE_SYS="$sys" FAKE_IMAGES=4000:5,4000:6 -- status
	expect "status without titles" 0 "$id .*

-       4000:1 .*" "" FAKE_SYS="$sys" -- status --no-header
	expect "status without the module" 1 "" ".* is not loaded; .*" \
		FAKE_OPEN=ENOENT -- status
	expect "snapshots cannot be listed" 1 "" "cannot list the snapshots: .*" \
		FAKE_FAIL=snapshot_collect:EIO -- status
	expect "trackers cannot be listed" 1 "" "cannot list the tracked devices: .*" \
		FAKE_FAIL=tracker_collect:EIO -- status
	expect "without debugfs the rest is told, and what to do" 0 \
		".* - +- +- +-  .*4000:1 +380K +- +- +3 .*" "$no_debugfs" \
		FAKE_SYS=/nonexistent -- status
}

test_json()
{
	status_is "status, JSON" "s[0]['storage_used_bytes'] == 6291456 and
		s[0]['storage_bytes'] == 8388608 and
		s[0]['storage_free_bytes'] == 2097152 and
		s[0]['fill_bytes_per_second'] == 10240 and
		s[0]['full_in_seconds'] == 204 and s[0]['age_ms'] == 12345 and
		s[0]['creator']['pid'] == 77 and
		s[1]['storage_bytes'] == 0 and 'full_in_seconds' not in s[1] and
		not [k for k in s[0] if k.endswith('cell')]" -- status --json
	status_is "images, JSON" "s[0]['images'][0] == {'origin': None,
			'origin_number': '4000:5', 'image': '/dev/blksnap-image0',
			'image_number': '3999:0', 'copied_bytes': 1048576,
			'stored_bytes': 524288, 'memory_bytes': 65536,
			'held_writes': 3, 'held_writes_total': 500,
			'held_ns_total': 1500000007, 'filesystem_frozen': True,
			'errno': 0, 'error': None} and
		s[1]['images'][1]['error'] == 'ENOSPC' and
		s[1]['images'][1]['errno'] == 28 and
		not s[1]['images'][1]['filesystem_frozen']" \
		FAKE_IMAGES=4000:5,4000:6 -- status --format json
	status_is "image that is another snapshot's by now" \
		"'copied_bytes' not in s[0]['images'][1] and
		'copied_bytes' not in s[1]['images'][0]" \
		FAKE_IMAGES=4000:5,4000:6 -- status --format json
	status_is "trackers, JSON" "d['trackers'][0] == {'device': None,
			'device_number': '4000:1', 'capacity_bytes': 389120,
			'block_size_bytes': 65536, 'block_count': 6,
			'snap_number': 3, 'generation': '$generation',
			'changed_blocks': 2, 'changed_bytes': 131072,
			'began': 'resized', 'memory_bytes': 8224} and
		d['trackers'][1] == {'device': None, 'device_number': '4000:2'}" \
		-- status --json
	[[ $counting ]] || write_debugfs "6 ends=wrapped"
	status_is "no more has changed than there is" \
		"d['trackers'][0]['changed_bytes'] == 389120 and
		d['trackers'][0]['ends'] == 'wrapped'" -- status --json
	[[ $counting ]] || write_debugfs
	status_is "storage is told by an image if not by debugfs" \
		"s[0]['storage_used_bytes'] == 6291456 and
		'fill_bytes_per_second' not in s[0] and
		'changed_blocks' not in d['trackers'][0]" \
		FAKE_SYS="$temp/sysfs" FAKE_IMAGES=4000:5 -- status --json
}

# What Prometheus reads, one sample per line, sorted.
samples()
{
	grep -v '^#' "$1" | sort
}

prometheus_values()
{
	local created now

	run_tool FAKE_SYS="$sys" FAKE_IMAGES=4000:5,4000:6 FAKE_COMM=$'q"\\\n' -- \
		status --format prometheus
	now=$(date +%s)
	created=$(sed -n "s/^blksnap_snapshot_created_timestamp_seconds{snapshot=\"$id\"} \([0-9]*\)\..*/\1/p" "$temp/output")
	[[ $code == 0 && $created -ge $((now - 20)) && $created -le $((now - 12)) ]] ||
		{ echo "# created $created, now $now"; return 1; }
	samples "$temp/output" | grep -v created_timestamp >"$temp/samples"
	diff - "$temp/samples" <<-END
	blksnap_image_copied_bytes{snapshot="$id",device="4000:5"} 1048576
	blksnap_image_copied_bytes{snapshot="$second_id",device="4000:6"} 1048577
	blksnap_image_error{snapshot="$id",device="4000:5"} 0
	blksnap_image_error{snapshot="$second_id",device="4000:6"} 28
	blksnap_image_filesystem_frozen{snapshot="$id",device="4000:5"} 1
	blksnap_image_filesystem_frozen{snapshot="$second_id",device="4000:6"} 0
	blksnap_image_held_seconds_total{snapshot="$id",device="4000:5"} 1.500000007
	blksnap_image_held_seconds_total{snapshot="$second_id",device="4000:6"} 1.500000008
	blksnap_image_held_writes_total{snapshot="$id",device="4000:5"} 500
	blksnap_image_held_writes_total{snapshot="$second_id",device="4000:6"} 501
	blksnap_image_memory_bytes{snapshot="$id",device="4000:5"} 65536
	blksnap_image_memory_bytes{snapshot="$second_id",device="4000:6"} 65537
	blksnap_image_stored_bytes{snapshot="$id",device="4000:5"} 524288
	blksnap_image_stored_bytes{snapshot="$second_id",device="4000:6"} 524289
	blksnap_image_writes_waiting{snapshot="$id",device="4000:5"} 3
	blksnap_image_writes_waiting{snapshot="$second_id",device="4000:6"} 4
	blksnap_snapshot_info{snapshot="$id",state="taken",creator="q\"\\\\?"} 1
	blksnap_snapshot_info{snapshot="$second_id",state="taken",creator="q\"\\\\?"} 1
	blksnap_snapshot_storage_size_bytes{snapshot="$id"} 8388608
	blksnap_snapshot_storage_size_bytes{snapshot="$second_id"} 0
	blksnap_snapshot_storage_used_bytes{snapshot="$id"} 6291456
	blksnap_snapshot_storage_used_bytes{snapshot="$second_id"} 0
	blksnap_snapshots 2
	blksnap_tracker_changed_bytes{device="4000:1"} 131072
	blksnap_tracker_info{device="4000:1",generation="$generation",began="resized"} 1
	blksnap_tracker_memory_bytes{device="4000:1"} 8224
	blksnap_tracker_size_bytes{device="4000:1"} 389120
	blksnap_tracker_snapshot_number{device="4000:1"} 3
	blksnap_trackers 2
	END
}

# What promtool finds fault with, it prints.
promtool_likes() # [VARIABLE=VALUE]...
{
	local result=0

	run_tool FAKE_SYS="$sys" "$@" -- status --format prometheus
	promtool check metrics <"$temp/output" >"$temp/promtool" 2>&1 || result=1
	sed 's/^/# /' "$temp/promtool"
	[[ $code == 0 && $result == 0 && ! -s $temp/promtool ]]
}

check_promtool() # NAME COMMAND...
{
	if type -P promtool >/dev/null; then
		check "$@"
	else
		skip "$1" "no promtool (Debian package prometheus)"
	fi
}

# Those of the documentation are those that there are.
metrics_are_documented()
{
	local rst

	rst=$(dirname "$0")/../../../../../Documentation/block/blksnap.rst
	run_tool FAKE_SYS="$sys" FAKE_IMAGES=4000:5,4000:6 -- status --format prometheus
	# shellcheck disable=SC2016 # what the documentation has
	diff <(sed -n '/^Metrics$/,/^Examples$/s/^``\(blksnap_[a-z_]*\)``.*/\1/p' "$rst" | sort) \
		<(sed -n 's/^# TYPE \([a-z_]*\) .*/\1/p' "$temp/output" | sort)
}

dashboard=$(dirname "$0")/../../../../blksnap/grafana-dashboard.json

# dashboard_queries - what it asks Prometheus for, a line each
dashboard_queries()
{
	python3 - "$dashboard" <<-'END'
	import json, sys
	for panel in json.load(open(sys.argv[1]))["panels"]:
	    for target in panel["targets"]:
	        print(target["expr"].replace("$instance", ".*"))
	END
}

# It would show nothing of a metric that has another name.
dashboard_asks_for_what_there_is()
{
	local name

	run_tool FAKE_SYS="$sys" FAKE_IMAGES=4000:5,4000:6 -- status --format prometheus
	for name in $(dashboard_queries | grep -oE 'blksnap_[a-z_]+' | sort -u); do
		grep -q "^# TYPE $name " "$temp/output" ||
			{ echo "# no metric $name"; return 1; }
	done
	[[ $name ]]
}

promtool_understands_dashboard()
{
	{
		printf 'groups:\n- name: dashboard\n  rules:\n'
		dashboard_queries |
			awk '{ printf "  - record: panel:%d\n    expr: '\''%s'\''\n", NR, $0 }'
	} >"$temp/rules.yml"
	promtool check rules "$temp/rules.yml" >"$temp/promtool" 2>&1 && return
	sed 's/^/# /' "$temp/promtool"
	return 1
}

# The file is complete at any time, and others may read it.
output_replaces()
{
	local file=$temp/textfile/blksnap.prom before

	mkdir -p "$temp/textfile"
	echo old >"$file"
	before=$(stat -c %i "$file")
	run_tool FAKE_SYS="$sys" -- status --format prometheus --output "$file"
	[[ $code == 0 && ! $output && ! $message ]] &&
		grep -q '^blksnap_snapshots 2$' "$file" &&
		[[ $(stat -c %i "$file") != "$before" && $(stat -c %a "$file") == 644 &&
		   $(ls -A "$temp/textfile") == blksnap.prom ]]
}

# The old one stays, and nothing beside it.
output_that_fails_changes_nothing()
{
	local file=$temp/textfile/blksnap.prom code=0

	echo old >"$file"
	(
		trap '' XFSZ
		ulimit -f 0
		FAKE_SYS=$sys LD_PRELOAD=$fake ASAN_OPTIONS=verify_asan_link_order=0 \
			"$tool" status --output "$file" 2>/dev/null
	) || code=$?
	[[ $code == 1 && $(<"$file") == old && $(ls -A "$temp/textfile") == blksnap.prom ]]
}

test_prometheus()
{
	check "status for Prometheus" prometheus_values
	check_promtool "promtool has no objection" \
		promtool_likes FAKE_IMAGES=4000:5,4000:6
	check_promtool "promtool has no objection if there is little" \
		promtool_likes FAKE_TRACKERS=0
	check "all metrics are documented" metrics_are_documented
	check "the dashboard asks for metrics that there are" \
		dashboard_asks_for_what_there_is
	check_promtool "promtool understands the dashboard" \
		promtool_understands_dashboard
	check "output replaces a file" output_replaces
	check "output that cannot be written changes nothing" \
		output_that_fails_changes_nothing
	expect "output to a folder that is not there" 1 "" \
		"cannot create '/nonexistent/x\.[A-Za-z0-9]{6}': No such file or directory" \
		FAKE_SYS="$sys" -- status --output /nonexistent/x
	expect "unknown format" 2 "" \
		"--format 'xml': must be table, json or prometheus" LOG="" -- \
		status --format xml
	expect "top is not for Prometheus" 2 "" \
		"--format 'prometheus': must be table or json" LOG="" -- \
		top --format prometheus
	expect "status takes no device" 2 "" ".*'4000:1' is too many; .*" LOG="" -- \
		status 4000:1
}

# Ends with these keys, or with "stopped": while the terminal is stopped, in the middle
# of a page, a signal comes.  In good time, and leaves the terminal as it was.
keys_end_top()
{
	FAKE_SYS=$sys LD_PRELOAD='' timeout 60 python3 - "$tool" "$fake" "$1" <<-'END'
	import fcntl, os, pty, signal, sys, termios, time
	tool, fake, keys = sys.argv[1:]
	os.environ["LD_PRELOAD"] = fake
	os.environ["ASAN_OPTIONS"] = "verify_asan_link_order=0"
	pid, master = pty.fork()
	if not pid:
	    sys.stdin.readline()
	    os.execv(tool, [tool, "top"])
	before = termios.tcgetattr(master)
	fcntl.ioctl(master, termios.TIOCSWINSZ, b"\x05\x00\x28\x00\0\0\0\0")
	os.write(master, b"\n")
	text = b""
	# Each page begins at the top; the first clears what was there.
	while text.count(b"\x1b[H") < 4:
	    text += os.read(master, 4096)
	page = text.split(b"\x1b[H")[2].replace(b"\x1b[K", b"").replace(b"\x1b[J", b"")
	lines = page.split(b"\r\n")
	assert lines[0].startswith(b"SNAPSHOT ") and lines.pop() == b"", lines
	assert len(lines) == 4 and max(map(len, lines)) == 40, lines
	if keys == "stopped":
	    os.write(master, b"\x13")
	    time.sleep(3)
	    os.kill(pid, signal.SIGTERM)
	else:
	    os.write(master, keys.encode().decode("unicode_escape").encode())
	begin = time.time()
	done = 0
	while not done:
	    assert time.time() < begin + 20, "it goes on"
	    time.sleep(0.05)
	    done, status = os.waitpid(pid, os.WNOHANG)
	assert os.waitstatus_to_exitcode(status) == 0, status
	assert termios.tcgetattr(master) == before, "the terminal is another one"
	END
}

test_top()
{
	local title='SNAPSHOT +STATE +AGE .*'

	expect "top off a terminal" 0 "$title
.*GENERATION
.*

$title
.*GENERATION
.*" "" FAKE_SYS="$sys" -- top --count 2
	expect "top, JSON" 0 "\{[^
]*storage_used_bytes[^
]*\}
\{[^
]*storage_used_bytes[^
]*\}" "" FAKE_SYS="$sys" -- top --format json --count 2
	expect "top without the module" 1 "" ".* is not loaded; .*" \
		FAKE_SYS="$sys" FAKE_OPEN=ENOENT -- top
	expect "top, count" 2 "" "--count '0': must be a number from 1 on" LOG="" -- \
		top --count 0
	check "top ends with q" keys_end_top q
	check "top ends with Ctrl-C" keys_end_top '\x03'
	check "top ends with Ctrl-\\, in good order too" keys_end_top '\x1c'
	check "top ends while the terminal is stopped" keys_end_top stopped
}

all_tests()
{
	if [[ ! $counting ]]; then
		write_sys
		# The same, without debugfs.
		cp -a "$sys" "$temp/sysfs"
		rm -r "$temp/sysfs/sys/kernel"
	fi
	test_table
	test_json
	test_prometheus
	test_top
}

run_all_tests
