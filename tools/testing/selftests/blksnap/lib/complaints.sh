# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# Ways of the kernel to say that something is wrong, as grep -E reads them; sourced
#
# Mitigations of processor bugs are announced as warnings too, but with a name before
# the word.

# shellcheck disable=SC2034 # of the caller
complaints='^(\[[^]]*\] )?WARNING:|BUG:|kernel BUG at|Oops:|Oops |KASAN:|KCSAN:|UBSAN:|INFO: (possible|suspicious|task|trying to register|rcu)|possible circular|possible recursive|blocked for more than|detected stall|soft lockup|hard LOCKUP|Call Trace:|new suspected memory leaks|general protection|Kernel panic|refcount_t:|list_(add|del) corruption|ODEBUG:'
