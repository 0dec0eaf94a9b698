/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Reading a layer from its beginning to its end
 *
 * Each byte of data is read once, in the order of the disk, and its checksum is
 * verified where a piece ends.  So what a reader has given out is only known to
 * be right when layer_reader_finish() says so.
 */
#ifndef LAYER_READER_H
#define LAYER_READER_H

#include "layer_map.h"
#include "piece.h"
#include "qcow.h"

struct layer_reader {
	const struct layer_map *map;
	const char *path;
	struct qcow *qcow;
	struct piece piece;
	size_t next_data;	/* the ranges before these are read */
	size_t next_zeros;
	bool *damaged;
};

int layer_reader_open(struct layer_reader *reader, const struct layer_map *map,
		      const char *path, const struct key *key, bool *damaged);
int layer_reader_read(struct layer_reader *reader, void *data, size_t nr_bytes,
		      uint64_t offset);
int layer_reader_fill(struct layer_reader *reader, void *data, size_t nr_bytes,
		      uint64_t offset);
bool layer_reader_has_data(struct layer_reader *reader, size_t nr_bytes,
			   uint64_t offset);
int layer_reader_finish(struct layer_reader *reader);
void layer_reader_close(struct layer_reader *reader);

#endif /* LAYER_READER_H */
