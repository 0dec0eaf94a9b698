# SPDX-License-Identifier: GPL-2.0
#
# One version for the module, the tool and the library, in version

ctrl_h := $(dir $(lastword $(MAKEFILE_LIST)))../../drivers/block/blksnap/ctrl.h
version := $(shell sed -n 's/^\#define BLKSNAP_VERSION_[A-Z]* \([0-9]*\)/\1/p' \
	     $(ctrl_h) | paste -sd .)
