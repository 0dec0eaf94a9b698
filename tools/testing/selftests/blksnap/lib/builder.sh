# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# Building with the compiler and libraries of another Debian; sourced by packages.sh
#
#	builder_fetch NAME		have the builder NAME, a release of Debian
#	builder_run NAME COMMAND...	run COMMAND as if that were installed here
#
# A builder is the /usr of another release, of packages unpacked without running
# their scripts.  A command of it sees that in place of the machine's /usr and all
# else as it is: files keep their paths, and the machine sees nothing of it.

# What building modules takes besides a compiler.
BUILDER_PACKAGES=(make bc libc6-dev bash dash coreutils sed grep mawk findutils
	diffutils util-linux perl-base gzip xz-utils dpkg pahole sparse)

# builder_fetch NAME - unpack the builder NAME unless it is there
builder_fetch()
{
	[[ -e $BLKSNAP_CACHE/builder/$1/done ]] ||
		pkg_locked "builder-$1" builder_unpack "$1"
}

builder_unpack()
{
	local dir=$BLKSNAP_CACHE/builder/$1 tmp=$BLKSNAP_CACHE/builder/.$1.tmp

	[[ ! -e $dir/done ]] || return 0
	apt_root "builder-$1" amd64 "$1"
	rm -rf "$tmp" "$dir"
	tree_make "$tmp"
	apt_root_fetch_all "builder-$1" "$tmp" gcc-14 "${BUILDER_PACKAGES[@]}"
	# Alternatives are made by the scripts of packages.
	ln -sf mawk "$tmp/usr/bin/awk"
	touch "$tmp/done"
	mv -T "$tmp" "$dir"
	rm -rf "$BLKSNAP_CACHE/apt/builder-$1"
}

# tree_make DIR - an empty tree with the folders that are links to those of /usr
tree_make()
{
	local folder

	for folder in bin sbin lib lib32 lib64; do
		mkdir -p "$1/usr/$folder"
		ln -s "usr/$folder" "$1/$folder"
	done
}

# builder_run NAME COMMAND... - run COMMAND with the /usr of the builder NAME
builder_run()
{
	local dir=$BLKSNAP_CACHE/builder/$1
	local -a options=(--mount)

	shift
	((EUID == 0)) || options+=(--map-root-user)
	# shellcheck disable=SC2016 # for the inner shell
	unshare "${options[@]}" sh -c 'mount --bind "$0/usr" /usr && exec "$@"' \
		"$dir" "$@"
}
