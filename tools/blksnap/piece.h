/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The checksum of the piece that is being read or written
 *
 * A layer has one checksum for each 64 MiB of the disk, of the data that it has
 * there.  The data is added in the order of the disk, and a piece ends where data
 * of the next one comes, or at the end of all data.
 */
#ifndef PIECE_H
#define PIECE_H

#include <stdbool.h>
#include <stdint.h>

#include "key.h"

struct piece {
	const struct key *key;	/* of the layer, NULL if it is not encrypted */
	struct checksum sum;
	bool open;
	uint64_t index;
};

bool piece_ends(const struct piece *piece, uint64_t offset);
void piece_add(struct piece *piece, const void *data, size_t nr_bytes,
	       uint64_t offset);
int piece_end(struct piece *piece, char sum[CHECKSUM_TEXT_SIZE]);

#endif /* PIECE_H */
