#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Packages on a bare Debian 12: made there, installed, and used under its own systemd
#
#	bare.sh [--short]
#
#	--short	without a newer kernel, and without an upgrade of the packages
#
# The packages are made in a root with what their control file asks for.  They are
# installed in another one, with what they depend on.  A disk is made of that, and a
# virtual machine starts from it, with its own initramfs, systemd and udev; see
# bare_guest.sh for what it does.  What its kernels have said goes to
# build/check/bare.guest.  Needs root.

set -euo pipefail
export LC_ALL=C

if ((EUID)); then
	echo "1..0 # SKIP only root can make a root of its own"
	exit 4
fi

here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
top=$(readlink -f "$here/../../../../..")
# shellcheck source-path=SCRIPTDIR source=bare_root.sh
. "$here/bare_root.sh"
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$here/common.sh"
# shellcheck source-path=SCRIPTDIR source=../lib/complaints.sh
. "$here/../lib/complaints.sh"
PATH=$PATH:/usr/sbin:/sbin

# In a namespace of its own no mount is left over, however this ends.
if [[ ! ${BLKSNAP_BARE_ALONE:-} ]]; then
	BLKSNAP_BARE_ALONE=yes exec unshare --mount --propagation private "$0" "$@"
fi

short=
log=$top/build/check/bare.guest
boots=("first_backup timer_fires update_kernel hold_snapshot"
       "restarted new_kernel restore upgrade purge")
if [[ ${1:-} == --short ]]; then
	short=yes
	boots=("first_backup timer_fires hold_snapshot" "restarted restore purge")
fi

# make_root NAME - set root to the bare Debian, to be changed without harm
make_root()
{
	local changes=$work/changes/$1

	root=$work/$1
	mkdir -p "$root" "$changes"/{files,work}
	chmod 755 "$changes/files"
	mount -t overlay -o "lowerdir=$BARE_DIR/root,upperdir=$changes/files,workdir=$changes/work" \
		bare "$root"
	mount_kernel_files
	mkdir -p "$root/mnt/debs" "$root/mnt/own"
	mount --bind "$BARE_DEBS" "$root/mnt/debs"
	echo "deb [trusted=yes] file:/mnt/debs ./" >"$root/etc/apt/sources.list"
	in_root apt-get -qq update
}

# unmount_root - have nothing in root but what is its own
unmount_root()
{
	umount "$root/mnt/debs" "$root/dev" "$root/proc"
	rmdir "$root/mnt/debs" "$root/mnt/own"
}

# copy_sources - put the sources into the root, as they are here
copy_sources()
{
	mkdir -p "$root/root/blksnap"
	git -C "$top" ls-files -co --exclude-standard -z |
	tar -C "$top" -c --ignore-failed-read --null -T - 2>/dev/null |
	tar -C "$root/root/blksnap" -x
}

# make_packages NAME - make them of these sources, and a source of apt of them
make_packages()
{
	in_root make -C /root/blksnap deb || return
	mkdir "$work/$1"
	mv "$root"/root/blksnap/build/deb/*.deb "$work/$1/"
	(cd "$work/$1" && dpkg-scanpackages -m . >Packages)
	driver_version "$root/root/blksnap" >"$work/version.$1"
}

# raise_version - of the sources in the root
raise_version()
{
	sed -i 's/^\(#define BLKSNAP_VERSION_BUILD \).*/\1999/' \
		"$root/root/blksnap/drivers/block/blksnap/ctrl.h"
}

test_making()
{
	make_root building
	copy_sources
	check "what building needs can be installed" quiet \
		in_root_sh "cd /root/blksnap/packaging && apt-get -y build-dep ./"
	check "make deb" quiet make_packages now
	if [[ ! $short ]]; then
		raise_version
		check "make deb, of a higher version" quiet make_packages next
	fi
	umount -R "$root"
}

# list_files - all that there is in root
list_files()
{
	(cd "$root" && find . -xdev -mindepth 1 -printf '/%P\n') | sort
}

# needed_packages - what apt would install besides our own packages
needed_packages()
{
	in_root apt-get -s install blksnap blksnap-dkms |
		awk '$1 == "Inst" && $2 !~ /blksnap/ { print $2 }'
}

test_installing()
{
	local -a needed
	local release

	release=$(<"$BARE_DIR/release.old")
	make_root system
	mount --bind "$work/now" "$root/mnt/own"
	echo "deb [trusted=yes] file:/mnt/own ./" >>"$root/etc/apt/sources.list"
	in_root apt-get -qq update
	mapfile -t needed < <(needed_packages)
	check "what the packages need can be installed" quiet \
		in_root apt-get -y install "${needed[@]}"
	prepare_guest
	list_files >"$work/before"
	check "install" quiet in_root apt-get -y install blksnap blksnap-dkms
	module=$root/lib/modules/$release/updates/dkms/blksnap.ko
	check "DKMS builds the module" same "$release" \
		"$(modinfo -F vermagic "$module" | cut -d ' ' -f 1)"
	check "and signs it" test "$(modinfo -F signer "$module")"
	mkdir "$root/etc/blksnap"
	printf '%s\n' DEVICES=/dev/vdb TO=/backup >"$root/etc/blksnap/data.conf"
	list_files >"$work/installed"
	umount "$root/mnt/own"
}

# prepare_guest - have root start as a machine of its own
prepare_guest()
{
	echo bare >"$root/etc/hostname"
	cat >"$root/etc/fstab" <<-END
	/dev/vda / ext4 defaults 0 1
	LABEL=data /data ext4 x-systemd.device-timeout=600 0 2
	LABEL=backup /backup ext4 x-systemd.device-timeout=600 0 2
	END
	mkdir -p "$root/data" "$root/backup" "$root/var/log/journal"
	in_root systemd-machine-id-setup >/dev/null 2>&1
	# The initramfs of the newer kernel takes half an hour otherwise.
	echo MODULES=list >"$root/etc/initramfs-tools/conf.d/small"
	printf '%s\n' virtio_pci virtio_blk ext4 >>"$root/etc/initramfs-tools/modules"
	quiet in_root update-initramfs -u
	cat >"$root/etc/systemd/system/bare-test.service" <<-END
	[Unit]
	After=multi-user.target
	[Service]
	Type=exec
	ExecStart=/srv/bare/bare_guest.sh
	[Install]
	WantedBy=graphical.target multi-user.target
	END
	in_root systemctl --quiet enable bare-test.service
	# An index of all manual pages takes minutes there.
	rm -f "$root/var/lib/man-db/auto-update"
	# They would hold the lock of apt.
	in_root systemctl --quiet mask apt-daily.timer apt-daily-upgrade.timer
}

# give_test - put the test, and what it installs later, into root
give_test()
{
	local dir=$root/srv/bare

	mkdir -p "$dir"
	cp "$here"/{bare_guest,common}.sh "$work"/version.* \
		"$work"/{before,installed} "$BARE_DIR"/release.* "$dir/"
	[[ ! -e $work/next ]] || cp -r "$work/next" "$BARE_DIR/kernel" "$dir/"
	printf '%s\n' "${boots[@]}" >"$dir/boots"
}

make_disks()
{
	unmount_root
	truncate -s 3G "$work/vda"
	mkfs.ext4 -q -d "$root" "$work/vda"
	umount "$root"
	mkdir "$work/files"
	head -c 20M /dev/urandom >"$work/files/file"
	truncate -s 64M "$work/vdb" "$work/vdd"
	mkfs.ext4 -q -L data -d "$work/files" "$work/vdb"
	truncate -s 1G "$work/vdc"
	mkfs.ext4 -q -L backup "$work/vdc"
}

# find_kernel - set release to the newest kernel on the disk, as a boot loader would
find_kernel()
{
	rm -rf "${work:?}/boot"
	debugfs -R "rdump /boot $work" "$work/vda" 2>/dev/null
	release=$(cd "$work/boot" && printf '%s\n' vmlinuz-* | sort -V | tail -n 1)
	release=${release#vmlinuz-}
}

start_guest()
{
	local -a disks=()
	local disk options

	# A busy host has the guest believe that its timer does not work, and what it
	# does takes long.
	options="console=ttyS0,115200 loglevel=5 panic=-1 oops=panic no_timer_check"
	options+=" systemd.show_status=no systemd.default_timeout_start_sec=600"
	for disk in vda vdb vdc vdd; do
		disks+=(-drive "if=virtio,format=raw,cache=unsafe,file=$work/$disk")
	done
	timeout -k 5 3000 "$QEMU" "${QEMU_ARGS[@]}" -nodefaults -no-user-config \
		-display none -no-reboot -machine pc -cpu max -m 1536 -smp 2 \
		-accel "tcg,thread=$QEMU_THREAD" -device virtio-rng-pci \
		-kernel "$work/boot/vmlinuz-$release" -initrd "$work/boot/initrd.img-$release" \
		-append "root=/dev/vda rw $options" \
		-serial "file:$work/console" -serial "file:$work/output" "${disks[@]}" </dev/null
}

# show_output - what the guest has found, with numbers that go on
show_output()
{
	awk -v number="$number" '/^(not )?ok [0-9]+ / { sub(/ok [0-9]+/, "ok " ++number) }
		{ print }' "$work/output"
	number=$((number + $(grep -cE '^(not )?ok [0-9]' "$work/output" || true)))
	failed=$((failed + $(grep -cE '^not ok [0-9]' "$work/output" || true)))
}

# boot_guest NAMES - start it, and have it run these functions to its next restart
boot_guest()
{
	local begin=$SECONDS

	find_kernel
	start_guest || echo "# the emulator ended with $?"
	show_output
	cat "$work/console" >>"$log"
	echo "# $release: $((SECONDS - begin)) s"
	if ! grep -qF "# end of $1" "$work/output"; then
		tail -n 30 "$work/console" | sed 's/^/# | /'
		echo "Bail out! the guest did not come to its end"
		exit 1
	fi
	check "no complaint of the kernel" is_without "$complaints" "$work/console"
}

# shellcheck disable=SC2317 # called by a trap
clean_up()
{
	local dir

	for dir in building system changes; do
		umount -R "$work/$dir" 2>/dev/null || true
	done
	rm -rf --one-file-system "$work"
}

work=$(mktemp -d "${TMPDIR:-/tmp}/blksnap-bare.XXXXXX")
trap clean_up EXIT
mkdir "$work/changes"
mount -t tmpfs -o mode=755 changes "$work/changes"
qemu_fetch
bare_fetch
mkdir -p "${log%/*}"
: >"$log"
echo "TAP version 13"
test_making
test_installing
give_test
make_disks
for boot in "${boots[@]}"; do
	boot_guest "$boot"
done
echo "1..$number"
((!failed))
