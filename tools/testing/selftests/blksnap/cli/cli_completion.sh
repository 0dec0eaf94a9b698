#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Completion of the command-line tool: it knows all that the tool knows, in both shells

# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"

completion=$(readlink -f "$(dirname "$0")/../../../../blksnap/completion")
id=a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf

# complete_bash WORD... - what is offered for the last WORD, one in a line
complete_bash()
{
	# shellcheck disable=SC2016 # for that shell
	LD_PRELOAD=$fake ASAN_OPTIONS=verify_asan_link_order=0 bash -c '
		. "$1"
		shift
		COMP_WORDS=("$@")
		COMP_CWORD=$(($# - 1))
		_blksnap
		printf "%s\n" "${COMPREPLY[@]}"' \
		bash "$completion/blksnap.bash" "$tool" "$@"
}

# The same of zsh, whose own functions choose among what they are given.
complete_zsh()
{
	# shellcheck disable=SC2016 # for zsh
	zsh -f -c '
		_describe() { print -l -- ${(P)2} | sed "s/:.*//" }
		_files() { print FILES }
		completion=$1
		shift
		words=("$@")
		CURRENT=$#
		source $completion/_blksnap' \
		zsh "$completion" "$tool" "$@"
}

# all_commands - as the help lists them
all_commands()
{
	"$tool" --help | sed -n 's/^  \([a-z]*\( [a-z][a-z]*\)\{0,1\}\)  *[A-Z].*/\1/p'
}

# accepted_options COMMAND... - what the tool takes, which it says if it gets another
accepted_options()
{
	{ "$tool" "$@" --none-of-these 2>&1 || true; } |
	sed -n 's/.*valid are //p' | tr -d , | tr ' ' '\n' | sort
}

# same WHAT WANTED OFFERED
same()
{
	[[ $2 != "$3" ]] || return 0
	echo "# $1"
	{ diff <(echo "$2") <(echo "$3") || true; } | sed 's/^/#   /'
	return 1
}

commands_are_complete() # SHELL
{
	local wanted group

	wanted=$(all_commands | cut -d ' ' -f 1 | sort -u)
	same commands "$wanted" "$("complete_$1" "" | sort)" || return 1
	for group in $(all_commands | sed -n 's/ .*//p' | sort -u); do
		wanted=$(all_commands | sed -n "s/^$group //p" | sort)
		same "$group" "$wanted" "$("complete_$1" "$group" "" | sort)" || return 1
	done
}

options_are_complete() # SHELL
{
	local -a words
	local code=0

	while read -ra words; do
		same "${words[*]}" "$(accepted_options "${words[@]}")" \
			"$("complete_$1" "${words[@]}" - | sort)" || code=1
	done < <(all_commands)
	return $code
}

# Options do not count as words, and arguments are no commands.
words_are_told_apart() # SHELL
{
	[[ $("complete_$1" --json tracker "" | sort) == $'list\nremove' &&
	   $("complete_$1" backup --to /d - | sort) == "$(accepted_options backup)" &&
	   $("complete_$1" prune snapshot - | sort) == "$(accepted_options prune)" ]]
}

all_tests()
{
	check "bash: all commands" commands_are_complete bash
	check "bash: all options of all commands" options_are_complete bash
	check "bash: words" words_are_told_apart bash
	check "bash: begun options" \
		test "$(complete_bash backup --stor)" = $'--storage\n--storage-size'
	check "bash: snapshots" \
		test "$(complete_bash snapshot take a)" = "$id"
	check "bash: files else" test -z "$(complete_bash umount "")"
	if ! type -P zsh >/dev/null; then
		skip "zsh" "no zsh (package zsh)"
		return
	fi
	check "zsh: all commands" commands_are_complete zsh
	check "zsh: all options of all commands" options_are_complete zsh
	check "zsh: words" words_are_told_apart zsh
	check "zsh: files else" test "$(complete_zsh umount "")" = FILES
}

run_all_tests
