/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Where a disk is restored to
 *
 * A device is written in place.  A file is written under the name
 * TARGET.partial, and renamed when it is whole; a file that was there before is
 * replaced then and not a moment earlier.
 */
#ifndef RESTORE_H
#define RESTORE_H

#include <stdbool.h>
#include <stdint.h>

#include "layer.h"

struct restore_target {
	char *path;
	char *partial;		/* NULL for a device */
	bool qcow2;
	uint64_t nr_bytes;
	struct layer_sink sink;
};

int restore_open(struct restore_target *target, const char *path,
		 uint64_t nr_bytes, bool qcow2, bool force);
int restore_open_in_place(struct restore_target *target, const char *path,
			  uint64_t nr_bytes);
int restore_finish(struct restore_target *target);
void restore_forget(struct restore_target *target);

#endif /* RESTORE_H */
