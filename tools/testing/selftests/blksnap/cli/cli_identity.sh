#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Which disk of a backup a device is: whatever its path, and what copies share with it

# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source-path=SCRIPTDIR source=backup_common.sh
. "$(dirname "$0")/backup_common.sh"

message=
devices=
sys=$temp/sys

# new_folder NAME - the next backups go there; no device has hardware that is known
new_folder()
{
	backups=$fast/$1
	mkdir -p "$backups"
	rm -rf "$sys"
	new_disk 20
	cp "$image" "$images/image1"
	cp "$image" "$points/a"
	printf x | dd of="$images/image1" bs=1 seek=70000 conv=notrunc status=none
	cp "$images/image1" "$points/b"
}

# hardware NUMBER FILE TEXT - what sysfs says of a device
hardware()
{
	mkdir -p "$sys/sys/dev/block/4000:$1/$(dirname "$2")"
	echo "$3" >"$sys/sys/dev/block/4000:$1/$2"
}

# Two devices: the images are those of the points a and b, whatever their paths.
are() # "PATH TAG=VALUE..." "PATH TAG=VALUE..."
{
	devices="4000:1 $1;4000:2 $2"
}

# names NUMBER:NAME... - back these up together, and that is what they are called
names()
{
	local -a numbers=() names=()
	local word

	for word; do
		numbers+=("4000:${word%%:*}")
		names+=("${word#*:}")
	done
	run_tool "${variables[@]}" FAKE_IMAGES="4000:1,4000:2" \
		FAKE_TRACKED="4000:1,4000:2" FAKE_DEVICES="$devices" \
		FAKE_SYS="$sys" -- backup --to "$backups" --source-name machine \
		--storage "$storage" --storage-size 1M --json --quiet "${numbers[@]}"
	((code == 0)) || { echo "# $message"; return 1; }
	python3 -c '
import json, sys
names = [d["disk"] for d in json.load(open(sys.argv[1]))["disks"]]
print("#", *names)
sys.exit(names != sys.argv[2:])' "$temp/output" "${names[@]}"
}

# keeps NAME:POINT... - after a prune to the newest point, disks are restored as they were
keeps()
{
	local word

	run_tool -- prune "$backups" --keep-last 1 --quiet
	for word; do
		is_point "${word#*:}" \
			"$(compgen -G "$backups/machine/${word%%:*}.0*.qcow2")" ||
			return 1
	done
}

# Several devices may have one filesystem.
test_members()
{
	local a="/dev/fakeb UUID=1-1 TYPE=btrfs" b="/dev/fakec UUID=1-1 TYPE=btrfs"
	local run

	prepare new_folder members
	prepare are "$a UUID_SUB=a" "$b UUID_SUB=b"
	for run in first second third; do
		check "members, the $run time" names 1:fakeb 2:fakec
	done
	check "members by themselves: the second" names 2:fakec
	check "members by themselves: the first" names 1:fakeb
	prepare are "/dev/fakec UUID=1-1 UUID_SUB=a" "/dev/fakeb UUID=1-1 UUID_SUB=b"
	check "members with other paths" names 1:fakeb 2:fakec
	check "members in the other order" names 2:fakec 1:fakeb
	check "both are kept" keeps fakeb:a fakec:b
	prepare new_folder copies
	prepare are "$a" "$b"
	for run in first second third; do
		check "copies, the $run time" names 1:fakeb 2:fakec
	done
	check "copies by themselves: the second" names 2:fakec
	prepare new_folder copies-alone
	check "a disk" names 1:fakeb
	check "a copy of it, while the disk is there" names 2:fakec
	check "both are kept" keeps fakeb:a fakec:b
	prepare are "/dev/fakee UUID=1-2" "/dev/faked UUID=1-1"
	check "what has moved is known again" names 2:fakec
}

# A disk with partitions has no filesystem.
test_partitioned()
{
	prepare new_folder tables
	prepare are "/dev/fakeb PTUUID=a" "/dev/fakec PTUUID=b"
	check "a disk with partitions" names 1:fakeb
	prepare are "/dev/fakec PTUUID=a" "/dev/fakeb PTUUID=b"
	check "another one has its path now" names 2:fakeb-2
	check "it has another path itself" names 1:fakeb
	check "both are kept" keeps fakeb:a fakeb-2:b
	prepare new_folder paths
	prepare are "/dev/fakeb" "/dev/fakec"
	check "nothing is known but the path" names 1:fakeb
	check "which is the same" names 1:fakeb
	prepare hardware 1 device/wwid naa.5000
	check "more is known of it" names 1:fakeb
	prepare rm -r "$temp/sys"
	check "a disk of which less is known is another" names 1:fakeb-2
	prepare new_disk 30
	check "and so is one of another size" names 1:fakeb-3
}

test_hardware()
{
	prepare new_folder namespaces
	prepare are "/dev/fake0n1" "/dev/fake0n2"
	prepare hardware 1 device/serial S
	prepare hardware 2 device/serial S
	check "namespaces without WWID, as they used to be" names 1:fake0n1 2:fake0n2
	check "and again" names 1:fake0n1 2:fake0n2
	prepare hardware 1 wwid eui.1
	prepare hardware 2 wwid eui.2
	check "now the WWID is known" names 1:fake0n1 2:fake0n2
	prepare are "/dev/fake0n2" "/dev/fake0n1"
	check "it counts more than the path" names 2:fake0n2 1:fake0n1
	prepare are "/dev/fake1n1" "/dev/fake1n2"
	check "and by itself" names 2:fake0n2
	prepare new_folder scsi
	prepare hardware 1 device/wwid naa.1
	prepare hardware 2 device/wwid naa.2
	prepare are "/dev/fakeb" "/dev/fakec"
	check "disks with SCSI" names 1:fakeb 2:fakec
	prepare are "/dev/fakec" "/dev/fakeb"
	check "with other paths" names 1:fakeb 2:fakec
	prepare new_folder partitions
	prepare are "/dev/fakeb1 PARTUUID=1 UUID=7" "/dev/fakeb2 PARTUUID=2 UUID=7"
	check "partitions" names 1:fakeb1 2:fakeb2
	prepare are "/dev/fakeb2 PARTUUID=1 UUID=7" "/dev/fakeb1 PARTUUID=2 UUID=7"
	check "with other paths, too" names 2:fakeb2 1:fakeb1
}

# What a point has that an earlier version has written.
forget_new_fields()
{
	python3 -c '
import json, sys
c = json.load(open(sys.argv[1]))
for p in c["points"]:
    for d in p["disks"]:
        for key in "wwid", "ptuuid", "fs_uuid_sub":
            del d[key]
json.dump(c, open(sys.argv[1], "w"))' "$backups/machine/catalogue.json"
}

test_earlier_version()
{
	local a="/dev/fakeb PTUUID=a" b="/dev/fakec UUID=1 UUID_SUB=b"

	prepare new_folder earlier
	prepare hardware 1 device/wwid naa.1
	prepare hardware 2 wwid eui.2
	prepare hardware 2 device/serial S
	prepare are "$a" "$b"
	check "backed up by an earlier version" names 1:fakeb 2:fakec
	prepare forget_new_fields
	check "the disks are those that they were" names 2:fakec 1:fakeb
	prepare are "/dev/fakec PTUUID=a" "/dev/fakeb UUID=1 UUID_SUB=b"
	check "from now on by what is noted" names 2:fakec 1:fakeb
}

all_tests()
{
	local test

	for test in ${ONLY:-members partitioned hardware earlier_version}; do
		"test_$test"
	done
}

run_all_tests
