/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Loop devices on other devices
 *
 * A loop device is the kernel's way to have a part of a disk, or a disk that
 * cannot be written.  It goes with its last user: with the mount, or with the
 * descriptor if it is never mounted.
 */
#ifndef LOOP_H
#define LOOP_H

#include <stdbool.h>
#include <stdint.h>

int loop_attach(const char *below, uint64_t offset_bytes, uint64_t nr_bytes,
		bool read_only, char **device, int *fd);
bool loop_is_on(const char *below);
void loop_wait_until_gone(const char *device, const char *below,
			  unsigned int max_ms);

#endif /* LOOP_H */
