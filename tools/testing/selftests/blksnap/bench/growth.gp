# SPDX-License-Identifier: GPL-2.0
#
# Curves of growth; variables "data" and "pictures" are folders
#
# A file of data has lines of: the value on the axis; instructions of a first
# write, of reading what is not copied and what is stored; bytes of memory after
# the take and after the writes; microseconds of append and take.

set terminal svg size 640,400 dynamic background "white" font "sans,13"
set grid
set key outside below maxrows 2
set style data linespoints
set logscale xy

set output pictures."/blksnap-growth-size.svg"
set title "Requests of 4 KiB on a device of some size"
set xlabel "size in GiB"
set ylabel "instructions per request"
set logscale x 4
set format y "%.0s%c"
plot [] [5000:] \
	data."/growth-size" using 1:2 linewidth 2 pointtype 7 pointsize 0.6 \
	linecolor rgb "#c00000" title "first write", \
	data."/growth-size" using 1:4 linewidth 2 pointtype 7 pointsize 0.6 \
	linecolor rgb "#0060c0" title "read of what is stored", \
	data."/growth-size" using 1:3 linewidth 2 pointtype 7 pointsize 0.6 \
	linecolor rgb "#808080" title "read of what is not copied"

set output pictures."/blksnap-growth-memory.svg"
set title "Memory of a snapshot of a device of some size"
set ylabel "bytes"
set format y "%.0b%BB"
plot [] [65536:] \
	data."/growth-size" using 1:6 linewidth 2 pointtype 7 pointsize 0.6 \
	linecolor rgb "#c00000" title "after 1,024 scattered writes", \
	data."/growth-size" using 1:5 linewidth 2 pointtype 7 pointsize 0.6 \
	linecolor rgb "#0060c0" title "after the take"

set output pictures."/blksnap-growth-ranges.svg"
set title "Storage of many ranges"
set xlabel "ranges"
set ylabel "ms"
set logscale x 10
set format y "%g"
plot data."/growth-ranges" using 1:($7 / 1000) linewidth 2 pointtype 7 \
	pointsize 0.6 linecolor rgb "#c00000" title "append of all", \
	data."/growth-ranges" using 1:($8 / 1000) linewidth 2 pointtype 7 \
	pointsize 0.6 linecolor rgb "#0060c0" title "take"
