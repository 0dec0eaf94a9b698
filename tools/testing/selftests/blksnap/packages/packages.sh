#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Packages: what is in them, and installing, upgrading and removing them
#
#	packages.sh RELEASE KDIR
#
# KDIR has the headers of a kernel of Debian, RELEASE is what that calls itself.  The
# packages are made first.  They are installed in a root of their own: what the machine
# has, with all changes in memory.  Needs root.

set -euo pipefail
export LC_ALL=C

if ((EUID)); then
	echo "1..0 # SKIP only root can make a root of its own"
	exit 4
fi

release=$1
kdir=$2
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
top=$(readlink -f "$here/../../../../..")
build=$top/build
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$here/common.sh"

# In a namespace of its own no mount is left over, however this ends.
if [[ ! ${BLKSNAP_PACKAGES_ALONE:-} ]]; then
	BLKSNAP_PACKAGES_ALONE=yes exec unshare --mount --propagation private \
		"$0" "$@"
fi

# make_root - set root to what the machine has, to be changed without harm
make_root()
{
	root=$work/root
	mkdir "$work/changed" "$work/overlay" "$root"
	mount -t overlay -o "lowerdir=/,upperdir=$work/changed,workdir=$work/overlay" \
		packages "$root"
	mount_kernel_files
	mkdir -p "$root/lib/modules" "$root/var/lib/dkms"
	# No other kernel of the machine, and none of its modules.
	mount -t tmpfs -o mode=755 modules "$root/lib/modules"
	mount -t tmpfs -o mode=755 dkms "$root/var/lib/dkms"
	mount -t tmpfs -o mode=755 sys "$root/sys"
	mount -t tmpfs -o mode=755 own "$root/mnt"
	mkdir "$root/mnt/deb" "$root/mnt/bin"
	cp "$build"/deb/*.deb "$root/mnt/deb/"
	mkdir -p "$root$kdir"
	mount --bind "$kdir" "$root$kdir"
	add_kernel "$release" "$kdir"
	fake modprobe
	fake rmmod
}

# add_kernel RELEASE KDIR - have the root take it for installed
add_kernel()
{
	mkdir -p "$root/lib/modules/$1"
	ln -s "$2" "$root/lib/modules/$1/build"
	touch "$root/lib/modules/$1/modules."{order,builtin}
}

# fake PROGRAM [TEXT] - have the root run one that notes its call, with | between
# arguments, and prints TEXT
fake()
{
	printf '#!/bin/sh\nIFS="|"\necho "%s|$*" >>/mnt/calls\nprintf "%%s\\n" "%s"\n' \
		"$1" "${2:-}" >"$root/mnt/bin/$1"
	chmod +x "$root/mnt/bin/$1"
	: >"$root/mnt/calls"
}

# The file that the kernel would have.
set_sys() # FILE TEXT
{
	mkdir -p "$(dirname "$root/sys/$1")"
	echo "$2" >"$root/sys/$1"
}

# contents PACKAGE - its files, without the folders
contents()
{
	dpkg-deb -c "$build/deb/$1"_*.deb | awk '!/^d/ { print substr($6, 2) }' | sort
}

wanted_of_tool()
{
	sort <<-END
	/lib/systemd/system/blksnap-backup@.service
	/lib/systemd/system/blksnap-backup@.timer
	/lib/systemd/system/blksnap-shutdown.service
	/usr/lib/udev/blksnap-links
	/usr/lib/udev/rules.d/12-blksnap.rules
	/usr/libexec/blksnap/destroy-snapshots
	/usr/sbin/blksnap
	/usr/share/bash-completion/completions/blksnap
	/usr/share/doc/blksnap/README.md.gz
	/usr/share/doc/blksnap/blksnap-cost.rst.gz
	/usr/share/doc/blksnap/blksnap-depth.svg
	/usr/share/doc/blksnap/blksnap-fraction.svg
	/usr/share/doc/blksnap/blksnap-growth-memory.svg
	/usr/share/doc/blksnap/blksnap-growth-ranges.svg
	/usr/share/doc/blksnap/blksnap-growth-size.svg
	/usr/share/doc/blksnap/blksnap-kernels.rst.gz
	/usr/share/doc/blksnap/blksnap-size.svg
	/usr/share/doc/blksnap/blksnap-tails.svg
	/usr/share/doc/blksnap/blksnap.rst.gz
	/usr/share/doc/blksnap/changelog.gz
	/usr/share/doc/blksnap/copyright
	/usr/share/doc/blksnap/grafana-dashboard.json.gz
	/usr/share/man/man7/blksnap.7.gz
	/usr/share/man/man8/blksnap-backup@.service.8.gz
	/usr/share/man/man8/blksnap.8.gz
	/usr/share/zsh/vendor-completions/_blksnap
	END
}

wanted_of_module()
{
	{
		git -C "$top" ls-files -co --exclude-standard drivers/block/blksnap \
			include/uapi | sed "s,^,/usr/src/blksnap-$version/,"
		echo "/usr/src/blksnap-$version/dkms.conf"
		echo /usr/share/blksnap-dkms/after-install
		echo /usr/share/doc/blksnap-dkms/changelog.gz
		echo /usr/share/doc/blksnap-dkms/copyright
	} | sort
}

wanted_of_library()
{
	sort <<-END
	/usr/lib/x86_64-linux-gnu/libblksnap.so.1
	/usr/lib/x86_64-linux-gnu/libblksnap.so.1.0.0
	/usr/share/doc/libblksnap1/changelog.gz
	/usr/share/doc/libblksnap1/copyright
	END
}

wanted_for_development()
{
	sort <<-END
	/usr/include/blksnap/blksnap.h
	/usr/include/blksnap/linux/blksnap.h
	/usr/lib/x86_64-linux-gnu/libblksnap.a
	/usr/lib/x86_64-linux-gnu/libblksnap.so
	/usr/lib/x86_64-linux-gnu/pkgconfig/blksnap.pc
	/usr/share/doc/libblksnap-dev/changelog.gz
	/usr/share/doc/libblksnap-dev/copyright
	/usr/share/doc/libblksnap-dev/examples/backup.c
	/usr/share/doc/libblksnap-dev/examples/backup.py
	/usr/share/doc/libblksnap-dev/examples/watch.py
	/usr/share/man/man3/blksnap.3.gz
	END
}

wanted_of_python()
{
	sort <<-END
	/usr/lib/python3/dist-packages/blksnap/__init__.py
	/usr/lib/python3/dist-packages/blksnap/_native.py
	/usr/lib/python3/dist-packages/blksnap/py.typed
	/usr/share/doc/python3-blksnap/changelog.gz
	/usr/share/doc/python3-blksnap/copyright
	END
}

test_contents()
{
	local package

	for package in blksnap blksnap-dkms libblksnap1 libblksnap-dev python3-blksnap; do
		check "$package has the version of the driver" same "$version" \
			"$(dpkg-deb -f "$build/deb/$package"_*.deb Version)"
	done
	check "blksnap: files" same "$(wanted_of_tool)" "$(contents blksnap)"
	check "blksnap-dkms: files" same "$(wanted_of_module)" "$(contents blksnap-dkms)"
	check "libblksnap1: files" same "$(wanted_of_library)" "$(contents libblksnap1)"
	check "libblksnap-dev: files" same "$(wanted_for_development)" \
		"$(contents libblksnap-dev)"
	check "python3-blksnap: files" same "$(wanted_of_python)" \
		"$(contents python3-blksnap)"
	check "lintian" quiet lintian --allow-root \
		--fail-on error,warning,info,pedantic "$build/deb/"*.changes
	check "what is built by users has no -Werror" \
		is_without '-Werror([ "]|$)' "$work/deb.log"
}

# The firmware trusts no key yet, and the kernel demands one.
test_install()
{
	set_sys module/module/parameters/sig_enforce Y
	fake mokutil "the key is not enrolled"
	check "install" quiet in_root dpkg -i \
		/mnt/deb/blksnap_"$version"_amd64.deb \
		/mnt/deb/blksnap-dkms_"$version"_all.deb
	check "it names the key" says "mokutil --import /var/lib/dkms/mok.pub" \
		"$work/output"
	check "dpkg --verify" quiet in_root dpkg --verify blksnap blksnap-dkms
	check "the folder for what is backed up" in_root test -d /etc/blksnap
	check "the tool runs" same "blksnap $version" "$(in_root blksnap --version)"
	check "the module was built and installed" test -e "$module"
	check "it has the version of the package" same "$version" \
		"$(modinfo -F version "$module")"
	check "it is signed" test "$(modinfo -F signer "$module")"
	check "it is for that kernel" same "$release" \
		"$(modinfo -F vermagic "$module" | cut -d ' ' -f 1)"
	check "its warnings are no errors" is_without '-Werror([ "]|$)' \
		<(cat "$root/usr/src/blksnap-$version"/{dkms.conf,drivers/block/blksnap/Makefile})
}

# The interface that is recorded: a function that is gone, or new, or of another version.
recorded_symbols()
{
	sed -n 's/^ \(.*@.*\) .*/\1/p' "$top/packaging/debian/libblksnap1.symbols" | sort
}

symbols_of_library()
{
	nm -D --defined-only --with-symbol-versions \
		"$root/usr/lib/x86_64-linux-gnu/libblksnap.so.1" |
		sed -n 's/.* [AT] \(.*\)@@\(.*\)/\1@\2/p; s/.* A \([^@]*\)$/\1@\1/p' | sort
}

# build_example OPTION... - with what pkg-config says and nothing else
build_example()
{
	in_root_sh "cc -Wall -Wextra -Werror -o /mnt/example $* \
		/usr/share/doc/libblksnap-dev/examples/backup.c \
		\$(pkg-config --cflags --libs $* blksnap)"
}

# Without a module each program says so.
example_says() # COMMAND...
{
	in_root sh -c "$* /dev/null /mnt/storage /mnt/copy" >"$work/output" 2>&1 &&
		return 1
	says "the blksnap module is not loaded" "$work/output"
}

test_library()
{
	check "library: install" quiet in_root dpkg -i \
		/mnt/deb/libblksnap1_"$version"_amd64.deb \
		/mnt/deb/libblksnap-dev_"$version"_amd64.deb \
		/mnt/deb/python3-blksnap_"$version"_all.deb
	check "library: dpkg --verify" quiet in_root dpkg --verify libblksnap1 \
		libblksnap-dev python3-blksnap
	check "library: its interface is the one that is recorded" \
		same "$(recorded_symbols)" "$(symbols_of_library)"
	check "library: pkg-config has the version" same "$version" \
		"$(in_root pkg-config --modversion blksnap)"
	check "library: the example is built" quiet build_example
	check "library: it needs the shared one" \
		says "libblksnap.so.1" <(readelf -d "$root/mnt/example")
	check "library: it runs" example_says /mnt/example
	check "library: the example is built with the static one" \
		quiet build_example -static
	check "library: that runs" example_says /mnt/example
	check "library: the example in Python runs" example_says \
		/usr/bin/python3 /usr/share/doc/libblksnap-dev/examples/backup.py
}

test_units()
{
	check "the units are right" quiet in_root systemd-analyze verify \
		blksnap-backup@system.service blksnap-backup@system.timer \
		blksnap-shutdown.service
	check "the unit for shutdown is enabled" in_root test -L \
		/etc/systemd/system/multi-user.target.wants/blksnap-shutdown.service
	check "no backup is" same "" \
		"$(find "$root/etc/systemd" -name 'blksnap-backup*')"
}

# shutdown_calls STATE - how the tool is called when the unit is stopped in STATE
shutdown_calls()
{
	fake blksnap "$(printf '%s  taken  1\n%s  created  0' "$id" "${id//0/1}")"
	fake systemctl "$1"
	in_root /usr/libexec/blksnap/destroy-snapshots blksnap >/dev/null
	rm "$root/mnt/bin/blksnap" "$root/mnt/bin/systemctl"
	grep ^blksnap "$root/mnt/calls" || true
}

test_shutdown()
{
	local id=00000000-a4a5-a6a7-a8a9-aaabacadaeaf

	touch "$root/dev/blksnap"
	mkdir -p "$root/run/blksnap/mounts"
	printf '{\n  "mount_point": "/srv/a b",\n  "device": "/dev/dm-0"\n}\n' \
		>"$root/run/blksnap/mounts/1.json"
	check "stopped by hand, it destroys nothing" same "" "$(shutdown_calls running)"
	check "at shutdown it destroys all snapshots" same \
		"blksnap|umount|/srv/a b
blksnap|snapshot|list|--no-header
blksnap|snapshot|destroy|$id
blksnap|snapshot|destroy|${id//0/1}" "$(shutdown_calls stopping)"
	rm -r "$root/dev/blksnap" "$root/run/blksnap"
}

# The lines of the unit, as systemd gives them to their programs.
backup_calls() # KEEP
{
	local line

	fake blksnap
	line=$(in_root sed -n "s/^ExecStart=sh -c '\(.*\)'$/\1/p" \
		/lib/systemd/system/blksnap-backup@.service)
	in_root env TO="/a b" KEEP="$1" PATH=/mnt/bin:/usr/bin \
		sh -c "$(sed 's,\$\$,$,g; s,/usr/sbin/,,' <<<"$line")" >/dev/null
	rm "$root/mnt/bin/blksnap"
	cat "$root/mnt/calls"
}

test_prune_of_unit()
{
	check "the unit removes no point unless told" same "" "$(backup_calls "")"
	check "the unit removes points" same "blksnap|prune|/a b|--keep-daily|7" \
		"$(backup_calls "--keep-daily 7")"
}

# The module is loaded, and the key is trusted by now.
test_upgrade()
{
	set_sys module/blksnap/version 0.9
	fake mokutil "/var/lib/dkms/mok.pub is already enrolled"
	fake modprobe
	check "upgrade" quiet in_root dpkg -i /mnt/deb/blksnap-dkms_"$version"_all.deb
	check "it says that the old module stays loaded" \
		says "version 0.9, stays loaded" "$work/output"
	check "it does not name the key again" is_without import "$work/output"
	check "no module is unloaded" is_without '^(rmmod|modprobe.*[|]-r)' "$root/mnt/calls"
	check "the new one is installed" test -e "$module"
}

# build_result RELEASE CONFIG... - how DKMS ends for a kernel that has these; none builds
build_result()
{
	local code=0

	printf 'CONFIG_%s=y\n' "${@:2}" >"$root/mnt/kernel/.config"
	in_root dkms build -k "$1" -a x86_64 --kernelsourcedir /mnt/kernel \
		-m blksnap -v "$version" >/dev/null 2>&1 || code=$?
	in_root dkms unbuild -k "$1" -a x86_64 -m blksnap -v "$version" \
		>/dev/null 2>&1 || true
	echo "$code"
}

test_exclusion()
{
	local with_args=DYNAMIC_FTRACE_WITH_ARGS with_regs=DYNAMIC_FTRACE_WITH_REGS

	mkdir -p "$root/mnt/kernel/include"
	echo 'modules clean:; exit 1' >"$root/mnt/kernel/Makefile"
	check "excluded: no ftrace that diverts" same 77 "$(build_result 6.9.0 BLOCK)"
	check "excluded: PPC64 by ftrace" same 77 \
		"$(build_result 6.9.0 BLOCK $with_args $with_regs PPC64)"
	check "excluded: S390 by ftrace" same 77 \
		"$(build_result 6.9.0 BLOCK $with_args S390)"
	check "excluded: registers without an order" same 77 \
		"$(build_result 6.9.0 BLOCK $with_regs)"
	check "excluded: 5.10" same 77 "$(build_result 5.10.0 BLOCK $with_args)"
	check "excluded: no block layer" same 77 "$(build_result 6.9.0 $with_args)"
	check "tried: arguments" same 10 "$(build_result 6.9.0 BLOCK $with_args)"
	check "tried: arguments, 10.0" same 10 "$(build_result 10.0.0 BLOCK $with_args)"
	check "tried: registers with an order" same 10 \
		"$(build_result 6.9.0 BLOCK $with_regs HAVE_FUNCTION_ARG_ACCESS_API)"
	check "tried: PPC64 by the hook" same 10 \
		"$(build_result 6.9.0 BLOCK BLK_BIO_FILTER PPC64)"
	check "tried: S390 by the hook" same 10 \
		"$(build_result 6.9.0 BLOCK BLK_BIO_FILTER S390)"
}

# What apt runs when a kernel is installed may not fail for one that is left out.
test_kernel_hook()
{
	echo CONFIG_BLOCK=y >"$root/mnt/kernel/.config"
	add_kernel 6.9.0-without /mnt/kernel
	check "a kernel that is left out can be installed" \
		quiet in_root /etc/kernel/postinst.d/dkms 6.9.0-without
	rm -r "$root/lib/modules/6.9.0-without"
}

# left_files - what is there and was not before
left_files()
{
	local file

	(cd "$work/changed" && find . -mindepth 1 ! -type c) |
	while IFS= read -r file; do
		file=${file#.}
		case $file in
		/run/systemd/*|/var/cache/man/*|/var/lib/dpkg/*-old|/var/lib/dpkg/triggers/*|/var/log/dpkg.log|/root/.rpmdb*|"$kdir"*)
			# Of systemd-analyze, of dpkg and what it has run for all packages,
			# of rpm, which DKMS asks whose a folder is.
			;;
		*)
			[[ -e $file || $file == /usr/lib/modules ]] || echo "$file" ;;
		esac
	done
	find "$root/lib/modules" "$root/var/lib/dkms" "$root/usr/src" -name '*blksnap*' -printf '%P\n'
}

# use_packages - leave in the root what systemd and an administrator would leave
use_packages()
{
	local of_systemd="/etc/systemd/system/timers.target.wants /var/lib/systemd/timers"

	in_root_sh "mkdir -p $of_systemd /var/lib/blksnap &&
		ln -s /lib/systemd/system/blksnap-backup@.timer \
		  /etc/systemd/system/timers.target.wants/blksnap-backup@system.timer &&
		touch /var/lib/systemd/timers/stamp-blksnap-backup@system.timer \
		  /etc/blksnap/system.conf /etc/blksnap/key"
}

test_purge()
{
	use_packages
	check "purge" quiet in_root dpkg --purge blksnap blksnap-dkms \
		python3-blksnap libblksnap-dev libblksnap1
	check "keys stay" in_root rm /etc/blksnap/key
	# Folders that systemd makes when it needs them.
	in_root rmdir --ignore-fail-on-non-empty /etc/blksnap \
		/etc/systemd/system/timers.target.wants /var/lib/systemd/timers || true
	check "nothing is left" same "" "$(left_files)"
}

test_rpm()
{
	local rpm

	check "rpm: packages can be made" quiet "$top/packaging/build" rpm --nodeps
	check "rpm: the spec can be read" quiet rpmspec -P "$build/rpm/blksnap.spec"
	for rpm in "$build"/rpm/RPMS/*/*.rpm; do
		check "rpm: ${rpm##*/} has the version of the driver" same "$version" \
			"$(rpm -qp --queryformat '%{VERSION}' "$rpm")"
	done
	check "rpm: the folder for what is backed up" grep -qx /etc/blksnap \
		<(rpm -qpl "$build"/rpm/RPMS/*/blksnap-"$version"-*.rpm)
	check "rpm: the module's files are those of Debian" same \
		"$(contents blksnap-dkms | grep ^/usr/src)" \
		"$(rpm -qpl "$build"/rpm/RPMS/noarch/blksnap-dkms-*.rpm |
		   grep -E '^/usr/src/.*(/Makefile|/Kconfig|[.](c|h|conf))$' | sort)"
	# A page about a unit is not in section "service", and who makes a package for others
	# signs it and gives it a name and a changelog.  What packages of Python and of
	# libraries are called, and how the linker hashes, is of the system.
	check "rpm: rpmlint finds no other error" is_without ': E: ' \
		<(rpmlint "$build/rpm/blksnap.spec" "$build"/rpm/RPMS/*/*.rpm 2>&1 |
			  grep -vE 'bad-manual-page-folder .*@[.]service[.]8|no-(signature|packager-tag|changelogname-tag)$|no-dependency-on python-base|lib-package-without-%mklibname|missing-hash-section')
}

work=$(mktemp -d "${TMPDIR:-/tmp}/blksnap-packages.XXXXXX")
trap 'umount -R "$work" 2>/dev/null || true; rmdir "$work"' EXIT
mount -t tmpfs -o mode=755 packages "$work"

version=$(driver_version "$top")
echo "TAP version 13"
if ! make -C "$top" deb >"$work/deb.log" 2>&1; then
	sed 's/^/# /' "$work/deb.log"
	echo "Bail out! there are no packages to test"
	exit 1
fi
test_contents
make_root
module=$root/lib/modules/$release/updates/dkms/blksnap.ko
test_install
test_library
test_units
test_shutdown
test_prune_of_unit
test_upgrade
test_exclusion
test_kernel_hook
test_purge
test_rpm
echo "1..$number"
((!failed))
