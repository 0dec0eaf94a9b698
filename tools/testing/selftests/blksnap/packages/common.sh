# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# What tests of packages have in common; sourced
#
# The caller sets work, a folder for files that come and go, and root, where packages are
# installed.

# shellcheck disable=SC2154 # of the caller
number=0
failed=0

check() # NAME COMMAND...
{
	local name=$1 result=ok

	shift
	number=$((number + 1))
	"$@" || result='not ok' failed=$((failed + 1))
	echo "$result $number - $name"
}

# says TEXT FILE - does it?  Show the file if not.
says()
{
	! grep -qF -- "$1" "$2" || return 0
	echo "# '$1' is not in"
	sed 's/^/#   /' "$2"
	return 1
}

same() # WANTED ACTUAL
{
	[[ $1 != "$2" ]] || return 0
	{ diff <(echo "$1") <(echo "$2") || true; } | sed 's/^/#   /'
	return 1
}

# quiet COMMAND... - show what it prints only if it fails
quiet()
{
	"$@" >"$work/output" 2>&1 && return 0
	sed 's/^/#   /' "$work/output"
	return 1
}

is_without() # PATTERN FILE
{
	grep -m 1 -E -- "$1" "$2" >"$work/found" || return 0
	sed 's/^/#   /' "$work/found"
	return 1
}

# driver_version DIR - that of the sources there
driver_version()
{
	sed -n 's/^#define BLKSNAP_VERSION_[A-Z]* //p' \
		"$1/drivers/block/blksnap/ctrl.h" | paste -sd .
}

# mount_kernel_files - have root see /proc, and devices that do no harm
mount_kernel_files()
{
	mount -t proc proc "$root/proc"
	mount -t tmpfs -o mode=755 dev "$root/dev"
	mknod -m 666 "$root/dev/null" c 1 3
	mknod -m 666 "$root/dev/urandom" c 1 9
	ln -s /proc/self/fd "$root/dev/fd"
}

in_root()
{
	env -i PATH=/mnt/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C \
		DEBIAN_FRONTEND=noninteractive chroot "$root" "$@" </dev/null
}

in_root_sh()
{
	in_root sh -c "$1"
}
