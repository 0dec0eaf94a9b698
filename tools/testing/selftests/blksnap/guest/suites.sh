# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# The tests that run in a virtual machine, and the machine that each needs
#
#	suite NAME PROGRAM [OPTION]...
#
# NAME names the step ("run --only NAME"), PROGRAM is a test_* program of this
# folder or a script.  It prints KTAP to stdout.  Options are those of
# ../lib/guest ("--module blksnap" is the module built here), and
#
#	--arguments 'A...'	arguments of the program in the full form
#	--fast 'A...'		arguments in the short form; without it the
#				suite is left out of the short form
#	--host			run the script on the host: it starts guests

suite guest-runner guest_runner.sh --host --fast --short --timeout 300
