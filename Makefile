# SPDX-License-Identifier: GPL-2.0
#
# Building, testing and installing blksnap; "make help" lists the targets
#
# The module is built by the kernel's own makefiles, which drivers/block/blksnap
# is written for.  Nothing here is needed to lay the tree over a kernel source.

KDIR ?= /lib/modules/$(shell uname -r)/build
PREFIX ?= /usr/local
INSTALL ?= install

module := $(CURDIR)/drivers/block/blksnap
selftests := tools/testing/selftests/blksnap
kbuild = $(MAKE) -C $(KDIR) M=$(module) CONFIG_BLKSNAP=m

all: modules tools

modules: kdir
	$(kbuild) modules

kdir:
	@test -e "$(KDIR)/Makefile" || { \
		echo "No kernel headers in $(KDIR)." >&2; \
		echo "Install them (Debian: apt-get install linux-headers-$$(uname -r)), or" >&2; \
		echo "give the folder of another kernel: make KDIR=..." >&2; \
		exit 1; }

tools:
	$(MAKE) -C tools/blksnap

demo:
	$(selftests)/demo/demo

check:
	$(selftests)/run $(KERNELS:%=--kernel %)

check-long:
	$(selftests)/run --long $(KERNELS:%=--kernel %)

check-all:
	$(selftests)/run --all $(KERNELS:%=--kernel %)

check-fast:
	$(selftests)/run --fast

check-kernels:
	$(selftests)/kernels $(KERNELS)

kernels-table:
	$(selftests)/kernels --table

bench:
	$(selftests)/bench/bench $(if $(PLOTS),--plots)

series:
	tools/patches/series build/series

install: modules_install tools_install headers_install

modules_install: modules
	$(kbuild) $(if $(DESTDIR),INSTALL_MOD_PATH=$(DESTDIR)) modules_install

tools_install: tools
	$(MAKE) -C tools/blksnap install

deb:
	packaging/build deb

rpm:
	packaging/build rpm

headers_install:
	$(INSTALL) -D -m 0644 include/uapi/linux/blksnap.h \
		$(DESTDIR)$(PREFIX)/include/linux/blksnap.h

# The kernel's makefiles clean without headers too, but not without KDIR.
clean:
	if test -e "$(KDIR)/Makefile"; then $(kbuild) clean; fi
	$(MAKE) -C tools/blksnap clean
	$(MAKE) -C $(selftests)/unit clean
	$(MAKE) -C $(selftests)/cli clean
	$(RM) -r build

help:
	@echo 'Targets:'
	@echo '  all (default)   modules and tools'
	@echo '  modules         blksnap.ko, for the running kernel or for KDIR=...'
	@echo '  tools           tools/blksnap/blksnap, the command-line tool'
	@echo '  demo            see a backup of a disk in use, in a virtual machine'
	@echo '  check           what answers soon, ends in "N passed, N failed"'
	@echo '  check-long      the tests that take longer'
	@echo '  check-all       both, in short forms and without kernels to be built'
	@echo '  check-fast      the short tests on one kernel, under 5 minutes'
	@echo '  check-kernels   the short suites on all kernels and architectures, takes hours'
	@echo '  kernels-table   put what it found into Documentation/block/blksnap-kernels.rst'
	@echo '  bench           what snapshots cost, beside dm-snapshot, as a table'
	@echo '  series          patches for the kernel, in build/series'
	@echo '  deb             packages for Debian, in build/deb (Debian: apt-get install'
	@echo '                  debhelper dh-dkms dh-python)'
	@echo '  rpm             packages for systems with rpm, in build/rpm'
	@echo '  install         module, tool, library, udev rules, systemd units, completion'
	@echo '                  for shells and header (DESTDIR=, PREFIX=/usr/local)'
	@echo '  clean           remove what was built'
	@echo '  help            this text'
	@echo
	@echo 'Variables:'
	@echo '  KDIR=DIR        build folder of the kernel to build the module for'
	@echo '  KERNELS="6.1 7" have check run on these kernels: 6.1, 6.12, 7 (the newest of'
	@echo '                  Debian), 6.1-rt, 7-cloud and so on'
	@echo '  PLOTS=1         have bench draw the curves of Documentation/block, too'
	@echo '  W=1 C=2         more compiler warnings, sparse'
	@echo
	@echo 'demo, check and bench install what they need with apt and say so; kernels'
	@echo 'and the emulator go to $${XDG_CACHE_HOME:-$$HOME/.cache}/blksnap.'

.PHONY: all modules kdir tools demo check check-long check-all check-fast check-kernels kernels-table \
	bench series deb rpm install \
	modules_install tools_install headers_install clean help

export PREFIX DESTDIR
