#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Arguments of the command-line tool: what is taken, what is refused, and how

# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"

id=a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf
plain_id=a0a1a2a3a4a5a6a7a8a9aaabacadaeaf
commands=("backup" "restore" "verify" "list" "prune" "mount" "umount" "export" "import" "hold" "serve" "status" "top" "version" "tracker list" "tracker remove" "cbt read" "cbt extents"
	"cbt mark" "snapshot create" "snapshot append" "snapshot take"
	"snapshot destroy" "snapshot list" "snapshot images" "snapshot events"
	"storage reserve")
forms='a path, UUID=, LABEL=, PARTUUID=, PARTLABEL= or MAJOR:MINOR'

usage() # NAME MESSAGE ARGUMENT...
{
	local name=$1 message=$2

	shift 2
	expect "$name" 2 "" "$message" LOG="" -- "$@"
}

help_is_readable() # ARGUMENT...
{
	local widest

	run_tool -- "$@"
	widest=$(wc -L <"$temp/output")
	[[ $code == 0 && ! $message && ! $log && $widest -le 80 &&
	   $output == "Usage: blksnap"* && $output != *$'\n\n\n'* ]]
}

every_command_is_listed()
{
	local command

	run_tool -- --help
	for command in "${commands[@]}"; do
		grep -q "^  $command  *[A-Z]" "$temp/output" || return 1
	done
	[[ $(grep -c '^  [a-z][a-z ]*  *[A-Z]' "$temp/output") == \
	   "${#commands[@]}" ]]
}

# A failure to write out the result may not look like success.
full_device_is_noticed()
{
	local code=0

	LD_PRELOAD=$fake ASAN_OPTIONS=verify_asan_link_order=0 \
		"$tool" version >/dev/full 2>"$temp/message" || code=$?
	[[ $code == 1 && $(<"$temp/message") == \
	   "blksnap: cannot write the result: No space left on device" ]]
}

test_help()
{
	local command
	local -a words

	check "help" help_is_readable --help
	check "help, short option" help_is_readable -h
	check "help, as a command" help_is_readable help
	check "help after another option" help_is_readable --json --help
	check "help lists every command" every_command_is_listed
	for command in "${commands[@]}"; do
		read -ra words <<<"$command"
		check "help of $command" help_is_readable "${words[@]}" --help
		check "help of $command, among other arguments" \
			help_is_readable "${words[@]}" x -h y
	done
	for command in tracker cbt snapshot storage; do
		check "help of the group $command" \
			help_is_readable "$command" --help
	done
	check "a full output device is noticed" full_device_is_noticed
}

# Each command that it names is one.
first_steps()
{
	local command

	run_tool --
	[[ $code == 0 && ! $message && ! $log && $(wc -L <"$temp/output") -le 80 &&
	   $(grep -c '^  blksnap' "$temp/output") == 3 ]] || return 1
	for command in backup list restore; do
		grep -q "^  blksnap $command " "$temp/output" || return 1
	done
}

module_version()
{
	sed -n 's/^#define BLKSNAP_VERSION_[A-Z]* //p' \
		"$(dirname "$0")/../../../../../drivers/block/blksnap/ctrl.h" |
		paste -sd .
}

test_commands()
{
	check "without a command the first steps are printed" first_steps
	expect "so are they with an option" 0 "Backups .*" "" LOG="" -- --json
	expect "the version of the tool, without the module" 0 \
		"blksnap $(module_version)" "" LOG="" FAKE_OPEN=ENOENT -- --version
	expect "the version as JSON" 0 \
		".*\"version\": ?\"$(module_version)\".*" "" LOG="" -- \
		--json --version
	usage "no version of a group" \
		"'--version' is no command of cbt; .*" cbt --version
	usage "unknown command" \
		"'foo' is no command; valid are backup, restore, verify, list, prune, mount, umount, export, import, hold, serve, status, top, version, tracker, cbt, snapshot, storage" \
		foo
	usage "group alone" \
		"a command of cbt is missing; valid are read, extents, mark" cbt
	usage "unknown command of a group" \
		"'foo' is no command of tracker; valid are list, remove" \
		tracker foo
	usage "unknown option before the command" \
		"'--foo' is no option of blksnap; valid before the command are .*" \
		--foo version
	usage "unknown option" \
		"version: '--foo' is no option of this command; valid are --json, --no-header, --help" \
		version --foo
	usage "option of another command" \
		"snapshot take: '--size' is no option of this command; .*" \
		snapshot take "$id" --size 4K
	usage "unknown letter" "version: '-x' is no option .*" version -x
	usage "unknown letters" "version: '-x' is no option .*" \
		version --json -xyz
	usage "value of an option that has none" \
		"version: '--json=1' is no option .*" version --json=1
	usage "ambiguous option" "snapshot append: '--f' is .*" \
		snapshot append "$id" --f
	usage "option without its value" "cbt extents: --since needs an argument" \
		cbt extents 4000:1 --since
	usage "too many arguments" "version: 'x' is too many; it takes no argument" \
		version x
	usage "too many arguments of a group" \
		"tracker remove: '4000:2' is too many; it takes DEV" \
		tracker remove 4000:1 4000:2
	usage "argument is missing" \
		"cbt mark: an argument is missing; it takes DEV START:COUNT\.\.\." \
		cbt mark 4000:1
	usage "id is missing" \
		"snapshot take: an argument is missing; it takes ID" snapshot take
	usage "a message has one line whatever the argument" \
		"'a\?b' is no command; .*" $'a\nb'
	expect "options after the arguments" 0 "" "" \
		LOG="snapshot_append_storage $plain_id 4000:3 8\+8" -- \
		snapshot append "$id" --device 4000:3 --range 8:8
	expect "options before the arguments" 0 "" "" \
		LOG="snapshot_append_storage $plain_id 4000:3 8\+8" -- \
		snapshot append --range 8:8 --device=4000:3 "$id"
	expect "arguments behind --" 1 "" \
		"cannot stop tracking '4000:9': .*" \
		FAKE_FAIL=tracker_remove:ENODATA LOG="tracker_remove 4000:9" -- \
		tracker remove -- 4000:9
}

test_devices()
{
	usage "device: a file" \
		"'/etc/passwd' is not a block device; it is named by $forms" \
		tracker remove /etc/passwd
	usage "device: a character device" \
		"'/dev/null' is not a block device; it is named by $forms" \
		tracker remove /dev/null
	usage "device: no such path" \
		"'/dev/nonexistent': No such file or directory; a device is named by $forms" \
		tracker remove /dev/nonexistent
	usage "device: empty" "'': No such file .*" tracker remove ""
	usage "device: no such UUID" \
		"no block device has 'UUID=00000000-0000'; 'blkid' shows which there are" \
		tracker remove UUID=00000000-0000
	usage "device: no such label" "no block device has 'LABEL=no such' ?; .*" \
		tracker remove "LABEL=no such"
	usage "device: no such partition" "no block device has 'PARTUUID=x'; .*" \
		tracker remove PARTUUID=x
	usage "device: no such partition label" \
		"no block device has 'PARTLABEL=x'; .*" \
		tracker remove PARTLABEL=x
	expect "device: greatest number" 0 "" "" \
		LOG="tracker_remove 4095:1048575" -- \
		tracker remove 4095:1048575
	usage "device: major number too great" "'4096:0': No such file .*" \
		tracker remove 4096:0
	usage "device: minor number too great" "'0:1048576': No such file .*" \
		tracker remove 0:1048576
	usage "device: number with a sign" "'8:-1': No such file .*" \
		tracker remove 8:-1
	usage "device: number without a minor" "'8:': No such file .*" \
		tracker remove 8:
	usage "device: the same twice" \
		"'8:1' and '08:1' are the same device; name each once" \
		snapshot create 8:1 8:2 08:1
	usage "storage device: a file" "'/etc/passwd' is not a block device; .*" \
		snapshot append "$id" --device /etc/passwd
}

test_ids()
{
	local text

	for text in "" x "${id%f}" "${id}0" "${id/-/0}" "${id/a5/g5}" \
		"${plain_id}" "{$id}"; do
		usage "id '$text'" \
			"'[^']*': must be the UUID of a snapshot as 'blksnap snapshot list' prints it" \
			snapshot take "$text"
	done
	expect "id in capital letters" 0 "" "" LOG="snapshot_take $plain_id" -- \
		snapshot take "${id^^}"
}

test_numbers()
{
	local text size

	for text in "" -1 256 1x 0x1 " 1" 1.0 99999999999999999999999; do
		usage "--since '$text'" \
			"--since '$text': must be the number of a snapshot, 0 to 255" \
			cbt extents 4000:1 --since "$text"
	done
	usage "--since is missing" "cbt extents: --since is missing; .*" \
		cbt extents 4000:1
	usage "--generation" "--generation 'x': must be a UUID .*" \
		cbt extents 4000:1 --since 1 --generation x
	for text in "" -1 4294967296 1s; do
		usage "--timeout '$text'" \
			"--timeout '$text': must be a number of milliseconds, 0 to 4294967295" \
			snapshot events "$id" --timeout "$text"
	done
	for text in "" 1 : 1: :1 1:0 -1:1 1:-1 1:1:1 1,1 0x1:1 \
		18014398509481984:1 0:18014398509481984 \
		18014398509481983:1 99999999999999999999:1; do
		usage "range '$text'" \
			"'$text': must be a range START:COUNT in sectors of 512 bytes, COUNT at least 1" \
			cbt mark -- 4000:1 0:1 "$text"
		usage "--range '$text'" \
			"--range '$text': must be START:COUNT in sectors of 512 bytes, COUNT at least 1" \
			snapshot append "$id" --device 4000:1 --range "$text"
	done
	expect "greatest range" 0 "" "" \
		LOG="tracker_mark_dirty_blocks 4000:1 18014398509481982\+1 0\+18014398509481983" -- \
		cbt mark 4000:1 18014398509481982:1 0:18014398509481983
	for text in "" K -4K 4KB 4Ki 4X 4.5M 4095 1K " 4K" 9223372036854775808 \
		8388608T 9007199254740992K 99999999999999999999999; do
		size="--size '$text': must be a number of bytes or have a suffix K, M, G or T, and be a multiple of 4K"
		usage "--size '$text'" "$size" storage reserve x --size "$text"
		usage "--offset '$text'" "${size/size/offset}" \
			snapshot append "$id" --file x --offset "$text"
	done
	usage "--size 0" "storage reserve: --size is missing or 0; .*" \
		storage reserve x --size 0
	usage "--size is missing" "storage reserve: --size is missing or 0; .*" \
		storage reserve x
	for text in 4096 4k 1M 1g 8388607T 9223372036854771712; do
		expect "--size $text" 1 "" \
			"cannot open '/nonexistent/x': No such file or directory" \
			LOG="" -- storage reserve /nonexistent/x --size "$text"
	done
}

test_storage_options()
{
	local -a append=(snapshot append "$id")

	usage "append: no storage" \
		"snapshot append: the storage is missing; add --file FILE --size N or --device DEV" \
		"${append[@]}"
	usage "append: two storages" "--device and --file exclude each other; .*" \
		"${append[@]}" --file x --device 4000:1
	usage "append: range without device" "--range needs --device DEV" \
		"${append[@]}" --file x --range 0:1
	usage "append: size without file" "--size needs --file FILE" \
		"${append[@]}" --device 4000:1 --size 4K
	usage "append: offset without file" "--offset needs --file FILE" \
		"${append[@]}" --device 4000:1 --offset 4K
	usage "append: size 0" "--size 0: must be greater than 0" \
		"${append[@]}" --file x --size 0
	usage "append: offset and size overflow" "--offset and --size are .*" \
		"${append[@]}" --file x --offset 4194304T --size 4194304T
	usage "create: force without storage" \
		"--force needs --file FILE or --device DEV" \
		snapshot create 4000:1 --force
	usage "create: take without storage" \
		"--take needs difference storage; add --file FILE --size N or --device DEV" \
		snapshot create 4000:1 --take
	usage "read: JSON needs a file" "--json needs --output FILE here, .*" \
		cbt read 4000:1 --json
}

# signing FILE TEXT - have FAKE_SYS say that modules have to be signed, or not
signing()
{
	mkdir -p "$(dirname "$temp$1")"
	printf '%s\n' "$2" >"$temp$1"
}

test_module_unsigned()
{
	local lockdown=/sys/kernel/security/lockdown
	local enforce=/sys/module/module/parameters/sig_enforce
	local key=".*Key was rejected by service.*mokutil --import /var/lib/dkms/mok.pub.*"
	local no_key="cannot open /dev/blksnap: .* is not loaded; [^.]*insmod blksnap.ko'"

	signing $lockdown "none integrity [confidentiality]"
	expect "a kernel in confidentiality wants a key" 1 "" "$key" \
		FAKE_SYS="$temp" FAKE_OPEN=ENOENT -- snapshot list
	signing $lockdown "none [integrity] confidentiality"
	expect "a locked down kernel wants a key" 1 "" "$key" \
		FAKE_SYS="$temp" FAKE_OPEN=ENOENT -- snapshot list
	signing $lockdown "[none] integrity confidentiality"
	signing $enforce N
	expect "a kernel that is not locked down wants none" 1 "" "$no_key" \
		FAKE_SYS="$temp" FAKE_OPEN=ENOENT -- snapshot list
	signing $enforce Y
	expect "a kernel that enforces signatures wants a key" 1 "" "$key" \
		FAKE_SYS="$temp" FAKE_OPEN=ENOENT -- snapshot list
	expect "no key is named if the module is there" 1 "" \
		"cannot open /dev/blksnap: not permitted; .*CAP_SYS_ADMIN\)" \
		FAKE_SYS="$temp" FAKE_OPEN=EPERM -- snapshot list
}

test_module_missing()
{
	local error
	local hint="load it with 'modprobe blksnap' or 'insmod blksnap.ko'"

	for error in ENOENT ENXIO ENODEV; do
		expect "module is not loaded ($error)" 1 "" \
			"cannot open /dev/blksnap: the blksnap module is not loaded; $hint" \
			FAKE_SYS="$temp/none" FAKE_OPEN=$error -- snapshot list
	done
	test_module_unsigned
	for error in EACCES EPERM; do
		expect "control node is not accessible ($error)" 1 "" \
			"cannot open /dev/blksnap: not permitted; run as root \(needs CAP_SYS_ADMIN\)" \
			FAKE_OPEN=$error -- snapshot list
	done
	expect "control node fails otherwise" 1 "" \
		"cannot open /dev/blksnap: Too many open files" \
		FAKE_OPEN=EMFILE -- snapshot list
	expect "arguments are checked first" 2 "" "'x': must be the UUID .*" \
		FAKE_OPEN=ENOENT -- snapshot take x
	expect "no file is reserved without the module" 1 "" \
		"cannot open /dev/blksnap: .*" FAKE_OPEN=ENOENT -- \
		snapshot append "$id" --file "$temp/storage" --size 4K
	check "no file was left" test ! -e "$temp/storage"
}

all_tests()
{
	test_help
	test_commands
	test_devices
	test_ids
	test_numbers
	test_storage_options
	test_module_missing
}

run_all_tests
