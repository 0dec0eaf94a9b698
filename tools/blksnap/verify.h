/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Is a layer of a backup what it was?
 */
#ifndef VERIFY_H
#define VERIFY_H

#include "catalogue.h"
#include "progress.h"

int verify_layer(const struct catalogue *catalogue,
		 const struct catalogue_disk *disk, struct progress *progress);

#endif /* VERIFY_H */
