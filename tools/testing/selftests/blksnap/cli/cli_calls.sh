#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Calls of the command-line tool: what it asks of the module, what it makes of
# the answers, and how it explains each errno

# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"

id=a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf
plain_id=a0a1a2a3a4a5a6a7a8a9aaabacadaeaf
second_id=b0b1b2b3-b4b5-b6b7-b8b9-babbbcbdbebf
generation=10111213-1415-1617-1819-1a1b1c1d1e1f

# json_is NAME PYTHON_EXPRESSION [VARIABLE=VALUE]... -- ARGUMENT...
json_is()
{
	local name=$1 expression=$2

	shift 2
	if [[ ! $counting ]]; then
		run_tool "$@"
	fi
	check "$name" python3 -c '
import json, sys
d = json.load(open(sys.argv[1]))
if not eval("(" + sys.argv[2] + ")"):
    print("# " + json.dumps(d))
    sys.exit(1)' "$temp/output" "$expression"
}

refused() # NAME CALL ERRNO MESSAGE ARGUMENT...
{
	local name=$1 call=$2 error=$3 message=$4

	shift 4
	expect "$name: $error" 1 "" "$message" "FAKE_FAIL=$call:$error" -- "$@"
}

file_is() # FILE BYTE...
{
	[[ $(od -An -v -tx1 "$1") == "$(printf ' %s' "${@:2}")" ]]
}

test_trackers()
{
	local nonsense="the loaded module gave an answer that contradicts itself"

	expect "version" 0 "2\.1\.3\.4" "" -- version
	json_is "version, JSON" \
		'd == {"major": 2, "minor": 1, "revision": 3, "build": 4}' \
		-- version --json
	expect "trackers" 0 \
		"DEVICE  MAJ:MIN  SIZE  BLOCK  BLOCKS  SNAPSHOTS  GENERATION
-       4000:1   380K    64K       6          3  $generation
-       4000:2      -      -       -          -  -" "" \
		LOG="tracker_collect room 0
tracker_collect room 2" -- tracker list
	expect "trackers without a header" 0 "- +4000:1 .*" "" \
		FAKE_TRACKERS=1 -- tracker list --no-header
	expect "no trackers" 0 "DEVICE .*GENERATION" "" FAKE_TRACKERS=0 \
		LOG="tracker_collect room 0" -- tracker list
	json_is "trackers, JSON" "len(d['trackers']) == 2 and
		d['trackers'][0] == {'device': None, 'device_number': '4000:1',
			'capacity_bytes': 389120, 'block_size_bytes': 65536,
			'block_count': 6, 'snap_number': 3,
			'generation': '$generation'} and
		d['trackers'][1] == {'device': None, 'device_number': '4000:2'}" \
		-- --json tracker list
	json_is "no trackers, JSON" "d == {'trackers': []}" FAKE_TRACKERS=0 \
		-- tracker list --json
	expect "trackers that come in between" 0 ".*4000:2.*" "" FAKE_GROW=3 \
		LOG="tracker_collect room 0
tracker_collect room 2
tracker_collect room 3
tracker_collect room 4
tracker_collect room 5" -- tracker list
	expect "room enough is not enough" 1 "" "cannot list .*: $nonsense" \
		FAKE_LIE=small -- tracker list
	expect "more entries than room" 1 "" "cannot list .*: $nonsense" \
		FAKE_LIE=large -- snapshot list
	expect "tracker is removed" 0 "" "" LOG="tracker_remove 4000:1" -- \
		tracker remove 4000:1
}

test_map()
{
	expect "map" 0 ".*" "" LOG="tracker_collect room 0
tracker_collect room 2
tracker_read_cbt_map 4000:1 0\+6
tracker_read_cbt_map 4000:1 4\+2
tracker_collect room 0
tracker_collect room 2" FAKE_MAP=7,1,2,2,9,3 -- cbt read 4000:1
	check "map, its bytes" file_is "$temp/output" 07 01 02 02 09 03
	expect "map to a file" 0 \
		"DEVICE  BLOCK  BLOCKS  SNAPSHOTS  GENERATION                            FILE
- +64K +6 +3  $generation  $temp/map" "" -- \
		cbt read 4000:1 --output "$temp/map"
	check "map to a file, its bytes" file_is "$temp/map" 00 01 02 02 00 03
	expect "map to a file that cannot be written" 1 "" \
		"cannot open '/nonexistent/map': No such file or directory" -- \
		cbt read 4000:1 --output /nonexistent/map
	expect "map to a device that is full" 1 "" \
		"cannot write '/dev/full': No space left on device" -- \
		cbt read 4000:1 --output /dev/full
	json_is "map to a file, JSON" "d['file'] == '$temp/map' and
		d['snap_number'] == 3 and d['generation'] == '$generation'" \
		-- cbt read 4000:1 --output "$temp/map" --json
	expect "map, take in between" 0 ".*64K +6 +3 .*" "" FAKE_TAKES=3 -- \
		cbt read 4000:1 --output "$temp/map"
	expect "map, new generation in between" 0 ".* 3  $generation .*" "" \
		FAKE_RENEW=3 -- cbt read 4000:1 --output "$temp/map"
	expect "map, takes without end" 1 "" \
		"'4000:1': the change map is renewed faster than it can be read; try again" \
		FAKE_RENEW=1000 -- cbt read 4000:1
	expect "map of a device that is not tracked" 1 "" \
		"'4000:7': the device is not tracked; .*" -- cbt read 4000:7
	expect "map of a device that has gone away" 1 "" \
		"'4000:2': the device has gone away" -- cbt read 4000:2
}

test_extents()
{
	expect "extents" 0 " +START +COUNT
 +128 +384
 +640 +120" "" -- cbt extents 4000:1 --since 0
	expect "extents after a later snapshot" 0 " +START +COUNT
 +640 +120" "" -- cbt extents 4000:1 --since 2
	expect "no extents" 0 " +START +COUNT" "" -- \
		cbt extents 4000:1 --since 3
	expect "extents, everything changed" 0 " +0 +760" "" \
		FAKE_MAP=1,1,1,1,1,1 -- cbt extents 4000:1 --since 0 --no-header
	expect "extents, every other block" 0 " +0 +128
 +256 +128
 +512 +128
 +768 +120" "" FAKE_MAP=255,0,255,0,255,0,255 -- \
		cbt extents 4000:1 --since 254 --no-header
	expect "extents, nothing since 255" 0 "" "" FAKE_MAP=255,1 -- \
		cbt extents 4000:1 --since 255 --no-header
	json_is "extents, JSON" "d['since'] == 1 and d['snap_number'] == 3 and
		d['generation'] == '$generation' and
		d['changed_sectors'] == 376 and
		d['extents'] == [{'start': 256, 'count': 256},
				 {'start': 640, 'count': 120}]" \
		-- cbt extents 4000:1 --since 1 --json
	json_is "no extents, JSON" "d['extents'] == []" \
		-- cbt extents 4000:1 --since 3 --json
	expect "extents of the same generation" 0 ".*640.*" "" -- \
		cbt extents 4000:1 --since 1 --generation "$generation"
	expect "extents of another generation" 3 "" \
		"'4000:1': the device is in generation $generation now; a full backup is due" -- \
		cbt extents 4000:1 --since 1 --generation "$id"
	expect "extents since a snapshot not yet taken" 3 "" \
		"'4000:1': the device has only come to snapshot 3 in this generation, not to 4; a full backup is due" -- \
		cbt extents 4000:1 --since 4
	expect "mark" 0 "" "" \
		LOG="tracker_mark_dirty_blocks 4000:1 0\+8 16\+1" -- \
		cbt mark 4000:1 0:8 16:1
}

# What is refused is refused before a file is made for it.
held_device_needs_no_file()
{
	run_tool FAKE_HELD=4000:5 -- snapshot create 4000:5 --take \
		--file "$temp/never" --size 1M
	[[ $code == 1 && $message == *"is held by"* && ! -e $temp/never ]]
}

test_snapshots()
{
	expect "create" 0 "$id" "" LOG=".*
tracker_collect room 0
tracker_collect room 2
snapshot_create 4000:1 4000:2" -- \
		snapshot create 4000:1 4000:2
	json_is "create, JSON" "d == {'id': '$id', 'taken': False}" \
		-- snapshot create 4000:1 --json
	expect "create with storage and take" 0 "$id" "" \
		LOG=".*
snapshot_create 4000:1
snapshot_append_storage $plain_id 4000:3 8\+16 64\+8
snapshot_take $plain_id" -- \
		snapshot create 4000:1 --take --device 4000:3 \
		--range 8:8 --range 16:8 --range 64:8
	json_is "create with storage and take, JSON" \
		"d == {'id': '$id', 'taken': True}" -- snapshot create 4000:1 \
		--take --device 4000:3 --range 8:8 --json
	expect "create, storage is refused" 1 "" "cannot append '4000:3': .*" \
		FAKE_FAIL=snapshot_append_storage:EINVAL \
		LOG=".*snapshot_append_storage[^
]*
snapshot_destroy $plain_id
tracker_remove 4000:5
tracker_remove 4000:6" -- \
		snapshot create 4000:5 4000:1 4000:6 --device 4000:3 --range 8:8
	expect "create, take is refused" 1 "" "cannot take the snapshot: .*" \
		FAKE_FAIL=snapshot_take:EIO LOG=".*snapshot_take $plain_id
snapshot_destroy $plain_id
tracker_remove 4000:5" -- \
		snapshot create 4000:5 --take --device 4000:3 --range 8:8
	expect "create, take of tracked devices is refused" 1 "" \
		"cannot take the snapshot: .*" FAKE_FAIL=snapshot_take:EIO \
		LOG=".*snapshot_take $plain_id
snapshot_destroy $plain_id" -- snapshot create 4000:1 4000:2 --take \
		--device 4000:3 --range 8:8
	expect "create is refused" 1 "" "cannot create the snapshot: .*" \
		FAKE_FAIL=snapshot_create:EALREADY LOG=".*
snapshot_create 4000:5" -- snapshot create 4000:5
	expect "create, trackers cannot be listed" 1 "" \
		"cannot list the tracked devices: .*" \
		FAKE_FAIL=tracker_collect:EIO LOG=".*
tracker_collect room 0" -- \
		snapshot create 4000:5
	expect "create, device of the storage does not exist" 1 "" \
		"'4000:3': there is no such device" LOG="snapshot_[^
]*(
snapshot_[^
]* room [^
]*)*" -- \
		snapshot create 4000:1 --device 4000:3
	expect "create, device is held" 1 "" \
		"cannot create the snapshot: device 4000:5 is held by snapshot $second_id, created 3 h ago by backup-agent\[1234\], which has ended" \
		FAKE_HELD=4000:4,4000:5 LOG=".*
snapshot_info [^
]* room 2" -- snapshot create 4000:1 4000:5 --device 4000:3 --range 8:8
	expect "create, device is held by a young snapshot" 1 "" \
		".*: device 4000:200 is held by snapshot $id, created 12 s ago by \?\?x\[77\]" \
		FAKE_COMM=$'\n\xffx' -- snapshot create 4000:200
	check "create, device is held, no file is reserved" \
		held_device_needs_no_file
	expect "tracker remove, device is held" 1 "" \
		"cannot stop tracking '4000:5': the device is held by snapshot $second_id, created 3 h .*" \
		FAKE_HELD=4000:5 FAKE_FAIL=tracker_remove:EBUSY -- \
		tracker remove 4000:5
	expect "append" 0 "" "" \
		LOG="snapshot_append_storage $plain_id 4000:3 8\+8" -- \
		snapshot append "$id" --device 4000:3 --range 8:8
	json_is "append, JSON" "d == {'device': None, 'device_number': '4000:3',
		'ranges': 2, 'sectors': 24}" -- snapshot append "$id" --json \
		--device 4000:3 --range 8:8 --range 32:16
	expect "take" 0 "" "" LOG="snapshot_take $plain_id" -- \
		snapshot take "$id"
	expect "destroy" 0 "" "" LOG="snapshot_destroy $plain_id" -- \
		snapshot destroy "$id"
	expect "list before the take" 0 "ID                                    STATE    IMAGES  AGE   CREATOR             DEVICES
$id  created       0  12 s  backup-agent\[77\]    4000:200
$second_id  created       0  3 h   backup-agent\[1234\]  4000:3,4000:4" "" \
		FAKE_HELD=4000:3,4000:4 -- snapshot list
	expect "list after the take" 0 ".*
$id  taken       2  12 s .*" "" FAKE_IMAGES=4000:1,4000:2 -- snapshot list
	expect "list, module does not tell who holds what" 0 ".*
$id  created       0  -    -        -
.*" "" FAKE_FAIL=snapshot_info:ENOTTY -- snapshot list
	json_is "list of what is held, JSON" "d['snapshots'][1] == {
		'id': '$second_id', 'state': 'created', 'image_count': 0,
		'images': [], 'age_ms': 10812345, 'devices':
			[{'device': None, 'device_number': '4000:100'}],
		'creator': {'name': 'backup-agent', 'pid': 1234,
			'ended': True}} and
		not d['snapshots'][0]['creator']['ended']" -- snapshot list --json
	json_is "list, JSON" "[s['id'] for s in d['snapshots']] ==
		['$id', '$second_id'] and
		d['snapshots'][1]['state'] == 'taken' and
		d['snapshots'][1]['images'] == [{'origin': None,
			'origin_number': '4000:5',
			'image': '/dev/blksnap-image0',
			'image_number': '3999:0'}]" FAKE_IMAGES=4000:5 \
		-- snapshot list --json
	expect "list, snapshot is destroyed meanwhile" 0 "ID +STATE +IMAGES +AGE +CREATOR +DEVICES" "" \
		FAKE_FAIL=snapshot_collect_images:ESRCH FAKE_IMAGES=4000:1 -- \
		snapshot list
	expect "images" 0 "ORIGIN  MAJ:MIN  IMAGE                MAJ:MIN
-       4000:1   /dev/blksnap-image0  3999:0
-       4000:9   /dev/blksnap-image1  3999:1" "" \
		FAKE_IMAGES=4000:1,4000:9 \
		LOG="snapshot_collect_images room 0
snapshot_collect_images room 2" -- snapshot images "$id"
	json_is "images, JSON" "[i['image'] for i in d['images']] ==
		['/dev/blksnap-image0', '/dev/blksnap-image1']" \
		FAKE_IMAGES=4000:1,4000:9 -- snapshot images "$id" --json
}

test_events()
{
	local wait="snapshot_wait_event $plain_id"

	expect "event" 0 "12\.003004  low_free_space  append 2048 sectors \(1M\)" \
		"" FAKE_EVENTS=low,other LOG="$wait forever" -- \
		snapshot events "$id"
	expect "event, image lost" 0 \
		"12\.003004  corrupted       4000:1: image lost: No space left on device" \
		"" FAKE_EVENTS=corrupted -- snapshot events "$id"
	expect "event, unknown" 0 "12\.003004  unknown         code 77" "" \
		FAKE_EVENTS=other -- snapshot events "$id"
	json_is "event, JSON" "d == {'time_ns': 12003004000,
		'event': 'low_free_space', 'requested_sectors': 2048}" \
		FAKE_EVENTS=low -- snapshot events "$id" --json
	json_is "event, image lost, JSON" "d == {'time_ns': 12003004000,
		'event': 'corrupted', 'origin': None, 'origin_number': '4000:1',
		'errno': 28, 'error': 'ENOSPC'}" \
		FAKE_EVENTS=corrupted -- snapshot events "$id" --json
	expect "no event" 4 "" "" LOG="$wait now" -- \
		snapshot events "$id" --timeout 0
	expect "no event in some time" 4 "" "" FAKE_EVENTS=timeout,low \
		LOG="$wait some time" -- snapshot events "$id" --timeout 40
	expect "without a limit the wait goes on" 0 ".*low_free_space.*" "" \
		FAKE_EVENTS=timeout,timeout,low \
		LOG="$wait forever
$wait forever
$wait forever" -- snapshot events "$id"
	expect "a signal does not end the wait" 0 ".*low_free_space.*" "" \
		FAKE_EVENTS=signal,signal,low -- \
		snapshot events "$id" --timeout 10000
	expect "follow until the snapshot is destroyed" 0 \
		".*low_free_space.*
.*corrupted.*
.*low_free_space.*" "" FAKE_EVENTS=low,corrupted,low,destroyed,low -- \
		snapshot events "$id" --follow
	expect "follow until no event arises" 4 ".*low_free_space.*" "" \
		FAKE_EVENTS=low,timeout,low -- \
		snapshot events "$id" --follow --timeout 10
	expect "snapshot is destroyed before an event arises" 1 "" \
		"cannot wait for events: the snapshot was destroyed" \
		FAKE_EVENTS=destroyed -- snapshot events "$id"
	expect "events of an unknown snapshot" 1 "" \
		"cannot wait for events: there is no such snapshot; .*" \
		FAKE_FAIL=snapshot_collect_images:ESRCH -- \
		snapshot events "$id" --follow
}

test_errnos()
{
	local not_tracked="the device is not tracked; 'blksnap tracker list' shows which are"
	local unknown="there is no such snapshot; 'blksnap snapshot list' shows all"
	local -a append=(snapshot append "$id" --device 4000:3 --range 0:8)

	refused version version EPERM \
		"cannot get the version: not permitted; run as root \(needs CAP_SYS_ADMIN\)" \
		version
	refused version version ENOTTY \
		"cannot get the version: the loaded module does not know this call; it does not belong to this tool" \
		version
	refused version version EIO "cannot get the version: Input/output error" \
		version
	refused "tracker remove" tracker_remove ENODATA \
		"cannot stop tracking '4000:1': $not_tracked" \
		tracker remove 4000:1
	refused "tracker remove" tracker_remove EBUSY \
		"cannot stop tracking '4000:1': the device belongs to a snapshot; destroy that one first" \
		tracker remove 4000:1
	refused "tracker list" tracker_collect EPERM \
		"cannot list the tracked devices: not permitted; .*" tracker list
	refused "cbt read" tracker_read_cbt_map ENODATA \
		"'4000:1': cannot read the change map: $not_tracked" \
		cbt read 4000:1
	refused "cbt read" tracker_read_cbt_map EPERM \
		"'4000:1': cannot read the change map: no snapshot of the device was ever taken, so there is no change map yet" \
		cbt read 4000:1
	refused "cbt extents" tracker_read_cbt_map EPERM \
		"'4000:1': cannot read the change map: no snapshot .*" \
		cbt extents 4000:1 --since 0
	refused "cbt mark" tracker_mark_dirty_blocks ENODEV \
		"cannot mark blocks of '4000:1': $not_tracked" cbt mark 4000:1 0:1
	refused "cbt mark" tracker_mark_dirty_blocks EINVAL \
		"cannot mark blocks of '4000:1': a range reaches beyond the end of the device; no range was marked" \
		cbt mark 4000:1 0:1
	refused "snapshot create" snapshot_create EINVAL \
		"cannot create the snapshot: a device is named twice" \
		snapshot create 4000:1
	refused "snapshot create" snapshot_create EALREADY \
		"cannot create the snapshot: a device belongs to another snapshot; 'blksnap snapshot list' shows them" \
		snapshot create 4000:1
	refused "snapshot create" snapshot_create EOPNOTSUPP \
		"cannot create the snapshot: the module cannot protect a device of this kind; the kernel log says which, and why" \
		snapshot create 4000:1
	refused "snapshot create" snapshot_create ENODEV \
		"cannot create the snapshot: there is no such device" \
		snapshot create 4000:1
	refused "snapshot create" snapshot_create ENXIO \
		"cannot create the snapshot: there is no such device" \
		snapshot create 4000:1
	refused "snapshot append" snapshot_append_storage EINVAL \
		"cannot append '4000:3': a range is beyond the end, not aligned to the logical blocks, or storage already, or the device has larger blocks than an origin; nothing was appended" \
		"${append[@]}"
	expect "snapshot append: the module says why" 1 "" \
		"cannot append '4000:3': it lies on an origin through another driver; use another disk, or memory, or make the device in between the origin" \
		FAKE_FAIL=snapshot_append_storage:EINVAL \
		FAKE_SAYS="4000:3: cannot be storage: it lies on an origin through another driver" \
		-- "${append[@]}"
	expect "snapshot append: the module says why, without advice" 1 "" \
		"cannot append '4000:3': a range ends after its end; nothing was appended" \
		FAKE_FAIL=snapshot_append_storage:EINVAL \
		FAKE_SAYS="4000:3: cannot be storage: a range ends after its end" \
		-- "${append[@]}"
	expect "snapshot append: the module says something else" 1 "" \
		"cannot append '4000:3': a range is beyond the end, .*; nothing was appended" \
		FAKE_FAIL=snapshot_append_storage:EINVAL \
		FAKE_SAYS="4000:3: cannot be protected: it is zoned" -- "${append[@]}"
	refused "snapshot append" snapshot_append_storage ESRCH \
		"cannot append '4000:3': $unknown" "${append[@]}"
	refused "snapshot take" snapshot_take ESRCH \
		"cannot take the snapshot: $unknown" snapshot take "$id"
	refused "snapshot take" snapshot_take EALREADY \
		"cannot take the snapshot: the snapshot is taken already" \
		snapshot take "$id"
	refused "snapshot take" snapshot_take EFAULT \
		"cannot take the snapshot: the snapshot has no difference storage; append some with 'blksnap snapshot append'" \
		snapshot take "$id"
	refused "snapshot destroy" snapshot_destroy ENODEV \
		"cannot destroy the snapshot: $unknown" snapshot destroy "$id"
	refused "snapshot list" snapshot_collect EPERM \
		"cannot list the snapshots: not permitted; .*" snapshot list
	refused "snapshot images" snapshot_collect_images ESRCH \
		"cannot list the images: $unknown" snapshot images "$id"
	expect "snapshot images: ENODEV" 1 "" \
		"cannot list the images: the snapshot has no images before it is taken" \
		-- snapshot images "$id"
	refused "snapshot append to an unknown snapshot" snapshot_collect_images \
		ESRCH "cannot append storage: $unknown" "${append[@]}"
}

all_tests()
{
	test_trackers
	test_map
	test_extents
	test_snapshots
	test_events
	test_errnos
}

run_all_tests
