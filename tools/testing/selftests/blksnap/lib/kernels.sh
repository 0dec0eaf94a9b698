# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# Kernels that the tests know by name; sourced by packages.sh
#
#	kernel_fetch [ARCH-]VERSION[-rt|-cloud]	unpack the newest Debian kernel
#	kernel_fetch kasan|kcsan		build one that looks for faults
#	kernel_fetch uml|uml-kasan		or one that runs as a program
#	kernel_fetch [arm64-]builtin		or one that blksnap is part of
#	kernel_is_own NAME			is it built here?
#	kernel_make_modules DIR [ARG...]	build modules for the one fetched
#
# VERSION is 6.1, 6.12, 7 or rc, which is the newest of experimental and sid, ARCH
# one of the ARCHITECTURES but amd64.  Which is the newest of a name is asked once
# a day; without an answer the last one stays.

# shellcheck disable=SC2034 # results are variables of the caller

# Kernels of Debian, as "version builder suite...": the builder is the release
# whose compiler and libraries the headers need, or host.
KERNELS=(
	"6.1 host bookworm bookworm-updates bookworm-security"
	"6.12 host bookworm-security bookworm-backports"
	"7 trixie trixie-backports"
	"rc sid experimental sid"
)

# Architectures, as "Debian's name, triplet, flavour of its kernels".
ARCHITECTURES=(
	"amd64 x86_64-linux-gnu amd64"
	"arm64 aarch64-linux-gnu arm64"
	"i386 i686-linux-gnu 686-pae"
	"ppc64el powerpc64le-linux-gnu powerpc64le"
	"riscv64 riscv64-linux-gnu riscv64"
	"s390x s390x-linux-gnu s390x"
)

# Where kernels come from that Debian 12 does not have for an architecture; of
# others these are the same, but for the compiler.
declare -A KERNELS_OF_TRIXIE=([6.12]="trixie trixie-updates trixie-security")

# arch_parse ARCH - set arch_triplet and arch_flavour
arch_parse()
{
	local entry name

	for entry in "${ARCHITECTURES[@]}"; do
		read -r name arch_triplet arch_flavour <<<"$entry"
		[[ $name != "$1" ]] || return 0
	done
	pkg_die "architecture '$1' is not known, these are:" \
		"${ARCHITECTURES[*]%% *}"
}

# kernel_parse_arch NAME - set kernel_arch, arch_triplet and arch_flavour
kernel_parse_arch()
{
	case $1 in
	[0-9]*|rc|rc-*|kasan|kcsan|uml*|builtin) kernel_arch=amd64 ;;
	*)	kernel_arch=${1%%-*} ;;
	esac
	arch_parse "$kernel_arch"
}

# kernel_parse NAME - set kernel_arch, _version, _flavour, _builder and _suites
kernel_parse()
{
	local name

	kernel_parse_arch "$1"
	name=${1#"$kernel_arch-"}
	kernel_version=${name%%-*}
	kernel_flavour=$arch_flavour
	case ${name#"$kernel_version"} in
	'')		;;
	-rt|-cloud)	kernel_flavour=${name##*-}-$arch_flavour ;;
	*)		pkg_die "no flavour '${name#*-}', these are: rt cloud" ;;
	esac
	kernel_find_suites "$1"
	[[ $kernel_arch == amd64 ]] || kernel_make_foreign
}

# kernel_find_suites NAME - set kernel_builder and kernel_suites for kernel_version
kernel_find_suites()
{
	local entry

	for entry in "${KERNELS[@]}"; do
		[[ ${entry%% *} == "$kernel_version" ]] || continue
		read -r _ kernel_builder _ <<<"$entry"
		read -ra kernel_suites <<<"${entry#* * }"
		return 0
	done
	pkg_die "kernel '$1' is not known, these are: ${KERNELS[*]%% *}"
}

# The compiler for another architecture is beside all others of its builder.
kernel_make_foreign()
{
	local more

	[[ $kernel_builder != host ]] || kernel_builder=trixie
	kernel_builder+=-$kernel_arch
	read -ra more <<<"${KERNELS_OF_TRIXIE[$kernel_version]:-}"
	kernel_suites+=("${more[@]}")
	# Debian 12, where the others look first, is not made for it.
	[[ $kernel_arch != riscv64 || ! ${more[*]} ]] || kernel_suites=("${more[@]}")
}

# kernel_fetch NAME - have a kernel
#
# Sets KERNEL_DIR (folder with lib/modules/), KERNEL_RELEASE,
# KERNEL_IMAGE (what to boot), KERNEL_KDIR (build folder for modules),
# KERNEL_ARCH (as Debian calls it) and KERNEL_BUILDER (where to build modules, see
# builder_fetch(), or host).
kernel_fetch()
{
	local settings builder

	case $1 in
	kasan|kcsan)	builder=debug_kernel ;;
	uml*)		builder=uml_kernel ;;
	*builtin)	builder=builtin_kernel ;;
	*)		builder= ;;
	esac
	if [[ $builder ]]; then
		settings=$("$(dirname "${BASH_SOURCE[0]}")/$builder" "$1")
		eval "$settings"
		KERNEL_BUILDER=host
		kernel_parse_arch "$1"
		KERNEL_ARCH=$kernel_arch
		return
	fi
	kernel_fetch_debian "$1"
}

kernel_is_own()
{
	[[ $1 == @(kasan|kcsan|uml*|*builtin) ]]
}

kernel_fetch_debian()
{
	local newest=$BLKSNAP_CACHE/kernel/$1.newest

	if ! kernel_is_recent "$newest"; then
		pkg_need depmod kmod
		pkg_need xz xz-utils
		pkg_install
		pkg_locked "kernel-$1" kernel_update "$1" "$newest" ||
			kernel_keep "$1" "$newest"
	fi
	kernel_parse "$1"
	KERNEL_RELEASE=$(<"$newest")
	KERNEL_DIR=$BLKSNAP_CACHE/kernel/$KERNEL_RELEASE
	KERNEL_IMAGE=$KERNEL_DIR/vmlinuz
	KERNEL_KDIR=$KERNEL_DIR/usr/src/linux-headers-$KERNEL_RELEASE
	KERNEL_BUILDER=$kernel_builder
	KERNEL_ARCH=$kernel_arch
}

# kernel_is_recent NEWEST - true if the release named there is at hand and of today
kernel_is_recent()
{
	[[ -e $1 && -e $BLKSNAP_CACHE/kernel/$(<"$1")/release ]] &&
		(($(date +%s) - $(stat -c %Y "$1") < 24 * 3600))
}

# kernel_keep NAME NEWEST - go on with the release that is at hand for another day
kernel_keep()
{
	[[ -e $2 && -e $BLKSNAP_CACHE/kernel/$(<"$2")/release ]] ||
		pkg_die "no kernel $1"
	pkg_say "kernel $1 stays $(<"$2")"
	touch "$2"
}

# kernel_update NAME NEWEST - unpack the newest kernel of NAME and put it down there
kernel_update()
{
	local root=kernel-$1
	local image release

	# The other run may have fetched it while this one waited.
	! kernel_is_recent "$2" || return 0
	kernel_parse "$1"
	apt_root "$root" "$kernel_arch" "${kernel_suites[@]}"
	image=$(apt_root_newest "$root" "$(kernel_pattern)")
	[[ $image ]] ||
		pkg_die "no kernel $1 in ${kernel_suites[*]}"
	release=${image#linux-image-}
	release=${release%-unsigned}
	[[ -e $BLKSNAP_CACHE/kernel/$release/release ]] ||
		kernel_unpack "$root" "$image" "$release"
	printf '%s\n' "$release" >"$2.tmp"
	mv "$2.tmp" "$2"
	rm -rf "$BLKSNAP_CACHE/apt/$root"
}

# kernel_pattern - what names of image packages look like, as awk reads it
kernel_pattern()
{
	local version=${kernel_version//./[.]}

	[[ $kernel_version != rc ]] || version='[0-9]+'
	printf '%s' "linux-image-$version([.][0-9]+)*" \
		"(-[0-9]+|[+]deb[0-9.]+)?-$kernel_flavour(-unsigned)?"
}

kernel_unpack()
{
	local root=$1 image=$2 release=$3
	local dir=$BLKSNAP_CACHE/kernel/$release
	local tmp=$BLKSNAP_CACHE/kernel/.$release.tmp

	rm -rf "$tmp" "$dir"
	mkdir -p "$tmp"
	# shellcheck disable=SC2046 # package names hold no blanks
	apt_root_fetch "$root" "$tmp" "$image" \
		$(kernel_image_parts "$root" "$image") \
		$(kernel_header_packages "$root" "$release")
	kernel_mend "$tmp" "$dir" "$release" ||
		pkg_die "could not prepare $release"
	printf '%s\n' "$release" >"$tmp/release"
	mv -T "$tmp" "$dir"
}

# kernel_image_parts ROOT IMAGE - what an image of 7.3 and newer is made of
kernel_image_parts()
{
	apt_root_depends "$1" "$2" 'linux-(base|binary|modules)-.*' || true
}

kernel_header_packages()
{
	local headers=linux-headers-$2

	printf '%s\n' "$headers"
	apt_root_depends "$1" "$headers" 'linux-headers-.*-common(-rt)?'
	# The programs in there run here.
	apt_root_depends "$1" "$headers" 'linux-kbuild-.*' | sed 's/$/:amd64/'
}

# kernel_mend TMP DIR RELEASE - make the unpacked packages work from DIR
kernel_mend()
{
	local tmp=$1 dir=$2 release=$3
	local image

	# Their top Makefile includes the common one by its installed path.
	sed -i "s,/usr/src/,$dir/usr/src/," \
		"$tmp/usr/src/linux-headers-$release/Makefile"
	if [[ ! -e $tmp/lib/modules/$release/kernel &&
	      -e $tmp/usr/lib/modules/$release/kernel ]]; then
		rm -rf "$tmp/lib/modules"
		mkdir -p "$tmp/lib"
		ln -s ../usr/lib/modules "$tmp/lib/modules"
	fi
	image=$(cd "$tmp" && find boot "lib/modules/$release/" -maxdepth 1 \
		-name 'vmlinu[xz]*' 2>/dev/null | head -n 1) || true
	[[ $image ]] || pkg_die "no image in the package of $release"
	ln -s "$image" "$tmp/vmlinuz"
	rm -f "$tmp/lib/modules/$release/build" \
		"$tmp/lib/modules/$release/source"
	PATH=$PATH:/sbin:/usr/sbin depmod -b "$tmp" "$release"
}

# kernel_compiler - the compiler that the fetched kernel asks for
kernel_compiler()
{
	grep -oEm 1 'gcc-[0-9]+' "$KERNEL_KDIR/.kernelvariables"
}

# kernel_make_modules DIR [ARG...] - run make for the module in DIR
kernel_make_modules()
{
	local dir=$1
	local -a command=(make)

	shift
	if [[ $KERNEL_ARCH != amd64 ]]; then
		builder_fetch "$KERNEL_BUILDER"
		command=("${TREE_COMMAND[@]}" make
			 CROSS_COMPILE="$arch_triplet-"
			 CC="$arch_triplet-$BUILDER_CC")
	elif [[ $KERNEL_BUILDER != host ]]; then
		builder_fetch "$KERNEL_BUILDER" "$(kernel_compiler)"
		command=("${TREE_COMMAND[@]}" make)
	fi
	"${command[@]}" -C "$KERNEL_KDIR" M="$dir" "$@"
}
