#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Tests of the driver as part of a kernel source tree
#
#	in_tree.sh --kernel uml|uml-kasan
#
# tools/patches/into-tree lays driver and hook into the source that the kernel was
# built from, and the kernel's own makefiles build it there: as a module, which
# is then run by the kernel, and built in.

# The tests are called by name from the table at the end, and the script of one
# expands in the guest.
# shellcheck disable=SC2317,SC2016
set -euo pipefail

selftests=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")
# shellcheck source-path=SCRIPTDIR source=../lib/build.sh
. "$selftests/lib/build.sh"
# shellcheck source-path=SCRIPTDIR source=../lib/kernel_build.sh
. "$selftests/lib/kernel_build.sh"
# shellcheck source-path=SCRIPTDIR source=rig/ktap.sh
. "$selftests/guest/rig/ktap.sh"
if [[ ${1:-} != --kernel || $# != 2 ]]; then
	sed -n '4,/^$/s/^# \{0,1\}//p' "$0" >&2
	exit 2
fi
kernel=$2
driver=drivers/block/blksnap
into_tree=$top/tools/patches/into-tree
make_arguments=(ARCH=um -s -j "$(nproc)")

# shows_log COMMAND... - run it, and show the log if it fails
shows_log()
{
	: >"$dir/log"
	! "$@" >>"$dir/log" 2>&1 || return 0
	tail -n 60 "$dir/log" | sed 's/^/# /'
	return 1
}

# The hook is there already: it is the kernel's own source.
test_driver_lies_in_the_tree()
{
	"$into_tree" "$source" &&
		[[ -e $source/$driver/main.c ]] &&
		grep -q blksnap "$source/drivers/block/Makefile"
}

test_laying_it_again_changes_nothing()
{
	cp -p "$source/drivers/block/Makefile" "$source/drivers/block/Kconfig" \
		"$source/block/blk-core.c" "$dir" &&
		"$into_tree" "$source" &&
		cmp "$dir/Makefile" "$source/drivers/block/Makefile" &&
		cmp "$dir/Kconfig" "$source/drivers/block/Kconfig" &&
		cmp "$dir/blk-core.c" "$source/block/blk-core.c"
}

# configure y|m - as the kernel at hand, and with the driver
configure()
{
	mkdir -p "$dir/build" &&
		cp "$KERNEL_KDIR/.config" "$dir/build" &&
		printf 'CONFIG_BLKSNAP=%s\n' "$1" >>"$dir/build/.config" &&
		(kernel_make olddefconfig) &&
		grep -qxF "CONFIG_BLKSNAP=$1" "$dir/build/.config"
}

# The kernel itself is not built here, so its symbols are not known.
test_module_builds_in_the_tree()
{
	configure m &&
		(kernel_make W=1 KBUILD_MODPOST_WARN=1 "$driver/blksnap.ko") &&
		! grep -E 'warning:|error:' "$dir/log"
}

# Only a module that was built in the tree leaves the kernel untainted.
test_module_of_the_tree_runs()
{
	printf '%s\n' 'set -e' \
		'[[ $(cat /proc/sys/kernel/tainted) == 0 ]]' \
		'blksnap version' >"$dir/script"
	PATH=$TOOLS_DIR:$PATH "$selftests/lib/guest" --kernel "$KERNEL_DIR" \
		--timeout 120 --log "$dir/guest.log" --program blksnap \
		--module "$dir/build/$driver/blksnap.ko" "$dir/script"
}

test_driver_builds_in()
{
	configure y && (kernel_make W=1 "$driver/") &&
		! grep -E 'warning:|error:' "$dir/log" &&
		[[ -e $dir/build/$driver/built-in.a ]]
}

pkg_need_kernel_build
pkg_need patch patch
pkg_install
kernel_fetch "$kernel"
tools_build "$kernel" >/dev/null
mkdir -p "$BLKSNAP_CACHE"
# In the cache, so that the files of the source can be linked.
dir=$(mktemp -d "$BLKSNAP_CACHE/in-tree.XXXXXX")
trap 'rm -rf "$dir"' EXIT
source=$dir/source
cp -al "$KERNEL_DIR/source" "$source"
tests=(
	driver_lies_in_the_tree
	laying_it_again_changes_nothing
	module_builds_in_the_tree
	module_of_the_tree_runs
	driver_builds_in
)
ktap_plan "${#tests[@]}"
for name in "${tests[@]}"; do
	ktap_result "$name" shows_log "test_$name"
done
exit "$ktap_failed"
