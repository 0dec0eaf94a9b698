#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Images served over NBD to clients that know nothing of blksnap
#
# The first disk is mounted and is written to all the time.  A full copy of it is taken
# by a client, and then, with the bitmap, what changed by one client after the other;
# each has to come to what the image holds.  The storage is on the third disk, the files
# are on the fourth one.

# The tests are called by name from the table at the end.
# shellcheck disable=SC2317
set -uo pipefail
# shellcheck source-path=SCRIPTDIR source=../rig/ktap.sh
. ktap.sh

origin=$(readlink -f /dev/vda)
second=$(readlink -f /dev/vdb)
large=$(readlink -f /dev/vde)
name=${origin##*/}
socket=/run/blksnap/nbd.sock
uri="nbd+unix:///$name?socket=$socket"
context=qemu:dirty-bitmap:changes
dirty="driver=nbd,export=$name,server.type=unix,server.path=$socket,x-dirty-bitmap=$context"
nr_ranges=10000
# The emulator is slow, and its machine may be busy: without both it is a second.
ranges_max_seconds=240
id=
server=
change_id=
seed=20261130
RANDOM=$seed

# Files come, are written over and go, until the file is gone.
write_all_the_time()
{
	while [[ -e /run/writing ]]; do
		dd if=/dev/urandom of="/live/file$((RANDOM % 8))" bs=16k \
			count=$((RANDOM % 20 + 1)) conv=fsync 2>/dev/null
		sleep 0.2
	done
}

# take DEVICE... - a snapshot of them
take()
{
	id=$(blksnap snapshot create --take --device /dev/vdc --force "$@") ||
		{ say "no snapshot"; return 1; }
}

has_no_image()
{
	! compgen -G '/sys/block/blksnap-image*' >/dev/null
}

# The disk of an image goes when the last opener closes it.
destroy()
{
	blksnap snapshot destroy "$id" && becomes 10 has_no_image
}

has_ended()
{
	! kill -0 "$server" 2>/dev/null
}

is_ready()
{
	[[ -s /run/serve ]] || has_ended
}

# serve ARGUMENT... - until it is ready
serve()
{
	: >/run/serve
	blksnap serve --json "$@" >/run/serve 2>/run/serve.message &
	server=$!
	becomes "$ranges_max_seconds" is_ready
	sed 's/^/# | /' /run/serve.message
	[[ -s /run/serve ]] || { say "nothing is served"; return 1; }
}

# stop [SIGNAL [CODE]]
stop()
{
	local code=0

	kill "-${1:-TERM}" "$server"
	wait "$server" || code=$?
	((code == ${2:-0})) || { say "the server ends with $code"; return 1; }
}

no_daemon_is_left()
{
	# Names are cut after 15 characters.
	! pgrep -x qemu-storage-da && ! pgrep -x nbdkit
}

# told KEY - by the server, of its first export
told()
{
	jq -r ".exports[0].$1" /run/serve
}

# is_restored FILE - is it what the image holds?
is_restored()
{
	cmp "$1" /dev/blksnap-image0 || { say "$1 is not what the image holds"; return 1; }
}

test_full_copy()
{
	take "$origin" && serve /dev/blksnap-image0 || return 1
	nbdcopy "$uri" /srv/full && is_restored /srv/full || return 1
	change_id=$(told change_id)
	stop && destroy && no_daemon_is_left
}

# From here on there is a second snapshot, and what changed since the first is served.
test_changes_are_served()
{
	sleep 2
	dd if=/dev/urandom of=/live/changed bs=64k count=9 conv=fsync 2>/dev/null
	sync
	take "$origin" && serve --since "$change_id" /dev/blksnap-image0 || return 1
	say "$(told changed_bytes) of $(told size_bytes) bytes have changed"
	(($(told changed_bytes) >= 9 * 65536 &&
	  $(told changed_bytes) < $(told size_bytes))) &&
		! cmp -s /srv/full /dev/blksnap-image0
}

# dirty_ranges - OFFSET LENGTH of each, as a client is told, in bytes
dirty_ranges()
{
	nbdinfo --map="$context" "$1" | awk '$3 == 1 { print $1, $2 }'
}

# listed_ranges DEVICE - the same, as the tool lists them itself
listed_ranges()
{
	blksnap cbt extents "$1" --since "${change_id#*/}" --no-header |
		awk '{ print $1 * 512, $2 * 512 }'
}

# is_the_list DEVICE - is the bitmap all of it, and no more?
is_the_list()
{
	diff <(listed_ranges "$1") <(dirty_ranges "$uri") >/run/diff ||
		{ sed 's/^/# /; 20q' /run/diff; return 1; }
	[[ $(dirty_ranges "$uri") ]]
}

test_bitmap_is_the_list()
{
	is_the_list "$origin"
}

# nbdinfo says what to copy, and qemu-img copies it.
test_nbdinfo()
{
	local offset length

	cp /srv/full /srv/nbdinfo
	while read -r offset length; do
		qemu-img dd -f raw -O raw bs=4096 skip=$((offset / 4096)) \
			count=$(((offset + length) / 4096)) if="$uri" of=/srv/piece &&
			dd if=/srv/piece of=/srv/nbdinfo bs=4096 seek=$((offset / 4096)) \
				conv=notrunc 2>/dev/null || return 1
	done < <(dirty_ranges "$uri")
	is_restored /srv/nbdinfo
}

# As for a virtual machine: what is dirty is read through an overlay, which keeps it.
test_qemu_img()
{
	local offset length

	# A dirty range is one without data: the bitmap takes the place of the allocation.
	qemu-img map --output=json --image-opts "$dirty" |
		jq -r '.[] | select(.data | not) | "\(.start) \(.length)"' >/run/dirty
	diff <(dirty_ranges "$uri") /run/dirty >/dev/null ||
		{ say "qemu-img and nbdinfo are told different things"; return 1; }
	qemu-img create -q -f qcow2 -b "$uri" -F raw /srv/increment.qcow2 || return 1
	while read -r offset length; do
		printf 'read %d %d\n' "$offset" "$length"
	done </run/dirty >/run/reads
	qemu-io -C -f qcow2 /srv/increment.qcow2 </run/reads >/run/qemu-io 2>&1 ||
		{ sed 's/^/# | /' /run/qemu-io; return 1; }
	qemu-img rebase -u -b /srv/full -F raw -f qcow2 /srv/increment.qcow2 &&
		qemu-img check -q /srv/increment.qcow2 &&
		qemu-img convert -f qcow2 -O raw /srv/increment.qcow2 /srv/rebased &&
		is_restored /srv/rebased &&
		(($(stat -c %s /srv/increment.qcow2) < $(stat -c %s /srv/full)))
}

# The parts of virtnbdbackup that connect, ask what is dirty, and read.
test_virtnbdbackup()
{
	cp /srv/full /srv/virtnbdbackup
	python3 - "$name" "$context" "$socket" /srv/virtnbdbackup <<-'END' || return 1
		import sys
		from libvirtnbdbackup.nbdcli import Unix, client
		from libvirtnbdbackup.extenthandler import ExtentHandler
		kind = Unix(*sys.argv[1:4])
		connection = client(kind).connect()
		with open(sys.argv[4], "r+b") as target:
		    for extent in ExtentHandler(connection, kind).queryBlockStatus():
		        place, end = extent.offset, extent.offset + extent.length
		        while extent.data and place < end:
		            size = min(end - place, connection.maxRequestSize)
		            target.seek(place)
		            target.write(connection.nbd.pread(size, place))
		            place += size
		connection.disconnect()
	END
	is_restored /srv/virtnbdbackup
}

test_it_cannot_be_written()
{
	! qemu-io -f raw -c 'write -P 7 0 4096' "$uri" >/dev/null 2>&1 &&
		! nbdcopy /srv/full "$uri" 2>/dev/null && is_restored /srv/nbdinfo
}

test_only_the_owner_may_connect()
{
	[[ $(stat -c '%a %U %F' "$socket") == "600 root socket" ]] || return 1
	[[ $(ls -A /run/blksnap) == nbd.sock ]]
}

test_it_ends_with_a_signal()
{
	stop INT && no_daemon_is_left && [[ ! -e $socket ]]
}

test_killed()
{
	serve --since "$change_id" /dev/blksnap-image0 && stop KILL 137 &&
		becomes 10 no_daemon_is_left && [[ -S $socket ]] || return 1
	serve --since "$change_id" /dev/blksnap-image0 && is_the_list "$origin" && stop
}

# refuses WORDS ARGUMENT... - nothing is served, and a full backup is due
refuses()
{
	local code=0

	timeout 60 blksnap serve "${@:2}" >/run/output 2>/run/message || code=$?
	sed 's/^/# | /' /run/output /run/message
	((code == 3)) && [[ ! -s /run/output && ! -e $socket ]] &&
		grep -q "$1.*a full backup is due" /run/message && no_daemon_is_left
}

test_wrong_base()
{
	local generation=${change_id%/*}

	refuses "is in generation $generation now" \
		--since "00000000${generation:8}/1" /dev/blksnap-image0 &&
		refuses "has only come to snapshot 2 in" --since 3 /dev/blksnap-image0
}

# changes_only COMMAND... - a client that knows holes, and is told to skip them
changes_only()
{
	cp /srv/full /srv/changed
	"$@" && is_restored /srv/changed
}

test_changes_only()
{
	serve --changes-only --since "$change_id" /dev/blksnap-image0 || return 1
	grep -q 'holes of zeros: without --destination-is-zero' /run/serve.message || return 1
	[[ $(stat -c %a "$socket") == 600 ]] || return 1
	# It would cut a file to nothing first.
	changes_only nbdcopy --destination-is-zero "$uri" -- \
		[ qemu-nbd -f raw /srv/changed ] || return 1
	changes_only qemu-img convert -n --target-is-zero -f raw -O raw "$uri" \
		/srv/changed || return 1
	# Why it is not the default: this one is told of zeros, and writes them.
	cp /srv/full /srv/zeroed
	qemu-img convert -n -f raw -O raw "$uri" /srv/zeroed && ! cmp -s /srv/zeroed /dev/blksnap-image0 || return 1
	stop && no_daemon_is_left
}

# refused URI - the client ends with a message, and does not wait
refused()
{
	local code=0

	timeout 60 nbdinfo --no-content "$1" >/run/output 2>&1 || code=$?
	((code == 1)) || { say "the client of $1 ends with $code"; return 1; }
}

# with_keys OPTION... - the network, of either server
with_keys()
{
	local place=127.0.0.1:10810/$name

	serve --listen 127.0.0.1:10810 --tls-psk /root/keys "$@" /dev/blksnap-image0 &&
		nbdinfo --no-content "nbds://agent@$place?tls-psk-file=/root/keys" >/run/output || return 1
	refused "nbd://$place" && refused "nbds://agent@$place?tls-psk-file=/root/others" &&
		refused "nbds://other@$place?tls-psk-file=/root/others" && stop
}

new_key() # USER FILE
{
	psktool -u "$1" -p "$2" >/run/output && chmod 600 "$2"
}

test_network()
{
	ip link set lo up
	new_key agent /root/keys && new_key agent /root/others &&
		new_key other /root/others || return 1
	with_keys --since "$change_id" && with_keys --since "$change_id" --changes-only
}

test_destroyed()
{
	serve --since "$change_id" /dev/blksnap-image0 && blksnap snapshot destroy "$id" ||
		return 1
	! nbdcopy "$uri" /srv/late 2>/dev/null || { say "it is still read"; return 1; }
	stop && becomes 10 has_no_image
}

# With the bitmap of the first, and without a base of the second.
test_two_images()
{
	local other="nbd+unix:///${second##*/}?socket=$socket"

	take "$origin" "$second" || return 1
	serve --since "$name=$change_id" /dev/blksnap-image0 /dev/blksnap-image1 || return 1
	is_the_list "$origin" && nbdcopy "$other" /srv/second &&
		cmp /srv/second /dev/blksnap-image1 &&
		! nbdinfo --no-content --json "$other" | grep -q qemu:dirty-bitmap || return 1
	stop && destroy
}

# Every other block of a disk, which need not have been written for this.
test_many_ranges()
{
	local block begin i

	uri="nbd+unix:///${large##*/}?socket=$socket"
	take "$large" && destroy || return 1
	block=$(blksnap tracker list --json | jq ".trackers[] |
		select(.device == \"$large\").block_size_bytes")
	for ((i = 0; i < nr_ranges; i++)); do
		echo "$((2 * i * block / 512)):1"
	done >/run/ranges
	xargs -n 1000 blksnap cbt mark "$large" </run/ranges && take "$large" || return 1
	change_id=/1
	begin=$SECONDS
	serve --since 1 /dev/blksnap-image0 || return 1
	say "served after $((SECONDS - begin)) s"
	(($(dirty_ranges "$uri" | wc -l) == nr_ranges)) && is_the_list "$large" &&
		stop && destroy
}

set_up()
{
	mkdir -p /live /srv /root /run/blksnap
	mkfs.ext4 -q "$origin" && mount -t ext4 "$origin" /live &&
		mkfs.ext4 -q /dev/vdd && mount -t ext4 /dev/vdd /srv &&
		dd if=/dev/urandom of="$second" bs=1M count=16 2>/dev/null || return 1
	touch /run/writing
	write_all_the_time &
}

tests=(full_copy changes_are_served bitmap_is_the_list nbdinfo qemu_img virtnbdbackup
	it_cannot_be_written only_the_owner_may_connect it_ends_with_a_signal killed
	wrong_base changes_only network destroyed two_images many_ranges)
set_up || exit 1
ktap_run "${tests[@]}"
rm -f /run/writing
wait
umount /live /srv
exit "$ktap_failed"
