# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# Programs and compilers of other Debians; sourced by packages.sh
#
#	builder_fetch RELEASE[-ARCH] [COMPILER]
#					have a compiler, which builds for ARCH
#	world_fetch ARCH		have programs and libraries for guests
#	emulator_fetch PACKAGE...	have an emulator of another architecture
#
# Each is a tree of packages in the cache, unpacked without running their scripts.
# What runs here is the argument of TREE_COMMAND, which builder_fetch() and
# emulator_fetch() set: it sees the /usr of the tree in place of the machine's and all
# else as it is.  So files keep their paths, and the machine sees nothing of it.

# shellcheck disable=SC2034,SC2154 # results of functions here and in kernels.sh

BUILDER_CC=gcc-14

# What building takes besides a compiler.
BUILDER_PACKAGES=(make bc libc6-dev bash dash coreutils sed grep mawk findutils
	diffutils util-linux perl-base gzip xz-utils dpkg pahole sparse pkgconf)

# What is in guests of another architecture, and what programs for these are
# built with.
WORLD_PACKAGES=(busybox-static bash kmod mount util-linux dmsetup lvm2 mdadm
	e2fsprogs xfsprogs btrfs-progs dosfstools
	libc6-dev libblkid-dev libjson-c-dev libssl-dev libnbd-dev libcunit1-dev)

# tree_fetch NAME ARCH SUITE PACKAGE... - unpack these and what they depend on
tree_fetch()
{
	[[ -e $BLKSNAP_CACHE/$1/done ]] ||
		pkg_locked "${1//\//-}" tree_unpack "$@"
}

tree_unpack()
{
	local dir=$BLKSNAP_CACHE/$1 root=${1//\//-}
	local tmp=${dir%/*}/.${1##*/}.tmp

	[[ ! -e $dir/done ]] || return 0
	apt_root "$root" "$2" "$3"
	rm -rf "$tmp" "$dir"
	mkdir -p "$tmp"
	apt_root_fetch_all "$root" "$tmp" "${@:4}"
	tree_merge "$tmp" || pkg_die "could not merge $tmp into its /usr"
	# Alternatives are made by the scripts of packages.
	[[ ! -e $tmp/usr/bin/mawk ]] || ln -sf mawk "$tmp/usr/bin/awk"
	touch "$tmp/done"
	mv -T "$tmp" "$dir"
	rm -rf "$BLKSNAP_CACHE/apt/$root"
}

# tree_merge DIR - move what older packages have beside /usr into it
tree_merge()
{
	local folder

	for folder in bin sbin lib lib32 lib64; do
		[[ ! -L $1/$folder ]] || continue
		mkdir -p "$1/$folder" "$1/usr/$folder"
		cp -a "$1/$folder/." "$1/usr/$folder/"
		rm -rf "${1:?}/$folder"
		ln -s "usr/$folder" "$1/$folder"
	done
}

# tree_command DIR - set TREE_COMMAND to what runs its arguments with the /usr of DIR
tree_command()
{
	TREE_COMMAND=(unshare --mount)
	((EUID == 0)) || TREE_COMMAND+=(--map-root-user)
	# shellcheck disable=SC2016 # for the inner shell
	TREE_COMMAND+=(sh -c 'mount --bind "$0/usr" /usr && exec "$@"' "$1")
}

# builder_fetch NAME [COMPILER] - have the tree of a builder, see TREE_COMMAND
builder_fetch()
{
	local tree=builder/$1 compiler=${2:-$BUILDER_CC}

	[[ $compiler == "$BUILDER_CC" ]] || tree+=-$compiler
	if [[ $1 == *-* ]]; then
		arch_parse "${1#*-}"
		compiler+=-${arch_triplet//_/-}
	fi
	tree_fetch "$tree" amd64 "${1%-*}" "$compiler" "${BUILDER_PACKAGES[@]}"
	tree_command "$BLKSNAP_CACHE/$tree"
}

# world_fetch ARCH - set WORLD to a tree of programs and libraries of ARCH
world_fetch()
{
	local release=trixie
	local -a packages=("${WORLD_PACKAGES[@]}")

	# Not every mirror has all packages of trixie for it.
	[[ $1 != s390x ]] || release=bookworm
	[[ $1 != arm64 && $1 != riscv64 ]] || packages+=(bpftrace)
	WORLD=$BLKSNAP_CACHE/world/$1
	tree_fetch "world/$1" "$1" "$release" "${packages[@]}"
}

# emulator_fetch PACKAGE - have the tree of an emulator, see TREE_COMMAND
emulator_fetch()
{
	tree_fetch "emulator/$1" amd64 trixie "$@"
	tree_command "$BLKSNAP_CACHE/emulator/$1"
}
