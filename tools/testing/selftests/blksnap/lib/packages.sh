#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Programs, kernels and the emulator that building and testing need
#
# Sourced:	. lib/packages.sh
#	pkg_need PROG|/PATH PACKAGE...	note the packages if PROG is missing
#	pkg_install			install what was noted, with apt
#	kernel_fetch NAME		fetch or build a kernel, see kernels.sh
#	builder_fetch NAME		fetch a compiler of another Debian, see builder.sh
#	qemu_fetch			find an emulator fit for the guests
#	stack_programs_fetch		fetch programs for filesystems, md and LVM
#	udev_programs_fetch		fetch udev and its rules, and cryptsetup
#	promtool_fetch			fetch what checks metrics for Prometheus
#	source_scripts_fetch		find checkpatch.pl and its word lists
# Run:		lib/packages.sh all|build|check|guest|kernel NAME|qemu|stacks|udev
#
# Only pkg_install() changes the machine and needs root.  The rest is unpacked
# below the cache directory by name, from a private apt root that repeats the
# machine's own sources with other suites.  What is in the cache is used as it
# is, without asking the network; remove a folder there to fetch it afresh.
# A folder of the cache is complete or absent: it is filled beside its place,
# under a lock, and renamed at the end.

# shellcheck disable=SC2034 # results are variables of the caller
set -euo pipefail

BLKSNAP_CACHE=${BLKSNAP_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/blksnap}

# shellcheck source-path=SCRIPTDIR source=kernels.sh
. "$(dirname "${BASH_SOURCE[0]}")/kernels.sh"
# shellcheck source-path=SCRIPTDIR source=builder.sh
. "$(dirname "${BASH_SOURCE[0]}")/builder.sh"

pkg_pending=()

pkg_say()
{
	printf 'packages: %s\n' "$*" >&2
}

pkg_die()
{
	pkg_say "$@"
	exit 1
}

# pkg_need PROG|/PATH PACKAGE... - note PACKAGEs for pkg_install() if missing
pkg_need()
{
	local what=$1

	shift
	if [[ $what == /* ]]; then
		[[ ! -e $what ]] || return 0
	else
		! type -P "$what" >/dev/null || return 0
		[[ ! -x /usr/sbin/$what && ! -x /sbin/$what ]] || return 0
	fi
	pkg_pending+=("$@")
}

# pkg_install - install the packages noted by pkg_need() in one go
pkg_install()
{
	local missing=("${pkg_pending[@]}")

	((${#missing[@]})) || return 0
	pkg_pending=()
	command -v apt-get >/dev/null ||
		pkg_die "needed, and no apt-get here: ${missing[*]}"
	if ((EUID != 0)); then
		pkg_die "root is needed once: apt-get install ${missing[*]}"
	fi
	pkg_say "installing ${missing[*]}"
	pkg_locked apt pkg_install_now "${missing[@]}"
}

# pkg_install_now PACKAGE... - install, with new package lists if need be
pkg_install_now()
{
	local log

	log=$(mktemp "$BLKSNAP_CACHE/apt.XXXXXX")
	if ! pkg_apt_install "$@" >"$log" 2>&1; then
		# Lists that are absent or out of date.
		if ! { apt-get -q update </dev/null &&
		       pkg_apt_install "$@"; } >"$log" 2>&1; then
			pkg_install_failed "$log" "$@"
		fi
	fi
	rm -f "$log"
}

# pkg_install_failed LOG PACKAGE... - say why, and end
pkg_install_failed()
{
	local log=$1
	local -a removed

	shift
	mapfile -t removed < <(sed -n '/ be REMOVED:$/,/^[^ ]/s/^  //p' "$log" |
			       tr ' ' '\n' | sort -u)
	if ((${#removed[@]})); then
		pkg_die "$* conflict with packages that are installed here:" \
			"${removed[*]}." "Remove those, or use another machine:" \
			"nothing is removed by itself (see $log)"
	fi
	tail -n 20 "$log" >&2
	pkg_die "apt-get install failed, see $log"
}

pkg_apt_install()
{
	DEBIAN_FRONTEND=noninteractive apt-get -q -y \
		-o DPkg::Lock::Timeout=900 \
		--no-install-recommends --no-remove install "$@" </dev/null
}

# pkg_locked NAME COMMAND... - run COMMAND while no other run holds NAME
pkg_locked()
{
	local name=$1

	shift
	mkdir -p "$BLKSNAP_CACHE/lock"
	(
		flock 9
		"$@" 9>&-
	) 9>"$BLKSNAP_CACHE/lock/$name"
}

# sources_of SUITE DIR - repeat the machine's apt source of SUITE below DIR
#
# A suite that the machine does not have is taken from where its own release
# comes from.
sources_of()
{
	local suite=$1 dir=$2
	local own file

	# shellcheck source=/dev/null
	own=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
	for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
		[[ -r $file ]] || continue
		sources_of_list "$suite" "$suite" <"$file" \
			>>"$dir/$suite.list"
	done
	for file in /etc/apt/sources.list.d/*.sources; do
		[[ -r $file ]] || continue
		sources_of_deb822 "$suite" "$suite" <"$file" \
			>>"$dir/$suite.sources"
	done
	[[ ! -s $dir/$suite.list && ! -s $dir/$suite.sources ]] || return 0

	# There may be no updates or security source; the release has to do.
	[[ $suite != *-security && $suite != *-updates ]] || return 0
	for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
		[[ -r $file ]] || continue
		sources_of_list "$own" "$suite" <"$file" >>"$dir/$suite.list"
	done
	for file in /etc/apt/sources.list.d/*.sources; do
		[[ -r $file ]] || continue
		sources_of_deb822 "$own" "$suite" <"$file" \
			>>"$dir/$suite.sources"
	done
	[[ -s $dir/$suite.list || -s $dir/$suite.sources ]] ||
		pkg_die "no apt source of '$own' to fetch $suite from"
}

# sources_of_list HAVE WANT - one-line entries of suite HAVE, as suite WANT
sources_of_list()
{
	sed -nE "s,^[[:space:]]*deb[[:space:]]+(\[[^]]*\][[:space:]]+)?([^[:space:]]+)[[:space:]]+$1/?[[:space:]]+(.*),deb \1\2 $2 \3,p"
}

# sources_of_deb822 HAVE WANT - paragraphs with suite HAVE, as suite WANT
sources_of_deb822()
{
	sed '/^#/d' | awk -v have="$1" -v want="$2" '
	function flush() {
		if (found && !off)
			printf "%s\n", text
		text = ""; found = 0; off = 0
	}
	/^[[:space:]]*$/	{ flush(); next }
	tolower($1) == "suites:" {
		for (i = 2; i <= NF; i++)
			if ($i == have)
				found = 1
		text = text "Suites: " want "\n"
		next
	}
	tolower($1) == "types:"	{ text = text "Types: deb\n"; next }
	tolower($1) == "enabled:" && tolower($2) == "no" { off = 1 }
	{ text = text $0 "\n" }
	END { flush() }'
}

# apt_root NAME ARCHITECTURE SUITE... - make (or refresh) the private apt root NAME
apt_root()
{
	local root=$BLKSNAP_CACHE/apt/$1 architecture=$2
	local suite

	shift 2
	rm -rf "$root"
	mkdir -p "$root/sources" "$root/state/lists/partial" \
		"$root/cache/archives/partial"
	: >"$root/status"
	for suite; do
		sources_of "$suite" "$root/sources"
	done
	cat >"$root/apt.conf" <<-CONF
	Dir::Etc::sourcelist "/dev/null";
	Dir::Etc::sourceparts "$root/sources";
	Dir::State "$root/state";
	Dir::State::status "$root/status";
	Dir::Cache "$root/cache";
	APT::Sandbox::User "root";
	APT::Get::List-Cleanup "0";
	APT::Architecture "$architecture";
	APT::Architectures { "$architecture"; "amd64"; };
	CONF
	pkg_say "reading the package lists of $*"
	apt_root_update "$root" && return
	# A mirror may hold half of what is newest; what was released does not change.
	rm -f "$root"/sources/*-{security,updates}.*
	if [[ $(ls "$root/sources") ]] && apt_root_update "$root"; then
		pkg_say "going on without updates and security of $*"
	else
		pkg_die "could not read the package lists of $*"
	fi
}

apt_root_update()
{
	APT_CONFIG=$1/apt.conf apt-get -qq -o Acquire::Retries=3 \
		-o APT::Update::Error-Mode=any update </dev/null >&2
}

# apt_root_fetch NAME DIR PACKAGE... - download and unpack PACKAGEs into DIR
apt_root_fetch()
{
	local root=$BLKSNAP_CACHE/apt/$1 dir=$2
	local deb

	shift 2
	pkg_say "downloading $*"
	mkdir -p "$dir/.debs"
	(
		cd "$dir/.debs"
		APT_CONFIG=$root/apt.conf apt-get -qq \
			-o Acquire::Retries=3 download "$@" </dev/null >&2
	) || pkg_die "could not download $*"
	for deb in "$dir"/.debs/*.deb; do
		dpkg-deb -x "$deb" "$dir" || pkg_die "could not unpack $deb"
	done
	rm -rf "$dir/.debs"
}

# apt_root_fetch_all NAME DIR PACKAGE... - the same with all that PACKAGEs depend on
#
# None of their scripts is run.
apt_root_fetch_all()
{
	local root=$BLKSNAP_CACHE/apt/$1 dir=$2
	local deb

	shift 2
	pkg_say "downloading $* and what they depend on"
	APT_CONFIG=$root/apt.conf apt-get -qq -y -o Acquire::Retries=3 \
		--no-install-recommends --download-only install "$@" \
		</dev/null >&2 || pkg_die "could not download $*"
	for deb in "$root"/cache/archives/*.deb; do
		dpkg-deb -x "$deb" "$dir" || pkg_die "could not unpack $deb"
	done
}

# apt_root_depends NAME PACKAGE PATTERN - dependencies of PACKAGE like PATTERN
apt_root_depends()
{
	APT_CONFIG=$BLKSNAP_CACHE/apt/$1/apt.conf \
		apt-cache depends --no-recommends --no-suggests "$2" |
		sed -n 's/^ *Depends: //p' | grep -E "^$3\$"
}

# apt_root_newest NAME PATTERN - the package like PATTERN of the highest version
#
# Of a signed and an unsigned one of the same version it is the signed one.  What
# only depends on others is not meant.
apt_root_newest()
{
	APT_CONFIG=$BLKSNAP_CACHE/apt/$1/apt.conf apt-cache dumpavail |
		awk -v RS= -v FS='\n' -v pattern="^Package: $2\$" '
		$1 !~ pattern || /\nDescription: [^\n]*meta-package/ { next }
		{
			match($0, /\nVersion: [^\n]*/)
			print substr($0, RSTART + 10, RLENGTH - 10), substr($1, 10)
		}' |
		sort -k 1,1V -k 2,2r | tail -n 1 | cut -d ' ' -f 2
}

# qemu_fetch - set QEMU to an emulator, QEMU_ARGS to what it must be called with
#
# QEMU 7.2 of bookworm crashes stock kernels when several guest processors run
# at once and code is patched under them, which the filter does.  10 of
# bookworm-backports does not; without it the processors take turns.
qemu_fetch()
{
	local dir=$BLKSNAP_CACHE/qemu

	QEMU=qemu-system-x86_64
	QEMU_ARGS=()
	QEMU_THREAD=multi
	pkg_need qemu-system-x86_64 qemu-system-x86
	pkg_install
	if qemu_is_recent "$QEMU"; then
		return 0
	fi
	if [[ ! -e $dir/done ]] && ! pkg_locked qemu qemu_unpack; then
		pkg_say "no newer emulator: guest processors will take turns"
		QEMU_THREAD=single
		return 0
	fi
	if ! qemu_is_recent "$dir/usr/bin/qemu-system-x86_64"; then
		pkg_say "the newer emulator does not run here:" \
			"guest processors will take turns"
		QEMU_THREAD=single
		return 0
	fi
	QEMU=$dir/usr/bin/qemu-system-x86_64
	QEMU_ARGS=(-L "$dir/usr/share/qemu" -L "$dir/usr/share/seabios"
		   -L "$dir/usr/lib/ipxe/qemu" -L /usr/share/seabios
		   -L /usr/lib/ipxe/qemu)
}

qemu_is_recent()
{
	local major

	major=$("$1" --version 2>/dev/null |
		sed -nE '1s/^QEMU emulator version ([0-9]+)\..*/\1/p')
	[[ $major ]] && ((major >= 8))
}

qemu_unpack()
{
	local dir=$BLKSNAP_CACHE/qemu tmp=$BLKSNAP_CACHE/.qemu.tmp

	[[ ! -e $dir/done ]] || return 0
	apt_root qemu amd64 bookworm-backports
	rm -rf "$tmp" "$dir"
	mkdir -p "$tmp"
	apt_root_fetch qemu "$tmp" qemu-system-x86 qemu-system-common \
		qemu-system-data
	touch "$tmp/done"
	mv -T "$tmp" "$dir"
	rm -rf "$BLKSNAP_CACHE/apt/qemu"
}

# stack_programs_fetch - set STACK_PROGRAMS to a folder with mdadm, lvm, mkfs.xfs...
#
# They are for guests alone.  Installed, they would bring along services that
# look after the machine's own disks.
stack_programs_fetch()
{
	STACK_PROGRAMS=$BLKSNAP_CACHE/stacks
	[[ -e $STACK_PROGRAMS/done ]] || pkg_locked stacks stack_programs_unpack
}

# Besides their libraries they need those of what pkg_need_guest() asks for.
stack_programs_unpack()
{
	local dir=$BLKSNAP_CACHE/stacks tmp=$BLKSNAP_CACHE/.stacks.tmp

	[[ ! -e $dir/done ]] || return 0
	apt_root stacks amd64 bookworm bookworm-updates bookworm-security
	rm -rf "$tmp" "$dir"
	mkdir -p "$tmp"
	apt_root_fetch stacks "$tmp" mdadm lvm2 xfsprogs btrfs-progs dosfstools \
		libdevmapper-event1.02.1 libaio1 libedit2 libbsd0 libmd0 \
		libinih1 liburcu8 liblzo2-2
	touch "$tmp/done"
	mv -T "$tmp" "$dir"
	rm -rf "$BLKSNAP_CACHE/apt/stacks"
}

# udev_programs_fetch - set UDEV_PROGRAMS to a folder with udevadm, sfdisk, cryptsetup
#
# For guests alone, too.  It has the rules of dmsetup; those of LVM and md are with
# their programs.
udev_programs_fetch()
{
	UDEV_PROGRAMS=$BLKSNAP_CACHE/udev
	[[ -e $UDEV_PROGRAMS/done ]] || pkg_locked udev udev_programs_unpack
}

udev_programs_unpack()
{
	local dir=$BLKSNAP_CACHE/udev tmp=$BLKSNAP_CACHE/.udev.tmp

	[[ ! -e $dir/done ]] || return 0
	apt_root udev amd64 bookworm bookworm-updates bookworm-security
	rm -rf "$tmp" "$dir"
	mkdir -p "$tmp"
	apt_root_fetch udev "$tmp" udev dmsetup libkmod2 libacl1 libcap2 \
		cryptsetup-bin libcryptsetup12 libpopt0 libargon2-1 libjson-c5 \
		libssl3 fdisk libfdisk1 libreadline8
	touch "$tmp/done"
	mv -T "$tmp" "$dir"
	rm -rf "$BLKSNAP_CACHE/apt/udev"
}

# nbd_clients_fetch - set NBD_CLIENTS to a folder with nbdkit, psktool, and clients in Python
#
# For guests: virtnbdbackup would bring libvirt along.
nbd_clients_fetch()
{
	NBD_CLIENTS=$BLKSNAP_CACHE/nbd
	[[ -e $NBD_CLIENTS/done ]] || pkg_locked nbd nbd_clients_unpack
}

nbd_clients_unpack()
{
	local dir=$BLKSNAP_CACHE/nbd tmp=$BLKSNAP_CACHE/.nbd.tmp

	[[ ! -e $dir/done ]] || return 0
	apt_root nbd amd64 bookworm bookworm-updates bookworm-security
	rm -rf "$tmp" "$dir"
	mkdir -p "$tmp"
	apt_root_fetch nbd "$tmp" nbdkit gnutls-bin virtnbdbackup python3-libnbd \
		python3.11-minimal libpython3.11-minimal libpython3.11-stdlib
	rm -rf "${tmp:?}/usr/share"
	touch "$tmp/done"
	mv -T "$tmp" "$dir"
	rm -rf "$BLKSNAP_CACHE/apt/nbd"
}

# promtool_fetch - set PROMTOOL_DIR to a folder with promtool
#
# Its package has a service, which is not wanted here.
promtool_fetch()
{
	PROMTOOL_DIR=$BLKSNAP_CACHE/promtool/usr/bin
	[[ -e $BLKSNAP_CACHE/promtool/done ]] || pkg_locked promtool promtool_unpack
}

promtool_unpack()
{
	local dir=$BLKSNAP_CACHE/promtool tmp=$BLKSNAP_CACHE/.promtool.tmp

	[[ ! -e $dir/done ]] || return 0
	apt_root promtool amd64 bookworm bookworm-updates bookworm-security
	rm -rf "$tmp" "$dir"
	mkdir -p "$tmp"
	apt_root_fetch promtool "$tmp" prometheus
	find "$tmp" -type f ! -name promtool -delete
	touch "$tmp/done"
	mv -T "$tmp" "$dir"
	rm -rf "$BLKSNAP_CACHE/apt/promtool"
}

# source_scripts_fetch - set KERNEL_SCRIPTS to a folder with checkpatch.pl
#
# The header packages leave it out, so it comes from the kernel's source.
source_scripts_fetch()
{
	KERNEL_SCRIPTS=$BLKSNAP_CACHE/scripts/scripts
	[[ ! -e $KERNEL_SCRIPTS/checkpatch.pl ]] || return 0
	pkg_need xz xz-utils
	pkg_install
	pkg_locked scripts source_scripts_unpack
}

source_scripts_unpack()
{
	local dir=$BLKSNAP_CACHE/scripts tmp=$BLKSNAP_CACHE/.scripts.tmp
	local source

	[[ ! -e $dir/scripts/checkpatch.pl ]] || return 0
	rm -rf "$tmp" "$dir"
	mkdir -p "$tmp"
	source=/usr/src/linux-source-6.1.tar.xz
	if [[ ! -e $source ]]; then
		kernel_parse 6.1
		apt_root scripts amd64 "${kernel_suites[@]}"
		apt_root_fetch scripts "$tmp" linux-source-6.1
		source=$tmp$source
	fi
	tar -C "$tmp" --strip-components=1 -xJf "$source" \
		--wildcards '*/scripts/checkpatch.pl' '*/scripts/spelling.txt' \
		'*/scripts/const_structs.checkpatch'
	rm -rf "${tmp:?}/usr" "$BLKSNAP_CACHE/apt/scripts"
	mv -T "$tmp" "$dir"
}

# What a bare Debian 12 lacks, by purpose.
pkg_need_build()
{
	pkg_need make make
	pkg_need gcc gcc libc6-dev
	pkg_need gcc-12 gcc-12
	pkg_need /usr/include/blkid/blkid.h libblkid-dev
	pkg_need /usr/include/json-c/json.h libjson-c-dev
	pkg_need /usr/include/openssl/evp.h libssl-dev
	pkg_need /usr/include/libnbd.h libnbd-dev
	pkg_need pkg-config pkg-config
	pkg_need bc bc
	# The headers of 6.12 have what it takes to add type information.
	pkg_need pahole pahole
	pkg_need /usr/include/libelf.h libelf-dev
}

pkg_need_check()
{
	pkg_need_build
	pkg_need /usr/include/CUnit/CUnit.h libcunit1-dev
	# For the 32-bit calls of the module.
	pkg_need /usr/lib32/libc.a gcc-multilib
	pkg_need perl perl
	pkg_need pkill procps
	pkg_need python3 python3
	pkg_need qemu-nbd qemu-utils
	# What "blksnap serve" runs, and a client of it.
	pkg_need qemu-storage-daemon qemu-system-common
	pkg_need nbdkit nbdkit
	pkg_need nbdinfo libnbd-bin
	# To read what is exported for them: 20 MB to download, no service.
	pkg_need rbd ceph-common
	pkg_need bmaptool bmap-tools
	# Whose repositories backups are taken to.
	pkg_need restic restic
	pkg_need borg borgbackup
	# Of an example in the manual page.
	pkg_need jq jq
	# Whose completion is tested, beside that of bash.
	pkg_need zsh zsh
	pkg_need sparse sparse
	pkg_need shellcheck shellcheck
	pkg_need git git
}

pkg_need_fuzz()
{
	pkg_need clang clang
	# libFuzzer and the sanitizers, in the version of Debian's clang.
	compgen -G '/usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt.fuzzer-*' \
		>/dev/null || pkg_pending+=(libclang-rt-14-dev)
}

pkg_need_packages()
{
	pkg_need_build
	pkg_need dh debhelper
	pkg_need dh_dkms dh-dkms
	pkg_need dh_python3 dh-python
	pkg_need dkms dkms
	pkg_need lintian lintian
	pkg_need rpmbuild rpm
	pkg_need rpmlint rpmlint
	pkg_need systemd-analyze systemd
	pkg_need openssl openssl
}

pkg_need_guest()
{
	pkg_need qemu-system-x86_64 qemu-system-x86
	pkg_need cpio cpio
	pkg_need depmod kmod
	pkg_need xz xz-utils
	pkg_need /bin/busybox busybox-static
	pkg_need mkfs.ext4 e2fsprogs
	pkg_need mkfs.gfs2 gfs2-utils
	pkg_need qemu-nbd qemu-utils
	pkg_need qemu-storage-daemon qemu-system-common
	pkg_need nbdinfo libnbd-bin
	pkg_need partclone.extfs partclone
	pkg_need dmsetup dmsetup
	# Brings the libraries of LLVM, which clang brings, too.
	pkg_need bpftrace bpftrace
	pkg_need ldd libc-bin
	pkg_need setsid util-linux
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
	case ${1:-} in
	build)
		pkg_need_build; pkg_install ;;
	check)
		pkg_need_check; pkg_install ;;
	guest)
		pkg_need_guest; pkg_install ;;
	kernel)
		kernel_fetch "${2:?kernel NAME}"
		printf '%s\n' "$KERNEL_KDIR" ;;
	qemu)
		qemu_fetch
		printf '%s\n' "$QEMU" ;;
	stacks)
		stack_programs_fetch
		printf '%s\n' "$STACK_PROGRAMS" ;;
	udev)
		udev_programs_fetch
		printf '%s\n' "$UDEV_PROGRAMS" ;;
	all)
		pkg_need_check; pkg_need_fuzz; pkg_need_guest; pkg_need_packages
		pkg_install
		source_scripts_fetch
		qemu_fetch
		stack_programs_fetch
		udev_programs_fetch
		nbd_clients_fetch
		promtool_fetch
		for name in 6.1 6.12 7; do
			kernel_fetch "$name"
		done
		builder_fetch "$KERNEL_BUILDER" "$(kernel_compiler)" ;;
	*)
		sed -n '4,/^$/s/^# \{0,1\}//p' "$0" >&2
		exit 2 ;;
	esac
fi
