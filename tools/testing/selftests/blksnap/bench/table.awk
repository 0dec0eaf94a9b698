#!/usr/bin/awk -f
# SPDX-License-Identifier: GPL-2.0
#
# The table of what was measured
#
#   awk -f grouped.awk -f table.awk targets results.json
#
# Fails if a figure of the module is missing.

function trim(text)
{
	gsub(/^[ \t]+|[ \t]+$/, "", text)
	return text
}

# A figure with as many digits as tell something, in groups of three.
function shown(value)
{
	if (value == "")
		return "-"
	if (value < 100 && value > -100)
		return value == int(value) ? value : sprintf("%.1f", value)
	return grouped(value)
}

# The best of device mapper; its chunk is put into best_chunk.
function best_of_dm(row,    i, best, name)
{
	best = ""
	for (i = 1; i <= nr_chunks; i++) {
		name = "dm" chunks[i] "." row
		if (!(name in results))
			continue
		if (best == "" || results[name] < best) {
			best = results[name]
			best_chunk = chunks[i] / 2 "K"
		}
	}
	return best
}

function compared(judged, value, bare)
{
	if (bare == "" || value == "")
		return "-"
	if (judged == "added")
		return (value < bare ? "" : "+") shown(value - bare)
	return sprintf("x %.3f", value / bare)
}

# Differences of two figures that are the same may be off by a few instructions.
function is_met(judged, value, bare, target)
{
	target += 0
	if (judged == "added")
		return value - bare <= target + 4
	if (judged == "ratio")
		return value / bare <= target
	return value <= target
}

function print_row(title, judged, row, bare_row, target,    bare, dm, value,
		   verdict, name, line)
{
	name = "blksnap." row
	best_chunk = ""
	dm = best_of_dm(row)
	bare = bare_row in results ? results[bare_row] : ""
	value = name in results ? results[name] : ""
	verdict = ""
	if (value == "") {
		verdict = "not measured"
		nr_missing++
	} else if (target != "") {
		verdict = is_met(judged, value, bare, target) ? "met" : "not met"
		nr_targets++
		nr_met += verdict == "met"
	}
	if (dm != "" && value != "") {
		nr_peers++
		nr_ahead += value <= dm
		if (value > dm)
			verdict = verdict (verdict ? ", " : "") "behind"
	}
	if (target != "")
		target = (judged == "added" ? "+" : "") \
			 (judged == "ratio" ? "x " target : shown(target + 0))
	line = sprintf("%-42s %10s %10s %5s %10s %10s %10s  %s", title,
		       shown(bare), shown(dm), best_chunk, shown(value),
		       compared(judged, value, bare), target, verdict)
	sub(/ +$/, "", line)
	print line
}

BEGIN {
	FS = "|"
	nr_chunks = split("8 128 512", chunks, " ")
}

FNR == NR && /^@/ {
	lines[++nr_lines] = $0
	next
}

FNR == NR && !/^#/ && NF {
	lines[++nr_lines] = $0
	next
}

FNR < NR && match($0, /"name": "[^"]*"/) {
	name = substr($0, RSTART + 9, RLENGTH - 10)
	if (match($0, /"value": [-0-9.]+/))
		results[name] = substr($0, RSTART + 9, RLENGTH - 9) + 0
}

END {
	printf "%-42s %10s %10s %5s %10s %10s %10s\n", "", "bare", "dm-snap.",
	       "chunk", "blksnap", "to bare", "target"
	for (i = 1; i <= nr_lines; i++) {
		if (lines[i] ~ /^@/) {
			printf "%s%s\n", (i > 1 ? "\n" : ""), substr(lines[i], 3)
			continue
		}
		split(lines[i], field, "|")
		print_row(trim(field[1]), trim(field[2]), trim(field[3]),
			  trim(field[4]), trim(field[5]))
	}
	printf "\n%d of %d rows ahead of the best of dm-snapshot, %d of %d targets met\n",
	       nr_ahead, nr_peers, nr_met, nr_targets
	exit nr_missing > 0
}
