# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# Completion of blksnap for bash
#
# Commands and options are those that the tool's own help names, so there is no list
# of them here.

# _blksnap_commands TOOL - commands, with their group if they have one
_blksnap_commands()
{
	"$1" --help 2>/dev/null |
	sed -n '/^Commands:/,/^$/s/^  \([a-z]*\( [a-z]*\)\{0,1\}\)  *[A-Z].*/\1/p'
}

# _blksnap_options TOOL COMMAND... - options that the help of COMMAND names; those of other
# programs are in the middle of its lines
_blksnap_options()
{
	"$@" --help 2>/dev/null | sed -n '/^Usage:/p; /^ *--/p; /^Common options:/p' |
	grep -oE -- '--[a-z-]+' | grep -v -- '-$' | sort -u
}

# _blksnap_snapshots TOOL - the IDs of all snapshots
_blksnap_snapshots()
{
	"$1" snapshot list --no-header 2>/dev/null | cut -d ' ' -f 1
}

# _blksnap_words TOOL COMMAND... - what may follow but options and files
_blksnap_words()
{
	local tool=$1

	shift
	case "$*" in
	'')
		_blksnap_commands "$tool" | cut -d ' ' -f 1 | sort -u ;;
	'snapshot append'|'snapshot take'|'snapshot destroy'|'snapshot images'|'snapshot events')
		_blksnap_snapshots "$tool" ;;
	*)
		_blksnap_commands "$tool" | sed -n "s/^$* //p" ;;
	esac
}

_blksnap()
{
	local tool=${COMP_WORDS[0]} current=${COMP_WORDS[COMP_CWORD]}
	local -a command=()
	local word

	for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
		[[ $word != -* ]] || continue
		((!${#command[@]})) ||
			_blksnap_commands "$tool" | grep -qx "${command[0]} $word" ||
			break
		command+=("$word")
	done
	if [[ $current == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W \
			"$(_blksnap_options "$tool" "${command[@]}")" -- "$current")
	else
		mapfile -t COMPREPLY < <(compgen -W \
			"$(_blksnap_words "$tool" "${command[@]}")" -- "$current")
	fi
}

# Files and devices are completed where there is nothing else.
complete -o default -F _blksnap blksnap
