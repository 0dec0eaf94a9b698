# SPDX-License-Identifier: GPL-2.0
#
# Curves of cost; variables "data" and "pictures" are folders
#
# A file of data has lines of: what varies, then the cost with no snapshot, with
# blksnap, and with dm-snapshot and chunks of 4, 64 and 256 KiB.

set terminal svg size 640,400 dynamic background "white" font "sans,13"
set grid
set key outside below maxrows 2
set style data linespoints
set logscale y
set format y "%.0s%c"

array names[5] = ["bare", "blksnap", "dm-snapshot 4K", "dm-snapshot 64K", \
	"dm-snapshot 256K"]
array colours[5] = ["#808080", "#c00000", "#0060c0", "#4090e0", "#90c0f0"]

set output pictures."/blksnap-depth.svg"
set title "First write of 4 KiB, one per MiB"
set xlabel "queue depth"
set ylabel "instructions per write"
set logscale x 2
plot for [i = 1:5] data."/depth" using 1:(column(i + 1)) \
	linewidth 2 pointtype 7 pointsize 0.6 linecolor rgb colours[i] \
	title names[i]

set output pictures."/blksnap-size.svg"
set title "First write, one at a time"
set xlabel "size in KiB"
set ylabel "instructions per write"
set logscale x 4
plot for [i = 1:5] data."/size" using 1:(column(i + 1)) \
	linewidth 2 pointtype 7 pointsize 0.6 linecolor rgb colours[i] \
	title names[i]

set output pictures."/blksnap-fraction.svg"
set title "Random write of 4 KiB, one at a time"
set xlabel "copied already, in percent"
set ylabel "instructions per write"
unset logscale x
plot for [i = 1:5] data."/fraction" using 1:(column(i + 1)) \
	linewidth 2 pointtype 7 pointsize 0.6 linecolor rgb colours[i] \
	title names[i]

# How long requests took, one picture for each file.
set terminal svg size 960,720 dynamic background "white" font "sans,13"
set output pictures."/blksnap-tails.svg"
array tails[5] = ["write", "image", "take_1", "take_8", "take_64"]
array titles[5] = ["writes, a snapshot held", "reads of an image", \
	"writes while 1 device is taken", "while 8 devices are taken", \
	"while 64 devices are taken"]
set multiplot layout 2,3
set ylabel "microseconds"
set xlabel "of the requests, at most"
set xtics ("50 %%" 0, "90 %%" 1, "99 %%" 2, "99.9 %%" 3, "all" 4) nomirror
set xrange [-0.3:4.3]
set yrange [80:2000000]
set format y "%.0f"
unset key
do for [t = 1:5] {
	set title titles[t]
	plot for [i = 1:5] data."/".tails[t] using 0:(column(i + 1)) \
		linewidth 2 pointtype 7 pointsize 0.6 linecolor rgb colours[i] \
		title names[i]
}
# The sixth place has the names.
unset title; unset xlabel; unset ylabel; unset tics; unset border; unset grid
set key center center
plot for [i = 1:5] 1 / 0 with linespoints linewidth 2 pointtype 7 \
	linecolor rgb colours[i] title names[i]
unset multiplot
