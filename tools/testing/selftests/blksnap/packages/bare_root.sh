# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# A bare Debian 12 for guests, and what is installed there later; sourced
#
#	bare_fetch	have them below BARE_DIR and in BARE_DEBS
#
# BARE_DIR holds
#
#	root/		the system: systemd, udev and the oldest kernel to be had, with
#			its headers, and nothing of what blksnap needs besides
#	kernel/		the packages of a newer kernel
#	release.old, release.new
#			what these kernels call themselves
#
# and BARE_DEBS is a source of apt with what blksnap needs to be built and to run.  It is
# made anew when the packages of blksnap need others.  Needs root.

# shellcheck disable=SC2154 # top is of the caller
# shellcheck source-path=SCRIPTDIR source=../lib/packages.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/packages.sh"

# The kernel for virtual machines has all that the guest needs, and a fifth of the modules,
# which the guest has to unpack.
BARE_FLAVOUR=cloud-amd64
BARE_PACKAGES=(systemd-sysv udev dbus initramfs-tools e2fsprogs)
BARE_SUITES=(bookworm bookworm-updates bookworm-security)

bare_fetch()
{
	BARE_DIR=$BLKSNAP_CACHE/bare
	BARE_DEBS=$BLKSNAP_CACHE/bare-debs
	pkg_need mmdebstrap mmdebstrap
	pkg_need dpkg-scanpackages dpkg-dev
	pkg_install
	pkg_locked bare bare_update
}

bare_update()
{
	local wants

	wants=$(bare_wants)
	[[ ! -e $BARE_DIR || ! -e $BARE_DEBS/wants || $(<"$BARE_DEBS/wants") != "$wants" ]] ||
		return 0
	apt_root bare amd64 "${BARE_SUITES[@]}"
	[[ -e $BARE_DIR ]] || bare_make
	bare_make_debs "$wants"
	rm -rf "$BLKSNAP_CACHE/apt/bare"
}

# bare_wants - all that the packages of blksnap name, as apt reads it
bare_wants()
{
	local packages='{ gsub(/\$\{[^}]*\}/, ""); gsub(/[^,|]*blksnap[^,|]*/, ""); print }'

	# What dh_dkms names by itself is among them.
	printf "%s\n" build-essential dkms
	sed -n '/^[A-Z]/h; G; s/^\(.*\)\n\(Build-Depends\|Depends\|Recommends\):.*/\1/p' \
		"$top/packaging/debian/control" | sed 's/^[A-Z][A-Za-z-]*://' |
		tr , '\n' | awk "$packages" | sed 's/^ *//; s/ *$//; /^$/d' | sort -u
}

bare_make()
{
	local tmp=$BLKSNAP_CACHE/.bare.tmp

	rm -rf "$tmp"
	mkdir -p "$tmp"
	bare_find_kernels "$tmp"
	bare_make_root "$tmp"
	bare_download "$tmp/kernel" "$tmp/root" "linux-image-$(<"$tmp/release.new")" \
		"linux-headers-$(<"$tmp/release.new")"
	mv -T "$tmp" "$BARE_DIR"
}

bare_make_debs() # WANTS
{
	local tmp=$BLKSNAP_CACHE/.bare-debs.tmp
	local -a wants

	mapfile -t wants <<<"$1"
	rm -rf "$tmp" "$BARE_DEBS"
	bare_download "$tmp" "$BARE_DIR/root" "${wants[@]}"
	(cd "$tmp" && dpkg-scanpackages -m . 2>/dev/null >Packages)
	printf '%s\n' "$1" >"$tmp/wants"
	mv -T "$tmp" "$BARE_DEBS"
}

# bare_find_kernels DIR - the oldest 6.1 and the newest one; after a point release of
# Debian there may be one alone, and a newer series has to do
bare_find_kernels()
{
	local -a releases all

	mapfile -t all < <(APT_CONFIG=$BLKSNAP_CACHE/apt/bare/apt.conf \
		apt-cache pkgnames linux-image- | sed -nE \
		"s/^linux-image-([0-9][0-9.]*([+]deb[0-9.]+)?(-[0-9]+)?-$BARE_FLAVOUR)$/\1/p" |
		sort -V)
	mapfile -t releases < <(printf '%s\n' "${all[@]}" | grep '^6\.1\.')
	((${#releases[@]} > 1)) || releases=("${all[@]}")
	((${#releases[@]} > 1)) || pkg_die "no two kernels of $BARE_FLAVOUR to be had"
	echo "${releases[0]}" >"$1/release.old"
	echo "${releases[-1]}" >"$1/release.new"
}

bare_make_root()
{
	local apt=$BLKSNAP_CACHE/apt/bare release include

	release=$(<"$1/release.old")
	include=$(IFS=,; echo "${BARE_PACKAGES[*]},linux-image-$release,linux-headers-$release")
	# How this machine gets to its sources, and what it lets pass there.
	apt-config dump Acquire | grep -E '::(Proxy|Check-[A-Za-z-]*) ' >"$apt/machine.conf" ||
		true
	pkg_say "making a bare Debian 12"
	mmdebstrap --quiet --mode=root --variant=minbase --architectures=amd64 \
		--aptopt="$apt/machine.conf" --dpkgopt=force-unsafe-io \
		--include="$include" bookworm "$1/root" "$apt"/sources/* </dev/null >&2 ||
		pkg_die "could not make a bare Debian 12"
	rm -f "$1/root/etc/apt/sources.list" "$1"/root/etc/apt/sources.list.d/* \
		"$1"/root/etc/apt/apt.conf.d/99mmdebstrap
}

# bare_download DIR ROOT DEPENDENCY... - what they need that ROOT does not have
bare_download()
{
	local dir=$1 status=$2/var/lib/dpkg/status

	shift 2
	pkg_say "downloading $*"
	mkdir -p "$dir/partial"
	APT_CONFIG=$BLKSNAP_CACHE/apt/bare/apt.conf apt-get -qq -y \
		-o Acquire::Retries=3 -o Dir::State::status="$status" \
		-o Dir::Cache::archives="$dir" --no-install-recommends \
		--download-only satisfy "$@" </dev/null >&2 || pkg_die "could not download $*"
	rm -rf "$dir"/{partial,lock}
}
