#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Power cuts while backups are made and pruned
#
#	power_cut.sh --kernel VERSION [--cuts N] [--seed S]
#
# A guest backs a disk up, again and again, and prunes.  It is killed at a random
# moment, with all that it has in memory.  The next one finds the same disks, checks
# what there is (see power_cut_guest.sh), and goes on, until it is killed in turn.

# Functions are called by name.
# shellcheck disable=SC2317
set -euo pipefail

selftests=$(dirname "$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")")
# shellcheck source-path=SCRIPTDIR source=../../lib/build.sh
. "$selftests/lib/build.sh"
# shellcheck source-path=SCRIPTDIR source=../rig/ktap.sh
. "$selftests/guest/rig/ktap.sh"
kernel=6.1
cuts=3
seed=1
while (($#)); do
	case $1 in
	--kernel)	kernel=$2 ;;
	--cuts)		cuts=$2 ;;
	--seed)		seed=$2 ;;
	*)		sed -n '4,/^$/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
	esac
	shift 2
done
RANDOM=$seed
work=$(mktemp -d "${TMPDIR:-/tmp}/blksnap-power.XXXXXX")
guest_pid=
trap 'kill_machine; rm -rf "$work"' EXIT

# Whatever has the disks on its command line; the machine has a session of its own.
kill_machine()
{
	while pkill -KILL -f -- "$work/backups"; do
		sleep 0.1
	done
}

run_guest()
{
	"$selftests/lib/guest" --kernel "$kernel" --timeout 300 \
		--log "$work/log" --module "$MODULE_KO" --module ext4 \
		--program "$TOOLS_DIR/blksnap" --program qemu-nbd --program qemu-img \
		--program nbdinfo --program mkfs.ext4 --program e2fsck \
		--program blockdev --program dd --program stat \
		--disk "$work/origin" --disk "$work/backups" \
		"$selftests/guest/tool/power_cut_guest.sh" "$@" >"$work/output" 2>&1 &
	guest_pid=$!
}

# cut_power - a while after the guest has begun to work
cut_power()
{
	local tenths=$((RANDOM % 60))

	until grep -q '^working' "$work/output"; do
		kill -0 "$guest_pid" 2>/dev/null || return 1
		sleep 0.1
	done
	sleep "$((tenths / 10)).$((tenths % 10))"
	kill -0 "$guest_pid" 2>/dev/null || return 1
	kill_machine
	wait "$guest_pid" 2>/dev/null || true
	guest_pid=
	sed 's/^/# /' "$work/output"
}

guest_succeeds()
{
	local code=0

	wait "$guest_pid" || code=$?
	guest_pid=
	sed 's/^/# /' "$work/output"
	return "$code"
}

build_all()
{
	module_build "$kernel" && tools_build "$kernel"
}

build_all >"$work/build" 2>&1 || { cat "$work/build"; exit 1; }
truncate -s 24M "$work/origin"
truncate -s 2G "$work/backups"
ktap_plan $((cuts + 1))
say "seed $seed"
for ((cut = 1; cut <= cuts; cut++)); do
	run_guest work "$seed$cut"
	ktap_result "cut_$cut" cut_power || exit 1
done
run_guest check
ktap_result everything_is_whole_at_the_end guest_succeeds
exit "$ktap_failed"
