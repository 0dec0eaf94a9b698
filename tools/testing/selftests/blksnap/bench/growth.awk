#!/usr/bin/awk -f
# SPDX-License-Identifier: GPL-2.0
#
# The tables of how cost grows, one for each axis
#
#   awk -f grouped.awk -f growth.awk growth.json

function figure(axis, value, name, divisor, form,    key)
{
	key = axis "." value "." name
	if (!(key in results))
		return "-"
	if (!form)
		return grouped(results[key] / divisor)
	return sprintf(form, results[key] / divisor)
}

# What a value of an axis is called.
function value_shown(axis, value)
{
	if (axis ~ /^size/ || axis == "own")
		return value < 1024 ? value " GiB" : value / 1024 " TiB"
	if (axis == "fraction")
		return value " %"
	return grouped(value)
}

# Columns: a width and two lines of title each.
function print_heads(columns,    i, nr, column, lower, line)
{
	nr = split(columns, column, "|")
	for (lower = 0; lower < 2; lower++) {
		line = sprintf("%9s", "")
		for (i = 1; i <= nr; i += 3)
			line = line sprintf(" %" column[i] "s",
					    column[i + 1 + lower])
		sub(/ +$/, "", line)
		print line
	}
}

function print_axis(axis,    i, value)
{
	printf "\n%s\n", titles[axis]
	print_heads("8|tracked||8|copied||8|first||8|image||8|image|stored|" \
		    "9|memory|taken|9|memory|written|8|create||8|create|again|" \
		    "8|append||8|take||8|destroy|")
	for (i = 1; i <= nr_values[axis]; i++) {
		value = values[axis, i]
		printf "%9s %8s %8s %8s %8s %8s %9s %9s %8s %8s %8s %8s %8s\n",
		       value_shown(axis, value),
		       figure(axis, value, "tracked", 1, "%+.0f"),
		       figure(axis, value, "copied", 1, "%+.0f"),
		       figure(axis, value, "first", 1),
		       figure(axis, value, "image", 1),
		       figure(axis, value, "stored", 1),
		       figure(axis, value, "memory_taken", 1024),
		       figure(axis, value, "memory", 1024),
		       figure(axis, value, "create", 1000, "%.1f"),
		       figure(axis, value, "again", 1000, "%.3f"),
		       figure(axis, value, "append", 1000, "%.3f"),
		       figure(axis, value, "take", 1000, "%.2f"),
		       figure(axis, value, "destroy", 1000, "%.1f")
	}
}

function print_all_devices(    i, value)
{
	printf "\nThe same, writes to several of them and calls for all together\n"
	print_heads("8|tracked|mean|8|tracked|at most|9|untracked|mean|" \
		    "9|untracked|at most|8|create|again|8|take||8|destroy|")
	for (i = 1; i <= nr_values["devices"]; i++) {
		value = values["devices", i]
		printf "%9s %8s %8s %9s %9s %8s %8s %8s\n",
		       value_shown("devices", value),
		       figure("devices", value, "tracked_some", 1, "%+.0f"),
		       figure("devices", value, "tracked_some_most", 1, "%+.0f"),
		       figure("devices", value, "untracked_some", 1, "%+.0f"),
		       figure("devices", value, "untracked_some_most", 1,
			      "%+.0f"),
		       figure("devices", value, "all_again", 1000, "%.3f"),
		       figure("devices", value, "all_take", 1000, "%.2f"),
		       figure("devices", value, "all_destroy", 1000, "%.1f")
	}
}

BEGIN {
	titles["size"] = "Size of the device"
	titles["ranges"] = "Ranges of storage"
	titles["own"] = "Storage on the origin itself, which has 1 TiB"
	titles["devices"] = "Devices that are tracked"
	titles["held"] = "Snapshots that are held"
	titles["fraction"] = "Blocks that are copied, of a device of 256 MiB"
}

match($0, /"name": "growth\.[^"]*"/) {
	name = substr($0, RSTART + 16, RLENGTH - 17)
	split(name, part, ".")
	axis = part[1]
	value = part[2]
	if (!(axis in nr_values))
		axes[++nr_axes] = axis
	if (!((axis, value) in seen)) {
		seen[axis, value]
		values[axis, ++nr_values[axis]] = value
	}
	if (match($0, /"value": [-0-9.]+/))
		results[name] = substr($0, RSTART + 9, RLENGTH - 9) + 0
}

END {
	print "Instructions per request of 4K, KiB of memory, ms of calls"
	for (a = 1; a <= nr_axes; a++) {
		print_axis(axes[a])
		if (axes[a] == "devices")
			print_all_devices()
	}
}
