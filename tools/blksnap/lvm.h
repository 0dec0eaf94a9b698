/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Groups of logical volumes that are copies of groups in use
 *
 * A copy has the names and identifiers of its origin, which LVM must not see at
 * the same time.  So LVM is run with settings of its own, which let it see the
 * devices of the copy alone, and the copy gets other names and identifiers, which
 * are written to its devices.
 */
#ifndef LVM_H
#define LVM_H

#include <stddef.h>

struct lvm {
	const char *dir;	/* holds no settings of LVM */
	const char *group;	/* what the group is going to be called */
	const char *name;	/* of what the user named, for messages */
	char **devices;		/* that LVM may see; the first one is of the group */
	size_t nr_devices;
};

int lvm_open(const struct lvm *lvm, const char *volume, char **name,
	     char **device);

#endif /* LVM_H */
