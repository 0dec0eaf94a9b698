#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Export and import: each format gives the bytes of the point, here and elsewhere

# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source-path=SCRIPTDIR source=backup_common.sh
. "$(dirname "$0")/backup_common.sh"

message=

# export_to FILE OPTION...
export_to()
{
	local file=$1

	shift
	# A shell says when what is binary has zeros.
	run_tool -- export --from "$backups" --quiet "$@" 2>/dev/null
	((code == 0)) || { echo "# $message"; return 1; }
	cp "$temp/output" "$file"
}

import() # DIFF TARGET [OPTION]...
{
	code=0
	env ASAN_OPTIONS=exitcode=99 "$tool" import --format rbd-diff --quiet \
		"${@:2}" <"$1" >"$temp/output" 2>"$temp/message" || code=$?
	message=$(<"$temp/message")
	((code == 0)) || { echo "# $message"; return 1; }
}

new_points() # FOLDER BLOCKS
{
	local i

	backups=$fast/$1
	mkdir -p "$backups"
	new_disk "$2"
	for ((i = 1; i <= 5; i++)); do
		backup --quiet
		keep "$i"
		change_disk by_chance
	done
}

# Reads what was exported and says where a point differs from what it says.
reader='
import hashlib, json, re, struct, sys
kind, path, point, base = sys.argv[1:5]
want = open(point, "rb").read()
have = bytearray(open(base, "rb").read() if base else bytes(len(want)))

def put(offset, size, zero):
    have[offset:offset + size] = bytes(size) if zero else \
        want[offset:offset + size]

data = open(path, "rb").read()
covered = 0
if kind == "ranges":
    for line in data.decode().splitlines():
        start, count, what = line.split()
        assert int(start) >= covered, "not in order, or twice"
        covered = int(start) + int(count)
        put(int(start) * 512, int(count) * 512, {"zero": True, "data": False}[what])
elif kind == "json":
    d = json.loads(data)
    assert d["volume_capacity_bytes"] == len(want)
    assert d["block_metadata_type"] == "VARIABLE_LENGTH"
    assert re.fullmatch(r"[-0-9a-f]{36}/\d+", d["change_id"])
    assert bool(base) == ("base_change_id" in d)
    assert not base or d["base_change_id"] != d["change_id"]
    for r in d["block_metadata"]:
        put(r["byte_offset"], r["size_bytes"], r["zero"])
elif kind == "bmap":
    text = data.decode()
    block = int(re.search(r"<BlockSize> (\d+)", text)[1])
    mapped = int(re.search(r"<MappedBlocksCount> (\d+)", text)[1])
    for sum, a, _, b in re.findall(r"chksum=\"(\w+)\"> (\d+)(-(\d+))?", text):
        begin, end = int(a) * block, min((int(b or a) + 1) * block, len(want))
        assert hashlib.sha256(want[begin:end]).hexdigest() == sum, begin
        covered += int(b or a) + 1 - int(a)
        put(begin, end - begin, False)
    assert covered == mapped
    own = re.search(r"<BmapFileChecksum> (\w+)", text)[1]
    assert hashlib.sha256(text.replace(own, "0" * 64).encode()).hexdigest() == own
elif kind == "rbd-diff":
    assert data.startswith(b"rbd diff v1\n")
    at, names = 12, {}
    while chr(data[at]) in "fts":
        tag, at = chr(data[at]), at + 1
        if tag == "s":
            assert struct.unpack_from("<Q", data, at)[0] == len(want)
            at += 8
        else:
            n = struct.unpack_from("<I", data, at)[0]
            names[tag] = data[at + 4:at + 4 + n].decode()
            at += 4 + n
    assert bool(base) == ("f" in names) and names["t"].startswith("point-")
    while chr(data[at]) != "e":
        tag, offset, size = struct.unpack_from("<cQQ", data, at)
        at += 17
        if tag == b"w":
            have[offset:offset + size] = data[at:at + size]
            at += size
        else:
            assert tag == b"z"
            have[offset:offset + size] = bytes(size)
    assert at + 1 == len(data)
if have != want:
    print("# differs at", next(i for i in range(len(want)) if have[i] != want[i]))
    sys.exit(1)'

gives() # FORMAT POINT [SINCE]
{
	export_to "$fast/exported" --format "$1" --point "$2" ${3:+--since "$3"} &&
		python3 -c "$reader" "$1" "$fast/exported" "$points/$2" \
			"${3:+$points/$3}"
}

# Only what changed; the full one is some megabytes.
is_small() # FORMAT POINT SINCE BYTES
{
	export_to "$fast/exported" --format "$1" --point "$2" --since "$3" &&
		(($(stat -c %s "$fast/exported") < $4))
}

test_formats()
{
	local format

	prepare new_points formats 400
	for format in ranges json bmap rbd-diff; do
		check "$format gives all of a disk" gives "$format" 4
		check "$format gives one increment" gives "$format" 3 2
		check "$format gives what several changed" gives "$format" 5 1
		check "$format gives what changed since the first" \
			gives "$format" 2 1
	done
	check "an increment is small" is_small rbd-diff 3 2 2500000
	prepare eval "block_bytes=4096"
	prepare new_points small 3000
	for format in ranges json bmap rbd-diff; do
		check "$format with small tracking blocks" gives "$format" 5
		check "$format with small tracking blocks, an increment" \
			gives "$format" 5 1
	done
	prepare eval "block_bytes=65536"
}

is_imported() # POINT
{
	is_point "$1" "$fast/imported"
}

imports_one_after_the_other()
{
	rm -f "$fast/imported"
	export_to "$fast/diff1" --format rbd-diff --point 2 &&
		export_to "$fast/diff2" --format rbd-diff --point 3 --since 2 &&
		export_to "$fast/diff3" --format rbd-diff --since 3 &&
		import "$fast/diff1" "$fast/imported" && is_imported 2 &&
		import "$fast/diff2" "$fast/imported" && is_imported 3 &&
		import "$fast/diff3" "$fast/imported" && is_imported 5
}

imports_from_a_pipe()
{
	rm -f "$fast/imported"
	"$tool" export --from "$backups" --format rbd-diff --quiet |
		"$tool" import --format rbd-diff --quiet "$fast/imported" \
		>/dev/null && is_imported 5
}

# No cluster is needed for that, but it complains of not knowing one.
merge() # DIFF DIFF RESULT
{
	rbd merge-diff "$1" "$2" "$3" --no-progress 2>"$temp/message" ||
		{ cat "$temp/message"; return 1; }
}

rbd_merges()
{
	merge "$fast/diff1" "$fast/diff2" "$fast/merged2" &&
		merge "$fast/merged2" "$fast/diff3" "$fast/merged3" ||
		return 1
	rm -f "$fast/imported"
	import "$fast/merged3" "$fast/imported" && is_imported 5 &&
		merge "$fast/diff2" "$fast/diff3" "$fast/merged4" &&
		cp "$points/2" "$fast/imported" &&
		import "$fast/merged4" "$fast/imported" && is_imported 5
}

bmaptool_copies()
{
	rm -f "$fast/copied"
	export_to "$fast/disk.bmap" --format bmap &&
		bmaptool -q copy --bmap "$fast/disk.bmap" "$points/5" \
			"$fast/copied" 2>/dev/null && is_point 5 "$fast/copied"
}

# With other paths.
man_examples_run()
{
	local line count=0

	rm -f "$fast/imported"
	while read -r line; do
		line=${line//\/backup/$backups}
		line=${line//\/srv/$fast}
		eval "${line//blksnap /\"$tool\" }" >"$temp/output" 2>&1 ||
			{ echo "# $line"; cat "$temp/output"; return 1; }
		count=$((count + 1))
	done < <(man_examples "\(export\|import\)" | sed 's/^/blksnap /')
	((count == 3)) && is_point 5 "$fast/vda1.img"
}

test_others()
{
	prepare new_points others 300
	check "diffs are imported one after the other" imports_one_after_the_other
	check "a diff is imported from a pipe" imports_from_a_pipe
	if [[ $counting ]] || type -P rbd >/dev/null; then
		check "rbd merges the diffs, and gives the same disk" rbd_merges
	else
		skip "rbd merges the diffs" "rbd is not installed"
	fi
	if [[ $counting ]] || type -P bmaptool >/dev/null; then
		check "bmaptool copies by the map, and verifies it" \
			bmaptool_copies
	else
		skip "bmaptool copies by the map" "bmaptool is not installed"
	fi
	check "the examples of the man page" man_examples_run
}

cut_diff_changes_nothing()
{
	cp "$points/2" "$fast/imported"
	head -c -1 "$fast/diff2" >"$fast/cut"
	! import "$fast/cut" "$fast/imported" &&
		[[ $code == 1 && $message == "blksnap: the diff is cut: "* ]] &&
		is_imported 2
}

# From a pipe that is only known at its end.
cut_pipe_is_told()
{
	cp "$points/2" "$fast/imported"
	code=0
	head -c -1 "$fast/diff2" | "$tool" import --format rbd-diff --quiet \
		"$fast/imported" 2>"$temp/message" || code=$?
	((code == 1)) && grep -q "has got a part of the changes" "$temp/message"
}

refused() # EXPRESSION DIFF TARGET [OPTION]...
{
	local expression="^blksnap: $1\$"

	shift
	if import "$@" >/dev/null || [[ $code != 1 || ! $message =~ $expression ]]; then
		echo "# $code: $message"
		return 1
	fi
}

damaged_export_has_no_end()
{
	python3 -c '
import sys
f = open(sys.argv[1], "r+b")
f.seek(int(sys.argv[2]))
b = f.read(1)
f.seek(int(sys.argv[2]))
f.write(bytes([b[0] ^ 1]))' "$(layer 1)" 400000
	run_tool -- export --from "$backups" --format rbd-diff --quiet 2>/dev/null
	cp "$temp/output" "$fast/damaged"
	((code == 5)) && [[ $message == *"is damaged: wrong checksum"* ]] &&
		refused "the diff is cut: .*" "$fast/damaged" "$fast/new" &&
		[[ ! -e $fast/new && ! -e $fast/new.partial ]]
}

test_errors()
{
	prepare new_points errors 60
	prepare export_to "$fast/diff1" --format rbd-diff --point 2
	prepare export_to "$fast/diff2" --format rbd-diff --point 3 --since 2
	check "a diff that is cut changes nothing" cut_diff_changes_nothing
	check "from a pipe it is told" cut_pipe_is_told
	prepare truncate -s 4M "$fast/other"
	check "changes are not for a file of another size" refused \
		".* bytes, the disk has .*; it is not the file .*" \
		"$fast/diff2" "$fast/other"
	check "changes need a target that is there" refused \
		"cannot open '$fast/nothing': .*" "$fast/diff2" "$fast/nothing"
	check "a layer of a backup is no target" refused \
		".* is in the folder of a backup; .*" "$fast/diff2" "$(layer 1)"
	check "a file is not replaced" refused \
		".* is there already; --force replaces it" "$fast/diff1" \
		"$fast/other"
	check "something else is no diff" refused \
		"what comes in is no diff of version 1, .*" "$(layer 1)" "$fast/x"
	expect "not based on that point" 3 "" \
		"point 2 is not based on point 4, .*" -- \
		export --from "$backups" --format json --point 2 --since 4
	expect "no such point" 1 "" "there is no point 9; .*" -- \
		export --from "$backups" --format json --point 9
	expect "no format" 2 "" "export: --format is missing; .*" -- \
		export --from "$backups"
	expect "an unknown format" 2 "" "--format 'x': must be json, .*" -- \
		export --from "$backups" --format x
	expect "no folder" 2 "" "export: --from is missing; .*" -- \
		export --format json
	expect "import without a format" 2 "" "import: --format is missing; .*" \
		-- import x
	expect "import of another format" 2 "" \
		"--format 'json': must be rbd-diff" -- import --format json x
	check "what is exported of a damaged layer has no end" \
		damaged_export_has_no_end
	prepare mv "$(layer 2)" "$fast/layer2"
	expect "of a layer that is missing nothing is exported" 5 "" \
		"'$(layer 2)' is damaged: it is missing or cut" -- \
		export --from "$backups" --format rbd-diff --point 2 --quiet
	check "what does not need it is exported" \
		export_to "$fast/diff3" --format rbd-diff --point 4 --since 2
}

all_tests()
{
	local test

	for test in ${ONLY:-formats others errors}; do
		"test_$test"
	done
}

run_all_tests
