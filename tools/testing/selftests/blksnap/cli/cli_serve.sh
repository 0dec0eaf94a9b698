#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Serve: arguments, bases that do not fit, and what clients are told
#
# The server is the real one, but the images are files.  That devices are served, and
# restored, is tested in a guest.

# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"

run=$temp/run
images=$temp/images
programs=$temp/programs
keys=$temp/keys
socket=$run/nbd.sock
generation=10111213-1415-1617-1819-1a1b1c1d1e1f
server=
tool_seconds=60
mkdir -p "$run" "$images" "$programs"
ln -s "$(type -P timeout)" "$programs/timeout"
export BLKSNAP_RUN_DIR=$run

# What the module says: an image with blocks 1, 2, 3 and 5 of six changed since 0.
truncate -s $((6 * 65536 - 4096)) "$images/image0" "$images/image1"
fake_variables=(FAKE_IMAGES=4000:1 FAKE_IMAGE_DIR="$images" "FAKE_MAP=0,1,2,2,0,3")

# The real server, but for the driver and the path of the image.
daemon=$(type -P qemu-storage-daemon || true)
mkdir "$temp/bin"
cat >"$temp/bin/qemu-storage-daemon" <<-'END'
	#!/usr/bin/env python3
	import ctypes, os, socket, subprocess, sys, threading
	def end_with_parent():
	    ctypes.CDLL(None).prctl(1, 9)
	def pass_on(source, sink, images):
	    while True:
	        data = source.recv(1 << 20)
	        if not data:
	            break
	        data = data.replace(b'"host_device"', b'"file"')
	        data = data.replace(b"/dev/blksnap-image", images)
	        sink.sendall(data)
	del os.environ["LD_PRELOAD"]
	images = os.environ["FAKE_IMAGE_DIR"].encode() + b"/image"
	tool = socket.fromfd(3, socket.AF_UNIX, socket.SOCK_STREAM)
	ours, theirs = socket.socketpair()
	os.dup2(theirs.fileno(), 3)
	daemon = subprocess.Popen([os.environ["DAEMON"]] + sys.argv[1:], pass_fds=[3],
	                          preexec_fn=end_with_parent)
	os.close(3)
	theirs.close()
	for ends in (tool, ours), (ours, tool):
	    threading.Thread(target=pass_on, args=(*ends, images), daemon=True).start()
	sys.exit(daemon.wait())
END
# The same for the other one.
nbdkit=$(type -P nbdkit || true)
cat >"$temp/bin/nbdkit" <<-'END'
	#!/bin/bash
	unset LD_PRELOAD
	exec "$NBDKIT" "${@/#\/dev\/blksnap-image/$FAKE_IMAGE_DIR/image}"
END
chmod +x "$temp/bin/qemu-storage-daemon" "$temp/bin/nbdkit"
printf 'client:%064x\n' 12345 >"$keys"
chmod 600 "$keys"
cleanup()
{
	[[ ! $server ]] || kill -KILL "$server"
	rm -rf "$temp"
}
trap cleanup EXIT

usage() # NAME MESSAGE ARGUMENT...
{
	local name=$1 message=$2

	shift 2
	expect "$name" 2 "" "$message" "${fake_variables[@]}" -- serve "$@"
	nothing_is_left "$name"
}

refuses() # NAME CODE MESSAGE [VARIABLE=VALUE]... -- ARGUMENT...
{
	local name=$1 code=$2 message=$3

	shift 3
	expect "$name" "$code" "" "$message" "${fake_variables[@]}" PATH="$temp/bin:$PATH" \
		DAEMON="$daemon" "$@"
	nothing_is_left "$name"
}

nothing_is_left() # NAME
{
	check "$1: nothing is left" test -z "$(ls -A "$run")"
}

test_arguments()
{
	usage "no image" "serve: an argument is missing; it takes IMAGE\.\.\."
	usage "a device that is no image" \
		"'4000:1' is no image; 'blksnap snapshot images' shows which there are" 4000:1
	usage "an image twice" \
		"'3999:0' and '3999:0' are the same device; name each once" 3999:0 3999:0
	usage "a base that is no number" \
		"--since 'x': must be the number of a snapshot, 0 to 255, or a change ID .*" \
		--since x 3999:0
	usage "a base that is too great" "--since '256': must be .*" --since 256 3999:0
	usage "a change ID without a number" "--since '$generation/': must be .*" \
		--since "$generation/" 3999:0
	usage "a change ID with half a generation" "--since '1011/1': must be .*" \
		--since 1011/1 3999:0
	usage "a base for another name" \
		"--since 'vda=1': no image has this name; '4000-1' is one here" \
		--since vda=1 3999:0
	usage "two bases" "--since '2': '4000-1' has a base already" \
		--since 1 --since 2 3999:0
	usage "a socket and the network" "--socket and --listen exclude each other" \
		--socket /s --listen localhost --tls-psk "$keys" 3999:0
	usage "the network without keys" "--listen needs --tls-psk, .*" \
		--listen localhost 3999:0
	usage "keys without the network" "--tls-psk is for --listen, add it" \
		--tls-psk "$keys" 3999:0
	usage "no address" "--listen ':1': must be ADDRESS or ADDRESS:PORT, .*" \
		--listen :1 --tls-psk "$keys" 3999:0
	usage "no port" "--listen 'a:': must be ADDRESS or ADDRESS:PORT, .*" \
		--listen a: --tls-psk "$keys" 3999:0
	usage "a port that cannot be" "--listen 'a:65536': must be .*" \
		--listen a:65536 --tls-psk "$keys" 3999:0
	usage "an address of IPv6 without its end" "--listen '\[::1': must be .*" \
		--listen '[::1' --tls-psk "$keys" 3999:0
	usage "keys that are not there" \
		"--tls-psk '/none': No such file or directory; 'psktool .*" \
		--listen localhost --tls-psk /none 3999:0
	install -m 644 "$keys" "$temp/open"
	usage "keys for all to read" \
		"--tls-psk '$temp/open': other users can read the keys; 'chmod 600' .*" \
		--listen localhost --tls-psk "$temp/open" 3999:0
	install -m 600 /dev/null "$temp/empty"
	usage "an empty file of keys" "--tls-psk '$temp/empty': must be a file with lines .*" \
		--listen localhost --tls-psk "$temp/empty" 3999:0
	usage "a long path" "--socket '/a*': is too long for a socket; at most [0-9]+ .*" \
		--socket "/$(printf 'a%.0s' {1..100})" 3999:0
	usage "a bitmap without a name" "--bitmap '': must be a name of 1 to 200 .*" \
		--bitmap '' 3999:0
	usage "changes only, since no snapshot" "--changes-only needs --since, .*" \
		--changes-only 3999:0
	usage "changes only of several" "--changes-only is for one image; .*" \
		--changes-only --since 1 3999:0 3999:1
	fake_variables[0]="FAKE_IMAGES=4000:1,4000:1"
	usage "a base for one of several" \
		"'3999:0' and '3999:1' would both be called '4000-1'; start a server for each" \
		--since 1 3999:0 3999:1
	fake_variables[0]="FAKE_IMAGES=4000:1,4000:3"
	usage "a base for no one" \
		"--since '1': which image is meant\? With several it takes NAME=1, and '4000-1' is a NAME here" \
		--since 1 3999:0 3999:1
	fake_variables[0]=FAKE_IMAGES=4000:1
}

test_refused()
{
	refuses "a base that has not come" 3 \
		"'4000-1': the device has only come to snapshot 3 in this generation, not to 4; a full backup is due" \
		-- serve --since 4 3999:0
	refuses "another generation" 3 \
		"'4000-1': the device is in generation $generation now; a full backup is due" \
		-- serve --since 00111213-1415-1617-1819-1a1b1c1d1e1f/1 3999:0
	refuses "a map that cannot be read" 1 \
		"'3999:0': cannot read the change map: .*" \
		FAKE_FAIL=tracker_read_cbt_map:EIO -- serve --since 1 3999:0
	refuses "an image that cannot be opened" 1 \
		"cannot open '/dev/blksnap-image0': No such file or directory" \
		FAKE_IMAGE_DIR=/none -- serve --since 1 3999:0
	refuses "no module" 1 "cannot open .*" FAKE_OPEN=ENOENT -- serve 3999:0
	refuses "no server" 1 \
		"cannot serve the images: 'qemu-storage-daemon' is not installed; on Debian: apt-get install qemu-system-common" \
		PATH="$programs" -- serve 3999:0
	refuses "no other server" 1 \
		"cannot serve the image: 'nbdkit' is not installed; on Debian: apt-get install nbdkit" \
		PATH="$programs" -- serve --changes-only --since 1 3999:0
	refuses "a folder that is not there" 1 \
		"cannot make a folder in '/none': No such file or directory" \
		-- serve --socket /none/s 3999:0
	touch "$temp/file"
	refuses "a file in place of the socket" 1 \
		"'$temp/file' is there already; remove it, or name another one by --socket" \
		-- serve --socket "$temp/file" 3999:0
	check "the file is still there" test -f "$temp/file"
	if [[ ! $daemon ]]; then
		skip "what the server says" "no qemu-storage-daemon (package qemu-system-common)"
		return
	fi
	refuses "no libnbd" 1 "libnbd is not installed; .*" FAKE_NO_LIBRARY=libnbd.so.0 \
		-- serve --since 1 3999:0
	refuses "an image of another size" 1 "cannot make the bitmap of what changed: .*" \
		FAKE_MAP=0,1,2,2,0,3,3 -- serve --since 1 3999:0
	refuses "an address of another machine" 1 "cannot listen for clients: .*" \
		-- serve --listen 192.0.2.1 --tls-psk "$keys" 3999:0
}

# start_server [VARIABLE=VALUE]... -- ARGUMENT... - until it is ready
start_server()
{
	local -a variables=("${fake_variables[@]}" DAEMON="$daemon" NBDKIT="$nbdkit" PATH="$temp/bin:$PATH"
		LD_PRELOAD="$fake" ASAN_OPTIONS=verify_asan_link_order=0:exitcode=99)

	[[ ! $counting ]] || return 0
	while [[ $1 != -- ]]; do
		variables+=("$1")
		shift
	done
	shift
	: >"$temp/output"
	# The tool itself, so that a signal is not that of another program.
	env "${variables[@]}" "$tool" serve "$@" >"$temp/output" 2>"$temp/message" &
	server=$!
	while [[ ! -s $temp/output ]] && kill -0 "$server" 2>/dev/null; do
		sleep 0.05
	done
	sed 's/^/# /' "$temp/message"
}

# stop_server SIGNAL CODE - does it end with this code?
stop_server()
{
	local code=0

	kill "-$1" "$server" || return 1
	wait "$server" || code=$?
	server=
	((code == $2)) || { echo "# it ends with $code"; return 1; }
}

# map_is CONTEXT MAP URI - what a client is told: offset, length, type in each line
map_is()
{
	local map

	map=$(timeout 20 nbdinfo --map="$1" "$3" 2>&1 |
	      awk '{ printf "%s%d %d %d", (NR > 1 ? "," : ""), $1, $2, $3 }')
	[[ $map == "$2" ]] || { echo "# the map is '$map'"; return 1; }
}

uri() # EXPORT
{
	echo "nbd+unix:///$1?socket=$socket"
}

# A block of 64K is marked as a whole, the last one is cut off by the end of the disk.
map_since_1="0 131072 0,131072 131072 1,262144 65536 0,327680 61440 1"

has_mode_0600()
{
	[[ $(stat -c '%a %F' "$socket") == "600 socket" ]]
}

cannot_write()
{
	! timeout 20 qemu-io -f raw -c 'write 0 512' "$(uri 4000-1)" >/dev/null 2>&1
}

# Other users may not even see a socket that is not ready.
only_the_socket_is_there()
{
	[[ $(ls -A "$run") == nbd.sock ]]
}

result_has() # KEY EXPRESSION
{
	[[ $(python3 -c 'import json, sys
print(json.load(open(sys.argv[1]))["exports"][0][sys.argv[2]])' "$temp/output" "$1") =~ ^($2)$ ]]
}

test_one_image()
{
	start_server -- --json --since 1 3999:0
	check "since 1: the bitmap" map_is qemu:dirty-bitmap:changes "$map_since_1" "$(uri 4000-1)"
	check "it cannot be written" cannot_write
	check "the mode of the socket" has_mode_0600
	check "no other file" only_the_socket_is_there
	check "JSON: change ID" result_has change_id "$generation/3"
	check "JSON: base" result_has since 1
	check "JSON: changed" result_has changed_bytes $((3 * 65536 - 4096))
	check "JSON: bitmap" result_has bitmap changes
	check "JSON: URI" result_has uri "nbd\+unix:///4000-1\?socket=$socket"
	expect "the socket is in use" 1 "" \
		"'$socket' is there already; end the server that has it, or name another one by --socket" \
		"${fake_variables[@]}" -- serve 3999:0
	check "a signal is a good end" stop_server TERM 0
	nothing_is_left "after a signal"
}

has_no_bitmap()
{
	timeout 20 nbdinfo --no-content --json "$(uri 4000-1)" >"$temp/info" &&
		! grep qemu:dirty-bitmap "$temp/info"
}

test_bases()
{
	start_server -- --since 3 3999:0
	check "since the last: nothing changed" map_is qemu:dirty-bitmap:changes \
		"0 389120 0" "$(uri 4000-1)"
	check "an interrupt is a good end" stop_server INT 0
	start_server -- --since "$generation/2" --bitmap b 3999:0
	check "a change ID, and a bitmap of another name" map_is qemu:dirty-bitmap:b \
		"0 327680 0,327680 61440 1" "$(uri 4000-1)"
	check "its end" stop_server TERM 0
	start_server -- 3999:0
	check "no base, no bitmap" has_no_bitmap
	check "the end of that" stop_server HUP 0
	start_server FAKE_IMAGES=4000:1,4000:1 -- --since 4000-1=0 3999:1
	check "a name where there is one image" map_is qemu:dirty-bitmap:changes \
		"0 65536 0,65536 196608 1,262144 65536 0,327680 61440 1" "$(uri 4000-1)"
	check "the end of this" stop_server QUIT 0
}

# Killed, it can clean up nothing.
test_killed()
{
	start_server -- --since 1 3999:0
	check "killed" stop_server KILL 137
	check "its socket is left" test -S "$socket"
	start_server -- --since 1 3999:0
	check "it does not stand in the way" map_is qemu:dirty-bitmap:changes \
		"$map_since_1" "$(uri 4000-1)"
	check "the end after it" stop_server TERM 0
	nothing_is_left "after one that was killed"
}

server_ends_without_its_daemon()
{
	local code=0

	pkill -KILL -P "$server" || return 1
	wait "$server" || code=$?
	server=
	((code == 1)) && [[ $(<"$temp/message") == \
"blksnap: the images are not served any more: 'qemu-storage-daemon' has ended with status 137" ]]
}

test_daemon_killed()
{
	start_server -- --since 1 3999:0
	check "the daemon is killed" server_ends_without_its_daemon
	nothing_is_left "after a daemon that was killed"
}

# refused URI - the client says so, it does not wait
refused()
{
	local code=0

	timeout 20 nbdinfo --no-content "$1" >/dev/null 2>&1 || code=$?
	((code == 1)) || { echo "# the client ends with $code"; return 1; }
}

test_network()
{
	local port=$((20000 + RANDOM % 10000))
	local place=127.0.0.1:$port/4000-1

	printf 'client:%064x\n' 54321 >"$temp/other"
	chmod 600 "$temp/other"
	start_server -- --json --listen "127.0.0.1:$port" --tls-psk "$keys" --since 1 3999:0
	check "with the key" map_is qemu:dirty-bitmap:changes "$map_since_1" \
		"nbds://client@$place?tls-psk-file=$keys"
	check "without a key" refused "nbd://$place"
	check "without TLS for the key" refused "nbd://client@$place?tls-psk-file=$keys"
	check "with another key" refused "nbds://client@$place?tls-psk-file=$temp/other"
	check "with the key of another user" refused "nbds://other@$place?tls-psk-file=$keys"
	check "JSON: URI of the network" result_has uri "nbds://$place"
	check "the end of the network" stop_server TERM 0
	nothing_is_left "after the network"
}

# Copies what is allocated, and leaves the rest of the target alone.
takes_changes_only()
{
	yes new | dd of="$images/image0" bs=64k count=6 iflag=fullblock status=none
	truncate -s $((6 * 65536 - 4096)) "$images/image0"
	yes old | dd of="$temp/target" bs=64k count=6 iflag=fullblock status=none
	truncate -s $((6 * 65536 - 4096)) "$temp/target"
	cp "$temp/target" "$temp/wanted"
	dd if="$images/image0" of="$temp/wanted" bs=64k skip=2 seek=2 count=2 conv=notrunc \
		status=none
	dd if="$images/image0" of="$temp/wanted" bs=64k skip=5 seek=5 conv=notrunc status=none
	timeout 20 qemu-img convert -n --target-is-zero -f raw -O raw "$(uri 4000-1)" \
		"$temp/target" && cmp "$temp/wanted" "$temp/target"
}

warns()
{
	[[ $(<"$temp/message") == \
"blksnap: what has not changed is shown as holes of zeros: without --destination-is-zero "* ]]
}

test_changes_only()
{
	if [[ ! $nbdkit ]]; then
		skip "changes only" "no nbdkit (package nbdkit)"
		return
	fi
	start_server -- --changes-only --since 1 3999:0
	check "changes only: a warning" warns
	check "changes only: what is allocated" map_is base:allocation \
		"0 131072 3,131072 131072 0,262144 65536 3,327680 61440 0" "$(uri 4000-1)"
	check "changes only: the mode of the socket" has_mode_0600
	check "changes only: no other file" only_the_socket_is_there
	check "changes only: a copy" takes_changes_only
	check "changes only: its end" stop_server TERM 0
	nothing_is_left "changes only"
}

all_tests()
{
	test_arguments
	test_refused
	if [[ ! $daemon ]] || ! type -P nbdinfo >/dev/null; then
		skip "to serve" "no qemu-storage-daemon or nbdinfo (qemu-system-common, libnbd-bin)"
		return
	fi
	test_one_image
	test_bases
	test_killed
	test_daemon_killed
	test_network
	test_changes_only
}

run_all_tests
