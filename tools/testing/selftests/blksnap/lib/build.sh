#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Builds of the module and the programs for the tests; sourced
#
#	module_build VERSION [SUFFIX [MAKE_ARGUMENT...]]	-> MODULE_KO
#	test_modules_build VERSION				-> TEST_MODULES_DIR
#	tools_build KERNEL					-> TOOLS_DIR
#	guest_programs_build KERNEL				-> PROGRAMS_DIR
#	library_build						-> build/library
#
# Each kernel's build works on a copy of the sources below build/ at the top of
# the tree, so that kernels do not overwrite each other's objects, nor those of
# the user.  The copy keeps the times of the files: only changes are compiled.

# shellcheck disable=SC2034 # results are variables of the caller
set -euo pipefail

selftests=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")
top=$(readlink -f "$selftests/../../../..")
build=$top/build

# shellcheck source-path=SCRIPTDIR source=packages.sh
. "$selftests/lib/packages.sh"

# is_made FILE - true if kbuild makes it
is_made()
{
	[[ $1 == *.mod.c || $1 == */compat_probed.h ]]
}

# copy_sources SRC DST - make DST hold the sources of SRC, and no older ones
copy_sources()
{
	local file

	mkdir -p "$2"
	for file in "$2"/*.[ch] "$2"/Makefile "$2"/Kconfig; do
		is_made "$file" || [[ -e $1/${file##*/} ]] || rm -f "$file"
	done
	for file in "$1"/*.[ch] "$1"/Makefile "$1"/Kconfig; do
		[[ -e $file ]] || continue
		! is_made "$file" || continue
		cmp -s "$file" "$2/${file##*/}" || cp -p "$file" "$2/"
	done
}

# module_build VERSION [SUFFIX [ARG...]] - build for a kernel, set MODULE_KO
#
# Of a kernel that it is part of, that is a name.
module_build()
{
	local version=$1 suffix=${2:-}
	local dir=$build/module-$version$suffix

	shift; shift || true
	pkg_need_build
	pkg_install
	kernel_fetch "$version"
	if [[ $version == *builtin ]]; then
		MODULE_KO=blksnap
		return
	fi
	copy_sources "$top/include/uapi/linux" "$dir/include/uapi/linux"
	copy_sources "$top/drivers/block/blksnap" "$dir/drivers/block/blksnap"
	# What a user builds may have warnings, but not of any kernel here.
	kernel_make_modules "$dir/drivers/block/blksnap" CONFIG_BLKSNAP=m \
		KCFLAGS=-Werror "$@" modules || return
	MODULE_KO=$dir/drivers/block/blksnap/blksnap.ko
}

# test_modules_build VERSION - build the modules for tests, set TEST_MODULES_DIR
test_modules_build()
{
	TEST_MODULES_DIR=$build/modules-$1
	kernel_fetch "$1"
	mkdir -p "$TEST_MODULES_DIR"
	copy_sources "$selftests/guest/life/modules" "$TEST_MODULES_DIR"
	kernel_make_modules "$TEST_MODULES_DIR" modules
}

# What calls these in a condition is not ended by a command that fails in them.

# program_make KERNEL FOLDER NAME [ARG...] - build programs for guests with KERNEL
#
# Sets OUT to where they are: NAME below build/.
program_make()
{
	local folder=$2 name=$3
	local -a command=(make)

	kernel_parse_arch "$1"
	shift 3
	OUT=$build/$name
	if [[ $kernel_arch != amd64 ]]; then
		OUT+=-$kernel_arch
		world_fetch "$kernel_arch"
		builder_fetch "trixie-$kernel_arch"
		command=(foreign_make)
	fi
	"${command[@]}" -C "$folder" OUT="$OUT" "$@"
}

# foreign_make ARGUMENT... - make with compiler and libraries for kernel_arch
foreign_make()
{
	# That of i386 is named after another processor than its compiler.
	local folders=$WORLD/usr/lib/${arch_triplet/i686/i386}/pkgconfig

	PKG_CONFIG_LIBDIR=$folders:$WORLD/usr/share/pkgconfig \
		PKG_CONFIG_SYSROOT_DIR=$WORLD \
		"${TREE_COMMAND[@]}" make \
		CC="$arch_triplet-$BUILDER_CC --sysroot=$WORLD" PROGRAMS32= "$@"
}

# tools_build KERNEL - build the command-line tool, set TOOLS_DIR
tools_build()
{
	pkg_need_build
	pkg_install
	program_make "$1" "$top/tools/blksnap" tools WERROR=1 || return
	TOOLS_DIR=$OUT
}

# guest_programs_build KERNEL - build the programs of guest/, set PROGRAMS_DIR
guest_programs_build()
{
	pkg_need_check
	pkg_install
	program_make "$1" "$selftests/guest" guest || return
	PROGRAMS_DIR=$OUT
}

# library_build - have the examples of the library and what they need in build/library
#
# After tools_build, on the architecture of the machine.  Python's own modules are a
# small part of all there are, and _ctypes has to be copied with its libraries.
library_build()
{
	local source=$top/tools/blksnap/lib to=$build/library

	rm -rf "$to"
	mkdir -p "$to/lib"
	cc -O2 -Wall -Wextra -Werror -I"$source/include" -I"$top/include/uapi" \
		-o "$to/example_backup" "$source/examples/backup.c" \
		-L"$TOOLS_DIR/lib" -lblksnap || return
	cp -L "$TOOLS_DIR/lib/libblksnap.so.1" "$to/"
	cp -r "$source/examples/"*.py "$source/python/blksnap" "$to/"
	(cd "$to" && LD_LIBRARY_PATH=$to PYTHONDONTWRITEBYTECODE=1 \
		/usr/bin/python3 "$selftests/lib/collect_python" "$to/lib" "$to" \
		blksnap json traceback encodings.ascii encodings.latin_1)
}
