#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Mount and umount: arguments, errors, and records of mounts that are gone
#
# What is really mounted is tested in a guest.

# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source-path=SCRIPTDIR source=backup_common.sh
. "$(dirname "$0")/backup_common.sh"

place=$temp/place
records=$temp/run/mounts
programs=$temp/programs
mkdir -p "$place" "$programs"
ln -s "$(type -P timeout)" "$programs/timeout"

usage() # NAME MESSAGE ARGUMENT...
{
	local name=$1 message=$2

	shift 2
	expect "$name" 2 "" "$message" LOG="" BLKSNAP_RUN_DIR="$temp/run" -- "$@"
}

fails() # NAME MESSAGE [VARIABLE=VALUE]... -- ARGUMENT...
{
	local name=$1 message=$2

	shift 2
	expect "$name" 1 "" "$message" BLKSNAP_RUN_DIR="$temp/run" "$@"
}

test_arguments()
{
	usage "nothing to mount" \
		"mount: an argument is missing; it takes \{IMAGE\.\.\. \| --from DIR\} MOUNTPOINT" \
		mount
	usage "no mount point" "mount: an argument is missing; .*" \
		mount /dev/null
	usage "no mount point for a backup" "mount: an argument is missing; .*" \
		mount --from "$backups"
	usage "an image and a backup" "mount: '$place' is too many; .*" \
		mount --from "$backups" /dev/null "$place"
	usage "a mount point that is not there" \
		"'$temp/none': No such file or directory" \
		mount /dev/null "$temp/none"
	usage "a mount point that is a file" \
		"'$fake' is no folder, so nothing can be mounted there" \
		mount /dev/null "$fake"
	usage "an image that is not there" \
		"'/dev/none': No such file or directory; a device is named by .*" \
		mount /dev/none "$place"
	usage "a folder as an image" \
		"mount: '$backups' is a folder; a backup is named by --from" \
		mount "$backups" "$place"
	usage "a device that is no image" \
		"'4000:1' is no image; 'blksnap snapshot images' shows which there are" \
		mount 4000:1 "$place"
	usage "partition 0" "--partition '0': must be a number from 1 on" \
		mount --partition 0 /dev/null "$place"
	usage "a partition with a name" "--partition 'p1': must be .*" \
		mount --partition p1 /dev/null "$place"
	usage "one of several images that is not there" \
		"'/dev/none': No such file or directory; .*" \
		mount 4000:1 /dev/none "$place"
	usage "an image twice" \
		"'4000:1' and '4000:1' are the same device; name each once" \
		mount 4000:1 4000:1 "$place"
	usage "a disk twice" "--disk 'sda' is there twice; name each once" \
		mount --from "$backups" --disk sda --disk sdb --disk sda "$place"
	usage "a key file that is not there" \
		"cannot open the key file '$temp/none': No such file or directory" \
		mount --luks-key-file "$temp/none" 4000:1 "$place"
	prepare truncate -s 0 "$temp/key"
	usage "a key file that is empty" "the key in '$temp/key' is empty" \
		mount --luks-key-file "$temp/key" 4000:1 "$place"
	prepare truncate -s 8388609 "$temp/key"
	usage "a key file that is too long" "'$temp/key' is too long for a key" \
		mount --luks-key-file "$temp/key" 4000:1 "$place"
	prepare rm "$temp/key"
	usage "a point of an image" \
		"mount: --source-name, --point and --disk are for a backup, .*" \
		mount --point 1 /dev/null "$place"
	usage "point 0" "--point '0': must be the number of a point .*" \
		mount --from "$backups" --point 0 "$place"
	usage "a backup to be written" \
		"mount: a backup is not writable; leave --writable out, or restore it" \
		mount --from "$backups" --writable "$place"
	usage "nothing to unmount" \
		"umount: an argument is missing; it takes MOUNTPOINT" umount
	usage "too much to unmount" "umount: '/b' is too many; .*" umount /a /b
	usage "to unmount what is not there" \
		"'$temp/none': No such file or directory" umount "$temp/none"
}

new_points() # COUNT
{
	local count=$1

	new_disk 20
	for ((; count; count--)); do
		backup --quiet
		change_disk by_chance
	done
}

cut()
{
	: >"$(layer 1)"
}

no_record_is_left()
{
	[[ ! $(ls -A "$records") ]]
}

program() # NAME TEXT - a program that does nothing but fail
{
	printf '#!/bin/sh\necho "%s" >&2\nexit 1\n' "$2" >"$programs/$1"
	chmod +x "$programs/$1"
}

test_backups()
{
	fails "a folder without a backup" "'$temp/run' holds no backup" -- \
		mount --from "$temp/run" "$place"
	prepare new_points 2
	fails "a point that is not there" "there is no point 3; .*" -- \
		mount --from "$backups" --point 3 "$place"
	fails "a disk that is not there" "point 2 has no disk 'sda'; .*" -- \
		mount --from "$backups" --disk sda "$place"
	fails "a mount point that is in use" \
		"'/proc' is in use: 'proc' is mounted there; choose another folder" \
		-- mount --from "$backups" /proc
	if [[ -e /sys/module/nbd ]]; then
		skip "modprobe is not installed" "nbd is loaded"
		skip "no module nbd" "nbd is loaded"
	else
		fails "modprobe is not installed" \
			"cannot load the module nbd: 'modprobe' is not installed; on Debian: apt-get install kmod" \
			PATH="$programs" -- mount --from "$backups" "$place"
		prepare program modprobe "modprobe: no such module"
		fails "no module nbd" \
			"cannot load the module nbd: modprobe: no such module" \
			PATH="$programs" -- mount --from "$backups" "$place"
	fi
	prepare cut
	expect "a layer that is cut" 5 "" \
		".*/machine/4000-1.000001.qcow2' is damaged: it is missing or cut" \
		-- mount --from "$backups" "$place"
}

damage() # FILE
{
	mkdir -p "${1%/*}"
	echo '{' >"$1"
}

# record NAME PLACE DEVICE - of a mount that is gone
record()
{
	mkdir -p "$records"
	printf '{"mount_point":"%s","disks":[{"source":"/dev/none","nbd":null}],
		"device":"%s","writable":false}' "$2" "$3" >"$records/$1.json"
}

# write_record PLACE TEXT - the record of the mount at this place
write_record()
{
	local name

	mkdir -p "$records"
	name=$(printf %s "$1" | sha256sum)
	printf '%s' "$2" >"$records/${name%% *}.json"
}

test_damaged_record_of() # PLACE TEXT
{
	prepare write_record "$1" "$2"
	fails "a damaged record of a mount that is there: $2" \
		"'$records/[0-9a-f]*.json' is damaged, so what is mounted at '$1' is not known; 'umount $1' comes first, then try again" \
		-- umount "$1"
	prepare rm -rf "$records"
}

test_records()
{
	fails "what is not mounted" \
		"'$place' was not mounted by 'blksnap mount'" -- umount "$place"
	fails "what another program has mounted" \
		"'/proc' was not mounted by 'blksnap mount'" -- umount /proc
	prepare record gone "$place" /dev/loop0
	expect "a mount that is gone" 0 "" "" BLKSNAP_RUN_DIR="$temp/run" -- \
		umount "$place/."
	check "its record is gone, too" no_record_is_left
	prepare record gone "$place" /dev/loop0
	expect "the result as JSON" 0 ".*\"mount_point\": ?\"$place\".*" "" \
		BLKSNAP_RUN_DIR="$temp/run" -- umount "$place" --json
	prepare record other "$temp" /dev/loop0
	fails "another mount that is gone" \
		"'$place' was not mounted by 'blksnap mount'" -- umount "$place"
	check "its record is gone as well" no_record_is_left
	prepare record here /proc proc
	fails "a mount that is still there" \
		"'$place' was not mounted by 'blksnap mount'; what was is at '/proc', for example" \
		-- umount "$place"
	prepare rm -rf "$records"
	prepare damage "$records/broken.json"
	prepare record gone "$place" /dev/loop0
	expect "a damaged record of another mount" 0 "" "" \
		BLKSNAP_RUN_DIR="$temp/run" -- umount "$place"
	check "it is still there" [ -e "$records/broken.json" ]
	prepare rm "$records/broken.json"
	test_damaged_record_of /proc '{'
	test_damaged_record_of /proc '{"mount_point":"/proc","device":"proc"}'
	test_damaged_record_of /proc \
		'{"mount_point":"/proc","disks":[{"nbd":"nbd0"}],"device":"proc"}'
	prepare write_record "$place" '{'
	expect "a damaged record of what is not mounted" 0 "" "" \
		BLKSNAP_RUN_DIR="$temp/run" -- umount "$place"
	check "it is gone" no_record_is_left
}

all_tests()
{
	test_arguments
	test_backups
	test_records
}

run_all_tests
