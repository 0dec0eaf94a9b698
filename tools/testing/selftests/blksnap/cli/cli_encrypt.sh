#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Encrypted backups: what each command does with the key, and without it

# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source-path=SCRIPTDIR source=backup_common.sh
. "$(dirname "$0")/backup_common.sh"

message=
folder=$backups/machine
# A comma has a meaning of its own for QEMU.
key=$temp/the,key
other=$temp/other-key
encrypt=(--encrypt --key-file "$key")
printf 'a pass phrase of some w\303\266rds\n' >"$key"
echo "another pass phrase" >"$other"

# A line that is looked for in the files of the backup
secret="the quick brown fox jumps over the lazy dog"

hide_secret()
{
	{ yes "$secret" 2>/dev/null || true; } | head -c 65536 |
		dd of="$image" bs=64k seek=3 conv=notrunc 2>/dev/null
}

finds() # FILE...
{
	grep -qaF "$secret" "$@"
}

hides() # FILE...
{
	! finds "$@"
}

new_folder() # NAME
{
	backups=$fast/$1
	folder=$backups/machine
	mkdir -p "$backups"
}

# qemu_opens TOP BELOW... - the options for QEMU, as the manual page has them
qemu_opens()
{
	local options=driver=qcow2,encrypt.key-secret=k prefix=

	options+=,file.filename=$1
	shift
	for file in "$@"; do
		prefix+=backing.
		options+=,${prefix}driver=qcow2,${prefix}encrypt.key-secret=k
		options+=,${prefix}file.filename=$file
	done
	qemu-img convert --object "secret,id=k,file=${key//,/,,}" --image-opts \
		"$options" -O raw "$fast/converted"
}

is_at() # POINT [BELOW]... - for plain QEMU
{
	local point=$1
	local -a files=()

	for point in "$@"; do
		files+=("$(layer "$point")")
	done
	qemu_opens "${files[@]}" && is_point "$1" "$fast/converted"
}

saves() # POINT [OPTION]...
{
	local point=$1

	shift
	backup --quiet "${encrypt[@]}" "$@"
	keep "$point"
	((code == 0)) || { echo "# $message"; return 1; }
}

restores() # POINT
{
	run_tool -- restore --from "$backups" --source-name machine --point "$1" \
		--quiet --force --key-file "$key" "$fast/restored"
	((code == 0)) || { echo "# $message"; return 1; }
	is_point "$1" "$fast/restored"
}

entry() # POINT KEY - what the catalogue says
{
	python3 -c '
import json, sys
for p in json.load(open(sys.argv[1]))["points"]:
    if p["point"] == int(sys.argv[2]):
        print(p["disks"][0].get(sys.argv[3]))' "$folder/catalogue.json" \
		"$1" "$2"
}

entry_is() # POINT KEY VALUE
{
	[[ $(entry "$1" "$2") == "$3" ]] || {
		echo "# $2 is $(entry "$1" "$2")"
		return 1
	}
}

nothing_changed()
{
	(cd "$folder" && sha256sum -- *) | diff - "$temp/sums"
}

note_sums()
{
	(cd "$folder" && sha256sum -- *) >"$temp/sums"
}

other_sums() # MAP MAP - of the same data
{
	grep -q ^sha256 "$1" && grep -q ^data "$1" &&
		cmp -s <(grep ^data "$1") <(grep ^data "$2") &&
		! cmp -s <(grep ^sha256 "$1") <(grep ^sha256 "$2")
}

test_chain()
{
	prepare new_disk 1100
	prepare hide_secret
	check "the first encrypted backup" saves 1
	prepare change_disk by_chance
	check "the second one" saves 2
	check "it is incremental" entry_is 2 base 1
	check "the catalogue says that they are encrypted" entry_is 2 encrypted True
	prepare change_disk 0 5 1099
	check "the third one" saves 3
	check "QEMU alone opens the full one" is_at 1
	check "QEMU alone opens the chain" is_at 3 2 1
	check "the first one restores" restores 1
	check "the last one restores" restores 3
	check "the secret was in the disk" finds "$image"
	check "it cannot be read in the backup" hides "$folder"/*
	expect "they are verified" 0 "POINT .*(ok.*){3}" "" -- \
		verify "$backups" --quiet --key-file "$key"
	expect "they are listed without a key" 0 "POINT .*(ok.*){3}" "" -- \
		list "$backups"
	expect "ranges are exported" 0 ".* data.*" "" -- export --from "$backups" \
		--format ranges --key-file "$key"
	check "data is exported and imported" comes_back
	check "prune merges encrypted layers" prunes
	expect "all is verified after it" 0 "POINT .*(ok.*){2}" "" -- \
		verify "$backups" --quiet --key-file "$key"
}

comes_back()
{
	"$tool" export --from "$backups" --format rbd-diff --quiet \
		--key-file "$key" >"$fast/diff" &&
		"$tool" import --format rbd-diff --force --quiet \
			"$fast/imported" <"$fast/diff" >/dev/null &&
		is_point 3 "$fast/imported"
}

prunes()
{
	run_tool -- prune "$backups" --quiet --keep-last 1 --key-file "$key"
	((code == 0)) || { echo "# $message"; return 1; }
	hides "$folder"/* && is_at 3 && restores 3 && entry_is 3 base 0 &&
		change_disk by_chance && saves 4 && is_at 4 3 && restores 4
}

# Both have the same data, so equal sums would tell whoever sees them.
test_checksums()
{
	prepare new_folder plain
	prepare new_disk 40
	prepare backup --quiet
	prepare cp "$folder/4000-1.000001.map" "$temp/plain.map"
	prepare new_folder hidden
	check "the same disk, encrypted" saves 1
	check "the checksums are others" other_sums \
		"$folder/4000-1.000001.map" "$temp/plain.map"
	prepare new_folder hidden_again
	check "and with another key" backs_up --encrypt --key-file "$other"
	check "others again" other_sums "$folder/4000-1.000001.map" \
		"$fast/hidden/machine/4000-1.000001.map"
}

backs_up() # OPTION...
{
	backup --quiet "$@"
	((code == 0)) || { echo "# $message"; return 1; }
}

# Tracking blocks of 512 bytes are less than what a file can have alone.
test_small_blocks()
{
	prepare new_folder small
	prepare eval block_bytes=512
	prepare new_disk 4001
	check "small tracking blocks" saves 1
	# shellcheck disable=SC2046 # they are numbers
	prepare change_disk $(seq 1 29 4000)
	check "small tracking blocks: what changed" saves 2
	check "QEMU alone opens them" is_at 2 1
	check "they restore" restores 2
	prepare eval block_bytes=65536
}

# Whatever is wrong with the key, nothing is written or removed.
test_keys()
{
	local lacks="'$fast/keys/machine/4000-1.000002.qcow2' is encrypted; give the file with its key by --key-file"
	local wrong="'$fast/keys/machine/4000-1.000002.qcow2' does not open with the key in '$other'; give the right one by --key-file"
	local -a from=(--from "$fast/keys") bad=(--key-file "$other")

	prepare new_folder keys
	prepare new_disk 40
	prepare saves 1
	prepare change_disk by_chance
	prepare saves 2
	prepare note_sums
	expect "restore without a key" 2 "" "$lacks" -- \
		restore "${from[@]}" "$fast/none"
	expect "restore with a wrong key" 1 "" "$wrong" -- \
		restore "${from[@]}" "${bad[@]}" "$fast/none"
	check "no target was made" test ! -e "$fast/none" -a \
		! -e "$fast/none.partial"
	expect "verify without a key" 2 "" "$lacks" -- \
		verify "$fast/keys" --point 2
	check "verify with a wrong key does not say damaged" knows_nothing
	expect "export without a key" 2 "" "$lacks" -- \
		export "${from[@]}" --format json
	expect "export with a wrong key" 1 "" "$wrong" -- \
		export "${from[@]}" "${bad[@]}" --format bmap
	expect "prune without a key" 2 "" "$lacks" -- \
		prune "$fast/keys" --keep-last 1
	expect "prune with a wrong key" 1 "" "$wrong" -- \
		prune "$fast/keys" "${bad[@]}" --keep-last 1
	expect "a plan of it needs no key" 0 ".* remove .* keep .*" "" -- \
		prune "$fast/keys" --keep-last 1 --dry-run
	prepare mkdir "$temp/place"
	expect "mount without a key" 2 "" "$lacks" -- \
		mount "${from[@]}" "$temp/place"
	expect "mount with a wrong key" 1 "" "$wrong" -- \
		mount "${from[@]}" "${bad[@]}" "$temp/place"
	prepare change_disk by_chance
	expect "a backup with a wrong key" 1 "" "$wrong" "${variables[@]}" -- \
		backup --to "$fast/keys" --source-name machine --storage \
		"$storage" --encrypt "${bad[@]}" 4000:1
	expect "one with a wrong key after the machine has started" 1 "" \
		"$wrong" "${variables[@]}" FAKE_GENERATION=77 FAKE_NUMBER=1 -- \
		backup --to "$fast/keys" --source-name machine --storage \
		"$storage" --encrypt "${bad[@]}" 4000:1
	expect "a backup without encryption" 1 "" \
		"'4000:1' is encrypted in '$fast/keys/machine' so far; add --encrypt and --key-file, or back it up to another folder" \
		"${variables[@]}" -- backup --to "$fast/keys" --source-name \
		machine --storage "$storage" --full 4000:1
	check "nothing in the folder has changed" nothing_changed
	check "and the next backup builds on it" saves 3
	check "which restores" restores 3
}

knows_nothing()
{
	run_tool -- verify "$fast/keys" --key-file "$other" --no-header --quiet
	echo "# it ends with $code: $output"
	((code == 1)) &&
		[[ $output =~ unknown.*unknown && $output != *damaged* ]]
}

backs_up_aloud()
{
	backup "${encrypt[@]}"
	((code == 0)) || { echo "# $message"; return 1; }
	keep 2
}

says_why() # TEXT
{
	[[ $message == *"$1"* ]] || { echo "# $message"; return 1; }
}

test_mixture()
{
	prepare new_folder mixture
	prepare new_disk 40
	prepare backs_up
	prepare keep 1
	prepare change_disk by_chance
	expect "an incremental one is refused on what is not encrypted" 3 "" \
		"'4000:1' needs a full backup: the points so far are not encrypted; .*" \
		"${variables[@]}" -- backup --to "$fast/mixture" --source-name \
		machine --storage "$storage" --incremental-only "${encrypt[@]}" \
		4000:1
	check "a full one is made" backs_up_aloud
	check "and said" says_why \
		"4000-1: full backup, because the points so far are not encrypted"
	check "both can be restored" eval "restores 1 && restores 2"
}

# QEMU measures the time that it takes itself, and may find that it took none.
test_clock()
{
	prepare new_folder clock
	prepare new_disk 40
	prepare mkdir "$temp/bin"
	prepare make_unsure "$temp/bin/qemu-img"
	check "QEMU fails for once" saves_with "$temp/bin"
	check "it did" test -e "$temp/unsure"
	check "what was written in the end restores" restores 1
}

make_unsure() # PROGRAM
{
	cat >"$1" <<-END
	#!/bin/sh
	if [ "\$1" = create ] && [ ! -e "$temp/unsure" ]; then
		touch "$temp/unsure"
		echo "qemu-img: Unable to get accurate CPU usage" >&2
		exit 1
	fi
	exec $(type -P qemu-img) "\$@"
	END
	chmod +x "$1"
}

saves_with() # FOLDER
{
	variables+=(PATH="$1:$PATH")
	saves 1
}

test_arguments()
{
	local -a to=(backup --to "$backups" 4000:1)

	prepare touch "$temp/empty"
	prepare eval "printf '\\377\\376' >'$temp/binary'"
	prepare eval "head -c 5000 /dev/zero | tr '\\0' x >'$temp/long'"
	expect "both encrypted and compressed" 2 "" \
		"--encrypt and --compress exclude each other: .*" -- \
		"${to[@]}" "${encrypt[@]}" --compress
	expect "encrypted without a key" 2 "" "--encrypt needs --key-file, .*" -- \
		"${to[@]}" --encrypt
	expect "a key for nothing" 2 "" "--key-file is for --encrypt, add it" -- \
		"${to[@]}" --key-file "$key"
	expect "no such file" 1 "" \
		"cannot open '/nonexistent': No such file or directory" -- \
		"${to[@]}" --encrypt --key-file /nonexistent
	expect "an empty key" 2 "" \
		"--key-file '$temp/empty': must be a file with 1 to 4096 bytes" \
		-- "${to[@]}" --encrypt --key-file "$temp/empty"
	expect "a folder as a key" 2 "" "--key-file '$temp': must be a file .*" \
		-- "${to[@]}" --encrypt --key-file "$temp"
	prepare mkfifo "$temp/fifo"
	expect "a pipe as a key, in which nothing comes" 2 "" \
		"--key-file '$temp/fifo': must be a file .*" \
		-- "${to[@]}" --encrypt --key-file "$temp/fifo"
	expect "a key that is too long" 2 "" \
		"--key-file '$temp/long': must be a file .*" -- \
		"${to[@]}" --encrypt --key-file "$temp/long"
	expect "a key that is no text" 2 "" \
		"--key-file '$temp/binary': must hold text, .*" -- \
		"${to[@]}" --encrypt --key-file "$temp/binary"
}

all_tests()
{
	local test

	for test in ${ONLY:-chain checksums small_blocks keys mixture \
		clock arguments}; do
		"test_$test"
	done
}

run_all_tests
