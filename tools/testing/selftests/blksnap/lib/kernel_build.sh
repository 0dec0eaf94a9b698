#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Building kernels of our own from Debian's sources; sourced
#
#	kernel_source_fetch 6.1|7	unpack a linux-source package	-> source
#	kernel_key FILE|WORD...		name a kernel by these and the compiler
#	kernel_configure CONFIG...	configure with these options and no other
#	kernel_make ARGUMENT...		run make in the build folder, quietly
#	kernel_strip_build		leave what building modules needs
#
# The caller sets compiler and dir, where build/ and log are, and may set
# make_arguments and build_prefix, which runs what is behind it in a tree of builder.sh.
# What fails ends the shell.

# shellcheck source-path=SCRIPTDIR source=packages.sh
. "$(dirname "${BASH_SOURCE[0]}")/packages.sh"
PATH=$PATH:/usr/sbin:/sbin
export LC_ALL=C

compiler=gcc-12
make_arguments=()
build_prefix=()

pkg_need_kernel_build()
{
	pkg_need_build
	pkg_need flex flex
	pkg_need bison bison
	pkg_need perl perl
	pkg_need depmod kmod
	pkg_need xz xz-utils
}

# kernel_source_fetch VERSION - set source to the unpacked source of VERSION
kernel_source_fetch()
{
	source=$BLKSNAP_CACHE/source/$1
	[[ ! -e $source/.version-of-source ]] || return 0
	mkdir -p "${source%/*}"
	pkg_locked source kernel_source_unpack "$1"
}

kernel_source_unpack()
{
	local version=$1 tmp=$BLKSNAP_CACHE/source/.$1.tmp
	local archive=/usr/src/linux-source-$1.tar.xz
	local package

	# The other run may have unpacked it while this one waited.
	[[ ! -e $source/.version-of-source ]] || return 0
	rm -rf "$tmp" "$source"
	mkdir -p "$tmp"
	if [[ ! -e $archive ]]; then
		kernel_parse "$version"
		apt_root source amd64 "${kernel_suites[@]}"
		package=$(apt_root_depends source linux-source \
			"linux-source-${version//./\\.}(\\..*)?") ||
			pkg_die "no source of $version in ${kernel_suites[*]}"
		apt_root_fetch source "$tmp/deb" "$package"
		archive=$tmp/deb/usr/src/$package.tar.xz
	fi
	mkdir "$tmp/source"
	tar -C "$tmp/source" --strip-components=1 -xJf "$archive"
	sha256sum <"$archive" >"$tmp/source/.version-of-source"
	mv -T "$tmp/source" "$source"
	rm -rf "$tmp" "$BLKSNAP_CACHE/apt/source"
}

# kernel_key FILE|WORD... - print a short hash of files, words and the compiler
kernel_key()
{
	local item

	{
		for item; do
			if [[ -f $item ]]; then
				cat "$item"
			else
				printf '%s' "$item"
			fi
		done
		"${build_prefix[@]}" $compiler -dumpfullversion
	} | sha256sum | cut -c 1-12
}

# kernel_make ARGUMENT... - run make in the build folder, quietly
kernel_make()
{
	nice -n 19 "${build_prefix[@]}" make -C "$source" O="$dir/build" CC=$compiler \
		HOSTCC=$compiler "${make_arguments[@]}" "$@" \
		</dev/null >>"$dir/log" 2>&1 && return
	tail -n 30 "$dir/log" >&2
	pkg_die "make ${*: -1} failed, see $dir/log"
}

# lost_options WANTED CONFIG - say which options of WANTED differ in CONFIG
lost_options()
{
	awk '
	/^# CONFIG_[A-Za-z0-9_]+ is not set$/ { $0 = $2 "=n" }
	!/^CONFIG_/ { next }
	{
		at = index($0, "=")
		name = substr($0, 1, at - 1)
		value = substr($0, at + 1)
	}
	NR == FNR { want[name] = value; next }
	{ have[name] = value }
	END {
		for (name in want) {
			got = name in have ? have[name] : "n"
			if (got != want[name])
				printf "%s=%s became %s\n", name, want[name], got
		}
	}' "$1" "$2" | sort
}

# kernel_configure CONFIG... - allnoconfig and the options of CONFIGs
kernel_configure()
{
	local lost

	mkdir -p "$dir/build"
	: >"$dir/log"
	cat "$@" >"$dir/wanted"
	kernel_make KCONFIG_ALLCONFIG="$dir/wanted" allnoconfig
	lost=$(lost_options "$dir/wanted" "$dir/build/.config")
	[[ ! $lost ]] || pkg_die "options lost:" $'\n'"$lost"
}

# kernel_strip_build - leave what is needed to build modules for the kernel
#
# That is headers, scripts and Module.symvers; vmlinux is there to look up
# addresses.
kernel_strip_build()
{
	find "$dir/build" \( -path "$dir/build/scripts" -o \
		-path "$dir/build/tools" \) -prune -o -type f \
		\( -name '*.o' -o -name '*.a' -o -name '*.ko' -o \
		-name '.*.cmd' -o -name '.tmp_*' \) -exec rm -f {} +
	# Whoever builds a module there need not know the compiler.
	sed -i "1a override CC := $compiler" "$dir/build/Makefile"
}
