#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# What a Debian 12 with the packages of blksnap does, from one restart to the next
#
# Run by a unit of systemd at each start.  Each line of the file boots names the functions
# below that are run at one start; then the machine is restarted, and after the last line
# it is switched off.  What is found goes to the second serial line.

# shellcheck disable=SC2317 # called by the names in boots
set -uo pipefail
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
exec </dev/null >/dev/ttyS1 2>&1
stty -F /dev/ttyS1 raw

here=$(dirname "$(readlink -f "$0")")
cd "$here" || exit
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$here/common.sh"
work=/run

# wait_for SECONDS COMMAND...
wait_for()
{
	local end=$((SECONDS + $1))

	shift
	until "$@"; do
		((SECONDS < end)) || return 1
		sleep 1
	done
}

# points - number and base of each point of the backup
points()
{
	blksnap list /backup --no-header | awk '{ print $1, $5 }'
}

has_points() # N
{
	(($(points 2>/dev/null | wc -l) >= $1))
}

change_data() # NAME
{
	head -c 1M /dev/urandom >"/data/$1"
	sync
}

sums() # FOLDER
{
	(cd "$1" && find . -type f -exec sha256sum {} + | sort)
}

# all_well - does systemd say that no unit has failed?
all_well()
{
	local state

	state=$(systemctl is-system-running --wait)
	[[ $state != running ]] || return 0
	echo "#   $state"
	systemctl --no-legend --plain --failed | sed 's/^/#   /'
	return 1
}

# signed_module RELEASE VERSION - has this kernel the module of that version, and signed?
signed_module()
{
	local file=/lib/modules/$1/updates/dkms/blksnap.ko

	same "$1 $2" "$(modinfo -F vermagic "$file" | cut -d ' ' -f 1) $(
		modinfo -F version "$file")" &&
	test "$(modinfo -F signer "$file")"
}

first_backup()
{
	check "all units run" all_well
	check "nothing loads the module before it is used" test ! -e /sys/module/blksnap
	check "a backup, as a service" quiet systemctl start blksnap-backup@data.service
	check "it has loaded the module" test -e /sys/module/blksnap
	check "it is a full one" same "1 -" "$(points)"
	check "the device is tracked" quiet grep -q vdb <(blksnap tracker list)
}

# The timer is the one of the package, but for its time.  It fires again after each start.
timer_fires()
{
	change_data by-timer
	sums /data >"$here/sums"
	mkdir -p /etc/systemd/system/blksnap-backup@data.timer.d
	cat >/etc/systemd/system/blksnap-backup@data.timer.d/soon.conf <<-END
	[Timer]
	OnCalendar=
	OnActiveSec=3s
	RandomizedDelaySec=0
	AccuracySec=1s
	END
	systemctl daemon-reload
	check "a timer can be enabled" quiet \
		systemctl enable --now blksnap-backup@data.timer
	check "it makes a backup by itself" wait_for 300 has_points 2
	check "of what has changed" same "1 -
2 1" "$(points)"
	check "and that has ended well" wait_for 120 same success \
		"$(systemctl show -P Result blksnap-backup@data.service)"
}

# With the storage on a filesystem, and with a mount, both of which keep something busy.
hold_snapshot()
{
	local id

	id=$(blksnap snapshot create /dev/vdb --file /backup/held --size 64M --take)
	check "a snapshot is held" test "$id"
	check "it is mounted" quiet blksnap mount /dev/blksnap-image0 /mnt
}

# end_of_shutdown - what the last start of the machine has said when it ended
end_of_shutdown()
{
	journalctl -b -1 -o cat | sed -n '/^Stopping blksnap-shutdown/,$p'
}

restarted()
{
	check "all units run" all_well
	end_of_shutdown >"$work/shutdown"
	check "at shutdown the snapshot was destroyed" says \
		"Stopped blksnap-shutdown.service" "$work/shutdown"
	check "after that filesystems were unmounted" says "Unmounted backup.mount" \
		"$work/shutdown"
	check "which all could be" is_without 'Failed (unmounting|with)|busy' "$work/shutdown"
	check "and were whole" is_without 'EXT4-fs.*recover' <(journalctl -b -k -o cat)
	check "the timer fires after a restart" wait_for 300 has_points 3
	check "a full backup is made" same "3 -" "$(points | tail -n 1)"
	check "and says why" says "full backup, because" \
		<(journalctl -b -o cat -u blksnap-backup@data.service)
}

update_kernel()
{
	check "a new kernel is installed" quiet apt-get -y install "$here"/kernel/*.deb
	check "the module was built for it, and signed" \
		signed_module "$(<release.new)" "$(<version.now)"
	check "it is there for the old one, too" \
		signed_module "$(<release.old)" "$(<version.now)"
}

new_kernel()
{
	check "the new kernel runs" same "$(<release.new)" "$(uname -r)"
	check "the module has been loaded there" test -e /sys/module/blksnap
}

restore()
{
	local first

	first=$(points | wc -l)
	change_data by-hand
	check "the device can be unmounted" quiet umount /data
	check "a backup, by hand" quiet blksnap backup --incremental-only --to /backup /dev/vdb
	check "is incremental" same "$((first + 1)) $first" "$(points | tail -n 1)"
	check "restore" quiet blksnap restore --from /backup /dev/vdd
	check "what is restored is what was saved" quiet cmp /dev/vdb /dev/vdd
	check "restore of what the timer saved" quiet \
		blksnap restore --force --from /backup --point 2 /dev/vdd
	mount -o ro /dev/vdd /mnt
	check "is what was there then" same "$(<sums)" "$(sums /mnt)"
	umount /mnt
	mount /data
}

upgrade()
{
	local first

	first=$(points | wc -l)
	echo "deb [trusted=yes] file:$here/next ./" >/etc/apt/sources.list
	check "upgrade" quiet apt-get -y -o APT::Get::Show-Upgraded=yes update
	check "upgrade of the packages" quiet apt-get -y upgrade
	check "it says that the old module stays loaded" \
		says "version $(<version.now), stays loaded" "$work/output"
	check "and it does" same "$(<version.now)" "$(</sys/module/blksnap/version)"
	check "the tool is the new one" same "blksnap $(<version.next)" "$(blksnap --version)"
	check "the new module was built, and signed" \
		signed_module "$(uname -r)" "$(<version.next)"
	change_data upgraded
	check "what the module has tracked is not lost" quiet \
		blksnap backup --incremental-only --to /backup /dev/vdb
	check "the next backup is incremental" same "$((first + 1)) $first" \
		"$(points | tail -n 1)"
}

# list_files - all that there is
list_files()
{
	find / -xdev -path "$here" -prune -o -print | sort
}

# packaged_files - what belongs to packages; of theirs, some name no /usr
packaged_files()
{
	sed 's,^/\(bin\|sbin\|lib[0-9]*\)/,/usr&,' /var/lib/dpkg/info/*.list
}

# left_files - what is there, was not there before the packages were installed, was not
# made by the first start of the machine, and does not belong to a package
left_files()
{
	local file

	sort -u before started <(packaged_files) >"$work/known"
	comm -13 "$work/known" <(list_files) |
	while IFS= read -r file; do
		case $file in
		/var/log/*|/var/cache/*|/tmp/*|/var/tmp/*|/var/backups/*)
			# It is expected there.
			;;
		*blksnap*)
			echo "$file" ;;
		/var/lib/dkms/mok.*)
			# The key that DKMS signs all modules with.
			;;
		/var/lib/systemd/*|/var/lib/dpkg/*|/var/lib/apt/*)
			# Of systemd and apt themselves.
			;;
		/boot/*|/vmlinuz*|/initrd.img*|/var/lib/initramfs-tools/*|/usr/lib/modules/*/modules.*)
			# Of the new kernel.
			;;
		*)
			echo "$file" ;;
		esac
	done
}

purge()
{
	mapfile -t packages < <(dpkg-query -W -f '${Package}\n' '*blksnap*')
	check "purge" quiet apt-get -y purge "${packages[@]}"
	check "nothing is left" same "" "$(left_files)"
	check "no unit is left" same "" "$(
		systemctl --no-legend --plain --all list-units 'blksnap*'
		systemctl --no-legend list-unit-files 'blksnap*')"
	check "DKMS has nothing" same "" "$(dkms status)"
	check "backups stay" test -d /backup/bare
	check "all units run" all_well
}

[[ -e started ]] || comm -13 installed <(list_files) >started
boot=$(head -n 1 boots)
sed -i 1d boots
for name in $boot; do
	$name
done
systemctl --no-block "$([[ -s boots ]] && echo reboot || echo poweroff)"
echo "# end of $boot"
exit $((failed != 0))
