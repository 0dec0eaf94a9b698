// SPDX-License-Identifier: GPL-2.0
/*
 * The checksum of the piece that is being read or written
 */
#include "layer_map.h"
#include "message.h"
#include "piece.h"

/**
 * piece_ends() - does data at an offset belong to another piece?
 * @piece:	the piece
 * @offset:	where the data is on the disk
 *
 * Return: true if the piece has to be ended before the data is added.
 */
bool piece_ends(const struct piece *piece, uint64_t offset)
{
	return piece->open && piece->index != offset >> LAYER_PIECE_SHIFT;
}

/**
 * piece_add() - add data to the piece, or begin a new one with it
 * @piece:	the piece
 * @data:	the data, which lies in one piece
 * @nr_bytes:	its size
 * @offset:	where it is on the disk
 */
void piece_add(struct piece *piece, const void *data, size_t nr_bytes,
	       uint64_t offset)
{
	if (!piece->open) {
		checksum_begin(&piece->sum);
		if (piece->key)
			checksum_add(&piece->sum, piece->key->seed,
				     sizeof(piece->key->seed));
		piece->open = true;
		piece->index = offset >> LAYER_PIECE_SHIFT;
	}
	checksum_add(&piece->sum, data, nr_bytes);
}

/**
 * piece_end() - end a piece that is open
 * @piece:	the piece
 * @sum:	gets its checksum
 *
 * Return: EXIT_OK, or EXIT_FAILED after a message.
 */
int piece_end(struct piece *piece, char sum[CHECKSUM_TEXT_SIZE])
{
	piece->open = false;
	return checksum_end(&piece->sum, sum) ? EXIT_OK : fail_memory();
}
